"""The bi-temporal graph in memory: every version is a row, and every question looks at the rows of its subject."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import storagelib.filters as filtering
from storagelib import documents
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.graph import (
    CURRENT,
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
    content,
    embedding_hash,
    entity,
    erased_hash,
    relationship,
    revised,
)
from storagelib.components.graph_walks import breadth_first
from storagelib.errors import InvalidInput
from storagelib.identifiers import uuid7
from storagelib.memory.engine import MemorySpace, Row, Table

__all__ = ["MemoryGraph"]

_MICROSECOND: Final = timedelta(microseconds=1)


class MemoryGraph:
    """See ``GraphBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._clock = space.table("tenant_clock")
        self._notes = space.table("graph_transactions")
        self._embeddings = space.table("graph_embeddings")
        self._erasures = space.table("erasures")
        self._tables: dict[Kind, Table] = {
            "entity": space.table("entities"),
            "relationship": space.table("relationships"),
        }
        self._entities = _Index(self._tables["entity"], "entity_id")
        self._relationships = _Index(self._tables["relationship"], "relationship_id")
        self._out = _Index(self._tables["relationship"], "from_entity")
        self._in = _Index(self._tables["relationship"], "to_entity")

    def clock(self) -> Tick:
        """Return the last transaction, 0 before the first, and the graph's present moment."""
        with self._space.transaction():
            row = self._clock.get()
            return Tick(0 if row is None else row["n"], self._now())

    def add(self, entities: list[EntityDraft], relationships: list[RelationshipDraft], note: Note) -> Added:
        """Add all or nothing, in one tick."""
        with self._space.transaction():
            fresh = {draft.entity_id for draft in entities}
            taken = [draft.entity_id for draft in entities if draft.given and self._current("entity", draft.entity_id)]
            taken += [
                draft.relationship_id
                for draft in relationships
                if draft.given and self._current("relationship", draft.relationship_id)
            ]
            ends = {end for draft in relationships for end in (draft.from_entity, draft.to_entity)} - fresh
            missing = sorted(end for end in ends if not self._current("entity", end))
            if taken or missing:
                return Added(None, tuple(sorted(taken)), tuple(missing))
            tick = self._tick(note, self._next())
            for draft in entities:
                values: dict[str, Any] = {"entity_type": draft.type, "name": draft.name, "properties": draft.properties}
                values["embedding_hash"] = self._keep(draft.entity_id, draft.embedding)
                self._insert("entity", {"entity_id": draft.entity_id, **values, **_bounds(draft, tick)}, tick)
            for edge in relationships:
                values = {"from_entity": edge.from_entity, "to_entity": edge.to_entity}
                values |= {"relationship_type": edge.type, "properties": edge.properties}
                self._insert(
                    "relationship", {"relationship_id": edge.relationship_id, **values, **_bounds(edge, tick)}, tick
                )
            return Added(tick)

    def revise(self, revision: Revision, note: Note) -> Revised:
        """Change what is known of one subject over a range of valid time, in one tick."""
        with self._space.transaction():
            current = self._current(revision.kind, revision.subject)
            latest = max((row["tx_from"] for row in current), default=0)
            if not current or (revision.expected_tx is not None and latest > revision.expected_tx):
                return Revised(latest)
            at = self._next()
            start = at if revision.valid_from is None else revision.valid_from
            if start >= revision.valid_to:
                return Revised(latest, inverted=True)
            ended, made = revised(current, revision, start, revision.valid_to)
            if not ended and not made:
                return Revised(latest)
            tick = self._tick(note, at)
            self._keep(revision.subject, revision.embedding)
            for row in ended:
                self._close(revision.kind, row, tick)
            for values in made:
                self._insert(revision.kind, values, tick)
            edges = self._touching(revision.subject) if (revision.kind, revision.mode) == ("entity", "retire") else []
            for row in edges:
                self._close("relationship", row, tick)
            return Revised(latest, tick, len(ended), len(made), len(edges))

    def erase(self, entity_id: UUID, reason: str, actor: str | None) -> int:
        """Remove every version of an entity, its relationships and embeddings; count the versions."""
        with self._space.transaction():
            gone: list[tuple[Table, Row]] = [(self._tables["entity"], row) for row in self._entities.rows(entity_id)]
            edges = {_key(row): row for index in (self._out, self._in) for row in index.rows(entity_id)}
            gone += [(self._tables["relationship"], row) for row in edges.values()]
            for table, row in gone:
                table.delete(*_key(row))
            for key in [key for key in self._embeddings.rows if key[0] == entity_id]:
                self._embeddings.delete(*key)
            if gone:
                tick = self._tick(Note(actor, reason), self._next(), erased_hash(entity_id))
                row = _erasure(entity_id, len(gone), reason, tick.at)
                self._erasures.put((tick.at, row["erasure_id"]), row)
            return len(gone)

    def entities(self, ids: list[UUID], moment: Moment) -> list[Entity]:
        """Return the entities among these that are visible, in any order."""
        with self._space.transaction():
            seen = (self._seen("entity", subject, moment) for subject in dict.fromkeys(ids))
            return [_entity(row) for row in seen if row is not None]

    def relationships(self, ids: list[UUID], moment: Moment) -> list[Relationship]:
        """Return the relationships among these that are visible, in any order."""
        with self._space.transaction():
            seen = (self._seen("relationship", subject, moment) for subject in dict.fromkeys(ids))
            return [_relationship(row) for row in seen if row is not None]

    def history(
        self, kind: Kind, subject: UUID, after: tuple[int, datetime] | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return versions by transaction, then by the start of their validity."""
        with self._space.transaction():
            rows = sorted(self._rows(kind, subject), key=lambda row: (row["tx_from"], row["valid_time_start"]))
            found = [row for row in rows if after is None or (row["tx_from"], row["valid_time_start"]) > after]
            page: list[Any] = _versions(kind, found[:limit])
            return page

    def timeline(
        self, kind: Kind, subject: UUID, known: int | datetime | None, after: datetime | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return the versions that are believed, by the start of their validity."""
        with self._space.transaction():
            rows = sorted(self._rows(kind, subject), key=lambda row: row["valid_time_start"])
            found = [
                row for row in rows if _believed(row, known) and (after is None or row["valid_time_start"] > after)
            ]
            page: list[Any] = _versions(kind, found[:limit])
            return page

    def query(self, span: Span, wanted: Wanted, after: tuple[UUID, int, datetime] | None, limit: int) -> list[Entity]:
        """Return versions of entities that touch ranges of both times, by entity, transaction and validity."""
        with self._space.transaction():
            found = [
                row
                for key, row in self._tables["entity"].ordered()
                if (after is None or key > after) and _within(row, span) and _wanted(row, wanted)
            ]
            return [_entity(row) for row in found[:limit]]

    def neighbours(
        self, subject: UUID, moment: Moment, walk: Walk, after: tuple[str, datetime, UUID] | None, limit: int
    ) -> list[Neighbour]:
        """Return visible relationships whose other end is visible, by type, start of validity and id."""
        with self._space.transaction():
            found = [
                Neighbour(_relationship(row), _entity(other))
                for row, far in self._edges(subject, moment, walk)
                if (after is None or _edge_order(row) > after)
                and (other := self._seen("entity", far, moment)) is not None
            ]
            return found[:limit]

    def step(self, ids: list[UUID], moment: Moment, walk: Walk) -> list[Link]:
        """Return the links from these entities to visible ones, in any order."""
        with self._space.transaction():
            return list(self._links(ids, moment, walk))

    def traverse(
        self, start: UUID, moment: Moment, walk: Walk, depth: int, limit: int
    ) -> tuple[Entity | None, list[tuple[int, UUID, Entity, Relationship]]]:
        """Walk breadth first; return the start, and depth, previous entity, entity and relationship of what is reached."""
        with self._space.transaction():
            moment = Moment(self._at(moment), moment.tx)
            origin = self._seen("entity", start, moment)
            if origin is None:
                return None, []
            found = breadth_first(lambda ids: self._links(ids, moment, walk), start, depth, limit)
            return _entity(origin), [
                (
                    level,
                    link.near,
                    self.entities([link.far], moment)[0],
                    self.relationships([link.relationship_id], moment)[0],
                )
                for level, link in found
            ]

    def search(self, moment: Moment, wanted: Wanted, after: tuple[str, UUID] | UUID | None, limit: int) -> list[Entity]:
        """Return visible entities by id, or by name and id when a prefix is wanted."""
        with self._space.transaction():
            at = self._at(moment)
            rows = [row for row in self._tables["entity"].rows.values() if _visible(row, at, moment.tx)]
            keyed = sorted(
                (((row["name"], row["entity_id"]) if wanted.prefix is not None else row["entity_id"]), index)
                for index, row in enumerate(rows)
                if _wanted(row, wanted)
            )
            return [_entity(rows[index]) for key, index in keyed if after is None or key > after][:limit]  # type: ignore[operator]

    def nearest(self, moment: Moment, embedding: bytes, wanted: Wanted, limit: int) -> list[Match]:
        """Return the visible entities whose embeddings are nearest, nearest first, then by id."""
        import numpy as np  # noqa: PLC0415 - only who searches by embedding needs it

        from storagelib.components.distances import nearest  # noqa: PLC0415 - the same

        with self._space.transaction():
            at = self._at(moment)
            found: dict[str, tuple[Row, bytes]] = {}
            for row in self._tables["entity"].rows.values():
                if row["embedding_hash"] is None or not _visible(row, at, moment.tx) or not _wanted(row, wanted):
                    continue
                kept = self._embeddings.rows[row["entity_id"], row["embedding_hash"]]["embedding"]
                if len(kept) == len(embedding):
                    found[str(row["entity_id"])] = (row, kept)
            if not found:
                return []
            matrix = np.frombuffer(b"".join(kept for _, kept in found.values()), "<f4").reshape(len(found), -1)
            best = nearest(matrix, list(found), np.frombuffer(embedding, "<f4"), "cosine", limit)
            return [Match(_entity(found[key][0]), 1.0 - distance) for distance, key, _ in best]

    def embedding(self, entity_id: UUID, moment: Moment) -> bytes | None:
        """Return the embedding of a visible entity."""
        with self._space.transaction():
            row = self._seen("entity", entity_id, moment)
            if row is None or row["embedding_hash"] is None:
                return None
            kept: bytes = self._embeddings.rows[entity_id, row["embedding_hash"]]["embedding"]
            return kept

    def changes(self, after: ChangePosition, limit: int) -> list[Change]:
        """Return what transactions did after a position, in the order of ``ChangePosition``."""
        with self._space.transaction():
            found: list[tuple[ChangePosition, Change]] = []
            for rank, (action, kind) in enumerate(RANKS):
                start = arm_start(after, rank)
                found += [pair for pair in self._done(rank, action, kind) if pair[0] > start]
            found.sort(key=lambda pair: pair[0])
            return [change for _, change in found[:limit]]

    def why(self, subject: UUID, after: int, limit: int) -> list[Transaction]:
        """Return the transactions after ``after`` that made or ended versions of an entity or relationship."""
        with self._space.transaction():
            times: dict[int, datetime] = {}
            for row in [*self._entities.rows(subject), *self._relationships.rows(subject)]:
                times[row["tx_from"]] = row["transaction_time_start"]
                if row["tx_to"] != CURRENT:
                    times[row["tx_to"]] = row["transaction_time_end"]
            return [_transaction(tx, at, self._notes.get(tx)) for tx, at in sorted(times.items()) if tx > after][:limit]

    def diff(
        self, kind: Kind, before: Moment, after: Moment, past: UUID | None, limit: int
    ) -> list[tuple[Entity | None, Entity | None]] | list[tuple[Relationship | None, Relationship | None]]:
        """Return what two moments say differently of subjects greater than ``past``, by id."""
        with self._space.transaction():
            column, found = f"{kind}_id", list[tuple[Any, Any]]()
            earlier, later = Moment(self._at(before), before.tx), Moment(self._at(after), after.tx)
            for subject in sorted({row[column] for row in self._tables[kind].rows.values()}):
                if past is not None and subject <= past:
                    continue
                rows = [self._seen(kind, subject, moment) for moment in (earlier, later)]
                one, other = (_versions(kind, [row])[0] if row is not None else None for row in rows)
                if (one is None) != (other is None) or (one and other and content(one) != content(other)):
                    found.append((one, other))
                if len(found) == limit:
                    break
            return found

    def _now(self) -> datetime:
        row = self._clock.get()
        return self._space.now() if row is None else max(self._space.now(), row["at"])

    def _next(self) -> datetime:
        row = self._clock.get()
        return max(self._space.now(), (LONG_AGO if row is None else row["at"]) + _MICROSECOND)

    def _tick(self, note: Note, at: datetime, erased: bytes | None = None) -> Tick:
        row = self._clock.get()
        tick = Tick(1 if row is None else row["n"] + 1, at)
        self._clock.put((), {"n": tick.tx, "at": tick.at})
        if note.said:
            said = {"actor": note.actor, "reason": note.reason, "sources": note.sources, "erased_hash": erased}
            self._notes.put((tick.tx,), {"tx": tick.tx, "at": tick.at, **said})
        return tick

    def _keep(self, subject: UUID, embedding: bytes | None) -> bytes | None:
        name = embedding_hash(embedding)
        if embedding is not None:
            row = {"entity_id": subject, "embedding_hash": name, "dimension": len(embedding) // 4}
            self._embeddings.put((subject, name), {**row, "embedding": embedding})
        return name

    def _insert(self, kind: Kind, values: Row, tick: Tick) -> None:
        if values["valid_time_start"] >= values["valid_time_end"]:
            raise InvalidInput("the range is empty", ["valid_to: is not after valid_from, which is now"])
        stamped = {"tx_from": tick.tx, "tx_to": CURRENT, "transaction_time_start": tick.at}
        row = {**values, **stamped, "transaction_time_end": FOREVER, "created_at": tick.at}
        indexes = (self._entities,) if kind == "entity" else (self._relationships, self._out, self._in)
        for index in indexes:
            index.put(row)
        self._tables[kind].put(_key(row), row)

    def _close(self, kind: Kind, row: Row, tick: Tick) -> None:
        self._tables[kind].put(_key(row), {**row, "tx_to": tick.tx, "transaction_time_end": tick.at})

    def _rows(self, kind: Kind, subject: UUID) -> list[Row]:
        return (self._entities if kind == "entity" else self._relationships).rows(subject)

    def _current(self, kind: Kind, subject: UUID) -> list[Row]:
        rows = [row for row in self._rows(kind, subject) if row["tx_to"] == CURRENT]
        return sorted(rows, key=lambda row: row["valid_time_start"])

    def _touching(self, subject: UUID) -> list[Row]:
        rows = [*self._out.rows(subject), *self._in.rows(subject)]
        return list({_key(row): row for row in rows if row["tx_to"] == CURRENT}.values())

    def _at(self, moment: Moment) -> datetime:
        return self._now() if moment.valid is None else moment.valid

    def _seen(self, kind: Kind, subject: UUID, moment: Moment) -> Row | None:
        at = self._at(moment)
        return next((row for row in self._rows(kind, subject) if _visible(row, at, moment.tx)), None)

    def _edges(self, subject: UUID, moment: Moment, walk: Walk) -> list[tuple[Row, UUID]]:
        at = self._at(moment)
        found = []
        if walk.direction != "in":
            found += [(row, row["to_entity"]) for row in self._out.rows(subject)]
        if walk.direction != "out":
            # A relationship of an entity with itself is found once.
            loops = walk.direction == "both"
            inward = (row for row in self._in.rows(subject) if not (loops and row["from_entity"] == subject))
            found += [(row, row["from_entity"]) for row in inward]
        kept = [
            (row, far)
            for row, far in found
            if _visible(row, at, moment.tx) and (walk.types is None or row["relationship_type"] in walk.types)
        ]
        return sorted(kept, key=lambda pair: _edge_order(pair[0]))

    def _links(self, ids: Iterable[UUID], moment: Moment, walk: Walk) -> Iterator[Link]:
        for near in ids:
            for row, far in self._edges(near, moment, walk)[: walk.fanout]:
                if self._seen("entity", far, moment) is not None:
                    yield Link(near, far, row["relationship_id"])

    def _done(self, rank: int, action: str, kind: Kind) -> Iterator[tuple[ChangePosition, Change]]:
        if action == "erased":
            for row in self._notes.rows.values():
                if row["erased_hash"] is not None:
                    place = ChangePosition(row["tx"], rank, UUID(int=0), LONG_AGO)
                    yield place, Change(row["tx"], row["at"], "erased", kind, None, row["erased_hash"])
            return
        counter, time = (
            ("tx_to", "transaction_time_end") if action == "closed" else ("tx_from", "transaction_time_start")
        )
        for row in self._tables[kind].rows.values():
            if row[counter] != CURRENT:
                place = ChangePosition(row[counter], rank, row[f"{kind}_id"], row["valid_time_start"])
                version = _versions(kind, [row])[0]
                yield (
                    place,
                    Change(row[counter], row[time], "closed" if action == "closed" else "opened", kind, version),
                )


class _Index:
    """Finds rows by one column. It only ever remembers too much: what a failed verb took back is looked past."""

    def __init__(self, table: Table, column: str) -> None:
        self._table = table
        self._column = column
        self._keys: dict[Any, dict[Any, None]] = defaultdict(dict)
        self._followed: tuple[int, int, Any] = (0, 0, None)

    def put(self, row: Row) -> None:
        """Remember a row that is about to be put under a new key."""
        self._follow()
        self._keys[row[self._column]][_key(row)] = None
        self._followed = (self._table.renewals, self._followed[1] + 1, _key(row))

    def rows(self, value: Any) -> list[Row]:
        """Return the rows whose column has a value, in any order."""
        self._follow()
        found = self._table.rows
        return [found[key] for key in self._keys.get(value, ()) if key in found]

    def _follow(self) -> None:
        """Read the whole table when others changed it: their number or the newest of them is another."""
        rows = self._table.rows
        state = (self._table.renewals, len(rows), next(reversed(rows), None))
        if self._followed != state:
            self._keys.clear()
            for key, row in rows.items():
                self._keys[row[self._column]][key] = None
            self._followed = state


def _key(row: Row) -> tuple[UUID, int, datetime]:
    return (row["entity_id"] if "entity_id" in row else row["relationship_id"], row["tx_from"], row["valid_time_start"])


def _bounds(draft: EntityDraft | RelationshipDraft, tick: Tick) -> dict[str, datetime]:
    start = tick.at if draft.valid_from is None else draft.valid_from
    return {"valid_time_start": start, "valid_time_end": draft.valid_to}


def _believed(row: Row, known: int | datetime | None) -> bool:
    if known is None:
        return bool(row["tx_to"] == CURRENT)
    if isinstance(known, int):
        return bool(row["tx_from"] <= known < row["tx_to"])
    return bool(row["transaction_time_start"] <= known < row["transaction_time_end"])


def _visible(row: Row, at: datetime, known: int | datetime | None) -> bool:
    return bool(row["valid_time_start"] <= at < row["valid_time_end"]) and _believed(row, known)


def _within(row: Row, span: Span) -> bool:
    return (
        (span.valid_from is None or row["valid_time_end"] > span.valid_from)
        and (span.valid_to is None or row["valid_time_start"] < span.valid_to)
        and (span.recorded_from is None or row["transaction_time_end"] > span.recorded_from)
        and (span.recorded_to is None or row["transaction_time_start"] < span.recorded_to)
    )


def _wanted(row: Row, wanted: Wanted) -> bool:
    return (
        (wanted.type is None or row["entity_type"] == wanted.type)
        and (wanted.name is None or row["name"] == wanted.name)
        and (wanted.prefix is None or row["name"].startswith(wanted.prefix))
        and (wanted.where is None or filtering.matches(wanted.where, documents.decode(row["properties"])))
    )


def _edge_order(row: Row) -> tuple[str, datetime, UUID]:
    return (row["relationship_type"], row["valid_time_start"], row["relationship_id"])


def _entity(row: Row) -> Entity:
    return entity(
        (
            row["entity_id"],
            row["entity_type"],
            row["name"],
            row["properties"],
            *_times(row),
            row["embedding_hash"],
        )
    )


def _relationship(row: Row) -> Relationship:
    ends = (row["relationship_id"], row["from_entity"], row["to_entity"])
    return relationship((*ends, row["relationship_type"], row["properties"], *_times(row)))


def _times(row: Row) -> tuple[Any, ...]:
    valid = (row["valid_time_start"], row["valid_time_end"])
    return (*valid, row["tx_from"], row["tx_to"], row["transaction_time_start"], row["transaction_time_end"])


def _versions(kind: Kind, rows: list[Row]) -> Any:
    return [_entity(row) if kind == "entity" else _relationship(row) for row in rows]


def _transaction(tx: int, at: datetime, said: Row | None) -> Transaction:
    if said is None:
        return Transaction(tx, at, None, None, ())
    return Transaction(tx, at, said["actor"], said["reason"], tuple(documents.decode(said["sources"])))


def _erasure(entity_id: UUID, count: int, reason: str, at: datetime) -> Row:
    named = {"kind": "entity", "subject_hash": erased_hash(entity_id), "rows_erased": count}
    return {**named, "erasure_id": uuid7(), "erased_at": at, "reason": reason, "erased_by": "memory"}
