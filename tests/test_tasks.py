"""Tasks end when they are told to, also those that do not hear it the first time."""

from __future__ import annotations

import asyncio

import pytest

from storage_operator import tasks


async def test_all_are_ended_however_they_end() -> None:
    """Cancelled, failed on the way out, or done before: nobody goes on, and nothing is raised."""

    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("on the way out")

    told = [asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fails()), asyncio.create_task(asyncio.sleep(99))]
    await asyncio.sleep(0.01)
    await tasks.end(told)
    assert [task.cancelled() for task in told] == [False, False, True]
    assert isinstance(told[1].exception(), ValueError)
    await tasks.end([])


async def test_who_loses_an_order_gets_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a task whose ``wait_for`` had its result at the same moment."""
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.05)
    waits = 0

    async def loses_one() -> None:
        nonlocal waits
        while True:
            waits += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if waits > 1:
                    raise

    task = asyncio.create_task(loses_one())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await tasks.end([task])
    assert task.cancelled()
    assert waits == 2
