"""Pages of listings: the position after a page is its last item's key, so that pages stay right while rows come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from storagelib.errors import InvalidInput
from storagelib.limits import check_integer, check_text, check_time

__all__ = ["Page", "cursor_of", "page_of", "position_of"]

Item = TypeVar("Item")
_CURSOR_MAX: Final = 8192


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a listing, in its order, and where the next page begins.

    >>> page = Page(("a", "b"), None)
    >>> list(page), page.cursor
    (['a', 'b'], None)
    """

    items: tuple[Item, ...]
    """The items."""
    cursor: str | None
    """What to pass as ``cursor`` for the next page; None when this is the last one."""

    def __iter__(self) -> Iterator[Item]:
        """Go through the items of this page."""
        return iter(self.items)

    def __len__(self) -> int:
        """Count the items of this page."""
        return len(self.items)


def page_of(rows: Sequence[Item], limit: int, *key: str) -> Page[Item]:
    """Make a page of up to ``limit + 1`` rows: the extra one only tells that there is a next page.

    ``key`` names the attributes that the listing is ordered by; none when the rows are the keys themselves.
    """
    if len(rows) <= limit:
        return Page(tuple(rows), None)
    kept = tuple(rows[:limit])
    last = kept[-1]
    return Page(kept, cursor_of(*(getattr(last, name) for name in key)) if key else cursor_of(last))


def cursor_of(*position: Any) -> str:
    """Write a position as text that says nothing to its reader; times and uuids as their ISO text."""
    values = [value if isinstance(value, str | int) else _iso(value) for value in position]
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def position_of(cursor: str | None, *types: type) -> tuple[Any, ...] | None:
    """Read a cursor back as values of these types; raises ``InvalidInput`` for text that no page gave.

    >>> position_of(cursor_of("a", 3), str, int)
    ('a', 3)
    """
    if cursor is None:
        return None
    try:
        if len(cursor) > _CURSOR_MAX:
            raise ValueError(cursor)  # noqa: TRY301 - told below like every other fault
        values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return tuple(_typed(value, kind) for value, kind in zip(values, types, strict=True))
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput("the page cannot be read", ["cursor: was not given by a page of this listing"]) from None


def _iso(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _typed(value: Any, kind: type) -> Any:
    if kind is int:
        return int(check_integer("cursor", value))
    if kind is str:
        return check_text("cursor", value, least=0, most=_CURSOR_MAX)
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - told like every other fault
    typed = kind.fromisoformat(value) if hasattr(kind, "fromisoformat") else kind(value)
    return check_time("cursor", typed) if isinstance(typed, datetime) else typed
