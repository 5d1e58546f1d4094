"""Events in SQLite."""

from __future__ import annotations

import hashlib
from datetime import datetime
from sqlite3 import Connection
from typing import Any
from uuid import UUID

from storagelib import documents
from storagelib.clocks import LONG_AGO, from_microseconds, to_microseconds
from storagelib.components.events import (
    BEGINNING,
    Appended,
    Batch,
    Consumer,
    Draft,
    Event,
    Place,
    Selection,
    Statistics,
    Stream,
    event,
    first_results,
    numbered,
)
from storagelib.identifiers import uuid7
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes

__all__ = ["SqliteEvents", "leave_trace"]

_COLUMNS = "event_id, event_type, stream, sequence, position, correlation_id, timestamp, occurred_at, language, payload"
_KNOWN = """
SELECT event_id, stream, sequence, position, timestamp FROM event_ids
 WHERE tenant_id = ? AND event_id IN (SELECT value FROM json_each(?))"""
_HEADS = "SELECT stream, head FROM event_streams WHERE tenant_id = ? AND stream IN (SELECT value FROM json_each(?))"
_TICK = """
INSERT INTO tenant_clock AS old (tenant_id, n, at) VALUES (:tenant, :count, :now + :count - 1)
ON CONFLICT (tenant_id) DO UPDATE SET n = old.n + :count, at = max(:now, old.at + 1) + :count - 1
RETURNING n, at"""
_GROW = """
INSERT INTO event_streams AS old (tenant_id, stream, head, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant_id, stream) DO UPDATE SET head = old.head + excluded.head
RETURNING head"""
_INSERT = f"INSERT INTO event_log (tenant_id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REMEMBER = """
INSERT INTO event_ids (tenant_id, event_id, stream, sequence, position, timestamp) VALUES (?, ?, ?, ?, ?, ?)"""
_CLOCK = "SELECT n, at FROM tenant_clock WHERE tenant_id = ?"
_STREAMS = """
SELECT stream, head, created_at FROM event_streams
 WHERE tenant_id = ? AND stream >= ? AND stream < ? || CAST(x'FF' AS TEXT) AND stream > ? ORDER BY stream LIMIT ?"""
_TOTALS = """
SELECT (SELECT count(*) FROM event_log WHERE tenant_id = :tenant),
       (SELECT count(*) FROM event_streams WHERE tenant_id = :tenant),
       (SELECT min(timestamp) FROM event_log WHERE tenant_id = :tenant),
       (SELECT max(timestamp) FROM event_log WHERE tenant_id = :tenant)"""
_TYPES = """
SELECT event_type, count(*) FROM event_log WHERE tenant_id = ? GROUP BY event_type ORDER BY 2 DESC, 1 LIMIT 1000"""
_CHECKPOINT = """
INSERT INTO event_consumers AS old (tenant_id, consumer, position, updated_at) VALUES (:tenant, :consumer, :position, :now)
ON CONFLICT (tenant_id, consumer) DO UPDATE
    SET position = CASE WHEN :rewind THEN excluded.position ELSE max(old.position, excluded.position) END,
        updated_at = excluded.updated_at
