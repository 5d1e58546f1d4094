"""A tenant's rows as records, from whichever backend: in which order, and as lines with a head and an end; pure.

Every backend gives the same records in the same order: by store, what is depended on before what depends, then by primary
key. A file of them is three kinds of lines:

| line | what it holds |
| --- | --- |
| head | ``format``, ``version``, ``source``, ``release``, ``schema_version``, ``tenants`` and, as in a record, ``sha256`` |
| record | one row, as ``storagelib.codec`` writes it |
| end | ``records``, how many there are, and ``sha256`` of all bytes before this line |

>>> in_order(["procedure_versions", "vector_embeddings_768", "procedures", "vector_embeddings_3"])
['vector_embeddings_3', 'vector_embeddings_768', 'procedures', 'procedure_versions']
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from storage_sql.stores import STORES
from storage_sql.tables import TenantTable, table
from storagelib.codec import LINE_BYTES_MAX, Record, Value, decode, encode
from storagelib.components import terms
from storagelib.components.snapshots import ByteSource
from storagelib.errors import Corrupted, InvalidInput
from storagelib.limits import check_tenant_id

__all__ = [
    "COUNTED",
    "PARENTS",
    "Head",
    "Parent",
    "check_record",
    "derived",
    "in_order",
    "lines",
    "records",
    "table_of",
]

FORMAT: Final = "llmspell-records"
VERSION: Final = 1
_HEAD_MEMBERS: Final = ["format", "version", "source", "release", "schema_version", "tenants", "sha256"]
_END_MEMBERS: Final = ["records", "sha256"]
_NAME_MAX: Final = 100
_STORES: Final = {store.name: place for place, store in enumerate(STORES)}


@dataclass(frozen=True, slots=True)
class Parent:
    """What a row depends on: the row of a table whose key, without the tenant, is what these columns hold."""

    table: str
    columns: tuple[str, ...]


PARENTS: Final[Mapping[str, Parent]] = {
    "artifact_chunks": Parent("artifact_content", ("content_hash",)),
    "artifact_tags": Parent("artifacts", ("artifact_id",)),
    "artifacts": Parent("artifact_content", ("content_hash",)),
    "entities": Parent("graph_embeddings", ("entity_id", "embedding_hash")),
    "procedure_versions": Parent("procedures", ("name",)),
    "session_ancestry": Parent("sessions", ("session_id",)),
    "workflow_steps": Parent("workflow_states", ("workflow_id",)),
}
"""By the table that depends; a row with NULL in one of the columns depends on nothing."""

COUNTED: Final[Mapping[str, tuple[str, ...]]] = {"artifact_content": ("reference_count",)}
"""Columns that a database counts up by itself while rows are inserted elsewhere, so that they are set once more."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a file of records says of itself."""

    source: str
    """The backend that it was written from."""
    release: str
    """The release of this library that wrote it."""
    schema_version: int
    """The newest migration that release knew."""
    tenants: tuple[str, ...]
    """Every tenant that was written, those without rows too."""


