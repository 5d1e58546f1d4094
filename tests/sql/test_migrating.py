"""Migrations on a real server: from anywhere, by many at once, through faults."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from storage_sql import audit, migrations
from storage_sql.bootstrap import Bootstrap, database_script
from storage_sql.effects import Effect, Query, Rows, Sleep, drive
from storage_sql.migrations import Migration
from storage_sql.runner import (
    LockBudgetSpent,
    MigrationFailed,
    NotBootstrapped,
    RunOptions,
    migrate_postgres,
    status_postgres,
)
from tests.plugins.installation import Driver, Installation, bootstrapped_on, drive_on
from tests.plugins.postgres import Database, database_on, url_with

FILES = migrations.available("postgres")
LAST = len(FILES)
# What the runner does is the same with these, and the rest of the files takes seconds.
FEW = FILES[:2]


@pytest.fixture(scope="module")
def prepared(superuser_url: str) -> Iterator[Installation]:
    """Give this file one installation, whose roles are what takes long, under a schema that needs its quotes."""
    with bootstrapped_on(superuser_url, 'Odd "schema"') as made:
        yield made


def script(where: Installation) -> bytes:
    """Return what bootstrap runs inside the database."""
    asked = Bootstrap(where.names.installation, where.database.name, where.schema)
    return database_script(where.names, asked, ("vector", "btree_gist")).encode()


@pytest.fixture
def empty(prepared: Installation) -> Installation:
    """Give one test that installation with its schema as bootstrap leaves it."""
    with prepared.database.connect() as connection:
        connection.execute('DROP SCHEMA "Odd ""schema""" CASCADE')
        connection.execute(script(prepared))
    return prepared


@pytest.fixture(scope="module")
def walker(prepared: Installation, superuser_url: str) -> Iterator[Installation]:
    """Give a database that the tests below take from one version to the next, copying it at each."""
    with database_on(superuser_url) as database:
        walking = replace(prepared, database=database)
        with database.connect() as connection:
            connection.execute(script(walking))
        yield walking


@pytest.fixture
def started(walker: Installation, superuser_url: str, start: int) -> Iterator[Installation]:
    """Give a copy of the walking database at the version `start`."""
    assert migrate(walker, target=start).after == start
    name = f"{walker.database.name}_{start}"
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{walker.database.name}"'.encode())
        try:
            copied = replace(walker, database=Database(name, url_with(superuser_url, dbname=name)))
            # Privileges of a database are not copied with it.
            with copied.database.connect() as inside:
                inside.execute(script(copied))
            yield copied
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def migrate(where: Installation, files: Any = None, **options: Any) -> Any:
    """Run the migrations as the operator's login."""
    return drive_on(where.operator_dsn, migrate_postgres(where.schema, RunOptions(**options), files))


def violations(where: Installation) -> tuple[audit.Violation, ...]:
    """Return what the audit finds."""
    found: tuple[audit.Violation, ...] = drive_on(where.operator_dsn, audit.audit(where.schema, where.names))
    return found


def value(where: Installation, text: str, role: str | None = None) -> Any:
    """Return one value, asked as the owner or another role."""
    with where.connect(role or where.names.owner) as connection:
        row = connection.execute(text.replace("SCHEMA", '"Odd ""schema"""').encode()).fetchone()
        return None if row is None else row[0]


@pytest.mark.parametrize("start", range(LAST))
def test_every_start_reaches_the_end(started: Installation, start: int) -> None:
    """From any version the rest applies, and the contract holds at both points."""
    assert violations(started) == ()
    rest = migrate(started)
    assert (rest.before, rest.after, len(rest.applied)) == (start, LAST, LAST - start)
    assert violations(started) == ()


def test_ten_runners_apply_each_file_once(empty: Installation) -> None:
    """Whoever gets the lock applies a file; the sum of all reports is each file once."""
    with ThreadPoolExecutor(10) as pool:
        reports = list(pool.map(lambda _: migrate(empty), range(10)))
    assert sorted(label for report in reports for label in report.applied) == sorted(file.label for file in FILES)
    assert value(empty, "SELECT count(*) FROM SCHEMA.schema_migrations") == LAST


def test_second_run_changes_nothing(empty: Installation) -> None:
    """A migrated database is left alone, and the dry run says so."""
    assert len(drive_on(empty.operator_dsn, status_postgres(empty.schema)).pending) == LAST
    migrate(empty, release="1.2.3")
    assert migrate(empty).applied == ()
    assert drive_on(empty.operator_dsn, status_postgres(empty.schema)).pending == ()
    assert value(empty, "SELECT DISTINCT release FROM SCHEMA.schema_migrations") == "1.2.3"


def test_refusals_reach_the_caller(empty: Installation) -> None:
    """Edited file, lower target and newer database are refused before anything runs."""
    migrate(empty, target=2)
    edited = (FILES[0], Migration(2, FILES[1].name, FILES[1].source + " "), *FILES[2:])
    with pytest.raises(migrations.ChecksumChanged):
        migrate(empty, edited)
    with pytest.raises(migrations.LowerTarget):
        migrate(empty, target=1)
    with pytest.raises(migrations.NewerDatabase):
        migrate(empty, FILES[:1])
    assert value(empty, "SELECT max(version) FROM SCHEMA.schema_migrations") == 2


def test_failed_file_leaves_nothing(empty: Installation) -> None:
    """The statements before the failing one are undone, the files before it stay."""
    broken = Migration(2, "broken", "CREATE TABLE {{ schema }}.left_over (n int); SELECT 1/0")
    with pytest.raises(MigrationFailed, match=r"V2 broken.*division by zero"):
        migrate(empty, (FILES[0], broken))
    assert value(empty, "SELECT to_regclass('SCHEMA.left_over')") is None
    assert value(empty, "SELECT max(version) FROM SCHEMA.schema_migrations") == 1
    assert migrate(empty, FEW).after == 2


