"""The resync: everything once in an interval, in a trickle, never in the way."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from storage_operator.adapters.kubernetes.cache import ObjectCache
from storage_operator.handlers.lanes import Lane
from storage_operator.handlers.scheduler import LANE_LIMIT, Resync
from storage_operator.world import Key
from tests.plugins.operator import tenant_manifest


class Sink:
    """Takes what a queue would be given."""

    def __init__(self) -> None:
        self.fed: Counter[Key] = Counter()
        self.waiting = 0

    def add(self, key: Key, lane: Lane) -> None:
        """Count one key."""
        assert lane is Lane.RESYNC
        self.fed[key] += 1

    def depth(self, _: Lane) -> int:
        """Say how full the lane is."""
        return self.waiting


def make(count: int, *, interval: str = "", rate: float = 1_000.0) -> tuple[Resync, Sink, ObjectCache]:
    """Make a scheduler over so many tenants of one cluster."""
    cache, sink = ObjectCache(), Sink()
    for number in range(count):
        body = tenant_manifest("a", f"t{number}")
        body["metadata"] |= {"uid": str(number), "resourceVersion": "1", "generation": 1}
        cache.put(body)
    if interval:
        cache.put(cluster_body(interval))
    return Resync(cache, sink, interval=600.0, rate=rate, rng=random.Random(5)), sink, cache  # type: ignore[arg-type]


def cluster_body(interval: str) -> dict[str, Any]:
    """Write the StorageCluster with a drift interval."""
    return {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "StorageCluster",
        "metadata": {"name": "main", "namespace": "a", "uid": "c", "resourceVersion": "1", "generation": 1},
        "spec": {"drift": {"interval": interval}},
    }


def test_every_object_comes_up_once_in_an_interval() -> None:
    """Over one interval each of a hundred tenants is looked at, and none much more often than another."""
    resync, sink, _ = make(100)
    for _ in range(600):
        resync.feed(1.0)
    assert len(sink.fed) == 100
    assert set(sink.fed.values()) <= {1, 2}


def test_the_trickle_is_even() -> None:
    """No second of the interval gets more than its share: nothing fires together."""
    resync, _, _ = make(1_200)
    assert {resync.feed(1.0) for _ in range(100)} <= {2, 3}


def test_the_clusters_own_interval_counts() -> None:
    """A drift interval of a minute is ten times the default rate; an edit counts from the next tick on."""
    resync, sink, cache = make(99, interval="1m")
    for _ in range(60):
        resync.feed(1.0)
    assert len(sink.fed) == 100
    cache.put(cluster_body("10h") | {"metadata": cluster_body("")["metadata"] | {"resourceVersion": "2"}})
    before = sink.fed.total()
    for _ in range(60):
        resync.feed(1.0)
    assert sink.fed.total() - before <= 2


def test_a_full_lane_and_the_rate_hold_it_back() -> None:
    """What cannot be worked off is not piled up, and no burst follows when there is room again."""
    resync, sink, _ = make(5_000, rate=5.0)
    assert resync.feed(1.0) == 5
    sink.waiting = LANE_LIMIT
    assert resync.feed(1_000.0) == 0
    sink.waiting = 0
    assert resync.feed(1.0) == 5


def test_objects_that_are_gone_are_not_fed() -> None:
    """The ring forgets what the cache forgot."""
    resync, sink, cache = make(3)
    resync.feed(100.0)
    for key in list(cache.keys()):
        cache.drop(key)
    sink.fed.clear()
    assert resync.feed(10_000.0) == 0
    assert not sink.fed
