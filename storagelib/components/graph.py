"""The bi-temporal graph: what entities, relationships and their versions are, and how a revision splits valid time.

Every version has two ranges, both half-open. *Valid time* is when it is true in the world; the caller says. *Transaction
time* is when the store believed it, counted by the tenant's clock; nobody can change it.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

from storagelib import documents
from storagelib.clocks import FOREVER
from storagelib.documents import Json
from storagelib.errors import InvalidInput
from storagelib.filters import Filter
from storagelib.limits import DIMENSION_MAX, INTEGER_MAX, NAME_MAX
from storagelib.records import maker

__all__ = [
    "CURRENT",
    "CURRENT_MOMENT",
    "DEPTH_MAX",
    "RANKS",
    "Added",
    "Change",
    "ChangePosition",
    "Difference",
    "Direction",
    "Entity",
    "EntityDraft",
    "Kind",
    "Link",
    "Match",
    "Moment",
    "Neighbour",
    "NewEntity",
    "NewRelationship",
    "Note",
    "Path",
    "Reached",
    "Receipt",
    "Relationship",
    "RelationshipDraft",
    "Revised",
    "Revision",
    "Span",
    "Tick",
    "Transaction",
    "Traversal",
    "Walk",
    "Wanted",
    "arm_start",
    "content",
    "embedding_bytes",
    "embedding_hash",
    "entity",
    "erased_hash",
    "make_entity",
    "make_reached",
    "make_relationship",
    "prefix_end",
    "relationship",
    "revised",
]

Kind = Literal["entity", "relationship"]
Direction = Literal["out", "in", "both"]
"""Along relationships, against them, or either."""

CURRENT: Final = INTEGER_MAX
"""What ``tx_to`` holds while a version is current."""
DEPTH_MAX: Final = 32
"""Hops of one traversal or path."""

Subject = TypeVar("Subject")


@dataclass(frozen=True, slots=True)
class Entity:
    """One version of an entity."""

    entity_id: UUID
    """The entity, over all its versions."""
    type: str
    """Kind of entity."""
    name: str
    """Its name."""
    properties: Mapping[str, Json]
    """Its properties."""
    valid_from: datetime
    """When this begins to be true in the world; ``LONG_AGO`` for always."""
    valid_to: datetime | None
    """When it ends to be true, exclusive; None until further notice."""
    tx: int
    """The transaction that recorded this version; ``expected_tx`` compares it."""
    recorded_at: datetime
    """When that was."""
    superseded_by: int | None
    """The transaction that ended the belief in it; None while it is current."""
    superseded_at: datetime | None
    """When that was."""
    embedding_hash: bytes | None = None
    """Names the embedding of this version."""


@dataclass(frozen=True, slots=True)
class Relationship:
    """One version of a relationship."""

    relationship_id: UUID
    """The relationship, over all its versions."""
    from_entity: UUID
    """Where it starts."""
    to_entity: UUID
    """Where it leads."""
    type: str
    """Kind of relationship."""
    properties: Mapping[str, Json]
    """Its properties."""
    valid_from: datetime
    """When this begins to be true in the world; ``LONG_AGO`` for always."""
    valid_to: datetime | None
    """When it ends to be true, exclusive; None until further notice."""
    tx: int
    """The transaction that recorded this version; ``expected_tx`` compares it."""
    recorded_at: datetime
    """When that was."""
    superseded_by: int | None
    """The transaction that ended the belief in it; None while it is current."""
    superseded_at: datetime | None
    """When that was."""


@dataclass(frozen=True, slots=True)
class NewEntity:
    """An entity to add; ``valid_from`` None is now, ``valid_to`` None is until further notice."""

    type: str
    name: str
    properties: Mapping[str, Json] | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    entity_id: UUID | str | None = None
    embedding: Iterable[float] | None = None


@dataclass(frozen=True, slots=True)
class NewRelationship:
    """A relationship to add; ``valid_from`` None is now, ``valid_to`` None is until further notice."""

    from_entity: UUID | str
    to_entity: UUID | str
    type: str
    properties: Mapping[str, Json] | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    relationship_id: UUID | str | None = None


@dataclass(frozen=True, slots=True)
class EntityDraft:
    """A checked entity: JSON as canonical text, ``FOREVER`` for no end; ``given`` when the caller chose the id."""

    entity_id: UUID
    given: bool
    type: str
    name: str
    properties: str
    valid_from: datetime | None
    valid_to: datetime
    embedding: bytes | None


@dataclass(frozen=True, slots=True)
class RelationshipDraft:
    """A checked relationship: JSON as canonical text, ``FOREVER`` for no end; ``given`` when the caller chose the id."""

    relationship_id: UUID
    given: bool
    from_entity: UUID
    to_entity: UUID
    type: str
    properties: str
    valid_from: datetime | None
    valid_to: datetime


@dataclass(frozen=True, slots=True)
class Note:
    """What a writer says about a write: ``sources`` is a JSON array as text."""

    actor: str | None = None
    reason: str | None = None
    sources: str = "[]"

    @property
    def said(self) -> bool:
        """Whether there is anything to keep."""
        return self.actor is not None or self.reason is not None or self.sources != "[]"


class Tick(NamedTuple):
    """One transaction of the tenant's clock."""

    tx: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Added:
    """What adding did: a tick, or why nothing happened."""

    tick: Tick | None
    taken: tuple[UUID, ...] = ()
    """Ids that exist already."""
    missing: tuple[UUID, ...] = ()
    """Ends of relationships that do not exist."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A change of what is known of one entity or relationship over ``[valid_from, valid_to)``; from None is now.

    ``correct`` states what is true there whatever was known; ``amend`` changes what is known there and nothing else;
    ``retract`` withdraws it; ``retire`` withdraws everything, with an entity's relationships.
    None in ``type``, ``name`` and ``properties`` leaves the old.
    """

    kind: Kind
    subject: UUID
    mode: Literal["correct", "amend", "retract", "retire"]
    valid_from: datetime | None = None
    valid_to: datetime = FOREVER
    expected_tx: int | None = None
    type: str | None = None
    name: str | None = None
    properties: str | None = None
    merge: bool = False
    """Whether ``properties`` are laid over the old ones instead of replacing them."""
    embedding: bytes | None = None
    keeps_embedding: bool = True
    """Whether the old embedding stays when none is given."""


