-- name: sessions
-- role: owner
-- transactional: yes

CREATE TABLE sessions (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id TEXT NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    session_data TEXT NOT NULL CHECK (json_valid(session_data)),
    status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived', 'expired')),
    data_version INTEGER NOT NULL DEFAULT 1 CHECK (data_version > 0),
    artifact_count INTEGER NOT NULL DEFAULT 0 CHECK (artifact_count >= 0),
    expires_at INTEGER,
    last_accessed_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
) STRICT;
CREATE INDEX sessions_status ON sessions (tenant_id, status, updated_at);
CREATE INDEX sessions_expiry ON sessions (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
