-- `LIMIT 1` beside a whole primary key tells the planner, who has no statistics of it, that there is one row.
-- The messages that a session sees: all of the thread that it appends to, and of each thread that it was branched from
-- (`session_ancestry`) those through a number. Each of them is one range of the primary key.
-- A verb that takes messages away first locks the session and every sight of its threads (`lock`, `lock_family`), in
-- the same round trip, so that the statement after them sees what else sees the messages. It acts on no session that it
-- has not locked (`xmax` is then another's, or nobody's): one that came after `lock` was not there. And it does nothing
-- while a sight came after `lock_family`, because somebody else may take messages away at the same moment: it says `busy`.

-- name: create
-- in: session text, data jsonb, metadata jsonb, ttl float8, expires_at timestamptz
INSERT INTO {{ schema }}.sessions (tenant_id, session_id, session_data, metadata, expires_at)
VALUES (:tenant, :session, :data, :metadata, coalesce(:expires_at, clock_timestamp() + make_interval(secs => :ttl)))
RETURNING session_id, session_data, metadata,
       CASE WHEN status = 'active' AND expires_at <= statement_timestamp() THEN 'expired' ELSE status END,
       data_version, message_count, last_sequence, artifact_count, parent_id, branched_at,
       expires_at, last_accessed_at, created_at, updated_at

-- name: get
-- in: session text
SELECT session_id, session_data, metadata,
       CASE WHEN status = 'active' AND expires_at <= statement_timestamp() THEN 'expired' ELSE status END,
       data_version, message_count, last_sequence, artifact_count, parent_id, branched_at,
       expires_at, last_accessed_at, created_at, updated_at
  FROM {{ schema }}.sessions WHERE tenant_id = :tenant AND session_id = :session

-- Rows that come back: the status that was found and the version, then the session if it was written.
-- name: update
-- in: session text, data jsonb, metadata jsonb, expected bigint
WITH found AS (
    SELECT CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS status,
           s.data_version
      FROM {{ schema }}.sessions AS s WHERE s.tenant_id = :tenant AND s.session_id = :session LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.sessions AS s
       SET session_data = coalesce({% if merge %}s.session_data || {% endif %}:data, s.session_data),
           metadata = coalesce(:metadata, s.metadata), data_version = s.data_version + 1,
           updated_at = now(), last_accessed_at = now()
      FROM found AS f
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND f.status = 'active'
       AND (:expected IS NULL OR f.data_version = :expected)
    RETURNING s.*
)
SELECT f.status, f.data_version, s.session_id, s.session_data, s.metadata,
       CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END,
       s.data_version, s.message_count, s.last_sequence, s.artifact_count, s.parent_id, s.branched_at,
       s.expires_at, s.last_accessed_at, s.created_at, s.updated_at
  FROM found AS f LEFT JOIN changed AS s ON true

-- name: touch
-- in: session text, renewed boolean, ttl float8, expires_at timestamptz
WITH found AS (
    SELECT CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS status,
           s.data_version
      FROM {{ schema }}.sessions AS s WHERE s.tenant_id = :tenant AND s.session_id = :session LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.sessions AS s
       SET last_accessed_at = now(),
           expires_at = CASE WHEN :renewed THEN coalesce(:expires_at, clock_timestamp() + make_interval(secs => :ttl))
                             ELSE s.expires_at END
      FROM found AS f
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND f.status = 'active'
    RETURNING s.*
)
SELECT f.status, f.data_version, s.session_id, s.session_data, s.metadata,
       CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END,
       s.data_version, s.message_count, s.last_sequence, s.artifact_count, s.parent_id, s.branched_at,
       s.expires_at, s.last_accessed_at, s.created_at, s.updated_at
  FROM found AS f LEFT JOIN changed AS s ON true

