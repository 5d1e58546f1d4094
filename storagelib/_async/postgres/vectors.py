"""Vectors in PostgreSQL: an exact scan over the primary key, or the tenant's own index where one is ready."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import psycopg

from storage_sql.queries import Query, load
from storage_sql.renderer import ident
from storage_sql.vector_indexes import Metric, default_ef_search, exact_scan_threshold, names_of
from storagelib import filters
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._postgres.session import Call
from storagelib.components import terms
from storagelib.components.distances import Floats
from storagelib.components.vectors import (
    EF_SEARCH_MAX,
    Candidate,
    Hybrid,
    Match,
    NewVectors,
    ScopeCount,
    Search,
    Vector,
    VectorIndex,
    VectorStats,
    Where,
    half_precision,
    match_of,
    vector_of,
)
from storagelib.errors import InvalidInput, MigrationError, PermissionDenied

__all__ = ["AsyncPostgresVectors"]

Row = tuple[Any, ...]

_QUERIES: Final = load("vectors")
# What one statement of a bulk write carries, and how much more the first of them: a server whose memory is glibc's then keeps
# what it took for the others too, instead of giving it back after each, which costs it a tenth of its time.
_STATEMENT_BYTES: Final = 1 << 20
_FIRST_TIMES: Final = 2
_ROW_BYTES: Final = 64
# How long it may take until an index that was built or dropped is noticed; either way every answer is right.
_INDEXES_SECONDS: Final = 30.0
# Half precision is compared again in single precision, among so many times the rows that are wanted, and some.
_HALF_TIMES: Final = 2
_HALF_MORE: Final = 30


@dataclass(frozen=True, slots=True)
class _Indexes:
    """The metrics that an index serves, how many candidates the cluster has it keep, and when that was read."""

    metrics: frozenset[Metric]
    ef_search: int
    read_at: float


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the cluster's StorageComponent says of a dimension; None where it says nothing."""

    ef_search: int | None
    exact_scan_threshold: int | None


_LEARNED: Final[WeakKeyDictionary[Any, dict[str, dict[int, _Indexes]]]] = WeakKeyDictionary()
"""By store, tenant and dimension."""


