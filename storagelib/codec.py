"""Records as lines of JSON: what an export holds, the same from every backend, bit for bit.

A record is one row of one table. Its line is a JSON object with ``store``, ``table``, ``columns`` (all of the table, in its
order) and, last, ``sha256``: the checksum of the line without that member. How a column is written follows from its type in
``storage_sql.tables``:

| type | value here | in the line |
| --- | --- | --- |
| text | ``str`` | text |
| bigint | ``int`` of 64 bits | number |
| float8 | ``float`` | number; ``{"$float": "NaN"}``, ``"Infinity"`` or ``"-Infinity"`` |
| boolean | ``bool`` | ``true``, ``false`` |
| timestamptz | ``datetime`` in UTC | RFC 3339 with microseconds; ``infinity`` and ``-infinity`` |
| uuid | ``UUID`` | text |
| bytea | ``bytes`` | ``{"$bytes": base64}`` |
| vector | ``bytes``: float32, little-endian | ``{"$vector": base64 of the same}`` |
| jsonb | JSON text | the document itself, keys in order of code points |
| text[], uuid[] | ``tuple`` | list of texts |

NULL is ``null``. A document that is ``null``, or an object whose only key is ``$json``, stands as ``{"$json": document}``.

>>> columns = {"tenant_id": "acme", "from_phase": "idle", "agent_type": "planner", "to_phase": "busy"}
>>> line = encode(Record("agent_state", "agent_transitions", columns))
>>> line[:72]
b'{"store":"agent_state","table":"agent_transitions","columns":{"tenant_id'
>>> decode(line).columns == columns
True
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from storage_sql.tables import ColumnType, TableColumn, TenantTable, table
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.documents import DEPTH_MAX
from storagelib.errors import Corrupted, InvalidInput
from storagelib.limits import INTEGER_MAX, INTEGER_MIN

__all__ = ["LINE_BYTES_MAX", "Record", "Value", "decode", "encode"]

Value = None | bool | int | float | str | bytes | datetime | UUID | tuple[str, ...] | tuple[UUID, ...]
"""What a column holds."""

LINE_BYTES_MAX: Final = 512 << 20
"""Bytes of one line: the largest value as base64, with room for the rest."""

_SUM: Final = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\Z')
_SUM_BYTES: Final = len(b',"sha256":""}') + 64
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MEMBERS: Final = ["store", "table", "columns", "sha256"]
_FLOAT_BYTES: Final = 4
_NAMED_FLOATS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class Record:
    """One row of one table, all columns included, tenant too."""

    store: str
    """The store that it belongs to; a table of several stores is exported with one of them."""
    table: str
    """The table's name in the database."""
    columns: Mapping[str, Value]
    """Every column that ``storage_sql.tables`` names."""


class _Fault(ValueError):  # noqa: N818 - the sentence is the finding
    """What is wrong with one value; the sentence does not repeat it."""


def encode(record: Record) -> bytes:
    """Return a record's line, without a line feed.

    The same row gives the same bytes, whichever backend it came from. Raises ``InvalidInput`` with every column that does
    not hold what its type says, or that could not come back bit for bit.
    """
    found = table(record.table)
    if found is None or record.store not in found.stores:
        raise InvalidInput("the record cannot be written", [f"table: {_shown(record.table)} is no table of the store"])
    faults = _names_faults(found, record.columns)
    written: dict[str, object] = {}
    for column in found.columns:
        if column.name in record.columns:
            try:
                written[column.name] = _written(found, column, record.columns[column.name])
            except _Fault as fault:
                faults.append(f"{found.name}.{column.name}: {fault}")
    if faults:
        raise InvalidInput("the record cannot be written", faults)
    members = {"store": record.store, "table": record.table, "columns": written}
    body = json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    line = b'%s,"sha256":"%s"}' % (body[:-1], hashlib.sha256(body).hexdigest().encode())
    if len(line) > LINE_BYTES_MAX:
        raise InvalidInput(
            "the record cannot be written", [f"{found.name}: its line has more than {LINE_BYTES_MAX} bytes"]
        )
    return line


def decode(line: bytes) -> Record:
    """Return the record of a line, with or without its line feed.

    Raises ``Corrupted`` when the checksum differs or the line is not what ``encode`` writes for its table.
    """
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) > LINE_BYTES_MAX:
        raise Corrupted(f"the line has more than {LINE_BYTES_MAX} bytes")
    checksum = _SUM.search(line[-_SUM_BYTES:])
    if checksum is None:
        raise Corrupted("the line does not end with its checksum")
    body = line[:-_SUM_BYTES] + b"}"
    if hashlib.sha256(body).hexdigest().encode() != checksum[1]:
        raise Corrupted("the line is not what was written: its checksum differs")
    try:
        members = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refused, parse_float=_exact_float
        )
    except _Fault as fault:
        raise Corrupted(f"the line {fault}") from None
    except (ValueError, RecursionError):
        raise Corrupted("the line is not JSON") from None
    return _record(members)