-- name: move
-- in: session text, before text, after text, renewed boolean, ttl float8, expires_at timestamptz
WITH found AS (
    SELECT s.*, CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS seen
      FROM {{ schema }}.sessions AS s WHERE s.tenant_id = :tenant AND s.session_id = :session LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.sessions AS s
       SET status = :after, data_version = s.data_version + 1, updated_at = now(), last_accessed_at = now(),
           expires_at = CASE WHEN :renewed THEN coalesce(:expires_at, clock_timestamp() + make_interval(secs => :ttl))
                             ELSE s.expires_at END
      FROM found AS f
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND f.seen = :before
    RETURNING s.*, NULL::text AS seen
)
SELECT f.seen, f.data_version, s.session_id, s.session_data, s.metadata,
       CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END,
       s.data_version, s.message_count, s.last_sequence, s.artifact_count, s.parent_id, s.branched_at,
       s.expires_at, s.last_accessed_at, s.created_at, s.updated_at
  FROM found AS f
  LEFT JOIN (SELECT * FROM changed UNION ALL SELECT * FROM found WHERE seen = :after) AS s ON true

-- name: lock
-- in: sessions text[]
SELECT 1 FROM {{ schema }}.sessions WHERE tenant_id = :tenant AND session_id = ANY (:sessions) FOR UPDATE

-- name: lock_family
-- in: sessions text[]
SELECT 1 FROM {{ schema }}.session_ancestry AS a
 WHERE a.tenant_id = :tenant AND a.thread_id = ANY (ARRAY(
       SELECT s.thread_id FROM {{ schema }}.sessions AS s
        WHERE s.tenant_id = :tenant AND s.session_id = ANY (:sessions) AND s.thread_id IS NOT NULL
       UNION ALL
       SELECT o.thread_id FROM {{ schema }}.session_ancestry AS o
        WHERE o.tenant_id = :tenant AND o.session_id = ANY (:sessions)))
 ORDER BY a.thread_id, a.session_id FOR UPDATE OF a

-- Rows that come back: one; whether it was busy, and how many sessions it removed.
-- name: remove
-- in: sessions text[]
WITH locked AS (
    SELECT s.session_id, s.thread_id FROM {{ schema }}.sessions AS s
     WHERE s.tenant_id = :tenant AND s.session_id = ANY (:sessions) AND s.xmax = pg_current_xact_id_if_assigned()::xid
), sights AS (
    SELECT l.thread_id FROM locked AS l WHERE l.thread_id IS NOT NULL
    UNION
    SELECT a.thread_id FROM locked AS l JOIN {{ schema }}.session_ancestry AS a
        ON a.tenant_id = :tenant AND a.session_id = l.session_id
), others AS (
    SELECT EXISTS (SELECT FROM {{ schema }}.session_ancestry AS a
                    WHERE a.tenant_id = :tenant AND a.thread_id = ANY (ARRAY(SELECT thread_id FROM sights))
                      AND a.xmax <> pg_current_xact_id()::xid) AS busy
), family AS (
    SELECT f.thread_id FROM sights AS f, others AS o WHERE NOT o.busy
), kept AS (
    SELECT f.thread_id, coalesce(
               (SELECT 9223372036854775807 FROM {{ schema }}.sessions AS o
                 WHERE o.tenant_id = :tenant AND o.thread_id = f.thread_id AND o.session_id <> ALL (:sessions) LIMIT 1),
               (SELECT max(a.through) FROM {{ schema }}.session_ancestry AS a
                 WHERE a.tenant_id = :tenant AND a.thread_id = f.thread_id AND a.session_id <> ALL (:sessions)), 0) AS through
      FROM family AS f
), removed AS (
    DELETE FROM {{ schema }}.session_messages AS m
     WHERE m.tenant_id = :tenant AND m.thread_id = ANY (ARRAY(SELECT thread_id FROM kept))
       AND m.sequence > (SELECT min(through) FROM kept)
       AND m.sequence > (SELECT k.through FROM kept AS k WHERE k.thread_id = m.thread_id)
), gone AS (
    DELETE FROM {{ schema }}.sessions AS s USING locked AS l, others AS o
     WHERE s.tenant_id = :tenant AND s.session_id = l.session_id AND NOT o.busy
    RETURNING 1
)
SELECT o.busy, (SELECT count(*) FROM gone) FROM others AS o

