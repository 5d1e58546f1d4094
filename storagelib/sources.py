"""Where the bytes of an artifact come from: bytes, a file, or an iterator; read in pieces of one's own size."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Final, Protocol

from storagelib.errors import InvalidInput

__all__ = ["AsyncByteSource", "AsyncSource", "BinaryFile", "ByteSource", "Source"]


class BinaryFile(Protocol):
    """A file that was opened for reading bytes; for asynchronous callers ``read`` may be a coroutine."""

    def read(self, size: int, /) -> Any:
        """Return up to ``size`` bytes, none at the end."""
        ...


ByteSource = bytes | bytearray | memoryview | BinaryFile | Iterable[bytes]
"""What blocking callers may store: bytes, an open file, or an iterable of bytes."""
AsyncByteSource = ByteSource | AsyncIterable[bytes]
"""What asynchronous callers may store: the same, or an asynchronous iterable of bytes."""

_END: Final = object()


class _Pieces:
    """Bytes that came in and were not yet asked for."""

    def __init__(self) -> None:
        self._held = bytearray()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, piece: Any) -> None:
        """Keep what the source gave."""
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise InvalidInput("the content cannot be stored", [f"content: gave {type(piece).__name__}, not bytes"])
        # A view with gaps cannot be added as it is.
        self._held += bytes(piece) if isinstance(piece, memoryview) else piece

    def take(self, size: int) -> bytes:
        """Return up to ``size`` of the bytes that are there."""
        with memoryview(self._held) as view:
            taken = bytes(view[:size])
        del self._held[:size]
        return taken


class Source:
    """Reads for blocking callers."""

    def __init__(self, content: Any) -> None:
        """Take bytes, a file or an iterable; raises ``InvalidInput`` for anything else."""
        self._file: BinaryFile | None = content if callable(getattr(content, "read", None)) else None
        self._iterator: Iterator[Any] = iter(()) if self._file is not None else iter(_iterable(content))
        self._pieces = _Pieces()

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes; fewer at the end, none after it."""
        while len(self._pieces) < size:
            piece = next(self._iterator, _END) if self._file is None else self._file.read(size - len(self._pieces))
            if piece is _END or (self._file is not None and piece == b""):
                break
            self._pieces.add(piece)
        return self._pieces.take(size)


class AsyncSource:
    """Reads for asynchronous callers; files and plain iterators that block are read on a thread."""

    def __init__(self, content: Any) -> None:
        """Take bytes, a file or an iterable of either kind; raises ``InvalidInput`` for anything else."""
        self._file: BinaryFile | None = content if callable(getattr(content, "read", None)) else None
        self._later: AsyncIterator[Any] | None = None
        self._iterator: Iterator[Any] = iter(())
        self._blocks = not isinstance(content, bytes | bytearray | memoryview | list | tuple)
        self._pieces = _Pieces()
        if self._file is None and isinstance(content, AsyncIterable):
            self._later = aiter(content)
        elif self._file is None:
            self._iterator = iter(_iterable(content))

    async def read(self, size: int) -> bytes:
        """Return ``size`` bytes; fewer at the end, none after it."""
        while len(self._pieces) < size:
            piece = await self._next(size - len(self._pieces))
            if piece is _END or (self._file is not None and piece == b""):
                break
            self._pieces.add(piece)
        return self._pieces.take(size)

    async def _next(self, size: int) -> Any:
        if self._later is not None:
            return await anext(self._later, _END)
        if self._file is not None:
            if inspect.iscoroutinefunction(self._file.read):
                return await self._file.read(size)
            return await asyncio.to_thread(self._file.read, size)
        if self._blocks:
            return await asyncio.to_thread(next, self._iterator, _END)
        return next(self._iterator, _END)


def _iterable(content: Any) -> Iterable[Any]:
    if isinstance(content, bytes | bytearray | memoryview):
        view = memoryview(content).cast("B")
        return (view[start : start + (1 << 20)] for start in range(0, len(view), 1 << 20))
    if isinstance(content, str) or not isinstance(content, Iterable):
        fault = f"content: must be bytes, a file or an iterator of bytes, not {type(content).__name__}"
        raise InvalidInput("the content cannot be stored", [fault])
    return content
