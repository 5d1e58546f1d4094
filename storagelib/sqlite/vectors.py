"""Vectors in SQLite: embeddings as BLOBs in the rows, every search an exact scan, in numpy or by sqlite-vec first.

Each dimension is a table of its own, made in the transaction that first writes to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Final

import numpy as np

from storage_sql.vector_indexes import exact_scan_threshold
from storagelib import documents, filters
from storagelib.clocks import from_microseconds, to_microseconds
from storagelib.components import terms
from storagelib.components.distances import Floats, distances, nearest, reach
from storagelib.components.vectors import (
    Candidate,
    Hybrid,
    Match,
    NewVectors,
    ScopeCount,
    Search,
    Vector,
    VectorStats,
    Where,
    match_of,
    vector_of,
)
from storagelib.errors import Corrupted, InvalidInput
from storagelib.limits import INTEGER_MAX
from storagelib.sqlite import vector_scan
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes

__all__ = ["DIMENSIONS_MAX", "SqliteVectors", "make_table"]

_TABLE: Final = re.compile(r"vector_embeddings_([0-9]+)")
DIMENSIONS_MAX: Final = 200
"""Dimensions that one file has tables of."""
# What a scan holds at once: little of a large table, and not more than fits beside a processor.
_CHUNK_BYTES: Final = 4 << 20
_COLUMNS: Final = "id, scope, embedding, content, metadata, document_id, position, created_at, updated_at"

_CREATE: Final = (
    """CREATE TABLE IF NOT EXISTS {table} (
    tenant_id TEXT NOT NULL CHECK (length(tenant_id) BETWEEN 3 AND 255),
    id TEXT NOT NULL CHECK (length(id) BETWEEN 1 AND 255),
    scope TEXT NOT NULL DEFAULT '' CHECK (length(scope) <= 255),
    embedding BLOB NOT NULL CHECK (length(embedding) = 4 * {dimension}),
    content TEXT,
    metadata TEXT NOT NULL DEFAULT '{{}}' CHECK (json_valid(metadata)),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    document_id TEXT CHECK (length(document_id) BETWEEN 1 AND 255),
    position INTEGER CHECK (position >= 0),
    terms TEXT,
    PRIMARY KEY (tenant_id, id)
) STRICT""",
    "CREATE INDEX IF NOT EXISTS {table}_scope ON {table} (tenant_id, scope, created_at, id)",
    """CREATE INDEX IF NOT EXISTS {table}_document ON {table} (tenant_id, document_id, position)
 WHERE document_id IS NOT NULL""",
)
_INSERT: Final = """
INSERT INTO {table} (tenant_id, id, scope, embedding, content, metadata, document_id, position, terms, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10)"""
_UPSERT: Final = (
    _INSERT
    + """
