"""The vectors."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storagelib.components.vectors import VectorBatch
from storagelib.errors import AlreadyExists, InvalidInput, NotFound

SIZE = 128
OTHER = 384
HOSTILE = [
    "'; DROP TABLE vector_embeddings_128; --",
    "%",
    "_",
    "a\\b",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    " ",
    "\n",
]
METRICS = ["cosine", "l2", "inner_product"]


def drawn(count: int, seed: int = 1, size: int = SIZE) -> NDArray[np.float32]:
    """Return random vectors."""
    return np.random.default_rng(seed).standard_normal((count, size), dtype=np.float32)


def axis(place: int, length: float = 1.0, size: int = SIZE) -> NDArray[np.float32]:
    """Return a vector along one axis."""
    vector = np.zeros(size, np.float32)
    vector[place] = length
    return vector


def far(matrix: NDArray[np.float32], query: NDArray[np.float32], metric: str) -> NDArray[np.float64]:
    """Return distances by their definition."""
    rows, wanted = matrix.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return np.asarray(np.linalg.norm(rows - wanted, axis=1))
    if metric == "inner_product":
        return np.asarray(-(rows @ wanted))
    return np.asarray(1 - rows @ wanted / (np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted)))


async def ids_of(listing: AsyncIterator[Any]) -> list[str]:
    """Return the ids of an iteration."""
    return [vector.id async for vector in listing]


# Writing -------------------------------------------------------------------------------------


async def test_what_is_inserted_is_got(tenant: Any) -> None:
    """Every field comes back, the embedding bit for bit."""
    embedding = drawn(1)[0]
    embedding[:4] = [np.float32(1e-45), np.float32(-0.0), np.float32(0.1), np.float32(-1e10)]
    metadata = {"a": 1, "b": [1.5, None, {"c": "d"}]}
    await tenant.vectors.insert(
        "one", embedding, scope="s", content="A text.", metadata=metadata, document_id="doc", position=3
    )
    found = await tenant.vectors.get("one", dimension=SIZE)
    assert found.embedding.tobytes() == embedding.tobytes()
    assert (found.id, found.scope, found.content, dict(found.metadata)) == ("one", "s", "A text.", metadata)
    assert (found.document_id, found.position, found.dimension) == ("doc", 3, SIZE)
    assert found.created_at == found.updated_at
    assert found.created_at.utcoffset() == timedelta(0)
    assert not found.embedding.flags.writeable


async def test_what_is_left_out_is_empty(tenant: Any) -> None:
    """A vector alone has no scope, text, metadata or document."""
    await tenant.vectors.insert("one", drawn(1)[0])
    found = await tenant.vectors.get("one", dimension=SIZE)
    assert (found.scope, found.content, dict(found.metadata), found.document_id, found.position) == (
        "",
        None,
        {},
        None,
        None,
    )
    assert await tenant.vectors.get("two", dimension=SIZE) is None
    assert await tenant.vectors.get("one", dimension=OTHER) is None


@pytest.mark.parametrize(
    "given",
    [
        lambda values: values,
        lambda values: values.astype(np.float64),
        lambda values: values.astype(">f4"),
        lambda values: [float(value) for value in values],
        tuple,
        lambda values: values.tobytes(),
        lambda values: np.repeat(values, 2)[::2],
    ],
    ids=["float32", "float64", "big-endian", "list", "tuple", "bytes", "strided"],
)
async def test_vectors_are_taken_in_many_forms(tenant: Any, given: Any) -> None:
    """Arrays, numbers and bytes are the same vector."""
    values = drawn(1)[0]
    await tenant.vectors.insert("one", given(values))
    assert (await tenant.vectors.get("one", dimension=SIZE)).embedding.tobytes() == values.tobytes()
    assert [match.id for match in await tenant.vectors.search(given(values))] == ["one"]


async def test_a_vector_is_copied_when_it_is_given(tenant: Any) -> None:
    """Changing the array afterwards changes nothing that is stored."""
    values = drawn(2)
    kept = values.copy()
    await tenant.vectors.insert_many(["a", "b"], values)
    values[:] = 0
    found = await tenant.vectors.get_many(["a", "b"], dimension=SIZE)
    assert np.array_equal(np.stack([vector.embedding for vector in found.values()]), kept)


async def test_an_id_is_taken_once(tenant: Any) -> None:
    """Inserting again is refused and changes nothing; another dimension has ids of its own."""
    await tenant.vectors.insert("one", axis(0), content="first")
    with pytest.raises(AlreadyExists):
        await tenant.vectors.insert("one", axis(1), content="second")
    assert (await tenant.vectors.get("one", dimension=SIZE)).content == "first"
    await tenant.vectors.insert("one", axis(0, size=OTHER))
    assert await tenant.vectors.dimensions() == (SIZE, OTHER)


async def test_many_are_inserted_or_none(tenant: Any) -> None:
    """One taken id among many keeps all from being written."""
    await tenant.vectors.insert("c", axis(0))
    with pytest.raises(AlreadyExists):
        await tenant.vectors.insert_many(["a", "b", "c"], drawn(3))
    assert await tenant.vectors.count(dimension=SIZE) == 1
    assert await tenant.vectors.insert_many([], np.empty((0, SIZE), np.float32)) == 0


async def test_large_batches_are_one_transaction(tenant: Any) -> None:
    """However many statements a backend needs, the last row's fault takes the first one back."""
    count = 9_000
    matrix, ids = drawn(count), [f"v{n}" for n in range(count)]
    await tenant.vectors.insert(ids[-1], matrix[0], content="before")
    with pytest.raises(AlreadyExists):
        await tenant.vectors.insert_many(ids, matrix)
    assert await tenant.vectors.count(dimension=SIZE) == 1
    assert await tenant.vectors.upsert_many(ids, matrix, contents=[f"word{n}" for n in range(count)]) == count - 1
    assert await tenant.vectors.count(dimension=SIZE) == count
    found = await tenant.vectors.get_many(ids[::997], dimension=SIZE)
    assert list(found) == ids[::997]
    assert all(found[id_].embedding.tobytes() == matrix[int(id_[1:])].tobytes() for id_ in found)
    assert (await tenant.vectors.get(ids[-1], dimension=SIZE)).content == f"word{count - 1}"
    assert await tenant.vectors.delete_many(ids, dimension=SIZE) == count


