-- name: test_table_rls
-- role: owner
-- transactional: yes

-- The isolation probe's own table: after provisioning, the operator logs in as the tenant and
-- tries to read and write a neighbour's row here.
CREATE TABLE {{ schema }}.test_table (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id text COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text CHECK (length(id) BETWEEN 1 AND 255),
    value text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
SELECT {{ schema }}.protect_table(format('%I.test_table', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.test_table IS 'Rows of the isolation probe.';
COMMENT ON COLUMN {{ schema }}.test_table.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.test_table.id IS 'Id of the probe.';
COMMENT ON COLUMN {{ schema }}.test_table.value IS 'What a neighbour must not see.';
COMMENT ON COLUMN {{ schema }}.test_table.created_at IS 'When the row was first written.';
