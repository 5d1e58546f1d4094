"""`schema.sql` makes what the migrations make, and the generated files are those of these migrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage_operator.adapters.postgres.schema_reference import PAGE_FILE, SCHEMA_FILE, TABLES_FILE, generate
from storage_sql import audit, catalog
from storage_sql.catalog import Catalog
from storage_sql.reference import PLACEHOLDER
from tests.plugins.installation import Installation, drive_on

ROOT = Path(__file__).parents[2]
HOW = "run: python -m storage_operator.adapters.postgres.schema_reference DSN ."


def described(where: Installation) -> Catalog:
    """Return a schema's catalog with the installation's id taken out."""
    found: Catalog = drive_on(where.operator_dsn, catalog.read(where.schema))
    return Catalog(
        tables=found.tables,
        columns=found.columns,
        constraints=found.constraints,
        indexes=found.indexes,
        triggers=found.triggers,
        policies=tuple(
            replace(one, roles=one.roles.replace(where.names.installation, PLACEHOLDER)) for one in found.policies
        ),
        functions=tuple(
            replace(
                one,
                definition=one.definition.replace(where.names.installation, PLACEHOLDER),
                owner=one.owner.replace(where.names.installation, PLACEHOLDER),
                privileges=one.privileges.replace(where.names.installation, PLACEHOLDER),
            )
            for one in found.functions
        ),
    )


@pytest.mark.parametrize("path", [SCHEMA_FILE, TABLES_FILE, PAGE_FILE], ids=["schema.sql", "tables.json", "schema.md"])
def test_generated_file_is_current(installation: Installation, path: Path) -> None:
    """The committed file is what the migrated catalog says today."""
    assert (ROOT / path).read_text(encoding="utf-8") == generate(installation.operator_dsn)[path], HOW


def test_schema_file_equals_the_migrations(installation: Installation, bootstrapped_database: Installation) -> None:
    """A database made from schema.sql has the same catalog, object by object, and holds the contract."""
    text = (ROOT / SCHEMA_FILE).read_text(encoding="utf-8")
    with bootstrapped_database.connect(bootstrapped_database.names.owner) as owner, owner.transaction():
        owner.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        owner.execute(text.replace(PLACEHOLDER, bootstrapped_database.names.installation).encode())
    made, migrated = described(bootstrapped_database), described(installation)
    for part in Catalog.__dataclass_fields__:
        assert getattr(made, part) == getattr(migrated, part), part
    assert drive_on(bootstrapped_database.operator_dsn, audit.audit("llmspell", bootstrapped_database.names)) == ()


def test_everything_is_described(installation: Installation) -> None:
    """Every table, column and function has a comment in the catalog."""
    found: Catalog = drive_on(installation.operator_dsn, catalog.read("llmspell"))
    assert [table.name for table in found.tables if not table.comment] == []
    assert [(column.table, column.name) for column in found.columns if not column.comment] == []
    assert [function.name for function in found.functions if not function.comment] == []


def test_no_table_compares_leaky_types(installation: Installation) -> None:
    """Key columns are of types whose comparison is leakproof, text under the C collation."""
    found: Catalog = drive_on(installation.operator_dsn, catalog.read("llmspell"))
    usable = {"uuid", "text", "bigint", "boolean", "timestamp with time zone", "bytea"}
    tenants = {column.table for column in found.columns if column.name == "tenant_id"}
    keyed = {one.table: one.definition for one in found.constraints if one.kind == "p" and one.table in tenants}
    assert set(keyed) == tenants
    for column in found.columns:
        if column.table in tenants and column.name in keyed[column.table].replace("(", " ").replace(",", " ").split():
            assert column.type in usable, column
            assert column.type != "text" or column.collation == '"C"', column
