# Made from storagelib/_async/postgres/database.py by scripts/sync; change that file instead.
"""Connections to PostgreSQL: one pool a login, and a tenant's view of it through which every statement goes."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from storage_sql.queries import Query, load
from storagelib._postgres.faults import RETRIED, STALE_PLAN, translated
from storagelib._postgres.forks import check_process, watch
from storagelib._postgres.identity import FACTS, TENANT, check_tenant, installation
from storagelib._postgres.session import Call, Installation, Session
from storagelib._postgres.watching import Watching
from storagelib.blocking import Home, sleep
from storagelib.config import PostgresConfig
from storagelib.credentials import Credentials
from storagelib.errors import PermissionDenied, StorageError, Unavailable

__all__ = ["Database", "Login", "Transaction"]

Row = tuple[Any, ...]

_ATTEMPTS: Final = 4
_TRIALS: Final = 2
_LOOK_SECONDS: Final = 0.1
_KEPT_SECONDS: Final = 1.0
_REFUSED: Final = "28000"
_ENTER: Final = load("tenancy")["enter"]
_LOGGER: Final = logging.getLogger("storagelib.postgres")


class LibraryConnection(Watching):
    """A connection that carries its session, and when the pool gave it."""

    session: Session
    given_at: float


class Login:
    """One login's pool. Tenants in sealed mode share it; in role mode it is one tenant's."""

    def __init__(self, source: Callable[[], Credentials], config: PostgresConfig) -> None:
        """Take where the credentials come from (asked anew for every connection, so that rotation is followed)."""
        self._source = source
        self._config = config
        self._refusal: StorageError | psycopg.Error | None = None
        self._process = os.getpid()
        self._home = Home()
        self._found: Installation | None = None
        self._pipelines = config.pipeline == "auto"
        # The connection that was tried when the login was opened; the pool's first.
        self._tried: LibraryConnection | None = None
        # Connections that are lent next without asking the pool, who knows them as lent; never more than it keeps open
        # anyway, and none while anybody waits for the pool.
        self._kept: list[LibraryConnection] = []
        self._keeping = threading.Lock()
        self._waiting = 0
        self._closed = False
        self.used_at = time.monotonic()
        self.credentials = source()
        self.sealed = self.credentials.mode == "sealed"
        self._pool = ConnectionPool(
            self._conninfo,
            kwargs=self._options(),
            connection_class=self._connections(),
            min_size=config.pool_min,
            max_size=max(config.pool_max, config.pool_min),
            timeout=config.pool_timeout_seconds,
            max_idle=config.pool_idle_seconds,
            max_lifetime=config.pool_lifetime_seconds,
            configure=self._configure,
            open=False,
            name="llmspell",
        )

    def open(self) -> Login:
        """Try one connection, so that a wrong configuration is told at once and as what it is, and open the pool."""
        self._home.check()
        try:
            self._try_connections()
        except psycopg.Error as error:
            raise translated(error, sent=False) from error
        try:
            self._pool.open()
        except BaseException:
            # A thread too many, say; the connection that was tried has no pool to be closed by.
            self.close()
            raise
        return self

    def _connections(self) -> type[LibraryConnection]:
        """Return the class of the pool's connections: why one was not let in is kept for whoever waits for it."""
        login = self

        class PooledConnection(LibraryConnection):
            @classmethod
            def connect(cls, *given: Any, **named: Any) -> Any:
                tried = login._take_tried()
                if tried is not None:
                    return tried
                try:
                    return super().connect(*given, **named)
                except psycopg.Error as error:
                    login._refusal = error
                    raise

        return PooledConnection

    def _take_tried(self) -> LibraryConnection | None:
        with self._keeping:
            tried, self._tried = self._tried, None
        return tried

    def close(self) -> None:
        """Close every connection; one that is lent is closed when it is given back."""
        with self._keeping:
            self._closed = True
            kept, self._kept = self._kept, []
        for connection in kept:
            self._pool.putconn(connection)
        self._pool.close()
        tried = self._take_tried()
        if tried is not None:
            tried.close()

    def run(self, calls: Sequence[Call], tenant_id: str, enter: Call | None) -> list[list[Row]]:
        """Run statements as one transaction in one round trip; what deadlocked or could not serialize is sent again."""
        attempt = 1
        while True:
            connection = self.lend()
            try:
                session = connection.session
                if enter is None:
                    return connection.wait(session.exchange(session.encoded(calls, tenant_id)))
                return (connection.wait(session.exchange(session.encoded([enter, *calls], tenant_id))))[1:]
            except psycopg.Error as error:
                again = error.sqlstate in RETRIED or (error.sqlstate in STALE_PLAN and attempt == 1)
                if not again or attempt == _ATTEMPTS:
                    raise translated(error) from error
            finally:
                self.take_back(connection)
            attempt += 1
            self._pause(attempt)

    def busy(self) -> bool:
        """Tell whether any connection is lent, or waited for."""
        stats = self._pool.get_stats()
        return self._waiting > 0 or self._free(stats) < stats.get("pool_size", 0)

    def lend(self) -> LibraryConnection:
        """Take a connection that the server has not hung up on."""
        check_process(self._process)
        self._home.check()
        while True:
            with self._keeping:
                connection = self._kept.pop() if self._kept else None
                self._waiting += connection is None
            if connection is None:
                connection = self._ask()
            if connection.session.alive():
                return connection
            self._discard(connection)

    def take_back(self, connection: LibraryConnection) -> None:
        """Return a connection, or close one whose state nobody can vouch for."""
        session = connection.session
        if not session.clean():
            self._discard(connection)
            return
        self.used_at = session.used_at
        # The pool sees each connection once a second, and replaces those that have lived long enough.
        if session.used_at - connection.given_at < _KEPT_SECONDS:
            with self._keeping:
                if not self._waiting and not self._closed and len(self._kept) < self._config.pool_min:
                    self._kept.append(connection)
                    return
        self._pool.putconn(connection)

    def _ask(self) -> LibraryConnection:
        """Wait for a connection of the pool, as one of ``_waiting``."""
        try:
            connection = self._pool.getconn()
        except PoolTimeout as error:
            cause = self._refusal if isinstance(self._refusal, psycopg.Error) else error
            raise self._busy() from cause
        except psycopg.Error as error:
            raise translated(error, sent=False) from error
        finally:
            with self._keeping:
                self._waiting -= 1
        connection.given_at = time.monotonic()
        return connection

    def _discard(self, connection: LibraryConnection) -> None:
        connection.close()
        self._pool.putconn(connection)

    def _free(self, stats: Mapping[str, int]) -> int:
        return stats.get("pool_available", 0) + len(self._kept)

    def _pause(self, attempt: int) -> None:
        sleep(random.random() * 0.005 * 2**attempt)  # noqa: S311 - to keep two losers apart

    def _busy(self) -> BaseException:
        """Return why no connection came in time: what refused the last one, no answer yet, or all are at work."""
        if self._refusal is not None:
            return translated(self._refusal, sent=False)
        stats = self._pool.get_stats()
        if self._free(stats) == stats.get("pool_size", 0):
            return Unavailable("the server cannot be reached: it has not answered yet")
        return Unavailable(
            f"all {stats['pool_size']} connections were busy for {self._config.pool_timeout_seconds:g} s: raise pool_max"
        )

    def _conninfo(self) -> str:
        try:
            self.credentials = self._source()
        except StorageError as error:
            self._refusal = error
            raise
        pooled = self.credentials.pooled_dsn if self._config.pooler == "transaction" else None
        return pooled or self.credentials.conninfo

    def _options(self) -> dict[str, Any]:
        options = {
            "autocommit": True,
            "prepare_threshold": None,
            "connect_timeout": max(1, round(self._config.connect_timeout_seconds)),
            "application_name": self._config.application_name,
        }
        if self._config.statement_timeout_seconds is not None and self._config.pooler == "none":
            milliseconds = max(1, round(self._config.statement_timeout_seconds * 1000))
            options["options"] = f"-c statement_timeout={milliseconds}"
        return options

    def _configure(self, connection: LibraryConnection) -> None:
        """Check a new connection and give it its session; one that was tried has it."""
        if hasattr(connection, "session"):
            return
        pooled = self._config.pooler == "transaction"
        given = self.credentials
        try:
            facts = (connection.execute(FACTS, (given.schema,), prepare=False)).fetchone()
            found = installation(given.schema, facts)
            asked = sql.SQL(TENANT).format(schema=sql.Identifier(given.schema))
            row = (connection.execute(asked, prepare=False)).fetchone()
            check_tenant(None if row is None else row[0], given.tenant_id, given.mode)
        except psycopg.Error as error:
            self._refusal = error
            raise translated(error, sent=False) from error
        except StorageError as error:
            self._refusal = error
            raise
        self._refusal = None
        watch(connection)
        connection.session = Session(
            connection,
            self._installation(found),
            prepares=not pooled,
            pipelines=self._pipelines,
        )

    def _try_connections(self) -> None:
        """Connect, and find out whether what stands before the server lets pipelines through, before any call is made.

        One try that fails may be the server's restart, so there is a second on a connection of its own. When no pipeline
        went through but statements do, this login does without pipelines.
        """
        reason: str | None = None
        for _ in range(_TRIALS):
            with self._trying() as connection:
                if not self._pipelines:
                    return
                reason = connection.wait(connection.session.trial(), _LOOK_SECONDS)
                if reason is None:
                    return
                # Its state is nobody's to know; a polite end would wait for it.
                connection.close()
        self._pipelines = False
        with self._trying() as connection:
            _LOGGER.warning(
                "pipelines do not go through to %s:%s (%s): statements are sent one by one, at a round trip each;"
                ' pipeline="off" says so without a trial',
                connection.info.host,
                connection.info.port,
                reason,
            )

    @contextmanager
    def _trying(self) -> Iterator[LibraryConnection]:
        """Give a connection that is checked; when it is still open afterwards, it becomes the pool's first."""
        connection = LibraryConnection.connect(self._conninfo(), **self._options())
        try:
            self._configure(connection)
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.closed or self._config.pool_min == 0:
            connection.close()
        else:
            self._tried = connection

    def _installation(self, found: Installation) -> Installation:
        """Return one object for all connections that find the same facts, so that statements are compiled once."""
        if self._found is None or self._found.oids != found.oids or self._found.extensions != found.extensions:
            self._found = found
        return self._found