@dataclass(frozen=True, slots=True)
class Revised:
    """What a revision did; without a tick nothing, and the rest tells why."""

    latest: int
    """The newest transaction among the current versions; 0 when there are none."""
    tick: Tick | None = None
    closed: int = 0
    opened: int = 0
    relationships_closed: int = 0
    inverted: bool = False
    """Whether the range was empty, seen from now."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write did."""

    tx: int
    """The transaction."""
    at: datetime
    """When it was recorded."""
    closed: int
    """Versions that it ended."""
    opened: int
    """Versions that it made."""
    relationships_closed: int = 0
    """Relationship versions that ended with their entity."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of both times. ``valid`` None is now; ``tx`` is a counter, a time, or None for what is current."""

    valid: datetime | None = None
    tx: int | datetime | None = None


CURRENT_MOMENT: Final = Moment()


@dataclass(frozen=True, slots=True)
class Span:
    """Ranges of both times, half-open; None is unbounded."""

    valid_from: datetime | None = None
    valid_to: datetime | None = None
    recorded_from: datetime | None = None
    recorded_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search asks of entities; None asks nothing."""

    type: str | None = None
    name: str | None = None
    prefix: str | None = None
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """How a traversal goes: ``types`` None for all, ``fanout`` None for every relationship of an entity."""

    direction: Direction
    types: tuple[str, ...] | None
    fanout: int | None = None


class Link(NamedTuple):
    """One step of a walk: from an entity, over a relationship, to an entity that is visible."""

    near: UUID
    far: UUID
    relationship_id: UUID


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A relationship and the entity at its other end."""

    relationship: Relationship
    entity: Entity


