"""Drive storage_sql's procedures (bootstrap, migrations) with an asynchronous session: they decide, this waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.server import CONTACT_SECONDS, answering, connect
from storage_sql.effects import Connect, Effect, Rows, Sleep, SqlFailure, drive_async
from storage_sql.migrations import MigrationPlan
from storage_sql.runner import MigrationReport, RunOptions, migrate_postgres, status_postgres

_CONNECTION_LOST = "08006"


class Driver:
    """Serves the effects of one procedure on one autocommit session."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[TupleRow],
        conninfo: str,
        on_query: Callable[[str], None] | None = None,
    ) -> None:
        """Take a session and the conninfo that another database of the same server is reached with."""
        self.connection = connection
        self._conninfo = conninfo
        self._on_query = on_query

    async def __call__(self, effect: Effect) -> Rows:
        """Answer one effect; a failed statement becomes ``SqlFailure``."""
        if isinstance(effect, Sleep):
            await asyncio.sleep(effect.seconds)
            return []
        if isinstance(effect, Connect):
            await self.connection.close()
            self.connection = await connect(make_conninfo(self._conninfo, dbname=effect.database))
            return []
        if self._on_query is not None:
            self._on_query(effect.sql)
        try:
            cursor = await self.connection.execute(effect.sql.encode(), effect.params or None)
            while cursor.nextset():
                pass
            return await cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise SqlFailure(error.sqlstate or _CONNECTION_LOST, str(error.diag.message_primary or error)) from error


async def migrate(conninfo: str, schema: str, options: RunOptions) -> MigrationReport:
    """Bring the schema to the target version; raises ``MigrationError`` and ``DatabaseFault``."""
    connection = await connect(conninfo, options="-c statement_timeout=0 -c search_path=pg_catalog,pg_temp")
    driver = Driver(connection, conninfo)
    try:
        return await drive_async(migrate_postgres(schema, options), driver)
    finally:
        await driver.connection.close()


async def migration_status(conninfo: str, schema: str, options: RunOptions) -> MigrationPlan:
    """Say what is applied and what is pending, changing nothing."""
    connection = await connect(conninfo)
    driver = Driver(connection, conninfo)
    try:
        async with answering(CONTACT_SECONDS):
            return await drive_async(status_postgres(schema, options), driver)
    finally:
        await driver.connection.close()
