"""The work queue: a fixed set of workers that take keys from the lanes and call the reconciler.

The workers are made at the start, before kopf: kopf cancels every task that was made after it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from storage_operator import tasks
from storage_operator.errors import ApiConflict, ApiError, LeaseLost, Refused, Waiting
from storage_operator.handlers.lanes import Group, Job, Lane, Lanes
from storage_operator.metrics import Metrics
from storage_operator.world import Key, Kind, Outcome

logger = logging.getLogger(__name__)

Process = Callable[[Key], Awaitable[Outcome]]
RETRIED = frozenset({"failed", "waiting"})
SPREAD = 0.1
MAX_EXPONENT = 16


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with full jitter."""

    base: float = 0.5
    cap: float = 60.0

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Draw the delay after the given number of failures in a row (from 1)."""
        return rng.uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, MAX_EXPONENT)))


class WorkQueue:
    """Keys in, reconciles out."""

    def __init__(
        self,
        process: Process,
        *,
        group_of: Callable[[Key], Group],
        cap_of: Callable[[Group], int],
        metrics: Metrics,
        workers: int = 16,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """``process`` reconciles one key; what it raises is logged and retried, never lost."""
        self._process = process
        self._metrics = metrics
        self._count = workers
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        # Whatever a StorageCluster asks for, a quarter of the workers is left to the others: its database may be slow.
        most = max(1, workers - workers // 4)
        self._lanes = Lanes(group_of=group_of, cap_of=lambda group: min(most, cap_of(group)))
        self._attempts: dict[Key, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._signal = asyncio.Event()
        self._finished = asyncio.Event()
        self._draining = False
        self._progress_at = clock()

    def start(self) -> None:
        """Start the workers."""
        self._progress_at = self._clock()
        self._tasks = [asyncio.create_task(self._work(), name=f"worker {number}") for number in range(self._count)]

    def add(self, key: Key, lane: Lane = Lane.CHANGED) -> None:
        """Ask for a reconcile soon; a changed object starts its backoff anew."""
        if lane is Lane.CHANGED:
            self._attempts.pop(key, None)
        if not self._lanes.has_work():
            self._progress_at = self._clock()
        self._lanes.add(key, lane, self._clock())
        self._signal.set()

    def is_running(self, key: Key) -> bool:
        """Whether a reconcile of the key is running."""
        return self._lanes.is_running(key)

    def depth(self, lane: Lane) -> int:
        """Count the keys that wait in a lane."""
        return self._lanes.depth(lane)

    def __len__(self) -> int:
        """Count the keys that wait, are delayed or run."""
        return len(self._lanes) + self._lanes.delayed + len(self._lanes.running)

    def stalled_seconds(self) -> float:
        """Return for how long there was work and none was finished; a long migration of a cluster is no stall."""
        running = self._lanes.running
        if not self._lanes.has_work() or (running and all(key.kind is Kind.STORAGE_CLUSTER for key in running)):
            return 0.0
        return self._clock() - self._progress_at

    def measure(self) -> None:
        """Publish the depths."""
        for lane, depth in self._lanes.depths().items():
            self._metrics.queue_depth.labels(lane.name.lower()).set(depth)
        self._metrics.queue_depth.labels("delayed").set(self._lanes.delayed)
        self._metrics.queue_running.set(len(self._lanes.running))

    async def idle(self) -> None:
        """Wait until nothing waits or runs; delayed keys do not count."""
        while self._lanes.has_work():
            self._finished.clear()
            await self._finished.wait()

    async def drain(self, timeout: float) -> tuple[Key, ...]:
        """Hand out nothing more, let what runs finish within ``timeout``, then end the workers.

        Returns the keys that were cut off; the next leader reconciles everything anyway.
        """
        self._draining = True
        self._signal.set()
        deadline = self._clock() + timeout
        with contextlib.suppress(TimeoutError):
            while self._lanes.running:
                self._finished.clear()
                async with asyncio.timeout(max(0.0, deadline - self._clock())):
                    await self._finished.wait()
        cut = self._lanes.running
        await tasks.end(self._tasks)
        self._tasks = []
        return cut

    async def _work(self) -> None:
        while not self._draining:
            self._lanes.release_due(self._clock())
            job = self._lanes.take(self._clock())
            if job is None:
                await self._wait()
                continue
            # Another worker may find more, or room that this key did not need.
            self._signal.set()
            await self._run(job)

    async def _wait(self) -> None:
        """Sleep until a key is added, one is finished, or a delayed one is due."""
        self._signal.clear()
        due = self._lanes.next_due()
        timeout = None if due is None else max(0.0, due - self._clock())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._signal.wait()

    async def _run(self, job: Job) -> None:
        started = self._clock()
        self._metrics.queue_seconds.labels(job.lane.name.lower()).observe(job.waited)
        outcome = Outcome("cancelled")
        try:
            outcome = await self._guarded(job.key)
        finally:
            now = self._clock()
            self._progress_at = now
            self._metrics.observe_phase(job.key.kind.value, "total", outcome.result, now - started)
            again = self._lanes.done(job.key, now)
            if not again and outcome.result != "cancelled":
                self._schedule(job.key, outcome, now)
            self._signal.set()
            self._finished.set()

    def _schedule(self, key: Key, outcome: Outcome, now: float) -> None:
        delay = outcome.requeue_after
        if outcome.result in RETRIED:
            attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
            self._metrics.retries.labels(key.kind.value).inc()
            if delay is None:
                delay = self._backoff.delay(attempt, self._rng)
        else:
            self._attempts.pop(key, None)
        if delay is not None:
            # A little later, never earlier: what the moment waits for has then happened.
            self._lanes.add_later(key, now + delay * self._rng.uniform(1.0, 1.0 + SPREAD))

    async def _guarded(self, key: Key) -> Outcome:
        """Call the reconciler; what it did not expect becomes a retry, with one log record."""
        try:
            return await self._process(key)
        except ApiConflict as error:
            logger.debug("%s changed meanwhile: %s", key, error)
            return Outcome("failed")
        except ApiError as error:
            logger.warning("%s: %s", key, error)
            return Outcome("failed", error.retry_after)
        except Waiting as error:
            logger.info("%s waits: %s", key, error)
            return Outcome("waiting", error.retry_after)
        except Refused as error:
            logger.warning("%s refused: %s", key, error)
            return Outcome("refused")
        except LeaseLost:
            raise
        except Exception:
            logger.exception("%s: reconcile failed", key)
            return Outcome("failed")
