"""The layers over the stores: retrieval, episodes, facts."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storagelib._async.episodic import AsyncEpisodicMemory
from storagelib._async.rag import AsyncRag
from storagelib._async.semantic import AsyncSemanticMemory
from storagelib.components.passages import split
from storagelib.conformance.awaited import made_of
from storagelib.errors import InvalidInput, NotFound

DIMENSION = 128
DAY = timedelta(days=1)


def embed(texts: list[str]) -> list[list[float]]:
    """Embed by words: texts that share words are near each other."""
    vectors = []
    for text in texts:
        vector = [0.001] * DIMENSION
        for word in text.lower().split():
            vector[int.from_bytes(hashlib.sha256(word.strip(".,?!").encode()).digest()[:4], "big") % DIMENSION] += 1.0
        vectors.append(vector)
    return vectors


@pytest.fixture
def rag(tenant: Any) -> Any:
    """Give a collection of the tenant's documents."""
    return made_of(AsyncRag, tenant, embed, dimension=DIMENSION)


@pytest.fixture
def episodes(tenant: Any) -> Any:
    """Give the tenant's episodes."""
    return made_of(AsyncEpisodicMemory, tenant, embed, dimension=DIMENSION)


@pytest.fixture
def facts(tenant: Any) -> Any:
    """Give the tenant's facts."""
    return made_of(AsyncSemanticMemory, tenant)


async def test_a_document_is_ingested_once(rag: Any) -> None:
    """The same again embeds nothing; a changed one replaces it; pieces keep their order."""
    pieces = ["Cats sleep.", "Dogs bark.", "Birds sing."]
    first = await rag.ingest("animals", pieces, metadata={"lang": "en"})
    assert (first.outcome, first.passages) == ("new", 3)
    again = await rag.ingest("animals", pieces, metadata={"lang": "en"})
    assert (again.outcome, again.source_hash) == ("unchanged", first.source_hash)
    assert [passage.content for passage in await rag.passages("animals")] == pieces
    changed = await rag.ingest("animals", ["Fish swim.", "Dogs bark."], metadata={"lang": "en"})
    assert (changed.outcome, changed.passages) == ("replaced", 2)
    found = await rag.passages("animals")
    assert [(passage.position, passage.content) for passage in found] == [(0, "Fish swim."), (1, "Dogs bark.")]
    assert dict(found[0].metadata) == {"lang": "en"}
    assert (await rag.ingest("animals", ["Fish swim.", "Dogs bark."], metadata={"lang": "de"})).outcome == "replaced"


async def test_what_an_ingest_left_goes_with_the_next(tenant: Any, rag: Any) -> None:
    """Pieces of a write that was cut short are not shown, and ingesting the same again removes them."""
    await rag.ingest("cut", ["one", "two"])
    kept = await tenant.vectors.get("rag/default/cut#00000001", dimension=DIMENSION)
    for position in (2, 3):
        await tenant.vectors.upsert(
            f"rag/default/cut#{position:08d}",
            embed(["left"])[0],
            scope=kept.scope,
            content="left",
            metadata={**kept.metadata, "passages": 4, "edition": "before"},
            document_id="cut",
            position=position,
        )
    assert [passage.content for passage in await rag.passages("cut")] == ["one", "two"]
    assert (await rag.ingest("cut", ["one", "two"])).outcome == "unchanged"
    assert await tenant.vectors.count(dimension=DIMENSION, scope=kept.scope) == 2


async def test_of_ingests_at_once_one_wins(tenant: Any, rag: Any) -> None:
    """The pieces of one document never mix, whoever writes it at the same time."""
    sizes = (7, 2, 5, 3, 6, 1)
    for turn in range(3):
        await asyncio.gather(*(rag.ingest("same", [f"{turn} {size} {n}" for n in range(size)]) for size in sizes))
        contents = [passage.content for passage in await rag.passages("same")]
        assert contents in [[f"{turn} {size} {n}" for n in range(size)] for size in sizes]
        assert await tenant.vectors.count(dimension=DIMENSION, scope="rag/default/same") == len(contents)


