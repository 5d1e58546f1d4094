"""How a configuration is put together from arguments, the environment and a file.

Each source is read into a *layer*: right key → what was said, and by which name. Layers are laid over each other, and
one ``StoreConfig`` is made of what shows. Faults carry the name that the user wrote, never what stands under it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from storagelib import uri
from storagelib.config import (
    OLD_BACKENDS,
    STORE_NAMES,
    ComponentConfig,
    MemoryConfig,
    PostgresConfig,
    SqliteConfig,
    StoreConfig,
    nearest,
)
from storagelib.config_keys import (
    BACKEND_WORDS,
    ENVIRONMENT_PREFIX,
    FOREIGN_TABLES,
    FOREIGN_VARIABLES,
    KEYS,
    Key,
    Target,
    environment_name,
    is_free,
    known_paths,
    resolve,
)
from storagelib.credentials import Credentials, parameter_faults, read_dsn, read_pooled_dsn
from storagelib.errors import InvalidInput

__all__ = ["DEFAULT_FILE", "from_mapping", "from_toml", "load"]

DEFAULT_FILE: Final = "~/.config/llmspell/config.toml"
_WRONG: Final = "the configuration is wrong"
_FILE_BYTES_MOST: Final = 1 << 20
_PATH_PARTS_MOST: Final = 6
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "on": True}
_TRUTHS_AND_LIES: Final = _TRUTHS | {"false": False, "0": False, "no": False, "off": False}
_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")
_TEXT_MOST: Final = 65_536

_SOURCES: Final = ("url", "secret", "credentials_folder")
_LOGIN: Final = ("host", "port", "dbname", "user", "password", "pooled_url", "pooler_host", "pooler_port")
_PARTS: Final = (*_LOGIN, "sslmode", "ca_file", "sslcert", "sslkey", "tenant_id", "mode", "schema", "capability")
_NEEDED: Final = ("host", "dbname", "user", "password")
_SECTIONS: Final = {"sqlite": SqliteConfig, "memory": MemoryConfig, "postgres": PostgresConfig}
_SHARED_VARIABLE: Final = "DATABASE_URL"
_FALLBACK_TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class Said:
    """A value, and the name under which it was given."""

    value: Any = field(repr=False)
    label: str
    layer: int = 0


Layer = dict[str, Said]


def from_mapping(tables: Mapping[str, Any]) -> StoreConfig:
    """Make a configuration of the tables of a file."""
    faults: list[str] = []
    layer = _layer(_leaves(tables, (), faults), faults)
    return _built([layer], {}, faults)


def from_toml(path: str | os.PathLike[str]) -> StoreConfig:
    """Make a configuration of a file."""
    return from_mapping(_read(Path(path)))


def load(path: str | os.PathLike[str] | None, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> StoreConfig:
    """Make a configuration of everything that says something: argument, variable, ``DATABASE_URL``, file, default."""
    faults: list[str] = []
    sections = {name: value for name, value in overrides.items() if isinstance(value, _SECTIONS.get(name, ()))}
    given = {name: value for name, value in overrides.items() if name not in sections and value is not None}
    layers = [
        _layer(_arguments(given, faults), faults),
        _layer(_variables(environ, faults), faults, text=True),
        {},
        {},
    ]
    file = Path(DEFAULT_FILE if path is None else path).expanduser()
    if path is not None or file.is_file():
        try:
            layers[3] = _layer(_leaves(_read(file), (), faults), faults)
        except InvalidInput as error:
            faults += error.faults
    layers[2] = _database_url(environ.get(_SHARED_VARIABLE), layers, sections, faults)
    return _built(layers, sections, faults)


# --- one source --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most programs are configured by arguments or variables

    what = "the configuration cannot be read"
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MOST + 1)
    except OSError as error:
        raise InvalidInput(what, [f"{path}: {error.strerror}"]) from error
    if len(content) > _FILE_BYTES_MOST:
        raise InvalidInput(what, [f"{path}: is longer than {_FILE_BYTES_MOST} bytes"])
    try:
        return tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        # The parser may quote the line, and with it a password; where it stopped is enough.
        place = re.search(r"at line \d+, column \d+", str(error))
        raise InvalidInput(what, [f"{path}: is not TOML{f' ({place[0]})' if place else ''}"]) from None


def _leaves(
    table: Mapping[Any, Any], path: tuple[str, ...], faults: list[str]
) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Go through the values of nested tables: label, path, value. An empty table is a value, so that it is looked at."""
    for name, value in table.items():
        here = (*path, name) if isinstance(name, str) else path
        if not isinstance(name, str):
            faults.append(f"{'.'.join(path) or 'the configuration'}: has a key that is no text")
        elif not path and name in FOREIGN_TABLES:
            continue
        elif here == ("storage", "backend") and isinstance(value, Mapping) and len(value) == 1:
            # The backend as a tagged value: its name is the tag, its settings the content.
            ((word, settings),) = value.items()
            name_of_backend = BACKEND_WORDS.get(str(word).lower(), str(word).lower())
            yield f"storage.backend.{word}", here, name_of_backend
            if isinstance(settings, Mapping) and name_of_backend not in OLD_BACKENDS:
                yield from _leaves(settings, ("storage", name_of_backend), faults)
        elif isinstance(value, Mapping) and value and len(here) < _PATH_PARTS_MOST and not _holds_options(path):
            yield from _leaves(value, here, faults)
        else:
            yield ".".join(here), here, value


