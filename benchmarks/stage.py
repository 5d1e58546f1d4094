"""Where the operator is measured: a control plane and a PostgreSQL of its own, bootstrapped as the documentation says."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.devenv.environment import KUBECONFIG_VARIABLE, POSTGRES_URL_VARIABLE, Environment, Wishes
from storage_operator.errors import ApiNotFound, ApiUnavailable

GROUP = "storage.llmspell.dev/v1alpha1"
NAMESPACE = "bench"
DATABASE = "bench"
CREATORS = 24
_UNCHANGED = {'kind="Tenant"', 'phase="total"', 'result="unchanged"'}


@dataclass(slots=True)
class Stage:
    """A running environment with the custom resources installed."""

    environment: Environment
    client: ApiClient
    superuser_url: str
    admin_dsn: str
    procs: list[subprocess.Popen[bytes]] = field(default_factory=list)


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Tenant as an application team would write it."""
    return {
        "apiVersion": GROUP,
        "kind": "Tenant",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "tenantId": name,
            "clusterRef": {"name": "main"},
            "quotas": {"connections": 5, "statementTimeout": "30s", "idleInTransactionTimeout": "60s"},
            **spec,
        },
    }


@asynccontextmanager
async def stage(name: str = "bench") -> AsyncIterator[Stage]:
    """Set everything up, and take it down again whatever happens."""
    for variable in (KUBECONFIG_VARIABLE, POSTGRES_URL_VARIABLE):
        os.environ.pop(variable, None)  # a benchmark never runs on somebody's cluster
    environment = Environment(name)
    environment.down()
    environment.up(Wishes(), lambda line: print(f"  {line}", flush=True))
    try:
        superuser = environment.postgres_url()
        dsn = _bootstrap(superuser)
        client = await ApiClient.connect(str(environment.kubeconfig()), connections=64)
        try:
            await _install(client, dsn)
            yield Stage(environment, client, superuser, dsn)
        finally:
            await client.aclose()
    finally:
        environment.down()


def _bootstrap(superuser: str) -> str:
    """Prepare the database as a superuser once; returns the operator's DSN, which is no superuser's."""
    command = [sys.executable, "-m", "storage_operator.cli.main", "database", "bootstrap"]
    environment = {**os.environ, POSTGRES_URL_VARIABLE: superuser}
    done = subprocess.run(
        [*command, "--database", DATABASE], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip().splitlines()[-1]


async def _install(client: ApiClient, dsn: str) -> None:
    for file in sorted(Path("crds").glob("*.yaml")):
        definition = yaml.safe_load(file.read_text("utf-8"))
        await client.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body=definition)
    await client.request("POST", "/api/v1/namespaces", body={"metadata": {"name": NAMESPACE}})
    secret = {"metadata": {"name": "main-admin"}, "data": {"dsn": base64.b64encode(dsn.encode()).decode()}}
    await client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body=secret)
    deadline = time.monotonic() + 30
    for plural in ("tenants", "storageclusters", "storagecomponents"):
        while not await _served(client, plural):
            if time.monotonic() > deadline:
                raise TimeoutError("the custom resources are not served")
            await asyncio.sleep(0.2)


async def _served(client: ApiClient, plural: str) -> bool:
    try:
        return await client.find(f"/apis/{GROUP}/namespaces/{NAMESPACE}/{plural}") is not None
    except ApiUnavailable:  # 429: its storage is being initialised
        return False


async def create_cluster(client: ApiClient, **spec: Any) -> None:
    """Create the StorageCluster that every tenant refers to."""
    body = {
        "apiVersion": GROUP,
        "kind": "StorageCluster",
        "metadata": {"name": "main", "namespace": NAMESPACE},
        "spec": {"connection": {"secretRef": {"name": "main-admin"}}, **spec},
    }
    await client.request("POST", f"/apis/{GROUP}/namespaces/{NAMESPACE}/storageclusters", body=body)


