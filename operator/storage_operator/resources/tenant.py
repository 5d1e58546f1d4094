"""A Tenant as it was asked for: one tenant id on a StorageCluster, its stores, quotas and credentials."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from storage_operator.resources.cluster import Isolation
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata, read_header
from storage_operator.resources.names import (
    DNS_SUBDOMAIN,
    DNS_SUBDOMAIN_MAX_LENGTH,
    SECRET_KEY,
    TENANT_ID,
    TENANT_ID_MAX_LENGTH,
    StoreKind,
    default_secret_name,
)
from storage_operator.resources.reader import Reader
from storage_operator.resources.references import ClusterReference, read_cluster_reference
from storagelib.secret_keys import MODE_KEY, SCHEMA_KEY, SecretKeys, manifest_name

if TYPE_CHECKING:
    from storage_operator.resources.faults import Faults

__all__ = [
    "MODE_KEY",
    "SCHEMA_KEY",
    "Credentials",
    "DeletionPolicy",
    "Quotas",
    "Rotation",
    "SecretKeys",
    "TenantSpec",
    "parse",
]

_SECOND: Final = 1_000
_DAY: Final = 86_400 * _SECOND
# PostgreSQL keeps these settings in 31 bits of milliseconds and of kilobytes.
_MAX_SETTING: Final = 2**31 - 1
_MAX_KEY_LENGTH: Final = 63
_KIB: Final = 1024
_MIN_WORK_MEM: Final = 64 * _KIB
_MAX_WORK_MEM: Final = 1024**4
_MIN_STORAGE: Final = 1
_MAX_STORAGE: Final = 1024**6


class DeletionPolicy(StrEnum):
    """What becomes of the rows when the Tenant is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits of a tenant; None means the server's own.

    ``connections`` and, when ``enforce_storage``, ``storage_bytes`` are hard. The others are defaults that a session
    may change and that the watchdog enforces.
    """

    connections: int | None = None
    statement_timeout_ms: int | None = None
    lock_timeout_ms: int | None = None
    idle_in_transaction_timeout_ms: int | None = None
    work_mem_kb: int | None = None
    storage_bytes: int | None = None
    enforce_storage: bool = False


@dataclass(frozen=True, slots=True)
class Rotation:
    """How often credentials change (None: only on request) and how long the old ones live on."""

    interval_seconds: float | None = None
    overlap_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Secret for the application; ``secret_name`` is resolved."""

    secret_name: str
    keys: SecretKeys = field(default_factory=SecretKeys)
    rotation: Rotation = field(default_factory=Rotation)


@dataclass(frozen=True, slots=True)
class TenantSpec:
    """A valid Tenant with every default in place; ``components`` None means all that the cluster has enabled."""

    metadata: Metadata
    tenant_id: str
    cluster: ClusterReference
    components: tuple[StoreKind, ...] | None
    isolation: Isolation
    quotas: Quotas
    credentials: Credentials
    suspended: bool
    deletion_policy: DeletionPolicy


def parse(body: object, *, strict: bool = False) -> TenantSpec | Faults:
    """Return the spec, or every fault of the document. Never raises.

    ``strict`` reports unknown fields as well, for files that people type; see Reader.
    """
    document = Reader.of(body, strict=strict)
    metadata = read_header(document, body, Kind.TENANT)
    spec = document.child("spec", required=True)
    isolation = spec.choice("isolation", Isolation, default=Isolation.ROLE)
    quotas = _read_quotas(spec.child("quotas"))
    if isolation is Isolation.SEALED and quotas.connections is not None:
        spec.refuse("quotas.connections", "cannot be given with isolation Sealed, where tenants share one login")
    parsed = TenantSpec(
        metadata=metadata,
        tenant_id=spec.text("tenantId", pattern=TENANT_ID, longest=TENANT_ID_MAX_LENGTH, kind="a tenant id"),
        cluster=read_cluster_reference(spec, metadata.namespace),
        components=spec.choices("components", StoreKind),
        isolation=isolation,
        quotas=quotas,
        credentials=_read_credentials(spec.child("credentials"), metadata.name),
        suspended=spec.boolean("suspended", default=False),
        deletion_policy=spec.choice("deletionPolicy", DeletionPolicy, default=DeletionPolicy.RETAIN),
    )
    spec.finish()
    document.finish()
    return document.faults or parsed


def _read_quotas(quotas: Reader) -> Quotas:
    work_mem = quotas.optional_quantity("workMem", least=_MIN_WORK_MEM, most=_MAX_WORK_MEM)
    parsed = Quotas(
        connections=quotas.optional_integer("connections", least=1, most=10_000),
        statement_timeout_ms=quotas.optional_duration("statementTimeout", least=1, most=_MAX_SETTING),
        lock_timeout_ms=quotas.optional_duration("lockTimeout", least=1, most=_MAX_SETTING),
        idle_in_transaction_timeout_ms=quotas.optional_duration("idleInTransactionTimeout", least=1, most=_MAX_SETTING),
        work_mem_kb=None if work_mem is None else -(-work_mem // _KIB),
        storage_bytes=quotas.optional_quantity("storage", least=_MIN_STORAGE, most=_MAX_STORAGE),
        enforce_storage=quotas.boolean("enforceStorage", default=False),
    )
    if parsed.enforce_storage and not quotas.has("storage"):
        quotas.refuse("enforceStorage", "needs a limit to enforce: give storage as well")
    quotas.finish()
    return parsed


def _read_credentials(credentials: Reader, object_name: str) -> Credentials:
    name = credentials.text(
        "secretName",
        pattern=DNS_SUBDOMAIN,
        longest=DNS_SUBDOMAIN_MAX_LENGTH,
        default=default_secret_name(object_name),
        kind="the name of a Secret",
    )
    parsed = Credentials(name, _read_keys(credentials.child("keys")), _read_rotation(credentials.child("rotation")))
    credentials.finish()
    return parsed


def _read_keys(keys: Reader) -> SecretKeys:
    chosen: dict[str, str] = {}
    for entry in fields(SecretKeys):
        chosen[entry.name] = keys.text(
            manifest_name(entry.name),
            pattern=SECRET_KEY,
            longest=_MAX_KEY_LENGTH,
            default=str(entry.default),
            kind="a key of a Secret",
        )
    names = [*chosen.values(), MODE_KEY, SCHEMA_KEY]
    if len(set(names)) < len(names) and "" not in names:
        keys.refuse("", "must all be different, and none may be mode or schema")
    keys.finish()
    return SecretKeys(**chosen)


def _read_rotation(rotation: Reader) -> Rotation:
    interval = rotation.optional_duration("interval", least=10 * _SECOND, most=3_660 * _DAY)
    overlap = rotation.duration("overlap", least=0, most=366 * _DAY, default="1h")
    if interval is not None and overlap >= interval:
        rotation.refuse("overlap", "must be shorter than interval")
    rotation.finish()
    return Rotation(None if interval is None else interval / _SECOND, overlap / _SECOND)
