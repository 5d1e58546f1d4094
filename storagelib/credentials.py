"""How an application logs in to its tenant's PostgreSQL, read from the Secret that the operator writes or from a URI.

Reading opens no connection. Every fault is reported at once, by the name of its key; no message, ``repr`` or ``str``
repeats a value of the Secret, because a value under the wrong key may be a password.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final, Literal, Self, cast

from storage_sql.roles import TENANT_PATTERN
from storagelib import uri
from storagelib.errors import InvalidInput
from storagelib.secret_keys import MODE_KEY, SCHEMA_KEY, SecretKeys

__all__ = ["Credentials", "IsolationMode", "SslMode"]

IsolationMode = Literal["role", "sealed"]
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_CAPABILITY: Final = re.compile(r"v[0-9]{1,9}\.[0-9a-f]{64}")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MODES: Final = ("role", "sealed")
_IDENTIFIER_BYTES_MAX: Final = 63
_TEXT_CHARACTERS_MAX: Final = 4096
_VALUE_BYTES_MAX: Final = 1024 * 1024
_PORT_MAX: Final = 65_535
_PORT_DIGITS_MAX: Final = 5
# The kubelet replaces a mounted Secret as a whole; a second reading always meets one version or the other.
_READINGS_MAX: Final = 3
_ADDRESS_FIELDS: Final = ("host", "port", "dbname", "user", "password", "sslmode")
_FILES: Final = ("ca_file", "sslcert", "sslkey")
# What a URI may say besides the address; the last two are no credentials, so a StoreConfig takes them.
_PARAMETERS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "connect_timeout")
_REQUIRED: Final = (*_ADDRESS_FIELDS, "tenant_id", "mode", "schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where a tenant's PostgreSQL is and how to log in; every value is checked when it is made.

    Raises ``InvalidInput`` with all faults. ``password``, ``capability`` and ``ca`` never show in ``repr``:

    >>> credentials = Credentials(host="db", dbname="app", user="ada", password="s3cret", tenant_id="acme")
    >>> credentials
    Credentials(host='db', port=5432, dbname='app', user='ada', tenant_id='acme', sslmode='prefer', mode='role', \
schema='llmspell', pooler_host=None, pooler_port=None, ca_file=None)
    """

    host: str
    """Host name, address, or the folder of a socket (begins with ``/``)."""
    port: int = 5432
    """Port, 1 to 65535."""
    dbname: str
    """The database; at most 63 bytes."""
    user: str
    """The login; at most 63 bytes."""
    password: str = field(repr=False)
    """The login's password."""
    tenant_id: str
    """3 to 255 of ``a-z``, ``0-9`` and ``-``."""
    sslmode: SslMode = "prefer"
    """libpq's sslmode."""
    mode: IsolationMode = "role"
    """``role``: the login belongs to the tenant. ``sealed``: the login is shared and ``capability`` enters the tenant."""
    schema: str = "llmspell"
    """The schema of the tables."""
    capability: str | None = field(default=None, repr=False)
    """What enters the tenant; exactly in sealed mode."""
    pooler_host: str | None = None
    """Host of the pooler, where there is one."""
    pooler_port: int | None = None
    """Port of the pooler, where there is one."""
    ca: str | None = field(default=None, repr=False)
    """The certificates that sign the server's, as PEM text."""
    ca_file: Path | None = None
    """The file that holds ``ca``: libpq reads it from nowhere else. See ``save_ca``."""
    sslcert: Path | None = field(default=None, repr=False)
    """The file of a client certificate; together with ``sslkey``."""
    sslkey: Path | None = field(default=None, repr=False)
    """The file of the client certificate's key; libpq wants it private (mode 0600)."""

    def __post_init__(self) -> None:
        """Check every field."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in _FILES}
        values["port"] = str(self.port) if type(self.port) is int else "not a number"
        faults = _value_faults({name: value for name, value in values.items() if value is not None}, str)
        faults += _capability_faults(self.mode, self.capability, "capability")
        if (self.pooler_host is None) is not (self.pooler_port is None):
            faults.append("pooler_host, pooler_port: must be given together")
        if (self.sslcert is None) is not (self.sslkey is None):
            faults.append("sslcert, sslkey: must be given together")
        faults += [f"{name}: must be a Path" for name in _FILES if not isinstance(getattr(self, name), Path | None)]
        if faults:
            raise InvalidInput("the credentials are wrong", faults)

    @classmethod
    def from_secret(
        cls,
        source: str | os.PathLike[str] | Mapping[str, str | bytes],
        *,
        keys: SecretKeys | Mapping[str, str] | None = None,
    ) -> Self:
        """Read an application's Secret: the folder it is mounted at, a JSON file of it, or its values as a mapping.

        A JSON file is what ``kubectl get secret -o json`` prints and what ``llmspell apply`` keeps: an object whose
        ``data`` holds the values in base64.

        ``keys`` gives the names of keys where they are not the default ones, as ``SecretKeys`` or as the block
        ``spec.credentials.keys`` of the Tenant. Other keys of the Secret are ignored. The URI under ``dsn`` may stand
        for host, port, dbname, user, password and sslmode; where both are given they must agree.

        Raises ``InvalidInput`` with every fault at once.

        >>> secret = {"dsn": "postgresql://ada:s3cret@db:5432/app?sslmode=require", "tenant-id": "acme"}
        >>> Credentials.from_secret({**secret, "mode": "role", "schema": "llmspell"}).sslmode
        'require'
        """
        if not isinstance(source, Mapping) and uri.is_shown_in(os.fspath(source)):
            raise InvalidInput(
                "the Secret cannot be read", ["it is a connection URI, not a folder or file: use from_dsn"]
            )
        names = _names(keys)
        faults: list[str] = []
        folder = None if isinstance(source, Mapping) or Path(source).is_file() else Path(source)
        if isinstance(source, Mapping):
            raw: Mapping[str, object] = source
        else:
            raw = _read_json(Path(source)) if folder is None else _read_folder(folder, names)
        values = _decode(raw, names, faults)
        read_dsn(values, names, faults)
        read_pooled_dsn(values, names, faults)
        faults += [f"{names[name]}: is missing" for name in _REQUIRED if name not in values]
        faults += _value_faults(values, lambda name: names.get(name, names["pooled_dsn"]))
        if values.get("mode") in _MODES:
            faults += _capability_faults(values["mode"], values.get("capability"), names["capability"])
        if faults:
            raise InvalidInput("the Secret is wrong", dict.fromkeys(faults))
        return cls(
            host=values["host"],
            port=int(values["port"]),
            dbname=values["dbname"],
            user=values["user"],
            password=values["password"],
            tenant_id=values["tenant_id"],
            sslmode=cast("SslMode", values["sslmode"]),
            mode=cast("IsolationMode", values["mode"]),
            schema=values["schema"],
            capability=values.get("capability"),
            pooler_host=values.get("pooler_host"),
            pooler_port=int(values["pooler_port"]) if "pooler_port" in values else None,
            ca=values.get("ca"),
            ca_file=folder / names["ca"] if folder is not None and "ca" in values else None,
        )

    @classmethod
    def from_dsn(
        cls,
        dsn: str,
        *,
        tenant_id: str,
        mode: IsolationMode = "role",
        schema: str = "llmspell",
        capability: str | None = None,
        pooled_dsn: str | None = None,
    ) -> Self:
        """Read a connection URI, with what it cannot say: the tenant, and for mode ``sealed`` the capability.

        The URI must hold host, database, user and password. Its parameters may be ``sslmode``, ``sslrootcert``,
        ``sslcert`` and ``sslkey``; ``application_name`` and ``connect_timeout`` are left to ``StoreConfig.from_dsn``, and
        any other is refused: to drop one silently might drop protection. ``pooled_dsn`` is the same login through a
        pooler.

        Raises ``InvalidInput`` with every fault at once.

        >>> Credentials.from_dsn("postgresql://ada:s3cret@db/app?sslmode=require", tenant_id="acme").port
        5432
        """
        faults: list[str] = []
        names = {entry.name: entry.name for entry in fields(cls)} | {"pooled_dsn": "pooled_dsn"}
        given = {"tenant_id": tenant_id, "mode": mode, "schema": schema, "capability": capability}
        values = {name: value for name, value in given.items() if value is not None}
        address = _address(dsn, "dsn", faults)
        if address is not None:
            stated = {name: getattr(address, name) for name in ("host", "port", "dbname", "user", "password")}
            values |= {"port": "5432", "sslmode": "prefer"}
            values |= {name: value for name, value in stated.items() if value is not None}
            values |= {name: value for name, value in address.options.items() if name == "sslmode"}
            faults += [f"dsn: names no {name}" for name, value in stated.items() if value is None and name != "port"]
            faults += parameter_faults(address, "dsn")
        if pooled_dsn is not None:
            values["pooled_dsn"] = pooled_dsn
            read_pooled_dsn(values, names, faults)
        faults += _value_faults(values, lambda name: names.get(name, name))
        faults += _capability_faults(mode, capability, "capability")
        if faults or address is None:
            raise InvalidInput("the connection URI is wrong", dict.fromkeys(faults))
        files = {name: Path(path) for name, path in address.options.items() if name.startswith("ssl")}
        return cls(
            host=values["host"],
            port=int(values["port"]),
            dbname=values["dbname"],
            user=values["user"],
            password=values["password"],
            tenant_id=tenant_id,
            sslmode=cast("SslMode", values["sslmode"]),
            mode=mode,
            schema=schema,
            capability=capability,
            pooler_host=values.get("pooler_host"),
            pooler_port=int(values["pooler_port"]) if "pooler_port" in values else None,
            ca_file=files.get("sslrootcert"),
            sslcert=files.get("sslcert"),
            sslkey=files.get("sslkey"),
        )

    @property
    def dsn(self) -> str:
        """The direct connection as a libpq URI, password included; raises ``InvalidInput`` as ``conninfo`` does."""
        return self._uri(self.host, self.port)

    @property
    def pooled_dsn(self) -> str | None:
        """The connection through the pooler as a libpq URI, or None; raises ``InvalidInput`` as ``conninfo`` does."""
        if self.pooler_host is None or self.pooler_port is None:
            return None
        return self._uri(self.pooler_host, self.pooler_port)

    @property
    def conninfo(self) -> str:
        r"""The direct connection as libpq's keywords, password included.

        Raises ``InvalidInput`` when ``sslmode`` verifies against a ``ca`` that is in no file.

        >>> print(Credentials(host="db", dbname="app", user="ada", password="it's", tenant_id="acme").conninfo)
        host='db' port='5432' dbname='app' user='ada' password='it\'s' sslmode='prefer'
        """
        return self._conninfo(self.host, self.port)

    @property
    def pooled_conninfo(self) -> str | None:
        """The connection through the pooler as libpq's keywords, or None; raises ``InvalidInput`` as ``conninfo`` does."""
        if self.pooler_host is None or self.pooler_port is None:
            return None
        return self._conninfo(self.pooler_host, self.pooler_port)

    def save_ca(self, path: str | os.PathLike[str]) -> Self:
        """Write ``ca`` to a file and return a configuration that uses it; one without ``ca`` is returned as it is.

        Needed when the Secret came as a mapping and ``sslmode`` is ``verify-ca`` or ``verify-full``.
        """
        if self.ca is None:
            return self
        Path(path).write_text(self.ca, encoding="utf-8")
        return replace(self, ca_file=Path(path))

    def _tls(self) -> dict[str, str]:
        if self.ca is not None and self.ca_file is None and self.sslmode.startswith("verify-"):
            raise InvalidInput(
                "the connection cannot be verified", ["ca: libpq reads it from a file only; call save_ca(path) first"]
            )
        named = {"sslrootcert": self.ca_file, "sslcert": self.sslcert, "sslkey": self.sslkey}
        return {"sslmode": self.sslmode} | {name: str(path) for name, path in named.items() if path is not None}

    def _conninfo(self, host: str, port: int) -> str:
        login = {"host": host, "port": str(port), "dbname": self.dbname, "user": self.user, "password": self.password}
        return " ".join(f"{name}={_quoted(value)}" for name, value in (login | self._tls()).items())

    def _uri(self, host: str, port: int) -> str:
        return uri.render(
            host=host, port=port, dbname=self.dbname, user=self.user, password=self.password, options=self._tls()
        )


