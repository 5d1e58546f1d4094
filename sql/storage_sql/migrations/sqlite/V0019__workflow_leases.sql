-- name: workflow_leases
-- role: owner
-- transactional: yes

ALTER TABLE workflow_states ADD COLUMN steps_completed INTEGER NOT NULL DEFAULT 0 CHECK (steps_completed >= 0);
ALTER TABLE workflow_states ADD COLUMN last_step TEXT CHECK (length(last_step) BETWEEN 1 AND 255);
ALTER TABLE workflow_states ADD COLUMN error TEXT CHECK (error IS NULL OR json_valid(error));
ALTER TABLE workflow_states ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0);
ALTER TABLE workflow_states ADD COLUMN fencing_token INTEGER NOT NULL DEFAULT 0 CHECK (fencing_token >= 0);
ALTER TABLE workflow_states ADD COLUMN lease_owner TEXT CHECK (length(lease_owner) BETWEEN 1 AND 255);
ALTER TABLE workflow_states ADD COLUMN lease_seconds REAL CHECK (lease_seconds > 0);
ALTER TABLE workflow_states ADD COLUMN lease_expires_at INTEGER;

DROP INDEX workflow_states_status;
CREATE INDEX workflow_states_created ON workflow_states (tenant_id, created_at, workflow_id);
CREATE INDEX workflow_states_status ON workflow_states (tenant_id, status, created_at, workflow_id);
CREATE INDEX workflow_states_name ON workflow_states (tenant_id, workflow_name, created_at, workflow_id);
CREATE INDEX workflow_states_pending ON workflow_states (tenant_id, workflow_name, created_at, workflow_id)
    WHERE status = 'pending';
CREATE INDEX workflow_states_lease ON workflow_states (tenant_id, lease_expires_at, workflow_id)
    WHERE status = 'running' AND lease_expires_at IS NOT NULL;

CREATE TABLE workflow_steps (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    workflow_id TEXT NOT NULL CHECK (length(workflow_id) BETWEEN 1 AND 255),
    step TEXT NOT NULL CHECK (length(step) BETWEEN 1 AND 255),
    position INTEGER NOT NULL CHECK (position > 0),
    output TEXT NOT NULL CHECK (json_valid(output)),
    completed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, workflow_id, step),
    UNIQUE (tenant_id, workflow_id, position),
    FOREIGN KEY (tenant_id, workflow_id) REFERENCES workflow_states ON DELETE CASCADE
) STRICT;
