"""JSON documents in the one form that all backends keep bit for bit.

A document is what ``json`` can say: ``None``, ``bool``, ``int``, ``float``, ``str``, lists and dicts with text keys.
PostgreSQL's ``jsonb`` keeps numbers as decimals, so three spellings are settled before anything is stored, on every
backend: ``-0.0`` becomes ``0.0``, a whole float from 1e16 to 2**63 becomes the ``int`` it equals, and tuples become lists.
Refused as ``InvalidInput``, with the path of the fault: NaN and infinities, whole numbers outside 64 bits, floats from 2**63
on, keys that are not text, NUL characters, lone surrogates, nesting deeper than 100, other types.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from storagelib.errors import Corrupted, InvalidInput
from storagelib.limits import DOCUMENT_BYTES_MAX, INTEGER_MAX, METADATA_BYTES_MAX

__all__ = ["DEPTH_MAX", "Document", "Json", "check_document", "check_metadata", "decode", "encode"]

Json = Any
"""None, bool, int, float, str, or lists and dicts of these."""
Document = Mapping[str, Json]
"""A JSON object."""

DEPTH_MAX: Final = 100
"""Levels of lists and objects in one another."""
# From here on Python writes floats with an exponent and jsonb gives them back as whole numbers.
_WHOLE_FROM: Final = 1e16
_WHOLE_TO: Final = 2.0**63
# Made once: json.dumps makes one for each call that wants other separators.
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def check_metadata(metadata: object, name: str = "metadata") -> str:
    """Return metadata, an object of at most 1 MiB, as canonical JSON text; None is the empty object.

    >>> check_metadata({"source": "mail", "size": 3})
    '{"source":"mail","size":3}'
    """
    if metadata is None:
        return "{}"
    if not isinstance(metadata, Mapping):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be an object, not {type(metadata).__name__}"])
    return check_document(metadata, name, most=METADATA_BYTES_MAX) if metadata else "{}"


def check_document(value: object, name: str = "document", *, most: int = DOCUMENT_BYTES_MAX) -> str:
    """Return any JSON value as canonical text of at most ``most`` bytes; raises ``InvalidInput`` with the faulty path."""
    text = encode(canonical(value, name))
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput("the argument cannot be used", [f"{name}: holds a lone surrogate"]) from None
    if size > most:
        raise InvalidInput("the argument cannot be used", [f"{name}: has {size} bytes as JSON, at most {most} fit"])
    return text


def canonical(value: object, path: str = "document") -> Json:
    """Return the settled form of a value, made of new lists and dicts."""
    try:
        return _settle(value, DEPTH_MAX)
    except _Unsettled:
        # Only now is the way to each value written down: it costs more than looking at them.
        return _explain(value, path, 0)


def encode(value: Json) -> str:
    """Return JSON text without spaces; the value is canonical already."""
    return _ENCODE(value)


def decode(text: str | bytes) -> Json:
    """Return the value of JSON text that a backend kept; raises ``Corrupted`` when it is none (any more)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Corrupted("a stored document is not JSON: the storage is damaged") from error


class _Unsettled(Exception):  # noqa: N818 - it only says that somebody has to look closer
    """Something in a document is rare, or cannot be kept."""


def _settle(value: object, depth: int) -> Json:  # noqa: C901 - one function: a call more for each value is what it saves
    """Settle what nearly every document is made of; whatever else there is raises."""
    kind = type(value)
    if kind is str:
        if "\0" in value:  # type: ignore[operator]
            raise _Unsettled
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if not -INTEGER_MAX <= value <= INTEGER_MAX:  # type: ignore[operator]
            raise _Unsettled
        return value
    if kind is float:
        if not -_WHOLE_FROM < value < _WHOLE_FROM:  # type: ignore[operator]
            raise _Unsettled
        return value or 0.0
    if not depth:
        raise _Unsettled
    if kind is dict:
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str or "\0" in key:
                raise _Unsettled
        return {key: _settle(item, depth - 1) for key, item in value.items()}  # type: ignore[attr-defined]
    if kind is list:
        return [_settle(item, depth - 1) for item in value]  # type: ignore[attr-defined]
    raise _Unsettled


def _explain(value: object, path: str, depth: int) -> Json:
    """Settle any value, and say where the one is that cannot be kept."""
    match value:
        case None | bool():
            return value
        case str():
            if "\0" in value:
                raise _fault(path, "holds a NUL character")
            return str(value)
        case int():
            if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
                raise _fault(path, "is a whole number outside 64 bits")
            return int(value)
        case float():
            return _number(value, path)
        case Mapping() | list() | tuple():
            if depth >= DEPTH_MAX:
                raise _fault(path, f"is nested deeper than {DEPTH_MAX}")
            if not isinstance(value, Mapping):
                return [_explain(item, path, depth + 1) for item in value]
            return {_key(key, path): _explain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        case _:
            raise _fault(path, f"is a {type(value).__name__}, which JSON cannot say")


def _number(value: float, path: str) -> int | float:
    if not math.isfinite(value):
        raise _fault(path, "is not a finite number")
    size = abs(value)
    if size >= _WHOLE_TO:
        raise _fault(path, "is a number from 2**63 on")
    if size >= _WHOLE_FROM:
        return int(value)
    return float(value) if value else 0.0


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise _fault(path, f"has a key that is a {type(key).__name__}, not text")
    if "\0" in key:
        raise _fault(path, "has a key that holds a NUL character")
    return str(key)


def _fault(path: str, fault: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [f"{path[:200]!a}: {fault}"])
