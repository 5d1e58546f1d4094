"""Sessions and their messages: records, what a session's status is at a moment, and what a message weighs.

A session keeps its messages in threads: it appends to one of its own, and sees before it the beginnings of the threads
it was branched from. A branch therefore copies nothing, and a message lives as long as any session sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from storagelib import documents
from storagelib.documents import Json
from storagelib.errors import Conflict, NotFound
from storagelib.records import maker

__all__ = [
    "COLUMNS",
    "MESSAGE_COLUMNS",
    "STATUSES",
    "Draft",
    "Expiry",
    "Message",
    "NewMessage",
    "NewSession",
    "Reading",
    "Session",
    "Status",
    "Update",
    "check_active",
    "check_branch",
    "check_version",
    "distinct",
    "merged",
    "message",
    "session",
    "status_of",
    "weight",
]

Row = Mapping[str, Any]
Status = Literal["active", "archived", "expired"]
STATUSES: Final[tuple[Status, ...]] = ("active", "archived", "expired")

COLUMNS: Final = (
    "session_id",
    "session_data",
    "metadata",
    "status",
    "data_version",
    "message_count",
    "last_sequence",
    "artifact_count",
    "parent_id",
    "branched_at",
    "expires_at",
    "last_accessed_at",
    "created_at",
    "updated_at",
)
"""The columns that a session's record is made of, in this order."""
MESSAGE_COLUMNS: Final = ("sequence", "role", "content", "tokens", "idempotency_key", "metadata", "created_at")
"""The columns that a message's record is made of, in this order."""

_CHARACTERS_A_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it was read."""

    session_id: str
    """Its id."""
    data: Mapping[str, Json]
    """What the caller keeps in it."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    status: Status
    """``active``, ``archived``, or ``expired`` from the moment on at which it expires."""
    version: int
    """Grows when data, metadata or status are changed; messages have numbers of their own."""
    message_count: int
    """How many messages it has."""
    last_sequence: int
    """Number of the message that was appended last, be it removed since; 0 before the first."""
    artifact_count: int
    """How many artifacts it has, as far as their store keeps count."""
    parent_id: str | None
    """The session it was branched from."""
    branched_at: int | None
    """Number of the last message that it took over from there."""
    expires_at: datetime | None
    """When it expires."""
    last_accessed_at: datetime
    """When it was last written or touched; reading writes nothing."""
    created_at: datetime
    """When it was created."""
    updated_at: datetime
    """When data, metadata or status last changed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it was read."""

    sequence: int
    """Its number in the session, from 1 on; concurrent appends leave no gap, and no number is given twice."""
    role: str
    """Who speaks."""
    content: Json
    """What is said."""
    tokens: int | None
    """How many tokens it has, when the caller said so."""
    idempotency_key: str | None
    """What made it unique."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    created_at: datetime
    """When it was appended."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to append."""

    role: str
    """Who speaks: 1 to 255 characters."""
    content: Json
    """What is said: any JSON value."""
    tokens: int | None = None
    """How many tokens it has; None has windows estimate them from its length."""
    idempotency_key: str | None = None
    """An append that is repeated with the same key gives the first message instead of a second one."""
    metadata: Mapping[str, Json] | None = None
    """Up to 1 MiB of JSON beside it."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """One message to append, checked: ``content`` and ``metadata`` are canonical JSON text."""

    role: str
    content: str
    tokens: int | None
    weight: int
    key: str | None
    metadata: str


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a session expires: in ``ttl`` seconds from now, or at a moment; neither is never."""

    ttl: float | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewSession:
    """One new session, checked: ``data`` and ``metadata`` are canonical JSON text; None takes a branch's parent's."""

    session_id: str
    data: str | None
    metadata: str | None
    expiry: Expiry


@dataclass(frozen=True, slots=True)
class Update:
    """One change, checked: canonical JSON text; None keeps what is there; ``merge`` keeps the keys not given, too."""

    data: str | None
    metadata: str | None
    merge: bool
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """Which messages are read: numbers above ``after`` and below ``before``, from one end, of one role or any."""

    after: int
    before: int
    limit: int
    newest_first: bool = False
    role: str | None = None


_SESSION: Final = maker(Session)
_MESSAGE: Final = maker(Message)


def status_of(found: Row, now: Any) -> Status:
    """Return what a stored session is at a moment; it expires by itself, and then nothing but removal is left."""
    status: Status = found["status"]
    expired = status == "active" and found["expires_at"] is not None and found["expires_at"] <= now
    return "expired" if expired else status


def check_active(session_id: str, status: str | None) -> None:
    """Raise ``NotFound`` for a session that is not there (status None), ``Conflict`` unless it is active."""
    if status is None:
        raise NotFound(f"there is no session {session_id!r}")
    if status != "active":
        raise Conflict(f"the session is {status}")


def check_version(found: int, expected: int | None) -> None:
    """Raise ``Conflict`` unless the session has the version that is expected, if any is."""
    if expected is not None and found != expected:
        raise Conflict(f"the session has version {found}, not {expected}")


def check_branch(session_id: str, last_sequence: int | None, at: int | None) -> int:
    """Return the number of the last message that a branch takes over; raise ``NotFound`` when there is none so high."""
    if last_sequence is None:
        raise NotFound(f"there is no session {session_id!r}")
    if at is not None and at > last_sequence:
        raise NotFound(f"the session has {last_sequence} numbered messages, none has number {at}")
    return last_sequence if at is None else at


def merged(before: str, after: str) -> str:
    """Return an object's text with the keys of another laid over it.

    >>> merged('{"a":1,"b":2}', '{"b":3}')
    '{"a":1,"b":3}'
    """
    return documents.encode({**documents.decode(before), **documents.decode(after)})


def weight(tokens: int | None, content: str) -> int:
    """Return what a message counts in a window: its tokens, or one for every four characters of its JSON text.

    >>> weight(7, '"hello"'), weight(None, '"hello"')
    (7, 2)
    """
    return -(-len(content) // _CHARACTERS_A_TOKEN) if tokens is None else tokens


def distinct(messages: Iterable[NewMessage]) -> tuple[list[NewMessage], list[int]]:
    """Return the messages without those that repeat an earlier one's key, and for each given one its place in them."""
    kept: list[NewMessage] = []
    places: list[int] = []
    known: dict[str, int] = {}
    for item in messages:
        place = len(kept) if item.key is None else known.setdefault(item.key, len(kept))
        if place == len(kept):
            kept.append(item)
        places.append(place)
    return kept, places


def session(row: Sequence[Any]) -> Session:
    """Make a session of a row in the order of ``COLUMNS``: JSON as text, times as moments, the status of the moment."""
    session_id, data, metadata, *rest = row
    return _SESSION(session_id, documents.decode(data), documents.decode(metadata), *rest)


def message(row: Sequence[Any]) -> Message:
    """Make a message of a row in the order of ``MESSAGE_COLUMNS``: JSON as text, times as moments."""
    sequence, role, content, tokens, key, metadata, created_at = row
    return _MESSAGE(sequence, role, documents.decode(content), tokens, key, documents.decode(metadata), created_at)
