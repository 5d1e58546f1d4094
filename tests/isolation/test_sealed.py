"""Sealed mode: what opens a tenant and what does not, for how long, and which values reach nothing."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.isolation.canaries import Marker, Watch, discover, fill
from tests.isolation.sealed import ENTER, STATEMENTS, Client
from tests.isolation.tenants import Tenant, provision, row_of
from tests.plugins.installation import Installation

CURRENT = "SELECT llmspell.current_tenant()"
HOSTILE = {
    "quote": "' OR true --",
    "statement": "x'; DELETE FROM llmspell.kv_store; --",
    "cast": "delta-corp'::text",
    "neighbour": "delta-corp",
    "separator": "delta-corp\x1f1",
    "newline": "delta-corp\n",
    "wildcard": "%",
    "regex": ".*",
    "dollar": "$x$",
    "backslash": "\\'; --",
    "percent-s": "%s %(x)s",
    "right-to-left": "\u202edelta-corp",
    "look-alike": "d\u0435lta-corp",
    "long": "d" * 1_000_000,
    "empty": "",
    "json": '{"$ne": null}',
    "context": "0" * 64 + ":delta-corp",
}


@dataclass(frozen=True, slots=True)
class Shared:
    """Two sealed tenants of one installation, and a way to share a connection."""

    installation: Installation
    gamma: Tenant
    delta: Tenant
    marker: Marker
    watch: Watch

    def owner(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement on the control tables as the operator does."""
        with closing(self.installation.connect(self.installation.names.owner)) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def capability(self, tenant: str, version: int) -> str:
        """Return a capability as the operator derives it."""
        return str(self.owner("SELECT llmspell.capability(%s, %s)", tenant, version)[0][0])


@pytest.fixture(scope="module")
def shared(installation: Installation) -> Iterator[Shared]:
    """Give two sealed tenants; delta's contents are marked in every table."""
    rows = [row_of(name, isolation="sealed") for name in ("gamma-corp", "delta-corp")]
    gamma, delta = provision(installation, [*rows, row_of("epsilon-corp")])[:2]
    tables, marker = discover(installation), Marker.drawn(random.Random(7))
    fill(installation, tables, "delta-corp", marker)
    watch = Watch(installation, tables, "gamma-corp", [])
    yield Shared(installation, gamma, delta, marker, watch)
    watch.close()


@pytest.fixture
def connection(shared: Shared) -> Iterator[psycopg.Connection[Any]]:
    """Give a connection of the shared login."""
    with closing(shared.gamma.connect()) as opened:
        yield opened


def _enter(connection: psycopg.Connection[Any], *values: str | None) -> None:
    connection.execute(ENTER, values)


def _refusal(connection: psycopg.Connection[Any], *values: str | None) -> tuple[str | None, str | None]:
    with pytest.raises(psycopg.Error) as caught, connection.transaction():
        _enter(connection, *values)
    return caught.value.sqlstate, caught.value.diag.message_primary


def test_without_entering_nothing_is_there(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """The shared login alone is no tenant and sees no row."""
    assert connection.execute(CURRENT).fetchone() == (None,)
    assert connection.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (0,)


def test_a_capability_opens_its_tenant_for_one_transaction(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """Inside the transaction the tenant is there, after it nobody is."""
    with connection.transaction():
        _enter(connection, "delta-corp", shared.delta.capability, "kv")
        assert connection.execute(CURRENT).fetchone() == ("delta-corp",)
        assert connection.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (2,)
    assert connection.execute(CURRENT).fetchone() == (None,)


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in HOSTILE.items()])
@pytest.mark.parametrize("position", ["tenant", "capability", "store"])
def test_hostile_values_do_not_enter(
    shared: Shared, connection: psycopg.Connection[Any], position: str, value: str
) -> None:
    """No value in any parameter of enter opens another tenant, or leaves a context behind."""
    values: dict[str, str | None] = {"tenant": "gamma-corp", "capability": shared.gamma.capability, "store": "kv"}
    values[position] = value
    state, message = _refusal(connection, *values.values())
    assert state == ("42501" if position == "store" else "28000")
    assert shared.marker.found_in(message or "") is None
    assert connection.execute(CURRENT).fetchone() == (None,)


@pytest.mark.parametrize("missing", ["tenant", "capability", "store"])
def test_a_missing_value_does_not_enter(shared: Shared, connection: psycopg.Connection[Any], missing: str) -> None:
    """NULL is refused in every parameter."""
    values: dict[str, str | None] = {"tenant": "gamma-corp", "capability": shared.gamma.capability, "store": "kv"}
    values[missing] = None
    assert _refusal(connection, *values.values())[0] in {"28000", "42501"}


READS = tuple(name for name, (_, text) in STATEMENTS.items() if text.startswith("SELECT") and "erase" not in text)


