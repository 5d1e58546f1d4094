"""A real PgBouncer on loopback, in transaction mode, run by an unprivileged user.

Debian's package is enough (``apt-get install pgbouncer``); a clean machine where the tests run as root gets it installed
here. A PgBouncer that cannot be had fails the test with one sentence: nothing skips.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from storage_operator.devenv.process import free_port
from tests.plugins.postgres import Database, url_with

ADMIN, ADMIN_PASSWORD = "pooler_admin", "only-for-the-console"
_START_SECONDS = 60.0
_MISSING = "PgBouncer is not installed: run `apt-get install pgbouncer` (or put `pgbouncer` on the PATH)"


def _program() -> str:
    """Return the path of pgbouncer, installing Debian's package when this is root on a clean machine."""
    places = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("pgbouncer", path=places)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-q"], ["install", "-qy", "--no-install-recommends", "pgbouncer"]):
            subprocess.run(["apt-get", *command], env=quiet, check=False, capture_output=True, timeout=240)
        found = shutil.which("pgbouncer", path=places)
    if found is None:
        pytest.fail(_MISSING, pytrace=False)
    return found


def _unprivileged() -> str | None:
    """Return whom to run as: PgBouncer refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.fail("PgBouncer refuses to run as root, and there is no user `nobody` to run it as", pytrace=False)


@dataclass(slots=True)
class PgBouncer:
    """One running pooler in front of one database; ``verifiers`` are the lines of its auth_file."""

    database: Database
    folder: Path
    verifiers: dict[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> PgBouncer:
        """Start, and wait until it accepts connections."""
        self.port = free_port()
        self._write()
        user = _unprivileged()
        if user is not None:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, user)
        command = [_program(), "-q", str(self.folder / "pgbouncer.ini")]
        self._process = subprocess.Popen(command, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def _write(self) -> None:
        target = conninfo_to_dict(self.database.dsn)
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.folder / "users.txt"),
            "pool_mode": "transaction",
            "default_pool_size": "1",
            "max_client_conn": "50",
            "admin_users": ADMIN,
            "logfile": str(self.folder / "pgbouncer.log"),
            **self.settings,
        }
        route = f"* = host={target['host']} port={target['port']} {options.pop('route', '')}"
        text = "\n".join(
            ["[databases]", route, "[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())]
        )
        (self.folder / "pgbouncer.ini").write_text(text + "\n")
        self._write_users()

    def _write_users(self) -> None:
        lines = {ADMIN: ADMIN_PASSWORD, **self.verifiers}
        (self.folder / "users.txt").write_text("".join(f'"{user}" "{secret}"\n' for user, secret in lines.items()))

    def reload(self, verifiers: Mapping[str, str]) -> None:
        """Replace the auth_file, as a mounted Secret would be, and have it read again."""
        self.verifiers = dict(verifiers)
        self._write_users()
        self.console("RELOAD")

    def console(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command of the administration console."""
        dsn = url_with(self.database.dsn, port=str(self.port), dbname="pgbouncer", user=ADMIN, password=ADMIN_PASSWORD)
        with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []

    def dsn_of(self, dsn: str) -> str:
        """Return a login's DSN through the pooler instead of directly."""
        return url_with(dsn, host="127.0.0.1", port=str(self.port))

    def log(self) -> str:
        """Return what the pooler wrote."""
        path = self.folder / "pgbouncer.log"
        return path.read_text() if path.exists() else "PgBouncer wrote no log"

    def stop(self) -> None:
        """End the process that was started here."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@pytest.fixture(scope="module")
def start_pgbouncer() -> Iterator[Callable[..., PgBouncer]]:
    """Give a function that starts a pooler for a database; all of them end with the module."""
    started: list[tuple[PgBouncer, Path]] = []

    def start(database: Database, verifiers: Mapping[str, str], **settings: str) -> PgBouncer:
        folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        pooler = PgBouncer(database, folder, dict(verifiers), settings)
        started.append((pooler, folder))
        return pooler.start()

    yield start
    for pooler, folder in started:
        pooler.stop()
        shutil.rmtree(folder, ignore_errors=True)
