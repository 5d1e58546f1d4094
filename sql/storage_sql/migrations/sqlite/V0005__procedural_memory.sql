-- name: procedural_memory
-- role: owner
-- transactional: yes

CREATE TABLE procedural_patterns (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    pattern_id TEXT NOT NULL CHECK (length(pattern_id) = 36),
    scope TEXT NOT NULL CHECK (length(scope) <= 500),
    key TEXT NOT NULL CHECK (length(key) BETWEEN 1 AND 500),
    value TEXT NOT NULL,
    frequency INTEGER NOT NULL DEFAULT 1 CHECK (frequency > 0),
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, pattern_id),
    UNIQUE (tenant_id, scope, key, value)
) STRICT;
CREATE INDEX procedural_patterns_learned ON procedural_patterns (tenant_id, scope, key, frequency)
    WHERE frequency >= 3;