async def test_columns_hold_for_all_or_for_each(tenant: Any) -> None:
    """Scope, metadata and document are one for all rows, or one for each."""
    ids = ["a", "b"]
    await tenant.vectors.insert_many(ids, drawn(2), scope="s", metadata={"n": 1}, document_id="d", positions=[0, 1])
    found = await tenant.vectors.get_many(ids, dimension=SIZE)
    assert [(v.scope, dict(v.metadata), v.document_id, v.position) for v in found.values()] == [
        ("s", {"n": 1}, "d", 0),
        ("s", {"n": 1}, "d", 1),
    ]
    await tenant.vectors.upsert_many(
        ids, drawn(2), scope=["x", "y"], metadata=[None, {"n": 2}], document_id=[None, "e"], contents=["text", None]
    )
    found = await tenant.vectors.get_many(ids, dimension=SIZE)
    assert [(v.scope, dict(v.metadata), v.document_id, v.position, v.content) for v in found.values()] == [
        ("x", {}, None, None, "text"),
        ("y", {"n": 2}, "e", None, None),
    ]


async def test_upsert_replaces_all_but_the_creation(tenant: Any) -> None:
    """It tells whether the id is new, and leaves nothing of what was there."""
    assert await tenant.vectors.upsert("one", axis(0), content="old", metadata={"a": 1}, scope="s", document_id="d")
    before = await tenant.vectors.get("one", dimension=SIZE)
    assert not await tenant.vectors.upsert("one", axis(1))
    after = await tenant.vectors.get("one", dimension=SIZE)
    assert (after.content, dict(after.metadata), after.scope, after.document_id) == (None, {}, "", None)
    assert after.embedding[1] == 1.0
    assert after.created_at == before.created_at
    assert after.updated_at >= before.updated_at
    assert await tenant.vectors.upsert_many(["one", "two"], drawn(2)) == 1


async def test_a_stream_is_written_batch_by_batch(tenant: Any) -> None:
    """Each batch is a transaction: when one fails, those before it stay."""

    async def batches() -> AsyncIterator[VectorBatch]:
        """Give three batches."""
        for start in range(3):
            yield VectorBatch([f"{start}-{n}" for n in range(5)], drawn(5, start), scope=str(start))

    assert await tenant.vectors.insert_stream(batches()) == 15
    await tenant.vectors.delete("0-0", dimension=SIZE)
    with pytest.raises(AlreadyExists):
        await tenant.vectors.insert_stream(batches())
    assert await tenant.vectors.count(dimension=SIZE) == 14


async def test_update_changes_what_is_given(tenant: Any) -> None:
    """Every other field stays; None empties a text, a document and a position."""
    await tenant.vectors.insert(
        "one", axis(0), scope="s", content="a b", metadata={"a": 1}, document_id="d", position=1
    )
    before = await tenant.vectors.get("one", dimension=SIZE)
    changed = await tenant.vectors.update("one", dimension=SIZE, content="c d", position=2)
    assert changed == await tenant.vectors.get("one", dimension=SIZE)
    assert (changed.content, changed.position, changed.scope, dict(changed.metadata)) == ("c d", 2, "s", {"a": 1})
    assert changed.embedding.tobytes() == before.embedding.tobytes()
    assert changed.created_at == before.created_at
    assert changed.updated_at >= before.updated_at
    changed = await tenant.vectors.update(
        "one", embedding=axis(2), scope="t", content=None, metadata={"b": 2}, document_id=None, position=None
    )
    assert (changed.content, changed.position, changed.scope, changed.document_id) == (None, None, "t", None)
    assert (dict(changed.metadata), changed.embedding[2]) == ({"b": 2}, 1.0)
    assert [match.id for match in await tenant.vectors.search(axis(2), scope="t")] == ["one"]


async def test_update_refuses_what_cannot_be(tenant: Any) -> None:
    """No vector, nothing to change, and a dimension that is not the embedding's."""
    await tenant.vectors.insert("one", axis(0))
    with pytest.raises(NotFound):
        await tenant.vectors.update("two", dimension=SIZE, scope="s")
    with pytest.raises(NotFound):
        await tenant.vectors.update_metadata("two", {"a": 1}, dimension=SIZE)
    for arguments in ({"dimension": SIZE}, {"scope": "s"}, {"embedding": axis(0), "dimension": OTHER}):
        with pytest.raises(InvalidInput):
            await tenant.vectors.update("one", **arguments)


async def test_metadata_is_laid_over_or_replaced(tenant: Any) -> None:
    """Laying over goes by the keys at the top; null is a value."""
    await tenant.vectors.insert("one", axis(0), metadata={"a": {"x": 1}, "b": 2})
    changed = await tenant.vectors.update_metadata("one", {"a": {"y": 1}, "c": None}, dimension=SIZE)
    assert dict(changed.metadata) == {"a": {"y": 1}, "b": 2, "c": None}
    changed = await tenant.vectors.update_metadata("one", {"d": 1}, dimension=SIZE, replace=True)
    assert dict(changed.metadata) == {"d": 1}
    assert changed == await tenant.vectors.get("one", dimension=SIZE)


