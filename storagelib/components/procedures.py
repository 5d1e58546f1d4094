"""Transitions that were seen, procedures that were learned, and how far a procedure can be relied on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal
from uuid import UUID

from storagelib import documents
from storagelib.documents import Document, Json
from storagelib.records import maker

__all__ = [
    "HALF_LIFE",
    "LEARNED_FROM",
    "PRIOR_WEIGHT",
    "SCAN_MAX",
    "NewProcedure",
    "NewTransition",
    "Procedure",
    "Ranked",
    "Sketch",
    "Standing",
    "Transition",
    "Wanted",
    "confidence",
    "identity",
    "pair_of",
    "pattern_id",
    "procedure",
    "sketch",
    "standing",
    "transition",
    "value_of",
]

HALF_LIFE: Final = timedelta(days=30)
"""After this long without an outcome, what was counted weighs half."""
PRIOR_WEIGHT: Final = 2.0
"""The prior confidence counts like this many outcomes."""
LEARNED_FROM: Final = 3
"""From this frequency on a transition counts as learned, unless the caller says otherwise."""
SCAN_MAX: Final = 10_000
"""How many procedures one search looks at."""

_ARROW: Final = "->"
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of one value to another, and how often it was seen."""

    scope: str
    """Where it holds; ``""`` for everywhere."""
    key: str
    """What changed."""
    before: str
    """The value before."""
    after: str
    """The value after."""
    frequency: int
    """How often it was seen."""
    first_seen: datetime
    """When it was first seen."""
    last_seen: datetime
    """When it was last seen."""
    identity: str
    """Digests of scope, key and value: transitions of equal frequency are in this order."""


@dataclass(frozen=True, slots=True)
class NewTransition:
    """One observation, checked: ``value`` is ``value_of`` the two values."""

    scope: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How one version of a procedure has done so far."""

    version: int
    """The version."""
    successes: int
    """How often it succeeded."""
    failures: int
    """How often it failed."""
    last_outcome_at: datetime | None
    """When it last did either."""
    confidence: float
    """How far it can be relied on now, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Procedure:
    """One version of a procedure as it was read."""

    name: str
    """The name."""
    version: int
    """Counts the versions of this name from 1."""
    scope: str
    """Where it holds; ``""`` for everywhere."""
    steps: Json
    """What to do."""
    trigger: Document | None
    """The filter that a context must match; None when it is not triggered by any."""
    provenance: tuple[str, ...]
    """Where it comes from."""
    prior: float
    """The confidence before any outcome."""
    successes: int
    """How often this version succeeded."""
    failures: int
    """How often it failed."""
    last_outcome_at: datetime | None
    """When it last did either."""
    confidence: float
    """How far it could be relied on when it was read, 0 to 1."""
    superseded_by: str | None
    """The procedure that took its place."""
    created_at: datetime
    """When the name was first saved."""
    updated_at: datetime
    """When this version was saved."""


@dataclass(frozen=True, slots=True)
class NewProcedure:
    """One save, checked: JSON as canonical text, the embedding as little-endian float32."""

    name: str
    scope: str
    steps: str
    trigger: str | None
    provenance: str
    embedding: bytes | None
    prior: float


