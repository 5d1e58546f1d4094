"""The event log."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from storagelib.components.events import Event, NewEvent
from storagelib.errors import AlreadyExists, Conflict, InvalidInput
from storagelib.identifiers import uuid7

HOSTILE = [
    "'; DROP TABLE event_log; --",
    "%",
    "_",
    "a%b_c",
    "\\",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    " ",
    "\n",
]
PAYLOADS = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    1.5,
    "",
    "text",
    [],
    {},
    [1, [2, {"a": None}]],
    {"é": "'\"\\", "": {"%": "_"}},
]
WRITERS = 8


async def everything(tenant: Any) -> list[Event]:
    """Return all events of a tenant."""
    return [event async for event in tenant.events.all()]


async def test_what_is_appended_is_read(tenant: Any) -> None:
    """An event comes back as it was, with its place and the time of its recording."""
    happened = datetime(2024, 2, 29, 12, 30, 1, 123456, tzinfo=UTC)
    appended = await tenant.events.append(
        "agent.started", {"n": 1}, stream="s", correlation_id="c", occurred_at=happened, language="lua"
    )
    (event,) = await tenant.events.read_stream("s")
    assert event == Event(
        appended.event_id, "agent.started", "s", 1, 1, "c", appended.recorded_at, happened, "lua", {"n": 1}
    )
    assert (appended.stream, appended.sequence, appended.position) == ("s", 1, 1)
    assert appended.event_id.version == 7


async def test_what_is_left_out_is_filled_in(tenant: Any) -> None:
    """Without a stream the event goes to its correlation id, which is made when it is missing."""
    named = await tenant.events.append("t", correlation_id="c")
    assert named.stream == "c"
    alone = await tenant.events.append("t")
    (event,) = await tenant.events.read_stream(alone.stream)
    assert event.correlation_id == event.stream
    assert UUID(event.correlation_id).version == 7
    assert (event.payload, event.language) == (None, "python")
    assert event.occurred_at == event.recorded_at == alone.recorded_at
    assert await tenant.events.head(alone.stream) == 1


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_payloads_are_any_json(tenant: Any, payload: object) -> None:
    """Every JSON value comes back equal and of its own type."""
    await tenant.events.append("t", payload, stream="s")
    (event,) = await tenant.events.read_stream("s")
    assert event.payload == payload
    assert type(event.payload) is type(payload)


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_mean_nothing_but_themselves(tenant: Any, name: str) -> None:
    """No name of a stream, type, correlation id or consumer is taken for a pattern or another spelling of itself."""
    await tenant.events.append("other", stream="other", correlation_id="other")
    await tenant.events.append(name, name, stream=name, correlation_id=name)
    for page in (
        await tenant.events.read_stream(name),
        await tenant.events.by_type(name),
        await tenant.events.by_type([name, "nothing"]),
        await tenant.events.by_correlation(name),
    ):
        assert [event.stream for event in page] == [name]
    assert [stream.stream for stream in await tenant.events.streams(name)] == [name]
    assert await tenant.events.checkpoint(name, 2) == 2
    assert await tenant.events.position(name) == 2
    assert await tenant.events.erase_stream(name, "asked for") == 1


async def test_streams_count_on_their_own_and_positions_over_all(tenant: Any) -> None:
    """Sequences have no gaps in a stream, positions none in the tenant."""
    for number in range(6):
        await tenant.events.append("t", number, stream="ab"[number % 2])
    events = await everything(tenant)
    assert [(event.stream, event.sequence, event.position) for event in events] == [
        ("a", 1, 1), ("b", 1, 2), ("a", 2, 3), ("b", 2, 4), ("a", 3, 5), ("b", 3, 6),
    ]  # fmt: skip
    times = [event.recorded_at for event in events]
    assert times == sorted(set(times))
    assert await tenant.events.end() == 6


async def test_an_expected_version_must_hold(tenant: Any) -> None:
    """A stream that is elsewhere refuses, says where it is, and nothing has happened."""
    with pytest.raises(Conflict, match="is at 0, expected was 3"):
        await tenant.events.append("t", stream="s", expected_version=3)
    await tenant.events.append("t", stream="s", expected_version=0)
    with pytest.raises(Conflict, match="is at 1, expected was 0"):
        await tenant.events.append("t", stream="s", expected_version=0)
    await tenant.events.append("t", stream="s", expected_version=1)
    with pytest.raises(Conflict):
        await tenant.events.append("t", stream="s", expected_version=1)
    with pytest.raises(Conflict):
        await tenant.events.append("t", stream="s", expected_version=7)
    last = await tenant.events.append("t", stream="s", expected_version=2)
    assert (last.sequence, last.position) == (3, 3)
    assert await tenant.events.head("nothing") == 0


async def test_many_are_appended_in_order(tenant: Any) -> None:
    """A batch goes to several streams in one piece, and its order is the order of its positions."""
    await tenant.events.append("t", stream="b")
    news = [NewEvent("t", number, stream="abc"[number % 3]) for number in range(300)]
    appended = await tenant.events.append_many(news)
    assert [where.position for where in appended] == list(range(2, 302))
    assert [where.sequence for where in appended[:4]] == [1, 2, 1, 2]
    events = (await everything(tenant))[1:]
    assert [event.payload for event in events] == list(range(300))
    assert [(event.event_id, event.sequence, event.position, event.recorded_at) for event in events] == [
        (where.event_id, where.sequence, where.position, where.recorded_at) for where in appended
    ]
    assert len({where.recorded_at for where in appended}) == 300
    assert await tenant.events.append_many([]) == []


async def test_a_batch_keeps_what_each_event_says(tenant: Any) -> None:
    """Times, languages and correlation ids are each event's own."""
    happened = datetime(2001, 2, 3, tzinfo=UTC)
    await tenant.events.append_many(
        [NewEvent("a", 1, stream="s", occurred_at=happened, language=""), NewEvent("b", 2, correlation_id="c")]
    )
    first, second = await everything(tenant)
    assert (first.occurred_at, first.language, first.stream) == (happened, "", "s")
    assert (second.occurred_at, second.language, second.stream) == (second.recorded_at, "python", "c")


