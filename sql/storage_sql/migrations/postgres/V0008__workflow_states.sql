-- name: workflow_states
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.workflow_states (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    workflow_id text COLLATE "C" NOT NULL CHECK (length(workflow_id) BETWEEN 1 AND 255),
    workflow_name text COLLATE "C" CHECK (length(workflow_name) <= 500),
    state_data jsonb NOT NULL,
    current_step bigint NOT NULL DEFAULT 0 CHECK (current_step >= 0),
    status text COLLATE "C" NOT NULL DEFAULT 'pending' CONSTRAINT valid_workflow_status
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    data_version bigint NOT NULL DEFAULT 1 CHECK (data_version > 0),
    started_at timestamptz,
    completed_at timestamptz,
    last_updated timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, workflow_id)
);
CREATE INDEX workflow_states_status ON {{ schema }}.workflow_states (tenant_id, status, last_updated);
SELECT {{ schema }}.protect_table(format('%I.workflow_states', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.workflow_states IS 'The life of each workflow.';
COMMENT ON COLUMN {{ schema }}.workflow_states.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.workflow_states.workflow_id IS 'Id of the workflow.';
COMMENT ON COLUMN {{ schema }}.workflow_states.workflow_name IS 'Name of the workflow.';
COMMENT ON COLUMN {{ schema }}.workflow_states.state_data IS 'The state.';
COMMENT ON COLUMN {{ schema }}.workflow_states.current_step IS 'Index of the current step.';
COMMENT ON COLUMN {{ schema }}.workflow_states.status IS 'pending, running, completed, failed or cancelled.';
COMMENT ON COLUMN {{ schema }}.workflow_states.data_version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN {{ schema }}.workflow_states.started_at IS 'When it started.';
COMMENT ON COLUMN {{ schema }}.workflow_states.completed_at IS 'When it ended.';
COMMENT ON COLUMN {{ schema }}.workflow_states.last_updated IS 'When the row was last changed.';
COMMENT ON COLUMN {{ schema }}.workflow_states.created_at IS 'When the row was first written.';
