"""The resync: one task looks at every unchanged object once in its cluster's drift interval, in a steady trickle.

A timer for each object would be thousands of tasks that fire together after a restart. Here each cluster has a ring of
keys in random order; time earns credit, credit moves keys into the least urgent lane, and a full lane stops it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from storage_operator.adapters.kubernetes.cache import ObjectCache
from storage_operator.handlers.lanes import Lane
from storage_operator.handlers.queue import WorkQueue
from storage_operator.resources.durations import duration_seconds
from storage_operator.world import Key, Kind

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LANE_LIMIT = 200


@dataclass(slots=True)
class _Ring:
    keys: deque[Key] = field(default_factory=deque)
    order: list[Key] = field(default_factory=list)
    credit: float = 0.0


class Resync:
    """The operator's one clock for unchanged objects."""

    def __init__(
        self,
        cache: ObjectCache,
        queue: WorkQueue,
        *,
        interval: float,
        rate: float,
        tick: float = TICK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """``interval`` is for objects whose cluster names none; ``rate`` bounds all clusters together."""
        self._cache = cache
        self._queue = queue
        self._interval = interval
        self._rate = rate
        self._tick = tick
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._rings: dict[Key | None, _Ring] = {}

    async def run(self) -> None:
        """Feed the queue until cancelled."""
        before = self._clock()
        while True:
            await asyncio.sleep(self._tick * self._rng.uniform(0.8, 1.2))
            now = self._clock()
            self.feed(now - before)
            before = now

    def feed(self, elapsed: float) -> int:
        """Spend the credit that ``elapsed`` seconds earned; returns the number of keys that were enqueued."""
        members = self._members()
        for gone in self._rings.keys() - members.keys():
            del self._rings[gone]
        allowance = max(1, int(self._rate * elapsed))
        room = LANE_LIMIT - self._queue.depth(Lane.RESYNC)
        fed = 0
        clusters = list(members)
        self._rng.shuffle(clusters)
        for cluster in clusters:
            ring = self._rings.get(cluster)
            if ring is None:
                # A random start keeps the clusters, and this process and its predecessor, out of step.
                ring = self._rings[cluster] = _Ring(credit=self._rng.random())
            keys = members[cluster]
            ring.credit = min(ring.credit + len(keys) * elapsed / self._interval_of(cluster), float(len(keys)))
            while ring.credit >= 1.0 and fed < min(allowance, room):
                ring.credit -= 1.0
                fed += self._feed_one(ring, keys)
        return fed

    def _feed_one(self, ring: _Ring, keys: list[Key]) -> int:
        while True:
            if not ring.keys:
                # The order stays as it was drawn: another one each round would let a key wait for nearly two rounds.
                present = set(keys)
                kept = [key for key in ring.order if key in present]
                fresh = list(present.difference(kept))
                self._rng.shuffle(fresh)
                ring.order = [*kept, *fresh]
                ring.keys.extend(ring.order)
            key = ring.keys.popleft()
            if self._cache.get(key) is not None:
                self._queue.add(key, Lane.RESYNC)
                return 1

    def _members(self) -> dict[Key | None, list[Key]]:
        members: dict[Key | None, list[Key]] = {}
        for key in self._cache.keys():  # noqa: SIM118 - a cache is not a mapping
            members.setdefault(self._cache.cluster_of(key), []).append(key)
        return members

    def _interval_of(self, cluster: Key | None) -> float:
        body = self._cache.get(cluster) if cluster is not None and cluster.kind is Kind.STORAGE_CLUSTER else None
        text = ((body or {}).get("spec", {}).get("drift") or {}).get("interval")
        seconds = duration_seconds(text) if isinstance(text, str) else None
        return max(1.0, seconds) if seconds is not None else self._interval
