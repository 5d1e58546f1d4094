"""Servers that stop, start and die while tenants are provisioned: nothing is lost, and nobody else waits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from storage_operator.devenv import ownership
from storage_operator.devenv.postgres import EmbeddedPostgres
from tests.plugins.installation import Installation, bootstrapped_on
from tests.reconcile.stage import Stage, opens


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """Give a server that the test may stop; it runs again at the end, so that its roles can be dropped."""
    name = f"outage-{os.getpid()}"
    ownership.claim(name)
    server = EmbeddedPostgres(name)
    try:
        # A killed server must keep what it committed: losing it is what the faster setting allows.
        yield server.start(durable=True)
    finally:
        server.remove()
        ownership.release(name)


@pytest.fixture
def mortal(own_server: EmbeddedPostgres) -> Iterator[Installation]:
    """Give a bootstrapped database on it."""
    with bootstrapped_on(own_server.dsn()) as made:
        yield made
        if not own_server.running():
            own_server.start()


async def until_ready(stage: Stage, keys: list[Any], seconds: float = 60.0) -> None:
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
    keys = [stage.tenant(f"burst-{number}") for number in range(12)]
    burst = asyncio.gather(*(stage.run(key) for key in keys))
    await asyncio.sleep(0.15)
    await asyncio.to_thread(own_server.stop if how == "stopped" else lambda: own_server.kill(signal.SIGKILL))
    await burst
    began = time.monotonic()
    neighbours = [await other.ready(f"calm-{how}-{number}") for number in range(3)]
    assert time.monotonic() - began < 8
    late = stage.tenant("late")
    began = time.monotonic()
    await stage.run(late)
    assert stage.condition(late, "Provisioned")[0] == "Unknown"
    assert time.monotonic() - began < 8
    await asyncio.to_thread(own_server.start)
    await until_ready(stage, [*keys, late])
    for key in (*keys, late):
        assert opens(stage.dsn(key), key.name)
    assert len(neighbours) == 3
    await asyncio.gather(stage.reconciler.close(), other.reconciler.close())


async def test_the_breaker_answers_at_once_while_it_is_open(own_server: EmbeddedPostgres, mortal: Installation) -> None:
    """After a failed connection further calls fail without touching the network, and pass again by themselves."""
    stage = Stage(mortal)
    await stage.run(stage.cluster)
    await asyncio.to_thread(own_server.stop)
    keys = [stage.tenant(f"quick-{number}") for number in range(20)]
    await stage.run(keys[0])
    began = time.monotonic()
    await asyncio.gather(*(stage.run(key) for key in keys[1:]))
    assert time.monotonic() - began < 5
    await asyncio.to_thread(own_server.start)
    await until_ready(stage, keys)
    await stage.reconciler.close()
