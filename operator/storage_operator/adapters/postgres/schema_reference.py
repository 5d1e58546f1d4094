"""Write `schema.sql`, `tables.json` and `docs/reference/schema.md` from a migrated database: `python -m …schema_reference DSN ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psycopg

from storage_sql import catalog, reference, tables
from storage_sql.effects import Effect, Query, SqlFailure, drive
from storage_sql.roles import RoleNames
from storage_sql.runner import discover

SCHEMA_FILE = Path("sql/storage_sql/schema.sql")
TABLES_FILE = Path("sql/storage_sql/tables.json")
PAGE_FILE = Path("docs/reference/schema.md")


def generate(dsn: str) -> dict[Path, str]:
    """Return the text of each generated file for the installation in this database's schema `llmspell`."""
    with psycopg.connect(dsn, autocommit=True) as connection:

        def serve(effect: Effect) -> list[tuple[Any, ...]]:
            if not isinstance(effect, Query):
                raise TypeError(f"reading a catalog needs queries only, not {effect}")
            try:
                cursor = connection.execute(effect.sql.encode(), effect.params or None)
            except psycopg.Error as error:
                raise SqlFailure(error.sqlstate or "08006", str(error)) from error
            return cursor.fetchall() if cursor.description else []

        names: RoleNames = drive(discover(reference.SCHEMA), serve).names
        found = drive(catalog.read(reference.SCHEMA), serve)
    return {
        SCHEMA_FILE: reference.schema_sql(found, names),
        TABLES_FILE: tables.tables_json(found),
        PAGE_FILE: reference.schema_markdown(found, names),
    }


def main(dsn: str, root: Path) -> None:
    """Write the generated files below the repository's root."""
    for path, text in generate(dsn).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
