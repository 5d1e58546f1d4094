-- Writing. A write is several statements in one transaction and one round trip: the clock's row is locked, so that what
-- the next one reads stays true; the tick is taken only when nothing stands in the way; what follows finds the tick of
-- this transaction, or does nothing.

-- Locks the clock without changing it, and makes it when it is not there.
-- name: lock
INSERT INTO {{ schema }}.tenant_clock AS c (tenant_id) VALUES (:tenant)
ON CONFLICT (tenant_id) DO UPDATE SET n = c.n WHERE false

-- name: clock
SELECT coalesce(max(c.n), 0), greatest(clock_timestamp(), max(c.at))
  FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant

-- `given_*` are ids that the caller chose, `ends` entities that are not added along with their relationships.
-- name: tick_to_add
-- in: given_entities uuid[], given_relationships uuid[], ends uuid[]
WITH taken AS MATERIALIZED (
    SELECT a.id FROM unnest(:given_entities) AS a (id)
     WHERE EXISTS (SELECT FROM {{ schema }}.entities AS v
                    WHERE v.tenant_id = :tenant AND v.entity_id = a.id AND v.tx_to = 9223372036854775807)
    UNION ALL
    SELECT a.id FROM unnest(:given_relationships) AS a (id)
     WHERE EXISTS (SELECT FROM {{ schema }}.relationships AS v
                    WHERE v.tenant_id = :tenant AND v.relationship_id = a.id AND v.tx_to = 9223372036854775807)
), missing AS MATERIALIZED (
    SELECT a.id FROM unnest(:ends) AS a (id)
     WHERE NOT EXISTS (SELECT FROM {{ schema }}.entities AS v
                        WHERE v.tenant_id = :tenant AND v.entity_id = a.id AND v.tx_to = 9223372036854775807)
), tick AS (
    UPDATE {{ schema }}.tenant_clock AS c
       SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
     WHERE c.tenant_id = :tenant AND NOT EXISTS (SELECT FROM taken) AND NOT EXISTS (SELECT FROM missing)
    RETURNING c.n, c.at
)
SELECT (SELECT tick.n FROM tick), (SELECT tick.at FROM tick),
       (SELECT array_agg(taken.id ORDER BY taken.id) FROM taken),
       (SELECT array_agg(missing.id ORDER BY missing.id) FROM missing)

-- name: insert_entities
-- in: ids uuid[], types text[], names text[], properties jsonb[], valid_from timestamptz[], valid_to timestamptz[], hashes bytea[]
INSERT INTO {{ schema }}.entities (
    tenant_id, entity_id, entity_type, name, properties, valid_time_start, valid_time_end, embedding_hash,
    transaction_time_start, tx_from)
SELECT :tenant, n.id, n.type, n.name, n.properties, coalesce(n.valid_from, tick.at), n.valid_to, n.hash, tick.at, tick.n
  FROM {{ schema }}.tenant_clock AS tick
 CROSS JOIN unnest(:ids, :types, :names, :properties, :valid_from, :valid_to, :hashes)
       AS n (id, type, name, properties, valid_from, valid_to, hash)
 WHERE tick.tenant_id = :tenant AND tick.n > 0 AND tick.xmin = pg_current_xact_id()::xid

-- name: insert_relationships
-- in: ids uuid[], near uuid[], far uuid[], types text[], properties jsonb[], valid_from timestamptz[], valid_to timestamptz[]
INSERT INTO {{ schema }}.relationships (
    tenant_id, relationship_id, from_entity, to_entity, relationship_type, properties, valid_time_start, valid_time_end,
    transaction_time_start, tx_from)
SELECT :tenant, n.id, n.near, n.far, n.type, n.properties, coalesce(n.valid_from, tick.at), n.valid_to, tick.at, tick.n
  FROM {{ schema }}.tenant_clock AS tick
 CROSS JOIN unnest(:ids, :near, :far, :types, :properties, :valid_from, :valid_to)
       AS n (id, near, far, type, properties, valid_from, valid_to)
 WHERE tick.tenant_id = :tenant AND tick.n > 0 AND tick.xmin = pg_current_xact_id()::xid

-- name: insert_embeddings
-- in: ids uuid[], hashes bytea[], embeddings vector[]
INSERT INTO {{ schema }}.graph_embeddings (tenant_id, entity_id, embedding_hash, dimension, embedding)
SELECT :tenant, n.id, n.hash, {{ extensions }}.vector_dims(n.embedding), n.embedding
  FROM {{ schema }}.tenant_clock AS tick
 CROSS JOIN unnest(:ids, :hashes, :embeddings::{{ extensions }}.vector[]) AS n (id, hash, embedding)
 WHERE tick.tenant_id = :tenant AND tick.n > 0 AND tick.xmin = pg_current_xact_id()::xid
ON CONFLICT (tenant_id, entity_id, embedding_hash) DO NOTHING

-- name: note
-- in: actor text, reason text, sources jsonb
INSERT INTO {{ schema }}.graph_transactions (tenant_id, tx, at, actor, reason, sources)
SELECT :tenant, tick.n, tick.at, :actor, :reason, :sources
  FROM {{ schema }}.tenant_clock AS tick
 WHERE tick.tenant_id = :tenant AND tick.n > 0 AND tick.xmin = pg_current_xact_id()::xid

