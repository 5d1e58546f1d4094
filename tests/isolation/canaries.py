"""A neighbour's rows: marked contents in every tenant table, partition and leaf, and how to see that they are untouched.

Tables, partitions and columns are read from the catalog. A table that a later migration adds gets rows too; when its
CHECKs refuse what is made up here, filling fails with the table's name: then ``_special`` wants one entry.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from tests.plugins.installation import Installation

LEAVES = 32
_KNOWN_HASH = "a" * 64
_COLUMNS = """WITH RECURSIVE chains AS (
    SELECT c.oid, 0 AS depth FROM pg_class c WHERE c.relkind IN ('r', 'p')
    UNION ALL
    SELECT k.conrelid, h.depth + 1 FROM chains h JOIN pg_constraint k ON k.confrelid = h.oid AND k.contype = 'f'
     WHERE k.confrelid <> k.conrelid AND h.depth < 16
)
SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.atttypmod, a.atthasdef, a.attgenerated <> '',
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND EXISTS (
       SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped)
 ORDER BY (SELECT max(h.depth) FROM chains h WHERE h.oid = c.oid), c.relname, a.attnum"""
_CHILDREN = """SELECT p.relname, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
 WHERE n.nspname = %s AND p.relkind = 'p' ORDER BY c.relname"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as far as filling and attacking it needs to know."""

    name: str
    type: str
    dimensions: int
    has_default: bool
    generated: bool
    key: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A tenant table with its columns and the names of its partitions."""

    name: str
    columns: tuple[Column, ...]
    children: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(column.name for column in self.columns if column.key)


def discover(installation: Installation) -> tuple[Table, ...]:
    """Return every tenant table of an installation, referenced ones first."""
    with installation.database.connect() as connection:
        columns = connection.execute(_COLUMNS, (installation.schema,)).fetchall()
        children = connection.execute(_CHILDREN, (installation.schema,)).fetchall()
    found: dict[str, list[Column]] = {}
    for table, *column in columns:
        found.setdefault(table, []).append(Column(*column))
    return tuple(
        Table(name, tuple(each), tuple(child for parent, child in children if parent == name))
        for name, each in found.items()
    )


@dataclass(frozen=True, slots=True)
class Marker:
    """What a neighbour's contents carry: 16 random hexadecimal digits, which fit text, hashes, UUIDs and bytes alike."""

    digits: str
    number: str
    needles: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Work out every form in which the marker could come out of a server."""
        raw = self.digits.encode()
        aligned = [
            base64.b64encode(b"x" * shift + raw)[4 if shift else 0 :].decode().rstrip("=") for shift in (0, 1, 2)
        ]
        uuid = f"{self.digits[:8]}-{self.digits[8:12]}-{self.digits[12:]}"
        forms = [self.digits, self.digits[::-1], uuid, raw.hex(), self.number, *(text[:-2] for text in aligned)]
        object.__setattr__(self, "needles", tuple(form.lower() for form in forms))

    @classmethod
    def drawn(cls, rng: random.Random) -> Marker:
        """Draw a marker; its number is exact in float32 and small enough for a halfvec."""
        return cls(f"{rng.getrandbits(64):016x}", f"{rng.randrange(20_000, 60_000)}.25")

    def found_in(self, text: str) -> str | None:
        """Return the form of the marker that occurs in a text, if one does."""
        lowered = text.lower()
        return next((needle for needle in self.needles if needle in lowered), None)


def _special(marker: Marker) -> Mapping[str, tuple[Any, Any]]:
    """What CHECKs and look-ups want of single columns: the value of a guessable row, and that of a secret one."""
    digits, raw = marker.digits, marker.digits.encode()
    return {
        "agent_states.checksum": (digits * 4, digits * 4),
        "agent_state_history.checksum": (raw * 2, raw * 2),
        "agent_state_checkpoints.checksum": (raw * 2, raw * 2),
        "workflow_states.status": ("running", "running"),
        "sessions.status": ("active", "active"),
        "erasures.kind": ("entity", "entity"),
        "erasures.subject_hash": (raw * 2, raw * 2),
        "content_hash": (_KNOWN_HASH, digits * 4),
        "artifacts.name": ("known", f"name {digits}"),
        "artifact_content.storage_type": ("inline", "inline"),
        "artifact_content.chunk_size": (None, None),
        "artifact_chunks.chunk_hash": (raw * 2, raw * 2),
        "api_keys.key_hash": (hashlib.sha256(b"known").digest(), None),
        "api_keys.sealed_value": (None, raw),
        "api_keys.sealing_key_id": (None, digits),
        # What the definer functions look up is guessable too, though it is no key.
        "event_log.stream": ("known", f"stream {digits}"),
        "hook_history.correlation_id": ("known", f"correlation {digits}"),
        "relationships.from_entity": (f"{1:032x}", digits * 2),
        "event_log.language": (digits, digits),
        "graph_transactions.sources": (f'["{digits}"]', f'["{digits}"]'),
        "erased_hash": (raw * 2, raw * 2),
        "embedding_hash": (raw * 2, raw * 2),
        "valid_time_end": ("infinity", "infinity"),
        "transaction_time_end": ("infinity", "infinity"),
    }


def value_for(table: Table, column: Column, marker: Marker, *, known: bool) -> Any:
    """Return a marked value; keys of a ``known`` row are what anybody could guess instead."""
    special = _special(marker)
    for name in (f"{table.name}.{column.name}", column.name):
        if name in special:
            return special[name][0 if known else 1]
    digits, guessable = marker.digits, known and column.key
    by_type: dict[str, Any] = {
        "uuid": f"{1:032x}" if guessable else digits + f"{random.getrandbits(64):016x}",
        "text": "known" if guessable else f"text {digits} {column.name}",
        "text[]": [digits],
        "uuid[]": [digits + "0" * 16],
        "jsonb": f'{{"canary": "{digits}"}}',
        "bytea": digits.encode(),
        "vector": f"[{','.join([marker.number, *['0'] * (column.dimensions - 1)])}]",
        "bigint": 1,
        "boolean": True,
        "double precision": 1.0,
        "integer": 1,
    }
    return by_type.get(column.type, "now")


def fill(installation: Installation, tables: Sequence[Table], tenant: str, marker: Marker) -> None:
    """Give a neighbour a guessable and a secret row in every table and partition, and each hash leaf some row."""
    with installation.connect(installation.names.maintenance) as connection:
        spread = tenants_by_leaf(connection)
        for table in tables:
            hashed = len(table.children) == LEAVES
            for known in (True, False):
                for moment in _moments(connection, installation, table):
                    _insert(connection, installation, table, tenant, marker, known=known, moment=moment)
            for other in spread if hashed else ():
                _insert(connection, installation, table, other, marker, known=False, moment=None)
    with installation.database.connect() as connection:
        connection.execute("ANALYZE")


def tenants_by_leaf(connection: psycopg.Connection[Any]) -> tuple[str, ...]:
    """Return one tenant id for each hash leaf."""
    rows = connection.execute(
        'SELECT DISTINCT ON (leaf) name FROM (SELECT name, hashtextextended(name COLLATE "C", 8816678312871386365)'
        " & 31 AS leaf FROM (SELECT 'filler-' || n AS name FROM generate_series(1, 600) AS n) AS names) AS spread"
    ).fetchall()
    return tuple(name for (name,) in rows)


def _moments(connection: psycopg.Connection[Any], installation: Installation, table: Table) -> list[Any]:
    if table.name != "event_log":
        return [None]
    query = sql.SQL("SELECT from_time + interval '1 day' FROM {}.event_partitions()")
    return [row[0] for row in connection.execute(query.format(sql.Identifier(installation.schema))).fetchall()]


def _insert(
    connection: psycopg.Connection[Any],
    installation: Installation,
    table: Table,
    tenant: str,
    marker: Marker,
    *,
    known: bool,
    moment: Any,
) -> None:
    values: dict[str, Any] = {"tenant_id": tenant}
    for column in table.columns:
        left_alone = column.has_default and column.type not in {"text", "text[]", "jsonb", "bytea", "uuid"}
        if column.name != "tenant_id" and not column.generated and not left_alone:
            values[column.name] = value_for(table, column, marker, known=known)
    if moment is not None:
        values["timestamp"] = moment
    statement = sql.SQL("INSERT INTO {}.{} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
        sql.Identifier(installation.schema),
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    try:
        connection.execute(statement, tuple(values.values()))
    except psycopg.errors.IntegrityError as error:
        raise AssertionError(f"teach canaries.py how to fill {table.name}: {error}") from error


class Watch:
    """Sees, as maintenance, whether any row that is not the attacker's has changed, and any right in the catalog."""

    def __init__(
        self, installation: Installation, tables: Sequence[Table], attacker: str, logins: Sequence[str]
    ) -> None:
        """Remember how things are; ``logins`` are the attacker's own roles, whose settings it may change."""
        self._connection = installation.connect(installation.names.maintenance)
        self._tables, self._schema, self._attacker = tables, installation.schema, attacker
        self._names, self._logins = installation.names, list(logins)
        self._quick_sql = self._union(
            "count(*), sum(hashtextextended(t.tableoid || ':' || t.ctid || ':' || t.xmin, 0))"
        )
        self._thorough_sql = self._union("count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text))")
        self.remember()

    def remember(self) -> None:
        """Take the present state for the one that must not change."""
        self.quick_state = self.quick()
        self.thorough_state = self.thorough()
        self.rights_state = self.rights()

    def _union(self, measured: str) -> sql.Composed:
        parts = [
            sql.SQL("SELECT {} AS name, " + measured + " FROM {}.{} AS t WHERE t.tenant_id <> {}").format(
                sql.Literal(table.name),
                sql.Identifier(self._schema),
                sql.Identifier(table.name),
                sql.Literal(self._attacker),
            )
            for table in self._tables
        ]
        return sql.SQL(" UNION ALL ").join(parts)

    def quick(self) -> dict[str, tuple[Any, ...]]:
        """Return count and a fingerprint of every row's place and writer: any write changes it."""
        rows = self._connection.execute(self._quick_sql, prepare=True).fetchall()
        return {row[0]: row[1:] for row in rows}

    def thorough(self) -> dict[str, tuple[Any, ...]]:
        """Return count and checksum of the contents."""
        return {row[0]: row[1:] for row in self._connection.execute(self._thorough_sql).fetchall()}

    def rights(self) -> list[tuple[Any, ...]]:
        """Return who may do what: grants, policies, memberships, triggers, functions and roles of the installation."""
        prefix = self._names.owner + "%"
        return self._connection.execute(
            _RIGHTS, {"schema": self._schema, "roles": prefix, "own": self._logins}
        ).fetchall()

    def changes(self) -> list[str]:
        """Name the tables whose foreign rows are no longer what they were."""
        now = self.quick()
        return [name for name, state in now.items() if state != self.quick_state[name]]

    def close(self) -> None:
        """End the watching session."""
        self._connection.close()


