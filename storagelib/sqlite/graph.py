"""The bi-temporal graph in SQLite: walks go breadth first, one indexed statement a hop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Final
from uuid import UUID

import storagelib.filters as filtering
from storagelib import documents
from storagelib.clocks import FOREVER, LONG_AGO, from_microseconds, to_microseconds
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
from storagelib.identifiers import uuid7
from storagelib.sqlite.engine import SqliteStore, reads_together, writes

__all__ = ["SqliteGraph"]

_LONG_AGO: Final = to_microseconds(LONG_AGO)
_FOREVER: Final = to_microseconds(FOREVER)
_TIMES: Final = (
    "v.valid_time_start, v.valid_time_end, v.tx_from, v.tx_to, v.transaction_time_start, v.transaction_time_end"
)
_COLUMNS: Final[dict[Kind, str]] = {
    "entity": f"v.entity_id, v.entity_type, v.name, v.properties, {_TIMES}, v.embedding_hash",
    "relationship": (f"v.relationship_id, v.from_entity, v.to_entity, v.relationship_type, v.properties, {_TIMES}"),
}
_WIDTH: Final[dict[Kind, int]] = {"entity": 11, "relationship": 11}
_TABLES: Final[dict[Kind, str]] = {"entity": "entities", "relationship": "relationships"}
_CURRENT: Final = f"v.tx_to = {CURRENT}"
_TICK: Final = """
INSERT INTO tenant_clock AS c (tenant_id, n, at) VALUES (:tenant, 1, :now)
ON CONFLICT (tenant_id) DO UPDATE SET n = c.n + 1, at = max(:now, c.at + 1)
RETURNING n, at"""
_NOTE: Final = """
INSERT INTO graph_transactions (tenant_id, tx, at, actor, reason, sources, erased_hash) VALUES (?, ?, ?, ?, ?, ?, ?)"""
_EMBEDDING: Final = """
INSERT INTO graph_embeddings (tenant_id, entity_id, embedding_hash, dimension, embedding) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""
_INSERT: Final[dict[Kind, str]] = {
    "entity": f"""
INSERT INTO entities (tenant_id, entity_id, entity_type, name, properties, embedding_hash, valid_time_start, valid_time_end,
                      tx_from, transaction_time_start, transaction_time_end, created_at)
VALUES (:tenant, :entity_id, :entity_type, :name, :properties, :embedding_hash, :valid_time_start, :valid_time_end,
        :tx, :at, {_FOREVER}, :at)""",
    "relationship": f"""
INSERT INTO relationships (tenant_id, relationship_id, from_entity, to_entity, relationship_type, properties,
                           valid_time_start, valid_time_end, tx_from, transaction_time_start, transaction_time_end, created_at)
VALUES (:tenant, :relationship_id, :from_entity, :to_entity, :relationship_type, :properties,
        :valid_time_start, :valid_time_end, :tx, :at, {_FOREVER}, :at)""",
}
_CLOSE: Final[dict[Kind, str]] = {
    kind: f"""
UPDATE {table} SET tx_to = ?, transaction_time_end = ?
 WHERE tenant_id = ? AND {kind}_id = ? AND tx_from = ? AND valid_time_start = ?"""
    for kind, table in _TABLES.items()
}
_RETIRE: Final = f"""
UPDATE relationships SET tx_to = :tx, transaction_time_end = :at
 WHERE rowid IN (
    SELECT v.rowid FROM relationships AS v WHERE v.tenant_id = :tenant AND v.from_entity = :subject AND {_CURRENT}
    UNION
    SELECT v.rowid FROM relationships AS v WHERE v.tenant_id = :tenant AND v.to_entity = :subject AND {_CURRENT})"""
