"""What a parsed filter is made of: eight kinds of nodes, frozen, their operands checked and canonical."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from storagelib.documents import Json

__all__ = [
    "CONDITIONS_MAX",
    "DEPTH_MAX",
    "LIST_MAX",
    "PATH_KEYS_MAX",
    "TEXT_MAX",
    "VALUES_MAX",
    "And",
    "Compare",
    "Equals",
    "Exists",
    "Filter",
    "Not",
    "OneOf",
    "Or",
    "Path",
    "Sign",
    "StartsWith",
]

DEPTH_MAX: Final = 16
"""How deep ``$and``, ``$or`` and ``$not`` may be nested."""
CONDITIONS_MAX: Final = 256
"""Conditions of one filter."""
FILTERS_MAX: Final = 768
"""Filters within one filter, empty ones and those of ``$not`` among them."""
LIST_MAX: Final = 1_000
"""Operands of one ``$in`` or ``$nin``."""
VALUES_MAX: Final = 1_000
"""Values inside all arrays and objects that one filter compares with."""
PATH_KEYS_MAX: Final = 16
"""Keys of one path."""
TEXT_MAX: Final = 100_000
"""Characters of one operand, and of one key of a path."""
CHARACTERS_MAX: Final = 16 << 20
"""Characters of all operands and keys of one filter."""

Path: TypeAlias = tuple[str, ...]
"""The keys that lead to a value, at least one."""
Sign = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class And:
    """All of these hold; none of them is the filter that matches everything."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of these holds."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Equals:
    """There is a value at the path and it equals this one."""

    path: Path
    value: Json


@dataclass(frozen=True, slots=True)
class OneOf:
    """There is a value at the path and it equals one of these."""

    path: Path
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """The value at the path is of this operand's type and stands in this order to it."""

    path: Path
    sign: Sign
    value: float | str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """The value at the path is a text that begins so."""

    path: Path
    prefix: str


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value at the path, null included."""

    path: Path


Filter: TypeAlias = And | Or | Not | Equals | OneOf | Compare | StartsWith | Exists
