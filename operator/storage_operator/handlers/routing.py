"""From a change in the cache to the keys that must be reconciled because of it."""

from __future__ import annotations

from collections.abc import Iterator

from storage_operator.adapters.kubernetes.cache import CacheEvent, Change, ObjectCache
from storage_operator.handlers.lanes import Group, Lane
from storage_operator.handlers.queue import WorkQueue
from storage_operator.world import Body, Key, Kind, cluster_of

READY = "Ready"


def ready(body: Body | None) -> bool:
    """Whether a body's Ready condition is True for the generation that it has now."""
    if body is None:
        return False
    status = body.get("status") or {}
    if status.get("observedGeneration") != body["metadata"].get("generation"):
        return False
    return any(item["type"] == READY and item["status"] == "True" for item in status.get("conditions") or ())


def _became_ready(event: CacheEvent) -> bool:
    """Whether Ready turned True before our eyes; what is first seen Ready, after a restart, changes nothing."""
    return event.before is not None and ready(event.after) and not ready(event.before)


class Grouping:
    """Which keys share a concurrency limit, and how high it is."""

    def __init__(self, cache: ObjectCache, *, default_cap: int) -> None:
        """``default_cap`` is the concurrency of a cluster that names none."""
        self._cache = cache
        self._default_cap = default_cap

    def group_of(self, key: Key) -> Group:
        """Group a cluster's tenants and components under it; the cluster itself never waits behind them."""
        if key.kind is Kind.STORAGE_CLUSTER:
            return (key, "cluster")
        return self._cache.cluster_of(key)

    def cap_of(self, group: Group) -> int:
        """Return how many keys of a group may run at once."""
        if isinstance(group, tuple):
            return 1
        if isinstance(group, Key) and (body := self._cache.get(group)) is not None:
            limit = (body.get("spec", {}).get("limits") or {}).get("concurrency")
            if isinstance(limit, int) and limit > 0:
                return limit
        return self._default_cap


class Router:
    """Listens to the cache and feeds the queue."""

    def __init__(self, cache: ObjectCache, queue: WorkQueue) -> None:
        """Subscribe ``on_event`` to the cache to begin."""
        self._cache = cache
        self._queue = queue

    def on_event(self, event: CacheEvent) -> None:
        """Enqueue what a change concerns: the object itself, and those that wait for it."""
        match event.change:
            case Change.NEW:
                # After a restart everything is new to the cache; what is Ready gives way to what is not.
                self._queue.add(event.key, Lane.RESYNC if ready(event.after) else Lane.CHANGED)
            case Change.SPEC:
                self._queue.add(event.key, Lane.CHANGED)
            case Change.STATUS if not event.own and not self._queue.is_running(event.key):
                # Somebody else edited what we own. While a reconcile runs this is the echo of its own patch.
                self._queue.add(event.key, Lane.RETRY)
            case Change.GONE if not event.own:
                self._queue.add(event.key, Lane.CHANGED)
        for key in self._concerned(event):
            self._queue.add(key, Lane.RETRY)

    def on_secret(self, owner: Key) -> None:
        """Somebody else edited or deleted a Secret of ``owner``."""
        self._queue.add(owner, Lane.CHANGED)

    def _concerned(self, event: CacheEvent) -> Iterator[Key]:
        """Yield the keys whose outcome may depend on this change."""
        if event.key.kind is Kind.STORAGE_CLUSTER:
            if _became_ready(event) or event.change in (Change.SPEC, Change.GONE):
                yield from self._cache.dependents(event.key)
            if event.change is Change.GONE:
                # Another claim on the same database and schema may be waiting as a duplicate.
                yield from (Key.of(body) for body in self._cache.list(Kind.STORAGE_CLUSTER) if not ready(body))
        elif event.change is Change.GONE and event.before is not None:
            yield from self._freed(event.key, event.before)
        elif event.key.kind is Kind.STORAGE_COMPONENT and _became_ready(event):
            # Which stores are enabled decides every tenant's privileges.
            cluster = self._cache.cluster_of(event.key)
            if cluster is not None:
                yield from (key for key in self._cache.dependents(cluster) if key.kind is Kind.TENANT)

    def _freed(self, key: Key, body: Body) -> Iterator[Key]:
        """Yield what a deleted tenant or component stood in the way of: its cluster, and rivals for its claim."""
        cluster = cluster_of(body)
        if cluster is None:
            return
        present = self._cache.get(cluster)
        if present is not None and present["metadata"].get("deletionTimestamp"):
            yield cluster
        claim = "tenantId" if key.kind is Kind.TENANT else "store"
        wanted = body.get("spec", {}).get(claim)
        for other in self._cache.dependents(cluster):
            rival = self._cache.get(other)
            is_rival = other.kind is key.kind and rival is not None and rival.get("spec", {}).get(claim) == wanted
            lost_a_store = key.kind is Kind.STORAGE_COMPONENT and other.kind is Kind.TENANT
            if is_rival or lost_a_store:
                yield other
