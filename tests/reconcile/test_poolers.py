"""A StorageCluster behind a real PgBouncer: applications are told of a login once the pooler lets it in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest

from storage_operator.reconcile import Reconciler
from storage_operator.world import Key
from tests.plugins.installation import Installation
from tests.plugins.pgbouncer import PgBouncer
from tests.reconcile.stage import CLUSTER_NAMESPACE, Stage, opens, staged

AUTH_SECRET = "bouncer-users"


@pytest.fixture
def pooler(installation: Installation, start_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    """Give a pooler that knows nobody yet."""
    return start_pgbouncer(installation.database, {}, ignore_startup_parameters="extra_float_digits")


@pytest.fixture
async def stage(installation: Installation, pooler: PgBouncer) -> AsyncIterator[Stage]:
    """Give a connected reconciler whose cluster names the pooler."""
    declared = {"host": "127.0.0.1", "port": pooler.port, "auth": "AuthFile", "authFileSecretName": AUTH_SECRET}
    async with staged(installation, pooler=declared) as made:
        yield made


def reload(stage: Stage, pooler: PgBouncer) -> None:
    """Do what the kubelet and a sidecar do: mount the Secret's file and tell PgBouncer to read it."""
    text = stage.world.secrets[CLUSTER_NAMESPACE, AUTH_SECRET].data["userlist.txt"].decode()
    pooler.reload(dict(re.findall(r'^"([^"]+)" "([^"]+)"$', text, re.MULTILINE)))


async def settle(stage: Stage, pooler: PgBouncer, key: Key) -> None:
    """Reload the pooler and see the tenant Ready."""
    reload(stage, pooler)
    await stage.run(key)
    assert stage.condition(key) == ("True", "Ready"), stage.world.bodies[key]["status"]


def pooled(stage: Stage, key: Key) -> str:
    """Return the DSN through the pooler."""
    return stage.secret(key)["pooled-dsn"].decode()


async def test_a_new_tenant_waits_for_the_pooler(stage: Stage, pooler: PgBouncer) -> None:
    """No Secret before the pooler knows the login; afterwards it holds both ways in, and both work."""
    key = stage.tenant("behind")
    outcome = await stage.run(key)
    assert (outcome.result, stage.condition(key, "Provisioned")) == ("waiting", ("Unknown", "PoolerNotReloaded"))
    assert (key.namespace, "behind-storage") not in stage.world.secrets
    await settle(stage, pooler, key)
    assert opens(stage.dsn(key), "behind")
    assert opens(pooled(stage, key), "behind")


async def test_the_auth_file_holds_verifiers_only(stage: Stage, pooler: PgBouncer) -> None:
    """Each live login stands in the file with its SCRAM verifier, never with its password."""
    key = stage.tenant("listed")
    await stage.run(key)
    await settle(stage, pooler, key)
    text = stage.world.secrets[CLUSTER_NAMESPACE, AUTH_SECRET].data["userlist.txt"].decode()
    assert f'"{stage.login("listed")}" "SCRAM-SHA-256$' in text
    assert stage.secret(key)["password"].decode() not in text


async def test_rotation_waits_for_the_pooler(stage: Stage, pooler: PgBouncer) -> None:
    """While the pooler does not know the new login the Secret keeps the old one, which works on both ways."""
    key = stage.tenant("rotated")
    await stage.run(key)
    await settle(stage, pooler, key)
    before = stage.dsn(key), pooled(stage, key)
    stage.tenant("rotated", rotate="now")
    assert (await stage.run(key)).result == "waiting"
    assert (await stage.run(key)).result == "waiting"
    assert (stage.dsn(key), pooled(stage, key)) == before
    assert all(opens(dsn, "rotated") for dsn in before)
    await settle(stage, pooler, key)
    assert stage.login("rotated", "b") in pooled(stage, key)
    assert opens(pooled(stage, key), "rotated")
    assert opens(before[0], "rotated")


async def test_an_operator_that_ends_while_waiting_locks_nobody_out(stage: Stage, pooler: PgBouncer) -> None:
    """The next process does not know the waiting credential: it draws another one for it and leaves the told one alone."""
    key = stage.tenant("restarted")
    await stage.run(key)
    await settle(stage, pooler, key)
    told = stage.dsn(key)
    stage.tenant("restarted", rotate="now")
    await stage.run(key)
    await stage.reconciler.close()
    stage.reconciler = Reconciler(stage.world, release="test", holder="next")
    await stage.contact()
    assert (await stage.run(key)).result == "waiting"
    assert opens(told, "restarted")
    await settle(stage, pooler, key)
    assert opens(told, "restarted")
    assert opens(pooled(stage, key), "restarted")


async def test_a_sealed_tenant_goes_through_the_pooler(
    installation: Installation, stage: Stage, pooler: PgBouncer
) -> None:
    """The shared login is in the file, and the capability opens the tenant through a transaction pooler."""
    await stage.tended.ensure_app()
    key = stage.tenant("sealed-behind", isolation="Sealed")
    await stage.run(key)
    await settle(stage, pooler, key)
    secret = stage.secret(key)
    with psycopg.connect(pooled(stage, key), prepare_threshold=None) as session:
        session.execute("SELECT llmspell.enter('sealed-behind', %s, 'kv')", (secret["capability"].decode(),))
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("sealed-behind",)
