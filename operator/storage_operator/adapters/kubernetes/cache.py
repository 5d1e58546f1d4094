"""The in-memory copy of our custom resources: slim bodies, what changed between two versions, and who depends on whom.

The cache decides what a watch event means. Our own patches are stored from their answers, so the events that echo them
are recognised by resource version and cause no second reconcile.
"""

from __future__ import annotations

import enum
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage_operator.world import Body, Key, Kind, cluster_of

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
INTERNED_LENGTH = 40
DROPPED_METADATA = frozenset({"managedFields", "selfLink"})


class Change(enum.StrEnum):
    """What a newer version of an object means to the operator."""

    NONE = "none"
    """Nothing new: an echo, or an older version."""
    STATUS = "status"
    """Only status, finalizers or other bookkeeping differ."""
    SPEC = "spec"
    """Something a reconcile reads differs: generation, labels, annotations or the deletion mark."""
    NEW = "new"
    """The object was not known (or is another one of the same name)."""
    GONE = "gone"
    """The object no longer exists."""


@dataclass(frozen=True, slots=True)
class CacheEvent:
    """One change of the cache: the object before and after, and whether this process made it."""

    key: Key
    change: Change
    before: Body | None
    after: Body | None
    own: bool = False


Listener = Callable[[CacheEvent], None]


def slim(body: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a body without what no reconcile reads, sharing equal short strings between objects."""
    copy: dict[str, Any] = _compact(body)
    metadata = copy.get("metadata", {})
    for name in DROPPED_METADATA:
        metadata.pop(name, None)
    annotations = metadata.get("annotations")
    if annotations and LAST_APPLIED in annotations:
        del annotations[LAST_APPLIED]
        if not annotations:
            del metadata["annotations"]
    return copy


def _compact(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {sys.intern(str(name)): _compact(item) for name, item in value.items() if name not in DROPPED_METADATA}
    if isinstance(value, list):
        return [_compact(item) for item in value]
    if type(value) is str and len(value) <= INTERNED_LENGTH:
        return sys.intern(value)
    return value


def version(body: Body) -> int:
    """Return the resource version as the number it is on every conformant API server; 0 when it is not one."""
    text = str(body["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def _wanted(body: Body) -> tuple[Any, ...]:
    metadata = body["metadata"]
    return (
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("annotations"),
    )


class ObjectCache:
    """Bodies by key, with an index from each StorageCluster to the keys that name it."""

    def __init__(self) -> None:
        """Start empty."""
        self._bodies: dict[Kind, dict[Key, Body]] = {kind: {} for kind in Kind}
        self._lists: dict[Kind, tuple[Body, ...] | None] = dict.fromkeys(Kind)
        self._dependents: dict[Key, set[Key]] = defaultdict(set)
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` synchronously after each change, our own included."""
        self._listeners.append(listener)

    def get(self, key: Key) -> Body | None:
        """Return the body of one object."""
        return self._bodies[key.kind].get(key)

    def list(self, kind: Kind) -> Sequence[Body]:
        """Return the bodies of one kind; the same tuple until one of them changes."""
        found = self._lists[kind]
        if found is None:
            found = self._lists[kind] = tuple(self._bodies[kind].values())
        return found

    def keys(self) -> Collection[Key]:
        """Return the keys of every object."""
        return [key for bodies in self._bodies.values() for key in bodies]

    def dependents(self, cluster: Key) -> Collection[Key]:
        """Return the components and tenants that name a StorageCluster, whether it exists or not."""
        return tuple(self._dependents.get(cluster, ()))

    def cluster_of(self, key: Key) -> Key | None:
        """Return the StorageCluster of a cached object."""
        body = self.get(key)
        return cluster_of(body) if body is not None else None

    def put(self, raw: Mapping[str, Any], *, own: bool = False) -> Change:
        """Store a version of an object unless a newer one is known, and say what it changed."""
        body = slim(raw)
        key = Key.of(body)
        before = self.get(key)
        change = self._classify(before, body)
        if change is Change.NONE:
            return change
        if change is Change.NEW and before is not None:
            self._unlink(key, before)
        self._bodies[key.kind][key] = body
        self._lists[key.kind] = None
        if (cluster := cluster_of(body)) is not None and cluster != key:
            self._dependents[cluster].add(key)
        self._tell(CacheEvent(key, change, before, body, own))
        return change

    def drop(self, key: Key, *, uid: str | None = None, own: bool = False) -> Change:
        """Forget an object that no longer exists; another object of the same name (by uid) stays."""
        before = self.get(key)
        if before is None or (uid is not None and before["metadata"].get("uid") != uid):
            return Change.NONE
        del self._bodies[key.kind][key]
        self._lists[key.kind] = None
        self._unlink(key, before)
        self._tell(CacheEvent(key, Change.GONE, before, None, own))
        return Change.GONE

    @staticmethod
    def _classify(before: Body | None, after: Body) -> Change:
        if before is None or before["metadata"].get("uid") != after["metadata"].get("uid"):
            return Change.NEW
        if version(after) <= version(before):
            return Change.NONE
        return Change.STATUS if _wanted(before) == _wanted(after) else Change.SPEC

    def _unlink(self, key: Key, body: Body) -> None:
        cluster = cluster_of(body)
        if cluster is None or cluster == key:
            return
        remaining = self._dependents[cluster]
        remaining.discard(key)
        if not remaining:
            del self._dependents[cluster]

    def _tell(self, event: CacheEvent) -> None:
        for listener in self._listeners:
            listener(event)
