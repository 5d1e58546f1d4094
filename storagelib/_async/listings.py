"""Going through a listing of any length, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

from storagelib.pages import Page

__all__ = ["AsyncListing", "each_item"]

Item = TypeVar("Item")


class AsyncListing(Protocol[Item]):
    """A verb that gives one page and takes where it begins."""

    async def __call__(self, *args: Any, **kwargs: Any) -> Page[Item]:
        """Return up to ``limit`` items behind ``cursor``, which every listing takes beside what narrows it."""
        ...


async def each_item(listing: AsyncListing[Item], *arguments: Any, limit: int, **conditions: Any) -> AsyncIterator[Item]:
    """Go through all items; what comes and goes meanwhile may be missed, what stays is not, and nothing comes twice."""
    cursor: str | None = None
    while True:
        page = await listing(*arguments, cursor=cursor, limit=limit, **conditions)
        for item in page:
            yield item
        cursor = page.cursor
        if cursor is None:
            return
