"""The audit names every breach of the contract, and nothing else."""

from __future__ import annotations

import pytest

from storage_sql.audit import Violation, audit, audit_sql
from tests.plugins.installation import Installation
from tests.plugins.tenants import ALL_STORES, connect, make_tenant

# Each breach is SQL run by the superuser, as (statements, kind, object), with the names of the roles in braces.
BREACHES: dict[str, tuple[str, str, str]] = {
    "disabled": ("ALTER TABLE llmspell.kv_store DISABLE ROW LEVEL SECURITY", "RowSecurityDisabled", "kv_store"),
    "not-forced": ("ALTER TABLE llmspell.kv_store NO FORCE ROW LEVEL SECURITY", "RowSecurityNotForced", "kv_store"),
    "leaf-disabled": (
        "ALTER TABLE llmspell.vector_embeddings_384_p07 DISABLE ROW LEVEL SECURITY",
        "RowSecurityDisabled",
        "vector_embeddings_384_p07",
    ),
    "new-table": (
        'CREATE TABLE llmspell.stray (tenant_id text COLLATE "C" NOT NULL); ALTER TABLE llmspell.stray OWNER TO {owner}',
        "RowSecurityDisabled",
        "stray",
    ),
    "policy-dropped": (
        "DROP POLICY tenant_isolation_delete ON llmspell.sessions",
        "PolicyMissing",
        "sessions",
    ),
    "policy-altered": (
        "ALTER POLICY tenant_isolation_select ON llmspell.sessions USING (true)",
        "PolicyAltered",
        "sessions",
    ),
    "policy-by-setting": (
        "ALTER POLICY tenant_isolation_select ON llmspell.sessions USING (tenant_id = current_setting('app.tenant'))",
        "PolicyAltered",
        "sessions",
    ),
    "policy-check-loosened": (
        (
            "ALTER POLICY tenant_isolation_insert ON llmspell.sessions"
            " WITH CHECK (tenant_id = (SELECT llmspell.current_tenant()))"
        ),
        "PolicyAltered",
        "sessions",
    ),
    "policy-roles": (
        "ALTER POLICY maintenance_all ON llmspell.sessions TO PUBLIC",
        "PolicyAltered",
        "sessions",
    ),
    "policy-added": (
        "CREATE POLICY backdoor ON llmspell.sessions USING (true)",
        "PolicyForeign",
        "sessions",
    ),
    "append-only-policy": (
        "ALTER POLICY tenant_isolation_update ON llmspell.event_log TO PUBLIC",
        "PolicyAltered",
        "event_log",
    ),
    "child-granted": (
        "GRANT SELECT ON llmspell.vector_embeddings_384_p00 TO {set}",
        "ChildGranted",
        "vector_embeddings_384_p00",
    ),
    "control-granted": ("GRANT SELECT ON llmspell.sealing_key TO {set}", "ControlTableGranted", "sealing_key"),
    "column-granted": ("GRANT SELECT (version) ON llmspell.sealing_key TO {set}", "ControlTableGranted", "sealing_key"),
    "truncate": ("GRANT TRUNCATE ON llmspell.kv_store TO {set}", "PrivilegeTooStrong", "kv_store"),
    "public": ("GRANT SELECT ON llmspell.kv_store TO PUBLIC", "GrantedToPublic", "kv_store"),
    "append-only-update": ("GRANT UPDATE ON llmspell.event_log TO {set}", "AppendOnlyGranted", "event_log"),
    "append-only-delete": ("GRANT DELETE ON llmspell.hook_history TO {set}", "AppendOnlyGranted", "hook_history"),
    "sequence": (
        (
            "CREATE SEQUENCE llmspell.shared OWNED BY NONE; ALTER SEQUENCE llmspell.shared OWNER TO {owner};"
            " GRANT USAGE ON SEQUENCE llmspell.shared TO {set}"
        ),
        "SequenceGranted",
        "shared",
    ),
    "key": ("CREATE UNIQUE INDEX by_value ON llmspell.test_table (value)", "KeyWithoutTenant", "test_table"),
    "key-second": (
        "CREATE UNIQUE INDEX by_value ON llmspell.test_table (value, tenant_id)",
        "KeyWithoutTenant",
        "test_table",
    ),
    "key-comment-lost": (
        "COMMENT ON INDEX llmspell.api_keys_hash IS 'fast'",
        "KeyWithoutTenant",
        "api_keys",
    ),
    "foreign-key": (
        (
            "CREATE UNIQUE INDEX by_store ON llmspell.components (store, enabled); ALTER TABLE llmspell.kv_store"
            " ADD FOREIGN KEY (key) REFERENCES llmspell.components (store) NOT VALID"
        ),
        "ForeignKeyWithoutTenant",
        "kv_store",
    ),
    "collation": (
        (
            "CREATE TABLE llmspell.loose (tenant_id text NOT NULL); ALTER TABLE llmspell.loose OWNER TO {owner};"
            " SELECT llmspell.protect_table('llmspell.loose')"
        ),
        "TenantColumnLoose",
        "loose",
    ),
    "view": (
        "CREATE VIEW llmspell.every AS SELECT * FROM llmspell.kv_store; ALTER VIEW llmspell.every OWNER TO {owner}",
        "ViewNotInvoker",
        "every",
    ),
    "materialized": (
        (
            "CREATE MATERIALIZED VIEW llmspell.copy AS SELECT * FROM llmspell.kv_store;"
            " ALTER MATERIALIZED VIEW llmspell.copy OWNER TO {owner}"
        ),
        "UnprotectableRelation",
        "copy",
    ),
    "table-owner": ("ALTER TABLE llmspell.kv_store OWNER TO {superuser}", "RelationOwner", "kv_store"),
    "schema-owner": ("ALTER SCHEMA llmspell OWNER TO {superuser}", "SchemaOwner", "llmspell"),
    "schema-create": ("GRANT CREATE ON SCHEMA llmspell TO {set}", "SchemaWritable", "llmspell"),
    "public-create": ("GRANT CREATE ON SCHEMA public TO PUBLIC", "SchemaWritable", "public"),
    "path": (
        "ALTER FUNCTION llmspell.current_tenant() RESET search_path",
        "FunctionPathNotPinned",
        "current_tenant()",
    ),
    "path-writable": (
        "ALTER FUNCTION llmspell.current_tenant() SET search_path = pg_catalog, public",
        "FunctionPathNotPinned",
        "current_tenant()",
    ),
    "function-owner": (
        "ALTER FUNCTION llmspell.current_tenant() OWNER TO {superuser}",
        "FunctionOwner",
        "current_tenant()",
    ),
    "function-public": (
        "GRANT EXECUTE ON FUNCTION llmspell.current_tenant() TO PUBLIC",
        "FunctionPublic",
        "current_tenant()",
    ),
    "function-owner-only": (
        "GRANT EXECUTE ON FUNCTION llmspell.capability(text, integer) TO {set}",
        "FunctionOwnerOnly",
        "capability(tenant text, version integer)",
    ),
    "volatility": ("ALTER FUNCTION llmspell.writing_tenant() VOLATILE", "FunctionMarks", "writing_tenant()"),
    "parallel": ("ALTER FUNCTION llmspell.current_tenant() PARALLEL SAFE", "FunctionMarks", "current_tenant()"),
    "invoker": ("ALTER FUNCTION llmspell.current_tenant() SECURITY INVOKER", "FunctionMarks", "current_tenant()"),
    "bypassrls": ("ALTER ROLE {login} BYPASSRLS", "RoleTooStrong", "{login}"),
    "superuser": ("ALTER ROLE {login} SUPERUSER", "RoleTooStrong", "{login}"),
    "createrole": ("ALTER ROLE {set} CREATEROLE", "RoleTooStrong", "{set}"),
    "maintenance-member": (
        "CREATE ROLE {owner}_stranger; GRANT {maintenance} TO {owner}_stranger",
        "ForeignMaintenanceMember",
        "{owner}_stranger",
    ),
    "maintenance-by-steps": (
        (
            "CREATE ROLE {owner}_step; CREATE ROLE {owner}_stranger; GRANT {maintenance} TO {owner}_step;"
            " GRANT {owner}_step TO {owner}_stranger"
        ),
        "ForeignMaintenanceMember",
        "{owner}_stranger",
    ),
    "owner-member": (
        "CREATE ROLE {owner}_stranger; GRANT {owner} TO {owner}_stranger WITH INHERIT FALSE, SET TRUE",
        "ForeignOwnerMember",
        "{owner}_stranger",
    ),
    "predefined": ("GRANT pg_read_all_data TO {set}", "PredefinedRole", "{set}"),
    "statistics": (
        "ALTER TABLE llmspell.sessions ALTER COLUMN status SET STATISTICS 100",
        "StatisticsKept",
        "sessions",
    ),
    "statistics-of-a-leaf": (
        "ALTER TABLE llmspell.vector_embeddings_384_p05 ALTER COLUMN id SET STATISTICS -1",
        "StatisticsKept",
        "vector_embeddings_384_p05",
    ),
    "statistics-of-an-index": (
        "CREATE INDEX by_length ON llmspell.kv_store (tenant_id, length(key))",
        "StatisticsKept",
        "kv_store",
    ),
    "statistics-gathered": (
        (
            "INSERT INTO llmspell.test_table (tenant_id, value) VALUES ('acme', 'x');"
            " ALTER TABLE llmspell.test_table ALTER COLUMN value SET STATISTICS 10; ANALYZE llmspell.test_table;"
            " ALTER TABLE llmspell.test_table ALTER COLUMN value SET STATISTICS 0"
        ),
        "StatisticsKept",
        "test_table",
    ),
    "statistics-object": (
        "CREATE STATISTICS public.together ON key, value FROM llmspell.kv_store",
        "StatisticsForeign",
        "kv_store",
    ),
    "statistics-object-of-ours": (
        "CREATE STATISTICS llmspell.together ON key, value FROM llmspell.kv_store",
        "StatisticsKept",
        "kv_store",
    ),
    "default-privileges": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA llmspell GRANT SELECT ON TABLES TO {set}",
        "DefaultPrivileges",
        "{owner}",
    ),
    "default-privileges-of-a-login": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {login} GRANT SELECT ON TABLES TO {set}",
        "DefaultPrivileges",
        "{login}",
    ),
    "default-privileges-of-a-superuser": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {superuser} IN SCHEMA llmspell GRANT SELECT ON TABLES TO PUBLIC",
        "DefaultPrivileges",
        "{superuser}",
    ),
    "default-privileges-lost": (
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        "DefaultPrivileges",
        "{owner}",
    ),
    "pooler-two": (
        (
            "CREATE ROLE {owner}_one LOGIN; CREATE ROLE {owner}_two LOGIN;"
            " GRANT EXECUTE ON FUNCTION llmspell.pooler_login(text) TO {owner}_one, {owner}_two"
        ),
        "FunctionOwnerOnly",
        "pooler_login(login_name text)",
    ),
    "pooler-tenant": (
        "GRANT EXECUTE ON FUNCTION llmspell.pooler_login(text) TO {login}",
        "FunctionOwnerOnly",
        "pooler_login(login_name text)",
    ),
    "pooler-members": (
        (
            "CREATE ROLE {owner}_one LOGIN; GRANT {owner}_one TO {login};"
            " GRANT EXECUTE ON FUNCTION llmspell.pooler_login(text) TO {owner}_one"
        ),
        "FunctionOwnerOnly",
        "pooler_login(login_name text)",
    ),
    "database-connect": ("GRANT CONNECT ON DATABASE {database} TO PUBLIC", "DatabaseOpen", "{database}"),
    "large-objects": ("GRANT EXECUTE ON FUNCTION pg_catalog.lo_get(oid) TO PUBLIC", "LargeObjectsOpen", "lo_get(oid)"),
    "trigger": (
        (
            "CREATE TRIGGER spy AFTER INSERT ON llmspell.kv_store FOR EACH ROW"
            " EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "TriggerForeign",
        "kv_store",
    ),
}