_WHY: Final = """
SELECT done.tx, done.at, said.actor, said.reason, said.sources
  FROM (
    SELECT tx_from AS tx, transaction_time_start AS at FROM entities
     WHERE tenant_id = :tenant AND entity_id = :subject
     UNION SELECT tx_to, transaction_time_end FROM entities
     WHERE tenant_id = :tenant AND entity_id = :subject AND tx_to < 9223372036854775807
     UNION SELECT tx_from, transaction_time_start FROM relationships
     WHERE tenant_id = :tenant AND relationship_id = :subject
     UNION SELECT tx_to, transaction_time_end FROM relationships
     WHERE tenant_id = :tenant AND relationship_id = :subject AND tx_to < 9223372036854775807
  ) AS done LEFT JOIN graph_transactions AS said ON said.tenant_id = :tenant AND said.tx = done.tx
 WHERE done.tx > :after ORDER BY done.tx LIMIT :limit"""
_ERASED: Final = """
SELECT tx, at, erased_hash FROM graph_transactions
 WHERE tenant_id = ? AND erased_hash IS NOT NULL AND tx > ? ORDER BY tx LIMIT ?"""
_STARTS: Final[dict[str, tuple[str, str]]] = {
    "out": ("from_entity", "to_entity"),
    "in": ("to_entity", "from_entity"),
}
Values = dict[str, Any]


