"""Issued keys and sealed values in SQLite."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from sqlite3 import Connection
from typing import Any

from storagelib import documents
from storagelib.clocks import from_microseconds, to_microseconds
from storagelib.components.api_keys import NAME_MAX, ApiKey, NewKey, Sealed, VerifiedKey, api_key
from storagelib.errors import AlreadyExists, Conflict, Unavailable
from storagelib.sqlite.engine import SqliteEngine, SqliteStore, reads, writes, writes_once

__all__ = ["SqliteApiKeys", "verify_over_all"]

_COLUMNS = (
    "key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, expires_at, revoked_at, last_used_at,"
    " created_at, updated_at"
)
_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > :now)"
_ADD = f"""
INSERT INTO api_keys (tenant_id, key_id, name, key_hash, sealed_value, sealing_key_id, scopes, metadata, rotated_from,
                      expires_at, created_at, updated_at, prefix)
VALUES (:tenant, :key_id, :name, :key_hash, :sealed_value, :sealing_key_id, :scopes, :metadata, :rotated_from,
        :expires_at, :now, :now, :prefix)
RETURNING {_COLUMNS}"""
_FOUND = "tenant_id, key_id, name, scopes, expires_at, last_used_at"
_VERIFY = f"""
SELECT {_FOUND} FROM api_keys
 WHERE tenant_id = :tenant AND key_id = :key_id AND key_hash = :key_hash AND {_LIVE}"""
_VERIFY_OVER_ALL = f"SELECT {_FOUND} FROM api_keys WHERE key_hash = :key_hash AND key_id = :key_id AND {_LIVE}"
_NOTE = "UPDATE api_keys SET last_used_at = :now WHERE tenant_id = :tenant AND key_id = :key_id"
_OLD = f"""
SELECT name, prefix, scopes, metadata, rotated_from, expires_at, created_at FROM api_keys
 WHERE tenant_id = :tenant AND key_id = :key_id AND key_hash IS NOT NULL AND {_LIVE}"""
_SUCCESSOR = "SELECT 1 FROM api_keys WHERE tenant_id = :tenant AND rotated_from = :key_id"
_END = """
UPDATE api_keys SET expires_at = min(coalesce(expires_at, :at), :at), updated_at = :now
 WHERE tenant_id = :tenant AND key_id = :key_id"""
_REVOKE = """
UPDATE api_keys SET revoked_at = :now, updated_at = :now
 WHERE tenant_id = :tenant AND key_id = :key_id AND revoked_at IS NULL"""
_DELETE = "DELETE FROM api_keys WHERE tenant_id = :tenant AND key_id = :key_id"
_KEY = f"SELECT {_COLUMNS} FROM api_keys WHERE tenant_id = :tenant AND key_id = :key_id"
_KEYS = f"""
SELECT {_COLUMNS} FROM api_keys
 WHERE tenant_id = :tenant AND (name, created_at, key_id) > (:after_name, :after_time, :after_id)
   AND name >= :first AND name <= :last
 ORDER BY name, created_at, key_id LIMIT :limit"""
_SEALED = f"""
SELECT sealed_value, sealing_key_id FROM api_keys
 WHERE tenant_id = :tenant AND key_id = :key_id AND sealed_value IS NOT NULL AND {_LIVE}"""
_REPLACE = f"""
UPDATE api_keys SET sealed_value = :after, sealing_key_id = :sealing_key_id, updated_at = :now
 WHERE tenant_id = :tenant AND key_id = :key_id AND sealed_value = :before AND {_LIVE}
