"""The store of API keys and sealed values."""

from __future__ import annotations

import asyncio
import os
import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storagelib.components.api_keys import token_of
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PermissionDenied
from storagelib.sealing import SEALED_BYTES_MAX, KeyRing

RING = KeyRing("one", {"one": bytes(range(32)), "two": bytes(range(1, 33))})
LATER = KeyRing("two", {"one": bytes(range(32)), "two": bytes(range(1, 33))})
FOREIGN_IDS = ["", "a\0b", "\ud800", "x" * 256, 7, None]


async def refused(store: Any, token: Any, scope: str | None = None) -> str:
    """Return the one message that a token is refused with."""
    with pytest.raises(PermissionDenied) as error:
        await store.verify(token, scope)
    return str(error.value)


async def test_a_key_is_verified_by_its_token(tenant: Any) -> None:
    """It says whose it is, what it is called, what it may do and when it ends."""
    end = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    made = await tenant.api_keys.create("robot", scopes=["write", "read", "read"], expires_at=end, metadata={"n": 1})
    found = await tenant.api_keys.verify(made.token)
    assert (found.tenant_id, found.key_id, found.name) == (tenant.tenant_id, made.key_id, "robot")
    assert found.scopes == made.scopes == ("read", "write")
    assert found.expires_at == made.expires_at == end
    kept = await tenant.api_keys.get(made.key_id)
    assert (kept.name, kept.prefix, kept.scopes, dict(kept.metadata)) == ("robot", "lsk", ("read", "write"), {"n": 1})
    assert (kept.rotated_from, kept.revoked_at, kept.sealing_key_id, kept.sealed) == (None, None, None, False)
    assert kept.created_at == kept.updated_at
    assert kept.last_used_at is not None


async def test_a_key_alone_has_no_scopes_and_no_end(tenant: Any) -> None:
    """And nobody used it yet."""
    made = await tenant.api_keys.create("plain")
    assert (made.scopes, made.expires_at) == ((), None)
    kept = await tenant.api_keys.get(made.key_id)
    assert (kept.scopes, kept.expires_at, kept.last_used_at, dict(kept.metadata)) == ((), None, None, {})


async def test_tokens_are_hidden(tenant: Any) -> None:
    """They stand in no repr and no error."""
    made = await tenant.api_keys.create("robot")
    secret = made.token.rpartition("_")[2]
    assert secret not in repr(made)
    assert secret not in repr(await tenant.api_keys.get(made.key_id))
    assert secret not in repr(await tenant.api_keys.verify(made.token))
    assert secret not in await refused(tenant.api_keys, made.token, "admin")
    assert secret not in await refused(tenant.api_keys, made.token + "x")
    await tenant.api_keys.revoke(made.key_id)
    assert secret not in await refused(tenant.api_keys, made.token)


async def test_the_prefix_and_the_id_may_be_chosen(tenant: Any) -> None:
    """And a taken id is refused."""
    made = await tenant.api_keys.create("robot", prefix="acme_live", key_id="K7")
    assert made.token.startswith("acme_live_K7_")
    assert (await tenant.api_keys.verify(made.token)).key_id == "K7"
    with pytest.raises(AlreadyExists):
        await tenant.api_keys.create("other", key_id="K7")
    assert (await tenant.api_keys.get("K7")).name == "robot"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "lsk",
        "lsk__",
        "lsk_a_" + "0" * 49,
        token_of("lsk", "nothing", 12345),
        "x" * 10_000_000,
        "lsk_a\0_" + "0" * 49,
        "\ud800",
        "lsk_é_" + "0" * 49,
        "'; DROP TABLE api_keys; --",
        None,
        7,
        b"lsk_a_b",
        ["lsk"],
    ],
)
async def test_whatever_is_no_good_is_refused_alike(tenant: Any, token: Any) -> None:
    """Malformed, unknown, and of another type: one message."""
    assert await refused(tenant.api_keys, token) == "the key is not valid"