async def test_a_batch_is_all_or_nothing(tenant: Any) -> None:
    """One stream that is elsewhere keeps every event out, and leaves no gap."""
    await tenant.events.append("t", stream="a")
    news = [NewEvent("t", stream="a"), NewEvent("t", stream="b"), NewEvent("t", stream="c")]
    for wrong in ({"a": 0}, {"a": 1, "b": 5}, {"b": 0, "c": 1}, {"a": 2}):
        with pytest.raises(Conflict):
            await tenant.events.append_many(news, expected_versions=wrong)
        assert len(await everything(tenant)) == 1
    appended = await tenant.events.append_many(news, expected_versions={"a": 1, "b": 0})
    assert [where.position for where in appended] == [2, 3, 4]
    assert [(await tenant.events.head(name)) for name in "abc"] == [2, 1, 1]


async def test_expectations_are_of_streams_in_the_batch(tenant: Any) -> None:
    """A stream that no event goes to cannot be expected to be anywhere."""
    with pytest.raises(InvalidInput, match="no event goes to"):
        await tenant.events.append_many([NewEvent("t", stream="a")], expected_versions={"b": 0})
    with pytest.raises(InvalidInput, match="no event goes to"):
        await tenant.events.append_many([], expected_versions={"b": 0})


async def test_the_same_id_is_the_same_event(tenant: Any) -> None:
    """Appending again what was appended returns where it went, whatever else is said."""
    key = uuid7()
    first = await tenant.events.append("t", 1, stream="s", event_id=key)
    await tenant.events.append("t", 2, stream="s")
    assert await tenant.events.append("t", 3, stream="s", event_id=str(key)) == first
    assert await tenant.events.append("t", 1, stream="s", event_id=key, expected_version=0) == first
    assert await tenant.events.append("t", 1, stream="s", event_id=key, expected_version=9) == first
    assert [event.payload for event in await everything(tenant)] == [1, 2]
    with pytest.raises(AlreadyExists):
        await tenant.events.append("t", 1, stream="elsewhere", event_id=key)
    assert [event.position for event in await everything(tenant)] == [1, 2]
    assert (await tenant.events.append("t", 3, stream="s")).position == 3