class AsyncPostgresVectors:
    """See ``AsyncVectorsBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database
        self._prepares = database.prepares
        # Handles come and go with requests; what one learned serves the next.
        of_store = _LEARNED.setdefault(database._logins, {})  # noqa: SLF001 - it lives as long as the store
        self._indexes = of_store.setdefault(database.tenant_id, {})

    async def insert(self, new: NewVectors) -> None:
        """Write vectors with new ids, all or none."""
        await self._run(new.dimension, list(_batches("insert", new)))

    async def upsert(self, new: NewVectors) -> int:
        """Write vectors, all or none; count the new ids."""
        answers = await self._run(new.dimension, list(_batches("upsert", _in_order(new))))
        return sum(int(rows[0][0]) for rows in answers)

    async def fetch(self, dimension: int, ids: list[str]) -> list[Vector]:
        """Return the vectors that are there."""
        return [vector_of(row) for row in await self._fetch("fetch", dimension, ids=ids)]

    async def update(self, dimension: int, id_: str, values: Mapping[str, Any], *, merge: bool) -> Vector | None:
        """Change some columns of one vector and return it, None when it is not there."""
        columns = ("scope", "embedding", "content", "metadata", "document_id", "position")
        query = _table("update", dimension, merge=merge, **{name: name in values for name in columns})
        given = dict(values)
        if "content" in given:
            given["terms"] = terms.stored(given["content"])
        ((*_, rows),) = (await self._run(dimension, [(query, {"id": id_, **given})]),)
        return vector_of(rows[0]) if rows else None

    async def delete(self, dimension: int, ids: list[str]) -> int:
        """Remove vectors; count those that were there."""
        return int((await self._fetch("delete", dimension, ids=ids))[0][0])

    async def delete_where(self, dimension: int, where: Where) -> int:
        """Remove the vectors that are meant; count them."""
        return int((await self._one(dimension, _meant(_table("delete_where", dimension), where)))[0][0])

    async def delete_document(self, dimension: int, document_id: str) -> int:
        """Remove the vectors of a document; count them."""
        return int((await self._fetch("delete_document", dimension, document=document_id))[0][0])

    async def search(self, search: Search) -> list[list[Match]]:
        """Return for every query the nearest matches."""
        indexed = await self._indexed(search)
        found = await self._search(search, indexed=indexed)
        if indexed and any(len(matches) < search.k for matches in found):
            # An index gives up after some rows; what it could not find, the scan finds.
            found = await self._search(search, indexed=False)
        return found

    async def hybrid(self, hybrid: Hybrid) -> list[Candidate]:
        """Return the candidates of both sides."""
        indexed = await self._indexed(hybrid.search)
        found = await self._hybrid(hybrid, indexed=indexed)
        if indexed and sum(each.vector_rank is not None for each in found) < hybrid.search.k:
            found = await self._hybrid(hybrid, indexed=False)
        return found

    async def count(self, dimension: int, where: Where) -> int:
        """Count the vectors that are meant."""
        return int((await self._one(dimension, _meant(_table("count", dimension), where)))[0][0])

    async def page(
        self, dimension: int, where: Where, after: tuple[str, datetime, str] | None, limit: int
    ) -> list[Vector]:
        """Return up to ``limit`` vectors behind ``after``, by scope, creation and id."""
        query = _meant(_table("page", dimension, after=after is not None), where)
        scope, moment, id_ = (None, None, None) if after is None else after
        rows = await self._one(dimension, query, after_scope=scope, after_time=moment, after_id=id_, most=limit)
        return [vector_of(row) for row in rows]

    async def document(
        self, dimension: int, document_id: str, after: tuple[int, str] | None, limit: int
    ) -> list[Vector]:
        """Return up to ``limit`` vectors of a document behind ``after``, by position and id."""
        place, id_ = (None, None) if after is None else after
        rows = await self._fetch("document", dimension, document=document_id, place=place, id=id_, most=limit)
        return [vector_of(row) for row in rows]

    async def scopes(self, dimension: int, prefix: str, after: str | None, limit: int) -> list[ScopeCount]:
        """Return up to ``limit`` scopes that begin with ``prefix``, behind ``after``, in order."""
        rows = await self._fetch("scopes", dimension, prefix=prefix, after=after, most=limit)
        return [ScopeCount(scope, count) for scope, count in rows]

    async def dimensions(self) -> list[int]:
        """Return the dimensions of which there are vectors."""
        known = [int(dimension) for (dimension,) in await self._database.fetch(_QUERIES["tables"])]
        answers = await self._database.run([(_table("held", dimension), {}) for dimension in known])
        return [dimension for dimension, ((held,),) in zip(known, answers, strict=True) if held]

    async def stats(self, dimension: int) -> VectorStats:
        """Say what is kept of one dimension, and which indexes there are."""
        names = names_of(self._database.tenant_id, dimension)
        answers, indexes, settings = await self._asking(dimension, [(_table("stats", dimension), {})])
        (((vectors, scopes, documents, content_bytes),),) = answers
        return VectorStats(
            dimension,
            vectors,
            scopes,
            documents,
            vectors * 4 * dimension + content_bytes,
            exact_scan_threshold(dimension) if settings.exact_scan_threshold is None else settings.exact_scan_threshold,
            tuple(VectorIndex(name, method, names[name][0], ready) for name, method, ready, _ in indexes),
        )

    async def sample(self, dimension: int, count: int) -> Floats:
        """Return up to ``count`` embeddings drawn at random."""
        rows = await self._fetch("sample", dimension, most=count)
        matrix = np.frombuffer(b"".join(row for (row,) in rows), "<f4").reshape(-1, dimension)
        return matrix[matrix.any(axis=1)]

    async def _search(self, search: Search, *, indexed: bool) -> list[list[Match]]:
        flags = {**_flags(search, indexed=indexed), "contents": search.contents}
        values: dict[str, Any] = {"k": search.k, "depth": _depth(search)}
        if len(search.queries) == 1:
            query = _meant(_table("nearest", search.dimension, **flags), search.where)
            rows = await self._tuned(search, query, {**values, "query": search.queries[0]}, indexed=indexed)
            near = [match_of(search.metric, row) for row in rows if not math.isnan(row[-1])]
            return [sorted(near, key=lambda match: (match.distance, match.id)) if indexed else near]
        query = _meant(_table("search", search.dimension, **flags), search.where)
        rows = await self._tuned(search, query, {**values, "queries": search.queries}, indexed=indexed)
        found: list[list[Match]] = [[] for _ in search.queries]
        for place, *row in rows:
            found[place - 1].append(match_of(search.metric, row))
        return found

    async def _hybrid(self, hybrid: Hybrid, *, indexed: bool) -> list[Candidate]:
        search = hybrid.search
        query = _table("hybrid", search.dimension, **_flags(search, indexed=indexed))
        words = [_quoted(term) for term in hybrid.terms]
        values = {
            "query": search.queries[0],
            "k": search.k,
            "depth": _depth(search),
            "any_word": " | ".join(words),
            "words": words,
        }
        rows = await self._tuned(search, _meant(query, search.where), values, indexed=indexed)
        return [
            Candidate(match_of(search.metric, row), vector_rank, text_rank, 0.0 if score is None else score)
            for *row, vector_rank, text_rank, score in rows
        ]

    async def _tuned(self, search: Search, query: Query, values: Mapping[str, Any], *, indexed: bool) -> list[Row]:
        """Run a search, under an index's settings, and learn on the way which indexes there are when that is due."""
        # Where scopes narrow the search, their index may be the better one: the planner decides.
        ordered = search.where.scopes is None and search.where.scope_prefix is None
        # Where an index was left aside, rows may be so many that several workers had better share them.
        generic = query.prepared and self._prepares and not (indexed or search.exact or self._any(search))
        tune = _QUERIES["tune"].variant(indexed=indexed, ordered=ordered, generic=generic)
        calls: list[Call] = [(tune, {"ef_search": self._candidates(search)}), (query, values)]
        if not self._due(search.dimension):
            return (await self._run(search.dimension, calls))[-1]
        answers, indexes, settings = await self._asking(search.dimension, calls)
        self._learn(search.dimension, indexes, settings)
        return answers[-1]

    async def _indexed(self, search: Search) -> bool:
        """Tell whether an index is ready for this search; what is not known yet is asked."""
        if search.exact:
            return False
        if search.dimension not in self._indexes:
            _, indexes, settings = await self._asking(search.dimension, [])
            self._learn(search.dimension, indexes, settings)
        return search.metric in self._indexes[search.dimension].metrics

    def _candidates(self, search: Search) -> str:
        """Return how many candidates a search keeps: what the call says, else the cluster or the count, and enough for ``k``."""
        wanted = search.ef_search
        if wanted is None:
            known = self._indexes.get(search.dimension)
            wanted = max(default_ef_search(0) if known is None else known.ef_search, 2 * search.k)
        return str(min(wanted, EF_SEARCH_MAX))

    def _any(self, search: Search) -> bool:
        """Tell whether there is any index of this dimension, so that the tenant has many vectors."""
        known = self._indexes.get(search.dimension)
        return known is not None and bool(known.metrics)

    def _due(self, dimension: int) -> bool:
        known = self._indexes.get(dimension)
        return known is None or time.monotonic() - known.read_at > _INDEXES_SECONDS

    async def _asking(self, dimension: int, calls: Sequence[Call]) -> tuple[list[list[Row]], list[Row], _Settings]:
        """Run reading statements, and ask on the way which indexes there are and what the cluster says."""
        asked = [*calls, (_QUERIES["indexes"], {"names": sorted(names_of(self._database.tenant_id, dimension))})]
        try:
            *answers, indexes, rows = await self._run(
                dimension, [*asked, (_QUERIES["settings"], {"dimension": dimension})]
            )
        except (MigrationError, PermissionDenied):
            # A schema that the operator is about to bring up, and roles that it is about to grant the function to.
            *answers, indexes = await self._run(dimension, asked)
            rows = []
        return answers, indexes, _Settings(*rows[0]) if rows else _Settings(None, None)

    def _learn(self, dimension: int, indexes: Sequence[Row], settings: _Settings) -> None:
        names = names_of(self._database.tenant_id, dimension)
        ready = frozenset(names[name][0] for name, _, valid, _ in indexes if valid)
        vectors = max((entries for _, _, valid, entries in indexes if valid), default=0.0)
        ef_search = default_ef_search(vectors) if settings.ef_search is None else settings.ef_search
        self._indexes[dimension] = _Indexes(ready, ef_search, time.monotonic())

    async def _fetch(self, name: str, dimension: int, **values: Any) -> list[Row]:
        return await self._one(dimension, _table(name, dimension), **values)

    async def _one(self, dimension: int, query: Query, **values: Any) -> list[Row]:
        return (await self._run(dimension, [(query, values)]))[0]

    async def _run(self, dimension: int, calls: Sequence[Call]) -> list[list[Row]]:
        try:
            return await self._database.run(calls)
        except MigrationError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                raise InvalidInput(
                    "the argument cannot be used",
                    [
                        (
                            f"embedding: there is no table for {dimension} dimensions; apply a StorageComponent of kind"
                            f" Vectors whose dimensions have {dimension}"
                        )
                    ],
                ) from error
            raise


