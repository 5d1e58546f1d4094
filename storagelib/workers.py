"""Work for the processor (hashing, packing) on threads, beside what waits for a storage.

The twins have the same two verbs, so that one text serves both: start something, do something else, take the result.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

__all__ = ["AsyncWorkers", "Workers"]

Result = TypeVar("Result")


class _Threads:
    """The threads of the process; made when they are needed, and anew after a fork."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Call a function on one of the threads."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="llmspell-work")
        return self._executor.submit(function, *args)

    def forget(self) -> None:
        """Leave the threads of the parent process alone."""
        self._executor = None


_THREADS: Final = _Threads()
os.register_at_fork(after_in_child=_THREADS.forget)


class Workers:
    """Work on threads for blocking callers."""

    @staticmethod
    def start(function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Begin a piece of work."""
        return _THREADS.submit(function, *args)

    @staticmethod
    def result(started: Future[Result]) -> Result:
        """Wait for a piece of work; raises what it raised."""
        return started.result()


class AsyncWorkers:
    """Work on threads for asynchronous callers."""

    @staticmethod
    def start(function: Callable[..., Result], *args: Any) -> Future[Result]:
        """Begin a piece of work."""
        return _THREADS.submit(function, *args)

    @staticmethod
    async def result(started: Future[Result]) -> Result:
        """Wait for a piece of work; raises what it raised."""
        return await asyncio.wrap_future(started)