-- name: clear
-- in: session text
WITH locked AS (
    SELECT CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS status,
           s.message_count, s.thread_id
      FROM {{ schema }}.sessions AS s
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND s.xmax = pg_current_xact_id_if_assigned()::xid LIMIT 1
), family AS (
    SELECT l.thread_id FROM locked AS l WHERE l.thread_id IS NOT NULL
    UNION ALL
    SELECT a.thread_id FROM {{ schema }}.session_ancestry AS a
     WHERE a.tenant_id = :tenant AND a.session_id = :session
), found AS (
    SELECT CASE WHEN EXISTS (
               SELECT FROM {{ schema }}.session_ancestry AS a
                WHERE a.tenant_id = :tenant AND a.thread_id = ANY (ARRAY(SELECT thread_id FROM family))
                  AND a.xmax <> pg_current_xact_id()::xid) THEN 'busy' ELSE l.status END AS status, l.message_count
      FROM locked AS l
), kept AS (
    SELECT f.thread_id, coalesce(
               (SELECT 9223372036854775807 FROM {{ schema }}.sessions AS o
                 WHERE o.tenant_id = :tenant AND o.thread_id = f.thread_id AND o.session_id <> :session LIMIT 1),
               (SELECT max(a.through) FROM {{ schema }}.session_ancestry AS a
                 WHERE a.tenant_id = :tenant AND a.thread_id = f.thread_id AND a.session_id <> :session), 0) AS through
      FROM family AS f, found WHERE found.status = 'active'
), removed AS (
    DELETE FROM {{ schema }}.session_messages AS m
     WHERE m.tenant_id = :tenant AND m.thread_id = ANY (ARRAY(SELECT thread_id FROM kept))
       AND m.sequence > (SELECT min(through) FROM kept)
       AND m.sequence > (SELECT k.through FROM kept AS k WHERE k.thread_id = m.thread_id)
), forgotten AS (
    DELETE FROM {{ schema }}.session_ancestry AS a USING found AS f
     WHERE a.tenant_id = :tenant AND a.session_id = :session AND f.status = 'active'
), emptied AS (
    UPDATE {{ schema }}.sessions AS s
       SET thread_id = NULL, message_count = 0, last_accessed_at = now()
      FROM found AS f WHERE s.tenant_id = :tenant AND s.session_id = :session AND f.status = 'active'
)
SELECT status, message_count FROM found

-- name: listing
-- in: status text, before timestamptz, before_id text, most bigint
{% if expired %}
WITH due AS MATERIALIZED (
    SELECT * FROM {{ schema }}.sessions
     WHERE tenant_id = :tenant AND status = 'active' AND expires_at <= statement_timestamp()
)
SELECT s.session_id, s.session_data, s.metadata,
       CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END,
       s.data_version, s.message_count, s.last_sequence, s.artifact_count, s.parent_id, s.branched_at,
       s.expires_at, s.last_accessed_at, s.created_at, s.updated_at
  FROM (
    (SELECT * FROM {{ schema }}.sessions
      WHERE tenant_id = :tenant AND status = 'expired' AND (created_at, session_id) < (:before, :before_id)
      ORDER BY created_at DESC, session_id DESC LIMIT :most)
    UNION ALL
    SELECT * FROM due WHERE (created_at, session_id) < (:before, :before_id)
  ) AS s
 ORDER BY s.created_at DESC, s.session_id DESC LIMIT :most
{% else %}
SELECT session_id, session_data, metadata,
       CASE WHEN status = 'active' AND expires_at <= statement_timestamp() THEN 'expired' ELSE status END,
       data_version, message_count, last_sequence, artifact_count, parent_id, branched_at,
       expires_at, last_accessed_at, created_at, updated_at
  FROM {{ schema }}.sessions
 WHERE tenant_id = :tenant AND (created_at, session_id) < (:before, :before_id)
{% if by_status %}
   AND status = :status AND (status <> 'active' OR expires_at IS NULL OR expires_at > statement_timestamp())
{% endif %}
 ORDER BY created_at DESC, session_id DESC LIMIT :most
{% endif %}

