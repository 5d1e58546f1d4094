-- name: initial_setup
-- role: owner
-- transactional: yes

-- Functions are executable by PUBLIC unless their creator says otherwise once.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
SET LOCAL ROLE {{ maintenance }};
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
-- The owner grants maintenance's few functions on, though it is no member of it.
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {{ owner }} WITH GRANT OPTION;
SET LOCAL ROLE {{ owner }};

-- Control tables ----------------------------------------------------------------------------

CREATE TABLE {{ schema }}.installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    claimed_by jsonb
);
INSERT INTO {{ schema }}.installation (id) VALUES ({{ installation }});

CREATE TABLE {{ schema }}.operator_lease (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL DEFAULT 0,
    holder text,
    acquired_at timestamptz
);
INSERT INTO {{ schema }}.operator_lease DEFAULT VALUES;

CREATE TABLE {{ schema }}.components (
    store text COLLATE "C" PRIMARY KEY,
    enabled boolean NOT NULL DEFAULT true,
    parameters jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO {{ schema }}.components (store) VALUES
    ('vectors'), ('graph'), ('procedures'), ('agent_state'), ('kv'), ('workflow_states'),
    ('sessions'), ('artifacts'), ('events'), ('hooks'), ('api_keys');

CREATE TABLE {{ schema }}.tenants (
    tenant text COLLATE "C" PRIMARY KEY CHECK (tenant ~ '^[a-z0-9-]{3,255}$'),
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'retained')),
    isolation text COLLATE "C" NOT NULL DEFAULT 'role' CHECK (isolation IN ('role', 'sealed')),
    suspended boolean NOT NULL DEFAULT false,
    stores text[] COLLATE "C" NOT NULL DEFAULT '{}',
    statement_timeout_ms bigint CHECK (statement_timeout_ms BETWEEN 0 AND 2147483647),
    lock_timeout_ms bigint CHECK (lock_timeout_ms BETWEEN 0 AND 2147483647),
    idle_in_transaction_timeout_ms bigint CHECK (idle_in_transaction_timeout_ms BETWEEN 0 AND 2147483647),
    work_mem_kb bigint CHECK (work_mem_kb BETWEEN 64 AND 2147483647),
    connection_limit integer CHECK (connection_limit BETWEEN 1 AND 10000),
    quota_bytes bigint CHECK (quota_bytes >= 0),
    quota_enforced boolean NOT NULL DEFAULT false,
    over_quota boolean NOT NULL DEFAULT false,
    used_bytes bigint CHECK (used_bytes >= 0),
    used_rows bigint CHECK (used_rows >= 0),
    measured_at timestamptz,
    capability_version integer NOT NULL DEFAULT 1 CHECK (capability_version > 0),
    previous_capability_version integer CHECK (previous_capability_version > 0),
    previous_capability_expires_at timestamptz,
    password_changed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {{ schema }}.tenant_logins (
    login text COLLATE "C" PRIMARY KEY CHECK (octet_length(login) <= 63),
    tenant text COLLATE "C" NOT NULL REFERENCES {{ schema }}.tenants (tenant),
    slot text COLLATE "C" NOT NULL CHECK (slot IN ('a', 'b')),
    digest text COLLATE "C",
    verifier text COLLATE "C",
    created_at timestamptz NOT NULL DEFAULT now(),
    retire_at timestamptz,
    UNIQUE (tenant, slot)
);

