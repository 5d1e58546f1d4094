-- `table` is the table of one dimension; its name is a mark, never a value. Rows are read in this order of columns:
-- id, scope, embedding, content, metadata, document_id, position, created_at, updated_at.
-- All rows of one call have one time, that of its transaction, so that their order is theirs by id.

-- Columns in which all rows are alike come as one value, or not at all. The arrays are taken apart in the list of what is
-- selected: in FROM all rows would be written down first.
-- name: insert
-- in: ids text[], embeddings vector[], scope text, scopes text[], metadata jsonb, metadatas jsonb[], contents text[], terms text[], documents text[], positions bigint[]
INSERT INTO {{ schema }}.{{ table }}
    (tenant_id, id, embedding, scope, metadata, {% if contents %}content, terms, {% endif %}{% if documents %}document_id, {% endif %}{% if positions %}position, {% endif %}created_at, updated_at)
SELECT :tenant, n.id, n.embedding, {% if scopes %}n.scope{% else %}:scope::text{% endif %}, {% if metadatas %}n.metadata{% else %}:metadata::jsonb{% endif %},
       {% if contents %}n.content, array_to_tsvector(string_to_array(btrim(n.terms), ' ')), {% endif %}{% if documents %}n.document_id, {% endif %}{% if positions %}n.position, {% endif %}now(), now()
  FROM (SELECT unnest(:ids::text[]) AS id, unnest(:embeddings::{{ extensions }}.vector[]) AS embedding
               {% if scopes %}, unnest(:scopes::text[]) AS scope{% endif %}{% if metadatas %}, unnest(:metadatas::jsonb[]) AS metadata{% endif %}
               {% if contents %}, unnest(:contents::text[]) AS content, unnest(:terms::text[]) AS terms{% endif %}
               {% if documents %}, unnest(:documents::text[]) AS document_id{% endif %}{% if positions %}, unnest(:positions::bigint[]) AS position{% endif %}) AS n

-- Rows come in the order of their ids, so that two writers never wait for each other.
-- name: upsert
-- in: ids text[], embeddings vector[], scope text, scopes text[], metadata jsonb, metadatas jsonb[], contents text[], terms text[], documents text[], positions bigint[]
WITH written AS (
    INSERT INTO {{ schema }}.{{ table }} AS old
        (tenant_id, id, embedding, scope, metadata, {% if contents %}content, terms, {% endif %}{% if documents %}document_id, {% endif %}{% if positions %}position, {% endif %}created_at, updated_at)
    SELECT :tenant, n.id, n.embedding, {% if scopes %}n.scope{% else %}:scope::text{% endif %}, {% if metadatas %}n.metadata{% else %}:metadata::jsonb{% endif %},
           {% if contents %}n.content, array_to_tsvector(string_to_array(btrim(n.terms), ' ')), {% endif %}{% if documents %}n.document_id, {% endif %}{% if positions %}n.position, {% endif %}now(), now()
      FROM (SELECT unnest(:ids::text[]) AS id, unnest(:embeddings::{{ extensions }}.vector[]) AS embedding
                   {% if scopes %}, unnest(:scopes::text[]) AS scope{% endif %}{% if metadatas %}, unnest(:metadatas::jsonb[]) AS metadata{% endif %}
                   {% if contents %}, unnest(:contents::text[]) AS content, unnest(:terms::text[]) AS terms{% endif %}
                   {% if documents %}, unnest(:documents::text[]) AS document_id{% endif %}{% if positions %}, unnest(:positions::bigint[]) AS position{% endif %}) AS n
    ON CONFLICT (tenant_id, id) DO UPDATE SET
        scope = excluded.scope, embedding = excluded.embedding, content = excluded.content, metadata = excluded.metadata,
        document_id = excluded.document_id, position = excluded.position, terms = excluded.terms, updated_at = now()
    RETURNING created_at = now() AS fresh
)
SELECT count(*) FILTER (WHERE fresh) FROM written

-- name: fetch
-- in: ids text[]
SELECT id, scope, embedding, content, metadata, document_id, position, created_at, updated_at
  FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant AND id = ANY (:ids)

-- name: update
-- in: id text, scope text, embedding vector, content text, terms text, metadata jsonb, document_id text, position bigint
UPDATE {{ schema }}.{{ table }} SET
{% if scope %}    scope = :scope,
{% endif %}
{% if embedding %}    embedding = :embedding,
{% endif %}
{% if content %}    content = :content, terms = array_to_tsvector(string_to_array(btrim(:terms), ' ')),
{% endif %}
{% if metadata %}    metadata = {% if merge %}metadata || {% endif %}:metadata,
{% endif %}
{% if document_id %}    document_id = :document_id,
{% endif %}
{% if position %}    position = :position,
{% endif %}
    updated_at = now()
 WHERE tenant_id = :tenant AND id = :id