-- What another caller is changing at this moment is left for the next time.
-- name: expire
-- in: most bigint
WITH due AS (
    SELECT session_id FROM {{ schema }}.sessions
     WHERE tenant_id = :tenant AND status = 'active' AND expires_at <= statement_timestamp()
     ORDER BY expires_at, session_id LIMIT :most FOR UPDATE SKIP LOCKED
), marked AS (
    UPDATE {{ schema }}.sessions SET status = 'expired'
     WHERE tenant_id = :tenant AND session_id = ANY (ARRAY(SELECT session_id FROM due)) RETURNING 1
)
SELECT count(*) FROM marked

-- name: due
-- in: older_than float8, most bigint
SELECT session_id FROM {{ schema }}.sessions
 WHERE tenant_id = :tenant AND status = 'expired' AND expires_at <= statement_timestamp() - make_interval(secs => :older_than)
 ORDER BY created_at, session_id LIMIT :most FOR UPDATE SKIP LOCKED

-- A key that somebody appends at the same moment is a duplicate; the caller asks again and finds the message, as it does
-- when the session has gone on to another thread, whose index knows nothing of the keys of the one before. Rows that
-- come back: the status that was found; for a known message, its values; for a new one, number and time.
-- name: append
-- in: session text, thread uuid, roles text[], contents jsonb[], tokens bigint[], weights bigint[], keys text[], metadata jsonb[]
WITH found AS (
    SELECT CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS status,
           s.thread_id
      FROM {{ schema }}.sessions AS s WHERE s.tenant_id = :tenant AND s.session_id = :session LIMIT 1
), given AS (
    SELECT g.*
      FROM unnest(:roles, :contents, :tokens, :weights, :keys, :metadata) WITH ORDINALITY
        AS g (role, content, tokens, weight, idempotency_key, metadata, place)
{% if keyed %}
), family AS (
    (SELECT s.thread_id, 9223372036854775807 AS through FROM {{ schema }}.sessions AS s
      WHERE s.tenant_id = :tenant AND s.session_id = :session AND s.thread_id IS NOT NULL LIMIT 1)
    UNION ALL
    SELECT a.thread_id, a.through FROM {{ schema }}.session_ancestry AS a
     WHERE a.tenant_id = :tenant AND a.session_id = :session
), known AS (
    SELECT g.place, m.sequence, m.role, m.content, m.tokens, m.idempotency_key, m.metadata, m.created_at
      FROM family AS f CROSS JOIN LATERAL (
        SELECT * FROM {{ schema }}.session_messages AS n
         WHERE n.tenant_id = :tenant AND n.thread_id = f.thread_id AND n.idempotency_key = ANY (:keys)
           AND n.sequence <= f.through OFFSET 0
      ) AS m JOIN given AS g ON g.idempotency_key = m.idempotency_key
), fresh AS (
    SELECT g.*, row_number() OVER (ORDER BY g.place) AS number FROM given AS g
     WHERE NOT EXISTS (SELECT FROM known AS k WHERE k.place = g.place)
{% else %}
), fresh AS (
    SELECT g.*, g.place AS number FROM given AS g
{% endif %}
), bumped AS (
    UPDATE {{ schema }}.sessions AS s
       SET last_sequence = s.last_sequence + n.added, message_count = s.message_count + n.added,
           thread_id = coalesce(s.thread_id, :thread), last_accessed_at = now()
      FROM (SELECT count(*) AS added FROM fresh) AS n{% if keyed %}, found AS f{% endif %}

     WHERE s.tenant_id = :tenant AND s.session_id = :session AND n.added > 0
{% if keyed %}
       AND s.thread_id IS NOT DISTINCT FROM f.thread_id
{% endif %}
       AND CASE s.status WHEN 'active' THEN coalesce(s.expires_at > statement_timestamp(), true) END
    RETURNING s.thread_id, s.last_sequence - n.added AS sequence, s.message_count - n.added AS position
), written AS (
    INSERT INTO {{ schema }}.session_messages
        (tenant_id, thread_id, sequence, position, role, content, tokens, weight, idempotency_key, metadata, created_at)
    SELECT :tenant, b.thread_id, b.sequence + f.number, b.position + f.number, f.role, f.content, f.tokens, f.weight,
           f.idempotency_key, f.metadata, clock_timestamp()
      FROM fresh AS f CROSS JOIN bumped AS b ORDER BY f.number
    RETURNING sequence, created_at
)
{% if keyed %}
SELECT f.status, m.*
  FROM found AS f
  LEFT JOIN (
    SELECT k.place, k.sequence, k.role, k.content, k.tokens, k.idempotency_key, k.metadata, k.created_at FROM known AS k
    UNION ALL
    SELECT NULL, w.sequence, NULL, NULL, NULL, NULL, NULL, w.created_at FROM written AS w
  ) AS m ON true
 ORDER BY m.sequence
{% else %}
SELECT f.status, NULL, m.sequence, NULL, NULL, NULL, NULL, NULL, m.created_at
  FROM found AS f LEFT JOIN written AS m ON true ORDER BY m.sequence
{% endif %}

