"""Component sets in the database: who has which privileges, read from the catalog and put right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.sets import (
    ObservedSet,
    PrivilegeChange,
    bucket_privileges,
    plan_set,
    plan_sets,
    wanted_privileges,
)
from storage_sql.renderer import ident, literal, render, render_file
from storage_sql.stores import SEALED_FUNCTIONS, STORES_BY_NAME

if TYPE_CHECKING:
    from storage_operator.adapters.postgres.installation import Installation

_MARK_PURPOSE = "set "
_BUCKET_PURPOSE = "bucket "


class ComponentSets:
    """The set roles of one installation. One change at a time: neighbours who need the same set wait for it."""

    def __init__(self, installation: Installation) -> None:
        """Take the installation that the sets belong to."""
        self._installation = installation
        self._lock = asyncio.Lock()

    def mark(self, stores: Sequence[str], *, bucket: bool = False) -> str:
        """Return the comment from which the stores of a set, or of a set's bucket, are read back."""
        purpose = _BUCKET_PURPOSE if bucket else _MARK_PURPOSE
        return self._installation.roles.role_comment(purpose + ",".join(sorted(stores)))

    async def observe(self) -> tuple[ObservedSet, ...]:
        """Read every set role of the installation with what it is granted here."""
        roles = self._installation.roles
        text = render_file(
            "provisioning/observe_sets.sql",
            schema_name=self._installation.schema_literal,
            prefix=literal(f"{roles.owner}_set_"),
        )
        rows = await self._installation.server.query(text)
        return tuple(self._observed(role, mark, granted) for role, mark, granted in rows)

    def _observed(self, role: str, mark: str | None, granted: Sequence[Sequence[Any]] | None) -> ObservedSet:
        privileges = frozenset((str(k), str(n), str(p)) for k, n, p in granted or ())
        for purpose in (_MARK_PURPOSE, _BUCKET_PURPOSE):
            prefix = self._installation.roles.role_comment(purpose)
            if (mark or "").startswith(prefix):
                stores = tuple((mark or "").removeprefix(prefix).split(","))
                return ObservedSet(role, stores, privileges, is_bucket=purpose == _BUCKET_PURPOSE)
        return ObservedSet(role, (), privileges)

    async def ensure(self, role: str, stores: Sequence[str]) -> None:
        """Make a set that a tenant needs, and the tenant's bucket of it when ``role`` names one; idempotent."""
        async with self._lock:
            existing = {each.role: each for each in await self.observe()}
            base = self._installation.roles.store_set(stores)
            for name in {base, role}:
                if name in existing and not existing[name].stores:
                    raise DatabaseFault("ForeignRole", f"role {name} exists and was not created by this installation")
            changes = [plan_set(base, self.mark(stores), await self._wanted(stores), existing.get(base))]
            if role != base:
                mark = self.mark(stores, bucket=True)
                shard = self._installation.roles.shards[int(role.rpartition("_")[2])]
                changes.append(plan_set(role, mark, bucket_privileges(base), existing.get(role), shard))
            await self._apply(changes)

    async def ensure_app(self) -> None:
        """Give the shared login of sealed mode the enabled stores' privileges and the functions that enter a tenant."""
        async with self._lock:
            await self._apply(await self._app_drift())

    async def _app_drift(self) -> tuple[PrivilegeChange, ...]:
        """Plan the shared login's privileges; nothing when there is no such login."""
        roles = self._installation.roles
        text = render_file(
            "provisioning/observe_sets.sql",
            schema_name=self._installation.schema_literal,
            prefix=literal(roles.app),
        )
        rows = [row for row in await self._installation.server.query(text) if row[0] == roles.app]
        if not rows or rows[0][1] != roles.role_comment("app"):
            return ()
        wanted = await self._wanted(tuple(STORES_BY_NAME))
        wanted |= {("FUNCTION", function.partition("(")[0], "EXECUTE") for function in SEALED_FUNCTIONS}
        change = plan_set(roles.app, roles.role_comment("app"), wanted, self._observed(*rows[0]))
        return () if change.empty else (change,)

    async def drift(self) -> tuple[PrivilegeChange, ...]:
        """Plan what differs in any existing set from the stores that are enabled now."""
        observed = [each for each in await self.observe() if each.stores]
        sets = {each.role: await self._wanted(each.stores) for each in observed if not each.is_bucket}
        base = self._installation.roles.store_set
        buckets = {each.role: bucket_privileges(base(each.stores)) for each in observed if each.is_bucket}
        marks = {each.role: self.mark(each.stores, bucket=each.is_bucket) for each in observed}
        changes = plan_sets(observed, {**sets, **buckets}, marks)
        return (*changes, *await self._app_drift())

    async def repair(self) -> tuple[PrivilegeChange, ...]:
        """Put every existing set right; returns what was changed."""
        async with self._lock:
            changes = await self.drift()
            await self._apply(changes)
        return changes

    async def _wanted(self, stores: Sequence[str]) -> frozenset[tuple[str, str, str]]:
        installation = self._installation
        rows = await installation.server.query(
            render(
                "SELECT (SELECT array_agg(store) FROM {{ schema }}.components WHERE enabled), "
                "(SELECT array_agg(c.relname::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p') AND NOT c.relispartition)",
                schema=ident(installation.schema),
                schema_name=installation.schema_literal,
            )
        )
        enabled, tables = rows[0]
        return wanted_privileges(
            stores,
            enabled=enabled or (),
            tables=tables or (),
            schema=installation.schema,
            database=installation.facts.database,
        )

    async def _apply(self, changes: Sequence[PrivilegeChange]) -> None:
        installation = self._installation
        script = Script(installation.schema, installation.roles.owner, epoch=installation.epoch)
        for change in changes:
            if not change.empty:
                script.privileges(change)
        if not script.empty:
            await installation.server.script(script.text(), script.count)