@pytest.mark.parametrize("name", READS)
def test_the_statements_find_what_is_there(shared: Shared, connection: psycopg.Connection[Any], name: str) -> None:
    """The owner of the marked rows reads them with the same statements: finding nothing below means something."""
    arguments = {"kv-scan": "k", "session-find": "active", "artifact-read": "a" * 64}
    arguments |= {
        "entity-find": f"text {shared.marker.digits} name",
        "pattern-find": f"text {shared.marker.digits} scope",
    }
    assert Client(shared.delta, connection).run(name, arguments.get(name, "known")) != []


@pytest.mark.parametrize("name", list(STATEMENTS))
def test_hostile_values_reach_nothing(shared: Shared, connection: psycopg.Connection[Any], name: str) -> None:
    """As predicate or as argument, no hostile value brings a neighbour's content back or changes its rows."""
    client, heard = Client(shared.gamma, connection), []
    extra = (b"v",) if name == "kv-put" else ()
    for value in HOSTILE.values():
        for predicate, argument in ((value, "known"), (None, value), ("delta-corp", "known")):
            try:
                heard.append(repr(client.run(name, argument, *extra, predicate=predicate)))
            except psycopg.Error as error:
                heard += [str(error), str(error.diag.message_detail)]
    assert shared.marker.found_in("".join(heard)) is None
    assert shared.watch.changes() == []


