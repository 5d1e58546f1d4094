-- name: kv_store
-- role: owner
-- transactional: yes

CREATE TABLE kv_store (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 500),
    value BLOB NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT;
CREATE INDEX kv_store_expiry ON kv_store (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
