"""Conditions: what a status says, under which reasons, and when a transition time moves.

The types and reasons are API: users write alerts and ``kubectl wait`` against them. Each reason carries its
explanation, and the reference documentation is generated from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

from storage_operator.resources.kinds import Kind

__all__ = [
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Reason",
    "clean_message",
    "derive_ready",
    "find",
    "format_time",
    "is_ready",
    "merge",
    "parse_time",
    "read_conditions",
]

_MAX_MESSAGE_LENGTH: Final = 1024
_CREDENTIALS: Final = re.compile(r"(?<=://)\S*@")
_PASSWORD: Final = re.compile(r"(?i)\b(password|capability)\s*=\s*('[^']*'|\S+)")
_UNPRINTABLE: Final = re.compile(r"(?:[^\S ]|[\x00-\x1f\x7f-\x9f\ud800-\udfff])+")


class ConditionStatus(StrEnum):
    """Whether a condition holds; Unknown when the operator could not look."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class _Described(StrEnum):
    """A word of the API, with the sentence that the documentation has for it."""

    description: str

    def __new__(cls, value: str, description: str) -> Self:
        """Make a member that carries its description."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member


class ConditionType(_Described):
    """What a condition is about, with the sentence for the documentation."""

    ACCEPTED = "Accepted", "The manifest is valid and its references and claims are allowed."
    REACHABLE = "Reachable", "The operator is connected to the database with the rights it needs."
    MIGRATED = "Migrated", "The schema is at the version that this release or the manifest asks for."
    CONTRACT_HOLDS = "ContractHolds", "The audit of the database found no hole in the isolation of tenants."
    CONNECTIONS_OVERCOMMITTED = (
        "ConnectionsOvercommitted",
        "The tenants' connection limits, the operator's own and the reserve are more than max_connections. A warning.",
    )
    APPLIED = "Applied", "The component's tables, parameters and partitions are as the manifest says."
    PROVISIONED = "Provisioned", "Login, binding, settings and Secret of the tenant exist and are as the manifest says."
    ISOLATION_VERIFIED = (
        "IsolationVerified",
        "A probe logged in as the tenant and could neither read nor write a neighbour's row.",
    )
    QUOTA_EXCEEDED = "QuotaExceeded", "The tenant stores more bytes than its quota. A warning unless enforced."
    DELETION_BLOCKED = "DeletionBlocked", "The object is being deleted, and something stands in the way."
    READY = "Ready", "The object is in use as its manifest says; the reason is that of the first condition that fails."


class Reason(_Described):
    """Why a condition has its status, with the sentence for the documentation (and the remedy, where there is one)."""

    # Accepted
    VALID = "Valid", "The manifest is valid."
    INVALID_SPEC = "InvalidSpec", "Fields are wrong; the message lists every one. Nothing is retried until it changes."
    DUPLICATE = (
        "Duplicate",
        "An older object already manages this: the same database and schema, or the same store of a cluster.",
    )
    TENANT_ID_TAKEN = "TenantIdTaken", "An older Tenant, or another namespace, holds this tenant id on the cluster."
    NAMESPACE_NOT_ALLOWED = (
        "NamespaceNotAllowed",
        (
            "The StorageCluster does not allow tenants, or this tenant id, from this namespace: "
            "see spec.tenancy.allowedNamespaces."
        ),
    )
    ISOLATION_NOT_OFFERED = (
        "IsolationNotOffered",
        "The StorageCluster does not offer the isolation mode: see spec.tenancy.isolationModes.",
    )
    ADOPTION_NOT_GRANTED = (
        "AdoptionNotGranted",
        "Rows of this tenant id exist under another owner: the StorageCluster may grant them in spec.tenancy.adoptions.",
    )
    COMPONENT_UNKNOWN = (
        "ComponentUnknown",
        "The tenant asks for a store that the cluster does not offer or has disabled.",
    )
    CLUSTER_NOT_FOUND = "ClusterNotFound", "The StorageCluster does not exist yet; looked for again within seconds."
    CLUSTER_NOT_READY = "ClusterNotReady", "The StorageCluster is not Ready yet; tried again within seconds."
    # Reachable
    CONNECTED = "Connected", "The operator is connected with the rights it needs."
    SECRET_MISSING = "SecretMissing", "A Secret that the manifest names does not exist in the object's namespace."
    SECRET_KEY_MISSING = "SecretKeyMissing", "The Secret exists, the key that the manifest names does not."
    CONNECTION_STRING_INVALID = (
        "ConnectionStringInvalid",
        "The value in the Secret is not a PostgreSQL connection string (URI or keyword form).",
    )
    UNREACHABLE = "Unreachable", "The server does not answer, refuses connections or is starting; tried again."
    AUTHENTICATION_FAILED = "AuthenticationFailed", "The server refused user or password, or pg_hba.conf has no entry."
    DATABASE_MISSING = "DatabaseMissing", "The server has no such database: run `llmspell database bootstrap`."
    TLS_FAILED = (
        "TLSFailed",
        "The encrypted connection failed: the server offers none, or its certificate is not trusted.",
    )
    SERVER_TOO_OLD = "ServerTooOld", "PostgreSQL is older than the oldest supported release: 16.10, 17.6 or 18.0."
    SERVER_READ_ONLY = "ServerReadOnly", "The server is a standby or read-only."
    EXTENSION_MISSING = (
        "ExtensionMissing",
        "A required extension is not installed or too old: run `llmspell database bootstrap` as a superuser.",
    )
    PRIVILEGES_MISSING = (
        "PrivilegesMissing",
        "The operator's role lacks rights: `llmspell database bootstrap --print` shows the exact grants.",
    )
    NOT_BOOTSTRAPPED = (
        "NotBootstrapped",
        "The database has no schema of ours: run `llmspell database bootstrap` as a superuser.",
    )
    # Migrated
    UP_TO_DATE = "UpToDate", "The schema is at the version asked for."
    MIGRATIONS_PENDING = "MigrationsPending", "Migrations wait for `llmspell database migrate` (policy Manual)."
    MIGRATION_FAILED = "MigrationFailed", "A migration failed and left nothing behind; the message has the error."
    MIGRATION_LOCKED = "MigrationLocked", "Another runner migrates, or locks were not free in time; tried again."
    CHECKSUM_CHANGED = "ChecksumChanged", "A migration that was applied differs from the file of this release."
    MIGRATION_GAP = "MigrationGap", "The database lacks a migration between others that were applied."
    DATABASE_NEWER = "DatabaseNewer", "The database was migrated by a newer release than this operator."
    LOWER_TARGET = "LowerTarget", "The target version is lower than the database's: going back is a restore."
    FOREIGN_SCHEMA = "ForeignSchema", "The schema holds objects that are not ours; nothing was touched."
    DATABASE_CLAIMED = "DatabaseClaimed", "Another StorageCluster, perhaps of another Kubernetes, manages the schema."
    # ContractHolds
    NO_VIOLATIONS = "NoViolations", "The audit found nothing."
    CONTRACT_VIOLATED = "ContractViolated", "The audit found holes in the isolation; the message names them."
    DRIFT_FOUND = "DriftFound", "The catalog differs from the manifest and the drift policy is Report."
    # ConnectionsOvercommitted
    WITHIN_LIMIT = "WithinLimit", "The connection limits fit max_connections."
    OVERCOMMITTED = "Overcommitted", "The connection limits add up to more than max_connections."
    # Applied
    APPLIED = "Applied", "Tables, parameters and partitions are as the manifest says."
    DISABLED = "Disabled", "The component is disabled: no tenant reaches its tables."
    APPLY_FAILED = "ApplyFailed", "The database refused a change; the message has the error."
    # Provisioned
    PROVISIONED = "Provisioned", "Login, binding, settings and Secret are as the manifest says."
    PROVISION_FAILED = "ProvisionFailed", "The database or the API server refused a change; the message has the error."
    SUSPENDED = "Suspended", "The tenant is suspended as its manifest says: no login, sessions ended."
    POOLER_NOT_RELOADED = (
        "PoolerNotReloaded",
        "The pooler does not accept a new login yet: it reads its auth_file anew at its next RELOAD. Tried again.",
    )
    FOREIGN_ROLE = "ForeignRole", "A role of the tenant's name exists without our mark; nothing was touched."
    FOREIGN_SECRET = "ForeignSecret", "A Secret of the name exists and is not this tenant's; nothing was touched."
    # IsolationVerified
    PROBE_PASSED = "ProbePassed", "The neighbour's probe row could neither be read nor written."
    PROBE_FAILED = "ProbeFailed", "The probe reached a neighbour's row, or could not log in; the message says which."
    # QuotaExceeded
    WITHIN_QUOTA = "WithinQuota", "The tenant stores less than its quota."
    OVER_QUOTA = "OverQuota", "The tenant stores more than its quota; nothing is refused."
    OVER_QUOTA_ENFORCED = "OverQuotaEnforced", "The tenant is over its quota: writes are refused, deletes work."
    NO_QUOTA = "NoQuota", "The tenant has no storage quota."
    NOT_MEASURED = "NotMeasured", "Usage has not been measured yet."
    # DeletionBlocked
    TENANTS_EXIST = "TenantsExist", "Tenants still use the object; the message names them."
    COMPONENTS_EXIST = "ComponentsExist", "StorageComponents still use the object; the message names them."
    SESSIONS_OPEN = "SessionsOpen", "Sessions of the tenant did not end in time; tried again."
    CLEANUP_FAILED = (
        "CleanupFailed",
        (
            'The database could not be cleaned; tried again. The annotation storage.llmspell.dev/force-delete: "true" '
            "gives up on it."
        ),
    )
    # Ready and any
    READY = "Ready", "Everything is as the manifest says, re-read from the database."
    PROGRESSING = "Progressing", "The operator is at work, or has not looked at this generation yet."
    DELETING = "Deleting", "The object is being deleted."


_TYPES: Final = {type_.value: type_ for type_ in ConditionType}
_STATUSES: Final = {status.value: status for status in ConditionStatus}
_REASONS: Final = {reason.value: reason for reason in Reason}
_REQUIRED: Final[Mapping[Kind, tuple[ConditionType, ...]]] = {
    Kind.STORAGE_CLUSTER: (
        ConditionType.ACCEPTED,
        ConditionType.REACHABLE,
        ConditionType.MIGRATED,
        ConditionType.CONTRACT_HOLDS,
    ),
    Kind.STORAGE_COMPONENT: (ConditionType.ACCEPTED, ConditionType.APPLIED),
    Kind.TENANT: (ConditionType.ACCEPTED, ConditionType.PROVISIONED, ConditionType.ISOLATION_VERIFIED),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; ``last_transition_time`` is None until ``merge`` has placed it among the others."""

    type: ConditionType
    status: ConditionStatus
    reason: Reason
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime | None = None

    @property
    def is_true(self) -> bool:
        """Tell whether the status is True."""
        return self.status is ConditionStatus.TRUE

    def as_field(self) -> dict[str, Any]:
        """Return the form of the status; ``merge`` must have set the time."""
        if self.last_transition_time is None:
            message = f"condition {self.type} has not been merged"
            raise ValueError(message)
        return {
            "type": self.type.value,
            "status": self.status.value,
            "reason": self.reason.value,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": format_time(self.last_transition_time),
        }