def _names(keys: SecretKeys | Mapping[str, str] | None) -> dict[str, str]:
    """Return the key of each field."""
    chosen = SecretKeys() if keys is None else keys
    if isinstance(chosen, Mapping):
        chosen = SecretKeys.from_manifest(chosen)
    chosen.check()
    named = {entry.name: str(getattr(chosen, entry.name)) for entry in fields(chosen)}
    return {**named, "mode": MODE_KEY, "schema": SCHEMA_KEY}


def _read_folder(folder: Path, names: Mapping[str, str]) -> dict[str, bytes]:
    """Read the keys' files, all of one version: a mounted Secret's ``..data`` links to the folder of the newest."""
    for _ in range(_READINGS_MAX):
        try:
            version = (folder / "..data").resolve() if (folder / "..data").exists() else folder
            if not version.is_dir():
                break
            found = {key: _read_file(version / key) for key in names.values() if (version / key).is_file()}
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidInput("the Secret cannot be read", [f"{folder}: {error.strerror}"]) from error
        if version == folder or (folder / "..data").resolve() == version:
            if not found:
                hint = "holds no key of a Secret; of a folder of Secrets name one, or give it as credentials_folder"
                raise InvalidInput("the Secret cannot be read", [f"{folder}: {hint}"])
            return found
    raise InvalidInput("the Secret cannot be read", [f"{folder}: is not a folder of a mounted Secret"])


