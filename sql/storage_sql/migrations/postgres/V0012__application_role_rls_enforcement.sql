-- name: application_role_rls_enforcement
-- role: owner
-- transactional: yes

-- The capability of one tenant and version: what a Secret in sealed mode holds. Owner only.
CREATE FUNCTION {{ schema }}.capability(tenant text, version integer) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT format('v%s.%s', capability.version, encode(sha256(k.outer_pad || sha256(k.inner_pad
               || convert_to(concat_ws(chr(31), 'capability', capability.tenant, capability.version), 'UTF8'))), 'hex'))
      FROM {{ schema }}.sealing_key AS k
$function$;

-- Enters a tenant for the rest of the transaction. All refusals of the capability look alike and
-- cost alike; only a tenant that proved itself is told that a store is closed.
CREATE FUNCTION {{ schema }}.enter(tenant text, capability text, store text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    row_of {{ schema }}.tenants%ROWTYPE;
    inner_key bytea;
    outer_key bytea;
    claimed integer := coalesce(substring(capability FROM '^v([0-9]{1,9})\.[0-9a-f]{64}$')::integer, 0);
    genuine boolean;
    mac text;
    applied text;
BEGIN
    SELECT t.* INTO row_of FROM {{ schema }}.tenants AS t WHERE t.tenant = enter.tenant;
    SELECT k.inner_pad, k.outer_pad INTO inner_key, outer_key FROM {{ schema }}.sealing_key AS k;
    mac := encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'capability', coalesce(tenant, ''), claimed), 'UTF8'))), 'hex');
    -- Digests are compared, not the values: how far a guess was right can not be timed.
    genuine := sha256(convert_to(coalesce(capability, ''), 'UTF8'))
        = sha256(convert_to(concat('v', claimed, '.', mac), 'UTF8'));
    IF genuine IS NOT TRUE OR row_of.tenant IS NULL OR row_of.isolation <> 'sealed'
       OR row_of.state <> 'active' OR row_of.suspended
       OR NOT (claimed = row_of.capability_version
               OR (claimed = row_of.previous_capability_version
                   AND row_of.previous_capability_expires_at > clock_timestamp()) IS TRUE) THEN
        RAISE EXCEPTION 'the tenant can not be entered' USING ERRCODE = '28000';
    END IF;
    PERFORM FROM {{ schema }}.components AS c WHERE c.store = enter.store AND c.enabled;
    IF NOT FOUND OR NOT store = ANY (row_of.stores) THEN
        RAISE EXCEPTION 'the tenant does not have this store' USING ERRCODE = '42501';
    END IF;
    mac := encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'context', row_of.tenant, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))), 'hex');
    applied := set_config('llmspell.context', mac || ':' || row_of.tenant, true);
    IF row_of.statement_timeout_ms IS NOT NULL THEN
        applied := set_config('statement_timeout', row_of.statement_timeout_ms::text, true);
    END IF;
    IF row_of.lock_timeout_ms IS NOT NULL THEN
        applied := set_config('lock_timeout', row_of.lock_timeout_ms::text, true);
    END IF;
    IF row_of.idle_in_transaction_timeout_ms IS NOT NULL THEN
        applied := set_config(
            'idle_in_transaction_session_timeout', row_of.idle_in_transaction_timeout_ms::text, true);
    END IF;
    IF row_of.work_mem_kb IS NOT NULL THEN
        applied := set_config('work_mem', row_of.work_mem_kb::text, true);
    END IF;
END
$function$;

-- For a pooler that asks the database who may log in: the live logins' verifiers, one at a time.
-- Granted to nobody here, and to one login that is nobody else's by hand.
CREATE FUNCTION {{ schema }}.pooler_login(login_name text) RETURNS TABLE (usename text, passwd text)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT l.login, l.verifier
      FROM {{ schema }}.tenant_logins AS l
      JOIN {{ schema }}.tenants AS t ON t.tenant = l.tenant
     WHERE l.login = login_name COLLATE "C" AND l.verifier IS NOT NULL
       AND t.state = 'active' AND NOT t.suspended
       AND (l.retire_at IS NULL OR l.retire_at > statement_timestamp())
$function$;

-- Comments ------------------------------------------------------------------------------------

COMMENT ON FUNCTION {{ schema }}.capability(text, integer) IS 'The capability of a tenant in sealed mode.';
COMMENT ON FUNCTION {{ schema }}.enter(text, text, text) IS 'Enters a tenant on the shared login for the rest of the transaction.';
COMMENT ON FUNCTION {{ schema }}.pooler_login(text) IS 'Name and SCRAM verifier of a live login, for the auth_query of a pooler.';
