-- One statement in three forms: of content that is there, of content that comes along, and of an upload. Marking the
-- content as used locks its row, so that nobody collects it before the artifact refers to it. An upload's chunks take
-- the name of their content when that is new, and go with the upload's row when it is not. Gives no row where the
-- content, or the upload as it should be, is not there.
-- name: record
-- in: content_hash text, data bytea, is_compressed boolean, size bigint, stored_size bigint, upload text, artifact_id text, session_id text, name text, artifact_type text, mime_type text, tags text[], metadata jsonb, keep boolean
{% if refers %}
WITH content AS (
    UPDATE {{ schema }}.artifact_content SET last_accessed_at = clock_timestamp()
     WHERE tenant_id = :tenant AND content_hash = :content_hash AND uploading_until IS NULL
    RETURNING original_size_bytes AS size_bytes
)
{% elif uploads %}
WITH upload AS (
    SELECT chunk_size FROM {{ schema }}.artifact_content
     WHERE tenant_id = :tenant AND content_hash = :upload AND uploading_until IS NOT NULL
       AND original_size_bytes = :size
       FOR UPDATE
), content AS (
    INSERT INTO {{ schema }}.artifact_content AS c
        (tenant_id, content_hash, storage_type, chunk_size, size_bytes, is_compressed, original_size_bytes)
    SELECT :tenant, :content_hash, 'chunked', chunk_size, :stored_size, :is_compressed, :size FROM upload
    ON CONFLICT (tenant_id, content_hash) DO UPDATE SET last_accessed_at = clock_timestamp()
    RETURNING c.original_size_bytes AS size_bytes, c.xmax = 0 AS is_new
), moved AS (
    UPDATE {{ schema }}.artifact_chunks AS k SET content_hash = :content_hash FROM content
     WHERE k.tenant_id = :tenant AND k.content_hash = :upload AND content.is_new
), cleared AS (
    DELETE FROM {{ schema }}.artifact_content AS c USING content
     WHERE c.tenant_id = :tenant AND c.content_hash = :upload
)
{% else %}
WITH content AS (
    INSERT INTO {{ schema }}.artifact_content AS c
        (tenant_id, content_hash, storage_type, data, size_bytes, is_compressed, original_size_bytes)
    VALUES (:tenant, :content_hash, 'inline', :data, :stored_size, :is_compressed, :size)
    ON CONFLICT (tenant_id, content_hash) DO UPDATE SET last_accessed_at = clock_timestamp()
    RETURNING c.original_size_bytes AS size_bytes
)
{% endif %}, numbers AS (
    INSERT INTO {{ schema }}.artifact_counters AS n (tenant_id, session_id, name, head)
    SELECT :tenant, :session_id, counted.name, 1 FROM content, unnest(ARRAY['', :name]) AS counted (name)
    ON CONFLICT (tenant_id, session_id, name) DO UPDATE SET head = n.head + 1
    RETURNING n.name, n.head
), recorded AS (
    INSERT INTO {{ schema }}.artifacts (tenant_id, artifact_id, session_id, name, version, sequence, artifact_type,
        mime_type, size_bytes, content_hash, tags, metadata, keep, created_at)
    SELECT :tenant, :artifact_id, :session_id, :name, (SELECT head FROM numbers WHERE name = :name),
           (SELECT head FROM numbers WHERE name = ''), :artifact_type, :mime_type, content.size_bytes, :content_hash,
           :tags, :metadata, :keep, clock_timestamp()
      FROM content
    RETURNING artifact_id, session_id, name, version, sequence, artifact_type, mime_type, size_bytes, content_hash, tags,
              metadata, keep, created_at
), tagged AS (
    INSERT INTO {{ schema }}.artifact_tags (tenant_id, artifact_id, tag, created_at)
    SELECT :tenant, r.artifact_id, tag, r.created_at FROM recorded AS r, unnest(r.tags) AS tag
)
SELECT * FROM recorded

