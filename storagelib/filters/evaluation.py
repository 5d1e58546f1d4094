"""The reference: whether a document matches a filter. What SQL answers is tested against this."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from storagelib.documents import Document, Json
from storagelib.filters.tree import And, Compare, Equals, Exists, Filter, Not, OneOf, Or, Path, Sign, StartsWith

__all__ = ["equal", "matches"]

_ORDERS: Final[Mapping[Sign, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING: Final = object()


def matches(wanted: Filter, document: Document) -> bool:
    """Tell whether a document matches a parsed filter."""
    match wanted:
        case And(parts):
            return all(matches(part, document) for part in parts)
        case Or(parts):
            return any(matches(part, document) for part in parts)
        case Not(part):
            return not matches(part, document)
        case _:
            value = _found(wanted.path, document)
            return value is not _MISSING and _holds(wanted, value)


def equal(one: Json, other: Json) -> bool:
    """Tell whether two JSON values are equal: of one type and worth the same, all the way down.

    >>> equal([1, {"a": 2.0}], [1.0, {"a": 2}]), equal(1, True), equal(None, False)
    (True, False, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return _type(one) == _type(other) and bool(one == other)


def _found(path: Path, document: Document) -> object:
    value: object = document
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _holds(wanted: Equals | OneOf | Compare | StartsWith | Exists, value: object) -> bool:
    match wanted:
        case Equals(_, operand):
            return equal(value, operand)
        case OneOf(_, operands):
            return any(equal(value, operand) for operand in operands)
        case Compare(_, sign, operand):
            return _type(value) == _type(operand) and _ORDERS[sign](value, operand)
        case StartsWith(_, prefix):
            return isinstance(value, str) and value.startswith(prefix)
        case Exists():
            return True


def _type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case Mapping():
            return "object"
        case _:
            return "array"
