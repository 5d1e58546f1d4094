"""Component sets in the database: who has which privileges, read from the catalog and put right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.sets import ObservedSet, PrivilegeChange, plan_set, plan_sets, wanted_privileges
from storage_sql.renderer import ident, literal, render, render_file
from storage_sql.stores import SEALED_FUNCTIONS, STORES_BY_NAME

if TYPE_CHECKING:
    from storage_operator.adapters.postgres.installation import Installation

_MARK_PURPOSE = "set "


class ComponentSets:
    """The set roles of one installation. One change at a time: neighbours who need the same set wait for it."""

    def __init__(self, installation: Installation) -> None:
        """Take the installation that the sets belong to."""
        self._installation = installation
        self._lock = asyncio.Lock()

    def mark(self, stores: Sequence[str]) -> str:
        """Return the comment from which a set's stores are read back."""
        return self._installation.roles.role_comment(_MARK_PURPOSE + ",".join(sorted(stores)))

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
        prefix = self._installation.roles.role_comment(_MARK_PURPOSE)
        stores = tuple((mark or "").removeprefix(prefix).split(",")) if (mark or "").startswith(prefix) else ()
        return ObservedSet(role, stores, frozenset((str(k), str(n), str(p)) for k, n, p in granted or ()))

    async def ensure(self, role: str, stores: Sequence[str]) -> None:
        """Make one set that a tenant needs; idempotent."""
        async with self._lock:
            existing = {each.role: each for each in await self.observe()}
            if role in existing and not existing[role].stores:
                raise DatabaseFault("ForeignRole", f"role {role} exists and was not created by this installation")
            wanted = await self._wanted(stores)
            await self._apply((plan_set(role, self.mark(stores), wanted, existing.get(role)),))

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
        wanted = {each.role: await self._wanted(each.stores) for each in observed}
        changes = plan_sets(observed, wanted, {each.role: self.mark(each.stores) for each in observed})
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
