-- name: agent_state
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.agent_states (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    agent_id text COLLATE "C" NOT NULL CHECK (length(agent_id) BETWEEN 1 AND 255),
    state_id uuid NOT NULL DEFAULT gen_random_uuid(),
    agent_type text COLLATE "C" NOT NULL CHECK (length(agent_type) BETWEEN 1 AND 100),
    state_data jsonb NOT NULL,
    schema_version bigint NOT NULL DEFAULT 1 CHECK (schema_version > 0),
    data_version bigint NOT NULL DEFAULT 1 CHECK (data_version > 0),
    checksum text COLLATE "C" NOT NULL CHECK (checksum ~ '^[0-9a-f]{64}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX agent_states_type ON {{ schema }}.agent_states (tenant_id, agent_type, updated_at);
SELECT {{ schema }}.protect_table(format('%I.agent_states', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.agent_states IS 'The latest state of each agent.';
COMMENT ON COLUMN {{ schema }}.agent_states.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.agent_states.agent_id IS 'Id of the agent.';
COMMENT ON COLUMN {{ schema }}.agent_states.state_id IS 'Id of the state record.';
COMMENT ON COLUMN {{ schema }}.agent_states.agent_type IS 'Kind of agent.';
COMMENT ON COLUMN {{ schema }}.agent_states.state_data IS 'The state.';
COMMENT ON COLUMN {{ schema }}.agent_states.schema_version IS 'Version of the state''s own schema.';
COMMENT ON COLUMN {{ schema }}.agent_states.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN {{ schema }}.agent_states.checksum IS 'SHA-256 of the state as it was serialised.';
COMMENT ON COLUMN {{ schema }}.agent_states.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.agent_states.updated_at IS 'When the row was last changed.';
