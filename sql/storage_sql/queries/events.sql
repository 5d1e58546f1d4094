-- Appends take the tenant's clock first and hold it until they commit: positions and times grow in the order of the
-- commits. With an expectation the clock is only locked until the stream is known to be where it is expected, so that a
-- refused append leaves no gap; it gives no row.

-- name: append
-- in: event_id uuid, event_type text, stream text, correlation_id text, occurred_at timestamptz, language text, payload jsonb, expected bigint, keyed boolean
SELECT a.made_sequence, a.made_position, a.made_at
  FROM {{ schema }}.append_event(:event_id, :event_type, :stream, :correlation_id, :occurred_at, :language, :payload,
                                 :expected, :keyed) AS a
 WHERE a.made_sequence IS NOT NULL

-- A batch goes as several statements in one transaction, so that the server writes the first events while the next ones are
-- put together: `take` takes the clock for all of them and moves the heads, then each `write` fills a part of their places.
-- An expectation of -1 is none. One that fails only because its stream was made meanwhile breaks the check on heads, so
-- that nothing is written either.
-- name: take
-- in: total bigint, streams text[], counts bigint[], expected bigint[]
WITH wanted AS MATERIALIZED (
    SELECT w.stream, w.added{% if expecting %}, w.expected{% endif %}

      FROM unnest(:streams, :counts{% if expecting %}, :expected{% endif %}) AS w (stream, added{% if expecting %}, expected{% endif %})
)
{% if expecting %}
, locked AS MATERIALIZED (
    SELECT c.n, greatest(clock_timestamp(), c.at + interval '1 microsecond') AS at
      FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant FOR UPDATE
), present AS MATERIALIZED (
    SELECT s.stream, s.head FROM {{ schema }}.event_streams AS s
     WHERE s.tenant_id = :tenant AND s.stream = ANY (:streams) AND EXISTS (SELECT FROM locked) FOR UPDATE
), clock AS (
    UPDATE {{ schema }}.tenant_clock AS c
       SET n = locked.n + :total, at = locked.at + (:total - 1) * interval '1 microsecond'
      FROM locked
     WHERE c.tenant_id = :tenant
       AND NOT EXISTS (SELECT FROM wanted AS w LEFT JOIN present AS p ON p.stream = w.stream
                        WHERE w.expected >= 0 AND w.expected <> coalesce(p.head, 0))
    RETURNING c.n - :total AS n, locked.at
)
{% else %}
, clock AS (
    INSERT INTO {{ schema }}.tenant_clock AS old (tenant_id, n, at)
    VALUES (:tenant, :total, clock_timestamp() + (:total - 1) * interval '1 microsecond')
    ON CONFLICT (tenant_id) DO UPDATE
        SET n = old.n + :total,
            at = greatest(clock_timestamp(), old.at + interval '1 microsecond') + (:total - 1) * interval '1 microsecond'
    RETURNING n - :total AS n, at - (:total - 1) * interval '1 microsecond' AS at
)
{% endif %}
, heads AS (
    INSERT INTO {{ schema }}.event_streams AS old (tenant_id, stream, head, created_at)
    SELECT :tenant, w.stream, w.added, clock.at FROM clock, wanted AS w
    ON CONFLICT (tenant_id, stream) DO UPDATE
{% if expecting %}
        SET head = CASE WHEN (SELECT w.expected FROM wanted AS w WHERE w.stream = old.stream) IN (-1, old.head)
                        THEN old.head + excluded.head ELSE -1 END
{% else %}
        SET head = old.head + excluded.head
{% endif %}
    RETURNING stream, head
)
SELECT h.stream, h.head, clock.n, clock.at FROM heads AS h, clock

