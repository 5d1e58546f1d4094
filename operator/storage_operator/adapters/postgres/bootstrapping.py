"""Prepare a database as a superuser: the one step that an operator's own role cannot do.

The password of the operator's login is hashed here, so that neither SQL nor a server's log ever holds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import psycopg.sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.credentials import PASSWORD_BYTES, encrypt
from storage_operator.adapters.postgres.faults import DatabaseFault, translate
from storage_operator.adapters.postgres.migrator import Driver
from storage_operator.adapters.postgres.server import connect
from storage_sql.bootstrap import FIND_DATABASE, SCHEMA_FACTS, Bootstrap, Bootstrapped, bootstrap, script
from storage_sql.effects import drive_async
from storage_sql.roles import INSTALLATION_ALPHABET, INSTALLATION_LENGTH, RoleNames

_HAS_PASSWORD = "SELECT rolpassword IS NOT NULL FROM pg_catalog.pg_authid WHERE rolname = %s"  # noqa: S105 - a query
_DEFAULT_PORT = 5432


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. Without a password one is drawn for a login that has none, or when ``reset`` is set."""

    database: str
    schema: str
    password: str | None = field(default=None, repr=False)
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was made or found; ``password`` is None when the login keeps one that is not known here."""

    bootstrapped: Bootstrapped
    conninfo: str = field(repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def dsn(self) -> str:
        """The operator's connection string, with the password when it is known."""
        parameters = conninfo_to_dict(self.conninfo)
        given = {"user": self.bootstrapped.names.operator, "dbname": self.bootstrapped.database}
        secret = {} if self.password is None else {"password": self.password}
        return uri({**{name: value for name, value in parameters.items() if name != "password"}, **given, **secret})


async def prepare(conninfo: str, request: Request) -> Prepared:
    """Run the bootstrap; raises ``BootstrapError``, ``SqlFailure`` and ``DatabaseFault``."""
    known = await find(conninfo, request)
    connection = await connect(conninfo, options="-c statement_timeout=0 -c client_min_messages=warning")
    driver = Driver(connection, conninfo)
    try:
        names = known or RoleNames(new_installation())
        password = request.password
        if password is None and (request.reset or not await _has_password(connection, names.operator)):
            password = secrets.token_urlsafe(PASSWORD_BYTES)
        verifier = None if password is None else encrypt(names.operator, password, connection)
        asked = Bootstrap(names.installation, request.database, request.schema, verifier)
        made = await drive_async(bootstrap(asked), driver)
    finally:
        await driver.connection.close()
    return Prepared(made, conninfo, password)


async def keeps_password(conninfo: str, request: Request) -> bool:
    """Tell whether the operator's login exists with a password that a run would leave as it is."""
    known = await find(conninfo, request)
    if known is None or request.reset or request.password is not None:
        return False
    connection = await connect(conninfo)
    try:
        return await _has_password(connection, known.operator)
    finally:
        await connection.close()


async def find(conninfo: str, request: Request) -> RoleNames | None:
    """Find an earlier installation in the database, so that its roles keep their names; None when there is none."""
    connection = await connect(conninfo)
    try:
        if not await (await connection.execute(FIND_DATABASE.encode(), (request.database,))).fetchall():
            return None
        await connection.close()
        connection = await connect(make_conninfo(conninfo, dbname=request.database))
        found = await (await connection.execute(SCHEMA_FACTS.encode(), (request.schema,))).fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    finally:
        await connection.close()
    return None if found is None else RoleNames.from_schema_comment(found[0])


async def preview(conninfo: str | None, request: Request) -> str:
    """Return what a run would execute, for psql, without a password; a server is only asked for an earlier run."""
    known = None if conninfo is None else await find(conninfo, request)
    names = known or RoleNames(new_installation())
    text = script(Bootstrap(names.installation, request.database, request.schema))
    return (
        f"{text}\n-- The operator's login gets its password here, hashed by psql itself.\n\\password {names.operator}\n"
    )


def new_installation() -> str:
    """Draw the id of a new installation."""
    return "".join(secrets.choice(INSTALLATION_ALPHABET) for _ in range(INSTALLATION_LENGTH))


def uri(parameters: Mapping[str, Any]) -> str:
    """Write connection parameters as a libpq URI, every part percent-encoded."""
    rest = {name: str(value) for name, value in parameters.items() if value is not None}
    user, password = rest.pop("user", ""), rest.pop("password", None)
    host, port, dbname = rest.pop("host", ""), rest.pop("port", str(_DEFAULT_PORT)), rest.pop("dbname", "")
    login = quote(user, safe="") + ("" if password is None else ":" + quote(password, safe=""))
    if host.startswith("/") or "," in host or not host:
        rest = {**({"host": host} if host else {}), "port": port, **rest}
        place = ""
    else:
        place = f"[{host}]:{port}" if ":" in host else f"{quote(host, safe='')}:{port}"
    options = f"?{urlencode(rest, quote_via=quote)}" if rest else ""
    return f"postgresql://{login}@{place}/{quote(dbname, safe='')}{options}"


async def _has_password(connection: psycopg.AsyncConnection[TupleRow], login: str) -> bool:
    try:
        row = await (await connection.execute(_HAS_PASSWORD.encode(), (login,))).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        # Only a superuser reads it; the bootstrap itself says so in its own words a moment later.
        return False
    except psycopg.Error as error:
        raise translate(error) from error
    return row is not None and bool(row[0])


async def remove(conninfo: str, request: Request) -> bool:
    """Drop a database that ``prepare`` made, and its installation's roles; False when there is none of ours.

    Only for what is thrown away by intention, such as a demonstration's databases on a server that stays.
    """
    known = await find(conninfo, request)
    if known is None:
        return False
    connection = await connect(conninfo, options="-c statement_timeout=0 -c client_min_messages=warning")
    try:
        name = psycopg.sql.Identifier(request.database)
        await connection.execute(psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        await _drop_roles(connection, known)
    except psycopg.Error as error:
        raise translate(error) from error
    finally:
        await connection.close()
    return True


async def _drop_roles(connection: psycopg.AsyncConnection[TupleRow], names: RoleNames) -> None:
    """Drop an installation's roles; one that granted a membership goes after those that it granted it to."""
    query = b"SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = %s OR starts_with(rolname, %s)"
    rows = await (await connection.execute(query, (names.owner, f"{names.owner}_"))).fetchall()
    left = [str(name) for (name,) in rows]
    while left:
        still: list[str] = []
        for role in left:
            try:
                await connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(role)))
            except psycopg.errors.DependentObjectsStillExist:
                still.append(role)
        if len(still) == len(left):
            raise DatabaseFault("PrivilegesMissing", f"{len(still)} roles of {names.owner} own objects elsewhere")
        left = still
