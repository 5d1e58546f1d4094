"""How fast the operator's runtime is by itself: a burst of tenants, each reconciled by writing one status.

The database is left out on purpose, so the figure is the ceiling that watches, queue and status patches set. The
tenants are created by another process, so memory is the operator's alone.

    KUBECONFIG=... python -m benchmarks.runtime_burst --objects 500
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.adapters.kubernetes.objects import KubernetesWorld, collection_path
from storage_operator.errors import ApiConflict, ApiNotFound
from storage_operator.handlers.routing import ready
from storage_operator.handlers.runner import Runner
from storage_operator.metrics import Metrics
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Kind, Outcome

NAMESPACE = "bench-runtime"


class StatusEngine:
    """Writes Ready, once a generation."""

    def __init__(self, world: KubernetesWorld) -> None:
        self.world = world
        self.calls = 0
        self.ready_at: dict[Key, float] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """Write the status of one object."""
        self.calls += 1
        body = self.world.get(key)
        if body is None:
            return Outcome("deleted")
        generation = body["metadata"]["generation"]
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        await self.world.patch_status(body, {"observedGeneration": generation, "conditions": [condition]})
        self.ready_at.setdefault(key, time.monotonic())
        return Outcome("unchanged")

    async def on_lead(self) -> None:
        """Nothing to fence."""

    async def aclose(self) -> None:
        """Nothing to close."""


def memory_megabytes(field: str = "VmRSS") -> float:
    """Read this process's memory from the kernel."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


async def create(kubeconfig: str, objects: int) -> None:
    """Create the tenants, sixteen requests at a time."""
    client = await ApiClient.connect(kubeconfig)
    path = collection_path(Kind.TENANT, NAMESPACE)
    numbers = iter(range(objects))

    async def worker() -> None:
        for number in numbers:
            body = {
                "apiVersion": "storage.llmspell.dev/v1alpha1",
                "kind": "Tenant",
                "metadata": {"name": f"t{number}", "namespace": NAMESPACE},
                "spec": {"tenantId": f"bench-{number}", "clusterRef": {"name": "main"}},
            }
            await client.request("POST", path, body=body)

    await asyncio.gather(*(worker() for _ in range(16)))
    await client.aclose()


async def prepare(kubeconfig: str) -> None:
    """Start from an empty namespace."""
    client = await ApiClient.connect(kubeconfig)
    body = {"metadata": {"name": NAMESPACE}}
    try:
        await client.request("POST", "/api/v1/namespaces", body=body)
    except ApiConflict:
        await client.request("DELETE", collection_path(Kind.TENANT, NAMESPACE), timeout=120)
        await client.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases", timeout=120)
    except ApiNotFound as error:
        raise SystemExit(str(error)) from error
    await client.aclose()


async def measure(kubeconfig: str, objects: int) -> dict[str, Any]:
    """Run the operator and one burst."""
    await prepare(kubeconfig)
    metrics = Metrics()
    engines: list[StatusEngine] = []

    async def build(world: KubernetesWorld, *_: Any) -> StatusEngine:
        engines.append(StatusEngine(world))
        return engines[0]

    settings = OperatorSettings(
        namespaces=(NAMESPACE,), kubeconfig=kubeconfig, http_host="127.0.0.1", http_port=0, lease_namespace=NAMESPACE,
        cluster_concurrency=16,
    )  # fmt: skip
    runner = Runner(settings, build, metrics=metrics)
    task = asyncio.create_task(runner.run())
    while not runner.watching:  # noqa: ASYNC110 - a benchmark may poll
        await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    empty = memory_megabytes()
    started, processor = time.monotonic(), time.process_time()
    creator = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-m", "benchmarks.runtime_burst", "--create", "--objects", str(objects)],
        env={**os.environ, "KUBECONFIG": kubeconfig},
    )
    created_after = None
    while len(engines[0].ready_at) < objects:
        await asyncio.sleep(0.05)
        if created_after is None and creator.poll() is not None:
            created_after = time.monotonic() - started
    seconds = max(engines[0].ready_at.values()) - started
    processor = time.process_time() - processor
    await asyncio.sleep(2.0)
    first = min(engines[0].ready_at.values()) - started
    total = memory_megabytes()
    world = engines[0].world
    result = {
        "objects": objects,
        "seconds": round(seconds, 2),
        "first_seconds": round(first, 2),
        "objects_per_second": round(objects / (seconds - first), 1),
        "cpu_milliseconds_per_object": round(processor / objects * 1000, 2),
        "created_after_seconds": round(created_after or seconds, 2),
        "reconciles_per_object": round(engines[0].calls / objects, 3),
        "patches_per_object": round(patches(metrics) / objects, 3),
        "ready": sum(ready(body) for body in world.list(Kind.TENANT)),
        "memory_empty_megabytes": round(empty, 1),
        "memory_megabytes": round(total, 1),
        "kilobytes_per_object": round((total - empty) * 1024 / objects, 1),
    }
    runner.stop()
    await task
    return result


def patches(metrics: Metrics) -> float:
    """Count the PATCH requests."""
    return sum(
        sample.value
        for family in metrics.api_requests.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["method"] == "PATCH"
    )


def main() -> None:
    """Read the arguments and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--create", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kubeconfig = os.environ["KUBECONFIG"]
    if arguments.create:
        asyncio.run(create(kubeconfig, arguments.objects))
        return
    print(json.dumps(asyncio.run(measure(kubeconfig, arguments.objects)), indent=2))


if __name__ == "__main__":
    main()
