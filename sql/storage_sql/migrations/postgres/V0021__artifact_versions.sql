-- name: artifact_versions
-- role: owner
-- transactional: yes

-- Content whose length nobody knew beforehand comes as an upload: a row under a random name that its
-- chunks hang on. When the last one is there and the hash is known, row and chunks take their real name.
ALTER TABLE {{ schema }}.artifact_content ADD COLUMN uploading_until timestamptz;
ALTER TABLE {{ schema }}.artifact_chunks
    ADD COLUMN chunk_hash bytea CONSTRAINT chunk_hash_is_blake3 CHECK (length(chunk_hash) = 32);
ALTER TABLE {{ schema }}.artifact_chunks ADD COLUMN is_compressed boolean NOT NULL DEFAULT false;
ALTER TABLE {{ schema }}.artifacts ADD COLUMN keep boolean NOT NULL DEFAULT false;

-- No release has written artifacts yet, so that these indexes are made over empty tables.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX artifacts_versions ON {{ schema }}.artifacts (tenant_id, session_id, name, version);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX artifacts_created ON {{ schema }}.artifacts (tenant_id, created_at, artifact_id);
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.artifacts_type;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX artifacts_type ON {{ schema }}.artifacts (tenant_id, artifact_type, created_at, artifact_id);

SELECT {{ schema }}.protect_table(format('%I.artifact_content', {{ schema_name }}));
SELECT {{ schema }}.protect_table(format('%I.artifact_chunks', {{ schema_name }}));
SELECT {{ schema }}.protect_table(format('%I.artifacts', {{ schema_name }}));

-- The last version of each name, and under the empty name the last place in the session: they are
-- counted on when the artifacts themselves are deleted, so that no number is given twice.
CREATE TABLE {{ schema }}.artifact_counters (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id text COLLATE "C" NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    name text COLLATE "C" NOT NULL CHECK (length(name) <= 255),
    head bigint NOT NULL CHECK (head > 0),
    PRIMARY KEY (tenant_id, session_id, name)
);
SELECT {{ schema }}.protect_table(format('%I.artifact_counters', {{ schema_name }}));

-- A row for each tag, because an array's operators are no way to an index under the policies.
CREATE TABLE {{ schema }}.artifact_tags (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    artifact_id text COLLATE "C" NOT NULL,
    tag text COLLATE "C" NOT NULL CHECK (length(tag) BETWEEN 1 AND 255),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, artifact_id, tag),
    FOREIGN KEY (tenant_id, artifact_id) REFERENCES {{ schema }}.artifacts ON DELETE CASCADE
);
CREATE INDEX artifact_tags_listing ON {{ schema }}.artifact_tags (tenant_id, tag, created_at, artifact_id);
SELECT {{ schema }}.protect_table(format('%I.artifact_tags', {{ schema_name }}));

-- As before, and losing a reference counts as a use: the time that unreferenced content is left
-- alone begins there. A tenant over its quota could not write that itself.
SET LOCAL ROLE {{ maintenance }};
CREATE OR REPLACE FUNCTION {{ schema }}.count_artifact_reference() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE {{ schema }}.artifact_content AS c
           SET reference_count = c.reference_count - 1, last_accessed_at = clock_timestamp()
         WHERE c.tenant_id = OLD.tenant_id AND c.content_hash = OLD.content_hash;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE {{ schema }}.artifact_content AS c SET reference_count = c.reference_count + 1
         WHERE c.tenant_id = NEW.tenant_id AND c.content_hash = NEW.content_hash;
    END IF;
    RETURN NULL;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.artifact_content.content_hash IS
    'BLAKE3 of the uncompressed content, 64 hexadecimal digits; 64 random ones while it is uploaded.';
COMMENT ON COLUMN {{ schema }}.artifact_content.chunk_size IS 'Uncompressed bytes a chunk, the last one excepted.';
COMMENT ON COLUMN {{ schema }}.artifact_content.is_compressed IS 'Whether the stored bytes, or some of the chunks, are zstd.';
COMMENT ON COLUMN {{ schema }}.artifact_content.last_accessed_at IS 'When it last gained or lost a reference.';
COMMENT ON COLUMN {{ schema }}.artifact_content.uploading_until IS
    'While it is uploaded: when the upload counts as abandoned unless another chunk comes.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.content_hash IS 'The content that it is part of, or its upload.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.chunk_hash IS 'BLAKE3 of its uncompressed bytes.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.is_compressed IS 'Whether its stored bytes are zstd.';
COMMENT ON COLUMN {{ schema }}.artifacts.keep IS 'Whether it stays when its session is deleted.';
COMMENT ON COLUMN {{ schema }}.artifacts.version IS 'Version of its name within the session, from 1.';
COMMENT ON TABLE {{ schema }}.artifact_counters IS 'The last version of each name of a session.';
COMMENT ON COLUMN {{ schema }}.artifact_counters.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.artifact_counters.session_id IS 'The session.';
COMMENT ON COLUMN {{ schema }}.artifact_counters.name IS 'Name of the artifact; empty for the order within the session.';
COMMENT ON COLUMN {{ schema }}.artifact_counters.head IS 'The last number given.';
COMMENT ON TABLE {{ schema }}.artifact_tags IS 'Artifacts by tag.';
COMMENT ON COLUMN {{ schema }}.artifact_tags.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.artifact_tags.artifact_id IS 'The artifact.';
COMMENT ON COLUMN {{ schema }}.artifact_tags.tag IS 'One of its tags.';
COMMENT ON COLUMN {{ schema }}.artifact_tags.created_at IS 'When the artifact was written.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.count_artifact_reference() IS 'Keeps the reference counts of content.';
SET LOCAL ROLE {{ owner }};