-- name: upload
-- in: upload text, chunk_size bigint, size bigint, stored_size bigint, lease float8, chunks bigint[], data bytea[], packed boolean[], hashes bytea[]
WITH upload AS (
    INSERT INTO {{ schema }}.artifact_content AS c (tenant_id, content_hash, storage_type, chunk_size, size_bytes,
        original_size_bytes, uploading_until)
    VALUES (:tenant, :upload, 'chunked', :chunk_size, :stored_size, :size, clock_timestamp() + make_interval(secs => :lease))
    ON CONFLICT (tenant_id, content_hash) DO UPDATE SET
        size_bytes = c.size_bytes + excluded.size_bytes,
        original_size_bytes = c.original_size_bytes + excluded.original_size_bytes,
        uploading_until = excluded.uploading_until
    RETURNING c.original_size_bytes
), brought AS (
    INSERT INTO {{ schema }}.artifact_chunks (tenant_id, content_hash, chunk, data, is_compressed, chunk_hash)
    SELECT :tenant, :upload, n.chunk, n.data, n.is_compressed, n.chunk_hash
      FROM unnest(:chunks, :data, :packed, :hashes) AS n (chunk, data, is_compressed, chunk_hash)
)
SELECT original_size_bytes FROM upload

-- name: abandon
-- in: upload text
DELETE FROM {{ schema }}.artifact_content
 WHERE tenant_id = :tenant AND content_hash = :upload AND uploading_until IS NOT NULL

-- name: stat
-- in: artifact_id text
SELECT artifact_id, session_id, name, version, sequence, artifact_type, mime_type, size_bytes, content_hash, tags,
       metadata, keep, created_at
  FROM {{ schema }}.artifacts WHERE tenant_id = :tenant AND artifact_id = :artifact_id

-- OFFSET 0 has the content looked up by its key.
-- name: content
-- in: artifact_id text
SELECT a.artifact_id, a.session_id, a.name, a.version, a.sequence, a.artifact_type, a.mime_type, a.size_bytes,
       a.content_hash, a.tags, a.metadata, a.keep, a.created_at, c.chunk_size, c.is_compressed, c.data
  FROM {{ schema }}.artifacts AS a, LATERAL (
    SELECT chunk_size, is_compressed, data FROM {{ schema }}.artifact_content AS found
     WHERE found.tenant_id = :tenant AND found.content_hash = a.content_hash OFFSET 0
  ) AS c
 WHERE a.tenant_id = :tenant AND a.artifact_id = :artifact_id

-- name: chunks
-- in: content_hash text, first bigint, last bigint
SELECT chunk, data, is_compressed, chunk_hash FROM {{ schema }}.artifact_chunks
 WHERE tenant_id = :tenant AND content_hash = :content_hash AND chunk BETWEEN :first AND :last ORDER BY chunk

-- name: latest
-- in: session_id text, name text
SELECT artifact_id, session_id, name, version, sequence, artifact_type, mime_type, size_bytes, content_hash, tags,
       metadata, keep, created_at
  FROM {{ schema }}.artifacts WHERE tenant_id = :tenant AND session_id = :session_id AND name = :name
 ORDER BY version DESC LIMIT 1

-- name: in_session
-- in: session_id text, name text, artifact_type text, tag text, after bigint, most bigint
SELECT a.artifact_id, a.session_id, a.name, a.version, a.sequence, a.artifact_type, a.mime_type, a.size_bytes,
       a.content_hash, a.tags, a.metadata, a.keep, a.created_at
  FROM {{ schema }}.artifacts AS a
 WHERE a.tenant_id = :tenant AND a.session_id = :session_id
{% if named %}
   AND a.name = :name AND a.version > :after
{% else %}
   AND a.sequence > :after
{% endif %}
{% if typed %}
   AND a.artifact_type = :artifact_type
{% endif %}
{% if tagged %}
   AND EXISTS (SELECT FROM {{ schema }}.artifact_tags AS t
                WHERE t.tenant_id = :tenant AND t.artifact_id = a.artifact_id AND t.tag = :tag)
{% endif %}
 ORDER BY {% if named %}a.version{% else %}a.sequence{% endif %} LIMIT :most

