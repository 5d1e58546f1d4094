# Made from storagelib/_async/vectors.py by scripts/sync; change that file instead.
"""Vectors: writing, nearest neighbours, words and vectors together, and how well that works."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np

from storagelib import filters
from storagelib._sync.listings import each_item
from storagelib.components.distances import METRICS, Floats, Metric, diverse
from storagelib.components.terms import QUERY_TERMS_MAX, terms_of
from storagelib.components.vectors import (
    CONTENT_MAX,
    EF_SEARCH_MAX,
    EVERYTHING,
    KEEP,
    Candidate,
    Embedding,
    Fusion,
    Hybrid,
    HybridMatch,
    Keep,
    Match,
    NewVectors,
    Recall,
    ScopeCount,
    Search,
    Vector,
    VectorBatch,
    VectorStats,
    Where,
    embedding_of,
    embeddings_of,
    fused,
)
from storagelib.documents import Document, check_metadata
from storagelib.errors import InvalidInput, NotFound
from storagelib.limits import (
    BATCH_MAX,
    DIMENSION_MAX,
    ID_MAX,
    INTEGER_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_flag,
    check_integer,
    check_one_of,
    check_page_size,
    check_scope,
    check_text,
)
from storagelib.pages import Page, cursor_of, page_of, position_of

__all__ = ["Vectors", "VectorsBackend"]

Scope = str | Sequence[str] | None

_LEAST_CANDIDATES: Final = 50
_CANDIDATES_A_RESULT: Final = 4
_SAME: Final = 1e-6


class VectorsBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    Each dimension is a table of its own. Where writing does not make tables, every verb raises ``InvalidInput`` for a
    dimension without one.
    """

    def insert(self, new: NewVectors) -> None:
        """Write vectors with new ids, all or none; raises ``AlreadyExists``."""
        ...

    def upsert(self, new: NewVectors) -> int:
        """Write vectors, all or none, replacing those that are there; count the new ids."""
        ...

    def fetch(self, dimension: int, ids: list[str]) -> list[Vector]:
        """Return the vectors that are there, in any order."""
        ...

    def update(self, dimension: int, id_: str, values: Mapping[str, Any], *, merge: bool) -> Vector | None:
        """Change some columns of one vector and return it, None when it is not there.

        ``values`` may have ``embedding`` (float32 array), ``scope``, ``content``, ``metadata`` (JSON text, laid over what
        is there key by key when ``merge``), ``document_id`` and ``position``.
        """
        ...

    def delete(self, dimension: int, ids: list[str]) -> int:
        """Remove vectors; count those that were there."""
        ...

    def delete_where(self, dimension: int, where: Where) -> int:
        """Remove the vectors that are meant; count them."""
        ...

    def delete_document(self, dimension: int, document_id: str) -> int:
        """Remove the vectors of a document; count them."""
        ...

    def search(self, search: Search) -> list[list[Match]]:
        """Return for every query min(k, matching) matches by distance, then id, all of one snapshot."""
        ...

    def hybrid(self, hybrid: Hybrid) -> list[Candidate]:
        """Return the candidates of both sides, once each and in any order, of one snapshot.

        By vector: the ``k`` nearest, ranked from 1. By words: ranks and scores as ``terms.ranked`` gives them, over all
        rows that are meant, of which the best ``k`` by rank, distance and id are candidates. A row that matches words has
        its text rank and score also when it came by its vector.
        """
        ...

    def count(self, dimension: int, where: Where) -> int:
        """Count the vectors that are meant."""
        ...

    def page(self, dimension: int, where: Where, after: tuple[str, datetime, str] | None, limit: int) -> list[Vector]:
        """Return up to ``limit`` vectors behind ``after``, by scope, creation and id."""
        ...

    def document(self, dimension: int, document_id: str, after: tuple[int, str] | None, limit: int) -> list[Vector]:
        """Return up to ``limit`` vectors of a document behind ``after``, by position and id; no position comes last.

        In ``after`` no position is ``INTEGER_MAX``.
        """
        ...

    def scopes(self, dimension: int, prefix: str, after: str | None, limit: int) -> list[ScopeCount]:
        """Return up to ``limit`` scopes that begin with ``prefix``, behind ``after``, in order."""
        ...

    def dimensions(self) -> list[int]:
        """Return the dimensions of which there are vectors, ascending."""
        ...

    def stats(self, dimension: int) -> VectorStats:
        """Say what is kept of one dimension, and which indexes there are."""
        ...

    def sample(self, dimension: int, count: int) -> Floats:
        """Return up to ``count`` embeddings that have a direction, drawn at random, as (count, dimension)."""
        ...


