"""squawk finds nothing in the migrations that its configuration does not justify."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage_sql import migrations
from storage_sql.migrations import Migration
from storage_sql.roles import RoleNames
from storage_sql.runner import Installation, render_migration

CONFIG = Path(__file__).parents[2] / "sql" / "squawk.toml"
INSTALLATION = Installation(RoleNames("abcdefg2"), "llmspell", "public")


def lint(path: Path, migration: Migration) -> subprocess.CompletedProcess[str]:
    """Render a migration and run squawk over it."""
    squawk = Path(sys.executable).with_name("squawk")
    assert squawk.is_file(), "squawk is missing: run `make check` once to install the tools"
    file = path / f"{migration.version:04d}.sql"
    file.write_text(render_migration(migration, INSTALLATION), encoding="utf-8")
    command = [
        str(squawk),
        "--config",
        str(CONFIG),
        *(["--assume-in-transaction"] if migration.transactional else []),
        str(file),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.parametrize("migration", migrations.available("postgres"), ids=lambda migration: migration.label)
def test_migration_is_clean(tmp_path: Path, migration: Migration) -> None:
    """No rule is broken."""
    result = lint(tmp_path, migration)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_linter_bites(tmp_path: Path) -> None:
    """A migration that would lock a table for long is refused, so a clean result means something."""
    slow = Migration(99, "slow", "CREATE INDEX by_value ON {{ schema }}.test_table (tenant_id, value);")
    result = lint(tmp_path, slow)
    assert result.returncode != 0
    assert "require-concurrent-index-creation" in result.stdout + result.stderr
