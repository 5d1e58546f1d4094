"""Sealed mode: what one user of a shared connection leaves on it by hand, and the next tenant there.

Each residue is left by whoever held the connection before, directly and through a PgBouncer whose single server
connection both clients share. The next tenant uses the library's way (unnamed statements, qualified names, entering in
the same transaction). It must get its own rows or a clear error, never another's, and give nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.isolation.sealed import ENTER, Client
from tests.isolation.tenants import Tenant, provision, row_of
from tests.plugins.installation import Installation
from tests.plugins.pgbouncer import PgBouncer

FIRST_VALUE, NEXT_VALUE = b"contents-of-the-first", b"contents-of-the-next"
_THEFT = "SELECT pg_notify('thief', $1::text) IS NULL"
RESIDUES = {
    # The driver's own names: psycopg would call its first prepared statement so.
    "prepared-by-the-drivers-name": [f"PREPARE _pg3_0 (text) AS {_THEFT}", f"PREPARE _pg3_1 (text) AS {_THEFT}"],
    "temporary-table": ["CREATE TEMP TABLE kv_store (tenant_id text, key text, value bytea)"],
    "temporary-view": ["CREATE TEMP VIEW current_tenant AS SELECT 'first-corp'::text"],
    "temporary-function": ["CREATE FUNCTION pg_temp.enter(text, text, text) RETURNS void LANGUAGE sql AS ''"],
    "cursor-with-hold": ["DECLARE held CURSOR WITH HOLD FOR SELECT * FROM llmspell.kv_store"],
    "listening": ["LISTEN thief", "LISTEN llmspell"],
    "advisory-locks": ["SELECT pg_advisory_lock(n) FROM generate_series(1, 50) AS n"],
    "search-path": ["SET search_path = pg_temp, public"],
    "no-search-path": ["SET search_path = ''"],
    "row-security-off": ["SET row_security = off"],
    "context-for-the-session": ["SELECT set_config('llmspell.context', current_setting('llmspell.context'), false)"],
    "forged-context": ["SELECT set_config('llmspell.context', repeat('0', 64) || ':first-corp', false)"],
    "seeds-setting": ["SET app.current_tenant_id = 'first-corp'"],
    "read-only": ["SET default_transaction_read_only = on"],
    "serializable": ["SET default_transaction_isolation = 'serializable'"],
    "generic-plans": ["SET plan_cache_mode = force_generic_plan"],
    "chatty": ["SET client_min_messages = debug5", "SET debug_print_plan = on"],
    "other-encoding": ["SET client_encoding = 'LATIN1'", "SET bytea_output = 'escape'", "SET DateStyle = 'SQL, DMY'"],
    "session-default-role": ["SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT"],
}


# Residues under which the next tenant gets an error, and which.
FAIL_CLOSED: dict[str, type[psycopg.Error]] = {
    "row-security-off": psycopg.errors.InsufficientPrivilege,
    "read-only": psycopg.errors.ReadOnlySqlTransaction,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Two sealed tenants with one value each under the same key."""

    installation: Installation
    first: Tenant
    next: Tenant


@pytest.fixture(scope="module")
def setting(installation: Installation) -> Setting:
    """Give both tenants their value."""
    rows = [row_of(name, isolation="sealed") for name in ("first-corp", "next-corp")]
    first, following = provision(installation, rows)
    for tenant, value in ((first, FIRST_VALUE), (following, NEXT_VALUE)):
        with closing(tenant.connect()) as connection:
            Client(tenant, connection).run("kv-put", "shared-key", value)
    return Setting(installation, first, following)


@pytest.fixture(scope="module")
def pooler(setting: Setting, start_pgbouncer: Callable[..., PgBouncer]) -> PgBouncer:
    """Give a PgBouncer with one server connection for the shared login."""
    return start_pgbouncer(setting.installation.database, {setting.first.login: setting.first.password})


Pair = tuple["psycopg.Connection[Any]", "psycopg.Connection[Any]"]


@pytest.fixture(params=["direct", "pgbouncer"])
def pair(request: pytest.FixtureRequest, setting: Setting) -> Iterator[Pair]:
    """Give what the first and the next tenant hold: one connection, or two clients of one server connection."""
    if request.param == "direct":
        with closing(setting.first.connect(prepare_threshold=None)) as connection:
            yield connection, connection
        return
    pooler: PgBouncer = request.getfixturevalue("pooler")
    dsn = pooler.dsn_of(setting.first.dsn)
    clients = [psycopg.connect(dsn, autocommit=True, prepare_threshold=None) for _ in range(2)]
    with closing(clients[0]) as first, closing(clients[1]) as following:
        pids = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients}
        assert len(pids) == 1, "the clients do not share a server connection"
        yield first, following
        first.execute("DISCARD ALL")