_RIGHTS = re.sub(
    r"\s+",
    " ",
    """
    SELECT 'class', c.relname::text, c.relacl::text, c.relrowsecurity::text || c.relforcerowsecurity, c.relowner::regrole::text
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %(schema)s
    UNION ALL SELECT 'schema', n.nspname, n.nspacl::text, '', n.nspowner::regrole::text
      FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%%temp%%'
    UNION ALL SELECT 'database', d.datname, d.datacl::text, '', '' FROM pg_database d WHERE d.datname = current_database()
    UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proacl::text, md5(p.prosrc), p.proowner::regrole::text
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %(schema)s OR p.oid >= 16384
    UNION ALL SELECT 'policy', p.polrelid::regclass::text || '.' || p.polname, p.polroles::text,
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid) FROM pg_policy p
    UNION ALL SELECT 'trigger', t.tgrelid::regclass::text || '.' || t.tgname, t.tgenabled::text, '', ''
      FROM pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL SELECT 'member', m.roleid::regrole::text, m.member::regrole::text,
           m.admin_option::text || m.inherit_option || m.set_option, '' FROM pg_auth_members m
      WHERE m.roleid::regrole::text LIKE %(roles)s OR m.member::regrole::text LIKE %(roles)s
    UNION ALL SELECT 'role', r.rolname, r.rolsuper::text || r.rolcreaterole || r.rolcreatedb || r.rolbypassrls || r.rolreplication
           || r.rolcanlogin, r.rolconnlimit::text, CASE WHEN r.rolname = ANY (%(own)s) THEN '' ELSE r.rolconfig::text END
      FROM pg_roles r WHERE r.rolname LIKE %(roles)s
    UNION ALL SELECT 'extension', e.extname, '', '', '' FROM pg_extension e
    ORDER BY 1, 2, 3, 4, 5""",
).strip()
