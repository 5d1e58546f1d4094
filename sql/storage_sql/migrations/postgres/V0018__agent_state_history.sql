-- name: agent_state_history
-- role: owner
-- transactional: yes

ALTER TABLE {{ schema }}.agent_states
    ADD COLUMN session_id text COLLATE "C" CONSTRAINT session_id_length CHECK (length(session_id) BETWEEN 1 AND 255);
ALTER TABLE {{ schema }}.agent_states
    ADD COLUMN phase text COLLATE "C" CONSTRAINT phase_length CHECK (length(phase) BETWEEN 1 AND 100);
-- Room on each page, and no index on what every save changes: saves are heap-only updates.
ALTER TABLE {{ schema }}.agent_states SET (fillfactor = 70);
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.agent_states_type;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX agent_states_type ON {{ schema }}.agent_states (tenant_id, agent_type, agent_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX agent_states_session ON {{ schema }}.agent_states (tenant_id, session_id, agent_id)
    WHERE session_id IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.agent_states', {{ schema_name }}));

CREATE TABLE {{ schema }}.agent_state_history (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id text COLLATE "C" NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    version bigint NOT NULL CHECK (version > 0),
    saved_at timestamptz NOT NULL,
    schema_version bigint NOT NULL CHECK (schema_version > 0),
    is_delta boolean NOT NULL,
    agent_type text COLLATE "C" NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    session_id text COLLATE "C" CHECK (length(session_id) BETWEEN 1 AND 255),
    phase text COLLATE "C" CHECK (length(phase) BETWEEN 1 AND 100),
    checksum bytea NOT NULL CHECK (length(checksum) = 32),
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, version)
);
SELECT {{ schema }}.protect_table(format('%I.agent_state_history', {{ schema_name }}));

CREATE TABLE {{ schema }}.agent_state_checkpoints (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id text COLLATE "C" NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    label text COLLATE "C" NOT NULL CHECK (length(label) BETWEEN 1 AND 255),
    version bigint NOT NULL CHECK (version > 0),
    saved_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    schema_version bigint NOT NULL CHECK (schema_version > 0),
    agent_type text COLLATE "C" NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    session_id text COLLATE "C" CHECK (length(session_id) BETWEEN 1 AND 255),
    phase text COLLATE "C" CHECK (length(phase) BETWEEN 1 AND 100),
    checksum bytea NOT NULL CHECK (length(checksum) = 32),
    content bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, agent_id, label)
);
CREATE INDEX agent_state_checkpoints_version ON {{ schema }}.agent_state_checkpoints (tenant_id, agent_id, version);
SELECT {{ schema }}.protect_table(format('%I.agent_state_checkpoints', {{ schema_name }}));

CREATE TABLE {{ schema }}.agent_transitions (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_type text COLLATE "C" NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    from_phase text COLLATE "C" NOT NULL CHECK (length(from_phase) <= 100),
    to_phase text COLLATE "C" NOT NULL CHECK (length(to_phase) BETWEEN 1 AND 100),
    PRIMARY KEY (tenant_id, agent_type, from_phase, to_phase)
);
SELECT {{ schema }}.protect_table(format('%I.agent_transitions', {{ schema_name }}));

-- Checkpoints of agents that step through a graph. Lengths in bytes where a key would not fit on a page.
CREATE TABLE {{ schema }}.agent_thread_checkpoints (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id text COLLATE "C" NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    namespace text COLLATE "C" NOT NULL CHECK (octet_length(namespace) <= 800),
    checkpoint_id text COLLATE "C" NOT NULL CHECK (octet_length(checkpoint_id) BETWEEN 1 AND 128),
    parent_id text COLLATE "C" CHECK (octet_length(parent_id) BETWEEN 1 AND 128),
    run_id text COLLATE "C" CHECK (length(run_id) BETWEEN 1 AND 255),
    document_base uuid,
    parts uuid[] NOT NULL,
    document bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id)
);
CREATE INDEX agent_thread_checkpoints_run ON {{ schema }}.agent_thread_checkpoints (tenant_id, run_id)
    WHERE run_id IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.agent_thread_checkpoints', {{ schema_name }}));

CREATE TABLE {{ schema }}.agent_thread_parts (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id text COLLATE "C" NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    part_id uuid NOT NULL,
    base_id uuid,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, part_id)
);
ALTER TABLE {{ schema }}.agent_thread_parts ALTER COLUMN content SET STORAGE EXTERNAL;
SELECT {{ schema }}.protect_table(format('%I.agent_thread_parts', {{ schema_name }}));

