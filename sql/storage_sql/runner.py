"""Apply migrations to a database, safely beside other runners; a procedure (see `effects`).

Each file runs in a transaction of its own that holds the row of `migration_lock` and reads the
applied versions again under it, so that of many runners one applies a file and the others find it
applied. No advisory lock: any tenant could take it.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage_sql import migrations, statements
from storage_sql.effects import Connect, Effect, Query, Rows, Sleep, SqlFailure, drive, drive_async
from storage_sql.renderer import Marked, ident, literal, render
from storage_sql.roles import RoleNames

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from storage_sql.migrations import Migration, MigrationPlan

__all__ = [
    "Connect",
    "Effect",
    "ExtensionMissing",
    "LockBudgetSpent",
    "MigrationFailed",
    "MigrationReport",
    "NotBootstrapped",
    "Query",
    "Rows",
    "Sleep",
    "SqlFailure",
    "drive",
    "drive_async",
    "migrate_postgres",
    "migrate_sqlite",
    "render_migration",
    "status_postgres",
]

# lock_not_available, deadlock_detected, serialization_failure
RETRIED = frozenset({"55P03", "40P01", "40001"})
PIN_PATH = "SET search_path = pg_catalog, pg_temp"
INSTALLATION_FACTS = """SELECT pg_catalog.obj_description(n.oid, 'pg_namespace'),
    (SELECT v.nspname FROM pg_catalog.pg_extension AS e
       JOIN pg_catalog.pg_namespace AS v ON v.oid = e.extnamespace WHERE e.extname = 'vector')
  FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %s"""


class NotBootstrapped(migrations.MigrationError):
    """The schema is missing or is not ours: run `llmspell database bootstrap`."""


class ExtensionMissing(migrations.MigrationError):
    """A required extension is missing: run `llmspell database bootstrap`."""


class LockBudgetSpent(migrations.MigrationError):
    """Other sessions held the locks for longer than the whole budget."""


class MigrationFailed(migrations.MigrationError):
    """A file failed; it left nothing behind, and those before it stay applied."""


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What one run did."""

    before: int
    after: int
    applied: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How patient a run is; clock and chance are passed in so that a test can replay one."""

    release: str = "unreleased"
    target: int | None = None
    lock_timeout_milliseconds: int = 2_000
    budget_seconds: float = 120.0
    pause_seconds: float = 0.05
    pause_seconds_max: float = 1.0
    now: Callable[[], float] = field(default=time.monotonic, repr=False)
    chance: Callable[[], float] = field(default=random.random, repr=False)


@dataclass(frozen=True, slots=True)
class Installation:
    """What the files are rendered with."""

    names: RoleNames
    schema: str
    extensions: str

    @property
    def marked(self) -> dict[str, Marked]:
        """The names as the templates use them: bare as identifiers, `…_name` as literals."""
        return {
            "schema": ident(self.schema),
            "schema_name": literal(self.schema),
            "owner": ident(self.names.owner),
            "owner_name": literal(self.names.owner),
            "maintenance": ident(self.names.maintenance),
            "maintenance_name": literal(self.names.maintenance),
            "extensions": ident(self.extensions),
            "extensions_name": literal(self.extensions),
            "installation": literal(self.names.installation),
        }


def render_migration(migration: Migration, installation: Installation) -> str:
    """Return the file's text with this installation's names."""
    return render(migration.source, **installation.marked)


def discover(schema: str) -> Generator[Effect, Rows, Installation]:
    """Find the installation in a schema of the connected database."""
    rows = yield Query(INSTALLATION_FACTS, (schema,))
    names = RoleNames.from_schema_comment(rows[0][0]) if rows else None
    if names is None:
        message = f"schema {schema!r} is not prepared: run `llmspell database bootstrap`"
        raise NotBootstrapped(message)
    vector_schema = rows[0][1]
    if vector_schema is None:
        message = "the extension `vector` is missing: run `llmspell database bootstrap`"
        raise ExtensionMissing(message)
    return Installation(names, schema, vector_schema)


def status_postgres(
    schema: str, options: RunOptions | None = None, files: Sequence[Migration] | None = None
) -> Generator[Effect, Rows, MigrationPlan]:
    """Return what a run would do, and do nothing."""
    chosen = options or RunOptions()
    yield Query(PIN_PATH)
    installation = yield from discover(schema)
    yield Query(f"SET ROLE {ident(installation.names.owner)}")
    rows = yield Query(_applied(installation))
    yield Query("RESET ROLE")
    return migrations.plan(rows, migrations.available("postgres") if files is None else files, chosen.target)


def migrate_postgres(
    schema: str, options: RunOptions | None = None, files: Sequence[Migration] | None = None
) -> Generator[Effect, Rows, MigrationReport]:
    """Bring a PostgreSQL schema to the target; afterwards the session has its own role again."""
    chosen = options or RunOptions()
    known = migrations.available("postgres") if files is None else files
    plan = yield from status_postgres(schema, chosen, known)
    installation = yield from discover(schema)
    done: list[str] = []
    deadline = chosen.now() + chosen.budget_seconds
    for migration in plan.pending:
        applied = yield from _patiently(migration, installation, known, chosen, deadline)
        if applied:
            done.append(migration.label)
    return MigrationReport(plan.current, plan.target, tuple(done))


def _patiently(
    migration: Migration,
    installation: Installation,
    known: Sequence[Migration],
    options: RunOptions,
    deadline: float,
) -> Generator[Effect, Rows, bool]:
    """Apply one file, waiting for locks within what is left of the budget; False: another did it."""
    pause = options.pause_seconds
    while True:
        try:
            if migration.transactional:
                return (yield from _apply_in_transaction(migration, installation, known, options))
            return (yield from _apply_in_steps(migration, installation, known, options))
        except SqlFailure as failure:
            yield from _restore_session()
            if not _worth_retrying(failure):
                message = f"{migration.label} failed and was rolled back: {failure.message}"
                raise MigrationFailed(message) from failure
            if options.now() + pause > deadline:
                message = f"{migration.label}: no lock within {options.budget_seconds:g} s: {failure.message}"
                raise LockBudgetSpent(message) from failure
        except migrations.MigrationError:
            yield from _restore_session()
            raise
        yield Sleep(pause * (0.5 + options.chance()))
        pause = min(pause * 2, options.pause_seconds_max)


def _apply_in_transaction(
    migration: Migration, installation: Installation, known: Sequence[Migration], options: RunOptions
) -> Generator[Effect, Rows, bool]:
    started = options.now()
    yield from _begin(installation, options)
    if not (yield from _still_pending(migration, installation, known)):
        yield Query("ROLLBACK")
        return False
    role = installation.names.maintenance if migration.role == "maintenance" else installation.names.owner
    yield Query(f"SET LOCAL ROLE {ident(role)}")
    yield Query(render_migration(migration, installation))
    yield Query(f"SET LOCAL ROLE {ident(installation.names.owner)}")
    yield _record(migration, installation, options, started)
    yield Query("COMMIT")
    return True


def _apply_in_steps(
    migration: Migration, installation: Installation, known: Sequence[Migration], options: RunOptions
) -> Generator[Effect, Rows, bool]:
    """Apply a file whose statements refuse a transaction; each must bear being run again.

    The lock can not be held across its statements, so the row carries a claim: this backend, which
    others honour for as long as it lives.
    """
    started = options.now()
    schema = ident(installation.schema)
    yield from _begin(installation, options)
    if not (yield from _still_pending(migration, installation, known)):
        yield Query("ROLLBACK")
        return False
    yield Query(
        f"UPDATE {schema}.migration_lock SET claimed_by_pid = pg_backend_pid(), claimed_backend_start ="  # noqa: S608
        " (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"
    )
    yield Query("COMMIT")
    role = installation.names.maintenance if migration.role == "maintenance" else installation.names.owner
    yield Query(f"SET lock_timeout = {options.lock_timeout_milliseconds}")
    yield Query(f"SET ROLE {ident(role)}")
    try:
        for statement in statements.split(render_migration(migration, installation)):
            yield Query(statement)
    except SqlFailure:
        yield from _restore_session()
        yield Query(f"SET ROLE {ident(installation.names.owner)}")
        yield Query(_release(schema))
        raise
    yield from _restore_session()
    yield from _begin(installation, options)
    yield _record(migration, installation, options, started)
    yield Query(_release(schema))
    yield Query("COMMIT")
    return True


def _begin(installation: Installation, options: RunOptions) -> Generator[Effect, Rows, None]:
    schema = ident(installation.schema)
    yield Query("BEGIN")
    yield Query(
        f"SET LOCAL lock_timeout = {options.lock_timeout_milliseconds};"
        f" SET LOCAL statement_timeout = 0; SET LOCAL ROLE {ident(installation.names.owner)}"
    )
    rows = yield Query(
        "SELECT l.claimed_by_pid IS NULL OR l.claimed_by_pid = pg_backend_pid() OR NOT EXISTS ("  # noqa: S608
        " SELECT FROM pg_stat_activity AS a WHERE a.pid = l.claimed_by_pid"
        " AND a.backend_start = l.claimed_backend_start)"
        f" FROM {schema}.migration_lock AS l FOR UPDATE NOWAIT"
    )
    if not rows or not rows[0][0]:
        raise SqlFailure("55P03", "another runner is applying a file without a transaction")


def _still_pending(
    migration: Migration, installation: Installation, known: Sequence[Migration]
) -> Generator[Effect, Rows, bool]:
    rows = yield Query(_applied(installation))
    plan = migrations.plan(rows, known)
    if plan.current >= migration.version:
        return False
    if plan.current != migration.version - 1:
        message = f"V{plan.current + 1} disappeared while V{migration.version} was waiting"
        raise migrations.Gap(message)
    return True


def _worth_retrying(failure: SqlFailure) -> bool:
    # Two sessions that change one catalog row have no SQLSTATE of their own.
    return failure.sqlstate in RETRIED or "tuple concurrently updated" in failure.message


def _restore_session() -> Generator[Effect, Rows, None]:
    yield Query("ROLLBACK")
    yield Query("RESET ROLE")
    yield Query("RESET lock_timeout")


def _applied(installation: Installation) -> str:
    return f"SELECT version, name, checksum FROM {ident(installation.schema)}.schema_migrations ORDER BY version"  # noqa: S608


def _release(schema: object) -> str:
    return f"UPDATE {schema}.migration_lock SET claimed_by_pid = NULL, claimed_backend_start = NULL"  # noqa: S608


def _record(migration: Migration, installation: Installation, options: RunOptions, started: float) -> Query:
    return Query(
        f"INSERT INTO {ident(installation.schema)}.schema_migrations"  # noqa: S608
        " (version, name, checksum, duration_ms, release) VALUES (%s, %s, %s, %s, %s)",
        (
            migration.version,
            migration.name,
            migration.checksum,
            int((options.now() - started) * 1000),
            options.release,
        ),
    )


SQLITE_TABLE = """CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    duration_ms INTEGER NOT NULL, release TEXT NOT NULL) STRICT"""


def migrate_sqlite(
    options: RunOptions | None = None, files: Sequence[Migration] | None = None
) -> Generator[Effect, Rows, MigrationReport]:
    """Bring an SQLite database to the target, in one transaction; a driver reports `database is locked` as 55P03.

    Whoever opens the file next finds all of it or nothing, and a new file costs one write to the disk.
    """
    chosen = options or RunOptions()
    known = migrations.available("sqlite") if files is None else files
    deadline = chosen.now() + chosen.budget_seconds
    pause = chosen.pause_seconds
    while True:
        try:
            yield Query("BEGIN IMMEDIATE")
            yield Query(SQLITE_TABLE)
            rows = yield Query("SELECT version, name, checksum FROM schema_migrations ORDER BY version")
            plan = migrations.plan(rows, known, chosen.target)
            for migration in plan.pending:
                yield from _apply_sqlite(migration, chosen)
            yield Query("COMMIT")
        except migrations.MigrationError:
            yield Query("ROLLBACK")
            raise
        except SqlFailure as failure:
            yield from _forgive_rollback()
            if not _worth_retrying(failure):
                message = f"migration failed and was rolled back: {failure.message}"
                raise MigrationFailed(message) from failure
            if chosen.now() + pause > deadline:
                message = f"no lock within {chosen.budget_seconds:g} s: {failure.message}"
                raise LockBudgetSpent(message) from failure
        else:
            return MigrationReport(plan.current, plan.target, tuple(migration.label for migration in plan.pending))
        yield Sleep(pause * (0.5 + chosen.chance()))
        pause = min(pause * 2, chosen.pause_seconds_max)


def _apply_sqlite(migration: Migration, options: RunOptions) -> Generator[Effect, Rows, None]:
    started = options.now()
    for statement in statements.split(migration.source):
        yield Query(statement)
    yield Query(
        "INSERT INTO schema_migrations (version, name, checksum, duration_ms, release) VALUES (?, ?, ?, ?, ?)",
        (
            migration.version,
            migration.name,
            migration.checksum,
            int((options.now() - started) * 1000),
            options.release,
        ),
    )


def _forgive_rollback() -> Generator[Effect, Rows, None]:
    try:
        yield Query("ROLLBACK")
    except SqlFailure:
        # BEGIN itself was refused: there is no transaction to end.
        return
