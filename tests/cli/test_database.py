"""``llmspell database`` on a real server: what it prepares, prints and refuses."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import yaml

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import check_version
from storage_sql import migrations
from tests.plugins.commandline import Cli, NewDatabase
from tests.plugins.installation import Installation
from tests.plugins.postgres import Database, url_with

CHECKS = {
    "connection",
    "version",
    "pgvector",
    "vectorchord",
    "roles",
    "migrations",
    "policies",
    "partitions",
    "connections",
    "databases",
}

NEWEST = len(migrations.available("postgres"))


def bootstrap(cli: Cli, new: NewDatabase, *more: str) -> str:
    """Bootstrap and return what was printed."""
    ran = cli("database", "bootstrap", "--postgres-url", new.server, "--database", new.name, *more)
    assert ran.code == 0, ran.err
    return ran.out.strip()


def test_bootstrap_prints_a_dsn_that_migrates_and_is_healthy(cli: Cli, new_database: NewDatabase) -> None:
    """From nothing to healthy takes two commands, and only the first one knows the superuser."""
    dsn = bootstrap(cli, new_database)
    before = cli("database", "health-check", "--postgres-url", dsn)
    assert before.code == 1
    assert f"✗ 0 of {NEWEST} migrations applied" in before.out
    migrated = cli("database", "migrate", "--postgres-url", dsn, "--json")
    assert migrated.json["version"] == NEWEST
    assert len(migrated.json["applied"]) == NEWEST
    after = cli("database", "health-check", "--postgres-url", dsn, "--json")
    assert after.code == 0, after.out
    assert after.json["healthy"] is True
    assert {check["name"] for check in after.json["checks"]} == CHECKS
    (databases,) = [check for check in after.json["checks"] if check["warning"]]
    assert databases["healthy"] is True
    assert "REVOKE CONNECT ON DATABASE" in databases["message"]


def test_a_second_bootstrap_keeps_the_password(cli: Cli, new_database: NewDatabase) -> None:
    """Running it again repairs rights, changes no credential, and says that it does not know the password."""
    dsn = bootstrap(cli, new_database)
    again = bootstrap(cli, new_database)
    assert psycopg.conninfo.conninfo_to_dict(again).get("password") is None
    psycopg.connect(dsn).close()
    fresh = bootstrap(cli, new_database, "--reset-password")
    psycopg.connect(fresh).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn)


def test_bootstrap_takes_a_password_from_a_file(cli: Cli, new_database: NewDatabase, tmp_path: Path) -> None:
    """A given password is set, every character of it, and never reaches the server in clear."""
    password = "pä's:@/%\"word "
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    dsn = bootstrap(cli, new_database, "--operator-password-file", str(tmp_path / "password"))
    assert psycopg.conninfo.conninfo_to_dict(dsn)["password"] == password
    psycopg.connect(dsn).close()


def test_bootstrap_prints_a_secret(cli: Cli, new_database: NewDatabase) -> None:
    """The Secret holds the DSN under the key that a StorageCluster reads by default; an unknown password is refused."""
    words = ("--output", "secret", "--secret-name", "main-admin", "--namespace", "storage")
    document = yaml.safe_load(bootstrap(cli, new_database, *words))
    assert document["metadata"] == {"name": "main-admin", "namespace": "storage"}
    psycopg.connect(document["stringData"]["dsn"]).close()
    again = cli("database", "bootstrap", "--postgres-url", new_database.server, "--database", new_database.name, *words)
    assert again.explains("--reset-password")


def test_bootstrap_json_has_a_fixed_form(cli: Cli, new_database: NewDatabase) -> None:
    """Programs read the installation, its roles and the DSN."""
    ran = cli(
        "database", "bootstrap", "--postgres-url", new_database.server, "--database", new_database.name, "-o", "json"
    )
    keys = {
        "installation",
        "database",
        "schema",
        "operator",
        "owner",
        "extensions",
        "created",
        "passwordChanged",
        "dsn",
    }
    assert set(ran.json) == keys
    assert ran.json["database"] == new_database.name
    assert ran.json["created"] is True


def test_print_shows_the_sql_and_runs_nothing(cli: Cli, new_database: NewDatabase) -> None:
    """The script names every grant, holds no password, and the server has nothing new afterwards."""
    text = bootstrap(cli, new_database, "--print")
    for part in ("CREATE DATABASE", "CREATEROLE", "WITH INHERIT FALSE, SET TRUE", "REVOKE CONNECT", "\\password"):
        assert part in text
    with psycopg.connect(new_database.server) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", (new_database.name,)).fetchall()
    assert not found


def test_migrate_stops_at_a_version_and_shows_what_is_left(cli: Cli, bootstrapped_database: Installation) -> None:
    """The dry run lists files with their SQL and applies none; --to goes as far as asked; the status says the rest."""
    url = ("--postgres-url", bootstrapped_database.operator_dsn)
    dry = cli("database", "migrate", *url, "--dry-run", "--verbose")
    assert f"{NEWEST} migrations would run" in dry.out
    assert 'CREATE TABLE "llmspell".kv_store' in dry.out
    assert cli("database", "migrate", *url, "--to", "2").code == 0
    status = cli("database", "migration-status", *url, "--json")
    assert status.code == 1
    assert (status.json["current"], len(status.json["pending"])) == (2, NEWEST - 2)
    assert cli("database", "migrate", *url, "--to", "1").explains("LowerTarget")
    assert cli("database", "migrate", *url).code == 0
    assert cli("database", "migration-status", *url).code == 0
    assert "Nothing to do" in cli("database", "migrate", *url).out


def test_a_changed_checksum_is_named(cli: Cli, fresh_installation: Installation) -> None:
    """A file that differs from what was applied stops every command with the file's name."""
    with fresh_installation.connect(fresh_installation.names.owner) as connection:
        connection.execute("UPDATE llmspell.schema_migrations SET checksum = 'x' WHERE version = 4")
    url = ("--postgres-url", fresh_installation.operator_dsn)
    assert cli("database", "migrate", *url).explains("ChecksumChanged", "V4")
    health = cli("database", "health-check", *url)
    assert health.code == 1
    assert "✗ V4" in health.out