async def test_deleting_counts_what_was_there(tenant: Any) -> None:
    """By id, several ids, condition, scope, document, and all."""
    await tenant.vectors.insert_many(
        [f"v{n}" for n in range(10)],
        drawn(10),
        scope=["a/1", "a/2"] * 5,
        metadata=[{"n": n} for n in range(10)],
        document_id=["d"] * 3 + [None] * 7,
    )
    vectors = tenant.vectors
    assert await vectors.delete("v0", dimension=SIZE)
    assert not await vectors.delete("v0", dimension=SIZE)
    assert await vectors.delete_many(["v0", "v1", "v1", "other"], dimension=SIZE) == 1
    assert await vectors.delete_document("d", dimension=SIZE) == 1
    assert await vectors.delete_document("d", dimension=SIZE) == 0
    assert await vectors.delete_where({"n": {"$gte": 8}}, dimension=SIZE, scope="a/1") == 1
    assert await vectors.delete_where({"n": {"$lt": 5}}, dimension=SIZE, scope_prefix="b") == 0
    assert await vectors.delete_where(scope=["a/2", "other"], dimension=SIZE) == 4
    with pytest.raises(InvalidInput, match="no condition"):
        await vectors.delete_where(dimension=SIZE)
    assert await ids_of(vectors.vectors(dimension=SIZE)) == ["v4", "v6"]
    assert await vectors.clear(dimension=SIZE) == 2
    assert await vectors.clear(dimension=SIZE) == 0
    assert await vectors.dimensions() == ()


# Searching -----------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
async def test_the_nearest_come_first(tenant: Any, metric: Any) -> None:
    """Distances and order are those of the definition, computed in float64."""
    matrix, query = drawn(200), drawn(1, 2)[0]
    ids = [f"v{n:03}" for n in range(200)]
    await tenant.vectors.insert_many(ids, matrix)
    expected = sorted(zip(far(matrix, query, metric).tolist(), ids, strict=True))[:20]
    found = await tenant.vectors.search(query, 20, metric=metric)
    assert [match.id for match in found] == [id_ for _, id_ in expected]
    assert [match.distance for match in found] == pytest.approx([d for d, _ in expected], rel=1e-5, abs=1e-6)
    scores = {
        "cosine": lambda distance: 1 - distance,
        "l2": lambda distance: 1 / (1 + distance),
        "inner_product": lambda distance: -distance,
    }
    assert [match.score for match in found] == [scores[metric](match.distance) for match in found]
    assert found == sorted(found, key=lambda match: -match.score)


@pytest.mark.parametrize("metric", METRICS)
async def test_ties_are_in_order_of_their_ids(tenant: Any, metric: Any) -> None:
    """Equal vectors have equal distances wherever they stand, and ids decide by code points, also about who is left out."""
    vector, others = drawn(1)[0], drawn(40, 2) * np.float32(0.01) + drawn(1, 3)
    twins = ["Z", "a", "b", "\u00e9", "\uffff", "\U0001f600"]
    order = random.Random(1).sample(twins, len(twins))
    await tenant.vectors.insert_many([f"other{n}" for n in range(40)], others)
    for id_ in order:
        await tenant.vectors.insert(id_, vector)
    for k in (3, 6):
        found = await tenant.vectors.search(vector, k, metric=metric)
        assert [match.id for match in found] == sorted(twins)[:k]
        assert len({match.distance for match in found}) == 1


async def test_as_many_as_match_are_found(tenant: Any) -> None:
    """The result has min(k, matching) rows, whatever narrows the search."""
    assert await tenant.vectors.search(drawn(1)[0]) == []
    await tenant.vectors.insert_many(
        [f"v{n}" for n in range(50)], drawn(50), metadata=[{"n": n} for n in range(50)], scope=["a", "b"] * 25
    )
    for k, narrowed, expected in (
        (100, {}, 50),
        (7, {}, 7),
        (10, {"filter": {"n": {"$lt": 4}}}, 4),
        (10, {"filter": {"n": {"$lt": 4}}, "scope": "a"}, 2),
        (10, {"filter": {"n": 99}}, 0),
        (30, {"scope": ["a", "b", "c"]}, 30),
        (30, {"scope": []}, 0),
        (30, {"scope_prefix": "b"}, 25),
    ):
        assert len(await tenant.vectors.search(drawn(1, 9)[0], k, **narrowed)) == expected
        assert len(await tenant.vectors.search(drawn(1, 9)[0], k, exact=True, **narrowed)) == expected


async def test_scopes_narrow_a_search(tenant: Any) -> None:
    """One scope, several, and all that begin alike; no character of a prefix is special."""
    scopes = ["", "a", "a%", "a%b", "a_b", "ab", "b", "é", "\uffff"]
    await tenant.vectors.insert_many([*scopes[1:], "none"], drawn(len(scopes)), scope=[*scopes[1:], ""])
    query = drawn(1, 3)[0]

    async def found(**narrowed: Any) -> list[str]:
        """Return the scopes that a search finds."""
        return sorted(match.scope for match in await tenant.vectors.search(query, 100, **narrowed))

    assert await found() == sorted(scopes)
    for scope in scopes:
        assert await found(scope=scope) == [scope]
    assert await found(scope=["a", "é", "other"]) == ["a", "é"]
    assert await found(scope_prefix="a") == ["a", "a%", "a%b", "a_b", "ab"]
    assert await found(scope_prefix="a%") == ["a%", "a%b"]
    assert await found(scope_prefix="a_") == ["a_b"]
    assert await found(scope_prefix="\uffff") == ["\uffff"]
    assert await found(scope_prefix="") == sorted(scopes)


async def test_a_search_shows_what_is_asked_for(tenant: Any) -> None:
    """Embeddings only when they are wanted, texts unless they are not."""
    embedding = drawn(1)[0]
    await tenant.vectors.insert("a", embedding, content="text", metadata={"n": 1}, document_id="d", position=4)
    (plain,) = await tenant.vectors.search(embedding)
    assert (plain.embedding, plain.content, dict(plain.metadata)) == (None, "text", {"n": 1})
    assert (plain.document_id, plain.position, plain.scope) == ("d", 4, "")
    (shown,) = await tenant.vectors.search(embedding, include_embedding=True, include_content=False)
    assert shown.embedding.tobytes() == embedding.tobytes()
    assert shown.content is None
    stored = await tenant.vectors.get("a", dimension=SIZE)
    assert (plain.created_at, plain.updated_at) == (stored.created_at, stored.updated_at)


