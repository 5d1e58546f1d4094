"""Vectors in memory."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import is_
from typing import Any, Final

import numpy as np

from storage_sql.vector_indexes import exact_scan_threshold
from storagelib import documents, filters
from storagelib.components import terms
from storagelib.components.distances import Floats, distances, nearest
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
from storagelib.documents import Document
from storagelib.errors import AlreadyExists
from storagelib.limits import INTEGER_MAX
from storagelib.memory.engine import MemorySpace, Row, Table

__all__ = ["MemoryVectors"]

_TABLE: Final = re.compile(r"vector_embeddings_([0-9]+)")


@dataclass(slots=True)
class _Rows:
    """A table's rows as one matrix, kept from search to search while they are the same rows."""

    rows: list[Row]
    ids: list[str]
    matrix: Floats
    metadata: list[Document] | None = None
    """The rows' metadata, read when the first filter asks for it."""


class MemoryVectors:
    """See ``VectorsBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._kept: dict[int, _Rows] = {}

    def insert(self, new: NewVectors) -> None:
        """Write vectors with new ids, all or none."""
        with self._space.transaction():
            table = self._table(new.dimension)
            if any((id_,) in table.rows for id_ in new.ids):
                raise AlreadyExists("the id is taken")
            self._put(table, new)

    def upsert(self, new: NewVectors) -> int:
        """Write vectors, all or none; count the new ids."""
        with self._space.transaction():
            table = self._table(new.dimension)
            fresh = sum((id_,) not in table.rows for id_ in new.ids)
            self._put(table, new)
            return fresh

    def fetch(self, dimension: int, ids: list[str]) -> list[Vector]:
        """Return the vectors that are there."""
        with self._space.transaction():
            table = self._table(dimension)
            return [_vector(row) for row in map(table.get, ids) if row is not None]

    def update(self, dimension: int, id_: str, values: Mapping[str, Any], *, merge: bool) -> Vector | None:
        """Change some columns of one vector and return it, None when it is not there."""
        with self._space.transaction():
            table = self._table(dimension)
            row = table.get(id_)
            if row is None:
                return None
            changed = {**row, **values, "updated_at": self._space.now()}
            if "embedding" in values:
                changed["embedding"] = values["embedding"].tobytes()
            if "content" in values:
                changed["terms"] = terms.stored(values["content"])
            if merge:
                laid = {**documents.decode(row["metadata"]), **documents.decode(values["metadata"])}
                changed["metadata"] = documents.encode(laid)
            table.put((id_,), changed)
            return _vector(changed)

    def delete(self, dimension: int, ids: list[str]) -> int:
        """Remove vectors; count those that were there."""
        with self._space.transaction():
            table = self._table(dimension)
            return sum(table.delete(id_) for id_ in ids)

    def delete_where(self, dimension: int, where: Where) -> int:
        """Remove the vectors that are meant; count them."""
        with self._space.transaction():
            return self.delete(dimension, [row["id"] for row in self._meant(dimension, where)])

    def delete_document(self, dimension: int, document_id: str) -> int:
        """Remove the vectors of a document; count them."""
        with self._space.transaction():
            rows = self._table(dimension).rows.values()
            return self.delete(dimension, [row["id"] for row in rows if row["document_id"] == document_id])

    def search(self, search: Search) -> list[list[Match]]:
        """Return for every query the nearest matches."""
        with self._space.transaction():
            meant = self._matrix(search.dimension, search.where)
            return [
                [
                    _match(search, meant.rows[row], distance)
                    for distance, _, row in nearest(meant.matrix, meant.ids, query, search.metric, search.k)
                ]
                for query in search.queries
            ]

    def hybrid(self, hybrid: Hybrid) -> list[Candidate]:
        """Return the candidates of both sides."""
        search, (query,) = hybrid.search, hybrid.search.queries
        with self._space.transaction():
            meant = self._matrix(search.dimension, search.where)
            near = nearest(meant.matrix, meant.ids, query, search.metric, search.k)
            hits = {row: terms.matching(meant.rows[row]["terms"], hybrid.terms) for row in range(len(meant.rows))}
            matching = [row for row, found in hits.items() if found]
            far = dict(zip(matching, distances(meant.matrix[matching], query, search.metric).tolist(), strict=True))
            places = terms.ranked({meant.ids[row]: hits[row] for row in matching if far[row] == far[row]})
            by_text = sorted(
                (places[meant.ids[row]][0], far[row], meant.ids[row], row)
                for row in matching
                if meant.ids[row] in places
            )
            chosen = {row: (distance, place) for place, (distance, _, row) in enumerate(near, start=1)}
            for _, distance, _, row in by_text[: search.k]:
                chosen.setdefault(row, (distance, None))  # type: ignore[arg-type]
            return [
                Candidate(
                    _match(search, meant.rows[row], distance),
                    place,
                    *places.get(meant.ids[row], (None, 0.0)),
                )
                for row, (distance, place) in chosen.items()
            ]

    def count(self, dimension: int, where: Where) -> int:
        """Count the vectors that are meant."""
        with self._space.transaction():
            return len(self._meant(dimension, where))

    def page(self, dimension: int, where: Where, after: tuple[str, datetime, str] | None, limit: int) -> list[Vector]:
        """Return up to ``limit`` vectors behind ``after``, by scope, creation and id."""
        with self._space.transaction():
            rows = [(row["scope"], row["created_at"], row["id"]) for row in self._meant(dimension, where)]
            keys = sorted(key for key in rows if after is None or key > after)[:limit]
            return self.fetch(dimension, [id_ for _, _, id_ in keys])

    def document(self, dimension: int, document_id: str, after: tuple[int, str] | None, limit: int) -> list[Vector]:
        """Return up to ``limit`` vectors of a document behind ``after``, by position and id."""
        with self._space.transaction():
            keys = sorted(
                (INTEGER_MAX if row["position"] is None else row["position"], row["id"])
                for row in self._table(dimension).rows.values()
                if row["document_id"] == document_id
            )
            wanted = [id_ for position, id_ in keys if after is None or (position, id_) > after]
            return self.fetch(dimension, wanted[:limit])

    def scopes(self, dimension: int, prefix: str, after: str | None, limit: int) -> list[ScopeCount]:
        """Return up to ``limit`` scopes that begin with ``prefix``, behind ``after``, in order."""
        with self._space.transaction():
            counts: dict[str, int] = {}
            for row in self._table(dimension).rows.values():
                scope = row["scope"]
                if scope.startswith(prefix) and (after is None or scope > after):
                    counts[scope] = counts.get(scope, 0) + 1
            return [ScopeCount(scope, counts[scope]) for scope in sorted(counts)[:limit]]

    def dimensions(self) -> list[int]:
        """Return the dimensions of which there are vectors."""
        with self._space.transaction():
            tables = ((_TABLE.fullmatch(name), table) for name, table in self._space.tables.items())
            return sorted(int(name[1]) for name, table in tables if name is not None and table.rows)

    def stats(self, dimension: int) -> VectorStats:
        """Say what is kept of one dimension."""
        with self._space.transaction():
            rows = list(self._table(dimension).rows.values())
            return VectorStats(
                dimension,
                len(rows),
                len({row["scope"] for row in rows}),
                len({row["document_id"] for row in rows} - {None}),
                sum(len(row["embedding"]) + len((row["content"] or "").encode()) for row in rows),
                exact_scan_threshold(dimension),
                (),
                "numpy",
            )

    def sample(self, dimension: int, count: int) -> Floats:
        """Return up to ``count`` embeddings drawn at random."""
        with self._space.transaction():
            rows = [
                row["embedding"]
                for row in self._table(dimension).rows.values()
                if np.frombuffer(row["embedding"], "<f4").any()
            ]
        drawn = random.sample(rows, min(count, len(rows)))
        return np.frombuffer(b"".join(drawn), "<f4").reshape(-1, dimension)

    def _table(self, dimension: int) -> Table:
        return self._space.table(f"vector_embeddings_{dimension}")

    def _put(self, table: Table, new: NewVectors) -> None:
        now, raw, size = self._space.now(), new.embeddings.tobytes(), 4 * new.dimension
        columns: Iterable[Sequence[Any]] = zip(
            *(new.ids, new.scopes, new.contents, new.metadata, new.document_ids, new.positions, new.terms()),
            strict=True,
        )
        for place, (id_, scope, content, metadata, document_id, position, words) in enumerate(columns):
            before = table.get(id_)
            table.put(
                (id_,),
                {
                    "id": id_,
                    "scope": scope,
                    "embedding": raw[place * size : (place + 1) * size],
                    "content": content,
                    "metadata": metadata,
                    "document_id": document_id,
                    "position": position,
                    "terms": words,
                    "created_at": now if before is None else before["created_at"],
                    "updated_at": now,
                },
            )

    def _meant(self, dimension: int, where: Where) -> list[Row]:
        return [row for row in self._table(dimension).rows.values() if _matches(row, None, where)]

    def _matrix(self, dimension: int, where: Where) -> _Rows:
        rows = list(self._table(dimension).rows.values())
        kept = self._kept.get(dimension)
        if kept is None or len(kept.rows) != len(rows) or not all(map(is_, kept.rows, rows)):
            raw = b"".join(row["embedding"] for row in rows)
            matrix = np.frombuffer(raw, "<f4").reshape(-1, dimension)
            kept = self._kept[dimension] = _Rows(rows, [row["id"] for row in rows], matrix)
        if where == Where():
            return kept
        if where.filter is not None and kept.metadata is None:
            kept.metadata = [documents.decode(row["metadata"]) for row in rows]
        metadata: Iterable[Document | None] = kept.metadata or [None] * len(rows)
        chosen = [place for place, row in enumerate(zip(rows, metadata, strict=True)) if _matches(*row, where)]
        return _Rows([rows[place] for place in chosen], [kept.ids[place] for place in chosen], kept.matrix[chosen])


def _matches(row: Row, metadata: Document | None, where: Where) -> bool:
    scope = row["scope"]
    if where.scopes is not None and scope not in where.scopes:
        return False
    if where.scope_prefix is not None and not scope.startswith(where.scope_prefix):
        return False
    if where.filter is None:
        return True
    return filters.matches(where.filter, documents.decode(row["metadata"]) if metadata is None else metadata)


def _columns(row: Row) -> tuple[Any, ...]:
    return (
        *(row["id"], row["scope"], row["embedding"], row["content"], row["metadata"]),
        *(row["document_id"], row["position"], row["created_at"], row["updated_at"]),
    )


def _vector(row: Row) -> Vector:
    return vector_of(_columns(row))


def _match(search: Search, row: Row, distance: float) -> Match:
    id_, scope, embedding, content, *rest = _columns(row)
    shown = embedding if search.embeddings else None, content if search.contents else None
    return match_of(search.metric, (id_, scope, *shown, *rest, distance))
