-- Every tenant table that is not a partition, with its columns; for one aggregate a table over all tenants.
SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum)
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'test_table'
   AND EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped)
 GROUP BY c.relname ORDER BY c.relname
