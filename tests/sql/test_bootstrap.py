"""Bootstrap prepares a server once, finds its own work again, and touches nothing else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from storage_operator.adapters.postgres.bootstrapping import new_installation
from storage_sql import bootstrap
from storage_sql.bootstrap import Bootstrap, BootstrapError
from tests.plugins.installation import Installation, bootstrapped_on, drive_on
from tests.plugins.postgres import Database


@pytest.fixture(scope="module")
def prepared(superuser_url: str) -> Iterator[Installation]:
    """Give this file one bootstrapped database under a name of a schema that needs quotes."""
    with bootstrapped_on(superuser_url, "Mein Schéma") as made:
        yield made


def ask(where: Installation, text: str, *values: Any) -> list[tuple[Any, ...]]:
    """Return rows, asked as superuser."""
    with where.database.connect() as connection:
        return connection.execute(text.encode(), values or None).fetchall()


def test_second_run_finds_the_installation(prepared: Installation) -> None:
    """Another id is ignored when the schema carries one, and every role is as it should be again."""
    with prepared.database.connect() as connection:
        connection.execute(f"ALTER ROLE {prepared.names.operator} CREATEDB".encode())
    request = Bootstrap(new_installation(), prepared.database.name, schema=prepared.schema)
    again = drive_on(prepared.superuser_dsn, bootstrap.bootstrap(request))
    assert (again.names, again.created) == (prepared.names, False)
    assert ask(prepared, "SELECT rolcreatedb FROM pg_roles WHERE rolname = %s", prepared.names.operator) == [(False,)]


def test_operator_logs_in_without_superuser(prepared: Installation) -> None:
    """The operator's login can become owner, maintenance and every shard, and is nothing by itself."""
    with prepared.connect() as connection:
        rows = connection.execute("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = session_user")
        assert rows.fetchall() == [(False, False)]
        for role in (prepared.names.owner, prepared.names.maintenance, *prepared.names.shards):
            connection.execute(f'SET ROLE "{role}"'.encode())
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog, pg_temp",)


def test_public_loses_what_leaks(prepared: Installation) -> None:
    """PUBLIC can neither connect nor make temporary tables, and reaches no large object."""
    found = ask(
        prepared,
        "SELECT has_database_privilege('public', current_database(), 'CONNECT'),"
        " has_database_privilege('public', current_database(), 'TEMPORARY'),"
        " has_schema_privilege('public', 'public', 'CREATE'),"
        " has_function_privilege('public', 'lo_get(oid)', 'EXECUTE'),"
        " has_function_privilege('public', 'loread(int, int)', 'EXECUTE')",
    )
    assert found == [(False,) * 5]


def test_foreign_schema_is_refused(fresh_database: Database) -> None:
    """A schema with another project's tables is named and left as it was, roles included."""
    installation = new_installation()
    with fresh_database.connect() as connection:
        connection.execute("CREATE SCHEMA llmspell; CREATE TABLE llmspell.theirs (n int)")
        with pytest.raises(BootstrapError, match="objects that are not ours"):
            drive_on(fresh_database.dsn, bootstrap.bootstrap(Bootstrap(installation, fresh_database.name)))
        count = connection.execute("SELECT count(*) FROM pg_roles WHERE rolname ^@ %s", (f"llmspell_{installation}",))
        assert count.fetchone() == (0,)


def test_superuser_is_required(prepared: Installation) -> None:
    """Without one it says why before it changes anything."""
    with pytest.raises(BootstrapError, match="superuser"):
        drive_on(prepared.operator_dsn, bootstrap.bootstrap(Bootstrap(new_installation(), "unused")))


@pytest.mark.parametrize("version", [150_010, 160_009, 170_005], ids=["15.10", "16.9", "17.5"])
def test_old_server_is_refused(version: int) -> None:
    """Releases that leak statistics through row security are too old."""
    procedure = bootstrap.bootstrap(Bootstrap(new_installation(), "unused"))
    next(procedure)
    with pytest.raises(BootstrapError, match="too old"):
        procedure.send([(version, True)])


@pytest.mark.parametrize(
    ("available", "reason"),
    [([], "install the extensions vector"), ([("vector", "0.7.4", None)], "too old")],
    ids=["missing", "old"],
)
def test_extension_is_required(available: list[tuple[str, str, None]], reason: str) -> None:
    """Without a usable pgvector nothing is made."""
    procedure = bootstrap.bootstrap(Bootstrap(new_installation(), "some"))
    answers: list[list[tuple[Any, ...]]] = [[(180_001, True)], [(1,)], [], [], available]
    next(procedure)
    for answer in answers[:-1]:
        procedure.send(answer)
    with pytest.raises(BootstrapError, match=reason):
        procedure.send(answers[-1])


def test_script_is_the_same_work(prepared: Installation) -> None:
    """What is printed creates the database once, connects to it and hides no step."""
    request = Bootstrap(prepared.names.installation, "o'db", schema="s", operator_password="it's")
    text = bootstrap.script(request)
    assert bootstrap.server_script(prepared.names, "it's") in text
    assert "'CREATE DATABASE \"o''db\"'" in text
    assert '\\connect "o\'db"' in text
    assert text.index("CREATE ROLE") < text.index("\\connect") < text.index("CREATE EXTENSION")


def test_password_is_not_in_the_representation() -> None:
    """A request can be logged."""
    password = secrets.token_hex(8)
    assert password not in repr(Bootstrap("abcdefg2", "db", operator_password=password))


def test_other_databases_roles_are_untouched(prepared: Installation) -> None:
    """Every role that was made carries this installation's id and mark."""
    rows = ask(
        prepared,
        "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname ^@ %s",
        prepared.names.owner,
    )
    assert len(rows) == 3 + len(prepared.names.shards)
    assert all(mark.startswith(f"llmspell-storage {prepared.names.installation} ") for _, mark in rows)


def test_operator_can_not_reach_a_closed_database(prepared: Installation, fresh_database: Database) -> None:
    """CONNECT is granted on its own database only."""
    with fresh_database.connect() as connection:
        connection.execute(f'REVOKE CONNECT ON DATABASE "{fresh_database.name}" FROM PUBLIC'.encode())
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(fresh_database.dsn_as(prepared.names.operator, prepared.operator_password))
