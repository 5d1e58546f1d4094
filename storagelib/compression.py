"""Compression with zstd: bytes are packed only where that makes them smaller, and unpacking never grows beyond a bound."""

from __future__ import annotations

import sys
from typing import Final

from storagelib.errors import Corrupted

__all__ = ["LEVEL", "compress", "decompress"]

LEVEL: Final = 3
"""The level that is used unless the caller asks for another: about 400 MB/s on one core."""

_WORTH_FROM: Final = 64


def compress(data: bytes, level: int = LEVEL) -> bytes | None:
    """Return ``data`` as one zstd frame, or None when the frame would not be smaller.

    >>> compress(b"a" * 1000) is not None, compress(b"short") is None
    (True, True)
    """
    if len(data) < _WORTH_FROM:
        return None
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - loaded by the first value that is packed
    else:
        from backports import zstd  # noqa: PLC0415 - loaded by the first value that is packed

    packed = zstd.compress(data, level)
    return packed if len(packed) < len(data) else None


def decompress(data: bytes, most: int) -> bytes:
    """Return what one zstd frame holds, at most ``most`` bytes.

    Raises ``Corrupted`` for anything but one whole frame, and for one that holds more: at most ``most + 1`` bytes are
    unpacked to find that out.

    >>> decompress(compress(b"a" * 1000), 1000) == b"a" * 1000
    True
    """
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - loaded by the first value that is unpacked
    else:
        from backports import zstd  # noqa: PLC0415 - loaded by the first value that is unpacked

    unpacking = zstd.ZstdDecompressor()
    try:
        plain = unpacking.decompress(data, max_length=most + 1)
    except zstd.ZstdError as error:
        raise Corrupted("packed bytes cannot be unpacked: they are damaged") from error
    if len(plain) > most:
        raise Corrupted(f"packed bytes hold more than the {most} bytes that were written")
    if not unpacking.eof:
        raise Corrupted("packed bytes cannot be unpacked: their end is missing")
    if unpacking.unused_data:
        raise Corrupted("packed bytes cannot be unpacked: something follows their end")
    return plain
