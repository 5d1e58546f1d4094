"""Two ways of doing one thing, measured in turns in one run, so that a slow moment of the machine hits both."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

RUNS = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians over the runs, in seconds, and the median of the runs' own ratios."""

    ours: float
    peer: float
    ratio: float
    runs: int


def latency(ours: Callable[[], object], peer: Callable[[], object], *, calls: int = 1000, runs: int = RUNS) -> Pair:
    """Measure the median call of each; every run has ``calls`` of one and then of the other, the first one in turns."""
    _median(ours, max(20, calls // 10))
    _median(peer, max(20, calls // 10))
    taken = []
    for run in range(runs):
        if run % 2:
            theirs, mine = _median(peer, calls), _median(ours, calls)
        else:
            mine, theirs = _median(ours, calls), _median(peer, calls)
        taken.append((mine, theirs))
    return _pair(taken)


async def latency_async(
    ours: Callable[[], Awaitable[object]],
    peer: Callable[[], Awaitable[object]],
    *,
    calls: int = 1000,
    runs: int = RUNS,
) -> Pair:
    """Measure the median call of each on one event loop."""
    await _median_async(ours, max(20, calls // 10))
    await _median_async(peer, max(20, calls // 10))
    taken = []
    for run in range(runs):
        if run % 2:
            theirs = await _median_async(peer, calls)
            mine = await _median_async(ours, calls)
        else:
            mine = await _median_async(ours, calls)
            theirs = await _median_async(peer, calls)
        taken.append((mine, theirs))
    return _pair(taken)


def once(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    runs: int = RUNS,
    before: Callable[[], object] = lambda: None,
) -> Pair:
    """Measure long work: one execution of each a run; ``before`` clears the ground for each, outside the clock."""
    taken = []
    for run in range(runs):
        both = {}
        for name, work in (("ours", ours), ("peer", peer))[:: -1 if run % 2 else 1]:
            before()
            gc.collect()
            started = time.perf_counter()
            work()
            both[name] = time.perf_counter() - started
        taken.append((both["ours"], both["peer"]))
    return _pair(taken)


def once_async(
    ours: Callable[[], Awaitable[object]],
    peer: Callable[[], Awaitable[object]],
    loop: asyncio.Runner,
    *,
    runs: int = RUNS,
    before: Callable[[], object] = lambda: None,
) -> Pair:
    """Measure long asynchronous work on one event loop."""

    async def wait(work: Callable[[], Awaitable[object]]) -> None:
        await work()

    return once(lambda: loop.run(wait(ours)), lambda: loop.run(wait(peer)), runs=runs, before=before)


def _median(call: Callable[[], object], calls: int) -> float:
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def _median_async(call: Callable[[], Awaitable[object]], calls: int) -> float:
    taken = []
    for _ in range(calls):
        started = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def _pair(taken: list[tuple[float, float]]) -> Pair:
    return Pair(
        statistics.median(mine for mine, _ in taken),
        statistics.median(theirs for _, theirs in taken),
        statistics.median(mine / theirs for mine, theirs in taken),
        len(taken),
    )