-- `anywhere`: whether a revision may touch time of which nothing is known.
-- name: tick_to_revise
-- in: subject uuid, valid_from timestamptz, valid_to timestamptz, expected bigint, anywhere boolean
WITH start AS MATERIALIZED (
    SELECT coalesce(:valid_from, greatest(clock_timestamp(), c.at + interval '1 microsecond')) AS at
      FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant
), known AS MATERIALIZED (
    SELECT max(v.tx_from) AS latest, coalesce(bool_or(v.valid_time_start < :valid_to AND v.valid_time_end > start.at), false) AS touched
      FROM {{ schema }}.{% if relationships %}relationships{% else %}entities{% endif %} AS v CROSS JOIN start
     WHERE v.tenant_id = :tenant AND v.{% if relationships %}relationship_id{% else %}entity_id{% endif %} = :subject
       AND v.tx_to = 9223372036854775807
), tick AS (
    UPDATE {{ schema }}.tenant_clock AS c
       SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 microsecond')
      FROM known, start
     WHERE c.tenant_id = :tenant AND known.latest <= coalesce(:expected, known.latest)
       AND (known.touched OR :anywhere) AND start.at < :valid_to
    RETURNING c.n, c.at
)
SELECT coalesce(known.latest, 0), start.at >= :valid_to, tick.n, tick.at
  FROM known CROSS JOIN start LEFT JOIN tick ON true

-- The functions tick once a transaction: they find the tick above. Their arguments hang on its row, so that they are
-- not called without one.
-- name: close
-- in: subject uuid, valid_from timestamptz, valid_to timestamptz
SELECT ended.closed FROM {{ schema }}.tenant_clock AS tick
 CROSS JOIN LATERAL {{ schema }}.close_{% if relationships %}relationship{% else %}entity{% endif %}_versions(
     CASE WHEN tick.n > 0 THEN :subject END, coalesce(:valid_from, tick.at), :valid_to) AS ended
 WHERE tick.tenant_id = :tenant AND tick.n > 0 AND tick.xmin = pg_current_xact_id()::xid

-- name: withdraw
-- in: subject uuid, expected bigint, actor text, reason text, sources jsonb
SELECT w.latest, w.tx, w.at, w.closed, w.relationships_closed
  FROM {{ schema }}.withdraw_{% if relationships %}relationship{% else %}entity{% endif %}(
      :subject, :expected, :actor, :reason, :sources) AS w

-- What is left of the ended versions outside the range, and what the revision says inside it.
-- name: reopen_entity
-- in: subject uuid, valid_from timestamptz, valid_to timestamptz, type text, name text, properties jsonb, hash bytea
WITH tick AS MATERIALIZED (
    SELECT c.n, c.at, coalesce(:valid_from, c.at) AS start
      FROM {{ schema }}.tenant_clock AS c
     WHERE c.tenant_id = :tenant AND c.n > 0 AND c.xmin = pg_current_xact_id()::xid
), ended AS MATERIALIZED (
    SELECT v.* FROM {{ schema }}.entities AS v, tick
     WHERE v.tenant_id = :tenant AND v.entity_id = :subject AND v.tx_to = tick.n
), made AS (
    SELECT e.entity_type, e.name, e.properties, e.embedding_hash, e.valid_time_start AS start, tick.start AS stop
      FROM ended AS e, tick WHERE e.valid_time_start < tick.start
    UNION ALL
    SELECT e.entity_type, e.name, e.properties, e.embedding_hash, :valid_to, e.valid_time_end
      FROM ended AS e WHERE e.valid_time_end > :valid_to
{% if amends %}
    UNION ALL
    SELECT coalesce(:type, e.entity_type), coalesce(:name, e.name),
           {% if merges %}e.properties || :properties{% else %}coalesce(:properties, e.properties){% endif %},
           {% if keeps %}e.embedding_hash{% else %}:hash{% endif %},
           greatest(e.valid_time_start, tick.start), least(e.valid_time_end, :valid_to)
      FROM ended AS e, tick
{% elif corrects %}
    UNION ALL
    SELECT :type, :name, :properties, :hash, tick.start, :valid_to FROM tick
{% endif %}
), inserted AS (
    INSERT INTO {{ schema }}.entities (
        tenant_id, entity_id, entity_type, name, properties, embedding_hash, valid_time_start, valid_time_end,
        transaction_time_start, tx_from)
    SELECT :tenant, :subject, m.entity_type, m.name, m.properties, m.embedding_hash, m.start, m.stop, tick.at, tick.n
      FROM made AS m, tick
    RETURNING 1
)
SELECT count(*) FROM inserted