-- A part of a batch of `total` events, of which `done` are in parts before this one. Nothing is written unless `take` moved the clock
-- in this transaction. With several streams `streams` are those of this part, each with `counts` events of the batch; each event
-- has its stream, the place of that among them (`members`) and its own among the events of its stream in the batch
-- (`numbers`). Heads are looked up one by one: a plan that is kept cannot know how few they are. Columns in which all
-- events of the batch are alike come as one value, or not at all. With `ids` the given ids are remembered; `places` are
-- where they stand in the part. The arrays are taken apart in the list of what is selected: in FROM all rows would be
-- written down first.
-- name: write
-- in: total bigint, done bigint, size bigint, places bigint[], event_ids uuid[], type text, types text[], correlation text, correlations text[], stream text, names text[], streams text[], counts bigint[], members bigint[], numbers bigint[], occurred timestamptz[], language text, languages text[], payloads jsonb[]
WITH start AS MATERIALIZED (
    SELECT c.n - :total + :done AS n, c.at - (:total - :done) * interval '1 microsecond' AS at,
{% if several %}
           ARRAY(SELECT (SELECT s.head FROM {{ schema }}.event_streams AS s
                          WHERE s.tenant_id = :tenant AND s.stream = w.stream) - w.added
                   FROM unnest(:streams, :counts) WITH ORDINALITY AS w (stream, added, member)
                  ORDER BY w.member) AS heads
{% else %}
           (SELECT s.head FROM {{ schema }}.event_streams AS s
             WHERE s.tenant_id = :tenant AND s.stream = :stream) - :total + :done AS head
{% endif %}
      FROM {{ schema }}.tenant_clock AS c
     WHERE c.tenant_id = :tenant AND c.xmin = pg_current_xact_id()::xid
)
{% if ids %}
INSERT INTO {{ schema }}.event_ids (tenant_id, event_id, stream, sequence, position, timestamp)
{% else %}
INSERT INTO {{ schema }}.event_log
    (tenant_id, event_id, stream, sequence, position, timestamp, event_type, correlation_id, occurred_at, language, payload)
{% endif %}
SELECT :tenant, e.event_id,
       {% if several %}e.stream, start.heads[e.member::integer] + e.number{% else %}:stream, start.head + e.place{% endif %},
       start.n + e.place, start.at + e.place * interval '1 microsecond'
{% if not ids %}
       , {% if types %}e.event_type{% else %}:type::text{% endif %}, {% if correlations %}e.correlation_id{% else %}:correlation::text{% endif %},
       {% if occurred %}coalesce(e.occurred_at, start.at + e.place * interval '1 microsecond'){% else %}start.at + e.place * interval '1 microsecond'{% endif %},
       {% if languages %}e.language{% else %}:language::text{% endif %}, e.payload
{% endif %}
  FROM start
 CROSS JOIN (
    SELECT unnest(:event_ids::uuid[]) AS event_id,
           {% if ids %}unnest(:places::bigint[]){% else %}generate_series(1, :size::bigint){% endif %} AS place
{% if several %}
           , unnest(:names::text[]) AS stream, unnest(:members::bigint[]) AS member, unnest(:numbers::bigint[]) AS number
{% endif %}
{% if not ids %}
           , unnest(:payloads::jsonb[]) AS payload
           {%- if types %}, unnest(:types::text[]) AS event_type{% endif %}
           {%- if correlations %}, unnest(:correlations::text[]) AS correlation_id{% endif %}
           {%- if occurred %}, unnest(:occurred::timestamptz[]) AS occurred_at{% endif %}
           {%- if languages %}, unnest(:languages::text[]) AS language{% endif %}

{% endif %}
 ) AS e

-- name: make_clock
INSERT INTO {{ schema }}.tenant_clock (tenant_id) VALUES (:tenant) ON CONFLICT (tenant_id) DO NOTHING

-- name: known
-- in: event_ids uuid[]
SELECT event_id, stream, sequence, position, timestamp FROM {{ schema }}.event_ids
 WHERE tenant_id = :tenant AND event_id = ANY (:event_ids)

-- name: heads
-- in: streams text[]
SELECT stream, head FROM {{ schema }}.event_streams WHERE tenant_id = :tenant AND stream = ANY (:streams)

-- name: clock
SELECT n, at FROM {{ schema }}.tenant_clock WHERE tenant_id = :tenant