async def test_every_bad_end_has_the_same_words(tenant: Any) -> None:
    """Typos, expired, revoked and removed keys cannot be told apart."""
    ended = await tenant.api_keys.create("a", expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    revoked, removed, good = [await tenant.api_keys.create(name) for name in "bcd"]
    assert await tenant.api_keys.revoke(revoked.key_id)
    assert await tenant.api_keys.delete(removed.key_id)
    flipped = good.token[:-10] + ("0" if good.token[-10] != "0" else "1") + good.token[-9:]
    foreign = token_of("lsk", good.key_id, 1)
    tokens = [ended.token, revoked.token, removed.token, flipped, foreign, good.token.swapcase(), good.token + " "]
    assert {await refused(tenant.api_keys, token) for token in tokens} == {"the key is not valid"}
    assert (await tenant.api_keys.verify(good.token)).key_id == good.key_id


async def test_a_scope_is_asked_for_by_its_exact_name(tenant: Any) -> None:
    """No part of a name, no other case, and none where the key has none."""
    made = await tenant.api_keys.create("robot", scopes=["kv:read", "é"])
    assert (await tenant.api_keys.verify(made.token, "kv:read")).key_id == made.key_id
    assert (await tenant.api_keys.verify(made.token, scope="é")).key_id == made.key_id
    for scope in ("kv:", "KV:READ", "kv:read ", "e\u0301", "%", "*"):
        assert await refused(tenant.api_keys, made.token, scope) == "the key is not for this scope"
    with pytest.raises(InvalidInput):
        await tenant.api_keys.verify(made.token, "")


@pytest.mark.parametrize(
    "options",
    [
        {"name": ""},
        {"name": "x" * 256},
        {"name": "a\0"},
        {"name": 7},
        {"scopes": "read"},
        {"scopes": [""]},
        {"scopes": ["\ud800"]},
        {"scopes": [1]},
        {"scopes": [str(n) for n in range(101)]},
        {"expires_at": datetime(2100, 1, 1)},  # noqa: DTZ001 - what is refused
        {"expires_at": "2100-01-01"},
        {"ttl": 0},
        {"ttl": float("nan")},
        {"ttl": 1, "expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
        {"metadata": {"a": float("inf")}},
        {"metadata": [1]},
        {"prefix": ""},
        {"prefix": "_"},
        {"prefix": "a_"},
        {"prefix": "1a"},
        {"prefix": "a-b"},
        {"prefix": "x" * 51},
        {"prefix": "lsk\n"},
        {"prefix": None},
        {"key_id": ""},
        {"key_id": "a_b"},
        {"key_id": "x" * 65},
        {"key_id": "é"},
        {"key_id": 7},
    ],
)
async def test_what_cannot_be_kept_is_not_made(tenant: Any, options: dict[str, Any]) -> None:
    """Refused before anything is sent."""
    with pytest.raises(InvalidInput):
        await tenant.api_keys.create(**{"name": "robot", **options})
    assert list(await tenant.api_keys.list_keys()) == []


@pytest.mark.parametrize("key_id", FOREIGN_IDS)
async def test_ids_that_cannot_be_are_refused(tenant: Any, key_id: Any) -> None:
    """By every verb that takes one."""
    keys = tenant.api_keys
    for call in (
        keys.get(key_id),
        keys.revoke(key_id),
        keys.delete(key_id),
        keys.rotate(key_id),
        keys.unseal(key_id, RING),
        keys.reseal(key_id, RING),
    ):
        with pytest.raises(InvalidInput):
            await call


async def test_nothing_is_there_at_first(tenant: Any) -> None:
    """Every verb says so."""
    keys = tenant.api_keys
    assert await keys.get("a") is None
    assert not await keys.revoke("a")
    assert not await keys.delete("a")
    assert list(await keys.list_keys()) == []
    assert [key async for key in keys.keys(None)] == []
    assert await keys.purge_expired() == 0
    for call in (keys.rotate("a"), keys.unseal("a", RING), keys.reseal("a", RING)):
        with pytest.raises(NotFound):
            await call


async def test_the_longest_everything_is_kept(tenant: Any) -> None:
    """Names and scopes of characters of four bytes, a prefix of 50, an id of 64."""
    name, scopes = "\U0001f600" * 255, [f"{n:03}" + "\U0001f600" * 252 for n in range(100)]
    made = await tenant.api_keys.create(name, scopes=scopes, prefix="p" * 50, key_id="k" * 64)
    found = await tenant.api_keys.verify(made.token, scopes[99])
    assert (found.name, found.scopes) == (name, tuple(scopes))


async def test_a_rotated_key_and_its_successor_both_work(tenant: Any) -> None:
    """For as long as they overlap; the successor has everything of the old one but id and secret."""
    old = await tenant.api_keys.create("robot", scopes=["read"], metadata={"n": 1}, prefix="acme", ttl=1000)
    new = await tenant.api_keys.rotate(old.key_id, overlap=timedelta(seconds=100))
    assert new.token != old.token
    assert new.token.startswith("acme_")
    assert (new.name, new.scopes) == ("robot", ("read",))
    assert [(await tenant.api_keys.verify(each.token)).key_id for each in (old, new)] == [old.key_id, new.key_id]
    before, after = await tenant.api_keys.get(old.key_id), await tenant.api_keys.get(new.key_id)
    assert (after.rotated_from, dict(after.metadata)) == (old.key_id, {"n": 1})
    assert after.expires_at - after.created_at == timedelta(seconds=1000)
    assert before.expires_at - after.created_at == timedelta(seconds=100)


async def test_an_overlap_never_lengthens_a_life(tenant: Any) -> None:
    """A key that ends sooner anyway keeps its end; and the successor's end may be given."""
    end = datetime(2100, 1, 1, tzinfo=UTC)
    old = await tenant.api_keys.create("robot", ttl=10)
    new = await tenant.api_keys.rotate(old.key_id, expires_at=end)
    assert new.expires_at == end
    assert (await tenant.api_keys.get(old.key_id)).expires_at == old.expires_at
    third = await tenant.api_keys.rotate(new.key_id, ttl=50)
    kept = await tenant.api_keys.get(third.key_id)
    assert kept.expires_at - kept.created_at == timedelta(seconds=50)


async def test_no_overlap_ends_the_old_key_at_once(tenant: Any) -> None:
    """And a key without an end has a successor without one."""
    old = await tenant.api_keys.create("robot")
    new = await tenant.api_keys.rotate(old.key_id, overlap=0)
    assert new.expires_at is None
    assert await refused(tenant.api_keys, old.token) == "the key is not valid"
    with pytest.raises(NotFound):
        await tenant.api_keys.rotate(old.key_id)


async def test_a_key_has_one_successor(tenant: Any) -> None:
    """Of many that rotate one wins, the others conflict, and none of theirs is left."""
    old = await tenant.api_keys.create("robot")
    made = await asyncio.gather(*(tenant.api_keys.rotate(old.key_id) for _ in range(8)), return_exceptions=True)
    won: list[Any] = [each for each in made if not isinstance(each, Conflict)]
    assert len(won) == 1
    assert {key.key_id for key in await tenant.api_keys.list_keys()} == {old.key_id, won[0].key_id}
    with pytest.raises(Conflict):
        await tenant.api_keys.rotate(old.key_id)


async def test_two_keys_work_at_most(tenant: Any) -> None:
    """Whoever rotates the successor ends the first one."""
    first = await tenant.api_keys.create("robot")
    second = await tenant.api_keys.rotate(first.key_id)
    third = await tenant.api_keys.rotate(second.key_id)
    await refused(tenant.api_keys, first.token)
    for key in (second, third):
        assert (await tenant.api_keys.verify(key.token)).key_id == key.key_id


@pytest.mark.parametrize("overlap", [-1, float("nan"), True, False, "1", None, timedelta(days=-1), 1e12])
async def test_an_overlap_is_a_duration(tenant: Any, overlap: Any) -> None:
    """Anything else is refused and changes nothing."""
    old = await tenant.api_keys.create("robot")
    with pytest.raises(InvalidInput):
        await tenant.api_keys.rotate(old.key_id, overlap=overlap)
    assert [key.key_id for key in await tenant.api_keys.list_keys()] == [old.key_id]


async def test_what_is_dead_or_sealed_is_not_rotated(tenant: Any) -> None:
    """Expired, revoked, and values."""
    ended = await tenant.api_keys.create("a", expires_at=datetime(2000, 1, 1, tzinfo=UTC))
    revoked = await tenant.api_keys.create("b")
    await tenant.api_keys.revoke(revoked.key_id)
    value = await tenant.api_keys.seal("c", b"value", RING)
    for key_id in (ended.key_id, revoked.key_id, value.key_id):
        with pytest.raises(NotFound):
            await tenant.api_keys.rotate(key_id)


async def test_revoking_is_once_and_stays(tenant: Any) -> None:
    """The row tells when; the successor of a revoked key lives on."""
    old = await tenant.api_keys.create("robot")
    new = await tenant.api_keys.rotate(old.key_id)
    assert await tenant.api_keys.revoke(old.key_id)
    assert not await tenant.api_keys.revoke(old.key_id)
    kept = await tenant.api_keys.get(old.key_id)
    assert kept.revoked_at == kept.updated_at
    assert (await tenant.api_keys.verify(new.token)).key_id == new.key_id


async def test_keys_are_paged_by_name_and_creation(tenant: Any) -> None:
    """In order of code points; one name alone when asked."""
    names = ["é", "b", "a", "Z", "b", "\U0001f600", "a%", "b"]
    made = [(name, (await tenant.api_keys.create(name)).key_id) for name in names]
    seen: list[Any] = []
    cursor = None
    while True:
        page = await tenant.api_keys.list_keys(cursor=cursor, limit=3)
        seen += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert [key.name for key in seen] == sorted(names)
    assert [key.key_id for key in seen if key.name == "b"] == [key_id for name, key_id in made if name == "b"]
    assert [key.key_id async for key in tenant.api_keys.keys(None)] == [key.key_id for key in seen]
    first = await tenant.api_keys.list_keys("b", limit=2)
    rest = await tenant.api_keys.list_keys("b", limit=2, cursor=first.cursor)
    assert [key.name for key in (*first, *rest)] == ["b"] * 3
    assert rest.cursor is None
    assert [key.name for key in await tenant.api_keys.list_keys("a%")] == ["a%"]
    assert list(await tenant.api_keys.list_keys("%")) == []


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 10_001}, {"cursor": "?"}, {"cursor": "bm8"}, {"name": ""}, {"name": 7}]
)
async def test_a_page_that_cannot_be_is_refused(tenant: Any, options: dict[str, Any]) -> None:
    """Sizes have bounds, cursors come from pages, names are texts."""
    with pytest.raises(InvalidInput):
        await tenant.api_keys.list_keys(**options)