-- `ended` holds what a correction may find nothing of, so that the ends are read from any version that was current.
-- name: reopen_relationship
-- in: subject uuid, valid_from timestamptz, valid_to timestamptz, type text, properties jsonb
WITH tick AS MATERIALIZED (
    SELECT c.n, c.at, coalesce(:valid_from, c.at) AS start
      FROM {{ schema }}.tenant_clock AS c
     WHERE c.tenant_id = :tenant AND c.n > 0 AND c.xmin = pg_current_xact_id()::xid
), ended AS MATERIALIZED (
    SELECT v.* FROM {{ schema }}.relationships AS v, tick
     WHERE v.tenant_id = :tenant AND v.relationship_id = :subject AND v.tx_to = tick.n
), ends AS MATERIALIZED (
    SELECT v.from_entity, v.to_entity FROM {{ schema }}.relationships AS v, tick
     WHERE v.tenant_id = :tenant AND v.relationship_id = :subject AND v.tx_to >= tick.n LIMIT 1
), made AS (
    SELECT e.relationship_type, e.properties, e.valid_time_start AS start, tick.start AS stop
      FROM ended AS e, tick WHERE e.valid_time_start < tick.start
    UNION ALL
    SELECT e.relationship_type, e.properties, :valid_to, e.valid_time_end
      FROM ended AS e WHERE e.valid_time_end > :valid_to
{% if amends %}
    UNION ALL
    SELECT coalesce(:type, e.relationship_type),
           {% if merges %}e.properties || :properties{% else %}coalesce(:properties, e.properties){% endif %},
           greatest(e.valid_time_start, tick.start), least(e.valid_time_end, :valid_to)
      FROM ended AS e, tick
{% elif corrects %}
    UNION ALL
    SELECT :type, :properties, tick.start, :valid_to FROM tick
{% endif %}
), inserted AS (
    INSERT INTO {{ schema }}.relationships (
        tenant_id, relationship_id, from_entity, to_entity, relationship_type, properties, valid_time_start,
        valid_time_end, transaction_time_start, tx_from)
    SELECT :tenant, :subject, ends.from_entity, ends.to_entity, m.relationship_type, m.properties, m.start, m.stop,
           tick.at, tick.n
      FROM made AS m, tick, ends
    RETURNING 1
)
SELECT count(*) FROM inserted

-- name: erase
-- in: subject uuid, reason text, actor text
SELECT gone.erased FROM {{ schema }}.erase_entity_as(:subject, :reason, :actor) AS gone

-- Reading. A version is visible at a moment of valid time (now is the later of the present and the last tick, so that
-- what was just written is seen) and by what is believed: currently, by a counter (`counted`), or by a time (`timed`).

-- One by its id. Nearly every version is valid from some past on and until further notice: only for others it matters
-- whether the tenant's clock is ahead of the server's, and only for them it is read.
-- name: entity
-- in: subject uuid, valid timestamptz, tx bigint, at timestamptz
{% if not dated %}
WITH moment AS MATERIALIZED (
    SELECT greatest(statement_timestamp(), max(c.at)) AS at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant
)
{% endif %}
SELECT v.entity_id, v.entity_type, v.name, CASE v.properties WHEN '{}' THEN '' ELSE v.properties::text END,
       timestamptz_send(v.valid_time_start),
       timestamptz_send(nullif(v.valid_time_end, 'infinity')), v.tx_from, timestamptz_send(v.transaction_time_start),
       nullif(v.tx_to, 9223372036854775807), timestamptz_send(nullif(v.transaction_time_end, 'infinity')), v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant AND v.entity_id = :subject
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND {% if dated %}v.valid_time_start <= :valid AND v.valid_time_end > :valid
       {% else %}CASE WHEN v.valid_time_start <= statement_timestamp() AND v.valid_time_end = 'infinity' THEN true
            ELSE v.valid_time_start <= (SELECT moment.at FROM moment)
                 AND v.valid_time_end > (SELECT moment.at FROM moment) END{% endif %}
 LIMIT 1

-- name: relationship
-- in: subject uuid, valid timestamptz, tx bigint, at timestamptz
{% if not dated %}
WITH moment AS MATERIALIZED (
    SELECT greatest(statement_timestamp(), max(c.at)) AS at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant
)
{% endif %}
SELECT v.from_entity, v.to_entity, v.relationship_id, v.relationship_type,
       CASE v.properties WHEN '{}' THEN '' ELSE v.properties::text END,
       timestamptz_send(v.valid_time_start), timestamptz_send(nullif(v.valid_time_end, 'infinity')), v.tx_from,
       timestamptz_send(v.transaction_time_start), nullif(v.tx_to, 9223372036854775807),
       timestamptz_send(nullif(v.transaction_time_end, 'infinity'))
  FROM {{ schema }}.relationships AS v
 WHERE v.tenant_id = :tenant AND v.relationship_id = :subject
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND {% if dated %}v.valid_time_start <= :valid AND v.valid_time_end > :valid
       {% else %}CASE WHEN v.valid_time_start <= statement_timestamp() AND v.valid_time_end = 'infinity' THEN true
            ELSE v.valid_time_start <= (SELECT moment.at FROM moment)
                 AND v.valid_time_end > (SELECT moment.at FROM moment) END{% endif %}
 LIMIT 1

