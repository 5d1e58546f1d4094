"""LangGraph's long-term store on every backend: what its own store in memory does, ours does."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langgraph.store.base import InvalidNamespaceError, PutOp
from langgraph.store.memory import InMemoryStore

from storagelib.conformance.awaited import Awaited
from storagelib.errors import InvalidInput
from storagelib.integrations.langgraph_store import AsyncStorageStore, StorageStore

DIMENSION = 128


class Letters(Embeddings):
    """Counts letters: near texts have alike letters."""

    def embed_query(self, text: str) -> list[float]:
        """Return how often each letter comes."""
        counts = [0.0] * DIMENSION
        for letter in text.lower():
            counts[ord(letter) % DIMENSION] += 1.0
        return counts

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return that for each text."""
        return [self.embed_query(text) for text in texts]


INDEX: Any = {"dims": DIMENSION, "embed": Letters(), "fields": ["text"]}


class AwaitedStore(StorageStore):
    """The blocking store behind the asynchronous interface."""

    async def abatch(self, ops: Any) -> Any:
        """Call ``batch``."""
        return await asyncio.to_thread(self.batch, list(ops))


def store_of(tenant: Any, **options: Any) -> Any:
    """Give the store for a handle, asynchronous or blocking."""
    return (
        AwaitedStore(tenant._target, **options) if isinstance(tenant, Awaited) else AsyncStorageStore(tenant, **options)
    )


@pytest.fixture
def memories(tenant: Any) -> Any:
    """Give a store of a tenant that has nothing."""
    return store_of(tenant)


def told(items: Any) -> list[Any]:
    """Return what items hold, in an order of their own."""
    return sorted((item.namespace, item.key, repr(item.value)) for item in items)


async def test_a_place_too_long_is_refused_before_writing(tenant: Any) -> None:
    """With an index a namespace has to fit a scope; nothing of the batch is kept when it does not."""
    indexed = store_of(tenant, index=INDEX)
    with pytest.raises(InvalidInput, match="namespace"):
        await indexed.abatch([PutOp(("a",), "k", {"text": "fits"}), PutOp(("n" * 280,), "k", {"text": "does not"})])
    assert list(await tenant.kv.list_keys()) == []
    plain = store_of(tenant)
    await plain.aput(("n" * 280,), "k", {"text": "without vectors"})
    assert (await plain.aget(("n" * 280,), "k")).value == {"text": "without vectors"}


async def test_an_item_comes_back(memories: Any) -> None:
    """With its place, value and times, until it is deleted."""
    assert await memories.aget(("users", "ada"), "prefs") is None
    await memories.aput(("users", "ada"), "prefs", {"theme": "dark", "n": [1, 1.0, True, None]})
    first = await memories.aget(("users", "ada"), "prefs")
    assert (first.namespace, first.key, repr(first.value)) == (
        ("users", "ada"),
        "prefs",
        "{'theme': 'dark', 'n': [1, 1.0, True, None]}",
    )
    await memories.aput(("users", "ada"), "prefs", {"theme": "light"})
    second = await memories.aget(("users", "ada"), "prefs")
    assert second.value == {"theme": "light"}
    assert second.created_at == first.created_at <= first.updated_at <= second.updated_at
    await memories.adelete(("users", "ada"), "prefs")
    assert await memories.aget(("users", "ada"), "prefs") is None


@pytest.mark.parametrize("label", ["a/b", "a:b", "a%2Fb", "%", "é", "'", "*", "a b"])
async def test_namespaces_do_not_reach_into_each_other(memories: Any, label: str) -> None:
    """Whatever their labels and keys hold."""
    await memories.aput((label,), label, {"at": 1})
    await memories.aput((label, "a"), "b", {"at": 2})
    await memories.aput(("a",), "b", {"at": 3})
    assert (await memories.aget((label,), label)).value == {"at": 1}
    assert told(await memories.asearch((label,))) == [((label,), label, "{'at': 1}"), ((label, "a"), "b", "{'at': 2}")]
    assert await memories.alist_namespaces(prefix=(label,) if label != "*" else None) == sorted(
        [(label,), (label, "a")] + ([("a",)] if label == "*" else [])
    )
    for wrong in ((), ("",), ("a.b",)):
        with pytest.raises((InvalidNamespaceError, InvalidInput)):
            await memories.aput(wrong, "k", {})


async def test_searching_filters_as_langgraph_does(memories: Any) -> None:
    """Against LangGraph's own store, on seeded items, filters and windows."""
    theirs = InMemoryStore()
    chance = random.Random(5)
    for number in range(60):
        namespace = tuple(chance.choice(["docs", "users", "x"]) for _ in range(chance.randint(1, 3)))
        value = {"kind": chance.choice(["a", "b"]), "score": chance.choice([9, 10, 10.5, 100]), "n": number}
        for store in (memories, theirs):
            await store.aput(namespace, f"k{number % 20}", value)
    prefixes: list[Any] = [(), ("docs",), ("docs", "x"), ("none",)]
    filters: list[Any] = [
        None,
        {"kind": "a"},
        {"score": {"$gt": 9}},
        {"score": {"$gte": 10, "$lt": 100}},
        {"kind": {"$ne": "a"}, "score": {"$lte": 10.5}},
        {"kind": {"$eq": "b"}},
    ]
    for prefix in prefixes:
        for wanted in filters:
            ours = await memories.asearch(prefix, filter=wanted, limit=100)
            assert told(ours) == told(await theirs.asearch(prefix, filter=wanted, limit=100))
            window = await memories.asearch(prefix, filter=wanted, limit=3, offset=2)
            assert [(item.namespace, item.key) for item in window] == [(item.namespace, item.key) for item in ours[2:5]]
    with pytest.raises(InvalidInput):
        await memories.asearch(("docs",), filter={"kind": {"$like": "a"}})


