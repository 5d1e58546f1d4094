"""Two operators, one leader: hand-over, a frozen leader, and an API server that restarts or says nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from storage_operator.adapters.postgres.faults import FENCED_STATE
from storage_operator.adapters.postgres.statements import Script
from storage_operator.devenv import ownership
from storage_operator.devenv.controlplane import API_SERVER, ControlPlane
from tests.e2e.conftest import OperatorProcess, Scene, ask, logins_of, operator_in, scene_on, wait_for
from tests.plugins.controlplane import Cluster
from tests.plugins.installation import Installation

pytestmark = pytest.mark.cluster

EPOCH = "SELECT epoch FROM llmspell.operator_lease"
LEASE_LOST = 3
TIMES = {
    "LLMSPELL_OPERATOR_LEASE_DURATION_SECONDS": "8",
    "LLMSPELL_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "5",
    "LLMSPELL_OPERATOR_LEASE_RETRY_PERIOD_SECONDS": "0.5",
}


@pytest.fixture(scope="module")
def plane() -> Iterator[Cluster]:
    """Give a cluster that may be stopped, since nobody else works with it."""
    name = f"test-two-{os.getpid()}"
    ownership.claim(name)
    control_plane = ControlPlane(name)
    try:
        control_plane.start()
        cluster = Cluster(control_plane.kubeconfig, control_plane.kubectl, control_plane)
        cluster.define()
        yield cluster
    finally:
        control_plane.remove()
        ownership.release(name)


@pytest.fixture(scope="module")
def scene(plane: Cluster, migrated: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a scene with an operator that leads; each test leaves one that leads behind, as ``scene.operator``."""
    with scene_on(plane, migrated, tmp_path_factory.mktemp("first"), **TIMES) as made:
        patch = '{"spec": {"drift": {"interval": "1s"}}}'
        plane.run("-n", made.namespace, "patch", "storagecluster", "main", "--type=merge", "-p", patch)
        yield made
        if made.operator.process is not None and made.operator.process.poll() is None:
            made.operator.end()


@pytest.fixture(scope="module")
def recruit(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], OperatorProcess]]:
    """Give a function that starts a further operator, which waits for the lease of the first."""
    with ExitStack() as stack:

        def start() -> OperatorProcess:
            folder = tmp_path_factory.mktemp("next")
            operator = stack.enter_context(operator_in(scene.cluster, scene.namespace, folder, **TIMES))
            operator.start()
            assert _leads(scene.operator)
            assert not _leads(operator)
            return operator

        yield start


def _leads(operator: OperatorProcess) -> bool:
    return operator.sample("llmspell_operator_leader") == 1


def _take_over(scene: Scene, operator: OperatorProcess) -> None:
    """Wait until the next operator leads; it is the scene's from now on."""
    wait_for(lambda: _leads(operator), lambda: f"the next operator leads; log:\n{operator.tail()}")
    scene.operator = operator


def _holder(scene: Scene) -> str:
    """Return who holds the lease; empty when nobody does."""
    lease = scene.cluster.get("-n", scene.namespace, "lease", "llmspell-storage-operator")
    return str(lease["spec"].get("holderIdentity") or "")


def _nothing_twice(scene: Scene) -> None:
    """Every Tenant is Ready with exactly one login, and no login is left over."""
    names = list(scene.tenants())
    scene.all_ready(names)
    assert logins_of(scene.installation) == {secret["user"] for secret in scene.secrets().values()}
    assert scene.secrets().keys() == set(names)


def _versions(scene: Scene) -> dict[str, str]:
    return {name: body["metadata"]["resourceVersion"] for name, body in scene.tenants().items()}


def _events(scene: Scene) -> list[tuple[str, str, int]]:
    events: list[dict[str, Any]] = scene.cluster.get("-n", scene.namespace, "events")["items"]
    return sorted(
        (event["involvedObject"]["name"], event["reason"], int(event.get("count") or 1))
        for event in events
        if event["involvedObject"]["kind"] == "Tenant"
    )


