-- Every component set of an installation, and every bucket of one: its mark, and what it is granted or a member of.
SELECT r.rolname, shobj_description(r.oid, 'pg_authid'),
       (SELECT jsonb_agg(jsonb_build_array(g.kind, g.name, g.privilege)) FROM (
            SELECT 'TABLE' AS kind, c.relname AS name, a.privilege_type AS privilege
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
             WHERE n.nspname = {{ schema_name }} AND a.grantee = r.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
             UNION ALL
            SELECT 'FUNCTION', p.proname, a.privilege_type
              FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace, aclexplode(p.proacl) a
             WHERE n.nspname = {{ schema_name }} AND a.grantee = r.oid
             UNION ALL
            SELECT 'SCHEMA', n.nspname, a.privilege_type
              FROM pg_namespace n, aclexplode(n.nspacl) a
             WHERE n.nspname = {{ schema_name }} AND a.grantee = r.oid
             UNION ALL
            SELECT 'ROLE', s.rolname, 'MEMBER'
              FROM pg_auth_members m JOIN pg_roles s ON s.oid = m.roleid
             WHERE m.member = r.oid
             UNION ALL
            SELECT 'DATABASE', d.datname, a.privilege_type
              FROM pg_database d, aclexplode(d.datacl) a
             WHERE d.datname = current_database() AND a.grantee = r.oid) AS g)
  FROM pg_roles r
 WHERE starts_with(r.rolname, {{ prefix }})
 ORDER BY r.rolname
