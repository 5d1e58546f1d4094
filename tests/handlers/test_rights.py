"""The operator's process with exactly the rights that the chart gives it, for one namespace and for all."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from storage_operator.handlers.routing import ready
from storage_operator.handlers.runner import ExitCode
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Kind
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import RunningOperator, tenant_manifest, until

pytestmark = pytest.mark.cluster
CHART = Path(__file__).parents[2] / "charts" / "llmspell-storage"
Make = Callable[[OperatorSettings], RunningOperator]


@pytest.fixture
def account(installed_crds: Cluster, fresh_namespace: str, helm: Path, tmp_path: Path) -> Callable[[bool], Path]:
    """Give a function that installs the chart's account and roles, and returns a kubeconfig of that account."""

    def install(clusterwide: bool) -> Path:
        parts = ["templates/rbac.yaml", "templates/serviceaccount.yaml"]
        shown = [argument for part in parts for argument in ("--show-only", part)]
        value = f"rbac.clusterWideSecrets={str(clusterwide).lower()}"
        command = [helm, "template", "op", CHART, "--namespace", fresh_namespace, "--set", value, *shown]
        rendered = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        installed_crds.run("apply", "-n", fresh_namespace, "-f", "-", manifest=rendered)
        documents = [document for document in yaml.safe_load_all(rendered) if document]
        name = next(item["metadata"]["name"] for item in documents if item["kind"] == "ServiceAccount")
        token = installed_crds.run("create", "token", name, "-n", fresh_namespace).stdout.strip()
        config = yaml.safe_load(installed_crds.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    return install


@pytest.mark.parametrize("clusterwide", [False, True], ids=["namespace", "cluster"])
async def test_the_charts_rights_are_enough(
    account: Callable[[bool], Path],
    installed_crds: Cluster,
    operator_settings: OperatorSettings,
    run_operator: Make,
    caplog: pytest.LogCaptureFixture,
    clusterwide: bool,
) -> None:
    """Lease, lists, watches, status, finalizer and the watch of Secrets: nothing is forbidden."""
    namespace = operator_settings.lease_namespace
    kubeconfig = await asyncio.to_thread(account, clusterwide)
    settings = replace(
        operator_settings,
        kubeconfig=str(kubeconfig),
        namespaces=() if clusterwide else (namespace,),
        lease_name="op-llmspell-storage",
    )
    operator = run_operator(settings)
    operator.configure = lambda engine: setattr(engine, "finalize", True)
    operator.start()
    await operator.started()
    await asyncio.to_thread(installed_crds.apply, tenant_manifest(namespace, "one"))
    key = Key(Kind.TENANT, namespace, "one")
    await until(lambda: ready(operator.engine.world.get(key)))
    await asyncio.to_thread(installed_crds.run, "delete", "tenant", "one", "-n", namespace, "--timeout=60s")
    assert await operator.stop() is ExitCode.STOPPED
    forbidden = [record.getMessage() for record in caplog.records if "forbidden" in record.getMessage().lower()]
    assert not forbidden