def test_health_check_finds_what_is_broken(cli: Cli, fresh_installation: Installation) -> None:
    """A table without its policies and a missing right each turn one line to a failure."""
    with psycopg.connect(fresh_installation.superuser_dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE llmspell.kv_store DISABLE ROW LEVEL SECURITY")
        connection.execute(f"REVOKE {fresh_installation.names.maintenance} FROM {fresh_installation.names.operator}")
    ran = cli("database", "health-check", "--postgres-url", fresh_installation.operator_dsn, "--json")
    assert ran.code == 1
    broken = {check["name"]: check["message"] for check in ran.json["checks"] if not check["healthy"]}
    assert set(broken) == {"policies", "roles"}
    assert "kv_store" in broken["policies"]
    assert "llmspell database bootstrap" in broken["roles"]


def test_health_check_refuses_a_superuser(cli: Cli, fresh_installation: Installation) -> None:
    """Working as superuser would hide what the operator's role lacks."""
    ran = cli("database", "health-check", "--postgres-url", fresh_installation.superuser_dsn)
    assert ran.code == 1
    assert "is a superuser: use the operator's login" in ran.out


MALFORMED = [
    "postgresql://u:hidden@h:1/d?nonsense=1",
    "host=h password=hidden foo",
    "hidden",
    "postgresql://hidden",
    "\n",
    "mysql://u:hidden@h/d",
]


@pytest.mark.parametrize("dsn", MALFORMED)
@pytest.mark.parametrize("command", ["bootstrap", "migrate", "migration-status", "health-check"])
def test_a_malformed_dsn_is_never_echoed(cli: Cli, command: str, dsn: str) -> None:
    """The message says what is expected and repeats nothing of what may hold a password."""
    ran = cli("database", command, "--postgres-url", dsn)
    assert ran.explains("connection string")
    assert "hidden" not in ran.out + ran.err


def test_a_database_must_be_named(cli: Cli) -> None:
    """Without a DSN the message says how to give one."""
    assert cli("database", "migrate").explains("--postgres-url", "LLMSPELL_STORAGE_OPERATOR_URL")


def test_an_unreachable_server_is_one_line(cli: Cli) -> None:
    """A refused connection names the place and no password."""
    ran = cli("database", "migrate", "--postgres-url", "postgresql://u:hidden@127.0.0.1:9/d")
    assert ran.explains("Unreachable", "127.0.0.1")
    assert "hidden" not in ran.err


def test_a_wrong_password_is_told(cli: Cli, installation: Installation) -> None:
    """The reason is the password, not the network."""
    wrong = installation.database.dsn_as(installation.names.operator, "wrong")
    assert cli("database", "migrate", "--postgres-url", wrong).explains("AuthenticationFailed")


def test_a_database_that_does_not_exist_is_told(cli: Cli, installation: Installation) -> None:
    """The message names the command that makes it."""
    missing = url_with(installation.operator_dsn, dbname="not there")
    assert cli("database", "migrate", "--postgres-url", missing).explains("DatabaseMissing", "bootstrap")


def test_a_database_that_was_not_prepared_is_told(cli: Cli, module_database: Database) -> None:
    """Migrating before the bootstrap names the bootstrap."""
    assert cli("database", "migrate", "--postgres-url", module_database.dsn).explains("llmspell database bootstrap")


def test_bootstrap_needs_a_superuser(cli: Cli, installation: Installation) -> None:
    """The operator's own login may not bootstrap, and is told why."""
    ran = cli(
        "database", "bootstrap", "--postgres-url", installation.operator_dsn, "--database", installation.database.name
    )
    assert ran.explains("superuser", "trusted")


def test_bootstrap_leaves_foreign_tables_alone(cli: Cli, fresh_database: Database, superuser_url: str) -> None:
    """A schema with another project's tables is refused, and the tables are what they were."""
    with fresh_database.connect() as connection:
        connection.execute("CREATE SCHEMA llmspell; CREATE TABLE llmspell.theirs AS SELECT 1 AS one")
    ran = cli("database", "bootstrap", "--postgres-url", superuser_url, "--database", fresh_database.name)
    assert ran.explains("not ours")
    with fresh_database.connect() as connection:
        assert connection.execute("SELECT one FROM llmspell.theirs").fetchall() == [(1,)]
        roles = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE obj_description(oid) LIKE 'llmspell%'"
        ).fetchone()
    assert roles == (0,)


