-- name: session_messages
-- role: owner
-- transactional: yes

-- The messages of a session lie in threads. A session writes to a thread of its own and sees, before it, the beginnings
-- of the threads that it branched from: a branch copies no message, and a message lives as long as any session sees it.
ALTER TABLE {{ schema }}.sessions
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN thread_id uuid,
    ADD COLUMN last_sequence bigint NOT NULL DEFAULT 0 CHECK (last_sequence >= 0),
    ADD COLUMN message_count bigint NOT NULL DEFAULT 0 CHECK (message_count >= 0),
    ADD COLUMN parent_id text COLLATE "C" CHECK (length(parent_id) BETWEEN 1 AND 255),
    ADD COLUMN branched_at bigint CHECK (branched_at >= 0);

-- Nothing has written this table before this release, so that building and dropping its indexes stops nobody.
-- What an append changes stands in no index: those updates stay within their page.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.sessions_status;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.sessions_expiry;
ALTER TABLE {{ schema }}.sessions SET (fillfactor = 80);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_created ON {{ schema }}.sessions (tenant_id, created_at, session_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_status ON {{ schema }}.sessions (tenant_id, status, created_at, session_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX sessions_expiry ON {{ schema }}.sessions (tenant_id, expires_at, session_id)
    WHERE status = 'active' AND expires_at IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX sessions_thread ON {{ schema }}.sessions (tenant_id, thread_id) WHERE thread_id IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.sessions', {{ schema_name }}));

CREATE TABLE {{ schema }}.session_ancestry (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    session_id text COLLATE "C" NOT NULL CHECK (length(session_id) BETWEEN 1 AND 255),
    thread_id uuid NOT NULL,
    through bigint NOT NULL CHECK (through >= 0),
    PRIMARY KEY (tenant_id, session_id, thread_id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES {{ schema }}.sessions ON DELETE CASCADE
);
CREATE INDEX session_ancestry_thread ON {{ schema }}.session_ancestry (tenant_id, thread_id, through);
SELECT {{ schema }}.protect_table(format('%I.session_ancestry', {{ schema_name }}));

CREATE TABLE {{ schema }}.session_messages (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id uuid NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    position bigint NOT NULL CHECK (position > 0),
    role text COLLATE "C" NOT NULL CHECK (length(role) BETWEEN 1 AND 255),
    content jsonb NOT NULL,
    tokens bigint CHECK (tokens >= 0),
    weight bigint NOT NULL CHECK (weight >= 0),
    idempotency_key text COLLATE "C" CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, thread_id, sequence)
);
CREATE UNIQUE INDEX session_messages_key ON {{ schema }}.session_messages (tenant_id, thread_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX session_messages_role ON {{ schema }}.session_messages (tenant_id, thread_id, role, sequence);
SELECT {{ schema }}.protect_table(format('%I.session_messages', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.sessions.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.sessions.thread_id IS 'The thread that the session appends to; NULL until it does.';
COMMENT ON COLUMN {{ schema }}.sessions.last_sequence IS 'Number of the message that was appended last; never goes back.';
COMMENT ON COLUMN {{ schema }}.sessions.message_count IS 'How many messages the session has.';
COMMENT ON COLUMN {{ schema }}.sessions.parent_id IS 'The session it was branched from.';
COMMENT ON COLUMN {{ schema }}.sessions.branched_at IS 'Number of the last message that it took over from there.';
COMMENT ON COLUMN {{ schema }}.sessions.last_accessed_at IS 'When it was last written or touched; reading writes nothing.';

COMMENT ON TABLE {{ schema }}.session_ancestry IS 'The threads that a session sees the beginnings of, because it was branched from there.';
COMMENT ON COLUMN {{ schema }}.session_ancestry.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.session_ancestry.session_id IS 'The session that sees.';
COMMENT ON COLUMN {{ schema }}.session_ancestry.thread_id IS 'The thread that is seen.';
COMMENT ON COLUMN {{ schema }}.session_ancestry.through IS 'Number of the last message that is seen of it.';

COMMENT ON TABLE {{ schema }}.session_messages IS 'Messages, by thread.';
COMMENT ON COLUMN {{ schema }}.session_messages.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.session_messages.thread_id IS 'The thread it was appended to.';
COMMENT ON COLUMN {{ schema }}.session_messages.sequence IS 'Number within the session, counted from 1 through its ancestry; never given twice.';
COMMENT ON COLUMN {{ schema }}.session_messages.position IS 'How many messages the session had with this one.';
COMMENT ON COLUMN {{ schema }}.session_messages.role IS 'Who speaks.';
COMMENT ON COLUMN {{ schema }}.session_messages.content IS 'What is said.';
COMMENT ON COLUMN {{ schema }}.session_messages.tokens IS 'How many tokens it has, when the caller says so.';
COMMENT ON COLUMN {{ schema }}.session_messages.weight IS 'The tokens, or an estimate of them, for reading a window.';
COMMENT ON COLUMN {{ schema }}.session_messages.idempotency_key IS 'What makes a repeated append give this message instead of a second one.';
COMMENT ON COLUMN {{ schema }}.session_messages.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.session_messages.created_at IS 'When it was appended.';
