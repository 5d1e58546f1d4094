# Made from storagelib/_async/listings.py by scripts/sync; change that file instead.
"""Going through a listing of any length, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from storagelib.pages import Page

__all__ = ["Listing", "each_item"]

Item = TypeVar("Item")


class Listing(Protocol[Item]):
    """A verb that gives one page and takes where it begins."""

    def __call__(self, *args: Any, **kwargs: Any) -> Page[Item]:
        """Return up to ``limit`` items behind ``cursor``, which every listing takes beside what narrows it."""
        ...


def each_item(listing: Listing[Item], *arguments: Any, limit: int, **conditions: Any) -> Iterator[Item]:
    """Go through all items; what comes and goes meanwhile may be missed, what stays is not, and nothing comes twice."""
    cursor: str | None = None
    while True:
        page = listing(*arguments, cursor=cursor, limit=limit, **conditions)
        for item in page:
            yield item
        cursor = page.cursor
        if cursor is None:
            return
