-- name: session_messages
-- role: owner
-- transactional: yes

ALTER TABLE sessions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata));
ALTER TABLE sessions ADD COLUMN thread_id TEXT;
ALTER TABLE sessions ADD COLUMN last_sequence INTEGER NOT NULL DEFAULT 0 CHECK (last_sequence >= 0);
ALTER TABLE sessions ADD COLUMN message_count INTEGER NOT NULL DEFAULT 0 CHECK (message_count >= 0);
ALTER TABLE sessions ADD COLUMN parent_id TEXT CHECK (length(parent_id) BETWEEN 1 AND 255);
ALTER TABLE sessions ADD COLUMN branched_at INTEGER CHECK (branched_at >= 0);

DROP INDEX sessions_status;
DROP INDEX sessions_expiry;
CREATE INDEX sessions_created ON sessions (tenant_id, created_at, session_id);
CREATE INDEX sessions_status ON sessions (tenant_id, status, created_at, session_id);
CREATE INDEX sessions_expiry ON sessions (tenant_id, expires_at, session_id)
    WHERE status = 'active' AND expires_at IS NOT NULL;
CREATE UNIQUE INDEX sessions_thread ON sessions (tenant_id, thread_id) WHERE thread_id IS NOT NULL;

CREATE TABLE session_ancestry (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id TEXT NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    thread_id TEXT NOT NULL,
    through INTEGER NOT NULL CHECK (through >= 0),
    PRIMARY KEY (tenant_id, session_id, thread_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE CASCADE
) STRICT;
CREATE INDEX session_ancestry_thread ON session_ancestry (tenant_id, thread_id, through);

CREATE TABLE session_messages (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    position INTEGER NOT NULL CHECK (position > 0),
    role TEXT NOT NULL CHECK (length(role) BETWEEN 1 AND 255),
    content TEXT NOT NULL CHECK (json_valid(content)),
    tokens INTEGER CHECK (tokens >= 0),
    weight INTEGER NOT NULL CHECK (weight >= 0),
    idempotency_key TEXT CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, sequence)
) STRICT;
CREATE UNIQUE INDEX session_messages_key ON session_messages (tenant_id, thread_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX session_messages_role ON session_messages (tenant_id, thread_id, role, sequence);
