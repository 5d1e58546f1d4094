"""Values in PostgreSQL's binary form, by the type that a statement declares for each parameter.

Every parameter has one known type, so that a statement is prepared once and no type is guessed from a value.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import Format

from storagelib.clocks import FOREVER, LONG_AGO

if TYPE_CHECKING:
    from psycopg.abc import Buffer

__all__ = ["OIDS", "Encoder", "encoder", "register_loaders", "time_of"]

Encoder = Callable[[Any], "Buffer"]
"""Writes a value that is not None."""

OIDS: Final[Mapping[str, int]] = {
    "text": 25,
    "bytea": 17,
    "bigint": 20,
    "float8": 701,
    "float4": 700,
    "boolean": 16,
    "timestamptz": 1184,
    "uuid": 2950,
    "jsonb": 3802,
    "text[]": 1009,
    "bytea[]": 1001,
    "bigint[]": 1016,
    "float8[]": 1022,
    "float4[]": 1021,
    "boolean[]": 1000,
    "timestamptz[]": 1185,
    "uuid[]": 2951,
    "jsonb[]": 3807,
}
"""The types that every server numbers alike."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INFINITY: Final = 2**63 - 1
_INT4: Final = Struct("!i")
_INT8: Final = Struct("!q")
_FLOAT8: Final = Struct("!d")
_FLOAT4: Final = Struct("!f")
_VECTOR_HEAD: Final = Struct("!HH")
_ARRAY_HEAD: Final = Struct("!iiIii")
_NULL: Final = _INT4.pack(-1)
_JSONB_VERSION: Final = b"\x01"
_PLANE: Final = 2


def _time(value: datetime) -> bytes:
    if value == FOREVER:
        return _INT8.pack(_INFINITY)
    if value == LONG_AGO:
        return _INT8.pack(-_INFINITY - 1)
    return _INT8.pack((value - _EPOCH) // _MICROSECOND)


def _vector(value: Any) -> bytes:
    floats = array("f")
    floats.frombytes(value if isinstance(value, bytes) else value.astype("<f4", copy=False).tobytes())
    if sys.byteorder == "little":
        floats.byteswap()
    return _VECTOR_HEAD.pack(len(floats), 0) + floats.tobytes()


_SCALARS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": str.encode,
    "bytea": lambda value: value,
    "bigint": _INT8.pack,
    "float8": _FLOAT8.pack,
    "float4": _FLOAT4.pack,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "timestamptz": _time,
    "uuid": lambda value: (value if isinstance(value, UUID) else UUID(value)).bytes,
    "jsonb": lambda value: _JSONB_VERSION + value.encode(),
    "vector": _vector,
}


def encoder(kind: str, oids: Mapping[str, int]) -> Encoder:
    """Return what writes values of a type such as ``text`` or ``bigint[]``; ``oids`` number the types of extensions."""
    element = kind.removesuffix("[]")
    scalar = _SCALARS[element]
    if element == kind:
        return scalar
    if element == "vector":
        vector = oids["vector"]
        return lambda value: _vectors(value, vector)
    oid = OIDS[element]
    return lambda value: _array(value, oid, scalar)


def _array(values: Iterable[Any], oid: int, scalar: Callable[[Any], bytes]) -> bytes:
    parts = [b""]
    count, nulls = 0, 0
    for value in values:
        count += 1
        if value is None:
            nulls = 1
            parts.append(_NULL)
        else:
            body = scalar(value)
            parts.append(_INT4.pack(len(body)))
            parts.append(body)
    if not count:
        return _ARRAY_HEAD.pack(0, 0, oid, 0, 0)[:12]
    parts[0] = _ARRAY_HEAD.pack(1, nulls, oid, count, 1)
    return b"".join(parts)


def _vectors(values: Any, oid: int) -> Buffer:
    """Write many vectors; a float32 array of shape (count, dimensions) goes without a step for each of them."""
    if getattr(values, "ndim", 1) != _PLANE:
        return _array(values, oid, _vector)
    # Only who has such an array has numpy.
    import numpy as np  # noqa: PLC0415

    count, dimensions = values.shape
    record = np.dtype([("length", ">i4"), ("dimensions", ">u2"), ("unused", ">u2"), ("values", ">f4", (dimensions,))])
    head = _ARRAY_HEAD.pack(1, 0, oid, count, 1) if count else _ARRAY_HEAD.pack(0, 0, oid, 0, 0)[:12]
    # Written once where it is sent from: megabytes are not copied for the sake of a head.
    written = np.empty(len(head) + count * record.itemsize, dtype=np.uint8)
    written[: len(head)] = np.frombuffer(head, np.uint8)
    rows = written[len(head) :].view(record)
    rows["length"] = 4 + 4 * dimensions
    rows["dimensions"] = dimensions
    rows["unused"] = 0
    rows["values"] = values
    return written.data


def time_of(data: Buffer) -> datetime:
    """Read the eight bytes of a timestamptz as a time in UTC, infinities included."""
    (count,) = _INT8.unpack(data)
    try:
        # By position, and without looking for infinities first: pages have many of these.
        return _EPOCH + timedelta(0, 0, count)
    except OverflowError:
        if count == _INFINITY:
            return FOREVER
        if count == -_INFINITY - 1:
            return LONG_AGO
        raise


class _Moment(Loader):
    """Reads timestamptz."""

    format = Format.BINARY
    load = staticmethod(time_of)


class _JsonText(Loader):
    """Reads jsonb as its text."""

    format = Format.BINARY

    def load(self, data: Buffer) -> str:
        """Return the text."""
        return bytes(data)[1:].decode()


class _VectorBytes(Loader):
    """Reads a vector as little-endian float32."""

    format = Format.BINARY

    def load(self, data: Buffer) -> bytes:
        """Return four bytes a dimension."""
        floats = array("f")
        floats.frombytes(bytes(data)[4:])
        if sys.byteorder == "little":
            floats.byteswap()
        return floats.tobytes()


def register_loaders(adapters: psycopg.adapt.AdaptersMap, oids: Mapping[str, int]) -> None:
    """Have a connection read times, documents and vectors in the form that rows of this library have."""
    adapters.register_loader(OIDS["timestamptz"], _Moment)
    adapters.register_loader(OIDS["jsonb"], _JsonText)
    if "vector" in oids:
        adapters.register_loader(oids["vector"], _VectorBytes)
