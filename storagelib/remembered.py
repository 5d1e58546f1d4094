"""What a handle remembers of what it read or wrote last, bounded by count and size; losing it costs speed only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["Remembered"]


class Remembered:
    """The last used values by key.

    >>> memory = Remembered(2, 100)
    >>> for key in "abc":
    ...     memory.put(key, key.upper(), 10)
    >>> memory.get("a"), memory.get("c")
    (None, 'C')
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """Take how many values, and how many bytes of them, are kept."""
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        # Blocking handles are used by several threads at once.
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Any:
        """Return a value, which counts as a use, or None."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Remember a value of so many bytes; one that is too large for everything is not remembered."""
        with self._lock:
            self._drop(key)
            if size > self._most_bytes:
                return
            self._values[key] = (value, size)
            self._bytes += size
            while len(self._values) > self._most or self._bytes > self._most_bytes:
                _, (_, oldest) = self._values.popitem(last=False)
                self._bytes -= oldest

    def forget(self, key: Hashable) -> None:
        """Remember a value no longer."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: Hashable) -> None:
        found = self._values.pop(key, None)
        if found is not None:
            self._bytes -= found[1]
