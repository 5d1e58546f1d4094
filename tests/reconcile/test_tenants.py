"""Tenants on a real PostgreSQL: what is provisioned, rotated, bent and put back, taken away, and refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import pytest

from storage_operator.resources.kinds import Kind
from storage_sql.stores import privileges
from tests.plugins.installation import Installation
from tests.plugins.postgres import database_on, url_with
from tests.reconcile.stage import Stage, opens, staged


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Give a connected reconciler on the file's database."""
    async with staged(installation) as made:
        yield made


@pytest.fixture
async def reporting(installation: Installation) -> AsyncIterator[Stage]:
    """Give one whose drift policy is Report."""
    async with staged(installation, drift={"policy": "Report"}) as made:
        yield made


async def test_the_secrets_dsn_opens_the_tenants_own_rows(stage: Stage) -> None:
    """What the application reads from its Secret logs in and is bound to its tenant."""
    key = await stage.ready("journey")
    assert opens(stage.dsn(key), "journey")
    assert stage.secret(key)["mode"] == b"role"


async def test_grants_are_exactly_those_of_the_stores(stage: Stage) -> None:
    """A tenant of two stores holds their privileges and not one more."""
    await stage.ready("granted", components=["KV", "Events"])
    role = stage.installation.names.store_set(["events", "kv"])
    tables = [
        str(row[0])
        for row in stage.superuser(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'llmspell'::regnamespace "
            "AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
    ]
    wanted = {(each.name.partition("(")[0], each.privilege) for each in privileges(("events", "kv"), tables)}
    held = stage.superuser(
        "SELECT c.relname, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a WHERE a.grantee = %s::regrole "
        "UNION SELECT p.proname, a.privilege_type FROM pg_proc p, aclexplode(p.proacl) a WHERE a.grantee = %s::regrole",
        (role, role),
    )
    assert set(held) == wanted


async def test_an_unchanged_tenant_costs_two_round_trips_at_most(stage: Stage) -> None:
    """Nothing changed: one look at the database, no statement besides."""
    key = await stage.ready("cheap")
    meter = stage.tended.server.meter
    before = meter.round_trips, meter.retries
    assert (await stage.run(key)).result == "unchanged"
    assert meter.round_trips - before[0] <= 2 + meter.retries - before[1]


async def test_quotas_arrive_at_the_login_and_in_the_control_row(stage: Stage) -> None:
    """Limits that a manifest declares are the login's, and shrinking them applies at once."""
    quotas = {"connections": 2, "statementTimeout": "30s", "lockTimeout": "2s", "workMem": "16Mi", "storage": "1Gi"}
    key = await stage.ready("limited", quotas=quotas)
    with psycopg.connect(stage.dsn(key)) as one, psycopg.connect(stage.dsn(key)):
        shown = [
            one.execute(f"SHOW {name}").fetchone()[0] for name in ("statement_timeout", "lock_timeout", "work_mem")
        ]
        assert shown == ["30s", "2s", "16MB"]
        assert not opens(stage.dsn(key))
    stage.tenant("limited", quotas={"connections": 9})
    await stage.run(key)
    assert stage.superuser("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (stage.login("limited"),)) == [(9,)]
    assert (await stage.run(key)).result == "unchanged"


async def test_rotation_keeps_both_logins_for_the_overlap(stage: Stage) -> None:
    """After a rotation old and new credentials work; after the overlap the old one is refused and its role is gone."""
    rotation = {"overlap": "1h"}
    key = await stage.ready("rotated", credentials={"rotation": rotation})
    old = stage.dsn(key)
    stage.tenant("rotated", credentials={"rotation": rotation}, rotate="1")
    outcome = await stage.run(key)
    assert [opens(old, "rotated"), opens(stage.dsn(key), "rotated"), old != stage.dsn(key)] == [True] * 3
    assert outcome.requeue_after is not None
    assert 3000 < outcome.requeue_after <= 3600
    session = psycopg.connect(old, autocommit=True)
    # An hour passes.
    stage.superuser("UPDATE llmspell.tenant_logins SET retire_at = retire_at - interval '1h' WHERE tenant = 'rotated'")
    await stage.run(key)
    assert [opens(old), opens(stage.dsn(key), "rotated")] == [False, True]
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert (await stage.run(key)).result == "unchanged"


async def test_an_answered_request_is_not_answered_twice(stage: Stage) -> None:
    """When the status is lost after the Secret was written, the same request does not rotate again."""
    key = await stage.ready("asked")
    before = dict(stage.world.bodies[key]["status"])
    stage.tenant("asked", rotate="1")
    await stage.run(key)
    rotated = stage.dsn(key)
    stage.world.bodies[key]["status"] = before
    await stage.run(key)
    assert stage.dsn(key) == rotated


async def test_suspension_ends_sessions_and_resuming_gives_them_back(stage: Stage) -> None:
    """A suspended tenant's session dies and no other begins, until it is resumed with the same credential."""
    key = await stage.ready("paused")
    session = psycopg.connect(stage.dsn(key), autocommit=True)
    stage.tenant("paused", suspended=True)
    await stage.run(key)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert (opens(stage.dsn(key)), stage.condition(key)) == (False, ("False", "Suspended"))
    await stage.ready("paused")
    assert opens(stage.dsn(key), "paused")


async def test_sessions_that_outlived_an_interrupted_suspension_are_ended(stage: Stage) -> None:
    """The suspended row is there, the session too: the next run ends it."""
    key = await stage.ready("halfway")
    session = psycopg.connect(stage.dsn(key), autocommit=True)
    stage.superuser("UPDATE llmspell.tenants SET suspended = true WHERE tenant = 'halfway'")
    stage.superuser(f'ALTER ROLE "{stage.login("halfway")}" NOLOGIN')
    stage.tenant("halfway", suspended=True)
    await stage.run(key)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


DRIFTS = {
    "attributes": 'ALTER ROLE "{login}" CREATEDB',
    "no login": 'ALTER ROLE "{login}" NOLOGIN',
    "no inherit": 'ALTER ROLE "{login}" NOINHERIT',
    "connection limit": 'ALTER ROLE "{login}" CONNECTION LIMIT 3',
    "expiry": "ALTER ROLE \"{login}\" VALID UNTIL '2020-01-01'",
    "setting": "ALTER ROLE \"{login}\" SET statement_timeout = '1h'",
    "setting of the database": 'ALTER ROLE "{login}" IN DATABASE "{database}" SET work_mem = \'1GB\'',
    "settings reset": 'ALTER ROLE "{login}" RESET ALL',
    "membership": 'REVOKE "{set}" FROM "{login}" GRANTED BY "{shard}"',
    "grant on a table": 'GRANT SELECT ON llmspell.kv_store TO "{login}"',
    "grant of a column": 'GRANT UPDATE (value) ON llmspell.kv_store TO "{login}"',
    "grant on the schema": 'GRANT CREATE ON SCHEMA llmspell TO "{login}"',
    "binding": "DELETE FROM llmspell.tenant_logins WHERE login = '{login}'",
}


def bend(stage: Stage, tenant: str, statement: str) -> None:
    """Change something behind the operator's back."""
    names = stage.installation.names
    parts = {"login": stage.login(tenant), "database": stage.installation.database.name, "owner": names.owner}
    parts["shard"] = names.shard(tenant)
    stage.superuser(statement.format(**parts, set=names.store_set_bucket(["graph"], tenant)))


@pytest.mark.parametrize("statement", DRIFTS.values(), ids=DRIFTS)
async def test_drift_is_found_and_repaired(stage: Stage, statement: str) -> None:
    """Whatever was bent is straight after one run, and the run after that has nothing to do."""
    name = f"bent-{list(DRIFTS.values()).index(statement)}"
    key = await stage.ready(name, components=["Graph"])
    bend(stage, name, statement)
    assert (await stage.run(key)).result == "changed"
    assert (await stage.run(key)).result == "unchanged"
    assert (stage.condition(key), opens(stage.dsn(key), name)) == (("True", "Ready"), True)


@pytest.mark.parametrize("statement", DRIFTS.values(), ids=DRIFTS)
async def test_drift_is_only_reported_under_report(reporting: Stage, statement: str) -> None:
    """Under Report the status names the drift and the database stays as somebody made it."""
    name = f"seen-{list(DRIFTS.values()).index(statement)}"
    key = await reporting.ready(name, components=["Graph"])
    bend(reporting, name, statement)
    assert (await reporting.run(key)).result == "unchanged"
    assert reporting.condition(key, "Provisioned") == ("False", "DriftFound")
    assert reporting.message(key, "Provisioned")


@pytest.mark.parametrize(
    ("give", "take"),
    [
        ('GRANT pg_monitor TO "{login}"', 'REVOKE pg_monitor FROM "{login}"'),
        (
            'GRANT TEMPORARY ON DATABASE "{database}" TO "{login}"',
            'REVOKE TEMPORARY ON DATABASE "{database}" FROM "{login}"',
        ),
    ],
    ids=["membership", "database"],
)
async def test_what_only_a_superuser_may_take_away_is_told(stage: Stage, give: str, take: str) -> None:
    """What a superuser gave stays, the rest of the plan holds, and the status says who can undo it."""
    key = await stage.ready("favoured", quotas={"connections": 3})
    bend(stage, "favoured", give)
    stage.tenant("favoured", quotas={"connections": 5})
    await stage.run(key)
    assert stage.condition(key, "Provisioned") == ("False", "ProvisionFailed")
    assert "superuser" in stage.message(key, "Provisioned")
    login = stage.login("favoured")
    assert stage.superuser("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (login,)) == [(5,)]
    bend(stage, "favoured", take)
    await stage.run(key)
    assert stage.condition(key) == ("True", "Ready")


async def test_a_changed_password_is_put_back(stage: Stage) -> None:
    """A tenant that changed its own password finds the Secret right again at the next proof."""
    key = await stage.ready("vain")
    dsn = stage.dsn(key)
    stage.superuser(f"ALTER ROLE \"{stage.login('vain')}\" PASSWORD 'my own'")
    stage.world.bodies[key]["status"].pop("lastVerifiedTime")
    await stage.run(key)
    assert (stage.dsn(key), opens(dsn, "vain"), stage.condition(key)) == (dsn, True, ("True", "Ready"))


async def test_a_changed_password_is_reported_under_report(reporting: Stage) -> None:
    """Under Report the tenant's own password stays, and the status says what the Secret is worth."""
    key = await reporting.ready("vain-seen")
    reporting.superuser(f"ALTER ROLE \"{reporting.login('vain-seen')}\" PASSWORD 'my own'")
    reporting.world.bodies[key]["status"].pop("lastVerifiedTime")
    assert (await reporting.run(key)).result == "unchanged"
    assert reporting.condition(key) == ("False", "DriftFound")
    assert "password" in reporting.message(key, "Provisioned")


@pytest.mark.parametrize("change", ["deleted", "password", "host"])
async def test_a_deleted_or_edited_secret_is_put_right(stage: Stage, change: str) -> None:
    """The Secret is written again and works; only a lost or edited credential costs a rotation."""
    name = f"secret-{change}"
    key = await stage.ready(name)
    place, old = (key.namespace, f"{name}-storage"), stage.dsn(key)
    if change == "deleted":
        del stage.world.secrets[place]
    else:
        found = stage.world.secrets[place]
        stage.world.secret(*place, {**found.data, change: b"edited"}, found.owner_uid)
    await stage.run(key)
    assert opens(stage.dsn(key), name)
    assert (stage.dsn(key) == old) is (change == "host")
    assert opens(old, name)


async def test_a_foreign_secret_is_left_alone(stage: Stage) -> None:
    """A Secret of the wanted name that is not the Tenant's stays, and the status says so, before and after a run."""
    stage.world.secret("team", "blocked-storage", {"theirs": b"1"})
    key = stage.tenant("blocked")
    for _ in range(2):
        await stage.run(key)
        assert stage.condition(key, "Provisioned") == ("False", "ForeignSecret")
    assert stage.secret(key) == {"theirs": b"1"}
    del stage.world.secrets["team", "blocked-storage"]
    await stage.ready("blocked")
    assert stage.superuser("SELECT count(*) FROM llmspell.tenant_logins WHERE tenant = 'blocked'") == [(1,)]


async def test_a_renamed_secret_replaces_the_former(stage: Stage) -> None:
    """A new name is written, the former Secret goes, and its credential lives for the overlap."""
    key = await stage.ready("renamed")
    old = stage.dsn(key)
    await stage.ready("renamed", credentials={"secretName": "other"})
    assert ("team", "renamed-storage") not in stage.world.secrets
    assert [opens(old, "renamed"), opens(stage.secret(key, "other")["dsn"].decode(), "renamed")] == [True, True]


async def test_report_still_delivers_the_first_secret_after_a_crash(reporting: Stage) -> None:
    """Under Report a tenant whose Secret was never written is not drift: it becomes Ready."""
    key = reporting.tenant("unlucky")

    def crash(what: str) -> None:
        if what == "write_secret":
            raise KeyboardInterrupt

    reporting.world.before = crash
    with pytest.raises(KeyboardInterrupt):
        await reporting.run(key)
    reporting.world.before = lambda _what: None
    reporting.reconciler.context.fleet.get(reporting.cluster).pending.clear()
    await reporting.run(key)
    assert (reporting.condition(key), opens(reporting.dsn(key), "unlucky")) == (("True", "Ready"), True)
    rows = reporting.superuser("SELECT count(*) FROM llmspell.tenant_logins WHERE tenant = 'unlucky'")
    assert rows == [(1,)]


async def test_a_sealed_tenant_enters_with_two_capabilities_during_a_rotation(stage: Stage) -> None:
    """Old and new capability enter during the overlap; a switch to role shuts both."""
    await stage.tended.ensure_app()
    key = await stage.ready("sealed-one", isolation="Sealed")
    old = stage.secret(key)["capability"].decode()
    stage.tenant("sealed-one", isolation="Sealed", rotate="1")
    await stage.run(key)
    new, dsn = stage.secret(key)["capability"].decode(), stage.dsn(key)
    assert [enters(dsn, "sealed-one", each) for each in (old, new)] == [True, True]
    assert not enters(dsn, "vain", new)
    await stage.ready("sealed-one")
    assert [enters(dsn, "sealed-one", each) for each in (old, new)] == [False, False]
    assert opens(stage.dsn(key), "sealed-one")
    await stage.ready("sealed-one", isolation="Sealed")
    assert (await stage.run(key)).result == "unchanged"


async def test_a_capability_does_not_survive_its_tenant(stage: Stage) -> None:
    """Who had a tenant id before, and lost it with its rows, does not enter its next owner's."""
    await stage.tended.ensure_app()
    key = await stage.ready("passed-on", isolation="Sealed", deletionPolicy="Delete")
    old, dsn = stage.secret(key)["capability"].decode(), stage.dsn(key)
    stage.world.delete(key)
    await stage.run(key)
    await asyncio.sleep(1.1)
    heir = await stage.ready("passed-on", namespace="elsewhere", isolation="Sealed")
    assert not enters(dsn, "passed-on", old)
    assert enters(stage.dsn(heir), "passed-on", stage.secret(heir)["capability"].decode())


async def test_a_sealed_rotation_that_lost_its_secret_keeps_the_overlap(stage: Stage) -> None:
    """A crash between the capability's advance and its Secret costs the application nothing."""
    await stage.tended.ensure_app()
    key = await stage.ready("sealed-two", isolation="Sealed")
    old, dsn = stage.secret(key)["capability"].decode(), stage.dsn(key)
    stage.superuser(
        "UPDATE llmspell.tenants SET previous_capability_version = capability_version, "
        "capability_version = capability_version + 1, "
        "previous_capability_expires_at = now() + interval '1h' WHERE tenant = 'sealed-two'"
    )
    await stage.run(key)
    assert stage.secret(key)["capability"].decode() != old
    assert [enters(dsn, "sealed-two", each) for each in (old, stage.secret(key)["capability"].decode())] == [True, True]


def enters(dsn: str, tenant: str, capability: str) -> bool:
    """Whether the shared login enters a tenant with a capability."""
    with psycopg.connect(dsn) as connection:
        try:
            connection.execute("SELECT llmspell.enter(%s, %s, 'kv')", (tenant, capability))
            row = connection.execute("SELECT llmspell.current_tenant()").fetchone()
        except psycopg.errors.InvalidAuthorizationSpecification:
            return False
    return row == (tenant,)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_deletion_ends_sessions_and_keeps_or_deletes_rows(stage: Stage, policy: str) -> None:
    """Sessions end, logins and Secret go; rows stay under Retain and go under Delete."""
    name = f"leaving-{policy.lower()}"
    key = await stage.ready(name, deletionPolicy=policy)
    session = psycopg.connect(stage.dsn(key), autocommit=True)
    session.execute("INSERT INTO llmspell.test_table (tenant_id, value) VALUES (%s, 'mine')", (name,))
    stage.world.delete(key)
    assert (await stage.run(key)).result == "deleted"
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert key not in stage.world.bodies
    assert ("team", f"{name}-storage") not in stage.world.secrets
    left = stage.superuser("SELECT count(*) FROM llmspell.test_table WHERE tenant_id = %s", (name,))
    roles = stage.superuser("SELECT count(*) FROM pg_roles WHERE rolname = %s", (stage.login(name),))
    assert (left, roles) == ([(1 if policy == "Retain" else 0,)], [(0,)])


@pytest.fixture
async def alone(fresh_installation: Installation) -> AsyncIterator[Stage]:
    """Give a reconciler on a database that no other test bends."""
    async with staged(fresh_installation) as made:
        yield made


@pytest.fixture
def elsewhere(superuser_url: str) -> Iterator[str]:
    """Give another database of the server that PUBLIC may connect to."""
    with database_on(superuser_url) as database:
        yield database.name


async def test_a_login_that_cannot_be_dropped_is_left_behind(alone: Stage, elsewhere: str) -> None:
    """What a tenant made in another database keeps its role, without a way in; its deletion ends, and tells of it."""
    stage = alone
    key = await stage.ready("clinging", deletionPolicy="Delete", components=["KV"])
    dsn, login = stage.dsn(key), stage.login("clinging")
    with psycopg.connect(url_with(dsn, dbname=elsewhere), autocommit=True) as session:
        session.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    stage.world.delete(key)
    assert (await stage.run(key)).result == "deleted"
    assert key not in stage.world.bodies
    (event,) = [each for each in stage.world.events if each[1] == "RoleLeftBehind"]
    assert login in event[2]
    assert elsewhere in event[2]
    left = "SELECT r.rolcanlogin, r.rolpassword IS NULL, shobj_description(r.oid, 'pg_authid'), (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid) FROM pg_authid r WHERE r.rolname = %s"
    mark = stage.installation.names.role_comment("tenant left behind")
    assert stage.superuser(left, (login,)) == [(False, True, mark, 0)]
    assert stage.superuser("SELECT count(*) FROM llmspell.tenant_logins WHERE login = %s", (login,)) == [(0,)]
    await stage.run(stage.cluster)
    assert login in stage.message(stage.cluster, "ContractHolds")
    with psycopg.connect(url_with(stage.installation.superuser_dsn, dbname=elsewhere), autocommit=True) as superuser:
        superuser.execute(f'DROP OWNED BY "{login}"'.encode())
    await stage.run(stage.cluster)
    assert stage.superuser(left, (login,)) == []
    assert stage.condition(stage.cluster, "ContractHolds") == ("True", "NoViolations")


async def test_a_login_left_behind_is_taken_up_again(stage: Stage, elsewhere: str) -> None:
    """The same tenant id, declared again, gets its role back with a new password, and rotates as any other."""
    key = await stage.ready("returning", deletionPolicy="Delete", components=["KV"])
    former, login = stage.dsn(key), stage.login("returning")
    with psycopg.connect(url_with(former, dbname=elsewhere), autocommit=True) as session:
        session.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC")
    stage.world.delete(key)
    await stage.run(key)
    key = await stage.ready("returning", components=["KV"], credentials={"rotation": {"overlap": "0s"}})
    assert opens(stage.dsn(key), "returning")
    assert not opens(former)
    described = "SELECT shobj_description(oid, 'pg_authid') FROM pg_authid WHERE rolname = %s"
    assert stage.superuser(described, (login,)) == [(stage.installation.names.role_comment("tenant"),)]
    key = stage.tenant("returning", components=["KV"], credentials={"rotation": {"overlap": "0s"}}, rotate="1")
    for _ in range(3):
        await stage.run(key)
    assert stage.condition(key) == ("True", "Ready")
    assert opens(stage.dsn(key), "returning")
    assert stage.superuser("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (login,)) == [(False,)]
    assert (await stage.run(key)).result == "unchanged"


async def test_concurrent_deletions_of_one_tenant_agree(stage: Stage) -> None:
    """Two deletions at once, and one more after them, are one deletion."""
    key = await stage.ready("twice-gone", deletionPolicy="Delete")
    body = dict(stage.world.bodies[key])
    stage.world.delete(key)
    marked = stage.world.bodies[key]
    await asyncio.gather(stage.run(key), stage.run(key))
    for _ in range(3):
        stage.world.bodies[key] = marked
        if (await stage.run(key)).result == "deleted":
            break
    assert stage.superuser("SELECT count(*) FROM llmspell.tenants WHERE tenant = 'twice-gone'") == [(0,)]
    assert body["spec"]["tenantId"] == "twice-gone"


async def test_two_resources_one_tenant_id(stage: Stage) -> None:
    """The second claimant is refused, touches nothing, and its deletion takes nothing from the first."""
    first = await stage.ready("wanted")
    second = stage.tenant("wanted", name="impostor", deletionPolicy="Delete")
    await stage.run(second)
    assert stage.condition(second) == ("False", "TenantIdTaken")
    stage.world.delete(second)
    await stage.run(second)
    assert opens(stage.dsn(first), "wanted")


async def test_two_resources_at_once_get_one_owner(stage: Stage) -> None:
    """When both come at the same moment, one is Ready and the other is refused, whoever it is."""
    keys = [stage.tenant("raced", name=name) for name in ("left", "right")]
    await asyncio.gather(*(stage.run(key) for key in keys))
    for key in keys:
        await stage.run(key)
    states = sorted(stage.condition(key) for key in keys)
    assert states == [("False", "TenantIdTaken"), ("True", "Ready")]


async def test_adoption_is_granted_by_the_cluster(installation: Installation) -> None:
    """Retained rows go to another namespace only when the StorageCluster names it."""
    async with staged(installation) as stage:
        key = await stage.ready("heirloom")
        stage.world.delete(key)
        await stage.run(key)
        thief = stage.tenant("heirloom", namespace="thief")
        await stage.run(thief)
        assert stage.condition(thief) == ("False", "AdoptionNotGranted")
        await stage.ready("heirloom")
    tenancy = {"allowedNamespaces": [{"from": "All"}], "adoptions": [{"tenantId": "heirloom", "namespace": "thief"}]}
    async with staged(installation, tenancy=tenancy) as stage:
        heir = stage.tenant("heirloom", namespace="thief")
        await stage.run(heir)
        assert stage.condition(heir) == ("False", "TenantIdTaken")
        stage.superuser("UPDATE llmspell.tenants SET state = 'retained' WHERE tenant = 'heirloom'")
        await stage.run(heir)
        assert opens(stage.dsn(heir), "heirloom")


async def test_a_role_without_our_mark_is_left_alone(stage: Stage) -> None:
    """A role that somebody made under the tenant's hashed name stops provisioning and is not touched."""
    login = stage.login("squatted")
    stage.superuser(f'CREATE ROLE "{login}" CONNECTION LIMIT 7')
    key = stage.tenant("squatted")
    await stage.run(key)
    assert stage.condition(key) == ("False", "ForeignRole")
    assert stage.superuser("SELECT rolconnlimit, rolcanlogin FROM pg_roles WHERE rolname = %s", (login,)) == [
        (7, False)
    ]
    stage.superuser(f'DROP ROLE "{login}"')
    await stage.ready("squatted")


async def test_a_component_set_without_our_mark_is_left_alone(stage: Stage) -> None:
    """A role under a set's name that is not ours is granted nothing."""
    role = stage.installation.names.store_set(["hooks"])
    stage.superuser(f'CREATE ROLE "{role}"')
    key = stage.tenant("set-squatted", components=["Hooks"])
    await stage.run(key)
    assert stage.condition(key)[0] != "True"
    granted = stage.superuser(
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = %s::regrole AND deptype = 'a'", (role,)
    )
    assert granted == [(0,)]
    stage.superuser(f'DROP ROLE "{role}"')


async def test_an_old_epoch_cannot_write(stage: Stage, installation: Installation) -> None:
    """After another leader took over, the former one changes nothing: no login, no deletion of rows."""
    key = await stage.ready("fenced", deletionPolicy="Delete")
    session = psycopg.connect(stage.dsn(key), autocommit=True)
    session.execute("INSERT INTO llmspell.test_table (tenant_id, value) VALUES ('fenced', 'mine')")
    session.close()
    async with staged(installation):
        late = stage.tenant("late")
        await stage.run(late)
        assert stage.condition(late)[0] != "True"
        stage.world.delete(key)
        await stage.run(key)
        assert stage.condition(key, "DeletionBlocked")[0] == "True"
    assert stage.superuser("SELECT count(*) FROM llmspell.tenants WHERE tenant = 'late'") == [(0,)]
    assert stage.superuser("SELECT count(*) FROM llmspell.test_table WHERE tenant_id = 'fenced'") == [(1,)]


async def test_a_fenced_leader_deletes_no_rows_of_a_sealed_tenant(stage: Stage, installation: Installation) -> None:
    """A sealed tenant has no login whose change would notice the fence; its rows are behind it all the same."""
    await stage.tended.ensure_app()
    key = await stage.ready("fenced-sealed", isolation="Sealed", deletionPolicy="Delete")
    stage.superuser("INSERT INTO llmspell.test_table (tenant_id, value) VALUES ('fenced-sealed', 'mine')")
    async with staged(installation):
        stage.world.delete(key)
        await stage.run(key)
    assert stage.superuser("SELECT count(*) FROM llmspell.test_table WHERE tenant_id = 'fenced-sealed'") == [(1,)]


async def test_a_hundred_tenants_at_once(stage: Stage) -> None:
    """A burst within the connections' cap converges without a deadlock or a lost update coming to the surface."""
    choices = (["KV"], ["KV", "Graph"], ["Events"], ["Vectors", "Sessions"], None)
    keys = []
    for number in range(100):
        components = choices[number % len(choices)]
        given: dict[str, Any] = {} if components is None else {"components": components}
        keys.append(stage.tenant(f"burst-{number:03d}", **given))
    for _ in range(3):
        waiting = [key for key in keys if stage.condition(key) != ("True", "Ready")]
        await asyncio.gather(*(stage.run(key) for key in waiting))
    assert {stage.condition(key) for key in keys} == {("True", "Ready")}
    assert not [event for event in stage.world.events if event[0] == "Warning"]


async def test_one_tenant_id_on_two_databases_of_a_server(
    installation: Installation, fresh_installation: Installation
) -> None:
    """Role names carry the installation: the same id lives twice on a server and neither opens the other."""
    async with staged(installation) as one, staged(fresh_installation) as two:
        first, second = await one.ready("same"), await two.ready("same")
        assert [opens(one.dsn(first), "same"), opens(two.dsn(second), "same")] == [True, True]
        crossed = one.dsn(first).replace(installation.database.name, fresh_installation.database.name)
        assert not opens(crossed)
        two.world.delete(second)
        await two.run(second)
        assert opens(one.dsn(first), "same")


HOSTILE = ["a'b", 'a"b', "a; DROP ROLE x", "a$revoke$b", "ünï", "a\\b", "%s", "{{ x }}"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_is_refused_and_nothing_happens(stage: Stage, text: str) -> None:
    """SQL and odd characters in a manifest's strings are a fault of the manifest, never a statement."""
    for spec in ({"tenantId": text}, {"credentials": {"secretName": text}}, {"components": [text]}):
        declared = {"tenantId": "hostile", "clusterRef": {"name": "main", "namespace": "llmspell"}, **spec}
        key = stage.world.put(Kind.TENANT, "team", "hostile", declared)
        await stage.run(key)
        assert stage.condition(key) == ("False", "InvalidSpec")
    assert stage.superuser("SELECT count(*) FROM llmspell.tenants WHERE tenant LIKE 'hostile%%'", ()) == [(0,)]


async def test_the_longest_names_fit(stage: Stage) -> None:
    """Tenant ids of 255 characters that differ at the end only get roles of their own, within 63 bytes."""
    keys = [await stage.ready("x" * 254 + end, name=f"long-{end}") for end in "ab"]
    users = {stage.secret(key)["user"] for key in keys}
    assert (len(users), max(map(len, users)) <= 63) == (2, True)