-- A session without such messages gives one row of NULLs, one that is not there none.
-- name: messages
-- in: session text, after bigint, before bigint, role text, most bigint
SELECT m.sequence, m.role, m.content, m.tokens, m.idempotency_key, m.metadata, m.created_at
  FROM (SELECT thread_id FROM {{ schema }}.sessions
         WHERE tenant_id = :tenant AND session_id = :session LIMIT 1) AS s
  LEFT JOIN LATERAL (
    SELECT x.* FROM (
        SELECT s.thread_id, 9223372036854775807 AS through WHERE s.thread_id IS NOT NULL
        UNION ALL
        SELECT a.thread_id, a.through FROM {{ schema }}.session_ancestry AS a
         WHERE a.tenant_id = :tenant AND a.session_id = :session
    ) AS f CROSS JOIN LATERAL (
        SELECT n.sequence, n.role, n.content, n.tokens, n.idempotency_key, n.metadata, n.created_at
          FROM {{ schema }}.session_messages AS n
         WHERE n.tenant_id = :tenant AND n.thread_id = f.thread_id AND n.sequence <= f.through
           AND n.sequence > :after AND n.sequence < :before
{% if by_role %}
           AND n.role = :role
{% endif %}
         ORDER BY n.sequence {% if newest %}DESC{% endif %} LIMIT :most
    ) AS x ORDER BY x.sequence {% if newest %}DESC{% endif %} LIMIT :most
  ) AS m ON true
 ORDER BY m.sequence {% if newest %}DESC{% endif %}

