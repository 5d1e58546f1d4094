"""Values that must be read back, sealed with AES-256-GCM before they reach a store; the keys stay in the application.

A sealed value is one byte of version, 12 random bytes of nonce, the ciphertext and 16 bytes of tag. Its tenant and its id
are part of what the tag covers, so that a value that was moved to another row or tenant does not open.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from storagelib.components.api_keys import Sealed
from storagelib.errors import Corrupted, InvalidInput, PermissionDenied
from storagelib.limits import check_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["SEALED_BYTES_MAX", "KeyRing", "seal", "unseal"]

SEALED_BYTES_MAX: Final = 64 << 10
"""Bytes of a value before it is sealed."""

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_VERSION: Final = b"\x01"
_PURPOSE: Final = b"llmspell sealed value 1"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by id, 32 bytes each; the current one seals, every one opens. Keep retired keys until nothing needs them.

    >>> KeyRing("2026-01", {"2026-01": bytes(32)})
    KeyRing(current_id='2026-01')
    """

    current_id: str
    """The id of the key that seals."""
    keys: Mapping[str, bytes] = field(repr=False)
    """The keys."""

    def __post_init__(self) -> None:
        """Check every key, and keep a copy of the mapping that nobody changes; raises ``InvalidInput``."""
        faults = []
        if not isinstance(self.keys, Mapping):
            raise InvalidInput("the ring cannot be used", ["keys: must be a mapping of ids to 32 bytes"])
        for key_id, key in dict[str, object](self.keys).items():
            check_text("keys", key_id)
            if not isinstance(key, bytes) or len(key) != _KEY_BYTES:
                faults.append(f"keys: the key {key_id!a} must be 32 bytes")
        current: Any = self.current_id
        if not isinstance(current, str) or current not in self.keys:
            faults.append("current_id: is not among the keys")
        if faults:
            raise InvalidInput("the ring cannot be used", faults)
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))


def seal(value: bytes, ring: KeyRing, tenant_id: str, key_id: str) -> Sealed:
    """Seal a value with the current key; raises ``InvalidInput`` where the package ``cryptography`` is missing."""
    nonce = os.urandom(_NONCE_BYTES)
    sealed = _cipher(ring, ring.current_id).encrypt(nonce, value, _covered(tenant_id, key_id))
    return Sealed(_VERSION + nonce + sealed, ring.current_id)


def unseal(sealed: Sealed, ring: KeyRing, tenant_id: str, key_id: str) -> bytes:
    """Open a value.

    Raises ``PermissionDenied`` when the ring does not have the key, and ``Corrupted`` when the value was changed, moved, or
    sealed with another key of the same id.
    """
    if sealed.sealing_key_id not in ring.keys:
        raise PermissionDenied("the ring does not have the key that sealed this value")
    cipher, value = _cipher(ring, sealed.sealing_key_id), sealed.value
    if value[:1] != _VERSION or len(value) < 1 + _NONCE_BYTES + _TAG_BYTES:
        raise Corrupted("the sealed value is damaged")
    nonce, rest = value[1 : 1 + _NONCE_BYTES], value[1 + _NONCE_BYTES :]
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - the cipher is there, so this is

    try:
        return cipher.decrypt(nonce, rest, _covered(tenant_id, key_id))
    except InvalidTag:
        raise Corrupted(
            "the sealed value does not open: it was changed, moved, or its key's bytes are others"
        ) from None


def _cipher(ring: KeyRing, sealing_key_id: str) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - only who seals needs it
    except ImportError as error:
        raise InvalidInput(
            "values cannot be sealed here", ["cryptography: is not installed: pip install 'llmspell-storage[sealing]'"]
        ) from error
    kind: Any = AESGCM
    cipher: AESGCM = kind(ring.keys[sealing_key_id])
    return cipher


def _covered(tenant_id: str, key_id: str) -> bytes:
    # Neither holds a NUL, so that no two pairs give the same bytes.
    return b"\0".join((_PURPOSE, tenant_id.encode(), key_id.encode()))
