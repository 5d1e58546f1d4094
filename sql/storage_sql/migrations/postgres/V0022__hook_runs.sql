-- name: hook_runs
-- role: owner
-- transactional: yes

-- Ids that callers gave to events, so that a second attempt is recognized: the key of a table that is
-- partitioned by time cannot.
CREATE TABLE {{ schema }}.event_ids (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    event_id uuid NOT NULL,
    stream text COLLATE "C" NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    sequence bigint NOT NULL CHECK (sequence > 0),
    position bigint NOT NULL CHECK (position > 0),
    timestamp timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);
SELECT {{ schema }}.protect_table(format('%I.event_ids', {{ schema_name }}));

CREATE TABLE {{ schema }}.event_consumers (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    consumer text COLLATE "C" NOT NULL CHECK (length(consumer) BETWEEN 1 AND 255),
    position bigint NOT NULL CHECK (position >= 0),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, consumer)
) WITH (fillfactor = 50);
SELECT {{ schema }}.protect_table(format('%I.event_consumers', {{ schema_name }}));

-- Hooks often take less than a millisecond; rows from before have only duration_ms.
ALTER TABLE {{ schema }}.hook_history
    ADD COLUMN duration_us bigint CONSTRAINT hook_history_duration_us CHECK (duration_us >= 0),
    ADD COLUMN failed boolean NOT NULL DEFAULT false;
-- No release has written executions yet, so that these indexes are made over an empty table.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX hook_history_type ON {{ schema }}.hook_history (tenant_id, hook_type, timestamp);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX hook_history_component ON {{ schema }}.hook_history (tenant_id, triggering_component, timestamp);
SELECT {{ schema }}.protect_table(format('%I.hook_history', {{ schema_name }}), true);

SET LOCAL ROLE {{ maintenance }};
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
    DELETE FROM {{ schema }}.event_log AS e WHERE e.tenant_id = asking AND e.stream = subject;
    GET DIAGNOSTICS erased = ROW_COUNT;
    DELETE FROM {{ schema }}.event_ids AS i WHERE i.tenant_id = asking AND i.stream = subject;
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'stream', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;

-- Removes executions of a priority below `protected_from`: those that ran before `ended_before`, and the lowest in
-- order of priority and time until `keep` executions, with `keep_bytes` of stored contexts, remain. NULL is no bound.
-- At most `most` rows a call.
CREATE FUNCTION {{ schema }}.retain_hook_executions(
    protected_from bigint, ended_before timestamptz, keep bigint, keep_bytes bigint, most bigint, reason text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    asking constant text := {{ schema }}.current_tenant();
    removed bigint;
BEGIN
    IF asking IS NULL THEN
        RAISE EXCEPTION 'no tenant entered' USING ERRCODE = '42501';
    END IF;
    IF keep IS NULL AND keep_bytes IS NULL THEN
        DELETE FROM {{ schema }}.hook_history AS h
         WHERE h.tenant_id = asking AND h.execution_id IN (
            SELECT o.execution_id FROM {{ schema }}.hook_history AS o
             WHERE o.tenant_id = asking AND o.timestamp < ended_before
               AND (protected_from IS NULL OR o.retention_priority < protected_from)
             ORDER BY o.retention_priority, o.timestamp, o.execution_id LIMIT most);
    ELSE
        DELETE FROM {{ schema }}.hook_history AS h
         WHERE h.tenant_id = asking AND h.execution_id IN (
            SELECT r.execution_id
              FROM (SELECT o.execution_id, o.retention_priority, o.timestamp,
                           o.timestamp < ended_before
                               AND (protected_from IS NULL OR o.retention_priority < protected_from) AS aged,
                           count(*) OVER ranking AS place,
                           sum(length(o.hook_context)) OVER ranking AS bytes
                      FROM {{ schema }}.hook_history AS o
                     WHERE o.tenant_id = asking
                    WINDOW ranking AS (
                        ORDER BY o.timestamp < ended_before
                                     AND (protected_from IS NULL OR o.retention_priority < protected_from) IS TRUE,
                                 o.retention_priority DESC, o.timestamp DESC, o.execution_id DESC
                        ROWS UNBOUNDED PRECEDING)) AS r
             WHERE (protected_from IS NULL OR r.retention_priority < protected_from)
               AND (r.aged OR r.place > keep OR r.bytes > keep_bytes)
             ORDER BY r.retention_priority, r.timestamp, r.execution_id LIMIT most);
    END IF;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
        INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
        VALUES (asking, 'hooks', sha256(convert_to('retention', 'UTF8')), removed, reason);
    END IF;
    RETURN removed;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.event_ids IS 'Ids that callers gave to events, and where those went.';
COMMENT ON COLUMN {{ schema }}.event_ids.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.event_ids.event_id IS 'The id.';
COMMENT ON COLUMN {{ schema }}.event_ids.stream IS 'Stream of the event.';
COMMENT ON COLUMN {{ schema }}.event_ids.sequence IS 'Version of the stream that it made.';
COMMENT ON COLUMN {{ schema }}.event_ids.position IS 'Tick of the tenant''s clock that it was recorded in.';
COMMENT ON COLUMN {{ schema }}.event_ids.timestamp IS 'When it was recorded.';
COMMENT ON TABLE {{ schema }}.event_consumers IS 'How far the readers of the event log have come.';
COMMENT ON COLUMN {{ schema }}.event_consumers.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.event_consumers.consumer IS 'Name of the reader.';
COMMENT ON COLUMN {{ schema }}.event_consumers.position IS 'The last position it has dealt with.';
COMMENT ON COLUMN {{ schema }}.event_consumers.updated_at IS 'When it last said so.';
COMMENT ON COLUMN {{ schema }}.hook_history.duration_us IS 'How long it ran, in microseconds; NULL in rows that only have duration_ms.';
COMMENT ON COLUMN {{ schema }}.hook_history.failed IS 'Whether the hook ended with an error.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.retain_hook_executions(bigint, timestamptz, bigint, bigint, bigint, text) IS 'Removes executions of low priority, oldest first, and leaves a trace.';
SET LOCAL ROLE {{ owner }};
