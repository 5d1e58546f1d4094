"""The operator's process without databases: custom resources installed, and a runner around a small engine.

``RecordingEngine`` is a complete reconciler of a trivial kind: it writes a status and nothing else. Tests whose subject
is the queue, the lease or the watches use it, so that what they see comes from those.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.adapters.kubernetes.objects import KubernetesWorld
from storage_operator.handlers.runner import ExitCode, Runner
from storage_operator.metrics import Metrics
from storage_operator.settings import OperatorSettings
from storage_operator.world import FINALIZER, Key, Outcome
from tests.plugins.controlplane import Cluster

# Only what is broken takes so long: a machine that is busy with other things may take many times what a test needs.
WAIT_SECONDS = 60.0


async def until(condition: Callable[[], Any], *, timeout: float = WAIT_SECONDS, what: str = "") -> Any:
    """Wait until a condition holds and return its value; fail with a sentence when it never does."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or condition}"
        await asyncio.sleep(0.02)
    return value


def tenant_manifest(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """Write a valid Tenant."""
    return {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"tenantId": f"{namespace}-{name}", "clusterRef": {"name": "main"}, **spec},
    }


def ready_status(generation: int, **more: Any) -> dict[str, Any]:
    """Write a status that says Ready."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"observedGeneration": generation, "conditions": [condition], **more}


class RecordingEngine:
    """Says Ready to everything, and remembers what it was asked."""

    def __init__(self, world: KubernetesWorld) -> None:
        self.world = world
        self.calls: Counter[Key] = Counter()
        self.order: list[Key] = []
        self.led = 0
        self.closed = False
        self.seconds = 0.0
        self.finalize = False

    async def reconcile(self, key: Key) -> Outcome:
        """Write the status of a generation, once."""
        self.calls[key] += 1
        self.order.append(key)
        await asyncio.sleep(self.seconds)
        body = self.world.get(key)
        if body is None:
            return Outcome("deleted")
        if body["metadata"].get("deletionTimestamp"):
            await self.world.remove_finalizer(body)
            return Outcome("deleted")
        if self.finalize and FINALIZER not in body["metadata"].get("finalizers", []):
            body = await self.world.add_finalizer(body)
        before = body.get("status")
        await self.world.patch_status(body, ready_status(body["metadata"]["generation"]))
        return Outcome("unchanged" if before else "changed")

    async def on_lead(self) -> None:
        """Count the leaderships."""
        self.led += 1

    async def aclose(self) -> None:
        """Remember the end."""
        self.closed = True


class RunningOperator:
    """A runner in this event loop, with its engine."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.metrics = Metrics()
        self.engines: list[RecordingEngine] = []
        self.configure: Callable[[RecordingEngine], None] = lambda _: None
        # A watchdog ends its process, which here is the one that runs the tests.
        self.ended_with: list[int] = []
        self.runner = Runner(settings, self._build, metrics=self.metrics, end=self.ended_with.append)
        self.task: asyncio.Task[ExitCode] | None = None

    async def _build(
        self, world: KubernetesWorld, _settings: OperatorSettings, _metrics: Metrics, _wake: Any
    ) -> RecordingEngine:
        engine = RecordingEngine(world)
        self.configure(engine)
        self.engines.append(engine)
        return engine

    @property
    def engine(self) -> RecordingEngine:
        """The engine, once the cluster was reached."""
        return self.engines[0]

    def start(self) -> None:
        """Run in the background."""
        self.task = asyncio.create_task(self.runner.run(), name="operator")

    async def started(self) -> None:
        """Wait until the first list is there and the watches run."""
        await until(lambda: self.engines and self.engine.led and self.runner.watching, what="the operator started")

    async def stop(self) -> ExitCode:
        """End cleanly."""
        assert self.task is not None
        self.runner.stop()
        return await asyncio.wait_for(self.task, WAIT_SECONDS)


@pytest.fixture(scope="session")
def installed_crds(control_plane: Cluster) -> Cluster:
    """Give a cluster that knows the custom resources."""
    control_plane.define()
    return control_plane


@pytest.fixture
async def api(control_plane: Cluster) -> AsyncIterator[ApiClient]:
    """Give a client of the control plane."""
    client = await ApiClient.connect(str(control_plane.kubeconfig))
    yield client
    await client.aclose()


@pytest.fixture
def operator_settings(installed_crds: Cluster, fresh_namespace: str) -> OperatorSettings:
    """Give settings for one namespace, with short times; but a busy machine must never cost an operator its lease."""
    return OperatorSettings(
        namespaces=(fresh_namespace,),
        kubeconfig=str(installed_crds.kubeconfig),
        http_host="127.0.0.1",
        http_port=0,
        lease_namespace=fresh_namespace,
        lease_duration_seconds=90.0,
        lease_renew_deadline_seconds=60.0,
        lease_retry_period_seconds=0.3,
        retry_base_seconds=0.05,
        drain_seconds=30.0,
    )


@pytest.fixture
async def run_operator() -> AsyncIterator[Callable[[OperatorSettings], RunningOperator]]:
    """Give a function that makes an operator; what still runs at the end of the test is ended."""
    made: list[RunningOperator] = []

    def make(settings: OperatorSettings) -> RunningOperator:
        made.append(RunningOperator(settings))
        return made[-1]

    yield make
    running = {operator.task for operator in made if operator.task is not None and not operator.task.done()}
    for operator in made:
        operator.runner.stop()
    if running:
        _, running = await asyncio.wait(running, timeout=WAIT_SECONDS)
    assert not running, f"an operator does not stop: {asyncio.all_tasks()}"
    assert not [code for operator in made for code in operator.ended_with], "a watchdog would have ended its process"
