"""What the cache makes of watch events: the meaning of a change, slim bodies, and who depends on whom."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from storage_operator.adapters.kubernetes.cache import CacheEvent, Change, ObjectCache, slim
from storage_operator.world import Key, Kind
from tests.plugins.operator import tenant_manifest


def body(version: int, **metadata: Any) -> dict[str, Any]:
    """Write a tenant as the API server shows it."""
    found = tenant_manifest("a", "x")
    found["metadata"] |= {"uid": "u1", "resourceVersion": str(version), "generation": 1, **metadata}
    return found


@pytest.fixture
def cache() -> ObjectCache:
    """Give a cache that holds one tenant."""
    found = ObjectCache()
    found.put(body(10))
    return found


@pytest.mark.parametrize(
    ("after", "change"),
    [
        (body(10), Change.NONE),
        (body(9, generation=2), Change.NONE),
        (body(11), Change.STATUS),
        (body(11, finalizers=["x"]), Change.STATUS),
        (body(11, generation=2), Change.SPEC),
        (body(11, annotations={"storage.llmspell.dev/rotate": "1"}), Change.SPEC),
        (body(11, deletionTimestamp="2026-01-01T00:00:00Z"), Change.SPEC),
        (body(3, uid="u2"), Change.NEW),
    ],
    ids=["echo", "older", "status", "finalizer", "spec", "annotation", "deletion", "recreated"],
)
def test_a_version_means_what_differs_in_it(cache: ObjectCache, after: dict[str, Any], change: Change) -> None:
    """Only what a reconcile reads makes one necessary."""
    assert cache.put(after) is change


def test_a_deletion_of_the_former_object_spares_its_successor(cache: ObjectCache) -> None:
    """Events of two objects of one name may come in any order."""
    cache.put(body(12, uid="u2"))
    assert cache.drop(Key(Kind.TENANT, "a", "x"), uid="u1") is Change.NONE
    assert cache.drop(Key(Kind.TENANT, "a", "x"), uid="u2") is Change.GONE


def test_slim_bodies_hold_nothing_that_no_reconcile_reads() -> None:
    """Field ownership and kubectl's copy of the manifest are the larger half of a body."""
    fat = body(
        1, managedFields=[{"manager": "m"}], annotations={"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    )
    before = copy.deepcopy(fat)
    assert slim(fat)["metadata"] == {
        "name": "x", "namespace": "a", "uid": "u1", "resourceVersion": "1", "generation": 1,
    }  # fmt: skip
    assert fat == before


def test_dependents_follow_the_cluster_reference(cache: ObjectCache) -> None:
    """A cluster finds its tenants in any namespace, and no longer after they are gone."""
    main = Key(Kind.STORAGE_CLUSTER, "a", "main")
    other = tenant_manifest("b", "y", clusterRef={"name": "main", "namespace": "a"})
    other["metadata"] |= {"uid": "u9", "resourceVersion": "5", "generation": 1}
    cache.put(other)
    assert {key.name for key in cache.dependents(main)} == {"x", "y"}
    assert cache.cluster_of(Key(Kind.TENANT, "b", "y")) == main
    cache.drop(Key(Kind.TENANT, "b", "y"))
    assert {key.name for key in cache.dependents(main)} == {"x"}


def test_listeners_learn_whose_change_it_was(cache: ObjectCache) -> None:
    """Our own patches are told apart from other people's edits."""
    seen: list[CacheEvent] = []
    cache.subscribe(seen.append)
    cache.put(body(11), own=True)
    cache.put(body(11))
    cache.put(body(12, generation=2))
    assert [(event.change, event.own) for event in seen] == [(Change.STATUS, True), (Change.SPEC, False)]
    assert cache.list(Kind.TENANT) is cache.list(Kind.TENANT)
