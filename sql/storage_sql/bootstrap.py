"""Prepare a server for one installation: roles, database, extensions, schema. Needs a superuser.

Everything after it runs without one. `bootstrap` is a procedure (see `effects`); `script` is the
same work as text for psql, for a database administrator who wants to read it first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from storage_sql.effects import Connect, Effect, Query, Rows
from storage_sql.renderer import ident, literal, render_file
from storage_sql.requirements import REQUIRED_EXTENSIONS, server_fault, vector_fault
from storage_sql.roles import RoleNames

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

# btree_gist makes the one-current-version constraint of the graph; a trigger keeps it elsewhere.
OPTIONAL_EXTENSIONS = ("btree_gist", "vchord", "pg_stat_statements")

FIND_DATABASE = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s"
SERVER_FACTS = """SELECT pg_catalog.current_setting('server_version_num')::int,
    (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"""
SCHEMA_FACTS = """SELECT pg_catalog.obj_description(n.oid, 'pg_namespace'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid)
  FROM pg_catalog.pg_namespace AS n WHERE n.nspname = %s"""
EXTENSION_FACTS = "SELECT name, default_version, installed_version FROM pg_catalog.pg_available_extensions"


class BootstrapError(Exception):
    """The server can not be prepared; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What is asked for; `installation` is used only when the schema is new."""

    installation: str
    database: str
    schema: str = "llmspell"
    # A SCRAM verifier is better than a password: nothing readable reaches a log. None leaves it as it is.
    operator_password: str | None = field(default=None, repr=False)
    temp_file_limit: str = "10GB"


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What was made or found."""

    names: RoleNames
    database: str
    schema: str
    extensions: tuple[str, ...]
    created: bool


def bootstrap(asked: Bootstrap) -> Generator[Effect, Rows, Bootstrapped]:
    """Prepare server and database; finds its own earlier work and never touches anybody else's."""
    rows = yield Query(SERVER_FACTS)
    _check_server(*rows[0])
    if not (yield Query(FIND_DATABASE, (asked.database,))):
        yield Query(f"CREATE DATABASE {ident(asked.database)}")
    yield Connect(asked.database)
    found = yield Query(SCHEMA_FACTS, (asked.schema,))
    known = _installation_of(asked.schema, found)
    names = known or RoleNames(asked.installation)
    available = yield Query(EXTENSION_FACTS)
    extensions = _extensions(available)
    yield Query(server_script(names, asked.operator_password))
    yield Query(database_script(names, asked, extensions))
    return Bootstrapped(names, asked.database, asked.schema, extensions, known is None)


def server_script(names: RoleNames, operator_password: str | None = None) -> str:
    """Return the statements for the whole server: roles and what they are to each other."""
    roles: list[Any] = [
        _role(names, names.owner, "owner", createrole=True),
        _role(names, names.maintenance, "maintenance"),
        _role(names, names.operator, "operator", login=True),
        *(_role(names, shard, "shard", createrole=True) for shard in names.shards),
    ]
    return render_file(
        "templates/bootstrap_server.sql",
        roles=roles,
        owner=ident(names.owner),
        maintenance=ident(names.maintenance),
        operator=ident(names.operator),
        shards=[ident(shard) for shard in names.shards],
        has_password=operator_password is not None,
        password=literal(operator_password),
    )


def database_script(names: RoleNames, asked: Bootstrap, extensions: Iterable[str] = REQUIRED_EXTENSIONS) -> str:
    """Return the statements for inside the database."""
    return render_file(
        "templates/bootstrap_database.sql",
        database=ident(asked.database),
        schema=ident(asked.schema),
        schema_comment=literal(names.schema_comment),
        owner=ident(names.owner),
        operator=ident(names.operator),
        temp_file_limit=literal(asked.temp_file_limit),
        extensions=[ident(extension) for extension in extensions],
    )


def script(asked: Bootstrap) -> str:
    """Return all of it as a psql script."""
    names = RoleNames(asked.installation)
    create = f"CREATE DATABASE {ident(asked.database)}"
    return "\n".join(
        (
            r"\set ON_ERROR_STOP on",
            f"SELECT {literal(create)} WHERE NOT EXISTS",
            f"    (SELECT FROM pg_catalog.pg_database WHERE datname = {literal(asked.database)}) \\gexec",
            server_script(names, asked.operator_password),
            rf"\connect {ident(asked.database)}",
            database_script(names, asked),
        )
    )


def _role(
    names: RoleNames, name: str, purpose: str, *, login: bool = False, createrole: bool = False
) -> dict[str, object]:
    return {
        "name": ident(name),
        "text": literal(name),
        "comment": literal(names.role_comment(purpose)),
        "login": login,
        "createrole": createrole,
    }


def _check_server(version: int, superuser: bool) -> None:
    if not superuser:
        message = "bootstrap needs a superuser: `vector` is not a trusted extension"
        raise BootstrapError(message)
    fault = server_fault(version)
    if fault is not None:
        raise BootstrapError(fault)


def _installation_of(schema: str, found: Rows) -> RoleNames | None:
    if not found:
        return None
    comment, relations = found[0]
    known = RoleNames.from_schema_comment(comment)
    if known is None and relations:
        message = f"schema {schema!r} holds {relations} objects that are not ours; choose another schema"
        raise BootstrapError(message)
    return known


def _extensions(available: Rows) -> tuple[str, ...]:
    versions = {name: installed or default for name, default, installed in available}
    missing = [name for name in REQUIRED_EXTENSIONS if name not in versions]
    if missing:
        message = f"install the extensions {', '.join(missing)} on the server first"
        raise BootstrapError(message)
    fault = vector_fault(versions["vector"])
    if fault is not None:
        raise BootstrapError(fault)
    return (*REQUIRED_EXTENSIONS, *(name for name in OPTIONAL_EXTENSIONS if name in versions))