@pytest.mark.parametrize("schema", ['a"b', "ünï", "x; DROP SCHEMA public", "pg_temp", "", "a" * 64])
def test_a_hostile_schema_is_refused(cli: Cli, schema: str) -> None:
    """A schema's name never needs quotes."""
    url = "postgresql://u@127.0.0.1:9/d"
    assert cli("database", "bootstrap", "--postgres-url", url, "--schema", schema).explains("--schema")


@pytest.mark.parametrize("database", ["", "x" * 64, "ü" * 32, "a\nb", "a\x1b[2J"])
def test_a_hostile_database_name_is_refused(cli: Cli, database: str) -> None:
    """Names that PostgreSQL would cut, or a terminal would obey, are refused before anything is contacted."""
    ran = cli("database", "bootstrap", "--postgres-url", "postgresql://u@127.0.0.1:9/d", "--database", database)
    assert ran.explains("--database")


@pytest.mark.parametrize(("version", "number"), [("15.13", 150013), ("16.9", 160009), ("17.5", 170005)])
def test_a_server_too_old_is_refused(version: str, number: int) -> None:
    """Old majors, and minors that leak through row-level security, have one reason."""
    with pytest.raises(DatabaseFault, match="ServerTooOld"):
        check_version({"version": version, "version_num": number})


def test_an_unknown_option_is_a_usage_error(cli: Cli) -> None:
    """Mistakes in the command itself have the exit code 2."""
    assert cli("database", "migrate", "--nonsense").code == 2
    assert cli("database", "migrate", "--to", "0").code == 2
