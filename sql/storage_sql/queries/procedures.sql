-- Scope, key and value are found by their digests, because the three together can exceed what an index holds.
-- name: observe
-- in: id uuid, scope text, key text, value text
INSERT INTO {{ schema }}.procedural_patterns AS old (tenant_id, pattern_id, scope, key, value)
VALUES (:tenant, :id, :scope, :key, :value)
ON CONFLICT (tenant_id, identity) DO UPDATE SET frequency = old.frequency + 1, last_seen = now(), updated_at = now()
RETURNING frequency

-- name: frequency
-- in: scope text, key text, value text
SELECT frequency FROM {{ schema }}.procedural_patterns
 WHERE tenant_id = :tenant AND identity = md5(:scope) || md5(:key) || md5(:value)

-- Digests are hexadecimal, so that all that begin with some end before the same and a g.
-- name: transitions
-- in: scope text, key text, most_seen bigint, after text, most bigint
SELECT scope, key, value, frequency, first_seen, last_seen FROM {{ schema }}.procedural_patterns
 WHERE tenant_id = :tenant
   AND identity >= md5(:scope) || md5(:key) AND identity < md5(:scope) || md5(:key) || 'g'
   AND (frequency < :most_seen OR (frequency = :most_seen AND identity > :after))
 ORDER BY frequency DESC, identity LIMIT :most

-- name: learned
-- in: scope text, least bigint, most_seen bigint, after text, most bigint
SELECT scope, key, value, frequency, first_seen, last_seen FROM {{ schema }}.procedural_patterns
 WHERE tenant_id = :tenant AND frequency >= :least
   {% if indexed %}AND frequency >= 3 {% endif %}
   {% if by_scope %}AND identity >= md5(:scope) AND identity < md5(:scope) || 'g' {% endif %}
   AND (frequency < :most_seen OR (frequency = :most_seen AND identity > :after))
 ORDER BY frequency DESC, identity LIMIT :most

-- name: forget
-- in: scope text, key text
DELETE FROM {{ schema }}.procedural_patterns
 WHERE tenant_id = :tenant AND identity >= md5(:scope) || md5(:key) AND identity < md5(:scope) || md5(:key) || 'g'
RETURNING true

-- The row is locked and read first (`found`), so that the version that is kept is the one that is replaced.
-- name: save
-- in: name text, scope text, steps jsonb, trigger jsonb, provenance jsonb, embedding bytea, prior float8, expected bigint
WITH found AS (
    SELECT p.* FROM {{ schema }}.procedures AS p WHERE p.tenant_id = :tenant AND p.name = :name LIMIT 1 FOR UPDATE
), kept AS (
    INSERT INTO {{ schema }}.procedure_versions
        (tenant_id, name, version, scope, steps, trigger_filter, provenance, embedding, prior, successes, failures,
         last_outcome_at, saved_at)
    SELECT f.tenant_id, f.name, f.version, f.scope, f.steps, f.trigger_filter, f.provenance, f.embedding, f.prior,
           f.successes, f.failures, f.last_outcome_at, f.updated_at
      FROM found AS f WHERE :expected IS NULL OR f.version = :expected
), changed AS (
    UPDATE {{ schema }}.procedures AS p
       SET version = f.version + 1, revision = f.revision + 1, scope = :scope, steps = :steps, trigger_filter = :trigger,
           provenance = :provenance, embedding = :embedding, prior = :prior, successes = 0, failures = 0,
           last_outcome_at = NULL, updated_at = now()
      FROM found AS f
     WHERE p.tenant_id = :tenant AND p.name = :name AND (:expected IS NULL OR f.version = :expected)
    RETURNING p.version
), made AS (
    INSERT INTO {{ schema }}.procedures
        (tenant_id, name, version, scope, steps, trigger_filter, provenance, embedding, prior)
    SELECT :tenant, :name, 1, :scope, :steps, :trigger, :provenance, :embedding, :prior
     WHERE NOT EXISTS (SELECT FROM found) AND coalesce(:expected, 0) = 0
    ON CONFLICT DO NOTHING
    RETURNING version
)
SELECT f.version, n.version
  FROM (SELECT 1) AS always
  LEFT JOIN found AS f ON true
  LEFT JOIN (SELECT version FROM changed UNION ALL SELECT version FROM made) AS n ON true

-- name: load
-- in: name text
SELECT name, version, scope, steps, trigger_filter, provenance, prior, successes, failures, last_outcome_at, superseded_by,
       created_at, updated_at, statement_timestamp()
  FROM {{ schema }}.procedures WHERE tenant_id = :tenant AND name = :name

-- name: versions
-- in: name text, before bigint, most bigint
SELECT p.name, p.version, p.scope, p.steps, p.trigger_filter, p.provenance, p.prior, p.successes, p.failures,
       p.last_outcome_at, p.superseded_by, p.created_at, p.updated_at, statement_timestamp()
  FROM {{ schema }}.procedures AS p WHERE p.tenant_id = :tenant AND p.name = :name AND p.version < :before
