"""Draw credentials: a password nobody chose, its verifier for PostgreSQL and its digest for comparison.

The verifier is computed here by libpq, so that neither SQL nor logs ever hold the password (D11 of the journey: SCRAM).
The digest is a plain SHA-256: a 256-bit random password cannot be guessed from it, and comparing costs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

import psycopg

PASSWORD_BYTES = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """One newly drawn password with what the database keeps of it."""

    login: str
    password: str = field(repr=False)
    verifier: str = field(repr=False)
    digest: str = field(repr=False)


def draw(login: str, connection: psycopg.AsyncConnection[Any]) -> Credential:
    """Draw a password for a login; the connection tells libpq the server's SCRAM settings, nothing is sent."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    return Credential(login, password, encrypt(login, password, connection), digest(password.encode()))


def encrypt(login: str, password: str, connection: psycopg.AsyncConnection[Any]) -> str:
    """Return the SCRAM verifier of a password; computed by libpq in this process."""
    return connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode("ascii")


def digest(password: bytes) -> str:
    """Return the hexadecimal SHA-256 that the control table keeps of an issued password."""
    return hashlib.sha256(password).hexdigest()


def sealed_value(inner_pad: bytes, outer_pad: bytes, message: str) -> str:
    """HMAC-SHA-256 with the installation's precomputed pads, as ``sealing_key`` stores them."""
    inner = hashlib.sha256(inner_pad + message.encode()).digest()
    return hashlib.sha256(outer_pad + inner).hexdigest()


def same(left: str, right: str) -> bool:
    """Compare two secrets without telling where they differ."""
    return hmac.compare_digest(left.encode(), right.encode())
