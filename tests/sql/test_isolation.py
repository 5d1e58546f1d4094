"""A tenant reaches its own rows and nobody else's, in both modes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.plugins.installation import Installation
from tests.plugins.tenants import connect, make_app, make_sealed_tenant, make_tenant

INSERT = "INSERT INTO llmspell.test_table (tenant_id, id, value) VALUES (%s, %s, %s)"
TENANT = "SELECT llmspell.current_tenant()"


@pytest.fixture(scope="module")
def logins(installation: Installation) -> dict[str, str]:
    """Give two tenants with a row each: their DSNs by name."""
    made = {tenant: make_tenant(installation, tenant) for tenant in ("acme", "bob-co")}
    for tenant, dsn in made.items():
        with connect(dsn) as connection:
            connection.execute(INSERT, (tenant, "1", f"secret of {tenant}"))
    return made


@pytest.fixture(scope="module")
def sealed(installation: Installation) -> dict[str, str]:
    """Give the shared login's DSN and two tenants' capabilities."""
    made = {tenant: make_sealed_tenant(installation, tenant) for tenant in ("sealed-a", "sealed-b")}
    return {"dsn": make_app(installation), **made}


@pytest.fixture
def app(sealed: dict[str, str]) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Give one connection as the shared login."""
    with connect(sealed["dsn"]) as connection:
        yield connection


def owner_runs(installation: Installation, statement: str, *values: Any) -> None:
    """Change a control table as the owner does."""
    with installation.connect(installation.names.owner) as connection:
        connection.execute(statement.encode(), values)


