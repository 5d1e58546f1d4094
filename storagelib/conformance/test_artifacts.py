"""The artifacts: content of any size, stored once, with versions, tags and ranges."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from storagelib.components.artifacts import (
    ARTIFACT_ID_MAX,
    BATCH_BYTES,
    CHUNK_BYTES,
    INLINE_BYTES,
    UPLOAD_LEASE_SECONDS,
    content_hash,
)
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound

HOSTILE = [
    "'; DROP TABLE artifacts; --",
    "%",
    "_",
    "\\",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    " ",
    "../x",
    "\n",
]
SIZES = [0, 1, 2047, 2048, 1 << 14, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, BATCH_BYTES, BATCH_BYTES + 7]
MISSING = "nothing"


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


async def later(data: bytes, step: int) -> AsyncIterator[bytes]:
    """Give bytes in pieces, some of them empty."""
    for start in range(0, len(data), step):
        yield b""
        yield data[start : start + step]


async def streamed(artifacts: Any, artifact_id: str, *bounds: int | None) -> bytes:
    """Return what a stream gives."""
    return b"".join([piece async for piece in artifacts.stream(artifact_id, *bounds)])


async def ids(page: Any) -> list[str]:
    """Return the ids of a page's artifacts."""
    return [artifact.artifact_id for artifact in await page]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compressible", [True, False], ids=["text", "noise"])
async def test_what_is_stored_is_got(tenant: Any, size: int, compressible: bool) -> None:
    """Content of every size comes back whole, in pieces and from its stream, whatever it came from."""
    data = (b"one line and another\n" * (size // 20 + 1))[:size] if compressible else noise(size)
    stored = await tenant.artifacts.store("s", "n", data)
    assert (stored.size, stored.content_hash, stored.version) == (size, content_hash(data), 1)
    assert await tenant.artifacts.get(stored.artifact_id) == data
    assert await streamed(tenant.artifacts, stored.artifact_id) == data
    for number, content in enumerate((bytearray(data), io.BytesIO(data), later(data, 300_001), iter([data]))):
        again = await tenant.artifacts.store("s", "n", content)
        assert (again.version, again.content_hash) == (number + 2, stored.content_hash)
        assert await tenant.artifacts.get(again.artifact_id) == data
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.contents, figures.content_bytes) == (5, 1, size)
    assert (figures.logical_bytes, figures.uploads, figures.unreferenced_contents) == (5 * size, 0, 0)


async def test_an_artifact_is_what_was_told(tenant: Any) -> None:
    """Everything that was given comes back, defaults included."""
    options = {"artifact_type": "report", "mime_type": "text/plain", "tags": ["b", "a", "b"], "metadata": {"n": [1.5]}}
    stored = await tenant.artifacts.store("s", "n", b"x", keep=True, artifact_id="id", **options)
    assert (stored.artifact_id, stored.session_id, stored.name, stored.sequence) == ("id", "s", "n", 1)
    assert (stored.artifact_type, stored.mime_type, stored.tags) == ("report", "text/plain", ("a", "b"))
    assert (dict(stored.metadata), stored.keep) == ({"n": [1.5]}, True)
    assert stored.created_at.tzinfo is not None
    assert await tenant.artifacts.stat("id") == stored
    plain = await tenant.artifacts.store("s", "m", b"")
    assert (plain.artifact_type, plain.mime_type, plain.tags) == ("file", "application/octet-stream", ())
    assert (dict(plain.metadata), plain.keep, plain.sequence, plain.version) == ({}, False, 2, 1)
    assert plain.artifact_id != stored.artifact_id


async def test_what_is_not_there_is_not_found(tenant: Any) -> None:
    """By every verb that reads; removing tells."""
    artifacts = tenant.artifacts
    for call in (
        artifacts.get(MISSING),
        artifacts.stat(MISSING),
        artifacts.read_range(MISSING, 0, 1),
        streamed(artifacts, MISSING),
        artifacts.latest("s", MISSING),
    ):
        with pytest.raises(NotFound):
            await call
    assert await artifacts.delete(MISSING) is False
    assert await artifacts.delete_session(MISSING) == 0
    assert list(await artifacts.versions("s", MISSING)) == []
    assert list(await artifacts.list_artifacts()) == []
    collected = await artifacts.collect_garbage(older_than=0)
    assert (collected.contents, collected.uploads, collected.stored_bytes) == (0, 0, 0)
    figures = await artifacts.statistics()
    assert (figures.artifacts, figures.stored_bytes) == (0, 0)
    assert (figures.dedupe_ratio, figures.compression_ratio) == (1.0, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"session_id": ""},
        {"session_id": "x" * 256},
        {"session_id": 7},
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\0"},
        {"name": "\ud800"},
        {"content": "text"},
        {"content": 7},
        {"content": None},
        {"content": ["text"]},
        {"content": [b"a", None]},
        {"content": io.StringIO("text")},
        {"artifact_type": ""},
        {"artifact_type": "x" * 51},
        {"mime_type": "x" * 256},
        {"tags": "tag"},
        {"tags": [""]},
        {"tags": [str(number) for number in range(101)]},
        {"metadata": {"a": float("nan")}},
        {"keep": 1},
        {"artifact_id": ""},
        {"artifact_id": "x" * (ARTIFACT_ID_MAX + 1)},
        {"artifact_id": "\U0001f600" * 257},
    ],
)
async def test_what_cannot_be_kept_is_refused(tenant: Any, wrong: dict[str, Any]) -> None:
    """And nothing is stored."""
    given = {"session_id": "s", "name": "n", "content": b"x", **wrong}
    with pytest.raises(InvalidInput):
        await tenant.artifacts.store(given.pop("session_id"), given.pop("name"), given.pop("content"), **given)
    assert (await tenant.artifacts.statistics()).artifacts == 0


