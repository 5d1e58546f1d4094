"""Under which keys an application's Secret holds its values: one class, for who writes it and for who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

from storagelib.errors import InvalidInput

__all__ = ["MODE_KEY", "SCHEMA_KEY", "SecretKeys", "manifest_name"]

MODE_KEY: Final = "mode"
"""The key that says ``role`` or ``sealed``; it has no other name."""
SCHEMA_KEY: Final = "schema"
"""The key that holds the name of the schema; it has no other name."""


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The names of the keys. ``mode`` and ``schema`` are fixed beside them.

    >>> SecretKeys(password="PGPASSWORD").password
    'PGPASSWORD'
    """

    host: str = "host"
    """The server's host name, address, or the folder of its socket."""
    port: str = "port"
    """The server's port."""
    dbname: str = "dbname"
    """The database."""
    user: str = "user"
    """The login."""
    password: str = "password"  # noqa: S105 - the name of a key
    """The login's password."""
    dsn: str = "dsn"
    """All of these as one URI."""
    pooled_dsn: str = "pooled-dsn"
    """The same through the pooler; only where there is one."""
    tenant_id: str = "tenant-id"
    """The tenant that the login, or the capability, belongs to."""
    sslmode: str = "sslmode"
    """libpq's sslmode."""
    ca: str = "ca.crt"
    """The certificates that sign the server's, as PEM; only where they were given."""
    capability: str = "capability"
    """What enters the tenant in sealed mode; only there."""

    @classmethod
    def from_manifest(cls, names: Mapping[str, str]) -> Self:
        """Read the block ``spec.credentials.keys`` of a Tenant; raises ``InvalidInput`` with every fault.

        >>> SecretKeys.from_manifest({"tenantId": "TENANT", "pooledDsn": "POOLED_URL"}).tenant_id
        'TENANT'
        """
        known = {manifest_name(entry.name): entry.name for entry in fields(cls)}
        unknown = sorted(name for name in names if name not in known)
        faults = [f"keys.{name}: there is no such key; keys are: {', '.join(sorted(known))}" for name in unknown]
        faults += [
            f"keys.{name}: must be a text that is not empty"
            for name, key in names.items()
            if name in known and not _is_text(key)
        ]
        if faults:
            raise InvalidInput("the names of the Secret's keys are wrong", faults)
        keys = cls(**{known[name]: key for name, key in names.items()})
        keys.check()
        return keys

    def check(self) -> None:
        """Raise ``InvalidInput`` when two values would share a key, or take the place of ``mode`` or ``schema``."""
        names = [getattr(self, entry.name) for entry in fields(self)] + [MODE_KEY, SCHEMA_KEY]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInput(
                "the names of the Secret's keys are wrong", [f"keys: two values share the key {name}" for name in twice]
            )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def manifest_name(field_name: str) -> str:
    """Return what manifests call a field: ``pooled_dsn`` is ``pooledDsn``.

    >>> manifest_name("pooled_dsn")
    'pooledDsn'
    """
    head, *tail = field_name.split("_")
    return head + "".join(part.title() for part in tail)
