-- Everything that a tenant's plan looks at, in one round trip.
-- Parameters: tenant id, tenant id, both login names, tenant id, tenant id, its set role, tenant id, both login names.
SELECT jsonb_build_object(
    'now', clock_timestamp(),
    'row', (SELECT to_jsonb(t) FROM {{ schema }}.tenants t WHERE t.tenant = %s),
    'logins', (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.login) FROM {{ schema }}.tenant_logins l
                WHERE l.tenant = %s),
    'roles', (SELECT jsonb_agg(jsonb_build_object(
                  'name', r.rolname, 'can_login', r.rolcanlogin, 'inherits', r.rolinherit,
                  'privileged', r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
                  'connection_limit', r.rolconnlimit,
                  'settings', (SELECT s.setconfig FROM pg_db_role_setting s
                                WHERE s.setrole = r.oid AND s.setdatabase = 0),
                  'expires', COALESCE(r.rolvaliduntil <> 'infinity', false),
                  'database_settings', (SELECT d.datname FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
                                         WHERE s.setrole = r.oid AND d.datname = current_database()),
                  'granted', (SELECT jsonb_agg(DISTINCT jsonb_build_array(g.kind, g.name)) FROM (
                       SELECT 'TABLE', c.relname FROM pg_shdepend s JOIN pg_class c ON c.oid = s.objid
                        WHERE s.classid = 'pg_class'::regclass AND s.refclassid = 'pg_authid'::regclass
                          AND s.refobjid = r.oid AND s.deptype = 'a' AND c.relnamespace = n.oid
                          AND s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                        UNION ALL
                       SELECT 'FUNCTION', p.proname FROM pg_shdepend s JOIN pg_proc p ON p.oid = s.objid
                        WHERE s.classid = 'pg_proc'::regclass AND s.refclassid = 'pg_authid'::regclass
                          AND s.refobjid = r.oid AND s.deptype = 'a' AND p.pronamespace = n.oid
                          AND s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                        UNION ALL
                       SELECT 'SCHEMA', n.nspname FROM pg_shdepend s
                        WHERE s.classid = 'pg_namespace'::regclass AND s.refclassid = 'pg_authid'::regclass
                          AND s.refobjid = r.oid AND s.deptype = 'a' AND s.objid = n.oid
                          AND s.dbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                        UNION ALL
                       SELECT 'DATABASE', d.datname FROM pg_shdepend s JOIN pg_database d ON d.oid = s.objid
                        WHERE s.classid = 'pg_database'::regclass AND s.refclassid = 'pg_authid'::regclass
                          AND s.refobjid = r.oid AND s.deptype = 'a' AND d.datname = current_database()
                       ) AS g (kind, name)),
                  'member_of', (SELECT jsonb_agg(g.rolname) FROM pg_auth_members m
                                  JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid),
                  'mark', shobj_description(r.oid, 'pg_authid')))
                FROM pg_roles r LEFT JOIN pg_namespace n ON n.nspname = {{ schema_name }} WHERE r.rolname = ANY (%s)),
    'capability', (SELECT {{ schema }}.capability(t.tenant, t.capability_version) FROM {{ schema }}.tenants t
                    WHERE t.tenant = %s AND t.isolation = 'sealed'),
    'former_capability', (SELECT {{ schema }}.capability(t.tenant, t.previous_capability_version)
                            FROM {{ schema }}.tenants t
                           WHERE t.tenant = %s AND t.isolation = 'sealed' AND t.previous_capability_version IS NOT NULL),
    'enabled', (SELECT jsonb_agg(k.store) FROM {{ schema }}.components k WHERE k.enabled),
    'set_exists', EXISTS (SELECT FROM pg_roles r WHERE r.rolname = %s),
    -- Looked at only while the tenant is suspended: sessions that outlived an interrupted suspension are ended.
    'sessions', CASE WHEN EXISTS (SELECT FROM {{ schema }}.tenants t WHERE t.tenant = %s AND t.suspended)
                     THEN (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = ANY (%s)) ELSE 0 END,
    'schema_version', (SELECT max(version) FROM {{ schema }}.schema_migrations)
)
