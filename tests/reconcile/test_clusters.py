"""StorageClusters on a real PostgreSQL: every fault by its reason, claims, drift of what all tenants share, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from storage_operator.resources.kinds import Kind
from storage_sql.runner import RunOptions, migrate_postgres
from tests.plugins.installation import Installation, drive_on
from tests.plugins.postgres import Database, url_with
from tests.reconcile.stage import CLUSTER_NAMESPACE, Stage


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Give a reconciler that has reached nothing yet, on the file's database."""
    made = Stage(installation)
    yield made
    await made.reconciler.close()


@pytest.fixture
async def fresh(fresh_installation: Installation) -> AsyncIterator[Stage]:
    """Give one on a database of its own."""
    made = Stage(fresh_installation)
    yield made
    await made.reconciler.close()


async def test_a_cluster_becomes_ready_and_wakes_who_waited(stage: Stage) -> None:
    """A tenant that came first waits with the reason, is woken, and becomes Ready by itself."""
    woken = []
    stage.reconciler.context.wake = woken.append
    tenant = stage.tenant("early")
    outcome = await stage.run(tenant)
    assert (outcome.result, stage.condition(tenant)) == ("waiting", ("Unknown", "ClusterNotReady"))
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("True", "Ready")
    assert tenant in woken
    await stage.run(tenant)
    assert stage.condition(tenant) == ("True", "Ready")
    assert (await stage.run(stage.cluster)).result == "unchanged"


def admin(stage: Stage, dsn: bytes | None, key: str = "dsn") -> None:
    """Replace the admin Secret."""
    stage.world.secrets.pop((CLUSTER_NAMESPACE, "admin"), None)
    if dsn is not None:
        stage.world.secret(CLUSTER_NAMESPACE, "admin", {key: dsn})


MALFORMED = {
    "empty": b"",
    "no conninfo": b"hello world",
    "bad escape": b"postgresql://%zz@host/db",
    "not text": b"\xff\xfe",
    "nul": b"host=x\x00y",
    "no database": b"postgresql://user@host",
    "unknown sslmode": b"postgresql://u:p@h/d?sslmode=perhaps",
    "no such port": b"postgresql://u:p@h:70000/d",
    "a port that is none": b"host=h user=u dbname=d port=abc",
    "unknown option": b"postgresql://u:p@h/d?sll=1",
    "a log of TLS keys": b"postgresql://u:p@h/d?sslkeylogfile=/tmp/keys",
    "others' passwords": b"postgresql://u:p@h/d?passfile=/root/.pgpass",
    "another connection": b"postgresql://u:p@h/d?service=other",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_connection_string_is_told_without_its_text(stage: Stage, value: bytes) -> None:
    """The condition names the fault and never repeats what may hold a password."""
    admin(stage, value)
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster, "Reachable") == ("False", "ConnectionStringInvalid")
    shown = stage.message(stage.cluster, "Reachable")
    assert not value or value.decode("utf-8", "replace") not in shown


async def test_no_part_of_a_password_with_an_at_sign_is_told(stage: Stage) -> None:
    """What follows the first @ is the host to libpq, and every message would repeat it."""
    admin(stage, b"postgresql://admin:secr@tword@127.0.0.1/db")
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster, "Reachable") == ("False", "ConnectionStringInvalid")
    assert "tword" not in str(stage.world.get(stage.cluster)) + str(stage.world.events)


async def test_a_missing_secret_and_a_missing_key(stage: Stage) -> None:
    """Each is named, and the cluster recovers when it is there."""
    admin(stage, None)
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("False", "SecretMissing")
    admin(stage, b"x", key="other")
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("False", "SecretKeyMissing")
    admin(stage, stage.installation.operator_dsn.encode())
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("True", "Ready")