@cache
def _table(name: str, dimension: int, **flags: bool) -> Query:
    return _QUERIES[name].variant(table=ident(f"vector_embeddings_{dimension}"), **flags)


def _flags(search: Search, *, indexed: bool) -> dict[str, bool]:
    return {
        "cosine": search.metric == "cosine",
        "l2": search.metric == "l2",
        "half": half_precision(search.dimension),
        "indexed": indexed,
        "embeddings": search.embeddings,
    }


def _depth(search: Search) -> int:
    return _HALF_TIMES * search.k + _HALF_MORE


def _meant(query: Query, where: Where) -> Query:
    clause = ""
    parameters: dict[str, tuple[str, Any]] = {}
    if where.scopes is not None:
        clause += " AND item.scope = ANY (:scopes)"
        parameters["scopes"] = ("text[]", list(where.scopes))
    if where.scope_prefix is not None:
        clause += " AND item.scope ^@ :scope_prefix"
        parameters["scope_prefix"] = ("text", where.scope_prefix)
    if where.filter is not None:
        condition, given = filters.to_postgres(where.filter, "item.metadata")
        clause += f" AND ({condition})"
        parameters |= given
    return query.with_clause("where", clause, parameters) if clause else query


def _quoted(term: str) -> str:
    """Write a term as a lexeme in which nothing is an operator; terms are letters, digits and marks in the first place."""
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _in_order(new: NewVectors) -> NewVectors:
    """Return the rows in the order of their ids, so that writers of several statements never wait for each other."""
    order = sorted(range(len(new.ids)), key=new.ids.__getitem__)
    if order == list(range(len(order))):
        return new

    def sorted_(column: list[Any]) -> list[Any]:
        return [column[place] for place in order]

    return NewVectors(
        sorted_(new.ids),
        new.embeddings[order],
        sorted_(new.scopes),
        sorted_(new.contents),
        sorted_(new.metadata),
        sorted_(new.document_ids),
        sorted_(new.positions),
    )