class Logins(Protocol):
    """What knows the logins of tenants."""

    @property
    def prepares(self) -> bool:
        """Whether statements are prepared: not behind poolers that share a session among clients."""
        ...

    def known(self, tenant_id: str) -> Login | None:
        """Return the pool of a tenant's login if it is open."""
        ...

    def login(self, tenant_id: str) -> Login:
        """Return the pool of a tenant's login."""
        ...

    def capability(self, tenant_id: str) -> str | None:
        """Return what enters a tenant in sealed mode."""
        ...

    def renew_capability(self, tenant_id: str) -> bool:
        """Ask for a tenant's credentials again; tell whether its capability has changed."""
        ...


class Database:
    """One tenant's view of PostgreSQL, for one store: every statement is entered as the tenant."""

    def __init__(self, logins: Logins, tenant_id: str, store: str) -> None:
        """Take what gives the tenant's login."""
        self._logins = logins
        self._store = store
        self.tenant_id = tenant_id
        self.prepares = logins.prepares

    def fetch(self, query: Query, **values: Any) -> list[Row]:
        """Run one statement, in one round trip and one transaction; return its rows."""
        return (self.run(((query, values),)))[0]

    def run(self, calls: Sequence[Call]) -> list[list[Row]]:
        """Run several statements in one round trip and one transaction; return the rows of each."""
        attempt = 1
        while True:
            login = self._logins.known(self.tenant_id) or self._logins.login(self.tenant_id)
            try:
                return login.run(calls, self.tenant_id, self._enter(login))
            except PermissionDenied as error:
                # The capability was rotated away; nothing was done, and the Secret may hold the next one by now.
                refused = getattr(error.__cause__, "sqlstate", None) == _REFUSED
                if attempt > 1 or not (login.sealed and refused and self._logins.renew_capability(self.tenant_id)):
                    raise
            except Unavailable as error:
                self._check_retired(error, attempt)
            attempt += 1

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction for statements that depend on each other's rows; it commits when the block ends well."""
        login, connection = self._lend()
        try:
            with Transaction(connection, self.tenant_id, self._enter(login)).whole() as transaction:
                yield transaction
        finally:
            login.take_back(connection)

    def _lend(self) -> tuple[Login, LibraryConnection]:
        attempt = 1
        while True:
            login = self._logins.login(self.tenant_id)
            try:
                return login, login.lend()
            except Unavailable as error:
                self._check_retired(error, attempt)
            attempt += 1

    def _check_retired(self, error: Unavailable, attempt: int) -> None:
        """Let a call ask for its login again, whose pool gave way to another tenant's just now: nothing was sent."""
        if not isinstance(error.__cause__, PoolClosed) or attempt == _ATTEMPTS:
            raise error

    def _enter(self, login: Login) -> Call | None:
        if login.sealed:
            return _ENTER, {"capability": self._logins.capability(self.tenant_id), "store": self._store}
        return None


