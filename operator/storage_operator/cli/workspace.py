"""A folder of manifests and its credentials as the command line works with them: the reconcilers, without Kubernetes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage_operator.adapters.files import FilesWorld, Manifests, load, remove_unfinished
from storage_operator.cli import output
from storage_operator.cli.database import OPERATOR_VARIABLE, RELEASE, conninfo_of
from storage_operator.devenv.locations import exclusive
from storage_operator.errors import UserError
from storage_operator.reconcile import Reconciler
from storage_operator.resources import cluster, component, tenant
from storage_operator.resources.conditions import Condition, ConditionType, Reason, find, read_conditions
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.world import Body, Key, Outcome

STANDARD_OUTPUT = "-"
_FOLDER_MODE = 0o700
_HASH_LENGTH = 16
_FAULT_NAME_LENGTH = 120
_CONCURRENCY = 4
_PAUSE_SECONDS = 0.25
_PAUSE_SECONDS_MAX = 2.0
# Worth asking again until the time is over; every other reason needs a person.
_PASSING = frozenset(
    {
        Reason.UNREACHABLE.value,
        Reason.MIGRATION_LOCKED.value,
        Reason.PROVISION_FAILED.value,
        Reason.APPLY_FAILED.value,
        Reason.SESSIONS_OPEN.value,
        Reason.DELETING.value,
    }
)
_PARSERS: Mapping[Kind, Callable[..., Any]] = {
    Kind.STORAGE_CLUSTER: cluster.parse,
    Kind.STORAGE_COMPONENT: component.parse,
    Kind.TENANT: tenant.parse,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One resource in the table at the end."""

    key: Key
    ready: str
    reason: str
    message: str

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do: Ready, suspended as declared, or gone."""
        return self.ready == "True" or self.reason in {Reason.SUSPENDED.value, "Deleted"}

    def cells(self) -> tuple[str, ...]:
        """Return the table's cells."""
        return (self.key.kind.value, f"{self.key.namespace}/{self.key.name}", self.ready, self.reason, self.message)

    def document(self) -> dict[str, str]:
        """Return the JSON form."""
        return {
            "kind": self.key.kind.value,
            "namespace": self.key.namespace,
            "name": self.key.name,
            "ready": self.ready,
            "reason": self.reason,
            "message": self.message,
        }