def elsewhere(stage: Stage, **parts: str) -> bytes:
    """Return the admin's DSN with some parts replaced."""
    return url_with(stage.installation.operator_dsn, **parts).encode()


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        pytest.param({"port": "1"}, "Unreachable", id="refused"),
        pytest.param({"host": "no-such-host.invalid"}, "Unreachable", id="no such host"),
        pytest.param({"password": "wrong"}, "AuthenticationFailed", id="wrong password"),
        pytest.param({"user": "nobody_here"}, "AuthenticationFailed", id="no such user"),
        pytest.param({"dbname": "no_such_database"}, "DatabaseMissing", id="no such database"),
        pytest.param({"sslmode": "require"}, "TLSFailed", id="no TLS offered"),
    ],
)
async def test_an_unusable_server_is_told_by_its_reason(stage: Stage, parts: dict[str, str], reason: str) -> None:
    """Connection faults are told apart, retried soon, and show no password."""
    admin(stage, elsewhere(stage, **parts))
    outcome = await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("False", reason)
    assert outcome.result == "failed"
    assert stage.installation.operator_password not in stage.message(stage.cluster, "Reachable")


async def test_a_database_that_nobody_bootstrapped(stage: Stage, fresh_database: Database) -> None:
    """An empty database, one without the extension, and one of somebody else are three different faults."""
    with fresh_database.connect() as connection:
        admin(stage, fresh_database.dsn.encode())
        await stage.run(stage.cluster)
        assert stage.condition(stage.cluster) == ("False", "ExtensionMissing")
        connection.execute("CREATE EXTENSION vector")
        await stage.run(stage.cluster)
        assert stage.condition(stage.cluster) == ("False", "NotBootstrapped")
        connection.execute("CREATE SCHEMA llmspell; CREATE TABLE llmspell.theirs (id int)")
        await stage.run(stage.cluster)
        assert stage.condition(stage.cluster, "Reachable") == ("False", "ForeignSchema")


async def test_an_admin_role_without_rights(fresh: Stage) -> None:
    """What the operator's login lacks is listed, with the command that gives it."""
    names = fresh.installation.names
    fresh.superuser(f'REVOKE "{names.shards[3]}" FROM "{names.owner}"')
    await fresh.run(fresh.cluster)
    assert fresh.condition(fresh.cluster) == ("False", "PrivilegesMissing")
    assert "1 of the 64" in fresh.message(fresh.cluster, "Reachable")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE llmspell.schema_migrations SET checksum = repeat('0', 64) WHERE version = 3", "ChecksumChanged"),
        (
            """INSERT INTO llmspell.schema_migrations SELECT 9999, 'future', checksum, now(), 'x', 1, '9.9'
            FROM llmspell.schema_migrations LIMIT 1""",
            "DatabaseNewer",
        ),
        ("DELETE FROM llmspell.schema_migrations WHERE version = 4", "MigrationGap"),
    ],
    ids=["checksum", "newer", "gap"],
)
async def test_a_history_that_does_not_fit_stops_the_cluster(fresh: Stage, change: str, reason: str) -> None:
    """A database whose history is not this release's is left alone, and tenants wait."""
    await fresh.run(fresh.cluster)
    fresh.superuser(change)
    await fresh.run(fresh.cluster)
    assert fresh.condition(fresh.cluster, "Migrated") == ("False", reason)
    tenant = fresh.tenant("waits")
    assert (await fresh.run(tenant)).result == "waiting"


async def test_a_manual_policy_waits_for_the_command(bootstrapped_database: Installation) -> None:
    """Pending migrations are listed and not run; once somebody ran them the cluster is Ready."""
    stage = Stage(bootstrapped_database, migrations={"policy": "Manual"})
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("False", "MigrationsPending")
    drive_on(bootstrapped_database.operator_dsn, migrate_postgres("llmspell", RunOptions(release="test")))
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster) == ("True", "Ready")
    await stage.reconciler.close()