-- By one id after the other: for a list of unknown ids the planner may take an index that begins with the type. An array
-- is given as a subquery wherever it is unnested: whoever knows its length finds the plan for any length dearer, and the
-- statement is planned anew with each call, which takes longer than carrying it out.
-- name: entities
-- in: ids uuid[], valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM unnest((SELECT :ids)) AS a (id)
 CROSS JOIN LATERAL (
    SELECT v.* FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id = a.id
       AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
           {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
           {% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= (SELECT moment.at FROM moment)
       AND v.valid_time_end > (SELECT moment.at FROM moment)
     LIMIT 1
 ) AS v

-- name: relationships
-- in: ids uuid[], valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, v.valid_time_start,
       v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end
  FROM unnest((SELECT :ids)) AS a (id)
 CROSS JOIN LATERAL (
    SELECT v.* FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id = a.id
       AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
           {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
           {% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= (SELECT moment.at FROM moment)
       AND v.valid_time_end > (SELECT moment.at FROM moment)
     LIMIT 1
 ) AS v

-- name: entity_history
-- in: subject uuid, tx bigint, start timestamptz, most bigint
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant AND v.entity_id = :subject AND (v.tx_from, v.valid_time_start) > (:tx, :start)
 ORDER BY v.tx_from, v.valid_time_start LIMIT :most

-- name: relationship_history
-- in: subject uuid, tx bigint, start timestamptz, most bigint
SELECT v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, v.valid_time_start,
       v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end
  FROM {{ schema }}.relationships AS v
 WHERE v.tenant_id = :tenant AND v.relationship_id = :subject AND (v.tx_from, v.valid_time_start) > (:tx, :start)
 ORDER BY v.tx_from, v.valid_time_start LIMIT :most

-- name: entity_timeline
-- in: subject uuid, tx bigint, at timestamptz, past timestamptz, most bigint
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant AND v.entity_id = :subject
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND (:past IS NULL OR v.valid_time_start > :past)
 ORDER BY v.valid_time_start LIMIT :most

-- name: relationship_timeline
-- in: subject uuid, tx bigint, at timestamptz, past timestamptz, most bigint
SELECT v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, v.valid_time_start,
       v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end
  FROM {{ schema }}.relationships AS v
 WHERE v.tenant_id = :tenant AND v.relationship_id = :subject
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND (:past IS NULL OR v.valid_time_start > :past)
 ORDER BY v.valid_time_start LIMIT :most

-- name: query
-- in: valid_from timestamptz, valid_to timestamptz, recorded_from timestamptz, recorded_to timestamptz, type text, name text, prefix text, ending text, id uuid, tx bigint, start timestamptz, most bigint
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant
   AND (v.entity_id, v.tx_from, v.valid_time_start) > (:id, :tx, :start)
{% if typed %}   AND v.entity_type = :type{% endif %}
{% if named %}   AND v.name = :name{% endif %}
{% if prefixed %}   AND v.name >= :prefix AND v.name < :ending{% endif %}
   AND v.valid_time_end > coalesce(:valid_from, '-infinity') AND v.valid_time_start < coalesce(:valid_to, 'infinity')
   AND v.transaction_time_end > coalesce(:recorded_from, '-infinity')
   AND v.transaction_time_start < coalesce(:recorded_to, 'infinity')
   /* filter */
 ORDER BY v.entity_id, v.tx_from, v.valid_time_start LIMIT :most

-- name: neighbours
-- in: subject uuid, types text[], valid timestamptz, tx bigint, at timestamptz, type text, start timestamptz, id uuid, most bigint
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT r.relationship_id, r.from_entity, r.to_entity, r.relationship_type, r.properties, r.valid_time_start,
       r.valid_time_end, r.tx_from, r.tx_to, r.transaction_time_start, r.transaction_time_end,
       e.entity_id, e.entity_type, e.name, e.properties, e.valid_time_start, e.valid_time_end, e.tx_from, e.tx_to,
       e.transaction_time_start, e.transaction_time_end, e.embedding_hash
  FROM (
{% if outward %}
{% if typed %}
    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
    SELECT r.*, r.to_entity AS other
      FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = :tenant AND r.from_entity = :subject{% if typed %} AND r.relationship_type = k.type{% endif %}{% if later %} AND (r.relationship_type, r.valid_time_start, r.relationship_id) > (:type, :start, :id){% endif %}
       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
           {% else %}r.tx_to = 9223372036854775807{% endif %}
       AND r.valid_time_start <= (SELECT moment.at FROM moment)
       AND r.valid_time_end > (SELECT moment.at FROM moment)
{% if typed %}
    OFFSET 0) AS t
{% endif %}
{% endif %}
{% if outward and inward %}
    UNION ALL
{% endif %}
{% if inward %}
{% if typed %}
    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
    SELECT r.*, r.from_entity AS other
      FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = :tenant AND r.to_entity = :subject{% if typed %} AND r.relationship_type = k.type{% endif %}{% if outward %} AND r.from_entity <> r.to_entity{% endif %}{% if later %} AND (r.relationship_type, r.valid_time_start, r.relationship_id) > (:type, :start, :id){% endif %}
       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
           {% else %}r.tx_to = 9223372036854775807{% endif %}
       AND r.valid_time_start <= (SELECT moment.at FROM moment)
       AND r.valid_time_end > (SELECT moment.at FROM moment)
{% if typed %}
    OFFSET 0) AS t
{% endif %}
{% endif %}
) AS r
 CROSS JOIN LATERAL (
    SELECT e.* FROM {{ schema }}.entities AS e
     WHERE e.tenant_id = :tenant AND e.entity_id = r.other
       AND {% if counted %}e.tx_from <= :tx AND e.tx_to > :tx
           {% elif timed %}e.transaction_time_start <= :at AND e.transaction_time_end > :at
           {% else %}e.tx_to = 9223372036854775807{% endif %}
       AND e.valid_time_start <= (SELECT moment.at FROM moment)
       AND e.valid_time_end > (SELECT moment.at FROM moment)
     LIMIT 1
) AS e
 ORDER BY r.relationship_type, r.valid_time_start, r.relationship_id LIMIT :most

-- name: step
-- in: ids uuid[], types text[], fanout bigint, valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT f.id, l.far, l.edge
  FROM unnest((SELECT :ids)) AS f (id)
 CROSS JOIN LATERAL (
{% if outward %}
{% if typed %}
    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
    SELECT r.to_entity AS far, r.relationship_id AS edge, r.relationship_type AS type, r.valid_time_start AS start
      FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = :tenant AND r.from_entity = f.id{% if typed %} AND r.relationship_type = k.type{% endif %}
       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
           {% else %}r.tx_to = 9223372036854775807{% endif %}
       AND r.valid_time_start <= (SELECT moment.at FROM moment)
       AND r.valid_time_end > (SELECT moment.at FROM moment)
{% if typed %}
    OFFSET 0) AS t
{% endif %}
{% endif %}
{% if outward and inward %}
    UNION ALL
{% endif %}
{% if inward %}
{% if typed %}
    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
    SELECT r.from_entity AS far, r.relationship_id AS edge, r.relationship_type AS type, r.valid_time_start AS start
      FROM {{ schema }}.relationships AS r
     WHERE r.tenant_id = :tenant AND r.to_entity = f.id{% if typed %} AND r.relationship_type = k.type{% endif %}{% if outward %} AND r.from_entity <> r.to_entity{% endif %}
       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
           {% else %}r.tx_to = 9223372036854775807{% endif %}
       AND r.valid_time_start <= (SELECT moment.at FROM moment)
       AND r.valid_time_end > (SELECT moment.at FROM moment)
{% if typed %}
    OFFSET 0) AS t
{% endif %}
{% endif %}
{% if fanned %}
    ORDER BY type, start, edge LIMIT :fanout
{% else %}
    OFFSET 0
{% endif %}
) AS l
 WHERE (SELECT true FROM {{ schema }}.entities AS e
        WHERE e.tenant_id = :tenant AND e.entity_id = l.far
          AND {% if counted %}e.tx_from <= :tx AND e.tx_to > :tx
              {% elif timed %}e.transaction_time_start <= :at AND e.transaction_time_end > :at
              {% else %}e.tx_to = 9223372036854775807{% endif %}
          AND e.valid_time_start <= (SELECT moment.at FROM moment)
          AND e.valid_time_end > (SELECT moment.at FROM moment)
        LIMIT 1)

