-- `LIMIT 1` beside a whole primary key tells the planner, who has no statistics of it, that there is one row.
-- Each write first locks the row and reads what decides (`found`), then changes it if that holds; the caller is told
-- what was found, so that a refusal says why. Rows that come back: what was found, then the workflow if it was written.

-- A save that asks for nothing and leaves the status is never refused: it needs no look before. The state, which the
-- caller has, does not come back.
-- name: put
-- in: workflow text, state jsonb, name text, step bigint
INSERT INTO {{ schema }}.workflow_states AS w (tenant_id, workflow_id, workflow_name, state_data, current_step)
VALUES (:tenant, :workflow, :name, :state, coalesce(:step, 0))
ON CONFLICT (tenant_id, workflow_id) DO UPDATE
   SET state_data = excluded.state_data, workflow_name = coalesce(:name, w.workflow_name),
       current_step = coalesce(:step, w.current_step), data_version = w.data_version + 1, last_updated = now()
RETURNING workflow_id, workflow_name, current_step, status, steps_completed, last_step, error, attempts, data_version,
       fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated

-- name: save
-- in: workflow text, state jsonb, name text, step bigint, status text, sources text[], expected bigint, token bigint
WITH found AS (
    SELECT w.status, w.data_version, w.fencing_token, w.lease_owner, coalesce(:status, w.status) AS next
      FROM {{ schema }}.workflow_states AS w WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET state_data = :state, workflow_name = coalesce(:name, w.workflow_name),
           current_step = coalesce(:step, w.current_step), status = f.next, data_version = w.data_version + 1,
           last_updated = now(),
           started_at = CASE WHEN f.next = 'running' THEN coalesce(w.started_at, now()) ELSE w.started_at END,
           completed_at = CASE WHEN f.next = f.status THEN w.completed_at WHEN f.next <> 'running' THEN now() END,
           attempts = w.attempts + (f.next = 'running' AND f.status <> 'running')::integer,
           fencing_token = w.fencing_token
               + (f.next NOT IN (f.status, 'running') AND w.lease_owner IS NOT NULL)::integer,
           lease_owner = CASE WHEN f.next IN (f.status, 'running') THEN w.lease_owner END,
           lease_seconds = CASE WHEN f.next IN (f.status, 'running') THEN w.lease_seconds END,
           lease_expires_at = CASE WHEN f.next IN (f.status, 'running') THEN w.lease_expires_at END
      FROM found AS f
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow
       AND (f.next = f.status OR f.status = ANY (:sources))
       AND (:expected IS NULL OR f.data_version = :expected)
       AND (:token IS NULL OR (f.fencing_token = :token AND f.lease_owner IS NOT NULL))
    RETURNING w.*
), made AS (
    INSERT INTO {{ schema }}.workflow_states
        (tenant_id, workflow_id, workflow_name, state_data, current_step, status, attempts, started_at, completed_at)
    SELECT :tenant, :workflow, :name, :state, coalesce(:step, 0), coalesce(:status, 'pending'),
           (:status IS NOT DISTINCT FROM 'running')::integer,
           CASE WHEN :status IN ('running', 'completed', 'failed') THEN now() END,
           CASE WHEN :status IN ('completed', 'failed', 'cancelled') THEN now() END
     WHERE NOT EXISTS (SELECT FROM found) AND coalesce(:expected, 0) = 0 AND :token IS NULL
    ON CONFLICT DO NOTHING
    RETURNING *
)
SELECT f.status, f.data_version, f.fencing_token, f.lease_owner, w.workflow_id, w.workflow_name, w.state_data,
       w.current_step, w.status, w.steps_completed, w.last_step, w.error, w.attempts, w.data_version, w.fencing_token,
       w.lease_owner, w.lease_expires_at, w.started_at, w.completed_at, w.created_at, w.last_updated
  FROM (SELECT 1) AS always
  LEFT JOIN found AS f ON true
  LEFT JOIN (SELECT * FROM changed UNION ALL SELECT * FROM made) AS w ON true

-- name: load
-- in: workflow text
SELECT workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
       data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated
  FROM {{ schema }}.workflow_states WHERE tenant_id = :tenant AND workflow_id = :workflow

-- name: delete
-- in: workflow text
DELETE FROM {{ schema }}.workflow_states WHERE tenant_id = :tenant AND workflow_id = :workflow RETURNING true