RETURNING position"""
_POSITION = "SELECT position FROM event_consumers WHERE tenant_id = ? AND consumer = ?"
_CONSUMERS = """
SELECT consumer, position, updated_at FROM event_consumers
 WHERE tenant_id = ? AND consumer > ? ORDER BY consumer LIMIT ?"""
_FORGET_CONSUMER = "DELETE FROM event_consumers WHERE tenant_id = ? AND consumer = ?"
_FORGET_IDS = """
DELETE FROM event_ids WHERE tenant_id = :tenant AND event_id IN (
    SELECT event_id FROM event_ids WHERE tenant_id = :tenant AND timestamp < :before LIMIT :limit)"""
_ERASE = "DELETE FROM event_log WHERE tenant_id = ? AND stream = ?"
_ERASE_IDS = "DELETE FROM event_ids WHERE tenant_id = ? AND stream = ?"
_TRACE = """
INSERT INTO erasures (tenant_id, erasure_id, erased_at, kind, subject_hash, rows_erased, reason)
VALUES (?, ?, ?, ?, ?, ?, ?)"""


class SqliteEvents(SqliteStore):
    """See ``EventsBackend``."""

    @writes
    def append(
        self, database: Connection, drafts: list[Draft], expected: dict[str, int]
    ) -> list[Appended] | dict[str, int]:
        """Append all or none; return where they went, or the heads when one is not as expected."""
        first = first_results(drafts, self._known(database, [draft for draft in drafts if draft.given]))
        if first is not None:
            return first
        counts, numbers = numbered(drafts)
        if expected:
            names = documents.encode(list(expected))
            heads = dict.fromkeys(expected, 0) | dict(database.execute(_HEADS, (self.tenant_id, names)))
            if heads != expected:
                return heads
        ticked = {"tenant": self.tenant_id, "count": len(drafts), "now": self.engine.now()}
        n, at = database.execute(_TICK, ticked).fetchone()
        position, time = n - len(drafts) + 1, at - len(drafts) + 1
        before = {
            stream: database.execute(_GROW, (self.tenant_id, stream, count, time)).fetchone()[0] - count
            for stream, count in counts.items()
        }
        appended = [
            Appended(
                draft.event_id,
                draft.stream,
                before[draft.stream] + number,
                position + place,
                from_microseconds(time + place),
            )
            for place, (draft, number) in enumerate(zip(drafts, numbers, strict=True))
        ]
        pairs = list(zip(drafts, appended, strict=True))
        database.executemany(_INSERT, [self._row(draft, where) for draft, where in pairs])
        if any(draft.given for draft in drafts):
            database.executemany(_REMEMBER, [self._kept(where) for draft, where in pairs if draft.given])
        return appended

    @reads
    def events(self, database: Connection, selection: Selection, after: Place | None, limit: int) -> list[Event]:
        """Return up to ``limit`` events in order of their positions."""
        return self._events(database, selection, after, limit)

    @reads_together
    def follow(self, database: Connection, types: tuple[str, ...], after: Place, limit: int) -> Batch:
        """Return up to ``limit`` events after a place, and the place that was reached."""
        found = self._events(database, Selection(types=types), after, limit)
        if len(found) == limit:
            return Batch(found, Place(found[-1].position, found[-1].recorded_at))
        end = self._end(database)
        return Batch(found, end if end.position >= after.position else after)

    @reads
    def end(self, database: Connection) -> Place:
        """Return the tenant's clock."""
        return self._end(database)

    @reads
    def head(self, database: Connection, stream: str) -> int:
        """Return the sequence of a stream's last event, or 0."""
        row = database.execute(_HEADS, (self.tenant_id, documents.encode([stream]))).fetchone()
        return 0 if row is None else int(row[1])

    @reads
    def streams(self, database: Connection, prefix: str, after: str | None, limit: int) -> list[Stream]:
        """Return up to ``limit`` streams in order of their code points."""
        rows = database.execute(_STREAMS, (self.tenant_id, prefix, prefix, after or "", limit))
        return [Stream(stream, head, from_microseconds(created_at)) for stream, head, created_at in rows]

    @reads_together
    def statistics(self, database: Connection) -> Statistics:
        """Count what is there."""
        events, streams, first, last = database.execute(_TOTALS, {"tenant": self.tenant_id}).fetchone()
        by_type = dict(database.execute(_TYPES, (self.tenant_id,)))
        position = self._end(database).position
        return Statistics(events, streams, position, _moment(first), _moment(last), by_type)

    @writes
    def checkpoint(self, database: Connection, consumer: str, position: int, rewind: bool) -> int | None:
        """Keep a consumer's position; return what is kept, or None when nobody can have got there."""
        if position > self._end(database).position:
            return None
        values = {
            "tenant": self.tenant_id,
            "consumer": consumer,
            "position": position,
            "rewind": rewind,
            "now": self.engine.now(),
        }
        return int(database.execute(_CHECKPOINT, values).fetchone()[0])

    @reads
    def position(self, database: Connection, consumer: str) -> int:
        """Return a consumer's position, or 0."""
        row = database.execute(_POSITION, (self.tenant_id, consumer)).fetchone()
        return 0 if row is None else int(row[0])

    @reads
    def consumers(self, database: Connection, after: str | None, limit: int) -> list[Consumer]:
        """Return up to ``limit`` consumers in order of their code points."""
        rows = database.execute(_CONSUMERS, (self.tenant_id, after or "", limit))
        return [Consumer(consumer, position, from_microseconds(updated_at)) for consumer, position, updated_at in rows]

    @writes
    def forget_consumer(self, database: Connection, consumer: str) -> bool:
        """Remove a consumer's position; tell whether there was one."""
        return database.execute(_FORGET_CONSUMER, (self.tenant_id, consumer)).rowcount > 0

    @writes
    def forget_ids(self, database: Connection, before: datetime, limit: int) -> int:
        """Forget given ids of events recorded before a time; count them."""
        bounds = {"tenant": self.tenant_id, "before": to_microseconds(before), "limit": limit}
        return database.execute(_FORGET_IDS, bounds).rowcount

    @writes
    def erase_stream(self, database: Connection, stream: str, reason: str) -> int:
        """Remove a stream's events and their given ids, keep its head, leave a trace; count the events."""
        erased = database.execute(_ERASE, (self.tenant_id, stream)).rowcount
        database.execute(_ERASE_IDS, (self.tenant_id, stream))
        leave_trace(self, database, "stream", stream, erased, reason)
        return erased

    def _known(self, database: Connection, drafts: list[Draft]) -> dict[UUID, Appended]:
        if not drafts:
            return {}
        ids = documents.encode([str(draft.event_id) for draft in drafts])
        return {
            UUID(key): Appended(UUID(key), stream, sequence, position, from_microseconds(time))
            for key, stream, sequence, position, time in database.execute(_KNOWN, (self.tenant_id, ids))
        }

    def _end(self, database: Connection) -> Place:
        row = database.execute(_CLOCK, (self.tenant_id,)).fetchone()
        return BEGINNING if row is None else Place(row[0], from_microseconds(row[1]))

    def _events(self, database: Connection, selection: Selection, after: Place | None, limit: int) -> list[Event]:
        conditions = _conditions(selection, after)
        where = " AND ".join(["tenant_id = ?", *(clause for clause, _ in conditions)])
        order = selection.order(after)
        direction = "DESC" if selection.newest_first else "ASC"
        statement = f"SELECT {_COLUMNS} FROM event_log WHERE {where} ORDER BY {order} {direction} LIMIT ?"
        return [
            _event(row)
            for row in database.execute(statement, (self.tenant_id, *(value for _, value in conditions), limit))
        ]

    def _row(self, draft: Draft, where: Appended) -> tuple[Any, ...]:
        recorded_at = to_microseconds(where.recorded_at)
        return (
            self.tenant_id,
            str(draft.event_id),
            draft.event_type,
            draft.stream,
            where.sequence,
            where.position,
            draft.correlation_id,
            recorded_at,
            recorded_at if draft.occurred_at is None else to_microseconds(draft.occurred_at),
            draft.language,
            draft.payload,
        )

    def _kept(self, where: Appended) -> tuple[Any, ...]:
        time = to_microseconds(where.recorded_at)
        return (self.tenant_id, str(where.event_id), where.stream, where.sequence, where.position, time)


