"""How a bulk write is divided into statements: every row once and in order, each statement of a bounded size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storagelib._sync.postgres import vectors
from storagelib.components.vectors import NewVectors

_STATEMENT = 1 << 20


def _new(
    count: int, dimension: int, contents: list[str | None] | None = None, metadata: str | None = None
) -> NewVectors:
    return NewVectors(
        [f"v{place}" for place in range(count)],
        np.ones((count, dimension), np.float32),
        [""] * count,
        [None] * count if contents is None else contents,
        ["{}"] * count if metadata is None else [metadata.replace("n", str(place)) for place in range(count)],
        [None] * count,
        [None] * count,
    )


@pytest.mark.parametrize(
    "new",
    [
        _new(1, 768),
        _new(10, 1),
        _new(668, 768),
        _new(677, 768),
        _new(678, 768),
        _new(3_000, 768),
        _new(40, 16_000),
        _new(3_000, 384, metadata='{"n":n}'),
        _new(40, 4, contents=["x" * 400_000] * 40),
        _new(3, 4, contents=["x" * 4_000_000, None, "y"]),
        _new(1_365, 384, contents=["x"] * 1_365),
    ],
    ids=lambda new: f"{len(new.ids)}x{new.dimension}",
)
@pytest.mark.parametrize("verb", ["insert", "upsert"])
def test_every_row_is_in_one_statement(new: NewVectors, verb: str) -> None:
    """The first statement carries at most twice what the others do, but for one row that is larger on its own."""
    parts = [values for _, values in vectors._batches(verb, new)]
    assert [id_ for part in parts for id_ in part["ids"]] == new.ids
    assert np.concatenate([part["embeddings"] for part in parts]).shape == new.embeddings.shape
    for place, part in enumerate(parts):
        sizes = _sizes(part)
        most = _STATEMENT * (1 if place else 2)
        assert len(part["ids"]) == len(part["embeddings"]) >= 1
        # The row that fills a statement is the last one in it.
        assert sum(sizes[:-1]) < most
        if place + 1 < len(parts):
            assert sum(sizes) > 0.9 * most or sum(sizes) + max(sizes) > most


def _sizes(part: Any) -> list[int]:
    rows = zip(part["embeddings"], part.get("contents") or [None] * len(part["ids"]), strict=True)
    # The terms of a content may be as long as itself.
    return [4 * len(embedding) + 2 * len(content or "") for embedding, content in rows]
