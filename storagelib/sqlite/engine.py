"""One SQLite file in WAL mode: one writer at a time, readers beside it, and every fault as an error of ours.

Stores are written as blocking code whose methods are marked ``@reads``, ``@reads_together``, ``@writes`` or
``@writes_once``; the mark hands the method a connection in the right state and, for asynchronous callers, tells which thread it belongs on.
"""

from __future__ import annotations

import fcntl
import functools
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from storage_sql import migrations
from storage_sql.effects import Effect, Query, Sleep, SqlFailure, drive
from storage_sql.runner import RunOptions, migrate_sqlite
from storagelib.clocks import Clock, system_clock, to_microseconds
from storagelib.config import Durability, VectorScan
from storagelib.errors import (
    AlreadyExists,
    Conflict,
    Corrupted,
    InvalidInput,
    MigrationError,
    PermissionDenied,
    StorageError,
    Unavailable,
)
from storagelib.filters import json_meets, json_same
from storagelib.release import release_name
from storagelib.sqlite import vector_scan

__all__ = ["SqliteEngine", "SqliteStore", "reads", "reads_together", "writes", "writes_once"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Store = TypeVar("Store", bound="SqliteStore")

_READERS_KEPT: Final = 8
_CACHED_STATEMENTS: Final = 512


class _Connection(sqlite3.Connection):
    """A connection that knows whether sqlite-vec was loaded into it."""

    has_sqlite_vec: bool | None = None
    """None until somebody asks."""


class SqliteEngine:
    """The connections to one file. ``open`` migrates it, after a copy when it held an older schema."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        busy_timeout_seconds: float = 5.0,
        vector_scan: VectorScan = "auto",
        clock: Clock = system_clock,
    ) -> None:
        """Take where the file is, how patient to be with other processes, and what compares vectors."""
        self.path = Path(path)
        self.clock = clock
        self._durability = durability
        self._busy_timeout_seconds = busy_timeout_seconds
        self._vector_scan = vector_scan
        self._readers: deque[sqlite3.Connection] = deque()
        self.write_lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._presence: int | None = None
        self._process = os.getpid()

    def open(self) -> SqliteEngine:
        """Make or open the file and bring its schema up.

        Raises ``MigrationError`` for a newer or busy one, ``InvalidInput`` when sqlite-vec is demanded and cannot be loaded.
        """
        try:
            self._check_vector_scan()
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._presence = _present(self.path)
            self._writer = self._connect()
            self._migrate(self._writer)
        except BaseException as error:
            self.close()
            raise _translated(error, self.path) from error
        return self

    def close(self) -> None:
        """Close every connection; the last one to close folds the write-ahead log into the file."""
        with self.write_lock:
            while self._readers:
                self._readers.pop().close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._presence is not None:
                os.close(self._presence)
                self._presence = None

    def now(self) -> int:
        """Return the present moment as microseconds since 1970, the form that columns hold."""
        # The system's clock is asked on every read: as a number it costs a quarter.
        return time.time_ns() // 1000 if self.clock is system_clock else to_microseconds(self.clock())

    def reader(self) -> sqlite3.Connection:
        """Lend a connection for reading; give it back with ``give_back``."""
        self._check_process()
        try:
            return self._readers.pop()
        except IndexError:
            if self._writer is None:
                raise Unavailable("the store is closed") from None
            connection = self._connect()
            connection.execute("PRAGMA query_only = 1")
            return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Take a reader back."""
        if len(self._readers) < _READERS_KEPT and self._writer is not None:
            self._readers.append(connection)
        else:
            connection.close()

    def writer(self) -> sqlite3.Connection:
        """Return the connection that writes; only under ``write_lock``."""
        self._check_process()
        if self._writer is None:
            raise Unavailable("the store is closed")
        return self._writer

    def write(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` in a transaction of its own, alone among all writers of the file."""
        with self.write_lock:
            connection = self.writer()
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise _translated(error, self.path) from error
            return result

    def read(self, work: Callable[[sqlite3.Connection], Result], *, together: bool = False) -> Result:
        """Run ``work`` on a reader; ``together`` gives all its statements one snapshot."""
        connection = self.reader()
        try:
            if together:
                connection.execute("BEGIN")
            result = work(connection)
            if connection.in_transaction:
                connection.execute("COMMIT")
        except BaseException as error:
            connection.close()
            raise _translated(error, self.path) from error
        self.give_back(connection)
        return result

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a reader whose statements see one snapshot, for as long as the block takes."""
        connection = self.reader()
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            connection.close()
            raise _translated(error, self.path) from error
        self.give_back(connection)

    def has_sqlite_vec(self, connection: sqlite3.Connection) -> bool:
        """Tell whether sqlite-vec may be called on one of these connections; the first time it is loaded for that."""
        assert isinstance(connection, _Connection)  # noqa: S101 - there are no others
        if connection.has_sqlite_vec is None:
            connection.has_sqlite_vec = self._vector_scan != "numpy" and not vector_scan.load(connection)
        return connection.has_sqlite_vec

    def _check_vector_scan(self) -> None:
        """Raise ``InvalidInput`` when sqlite-vec is demanded and cannot be loaded."""
        if self._vector_scan == "sqlite-vec":
            with closing(sqlite3.connect(":memory:")) as trial:
                faults = vector_scan.load(trial)
            if faults:
                raise InvalidInput(
                    "the configuration cannot be used here", [f"sqlite.vector_scan: {fault}" for fault in faults]
                )

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise Unavailable("the store was opened before this process was forked: open one in each process")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout_seconds,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
            cached_statements=_CACHED_STATEMENTS,
        )
        try:
            for pragma in (
                "journal_mode = WAL",
                f"synchronous = {self._durability}",
                "foreign_keys = 1",
                "temp_store = MEMORY",
                "cache_size = -16384",
                "mmap_size = 268435456",
            ):
                connection.execute(f"PRAGMA {pragma}")
            connection.create_function("json_same", 2, json_same, deterministic=True)
            connection.create_function("json_meets", 2, json_meets, deterministic=True)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        known = migrations.available("sqlite")
        current = _version(connection)
        if current == known[-1].version:
            drive(migrate_sqlite(), _Driver(connection))  # compares the checksums
            return
        alone = _alone(self._presence)
        try:
            if not alone:
                # Two processes may have made the file together: the other one is migrating it now.
                alone = _wait_alone(self._presence, self._busy_timeout_seconds)
            if not alone:
                raise MigrationError(f"{self.path}: another process has the file open; close it to bring the schema up")
            if 0 < current < known[-1].version:
                self._copy(connection, current)
            drive(migrate_sqlite(RunOptions(release=release_name())), _Driver(connection))
        finally:
            if self._presence is not None:
                fcntl.flock(self._presence, fcntl.LOCK_SH)

    def _copy(self, connection: sqlite3.Connection, version: int) -> None:
        copy = self.path.with_name(f"{self.path.name}.v{version}.copy")
        if not copy.exists():
            unfinished = copy.with_suffix(".part")
            unfinished.unlink(missing_ok=True)
            connection.execute("VACUUM INTO ?", (str(unfinished),))
            unfinished.chmod(0o600)
            unfinished.replace(copy)


class SqliteStore:
    """What a store of one tenant is made of: the engine and the tenant that stands first in every key."""

    def __init__(self, engine: SqliteEngine, tenant_id: str) -> None:
        """Take the file and the tenant."""
        self.engine = engine
        self.tenant_id = tenant_id


def reads(
    method: Callable[Concatenate[Store, sqlite3.Connection, Parameters], Result],
) -> Callable[Concatenate[Store, Parameters], Result]:
    """Mark a method that reads with one statement: it is given a reader."""

    @functools.wraps(method)
    def call(self: Store, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        engine = self.engine
        connection = engine.reader()
        try:
            result = method(self, connection, *args, **kwargs)
        except BaseException as error:
            # A cursor that the traceback holds would keep the connection in its old snapshot.
            connection.close()
            raise _translated(error, engine.path) from error
        engine.give_back(connection)
        return result

    call.runs_on = "reader"  # type: ignore[attr-defined]
    return call


def reads_together(
    method: Callable[Concatenate[Store, sqlite3.Connection, Parameters], Result],
) -> Callable[Concatenate[Store, Parameters], Result]:
    """Mark a method that reads with several statements: they see one snapshot."""

    @functools.wraps(method)
    def call(self: Store, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self.engine.read(lambda connection: method(self, connection, *args, **kwargs), together=True)

    call.runs_on = "reader"  # type: ignore[attr-defined]
    return call


def writes_once(
    method: Callable[Concatenate[Store, sqlite3.Connection, Parameters], Result],
) -> Callable[Concatenate[Store, Parameters], Result]:
    """Mark a method that writes with exactly one statement, which is its own transaction; all its rows must be fetched."""

    @functools.wraps(method)
    def call(self: Store, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        engine = self.engine
        with engine.write_lock:
            try:
                return method(self, engine.writer(), *args, **kwargs)
            except sqlite3.Error as error:
                raise _translated(error, engine.path) from error

    call.runs_on = "writer"  # type: ignore[attr-defined]
    return call


def writes(
    method: Callable[Concatenate[Store, sqlite3.Connection, Parameters], Result],
) -> Callable[Concatenate[Store, Parameters], Result]:
    """Mark a method that writes: it runs in a transaction that commits when it returns and rolls back when it raises."""

    @functools.wraps(method)
    def call(self: Store, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return self.engine.write(lambda connection: method(self, connection, *args, **kwargs))

    call.runs_on = "writer"  # type: ignore[attr-defined]
    return call


class _Driver:
    """Performs the effects of the migration runner."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __call__(self, effect: Effect) -> list[tuple[Any, ...]]:
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return []
        assert isinstance(effect, Query)  # noqa: S101 - the runner yields nothing else for SQLite
        try:
            return self._connection.execute(effect.sql, effect.params or ()).fetchall()
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
            raise SqlFailure("55P03" if busy else "XX000", str(error)) from error


def _version(connection: sqlite3.Connection) -> int:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'").fetchone():
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()[0])


def _present(path: Path) -> int:
    """Hold a shared lock beside the file for as long as it is open, so that a migration knows when it is alone."""
    presence = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(presence, fcntl.LOCK_SH)
    return presence


def _alone(presence: int | None) -> bool:
    if presence is None:
        return False
    try:
        fcntl.flock(presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_alone(presence: int | None, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.02)
        if _alone(presence):
            return True
    return False


_FAULTS: Final[dict[int, Callable[[str], StorageError]]] = {
    sqlite3.SQLITE_BUSY: lambda path: Unavailable(f"{path}: another process is writing; try again"),
    sqlite3.SQLITE_LOCKED: lambda path: Unavailable(f"{path}: another process is writing; try again"),
    sqlite3.SQLITE_FULL: lambda path: Unavailable(f"{path}: the disk is full; nothing was changed"),
    sqlite3.SQLITE_IOERR: lambda path: Unavailable(f"{path}: the disk failed", outcome="unknown"),
    sqlite3.SQLITE_INTERRUPT: lambda path: Unavailable(f"{path}: the call was interrupted"),
    sqlite3.SQLITE_CANTOPEN: lambda path: Unavailable(f"{path}: cannot be opened"),
    sqlite3.SQLITE_NOMEM: lambda path: Unavailable(f"{path}: out of memory"),
    sqlite3.SQLITE_CORRUPT: lambda path: Corrupted(f"{path}: is damaged; restore a copy"),
    sqlite3.SQLITE_NOTADB: lambda path: Corrupted(f"{path}: is not an SQLite file, or is damaged"),
    sqlite3.SQLITE_READONLY: lambda path: PermissionDenied(f"{path}: may only be read"),
    sqlite3.SQLITE_PERM: lambda path: PermissionDenied(f"{path}: may not be used"),
    sqlite3.SQLITE_AUTH: lambda path: PermissionDenied(f"{path}: may not be used"),
    sqlite3.SQLITE_TOOBIG: lambda _path: InvalidInput(
        "the argument cannot be used", ["value: is too large for SQLite"]
    ),
}


def _translated(error: BaseException, path: Path) -> BaseException:
    """Return the error of ours that says what a driver's error means; others are returned as they are."""
    if isinstance(error, migrations.MigrationError):
        return MigrationError(f"{path}: {error}")
    if isinstance(error, OSError) and not isinstance(error, StorageError):
        return Unavailable(f"{path}: {error.strerror}")
    if not isinstance(error, sqlite3.Error):
        return error
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_CONSTRAINT:
        return _constraint(code, str(error))
    fault = _FAULTS.get(code & 0xFF)
    return Unavailable(f"{path}: {error}") if fault is None else fault(str(path))


def _constraint(code: int, text: str) -> StorageError:
    if code in {
        sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
        sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        sqlite3.SQLITE_CONSTRAINT_ROWID,
    }:
        return AlreadyExists("the id is taken")
    if code in {sqlite3.SQLITE_CONSTRAINT_CHECK, sqlite3.SQLITE_CONSTRAINT_NOTNULL}:
        return InvalidInput("the argument cannot be used", [text])
    return Conflict("what this depends on was changed")
