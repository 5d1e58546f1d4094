-- name: workflow_leases
-- role: owner
-- transactional: yes

-- A worker holds a workflow by a lease. Its token grows with every holder, so that a holder who was thought dead
-- and wakes up is told apart from the one who came after.
ALTER TABLE {{ schema }}.workflow_states
    ADD COLUMN steps_completed bigint NOT NULL DEFAULT 0 CHECK (steps_completed >= 0),
    ADD COLUMN last_step text COLLATE "C" CHECK (length(last_step) BETWEEN 1 AND 255),
    ADD COLUMN error jsonb,
    ADD COLUMN attempts bigint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    ADD COLUMN fencing_token bigint NOT NULL DEFAULT 0 CHECK (fencing_token >= 0),
    ADD COLUMN lease_owner text COLLATE "C" CHECK (length(lease_owner) BETWEEN 1 AND 255),
    ADD COLUMN lease_seconds float8 CHECK (lease_seconds > 0),
    ADD COLUMN lease_expires_at timestamptz;

-- Nothing has written this table before this release, so that building and dropping its indexes stops nobody.
-- What a step changes stands in no index: those updates stay within their page.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.workflow_states_status;
ALTER TABLE {{ schema }}.workflow_states SET (fillfactor = 80);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX workflow_states_created ON {{ schema }}.workflow_states (tenant_id, created_at, workflow_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX workflow_states_status ON {{ schema }}.workflow_states (tenant_id, status, created_at, workflow_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX workflow_states_name ON {{ schema }}.workflow_states (tenant_id, workflow_name, created_at, workflow_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX workflow_states_pending ON {{ schema }}.workflow_states (tenant_id, workflow_name, created_at, workflow_id)
    WHERE status = 'pending';
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX workflow_states_lease ON {{ schema }}.workflow_states (tenant_id, lease_expires_at, workflow_id)
    WHERE status = 'running' AND lease_expires_at IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.workflow_states', {{ schema_name }}));

CREATE TABLE {{ schema }}.workflow_steps (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    workflow_id text COLLATE "C" NOT NULL CHECK (length(workflow_id) BETWEEN 1 AND 255),
    step text COLLATE "C" NOT NULL CHECK (length(step) BETWEEN 1 AND 255),
    position bigint NOT NULL CHECK (position > 0),
    output jsonb NOT NULL,
    completed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, workflow_id, step),
    UNIQUE (tenant_id, workflow_id, position),
    FOREIGN KEY (tenant_id, workflow_id) REFERENCES {{ schema }}.workflow_states ON DELETE CASCADE
);
SELECT {{ schema }}.protect_table(format('%I.workflow_steps', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.workflow_states.steps_completed IS 'How many steps are completed; the position of the last one.';
COMMENT ON COLUMN {{ schema }}.workflow_states.last_step IS 'The step that was completed last.';
COMMENT ON COLUMN {{ schema }}.workflow_states.error IS 'Why it failed last; kept when it runs again.';
COMMENT ON COLUMN {{ schema }}.workflow_states.attempts IS 'How often it began to run, or was taken over from a holder who fell silent.';
COMMENT ON COLUMN {{ schema }}.workflow_states.fencing_token IS 'Grows with each lease that is given or given back; a write with an older one is refused.';
COMMENT ON COLUMN {{ schema }}.workflow_states.lease_owner IS 'Who holds the lease, or held it when it ran out.';
COMMENT ON COLUMN {{ schema }}.workflow_states.lease_seconds IS 'How long a heartbeat lets the lease live.';
COMMENT ON COLUMN {{ schema }}.workflow_states.lease_expires_at IS 'When the lease runs out; NULL when nobody has one.';

COMMENT ON TABLE {{ schema }}.workflow_steps IS 'The completed steps of each workflow.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.workflow_id IS 'Id of the workflow.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.step IS 'Name of the step; completed once.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.position IS 'Counts the completed steps of the workflow from 1.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.output IS 'What the step gave.';
COMMENT ON COLUMN {{ schema }}.workflow_steps.completed_at IS 'When it was completed.';