def test_a_converged_tenant_is_left_in_peace(scene: Scene) -> None:
    """Several resyncs of unchanged tenants write nothing: no PATCH, no Event, no rotation."""
    names = ["calm-a", "calm-b", "calm-c"]
    scene.burst(names)
    scene.all_ready(names)
    unchanged = {"kind": "Tenant", "phase": "total", "result": "unchanged"}
    looks = lambda: scene.operator.sample("llmspell_operator_reconcile_seconds_count", **unchanged)  # noqa: E731
    told = lambda: all("usage" in body["status"] for body in scene.tenants().values())  # noqa: E731
    wait_for(told, "usage was measured and told once")
    versions, events, before = _versions(scene), _events(scene), looks()
    wait_for(lambda: looks() >= before + 5 * len(names), "five more resyncs")
    assert _versions(scene) == versions
    assert _events(scene) == events
    assert {name for name, _, _ in events} >= set(names)


def test_the_lease_is_handed_over_on_sigterm(scene: Scene, recruit: Callable[[], OperatorProcess]) -> None:
    """SIGTERM ends the leader with code 0 and its lease with it, the next one leads, and nothing is done a second time."""
    epoch, versions, events = ask(scene.installation, EPOCH), _versions(scene), _events(scene)
    successor, former = recruit(), _holder(scene)
    assert scene.operator.end(signal.SIGTERM) == 0
    # Nobody waits for it to run out.
    assert _holder(scene) != former
    _take_over(scene, successor)
    scene.tenant("under-new-management")
    scene.ready("tenant", "under-new-management")
    assert ask(scene.installation, EPOCH) == epoch + 1
    now = _versions(scene)
    assert {name: now[name] for name in versions} == versions
    assert [event for event in _events(scene) if event[0] in versions] == events
    _nothing_twice(scene)


def test_a_frozen_leader_is_fenced_off(scene: Scene, recruit: Callable[[], OperatorProcess]) -> None:
    """A leader that stands still is replaced; awake again it ends with code 3, and its epoch writes nothing."""
    epoch = ask(scene.installation, EPOCH)
    former, successor = scene.operator, recruit()
    assert former.process is not None
    former.process.send_signal(signal.SIGSTOP)
    scene.tenant("meanwhile")
    _take_over(scene, successor)
    scene.ready("tenant", "meanwhile")
    scene.tenant("meanwhile", quotas={"connections": 3})
    former.process.send_signal(signal.SIGCONT)
    assert former.process.wait(30) == LEASE_LOST
    scene.ready("tenant", "meanwhile")
    assert ask(scene.installation, EPOCH) == epoch + 1
    _nothing_twice(scene)
    owner = scene.installation.names.owner
    with scene.installation.connect(owner) as session, pytest.raises(psycopg.Error) as caught:
        session.execute(Script(scene.installation.schema, owner, epoch=epoch).text().encode())
    assert caught.value.sqlstate == FENCED_STATE


def test_the_api_server_restarts_during_a_burst(scene: Scene, recruit: Callable[[], OperatorProcess]) -> None:
    """Connections and watches break in the middle of a burst; whoever leads then, every tenant becomes Ready."""
    assert scene.cluster.plane is not None
    former, successor = scene.operator, recruit()
    assert former.process is not None
    names = [f"restart-{number:02d}" for number in range(20)]
    scene.burst(names[:12])
    query = "SELECT count(*) FROM llmspell.tenants WHERE tenant ~ '^restart-'"
    wait_for(lambda: ask(scene.installation, query) >= 2, "the burst is under way", pause=0.01)
    scene.cluster.plane.restart(API_SERVER, signal.SIGKILL)
    scene.burst(names[12:])
    scene.all_ready(names)
    if former.process.poll() is None:
        assert successor.end() == 0
    else:
        # On a slow machine the server is away for longer than the lease lasts.
        assert former.process.returncode == LEASE_LOST
        _take_over(scene, successor)
    _nothing_twice(scene)


def test_a_silent_api_server_ends_the_leader_before_another_writes(
    scene: Scene, recruit: Callable[[], OperatorProcess]
) -> None:
    """The server takes connections and says nothing: the leader ends in time, and the next one leads when it speaks."""
    assert scene.cluster.plane is not None
    epoch, former, successor = ask(scene.installation, EPOCH), scene.operator, recruit()
    assert former.process is not None
    scene.burst(["silent-a", "silent-b"])
    scene.cluster.plane.kill(API_SERVER, signal.SIGSTOP)
    try:
        assert former.process.wait(30) == LEASE_LOST
        assert not _leads(successor)
        assert ask(scene.installation, EPOCH) == epoch
    finally:
        scene.cluster.plane.kill(API_SERVER, signal.SIGCONT)
    _take_over(scene, successor)
    scene.tenant("speaks-again")
    _nothing_twice(scene)
    assert ask(scene.installation, EPOCH) == epoch + 1
