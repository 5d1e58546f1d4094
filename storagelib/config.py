"""What a store is opened with: which backend holds what, where it is, and how patient to be.

Every value is checked when it is made, and all faults are told at once. No ``repr``, ``str`` or message holds a
password, a capability or a URI.

>>> config = StoreConfig(backend="sqlite", components={"kv": ComponentConfig(backend="memory")})
>>> config.backend_of("kv"), config.backend_of("graph")
('memory', 'sqlite')
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from storage_sql.roles import TENANT_PATTERN
from storage_sql.stores import STORES
from storagelib import uri
from storagelib.credentials import Credentials, IsolationMode
from storagelib.credentials_folder import CredentialsFolder
from storagelib.errors import InvalidInput, PermissionDenied
from storagelib.limits import check_tenant_id
from storagelib.secret_keys import SecretKeys

__all__ = [
    "ComponentConfig",
    "Durability",
    "MemoryConfig",
    "Pipeline",
    "Pooler",
    "PostgresConfig",
    "SqliteConfig",
    "StoreConfig",
    "VectorScan",
    "default_pool_max",
    "default_sqlite_path",
]

Pooler = Literal["none", "transaction"]
"""``transaction``: a pooler in transaction mode stands before the server, and a session is ours for one call only."""
Pipeline = Literal["auto", "off"]
"""``auto``: tenant entry and statement go in one round trip, unless a trial shows that something between breaks it."""
Durability = Literal["full", "normal"]
"""``full``: a commit survives a power cut. ``normal``: the last commits may not; the file stays whole."""
VectorScan = Literal["auto", "numpy", "sqlite-vec"]
"""What compares vectors: numpy, or sqlite-vec first; ``auto`` takes sqlite-vec where it can be loaded."""

STORE_NAMES: Final = tuple(store.name for store in STORES)
BUILT_IN: Final = ("memory", "sqlite", "postgres")
POOL_MOST: Final = 1000
_BACKEND: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
OLD_BACKENDS: Final = ("sled", "hnsw", "file", "surrealdb")
"""What earlier programs kept their data in; nothing here reads it."""
_SECONDS_MOST: Final = 86_400.0
_NAME_BYTES_MOST: Final = 63
_PATTERN_MOST: Final = 200
_CLASS: Final = re.compile(r"\[\^?[a-z0-9-]+\]")
_REPETITION: Final = re.compile(r"[?*+]|\{[0-9]{1,3}(?:(,)[0-9]{0,3})?\}")
_REPETITIONS_MOST: Final = 3


def default_pool_max() -> int:
    """Return two connections for each CPU that this process may use, and one more."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus * 2 + 1, POOL_MOST)


