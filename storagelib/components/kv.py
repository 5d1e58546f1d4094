"""Key-value entries and what one write asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storagelib import documents
from storagelib.documents import Json
from storagelib.errors import InvalidInput
from storagelib.limits import INTEGER_MAX, INTEGER_MIN

__all__ = ["Characteristics", "Entry", "NewEntry", "counter", "entry"]

_COUNTER_BYTES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it was read."""

    key: str
    """The key."""
    value: bytes
    """The value."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside the value."""
    version: int
    """Grows with every write; ``compare_and_set`` compares it."""
    expires_at: datetime | None
    """When the entry stops being seen."""
    created_at: datetime
    """When the key was first written."""
    updated_at: datetime
    """When it was last written."""


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One write, checked: ``metadata`` is canonical JSON text, ``ttl`` seconds or None."""

    key: str
    value: bytes
    metadata: str = "{}"
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Characteristics:
    """What a backend of the key-value store can promise."""

    backend: str
    """``memory``, ``sqlite``, ``postgres``, or the name of a registered one."""
    persistent: bool
    """Whether entries outlive the process."""
    shared: bool
    """Whether several processes may write at once."""
    value_bytes_max: int
    """The largest value."""


def entry(
    row: tuple[str, bytes, str, int, datetime | None, datetime, datetime],
) -> Entry:
    """Make an entry of a row: key, value, metadata, version, expiry, creation, last change."""
    key, value, metadata, version, expires_at, created_at, updated_at = row
    return Entry(key, value, documents.decode(metadata), version, expires_at, created_at, updated_at)


def counter(value: bytes | None, by: int) -> int:
    """Return what a counter holds after adding ``by``: decimal ASCII, absent counts as 0; raises ``InvalidInput``.

    >>> counter(b"41", 1)
    42
    """
    if value is None:
        return by
    text = value.removeprefix(b"-")
    if not text.isdigit() or len(value) > _COUNTER_BYTES_MAX:
        raise InvalidInput("the value cannot be counted", ["key: holds something else than a whole number"])
    total = int(value) + by
    if not INTEGER_MIN <= total <= INTEGER_MAX:
        raise InvalidInput("the value cannot be counted", ["by: would take the counter outside 64 bits"])
    return total
