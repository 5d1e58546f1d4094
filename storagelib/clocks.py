"""What time it is, for the backends that have no server to ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["FOREVER", "LONG_AGO", "Clock", "from_microseconds", "system_clock", "to_microseconds"]

Clock = Callable[[], datetime]
"""Gives the present moment in UTC."""

FOREVER: Final = datetime.max.replace(tzinfo=UTC)
"""Stands for ``infinity``: no end yet."""
LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
"""Stands for ``-infinity``: no beginning."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FOREVER_MICROSECONDS: Final = 2**63 - 1
_LONG_AGO_MICROSECONDS: Final = -(2**63)


def system_clock() -> datetime:
    """Return the present moment by this machine's clock."""
    return datetime.now(UTC)


def to_microseconds(moment: datetime) -> int:
    """Return microseconds since 1970; the infinities are the largest and smallest 64-bit number.

    >>> to_microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if moment == FOREVER:
        return _FOREVER_MICROSECONDS
    if moment == LONG_AGO:
        return _LONG_AGO_MICROSECONDS
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(count: int) -> datetime:
    """Return the moment that many microseconds after 1970.

    >>> from_microseconds(2**63 - 1) == FOREVER
    True
    """
    if count == _FOREVER_MICROSECONDS:
        return FOREVER
    if count == _LONG_AGO_MICROSECONDS:
        return LONG_AGO
    return _EPOCH + timedelta(0, 0, count)