async def test_wrong_questions_are_refused(tenant: Any) -> None:
    """Before anything is sent."""
    artifacts = tenant.artifacts
    await artifacts.store("s", "n", b"12345", artifact_id="a")
    for call in (
        artifacts.get(""),
        artifacts.stat(7),
        artifacts.delete("x" * 513),
        artifacts.read_range("a", -1),
        artifacts.read_range("a", 3, 2),
        artifacts.read_range("a", 0, 1.5),
        streamed(artifacts, "a", 3, 2),
        artifacts.latest("", "n"),
        artifacts.versions("s", ""),
        artifacts.delete_session(""),
        artifacts.list_artifacts(limit=0),
        artifacts.list_artifacts(session_id="s", limit=10_001),
        artifacts.list_artifacts(cursor="?"),
        artifacts.list_artifacts(tag=""),
        artifacts.list_artifacts(artifact_type="x" * 51),
        artifacts.collect_garbage(limit=0),
        artifacts.collect_garbage(older_than=-1),
        artifacts.collect_garbage(older_than=True),
        artifacts.get("a", most=4),
        artifacts.get("a", most=-1),
        artifacts.read_range("a", 1, 5, most=3),
    ):
        with pytest.raises(InvalidInput):
            await call
    assert await artifacts.get("a", most=5) == b"12345"
    assert await artifacts.read_range("a", 1, 5, most=4) == b"2345"


