"""Connection strings: read, judged and varied. libpq's own parser decides what is valid."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage_operator.adapters.postgres.credentials import ScramKeys
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.planning.secret import Target
from storage_operator.resources.cluster import Pooler

_STRENGTH = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_DEFAULT_PORT = 5432
_PORT_MAX = 65_535
_LIBPQ_WITH_KEYS = 180_000
# What would make libpq read or write files of this process: passwords of other servers, other connections, a log of
# TLS keys at any path. Whoever writes a Secret decides where the operator connects to, not what it does to itself.
_REFUSED = frozenset({"passfile", "service", "servicefile", "sslkeylogfile"})


def admin_conninfo(value: bytes, sslmode: str, ca: bytes | None) -> str:
    """Check a Secret's connection string and give it the cluster's TLS; a stronger mode in the string stays.

    Raises ``DatabaseFault`` (ConnectionStringInvalid) that never repeats the string: it holds a password.
    """
    parameters = _parse(value)
    if not parameters.get("user") or not parameters.get("dbname"):
        raise DatabaseFault("ConnectionStringInvalid", "the connection string must name at least a user and a database")
    refused = sorted(_REFUSED & {name for name, value in parameters.items() if value})
    if refused:
        raise DatabaseFault("ConnectionStringInvalid", f"the connection string must not set {', '.join(refused)}")
    if any("@" in host[1:] for host in str(parameters.get("host") or "").split(",")):
        # The rest of a password: libpq ends it at the first @, and every message would repeat the host.
        raise DatabaseFault(
            "ConnectionStringInvalid", "the connection string's host holds an @; in a password it is written %40"
        )
    ports = str(parameters.get("port") or _DEFAULT_PORT).split(",")
    if not all(port.isdecimal() and 0 < int(port) <= _PORT_MAX for port in ports):
        raise DatabaseFault("ConnectionStringInvalid", "the connection string's port is not a number from 1 to 65535")
    own = str(parameters.get("sslmode") or "disable")
    if own not in _STRENGTH:
        raise DatabaseFault("ConnectionStringInvalid", "the connection string's sslmode is none that libpq knows")
    parameters["sslmode"] = max(own, sslmode, key=_STRENGTH.index)
    if ca is not None:
        parameters["sslrootcert"] = str(_ca_file(ca))
    return make_conninfo("", **parameters)


def _parse(value: bytes) -> dict[str, Any]:
    text = value.decode("utf-8", "replace").strip()
    if text and not set("\x00\ufffd") & set(text):
        try:
            return dict(conninfo_to_dict(text))
        except psycopg.Error:
            pass  # its message repeats the string, and the string holds a password
    raise DatabaseFault(
        "ConnectionStringInvalid",
        "the value is not a PostgreSQL connection string (postgresql://user:password@host:port/database)",
    )


def target(conninfo: str, ca: bytes | None, pooler: Pooler | None) -> Target:
    """Return what applications need of the admin's connection string: never its user or password."""
    parameters = conninfo_to_dict(conninfo)
    host = str(parameters.get("host") or parameters.get("hostaddr") or "localhost").partition(",")[0]
    port = str(parameters.get("port") or _DEFAULT_PORT).partition(",")[0]
    return Target(
        host=host,
        port=int(port),
        dbname=str(parameters["dbname"]),
        sslmode=str(parameters.get("sslmode") or "prefer"),
        ca=ca,
        pooler_host=None if pooler is None else pooler.host,
        pooler_port=None if pooler is None else pooler.port,
    )


def login_conninfo(conninfo: str, user: str, password: str, keys: ScramKeys | None = None) -> str:
    """Return the same place for another login; ``keys`` spare libpq the derivation from the password."""
    parameters = {
        name: value for name, value in conninfo_to_dict(conninfo).items() if name not in {"passfile", "options"}
    }
    known = {} if keys is None or psycopg.pq.version() < _LIBPQ_WITH_KEYS else asdict(keys)
    proof = {f"scram_{name}": value for name, value in known.items()}
    return make_conninfo("", **{**parameters, "user": user, "password": password, **proof})


def _ca_file(ca: bytes) -> Path:
    """Keep a CA in a private file named by its content: libpq reads certificates only from files."""
    folder = Path(tempfile.gettempdir()) / f"llmspell-ca-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise DatabaseFault("TLSFailed", f"folder {folder} is not private; remove it")
    path = folder / f"{hashlib.sha256(ca).hexdigest()}.crt"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(ca)
        fresh.replace(path)
    return path