def test_a_zero_byte_never_leaves_the_client(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """PostgreSQL's text cannot hold it, and the driver says so before anything is sent."""
    with pytest.raises(psycopg.DataError):
        Client(shared.gamma, connection).run("kv-get", "known\x00")


def test_all_refusals_look_alike(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """A wrong capability, an unknown tenant, a suspended one and one in role mode get the same answer."""
    shared.owner("UPDATE llmspell.tenants SET suspended = true WHERE tenant = 'delta-corp'")
    try:
        answers = {
            _refusal(connection, "gamma-corp", "v1." + "0" * 64, "kv"),
            _refusal(connection, "gamma-corp", shared.delta.capability, "kv"),
            _refusal(connection, "no-such-tenant", shared.capability("no-such-tenant", 1), "kv"),
            _refusal(connection, "delta-corp", shared.delta.capability, "kv"),
            _refusal(connection, "epsilon-corp", shared.capability("epsilon-corp", 1), "kv"),
        }
    finally:
        shared.owner("UPDATE llmspell.tenants SET suspended = false WHERE tenant = 'delta-corp'")
    assert answers == {("28000", "the tenant can not be entered")}


def test_a_retained_tenant_is_closed(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """After deletion with Retain the rows stay and the capability opens nothing."""
    shared.owner("UPDATE llmspell.tenants SET state = 'retained' WHERE tenant = 'delta-corp'")
    try:
        assert _refusal(connection, "delta-corp", shared.delta.capability, "kv")[0] == "28000"
    finally:
        shared.owner("UPDATE llmspell.tenants SET state = 'active' WHERE tenant = 'delta-corp'")


def _context(connection: psycopg.Connection[Any], tenant: Tenant) -> str:
    _enter(connection, tenant.tenant_id, tenant.capability, "kv")
    row = connection.execute("SELECT current_setting('llmspell.context')").fetchone()
    assert row is not None
    return str(row[0])


def _claim(connection: psycopg.Connection[Any], context: str) -> Any:
    connection.execute("SELECT set_config('llmspell.context', %s, true)", (context,))
    return connection.execute(CURRENT).fetchone()


def test_a_context_dies_with_its_transaction(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """The context of one transaction, set again in the next one of the same backend, is nobody's."""
    with connection.transaction():
        context = _context(connection, shared.delta)
        assert _claim(connection, context) == ("delta-corp",)
    with connection.transaction():
        assert _claim(connection, context) == (None,)
        assert connection.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (0,)


def test_a_context_dies_with_a_chained_commit(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """COMMIT AND CHAIN begins another transaction, too."""
    connection.execute("BEGIN")
    context = _context(connection, shared.delta)
    connection.execute("COMMIT AND CHAIN")
    assert _claim(connection, context) == (None,)
    connection.execute("ROLLBACK")


def test_a_context_is_useless_in_another_backend(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """While the one transaction is open, another connection cannot use its context."""
    with closing(shared.gamma.connect()) as other, connection.transaction(), other.transaction():
        assert _claim(other, _context(connection, shared.delta)) == (None,)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda c: c.replace("delta", "gamma"), id="other-tenant"),
        pytest.param(lambda c: c[:64].upper() + c[64:], id="upper-case"),
        pytest.param(lambda c: c[:63] + ("0" if c[63] != "0" else "1") + c[64:], id="one-digit"),
        pytest.param(lambda c: c + " ", id="longer"),
        pytest.param(lambda c: c[:64], id="mac-only"),
        pytest.param(lambda c: ":" + c[65:], id="no-mac"),
        pytest.param(lambda c: "0" * 64 + c[64:], id="zeros"),
        pytest.param(lambda c: c[:64] + "x" + c[65:] + "\x1f1", id="separator"),
    ],
)
def test_a_forged_context_is_nobody(
    shared: Shared, connection: psycopg.Connection[Any], forge: Callable[[str], str]
) -> None:
    """A context that was not issued for exactly this tenant, backend and transaction names nobody."""
    with connection.transaction():
        forged = forge(_context(connection, shared.delta))
        assert _claim(connection, forged) == (None,)


def test_two_versions_live_during_the_overlap(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """After a rotation the new and the previous capability open; when the overlap is over, the previous one does not."""
    advance = (
        "UPDATE llmspell.tenants SET previous_capability_version = capability_version,"
        " previous_capability_expires_at = now() + interval '1 hour', capability_version = capability_version + 1"
        " WHERE tenant = 'gamma-corp' RETURNING capability_version"
    )
    version = shared.owner(advance)[0][0]
    old, new, next_one = (shared.capability("gamma-corp", version + step) for step in (-1, 0, 1))
    try:
        for live in (old, new):
            with connection.transaction():
                _enter(connection, "gamma-corp", live, "kv")
        assert _refusal(connection, "gamma-corp", next_one, "kv")[0] == "28000"
        shared.owner("UPDATE llmspell.tenants SET previous_capability_expires_at = now() WHERE tenant = 'gamma-corp'")
        assert _refusal(connection, "gamma-corp", old, "kv")[0] == "28000"
        shared.owner(advance)
        shared.owner(advance)
        assert _refusal(connection, "gamma-corp", old, "kv")[0] == "28000"
    finally:
        shared.owner(
            "UPDATE llmspell.tenants SET capability_version = %s, previous_capability_version = NULL"
            " WHERE tenant = 'gamma-corp'",
            version - 1,
        )


def test_a_store_outside_the_set_is_closed(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """A tenant without a store, and a store that its cluster disabled, answer with the store's own error."""
    shared.owner("UPDATE llmspell.tenants SET stores = '{kv}' WHERE tenant = 'gamma-corp'")
    shared.owner("UPDATE llmspell.components SET enabled = false WHERE store = 'kv'")
    try:
        for store in ("sessions", "kv", "no-such-store"):
            assert _refusal(connection, "gamma-corp", shared.gamma.capability, store)[0] == "42501"
    finally:
        shared.owner("UPDATE llmspell.components SET enabled = true WHERE store = 'kv'")
    with connection.transaction():
        _enter(connection, "gamma-corp", shared.gamma.capability, "kv")


def test_limits_hold_for_the_transaction(shared: Shared, connection: psycopg.Connection[Any]) -> None:
    """Entering sets the tenant's time-outs and memory, a statement over the limit ends, and COMMIT takes them away."""
    shared.owner(
        "UPDATE llmspell.tenants SET statement_timeout_ms = 800, lock_timeout_ms = 700,"
        " idle_in_transaction_timeout_ms = 9000, work_mem_kb = 640 WHERE tenant = 'gamma-corp'"
    )
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "work_mem")
    shown = sql.SQL("SELECT {}").format(sql.SQL(", ").join(sql.SQL("current_setting({})").format(n) for n in names))
    try:
        before = connection.execute(shown).fetchone()
        connection.execute("BEGIN")
        _enter(connection, "gamma-corp", shared.gamma.capability, "kv")
        assert connection.execute(shown).fetchone() == ("800ms", "700ms", "9s", "640kB")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        connection.execute("ROLLBACK")
        assert connection.execute(shown).fetchone() == before
    finally:
        shared.owner(
            "UPDATE llmspell.tenants SET statement_timeout_ms = NULL, lock_timeout_ms = NULL,"
            " idle_in_transaction_timeout_ms = NULL, work_mem_kb = NULL WHERE tenant = 'gamma-corp'"
        )


@pytest.fixture
def over_quota(shared: Shared) -> Iterator[None]:
    """Put gamma over an enforced quota while it holds one value."""
    with ExitStack() as stack:
        opened = stack.enter_context(closing(shared.gamma.connect()))
        Client(shared.gamma, opened).run("kv-put", "kept", b"value")
        shared.owner(
            "UPDATE llmspell.tenants SET over_quota = true, quota_enforced = true, quota_bytes = 10, used_bytes = 12"
            " WHERE tenant = 'gamma-corp'"
        )
        yield
        shared.owner("UPDATE llmspell.tenants SET over_quota = false WHERE tenant = 'gamma-corp'")


def test_over_the_quota_only_deletion_writes(
    shared: Shared, connection: psycopg.Connection[Any], over_quota: None
) -> None:
    """INSERT and UPDATE are refused with the quota's message and numbers, reading and DELETE go on."""
    client = Client(shared.gamma, connection)
    for statement in (
        "INSERT INTO llmspell.kv_store (tenant_id, key, value) VALUES (%s, 'more', 'x')",
        "UPDATE llmspell.kv_store SET value = 'x' WHERE tenant_id = %s AND key = 'kept'",
    ):
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded) as caught:
            client.query(statement, "gamma-corp")
        assert caught.value.diag.message_primary == "storage quota exceeded"
        assert caught.value.diag.message_detail == "12 of 10 bytes used."
    assert client.run("kv-get", "kept")[0][0] == b"value"
    assert client.run("kv-delete", "kept") == [(b"value",)]
