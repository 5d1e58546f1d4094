-- name: quick_reads
-- role: owner
-- transactional: yes

-- Every policy of every statement asks who is asking, some statements ten times. A login therefore knows whether its
-- tenant is open and whether it is full, so that one look-up by key answers, and what seals a context is one hash.

ALTER TABLE {{ schema }}.tenant_logins
    ADD COLUMN tenant_open boolean NOT NULL DEFAULT false,
    ADD COLUMN tenant_full boolean NOT NULL DEFAULT false;

-- A new binding waits for whoever is changing its tenant, and who changes the tenant afterwards sees the binding:
-- no login can be bound with what its tenant no longer is.
CREATE FUNCTION {{ schema }}.know_tenant_of_login() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    SELECT t.state = 'active' AND NOT t.suspended, t.over_quota AND t.quota_enforced
      INTO NEW.tenant_open, NEW.tenant_full
      FROM {{ schema }}.tenants AS t
     WHERE t.tenant = NEW.tenant
       FOR SHARE;
    -- Without its tenant the foreign key refuses the row.
    NEW.tenant_open := coalesce(NEW.tenant_open, false);
    NEW.tenant_full := coalesce(NEW.tenant_full, false);
    RETURN NEW;
END
$function$;
CREATE TRIGGER know_tenant BEFORE INSERT OR UPDATE OF tenant, tenant_open, tenant_full ON {{ schema }}.tenant_logins
    FOR EACH ROW EXECUTE FUNCTION {{ schema }}.know_tenant_of_login();

CREATE FUNCTION {{ schema }}.tell_logins_of_tenant() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE {{ schema }}.tenant_logins AS l SET tenant_open = l.tenant_open WHERE l.tenant = NEW.tenant;
    RETURN NULL;
END
$function$;
CREATE TRIGGER tell_logins AFTER UPDATE OF state, suspended, over_quota, quota_enforced ON {{ schema }}.tenants
    FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.suspended IS DISTINCT FROM NEW.suspended
          OR (OLD.over_quota AND OLD.quota_enforced) IS DISTINCT FROM (NEW.over_quota AND NEW.quota_enforced))
    EXECUTE FUNCTION {{ schema }}.tell_logins_of_tenant();
-- They also fire where somebody replays rows as a replica.
ALTER TABLE {{ schema }}.tenant_logins ENABLE ALWAYS TRIGGER know_tenant;
ALTER TABLE {{ schema }}.tenants ENABLE ALWAYS TRIGGER tell_logins;
UPDATE {{ schema }}.tenant_logins SET tenant_open = tenant_open;

{% for writing in [false, true] %}
CREATE OR REPLACE FUNCTION {{ schema }}.{% if writing %}writing_tenant{% else %}current_tenant{% endif %}() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    resolved text;
    servable boolean;
{% if writing %}
    refused boolean;
{% endif %}
    sealed text;
    proof text;
    inner_key bytea;
    outer_key bytea;
    blind bigint;
BEGIN
    SELECT l.tenant, l.tenant_open AND (l.retire_at IS NULL OR l.retire_at > statement_timestamp())
           {%- if writing %}, l.tenant_full{% endif %}

      INTO resolved, servable{% if writing %}, refused{% endif %}

      FROM {{ schema }}.tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF NOT FOUND THEN
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        SELECT k.inner_pad, k.outer_pad INTO inner_key, outer_key FROM {{ schema }}.sealing_key AS k;
        proof := encode(sha256(inner_key || int4send(pg_backend_pid()) || timestamptz_send(now())
            || convert_to(substr(sealed, 65), 'UTF8') || outer_key), 'hex');
        -- A hash with a secret seed is compared first: how far a guess was right can not be timed.
        blind := hashtextextended(encode(outer_key, 'hex'), 0);
        servable := hashtextextended(left(sealed, 64), blind) = hashtextextended(proof, blind)
            AND left(sealed, 64) = proof;
        resolved := substr(sealed, 66);
{% if writing %}
        refused := substr(sealed, 65, 1) = '!';
{% endif %}
    END IF;
    IF servable IS NOT TRUE THEN
        RETURN NULL;
    END IF;
{% if writing %}
    IF refused THEN
        RAISE EXCEPTION 'storage quota exceeded'
            USING ERRCODE = '53400',
                  DETAIL = (SELECT format('%s of %s bytes used.', t.used_bytes, t.quota_bytes)
                              FROM {{ schema }}.tenants AS t WHERE t.tenant = resolved),
                  HINT = 'DELETE still works; the quota is spec.quotas.storage of the Tenant.';
    END IF;
{% endif %}
    RETURN resolved;
