"""The embedded PostgreSQL: started, found again, stopped, and its end noticed."""

from __future__ import annotations

import signal
import socket
import stat

import psycopg
import pytest

from storage_operator.devenv import process
from storage_operator.devenv.environment import Environment
from storage_operator.devenv.locations import server_folder
from storage_operator.devenv.postgres import EmbeddedPostgres
from storage_operator.errors import UserError


def test_start_is_idempotent_across_processes(environment: Environment) -> None:
    """A second handle, as another command would make it, finds the same server and starts none."""
    first = environment.embedded.start()
    second = EmbeddedPostgres(environment.name).start()
    assert first.status() == second.status()
    assert first.dsn() == second.dsn()


def test_data_outlives_a_stop(environment: Environment) -> None:
    """What was written is there after stop and start, under the same DSN."""
    server = environment.embedded.start()
    dsn = server.dsn()
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    assert not server.running()
    with psycopg.connect(server.start().dsn()) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert server.dsn() == dsn


def test_only_loopback_with_scram(environment: Environment) -> None:
    """The server listens on loopback, stores SCRAM verifiers and refuses a wrong password."""
    server = environment.embedded.start()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        methods = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
        assert methods == [("scram-sha-256",)]
    password = psycopg.conninfo.conninfo_to_dict(server.dsn())["password"]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn().replace(str(password), "wrong"))


def test_password_is_private(environment: Environment) -> None:
    """The file that holds the superuser's password can be read by its owner only."""
    environment.embedded.start()
    mode = (environment.folder / "postgres.json").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_settings_and_durability(environment: Environment) -> None:
    """Given settings win over the defaults, and a durable server waits for the disk."""
    server = environment.embedded.start(settings={"work_mem": "7MB"}, durable=True)
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


def test_crash_is_noticed_and_healed(environment: Environment) -> None:
    """A killed server is reported with its log, and the next start recovers it on the same port."""
    server = environment.embedded.start()
    dsn = server.dsn()
    server.kill(signal.SIGKILL)
    assert not server.running()
    with pytest.raises(UserError, match=r"(?s)stopped by itself.*ready to accept connections") as caught:
        server.require_running()
    assert "postgres.log" in str(caught.value)
    assert server.start().dsn() == dsn
    server.require_running()


def test_wrong_setting_is_reported_with_the_log(environment: Environment) -> None:
    """A server that refuses to start says why in the error."""
    with pytest.raises(UserError, match="unrecognized configuration parameter"):
        environment.embedded.start(settings={"no_such_setting": "1"})


def test_taken_port_is_reported(environment: Environment) -> None:
    """A port that somebody listens on is refused with the server's own words."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="could not bind"):
        environment.embedded.start(port=taken.getsockname()[1])


def test_running_server_keeps_its_port(environment: Environment) -> None:
    """Asking a running server for another port is refused, since clients would lose it."""
    server = environment.embedded.start()
    with pytest.raises(UserError, match="is up on port"):
        server.start(port=process.free_port())


def test_data_of_another_major_version_is_refused(environment: Environment) -> None:
    """Data that another PostgreSQL wrote is never opened."""
    server = environment.embedded.start()
    server.stop()
    (server_folder(environment.name) / "data" / "PG_VERSION").write_text("15\n")
    with pytest.raises(UserError, match="belongs to PostgreSQL 15"):
        server.start()


def test_damaged_state_is_reported(environment: Environment) -> None:
    """A state file that is not ours to read is named in one line."""
    environment.folder.mkdir(exist_ok=True)
    (environment.folder / "postgres.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        environment.embedded.status()
    (environment.folder / "postgres.json").unlink()


def test_reused_process_id_is_not_killed(environment: Environment) -> None:
    """A state file whose process id belongs to somebody else by now leads to no signal."""
    server = environment.embedded.start()
    bystander = process.spawn(["sleep", "60"], log=environment.folder / "sleep.log", cwd=environment.folder)
    state_file = environment.folder / "postgres.json"
    original = state_file.read_text()
    status = server.status()
    assert status is not None
    state_file.write_text(original.replace(f'"pid": {status.pid}', f'"pid": {bystander.pid}'))
    assert not server.running()
    server.stop()
    assert process.is_running(bystander)
    process.stop(bystander)
    state_file.write_text(original)
    assert server.running()
