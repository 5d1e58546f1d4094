-- name: value
-- in: key text
SELECT value FROM {{ schema }}.kv_store
 WHERE tenant_id = :tenant AND key = :key AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- name: entries
-- in: keys text[]
SELECT key, value, metadata, version, expires_at, created_at, updated_at FROM {{ schema }}.kv_store
 WHERE tenant_id = :tenant AND key = ANY (:keys) AND (expires_at IS NULL OR expires_at > statement_timestamp())

-- Writes over an expired entry go on counting its versions, so that none is given twice while the row is there;
-- a key that was deleted or purged begins at 1.
-- name: put
-- in: key text, value bytea, metadata jsonb, ttl float8
INSERT INTO {{ schema }}.kv_store AS old (tenant_id, key, value, metadata, expires_at)
VALUES (:tenant, :key, :value, :metadata, clock_timestamp() + make_interval(secs => :ttl))
ON CONFLICT (tenant_id, key) DO UPDATE SET
    value = excluded.value, metadata = excluded.metadata, version = old.version + 1, expires_at = excluded.expires_at,
    created_at = CASE WHEN old.expires_at <= statement_timestamp() THEN now() ELSE old.created_at END, updated_at = now()
RETURNING version

-- name: put_many
-- in: keys text[], values bytea[], metadata jsonb[], ttls float8[]
INSERT INTO {{ schema }}.kv_store AS old (tenant_id, key, value, metadata, expires_at)
SELECT :tenant, n.key, n.value, n.metadata, clock_timestamp() + make_interval(secs => n.ttl)
  FROM unnest(:keys, :values, :metadata, :ttls) AS n (key, value, metadata, ttl) ORDER BY n.key
ON CONFLICT (tenant_id, key) DO UPDATE SET
    value = excluded.value, metadata = excluded.metadata, version = old.version + 1, expires_at = excluded.expires_at,
    created_at = CASE WHEN old.expires_at <= statement_timestamp() THEN now() ELSE old.created_at END, updated_at = now()
RETURNING key, version

-- name: put_if_absent
-- in: key text, value bytea, metadata jsonb, ttl float8
INSERT INTO {{ schema }}.kv_store AS old (tenant_id, key, value, metadata, expires_at)
VALUES (:tenant, :key, :value, :metadata, clock_timestamp() + make_interval(secs => :ttl))
ON CONFLICT (tenant_id, key) DO UPDATE SET
    value = excluded.value, metadata = excluded.metadata, version = old.version + 1, expires_at = excluded.expires_at,
    created_at = now(), updated_at = now()
WHERE old.expires_at <= statement_timestamp()
RETURNING version

-- name: compare_and_set
-- in: key text, value bytea, metadata jsonb, ttl float8, expected bigint
UPDATE {{ schema }}.kv_store
   SET value = :value, metadata = :metadata, version = version + 1,
       expires_at = clock_timestamp() + make_interval(secs => :ttl), updated_at = now()
 WHERE tenant_id = :tenant AND key = :key AND version = :expected
   AND (expires_at IS NULL OR expires_at > statement_timestamp())
RETURNING version

-- Gives no row where the value is no number or the sum leaves 64 bits.
-- name: increment
-- in: key text, by bigint
INSERT INTO {{ schema }}.kv_store AS old (tenant_id, key, value)
VALUES (:tenant, :key, convert_to(:by::text, 'UTF8'))
ON CONFLICT (tenant_id, key) DO UPDATE SET
    value = CASE WHEN old.expires_at <= statement_timestamp() THEN excluded.value
                 ELSE convert_to((encode(old.value, 'escape')::numeric + :by)::text, 'UTF8') END,
    metadata = CASE WHEN old.expires_at <= statement_timestamp() THEN '{}' ELSE old.metadata END,
    created_at = CASE WHEN old.expires_at <= statement_timestamp() THEN now() ELSE old.created_at END,
    expires_at = CASE WHEN old.expires_at <= statement_timestamp() THEN NULL ELSE old.expires_at END,
    version = old.version + 1, updated_at = now()
WHERE old.expires_at <= statement_timestamp()
   OR CASE WHEN octet_length(old.value) <= 20 AND encode(old.value, 'escape') ~ '^-?[0-9]+$'
           THEN encode(old.value, 'escape')::numeric + :by BETWEEN -9223372036854775808 AND 9223372036854775807
           ELSE false END
RETURNING value

-- name: delete
-- in: keys text[]
DELETE FROM {{ schema }}.kv_store WHERE tenant_id = :tenant AND key = ANY (:keys)
RETURNING expires_at IS NULL OR expires_at > statement_timestamp()

-- A prefix is a range, because a plan that is kept for any prefix cannot turn ^@ into one. No key is longer than 500.
-- name: clear
-- in: prefix text
WITH gone AS (
    DELETE FROM {{ schema }}.kv_store WHERE tenant_id = :tenant AND key >= :prefix AND key <= :prefix || repeat(chr(1114111), 500)
    RETURNING expires_at IS NULL OR expires_at > statement_timestamp() AS live
)
SELECT count(*) FILTER (WHERE live) FROM gone

-- name: list_keys
-- in: prefix text, after text, most bigint
SELECT key FROM {{ schema }}.kv_store
 WHERE tenant_id = :tenant AND key >= :prefix AND key <= :prefix || repeat(chr(1114111), 500) AND key > :after
   AND (expires_at IS NULL OR expires_at > statement_timestamp())
 ORDER BY key LIMIT :most

-- name: purge_expired
-- in: most bigint
WITH dead AS (
    SELECT key FROM {{ schema }}.kv_store
     WHERE tenant_id = :tenant AND expires_at <= statement_timestamp() ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {{ schema }}.kv_store AS k USING dead WHERE k.tenant_id = :tenant AND k.key = dead.key RETURNING 1
)
SELECT count(*) FROM gone