async def test_a_batch_appended_again_is_the_same_batch(tenant: Any) -> None:
    """Ids that are all known give their first results, those of which some are known are refused."""
    keys = [uuid7() for _ in range(3)]
    news = [NewEvent("t", number, stream="ab"[number % 2], event_id=key) for number, key in enumerate(keys)]
    first = await tenant.events.append_many(news, expected_versions={"a": 0})
    assert await tenant.events.append_many(news, expected_versions={"a": 0}) == first
    assert await tenant.events.append_many(list(reversed(news))) == first[::-1]
    for mixed in (
        [news[0], NewEvent("t", stream="a", event_id=uuid7())],
        [news[0], NewEvent("t", stream="a")],
        [NewEvent("t", stream="b", event_id=keys[0]), news[1]],
    ):
        with pytest.raises(AlreadyExists):
            await tenant.events.append_many(mixed)
    assert len(await everything(tenant)) == 3
    assert await tenant.events.end() == 3


async def test_of_many_attempts_at_one_id_one_is_made(tenant: Any) -> None:
    """Concurrent attempts with one id all get the one result."""
    key = uuid7()
    results = await asyncio.gather(*(tenant.events.append("t", stream="s", event_id=key) for _ in range(WRITERS)))
    assert len(set(results)) == 1
    assert len(await everything(tenant)) == 1


async def test_forgotten_ids_are_new(tenant: Any) -> None:
    """An id is recognized until it is forgotten."""
    key, later = uuid7(), uuid7()
    first = await tenant.events.append("t", stream="s", event_id=key)
    second = await tenant.events.append("t", stream="s", event_id=later)
    assert await tenant.events.forget_ids(first.recorded_at) == 0
    assert await tenant.events.forget_ids(second.recorded_at) == 1
    assert (await tenant.events.append("t", stream="s", event_id=key)).position == 3
    assert await tenant.events.append("t", stream="s", event_id=later) == second
    assert await tenant.events.forget_ids(datetime.now(UTC) + timedelta(days=36500), limit=1) == 1
    assert await tenant.events.forget_ids(datetime.now(UTC) + timedelta(days=36500)) == 1
    assert await tenant.events.forget_ids(datetime.now(UTC) + timedelta(days=36500)) == 0


async def fill(tenant: Any) -> list[Event]:
    """Append 60 events of three types to four streams with two correlation ids."""
    await tenant.events.append_many(
        [
            NewEvent("xyz"[number % 3], number, stream=f"s{number % 4}", correlation_id=f"c{number % 2}")
            for number in range(60)
        ]
    )
    return await everything(tenant)


async def paged(verb: Any, *args: Any, limit: int = 7, **kwargs: Any) -> list[Event]:
    """Read page after page."""
    found: list[Event] = []
    cursor = None
    while True:
        page = await verb(*args, limit=limit, cursor=cursor, **kwargs)
        assert len(page) <= limit
        found += page.items
        if page.cursor is None:
            return found
        assert len(page) == limit
        cursor = page.cursor


