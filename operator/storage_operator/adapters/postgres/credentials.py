"""Draw credentials: a password nobody chose, its verifier for PostgreSQL and its digest for comparison.

The verifier is computed here, so that neither SQL nor logs ever hold the password. For a password that is drawn the
salted hash is made once and serves the verifier and the first log-in, the isolation probe, alike: it is a third of the
processor time that a new tenant costs the operator. Passwords that people choose go through libpq, which normalises them.
The digest is a plain SHA-256: a 256-bit random password cannot be guessed from it, and comparing costs nothing.
Source: RFC 5802 section 3 and RFC 7677 for the keys, PostgreSQL's documentation of pg_authid for the verifier's form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Any

import psycopg

PASSWORD_BYTES = 32
SALT_BYTES = 16
# PostgreSQL's own default, and the least that common clients accept from a server.
ITERATIONS = 4096


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a client proves a password with, derived once; base64, as libpq takes it."""

    client_key: str = field(repr=False)
    server_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """One newly drawn password with what the database keeps of it."""

    login: str
    password: str = field(repr=False)
    verifier: str = field(repr=False)
    digest: str = field(repr=False)
    keys: ScramKeys = field(repr=False)


def draw(login: str) -> Credential:
    """Draw a password of 256 random bits for a login."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    verifier = f"SCRAM-SHA-256${ITERATIONS}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"
    keys = ScramKeys(_base64(client_key), _base64(server_key))
    return Credential(login, password, verifier, digest(password.encode()), keys)


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def encrypt(login: str, password: str, connection: psycopg.AsyncConnection[Any]) -> str:
    """Return the SCRAM verifier of a password that somebody chose; computed by libpq in this process."""
    return connection.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode("ascii")


def digest(password: bytes) -> str:
    """Return the hexadecimal SHA-256 that the control table keeps of an issued password."""
    return hashlib.sha256(password).hexdigest()


def sealed_value(inner_pad: bytes, outer_pad: bytes, message: str) -> str:
    """HMAC-SHA-256 with the installation's precomputed pads, as ``sealing_key`` stores them."""
    inner = hashlib.sha256(inner_pad + message.encode()).digest()
    return hashlib.sha256(outer_pad + inner).hexdigest()
