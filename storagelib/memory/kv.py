"""Key-value entries in memory."""

from __future__ import annotations

from datetime import timedelta

from storagelib.components.kv import Characteristics, Entry, NewEntry, counter, entry
from storagelib.limits import VALUE_BYTES_MAX
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryKV"]


class MemoryKV:
    """See ``KVBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._entries = space.table("kv_store")

    def characteristics(self) -> Characteristics:
        """Say what this backend promises."""
        return Characteristics("memory", persistent=False, shared=False, value_bytes_max=VALUE_BYTES_MAX)

    def value(self, key: str) -> bytes | None:
        """Return the value of a live entry."""
        with self._space.transaction():
            row = self._live(key)
            return None if row is None else row["value"]

    def entries(self, keys: list[str]) -> list[Entry]:
        """Return the live entries among these keys."""
        with self._space.transaction():
            rows = [(key, self._live(key)) for key in dict.fromkeys(keys)]
            return [_entry(key, row) for key, row in rows if row is not None]

    def put(self, items: list[NewEntry]) -> list[int]:
        """Write entries, all or none; return their versions."""
        with self._space.transaction():
            return [self._put(item) for item in items]

    def put_if_absent(self, item: NewEntry) -> bool:
        """Write an entry unless a live one is there; tell whether it was written."""
        with self._space.transaction():
            if self._live(item.key) is not None:
                return False
            self._put(item)
            return True

    def compare_and_set(self, item: NewEntry, expected: int) -> int | None:
        """Write an entry if the live one has this version; return the new version, or None."""
        with self._space.transaction():
            row = self._live(item.key)
            return self._put(item) if row is not None and row["version"] == expected else None

    def increment(self, key: str, by: int) -> int:
        """Add to a counter, which keeps its metadata and expiry; return its new value."""
        with self._space.transaction():
            row = self._live(key)
            total = counter(None if row is None else row["value"], by)
            if row is None:
                self._put(NewEntry(key, str(total).encode()))
            else:
                changed = {"value": str(total).encode(), "version": row["version"] + 1, "updated_at": self._space.now()}
                self._entries.put((key,), {**row, **changed})
            return total

    def delete(self, keys: list[str]) -> int:
        """Remove entries; count those that were live."""
        with self._space.transaction():
            live = [key for key in dict.fromkeys(keys) if self._live(key) is not None]
            for key in keys:
                self._entries.delete(key)
            return len(live)

    def clear(self, prefix: str) -> int:
        """Remove the entries whose keys begin with ``prefix``; count those that were live."""
        with self._space.transaction():
            return self.delete([key for (key,) in self._entries.rows if key.startswith(prefix)])

    def list_keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        """Return up to ``limit`` keys in order of their code points."""
        with self._space.transaction():
            found = (key for (key,), _ in self._entries.ordered() if key.startswith(prefix))
            live = (key for key in found if (after is None or key > after) and self._live(key) is not None)
            return [key for key, _ in zip(live, range(limit), strict=False)]

    def purge_expired(self, limit: int) -> int:
        """Remove entries that have expired; count them."""
        with self._space.transaction():
            dead = [key for (key,) in self._entries.rows if self._live(key) is None][:limit]
            for key in dead:
                self._entries.delete(key)
            return len(dead)

    def _live(self, key: str) -> Row | None:
        row = self._entries.get(key)
        if row is None or (row["expires_at"] is not None and row["expires_at"] <= self._space.now()):
            return None
        return row

    def _put(self, item: NewEntry) -> int:
        now, stored, live = self._space.now(), self._entries.get(item.key), self._live(item.key)
        version = 1 if stored is None else stored["version"] + 1
        self._entries.put(
            (item.key,),
            {
                "key": item.key,
                "value": item.value,
                "metadata": item.metadata,
                "version": version,
                "expires_at": None if item.ttl is None else now + timedelta(seconds=item.ttl),
                "created_at": now if live is None else live["created_at"],
                "updated_at": now,
            },
        )
        return int(version)


def _entry(key: str, row: Row) -> Entry:
    return entry(
        (key, row["value"], row["metadata"], row["version"], row["expires_at"], row["created_at"], row["updated_at"])
    )
