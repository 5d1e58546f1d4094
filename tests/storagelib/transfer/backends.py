"""One tenant's lines on each backend, from the same verbs: read, written, removed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg import sql

from storagelib import AsyncStore
from storagelib._async.postgres.admin import AsyncPostgresAdministration
from storagelib.codec import decode, encode
from storagelib.memory.rows import MemoryRows, records, replace
from storagelib.sqlite.rows import SqliteRows
from storagelib.transfer import in_order
from tests.plugins.installation import Installation


class InMemory:
    """The tenants of a store in memory."""

    def __init__(self, store: AsyncStore) -> None:
        """Take an opened store."""
        self.engine: Any = store._engines["memory"]

    async def lines(self, tenant: str) -> list[bytes]:
        """Return every record."""
        return [encode(record) for record in records(self.engine.space(tenant))]

    async def write(self, tenant: str, lines: Iterable[bytes]) -> int:
        """Put records in the place of what is there."""
        rows = MemoryRows(tenant, None)
        for line in lines:
            rows.add(decode(line))
        rows.check()
        replace(self.engine, [rows])
        return rows.count


class InSqlite:
    """The tenants of a store in a file."""

    def __init__(self, store: AsyncStore) -> None:
        """Take an opened store."""
        self.engine: Any = store._engines["sqlite"]

    async def lines(self, tenant: str) -> list[bytes]:
        """Return every record."""
        return [encode(record) for record in SqliteRows(self.engine, tenant).records()]

    async def write(self, tenant: str, lines: Iterable[bytes]) -> int:
        """Insert records."""
        return SqliteRows(self.engine, tenant).write(map(decode, lines))


class InPostgres:
    """The tenants of an installation, as the operator's login reaches them."""

    def __init__(self, installation: Installation) -> None:
        """Take the installation."""
        self.installation = installation

    async def lines(self, tenant: str) -> list[bytes]:
        """Return every record."""
        administration = await self._open()
        try:
            async with administration.rows(tenant) as rows:
                return [encode(record) async for record in rows.records()]
        finally:
            await administration.close()

    async def write(self, tenant: str, lines: Iterable[bytes]) -> int:
        """Insert records."""
        administration = await self._open()
        try:
            async with administration.rows(tenant) as rows:
                return await rows.write(map(decode, lines))
        finally:
            await administration.close()

    async def clear(self, tenant: str, tables: Iterable[str]) -> None:
        """Remove every row, behind the library's back."""
        with self.installation.connect(self.installation.names.maintenance) as connection, connection.transaction():
            for table in reversed(in_order(tables)):
                named = sql.SQL("DELETE FROM {}.{} WHERE tenant_id = %s")
                where = sql.Identifier(self.installation.schema), sql.Identifier(table)
                connection.execute(named.format(*where), (tenant,))

    async def _open(self) -> AsyncPostgresAdministration:
        return await AsyncPostgresAdministration.open(self.installation.operator_dsn, self.installation.schema)