@pytest.fixture(scope="module")
def names(installation: Installation) -> dict[str, str]:
    """Give the names that the breaches use; one tenant exists, so roles and grants are there to breach."""
    make_tenant(installation, "acme")
    with installation.database.connect() as connection:
        row = connection.execute("SELECT session_user").fetchone()
    assert row is not None
    roles = installation.names
    return {
        "owner": roles.owner,
        "maintenance": roles.maintenance,
        "set": roles.store_set(ALL_STORES),
        "login": roles.tenant_login("acme", "a"),
        "database": installation.database.name,
        "superuser": row[0],
    }


def test_fresh_installation_has_no_violation(installation: Installation, names: dict[str, str]) -> None:
    """A migrated database with a tenant holds the contract, whoever asks."""
    for dsn in (installation.operator_dsn, installation.superuser_dsn):
        with connect(dsn) as connection:
            connection.execute("SET search_path = pg_catalog, pg_temp")
            assert connection.execute(audit_sql("llmspell", installation.names).encode()).fetchall() == []


@pytest.mark.parametrize("breach", BREACHES)
def test_breach_is_named(installation: Installation, names: dict[str, str], breach: str) -> None:
    """One change by hand gives at least one row of its kind on its object; undone, none is left."""
    statements, kind, target = BREACHES[breach]
    with installation.database.connect() as connection:
        connection.execute("SET search_path = pg_catalog, pg_temp")
        connection.execute("BEGIN")
        connection.execute(statements.format(**names).encode())
        rows = connection.execute(audit_sql("llmspell", installation.names).encode()).fetchall()
        connection.execute("ROLLBACK")
    found = {(violation.kind, violation.object) for violation in (Violation(*row) for row in rows)}
    assert (kind, target.format(**names)) in found