class Operator:
    """An operator as a child process, with its memory and its metrics."""

    def __init__(self, stage: Stage, command: list[str], log: Path, port: int | None = None) -> None:
        """Start it; its log goes to a file."""
        environment = {**os.environ, "KUBECONFIG": str(stage.environment.kubeconfig())}
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log.open("wb")
        self.port = port
        self.process = subprocess.Popen(command, env=environment, stdout=self._log, stderr=subprocess.STDOUT)

    def memory_mb(self) -> float:
        """Return the resident set in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", text)
        return 0.0 if found is None else int(found[1]) / 1024

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counters(self) -> dict[str, float]:
        """Read the process's own counters, summed over labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            text = response.read().decode()
        totals: dict[str, float] = {"unchanged tenants": 0.0}
        for line in text.splitlines():
            if not line.startswith("#") and " " in line:
                name, _, value = line.rpartition(" ")
                plain = name.partition("{")[0]
                totals[plain] = totals.get(plain, 0.0) + float(value)
                if (
                    plain.endswith("reconcile_seconds_count")
                    and set(name[:-1].partition("{")[2].split(",")) >= _UNCHANGED
                ):
                    totals["unchanged tenants"] = float(value)
                if plain.endswith("kubernetes_requests_total") and 'method="PATCH"' in name:
                    totals["patches"] = totals.get("patches", 0.0) + float(value)
        return totals

    def stop(self) -> None:
        """End it and wait."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


def our_operator(stage: Stage, port: int) -> Operator:
    """Start ours as the documentation says."""
    command = [
        sys.executable, "-m", "storage_operator.cli.main", "operator", "run",
        "--namespace", NAMESPACE, "--http-port", str(port), "--log-format", "json",
    ]  # fmt: skip
    return Operator(stage, command, Path("build/bench/operator.log"), port)


def noop_operator(stage: Stage) -> Operator:
    """Start the peer."""
    file = Path(__file__).with_name("noop_operator.py")
    command = [sys.executable, "-m", "kopf", "run", str(file), "--namespace", NAMESPACE, "--standalone"]
    return Operator(stage, command, Path("build/bench/noop.log"))


class ReadyWatch:
    """Notes when each Tenant was seen Ready for the generation that it has."""

    def __init__(self, client: ApiClient) -> None:
        """Prepare; ``run`` is a task."""
        self._client = client
        self.ready: dict[str, float] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/tenants"
        version = (await self._client.get(path))["metadata"]["resourceVersion"]
        while True:
            async for event in self._client.watch(path, {"resourceVersion": version}, inactivity=3600):
                body = event["object"]
                if event["type"] == "BOOKMARK":
                    continue
                version = body["metadata"].get("resourceVersion", version)
                self._note(body)

    def _note(self, body: Mapping[str, Any]) -> None:
        for condition in (body.get("status") or {}).get("conditions") or ():
            current = condition.get("observedGeneration") == body["metadata"].get("generation")
            if condition["type"] == "Ready" and condition["status"] == "True" and current:
                self.ready.setdefault(body["metadata"]["name"], time.monotonic())
                self._news.set()

    async def wait_for(self, names: Iterable[str], timeout: float) -> None:
        """Wait until all of these are Ready."""
        missing = set(names) - self.ready.keys()
        deadline = time.monotonic() + timeout
        while missing:
            self._news.clear()
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                await self._news.wait()
            missing -= self.ready.keys()


async def create_all(client: ApiClient, bodies: list[dict[str, Any]]) -> dict[str, float]:
    """Create objects as fast as the API server takes them; returns when each create was answered."""
    created: dict[str, float] = {}
    pending = iter(bodies)
    path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/tenants"

    async def work() -> None:
        for body in pending:
            await client.request("POST", path, body=body)
            created[body["metadata"]["name"]] = time.monotonic()

    await asyncio.gather(*(work() for _ in range(CREATORS)))
    return created


async def delete_all(client: ApiClient, *, strip_finalizers: bool = False) -> None:
    """Delete every Tenant and wait until none is left."""
    path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/tenants"
    await client.request("DELETE", path)
    while items := (await client.get(path))["items"]:
        if strip_finalizers:
            for item in items:
                target = f"{path}/{item['metadata']['name']}"
                patch = {"metadata": {"finalizers": None}}
                try:
                    await client.request("PATCH", target, body=patch, content_type="application/merge-patch+json")
                except ApiNotFound:
                    continue  # gone already, which is what is wanted
        await asyncio.sleep(0.5)
