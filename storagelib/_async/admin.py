"""Administration: what looks at all tenants, with credentials that no tenant has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

from storage_sql.vector_indexes import IndexOptions, IndexReport
from storagelib.blocking import AsyncBlocking
from storagelib.components.administration import SchemaStatus, StoreStatistics
from storagelib.config import StoreConfig
from storagelib.errors import InvalidInput
from storagelib.limits import (
    BATCH_MAX,
    DIMENSION_MAX,
    PAGE_DEFAULT,
    check_flag,
    check_integer,
    check_page_size,
    check_tenant_id,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["AsyncAdministration", "AsyncAdministrationBackend"]


class AsyncAdministrationBackend(Protocol):
    """What a backend does for its administration."""

    async def schema_status(self) -> SchemaStatus:
        """Compare the schema with this release."""
        ...

    async def migrate(self, target: int | None) -> SchemaStatus:
        """Bring the schema up."""
        ...

    async def tenants(self, after: str, limit: int) -> list[str]:
        """Return tenants greater than ``after``, in order."""
        ...

    async def statistics(self, tenant_id: str | None) -> list[StoreStatistics]:
        """Measure one tenant or all."""
        ...

    async def purge_expired(self, limit: int) -> int:
        """Remove expired entries of all tenants; count them."""
        ...

    async def vector_index(self, tenant_id: str, dimension: int, options: IndexOptions, dry_run: bool) -> IndexReport:
        """Plan, or maintain, the index of one tenant's vectors."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class AsyncAdministration:
    """The verbs over all tenants, on one backend. On PostgreSQL they need the operator's login, not a tenant's."""

    def __init__(
        self, backend: AsyncAdministrationBackend, blocking: AsyncBlocking, options: Mapping[str, Any] | None = None
    ) -> None:
        """Take a backend, the threads it may run on, and how indexes are built; ``open`` makes all of them."""
        self._backend = backend
        self._blocking = blocking
        self._options = {} if options is None else options

    @classmethod
    async def open(cls, config: StoreConfig | None = None, *, url: str | None = None, schema: str = "llmspell") -> Self:
        """Open the administration of a PostgreSQL by the URI of the operator's login, or of a configuration's SQLite file.

        Beside ``url`` a configuration says with ``hnsw_m`` and ``hnsw_ef_construction`` how ``vector_index`` builds.
        Raises ``PermissionDenied`` for a login that may not work as the maintenance role, ``MigrationError`` for a database
        without our schema, and ``InvalidInput`` for stores in memory, which have no outside.
        """
        blocking = AsyncBlocking(1)
        if url is not None:
            from storagelib._async.postgres.admin import AsyncPostgresAdministration  # noqa: PLC0415 - only what is used

            options = None if config is None else config.options_of("vectors")
            return cls(await AsyncPostgresAdministration.open(url, schema), blocking, options)
        if config is None or config.backend != "sqlite":
            raise InvalidInput(
                "the administration cannot be opened",
                ["url: is missing: the URI of the operator's login, or a configuration whose backend is sqlite"],
            )
        from storagelib.sqlite.admin import SqliteAdministration  # noqa: PLC0415

        return cls(blocking.adapt(SqliteAdministration.open(config.sqlite)), blocking)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._backend.close()
        await self._blocking.aclose()

    async def schema_status(self) -> SchemaStatus:
        """Compare the schema with what this release brings; changes nothing."""
        return await self._backend.schema_status()

    async def migrate(self, *, target: int | None = None) -> SchemaStatus:
        """Bring the schema up, safely beside others who do the same; return where it stands then.

        Raises ``MigrationError`` for a newer or changed schema, and for locks that were not to be had in two minutes.
        """
        return await self._backend.migrate(target if target is None else check_integer("target", target, least=1))

    async def tenants(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the tenants, in order: those that are registered on PostgreSQL, those with rows on SQLite."""
        check_page_size(limit)
        position = position_of(cursor, str)
        return page_of(await self._backend.tenants("" if position is None else position[0], limit + 1), limit)

    async def statistics(self, tenant_id: str | None = None) -> list[StoreStatistics]:
        """Measure what one tenant, or every tenant, keeps in each store; reads every row, so it takes its time."""
        return await self._backend.statistics(None if tenant_id is None else check_tenant_id(tenant_id))

    async def purge_expired(self, *, limit: int = BATCH_MAX) -> int:
        """Remove up to ``limit`` expired entries of the key-value store, of all tenants; count them."""
        return await self._backend.purge_expired(check_integer("limit", limit, least=1, most=BATCH_MAX))

    async def vector_index(
        self, tenant_id: str, dimension: int, *, options: IndexOptions | None = None, dry_run: bool = True
    ) -> IndexReport:
        """Tell which index one tenant's vectors want, and with ``dry_run=False`` build or drop it beside running traffic.

        What ``options`` leave open, ``m`` and ``ef_construction`` of the configuration say first, then the cluster's
        StorageComponent, then the defaults of the dimension. SQLite and memory scan exactly and want none.
        """
        check_tenant_id(tenant_id)
        check_integer("dimension", dimension, least=1, most=DIMENSION_MAX)
        chosen = IndexOptions() if options is None else options
        if not isinstance(chosen, IndexOptions):
            raise InvalidInput("the argument cannot be used", ["options: must be IndexOptions"])
        if chosen.m is None and chosen.ef_construction is None:
            m, construction = self._options.get("hnsw_m"), self._options.get("hnsw_ef_construction")
            chosen = replace(chosen, m=m, ef_construction=construction)
        return await self._backend.vector_index(tenant_id, dimension, chosen, check_flag("dry_run", dry_run))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
