"""One operator process on a real API server: start, work, watch, hand over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from storage_operator.handlers.runner import ExitCode
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Kind
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import RunningOperator, tenant_manifest, until

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
    await until(lambda: operator.engine.calls[key])
    await asyncio.sleep(1.0)
    assert operator.engine.calls[key] == 1
    patches = operator.metrics.api_requests.labels("PATCH", "tenants/status", "200")._value.get()
    assert patches == 1
    body = await asyncio.to_thread(installed_crds.get, "tenant", "one", "-n", namespace)
    assert body["status"]["conditions"][0]["status"] == "True"
    assert set(body["metadata"]).isdisjoint({"finalizers", "annotations"} - {"annotations"})
    assert "kopf" not in str(body)
    assert await operator.stop() is ExitCode.STOPPED
    assert operator.engine.closed