END
$function$;
{% endfor %}

-- What is checked and what is refused is as in V25. The context is the proof, a mark, and the tenant: the mark is '!'
-- for a tenant over an enforced quota, ':' for any other, and a part of what is proved. The proof holds for this
-- transaction of this backend; both halves of the key enclose what is hashed, so that none can be prolonged.
CREATE OR REPLACE FUNCTION {{ schema }}.enter(tenant text, capability text, store text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    claimed constant text := substr(split_part(capability, '.', 1), 2);
    inner_key bytea;
    outer_key bytea;
    blind bigint;
    due text;
    live boolean;
    has_store boolean;
    context text;
    statement_timeout_ms bigint;
    lock_timeout_ms bigint;
    idle_in_transaction_timeout_ms bigint;
    work_mem_kb bigint;
    applied text;
BEGIN
    SELECT k.inner_pad, k.outer_pad,
           t.isolation = 'sealed' AND t.state = 'active' AND NOT t.suspended
           AND (claimed = t.capability_version::text
                OR (claimed = t.previous_capability_version::text
                    AND t.previous_capability_expires_at > clock_timestamp()) IS TRUE),
           enter.store = ANY (t.stores),
           CASE WHEN t.over_quota AND t.quota_enforced THEN '!' ELSE ':' END || t.tenant,
           t.statement_timeout_ms, t.lock_timeout_ms, t.idle_in_transaction_timeout_ms, t.work_mem_kb
      INTO inner_key, outer_key, live, has_store, context,
           statement_timeout_ms, lock_timeout_ms, idle_in_transaction_timeout_ms, work_mem_kb
      FROM {{ schema }}.sealing_key AS k LEFT JOIN {{ schema }}.tenants AS t ON t.tenant = enter.tenant;
    due := concat('v', claimed, '.', encode(sha256(outer_key || sha256(inner_key || convert_to(
        concat_ws(chr(31), 'capability', tenant, claimed), 'UTF8'))), 'hex'));
    blind := hashtextextended(encode(outer_key, 'hex'), 0);
    IF (live AND hashtextextended(capability, blind) = hashtextextended(due, blind) AND capability = due) IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant can not be entered' USING ERRCODE = '28000';
    END IF;
    PERFORM FROM {{ schema }}.components AS c WHERE c.store = enter.store AND c.enabled;
    IF NOT FOUND OR has_store IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant does not have this store' USING ERRCODE = '42501';
    END IF;
    applied := set_config('llmspell.context', encode(sha256(inner_key || int4send(pg_backend_pid())
        || timestamptz_send(now()) || convert_to(context, 'UTF8') || outer_key), 'hex') || context, true);
    IF statement_timeout_ms IS NOT NULL THEN
        applied := set_config('statement_timeout', statement_timeout_ms::text, true);
    END IF;
    IF lock_timeout_ms IS NOT NULL THEN
        applied := set_config('lock_timeout', lock_timeout_ms::text, true);
    END IF;
    IF idle_in_transaction_timeout_ms IS NOT NULL THEN
        applied := set_config(
            'idle_in_transaction_session_timeout', idle_in_transaction_timeout_ms::text, true);
    END IF;
    IF work_mem_kb IS NOT NULL THEN
        applied := set_config('work_mem', work_mem_kb::text, true);
    END IF;
END
$function$;

-- As with the graph (V27): a plan that is kept for any tenant expects one that has half of all rows, and so takes the
-- index of the thread, not that of the sessions, of which it would read all that the tenant has.
ALTER TABLE {{ schema }}.session_ancestry ALTER COLUMN tenant_id SET (n_distinct = 2);
ANALYZE {{ schema }}.session_ancestry;

-- Comments ------------------------------------------------------------------------------------

COMMENT ON COLUMN {{ schema }}.tenant_logins.tenant_open IS 'Whether its tenant is active and not suspended; follows tenants.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.tenant_full IS 'Whether its tenant is over an enforced quota; follows tenants.';
COMMENT ON FUNCTION {{ schema }}.know_tenant_of_login() IS 'Writes into a login what its tenant is.';
COMMENT ON FUNCTION {{ schema }}.tell_logins_of_tenant() IS 'Has the logins of a tenant follow a change of it.';
