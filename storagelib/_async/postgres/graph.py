"""The bi-temporal graph in PostgreSQL: a write is one transaction and one round trip, a walk one recursive statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import storagelib.filters as filtering
from storage_sql.queries import Query, load
from storagelib import documents
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._postgres.wire import time_of
from storagelib.clocks import LONG_AGO
from storagelib.components.graph import (
    RANKS,
    Added,
    Change,
    ChangePosition,
    Entity,
    EntityDraft,
    Kind,
    Link,
    Match,
    Moment,
    Neighbour,
    Note,
    Relationship,
    RelationshipDraft,
    Revised,
    Revision,
    Span,
    Tick,
    Transaction,
    Walk,
    Wanted,
    arm_start,
    embedding_hash,
    entity,
    make_entity,
    make_relationship,
    prefix_end,
    relationship,
)

__all__ = ["AsyncPostgresGraph"]

_Q: Final = load("graph")
_FIRST: Final = UUID(int=0)
_ENTITY: Final = 11
_SLACK: Final = 16
"""Embeddings fetched beyond those asked for: the server's distances are rounded otherwise than ours."""
_REOPEN: Final[dict[Kind, Query]] = {"entity": _Q["reopen_entity"], "relationship": _Q["reopen_relationship"]}


class AsyncPostgresGraph:
    """See ``AsyncGraphBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    async def clock(self) -> Tick:
        """Return the last transaction, 0 before the first, and the graph's present moment."""
        ((tx, at),) = await self._database.fetch(_Q["clock"])
        return Tick(tx, at)

    async def add(self, entities: list[EntityDraft], relationships: list[RelationshipDraft], note: Note) -> Added:
        """Add all or nothing, in one tick and one round trip."""
        fresh = {draft.entity_id for draft in entities}
        ends = {end for draft in relationships for end in (draft.from_entity, draft.to_entity)} - fresh
        asked = {
            "given_entities": [draft.entity_id for draft in entities if draft.given],
            "given_relationships": [draft.relationship_id for draft in relationships if draft.given],
            "ends": list(ends),
        }
        calls: list[tuple[Query, dict[str, Any]]] = [(_Q["lock"], {}), (_Q["tick_to_add"], asked)]
        if entities:
            calls.append((_Q["insert_entities"], _entity_arrays(entities)))
        if relationships:
            calls.append((_Q["insert_relationships"], _relationship_arrays(relationships)))
        described = [(draft.entity_id, draft.embedding) for draft in entities if draft.embedding is not None]
        if described:
            calls.append(_embeddings(described))
        results = await self._database.run([*calls, *_noted(note)])
        ((tx, at, taken, missing),) = results[1]
        return Added(None if tx is None else Tick(tx, at), tuple(taken or ()), tuple(missing or ()))

    async def revise(self, revision: Revision, note: Note) -> Revised:
        """Change what is known of one subject over a range of valid time, in one tick and one round trip."""
        relationships = revision.kind == "relationship"
        if revision.mode == "retire":
            return await self._withdraw(revision, note)
        span = {"subject": revision.subject, "valid_from": revision.valid_from, "valid_to": revision.valid_to}
        asked = {**span, "expected": revision.expected_tx, "anywhere": revision.mode == "correct"}
        calls: list[tuple[Query, dict[str, Any]]] = [
            (_Q["lock"], {}),
            (_Q["tick_to_revise"].variant(relationships=relationships), asked),
            (_Q["close"].variant(relationships=relationships), span),
            _reopened(revision, span),
        ]
        if revision.embedding is not None:
            calls.append(_embeddings([(revision.subject, revision.embedding)]))
        results = await self._database.run([*calls, *_noted(note)])
        ((latest, inverted, tx, at),) = results[1]
        if tx is None:
            return Revised(latest, inverted=inverted)
        return Revised(latest, Tick(tx, at), results[2][0][0], results[3][0][0])

    async def erase(self, entity_id: UUID, reason: str, actor: str | None) -> int:
        """Remove every version of an entity, its relationships and embeddings; count the versions."""
        ((erased,),) = await self._database.fetch(_Q["erase"], subject=entity_id, reason=reason, actor=actor)
        return int(erased)

    async def entities(self, ids: list[UUID], moment: Moment) -> list[Entity]:
        """Return the entities among these that are visible, in any order."""
        if len(ids) == 1:
            query, point = _seen("entity", moment, dated=moment.valid is not None)
            times = _Times()
            return [_entity(row, times) for row in await self._database.fetch(query, subject=ids[0], **point)]
        query, point = _seen("entities", moment)
        return [entity(row) for row in await self._database.fetch(query, ids=ids, **point)]

    async def relationships(self, ids: list[UUID], moment: Moment) -> list[Relationship]:
        """Return the relationships among these that are visible, in any order."""
        if len(ids) == 1:
            query, point = _seen("relationship", moment, dated=moment.valid is not None)
            times = _Times()
            rows = await self._database.fetch(query, subject=ids[0], **point)
            return [_relationship(start, end, row, times) for start, end, *row in rows]
        query, point = _seen("relationships", moment)
        return [relationship(row) for row in await self._database.fetch(query, ids=ids, **point)]

    async def history(
        self, kind: Kind, subject: UUID, after: tuple[int, datetime] | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return versions by transaction, then by the start of their validity."""
        tx, start = after or (0, LONG_AGO)
        rows = await self._database.fetch(_Q[f"{kind}_history"], subject=subject, tx=tx, start=start, most=limit)
        found: list[Any] = _versions(kind, rows)
        return found

    async def timeline(
        self, kind: Kind, subject: UUID, known: int | datetime | None, after: datetime | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return the versions that are believed, by the start of their validity."""
        query, point = _seen(f"{kind}_timeline", Moment(None, known))
        rows = await self._database.fetch(query, subject=subject, past=after, most=limit, **point)
        found: list[Any] = _versions(kind, rows)
        return found

    async def query(
        self, span: Span, wanted: Wanted, after: tuple[UUID, int, datetime] | None, limit: int
    ) -> list[Entity]:
        """Return versions of entities that touch ranges of both times, by entity, transaction and validity."""
        subject, tx, start = after or (_FIRST, 0, LONG_AGO)
        rows = await self._database.fetch(
            _filtered(_Q["query"].variant(**_asks(wanted)), wanted),
            valid_from=span.valid_from,
            valid_to=span.valid_to,
            recorded_from=span.recorded_from,
            recorded_to=span.recorded_to,
            type=wanted.type,
            name=wanted.name,
            prefix=wanted.prefix,
            ending=None if wanted.prefix is None else prefix_end(wanted.prefix),
            id=subject,
            tx=tx,
            start=start,
            most=limit,
        )
        return [entity(row) for row in rows]

    async def neighbours(
        self, subject: UUID, moment: Moment, walk: Walk, after: tuple[str, datetime, UUID] | None, limit: int
    ) -> list[Neighbour]:
        """Return visible relationships whose other end is visible, by type, start of validity and id."""
        kind, start, edge = after or (None, None, None)
        query, point = _seen("neighbours", moment, later=after is not None, **_ways(walk))
        place = {"type": kind, "start": start, "id": edge}
        rows = await self._database.fetch(query, subject=subject, types=_types(walk), most=limit, **place, **point)
        return [Neighbour(relationship(row[:_ENTITY]), entity(row[_ENTITY:])) for row in rows]

    async def step(self, ids: list[UUID], moment: Moment, walk: Walk) -> list[Link]:
        """Return the links from these entities to visible ones, in any order."""
        query, point = _seen("step", moment, fanned=walk.fanout is not None, **_ways(walk))
        rows = await self._database.fetch(query, ids=ids, types=_types(walk), fanout=walk.fanout, **point)
        return [Link(*row) for row in rows]

    async def traverse(
        self, start: UUID, moment: Moment, walk: Walk, depth: int, limit: int
    ) -> tuple[Entity | None, list[tuple[int, UUID, Entity, Relationship]]]:
        """Walk breadth first; return the start, and depth, previous entity, entity and relationship of what is reached."""
        query, point = _seen("traverse", moment, fanned=walk.fanout is not None, **_ways(walk))
        while True:
            rows = await self._database.fetch(
                query, begin=start, types=_types(walk), fanout=walk.fanout, depth=depth, most=limit, **point
            )
            asking = _left_out(rows)
            if not asking:
                return _walked(rows)
            nodes, edges = await self._database.run(asking)
            rows = _completed(rows, {row[0]: row[1] for row in nodes}, {row[0]: row[1] for row in edges})
            # Only an erasure takes a version away, and a walk after it does not come there.
            if not _left_out(rows):
                return _walked(rows)

    async def search(
        self, moment: Moment, wanted: Wanted, after: tuple[str, UUID] | UUID | None, limit: int
    ) -> list[Entity]:
        """Return visible entities by id, or by name and id when a prefix is wanted."""
        name, subject = after if isinstance(after, tuple) else (None, after)
        query, point = _seen("search", moment, later=after is not None, **_asks(wanted))
        rows = await self._database.fetch(
            _filtered(query, wanted),
            type=wanted.type,
            name=wanted.name,
            prefix=wanted.prefix,
            ending=None if wanted.prefix is None else prefix_end(wanted.prefix),
            id=subject,
            name_after=name,
            most=limit,
            **point,
        )
        return [entity(row) for row in rows]

    async def nearest(self, moment: Moment, embedding: bytes, wanted: Wanted, limit: int) -> list[Match]:
        """Return the visible entities whose embeddings are nearest, nearest first, then by id."""
        import numpy as np  # noqa: PLC0415 - only who searches by embedding needs it

        from storagelib.components.distances import nearest  # noqa: PLC0415 - the same

        query, point = _seen("nearest", moment, typed=wanted.type is not None)
        rows = await self._database.fetch(
            _filtered(query, wanted),
            embedding=embedding,
            dimension=len(embedding) // 4,
            type=wanted.type,
            most=limit + _SLACK,
            **point,
        )
        if not rows:
            return []
        matrix = np.frombuffer(b"".join(row[_ENTITY] for row in rows), "<f4").reshape(len(rows), -1)
        ids = [str(row[0]) for row in rows]
        best = nearest(matrix, ids, np.frombuffer(embedding, "<f4"), "cosine", limit)
        return [Match(entity(rows[place][:_ENTITY]), 1.0 - distance) for distance, _, place in best]

    async def embedding(self, entity_id: UUID, moment: Moment) -> bytes | None:
        """Return the embedding of a visible entity."""
        query, point = _seen("embedding", moment)
        rows = await self._database.fetch(query, subject=entity_id, **point)
        return rows[0][0] if rows else None

    async def changes(self, after: ChangePosition, limit: int) -> list[Change]:
        """Return what transactions did after a position, in the order of ``ChangePosition``."""
        # Each statement sees what is there when it begins; what was done after the first one is left for the next call.
        calls: list[tuple[Query, dict[str, Any]]] = [(_Q["clock"], {})]
        for rank, (action, kind) in enumerate(RANKS):
            start = arm_start(after, rank)
            place = {"tx": start.tx, "most": limit}
            if action == "erased":
                calls.append((_Q["erased"], place))
            else:
                calls.append(
                    (
                        _Q[f"{kind}_{action}"],
                        {**place, "id": start.subject, "start": start.valid_from},
                    )
                )
        found: list[tuple[ChangePosition, Change]] = []
        ticked, *arms = await self._database.run(calls)
        last = ticked[0][0]
        for rank, rows in enumerate(arms):
            found += [_change(rank, row) for row in rows]
        found.sort(key=lambda pair: pair[0])
        return [change for position, change in found if position.tx <= last][:limit]

    async def why(self, subject: UUID, after: int, limit: int) -> list[Transaction]:
        """Return the transactions after ``after`` that made or ended versions of an entity or relationship."""
        rows = await self._database.fetch(_Q["why"], subject=subject, past=after, most=limit)
        return [
            Transaction(tx, at, actor, reason, tuple(documents.decode(sources or "[]")))
            for tx, at, actor, reason, sources in rows
        ]

    async def diff(
        self, kind: Kind, before: Moment, after: Moment, past: UUID | None, limit: int
    ) -> list[tuple[Entity | None, Entity | None]] | list[tuple[Relationship | None, Relationship | None]]:
        """Return what two moments say differently of subjects greater than ``past``, by id."""
        flags, values = dict[str, bool](), dict[str, Any]()
        for number, moment in ((1, before), (2, after)):
            known = _known(moment.tx)
            flags |= {f"{name}{number}": flag for name, flag in known[0].items()}
            values |= {f"{name}{number}": value for name, value in known[1].items()}
            values[f"valid{number}"] = moment.valid
        counters = (before.tx, after.tx)
        flags["narrow"] = before.valid == after.valid and all(isinstance(each, int) for each in counters)
        flags["narrow"] = flags["narrow"] and before.tx <= after.tx  # type: ignore[operator]
        query = _Q[f"{kind}_diff"].variant(**flags)
        found: list[Any] = []
        for row in await self._database.fetch(query, past=past, most=limit, **values):
            halves = (row[:_ENTITY], row[_ENTITY:])
            found.append(tuple(None if half[0] is None else _versions(kind, [half])[0] for half in halves))
        return found

    async def _withdraw(self, revision: Revision, note: Note) -> Revised:
        """End all current versions of a subject, an entity's with its relationships; over the quota too."""
        ((latest, tx, at, closed, with_it),) = await self._database.fetch(
            _Q["withdraw"].variant(relationships=revision.kind == "relationship"),
            subject=revision.subject,
            expected=revision.expected_tx,
            actor=note.actor,
            reason=note.reason,
            sources=note.sources,
        )
        return Revised(latest) if tx is None else Revised(latest, Tick(tx, at), closed, 0, with_it)


class _Times(dict[bytes | None, Any]):
    """Times by their eight bytes: what was recorded together shares them, so that each is read once."""

    def __missing__(self, raw: bytes | None) -> datetime | None:
        found = self[raw] = None if raw is None else time_of(raw)
        return found


def _entity(row: Sequence[Any], times: _Times) -> Entity:
    """Make an entity of a row whose times are bytes, None for open ends, and whose empty document is no text."""
    subject, kind, name, properties, valid_from, valid_to, tx, recorded, superseded_by, superseded, embedding = row
    return make_entity(
        subject,
        kind,
        name,
        documents.decode(properties) if properties else {},
        times[valid_from],
        times[valid_to],
        tx,
        times[recorded],
        superseded_by,
        times[superseded],
        embedding,
    )


def _relationship(start: UUID, end: UUID, row: Sequence[Any], times: _Times) -> Relationship:
    """Make a relationship of its ends and of such a row without them."""
    subject, kind, properties, valid_from, valid_to, tx, recorded, superseded_by, superseded = row
    return make_relationship(
        subject,
        start,
        end,
        kind,
        documents.decode(properties) if properties else {},
        times[valid_from],
        times[valid_to],
        tx,
        times[recorded],
        superseded_by,
        times[superseded],
    )


# A row of a walk has its depth (0), the place of its origin among the rows of the depth before (1), the entity (2 to 12: id 2,
# properties 5, validity from 6, tx 8) and the relationship that led to it (13 to 22: id 13, whether it begins at the
# entity 14, properties 16, validity from 17, tx 19). Properties are None where they are left out because they are large.
def _left_out(rows: list[tuple[Any, ...]]) -> list[tuple[Query, dict[str, Any]]]:
    """Return what asks for the large documents that a walk left out, of entities and relationships; nothing for none."""
    nodes = [(row[2], row[8], row[6]) for row in rows if row[5] is None]
    # Nothing led to the start.
    edges = [(row[13], row[19], row[17]) for row in rows if row[16] is None and row[0]]
    if not nodes and not edges:
        return []
    return [
        (
            query,
            {
                "ids": [subject for subject, _, _ in keys],
                "txs": [tx for _, tx, _ in keys],
                "starts": [time_of(start) for _, _, start in keys],
            },
        )
        for query, keys in ((_Q["entity_documents"], nodes), (_Q["relationship_documents"], edges))
    ]


def _completed(rows: list[tuple[Any, ...]], nodes: dict[UUID, str], edges: dict[UUID, str]) -> list[tuple[Any, ...]]:
    """Put documents into the rows that they were left out of."""
    return [
        (
            *row[:5],
            nodes.get(row[2]) if row[5] is None else row[5],
            *row[6:16],
            edges.get(row[13]) if row[16] is None else row[16],
            *row[17:],
        )
        for row in rows
    ]


def _walked(rows: list[tuple[Any, ...]]) -> tuple[Entity | None, list[tuple[int, UUID, Entity, Relationship]]]:
    """Make the start and the steps of a walk of rows by depth and id; each has its place of origin among those before."""
    times = _Times()
    found: list[tuple[int, UUID, Entity, Relationship]] = []
    origin: Entity | None = None
    level, before, here = 0, list[UUID](), list[UUID]()
    for row in rows:
        depth, place, subject = row[:3]
        node = _entity(row[2:13], times)
        if not depth:
            origin = node
        else:
            if depth > level:
                level, before, here = depth, here, []
            near = before[place - 1]
            ends = (subject, near) if row[14] else (near, subject)
            found.append((depth, near, node, _relationship(*ends, (row[13], *row[15:]), times)))
        here.append(subject)
    return origin, found


def _known(known: int | datetime | None) -> tuple[dict[str, bool], dict[str, Any]]:
    counted, timed = isinstance(known, int), isinstance(known, datetime)
    return {"counted": counted, "timed": timed}, {"tx": known if counted else None, "at": known if timed else None}


def _seen(name: str, moment: Moment, **flags: bool) -> tuple[Query, dict[str, Any]]:
    """Return a statement that sees what is visible at a moment, and the parameters that say which."""
    known, values = _known(moment.tx)
    return _Q[name].variant(**known, **flags), {"valid": moment.valid, **values}


def _ways(walk: Walk) -> dict[str, bool]:
    return {"outward": walk.direction != "in", "inward": walk.direction != "out", "typed": walk.types is not None}


def _types(walk: Walk) -> list[str] | None:
    return None if walk.types is None else list(walk.types)


def _asks(wanted: Wanted) -> dict[str, bool]:
    return {
        "typed": wanted.type is not None,
        "named": wanted.name is not None,
        "prefixed": wanted.prefix is not None,
    }


def _filtered(query: Query, wanted: Wanted) -> Query:
    if wanted.where is None:
        return query
    condition, parameters = filtering.to_postgres(wanted.where, column="v.properties")
    return query.with_clause("filter", f"AND {condition}", parameters)


def _noted(note: Note) -> list[tuple[Query, dict[str, Any]]]:
    if not note.said:
        return []
    return [(_Q["note"], {"actor": note.actor, "reason": note.reason, "sources": note.sources})]


def _embeddings(described: list[tuple[UUID, bytes]]) -> tuple[Query, dict[str, Any]]:
    return _Q["insert_embeddings"], {
        "ids": [subject for subject, _ in described],
        "hashes": [embedding_hash(each) for _, each in described],
        "embeddings": [each for _, each in described],
    }


def _reopened(revision: Revision, span: dict[str, Any]) -> tuple[Query, dict[str, Any]]:
    flags = {"amends": revision.mode == "amend", "corrects": revision.mode == "correct", "merges": revision.merge}
    values = {**span, "type": revision.type, "properties": revision.properties}
    if revision.kind == "entity":
        flags["keeps"] = revision.keeps_embedding
        values |= {"name": revision.name, "hash": embedding_hash(revision.embedding)}
    return _REOPEN[revision.kind].variant(**flags), values


def _entity_arrays(drafts: list[EntityDraft]) -> dict[str, Any]:
    return {
        "ids": [draft.entity_id for draft in drafts],
        "types": [draft.type for draft in drafts],
        "names": [draft.name for draft in drafts],
        "properties": [draft.properties for draft in drafts],
        "valid_from": [draft.valid_from for draft in drafts],
        "valid_to": [draft.valid_to for draft in drafts],
        "hashes": [embedding_hash(draft.embedding) for draft in drafts],
    }


def _relationship_arrays(drafts: list[RelationshipDraft]) -> dict[str, Any]:
    return {
        "ids": [draft.relationship_id for draft in drafts],
        "near": [draft.from_entity for draft in drafts],
        "far": [draft.to_entity for draft in drafts],
        "types": [draft.type for draft in drafts],
        "properties": [draft.properties for draft in drafts],
        "valid_from": [draft.valid_from for draft in drafts],
        "valid_to": [draft.valid_to for draft in drafts],
    }


def _versions(kind: Kind, rows: list[tuple[Any, ...]]) -> Any:
    return [entity(row) if kind == "entity" else relationship(row) for row in rows]


def _change(rank: int, row: tuple[Any, ...]) -> tuple[ChangePosition, Change]:
    action, kind = RANKS[rank]
    if action == "erased":
        tx, at, trace = row
        return ChangePosition(tx, rank, _FIRST, LONG_AGO), Change(tx, at, action, kind, None, trace)
    version: Entity | Relationship = entity(row) if kind == "entity" else relationship(row)
    tx, at = version.tx, version.recorded_at
    if action == "closed" and version.superseded_by is not None and version.superseded_at is not None:
        tx, at = version.superseded_by, version.superseded_at
    return ChangePosition(tx, rank, row[0], version.valid_from), Change(tx, at, action, kind, version)
