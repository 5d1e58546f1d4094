"""``World`` on a real API server: cached bodies, one status patch, careful finalizers, owned Secrets, quiet Events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from storage_operator.adapters.kubernetes.cache import ObjectCache, slim
from storage_operator.adapters.kubernetes.client import JSON_PATCH, MERGE_PATCH, ApiClient
from storage_operator.adapters.kubernetes.events import EventRecorder
from storage_operator.adapters.kubernetes.secrets import SecretStore
from storage_operator.errors import ApiConflict, ApiForbidden, ApiNotFound
from storage_operator.world import API_GROUP, API_VERSION, FINALIZER, Body, EventType, Key, Kind, SecretObject

logger = logging.getLogger(__name__)

NAMESPACE_LABELS_SECONDS = 15.0
NAMESPACES_REMEMBERED = 1_000
FINALIZER_ATTEMPTS = 3


def collection_path(kind: Kind, namespace: str | None = None) -> str:
    """Return the URL path of a kind's list, in one namespace or in all."""
    root = f"/apis/{API_GROUP}/{API_VERSION}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if namespace else f"{root}/{kind.plural}"


def object_path(key: Key) -> str:
    """Return the URL path of one object."""
    return f"{collection_path(key.kind, key.namespace)}/{key.name}"


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that turns one mapping into the other; lists are replaced whole."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, wanted in after.items():
        present = before.get(name)
        if isinstance(wanted, Mapping) and isinstance(present, Mapping):
            if nested := merge_patch(present, wanted):
                patch[name] = nested
        elif name not in before or present != wanted:
            patch[name] = wanted
    return patch