def test_one_pooler_may_ask(installation: Installation, names: dict[str, str]) -> None:
    """The documented grant to one pooler's login is no breach."""
    with installation.database.connect() as connection:
        connection.execute("SET search_path = pg_catalog, pg_temp; BEGIN")
        connection.execute(
            "CREATE ROLE {owner}_one LOGIN; GRANT USAGE ON SCHEMA llmspell TO {owner}_one;"
            " GRANT EXECUTE ON FUNCTION llmspell.pooler_login(text) TO {owner}_one".format(**names).encode()
        )
        assert connection.execute(audit_sql("llmspell", installation.names).encode()).fetchall() == []
        connection.execute("ROLLBACK")


def test_missing_schema_is_a_violation(installation: Installation) -> None:
    """An audit of nothing is no clean audit."""
    with installation.database.connect() as connection:
        rows = connection.execute(audit_sql("absent", installation.names).encode()).fetchall()
    assert ("SchemaMissing", "absent") in {row[:2] for row in rows}


def test_audit_is_one_query_as_a_procedure(installation: Installation) -> None:
    """The procedure pins the path and asks once."""
    procedure = audit("llmspell", installation.names)
    next(procedure)
    procedure.send([])
    with pytest.raises(StopIteration) as stop:
        procedure.send([("Kind", "thing", "why")])
    assert stop.value.value == (Violation("Kind", "thing", "why"),)
    assert str(stop.value.value[0]) == "Kind thing: why"