-- What may be done is done without a look before (`changed`); what is refused is read to say why (`kept`), and of that
-- too a workflow that with `stay` has the status already. Rows that come back: what was found, then the workflow unless
-- it is refused, then its last step.
-- name: change
-- in: workflow text, status text, sources text[], stay boolean, error jsonb, expected bigint, token bigint
WITH changed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET status = :status, error = coalesce(:error, w.error), data_version = w.data_version + 1, last_updated = now(),
           started_at = CASE WHEN :status = 'running' THEN coalesce(w.started_at, now()) ELSE w.started_at END,
           completed_at = CASE WHEN :status <> 'running' THEN now() END,
           attempts = w.attempts + (:status = 'running')::integer,
           fencing_token = w.fencing_token + (:status <> 'running' AND w.lease_owner IS NOT NULL)::integer,
           lease_owner = CASE WHEN :status = 'running' THEN w.lease_owner END,
           lease_seconds = CASE WHEN :status = 'running' THEN w.lease_seconds END,
           lease_expires_at = CASE WHEN :status = 'running' THEN w.lease_expires_at END
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow AND w.status = ANY (:sources)
       AND (:expected IS NULL OR w.data_version = :expected)
       AND (:token IS NULL OR (w.fencing_token = :token AND w.lease_owner IS NOT NULL))
    RETURNING w.*
), kept AS (
    SELECT w.* FROM {{ schema }}.workflow_states AS w
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow AND NOT EXISTS (SELECT FROM changed) LIMIT 1
)
SELECT w.status, w.data_version, w.fencing_token, w.lease_owner, CASE WHEN w.done THEN w.workflow_id END, w.workflow_name,
       w.state_data, w.current_step, w.status, w.steps_completed, w.last_step, w.error, w.attempts, w.data_version,
       w.fencing_token, w.lease_owner, w.lease_expires_at, w.started_at, w.completed_at, w.created_at, w.last_updated,
       s.step, s.position, s.output, s.completed_at
  FROM (
    SELECT c.*, true AS done FROM changed AS c
    UNION ALL
    SELECT k.*, :stay AND k.status = :status AND (:expected IS NULL OR k.data_version = :expected)
           AND (:token IS NULL OR (k.fencing_token = :token AND k.lease_owner IS NOT NULL)) FROM kept AS k
  ) AS w
  LEFT JOIN {{ schema }}.workflow_steps AS s
    ON s.tenant_id = :tenant AND s.workflow_id = :workflow AND s.step = w.last_step

-- A step that somebody completes at the same moment is a duplicate key; the caller asks again and finds it.
-- name: complete_step
-- in: workflow text, step text, output jsonb, state jsonb, token bigint
WITH found AS (
    SELECT w.status, w.data_version, w.fencing_token, w.lease_owner FROM {{ schema }}.workflow_states AS w
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow LIMIT 1 FOR UPDATE
), known AS (
    SELECT s.step, s.position, s.output, s.completed_at FROM {{ schema }}.workflow_steps AS s, found AS f
     WHERE s.tenant_id = :tenant AND s.workflow_id = :workflow AND s.step = :step AND f.status = 'running'
       AND (:token IS NULL OR (f.fencing_token = :token AND f.lease_owner IS NOT NULL))
), changed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET steps_completed = w.steps_completed + 1, current_step = w.current_step + 1, last_step = :step,
           state_data = coalesce(:state, w.state_data), data_version = w.data_version + 1, last_updated = now()
      FROM found AS f
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow AND f.status = 'running'
       AND (:token IS NULL OR (f.fencing_token = :token AND f.lease_owner IS NOT NULL))
       AND NOT EXISTS (SELECT FROM known)
    RETURNING w.steps_completed
), written AS (
    INSERT INTO {{ schema }}.workflow_steps (tenant_id, workflow_id, step, position, output)
    SELECT :tenant, :workflow, :step, steps_completed, :output FROM changed
    RETURNING step, position, output, completed_at
)
SELECT f.status, f.data_version, f.fencing_token, f.lease_owner, s.step, s.position, s.output, s.completed_at
  FROM found AS f LEFT JOIN (SELECT * FROM known UNION ALL SELECT * FROM written) AS s ON true

-- name: steps
-- in: workflow text, after bigint, most bigint
SELECT step, position, output, completed_at FROM {{ schema }}.workflow_steps
 WHERE tenant_id = :tenant AND workflow_id = :workflow AND position > :after ORDER BY position LIMIT :most

-- name: listing
-- in: status text, name text, since timestamptz, until timestamptz, before timestamptz, before_id text, most bigint
SELECT workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
       data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated
  FROM {{ schema }}.workflow_states
 WHERE tenant_id = :tenant AND created_at >= :since AND created_at < :until
   AND (created_at, workflow_id) < (:before, :before_id)
{% if by_status %}
   AND status = :status
{% endif %}
{% if by_name %}
   AND workflow_name = :name
{% endif %}
 ORDER BY created_at DESC, workflow_id DESC LIMIT :most

-- name: lease
-- in: workflow text, owner text, seconds float8
WITH found AS (
    SELECT w.status, w.lease_owner, w.lease_expires_at, w.fencing_token FROM {{ schema }}.workflow_states AS w
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET lease_owner = :owner, lease_seconds = :seconds, fencing_token = w.fencing_token + 1,
           lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
      FROM found AS f
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow AND f.status NOT IN ('completed', 'cancelled')
       AND (f.lease_owner IS NULL OR f.lease_owner = :owner OR f.lease_expires_at <= statement_timestamp())
    RETURNING w.*
)
SELECT f.status, f.lease_owner, f.lease_expires_at, f.fencing_token, w.workflow_id, w.workflow_name, w.state_data,
       w.current_step, w.status, w.steps_completed, w.last_step, w.error, w.attempts, w.data_version, w.fencing_token,
       w.lease_owner, w.lease_expires_at, w.started_at, w.completed_at, w.created_at, w.last_updated
  FROM found AS f LEFT JOIN changed AS w ON true

