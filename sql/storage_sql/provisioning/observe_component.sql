-- One store: its row, every table of the schema with its leaves' storage parameters, and the event log's partitions.
SELECT jsonb_build_object(
    'row', (SELECT jsonb_build_object('enabled', k.enabled, 'parameters', k.parameters)
              FROM {{ schema }}.components k WHERE k.store = %s),
    'tables', (SELECT jsonb_agg(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p') AND NOT c.relispartition),
    'leaves', (SELECT jsonb_agg(jsonb_build_object(
                   'name', c.relname, 'options', c.reloptions,
                   'root', (SELECT r.relname FROM pg_class r WHERE r.oid = COALESCE(pg_partition_root(c.oid), c.oid))))
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = {{ schema_name }} AND c.relkind = 'r'),
    'partitions', (SELECT jsonb_build_object('count', count(*), 'horizon', max(to_time),
                                             'ahead', count(*) FILTER (WHERE from_time > now()))
                     FROM {{ schema }}.event_partitions())
)
