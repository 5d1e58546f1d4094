-- One row always: what was done, or why nothing was. No new version though all was well: the agent was
-- made meanwhile, and the statement is sent again.
-- name: save
-- in: agent_id text, agent_type text, state jsonb, checksum text, schema_version bigint, session_id text, phase text, restores boolean, expected bigint, past_checksum text, past bytea, past_is_delta boolean, snapshot_every bigint
WITH old AS MATERIALIZED (
    SELECT * FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id FOR UPDATE
), found AS MATERIALIZED (
    SELECT coalesce(old.data_version, 0) AS version, old.phase AS old_phase,
           CASE WHEN :restores THEN :phase ELSE coalesce(:phase, old.phase) END AS phase
      FROM (SELECT) AS one LEFT JOIN old ON true
), verdict AS MATERIALIZED (
    SELECT version, old_phase, phase, :expected IS NULL OR :expected = version AS fresh,
           :restores OR coalesce(phase, '') = coalesce(old_phase, '')
           OR EXISTS (SELECT FROM {{ schema }}.agent_transitions AS t
                       WHERE t.tenant_id = :tenant AND t.agent_type = :agent_type
                         AND t.from_phase = coalesce(found.old_phase, '') AND t.to_phase = found.phase)
           OR NOT EXISTS (SELECT FROM {{ schema }}.agent_transitions AS t
                           WHERE t.tenant_id = :tenant AND t.agent_type = :agent_type) AS allowed
      FROM found
), kept AS (
    INSERT INTO {{ schema }}.agent_state_history
        (tenant_id, agent_id, version, saved_at, schema_version, is_delta, agent_type, session_id, phase, checksum, content)
    SELECT :tenant, :agent_id, old.data_version, old.updated_at, old.schema_version, known.given AND :past_is_delta,
           old.agent_type, old.session_id, old.phase, decode(old.checksum, 'hex'),
           CASE WHEN known.given THEN :past ELSE convert_to(old.state_data::text, 'UTF8') END
      FROM old, verdict, LATERAL (
          SELECT coalesce(old.checksum = :past_checksum, false)
                 AND NOT (:past_is_delta AND old.data_version % :snapshot_every = 0) AS given) AS known
     WHERE verdict.fresh AND verdict.allowed
), saved AS (
    INSERT INTO {{ schema }}.agent_states AS s
        (tenant_id, agent_id, agent_type, state_data, schema_version, data_version, checksum, session_id, phase,
         created_at, updated_at)
    SELECT :tenant, :agent_id, :agent_type, :state, :schema_version, verdict.version + 1, :checksum, :session_id,
           verdict.phase, statement_timestamp(), statement_timestamp()
      FROM verdict WHERE verdict.fresh AND verdict.allowed
    ON CONFLICT (tenant_id, agent_id) DO UPDATE SET
        agent_type = excluded.agent_type, state_data = excluded.state_data, schema_version = excluded.schema_version,
        data_version = excluded.data_version, checksum = excluded.checksum, session_id = excluded.session_id,
        phase = excluded.phase, updated_at = excluded.updated_at
     WHERE EXISTS (SELECT FROM old)
    RETURNING s.data_version
)
SELECT saved.data_version, verdict.version, verdict.old_phase, verdict.allowed, verdict.fresh
  FROM verdict LEFT JOIN saved ON true

-- name: current
-- in: agent_id text
SELECT agent_id, agent_type, data_version, schema_version, session_id, phase, checksum, created_at, updated_at, state_data
  FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id

-- A checkpoint of the version comes first; the rest by version, the latest one as it is.
-- name: steps
-- in: agent_id text, version bigint, last bigint
WITH head AS MATERIALIZED (
    SELECT * FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id
), kept AS MATERIALIZED (
    SELECT * FROM {{ schema }}.agent_state_checkpoints
     WHERE tenant_id = :tenant AND agent_id = :agent_id AND version = :version LIMIT 1
)
SELECT h.agent_id, h.agent_type, h.version, h.schema_version, h.session_id, h.phase, encode(h.checksum, 'hex'),
       head.created_at, h.saved_at, h.content, false AS is_delta, 0 AS place
  FROM kept AS h, head