@dataclass(frozen=True, slots=True)
class Sketch:
    """As much of a procedure's current version as a search looks at."""

    name: str
    """The name."""
    revision: int
    """Grows with every change; what was seen is removed only while it still has this one."""
    trigger: str | None
    """The trigger as JSON text, where it was asked for."""
    embedding: bytes | None
    """The embedding, where it was asked for."""
    confidence: float
    """How far it can be relied on now."""
    used_at: datetime
    """When it last had an outcome or was saved."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sketches are asked for: of a scope (None is any), and for what.

    ``trigger``: those with a trigger, which comes along. ``embedding``: those with an embedding of ``size`` bytes, which
    comes along. ``any``: all of them. The first two leave out what is superseded.
    """

    scope: str | None
    kind: Literal["any", "trigger", "embedding"]
    size: int = 0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A procedure and how near its embedding is: 1 the same direction, 0 across, -1 opposite."""

    procedure: Procedure
    """The procedure."""
    score: float
    """The cosine."""


def confidence(successes: int, failures: int, last_outcome_at: datetime | None, now: datetime, prior: float) -> float:
    """Return how far something can be relied on: the mean of a Beta distribution whose counts fade with time.

    The prior counts as ``PRIOR_WEIGHT`` outcomes and never fades; what was counted halves with every ``HALF_LIFE`` since
    the last outcome, so that a procedure nobody uses goes back to its prior. A clock that went back makes nothing younger.

    >>> now = datetime(2030, 1, 31)
    >>> confidence(0, 0, None, now, 0.5), confidence(8, 0, now, now, 0.5), confidence(8, 0, now - HALF_LIFE, now, 0.5)
    (0.5, 0.9, 0.8333333333333334)
    """
    if last_outcome_at is None:
        return prior
    halvings = max(now - last_outcome_at, timedelta(0)) / HALF_LIFE
    kept: float = 0.5**halvings
    return (prior * PRIOR_WEIGHT + kept * successes) / (PRIOR_WEIGHT + kept * (successes + failures))


def value_of(before: str, after: str) -> str:
    r"""Write two values as one text from which both can be read again, whatever they hold.

    >>> value_of("open", "closed"), value_of("a->b", "c")
    ('open->closed', 'a-\\>b->c')
    """
    return _ARROW.join(text.replace("\\", "\\\\").replace(_ARROW, "-\\>") for text in (before, after))


def pair_of(value: str) -> tuple[str, str]:
    r"""Read what ``value_of`` wrote; a text without an arrow is a value that came from nowhere.

    >>> pair_of("a-\\>b->c")
    ('a->b', 'c')
    """
    before, arrow, after = value.partition(_ARROW)
    if not arrow:
        before, after = "", value
    return _ESCAPED.sub(r"\1", before), _ESCAPED.sub(r"\1", after)


def identity(scope: str, key: str, value: str) -> str:
    """Return the digests by which patterns are told apart and ordered, as PostgreSQL generates them."""
    return "".join(
        hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # tells a tenant's own patterns apart, no more
        for text in (scope, key, value)
    )


@lru_cache(1024)
def pattern_id(seen: NewTransition) -> UUID:
    """Return the id of a transition: it has one, whoever writes it. The last ones are remembered, for they come again."""
    of = identity(seen.scope, seen.key, seen.value)
    return UUID(bytes=hashlib.sha256(of.encode()).digest()[:16], version=5)


_PROCEDURE: Final = maker(Procedure)
_TRANSITION: Final = maker(Transition)
_STANDING: Final = maker(Standing)


def transition(row: Sequence[Any]) -> Transition:
    """Make a transition of a row: scope, key, value, frequency, times it was first and last seen."""
    scope, key, value, frequency, first_seen, last_seen = row
    return _TRANSITION(scope, key, *pair_of(value), frequency, first_seen, last_seen, identity(scope, key, value))


def standing(row: Sequence[Any]) -> Standing:
    """Make a standing of a row: version, prior, successes, failures, time of the last outcome, time of reading."""
    version, prior, successes, failures, last_outcome_at, now = row
    reliable = confidence(successes, failures, last_outcome_at, now, prior)
    return _STANDING(version, successes, failures, last_outcome_at, reliable)


def procedure(row: Sequence[Any]) -> Procedure:
    """Make a procedure of a row.

    Name, version, scope, steps, trigger, provenance, prior, successes, failures, times of the last outcome, successor,
    times of creation and saving, time of reading; JSON as text.
    """
    name, version, scope, steps, trigger, provenance, prior, successes, failures, last, successor = row[:11]
    created_at, updated_at, now = row[11:]
    return _PROCEDURE(
        name,
        version,
        scope,
        documents.decode(steps),
        None if trigger is None else documents.decode(trigger),
        tuple(documents.decode(provenance)),
        prior,
        successes,
        failures,
        last,
        confidence(successes, failures, last, now, prior),
        successor,
        created_at,
        updated_at,
    )


def sketch(row: Sequence[Any]) -> Sketch:
    """Make a sketch of a row: name, revision, trigger, embedding, prior, counters, times of outcome, saving, reading."""
    name, revision, trigger, embedding, prior, successes, failures, last, updated_at, now = row
    reliable = confidence(successes, failures, last, now, prior)
    return Sketch(name, revision, trigger, embedding, reliable, updated_at if last is None else max(last, updated_at))
