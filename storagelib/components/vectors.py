"""Vectors with their texts and metadata, what a search asks for and finds, and the checks of what callers give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final, Literal

import numpy as np

from storagelib import documents
from storagelib.components import terms
from storagelib.components.distances import Floats, Metric, score
from storagelib.documents import Document, Json
from storagelib.errors import InvalidInput
from storagelib.filters import Filter
from storagelib.limits import DIMENSION_MAX

__all__ = [
    "CONTENT_MAX",
    "EF_SEARCH_MAX",
    "EVERYTHING",
    "KEEP",
    "Candidate",
    "Embedding",
    "Fusion",
    "Hybrid",
    "HybridMatch",
    "Keep",
    "Match",
    "NewVectors",
    "Recall",
    "ScopeCount",
    "Search",
    "Vector",
    "VectorBatch",
    "VectorIndex",
    "VectorStats",
    "Where",
    "embedding_of",
    "embeddings_of",
    "fused",
    "half_precision",
    "match_of",
    "vector_of",
]

Embedding = Floats | Sequence[float] | bytes
"""A vector as callers may give it: a numpy array, numbers, or bytes of little-endian float32."""
Fusion = Literal["rrf", "weighted"]

CONTENT_MAX: Final = 1 << 20
"""Characters of the text beside a vector."""
EF_SEARCH_MAX: Final = 1_000
"""The longest list of candidates that an index search may keep."""

# What float32 can square without overflow or underflow; PostgreSQL computes distances in it.
_LENGTH_MAX: Final = 1e18
_LENGTH_MIN: Final = 1e-18
# From 2,001 to 4,000 dimensions PostgreSQL scans half precision.
_HALF_FROM: Final = 2_001
_HALF_TO: Final = 4_000
_HALF_LENGTH_MAX: Final = 60_000.0
_HALF_LENGTH_MIN: Final = 1e-2
_MATRIX: Final = 2


class Keep(Enum):
    """The one value that says: leave this as it is."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """One vector as it is stored. Equal when every field is, the embedding bit for bit."""

    id: str
    """Its id."""
    scope: str
    """Its scope within the tenant, ``""`` for none."""
    embedding: Floats
    """The vector: float32, one dimension, read-only."""
    content: str | None
    """The text it was made of."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    document_id: str | None
    """The document that it is a part of."""
    position: int | None
    """Its place in that document, from 0."""
    created_at: datetime
    """When the id was first written."""
    updated_at: datetime
    """When it was last written."""

    @property
    def dimension(self) -> int:
        """How many numbers the embedding has."""
        return len(self.embedding)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.id, self.updated_at))

    def _values(self) -> tuple[Any, ...]:
        return (
            *(self.id, self.scope, self.embedding.tobytes(), self.content, self.metadata),
            *(self.document_id, self.position, self.created_at, self.updated_at),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """One vector that a search found."""

    id: str
    """Its id."""
    distance: float
    """How far it is from the query, by the metric of the search."""
    score: float
    """How near: cosine, ``1 / (1 + l2)`` or the inner product."""
    scope: str
    """Its scope."""
    content: str | None
    """Its text; None when the search was told to leave texts out."""
    metadata: Mapping[str, Json]
    """Its metadata."""
    document_id: str | None
    """The document that it is a part of."""
    position: int | None
    """Its place in that document."""
    created_at: datetime
    """When the id was first written."""
    updated_at: datetime
    """When it was last written."""
    embedding: Floats | None
    """The vector, when the search asked for it."""


@dataclass(frozen=True, slots=True)
class HybridMatch:
    """One vector that a hybrid search found, and why."""

    match: Match
    """The vector with its distance."""
    score: float
    """What the list is ordered by; comparable within one search only."""
    vector_rank: int | None
    """Its place among the nearest, from 1; None when it was not near enough to be a candidate."""
    text_rank: int | None
    """Its place among the texts that match, from 1, equals sharing one; None when its text has none of the words."""
    text_score: float
    """The worth of the words that it matches; 0 for none."""

    @property
    def id(self) -> str:
        """The vector's id."""
        return self.match.id


@dataclass(frozen=True, slots=True)
class ScopeCount:
    """One scope and how many vectors are in it."""

    scope: str
    """The scope."""
    vectors: int
    """How many vectors it has."""


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """One index over this tenant's vectors of a dimension."""

    name: str
    """Its name."""
    method: str
    """``hnsw`` or ``vchordrq``."""
    metric: Metric
    """The metric that it serves."""
    ready: bool
    """Whether searches may use it; False while it is being built, or when building it was broken off."""


@dataclass(frozen=True, slots=True)
class VectorStats:
    """What a tenant keeps of one dimension, and how searches go."""

    dimension: int
    """The dimension."""
    vectors: int
    """How many vectors."""
    scopes: int
    """In how many scopes."""
    documents: int
    """Of how many documents."""
    bytes: int
    """Bytes of embeddings and texts; what the backend adds is not counted."""
    exact_scan_threshold: int
    """From how many vectors on an index is worth building."""
    indexes: tuple[VectorIndex, ...]
    """The indexes there are."""
    # Not compared: where it differs, what is found is the same.
    compared_by: str = field(default="pgvector", compare=False)
    """What compares vectors in an exact search: ``numpy``, ``sqlite-vec`` before it, or ``pgvector`` in the server."""

    @property
    def exact(self) -> bool:
        """Whether every search is exact, because no index is ready."""
        return not any(index.ready for index in self.indexes)


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of the exact answer the chosen way of searching finds."""

    queries: int
    """How many stored vectors were searched for."""
    k: int
    """How many neighbours each search asked for."""
    recall: float
    """The share of the exact neighbours that were found, 0 to 1; 1 when there was nothing to find."""
    chosen_seconds: float
    """What a search took in the chosen way, on average."""
    exact_seconds: float
    """What an exact search took, on average."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorBatch:
    """Many vectors in columns, as ``insert_many`` takes them; one value for a column holds for all rows."""

    ids: Sequence[str]
    """Their ids."""
    embeddings: Floats | Sequence[Embedding]
    """The vectors, ``(count, dimension)``."""
    scope: str | Sequence[str] = ""
    """Scope of all, or of each."""
    contents: Sequence[str | None] | None = None
    """Texts."""
    metadata: Document | Sequence[Document | None] | None = None
    """Metadata of all, or of each."""
    document_id: str | Sequence[str | None] | None = None
    """Document of all, or of each."""
    positions: Sequence[int | None] | None = None
    """Places in the document."""


@dataclass(frozen=True, slots=True, eq=False)
class NewVectors:
    """Vectors to write, checked: columns of one length, ids that differ, metadata as canonical JSON text."""

    ids: list[str]
    embeddings: Floats
    """``(count, dimension)``, contiguous, little-endian."""
    scopes: list[str]
    contents: list[str | None]
    metadata: list[str]
    document_ids: list[str | None]
    positions: list[int | None]

    @property
    def dimension(self) -> int:
        """How many numbers each vector has."""
        return int(self.embeddings.shape[1])

    def terms(self) -> list[str | None]:
        """Return the terms of each content, in the form that columns keep."""
        return [terms.stored(content) for content in self.contents]


@dataclass(frozen=True, slots=True)
class Where:
    """Which vectors of a dimension are meant: all conditions hold."""

    scopes: tuple[str, ...] | None = None
    """Any of these scopes."""
    scope_prefix: str | None = None
    """A scope that begins like this."""
    filter: Filter | None = None
    """What the metadata must be."""


EVERYTHING: Final = Where()


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One or more queries of one dimension that go together."""

    queries: Floats
    """``(queries, dimension)``."""
    k: int
    metric: Metric
    where: Where
    ef_search: int | None = None
    """Candidates that an index search keeps; None for the default."""
    exact: bool = False
    """Compare with every vector, whatever indexes there are."""
    embeddings: bool = False
    """Whether matches carry their embedding."""
    contents: bool = True
    """Whether matches carry their content."""

    @property
    def dimension(self) -> int:
        """How many numbers each query has."""
        return int(self.queries.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Hybrid:
    """A question by vector and by words; ``search`` has one query, and its ``k`` is how many candidates each side has."""

    search: Search
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One row that a hybrid search may tell, with its places on both sides."""

    match: Match
    vector_rank: int | None
    text_rank: int | None
    text_score: float


def vector_of(row: Sequence[Any]) -> Vector:
    """Make a record of id, scope, embedding bytes, content, metadata, document, position, creation and last change."""
    id_, scope, embedding, content, metadata, document_id, position, created_at, updated_at = row
    values = np.frombuffer(embedding, "<f4")
    decoded = _decoded(metadata)
    return Vector(id_, scope, values, content, decoded, document_id, position, created_at, updated_at)


def match_of(metric: Metric, row: Sequence[Any]) -> Match:
    """Make a match of a row like that of ``vector_of`` with the distance behind it; the embedding may be None."""
    id_, scope, embedding, content, metadata, document_id, position, created_at, updated_at, distance = row
    values = None if embedding is None else np.frombuffer(embedding, "<f4")
    near, decoded = score(metric, distance), _decoded(metadata)
    return Match(id_, distance, near, scope, content, decoded, document_id, position, created_at, updated_at, values)


def embedding_of(value: object, name: str = "embedding") -> Floats:
    """Return one vector as read-only float32; raises ``InvalidInput`` for what no backend could keep or compare.

    >>> embedding_of([1, 2, 3]).tolist()
    [1.0, 2.0, 3.0]
    """
    row = _floats(value, name)
    if row.ndim != 1:
        raise _fault(name, "must have one dimension: pass one vector")
    kept: Floats = embeddings_of(row.reshape(1, -1), name)[0]
    return kept


def embeddings_of(value: object, name: str = "embeddings") -> Floats:
    """Return many vectors of one dimension as a read-only float32 array of shape (count, dimension).

    Such an array is taken as it is and copied once, because its owner may change it.
    """
    if isinstance(value, np.ndarray) and value.ndim == _MATRIX:
        matrix = _floats(value, name)
    elif isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _fault(name, "must be several vectors")
    else:
        rows = [_floats(row, name) for row in value]
        if len({row.shape for row in rows}) > 1:
            raise _fault(name, "must all have the same dimension")
        matrix = np.stack(rows) if rows else np.empty((0, 1), np.float32)
    if matrix.ndim != _MATRIX:
        raise _fault(name, "must be vectors of one dimension each")
    if not 1 <= matrix.shape[1] <= DIMENSION_MAX:
        raise _fault(name, f"must have 1 to {DIMENSION_MAX} dimensions, not {matrix.shape[1]}")
    kept = np.array(matrix, dtype="<f4", order="C", copy=True)
    _check_lengths(kept, name)
    kept.flags.writeable = False
    return kept


def half_precision(dimension: int) -> bool:
    """Tell whether PostgreSQL scans and indexes this dimension in half precision."""
    return _HALF_FROM <= dimension <= _HALF_TO


def fused(
    candidates: Sequence[Candidate], k: int, fusion: Fusion, weights: tuple[float, float], rrf_k: int, metric: Metric
) -> list[HybridMatch]:
    """Return the best ``k`` candidates: by the sum of reciprocal ranks, or by weighted scores that run from 0 to 1."""
    most = max((candidate.text_score for candidate in candidates), default=0.0)

    def worth(candidate: Candidate) -> float:
        if fusion == "weighted":
            text = candidate.text_score / most if most else 0.0
            return weights[0] * _unit(metric, candidate.match.score) + weights[1] * text
        ranks = (candidate.vector_rank, candidate.text_rank)
        return sum(weight / (rrf_k + rank) for weight, rank in zip(weights, ranks, strict=True) if rank is not None)

    found = [
        HybridMatch(each.match, worth(each), each.vector_rank, each.text_rank, each.text_score) for each in candidates
    ]
    return sorted(found, key=lambda each: (-each.score, each.match.distance, each.id))[:k]


def _decoded(metadata: str) -> Mapping[str, Json]:
    decoded: Mapping[str, Json] = {} if metadata == "{}" else documents.decode(metadata)
    return decoded


def _unit(metric: Metric, near: float) -> float:
    if metric == "cosine":
        return (1.0 + near) / 2.0
    if metric == "l2":
        return near
    # The inner product has no bounds; its sign and size survive.
    return 0.5 * (1.0 + near / (1.0 + abs(near)))


def _floats(value: object, name: str) -> Floats:
    if isinstance(value, bytes | bytearray | memoryview):
        if len(value) % 4:
            raise _fault(name, "has bytes that are no little-endian float32")
        return np.frombuffer(bytes(value), "<f4")
    if isinstance(value, str | Mapping):
        raise _fault(name, f"must be numbers, not {type(value).__name__}")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise _fault(name, "must be numbers") from None
    if array.dtype.kind not in "fiu":
        raise _fault(name, "must be numbers")
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def _check_lengths(matrix: Floats, name: str) -> None:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    least, most = _LENGTH_MIN, _LENGTH_MAX
    if half_precision(matrix.shape[1]):
        least, most = _HALF_LENGTH_MIN, _HALF_LENGTH_MAX
    good = (squares >= np.float32(least * least)) & (squares <= np.float32(most * most))
    if good.all():
        return
    for row in np.flatnonzero(~good).tolist():
        values = matrix[row]
        if not np.isfinite(values).all():
            raise _fault(name, f"vector {row} holds a number that float32 cannot hold, or NaN or an infinity")
        if values.any():
            raise _fault(name, f"vector {row} must have a length of 0, or from {least:g} to {most:g}")


def _fault(name: str, fault: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [f"{name}: {fault}"])