def _record(members: object) -> Record:
    if not isinstance(members, dict) or list(members) != _MEMBERS[:-1]:
        raise Corrupted("the line has not exactly the members store, table, columns and sha256")
    store, name, columns = members.values()
    found = table(name) if isinstance(name, str) else None
    if found is None or store not in found.stores or not isinstance(columns, dict):
        raise Corrupted(f"the line is of a table that this release does not know: {_shown(name)}")
    faults = _names_faults(found, columns)
    read: dict[str, Value] = {}
    for column in found.columns:
        if column.name in columns:
            try:
                read[column.name] = _read(found, column, columns[column.name])
            except _Fault as fault:
                faults.append(f"{found.name}.{column.name}: {fault}")
    if faults:
        raise Corrupted(f"the line is not a row of its table: {'; '.join(faults)}")
    return Record(store, found.name, read)


def _names_faults(found: TenantTable, columns: Mapping[str, object]) -> list[str]:
    known = [column.name for column in found.columns]
    missing = [f"{found.name}.{name}: is missing" for name in known if name not in columns]
    return missing + [f"{found.name}: has no column {_shown(name)}" for name in columns if name not in known]


def _shown(name: object) -> str:
    """Return a name that may stand in a message: one that is none is not repeated."""
    return name if isinstance(name, str) and re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name) else "(not a name)"


# --- values ------------------------------------------------------------------------------------------------------------


def _written(found: TenantTable, column: TableColumn, value: Value) -> object:
    if value is None:
        if not column.is_nullable:
            raise _Fault("must not be NULL")
        return None
    return _WRITERS[column.type](found, value)


def _read(found: TenantTable, column: TableColumn, value: Any) -> Value:
    if value is None:
        if not column.is_nullable:
            raise _Fault("must not be null")
        return None
    return _READERS[column.type](found, value)


def _text(_: TenantTable, value: object) -> str:
    if not isinstance(value, str):
        raise _Fault("must be text")
    return _storable(value)


