"""JSON documents in the one form that all backends keep bit for bit.

A document is what ``json`` can say: ``None``, ``bool``, ``int``, ``float``, ``str``, lists and dicts with text keys.
PostgreSQL's ``jsonb`` keeps numbers as decimals, so three spellings are settled before anything is stored, on every
backend: ``-0.0`` becomes ``0.0``, a whole float from 1e16 to 2**63 becomes the ``int`` it equals, and tuples become lists.
Refused as ``InvalidInput``, with the path of the fault: NaN and infinities, whole numbers outside 64 bits, floats from 2**63
on, keys that are not text, NUL characters, lone surrogates, nesting deeper than 100, more than 5,000,000 values, other types.
A list or object that stands in several places counts in each, so that a few small ones that hold each other are refused
before they are written out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from storagelib.errors import Corrupted, InvalidInput
from storagelib.limits import DOCUMENT_BYTES_MAX, INTEGER_MAX, INTEGER_MIN, METADATA_BYTES_MAX

__all__ = ["DEPTH_MAX", "VALUES_MAX", "Document", "Json", "check_document", "check_metadata", "decode", "encode"]

Json = Any
"""None, bool, int, float, str, or lists and dicts of these."""
Document = Mapping[str, Json]
"""A JSON object."""

DEPTH_MAX: Final = 100
"""Levels of lists and objects in one another."""
VALUES_MAX: Final = 5_000_000
"""Values of one document, those in its lists and objects counted each."""
# What a value in a list takes at least as JSON: a digit and a comma.
_VALUE_BYTES: Final = 2
_PATH_SHOWN: Final = 200
# Looking through a text of more characters takes longer than counting them first.
_LONG_TEXT: Final = 10_000
# From here on Python writes floats with an exponent and jsonb gives them back as whole numbers.
_WHOLE_FROM: Final = 1e16
_WHOLE_TO: Final = 2.0**63
# Documents up to so many characters may be written without being copied, each value counted for so many besides.
_PLAIN_CHARACTERS: Final = 1 << 20
_PLAIN_VALUE: Final = 8
# What json.loads comes to in the end: for a small document, looking for what else it could be takes most of the time.
_SCAN: Final[Callable[[str, int], tuple[Json, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
# Made once: json.dumps makes one for each call that wants other separators.
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# And JSONEncoder makes one of these for each document.
_WRITE: Final[Callable[[Json, int], Iterable[str]]] = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, None, json.encoder.encode_basestring, None, ":", ",", False, False, False
)


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
    """Return any JSON value as canonical text of at most ``most`` bytes; raises ``InvalidInput`` with the faulty path.

    >>> check_document({"agent": "planner", "steps": [1, 2.5, None]})
    '{"agent":"planner","steps":[1,2.5,null]}'
    """
    text = _plain_text(value)
    if text is None:
        text = encode(canonical(value, name, most=most))
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput("the argument cannot be used", [f"{name}: holds a lone surrogate"]) from None
    if size > most:
        raise InvalidInput("the argument cannot be used", [f"{name}: has {size} bytes as JSON, at most {most} fit"])
    return text


def canonical(
    value: object, path: str = "document", *, most: int = DOCUMENT_BYTES_MAX, values: int = VALUES_MAX
) -> Json:
    """Return the settled form of a value, made of new lists and dicts.

    What has certainly more than ``most`` bytes as JSON, or more than ``values`` values, is refused on the way.
    """
    room = _Room(path, most, values)
    try:
        settled = _settle(value, DEPTH_MAX, room)
    except _Unsettled:
        # Only now is the way to each value written down: it costs more than looking at them.
        room = _Room(path, most, values)
        settled = _explain(value, path, 0, room)
    room.check()
    return settled


def _plain_text(value: object) -> str | None:
    """Return the text of a list or object that is small and canonical already, without the copy that settles the others."""
    if _room_left(value, DEPTH_MAX, _PLAIN_CHARACTERS) < 0:
        return None
    try:
        text = "".join(_WRITE(value, 0))
    except (ValueError, TypeError, RuntimeError):
        # Somebody else changed it meanwhile; a copy is looked at and written.
        return None
    # A NUL is written like this, and a text that only looks like it goes the long way too.
    return None if "\\u0000" in text else text


def _room_left(value: object, depth: int, room: int) -> int:  # noqa: C901, PLR0912 - a call for each value is what it saves
    """Count a list or object off the room that there is; less than 0 when it is too large, or is to be settled."""
    kind = type(value)
    if not depth or (kind is not dict and kind is not list):
        return -1
    items: Iterable[object] = value  # type: ignore[assignment]
    if kind is dict:
        for key in items:
            if type(key) is not str:
                return -1
            room -= len(key)
        items = value.values()  # type: ignore[attr-defined]
    for item in items:
        room -= _PLAIN_VALUE
        kind = type(item)
        if kind is str:
            room -= len(item)  # type: ignore[arg-type]
        elif item is None or kind is bool:
            continue
        elif kind is int:
            if not INTEGER_MIN <= item <= INTEGER_MAX:  # type: ignore[operator]
                return -1
        elif kind is float:
            if not -_WHOLE_FROM < item < _WHOLE_FROM or (not item and math.copysign(1.0, item) < 0.0):  # type: ignore[operator, arg-type]
                return -1
        else:
            room = _room_left(item, depth - 1, room)
        if room < 0:
            return -1
    return room


def encode(value: Json) -> str:
    """Return JSON text without spaces; the value is canonical already."""
    return _ENCODE(value)


def decode(text: str | bytes) -> Json:
    """Return the value of JSON text that a backend kept; raises ``Corrupted`` when it is none (any more)."""
    try:
        plain = text if type(text) is str else str(text, "utf-8")  # type: ignore[arg-type]
        value, end = _SCAN(plain, 0)
        if end == len(plain):
            return value
    except (ValueError, RecursionError, StopIteration):
        pass
    # What is not the plain case is read again by what knows the others, or says that it is none.
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Corrupted("a stored document is not JSON: the storage is damaged") from error


class _Unsettled(Exception):  # noqa: N818 - it only says that somebody has to look closer
    """Something in a document is rare, or cannot be kept."""


class _Room:
    """How many values and characters of a document may still come."""

    __slots__ = ("characters", "most", "most_values", "name", "values")

    def __init__(self, name: str, most: int, values: int) -> None:
        self.name = name
        self.most = most
        self.values = self.most_values = min(values, most // _VALUE_BYTES)
        self.characters = most

    def take(self, value: Mapping[Any, Any] | list[Any] | tuple[Any, ...]) -> None:
        """Count what a list or object holds, before it is gone through."""
        self.values -= len(value)
        self.check()

    def check(self) -> None:
        """Raise ``InvalidInput`` when there is more than fits."""
        if self.values < 0:
            raise _fault(self.name, f"has more than {self.most_values} values")
        if self.characters < 0:
            raise _fault(self.name, f"has more than the {self.most} bytes as JSON that fit")


def _settle(value: object, depth: int, room: _Room) -> Json:  # noqa: C901, PLR0912 - a call for each is what it saves
    """Settle what nearly every document is made of; whatever else there is raises."""
    kind = type(value)
    if kind is str:
        size = len(value)  # type: ignore[arg-type]
        room.characters -= size
        if size > _LONG_TEXT:
            room.check()
        if "\0" in value:  # type: ignore[operator]
            raise _Unsettled
        return value
    if value is None or kind is bool:
        return value
    if kind is int:
        if not INTEGER_MIN <= value <= INTEGER_MAX:  # type: ignore[operator]
            raise _Unsettled
        return value
    if kind is float:
        if not -_WHOLE_FROM < value < _WHOLE_FROM:  # type: ignore[operator]
            raise _Unsettled
        return value or 0.0
    if not depth:
        raise _Unsettled
    if kind is dict:
        room.take(value)  # type: ignore[arg-type]
        for key in value:  # type: ignore[attr-defined]
            if type(key) is not str or "\0" in key:
                raise _Unsettled
            room.characters -= len(key)
        return {key: _settle(item, depth - 1, room) for key, item in value.items()}  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        room.take(value)  # type: ignore[arg-type]
        return [_settle(item, depth - 1, room) for item in value]  # type: ignore[attr-defined]
    raise _Unsettled


def _explain(value: object, path: str, depth: int, room: _Room) -> Json:
    """Settle any value, and say where the one is that cannot be kept."""
    match value:
        case None | bool():
            return value
        case str():
            if "\0" in value:
                raise _fault(path, "holds a NUL character")
            room.characters -= len(value)
            return str(value)
        case int():
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise _fault(path, "is a whole number outside 64 bits")
            return int(value)
        case float():
            return _number(value, path)
        case Mapping() | list() | tuple():
            if depth >= DEPTH_MAX:
                raise _fault(path, f"is nested deeper than {DEPTH_MAX}")
            room.take(value)
            if not isinstance(value, Mapping):
                return [_explain(item, path, depth + 1, room) for item in value]
            return {
                _key(key, path, room): _explain(item, _inside(path, key), depth + 1, room)
                for key, item in value.items()
            }
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


def _inside(path: str, key: str) -> str:
    return path if len(path) > _PATH_SHOWN else f"{path}.{key[:_PATH_SHOWN]}"


def _key(key: object, path: str, room: _Room) -> str:
    if not isinstance(key, str):
        raise _fault(path, f"has a key that is a {type(key).__name__}, not text")
    if "\0" in key:
        raise _fault(path, "has a key that holds a NUL character")
    room.characters -= len(key)
    return str(key)


def _fault(path: str, fault: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [f"{path[:_PATH_SHOWN]!a}: {fault}"])