-- name: renew
-- in: workflow text, token bigint, seconds float8
WITH found AS (
    SELECT w.fencing_token, w.lease_owner, w.lease_seconds FROM {{ schema }}.workflow_states AS w
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow LIMIT 1 FOR UPDATE
), changed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET lease_seconds = coalesce(:seconds, w.lease_seconds),
           lease_expires_at = clock_timestamp() + make_interval(secs => coalesce(:seconds, w.lease_seconds))
      FROM found AS f
     WHERE w.tenant_id = :tenant AND w.workflow_id = :workflow
       AND f.fencing_token = :token AND f.lease_owner IS NOT NULL
    RETURNING w.*
)
SELECT f.fencing_token, f.lease_owner, f.lease_seconds, w.workflow_id, w.workflow_name, w.state_data,
       w.current_step, w.status, w.steps_completed, w.last_step, w.error, w.attempts, w.data_version, w.fencing_token,
       w.lease_owner, w.lease_expires_at, w.started_at, w.completed_at, w.created_at, w.last_updated
  FROM found AS f LEFT JOIN changed AS w ON true

-- name: release
-- in: workflow text, token bigint
UPDATE {{ schema }}.workflow_states
   SET fencing_token = fencing_token + 1,
       lease_owner = CASE WHEN status = 'running' THEN lease_owner END,
       lease_seconds = CASE WHEN status = 'running' THEN lease_seconds END,
       lease_expires_at = CASE WHEN status = 'running' THEN clock_timestamp() END
 WHERE tenant_id = :tenant AND workflow_id = :workflow AND fencing_token = :token AND lease_owner IS NOT NULL
RETURNING true

-- name: stalled
-- in: after timestamptz, after_id text, most bigint
SELECT workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
       data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated
  FROM {{ schema }}.workflow_states
 WHERE tenant_id = :tenant AND status = 'running' AND lease_expires_at <= statement_timestamp()
   AND (lease_expires_at, workflow_id) > (:after, :after_id)
 ORDER BY lease_expires_at, workflow_id LIMIT :most

-- What another caller is taking at this moment is passed over.
-- name: claim_pending
-- in: name text, owner text, seconds float8, most bigint
WITH found AS MATERIALIZED (
    SELECT workflow_id FROM {{ schema }}.workflow_states
     WHERE tenant_id = :tenant AND status = 'pending'
       AND (lease_expires_at IS NULL OR lease_expires_at <= statement_timestamp())
{% if by_name %}
       AND workflow_name = :name
{% endif %}
     ORDER BY created_at, workflow_id LIMIT :most FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET status = 'running', started_at = coalesce(w.started_at, now()), completed_at = NULL,
           attempts = w.attempts + 1, data_version = w.data_version + 1, last_updated = now(),
           fencing_token = w.fencing_token + 1, lease_owner = :owner, lease_seconds = :seconds,
           lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
     WHERE w.tenant_id = :tenant AND w.workflow_id = ANY (ARRAY(SELECT workflow_id FROM found))
    RETURNING w.*
)
SELECT workflow_id, workflow_name, state_data, current_step, status, steps_completed, last_step, error, attempts,
       data_version, fencing_token, lease_owner, lease_expires_at, started_at, completed_at, created_at, last_updated
  FROM claimed ORDER BY created_at, workflow_id

-- name: claim_stalled
-- in: owner text, seconds float8, most bigint
WITH found AS MATERIALIZED (
    SELECT workflow_id, lease_expires_at FROM {{ schema }}.workflow_states
     WHERE tenant_id = :tenant AND status = 'running' AND lease_expires_at <= statement_timestamp()
     ORDER BY lease_expires_at, workflow_id LIMIT :most FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE {{ schema }}.workflow_states AS w
       SET attempts = w.attempts + 1, data_version = w.data_version + 1, last_updated = now(),
           fencing_token = w.fencing_token + 1, lease_owner = :owner, lease_seconds = :seconds,
           lease_expires_at = clock_timestamp() + make_interval(secs => :seconds)
     WHERE w.tenant_id = :tenant AND w.workflow_id = ANY (ARRAY(SELECT workflow_id FROM found))
    RETURNING w.*
)
SELECT c.workflow_id, c.workflow_name, c.state_data, c.current_step, c.status, c.steps_completed, c.last_step, c.error,
       c.attempts, c.data_version, c.fencing_token, c.lease_owner, c.lease_expires_at, c.started_at, c.completed_at,
       c.created_at, c.last_updated
  FROM claimed AS c JOIN found AS f ON f.workflow_id = c.workflow_id ORDER BY f.lease_expires_at, c.workflow_id