async def test_purging_takes_the_expired_only(tenant: Any) -> None:
    """In steps when asked; revoked keys stay."""
    past = datetime(2000, 1, 1, tzinfo=UTC)
    for number in range(3):
        await tenant.api_keys.create("old", expires_at=past + timedelta(days=number))
    await tenant.api_keys.seal("old value", b"", RING, expires_at=past)
    revoked = await tenant.api_keys.create("revoked")
    await tenant.api_keys.revoke(revoked.key_id)
    await tenant.api_keys.create("young", ttl=1000)
    assert await tenant.api_keys.purge_expired(limit=3) == 3
    assert await tenant.api_keys.purge_expired() == 1
    assert await tenant.api_keys.purge_expired() == 0
    assert [key.name for key in await tenant.api_keys.list_keys()] == ["revoked", "young"]


async def test_short_lives_end(tenant: Any) -> None:
    """On every backend's own clock."""
    began = time.monotonic()
    made = await tenant.api_keys.create("robot", ttl=0.3)
    try:
        assert (await tenant.api_keys.verify(made.token)).key_id == made.key_id
    except PermissionDenied:
        # A machine that was busy with other things for so long.
        assert time.monotonic() - began >= 0.3
    await asyncio.sleep(0.35)
    await refused(tenant.api_keys, made.token)


