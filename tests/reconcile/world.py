"""A world in memory with an API server's manners: uids, generations, finalizers, stale writes, and crashes on demand."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage_operator.errors import ApiConflict, SecretNotOurs
from storage_operator.resources.kinds import API_VERSION, FINALIZER, Kind
from storage_operator.world import Body, EventType, Key, SecretObject


class MemoryWorld:
    """Implements ``World``. ``before`` is called before each change, and may raise to crash the process there."""

    cluster_uid = "test-cluster"

    def __init__(self) -> None:
        """Begin empty."""
        self.bodies: dict[Key, dict[str, Any]] = {}
        self.secrets: dict[tuple[str, str], SecretObject] = {}
        self.unwatched: set[Key] = set()
        self.labels: dict[str, Mapping[str, str]] = {}
        self.events: list[tuple[str, str, str]] = []
        self.before: Callable[[str], None] = lambda _what: None
        self._numbers = itertools.count(1)

    def put(self, kind: Kind, namespace: str, name: str, spec: Mapping[str, Any], **annotations: str) -> Key:
        """Apply a manifest: a new object, or the next generation of one whose spec changed."""
        key = Key(kind, namespace, name)
        body = self.bodies.get(key)
        if body is None:
            metadata = {"namespace": namespace, "name": name, "uid": f"uid-{next(self._numbers)}", "generation": 1}
            metadata["creationTimestamp"] = f"2026-01-01T00:{next(self._numbers) // 60 % 60:02d}:00Z"
            body = {"apiVersion": API_VERSION, "kind": kind.value, "metadata": metadata}
        elif body["spec"] != spec:
            body = {**body, "metadata": {**body["metadata"], "generation": body["metadata"]["generation"] + 1}}
        given = {f"storage.llmspell.dev/{each.replace('_', '-')}": value for each, value in annotations.items()}
        merged = {**body["metadata"].get("annotations", {}), **given}
        self.bodies[key] = {
            **body,
            "metadata": {**body["metadata"], "annotations": merged},
            "spec": copy.deepcopy(dict(spec)),
        }
        return key

    def delete(self, key: Key) -> None:
        """Ask for an object's deletion: it goes when nobody's finalizer holds it."""
        body = self.bodies.get(key)
        if body is None:
            return
        if body["metadata"].get("finalizers"):
            metadata = {**body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            self.bodies[key] = {**body, "metadata": metadata}
        else:
            self._gone(key)

    def _gone(self, key: Key) -> None:
        body = self.bodies.pop(key)
        uid = body["metadata"]["uid"]
        self.secrets = {place: each for place, each in self.secrets.items() if each.owner_uid != uid}

    def secret(self, namespace: str, name: str, data: Mapping[str, bytes], owner_uid: str | None = None) -> None:
        """Put a Secret of somebody's."""
        number = next(self._numbers)
        self.secrets[namespace, name] = SecretObject(
            namespace, name, f"secret-{number}", dict(data), owner_uid, {}, str(number)
        )

    def get(self, key: Key) -> Body | None:
        """Return the body as it is now."""
        return self.bodies.get(key)

    def list(self, kind: Kind) -> Sequence[Body]:
        """Return the bodies of one kind."""
        return [body for key, body in self.bodies.items() if key.kind is kind]

    async def fetch(self, key: Key) -> Body | None:
        """Return the body as it is now."""
        return self.bodies.get(key)

    async def exists(self, key: Key) -> bool:
        """Tell whether it is there, in a namespace that is watched or in another."""
        return key in self.bodies or key in self.unwatched

    async def namespace_labels(self, namespace: str) -> Mapping[str, str] | None:
        """Return a namespace's labels."""
        return self.labels.get(namespace, {})

    async def read_secret(self, namespace: str, name: str) -> SecretObject | None:
        """Return a Secret."""
        return self.secrets.get((namespace, name))

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
        """Create, or replace exactly the version that was read."""
        self.before("write_secret")
        former, uid = self.secrets.get((namespace, name)), owner["metadata"]["uid"]
        if former is not None and former.owner_uid != uid:
            raise SecretNotOurs(namespace, name)
        if (former and former.resource_version) != (existing and existing.resource_version):
            raise ApiConflict("the Secret changed", 409)
        number = next(self._numbers)
        secret_uid = former.uid if former is not None else f"secret-{number}"
        secret = SecretObject(namespace, name, secret_uid, dict(data), uid, dict(labels), str(number))
        self.secrets[namespace, name] = secret
        return secret

    async def delete_secret(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete the Secret with this uid."""
        self.before("delete_secret")
        found = self.secrets.get((namespace, name))
        if found is not None and found.uid == uid:
            del self.secrets[namespace, name]

    async def patch_status(self, body: Body, status: Mapping[str, Any]) -> None:
        """Replace the status."""
        self.before("patch_status")
        key = Key.of(body)
        if key in self.bodies and self.bodies[key]["metadata"]["uid"] == body["metadata"]["uid"]:
            kept = {name: value for name, value in status.items() if value is not None}
            self.bodies[key] = {**self.bodies[key], "status": copy.deepcopy(kept)}

    async def add_finalizer(self, body: Body) -> Body:
        """Add ours."""
        key = Key.of(body)
        if FINALIZER in body["metadata"].get("finalizers", []):
            return body
        self.before("add_finalizer")
        if key not in self.bodies or self.bodies[key]["metadata"]["uid"] != body["metadata"]["uid"]:
            raise ApiConflict("the object is gone", 409)
        current = self.bodies[key]
        self.bodies[key] = {**current, "metadata": {**current["metadata"], "finalizers": [FINALIZER]}}
        return self.bodies[key]

    async def remove_finalizer(self, body: Body) -> None:
        """Remove ours; the object goes when it was to be deleted."""
        self.before("remove_finalizer")
        key = Key.of(body)
        if key in self.bodies and self.bodies[key]["metadata"].get("deletionTimestamp"):
            self._gone(key)

    async def emit(self, body: Body, type: EventType, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        """Remember an Event."""
        self.events.append((type, reason, message))


def condition(body: Body | None, type_: str) -> tuple[str, str]:
    """Return (status, reason) of a condition, or ("", "") when there is none."""
    for each in ((body or {}).get("status") or {}).get("conditions", []):
        if each["type"] == type_:
            return each["status"], each["reason"]
    return "", ""


def message(body: Body | None, type_: str) -> str:
    """Return a condition's message."""
    found = [each for each in ((body or {}).get("status") or {}).get("conditions", []) if each["type"] == type_]
    return str(found[0]["message"]) if found else ""
