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
from tests.plugins.operator import WAIT_SECONDS, until

pytestmark = pytest.mark.cluster
TIMING = LeaseTiming(duration=3.0, renew_deadline=2.0, retry_period=0.05)
Candidate = Callable[[str], Lease]


class Clock:
    """A clock that the test sets, so that no machine is too slow for a lease; it notes when it is asked."""

    def __init__(self) -> None:
        """Begin anywhere."""
        self.now = 1_000.0
        self.asked = 0

    def __call__(self) -> float:
        """Return the time."""
        self.asked += 1
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def asked_again(self) -> None:
        """Wait until who asks it has made a whole step of the protocol: one begins with this clock."""
        before = self.asked
        # A step asks at most four times, and one may be under way.
        await until(lambda: self.asked >= before + 8, what="the clock was asked")


@pytest.fixture
def clock() -> Clock:
    """Give the clock of the candidates."""
    return Clock()


@pytest.fixture
def candidate(api: ApiClient, fresh_namespace: str, clock: Clock) -> Candidate:
    """Give a function that makes candidates for one Lease."""
    return lambda identity: Lease(
        api, namespace=fresh_namespace, name="test", identity=identity, timing=TIMING, clock=clock
    )


@contextlib.asynccontextmanager
async def holding(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    """Renew in the background."""
    task = asyncio.create_task(lease.hold())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def waiting_for(lease: Lease) -> AsyncIterator[asyncio.Task[None]]:
    """Stand for the lease in the background; who holds it has been seen when the block begins."""
    task = asyncio.create_task(lease.acquire())
    try:
        await until(lambda: observed_at(lease) is not None, what="the holder was seen")
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def observed_at(lease: Lease) -> float | None:
    """Return when a candidate saw the record change for the last time."""
    return None if lease._observed is None else lease._observed.seen_at


async def spec(api: ApiClient, lease: Lease) -> dict[str, str]:
    """Read the Lease's record."""
    found: dict[str, str] = (await api.get(lease.path))["spec"]
    return found


async def test_the_first_candidate_makes_the_lease_and_the_second_waits(
    api: ApiClient, candidate: Candidate, clock: Clock
) -> None:
    """A missing Lease is created; a held one is not taken while it is renewed."""
    first, second = candidate("one"), candidate("two")
    await asyncio.wait_for(first.acquire(), WAIT_SECONDS)
    async with holding(first), waiting_for(second) as waiting:
        for _ in range(12):
            clock.now += TIMING.duration / 6
            await until(lambda: first.renewed_at == clock.now, what="renewed")
            await until(lambda: observed_at(second) == clock.now, what="the renewal was seen")
        assert first.leading
        assert not waiting.done()
        assert (await spec(api, first))["holderIdentity"] == "one"


async def test_releasing_hands_over_at_once(candidate: Candidate) -> None:
    """A clean end costs the next leader one retry period, not a lease duration: its clock stands still."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with waiting_for(second) as waiting:
        await first.release()
        await asyncio.wait_for(waiting, WAIT_SECONDS)
    assert not first.leading
    assert second.leading


async def test_a_holder_that_vanishes_is_replaced_after_the_duration(candidate: Candidate, clock: Clock) -> None:
    """Neither earlier, which would be two leaders, nor later."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with waiting_for(second) as waiting:
        clock.now += TIMING.duration - 0.01
        await clock.asked_again()
        assert not waiting.done()
        clock.now += 0.01
        await asyncio.wait_for(waiting, WAIT_SECONDS)


async def test_timestamps_of_a_skewed_clock_are_not_believed(
    api: ApiClient, candidate: Candidate, clock: Clock
) -> None:
    """A record that looks hours old is held as long as it changes, and one from the future does not stay."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with waiting_for(second) as waiting:
        for moment in ("2001-01-01T00:00:00.000000Z", "2091-01-01T00:00:00.000000Z"):
            clock.now += TIMING.duration - 0.01
            lease = await api.get(first.path)
            lease["spec"]["renewTime"] = moment
            await api.request("PUT", first.path, body=lease)
            await until(lambda: observed_at(second) == clock.now, what="the record was seen")
            await clock.asked_again()
            assert not waiting.done()
        clock.now += TIMING.duration
        await asyncio.wait_for(waiting, WAIT_SECONDS)


async def test_a_deleted_lease_is_made_again_by_its_holder(api: ApiClient, candidate: Candidate, clock: Clock) -> None:
    """Deleting the Lease by hand does not give the work to two processes."""
    first, second = candidate("one"), candidate("two")
    await first.acquire()
    async with waiting_for(second) as waiting:
        await api.request("DELETE", first.path)
        # The other one looks first.
        await clock.asked_again()
        async with holding(first) as held:
            clock.now += 0.01
            await until(lambda: observed_at(second) == clock.now, what="the new record was seen")
            assert (await spec(api, first))["holderIdentity"] == "one"
            assert not held.done()
            assert not waiting.done()


async def test_a_lease_taken_by_force_ends_the_holder(api: ApiClient, candidate: Candidate) -> None:
    """Who reads another name in the record stops, whatever its own clock says."""
    first = candidate("one")
    await first.acquire()
    async with holding(first) as held:
        lease = await api.get(first.path)
        lease["spec"]["holderIdentity"] = "intruder"
        await api.request("PUT", first.path, body=lease)
        with pytest.raises(LeaseLost, match="intruder"):
            await asyncio.wait_for(held, WAIT_SECONDS)
        assert not first.leading


async def test_a_holder_that_is_told_to_stop_stops_though_an_answer_comes_at_that_moment(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order to stop that went under would keep a leader renewing while its process waits for it to end."""
    lease = candidate("one")
    await lease.acquire()
    answers: list[asyncio.Future[bool]] = []

    async def renewed() -> bool:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    monkeypatch.setattr(lease, "_try", renewed)
    held = asyncio.create_task(lease.hold())
    await until(lambda: answers, what="a request is under way")
    answers[0].set_result(True)
    held.cancel()
    done, _ = await asyncio.wait({held}, timeout=1)
    held.cancel()
    assert done
    assert held.cancelled()


async def test_with_a_hanging_api_server_the_holder_is_out_before_anybody_else_can_lead(
    installed_crds: Cluster, api: ApiClient, fresh_namespace: str, candidate: Candidate, clock: Clock
) -> None:
    """A server that takes connections and never answers must not keep a leader leading."""
    assert installed_crds.plane is not None
    # Only this one has the machine's clock, and three times its deadline until anybody else may lead.
    timing = LeaseTiming(duration=6.0, renew_deadline=2.0, retry_period=0.3)
    first = Lease(api, namespace=fresh_namespace, name="test", identity="one", timing=timing)
    second = candidate("two")
    await first.acquire()
    async with holding(first) as held, waiting_for(second) as waiting:
        renewed = first.renewed_at
        await until(lambda: first.renewed_at > renewed, what="renewed")
        installed_crds.plane.kill("kube-apiserver", signal.SIGSTOP)
        try:
            with pytest.raises(LeaseLost):
                await asyncio.wait_for(held, WAIT_SECONDS)
            assert time.monotonic() - first.renewed_at < timing.duration
            assert not first.leading
        finally:
            installed_crds.plane.kill("kube-apiserver", signal.SIGCONT)
        assert not waiting.done()
        await until(lambda: waiting.done() or clock.advance(0.5), what="the second leads")
        await waiting


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
        await until(lambda: lease.renewed_at > before, what="renewed after the restart")
        assert not held.done()


@pytest.mark.parametrize(
    "durations", [(3.0, 3.0, 1.0), (3.0, 2.0, 2.0), (3.0, 2.0, 0.0)], ids=["deadline", "period", "zero"]
)
def test_durations_that_allow_two_leaders_are_refused(durations: tuple[float, float, float]) -> None:
    """The order retry period < renew deadline < duration is what safety rests on."""
    with pytest.raises(ValueError, match="a lease needs"):
        LeaseTiming(*durations)
