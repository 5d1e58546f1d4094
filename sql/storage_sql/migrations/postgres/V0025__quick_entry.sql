-- name: quick_entry
-- role: owner
-- transactional: yes

-- Entering goes before every statement of sealed mode, so its cost is theirs: one statement instead of five, and no
-- regular expression, takes a quarter of the time. What is checked and what is refused is as in V12: all refusals of the
-- capability look alike and cost alike, and only a tenant that proved itself is told that a store is closed.
CREATE OR REPLACE FUNCTION {{ schema }}.enter(tenant text, capability text, store text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    digits constant text := split_part(substr(capability, 2), '.', 1);
    claimed constant integer := CASE
        WHEN length(digits) BETWEEN 1 AND 9 AND translate(digits, '0123456789', '') = '' THEN digits::integer ELSE 0 END;
    genuine boolean;
    open boolean;
    context text;
    statement_timeout_ms bigint;
    lock_timeout_ms bigint;
    idle_in_transaction_timeout_ms bigint;
    work_mem_kb bigint;
    applied text;
BEGIN
    SELECT -- Digests are compared, not the values: how far a guess was right can not be timed.
           sha256(convert_to(coalesce(enter.capability, ''), 'UTF8')) = sha256(convert_to(
               concat('v', claimed, '.', encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(
                   concat_ws(chr(31), 'capability', coalesce(enter.tenant, ''), claimed), 'UTF8'))), 'hex')), 'UTF8'))
           AND t.isolation = 'sealed' AND t.state = 'active' AND NOT t.suspended
           AND (claimed = t.capability_version
                OR (claimed = t.previous_capability_version
                    AND t.previous_capability_expires_at > clock_timestamp()) IS TRUE),
           enter.store = ANY (t.stores)
           AND EXISTS (SELECT FROM {{ schema }}.components AS c WHERE c.store = enter.store AND c.enabled),
           encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(
               concat_ws(chr(31), 'context', t.tenant, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))), 'hex')
           || ':' || t.tenant,
           t.statement_timeout_ms, t.lock_timeout_ms, t.idle_in_transaction_timeout_ms, t.work_mem_kb
      INTO genuine, open, context, statement_timeout_ms, lock_timeout_ms, idle_in_transaction_timeout_ms, work_mem_kb
      FROM {{ schema }}.sealing_key AS k LEFT JOIN {{ schema }}.tenants AS t ON t.tenant = enter.tenant;
    IF genuine IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant can not be entered' USING ERRCODE = '28000';
    END IF;
    IF open IS NOT TRUE THEN
        RAISE EXCEPTION 'the tenant does not have this store' USING ERRCODE = '42501';
    END IF;
    applied := set_config('llmspell.context', context, true);
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