def format_time(moment: datetime) -> str:
    """Write a time as Kubernetes does: RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime | None:
    """Read an RFC 3339 time with a zone, None when it is none."""
    if not isinstance(text, str) or len(text) > 64:  # noqa: PLR2004 - no time is longer
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def clean_message(text: str) -> str:
    """Make a message fit for a status: one line, bounded, without control characters, passwords and capabilities."""
    line = _UNPRINTABLE.sub(" ", text[: 8 * _MAX_MESSAGE_LENGTH])
    line = _CREDENTIALS.sub("***@", line)
    line = _PASSWORD.sub(r"\1=***", line).strip()
    return line if len(line) <= _MAX_MESSAGE_LENGTH else line[: _MAX_MESSAGE_LENGTH - 1] + "…"


def read_conditions(body: Mapping[str, Any]) -> tuple[Condition, ...]:
    """Read the conditions of an object's status; what this release does not know is left out. Never raises."""
    status = body.get("status")
    fields = status.get("conditions") if isinstance(status, Mapping) else None
    found = (_read_condition(field) for field in (fields if isinstance(fields, (list, tuple)) else ()))
    return tuple(condition for condition in found if condition is not None)


def find(conditions: Iterable[Condition], type_: ConditionType) -> Condition | None:
    """Return the condition of a type, None when there is none."""
    return next((condition for condition in conditions if condition.type is type_), None)