@pytest.mark.settable_clock
async def test_the_overlap_ends(tenant: Any, clock: Any) -> None:
    """To the second, and the successor goes on."""
    old = await tenant.api_keys.create("robot")
    clock.advance(days=100)
    new = await tenant.api_keys.rotate(old.key_id, overlap=60)
    clock.advance(seconds=59)
    assert (await tenant.api_keys.verify(old.token)).key_id == old.key_id
    clock.advance(seconds=2)
    await refused(tenant.api_keys, old.token)
    assert (await tenant.api_keys.verify(new.token)).key_id == new.key_id
    assert await tenant.api_keys.purge_expired() == 1
    assert (await tenant.api_keys.get(new.key_id)).rotated_from == old.key_id


@pytest.mark.settable_clock
async def test_a_use_is_noted_once_a_minute(tenant: Any, clock: Any) -> None:
    """Being used is no change, being refused is no use, and a clock that goes back keeps nobody out."""
    made = await tenant.api_keys.create("robot")

    async def used() -> Any:
        return (await tenant.api_keys.get(made.key_id)).last_used_at

    assert await used() is None
    await tenant.api_keys.verify(made.token)
    first = await used()
    clock.advance(seconds=59)
    await tenant.api_keys.verify(made.token)
    assert await used() == first
    clock.advance(seconds=2)
    await refused(tenant.api_keys, made.token + "x")
    assert await used() == first
    await tenant.api_keys.verify(made.token)
    second = await used()
    assert second > first + timedelta(seconds=60)
    kept = await tenant.api_keys.get(made.key_id)
    assert kept.updated_at == kept.created_at
    clock.advance(days=-1)
    await tenant.api_keys.verify(made.token)
    assert await used() == second