async def test_a_second_cluster_on_one_schema_is_refused(fresh: Stage) -> None:
    """The first keeps the database; the second is Duplicate, and takes over when the first is gone."""
    await fresh.run(fresh.cluster)
    spec = fresh.world.bodies[fresh.cluster]["spec"]
    second = fresh.world.put(Kind.STORAGE_CLUSTER, CLUSTER_NAMESPACE, "second", spec)
    await fresh.run(second)
    assert fresh.condition(second) == ("False", "Duplicate")
    fresh.world.delete(fresh.cluster)
    assert (await fresh.run(fresh.cluster)).result == "deleted"
    await fresh.run(second)
    assert fresh.condition(second) == ("True", "Ready")


async def test_a_claim_of_a_cluster_that_vanished_is_taken_over(fresh: Stage) -> None:
    """A cluster that was deleted while nobody could reach the database does not hold it for ever."""
    await fresh.run(fresh.cluster)
    body = fresh.world.bodies.pop(fresh.cluster)
    heir = fresh.world.put(Kind.STORAGE_CLUSTER, CLUSTER_NAMESPACE, "heir", body["spec"])
    await fresh.run(heir)
    assert fresh.condition(heir) == ("True", "Ready")


async def test_another_kubernetes_claim_is_respected(fresh: Stage) -> None:
    """A database that another cluster of machines manages is never taken, and not migrated either."""
    fresh.superuser(
        """UPDATE llmspell.installation SET claimed_by = '{"cluster": "far", "namespace": "n", "name": "m"}'"""
    )
    await fresh.run(fresh.cluster)
    assert fresh.condition(fresh.cluster) == ("False", "DatabaseClaimed")


async def test_a_probe_shows_no_capability_to_those_who_share_the_login(stage: Stage) -> None:
    """Sessions of one login see each other's statements: the operator's must not hold what opens a tenant."""
    await stage.run(stage.cluster)
    tenant = await stage.ready("looked-over", isolation="Sealed")
    query = "SELECT query FROM pg_stat_activity WHERE usename = current_user AND application_name = 'llmspell-probe'"
    seen = ""
    with psycopg.connect(stage.installation.superuser_dsn) as blocker:
        blocker.execute("LOCK TABLE llmspell.test_table IN ACCESS EXCLUSIVE MODE")
        stage.world.bodies[tenant]["status"]["lastVerifiedTime"] = "2020-01-01T00:00:00Z"
        probing = asyncio.create_task(stage.run(tenant))
        with psycopg.connect(stage.dsn(tenant), autocommit=True) as neighbour:
            while "$probe$" not in seen and not probing.done():
                await asyncio.sleep(0.05)
                seen += "".join(text for (text,) in neighbour.execute(query).fetchall())
        blocker.rollback()
        await probing
    assert "$probe$" in seen
    assert stage.secret(tenant)["capability"].decode() not in seen


async def test_what_one_holder_of_the_shared_login_does_to_it_is_undone(stage: Stage) -> None:
    """A role may change its own password and settings; here that would lock every sealed tenant out."""
    await stage.run(stage.cluster)
    tenant = await stage.ready("sealed-one", isolation="Sealed")
    with psycopg.connect(stage.dsn(tenant), autocommit=True) as session:
        database = stage.installation.database.name
        session.execute("ALTER ROLE CURRENT_USER SET statement_timeout = '1ms'")
        session.execute(f'ALTER ROLE CURRENT_USER IN DATABASE "{database}" SET default_transaction_read_only = on')
        session.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    await stage.run(stage.cluster)
    with psycopg.connect(stage.dsn(tenant), autocommit=True) as session:
        shown = [session.execute(f"SHOW {name}").fetchone() for name in ("statement_timeout", "transaction_read_only")]
    assert shown == [("0",), ("off",)]


