"""A filter as a PostgreSQL condition over a ``jsonb`` column: always true or false, and never an error."""

from __future__ import annotations

from typing import Any, Final

from storagelib import documents
from storagelib.filters.tree import And, Compare, Equals, Exists, Filter, Not, OneOf, Or, Path, Sign, StartsWith

__all__ = ["to_postgres"]

_TYPES: Final = {str: "string", int: "number", float: "number"}


def to_postgres(wanted: Filter, column: str = "metadata") -> tuple[str, dict[str, tuple[str, Any]]]:
    """Return a condition and its parameters, ``{name: (type, value)}``; ``:f1``, ``:f2`` … stand for them in the text.

    ``column`` is SQL of the caller's, such as ``metadata`` or ``item.metadata``. Keys and operands are parameters, all of
    them; equal shapes of filters give equal text. A ``jsonb`` parameter is canonical JSON text.

    >>> to_postgres(Compare(("size",), "<", 3))[1]
    {'f1': ('text', 'size'), 'f2': ('jsonb', '3')}
    """
    compiling = _Compiling(column)
    return compiling.condition(wanted), compiling.parameters


class _Compiling:
    def __init__(self, column: str) -> None:
        self.column = column
        self.parameters: dict[str, tuple[str, Any]] = {}

    def condition(self, wanted: Filter) -> str:  # noqa: PLR0911 - one for each kind of node
        match wanted:
            case And(()):
                return "true"
            case And(parts):
                return f"({' AND '.join(map(self.condition, parts))})"
            case Or(parts):
                return f"({' OR '.join(map(self.condition, parts))})"
            case Not(part):
                return f"(NOT {self.condition(part)})"
            case Exists(path):
                return f"({self.value(path)} IS NOT NULL)"
            case Equals(path, value):
                return f"coalesce({self.value(path)} = {self.parameter('jsonb', documents.encode(value))}, false)"
            case OneOf(path, values):
                operands = [documents.encode(value) for value in values]
                return f"coalesce({self.value(path)} = ANY ({self.parameter('jsonb[]', operands)}), false)"
            case Compare(path, sign, value):
                return self.compare(path, sign, value)
            case StartsWith(path, prefix):
                value = self.value(path)
                begins = f"starts_with({value} #>> '{{}}', {self.parameter('text', prefix)})"
                return f"coalesce(jsonb_typeof({value}) = 'string' AND {begins}, false)"

    def compare(self, path: Path, sign: Sign, operand: float | str) -> str:
        value = self.value(path)
        # jsonb compares numbers as decimals, exactly and without a cast that could fail; texts it would compare by the
        # database's collation.
        if isinstance(operand, str):
            order = f"({value} #>> '{{}}') COLLATE \"C\" {sign} {self.parameter('text', operand)}"
        else:
            order = f"{value} {sign} {self.parameter('jsonb', documents.encode(operand))}"
        return f"coalesce(jsonb_typeof({value}) = '{_TYPES[type(operand)]}' AND {order}, false)"

    def value(self, path: Path) -> str:
        # One `->` a key: `#>` would take a key such as `0` for a position in an array.
        return f"({' -> '.join([self.column, *(self.parameter('text', key) for key in path)])})"

    def parameter(self, kind: str, value: Any) -> str:
        name = f"f{len(self.parameters) + 1}"
        self.parameters[name] = (kind, value)
        return f"CAST(:{name} AS {kind})"