-- name: window
-- in: session text, most_tokens bigint, most bigint
SELECT m.sequence, m.role, m.content, m.tokens, m.idempotency_key, m.metadata, m.created_at
  FROM (SELECT thread_id FROM {{ schema }}.sessions
         WHERE tenant_id = :tenant AND session_id = :session LIMIT 1) AS s
  LEFT JOIN LATERAL (
    SELECT y.*, sum(y.weight) OVER (ORDER BY y.sequence DESC) AS total FROM (
        SELECT x.* FROM (
            SELECT s.thread_id, 9223372036854775807 AS through WHERE s.thread_id IS NOT NULL
            UNION ALL
            SELECT a.thread_id, a.through FROM {{ schema }}.session_ancestry AS a
             WHERE a.tenant_id = :tenant AND a.session_id = :session
        ) AS f CROSS JOIN LATERAL (
            SELECT n.sequence, n.role, n.content, n.tokens, n.idempotency_key, n.metadata, n.created_at, n.weight
              FROM {{ schema }}.session_messages AS n
             WHERE n.tenant_id = :tenant AND n.thread_id = f.thread_id AND n.sequence <= f.through
             ORDER BY n.sequence DESC LIMIT :most
        ) AS x ORDER BY x.sequence DESC LIMIT :most
    ) AS y
  ) AS m ON m.total <= :most_tokens
 ORDER BY m.sequence

-- name: count
-- in: session text, role text
SELECT CASE WHEN :role IS NULL THEN s.message_count ELSE (
    SELECT count(*) FROM (
    (SELECT s.thread_id, 9223372036854775807 AS through FROM {{ schema }}.sessions AS s
      WHERE s.tenant_id = :tenant AND s.session_id = :session AND s.thread_id IS NOT NULL LIMIT 1)
    UNION ALL
    SELECT a.thread_id, a.through FROM {{ schema }}.session_ancestry AS a
     WHERE a.tenant_id = :tenant AND a.session_id = :session
    ) AS f JOIN {{ schema }}.session_messages AS m
        ON m.tenant_id = :tenant AND m.thread_id = f.thread_id AND m.role = :role AND m.sequence <= f.through) END
  FROM {{ schema }}.sessions AS s WHERE s.tenant_id = :tenant AND s.session_id = :session

-- Keeps the session from losing messages until the branch sees them, and appends going on. The setting, which ends with
-- the transaction, tells `branch` that there was a session to hold: one that comes after this is not held.
-- name: hold
-- in: session text
SELECT set_config('llmspell.held', 'yes', true) FROM (
    SELECT FROM {{ schema }}.sessions WHERE tenant_id = :tenant AND session_id = :session FOR KEY SHARE) AS held

-- name: branch
-- in: session text, at bigint, new_session text, data jsonb, metadata jsonb, ttl float8, expires_at timestamptz
WITH source AS (
    SELECT s.*, coalesce(:at, s.last_sequence) AS at FROM {{ schema }}.sessions AS s
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND current_setting('llmspell.held', true) = 'yes' LIMIT 1
), family AS (
    SELECT s.thread_id, s.at AS through FROM source AS s WHERE s.thread_id IS NOT NULL
    UNION ALL
    SELECT a.thread_id, least(a.through, s.at) FROM source AS s, {{ schema }}.session_ancestry AS a
     WHERE a.tenant_id = :tenant AND a.session_id = :session
), reached AS (
    SELECT f.thread_id, f.through, m.position FROM family AS f CROSS JOIN LATERAL (
        SELECT n.position FROM {{ schema }}.session_messages AS n
         WHERE n.tenant_id = :tenant AND n.thread_id = f.thread_id AND n.sequence <= f.through
         ORDER BY n.sequence DESC LIMIT 1) AS m
), made AS (
    INSERT INTO {{ schema }}.sessions
        (tenant_id, session_id, session_data, metadata, expires_at, last_sequence, message_count, parent_id, branched_at)
    SELECT :tenant, :new_session, coalesce(:data, s.session_data), coalesce(:metadata, s.metadata),
           coalesce(:expires_at, clock_timestamp() + make_interval(secs => :ttl)), s.at,
           coalesce((SELECT max(r.position) FROM reached AS r), 0), :session, s.at
      FROM source AS s WHERE s.at <= s.last_sequence
    RETURNING *
), linked AS (
    INSERT INTO {{ schema }}.session_ancestry (tenant_id, session_id, thread_id, through)
    SELECT :tenant, m.session_id, r.thread_id, r.through FROM made AS m CROSS JOIN reached AS r
)
SELECT f.last_sequence, s.session_id, s.session_data, s.metadata,
       CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END,
       s.data_version, s.message_count, s.last_sequence, s.artifact_count, s.parent_id, s.branched_at,
       s.expires_at, s.last_accessed_at, s.created_at, s.updated_at
  FROM source AS f LEFT JOIN made AS s ON true