@dataclass(frozen=True, slots=True)
class Reached:
    """An entity that a traversal came to, by the fewest hops."""

    entity: Entity
    depth: int
    """Hops from the start."""
    path: tuple[Relationship, ...] = field(repr=False)
    """The relationships from the start to it."""


@dataclass(frozen=True, slots=True)
class Traversal:
    """What a traversal came to, nearest first and by id within a depth."""

    start: Entity
    reached: tuple[Reached, ...]
    complete: bool
    """Whether ``limit`` left nothing out."""

    def __iter__(self) -> Iterator[Reached]:
        """Go through what was reached, nearest first."""
        return iter(self.reached)

    def __len__(self) -> int:
        """Count what was reached, without the start."""
        return len(self.reached)


@dataclass(frozen=True, slots=True)
class Path:
    """A shortest way between two entities: ``entities`` has one more than ``relationships``."""

    entities: tuple[Entity, ...]
    relationships: tuple[Relationship, ...]

    @property
    def hops(self) -> int:
        """How many relationships it takes."""
        return len(self.relationships)


@dataclass(frozen=True, slots=True)
class Match:
    """An entity and how near its embedding is: 1 the same direction, 0 across, -1 opposite."""

    entity: Entity
    score: float


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction that touched a subject, with what its writer said."""

    tx: int
    at: datetime
    actor: str | None
    reason: str | None
    sources: tuple[str, ...]
    """Ids of what it was learned from."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a transaction did, in the order in which a copy has to repeat them."""

    tx: int
    at: datetime
    action: Literal["closed", "opened", "erased"]
    kind: Kind
    version: Entity | Relationship | None
    """The version that was made or ended; None where an entity was erased."""
    erased_hash: bytes | None = None
    """SHA-256 of the erased entity's id, as text."""


class ChangePosition(NamedTuple):
    """Where in the changes a page ended."""

    tx: int
    rank: int
    subject: UUID
    valid_from: datetime


@dataclass(frozen=True, slots=True)
class Difference(Generic[Subject]):
    """What two views say of one subject; None where a view does not see it."""

    before: Subject | None
    after: Subject | None


make_entity: Final = maker(Entity)
make_relationship: Final = maker(Relationship)
make_reached: Final = maker(Reached)

RANKS: Final[tuple[tuple[Literal["closed", "opened", "erased"], Kind], ...]] = (
    ("closed", "relationship"),
    ("closed", "entity"),
    ("opened", "entity"),
    ("opened", "relationship"),
    ("erased", "entity"),
)
"""Within one transaction a copy ends versions first, and adds entities before what leads to them."""
_LAST_LETTER: Final = "\U0010ffff"
_SURROGATES_FROM: Final = 0xD800
_AFTER_SURROGATES: Final = "\ue000"
_LAST_ID: Final = UUID(int=2**128 - 1)


def arm_start(after: ChangePosition, rank: int) -> ChangePosition:
    """Return the position after which the changes of one rank go on, when all of them went on after ``after``."""
    if rank == after.rank:
        return after
    tx = after.tx if rank < after.rank else after.tx - 1
    return ChangePosition(tx, rank, _LAST_ID, FOREVER)


def entity(row: tuple[Any, ...]) -> Entity:
    """Make an entity of a row: id, type, name, properties, valid range, tx_from, tx_to, transaction times, embedding."""
    subject, kind, name, properties, valid_from, valid_to, tx_from, tx_to, recorded, superseded, embedding = row
    return make_entity(
        subject,
        kind,
        name,
        documents.decode(properties) if properties != "{}" else {},
        valid_from,
        None if valid_to == FOREVER else valid_to,
        tx_from,
        recorded,
        None if tx_to == CURRENT else tx_to,
        None if tx_to == CURRENT else superseded,
        embedding,
    )


