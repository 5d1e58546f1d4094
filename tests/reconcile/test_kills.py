"""SIGKILL at each statement boundary of a tenant's life: the next run converges, and no credential is lost for long.

The reconcile runs in a forked child, which ends without warning at the n-th boundary of an exchange with the server or
the world; a second run then has all the time it wants. Nothing of this is in the product's code.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest

from storage_operator.adapters.files import FilesWorld, Manifests
from storage_operator.adapters.postgres.server import Server
from storage_operator.reconcile import Reconciler
from storage_operator.reconcile.report import Report
from storage_operator.resources.cluster import StorageClusterSpec, parse
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key
from tests.plugins.installation import Installation
from tests.reconcile.stage import Stage, opens, staged

TENANT = "killed"
WORLD_CALLS = ("add_finalizer", "write_secret", "patch_status", "delete_secret", "remove_finalizer")


def run_child(installation: Installation, folder: Path, script: dict[str, Any], kill_at: int | None) -> int:
    """Reconcile, in a forked child when it is to be killed, and return its exit code.

    ``kill_at`` counts boundaries of exchanges with the server and the world until SIGKILL.
    """
    request = {"dsn": installation.operator_dsn, "folder": str(folder), "kill_at": kill_at, **script}
    if kill_at is None:
        asyncio.run(_child(request))
        return 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the child only runs this reconcile: threads of the parent do not matter
        pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(_child(request))
        except BaseException:  # noqa: BLE001 - nothing of the test runner may run twice
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code


async def _child(request: dict[str, Any]) -> None:
    left = request["kill_at"]

    def exchange() -> None:
        nonlocal left
        if left is None:
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    bodies = []
    for number, body in enumerate(request["bodies"]):
        metadata = {**body["metadata"], "uid": f"uid-{number}", "generation": request["generation"]}
        bodies.append({**body, "metadata": metadata})
    secrets = {("llmspell", "admin"): {"dsn": request["dsn"].encode()}}
    world = FilesWorld(Manifests(tuple(bodies), secrets, {}), Path(request["folder"]))
    reconciler = Reconciler(world, release="test", holder=str(os.getpid()))
    cluster, tenant = (Key.of(body) for body in bodies)
    await _lead(reconciler, cluster)
    if request["delete"]:
        world.mark_deleted(tenant)
    if left is not None:
        _count_all(exchange)
    for _ in range(1 if request["kill_at"] is not None else 3):
        outcome = await reconciler.reconcile(tenant)
        if outcome.result in {"unchanged", "deleted"}:
            break
    await reconciler.close()


async def _lead(reconciler: Reconciler, cluster: Key) -> None:
    """Reach the database and take the lead, without the work of a whole cluster reconcile."""
    body = reconciler.context.world.get(cluster)
    assert body is not None
    spec = parse(body)
    assert isinstance(spec, StorageClusterSpec)
    tended = await reconciler.clusters.contact(cluster, spec, Report(Kind.STORAGE_CLUSTER, body))
    await tended.installation.take_lead("test")
    tended.serving = tended.sound = True


def _count_all(exchange: Any) -> None:
    """Count every exchange with the server and with the world."""
    for name in ("query", "script"):
        _count(Server, name, exchange)
    for name in WORLD_CALLS:
        _count(FilesWorld, name, exchange)


def _count(cls: type, name: str, exchange: Any) -> None:
    """Count before and after a method: a boundary lies on both sides of an exchange."""
    original = getattr(cls, name)

    async def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        exchange()
        result = await original(self, *arguments, **named)
        exchange()
        return result

    setattr(cls, name, counted)


def manifests(**spec: Any) -> list[dict[str, Any]]:
    """Return the cluster's and the tenant's manifest."""
    api = "storage.llmspell.dev/v1alpha1"
    tenancy = {"allowedNamespaces": [{"from": "All"}], "isolationModes": ["Role", "Sealed"]}
    cluster = {"connection": {"secretRef": {"name": "admin"}}, "tenancy": tenancy}
    tenant = {"tenantId": TENANT, "clusterRef": {"name": "main", "namespace": "llmspell"}, **spec}
    return [
        {
            "apiVersion": api,
            "kind": Kind.STORAGE_CLUSTER.value,
            "metadata": {"namespace": "llmspell", "name": "main"},
            "spec": cluster,
        },
        {
            "apiVersion": api,
            "kind": Kind.TENANT.value,
            "metadata": {"namespace": "team", "name": TENANT, "annotations": {}},
            "spec": tenant,
        },
    ]


def secret_dsn(folder: Path) -> str:
    """Read the DSN that the application would use."""
    kept = json.loads((folder / f"secret.team.{TENANT}-storage.json").read_text())
    return base64.b64decode(kept["data"]["dsn"]).decode()


@pytest.mark.parametrize("kill_at", range(13))
def test_a_kill_during_creation_and_deletion(installation: Installation, tmp_path: Path, kill_at: int) -> None:
    """A tenant whose creation, rotation or deletion was killed is created, rotated or gone after the next run."""
    script: dict[str, Any] = {"bodies": manifests(deletionPolicy="Delete"), "delete": False, "generation": 1}
    killed = run_child(installation, tmp_path, script, kill_at)
    run_child(installation, tmp_path, script, None)
    assert opens(secret_dsn(tmp_path), TENANT)
    gone = {**script, "delete": True}
    killed_again = run_child(installation, tmp_path, gone, kill_at)
    run_child(installation, tmp_path, gone, None)
    assert kill_at > 11 or -signal.SIGKILL in {killed, killed_again}
    assert asyncio.run(_left(installation)) == (0, 0)


@pytest.mark.parametrize("kill_at", [3, 4, 5, 6])
def test_a_kill_during_a_rotation_spares_the_application(
    installation: Installation, tmp_path: Path, kill_at: int
) -> None:
    """However a rotation was cut short, the credential that the application holds works until its overlap is over."""
    script: dict[str, Any] = {"bodies": manifests(deletionPolicy="Delete"), "delete": False, "generation": 1}
    run_child(installation, tmp_path, script, None)
    old = secret_dsn(tmp_path)
    rotate = json.loads(json.dumps(script))
    rotate["bodies"][1]["metadata"]["annotations"] = {"storage.llmspell.dev/rotate": str(kill_at)}
    run_child(installation, tmp_path, rotate, kill_at)
    run_child(installation, tmp_path, rotate, None)
    assert [opens(old, TENANT), opens(secret_dsn(tmp_path), TENANT), old != secret_dsn(tmp_path)] == [True] * 3
    run_child(installation, tmp_path, {**script, "delete": True}, None)


async def _left(installation: Installation) -> tuple[int, int]:
    async with staged(installation) as stage:
        return _counts(stage)


def _counts(stage: Stage) -> tuple[int, int]:
    rows = stage.superuser("SELECT count(*) FROM llmspell.tenants WHERE tenant = %s", (TENANT,))
    roles = stage.superuser(
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s)", ([stage.login(TENANT, slot) for slot in "ab"],)
    )
    return int(rows[0][0]), int(roles[0][0])
