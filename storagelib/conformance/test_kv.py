"""The key-value store."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest

from storagelib.errors import Conflict, InvalidInput
from storagelib.limits import KEY_MAX

HOSTILE = [
    "'; DROP TABLE kv_store; --",
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


async def test_what_is_set_is_got(tenant: Any) -> None:
    """A value comes back as it was, and a key that was never written has none."""
    assert await tenant.kv.get("a") is None
    assert await tenant.kv.set("a", b"\0\xff one") == 1
    assert await tenant.kv.get("a") == b"\0\xff one"
    assert await tenant.kv.exists("a")
    assert not await tenant.kv.exists("b")


async def test_an_empty_value_is_a_value(tenant: Any) -> None:
    """Nothing is not the same as no bytes."""
    await tenant.kv.set("a", b"")
    assert await tenant.kv.get("a") == b""
    assert await tenant.kv.exists("a")


async def test_writing_again_replaces_all_and_counts(tenant: Any) -> None:
    """Value, metadata and expiry are replaced, and the version grows."""
    await tenant.kv.set("a", b"1", metadata={"n": 1}, ttl=1000)
    first = await tenant.kv.get_entry("a")
    assert await tenant.kv.set("a", b"2") == 2
    second = await tenant.kv.get_entry("a")
    assert (second.value, second.version, dict(second.metadata), second.expires_at) == (b"2", 2, {}, None)
    assert first.created_at == second.created_at
    assert first.updated_at <= second.updated_at
    assert first.expires_at > first.updated_at


@pytest.mark.parametrize("key", HOSTILE)
async def test_keys_mean_nothing_but_themselves(tenant: Any, key: str) -> None:
    """No key is taken for a pattern, an escape or another spelling of itself."""
    await tenant.kv.set(key, key.encode())
    await tenant.kv.set(f"{key}!", b"longer")
    assert await tenant.kv.get(key) == key.encode()
    assert await tenant.kv.get_many([key, "other"]) == {key: key.encode()}
    assert list(await tenant.kv.list_keys(key)) == [key, f"{key}!"]
    assert await tenant.kv.delete(key)
    assert list(await tenant.kv.list_keys(key)) == [f"{key}!"]


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "x" * (KEY_MAX + 1), 7, None, b"a"])
async def test_keys_that_cannot_be_kept_are_refused(tenant: Any, key: Any) -> None:
    """Every verb refuses them before anything is sent."""
    calls = (
        tenant.kv.get(key),
        tenant.kv.set(key, b""),
        tenant.kv.delete(key),
        tenant.kv.increment(key),
        tenant.kv.get_many([key]),
        tenant.kv.set_many({key: b""}),
        tenant.kv.put_if_absent(key, b""),
        tenant.kv.compare_and_set(key, b"", expected_version=1),
    )
    for call in calls:
        with pytest.raises(InvalidInput):
            await call


async def test_the_longest_key_is_kept(tenant: Any) -> None:
    """A key of 500 characters, each of four bytes, is a key."""
    key = "\U0001f600" * KEY_MAX
    await tenant.kv.set(key, b"v")
    assert await tenant.kv.get(key) == b"v"
    assert list(await tenant.kv.list_keys(key[:-1])) == [key]


@pytest.mark.parametrize("value", ["text", 1, None, [b"a"]])
async def test_values_are_bytes(tenant: Any, value: Any) -> None:
    """Anything else is refused."""
    with pytest.raises(InvalidInput):
        await tenant.kv.set("a", value)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "1", True, 1e12])
async def test_a_ttl_is_a_duration(tenant: Any, ttl: Any) -> None:
    """Nothing, the past, and what is no number are refused."""
    with pytest.raises(InvalidInput):
        await tenant.kv.set("a", b"", ttl=ttl)


@pytest.mark.parametrize(
    "metadata", [{"a": float("nan")}, {"a": 2**63}, {1: 2}, {"a": "\0"}, {"a": object()}, [1], "x"]
)
async def test_metadata_is_a_document(tenant: Any, metadata: Any) -> None:
    """What JSON cannot keep is refused."""
    with pytest.raises(InvalidInput):
        await tenant.kv.set("a", b"", metadata=metadata)


async def test_many_are_written_and_read_together(tenant: Any) -> None:
    """Versions and values come back by key, in the order asked for, absent ones left out."""
    await tenant.kv.set("b", b"old")
    assert await tenant.kv.set_many({"c": b"3", "a": b"1", "b": b"2"}) == {"c": 1, "a": 1, "b": 2}
    found = await tenant.kv.get_many(["b", "nothing", "a", "c", "a"])
    assert list(found.items()) == [("b", b"2"), ("a", b"1"), ("c", b"3")]
    assert await tenant.kv.delete_many(["a", "b", "a", "nothing"]) == 2
    assert await tenant.kv.get_many(["a", "b", "c"]) == {"c": b"3"}


async def test_empty_batches_do_nothing(tenant: Any) -> None:
    """No keys, no values, no effect."""
    assert await tenant.kv.get_many([]) == {}
    assert await tenant.kv.set_many({}) == {}
    assert await tenant.kv.delete_many([]) == 0
    assert await tenant.kv.clear() == 0
    assert list(await tenant.kv.list_keys()) == []
    assert await tenant.kv.purge_expired() == 0


async def test_many_have_a_bound(tenant: Any) -> None:
    """Together the values of one call have at most 256 MiB, and what is no mapping or never ends is refused."""
    half = bytes(128 << 20)
    with pytest.raises(InvalidInput, match="268435457 bytes together"):
        await tenant.kv.set_many({"a": half, "b": half, "c": b"1"})
    for wrong in ([("a", b"1")], 5, "text"):
        with pytest.raises(InvalidInput, match="values: must be a mapping"):
            await tenant.kv.set_many(wrong)
    with pytest.raises(InvalidInput, match="more items than"):
        await tenant.kv.delete_many(str(number) for number in itertools.count())
    with pytest.raises(InvalidInput, match="keys: must be several items, not int"):
        await tenant.kv.get_many(5)
    assert list(await tenant.kv.list_keys()) == []


async def test_a_text_is_no_batch(tenant: Any) -> None:
    """The letters of a word are not keys."""
    with pytest.raises(InvalidInput):
        await tenant.kv.get_many("abc")


async def test_a_bad_item_leaves_the_batch_unwritten(tenant: Any) -> None:
    """All or none."""
    with pytest.raises(InvalidInput):
        await tenant.kv.set_many({"a": b"1", "b": "text"})
    assert await tenant.kv.get("a") is None


async def test_only_one_puts_what_is_absent(tenant: Any) -> None:
    """Of many callers at once exactly one writes."""
    won = await asyncio.gather(*(tenant.kv.put_if_absent("a", str(n).encode()) for n in range(12)))
    assert sum(won) == 1
    assert await tenant.kv.get("a") == str(won.index(True)).encode()


async def test_compare_and_set_loses_against_any_other_write(tenant: Any) -> None:
    """An old version, a wrong one and an absent entry conflict; nothing is written then."""
    with pytest.raises(Conflict):
        await tenant.kv.compare_and_set("a", b"x", expected_version=1)
    version = await tenant.kv.set("a", b"1")
    assert await tenant.kv.compare_and_set("a", b"2", expected_version=version) == version + 1
    with pytest.raises(Conflict):
        await tenant.kv.compare_and_set("a", b"3", expected_version=version)
    assert await tenant.kv.get("a") == b"2"


async def test_of_many_compare_and_set_one_wins(tenant: Any) -> None:
    """No update is lost."""
    await tenant.kv.set("a", b"0")
    results = await asyncio.gather(
        *(tenant.kv.compare_and_set("a", str(n).encode(), expected_version=1) for n in range(8)), return_exceptions=True
    )
    assert [result for result in results if not isinstance(result, Conflict)] == [2]


async def test_a_counter_counts_every_caller(tenant: Any) -> None:
    """Concurrent increments add up, and each caller sees a total of its own."""
    totals = await asyncio.gather(*(tenant.kv.increment("n", 3) for _ in range(20)))
    assert sorted(totals) == list(range(3, 61, 3))
    assert await tenant.kv.get("n") == b"60"
    assert await tenant.kv.increment("n", -61) == -1
    assert await tenant.kv.get("n") == b"-1"


async def test_a_counter_keeps_metadata_and_expiry(tenant: Any) -> None:
    """Counting changes the value alone."""
    await tenant.kv.set("n", b"1", ttl=1000, metadata={"kind": "visits"})
    before = await tenant.kv.get_entry("n")
    assert await tenant.kv.increment("n") == 2
    after = await tenant.kv.get_entry("n")
    assert (dict(after.metadata), after.expires_at) == ({"kind": "visits"}, before.expires_at)
    assert after.version == before.version + 1


@pytest.mark.parametrize(
    "value", [b"", b"-", b"1.5", b"0x1", b"\xff", b" 1", b"1 ", b"9" * 21, "\u0661".encode(), b"--1"]
)
async def test_what_is_no_number_is_not_counted(tenant: Any, value: bytes) -> None:
    """Another value under the key stays as it is."""
    await tenant.kv.set("n", value)
    with pytest.raises(InvalidInput):
        await tenant.kv.increment("n")
    assert await tenant.kv.get("n") == value


async def test_a_counter_stays_within_64_bits(tenant: Any) -> None:
    """The step that would leave them is refused and changes nothing."""
    assert await tenant.kv.increment("n", 2**63 - 1) == 2**63 - 1
    with pytest.raises(InvalidInput):
        await tenant.kv.increment("n")
    assert await tenant.kv.get("n") == str(2**63 - 1).encode()
    for step in (2**63, 1.5, True, "1"):
        with pytest.raises(InvalidInput):
            await tenant.kv.increment("m", step)


async def test_keys_are_paged_in_order_of_code_points(tenant: Any) -> None:
    """Pages together are the whole listing, whatever comes and goes between them."""
    names = ["Z", "a", "a/1", "a/2", "ab", "b", "é", "\U0001f600"]
    await tenant.kv.set_many(dict.fromkeys(reversed(names), b""))
    seen: list[str] = []
    cursor = None
    while True:
        page = await tenant.kv.list_keys(cursor=cursor, limit=3)
        seen += page.items
        cursor = page.cursor
        if cursor is None:
            break
        await tenant.kv.delete(page.items[0])
    assert seen == sorted(names)
    assert list(await tenant.kv.list_keys("a/")) == ["a/1"]
    await tenant.kv.set("a/2", b"")
    assert [key async for key in tenant.kv.keys("a/")] == ["a/1", "a/2"]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 10_001}, {"limit": "1"}, {"cursor": "?"}, {"cursor": "bm8"}]
)
async def test_a_page_that_cannot_be_is_refused(tenant: Any, options: dict[str, Any]) -> None:
    """Sizes have bounds, and cursors come from pages."""
    with pytest.raises(InvalidInput):
        await tenant.kv.list_keys(**options)


async def test_clear_removes_a_prefix_or_everything(tenant: Any) -> None:
    """And says how many went."""
    await tenant.kv.set_many({"a/1": b"", "a/2": b"", "a": b"", "b": b""})
    assert await tenant.kv.clear("a/") == 2
    assert list(await tenant.kv.list_keys()) == ["a", "b"]
    assert await tenant.kv.clear() == 2
    assert list(await tenant.kv.list_keys()) == []


@pytest.mark.settable_clock
async def test_the_expired_are_never_seen(tenant: Any, clock: Any) -> None:
    """By no verb, from the moment on, though they are still there; reading removes nothing."""
    await tenant.kv.set("a", b"1", ttl=10)
    await tenant.kv.set("b", b"1")
    clock.advance(seconds=9)
    assert await tenant.kv.get("a") == b"1"
    clock.advance(seconds=1.1)
    assert await tenant.kv.get("a") is None
    assert not await tenant.kv.exists("a")
    assert await tenant.kv.get_many(["a", "b"]) == {"b": b"1"}
    assert list(await tenant.kv.list_keys()) == ["b"]
    assert not await tenant.kv.delete("a")
    await tenant.kv.set("c", b"", ttl=1)
    clock.advance(seconds=2)
    with pytest.raises(Conflict):
        await tenant.kv.compare_and_set("c", b"", expected_version=1)


@pytest.mark.settable_clock
async def test_a_write_over_the_expired_begins_anew(tenant: Any, clock: Any) -> None:
    """Counters start at nothing and absent keys are absent, but no version is given twice."""
    await tenant.kv.set("a", b"41", ttl=1, metadata={"old": True})
    clock.advance(seconds=2)
    assert await tenant.kv.increment("a") == 1
    entry = await tenant.kv.get_entry("a")
    assert (entry.version, dict(entry.metadata), entry.expires_at) == (2, {}, None)
    assert entry.created_at == entry.updated_at
    await tenant.kv.set("b", b"", ttl=1)
    clock.advance(seconds=2)
    assert await tenant.kv.put_if_absent("b", b"new")
    assert (await tenant.kv.get_entry("b")).version == 2


@pytest.mark.settable_clock
async def test_purging_takes_the_expired_only(tenant: Any, clock: Any) -> None:
    """In steps when asked, and never the living."""
    await tenant.kv.set_many({f"old/{n}": b"" for n in range(5)}, ttl=1)
    await tenant.kv.set("young", b"", ttl=100)
    await tenant.kv.set("eternal", b"")
    clock.advance(seconds=2)
    assert await tenant.kv.purge_expired(limit=3) == 3
    assert await tenant.kv.purge_expired() == 2
    assert await tenant.kv.purge_expired() == 0
    assert list(await tenant.kv.list_keys()) == ["eternal", "young"]


@pytest.mark.settable_clock
async def test_a_clock_that_goes_back_loses_nothing(tenant: Any, clock: Any) -> None:
    """Entries stay, versions grow."""
    await tenant.kv.set("a", b"1", ttl=10)
    clock.advance(seconds=-3600)
    assert await tenant.kv.get("a") == b"1"
    assert await tenant.kv.set("a", b"2") == 2


async def test_short_lives_end(tenant: Any) -> None:
    """On every backend's own clock."""
    await tenant.kv.set("a", b"1", ttl=0.02)
    await asyncio.sleep(0.05)
    assert await tenant.kv.get("a") is None
    assert await tenant.kv.put_if_absent("a", b"2")