-- name: pop_last
-- in: session text
WITH locked AS (
    SELECT CASE WHEN s.status = 'active' AND s.expires_at <= statement_timestamp() THEN 'expired' ELSE s.status END AS status,
           s.thread_id
      FROM {{ schema }}.sessions AS s
     WHERE s.tenant_id = :tenant AND s.session_id = :session AND s.xmax = pg_current_xact_id_if_assigned()::xid LIMIT 1
), family AS (
    SELECT l.thread_id, 9223372036854775807 AS through FROM locked AS l WHERE l.thread_id IS NOT NULL
    UNION ALL
    SELECT a.thread_id, a.through FROM {{ schema }}.session_ancestry AS a
     WHERE a.tenant_id = :tenant AND a.session_id = :session
), found AS (
    SELECT CASE WHEN EXISTS (
               SELECT FROM {{ schema }}.session_ancestry AS a
                WHERE a.tenant_id = :tenant AND a.thread_id = ANY (ARRAY(SELECT thread_id FROM family))
                  AND a.xmax <> pg_current_xact_id()::xid) THEN 'busy' ELSE l.status END AS status, l.thread_id
      FROM locked AS l
), newest AS (
    SELECT x.*, x.thread_id = found.thread_id AS own FROM found CROSS JOIN family AS f CROSS JOIN LATERAL (
        SELECT m.* FROM {{ schema }}.session_messages AS m
         WHERE m.tenant_id = :tenant AND m.thread_id = f.thread_id AND m.sequence <= f.through
         ORDER BY m.sequence DESC LIMIT 1
    ) AS x WHERE found.status = 'active' ORDER BY x.sequence DESC LIMIT 1
), last AS (
    SELECT n.*, coalesce(n.own, false) AS mine,
           EXISTS (SELECT FROM {{ schema }}.sessions AS o
                    WHERE o.tenant_id = :tenant AND o.thread_id = n.thread_id AND o.session_id <> :session)
        OR EXISTS (SELECT FROM {{ schema }}.session_ancestry AS a
                    WHERE a.tenant_id = :tenant AND a.thread_id = n.thread_id AND a.through >= n.sequence
                      AND a.session_id <> :session) AS shared
      FROM newest AS n
), shortened AS (
    UPDATE {{ schema }}.session_ancestry AS a SET through = l.sequence - 1 FROM last AS l
     WHERE a.tenant_id = :tenant AND a.session_id = :session AND a.thread_id = l.thread_id AND NOT l.mine
), left_behind AS (
    INSERT INTO {{ schema }}.session_ancestry (tenant_id, session_id, thread_id, through)
    SELECT :tenant, :session, l.thread_id, l.sequence - 1 FROM last AS l WHERE l.mine AND l.shared
), removed AS (
    DELETE FROM {{ schema }}.session_messages AS m USING last AS l
     WHERE m.tenant_id = :tenant AND m.thread_id = l.thread_id AND m.sequence = l.sequence AND NOT l.shared
), counted AS (
    UPDATE {{ schema }}.sessions AS s
       SET message_count = s.message_count - 1, last_accessed_at = now(),
           thread_id = CASE WHEN l.mine AND l.shared THEN NULL ELSE s.thread_id END
      FROM last AS l WHERE s.tenant_id = :tenant AND s.session_id = :session
)
SELECT f.status, l.sequence, l.role, l.content, l.tokens, l.idempotency_key, l.metadata, l.created_at
  FROM found AS f LEFT JOIN last AS l ON true
