"""Append-only events: streams with versions, reads in commit order, subscriptions that resume."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from itertools import chain, repeat
from typing import Final, Protocol
from uuid import UUID

from storagelib.blocking import async_sleep
from storagelib.components.events import (
    BEGINNING,
    Appended,
    Batch,
    Consumer,
    Draft,
    Event,
    NewEvent,
    Place,
    Selection,
    Statistics,
    Stream,
)
from storagelib.documents import Json, check_document
from storagelib.errors import Conflict, InvalidInput
from storagelib.identifiers import uuid7s
from storagelib.limits import (
    BATCH_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    VALUE_BYTES_MAX,
    check_batch,
    check_flag,
    check_integer,
    check_mapping,
    check_page_size,
    check_text,
    check_time,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["AsyncEvents", "AsyncEventsBackend"]

_LANGUAGE_MAX: Final = 50
_REASON_MAX: Final = 500
_POLL_MAX: Final = 3600.0
_TYPES_MAX: Final = 1000
# So many ids are made at a time.
_IDS: Final = 1000


class AsyncEventsBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    Every append takes its positions and times from the tenant's clock while it holds it, so that both grow in the order
    of the commits, and no event ever appears behind one that was seen.
    """

    async def append(self, drafts: list[Draft], expected: dict[str, int]) -> list[Appended] | dict[str, int]:
        """Append all or none, in this order, to the streams that they name.

        ``expected`` has the heads that streams must have, 0 for a new one; when one has another, nothing is changed and
        the heads of the streams in ``expected`` are returned. Ids that were ``given`` are remembered: see
        ``first_results``, which comes before any expectation.
        """
        ...

    async def events(self, selection: Selection, after: Place | None, limit: int) -> list[Event]:
        """Return up to ``limit`` events after a place in the selection's order, which is the one of their positions."""
        ...

    async def follow(self, types: tuple[str, ...], after: Place, limit: int) -> Batch:
        """Return up to ``limit`` events after a place, oldest first, and the place that was reached.

        With ``limit`` events that is the last one's, with fewer the clock's, read before the events.
        """
        ...

    async def end(self) -> Place:
        """Return the tenant's clock: the last position given and its time; ``BEGINNING`` before the first."""
        ...

    async def head(self, stream: str) -> int:
        """Return the sequence of a stream's last event, or 0."""
        ...

    async def streams(self, prefix: str, after: str | None, limit: int) -> list[Stream]:
        """Return up to ``limit`` streams greater than ``after``, in order of their code points."""
        ...

    async def statistics(self) -> Statistics:
        """Count what is there, in one snapshot."""
        ...

    async def checkpoint(self, consumer: str, position: int, rewind: bool) -> int | None:
        """Keep a consumer's position unless a greater one is kept (``rewind`` keeps it anyway); return what is kept.

        None, and nothing is kept, when no event has that position yet.
        """
        ...

    async def position(self, consumer: str) -> int:
        """Return a consumer's position, or 0."""
        ...

    async def consumers(self, after: str | None, limit: int) -> list[Consumer]:
        """Return up to ``limit`` consumers greater than ``after``, in order of their code points."""
        ...

    async def forget_consumer(self, consumer: str) -> bool:
        """Remove a consumer's position; tell whether there was one."""
        ...

    async def forget_ids(self, before: datetime, limit: int) -> int:
        """Forget up to ``limit`` given ids of events recorded before a time; count them."""
        ...

    async def erase_stream(self, stream: str, reason: str) -> int:
        """Remove a stream's events and their given ids, keep its head, leave a trace; count the events."""
        ...