RETURNING {_COLUMNS}"""
_PURGE = """
DELETE FROM api_keys WHERE tenant_id = :tenant AND key_id IN (
    SELECT key_id FROM api_keys WHERE tenant_id = :tenant AND expires_at <= :now ORDER BY expires_at, key_id LIMIT :limit)"""
_MINUTE = 60_000_000
_LAST_NAME = "\U0010ffff" * NAME_MAX
_BEFORE_ALL = -(2**63)


class SqliteApiKeys(SqliteStore):
    """See ``ApiKeysBackend``."""

    @writes
    def add(self, database: Connection, new: NewKey) -> ApiKey:
        """Write a row."""
        now = self.engine.now()
        if database.execute(_SUCCESSOR, {"tenant": self.tenant_id, "key_id": new.key_id}).fetchone() is not None:
            raise AlreadyExists("the id is taken: the successor of its key names it")
        return self._insert(database, new, now, _end(new, now), None)

    def verify(self, key_id: str, key_hash: bytes) -> VerifiedKey | None:
        """Return the live key that has both, and mark its use."""
        asked = {"tenant": self.tenant_id, "key_id": key_id, "key_hash": key_hash, "now": self.engine.now()}
        return _verified(self.engine, _VERIFY, asked)

    verify.runs_on = "reader"  # type: ignore[attr-defined]

    @writes
    def rotate(self, database: Connection, key_id: str, successor: NewKey, overlap: float) -> ApiKey | None:
        """Write the successor of a live issued key."""
        now = self.engine.now()
        asked = {"tenant": self.tenant_id, "key_id": key_id, "now": now}
        old = database.execute(_OLD, asked).fetchone()
        if old is None:
            return None
        if database.execute(_SUCCESSOR, asked).fetchone() is not None:
            raise Conflict("the key has a successor")
        name, prefix, scopes, metadata, before, ends_at, created_at = old
        expires_at = _end(successor, now)
        if expires_at is None and ends_at is not None:
            expires_at = now + ends_at - created_at
        database.execute(_END, {**asked, "at": now + round(overlap * 1_000_000)})
        if before is not None:
            database.execute(_END, {**asked, "key_id": before, "at": now})
        new = NewKey(successor.key_id, name, prefix, successor.key_hash, None, tuple(json.loads(scopes)), metadata)
        return self._insert(database, new, now, expires_at, key_id)

    @writes_once
    def revoke(self, database: Connection, key_id: str) -> bool:
        """Revoke what is not revoked; tell whether this did it."""
        asked = {"tenant": self.tenant_id, "key_id": key_id, "now": self.engine.now()}
        return database.execute(_REVOKE, asked).rowcount == 1

    @writes_once
    def delete(self, database: Connection, key_id: str) -> bool:
        """Remove a row; tell whether it was there."""
        return database.execute(_DELETE, {"tenant": self.tenant_id, "key_id": key_id}).rowcount == 1

    @reads
    def key(self, database: Connection, key_id: str) -> ApiKey | None:
        """Return a row."""
        row = database.execute(_KEY, {"tenant": self.tenant_id, "key_id": key_id}).fetchone()
        return None if row is None else _record(row)

    @reads
    def keys(
        self, database: Connection, name: str | None, after: tuple[str, datetime, str] | None, limit: int
    ) -> list[ApiKey]:
        """Return up to ``limit`` rows behind ``after``."""
        after_name, after_time, after_id = ("", _BEFORE_ALL, "") if after is None else after
        bounds = {
            "tenant": self.tenant_id,
            "first": name or "",
            "last": _LAST_NAME if name is None else name,
            "after_name": after_name,
            "after_time": to_microseconds(after_time) if isinstance(after_time, datetime) else after_time,
            "after_id": after_id,
            "limit": limit,
        }
        return [_record(row) for row in database.execute(_KEYS, bounds)]

    @reads
    def sealed(self, database: Connection, key_id: str) -> Sealed | None:
        """Return a live sealed value."""
        asked = {"tenant": self.tenant_id, "key_id": key_id, "now": self.engine.now()}
        row = database.execute(_SEALED, asked).fetchone()
        return None if row is None else Sealed(*row)

    @writes_once
    def replace_sealed(self, database: Connection, key_id: str, before: Sealed, after: Sealed) -> ApiKey | None:
        """Put a sealed value in the place of the live one that is there."""
        values = {
            "tenant": self.tenant_id,
            "key_id": key_id,
            "before": before.value,
            "after": after.value,
            "sealing_key_id": after.sealing_key_id,
            "now": self.engine.now(),
        }
        rows = database.execute(_REPLACE, values).fetchall()
        return _record(rows[0]) if rows else None

    @writes_once
    def purge_expired(self, database: Connection, limit: int) -> int:
        """Remove rows that have expired; count them."""
        bounds = {"tenant": self.tenant_id, "now": self.engine.now(), "limit": limit}
        return database.execute(_PURGE, bounds).rowcount

    def _insert(
        self, database: Connection, new: NewKey, now: int, expires_at: int | None, rotated_from: str | None
    ) -> ApiKey:
        values = {
            "tenant": self.tenant_id,
            "key_id": new.key_id,
            "name": new.name,
            "key_hash": new.key_hash,
            "sealed_value": None if new.sealed is None else new.sealed.value,
            "sealing_key_id": None if new.sealed is None else new.sealed.sealing_key_id,
            "scopes": documents.encode(list(new.scopes)),
            "metadata": new.metadata,
            "rotated_from": rotated_from,
            "expires_at": expires_at,
            "now": now,
            "prefix": new.prefix,
        }
        (row,) = database.execute(_ADD, values).fetchall()
        return _record(row)


def verify_over_all(engine: SqliteEngine, key_id: str, key_hash: bytes) -> VerifiedKey | None:
    """Return the live key of any tenant that has this id and hash, and mark its use."""
    return _verified(engine, _VERIFY_OVER_ALL, {"key_id": key_id, "key_hash": key_hash, "now": engine.now()})


verify_over_all.runs_on = "reader"  # type: ignore[attr-defined]


def _verified(engine: SqliteEngine, statement: str, asked: dict[str, Any]) -> VerifiedKey | None:
    row = engine.read(lambda database: database.execute(statement, asked).fetchone())
    if row is None:
        return None
    tenant_id, key_id, name, scopes, expires_at, last_used_at = row
    if last_used_at is None or last_used_at < asked["now"] - _MINUTE:
        # A file that is full or busy keeps nobody out: the mark comes with the next use.
        with suppress(Unavailable):
            engine.write(lambda database: database.execute(_NOTE, {**asked, "tenant": tenant_id}))
    return VerifiedKey(tenant_id, key_id, name, tuple(json.loads(scopes)), _moment(expires_at))


def _end(new: NewKey, now: int) -> int | None:
    if new.ttl is not None:
        return now + round(new.ttl * 1_000_000)
    return None if new.expires_at is None else to_microseconds(new.expires_at)


def _moment(count: int | None) -> datetime | None:
    return None if count is None else from_microseconds(count)


def _record(row: tuple[Any, ...]) -> ApiKey:
    key_id, name, prefix, scopes, metadata, sealing_key_id, rotated_from, *times = row
    return api_key(
        (
            key_id,
            name,
            prefix,
            tuple(json.loads(scopes)),
            metadata,
            sealing_key_id,
            rotated_from,
            *map(_moment, times),
        )
    )