RETURNING id, scope, embedding, content, metadata, document_id, position, created_at, updated_at

-- name: delete
-- in: ids text[]
WITH gone AS (
    DELETE FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant AND id = ANY (:ids) RETURNING 1
)
SELECT count(*) FROM gone

-- name: delete_where
WITH gone AS (
    DELETE FROM {{ schema }}.{{ table }} AS item WHERE tenant_id = :tenant /* where */ RETURNING 1
)
SELECT count(*) FROM gone

-- name: delete_document
-- in: document text
WITH gone AS (
    DELETE FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant AND document_id = :document RETURNING 1
)
SELECT count(*) FROM gone

-- name: count
SELECT count(*) FROM {{ schema }}.{{ table }} AS item WHERE tenant_id = :tenant /* where */

-- name: page
-- in: after_scope text, after_time timestamptz, after_id text, most bigint
SELECT id, scope, embedding, content, metadata, document_id, position, created_at, updated_at
  FROM {{ schema }}.{{ table }} AS item
 WHERE tenant_id = :tenant /* where */
{% if after %}   AND (scope, created_at, id) > (:after_scope, :after_time, :after_id)
{% endif %}
 ORDER BY scope, created_at, id LIMIT :most

-- name: document
-- in: document text, place bigint, id text, most bigint
SELECT id, scope, embedding, content, metadata, document_id, position, created_at, updated_at
  FROM {{ schema }}.{{ table }}
 WHERE tenant_id = :tenant AND document_id = :document
   AND (:place::bigint IS NULL OR (coalesce(position, 9223372036854775807), id) > (:place::bigint, :id::text))
 ORDER BY coalesce(position, 9223372036854775807), id LIMIT :most

-- name: scopes
-- in: prefix text, after text, most bigint
SELECT scope, count(*) FROM {{ schema }}.{{ table }}
 WHERE tenant_id = :tenant AND scope ^@ :prefix AND (:after::text IS NULL OR scope > :after)
 GROUP BY scope ORDER BY scope LIMIT :most

-- Dimensions whose tables this login may read.
-- name: tables
SELECT substring(c.relname FROM '[0-9]+$')::bigint
  FROM pg_catalog.pg_class AS probe JOIN pg_catalog.pg_class AS c ON c.relnamespace = probe.relnamespace
 WHERE probe.reltype = pg_typeof(NULL::{{ schema }}.test_table)::oid
   AND c.relkind = 'p' AND c.relname ~ '^vector_embeddings_[0-9]+$' AND has_table_privilege(c.oid, 'SELECT')
 ORDER BY 1

-- name: held
SELECT EXISTS (SELECT FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant)

-- name: stats
SELECT count(*), count(DISTINCT scope), count(DISTINCT document_id), coalesce(sum(octet_length(content)), 0)::bigint
  FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant

-- name: sample
-- in: most bigint
SELECT embedding FROM {{ schema }}.{{ table }}
 WHERE tenant_id = :tenant AND id = ANY (ARRAY(
    SELECT id FROM {{ schema }}.{{ table }} WHERE tenant_id = :tenant ORDER BY random() LIMIT :most))

-- Which indexes of these names there are, and whether they may be used.
-- name: indexes
-- in: names text[]
SELECT c.relname, m.amname, i.indisvalid AND i.indisready, c.reltuples
  FROM pg_catalog.pg_class AS probe
  JOIN pg_catalog.pg_class AS c ON c.relnamespace = probe.relnamespace AND c.relname = ANY (:names)
  JOIN pg_catalog.pg_index AS i ON i.indexrelid = c.oid
  JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
 WHERE probe.reltype = pg_typeof(NULL::{{ schema }}.test_table)::oid
 ORDER BY 1

-- What the cluster's StorageComponent says of a dimension.
-- name: settings
-- in: dimension bigint
SELECT s.ef_search, s.exact_scan_threshold FROM {{ schema }}.vector_settings(:dimension) AS s

