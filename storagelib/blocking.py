"""How asynchronous code calls what blocks, and its twin for blocking code, where the same names just call.

Backends in memory and on SQLite are written once, as blocking code. ``AsyncBlocking.adapt`` gives an asynchronous face to
one: methods that are marked for the reader or the writer threads run there, others run in place.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from storagelib.errors import Unavailable

__all__ = ["AsyncBlocking", "AsyncHome", "AsyncLock", "Blocking", "Home", "Lock", "async_sleep", "sleep"]

Result = TypeVar("Result")

AsyncLock = asyncio.Lock
Lock = threading.Lock
async_sleep = asyncio.sleep


def sleep(seconds: float) -> None:
    """Wait; the twin of ``async_sleep``."""
    time.sleep(seconds)


class AsyncHome:
    """The event loop that connections belong to: in another one a call would wait for what nobody tells it."""

    def __init__(self) -> None:
        """Take the first loop that asks."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raise ``Unavailable`` in any other loop than the first."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise Unavailable("the store was opened in another event loop: open one in each")
            self._loop = loop


class Home:
    """The twin: a blocking store is used by every thread."""

    def check(self) -> None:
        """Do nothing."""


class AsyncBlocking:
    """Threads for blocking calls: several that read, one that writes, as SQLite wants it."""

    def __init__(self, readers: int) -> None:
        """Take how many calls may read at once; threads are started when they are needed."""
        self._readers = ThreadPoolExecutor(max(1, readers), thread_name_prefix="llmspell-read")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="llmspell-write")
        self._closed = False

    def adapt(self, backend: Any) -> Any:
        """Return the asynchronous face of a blocking backend."""
        return _Adapted(backend, self)

    async def run(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a blocking function on the thread it is marked for (``runs_on``), in place when it is not marked."""
        where = getattr(function, "runs_on", None)
        if where is None:
            return function(*args, **kwargs)
        threads = self._writer if where == "writer" else self._readers
        if self._closed:
            raise Unavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(threads, functools.partial(function, *args, **kwargs))

    async def work(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function that needs the processor for long (hashing, packing) on a thread, so that the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, functools.partial(function, *args))

    async def aclose(self) -> None:
        """End the threads once their calls are done."""
        self._closed = True
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._writer.shutdown)


class Blocking:
    """The twin of ``AsyncBlocking``: everything happens in the caller's thread."""

    def __init__(self, readers: int) -> None:
        """Take what the twin takes; nobody waits for threads here."""
        self._readers = readers

    def adapt(self, backend: Any) -> Any:
        """Return the backend."""
        return backend

    def run(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Call a function."""
        return function(*args, **kwargs)

    def work(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function."""
        return function(*args)

    def close(self) -> None:
        """Do nothing: there are no threads."""


class _Adapted:
    """A blocking backend whose methods are awaited."""

    def __init__(self, backend: Any, threads: AsyncBlocking) -> None:
        self._backend = backend
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._backend, name)
        if name == "characteristics" or not callable(method):
            return method
        call = functools.partial(self._threads.run, method)
        setattr(self, name, call)
        return call
