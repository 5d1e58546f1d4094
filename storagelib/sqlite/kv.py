"""Key-value entries in SQLite."""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any

from storagelib import documents
from storagelib.clocks import from_microseconds
from storagelib.components.kv import Characteristics, Entry, NewEntry, counter, entry
from storagelib.limits import VALUE_BYTES_MAX
from storagelib.sqlite.engine import SqliteStore, reads, writes, writes_once

__all__ = ["SqliteKV"]

_LIVE = "(expires_at IS NULL OR expires_at > ?)"
_COLUMNS = "key, value, metadata, version, expires_at, created_at, updated_at"
_VALUE = f"SELECT value FROM kv_store WHERE tenant_id = ? AND key = ? AND {_LIVE}"
_ENTRIES = (
    f"SELECT {_COLUMNS} FROM kv_store WHERE tenant_id = ? AND key IN (SELECT value FROM json_each(?)) AND {_LIVE}"
)
# `version` goes on where an expired entry is in the way: none is given twice while the row is there. A key that was
# deleted or purged begins at 1.
_PUT = """
INSERT INTO kv_store AS old (tenant_id, key, value, metadata, expires_at, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
ON CONFLICT (tenant_id, key) DO UPDATE SET
    value = excluded.value, metadata = excluded.metadata, version = old.version + 1, expires_at = excluded.expires_at,
    created_at = CASE WHEN old.expires_at <= ?6 THEN ?6 ELSE old.created_at END, updated_at = ?6
RETURNING version"""
_COUNT = "UPDATE kv_store SET value = ?, version = version + 1, updated_at = ? WHERE tenant_id = ? AND key = ?"
# A prefix is a range of keys: no UTF-8 holds the byte 0xFF, so that it ends the range.
_RANGE = "tenant_id = ? AND key >= ? AND key < ? || CAST(x'FF' AS TEXT)"
_LIST = f"SELECT key FROM kv_store WHERE {_RANGE} AND key > ? AND {_LIVE} ORDER BY key LIMIT ?"
_CLEAR = f"DELETE FROM kv_store WHERE {_RANGE} RETURNING expires_at"
_DELETE = "DELETE FROM kv_store WHERE tenant_id = ? AND key IN (SELECT value FROM json_each(?)) RETURNING expires_at"
_PURGE = """
DELETE FROM kv_store WHERE tenant_id = :tenant AND key IN (
    SELECT key FROM kv_store WHERE tenant_id = :tenant AND expires_at <= :now ORDER BY expires_at LIMIT :limit)"""


class SqliteKV(SqliteStore):
    """See ``KVBackend``."""

    def characteristics(self) -> Characteristics:
        """Say what this backend promises."""
        return Characteristics("sqlite", persistent=True, shared=True, value_bytes_max=VALUE_BYTES_MAX)

    @reads
    def value(self, database: Connection, key: str) -> bytes | None:
        """Return the value of a live entry."""
        row = database.execute(_VALUE, (self.tenant_id, key, self.engine.now())).fetchone()
        return None if row is None else row[0]

    @reads
    def entries(self, database: Connection, keys: list[str]) -> list[Entry]:
        """Return the live entries among these keys."""
        rows = database.execute(_ENTRIES, (self.tenant_id, documents.encode(keys), self.engine.now()))
        return [_entry(row) for row in rows]

    def put(self, items: list[NewEntry]) -> list[int]:
        """Write entries, all or none; return their versions."""
        return [self._put_one(items[0])] if len(items) == 1 else self._put_all(items)

    put.runs_on = "writer"  # type: ignore[attr-defined]

    @writes_once
    def _put_one(self, database: Connection, item: NewEntry) -> int:
        return self._put(database, item)

    @writes
    def _put_all(self, database: Connection, items: list[NewEntry]) -> list[int]:
        return [self._put(database, item) for item in items]

    @writes
    def put_if_absent(self, database: Connection, item: NewEntry) -> bool:
        """Write an entry unless a live one is there; tell whether it was written."""
        if self._live(database, item.key) is not None:
            return False
        self._put(database, item)
        return True

    @writes
    def compare_and_set(self, database: Connection, item: NewEntry, expected: int) -> int | None:
        """Write an entry if the live one has this version; return the new version, or None."""
        found = self._live(database, item.key)
        return self._put(database, item) if found is not None and found.version == expected else None

    @writes
    def increment(self, database: Connection, key: str, by: int) -> int:
        """Add to a counter, which keeps its metadata and expiry; return its new value."""
        found = self._live(database, key)
        total = counter(None if found is None else found.value, by)
        if found is None:
            self._put(database, NewEntry(key, str(total).encode()))
        else:
            database.execute(_COUNT, (str(total).encode(), self.engine.now(), self.tenant_id, key))
        return total

    @writes
    def delete(self, database: Connection, keys: list[str]) -> int:
        """Remove entries; count those that were live."""
        return self._count(database.execute(_DELETE, (self.tenant_id, documents.encode(keys))))

    @writes
    def clear(self, database: Connection, prefix: str) -> int:
        """Remove the entries whose keys begin with ``prefix``; count those that were live."""
        return self._count(database.execute(_CLEAR, (self.tenant_id, prefix, prefix)))

    @reads
    def list_keys(self, database: Connection, prefix: str, after: str | None, limit: int) -> list[str]:
        """Return up to ``limit`` keys in order of their code points."""
        bounds = (self.tenant_id, prefix, prefix, after or "", self.engine.now(), limit)
        return [key for (key,) in database.execute(_LIST, bounds)]

    @writes
    def purge_expired(self, database: Connection, limit: int) -> int:
        """Remove entries that have expired; count them."""
        bounds = {"tenant": self.tenant_id, "now": self.engine.now(), "limit": limit}
        return database.execute(_PURGE, bounds).rowcount

    def _put(self, database: Connection, item: NewEntry) -> int:
        now = self.engine.now()
        expires_at = None if item.ttl is None else now + round(item.ttl * 1_000_000)
        values = (self.tenant_id, item.key, item.value, item.metadata, expires_at, now)
        ((version,),) = database.execute(_PUT, values).fetchall()
        return int(version)

    def _live(self, database: Connection, key: str) -> Entry | None:
        row = database.execute(_ENTRIES, (self.tenant_id, documents.encode([key]), self.engine.now())).fetchone()
        return None if row is None else _entry(row)

    def _count(self, removed: Iterable[tuple[int | None]]) -> int:
        now = self.engine.now()
        return sum(1 for (expires_at,) in removed if expires_at is None or expires_at > now)


def _entry(row: tuple[Any, ...]) -> Entry:
    *same, expires_at, created_at, updated_at = row
    expiry = None if expires_at is None else from_microseconds(expires_at)
    return entry((*same, expiry, from_microseconds(created_at), from_microseconds(updated_at)))
