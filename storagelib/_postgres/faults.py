"""What PostgreSQL's errors mean to a caller: one table from SQLSTATE to an error of ours.

Messages of the server stay out of ours where they may quote values; they are the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from storagelib.errors import (
    AlreadyExists,
    Conflict,
    Corrupted,
    InvalidInput,
    MigrationError,
    Outcome,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
)

__all__ = ["RETRIED", "STALE_PLAN", "UNKNOWN_STATEMENT", "translated"]

RETRIED: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: nothing was done, and the same statements may be sent again."""
UNKNOWN_STATEMENT: Final = "26000"
"""invalid_sql_statement_name: no prepared statement has the name."""
STALE_PLAN: Final = frozenset({UNKNOWN_STATEMENT, "0A000"})
"""A prepared statement is gone, or its result changed with a migration: prepare it again."""


def _input(message: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [message])


def _check(error: psycopg.Error) -> StorageError:
    constraint = error.diag.constraint_name
    if constraint is None:
        # Partitions and policies refuse without a constraint's name.
        return Unavailable("no partition takes this time: the operator, or ensure_event_partitions, has to make it")
    return _input(f"{error.diag.table_name}: {constraint} does not hold")


def _quota(error: psycopg.Error) -> str:
    detail = error.diag.message_detail
    return f"storage quota exceeded: {detail}" if detail else "storage quota exceeded"


def _internal(error: psycopg.Error) -> StorageError:
    if "invalid memory alloc request size" in str(error):
        # A gigabyte in one value is more than the server takes in hand; it has no state of its own for that.
        return _input("it makes more at once than the server can hold: ask for less at a time")
    return Corrupted("the server found damaged data, or failed")


_REASON_MAX: Final = 300
_STATES: Final[dict[str, Callable[[psycopg.Error], StorageError]]] = {
    "23505": lambda _error: AlreadyExists("the id is taken"),
    "23514": _check,
    "23502": lambda _error: _input("a value is missing"),
    "23503": lambda _error: Conflict("what this depends on was changed"),
    "23P01": lambda _error: Conflict("a concurrent writer was faster"),
    "40001": lambda _error: Conflict("concurrent writers kept this from happening; try again"),
    "40P01": lambda _error: Conflict("concurrent writers waited for each other; try again"),
    "55P03": lambda _error: Conflict("a lock was not to be had in time; try again"),
    "53400": lambda error: QuotaExceeded(_quota(error)),
    "28000": lambda _error: PermissionDenied("the tenant cannot be entered: capability, suspension or isolation mode"),
    "28P01": lambda _error: PermissionDenied("the login or its password is wrong"),
    "42501": lambda _error: PermissionDenied(
        "this login may not do this: the tenant has no such store; spec.components of the Tenant names what it has"
    ),
    "25006": lambda _error: Unavailable("the server only reads now (a standby, or a failover)"),
    "42P01": lambda _error: MigrationError("a table is missing: the schema is older than this library"),
    "42703": lambda _error: MigrationError("a column is missing: the schema is older than this library"),
    "42883": lambda _error: MigrationError("a function is missing: the schema is older than this library"),
    "3F000": lambda _error: MigrationError("the schema is missing: is it another database?"),
    "57014": lambda _error: Unavailable("the statement took longer than its timeout; nothing was changed"),
    "XX000": _internal,
    "54000": lambda _error: _input("the value is larger than the server can hold or index"),
}
_CLASSES: Final[dict[str, Callable[[psycopg.Error], StorageError]]] = {
    "22": lambda _error: _input("the server cannot hold a value of it"),
    "53": lambda _error: Unavailable("the server is out of disk, memory or connections; nothing was changed"),
    "57": lambda _error: Unavailable("the server is shutting down or was stopped", outcome="unknown"),
    "28": lambda _error: PermissionDenied("the login is refused"),
    "58": lambda _error: Unavailable("the server's disk failed", outcome="unknown"),
    "XX": lambda _error: Corrupted("the server found damaged data, or failed"),
    "54": lambda _error: _input("a limit of the server is passed"),
}


def translated(error: BaseException, *, sent: bool = True) -> BaseException:
    """Return the error of ours that says what a driver's error means; others are returned as they are.

    ``sent`` tells whether statements may have reached the server before the connection broke.
    """
    if isinstance(error, PoolTimeout | TooManyRequests):
        return Unavailable("no connection was free in time: the pool is too small, or the server does not answer")
    if isinstance(error, PoolClosed):
        return Unavailable("the store is closed")
    if not isinstance(error, psycopg.Error):
        return error
    if error.sqlstate is None:
        return _without_state(error, "unknown" if sent else "nothing")
    known = _STATES.get(error.sqlstate) or _CLASSES.get(error.sqlstate[:2])
    if known is not None:
        return known(error)
    if error.sqlstate.startswith("08"):
        return Unavailable("the connection broke", outcome="unknown" if sent else "nothing")
    return Unavailable(f"the server refused with SQLSTATE {error.sqlstate}")


def _without_state(error: psycopg.Error, outcome: Outcome) -> StorageError:
    text = str(error)
    # libpq says why a login failed only in words; those of a pooler are others.
    if any(
        words in text
        for words in ("password authentication failed", "SASL authentication failed", "no pg_hba.conf entry")
    ):
        return PermissionDenied("the login or its password is wrong, or the server lets it in from elsewhere only")
    if "is not permitted to log in" in text:
        return PermissionDenied("the login may not log in: the tenant is suspended, or the login was retired")
    if any(words in text for words in ("too many connections", "too many clients", "connection slots")):
        return Unavailable("no connection is left: the tenant's quotas.connections, or the server's max_connections")
    if 'database "' in text and "does not exist" in text:
        return MigrationError("the server has no such database: is it another server?")
    if "certificate" in text or "SSL" in text:
        return Unavailable("the connection could not be secured: check sslmode and the certificates", outcome="nothing")
    if outcome == "unknown":
        return Unavailable("the server cannot be reached, or the connection broke", outcome=outcome)
    return Unavailable(f"the server cannot be reached{_reason(error, text)}", outcome=outcome)


def _reason(error: psycopg.Error, text: str) -> str:
    """Return what libpq says of the address; a connection string that it cannot read might be quoted, and is not told."""
    first = (
        text.partition("\n")[0].removeprefix("connection failed: ").removeprefix("connection is bad: ")[:_REASON_MAX]
    )
    return f": {first}" if first and isinstance(error, psycopg.OperationalError) else ""
