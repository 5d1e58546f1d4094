"""The schema as the catalog describes it: read by a procedure, held in frozen records, compared as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage_sql.effects import Effect, Query, Rows

if TYPE_CHECKING:
    from collections.abc import Generator

_TABLES = """SELECT c.relname::text, COALESCE(obj_description(c.oid, 'pg_class'), ''),
    COALESCE(pg_get_partkeydef(c.oid), ''), COALESCE(array_to_string(c.reloptions, ', '), ''),
    c.relrowsecurity AND c.relforcerowsecurity,
    (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = c.oid)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"""
_COLUMNS = """SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    COALESCE(pg_get_expr(d.adbin, d.adrelid), ''), a.attgenerated <> '',
    CASE WHEN a.attcollation <> t.typcollation THEN quote_ident(l.collname) ELSE '' END,
    CASE WHEN a.attstorage = t.typstorage THEN ''
         ELSE CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
                                ELSE 'EXTENDED' END END,
    COALESCE(array_to_string(a.attoptions, ', '), ''), COALESCE(col_description(c.oid, a.attnum), '')
  FROM pg_attribute AS a
  JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY 1, a.attnum"""
_CONSTRAINTS = """SELECT c.relname::text, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid),
    COALESCE(f.relname::text, '')
  FROM pg_constraint AS k
  JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_class AS f ON f.oid = k.confrelid
 WHERE n.nspname = %s AND NOT c.relispartition AND k.contype IN ('c', 'p', 'u', 'f', 'x')
 ORDER BY 1, array_position(ARRAY['p', 'u', 'x', 'f', 'c'], k.contype::text), 2"""
_INDEXES = """SELECT c.relname::text, x.relname::text, pg_get_indexdef(i.indexrelid),
    COALESCE(obj_description(x.oid, 'pg_class'), '')
  FROM pg_index AS i
  JOIN pg_class AS x ON x.oid = i.indexrelid JOIN pg_class AS c ON c.oid = i.indrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND NOT c.relispartition
   AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
 ORDER BY 1, 2"""
_TRIGGERS = """SELECT c.relname::text, t.tgname::text, pg_get_triggerdef(t.oid), t.tgenabled = 'A'
  FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND NOT c.relispartition AND NOT t.tgisinternal ORDER BY 1, 2"""
_POLICIES = """SELECT c.relname::text, p.polname::text, p.polcmd::text,
    array_to_string(ARRAY(SELECT COALESCE(r.rolname::text, 'public') FROM unnest(p.polroles) AS m (oid)
                            LEFT JOIN pg_roles AS r ON r.oid = m.oid ORDER BY 1), ', '),
    COALESCE(pg_get_expr(p.polqual, p.polrelid), ''), COALESCE(pg_get_expr(p.polwithcheck, p.polrelid), '')
  FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = %s ORDER BY 1, 2"""
_FUNCTIONS = """SELECT p.proname::text, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid),
    pg_get_functiondef(p.oid), pg_get_userbyid(p.proowner)::text, p.prosecdef,
    COALESCE(obj_description(p.oid, 'pg_proc'), ''), COALESCE(array_to_string(p.proacl, ', '), '')
  FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE n.nspname = %s ORDER BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    table: str
    name: str
    type: str
    not_null: bool
    default: str
    generated: bool
    collation: str
    storage: str
    options: str
    comment: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """A key, check, foreign key or exclusion; `kind` is the catalog's letter."""

    table: str
    name: str
    kind: str
    definition: str
    target: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index that no constraint owns."""

    table: str
    name: str
    definition: str
    comment: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger; ``always`` fires for what is replayed as a replica too."""

    table: str
    name: str
    definition: str
    always: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A row-level security policy."""

    table: str
    name: str
    command: str
    roles: str
    using: str
    check: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is no partition, with the number of its partitions."""

    name: str
    comment: str
    partition_key: str
    options: str
    protected: bool
    partitions: int


@dataclass(frozen=True, slots=True)
class Function:
    """A function."""

    name: str
    arguments: str
    result: str
    definition: str
    owner: str
    definer: bool
    comment: str
    privileges: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything in one schema; two schemas are equal when these are."""

    tables: tuple[Table, ...]
    columns: tuple[Column, ...]
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]
    triggers: tuple[Trigger, ...]
    policies: tuple[Policy, ...]
    functions: tuple[Function, ...]


def read(schema: str) -> Generator[Effect, Rows, Catalog]:
    """Read the catalog of a schema; a procedure (see `effects`)."""
    yield Query("SET search_path = pg_catalog, pg_temp")
    of = (schema,)
    return Catalog(
        tuple(Table(*row) for row in (yield Query(_TABLES, of))),
        tuple(Column(*row) for row in (yield Query(_COLUMNS, of))),
        tuple(Constraint(*row) for row in (yield Query(_CONSTRAINTS, of))),
        tuple(Index(*row) for row in (yield Query(_INDEXES, of))),
        tuple(Trigger(*row) for row in (yield Query(_TRIGGERS, of))),
        tuple(Policy(*row) for row in (yield Query(_POLICIES, of))),
        tuple(Function(*row) for row in (yield Query(_FUNCTIONS, of))),
    )