CREATE TABLE {{ schema }}.sealing_key (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL,
    inner_pad bytea NOT NULL CHECK (length(inner_pad) = 64),
    outer_pad bytea NOT NULL CHECK (length(outer_pad) = 64),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The sealing key -----------------------------------------------------------------------------

-- Draws a new HMAC-SHA-256 key from core functions alone and keeps its two pads: what is asked
-- on every statement is then two hashes and no arithmetic. Every capability and context dies.
CREATE FUNCTION {{ schema }}.rotate_sealing_key() RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    key bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    padded bytea := key || decode(repeat('00', 32), 'hex');
    inner_bytes bytea := padded;
    outer_bytes bytea := padded;
    new_version integer;
BEGIN
    FOR position IN 0..63 LOOP
        inner_bytes := set_byte(inner_bytes, position, get_byte(padded, position) # 54);
        outer_bytes := set_byte(outer_bytes, position, get_byte(padded, position) # 92);
    END LOOP;
    INSERT INTO {{ schema }}.sealing_key AS k (version, inner_pad, outer_pad) VALUES (1, inner_bytes, outer_bytes)
    ON CONFLICT (singleton) DO UPDATE
        SET version = k.version + 1, inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad, created_at = now()
    RETURNING version INTO new_version;
    RETURN new_version;
END
$function$;
SELECT {{ schema }}.rotate_sealing_key();

-- Who is asking -------------------------------------------------------------------------------

{% for writing in [false, true] %}
CREATE FUNCTION {{ schema }}.{% if writing %}writing_tenant{% else %}current_tenant{% endif %}() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    resolved text;
    servable boolean;
    refused boolean;
    sealed text;
BEGIN
    -- Two lookups by key: a join of the two tables takes half as long again.
    SELECT l.tenant, l.retire_at IS NULL OR l.retire_at > statement_timestamp()
      INTO resolved, servable
      FROM {{ schema }}.tenant_logins AS l
     WHERE l.login = session_user::text COLLATE "C";
    IF FOUND THEN
        SELECT servable AND t.state = 'active' AND NOT t.suspended, t.over_quota AND t.quota_enforced
          INTO servable, refused
          FROM {{ schema }}.tenants AS t
         WHERE t.tenant = resolved;
    ELSE
        -- After SET LOCAL and COMMIT a setting is '', not NULL.
        sealed := current_setting('llmspell.context', true);
        IF sealed IS NULL OR length(sealed) < 66 THEN
            RETURN NULL;
        END IF;
        resolved := substr(sealed, 66);
        SELECT sha256(convert_to(left(sealed, 64), 'UTF8')) = sha256(convert_to(encode(
                   sha256(k.outer_pad || sha256(k.inner_pad || convert_to(concat_ws(chr(31),
                       'context', resolved, pg_backend_pid(), extract(epoch FROM now())), 'UTF8'))),
                   'hex'), 'UTF8'))
          INTO servable
          FROM {{ schema }}.sealing_key AS k;
    END IF;
    IF servable IS NOT TRUE THEN
        RETURN NULL;
    END IF;
{% if writing %}
    IF refused IS NULL THEN
        SELECT t.over_quota AND t.quota_enforced INTO refused FROM {{ schema }}.tenants AS t WHERE t.tenant = resolved;
    END IF;
    IF refused THEN
        RAISE EXCEPTION 'storage quota exceeded'
            USING ERRCODE = '53400',
                  DETAIL = (SELECT format('%s of %s bytes used.', t.used_bytes, t.quota_bytes)
                              FROM {{ schema }}.tenants AS t WHERE t.tenant = resolved),
                  HINT = 'DELETE still works; the quota is spec.quotas.storage of the Tenant.';
    END IF;
{% endif %}
    RETURN resolved;
END
$function$;
{% endfor %}

-- Protection ----------------------------------------------------------------------------------

-- Puts a table and all its partitions under the one contract. On an append-only table only the
-- owner's definer functions may update or delete. Statistics are gathered over all tenants' rows
-- and show in everybody's estimates, so that only the tenants' own column keeps any.
CREATE FUNCTION {{ schema }}.protect_table(target regclass, append_only boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    relation regclass;
    policy name;
    silenced text;
    index_name regclass;
    place integer;
    statistics_name text;
    reader constant text := format('(tenant_id = (SELECT %I.current_tenant()))', {{ schema_name }});
    writer constant text := format('(tenant_id = (SELECT %I.writing_tenant()))', {{ schema_name }});
    changers constant text := CASE WHEN append_only THEN quote_ident({{ owner_name }}) ELSE 'PUBLIC' END;
BEGIN
    FOR relation IN
        SELECT target UNION SELECT t.relid FROM pg_partition_tree(target) AS t
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', relation);
        FOR policy IN SELECT p.polname FROM pg_policy AS p WHERE p.polrelid = relation LOOP
            EXECUTE format('DROP POLICY %I ON %s', policy, relation);
        END LOOP;
        EXECUTE format('CREATE POLICY tenant_isolation_select ON %s FOR SELECT USING %s', relation, reader);
        EXECUTE format('CREATE POLICY tenant_isolation_insert ON %s FOR INSERT WITH CHECK %s', relation, writer);
        EXECUTE format('CREATE POLICY tenant_isolation_update ON %s FOR UPDATE TO %s USING %s WITH CHECK %s',
            relation, changers, reader, writer);
        EXECUTE format('CREATE POLICY tenant_isolation_delete ON %s FOR DELETE TO %s USING %s',
            relation, changers, reader);
        EXECUTE format('CREATE POLICY maintenance_all ON %s TO %I USING (true) WITH CHECK (true)',
            relation, {{ maintenance_name }});
        SELECT string_agg(format('ALTER COLUMN %I SET STATISTICS 0', a.attname), ', ') INTO silenced
          FROM pg_attribute AS a
         WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'tenant_id'
           AND a.attgenerated <> 'v' AND a.attstattarget IS DISTINCT FROM 0;
        IF silenced IS NOT NULL THEN
            EXECUTE format('ALTER TABLE ONLY %s %s', relation, silenced);
        END IF;
        -- What an index computes has statistics of its own.
        FOR index_name, place IN
            SELECT i.indexrelid, a.attnum
              FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indexrelid
             WHERE i.indrelid = relation AND a.attnum <= i.indnkeyatts AND i.indkey[a.attnum - 1] = 0
               AND a.attstattarget IS DISTINCT FROM 0
        LOOP
            EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', index_name, place);
        END LOOP;
        FOR statistics_name IN
            SELECT format('%I.%I', n.nspname, e.stxname)
              FROM pg_statistic_ext AS e JOIN pg_namespace AS n ON n.oid = e.stxnamespace
             WHERE e.stxrelid = relation
               AND (pg_has_role(e.stxowner, 'USAGE') OR pg_has_role(n.nspowner, 'USAGE'))
        LOOP
            EXECUTE format('DROP STATISTICS %s', statistics_name);
        END LOOP;
        -- Analyzing with a target of 0 leaves what was gathered before. Only from 18 on may an owner remove it.
        IF current_setting('server_version_num')::integer >= 180000 THEN
            PERFORM pg_clear_attribute_stats(n.nspname::text, c.relname::text, a.attname::text, of_children)
               FROM pg_attribute AS a
               JOIN pg_class AS c ON c.oid = a.attrelid
               JOIN pg_namespace AS n ON n.oid = c.relnamespace
              CROSS JOIN (VALUES (false), (true)) AS s (of_children)
              WHERE NOT a.attisdropped
                AND (a.attrelid = relation AND a.attnum > 0 AND a.attname <> 'tenant_id'
                     OR a.attrelid IN (SELECT i.indexrelid FROM pg_index AS i
                                        WHERE i.indrelid = relation AND a.attnum <= i.indnkeyatts
                                          AND i.indkey[a.attnum - 1] = 0));
        END IF;
    END LOOP;
END
$function$;

-- Comments ------------------------------------------------------------------------------------

COMMENT ON TABLE {{ schema }}.installation IS 'Identity of this installation; one row.';
COMMENT ON COLUMN {{ schema }}.installation.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN {{ schema }}.installation.id IS 'Eight characters that every role name carries.';
COMMENT ON COLUMN {{ schema }}.installation.created_at IS 'When the schema was first migrated.';
COMMENT ON COLUMN {{ schema }}.installation.claimed_by IS 'The StorageCluster that manages this schema, as cluster, namespace and name.';
COMMENT ON TABLE {{ schema }}.operator_lease IS 'Fencing: the epoch of the operator that may provision; one row.';
COMMENT ON COLUMN {{ schema }}.operator_lease.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN {{ schema }}.operator_lease.epoch IS 'Grows with each new leader; provisioning transactions compare it.';
COMMENT ON COLUMN {{ schema }}.operator_lease.holder IS 'Identity of the leader.';
COMMENT ON COLUMN {{ schema }}.operator_lease.acquired_at IS 'When the leader took over.';
COMMENT ON TABLE {{ schema }}.components IS 'The eleven stores and how the cluster runs them.';
COMMENT ON COLUMN {{ schema }}.components.store IS 'Name of the store.';
COMMENT ON COLUMN {{ schema }}.components.enabled IS 'Whether any tenant may reach it.';
COMMENT ON COLUMN {{ schema }}.components.parameters IS 'Parameters of its StorageComponent.';
COMMENT ON COLUMN {{ schema }}.components.updated_at IS 'When the row was last changed.';
COMMENT ON TABLE {{ schema }}.tenants IS 'What the operator knows of each tenant; unreadable for tenants.';
COMMENT ON COLUMN {{ schema }}.tenants.tenant IS 'The tenant id.';
COMMENT ON COLUMN {{ schema }}.tenants.namespace IS 'Namespace of the Tenant that owns the id.';
COMMENT ON COLUMN {{ schema }}.tenants.name IS 'Name of that Tenant.';
COMMENT ON COLUMN {{ schema }}.tenants.state IS 'active, or retained after deletion with its rows kept.';
COMMENT ON COLUMN {{ schema }}.tenants.isolation IS 'role: a login of its own; sealed: a capability on the shared login.';
COMMENT ON COLUMN {{ schema }}.tenants.suspended IS 'Whether access is closed for now.';
COMMENT ON COLUMN {{ schema }}.tenants.stores IS 'The stores the tenant has.';
COMMENT ON COLUMN {{ schema }}.tenants.statement_timeout_ms IS 'Default statement timeout, in milliseconds.';
COMMENT ON COLUMN {{ schema }}.tenants.lock_timeout_ms IS 'Default lock timeout, in milliseconds.';
COMMENT ON COLUMN {{ schema }}.tenants.idle_in_transaction_timeout_ms IS 'Default timeout of an idle transaction, in milliseconds.';
COMMENT ON COLUMN {{ schema }}.tenants.work_mem_kb IS 'Default work_mem, in kilobytes.';
COMMENT ON COLUMN {{ schema }}.tenants.connection_limit IS 'Connection limit of each login.';
COMMENT ON COLUMN {{ schema }}.tenants.quota_bytes IS 'Storage quota, in bytes.';
COMMENT ON COLUMN {{ schema }}.tenants.quota_enforced IS 'Whether INSERT and UPDATE are refused over the quota.';
COMMENT ON COLUMN {{ schema }}.tenants.over_quota IS 'Whether the last measurement was over the quota.';
COMMENT ON COLUMN {{ schema }}.tenants.used_bytes IS 'Bytes used at the last measurement.';
COMMENT ON COLUMN {{ schema }}.tenants.used_rows IS 'Rows held at the last measurement.';
COMMENT ON COLUMN {{ schema }}.tenants.measured_at IS 'When usage was last measured.';
COMMENT ON COLUMN {{ schema }}.tenants.capability_version IS 'Version of the capability now issued.';
COMMENT ON COLUMN {{ schema }}.tenants.previous_capability_version IS 'Version that is still accepted during a rotation.';
COMMENT ON COLUMN {{ schema }}.tenants.previous_capability_expires_at IS 'When that version stops being accepted.';
COMMENT ON COLUMN {{ schema }}.tenants.password_changed_at IS 'When the login''s password was last set.';
COMMENT ON COLUMN {{ schema }}.tenants.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.tenants.updated_at IS 'When the row was last changed.';
COMMENT ON TABLE {{ schema }}.tenant_logins IS 'Which login belongs to which tenant: what isolation rests on in role mode.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.login IS 'Name of the login role.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.tenant IS 'The tenant it is bound to.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.slot IS 'a or b: two logins live during a rotation.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.digest IS 'Fingerprint of the password that was handed out, to notice an edited Secret.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.verifier IS 'SCRAM verifier that the role was given, to notice a password changed by its holder.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.created_at IS 'When the row was first written.';
COMMENT ON COLUMN {{ schema }}.tenant_logins.retire_at IS 'When the login stops being honoured; NULL for the current one.';
COMMENT ON TABLE {{ schema }}.sealing_key IS 'The HMAC-SHA-256 key of capabilities and contexts, as its two pads; one row, left out of dumps.';
COMMENT ON COLUMN {{ schema }}.sealing_key.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN {{ schema }}.sealing_key.version IS 'Grows with each rotation.';
COMMENT ON COLUMN {{ schema }}.sealing_key.inner_pad IS 'Key XOR the inner pad.';
COMMENT ON COLUMN {{ schema }}.sealing_key.outer_pad IS 'Key XOR the outer pad.';
COMMENT ON COLUMN {{ schema }}.sealing_key.created_at IS 'When the key was drawn.';
COMMENT ON FUNCTION {{ schema }}.rotate_sealing_key() IS 'Draws a new sealing key; every capability and context dies.';
COMMENT ON FUNCTION {{ schema }}.current_tenant() IS 'The tenant this session or transaction acts for, or NULL: the policies ask it.';
COMMENT ON FUNCTION {{ schema }}.writing_tenant() IS 'As current_tenant, but raises when the tenant is over an enforced quota.';
COMMENT ON FUNCTION {{ schema }}.protect_table(regclass, boolean) IS 'Puts a table and its partitions under row-level security, and its columns'' statistics out of sight.';