async def test_a_threshold_is_the_least_score(tenant: Any) -> None:
    """What scores less is not told."""
    await tenant.vectors.insert_many(["same", "half", "across"], np.stack([axis(0), axis(0) + axis(1), axis(1)]))
    assert [match.id for match in await tenant.vectors.search(axis(0), threshold=0.5)] == ["same", "half"]
    assert [match.id for match in await tenant.vectors.search(axis(0), threshold=0.9)] == ["same"]
    assert await tenant.vectors.search(axis(0), threshold=1.5) == []
    with pytest.raises(InvalidInput):
        await tenant.vectors.search(axis(0), threshold=float("nan"))


async def test_several_queries_find_what_each_finds(tenant: Any) -> None:
    """Searching together is searching one by one."""
    await tenant.vectors.insert_many([f"v{n}" for n in range(60)], drawn(60), scope=["a", "b", "c"] * 20)
    queries = drawn(5, 4)
    together = await tenant.vectors.search_many(queries, 8, scope=["a", "b"])
    alone = [await tenant.vectors.search(query, 8, scope=["a", "b"]) for query in queries]
    assert [[match.id for match in found] for found in together] == [[match.id for match in found] for found in alone]
    assert await tenant.vectors.search_many(np.empty((0, SIZE), np.float32)) == []


async def test_a_vector_without_direction(tenant: Any) -> None:
    """All zero: kept, found by l2 and inner product, never by cosine; as a query for cosine it is refused."""
    await tenant.vectors.insert_many(["zero", "one", "two"], np.stack([axis(0, 0.0), axis(0), axis(1)]))
    assert [match.id for match in await tenant.vectors.search(axis(0), 3)] == ["one", "two"]
    assert [match.id for match in await tenant.vectors.search(axis(0, 0.0), 3, metric="l2")] == ["zero", "one", "two"]
    found = await tenant.vectors.search(axis(0), 3, metric="inner_product")
    assert [(match.id, match.distance) for match in found] == [("one", -1.0), ("two", 0.0), ("zero", 0.0)]
    with pytest.raises(InvalidInput, match="direction"):
        await tenant.vectors.search(axis(0, 0.0))
    hybrid = await tenant.vectors.hybrid_search("x", axis(0), 3)
    assert [each.id for each in hybrid] == ["one", "two"]


async def test_mmr_prefers_what_is_different(tenant: Any) -> None:
    """The second choice is not the twin of the first, unless nearness is all that counts."""
    near, twin, other = axis(0) + axis(1, 0.1), axis(0) + axis(1, 0.11), axis(0) + axis(2, 0.5)
    await tenant.vectors.insert_many(["near", "twin", "other"], np.stack([near, twin, other]))
    assert [match.id for match in await tenant.vectors.mmr_search(axis(0), 2)] == ["near", "other"]
    assert [match.id for match in await tenant.vectors.mmr_search(axis(0), 2, balance=1.0)] == ["near", "twin"]
    assert [match.id for match in await tenant.vectors.mmr_search(axis(0), 2, fetch_k=2)] == ["near", "twin"]
    assert len(await tenant.vectors.mmr_search(axis(0), 9)) == 3
    assert await tenant.vectors.mmr_search(axis(0), 2, scope="none") == []


# Words ---------------------------------------------------------------------------------------

TEXTS = {
    "fox": "The quick brown fox",
    "dog": "The lazy DOG; the dog!",
    "straße": "Straße nach Köln",
    "fish": "ﬁsh and chips",
    "chinese": "你好 世界",
    "none": "",
    "hindi": "हिन्दी में",
    "quotes": "it's a 'quoted' \\ back:slash & | ! <-> (*)",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fox", {"fox"}),
        ("THE", {"fox", "dog"}),
        ("lazy fox", {"fox", "dog"}),
        ("STRASSE", {"straße"}),
        ("koln", set()),
        ("köln", {"straße"}),
        ("fish", {"fish"}),
        ("世", {"chinese"}),
        ("हिन्दी", {"hindi"}),
        ("quoted", {"quotes"}),
        ("back:* & !fox", {"quotes", "fox"}),
        ("quic", set()),
        ("'); DROP TABLE x; --", set()),
        ("' \\ : * & | ! <->", set()),
        ("", set()),
    ],
)
async def test_the_rows_whose_words_match(tenant: Any, text: str, expected: set[str]) -> None:
    """Words are compared by letters and digits, without case, in any order; nothing in a question is an operator."""
    ids = list(TEXTS)
    await tenant.vectors.insert_many([*ids, "untold"], drawn(len(ids) + 1), contents=[*TEXTS.values(), None])
    found = await tenant.vectors.hybrid_search(text, drawn(1, 5)[0], 100)
    assert len(found) == len(ids) + 1
    assert {each.id for each in found if each.text_rank is not None} == expected
    assert {each.id for each in found if each.text_score > 0} == expected


async def test_both_sides_count(tenant: Any) -> None:
    """Reciprocal ranks add up: what is near and matches comes before what is only one of both."""
    await tenant.vectors.insert_many(
        ["both", "near", "word", "none"],
        np.stack([axis(0) + axis(1, 0.3), axis(0), axis(2), axis(3)]),
        contents=["zebra", "other", "zebra", "other"],
    )
    found = await tenant.vectors.hybrid_search("zebra", axis(0), 3)
    assert [(each.id, each.vector_rank, each.text_rank) for each in found] == [
        ("both", 2, 1),
        ("word", 4, 1) if found[1].id == "word" else ("near", 1, None),
        *((("near", 1, None),) if found[1].id == "word" else (("word", 4, 1),)),
    ]
    assert found[0].score == pytest.approx(1 / 62 + 1 / 61)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    only_words = await tenant.vectors.hybrid_search("zebra", axis(0), 4, weights=(0.0, 1.0))
    assert [each.id for each in only_words[:2]] == ["both", "word"]
    only_vectors = await tenant.vectors.hybrid_search("zebra", axis(0), 4, weights=(1.0, 0.0))
    assert [each.id for each in only_vectors[:2]] == ["near", "both"]


