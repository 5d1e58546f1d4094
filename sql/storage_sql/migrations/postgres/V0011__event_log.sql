-- name: event_log
-- role: owner
-- transactional: yes

-- Where a stream's versions are allotted: one row a stream, locked by each append to it. It outlives
-- the partitions its events were in.
CREATE TABLE {{ schema }}.event_streams (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    stream text COLLATE "C" NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    head bigint NOT NULL DEFAULT 0 CHECK (head >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, stream)
) WITH (fillfactor = 50);
SELECT {{ schema }}.protect_table(format('%I.event_streams', {{ schema_name }}));

CREATE TABLE {{ schema }}.event_log (
    tenant_id text COLLATE "C" NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    event_id uuid NOT NULL,
    event_type text COLLATE "C" NOT NULL CHECK (length(event_type) BETWEEN 1 AND 255),
    correlation_id text COLLATE "C" NOT NULL CHECK (length(correlation_id) BETWEEN 1 AND 255),
    stream text COLLATE "C" NOT NULL CHECK (length(stream) BETWEEN 1 AND 255),
    sequence bigint NOT NULL CHECK (sequence > 0),
    position bigint NOT NULL CHECK (position > 0),
    timestamp timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    language text COLLATE "C" NOT NULL CHECK (length(language) <= 50),
    payload jsonb NOT NULL,
    PRIMARY KEY (tenant_id, timestamp, event_id)
) PARTITION BY RANGE (timestamp);
CREATE INDEX event_log_position ON {{ schema }}.event_log (tenant_id, position);
CREATE INDEX event_log_stream ON {{ schema }}.event_log (tenant_id, stream, sequence);
CREATE INDEX event_log_correlation ON {{ schema }}.event_log (tenant_id, correlation_id, timestamp);
CREATE INDEX event_log_type ON {{ schema }}.event_log (tenant_id, event_type, timestamp);
SELECT {{ schema }}.protect_table(format('%I.event_log', {{ schema_name }}), true);

CREATE FUNCTION {{ schema }}.event_partitions(
    OUT partition_name text, OUT from_time timestamptz, OUT to_time timestamptz)
RETURNS SETOF record
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
    SELECT c.relname::text, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
      FROM pg_inherits AS i
      JOIN pg_class AS c ON c.oid = i.inhrelid
     CROSS JOIN LATERAL regexp_match(
           pg_get_expr(c.relpartbound, c.oid), '^FOR VALUES FROM \(''([^'']+)''\) TO \(''([^'']+)''\)$') AS b (bounds)
     WHERE i.inhparent = to_regclass(format('%I.event_log', {{ schema_name }}))
     ORDER BY 2
$function$;

-- Makes the partition of one UTC month, ISO week or day and returns its name; an existing one is
-- returned as it is. Attached when it is already protected, so that appends are not blocked.
CREATE FUNCTION {{ schema }}.create_event_partition(from_time timestamptz, to_time timestamptz) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
    parent constant text := format('%I.event_log', {{ schema_name }});
    leaf_name constant text := CASE
        WHEN from_time = date_trunc('month', from_time) AND to_time = from_time + interval '1 month'
            THEN to_char(from_time, '"event_log_"YYYY_MM')
        WHEN from_time = date_trunc('week', from_time) AND to_time = from_time + interval '7 days'
            THEN to_char(from_time, '"event_log_"IYYY"w"IW')
        WHEN from_time = date_trunc('day', from_time) AND to_time = from_time + interval '1 day'
            THEN to_char(from_time, '"event_log_"YYYY_MM_DD')
        END;
    leaf constant text := format('%I.%I', {{ schema_name }}, leaf_name);
BEGIN
    IF leaf_name IS NULL THEN
        RAISE EXCEPTION 'an event partition is one UTC month, ISO week or day, not % to %', from_time, to_time
            USING ERRCODE = '22023';
    END IF;
    IF EXISTS (SELECT FROM {{ schema }}.event_partitions() AS p
                WHERE p.from_time = create_event_partition.from_time AND p.to_time = create_event_partition.to_time) THEN
        RETURN leaf_name;
    END IF;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING ALL) WITH (autovacuum_vacuum_scale_factor = 0.05,'
        ' autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 10,'
        ' autovacuum_vacuum_cost_limit = 1000)', leaf, parent);
    PERFORM {{ schema }}.protect_table(leaf, true);
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', parent, leaf, from_time, to_time);
    RETURN leaf_name;
END
$function$;

