"""Write a catalog as text: `schema.sql`, the whole schema in one file, and its reference page; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from storage_sql.renderer import ident, literal
from storage_sql.roles import RoleNames
from storage_sql.stores import VECTOR_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage_sql.catalog import Catalog, Column, Table

# Stands for the installation's id in the committed files.
PLACEHOLDER = "xxxxxxxx"
SCHEMA = "llmspell"
_FROM_BOOTSTRAP = frozenset({"schema_migrations", "migration_lock"})
_KINDS = {"p": "primary key", "u": "unique", "x": "exclusion", "f": "foreign key", "c": "check"}


def schema_sql(catalog: Catalog, names: RoleNames) -> str:
    """Return statements that, run as owner after bootstrap, make what all migrations make; no rows."""
    placeholder = RoleNames(PLACEHOLDER)
    owner, maintenance = ident(placeholder.owner), ident(placeholder.maintenance)
    made = [table for table in catalog.tables if table.name not in _FROM_BOOTSTRAP]
    plain = [table for table in made if not VECTOR_TABLE.fullmatch(table.name)]
    kept = {table.name for table in plain}
    lines = [
        "-- Generated from the catalog of a migrated database; not edited by hand. Run as the owner, in one",
        f"-- transaction, after bootstrap; {PLACEHOLDER} stands for the installation's id.",
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;",
        f"SET LOCAL ROLE {maintenance};",
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;",
        f"ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {owner} WITH GRANT OPTION;",
        f"SET LOCAL ROLE {owner};",
        "",
    ]
    for table in plain:
        lines += _create_table(catalog, table)
    lines += [f"{index.definition};" for index in catalog.indexes if index.table in kept]
    lines += [
        f"COMMENT ON INDEX {SCHEMA}.{index.name} IS {literal(index.comment)};"
        for index in catalog.indexes
        if index.table in kept and index.comment
    ]
    lines += [
        f"ALTER TABLE {SCHEMA}.{one.table} ADD CONSTRAINT {one.name} {one.definition};"
        for one in catalog.constraints
        if one.kind == "f" and one.table in kept
    ]
    lines += ["", *_functions(catalog, names)]
    lines += [f"{trigger.definition};" for trigger in catalog.triggers]
    lines += [
        f"ALTER TABLE {SCHEMA}.{trigger.table} ENABLE ALWAYS TRIGGER {trigger.name};"
        for trigger in catalog.triggers
        if trigger.always
    ]
    lines.append("")
    for table in made:
        lines += _protect(catalog, table)
    return "\n".join(lines).replace(names.installation, PLACEHOLDER) + "\n"


def _create_table(catalog: Catalog, table: Table) -> list[str]:
    columns = [column for column in catalog.columns if column.table == table.name]
    parts = [f"    {_column(column)}" for column in columns]
    parts += [
        f"    CONSTRAINT {one.name} {one.definition}"
        for one in catalog.constraints
        if one.table == table.name and one.kind != "f"
    ]
    partition = f" PARTITION BY {table.partition_key}" if table.partition_key else ""
    options = f" WITH ({table.options})" if table.options else ""
    return [
        f"CREATE TABLE {SCHEMA}.{table.name} (",
        ",\n".join(parts),
        f"){partition}{options};",
        *(
            f"ALTER TABLE {SCHEMA}.{table.name} ALTER COLUMN {_name(one)} SET ({one.options});"
            for one in columns
            if one.options
        ),
        f"COMMENT ON TABLE {SCHEMA}.{table.name} IS {literal(table.comment)};",
        *(f"COMMENT ON COLUMN {SCHEMA}.{table.name}.{_name(one)} IS {literal(one.comment)};" for one in columns),
        "",
    ]


def _name(column: Column) -> str:
    # Two column names are also type names, which only a quoted name is told apart from everywhere.
    return str(ident(column.name)) if column.name in {"timestamp", "position"} else column.name


def _column(column: Column) -> str:
    words = [_name(column), column.type]
    if column.storage:
        words.append(f"STORAGE {column.storage}")
    if column.collation:
        words.append(f"COLLATE {column.collation}")
    if column.not_null:
        words.append("NOT NULL")
    if column.generated:
        words.append(f"GENERATED ALWAYS AS ({column.default}) STORED")
    elif column.default:
        words.append(f"DEFAULT {column.default}")
    return " ".join(words)


def _functions(catalog: Catalog, names: RoleNames) -> list[str]:
    lines: list[str] = []
    for function in catalog.functions:
        foreign = function.owner != names.owner
        lines += [f"SET LOCAL ROLE {ident(function.owner)};"] if foreign else []
        lines += [
            f"{function.definition.rstrip()};",
            f"COMMENT ON FUNCTION {SCHEMA}.{function.name}({function.arguments}) IS {literal(function.comment)};",
        ]
        lines += [f"SET LOCAL ROLE {ident(names.owner)};"] if foreign else []
        lines.append("")
    return lines


def _protect(catalog: Catalog, table: Table) -> list[str]:
    vector = VECTOR_TABLE.fullmatch(table.name)
    if vector:
        return [f"SELECT {SCHEMA}.create_vector_table({vector[1]});"]
    if not table.protected:
        return []
    append_only = any(
        policy.table == table.name and policy.name == "tenant_isolation_update" and policy.roles != "public"
        for policy in catalog.policies
    )
    lines = [f"SELECT {SCHEMA}.protect_table('{SCHEMA}.{table.name}', {str(append_only).lower()});"]
    return [*lines, f"SELECT {SCHEMA}.ensure_event_partitions('month', 3);"] if table.name == "event_log" else lines


def schema_markdown(catalog: Catalog, names: RoleNames) -> str:
    """Return the reference page: a diagram, every table with its columns and keys, every function."""
    tenants = {column.table for column in catalog.columns if column.name == "tenant_id"}
    ours = [table for table in catalog.tables if table.name not in tenants]
    theirs = [table for table in catalog.tables if table.name in tenants]
    lines = [
        "# Schema",
        "",
        "<!-- Generated from the catalog of a migrated database; not edited by hand. -->",
        "",
        "A table with a column `tenant_id` holds tenants' rows and is under row-level security, as are its",
        "partitions; any other belongs to the operator and is granted to nobody.",
        "",
        "## Diagram",
        "",
        *_diagram(catalog, tenants),
        "",
        "## Tables of tenants",
        "",
        *(line for table in theirs for line in _table_section(catalog, table)),
        "## Tables of the operator",
        "",
        *(line for table in ours for line in _table_section(catalog, table)),
        "## Functions",
        "",
        "| Function | Returns | Runs as | Purpose |",
        "|---|---|---|---|",
        *(
            f"| `{one.name}({one.arguments})` | `{one.result}` | {_runs_as(one.definer, one.owner, names)} "
            f"| {_cell(one.comment)} |"
            for one in catalog.functions
        ),
    ]
    text = "\n".join(lines).replace(names.installation, PLACEHOLDER)
    return (
        text.replace("timestamp with time zone", "timestamptz").replace("timestamp_with_time_zone", "timestamptz")
        + "\n"
    )


def _runs_as(definer: bool, owner: str, names: RoleNames) -> str:
    if not definer:
        return "caller"
    return "maintenance" if owner == names.maintenance else "owner"


def _diagram(catalog: Catalog, tenants: Iterable[str]) -> list[str]:
    lines = ["```mermaid", "erDiagram"]
    keys = {one.table: one.definition for one in catalog.constraints if one.kind == "p"}
    for table in catalog.tables:
        if VECTOR_TABLE.fullmatch(table.name) and table.name != "vector_embeddings_384":
            continue
        lines.append(f"    {table.name} {{")
        key = set(re.findall(r"\w+", keys.get(table.name, "").partition("(")[2]))
        for column in catalog.columns:
            if column.table == table.name:
                kind = re.sub(r"\(.*\)|^.*\.", "", column.type).replace(" ", "_").replace("[]", "_array")
                lines.append(f"        {kind} {column.name}{' PK' if column.name in key else ''}")
        lines.append("    }")
    shown = set(tenants) - {name for name in tenants if VECTOR_TABLE.fullmatch(name)} | {"vector_embeddings_384"}
    lines += [f"    tenants ||..o{{ {name} : owns" for name in sorted(shown)]
    lines += [f"    {one.target} ||--o{{ {one.table} : {one.name}" for one in catalog.constraints if one.kind == "f"]
    return [*lines, "```"]


def _table_section(catalog: Catalog, table: Table) -> list[str]:
    lines = [f"### `{table.name}`", "", table.comment, ""]
    if table.partition_key:
        number = "" if table.name == "event_log" else f", {table.partitions} partitions"
        lines += [f"Partitioned by `{table.partition_key}`{number}.", ""]
    lines += ["| Column | Type | Null | Default | Meaning |", "|---|---|---|---|---|"]
    for column in catalog.columns:
        if column.table == table.name:
            default = f"`{_cell(column.default)}`" if column.default else ""
            lines.append(
                f"| `{column.name}` | `{column.type}` | {'no' if column.not_null else 'yes'} "
                f"| {'generated: ' if column.generated else ''}{default} | {_cell(column.comment)} |"
            )
    lines += ["", "Keys, checks and indexes:", ""]
    lines += [
        f"- `{one.name}` ({_KINDS[one.kind]}): `{one.definition}`"
        for one in catalog.constraints
        if one.table == table.name
    ]
    lines += [
        f"- `{one.name}` (index): `{one.definition.partition(' USING ')[2]}`"
        for one in catalog.indexes
        if one.table == table.name
    ]
    lines += [f"- `{one.name}` (trigger)" for one in catalog.triggers if one.table == table.name]
    return [*lines, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
