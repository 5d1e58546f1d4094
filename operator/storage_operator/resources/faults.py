"""What is wrong with a document: one fault a field, all of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Fault", "Faults", "shown"]

_SHOWN_LENGTH: Final = 48
_TOLD_FAULTS: Final = 20


def shown(value: object) -> str:
    """Quote a foreign value for a message: short, on one line, plain ASCII.

    Only scalars are shown, and no text that may be a connection string: a document may hold anything,
    a DSN pasted into the wrong field too, and a message ends in logs, events and status.
    """
    if isinstance(value, str):
        if "://" in value or "password" in value.lower():
            return f"a string of {len(value)} characters"
        quoted = ascii(value[:_SHOWN_LENGTH])
        return f"{quoted}…" if len(value) > _SHOWN_LENGTH else quoted
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        # The text of a huge integer is refused by Python itself; its size says enough.
        return str(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"  # noqa: PLR2004
    if value is None:
        return "null"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the path of the field (``spec.quotas.storage``) and what is wrong with it."""

    path: str
    message: str

    def __str__(self) -> str:
        """Give the one-line form, ``path: message``."""
        return f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of one document, in the order of its fields; true when there are any."""

    items: tuple[Fault, ...]

    def __bool__(self) -> bool:
        """Tell whether anything is wrong."""
        return bool(self.items)

    def __iter__(self) -> Iterator[Fault]:
        """Go through the faults."""
        return iter(self.items)

    def __len__(self) -> int:
        """Count the faults."""
        return len(self.items)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the faulty fields."""
        return tuple(fault.path for fault in self.items)

    def __str__(self) -> str:
        """Give one line for a condition's message or a terminal; long lists are cut and counted."""
        told = "; ".join(str(fault) for fault in self.items[:_TOLD_FAULTS])
        rest = len(self.items) - _TOLD_FAULTS
        return f"{told}; and {rest} more" if rest > 0 else told
