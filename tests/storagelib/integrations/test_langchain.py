"""LangChain's own standard tests on every backend, blocking and asynchronous."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.stores import BaseStore
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import (
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    VectorStoreIntegrationTests,
)

from storagelib import AsyncStore, InvalidInput, Store, StoreConfig
from storagelib.conformance.subjects import Opening
from storagelib.integrations.langchain import StorageByteStore, StorageVectorStore
from tests.plugins.conformance import Tenants, opening_of

EMBEDDING = DeterministicFakeEmbedding(size=6)


@pytest.fixture(params=["memory", "sqlite", "postgres-role", "postgres-sealed"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    """Give what a store is opened with; PostgreSQL has a table of the tests' six dimensions."""
    if request.param == "memory":
        return Opening(StoreConfig.in_memory())
    if request.param == "sqlite":
        return Opening(StoreConfig.on_sqlite(tmp_path / "a.db", durability="normal"))
    tenants: Tenants = request.getfixturevalue("conformance_tenants")
    with tenants.installation.connect(tenants.installation.names.owner) as connection:
        connection.execute(f"SELECT {tenants.installation.schema}.create_vector_table(6)".encode())
    tenants.grant_all()
    return opening_of(tenants, request.param.removeprefix("postgres-"), pool_min=0)


@pytest.fixture
def store(opening: Opening) -> Iterator[Store]:
    """Give the blocking store."""
    with Store.open(opening.config, provider=opening.provider) as opened:
        yield opened


@pytest_asyncio.fixture
async def async_store(opening: Opening) -> AsyncIterator[AsyncStore]:
    """Give the asynchronous store."""
    async with await AsyncStore.open(opening.config, provider=opening.provider) as opened:
        yield opened


class TestVectorStore(VectorStoreIntegrationTests):
    """The standard tests of vector stores."""

    @pytest_asyncio.fixture
    async def vectorstore(self, store: Store, async_store: AsyncStore, opening: Opening) -> VectorStore:  # type: ignore[override]
        """Give an empty store that serves both kinds of calls."""
        tenant = opening.new_tenant()
        return StorageVectorStore(
            self.get_embeddings(), tenant=store.for_tenant(tenant), async_tenant=async_store.for_tenant(tenant)
        )


class TestByteStore(BaseStoreSyncTests[bytes]):
    """The standard tests of stores, blocking."""

    @pytest.fixture
    def kv_store(self, store: Store, opening: Opening) -> BaseStore[str, bytes]:  # type: ignore[override]
        """Give an empty store."""
        return StorageByteStore(tenant=store.for_tenant(opening.new_tenant()))

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        """Give three values."""
        return b"", b"\0\xff", b"value"


class TestByteStoreAsync(BaseStoreAsyncTests[bytes]):
    """The standard tests of stores, asynchronous."""

    @pytest_asyncio.fixture
    async def kv_store(self, async_store: AsyncStore, opening: Opening) -> BaseStore[str, bytes]:  # type: ignore[override]
        """Give an empty store."""
        return StorageByteStore(async_tenant=async_store.for_tenant(opening.new_tenant()))

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        """Give three values."""
        return b"", b"\0\xff", b"value"


def test_scopes_keep_their_ids_apart(store: Store, opening: Opening) -> None:
    """The same id in two scopes of a tenant is two documents; neither scope takes, shows or removes the other's."""
    tenant = store.for_tenant(opening.new_tenant())
    one, other = (StorageVectorStore(EMBEDDING, tenant=tenant, scope=scope) for scope in ("one", "other"))
    long = "x" * 255
    assert one.add_texts(["mine", "long"], ids=["a", long]) == ["a", long]
    assert other.get_by_ids(["a"]) == []
    other.delete(["a", long])
    other.add_texts(["theirs"], ids=["a"])
    assert [(found.id, found.page_content) for found in one.get_by_ids([long, "a"])] == [(long, "long"), ("a", "mine")]
    assert [(found.id, found.page_content) for found in other.similarity_search("x", k=9)] == [("a", "theirs")]
    one.delete(["a"])
    assert [found.id for found in one.similarity_search("x", k=9)] == [long]
    assert [found.id for found in other.get_by_ids(["a"])] == ["a"]


def test_searches_are_ours(store: Store, opening: Opening) -> None:
    """Filters, scores, diversity and words work through LangChain's names too, and the neighbour sees nothing."""
    tenant, neighbour = store.for_tenant(opening.new_tenant()), store.for_tenant(opening.new_tenant())
    ours = StorageVectorStore.from_texts(
        ["red apple", "green apple", "blue sky"],
        EMBEDDING,
        [{"n": 1}, {"n": 2}, {"n": 3}],
        ids=["a", "b", "c"],
        tenant=tenant,
    )
    ((best, score),) = ours.similarity_search_with_score("red apple", k=1)
    assert (best.id, best.page_content, best.metadata) == ("a", "red apple", {"n": 1})
    assert score == pytest.approx(1)
    assert {found.id for found in ours.similarity_search("x", k=9, filter={"n": {"$gte": 2}})} == {"b", "c"}
    assert len(ours.max_marginal_relevance_search("apple", k=2)) == 2
    assert ours.hybrid_search("sky", k=1)[0].id == "c"
    assert ours.similarity_search_with_relevance_scores("red apple", k=1)[0][1] == pytest.approx(1)
    other = StorageVectorStore(EMBEDDING, tenant=neighbour)
    assert other.similarity_search("red apple") == []
    assert other.get_by_ids(["a"]) == []
    other.delete(["a"])
    other.delete()
    assert ours.get_by_ids(["c", "a"]) == [
        Document(id="c", page_content="blue sky", metadata={"n": 3}),
        Document(id="a", page_content="red apple", metadata={"n": 1}),
    ]
    ours.delete()
    assert ours.similarity_search("red apple") == []


async def test_searches_are_ours_asynchronously(async_store: AsyncStore, opening: Opening) -> None:
    """The same on an event loop."""
    tenant = async_store.for_tenant(opening.new_tenant())
    ours = await StorageVectorStore.afrom_texts(
        ["red apple", "blue sky"], EMBEDDING, [{"n": 1}, {"n": 2}], ids=["a", "b"], async_tenant=tenant
    )
    assert [found.id for found in await ours.asimilarity_search("x", filter={"n": 2})] == ["b"]
    assert len(await ours.amax_marginal_relevance_search("apple", k=2)) == 2
    assert [found.id for found in await ours.ahybrid_search("sky", k=1)] == ["b"]
    await ours.adelete()
    assert await ours.asimilarity_search("red apple") == []


def test_a_call_without_its_handle_says_so() -> None:
    """Instead of a thread behind the caller's back."""
    calls: tuple[Any, ...] = (
        lambda: StorageVectorStore(EMBEDDING).similarity_search("a"),
        lambda: StorageByteStore().mget(["a"]),
        lambda: StorageByteStore().mset([("a", b"")]),
    )
    for call in calls:
        with pytest.raises(InvalidInput, match="tenant: is missing"):
            call()
    with contextlib.suppress(StopIteration), pytest.raises(InvalidInput):
        next(StorageByteStore().yield_keys())
