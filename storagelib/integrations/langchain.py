"""LangChain on a tenant's stores: a vector store and a store of bytes, blocking and asynchronous (extra ``langchain``).

Each takes a tenant's handle, blocking or asynchronous or both; calls of the kind that has no handle raise ``InvalidInput``.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.stores import ByteStore
    from langchain_core.vectorstores import VectorStore
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "LangChain is not installed: pip install 'llmspell-storage[langchain]'", name=error.name
    ) from error
from storagelib.errors import InvalidInput
from storagelib.limits import check_scope, check_text

if TYPE_CHECKING:
    from storagelib import AsyncTenant, Tenant

__all__ = ["StorageByteStore", "StorageVectorStore"]

Handle = TypeVar("Handle")
_ROOT: Final = "langchain:"
Filter = Mapping[str, Any]


def _given(handle: Handle | None, name: str) -> Handle:
    if handle is None:
        raise InvalidInput("the call cannot be made", [f"{name}: is missing, and this kind of call needs it"])
    return handle


class StorageVectorStore(VectorStore):
    """Documents of one scope among a tenant's vectors; an id means a document of this scope alone.

    A vector's own id is a hash of scope and document id, because a tenant's scopes share the ids; the document's id stands as
    ``document_id``. Adding a document whose id is there replaces it. ``filter`` of every search is a condition of ``storagelib.filters``
    on the metadata. Scores are cosine similarities, 1 for the same direction.
    """

    def __init__(
        self,
        embedding: Embeddings,
        *,
        tenant: Tenant | None = None,
        async_tenant: AsyncTenant | None = None,
        scope: str = "langchain",
        dimension: int | None = None,
    ) -> None:
        """Take what embeds and where to keep; ``dimension`` saves one embedding when nothing was embedded yet."""
        self._embedding = embedding
        self._tenant = tenant
        self._async_tenant = async_tenant
        self._scope = check_scope(scope)
        self._dimension = dimension

    @property
    def embeddings(self) -> Embeddings:
        """What embeds texts."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_options: Any,
    ) -> list[str]:
        """Embed and keep texts, all or none; return their ids."""
        contents = list(texts)
        chosen = _ids(ids, len(contents))
        if contents:
            embedded = self._embedding.embed_documents(contents)
            _given(self._tenant, "tenant").vectors.upsert_many(
                self._named(chosen),
                embedded,
                scope=self._scope,
                contents=contents,
                metadata=metadatas,
                document_id=chosen,
            )
        return chosen

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **_options: Any,
    ) -> list[str]:
        """Embed and keep texts, all or none; return their ids."""
        contents = list(texts)
        chosen = _ids(ids, len(contents))
        if contents:
            embedded = await self._embedding.aembed_documents(contents)
            await _given(self._async_tenant, "async_tenant").vectors.upsert_many(
                self._named(chosen),
                embedded,
                scope=self._scope,
                contents=contents,
                metadata=metadatas,
                document_id=chosen,
            )
        return chosen

    def delete(self, ids: list[str] | None = None, **_options: Any) -> bool:
        """Remove documents; ids that are not there are passed over. Without ids, everything of the scope goes."""
        vectors, dimension = _given(self._tenant, "tenant").vectors, self._size()
        if ids is None:
            vectors.delete_where(dimension=dimension, scope=self._scope)
        elif ids:
            vectors.delete_many(self._named(ids), dimension=dimension)
        return True

    async def adelete(self, ids: list[str] | None = None, **_options: Any) -> bool:
        """Remove documents; ids that are not there are passed over. Without ids, everything of the scope goes."""
        vectors, dimension = _given(self._async_tenant, "async_tenant").vectors, await self._asize()
        if ids is None:
            await vectors.delete_where(dimension=dimension, scope=self._scope)
        elif ids:
            await vectors.delete_many(self._named(ids), dimension=dimension)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that are there, in the order asked for."""
        found = _given(self._tenant, "tenant").vectors.get_many(self._named(ids), dimension=self._size()) if ids else {}
        return [_document(vector) for vector in found.values()]

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents that are there, in the order asked for."""
        if not ids:
            return []
        handle = _given(self._async_tenant, "async_tenant")
        found = await handle.vectors.get_many(self._named(ids), dimension=await self._asize())
        return [_document(vector) for vector in found.values()]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Return the ``k`` documents most like a text."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Return the ``k`` documents most like a text."""
        return [document for document, _ in await self.asimilarity_search_with_score(query, k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """Return documents with their similarity, the most similar first."""
        return self.similarity_search_by_vector_with_score(self._embedding.embed_query(query), k, **options)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Return documents with their similarity, the most similar first."""
        return await self.asimilarity_search_by_vector_with_score(
            await self._embedding.aembed_query(query), k, **options
        )

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """Return the ``k`` documents nearest to a vector."""
        return [document for document, _ in self.similarity_search_by_vector_with_score(embedding, k, **options)]

    async def asimilarity_search_by_vector(self, embedding: list[float], k: int = 4, **options: Any) -> list[Document]:
        """Return the ``k`` documents nearest to a vector."""
        found = await self.asimilarity_search_by_vector_with_score(embedding, k, **options)
        return [document for document, _ in found]

    def similarity_search_by_vector_with_score(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter | None = None,
        **_options: Any,
    ) -> list[tuple[Document, float]]:
        """Return documents near a vector with their similarity."""
        found = _given(self._tenant, "tenant").vectors.search(embedding, k, scope=self._scope, filter=filter)
        return [(_document(match), match.score) for match in found]

    async def asimilarity_search_by_vector_with_score(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Filter | None = None,
        **_options: Any,
    ) -> list[tuple[Document, float]]:
        """Return documents near a vector with their similarity."""
        handle = _given(self._async_tenant, "async_tenant")
        found = await handle.vectors.search(embedding, k, scope=self._scope, filter=filter)
        return [(_document(match), match.score) for match in found]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Return documents that are like a text and unlike each other."""
        embedded = self._embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(embedded, k, fetch_k, lambda_mult, **options)

    async def amax_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Return documents that are like a text and unlike each other."""
        embedded = await self._embedding.aembed_query(query)
        return await self.amax_marginal_relevance_search_by_vector(embedded, k, fetch_k, lambda_mult, **options)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **_options: Any,
    ) -> list[Document]:
        """Return documents near a vector and unlike each other."""
        found = _given(self._tenant, "tenant").vectors.mmr_search(
            embedding, k, fetch_k=max(k, fetch_k), balance=lambda_mult, scope=self._scope, filter=filter
        )
        return [_document(match) for match in found]

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        *,
        filter: Filter | None = None,
        **_options: Any,
    ) -> list[Document]:
        """Return documents near a vector and unlike each other."""
        found = await _given(self._async_tenant, "async_tenant").vectors.mmr_search(
            embedding, k, fetch_k=max(k, fetch_k), balance=lambda_mult, scope=self._scope, filter=filter
        )
        return [_document(match) for match in found]

    def hybrid_search(self, query: str, k: int = 4, *, filter: Filter | None = None) -> list[Document]:
        """Return documents that are like a text by their vectors and by their words."""
        embedded = self._embedding.embed_query(query)
        found = _given(self._tenant, "tenant").vectors.hybrid_search(
            query, embedded, k, scope=self._scope, filter=filter
        )
        return [_document(each.match) for each in found]

    async def ahybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter | None = None,
    ) -> list[Document]:
        """Return documents that are like a text by their vectors and by their words."""
        embedded = await self._embedding.aembed_query(query)
        found = await _given(self._async_tenant, "async_tenant").vectors.hybrid_search(
            query, embedded, k, scope=self._scope, filter=filter
        )
        return [_document(each.match) for each in found]

    @classmethod
    def from_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, **options: Any
    ) -> StorageVectorStore:
        """Make a store of a tenant (``tenant=``) and put texts into it."""
        ids = options.pop("ids", None)
        made = cls(embedding, **options)
        made.add_texts(texts, metadatas, ids=ids)
        return made

    @classmethod
    async def afrom_texts(
        cls, texts: list[str], embedding: Embeddings, metadatas: list[dict[str, Any]] | None = None, **options: Any
    ) -> StorageVectorStore:
        """Make a store of a tenant (``async_tenant=``) and put texts into it."""
        ids = options.pop("ids", None)
        made = cls(embedding, **options)
        await made.aadd_texts(texts, metadatas, ids=ids)
        return made

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda score: (score + 1) / 2

    def _named(self, ids: Sequence[str]) -> list[str]:
        return [_ROOT + _hash(f"{self._scope}\0{check_text('ids', each)}") for each in ids]

    def _size(self) -> int:
        if self._dimension is None:
            self._dimension = len(self._embedding.embed_query("size"))
        return self._dimension

    async def _asize(self) -> int:
        if self._dimension is None:
            self._dimension = len(await self._embedding.aembed_query("size"))
        return self._dimension


class StorageByteStore(ByteStore):
    """Bytes under keys of a tenant's key-value store; ``prefix`` keeps them apart from other keys."""

    def __init__(
        self, *, tenant: Tenant | None = None, async_tenant: AsyncTenant | None = None, prefix: str = "langchain/"
    ) -> None:
        """Take the tenant's handles."""
        self._tenant = tenant
        self._async_tenant = async_tenant
        self._prefix = prefix

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        found = _given(self._tenant, "tenant").kv.get_many(self._named(keys))
        return [found.get(self._prefix + key) for key in keys]

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, None where there is none."""
        found = await _given(self._async_tenant, "async_tenant").kv.get_many(self._named(keys))
        return [found.get(self._prefix + key) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Write values, all or none."""
        values = {self._prefix + key: value for key, value in key_value_pairs}
        _given(self._tenant, "tenant").kv.set_many(values)

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        """Write values, all or none."""
        values = {self._prefix + key: value for key, value in key_value_pairs}
        await _given(self._async_tenant, "async_tenant").kv.set_many(values)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Remove values."""
        _given(self._tenant, "tenant").kv.delete_many(self._named(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """Remove values."""
        await _given(self._async_tenant, "async_tenant").kv.delete_many(self._named(keys))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Go through the keys, in order."""
        for key in _given(self._tenant, "tenant").kv.keys(self._prefix + (prefix or "")):
            yield key.removeprefix(self._prefix)

    async def ayield_keys(self, *, prefix: str | None = None) -> AsyncIterator[str]:
        """Go through the keys, in order."""
        async for key in _given(self._async_tenant, "async_tenant").kv.keys(self._prefix + (prefix or "")):
            yield key.removeprefix(self._prefix)

    def _named(self, keys: Sequence[str]) -> list[str]:
        return [self._prefix + key for key in keys]


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _ids(ids: list[str] | None, count: int) -> list[str]:
    given: list[str | None] = [None] * count if ids is None else list(ids)
    return [str(uuid.uuid4()) if each is None else each for each in given]


def _document(found: Any) -> Document:
    return Document(id=found.document_id, page_content=found.content or "", metadata=dict(found.metadata))