def _read_json(path: Path) -> dict[str, bytes]:
    """Read the object of a Secret that was written to a file."""
    # Not at the top: a mounted Secret needs neither.
    import base64  # noqa: PLC0415
    import json  # noqa: PLC0415

    try:
        data = json.loads(_read_file(path))["data"]
        return {str(key): base64.b64decode(value, validate=True) for key, value in data.items()}
    except OSError as error:
        raise InvalidInput("the Secret cannot be read", [f"{path}: {error.strerror}"]) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # The cause may quote the file.
        raise InvalidInput("the Secret cannot be read", [f"{path}: is not the JSON of a Secret"]) from None


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_VALUE_BYTES_MAX + 1)


def _decode(raw: Mapping[str, object], names: Mapping[str, str], faults: list[str]) -> dict[str, str]:
    """Return the text of each field that the Secret has."""
    values: dict[str, str] = {}
    for name, key in names.items():
        value = raw.get(key)
        if value is None:
            continue
        if not isinstance(value, str | bytes):
            faults.append(f"{key}: must be text or bytes")
        elif len(value) > _VALUE_BYTES_MAX:
            faults.append(f"{key}: is longer than {_VALUE_BYTES_MAX} bytes")
        else:
            try:
                values[name] = value if isinstance(value, str) else value.decode("utf-8")
            except UnicodeDecodeError:
                faults.append(f"{key}: is not UTF-8 text")
    return values


