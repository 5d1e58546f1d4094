"""Durations as Go and Kubernetes write them ("90s", "1h30m") and as whole milliseconds.

The API takes hours, minutes, seconds and milliseconds, without a sign: a day is "24h".
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["MAX_LENGTH", "PATTERN", "duration_milliseconds", "duration_seconds", "format_duration"]

PATTERN: Final = r"^([0-9]{1,10}(\.[0-9]{1,3})?(ms|s|m|h))+$"
"""The pattern of the custom resources; Go's own parser takes every text that matches it."""
MAX_LENGTH: Final = 32
"""The longest text that is looked at."""

_WHOLE: Final = re.compile(PATTERN)
_TERM: Final = re.compile(r"([0-9.]+)(ms|s|m|h)")
_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
# Go counts nanoseconds in 63 bits.
_MAX_MILLISECONDS: Final = (2**63 - 1) // 1_000_000


def duration_milliseconds(text: str) -> int | None:
    """Return whole milliseconds (rounded up), or None when the text is not a duration Go could hold."""
    if len(text) > MAX_LENGTH or not _WHOLE.fullmatch(text):
        return None
    total = sum((Fraction(number) * _MILLISECONDS[unit] for number, unit in _TERM.findall(text)), Fraction(0))
    milliseconds = -(-total.numerator // total.denominator)
    return milliseconds if milliseconds <= _MAX_MILLISECONDS else None


def duration_seconds(text: str) -> float | None:
    """Return seconds, or None when the text is not a duration."""
    milliseconds = duration_milliseconds(text)
    return None if milliseconds is None else milliseconds / 1000


def format_duration(milliseconds: int) -> str:
    """Write a duration in its shortest form: 5400000 becomes "1h30m", zero "0s"."""
    terms: list[str] = []
    rest = milliseconds
    for unit in ("h", "m", "s", "ms"):
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            terms.append(f"{count}{unit}")
    return "".join(terms) or "0s"
