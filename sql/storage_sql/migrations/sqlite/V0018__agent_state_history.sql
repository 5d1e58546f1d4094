-- name: agent_state_history
-- role: owner
-- transactional: yes

ALTER TABLE agent_states ADD COLUMN session_id TEXT CHECK (length(session_id) BETWEEN 1 AND 255);
ALTER TABLE agent_states ADD COLUMN phase TEXT CHECK (length(phase) BETWEEN 1 AND 100);
DROP INDEX agent_states_type;
CREATE INDEX agent_states_type ON agent_states (tenant_id, agent_type, agent_id);
CREATE INDEX agent_states_session ON agent_states (tenant_id, session_id, agent_id) WHERE session_id IS NOT NULL;

CREATE TABLE agent_state_history (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id TEXT NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    version INTEGER NOT NULL CHECK (version > 0),
    saved_at INTEGER NOT NULL,
    schema_version INTEGER NOT NULL CHECK (schema_version > 0),
    is_delta INTEGER NOT NULL CHECK (is_delta IN (0, 1)),
    agent_type TEXT NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    session_id TEXT CHECK (length(session_id) BETWEEN 1 AND 255),
    phase TEXT CHECK (length(phase) BETWEEN 1 AND 100),
    checksum BLOB NOT NULL CHECK (length(checksum) = 32),
    content BLOB NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_state_checkpoints (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id TEXT NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    label TEXT NOT NULL CHECK (length(label) BETWEEN 1 AND 255),
    version INTEGER NOT NULL CHECK (version > 0),
    saved_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    schema_version INTEGER NOT NULL CHECK (schema_version > 0),
    agent_type TEXT NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    session_id TEXT CHECK (length(session_id) BETWEEN 1 AND 255),
    phase TEXT CHECK (length(phase) BETWEEN 1 AND 100),
    checksum BLOB NOT NULL CHECK (length(checksum) = 32),
    content BLOB NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    PRIMARY KEY (tenant_id, agent_id, label)
) STRICT;
CREATE INDEX agent_state_checkpoints_version ON agent_state_checkpoints (tenant_id, agent_id, version);

CREATE TABLE agent_transitions (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_type TEXT NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    from_phase TEXT NOT NULL CHECK (length(from_phase) <= 100),
    to_phase TEXT NOT NULL CHECK (length(to_phase) BETWEEN 1 AND 100),
    PRIMARY KEY (tenant_id, agent_type, from_phase, to_phase)
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_thread_checkpoints (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id TEXT NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    namespace TEXT NOT NULL CHECK (length(CAST(namespace AS BLOB)) <= 800),
    checkpoint_id TEXT NOT NULL CHECK (length(CAST(checkpoint_id AS BLOB)) BETWEEN 1 AND 128),
    parent_id TEXT CHECK (length(CAST(parent_id AS BLOB)) BETWEEN 1 AND 128),
    run_id TEXT CHECK (length(run_id) BETWEEN 1 AND 255),
    document_base TEXT CHECK (length(document_base) = 36),
    parts TEXT NOT NULL CHECK (json_valid(parts)),
    document BLOB NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
    PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_thread_checkpoints_run ON agent_thread_checkpoints (tenant_id, run_id) WHERE run_id IS NOT NULL;

CREATE TABLE agent_thread_parts (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id TEXT NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    part_id TEXT NOT NULL CHECK (length(part_id) = 36),
    base_id TEXT CHECK (length(base_id) = 36),
    content BLOB NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, part_id)
) STRICT;

CREATE TABLE agent_thread_writes (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    thread_id TEXT NOT NULL CHECK (length(thread_id) BETWEEN 1 AND 255),
    namespace TEXT NOT NULL CHECK (length(CAST(namespace AS BLOB)) <= 800),
    checkpoint_id TEXT NOT NULL CHECK (length(CAST(checkpoint_id AS BLOB)) BETWEEN 1 AND 128),
    task_id TEXT NOT NULL CHECK (length(CAST(task_id AS BLOB)) BETWEEN 1 AND 128),
    position INTEGER NOT NULL,
    task_path TEXT NOT NULL,
    channel TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (length(kind) <= 100),
    content BLOB NOT NULL,
    PRIMARY KEY (tenant_id, thread_id, namespace, checkpoint_id, task_id, position)
) STRICT, WITHOUT ROWID;
