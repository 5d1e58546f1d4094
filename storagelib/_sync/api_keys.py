# Made from storagelib/_async/api_keys.py by scripts/sync; change that file instead.
"""Issued keys, of which only hashes are kept, and sealed values, which the application alone can open."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from storagelib._sync.listings import each_item
from storagelib.clocks import FOREVER
from storagelib.components.api_keys import (
    KEY_ID_PATTERN,
    NAME_MAX,
    PREFIX,
    PREFIX_PATTERN,
    SECRET_BITS,
    ApiKey,
    CreatedKey,
    NewKey,
    Sealed,
    VerifiedKey,
    base62,
    granted,
    key_hash,
    presented,
    token_of,
)
from storagelib.documents import Document, check_metadata
from storagelib.errors import Conflict, InvalidInput, NotFound
from storagelib.identifiers import uuid7
from storagelib.limits import (
    BATCH_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_bytes,
    check_integer,
    check_page_size,
    check_text,
    check_time,
    check_ttl,
)
from storagelib.pages import Page, page_of, position_of
from storagelib.sealing import SEALED_BYTES_MAX, KeyRing, seal, unseal

__all__ = ["ApiKeys", "ApiKeysBackend"]

_SCOPES_MAX: Final = 100
_ID_DIGITS: Final = 22
_ORDER: Final = ("name", "created_at", "key_id")


class ApiKeysBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    A row is *live* while it is neither revoked nor expired.
    """

    @property
    def tenant_id(self) -> str:
        """The tenant, which sealed values are bound to."""
        ...

    def add(self, new: NewKey) -> ApiKey:
        """Write a row; raises ``AlreadyExists`` when the id or the hash is taken."""
        ...

    def verify(self, key_id: str, key_hash: bytes) -> VerifiedKey | None:
        """Return the live key that has both, and mark its use if the last mark is older than a minute."""
        ...

    def rotate(self, key_id: str, successor: NewKey, overlap: float) -> ApiKey | None:
        """Write the successor of a live issued key, with its name, prefix, scopes and metadata.

        The old key expires after ``overlap`` seconds if it would not earlier, and the key before it at once. Returns None
        when no live key has the id; raises ``Conflict`` when it has a successor.
        """
        ...

    def revoke(self, key_id: str) -> bool:
        """Revoke what is not revoked; tell whether this did it."""
        ...

    def delete(self, key_id: str) -> bool:
        """Remove a row; tell whether it was there."""
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """Return a row, live or not."""
        ...

    def keys(self, name: str | None, after: tuple[str, datetime, str] | None, limit: int) -> list[ApiKey]:
        """Return up to ``limit`` rows behind ``after``, live or not, in order of name, creation and id."""
        ...

    def sealed(self, key_id: str) -> Sealed | None:
        """Return a live sealed value."""
        ...

    def replace_sealed(self, key_id: str, before: Sealed, after: Sealed) -> ApiKey | None:
        """Put a sealed value in the place of the live one that is there; None when it is another one (by now)."""
        ...

    def purge_expired(self, limit: int) -> int:
        """Remove up to ``limit`` rows that have expired; count them."""
        ...


