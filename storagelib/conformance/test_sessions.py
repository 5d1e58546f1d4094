"""The sessions and their messages."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest

from storagelib.components.sessions import Draft
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound, StorageError
from storagelib.limits import ID_MAX

BAD_IDS = ["", "a\0b", "\ud800", "x" * (ID_MAX + 1), 7, None, b"a"]
HOSTILE = ["'; DROP TABLE sessions; --", "%", "_", "\\", '"', "é", "\U0001f600", " ", "x" * ID_MAX]
MOMENT = timedelta(seconds=1)
LONG_PAST = datetime(2001, 1, 1, tzinfo=UTC)


async def talk(tenant: Any, session_id: str, count: int, first: int = 1) -> None:
    """Append messages whose contents count on, of 10 tokens each, in turns."""
    for n in range(first, first + count):
        await tenant.sessions.append(session_id, ("user", "assistant")[n % 2], n, tokens=10)


async def said(tenant: Any, session_id: str) -> list[Any]:
    """Return the contents of all messages in order."""
    return [message.content async for message in tenant.sessions.messages(session_id)]


async def test_a_session_is_made(tenant: Any) -> None:
    """With its data, active and without messages; what is not there is None."""
    assert await tenant.sessions.get("s") is None
    made = await tenant.sessions.create("s", {"user": "ada"}, metadata={"n": [1]})
    assert made == await tenant.sessions.get("s")
    assert (made.session_id, dict(made.data), dict(made.metadata)) == ("s", {"user": "ada"}, {"n": [1]})
    assert (made.status, made.version, made.message_count, made.last_sequence) == ("active", 1, 0, 0)
    assert (made.artifact_count, made.parent_id, made.branched_at, made.expires_at) == (0, None, None, None)
    assert await said(tenant, "s") == []
    assert await tenant.sessions.last("s") == await tenant.sessions.window("s", 5) == []
    assert await tenant.sessions.count("s") == await tenant.sessions.count("s", role="user") == 0
    assert await tenant.sessions.pop_last("s") is None
    assert await tenant.sessions.clear("s") == 0


async def test_an_id_is_made_when_none_is_given(tenant: Any) -> None:
    """A UUID of version 7, as text, another one each time."""
    one, two = await tenant.sessions.create(), await tenant.sessions.create(data={"a": 1})
    assert UUID(one.session_id).version == UUID(two.session_id).version == 7
    assert one.session_id < two.session_id
    assert dict(one.data) == {}


async def test_a_taken_id(tenant: Any) -> None:
    """Is refused, and of many who make the same session at once one does."""
    await tenant.sessions.create("s", {"n": 1})
    with pytest.raises(AlreadyExists):
        await tenant.sessions.create("s", {"n": 2})
    assert dict((await tenant.sessions.get("s")).data) == {"n": 1}
    results = await asyncio.gather(*(tenant.sessions.create("t") for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, AlreadyExists) for result in results) == 7


@pytest.mark.parametrize("text", HOSTILE)
async def test_ids_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No id, role or key is taken for a pattern or an escape."""
    await tenant.sessions.create(text, {text: text}, metadata={text: text})
    await tenant.sessions.create("other")
    message = await tenant.sessions.append(text, text, {text: text}, idempotency_key=text, metadata={text: text})
    assert await tenant.sessions.append(text, "x", 0, idempotency_key=text) == message
    assert (message.role, message.content, dict(message.metadata)) == (text, {text: text}, {text: text})
    assert await tenant.sessions.last(text) == [message]
    assert await tenant.sessions.count(text, role=text) == 1
    assert (await tenant.sessions.branch(text, new_id=f"{text[:200]}!")).parent_id == text
    assert await tenant.sessions.delete(text)
    assert {s.session_id async for s in tenant.sessions.sessions()} == {"other", f"{text[:200]}!"}


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_ids_that_cannot_be_kept_are_refused(tenant: Any, bad: Any) -> None:
    """Every verb refuses them before anything is sent."""
    sessions = tenant.sessions
    calls = [
        sessions.create(bad or ""),
        sessions.get(bad),
        sessions.update(bad, {}),
        sessions.delete(bad),
        sessions.touch(bad),
        sessions.archive(bad),
        sessions.unarchive(bad),
        sessions.append(bad, "user", 1),
        sessions.append("s", bad, 1),
        sessions.append("s", "user", 1, idempotency_key=bad or ""),
        sessions.append_many(bad, [Draft("user", 1)]),
        sessions.list_messages(bad),
        sessions.list_messages("s", role=bad or ""),
        sessions.last(bad),
        sessions.window(bad, 1),
        sessions.count(bad),
        sessions.branch(bad),
        sessions.branch("s", new_id=bad or ""),
        sessions.pop_last(bad),
        sessions.clear(bad),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call


REFUSED: list[Callable[[Any], Awaitable[Any]]] = [
    lambda sessions: sessions.create("s", {"a": float("inf")}),
    lambda sessions: sessions.create("s", [1]),
    lambda sessions: sessions.create("s", metadata={"a": "x" * (1 << 20)}),
    lambda sessions: sessions.create("s", ttl=0),
    lambda sessions: sessions.create("s", ttl=-1),
    lambda sessions: sessions.create("s", ttl=5, expires_at=datetime.now(UTC)),
    lambda sessions: sessions.create("s", expires_at=datetime(2100, 1, 1)),  # noqa: DTZ001 - that is what is refused
    lambda sessions: sessions.update("s"),
    lambda sessions: sessions.update("s", "text"),
    lambda sessions: sessions.update("s", {}, expected_version=0),
    lambda sessions: sessions.append("s", "user", {1: 2}),
    lambda sessions: sessions.append("s", "user", "\ud800"),
    lambda sessions: sessions.append("s", "user", 1, tokens=-1),
    lambda sessions: sessions.append("s", "user", 1, tokens=2**63),
    lambda sessions: sessions.append("s", "user", 1, metadata=[1]),
    lambda sessions: sessions.append_many("s", ["user"]),
    lambda sessions: sessions.append_many("s", "user"),
    lambda sessions: sessions.append_many("s", [Draft("user", 1), Draft("", 2)]),
    lambda sessions: sessions.last("s", 0),
    lambda sessions: sessions.last("s", 10_001),
    lambda sessions: sessions.window("s", -1),
    lambda sessions: sessions.window("s", 1, limit=0),
    lambda sessions: sessions.list_messages("s", cursor="nonsense"),
    lambda sessions: sessions.list_messages("s", limit=0),
    lambda sessions: sessions.list_sessions(status="gone"),
    lambda sessions: sessions.list_active(limit=10_001),
    lambda sessions: sessions.branch("s", -1),
    lambda sessions: sessions.cleanup_expired(limit=0),
    lambda sessions: sessions.purge_expired(older_than=timedelta(days=-1)),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
async def test_what_cannot_work_is_refused(tenant: Any, number: int) -> None:
    """Each limit has a verb that says so, and nothing is written."""
    with pytest.raises(InvalidInput):
        await REFUSED[number](tenant.sessions)
    assert await tenant.sessions.get("s") is None


async def test_what_is_not_there_is_not_found(tenant: Any) -> None:
    """Every verb that needs a session says so; only deleting it is content."""
    sessions = tenant.sessions
    for call in (
        sessions.update("s", {}),
        sessions.touch("s"),
        sessions.archive("s"),
        sessions.unarchive("s"),
        sessions.append("s", "user", 1),
        sessions.append("s", "user", 1, idempotency_key="k"),
        sessions.list_messages("s"),
        sessions.last("s"),
        sessions.window("s", 10),
        sessions.count("s"),
        sessions.count("s", role="user"),
        sessions.branch("s"),
        sessions.pop_last("s"),
        sessions.clear("s"),
    ):
        with pytest.raises(NotFound):
            await call
    assert not await sessions.delete("s")
    assert await sessions.append_many("s", []) == []
    assert list(await sessions.list_active()) == []
    assert await sessions.cleanup_expired() == await sessions.purge_expired() == 0


async def test_updating(tenant: Any) -> None:
    """Data is replaced or merged at its first level; metadata by itself; the version grows."""
    first = await tenant.sessions.create("s", {"a": {"x": 1}, "b": 2}, metadata={"m": 1})
    merged = await tenant.sessions.update("s", {"a": {"y": 2}, "c": None}, merge=True)
    assert dict(merged.data) == {"a": {"y": 2}, "b": 2, "c": None}
    assert (dict(merged.metadata), merged.version, merged.created_at) == ({"m": 1}, 2, first.created_at)
    replaced = await tenant.sessions.update("s", {"d": 4}, metadata={})
    assert (dict(replaced.data), dict(replaced.metadata), replaced.version) == ({"d": 4}, {}, 3)
    only = await tenant.sessions.update("s", metadata={"n": 2})
    assert (dict(only.data), dict(only.metadata)) == ({"d": 4}, {"n": 2})
    assert only == await tenant.sessions.get("s")
    assert only.updated_at >= replaced.updated_at >= first.updated_at


async def test_an_expected_version(tenant: Any) -> None:
    """Another version is a conflict, and of many writers who expect the same one gets through. Messages do not count."""
    made = await tenant.sessions.create("s", {"n": 0})
    await tenant.sessions.append("s", "user", 1)
    await tenant.sessions.touch("s")
    calls = [tenant.sessions.update("s", {"n": n}, expected_version=made.version) for n in range(8)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in results) == 7
    with pytest.raises(Conflict, match="version 2, not 1"):
        await tenant.sessions.update("s", {}, expected_version=1)


async def test_merging_concurrently_loses_nothing(tenant: Any) -> None:
    """Each of many who merge a key of their own finds it there."""
    await tenant.sessions.create("s")
    await asyncio.gather(*(tenant.sessions.update("s", {f"k{n}": n}, merge=True) for n in range(8)))
    session = await tenant.sessions.get("s")
    assert dict(session.data) == {f"k{n}": n for n in range(8)}
    assert session.version == 9


async def test_archived_sessions_are_only_read(tenant: Any) -> None:
    """Archiving sets aside and can be taken back; both may be repeated; what is archived is not changed."""
    await tenant.sessions.create("s", {"n": 1}, ttl=1000)
    kept = await tenant.sessions.append("s", "user", "hello", idempotency_key="k")
    archived = await tenant.sessions.archive("s")
    assert (archived.status, archived.version) == ("archived", 2)
    assert await tenant.sessions.archive("s") == archived
    sessions = tenant.sessions
    for call in (
        sessions.update("s", {}),
        sessions.touch("s"),
        sessions.append("s", "user", 1),
        sessions.append("s", "user", 1, idempotency_key="new"),
        sessions.pop_last("s"),
        sessions.clear("s"),
    ):
        with pytest.raises(Conflict, match="archived"):
            await call
    assert await sessions.get("s") == archived
    assert await sessions.append("s", "user", "again", idempotency_key="k") == kept
    assert await said(tenant, "s") == ["hello"]
    assert list(await sessions.list_active()) == []
    back = await sessions.unarchive("s")
    assert (back.status, back.version, back.expires_at) == ("active", 3, archived.expires_at)
    assert await sessions.unarchive("s") == back
    assert (await sessions.append("s", "user", 2)).sequence == 2


async def test_the_expired_are_never_active(tenant: Any) -> None:
    """From its moment on a session is expired for every verb, before and after the clean-up."""
    sessions = tenant.sessions
    await sessions.create("s", {"n": 1}, expires_at=LONG_PAST)
    await sessions.create("t")
    for cleaned in (0, 1):
        found = await sessions.get("s")
        assert (found.status, found.expires_at) == ("expired", LONG_PAST)
        assert [s.session_id for s in await sessions.list_active()] == ["t"]
        assert [s.session_id for s in await sessions.list_sessions(status="expired")] == ["s"]
        assert {s.session_id for s in await sessions.list_sessions()} == {"s", "t"}
        for call in (
            sessions.update("s", {}),
            sessions.touch("s", ttl=1000),
            sessions.archive("s"),
            sessions.unarchive("s"),
            sessions.append("s", "user", 1),
            sessions.pop_last("s"),
            sessions.clear("s"),
        ):
            with pytest.raises(Conflict, match="expired"):
                await call
        with pytest.raises(AlreadyExists):
            await sessions.create("s")
        assert await sessions.cleanup_expired() == 1 - cleaned
    assert await sessions.purge_expired(older_than=timedelta(days=20_000)) == 0
    assert await sessions.purge_expired() == 1
    assert await sessions.get("s") is None
    assert (await sessions.get("t")).status == "active"


async def test_cleaning_up_in_batches(tenant: Any) -> None:
    """Each call does as much as it was told, and purging works on what was never marked, too."""
    for n in range(7):
        await tenant.sessions.create(f"s{n}", expires_at=LONG_PAST)
        await tenant.sessions.create(f"t{n}", ttl=1000)
    assert [await tenant.sessions.cleanup_expired(limit=3) for _ in range(4)] == [3, 3, 1, 0]
    for n in range(7, 9):
        await tenant.sessions.create(f"s{n}", expires_at=LONG_PAST)
    assert [await tenant.sessions.purge_expired(limit=4) for _ in range(4)] == [4, 4, 1, 0]
    assert {s.session_id async for s in tenant.sessions.sessions()} == {f"t{n}" for n in range(7)}


async def test_the_expired_can_be_read_and_branched(tenant: Any) -> None:
    """An expired session keeps its messages until it is purged, and a branch of it goes on."""
    await tenant.sessions.create("s", {"n": 1})
    await talk(tenant, "s", 3)
    await tenant.sessions.touch("s", ttl=0.05)
    await asyncio.sleep(0.1)
    assert (await tenant.sessions.get("s")).status == "expired"
    assert await said(tenant, "s") == [1, 2, 3]
    branch = await tenant.sessions.branch("s", new_id="b")
    assert (branch.status, branch.expires_at, dict(branch.data)) == ("active", None, {"n": 1})
    assert await tenant.sessions.purge_expired() == 1
    await tenant.sessions.append("b", "user", 4)
    assert await said(tenant, "b") == [1, 2, 3, 4]


@pytest.mark.settable_clock
async def test_touching_lets_a_session_live_on(tenant: Any, clock: Any) -> None:
    """An access is noted by what writes; only a new expiry changes when it expires."""
    made = await tenant.sessions.create("s", ttl=10)
    clock.advance(seconds=5)
    await tenant.sessions.get("s")
    await tenant.sessions.last("s")
    assert (await tenant.sessions.get("s")).last_accessed_at == made.last_accessed_at
    touched = await tenant.sessions.touch("s")
    assert abs(touched.last_accessed_at - made.last_accessed_at - timedelta(seconds=5)) < MOMENT
    assert (touched.expires_at, touched.version, touched.updated_at) == (made.expires_at, 1, made.updated_at)
    renewed = await tenant.sessions.touch("s", ttl=10)
    assert abs(renewed.expires_at - made.expires_at - timedelta(seconds=5)) < MOMENT
    clock.advance(seconds=9)
    message = await tenant.sessions.append("s", "user", 1)
    assert abs((await tenant.sessions.get("s")).last_accessed_at - message.created_at) < MOMENT
    assert message.created_at - touched.last_accessed_at > timedelta(seconds=8)
    clock.advance(seconds=1)
    with pytest.raises(Conflict, match="expired"):
        await tenant.sessions.touch("s", ttl=10)
    assert [s.session_id for s in await tenant.sessions.list_sessions(status="expired")] == ["s"]


@pytest.mark.settable_clock
async def test_the_archived_do_not_expire(tenant: Any, clock: Any) -> None:
    """An archived session outlives its expiry, and is expired when it comes back without a new one."""
    for name in ("s", "t"):
        await tenant.sessions.create(name, ttl=10)
        await tenant.sessions.archive(name)
    clock.advance(seconds=100)
    assert await tenant.sessions.cleanup_expired() == await tenant.sessions.purge_expired() == 0
    assert (await tenant.sessions.get("s")).status == "archived"
    assert (await tenant.sessions.unarchive("s", ttl=10)).status == "active"
    assert (await tenant.sessions.unarchive("t")).status == "expired"
    assert await tenant.sessions.purge_expired() == 1
    assert await tenant.sessions.get("t") is None


async def test_listing(tenant: Any) -> None:
    """Newest first, by status, page by page."""
    for n in range(12):
        await tenant.sessions.create(f"s{n:02}", expires_at=LONG_PAST if n % 4 == 3 else None)
        await asyncio.sleep(0.001)
    for n in (0, 4, 8):
        await tenant.sessions.archive(f"s{n:02}")
    await tenant.sessions.cleanup_expired(limit=1)
    names = [f"s{n:02}" for n in reversed(range(12))]
    assert [s.session_id async for s in tenant.sessions.sessions()] == names
    assert [s.session_id async for s in tenant.sessions.sessions(status="archived")] == ["s08", "s04", "s00"]
    assert [s.session_id async for s in tenant.sessions.sessions(status="expired")] == ["s11", "s07", "s03"]
    seen, cursor = [], None
    while True:
        page = await tenant.sessions.list_active(cursor=cursor, limit=4)
        seen += [s.session_id for s in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [name for name in names if int(name[1:]) % 4 in {1, 2}]
    first = await tenant.sessions.list_sessions(status="expired", limit=2)
    rest = await tenant.sessions.list_sessions(status="expired", limit=2, cursor=first.cursor)
    assert [s.session_id for s in rest] == ["s03"]


async def test_messages_come_back(tenant: Any) -> None:
    """As they were appended, numbered from 1; the session counts them."""
    await tenant.sessions.create("s")
    first = await tenant.sessions.append("s", "user", {"text": "hi\n", "n": [None, 1.5]}, tokens=3, metadata={"m": 1})
    second = await tenant.sessions.append("s", "tool", None)
    assert (first.sequence, first.role, first.content) == (1, "user", {"text": "hi\n", "n": [None, 1.5]})
    assert (first.tokens, first.idempotency_key, dict(first.metadata)) == (3, None, {"m": 1})
    assert (second.sequence, second.content, second.tokens, dict(second.metadata)) == (2, None, None, {})
    assert first.created_at <= second.created_at
    assert list(await tenant.sessions.list_messages("s")) == [first, second]
    session = await tenant.sessions.get("s")
    assert (session.message_count, session.last_sequence, session.version) == (2, 2, 1)


async def test_an_idempotency_key(tenant: Any) -> None:
    """A repeated append gives the first message, whatever else it says; without a key every append counts."""
    await tenant.sessions.create("s")
    await tenant.sessions.create("t")
    first = await tenant.sessions.append("s", "user", 1, idempotency_key="k", tokens=7)
    assert await tenant.sessions.append("s", "tool", 2, idempotency_key="k") == first
    assert (await tenant.sessions.append("t", "tool", 2, idempotency_key="k")).content == 2
    assert (await tenant.sessions.append("s", "user", 1)).sequence == 2
    assert (await tenant.sessions.append("s", "user", 1)).sequence == 3
    assert (await tenant.sessions.append("s", "user", 4, idempotency_key="l")).sequence == 4


async def test_a_key_that_many_append_at_once(tenant: Any) -> None:
    """One message, which all get, and no gap behind it."""
    await tenant.sessions.create("s")
    calls = [tenant.sessions.append("s", "user", n, idempotency_key="k") for n in range(8)]
    messages = await asyncio.gather(*calls)
    assert all(message == messages[0] for message in messages)
    assert (await tenant.sessions.append("s", "user", 9)).sequence == 2
    assert await tenant.sessions.count("s") == 2


async def test_appending_many(tenant: Any) -> None:
    """In order, with consecutive numbers; known keys and repeated ones give the message that is there."""
    await tenant.sessions.create("s")
    known = await tenant.sessions.append("s", "user", 0, idempotency_key="k0")
    drafts = [
        Draft("user", 1, idempotency_key="k1"),
        Draft("user", 2),
        Draft("tool", 99, idempotency_key="k0"),
        Draft("user", 3, tokens=5, metadata={"a": 1}),
        Draft("tool", 98, idempotency_key="k1"),
    ]
    messages = await tenant.sessions.append_many("s", drafts)
    assert [message.sequence for message in messages] == [2, 3, 1, 4, 2]
    assert messages[2] == known
    assert messages[4] == messages[0]
    assert list(await tenant.sessions.list_messages("s")) == [known, messages[0], messages[1], messages[3]]
    assert (await tenant.sessions.get("s")).message_count == 4
    thousand = await tenant.sessions.append_many("s", [Draft("user", n) for n in range(1000)])
    assert [message.sequence for message in thousand] == list(range(5, 1005))


async def test_all_or_none(tenant: Any) -> None:
    """A batch that cannot be appended leaves nothing, not even numbers."""
    await tenant.sessions.create("s")
    with pytest.raises(InvalidInput):
        await tenant.sessions.append_many("s", [Draft("user", 1), Draft("user", float("nan"))])
    assert (await tenant.sessions.append("s", "user", 1)).sequence == 1


async def test_numbers_without_gaps(tenant: Any) -> None:
    """Many who append at once, single messages and batches, get every number once, batches in one piece."""
    await tenant.sessions.create("s")
    batches = [tenant.sessions.append_many("s", [Draft("user", n)] * 3) for n in range(10)]
    singles = [tenant.sessions.append("s", "user", n) for n in range(20)]
    results = await asyncio.gather(*batches, *singles)
    numbers = [message.sequence for result in results for message in (result if isinstance(result, list) else [result])]
    assert sorted(numbers) == list(range(1, 51))
    for batch in results[:10]:
        assert all(after.sequence == before.sequence + 1 for before, after in pairwise(batch))
    times = [message.created_at async for message in tenant.sessions.messages("s")]
    assert times == sorted(times)


async def test_paging_messages(tenant: Any) -> None:
    """Forwards and backwards, by role, and right while messages are appended."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 11)
    for newest_first, role in ((False, None), (True, None), (False, "user"), (True, "assistant")):
        wanted = [n for n in range(1, 12) if role is None or ("user", "assistant")[n % 2] == role]
        seen, cursor = [], None
        while True:
            page = await tenant.sessions.list_messages(
                "s", newest_first=newest_first, role=role, cursor=cursor, limit=3
            )
            seen += [message.content for message in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == (wanted[::-1] if newest_first else wanted)
    page = await tenant.sessions.list_messages("s", limit=10)
    await talk(tenant, "s", 2, first=12)
    rest = await tenant.sessions.list_messages("s", limit=10, cursor=page.cursor)
    assert [message.content for message in rest] == [11, 12, 13]
    assert await tenant.sessions.count("s", role="assistant") == 7
    assert await tenant.sessions.count("s", role="nobody") == 0


async def test_the_last_ones(tenant: Any) -> None:
    """Oldest first; fewer when there are fewer."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 5)
    assert [message.content for message in await tenant.sessions.last("s")] == [5]
    assert [message.content for message in await tenant.sessions.last("s", 3)] == [3, 4, 5]
    assert [message.content for message in await tenant.sessions.last("s", 100)] == [1, 2, 3, 4, 5]


async def test_a_window_of_tokens(tenant: Any) -> None:
    """The newest that fit together, oldest first; the first that does not fit ends it; estimates where nobody counted."""
    await tenant.sessions.create("s")
    for n, tokens in enumerate([5, 50, 10, 0, 20], 1):
        await tenant.sessions.append("s", "user", n, tokens=tokens)
    for most, wanted in ((0, []), (19, []), (20, [4, 5]), (30, [3, 4, 5]), (84, [2, 3, 4, 5]), (85, [1, 2, 3, 4, 5])):
        window = await tenant.sessions.window("s", most)
        assert [message.content for message in window] == wanted, most
    assert [message.content for message in await tenant.sessions.window("s", 85, limit=2)] == [4, 5]
    await tenant.sessions.append("s", "user", "x" * 38)
    assert len(await tenant.sessions.window("s", 9)) == 0
    assert len(await tenant.sessions.window("s", 10)) == 1


async def test_a_branch_goes_its_own_way(tenant: Any) -> None:
    """It has the history up to its point and goes on from there; neither sees what the other appends."""
    await tenant.sessions.create("s", {"d": 1}, metadata={"m": 1}, ttl=1000)
    await talk(tenant, "s", 5)
    branch = await tenant.sessions.branch("s", 3, new_id="b", metadata={"m": 2})
    assert branch == await tenant.sessions.get("b")
    assert (branch.parent_id, branch.branched_at, branch.message_count, branch.last_sequence) == ("s", 3, 3, 3)
    assert (dict(branch.data), dict(branch.metadata), branch.expires_at) == ({"d": 1}, {"m": 2}, None)
    assert (await tenant.sessions.append("b", "user", "b4")).sequence == 4
    await tenant.sessions.append("s", "user", 6)
    assert await said(tenant, "b") == [1, 2, 3, "b4"]
    assert await said(tenant, "s") == [1, 2, 3, 4, 5, 6]
    assert [m.content for m in await tenant.sessions.last("b", 2)] == [3, "b4"]
    assert [m.content for m in await tenant.sessions.list_messages("b", newest_first=True, limit=3)] == ["b4", 3, 2]
    assert [m.content for m in await tenant.sessions.window("b", 21)] == [2, 3, "b4"]
    assert await tenant.sessions.count("b", role="assistant") == 2


async def test_where_a_branch_can_begin(tenant: Any) -> None:
    """Anywhere from nothing to the last number; beyond is not found; a taken id is refused and leaves nothing."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 2)
    assert (await tenant.sessions.branch("s", 0, new_id="none")).message_count == 0
    assert (await tenant.sessions.append("none", "user", 1)).sequence == 1
    assert await said(tenant, await _id(tenant.sessions.branch("s"))) == [1, 2]
    with pytest.raises(NotFound, match="none has number 3"):
        await tenant.sessions.branch("s", 3, new_id="b")
    with pytest.raises(AlreadyExists):
        await tenant.sessions.branch("s", 1, new_id="none")
    assert await tenant.sessions.get("b") is None
    assert await said(tenant, "none") == [1]


async def _id(branch: Awaitable[Any]) -> str:
    return str((await branch).session_id)


async def test_branches_of_branches(tenant: Any) -> None:
    """Histories of several threads read as one, from every end, with keys known throughout."""
    await tenant.sessions.create("s0")
    key = await tenant.sessions.append("s0", "user", 1, idempotency_key="k")
    await talk(tenant, "s0", 1, first=2)
    for n in range(1, 6):
        await tenant.sessions.branch(f"s{n - 1}", n + 1, new_id=f"s{n}")
        await talk(tenant, f"s{n}", 3, first=n + 2)
    assert await said(tenant, "s5") == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert await said(tenant, "s4") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await tenant.sessions.append("s5", "user", 0, idempotency_key="k") == key
    found = [m.content async for m in tenant.sessions.messages("s5", newest_first=True)]
    assert found == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    page = await tenant.sessions.list_messages("s5", limit=4)
    assert [m.content for m in await tenant.sessions.list_messages("s5", cursor=page.cursor)] == [5, 6, 7, 8, 9]
    early = await tenant.sessions.branch("s5", 2, new_id="early")
    assert early.message_count == 2
    assert await said(tenant, "early") == [1, 2]


@pytest.mark.parametrize("way", ["delete", "clear", "pop_last"])
async def test_a_branch_keeps_what_its_parent_loses(tenant: Any, way: str) -> None:
    """Deleting, clearing or popping takes nothing from a branch, and nothing returns to the parent."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 5)
    await tenant.sessions.branch("s", 4, new_id="b")
    await talk(tenant, "b", 2, first=100)
    for _ in range(5 if way == "pop_last" else 1):
        await getattr(tenant.sessions, way)("s")
    assert await said(tenant, "b") == [1, 2, 3, 4, 100, 101]
    if way == "delete":
        await tenant.sessions.create("s")
    assert await said(tenant, "s") == []
    message = await tenant.sessions.append("s", "user", "new")
    assert message.sequence == (1 if way == "delete" else 6)
    assert await said(tenant, "s") == ["new"]
    assert await said(tenant, "b") == [1, 2, 3, 4, 100, 101]
    again = await tenant.sessions.branch("b", 5, new_id="c")
    assert again.message_count == 5
    assert await said(tenant, "c") == [1, 2, 3, 4, 100]
    assert await tenant.sessions.delete("b")
    assert await said(tenant, "c") == [1, 2, 3, 4, 100]


async def test_popping(tenant: Any) -> None:
    """The newest goes and is returned; its number is not given again and its key is forgotten."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 2)
    third = await tenant.sessions.append("s", "user", 3, idempotency_key="k")
    assert await tenant.sessions.pop_last("s") == third
    assert (await tenant.sessions.get("s")).message_count == 2
    fourth = await tenant.sessions.append("s", "user", 4, idempotency_key="k")
    assert (fourth.sequence, fourth.content) == (4, 4)
    assert await said(tenant, "s") == [1, 2, 4]
    assert [(await tenant.sessions.pop_last("s")).content for _ in range(3)] == [4, 2, 1]
    assert await tenant.sessions.pop_last("s") is None
    assert (await tenant.sessions.append("s", "user", 5)).sequence == 5


async def test_popping_into_the_parents_history(tenant: Any) -> None:
    """A branch that pops what it shares only stops seeing it."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 3)
    await tenant.sessions.branch("s", new_id="b")
    await talk(tenant, "b", 1, first=4)
    assert [(await tenant.sessions.pop_last("b")).content for _ in range(3)] == [4, 3, 2]
    assert await said(tenant, "b") == [1]
    assert await said(tenant, "s") == [1, 2, 3]
    assert (await tenant.sessions.append("b", "user", "x")).sequence == 5
    assert await said(tenant, "b") == [1, "x"]
    assert (await tenant.sessions.branch("b", 4, new_id="c")).message_count == 1
    assert await said(tenant, "c") == [1]


async def test_of_many_who_pop(tenant: Any) -> None:
    """Each gets another message, or none when there is none left."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 6)
    popped = await asyncio.gather(*(tenant.sessions.pop_last("s") for _ in range(8)))
    assert sorted(message.content for message in popped if message is not None) == [1, 2, 3, 4, 5, 6]
    assert (await tenant.sessions.get("s")).message_count == 0


async def test_clearing(tenant: Any) -> None:
    """All messages go; numbers go on and keys begin anew."""
    await tenant.sessions.create("s", {"n": 1})
    await talk(tenant, "s", 3)
    await tenant.sessions.append("s", "user", 4, idempotency_key="k")
    assert await tenant.sessions.clear("s") == 4
    session = await tenant.sessions.get("s")
    assert (session.message_count, session.last_sequence, dict(session.data)) == (0, 4, {"n": 1})
    message = await tenant.sessions.append("s", "user", 5, idempotency_key="k")
    assert (message.sequence, message.content) == (5, 5)
    assert await tenant.sessions.count("s") == 1


async def test_branching_while_the_parent_loses(tenant: Any) -> None:
    """Branches that are made while messages are popped, appended and deleted have all that they count."""
    await tenant.sessions.create("s")
    await talk(tenant, "s", 12)
    pops = [tenant.sessions.pop_last("s") for _ in range(6)]
    branches = [tenant.sessions.branch("s", new_id=f"b{n}") for n in range(6)]
    calls = [call for pair in zip(pops, branches, strict=True) for call in pair]
    await asyncio.gather(*calls, tenant.sessions.append("s", "user", "late"))
    await asyncio.gather(tenant.sessions.delete("s"), *(tenant.sessions.branch(f"b{n}") for n in range(6)))
    async for branch in tenant.sessions.sessions():
        seen = await said(tenant, branch.session_id)
        assert len(seen) == branch.message_count
        numbers = [content for content in seen if content != "late"]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_the_neighbour_is_untouched(tenant: Any, neighbour: Any) -> None:
    """Every writing verb leaves the other tenant's sessions and messages as they were, ids alike or not."""
    for handle in (tenant, neighbour):
        await handle.sessions.create("s", {"n": 1})
        await handle.sessions.append("s", "user", 1, idempotency_key="k")
        await talk(handle, "s", 3, first=2)
        await handle.sessions.branch("s", 2, new_id="b")
        await handle.sessions.create("old", expires_at=LONG_PAST)
    sessions = tenant.sessions

    async def everything() -> list[Any]:
        found = [s async for s in neighbour.sessions.sessions()]
        return [(s, [m async for m in neighbour.sessions.messages(s.session_id)]) for s in found]

    before = await everything()
    await sessions.update("s", {"n": 2}, merge=True)
    await sessions.touch("s", ttl=1000)
    await sessions.append("s", "user", 9, idempotency_key="l")
    await sessions.pop_last("b")
    await sessions.clear("b")
    await sessions.archive("b")
    await sessions.unarchive("b")
    assert await sessions.cleanup_expired() == 1
    assert await sessions.purge_expired() == 1
    await sessions.delete("b")
    await sessions.delete("s")
    assert await everything() == before
    assert [s async for s in sessions.sessions()] == []


def told(result: Any) -> Any:
    """Return what must be equal on all backends: everything but the times."""
    if isinstance(result, StorageError):
        return type(result).__name__, str(result)
    if isinstance(result, list):
        return [told(item) for item in result]
    if hasattr(result, "sequence"):
        return (result.sequence, result.role, result.content, result.tokens, result.idempotency_key, result.metadata)
    if hasattr(result, "session_id"):
        counts = (result.version, result.message_count, result.last_sequence, result.branched_at)
        return (result.session_id, result.data, result.metadata, result.status, result.parent_id, *counts)
    return result


@pytest.mark.parametrize("seed", range(4))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to hundreds of random calls is the one that the model gives."""
    chance = random.Random(seed)

    async def both(verb: str, *args: Any, **kwargs: Any) -> None:
        answers = []
        for subject in (model, tenant):
            try:
                result = await getattr(subject.sessions, verb)(*args, **kwargs)
                answers.append(told(list(result) if verb.startswith("list") else result))
            except StorageError as error:
                answers.append(told(error))
        assert answers[0] == answers[1], (verb, args, kwargs)

    for _ in range(300):
        session_id, other = chance.choice("abcdef"), chance.choice("abcdef")
        role, key = chance.choice(["user", "tool"]), chance.choice([None, None, "k", "l", "m"])
        at, most = chance.choice([None, 0, 1, 2, 3, 5, 8]), chance.randint(1, 12)
        data = chance.choice([{}, {"a": 1}, {"b": [1, {"c": None}]}])
        match chance.randrange(20):
            case 0:
                await both("create", session_id, data, expires_at=LONG_PAST if chance.random() < 0.2 else None)
            case 1 | 2 | 3 | 4:
                await both("append", session_id, role, data, idempotency_key=key, tokens=chance.choice([None, 1, 5]))
            case 5 | 6:
                drafts = [Draft(role, n, idempotency_key=chance.choice([None, "k", "l", "n"])) for n in range(3)]
                await both("append_many", session_id, drafts)
            case 7 | 8 | 9:
                await both("branch", session_id, at, new_id=other)
            case 10 | 11:
                await both("pop_last", session_id)
            case 12:
                await both(chance.choice(["clear", "delete", "archive", "touch"]), session_id)
            case 13:
                await both("unarchive", session_id)
            case 14:
                await both("update", session_id, data, merge=chance.random() < 0.5, expected_version=at or None)
            case 15:
                await both("list_messages", session_id, newest_first=chance.random() < 0.5, limit=most)
            case 16:
                await both("list_messages", session_id, role=role, newest_first=chance.random() < 0.5)
            case 17:
                await both("window", session_id, most)
            case 18:
                await both(chance.choice(["count", "get", "last"]), session_id)
            case _:
                await both(*chance.choice([("cleanup_expired",), ("purge_expired",), ("list_active",)]))
    for session_id in "abcdef":
        await both("list_messages", session_id)
        await both("count", session_id, role="user")
    await both("list_sessions")
