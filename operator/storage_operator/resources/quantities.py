"""Kubernetes quantities ("16Mi", "10Gi", 1073741824) and whole bytes."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["MAX_LENGTH", "PATTERN", "format_quantity", "quantity_bytes"]

PATTERN: Final = r"^[0-9]{1,19}(\.[0-9]{1,9})?([kMGTPE]|[KMGTPE]i)?$"
"""The pattern of the custom resources: no sign, no exponent, no thousandths of a byte."""
MAX_LENGTH: Final = 32
"""The longest text that is looked at."""

_TEXT: Final = re.compile(r"([0-9.]+)([a-zA-Z]*)")
_WHOLE: Final = re.compile(PATTERN)
_DECIMAL: Final = {letter: 1000**power for power, letter in enumerate("kMGTPE", start=1)}
_BINARY: Final = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_FACTORS: Final = {"": 1, **_DECIMAL, **_BINARY}
# A quantity and a PostgreSQL bigint end at the same number.
_MAX_BYTES: Final = 2**63 - 1


def quantity_bytes(value: object) -> int | None:
    """Return whole bytes (rounded up, as Kubernetes does), or None when this is no quantity or it overflows."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value <= _MAX_BYTES else None
    if not isinstance(value, str) or len(value) > MAX_LENGTH or not _WHOLE.fullmatch(value):
        return None
    match = _TEXT.fullmatch(value)
    if match is None:  # pragma: no cover - the pattern above has matched
        return None
    exact = Fraction(match[1]) * _FACTORS[match[2]]
    count = -(-exact.numerator // exact.denominator)
    return count if count <= _MAX_BYTES else None


def format_quantity(count: int) -> str:
    """Write bytes with the biggest binary unit that divides them: 16777216 becomes "16Mi"."""
    for unit, factor in reversed(_BINARY.items()):
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)