-- For one transaction. With `indexed`: how many candidates an index keeps, and that it goes on until enough rows meet the
-- conditions; `ordered` keeps the planner from sorting what the index has in order. Without: the rows of a tenant lie
-- together, and the planner, which cannot know that, would rather read its neighbours' too. A statement is planned with its
-- values, which match the index of this tenant alone; with `generic` one plan serves everybody, and nothing is planned.
-- Returns no row: reading one takes time.
-- name: tune
-- in: ef_search text
SELECT WHERE '' = {% if indexed %}set_config('hnsw.ef_search', :ef_search, true)
    || set_config('hnsw.iterative_scan', 'strict_order', true)
{% if ordered %}    || set_config('enable_sort', 'off', true)
{% endif %}
{% else %}set_config('enable_seqscan', 'off', true)
{% endif %}
{% if generic %}    || set_config('plan_cache_mode', 'force_generic_plan', true) || set_config('enable_hashjoin', 'off', true)
    || set_config('enable_mergejoin', 'off', true) || set_config('max_parallel_workers_per_gather', '0', true)
{% else %}    || set_config('plan_cache_mode', 'force_custom_plan', true)
{% endif %}

-- The nearest of one query; the statement is as short as it can be: the caller puts ties of an index in order and leaves
-- out what has no distance. Without `indexed` the distance is no expression that an index has, so that every vector is
-- compared, and the other columns are read for the nearest alone. With `half` the scan is in half precision, and `depth`
-- candidates are compared again in single precision.
-- name: nearest
-- in: query vector, k bigint, depth bigint
{% if half %}
SELECT c.id, c.scope, {% if embeddings %}c.embedding{% else %}NULL::bytea{% endif %},
       {% if contents %}c.content{% else %}NULL::text{% endif %}, c.metadata, c.document_id, c.position,
       c.created_at, c.updated_at, c.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector AS distance
  FROM (
    SELECT item.id, item.scope, item.embedding, item.content, item.metadata, item.document_id, item.position,
           item.created_at, item.updated_at
      FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
     ORDER BY {% if indexed %}item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector::{{ extensions }}.halfvec
{% else %}(item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector::{{ extensions }}.halfvec) + 0, item.id
{% endif %}
     LIMIT :depth
  ) AS c
 ORDER BY distance, c.id LIMIT :k
{% elif indexed %}
SELECT item.id, item.scope, {% if embeddings %}item.embedding{% else %}NULL::bytea{% endif %},
       {% if contents %}item.content{% else %}NULL::text{% endif %}, item.metadata, item.document_id, item.position,
       item.created_at, item.updated_at, item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector AS distance
  FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
 ORDER BY distance LIMIT :k
{% else %}
SELECT found.id, found.scope, {% if embeddings %}found.embedding{% else %}NULL::bytea{% endif %},
       {% if contents %}found.content{% else %}NULL::text{% endif %}, found.metadata, found.document_id, found.position,
       found.created_at, found.updated_at, near.distance
  FROM (
    SELECT item.id, (item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector) + 0 AS distance
      FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
     ORDER BY distance, item.id LIMIT :k
  ) AS near
  JOIN {{ schema }}.{{ table }} AS found ON found.tenant_id = :tenant AND found.id = near.id
 ORDER BY near.distance, near.id
{% endif %}

-- The nearest of each of several queries, in one snapshot; otherwise like `nearest`. With `half` a query is shortened once.
-- name: search
-- in: queries vector[], k bigint, depth bigint
-- plan: custom
{% if half %}
WITH asked AS MATERIALIZED (
    SELECT a.query, a.query::{{ extensions }}.halfvec AS half, a.place
      FROM unnest(:queries::{{ extensions }}.vector[]) WITH ORDINALITY AS a (query, place)
)
SELECT asked.place, found.* FROM asked
{% else %}
SELECT asked.place, found.* FROM unnest(:queries::{{ extensions }}.vector[]) WITH ORDINALITY AS asked (query, place)
{% endif %}
 CROSS JOIN LATERAL (
{% if half %}
        SELECT c.id, c.scope, {% if embeddings %}c.embedding{% else %}NULL::bytea AS embedding{% endif %},
               {% if contents %}c.content{% else %}NULL::text AS content{% endif %}, c.metadata, c.document_id, c.position,
               c.created_at, c.updated_at, c.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.query AS distance
          FROM (
            SELECT item.id, item.scope, item.embedding, item.content, item.metadata, item.document_id, item.position,
                   item.created_at, item.updated_at
              FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
             ORDER BY {% if indexed %}item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.half
{% else %}(item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.half) + 0, item.id
{% endif %}
             LIMIT :depth
          ) AS c
         ORDER BY distance, c.id LIMIT :k
{% elif indexed %}
        SELECT item.id, item.scope, {% if embeddings %}item.embedding{% else %}NULL::bytea AS embedding{% endif %},
               {% if contents %}item.content{% else %}NULL::text AS content{% endif %}, item.metadata, item.document_id, item.position, item.created_at, item.updated_at,
               item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.query AS distance
          FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
         ORDER BY item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.query LIMIT :k
{% else %}
        SELECT item.id, item.scope, {% if embeddings %}item.embedding{% else %}NULL::bytea AS embedding{% endif %},
               {% if contents %}item.content{% else %}NULL::text AS content{% endif %}, item.metadata, item.document_id, item.position, item.created_at, item.updated_at,
               (item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) asked.query) + 0 AS distance
          FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
         ORDER BY distance, item.id LIMIT :k
{% endif %}
 ) AS found
 WHERE found.distance <> 'NaN'
 ORDER BY asked.place, found.distance, found.id

