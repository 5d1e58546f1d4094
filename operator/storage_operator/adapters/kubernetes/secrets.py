"""Secrets that our resources own, and the watcher that notices when somebody edits or deletes one.

A Secret without the owner's controller reference is never read into a plan, changed or deleted by us.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage_operator.adapters.kubernetes.client import MERGE_PATCH, ApiClient
from storage_operator.adapters.kubernetes.own_edits import Address, OwnEdits
from storage_operator.errors import ApiConflict, ApiError, ApiForbidden, ApiNotFound, SecretNotOurs
from storage_operator.world import API_GROUP, MANAGED_BY_LABEL, MANAGED_BY_VALUE, Body, Key, Kind, SecretObject

logger = logging.getLogger(__name__)

SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY_VALUE}"
INACTIVITY_SECONDS = 90.0
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
FORBIDDEN_SECONDS = 60.0


def secret_path(namespace: str | None, name: str = "") -> str:
    """Return the URL path of Secrets in one namespace or in all, or of one Secret."""
    root = f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"
    return f"{root}/{name}" if name else root


def owner_reference(owner: Body) -> dict[str, Any]:
    """Return the controller reference that makes a Secret ours; deletion of the owner is not held up by it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }


def controller(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the reference to a Secret's controlling owner of our API group."""
    for reference in raw["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference.get("apiVersion", "").startswith(f"{API_GROUP}/"):
            found: Mapping[str, Any] = reference
            return found
    return None


def owner_key(raw: Mapping[str, Any]) -> Key | None:
    """Return the resource that owns a Secret, when it is one of ours."""
    reference = controller(raw)
    if reference is None or reference.get("kind") not in set(Kind):
        return None
    return Key(Kind(reference["kind"]), raw["metadata"]["namespace"], reference["name"])


def _decode(raw: Mapping[str, Any]) -> SecretObject:
    metadata = raw["metadata"]
    reference = controller(raw)
    return SecretObject(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        data={name: base64.b64decode(value or "") for name, value in (raw.get("data") or {}).items()},
        owner_uid=reference["uid"] if reference else None,
        labels=dict(metadata.get("labels") or {}),
        resource_version=metadata["resourceVersion"],
    )


def _encode(data: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode("ascii") for name, value in data.items()}


def _fingerprint(data: Mapping[str, str], reference: Mapping[str, Any] | None) -> bytes:
    """Recognise content without keeping it; ownership counts, because taking it away is an edit too."""
    digest = hashlib.sha256()
    for name in sorted(data):
        digest.update(f"{name}\0{data[name] or ''}\0".encode())
    digest.update(str(reference["uid"] if reference else "").encode())
    return digest.digest()


class SecretStore:
    """Read, write and delete owned Secrets; remembers what was written, so that the watcher knows our own edits."""

    def __init__(self, client: ApiClient) -> None:
        """Use one client."""
        self._client = client
        self.own = OwnEdits()

    async def read(self, namespace: str, name: str) -> SecretObject | None:
        """Read one Secret live."""
        raw = await self._client.find(secret_path(namespace, name))
        return None if raw is None else _decode(raw)

    async def write(
        self,
        namespace: str,
        name: str,
        data: Mapping[str, bytes],
        *,
        owner: Body,
        labels: Mapping[str, str],
        existing: SecretObject | None,
    ) -> SecretObject:
        """Create a Secret, or replace the version that was read; ``SecretNotOurs`` for somebody else's."""
        encoded = _encode(data)
        written = _fingerprint(encoded, owner_reference(owner))
        self.own.write((namespace, name), written)
        try:
            if existing is None:
                return await self._create(namespace, name, encoded, owner, labels)
            return await self._replace(existing, encoded, owner, labels)
        except (ApiError, SecretNotOurs):
            self.own.failed((namespace, name), written)
            raise

    async def _create(
        self, namespace: str, name: str, encoded: dict[str, str], owner: Body, labels: Mapping[str, str]
    ) -> SecretObject:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {**labels, MANAGED_BY_LABEL: MANAGED_BY_VALUE},
                "ownerReferences": [owner_reference(owner)],
            },
            "data": encoded,
        }
        try:
            return _decode(await self._client.request("POST", secret_path(namespace), body=body))
        except ApiConflict:
            # Ours from a run that ended before it knew, or somebody else's: its owner reference tells.
            existing = await self.read(namespace, name)
            if existing is None:
                raise
            return await self._replace(existing, encoded, owner, labels)

    async def _replace(
        self, existing: SecretObject, encoded: dict[str, str], owner: Body, labels: Mapping[str, str]
    ) -> SecretObject:
        if existing.owner_uid != owner["metadata"]["uid"]:
            raise SecretNotOurs(existing.namespace, existing.name)
        removed = dict.fromkeys(name for name in existing.data if name not in encoded)
        patch = {
            "metadata": {
                "uid": existing.uid,
                "resourceVersion": existing.resource_version,
                "labels": {**labels, MANAGED_BY_LABEL: MANAGED_BY_VALUE},
            },
            "data": {**removed, **encoded},
        }
        path = secret_path(existing.namespace, existing.name)
        try:
            return _decode(await self._client.request("PATCH", path, body=patch, content_type=MERGE_PATCH))
        except ApiNotFound as error:
            raise ApiConflict(f"Secret {existing.namespace}/{existing.name} was deleted meanwhile", 409) from error

    async def delete(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete exactly the Secret with this uid."""
        self.own.delete((namespace, name), uid)
        body = {"preconditions": {"uid": uid}}
        try:
            await self._client.request("DELETE", secret_path(namespace, name), body=body)
        except ApiError as error:
            self.own.kept(uid)
            # Gone already, or another one of the same name.
            if not isinstance(error, (ApiNotFound, ApiConflict)):
                raise


class SecretWatcher:
    """Tell when somebody else edits or deletes a Secret of ours, in one namespace or (None) in all."""

    def __init__(
        self,
        client: ApiClient,
        store: SecretStore,
        changed: Callable[[Key], None],
        *,
        namespaces: Sequence[str] | None,
        inactivity: float = INACTIVITY_SECONDS,
    ) -> None:
        """Watch with a label selector; ``changed`` gets the owner's key."""
        self._client = client
        self._store = store
        self._changed = changed
        self._scopes: Sequence[str | None] = (None,) if namespaces is None else tuple(namespaces)
        self._inactivity = inactivity
        self._owners: dict[Address, Key] = {}

    async def run(self) -> None:
        """Watch every scope until cancelled."""
        async with asyncio.TaskGroup() as group:
            for scope in self._scopes:
                group.create_task(self._watch_forever(scope), name=f"secret watcher {scope or '(all)'}")

    async def _watch_forever(self, scope: str | None) -> None:
        failures = 0
        warned = False
        while True:
            try:
                since = await self._list(scope)
                failures, warned = 0, False
                await self._follow(scope, since)
                # Whoever ends every stream at once is not asked at once again.
                delay = BACKOFF_SECONDS[0]
            except ApiForbidden as error:
                if not warned:
                    logger.warning("edited Secrets are noticed only at the next resync: %s", error)
                warned, delay = True, FORBIDDEN_SECONDS
            except ApiError as error:
                delay = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
                failures += 1
                logger.debug("watching Secrets again in %.1f s: %s", delay, error)
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    async def _list(self, scope: str | None) -> str:
        """Compare all Secrets with what is known; the first list only learns."""
        since = ""
        seen: set[Address] = set()
        deleted = self._store.own.deleted_in(scope)
        async for page in self._client.pages(secret_path(scope), {"labelSelector": SELECTOR}):
            since = page["metadata"]["resourceVersion"]
            for raw in page["items"]:
                seen.add(self._observe(raw))
        missing = [
            address for address in self._owners if address not in seen and (scope is None or address[0] == scope)
        ]
        for address in missing:
            self._forget(address)
        self._store.own.settle(deleted)
        return since

    async def _follow(self, scope: str | None, since: str) -> None:
        """Handle events until the server ends the stream; an expired version ends it too and leads to a new list."""
        query = {"labelSelector": SELECTOR, "resourceVersion": since}
        async for event in self._client.watch(secret_path(scope), query, inactivity=self._inactivity):
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self._observe(event["object"])
                case "DELETED":
                    metadata = event["object"]["metadata"]
                    self._forget((metadata["namespace"], metadata["name"]), metadata["uid"])
                case "ERROR":
                    logger.debug("the watch of Secrets ended: %s", event["object"].get("message"))
                    return

    def _observe(self, raw: Mapping[str, Any]) -> Address:
        address = (raw["metadata"]["namespace"], raw["metadata"]["name"])
        if self._store.own.is_deleted(raw["metadata"]["uid"]):
            return address
        foreign = self._store.own.seen(address, _fingerprint(raw.get("data") or {}, controller(raw)))
        # Who owned it before counts: an edit may have taken our reference away.
        owner = owner_key(raw) or self._owners.get(address)
        if owner is not None:
            self._owners[address] = owner
            if foreign:
                self._changed(owner)
        return address

    def _forget(self, address: Address, uid: str | None = None) -> None:
        foreign = self._store.own.gone(address, uid)
        if self._store.own.knows(address):
            return
        owner = self._owners.pop(address, None)
        if foreign and owner is not None:
            self._changed(owner)