ON CONFLICT (tenant_id, id) DO UPDATE SET
    scope = excluded.scope, embedding = excluded.embedding, content = excluded.content, metadata = excluded.metadata,
    document_id = excluded.document_id, position = excluded.position, terms = excluded.terms,
    updated_at = excluded.updated_at"""
)
_IDS: Final = "id IN (SELECT value FROM json_each(:ids))"
_COUNT_IDS: Final = f"SELECT count(*) FROM {{table}} WHERE tenant_id = :tenant AND {_IDS}"
_FETCH: Final = f"SELECT {_COLUMNS} FROM {{table}} WHERE tenant_id = :tenant AND {_IDS}"
_DELETE: Final = f"DELETE FROM {{table}} WHERE tenant_id = :tenant AND {_IDS}"
_DELETE_DOCUMENT: Final = "DELETE FROM {table} WHERE tenant_id = :tenant AND document_id = :document"
_PLACE: Final = f"coalesce(position, {INTEGER_MAX})"
_DOCUMENT: Final = f"""
SELECT {_COLUMNS} FROM {{table}} WHERE tenant_id = :tenant AND document_id = :document
   AND (:place IS NULL OR ({_PLACE}, id) > (:place, :id)) ORDER BY {_PLACE}, id LIMIT :limit"""
# No UTF-8 holds the byte 0xFF, so that it ends the range of a prefix.
_PREFIX: Final = "scope >= :prefix AND scope < :prefix || CAST(x'FF' AS TEXT)"
_SCOPES: Final = f"""
SELECT scope, count(*) FROM {{table}} WHERE tenant_id = :tenant AND {_PREFIX} AND (:after IS NULL OR scope > :after)
 GROUP BY scope ORDER BY scope LIMIT :limit"""
_STATS: Final = """
SELECT count(*), count(DISTINCT scope), count(DISTINCT document_id),
       coalesce(sum(length(embedding) + coalesce(length(CAST(content AS BLOB)), 0)), 0)
  FROM {table} WHERE tenant_id = :tenant"""
_SAMPLE: Final = """
SELECT embedding FROM {table} WHERE tenant_id = :tenant AND id IN (
    SELECT id FROM {table} WHERE tenant_id = :tenant AND embedding <> zeroblob(:size) ORDER BY random() LIMIT :limit)"""


class SqliteVectors(SqliteStore):
    """See ``VectorsBackend``."""

    @writes
    def insert(self, database: Connection, new: NewVectors) -> None:
        """Write vectors with new ids, all or none."""
        make_table(database, new.dimension)
        self._write(database, _INSERT, new)

    @writes
    def upsert(self, database: Connection, new: NewVectors) -> int:
        """Write vectors, all or none; count the new ids."""
        make_table(database, new.dimension)
        known = self._run(database, _COUNT_IDS, new.dimension, ids=documents.encode(new.ids)).fetchone()[0]
        self._write(database, _UPSERT, new)
        return len(new.ids) - int(known)

    @reads
    def fetch(self, database: Connection, dimension: int, ids: list[str]) -> list[Vector]:
        """Return the vectors that are there."""
        return self._fetch(database, dimension, ids)

    @writes
    def update(
        self, database: Connection, dimension: int, id_: str, values: Mapping[str, Any], *, merge: bool
    ) -> Vector | None:
        """Change some columns of one vector and return it, None when it is not there."""
        found = self._fetch(database, dimension, [id_])
        if not found:
            return None
        changed = {**values, "updated_at": self.engine.now()}
        if "embedding" in values:
            changed["embedding"] = values["embedding"].tobytes()
        if "content" in values:
            changed["terms"] = terms.stored(values["content"])
        if merge:
            changed["metadata"] = documents.encode({**found[0].metadata, **documents.decode(values["metadata"])})
        # The names are those of the columns that this store knows, never a caller's.
        assigned = ", ".join(f"{name} = :{name}" for name in changed)
        text = f"UPDATE {{table}} SET {assigned} WHERE tenant_id = :tenant AND id = :id"
        self._run(database, text, dimension, id=id_, **changed)
        return self._fetch(database, dimension, [id_])[0]

    @writes
    def delete(self, database: Connection, dimension: int, ids: list[str]) -> int:
        """Remove vectors; count those that were there."""
        if not _exists(database, dimension):
            return 0
        return int(self._run(database, _DELETE, dimension, ids=documents.encode(ids)).rowcount)

    @writes
    def delete_where(self, database: Connection, dimension: int, where: Where) -> int:
        """Remove the vectors that are meant; count them."""
        if not _exists(database, dimension):
            return 0
        clause, values = _meant(where)
        text = f"DELETE FROM {{table}} WHERE tenant_id = :tenant{clause}"
        return int(self._run(database, text, dimension, **values).rowcount)

    @writes
    def delete_document(self, database: Connection, dimension: int, document_id: str) -> int:
        """Remove the vectors of a document; count them."""
        if not _exists(database, dimension):
            return 0
        return int(self._run(database, _DELETE_DOCUMENT, dimension, document=document_id).rowcount)

    @reads_together
    def search(self, database: Connection, search: Search) -> list[list[Match]]:
        """Return for every query the nearest matches."""
        near = self._nearest(database, search)
        rows = self._rows(database, search, {id_ for found in near for _, id_ in found})
        return [[match_of(search.metric, (*rows[id_], distance)) for distance, id_ in found] for found in near]

    @reads_together
    def hybrid(self, database: Connection, hybrid: Hybrid) -> list[Candidate]:
        """Return the candidates of both sides."""
        search, (query,) = hybrid.search, hybrid.search.queries
        (near,) = self._nearest(database, search)
        far: dict[str, float] = {}
        hits: dict[str, list[str]] = {}
        for kept in self._matching(database, hybrid):
            matrix = _matrix([row[1] for row in kept], search.dimension)
            for (id_, _, words), distance in zip(kept, distances(matrix, query, search.metric).tolist(), strict=True):
                if distance == distance:  # noqa: PLR0124 - NaN: without a direction
                    far[id_], hits[id_] = distance, terms.matching(words, hybrid.terms)
        places = terms.ranked(hits)
        by_text = sorted((place, far[id_], id_) for id_, (place, _) in places.items())[: search.k]
        by_vector = {id_: (distance, place) for place, (distance, id_) in enumerate(near, start=1)}
        chosen: dict[str, tuple[float, int | None]] = {id_: (distance, None) for _, distance, id_ in by_text}
        chosen.update(by_vector)
        rows = self._rows(database, search, chosen)
        return [
            Candidate(match_of(search.metric, (*rows[id_], distance)), place, *places.get(id_, (None, 0.0)))
            for id_, (distance, place) in chosen.items()
        ]

    @reads
    def count(self, database: Connection, dimension: int, where: Where) -> int:
        """Count the vectors that are meant."""
        if not _exists(database, dimension):
            return 0
        clause, values = _meant(where)
        text = f"SELECT count(*) FROM {{table}} WHERE tenant_id = :tenant{clause}"
        return int(self._run(database, text, dimension, **values).fetchone()[0])

    @reads
    def page(
        self, database: Connection, dimension: int, where: Where, after: tuple[str, datetime, str] | None, limit: int
    ) -> list[Vector]:
        """Return up to ``limit`` vectors behind ``after``, by scope, creation and id."""
        if not _exists(database, dimension):
            return []
        clause, values = _meant(where)
        if after is not None:
            clause += " AND (scope, created_at, id) > (:after_scope, :after_time, :after_id)"
            values |= {"after_scope": after[0], "after_time": to_microseconds(after[1]), "after_id": after[2]}
        text = (
            f"SELECT {_COLUMNS} FROM {{table}} WHERE tenant_id = :tenant{clause}"
            " ORDER BY scope, created_at, id LIMIT :limit"
        )
        return [_vector(row) for row in self._run(database, text, dimension, limit=limit, **values)]

    @reads
    def document(
        self, database: Connection, dimension: int, document_id: str, after: tuple[int, str] | None, limit: int
    ) -> list[Vector]:
        """Return up to ``limit`` vectors of a document behind ``after``, by position and id."""
        if not _exists(database, dimension):
            return []
        place, id_ = (None, None) if after is None else after
        rows = self._run(database, _DOCUMENT, dimension, document=document_id, place=place, id=id_, limit=limit)
        return [_vector(row) for row in rows]

    @reads
    def scopes(
        self, database: Connection, dimension: int, prefix: str, after: str | None, limit: int
    ) -> list[ScopeCount]:
        """Return up to ``limit`` scopes that begin with ``prefix``, behind ``after``, in order."""
        if not _exists(database, dimension):
            return []
        rows = self._run(database, _SCOPES, dimension, prefix=prefix, after=after, limit=limit)
        return [ScopeCount(scope, count) for scope, count in rows]

    @reads_together
    def dimensions(self, database: Connection) -> list[int]:
        """Return the dimensions of which there are vectors."""
        held = "SELECT EXISTS (SELECT 1 FROM {table} WHERE tenant_id = :tenant)"
        return [dimension for dimension in _known(database) if self._run(database, held, dimension).fetchone()[0]]

    @reads
    def stats(self, database: Connection, dimension: int) -> VectorStats:
        """Say what is kept of one dimension."""
        counts = (0, 0, 0, 0)
        if _exists(database, dimension):
            counts = self._run(database, _STATS, dimension).fetchone()
        compared_by = "sqlite-vec" if self.engine.has_sqlite_vec(database) else "numpy"
        return VectorStats(dimension, *counts, exact_scan_threshold(dimension), (), compared_by)

    @reads
    def sample(self, database: Connection, dimension: int, count: int) -> Floats:
        """Return up to ``count`` embeddings drawn at random."""
        rows: Iterable[tuple[bytes]] = ()
        if _exists(database, dimension):
            rows = self._run(database, _SAMPLE, dimension, size=4 * dimension, limit=count).fetchall()
        matrix = _matrix([row for (row,) in rows], dimension)
        return matrix[matrix.any(axis=1)]

    def _write(self, database: Connection, text: str, new: NewVectors) -> None:
        now, size, raw = self.engine.now(), 4 * new.dimension, memoryview(new.embeddings.tobytes())
        columns: Iterable[Sequence[Any]] = zip(
            *(new.ids, new.scopes, new.contents, new.metadata, new.document_ids, new.positions, new.terms()),
            strict=True,
        )
        rows = (
            (self.tenant_id, id_, scope, raw[place * size : (place + 1) * size], *rest, now)
            for place, (id_, scope, *rest) in enumerate(columns)
        )
        database.executemany(text.format(table=_name(new.dimension)), rows)

    def _fetch(self, database: Connection, dimension: int, ids: list[str]) -> list[Vector]:
        if not _exists(database, dimension):
            return []
        return [_vector(row) for row in self._run(database, _FETCH, dimension, ids=documents.encode(ids))]

    def _nearest(self, database: Connection, search: Search) -> list[list[tuple[float, str]]]:
        """Find the nearest of each query among all that are meant, or among those that sqlite-vec leaves."""
        if not _exists(database, search.dimension):
            return [[] for _ in search.queries]
        clause, values = _meant(search.where)
        text = f"SELECT id, embedding FROM {{table}} WHERE tenant_id = :tenant{clause}"
        # For several queries one pass in numpy is faster than one for each in sqlite-vec.
        if search.metric in vector_scan.FUNCTIONS and len(search.queries) == 1 and self.engine.has_sqlite_vec(database):
            text = vector_scan.near(search.metric, clause)
            stretch, slack = reach(search.metric, search.dimension)
            query = search.queries.tobytes()
            values |= {"query": query, "size": len(query), "k": search.k, "stretch": stretch, "slack": slack}
        return _best(self._run(database, text, search.dimension, **values), search)

    def _matching(self, database: Connection, hybrid: Hybrid) -> Iterator[list[Any]]:
        search = hybrid.search
        if not hybrid.terms or not _exists(database, search.dimension):
            return
        clause, values = _meant(search.where)
        words = {f"word{place}": f" {term} " for place, term in enumerate(hybrid.terms)}
        any_word = " OR ".join(f"instr(terms, :{name})" for name in words)
        text = f"SELECT id, embedding, terms FROM {{table}} WHERE tenant_id = :tenant{clause} AND ({any_word})"
        yield from _chunks(self._run(database, text, search.dimension, **values, **words), search.dimension)

    def _rows(self, database: Connection, search: Search, ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
        wanted = documents.encode(list(ids))
        if wanted == "[]":
            return {}
        columns = _COLUMNS if search.embeddings else _COLUMNS.replace("embedding", "NULL")
        columns = columns if search.contents else columns.replace("content", "NULL")
        text = f"SELECT {columns} FROM {{table}} WHERE tenant_id = :tenant AND {_IDS}"
        return {row[0]: _times(row) for row in self._run(database, text, search.dimension, ids=wanted)}

    def _run(self, database: Connection, text: str, dimension: int, **values: Any) -> Any:
        return database.execute(text.replace("{table}", _name(dimension)), {"tenant": self.tenant_id, **values})


def _name(dimension: int) -> str:
    return f"vector_embeddings_{dimension}"


def make_table(database: Connection, dimension: int) -> None:
    """Make the table of a dimension, when it is not there; raises ``InvalidInput`` where there are too many.

    Every connection reads the whole schema, and ``dimensions`` looks at every table.
    """
    if not _exists(database, dimension):
        if len(_known(database)) >= DIMENSIONS_MAX:
            fault = f"embedding: the file has tables of {DIMENSIONS_MAX} dimensions, and there is none of {dimension}"
            raise InvalidInput("the argument cannot be used", [fault])
        for statement in _CREATE:
            database.execute(statement.format(table=_name(dimension), dimension=dimension))


def _known(database: Connection) -> list[int]:
    """Return the dimensions that have a table, ascending."""
    names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return sorted(int(name[1]) for (text,) in names if (name := _TABLE.fullmatch(text)))


def _exists(database: Connection, dimension: int) -> bool:
    found = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (_name(dimension),))
    return found.fetchone() is not None


def _meant(where: Where) -> tuple[str, dict[str, Any]]:
    clause, values = "", dict[str, Any]()
    if where.scopes is not None:
        clause += " AND scope IN (SELECT value FROM json_each(:scopes))"
        values["scopes"] = documents.encode(list(where.scopes))
    if where.scope_prefix is not None:
        clause += f" AND {_PREFIX}"
        values["prefix"] = where.scope_prefix
    if where.filter is not None:
        condition, given = filters.to_sqlite(where.filter)
        clause += f" AND ({condition})"
        values |= given
    return clause, values


def _best(cursor: Any, search: Search) -> list[list[tuple[float, str]]]:
    """Go through ids and embeddings, a bounded piece at a time, and keep the nearest of each query."""
    best: list[list[tuple[float, str]]] = [[] for _ in search.queries]
    for rows in _chunks(cursor, search.dimension):
        ids = [id_ for id_, _ in rows]
        matrix = _matrix([row for _, row in rows], search.dimension)
        for place, query in enumerate(search.queries):
            found = nearest(matrix, ids, query, search.metric, search.k)
            best[place] = sorted([*best[place], *((distance, id_) for distance, id_, _ in found)])[: search.k]
    return best


def _chunks(cursor: Any, dimension: int) -> Iterator[list[Any]]:
    size = max(256, _CHUNK_BYTES // (4 * dimension))
    while rows := cursor.fetchmany(size):
        yield rows


def _matrix(blobs: Sequence[bytes], dimension: int) -> Floats:
    # Joined, one that is too short would lend the values of the next one.
    if not set(map(len, blobs)) <= {4 * dimension}:
        raise Corrupted(f"a stored vector has not the {dimension} dimensions of its table: the storage is damaged")
    return np.frombuffer(b"".join(blobs), "<f4").reshape(-1, dimension)


def _times(row: Sequence[Any]) -> tuple[Any, ...]:
    *same, created_at, updated_at = row
    return (*same, from_microseconds(created_at), from_microseconds(updated_at))


def _vector(row: Sequence[Any]) -> Vector:
    return vector_of(_times(row))