-- Both sides of a hybrid search in one snapshot. `any_word` is a tsquery of quoted words joined by |, `words` each of them.
-- A word counts the more the fewer rows have it; ranks are over all rows that match. How many match is unknown to the
-- planner, so that they are never joined with each other.
-- name: hybrid
-- in: query vector, k bigint, depth bigint, any_word text, words text[]
-- plan: custom
WITH near AS (
    SELECT f.row_id, f.distance, row_number() OVER (ORDER BY f.distance, f.row_id) AS place
      FROM (
{% if half %}
        SELECT c.row_id, c.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector AS distance
          FROM (
            SELECT item.id AS row_id, item.embedding FROM {{ schema }}.{{ table }} AS item
             WHERE item.tenant_id = :tenant /* where */
             ORDER BY {% if indexed %}item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector::{{ extensions }}.halfvec
{% else %}(item.embedding_half OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector::{{ extensions }}.halfvec) + 0, item.id
{% endif %}
             LIMIT :depth
          ) AS c
         ORDER BY 2, 1 LIMIT :k
{% elif indexed %}
        SELECT item.id AS row_id, item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector AS distance
          FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
         ORDER BY item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector LIMIT :k
{% else %}
        SELECT item.id AS row_id, (item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector) + 0 AS distance
          FROM {{ schema }}.{{ table }} AS item WHERE item.tenant_id = :tenant /* where */
         ORDER BY 2, 1 LIMIT :k
{% endif %}
      ) AS f
     WHERE f.distance <> 'NaN'
), matched AS MATERIALIZED (
    SELECT m.row_id, m.distance, m.places FROM (
        SELECT item.id AS row_id, item.embedding OPERATOR({{ extensions }}.{% if cosine %}<=>{% elif l2 %}<->{% else %}<#>{% endif %}) :query::{{ extensions }}.vector AS distance,
               ARRAY(SELECT w.place FROM unnest(:words::text[]::tsquery[]) WITH ORDINALITY AS w (word, place)
                      WHERE item.terms @@ w.word) AS places
          FROM {{ schema }}.{{ table }} AS item
         WHERE item.tenant_id = :tenant AND item.terms @@ :any_word::tsquery /* where */
    ) AS m WHERE m.distance <> 'NaN'
), worth AS MATERIALIZED (
    SELECT array_agg(ln(1 + (SELECT count(*) FROM matched)::float8 / nullif(f.rows, 0)) ORDER BY w.place) AS worths
      FROM generate_series(1, cardinality(:words::text[])) AS w (place)
      LEFT JOIN (SELECT p.place, count(*) AS rows FROM matched AS m, unnest(m.places) AS p (place) GROUP BY p.place) AS f
        ON f.place = w.place
), scored AS (
    SELECT m.row_id, m.distance,
           round((SELECT sum(worth.worths[p.place]) FROM unnest(m.places) AS p (place))::numeric, 9)::float8 AS score
      FROM matched AS m CROSS JOIN worth
), ranked AS (
    SELECT s.row_id, s.distance, s.score, rank() OVER (ORDER BY s.score DESC) AS place,
           row_number() OVER (ORDER BY s.score DESC, s.distance, s.row_id) AS number
      FROM scored AS s
), chosen AS (
    SELECT coalesce(near.row_id, ranked.row_id) AS row_id, coalesce(near.distance, ranked.distance) AS distance,
           near.place AS vector_place, ranked.place AS text_place, ranked.score
      FROM near FULL JOIN ranked ON ranked.row_id = near.row_id
     WHERE near.row_id IS NOT NULL OR ranked.number <= :k
)
SELECT item.id, item.scope, {% if embeddings %}item.embedding{% else %}NULL::bytea{% endif %}, item.content, item.metadata,
       item.document_id, item.position, item.created_at, item.updated_at, chosen.distance,
       chosen.vector_place, chosen.text_place, chosen.score
  FROM chosen JOIN {{ schema }}.{{ table }} AS item ON item.tenant_id = :tenant AND item.id = chosen.row_id