-- Keeps partitions from the current unit ('day', 'week' or 'month') to `ahead` units after it, and
-- returns the names of those it made. After a change of the unit, days fill what lies between.
CREATE FUNCTION {{ schema }}.ensure_event_partitions(unit text DEFAULT 'month', ahead integer DEFAULT 3) RETURNS text[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $function$
DECLARE
    step constant interval := CASE unit
        WHEN 'day' THEN interval '1 day' WHEN 'week' THEN interval '7 days' WHEN 'month' THEN interval '1 month' END;
    lower_bound timestamptz := date_trunc(unit, now());
    horizon timestamptz;
    upper_bound timestamptz;
    covered timestamptz;
    next_start timestamptz;
    made text[] := '{}';
BEGIN
    IF step IS NULL OR ahead IS NULL OR ahead NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'unit must be day, week or month and ahead from 0 to 366, not % and %', unit, ahead
            USING ERRCODE = '22023';
    END IF;
    horizon := date_trunc(unit, now()) + (ahead + 1) * step;
    WHILE lower_bound < horizon LOOP
        SELECT p.to_time INTO covered FROM {{ schema }}.event_partitions() AS p
         WHERE p.from_time <= lower_bound AND p.to_time > lower_bound;
        IF FOUND THEN
            lower_bound := covered;
            CONTINUE;
        END IF;
        SELECT min(p.from_time) INTO next_start FROM {{ schema }}.event_partitions() AS p
         WHERE p.from_time > lower_bound;
        upper_bound := lower_bound + step;
        IF lower_bound <> date_trunc(unit, lower_bound) OR upper_bound > next_start THEN
            upper_bound := lower_bound + interval '1 day';
        END IF;
        made := made || {{ schema }}.create_event_partition(lower_bound, upper_bound);
        lower_bound := upper_bound;
    END LOOP;
    RETURN made;
END
$function$;
SELECT {{ schema }}.ensure_event_partitions('month', 3);

SET LOCAL ROLE {{ maintenance }};
CREATE FUNCTION {{ schema }}.erase_stream(subject text, reason text) RETURNS bigint
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
    INSERT INTO {{ schema }}.erasures (tenant_id, kind, subject_hash, rows_erased, reason)
    VALUES (asking, 'stream', sha256(convert_to(subject, 'UTF8')), erased, reason);
    RETURN erased;
END
$function$;
SET LOCAL ROLE {{ owner }};

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.event_streams IS 'The last version of each event stream.';
COMMENT ON COLUMN {{ schema }}.event_streams.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.event_streams.stream IS 'Name of the stream.';
COMMENT ON COLUMN {{ schema }}.event_streams.head IS 'Version of its last event.';
COMMENT ON COLUMN {{ schema }}.event_streams.created_at IS 'When the row was first written.';
COMMENT ON TABLE {{ schema }}.event_log IS 'Events, append-only, partitioned by recording time.';
COMMENT ON COLUMN {{ schema }}.event_log.tenant_id IS 'The tenant that owns the row; first in every key.';
COMMENT ON COLUMN {{ schema }}.event_log.event_id IS 'Id of the event.';
COMMENT ON COLUMN {{ schema }}.event_log.event_type IS 'Kind of event.';
COMMENT ON COLUMN {{ schema }}.event_log.correlation_id IS 'What the event belongs to.';
COMMENT ON COLUMN {{ schema }}.event_log.stream IS 'Stream the event is in; the correlation id unless the caller names one.';
COMMENT ON COLUMN {{ schema }}.event_log.sequence IS 'Version of the stream that this event made; no gaps.';
COMMENT ON COLUMN {{ schema }}.event_log.position IS 'Tick of the tenant''s clock: order over all streams.';
COMMENT ON COLUMN {{ schema }}.event_log.timestamp IS 'When the server recorded the event; the partition key.';
COMMENT ON COLUMN {{ schema }}.event_log.occurred_at IS 'When it happened, by the caller.';
COMMENT ON COLUMN {{ schema }}.event_log.language IS 'Language of the script that raised it.';
COMMENT ON COLUMN {{ schema }}.event_log.payload IS 'The event.';
COMMENT ON FUNCTION {{ schema }}.event_partitions() IS 'The partitions of event_log and their bounds.';
COMMENT ON FUNCTION {{ schema }}.create_event_partition(timestamptz, timestamptz) IS 'Makes the partition of one UTC month, ISO week or day.';
COMMENT ON FUNCTION {{ schema }}.ensure_event_partitions(text, integer) IS 'Keeps partitions ahead of now.';
SET LOCAL ROLE {{ maintenance }};
COMMENT ON FUNCTION {{ schema }}.erase_stream(text, text) IS 'Removes the events of a stream and leaves a trace.';
SET LOCAL ROLE {{ owner }};
