"""Key-value entries in PostgreSQL."""

from __future__ import annotations

from storage_sql.queries import load
from storagelib._async.postgres.database import AsyncDatabase
from storagelib.components.kv import Characteristics, Entry, NewEntry, entry
from storagelib.errors import InvalidInput
from storagelib.limits import VALUE_BYTES_MAX

__all__ = ["AsyncPostgresKV"]

_QUERIES = load("kv")
_VALUE, _ENTRIES, _PUT = _QUERIES["value"], _QUERIES["entries"], _QUERIES["put"]


class AsyncPostgresKV:
    """See ``AsyncKVBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def characteristics(self) -> Characteristics:
        """Say what this backend promises."""
        return Characteristics("postgres", persistent=True, shared=True, value_bytes_max=VALUE_BYTES_MAX)

    async def value(self, key: str) -> bytes | None:
        """Return the value of a live entry."""
        rows = await self._database.fetch(_VALUE, key=key)
        return rows[0][0] if rows else None

    async def entries(self, keys: list[str]) -> list[Entry]:
        """Return the live entries among these keys."""
        return [entry(row) for row in await self._database.fetch(_ENTRIES, keys=keys)]

    async def put(self, items: list[NewEntry]) -> list[int]:
        """Write entries, all or none; return their versions."""
        if len(items) == 1:
            return [(await self._database.fetch(_PUT, **_values(items[0])))[0][0]]
        rows = await self._database.fetch(
            _QUERIES["put_many"],
            keys=[item.key for item in items],
            values=[item.value for item in items],
            metadata=[item.metadata for item in items],
            ttls=[item.ttl for item in items],
        )
        versions: dict[str, int] = dict(rows)
        return [versions[item.key] for item in items]

    async def put_if_absent(self, item: NewEntry) -> bool:
        """Write an entry unless a live one is there; tell whether it was written."""
        return bool(await self._database.fetch(_QUERIES["put_if_absent"], **_values(item)))

    async def compare_and_set(self, item: NewEntry, expected: int) -> int | None:
        """Write an entry if the live one has this version; return the new version, or None."""
        rows = await self._database.fetch(_QUERIES["compare_and_set"], **_values(item), expected=expected)
        return rows[0][0] if rows else None

    async def increment(self, key: str, by: int) -> int:
        """Add to a counter, which keeps its metadata and expiry; return its new value."""
        rows = await self._database.fetch(_QUERIES["increment"], key=key, by=by)
        if not rows:
            raise InvalidInput(
                "the value cannot be counted", ["key: holds no whole number, or the sum would leave 64 bits"]
            )
        return int(rows[0][0])

    async def delete(self, keys: list[str]) -> int:
        """Remove entries; count those that were live."""
        rows = await self._database.fetch(_QUERIES["delete"], keys=keys)
        return sum(live for (live,) in rows)

    async def clear(self, prefix: str) -> int:
        """Remove the entries whose keys begin with ``prefix``; count those that were live."""
        return int((await self._database.fetch(_QUERIES["clear"], prefix=prefix))[0][0])

    async def list_keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        """Return up to ``limit`` live keys greater than ``after``, in order of their code points."""
        rows = await self._database.fetch(_QUERIES["list_keys"], prefix=prefix, after=after or "", most=limit)
        return [key for (key,) in rows]

    async def purge_expired(self, limit: int) -> int:
        """Remove up to ``limit`` entries that have expired; count them."""
        return int((await self._database.fetch(_QUERIES["purge_expired"], most=limit))[0][0])


def _values(item: NewEntry) -> dict[str, str | bytes | float | None]:
    return {"key": item.key, "value": item.value, "metadata": item.metadata, "ttl": item.ttl}
