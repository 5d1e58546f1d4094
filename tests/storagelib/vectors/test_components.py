"""Distances, words and fusion by themselves: whatever is given, the fast way finds what the plain way finds."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from storage_sql import vector_indexes
from storagelib.components import terms
from storagelib.components.distances import distances, diverse, nearest, score
from storagelib.components.vectors import Candidate, Match, embeddings_of, fused

METRICS = ("cosine", "l2", "inner_product")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@st.composite
def hostile(draw: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw vectors of which many are the same, nearly the same, huge, tiny or zero."""
    seed, size = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([1, 2, 3, 17, 384]))
    random = np.random.default_rng(seed)
    base = random.standard_normal((8, size))
    rows = base[random.integers(0, 8, 60)] * random.choice([1.0, 1.0, 1 + 1e-7, -1.0, 0.0], (60, 1))
    scale = random.choice([1.0, 1.0, 1e-12, 1e12], (60, 1))
    query = base[0] if draw(st.booleans()) else random.standard_normal(size)
    return (rows * scale).astype(np.float32), query.astype(np.float32)


@given(hostile(), st.sampled_from(METRICS), st.integers(1, 70))
def test_the_nearest_are_the_nearest(drawn: tuple[Any, Any], metric: Any, k: int) -> None:
    """The rows that the fast product leaves are all that can be near, in float64, ties by id."""
    matrix, query = drawn
    ids = [f"{(n * 37) % 60:02}" for n in range(60)]
    exact = distances(matrix, query, metric)
    expected = sorted((float(d), ids[n], n) for n, d in enumerate(exact) if not math.isnan(d))
    assert nearest(matrix, ids, query, metric, k) == expected[:k]


@given(hostile(), st.sampled_from(METRICS))
def test_a_distance_does_not_depend_on_its_place(drawn: tuple[Any, Any], metric: Any) -> None:
    """Alone, among others, or turned around: the same bits."""
    matrix, query = drawn
    together = distances(matrix, query, metric)
    alone = np.concatenate([distances(matrix[n : n + 1], query, metric) for n in range(len(matrix))])
    turned = distances(np.ascontiguousarray(matrix[::-1]), query, metric)[::-1]
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(turned).tobytes()


@given(st.text(max_size=200))
def test_terms_are_words_of_their_own(text: str) -> None:
    """Each term is one term, sorted, once, and without what separates or quotes; case does not matter."""
    found = terms.terms_of(text)
    assert found == sorted(set(found))
    for term in found:
        assert terms.terms_of(term) in ([term], sorted(terms.terms_of(term)))
        assert not set(term) & set(" '\\\t\n:|&!()*<>_-")
    kept = terms.stored(text)
    assert kept is not None
    assert terms.matching(kept, found) == found
    assert kept.split() == found
    assert terms.terms_of(f"{text} {text}") == found


@given(st.dictionaries(st.text(max_size=3), st.lists(st.sampled_from("abcd"), min_size=1, unique=True), max_size=20))
def test_ranks_follow_scores(hits: dict[str, list[str]]) -> None:
    """A better score has a smaller rank, equal ones share it, and the best is first."""
    found = terms.ranked(hits)
    assert found.keys() == hits.keys()
    for rank, value in found.values():
        assert rank == 1 + sum(other > value for _, other in found.values())
        assert value > 0


def test_more_words_never_make_a_text_worse() -> None:
    """A text with all of another's words and more is before it."""
    found = terms.ranked({"one": ["a"], "both": ["a", "b"], "other": ["b"]})
    assert found["both"][0] == 1
    assert found["one"] == found["other"]


def test_scores_grow_when_distances_shrink() -> None:
    """For every metric, so that a threshold cuts a list at its end."""
    for metric in METRICS:
        scores = [score(metric, distance) for distance in (0.0, 0.5, 1.0, 2.0)]  # type: ignore[arg-type]
        assert scores == sorted(scores, reverse=True)


def test_diverse_choices_are_all_different() -> None:
    """Every candidate is chosen once at most, the nearest first when nearness counts at all."""
    candidates = np.random.default_rng(1).standard_normal((30, 8), dtype=np.float32)
    query = candidates[7]
    for balance in (0.0, 0.5, 1.0):
        chosen = diverse(query, candidates, 30, balance, "cosine")
        assert sorted(chosen) == list(range(30))
    assert diverse(query, candidates, 1, 0.5, "cosine") == [7]
    ranked = [row for _, _, row in nearest(candidates, [f"{n:02}" for n in range(30)], query, "cosine", 30)]
    assert diverse(query, candidates, 30, 1.0, "cosine") == ranked


def candidate(id_: str, distance: float, vector: int | None, text: int | None, worth: float) -> Candidate:
    """Make a candidate of a hybrid search."""
    match = Match(id_, distance, 1 - distance, "", None, {}, None, None, NOW, NOW, None)
    return Candidate(match, vector, text, worth)


def test_fusion_by_ranks_and_by_scores() -> None:
    """Ranks add up reciprocally; scores add up by their weights; ties go by distance, then id."""
    candidates = [
        candidate("b", 0.2, 2, 1, 4.0),
        candidate("a", 0.2, 2, 1, 4.0),
        candidate("near", 0.0, 1, None, 0.0),
        candidate("word", 1.0, None, 3, 1.0),
    ]
    found = fused(candidates, 4, "rrf", (1.0, 1.0), 60, "cosine")
    assert [each.id for each in found] == ["a", "b", "near", "word"]
    assert found[0].score == pytest.approx(1 / 62 + 1 / 61)
    found = fused(candidates, 4, "weighted", (1.0, 1.0), 60, "cosine")
    assert [each.score for each in found] == pytest.approx([1.9, 1.9, 1.0, 0.75])
    assert [each.id for each in fused(candidates, 2, "rrf", (1.0, 0.0), 60, "cosine")] == ["near", "a"]
    assert fused([], 3, "rrf", (1.0, 1.0), 60, "l2") == []


def test_thresholds_fall_with_the_dimension() -> None:
    """From 7,000 rows to 3,000, without a step."""
    found = [vector_indexes.exact_scan_threshold(dimension) for dimension in range(1, 16_001)]
    assert found[0] == 7_000
    assert found[-1] == 3_000
    assert all(0 <= before - after <= 6 for before, after in itertools.pairwise(found))


def test_a_float32_array_is_copied_once() -> None:
    """What is kept is contiguous, read-only, and nobody else's."""
    given_ = np.asfortranarray(np.ones((3, 4), np.float32))
    kept = embeddings_of(given_)
    assert kept.flags.c_contiguous
    assert not kept.flags.writeable
    assert not np.shares_memory(kept, given_)
