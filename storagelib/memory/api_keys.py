"""Issued keys and sealed values in memory."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from storagelib.components.api_keys import ApiKey, NewKey, Sealed, VerifiedKey, api_key
from storagelib.errors import AlreadyExists, Conflict
from storagelib.memory.engine import MemoryEngine, MemorySpace, Row

__all__ = ["MemoryApiKeys", "verify_over_all"]

_COLUMNS = (
    "key_id",
    "name",
    "prefix",
    "scopes",
    "metadata",
    "sealing_key_id",
    "rotated_from",
    "expires_at",
    "revoked_at",
    "last_used_at",
    "created_at",
    "updated_at",
)
_NOTED_AFTER = timedelta(minutes=1)


class MemoryApiKeys:
    """See ``ApiKeysBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._keys = space.table("api_keys")

    @property
    def tenant_id(self) -> str:
        """The tenant."""
        return self._space.tenant_id

    def add(self, new: NewKey) -> ApiKey:
        """Write a row."""
        with self._space.transaction():
            now = self._space.now()
            if any(row["rotated_from"] == new.key_id for row in self._keys.rows.values()):
                raise AlreadyExists("the id is taken: the successor of its key names it")
            expires_at = new.expires_at if new.ttl is None else now + timedelta(seconds=new.ttl)
            return self._insert(new, now, expires_at, None)

    def verify(self, key_id: str, key_hash: bytes) -> VerifiedKey | None:
        """Return the live key that has both, and mark its use."""
        with self._space.transaction():
            row, now = self._keys.get(key_id), self._space.now()
            known = row is not None and row["key_hash"] is not None and hmac.compare_digest(row["key_hash"], key_hash)
            if row is None or not known or not _live(row, now):
                return None
            if row["last_used_at"] is None or row["last_used_at"] < now - _NOTED_AFTER:
                self._keys.put((key_id,), {**row, "last_used_at": now})
            return VerifiedKey(self.tenant_id, key_id, row["name"], row["scopes"], row["expires_at"])

    def rotate(self, key_id: str, successor: NewKey, overlap: float) -> ApiKey | None:
        """Write the successor of a live issued key."""
        with self._space.transaction():
            now = self._space.now()
            old = self._keys.get(key_id)
            if old is None or old["key_hash"] is None or not _live(old, now):
                return None
            if any(row["rotated_from"] == key_id for row in self._keys.rows.values()):
                raise Conflict("the key has a successor")
            expires_at = successor.expires_at if successor.ttl is None else now + timedelta(seconds=successor.ttl)
            if expires_at is None and old["expires_at"] is not None:
                expires_at = now + (old["expires_at"] - old["created_at"])
            self._end(old, now + timedelta(seconds=overlap), now)
            before = None if old["rotated_from"] is None else self._keys.get(old["rotated_from"])
            if before is not None:
                self._end(before, now, now)
            new = NewKey(
                successor.key_id, old["name"], old["prefix"], successor.key_hash, None, old["scopes"], old["metadata"]
            )
            return self._insert(new, now, expires_at, key_id)

    def revoke(self, key_id: str) -> bool:
        """Revoke what is not revoked; tell whether this did it."""
        with self._space.transaction():
            row, now = self._keys.get(key_id), self._space.now()
            if row is None or row["revoked_at"] is not None:
                return False
            self._keys.put((key_id,), {**row, "revoked_at": now, "updated_at": now})
            return True

    def delete(self, key_id: str) -> bool:
        """Remove a row; tell whether it was there."""
        with self._space.transaction():
            return self._keys.delete(key_id)

    def key(self, key_id: str) -> ApiKey | None:
        """Return a row."""
        with self._space.transaction():
            row = self._keys.get(key_id)
            return None if row is None else _record(row)

    def keys(self, name: str | None, after: tuple[str, datetime, str] | None, limit: int) -> list[ApiKey]:
        """Return up to ``limit`` rows behind ``after``."""
        with self._space.transaction():
            rows = sorted((_place(row), row) for row in self._keys.rows.values() if name in (None, row["name"]))
            return [_record(row) for place, row in rows if after is None or place > after][:limit]

    def sealed(self, key_id: str) -> Sealed | None:
        """Return a live sealed value."""
        with self._space.transaction():
            row = self._keys.get(key_id)
            if row is None or row["sealed_value"] is None or not _live(row, self._space.now()):
                return None
            return Sealed(row["sealed_value"], row["sealing_key_id"])

    def replace_sealed(self, key_id: str, before: Sealed, after: Sealed) -> ApiKey | None:
        """Put a sealed value in the place of the live one that is there."""
        with self._space.transaction():
            if self.sealed(key_id) != before:
                return None
            changed = {"sealed_value": after.value, "sealing_key_id": after.sealing_key_id}
            row = {**self._keys.rows[key_id,], **changed, "updated_at": self._space.now()}
            self._keys.put((key_id,), row)
            return _record(row)

    def purge_expired(self, limit: int) -> int:
        """Remove rows that have expired; count them."""
        with self._space.transaction():
            now = self._space.now()
            ended = sorted(
                (row["expires_at"], key_id)
                for (key_id,), row in self._keys.rows.items()
                if row["expires_at"] is not None and row["expires_at"] <= now
            )[:limit]
            for _, key_id in ended:
                self._keys.delete(key_id)
            return len(ended)

    def _insert(self, new: NewKey, now: datetime, expires_at: datetime | None, rotated_from: str | None) -> ApiKey:
        if self._keys.get(new.key_id) is not None:
            raise AlreadyExists("the id is taken")
        row = {
            "key_id": new.key_id,
            "name": new.name,
            "key_hash": new.key_hash,
            "sealed_value": None if new.sealed is None else new.sealed.value,
            "sealing_key_id": None if new.sealed is None else new.sealed.sealing_key_id,
            "scopes": new.scopes,
            "metadata": new.metadata,
            "rotated_from": rotated_from,
            "expires_at": expires_at,
            "revoked_at": None,
            "last_used_at": None,
            "created_at": now,
            "updated_at": now,
            "prefix": new.prefix,
        }
        self._keys.put((new.key_id,), row)
        return _record(row)

    def _end(self, row: Row, at: datetime, now: datetime) -> None:
        expires_at = at if row["expires_at"] is None else min(row["expires_at"], at)
        self._keys.put((row["key_id"],), {**row, "expires_at": expires_at, "updated_at": now})


def verify_over_all(engine: MemoryEngine, key_id: str, key_hash: bytes) -> VerifiedKey | None:
    """Return the live key of any tenant that has this id and hash, and mark its use."""
    with engine.lock:
        spaces = list(engine.spaces.values())
    return next(filter(None, (MemoryApiKeys(space).verify(key_id, key_hash) for space in spaces)), None)


def _live(row: Row, now: datetime) -> bool:
    return row["revoked_at"] is None and (row["expires_at"] is None or row["expires_at"] > now)


def _place(row: Row) -> tuple[str, datetime, str]:
    return row["name"], row["created_at"], row["key_id"]


def _record(row: Row) -> ApiKey:
    return api_key(tuple(row[column] for column in _COLUMNS))
