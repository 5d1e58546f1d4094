"""What the reconciler may ask of the world around the database, and the values that cross that border.

Two adapters implement ``World``: ``adapters.kubernetes`` (a cluster) and ``adapters.files`` (a folder of manifests).
Reconcilers know only this module, so the same code provisions a tenant with and without Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self, TypeAlias

from storage_operator.resources.kinds import FINALIZER, MANAGED_BY_LABEL, Kind
from storage_operator.resources.kinds import GROUP as API_GROUP
from storage_operator.resources.kinds import MANAGER as MANAGED_BY_VALUE
from storage_operator.resources.kinds import VERSION as API_VERSION

__all__ = [
    "API_GROUP",
    "API_VERSION",
    "FINALIZER",
    "MANAGED_BY_LABEL",
    "MANAGED_BY_VALUE",
    "Body",
    "EventType",
    "Key",
    "Kind",
    "Outcome",
    "SecretObject",
    "World",
    "cluster_of",
]

Body: TypeAlias = Mapping[str, Any]
EventType: TypeAlias = Literal["Normal", "Warning"]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The address of one custom resource."""

    kind: Kind
    namespace: str
    name: str

    @classmethod
    def of(cls, body: Body) -> Self:
        """Read the address of a body."""
        metadata = body["metadata"]
        return cls(Kind(body["kind"]), metadata["namespace"], metadata["name"])

    def __str__(self) -> str:
        """Format as ``Tenant/namespace/name``, for logs."""
        return f"{self.kind}/{self.namespace}/{self.name}"


def cluster_of(body: Body) -> Key | None:
    """Return the StorageCluster that a component or tenant names (itself for a cluster); None when it names none.

    For bodies that nobody has checked: a spec with faults still tells where it belongs.
    """
    key = Key.of(body)
    if key.kind is Kind.STORAGE_CLUSTER:
        return key
    reference = (body.get("spec") or {}).get("clusterRef") or {}
    name = reference.get("name")
    return Key(Kind.STORAGE_CLUSTER, reference.get("namespace") or key.namespace, name) if name else None


@dataclass(frozen=True, slots=True)
class SecretObject:
    """A Secret as it was read: decoded data, and what is needed to change exactly this version of it."""

    namespace: str
    name: str
    uid: str
    data: Mapping[str, bytes] = field(repr=False)
    owner_uid: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reconcile ended: a documented word for metrics, and when to come back at the latest.

    ``result`` is one of ``unchanged``, ``changed``, ``waiting``, ``refused``, ``failed``, ``deleted``. ``failed`` and
    ``waiting`` are retried with the queue's exponential backoff when ``requeue_after`` is None; every other result then
    waits for the next change or resync.
    """

    result: str
    requeue_after: float | None = None


class World(Protocol):
    """The cluster (or folder) around the database.

    Reads from the cache never wait. Every coroutine is bounded by a time-out and raises ``ApiUnavailable`` when there
    is no answer, ``ApiForbidden`` when a right is missing, ``ApiConflict`` when the object changed meanwhile (the
    queue then reconciles it again from a fresh body).
    """

    cluster_uid: str
    """Identity of the cluster: the uid of the namespace kube-system, or ``cli``."""

    def get(self, key: Key) -> Body | None:
        """Return the cached body, or None when there is no such object."""
        ...

    def list(self, kind: Kind) -> Sequence[Body]:
        """Return the cached bodies of one kind, in no particular order."""
        ...

    async def fetch(self, key: Key) -> Body | None:
        """Read one object live and refresh the cache with it; None when it does not exist."""
        ...

    async def exists(self, key: Key) -> bool:
        """Ask live whether an object is there, wherever it lives; one that may not be looked at counts as there."""
        ...

    async def namespace_labels(self, namespace: str) -> Mapping[str, str] | None:
        """Return a namespace's labels, or None when the namespace does not exist."""
        ...

    async def read_secret(self, namespace: str, name: str) -> SecretObject | None:
        """Read one Secret live; None when it does not exist."""
        ...

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
        """Create a Secret owned by ``owner`` (controller reference), or replace exactly the version that was read.

        Raises ``SecretNotOurs`` for a Secret that ``owner`` does not own, ``ApiConflict`` when ``existing`` is stale.
        """
        ...

    async def delete_secret(self, namespace: str, name: str, *, uid: str) -> None:
        """Delete the Secret with this uid; a Secret that is already gone, or is another one, is left as it is."""
        ...

    async def patch_status(self, body: Body, status: Mapping[str, Any]) -> None:
        """Make the status subresource equal to ``status``; sends nothing when ``body["status"]`` already is."""
        ...

    async def add_finalizer(self, body: Body) -> Body:
        """Add our finalizer and return the new body; sends nothing when it is there."""
        ...

    async def remove_finalizer(self, body: Body) -> None:
        """Remove our finalizer, and nobody else's; sends nothing when it is absent or the object is gone."""
        ...

    async def emit(self, body: Body, type: EventType, reason: str, message: str) -> None:  # noqa: A002 - the API's word
        """Record an Event about ``body``; failures are logged, never raised."""
        ...