def is_ready(body: Mapping[str, Any]) -> bool:
    """Tell whether an object's status says that it is Ready."""
    ready = find(read_conditions(body), ConditionType.READY)
    return ready is not None and ready.is_true


def merge(existing: Iterable[Condition], fresh: Iterable[Condition], now: datetime) -> tuple[Condition, ...]:
    """Put fresh conditions over the existing ones, in the order of ConditionType.

    The transition time is ``now`` for a new type and for a flip of the status, else it stays. Messages are cleaned.
    """
    merged = {condition.type: condition for condition in existing}
    for condition in fresh:
        before = merged.get(condition.type)
        flipped = before is None or before.last_transition_time is None or before.status is not condition.status
        merged[condition.type] = replace(
            condition,
            message=clean_message(condition.message),
            last_transition_time=now if flipped or before is None else before.last_transition_time,
        )
    return tuple(merged[type_] for type_ in ConditionType if type_ in merged)


def derive_ready(kind: Kind, conditions: Iterable[Condition], *, generation: int, deleting: bool = False) -> Condition:
    """Derive Ready from the other conditions (kstatus: True only when all that the kind requires are True).

    A required condition that is missing, or was observed at an older generation, is Unknown and Progressing: a stale
    answer is never reported as Ready. False wins over Unknown; within each, the first in the kind's order.
    """
    found = {condition.type: condition for condition in conditions}
    if deleting:
        blocked = found.get(ConditionType.DELETION_BLOCKED)
        message = blocked.message if blocked is not None and blocked.is_true else "The object is being deleted."
        return Condition(ConditionType.READY, ConditionStatus.FALSE, Reason.DELETING, message, generation)
    unknown: Condition | None = None
    for type_ in _REQUIRED[kind]:
        condition = found.get(type_)
        if condition is None or condition.observed_generation < generation:
            told = f"{type_} has not been looked at for generation {generation}."
            condition = Condition(type_, ConditionStatus.UNKNOWN, Reason.PROGRESSING, told)
        if condition.status is ConditionStatus.FALSE:
            return Condition(
                ConditionType.READY, ConditionStatus.FALSE, condition.reason, condition.message, generation
            )
        if condition.status is ConditionStatus.UNKNOWN and unknown is None:
            unknown = condition
    if unknown is not None:
        return Condition(ConditionType.READY, ConditionStatus.UNKNOWN, unknown.reason, unknown.message, generation)
    return Condition(ConditionType.READY, ConditionStatus.TRUE, Reason.READY, "", generation)


def _read_condition(field: object) -> Condition | None:
    if not isinstance(field, Mapping):
        return None
    generation = field.get("observedGeneration")
    message = field.get("message")
    type_ = _TYPES.get(str(field.get("type")))
    status = _STATUSES.get(str(field.get("status")))
    reason = _REASONS.get(str(field.get("reason")))
    if type_ is None or status is None or reason is None:
        # Written by another release, under a type or reason that this one does not have.
        return None
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message if isinstance(message, str) else "",
        observed_generation=generation if isinstance(generation, int) else 0,
        last_transition_time=parse_time(field.get("lastTransitionTime")),
    )
