-- What a tenant must not be able to do, tried in its own session and rolled back. A sealed tenant was entered before.
{% if not sealed %}
BEGIN;
{% endif %}
DO $probe$
DECLARE
    touched bigint;
BEGIN
    IF {{ schema }}.current_tenant() IS DISTINCT FROM {{ tenant }} THEN
        RAISE EXCEPTION 'the login is not bound to its tenant' USING ERRCODE = 'LS002';
    END IF;
    BEGIN
        INSERT INTO {{ schema }}.test_table (tenant_id, value) VALUES ({{ tenant }}, 'own row');
        SELECT count(*) INTO touched FROM {{ schema }}.test_table WHERE tenant_id = {{ tenant }};
        IF touched = 0 THEN
            RAISE EXCEPTION 'the tenant cannot read its own row' USING ERRCODE = 'LS002';
        END IF;
    EXCEPTION WHEN configuration_limit_exceeded THEN
        NULL; -- over an enforced quota: nothing can be written, what follows still holds
    END;
    PERFORM set_config('app.current_tenant_id', {{ canary }}, true);
    SELECT count(*) INTO touched FROM {{ schema }}.test_table WHERE tenant_id <> {{ tenant }};
    IF touched > 0 THEN
        RAISE EXCEPTION 'rows of another tenant can be read' USING ERRCODE = 'LS002';
    END IF;
    UPDATE {{ schema }}.test_table SET value = 'taken' WHERE tenant_id = {{ canary }};
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched > 0 THEN
        RAISE EXCEPTION 'rows of another tenant can be changed' USING ERRCODE = 'LS002';
    END IF;
    DELETE FROM {{ schema }}.test_table WHERE tenant_id = {{ canary }};
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched > 0 THEN
        RAISE EXCEPTION 'rows of another tenant can be deleted' USING ERRCODE = 'LS002';
    END IF;
    BEGIN
        INSERT INTO {{ schema }}.test_table (tenant_id, id, value) VALUES ({{ canary }}, {{ canary_id }} || '-forged', 'forged');
        RAISE EXCEPTION 'a row can be added for another tenant' USING ERRCODE = 'LS002';
    EXCEPTION WHEN insufficient_privilege OR configuration_limit_exceeded THEN
        NULL; -- refused, as it must
    END;
    BEGIN
        PERFORM FROM {{ schema }}.tenants;
        RAISE EXCEPTION 'the control tables can be read' USING ERRCODE = 'LS002';
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- no grant, as it must be
    END;
END $probe$;
ROLLBACK;
