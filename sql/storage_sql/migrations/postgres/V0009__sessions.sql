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

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.sessions IS 'Snapshots of sessions.';
COMMENT ON COLUMN {{ schema }}.sessions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.sessions.session_id IS 'Id of the session.';
COMMENT ON COLUMN {{ schema }}.sessions.session_data IS 'The snapshot.';
COMMENT ON COLUMN {{ schema }}.sessions.status IS 'active, archived or expired.';
COMMENT ON COLUMN {{ schema }}.sessions.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN {{ schema }}.sessions.artifact_count IS 'Artifacts of the session, kept by the writer.';
COMMENT ON COLUMN {{ schema }}.sessions.expires_at IS 'When it expires.';
COMMENT ON COLUMN {{ schema }}.sessions.last_accessed_at IS 'When it was last read.';
COMMENT ON COLUMN {{ schema }}.sessions.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.sessions.updated_at IS 'When the row was last changed.';
