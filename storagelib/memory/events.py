"""Events in memory."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from storagelib.clocks import LONG_AGO
from storagelib.components.events import (
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
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryEvents"]

_MICROSECOND = timedelta(microseconds=1)
_TYPES_COUNTED = 1000


class MemoryEvents:
    """See ``EventsBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._clock = space.table("tenant_clock")
        self._log = space.table("event_log")
        self._streams = space.table("event_streams")
        self._ids = space.table("event_ids")
        self._consumers = space.table("event_consumers")
        self._rows: list[Row] = []

    def append(self, drafts: list[Draft], expected: dict[str, int]) -> list[Appended] | dict[str, int]:
        """Append all or none; return where they went, or the heads when one is not as expected."""
        with self._space.transaction():
            known = {draft.event_id: row for draft in drafts if (row := self._ids.get(draft.event_id)) is not None}
            first = first_results(drafts, {key: _appended(key, row) for key, row in known.items()})
            if first is not None:
                return first
            heads = {stream: self._head(stream) for stream in expected}
            if heads != expected:
                return heads
            position, time = self._tick(len(drafts))
            counts, numbers = numbered(drafts)
            before = {stream: self._head(stream) for stream in counts}
            for stream, count in counts.items():
                row = self._streams.get(stream) or {"stream": stream, "created_at": time}
                self._streams.put((stream,), {**row, "head": before[stream] + count})
            return [
                self._insert(draft, before[draft.stream] + number, position + place, time + place * _MICROSECOND)
                for place, (draft, number) in enumerate(zip(drafts, numbers, strict=True))
            ]

    def events(self, selection: Selection, after: Place | None, limit: int) -> list[Event]:
        """Return up to ``limit`` events in order of their positions."""
        with self._space.transaction():
            rows = self._newest(after) if selection.newest_first else self._oldest(after)
            return [_event(row) for row in islice((row for row in rows if selection.holds(row, after)), limit)]

    def follow(self, types: tuple[str, ...], after: Place, limit: int) -> Batch:
        """Return up to ``limit`` events after a place, and the place that was reached."""
        with self._space.transaction():
            found = self.events(Selection(types=types), after, limit)
            if len(found) == limit:
                return Batch(found, Place(found[-1].position, found[-1].recorded_at))
            end = self.end()
            return Batch(found, end if end.position >= after.position else after)

    def end(self) -> Place:
        """Return the tenant's clock."""
        with self._space.transaction():
            row = self._clock.get()
            return Place(0) if row is None else Place(row["n"], row["at"])

    def head(self, stream: str) -> int:
        """Return the sequence of a stream's last event, or 0."""
        with self._space.transaction():
            return self._head(stream)

    def streams(self, prefix: str, after: str | None, limit: int) -> list[Stream]:
        """Return up to ``limit`` streams in order of their code points."""
        with self._space.transaction():
            names = sorted(key[0] for key in self._streams.rows if key[0].startswith(prefix))
            rows = [self._streams.rows[name,] for name in names[_start(names, after) :][:limit]]
            return [Stream(row["stream"], row["head"], row["created_at"]) for row in rows]

    def statistics(self) -> Statistics:
        """Count what is there."""
        with self._space.transaction():
            rows = self._ordered()
            types = Counter(row["event_type"] for row in rows)
            most = sorted(types.items(), key=lambda entry: (-entry[1], entry[0]))[:_TYPES_COUNTED]
            return Statistics(
                len(rows),
                len(self._streams.rows),
                self.end().position,
                rows[0]["timestamp"] if rows else None,
                rows[-1]["timestamp"] if rows else None,
                dict(most),
            )

    def checkpoint(self, consumer: str, position: int, rewind: bool) -> int | None:
        """Keep a consumer's position; return what is kept, or None when nobody can have got there."""
        with self._space.transaction():
            if position > self.end().position:
                return None
            kept = position if rewind else max(position, self.position(consumer))
            row = {"consumer": consumer, "position": kept, "updated_at": self._space.now()}
            self._consumers.put((consumer,), row)
            return kept

    def position(self, consumer: str) -> int:
        """Return a consumer's position, or 0."""
        with self._space.transaction():
            row = self._consumers.get(consumer)
            return 0 if row is None else int(row["position"])

    def consumers(self, after: str | None, limit: int) -> list[Consumer]:
        """Return up to ``limit`` consumers in order of their code points."""
        with self._space.transaction():
            names = sorted(key[0] for key in self._consumers.rows)
            rows = [self._consumers.rows[name,] for name in names[_start(names, after) :][:limit]]
            return [Consumer(row["consumer"], row["position"], row["updated_at"]) for row in rows]

    def forget_consumer(self, consumer: str) -> bool:
        """Remove a consumer's position; tell whether there was one."""
        with self._space.transaction():
            return self._consumers.delete(consumer)

    def forget_ids(self, before: datetime, limit: int) -> int:
        """Forget given ids of events recorded before a time; count them."""
        with self._space.transaction():
            old = [key for key, row in self._ids.rows.items() if row["timestamp"] < before][:limit]
            for key in old:
                self._ids.delete(*key)
            return len(old)

    def erase_stream(self, stream: str, reason: str) -> int:
        """Remove a stream's events and their given ids, keep its head, leave a trace; count the events."""
        with self._space.transaction():
            gone = [key for key, row in self._log.rows.items() if row["stream"] == stream]
            for key in gone:
                self._log.delete(*key)
            for key in [key for key, row in self._ids.rows.items() if row["stream"] == stream]:
                self._ids.delete(*key)
            leave_trace(self._space, "stream", stream, len(gone), reason)
            return len(gone)

    def _tick(self, count: int) -> tuple[int, datetime]:
        """Advance the clock by so many ticks; return number and time of the first of them."""
        row = self._clock.get() or {"n": 0, "at": LONG_AGO}
        time = max(self._space.now(), row["at"] + _MICROSECOND)
        self._clock.put((), {"n": row["n"] + count, "at": time + (count - 1) * _MICROSECOND})
        return row["n"] + 1, time

    def _insert(self, draft: Draft, sequence: int, position: int, time: datetime) -> Appended:
        row = {
            "event_id": draft.event_id,
            "event_type": draft.event_type,
            "correlation_id": draft.correlation_id,
            "stream": draft.stream,
            "sequence": sequence,
            "position": position,
            "timestamp": time,
            "occurred_at": draft.occurred_at or time,
            "language": draft.language,
            "payload": draft.payload,
        }
        self._log.put((time, draft.event_id), row)
        if draft.given:
            kept = {name: row[name] for name in ("event_id", "stream", "sequence", "position", "timestamp")}
            self._ids.put((draft.event_id,), kept)
        return _appended(draft.event_id, row)

    def _head(self, stream: str) -> int:
        row = self._streams.get(stream)
        return 0 if row is None else int(row["head"])

    def _ordered(self) -> list[Row]:
        """Return the log in order of its positions; what was appended since the last call is added to what is kept."""
        rows = self._log.rows
        last = self._rows[-1] if self._rows else None
        fresh: list[Row] = []
        for row in reversed(rows.values()):
            if row is last:
                break
            fresh.append(row)
        if len(self._rows) + len(fresh) == len(rows):
            self._rows.extend(reversed(fresh))
        else:
            self._rows = sorted(rows.values(), key=lambda row: int(row["position"]))
        return self._rows

    def _oldest(self, after: Place | None) -> Iterator[Row]:
        rows = self._ordered()
        return islice(rows, 0 if after is None else bisect_right(rows, after.position, key=_position), None)

    def _newest(self, after: Place | None) -> Iterator[Row]:
        rows = self._ordered()
        start = len(rows) if after is None else bisect_left(rows, after.position, key=_position)
        return (rows[place] for place in range(start - 1, -1, -1))


def leave_trace(space: MemorySpace, kind: str, subject: str, count: int, reason: str) -> None:
    """Note in ``erasures`` that something was removed on request, without what it was."""
    at, erasure_id = space.now(), uuid7()
    space.table("erasures").put(
        (at, erasure_id),
        {
            "erasure_id": erasure_id,
            "erased_at": at,
            "kind": kind,
            "subject_hash": hashlib.sha256(subject.encode()).digest(),
            "rows_erased": count,
            "reason": reason,
            "erased_by": "memory",
        },
    )


def _position(row: Row) -> int:
    return int(row["position"])


def _start(names: list[str], after: str | None) -> int:
    return 0 if after is None else bisect_right(names, after)


def _appended(event_id: UUID, row: Row) -> Appended:
    return Appended(event_id, row["stream"], row["sequence"], row["position"], row["timestamp"])


def _event(row: Row) -> Event:
    values: Any = tuple(
        row[name]
        for name in (
            "event_id",
            "event_type",
            "stream",
            "sequence",
            "position",
            "correlation_id",
            "timestamp",
            "occurred_at",
            "language",
            "payload",
        )
    )
    return event(values)
