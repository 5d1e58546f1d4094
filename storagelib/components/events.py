"""Events as they are given, kept and read, and the places in a tenant's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, count, repeat
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from storagelib import documents
from storagelib.clocks import LONG_AGO
from storagelib.documents import Json
from storagelib.errors import AlreadyExists
from storagelib.limits import INTEGER_MAX
from storagelib.records import maker

__all__ = [
    "BEGINNING",
    "Appended",
    "Batch",
    "Consumer",
    "Draft",
    "Event",
    "NewEvent",
    "Place",
    "Selection",
    "Statistics",
    "Stream",
    "appended",
    "event",
    "first_results",
    "numbered",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it was read."""

    event_id: UUID
    """Its id."""
    event_type: str
    """Kind of event."""
    stream: str
    """The stream it is in."""
    sequence: int
    """Its number in the stream: 1, 2, 3 … without gaps."""
    position: int
    """Its number among everything that the tenant recorded, in the order of the commits."""
    correlation_id: str
    """What it belongs to."""
    recorded_at: datetime
    """When the storage recorded it; grows with the position."""
    occurred_at: datetime
    """When it happened, by the caller."""
    language: str
    """Language of the script that raised it."""
    payload: Json
    """The event itself: any JSON value."""


@dataclass(frozen=True, slots=True, init=False)
class NewEvent:
    """One event to append.

    Without a ``correlation_id`` it gets a new one, without a ``stream`` it goes to the stream of its correlation id,
    without ``occurred_at`` it happened when it is recorded. An ``event_id`` makes appending it again harmless.
    """

    event_type: str
    """Kind of event, 1 to 255 characters."""
    payload: Json
    """Any JSON value of up to 64 MiB."""
    stream: str | None
    """The stream, 1 to 255 characters."""
    correlation_id: str | None
    """What it belongs to, 1 to 255 characters."""
    occurred_at: datetime | None
    """When it happened."""
    language: str
    """Language of the script that raised it, up to 50 characters."""
    event_id: UUID | str | None
    """An id of the caller's, by which a second attempt is recognized."""

    def __init__(
        self,
        event_type: str,
        payload: Json = None,
        stream: str | None = None,
        correlation_id: str | None = None,
        occurred_at: datetime | None = None,
        language: str = "python",
        event_id: UUID | str | None = None,
    ) -> None:
        """Take what there is to say; through the slots themselves, in two thirds of the time that a frozen class takes."""
        _set_type(self, event_type)
        _set_payload(self, payload)
        _set_stream(self, stream)
        _set_correlation_id(self, correlation_id)
        _set_occurred_at(self, occurred_at)
        _set_language(self, language)
        _set_event_id(self, event_id)


_set_type, _set_payload, _set_stream, _set_correlation_id, _set_occurred_at, _set_language, _set_event_id = (
    NewEvent.__dict__[name].__set__ for name in NewEvent.__match_args__
)


class Draft(NamedTuple):
    """A new event, checked: ``payload`` is canonical JSON text; ``given`` tells whether the id is the caller's."""

    event_id: UUID
    given: bool
    event_type: str
    stream: str
    correlation_id: str
    occurred_at: datetime | None
    language: str
    payload: str


@dataclass(frozen=True, slots=True)
class Appended:
    """Where an event went."""

    event_id: UUID
    """Its id."""
    stream: str
    """Its stream."""
    sequence: int
    """Its number in the stream."""
    position: int
    """Its number among everything that the tenant recorded."""
    recorded_at: datetime
    """When it was recorded."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a tenant's log: right after this position; no later event was recorded before ``time``."""

    position: int
    time: datetime = LONG_AGO