@pytest.mark.parametrize("newest_first", [False, True])
async def test_every_listing_pages_in_commit_order(tenant: Any, newest_first: bool) -> None:
    """Whatever is selected comes in the order of the commits or in the reverse of it, each event once."""
    events = await fill(tenant)
    log = tenant.events
    ordered = events[::-1] if newest_first else events
    since, until = events[10].recorded_at, events[50].recorded_at
    between = [event for event in ordered if 10 < event.position <= 50]
    assert await paged(log.read, newest_first=newest_first) == ordered
    assert await paged(log.read_stream, "s1", newest_first=newest_first, limit=4) == [
        event for event in ordered if event.stream == "s1"
    ]
    assert await paged(log.by_correlation, "c1", newest_first=newest_first) == [
        event for event in ordered if event.correlation_id == "c1"
    ]
    assert await paged(log.by_type, "y", newest_first=newest_first) == [e for e in ordered if e.event_type == "y"]
    assert await paged(log.by_type, ["y", "z"], newest_first=newest_first) == [
        event for event in ordered if event.event_type in "yz"
    ]
    assert await paged(log.by_time, since, until, newest_first=newest_first) == between
    assert await paged(log.by_time, newest_first=newest_first) == ordered
    assert await paged(log.by_type, "x", since=since, until=until, newest_first=newest_first) == [
        event for event in between if event.event_type == "x"
    ]
    assert await paged(log.by_correlation, "c0", since=since, until=until, newest_first=newest_first, limit=3) == [
        event for event in between if event.correlation_id == "c0"
    ]


async def test_reading_begins_where_it_is_told(tenant: Any) -> None:
    """Positions and sequences that were seen are left out."""
    events = await fill(tenant)
    assert await paged(tenant.events.read, after=57) == events[57:]
    assert await paged(tenant.events.read, after=60) == []
    assert await paged(tenant.events.read, after=2**62) == []
    assert [event.sequence for event in await paged(tenant.events.read_stream, "s2", after_sequence=12)] == [13, 14, 15]
    with pytest.raises(InvalidInput):
        await tenant.events.read(after=1, newest_first=True)


async def test_nothing_is_there_before_the_first(tenant: Any) -> None:
    """Every read of an empty log is empty, and none makes anything."""
    log = tenant.events
    assert [len(await verb) for verb in (log.read(), log.read_stream("s"), log.by_type("t"), log.streams())] == [0] * 4
    assert len(await log.by_correlation("c")) == len(await log.by_time()) == len(await log.consumers()) == 0
    assert (await log.end(), await log.head("s"), await log.position("c")) == (0, 0, 0)
    statistics = await log.statistics()
    assert (statistics.events, statistics.streams, statistics.position, dict(statistics.by_type)) == (0, 0, 0, {})
    assert statistics.first_at is statistics.last_at is None
    assert [event async for event in log.subscribe(follow=False)] == []
    assert await log.erase_stream("s", "nothing there") == 0
    assert not await log.forget_consumer("c")


async def test_streams_are_listed_by_prefix(tenant: Any) -> None:
    """Names come in the order of their code points, with their heads."""
    names = ["a", "a/1", "a/2", "b", "é", "\U0001f600", "Z"]
    for name in names:
        await tenant.events.append_many([NewEvent("t", stream=name)] * (1 + len(name)))
    found = []
    cursor = None
    while True:
        page = await tenant.events.streams(cursor=cursor, limit=2)
        found += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert [stream.stream for stream in found] == sorted(names)
    assert [stream.head for stream in found] == [1 + len(name) for name in sorted(names)]
    assert [stream.stream for stream in await tenant.events.streams("a/")] == ["a/1", "a/2"]
    (first,) = (await tenant.events.read_stream("b", limit=1)).items
    assert next(stream.created_at for stream in found if stream.stream == "b") == first.recorded_at


async def test_statistics_count(tenant: Any) -> None:
    """Events, streams, types and times are counted."""
    events = await fill(tenant)
    await tenant.events.append("x", stream="new")
    statistics = await tenant.events.statistics()
    assert (statistics.events, statistics.streams, statistics.position) == (61, 5, 61)
    assert list(statistics.by_type.items()) == [("x", 21), ("y", 20), ("z", 20)]
    assert statistics.first_at == events[0].recorded_at
    assert statistics.last_at > events[-1].recorded_at


