-- name: sessions
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.sessions (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id text COLLATE "C" NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    session_data jsonb NOT NULL,
    status text COLLATE "C" NOT NULL DEFAULT 'active' CONSTRAINT valid_session_status
        CHECK (status IN ('active', 'archived', 'expired')),
    data_version bigint NOT NULL DEFAULT 1 CHECK (data_version > 0),
    artifact_count bigint NOT NULL DEFAULT 0 CHECK (artifact_count >= 0),
    expires_at timestamptz,
    last_accessed_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, session_id)
);
CREATE INDEX sessions_status ON {{ schema }}.sessions (tenant_id, status, updated_at);
CREATE INDEX sessions_expiry ON {{ schema }}.sessions (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.sessions', {{ schema_name }}));
