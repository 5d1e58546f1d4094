-- An id that a successor still names is taken: rotating that one would end the key that got the id anew. No row then.
-- name: add
-- in: key_id text, name text, prefix text, key_hash bytea, sealed_value bytea, sealing_key_id text, scopes text[], metadata jsonb, ttl float8, expires_at timestamptz
INSERT INTO {{ schema }}.api_keys (
    tenant_id, key_id, name, prefix, key_hash, sealed_value, sealing_key_id, scopes, metadata, expires_at)
SELECT :tenant, :key_id, :name, :prefix, :key_hash, :sealed_value, :sealing_key_id, :scopes, :metadata,
       coalesce(:expires_at, now() + make_interval(secs => :ttl))
 WHERE NOT EXISTS (SELECT FROM {{ schema }}.api_keys WHERE tenant_id = :tenant AND rotated_from = :key_id)
RETURNING key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,
          created_at, updated_at

-- The mark is set at most once a minute; the function waits for nobody and works over the quota.
-- name: verify
-- in: key_id text, key_hash bytea
SELECT tenant_id, key_id, name, scopes, expires_at,
       CASE WHEN last_used_at IS NULL OR last_used_at < statement_timestamp() - interval '1 minute'
            THEN {{ schema }}.note_api_key_use(key_id) END
  FROM {{ schema }}.api_keys
 WHERE tenant_id = :tenant AND key_id = :key_id AND key_hash = :key_hash AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- name: verify_over_all
-- in: key_hash bytea
SELECT tenant_id, key_id, name, scopes, expires_at FROM {{ schema }}.verify_api_key(:key_hash)

-- Of two at once the second waits for the first and is refused by the successor's index.
-- name: rotate
-- in: key_id text, new_id text, key_hash bytea, overlap float8, ttl float8, expires_at timestamptz
WITH old AS (
    SELECT key_id, name, prefix, scopes, metadata, rotated_from, expires_at - created_at AS lifetime
      FROM {{ schema }}.api_keys
     WHERE tenant_id = :tenant AND key_id = :key_id AND key_hash IS NOT NULL AND revoked_at IS NULL
       AND (expires_at IS NULL OR expires_at > statement_timestamp())
       FOR UPDATE
), ended AS (
    UPDATE {{ schema }}.api_keys AS k
       SET expires_at = least(k.expires_at, now() + make_interval(
               secs => CASE WHEN k.key_id = old.key_id THEN :overlap ELSE 0 END)),
           updated_at = now()
      FROM old
     WHERE k.tenant_id = :tenant AND k.key_id = ANY (ARRAY[old.key_id, old.rotated_from])
)
INSERT INTO {{ schema }}.api_keys (
    tenant_id, key_id, name, prefix, key_hash, scopes, metadata, rotated_from, expires_at)
SELECT :tenant, :new_id, name, prefix, :key_hash, scopes, metadata, key_id,
       coalesce(:expires_at, now() + make_interval(secs => :ttl), now() + lifetime)
  FROM old
RETURNING key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,
          created_at, updated_at

-- name: revoke
-- in: key_id text
UPDATE {{ schema }}.api_keys SET revoked_at = now(), updated_at = now()
 WHERE tenant_id = :tenant AND key_id = :key_id AND revoked_at IS NULL
RETURNING true

-- name: delete
-- in: key_id text
DELETE FROM {{ schema }}.api_keys WHERE tenant_id = :tenant AND key_id = :key_id
RETURNING true

-- name: key
-- in: key_id text
SELECT key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,
       created_at, updated_at
  FROM {{ schema }}.api_keys WHERE tenant_id = :tenant AND key_id = :key_id

-- One name, or all of them, is a range: a plan that is kept knows neither.
-- name: keys
-- in: first text, last text, after_name text, after_time timestamptz, after_id text, most bigint
SELECT key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,
       created_at, updated_at
  FROM {{ schema }}.api_keys
 WHERE tenant_id = :tenant AND (name, created_at, key_id) > (:after_name, :after_time, :after_id)
   AND name >= :first AND name <= :last
 ORDER BY name, created_at, key_id LIMIT :most

-- name: sealed
-- in: key_id text
SELECT sealed_value, sealing_key_id FROM {{ schema }}.api_keys
 WHERE tenant_id = :tenant AND key_id = :key_id AND sealed_value IS NOT NULL AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- name: replace_sealed
-- in: key_id text, before bytea, after bytea, sealing_key_id text
UPDATE {{ schema }}.api_keys SET sealed_value = :after, sealing_key_id = :sealing_key_id, updated_at = now()
 WHERE tenant_id = :tenant AND key_id = :key_id AND sealed_value = :before AND revoked_at IS NULL
   AND (expires_at IS NULL OR expires_at > statement_timestamp())
RETURNING key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,
          created_at, updated_at

-- name: purge_expired
-- in: most bigint
WITH dead AS (
    SELECT key_id FROM {{ schema }}.api_keys
     WHERE tenant_id = :tenant AND expires_at <= statement_timestamp()
     ORDER BY expires_at, key_id LIMIT :most FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {{ schema }}.api_keys AS k USING dead WHERE k.tenant_id = :tenant AND k.key_id = dead.key_id RETURNING 1
)
SELECT count(*) FROM gone
