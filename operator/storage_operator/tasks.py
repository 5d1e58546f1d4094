"""How tasks of the event loop are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

# Long enough for what a task does on its way out.
AGAIN_SECONDS = 5.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, however they end.

    An order to end may be lost: ``asyncio.wait_for`` of Python 3.11, which kopf and psycopg's pool use, drops one that
    comes together with what it waits for. So whoever goes on gets it again.
    """
    told = list(tasks)
    going_on = {task for task in told if not task.done()}
    while going_on:
        for task in going_on:
            task.cancel()
        _, going_on = await asyncio.wait(going_on, timeout=AGAIN_SECONDS)
    await asyncio.gather(*told, return_exceptions=True)