async def test_rare_words_count_more(tenant: Any) -> None:
    """Of two that match one word each, the one with the rarer word is first; equals share a rank."""
    contents = ["common"] * 5 + ["rare"]
    await tenant.vectors.insert_many([f"v{n}" for n in range(6)], drawn(6), contents=contents)
    found = {each.id: each for each in await tenant.vectors.hybrid_search("rare common", drawn(1, 5)[0], 6)}
    assert found["v5"].text_rank == 1
    assert {found[f"v{n}"].text_rank for n in range(5)} == {2}
    assert found["v5"].text_score > found["v0"].text_score > 0


async def test_weighted_scores(tenant: Any) -> None:
    """With weights the sum is of scores from 0 to 1."""
    await tenant.vectors.insert_many(["near", "word"], np.stack([axis(0), axis(0, -1.0)]), contents=["other", "zebra"])
    found = await tenant.vectors.hybrid_search("zebra", axis(0), 2, fusion="weighted", weights=(0.6, 0.4))
    assert [(each.id, each.score) for each in found] == [
        ("near", pytest.approx(0.6)),
        ("word", pytest.approx(0.4)),
    ]


async def test_hybrid_search_keeps_to_its_conditions(tenant: Any) -> None:
    """Scope and filter bind both sides, and a text that matched far away is a candidate too."""
    count = 120
    await tenant.vectors.insert_many(
        [f"v{n:03}" for n in range(count)],
        np.stack([axis(0) + axis(1, n / 10) for n in range(count)]),
        contents=["filler"] * (count - 1) + ["needle"],
        scope=["a", "b"] * (count // 2),
        metadata=[{"n": n} for n in range(count)],
    )
    found = await tenant.vectors.hybrid_search("needle", axis(0), 2, candidates=5)
    assert {each.id for each in found} == {"v000", "v119"}
    assert (found[0].vector_rank, found[1].vector_rank) in {(1, None), (None, 1)}
    found = await tenant.vectors.hybrid_search("needle filler", axis(0), 5, scope="a", filter={"n": {"$lt": 6}})
    assert [each.id for each in found] == ["v000", "v002", "v004"]
    changed = await tenant.vectors.update("v119", dimension=SIZE, content="hay")
    assert changed.content == "hay"
    found = await tenant.vectors.hybrid_search("needle", axis(0), 2, candidates=5)
    assert {each.text_rank for each in found} == {None}


async def test_a_long_text_is_kept_and_found(tenant: Any) -> None:
    """A text of many different and very long words is written, and its first words are found."""
    content = "first " + " ".join(f"{n}word" * 40 for n in range(1_500)) + " " + "x" * 5_000
    await tenant.vectors.insert("long", axis(0), content=content)
    assert (await tenant.vectors.get("long", dimension=SIZE)).content == content
    (found,) = await tenant.vectors.hybrid_search("FIRST", axis(0))
    assert found.text_rank == 1


# Listing -------------------------------------------------------------------------------------


async def test_listing_goes_by_scope_creation_and_id(tenant: Any) -> None:
    """Pages of any size give the same order, under any condition."""
    await tenant.vectors.insert_many(["b", "a"], drawn(2), scope="z", metadata={"n": 1})
    await tenant.vectors.insert_many(["d", "c"], drawn(2), scope="z/1", metadata={"n": 2})
    await tenant.vectors.insert_many(["f", "e"], drawn(2), scope="", metadata={"n": 1})
    expected = ["e", "f", "a", "b", "c", "d"]
    for limit in (1, 2, 3, 100):
        seen: list[str] = []
        cursor = None
        while True:
            page = await tenant.vectors.list_vectors(dimension=SIZE, cursor=cursor, limit=limit)
            assert len(page) <= limit
            seen += [vector.id for vector in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == expected
    assert await ids_of(tenant.vectors.vectors(dimension=SIZE)) == expected
    assert await ids_of(tenant.vectors.vectors({"n": 1}, dimension=SIZE)) == ["e", "f", "a", "b"]
    assert await ids_of(tenant.vectors.vectors(dimension=SIZE, scope="z")) == ["a", "b"]
    assert await ids_of(tenant.vectors.vectors({"n": 2}, dimension=SIZE, scope_prefix="z")) == ["c", "d"]
    assert await tenant.vectors.count(dimension=SIZE, scope_prefix="z") == 4
    assert await tenant.vectors.count({"n": 1}, dimension=SIZE, scope=["z", "z/1"]) == 2
    with pytest.raises(InvalidInput):
        await tenant.vectors.list_vectors(dimension=SIZE, cursor="made up")


async def test_a_document_is_read_in_its_order(tenant: Any) -> None:
    """By position, then id; parts without a position come last, other documents never."""
    await tenant.vectors.insert_many(
        ["x", "b", "a", "last", "other"],
        drawn(5),
        document_id=["d", "d", "d", "d", "e"],
        positions=[0, 5, 5, None, 0],
    )
    for limit in (1, 2, 10):
        seen: list[str] = []
        cursor = None
        while True:
            page = await tenant.vectors.list_document("d", dimension=SIZE, cursor=cursor, limit=limit)
            seen += [vector.id for vector in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == ["x", "a", "b", "last"]
    assert len(await tenant.vectors.list_document("none", dimension=SIZE)) == 0


async def test_scopes_are_counted(tenant: Any) -> None:
    """In order of their code points, page by page, those that begin alike."""
    scopes = ["b", "a", "a/1", "a/1", "", "é", "\U0001f600", "a%"]
    await tenant.vectors.insert_many([f"v{n}" for n in range(len(scopes))], drawn(len(scopes)), scope=scopes)
    page = await tenant.vectors.scopes(dimension=SIZE)
    assert [(each.scope, each.vectors) for each in page] == [
        ("", 1),
        ("a", 1),
        ("a%", 1),
        ("a/1", 2),
        ("b", 1),
        ("é", 1),
        ("\U0001f600", 1),
    ]
    first = await tenant.vectors.scopes("a", dimension=SIZE, limit=2)
    rest = await tenant.vectors.scopes("a", dimension=SIZE, limit=2, cursor=first.cursor)
    assert [each.scope for each in [*first, *rest]] == ["a", "a%", "a/1"]
    assert rest.cursor is None


async def test_statistics(tenant: Any) -> None:
    """Vectors, scopes, documents and bytes are counted; without an index every search is exact."""
    empty = await tenant.vectors.stats(SIZE)
    assert (empty.vectors, empty.scopes, empty.documents, empty.bytes) == (0, 0, 0, 0)
    await tenant.vectors.insert_many(
        ["a", "b", "c"], drawn(3), scope=["x", "x", "y"], contents=["é", None, "ab"], document_id=["d", None, "d"]
    )
    stats = await tenant.vectors.stats(SIZE)
    assert (stats.dimension, stats.vectors, stats.scopes, stats.documents) == (SIZE, 3, 2, 1)
    assert stats.bytes == 3 * 4 * SIZE + 4
    assert stats.exact
    assert stats.indexes == ()
    assert stats.exact_scan_threshold == 7_000


async def test_recall_is_measured(tenant: Any) -> None:
    """Exact searches find all; nothing to find is no failure."""
    nothing = await tenant.vectors.measure_recall(SIZE)
    assert (nothing.queries, nothing.recall) == (0, 1.0)
    await tenant.vectors.insert_many([f"v{n}" for n in range(30)], drawn(30))
    measured = await tenant.vectors.measure_recall(SIZE, k=5, sample=10)
    assert (measured.queries, measured.k, measured.recall) == (10, 5, 1.0)
    assert measured.chosen_seconds > 0
    assert measured.exact_seconds > 0


# What cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "embedding",
    [
        [],
        b"",
        b"\0\0\0",
        None,
        "text",
        3,
        ["a"],
        [[1.0, 2.0]],
        [1.0, float("nan")],
        [float("inf"), 1.0],
        [1e39, 1.0],
        [1e30, 1e30],
        [1e-30, 0.0],
        [True, False],
        [1 + 2j],
        {"a": 1},
        np.zeros(16_001, np.float32),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_embeddings_that_cannot_be_kept_are_refused(tenant: Any, embedding: Any) -> None:
    """Every verb refuses them before anything is sent."""
    calls = (
        tenant.vectors.insert("a", embedding),
        tenant.vectors.upsert("a", embedding),
        tenant.vectors.insert_many(["a"], [embedding]),
        tenant.vectors.search(embedding),
        tenant.vectors.search_many([embedding]),
        tenant.vectors.mmr_search(embedding),
        tenant.vectors.hybrid_search("a", embedding),
    )
    for call in calls:
        with pytest.raises(InvalidInput):
            await call
    assert await tenant.vectors.dimensions() == ()


async def test_arguments_that_cannot_be_are_refused(tenant: Any) -> None:
    """Ids, scopes, sizes, numbers and filters outside their limits; nothing is written."""
    vectors, good = tenant.vectors, axis(0)
    impossible: list[Any] = [{"a": float("nan")}, [], {"a": "\0"}, {1: 2}]
    for call in (
        *(vectors.insert(id_, good) for id_ in ("", "x" * 256, "a\0b", "\ud800", None, 3)),
        *(vectors.insert("a", good, scope=scope) for scope in ("x" * 256, "\0", None)),
        *(vectors.insert("a", good, content=content) for content in ("\0", "\ud800", 3, "x" * (2**20 + 1))),
        *(vectors.insert("a", good, metadata=data) for data in impossible),
        *(vectors.insert("a", good, document_id=document) for document in ("", "x" * 256, 4)),
        *(vectors.insert("a", good, position=position) for position in (-1, 2**63 - 1, True, "1")),
        vectors.insert_many(["a", "a"], drawn(2)),
        vectors.insert_many(["a"], drawn(2)),
        vectors.insert_many("ab", drawn(2)),
        vectors.insert_many(["a", "b"], [axis(0), axis(0, size=OTHER)]),
        vectors.insert_many(["a", "b"], drawn(2), scope=["a"]),
        vectors.insert_many(["a", "b"], drawn(2), contents=["a"]),
        *(vectors.search(good, k) for k in (0, -1, 10_001, True, 1.5, None)),
        *(vectors.search(good, ef_search=size) for size in (0, 1_001, "a")),
        vectors.search(good, metric="manhattan"),
        vectors.search(good, filter={"$nope": 1}),
        vectors.search(good, scope_prefix="\0"),
        vectors.search(good, scope=[3]),
        vectors.mmr_search(good, balance=1.5),
        vectors.mmr_search(good, 10, fetch_k=5),
        vectors.hybrid_search(3, good),
        vectors.hybrid_search("a", good, fusion="other"),
        vectors.hybrid_search("a", good, weights=(1.0,)),
        vectors.hybrid_search("a", good, weights=(-1.0, 1.0)),
        vectors.hybrid_search("a", good, rrf_k=0),
        *(vectors.get("a", dimension=size) for size in (0, 16_001, "128", None, True)),
        vectors.count(dimension=0),
        vectors.stats(0),
        vectors.delete_many("ab", dimension=SIZE),
        vectors.list_vectors(dimension=SIZE, limit=0),
        vectors.measure_recall(SIZE, sample=0),
    ):
        with pytest.raises(InvalidInput):
            await call
    assert await vectors.count(dimension=SIZE) == 0


@pytest.mark.parametrize("text", HOSTILE)
async def test_texts_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No id, scope, content, document or metadata is taken for anything else."""
    await tenant.vectors.insert("other", axis(1), scope="o", document_id="o", content="o")
    await tenant.vectors.insert(text, axis(0), scope=text, document_id=text, content=text, metadata={text: text})
    found = await tenant.vectors.get(text, dimension=SIZE)
    assert (found.id, found.scope, found.document_id, found.content, dict(found.metadata)) == (
        *(text, text, text, text),
        {text: text},
    )
    assert [match.id for match in await tenant.vectors.search(axis(0), scope=text)] == [text]
    assert [match.id for match in await tenant.vectors.search(axis(0), scope_prefix=text)] == [text]
    assert [v.id for v in await tenant.vectors.list_document(text, dimension=SIZE)] == [text]
    assert len(await tenant.vectors.hybrid_search(text, axis(0))) == 2
    assert await tenant.vectors.delete_document(text, dimension=SIZE) == 1
    assert await tenant.vectors.count(dimension=SIZE) == 1


async def test_a_dimension_is_there_or_named(tenant: Any) -> None:
    """A backend takes any dimension, or says in every verb which component has to be applied for it."""
    try:
        await tenant.vectors.insert("a", [1.0, 2.0, 3.0])
    except InvalidInput:
        for call in (
            tenant.vectors.insert("a", [1.0, 2.0, 3.0]),
            tenant.vectors.search([1.0, 2.0, 3.0]),
            tenant.vectors.count(dimension=3),
            tenant.vectors.stats(3),
        ):
            with pytest.raises(InvalidInput, match=r"3 dimensions.*StorageComponent"):
                await call
        return
    assert (await tenant.vectors.get("a", dimension=3)).embedding.tolist() == [1.0, 2.0, 3.0]
    assert [match.id for match in await tenant.vectors.search([1.0, 2.0, 3.0])] == ["a"]
    assert await tenant.vectors.dimensions() == (3,)
    assert await tenant.vectors.count(dimension=4) == 0
    assert await tenant.vectors.delete_many(["a"], dimension=4) == 0


@pytest.mark.parametrize("size", [1536, 3072])
async def test_long_vectors(tenant: Any, size: int) -> None:
    """From 2,001 dimensions on, what is stored and told is float32 still."""
    matrix, query = drawn(80, 7, size), drawn(1, 8, size)[0]
    ids = [f"v{n:02}" for n in range(80)]
    await tenant.vectors.insert_many(ids, matrix, contents=["word"] * 80)
    for metric in METRICS:
        expected = sorted(zip(far(matrix, query, metric).tolist(), ids, strict=True))[:10]
        found = await tenant.vectors.search(query, metric=metric)
        assert [match.id for match in found] == [id_ for _, id_ in expected]
        assert [match.distance for match in found] == pytest.approx([d for d, _ in expected], rel=1e-5, abs=1e-6)
    assert (await tenant.vectors.get("v07", dimension=size)).embedding.tobytes() == matrix[7].tobytes()
    assert len(await tenant.vectors.hybrid_search("word", query, 80)) == 80


async def test_half_precision_bounds(tenant: Any) -> None:
    """From 2,001 to 4,000 dimensions the length is bounded by what half precision holds."""
    for length in (1e5, 1e-3):
        with pytest.raises(InvalidInput, match="length"):
            await tenant.vectors.insert("a", axis(0, length, 3072))
    await tenant.vectors.insert("a", axis(0, 50_000.0, 3072))
    await tenant.vectors.insert("b", axis(0, 1e5, 1536))
    assert [match.id for match in await tenant.vectors.search(axis(0, 1.0, 3072))] == ["a"]


# Others --------------------------------------------------------------------------------------


async def test_the_neighbour_is_left_alone(tenant: Any, neighbour: Any) -> None:
    """No verb of one tenant shows or changes what another has under the same ids."""
    for each, seed in ((tenant, 1), (neighbour, 2)):
        await each.vectors.insert_many(
            ["a", "b", "c"], drawn(3, seed), scope="s", contents=["word"] * 3, metadata={"n": 1}, document_id="d"
        )

    async def state() -> list[Any]:
        """Return everything that the neighbour has."""
        return [vector async for vector in neighbour.vectors.vectors(dimension=SIZE)]

    before = await state()
    query = drawn(3, 2)[0]
    assert (await tenant.vectors.search(query, 1))[0].distance > 0.1
    assert (await neighbour.vectors.search(query, 1))[0].distance == pytest.approx(0, abs=1e-6)
    await tenant.vectors.upsert("a", axis(0))
    await tenant.vectors.upsert_many(["b", "d"], drawn(2, 5))
    await tenant.vectors.update("b", dimension=SIZE, scope="t", content="x")
    await tenant.vectors.update_metadata("b", {"m": 2}, dimension=SIZE)
    await tenant.vectors.delete("a", dimension=SIZE)
    await tenant.vectors.delete_many(["b"], dimension=SIZE)
    await tenant.vectors.delete_where({"n": 1}, dimension=SIZE, scope="s")
    await tenant.vectors.insert("e", axis(0), document_id="d")
    await tenant.vectors.delete_document("d", dimension=SIZE)
    await tenant.vectors.clear(dimension=SIZE)
    assert await tenant.vectors.count(dimension=SIZE) == 0
    assert (await tenant.vectors.scopes(dimension=SIZE)).items == ()
    assert await tenant.vectors.hybrid_search("word", query) == []
    assert await tenant.vectors.get_many(["a", "b", "c"], dimension=SIZE) == {}
    assert await state() == before
    assert (await neighbour.vectors.stats(SIZE)).vectors == 3


async def test_of_many_inserts_one_wins(tenant: Any) -> None:
    """The same id is inserted once, however many try together."""
    results = await asyncio.gather(
        *(tenant.vectors.insert("one", axis(n), metadata={"n": n}) for n in range(8)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 1
    assert all(result is None or isinstance(result, AlreadyExists) for result in results)
    winner = results.index(None)
    assert dict((await tenant.vectors.get("one", dimension=SIZE)).metadata) == {"n": winner}


async def test_writers_and_readers_together(tenant: Any) -> None:
    """A batch is seen whole or not at all, also by searches that run beside it."""

    async def write(batch: int) -> None:
        """Write one batch."""
        await tenant.vectors.upsert_many([f"{batch}-{n}" for n in range(20)], drawn(20, batch), scope=str(batch))

    async def look() -> set[int]:
        """Return what is seen of batches."""
        counts = await tenant.vectors.scopes(dimension=SIZE)
        found = await tenant.vectors.search(drawn(1, 50)[0], 1_000)
        return {each.vectors for each in counts} | {len(found) % 20}

    seen = await asyncio.gather(*(write(n) for n in range(6)), *(look() for _ in range(6)))
    assert set().union(*(each for each in seen if each is not None)) <= {0, 20}
    assert await tenant.vectors.count(dimension=SIZE) == 120


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_as_in_memory(tenant: Any, model: Any, seed: int) -> None:
    """Whatever is done in whatever order, every answer is what memory answers."""
    dice = random.Random(seed)
    matrix = drawn(40, seed + 100)
    words = ["alpha", "Beta", "gamma", "ÉCLAIR", "42"]

    def pick() -> str:
        """Draw an id."""
        return f"v{dice.randrange(12)}"

    def row() -> dict[str, Any]:
        """Draw what stands beside a vector."""
        return {
            "scope": dice.choice(["", "a", "a/b", "b"]),
            "content": dice.choice([None, "", " ".join(dice.choices(words, k=3))]),
            "metadata": {"n": dice.randrange(5), "t": dice.choice(["x", "y", None, 1.5])},
            "document_id": dice.choice([None, "d", "e"]),
            "position": dice.choice([None, 0, 1, 2]),
        }

    def filter_() -> dict[str, Any] | None:
        """Draw a filter."""
        return dice.choice(
            [None, {"n": {"$gt": 2}}, {"t": {"$in": ["x", None]}}, {"$not": {"t": "y"}}, {"n": {"$between": [1, 3]}}]
        )

    def narrowed() -> dict[str, Any]:
        """Draw a condition on the scope."""
        return dice.choice([{}, {"scope": "a"}, {"scope": ["", "b"]}, {"scope_prefix": "a"}])

    def step() -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """Draw a call."""
        vector, size = matrix[dice.randrange(40)], {"dimension": SIZE}
        metric = dice.choice(METRICS)
        steps: list[Callable[[], tuple[str, tuple[Any, ...], dict[str, Any]]]] = [
            lambda: ("insert", (pick(), vector), row()),
            lambda: ("upsert", (pick(), vector), row()),
            lambda: ("update", (pick(),), {**size, **dict(dice.sample(sorted(row().items()), 2))}),
            lambda: ("update_metadata", (pick(), {"n": 9}), {**size, "replace": dice.random() < 0.3}),
            lambda: ("delete", (pick(),), size),
            lambda: ("delete_many", ([pick(), pick()],), size),
            lambda: ("delete_where", ({"n": dice.randrange(5)},), {**size, **narrowed()}),
            lambda: ("delete_document", (dice.choice(["d", "e"]),), size),
            lambda: ("get", (pick(),), size),
            lambda: ("get_many", ([pick(), pick(), pick()],), size),
            lambda: ("count", (filter_(),), {**size, **narrowed()}),
            lambda: (
                "search",
                (vector, dice.randrange(1, 8)),
                {"filter": filter_(), "metric": metric, **narrowed()},
            ),
            lambda: (
                "hybrid_search",
                (" ".join(dice.choices(words, k=2)), vector, 5),
                {"filter": filter_(), **narrowed()},
            ),
            lambda: ("list_vectors", (filter_(),), {**size, **narrowed(), "limit": 5}),
            lambda: ("list_document", (dice.choice(["d", "e"]),), {**size, "limit": 3}),
            lambda: ("scopes", (dice.choice(["", "a"]),), {**size, "limit": 2}),
            lambda: ("stats", (SIZE,), {}),
        ]
        return dice.choice(steps)()

    for _ in range(150):
        name, arguments, named = step()
        outcomes = []
        for each in (tenant, model):
            try:
                outcomes.append(told(await getattr(each.vectors, name)(*arguments, **named)))
            except (AlreadyExists, NotFound, InvalidInput) as error:
                outcomes.append((type(error).__name__,))
        assert outcomes[0] == outcomes[1], (name, named)


def told(answer: Any) -> Any:
    """Return an answer without its times, and with distances as far as backends agree about them."""
    if isinstance(answer, dict):
        return {key: told(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [told(value) for value in answer]
    if hasattr(answer, "items") and hasattr(answer, "cursor"):
        return ([told(value) for value in answer.items], answer.cursor is None)
    if hasattr(answer, "match"):
        ranks = (answer.vector_rank, answer.text_rank, pytest.approx(answer.text_score))
        return (told(answer.match), pytest.approx(answer.score, rel=1e-5, abs=1e-6), *ranks)
    if not hasattr(answer, "embedding"):
        return answer
    fields = (answer.id, answer.scope, answer.content, dict(answer.metadata), answer.document_id, answer.position)
    if hasattr(answer, "distance"):
        return (*fields, pytest.approx(answer.distance, rel=1e-5, abs=1e-6))
    return (*fields, answer.embedding.tobytes())
