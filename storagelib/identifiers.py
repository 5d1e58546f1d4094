"""Ids that this library makes: UUIDs of version 7, which sort by the time they were made."""

from __future__ import annotations

import os
import threading
import time
from typing import Final
from uuid import UUID

__all__ = ["uuid7"]

_LOCK: Final = threading.Lock()
_RANDOM_BITS: Final = 74
_last = 0


def uuid7() -> UUID:
    """Return a new id; ids of one process are in order even when the clock goes back (RFC 9562, section 6.2, method 2).

    >>> uuid7() < uuid7()
    True
    """
    global _last  # noqa: PLW0603 - one counter for the process is what makes them ordered
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | int.from_bytes(os.urandom(10), "big") >> 6
    with _LOCK:
        # Within a millisecond, and while the clock is behind, the last one is counted up from.
        if fresh >> _RANDOM_BITS <= _last >> _RANDOM_BITS:
            fresh = _last + 1 + int.from_bytes(os.urandom(4), "big")
        _last = fresh
    milliseconds, random = fresh >> _RANDOM_BITS, fresh & ((1 << _RANDOM_BITS) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | random & ((1 << 62) - 1))
