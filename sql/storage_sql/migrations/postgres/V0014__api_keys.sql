-- name: api_keys
-- role: owner
-- transactional: yes

-- An issued key is kept as the SHA-256 of its 256-bit secret: enough to verify, nothing to steal.
-- A key that must be read back (a provider's) is sealed by the application before it comes here.
CREATE TABLE {{ schema }}.api_keys (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    key_id text COLLATE "C" NOT NULL CHECK (length(key_id) BETWEEN 1 AND 255),
    name text COLLATE "C" NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    key_hash bytea CHECK (length(key_hash) = 32),
    sealed_value bytea,
    sealing_key_id text COLLATE "C" CHECK (length(sealing_key_id) BETWEEN 1 AND 255),
    scopes text[] COLLATE "C" NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    rotated_from text COLLATE "C" CHECK (length(rotated_from) BETWEEN 1 AND 255),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key_id),
    CONSTRAINT hashed_or_sealed CHECK (
        (key_hash IS NULL) <> (sealed_value IS NULL) AND (sealed_value IS NULL) = (sealing_key_id IS NULL))
);
CREATE UNIQUE INDEX api_keys_hash ON {{ schema }}.api_keys (key_hash) WHERE key_hash IS NOT NULL;
COMMENT ON INDEX {{ schema }}.api_keys_hash IS
    'global key: a gateway finds the tenant by the hash; 256 random bits leave nothing to probe for';
CREATE INDEX api_keys_name ON {{ schema }}.api_keys (tenant_id, name, created_at);
SELECT {{ schema }}.protect_table(format('%I.api_keys', {{ schema_name }}));

-- For a gateway that does not know the tenant yet: granted to nobody here.
SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.verify_api_key(
    presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT scopes text[], OUT expires_at timestamptz)
RETURNS SETOF record
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    WITH live AS (
        SELECT k.tenant_id, k.key_id, k.scopes, k.expires_at
          FROM {{ schema }}.api_keys AS k
          JOIN {{ schema }}.tenants AS t ON t.tenant = k.tenant_id
         WHERE k.key_hash = presented_hash AND k.revoked_at IS NULL
           AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
           AND t.state = 'active' AND NOT t.suspended
    ), used AS (
        UPDATE {{ schema }}.api_keys AS k SET last_used_at = clock_timestamp()
          FROM live
         WHERE k.tenant_id = live.tenant_id AND k.key_id = live.key_id
           AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute')
    )
    SELECT live.tenant_id, live.key_id, live.scopes, live.expires_at FROM live
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.api_keys IS 'Keys: issued ones as hashes, foreign ones sealed by the application.';
COMMENT ON COLUMN {{ schema }}.api_keys.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.api_keys.key_id IS 'Public id of the key, part of the key itself.';
COMMENT ON COLUMN {{ schema }}.api_keys.name IS 'Name of the key.';
COMMENT ON COLUMN {{ schema }}.api_keys.key_hash IS 'SHA-256 of an issued key''s secret.';
COMMENT ON COLUMN {{ schema }}.api_keys.sealed_value IS 'A foreign key, encrypted by the application.';
COMMENT ON COLUMN {{ schema }}.api_keys.sealing_key_id IS 'Which of the application''s keys encrypted it.';
COMMENT ON COLUMN {{ schema }}.api_keys.scopes IS 'What an issued key may do.';
COMMENT ON COLUMN {{ schema }}.api_keys.metadata IS 'Free metadata of the caller.';
COMMENT ON COLUMN {{ schema }}.api_keys.rotated_from IS 'The key this one replaces.';
COMMENT ON COLUMN {{ schema }}.api_keys.expires_at IS 'When it stops working.';
COMMENT ON COLUMN {{ schema }}.api_keys.revoked_at IS 'When it was revoked.';
COMMENT ON COLUMN {{ schema }}.api_keys.last_used_at IS 'When it was last used, to the minute.';
COMMENT ON COLUMN {{ schema }}.api_keys.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.api_keys.updated_at IS 'When the row was last changed.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.verify_api_key(bytea) IS 'Finds the live key with this hash over all tenants, for a gateway.';
SET LOCAL ROLE {{ owner }};
