"""The pool's guard: a breaker that opens and closes by its clock, faults that tell what to do, and bounded retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest

from storage_operator.adapters.postgres import installation as contacted
from storage_operator.adapters.postgres import server as guarded
from storage_operator.adapters.postgres.faults import DatabaseFault, translate
from storage_operator.adapters.postgres.installation import address_of, identify
from storage_operator.adapters.postgres.server import Address, Breaker, Server
from tests.plugins.installation import Installation

DOWN = DatabaseFault("Unreachable", "down", connection=True)


def test_the_breaker_opens_longer_each_time_and_forgets_on_success() -> None:
    """One second, doubling to thirty; a success closes it for good."""
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    lengths = []
    for _ in range(7):
        breaker.failed(DOWN)
        lengths.append(breaker.open_until - now)
        with pytest.raises(DatabaseFault, match="down"):
            breaker.check()
        now = breaker.open_until
        breaker.check()
    assert lengths == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    breaker.succeeded()
    now = 0.0
    breaker.check()


def test_calls_that_fail_together_open_the_breaker_once() -> None:
    """A server that is away for a moment in the middle of a burst is asked again after a second, not after thirty."""
    now = 0.0
    breaker = Breaker(clock=lambda: now)
    for _ in range(10):
        breaker.failed(DOWN)
    assert (breaker.failures, breaker.open_until) == (1, 1.0)
    breaker.succeeded()
    breaker.failed(DOWN)
    assert (breaker.failures, breaker.open_until) == (1, 1.0)
    now = 1.0
    for _ in range(10):
        breaker.failed(DOWN)
    assert (breaker.failures, breaker.open_until) == (2, 3.0)


def test_the_breaker_raises_a_new_fault_each_time() -> None:
    """The fault that it keeps does not grow a traceback with every caller that it turns away."""
    breaker = Breaker(clock=lambda: 0.0)
    kept = DatabaseFault("Unreachable", "down", connection=True)
    breaker.failed(kept)
    for _ in range(3):
        with pytest.raises(DatabaseFault) as caught:
            breaker.check()
        assert caught.value is not kept
    assert kept.__traceback__ is None


async def test_a_first_contact_that_fails_opens_the_breaker() -> None:
    """A server that was never reached turns the next caller away at once."""
    server = Server(Address("host=127.0.0.1 port=1 user=u dbname=d", "llmspell"))
    with pytest.raises(DatabaseFault):
        await server.query("SELECT 1")
    assert server.breaker.failures == 1
    assert server.breaker.open_until > 0


@pytest.fixture
async def server(installation: Installation) -> AsyncIterator[Server]:
    """Give a server that works as the owner."""
    facts = await identify(installation.operator_dsn, installation.schema)
    made = Server(address_of(installation.operator_dsn, facts, installation.schema, 4))
    yield made
    await made.close()


async def test_a_server_that_stops_answering_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own timeouts bind only a server that works: ours ends the wait, opens the breaker, and the pool recovers."""
    await server.query("SELECT 1")
    with monkeypatch.context() as patched:
        patched.setattr(guarded, "ANSWER_SECONDS", 0.3)
        with pytest.raises(DatabaseFault, match="did not answer in time"):
            await server.query("SELECT pg_sleep(300)")
    assert server.breaker.failures == 1
    server.breaker.succeeded()
    assert await server.query("SELECT 1") == [(1,)]


async def test_a_frozen_server_does_not_keep_its_first_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lets anybody in and then says nothing, whether it hangs or means it."""
    contacted_seconds = contacted.CONTACT_SECONDS
    monkeypatch.setattr(contacted, "CONTACT_SECONDS", 0.3)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            for answer in (b"N", b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"):
                length = int.from_bytes(await reader.readexactly(4))
                await reader.readexactly(length - 4)
                writer.write(answer)
            await reader.read()
        ended.set()

    ended = asyncio.Event()
    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    started = asyncio.get_running_loop().time()
    with pytest.raises(DatabaseFault, match="did not answer in time"):
        await identify(f"host=127.0.0.1 port={port} user=u dbname=d gssencmode=disable", "llmspell")
    assert asyncio.get_running_loop().time() - started < contacted_seconds
    listener.close()
    await ended.wait()


async def test_many_first_callers_share_one_pool(server: Server, installation: Installation) -> None:
    """A burst against a fresh server opens no more sessions than its cap."""
    await asyncio.gather(*(server.query("SELECT pg_sleep(0.02)") for _ in range(40)))
    with psycopg.connect(installation.superuser_dsn) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'llmspell-operator' AND datname = %s",
            (installation.database.name,),
        ).fetchone()
    assert row is not None
    assert 0 < row[0] <= 4


async def test_a_failed_script_leaves_nothing_and_a_usable_session(server: Server) -> None:
    """A transaction that fails half way is gone, and the next caller gets a clean session."""
    broken = "BEGIN; UPDATE llmspell.components SET enabled = false; SELECT 1/0; COMMIT;"
    for _ in range(6):
        with pytest.raises(DatabaseFault, match="division"):
            await server.script(broken, 4)
    assert await server.query("SELECT count(*) FROM llmspell.components WHERE NOT enabled") == [(0,)]


async def test_an_ended_session_is_a_connection_fault_and_heals(server: Server, installation: Installation) -> None:
    """When the server ends a session the caller is told to come again, and coming again works."""
    await server.query("SELECT 1")
    with psycopg.connect(installation.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'llmspell-operator' "
            "AND datname = %s",
            (installation.database.name,),
        )
    with contextlib.suppress(DatabaseFault):
        await server.query("SELECT 1")
    if server.breaker.last is not None:
        assert server.breaker.last.reason == "Unreachable"
        await asyncio.sleep(1.1)
    assert await server.query("SELECT 2") == [(2,)]


@pytest.mark.parametrize(
    ("state", "text", "transient"),
    [
        ("XX000", "tuple concurrently updated", True),
        ("XX000", "something broke", False),
        ("40P01", "deadlock detected", True),
        ("23505", 'duplicate key value violates unique constraint "pg_authid_rolname_index"', True),
        ("23505", 'duplicate key value violates unique constraint "tenants_pkey"', False),
        ("42501", "permission denied", False),
    ],
)
def test_only_what_may_succeed_at_once_is_retried(state: str, text: str, transient: bool) -> None:
    """Concurrent catalog changes are retried, mistakes are not."""
    assert DatabaseFault("DatabaseError", text, sqlstate=state).transient is transient


def test_what_is_not_a_drivers_error_is_a_bug() -> None:
    """Translating never hides a programming error."""
    with pytest.raises(KeyError):
        translate(KeyError("x"))
