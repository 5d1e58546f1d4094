"""One operator process on a real API server: start, work, watch, hand over."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from dataclasses import replace

import aiohttp
import pytest

from storage_operator.adapters.kubernetes.client import MERGE_PATCH, ApiClient
from storage_operator.handlers.routing import ready
from storage_operator.handlers.runner import ExitCode, Watchdog
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Kind
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import WAIT_SECONDS, RunningOperator, tenant_manifest, until

pytestmark = pytest.mark.cluster
Make = Callable[[OperatorSettings], RunningOperator]


async def test_a_new_tenant_is_reconciled_once_with_one_patch(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """The watch event that echoes our own status patch causes no second reconcile."""
    operator = run_operator(operator_settings)
    operator.start()
    await operator.started()
    namespace = operator_settings.namespaces[0]
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "one"))
    key = Key(Kind.TENANT, namespace, "one")
    await until(lambda: ready(operator.engine.world.get(key)))
    # What comes through the watch behind the echo: a second reconcile of the first tenant would begin before it.
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "behind"))
    behind = Key(Kind.TENANT, namespace, "behind")
    await until(lambda: ready(operator.engine.world.get(behind)))
    assert operator.engine.order == [key, behind]
    patches = operator.metrics.api_requests.labels("PATCH", "tenants/status", "200")._value.get()
    assert patches == 2
    body = await asyncio.to_thread(installed_crds.get, "tenant", "one", "-n", namespace)
    assert body["status"]["conditions"][0]["status"] == "True"
    assert "finalizers" not in body["metadata"]
    assert "kopf" not in str(body)
    assert await operator.stop() is ExitCode.STOPPED
    assert operator.engine.closed


async def test_the_cache_is_full_before_the_first_reconcile(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """After a restart no tenant is told that its cluster is missing, and what is Ready gives way to what is new."""
    namespace = operator_settings.namespaces[0]
    items = [tenant_manifest(namespace, f"t{number}") for number in range(3)]
    await asyncio.to_thread(installed_crds.apply, {"apiVersion": "v1", "kind": "List", "items": items})
    first = run_operator(operator_settings)
    first.start()
    await until(lambda: first.engines and len(first.engine.calls) == 3)
    await first.stop()
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "new"))
    second = run_operator(replace(operator_settings, workers=1))
    seen: list[int] = []
    second.configure = lambda engine: setattr(
        engine, "on_lead", lambda: asyncio.sleep(0, seen.append(len(engine.world.list(Kind.TENANT))))
    )
    second.start()
    await until(lambda: second.engines and len(second.engine.calls) == 4)
    assert second.engine.order[0].name == "new"
    assert seen == [0]


async def test_deletion_runs_through_our_finalizer(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """`kubectl delete` waits for the operator and for nothing else."""
    operator = run_operator(operator_settings)
    operator.configure = lambda engine: setattr(engine, "finalize", True)
    operator.start()
    await operator.started()
    namespace = operator_settings.namespaces[0]
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "one"))
    key = Key(Kind.TENANT, namespace, "one")
    await until(lambda: ready(operator.engine.world.get(key)))
    await asyncio.to_thread(installed_crds.run, "delete", "tenant", "one", "-n", namespace, "--timeout=60s")
    await until(lambda: operator.engine.world.get(key) is None)


async def test_a_hand_edited_status_and_a_new_annotation_are_noticed(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """Somebody else's status is replaced; a request by annotation is heard."""
    operator = run_operator(operator_settings)
    operator.start()
    await operator.started()
    namespace = operator_settings.namespaces[0]
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "one"))
    key = Key(Kind.TENANT, namespace, "one")
    await until(lambda: ready(operator.engine.world.get(key)))
    before = operator.engine.calls[key]
    patch = '{"status": {"conditions": null}}'
    arguments = ("patch", "tenant", "one", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)
    await asyncio.to_thread(installed_crds.run, *arguments)
    await until(lambda: operator.engine.calls[key] > before and ready(operator.engine.world.get(key)))
    before = operator.engine.calls[key]
    annotation = "storage.llmspell.dev/reconcile=now"
    await asyncio.to_thread(installed_crds.run, "annotate", "tenant", "one", "-n", namespace, annotation)
    await until(lambda: operator.engine.calls[key] > before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["closed", "killed"])
async def test_a_restarted_api_server_is_followed_again(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make, number: signal.Signals
) -> None:
    """Every watch is dropped; what happens during and after the outage is still reconciled."""
    assert installed_crds.plane is not None
    settings = replace(operator_settings, leader_election=False, relist_interval_seconds=3.0)
    operator = run_operator(settings)
    operator.start()
    await operator.started()
    namespace = settings.namespaces[0]
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "before"))
    gone = Key(Kind.TENANT, namespace, "before")
    await until(lambda: operator.engine.calls[gone])
    await asyncio.to_thread(installed_crds.plane.restart, "kube-apiserver", number)
    await asyncio.to_thread(installed_crds.run, "delete", "tenant", "before", "-n", namespace)
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "after"))
    await until(lambda: operator.engine.calls[Key(Kind.TENANT, namespace, "after")])
    await until(lambda: operator.engine.world.get(gone) is None, what="the deletion was noticed")
    assert operator.task is not None
    assert not operator.task.done()


