"""The schema's migrations for a person who watches: what would run, with its SQL, and one file after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from storage_operator.adapters.postgres.migrator import Driver, migrate, migration_status
from storage_operator.adapters.postgres.server import connect
from storage_sql.effects import drive_async
from storage_sql.migrations import Applied, LowerTarget, Migration
from storage_sql.runner import RunOptions, discover, render_migration, status_postgres


@dataclass(frozen=True, slots=True)
class Preview:
    """What is applied, and what is pending with its rendered SQL."""

    applied: tuple[Applied, ...]
    pending: tuple[tuple[Migration, str], ...]
    current: int
    target: int


@dataclass(frozen=True, slots=True)
class Step:
    """One file that was applied, by this run or by another one meanwhile."""

    label: str
    seconds: float
    by_us: bool


async def preview(conninfo: str, schema: str, options: RunOptions) -> Preview:
    """Say what a run would do, changing nothing; raises ``MigrationError`` and ``DatabaseFault``."""
    connection = await connect(conninfo)
    driver = Driver(connection, conninfo)
    try:
        plan = await drive_async(status_postgres(schema, options), driver)
        installation = await drive_async(discover(schema), driver)
    finally:
        await driver.connection.close()
    pending = tuple((migration, render_migration(migration, installation)) for migration in plan.pending)
    return Preview(plan.applied, pending, plan.current, plan.target)


async def migrate_each(
    conninfo: str, schema: str, options: RunOptions, on_step: Callable[[Step], None], on_start: Callable[[str], None]
) -> int:
    """Apply the pending files one by one and return the version afterwards.

    Other runners may work at the same time: a file that one of them applied is told, and is no fault.
    """
    plan = await migration_status(conninfo, schema, options)
    for migration in plan.pending:
        on_start(migration.label)
        started = time.monotonic()
        try:
            report = await migrate(conninfo, schema, replace(options, target=migration.version))
            applied = bool(report.applied)
        except LowerTarget:
            applied = False  # another runner is further already
        on_step(Step(migration.label, time.monotonic() - started, applied))
    return (await migration_status(conninfo, schema, options)).current


__all__ = ["Preview", "Step", "migrate_each", "preview"]