def read_dsn(values: dict[str, str], names: Mapping[str, str], faults: list[str]) -> None:
    """Let the URI fill what is not given, and say where it differs from what is."""
    address = _address(values.pop("dsn", None), names["dsn"], faults)
    if address is None:
        return
    said = {
        "host": address.host,
        "port": address.port,
        "dbname": address.dbname,
        "user": address.user,
        "password": address.password,
        "sslmode": address.options.get("sslmode"),
    }
    differing = [names[name] for name, value in said.items() if value is not None and values.get(name, value) != value]
    if differing:
        faults.append(f"{names['dsn']}: differs from {', '.join(differing)}")
    values.update({name: value for name, value in said.items() if value is not None and name not in values})


def read_pooled_dsn(values: dict[str, str], names: Mapping[str, str], faults: list[str]) -> None:
    """Take the pooler's host and port from its URI, which must be the same login to the same database."""
    key = names["pooled_dsn"]
    address = _address(values.pop("pooled_dsn", None), key, faults)
    if address is None:
        return
    same = {"dbname": address.dbname, "user": address.user, "password": address.password}
    differing = [names[name] for name, value in same.items() if values.get(name, value) != value]
    if differing:
        faults.append(f"{key}: differs from {', '.join(differing)}")
    if address.host is None or address.port is None:
        faults.append(f"{key}: names no host and port")
    else:
        values |= {"pooler_host": address.host, "pooler_port": address.port}