async def test_many_may_verify_at_once(tenant: Any) -> None:
    """Nobody waits for the mark of another, and nobody is refused."""
    made = await tenant.api_keys.create("robot")
    found = await asyncio.gather(*(tenant.api_keys.verify(made.token) for _ in range(24)))
    assert {each.key_id for each in found} == {made.key_id}
    assert (await tenant.api_keys.get(made.key_id)).last_used_at is not None


async def test_a_sealed_value_is_opened_by_the_ring(tenant: Any) -> None:
    """Its record does not tell it, and it is no key to verify."""
    record = await tenant.api_keys.seal("openai", b"sk-\0\xff", RING, key_id="provider/openai", metadata={"n": 1})
    assert (record.key_id, record.name, record.sealing_key_id) == ("provider/openai", "openai", "one")
    assert (record.sealed, record.prefix, record.scopes) == (True, None, ())
    assert "sk-" not in repr(record)
    assert await tenant.api_keys.unseal("provider/openai", RING) == b"sk-\0\xff"
    assert await tenant.api_keys.get("provider/openai") == record
    with pytest.raises(AlreadyExists):
        await tenant.api_keys.seal("other", b"", RING, key_id="provider/openai")


async def test_values_have_bounds(tenant: Any) -> None:
    """Nothing is a value, 64 KiB are, one byte more is not; a ring is a ring."""
    value = os.urandom(SEALED_BYTES_MAX)
    kept = await tenant.api_keys.seal("large", value, RING)
    assert await tenant.api_keys.unseal(kept.key_id, RING) == value
    empty = await tenant.api_keys.seal("empty", b"", RING)
    assert await tenant.api_keys.unseal(empty.key_id, RING) == b""
    for wrong in (value + b"x", "text", None):
        with pytest.raises(InvalidInput):
            await tenant.api_keys.seal("wrong", wrong, RING)
    with pytest.raises(InvalidInput):
        await tenant.api_keys.seal("wrong", b"", {"one": bytes(32)})
    with pytest.raises(InvalidInput):
        await tenant.api_keys.unseal(kept.key_id, bytes(32))


async def test_sealing_anew_moves_to_the_current_key(tenant: Any) -> None:
    """Afterwards the old key is not needed any more."""
    kept = await tenant.api_keys.seal("openai", b"value", RING)
    changed = await tenant.api_keys.reseal(kept.key_id, LATER)
    assert (changed.key_id, changed.name, changed.sealing_key_id) == (kept.key_id, "openai", "two")
    assert await tenant.api_keys.unseal(kept.key_id, KeyRing("two", {"two": LATER.keys["two"]})) == b"value"
    with pytest.raises(PermissionDenied):
        await tenant.api_keys.unseal(kept.key_id, KeyRing("one", {"one": RING.keys["one"]}))


async def test_dead_values_do_not_open(tenant: Any) -> None:
    """Revoked, expired, removed; and an issued key is none."""
    revoked, ended, gone = [
        await tenant.api_keys.seal("v", b"value", RING, expires_at=end)
        for end in (None, datetime(2000, 1, 1, tzinfo=UTC), None)
    ]
    await tenant.api_keys.revoke(revoked.key_id)
    await tenant.api_keys.delete(gone.key_id)
    issued = await tenant.api_keys.create("robot")
    for key in (revoked, ended, gone, issued):
        with pytest.raises(NotFound):
            await tenant.api_keys.unseal(key.key_id, RING)
        with pytest.raises(NotFound):
            await tenant.api_keys.reseal(key.key_id, LATER)


async def test_the_neighbours_key_is_not_valid_here(tenant: Any, neighbour: Any) -> None:
    """The same id included, and no verb reaches the neighbour's rows."""
    theirs = await neighbour.api_keys.create("robot", scopes=["read"], key_id="same")
    value = await neighbour.api_keys.seal("openai", b"theirs", RING, key_id="value")
    before = [key async for key in neighbour.api_keys.keys(None)]
    await refused(tenant.api_keys, theirs.token)
    mine = await tenant.api_keys.create("robot", key_id="same")
    await refused(tenant.api_keys, theirs.token)
    await refused(neighbour.api_keys, mine.token)
    assert await tenant.api_keys.get("value") is None
    assert not await tenant.api_keys.revoke("value")
    assert not await tenant.api_keys.delete("value")
    for call in (tenant.api_keys.unseal("value", RING), tenant.api_keys.reseal("value", RING)):
        with pytest.raises(NotFound):
            await call
    await tenant.api_keys.rotate("same", overlap=0)
    await tenant.api_keys.purge_expired()
    await tenant.api_keys.delete("same")
    assert [key async for key in neighbour.api_keys.keys(None)] == before
    assert await neighbour.api_keys.unseal(value.key_id, RING) == b"theirs"
    assert (await neighbour.api_keys.verify(theirs.token, "read")).tenant_id == neighbour.tenant_id


