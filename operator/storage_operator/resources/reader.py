"""A cursor in a document from outside: reads typed fields and notes every fault with its path.

A field that is wrong yields a stand-in of the right type, so that reading goes on and finds the next fault.
Stand-ins never leave this package: a document with faults becomes no spec.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, TypeVar

from storage_operator.resources.durations import MAX_LENGTH as DURATION_MAX_LENGTH
from storage_operator.resources.durations import duration_milliseconds, format_duration
from storage_operator.resources.faults import Fault, Faults, shown
from storage_operator.resources.quantities import format_quantity, quantity_bytes

__all__ = ["Reader"]

E = TypeVar("E", bound=StrEnum)

_MAX_FAULTS: Final = 200
_NOTHING: Final[Mapping[str, Any]] = {}


class Reader:
    """One object of the document and its path; children share the list of faults.

    A field that is null counts as absent, as it does for the API server. ``strict`` also reports fields that
    nobody asked for: right for a file that a person typed, wrong for an object that a newer release may have written.
    """

    __slots__ = ("_faults", "_path", "_read", "_strict", "_value", "is_object")

    def __init__(self, value: object, path: str, faults: list[Fault], *, strict: bool) -> None:
        """Stand on a value; anything but an object is a fault and reads as an empty one."""
        self._path = path
        self._faults = faults
        self._strict = strict
        self._read: set[str] = set()
        self._value: Mapping[str, Any] = _NOTHING
        self.is_object = isinstance(value, Mapping)
        if isinstance(value, Mapping):
            self._value = value
        elif value is not None:
            self.refuse("", f"must be an object, not {shown(value)}")

    @classmethod
    def of(cls, body: object, *, strict: bool = False) -> Reader:
        """Stand on the root of a document."""
        reader = cls(body, "", [], strict=strict)
        if body is None:
            reader.refuse("", "the document is empty")
        return reader

    @property
    def faults(self) -> Faults:
        """What was found so far."""
        return Faults(tuple(self._faults))

    def refuse(self, name: str, message: str) -> None:
        """Note a fault at a field of this object, or at the object itself when the name is empty."""
        if len(self._faults) < _MAX_FAULTS:
            self._faults.append(Fault(self.path(name), message))

    def path(self, name: str) -> str:
        """Return the path of a field."""
        return ".".join(part for part in (self._path, name) if part) or "document"

    def has(self, name: str) -> bool:
        """Tell whether the field is there and not null."""
        return self._value.get(name) is not None

    def finish(self) -> None:
        """Report the fields that were never read, when strict."""
        if not self._strict:
            return
        for name in self._value:
            if name not in self._read:
                text = name if re.fullmatch(r"[\w./-]{1,63}", str(name), re.ASCII) else shown(name)
                self.refuse(text, "unknown field")

    def raw(self, name: str, *, required: bool = False) -> Any:
        """Return the value as it stands, None when absent."""
        self._read.add(name)
        value = self._value.get(name)
        if value is None and required:
            self.refuse(name, "is required")
        return value

    def child(self, name: str, *, required: bool = False) -> Reader:
        """Stand on an object below; an absent one reads as empty."""
        value = self.raw(name, required=required)
        return Reader(value, self.path(name), self._faults, strict=self._strict)

    def children(self, name: str, *, most: int, least: int = 0) -> list[Reader]:
        """Stand on every object of a list."""
        return [
            Reader({} if item is None else item, self.path(f"{name}[{index}]"), self._faults, strict=self._strict)
            for index, item in enumerate(self.items(name, most=most, least=least))
        ]

    def items(self, name: str, *, most: int, least: int = 0) -> list[Any]:
        """Return a list, empty when absent or wrong; only as many items as are allowed are looked at."""
        value = self.raw(name)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            self.refuse(name, f"must be a list, not {shown(value)}")
            return []
        if not least <= len(value) <= most:
            self.refuse(name, f"must have {least} to {most} items, not {len(value)}")
        return list(value[:most])

    def text(self, name: str, *, pattern: str, longest: int, default: str | None = None, kind: str = "a name") -> str:
        """Return a string that matches; required when there is no default."""
        value = self.raw(name, required=default is None)
        if value is None:
            return default or ""
        return self.checked_text(name, value, pattern=pattern, longest=longest, kind=kind)

    def checked_text(self, name: str, value: object, *, pattern: str, longest: int, kind: str) -> str:
        """Return the value when it is a matching string, else note the fault and return an empty one."""
        if not isinstance(value, str):
            self.refuse(name, f"must be a string, not {shown(value)}")
        elif len(value) > longest:
            self.refuse(name, f"is longer than {longest} characters")
        elif not re.fullmatch(pattern, value):
            self.refuse(name, f"{shown(value)} is not {kind} (it must match {pattern})")
        else:
            return value
        return ""

    def choice(self, name: str, choices: type[E], *, default: E) -> E:
        """Return a member of an enumeration, the default when absent or wrong."""
        value = self.raw(name)
        found = None if value is None else self.checked_choice(name, value, choices)
        return default if found is None else found

    def required_choice(self, name: str, choices: type[E]) -> E | None:
        """Return a member of an enumeration; None when it is absent or wrong, which is noted."""
        value = self.raw(name, required=True)
        return None if value is None else self.checked_choice(name, value, choices)

    def checked_choice(self, name: str, value: object, choices: type[E]) -> E | None:
        """Return the member that the value names, else note the fault and return None."""
        if isinstance(value, str) and value in choices.__members__.values():
            return choices(value)
        self.refuse(name, f"must be one of {', '.join(choices)}, not {shown(value)}")
        return None

    def choices(self, name: str, choices: type[E]) -> tuple[E, ...] | None:
        """Return the members that a list names, in the order of the enumeration; None when the list is absent."""
        items = self.items(name, most=len(choices), least=1)
        if not self.has(name):
            return None
        found = [self.checked_choice(f"{name}[{index}]", item, choices) for index, item in enumerate(items)]
        named = [choice for choice in found if choice is not None]
        if len(set(named)) < len(named):
            self.refuse(name, "must not name anything twice")
        return tuple(choice for choice in choices if choice in named)

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, f"must be true or false, not {shown(value)}")
            return default
        return value

    def integer(self, name: str, *, least: int, most: int, default: int) -> int:
        """Return an integer within bounds, the default when absent."""
        value = self.raw(name)
        return default if value is None else self.checked_integer(name, value, least=least, most=most)

    def optional_integer(self, name: str, *, least: int, most: int) -> int | None:
        """Return an integer within bounds, None when absent."""
        value = self.raw(name)
        return None if value is None else self.checked_integer(name, value, least=least, most=most)

    def checked_integer(self, name: str, value: object, *, least: int, most: int) -> int:
        """Return the value when it is an integer within bounds, else note the fault and return the least."""
        # JSON knows one kind of number: the API server takes 3.0 for an integer, and so does this.
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.refuse(name, f"must be an integer, not {shown(value)}")
            return least
        if not least <= value <= most:
            self.refuse(name, f"must be from {least} to {most}, not {shown(value)}")
            return least
        return value

    def optional_number(self, name: str, *, least: float, most: float) -> float | None:
        """Return a number within bounds, None when absent."""
        value = self.raw(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.refuse(name, f"must be a number, not {shown(value)}")
        elif not least <= value <= most:  # false for NaN too
            self.refuse(name, f"must be from {least:g} to {most:g}, not {shown(value)}")
        else:
            return float(value)
        return None

    def duration(self, name: str, *, least: int, most: int, default: str) -> int:
        """Return a duration in milliseconds; bounds in milliseconds too."""
        found = self.optional_duration(name, least=least, most=most)
        return found if found is not None else duration_milliseconds(default) or 0

    def optional_duration(self, name: str, *, least: int, most: int) -> int | None:
        """Return a duration in milliseconds, None when absent."""
        value = self.raw(name)
        if value is None:
            return None
        milliseconds = duration_milliseconds(value) if isinstance(value, str) else None
        if milliseconds is None:
            example = 'a duration such as "90s", "10m" or "1h30m"'
            self.refuse(name, f"must be {example} of at most {DURATION_MAX_LENGTH} characters, not {shown(value)}")
            return None
        if not least <= milliseconds <= most:
            self.refuse(name, f"must be from {format_duration(least)} to {format_duration(most)}, not {shown(value)}")
            return None
        return milliseconds

    def optional_quantity(self, name: str, *, least: int, most: int) -> int | None:
        """Return a quantity in bytes, None when absent; bounds in bytes."""
        value = self.raw(name)
        if value is None:
            return None
        count = quantity_bytes(value)
        if count is None:
            self.refuse(name, f'must be a quantity such as "16Mi" or "10Gi", not {shown(value)}')
            return None
        if not least <= count <= most:
            self.refuse(name, f"must be from {format_quantity(least)} to {format_quantity(most)}, not {shown(value)}")
            return None
        return count