def table_of(name: str) -> TenantTable:
    """Return the columns of a table; raises ``InvalidInput`` for one that this release does not know."""
    found = table(name)
    if found is None:
        raise InvalidInput("the records cannot be used", ["table: is not one of this release"])
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Return names of tables in the order in which their rows are read and written."""
    return sorted(names, key=_place)


def check_record(record: Record, tenant_id: str) -> TenantTable:
    """Return the table of a record that is to be written for a tenant.

    Raises ``InvalidInput`` for another tenant's record, and for one that has not all columns of its table.
    """
    found = table_of(record.table)
    if record.columns.get("tenant_id") != tenant_id:
        raise InvalidInput("the records cannot be used", [f"{found.name}.tenant_id: is another tenant's"])
    if record.columns.keys() != {column.name for column in found.columns}:
        raise InvalidInput("the records cannot be used", [f"{found.name}: has other columns"])
    return found


def derived(found: TenantTable, columns: Mapping[str, Value]) -> Mapping[str, str | None]:
    """Return what the library keeps beside a row's columns, which follows from them: the terms of a vector's content."""
    content = columns.get("content")
    if found.dimension is None:
        return {}
    return {"terms": terms.stored(content if isinstance(content, str) else None)}


def lines(head: Head, rows: Iterable[Record]) -> Iterator[bytes]:
    """Write a file, line by line; the last one tells how many records there are."""
    members = {"format": FORMAT, "version": VERSION, "source": head.source, "release": head.release}
    first = _summed({**members, "schema_version": head.schema_version, "tenants": list(head.tenants)})
    total = hashlib.sha256(first)
    yield first
    count = 0
    for record in rows:
        line = encode(record) + b"\n"
        total.update(line)
        count += 1
        yield line
    yield _json({"records": count, "sha256": total.hexdigest()})


def records(
    source: ByteSource, schema_version: int, most_bytes: int, check: Callable[[Head], object]
) -> Iterator[tuple[Head, Record | None]]:
    """Read a file: first its head with None, after ``check`` let it pass, then the head with each record.

    Nothing is to be done with the records before the last one came. Raises ``Corrupted`` for a file that is not whole, and
    ``InvalidInput`` for one of another kind, of a newer release, or of more than ``most_bytes`` bytes.
    """
    bounded = _Bounded(source, most_bytes)
    first = bounded.line()
    head = _head(first, schema_version)
    check(head)
    yield head, None
    known, count, total = frozenset(head.tenants), 0, hashlib.sha256(first)
    while True:
        line = bounded.line()
        if line.startswith(b'{"records":'):
            break
        record = decode(line)
        if record.columns["tenant_id"] not in known:
            raise Corrupted("the file has a record of a tenant that its head does not name")
        total.update(line)
        count += 1
        yield head, record
    end = _members(line, _END_MEMBERS)
    if end["records"] != count or end["sha256"] != total.hexdigest() or line != _json(end):
        raise Corrupted("the file is not whole: its records are not those that its last line counts")
    if source.readline(1):
        raise Corrupted("the file goes on behind its end")


class _Bounded:
    """Reads whole lines, up to so many bytes of them."""

    def __init__(self, source: ByteSource, most_bytes: int) -> None:
        self._source = source
        self._left = most_bytes

    def line(self) -> bytes:
        most = min(LINE_BYTES_MAX + 1, self._left) + 1
        found = self._source.readline(most)
        if not isinstance(found, bytes):
            raise InvalidInput("the file cannot be read", ["source: must be opened for bytes, not for text"])
        self._left -= len(found)
        if self._left < 0:
            raise InvalidInput("the file cannot be read", ["most_bytes: the file has more bytes"])
        if not found.endswith(b"\n"):
            raise Corrupted("the file is not whole: it ends early, or a line is too long")
        return found


def _head(line: bytes, schema_version: int) -> Head:
    found = _members(line, None)
    if found.get("format") != FORMAT:
        raise InvalidInput("the file cannot be read", ["format: is not a file of records"])
    if type(found.get("version")) is not int or found["version"] != VERSION:
        raise InvalidInput("the file cannot be read", [f"version: must be {VERSION}, the one that this release reads"])
    if list(found) != _HEAD_MEMBERS:
        raise Corrupted("the head of the file has not exactly its members")
    head = _checked_head(found, schema_version)
    if line != _summed({name: value for name, value in found.items() if name != "sha256"}):
        raise Corrupted("the head of the file is not what was written: its checksum differs")
    return head


def _checked_head(found: Mapping[str, Any], schema_version: int) -> Head:
    source, release, schema, tenants = (found[name] for name in ("source", "release", "schema_version", "tenants"))
    if not all(isinstance(text, str) and 0 < len(text) <= _NAME_MAX for text in (source, release)):
        raise Corrupted("the head of the file does not say what wrote it")
    if type(schema) is not int or schema < 1 or not isinstance(tenants, list):
        raise Corrupted("the head of the file has values of other kinds")
    if schema > schema_version:
        raise InvalidInput(
            "the file cannot be read", [f"schema_version: {schema} is newer than {schema_version}, this release's"]
        )
    for tenant in tenants:
        check_tenant_id(tenant)
    if len(set(tenants)) != len(tenants):
        raise Corrupted("the head of the file names a tenant twice")
    return Head(source, release, schema, tuple(tenants))


def _members(line: bytes, wanted: list[str] | None) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Corrupted("the file is not one of records, or is damaged") from None
    if not isinstance(found, dict) or (wanted is not None and list(found) != wanted):
        raise Corrupted("the file is not one of records, or is damaged")
    return found


def _summed(members: Mapping[str, object]) -> bytes:
    body = _json(members).removesuffix(b"\n")
    return _json({**members, "sha256": hashlib.sha256(body).hexdigest()})


def _json(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _place(name: str) -> tuple[int, int, str, int]:
    found = table_of(name)
    depth, parent = 0, PARENTS.get(name)
    while parent is not None:
        depth, parent = depth + 1, PARENTS.get(parent.table)
    family = name if found.dimension is None else "vector_embeddings"
    return _STORES[found.stores[0]], depth, family, found.dimension or 0