def test_crash_between_files_is_resumed(empty: Installation) -> None:
    """A runner that dies holds nothing; the next one goes on after the last commit."""
    procedure = migrate_postgres(empty.schema)
    with psycopg.connect(empty.operator_dsn, autocommit=True) as connection:
        effect, commits = next(procedure), 0
        while commits < 4:
            assert isinstance(effect, Query)
            cursor = connection.execute(effect.sql.encode(), effect.params or None)
            while cursor.nextset():
                pass
            commits += effect.sql == "COMMIT"
            effect = procedure.send(cursor.fetchall() if cursor.description else [])
    procedure.close()
    report = migrate(empty)
    assert (report.before, report.after) == (4, LAST)


def test_lock_is_waited_for_within_the_budget(empty: Installation) -> None:
    """A held lock row is retried with growing pauses, and given up on when the budget is spent."""
    pauses: list[float] = []

    def serve(effect: Effect) -> Rows:
        if isinstance(effect, Sleep):
            pauses.append(effect.seconds)
            clock[0] += effect.seconds
            return []
        return driver(effect)

    clock, driver = [0.0], Driver(empty.operator_dsn)
    options = RunOptions(budget_seconds=5, now=lambda: clock[0], chance=lambda: 0.5)
    with empty.connect(empty.names.owner) as holder, holder.transaction():
        holder.execute('SELECT FROM "Odd ""schema""".migration_lock FOR UPDATE')
        with pytest.raises(LockBudgetSpent, match="5 s"):
            drive(migrate_postgres(empty.schema, options), serve)
    driver.close()
    assert pauses[:5] == [0.05, 0.1, 0.2, 0.4, 0.8]
    assert sum(pauses) <= 5
    assert migrate(empty, FEW).after == 2


def test_table_lock_times_out_and_is_retried(empty: Installation) -> None:
    """A reader that holds a table makes the file wait `lock_timeout`, not for ever, and then go through."""
    migrate(empty, target=2)
    change = Migration(3, "change", "ALTER TABLE {{ schema }}.test_table ADD COLUMN extra int")
    files = (*FILES[:2], change)
    with empty.connect(empty.names.owner) as reader:
        reader.execute("BEGIN")
        reader.execute('SELECT FROM "Odd ""schema""".test_table')
        with pytest.raises(LockBudgetSpent):
            migrate(empty, files, lock_timeout_milliseconds=50, budget_seconds=0.3)
        reader.execute("ROLLBACK")
    assert migrate(empty, files).applied == ("V3 change",)


def test_backfill_needs_maintenance(empty: Installation) -> None:
    """Under forced row security the owner's update changes no row, maintenance's changes all."""
    migrate(empty, FEW)
    value(
        empty,
        "INSERT INTO SCHEMA.test_table (tenant_id, id, value) VALUES ('acme', '1', 'old'), ('bob', '1', 'old')"
        " RETURNING 1",
        empty.names.maintenance,
    )
    update = "UPDATE {{ schema }}.test_table SET value = 'new'"
    as_owner = Migration(3, "as_owner", update)
    as_maintenance = Migration(4, "as_maintenance", update, "maintenance")
    count = "SELECT count(*) FROM SCHEMA.test_table WHERE value = 'new'"
    migrate(empty, (*FEW, as_owner))
    assert value(empty, count, empty.names.maintenance) == 0
    migrate(empty, (*FEW, as_owner, as_maintenance))
    assert value(empty, count, empty.names.maintenance) == 2


def test_foreign_key_over_an_orphan_fails_as_maintenance(empty: Installation) -> None:
    """A constraint that maintenance adds is checked against every tenant's rows."""
    migrate(empty)
    value(
        empty,
        "INSERT INTO SCHEMA.test_table (tenant_id, id, value) VALUES ('acme', 'orphan', '') RETURNING 1",
        empty.names.maintenance,
    )
    source = (
        "ALTER TABLE {{ schema }}.test_table ADD CONSTRAINT of_session"
        " FOREIGN KEY (tenant_id, id) REFERENCES {{ schema }}.sessions (tenant_id, session_id)"
    )
    with pytest.raises(MigrationFailed, match="violates foreign key"):
        migrate(empty, (*FILES, Migration(LAST + 1, "constraint", source, "maintenance")))


def test_file_without_transaction_runs_statement_by_statement(empty: Installation) -> None:
    """CREATE INDEX CONCURRENTLY works in such a file, and its failure releases the claim."""
    migrate(empty, FEW)
    source = "CREATE INDEX CONCURRENTLY IF NOT EXISTS probe_value ON {{ schema }}.test_table (tenant_id, value);"
    bad = Migration(3, "concurrently", source + "SELECT 1/0", "owner", transactional=False)
    good = Migration(3, "concurrently", source + "SELECT 1", "owner", transactional=False)
    with pytest.raises(MigrationFailed):
        migrate(empty, (*FEW, bad))
    assert value(empty, "SELECT claimed_by_pid FROM SCHEMA.migration_lock") is None
    assert migrate(empty, (*FEW, good)).after == 3
    assert value(empty, "SELECT to_regclass('SCHEMA.probe_value')") is not None


def test_unprepared_schema_is_named(empty: Installation) -> None:
    """A schema without the installation's mark is refused with the command that makes one."""
    with pytest.raises(NotBootstrapped, match="database bootstrap"):
        drive_on(empty.operator_dsn, migrate_postgres("public"))
