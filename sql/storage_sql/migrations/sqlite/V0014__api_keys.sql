-- name: api_keys
-- role: owner
-- transactional: yes

CREATE TABLE api_keys (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    key_id TEXT NOT NULL CHECK (length(key_id) BETWEEN 1 AND 255),
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    key_hash BLOB UNIQUE CHECK (length(key_hash) = 32),
    sealed_value BLOB,
    sealing_key_id TEXT CHECK (length(sealing_key_id) BETWEEN 1 AND 255),
    scopes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(scopes)),
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    rotated_from TEXT CHECK (length(rotated_from) BETWEEN 1 AND 255),
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id),
    CHECK ((key_hash IS NULL) <> (sealed_value IS NULL) AND (sealed_value IS NULL) = (sealing_key_id IS NULL))
) STRICT;
CREATE INDEX api_keys_name ON api_keys (tenant_id, name, created_at);
