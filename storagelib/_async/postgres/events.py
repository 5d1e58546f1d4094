"""Events in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from storage_sql.queries import Query, load
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._postgres.session import Call
from storagelib.clocks import LONG_AGO
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
    appended,
    event,
    first_results,
    numbered,
)
from storagelib.errors import AlreadyExists, Conflict, InvalidInput

__all__ = ["AsyncPostgresEvents"]

_QUERIES = load("events")
_TAKE: Final = {expecting: _QUERIES["take"].variant(expecting=expecting) for expecting in (False, True)}
_REMEMBER: Final = {several: _QUERIES["write"].variant(ids=True, several=several) for several in (False, True)}
_ATTEMPTS: Final = 8
# What one statement of a batch carries.
_STATEMENT_EVENTS: Final = 500
_STATEMENT_BYTES: Final = 256 << 10
_HEADS_CHECK: Final = "event_streams_head_check"


class AsyncPostgresEvents:
    """See ``AsyncEventsBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    async def append(self, drafts: list[Draft], expected: dict[str, int]) -> list[Appended] | dict[str, int]:
        """Append all or none; return where they went, or the heads when one is not as expected."""
        for _ in range(_ATTEMPTS):
            taken: AlreadyExists | None = None
            try:
                written = await (self._one(drafts[0], expected) if len(drafts) == 1 else self._many(drafts, expected))
            except AlreadyExists as error:
                written, taken = None, error
            except InvalidInput as error:
                # A stream that should be new was made after this statement began: the next one sees it.
                if _HEADS_CHECK not in str(error):
                    raise
                written = None
            if written is not None:
                return written
            first, heads = await self._why(drafts, expected)
            if first is not None:
                return first
            if taken is not None:
                raise taken
            if heads != expected:
                return heads
        raise Conflict("concurrent writers were faster each time; try again")

    async def events(self, selection: Selection, after: Place | None, limit: int) -> list[Event]:
        """Return up to ``limit`` events in order of their positions."""
        query, values = _selected(selection, after, limit)
        return [event(row) for row in await self._database.fetch(query, **values)]

    async def follow(self, types: tuple[str, ...], after: Place, limit: int) -> Batch:
        """Return up to ``limit`` events after a place, and the place that was reached."""
        clock, rows = await self._database.run(
            [(_QUERIES["clock"], {}), _selected(Selection(types=types), after, limit)]
        )
        found = [event(row) for row in rows]
        last = Place(found[-1].position, found[-1].recorded_at) if found else after
        if len(found) == limit or not clock or clock[0][0] <= last.position:
            return Batch(found, last)
        # The clock was read before the events: whatever it counted is among them.
        return Batch(found, Place(*clock[0]))

    async def end(self) -> Place:
        """Return the tenant's clock."""
        rows = await self._database.fetch(_QUERIES["clock"])
        return Place(*rows[0]) if rows else BEGINNING

    async def head(self, stream: str) -> int:
        """Return the sequence of a stream's last event, or 0."""
        rows = await self._database.fetch(_QUERIES["heads"], streams=[stream])
        return rows[0][1] if rows else 0

    async def streams(self, prefix: str, after: str | None, limit: int) -> list[Stream]:
        """Return up to ``limit`` streams in order of their code points."""
        rows = await self._database.fetch(_QUERIES["streams"], prefix=prefix, after=after or "", most=limit)
        return [Stream(*row) for row in rows]

    async def statistics(self) -> Statistics:
        """Count what is there."""
        ((events, streams, position, first_at, last_at, types, counts),) = await self._database.fetch(
            _QUERIES["statistics"]
        )
        return Statistics(events, streams, position, first_at, last_at, dict(zip(types, counts, strict=True)))

    async def checkpoint(self, consumer: str, position: int, rewind: bool) -> int | None:
        """Keep a consumer's position; return what is kept, or None when nobody can have got there."""
        values = {"consumer": consumer, "position": position, "rewind": rewind}
        rows = await self._database.fetch(_QUERIES["checkpoint"], **values)
        return rows[0][0] if rows else None

    async def position(self, consumer: str) -> int:
        """Return a consumer's position, or 0."""
        rows = await self._database.fetch(_QUERIES["position"], consumer=consumer)
        return rows[0][0] if rows else 0

    async def consumers(self, after: str | None, limit: int) -> list[Consumer]:
        """Return up to ``limit`` consumers in order of their code points."""
        rows = await self._database.fetch(_QUERIES["consumers"], after=after or "", most=limit)
        return [Consumer(*row) for row in rows]

    async def forget_consumer(self, consumer: str) -> bool:
        """Remove a consumer's position; tell whether there was one."""
        return bool(await self._database.fetch(_QUERIES["forget_consumer"], consumer=consumer))

    async def forget_ids(self, before: datetime, limit: int) -> int:
        """Forget given ids of events recorded before a time; count them."""
        return int((await self._database.fetch(_QUERIES["forget_ids"], before=before, most=limit))[0][0])

    async def erase_stream(self, stream: str, reason: str) -> int:
        """Remove a stream's events and their given ids, keep its head, leave a trace; count the events."""
        return int((await self._database.fetch(_QUERIES["erase_stream"], stream=stream, reason=reason))[0][0])

    async def _one(self, draft: Draft, expected: dict[str, int]) -> list[Appended] | None:
        rows = await self._database.fetch(
            _QUERIES["append"],
            event_id=draft.event_id,
            event_type=draft.event_type,
            stream=draft.stream,
            correlation_id=draft.correlation_id,
            occurred_at=draft.occurred_at,
            language=draft.language,
            payload=draft.payload,
            expected=expected.get(draft.stream),
            keyed=draft.given,
        )
        return [Appended(draft.event_id, draft.stream, *rows[0])] if rows else None

    async def _many(self, drafts: list[Draft], expected: dict[str, int]) -> list[Appended] | None:
        counts, numbers = numbered(drafts)
        rows = (await self._database.run(list(_calls(drafts, expected, counts, numbers))))[0]
        if not rows:
            return None
        before = {stream: head - counts[stream] for stream, head, _, _ in rows}
        return appended(drafts, numbers, before, Place(*rows[0][2:]))

    async def _why(self, drafts: list[Draft], expected: dict[str, int]) -> tuple[list[Appended] | None, dict[str, int]]:
        """Return the first results of ids that are known, and the heads; make the clock of a tenant that has none."""
        ids = [draft.event_id for draft in drafts if draft.given]
        known, heads, _ = await self._database.run(
            [
                (_QUERIES["known"], {"event_ids": ids}),
                (_QUERIES["heads"], {"streams": list(expected)}),
                (_QUERIES["make_clock"], {}),
            ]
        )
        found: dict[UUID, Appended] = {row[0]: Appended(*row) for row in known}
        return first_results(drafts, found), dict.fromkeys(expected, 0) | dict(heads)


