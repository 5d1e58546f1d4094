"""One PostgreSQL server of one StorageCluster: a bounded pool, a circuit breaker and counted round trips.

A dead server costs its own tenants a wait and nobody else anything: each server has its own pool and its own cap, and
after a failed connection further calls fail at once until the breaker lets one through again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from storage_operator.adapters.postgres.faults import DatabaseFault, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logging.getLogger("psycopg.pool").setLevel(
    logging.CRITICAL
)  # the breaker and the conditions report what the pool meets

CONNECT_TIMEOUT_SECONDS = 5
ACQUIRE_TIMEOUT_SECONDS = 15.0
STATEMENT_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 3_000
# A server's own timeouts bound only a server that works; one that is frozen, or worse, would keep a worker for ever.
ANSWER_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 15.0
CONTACT_SECONDS = 20.0
_ATTEMPTS_MAX = 8


@dataclass(slots=True)
class Breaker:
    """Opens after a failed connection, for 1 s doubling to 30 s; the first call after that decides anew."""

    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    open_until: float = 0.0
    last: DatabaseFault | None = None

    def check(self) -> None:
        """Raise the last connection failure while the breaker is open."""
        if self.last is not None and self.clock() < self.open_until:
            # A new one each time: raising one object again and again grows its traceback for as long as the outage.
            raise DatabaseFault(self.last.reason, self.last.message, sqlstate=self.last.sqlstate, connection=True)

    def failed(self, fault: DatabaseFault) -> None:
        """Open for longer each time in a row; calls that were under way together fail once."""
        was_open = self.last is not None and self.clock() < self.open_until
        self.last = fault
        if was_open:
            return
        self.failures += 1
        self.open_until = self.clock() + min(30.0, 2.0 ** min(self.failures - 1, 5))

    def succeeded(self) -> None:
        """Close, and forget."""
        self.failures, self.last = 0, None

    @property
    def retry_after(self) -> float:
        """Seconds until a call may pass again."""
        return max(0.5, self.open_until - self.clock())


@dataclass(slots=True)
class Meter:
    """What a server was asked, for metrics and for the benchmarks' figures an object."""

    statements: int = 0
    round_trips: int = 0
    connections: int = 0
    retries: int = 0
    listeners: list[Callable[[int, int], None]] = field(default_factory=list)

    def count(self, statements: int, round_trips: int = 1) -> None:
        """Add one exchange with the server."""
        self.statements += statements
        self.round_trips += round_trips
        for listener in self.listeners:
            listener(statements, round_trips)


@dataclass(frozen=True, slots=True)
class Address:
    """How to reach one database as the operator: a conninfo (secret), the schema, and the role to work as."""

    conninfo: str = field(repr=False)
    schema: str
    role: str | None = None
    concurrency: int = 4