-- One row a depth, holding what was come to: `ids` in their order, and for each a row (`found`) of the entity, of the
-- relationship that led to it, and of the place, among the `ids` before, of where that came from; `seen` is everything
-- before. Rows are carried whole, so that each table stands in one place: in any other one a row would be looked up
-- again, and the policy would ask again who is asking. Documents too large to stay in their rows are left out (NULL) for
-- `entity_documents` and `relationship_documents`: a depth is one value in the server's memory, which a thousand of them
-- would not fit in. The first row holds nothing, so that the start is looked up where all others are. Every look-up is
-- by index and entity: without statistics a join would read whole tables, which OFFSET 0 keeps off. What comes out is in
-- order by its making. Times go as their eight bytes and documents as text, where they say nothing as NULL and as no
-- letter, because reading them is what a client spends its time with.
-- name: traverse
-- in: begin uuid, types text[], fanout bigint, depth bigint, most bigint, valid timestamptz, tx bigint, at timestamptz
WITH RECURSIVE walk (depth, moment, ids, found, seen) AS (
    SELECT -1::bigint, coalesce(:valid, greatest(clock_timestamp(), (
               SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))),
           ARRAY[]::uuid[], ARRAY[]::record[], ARRAY[]::uuid[]
    UNION ALL
    SELECT w.depth + 1, w.moment, next.ids, next.found, w.seen || next.ids
      FROM walk AS w
     CROSS JOIN LATERAL (
        SELECT array_agg(k.far) AS ids, array_agg(k.one) AS found
          FROM (
            SELECT d.far,
                   ROW(e.entity_id, e.entity_type, e.name,
                       CASE WHEN pg_column_size(e.properties) <= 2000 THEN e.properties END,
                       e.valid_time_start, e.valid_time_end, e.tx_from, e.tx_to, e.transaction_time_start, e.transaction_time_end, e.embedding_hash, d.place,
                       d.relationship_id, d.from_entity, d.relationship_type,
                       CASE WHEN pg_column_size(d.properties) <= 2000 THEN d.properties END,
                       d.valid_time_start, d.valid_time_end, d.tx_from, d.tx_to, d.transaction_time_start,
                       d.transaction_time_end) AS one
              FROM (
               (SELECT DISTINCT ON (l.far) l.*, f.place
                  FROM unnest(w.ids) WITH ORDINALITY AS f (id, place)
                 CROSS JOIN LATERAL (
{% if outward %}
{% if typed %}
                    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
                    SELECT r.to_entity AS far, r.relationship_id, r.from_entity, r.relationship_type, r.properties,
                           r.valid_time_start, r.valid_time_end, r.tx_from, r.tx_to, r.transaction_time_start,
                           r.transaction_time_end
                      FROM {{ schema }}.relationships AS r
                     WHERE r.tenant_id = :tenant AND r.from_entity = f.id{% if typed %} AND r.relationship_type = k.type{% endif %}
                       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
                           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
                           {% else %}r.tx_to = 9223372036854775807{% endif %}
                       AND r.valid_time_start <= w.moment AND r.valid_time_end > w.moment
{% if typed %}
                    OFFSET 0) AS t
{% endif %}
{% endif %}
{% if outward and inward %}
                    UNION ALL
{% endif %}
{% if inward %}
{% if typed %}
                    SELECT t.* FROM unnest((SELECT :types)) AS k (type) CROSS JOIN LATERAL (
{% endif %}
                    SELECT r.from_entity AS far, r.relationship_id, r.from_entity, r.relationship_type, r.properties,
                           r.valid_time_start, r.valid_time_end, r.tx_from, r.tx_to, r.transaction_time_start,
                           r.transaction_time_end
                      FROM {{ schema }}.relationships AS r
                     WHERE r.tenant_id = :tenant AND r.to_entity = f.id{% if typed %} AND r.relationship_type = k.type{% endif %}{% if outward %} AND r.from_entity <> r.to_entity{% endif %}
                       AND {% if counted %}r.tx_from <= :tx AND r.tx_to > :tx
                           {% elif timed %}r.transaction_time_start <= :at AND r.transaction_time_end > :at
                           {% else %}r.tx_to = 9223372036854775807{% endif %}
                       AND r.valid_time_start <= w.moment AND r.valid_time_end > w.moment
{% if typed %}
                    OFFSET 0) AS t
{% endif %}
{% endif %}
{% if fanned %}
                    ORDER BY relationship_type, valid_time_start, relationship_id LIMIT :fanout
{% else %}
                    OFFSET 0
{% endif %}
                 ) AS l
                 WHERE NOT EXISTS (SELECT FROM unnest(w.seen) AS s (id) WHERE s.id = l.far)
                 ORDER BY l.far, l.relationship_id)
                UNION ALL
                SELECT :begin, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL WHERE w.depth < 0
              ) AS d
             CROSS JOIN LATERAL (
                    SELECT e.* FROM {{ schema }}.entities AS e
                    WHERE e.tenant_id = :tenant AND e.entity_id = d.far
                      AND {% if counted %}e.tx_from <= :tx AND e.tx_to > :tx
                          {% elif timed %}e.transaction_time_start <= :at AND e.transaction_time_end > :at
                          {% else %}e.tx_to = 9223372036854775807{% endif %}
                      AND e.valid_time_start <= w.moment AND e.valid_time_end > w.moment
                    LIMIT 1) AS e
             ORDER BY d.far LIMIT :most + 1 - cardinality(w.seen)
          ) AS k
     ) AS next
     WHERE w.depth < :depth AND next.ids IS NOT NULL
)
SELECT w.depth, n.place,
       n.entity_id, n.entity_type, n.name, CASE n.described WHEN '{}' THEN '' ELSE n.described::text END,
       timestamptz_send(n.valid_from), timestamptz_send(nullif(n.valid_to, 'infinity')), n.tx_from,
       timestamptz_send(n.recorded),
       {% if counted or timed %}nullif(n.tx_to, 9223372036854775807), timestamptz_send(nullif(n.superseded, 'infinity')){% else %}NULL::bigint, NULL::bytea{% endif %}, n.embedding_hash,
       n.relationship_id, n.from_entity = n.entity_id, n.relationship_type,
       CASE n.over_described WHEN '{}' THEN '' ELSE n.over_described::text END,
       timestamptz_send(n.over_from), timestamptz_send(nullif(n.over_to, 'infinity')), n.over_tx_from,
       timestamptz_send(n.over_recorded),
       {% if counted or timed %}nullif(n.over_tx_to, 9223372036854775807), timestamptz_send(nullif(n.over_superseded, 'infinity')){% else %}NULL::bigint, NULL::bytea{% endif %}
  FROM walk AS w
 CROSS JOIN LATERAL unnest(w.found) AS n (
    entity_id uuid, entity_type text, name text, described jsonb, valid_from timestamptz, valid_to timestamptz,
    tx_from bigint, tx_to bigint, recorded timestamptz, superseded timestamptz, embedding_hash bytea, place bigint,
    relationship_id uuid, from_entity uuid, relationship_type text, over_described jsonb,
    over_from timestamptz, over_to timestamptz, over_tx_from bigint, over_tx_to bigint, over_recorded timestamptz,
    over_superseded timestamptz)