def leave_trace(store: SqliteStore, database: Connection, kind: str, subject: str, count: int, reason: str) -> None:
    """Note in ``erasures`` that something was removed on request, without what it was."""
    subject_hash = hashlib.sha256(subject.encode()).digest()
    values = (store.tenant_id, str(uuid7()), store.engine.now(), kind, subject_hash, count, reason)
    database.execute(_TRACE, values)


def _conditions(selection: Selection, after: Place | None) -> list[tuple[str, Any]]:
    """Return conditions and the value of each."""
    found: list[tuple[str, Any]] = []
    if selection.stream is not None:
        found += [("stream = ?", selection.stream), ("sequence > ?", selection.after_sequence)]
        found.append(("sequence < ?", selection.before_sequence))
    if selection.correlation_id is not None:
        found.append(("correlation_id = ?", selection.correlation_id))
    if len(selection.types) == 1:
        found.append(("event_type = ?", selection.types[0]))
    elif selection.types:
        listed = documents.encode(list(selection.types))
        found.append(("+event_type IN (SELECT value FROM json_each(?))", listed))
    if selection.since is not None:
        found.append(("timestamp >= ?", to_microseconds(selection.since)))
    if selection.until is not None:
        found.append(("timestamp < ?", to_microseconds(selection.until)))
    if after is not None:
        found.append(("position < ?" if selection.newest_first else "position > ?", after.position))
        if after.time != LONG_AGO:
            bound = "timestamp <= ?" if selection.newest_first else "timestamp >= ?"
            found.append((bound, to_microseconds(after.time)))
    return found


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)


def _event(row: tuple[Any, ...]) -> Event:
    event_id, event_type, stream, sequence, position, correlation_id, time, occurred_at, *rest = row
    language, payload = rest
    return event(
        (
            UUID(event_id),
            event_type,
            stream,
            sequence,
            position,
            correlation_id,
            from_microseconds(time),
            from_microseconds(occurred_at),
            language,
            payload,
        )
    )
