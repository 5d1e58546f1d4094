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
