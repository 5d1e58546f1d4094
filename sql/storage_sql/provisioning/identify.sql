-- Who and what answers: server, database, rights of the session's role, and whose schema it is. Needs no rights.
SELECT jsonb_build_object(
    'version_num', current_setting('server_version_num')::int,
    'version', current_setting('server_version'),
    'database', current_database(),
    'session_role', session_user,
    'superuser', (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
    'bypass_rls', (SELECT rolbypassrls FROM pg_roles WHERE rolname = session_user),
    'read_only', current_setting('transaction_read_only')::bool,
    'max_connections', current_setting('max_connections')::int,
    'superuser_reserved', current_setting('superuser_reserved_connections')::int,
    'reserved', COALESCE(NULLIF(current_setting('reserved_connections', true), '')::int, 0),
    'schema_mark', (SELECT obj_description(n.oid, 'pg_namespace') FROM pg_namespace n
                     WHERE n.nspname = {{ schema_name }}),
    'schema_exists', EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = {{ schema_name }}),
    'tables', (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p')),
    'public_connect', (SELECT has_database_privilege('public', d.oid, 'CONNECT') FROM pg_database d
                        WHERE d.datname = current_database()),
    'statistics_seen', has_column_privilege('pg_catalog.pg_statistic', 'starelid', 'SELECT')
                       AND has_column_privilege('pg_catalog.pg_statistic', 'staattnum', 'SELECT'),
    'extensions', (SELECT jsonb_object_agg(e.extname, e.extversion) FROM pg_extension e),
    'vector_schema', (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
                       WHERE e.extname = 'vector'),
    'roles', (SELECT jsonb_object_agg(r.rolname, jsonb_build_object(
                  'createrole', r.rolcreaterole, 'super', r.rolsuper, 'bypass_rls', r.rolbypassrls,
                  'can_login', r.rolcanlogin, 'settable', pg_has_role(session_user, r.oid, 'SET')))
                FROM pg_roles r WHERE r.rolname LIKE 'llmspell\_%' AND r.rolname !~ '_t_[0-9a-f]+_[ab]$')
)