async def test_namespaces_are_listed_as_langgraph_does(memories: Any) -> None:
    """By prefix, suffix, wildcard and depth."""
    theirs = InMemoryStore()
    for namespace in [("a",), ("a", "b"), ("a", "b", "c"), ("a", "x", "c"), ("d", "b"), ("d", "e", "f", "g")]:
        for store in (memories, theirs):
            await store.aput(namespace, "k", {"v": 1})
    asked: list[dict[str, Any]] = [
        {},
        {"prefix": ("a",)},
        {"prefix": ("a", "*", "c")},
        {"suffix": ("c",)},
        {"suffix": ("*", "c")},
        {"prefix": ("a",), "suffix": ("b",)},
        {"max_depth": 2},
        {"prefix": ("d",), "max_depth": 1},
        {"limit": 2, "offset": 1},
        {"prefix": ("none",)},
    ]
    for options in asked:
        assert await memories.alist_namespaces(**options) == sorted(await theirs.alist_namespaces(**options)), options


async def test_a_batch_reads_what_was_before_it(memories: Any) -> None:
    """And of several writes of a key the last counts."""
    from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp

    await memories.aput(("a",), "k", {"v": 1})
    results = await memories.abatch(
        [
            PutOp(("a",), "k", {"v": 2}),
            GetOp(("a",), "k"),
            PutOp(("a",), "k", {"v": 3}),
            PutOp(("a",), "gone", {"v": 4}),
            PutOp(("a",), "gone", None),
            SearchOp(("a",)),
            ListNamespacesOp(),
        ]
    )
    assert results[0] is None
    assert results[1].value == {"v": 1}
    assert [item.value for item in results[5]] == [{"v": 1}]
    assert results[6] == [("a",)]
    assert (await memories.aget(("a",), "k")).value == {"v": 3}
    assert await memories.aget(("a",), "gone") is None


@pytest.mark.settable_clock
async def test_an_item_expires(memories: Any, clock: Any) -> None:
    """After its minutes, for every reading operation; reading does not put it off."""
    await memories.aput(("a",), "short", {"v": 1}, ttl=2)
    await memories.aput(("a",), "long", {"v": 2})
    clock.advance(seconds=110)
    assert (await memories.aget(("a",), "short")).value == {"v": 1}
    clock.advance(seconds=11)
    assert await memories.aget(("a",), "short") is None
    assert told(await memories.asearch(("a",))) == [(("a",), "long", "{'v': 2}")]


async def test_a_query_finds_the_nearest(tenant: Any) -> None:
    """Among items that pass the filter, under the prefix, changed and deleted ones included."""
    memories = store_of(tenant, index=INDEX)
    texts = {"one": "aaaa", "two": "aaab", "three": "bbbb", "four": "zzzz"}
    for key, text in texts.items():
        await memories.aput(("docs", key), key, {"text": text, "long": len(key) > 3})
    await memories.aput(("docs", "none"), "none", {"text": "aaaa"}, index=False)
    await memories.aput(("other",), "other", {"text": "aaaa"})
    found = await memories.asearch(("docs",), query="aaaa")
    assert [item.key for item in found][:2] == ["one", "two"]
    assert "none" not in [item.key for item in found]
    assert found[0].score == pytest.approx(1.0, abs=1e-4)
    assert found[0].score > found[1].score
    assert [item.key for item in await memories.asearch(("docs",), query="zzz", limit=1, filter={"long": True})] == [
        "four"
    ]
    assert [item.key for item in await memories.asearch(("docs",), query="aaaa", limit=1, offset=1)] == ["two"]
    await memories.aput(("docs", "one"), "one", {"text": "qqqq"})
    await memories.adelete(("docs", "two"), "two")
    keys = [item.key for item in await memories.asearch(("docs",), query="aaaa", limit=2)]
    assert "two" not in keys
    assert (await memories.asearch(("docs",), query="qqqq", limit=1))[0].key == "one"


async def test_a_neighbour_finds_nothing(memories: Any, neighbour: Any) -> None:
    """The same place is another item."""
    await memories.aput(("a",), "k", {"v": 1})
    other = store_of(neighbour)
    assert await other.asearch(()) == []
    await other.adelete(("a",), "k")
    assert (await memories.aget(("a",), "k")).value == {"v": 1}


async def test_each_twin_has_its_own_calls(tenant: Any) -> None:
    """The wrong one says which to take."""
    store = StorageStore(tenant._target) if isinstance(tenant, Awaited) else AsyncStorageStore(tenant)
    with pytest.raises(InvalidInput, match="take"):
        await store.abatch([]) if isinstance(tenant, Awaited) else store.batch([])
