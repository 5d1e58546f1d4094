-- Rows of a tenant in every table, for whoever moves them; the statements of each table are made from tables.json.
-- name: snapshot
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ

-- name: tables
-- in: schema text
SELECT c.relname::text
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND pg_catalog.has_table_privilege(c.oid, 'SELECT')

-- name: page
-- in: most bigint
SELECT /* columns */ FROM {{ schema }}.{{ table }} AS t
 WHERE t.tenant_id = :tenant /* after */ ORDER BY /* key */ LIMIT :most

-- name: insert
INSERT INTO {{ schema }}.{{ table }} (/* columns */) VALUES (/* values */)

-- Counts that triggers changed meanwhile.
-- name: count
UPDATE {{ schema }}.{{ table }} SET /* changes */ WHERE tenant_id = :tenant /* key */

-- Days where the partitions are not those of months.
-- name: partition
-- in: at timestamptz
SELECT {{ schema }}.create_event_partition(
           date_trunc(unit.name, wanted.at) AT TIME ZONE 'UTC',
           (date_trunc(unit.name, wanted.at) + ('1 ' || unit.name)::interval) AT TIME ZONE 'UTC')
  FROM (SELECT :at AT TIME ZONE 'UTC') AS wanted (at)
 CROSS JOIN LATERAL (
       SELECT CASE WHEN EXISTS (
                  SELECT FROM {{ schema }}.event_partitions() AS p
                   WHERE p.from_time < (date_trunc('month', wanted.at) + interval '1 month') AT TIME ZONE 'UTC'
                     AND p.to_time > date_trunc('month', wanted.at) AT TIME ZONE 'UTC') THEN 'day' ELSE 'month' END
       ) AS unit (name)
 WHERE NOT EXISTS (SELECT FROM {{ schema }}.event_partitions() AS p WHERE p.from_time <= :at AND :at < p.to_time)