def relationship(row: tuple[Any, ...]) -> Relationship:
    """Make a relationship of a row: id, ends, type, properties, valid range, tx_from, tx_to, transaction times."""
    subject, near, far, kind, properties, valid_from, valid_to, tx_from, tx_to, recorded, superseded = row
    return make_relationship(
        subject,
        near,
        far,
        kind,
        documents.decode(properties) if properties != "{}" else {},
        valid_from,
        None if valid_to == FOREVER else valid_to,
        tx_from,
        recorded,
        None if tx_to == CURRENT else tx_to,
        None if tx_to == CURRENT else superseded,
    )


def content(version: Entity | Relationship) -> tuple[Any, ...]:
    """Return what a version says, without when: what two views are compared by."""
    said = json.dumps(version.properties, sort_keys=True)
    if isinstance(version, Entity):
        return (version.type, version.name, said, version.embedding_hash)
    return (version.from_entity, version.to_entity, version.type, said)


def revised(
    current: Iterable[Mapping[str, Any]], revision: Revision, start: Any, end: Any
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]]]:
    """Return which current rows a revision of ``[start, end)`` ends, and the rows that it makes.

    Rows are mappings with the SQL columns; times are of any one type that compares. Made rows lack their transaction.
    """
    every = list(current)
    if revision.mode == "retire":
        return every, []
    ended = [row for row in every if row["valid_time_start"] < end and row["valid_time_end"] > start]
    made: list[dict[str, Any]] = []
    for row in ended:
        if row["valid_time_start"] < start:
            made.append({**row, "valid_time_end": start})
        if row["valid_time_end"] > end:
            made.append({**row, "valid_time_start": end})
        if revision.mode == "amend":
            bounds = {
                "valid_time_start": max(row["valid_time_start"], start),
                "valid_time_end": min(row["valid_time_end"], end),
            }
            made.append({**_changed(row, revision), **bounds})
    if revision.mode == "correct":
        made.append({**_changed(every[-1], revision), "valid_time_start": start, "valid_time_end": end})
    return ended, made


def _changed(row: Mapping[str, Any], revision: Revision) -> dict[str, Any]:
    fresh = dict(row)
    if revision.type is not None:
        fresh[f"{revision.kind}_type"] = revision.type
    if revision.properties is not None:
        fresh["properties"] = revision.properties
        if revision.merge:
            both = {**documents.decode(row["properties"]), **documents.decode(revision.properties)}
            fresh["properties"] = documents.encode(both)
    if revision.kind == "entity":
        if revision.name is not None:
            fresh["name"] = revision.name
        if revision.embedding is not None or not revision.keeps_embedding:
            fresh["embedding_hash"] = embedding_hash(revision.embedding)
    return fresh


def embedding_bytes(name: str, value: object) -> bytes:
    """Return an embedding, 1 to 16,000 finite numbers that are not all 0, as little-endian float32.

    >>> embedding_bytes("embedding", [1.0, 0.5]).hex()
    '0000803f0000003f'
    """
    try:
        floats: array[float] = array("f", () if isinstance(value, bytes | bytearray) else iter(value))  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be numbers that fit float32"]) from None
    if not 1 <= len(floats) <= DIMENSION_MAX:
        raise InvalidInput("the argument cannot be used", [f"{name}: must have 1 to {DIMENSION_MAX} numbers"])
    if not all(map(math.isfinite, floats)) or not math.hypot(*floats):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be finite numbers, not all of them 0"])
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def embedding_hash(embedding: bytes | None) -> bytes | None:
    """Return the name under which an embedding is kept."""
    return None if embedding is None else sha256(embedding).digest()


def prefix_end(prefix: str) -> str:
    """Return the least text after all that begin with a prefix, in the order of code points.

    >>> prefix_end("ab")
    'ac'
    """
    kept = prefix.rstrip(_LAST_LETTER)
    if not kept:
        # Longer than any name made of nothing but the last letter.
        return _LAST_LETTER * (NAME_MAX + 1)
    following = ord(kept[-1]) + 1
    # What follows are surrogates, which are no letters.
    return kept[:-1] + (_AFTER_SURROGATES if following == _SURROGATES_FROM else chr(following))


def erased_hash(entity_id: UUID) -> bytes:
    """Return what stays of the id of an erased entity."""
    return sha256(str(entity_id).encode()).digest()
