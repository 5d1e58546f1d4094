"""Procedural memory: what usually follows what, and what to do in a situation, over a tenant's procedures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storagelib.components.procedures import LEARNED_FROM
from storagelib.documents import Document
from storagelib.limits import PAGE_DEFAULT
from storagelib.pages import Page

if TYPE_CHECKING:
    from storagelib._async.store import AsyncTenant
    from storagelib.components.procedures import Procedure, Transition

__all__ = ["AsyncProceduralMemory"]


class AsyncProceduralMemory:
    """The habits of one tenant: ``await AsyncProceduralMemory(tenant).observe("dev", "edit", "test")``.

    What is observed is a transition of the tenant's procedures whose key is the value before, so that everything that
    follows a value lies together.

    >>> import asyncio
    >>> from storagelib import AsyncProceduralMemory, AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         habits = AsyncProceduralMemory(store.for_tenant("acme"))
    ...         for following in ("test", "test", "commit", "test"):
    ...             await habits.observe("dev", "edit", following)
    ...         print([each.after for each in await habits.likely_next("dev", "edit")])
    >>> asyncio.run(example())
    ['test', 'commit']
    """

    def __init__(self, tenant: AsyncTenant) -> None:
        """Take the tenant's handle."""
        self._procedures = tenant.procedures

    async def observe(self, scope: str, before: str, after: str) -> int:
        """Count that one thing, of 1 to 500 characters, followed another; return how often that was seen."""
        return await self._procedures.record_transition(scope, before, before, after)

    async def likely_next(self, scope: str, before: str, k: int = 3) -> list[Transition]:
        """Return the ``k`` things that followed most often, most frequent first."""
        return list(await self._procedures.transitions(scope, before, limit=k))

    async def learned(
        self,
        min_frequency: int = LEARNED_FROM,
        *,
        scope: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Transition]:
        """Return a page of what was seen often enough to count as learned."""
        return await self._procedures.learned(min_frequency, scope=scope, cursor=cursor, limit=limit)

    async def best_for(self, context: Document, *, scope: str | None = None) -> Procedure | None:
        """Return the procedure with the best confidence whose trigger matches a context, or None."""
        found = await self._procedures.matching(context, scope=scope, limit=1)
        return found[0] if found else None
