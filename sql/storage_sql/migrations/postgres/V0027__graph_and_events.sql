-- name: graph_and_events
-- role: owner
-- transactional: yes

-- Columns keep no statistics, so that a plan that is kept for any tenant takes a tenant of a few rows for granted, and
-- then every index that begins with the tenant seems as good as any other. Here an index can only be taken by a query
-- that names its second column: a predicate that any comparison of that column implies is part of it.
-- Writers wait while they are made, and readers at the end: no release has graphs that take long.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.entities_current;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX entities_current ON {{ schema }}.entities (tenant_id, entity_id, valid_time_start)
    WHERE tx_to = 9223372036854775807 AND entity_id IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.entities_current_type;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX entities_current_type ON {{ schema }}.entities (tenant_id, entity_type, entity_id)
    WHERE tx_to = 9223372036854775807 AND entity_type IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.entities_current_name;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX entities_current_name ON {{ schema }}.entities (tenant_id, name, entity_id)
    WHERE tx_to = 9223372036854775807 AND name IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.relationships_current;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX relationships_current ON {{ schema }}.relationships (tenant_id, relationship_id, valid_time_start)
    WHERE tx_to = 9223372036854775807 AND relationship_id IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.relationships_current_from;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX relationships_current_from ON {{ schema }}.relationships
    (tenant_id, from_entity, relationship_type, valid_time_start) INCLUDE (to_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807 AND from_entity IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX {{ schema }}.relationships_current_to;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX relationships_current_to ON {{ schema }}.relationships
    (tenant_id, to_entity, relationship_type, valid_time_start) INCLUDE (from_entity, valid_time_end)
    WHERE tx_to = 9223372036854775807 AND to_entity IS NOT NULL;

-- The constraint's index is no query's: nothing that is asked implies the sum in its predicate.
DO $migration$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint AS c
                WHERE c.conname = 'entities_one_current_version'
                  AND c.conrelid = to_regclass(format('%I.entities', {{ schema_name }}))) THEN
        ALTER TABLE {{ schema }}.entities DROP CONSTRAINT entities_one_current_version;
        ALTER TABLE {{ schema }}.entities ADD CONSTRAINT entities_one_current_version EXCLUDE USING gist (
            tenant_id WITH =, entity_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
            WHERE (tx_to + 0 = 9223372036854775807);
        ALTER TABLE {{ schema }}.relationships DROP CONSTRAINT relationships_one_current_version;
        ALTER TABLE {{ schema }}.relationships ADD CONSTRAINT relationships_one_current_version EXCLUDE USING gist (
            tenant_id WITH =, relationship_id WITH =, tstzrange(valid_time_start, valid_time_end) WITH &&)
            WHERE (tx_to + 0 = 9223372036854775807);
        ALTER INDEX {{ schema }}.entities_one_current_version ALTER COLUMN 3 SET STATISTICS 0;
        ALTER INDEX {{ schema }}.relationships_one_current_version ALTER COLUMN 3 SET STATISTICS 0;
    END IF;
END
$migration$;

-- However many tenants there are, a plan for any of them expects a large one: for a small one it is right too.
ALTER TABLE {{ schema }}.entities ALTER COLUMN tenant_id SET (n_distinct = 200);
ALTER TABLE {{ schema }}.relationships ALTER COLUMN tenant_id SET (n_distinct = 200);
ANALYZE {{ schema }}.entities, {{ schema }}.relationships;

-- One event. As four statements under the policies an append asks eleven times who writes; here it is asked once, and
-- everything below is that tenant's. The clock is taken first and held until the commit (D21). No row is made, and the
-- result is empty, when the stream is not where it is expected.
SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.append_event(
    new_id uuid, kind text, into_stream text, correlation text, happened_at timestamptz, script_language text,
    content jsonb, expected bigint, keyed boolean,
    OUT made_sequence bigint, OUT made_position bigint, OUT made_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.writing_tenant();
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    IF expected IS NULL THEN
        UPDATE {{ schema }}.tenant_clock AS c
           SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
         WHERE c.tenant_id = asking
        RETURNING c.n, c.at INTO made_position, made_at;
        IF NOT FOUND THEN
            INSERT INTO {{ schema }}.tenant_clock AS c (tenant_id, n, at) VALUES (asking, 1, clock_timestamp())
            ON CONFLICT (tenant_id) DO UPDATE
                SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
            RETURNING c.n, c.at INTO made_position, made_at;
        END IF;
        UPDATE {{ schema }}.event_streams AS s SET head = s.head + 1
         WHERE s.tenant_id = asking AND s.stream = into_stream
        RETURNING s.head INTO made_sequence;
        IF NOT FOUND THEN
            INSERT INTO {{ schema }}.event_streams AS s (tenant_id, stream, head, created_at)
            VALUES (asking, into_stream, 1, made_at)
            ON CONFLICT (tenant_id, stream) DO UPDATE SET head = s.head + 1
            RETURNING s.head INTO made_sequence;
        END IF;
    ELSE
        -- Only locked until it is known that there is something to append, so that a refusal leaves no gap.
        SELECT c.n + 1, greatest(clock_timestamp(), c.at + interval '1 microsecond') INTO made_position, made_at
          FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = asking FOR UPDATE;
        IF NOT FOUND THEN
            INSERT INTO {{ schema }}.tenant_clock AS c (tenant_id) VALUES (asking)
            ON CONFLICT (tenant_id) DO UPDATE SET n = c.n
            RETURNING c.n + 1, greatest(clock_timestamp(), c.at + interval '1 microsecond')
                 INTO made_position, made_at;
        END IF;
        IF expected = 0 THEN
            INSERT INTO {{ schema }}.event_streams AS s (tenant_id, stream, head, created_at)
            VALUES (asking, into_stream, 1, made_at)
            ON CONFLICT (tenant_id, stream) DO UPDATE SET head = 1 WHERE s.head = 0
            RETURNING s.head INTO made_sequence;
        ELSE
            UPDATE {{ schema }}.event_streams AS s SET head = s.head + 1
             WHERE s.tenant_id = asking AND s.stream = into_stream AND s.head = expected
            RETURNING s.head INTO made_sequence;
        END IF;
        IF NOT FOUND THEN
            made_position := NULL;
            made_at := NULL;
            RETURN;
        END IF;
        UPDATE {{ schema }}.tenant_clock AS c SET n = made_position, at = made_at WHERE c.tenant_id = asking;
    END IF;
    IF keyed THEN
        INSERT INTO {{ schema }}.event_ids (tenant_id, event_id, stream, sequence, position, timestamp)
        VALUES (asking, new_id, into_stream, made_sequence, made_position, made_at);
    END IF;
    INSERT INTO {{ schema }}.event_log
        (tenant_id, event_id, event_type, correlation_id, stream, sequence, position, timestamp, occurred_at, language,
         payload)
    VALUES (asking, new_id, kind, correlation, into_stream, made_sequence, made_position, made_at,
            coalesce(happened_at, made_at), script_language, content);
END
$function$;
COMMENT ON FUNCTION {{ schema }}.append_event(uuid, text, text, text, timestamptz, text, jsonb, bigint, boolean) IS
    'Appends one event to a stream, at the version that is expected if one is; empty when the stream is elsewhere.';

-- What is erased is found by one statement, so that of an event that is appended meanwhile not only the id goes. Here and
-- below, where nothing was there to erase, a tenant over its quota leaves no trace either: it could go on doing so without end.
CREATE OR REPLACE FUNCTION {{ schema }}.erase_stream(subject text, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    erased bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    WITH gone AS (
        DELETE FROM {{ schema }}.event_log AS e WHERE e.tenant_id = asking AND e.stream = subject RETURNING true
    ), forgotten AS (
        DELETE FROM {{ schema }}.event_ids AS i WHERE i.tenant_id = asking AND i.stream = subject
    )
    SELECT count(*) INTO erased FROM gone;
    IF erased = 0 THEN
        BEGIN
            PERFORM {{ schema }}.writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
    END IF;
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'stream', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;

CREATE OR REPLACE FUNCTION {{ schema }}.erase_hook_executions(subject text, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    erased bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    DELETE FROM {{ schema }}.hook_history AS h WHERE h.tenant_id = asking AND h.correlation_id = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    IF erased = 0 THEN
        BEGIN
            PERFORM {{ schema }}.writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
    END IF;
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'hooks', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;

CREATE OR REPLACE FUNCTION {{ schema }}.erase_entity(subject uuid, reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    rows_gone bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    SELECT e.erased INTO rows_gone FROM {{ schema }}.erase_entity_as(subject, reason, NULL) AS e;
    IF rows_gone = 0 THEN
        BEGIN
            PERFORM {{ schema }}.writing_tenant();
        EXCEPTION WHEN configuration_limit_exceeded THEN
            RETURN 0;
        END;
        INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', sha256(convert_to(subject::text, 'UTF8')), 0, reason);
    END IF;
    RETURN rows_gone;
END
$function$;

-- As in V17, but a tenant's first writer is waited for too: whoever takes the clock's lock makes its row if there is none.
CREATE OR REPLACE FUNCTION {{ schema }}.erase_entity_as(
    subject uuid, reason text, actor text, OUT tx bigint, OUT at timestamptz, OUT erased bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    hash constant bytea := sha256(convert_to(subject::text, 'UTF8'));
    removed bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    INSERT INTO {{ schema }}.tenant_clock AS c (tenant_id) VALUES (asking)
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false;
    DELETE FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = asking AND (r.from_entity = subject OR r.to_entity = subject);
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM {{ schema }}.entities AS e WHERE e.tenant_id = asking AND e.entity_id = subject;
    GET DIAGNOSTICS removed = ROW_COUNT;
    erased := erased + removed;
    DELETE FROM {{ schema }}.graph_embeddings AS g WHERE g.tenant_id = asking AND g.entity_id = subject;
    IF erased > 0 THEN
        SELECT t.tx, t.at INTO tx, at FROM {{ schema }}.tick_once(asking, 0) AS t;
        INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'entity', hash, erased, reason);
        -- Two erasures in one transaction are one tick, whose row names the last of them.
        INSERT INTO {{ schema }}.graph_transactions AS g (tenant_id, tx, at, actor, reason, erased_hash)
        VALUES (asking, tx, at, actor, reason, hash)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO UPDATE SET erased_hash = excluded.erased_hash;
    END IF;
END
$function$;

-- Ending a belief takes nothing of the quota that counts, so that it is possible over it: owned by maintenance, and with the
-- tenant in every predicate. Nothing is done when there is no current version, or one newer than `expected`.
{% for relationships in [false, true] %}
CREATE FUNCTION {{ schema }}.withdraw_{% if relationships %}relationship{% else %}entity{% endif %}(
    subject uuid, expected bigint, actor text, reason text, sources jsonb,
    OUT latest bigint, OUT tx bigint, OUT at timestamptz, OUT closed bigint, OUT relationships_closed bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    beyond bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    -- A hundred names of 500 characters, each escaped as six.
    IF jsonb_array_length(sources) > 100 OR octet_length(sources::text) > 310000 THEN
        RAISE EXCEPTION 'the sources are more than fit' USING ERRCODE = '22023';
    END IF;
    closed := 0;
    relationships_closed := 0;
    INSERT INTO {{ schema }}.tenant_clock AS c (tenant_id) VALUES (asking)
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false;
    SELECT max(v.tx_from) INTO latest
      FROM {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v
     WHERE v.tenant_id = asking AND v.{% if relationships %}relationship_id{% else %}entity_id{% endif %} = subject
       AND v.tx_to = 9223372036854775807;
    IF latest IS NULL OR latest > expected THEN
        latest := coalesce(latest, 0);
        RETURN;
    END IF;
    beyond := latest;
{% if not relationships %}
    SELECT greatest(
        latest,
        (SELECT max(r.tx_from) FROM {{ schema }}.relationships AS r
          WHERE r.tenant_id = asking AND r.from_entity = subject AND r.tx_to = 9223372036854775807),
        (SELECT max(r.tx_from) FROM {{ schema }}.relationships AS r
          WHERE r.tenant_id = asking AND r.to_entity = subject AND r.tx_to = 9223372036854775807)) INTO beyond;
{% endif %}
    SELECT t.tx, t.at INTO tx, at FROM {{ schema }}.tick_once(asking, beyond) AS t;
    UPDATE {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v
       SET tx_to = withdraw_{% if relationships %}relationship{% else %}entity{% endif %}.tx,
           transaction_time_end = withdraw_{% if relationships %}relationship{% else %}entity{% endif %}.at
     WHERE v.tenant_id = asking AND v.{% if relationships %}relationship_id{% else %}entity_id{% endif %} = subject
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS closed = ROW_COUNT;
{% if not relationships %}
    UPDATE {{ schema }}.relationships AS v SET tx_to = withdraw_entity.tx, transaction_time_end = withdraw_entity.at
     WHERE v.tenant_id = asking AND (v.from_entity = subject OR v.to_entity = subject)
       AND v.tx_to = 9223372036854775807;
    GET DIAGNOSTICS relationships_closed = ROW_COUNT;
{% endif %}
    IF actor IS NOT NULL OR reason IS NOT NULL OR sources <> '[]' THEN
        -- Two of them in one transaction are one tick, whose row keeps what was said first.
        INSERT INTO {{ schema }}.graph_transactions (tenant_id, tx, at, actor, reason, sources)
        VALUES (asking, tx, at, actor, reason, sources)
        ON CONFLICT ON CONSTRAINT graph_transactions_pkey DO NOTHING;
    END IF;
END
$function$;
COMMENT ON FUNCTION {{ schema }}.withdraw_{% if relationships %}relationship{% else %}entity{% endif %}(uuid, bigint, text, text, jsonb) IS
    'Ends the belief in {% if relationships %}a relationship{% else %}an entity and every relationship that touches it{% endif %}, in one tick, over the quota too.';
{% endfor %}
SET LOCAL ROLE {{ owner }};