-- Versions by their keys: what a version says never changes.
-- name: entity_documents
-- in: ids uuid[], txs bigint[], starts timestamptz[]
SELECT v.entity_id, v.properties::text
  FROM unnest((SELECT :ids), (SELECT :txs), (SELECT :starts)) AS a (id, tx, start)
 CROSS JOIN LATERAL (
    SELECT v.* FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id = a.id AND v.tx_from = a.tx AND v.valid_time_start = a.start LIMIT 1
 ) AS v

-- name: relationship_documents
-- in: ids uuid[], txs bigint[], starts timestamptz[]
SELECT v.relationship_id, v.properties::text
  FROM unnest((SELECT :ids), (SELECT :txs), (SELECT :starts)) AS a (id, tx, start)
 CROSS JOIN LATERAL (
    SELECT v.* FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id = a.id AND v.tx_from = a.tx AND v.valid_time_start = a.start LIMIT 1
 ) AS v

-- Only an index of a column that a condition names can be taken (each has such a predicate), and two that can be cost the
-- same, whatever they would read: the id alone is named where nothing else is asked.
-- name: search
-- in: type text, name text, prefix text, ending text, id uuid, name_after text, most bigint, valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant
{% if typed %}   AND v.entity_type = :type{% endif %}
{% if named %}   AND v.name = :name{% endif %}
{% if prefixed %}   AND v.name >= :prefix AND v.name < :ending{% endif %}
{% if later and prefixed %}   AND (v.name, v.entity_id) > (:name_after, :id)
{% elif later and named %}   AND (v.name, v.entity_id) > (:name, :id)
{% elif later and typed %}   AND (v.entity_type, v.entity_id) > (:type, :id)
{% elif later %}   AND v.entity_id > :id
{% elif not (prefixed or named or typed) %}   AND v.entity_id >= '00000000-0000-0000-0000-000000000000'{% endif %}
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND v.valid_time_start <= (SELECT moment.at FROM moment)
   AND v.valid_time_end > (SELECT moment.at FROM moment)
   /* filter */
 ORDER BY {% if prefixed %}v.name, {% endif %}v.entity_id LIMIT :most

