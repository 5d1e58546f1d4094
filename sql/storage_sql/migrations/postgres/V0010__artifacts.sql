-- name: artifacts
-- role: owner
-- transactional: yes

-- Content is stored once a tenant under its BLAKE3 hash: small content in the row, larger content
-- in chunks of one size, so that any range is read without the rest.
CREATE TABLE {{ schema }}.artifact_content (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    content_hash text COLLATE "C" NOT NULL CHECK (content_hash ~ '^[0-9a-f]{64}$'),
    storage_type text COLLATE "C" NOT NULL CONSTRAINT valid_storage_type CHECK (storage_type IN ('inline', 'chunked')),
    data bytea STORAGE EXTERNAL,
    chunk_size bigint CHECK (chunk_size > 0),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    is_compressed boolean NOT NULL DEFAULT false,
    original_size_bytes bigint NOT NULL CHECK (original_size_bytes >= 0),
    reference_count bigint NOT NULL DEFAULT 0 CHECK (reference_count >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    last_accessed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, content_hash),
    CONSTRAINT content_is_where_it_says CHECK (
        (storage_type = 'inline') = (data IS NOT NULL) AND (storage_type = 'chunked') = (chunk_size IS NOT NULL))
);
CREATE INDEX artifact_content_unreferenced ON {{ schema }}.artifact_content (tenant_id, last_accessed_at)
    WHERE reference_count = 0;
SELECT {{ schema }}.protect_table(format('%I.artifact_content', {{ schema_name }}));

CREATE TABLE {{ schema }}.artifact_chunks (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    content_hash text COLLATE "C" NOT NULL,
    chunk bigint NOT NULL CHECK (chunk >= 0),
    data bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (tenant_id, content_hash, chunk),
    FOREIGN KEY (tenant_id, content_hash) REFERENCES {{ schema }}.artifact_content ON DELETE CASCADE
);
SELECT {{ schema }}.protect_table(format('%I.artifact_chunks', {{ schema_name }}));

CREATE TABLE {{ schema }}.artifacts (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    artifact_id text COLLATE "C" NOT NULL CHECK (length(artifact_id) BETWEEN 1 AND 512),
    session_id text COLLATE "C" NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    sequence bigint NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    artifact_type text COLLATE "C" NOT NULL CHECK (length(artifact_type) BETWEEN 1 AND 50),
    mime_type text COLLATE "C" NOT NULL CHECK (length(mime_type) BETWEEN 1 AND 255),
    size_bytes bigint NOT NULL CHECK (size_bytes >= 0),
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    tags text[] COLLATE "C" NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, artifact_id),
    FOREIGN KEY (tenant_id, content_hash) REFERENCES {{ schema }}.artifact_content ON DELETE RESTRICT
);
CREATE INDEX artifacts_session ON {{ schema }}.artifacts (tenant_id, session_id, sequence);
CREATE INDEX artifacts_content ON {{ schema }}.artifacts (tenant_id, content_hash);
CREATE INDEX artifacts_type ON {{ schema }}.artifacts (tenant_id, artifact_type, created_at);
SELECT {{ schema }}.protect_table(format('%I.artifacts', {{ schema_name }}));

-- Counts references where they appear and disappear, so that no writer can forget. Owned by
-- maintenance: a tenant over its quota may still delete, and the count must follow.
SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.count_artifact_reference() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE {{ schema }}.artifact_content AS c SET reference_count = c.reference_count - 1
         WHERE c.tenant_id = OLD.tenant_id AND c.content_hash = OLD.content_hash;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE {{ schema }}.artifact_content AS c SET reference_count = c.reference_count + 1
         WHERE c.tenant_id = NEW.tenant_id AND c.content_hash = NEW.content_hash;
    END IF;
    RETURN NULL;
END
$function$;
CREATE TRIGGER count_reference AFTER INSERT OR DELETE OR UPDATE OF tenant_id, content_hash
    ON {{ schema }}.artifacts FOR EACH ROW EXECUTE FUNCTION {{ schema }}.count_artifact_reference();
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.artifact_content IS 'Content by its hash, stored once a tenant.';
COMMENT ON COLUMN {{ schema }}.artifact_content.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.artifact_content.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN {{ schema }}.artifact_content.storage_type IS 'inline or chunked.';
COMMENT ON COLUMN {{ schema }}.artifact_content.data IS 'The stored bytes of inline content.';
COMMENT ON COLUMN {{ schema }}.artifact_content.chunk_size IS 'Stored bytes a chunk, the last one excepted.';
COMMENT ON COLUMN {{ schema }}.artifact_content.size_bytes IS 'Stored bytes, after compression.';
COMMENT ON COLUMN {{ schema }}.artifact_content.is_compressed IS 'Whether the stored bytes are zstd.';
COMMENT ON COLUMN {{ schema }}.artifact_content.original_size_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN {{ schema }}.artifact_content.reference_count IS 'Artifacts that point here; kept by a trigger.';
COMMENT ON COLUMN {{ schema }}.artifact_content.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.artifact_content.last_accessed_at IS 'When it was last read.';
COMMENT ON TABLE {{ schema }}.artifact_chunks IS 'Chunks of content that is too large for one row.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.chunk IS 'Index of the chunk, from 0.';
COMMENT ON COLUMN {{ schema }}.artifact_chunks.data IS 'Its stored bytes.';
COMMENT ON TABLE {{ schema }}.artifacts IS 'Names, types and places of artifacts.';
COMMENT ON COLUMN {{ schema }}.artifacts.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.artifacts.artifact_id IS 'Id of the artifact.';
COMMENT ON COLUMN {{ schema }}.artifacts.session_id IS 'The session that made it.';
COMMENT ON COLUMN {{ schema }}.artifacts.sequence IS 'Its order within the session.';
COMMENT ON COLUMN {{ schema }}.artifacts.content_hash IS 'BLAKE3 of the uncompressed content, 64 hexadecimal digits.';
COMMENT ON COLUMN {{ schema }}.artifacts.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.artifacts.name IS 'Name of the artifact.';
COMMENT ON COLUMN {{ schema }}.artifacts.artifact_type IS 'Kind of artifact.';
COMMENT ON COLUMN {{ schema }}.artifacts.mime_type IS 'Media type.';
COMMENT ON COLUMN {{ schema }}.artifacts.size_bytes IS 'Bytes before compression.';
COMMENT ON COLUMN {{ schema }}.artifacts.version IS 'Version of the artifact.';
COMMENT ON COLUMN {{ schema }}.artifacts.tags IS 'Tags.';
COMMENT ON COLUMN {{ schema }}.artifacts.created_at IS 'When the row was first written.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.count_artifact_reference() IS 'Keeps the reference counts of content.';
SET LOCAL ROLE {{ owner }};