def _calls(drafts: list[Draft], expected: dict[str, int], counts: dict[str, int], numbers: list[int]) -> Iterator[Call]:
    """Split a batch into statements of a bounded size, which say once what all its events share."""
    total = len(drafts)
    yield (
        _TAKE[bool(expected)],
        {
            "total": total,
            "streams": list(counts),
            "counts": list(counts.values()),
            "expected": [expected.get(stream, -1) for stream in counts],
        },
    )
    ids, given, types, streams, correlations, occurred, languages, payloads = zip(*drafts, strict=True)
    several = len(counts) > 1
    shared = {"total": total, "type": types[0], "correlation": correlations[0], "language": languages[0]}
    shared["stream"] = None if several else streams[0]
    columns: dict[str, Sequence[Any]] = {"event_ids": ids, "payloads": payloads}
    optional = {
        "types": None if _alike(types) else types,
        "correlations": None if _alike(correlations) else correlations,
        "occurred": None if occurred.count(None) == total else occurred,
        "languages": None if _alike(languages) else languages,
    }
    write = _QUERIES["write"].variant(
        ids=False, several=several, **{column: values is not None for column, values in optional.items()}
    )
    columns |= {column: values for column, values in optional.items() if values is not None}
    for first, last in _parts(payloads):
        part = {column: values[first:last] for column, values in columns.items()}
        where: dict[str, Any] = {**shared, "done": first}
        if several:
            names = streams[first:last]
            members = {stream: member for member, stream in enumerate(dict.fromkeys(names), 1)}
            where |= {"streams": list(members), "counts": [counts[stream] for stream in members]}
            part |= {"names": names, "members": [members[stream] for stream in names], "numbers": numbers[first:last]}
        yield write, {**where, **part, "size": last - first}
        if True in given[first:last]:
            kept = [place for place in range(last - first) if given[first + place]]
            named: dict[str, Any] = {
                column: [part[column][place] for place in kept]
                for column in ("event_ids", "names", "members", "numbers")
                if column in part
            }
            yield _REMEMBER[several], {**where, **named, "places": [place + 1 for place in kept]}


def _parts(payloads: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Divide events so that no part has much more than fits into a statement."""
    first, size = 0, 0
    for place, payload in enumerate(payloads, 1):
        size += len(payload)
        if size >= _STATEMENT_BYTES or place - first == _STATEMENT_EVENTS:
            yield first, place
            first, size = place, 0
    if first < len(payloads):
        yield first, len(payloads)


def _alike(values: Sequence[str]) -> bool:
    return values.count(values[0]) == len(values)


def _selected(selection: Selection, after: Place | None, limit: int) -> tuple[Query, dict[str, Any]]:
    order = selection.order(after)
    query = _QUERIES["events"].variant(
        of_stream=selection.stream is not None,
        of_correlation=selection.correlation_id is not None,
        of_type=len(selection.types) == 1,
        of_types=len(selection.types) > 1,
        from_time=selection.since is not None,
        to_time=selection.until is not None,
        from_place=after is not None,
        from_place_time=after is not None and after.time != LONG_AGO,
        by_sequence=order == "sequence",
        by_timestamp=order == "timestamp",
        newest_first=selection.newest_first,
    )
    values = {
        "stream": selection.stream,
        "after_sequence": selection.after_sequence,
        "before_sequence": selection.before_sequence,
        "correlation_id": selection.correlation_id,
        "event_type": selection.types[0] if selection.types else None,
        "types": list(selection.types),
        "since": selection.since,
        "until": selection.until,
        "after": None if after is None else after.position,
        "after_time": None if after is None else after.time,
        "most": limit,
    }
    return query, values