async def test_a_claim_of_a_cluster_in_an_unwatched_namespace_is_respected(fresh: Stage) -> None:
    """What this operator does not watch may be another operator's: only what is really gone is taken over."""
    await fresh.run(fresh.cluster)
    spec = fresh.world.bodies.pop(fresh.cluster)["spec"]
    fresh.world.unwatched.add(fresh.cluster)
    second = fresh.world.put(Kind.STORAGE_CLUSTER, CLUSTER_NAMESPACE, "second", spec)
    await fresh.run(second)
    assert fresh.condition(second) == ("False", "Duplicate")


async def test_whom_a_cluster_does_not_let_in_does_not_hold_it(fresh_installation: Installation) -> None:
    """A name in somebody else's Tenant or StorageComponent blocks no deletion; a tenant let in before still does."""
    stage = Stage(fresh_installation)
    await stage.run(stage.cluster)
    former = await stage.ready("former")
    policy = {"allowedNamespaces": [{"from": "Same"}]}
    stage.world.bodies[stage.cluster]["spec"]["tenancy"] = policy
    await stage.run(stage.cluster)
    stage.tenant("stranger", namespace="elsewhere")
    reference = {"name": "main", "namespace": CLUSTER_NAMESPACE}
    stage.world.put(Kind.STORAGE_COMPONENT, "elsewhere", "kv", {"clusterRef": reference, "store": "KV"})
    stage.world.delete(stage.cluster)
    assert (await stage.run(stage.cluster)).result == "waiting"
    assert "1 Tenants still use it: team/former" in stage.message(stage.cluster, "DeletionBlocked")
    stage.world.delete(former)
    await stage.run(former)
    assert (await stage.run(stage.cluster)).result == "deleted"
    await stage.reconciler.close()


async def test_a_cluster_with_tenants_is_not_deleted(stage: Stage) -> None:
    """Its deletion is blocked with the names, until the tenants are gone."""
    await stage.run(stage.cluster)
    tenant = await stage.ready("holding")
    stage.world.delete(stage.cluster)
    assert (await stage.run(stage.cluster)).result == "waiting"
    assert stage.condition(stage.cluster, "DeletionBlocked") == ("True", "TenantsExist")
    assert "team/holding" in stage.message(stage.cluster, "DeletionBlocked")
    stage.world.delete(tenant)
    await stage.run(tenant)
    assert (await stage.run(stage.cluster)).result == "deleted"


async def test_a_new_process_finishes_a_deletion_of_everything(stage: Stage) -> None:
    """Cluster and tenant are both being deleted when the operator starts: neither waits for the other for ever."""
    await stage.run(stage.cluster)
    tenant = await stage.ready("stuck", deletionPolicy="Delete")
    stage.world.delete(stage.cluster)
    stage.world.delete(tenant)
    await stage.reconciler.context.fleet.forget(stage.cluster)
    assert (await stage.run(tenant)).result == "failed"
    await stage.run(stage.cluster)
    assert (await stage.run(tenant)).result == "deleted"
    assert (await stage.run(stage.cluster)).result == "deleted"


