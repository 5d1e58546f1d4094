"""The whole thing: the operator's real process, a real API server, a real PostgreSQL, kubectl as a user types it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from storage_operator.devenv.process import free_port
from tests.plugins.controlplane import Cluster
from tests.plugins.installation import Installation, Molds, bootstrapped_on

# Reached only by what is broken: a machine that is busy with other things may take many times what a step needs.
WAIT_SECONDS = 120.0


def wait_for(
    condition: Callable[[], Any], what: str | Callable[[], str], timeout: float = WAIT_SECONDS, pause: float = 0.1
) -> Any:
    """Poll until a condition holds and return its value; fail with a sentence when it never does."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what() if callable(what) else what}")
        time.sleep(pause)
    return value


@dataclass(slots=True)
class OperatorProcess:
    """``llmspell operator run`` as a child, and what its endpoints say."""

    command: list[str]
    environment: dict[str, str]
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it watches."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: self.answers("/readyz"), lambda: f"the operator is ready; log:\n{self.tail()}")

    def answers(self, path: str) -> bool:
        """Whether an endpoint answers 200."""
        assert self.process is not None
        assert self.process.poll() is None, f"the operator ended with {self.process.returncode}:\n{self.tail()}"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def metrics(self) -> str:
        """Return /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def sample(self, name: str, **labels: str) -> float:
        """Add up the samples of one metric that carry these labels."""
        families = text_string_to_metric_families(self.metrics())
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def tail(self) -> str:
        """Return the log's end."""
        return (
            "".join(self.log.read_text(encoding="utf-8").splitlines(keepends=True)[-30:]) if self.log.exists() else ""
        )

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(100)