async def test_a_subscription_ends_when_it_is_not_to_follow(tenant: Any) -> None:
    """It gives what is there, in batches, and ends."""
    events = await fill(tenant)
    assert [event async for event in tenant.events.subscribe(follow=False, batch=7)] == events
    assert [event async for event in tenant.events.subscribe(follow=False, batch=60)] == events
    assert [event async for event in tenant.events.subscribe(follow=False, from_position=41, batch=7)] == events[41:]
    assert [event async for event in tenant.events.subscribe(follow=False, from_end=True)] == []
    since = events[30].recorded_at
    assert [event async for event in tenant.events.subscribe(follow=False, from_time=since, batch=7)] == events[30:]
    later = events[-1].recorded_at + timedelta(microseconds=1)
    assert [event async for event in tenant.events.subscribe(follow=False, from_time=later)] == []
    coming = tenant.events.subscribe(from_time=later + timedelta(days=1), poll_seconds=0.01, poll_seconds_max=0.01)
    async with aclosing(coming):
        first = asyncio.ensure_future(anext(coming))
        await asyncio.sleep(0.05)
        early = await tenant.events.append("x", "early", stream="a")
        await asyncio.sleep(0.1)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert early.position == events[-1].position + 1
    for types in (["y"], ["y", "z"], ["nothing"]):
        found = [event async for event in tenant.events.subscribe(follow=False, types=types, batch=7)]
        assert found == [event for event in events if event.event_type in types]


async def test_a_subscription_waits_for_what_comes(tenant: Any) -> None:
    """Events of its types that are appended later come too; the others do not."""
    await tenant.events.append("x", 1, stream="s")
    log = tenant.events
    async with aclosing(log.subscribe(types=["x"], poll_seconds=0.01, poll_seconds_max=0.02)) as events:
        assert (await anext(events)).payload == 1
        coming = asyncio.ensure_future(anext(events))
        await log.append("y", 2, stream="s")
        await asyncio.sleep(0.05)
        assert not coming.done()
        await log.append("x", 3, stream="s")
        async with asyncio.timeout(10):
            assert (await coming).payload == 3


async def test_a_subscription_from_the_end_gives_what_is_new(tenant: Any) -> None:
    """What was there when it began is left out."""
    await fill(tenant)
    log = tenant.events
    async with aclosing(log.subscribe(from_end=True, poll_seconds=0.01)) as events:
        coming = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.2)
        assert not coming.done()
        await log.append("t", "new", stream="s")
        async with asyncio.timeout(10):
            assert (await coming).payload == "new"


async def test_consumers_keep_their_place(tenant: Any) -> None:
    """A position is kept, never goes back unless it is told to, and a subscription begins behind it."""
    events = await fill(tenant)
    log = tenant.events
    assert await log.checkpoint("c", 10) == 10
    assert await log.checkpoint("c", 20) == 20
    assert await log.checkpoint("c", 5) == 20
    assert [event async for event in log.subscribe(consumer="c", follow=False)] == events[20:]
    assert [event async for event in log.subscribe(consumer="new", follow=False)] == events
    assert await log.checkpoint("c", 5, rewind=True) == 5
    assert await log.position("c") == 5
    await log.checkpoint("a", 0)
    await log.checkpoint("b", 60)
    pages = [await log.consumers(limit=2)]
    pages.append(await log.consumers(limit=2, cursor=pages[0].cursor))
    assert [(one.consumer, one.position) for page in pages for one in page] == [("a", 0), ("b", 60), ("c", 5)]
    assert pages[1].cursor is None
    assert await log.forget_consumer("c")
    assert not await log.forget_consumer("c")
    assert await log.position("c") == 0


async def test_nobody_is_ahead_of_the_log(tenant: Any) -> None:
    """A position that no event has is refused, and what was kept stays."""
    await tenant.events.append("t")
    await tenant.events.checkpoint("c", 1)
    with pytest.raises(InvalidInput, match="no event has it yet"):
        await tenant.events.checkpoint("c", 2)
    with pytest.raises(InvalidInput):
        await tenant.events.checkpoint("new", 2**63 - 1, rewind=True)
    assert await tenant.events.position("c") == 1
    assert await tenant.events.position("new") == 0


