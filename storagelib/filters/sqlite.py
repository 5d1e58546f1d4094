"""A filter as an SQLite condition over a column of canonical JSON text: always 1 or 0, and never an error.

SQLite reads a number of JSON text with an error of a few units in the last place, so that a fraction is never compared by
its value alone: near the operand its spelling decides, of which canonical JSON has one for each number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from storagelib import documents
from storagelib.documents import Json
from storagelib.filters.evaluation import equal, matches
from storagelib.filters.tree import And, Compare, Equals, Exists, Filter, Not, OneOf, Or, Path, Sign, StartsWith

__all__ = ["json_meets", "json_same", "to_sqlite"]

# A key that is spelled in JSON text as it is, so that it may stand between the quotes of a JSON path.
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]+')
# Beyond this size canonical documents write whole numbers without a point.
_WHOLE_FROM: Final = 1e16
_NEIGHBOURS: Final = 32
_ERROR: Final = 16


def to_sqlite(wanted: Filter, column: str = "metadata") -> tuple[str, dict[str, Any]]:
    """Return a condition and its parameters by name; ``:f1``, ``:f2`` … stand for them in the text.

    ``column`` is SQL of the caller's, such as ``metadata`` or ``item.metadata``; what it holds must have been written by
    ``storagelib.documents``. Keys and operands are parameters, all of them. The connection must know ``json_same`` and
    ``json_meets``: ``connection.create_function("json_same", 2, json_same, deterministic=True)``.

    >>> to_sqlite(Exists(("size",)))
    ('(json_type(metadata, :f1) IS NOT NULL)', {'f1': '$."size"'})
    """
    compiling = _Compiling(column)
    return compiling.condition(wanted), compiling.parameters


def json_same(one: str, other: str) -> bool:
    """Tell whether two JSON texts are equal values; the function that conditions over arrays and objects call.

    >>> json_same('{"a":[1,2.0]}', '{"a":[1.0,2]}'), json_same("[1]", "[true]")
    (True, False)
    """
    return equal(documents.decode(one), documents.decode(other))


def json_meets(document: str | None, condition: str) -> bool:
    """Tell whether a document meets one condition; the function that conditions over keys call that no JSON path can say.

    >>> json_meets('{"a":2}', '["<",["a"],3]'), json_meets(None, '["exists",["a"],null]')
    (True, False)
    """
    return matches(_read(condition), {} if document is None else documents.decode(document))


class _Compiling:
    def __init__(self, column: str) -> None:
        self.column = column
        self.parameters: dict[str, Any] = {}
        self.paths: dict[Path, _Node] = {}

    def condition(self, wanted: Filter) -> str:
        if not isinstance(wanted, And | Or | Not) and not all(map(_PLAIN.fullmatch, wanted.path)):
            # JSON paths of SQLite cannot say every key, and rows of json_each, joined once for each key of the path, took
            # milliseconds for each document.
            return f"json_meets({self.column}, {self.parameter(_spelled(wanted))})"
        match wanted:
            case And(parts) | Or(parts):
                joined = [self.condition(part) for part in parts]
                return _joined("AND", joined, "1") if isinstance(wanted, And) else _joined("OR", joined, "0")
            case Not(part):
                return f"(NOT {self.condition(part)})"
            case Exists(path):
                return f"({self.node(path).type} IS NOT NULL)"
            case Equals(path, value):
                return self.equals(path, value)
            case OneOf(path, values):
                return self.one_of(path, values)
            case Compare(path, sign, value):
                return self.compare(path, sign, value)
            case StartsWith(path, prefix):
                node = self.node(path)
                begins = f"substr({node.value}, 1, {self.parameter(len(prefix))}) = {self.parameter(prefix)}"
                return f"({node.type} IS 'text' AND {begins})"

    def equals(self, steps: Path, value: Json) -> str:
        match value:
            case list() | dict():
                return self.holds_the_same(steps, value)
            case _:
                return self.one_of_scalars(steps, [value])

    def holds_the_same(self, path: Path, value: list[Json] | dict[str, Json]) -> str:
        # One comparison outside SQL, whatever is inside: a condition for each part would be joined for each part.
        node = self.node(path)
        kind = "array" if isinstance(value, list) else "object"
        same = f"json_same({node.value}, {self.parameter(documents.encode(value))})"
        return f"(CASE WHEN {node.type} IS '{kind}' THEN {same} ELSE 0 END)"

    def one_of(self, path: Path, values: tuple[Json, ...]) -> str:
        scalars = [value for value in values if not isinstance(value, list | dict)]
        others = [value for value in values if isinstance(value, list | dict)]
        found = [self.one_of_scalars(path, scalars)] if scalars else []
        return _joined("OR", found + [self.equals(path, value) for value in others], "0")

    def one_of_scalars(self, steps: Path, values: list[Json]) -> str:
        node = self.node(steps)
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        found = [
            f"{node.type} IS '{word}'" for word in ("null", "true", "false") if _CONSTANTS[word] in map(_named, values)
        ]
        if texts := [value for value in values if isinstance(value, str)]:
            found.append(f"({node.type} IS 'text' AND {self.among(node.value, texts)})")
        if whole := [int(number) for number in numbers if number == int(number)]:
            found.append(f"({node.type} IS 'integer' AND {self.among(node.value, whole)})")
        if spelled := [repr(float(number)) for number in numbers if _has_float_form(number)]:
            found.append(f"({node.type} IS 'real' AND {self.among(node.text, spelled)})")
        return _joined("OR", found, "0")

    def compare(self, path: Path, sign: Sign, operand: float | str) -> str:
        node = self.node(path)
        if isinstance(operand, str):
            return f"({node.type} IS 'text' AND {node.value} {sign} {self.parameter(operand)})"
        limit, close = _around(operand, sign)
        strict = sign[0]
        whole = f"({node.type} IS 'integer' AND {node.value} {sign} {self.parameter(operand)})"
        fraction = f"({node.value} {strict} {self.parameter(limit)} OR {self.among(node.text, close)})"
        return f"({whole} OR ({node.type} IS 'real' AND {fraction}))"

    def among(self, value: str, operands: list[Json]) -> str:
        if len(operands) == 1:
            return f"{value} = {self.parameter(operands[0])}"
        return f"{value} IN (SELECT value FROM json_each({self.parameter(documents.encode(operands))}))"  # noqa: S608 - names of ours and parameters

    def node(self, steps: Path) -> _Node:
        if steps not in self.paths:
            path = self.parameter(_json_path(steps))
            self.paths[steps] = _Node(
                type=f"json_type({self.column}, {path})",
                value=f"json_extract({self.column}, {path})",
                text=f"({self.column} -> {path})",
            )
        return self.paths[steps]

    def parameter(self, value: Any) -> str:
        name = f"f{len(self.parameters) + 1}"
        self.parameters[name] = value
        return f":{name}"


class _Node:
    """How SQL says three things of a value: its type, itself, its spelling in JSON."""

    __slots__ = ("text", "type", "value")

    def __init__(self, *, type: str, value: str, text: str) -> None:  # noqa: A002 - it is the type
        self.type, self.value, self.text = type, value, text


Leaf: TypeAlias = Equals | OneOf | Compare | StartsWith | Exists
_KINDS: Final[Mapping[str, Callable[[Path, Any], Leaf]]] = {
    "equals": Equals,
    "one_of": lambda path, values: OneOf(path, tuple(values)),
    "starts_with": StartsWith,
    "exists": lambda path, _: Exists(path),
}


def _spelled(wanted: Leaf) -> str:
    """Write one condition as the text that ``json_meets`` reads."""
    match wanted:
        case Equals(path, value):
            return documents.encode(["equals", list(path), value])
        case OneOf(path, values):
            return documents.encode(["one_of", list(path), list(values)])
        case Compare(path, sign, value):
            return documents.encode([sign, list(path), value])
        case StartsWith(path, prefix):
            return documents.encode(["starts_with", list(path), prefix])
        case Exists(path):
            return documents.encode(["exists", list(path), None])


@lru_cache(maxsize=8)
def _read(condition: str) -> Leaf:
    kind, path, operand = documents.decode(condition)
    made = _KINDS.get(kind)
    return Compare(tuple(path), kind, operand) if made is None else made(tuple(path), operand)


_CONSTANTS: Final = {"null": "None", "true": "True", "false": "False"}


def _named(value: Json) -> str:
    return repr(value) if value is None or isinstance(value, bool) else ""


def _joined(word: str, parts: list[str], empty: str) -> str:
    """Join conditions as a balanced tree, because SQLite bounds the depth of an expression."""
    if len(parts) <= 1:
        return parts[0] if parts else empty
    half = len(parts) // 2
    return f"({_joined(word, parts[:half], empty)} {word} {_joined(word, parts[half:], empty)})"


def _json_path(steps: Iterable[str]) -> str:
    return "$" + "".join(f'."{step}"' for step in steps)


def _has_float_form(number: float) -> bool:
    return abs(number) < _WHOLE_FROM and float(number) == number


def _around(number: float, sign: Sign) -> tuple[float, list[str]]:
    """Return a limit that is safe from SQLite's error, and the spellings beyond it that stand in this order too."""
    towards = -math.inf if sign[0] == "<" else math.inf
    middle = float(number)
    close = [middle]
    for ahead in (towards, -towards):
        following = middle
        for _ in range(_NEIGHBOURS):
            following = math.nextafter(following, ahead)
            close.append(following)
    limit = close[_ERROR]
    kept = [value for value in close if _in_order(value, sign, number) and _has_float_form(value)]
    return limit, sorted({repr(value or 0.0) for value in kept})


def _in_order(value: float, sign: Sign, number: float) -> bool:
    match sign:
        case "<":
            return value < number
        case "<=":
            return value <= number
        case ">":
            return value > number
        case ">=":
            return value >= number