def _holds_options(path: tuple[str, ...]) -> bool:
    """Tell whether a path is that of a store, whose options may be tables themselves."""
    return path[:2] == ("storage", "components") and len(path) == 3  # noqa: PLR2004 - one part more than that


def _variables(environ: Mapping[str, str], faults: list[str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    paths = _names()
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or any(_is_foreign(name, foreign) for foreign in FOREIGN_VARIABLES):
            continue
        if name not in paths:
            faults.append(f"{name}: there is no such variable{_meant(name, paths)}")
        elif environ[name]:
            yield name, paths[name], environ[name]


def _is_foreign(name: str, foreign: str) -> bool:
    return name.startswith(foreign) if foreign.endswith("_") else name == foreign


def _arguments(given: Mapping[str, Any], faults: list[str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    paths = {name.removeprefix(ENVIRONMENT_PREFIX).lower(): path for name, path in _names().items()}
    for name, value in given.items():
        if name == "components" and isinstance(value, Mapping):
            tables = {store: _table(each) for store, each in value.items()}
            yield from _leaves(tables, ("storage", name), faults)
        elif isinstance(value, Mapping):
            yield from _leaves(value, ("storage", name), faults)
        elif name in _SECTIONS:
            faults.append(f"{name}: must be a table or a {_SECTIONS[name].__name__}")
        elif name in paths:
            yield name, paths[name], value
        else:
            faults.append(f"{name}: there is no such argument{_meant(name, paths)}")


def _table(component: object) -> object:
    if not isinstance(component, ComponentConfig):
        return component
    return dict(component.options) | ({} if component.backend is None else {"backend": component.backend})


def _names() -> dict[str, tuple[str, ...]]:
    """Return the path of each variable; a right key's name wins over an older one's."""
    return {environment_name(path): path for path in reversed(known_paths()) if path[0] == "storage"}


def _meant(name: str, known: Iterable[str]) -> str:
    return nearest(name, list(known)).partition("; there are ")[0]


def _database_url(value: str | None, layers: Sequence[Layer], sections: Mapping[str, Any], faults: list[str]) -> Layer:
    """Read what many programs share: only a PostgreSQL is meant for us, unless nothing else says where to store."""
    if not value:
        return {}
    if value.startswith(("postgresql://", "postgres://")):
        return {"storage.postgres.url": Said(value, _SHARED_VARIABLE)}
    named = any("storage.backend" in layer or "storage.postgres.url" in layer for layer in layers)
    if not named and not sections:
        faults.append(
            "DATABASE_URL: is not a connection URI (postgresql://…); LLMSPELL_STORAGE_BACKEND can say another"
        )
    return {}


def _layer(leaves: Iterable[tuple[str, tuple[str, ...], Any]], faults: list[str], *, text: bool = False) -> Layer:
    """Put every value under its right key; two names of one key must agree, and one store's name beats a group's."""
    found: dict[str, list[tuple[int, Said]]] = {}
    for label, path, value in leaves:
        targets = resolve(path)
        if isinstance(value, Mapping) and not value and _is_table(path):
            continue
        if not targets or (isinstance(value, Mapping) and not is_free(targets[0])):
            faults.append(f"{label}: {_unknown(path, value)}")
            continue
        try:
            read = _value(targets[0], value, text=text)
        except ValueError as error:
            faults.append(f"{label}: {error}")
            continue
        for target in targets:
            found.setdefault(target.path, []).append((target.rank, Said(read, label)))
    return {path: _agreed(path, candidates, faults) for path, candidates in found.items()}


def _agreed(path: str, candidates: list[tuple[int, Said]], faults: list[str]) -> Said:
    best = max(rank for rank, _ in candidates)
    names = [said for rank, said in candidates if rank == best]
    first = names[0]
    if any(said.value != first.value or type(said.value) is not type(first.value) for said in names):
        faults.append(f"{', '.join(said.label for said in names)}: disagree; keep {path} alone")
    return first


def _is_table(path: tuple[str, ...]) -> bool:
    return any(known[: len(path)] == path != known for known in known_paths())


def _unknown(path: tuple[str, ...], value: object) -> str:
    old = [part for part in path[1:2] if part.lower() in OLD_BACKENDS and path[0] == "storage"]
    if old:
        return f"{old[0].lower()} is no backend any more: use sqlite; bring the data by export"
    if _is_table(path):
        return "must be a table"
    if resolve(path):
        return "must be a value, not a table"
    known = [".".join(each) for each in known_paths()]
    if isinstance(value, Mapping):
        return f"there is no such table{_meant('.'.join(path), {each.rpartition('.')[0]: None for each in known})}"
    return f"there is no such key{_meant('.'.join(path), known)}"


def _value(target: Target, value: object, *, text: bool) -> Any:
    """Return a value as its key wants it; raises ``ValueError`` with a sentence that does not repeat it."""
    key = target.key
    if isinstance(value, str):
        if len(value) > _TEXT_MOST:
            raise ValueError(f"is longer than {_TEXT_MOST} characters")
        if key.kind in ("text", "backend", "path"):
            return _text(key, value)
        if text:
            value = _parsed(key, value)
    if is_free(target):
        return value
    if key.kind == "path" and isinstance(value, os.PathLike):
        return Path(value)
    if key.kind == "truth" and isinstance(value, bool):
        return value
    if key.kind == "seconds" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) * (target.factor or 1.0)
    if key.kind in ("whole", "number of bytes", "days") and type(value) is int:
        return value
    raise ValueError(f"must be {_WANTED[key.kind]}, not {_KINDS.get(type(value), type(value).__name__)}")


_WANTED: Final = {
    "text": "text",
    "path": "text",
    "backend": "text",
    "truth": "true or false",
    "seconds": "a number",
    "whole": "a whole number",
    "number of bytes": "a whole number",
    "days": "a whole number",
}
_KINDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def _text(key: Key, value: str) -> Any:
    if key.kind == "backend":
        return BACKEND_WORDS.get(value.lower(), value)
    if key.kind == "path":
        try:
            return Path(value).expanduser()
        except RuntimeError:
            raise ValueError("names a home folder that nobody knows") from None
    return value


def _parsed(key: Key, value: str) -> object:
    if key.kind == "truth":
        return _TRUTHS_AND_LIES.get(value.lower(), value)
    pattern, number = (_DECIMAL, float) if key.kind == "seconds" else (_WHOLE, int)
    return number(value) if pattern.fullmatch(value) else value


# --- all sources -------------------------------------------------------------------------------------------------------


def _built(layers: Sequence[Layer], sections: Mapping[str, Any], faults: list[str]) -> StoreConfig:
    """Lay the layers over each other and make a configuration; raises ``InvalidInput`` with every fault."""
    said: Layer = {}
    for index, layer in enumerate(layers):
        for path, each in layer.items():
            if path not in said and path.split(".")[1] not in sections:
                said[path] = Said(each.value, each.label, index)
    isolation = said.pop("storage.enforce_tenant_isolation", None)
    if isolation is not None and isolation.value is False:
        faults.append(
            f"{isolation.label}: cannot be false: any statement could then reach every tenant's rows, and no setting that a "
            "session can write may decide that; leave the key out"
        )
    components = _components(said, faults)
    parts = {
        "sqlite": _section(SqliteConfig, "sqlite", said, {}, faults),
        "memory": _section(MemoryConfig, "memory", said, {}, faults),
        "postgres": _postgres(said, components, sections, faults),
        **sections,
    }
    top = {name: said[f"storage.{name}"] for name in _TOP if f"storage.{name}" in said}
    values = {name: each.value for name, each in top.items()}
    try:
        config = StoreConfig(components=components, **parts, **values)
    except InvalidInput as error:
        labels = {name: each.label for name, each in top.items()}
        labels |= {path.removeprefix("storage."): each.label for path, each in said.items()}
        # What an earlier fault left out is not missing.
        found = [each for each in error.faults if not (faults and each.startswith("postgres: is missing"))]
        raise InvalidInput(_WRONG, dict.fromkeys([*faults, *_relabelled(found, labels, "storage.")])) from None
    if faults:
        raise InvalidInput(_WRONG, dict.fromkeys(faults))
    return config


_TOP: Final = ("backend", "default_tenant_id", "tenant_id_pattern")


def _relabelled(faults: Iterable[str], labels: Mapping[str, str], prefix: str) -> list[str]:
    """Replace the names of fields by those that the user wrote."""
    split = [fault.partition(": ") for fault in faults]
    return [f"{labels.get(name, prefix + name)}: {rest}" for name, _, rest in split]


def _components(said: Layer, faults: list[str]) -> dict[str, ComponentConfig]:
    options: dict[str, dict[str, Said]] = {}
    for path, each in said.items():
        match path.split("."):
            case ("storage", "components", store, name):
                options.setdefault(store, {})[name] = each
    made = {}
    for store in STORE_NAMES:
        if store in options:
            values = {name: each.value for name, each in options[store].items()}
            try:
                made[store] = ComponentConfig(backend=values.pop("backend", None), options=values)
            except InvalidInput as error:
                labels = {name: each.label for name, each in options[store].items()}
                faults += _relabelled(error.faults, labels, f"storage.components.{store}.")
    return made


def _section(kind: type, section: str, said: Layer, more: Mapping[str, Any], faults: list[str]) -> Any:
    """Make one part of the configuration from its settings; None, and faults, when they are wrong."""
    prefix = f"storage.{section}."
    here = {path.removeprefix(prefix): each for path, each in said.items() if path.startswith(prefix)}
    known = {each.name for each in fields(kind)}
    settings = {name: each for name, each in here.items() if name in known - set(more)}
    try:
        return kind(**{name: each.value for name, each in settings.items()}, **more)
    except InvalidInput as error:
        faults += _relabelled(error.faults, {name: each.label for name, each in settings.items()}, prefix)
        return None if section == "postgres" else kind()


def _postgres(
    said: Layer, components: Mapping[str, ComponentConfig], sections: Mapping[str, Any], faults: list[str]
) -> PostgresConfig | None:
    """Find who may log in where, and let an address that nothing would use name the backend."""
    on_postgres = any(each.backend == "postgres" for each in components.values())
    if "postgres" in sections:
        given: PostgresConfig = sections["postgres"]
        names_login = given.credentials is not None or given.credentials_folder is not None
        backend = said.get("storage.backend")
        if names_login and not on_postgres and (backend is None or backend.layer > 0):
            said["storage.backend"] = Said("postgres", "postgres")
        return given
    prefix = "storage.postgres."
    here = {path.removeprefix(prefix): each for path, each in said.items() if path.startswith(prefix)}
    sources = [here[name] for name in _SOURCES if name in here] or [
        here[name] for name in ("host", "dbname", "user") if name in here
    ]
    backend = said.get("storage.backend")
    if sources and not on_postgres:
        layer = min(each.layer for each in sources)
        file = Said(None, "sqlite") if "sqlite" in sections else said.get("storage.sqlite.path")
        if (backend is None or backend.layer > layer) and (file is None or file.layer >= layer):
            said["storage.backend"] = backend = Said("postgres", sources[0].label, layer)
    used = on_postgres or (backend is not None and backend.value == "postgres")
    if not used and sources and sources[0].label == _SHARED_VARIABLE:
        sources = []  # It is another program's.
    if not sources:
        _section(PostgresConfig, "postgres", said, {}, faults)
        if used:
            faults.append("storage.postgres.url: is missing, and backend is postgres; secret or host can stand for it")
        return None
    found = _logins(here, said, faults)
    made: PostgresConfig | None = _section(PostgresConfig, "postgres", said, found, faults)
    return made


def _logins(here: Mapping[str, Said], said: Layer, faults: list[str]) -> dict[str, Any]:
    """Return the fields of ``PostgresConfig`` that say who may log in."""
    layers = {name: here[name].layer for name in _SOURCES if name in here}
    top = min(layers.values(), default=None)
    chosen = [name for name, layer in layers.items() if layer == top]
    if len(chosen) > 1:
        faults.append(f"{', '.join(here[name].label for name in chosen)}: say the same thing; keep one of them")
    source = chosen[0] if chosen else None
    parts = {name: here[name] for name in _PARTS if name in here}
    empty: dict[str, Any] = {"credentials": None, "credentials_folder": None, "secret": None}
    if source is None or source == "url":
        return {**empty, "credentials": _from_parts(here["url"] if source else None, parts, said, faults)}
    beside = [each.label for each in parts.values() if top is not None and each.layer <= top]
    if beside:
        faults.append(f"{', '.join(beside)}: {here[source].label} says this; leave one of them out")
    place = here[source].value
    if source == "credentials_folder":
        return {**empty, "credentials_folder": place}
    try:
        return {**empty, "credentials": Credentials.from_secret(place), "secret": place}
    except InvalidInput as error:
        faults += [f"{here[source].label}: {fault}" for fault in error.faults]
        return empty


def _from_parts(url: Said | None, parts: dict[str, Said], said: Layer, faults: list[str]) -> Credentials | None:
    """Make credentials of a URI and of what is said beside it; what a higher layer says counts more than the URI."""
    before = len(faults)
    default_tenant = said.get("storage.default_tenant_id")
    if url is not None:
        parts = {name: each for name, each in parts.items() if each.layer <= url.layer or name not in _LOGIN}
    names = {name: f"storage.postgres.{name}" for name in _PARTS} | {name: each.label for name, each in parts.items()}
    same = {name: str(each.value) for name, each in parts.items() if url is not None and each.layer == url.layer}
    values: dict[str, str] = {}
    if url is not None:
        values = {name: same[name] for name in (*_NEEDED, "port", "sslmode") if name in same} | {"dsn": url.value}
        read_dsn(values, {**names, "dsn": url.label}, faults)
        faults[before:] = [
            f"{fault}; keep {url.label} alone" if " differs from " in fault else fault for fault in faults[before:]
        ]
        if len(faults) == before:
            _read_parameters(url, parts, said, values, faults)
    pooled = parts.pop("pooled_url", None)
    values |= {name: str(each.value) for name, each in parts.items() if url is None or each.layer <= url.layer}
    values = {name: str(each.value) for name, each in parts.items()} | values
    if pooled is not None:
        values["pooled_dsn"] = pooled.value
        read_pooled_dsn(values, {**names, "pooled_dsn": pooled.label}, faults)
    if len(faults) == before:
        missing = [name for name in _NEEDED if name not in values]
        faults += [f"{url.label}: names no {name}" if url else f"{names[name]}: is missing" for name in missing]
    if len(faults) > before:
        return None
    tenant = default_tenant.value if default_tenant is not None else _FALLBACK_TENANT
    given: dict[str, Any] = {"tenant_id": tenant, **values}
    given |= {name: Path(given[name]) for name in ("ca_file", "sslcert", "sslkey") if name in given}
    given |= {name: _port(given[name]) for name in ("port", "pooler_port") if name in given}
    try:
        return Credentials(**given)
    except InvalidInput as error:
        if url is not None:
            names |= {name: url.label for name in (*_NEEDED, "port", "sslmode") if name not in parts}
        if default_tenant is not None and "tenant_id" not in parts:
            names["tenant_id"] = default_tenant.label
        faults += _relabelled(error.faults, names, "storage.postgres.")
        return None


def _port(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0  # noqa: PLR2004 - 65535


def _read_parameters(
    url: Said, parts: Mapping[str, Said], said: Layer, values: dict[str, str], faults: list[str]
) -> None:
    """Take what stands behind the URI's question mark, unless it is said elsewhere at least as loudly."""
    address = uri.parse(url.value)
    faults += parameter_faults(address, url.label)
    for parameter, name in (("sslrootcert", "ca_file"), ("sslcert", "sslcert"), ("sslkey", "sslkey")):
        if parameter in address.options:
            if (
                name in parts
                and parts[name].layer == url.layer
                and str(parts[name].value) != address.options[parameter]
            ):
                faults.append(f"{url.label}: differs from {parts[name].label}; keep {url.label} alone")
            values[name] = address.options[parameter]
    for parameter, name in (("application_name", "application_name"), ("connect_timeout", "connect_timeout_seconds")):
        path = f"storage.postgres.{name}"
        if parameter in address.options and (path not in said or said[path].layer > url.layer):
            read = address.options[parameter]
            value = _parsed(KEYS[path], read) if KEYS[path].kind == "seconds" else read
            said[path] = Said(value, url.label, url.layer)