UNION ALL
SELECT h.agent_id, h.agent_type, h.version, h.schema_version, h.session_id, h.phase, encode(h.checksum, 'hex'),
       head.created_at, h.saved_at, h.content, h.is_delta, 1
  FROM {{ schema }}.agent_state_history AS h, head
 WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.version BETWEEN :version AND :last
   AND NOT EXISTS (SELECT FROM kept)
UNION ALL
SELECT agent_id, agent_type, data_version, schema_version, session_id, phase, checksum,
       created_at, updated_at, convert_to(state_data::text, 'UTF8'), false, 1
  FROM head WHERE data_version BETWEEN :version AND :last AND NOT EXISTS (SELECT FROM kept)
 ORDER BY place, version

-- name: versions
-- in: agent_id text, before bigint, most bigint
WITH head AS MATERIALIZED (
    SELECT agent_id, agent_type, data_version, schema_version, session_id, phase, checksum, created_at, updated_at
      FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id
)
SELECT * FROM (
    SELECT * FROM head WHERE data_version < :before
    UNION ALL
    (SELECT h.agent_id, h.agent_type, h.version, h.schema_version, h.session_id, h.phase, encode(h.checksum, 'hex'),
            head.created_at, h.saved_at
       FROM {{ schema }}.agent_state_history AS h, head
      WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.version < :before
      ORDER BY h.version DESC LIMIT :most)
) AS v ORDER BY data_version DESC LIMIT :most

-- name: agents
-- in: agent_type text, session_id text, phase text, since timestamptz, after text, most bigint
SELECT agent_id, agent_type, data_version, schema_version, session_id, phase, checksum, created_at, updated_at
  FROM {{ schema }}.agent_states
 WHERE tenant_id = :tenant AND agent_id > :after
{%- if agent_type %} AND agent_type = :agent_type{% endif %}
{%- if session_id %} AND session_id = :session_id{% endif %}
{%- if phase %} AND phase = :phase{% endif %}
{%- if since %} AND updated_at >= :since{% endif %}

 ORDER BY agent_id LIMIT :most

-- Waits for a save; the statement after this one sees where that left the version.
-- name: hold
-- in: agent_id text
SELECT 1 FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id FOR SHARE

-- Two columns: whether the version is there, and whether the checkpoint was made.
-- name: add_checkpoint
-- in: agent_id text, label text, version bigint, checksum text, saved_at timestamptz, schema_version bigint, agent_type text, session_id text, phase text, content bytea, metadata jsonb
WITH there AS MATERIALIZED (
    SELECT FROM {{ schema }}.agent_states
     WHERE tenant_id = :tenant AND agent_id = :agent_id
       AND ((data_version = :version AND checksum = :checksum)
            OR EXISTS (SELECT FROM {{ schema }}.agent_state_history AS h
                        WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.version = :version
                          AND h.checksum = decode(:checksum, 'hex'))
            OR EXISTS (SELECT FROM {{ schema }}.agent_state_checkpoints AS c
                        WHERE c.tenant_id = :tenant AND c.agent_id = :agent_id AND c.version = :version
                          AND c.checksum = decode(:checksum, 'hex')))
       FOR SHARE
), made AS (
    INSERT INTO {{ schema }}.agent_state_checkpoints
        (tenant_id, agent_id, label, version, saved_at, schema_version, agent_type, session_id, phase, checksum, content,
         metadata)
    SELECT :tenant, :agent_id, :label, :version, :saved_at, :schema_version, :agent_type, :session_id, :phase,
           decode(:checksum, 'hex'), :content, :metadata FROM there
    ON CONFLICT (tenant_id, agent_id, label) DO NOTHING RETURNING 1
)
SELECT EXISTS (SELECT FROM there), EXISTS (SELECT FROM made)

-- name: checkpoint_version
-- in: agent_id text, label text
SELECT version FROM {{ schema }}.agent_state_checkpoints
 WHERE tenant_id = :tenant AND agent_id = :agent_id AND label = :label

