"""The tree of errors that this library raises, grouped by what a caller can do.

- ``InvalidInput``: what was given cannot work; correct it. Trying again unchanged never helps.
- ``NotFound``, ``AlreadyExists``: the thing is not there, or is there already.
- ``Conflict``: somebody else was faster; read again and decide.
- ``QuotaExceeded``: a bound of the tenant, or of a bounded memory store, is reached; deleting still works.
- ``PermissionDenied``: this login, capability or tenant may not do this.
- ``Unavailable``: the storage cannot answer now; ``outcome`` says whether anything may have happened.
- ``Corrupted``: what was stored is not what was written.
- ``MigrationError``: the schema is older or newer than this release.

Every error says with ``retryable`` whether the same call may succeed later. No message holds a password, a capability
or any other value of a Secret, and no error of a database driver escapes: it is the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

__all__ = [
    "AlreadyExists",
    "Conflict",
    "Corrupted",
    "InvalidInput",
    "MigrationError",
    "NotFound",
    "Outcome",
    "PermissionDenied",
    "QuotaExceeded",
    "StorageError",
    "Unavailable",
]

Outcome = Literal["nothing", "unknown"]
"""What a failed call did: nothing, or nobody can say."""


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


class NotFound(StorageError, LookupError):  # noqa: N818 - it names what is wrong, not that something is
    """What was asked for by its id is not there, for this tenant."""


class AlreadyExists(StorageError):  # noqa: N818 - the name is the finding
    """The id is taken, within this tenant."""


class Conflict(StorageError):  # noqa: N818 - the name is the finding
    """The stored version is not the expected one, or a concurrent writer won: read again and decide."""

    retryable = True


class QuotaExceeded(StorageError):  # noqa: N818 - the name is the finding
    """Writing would go, or already went, over the tenant's quota; reading and deleting still work."""


class PermissionDenied(StorageError, PermissionError):  # noqa: N818 - the name is the finding
    """This login, capability or tenant may not do this."""


class Unavailable(StorageError, ConnectionError):  # noqa: N818 - the name is the finding
    """The storage could not answer: down, full, too slow, or out of connections.

    ``outcome`` is ``"nothing"`` when the call certainly changed nothing and may be made again, and ``"unknown"`` when the
    connection broke between sending and the answer: read before writing again.
    """

    retryable = True

    def __init__(self, message: str, *, outcome: Outcome = "nothing") -> None:
        """Take what happened and what can be said about its effect."""
        super().__init__(message)
        self.outcome: Outcome = outcome


class Corrupted(StorageError):  # noqa: N818 - the name is the finding
    """What was read is not what was written: a hash differs, a file is damaged, a chunk is missing."""


class MigrationError(StorageError):
    """The schema and this release do not fit together; nothing was changed."""