class AsyncEvents:
    """The event log of one tenant: appended to, read and subscribed to; never changed.

    Within a stream events are numbered 1, 2, 3 … without gaps. Over all streams ``position`` grows in the order of the
    commits: once an event was seen, none appears before it. A graph store on the same database takes its numbers from the
    same clock, so that positions of events alone may jump. An append either wrote everything or nothing.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         events = store.for_tenant("acme").events
    ...         await events.append("order.placed", {"item": 7}, stream="order-1", expected_version=0)
    ...         await events.append("order.paid", {"sum": 12}, stream="order-1")
    ...         async for event in events.subscribe(consumer="mailer", follow=False):
    ...             print(event.position, event.event_type, event.payload)
    ...             await events.checkpoint("mailer", event.position)
    >>> asyncio.run(example())
    1 order.placed {'item': 7}
    2 order.paid {'sum': 12}
    """

    def __init__(self, backend: AsyncEventsBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    async def append(
        self,
        event_type: str,
        payload: Json = None,
        *,
        stream: str | None = None,
        correlation_id: str | None = None,
        expected_version: int | None = None,
        occurred_at: datetime | None = None,
        language: str = "python",
        event_id: UUID | str | None = None,
    ) -> Appended:
        """Append one event and tell where it went.

        ``payload`` is any JSON value. Without a stream the event goes to the one of its correlation id, which is a new
        one when it is not given. ``expected_version`` is the sequence that the stream's last event must have, 0 for a
        stream without events; ``Conflict`` otherwise, and nothing is written. An ``event_id`` that was appended to the
        same stream before returns the first result and writes nothing, whatever is expected; in another stream it is
        ``AlreadyExists``. Raises ``Unavailable`` while no partition takes the present time.
        """
        new = NewEvent(event_type, payload, stream, correlation_id, occurred_at, language, event_id)
        (appended,) = await self._append([new], {}, expected_version)
        return appended

    async def append_many(
        self, events: Iterable[NewEvent], *, expected_versions: Mapping[str, int] | None = None
    ) -> list[Appended]:
        """Append up to 100,000 events to one or several streams, all or none; their order is kept.

        ``expected_versions`` has the sequence of the last event for streams among them, 0 for a new one; ``Conflict``
        when one differs. A batch whose ids were all appended before, each to its stream, returns the first results; when
        only some were, ``AlreadyExists``. Payloads together have at most 256 MiB.
        """
        return await self._append(
            check_batch("events", events), check_mapping("expected_versions", expected_versions), None
        )

    async def read(
        self,
        *,
        after: int = 0,
        newest_first: bool = False,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Event]:
        """Return a page of all events behind the position ``after``, in commit order, or in the reverse of it."""
        position = check_integer("after", after, least=0)
        if check_flag("newest_first", newest_first) and position:
            raise InvalidInput("the arguments do not fit together", ["after: is for reading forwards"])
        start = Place(position) if position else None
        return await self._page(Selection(newest_first=check_flag("newest_first", newest_first)), cursor, limit, start)

    async def read_stream(
        self,
        stream: str,
        *,
        after_sequence: int = 0,
        newest_first: bool = False,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Event]:
        """Return a page of one stream's events whose sequence is greater than ``after_sequence``."""
        sequence = check_integer("after_sequence", after_sequence, least=0)
        name = check_text("stream", stream)
        return await self._page(
            Selection(stream=name, after_sequence=sequence, newest_first=check_flag("newest_first", newest_first)),
            cursor,
            limit,
        )

    async def by_correlation(
        self,
        correlation_id: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Event]:
        """Return a page of the events that belong to a correlation id, recorded from ``since`` to before ``until``."""
        selection = Selection(
            correlation_id=check_text("correlation_id", correlation_id),
            since=_moment("since", since),
            until=_moment("until", until),
            newest_first=check_flag("newest_first", newest_first),
        )
        return await self._page(selection, cursor, limit)

    async def by_type(
        self,
        event_type: str | Iterable[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        newest_first: bool = False,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Event]:
        """Return a page of the events of one type, or of several, recorded from ``since`` to before ``until``."""
        types = _types([event_type] if isinstance(event_type, str) else event_type)
        if not types:
            raise InvalidInput("the argument cannot be used", ["event_type: is empty"])
        selection = Selection(
            types=types,
            since=_moment("since", since),
            until=_moment("until", until),
            newest_first=check_flag("newest_first", newest_first),
        )
        return await self._page(selection, cursor, limit)

    async def by_time(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        newest_first: bool = False,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Event]:
        """Return a page of the events recorded from ``since`` to before ``until``."""
        selection = Selection(
            since=_moment("since", since),
            until=_moment("until", until),
            newest_first=check_flag("newest_first", newest_first),
        )
        return await self._page(selection, cursor, limit)

    async def all(self) -> AsyncIterator[Event]:
        """Go through every event that is there, in commit order, and end."""
        place: Place | None = None
        while True:
            found = await self._backend.events(Selection(), place, PAGE_MAX)
            for event in found:
                yield event
            if len(found) < PAGE_MAX:
                return
            place = Place(found[-1].position, found[-1].recorded_at)

    async def subscribe(
        self,
        *,
        from_position: int | None = None,
        from_time: datetime | None = None,
        from_end: bool = False,
        consumer: str | None = None,
        types: Iterable[str] = (),
        batch: int = PAGE_DEFAULT,
        poll_seconds: float = 0.05,
        poll_seconds_max: float = 1.0,
        follow: bool = True,
    ) -> AsyncIterator[Event]:
        """Go through events in commit order, and wait for more: none is missed, none comes twice.

        It begins at the beginning, or behind ``from_position``, or with what was recorded at ``from_time`` or later, or
        with what is appended from now on (``from_end``), or behind the position that ``consumer`` kept with
        ``checkpoint``: at most one of these. ``types`` lets only events of these types through. When nothing is new it
        waits ``poll_seconds``, and each time twice as long, up to ``poll_seconds_max``. With ``follow=False`` it ends
        instead. To resume after an error or a restart, begin behind the last ``position`` that was dealt with.
        """
        check_flag("from_end", from_end)
        check_flag("follow", follow)
        if sum([from_position is not None, from_time is not None, from_end, consumer is not None]) > 1:
            raise InvalidInput(
                "the arguments do not fit together", ["from_position, from_time, from_end, consumer: give one of them"]
            )
        check_page_size(batch)
        shortest, wanted = _seconds("poll_seconds", poll_seconds), _types(types)
        wait, longest = shortest, max(_seconds("poll_seconds_max", poll_seconds_max), shortest)
        place = _start(from_position, from_time)
        if from_end:
            place = await self._backend.end()
        elif consumer is not None:
            place = Place(await self._backend.position(check_text("consumer", consumer)))
        while True:
            found = await self._backend.follow(wanted, place, batch)
            for event in found.events:
                yield event
            # What is recorded before the time that was asked for stays out, however late that time comes.
            place = Place(found.reached.position, max(found.reached.time, place.time))
            if len(found.events) == batch:
                continue
            if not follow:
                return
            wait = shortest if found.events else min(wait * 2, longest)
            await async_sleep(wait)

    async def end(self) -> int:
        """Return the last position given; events appended later have greater ones."""
        return (await self._backend.end()).position

    async def head(self, stream: str) -> int:
        """Return the sequence of a stream's last event; 0 for a stream that never had one."""
        return await self._backend.head(check_text("stream", stream))

    async def streams(self, prefix: str = "", *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Stream]:
        """Return a page of the streams whose names begin with ``prefix``, in order of their code points."""
        check_page_size(limit)
        found = await self._backend.streams(check_text("prefix", prefix, least=0), _name(cursor), limit + 1)
        return page_of(found, limit, "stream")

    async def statistics(self) -> Statistics:
        """Count events, streams and types; reads every event's type."""
        return await self._backend.statistics()

    async def checkpoint(self, consumer: str, position: int, *, rewind: bool = False) -> int:
        """Keep how far a consumer has come and return what is kept: never less than before, unless ``rewind``.

        Raises ``InvalidInput`` for a position that no event has yet.
        """
        check_flag("rewind", rewind)
        name = check_text("consumer", consumer)
        kept = await self._backend.checkpoint(name, check_integer("position", position, least=0), rewind)
        if kept is None:
            raise InvalidInput("the position cannot be kept", ["position: no event has it yet"])
        return kept

    async def position(self, consumer: str) -> int:
        """Return how far a consumer has come; 0 for one that never said."""
        return await self._backend.position(check_text("consumer", consumer))

    async def consumers(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Consumer]:
        """Return a page of the consumers that keep their position here, in order of their code points."""
        check_page_size(limit)
        return page_of(await self._backend.consumers(_name(cursor), limit + 1), limit, "consumer")

    async def forget_consumer(self, consumer: str) -> bool:
        """Forget a consumer's position; tell whether there was one."""
        return await self._backend.forget_consumer(check_text("consumer", consumer))

    async def forget_ids(self, before: datetime, *, limit: int = BATCH_MAX) -> int:
        """Forget the callers' ids of events recorded before a time, to win back space; count them.

        Appending such an id again writes a second event.
        """
        moment = check_time("before", before)
        return await self._backend.forget_ids(moment, check_integer("limit", limit, least=1, most=BATCH_MAX))

    async def erase_stream(self, stream: str, reason: str) -> int:
        """Remove every event of a stream for good, and return how many there were; a trace with the reason stays.

        The stream's name and head stay, so that no sequence is ever given twice.
        """
        name, why = check_text("stream", stream), check_text("reason", reason, most=_REASON_MAX)
        return await self._backend.erase_stream(name, why)

    async def _append(
        self, events: list[NewEvent], expected_versions: Mapping[str, int], expected_version: int | None
    ) -> list[Appended]:
        drafts = _drafts(events)
        if not drafts and not expected_versions:
            return []
        expected = {
            check_text("expected_versions", stream): check_integer("expected_versions", version, least=0)
            for stream, version in expected_versions.items()
        }
        if unknown := expected.keys() - {draft.stream for draft in drafts}:
            raise InvalidInput(
                "the arguments do not fit together", [f"expected_versions: no event goes to {min(unknown)!a}"]
            )
        if expected_version is not None:
            expected[drafts[0].stream] = check_integer("expected_version", expected_version, least=0)
        outcome = await self._backend.append(drafts, expected)
        if isinstance(outcome, list):
            return outcome
        wrong = next((name for name, head in expected.items() if outcome.get(name, 0) != head), next(iter(expected)))
        raise Conflict(f"stream {wrong!a} is at {outcome.get(wrong, 0)}, expected was {expected[wrong]}")

    async def _page(
        self, selection: Selection, cursor: str | None, limit: int, start: Place | None = None
    ) -> Page[Event]:
        check_page_size(limit)
        at = position_of(cursor, int, datetime)
        place = start if at is None else Place(*at)
        return page_of(await self._backend.events(selection, place, limit + 1), limit, "position", "recorded_at")


def _start(position: int | None, time: datetime | None) -> Place:
    if position is not None:
        return Place(check_integer("from_position", position, least=0))
    return BEGINNING if time is None else Place(0, check_time("from_time", time))


def _drafts(events: list[NewEvent]) -> list[Draft]:
    # Types, streams and languages come again and again within a batch: each one is checked once.
    types, names, languages = set[str](), set[str](), set[str]()
    drafts: list[Draft] = []
    given: set[UUID] = set()
    size = 0
    fresh = chain.from_iterable(map(uuid7s, repeat(min(len(events), _IDS))))
    for new in events:
        if not isinstance(new, NewEvent):
            raise InvalidInput("the argument cannot be used", ["events: must be NewEvent records"])
        if new.event_id is None:
            event_id = next(fresh)
        else:
            event_id = _id(new.event_id)
            if event_id in given:
                raise InvalidInput("the argument cannot be used", [f"events: {event_id} stands there twice"])
            given.add(event_id)
        correlation = str(next(fresh)) if new.correlation_id is None else new.correlation_id
        if type(correlation) is not str or correlation not in names:
            names.add(correlation := check_text("correlation_id", correlation))
        payload = check_document(new.payload, "payload")
        size += len(payload)
        kind = new.event_type
        if type(kind) is not str or kind not in types:
            types.add(kind := check_text("event_type", kind))
        stream = correlation if new.stream is None else new.stream
        if type(stream) is not str or stream not in names:
            names.add(stream := check_text("stream", stream))
        language = new.language
        if type(language) is not str or language not in languages:
            languages.add(language := check_text("language", language, most=_LANGUAGE_MAX, least=0))
        occurred_at = None if new.occurred_at is None else check_time("occurred_at", new.occurred_at)
        values = (event_id, new.event_id is not None, kind, stream, correlation, occurred_at, language, payload)
        drafts.append(tuple.__new__(Draft, values))
    if size > VALUE_BYTES_MAX:
        raise InvalidInput("the argument cannot be used", [f"events: payloads have {size} bytes, at most 256 MiB fit"])
    return drafts


def _id(value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(check_text("event_id", value))
    except ValueError:
        raise InvalidInput("the argument cannot be used", ["event_id: must be a UUID"]) from None


def _types(types: Iterable[str]) -> tuple[str, ...]:
    listed = [check_text("types", name) for name in check_batch("types", types)]
    if len(listed) > _TYPES_MAX:
        raise InvalidInput("the argument cannot be used", [f"types: has {len(listed)} items, at most {_TYPES_MAX} fit"])
    return tuple(dict.fromkeys(listed))


def _moment(name: str, value: datetime | None) -> datetime | None:
    return None if value is None else check_time(name, value)


def _name(cursor: str | None) -> str | None:
    at = position_of(cursor, str)
    return None if at is None else str(at[0])


def _seconds(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= _POLL_MAX:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be more than 0 and at most {_POLL_MAX:g} s"])
    return float(value)
