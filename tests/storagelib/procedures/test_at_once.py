"""Who saves or rolls back while another one's save has not committed waits for it, and is told what is there then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from storage_sql.queries import load
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._async.procedures import AsyncProcedures
from storagelib._async.store import AsyncStore
from storagelib.errors import Conflict
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.operator import until

_SAVE = load("procedures")["save"]
_CONTENT = {"scope": "", "steps": "[]", "trigger": None, "provenance": "[]", "embedding": None, "prior": 0.5}


@asynccontextmanager
async def of_new_tenant(tenants: Tenants) -> AsyncIterator[AsyncProcedures]:
    """Give the procedures of a tenant that nobody used before."""
    opening = opening_of(tenants, "role")
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        yield store.for_tenant(opening.new_tenant()).procedures


async def while_saving(tenants: Tenants, procedures: AsyncProcedures, name: str, call: Coroutine[Any, Any, int]) -> int:
    """Return what a call returns that begins while another one's next version is saved but not committed."""
    database: AsyncDatabase = procedures._backend._database  # type: ignore[attr-defined]
    async with database.transaction() as saving:
        await saving.fetch(_SAVE, name=name, expected=None, **_CONTENT)
        later = asyncio.create_task(call)
        await until(lambda: later.done() or tenants.waiting())
        waits = not later.done()
    assert waits
    return await later


async def test_a_version_that_is_replaced_meanwhile_can_be_rolled_back_to(conformance_tenants: Tenants) -> None:
    """It is kept by the save that is waited for, after the rollback began."""
    async with of_new_tenant(conformance_tenants) as procedures:
        for number in (1, 2):
            assert await procedures.save("p", [number]) == number
        assert await while_saving(conformance_tenants, procedures, "p", procedures.rollback("p", 2)) == 4
        assert (await procedures.get("p")).steps == [2]


async def test_who_is_not_the_first_is_told_who_was(conformance_tenants: Tenants) -> None:
    """A save that expects no procedure and comes second is told of the version that is there."""
    async with of_new_tenant(conformance_tenants) as procedures:
        with pytest.raises(Conflict, match="the procedure has version 1, not 0"):
            await while_saving(conformance_tenants, procedures, "p", procedures.save("p", [], expected_version=0))
        third = procedures.save("p", ["third"], expected_version=None)
        assert await while_saving(conformance_tenants, procedures, "p", third) == 3