def _storable(text: str) -> str:
    if "\0" in text:
        raise _Fault("holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Fault("holds a lone surrogate") from None
    return text


def _whole(_: TenantTable, value: object) -> int:
    if type(value) is not int or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise _Fault("must be a whole number of 64 bits")
    return value


def _truth(_: TenantTable, value: object) -> bool:
    if not isinstance(value, bool):
        raise _Fault("must be true or false")
    return value


def _write_float(_: TenantTable, value: object) -> object:
    if type(value) is not float:
        raise _Fault("must be a float")
    if math.isfinite(value):
        return value
    return {"$float": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}


def _read_float(_: TenantTable, value: object) -> float:
    if isinstance(value, dict):
        name = _tagged(value, "$float")
        if name not in _NAMED_FLOATS:
            raise _Fault("must be a number")
        return _NAMED_FLOATS[name]
    if type(value) is not float:
        raise _Fault("must be a number with a point or an exponent")
    return value


def _write_time(_: TenantTable, value: object) -> str:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise _Fault("must be a time with its zone")
    if value == FOREVER:
        return "infinity"
    if value == LONG_AGO:
        return "-infinity"
    try:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    except OverflowError:
        raise _Fault("is outside the years 1 to 9999") from None


def _read_time(_: TenantTable, value: object) -> datetime:
    if value == "infinity":
        return FOREVER
    if value == "-infinity":
        return LONG_AGO
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            found = FOREVER
        if found not in (FOREVER, LONG_AGO):
            return found
    raise _Fault("must be a time in UTC with microseconds")


def _write_uuid(_: TenantTable, value: object) -> str:
    if not isinstance(value, UUID):
        raise _Fault("must be a UUID")
    return str(value)


def _read_uuid(_: TenantTable, value: object) -> UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _Fault("must be a UUID in small letters")
    return UUID(value)


def _write_bytes(_: TenantTable, value: object) -> dict[str, str]:
    if not isinstance(value, bytes):
        raise _Fault("must be bytes")
    return {"$bytes": base64.b64encode(value).decode("ascii")}


def _read_bytes(_: TenantTable, value: object) -> bytes:
    return _from_base64(_tagged(value, "$bytes"))


def _write_vector(found: TenantTable, value: object) -> dict[str, str]:
    if not isinstance(value, bytes):
        raise _Fault("must be the bytes of float32 numbers")
    return {"$vector": base64.b64encode(_sized(found, value)).decode("ascii")}


def _read_vector(found: TenantTable, value: object) -> bytes:
    return _sized(found, _from_base64(_tagged(value, "$vector")))


def _sized(found: TenantTable, value: bytes) -> bytes:
    if not value or len(value) % _FLOAT_BYTES:
        raise _Fault("must be the bytes of float32 numbers")
    if found.dimension is not None and len(value) != found.dimension * _FLOAT_BYTES:
        raise _Fault(f"must have {found.dimension} dimensions")
    return value


def _write_document(_: TenantTable, value: object) -> object:
    if not isinstance(value, str):
        raise _Fault("must be JSON text")
    try:
        document = json.loads(value, object_pairs_hook=_object, parse_constant=_refused, parse_float=_exact_float)
    except _Fault:
        raise
    except RecursionError:
        raise _Fault(f"is nested deeper than {DEPTH_MAX}") from None
    except ValueError:
        raise _Fault("is not JSON") from None
    return _wrapped(_in_order(document))


def _read_document(_: TenantTable, value: object) -> str:
    if isinstance(value, dict) and list(value) == ["$json"]:
        value = value["$json"]
        if value is not None and not (isinstance(value, dict) and list(value) == ["$json"]):
            raise _Fault("is wrapped without need")
    return json.dumps(_in_order(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _wrapped(document: object) -> object:
    needs = document is None or (isinstance(document, dict) and list(document) == ["$json"])
    return {"$json": document} if needs else document


def _in_order(document: Any, depth: int = 0) -> Any:
    """Return a document with the keys of every object in order of their code points."""
    if isinstance(document, dict | list) and depth >= DEPTH_MAX:
        raise _Fault(f"is nested deeper than {DEPTH_MAX}")
    if isinstance(document, dict):
        return {_storable(key): _in_order(document[key], depth + 1) for key in sorted(document)}
    if isinstance(document, str):
        return _storable(document)
    return [_in_order(item, depth + 1) for item in document] if isinstance(document, list) else document


def _write_list(write: Callable[[TenantTable, Any], object]) -> Callable[[TenantTable, Any], object]:
    def write_items(found: TenantTable, value: object) -> list[object]:
        if not isinstance(value, tuple):
            raise _Fault("must be a tuple")
        return [write(found, item) for item in value]

    return write_items


def _read_list(read: Callable[[TenantTable, Any], Any]) -> Callable[[TenantTable, Any], Value]:
    def read_items(found: TenantTable, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Fault("must be a list")
        return tuple(read(found, item) for item in value)

    return read_items


def _tagged(value: object, tag: str) -> str:
    if isinstance(value, dict) and list(value) == [tag] and isinstance(value[tag], str):
        return str(value[tag])
    raise _Fault(f"must be an object with the one key {tag}")


def _from_base64(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _Fault("is not base64") from None
    if base64.b64encode(found).decode("ascii") != text:
        raise _Fault("is not base64 as it is written here")
    return found


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Fault("has a key twice in one object")
    return found


def _refused(_: str) -> object:
    raise _Fault("has a number that is not finite")


def _exact_float(text: str) -> float:
    """Return the float that a text writes, if that is the very number: JSON of others may have more digits."""
    found = float(text)
    if not math.isfinite(found) or Decimal(text) != Decimal(repr(found)):
        raise _Fault("has a number that 64 bits cannot hold")
    return found


_WRITERS: Final[Mapping[ColumnType, Callable[[TenantTable, Any], object]]] = {
    "text": _text,
    "bigint": _whole,
    "float8": _write_float,
    "boolean": _truth,
    "timestamptz": _write_time,
    "uuid": _write_uuid,
    "bytea": _write_bytes,
    "jsonb": _write_document,
    "vector": _write_vector,
    "text[]": _write_list(_text),
    "uuid[]": _write_list(_write_uuid),
}
_READERS: Final[Mapping[ColumnType, Callable[[TenantTable, Any], Value]]] = {
    "text": _text,
    "bigint": _whole,
    "float8": _read_float,
    "boolean": _truth,
    "timestamptz": _read_time,
    "uuid": _read_uuid,
    "bytea": _read_bytes,
    "jsonb": _read_document,
    "vector": _read_vector,
    "text[]": _read_list(_text),
    "uuid[]": _read_list(_read_uuid),
}
