"""Issued keys and sealed values in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from storage_sql.queries import load
from storagelib._async.postgres.database import AsyncDatabase
from storagelib._async.postgres.engine import AsyncPostgresEngine
from storagelib.clocks import LONG_AGO
from storagelib.components.api_keys import NAME_MAX, ApiKey, NewKey, Sealed, VerifiedKey, api_key
from storagelib.errors import AlreadyExists, Conflict

__all__ = ["AsyncPostgresApiKeys", "verify_over_all"]

_QUERIES = load("api_keys")
_VERIFY = _QUERIES["verify"]
_LAST_NAME: Final = "\U0010ffff" * NAME_MAX


class AsyncPostgresApiKeys:
    """See ``AsyncApiKeysBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    @property
    def tenant_id(self) -> str:
        """The tenant."""
        return self._database.tenant_id

    async def add(self, new: NewKey) -> ApiKey:
        """Write a row."""
        rows = await self._database.fetch(
            _QUERIES["add"],
            key_id=new.key_id,
            name=new.name,
            prefix=new.prefix,
            key_hash=new.key_hash,
            sealed_value=None if new.sealed is None else new.sealed.value,
            sealing_key_id=None if new.sealed is None else new.sealed.sealing_key_id,
            scopes=list(new.scopes),
            metadata=new.metadata,
            ttl=new.ttl,
            expires_at=new.expires_at,
        )
        if not rows:
            raise AlreadyExists("the id is taken: the successor of its key names it")
        return _record(rows[0])

    async def verify(self, key_id: str, key_hash: bytes) -> VerifiedKey | None:
        """Return the live key that has both, and mark its use."""
        rows = await self._database.fetch(_VERIFY, key_id=key_id, key_hash=key_hash)
        return _verified(rows)

    async def rotate(self, key_id: str, successor: NewKey, overlap: float) -> ApiKey | None:
        """Write the successor of a live issued key."""
        try:
            rows = await self._database.fetch(
                _QUERIES["rotate"],
                key_id=key_id,
                new_id=successor.key_id,
                key_hash=successor.key_hash,
                overlap=overlap,
                ttl=successor.ttl,
                expires_at=successor.expires_at,
            )
        except AlreadyExists as error:
            # The new id and hash are random: it is the successor that is there.
            raise Conflict("the key has a successor") from error
        return _record(rows[0]) if rows else None

    async def revoke(self, key_id: str) -> bool:
        """Revoke what is not revoked; tell whether this did it."""
        return bool(await self._database.fetch(_QUERIES["revoke"], key_id=key_id))

    async def delete(self, key_id: str) -> bool:
        """Remove a row; tell whether it was there."""
        return bool(await self._database.fetch(_QUERIES["delete"], key_id=key_id))

    async def key(self, key_id: str) -> ApiKey | None:
        """Return a row."""
        rows = await self._database.fetch(_QUERIES["key"], key_id=key_id)
        return _record(rows[0]) if rows else None

    async def keys(self, name: str | None, after: tuple[str, datetime, str] | None, limit: int) -> list[ApiKey]:
        """Return up to ``limit`` rows behind ``after``."""
        after_name, after_time, after_id = ("", LONG_AGO, "") if after is None else after
        rows = await self._database.fetch(
            _QUERIES["keys"],
            first=name or "",
            last=_LAST_NAME if name is None else name,
            after_name=after_name,
            after_time=after_time,
            after_id=after_id,
            most=limit,
        )
        return [_record(row) for row in rows]

    async def sealed(self, key_id: str) -> Sealed | None:
        """Return a live sealed value."""
        rows = await self._database.fetch(_QUERIES["sealed"], key_id=key_id)
        return Sealed(*rows[0]) if rows else None

    async def replace_sealed(self, key_id: str, before: Sealed, after: Sealed) -> ApiKey | None:
        """Put a sealed value in the place of the live one that is there."""
        rows = await self._database.fetch(
            _QUERIES["replace_sealed"],
            key_id=key_id,
            before=before.value,
            after=after.value,
            sealing_key_id=after.sealing_key_id,
        )
        return _record(rows[0]) if rows else None

    async def purge_expired(self, limit: int) -> int:
        """Remove up to ``limit`` rows that have expired; count them."""
        return int((await self._database.fetch(_QUERIES["purge_expired"], most=limit))[0][0])


async def verify_over_all(engine: AsyncPostgresEngine, key_id: str, key_hash: bytes) -> VerifiedKey | None:
    """Return the live key of any tenant in reach that has this id and hash, and mark its use.

    The shared login of sealed mode asks a function of the schema, without being any tenant; another login asks as its own.
    """
    login, tenant_id = await engine.gateway()
    if login.sealed:
        (rows,) = await login.run([(_QUERIES["verify_over_all"], {"key_hash": key_hash})], tenant_id, None)
        return _verified(rows)
    backend: AsyncPostgresApiKeys = engine.backend("api_keys", tenant_id)
    return await backend.verify(key_id, key_hash)


def _verified(rows: list[tuple[Any, ...]]) -> VerifiedKey | None:
    if not rows:
        return None
    tenant_id, key_id, name, scopes, expires_at = rows[0][:5]
    return VerifiedKey(tenant_id, key_id, name, tuple(scopes), expires_at)


def _record(row: tuple[Any, ...]) -> ApiKey:
    return api_key(row)
