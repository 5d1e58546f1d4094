"""Facts: what is known of a subject, with the time in which it is true."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from storagelib.documents import Json

__all__ = ["Fact", "concept_id"]

_CONCEPTS = UUID("6f1d1d0e-6a0c-5e0d-9c52-8a54a6a4c9b1")


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement: subject, relation, object."""

    fact_id: UUID
    """The relationship that keeps it."""
    subject: str
    """What it is about."""
    relation: str
    """How the two are related."""
    object: str
    """What it says."""
    properties: Mapping[str, Json]
    """What the caller gave with it."""
    valid_from: datetime
    """Since when it is true."""
    valid_to: datetime | None
    """Until when; None until further notice."""


def concept_id(kind: str, name: str) -> UUID:
    """Return the id of a concept: the same for the same kind and name, so that two writers never make it twice.

    >>> concept_id("person", "Ada") == concept_id("person", "Ada")
    True
    """
    return uuid5(_CONCEPTS, f"{len(kind)}:{kind}{name}")