async def test_a_source_tells_whether_it_changed(rag: Any) -> None:
    """However it is split."""
    assert (await rag.ingest("a", ["x y"], source="x y z")).outcome == "new"
    assert (await rag.ingest("a", ["x", "y"], source=b"x y z")).outcome == "unchanged"
    assert (await rag.ingest("a", ["x y"], source="x y z!")).outcome == "replaced"


async def test_questions_find_their_passages(rag: Any) -> None:
    """By meaning, by words, in one document or all, with their neighbours."""
    await rag.ingest("pets", ["Cats sleep all day.", "Dogs bark at night.", "Both are pets."], metadata={"n": 1})
    await rag.ingest("sky", ["Stars shine at night."], metadata={"n": 2})
    best = (await rag.search("when do dogs bark", k=1))[0]
    assert (best.document_id, best.position) == ("pets", 1)
    assert best.score is not None
    assert (await rag.search("dogs bark", k=1, words=False))[0].position == 1
    assert {each.document_id for each in await rag.search("night", k=9, filter={"n": 2})} == {"sky"}
    assert {each.document_id for each in await rag.search("night", k=9, document_id="pets")} == {"pets"}
    assert [each.position for each in await rag.around(best)] == [0, 1, 2]
    assert [each.position for each in await rag.around(best, before=0, after=9)] == [1, 2]


async def test_documents_are_listed_and_removed(rag: Any, neighbour: Any) -> None:
    """Ids that begin alike are apart, collections and tenants too."""
    for name in ("a", "a/b", "ab", "é"):
        await rag.ingest(name, [f"text {name}"])
    other = made_of(AsyncRag, neighbour, embed, dimension=DIMENSION)
    await other.ingest("a", ["theirs"])
    assert list(await rag.documents()) == ["a", "a/b", "ab", "é"]
    page = await rag.documents(limit=3)
    assert list(await rag.documents(cursor=page.cursor)) == ["é"]
    assert await rag.delete("a") == 1
    assert await rag.delete("a") == 0
    assert list(await rag.documents()) == ["a/b", "ab", "é"]
    assert await rag.clear() == 3
    assert await rag.passages("ab") == []
    assert [each.content for each in await other.passages("a")] == ["theirs"]


@pytest.mark.parametrize("chunks", [[], [""], ["  "], [1], ["a", None], ["\0"]])
async def test_a_document_has_something_to_say(rag: Any, chunks: Any) -> None:
    """Pieces that are none are refused before anything is embedded."""
    with pytest.raises(InvalidInput):
        await rag.ingest("a", chunks)
    with pytest.raises(InvalidInput):
        await rag.ingest("x" * 250, ["a"])
    with pytest.raises(InvalidInput):
        await rag.ingest("a", ["a"], metadata={"source_hash": "x"})


async def test_splitting_keeps_every_word() -> None:
    """Whatever the sizes, and no piece is longer than asked."""
    text = "First sentence here. Second one, longer than the first!\n\nA paragraph.\n\n" + "word " * 100 + "x" * 90
    for size, overlap in ((20, 0), (40, 10), (1000, 100)):
        pieces = split(text, size=size, overlap=overlap)
        assert all(0 < len(piece) <= size for piece in pieces)
        assert set("".join(text.split())) == set("".join("".join(pieces).split()))
        if not overlap:
            assert "".join("".join(pieces).split()) == "".join(text.split())
    assert split("  \n\n ") == []