def parameter_faults(address: uri.Address, key: str) -> list[str]:
    """Say that a URI has a parameter that nothing here would obey; its name may be a secret at the wrong place."""
    known = set(address.options) <= set(_PARAMETERS)
    return [] if known else [f"{key}: holds a parameter besides {', '.join(_PARAMETERS)}"]


def _address(text: str | None, key: str, faults: list[str]) -> uri.Address | None:
    if text is None:
        return None
    try:
        return uri.parse(text)
    except ValueError as error:
        faults.append(f"{key}: {error}")
        return None


def _value_faults(values: Mapping[str, str], named: Callable[[str], str]) -> list[str]:
    """List what is wrong with each value on its own."""
    found = ((name, _CHECKS[name](value)) for name, value in values.items() if name in _CHECKS)
    return [f"{named(name)}: {fault}" for name, fault in found if fault is not None]


def _capability_faults(mode: str, capability: str | None, key: str) -> list[str]:
    if mode == "sealed" and capability is None:
        return [f"{key}: is missing, and mode is sealed"]
    if mode == "role" and capability is not None:
        return [f"{key}: belongs to mode sealed, and mode is role"]
    return []


def _text_fault(value: object) -> str | None:
    if not isinstance(value, str):
        return "must be text"
    if not value:
        return "is empty"
    if len(value) > _TEXT_CHARACTERS_MAX:
        return f"is longer than {_TEXT_CHARACTERS_MAX} characters"
    if value.endswith("\n"):
        return "ends with a line break; write the value without one (printf, not echo)"
    if not value.isprintable():
        return "holds characters that cannot be printed"
    return None


def _identifier_fault(value: object) -> str | None:
    fault = _text_fault(value)
    if fault is None and len(str(value).encode()) > _IDENTIFIER_BYTES_MAX:
        return f"is longer than {_IDENTIFIER_BYTES_MAX} bytes"
    return fault


def _part_fault(check: Callable[[object], str | None]) -> Callable[[object], str | None]:
    """Refuse a whole URI in the place of a part of one, which would be shown with its password."""
    return lambda value: (
        "is a connection URI: name its parts, or use from_dsn" if uri.is_shown_in(value) else check(value)
    )


def _port_fault(value: object) -> str | None:
    text = str(value)
    valid = text.isascii() and text.isdigit() and len(text) <= _PORT_DIGITS_MAX and 1 <= int(text) <= _PORT_MAX
    return None if valid else f"must be a number from 1 to {_PORT_MAX}"


def _certificate_fault(value: object) -> str | None:
    return None if "-----BEGIN CERTIFICATE-----" in str(value) else "holds no PEM certificate"


def _one_of(choices: tuple[str, ...]) -> Callable[[object], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[object], str | None]:
    return lambda value: None if isinstance(value, str) and pattern.fullmatch(value) else f"is not {what}"


_CHECKS: Final[Mapping[str, Callable[[object], str | None]]] = {
    "host": _part_fault(_text_fault),
    "port": _port_fault,
    "dbname": _part_fault(_identifier_fault),
    "user": _part_fault(_identifier_fault),
    "password": _text_fault,
    "tenant_id": _matching(TENANT_PATTERN, "a tenant id: 3 to 255 of a-z, 0-9 and -"),
    "sslmode": _one_of(_SSL_MODES),
    "mode": _one_of(_MODES),
    "schema": _matching(_SCHEMA, "the name of a schema: a-z, 0-9 and _, at most 63"),
    "capability": _matching(_CAPABILITY, "a capability"),
    "pooler_host": _part_fault(_text_fault),
    "pooler_port": _port_fault,
    "ca": _certificate_fault,
}


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
