-- Every tenant table that is not a partition, in an order that foreign keys allow to be emptied in: referencing first.
WITH RECURSIVE tables AS (
    SELECT c.oid, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
       AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)
), depths AS (
    SELECT oid, 0 AS depth FROM tables
    UNION ALL
    SELECT k.confrelid, d.depth + 1 FROM depths d JOIN pg_constraint k ON k.conrelid = d.oid AND k.contype = 'f'
     WHERE k.confrelid <> k.conrelid AND d.depth < 16
)
SELECT t.relname FROM tables t JOIN depths d USING (oid) GROUP BY t.relname ORDER BY max(d.depth), t.relname
