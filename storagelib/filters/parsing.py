"""From what a caller writes to a tree of checked nodes; every fault is told, with where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from storagelib.documents import Json, canonical
from storagelib.errors import InvalidInput
from storagelib.filters.tree import (
    CHARACTERS_MAX,
    CONDITIONS_MAX,
    DEPTH_MAX,
    FILTERS_MAX,
    LIST_MAX,
    PATH_KEYS_MAX,
    TEXT_MAX,
    VALUES_MAX,
    And,
    Compare,
    Equals,
    Exists,
    Filter,
    Not,
    OneOf,
    Or,
    Path,
    Sign,
    StartsWith,
)

__all__ = ["parse"]

_EVERYTHING: Final = And(())
_FAULTS_MAX: Final = 100
_SIGNS: Final[Mapping[str, Sign]] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_BETWEEN: Final = 2
_GROUPS: Final = ("$and", "$or", "$not")
_OPERATORS: Final = ("$eq", "$ne", *_SIGNS, "$in", "$nin", "$between", "$exists", "$like-prefix", "$not")


def parse(mapping: object) -> Filter:
    r"""Return the filter that an object describes; raises ``InvalidInput`` that names every fault with its place.

    >>> parse({"size": {"$gt": 3}})
    Compare(path=('size',), sign='>', value=3)
    >>> parse({"size": {"$grt": 3}, "$or": []})
    Traceback (most recent call last):
        ...
    storagelib.errors.InvalidInput: the filter cannot be used: filter.size.$grt: is no operator; did you mean $gt?; filter.$or: needs at least one filter
    """
    reading = _Reading()
    parsed = reading.filter(mapping, "filter", 0)
    if reading.conditions > CONDITIONS_MAX:
        reading.fault("filter", f"has more than {CONDITIONS_MAX} conditions")
    if reading.filters > FILTERS_MAX:
        reading.fault("filter", f"holds more than {FILTERS_MAX} filters")
    if reading.characters > CHARACTERS_MAX:
        reading.fault("filter", f"has more than {CHARACTERS_MAX} characters")
    if reading.values > VALUES_MAX:
        reading.fault("filter", f"compares with arrays and objects of more than {VALUES_MAX} values")
    if reading.faults:
        raise InvalidInput("the filter cannot be used", reading.faults)
    return parsed


class _Place(NamedTuple):
    path: Path
    where: str
    depth: int


class _Reading:
    """One pass over a filter: it goes on after a fault, so that all of them are told at once."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.conditions = 0
        self.filters = 0
        self.characters = 0
        self.values = 0

    @property
    def is_full(self) -> bool:
        """Whether it is refused already, so that the rest need not be read: small parts may stand in many places."""
        return (
            self.conditions > CONDITIONS_MAX
            or self.filters > FILTERS_MAX
            or self.characters > CHARACTERS_MAX
            or self.values > VALUES_MAX
        )

    def fault(self, where: str, what: str) -> None:
        if len(self.faults) < _FAULTS_MAX:
            shown = where if len(where) <= 200 else f"{where[:200]}…"  # noqa: PLR2004 - long enough to find it
            self.faults.append(f"{shown.encode('utf-8', 'backslashreplace').decode()}: {what}")

    def filter(self, mapping: object, where: str, depth: int) -> Filter:
        if not isinstance(mapping, Mapping):
            self.fault(where, f"must be an object, not {_kind(mapping)}")
            return _EVERYTHING
        if depth > DEPTH_MAX:
            self.fault(where, f"is nested deeper than {DEPTH_MAX}")
            return _EVERYTHING
        parts: list[Filter] = []
        self.filters += 1
        for key, value in mapping.items():
            if self.is_full:
                break
            if not isinstance(key, str):
                self.fault(where, f"has a key that is {_kind(key)}, not text")
            elif key in _GROUPS:
                parts.append(self.group(key, value, f"{where}.{key}", depth + 1))
            elif key.startswith("$"):
                self.fault(f"{where}.{key}", _unknown(key, _GROUPS, _OPERATORS))
            else:
                place = _Place(self.path(key, f"{where}.{key}"), f"{where}.{key}", depth)
                parts.append(self.condition(place, value))
        return _all(parts)

    def group(self, key: str, value: object, where: str, depth: int) -> Filter:
        if key == "$not":
            return Not(self.filter(value, where, depth))
        if not isinstance(value, list | tuple):
            self.fault(where, f"must be a list of filters, not {_kind(value)}")
            return _EVERYTHING
        if not value:
            self.fault(where, "needs at least one filter")
        if len(value) > CONDITIONS_MAX:
            self.fault(where, f"has more than {CONDITIONS_MAX} filters")
            return _EVERYTHING
        parts = tuple(self.filter(part, f"{where}[{index}]", depth) for index, part in enumerate(value))
        return And(parts) if key == "$and" else Or(parts)

    def path(self, text: str, where: str) -> Path:
        keys: list[str] = []
        key: list[str] = []
        letters = iter(text)
        for letter in letters:
            if letter == ".":
                keys.append("".join(key))
                key = []
            elif letter != "\\":
                key.append(letter)
            elif (escaped := next(letters, "")) and escaped in ".$\\":
                key.append(escaped)
            else:
                self.fault(where, "has a backslash that stands before no dot, dollar or backslash")
        keys.append("".join(key))
        if "" in keys:
            self.fault(where, "has an empty key; a dot that belongs to a key is written \\.")
        if len(keys) > PATH_KEYS_MAX:
            self.fault(where, f"has more than {PATH_KEYS_MAX} keys")
        self.text(text, where)
        return tuple(keys)

    def condition(self, place: _Place, value: object) -> Filter:
        if not isinstance(value, Mapping) or not any(isinstance(key, str) and key.startswith("$") for key in value):
            return self.equals(place, value)
        parts: list[Filter] = []
        for key, operand in value.items():
            inner = place._replace(where=f"{place.where}.{key}")
            if key in _READERS:
                parts.append(_READERS[key](self, inner, operand))
            elif isinstance(key, str) and key.startswith("$"):
                self.fault(inner.where, _unknown(key, _OPERATORS, _GROUPS))
            else:
                self.fault(inner.where, "stands beside an operator; a whole object is compared with $eq")
        return _all(parts)

    def equals(self, place: _Place, operand: object) -> Filter:
        self.conditions += 1
        return Equals(place.path, self.value(operand, place.where))

    def one_of(self, place: _Place, operand: object) -> Filter:
        self.conditions += 1
        if not isinstance(operand, list | tuple):
            self.fault(place.where, f"must be a list of values, not {_kind(operand)}")
            return _EVERYTHING
        if len(operand) > LIST_MAX:
            self.fault(place.where, f"has {len(operand)} values, at most {LIST_MAX} fit")
            return _EVERYTHING
        found = [self.value(value, f"{place.where}[{index}]") for index, value in enumerate(operand)]
        return OneOf(place.path, tuple(found))

    def compare(self, place: _Place, sign: Sign, operand: object) -> Filter:
        self.conditions += 1
        if isinstance(operand, bool) or not isinstance(operand, int | float | str):
            self.fault(place.where, f"must be a number or text, not {_kind(operand)}")
            return _EVERYTHING
        return Compare(place.path, sign, self.value(operand, place.where))

    def between(self, place: _Place, operand: object) -> Filter:
        if not isinstance(operand, list | tuple) or len(operand) != _BETWEEN:
            self.fault(place.where, "must be a list of two numbers or two texts")
            return _EVERYTHING
        least, most = operand
        if isinstance(least, str) != isinstance(most, str):
            self.fault(place.where, "must be two numbers or two texts, not one of each")
        return And(
            (
                self.compare(place._replace(where=f"{place.where}[0]"), ">=", least),
                self.compare(place._replace(where=f"{place.where}[1]"), "<=", most),
            )
        )

    def exists(self, place: _Place, operand: object) -> Filter:
        self.conditions += 1
        if not isinstance(operand, bool):
            self.fault(place.where, f"must be true or false, not {_kind(operand)}")
        return Exists(place.path) if operand else Not(Exists(place.path))

    def prefix(self, place: _Place, operand: object) -> Filter:
        self.conditions += 1
        if not isinstance(operand, str):
            self.fault(place.where, f"must be text, not {_kind(operand)}")
            return _EVERYTHING
        return StartsWith(place.path, self.value(operand, place.where))

    def negation(self, place: _Place, operand: object) -> Filter:
        if place.depth >= DEPTH_MAX:
            self.fault(place.where, f"is nested deeper than {DEPTH_MAX}")
            return _EVERYTHING
        return Not(self.condition(place._replace(depth=place.depth + 1), operand))

    def value(self, operand: object, where: str) -> Json:
        if self.is_full:
            return None
        try:
            found = canonical(operand, where, values=2 * VALUES_MAX)
        except InvalidInput as error:
            for fault in error.faults:
                self.fault(where, fault.rpartition(": ")[2])
            return None
        self.texts(found, where)
        return found

    def texts(self, value: Json, where: str) -> None:
        match value:
            case str():
                self.text(value, where)
            case list() | dict():
                self.values += len(value) + 1
                if self.values <= VALUES_MAX:
                    for item in value:
                        self.texts(item, where)
                        if isinstance(value, dict):
                            self.texts(value[item], where)

    def text(self, text: str, where: str) -> None:
        self.characters += len(text)
        if len(text) > TEXT_MAX:
            self.fault(where, f"has {len(text)} characters, at most {TEXT_MAX} fit")
        if "\0" in text:
            self.fault(where, "holds a NUL character")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                self.fault(where, "holds a lone surrogate")


def _signed(sign: Sign) -> Callable[[_Reading, _Place, object], Filter]:
    return lambda reading, place, operand: reading.compare(place, sign, operand)


_READERS: Final[Mapping[object, Callable[[_Reading, _Place, Any], Filter]]] = {
    "$eq": _Reading.equals,
    "$ne": lambda reading, place, operand: Not(reading.equals(place, operand)),
    **{name: _signed(sign) for name, sign in _SIGNS.items()},
    "$in": _Reading.one_of,
    "$nin": lambda reading, place, operand: Not(reading.one_of(place, operand)),
    "$between": _Reading.between,
    "$exists": _Reading.exists,
    "$like-prefix": _Reading.prefix,
    "$not": _Reading.negation,
}


def _all(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _unknown(key: str, here: tuple[str, ...], elsewhere: tuple[str, ...]) -> str:
    if key in elsewhere:
        return "stands under no path" if key in _OPERATORS else "stands before filters, not under a path"
    near = difflib.get_close_matches(key[:50], here, 1, 0.5)
    return f"is no operator; did you mean {near[0]}?" if near else f"is no operator; there are {', '.join(here)}"


def _kind(value: object) -> str:
    return "null" if value is None else type(value).__name__
