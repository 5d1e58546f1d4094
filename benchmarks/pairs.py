"""Two ways of doing one thing, measured in turns in one run, so that a slow moment of the machine hits both."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

RUNS = 5
_MOST: ContextVar[tuple[int, int] | None] = ContextVar("_MOST", default=None)


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians over the runs, in seconds, and the median of the runs' own ratios."""

    ours: float
    peer: float
    ratio: float
    runs: int


@contextmanager
def at_most(*, calls: int, runs: int = 1) -> Iterator[None]:
    """Measure with so few calls and runs, whatever is asked for: what tries a benchmark out, its figures worth nothing."""
    before = _MOST.set((calls, runs))
    try:
        yield
    finally:
        _MOST.reset(before)


def _granted(calls: int, runs: int) -> tuple[int, int, int]:
    """Return calls to warm up with, calls and runs."""
    most = _MOST.get()
    if most is None:
        return max(20, calls // 10), calls, runs
    return 1, min(calls, most[0]), min(runs, most[1])


def latency(ours: Callable[[], object], peer: Callable[[], object], *, calls: int = 1000, runs: int = RUNS) -> Pair:
    """Measure the median call of each; every run has ``calls`` of one and then of the other, the first one in turns."""
    warming, calls, runs = _granted(calls, runs)
    _median(ours, warming)
    _median(peer, warming)
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
    warming, calls, runs = _granted(calls, runs)
    await _median_async(ours, warming)
    await _median_async(peer, warming)
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
    _, _, runs = _granted(1, runs)
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
