"""Databases with an installation in them: bootstrapped as superuser, migrated as the operator's own role.

An installation owns roles, and roles belong to the whole server, so each one is made under an id of its own and all its
roles are dropped with it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage_operator.adapters.postgres.bootstrapping import new_installation
from storage_sql.bootstrap import Bootstrap, bootstrap
from storage_sql.effects import Connect, Effect, Query, Sleep, SqlFailure, drive
from storage_sql.roles import RoleNames
from storage_sql.runner import RunOptions, migrate_postgres
from tests.plugins.postgres import Database, database_on, url_with

SCHEMA = "llmspell"


@dataclass(frozen=True, slots=True)
class Installation:
    """A database that is ready for tenants, and the ways to log in to it."""

    database: Database
    names: RoleNames
    schema: str
    operator_password: str

    @property
    def superuser_dsn(self) -> str:
        """The superuser's DSN: for looking behind the scenes, never for what is being tested."""
        return self.database.dsn

    @property
    def operator_dsn(self) -> str:
        """The DSN of the operator's login, which is what the operator itself runs with."""
        return self.database.dsn_as(self.names.operator, self.operator_password)

    def connect(self, role: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """Open an autocommit connection as the operator's login, under ``SET ROLE`` to ``role`` (such as the owner)."""
        connection = psycopg.connect(self.operator_dsn, autocommit=True)
        if role is not None:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        return connection


class Driver:
    """Performs the effects of ``storage_sql`` procedures on one synchronous connection."""

    def __init__(self, dsn: str) -> None:
        """Connect in autocommit mode, as the procedures expect."""
        self._dsn = dsn
        self._connection = psycopg.connect(dsn, autocommit=True)

    def __call__(self, effect: Effect) -> list[tuple[Any, ...]]:
        """Perform one effect and return its rows; a database error becomes ``SqlFailure``."""
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return []
        if isinstance(effect, Connect):
            self.close()
            self._connection = psycopg.connect(url_with(self._dsn, dbname=effect.database), autocommit=True)
            return []
        assert isinstance(effect, Query)
        try:
            cursor = self._connection.execute(effect.sql.encode(), effect.params or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise SqlFailure(error.sqlstate or "08006", str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def drive_on(dsn: str, procedure: Any) -> Any:
    """Run one procedure of ``storage_sql`` on a connection of its own and return its result."""
    driver = Driver(dsn)
    try:
        return drive(procedure, driver)
    finally:
        driver.close()


@contextmanager
def bootstrapped_on(url: str, schema: str = SCHEMA) -> Iterator[Installation]:
    """Make a database with roles, extensions and schema, and nothing in the schema yet; drop it all afterwards."""
    password = secrets.token_urlsafe(16)
    names = RoleNames(new_installation())
    try:
        with database_on(url) as database:
            request = Bootstrap(names.installation, database.name, schema=schema, operator_password=password)
            drive_on(url, bootstrap(request))
            yield Installation(database, names, schema, password)
    finally:
        drop_roles(url, names.owner)


@contextmanager
def installation_on(url: str, schema: str = SCHEMA) -> Iterator[Installation]:
    """Make a database that is bootstrapped and migrated to the newest version; drop it all afterwards."""
    with bootstrapped_on(url, schema) as made:
        drive_on(made.operator_dsn, migrate_postgres(schema, RunOptions(release="test")))
        yield made


# What a role may do, who is a member of whom and how, and what is set for a role: all that outlives a database.
_ROLES = """
SELECT 'role', r.rolname, to_jsonb(r) - '{oid,rolpassword,rolconfig}'::text[], r.rolconfig::text
  FROM pg_roles AS r WHERE r.rolname = %(prefix)s OR r.rolname LIKE %(below)s
 UNION ALL
SELECT 'member', m.member::regrole::text,
       to_jsonb(m) - '{oid,roleid,member,grantor}'::text[] || jsonb_build_object('grantor', m.grantor::regrole::text),
       m.roleid::regrole::text
  FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid IN (m.roleid, m.member)
 WHERE r.rolname = %(prefix)s OR r.rolname LIKE %(below)s
 ORDER BY 1, 2, 3, 4"""


@dataclass(frozen=True, slots=True)
class _Mold:
    original: Installation
    roles: list[tuple[Any, ...]]


class Molds:
    """Installations that are migrated once and copied for whoever needs one: migrating takes seconds, a copy takes none.

    Roles cannot be copied, so a mold serves one test file at a time, and is not used again when a test left its roles
    different from what they were.
    """

    def __init__(self, url: str) -> None:
        """Take a server; nothing is made before it is needed."""
        self._url = url
        self._free: list[_Mold] = []
        self._made = ExitStack()

    def close(self) -> None:
        """Drop all of them."""
        self._made.close()

    @contextmanager
    def copy(self) -> Iterator[Installation]:
        """Give a migrated database that is like a new one; it is gone afterwards, with the roles that were made in it."""
        mold = self._free.pop() if self._free else self._new()
        names, schema, password = mold.original.names, mold.original.schema, mold.original.operator_password
        try:
            with database_on(self._url, template=mold.original.database.name) as database:
                # Grants on a database are not copied with it.
                drive_on(self._url, bootstrap(Bootstrap(names.installation, database.name, schema, password)))
                yield Installation(database, names, schema, password)
        finally:
            kept = {row[1] for row in mold.roles if row[0] == "role"}
            _drop(self._url, [role for role in _roles_of(self._url, names.owner) if role not in kept])
            if self._roles(names.owner) == mold.roles:
                self._free.append(mold)

    def _new(self) -> _Mold:
        original = self._made.enter_context(installation_on(self._url))
        return _Mold(original, self._roles(original.names.owner))

    def _roles(self, owner: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url) as connection:
            return connection.execute(_ROLES, {"prefix": owner, "below": _below(owner)}).fetchall()


def _below(prefix: str) -> str:
    return prefix.replace("_", r"\_") + r"\_%"


def _roles_of(url: str, prefix: str) -> list[str]:
    with psycopg.connect(url) as connection:
        query = "SELECT rolname FROM pg_roles WHERE rolname = %s OR rolname LIKE %s"
        return [str(row[0]) for row in connection.execute(query, (prefix, _below(prefix)))]


def drop_roles(url: str, prefix: str) -> None:
    """Drop an installation's roles, whose names start with its owner's, once its database is gone."""
    _drop(url, _roles_of(url, prefix))


def _drop(url: str, left: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while left:
            still: list[str] = []
            for role in left:
                try:
                    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
                except psycopg.errors.DependentObjectsStillExist:
                    # It granted a membership to a role that is dropped later in this round.
                    still.append(role)
            assert len(still) < len(left), f"roles {still} cannot be dropped"
            left = still


@pytest.fixture(scope="session")
def molds(superuser_url: str) -> Iterator[Molds]:
    """Give what makes migrated databases in a moment."""
    with closing(Molds(superuser_url)) as made:
        yield made


@pytest.fixture(scope="module")
def installation(molds: Molds) -> Iterator[Installation]:
    """Give the tests of one file a bootstrapped and migrated database that they share."""
    with molds.copy() as made:
        yield made


@pytest.fixture
def fresh_installation(molds: Molds) -> Iterator[Installation]:
    """Give one test a bootstrapped and migrated database of its own."""
    with molds.copy() as made:
        yield made


@pytest.fixture
def bootstrapped_database(superuser_url: str) -> Iterator[Installation]:
    """Give one test a database that is bootstrapped and not migrated."""
    with bootstrapped_on(superuser_url) as made:
        yield made