@dataclass(slots=True)
class Scene:
    """One namespace of the cluster with a StorageCluster on a database of its own."""

    cluster: Cluster
    namespace: str
    installation: Installation
    operator: OperatorProcess
    names: list[str] = field(default_factory=list)
    asked: int = 0

    def tenant(self, name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Apply a Tenant."""
        manifest = {
            "apiVersion": "storage.llmspell.dev/v1alpha1",
            "kind": "Tenant",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations or {}},
            "spec": {"tenantId": name, "clusterRef": {"name": "main"}, **spec},
        }
        self.cluster.apply(manifest)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Read an object; empty when it does not exist."""
        done = self.cluster.run("-n", self.namespace, "get", kind, name, "-o", "json", check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def condition(self, kind: str, name: str, type_: str) -> dict[str, Any]:
        """Read one condition for the present generation; empty when there is none."""
        body = self.get(kind, name)
        for condition in (body.get("status") or {}).get("conditions") or ():
            if condition["type"] == type_ and condition["observedGeneration"] == body["metadata"]["generation"]:
                return dict(condition)
        return {}

    def ready(self, kind: str, name: str, timeout: float = WAIT_SECONDS) -> None:
        """Wait until an object is Ready for its generation."""
        wait_for(
            lambda: self.condition(kind, name, "Ready").get("status") == "True",
            lambda: (
                f"{kind} {name} is Ready; it says {self.get(kind, name).get('status')}; log:\n{self.operator.tail()}"
            ),
            timeout,
        )

    def reason(self, kind: str, name: str, type_: str, reason: str, timeout: float = WAIT_SECONDS) -> str:
        """Wait for a condition's reason and return its message."""
        found = wait_for(
            lambda: (c := self.condition(kind, name, type_)).get("reason") == reason and c,
            lambda: f"{kind} {name} has {type_} {reason}; it says {self.get(kind, name).get('status')}",
            timeout,
        )
        return str(found["message"])

    def hurry(self, kind: str, name: str) -> None:
        """Ask for a look at an object now; by itself the operator looks again within seconds."""
        self.asked += 1
        wish = f"storage.llmspell.dev/reconcile={self.asked}"
        self.cluster.run("-n", self.namespace, "annotate", kind, name, "--overwrite", wish)

    def secret(self, name: str) -> dict[str, str]:
        """Read an application's Secret; empty when it does not exist."""
        data = self.get("secret", f"{name}-storage").get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def secrets(self) -> dict[str, dict[str, str]]:
        """Read the Secrets of all Tenants, by the Tenant's name, with one request."""
        found = self.cluster.get("-n", self.namespace, "secrets", "-l", "app.kubernetes.io/component=tenant")["items"]
        return {
            item["metadata"]["name"].removesuffix("-storage"): {
                key: base64.b64decode(value).decode() for key, value in item["data"].items()
            }
            for item in found
        }

    def login(self, name: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Log in as an application does: with the DSN of its Secret."""
        return psycopg.connect(self.secret(name)["dsn"], autocommit=True)

    def bring(self, name: str, dsn: str | None = None, **spec: Any) -> None:
        """Apply a further StorageCluster, with its admin Secret when a DSN is given."""
        self.cluster.apply(storage_cluster(self.namespace, name, f"{name}-admin", **spec))
        if dsn is not None:
            self.cluster.apply(admin_secret(self.namespace, dsn, f"{name}-admin"))

    def burst(self, names: Sequence[str], cluster: str = "main", **spec: Any) -> None:
        """Apply many Tenants in one request of kubectl."""
        items = [
            {
                "apiVersion": "storage.llmspell.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"tenantId": name, "clusterRef": {"name": cluster}, **spec},
            }
            for name in names
        ]
        self.cluster.apply({"apiVersion": "v1", "kind": "List", "items": items})

    def tenants(self) -> dict[str, dict[str, Any]]:
        """Read all Tenants of the namespace by name."""
        bodies = self.cluster.get("-n", self.namespace, "tenants")["items"]
        return {body["metadata"]["name"]: body for body in bodies}

    def all_ready(self, names: Sequence[str], timeout: float = WAIT_SECONDS) -> None:
        """Wait until many Tenants are Ready, with one request a look."""
        wait_for(
            lambda: not self.not_ready(names),
            lambda: f"{len(names)} tenants are Ready; not yet: {self.not_ready(names)}; log:\n{self.operator.tail()}",
            timeout,
        )

    def not_ready(self, names: Sequence[str]) -> dict[str, str]:
        """Name the Tenants that are not Ready, with the reason of each."""
        found = self.tenants()
        reasons = {name: ready_of(found[name]) if name in found else "missing" for name in names}
        return {name: reason for name, reason in reasons.items() if reason != "Ready"}


def ready_of(body: dict[str, Any]) -> str:
    """Return the reason of Ready; ``stale`` when it was observed at another generation."""
    for condition in (body.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Ready":
            current = condition["observedGeneration"] == body["metadata"]["generation"]
            return str(condition["reason"]) if current else "stale"
    return "none"


def logins_of(installation: Installation) -> set[str]:
    """Return the tenants' login roles that the server has for an installation."""
    with psycopg.connect(installation.superuser_dsn) as admin:
        rows = admin.execute(
            "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (f"{installation.names.owner}_t_",)
        ).fetchall()
    return {str(name) for (name,) in rows}


def ask(installation: Installation, query: LiteralString) -> Any:
    """Return the one value that a superuser's query gives."""
    with psycopg.connect(installation.superuser_dsn) as admin:
        row = admin.execute(query).fetchone()
    assert row is not None
    return row[0]


def refused(dsn: str) -> bool:
    """Tell whether the server lets nobody in by this DSN."""
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return True
    return False


@pytest.fixture(scope="module")
def database(superuser_url: str) -> Iterator[Installation]:
    """Give a database that a superuser has bootstrapped and nobody has migrated."""
    with bootstrapped_on(superuser_url) as made:
        yield made


@pytest.fixture(scope="module")
def migrated(molds: Molds) -> Iterator[Installation]:
    """Give a database that somebody has migrated already: for tests whose subject comes after it."""
    with molds.copy() as made:
        yield made


@contextmanager
def operator_in(
    cluster: Cluster, namespace: str, folder: Path, *, others: Sequence[str] = (), **environment: str
) -> Iterator[OperatorProcess]:
    """Run the operator for one namespace (and ``others``), and end it whatever happens."""
    # The same at each start of this operator, of which there are several.
    port = free_port()
    command = [sys.executable, "-m", "storage_operator.cli.main", "operator", "run", "--namespace", namespace]
    command += [part for name in others for part in ("--namespace", name)]
    command += ["--http-port", str(port), "--lease-namespace", namespace, "--log-format", "json"]
    variables = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), **environment}
    operator = OperatorProcess(command, variables, port, folder / "operator.log")
    try:
        yield operator
    finally:
        if operator.process is not None and operator.process.poll() is None:
            operator.process.kill()
            operator.process.wait()


def storage_cluster(namespace: str, name: str = "main", secret: str = "main-admin", **spec: Any) -> dict[str, Any]:
    """Write a StorageCluster that offers both modes and looks for drift every 5 s."""
    return {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "connection": {"secretRef": {"name": secret}},
            "tenancy": {"isolationModes": ["Role", "Sealed"]},
            "drift": {"interval": "5s"},
            "limits": {"usageInterval": "2s"},
            **spec,
        },
    }


def admin_secret(namespace: str, dsn: str, name: str = "main-admin") -> dict[str, Any]:
    """Write the admin's Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {"dsn": dsn},
    }


@contextmanager
def scene_on(
    cluster: Cluster, database: Installation, folder: Path, *, others: Sequence[str] = (), **environment: str
) -> Iterator[Scene]:
    """Make a namespace whose StorageCluster ``main`` is Ready, with the operator at work."""
    namespace = f"e2e-{database.database.name.removeprefix('test_')}"
    cluster.run("create", "namespace", namespace)
    with operator_in(cluster, namespace, folder, others=others, **environment) as operator:
        operator.start()
        made = Scene(cluster, namespace, database, operator)
        cluster.apply(storage_cluster(namespace))
        cluster.apply(admin_secret(namespace, database.operator_dsn))
        made.ready("storagecluster", "main")
        yield made
    cluster.run("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def scene(installed_crds: Cluster, database: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a namespace whose StorageCluster is Ready, with the operator at work."""
    with scene_on(installed_crds, database, tmp_path_factory.mktemp("operator")) as made:
        yield made