class SqliteGraph(SqliteStore):
    """See ``GraphBackend``."""

    @reads_together
    def clock(self, database: Connection) -> Tick:
        """Return the last transaction, 0 before the first, and the graph's present moment."""
        tx, at = self._clock(database)
        return Tick(tx, from_microseconds(max(at, self.engine.now())))

    @writes
    def add(
        self, database: Connection, entities: list[EntityDraft], relationships: list[RelationshipDraft], note: Note
    ) -> Added:
        """Add all or nothing, in one tick."""
        fresh = {draft.entity_id for draft in entities}
        taken = self._there(database, "entity", [draft.entity_id for draft in entities if draft.given])
        taken |= self._there(
            database, "relationship", [draft.relationship_id for draft in relationships if draft.given]
        )
        ends = {end for draft in relationships for end in (draft.from_entity, draft.to_entity)} - fresh
        missing = ends - self._there(database, "entity", list(ends))
        if taken or missing:
            return Added(None, tuple(sorted(taken)), tuple(sorted(missing)))
        tick, stamp = self._tick(database, note, self.engine.now())
        for draft in entities:
            self._keep(database, draft.entity_id, draft.embedding)
        nodes = (
            {
                **stamp,
                "entity_id": str(draft.entity_id),
                "entity_type": draft.type,
                "name": draft.name,
                "properties": draft.properties,
                "embedding_hash": embedding_hash(draft.embedding),
                **_bounds(draft, stamp),
            }
            for draft in entities
        )
        edges = (
            {
                **stamp,
                "relationship_id": str(draft.relationship_id),
                "from_entity": str(draft.from_entity),
                "to_entity": str(draft.to_entity),
                "relationship_type": draft.type,
                "properties": draft.properties,
                **_bounds(draft, stamp),
            }
            for draft in relationships
        )
        database.executemany(_INSERT["entity"], nodes)
        database.executemany(_INSERT["relationship"], edges)
        return Added(tick)

    @writes
    def revise(self, database: Connection, revision: Revision, note: Note) -> Revised:
        """Change what is known of one subject over a range of valid time, in one tick."""
        kind, subject = revision.kind, str(revision.subject)
        rows = database.execute(
            f"SELECT v.* FROM {_TABLES[kind]} AS v WHERE v.tenant_id = ? AND v.{kind}_id = ? AND {_CURRENT}"
            " ORDER BY v.valid_time_start",
            (self.tenant_id, subject),
        )
        names = [column[0] for column in rows.description]
        current = [dict(zip(names, row, strict=True)) for row in rows]
        latest = max((row["tx_from"] for row in current), default=0)
        if not current or (revision.expected_tx is not None and latest > revision.expected_tx):
            return Revised(latest)
        at = self._next(database)
        start = at if revision.valid_from is None else to_microseconds(revision.valid_from)
        end = to_microseconds(revision.valid_to)
        if start >= end:
            return Revised(latest, inverted=True)
        ended, made = revised(current, revision, start, end)
        if not ended and not made:
            return Revised(latest)
        tick, stamp = self._tick(database, note, at)
        for row in ended:
            key = (self.tenant_id, subject, row["tx_from"], row["valid_time_start"])
            database.execute(_CLOSE[kind], (tick.tx, stamp["at"], *key))
        self._keep(database, revision.subject, revision.embedding)
        database.executemany(_INSERT[kind], ({**row, **stamp} for row in made))
        edges = 0
        if (kind, revision.mode) == ("entity", "retire"):
            edges = database.execute(_RETIRE, {**stamp, "subject": subject}).rowcount
        return Revised(latest, tick, len(ended), len(made), edges)

    @writes
    def erase(self, database: Connection, entity_id: UUID, reason: str, actor: str | None) -> int:
        """Remove every version of an entity, its relationships and embeddings; count the versions."""
        key = {"tenant": self.tenant_id, "subject": str(entity_id)}
        edges = database.execute(
            "DELETE FROM relationships WHERE rowid IN ("
            " SELECT rowid FROM relationships WHERE tenant_id = :tenant AND from_entity = :subject UNION"
            " SELECT rowid FROM relationships WHERE tenant_id = :tenant AND to_entity = :subject)",
            key,
        ).rowcount
        nodes = database.execute(
            "DELETE FROM entities WHERE tenant_id = :tenant AND entity_id = :subject", key
        ).rowcount
        database.execute("DELETE FROM graph_embeddings WHERE tenant_id = :tenant AND entity_id = :subject", key)
        if nodes + edges:
            _, stamp = self._tick(database, Note(actor, reason), self.engine.now(), erased_hash(entity_id))
            trace = (str(uuid7()), stamp["at"], erased_hash(entity_id), nodes + edges, reason)
            database.execute(
                "INSERT INTO erasures (tenant_id, erasure_id, erased_at, kind, subject_hash, rows_erased, reason)"
                " VALUES (?, ?, ?, 'entity', ?, ?, ?)",
                (self.tenant_id, *trace),
            )
        return nodes + edges

    @reads_together
    def entities(self, database: Connection, ids: list[UUID], moment: Moment) -> list[Entity]:
        """Return the entities among these that are visible, in any order."""
        found: list[Entity] = self._seen(database, "entity", ids, self._point(database, moment))
        return found

    @reads_together
    def relationships(self, database: Connection, ids: list[UUID], moment: Moment) -> list[Relationship]:
        """Return the relationships among these that are visible, in any order."""
        found: list[Relationship] = self._seen(database, "relationship", ids, self._point(database, moment))
        return found

    @reads_together
    def history(
        self, database: Connection, kind: Kind, subject: UUID, after: tuple[int, datetime] | None, limit: int
    ) -> list[Entity] | list[Relationship]:
        """Return versions by transaction, then by the start of their validity."""
        tx, start = (0, _LONG_AGO) if after is None else (after[0], to_microseconds(after[1]))
        found: list[Any] = self._versions(
            database,
            kind,
            f"v.{kind}_id = :subject AND (v.tx_from, v.valid_time_start) > (:tx, :start)"
            " ORDER BY v.tx_from, v.valid_time_start LIMIT :limit",
            {"subject": str(subject), "tx": tx, "start": start, "limit": limit},
        )
        return found

    @reads_together
    def timeline(
        self,
        database: Connection,
        kind: Kind,
        subject: UUID,
        known: int | datetime | None,
        after: datetime | None,
        limit: int,
    ) -> list[Entity] | list[Relationship]:
        """Return the versions that are believed, by the start of their validity."""
        believed, values = _believed(known)
        later = "" if after is None else " AND v.valid_time_start > :after"
        values |= {} if after is None else {"after": to_microseconds(after)}
        found: list[Any] = self._versions(
            database,
            kind,
            f"v.{kind}_id = :subject AND {believed}{later} ORDER BY v.valid_time_start LIMIT :limit",
            {"subject": str(subject), "limit": limit, **values},
        )
        return found

    @reads_together
    def query(
        self,
        database: Connection,
        span: Span,
        wanted: Wanted,
        after: tuple[UUID, int, datetime] | None,
        limit: int,
    ) -> list[Entity]:
        """Return versions of entities that touch ranges of both times, by entity, transaction and validity."""
        conditions, values = _wanted(wanted)
        bounds = {
            "v.valid_time_end > :valid_from": span.valid_from,
            "v.valid_time_start < :valid_to": span.valid_to,
            "v.transaction_time_end > :recorded_from": span.recorded_from,
            "v.transaction_time_start < :recorded_to": span.recorded_to,
        }
        for condition, time in bounds.items():
            if time is not None:
                conditions.append(condition)
                values[condition.rpartition(":")[2]] = to_microseconds(time)
        if after is not None:
            conditions.append("(v.entity_id, v.tx_from, v.valid_time_start) > (:id, :tx, :start)")
            values |= {"id": str(after[0]), "tx": after[1], "start": to_microseconds(after[2])}
        where = " AND ".join(conditions) or "1"
        order = " ORDER BY v.entity_id, v.tx_from, v.valid_time_start LIMIT :limit"
        found: list[Entity] = self._versions(database, "entity", where + order, {**values, "limit": limit})
        return found

    @reads_together
    def neighbours(
        self,
        database: Connection,
        subject: UUID,
        moment: Moment,
        walk: Walk,
        after: tuple[str, datetime, UUID] | None,
        limit: int,
    ) -> list[Neighbour]:
        """Return visible relationships whose other end is visible, by type, start of validity and id."""
        point = self._point(database, moment)
        seen, values = point
        later = ""
        if after is not None:
            later = " AND (v.relationship_type, v.valid_time_start, v.relationship_id) > (:type, :start, :id)"
            values = {**values, "type": after[0], "start": to_microseconds(after[1]), "id": str(after[2])}
        arms = " UNION ALL ".join(
            f"SELECT {_COLUMNS['relationship']}, v.{far} AS far FROM relationships AS v"
            f" WHERE v.tenant_id = :tenant AND v.{near} = :subject AND {seen}{_typed(walk)}{later}{loops}"
            f" AND EXISTS (SELECT 1 FROM entities AS e WHERE e.tenant_id = :tenant AND e.entity_id = v.{far}"
            f" AND {seen.replace('v.', 'e.')})"
            for near, far, loops in _arms(walk)
        )
        rows = database.execute(
            f"{arms} ORDER BY 4, 6, 1 LIMIT :limit",
            {"tenant": self.tenant_id, "subject": str(subject), "limit": limit, **values, **_types(walk)},
        ).fetchall()
        width = _WIDTH["relationship"]
        others = {
            each.entity_id: each for each in self._seen(database, "entity", {UUID(row[width]) for row in rows}, point)
        }
        return [Neighbour(_relationship(row[:width]), others[UUID(row[width])]) for row in rows]

    @reads_together
    def step(self, database: Connection, ids: list[UUID], moment: Moment, walk: Walk) -> list[Link]:
        """Return the links from these entities to visible ones, in any order."""
        return list(self._links(database, ids, self._point(database, moment), walk))

    @reads_together
    def traverse(
        self, database: Connection, start: UUID, moment: Moment, walk: Walk, depth: int, limit: int
    ) -> tuple[Entity | None, list[tuple[int, UUID, Entity, Relationship]]]:
        """Walk breadth first; return the start, and depth, previous entity, entity and relationship of what is reached."""
        point = self._point(database, moment)
        origin = self._seen(database, "entity", [start], point)
        if not origin:
            return None, []
        found = breadth_first(lambda ids: self._links(database, ids, point, walk), start, depth, limit)
        nodes = {
            each.entity_id: each for each in self._seen(database, "entity", [link.far for _, link in found], point)
        }
        over = [link.relationship_id for _, link in found]
        edges = {each.relationship_id: each for each in self._seen(database, "relationship", over, point)}
        return origin[0], [(level, link.near, nodes[link.far], edges[link.relationship_id]) for level, link in found]

    @reads_together
    def search(
        self,
        database: Connection,
        moment: Moment,
        wanted: Wanted,
        after: tuple[str, UUID] | UUID | None,
        limit: int,
    ) -> list[Entity]:
        """Return visible entities by id, or by name and id when a prefix is wanted."""
        seen, values = self._point(database, moment)
        conditions, asked = _wanted(wanted)
        if isinstance(after, tuple):
            conditions.append("(v.name, v.entity_id) > (:name_after, :after)")
            asked |= {"name_after": after[0], "after": str(after[1])}
        elif after is not None:
            conditions.append("v.entity_id > :after")
            asked["after"] = str(after)
        order = "v.entity_id" if wanted.prefix is None else "v.name, v.entity_id"
        where = " AND ".join([seen, *conditions])
        found: list[Entity] = self._versions(
            database, "entity", f"{where} ORDER BY {order} LIMIT :limit", {**values, **asked, "limit": limit}
        )
        return found

    @reads_together
    def nearest(
        self, database: Connection, moment: Moment, embedding: bytes, wanted: Wanted, limit: int
    ) -> list[Match]:
        """Return the visible entities whose embeddings are nearest, nearest first, then by id."""
        import numpy as np  # noqa: PLC0415 - only who searches by embedding needs it

        from storagelib.components.distances import nearest  # noqa: PLC0415 - the same

        point = self._point(database, moment)
        conditions, asked = _wanted(wanted)
        rows = database.execute(
            "SELECT v.entity_id, g.embedding FROM graph_embeddings AS g JOIN entities AS v ON v.tenant_id = g.tenant_id"
            " AND v.entity_id = g.entity_id AND v.embedding_hash = g.embedding_hash"
            f" WHERE g.tenant_id = :tenant AND g.dimension = :dimension AND {' AND '.join([point[0], *conditions])}",
            {"tenant": self.tenant_id, "dimension": len(embedding) // 4, **point[1], **asked},
        ).fetchall()
        if not rows:
            return []
        matrix = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1)
        best = nearest(matrix, [row[0] for row in rows], np.frombuffer(embedding, "<f4"), "cosine", limit)
        ids = [UUID(subject) for _, subject, _ in best]
        found = {each.entity_id: each for each in self._seen(database, "entity", ids, point)}
        return [Match(found[UUID(subject)], 1.0 - distance) for distance, subject, _ in best]

    @reads_together
    def embedding(self, database: Connection, entity_id: UUID, moment: Moment) -> bytes | None:
        """Return the embedding of a visible entity."""
        seen, values = self._point(database, moment)
        row = database.execute(
            "SELECT g.embedding FROM entities AS v JOIN graph_embeddings AS g ON g.tenant_id = v.tenant_id"
            " AND g.entity_id = v.entity_id AND g.embedding_hash = v.embedding_hash"
            f" WHERE v.tenant_id = :tenant AND v.entity_id = :subject AND {seen}",
            {"tenant": self.tenant_id, "subject": str(entity_id), **values},
        ).fetchone()
        return None if row is None else row[0]

    @reads_together
    def changes(self, database: Connection, after: ChangePosition, limit: int) -> list[Change]:
        """Return what transactions did after a position, in the order of ``ChangePosition``."""
        found: list[tuple[ChangePosition, Change]] = []
        for rank, (action, kind) in enumerate(RANKS):
            start = arm_start(after, rank)
            if action == "erased":
                for tx, at, trace in database.execute(_ERASED, (self.tenant_id, start.tx, limit)):
                    change = Change(tx, from_microseconds(at), action, kind, None, trace)
                    found.append((ChangePosition(tx, rank, UUID(int=0), LONG_AGO), change))
                continue
            counter = "tx_to" if action == "closed" else "tx_from"
            versions: list[Any] = self._versions(
                database,
                kind,
                f"v.{counter} < {CURRENT} AND v.{counter} >= :tx"
                f" AND (v.{counter}, v.{kind}_id, v.valid_time_start) > (:tx, :id, :start)"
                f" ORDER BY v.{counter}, v.{kind}_id, v.valid_time_start LIMIT :limit",
                {"tx": start.tx, "id": str(start.subject), "start": to_microseconds(start.valid_from), "limit": limit},
            )
            found += [_change(rank, version) for version in versions]
        found.sort(key=lambda pair: pair[0])
        return [change for _, change in found[:limit]]

    @reads_together
    def why(self, database: Connection, subject: UUID, after: int, limit: int) -> list[Transaction]:
        """Return the transactions after ``after`` that made or ended versions of an entity or relationship."""
        values = {"tenant": self.tenant_id, "subject": str(subject), "after": after, "limit": limit}
        return [
            Transaction(tx, from_microseconds(at), actor, reason, tuple(documents.decode(sources or "[]")))
            for tx, at, actor, reason, sources in database.execute(_WHY, values)
        ]

    @reads_together
    def diff(
        self, database: Connection, kind: Kind, before: Moment, after: Moment, past: UUID | None, limit: int
    ) -> list[tuple[Entity | None, Entity | None]] | list[tuple[Relationship | None, Relationship | None]]:
        """Return what two moments say differently of subjects greater than ``past``, by id."""
        found: list[Any] = []
        earlier = self._walked(database, kind, self._point(database, before), past)
        later = self._walked(database, kind, self._point(database, after), past)
        for one, other in _merged(earlier, later):
            if one is None or other is None or content(one) != content(other):
                found.append((one, other))
                if len(found) == limit:
                    break
        return found

    def _clock(self, database: Connection) -> tuple[int, int]:
        row = database.execute("SELECT n, at FROM tenant_clock WHERE tenant_id = ?", (self.tenant_id,)).fetchone()
        return (0, _LONG_AGO) if row is None else row

    def _next(self, database: Connection) -> int:
        return max(self.engine.now(), self._clock(database)[1] + 1)

    def _tick(self, database: Connection, note: Note, now: int, erased: bytes | None = None) -> tuple[Tick, Values]:
        """Advance the clock; return the tick, and the parameters that stamp rows with it."""
        stamp = {"tenant": self.tenant_id, "now": now}
        tx, at = database.execute(_TICK, stamp).fetchone()
        if note.said:
            database.execute(_NOTE, (self.tenant_id, tx, at, note.actor, note.reason, note.sources, erased))
        return Tick(tx, from_microseconds(at)), {"tenant": self.tenant_id, "tx": tx, "at": at}

    def _keep(self, database: Connection, subject: UUID, embedding: bytes | None) -> None:
        if embedding is not None:
            values = (embedding_hash(embedding), len(embedding) // 4, embedding)
            database.execute(_EMBEDDING, (self.tenant_id, str(subject), *values))

    def _there(self, database: Connection, kind: Kind, ids: Iterable[UUID]) -> set[UUID]:
        """Return those that have a current version."""
        rows = database.execute(
            f"SELECT DISTINCT v.{kind}_id FROM json_each(?) AS asked CROSS JOIN {_TABLES[kind]} AS v"
            f" WHERE v.tenant_id = ? AND v.{kind}_id = asked.value AND {_CURRENT}",
            (documents.encode([str(each) for each in ids]), self.tenant_id),
        )
        return {UUID(subject) for (subject,) in rows}

    def _point(self, database: Connection, moment: Moment) -> tuple[str, Values]:
        """Return the condition on a version ``v`` that it is visible at a moment, and its parameters."""
        believed, values = _believed(moment.tx)
        at = max(self.engine.now(), self._clock(database)[1]) if moment.valid is None else to_microseconds(moment.valid)
        return f"v.valid_time_start <= :at AND v.valid_time_end > :at AND {believed}", {"at": at, **values}

    def _versions(self, database: Connection, kind: Kind, where: str, values: Values) -> Any:
        sql = f"SELECT {_COLUMNS[kind]} FROM {_TABLES[kind]} AS v WHERE v.tenant_id = :tenant AND {where}"
        make = _entity if kind == "entity" else _relationship
        return [make(row) for row in database.execute(sql, {"tenant": self.tenant_id, **values})]

    def _seen(self, database: Connection, kind: Kind, ids: Iterable[UUID], point: tuple[str, Values]) -> Any:
        asked = documents.encode([str(each) for each in ids])
        sql = (
            f"SELECT {_COLUMNS[kind]} FROM json_each(:ids) AS asked CROSS JOIN {_TABLES[kind]} AS v"
            f" WHERE v.tenant_id = :tenant AND v.{kind}_id = asked.value AND {point[0]}"
        )
        make = _entity if kind == "entity" else _relationship
        return [make(row) for row in database.execute(sql, {"tenant": self.tenant_id, "ids": asked, **point[1]})]

    def _links(self, database: Connection, ids: list[UUID], point: tuple[str, Values], walk: Walk) -> Iterator[Link]:
        """Follow every relationship of some entities; with a fan-out each entity is asked alone."""
        seen, values = point
        visible = (
            "(SELECT 1 FROM entities AS e WHERE e.tenant_id = :tenant AND e.entity_id = found.far"
            f" AND {seen.replace('v.', 'e.')} LIMIT 1)"
        )
        arms = " UNION ALL ".join(
            f"SELECT v.{near} AS near, v.{far} AS far, v.relationship_id AS id, v.relationship_type AS type,"
            " v.valid_time_start AS start"
            f" FROM json_each(:ids) AS asked CROSS JOIN relationships AS v WHERE v.tenant_id = :tenant"
            f" AND v.{near} = asked.value AND {seen}{_typed(walk)}{loops}"
            for near, far, loops in _arms(walk)
        )
        if walk.fanout is not None:
            arms = f"SELECT * FROM ({arms}) ORDER BY type, start, id LIMIT :fanout"
        sql = f"SELECT near, far, id FROM ({arms}) AS found WHERE {visible}"
        given = {"tenant": self.tenant_id, "fanout": walk.fanout, **values, **_types(walk)}
        for group in [ids] if walk.fanout is None else [[each] for each in ids]:
            asked = documents.encode([str(each) for each in group])
            for near, far, subject in database.execute(sql, {**given, "ids": asked}):
                yield Link(UUID(near), UUID(far), UUID(subject))

    def _walked(
        self, database: Connection, kind: Kind, point: tuple[str, Values], past: UUID | None
    ) -> Iterator[Entity | Relationship]:
        """Go through the visible versions of all subjects greater than ``past``, by id."""
        sql = (
            f"SELECT {_COLUMNS[kind]} FROM {_TABLES[kind]} AS v WHERE v.tenant_id = :tenant AND v.{kind}_id > :past"
            f" AND {point[0]} ORDER BY v.{kind}_id"
        )
        make = _entity if kind == "entity" else _relationship
        values = {"tenant": self.tenant_id, "past": "" if past is None else str(past), **point[1]}
        return (make(row) for row in database.execute(sql, values))


def _bounds(draft: EntityDraft | RelationshipDraft, stamp: Mapping[str, Any]) -> dict[str, int]:
    start = stamp["at"] if draft.valid_from is None else to_microseconds(draft.valid_from)
    return {"valid_time_start": start, "valid_time_end": to_microseconds(draft.valid_to)}


def _believed(known: int | datetime | None) -> tuple[str, Values]:
    if known is None:
        return _CURRENT, {}
    if isinstance(known, int):
        return "v.tx_from <= :known AND v.tx_to > :known", {"known": known}
    return "v.transaction_time_start <= :known AND v.transaction_time_end > :known", {"known": to_microseconds(known)}


def _wanted(wanted: Wanted) -> tuple[list[str], Values]:
    conditions: list[str] = []
    values: Values = {}
    if wanted.type is not None:
        conditions.append("v.entity_type = :type")
        values["type"] = wanted.type
    if wanted.name is not None:
        conditions.append("v.name = :name")
        values["name"] = wanted.name
    if wanted.prefix is not None:
        # No UTF-8 holds the byte 0xFF, so that it ends the range.
        conditions.append("v.name >= :prefix AND v.name < :prefix || CAST(x'FF' AS TEXT)")
        values["prefix"] = wanted.prefix
    if wanted.where is not None:
        condition, parameters = filtering.to_sqlite(wanted.where, column="v.properties")
        conditions.append(condition)
        values |= parameters
    return conditions, values


def _arms(walk: Walk) -> list[tuple[str, str, str]]:
    """Return the near and far column of each direction; a loop is followed once."""
    if walk.direction != "both":
        return [(*_STARTS[walk.direction], "")]
    return [(*_STARTS["out"], ""), (*_STARTS["in"], " AND v.from_entity <> v.to_entity")]


def _typed(walk: Walk) -> str:
    return "" if walk.types is None else " AND v.relationship_type IN (SELECT value FROM json_each(:types))"


def _types(walk: Walk) -> Values:
    return {} if walk.types is None else {"types": documents.encode(list(walk.types))}


def _entity(row: tuple[Any, ...]) -> Entity:
    subject, kind, name, properties, *times, embedding = row
    return entity((UUID(subject), kind, name, properties, *_times(times), embedding))


def _relationship(row: tuple[Any, ...]) -> Relationship:
    subject, near, far, kind, properties, *times = row
    return relationship((UUID(subject), UUID(near), UUID(far), kind, properties, *_times(times)))


def _times(times: list[int]) -> tuple[Any, ...]:
    start, end, tx_from, tx_to, recorded, superseded = times
    valid = (from_microseconds(start), from_microseconds(end))
    return (*valid, tx_from, tx_to, from_microseconds(recorded), from_microseconds(superseded))


def _change(rank: int, version: Entity | Relationship) -> tuple[ChangePosition, Change]:
    action, kind = RANKS[rank]
    subject = version.entity_id if isinstance(version, Entity) else version.relationship_id
    tx, at = version.tx, version.recorded_at
    if action == "closed" and version.superseded_by is not None and version.superseded_at is not None:
        tx, at = version.superseded_by, version.superseded_at
    return ChangePosition(tx, rank, subject, version.valid_from), Change(tx, at, action, kind, version)


def _merged(
    one: Iterator[Entity | Relationship], other: Iterator[Entity | Relationship]
) -> Iterator[tuple[Entity | Relationship | None, Entity | Relationship | None]]:
    """Pair two listings by id."""
    left, right = next(one, None), next(other, None)
    while left is not None or right is not None:
        if right is None or (left is not None and _id(left) < _id(right)):
            yield left, None
            left = next(one, None)
        elif left is None or _id(right) < _id(left):
            yield None, right
            right = next(other, None)
        else:
            yield left, right
            left, right = next(one, None), next(other, None)


def _id(version: Entity | Relationship) -> UUID:
    return version.entity_id if isinstance(version, Entity) else version.relationship_id
