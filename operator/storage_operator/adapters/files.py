"""A folder of manifests as the world: the same reconcilers without Kubernetes.

Custom resources and Secrets come from YAML files. Credentials that a reconcile issues are written to a folder, one
private file a Secret, so that the next run finds them; without a folder they live as long as the process. Statuses are
kept beside them, because a rotation's annotation is answered once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from storage_operator.errors import SecretNotOurs, UserError
from storage_operator.resources.faults import shown
from storage_operator.resources.kinds import GROUP, Kind
from storage_operator.resources.names import DNS_SUBDOMAIN
from storage_operator.world import FINALIZER, Body, EventType, Key, SecretObject

_NAME = re.compile(DNS_SUBDOMAIN)
_NAME_LENGTH_MAX = 253
MANIFEST_BYTES_MAX = 4 * 1024 * 1024
MANIFEST_VALUES_MAX = 1_000_000
DEFAULT_NAMESPACE = "default"
TEMPORARY_PREFIX = ".unfinished-"
_FILE_NAME_MAX = 200


@dataclass(frozen=True, slots=True)
class Manifests:
    """What the files hold: our resources, Secrets by (namespace, name), and namespaces' labels."""

    bodies: tuple[Body, ...]
    secrets: Mapping[tuple[str, str], Mapping[str, bytes]] = field(repr=False)
    namespaces: Mapping[str, Mapping[str, str]]


def load(paths: Iterable[Path]) -> Manifests:
    """Read every YAML file below these paths; raises ``UserError`` with the file and what is wrong."""
    bodies: dict[Key, Body] = {}
    secrets: dict[tuple[str, str], Mapping[str, bytes]] = {}
    namespaces: dict[str, Mapping[str, str]] = {}
    for path in paths:
        for file in _files(path):
            for document in _documents(file):
                _place(file, document, bodies, secrets, namespaces)
    return Manifests(tuple(bodies.values()), secrets, namespaces)


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(
            each for each in path.rglob("*") if each.suffix in {".yaml", ".yml", ".json"} and each.is_file()
        )
    elif path.exists():
        yield path
    else:
        raise UserError(f"cannot read {path}", "there is no such file or folder", "check the argument of -f")