class ApiKeys:
    """The API keys of one tenant, and values that it seals.

    Of an issued key the SHA-256 of its token is kept, so that a token is shown once, by the verb that made it. A sealed value
    is encrypted before it is sent, with a key that no backend ever has. Tokens, values and keys are in no error and no repr.

    >>> from storagelib import Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         keys = store.for_tenant("acme").api_keys
    ...         created = keys.create("robot", scopes=["kv:read"], ttl=90 * 24 * 3600)
    ...         found = keys.verify(created.token, "kv:read")
    ...         print(found.name, found.tenant_id, created.token in repr(created))
    ...         print(keys.revoke(found.key_id), keys.revoke(found.key_id))
    >>> example()
    robot acme False
    True False
    """

    def __init__(self, backend: ApiKeysBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[str] = (),
        expires_at: datetime | None = None,
        ttl: float | timedelta | None = None,
        metadata: Document | None = None,
        prefix: str = PREFIX,
        key_id: str | None = None,
    ) -> CreatedKey:
        """Make a key with a secret of 256 random bits and return it with its token, which cannot be read again.

        ``expires_at`` or ``ttl`` (seconds) ends it; without either it works until it is revoked. ``key_id`` is made up unless
        given: 1 to 64 letters and digits. Raises ``AlreadyExists`` when that is taken, be it by a key that is gone and whose
        successor is there.
        """
        chosen = (
            _key_id() if key_id is None else _matched("key_id", key_id, KEY_ID_PATTERN, "1 to 64 letters and digits")
        )
        start = _matched("prefix", prefix, PREFIX_PATTERN, "1 to 50 letters, digits and _, with a letter in front")
        token = token_of(start, chosen, secrets.randbits(SECRET_BITS))
        new = NewKey(
            chosen,
            check_text("name", name, most=NAME_MAX),
            prefix=start,
            key_hash=key_hash(token),
            scopes=_scopes(scopes),
            metadata=check_metadata(metadata),
            ttl=_ttl(ttl, expires_at),
            expires_at=_end(expires_at),
        )
        return _created(token, self._backend.add(new))

    def verify(self, token: str, scope: str | None = None) -> VerifiedKey:
        """Return the key that a token belongs to, if it is this tenant's, live, and has the scope that is wanted.

        Raises ``PermissionDenied``: one message for every token that is not good, whatever is the matter with it, and another
        for a good one without the scope. A token with a typo is refused without asking the backend.
        """
        wanted = None if scope is None else check_text("scope", scope)
        asked = presented(token)
        found = None if asked is None else self._backend.verify(asked.key_id, asked.key_hash)
        return granted(found, wanted)

    def rotate(
        self,
        key_id: str,
        *,
        overlap: float | timedelta = 86_400,
        expires_at: datetime | None = None,
        ttl: float | timedelta | None = None,
    ) -> CreatedKey:
        """Make the successor of a live key: another id and secret, the same name, prefix, scopes and metadata.

        The old key works for ``overlap`` (seconds; 0 ends it now) and not longer than it would have; a key before it that still
        overlaps ends now, so that at most two work. Without ``expires_at`` and ``ttl`` the successor lives as long as the old
        key was made to. Raises ``NotFound`` when no live key has the id, and ``Conflict`` when it was rotated before: of
        several callers one wins.
        """
        successor = NewKey(_key_id(), ttl=_ttl(ttl, expires_at), expires_at=_end(expires_at))
        seconds = _overlap(overlap)
        old = self.get(key_id)
        if old is None or old.prefix is None:
            raise NotFound("there is no live key with this id")
        token = token_of(old.prefix, successor.key_id, secrets.randbits(SECRET_BITS))
        made = self._backend.rotate(key_id, replace(successor, key_hash=key_hash(token)), seconds)
        if made is None:
            raise NotFound("there is no live key with this id")
        return _created(token, made)

    def revoke(self, key_id: str) -> bool:
        """End a key or a sealed value now, and keep its row; tell whether it was there and not revoked before."""
        return self._backend.revoke(check_text("key_id", key_id))

    def delete(self, key_id: str) -> bool:
        """Remove a key or a sealed value; tell whether it was there."""
        return self._backend.delete(check_text("key_id", key_id))

    def get(self, key_id: str) -> ApiKey | None:
        """Return what is kept of a key or a sealed value, revoked and expired ones too, or None."""
        return self._backend.key(check_text("key_id", key_id))

    def list_keys(
        self, name: str | None = None, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[ApiKey]:
        """Return a page of keys and sealed values, revoked and expired ones too, in order of name, creation and id.

        With ``name`` only those of that name.
        """
        check_page_size(limit)
        after = position_of(cursor, str, datetime, str)
        chosen = None if name is None else check_text("name", name, most=NAME_MAX)
        found = self._backend.keys(chosen, None if after is None else (after[0], after[1], after[2]), limit + 1)
        return page_of(found, limit, *_ORDER)

    def keys(self, name: str | None = None) -> Iterator[ApiKey]:
        """Go through all keys and sealed values, page by page."""
        return each_item(self.list_keys, name, limit=PAGE_MAX)

    def purge_expired(self, *, limit: int = BATCH_MAX) -> int:
        """Remove keys and sealed values that have expired; count them. Revoked ones stay until they expire."""
        return self._backend.purge_expired(check_integer("limit", limit, least=1, most=BATCH_MAX))

    def seal(
        self,
        name: str,
        value: bytes,
        ring: KeyRing,
        *,
        key_id: str | None = None,
        expires_at: datetime | None = None,
        ttl: float | timedelta | None = None,
        metadata: Document | None = None,
    ) -> ApiKey:
        """Keep a value of up to 64 KiB that only the ring opens, bound to this tenant and its id.

        ``key_id`` is made up unless given; raises ``AlreadyExists`` when that is taken, and ``InvalidInput`` where the package
        ``cryptography`` (extra ``sealing``) is missing.
        """
        chosen = _key_id() if key_id is None else check_text("key_id", key_id)
        text = check_text("name", name, most=NAME_MAX)
        plain = check_bytes("value", value, most=SEALED_BYTES_MAX)
        new = NewKey(
            chosen,
            text,
            sealed=seal(plain, _ring(ring), self._backend.tenant_id, chosen),
            metadata=check_metadata(metadata),
            ttl=_ttl(ttl, expires_at),
            expires_at=_end(expires_at),
        )
        return self._backend.add(new)

    def unseal(self, key_id: str, ring: KeyRing) -> bytes:
        """Return a sealed value.

        Raises ``NotFound`` when no live one has the id, ``PermissionDenied`` when the ring does not have its key, and
        ``Corrupted`` when it was changed or belongs elsewhere.
        """
        keys = _ring(ring)
        found = self._sealed(key_id)
        return unseal(found, keys, self._backend.tenant_id, key_id)

    def reseal(self, key_id: str, ring: KeyRing) -> ApiKey:
        """Seal a value anew with the ring's current key.

        Raises what ``unseal`` raises, and ``Conflict`` when somebody else sealed it anew meanwhile.
        """
        keys = _ring(ring)
        before = self._sealed(key_id)
        tenant_id = self._backend.tenant_id
        after = seal(unseal(before, keys, tenant_id, key_id), keys, tenant_id, key_id)
        made = self._backend.replace_sealed(key_id, before, after)
        if made is None:
            raise Conflict("the value was sealed anew, revoked or removed meanwhile")
        return made

    def _sealed(self, key_id: str) -> Sealed:
        found = self._backend.sealed(check_text("key_id", key_id))
        if found is None:
            raise NotFound("there is no live sealed value with this id")
        return found


def _key_id() -> str:
    return base62(uuid7().int, _ID_DIGITS)


def _created(token: str, made: ApiKey) -> CreatedKey:
    return CreatedKey(token, made.key_id, made.name, made.scopes, made.expires_at)


def _matched(name: str, value: object, pattern: re.Pattern[str], wanted: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be {wanted}"])
    return value


def _scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    listed = check_batch("scopes", scopes)
    if len(listed) > _SCOPES_MAX:
        raise InvalidInput("the argument cannot be used", [f"scopes: has {len(listed)} items, at most 100 fit"])
    return tuple(sorted({check_text("scopes", scope) for scope in listed}))


def _ttl(ttl: float | timedelta | None, expires_at: datetime | None) -> float | None:
    if ttl is None:
        return None
    if expires_at is not None:
        raise InvalidInput("the argument cannot be used", ["ttl: is given beside expires_at"])
    return check_ttl("ttl", ttl).total_seconds()


def _end(expires_at: datetime | None) -> datetime | None:
    if expires_at is None:
        return None
    moment = check_time("expires_at", expires_at)
    return None if moment == FOREVER else moment


def _overlap(overlap: float | timedelta) -> float:
    return check_ttl("overlap", overlap, least=timedelta(0)).total_seconds()


def _ring(ring: object) -> KeyRing:
    if not isinstance(ring, KeyRing):
        raise InvalidInput("the argument cannot be used", ["ring: must be a KeyRing"])
    return ring