CLUSTER_DRIFTS = {
    "policy dropped": "DROP POLICY tenant_isolation_select ON llmspell.kv_store",
    "policy altered": "ALTER POLICY tenant_isolation_select ON llmspell.kv_store USING (true)",
    "policy added": "CREATE POLICY open ON llmspell.sessions USING (true)",
    "policy of a leaf": "DROP POLICY tenant_isolation_select ON llmspell.vector_embeddings_384_p03",
    "not forced": "ALTER TABLE llmspell.kv_store NO FORCE ROW LEVEL SECURITY",
    "not enabled": "ALTER TABLE llmspell.event_log DISABLE ROW LEVEL SECURITY",
    "grant to a set": 'GRANT TRUNCATE ON llmspell.kv_store TO "{set}"',
    "grant of a sequence": 'CREATE SEQUENCE llmspell.loose; ALTER SEQUENCE llmspell.loose OWNER TO "{owner}"; GRANT USAGE ON SEQUENCE llmspell.loose TO "{set}"',
    "grant lost": 'REVOKE SELECT ON llmspell.kv_store FROM "{set}"',
    "statistics": "ALTER TABLE llmspell.kv_store ALTER COLUMN key SET STATISTICS 100; ANALYZE llmspell.kv_store",
    "statistics left": "INSERT INTO llmspell.sessions (tenant_id, session_id, session_data) VALUES ('witness', 's', '{{}}') ON CONFLICT DO NOTHING; ALTER TABLE llmspell.sessions ALTER COLUMN status SET STATISTICS 100; ANALYZE llmspell.sessions; ALTER TABLE llmspell.sessions ALTER COLUMN status SET STATISTICS 0",
    "statistics object": "CREATE STATISTICS llmspell.together ON key, value FROM llmspell.kv_store",
    "default privileges": 'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA llmspell GRANT SELECT ON TABLES TO "{set}"',
    "default privileges of maintenance": 'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}_maintenance" GRANT EXECUTE ON FUNCTIONS TO PUBLIC',
    "default privileges of a set": 'ALTER DEFAULT PRIVILEGES FOR ROLE "{set}" GRANT ALL ON TABLES TO "{owner}", PUBLIC',
    "default privileges of a login": 'ALTER DEFAULT PRIVILEGES FOR ROLE "{login}" GRANT SELECT ON TABLES TO "{set}" WITH GRANT OPTION',
    "shared login": 'GRANT TRUNCATE ON llmspell.kv_store TO "{app}"',
}


@pytest.mark.parametrize("statement", CLUSTER_DRIFTS.values(), ids=CLUSTER_DRIFTS)
async def test_drift_of_what_tenants_share_is_repaired(stage: Stage, statement: str) -> None:
    """Policies, FORCE and grants come back with the cluster's next reconcile, and the audit finds nothing."""
    await stage.run(stage.cluster)
    await stage.ready("witness", components=["KV"])
    names = stage.installation.names
    given = {"set": names.store_set(["kv"]), "app": names.app, "owner": names.owner, "login": stage.login("witness")}
    stage.superuser(statement.format(**given))
    await stage.run(stage.cluster)
    try:
        assert stage.condition(stage.cluster, "ContractHolds") == ("True", "NoViolations")
        assert not await stage.tended.sets.drift()
    finally:
        stage.superuser("DROP SEQUENCE IF EXISTS llmspell.loose")


@pytest.mark.parametrize("statement", list(CLUSTER_DRIFTS.values())[:6:2])
async def test_drift_of_what_tenants_share_is_reported_under_report(
    fresh_installation: Installation, statement: str
) -> None:
    """Under Report the cluster is not Ready and says why, and nothing is changed."""
    stage = Stage(fresh_installation, drift={"policy": "Report"})
    await stage.run(stage.cluster)
    stage.superuser(statement)
    await stage.run(stage.cluster)
    assert stage.condition(stage.cluster, "ContractHolds") == ("False", "ContractViolated")
    await stage.reconciler.close()


async def test_a_foreign_table_in_the_schema_is_named_and_left_alone(fresh: Stage) -> None:
    """Somebody else's table is a violation that names it; ours are repaired all the same."""
    await fresh.run(fresh.cluster)
    fresh.superuser("CREATE TABLE llmspell.theirs (tenant_id text, x int)")
    fresh.superuser("ALTER TABLE llmspell.kv_store NO FORCE ROW LEVEL SECURITY")
    await fresh.run(fresh.cluster)
    assert fresh.condition(fresh.cluster) == ("False", "ContractViolated")
    assert "theirs" in fresh.message(fresh.cluster, "ContractHolds")
    forced = fresh.superuser(
        "SELECT relforcerowsecurity FROM pg_class WHERE relname IN ('kv_store', 'theirs') ORDER BY relname"
    )
    assert forced == [(True,), (False,)]