class Vectors:
    """The vectors of one tenant: 1 to 16,000 dimensions, each dimension a table of its own.

    A vector goes to the table of its length, so that verbs that are given one need no ``dimension``; the others do. Ids are
    unique within a dimension. Embeddings are kept as float32, bit for bit; NaN, infinities and lengths that float32 cannot
    square are ``InvalidInput``, as is a query without a direction (all zero) under cosine; such stored vectors are never
    found by cosine. Searches return ``min(k, matching)`` matches, by distance and then id. ``filter`` is a condition on the
    metadata (see ``storagelib.filters``); ``scope`` one scope or several, ``scope_prefix`` all that begin alike.

    >>> from storagelib import Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         vectors = store.for_tenant("acme").vectors
    ...         embeddings, texts = [[1.0, 0.0], [0.0, 1.0]], ["red apple", "blue sky"]
    ...         vectors.insert_many(["a", "b"], embeddings, contents=texts, metadata=[{"n": 1}, {"n": 2}])
    ...         (near,) = vectors.search([0.9, 0.1], k=1, filter={"n": {"$lt": 2}})
    ...         (best, other) = vectors.hybrid_search("sky", [0.5, 0.5], k=2)
    ...         print(near.id, best.id, (vectors.get("b", dimension=2)).content)
    >>> example()
    a b blue sky
    """

    def __init__(self, backend: VectorsBackend, options: Mapping[str, object] | None = None) -> None:
        """Take the tenant's backend, and the store's table of the configuration."""
        self._backend = backend
        usual: Any = (options or {}).get("hnsw_ef_search")
        self._ef_search: int | None = usual

    # Writing ---------------------------------------------------------------------------------

    def insert(
        self,
        id: str,  # noqa: A002 - it is what callers call it
        embedding: Embedding,
        *,
        scope: str = "",
        content: str | None = None,
        metadata: Document | None = None,
        document_id: str | None = None,
        position: int | None = None,
    ) -> None:
        """Write a vector with a new id; raises ``AlreadyExists``."""
        self._backend.insert(_one(id, embedding, scope, content, metadata, document_id, position))

    def upsert(
        self,
        id: str,  # noqa: A002 - it is what callers call it
        embedding: Embedding,
        *,
        scope: str = "",
        content: str | None = None,
        metadata: Document | None = None,
        document_id: str | None = None,
        position: int | None = None,
    ) -> bool:
        """Write a vector, replacing all of one that is there but its creation time; tell whether the id is new."""
        return self._backend.upsert(_one(id, embedding, scope, content, metadata, document_id, position)) == 1

    def insert_many(
        self,
        ids: Sequence[str],
        embeddings: Floats | Sequence[Embedding],
        *,
        scope: str | Sequence[str] = "",
        contents: Sequence[str | None] | None = None,
        metadata: Document | Sequence[Document | None] | None = None,
        document_id: str | Sequence[str | None] | None = None,
        positions: Sequence[int | None] | None = None,
    ) -> int:
        """Write up to 100,000 vectors of one dimension with new ids, all or none; return how many.

        ``embeddings`` is best a float32 array of shape (count, dimension). ``scope``, ``metadata`` and ``document_id`` are
        one value for all or one for each. An id that is taken is ``AlreadyExists``, and nothing is written.
        """
        batch = VectorBatch(ids, embeddings, scope, contents, metadata, document_id, positions)
        return self._insert(batch)

    def upsert_many(
        self,
        ids: Sequence[str],
        embeddings: Floats | Sequence[Embedding],
        *,
        scope: str | Sequence[str] = "",
        contents: Sequence[str | None] | None = None,
        metadata: Document | Sequence[Document | None] | None = None,
        document_id: str | Sequence[str | None] | None = None,
        positions: Sequence[int | None] | None = None,
    ) -> int:
        """Write up to 100,000 vectors of one dimension, all or none, replacing those there; count the new ids."""
        new = _new(VectorBatch(ids, embeddings, scope, contents, metadata, document_id, positions))
        return self._backend.upsert(new) if new.ids else 0

    def insert_stream(self, batches: Iterable[VectorBatch]) -> int:
        """Write batches as they come, each in a transaction of its own; return how many vectors were written.

        When one fails, those before it stay: their sum says where to go on.
        """
        if not isinstance(batches, Iterable):
            raise _refused(f"batches: must be a stream of VectorBatch, not {type(batches).__name__}")
        written = 0
        for batch in batches:
            written += self._insert(batch)
        return written

    def update(
        self,
        id: str,  # noqa: A002 - it is what callers call it
        *,
        dimension: int | None = None,
        embedding: Embedding | None = None,
        scope: str | None = None,
        content: str | Keep | None = KEEP,
        metadata: Document | None = None,
        document_id: str | Keep | None = KEEP,
        position: int | Keep | None = KEEP,
    ) -> Vector:
        """Change what is given of a vector and return it; raises ``NotFound``.

        ``dimension`` may be left out when an ``embedding`` is given; a vector never changes its dimension.
        ``metadata`` replaces what is there.
        """
        values: dict[str, Any] = {}
        if embedding is not None:
            values["embedding"] = embedding_of(embedding)
            if dimension is not None and dimension != len(values["embedding"]):
                raise _refused(f"dimension: is {dimension!r}, and the embedding has {len(values['embedding'])}")
            dimension = len(values["embedding"])
        if scope is not None:
            values["scope"] = check_scope(scope)
        if content is not KEEP:
            values["content"] = _content(content)
        if metadata is not None:
            values["metadata"] = check_metadata(metadata)
        if document_id is not KEEP:
            values["document_id"] = _document(document_id)
        if position is not KEEP:
            values["position"] = _position(position)
        if not values:
            raise _refused("nothing to change was given")
        return self._update(id, dimension, values, merge=False)

    def update_metadata(
        self,
        id: str,  # noqa: A002 - it is what callers call it
        metadata: Document,
        *,
        dimension: int,
        replace: bool = False,
    ) -> Vector:
        """Lay metadata over what is there, key by key at the top level, or replace it; raises ``NotFound``."""
        return self._update(
            id, dimension, {"metadata": check_metadata(metadata)}, merge=not check_flag("replace", replace)
        )

    def delete(self, id: str, *, dimension: int) -> bool:  # noqa: A002 - it is what callers call it
        """Remove a vector; tell whether it was there."""
        return self._backend.delete(_dimension(dimension), [check_text("id", id)]) == 1

    def delete_many(self, ids: Iterable[str], *, dimension: int) -> int:
        """Remove up to 100,000 vectors, all or none; count those that were there."""
        asked, size = _ids(ids), _dimension(dimension)
        return self._backend.delete(size, asked) if asked else 0

    def delete_where(
        self,
        filter: Document | None = None,  # noqa: A002 - what it is
        *,
        dimension: int,
        scope: Scope = None,
        scope_prefix: str | None = None,
    ) -> int:
        """Remove the vectors that meet a condition; count them. At least one condition has to be given."""
        where = _where(scope, scope_prefix, filter)
        if where == EVERYTHING:
            raise _refused("no condition was given; clear() removes all vectors of a dimension")
        return self._backend.delete_where(_dimension(dimension), where)

    def delete_document(self, document_id: str, *, dimension: int) -> int:
        """Remove every vector of a document; count them."""
        return self._backend.delete_document(_dimension(dimension), check_text("document_id", document_id))

    def clear(self, *, dimension: int) -> int:
        """Remove every vector of this tenant that has this dimension; count them."""
        return self._backend.delete_where(_dimension(dimension), EVERYTHING)

    # Reading ---------------------------------------------------------------------------------

    def get(self, id: str, *, dimension: int) -> Vector | None:  # noqa: A002 - it is what callers call it
        """Return a vector, or None."""
        found = self._backend.fetch(_dimension(dimension), [check_text("id", id)])
        return found[0] if found else None

    def get_many(self, ids: Iterable[str], *, dimension: int) -> dict[str, Vector]:
        """Return the vectors that are there, by id, in the order asked for; up to 100,000."""
        asked, size = _ids(ids), _dimension(dimension)
        found = {vector.id: vector for vector in self._backend.fetch(size, asked)} if asked else {}
        return {id_: found[id_] for id_ in asked if id_ in found}

    def count(
        self,
        filter: Document | None = None,  # noqa: A002 - what it is
        *,
        dimension: int,
        scope: Scope = None,
        scope_prefix: str | None = None,
    ) -> int:
        """Count the vectors of a dimension, or those that meet a condition."""
        return self._backend.count(_dimension(dimension), _where(scope, scope_prefix, filter))

    def list_vectors(
        self,
        filter: Document | None = None,  # noqa: A002 - what it is
        *,
        dimension: int,
        scope: Scope = None,
        scope_prefix: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Vector]:
        """Return a page of the vectors that meet a condition, by scope, creation and id."""
        check_page_size(limit)
        after: Any = position_of(cursor, str, datetime, str)
        where = _where(scope, scope_prefix, filter)
        found = self._backend.page(_dimension(dimension), where, after, limit + 1)
        return page_of(found, limit, "scope", "created_at", "id")

    def list_document(
        self, document_id: str, *, dimension: int, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Vector]:
        """Return a page of a document's vectors by position and id; those without a position come last."""
        check_page_size(limit)
        after: Any = position_of(cursor, int, str)
        document = check_text("document_id", document_id)
        found = self._backend.document(_dimension(dimension), document, after, limit + 1)
        if len(found) <= limit:
            return Page(tuple(found), None)
        last = found[limit - 1]
        return Page(tuple(found[:limit]), cursor_of(INTEGER_MAX if last.position is None else last.position, last.id))

    def scopes(
        self, prefix: str = "", *, dimension: int, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[ScopeCount]:
        """Return a page of the scopes that begin with ``prefix``, in order, with how many vectors each has."""
        check_page_size(limit)
        position = position_of(cursor, str)
        after = None if position is None else position[0]
        found = self._backend.scopes(_dimension(dimension), check_text("prefix", prefix, least=0), after, limit + 1)
        return page_of(found, limit, "scope")

    def vectors(
        self,
        filter: Document | None = None,  # noqa: A002 - what it is
        *,
        dimension: int,
        scope: Scope = None,
        scope_prefix: str | None = None,
    ) -> Iterator[Vector]:
        """Go through all vectors that meet a condition, page by page, by scope, creation and id."""
        return each_item(
            self.list_vectors,
            filter,
            dimension=dimension,
            scope=scope,
            scope_prefix=scope_prefix,
            limit=PAGE_MAX // 10,
        )

    def dimensions(self) -> tuple[int, ...]:
        """Return the dimensions of which this tenant has vectors, ascending."""
        return tuple(self._backend.dimensions())

    def stats(self, dimension: int) -> VectorStats:
        """Say how much is kept of one dimension, and whether searches are exact or go by an index."""
        return self._backend.stats(_dimension(dimension))

    # Searching -------------------------------------------------------------------------------

    def search(
        self,
        query: Embedding,
        k: int = 10,
        *,
        scope: Scope = None,
        scope_prefix: str | None = None,
        filter: Document | None = None,  # noqa: A002 - what it is
        metric: Metric = "cosine",
        threshold: float | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        include_embedding: bool = False,
        include_content: bool = True,
    ) -> list[Match]:
        """Return the ``k`` (1 to 10,000) nearest vectors, nearest first.

        ``threshold`` is the least ``score`` that is told. ``ef_search`` (1 to 1000) is how many candidates an index keeps:
        more find more and take longer. ``exact`` compares with every vector even where an index is ready.
        """
        least = _threshold(threshold)
        wanted = embedding_of(query, "query").reshape(1, -1)
        search = Search(
            wanted,
            _k(k),
            _metric(metric),
            _where(scope, scope_prefix, filter),
            self._candidates(ef_search),
            check_flag("exact", exact),
            check_flag("include_embedding", include_embedding),
            check_flag("include_content", include_content),
        )
        return _above((self._backend.search(_directed(search)))[0], least)

    def search_many(
        self,
        queries: Floats | Sequence[Embedding],
        k: int = 10,
        *,
        scope: Scope = None,
        scope_prefix: str | None = None,
        filter: Document | None = None,  # noqa: A002 - what it is
        metric: Metric = "cosine",
        threshold: float | None = None,
        ef_search: int | None = None,
        exact: bool = False,
        include_embedding: bool = False,
        include_content: bool = True,
    ) -> list[list[Match]]:
        """Return the nearest vectors for each of up to 1,000 queries, in one round trip and of one snapshot."""
        least = _threshold(threshold)
        wanted = embeddings_of(queries, "queries")
        check_integer("queries", len(wanted), least=0, most=1_000)
        search = Search(
            wanted,
            _k(k),
            _metric(metric),
            _where(scope, scope_prefix, filter),
            self._candidates(ef_search),
            check_flag("exact", exact),
            check_flag("include_embedding", include_embedding),
            check_flag("include_content", include_content),
        )
        if not len(wanted):
            return []
        return [_above(found, least) for found in self._backend.search(_directed(search))]

    def mmr_search(
        self,
        query: Embedding,
        k: int = 10,
        *,
        fetch_k: int | None = None,
        balance: float = 0.5,
        scope: Scope = None,
        scope_prefix: str | None = None,
        filter: Document | None = None,  # noqa: A002 - what it is
        metric: Metric = "cosine",
        ef_search: int | None = None,
    ) -> list[Match]:
        """Return ``k`` vectors that are near the query and unlike each other (maximal marginal relevance).

        They are chosen among the ``fetch_k`` nearest (by default 4 times ``k``, at least 50) and come in the order in
        which they were chosen, with their embeddings. ``balance``, known as lambda, is 1 for nearness alone, 0 for
        difference alone.
        """
        share = _share("balance", balance)
        wanted = embedding_of(query, "query")
        depth = _depth(k, fetch_k, "fetch_k")
        search = Search(
            wanted.reshape(1, -1),
            depth,
            _metric(metric),
            _where(scope, scope_prefix, filter),
            self._candidates(ef_search),
            embeddings=True,
        )
        (found,) = self._backend.search(_directed(search))
        if not found:
            return []
        candidates = np.stack([_embedding(match) for match in found])
        return [found[row] for row in diverse(wanted, candidates, k, share, metric)]

    def hybrid_search(
        self,
        text: str,
        embedding: Embedding,
        k: int = 10,
        *,
        fusion: Fusion = "rrf",
        weights: tuple[float, float] = (1.0, 1.0),
        rrf_k: int = 60,
        candidates: int | None = None,
        scope: Scope = None,
        scope_prefix: str | None = None,
        filter: Document | None = None,  # noqa: A002 - what it is
        metric: Metric = "cosine",
        ef_search: int | None = None,
        exact: bool = False,
        include_embedding: bool = False,
    ) -> list[HybridMatch]:
        """Return the ``k`` vectors that are best by their embedding and by the words of their content together.

        Each side gives its best ``candidates`` (by default 4 times ``k``, at least 50), in one snapshot. ``rrf`` adds
        ``weight / (rrf_k + rank)`` of both sides, ``weighted`` adds ``weight * score`` with scores from 0 to 1; ``weights``
        are those of the vector and of the text. Words are compared without case and by their letters and digits alone; one
        that many rows have counts less. At most 64 different words of ``text`` are looked for.
        """
        check_one_of("fusion", fusion, ("rrf", "weighted"))
        checked = _weights(weights)
        constant = check_integer("rrf_k", rrf_k, least=1, most=1_000_000)
        search = Search(
            embedding_of(embedding).reshape(1, -1),
            _depth(k, candidates, "candidates"),
            _metric(metric),
            _where(scope, scope_prefix, filter),
            self._candidates(ef_search),
            check_flag("exact", exact),
            check_flag("include_embedding", include_embedding),
        )
        words = tuple(terms_of(check_text("text", text, least=0, most=CONTENT_MAX), QUERY_TERMS_MAX))
        found = self._backend.hybrid(Hybrid(_directed(search), words))
        return fused(found, k, fusion, checked, constant, metric)

    def measure_recall(
        self,
        dimension: int,
        *,
        k: int = 10,
        sample: int = 20,
        ef_search: int | None = None,
        metric: Metric = "cosine",
    ) -> Recall:
        """Search for ``sample`` (1 to 1000) stored vectors, as searches go and exactly, and compare what they find.

        A neighbour as near as the last exact one counts as found, so that ties do not lower the recall.
        """
        count = check_integer("sample", sample, least=1, most=1_000)
        size, most, candidates = _dimension(dimension), _k(k), self._candidates(ef_search)
        check_one_of("metric", metric, METRICS)
        queries = self._backend.sample(size, count)
        if not len(queries):
            return Recall(0, most, 1.0, 0.0, 0.0)
        search = Search(queries, most, metric, EVERYTHING, candidates, contents=False)
        started = time.perf_counter()
        chosen = self._backend.search(search)
        between = time.perf_counter()
        exact = self._backend.search(replace(search, exact=True))
        ended = time.perf_counter()
        wanted = sum(len(found) for found in exact)
        hits = sum(_hits(found, best) for found, best in zip(chosen, exact, strict=True))
        share = hits / wanted if wanted else 1.0
        return Recall(len(queries), most, share, (between - started) / len(queries), (ended - between) / len(queries))

    def _candidates(self, asked: int | None) -> int | None:
        """Return how many candidates an index keeps: what the call says, else the configuration, else the backend."""
        return self._ef_search if asked is None else _ef_search(asked)

    def _insert(self, batch: VectorBatch) -> int:
        new = _new(batch)
        if new.ids:
            self._backend.insert(new)
        return len(new.ids)

    def _update(self, id_: str, dimension: int | None, values: dict[str, Any], *, merge: bool) -> Vector:
        size = _dimension(dimension)
        found = self._backend.update(size, check_text("id", id_), values, merge=merge)
        if found is None:
            raise NotFound(f"there is no vector of {size} dimensions with this id")
        return found


def _refused(fault: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [fault])


def _dimension(dimension: object) -> int:
    return check_integer("dimension", dimension, least=1, most=DIMENSION_MAX)


def _k(k: object) -> int:
    return check_integer("k", k, least=1, most=PAGE_MAX)


def _depth(k: object, depth: object, name: str) -> int:
    least = _k(k)
    if depth is None:
        return min(PAGE_MAX, max(_LEAST_CANDIDATES, _CANDIDATES_A_RESULT * least))
    return check_integer(name, depth, least=least, most=PAGE_MAX)


def _metric(metric: Metric) -> Metric:
    check_one_of("metric", metric, METRICS)
    return metric


def _ef_search(value: object) -> int:
    return check_integer("ef_search", value, least=1, most=EF_SEARCH_MAX)


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise _refused(f"{name}: must be from 0 to 1")
    return float(value)


def _weights(weights: object) -> tuple[float, float]:
    if not isinstance(weights, tuple | list) or len(weights) != 2:  # noqa: PLR2004 - a vector's and a text's
        raise _refused("weights: must be two numbers, of the vector and of the text")
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.0 <= weight <= 1e6:  # noqa: PLR2004
            raise _refused("weights: must be numbers from 0 to 1000000")
    return float(weights[0]), float(weights[1])


def _where(scope: Scope, scope_prefix: str | None, condition: Document | None) -> Where:
    scopes: tuple[str, ...] | None = None
    if isinstance(scope, str):
        scopes = (check_scope(scope),)
    elif scope is not None:
        scopes = tuple(sorted({check_scope(each) for each in check_batch("scope", scope)}))
    prefix = None if scope_prefix is None else check_text("scope_prefix", scope_prefix, least=0)
    parsed = None if condition is None else filters.parse(condition)
    return Where(scopes, prefix or None, parsed if condition else None)


def _directed(search: Search) -> Search:
    if search.metric == "cosine" and not search.queries.any(axis=1).all():
        raise _refused("query: is all zero, which has no direction for cosine to compare")
    return search


def _threshold(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124
        raise _refused("threshold: must be a number")
    return value


def _above(found: list[Match], threshold: float | None) -> list[Match]:
    return found if threshold is None else [match for match in found if match.score >= threshold]


def _hits(found: list[Match], best: list[Match]) -> int:
    if not best:
        return 0
    limit = best[-1].distance + _SAME * max(1.0, abs(best[-1].distance))
    return min(len(best), sum(match.distance <= limit for match in found))


def _embedding(match: Match) -> Floats:
    assert match.embedding is not None  # noqa: S101 - the search asked for it
    return match.embedding


def _ids(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(check_text("ids", id_) for id_ in check_batch("ids", ids)))


def _content(content: object) -> str | None:
    return None if content is None else check_text("content", content, least=0, most=CONTENT_MAX)


def _document(document_id: object) -> str | None:
    return None if document_id is None else check_text("document_id", document_id)


def _position(position: object) -> int | None:
    # One less than the largest, which stands for no position in cursors.
    return None if position is None else check_integer("position", position, least=0, most=INTEGER_MAX - 1)


def _one(
    id_: str,
    embedding: Embedding,
    scope: str,
    content: str | None,
    metadata: Document | None,
    document_id: str | None,
    position: int | None,
) -> NewVectors:
    return NewVectors(
        [check_text("id", id_)],
        embedding_of(embedding).reshape(1, -1),
        [check_scope(scope)],
        [_content(content)],
        [check_metadata(metadata)],
        [_document(document_id)],
        [_position(position)],
    )


def _new(batch: VectorBatch) -> NewVectors:
    if not isinstance(batch, VectorBatch):
        raise _refused(f"batches: must be VectorBatch, not {type(batch).__name__}")
    ids = _all_text("ids", check_batch("ids", batch.ids))
    count = len(ids)
    if len(set(ids)) < count:
        raise _refused("ids: one stands twice")
    matrix = embeddings_of(batch.embeddings)
    if len(matrix) != count:
        raise _refused(f"embeddings: are {len(matrix)}, and the ids {count}")
    check_integer("embeddings", count, least=0, most=BATCH_MAX)
    scope, metadata, document = batch.scope, batch.metadata, batch.document_id
    return NewVectors(
        ids,
        matrix,
        [check_scope(scope)] * count
        if isinstance(scope, str)
        else [check_scope(v) for v in _each("scope", scope, count)],
        [None] * count if batch.contents is None else [_content(v) for v in _each("contents", batch.contents, count)],
        [check_metadata(metadata)] * count
        if metadata is None or isinstance(metadata, Mapping)
        else [check_metadata(v) for v in _each("metadata", metadata, count)],
        [_document(document)] * count
        if document is None or isinstance(document, str)
        else [_document(v) for v in _each("document_id", document, count)],
        [None] * count
        if batch.positions is None
        else [_position(v) for v in _each("positions", batch.positions, count)],
    )


def _all_text(name: str, values: list[Any]) -> list[str]:
    """Check many ids; those that are plain at a glance are not looked at one by one."""
    if values and set(map(type, values)) == {str}:
        together = "".join(values)
        if (
            together.isascii()
            and "\0" not in together
            and min(map(len, values)) > 0
            and max(map(len, values)) <= ID_MAX
        ):
            return values
    return [check_text(name, value) for value in values]


def _each(name: str, values: Iterable[Any], count: int) -> list[Any]:
    listed = check_batch(name, values)
    if len(listed) != count:
        raise _refused(f"{name}: are {len(listed)}, and the ids {count}")
    return listed
