"""Distances between vectors, the nearest of many, and choices among near ones; pure, in numpy.

Vectors are float32; what is told to a caller is computed of them in float64, row by row in one way, so that equal vectors
have equal distances wherever they stand. A fast float32 product only decides which rows are worth that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["METRICS", "Floats", "Metric", "distances", "diverse", "nearest", "reach", "score"]

Metric = Literal["cosine", "l2", "inner_product"]
"""``cosine``: 1 - cosine, 0 to 2. ``l2``: Euclidean. ``inner_product``: the negative product, so that near is small."""
METRICS: Final = ("cosine", "l2", "inner_product")

Floats = NDArray[np.float32]
_Doubles = NDArray[np.float64]

_EPSILON: Final = float(np.finfo(np.float32).eps)
# Twice what a product of float32 loses at most where it is too small for all its digits.
_SMALLEST: Final = 2.0**-149


def score(metric: Metric, distance: float) -> float:
    """Return how alike two vectors are: cosine -1 to 1, ``1 / (1 + l2)``, or the inner product; greater is nearer.

    >>> score("cosine", 0.25), score("l2", 3.0), score("inner_product", -2.0)
    (0.75, 0.25, 2.0)
    """
    if metric == "cosine":
        return 1.0 - distance
    return 1.0 / (1.0 + distance) if metric == "l2" else -distance


def distances(matrix: Floats, query: Floats, metric: Metric) -> _Doubles:
    """Return the distance of every row of ``(count, dimension)``; NaN under cosine for a row without a direction."""
    rows, wanted = matrix.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        rows -= wanted
        return np.asarray(np.sqrt((rows * rows).sum(axis=1)))
    products = (rows * wanted).sum(axis=1)
    if metric == "inner_product":
        # The zero of an orthogonal row has one sign on every backend.
        return np.asarray(0.0 - products)
    lengths = np.sqrt((rows * rows).sum(axis=1)) * np.sqrt((wanted * wanted).sum())
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1.0 - np.clip(products / lengths, -1.0, 1.0))


def nearest(matrix: Floats, ids: Sequence[str], query: Floats, metric: Metric, k: int) -> list[tuple[float, str, int]]:
    """Return distance, id and row of the ``k`` nearest rows, nearest first, ties by id.

    Rows without a direction have no cosine distance and are left out.
    """
    chosen = _worthwhile(matrix, query, metric, k)
    exact = distances(matrix[chosen], query, metric)
    found = sorted(
        (float(distance), ids[row], int(row))
        for distance, row in zip(exact.tolist(), chosen.tolist(), strict=True)
        if distance == distance  # noqa: PLR0124 - NaN is the one that does not equal itself
    )
    return found[:k]


def reach(metric: Metric, dimension: int) -> tuple[float, float]:
    """Return ``(stretch, slack)``, by which cosine or Euclidean distances in float32 tell what may be near.

    Whoever measures each row in float32, and keeps the rows up to the ``k``-th distance times ``stretch`` plus ``slack``,
    keeps the ``k`` nearest.

    A sum of ``n`` float32 products, added in whatever order, is off by ``n * epsilon / 2`` of the sum of their sizes, and by
    what vanishes below the smallest number; a cosine is made of three such sums, a Euclidean distance of the root of one.
    The bound holds for lengths from 1e-18 to 1e18 and zero, and has room for the roots, the quotient and the last rounding.
    """
    error = _EPSILON * (1.25 * dimension + 16)
    if metric == "cosine":
        return 1.0, 2.0 * error
    stretch = (1.0 + error) / (1.0 - error)
    return stretch, (stretch + 1.0) * math.sqrt(dimension * _SMALLEST)


def diverse(query: Floats, candidates: Floats, k: int, balance: float, metric: Metric) -> list[int]:
    """Return rows of ``candidates`` by maximal marginal relevance, in the order they are chosen.

    ``balance`` 1 asks for nearness to the query alone, 0 for difference from what is chosen already.
    """
    near = _alike(candidates, query, metric)
    chosen: list[int] = []
    repeats = np.full(len(candidates), -np.inf)
    open_rows = np.ones(len(candidates), dtype=bool)
    while len(chosen) < min(k, len(candidates)):
        worth = balance * near - (1.0 - balance) * (repeats if chosen else np.zeros(len(candidates)))
        worth[~open_rows] = -np.inf
        best = int(np.argmax(worth))
        chosen.append(best)
        open_rows[best] = False
        repeats = np.maximum(repeats, _alike(candidates, candidates[best], metric))
    return chosen


def _alike(rows: Floats, query: Floats, metric: Metric) -> _Doubles:
    found = distances(rows, query, metric)
    if metric == "cosine":
        return 1.0 - found
    return 1.0 / (1.0 + found) if metric == "l2" else -found


def _worthwhile(matrix: Floats, query: Floats, metric: Metric, k: int) -> NDArray[np.intp]:
    """Return the rows that may be among the ``k`` nearest, whatever the float32 product rounded."""
    count, dimension = matrix.shape
    if count <= k:
        return np.arange(count)
    error = _EPSILON * (dimension / 4 + 16)
    # By one thread: a product that a library spreads over all cores waits for those that others use, and takes ten times longer.
    products = np.einsum("ij,j->i", matrix, query)
    if metric == "inner_product":
        lengths = _lengths(matrix) * float(np.sqrt(query.astype(np.float64) @ query))
        return _within(-products.astype(np.float64), lengths * error, k)
    lengths = _lengths(matrix)
    length = float(np.sqrt(query.astype(np.float64) @ query))
    if metric == "cosine":
        with np.errstate(invalid="ignore", divide="ignore"):
            found = 1.0 - products / (lengths * length)
        found[lengths == 0] = np.inf
        return _within(found, np.full(count, error), k)
    squares = lengths * lengths + length * length - 2.0 * products
    return _within(squares, (lengths + length) ** 2 * error, k)


def _lengths(matrix: Floats) -> _Doubles:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", matrix, matrix).astype(np.float64)))


def _within(found: NDArray[Any], errors: _Doubles, k: int) -> NDArray[np.intp]:
    limit = np.partition(found + errors, k - 1)[k - 1]
    return np.flatnonzero(found - errors <= limit)
