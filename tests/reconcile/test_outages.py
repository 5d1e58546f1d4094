"""Servers that stop, start and die while tenants are provisioned: nothing is lost, and nobody else waits."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from storage_operator.adapters.postgres import installation as contacted
from storage_operator.adapters.postgres import server as guarded
from storage_operator.adapters.postgres.server import ACQUIRE_TIMEOUT_SECONDS, Server
from storage_operator.devenv import ownership
from storage_operator.devenv.postgres import EmbeddedPostgres
from tests.plugins.installation import Installation, bootstrapped_on
from tests.reconcile.stage import Stage, opens


def started(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """Start a server that keeps what it committed when it is killed: losing it is what the faster setting allows."""
    return server.start(durable=True)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that tests may stop, and start again."""
    name = f"outage-{os.getpid()}"
    ownership.claim(name)
    server = EmbeddedPostgres(name)
    try:
        yield started(server)
    finally:
        server.remove()
        ownership.release(name)


@pytest.fixture(scope="module")
def mortal(own_server: EmbeddedPostgres) -> Iterator[Installation]:
    """Give a bootstrapped database on it, which the first test migrates."""
    with bootstrapped_on(own_server.dsn()) as made:
        yield made
        if not own_server.running():
            started(own_server)


async def until_ready(stage: Stage, keys: list[Any], seconds: float = 200.0) -> None:
    """Retry what is not Ready, as the queue would, until all are."""
    deadline = time.monotonic() + seconds
    while left := [key for key in (stage.cluster, *keys) if stage.condition(key) != ("True", "Ready")]:
        assert time.monotonic() < deadline, [stage.world.bodies[key].get("status") for key in left[:2]]
        await asyncio.gather(*(stage.run(key) for key in left))
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_server_that_stops_during_a_burst_costs_only_time(
    own_server: EmbeddedPostgres, mortal: Installation, installation: Installation, how: str
) -> None:
    """Tenants of a dead server fail fast with a reason and become Ready after it; another server's are not delayed."""
    stage, other = Stage(mortal), Stage(installation)
    await asyncio.gather(stage.run(stage.cluster), other.run(other.cluster))
    keys = [stage.tenant(f"burst-{how}-{number}") for number in range(12)]
    burst = asyncio.gather(*(stage.run(key) for key in keys))
    await asyncio.sleep(0.15)
    await asyncio.to_thread(own_server.stop if how == "stopped" else lambda: own_server.kill(signal.SIGKILL))
    await burst
    began = time.monotonic()
    neighbours = [await other.ready(f"calm-{how}-{number}") for number in range(3)]
    late = stage.tenant(f"late-{how}")
    await stage.run(late)
    assert stage.condition(late, "Provisioned")[0] == "Unknown"
    assert time.monotonic() - began < ACQUIRE_TIMEOUT_SECONDS, "somebody waited for the dead server"
    await asyncio.to_thread(started, own_server)
    await until_ready(stage, [*keys, late])
    for key in (*keys, late):
        assert opens(stage.dsn(key), key.name)
    assert len(neighbours) == 3
    await asyncio.gather(stage.reconciler.close(), other.reconciler.close())


async def test_the_breaker_answers_at_once_while_it_is_open(
    own_server: EmbeddedPostgres, mortal: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed connection further calls fail without touching the network, and pass again by themselves."""
    stage = Stage(mortal)
    await stage.run(stage.cluster)
    await asyncio.to_thread(own_server.stop)
    keys = [stage.tenant(f"quick-{number}") for number in range(20)]
    await stage.run(keys[0])
    breaker = stage.tended.server.breaker
    assert breaker.failures > 0
    # However long it takes: it does not open for another call meanwhile.
    opens_again, breaker.open_until = breaker.open_until, float("inf")
    tried: list[str] = []
    for place, name in ((guarded, "connect"), (contacted, "connect"), (Server, "_opened")):
        monkeypatch.setattr(place, name, _noted(getattr(place, name), tried))
    await asyncio.gather(*(stage.run(key) for key in keys[1:]))
    assert tried == []
    assert {stage.condition(key, "Provisioned")[0] for key in keys} == {"Unknown"}
    breaker.open_until = opens_again
    await asyncio.to_thread(started, own_server)
    await until_ready(stage, keys)
    assert {"connect", "_opened"} >= set(tried) > set()
    await stage.reconciler.close()


def _noted(call: Callable[..., Any], tried: list[str]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def noted(*arguments: Any, **named: Any) -> Any:
        tried.append(call.__name__)
        return await call(*arguments, **named)

    return noted