@pytest.mark.parametrize("text", HOSTILE)
async def test_names_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No name, id, session, type or tag is taken for something else."""
    options = {"artifact_type": text, "mime_type": text, "tags": [text], "metadata": {text: text}, "artifact_id": text}
    stored = await tenant.artifacts.store(text, text, text.encode(), **options)
    await tenant.artifacts.store(f"{text}!", f"{text}!", b"", artifact_type=f"{text}!", tags=[f"{text}!"])
    for question in ({"session_id": text}, {"tag": text}, {"artifact_type": text}):
        assert list(await tenant.artifacts.list_artifacts(**question)) == [stored]
    assert await tenant.artifacts.latest(text, text) == stored
    assert await tenant.artifacts.get(text) == text.encode()
    assert await tenant.artifacts.delete(text)


async def test_the_longest_names_are_kept(tenant: Any) -> None:
    """At their limits, in characters of four bytes."""
    chance = random.Random(0)
    wide = ["".join(chr(chance.randint(0x10000, 0x1F000)) for _ in range(size)) for size in (255, 255, 50, 255, 255)]
    identity = "".join(chr(chance.randint(0x80, 0x7FF)) for _ in range(ARTIFACT_ID_MAX))
    options = {"artifact_type": wide[2], "mime_type": wide[3], "tags": [wide[4]], "artifact_id": identity}
    stored = await tenant.artifacts.store(wide[0], wide[1], b"x", **options)
    assert list(await tenant.artifacts.list_artifacts(tag=wide[4])) == [stored]
    assert list(await tenant.artifacts.versions(wide[0], wide[1])) == [stored]


async def test_an_id_is_taken_once(tenant: Any) -> None:
    """Content small and large; what was there stays, and nothing of the other is left."""
    first = await tenant.artifacts.store("s", "n", b"first", artifact_id="a")
    for content in (b"second", noise(20_000), noise(INLINE_BYTES), later(noise(INLINE_BYTES + 1), 1 << 18)):
        with pytest.raises(AlreadyExists):
            await tenant.artifacts.store("s", "n", content, artifact_id="a")
    assert await tenant.artifacts.get("a") == b"first"
    assert await tenant.artifacts.latest("s", "n") == first
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.contents, figures.unreferenced_contents, figures.uploads) == (1, 1, 0, 0)
    assert (await tenant.artifacts.store("s", "n", b"")).version == 2


async def test_a_name_grows_versions(tenant: Any) -> None:
    """In its session alone, and none is given twice."""
    for number in range(5):
        await tenant.artifacts.store("s", "n", str(number).encode(), artifact_id=f"v{number + 1}")
        await tenant.artifacts.store("s", "other", b"", artifact_id=f"o{number + 1}")
    assert (await tenant.artifacts.store("t", "n", b"")).version == 1
    assert (await tenant.artifacts.latest("s", "n")).artifact_id == "v5"
    page = await tenant.artifacts.versions("s", "n", limit=2)
    assert [(each.version, each.artifact_id) for each in page] == [(1, "v1"), (2, "v2")]
    await tenant.artifacts.delete("v1")
    rest = await tenant.artifacts.versions("s", "n", cursor=page.cursor)
    assert ([each.version for each in rest], rest.cursor) == ([3, 4, 5], None)
    assert await tenant.artifacts.delete("v5")
    assert not await tenant.artifacts.delete("v5")
    assert (await tenant.artifacts.latest("s", "n")).version == 4
    assert await tenant.artifacts.delete_session("s") == 8
    again = await tenant.artifacts.store("s", "n", b"")
    assert (again.version, again.sequence) == (6, 11)


async def test_of_many_at_once_each_gets_a_version(tenant: Any) -> None:
    """No number is given twice, or left out."""
    stored = await asyncio.gather(*(tenant.artifacts.store("s", "n", b"%d" % (n % 3)) for n in range(12)))
    assert sorted(each.version for each in stored) == list(range(1, 13))
    assert sorted(each.sequence for each in stored) == list(range(1, 13))
    assert (await tenant.artifacts.statistics()).contents == 3


async def test_of_many_uploads_of_the_same_one_stays(tenant: Any) -> None:
    """Each becomes an artifact, the content is there once, and nothing is left of the others."""
    data = noise(INLINE_BYTES + CHUNK_BYTES + 3)
    stored = await asyncio.gather(*(tenant.artifacts.store("s", f"n{n}", later(data, 1 << 18)) for n in range(4)))
    for each in stored:
        assert await tenant.artifacts.get(each.artifact_id) == data
    figures = await tenant.artifacts.statistics()
    assert (figures.contents, figures.content_bytes, figures.stored_bytes) == (1, len(data), len(data))
    assert (figures.uploads, figures.unreferenced_contents, figures.dedupe_ratio) == (0, 0, 4.0)


async def test_listings_by_session_tag_and_type(tenant: Any) -> None:
    """Alone and together, in pages that stay right while artifacts go."""
    for number in range(12):
        await tenant.artifacts.store(
            f"s{number % 2}",
            f"n{number}",
            b"",
            artifact_type=f"t{number % 3}",
            tags=["all", f"g{number % 4}"],
            artifact_id=f"a{number:02}",
        )
    listed = tenant.artifacts.list_artifacts
    everything = [f"a{number:02}" for number in range(12)]
    assert await ids(listed()) == everything
    assert await ids(listed(tag="all")) == everything
    assert await ids(listed(session_id="s1")) == everything[1::2]
    assert await ids(listed(tag="g3")) == everything[3::4]
    assert await ids(listed(artifact_type="t2")) == everything[2::3]
    assert await ids(listed(tag="g0", artifact_type="t0")) == ["a00"]
    assert await ids(listed(session_id="s0", tag="g2")) == ["a02", "a06", "a10"]
    assert await ids(listed(session_id="s1", artifact_type="t1")) == ["a01", "a07"]
    assert await ids(listed(session_id="s1", artifact_type="t1", tag="g3")) == ["a07"]
    assert await ids(listed(session_id="s0", tag="g1")) == []
    questions: tuple[dict[str, Any], ...] = (
        {},
        {"tag": "all"},
        {"session_id": "s0"},
        {"artifact_type": "t1"},
        {"session_id": "s0", "tag": "all"},
    )
    for question in questions:
        whole = await ids(listed(**question))
        seen, cursor = [], None
        while True:
            page = await listed(**question, cursor=cursor, limit=2)
            assert len(page) <= 2
            seen += [each.artifact_id for each in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == whole
    page = await listed(tag="all", limit=3)
    for gone in ("a02", "a04"):
        await tenant.artifacts.delete(gone)
    assert await ids(listed(tag="all", cursor=page.cursor)) == ["a03", *everything[5:]]


async def test_ranges_at_the_borders_of_chunks(tenant: Any) -> None:
    """Any range is what a slice of the content is, in one row or in chunks."""
    large = noise(BATCH_BYTES + CHUNK_BYTES + 5)
    borders = [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        BATCH_BYTES,
        BATCH_BYTES + 1,
        len(large),
        len(large) + 9,
    ]
    for data in (large, b"0123456789", b""):
        stored = await tenant.artifacts.store("s", "n", data)
        for start in borders:
            for end in [None, *(each for each in borders if each >= start)]:
                found = await tenant.artifacts.read_range(stored.artifact_id, start, end)
                assert found == data[start:end], (len(data), start, end)
        for start, end in ((CHUNK_BYTES - 1, BATCH_BYTES + 1), (5, None), (3, 3), (2**40, None)):
            assert await streamed(tenant.artifacts, stored.artifact_id, start, end) == data[start:end]


async def test_equal_content_is_stored_once(tenant: Any) -> None:
    """And goes when nobody refers to it any more, not before."""
    for number in range(3):
        await tenant.artifacts.store("s", f"n{number}", b"same " * 10_000, artifact_id=f"a{number}")
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.contents, figures.dedupe_ratio) == (3, 1, 3.0)
    assert figures.compression_ratio > 10
    for number in range(3):
        assert (await tenant.artifacts.collect_garbage(older_than=0)).contents == 0
        assert await tenant.artifacts.delete(f"a{number}")
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.contents, figures.unreferenced_contents) == (0, 0, 1)
    assert (await tenant.artifacts.collect_garbage()).contents == 0
    collected = await tenant.artifacts.collect_garbage(older_than=0)
    assert (collected.contents, collected.uploads, collected.stored_bytes) == (1, 0, figures.unreferenced_bytes)
    assert (await tenant.artifacts.statistics()).unreferenced_contents == 0


async def test_unreferenced_content_is_used_again(tenant: Any) -> None:
    """Until it is collected; afterwards it is stored anew."""
    for data in (b"small", noise(50_000), noise(INLINE_BYTES + 9)):
        first = await tenant.artifacts.store("s", "n", data)
        await tenant.artifacts.delete(first.artifact_id)
        second = await tenant.artifacts.store("s", "n", data)
        assert (await tenant.artifacts.collect_garbage(older_than=0)).contents == 0
        assert await tenant.artifacts.get(second.artifact_id) == data
        await tenant.artifacts.delete(second.artifact_id)
        assert (await tenant.artifacts.collect_garbage(older_than=0)).contents == 1
        third = await tenant.artifacts.store("s", "n", data)
        assert await tenant.artifacts.get(third.artifact_id) == data


async def test_collecting_goes_in_steps(tenant: Any) -> None:
    """Of the size asked for."""
    for number in range(5):
        stored = await tenant.artifacts.store("s", "n", b"%d" % number)
        await tenant.artifacts.delete(stored.artifact_id)
    assert [(await tenant.artifacts.collect_garbage(limit=2, older_than=0)).contents for _ in range(4)] == [2, 2, 1, 0]


async def test_what_is_kept_outlives_its_session(tenant: Any) -> None:
    """Unless it is deleted itself."""
    await tenant.artifacts.store("s", "n", b"1", artifact_id="gone", tags=["t"])
    await tenant.artifacts.store("s", "n", b"2", artifact_id="kept", tags=["t"], keep=True)
    await tenant.artifacts.store("other", "n", b"3", artifact_id="other", tags=["t"])
    assert await tenant.artifacts.delete_session("s") == 1
    assert await tenant.artifacts.delete_session("s") == 0
    assert await ids(tenant.artifacts.list_artifacts(tag="t")) == ["kept", "other"]
    assert await tenant.artifacts.get("kept") == b"2"
    assert await tenant.artifacts.delete("kept")
    assert await ids(tenant.artifacts.list_artifacts(tag="t")) == ["other"]


@pytest.mark.parametrize("size", [100, 40_000, INLINE_BYTES + 1])
async def test_storing_races_with_collecting(tenant: Any, size: int) -> None:
    """Whatever comes first: a stored artifact has its content."""
    data = noise(size)

    async def life(number: int) -> None:
        for turn in range(6):
            content = data if turn % 2 else later(data, 1 << 18)
            stored = await tenant.artifacts.store("s", f"n{number}", content)
            await tenant.artifacts.collect_garbage(older_than=0)
            assert await tenant.artifacts.get(stored.artifact_id) == data
            assert await tenant.artifacts.delete(stored.artifact_id)

    async def collecting() -> None:
        for _ in range(20):
            await tenant.artifacts.collect_garbage(older_than=0)

    await asyncio.gather(life(1), life(2), collecting(), collecting())
    await tenant.artifacts.collect_garbage(older_than=0)
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.contents, figures.unreferenced_contents, figures.uploads) == (0, 0, 0, 0)


class Breaks(Exception):  # noqa: N818 - the producer's own
    """What a producer raises."""


def broken() -> Iterator[bytes]:
    """Give more than one batch, and fail."""
    for _ in range(20):
        yield noise(1 << 19)
    raise Breaks


async def test_a_producer_that_fails_leaves_nothing(tenant: Any) -> None:
    """Its error is raised as it is, what it brought is removed, and nobody ever saw it."""
    with pytest.raises(Breaks):
        await tenant.artifacts.store("s", "n", broken())
    figures = await tenant.artifacts.statistics()
    assert (figures.artifacts, figures.uploads, figures.contents, figures.unreferenced_contents) == (0, 0, 0, 0)
    assert (await tenant.artifacts.store("s", "n", b"")).version == 1


async def test_an_upload_is_seen_by_nobody(tenant: Any) -> None:
    """Before its end; and collecting leaves it alone while it goes on."""
    data, seen = noise(1 << 20), []

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(13):
            yield data
            await asyncio.sleep(0)
            figures = await tenant.artifacts.statistics()
            seen.append((figures.artifacts, figures.contents, figures.uploads))
            await tenant.artifacts.collect_garbage(older_than=0)

    stored = await tenant.artifacts.store("s", "n", slowly())
    assert {(artifacts, contents) for artifacts, contents, _ in seen} == {(0, 0)}
    assert await tenant.artifacts.get(stored.artifact_id) == data * 13
    assert (await tenant.artifacts.statistics()).uploads == 0


@pytest.mark.settable_clock
async def test_an_abandoned_upload_is_collected(tenant: Any, clock: Any) -> None:
    """Once its lease is over; a store that comes back late is told, and may be made again."""
    loop, collected = asyncio.get_running_loop(), []

    def stalls() -> Iterator[bytes]:
        for number in range(12):
            yield noise(1 << 20, number)
            clock.advance(seconds=UPLOAD_LEASE_SECONDS + 1)
            collecting = tenant.artifacts.collect_garbage(older_than=10**6)
            collected.append(asyncio.run_coroutine_threadsafe(collecting, loop).result().uploads)

    with pytest.raises(Conflict):
        await tenant.artifacts.store("s", "n", stalls())
    assert sum(collected) > 0
    figures = await tenant.artifacts.statistics()
    assert (figures.uploads, figures.artifacts, figures.unreferenced_contents) == (0, 0, 0)
    assert (await tenant.artifacts.store("s", "n", noise(1 << 20))).version == 1


@pytest.mark.settable_clock
async def test_what_is_young_is_left_alone(tenant: Any, clock: Any) -> None:
    """The time counts from the moment when the last reference went."""
    await tenant.artifacts.store("s", "n", b"x", artifact_id="a")
    clock.advance(seconds=1000)
    await tenant.artifacts.delete("a")
    clock.advance(seconds=99)
    assert (await tenant.artifacts.collect_garbage(older_than=100)).contents == 0
    clock.advance(seconds=2)
    assert (await tenant.artifacts.collect_garbage(older_than=100)).contents == 1


async def test_the_neighbour_is_untouched(tenant: Any, neighbour: Any) -> None:
    """The same content under the same ids is neither seen nor shared, and no verb reaches it."""
    large = noise(INLINE_BYTES + 5)
    for owner in (tenant, neighbour):
        await owner.artifacts.store("s", "n", b"same", artifact_id="a", tags=["t"])
        await owner.artifacts.store("s", "n", large, artifact_id="b", tags=["t"])
    await neighbour.artifacts.store("s", "own", b"theirs", artifact_id="own", tags=["t"])
    before = list(await neighbour.artifacts.list_artifacts())
    figures = await neighbour.artifacts.statistics()
    own = await tenant.artifacts.statistics()
    assert (own.artifacts, own.contents, own.dedupe_ratio) == (2, 2, 1.0)
    assert await ids(tenant.artifacts.list_artifacts(tag="t")) == ["a", "b"]
    for call in (tenant.artifacts.get("own"), tenant.artifacts.stat("own"), tenant.artifacts.latest("s", "own")):
        with pytest.raises(NotFound):
            await call
    assert not await tenant.artifacts.delete("own")
    await tenant.artifacts.store("s", "own", b"theirs", artifact_id="own")
    assert await tenant.artifacts.delete("a")
    assert await tenant.artifacts.delete_session("s") == 2
    assert (await tenant.artifacts.collect_garbage(older_than=0)).contents == 3
    assert list(await neighbour.artifacts.list_artifacts()) == before
    assert await neighbour.artifacts.statistics() == figures
    assert await neighbour.artifacts.get("a") == b"same"
    assert await neighbour.artifacts.get("b") == large


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to hundreds of random calls is the one that the model gives, times left out."""
    chance = random.Random(seed)
    contents = [b"", b"a", b"b" * 5000, noise(20_000), noise(3000, 1)]

    def told(answer: Any) -> Any:
        if hasattr(answer, "items"):
            return [told(each) for each in answer], answer.cursor is None
        if hasattr(answer, "created_at"):
            return {name: getattr(answer, name) for name in answer.__slots__ if name != "created_at"}
        return answer

    async def both(name: str, *args: Any, **kwargs: Any) -> None:
        answers = []
        for subject in (model, tenant):
            try:
                answers.append(told(await getattr(subject.artifacts, name)(*args, **kwargs)))
            except (AlreadyExists, NotFound) as error:
                answers.append(type(error))
        assert answers[0] == answers[1], (name, args, kwargs)

    for _ in range(150):
        session, name = chance.choice("st"), chance.choice(["n", "m", "é"])
        identity = f"a{chance.randrange(25)}"
        match chance.randrange(12):
            case 0 | 1 | 2 | 3:
                options = {"artifact_type": chance.choice("xy"), "tags": chance.sample(["p", "q", "r"], 2)}
                content, keep = chance.choice(contents), chance.random() < 0.3
                await both("store", session, name, content, artifact_id=identity, keep=keep, **options)
            case 4:
                await both("delete", identity)
            case 5:
                await both("get", identity)
            case 6:
                await both("read_range", identity, chance.randrange(6000), None)
            case 7:
                await both("latest", session, name)
            case 8:
                await both("versions", session, name, limit=chance.randint(1, 4))
            case 9:
                question = {"session_id": session, "tag": "p", "artifact_type": "x"}
                asked = {key: value for key, value in question.items() if chance.random() < 0.5}
                await both("list_artifacts", **asked, limit=chance.randint(1, 20))
            case 10:
                await both("collect_garbage", older_than=0)
            case _:
                await (both("delete_session", session) if chance.random() < 0.2 else both("statistics"))
    await both("list_artifacts")
    await both("statistics")