def _leave(connection: psycopg.Connection[Any], tenant: Tenant, statements: list[str]) -> None:
    """Leave a residue from inside the first tenant's transaction, as its own code could."""
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(ENTER, (tenant.tenant_id, tenant.capability, "kv"))
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege:
            assert "TEMP" in statement or "pg_temp" in statement  # the database lets nobody make temporary objects


@pytest.mark.parametrize("residue", list(RESIDUES))
def test_the_next_tenant_is_not_reached(setting: Setting, pair: Pair, residue: str) -> None:
    """After any residue the next tenant reads its own value or fails; its value and the first one's stay apart."""
    first, following = pair
    heard: list[str] = []
    first.add_notify_handler(lambda notify: heard.append(notify.payload))
    _leave(first, setting.first, RESIDUES[residue])
    client = Client(setting.next, following)
    if residue in FAIL_CLOSED:
        with pytest.raises(FAIL_CLOSED[residue]) as refused:
            client.run("kv-put", "shared-key", NEXT_VALUE)
        assert FIRST_VALUE.decode() not in str(refused.value)
    else:
        assert client.run("kv-get", "shared-key") == [(NEXT_VALUE, {})]
        assert client.run("kv-scan", "") == [("shared-key", NEXT_VALUE)]
        assert client.run("kv-put", "shared-key", NEXT_VALUE) != []
    first.execute("ROLLBACK")
    assert heard == []
    following.execute("SET row_security = on")
    assert following.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (0,)


def test_off_means_an_error_not_all_rows(setting: Setting, pair: Pair) -> None:
    """With row_security off a statement fails instead of running without the policies."""
    first, following = pair
    _leave(first, setting.first, RESIDUES["row-security-off"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        Client(setting.next, following).run("kv-scan", "")


def test_a_held_cursor_is_why_foreign_sql_is_refused(setting: Setting, pair: Pair) -> None:
    """A cursor held by the first can be fetched by the next, as raw SQL: such a connection is thrown away, not returned."""
    first, following = pair
    with first.transaction():
        first.execute(ENTER, (setting.first.tenant_id, setting.first.capability, "kv"))
        first.execute("DECLARE held CURSOR WITH HOLD FOR SELECT value FROM llmspell.kv_store")
    assert following.execute("FETCH ALL FROM held").fetchall() == [(FIRST_VALUE,)]
    following.execute("DISCARD ALL")
    with pytest.raises(psycopg.errors.InvalidCursorName):
        following.execute("FETCH ALL FROM held")


def test_a_stolen_name_is_why_statements_are_unnamed(setting: Setting) -> None:
    """A driver that prepares by name runs what the first left under it; an unnamed statement does not."""
    with closing(setting.first.connect()) as connection:
        heard: list[str] = []
        connection.add_notify_handler(lambda notify: heard.append(notify.payload))
        _leave(connection, setting.first, ["LISTEN thief", *RESIDUES["prepared-by-the-drivers-name"]])
        connection.pgconn.exec_prepared(b"_pg3_0", [NEXT_VALUE])
        connection.execute("SELECT 1")
        assert heard == [NEXT_VALUE.decode()]
        heard.clear()
        assert Client(setting.next, connection).run("kv-put", "shared-key", NEXT_VALUE) != []
        connection.execute("SELECT 1")
        assert heard == []


def test_discard_all_leaves_nothing(setting: Setting) -> None:
    """One DISCARD ALL removes every residue, so a connection can be vouched for again."""
    with closing(setting.first.connect(prepare_threshold=None)) as connection:
        for residue in RESIDUES.values():
            _leave(connection, setting.first, residue)
            connection.execute("DISCARD ALL")
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE name <> ''),"
            " (SELECT count(*) FROM pg_listening_channels()),"
            " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
            " (SELECT count(*) FROM pg_settings WHERE source = 'session')"
        ).fetchone()
        assert counts == (0, 0, 0, 0, 0)
        assert Client(setting.next, connection).run("kv-get", "shared-key") == [(NEXT_VALUE, {})]


def test_entering_sets_the_tenants_own_timeout(setting: Setting, pair: Pair) -> None:
    """A time-out that the first left does not starve a tenant that declares its own."""
    owner = setting.installation.connect(setting.installation.names.owner)
    first, following = pair
    with closing(owner):
        owner.execute("UPDATE llmspell.tenants SET statement_timeout_ms = 5000 WHERE tenant = 'next-corp'")
        _leave(first, setting.first, ["SET statement_timeout = '30ms'"])
        client = Client(setting.next, following)
        assert client.query("SELECT %s::text, pg_sleep(0.1)::text", "slept") == [("slept", "")]
        owner.execute("UPDATE llmspell.tenants SET statement_timeout_ms = NULL WHERE tenant = 'next-corp'")
