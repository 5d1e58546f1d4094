"""Measure the operator: bursts, a new tenant during resync, drift repair, requests and memory an object.

Our operator works as the documented role, which is no superuser. The peer is a kopf operator that does nothing but a
finalizer and a status, in the same run, on the same API server. ``python -m benchmarks.operator [--quick]``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import socket
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks.results import Result, figure, percentile, publish
from benchmarks.stage import (
    DATABASE,
    GROUP,
    NAMESPACE,
    Operator,
    ReadyWatch,
    Stage,
    create_all,
    create_cluster,
    delete_all,
    noop_operator,
    our_operator,
    stage,
    tenant,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

COMMAND = "make bench-operator"
BURST_SECONDS = 600.0
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Burst:
    """One burst of tenants: how fast they became Ready, and what that cost."""

    seconds: float
    latencies: Sequence[float]
    memory_mb: float
    cpu_seconds: float
    counters: dict[str, float]

    @property
    def rate(self) -> float:
        """Ready tenants a second, from the first create to the last Ready."""
        return len(self.latencies) / self.seconds


@asynccontextmanager
async def watching(scene: Stage) -> AsyncIterator[ReadyWatch]:
    """Watch tenants for the length of a block."""
    watch = ReadyWatch(scene.client)
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0.2)  # the watch's list is answered
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def burst(scene: Stage, operator: Operator, names: Sequence[str], *, counted: bool = True) -> Burst:
    """Create tenants at once and wait until all are Ready."""
    before = operator.counters() if counted else {}
    used = operator.cpu_seconds()
    async with watching(scene) as watch:
        started = time.monotonic()
        created = await create_all(scene.client, [tenant(name) for name in names])
        await watch.wait_for(names, BURST_SECONDS)
        latencies = [watch.ready[name] - created[name] for name in names]
        seconds = max(watch.ready[name] for name in names) - started
    after = operator.counters() if counted else {}
    spent = {name: after[name] - before.get(name, 0.0) for name in after}
    return Burst(seconds, latencies, operator.memory_mb(), operator.cpu_seconds() - used, spent)


async def when_serving(scene: Stage) -> None:
    """Wait until the StorageCluster is Ready."""
    path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/storageclusters/main"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = (await scene.client.get(path)).get("status") or {}
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError("the StorageCluster did not become Ready; see build/bench/operator.log")


async def measure_noop(scene: Stage, count: int) -> Burst:
    """The peer's burst."""
    operator = noop_operator(scene)
    try:
        await asyncio.sleep(3)  # it says nowhere that it watches
        done = await burst(scene, operator, [f"noop-{number:05d}" for number in range(count)], counted=False)
    finally:
        operator.stop()
    await delete_all(scene.client, strip_finalizers=True)
    return done


@dataclass(frozen=True, slots=True)
class Resync:
    """Tenants looked at again and again: round trips for one that is unchanged, and how long a new one waits meanwhile."""

    round_trips: float
    latencies: Sequence[float]


async def resync(scene: Stage, operator: Operator, count: int) -> Resync:
    """Look at everything every 20 s, count round trips for a while, then create tenants one by one."""
    path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/storageclusters/main"
    await scene.client.request("PATCH", path, body={"spec": {"drift": {"interval": "20s"}}}, content_type=MERGE)
    await asyncio.sleep(5)
    before = operator.counters()
    await asyncio.sleep(15)
    after = operator.counters()
    looked = after["unchanged tenants"] - before["unchanged tenants"]
    trips = after["llmspell_operator_sql_round_trips_total"] - before["llmspell_operator_sql_round_trips_total"]
    latencies: list[float] = []
    async with watching(scene) as watch:
        for number in range(count):
            name = f"late-{number:03d}"
            created = await create_all(scene.client, [tenant(name)])
            await watch.wait_for([name], 60)
            latencies.append(watch.ready[name] - created[name])
            await asyncio.sleep(0.3)
    return Resync(trips / looked, latencies)


async def drift_repair(scene: Stage, names: Sequence[str]) -> list[float]:
    """Break roles by hand and see how long each stays broken, at a drift interval of 20 s."""
    repaired: dict[str, float] = {}
    with psycopg.connect(scene.superuser_url, autocommit=True, dbname=DATABASE) as connection:
        rows = connection.execute("SELECT login FROM llmspell.tenant_logins WHERE tenant = ANY (%s)", (list(names),))
        logins = [str(login) for (login,) in rows.fetchall()]
        for login in logins:
            connection.execute(f'ALTER ROLE "{login}" CONNECTION LIMIT 77'.encode())
        started = time.monotonic()
        query = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND rolconnlimit <> 77"
        while len(repaired) < len(logins):
            for (login,) in connection.execute(query, (logins,)).fetchall():
                repaired.setdefault(str(login), time.monotonic() - started)
            if time.monotonic() - started > 120:
                raise TimeoutError("drift was not repaired within two minutes")
            await asyncio.sleep(0.1)
    return list(repaired.values())


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def measure(small: int, large: int, crowd: int) -> list[Result]:
    """Run everything once."""
    async with stage() as scene:
        print(f"no-op kopf operator, {large} tenants", flush=True)
        peer = await measure_noop(scene, large)
        print(f"  {peer.rate:.1f} tenants/s", flush=True)
        await create_cluster(scene.client, limits={"concurrency": 4, "connections": 4})
        operator = our_operator(scene, free_port())
        try:
            await when_serving(scene)
            return await _ours(scene, operator, peer, small, large, crowd)
        finally:
            operator.stop()