@pytest.mark.parametrize(
    "attack",
    [
        "SELECT 1",
        "SET app.current_tenant_id = 'bob-co'",
        "SELECT set_config('llmspell.context', repeat('0', 64) || ':bob-co', false)",
        "RESET ALL",
        "SET search_path = pg_temp, llmspell",
        "SET row_security = off",
        "SET session_replication_role = replica",
        "SET ROLE {other}",
        "SET SESSION AUTHORIZATION {other}",
        "CREATE FUNCTION pg_temp.current_tenant() RETURNS text LANGUAGE sql AS $$ SELECT 'bob-co' $$",
    ],
    ids=["plain", "setting", "context", "reset", "path", "row-security", "replica", "set-role", "session", "shadow"],
)
def test_no_statement_opens_a_neighbour(installation: Installation, logins: dict[str, str], attack: str) -> None:
    """Whatever the session says first, it sees its own row or an error, never the neighbour's."""
    other = installation.names.tenant_login("bob-co", "a")
    with connect(logins["acme"]) as session:
        try:
            session.execute(attack.format(other=other).encode())
            seen = session.execute("SELECT tenant_id FROM llmspell.test_table").fetchall()
        except psycopg.Error:
            seen = []
        assert set(seen) <= {("acme",)}


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO llmspell.test_table (tenant_id, id, value) VALUES ('bob-co', '9', 'x')",
        "UPDATE llmspell.test_table SET tenant_id = 'bob-co'",
        "INSERT INTO llmspell.kv_store (tenant_id, key, value) VALUES ('bob-co', 'k', '')",
    ],
    ids=["insert", "move", "other-table"],
)
def test_writing_for_a_neighbour_is_refused(logins: dict[str, str], write: str) -> None:
    """A row can not be given to another tenant."""
    with connect(logins["acme"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(write.encode())


@pytest.mark.parametrize("write", ["UPDATE llmspell.test_table SET value = 'x'", "DELETE FROM llmspell.test_table"])
def test_changes_touch_own_rows_only(logins: dict[str, str], write: str) -> None:
    """A statement without a predicate changes the tenant's rows and no other."""
    with connect(logins["acme"]) as session, session.transaction(force_rollback=True):
        assert session.execute(write.encode()).rowcount == 1
    with connect(logins["bob-co"]) as session:
        assert session.execute("SELECT value FROM llmspell.test_table").fetchall() == [("secret of bob-co",)]


@pytest.mark.parametrize(
    "forbidden",
    [
        "SELECT * FROM llmspell.tenants",
        "SELECT * FROM llmspell.sealing_key",
        "SELECT * FROM llmspell.tenant_logins",
        "SELECT * FROM llmspell.vector_embeddings_384_p00",
        "UPDATE llmspell.event_log SET payload = '{}'",
        "DELETE FROM llmspell.entities",
        "TRUNCATE llmspell.kv_store",
        "SELECT llmspell.capability('bob-co', 1)",
        "SELECT llmspell.verify_api_key('x')",
        "SELECT llmspell.rotate_sealing_key()",
        "SELECT llmspell.protect_table('llmspell.kv_store')",
        "SELECT lo_create(0)",
        "CREATE TEMPORARY TABLE t ()",
        "CREATE TABLE public.t ()",
        "CREATE TABLE llmspell.t ()",
    ],
)
def test_what_no_tenant_may(logins: dict[str, str], forbidden: str) -> None:
    """Control tables, partitions, history, definer-only functions and new objects are out of reach."""
    with connect(logins["acme"]) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(forbidden.encode())


def test_suspension_and_retirement_close_the_login(installation: Installation, logins: dict[str, str]) -> None:
    """A suspended tenant and a retired login see nothing, at once, in a session that is already open."""
    with connect(logins["acme"]) as session:
        assert session.execute(TENANT).fetchone() == ("acme",)
        for close, reopen in (
            ("UPDATE llmspell.tenants SET suspended = true WHERE tenant = %s", "SET suspended = false"),
            ("UPDATE llmspell.tenants SET state = 'retained' WHERE tenant = %s", "SET state = 'active'"),
        ):
            owner_runs(installation, close, "acme")
            assert session.execute(TENANT).fetchone() == (None,)
            assert session.execute("SELECT count(*) FROM llmspell.test_table").fetchone() == (0,)
            owner_runs(installation, f"UPDATE llmspell.tenants {reopen} WHERE tenant = %s", "acme")
        owner_runs(installation, "UPDATE llmspell.tenant_logins SET retire_at = now() WHERE tenant = %s", "acme")
        assert session.execute(TENANT).fetchone() == (None,)
        owner_runs(installation, "UPDATE llmspell.tenant_logins SET retire_at = NULL WHERE tenant = %s", "acme")
        assert session.execute(TENANT).fetchone() == ("acme",)


def test_enforced_quota_refuses_writes_and_allows_deletes(installation: Installation, logins: dict[str, str]) -> None:
    """Over an enforced quota INSERT and UPDATE name the quota; reading, deleting and erasing work."""
    change = "UPDATE llmspell.tenants SET over_quota = %s, quota_enforced = %s, used_bytes = 9, quota_bytes = 5 WHERE tenant = 'bob-co'"
    with connect(logins["bob-co"]) as session:
        owner_runs(installation, change, True, False)
        session.execute(INSERT, ("bob-co", "soft", "only reported"))
        owner_runs(installation, change, True, True)
        for refused in (
            "INSERT INTO llmspell.test_table (tenant_id, value) VALUES ('bob-co', '')",
            "UPDATE llmspell.test_table SET value = ''",
        ):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="storage quota exceeded") as caught:
                session.execute(refused.encode())
            assert caught.value.diag.message_detail == "9 of 5 bytes used."
        assert session.execute("DELETE FROM llmspell.test_table WHERE id = 'soft'").rowcount == 1
        erasing_nothing = (
            "SELECT llmspell.erase_stream('none', 'asked')",
            "SELECT llmspell.erase_hook_executions('none', 'asked')",
            "SELECT llmspell.erase_entity('00000000-0000-0000-0000-000000000001', 'asked')",
        )
        # A trace takes room: of nothing there is one only below the quota.
        for enforced, traces in ((True, 0), (False, 3)):
            owner_runs(installation, change, True, enforced)
            for erasing in erasing_nothing:
                assert session.execute(erasing.encode()).fetchone() == (0,)
            assert session.execute("SELECT count(*) FROM llmspell.erasures").fetchone() == (traces,)
        owner_runs(installation, change, False, True)
        session.execute(INSERT, ("bob-co", "again", "fits"))


def test_login_bound_while_its_tenant_is_suspended_is_closed(installation: Installation) -> None:
    """Of a binding and a suspension at once each sees the other, whichever is first to begin."""
    make_tenant(installation, "raced")
    owner = installation.names.owner
    bind = "INSERT INTO llmspell.tenant_logins (login, tenant, slot) VALUES ('raced-b', 'raced', 'b')"
    suspend = "UPDATE llmspell.tenants SET suspended = true WHERE tenant = 'raced'"
    reopen = "UPDATE llmspell.tenants SET suspended = false WHERE tenant = 'raced'"
    unbind = "DELETE FROM llmspell.tenant_logins WHERE login = 'raced-b'"
    for first, second in ((bind, suspend), (suspend, bind)):
        with installation.connect(owner) as one, installation.connect(owner) as other:
            with ThreadPoolExecutor(1) as pool:
                with one.transaction():
                    one.execute(first.encode())
                    waiting = pool.submit(other.execute, second.encode())
                    # It waits for the first transaction: otherwise it would have missed it.
                    with pytest.raises(TimeoutError):
                        waiting.result(0.3)
                waiting.result(30)
            rows = one.execute(
                "SELECT slot, tenant_open FROM llmspell.tenant_logins WHERE tenant = 'raced' ORDER BY slot"
            )
            assert rows.fetchall() == [("a", False), ("b", False)]
            one.execute(reopen.encode())
            rows = one.execute(
                "SELECT slot, tenant_open FROM llmspell.tenant_logins WHERE tenant = 'raced' ORDER BY slot"
            )
            assert rows.fetchall() == [("a", True), ("b", True)]
            one.execute(unbind.encode())


def test_what_a_login_knows_of_its_tenant_is_not_written_by_hand(installation: Installation) -> None:
    """Whoever opens a login of a suspended tenant, even as a replica, has changed nothing."""
    dsn = make_tenant(installation, "shut")
    owner_runs(installation, "UPDATE llmspell.tenants SET suspended = true WHERE tenant = %s", "shut")
    with psycopg.connect(installation.superuser_dsn, autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE llmspell.tenant_logins SET tenant_open = true WHERE tenant = 'shut'")
        with connect(dsn) as session:
            assert session.execute(TENANT).fetchone() == (None,)
        superuser.execute("UPDATE llmspell.tenants SET suspended = false WHERE tenant = 'shut'")
        with connect(dsn) as session:
            assert session.execute(TENANT).fetchone() == ("shut",)


def test_policy_costs_one_filter_a_statement(logins: dict[str, str]) -> None:
    """With the tenant predicate the policy is a one-time filter, and the key's index is used."""
    with connect(logins["acme"]) as session:
        rows = session.execute(
            "EXPLAIN (COSTS off) SELECT * FROM llmspell.kv_store WHERE tenant_id = 'acme' AND key ^@ 'users/'"
        )
        plan = "\n".join(row[0] for row in rows)
    assert "One-Time Filter" in plan
    assert "Index Cond: ((tenant_id = 'acme'::text" in plan
    assert "key >= 'users/'" in plan


def test_sealed_entry_lasts_one_transaction(app: psycopg.Connection[Any], sealed: dict[str, str]) -> None:
    """A capability opens its tenant's rows until the commit, and nothing after it."""
    with app.transaction():
        app.execute("SELECT llmspell.enter('sealed-a', %s, 'kv')", (sealed["sealed-a"],))
        app.execute(INSERT, ("sealed-a", "1", "mine"))
        assert app.execute("SELECT tenant_id FROM llmspell.test_table").fetchall() == [("sealed-a",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege), app.transaction():
            app.execute(INSERT, ("sealed-b", "1", "not mine"))
    assert app.execute(TENANT).fetchone() == (None,)
    assert app.execute("SELECT count(*) FROM llmspell.test_table").fetchone() == (0,)


def test_sealed_context_can_not_be_replayed(app: psycopg.Connection[Any], sealed: dict[str, str]) -> None:
    """A context taken from one transaction is dead in the next, in another backend, and for another tenant."""
    with app.transaction():
        app.execute("SELECT llmspell.enter('sealed-a', %s, 'kv')", (sealed["sealed-a"],))
        row = app.execute("SELECT current_setting('llmspell.context')").fetchone()
        assert row is not None
        stolen = row[0]
        for changed in (stolen.replace("sealed-a", "sealed-b"), stolen.replace(":", "!"), stolen + "x", stolen[1:]):
            app.execute("SELECT set_config('llmspell.context', %s, true)", (changed,))
            assert app.execute(TENANT).fetchone() == (None,)
    with connect(sealed["dsn"]) as other:
        for connection in (app, other):
            with connection.transaction():
                connection.execute("SELECT set_config('llmspell.context', %s, true)", (stolen,))
                assert connection.execute(TENANT).fetchone() == (None,)


def test_sealed_quota_refuses_writes_from_the_next_entry_on(
    app: psycopg.Connection[Any], installation: Installation
) -> None:
    """Over an enforced quota a sealed tenant reads and deletes; the mark in its context can not be taken off."""
    capability = make_sealed_tenant(installation, "sealed-full")
    change = "UPDATE llmspell.tenants SET over_quota = %s, quota_enforced = true, used_bytes = 9, quota_bytes = 5 WHERE tenant = 'sealed-full'"
    enter = "SELECT llmspell.enter('sealed-full', %s, 'kv')"
    with app.transaction():
        app.execute(enter, (capability,))
        app.execute(INSERT, ("sealed-full", "1", "fits"))
    owner_runs(installation, change, True)
    with app.transaction(force_rollback=True):
        app.execute(enter, (capability,))
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="storage quota exceeded"):
            app.execute(INSERT, ("sealed-full", "2", "does not"))
    unmark = "SELECT set_config('llmspell.context', replace(current_setting('llmspell.context'), '!', ':'), true)"
    with app.transaction(force_rollback=True):
        app.execute(enter, (capability,))
        app.execute(unmark)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(INSERT, ("sealed-full", "2", "does not"))
    with app.transaction():
        app.execute(enter, (capability,))
        assert app.execute("DELETE FROM llmspell.test_table").rowcount == 1


@pytest.mark.parametrize("context", ["", "x", ":sealed-a", "0" * 64 + ":sealed-a", "é" * 70, "0" * 5000])
def test_forged_context_gives_no_tenant(app: psycopg.Connection[Any], sealed: dict[str, str], context: str) -> None:
    """Any text that a session sets itself is no context."""
    app.execute("SELECT set_config('llmspell.context', %s, false)", (context,))
    assert app.execute(TENANT).fetchone() == (None,)


def test_wrong_capabilities_look_alike(
    app: psycopg.Connection[Any], sealed: dict[str, str], logins: dict[str, str], installation: Installation
) -> None:
    """Another tenant's, a made-up, an unknown tenant's, a role tenant's and a suspended one's: one refusal."""
    make_sealed_tenant(installation, "sealed-suspended")
    owner_runs(installation, "UPDATE llmspell.tenants SET suspended = true WHERE tenant = 'sealed-suspended'")
    good = sealed["sealed-a"]
    with installation.connect(installation.names.owner) as owner:
        rows = owner.execute("SELECT llmspell.capability('acme', 1), llmspell.capability('sealed-suspended', 1)")
        of_role, of_suspended = next(iter(rows))
    attempts = [
        ("sealed-b", good), ("sealed-a", "v1." + "0" * 64), ("sealed-a", good.replace("v1", "v2")), ("sealed-a", ""),
        ("sealed-a", None), (None, good), ("nobody", good), ("acme", of_role), ("sealed-suspended", of_suspended),
    ]  # fmt: skip
    texts = set()
    for tenant, capability in attempts:
        with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification) as caught:
            app.execute("SELECT llmspell.enter(%s, %s, 'kv')", (tenant, capability))
        texts.add(caught.value.diag.message_primary)
    assert texts == {"the tenant can not be entered"}


def test_capability_rotation_keeps_two_alive(
    app: psycopg.Connection[Any], installation: Installation, sealed: dict[str, str]
) -> None:
    """The previous version works until it expires, the new one at once, an older one never."""
    make_sealed_tenant(installation, "sealed-rotating")
    with installation.connect(installation.names.owner) as owner:
        found = owner.execute("SELECT llmspell.capability('sealed-rotating', v) FROM generate_series(1, 3) AS v")
        first, second, third = (row[0] for row in found)
    rotate = (
        "UPDATE llmspell.tenants SET capability_version = %s, previous_capability_version = %s,"
        " previous_capability_expires_at = now() + %s * interval '1 hour' WHERE tenant = 'sealed-rotating'"
    )

    def enters(capability: str) -> bool:
        try:
            app.execute("SELECT llmspell.enter('sealed-rotating', %s, 'kv')", (capability,))
        except psycopg.errors.InvalidAuthorizationSpecification:
            return False
        return True

    owner_runs(installation, rotate, 2, 1, 1)
    assert [enters(capability) for capability in (first, second, third)] == [True, True, False]
    owner_runs(installation, rotate, 2, 1, -1)
    assert [enters(capability) for capability in (first, second, third)] == [False, True, False]


def test_entry_checks_the_store(
    app: psycopg.Connection[Any], installation: Installation, sealed: dict[str, str]
) -> None:
    """A store the tenant lacks, a disabled one and an unknown one are refused by name of the store."""
    capability = make_sealed_tenant(installation, "sealed-small", ["kv"])
    enter = "SELECT llmspell.enter('sealed-small', %s, %s)"
    app.execute(enter, (capability, "kv"))
    for store in ("graph", "nonsense", None):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="store"):
            app.execute(enter, (capability, store))
    owner_runs(installation, "UPDATE llmspell.components SET enabled = false WHERE store = 'kv'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(enter, (capability, "kv"))
    owner_runs(installation, "UPDATE llmspell.components SET enabled = true WHERE store = 'kv'")


def test_entry_sets_the_tenants_limits(
    app: psycopg.Connection[Any], installation: Installation, sealed: dict[str, str]
) -> None:
    """Timeouts and memory hold for the transaction and are gone after it."""
    owner_runs(
        installation,
        "UPDATE llmspell.tenants SET statement_timeout_ms = 7000, work_mem_kb = 2048 WHERE tenant = 'sealed-b'",
    )
    ask = "SELECT current_setting('statement_timeout'), current_setting('work_mem')"
    before = app.execute(ask).fetchone()
    with app.transaction():
        app.execute("SELECT llmspell.enter('sealed-b', %s, 'kv')", (sealed["sealed-b"],))
        assert app.execute(ask).fetchone() == ("7s", "2MB")
    assert app.execute(ask).fetchone() == before


def test_rotating_the_key_ends_every_capability(
    app: psycopg.Connection[Any], installation: Installation, sealed: dict[str, str]
) -> None:
    """After a rotation only newly made capabilities enter."""
    owner_runs(installation, "SELECT llmspell.rotate_sealing_key()")
    with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
        app.execute("SELECT llmspell.enter('sealed-a', %s, 'kv')", (sealed["sealed-a"],))
    with installation.connect(installation.names.owner) as owner:
        row = owner.execute("SELECT llmspell.capability('sealed-a', 1)").fetchone()
    assert row is not None
    app.execute("SELECT llmspell.enter('sealed-a', %s, 'kv')", row)
