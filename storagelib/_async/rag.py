"""Retrieval for generation: documents in pieces, found by meaning and by words, over a tenant's vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from storagelib.components.passages import Ingested, Passage, check_chunks, single, source_hash
from storagelib.documents import Document, check_metadata
from storagelib.errors import InvalidInput
from storagelib.flows import AsyncFlow
from storagelib.identifiers import uuid7
from storagelib.limits import (
    BATCH_MAX,
    DIMENSION_MAX,
    PAGE_DEFAULT,
    check_flag,
    check_integer,
    check_mapping,
    check_text,
)
from storagelib.pages import Page

if TYPE_CHECKING:
    from storagelib._async.store import AsyncTenant
    from storagelib.components.vectors import Match, Vector

__all__ = ["AsyncRag", "Embedder"]

Embedder = Callable[[list[str]], Any]
"""Turns texts into vectors of one dimension, in order; may be asynchronous behind an asynchronous store."""

_COLLECTION_MAX: Final = 50
_DOCUMENT_MAX: Final = 200
_SOURCE: Final = "source_hash"
_PASSAGES: Final = "passages"
_EDITION: Final = "edition"
_TAKEN: Final = frozenset({_SOURCE, _PASSAGES, _EDITION})


class AsyncRag:
    """Documents of one collection. Each is a scope ``rag/<collection>/<document id>`` of the tenant's vectors.

    ``rag = AsyncRag(store.for_tenant("acme"), embed, dimension=384)``. What a document's pieces carry besides the caller's
    metadata stands under ``source_hash``, ``passages`` and ``edition``, which the caller therefore may not use.

    Every write of a document is an edition of its own, written all or none; that of the first piece is the one that counts.
    Pieces of another one were overwritten in part and never count again: whoever ingests the document removes them.

    >>> import asyncio
    >>> from storagelib import AsyncRag, AsyncStore, StoreConfig
    >>> async def embed(texts: list[str]) -> list[list[float]]:
    ...     return [[text.count(letter) + 0.01 for letter in "abcdefgh"] for text in texts]
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         rag = AsyncRag(store.for_tenant("acme"), embed, dimension=8)
    ...         await rag.ingest("leave", ["A leave is asked for a week ahead.", "A sick day is told by ten."])
    ...         (best,) = await rag.search("sick day", k=1)
    ...         print(best.document_id, best.position)
    >>> asyncio.run(example())
    leave 1
    """

    def __init__(self, tenant: AsyncTenant, embed: Embedder, *, dimension: int, collection: str = "default") -> None:
        """Take the tenant, what embeds, and how long its vectors are."""
        self._vectors = tenant.vectors
        AsyncFlow.check(embed, "embed")
        self._embed = embed
        self._dimension = check_integer("dimension", dimension, least=1, most=DIMENSION_MAX)
        if "/" in check_text("collection", collection, most=_COLLECTION_MAX):
            raise InvalidInput("the argument cannot be used", ["collection: holds a slash"])
        self._prefix = f"rag/{collection}/"

    async def ingest(
        self,
        document_id: str,
        chunks: Sequence[str],
        *,
        metadata: Document | None = None,
        source: str | bytes | None = None,
    ) -> Ingested:
        """Embed and keep a document's pieces, in their order, in place of those it had.

        The same ``source`` (the same pieces, where none is given) and metadata again embed nothing and change nothing, but
        remove what an ingest that was cut short left. The pieces are written together: a search sees the old ones or the new
        ones; where the new document is shorter, its old end may still be found for a moment. Of several ingests at once one
        wins with all its pieces.
        """
        scope = self._scope(document_id)
        pieces, own = check_chunks(chunks), dict(check_mapping("metadata", metadata))
        if own.keys() & _TAKEN:
            raise InvalidInput("the document cannot be ingested", [f"metadata: {', '.join(sorted(_TAKEN))} are taken"])
        digest = source_hash([*pieces, check_metadata(own)], None) if source is None else source_hash([], source)
        before = await self._first(scope)
        if before is not None and before.metadata.get(_SOURCE) == digest and _own(before) == own:
            count = int(before.metadata[_PASSAGES])
            await self._tidy(scope, count)
            return Ingested(document_id, "unchanged", count, digest)
        await self._vectors.upsert_many(
            [_id(scope, position) for position in range(len(pieces))],
            await AsyncFlow.result_of(self._embed, pieces),
            scope=scope,
            contents=pieces,
            metadata={**own, _SOURCE: digest, _PASSAGES: len(pieces), _EDITION: str(uuid7())},
            document_id=document_id,
            positions=list(range(len(pieces))),
        )
        await self._tidy(scope, len(pieces))
        return Ingested(document_id, "new" if before is None else "replaced", len(pieces), digest)

    async def delete(self, document_id: str) -> int:
        """Remove a document; count its pieces."""
        return await self._vectors.delete_where(dimension=self._dimension, scope=self._scope(document_id))

    async def clear(self) -> int:
        """Remove all documents of the collection; count their pieces."""
        return await self._vectors.delete_where(dimension=self._dimension, scope_prefix=self._prefix)

    async def documents(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the documents' ids, in order."""
        found = await self._vectors.scopes(self._prefix, dimension=self._dimension, cursor=cursor, limit=limit)
        return Page(tuple(each.scope.removeprefix(self._prefix) for each in found), found.cursor)

    async def passages(self, document_id: str) -> list[Passage]:
        """Return the pieces of a document in their order; none when it is not there."""
        found = sorted(await self._pieces(self._scope(document_id)), key=lambda piece: piece.position or 0)
        return [self._passage(piece) for piece in found if _edition(piece) == _edition(found[0])]

    async def search(
        self,
        question: str,
        k: int = 5,
        *,
        filter: Document | None = None,  # noqa: A002 - what it is
        document_id: str | None = None,
        words: bool = True,
    ) -> list[Passage]:
        """Return the ``k`` pieces that answer best, by meaning and, with ``words``, by the question's words too."""
        check_flag("words", words)
        embedding = single(await AsyncFlow.result_of(self._embed, [check_text("question", question, most=100_000)]))
        where: dict[str, Any] = {"filter": filter}
        if document_id is None:
            where["scope_prefix"] = self._prefix
        else:
            where["scope"] = self._scope(document_id)
        if not words:
            return [self._passage(match, match.score) for match in await self._vectors.search(embedding, k, **where)]
        found = await self._vectors.hybrid_search(question, embedding, k, **where)
        return [self._passage(each.match, each.score) for each in found]

    async def around(self, passage: Passage, before: int = 1, after: int = 1) -> list[Passage]:
        """Return a piece with its neighbours in the document, in order."""
        if not isinstance(passage, Passage):
            raise InvalidInput("the argument cannot be used", [f"passage: must be one, not {type(passage).__name__}"])
        scope = self._scope(passage.document_id)
        check_integer("passage.position", passage.position, least=0, most=BATCH_MAX)
        first = max(0, passage.position - check_integer("before", before, least=0, most=1000))
        last = passage.position + check_integer("after", after, least=0, most=1000)
        ids = [_id(scope, position) for position in range(first, last + 1)]
        found = await self._vectors.get_many(ids, dimension=self._dimension)
        return [self._passage(vector) for vector in found.values()]

    async def _tidy(self, scope: str, count: int) -> None:
        """Remove the pieces of editions that do not count, where there are more pieces than ``count``."""
        if await self._vectors.count(dimension=self._dimension, scope=scope) <= count:
            return
        # The first piece is read after the others: an edition that was there before and is not the first piece's by now
        # has been overwritten. Editions do not come back, so that removing one is right whatever is written meanwhile.
        found = await self._pieces(scope)
        first = await self._first(scope)
        for edition in {_edition(piece) for piece in found} - {None if first is None else _edition(first)}:
            await self._vectors.delete_where({_EDITION: edition}, dimension=self._dimension, scope=scope)

    async def _pieces(self, scope: str) -> list[Vector]:
        return [piece async for piece in self._vectors.vectors(dimension=self._dimension, scope=scope)]

    async def _first(self, scope: str) -> Vector | None:
        return await self._vectors.get(_id(scope, 0), dimension=self._dimension)

    def _scope(self, document_id: str) -> str:
        return self._prefix + check_text("document_id", document_id, most=_DOCUMENT_MAX - len(self._prefix))

    def _passage(self, found: Vector | Match, score: float | None = None) -> Passage:
        position = 0 if found.position is None else found.position
        return Passage(found.scope.removeprefix(self._prefix), position, found.content or "", _own(found), score)


def _id(scope: str, position: int) -> str:
    return f"{scope}#{position:08d}"


def _own(found: Vector | Match) -> dict[str, Any]:
    return {name: value for name, value in found.metadata.items() if name not in _TAKEN}


def _edition(piece: Vector) -> str:
    return str(piece.metadata.get(_EDITION, ""))