class Transaction:
    """Statements in one open transaction; its beginning and the entry travel with the first of them."""

    def __init__(self, connection: LibraryConnection, tenant_id: str, enter: Call | None) -> None:
        """Take a connection that is idle."""
        self._connection = connection
        self._tenant_id = tenant_id
        self._enter = enter
        self._begun = False

    @contextmanager
    def whole(self) -> Iterator[Transaction]:
        """Commit when the block ends well; otherwise nothing of it is kept."""
        try:
            yield self
            self.end(b"COMMIT")
        except psycopg.Error as error:
            self.give_up()
            raise translated(error) from error
        except BaseException:
            self.give_up()
            raise

    def fetch(self, query: Query, **values: Any) -> list[Row]:
        """Run one statement; return its rows."""
        return (self.run(((query, values),)))[0]

    def run(self, calls: Sequence[Call]) -> list[list[Row]]:
        """Run several statements in one round trip; return the rows of each."""
        session = self._connection.session
        wanted = [session.encode(call, self._tenant_id) for call in calls]
        try:
            if self._begun:
                return self._connection.wait(session.within(wanted))
            self._begun = True
            if self._enter is None:
                return self._connection.wait(session.begin(wanted))
            entering = session.encode(self._enter, self._tenant_id)
            return (self._connection.wait(session.begin([entering, *wanted])))[1:]
        except psycopg.Error as error:
            raise translated(error) from error

    def end(self, command: bytes) -> None:
        """Commit or roll back, when anything was begun."""
        if self._begun:
            self._begun = False
            self._connection.wait(self._connection.session.command(command))

    def give_up(self) -> None:
        """Roll back; a connection that cannot is closed when it is given back."""
        try:
            self.end(b"ROLLBACK")
        except psycopg.Error:
            self._connection.close()
