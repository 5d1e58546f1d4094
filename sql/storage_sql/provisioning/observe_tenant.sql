-- Everything that a tenant's plan looks at, in one round trip.
-- Parameters: tenant id, tenant id, both login names, tenant id, its set role.
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
                  'elsewhere', EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase <> 0),
                  'member_of', (SELECT jsonb_agg(g.rolname) FROM pg_auth_members m
                                  JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid),
                  'members', (SELECT jsonb_agg(g.rolname) FROM pg_auth_members m
                                JOIN pg_roles g ON g.oid = m.member WHERE m.roleid = r.oid),
                  'mark', shobj_description(r.oid, 'pg_authid')))
                FROM pg_roles r WHERE r.rolname = ANY (%s)),
    'capability', (SELECT {{ schema }}.capability(t.tenant, t.capability_version) FROM {{ schema }}.tenants t
                    WHERE t.tenant = %s AND t.isolation = 'sealed'),
    'enabled', (SELECT jsonb_agg(k.store) FROM {{ schema }}.components k WHERE k.enabled),
    'set_exists', EXISTS (SELECT FROM pg_roles r WHERE r.rolname = %s),
    'schema_version', (SELECT max(version) FROM {{ schema }}.schema_migrations)
)
