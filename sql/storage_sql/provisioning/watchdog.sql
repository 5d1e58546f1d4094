-- End tenants' sessions that broke a limit they may change themselves, and those that hold locks which stop others.
WITH sessions AS (
    SELECT a.pid, a.usename::text AS login, l.tenant,
           CASE
               WHEN t.suspended OR t.state <> 'active' THEN 'suspended'
               WHEN l.retire_at <= now() THEN 'retired login'
               WHEN a.state = 'active'
                    AND clock_timestamp() - a.query_start > t.statement_timeout_ms * interval '1 ms' + grace.span
                   THEN 'statementTimeout'
               WHEN a.state LIKE 'idle in transaction%%'
                    AND clock_timestamp() - a.state_change > t.idle_in_transaction_timeout_ms * interval '1 ms' + grace.span
                   THEN 'idleInTransactionTimeout'
               WHEN clock_timestamp() - a.xact_start > grace.span AND EXISTS (
                    SELECT FROM pg_locks k JOIN pg_class c ON c.oid = k.relation JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE k.pid = a.pid AND k.granted AND k.locktype = 'relation' AND n.nspname = {{ schema_name }}
                       AND k.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
                   THEN 'strong lock'
           END AS broke
      FROM pg_stat_activity a
      JOIN {{ schema }}.tenant_logins l ON l.login = a.usename::text COLLATE "C"
      JOIN {{ schema }}.tenants t ON t.tenant = l.tenant,
           (SELECT %s * interval '1 second' AS span) AS grace
)
SELECT login, tenant, broke, pg_terminate_backend(pid) FROM sessions WHERE broke IS NOT NULL
