"""Scopes of state, on every backend and both twins."""

from __future__ import annotations

from typing import Any

import pytest

from storagelib._async.state_scopes import AsyncStateScopes
from storagelib._sync.state_scopes import StateScopes
from storagelib.conformance.awaited import Awaited
from storagelib.errors import InvalidInput

IDS = ["a", "a:b", "a%3Ab", "%", "user", "", "é"]


def scopes_of(tenant: Any) -> Any:
    """Give the scopes of a handle, asynchronous or blocking."""
    return Awaited(StateScopes(tenant._target)) if isinstance(tenant, Awaited) else AsyncStateScopes(tenant)


def every(scopes: Any) -> list[Any]:
    """Give one scope of each kind and id."""
    kinds = (scopes.user, scopes.session, scopes.agent, scopes.workflow, scopes.hook, scopes.custom)
    return [scopes.everywhere, *(kind(each) for kind in kinds for each in IDS if each)]


async def test_scopes_do_not_see_each_other(tenant: Any) -> None:
    """The same key in each has its own value, and clearing one leaves the others."""
    scopes = every(scopes_of(tenant))
    for number, scope in enumerate(scopes):
        await scope.set("key", {"n": number})
        await scope.set("b:key", number)
    for number, scope in enumerate(scopes):
        assert await scope.get("key") == {"n": number}
        assert [key async for key in scope.keys()] == ["b:key", "key"]  # noqa: SIM118 - a verb, no dict
    for number, scope in enumerate(scopes):
        assert await scope.clear() == 2
        assert await scope.get_all() == {}
        assert all([await later.exists("key") for later in scopes[number + 1 :]])


async def test_a_scope_keeps_json(tenant: Any) -> None:
    """Values of every kind, absent ones and many at once."""
    scope = scopes_of(tenant).user("ada")
    assert await scope.get("none") is None
    assert await scope.get("none", 7) == 7
    values = {"a": None, "b": [1, 1.0, True], "c": {"d": "é"}, "e": ""}
    await scope.set_many(values)
    assert await scope.get("a", 7) is None
    assert repr(await scope.get_all()) == repr(values)
    assert await scope.delete("a")
    assert not await scope.delete("a")
    assert not await scope.exists("a")
    assert list(await scope.list_keys("b")) == ["b"]
    first = await scope.list_keys(limit=2)
    assert (list(first), list(await scope.list_keys(limit=2, cursor=first.cursor))) == (["b", "c"], ["e"])


@pytest.mark.settable_clock
async def test_a_value_expires(tenant: Any, clock: Any) -> None:
    """As entries of the key-value store do."""
    scope = scopes_of(tenant).session("s")
    await scope.set("short", 1, ttl=10)
    clock.advance(seconds=11)
    assert await scope.get("short", "gone") == "gone"
    assert await scope.get_all() == {}


async def test_other_keys_of_the_store_stay(tenant: Any, neighbour: Any) -> None:
    """Clearing takes nothing but the scope's own."""
    await tenant.kv.set("state", b"1")
    await tenant.kv.set("state:user", b"1")
    await scopes_of(neighbour).user("a").set("x", 1)
    await scopes_of(tenant).user("a").set("x", 2)
    await scopes_of(tenant).user("a").clear()
    assert await tenant.kv.get("state") == await tenant.kv.get("state:user") == b"1"
    assert await scopes_of(neighbour).user("a").get("x") == 1


@pytest.mark.parametrize("name", ["tenant:acme", "", "a" * 256, "\0"])
async def test_names_that_are_none(tenant: Any, name: str) -> None:
    """A tenant is never chosen by a scope."""
    with pytest.raises(InvalidInput):
        scopes_of(tenant).custom(name)


@pytest.mark.parametrize("key", ["", "k" * 500, "\0", "\ud800"])
async def test_keys_that_are_none(tenant: Any, key: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        await scopes_of(tenant).user("a").set(key, 1)
    with pytest.raises(InvalidInput):
        await scopes_of(tenant).user("a").set("k", float("nan"))
    with pytest.raises(InvalidInput):
        await scopes_of(tenant).user(":" * 255).set("k", 1)
