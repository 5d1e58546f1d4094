"""Leader election against a real API server, and its safety when that server hangs or forgets."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.adapters.kubernetes.lease import Lease, LeaseTiming
from storage_operator.errors import LeaseLost
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import until

pytestmark = pytest.mark.cluster
TIMING = LeaseTiming(duration=3.0, renew_deadline=2.0, retry_period=0.3)
Candidate = Callable[[str], Lease]


@pytest.fixture
def candidate(api: ApiClient, fresh_namespace: str) -> Candidate:
    """Give a function that makes candidates for one Lease."""
    return lambda identity: Lease(api, namespace=fresh_namespace, name="test", identity=identity, timing=TIMING)


@contextlib.asynccontextmanager
async def holding(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    """Renew in the background."""
    task = asyncio.create_task(lease.hold())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def spec(api: ApiClient, lease: Lease) -> dict[str, str]:
    """Read the Lease's record."""
    found: dict[str, str] = (await api.get(lease.path))["spec"]
    return found


async def test_the_first_candidate_makes_the_lease_and_the_second_waits(api: ApiClient, candidate: Candidate) -> None:
    """A missing Lease is created; a held one is not taken while it is renewed."""
    first, second = candidate("one"), candidate("two")
    await asyncio.wait_for(first.acquire(), 5)
    async with holding(first):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.acquire(), TIMING.duration + 1.5)
        assert first.leading
        assert (await spec(api, first))["holderIdentity"] == "one"


async def test_releasing_hands_over_at_once(candidate: Candidate) -> None:
    """A clean end costs the next leader one retry period, not a lease duration."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.5)
    started = time.monotonic()
    await first.release()
    await asyncio.wait_for(waiting, 5)
    assert time.monotonic() - started < 1.5
    assert not first.leading


async def test_a_holder_that_vanishes_is_replaced_after_the_duration(candidate: Candidate) -> None:
    """Neither earlier, which would be two leaders, nor much later."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    started = time.monotonic()
    await asyncio.wait_for(second.acquire(), TIMING.duration + 3)
    assert TIMING.duration <= time.monotonic() - started < TIMING.duration + 2


async def test_timestamps_of_a_skewed_clock_are_not_believed(api: ApiClient, candidate: Candidate) -> None:
    """A record that looks hours old is held as long as it changes, and one from the future does not stay."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    for number, moment in enumerate(("2001-01-01T00:00:00.000000Z", "2091-01-01T00:00:00.000000Z")):
        lease = await api.get(first.path)
        lease["spec"]["renewTime"] = moment
        await api.request("PUT", first.path, body=lease)
        if number == 0:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(second.acquire(), 1.0)
    await asyncio.wait_for(second.acquire(), TIMING.duration + 3)


async def test_a_deleted_lease_is_made_again_by_its_holder(api: ApiClient, candidate: Candidate) -> None:
    """Deleting the Lease by hand does not give the work to two processes."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with holding(first) as held:
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.5)
        await api.request("DELETE", first.path)
        await asyncio.sleep(1.5)
        assert (await spec(api, first))["holderIdentity"] == "one"
        assert not held.done()
        waiting.cancel()


async def test_a_lease_taken_by_force_ends_the_holder(api: ApiClient, candidate: Candidate) -> None:
    """Who reads another name in the record stops, whatever its own clock says."""
    first = candidate("one")
    await first.acquire()
    async with holding(first) as held:
        lease = await api.get(first.path)
        lease["spec"]["holderIdentity"] = "intruder"
        await api.request("PUT", first.path, body=lease)
        with pytest.raises(LeaseLost, match="intruder"):
            await asyncio.wait_for(held, 3)
        assert not first.leading


async def test_with_a_hanging_api_server_the_holder_is_out_before_anybody_else_can_lead(
    installed_crds: Cluster, candidate: Candidate
) -> None:
    """A server that takes connections and never answers must not keep a leader leading."""
    assert installed_crds.plane is not None
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with holding(first) as held:
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.5)
        installed_crds.plane.kill("kube-apiserver", signal.SIGSTOP)
        started = time.monotonic()
        try:
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(held, 6)
            out_after = time.monotonic() - started
        finally:
            installed_crds.plane.kill("kube-apiserver", signal.SIGCONT)
        await asyncio.wait_for(waiting, 15)
        led_after = time.monotonic() - started
    assert out_after <= TIMING.renew_deadline + 0.3
    assert out_after < led_after


async def test_a_short_restart_of_the_api_server_keeps_the_leader(
    installed_crds: Cluster, api: ApiClient, fresh_namespace: str
) -> None:
    """A server that is away for less than the renew deadline changes nothing."""
    assert installed_crds.plane is not None
    # A busy machine may take many seconds to start the server again.
    timing = LeaseTiming(duration=90.0, renew_deadline=60.0, retry_period=0.5)
    lease = Lease(api, namespace=fresh_namespace, name="test", identity="one", timing=timing)
    await lease.acquire()
    async with holding(lease) as held:
        await asyncio.to_thread(installed_crds.plane.restart, "kube-apiserver", signal.SIGKILL)
        before = lease.renewed_at
        await until(lambda: lease.renewed_at > before, timeout=60, what="renewed after the restart")
        assert not held.done()


@pytest.mark.parametrize(
    "durations", [(3.0, 3.0, 1.0), (3.0, 2.0, 2.0), (3.0, 2.0, 0.0)], ids=["deadline", "period", "zero"]
)
def test_durations_that_allow_two_leaders_are_refused(durations: tuple[float, float, float]) -> None:
    """The order retry period < renew deadline < duration is what safety rests on."""
    with pytest.raises(ValueError, match="a lease needs"):
        LeaseTiming(*durations)
