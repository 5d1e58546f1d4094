"""The installations that the operator tends: one entry a StorageCluster, made by its reconcile, used by its tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from storage_operator.adapters.postgres.credentials import Credential
from storage_operator.adapters.postgres.installation import Facts, Installation, address_of
from storage_operator.adapters.postgres.server import Server
from storage_operator.planning.secret import Target
from storage_operator.resources.cluster import DriftPolicy, StorageClusterSpec
from storage_operator.world import Key


@dataclass(slots=True)
class Tended:
    """A StorageCluster whose database was reached, with what its tenants' reconciles need of it.

    ``serving`` says that the schema is there to work on; ``sound`` that the audit found no hole: while it has one, what
    exists is still repaired, and nobody new is let in. ``pending`` keeps credentials that were issued and may not be told yet (the pooler does not know them).
    """

    key: Key
    spec: StorageClusterSpec
    installation: Installation
    conninfo: str = field(repr=False)
    target: Target
    serving: bool = False
    sound: bool = False
    measured_at: float | None = None
    expired_at: float | None = None
    indexed_at: float | None = None
    indexing: asyncio.Task[None] | None = field(default=None, repr=False)
    pending: dict[str, Credential] = field(default_factory=dict, repr=False)
    pooler_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def repairs(self) -> bool:
        """Whether drift is repaired here, not only reported."""
        return self.spec.drift.policy is DriftPolicy.REPAIR


class Fleet:
    """All tended installations. A changed connection replaces the entry and closes the former one's sessions."""

    def __init__(self, holder: str) -> None:
        """Take the name under which this process leads."""
        self.holder = holder
        self.on_sql: Callable[[int, int], None] | None = None
        self._tended: dict[Key, Tended] = {}

    def get(self, key: Key) -> Tended | None:
        """Return a cluster's entry, None before its first successful contact."""
        return self._tended.get(key)

    def all(self) -> tuple[Tended, ...]:
        """Return every entry."""
        return tuple(self._tended.values())

    async def tend(self, key: Key, spec: StorageClusterSpec, conninfo: str, target: Target, facts: Facts) -> Tended:
        """Return the entry for these facts: the existing one while the address is the same, else a new one."""
        former = self._tended.get(key)
        address = address_of(conninfo, facts, spec.schema, spec.limits.connections)
        if former is not None and former.installation.server.address == address:
            former.spec, former.target = spec, target
            former.installation.facts = facts
            return former
        if former is not None:
            await former.installation.server.close()
        server = Server(address)
        if self.on_sql is not None:
            server.meter.listeners.append(self.on_sql)
        tended = Tended(key, spec, Installation(server, spec.schema, facts), conninfo, target)
        self._tended[key] = tended
        return tended

    async def forget(self, key: Key) -> None:
        """Drop a cluster's entry and close its sessions."""
        tended = self._tended.pop(key, None)
        if tended is not None:
            await tended.installation.server.close()

    async def close(self) -> None:
        """Close everything."""
        for key in list(self._tended):
            await self.forget(key)
