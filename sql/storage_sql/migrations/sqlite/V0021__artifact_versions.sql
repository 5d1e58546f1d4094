-- name: artifact_versions
-- role: owner
-- transactional: yes

-- Content whose length nobody knew beforehand comes as an upload: a row under a random name that its
-- chunks hang on. When the last one is there and the hash is known, row and chunks take their real name.
ALTER TABLE artifact_content ADD COLUMN uploading_until INTEGER;
ALTER TABLE artifact_chunks ADD COLUMN chunk_hash BLOB CHECK (length(chunk_hash) = 32);
ALTER TABLE artifact_chunks ADD COLUMN is_compressed INTEGER NOT NULL DEFAULT 0 CHECK (is_compressed IN (0, 1));
ALTER TABLE artifacts ADD COLUMN keep INTEGER NOT NULL DEFAULT 0 CHECK (keep IN (0, 1));

CREATE UNIQUE INDEX artifacts_versions ON artifacts (tenant_id, session_id, name, version);
CREATE INDEX artifacts_created ON artifacts (tenant_id, created_at, artifact_id);
DROP INDEX artifacts_type;
CREATE INDEX artifacts_type ON artifacts (tenant_id, artifact_type, created_at, artifact_id);

CREATE TABLE artifact_counters (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id TEXT NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    name TEXT NOT NULL CHECK (length(name) <= 255),
    head INTEGER NOT NULL CHECK (head > 0),
    PRIMARY KEY (tenant_id, session_id, name)
) STRICT;

CREATE TABLE artifact_tags (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    artifact_id TEXT NOT NULL,
    tag TEXT NOT NULL CHECK (length(tag) BETWEEN 1 AND 255),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, artifact_id, tag),
    FOREIGN KEY (tenant_id, artifact_id) REFERENCES artifacts ON DELETE CASCADE
) STRICT;
CREATE INDEX artifact_tags_listing ON artifact_tags (tenant_id, tag, created_at, artifact_id);