-- name: nearest
-- in: embedding vector, dimension bigint, type text, most bigint, valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash, g.embedding
  FROM {{ schema }}.graph_embeddings AS g
  JOIN {{ schema }}.entities AS v
    ON v.tenant_id = :tenant AND v.entity_id = g.entity_id AND v.embedding_hash = g.embedding_hash
 WHERE g.tenant_id = :tenant AND g.dimension = :dimension
{% if typed %}   AND v.entity_type = :type{% endif %}
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND v.valid_time_start <= (SELECT moment.at FROM moment)
   AND v.valid_time_end > (SELECT moment.at FROM moment)
   /* filter */
 ORDER BY g.embedding OPERATOR({{ extensions }}.<=>) :embedding, v.entity_id LIMIT :most

-- name: embedding
-- in: subject uuid, valid timestamptz, tx bigint, at timestamptz
WITH moment AS MATERIALIZED (
    SELECT coalesce(:valid, greatest(clock_timestamp(), (
        SELECT c.at FROM {{ schema }}.tenant_clock AS c WHERE c.tenant_id = :tenant))) AS at
)
SELECT g.embedding
  FROM {{ schema }}.entities AS v
  JOIN {{ schema }}.graph_embeddings AS g
    ON g.tenant_id = :tenant AND g.entity_id = :subject AND g.embedding_hash = v.embedding_hash
 WHERE v.tenant_id = :tenant AND v.entity_id = :subject
   AND {% if counted %}v.tx_from <= :tx AND v.tx_to > :tx
       {% elif timed %}v.transaction_time_start <= :at AND v.transaction_time_end > :at
       {% else %}v.tx_to = 9223372036854775807{% endif %}
   AND v.valid_time_start <= (SELECT moment.at FROM moment)
   AND v.valid_time_end > (SELECT moment.at FROM moment)

-- name: entity_opened
-- in: tx bigint, id uuid, start timestamptz, most bigint
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant AND (v.tx_from, v.entity_id, v.valid_time_start) > (:tx, :id, :start)
 ORDER BY v.tx_from, v.entity_id, v.valid_time_start LIMIT :most

-- name: entity_closed
-- in: tx bigint, id uuid, start timestamptz, most bigint
SELECT v.entity_id, v.entity_type, v.name, v.properties, v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to,
       v.transaction_time_start, v.transaction_time_end, v.embedding_hash
  FROM {{ schema }}.entities AS v
 WHERE v.tenant_id = :tenant AND v.tx_to < 9223372036854775807 AND (v.tx_to, v.entity_id, v.valid_time_start) > (:tx, :id, :start)
 ORDER BY v.tx_to, v.entity_id, v.valid_time_start LIMIT :most

-- name: relationship_opened
-- in: tx bigint, id uuid, start timestamptz, most bigint
SELECT v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, v.valid_time_start,
       v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end
  FROM {{ schema }}.relationships AS v
 WHERE v.tenant_id = :tenant AND (v.tx_from, v.relationship_id, v.valid_time_start) > (:tx, :id, :start)
 ORDER BY v.tx_from, v.relationship_id, v.valid_time_start LIMIT :most

-- name: relationship_closed
-- in: tx bigint, id uuid, start timestamptz, most bigint
SELECT v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, v.valid_time_start,
       v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end
  FROM {{ schema }}.relationships AS v
 WHERE v.tenant_id = :tenant AND v.tx_to < 9223372036854775807 AND (v.tx_to, v.relationship_id, v.valid_time_start) > (:tx, :id, :start)
 ORDER BY v.tx_to, v.relationship_id, v.valid_time_start LIMIT :most

-- name: erased
-- in: tx bigint, most bigint
SELECT t.tx, t.at, t.erased_hash FROM {{ schema }}.graph_transactions AS t
 WHERE t.tenant_id = :tenant AND t.tx > :tx AND t.erased_hash IS NOT NULL ORDER BY t.tx LIMIT :most