@dataclass(slots=True)
class Workspace:
    """Manifests that were checked, the world made of them, and the reconcilers that work on it."""

    world: FilesWorld
    reconciler: Reconciler
    folder: Path | None
    progress: Callable[[str], None] = field(default=lambda _text: None)

    async def converge(self, keys: Sequence[Key], seconds: float) -> None:
        """Reconcile in the order of kinds, and again what waits for something that passes, until the time is over."""
        deadline, pause = time.monotonic() + seconds, _PAUSE_SECONDS
        todo = list(keys)
        while True:
            again: list[Key] = []
            for kind in Kind:
                again += await self._round([key for key in todo if key.kind is kind], first=todo == list(keys))
            todo = [key for key in again if self._may_pass(key, again)]
            if not todo or time.monotonic() + pause > deadline:
                return
            self.progress(f"waiting: {self.line(todo[0]).message or todo[0]}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _round(self, keys: Sequence[Key], *, first: bool) -> list[Key]:
        """Reconcile keys of one kind, a few at once; return those that did not come to an end."""
        gate = asyncio.Semaphore(_CONCURRENCY)
        done = 0

        async def one(key: Key) -> Outcome:
            nonlocal done
            async with gate:
                outcome = await self.reconciler.reconcile(key)
            done += 1
            if first:
                self.progress(f"{key.kind}s: {done} of {len(keys)} looked at")
            return outcome

        outcomes = await asyncio.gather(*(one(key) for key in keys))
        return [key for key, done in zip(keys, outcomes, strict=True) if done.result in {"waiting", "failed"}]

    def _may_pass(self, key: Key, unfinished: Iterable[Key]) -> bool:
        line = self.line(key)
        if line.reason in {Reason.CLUSTER_NOT_READY.value, Reason.CLUSTER_NOT_FOUND.value}:
            # It passes when one of the clusters does: a cluster that came to an end changes no more.
            return any(each.kind is Kind.STORAGE_CLUSTER and self._may_pass(each, ()) for each in unfinished)
        # A cluster that is kept by what still uses it waits for nothing that passes.
        return line.reason in _PASSING and not (
            key.kind is Kind.STORAGE_CLUSTER and line.reason == Reason.DELETING.value
        )

    def line(self, key: Key) -> Line:
        """Return a resource's line as its status says it."""
        body = self.world.get(key)
        if body is None:
            return Line(key, "-", "Deleted", "")
        ready = find(read_conditions(body), ConditionType.READY)
        if ready is None:
            return Line(key, "Unknown", "Progressing", "not looked at")
        cause = _cause(body, ready)
        return Line(key, ready.status.value, cause.reason.value, cause.message or _remark(body, ready))

    def lines(self, keys: Iterable[Key]) -> list[Line]:
        """Return the lines of these resources."""
        return [self.line(key) for key in keys]

    def find_tenant(self, wanted: str) -> Key:
        """Find a Tenant by its tenant id or by namespace/name; raises ``UserError``."""
        for body in self.world.list(Kind.TENANT):
            metadata = body["metadata"]
            if wanted in {body.get("spec", {}).get("tenantId"), f"{metadata['namespace']}/{metadata['name']}"}:
                return Key.of(body)
        raise UserError(
            f"no Tenant {output.plain(wanted)}",
            "the manifests given with -f hold none of this id",
            "Check -f and the id",
        )

    def require_clusters(self) -> None:
        """Refuse manifests whose StorageCluster is not among them: without it nothing can be cleaned up."""
        known = set(self.clusters())
        for kind in (Kind.STORAGE_COMPONENT, Kind.TENANT):
            for body in self.world.list(kind):
                spec = _PARSERS[kind](body)
                key = Key(Kind.STORAGE_CLUSTER, spec.cluster.namespace, spec.cluster.name)
                if key not in known:
                    why = f"StorageCluster {key.namespace}/{key.name} is not among the manifests"
                    raise UserError(f"{Key.of(body)} cannot be deleted", why, "Add its file with another -f")

    def clusters(self) -> list[Key]:
        """Return the StorageClusters of the manifests."""
        return [key for key in self.world.keys() if key.kind is Kind.STORAGE_CLUSTER]  # noqa: SIM118 - not a mapping


def _cause(body: Body, ready: Condition) -> Condition:
    """Say what a resource waits for, where Ready itself only says that it waits."""
    if ready.reason is not Reason.PROGRESSING:
        return ready
    found = (find(read_conditions(body), type_) for type_ in (ConditionType.PROVISIONED, ConditionType.APPLIED))
    return next((each for each in found if each is not None and not each.is_true), ready)


def _remark(body: Body, ready: Condition) -> str:
    """A Ready resource may still have something to tell."""
    if not ready.is_true:
        return ""
    told = (ConditionType.APPLIED, ConditionType.QUOTA_EXCEEDED, ConditionType.CONNECTIONS_OVERCOMMITTED)
    found = (find(read_conditions(body), type_) for type_ in told)
    return "; ".join(each.message for each in found if each is not None and each.is_true and each.message)


def read_manifests(paths: Sequence[Path], postgres_url: str | None) -> Manifests:
    """Load and check manifests; every fault of every document is told at once, and nothing has happened yet."""
    with output.explained():
        manifests = load(paths)
    faults = [fault for body in manifests.bodies for fault in _faults(body)]
    if faults:
        raise UserError("the manifests are not valid", "; ".join(faults), "Correct them; nothing was changed")
    if not manifests.bodies:
        shown = ", ".join(output.plain(path) for path in paths)
        raise UserError("nothing to do", f"{shown} holds no StorageCluster, StorageComponent or Tenant", "Check -f")
    return manifests if postgres_url is None else _with_url(manifests, postgres_url)


def _faults(body: Body) -> list[str]:
    result = _PARSERS[Kind(body["kind"])](body, strict=True)
    if not isinstance(result, Faults):
        return []
    metadata = Metadata.of(body)
    where = output.plain(f"{body['kind']} {metadata.namespace}/{metadata.name}")[:_FAULT_NAME_LENGTH]
    return [f"{where}: {output.plain(fault)}" for fault in result]


def _with_url(manifests: Manifests, url: str) -> Manifests:
    """Let a connection string stand for the Secret that the one StorageCluster names."""
    specs = [cluster.parse(body) for body in manifests.bodies if body["kind"] == Kind.STORAGE_CLUSTER.value]
    if len(specs) > 1:
        raise UserError(
            f"--postgres-url (or {OPERATOR_VARIABLE}) names one database",
            f"the manifests hold {len(specs)} StorageClusters",
            "Write a Secret for each among the manifests instead",
        )
    conninfo_of(url, OPERATOR_VARIABLE)
    secrets = dict(manifests.secrets)
    for spec in specs:
        if isinstance(spec, Faults):
            continue
        for reference in (spec.connection, spec.direct_connection):
            if reference is not None:
                place = (spec.metadata.namespace, reference.name)
                secrets[place] = {**secrets.get(place, {}), reference.key: url.encode("utf-8", "surrogateescape")}
    return Manifests(manifests.bodies, secrets, manifests.namespaces)


def default_folder(paths: Sequence[Path]) -> Path:
    """Return where the credentials of these manifests are kept: the same place for every command on one folder."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    folders = sorted({str((path if path.is_dir() else path.parent).resolve()) for path in paths})
    digest = hashlib.sha256("\0".join(folders).encode("utf-8", "surrogateescape")).hexdigest()
    return root / "llmspell" / digest[:_HASH_LENGTH]


def credentials_folder(paths: Sequence[Path], credentials: str | None) -> Path | None:
    """Resolve --credentials: a folder, None for standard output, the default when it is not given."""
    if credentials == STANDARD_OUTPUT:
        return None
    return default_folder(paths) if credentials is None else Path(credentials).expanduser().absolute()


def existing(folder: Path | None) -> Path | None:
    """Return the folder if it is there: a dry run leaves no trace, so it makes none."""
    return folder if folder is not None and folder.exists() else None


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Let one command at a time work on a credentials folder; the lock of a killed one is free at once."""
    if folder is None:
        yield
        return
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise UserError(
            f"cannot use the credentials folder {output.plain(folder)}",
            error.strerror or str(error),
            "Choose another with --credentials",
        ) from None
    if mode & 0o077:
        output.note(f"warning: others may read the folder {output.plain(folder)}; its files stay private")
    with exclusive(folder / ".lock", lambda: output.note("waiting for another command on these manifests")):
        remove_unfinished(folder)
        yield


@asynccontextmanager
async def opened(
    manifests: Manifests, folder: Path | None, progress: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[Workspace]:
    """Make the world and its reconcilers, and close every session at the end."""
    try:
        world = FilesWorld(manifests, folder)
        reconciler = Reconciler(world, release=RELEASE, holder=f"cli@{socket.gethostname()}:{os.getpid()}")
        try:
            yield Workspace(world, reconciler, folder, progress)
        finally:
            await reconciler.close()
    except OSError as error:
        place = output.plain(error.filename or folder or "a file")
        raise UserError(f"cannot use {place}", error.strerror or str(error), "Check its rights and the disk") from None


def with_body(manifests: Manifests, key: Key, change: Callable[[Body], Body]) -> Manifests:
    """Return manifests in which one resource is changed."""
    bodies = tuple(change(body) if Key.of(body) == key else body for body in manifests.bodies)
    return Manifests(bodies, manifests.secrets, manifests.namespaces)