async def test_the_neighbour_is_untouched(tenant: Any, neighbour: Any) -> None:
    """No verb sees or changes another tenant's entries, the same keys included."""
    mine, theirs = {"a": b"mine", "p/1": b"mine"}, {"a": b"theirs", "p/1": b"theirs", "own": b"theirs"}
    await tenant.kv.set_many(mine)
    await neighbour.kv.set_many(theirs)
    assert await tenant.kv.get_many(theirs) == mine
    assert list(await tenant.kv.list_keys()) == ["a", "p/1"]
    assert await tenant.kv.get("own") is None
    assert not await tenant.kv.delete("own")
    assert await tenant.kv.put_if_absent("own", b"also mine")
    await tenant.kv.increment("n", 5)
    await tenant.kv.compare_and_set("a", b"changed", expected_version=1)
    await tenant.kv.delete_many(["p/1"])
    await tenant.kv.purge_expired()
    await tenant.kv.clear()
    entries = [await neighbour.kv.get_entry(key) for key in theirs]
    assert {entry.key: entry.value for entry in entries} == theirs
    assert {entry.version for entry in entries} == {1}


async def test_the_backend_says_what_it_is(tenant: Any) -> None:
    """And keeps what it promises about the largest value."""
    promised = tenant.kv.characteristics()
    assert promised.backend
    assert promised.value_bytes_max >= 10_000_000
    large = random.Random(0).randbytes(10_000_000)
    await tenant.kv.set("large", large)
    assert await tenant.kv.get("large") == large


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to hundreds of random calls is the one that the model gives."""
    chance = random.Random(seed)
    keys = [f"k/{n}" for n in range(12)] + ["k", "k/é"]

    async def both(name: str, *args: Any, **kwargs: Any) -> None:
        answers = []
        for subject in (model, tenant):
            try:
                answers.append(await getattr(subject.kv, name)(*args, **kwargs))
            except (Conflict, InvalidInput) as error:
                answers.append(type(error))
        assert answers[0] == answers[1], (name, args, kwargs)

    for _ in range(200):
        key, value = chance.choice(keys), chance.choice([b"", b"7", b"x", b"-12"])
        match chance.randrange(10):
            case 0 | 1:
                await both("set", key, value)
            case 2:
                await both("get", key)
            case 3:
                await both("set_many", dict.fromkeys(chance.sample(keys, 3), value))
            case 4:
                await both("delete", key)
            case 5:
                await both("put_if_absent", key, value)
            case 6:
                await both("compare_and_set", key, value, expected_version=chance.randint(1, 4))
            case 7:
                await both("increment", key, chance.randint(-5, 5))
            case 8:
                await both("list_keys", chance.choice(["", "k/", "k/1"]), limit=chance.randint(1, 20))
            case _:
                await (both("clear", "k/1") if chance.random() < 0.2 else both("get_many", chance.sample(keys, 4)))
    await both("list_keys")
