-- The RLS contract: every violation, one row each; no rows means that the contract holds. Tables are
-- discovered: a relation with a column tenant_id holds tenants' rows, any other belongs to the operator.
WITH RECURSIVE space AS (
    SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {{ schema_name }}
), relations AS (
    SELECT c.oid, c.relname, c.relkind, c.relispartition, c.relrowsecurity, c.relforcerowsecurity, c.relowner,
           c.relacl, c.reloptions,
           EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                    WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) AS of_tenants
      FROM pg_catalog.pg_class AS c JOIN space ON c.relnamespace = space.oid
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), roots AS (
    SELECT r.oid, r.oid AS root FROM relations AS r WHERE NOT r.relispartition
    UNION ALL
    SELECT i.inhrelid, roots.root FROM pg_catalog.pg_inherits AS i JOIN roots ON roots.oid = i.inhparent
), tables AS (
    SELECT r.*, COALESCE(t.relname, r.relname) = ANY ({{ append_only }}::text[]) AS append_only
      FROM relations AS r
      LEFT JOIN roots ON roots.oid = r.oid
      LEFT JOIN pg_catalog.pg_class AS t ON t.oid = roots.root
     WHERE r.relkind IN ('r', 'p') AND r.of_tenants
), trusted AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname IN ({{ owner_name }}, {{ maintenance_name }})
), wanted_policies AS (
    SELECT t.oid, t.relname, w.polname, w.polcmd, w.roles, w.polqual, w.polcheck
      FROM tables AS t
     CROSS JOIN LATERAL (VALUES
        ('tenant_isolation_select', 'r', 'public', 'reader', NULL),
        ('tenant_isolation_insert', 'a', 'public', NULL, 'writer'),
        ('tenant_isolation_update', 'w', CASE WHEN t.append_only THEN {{ owner_name }} ELSE 'public' END,
         'reader', 'writer'),
        ('tenant_isolation_delete', 'd', CASE WHEN t.append_only THEN {{ owner_name }} ELSE 'public' END,
         'reader', NULL),
        ('maintenance_all', '*', {{ maintenance_name }}, 'true', 'true')
     ) AS w (polname, polcmd, roles, polqual, polcheck)
), expressions (word, deparsed) AS (
    SELECT w.word, pg_catalog.format('(tenant_id = ( SELECT %I.%I() AS %I))', {{ schema_name }}::text, w.function, w.function)
      FROM (VALUES ('reader', 'current_tenant'), ('writer', 'writing_tenant')) AS w (word, function)
    UNION ALL SELECT 'true', 'true'
), policies AS (
    SELECT p.polrelid, p.polname::text, p.polcmd::text, p.polpermissive,
           pg_catalog.array_to_string(ARRAY(
               SELECT COALESCE(r.rolname::text, 'public') FROM pg_catalog.unnest(p.polroles) AS m (oid)
                 LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = m.oid ORDER BY 1), ',') AS roles,
           pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS polqual,
           pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) AS polcheck
      FROM pg_catalog.pg_policy AS p JOIN tables ON tables.oid = p.polrelid
), grants AS (
    SELECT r.oid, r.relname, r.relkind, r.relispartition, r.of_tenants, g.privilege_type, g.grantee,
           COALESCE(a.rolname::text, 'public') AS grantee_name
      FROM relations AS r
     CROSS JOIN LATERAL pg_catalog.aclexplode(r.relacl) AS g
      LEFT JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE g.grantee NOT IN (SELECT oid FROM trusted)
    UNION ALL
    SELECT r.oid, r.relname, r.relkind, r.relispartition, r.of_tenants, g.privilege_type, g.grantee,
           COALESCE(a.rolname::text, 'public')
      FROM relations AS r
      JOIN pg_catalog.pg_attribute AS c ON c.attrelid = r.oid AND c.attacl IS NOT NULL
     CROSS JOIN LATERAL pg_catalog.aclexplode(c.attacl) AS g
      LEFT JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE g.grantee NOT IN (SELECT oid FROM trusted)
), keys AS (
    SELECT t.relname, i.indexrelid, x.relname AS index_name, i.indkey[0] AS first_column,
           pg_catalog.obj_description(COALESCE(parent.inhparent, i.indexrelid), 'pg_class') AS comment, t.oid
      FROM tables AS t
      JOIN pg_catalog.pg_index AS i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion)
      JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
      LEFT JOIN pg_catalog.pg_inherits AS parent ON parent.inhrelid = i.indexrelid
), analyzed AS (
    -- What keeps statistics apart from the tenants' own column: columns, and what indexes compute.
    SELECT t.oid AS relation, t.relname, a.attname, a.attrelid, a.attnum, a.attstattarget
      FROM tables AS t
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'tenant_id' AND a.attgenerated <> 'v'
    UNION ALL
    SELECT t.oid, t.relname, pg_catalog.format('%s.%s', x.relname, a.attname), a.attrelid, a.attnum, a.attstattarget
      FROM tables AS t
      JOIN pg_catalog.pg_index AS i ON i.indrelid = t.oid
      JOIN pg_catalog.pg_class AS x ON x.oid = i.indexrelid
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indexrelid
     WHERE a.attnum <= i.indnkeyatts AND i.indkey[a.attnum - 1] = 0
), functions AS (
    SELECT p.oid, pg_catalog.format('%s(%s)', p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)) AS name,
           p.proname, p.prosecdef, p.provolatile, p.proparallel, p.proconfig, p.proacl, p.proowner
      FROM pg_catalog.pg_proc AS p JOIN space ON p.pronamespace = space.oid
), ours AS (
    SELECT r.oid, r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication,
           r.rolname::text IN ({{ operator_name }}, {{ maintenance_name }}, {{ owner_name }})
               OR r.rolname ^@ {{ shard_prefix }} AS administrative
      FROM pg_catalog.pg_roles AS r
     WHERE r.rolname::text = {{ owner_name }} OR r.rolname ^@ ({{ owner_name }}::text || '_')
), defaults AS (
    -- Default privileges beyond PostgreSQL's own, of or for our roles or in our schema.
    SELECT d.defaclrole AS role, pg_catalog.pg_get_userbyid(d.defaclrole)::text AS role_name,
           pg_catalog.format('%s on %s%s to %s', g.privilege_type,
               CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
                   WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas' ELSE 'large objects' END,
               ' of schema ' || n.nspname, COALESCE(a.rolname::text, 'public')) AS detail
      FROM pg_catalog.pg_default_acl AS d
     CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS g
      LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = d.defaclnamespace
      LEFT JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE g.grantee <> d.defaclrole
       AND NOT (d.defaclrole IN (SELECT oid FROM trusted) AND g.grantee IN (SELECT oid FROM trusted))
       AND NOT (g.grantee = 0 AND d.defaclnamespace = 0
                AND (d.defaclobjtype = 'T'
                     OR d.defaclobjtype = 'f' AND d.defaclrole NOT IN (SELECT oid FROM trusted)))
       AND (d.defaclrole IN (SELECT oid FROM ours) OR g.grantee IN (SELECT oid FROM ours)
            OR d.defaclnamespace IN (SELECT oid FROM space))
), members AS (
    -- Who can become, or acts with the rights of, owner or maintenance, over any number of steps.
    SELECT m.member, m.roleid, t.rolname::text AS target, ARRAY[m.member] AS path
      FROM pg_catalog.pg_auth_members AS m
      JOIN pg_catalog.pg_roles AS t ON t.oid = m.roleid AND t.rolname IN ({{ owner_name }}, {{ maintenance_name }})
     WHERE m.inherit_option OR m.set_option
    UNION ALL
    SELECT m.member, m.roleid, members.target, members.path || m.member
      FROM pg_catalog.pg_auth_members AS m JOIN members ON members.member = m.roleid
     WHERE (m.inherit_option OR m.set_option) AND m.member <> ALL (members.path)
), violations (kind, object, detail) AS (
    SELECT 'SchemaMissing', {{ schema_name }}::text, 'the schema does not exist' WHERE NOT EXISTS (SELECT FROM space)
    UNION ALL
    SELECT 'RowSecurityDisabled', relname::text, 'ENABLE ROW LEVEL SECURITY is missing'
      FROM tables WHERE NOT relrowsecurity
    UNION ALL
    SELECT 'RowSecurityNotForced', relname::text, 'FORCE ROW LEVEL SECURITY is missing'
      FROM tables WHERE NOT relforcerowsecurity
    UNION ALL
    SELECT CASE WHEN p.polname IS NULL THEN 'PolicyMissing' ELSE 'PolicyAltered' END, w.relname::text,
           pg_catalog.concat_ws(': ', w.polname, pg_catalog.concat_ws(' ', 'roles ' || p.roles,
               'using ' || p.polqual, 'check ' || p.polcheck))
      FROM wanted_policies AS w
      LEFT JOIN policies AS p ON p.polrelid = w.oid AND p.polname = w.polname
     WHERE p.polname IS NULL OR p.polcmd <> w.polcmd OR NOT p.polpermissive OR p.roles <> w.roles
        OR p.polqual IS DISTINCT FROM (SELECT e.deparsed FROM expressions AS e WHERE e.word = w.polqual)
        OR p.polcheck IS DISTINCT FROM (SELECT e.deparsed FROM expressions AS e WHERE e.word = w.polcheck)
    UNION ALL
    SELECT 'StatisticsKept', relname::text, pg_catalog.format('column %s is analyzed', attname)
      FROM analyzed WHERE attstattarget IS DISTINCT FROM 0
    UNION ALL
    -- Only from 18 on may an owner remove what was gathered already.
    SELECT CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 180000
                THEN 'StatisticsKept' ELSE 'StatisticsLeft' END,
           c.relname::text,
           pg_catalog.format('column %s has statistics; a superuser removes them: DELETE FROM pg_statistic', c.attname)
      FROM analyzed AS c
     WHERE EXISTS (SELECT FROM pg_catalog.pg_statistic AS s
                    WHERE s.starelid = c.attrelid AND s.staattnum = c.attnum)
    UNION ALL
    SELECT CASE WHEN s.stxowner IN (SELECT oid FROM trusted) OR s.stxnamespace IN (SELECT oid FROM space)
                THEN 'StatisticsKept' ELSE 'StatisticsForeign' END,
           t.relname::text, pg_catalog.format('statistics object %s', s.stxname)
      FROM pg_catalog.pg_statistic_ext AS s JOIN tables AS t ON t.oid = s.stxrelid
    UNION ALL
    SELECT 'PolicyForeign', t.relname::text, p.polname
      FROM policies AS p JOIN tables AS t ON t.oid = p.polrelid
     WHERE NOT EXISTS (SELECT FROM wanted_policies AS w WHERE w.oid = p.polrelid AND w.polname = p.polname)
    UNION ALL
    SELECT 'ChildGranted', relname::text, pg_catalog.format('%s to %s', privilege_type, grantee_name)
      FROM grants WHERE relispartition
    UNION ALL
    SELECT 'ControlTableGranted', relname::text, pg_catalog.format('%s to %s', privilege_type, grantee_name)
      FROM grants WHERE NOT of_tenants AND NOT relispartition AND relkind IN ('r', 'p')
    UNION ALL
    SELECT 'SequenceGranted', relname::text, pg_catalog.format('%s to %s', privilege_type, grantee_name)
      FROM grants WHERE relkind = 'S'
    UNION ALL
    SELECT 'PrivilegeTooStrong', relname::text, pg_catalog.format('%s to %s', privilege_type, grantee_name)
      FROM grants
     WHERE of_tenants AND relkind IN ('r', 'p')
       AND privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    UNION ALL
    SELECT 'GrantedToPublic', relname::text, privilege_type FROM grants WHERE grantee = 0
    UNION ALL
    SELECT 'AppendOnlyGranted', g.relname::text, pg_catalog.format('%s to %s', g.privilege_type, g.grantee_name)
      FROM grants AS g JOIN tables AS t ON t.oid = g.oid
     WHERE t.append_only AND g.privilege_type IN ('UPDATE', 'DELETE')
    UNION ALL
    SELECT 'KeyWithoutTenant', k.relname::text, k.index_name::text
      FROM keys AS k
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
                        WHERE a.attrelid = k.oid AND a.attnum = k.first_column AND a.attname = 'tenant_id')
       AND NOT (k.comment IS NOT NULL AND k.comment ^@ 'global key: ')
    UNION ALL
    SELECT 'ForeignKeyWithoutTenant', t.relname::text, c.conname::text
      FROM pg_catalog.pg_constraint AS c JOIN tables AS t ON t.oid = c.conrelid
     WHERE c.contype = 'f'
       AND NOT EXISTS (
           SELECT FROM unnest(c.conkey, c.confkey) AS k (own, theirs)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = k.own
             JOIN pg_catalog.pg_attribute AS b ON b.attrelid = c.confrelid AND b.attnum = k.theirs
            WHERE a.attname = 'tenant_id' AND b.attname = 'tenant_id')
    UNION ALL
    SELECT 'TenantColumnLoose', t.relname::text, 'tenant_id must be text COLLATE "C" NOT NULL'
      FROM tables AS t
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'tenant_id'
     WHERE a.atttypid <> 'pg_catalog.text'::pg_catalog.regtype OR NOT a.attnotnull
        OR a.attcollation <> 'pg_catalog."C"'::pg_catalog.regcollation
    UNION ALL
    SELECT 'ViewNotInvoker', relname::text, 'security_invoker is missing'
      FROM relations
     WHERE relkind = 'v' AND NOT COALESCE(reloptions, '{}') && ARRAY['security_invoker=true', 'security_invoker=on']
    UNION ALL
    SELECT 'UnprotectableRelation', relname::text, 'a materialized view or foreign table knows no row-level security'
      FROM relations WHERE relkind IN ('m', 'f')
    UNION ALL
    SELECT 'RelationOwner', r.relname::text, pg_catalog.pg_get_userbyid(r.relowner)::text
      FROM relations AS r WHERE pg_catalog.pg_get_userbyid(r.relowner) <> {{ owner_name }}
    UNION ALL
    SELECT 'SchemaOwner', n.nspname::text, pg_catalog.pg_get_userbyid(n.nspowner)::text
      FROM pg_catalog.pg_namespace AS n JOIN space ON space.oid = n.oid
     WHERE pg_catalog.pg_get_userbyid(n.nspowner) <> {{ owner_name }}
    UNION ALL
    SELECT 'SchemaWritable', n.nspname::text,
           pg_catalog.format('%s to %s', g.privilege_type, COALESCE(a.rolname::text, 'public'))
      FROM pg_catalog.pg_namespace AS n
     CROSS JOIN LATERAL pg_catalog.aclexplode(
           COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS g
      LEFT JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE (n.nspname = {{ schema_name }} AND g.privilege_type = 'CREATE' AND g.grantee NOT IN (SELECT oid FROM trusted))
        OR (n.nspname = {{ schema_name }} AND g.grantee = 0)
        OR (n.nspname = 'public' AND g.privilege_type = 'CREATE' AND g.grantee = 0)
    UNION ALL
    SELECT 'FunctionPathNotPinned', f.name, COALESCE(pg_catalog.array_to_string(f.proconfig, ', '), 'no settings')
      FROM functions AS f
     WHERE f.prosecdef AND NOT COALESCE(f.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp']
    UNION ALL
    SELECT 'FunctionOwner', f.name, pg_catalog.pg_get_userbyid(f.proowner)::text
      FROM functions AS f WHERE f.proowner NOT IN (SELECT oid FROM trusted)
    UNION ALL
    SELECT 'FunctionPublic', f.name, 'EXECUTE is granted to PUBLIC'
      FROM functions AS f
     WHERE EXISTS (SELECT FROM pg_catalog.aclexplode(
                       COALESCE(f.proacl, pg_catalog.acldefault('f', f.proowner))) AS g WHERE g.grantee = 0)
    UNION ALL
    SELECT 'FunctionOwnerOnly', f.name, pg_catalog.format('EXECUTE to %s', a.rolname)
      FROM functions AS f
     CROSS JOIN LATERAL pg_catalog.aclexplode(f.proacl) AS g
      JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE f.proname IN ('capability', 'rotate_sealing_key', 'protect_table', 'tick_once', 'create_vector_table',
                         'create_event_partition', 'ensure_event_partitions', 'event_partitions')
       AND g.grantee NOT IN (SELECT oid FROM trusted)
    UNION ALL
    -- One pooler's login may ask for verifiers: no tenant's, nobody's besides, and nobody acts as it.
    SELECT 'FunctionOwnerOnly', f.name, pg_catalog.format('EXECUTE to %s', a.rolname)
      FROM functions AS f
     CROSS JOIN LATERAL pg_catalog.aclexplode(f.proacl) AS g
      JOIN pg_catalog.pg_roles AS a ON a.oid = g.grantee
     WHERE f.proname = 'pooler_login' AND g.grantee NOT IN (SELECT oid FROM trusted)
       AND (NOT a.rolcanlogin OR g.is_grantable
            OR a.rolname ^@ ({{ owner_name }}::text || '_t_') OR a.rolname ^@ ({{ owner_name }}::text || '_set_')
            OR a.rolname ^@ {{ shard_prefix }} OR a.rolname = {{ owner_name }}::text || '_app'
            OR EXISTS (SELECT FROM pg_catalog.aclexplode(f.proacl) AS other
                        WHERE other.grantee NOT IN (SELECT oid FROM trusted) AND other.grantee <> g.grantee)
            OR EXISTS (SELECT FROM pg_catalog.pg_auth_members AS m
                        WHERE m.roleid = g.grantee AND (m.inherit_option OR m.set_option)))
    UNION ALL
    SELECT 'DefaultPrivileges', role_name, detail FROM defaults
    UNION ALL
    SELECT 'DefaultPrivileges', r.rolname::text, 'new functions are executable by public'
      FROM pg_catalog.pg_roles AS r JOIN trusted ON trusted.oid = r.oid
     WHERE EXISTS (SELECT FROM functions)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_default_acl AS d
                        WHERE d.defaclrole = r.oid AND d.defaclnamespace = 0 AND d.defaclobjtype = 'f')
    UNION ALL
    SELECT 'FunctionMissing', w.name, 'the policies depend on it'
      FROM (VALUES ('current_tenant'), ('writing_tenant')) AS w (name)
     WHERE EXISTS (SELECT FROM tables) AND NOT EXISTS (SELECT FROM functions AS f WHERE f.proname = w.name)
    UNION ALL
    SELECT 'FunctionMarks', f.name, 'must be STABLE, PARALLEL RESTRICTED and SECURITY DEFINER'
      FROM functions AS f
     WHERE f.proname IN ('current_tenant', 'writing_tenant')
       AND (f.provolatile <> 's' OR f.proparallel <> 'r' OR NOT f.prosecdef)
    UNION ALL
    SELECT 'RoleTooStrong', o.rolname, pg_catalog.concat_ws(', ',
               CASE WHEN o.rolsuper THEN 'SUPERUSER' END, CASE WHEN o.rolbypassrls THEN 'BYPASSRLS' END,
               CASE WHEN o.rolcreaterole AND NOT o.administrative THEN 'CREATEROLE' END,
               CASE WHEN o.rolcreatedb THEN 'CREATEDB' END, CASE WHEN o.rolreplication THEN 'REPLICATION' END)
      FROM ours AS o
     WHERE o.rolsuper OR o.rolbypassrls OR o.rolcreatedb OR o.rolreplication
        OR (o.rolcreaterole AND NOT o.administrative)
    UNION ALL
    SELECT DISTINCT CASE WHEN m.target = {{ maintenance_name }} THEN 'ForeignMaintenanceMember' ELSE 'ForeignOwnerMember' END,
           r.rolname::text, pg_catalog.format('reaches %s', m.target)
      FROM members AS m JOIN pg_catalog.pg_roles AS r ON r.oid = m.member
     WHERE NOT r.rolsuper AND r.rolname::text NOT IN ({{ operator_name }}, {{ maintenance_name }})
    UNION ALL
    SELECT 'PredefinedRole', r.rolname, p.rolname::text
      FROM ours AS r
      JOIN pg_catalog.pg_auth_members AS m ON m.member = r.oid
      JOIN pg_catalog.pg_roles AS p ON p.oid = m.roleid AND p.rolname ^@ 'pg_'
     WHERE NOT r.administrative
    UNION ALL
    SELECT 'DatabaseOpen', d.datname::text, pg_catalog.format('%s to public', g.privilege_type)
      FROM pg_catalog.pg_database AS d
     CROSS JOIN LATERAL pg_catalog.aclexplode(COALESCE(d.datacl, pg_catalog.acldefault('d', d.datdba))) AS g
     WHERE d.datname = pg_catalog.current_database() AND g.grantee = 0
    UNION ALL
    SELECT 'LargeObjectsOpen', p.oid::pg_catalog.regprocedure::text, 'EXECUTE is granted to PUBLIC'
      FROM pg_catalog.pg_proc AS p
     WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
       AND (p.proname ^@ 'lo_' OR p.proname IN ('loread', 'lowrite'))
       AND EXISTS (SELECT FROM pg_catalog.aclexplode(
                       COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS g WHERE g.grantee = 0)
    UNION ALL
    SELECT 'TriggerForeign', t.relname::text, g.tgname::text
      FROM pg_catalog.pg_trigger AS g
      JOIN relations AS t ON t.oid = g.tgrelid
      JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
     WHERE NOT g.tgisinternal AND p.pronamespace NOT IN (SELECT oid FROM space)
)
SELECT kind, object, detail FROM violations ORDER BY kind, object, detail