-- name: checkpoints
-- in: agent_id text, after text, most bigint
SELECT agent_id, label, version, metadata, created_at FROM {{ schema }}.agent_state_checkpoints
 WHERE tenant_id = :tenant AND agent_id = :agent_id AND label > :after ORDER BY label LIMIT :most

-- name: delete_checkpoint
-- in: agent_id text, label text
DELETE FROM {{ schema }}.agent_state_checkpoints
 WHERE tenant_id = :tenant AND agent_id = :agent_id AND label = :label RETURNING 1

-- The agent's row goes first and holds off every save, so that the rest is complete.
-- name: delete
-- in: agent_id text
DELETE FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id RETURNING 1

-- An agent that is there now was made after the statement above, which found none; what it has is its own.
-- name: delete_rest
-- in: agent_id text
WITH history AS (
    DELETE FROM {{ schema }}.agent_state_history WHERE tenant_id = :tenant AND agent_id = :agent_id
       AND NOT EXISTS (SELECT FROM {{ schema }}.agent_states AS s WHERE s.tenant_id = :tenant AND s.agent_id = :agent_id)
)
DELETE FROM {{ schema }}.agent_state_checkpoints WHERE tenant_id = :tenant AND agent_id = :agent_id
   AND NOT EXISTS (SELECT FROM {{ schema }}.agent_states AS s WHERE s.tenant_id = :tenant AND s.agent_id = :agent_id)

-- name: prune
-- in: agent_id text, keep_last bigint, older_than timestamptz, keep_checkpoints boolean
WITH bound AS MATERIALIZED (
    SELECT least(s.data_version - :keep_last, (
               SELECT min(h.version) - 1 FROM {{ schema }}.agent_state_history AS h
                WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.saved_at >= :older_than)) AS last
      FROM {{ schema }}.agent_states AS s WHERE s.tenant_id = :tenant AND s.agent_id = :agent_id
), labels AS (
    DELETE FROM {{ schema }}.agent_state_checkpoints AS c USING bound
     WHERE NOT :keep_checkpoints AND c.tenant_id = :tenant AND c.agent_id = :agent_id AND c.version <= bound.last
), gone AS (
    DELETE FROM {{ schema }}.agent_state_history AS h USING bound
     WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.version <= bound.last RETURNING 1
)
SELECT count(*) FROM gone

-- Two columns: whether the agent is there, and whether it was copied.
-- name: copy
-- in: agent_id text, new_id text, history boolean
WITH old AS MATERIALIZED (
    SELECT * FROM {{ schema }}.agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id
), made AS (
    INSERT INTO {{ schema }}.agent_states
        (tenant_id, agent_id, agent_type, state_data, schema_version, data_version, checksum, session_id, phase,
         created_at, updated_at)
    SELECT :tenant, :new_id, agent_type, state_data, schema_version, CASE WHEN :history THEN data_version ELSE 1 END,
           checksum, session_id, phase, CASE WHEN :history THEN created_at ELSE statement_timestamp() END,
           CASE WHEN :history THEN updated_at ELSE statement_timestamp() END FROM old
    ON CONFLICT (tenant_id, agent_id) DO NOTHING RETURNING 1
), past AS (
    INSERT INTO {{ schema }}.agent_state_history
        (tenant_id, agent_id, version, saved_at, schema_version, is_delta, agent_type, session_id, phase, checksum, content)
    SELECT :tenant, :new_id, h.version, h.saved_at, h.schema_version, h.is_delta, h.agent_type, h.session_id, h.phase,
           h.checksum, h.content
      FROM {{ schema }}.agent_state_history AS h, made
     WHERE :history AND h.tenant_id = :tenant AND h.agent_id = :agent_id
), labels AS (
    INSERT INTO {{ schema }}.agent_state_checkpoints
        (tenant_id, agent_id, label, version, saved_at, created_at, schema_version, agent_type, session_id, phase,
         checksum, content, metadata)
    SELECT :tenant, :new_id, c.label, c.version, c.saved_at, c.created_at, c.schema_version, c.agent_type, c.session_id,
           c.phase, c.checksum, c.content, c.metadata
      FROM {{ schema }}.agent_state_checkpoints AS c, made
     WHERE :history AND c.tenant_id = :tenant AND c.agent_id = :agent_id
)
SELECT EXISTS (SELECT FROM old), EXISTS (SELECT FROM made)

