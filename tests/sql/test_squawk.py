"""squawk reads every migration as PostgreSQL would get it and finds nothing that locks, breaks or surprises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage_sql.migrations import Migration, available
from storage_sql.roles import RoleNames
from storage_sql.runner import Installation, render_migration

_OLDEST_SERVER = "16.0"
_EXCLUDED = (
    "require-lock-timeout",  # the runner sets it before each file, with retries and a budget
    "require-statement-timeout",  # the same
    "prefer-bigint-over-int",  # versions, limits and durations in milliseconds have their own bounds
)


def squawk(migration: Migration) -> subprocess.CompletedProcess[str]:
    """Render one migration and give it to squawk."""
    sql = render_migration(migration, Installation(RoleNames("abcdefgh"), "llmspell", "public"))
    command = [str(Path(sys.executable).with_name("squawk")), "--pg-version", _OLDEST_SERVER, "--reporter", "gcc"]
    command += ["--exclude", ",".join(_EXCLUDED), "--stdin-filepath", migration.label]
    if migration.transactional:
        command.append("--assume-in-transaction")
    return subprocess.run(command, input=sql, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("migration", available("postgres"), ids=lambda migration: f"V{migration.version:04d}")
def test_migration_passes(migration: Migration) -> None:
    """A migration passes every rule that is not excluded with a reason above."""
    finished = squawk(migration)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_squawk_would_object() -> None:
    """The linter is really run: a migration that rewrites a table is refused."""
    first, *_ = available("postgres")
    bad = Migration(
        version=first.version,
        name=first.name,
        source="ALTER TABLE t ALTER COLUMN c TYPE bigint;",
        role=first.role,
        transactional=first.transactional,
    )
    assert "changing-column-type" in squawk(bad).stdout