-- Sequences, positions and times grow together: the order is taken from the column whose index is at hand, and every
-- bound in time leaves partitions out.
-- name: events
-- in: stream text, after_sequence bigint, before_sequence bigint, correlation_id text, event_type text, types text[], since timestamptz, until timestamptz, after bigint, after_time timestamptz, most bigint
SELECT event_id, event_type, stream, sequence, position, correlation_id, timestamp, occurred_at, language, payload
  FROM {{ schema }}.event_log
 WHERE tenant_id = :tenant
{% if of_stream %}
   AND stream = :stream AND sequence > :after_sequence AND sequence < :before_sequence
{% endif %}
{% if of_correlation %}
   AND correlation_id = :correlation_id
{% endif %}
{% if of_type %}
   AND event_type = :event_type
{% endif %}
{% if of_types %}
   AND event_type = ANY (:types)
{% endif %}
{% if from_time %}
   AND timestamp >= :since
{% endif %}
{% if to_time %}
   AND timestamp < :until
{% endif %}
{% if from_place %}
   AND position {% if newest_first %}<{% else %}>{% endif %} :after
{% endif %}
{% if from_place_time %}
   AND timestamp {% if newest_first %}<={% else %}>={% endif %} :after_time
{% endif %}
 ORDER BY {% if by_sequence %}sequence{% elif by_timestamp %}timestamp{% else %}position{% endif %}{% if newest_first %} DESC{% endif %}

 LIMIT :most

-- A prefix is a range, because a plan that is kept for any prefix cannot turn ^@ into one. No name is longer than 255.
-- name: streams
-- in: prefix text, after text, most bigint
SELECT stream, head, created_at FROM {{ schema }}.event_streams
 WHERE tenant_id = :tenant AND stream >= :prefix AND stream <= :prefix || repeat(chr(1114111), 255) AND stream > :after
 ORDER BY stream LIMIT :most

-- name: statistics
WITH counted AS MATERIALIZED (
    SELECT event_type, count(*) AS events, min(timestamp) AS first_at, max(timestamp) AS last_at
      FROM {{ schema }}.event_log WHERE tenant_id = :tenant GROUP BY event_type
), listed AS (
    SELECT event_type, events FROM counted ORDER BY events DESC, event_type LIMIT 1000
)
SELECT coalesce((SELECT sum(events) FROM counted), 0)::bigint,
       (SELECT count(*) FROM {{ schema }}.event_streams WHERE tenant_id = :tenant),
       coalesce((SELECT n FROM {{ schema }}.tenant_clock WHERE tenant_id = :tenant), 0),
       (SELECT min(first_at) FROM counted),
       (SELECT max(last_at) FROM counted),
       ARRAY(SELECT event_type FROM listed ORDER BY events DESC, event_type),
       ARRAY(SELECT events FROM listed ORDER BY events DESC, event_type)

-- name: checkpoint
-- in: consumer text, position bigint, rewind boolean
INSERT INTO {{ schema }}.event_consumers AS old (tenant_id, consumer, position, updated_at)
SELECT :tenant, :consumer, :position, clock_timestamp()
 WHERE :position <= coalesce((SELECT c.n FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant), 0)
ON CONFLICT (tenant_id, consumer) DO UPDATE
    SET position = CASE WHEN :rewind THEN excluded.position ELSE greatest(old.position, excluded.position) END,
        updated_at = excluded.updated_at
RETURNING position

-- name: position
-- in: consumer text
SELECT position FROM {{ schema }}.event_consumers WHERE tenant_id = :tenant AND consumer = :consumer

-- name: consumers
-- in: after text, most bigint
SELECT consumer, position, updated_at FROM {{ schema }}.event_consumers
 WHERE tenant_id = :tenant AND consumer > :after ORDER BY consumer LIMIT :most

-- name: forget_consumer
-- in: consumer text
DELETE FROM {{ schema }}.event_consumers WHERE tenant_id = :tenant AND consumer = :consumer RETURNING consumer

-- name: forget_ids
-- in: before timestamptz, most bigint
WITH gone AS (
    DELETE FROM {{ schema }}.event_ids AS i
     WHERE i.tenant_id = :tenant AND i.event_id IN (
        SELECT o.event_id FROM {{ schema }}.event_ids AS o
         WHERE o.tenant_id = :tenant AND o.timestamp < :before LIMIT :most)
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: erase_stream
-- in: stream text, reason text
SELECT {{ schema }}.erase_stream(:stream, :reason)
