"""Connections whose socket an event loop goes on watching between calls, because beginning and ending costs more than a call.

psycopg registers the socket for each wait, with a timer, and takes both back. A small statement waits once; those four steps took
a sixth of its time, and half of what this process does for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

__all__ = ["AsyncWatching", "Watching"]

Row = tuple[Any, ...]
Result = TypeVar("Result")

Watching = psycopg.Connection
"""The twin: blocking calls wait for the socket themselves."""

_READ = Wait.R
_READY = Ready.R


class AsyncWatching(psycopg.AsyncConnection[Row]):
    """A connection that waits for answers with one future, and for everything else as psycopg does."""

    _loop: asyncio.AbstractEventLoop | None = None
    _waiter: asyncio.Future[None] | None = None
    _socket = -1

    async def wait(self, gen: PQGen[Result], *given: Any, **named: Any) -> Result:
        """Wait until an exchange is over; cancellation stops it on the server too, in psycopg's way.

        An exchange that looks at the clock needs an ``interval``, at which it is woken without an answer.
        """
        if given or named:
            self._look_away()
            return await super().wait(gen, *given, **named)
        try:
            wanted = next(gen)
            while wanted == _READ:
                try:
                    await self._readable()
                except (asyncio.CancelledError, KeyboardInterrupt, SystemExit) as interruption:
                    self._look_away()
                    return await super().wait(_Suspended(gen, wanted, interruption))  # type: ignore[arg-type]
                wanted = gen.send(_READY)
        except StopIteration as end:
            result: Result = end.value
            return result
        # What is too long to be sent at once waits in both directions.
        self._look_away()
        return await super().wait(_Suspended(gen, wanted))  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close; whoever waits for an answer is told."""
        self._look_away()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(psycopg.OperationalError("the connection is closed"))
        await super().close()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._look_away()
            self._socket = self.pgconn.socket
            try:
                loop.add_reader(self._socket, self._wake)
            except OSError as error:
                raise psycopg.OperationalError("the connection is closed") from error
            self._loop = loop
        self._waiter = loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is None:
            # Nobody asked: the server says that it ends. It is heard when the connection is lent next.
            self._look_away()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _look_away(self) -> None:
        """Have the loop forget the socket; always before it is closed, or its number would be taken for the next one's."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                # A loop that has ended watches nothing.
                self._loop.remove_reader(self._socket)
            self._loop = None


class _Suspended:
    """An exchange that began already, from where it waits; ``interruption`` is raised once before it goes on."""

    def __init__(self, gen: PQGen[Any], wanted: Wait, interruption: BaseException | None = None) -> None:
        self._gen = gen
        self._wanted = wanted
        self._interruption = interruption

    def __next__(self) -> Wait:
        if self._interruption is not None:
            interruption, self._interruption = self._interruption, None
            raise interruption
        return self._wanted

    def send(self, ready: Ready) -> Wait:
        self._wanted = self._gen.send(ready)
        return self._wanted