-- Whoever declares for the same type waits here for the one before, and the statement after this one, which removes the
-- row again, sees what that declared. No phase is called that; one that is would only not be waited for.
-- name: guard_transitions
-- in: agent_type text
INSERT INTO {{ schema }}.agent_transitions (tenant_id, agent_type, from_phase, to_phase)
VALUES (:tenant, :agent_type, '', repeat(chr(1114111), 100)) ON CONFLICT DO NOTHING

-- name: forget_transitions
-- in: agent_type text
DELETE FROM {{ schema }}.agent_transitions WHERE tenant_id = :tenant AND agent_type = :agent_type

-- name: declare_transitions
-- in: agent_type text, from_phases text[], to_phases text[]
INSERT INTO {{ schema }}.agent_transitions (tenant_id, agent_type, from_phase, to_phase)
SELECT :tenant, :agent_type, t.old, t.new FROM unnest(:from_phases, :to_phases) AS t (old, new) ON CONFLICT DO NOTHING

-- name: transitions
-- in: agent_type text
SELECT from_phase, to_phase FROM {{ schema }}.agent_transitions
 WHERE tenant_id = :tenant AND agent_type = :agent_type ORDER BY from_phase, to_phase

-- name: put_checkpoint
-- in: thread_id text, namespace text, checkpoint_id text, parent_id text, run_id text, metadata jsonb, document bytea, document_base uuid, parts uuid[], added uuid[], bases uuid[], contents bytea[], needed uuid[]
WITH {% if needed %}parent AS MATERIALIZED (
    SELECT parts FROM {{ schema }}.agent_thread_checkpoints
     WHERE tenant_id = :tenant AND thread_id = :thread_id AND namespace = :namespace AND checkpoint_id = :parent_id
       FOR KEY SHARE
), {% endif %}saved AS (
    INSERT INTO {{ schema }}.agent_thread_checkpoints
        (tenant_id, thread_id, namespace, checkpoint_id, parent_id, run_id, document_base, parts, document, metadata)
    SELECT :tenant, :thread_id, :namespace, :checkpoint_id, :parent_id, :run_id, :document_base, :parts, :document, :metadata
{%- if needed %} FROM parent WHERE parent.parts @> :needed{% endif %}

    ON CONFLICT (tenant_id, thread_id, namespace, checkpoint_id) DO UPDATE SET
        parent_id = excluded.parent_id, run_id = excluded.run_id, document_base = excluded.document_base,
        parts = excluded.parts, document = excluded.document, metadata = excluded.metadata
    RETURNING 1
){% if added %}, made AS (
    INSERT INTO {{ schema }}.agent_thread_parts (tenant_id, thread_id, part_id, base_id, content)
    SELECT :tenant, :thread_id, n.part_id, n.base_id, n.content
      FROM saved, unnest(:added, :bases, :contents) AS n (part_id, base_id, content)
    ON CONFLICT (tenant_id, thread_id, part_id) DO NOTHING
){% endif %}
SELECT 1 FROM saved

-- name: put_writes
-- in: thread_id text, namespace text, checkpoint_id text, task_ids text[], positions bigint[], task_paths text[], channels text[], kinds text[], contents bytea[]
INSERT INTO {{ schema }}.agent_thread_writes
    (tenant_id, thread_id, namespace, checkpoint_id, task_id, position, task_path, channel, kind, content)
SELECT :tenant, :thread_id, :namespace, :checkpoint_id, w.task_id, w.place, w.path, w.channel, w.kind, w.content
  FROM unnest(:task_ids, :positions, :task_paths, :channels, :kinds, :contents) AS w (task_id, place, path, channel, kind, content)
 ORDER BY w.task_id, w.place