-- name: why
-- in: subject uuid, past bigint, most bigint
SELECT done.tx, done.at, t.actor, t.reason, t.sources
  FROM (
    SELECT v.tx_from AS tx, v.transaction_time_start AS at FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id = :subject
     UNION
    SELECT v.tx_to, v.transaction_time_end FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id = :subject AND v.tx_to < 9223372036854775807
     UNION
    SELECT v.tx_from, v.transaction_time_start FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id = :subject
     UNION
    SELECT v.tx_to, v.transaction_time_end FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id = :subject AND v.tx_to < 9223372036854775807
  ) AS done
  LEFT JOIN LATERAL (
    SELECT t.* FROM {{ schema }}.graph_transactions AS t WHERE t.tenant_id = :tenant AND t.tx = done.tx LIMIT 1
  ) AS t ON true
 WHERE done.tx > :past
 ORDER BY done.tx LIMIT :most

-- `narrow`: both moments are counters at one moment of valid time, so that only what was written between them differs.
-- name: entity_diff
-- in: valid1 timestamptz, tx1 bigint, at1 timestamptz, valid2 timestamptz, tx2 bigint, at2 timestamptz, past uuid, most bigint
WITH one AS (
    SELECT v.* FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id >= coalesce(:past, '00000000-0000-0000-0000-000000000000') AND v.entity_id IS DISTINCT FROM :past
       AND {% if counted1 %}v.tx_from <= :tx1 AND v.tx_to > :tx1{% elif timed1 %}v.transaction_time_start <= :at1 AND v.transaction_time_end > :at1{% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= :valid1 AND v.valid_time_end > :valid1
{% if narrow %}       AND v.tx_to <= :tx2 AND v.tx_to < 9223372036854775807{% endif %}
), other AS (
    SELECT v.* FROM {{ schema }}.entities AS v
     WHERE v.tenant_id = :tenant AND v.entity_id >= coalesce(:past, '00000000-0000-0000-0000-000000000000') AND v.entity_id IS DISTINCT FROM :past
       AND {% if counted2 %}v.tx_from <= :tx2 AND v.tx_to > :tx2{% elif timed2 %}v.transaction_time_start <= :at2 AND v.transaction_time_end > :at2{% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= :valid2 AND v.valid_time_end > :valid2
{% if narrow %}       AND v.tx_from > :tx1{% endif %}
)
SELECT one.entity_id, one.entity_type, one.name, one.properties, one.valid_time_start, one.valid_time_end, one.tx_from, one.tx_to,
       one.transaction_time_start, one.transaction_time_end, one.embedding_hash,
       other.entity_id, other.entity_type, other.name, other.properties, other.valid_time_start, other.valid_time_end, other.tx_from, other.tx_to,
       other.transaction_time_start, other.transaction_time_end, other.embedding_hash
  FROM one FULL JOIN other ON one.entity_id = other.entity_id
 WHERE one.entity_id IS NULL OR other.entity_id IS NULL
    OR (one.entity_type, one.name, one.properties::text, one.embedding_hash) IS DISTINCT FROM (other.entity_type, other.name, other.properties::text, other.embedding_hash)
 ORDER BY coalesce(one.entity_id, other.entity_id) LIMIT :most

-- `narrow`: both moments are counters at one moment of valid time, so that only what was written between them differs.
-- name: relationship_diff
-- in: valid1 timestamptz, tx1 bigint, at1 timestamptz, valid2 timestamptz, tx2 bigint, at2 timestamptz, past uuid, most bigint
WITH one AS (
    SELECT v.* FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id >= coalesce(:past, '00000000-0000-0000-0000-000000000000') AND v.relationship_id IS DISTINCT FROM :past
       AND {% if counted1 %}v.tx_from <= :tx1 AND v.tx_to > :tx1{% elif timed1 %}v.transaction_time_start <= :at1 AND v.transaction_time_end > :at1{% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= :valid1 AND v.valid_time_end > :valid1
{% if narrow %}       AND v.tx_to <= :tx2 AND v.tx_to < 9223372036854775807{% endif %}
), other AS (
    SELECT v.* FROM {{ schema }}.relationships AS v
     WHERE v.tenant_id = :tenant AND v.relationship_id >= coalesce(:past, '00000000-0000-0000-0000-000000000000') AND v.relationship_id IS DISTINCT FROM :past
       AND {% if counted2 %}v.tx_from <= :tx2 AND v.tx_to > :tx2{% elif timed2 %}v.transaction_time_start <= :at2 AND v.transaction_time_end > :at2{% else %}v.tx_to = 9223372036854775807{% endif %}
       AND v.valid_time_start <= :valid2 AND v.valid_time_end > :valid2
{% if narrow %}       AND v.tx_from > :tx1{% endif %}
)
SELECT one.relationship_id, one.from_entity, one.to_entity, one.relationship_type, one.properties, one.valid_time_start,
       one.valid_time_end, one.tx_from, one.tx_to, one.transaction_time_start, one.transaction_time_end,
       other.relationship_id, other.from_entity, other.to_entity, other.relationship_type, other.properties, other.valid_time_start,
       other.valid_time_end, other.tx_from, other.tx_to, other.transaction_time_start, other.transaction_time_end
  FROM one FULL JOIN other ON one.relationship_id = other.relationship_id
 WHERE one.relationship_id IS NULL OR other.relationship_id IS NULL
    OR (one.from_entity, one.to_entity, one.relationship_type, one.properties::text) IS DISTINCT FROM (other.from_entity, other.to_entity, other.relationship_type, other.properties::text)
 ORDER BY coalesce(one.relationship_id, other.relationship_id) LIMIT :most