def _documents(file: Path) -> list[Mapping[str, Any]]:
    try:
        if file.stat().st_size > MANIFEST_BYTES_MAX:
            raise UserError(f"{file} is larger than {MANIFEST_BYTES_MAX} bytes", "manifests are small", "split it")
        loaded = [each for each in yaml.safe_load_all(file.read_text("utf-8")) if each is not None]
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: a date that is none, text that is no UTF-8
        problem = str(getattr(error, "problem", None) or error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark is not None else ""
        raise UserError(f"cannot read {file}{place}", problem, "correct the YAML") from None
    except RecursionError:
        raise UserError(f"cannot read {file}", "it is nested too deeply", "correct the YAML") from None
    if _too_many(loaded):
        raise UserError(f"cannot use {file}", "its aliases unfold to more than a manifest holds", "correct the YAML")
    for each in loaded:
        if (
            not isinstance(each, Mapping)
            or not isinstance(each.get("metadata"), Mapping)
            or not each["metadata"].get("name")
        ):
            raise UserError(f"cannot use {file}", "a document is not an object with metadata.name", "correct the YAML")
    return loaded


def _too_many(loaded: object) -> bool:
    """Whether there are more values than any manifest has; aliases repeat what they name, or hold themselves."""
    todo, count = [loaded], 0
    while todo and count <= MANIFEST_VALUES_MAX:
        value = todo.pop()
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        count += len(inner)
        todo.extend(inner)
    return count > MANIFEST_VALUES_MAX


def _place(
    file: Path,
    document: Mapping[str, Any],
    bodies: dict[Key, Body],
    secrets: dict[tuple[str, str], Mapping[str, bytes]],
    namespaces: dict[str, Mapping[str, str]],
) -> None:
    metadata = {"namespace": DEFAULT_NAMESPACE, **document["metadata"]}
    kind, name, namespace = document.get("kind"), metadata["name"], metadata["namespace"]
    ours = str(document.get("apiVersion", "")).startswith(f"{GROUP}/")
    if not ours and kind not in {"Secret", "Namespace"}:
        return
    for what, value in (("name", name), ("namespace", namespace)):
        # Both become parts of file names, and everything else that Kubernetes would refuse has no place here either.
        if not isinstance(value, str) or len(value) > _NAME_LENGTH_MAX or not _NAME.fullmatch(value):
            raise UserError(f"cannot use {file}", f"metadata.{what} is not a Kubernetes name", "correct the YAML")
    if kind == "Secret":
        secrets[namespace, name] = _secret_data(file, document)
    elif kind == "Namespace":
        labels = metadata.get("labels") or {}
        if not isinstance(labels, Mapping):
            raise UserError(f"cannot use {file}", "a Namespace's labels are not an object", "correct the YAML")
        namespaces[name] = {str(label): str(value) for label, value in labels.items()}
    else:
        if not isinstance(kind, str) or kind not in set(Kind):
            raise UserError(f"cannot use {file}", f"{GROUP} has no kind {shown(kind)}", f"kinds are: {', '.join(Kind)}")
        uid = hashlib.sha256(f"{kind}/{namespace}/{name}".encode()).hexdigest()[:32]
        body = {**document, "metadata": {**metadata, "uid": uid, "generation": 1}}
        bodies[Key(Kind(kind), namespace, name)] = body


def _secret_data(file: Path, document: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        data = {name: base64.b64decode(value, validate=True) for name, value in (document.get("data") or {}).items()}
        data.update({name: str(value).encode() for name, value in (document.get("stringData") or {}).items()})
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            f"cannot use {file}", "a Secret's data is not base64", "use stringData for plain values"
        ) from None
    return data


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed while it wrote left behind: such a file may hold a credential.

    Only for whoever works on the folder alone; another run's file that is being written looks the same.
    """
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        leftover.unlink(missing_ok=True)


class FilesWorld:
    """Implements ``World`` over loaded manifests and a folder for what a reconcile writes."""

    cluster_uid = "cli"

    def __init__(
        self,
        manifests: Manifests,
        folder: Path | None = None,
        on_event: Callable[[Body, str, str, str], None] | None = None,
    ) -> None:
        """Take manifests; ``folder`` keeps credentials and statuses between runs."""
        self._bodies: dict[Key, dict[str, Any]] = {}
        self._given = manifests.secrets
        self._namespaces = manifests.namespaces
        self._folder = folder
        self._written: dict[tuple[str, str], SecretObject] = {}
        self._on_event = on_event
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for body in manifests.bodies:
            key = Key.of(body)
            kept = self._load(self._status_path(key))
            fingerprint = _fingerprint(body)
            generation = int(kept.get("generation", 1)) + (kept.get("spec", fingerprint) != fingerprint)
            metadata = {**body["metadata"], "generation": generation}
            status = kept.get("status")
            self._bodies[key] = {**body, "metadata": metadata, **({"status": status} if status else {})}

    def keys(self) -> tuple[Key, ...]:
        """Return every resource, clusters first, then components, then tenants."""
        order = list(Kind)
        return tuple(sorted(self._bodies, key=lambda key: (order.index(key.kind), key.namespace, key.name)))

    def remove(self, key: Key) -> None:
        """Forget a resource and its status, after its deletion."""
        self._bodies.pop(key, None)
        path = self._status_path(key)
        if path is not None:
            path.unlink(missing_ok=True)

    def mark_deleted(self, key: Key) -> None:
        """Let the next reconcile of this resource be its deletion."""
        body = self._bodies[key]
        metadata = {**body["metadata"], "deletionTimestamp": "now", "finalizers": [FINALIZER]}
        self._bodies[key] = {**body, "metadata": metadata}

    def get(self, key: Key) -> Body | None:
        """Return a body."""
        return self._bodies.get(key)

    def list(self, kind: Kind) -> Sequence[Body]:
        """Return the bodies of one kind."""
        return [body for key, body in self._bodies.items() if key.kind is kind]

    async def fetch(self, key: Key) -> Body | None:
        """Return a body; files do not change meanwhile."""
        return self._bodies.get(key)

    async def exists(self, key: Key) -> bool:
        """Tell whether it is among the manifests."""
        return key in self._bodies

    async def namespace_labels(self, namespace: str) -> Mapping[str, str] | None:
        """Return the labels of a Namespace among the manifests; one that is only named has none."""
        return self._namespaces.get(namespace, {})

    async def read_secret(self, namespace: str, name: str) -> SecretObject | None:
        """Return a Secret that was written, or one of the manifests."""
        written = self._written.get((namespace, name)) or self._load_secret(namespace, name)
        if written is not None:
            return written
        given = self._given.get((namespace, name))
        return None if given is None else SecretObject(namespace, name, f"file-{name}", given)

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
        """Keep a Secret: in memory, and in a private file when there is a folder."""
        del existing
        former = await self.read_secret(namespace, name)
        uid = str(owner["metadata"]["uid"])
        if former is not None and former.owner_uid != uid:
            raise SecretNotOurs(namespace, name)
        secret = SecretObject(namespace, name, f"written-{name}", dict(data), uid, dict(labels))
        self._written[namespace, name] = secret
        path = self._secret_path(namespace, name)
        if path is not None:
            encoded = {each: base64.b64encode(value).decode() for each, value in sorted(data.items())}
            self._store(path, {"owner": uid, "labels": dict(labels), "data": encoded})
        return secret

    async def delete_secret(self, namespace: str, name: str, *, uid: str) -> None:
        """Remove a written Secret."""
        written = await self.read_secret(namespace, name)
        if written is None or written.uid != uid:
            return
        self._written.pop((namespace, name), None)
        path = self._secret_path(namespace, name)
        if path is not None:
            path.unlink(missing_ok=True)

    async def patch_status(self, body: Body, status: Mapping[str, Any]) -> None:
        """Keep a status."""
        key = Key.of(body)
        if key in self._bodies:
            self._bodies[key]["status"] = {name: value for name, value in status.items() if value is not None}
            path = self._status_path(key)
            if path is not None:
                kept = self._bodies[key]
                state = {
                    "generation": kept["metadata"]["generation"],
                    "spec": _fingerprint(kept),
                    "status": kept["status"],
                }
                self._store(path, state)

    async def add_finalizer(self, body: Body) -> Body:
        """Files need none."""
        return body

    async def remove_finalizer(self, body: Body) -> None:
        """The resource is gone."""
        self.remove(Key.of(body))

    async def emit(self, body: Body, type: EventType, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        """Hand an Event to whoever listens."""
        if self._on_event is not None:
            self._on_event(body, type, reason, message)

    def written_secrets(self) -> tuple[SecretObject, ...]:
        """Return what this process wrote."""
        return tuple(self._written.values())

    def _secret_path(self, namespace: str, name: str) -> Path | None:
        return None if self._folder is None else self._folder / _file_name("secret", namespace, name)

    def _status_path(self, key: Key) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / _file_name(f"status.{key.kind.lower()}", key.namespace, key.name)

    def _load_secret(self, namespace: str, name: str) -> SecretObject | None:
        kept = self._load(self._secret_path(namespace, name))
        if not kept:
            return None
        data = {each: base64.b64decode(value) for each, value in kept["data"].items()}
        return SecretObject(namespace, name, f"written-{name}", data, kept["owner"], kept["labels"])

    @staticmethod
    def _load(path: Path | None) -> dict[str, Any]:
        if path is None or not path.exists():
            return {}
        try:
            kept = json.loads(path.read_text("utf-8"))
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise UserError(f"cannot read {path}", "it is not what this command wrote", "remove it")
        return kept

    @staticmethod
    def _store(path: Path, content: Mapping[str, Any]) -> None:
        """Replace a file at once and never let it be readable by others."""
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, sort_keys=True)
        Path(temporary).replace(path)


def _file_name(prefix: str, namespace: str, name: str) -> str:
    """Name a file of one object; names that no file system takes are cut and told apart by a hash."""
    whole = f"{prefix}.{namespace}.{name}"
    if len(whole) > _FILE_NAME_MAX:
        whole = f"{whole[:_FILE_NAME_MAX]}.{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
    return f"{whole}.json"


def _fingerprint(body: Body) -> str:
    """Tell one spec from another, so that an edited manifest counts as the next generation."""
    text = json.dumps(body.get("spec"), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