def _plain(value: Any) -> Any:
    """Copy tuples and mappings into what JSON has, so that equal values compare equal."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


class KubernetesWorld:
    """The cluster around the database; satisfies ``storage_operator.world.World``."""

    def __init__(self, client: ApiClient, *, component: str = "llmspell-storage", instance: str = "") -> None:
        """Wrap a client; call ``open`` before use."""
        self.cache = ObjectCache()
        self.secrets = SecretStore(client)
        self.events = EventRecorder(client, component=component, instance=instance)
        self.cluster_uid = ""
        self._client = client
        self._labels: OrderedDict[str, tuple[float, Mapping[str, str] | None]] = OrderedDict()

    async def open(self) -> None:
        """Learn the cluster's identity and start recording Events."""
        namespace = await self._client.get("/api/v1/namespaces/kube-system")
        self.cluster_uid = namespace["metadata"]["uid"]
        self.events.start()

    async def aclose(self) -> None:
        """Send the Events that are still queued, within a bounded time."""
        await self.events.aclose()

    def get(self, key: Key) -> Body | None:
        """Return the cached body."""
        return self.cache.get(key)

    def list(self, kind: Kind) -> Sequence[Body]:
        """Return the cached bodies of one kind."""
        return self.cache.list(kind)

    async def fetch(self, key: Key) -> Body | None:
        """Read one object live and refresh the cache."""
        raw = await self._client.find(object_path(key))
        if raw is None:
            self.cache.drop(key)
            return None
        self.cache.put(raw)
        return self.cache.get(key)

    async def exists(self, key: Key) -> bool:
        """Ask for one object without remembering it: it may live where this process does not watch."""
        try:
            return await self._client.find(object_path(key)) is not None
        except ApiForbidden:
            return True

    async def relist(self, kind: Kind, namespace: str | None = None) -> int:
        """Compare a kind's full list with the cache and repair what a watch missed; returns the number of repairs."""
        seen: set[Key] = set()
        known = {Key.of(body) for body in self.cache.list(kind)}
        repairs = 0
        async for page in self._client.pages(collection_path(kind, namespace)):
            for item in page["items"]:
                # Items of a list carry no kind of their own.
                raw = {**item, "kind": kind.value, "apiVersion": f"{API_GROUP}/{API_VERSION}"}
                seen.add(Key.of(raw))
                repairs += self.cache.put(raw) != "none"
        for key in known - seen:
            if namespace is None or key.namespace == namespace:
                # Made after the first page was read, or really gone: only a live read tells.
                repairs += await self.fetch(key) is None
        return repairs

    async def namespace_labels(self, namespace: str) -> Mapping[str, str] | None:
        """Return a namespace's labels, at most a few seconds old."""
        known = self._labels.get(namespace)
        now = time.monotonic()
        if known is not None and now - known[0] < NAMESPACE_LABELS_SECONDS:
            return known[1]
        raw = await self._client.find(f"/api/v1/namespaces/{namespace}")
        labels = None if raw is None else dict(raw["metadata"].get("labels") or {})
        self._labels[namespace] = (now, labels)
        self._labels.move_to_end(namespace)
        if len(self._labels) > NAMESPACES_REMEMBERED:
            self._labels.popitem(last=False)
        return labels

    async def read_secret(self, namespace: str, name: str) -> SecretObject | None:
        """Read one Secret live."""
        return await self.secrets.read(namespace, name)

    async def write_secret(
        self,
        namespace: str,
        name: str,
        data: Mapping[str, bytes],
        *,
        owner: Body,
        labels: Mapping[str, str],
        existing: SecretObject | None,
    ) -> SecretObject:
        """Create or replace a Secret that ``owner`` owns."""
        return await self.secrets.write(namespace, name, data, owner=owner, labels=labels, existing=existing)

    async def delete_secret(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete exactly this Secret."""
        await self.secrets.delete(namespace, name, uid=uid)

    async def patch_status(self, body: Body, status: Mapping[str, Any]) -> None:
        """Patch the status subresource, only when it differs and only on the object that was reconciled."""
        key = Key.of(body)
        wanted = _plain(status)
        newest = self._newest(key, body)
        for attempt in (1, 2):
            difference = merge_patch(newest.get("status") or {}, wanted)
            if not difference:
                return
            metadata = newest["metadata"]
            patch = {
                "metadata": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
                "status": difference,
            }
            try:
                raw = await self._client.request(
                    "PATCH", f"{object_path(key)}/status", body=patch, content_type=MERGE_PATCH
                )
            except ApiNotFound:
                self.cache.drop(key, uid=metadata["uid"])
                return
            except ApiConflict:
                live = await self.fetch(key)
                if live is None:
                    return
                if attempt == 2 or not _same_request(live, body):  # noqa: PLR2004 - the second and last attempt
                    raise
                newest = live
            else:
                self.cache.put(raw, own=True)
                return

    def _newest(self, key: Key, body: Body) -> Body:
        """Prefer the cached version when it asks for the same: its resource version saves a conflict."""
        cached = self.cache.get(key)
        return cached if cached is not None and _same_request(cached, body) else body

    async def add_finalizer(self, body: Body) -> Body:
        """Add our finalizer at the end of the list, guarded by the version that was read."""
        key = Key.of(body)
        current = self._newest(key, body)
        for _ in range(FINALIZER_ATTEMPTS):
            present = current["metadata"].get("finalizers") or []
            if FINALIZER in present:
                return current
            patch = [
                {"op": "test", "path": "/metadata/uid", "value": current["metadata"]["uid"]},
                {"op": "test", "path": "/metadata/resourceVersion", "value": current["metadata"]["resourceVersion"]},
                {"op": "add", "path": "/metadata/finalizers", "value": [*present, FINALIZER]},
            ]
            try:
                raw = await self._client.request("PATCH", object_path(key), body=patch, content_type=JSON_PATCH)
            except ApiConflict:
                current = await self._same_object(key, body)
                continue
            self.cache.put(raw, own=True)
            return self.cache.get(key) or slim(raw)
        raise ApiConflict(f"{key}: changed {FINALIZER_ATTEMPTS} times while the finalizer was being added")

    async def remove_finalizer(self, body: Body) -> None:
        """Remove our finalizer by its position, guarded by its value; others stay."""
        key = Key.of(body)
        current = self._newest(key, body)
        for _ in range(FINALIZER_ATTEMPTS):
            present = current["metadata"].get("finalizers") or []
            if FINALIZER not in present:
                return
            path = f"/metadata/finalizers/{present.index(FINALIZER)}"
            patch = [
                {"op": "test", "path": "/metadata/uid", "value": current["metadata"]["uid"]},
                {"op": "test", "path": path, "value": FINALIZER},
                {"op": "remove", "path": path},
            ]
            try:
                raw = await self._client.request("PATCH", object_path(key), body=patch, content_type=JSON_PATCH)
            except ApiNotFound:
                self.cache.drop(key, uid=current["metadata"]["uid"], own=True)
                return
            except ApiConflict:
                live = await self.fetch(key)
                if live is None or live["metadata"]["uid"] != body["metadata"]["uid"]:
                    return
                current = live
                continue
            self._finalized(key, raw)
            return
        raise ApiConflict(f"{key}: changed {FINALIZER_ATTEMPTS} times while the finalizer was being removed")

    def _finalized(self, key: Key, raw: Mapping[str, Any]) -> None:
        metadata = raw["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            # The last finalizer of a deleted object: the answer is the object's last state.
            self.cache.drop(key, uid=metadata["uid"], own=True)
        else:
            self.cache.put(raw, own=True)

    async def _same_object(self, key: Key, body: Body) -> Body:
        live = await self.fetch(key)
        if live is None or live["metadata"]["uid"] != body["metadata"]["uid"]:
            raise ApiConflict(f"{key}: deleted meanwhile", 409)
        return live

    async def emit(self, body: Body, type: EventType, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        """Queue an Event about ``body``; the same one twice in a row is sent once."""
        await asyncio.sleep(0)
        self.events.record(body, type, reason, message)


def _same_request(left: Body, right: Body) -> bool:
    """Whether two versions are of one object and ask for the same."""
    one, two = left["metadata"], right["metadata"]
    return (one.get("uid"), one.get("generation"), one.get("deletionTimestamp")) == (
        two.get("uid"),
        two.get("generation"),
        two.get("deletionTimestamp"),
    )
