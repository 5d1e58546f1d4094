"""Pairs are measured in turns, a run is a pair, and a trial is short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from benchmarks import pairs


class Noted:
    """Notes who was called when."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def calls(self, name: str) -> Callable[[], None]:
        """Return a call that is noted under a name."""
        return lambda: self.order.append(name)

    def blocks(self) -> list[tuple[str, int]]:
        """Return who was called how often in a row."""
        found: list[tuple[str, int]] = []
        for name in self.order:
            if found and found[-1][0] == name:
                found[-1] = (name, found[-1][1] + 1)
            else:
                found.append((name, 1))
        return found


def test_both_are_warmed_up_and_take_turns_in_being_first() -> None:
    """A run has all calls of one and all of the other; every second run begins with the peer."""
    noted = Noted()
    pairs.latency(noted.calls("ours"), noted.calls("peer"), calls=100, runs=3)
    # Warm ups, then ours peer, peer ours, ours peer: neighbours of one name run into each other.
    assert noted.blocks() == [("ours", 20), ("peer", 20), ("ours", 100), ("peer", 200), ("ours", 200), ("peer", 100)]


def test_the_ratio_is_the_median_of_the_runs_own_ratios() -> None:
    """One run in which the machine was slow for both does not move it."""
    pair = pairs._pair([(1.0, 2.0), (30.0, 60.0), (3.0, 4.0)])
    assert pair == pairs.Pair(ours=3.0, peer=4.0, ratio=0.5, runs=3)


class Clock:
    """A clock that only work moves, so that what else the machine does is not measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        """Return the time."""
        return self.now

    def working(self, seconds: float) -> Callable[[], None]:
        """Return a call that takes so long."""

        def work() -> None:
            self.now += seconds

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Give the clock by which is measured."""
    made = Clock()
    monkeypatch.setattr(pairs, "time", made)
    return made


def test_a_slower_call_has_a_ratio_above_one(clock: Clock) -> None:
    """The ratio is ours to the peer's, in time."""
    pair = pairs.latency(clock.working(0.004), clock.working(0.001), calls=3, runs=3)
    assert pair.ours == pytest.approx(0.004)
    assert pair.peer == pytest.approx(0.001)
    assert pair.ratio == pytest.approx(4)


def test_asynchronous_calls_take_turns_too() -> None:
    """On one event loop."""
    noted = Noted()

    def call(name: str) -> Callable[[], object]:
        async def noting() -> None:
            await asyncio.sleep(0)
            noted.order.append(name)

        return noting

    pair = asyncio.run(pairs.latency_async(call("ours"), call("peer"), calls=200, runs=2))  # type: ignore[arg-type]
    assert noted.blocks() == [("ours", 20), ("peer", 20), ("ours", 200), ("peer", 400), ("ours", 200)]
    assert pair.runs == 2


def test_the_ground_is_cleared_before_each_long_work(clock: Clock) -> None:
    """Outside the clock, whoever comes first."""
    noted = Noted()

    def step(name: str, seconds: float) -> Callable[[], None]:
        def work() -> None:
            clock.now += seconds
            noted.order.append(name)

        return work

    pair = pairs.once(step("ours", 0.001), step("peer", 0.002), runs=2, before=step("cleared", 0.02))
    assert noted.order == ["cleared", "ours", "cleared", "peer", "cleared", "peer", "cleared", "ours"]
    assert (pair.ours, pair.peer) == (pytest.approx(0.001), pytest.approx(0.002))


def test_a_trial_is_short_whatever_is_asked_for() -> None:
    """And what comes after it is not."""
    noted = Noted()
    with pairs.at_most(calls=2):
        assert pairs.latency(noted.calls("ours"), noted.calls("peer"), calls=1000).runs == 1
    assert noted.blocks() == [("ours", 1), ("peer", 1), ("ours", 2), ("peer", 2)]
    noted.order.clear()
    pairs.latency(noted.calls("ours"), noted.calls("peer"), calls=30, runs=1)
    assert noted.blocks() == [("ours", 20), ("peer", 20), ("ours", 30), ("peer", 30)]


def test_a_trial_reaches_an_event_loop() -> None:
    """The shortening holds where the loop runs."""
    noted = Noted()

    async def call() -> None:
        noted.order.append("call")

    with pairs.at_most(calls=1):
        asyncio.run(pairs.latency_async(call, call, calls=500))
    assert len(noted.order) == 4


@pytest.mark.parametrize("slow", [False, True])
def test_a_verdict_follows_from_the_ratio(slow: bool) -> None:
    """Nobody sets it by hand."""
    from benchmarks.storagelib.ground import compared

    pair = pairs.Pair(ours=2e-4, peer=1e-4, ratio=2.0, runs=5)
    bounded = compared("it", pair, "peer", at_most=1.5 if slow else 2.5)
    assert (bounded.holds, bounded.unit, bounded.ours) == (not slow, "µs", pytest.approx(200))
    assert compared("it", pairs.Pair(1.0, 3.0, 1 / 3, 5), "peer", at_least=4 if slow else 2).holds is not slow