-- The listing of the tag has the order, where one is asked for, otherwise that of the type or of all artifacts. OFFSET 0
-- has each artifact looked up by its key, so that a page of a tag costs what it shows.
-- name: anywhere
-- in: artifact_type text, tag text, after_time timestamptz, after_id text, most bigint
SELECT a.artifact_id, a.session_id, a.name, a.version, a.sequence, a.artifact_type, a.mime_type, a.size_bytes,
       a.content_hash, a.tags, a.metadata, a.keep, a.created_at
{% if tagged %}
  FROM {{ schema }}.artifact_tags AS p
  JOIN LATERAL (
    SELECT * FROM {{ schema }}.artifacts AS found
     WHERE found.tenant_id = :tenant AND found.artifact_id = p.artifact_id OFFSET 0
  ) AS a ON true
 WHERE p.tenant_id = :tenant AND p.tag = :tag
{% else %}
  FROM {{ schema }}.artifacts AS a
 WHERE a.tenant_id = :tenant
{% endif %}
{% if typed %}
   AND a.artifact_type = :artifact_type
{% endif %}
{% if tagged %}
   AND (p.created_at, p.artifact_id) > (:after_time, :after_id)
 ORDER BY p.created_at, p.artifact_id LIMIT :most
{% else %}
   AND (a.created_at, a.artifact_id) > (:after_time, :after_id)
 ORDER BY a.created_at, a.artifact_id LIMIT :most
{% endif %}

-- name: delete
-- in: artifact_id text
DELETE FROM {{ schema }}.artifacts WHERE tenant_id = :tenant AND artifact_id = :artifact_id RETURNING true

-- Contents are locked in the order of their hashes before they lose references: sessions that share several and are
-- deleted at once would wait for each other in a circle.
-- name: delete_session
-- in: session_id text
WITH locked AS MATERIALIZED (
    SELECT content_hash FROM {{ schema }}.artifact_content
     WHERE tenant_id = :tenant AND content_hash = ANY (ARRAY (
        SELECT content_hash FROM {{ schema }}.artifacts
         WHERE tenant_id = :tenant AND session_id = :session_id AND NOT keep))
     ORDER BY content_hash FOR UPDATE
), gone AS (
    DELETE FROM {{ schema }}.artifacts
     WHERE tenant_id = :tenant AND session_id = :session_id AND NOT keep AND (SELECT count(*) FROM locked) >= 0
    RETURNING 1
)
SELECT count(*) FROM gone

-- What a store has locked meanwhile will be referred to: it is left alone.
-- name: collect
-- in: most bigint, older_than float8
WITH dead AS (
    SELECT content_hash FROM {{ schema }}.artifact_content
     WHERE tenant_id = :tenant AND reference_count = 0
       AND CASE WHEN uploading_until IS NULL
                THEN last_accessed_at <= statement_timestamp() - make_interval(secs => :older_than)
                ELSE uploading_until <= statement_timestamp() END
     ORDER BY last_accessed_at LIMIT :most FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {{ schema }}.artifact_content AS c
     WHERE c.tenant_id = :tenant AND c.content_hash = ANY (ARRAY (SELECT content_hash FROM dead))
    RETURNING c.size_bytes, c.uploading_until IS NOT NULL AS is_upload
)
SELECT count(*) FILTER (WHERE NOT is_upload), count(*) FILTER (WHERE is_upload), coalesce(sum(size_bytes), 0)::bigint
  FROM gone

-- name: statistics
SELECT a.*, c.* FROM (
    SELECT count(*), coalesce(sum(size_bytes), 0)::bigint FROM {{ schema }}.artifacts WHERE tenant_id = :tenant
) AS a, (
    SELECT count(*) FILTER (WHERE reference_count > 0),
           coalesce(sum(original_size_bytes) FILTER (WHERE reference_count > 0), 0)::bigint,
           coalesce(sum(size_bytes) FILTER (WHERE reference_count > 0), 0)::bigint,
           count(*) FILTER (WHERE reference_count = 0 AND uploading_until IS NULL),
           coalesce(sum(size_bytes) FILTER (WHERE reference_count = 0 AND uploading_until IS NULL), 0)::bigint,
           count(*) FILTER (WHERE uploading_until IS NOT NULL),
           coalesce(sum(size_bytes) FILTER (WHERE uploading_until IS NOT NULL), 0)::bigint
      FROM {{ schema }}.artifact_content WHERE tenant_id = :tenant
) AS c
