"""Episodes: what was said or done in a session, one moment each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from storagelib.documents import Json

__all__ = ["Episode"]


@dataclass(frozen=True, slots=True)
class Episode:
    """One moment of a session."""

    episode_id: str
    """Its id; ids grow with time."""
    session_id: str
    """The session it belongs to."""
    role: str
    """Who spoke or acted: ``user``, ``assistant``, ``tool`` or another word."""
    content: str
    """What was said or done."""
    metadata: Mapping[str, Json]
    """What the caller gave with it."""
    happened_at: datetime
    """When it happened."""
    processed: bool
    """Whether a later stage (a summary, an extraction of facts) has seen it."""
    score: float | None = None
    """How like the question it is, 1 for the same; None where nothing was asked."""