async def test_episodes_are_recalled(episodes: Any, neighbour: Any) -> None:
    """By meaning, session and time; the neighbour's are not."""
    start = datetime(2030, 1, 1, tzinfo=UTC)
    one = await episodes.remember("s1", "user", "I like green tea", happened_at=start, metadata={"mood": "calm"})
    two = await episodes.remember("s1", "assistant", "Noted, green tea", happened_at=start + DAY)
    three = await episodes.remember("s2", "user", "My cat is called Tom", happened_at=start + 2 * DAY)
    found = await episodes.recall("green tea", k=2)
    assert {episode.episode_id for episode in found} == {one, two}
    assert [episode.episode_id for episode in await episodes.recall("cat", k=9, session_id="s2")] == [three]
    assert {each.episode_id for each in await episodes.recall("tea", k=9, since=start + DAY)} == {two, three}
    assert {each.episode_id for each in await episodes.recall("tea", k=9, until=start + DAY)} == {one}
    got = await episodes.get(one)
    assert (got.role, got.content, dict(got.metadata), got.happened_at) == (
        "user",
        "I like green tea",
        {"mood": "calm"},
        start,
    )
    assert [each.episode_id for each in await episodes.session("s1")] == [one, two]
    assert list(await episodes.sessions()) == ["s1", "s2"]
    theirs = made_of(AsyncEpisodicMemory, neighbour, embed, dimension=DIMENSION)
    assert await theirs.recall("green tea") == []
    with pytest.raises(NotFound):
        await theirs.get(one)


async def test_episodes_are_processed_and_forgotten(episodes: Any, tenant: Any) -> None:
    """Each once; other vectors of the tenant are left alone."""
    await tenant.vectors.insert("mine", embed(["mine"])[0])
    ids = [await episodes.remember("s", "user", f"text {n}") for n in range(4)]
    assert [each.episode_id for each in await episodes.unprocessed()] == ids
    assert await episodes.mark_processed([*ids[:2], "mine", "nothing"]) == 2
    assert [each.episode_id for each in await episodes.unprocessed()] == ids[2:]
    assert await episodes.forget([ids[0], "mine"]) == 1
    assert await episodes.count() == 3
    old = await episodes.remember("t", "user", "old", happened_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert await episodes.forget_before(datetime(2002, 1, 1, tzinfo=UTC)) == 1
    with pytest.raises(NotFound):
        await episodes.get(old)
    assert await episodes.forget_session("s") == 3
    assert await episodes.count() == 0
    assert await tenant.vectors.get("mine", dimension=DIMENSION) is not None


async def test_facts_are_true_in_their_time(facts: Any) -> None:
    """What replaces ends what was; what was believed earlier can still be asked for."""
    then = datetime(2020, 1, 1, tzinfo=UTC)
    await facts.learn("Ada", "works at", "Acme", valid_from=then, sources=["mail-1"])
    await facts.learn("Ada", "lives in", "London", valid_from=then)
    assert [each.object for each in await facts.facts("Ada", "works at")] == ["Acme"]
    later = then + 100 * DAY
    await facts.learn("Ada", "works at", "Borg", valid_from=later, replaces=True)
    assert [each.object for each in await facts.facts("Ada", "works at")] == ["Borg"]
    assert [each.object for each in await facts.facts("Ada", "works at", at=then + DAY)] == ["Acme"]
    assert {each.relation for each in await facts.facts("Ada")} == {"works at", "lives in"}
    assert await facts.facts("Ada", at=then - DAY) == []
    assert await facts.facts("Nobody") == []


async def test_facts_are_forgotten_not_erased(facts: Any) -> None:
    """From a moment on; before it they stay true."""
    then = datetime(2020, 1, 1, tzinfo=UTC)
    fact = await facts.learn("Tom", "is a", "cat", valid_from=then)
    await facts.forget(fact, since=then + 10 * DAY)
    assert await facts.facts("Tom") == []
    assert [each.object for each in await facts.facts("Tom", at=then + DAY)] == ["cat"]


async def test_concepts_are_made_once(facts: Any, neighbour: Any) -> None:
    """By name; found by prefix and embedding; never the neighbour's."""
    one = await facts.concept("Ada", properties={"born": 1815}, embedding=embed(["Ada"])[0])
    assert await facts.concept("Ada", properties={"title": "Countess"}) == one
    assert dict((await facts.describe("Ada")).properties) == {"born": 1815, "title": "Countess"}
    await facts.concept("Bob", embedding=embed(["Bob"])[0])
    assert [each.name for each in await facts.find(prefix="A")] == ["Ada"]
    assert [each.name for each in await facts.find(embedding=embed(["Bob"])[0], limit=1)] == ["Bob"]
    theirs = made_of(AsyncSemanticMemory, neighbour)
    with pytest.raises(NotFound):
        await theirs.describe("Ada")