BEGINNING: Final = Place(0)
"""Before the first event."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events, and in which order; everything that is given must hold. ``types`` without one means all.

    Sequences, positions and times grow together, so that any of them gives the same order.
    """

    stream: str | None = None
    after_sequence: int = 0
    before_sequence: int = INTEGER_MAX
    correlation_id: str | None = None
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = False

    def order(self, after: Place | None) -> Literal["sequence", "timestamp", "position"]:
        """Return the column whose index finds these events in their order after a place."""
        if self.stream is not None:
            return "sequence"
        bounded = self.since is not None or self.until is not None or (after is not None and after.time != LONG_AGO)
        return "timestamp" if bounded or self.correlation_id is not None or len(self.types) == 1 else "position"

    def holds(self, row: Mapping[str, Any], after: Place | None) -> bool:
        """Tell whether a row of ``event_log`` is one of them and stands after a place in their order."""
        position, time = row["position"], row["timestamp"]
        if after is not None and self.newest_first and position >= after.position:
            return False
        if after is not None and not self.newest_first and (position <= after.position or time < after.time):
            return False
        return (
            (self.stream is None or bool(row["stream"] == self.stream))
            and self.after_sequence < row["sequence"] < self.before_sequence
            and (self.correlation_id is None or row["correlation_id"] == self.correlation_id)
            and (not self.types or row["event_type"] in self.types)
            and (self.since is None or time >= self.since)
            and (self.until is None or time < self.until)
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What a subscription read: events, and the place up to which there are no others."""

    events: list[Event]
    reached: Place


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream and how far it has come."""

    stream: str
    """Its name."""
    head: int
    """The sequence of its last event, erased and dropped ones included."""
    created_at: datetime
    """When its first event was appended."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """A reader that keeps its place here."""

    consumer: str
    """Its name."""
    position: int
    """The last position it has dealt with."""
    updated_at: datetime
    """When it last said so."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a tenant's log holds now."""

    events: int
    """Number of events."""
    streams: int
    """Number of streams that ever had an event."""
    position: int
    """The last position given."""
    first_at: datetime | None
    """When the oldest kept event was recorded; None without events."""
    last_at: datetime | None
    """When the latest one was."""
    by_type: Mapping[str, int] = field(default_factory=dict)
    """Events of each of the 1,000 most frequent types, most frequent first."""


_MICROSECOND: Final = timedelta(microseconds=1)
_EVENT: Final = maker(Event)
_APPENDED: Final = maker(Appended)

EventRow = tuple[UUID, str, str, int, int, str, datetime, datetime, str, str]
"""event_id, event_type, stream, sequence, position, correlation_id, timestamp, occurred_at, language, payload as text."""


def event(row: EventRow) -> Event:
    """Make an event of a row; the payload is JSON text."""
    *same, payload = row
    return _EVENT(*same, documents.decode(payload))


def appended(
    drafts: Sequence[Draft], numbers: Sequence[int], before: Mapping[str, int], place: Place
) -> list[Appended]:
    """Tell where events went: ``before`` has the heads of their streams, ``place`` the position before and the first time.

    >>> from datetime import UTC
    >>> from storagelib.identifiers import uuid7
    >>> drafts = [Draft(uuid7(), False, "t", stream, "c", None, "python", "1") for stream in ("a", "a")]
    >>> made = appended(drafts, [1, 2], {"a": 7}, Place(40, datetime(2030, 1, 1, tzinfo=UTC)))
    >>> [(event.sequence, event.position, event.recorded_at.microsecond) for event in made]
    [(8, 41, 0), (9, 42, 1)]
    """
    streams = [draft.stream for draft in drafts]
    return list(
        map(
            _APPENDED,
            [draft.event_id for draft in drafts],
            streams,
            [before[stream] + number for stream, number in zip(streams, numbers, strict=True)],
            count(place.position + 1),
            accumulate(repeat(_MICROSECOND), initial=place.time),
        )
    )


def numbered(drafts: Sequence[Draft]) -> tuple[dict[str, int], list[int]]:
    """Return how many events each stream gets, in order of first appearance, and each event's number within its own.

    >>> from storagelib.identifiers import uuid7
    >>> drafts = [Draft(uuid7(), False, "t", stream, "c", None, "python", "1") for stream in ("a", "b", "a")]
    >>> numbered(drafts)
    ({'a': 2, 'b': 1}, [1, 1, 2])
    """
    counts: dict[str, int] = {}
    numbers = []
    for draft in drafts:
        number = counts.get(draft.stream, 0) + 1
        counts[draft.stream] = number
        numbers.append(number)
    return counts, numbers


def first_results(drafts: Sequence[Draft], known: Mapping[UUID, Appended]) -> list[Appended] | None:
    """Tell what appending these again returns: None when they are new, their first results when all are known.

    Raises ``AlreadyExists`` when only some are known, or one is known in another stream.
    """
    if not known:
        return None
    found = [known.get(draft.event_id) for draft in drafts]
    same = [
        first
        for draft, first in zip(drafts, found, strict=True)
        if first is not None and first.stream == draft.stream and draft.given
    ]
    if len(same) == len(drafts):
        return same
    taken = next(first for first in found if first is not None)
    raise AlreadyExists(f"the event {taken.event_id} was appended before, in another stream or another batch")