async def test_a_gateway_finds_the_tenant(store: Any, tenant: Any, neighbour: Any) -> None:
    """A key tells whose it is; where each tenant has a login of its own, the refusal says what is needed."""
    mine = await tenant.api_keys.create("robot", scopes=["read"])
    theirs = await neighbour.api_keys.create("robot")
    try:
        found = await store.verify_api_key(mine.token, "read")
    except PermissionDenied as error:
        if "open the store with the shared login" not in str(error):
            raise
        return
    assert found == await tenant.api_keys.verify(mine.token)
    assert (await store.verify_api_key(theirs.token)).tenant_id == neighbour.tenant_id
    assert (await tenant.api_keys.get(mine.key_id)).last_used_at is not None
    await tenant.api_keys.revoke(mine.key_id)
    for token in (mine.token, theirs.token + "x", token_of("lsk", "a", 7), "", None):
        with pytest.raises(PermissionDenied, match="the key is not valid"):
            await store.verify_api_key(token)
    with pytest.raises(PermissionDenied, match="not for this scope"):
        await store.verify_api_key(theirs.token, "read")


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to many random calls is the one that the model gives, times and secrets left out."""
    chance = random.Random(seed)
    tokens: list[tuple[str, str]] = []
    ids: list[tuple[str, str]] = [("nothing", "nothing")]

    def told(answer: Any) -> Any:
        if hasattr(answer, "items"):
            return [told(each) for each in answer.items]
        return (answer.name, answer.scopes, answer.expires_at is None) if hasattr(answer, "scopes") else answer

    async def both(name: str, *pairs: tuple[Any, Any], **kwargs: Any) -> list[Any]:
        answers: list[Any] = []
        for side, subject in enumerate((model, tenant)):
            try:
                answers.append(await getattr(subject.api_keys, name)(*(pair[side] for pair in pairs), **kwargs))
            except (AlreadyExists, Conflict, InvalidInput, NotFound, PermissionDenied) as error:
                answers.append(type(error))
        assert told(answers[0]) == told(answers[1]), (name, pairs, kwargs)
        return answers

    for _ in range(150):
        key = chance.choice(ids)
        match chance.randrange(9):
            case 0 | 1:
                label, past = chance.choice("abc"), datetime(2000, 1, 1, tzinfo=UTC)
                made = await both(
                    "create",
                    (label, label),
                    scopes=chance.sample("xyz", 2),
                    expires_at=chance.choice([None, None, past]),
                )
            case 2:
                made = await both("rotate", key, overlap=chance.choice([0, 1000]))
            case 3:
                await both("verify", chance.choice([*tokens, ("", "")]))
                continue
            case 4:
                await both(chance.choice(["revoke", "delete"]), key)
                continue
            case 5:
                await both("get", key)
                continue
            case 6:
                await both("list_keys", limit=chance.randint(1, 30))
                continue
            case 7:
                await (both("purge_expired") if chance.random() < 0.3 else both("unseal", key, (RING, RING)))
                continue
            case _:
                made = await both("seal", ("v", "v"), (b"value", b"value"), (RING, RING))
        if not isinstance(made[0], type):
            ids.append((made[0].key_id, made[1].key_id))
            if hasattr(made[0], "token"):
                tokens.append((made[0].token, made[1].token))
    await both("list_keys")


async def test_an_id_is_not_given_again_while_a_successor_names_it(tenant: Any) -> None:
    """Rotating that one would end the key that got the id anew, which has nothing to do with it."""
    await tenant.api_keys.create("first", key_id="robot")
    successor = await tenant.api_keys.rotate("robot", overlap=0)
    assert await tenant.api_keys.delete("robot")
    with pytest.raises(AlreadyExists):
        await tenant.api_keys.create("second", key_id="robot")
    assert await tenant.api_keys.delete(successor.key_id)
    second = await tenant.api_keys.create("second", key_id="robot")
    assert (await tenant.api_keys.verify(second.token)).name == "second"
    assert (await tenant.api_keys.rotate("robot")).name == "second"
