"""Names: the eleven stores as manifests and as the database call them, DNS names, Secret names and keys."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import Final

from storage_sql.roles import TENANT_PATTERN
from storage_sql.stores import STORES

__all__ = [
    "DNS_LABEL",
    "DNS_LABEL_MAX_LENGTH",
    "DNS_SUBDOMAIN",
    "DNS_SUBDOMAIN_MAX_LENGTH",
    "SCHEMA_NAME",
    "SCHEMA_NAME_MAX_LENGTH",
    "SECRET_KEY",
    "SECRET_KEY_MAX_LENGTH",
    "TENANT_ID",
    "TENANT_ID_MAX_LENGTH",
    "StoreKind",
    "default_secret_name",
]

DNS_LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""A namespace."""
DNS_LABEL_MAX_LENGTH: Final = 63
"""The longest namespace."""
DNS_SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""The name of an object."""
DNS_SUBDOMAIN_MAX_LENGTH: Final = 253
"""The longest name of an object."""
SECRET_KEY: Final = r"^[-._a-zA-Z0-9]+$"  # noqa: S105 - a pattern
"""A key in a Secret."""
SECRET_KEY_MAX_LENGTH: Final = 253
"""The longest key in a Secret."""
SCHEMA_NAME: Final = r"^[a-z_][a-z0-9_]*$"
"""A PostgreSQL schema that never needs quotes."""
SCHEMA_NAME_MAX_LENGTH: Final = 63
"""The longest identifier of PostgreSQL, in bytes; the pattern is ASCII."""
TENANT_ID: Final = f"^{TENANT_PATTERN.pattern}$"
"""A tenant id, the same on every backend."""
TENANT_ID_MAX_LENGTH: Final = 255
"""The longest tenant id."""

_SECRET_SUFFIX: Final = "-storage"  # noqa: S105 - the end of a name
_HASH_LENGTH: Final = 10


class StoreKind(StrEnum):
    """One of the eleven stores, by the name that manifests use."""

    VECTORS = "Vectors"
    GRAPH = "Graph"
    PROCEDURES = "Procedures"
    AGENT_STATE = "AgentState"
    KEY_VALUE = "KV"
    WORKFLOW_STATES = "WorkflowStates"
    SESSIONS = "Sessions"
    ARTIFACTS = "Artifacts"
    EVENTS = "Events"
    HOOKS = "Hooks"
    API_KEYS = "ApiKeys"

    @property
    def database_name(self) -> str:
        """The name that the database and storage_sql use: ``Vectors`` is ``vectors``, ``AgentState`` ``agent_state``."""
        return _DATABASE_NAMES[self.value]

    @classmethod
    def from_database_name(cls, name: str) -> StoreKind:
        """Return the store that the database calls so; KeyError when there is none."""
        return _BY_DATABASE_NAME[name]


_DATABASE_NAMES: Final = {store.kind: store.name for store in STORES}
_BY_DATABASE_NAME: Final = {store.database_name: store for store in StoreKind}


def default_secret_name(name: str) -> str:
    """Return the name of a tenant's Secret when the manifest gives none: the object's name and "-storage".

    A name too long for the suffix is cut and told apart by a hash, so that two tenants never share a Secret.
    """
    whole = name + _SECRET_SUFFIX
    if len(whole) <= DNS_SUBDOMAIN_MAX_LENGTH:
        return whole
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    kept = DNS_SUBDOMAIN_MAX_LENGTH - len(_SECRET_SUFFIX) - _HASH_LENGTH - 1
    return f"{name[:kept].rstrip('-.')}-{digest}{_SECRET_SUFFIX}"