def default_sqlite_path() -> Path:
    """Return where the file is when nobody says: in the user's folder for data."""
    return Path("~/.local/share/llmspell/llmspell.db").expanduser()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentConfig:
    """What differs for one store."""

    backend: str | None = None
    """The backend of this store; the one of all when none is given."""
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    """What only this store understands."""

    def __post_init__(self) -> None:
        """Check, and keep a copy of the options that nobody can change."""
        _check(self, {"backend": _optional(_backend_fault), "options": _options_fault})
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), {"backend": self.backend, "options": dict(self.options)})


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """The backend that keeps everything in this process."""

    most_bytes: int | None = None
    """Bytes that one tenant may fill, about; without a number there is no bound."""

    def __post_init__(self) -> None:
        """Check every value."""
        _check(self, {"most_bytes": _optional(_whole(1, 2**63 - 1))})


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteConfig:
    """The backend that is one file."""

    path: Path = field(default_factory=default_sqlite_path)
    """The file; its folder is made when it is not there."""
    durability: Durability = "full"
    """``full``: a commit survives a power cut. ``normal``: the last commits may not; the file stays whole."""
    busy_timeout_seconds: float = 5.0
    """How long to wait for another process that writes."""
    readers: int = 8
    """Connections kept open for reading beside the writer."""
    vector_scan: VectorScan = "auto"
    """What compares vectors: ``numpy``, or ``sqlite-vec`` first, which is faster; ``auto`` takes it where it is installed
    and this Python can load it. Answers are the same."""

    def __post_init__(self) -> None:
        """Check every value."""
        _check(
            self,
            {
                "path": _path_fault,
                "durability": _one_of("full", "normal"),
                "busy_timeout_seconds": _seconds(0.0),
                "readers": _whole(1, POOL_MOST),
                "vector_scan": _one_of("auto", "numpy", "sqlite-vec"),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConfig:
    """The backend that is a server.

    ``credentials`` serve one tenant and ``credentials_folder`` several; without either, the provider that is given to
    ``Store.open`` has to.
    """

    credentials: Credentials | None = None
    """How to log in, as the one tenant that they name."""
    secret: Path | None = None
    """The mounted folder or JSON file that ``credentials`` came from: read again when a connection is made."""
    credentials_folder: Path | None = None
    """A folder with a Secret for each tenant: a folder as it is mounted, or a JSON file."""
    secret_keys: SecretKeys | None = None
    """How ``secret`` and the Secrets of ``credentials_folder`` name their keys; None for the default names."""
    pool_min: int = 1
    """Connections kept open in each pool."""
    pool_max: int = field(default_factory=default_pool_max)
    """Connections at most in each pool."""
    pools_max: int = 32
    """Tenants that have a pool at once; the one longest unused gives way."""
    pool_timeout_seconds: float = 5.0
    """How long a call waits for a free connection."""
    pool_idle_seconds: float = 600.0
    """How long a connection above ``pool_min`` stays open unused."""
    pool_lifetime_seconds: float = 1800.0
    """How long a connection is used before a fresh one takes its place."""
    connect_timeout_seconds: float = 10.0
    """How long making a connection may take; libpq counts whole seconds, at least 2."""
    statement_timeout_seconds: float | None = None
    """How long one statement may run; without a number the server's own setting holds."""
    pooler: Pooler = "none"
    """Whether a pooler in transaction mode stands before the server; see the page on PgBouncer."""
    pipeline: Pipeline = "auto"
    """Whether tenant entry and statement share a round trip: ``auto`` tries when a pool opens, ``off`` never does."""
    auto_migrate: bool = False
    """Whether opening the store brings the schema up first, with ``migrate_url``."""
    migrate_url: str | None = field(default=None, repr=False)
    """The login that may migrate, as a URI; never used for anything else."""
    migration_timeout_seconds: float = 300.0
    """How long bringing the schema up may take."""
    application_name: str = "llmspell"
    """What the server shows as the name of our sessions."""
    _folder: CredentialsFolder | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        """Check every value, and what they must be to each other."""
        found = _faults(self, _POSTGRES_CHECKS)
        if not found and self.pool_min > self.pool_max:
            found.append(f"pool_min: must be at most pool_max, {self.pool_max}")
        if self.credentials is not None and self.credentials_folder is not None:
            found.append("credentials: only these or credentials_folder may be given")
        if self.secret is not None and self.credentials is None:
            found.append("secret: goes with the credentials that were read from it; use StoreConfig.from_secret")
        if self.auto_migrate is True and self.migrate_url is None:
            found.append("migrate_url: is missing, and auto_migrate is true: the application's login may not migrate")
        if found:
            raise InvalidInput("the configuration is wrong", found)
        if self.credentials_folder is not None:
            object.__setattr__(self, "_folder", CredentialsFolder(self.credentials_folder, self.secret_keys))

    def credentials_of(self, tenant_id: str) -> Credentials:
        """Return a tenant's credentials as they are now, so that a rotation is followed.

        Raises ``PermissionDenied`` for a tenant whose credentials are not to be had, ``InvalidInput`` for a Secret that
        cannot be read.
        """
        if self._folder is not None:
            return self._folder.of(tenant_id)
        if self.credentials is None:
            raise PermissionDenied("the configuration has no credentials")
        if self.credentials.tenant_id != tenant_id:
            raise PermissionDenied("the configuration has the credentials of one tenant only, and this is another")
        if self.secret is None:
            return self.credentials
        found = Credentials.from_secret(self.secret, keys=self.secret_keys)
        if found.tenant_id != tenant_id:
            raise PermissionDenied("the Secret has become another tenant's")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Everything that ``Store.open`` needs; raises ``InvalidInput`` with all faults.

    >>> StoreConfig.in_memory().backend
    'memory'
    """

    backend: str = "sqlite"
    """The backend of every store that names no other: ``memory``, ``sqlite``, ``postgres``, or a registered one."""
    components: Mapping[str, ComponentConfig] = field(default_factory=dict)
    """What differs, by the name of the store."""
    sqlite: SqliteConfig = field(default_factory=SqliteConfig)
    """Where the file is."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    """How much memory to take."""
    postgres: PostgresConfig | None = None
    """Where the server is; needed when a store is on ``postgres``."""
    default_tenant_id: str | None = None
    """The tenant that the command line takes when none is named."""
    tenant_id_pattern: str | None = None
    """What tenants' names must match besides the fixed rule: letters, digits, ``-``, classes and repetitions of them."""

    def __post_init__(self) -> None:
        """Check every value, and what they must be to each other."""
        found = _faults(self, _STORE_CHECKS)
        if not found:
            found += self._together()
        if found:
            raise InvalidInput("the configuration is wrong", found)
        object.__setattr__(self, "components", MappingProxyType(dict(self.components)))
        for said in self._without_effect():
            warnings.warn(said, UserWarning, stacklevel=3)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return _again, (type(self), {**values, "components": dict(self.components)})

    @classmethod
    def in_memory(cls, *, most_bytes: int | None = None) -> Self:
        """Keep everything in this process; ``most_bytes`` bounds each tenant."""
        return cls(backend="memory", memory=MemoryConfig(most_bytes=most_bytes))

    @classmethod
    def on_sqlite(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Keep everything in one file; ``options`` are those of ``SqliteConfig``.

        >>> StoreConfig.on_sqlite("agents.db", durability="normal").sqlite.path.name
        'agents.db'
        """
        return cls(backend="sqlite", sqlite=_made(SqliteConfig, {"path": Path(path), **options}))

    @classmethod
    def from_secret(
        cls,
        source: str | os.PathLike[str] | Mapping[str, str | bytes],
        *,
        keys: SecretKeys | Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """Use the tenant's PostgreSQL that a Secret names, as ``Credentials.from_secret`` reads it.

        A folder or a file is read again for every connection, so that a rotation is followed. ``options`` are those of
        ``PostgresConfig``.

        >>> secret = {"dsn": "postgresql://ada:s3cret@db/app?sslmode=require", "tenant-id": "acme", "port": "5432"}
        >>> config = StoreConfig.from_secret({**secret, "mode": "role", "schema": "llmspell"}, pool_max=5)
        >>> config.postgres.credentials.tenant_id, config.postgres.pool_max
        ('acme', 5)
        """
        credentials = Credentials.from_secret(source, keys=keys)
        if not isinstance(source, Mapping):
            options["secret"] = Path(source)
            options["secret_keys"] = SecretKeys.from_manifest(keys) if isinstance(keys, Mapping) else keys
        return cls.from_credentials(credentials, **options)

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
        **options: Any,
    ) -> Self:
        """Use the PostgreSQL that a URI names, as ``Credentials.from_dsn`` reads it.

        ``options`` are those of ``PostgresConfig``; ``application_name`` and ``connect_timeout`` may stand in the URI.

        >>> StoreConfig.from_dsn("postgresql://ada:s3cret@db/app", tenant_id="acme").backend
        'postgres'
        """
        credentials = Credentials.from_dsn(
            dsn, tenant_id=tenant_id, mode=mode, schema=schema, capability=capability, pooled_dsn=pooled_dsn
        )
        said = uri.parse(dsn).options
        if "application_name" in said:
            options.setdefault("application_name", said["application_name"])
        if "connect_timeout" in said:
            options.setdefault("connect_timeout_seconds", _number(said["connect_timeout"]))
        return cls.from_credentials(credentials, **options)

    @classmethod
    def from_credentials(cls, credentials: Credentials, **options: Any) -> Self:
        """Use the PostgreSQL that these credentials open; ``options`` are those of ``PostgresConfig``."""
        return cls(backend="postgres", postgres=_made(PostgresConfig, {"credentials": credentials, **options}))

    @classmethod
    def from_mapping(cls, tables: Mapping[str, Any]) -> StoreConfig:
        """Read the tables of a configuration file; other names that earlier programs used are understood as well.

        >>> tables = {"storage": {"backend": "sqlite", "components": {"kv": {"backend": "memory"}}}}
        >>> StoreConfig.from_mapping(tables).backend_of("kv")
        'memory'
        """
        from storagelib import config_sources  # noqa: PLC0415 - plain arguments need no reader

        return config_sources.from_mapping(tables)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> StoreConfig:
        """Read a configuration file; nothing else is looked at."""
        from storagelib import config_sources  # noqa: PLC0415

        return config_sources.from_toml(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> StoreConfig:
        """Put a configuration together from everything that says something.

        The first of these that says a thing counts: ``overrides``, variables ``LLMSPELL_STORAGE_…``, ``DATABASE_URL``, the
        file at ``path`` (by default ``~/.config/llmspell/config.toml``, if it is there). When nobody says anything, all is
        in SQLite at ``~/.local/share/llmspell/llmspell.db``. A connection that nothing would use names the backend too.

        ``overrides`` are named as variables are, in small letters (``postgres_pool_max=5``), or are whole parts
        (``sqlite=SqliteConfig(…)``, ``components={"kv": {"backend": "memory"}}``); None says nothing. ``environ`` is
        ``os.environ`` when it is not given.

        >>> StoreConfig.load(environ={"LLMSPELL_STORAGE_BACKEND": "memory"}, path=os.devnull).backend
        'memory'
        """
        from storagelib import config_sources  # noqa: PLC0415

        return config_sources.load(path, os.environ if environ is None else environ, overrides)

    def backend_of(self, store: str) -> str:
        """Return the name of the backend that a store is on.

        >>> StoreConfig.in_memory().backend_of("kv")
        'memory'
        """
        component = self.components.get(_store(store))
        return self.backend if component is None or component.backend is None else component.backend

    def options_of(self, store: str) -> Mapping[str, object]:
        """Return what only this store understands."""
        component = self.components.get(_store(store))
        return MappingProxyType({}) if component is None else component.options

    def check_tenant(self, tenant_id: str) -> str:
        """Return a tenant id that this configuration allows; raises ``InvalidInput`` for another.

        >>> StoreConfig(tenant_id_pattern="team-[a-z]+").check_tenant("team-red")
        'team-red'
        """
        check_tenant_id(tenant_id)
        if self.tenant_id_pattern is not None and not re.fullmatch(self.tenant_id_pattern, tenant_id):
            raise InvalidInput("the tenant cannot be used", ["tenant_id: does not match tenant_id_pattern"])
        return tenant_id

    def _together(self) -> list[str]:
        found = self._option_faults()
        if self.postgres is None:
            using = [store for store in STORE_NAMES if self.backend_of(store) == "postgres"]
            if using:
                found.append(f"postgres: is missing, and these stores are on it: {', '.join(using)}")
        if self.tenant_id_pattern is not None:
            named = {"default_tenant_id": self.default_tenant_id}
            if self.postgres is not None and self.postgres.credentials is not None:
                named["postgres.credentials"] = self.postgres.credentials.tenant_id
            found += [
                f"{name}: the tenant does not match tenant_id_pattern"
                for name, tenant in named.items()
                if tenant is not None and not re.fullmatch(self.tenant_id_pattern, tenant)
            ]
        return found

    def _option_faults(self) -> list[str]:
        chosen = self._options()
        if not chosen:
            return []
        from storagelib.config_keys import option_fault  # noqa: PLC0415 - most configurations have no options

        found = ((f"components.{store}.{name}", option_fault(store, name, value)) for store, name, value in chosen)
        return [f"{name}: {fault}" for name, fault in found if fault is not None]

    def _without_effect(self) -> list[str]:
        chosen = self._options()
        if not chosen:
            return []
        from storagelib.config_keys import without_effect  # noqa: PLC0415

        found = (
            (f"components.{store}.{name}", without_effect(store, name, self.backend_of(store)))
            for store, name, _ in chosen
        )
        return [f"{name} has no effect: {reason}" for name, reason in found if reason is not None]

    def _options(self) -> list[tuple[str, str, object]]:
        """Return the options of stores on our own backends; what a registered one understands, only it can say."""
        return [
            (store, name, value)
            for store, each in self.components.items()
            if self.backend_of(store) in BUILT_IN
            for name, value in each.options.items()
        ]


def _again(kind: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Make a part once more, where a copy or another process asks for it: a table that is read only has no copy."""
    return kind(**values)


def _store(name: str) -> str:
    if name not in STORE_NAMES:
        raise InvalidInput("the argument cannot be used", [f"store: must be one of {', '.join(STORE_NAMES)}"])
    return name


def _made(made: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Make a part from keywords; one that it does not have is told with the nearest that it has."""
    known = [entry.name for entry in fields(made)]  # type: ignore[arg-type]
    unknown = [f"{name}: there is no such option{nearest(name, known)}" for name in values if name not in known]
    try:
        part = made(**{name: value for name, value in values.items() if name in known})
    except InvalidInput as error:
        raise InvalidInput(error.what, [*unknown, *error.faults]) from None
    if unknown:
        raise InvalidInput("the configuration is wrong", unknown)
    return part


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return the end of a sentence that names what was probably meant."""
    # Not at the top: a right configuration needs none of it.
    from difflib import get_close_matches  # noqa: PLC0415

    found = get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(known)}"


Check = Callable[[object], str | None]


def _faults(part: object, checks: Mapping[str, Check]) -> list[str]:
    found = ((name, check(getattr(part, name))) for name, check in checks.items())
    return [f"{name}: {fault}" for name, fault in found if fault is not None]


def _check(part: object, checks: Mapping[str, Check]) -> None:
    found = _faults(part, checks)
    if found:
        raise InvalidInput("the configuration is wrong", found)


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _one_of(*choices: str) -> Check:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _whole(least: int, most: int) -> Check:
    return lambda value: (
        None if type(value) is int and least <= value <= most else f"must be a whole number from {least} to {most}"
    )


def _seconds(least: float) -> Check:
    return lambda value: (
        None
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= _SECONDS_MOST
        else f"must be seconds, from {least:g} to {_SECONDS_MOST:g}"
    )


def _truth_fault(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _path_fault(value: object) -> str | None:
    if not isinstance(value, Path):
        return "must be a Path"
    if uri.is_shown_in(value):
        return "is a connection URI, not a path"
    return "holds a NUL character" if "\0" in str(value) else None


def _backend_fault(value: object) -> str | None:
    if isinstance(value, str) and value.lower() in OLD_BACKENDS:
        return f"{value.lower()} is no backend any more: use sqlite; bring the data by export"
    if isinstance(value, str) and _BACKEND.fullmatch(value):
        return None
    return "must be memory, sqlite, postgres or the name of a registered backend"


def _options_fault(value: object) -> str | None:
    valid = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    return None if valid else "must be a table"


def _components_fault(value: object) -> str | None:
    if not isinstance(value, Mapping) or not all(isinstance(each, ComponentConfig) for each in value.values()):
        return "must be a ComponentConfig by store"
    unknown = [name for name in value if name not in STORE_NAMES]
    return f"{unknown[0]} is no store{nearest(str(unknown[0]), STORE_NAMES)}" if unknown else None


def _instance(kind: type) -> Check:
    return lambda value: None if isinstance(value, kind) else f"must be a {kind.__name__}"


def _tenant_fault(value: object) -> str | None:
    valid = isinstance(value, str) and TENANT_PATTERN.fullmatch(value)
    return None if valid else "is not a tenant id: 3 to 255 of a-z, 0-9 and -"


def _pattern_fault(value: object) -> str | None:
    """Refuse what could take long on a tenant id of 255 characters, or not compile."""
    if not isinstance(value, str) or not value:
        return "must be a pattern"
    if len(value) > _PATTERN_MOST:
        return f"is longer than {_PATTERN_MOST} characters"
    variable = _variable_repetitions(value.removeprefix("^").removesuffix("$"))
    if variable is None:
        return "may hold a-z, 0-9, -, classes such as [a-z0-9-], and the repetitions ? * + {n} {n,m}; no groups"
    if variable > _REPETITIONS_MOST:
        return f"holds more than {_REPETITIONS_MOST} repetitions of no fixed length"
    try:
        re.compile(value)
    except (re.error, OverflowError):
        return "is no pattern"
    return None


def _variable_repetitions(pattern: str) -> int | None:
    """Count the repetitions of no fixed length, each of which may cost a pass over the rest; None for other syntax."""
    position = count = 0
    while position < len(pattern):
        single = pattern[position : position + 1]
        found = _CLASS.match(pattern, position)
        if found is None and not (single.isascii() and ((single.isalnum() and not single.isupper()) or single == "-")):
            return None
        position = position + 1 if found is None else found.end()
        repeated = _REPETITION.match(pattern, position)
        if repeated is not None:
            position = repeated.end()
            count += repeated[0][0] != "{" or repeated[1] is not None
    return count


def _uri_fault(value: object) -> str | None:
    try:
        uri.parse(value if isinstance(value, str) else "")
    except ValueError as error:
        return str(error)
    return None


def _label_fault(value: object) -> str | None:
    valid = isinstance(value, str) and value.isascii() and value.isprintable() and 1 <= len(value) <= _NAME_BYTES_MOST
    return None if valid else f"must be 1 to {_NAME_BYTES_MOST} printable ASCII characters"


def _number(text: str) -> float | str:
    """Return the number that a text writes, or the text for a check to refuse."""
    try:
        return float(text) if text.isascii() else text
    except ValueError:
        return text


_POSTGRES_CHECKS: Final[Mapping[str, Check]] = {
    "credentials": _optional(_instance(Credentials)),
    "secret": _optional(_path_fault),
    "credentials_folder": _optional(_path_fault),
    "secret_keys": _optional(_instance(SecretKeys)),
    "pool_min": _whole(0, POOL_MOST),
    "pool_max": _whole(1, POOL_MOST),
    "pools_max": _whole(1, POOL_MOST),
    "pool_timeout_seconds": _seconds(0.001),
    "pool_idle_seconds": _seconds(1.0),
    "pool_lifetime_seconds": _seconds(1.0),
    "connect_timeout_seconds": _seconds(0.001),
    "statement_timeout_seconds": _optional(_seconds(0.001)),
    "pooler": _one_of("none", "transaction"),
    "pipeline": _one_of("auto", "off"),
    "auto_migrate": _truth_fault,
    "migrate_url": _optional(_uri_fault),
    "migration_timeout_seconds": _seconds(0.001),
    "application_name": _label_fault,
}
_STORE_CHECKS: Final[Mapping[str, Check]] = {
    "backend": _backend_fault,
    "components": _components_fault,
    "sqlite": _instance(SqliteConfig),
    "memory": _instance(MemoryConfig),
    "postgres": _optional(_instance(PostgresConfig)),
    "default_tenant_id": _optional(_tenant_fault),
    "tenant_id_pattern": _optional(_pattern_fault),
}