ON CONFLICT (tenant_id, thread_id, namespace, checkpoint_id, task_id, position) DO UPDATE SET
    task_path = excluded.task_path, channel = excluded.channel, kind = excluded.kind, content = excluded.content
 WHERE excluded.position < 0

-- Three kinds of rows in one answer, of one snapshot: checkpoints, their parts, their writes.
-- name: read_checkpoints
-- in: thread_id text, namespace text, checkpoint_id text, below text, after_thread text, after_namespace text, after_id text, names text[], equals jsonb[], most bigint, known uuid[]
WITH chosen AS MATERIALIZED (
    SELECT c.thread_id, c.namespace, c.checkpoint_id, c.parent_id, c.metadata, c.document, c.document_base, c.parts
      FROM {{ schema }}.agent_thread_checkpoints AS c
     WHERE c.tenant_id = :tenant
{%- if thread %} AND c.thread_id = :thread_id{% endif %}
{%- if namespace %} AND c.namespace = :namespace{% endif %}
{%- if one %} AND c.checkpoint_id = :checkpoint_id{% endif %}
{%- if below %} AND c.checkpoint_id < :below{% endif %}
{%- if after %} AND c.checkpoint_id <= :after_id
       AND (c.checkpoint_id < :after_id OR (c.thread_id, c.namespace) > (:after_thread, :after_namespace)){% endif %}
{%- if equal %} AND NOT EXISTS (
           SELECT FROM unnest(:names, :equals) AS wanted (name, value)
            WHERE coalesce(c.metadata -> wanted.name, 'null') IS DISTINCT FROM wanted.value){% endif %}

     ORDER BY c.checkpoint_id DESC, c.thread_id, c.namespace LIMIT :most
)
SELECT 0::bigint AS sort, c.thread_id, c.namespace, c.checkpoint_id, c.parent_id, c.metadata, c.document, c.document_base, c.parts,
       NULL::text AS kind, NULL::bigint AS place
  FROM chosen AS c
UNION ALL
SELECT 1, NULL, NULL, NULL, NULL, NULL, p.content, p.base_id, ARRAY[p.part_id], NULL, NULL
  FROM {{ schema }}.agent_thread_parts AS p
{%- if thread %}
 WHERE p.tenant_id = :tenant AND p.thread_id = :thread_id AND p.part_id = ANY (ARRAY(
     SELECT unnest(c.parts) FROM chosen AS c EXCEPT SELECT unnest(:known)))
{%- else %}
  JOIN (SELECT DISTINCT c.thread_id, unnest(c.parts) AS part_id FROM chosen AS c) AS n USING (thread_id, part_id)
 WHERE p.tenant_id = :tenant
{%- endif %}

UNION ALL
SELECT 2, w.thread_id, w.namespace, w.checkpoint_id, w.task_id, to_jsonb(ARRAY[w.task_path, w.channel]), w.content, NULL, NULL,
       w.kind, w.position
  FROM chosen AS c, LATERAL (
      SELECT n.* FROM {{ schema }}.agent_thread_writes AS n
       WHERE n.tenant_id = :tenant AND n.thread_id = c.thread_id AND n.namespace = c.namespace
         AND n.checkpoint_id = c.checkpoint_id OFFSET 0) AS w

-- name: chain
-- in: thread_id text, namespace text, checkpoint_id text, most bigint
WITH RECURSIVE chosen AS (
    SELECT c.thread_id, c.namespace, c.checkpoint_id, c.parent_id, c.metadata, c.document, c.document_base, c.parts,
           1::bigint AS place
      FROM {{ schema }}.agent_thread_checkpoints AS c
     WHERE c.tenant_id = :tenant AND c.thread_id = :thread_id AND c.namespace = :namespace
       AND c.checkpoint_id = :checkpoint_id
    UNION ALL
    SELECT c.thread_id, c.namespace, c.checkpoint_id, c.parent_id, c.metadata, c.document, c.document_base, c.parts,
           b.place + 1
      FROM chosen AS b, LATERAL (
          SELECT p.* FROM {{ schema }}.agent_thread_checkpoints AS p
           WHERE p.tenant_id = :tenant AND p.thread_id = :thread_id AND p.namespace = :namespace
             AND p.checkpoint_id = b.parent_id LIMIT 1) AS c
     WHERE b.place < :most
)
SELECT 0::bigint AS sort, c.thread_id, c.namespace, c.checkpoint_id, c.parent_id, c.metadata, c.document, c.document_base, c.parts,
       NULL::text AS kind, c.place
  FROM chosen AS c