async def test_an_erased_stream_is_gone_and_its_numbers_with_it(tenant: Any) -> None:
    """Its events are removed, the others stay where they are, and no number is given twice."""
    key = uuid7()
    await tenant.events.append_many([NewEvent("t", n, stream="ab"[n % 2]) for n in range(10)])
    first = await tenant.events.append("t", stream="a", event_id=key)
    assert await tenant.events.erase_stream("a", "asked for by its subject") == 6
    assert [event.position for event in await everything(tenant)] == [2, 4, 6, 8, 10]
    assert len(await tenant.events.read_stream("a")) == 0
    assert await tenant.events.head("a") == 6
    again = await tenant.events.append("t", stream="a", event_id=key)
    assert (again.sequence, again.position) == (7, first.position + 1)
    with pytest.raises(Conflict):
        await tenant.events.append("t", stream="a", expected_version=0)


@pytest.mark.parametrize(
    "faulty",
    [
        {"event_type": ""},
        {"event_type": "x" * 256},
        {"event_type": "\0"},
        {"event_type": "\ud800"},
        {"event_type": None},
        {"stream": ""},
        {"stream": "x" * 256},
        {"correlation_id": ""},
        {"correlation_id": "\0"},
        {"language": "x" * 51},
        {"payload": float("nan")},
        {"payload": "\ud800"},
        {"payload": {"a": "\0"}},
        {"payload": b"bytes"},
        {"occurred_at": datetime(2024, 1, 1)},  # noqa: DTZ001 - without a time zone is the fault
        {"occurred_at": "2024"},
        {"event_id": "no uuid"},
        {"event_id": 7},
    ],
)
async def test_what_cannot_be_kept_is_refused(tenant: Any, faulty: dict[str, Any]) -> None:
    """Faulty events are told before anything is written, alone and in a batch."""
    values: dict[str, Any] = {"event_type": "t", "stream": "s", **faulty}
    with pytest.raises(InvalidInput):
        await tenant.events.append(values.pop("event_type"), values.pop("payload", None), **values)
    with pytest.raises(InvalidInput):
        await tenant.events.append_many([NewEvent("t", stream="s"), NewEvent(**{"event_type": "t", **faulty})])
    assert await tenant.events.end() == 0


