"""Semantic memory: concepts and facts about them, with the time in which they are true, over a tenant's graph."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final

from storagelib._async.listings import each_item
from storagelib.clocks import LONG_AGO
from storagelib.components.facts import Fact, concept_id
from storagelib.documents import Document
from storagelib.errors import AlreadyExists, NotFound
from storagelib.limits import NAME_MAX, PAGE_MAX, check_batch, check_flag, check_text

if TYPE_CHECKING:
    from uuid import UUID

    from storagelib._async.graph import AsyncGraphView
    from storagelib._async.store import AsyncTenant
    from storagelib.components.graph import Entity

__all__ = ["AsyncSemanticMemory"]

_CONCEPT: Final = "concept"


class AsyncSemanticMemory:
    """Facts of one tenant: ``await AsyncSemanticMemory(tenant).learn("Ada", "works at", "Acme")``.

    A concept is an entity whose id follows from its kind and name, so that many writers mean the same one; a fact is a
    relationship between two. Nothing is overwritten: what was believed at an earlier time can be asked for.

    >>> import asyncio
    >>> from datetime import UTC, datetime
    >>> from storagelib import AsyncSemanticMemory, AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         memory = AsyncSemanticMemory(store.for_tenant("acme"))
    ...         await memory.learn("Ada", "works at", "Acme", valid_from=datetime(2020, 1, 1, tzinfo=UTC))
    ...         await memory.learn("Ada", "works at", "Borg", valid_from=datetime(2024, 1, 1, tzinfo=UTC), replaces=True)
    ...         before = await memory.facts("Ada", at=datetime(2021, 6, 1, tzinfo=UTC))
    ...         print([fact.object for fact in before], [fact.object for fact in await memory.facts("Ada")])
    >>> asyncio.run(example())
    ['Acme'] ['Borg']
    """

    def __init__(self, tenant: AsyncTenant) -> None:
        """Take the tenant's handle."""
        self._graph = tenant.graph

    async def concept(
        self,
        name: str,
        *,
        kind: str = _CONCEPT,
        properties: Document | None = None,
        embedding: Iterable[float] | None = None,
    ) -> UUID:
        """Make a concept known, or find it; properties and embedding given are laid over those it has. Return its id."""
        known = concept_id(check_text("kind", kind), check_text("name", name, most=NAME_MAX))
        vector = None if embedding is None else check_batch("embedding", embedding)
        try:
            await self._graph.add_entity(kind, name, properties, valid_from=LONG_AGO, entity_id=known, embedding=vector)
        except AlreadyExists:
            if properties is not None or vector is not None:
                await self._graph.update_entity(known, merge=properties, embedding="keep" if vector is None else vector)
        return known

    async def learn(
        self,
        subject: str,
        relation: str,
        object: str,  # noqa: A002 - what grammar calls it
        *,
        properties: Document | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        replaces: bool = False,
        sources: Iterable[str] = (),
    ) -> UUID:
        """Keep a fact, with its concepts where they are new; return its id.

        With ``replaces`` the facts of this subject and relation that are true at ``valid_from`` end there: somebody works
        at one place at a time.
        """
        origins = tuple(check_batch("sources", sources))
        one, other = await self.concept(subject), await self.concept(object)
        if check_flag("replaces", replaces):
            for fact in await self._facts(self._graph.as_of(valid=valid_from), one, relation):
                await self._graph.retract_relationship(fact.fact_id, valid_from=valid_from, sources=origins)
        made = await self._graph.add_relationship(
            one, other, relation, properties, valid_from=valid_from, valid_to=valid_to, sources=origins
        )
        return made.relationship_id

    async def forget(self, fact_id: UUID, *, since: datetime | None = None) -> None:
        """Say that a fact is no longer true from a moment on (now); that it was stays known. Raises ``NotFound``."""
        await self._graph.retract_relationship(fact_id, valid_from=since)

    async def facts(
        self,
        subject: str,
        relation: str | None = None,
        *,
        at: datetime | None = None,
        believed: datetime | int | None = None,
    ) -> list[Fact]:
        """Return what is true of a subject at a moment (now), as it was believed then or at an earlier time."""
        view = self._graph.as_of(valid=at, tx=believed)
        return await self._facts(view, concept_id(_CONCEPT, check_text("subject", subject, most=NAME_MAX)), relation)

    async def find(
        self, *, prefix: str | None = None, embedding: Iterable[float] | None = None, limit: int = 10
    ) -> list[Entity]:
        """Return concepts whose names begin alike, or whose embeddings are nearest, the nearest first."""
        if embedding is not None:
            return [
                match.entity for match in await self._graph.nearest(check_batch("embedding", embedding), limit=limit)
            ]
        return list(await self._graph.search(prefix=prefix, limit=limit))

    async def describe(self, name: str, *, kind: str = _CONCEPT) -> Entity:
        """Return a concept; raises ``NotFound``."""
        known = concept_id(check_text("kind", kind), check_text("name", name, most=NAME_MAX))
        found = await self._graph.get_entity(known)
        if found is None:
            raise NotFound("there is no such concept")
        return found

    async def _facts(self, view: AsyncGraphView, subject: UUID, relation: str | None) -> list[Fact]:
        here = await view.get_entity(subject)
        if here is None:
            return []
        types = None if relation is None else [relation]
        found = each_item(view.neighbours, subject, direction="out", types=types, limit=PAGE_MAX)
        return [
            Fact(
                each.relationship.relationship_id,
                here.name,
                each.relationship.type,
                each.entity.name,
                each.relationship.properties,
                each.relationship.valid_from,
                each.relationship.valid_to,
            )
            async for each in found
        ]
