-- name: key_gateway
-- role: owner
-- transactional: yes

ALTER TABLE {{ schema }}.api_keys
    ADD COLUMN prefix text COLLATE "C" CONSTRAINT api_keys_prefix_length CHECK (length(prefix) BETWEEN 1 AND 50);
-- A key has one successor: of two rotations at once one wins. No release has written keys yet.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX api_keys_successor ON {{ schema }}.api_keys (tenant_id, rotated_from) WHERE rotated_from IS NOT NULL;
SELECT {{ schema }}.protect_table(format('%I.api_keys', {{ schema_name }}));

SET LOCAL ROLE {{ maintenance }};
-- Marks the use of a key of the tenant that is asking, at most once a minute. It waits for nobody, and
-- works over the quota too: a full tenant's keys still open its doors.
CREATE FUNCTION {{ schema }}.note_api_key_use(used_key text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
BEGIN
    PERFORM FROM {{ schema }}.api_keys AS k
      WHERE k.tenant_id = asking AND k.key_id = used_key
        AND (k.last_used_at IS NULL OR k.last_used_at < clock_timestamp() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE {{ schema }}.api_keys AS k SET last_used_at = clock_timestamp()
     WHERE k.tenant_id = asking AND k.key_id = used_key;
    RETURN true;
END
$function$;

-- The same keys as before, with their names, but a statement that writes is only run when there is something to
-- write, and its plans are kept. The shared login of sealed mode may call it: who knows the hash of a key of 256
-- random bits holds the key. What a function returns cannot be changed in place; nobody was granted the old one.
-- squawk-ignore ban-drop-function
DROP FUNCTION {{ schema }}.verify_api_key(bytea);
CREATE FUNCTION {{ schema }}.verify_api_key(
    presented_hash bytea, OUT tenant_id text, OUT key_id text, OUT name text, OUT scopes text[],
    OUT expires_at timestamptz)
RETURNS SETOF record
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    used timestamptz;
BEGIN
    SELECT k.tenant_id, k.key_id, k.name, k.scopes, k.expires_at, k.last_used_at
      INTO verify_api_key.tenant_id, verify_api_key.key_id, verify_api_key.name, verify_api_key.scopes,
           verify_api_key.expires_at, used
      FROM {{ schema }}.api_keys AS k
      JOIN {{ schema }}.tenants AS t ON t.tenant = k.tenant_id
     WHERE k.key_hash = presented_hash AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
       AND t.state = 'active' AND NOT t.suspended;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF used IS NULL OR used < clock_timestamp() - interval '1 minute' THEN
        PERFORM FROM {{ schema }}.api_keys AS k
          WHERE k.tenant_id = verify_api_key.tenant_id AND k.key_id = verify_api_key.key_id
            AND k.last_used_at IS NOT DISTINCT FROM used
            FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE {{ schema }}.api_keys AS k SET last_used_at = clock_timestamp()
             WHERE k.tenant_id = verify_api_key.tenant_id AND k.key_id = verify_api_key.key_id;
        END IF;
    END IF;
    RETURN NEXT;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.api_keys.prefix IS 'First part of an issued key, by which people and scanners know it.';
COMMENT ON COLUMN {{ schema }}.api_keys.key_hash IS
    'SHA-256 of an issued key, of its whole text from the prefix to the checksum.';
COMMENT ON INDEX {{ schema }}.api_keys_successor IS 'One successor a key.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.note_api_key_use(text) IS 'Marks the use of one of the tenant''s keys, once a minute.';
COMMENT ON FUNCTION {{ schema }}.verify_api_key(bytea) IS 'Finds the live key with this hash over all tenants, for a gateway.';
SET LOCAL ROLE {{ owner }};
