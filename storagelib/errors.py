"""The tree of errors that this library raises, grouped by what a caller can do.

- ``InvalidInput``: what was given cannot work; correct it. Trying again unchanged never helps.

Every error says with ``retryable`` whether the same call may succeed later. No message holds a password, a capability
or any other value of a Secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

__all__ = ["InvalidInput", "StorageError"]


class StorageError(Exception):
    """Base of every error that this library raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed when it is made again later."""


class InvalidInput(StorageError, ValueError):  # noqa: N818 - it names what is wrong, not that something is
    """What was given cannot work; ``faults`` has one sentence for each thing that is wrong.

    >>> error = InvalidInput("the configuration is wrong", ["port: is missing", "mode: must be role or sealed"])
    >>> error.faults
    ('port: is missing', 'mode: must be role or sealed')
    >>> print(error)
    the configuration is wrong: port: is missing; mode: must be role or sealed
    """

    def __init__(self, what: str, faults: Iterable[str] = ()) -> None:
        """Take what was being read and every fault of it."""
        self.what = what
        self.faults = tuple(faults)
        super().__init__(what, self.faults)

    def __str__(self) -> str:
        """Join everything into one line."""
        return f"{self.what}: {'; '.join(self.faults)}" if self.faults else self.what
