"""What callers of the graph give, checked before any I/O: raises ``InvalidInput`` for what no backend could keep; pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from storagelib import documents
from storagelib.clocks import FOREVER
from storagelib.components.graph import (
    DEPTH_MAX,
    Direction,
    EntityDraft,
    Moment,
    NewEntity,
    NewRelationship,
    Note,
    RelationshipDraft,
    Span,
    Walk,
    Wanted,
    embedding_bytes,
)
from storagelib.documents import Document, check_metadata
from storagelib.errors import InvalidInput
from storagelib.filters import parse
from storagelib.identifiers import uuid7
from storagelib.limits import (
    NAME_MAX,
    check_batch,
    check_integer,
    check_one_of,
    check_text,
    check_time,
)

__all__ = [
    "REASON_MAX",
    "SOURCES_MAX",
    "Embedding",
    "check_depth",
    "check_direction",
    "check_id",
    "check_ids",
    "check_known",
    "check_span",
    "check_types",
    "check_valid",
    "check_walk",
    "check_wanted",
    "entity_draft",
    "moment_of",
    "note_of",
    "relationship_draft",
]

REASON_MAX: Final = 500
"""Characters of a reason."""
SOURCES_MAX: Final = 100
"""Sources of one transaction, each of 1 to 500 characters."""
Embedding = Iterable[float] | Literal["keep"] | None
"""An embedding, None to have none, or ``"keep"`` to leave the one that is there."""

_DIRECTIONS: Final[dict[str, Direction]] = {"out": "out", "in": "in", "both": "both"}


def check_id(name: str, value: object) -> UUID:
    """Return an id given as UUID or as its text."""
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    raise InvalidInput("the argument cannot be used", [f"{name}: must be a UUID"])


def check_ids(name: str, values: Iterable[UUID | str]) -> list[UUID]:
    """Return up to 100,000 ids, once each, in their order."""
    return list(dict.fromkeys(check_id(name, value) for value in check_batch(name, values)))


def check_valid(valid_from: datetime | None, valid_to: datetime | None) -> tuple[datetime | None, datetime]:
    """Return a half-open range of valid time; None is now, and until further notice."""
    start = None if valid_from is None else check_time("valid_from", valid_from)
    end = FOREVER if valid_to is None else check_time("valid_to", valid_to)
    if start is not None and start >= end:
        raise InvalidInput("the range is empty", ["valid_to: is not after valid_from"])
    return start, end


def check_known(known: int | datetime | None) -> int | datetime | None:
    """Return a point of transaction time: a counter from 0, a moment, or None for the present."""
    if known is None:
        return None
    if isinstance(known, datetime):
        return check_time("tx", known)
    return check_integer("tx", known, least=0)


def moment_of(valid: datetime | None, tx: int | datetime | None) -> Moment:
    """Return a checked point of both times."""
    return Moment(None if valid is None else check_time("valid", valid), check_known(tx))


def check_span(
    valid_from: datetime | None, valid_to: datetime | None, recorded_from: datetime | None, recorded_to: datetime | None
) -> Span:
    """Return checked ranges of both times; an empty one is refused."""
    valid = _range("valid", valid_from, valid_to)
    return Span(*valid, *_range("recorded", recorded_from, recorded_to))


def _range(name: str, start: datetime | None, end: datetime | None) -> tuple[datetime | None, datetime | None]:
    start = None if start is None else check_time(f"{name}_from", start)
    end = None if end is None else check_time(f"{name}_to", end)
    if start is not None and end is not None and start >= end:
        raise InvalidInput("the range is empty", [f"{name}_to: is not after {name}_from"])
    return start, end


def note_of(actor: str | None, reason: str | None, sources: Iterable[str]) -> Note:
    """Return what a writer says about a write."""
    listed = check_batch("sources", sources)
    if len(listed) > SOURCES_MAX:
        raise InvalidInput(
            "the argument cannot be used", [f"sources: has {len(listed)} items, at most {SOURCES_MAX} fit"]
        )
    for source in listed:
        check_text("sources", source, most=NAME_MAX)
    return Note(
        None if actor is None else check_text("actor", actor),
        None if reason is None else check_text("reason", reason, most=REASON_MAX),
        documents.encode(list(dict.fromkeys(listed))),
    )


def entity_draft(item: object) -> EntityDraft:
    """Return a checked entity."""
    if not isinstance(item, NewEntity):
        raise InvalidInput("the argument cannot be used", [f"entities: must be NewEntity, not {type(item).__name__}"])
    start, end = check_valid(item.valid_from, item.valid_to)
    return EntityDraft(
        uuid7() if item.entity_id is None else check_id("entity_id", item.entity_id),
        item.entity_id is not None,
        check_text("type", item.type),
        check_text("name", item.name, most=NAME_MAX),
        check_metadata(item.properties, "properties"),
        start,
        end,
        None if item.embedding is None else embedding_bytes("embedding", item.embedding),
    )


def relationship_draft(item: object) -> RelationshipDraft:
    """Return a checked relationship."""
    if not isinstance(item, NewRelationship):
        raise InvalidInput(
            "the argument cannot be used", [f"relationships: must be NewRelationship, not {type(item).__name__}"]
        )
    start, end = check_valid(item.valid_from, item.valid_to)
    return RelationshipDraft(
        uuid7() if item.relationship_id is None else check_id("relationship_id", item.relationship_id),
        item.relationship_id is not None,
        check_id("from_entity", item.from_entity),
        check_id("to_entity", item.to_entity),
        check_text("type", item.type),
        check_metadata(item.properties, "properties"),
        start,
        end,
    )


def check_types(types: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the types of relationships to follow, sorted and once each; None follows all."""
    if types is None:
        return None
    listed = [types] if isinstance(types, str) else check_batch("types", types)
    return tuple(sorted({check_text("types", each) for each in listed}))


def check_direction(direction: object) -> Direction:
    """Return a direction."""
    return _DIRECTIONS[check_one_of("direction", direction, _DIRECTIONS)]


def check_walk(direction: object, types: str | Iterable[str] | None, fanout: int | None = None) -> Walk:
    """Return how to walk."""
    most = None if fanout is None else check_integer("fanout", fanout, least=1)
    return Walk(check_direction(direction), check_types(types), most)


def check_depth(depth: object) -> int:
    """Return a number of hops, 1 to 32."""
    return check_integer("depth", depth, least=1, most=DEPTH_MAX)


def check_wanted(
    type: str | None = None,  # noqa: A002 - what the graph calls it
    name: str | None = None,
    prefix: str | None = None,
    where: Document | None = None,
) -> Wanted:
    """Return what a search asks of entities."""
    if name is not None and prefix is not None:
        raise InvalidInput("the search cannot be made", ["prefix: goes without name"])
    return Wanted(
        None if type is None else check_text("type", type),
        None if name is None else check_text("name", name, most=NAME_MAX),
        None if prefix is None else check_text("prefix", prefix, most=NAME_MAX),
        None if where is None else parse(where),
    )