class Server:
    """A pool of sessions that work as the owner role with a pinned search path.

    Every coroutine raises ``DatabaseFault``; a driver's own error never leaves this module.
    """

    def __init__(self, address: Address) -> None:
        """Prepare; nothing is opened before the first call."""
        self.address = address
        self.breaker = Breaker()
        self.meter = Meter()
        self._gate = asyncio.Semaphore(address.concurrency)
        self._opening = asyncio.Lock()
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] | None = None

    async def close(self) -> None:
        """Close every session; the server may be used again afterwards."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=5)

    async def query(self, text: str, params: Sequence[Any] = (), *, role: str | None = None) -> list[TupleRow]:
        """Run one statement in a transaction of its own and return its rows: one round trip.

        ``role`` is a role to work as instead of the owner (maintenance); it costs two round trips more.
        """

        async def run(connection: psycopg.AsyncConnection[TupleRow]) -> list[TupleRow]:
            """Run it on one session of the pool."""
            if role is None:
                self.meter.count(1)
                async with answering(ANSWER_SECONDS):
                    cursor = await connection.execute(text.encode(), params or None)
                return await cursor.fetchall() if cursor.description is not None else []
            async with answering(ANSWER_SECONDS), connection.transaction():
                await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                cursor = await connection.execute(text.encode(), params or None)
                rows = await cursor.fetchall() if cursor.description is not None else []
            self.meter.count(2, 4)
            return rows

        return await self._with_retries(run)

    async def script(self, text: str, statements: int, *, within: float = ANSWER_SECONDS) -> None:
        """Run rendered statements as one transaction in one round trip; all of them hold, or none.

        ``text`` begins with BEGIN and ends with COMMIT; a failure rolls back. Transient failures (concurrent GRANTs,
        a role made by a neighbour at the same moment) are retried with jitter, within a bound. ``within`` is longer
        for a text that sets itself more time.
        """

        async def run(connection: psycopg.AsyncConnection[TupleRow]) -> list[TupleRow]:
            """Send it whole to one session of the pool."""
            self.meter.count(statements)
            try:
                async with answering(within):
                    await connection.execute(text.encode(), prepare=False)
            except psycopg.Error:
                if not connection.closed:
                    await connection.rollback()
                raise
            return []

        await self._with_retries(run)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
        """Lend one session for work of several statements; counted against the cap, translated like all else."""
        self.breaker.check()
        async with self._gate:
            try:
                async with self._opening:
                    pool = await self._opened()
                async with pool.connection(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                    yield connection
            except (psycopg.Error, TimeoutError) as error:
                raise await self._failed(error) from error
            except DatabaseFault as fault:
                if fault.connection:
                    self.breaker.failed(fault)
                raise
        self.breaker.succeeded()

    async def _with_retries(self, run: Callable[[psycopg.AsyncConnection[TupleRow]], Any]) -> list[TupleRow]:
        for attempt in range(_ATTEMPTS_MAX):
            try:
                async with self.session() as connection:
                    return cast("list[TupleRow]", await run(connection))
            except DatabaseFault as fault:
                if not fault.transient or attempt == _ATTEMPTS_MAX - 1:
                    raise
                self.meter.retries += 1
                await asyncio.sleep(random.uniform(0.005, 0.02) * 2**attempt)  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable")

    async def _failed(self, error: Exception) -> DatabaseFault:
        fault = (
            translate(error)
            if isinstance(error, psycopg.Error)
            else DatabaseFault("Unreachable", "the server did not answer in time", connection=True)
        )
        if fault.connection:
            if fault.message.startswith("no connection became free") or isinstance(error, TimeoutError):
                fault = await self._diagnose(fault)
            self.breaker.failed(fault)
        return fault

    async def _diagnose(self, fault: DatabaseFault) -> DatabaseFault:
        """Ask once directly: a pool only knows that nothing came."""
        try:
            connection = await connect(self.address.conninfo)
        except DatabaseFault as told:
            return told
        await connection.close()
        return fault

    async def _opened(self) -> AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]]:
        if self._pool is None:
            first = await connect(self.address.conninfo)  # a clear error now, instead of a pool's silence
            await first.close()
            pool: AsyncConnectionPool[psycopg.AsyncConnection[TupleRow]] = AsyncConnectionPool(
                self.address.conninfo,
                kwargs={"autocommit": True, **_SESSION},
                min_size=0,
                max_size=self.address.concurrency,
                configure=self._configure,
                open=False,
                timeout=ACQUIRE_TIMEOUT_SECONDS,
                reconnect_timeout=ACQUIRE_TIMEOUT_SECONDS,
                max_idle=120.0,
                max_lifetime=1800.0,
            )
            await pool.open(wait=False)
            self._pool = pool
        return self._pool

    async def _configure(self, connection: psycopg.AsyncConnection[TupleRow]) -> None:
        self.meter.connections += 1
        if self.address.role is not None:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.address.role)))


_SESSION: dict[str, Any] = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "application_name": "llmspell-operator",
    "options": (
        "-c search_path=pg_catalog,pg_temp -c row_security=on "
        f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS} "
        "-c idle_in_transaction_session_timeout=30000 -c client_min_messages=warning "
        # What is observed is asked in the same words for every object, and planning it costs twice what answering does.
        "-c plan_cache_mode=force_generic_plan"
    ),
}


@asynccontextmanager
async def answering(seconds: float) -> AsyncIterator[None]:
    """Raise ``DatabaseFault`` (Unreachable) when a server does not answer within the time, or does not let us in."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise DatabaseFault("Unreachable", "the server did not answer in time", connection=True) from error


async def connect(conninfo: str, **overrides: Any) -> psycopg.AsyncConnection[TupleRow]:
    """Open one session outside the pool (first contact, migrations, the probe); raises ``DatabaseFault``."""
    try:
        async with answering(CONNECT_TIMEOUT_SECONDS + 1):
            return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, **{**_SESSION, **overrides})
    except psycopg.Error as error:
        raise translate(error) from error