UNION ALL
SELECT 1, NULL, NULL, NULL, NULL, NULL, p.content, p.base_id, ARRAY[p.part_id], NULL, NULL
  FROM {{ schema }}.agent_thread_parts AS p
 WHERE p.tenant_id = :tenant AND p.thread_id = :thread_id
   AND p.part_id = ANY (ARRAY(SELECT c.document_base FROM chosen AS c))
UNION ALL
SELECT 2, w.thread_id, w.namespace, w.checkpoint_id, w.task_id, to_jsonb(ARRAY[w.task_path, w.channel]), w.content, NULL, NULL,
       w.kind, w.position
  FROM (SELECT DISTINCT checkpoint_id FROM chosen) AS c, LATERAL (
      SELECT n.* FROM {{ schema }}.agent_thread_writes AS n
       WHERE n.tenant_id = :tenant AND n.thread_id = :thread_id AND n.namespace = :namespace
         AND n.checkpoint_id = c.checkpoint_id OFFSET 0) AS w

-- name: outline
-- in: thread_id text, after_namespace text, after_id text, most bigint
SELECT namespace, checkpoint_id FROM {{ schema }}.agent_thread_checkpoints
 WHERE tenant_id = :tenant AND thread_id = :thread_id AND (namespace, checkpoint_id) > (:after_namespace, :after_id)
 ORDER BY namespace, checkpoint_id LIMIT :most

-- Whoever removes waits here for every checkpoint that is being built on one of these threads'; the
-- statement after this one sees it.
-- name: lock_threads
-- in: thread_ids text[]
SELECT count(*) FROM (
    SELECT FROM {{ schema }}.agent_thread_checkpoints
     WHERE tenant_id = :tenant AND thread_id = ANY (:thread_ids)
     ORDER BY thread_id, namespace, checkpoint_id FOR UPDATE) AS locked

-- name: threads_of_runs
-- in: run_ids text[]
SELECT DISTINCT thread_id FROM {{ schema }}.agent_thread_checkpoints
 WHERE tenant_id = :tenant AND run_id = ANY (:run_ids) ORDER BY thread_id

-- name: delete_checkpoints
-- in: thread_id text, namespaces text[], checkpoint_ids text[]
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(:namespaces, :checkpoint_ids) AS n (namespace, checkpoint_id)
), writes AS (
    DELETE FROM {{ schema }}.agent_thread_writes AS w USING asked AS a
     WHERE w.tenant_id = :tenant AND w.thread_id = :thread_id AND w.namespace = a.namespace
       AND w.checkpoint_id = a.checkpoint_id
), gone AS (
    DELETE FROM {{ schema }}.agent_thread_checkpoints AS c USING asked AS a
     WHERE c.tenant_id = :tenant AND c.thread_id = :thread_id AND c.namespace = a.namespace
       AND c.checkpoint_id = a.checkpoint_id
    RETURNING 1
)
SELECT count(*) FROM gone

-- name: delete_runs
-- in: run_ids text[], thread_ids text[]
WITH gone AS (
    DELETE FROM {{ schema }}.agent_thread_checkpoints
     WHERE tenant_id = :tenant AND run_id = ANY (:run_ids) AND thread_id = ANY (:thread_ids)
    RETURNING thread_id, namespace, checkpoint_id
), writes AS (
    DELETE FROM {{ schema }}.agent_thread_writes AS w USING gone AS g
     WHERE w.tenant_id = :tenant AND w.thread_id = g.thread_id AND w.namespace = g.namespace
       AND w.checkpoint_id = g.checkpoint_id
)
SELECT count(*) FROM gone

