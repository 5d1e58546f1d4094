-- name: record
-- in: execution_id uuid, hook_id text, hook_type text, correlation_id text, context bytea, is_compressed boolean, original_bytes bigint, result jsonb, timestamp timestamptz, duration_us bigint, failed boolean, component text, tags text[], priority bigint, metadata jsonb
INSERT INTO {{ schema }}.hook_history
    (tenant_id, execution_id, hook_id, hook_type, correlation_id, hook_context, is_compressed, original_size_bytes,
     result_data, timestamp, duration_ms, duration_us, failed, triggering_component, tags, retention_priority, metadata)
VALUES (:tenant, :execution_id, :hook_id, :hook_type, :correlation_id, :context, :is_compressed, :original_bytes,
        :result, coalesce(:timestamp, clock_timestamp()), :duration_us / 1000, :duration_us, :failed, :component, :tags,
        :priority, :metadata)

-- name: get
-- in: execution_id uuid
SELECT execution_id, hook_id, hook_type, correlation_id, triggering_component, hook_context, is_compressed,
       original_size_bytes, result_data, timestamp, coalesce(duration_us, duration_ms * 1000), tags, retention_priority,
       metadata
  FROM {{ schema }}.hook_history WHERE tenant_id = :tenant AND execution_id = :execution_id

-- name: executions
-- in: hook_id text, hook_type text, component text, correlation_id text, tags text[], since timestamptz, until timestamptz, failed boolean, least_duration_us bigint, after_time timestamptz, after_id uuid, most bigint
SELECT execution_id, hook_id, hook_type, correlation_id, triggering_component, hook_context, is_compressed,
       original_size_bytes, result_data, timestamp, coalesce(duration_us, duration_ms * 1000), tags, retention_priority,
       metadata
  FROM {{ schema }}.hook_history
 WHERE tenant_id = :tenant
{% if of_hook %}
   AND hook_id = :hook_id
{% endif %}
{% if of_type %}
   AND hook_type = :hook_type
{% endif %}
{% if of_component %}
   AND triggering_component = :component
{% endif %}
{% if of_correlation %}
   AND correlation_id = :correlation_id
{% endif %}
{% if tagged %}
   AND tags @> :tags
{% endif %}
{% if from_time %}
   AND timestamp >= :since
{% endif %}
{% if to_time %}
   AND timestamp < :until
{% endif %}
{% if ended %}
   AND failed = :failed
{% endif %}
{% if lasting %}
   AND coalesce(duration_us, duration_ms * 1000) >= :least_duration_us
{% endif %}
{% if from_place %}
   AND timestamp {% if newest_first %}<={% else %}>={% endif %} :after_time
   AND (timestamp, execution_id) {% if newest_first %}<{% else %}>{% endif %} (:after_time, :after_id)
{% endif %}
 ORDER BY timestamp{% if newest_first %} DESC{% endif %}, execution_id{% if newest_first %} DESC{% endif %}

 LIMIT :most

-- name: durations
-- in: hook_id text, since timestamptz, until timestamptz, after text, most bigint
SELECT h.hook_id, count(*), count(*) FILTER (WHERE h.failed), sum(h.duration)::bigint,
       percentile_disc(ARRAY[0.5, 0.95, 0.99]::float8[]) WITHIN GROUP (ORDER BY h.duration), max(h.duration)
  FROM (SELECT hook_id, failed, coalesce(duration_us, duration_ms * 1000) AS duration
          FROM {{ schema }}.hook_history
         WHERE tenant_id = :tenant
{% if of_hook %}
           AND hook_id = :hook_id
{% endif %}
{% if from_time %}
           AND timestamp >= :since
{% endif %}
{% if to_time %}
           AND timestamp < :until
{% endif %}
           AND hook_id > :after) AS h
 GROUP BY h.hook_id ORDER BY h.hook_id LIMIT :most

-- name: statistics
WITH listed AS MATERIALIZED (
    SELECT hook_type, count(*) AS executions FROM {{ schema }}.hook_history WHERE tenant_id = :tenant
     GROUP BY hook_type ORDER BY 2 DESC, 1 LIMIT 1000
)
SELECT count(*), count(*) FILTER (WHERE failed), count(DISTINCT hook_id), coalesce(sum(length(hook_context)), 0)::bigint,
       coalesce(sum(original_size_bytes), 0)::bigint, min(timestamp), max(timestamp),
       ARRAY(SELECT hook_type FROM listed ORDER BY executions DESC, hook_type),
       ARRAY(SELECT executions FROM listed ORDER BY executions DESC, hook_type)
  FROM {{ schema }}.hook_history WHERE tenant_id = :tenant

-- name: retain
-- in: protected_from bigint, age float8, keep bigint, keep_bytes bigint, most bigint, reason text
SELECT {{ schema }}.retain_hook_executions(
    :protected_from, clock_timestamp() - make_interval(secs => :age), :keep, :keep_bytes, :most, :reason)

-- name: erase
-- in: correlation_id text, reason text
SELECT {{ schema }}.erase_hook_executions(:correlation_id, :reason)
