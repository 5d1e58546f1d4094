"""The one place where a driver's error becomes a reason that a condition can carry.

Messages come from the server and name hosts, databases and roles; they never hold a password, because libpq never puts
one there and we never send one in SQL.
"""

from __future__ import annotations

import re

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from storage_operator.errors import OperatorError

_BY_STATE = {
    "28P01": "AuthenticationFailed",
    "28000": "AuthenticationFailed",
    "3D000": "DatabaseMissing",
    "53300": "Unreachable",
    "42501": "PrivilegesMissing",
    "57P03": "Unreachable",
    "57P01": "Unreachable",
    "57P02": "Unreachable",
    "55P03": "LockTimeout",
    "57014": "StatementTimeout",
    "40001": "SerializationFailure",
    "40P01": "DeadlockDetected",
    "25006": "ServerReadOnly",
    "53100": "DiskFull",
}
_BY_TEXT = (
    ("password authentication failed", "AuthenticationFailed"),
    ("no password supplied", "AuthenticationFailed"),
    ("no pg_hba.conf entry", "AuthenticationFailed"),
    ('role "', "AuthenticationFailed"),
    ('database "', "DatabaseMissing"),
    ("too many clients", "Unreachable"),
    ("remaining connection slots", "Unreachable"),
    ("certificate verify failed", "TLSFailed"),
    ("SSL", "TLSFailed"),
)
_RETRIED_STATES = {"XX000", "40001", "40P01", "55P03", "42710", "23505", "25P02"}
FENCED_STATE = "LS001"
_MESSAGE_LENGTH_MAX = 400
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class DatabaseFault(OperatorError):  # noqa: N818 - what a database answered, not only our error
    """A database answered badly or not at all; ``reason`` is a condition's documented reason."""

    def __init__(self, reason: str, message: str, *, sqlstate: str | None = None, connection: bool = False) -> None:
        """Keep whether the connection itself failed: only that opens the circuit breaker."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.sqlstate = sqlstate
        self.connection = connection

    @property
    def transient(self) -> bool:
        """Whether the same transaction may succeed at once (concurrent GRANTs, a role made by a neighbour)."""
        if self.sqlstate == "XX000":
            return "concurrently" in self.message
        if self.sqlstate == "23505":
            return "pg_" in self.message  # a catalog's index: a neighbour made the same role at the same moment
        return self.sqlstate in _RETRIED_STATES


class Fenced(DatabaseFault):
    """A newer leader has taken over this database: nothing may be changed any more by this process."""


def translate(error: Exception) -> DatabaseFault:
    """Return the fault for a driver's error; anything that is not a driver's error is a bug and is raised as it is."""
    if isinstance(error, DatabaseFault):
        return error
    if isinstance(error, (PoolTimeout, TooManyRequests)):
        return DatabaseFault("Unreachable", "no connection became free in time", connection=True)
    if not isinstance(error, psycopg.Error):
        raise error
    state = error.sqlstate
    text = clean(error.diag.message_primary or str(error))
    if state == FENCED_STATE:
        return Fenced("Fenced", text, sqlstate=state)
    if isinstance(error, psycopg.OperationalError) and state is None:
        reason = next((reason for needle, reason in _BY_TEXT if needle in str(error)), "Unreachable")
        return DatabaseFault(reason, text, connection=True)
    reason = _BY_STATE.get(state or "", "DatabaseError")
    connection = (state or "").startswith(("08", "57P")) or state == "53300"
    return DatabaseFault(
        reason if not (state or "").startswith("08") else "Unreachable", text, sqlstate=state, connection=connection
    )


def clean(text: str) -> str:
    """Make a server's message fit for a condition: one line, bounded."""
    line = _CONTROL.sub(" ", text).strip()
    return line if len(line) <= _MESSAGE_LENGTH_MAX else line[: _MESSAGE_LENGTH_MAX - 1] + "…"
