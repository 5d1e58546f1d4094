-- name: agent_state
-- role: owner
-- transactional: yes

CREATE TABLE agent_states (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id TEXT NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    state_id TEXT NOT NULL CHECK (length(state_id) = 36),
    agent_type TEXT NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    state_data TEXT NOT NULL CHECK (json_valid(state_data)),
    schema_version INTEGER NOT NULL DEFAULT 1 CHECK (schema_version > 0),
    data_version INTEGER NOT NULL DEFAULT 1 CHECK (data_version > 0),
    checksum TEXT NOT NULL CHECK (length(checksum) = 64 AND checksum NOT GLOB '*[^0-9a-f]*'),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;
CREATE INDEX agent_states_type ON agent_states (tenant_id, agent_type, updated_at);
