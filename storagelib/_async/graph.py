"""The bi-temporal knowledge graph: what is true when, and what was believed when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from storagelib._async.listings import each_item
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.graph import (
    CURRENT,
    CURRENT_MOMENT,
    RANKS,
    Added,
    Change,
    ChangePosition,
    Difference,
    Direction,
    Entity,
    EntityDraft,
    Kind,
    Link,
    Match,
    Moment,
    Neighbour,
    NewEntity,
    NewRelationship,
    Note,
    Path,
    Reached,
    Receipt,
    Relationship,
    RelationshipDraft,
    Revised,
    Revision,
    Span,
    Tick,
    Transaction,
    Traversal,
    Walk,
    Wanted,
    embedding_bytes,
    embedding_hash,
    entity,
    make_reached,
    relationship,
)
from storagelib.components.graph_inputs import (
    REASON_MAX,
    Embedding,
    check_depth,
    check_id,
    check_ids,
    check_known,
    check_span,
    check_valid,
    check_walk,
    check_wanted,
    entity_draft,
    moment_of,
    note_of,
    relationship_draft,
)
from storagelib.components.graph_walks import shortest_path
from storagelib.documents import Document, check_metadata
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from storagelib.limits import (
    NAME_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_integer,
    check_page_size,
    check_text,
)
from storagelib.pages import Page, cursor_of, page_of, position_of

__all__ = ["AsyncGraph", "AsyncGraphBackend", "AsyncGraphView"]

_LAST = UUID(int=2**128 - 1)
Item = TypeVar("Item")


class AsyncGraphBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    Every writing verb is one tick of the tenant's clock, or does nothing and leaves the clock alone. A moment whose
    ``valid`` is None means now: the later of the present and the last tick.
    """

    async def clock(self) -> Tick:
        """Return the last transaction, 0 before the first, and the graph's present moment."""
        ...

    async def add(self, entities: list[EntityDraft], relationships: list[RelationshipDraft], note: Note) -> Added:
        """Add all, in one tick, or nothing: when an id is taken, or an end is neither there nor being added."""
        ...

    async def revise(self, revision: Revision, note: Note) -> Revised:
        """End the current versions that a revision touches and make what remains and what it says, in one tick."""
        ...

    async def erase(self, entity_id: UUID, reason: str, actor: str | None) -> int:
        """Remove every version of an entity, its relationships and embeddings, leave a trace; count the versions."""
        ...

    async def entities(self, ids: list[UUID], moment: Moment) -> list[Entity]:
        """Return the entities among these that are visible, in any order."""
        ...

    async def relationships(self, ids: list[UUID], moment: Moment) -> list[Relationship]:
        """Return the relationships among these that are visible, in any order."""
        ...

    async def history(
        self, kind: Kind, subject: UUID, after: tuple[int, datetime] | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return all versions after ``(tx, valid_from)``, in that order."""
        ...

    async def timeline(
        self, kind: Kind, subject: UUID, known: int | datetime | None, after: datetime | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return the versions believed at a point of transaction time, by ``valid_from``."""
        ...

    async def query(
        self, span: Span, wanted: Wanted, after: tuple[UUID, int, datetime] | None, limit: int
    ) -> list[Entity]:
        """Return versions of entities that touch ranges of both times, by ``(entity_id, tx, valid_from)``."""
        ...

    async def neighbours(
        self, subject: UUID, moment: Moment, walk: Walk, after: tuple[str, datetime, UUID] | None, limit: int
    ) -> list[Neighbour]:
        """Return visible relationships whose other end is visible, by ``(type, valid_from, relationship_id)``."""
        ...

    async def step(self, ids: list[UUID], moment: Moment, walk: Walk) -> list[Link]:
        """Return the links from these entities to visible ones, in any order."""
        ...

    async def traverse(
        self, start: UUID, moment: Moment, walk: Walk, depth: int, limit: int
    ) -> tuple[Entity | None, list[tuple[int, UUID, Entity, Relationship]]]:
        """Walk breadth first; return the start, and depth, previous entity, entity and relationship of each reached.

        ``graph_walks.breadth_first`` says which are reached, over which relationship, and in which order.
        """
        ...

    async def search(
        self, moment: Moment, wanted: Wanted, after: tuple[str, UUID] | UUID | None, limit: int
    ) -> list[Entity]:
        """Return visible entities by id; by ``(name, id)`` when a prefix is wanted, and so is ``after`` then."""
        ...

    async def nearest(self, moment: Moment, embedding: bytes, wanted: Wanted, limit: int) -> list[Match]:
        """Return the visible entities with embeddings of this dimension that are nearest by cosine, then by id."""
        ...

    async def embedding(self, entity_id: UUID, moment: Moment) -> bytes | None:
        """Return the embedding of a visible entity as little-endian float32."""
        ...

    async def changes(self, after: ChangePosition, limit: int) -> list[Change]:
        """Return what transactions did after a position, in the order of ``ChangePosition``."""
        ...

    async def why(self, subject: UUID, after: int, limit: int) -> list[Transaction]:
        """Return the transactions after ``after`` that made or ended versions of an entity or relationship."""
        ...

    async def diff(
        self, kind: Kind, before: Moment, after: Moment, past: UUID | None, limit: int
    ) -> list[tuple[Entity | None, Entity | None]] | list[tuple[Relationship | None, Relationship | None]]:
        """Return what two moments say differently of subjects greater than ``past``, by id."""
        ...


class AsyncGraphView:
    """The graph at one point of valid time and one of transaction time; never changes anything.

    A view of a past transaction, at a moment that is given, answers the same for ever, erasures excepted.
    """

    def __init__(self, backend: AsyncGraphBackend, moment: Moment = CURRENT_MOMENT) -> None:
        """Take the tenant's backend and the point of both times."""
        self._backend = backend
        self._moment = moment

    @property
    def moment(self) -> Moment:
        """The point of both times."""
        return self._moment

    async def get_entity(self, entity_id: UUID | str) -> Entity | None:
        """Return an entity as it is seen here, or None."""
        found = await self._backend.entities([check_id("entity_id", entity_id)], self._moment)
        return found[0] if found else None

    async def get_entities(self, entity_ids: Iterable[UUID | str]) -> dict[UUID, Entity]:
        """Return the entities that are seen here, by id, in the order asked for; up to 100,000."""
        asked = check_ids("entity_ids", entity_ids)
        found = {each.entity_id: each for each in await self._backend.entities(asked, self._moment)} if asked else {}
        return {subject: found[subject] for subject in asked if subject in found}

    async def get_relationship(self, relationship_id: UUID | str) -> Relationship | None:
        """Return a relationship as it is seen here, whether its ends are seen or not, or None."""
        found = await self._backend.relationships([check_id("relationship_id", relationship_id)], self._moment)
        return found[0] if found else None

    async def get_relationships(self, relationship_ids: Iterable[UUID | str]) -> dict[UUID, Relationship]:
        """Return the relationships that are seen here, by id, in the order asked for; up to 100,000."""
        asked = check_ids("relationship_ids", relationship_ids)
        rows = await self._backend.relationships(asked, self._moment) if asked else []
        found = {each.relationship_id: each for each in rows}
        return {subject: found[subject] for subject in asked if subject in found}

    async def neighbours(
        self,
        entity_id: UUID | str,
        *,
        direction: Direction = "both",
        types: str | Iterable[str] | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Neighbour]:
        """Return a page of an entity's relationships with the entities at their other ends.

        In order of the relationship's type, the start of its validity, and its id. Where the other end is not seen, the
        relationship is not either. An entity that is not there has no neighbours.
        """
        check_page_size(limit)
        walk = check_walk(direction, types)
        after = position_of(cursor, str, datetime, UUID)
        subject = check_id("entity_id", entity_id)
        found = await self._backend.neighbours(subject, self._moment, walk, after, limit + 1)
        if len(found) <= limit:
            return Page(tuple(found), None)
        last = found[limit - 1].relationship
        return Page(tuple(found[:limit]), cursor_of(last.type, last.valid_from, last.relationship_id))

    async def traverse(
        self,
        start: UUID | str,
        *,
        depth: int = 4,
        direction: Direction = "out",
        types: str | Iterable[str] | None = None,
        fanout: int | None = None,
        limit: int = 1000,
    ) -> Traversal:
        """Walk breadth first from an entity, up to 32 hops; return what is reached, each once, by the fewest hops.

        ``fanout`` bounds how many relationships of one entity are followed (by type, start of validity, id), ``limit``
        how many entities are returned (up to 10,000). Of several shortest ways the one over the least relationship ids
        is given. Raises ``NotFound`` when the start is not seen here.
        """
        walk = check_walk(direction, types, fanout)
        hops, most = check_depth(depth), check_integer("limit", limit, least=1, most=PAGE_MAX)
        subject = check_id("start", start)
        origin, rows = await self._backend.traverse(subject, self._moment, walk, hops, most + 1)
        if origin is None:
            raise NotFound("start: there is no such entity")
        paths: dict[UUID, tuple[Relationship, ...]] = {subject: ()}
        reached = []
        for level, near, found, over in rows[:most]:
            path = paths[found.entity_id] = (*paths[near], over)
            reached.append(make_reached(found, level, path))
        return Traversal(origin, tuple(reached), len(rows) <= most)

    async def get_related(
        self, entity_id: UUID | str, relationship_type: str | None = None, max_depth: int = 4
    ) -> list[Reached]:
        """Return what is reached from an entity within ``max_depth`` hops, nearest first."""
        return list(await self.traverse(entity_id, depth=max_depth, types=relationship_type))

    async def path(
        self,
        start: UUID | str,
        goal: UUID | str,
        *,
        depth: int = 6,
        direction: Direction = "out",
        types: str | Iterable[str] | None = None,
    ) -> Path | None:
        """Return a shortest way of at most ``depth`` hops, or None; it is looked for from both ends.

        Raises ``NotFound`` when an end is not seen here, ``InvalidInput`` when over 100,000 entities would be visited.
        """
        walk = check_walk(direction, types)
        hops, one, other = check_depth(depth), check_id("start", start), check_id("goal", goal)
        moment = await self._pinned()
        seen = {each.entity_id: each for each in await self._backend.entities([one, other], moment)}
        for name, subject in (("start", one), ("goal", other)):
            if subject not in seen:
                raise NotFound(f"{name}: there is no such entity")
        search = shortest_path(one, other, hops, walk.direction)
        try:
            ids, way = next(search)
            while True:
                ids, way = search.send(await self._backend.step(ids, moment, Walk(way, walk.types)))
        except StopIteration as ended:
            links: list[Link] | None = ended.value
        if links is None:
            return None
        order = [one]
        for link in links:
            order.append(link.far if link.near == order[-1] else link.near)
        along = {each.entity_id: each for each in await self._backend.entities(order, moment)}
        ids = [link.relationship_id for link in links]
        over = {each.relationship_id: each for each in await self._backend.relationships(ids, moment)} if ids else {}
        return Path(tuple(along[each] for each in order), tuple(over[each] for each in ids))

    async def search(
        self,
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        name: str | None = None,
        prefix: str | None = None,
        where: Document | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Entity]:
        """Return a page of the entities of a type, with a name or a name's prefix, whose properties match a filter.

        In order of id; with a prefix, of name and id. ``where`` is a filter as ``storagelib.filters`` reads it.
        """
        check_page_size(limit)
        wanted = check_wanted(type, name, prefix, where)
        by_name = wanted.prefix is not None
        place = position_of(cursor, str, UUID) if by_name else position_of(cursor, UUID)
        after: Any = None if place is None else place if by_name else place[0]
        found = await self._backend.search(self._moment, wanted, after, limit + 1)
        return page_of(found, limit, *(("name", "entity_id") if by_name else ("entity_id",)))

    def scan(
        self,
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        prefix: str | None = None,
        where: Document | None = None,
    ) -> AsyncIterator[Entity]:
        """Go through all entities that ``search`` finds, page by page."""
        return each_item(self.search, type=type, prefix=prefix, where=where, limit=PAGE_MAX)

    async def nearest(
        self,
        embedding: Iterable[float],
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        where: Document | None = None,
        limit: int = 10,
    ) -> list[Match]:
        """Return the entities whose embeddings are nearest by cosine, nearest first, ties by id.

        Every embedding of the tenant is compared, exactly; embeddings of other dimensions are passed over.
        """
        asked = embedding_bytes("embedding", embedding)
        wanted = check_wanted(type, where=where)
        return await self._backend.nearest(self._moment, asked, wanted, check_page_size(limit))

    async def get_embedding(self, entity_id: UUID | str) -> bytes | None:
        """Return the embedding of an entity as little-endian float32, or None."""
        return await self._backend.embedding(check_id("entity_id", entity_id), self._moment)

    async def _pinned(self) -> Moment:
        """Return a moment that does not move between the calls of one verb."""
        moment = self._moment
        if moment.tx is not None and moment.valid is not None:
            return moment
        tick = await self._backend.clock()
        return Moment(moment.valid or tick.at, tick.tx if moment.tx is None else moment.tx)


class AsyncGraph(AsyncGraphView):
    """The bi-temporal graph of one tenant; read directly it shows what is believed now of the present.

    Nothing is overwritten: a write ends versions and makes others, as one numbered transaction of the tenant's clock.
    Ranges of valid time are half-open; without ``valid_from`` a write counts from now, without ``valid_to`` until further
    notice. Every writing verb takes ``actor``, ``reason`` and ``sources``, which ``why`` tells.

    >>> import asyncio
    >>> from datetime import UTC, datetime
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         graph = store.for_tenant("acme").graph
    ...         spring, autumn = datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 9, 1, tzinfo=UTC)
    ...         ada = await graph.add_entity("person", "Ada", {"city": "London"}, valid_from=spring)
    ...         await graph.update_entity(ada.entity_id, properties={"city": "Paris"}, valid_from=autumn)
    ...         then = await graph.as_of(valid=spring).get_entity(ada.entity_id)
    ...         now = await graph.get_entity(ada.entity_id)
    ...         print(then.properties, now.properties)
    >>> asyncio.run(example())
    {'city': 'London'} {'city': 'Paris'}
    """

    def __init__(self, backend: AsyncGraphBackend) -> None:
        """Take the tenant's backend."""
        super().__init__(backend)

    # Views -------------------------------------------------------------------------------------

    def current(self) -> AsyncGraphView:
        """Return a view of what is believed now of the present; it moves on with time."""
        return AsyncGraphView(self._backend)

    def as_of(self, valid: datetime | None = None, tx: int | datetime | None = None) -> AsyncGraphView:
        """Return a view of what was true at ``valid`` as it was believed at ``tx``, a counter or a time; None is now."""
        return AsyncGraphView(self._backend, moment_of(valid, tx))

    def believed_at(self, time: datetime) -> AsyncGraphView:
        """Return a view of what was believed, at a time, to be true at that time."""
        return self.as_of(time, time)

    async def snapshot(self) -> AsyncGraphView:
        """Return a view of the present that later writes do not change."""
        tick = await self._backend.clock()
        return self.as_of(tick.at, tick.tx)

    async def last_transaction(self) -> int:
        """Return the number of the last transaction; 0 before the first. Other stores may count on the same clock."""
        return (await self._backend.clock()).tx

    async def get_entity_at(
        self, entity_id: UUID | str, event_time: datetime, transaction_time: int | datetime | None = None
    ) -> Entity | None:
        """Return an entity as it was true at ``event_time`` by what was believed at ``transaction_time``, or None."""
        return await self.as_of(event_time, transaction_time).get_entity(entity_id)

    # Adding ------------------------------------------------------------------------------------

    async def add_entity(
        self,
        type: str,  # noqa: A002 - what the graph calls it
        name: str,
        properties: Document | None = None,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        entity_id: UUID | str | None = None,
        embedding: Iterable[float] | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Entity:
        """Add an entity and return it; an id that exists is ``AlreadyExists``, one that was deleted may come back."""
        new = NewEntity(type, name, properties, valid_from, valid_to, entity_id, embedding)
        draft = entity_draft(new)
        tick = await self._add([draft], [], note_of(actor, reason, sources))
        return _entity(draft, tick)

    async def add_relationship(
        self,
        from_entity: UUID | str,
        to_entity: UUID | str,
        type: str,  # noqa: A002 - what the graph calls it
        properties: Document | None = None,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        relationship_id: UUID | str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Relationship:
        """Add a relationship and return it; an end that does not exist now is ``NotFound``."""
        new = NewRelationship(from_entity, to_entity, type, properties, valid_from, valid_to, relationship_id)
        draft = relationship_draft(new)
        tick = await self._add([], [draft], note_of(actor, reason, sources))
        return _relationship(draft, tick)

    async def add_entities(
        self,
        entities: Iterable[NewEntity],
        *,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> list[UUID]:
        """Add up to 100,000 entities in one transaction, all or none; return their ids in order."""
        return (await self.add(entities, (), actor=actor, reason=reason, sources=sources))[0]

    async def add_relationships(
        self,
        relationships: Iterable[NewRelationship],
        *,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> list[UUID]:
        """Add up to 100,000 relationships in one transaction, all or none; return their ids in order."""
        return (await self.add((), relationships, actor=actor, reason=reason, sources=sources))[1]

    async def add(
        self,
        entities: Iterable[NewEntity],
        relationships: Iterable[NewRelationship],
        *,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> tuple[list[UUID], list[UUID]]:
        """Add entities, and relationships that may lead to them, in one transaction; return the ids of both in order."""
        nodes = [entity_draft(item) for item in check_batch("entities", entities)]
        edges = [relationship_draft(item) for item in check_batch("relationships", relationships)]
        ids = [draft.entity_id for draft in nodes], [draft.relationship_id for draft in edges]
        for name, listed in zip(("entity_id", "relationship_id"), ids, strict=True):
            if len(set(listed)) != len(listed):
                raise InvalidInput("the argument cannot be used", [f"{name}: stands twice in one batch"])
        note = note_of(actor, reason, sources)
        if nodes or edges:
            await self._add(nodes, edges, note)
        return ids

    # Changing ----------------------------------------------------------------------------------

    async def update_entity(
        self,
        entity_id: UUID | str,
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        name: str | None = None,
        properties: Document | None = None,
        merge: Document | None = None,
        embedding: Embedding = "keep",
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """Change what is known of an entity over ``[valid_from, valid_to)``, and nothing where nothing is known.

        ``properties`` replaces them all, ``merge`` lays keys over them. Raises ``NotFound`` when nothing is known there,
        ``Conflict`` when any current version is newer than ``expected_tx``.
        """
        text, merges = _properties(properties, merge)
        keeps = isinstance(embedding, str)
        if type is None and name is None and text is None and keeps:
            raise InvalidInput("the argument cannot be used", ["name: nothing is to be changed"])
        start, end = check_valid(valid_from, valid_to)
        revision = Revision(
            "entity",
            check_id("entity_id", entity_id),
            "amend",
            start,
            end,
            _expected(expected_tx),
            None if type is None else check_text("type", type),
            None if name is None else check_text("name", name, most=NAME_MAX),
            text,
            merges,
            _embedding(embedding),
            keeps,
        )
        return await self._revise(revision, note_of(actor, reason, sources))

    async def update_relationship(
        self,
        relationship_id: UUID | str,
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        properties: Document | None = None,
        merge: Document | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """Change what is known of a relationship over a range, as ``update_entity`` does; its ends stay."""
        text, merges = _properties(properties, merge)
        if type is None and text is None:
            raise InvalidInput("the argument cannot be used", ["type: nothing is to be changed"])
        start, end = check_valid(valid_from, valid_to)
        revision = Revision(
            "relationship",
            check_id("relationship_id", relationship_id),
            "amend",
            start,
            end,
            _expected(expected_tx),
            None if type is None else check_text("type", type),
            None,
            text,
            merges,
        )
        return await self._revise(revision, note_of(actor, reason, sources))

    async def correct_entity(
        self,
        entity_id: UUID | str,
        *,
        type: str,  # noqa: A002 - what the graph calls it
        name: str,
        properties: Document | None = None,
        valid_from: datetime,
        valid_to: datetime | None = None,
        embedding: Iterable[float] | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """State what is true of an entity over ``[valid_from, valid_to)``, whatever was known there; the rest stays."""
        start, end = check_valid(valid_from, valid_to)
        revision = Revision(
            "entity",
            check_id("entity_id", entity_id),
            "correct",
            start,
            end,
            _expected(expected_tx),
            check_text("type", type),
            check_text("name", name, most=NAME_MAX),
            check_metadata(properties, "properties"),
            embedding=_embedding(embedding),
            keeps_embedding=False,
        )
        return await self._revise(revision, note_of(actor, reason, sources))

    async def correct_relationship(
        self,
        relationship_id: UUID | str,
        *,
        type: str,  # noqa: A002 - what the graph calls it
        properties: Document | None = None,
        valid_from: datetime,
        valid_to: datetime | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """State what is true of a relationship over ``[valid_from, valid_to)``, whatever was known there; its ends stay."""
        start, end = check_valid(valid_from, valid_to)
        revision = Revision(
            "relationship",
            check_id("relationship_id", relationship_id),
            "correct",
            start,
            end,
            _expected(expected_tx),
            check_text("type", type),
            None,
            check_metadata(properties, "properties"),
        )
        return await self._revise(revision, note_of(actor, reason, sources))

    async def retract_entity(
        self,
        entity_id: UUID | str,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """Withdraw what is known of an entity over a range; ``NotFound`` when nothing is known there.

        Its relationships stay, but are not seen where it is not.
        """
        note = note_of(actor, reason, sources)
        return await self._withdraw("entity", "retract", entity_id, valid_from, valid_to, expected_tx, note)

    async def retract_relationship(
        self,
        relationship_id: UUID | str,
        *,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """Withdraw what is known of a relationship over a range; ``NotFound`` when nothing is known there."""
        note = note_of(actor, reason, sources)
        return await self._withdraw("relationship", "retract", relationship_id, valid_from, valid_to, expected_tx, note)

    async def delete_entity(
        self,
        entity_id: UUID | str,
        *,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """End the belief in an entity and in every relationship that touches it; its history stays. See ``erase``."""
        note = note_of(actor, reason, sources)
        return await self._withdraw("entity", "retire", entity_id, None, None, expected_tx, note)

    async def delete_relationship(
        self,
        relationship_id: UUID | str,
        *,
        expected_tx: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
        sources: Iterable[str] = (),
    ) -> Receipt:
        """End the belief in a relationship; its history stays."""
        note = note_of(actor, reason, sources)
        return await self._withdraw("relationship", "retire", relationship_id, None, None, expected_tx, note)

    async def erase(self, entity_id: UUID | str, reason: str, *, actor: str | None = None) -> int:
        """Remove every version of an entity, its relationships and embeddings physically; count the versions removed.

        What stays is a trace: a hash of the id, the reason, who and when. Views of the past no longer show it.
        """
        subject = check_id("entity_id", entity_id)
        check_text("reason", reason, most=REASON_MAX)
        erased = await self._backend.erase(subject, reason, None if actor is None else check_text("actor", actor))
        if not erased:
            raise NotFound("there is no such entity")
        return erased

    # Looking back ------------------------------------------------------------------------------

    async def history(
        self, entity_id: UUID | str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Entity]:
        """Return a page of all versions of an entity in the order of their recording, then of ``valid_from``."""
        return await self._history("entity", check_id("entity_id", entity_id), cursor, limit)

    async def relationship_history(
        self, relationship_id: UUID | str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Relationship]:
        """Return a page of all versions of a relationship in the order of their recording, then of ``valid_from``."""
        return await self._history("relationship", check_id("relationship_id", relationship_id), cursor, limit)

    async def timeline(
        self,
        entity_id: UUID | str,
        *,
        tx: int | datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Entity]:
        """Return a page of what is believed of an entity, in the order of valid time; ``tx`` asks what was believed."""
        return await self._timeline("entity", check_id("entity_id", entity_id), tx, cursor, limit)

    async def relationship_timeline(
        self,
        relationship_id: UUID | str,
        *,
        tx: int | datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Relationship]:
        """Return a page of what is believed of a relationship, in the order of valid time."""
        return await self._timeline("relationship", check_id("relationship_id", relationship_id), tx, cursor, limit)

    async def query_temporal(
        self,
        *,
        type: str | None = None,  # noqa: A002 - what the graph calls it
        name: str | None = None,
        prefix: str | None = None,
        where: Document | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        recorded_from: datetime | None = None,
        recorded_to: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Entity]:
        """Return a page of the versions of entities that touch ranges of both times, by entity, transaction, validity."""
        check_page_size(limit)
        span = check_span(valid_from, valid_to, recorded_from, recorded_to)
        after: Any = position_of(cursor, UUID, int, datetime)
        found = await self._backend.query(span, check_wanted(type, name, prefix, where), after, limit + 1)
        return page_of(found, limit, "entity_id", "tx", "valid_from")

    async def why(
        self, subject: UUID | str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Transaction]:
        """Return a page of the transactions that touched an entity or relationship: when, who, why, and from what."""
        check_page_size(limit)
        place = position_of(cursor, int)
        found = await self._backend.why(check_id("subject", subject), 0 if place is None else place[0], limit + 1)
        return page_of(found, limit, "tx")

    async def changes(self, since: int = 0, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Change]:
        """Return a page of everything that transactions after ``since`` did, in commit order, for a copy to repeat.

        Within a transaction versions end before others begin. After the last page go on from its last change's ``tx``.
        """
        check_page_size(limit)
        place = position_of(cursor, int, int, UUID, datetime)
        start = ChangePosition(check_integer("since", since, least=0), len(RANKS), _LAST, FOREVER)
        found = await self._backend.changes(start if place is None else ChangePosition(*place), limit + 1)
        if len(found) <= limit:
            return Page(tuple(found), None)
        kept = tuple(found[:limit])
        return Page(kept, cursor_of(*_position(kept[-1])))

    async def diff(
        self,
        before: AsyncGraphView | int | datetime,
        after: AsyncGraphView | int | datetime | None = None,
        *,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Difference[Entity | Relationship]]:
        """Return a page of what two views say differently: entities by id, then relationships by id.

        A counter or a time stands for the view of the present as it was believed then; ``after`` None is believed now.
        Views at two moments of valid time tell what changed in the world. Only what is said is compared, not since when.
        """
        check_page_size(limit)
        views = _viewed(before), _viewed(after)
        place = position_of(cursor, str, UUID)
        tick = await self._backend.clock()
        earlier, later = (_held(view, tick) for view in views)
        kind, past = ("entity", None) if place is None else place
        found: list[Difference[Entity | Relationship]] = []
        if kind == "entity":
            pairs: list[tuple[Any, Any]] = await self._backend.diff("entity", earlier, later, past, limit + 1)
            found, past = [Difference(*pair) for pair in pairs], None
        if len(found) <= limit:
            pairs = await self._backend.diff("relationship", earlier, later, past, limit + 1 - len(found))
            found += [Difference(*pair) for pair in pairs]
        if len(found) <= limit:
            return Page(tuple(found), None)
        last = found[limit - 1]
        said = last.before if last.before is not None else last.after
        if isinstance(said, Entity):
            return Page(tuple(found[:limit]), cursor_of("entity", said.entity_id))
        assert said is not None  # noqa: S101 - one of the two views sees it
        return Page(tuple(found[:limit]), cursor_of("relationship", said.relationship_id))

    # What the verbs share ----------------------------------------------------------------------

    async def _add(self, entities: list[EntityDraft], relationships: list[RelationshipDraft], note: Note) -> Tick:
        added = await self._backend.add(entities, relationships, note)
        if added.taken:
            raise AlreadyExists(f"the id is taken: {_some(added.taken)}")
        if added.missing:
            raise NotFound(f"there is no such entity: {_some(added.missing)}")
        assert added.tick is not None  # noqa: S101 - nothing stood in the way
        return added.tick

    async def _withdraw(
        self,
        kind: Kind,
        mode: Any,
        subject: UUID | str,
        valid_from: datetime | None,
        valid_to: datetime | None,
        expected_tx: int | None,
        note: Note,
    ) -> Receipt:
        start, end = check_valid(valid_from, valid_to)
        revision = Revision(kind, check_id(f"{kind}_id", subject), mode, start, end, _expected(expected_tx))
        return await self._revise(revision, note)

    async def _revise(self, revision: Revision, note: Note) -> Receipt:
        done = await self._backend.revise(revision, note)
        if done.tick is not None:
            return Receipt(done.tick.tx, done.tick.at, done.closed, done.opened, done.relationships_closed)
        if not done.latest:
            raise NotFound(f"there is no such {revision.kind}")
        if revision.expected_tx is not None and done.latest > revision.expected_tx:
            raise Conflict(f"the {revision.kind} was changed by transaction {done.latest}")
        if done.inverted:
            raise InvalidInput("the range is empty", ["valid_to: is not after valid_from, which is now"])
        raise NotFound(f"nothing is known of the {revision.kind} in this range of valid time")

    async def _history(self, kind: Kind, subject: UUID, cursor: str | None, limit: int) -> Page[Any]:
        check_page_size(limit)
        after: Any = position_of(cursor, int, datetime)
        found: list[Any] = [*await self._backend.history(kind, subject, after, limit + 1)]
        return page_of(found, limit, "tx", "valid_from")

    async def _timeline(
        self, kind: Kind, subject: UUID, tx: int | datetime | None, cursor: str | None, limit: int
    ) -> Page[Any]:
        check_page_size(limit)
        place = position_of(cursor, datetime)
        after = None if place is None else place[0]
        found: list[Any] = [*await self._backend.timeline(kind, subject, check_known(tx), after, limit + 1)]
        return page_of(found, limit, "valid_from")


def _entity(draft: EntityDraft, tick: Tick) -> Entity:
    start = tick.at if draft.valid_from is None else draft.valid_from
    said = (draft.entity_id, draft.type, draft.name, draft.properties, start, draft.valid_to)
    return entity((*said, tick.tx, CURRENT, tick.at, FOREVER, embedding_hash(draft.embedding)))


def _relationship(draft: RelationshipDraft, tick: Tick) -> Relationship:
    start = tick.at if draft.valid_from is None else draft.valid_from
    ends = (draft.relationship_id, draft.from_entity, draft.to_entity)
    said = (*ends, draft.type, draft.properties, start, draft.valid_to)
    return relationship((*said, tick.tx, CURRENT, tick.at, FOREVER))


def _properties(properties: Document | None, merge: Document | None) -> tuple[str | None, bool]:
    if properties is not None and merge is not None:
        raise InvalidInput("the argument cannot be used", ["merge: goes without properties"])
    if merge is not None:
        return check_metadata(merge, "merge"), True
    return None if properties is None else check_metadata(properties, "properties"), False


def _embedding(embedding: Embedding) -> bytes | None:
    if isinstance(embedding, str):
        if embedding != "keep":
            raise InvalidInput("the argument cannot be used", ["embedding: must be numbers, None or 'keep'"])
        return None
    return None if embedding is None else embedding_bytes("embedding", embedding)


def _expected(expected_tx: int | None) -> int | None:
    return None if expected_tx is None else check_integer("expected_tx", expected_tx, least=0)


def _viewed(view: AsyncGraphView | int | datetime | None) -> Moment:
    return view.moment if isinstance(view, AsyncGraphView) else moment_of(None, view)


def _held(moment: Moment, tick: Tick) -> Moment:
    return Moment(moment.valid or tick.at, tick.tx if moment.tx is None else moment.tx)


def _position(change: Change) -> ChangePosition:
    rank = RANKS.index((change.action, change.kind))
    if change.version is None:
        return ChangePosition(change.tx, rank, UUID(int=0), LONG_AGO)
    version = change.version
    subject = version.entity_id if isinstance(version, Entity) else version.relationship_id
    return ChangePosition(change.tx, rank, subject, version.valid_from)


def _some(ids: tuple[UUID, ...]) -> str:
    shown = ", ".join(map(str, ids[:3]))
    return f"{shown} and {len(ids) - 3} more" if len(ids) > 3 else shown  # noqa: PLR2004 - as many as are shown
