-- name: kv_store
-- role: owner
-- transactional: yes

CREATE TABLE {{ schema }}.kv_store (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    key text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 500),
    value bytea NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX kv_store_expiry ON {{ schema }}.kv_store (tenant_id, expires_at) WHERE expires_at IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.kv_store', {{ schema_name }}));

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.kv_store IS 'Keys and binary values.';
COMMENT ON COLUMN {{ schema }}.kv_store.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.kv_store.key IS 'The key.';
COMMENT ON COLUMN {{ schema }}.kv_store.value IS 'The value.';
COMMENT ON COLUMN {{ schema }}.kv_store.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.kv_store.version IS 'Grows with each write; compared by optimistic writers.';
COMMENT ON COLUMN {{ schema }}.kv_store.expires_at IS 'When the entry may be removed.';
COMMENT ON COLUMN {{ schema }}.kv_store.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.kv_store.updated_at IS 'When the row was last changed.';