async def test_healthz_notices_a_frozen_watch(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """A server that takes connections and says nothing turns the probe red, and green again when it is back."""
    assert installed_crds.plane is not None
    operator = run_operator(
        replace(operator_settings, leader_election=False, watch_inactivity_seconds=0.5, watch_stale_seconds=3.0)
    )
    operator.start()
    await operator.started()
    url = f"http://127.0.0.1:{operator.runner.http_port}"
    async with aiohttp.ClientSession() as session:

        async def probe(path: str = "/healthz") -> tuple[int, str]:
            async with session.get(url + path) as response:
                return response.status, await response.text()

        async def probed(status: int) -> str:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    found, text = await probe()
                    if found == status:
                        return text
                    await asyncio.sleep(0.1)

        # Longer than a watch may be silent: nothing happens here, and its end after half a second is its sign of life.
        await asyncio.sleep(3.5)
        assert await probe() == (200, "ok\n")
        assert (await probe("/readyz"))[0] == 200
        installed_crds.plane.kill("kube-apiserver", signal.SIGSTOP)
        try:
            text = await probed(503)
        finally:
            installed_crds.plane.kill("kube-apiserver", signal.SIGCONT)
        assert "the watch of" in text
        await probed(200)
        metrics = (await probe("/metrics"))[1]
    assert "llmspell_operator_watch_age_seconds" in metrics
    assert "llmspell_operator_leader 1.0" in metrics


async def test_losing_the_lease_ends_the_run_and_frees_nothing_of_the_new_leader(
    operator_settings: OperatorSettings, run_operator: Make, api: ApiClient
) -> None:
    """Within the renew deadline the old leader has stopped its workers, and says so with its exit code."""
    operator = run_operator(operator_settings)
    operator.start()
    await operator.started()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{operator_settings.lease_namespace}/leases"
    # Of no version: the leader renews many times while this is under way.
    taken = {"spec": {"holderIdentity": "successor"}}
    await api.request("PATCH", f"{path}/{operator_settings.lease_name}", body=taken, content_type=MERGE_PATCH)
    assert operator.task is not None
    assert await asyncio.wait_for(operator.task, operator_settings.lease_renew_deadline_seconds) is ExitCode.LEASE_LOST
    after = await api.get(f"{path}/{operator_settings.lease_name}")
    assert after["spec"]["holderIdentity"] == "successor"


async def test_two_operators_hand_over_without_a_gap_or_an_overlap(
    installed_crds: Cluster, operator_settings: OperatorSettings, run_operator: Make
) -> None:
    """The second waits, is ready to take over, and leads as soon as the first has finished its work."""
    first, second = run_operator(operator_settings), run_operator(replace(operator_settings, identity="second"))
    first.configure = lambda engine: setattr(engine, "seconds", 0.5)
    first.start()
    await first.started()
    second.start()
    namespace = operator_settings.namespaces[0]
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "one"))
    await until(lambda: first.engine.calls)
    # Its candidate has seen whose the lease is.
    await until(lambda: second.runner._lease is not None and second.runner._lease._observed is not None)
    assert not second.engine.led
    assert await first.stop() is ExitCode.STOPPED
    key = Key(Kind.TENANT, namespace, "one")
    # The lease itself lasts longer than this waits.
    await second.started()
    await until(lambda: ready(second.engine.world.get(key)))
    assert first.engine.closed


@pytest.mark.parametrize("leads", [True, False], ids=["leading", "waiting"])
async def test_a_cancelled_run_leaves_nothing_behind(
    operator_settings: OperatorSettings, run_operator: Make, leads: bool
) -> None:
    """No task of it goes on, and no watchdog ends a process in which the operator no longer works."""
    if not leads:
        leader = run_operator(replace(operator_settings, identity="leader"))
        leader.start()
        await leader.started()
    watchdogs = {thread for thread in threading.enumerate() if isinstance(thread, Watchdog)}
    operator = run_operator(operator_settings)
    operator.start()
    if leads:
        await operator.started()
    else:
        await until(lambda: operator.runner._lease is not None and operator.runner._lease._observed is not None)
    assert operator.task is not None
    operator.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await operator.task
    assert all(task.done() for task in operator.runner._background)
    assert operator.runner.queue is not None
    assert not operator.runner.queue._tasks
    assert operator.engine.closed
    await until(lambda: {thread for thread in threading.enumerate() if isinstance(thread, Watchdog)} <= watchdogs)