async def test_wrong_arguments_are_told(tenant: Any) -> None:
    """Every verb checks before it asks."""
    log = tenant.events
    key = uuid7()
    calls: list[Any] = [
        lambda: log.append("t", expected_version=-1),
        lambda: log.append("t", expected_version=True),
        lambda: log.append_many("text"),
        lambda: log.append_many([{"event_type": "t"}]),
        lambda: log.append_many([NewEvent("t", event_id=key), NewEvent("t", event_id=str(key))]),
        lambda: log.read(after=-1),
        lambda: log.read(limit=0),
        lambda: log.read(limit=10_001),
        lambda: log.read(cursor="nonsense"),
        lambda: log.read_stream(""),
        lambda: log.read_stream("s", cursor="W10"),
        lambda: log.by_type([]),
        lambda: log.by_type(""),
        lambda: log.by_correlation("\0"),
        lambda: log.by_time(datetime(2024, 1, 1)),  # noqa: DTZ001 - without a time zone is the fault
        lambda: log.streams("\0"),
        lambda: log.checkpoint("", 0),
        lambda: log.checkpoint("c", -1),
        lambda: log.position("x" * 256),
        lambda: log.erase_stream("s", ""),
        lambda: log.erase_stream("s", "x" * 501),
        lambda: log.forget_ids(datetime(2024, 1, 1)),  # noqa: DTZ001 - without a time zone is the fault
        lambda: anext(log.subscribe(from_end=True, from_position=0)),
        lambda: anext(log.subscribe(poll_seconds=0)),
        lambda: anext(log.subscribe(batch=0)),
        lambda: anext(log.subscribe(types=[""])),
        lambda: anext(log.subscribe(from_position=-1)),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call()
    assert await log.end() == 0


async def test_the_longest_names_fit(tenant: Any) -> None:
    """The limits themselves are fine."""
    longest = "\U0001f600" * 255
    appended = await tenant.events.append(
        longest, "x" * 100_000, stream=longest, correlation_id=longest, language="é" * 50
    )
    assert appended.stream == longest
    assert len((await tenant.events.by_type(longest)).items[0].payload) == 100_000
    assert await tenant.events.checkpoint(longest, 1) == 1


async def test_concurrent_writers_leave_no_gap(tenant: Any) -> None:
    """Eight writers share streams; a reader beside them sees every event once, in order, while they write."""
    log = tenant.events
    rounds = 12
    total = WRITERS * rounds * 2

    async def write(writer: int) -> None:
        """Append one by one and in batches."""
        for number in range(rounds):
            await log.append("one", [writer, number], stream=f"s{number % 3}")
            await log.append_many([NewEvent("many", [writer, number], stream=f"s{writer % 3}")])

    async def watch(types: list[str], wanted: int) -> list[Event]:
        """Subscribe until so many were seen."""
        seen: list[Event] = []
        async with aclosing(log.subscribe(types=types, batch=5, poll_seconds=0.001)) as events:
            async for event in events:
                seen.append(event)
                if len(seen) == wanted:
                    break
        return seen

    seen: list[Event]
    some: list[Event]
    async with asyncio.timeout(120):
        results: list[Any] = await asyncio.gather(
            watch([], total), watch(["one"], total // 2), *(write(writer) for writer in range(WRITERS))
        )
    seen, some = results[:2]
    assert [event.position for event in seen] == list(range(1, total + 1))
    assert some == [event for event in seen if event.event_type == "one"]
    assert seen == await everything(tenant)
    times = [event.recorded_at for event in seen]
    assert times == sorted(set(times))
    for stream in ("s0", "s1", "s2"):
        sequences = [event.sequence for event in seen if event.stream == stream]
        assert sequences == list(range(1, len(sequences) + 1))
        assert await log.head(stream) == len(sequences)


async def test_of_many_who_expect_the_same_one_wins(tenant: Any) -> None:
    """Writers who read, decide and append lose no decision: every version is made by one of them."""
    log = tenant.events
    wins: list[int] = []

    async def count(writer: int) -> None:
        """Read, decide and append until three decisions stand."""
        done = 0
        while done < 3:
            head = await log.head("s")
            try:
                where = await log.append("t", writer, stream="s", expected_version=head)
            except Conflict:
                continue
            assert where.sequence == head + 1
            wins.append(where.sequence)
            done += 1

    async with asyncio.timeout(120):
        await asyncio.gather(*(count(writer) for writer in range(4)))
    assert sorted(wins) == list(range(1, 13))
    assert await log.end() == 12


async def test_of_many_who_make_a_stream_one_does(tenant: Any) -> None:
    """Expecting nothing there, one writer succeeds; the batches of the others leave nothing."""
    news = [NewEvent("t", stream="new"), NewEvent("t", stream="old")]
    await tenant.events.append("t", stream="old")
    results = await asyncio.gather(
        *(tenant.events.append_many(news, expected_versions={"new": 0}) for _ in range(WRITERS)), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict) for result in results) == WRITERS - 1
    assert [event.position for event in await everything(tenant)] == [1, 2, 3]


async def test_the_neighbour_is_left_alone(tenant: Any, neighbour: Any) -> None:
    """No writing verb changes or shows anything of another tenant."""
    key = uuid7()
    await neighbour.events.append_many([NewEvent("t", n, stream="s", correlation_id="c") for n in range(5)])
    await neighbour.events.append("t", stream="s", event_id=key)
    await neighbour.events.checkpoint("c", 3)
    before = await everything(neighbour)
    log = tenant.events
    assert len(await log.read()) == len(await log.by_correlation("c")) == len(await log.streams()) == 0
    assert (await log.append("t", stream="s", event_id=key, expected_version=0)).position == 1
    await log.append_many([NewEvent("t", stream="s")])
    await log.checkpoint("c", 1)
    await log.forget_consumer("c")
    assert await log.forget_ids(datetime.now(UTC) + timedelta(days=36500)) == 1
    assert await log.erase_stream("s", "asked for") == 2
    assert await everything(neighbour) == before
    assert (await neighbour.events.head("s"), await neighbour.events.position("c")) == (6, 3)
    assert (await neighbour.events.append("t", stream="s", event_id=key)).sequence == 6
    assert (await neighbour.events.statistics()).events == 6


@pytest.mark.settable_clock
async def test_a_clock_that_goes_back_does_not(tenant: Any, clock: Any) -> None:
    """Recording times grow although the machine's clock does not."""
    first = await tenant.events.append("t", stream="s")
    clock.advance(seconds=-3600)
    second = await tenant.events.append("t", stream="s")
    assert second.recorded_at - first.recorded_at == timedelta(microseconds=1)
    clock.advance(seconds=7200)
    third = await tenant.events.append("t", stream="s")
    assert third.recorded_at - second.recorded_at > timedelta(seconds=3500)


def plain(event: Event) -> tuple[Any, ...]:
    """Return what does not depend on the clock."""
    return (event.event_type, event.stream, event.sequence, event.position, event.correlation_id, event.payload)


@pytest.mark.parametrize("seed", range(3))
async def test_random_operations_do_what_the_model_does(tenant: Any, model: Any, seed: int) -> None:
    """Whatever is done, every backend ends up like the one in memory."""
    chance = random.Random(seed)
    keys = [UUID(int=chance.getrandbits(128)) for _ in range(6)]

    def some() -> NewEvent:
        """Make an event by chance."""
        return NewEvent(
            chance.choice("xyz"),
            chance.randrange(100),
            stream=chance.choice("abc"),
            correlation_id=chance.choice("cd"),
            event_id=chance.choice(keys) if chance.random() < 0.2 else None,
        )

    for _ in range(60):
        news = list({new.event_id or number: new for number, new in enumerate(some() for _ in range(4))}.values())
        expected = {news[0].stream: chance.randrange(6)} if chance.random() < 0.4 else {}
        position, name = chance.randrange(30), chance.choice("abc")
        choice = chance.randrange(6)
        results = []
        for log in (tenant.events, model.events):
            try:
                if choice < 3:
                    result: Any = [
                        (where.stream, where.sequence, where.position)
                        for where in await log.append_many(
                            news[: 1 + choice], expected_versions={k: v for k, v in expected.items() if k}
                        )
                    ]
                elif choice == 3:
                    result = [plain(e) for e in await log.by_type(["x", "z"], limit=5, newest_first=position % 2 == 0)]
                elif choice == 4:
                    result = await log.checkpoint(name, position, rewind=position % 2 == 0)
                else:
                    result = await log.erase_stream(name, "chance") if position < 4 else await log.head(name)
            except (Conflict, AlreadyExists, InvalidInput) as error:
                result = (type(error), str(error))
            results.append(result)
        assert results[0] == results[1]
    assert [plain(event) for event in await everything(tenant)] == [plain(event) for event in await everything(model)]
    ours, theirs = await tenant.events.statistics(), await model.events.statistics()
    assert (ours.events, ours.streams, ours.position) == (theirs.events, theirs.streams, theirs.position)
    assert list(ours.by_type.items()) == list(theirs.by_type.items())


@pytest.mark.parametrize("rewind", [1, 0, None, "yes", 2**63])
async def test_rewinding_is_yes_or_no(tenant: Any, rewind: Any) -> None:
    """What only counts as one of them is refused, before any I/O."""
    with pytest.raises(InvalidInput, match="rewind: must be True or False"):
        await tenant.events.checkpoint("reader", 1, rewind=rewind)
