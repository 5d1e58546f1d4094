-- name: workflow_states
-- role: owner
-- transactional: yes

CREATE TABLE workflow_states (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    workflow_id TEXT NOT NULL CHECK (length(workflow_id) BETWEEN 1 AND 255),
    workflow_name TEXT CHECK (length(workflow_name) <= 500),
    state_data TEXT NOT NULL CHECK (json_valid(state_data)),
    current_step INTEGER NOT NULL DEFAULT 0 CHECK (current_step >= 0),
    status TEXT NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    data_version INTEGER NOT NULL DEFAULT 1 CHECK (data_version > 0),
    started_at INTEGER,
    completed_at INTEGER,
    last_updated INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, workflow_id)
) STRICT;
CREATE INDEX workflow_states_status ON workflow_states (tenant_id, status, last_updated);