UNION ALL
(SELECT p.name, v.version, v.scope, v.steps, v.trigger_filter, v.provenance, v.prior, v.successes, v.failures,
        v.last_outcome_at, p.superseded_by, p.created_at, v.saved_at, statement_timestamp()
   FROM {{ schema }}.procedures AS p
   JOIN {{ schema }}.procedure_versions AS v ON v.tenant_id = :tenant AND v.name = :name AND v.version < :before
  WHERE p.tenant_id = :tenant AND p.name = :name
  ORDER BY v.version DESC LIMIT :most)
ORDER BY 2 DESC LIMIT :most

-- name: rollback
-- in: name text, version bigint
WITH found AS (
    SELECT p.* FROM {{ schema }}.procedures AS p WHERE p.tenant_id = :tenant AND p.name = :name LIMIT 1 FOR UPDATE
), past AS (
    SELECT v.* FROM {{ schema }}.procedure_versions AS v
     WHERE v.tenant_id = :tenant AND v.name = :name AND v.version = :version
), kept AS (
    INSERT INTO {{ schema }}.procedure_versions
        (tenant_id, name, version, scope, steps, trigger_filter, provenance, embedding, prior, successes, failures,
         last_outcome_at, saved_at)
    SELECT f.tenant_id, f.name, f.version, f.scope, f.steps, f.trigger_filter, f.provenance, f.embedding, f.prior,
           f.successes, f.failures, f.last_outcome_at, f.updated_at
      FROM found AS f, past
), changed AS (
    UPDATE {{ schema }}.procedures AS p
       SET version = f.version + 1, revision = f.revision + 1, scope = v.scope, steps = v.steps,
           trigger_filter = v.trigger_filter, provenance = v.provenance, embedding = v.embedding, prior = v.prior,
           successes = v.successes, failures = v.failures, last_outcome_at = v.last_outcome_at, updated_at = now()
      FROM found AS f, past AS v
     WHERE p.tenant_id = :tenant AND p.name = :name
    RETURNING p.version
)
SELECT f.version, n.version FROM found AS f LEFT JOIN changed AS n ON true

-- name: lock
-- in: name text
SELECT superseded_by FROM {{ schema }}.procedures WHERE tenant_id = :tenant AND name = :name FOR UPDATE

-- name: supersede
-- in: name text, by text
UPDATE {{ schema }}.procedures SET superseded_by = :by, revision = revision + 1
 WHERE tenant_id = :tenant AND name = :name
RETURNING true

-- name: succeed
-- in: name text, version bigint
UPDATE {{ schema }}.procedures
   SET successes = successes + 1, revision = revision + 1, last_outcome_at = greatest(last_outcome_at, now())
 WHERE tenant_id = :tenant AND name = :name {% if of_version %}AND version = :version {% endif %}
RETURNING version, prior, successes, failures, last_outcome_at, now()

-- name: fail
-- in: name text, version bigint
UPDATE {{ schema }}.procedures
   SET failures = failures + 1, revision = revision + 1, last_outcome_at = greatest(last_outcome_at, now())
 WHERE tenant_id = :tenant AND name = :name {% if of_version %}AND version = :version {% endif %}
RETURNING version, prior, successes, failures, last_outcome_at, now()

-- name: record_late
-- in: name text, version bigint, success boolean
UPDATE {{ schema }}.procedure_versions
   SET successes = successes + :success::integer, failures = failures + (NOT :success)::integer,
       last_outcome_at = greatest(last_outcome_at, now())
 WHERE tenant_id = :tenant AND name = :name AND version = :version
RETURNING version, prior, successes, failures, last_outcome_at, now()

-- name: listing
-- in: scope text, after text, most bigint
SELECT name, version, scope, steps, trigger_filter, provenance, prior, successes, failures, last_outcome_at, superseded_by,
       created_at, updated_at, statement_timestamp()
  FROM {{ schema }}.procedures
 WHERE tenant_id = :tenant {% if by_scope %}AND scope = :scope{% endif %} AND name > :after
 ORDER BY name LIMIT :most

-- name: sketches
-- in: scope text, size bigint, after text, most bigint
SELECT name, revision, {% if triggers %}trigger_filter{% else %}NULL::jsonb {% endif %},
       {% if embeddings %}embedding{% else %}NULL::bytea{% endif %}, prior, successes, failures, last_outcome_at,
       updated_at, statement_timestamp()
  FROM {{ schema }}.procedures
 WHERE tenant_id = :tenant {% if by_scope %}AND scope = :scope{% endif %} AND name > :after
   {% if triggers %}AND superseded_by IS NULL AND trigger_filter IS NOT NULL {% endif %}
   {% if embeddings %}AND superseded_by IS NULL AND octet_length(embedding) = :size {% endif %}
 ORDER BY name LIMIT :most

-- name: several
-- in: names text[]
SELECT name, version, scope, steps, trigger_filter, provenance, prior, successes, failures, last_outcome_at, superseded_by,
       created_at, updated_at, statement_timestamp()
  FROM {{ schema }}.procedures WHERE tenant_id = :tenant AND name = ANY (:names)

-- Versions go with their procedure.
-- name: remove
-- in: names text[], revisions bigint[]
DELETE FROM {{ schema }}.procedures AS p USING unnest(:names, :revisions) AS n (name, revision)
 WHERE p.tenant_id = :tenant AND p.name = n.name AND p.revision = coalesce(n.revision, p.revision)
RETURNING true