-- name: sweep_parts
-- in: thread_ids text[]
WITH named AS MATERIALIZED (
    SELECT DISTINCT c.thread_id, unnest(c.parts) AS part_id FROM {{ schema }}.agent_thread_checkpoints AS c
     WHERE c.tenant_id = :tenant AND c.thread_id = ANY (:thread_ids)
)
DELETE FROM {{ schema }}.agent_thread_parts AS p
 WHERE p.tenant_id = :tenant AND p.thread_id = ANY (:thread_ids)
   AND NOT EXISTS (SELECT FROM named AS n WHERE n.thread_id = p.thread_id AND n.part_id = p.part_id)

-- The parts are swept afterwards: a checkpoint that was put meanwhile stays, and leans on parts of those that go.
-- name: delete_thread
-- in: thread_id text
WITH writes AS (
    DELETE FROM {{ schema }}.agent_thread_writes WHERE tenant_id = :tenant AND thread_id = :thread_id
), gone AS (
    DELETE FROM {{ schema }}.agent_thread_checkpoints WHERE tenant_id = :tenant AND thread_id = :thread_id RETURNING 1
)
SELECT count(*) FROM gone

-- Whoever copies to the same thread waits here for the one before; the row goes again, and the statement after that sees
-- what was copied. No write has an empty channel.
-- name: guard_thread
-- in: new_id text
INSERT INTO {{ schema }}.agent_thread_writes
    (tenant_id, thread_id, namespace, checkpoint_id, task_id, position, task_path, channel, kind, content)
VALUES (:tenant, :new_id, '', ' ', ' ', 0, '', '', '', '') ON CONFLICT DO NOTHING

-- name: release_thread
-- in: new_id text
DELETE FROM {{ schema }}.agent_thread_writes
 WHERE tenant_id = :tenant AND thread_id = :new_id AND namespace = '' AND checkpoint_id = ' ' AND task_id = ' '
   AND position = 0 AND channel = ''

-- Two columns: whether the thread is there, and whether the new one is free. The copies fail when
-- somebody else puts one of these checkpoints there meanwhile.
-- name: copy_thread
-- in: thread_id text, new_id text
WITH state AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM {{ schema }}.agent_thread_checkpoints
                    WHERE tenant_id = :tenant AND thread_id = :thread_id) AS there,
           NOT EXISTS (SELECT FROM {{ schema }}.agent_thread_checkpoints
                        WHERE tenant_id = :tenant AND thread_id = :new_id)
           AND NOT EXISTS (SELECT FROM {{ schema }}.agent_thread_writes
                            WHERE tenant_id = :tenant AND thread_id = :new_id) AS free
), parts AS (
    INSERT INTO {{ schema }}.agent_thread_parts (tenant_id, thread_id, part_id, base_id, content)
    SELECT :tenant, :new_id, p.part_id, p.base_id, p.content FROM {{ schema }}.agent_thread_parts AS p, state
     WHERE state.there AND state.free AND p.tenant_id = :tenant AND p.thread_id = :thread_id
), writes AS (
    INSERT INTO {{ schema }}.agent_thread_writes
        (tenant_id, thread_id, namespace, checkpoint_id, task_id, position, task_path, channel, kind, content)
    SELECT :tenant, :new_id, w.namespace, w.checkpoint_id, w.task_id, w.position, w.task_path, w.channel, w.kind, w.content
      FROM {{ schema }}.agent_thread_writes AS w, state
     WHERE state.there AND state.free AND w.tenant_id = :tenant AND w.thread_id = :thread_id
), made AS (
    INSERT INTO {{ schema }}.agent_thread_checkpoints
        (tenant_id, thread_id, namespace, checkpoint_id, parent_id, run_id, document_base, parts, document, metadata)
    SELECT :tenant, :new_id, c.namespace, c.checkpoint_id, c.parent_id, c.run_id, c.document_base, c.parts, c.document,
           c.metadata
      FROM {{ schema }}.agent_thread_checkpoints AS c, state
     WHERE state.there AND state.free AND c.tenant_id = :tenant AND c.thread_id = :thread_id
)
SELECT there, free FROM state
