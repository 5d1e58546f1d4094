"""Issued keys and sealed values: their records, and the text of a token with its checksum.

A token is ``<prefix>_<key id>_<secret><checksum>``: the secret is 256 random bits as 43 base-62 digits, the checksum the
CRC-32 of everything before it as 6 of them. A token with a typo is refused by its checksum alone. What a store keeps is the
SHA-256 of the whole text, as ASCII.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from storagelib import documents
from storagelib.documents import Json
from storagelib.errors import PermissionDenied
from storagelib.records import maker

__all__ = [
    "NAME_MAX",
    "PREFIX",
    "ApiKey",
    "CreatedKey",
    "NewKey",
    "Presented",
    "Sealed",
    "VerifiedKey",
    "api_key",
    "base62",
    "granted",
    "key_hash",
    "presented",
    "token_of",
]

PREFIX: Final = "lsk"
"""The prefix of a token whose maker names no other."""
SECRET_BITS: Final = 256
NAME_MAX: Final = 255
"""Characters of a key's name."""
_SECRET_DIGITS: Final = 43
_CHECKSUM_DIGITS: Final = 6
# In the order of code points, so that ids which begin with the time sort by it.
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX_PATTERN: Final = re.compile(r"[A-Za-z](?:[0-9A-Za-z_]{0,48}[0-9A-Za-z])?", re.ASCII)
KEY_ID_PATTERN: Final = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)
_TOKEN: Final = re.compile(
    rf"(?P<prefix>{PREFIX_PATTERN.pattern})_(?P<key_id>{KEY_ID_PATTERN.pattern})_[0-9A-Za-z]{{49}}", re.ASCII
)
_TOKEN_MAX: Final = 50 + 1 + 64 + 1 + _SECRET_DIGITS + _CHECKSUM_DIGITS


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key that was just made. Its token is shown this once: nothing that is stored gives it back."""

    token: str = field(repr=False)
    """What the key's holder presents."""
    key_id: str
    """The id by which the key is managed; it is part of the token and no secret."""
    name: str
    """The name."""
    scopes: tuple[str, ...]
    """What the key may do, sorted."""
    expires_at: datetime | None
    """When it stops working."""


@dataclass(frozen=True, slots=True)
class VerifiedKey:
    """A key that was presented and is good."""

    tenant_id: str
    """The tenant it belongs to."""
    key_id: str
    """Its id."""
    name: str
    """Its name."""
    scopes: tuple[str, ...]
    """What it may do, sorted."""
    expires_at: datetime | None
    """When it stops working."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is stored of an issued key, or beside a sealed value; neither the token nor the value."""

    key_id: str
    """The id."""
    name: str
    """The name; several may share it."""
    prefix: str | None
    """First part of an issued key's token; None for a sealed value."""
    scopes: tuple[str, ...]
    """What an issued key may do, sorted."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    sealing_key_id: str | None
    """Which key of the ring sealed the value; None for an issued key."""
    rotated_from: str | None
    """The key that this one took over from."""
    expires_at: datetime | None
    """When it stops working."""
    revoked_at: datetime | None
    """When it was revoked."""
    last_used_at: datetime | None
    """When it was verified last, to the minute."""
    created_at: datetime
    """When it was made."""
    updated_at: datetime
    """When it was last changed; being used is no change."""

    @property
    def sealed(self) -> bool:
        """Whether this is a sealed value, not an issued key."""
        return self.sealing_key_id is not None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A row to write, checked: an issued key has ``prefix`` and ``key_hash``, a sealed value ``sealed``.

    ``metadata`` is canonical JSON text. At most one of ``ttl`` (seconds) and ``expires_at`` is given; a successor without
    either lives as long from now as the key before it was made to.
    """

    key_id: str
    name: str = ""
    prefix: str | None = None
    key_hash: bytes | None = field(default=None, repr=False)
    sealed: Sealed | None = None
    scopes: tuple[str, ...] = ()
    metadata: str = "{}"
    ttl: float | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """A value as the store has it: unreadable without the ring."""

    value: bytes = field(repr=False)
    """Version, nonce, ciphertext and tag."""
    sealing_key_id: str
    """Which key of the ring sealed it."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A token whose text is right: what a store is asked with."""

    key_id: str
    """The id it names."""
    key_hash: bytes = field(repr=False)
    """The SHA-256 of the token."""


Row = tuple[
    str,
    str,
    str | None,
    tuple[str, ...],
    str,
    str | None,
    str | None,
    datetime | None,
    datetime | None,
    datetime | None,
    datetime,
    datetime,
]
"""The columns of ``ApiKey`` in its order, metadata as JSON text."""


_API_KEY: Final = maker(ApiKey)


def api_key(row: Row) -> ApiKey:
    """Make a record of a row."""
    key_id, name, prefix, scopes, metadata, *rest = row
    return _API_KEY(key_id, name, prefix, tuple(scopes), documents.decode(metadata), *rest)


def base62(number: int, digits: int) -> str:
    """Write a number with a fixed count of base-62 digits.

    >>> base62(61, 2), base62(62, 2)
    ('0z', '10')
    """
    text = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text


def token_of(prefix: str, key_id: str, secret: int) -> str:
    """Write a token.

    >>> token_of("lsk", "7", 0)
    'lsk_7_0000000000000000000000000000000000000000000007y6v'
    """
    text = f"{prefix}_{key_id}_{base62(secret, _SECRET_DIGITS)}"
    return text + _checksum(text)


def key_hash(token: str) -> bytes:
    """Return what is stored of a token: the SHA-256 of its whole text, from the prefix to the checksum."""
    return hashlib.sha256(token.encode("ascii")).digest()


def presented(token: object) -> Presented | None:
    """Read a token; None for what cannot be one, such as a token with a typo.

    >>> presented("lsk_7_" + "0" * 49) is None
    True
    """
    if not isinstance(token, str) or len(token) > _TOKEN_MAX:
        return None
    found = _TOKEN.fullmatch(token)
    if found is None or _checksum(token[:-_CHECKSUM_DIGITS]) != token[-_CHECKSUM_DIGITS:]:
        return None
    return Presented(found["key_id"], key_hash(token))


def granted(found: VerifiedKey | None, scope: str | None) -> VerifiedKey:
    """Return a key that was found and has the scope; raises ``PermissionDenied``.

    Whether a key is unknown, expired, revoked or was never one is not told.
    """
    if found is None:
        raise PermissionDenied("the key is not valid")
    if scope is not None and scope not in found.scopes:
        raise PermissionDenied("the key is not for this scope")
    return found


def _checksum(text: str) -> str:
    return base62(zlib.crc32(text.encode("ascii")), _CHECKSUM_DIGITS)