async def _ours(scene: Stage, operator: Operator, peer: Burst, small: int, large: int, crowd: int) -> list[Result]:
    base = operator.memory_mb()
    names = {
        "warm": [f"warm-{n:03d}" for n in range(10)],
        "small": [f"small-{n:05d}" for n in range(small)],
        "large": [f"large-{n:05d}" for n in range(large)],
    }
    await burst(scene, operator, names["warm"])
    first = await burst(scene, operator, names["small"])
    print(f"  {small} tenants: {first.rate:.1f}/s", flush=True)
    second = await burst(scene, operator, names["large"])
    print(f"  {large} tenants: {second.rate:.1f}/s", flush=True)
    looked = await resync(scene, operator, 20)
    repaired = await drift_repair(scene, random.sample(names["large"], 20))
    results = _figures(peer, first, second, base, looked, repaired, small, large)
    if crowd:
        path = f"/apis/{GROUP}/namespaces/{NAMESPACE}/storageclusters/main"
        await scene.client.request("PATCH", path, body={"spec": {"drift": {"interval": "1h"}}}, content_type=MERGE)
        fill = [f"crowd-{n:05d}" for n in range(crowd - large - small)]
        await burst(scene, operator, fill)
        again = await burst(scene, operator, [f"last-{n:05d}" for n in range(small)])
        print(f"  {small} tenants beside {crowd}: {again.rate:.1f}/s", flush=True)
        results.append(
            figure(
                f"burst of {small} beside {crowd} tenants", "tenants/s", again.rate, f"≥ 0.8 of the rate at {small}",
                lambda rate: rate >= 0.8 * first.rate, peer=first.rate, peer_name=f"at {small}", command=COMMAND,
            )
        )  # fmt: skip
        results.append(
            figure(
                f"memory at {crowd} tenants", "MB", operator.memory_mb(), f"< {150 + 0.02 * crowd:.0f}",
                lambda mb: mb < 150 + 0.02 * crowd, command=COMMAND,
            )
        )  # fmt: skip
    return results


def _figures(
    peer: Burst,
    first: Burst,
    second: Burst,
    base: float,
    looked: Resync,
    repaired: Sequence[float],
    small: int,
    large: int,
) -> list[Result]:
    def per_object(name: str) -> float:
        return second.counters.get(name, 0.0) / large

    def make(name: str, unit: str, ours: float, wanted: str, holds: Any = None, **more: Any) -> Result:
        return figure(name, unit, ours, wanted, holds, command=COMMAND, **more)

    noop: dict[str, Any] = {"peer_name": "no-op kopf operator"}
    return [
        make(f"burst of {small}", "tenants/s", first.rate, "≥ 60", lambda rate: rate >= 60),
        make(f"burst of {large}", "tenants/s", second.rate, "≥ 60", lambda rate: rate >= 60, peer=peer.rate, **noop),
        *(
            make(
                f"time to Ready in a burst of {large}, p{share}", "s", percentile(second.latencies, share / 100),
                "< 30" if share == 95 else "", (lambda seconds: seconds < 30) if share == 95 else None,
                peer=percentile(peer.latencies, share / 100), **noop,
            )
            for share in (50, 95, 99)
        ),
        make(
            "processor time of the operator an object",
            "ms",
            1000 * second.cpu_seconds / large,
            "",
            peer=1000 * peer.cpu_seconds / large,
            **noop,
        ),
        make("SQL statements an object", "statements", per_object("llmspell_operator_sql_statements_total"), ""),
        make("round trips an object", "round trips", per_object("llmspell_operator_sql_round_trips_total"), ""),
        make("PATCHes an object", "requests", per_object("patches"), "≤ 3", lambda count: count <= 3),
        make("memory before the first tenant", "MB", base, "< 150", lambda mb: mb < 150),
        make(
            f"memory at {large + small} tenants", "MB", second.memory_mb, f"< {150 + 0.02 * (large + small):.0f}",
            lambda mb: mb < 150 + 0.02 * (large + small), peer=peer.memory_mb, **noop,
        ),
        make(
            "round trips an unchanged tenant",
            "round trips",
            looked.round_trips,
            "≤ 2",
            lambda trips: trips <= 2,
        ),
        make(
            f"new tenant while {large} resync, slowest of {len(looked.latencies)}",
            "s",
            max(looked.latencies),
            "< 2",
            lambda s: s < 2,
        ),
        make("drift repaired at an interval of 20 s, p50", "s", percentile(repaired, 0.5), ""),
        make("drift repaired at an interval of 20 s, slowest", "s", max(repaired), "≤ 25", lambda s: s <= 25),
    ]  # fmt: skip


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 and 200 tenants, no crowd: a look, not a result")
    parser.add_argument("--crowd", type=int, default=5000, help="existing tenants for the last burst; 0 leaves it out")
    options = parser.parse_args()
    small, large, crowd = (100, 200, 0) if options.quick else (100, 1000, options.crowd)
    publish("operator", asyncio.run(measure(small, large, crowd)))


if __name__ == "__main__":
    main()
