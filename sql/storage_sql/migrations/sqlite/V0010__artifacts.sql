-- name: artifacts
-- role: owner
-- transactional: yes

CREATE TABLE artifact_content (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    content_hash TEXT NOT NULL CHECK (length(content_hash) = 64 AND content_hash NOT GLOB '*[^0-9a-f]*'),
    storage_type TEXT NOT NULL CHECK (storage_type IN ('inline', 'chunked')),
    data BLOB,
    chunk_size INTEGER CHECK (chunk_size > 0),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    is_compressed INTEGER NOT NULL DEFAULT 0 CHECK (is_compressed IN (0, 1)),
    original_size_bytes INTEGER NOT NULL CHECK (original_size_bytes >= 0),
    reference_count INTEGER NOT NULL DEFAULT 0 CHECK (reference_count >= 0),
    created_at INTEGER NOT NULL,
    last_accessed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, content_hash),
    CHECK ((storage_type = 'inline') = (data IS NOT NULL) AND (storage_type = 'chunked') = (chunk_size IS NOT NULL))
) STRICT;
CREATE INDEX artifact_content_unreferenced ON artifact_content (tenant_id, last_accessed_at)
    WHERE reference_count = 0;

CREATE TABLE artifact_chunks (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    content_hash TEXT NOT NULL,
    chunk INTEGER NOT NULL CHECK (chunk >= 0),
    data BLOB NOT NULL,
    PRIMARY KEY (tenant_id, content_hash, chunk),
    FOREIGN KEY (tenant_id, content_hash) REFERENCES artifact_content ON DELETE CASCADE
) STRICT;

CREATE TABLE artifacts (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    artifact_id TEXT NOT NULL CHECK (length(artifact_id) BETWEEN 1 AND 512),
    session_id TEXT NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    sequence INTEGER NOT NULL,
    content_hash TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    artifact_type TEXT NOT NULL CHECK (length(artifact_type) BETWEEN 1 AND 50),
    mime_type TEXT NOT NULL CHECK (length(mime_type) BETWEEN 1 AND 255),
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(tags)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, artifact_id),
    FOREIGN KEY (tenant_id, content_hash) REFERENCES artifact_content ON DELETE RESTRICT
) STRICT;
CREATE INDEX artifacts_session ON artifacts (tenant_id, session_id, sequence);
CREATE INDEX artifacts_content ON artifacts (tenant_id, content_hash);
CREATE INDEX artifacts_type ON artifacts (tenant_id, artifact_type, created_at);

CREATE TRIGGER artifacts_reference_made AFTER INSERT ON artifacts BEGIN
    UPDATE artifact_content SET reference_count = reference_count + 1
     WHERE tenant_id = NEW.tenant_id AND content_hash = NEW.content_hash;
END;
CREATE TRIGGER artifacts_reference_gone AFTER DELETE ON artifacts BEGIN
    UPDATE artifact_content SET reference_count = reference_count - 1
     WHERE tenant_id = OLD.tenant_id AND content_hash = OLD.content_hash;
END;
CREATE TRIGGER artifacts_reference_moved AFTER UPDATE OF tenant_id, content_hash ON artifacts BEGIN
    UPDATE artifact_content SET reference_count = reference_count - 1
     WHERE tenant_id = OLD.tenant_id AND content_hash = OLD.content_hash;
    UPDATE artifact_content SET reference_count = reference_count + 1
     WHERE tenant_id = NEW.tenant_id AND content_hash = NEW.content_hash;
END;
