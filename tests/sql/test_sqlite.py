"""SQLite has the same migrations, applied by the same runner."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from storage_sql import migrations
from storage_sql.effects import Effect, Query, Rows, Sleep, SqlFailure, drive
from storage_sql.migrations import Migration
from storage_sql.runner import LockBudgetSpent, MigrationFailed, MigrationReport, RunOptions, migrate_sqlite
from tests.plugins.installation import Installation

FILES = migrations.available("sqlite")


@contextmanager
def served(path: Path) -> Iterator[Callable[[Effect], Rows]]:
    """Open a database and serve a procedure's effects on it."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:

        def serve(effect: Effect) -> Rows:
            if isinstance(effect, Sleep):
                time.sleep(effect.seconds)
                return []
            assert isinstance(effect, Query)
            try:
                return connection.execute(effect.sql, effect.params).fetchall()
            except sqlite3.Error as error:
                state = "55P03" if "locked" in str(error) else "HY000"
                raise SqlFailure(state, str(error)) from error

        yield serve


def migrate(path: Path, files: Any = None, **options: Any) -> MigrationReport:
    """Run the migrations on a file."""
    with served(path) as serve:
        return drive(migrate_sqlite(RunOptions(**options), files), serve)


def rows(path: Path, text: str) -> list[tuple[Any, ...]]:
    """Ask a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(text).fetchall()


@pytest.mark.parametrize("start", range(len(FILES) + 1))
def test_every_start_reaches_the_end(tmp_path: Path, start: int) -> None:
    """From any version the rest applies."""
    path = tmp_path / "agents.db"
    assert migrate(path, target=start).after == start
    report = migrate(path)
    assert (report.before, report.after, len(report.applied)) == (start, len(FILES), len(FILES) - start)


def test_ten_runners_apply_each_file_once(tmp_path: Path) -> None:
    """Whoever begins first writes; the others find it done."""
    path = tmp_path / "agents.db"
    with ThreadPoolExecutor(10) as pool:
        reports = list(pool.map(lambda _: migrate(path), range(10)))
    assert sorted(label for report in reports for label in report.applied) == sorted(file.label for file in FILES)


def test_failed_file_leaves_nothing(tmp_path: Path) -> None:
    """Statements of a failed file are undone, tables included, and so are the files that were applied before it."""
    path = tmp_path / "agents.db"
    migrate(path, target=1)
    sound = Migration(2, "sound", "CREATE TABLE left_over (n)")
    broken = Migration(3, "broken", "INSERT INTO left_over VALUES (1); INSERT INTO absent VALUES (1)")
    with pytest.raises(MigrationFailed, match="absent"):
        migrate(path, (FILES[0], sound, broken))
    assert rows(path, "SELECT max(version) FROM schema_migrations") == [(1,)]
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'left_over'") == []


def test_refusals(tmp_path: Path) -> None:
    """Edited file, lower target and newer database are refused, and the file is not left locked."""
    path = tmp_path / "agents.db"
    migrate(path, target=2)
    with pytest.raises(migrations.ChecksumChanged):
        migrate(path, (Migration(1, FILES[0].name, "SELECT 1"), *FILES[1:]))
    with pytest.raises(migrations.LowerTarget):
        migrate(path, target=1)
    with pytest.raises(migrations.NewerDatabase):
        migrate(path, FILES[:1])
    assert migrate(path).after == len(FILES)


def test_locked_file_is_given_up_on(tmp_path: Path) -> None:
    """A writer that does not end spends the budget."""
    path = tmp_path / "agents.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(LockBudgetSpent):
            migrate(path, budget_seconds=0.2)


def test_columns_are_those_of_postgres(tmp_path: Path, installation: Installation) -> None:
    """Every tenant table has the same columns on both; the generated ones exist only where they serve an index."""
    path = tmp_path / "agents.db"
    migrate(path)
    with installation.connect(installation.names.owner) as owner:
        found = owner.execute(
            "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attname) FROM pg_class AS c"
            " JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated = ''"
            " WHERE c.relnamespace = 'llmspell'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND EXISTS (SELECT FROM pg_attribute AS t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id')"
            " GROUP BY 1 ORDER BY 1"
        ).fetchall()
    here = {
        name: sorted(row[1] for row in rows(path, f"PRAGMA table_info({name})"))
        for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    assert {name: here.get(name) for name, _ in found} == dict(found)


def test_keys_begin_with_the_tenant(tmp_path: Path) -> None:
    """Every primary key of a tenant table has tenant_id first."""
    path = tmp_path / "agents.db"
    migrate(path)
    tables = [name for (name,) in rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]
    first = {
        name: [row[1] for row in rows(path, f"PRAGMA table_info({name})") if row[5] == 1]
        for name in tables
        if name not in {"schema_migrations", "installation"}
    }
    assert set(map(tuple, first.values())) == {("tenant_id",)}


def test_one_current_version_and_reference_counts(tmp_path: Path) -> None:
    """Triggers keep what constraints and triggers keep on PostgreSQL."""
    path = tmp_path / "agents.db"
    migrate(path)
    entity = "INSERT INTO entities VALUES ('acme', ?, 't', 'n', '{}', ?, ?, 1, 9223372036854775807, ?, 9223372036854775807, 0, NULL)"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(entity, ("e" * 36, 0, 10, 1))
        connection.execute(entity, ("e" * 36, 10, 20, 2))
        with pytest.raises(sqlite3.IntegrityError, match="one_current_version"):
            connection.execute(entity, ("e" * 36, 5, 15, 3))
        connection.execute(
            "INSERT INTO artifact_content (tenant_id, content_hash, storage_type, data, size_bytes, original_size_bytes,"
            " created_at, last_accessed_at) VALUES ('acme', ?, 'inline', x'00', 1, 1, 0, 0)",
            ("a" * 64,),
        )
        connection.execute(
            "INSERT INTO artifacts (tenant_id, artifact_id, session_id, sequence, content_hash, name, artifact_type,"
            " mime_type, size_bytes, created_at) VALUES ('acme', 'one', 's', 1, ?, 'n', 't', 'm', 1, 0)",
            ("a" * 64,),
        )
        assert connection.execute("SELECT reference_count FROM artifact_content").fetchall() == [(1,)]
        connection.execute("DELETE FROM artifacts")
        assert connection.execute("SELECT reference_count FROM artifact_content").fetchall() == [(0,)]