CREATE TABLE {{ schema }}.agent_thread_writes (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id text COLLATE "C" NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    namespace text COLLATE "C" NOT NULL CHECK (octet_length(namespace) <= 800),
    checkpoint_id text COLLATE "C" NOT NULL CHECK (octet_length(checkpoint_id) BETWEEN 1 AND 128),
    task_id text COLLATE "C" NOT NULL CHECK (octet_length(task_id) BETWEEN 1 AND 128),
    position bigint NOT NULL,
    task_path text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL CHECK (length(kind) <= 100),
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id, task_id, position)
);
SELECT {{ schema }}.protect_table(format('%I.agent_thread_writes', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.agent_states.session_id IS 'The session that the agent works in.';
COMMENT ON COLUMN {{ schema }}.agent_states.phase IS 'Where the agent stands in the declared transitions of its type.';
COMMENT ON TABLE {{ schema }}.agent_state_history IS 'What leads back to each older version of an agent''s state.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.version IS 'The version.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.saved_at IS 'When the version was saved.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.is_delta IS 'Whether the content is a delta from the next version back to this one.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.session_id IS 'The session that the agent worked in.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.phase IS 'Where the agent stood in its transitions.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.checksum IS 'SHA-256 of the state as JSON with sorted keys.';
COMMENT ON COLUMN {{ schema }}.agent_state_history.content IS 'JSON text, or one zstd frame of it: the state or the delta.';
COMMENT ON TABLE {{ schema }}.agent_state_checkpoints IS 'Versions that have a label and are kept whatever is pruned.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.label IS 'What the caller calls it.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.version IS 'The version.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.saved_at IS 'When the version was saved.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.created_at IS 'When the checkpoint was made.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.session_id IS 'The session that the agent worked in.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.phase IS 'Where the agent stood in its transitions.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.checksum IS 'SHA-256 of the state as JSON with sorted keys.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.content IS 'The state: JSON text, or one zstd frame of it.';
COMMENT ON COLUMN {{ schema }}.agent_state_checkpoints.metadata IS 'What the caller keeps beside it.';
COMMENT ON TABLE {{ schema }}.agent_transitions IS 'Between which phases agents of a type may go; a type without rows may do anything.';
COMMENT ON COLUMN {{ schema }}.agent_transitions.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_transitions.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN {{ schema }}.agent_transitions.from_phase IS 'The phase that is left; empty for an agent that has none yet.';
COMMENT ON COLUMN {{ schema }}.agent_transitions.to_phase IS 'The phase that is entered.';
COMMENT ON TABLE {{ schema }}.agent_thread_checkpoints IS 'Checkpoints of agents that step through a graph.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.namespace IS 'The graph within the thread; empty for the outermost.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.checkpoint_id IS 'Id of the checkpoint; later ones are greater.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.parent_id IS 'The checkpoint that this one follows.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.run_id IS 'The run that made it.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.document_base IS 'The part that the document was compressed against.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.parts IS 'Every part that is needed to read the checkpoint.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.document IS 'One zstd frame: the checkpoint, its small values, and where its large ones are.';
COMMENT ON COLUMN {{ schema }}.agent_thread_checkpoints.metadata IS 'What listings are filtered by.';
COMMENT ON TABLE {{ schema }}.agent_thread_parts IS 'Large values of checkpoints, each once or as what it has beyond an earlier one.';
COMMENT ON COLUMN {{ schema }}.agent_thread_parts.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_thread_parts.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN {{ schema }}.agent_thread_parts.part_id IS 'Hash of the checkpoint that brought it and of its content.';
COMMENT ON COLUMN {{ schema }}.agent_thread_parts.base_id IS 'The part that it was compressed against.';
COMMENT ON COLUMN {{ schema }}.agent_thread_parts.content IS 'One zstd frame.';
COMMENT ON TABLE {{ schema }}.agent_thread_writes IS 'What tasks wrote after a checkpoint, before the next one.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.thread_id IS 'The thread of checkpoints.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.namespace IS 'The graph within the thread; empty for the outermost.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.checkpoint_id IS 'The checkpoint that the task began from.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.task_id IS 'The task.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.position IS 'Place among the task''s writes; special writes have places below 0.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.task_path IS 'Where the task stands in its step; orders the writes of parallel tasks.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.channel IS 'What was written to.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.kind IS 'How the value was serialised.';
COMMENT ON COLUMN {{ schema }}.agent_thread_writes.content IS 'The value, with one byte before it that says whether it is compressed.';