def _batches(name: str, new: NewVectors) -> Iterator[Call]:
    """Split rows into statements of a bounded size, which say once what all rows of the batch share."""
    scope, metadata = _shared(new.scopes), _shared(new.metadata)
    kept = new.terms() if _given(new.contents) is not None else None
    columns: dict[str, Any] = {"ids": new.ids, "embeddings": new.embeddings}
    optional: dict[str, Sequence[Any] | None] = {
        "scopes": None if scope is not None else new.scopes,
        "metadatas": None if metadata is not None else new.metadata,
        "contents": _given(new.contents),
        "documents": _given(new.document_ids),
        "positions": _given(new.positions),
    }
    query = _table(name, new.dimension, **{column: values is not None for column, values in optional.items()})
    columns |= {column: values for column, values in optional.items() if values is not None}
    if kept is not None:
        columns["terms"] = kept
    for first, last in _pieces(new, kept):
        part = {column: values[first:last] for column, values in columns.items()}
        yield query, {"scope": scope, "metadata": metadata, **part}


def _shared(values: Sequence[str]) -> str | None:
    """Return the value that all are, None when they differ."""
    return values[0] if values.count(values[0]) == len(values) else None


def _given(values: Sequence[Any]) -> Sequence[Any] | None:
    """Return values of which any is there."""
    return None if values.count(None) == len(values) else values


def _pieces(new: NewVectors, kept: Sequence[str | None] | None) -> Iterator[tuple[int, int]]:
    fixed = 4 * new.dimension + _ROW_BYTES
    if kept is None and _shared(new.metadata) is not None:
        rows = max(1, _STATEMENT_BYTES // fixed)
        starts = [0, *range(_FIRST_TIMES * rows, len(new.ids), rows)]
        yield from zip(starts, [*starts[1:], len(new.ids)], strict=True)
        return
    first, size, most = 0, 0, _FIRST_TIMES * _STATEMENT_BYTES
    for place, (content, metadata) in enumerate(zip(new.contents, new.metadata, strict=True)):
        size += fixed + len(metadata) + (0 if content is None else 2 * len(content))
        if size >= most:
            yield first, place + 1
            first, size, most = place + 1, 0, _STATEMENT_BYTES
    if first < len(new.ids):
        yield first, len(new.ids)
