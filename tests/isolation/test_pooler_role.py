"""Role mode through a real PgBouncer: tenants keep their own logins, rotation passes through, no password is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest

from tests.isolation.tenants import Tenant, provision, row_of
from tests.plugins.installation import Installation
from tests.plugins.pgbouncer import PgBouncer
from tests.plugins.postgres import url_with

StartPooler = Callable[..., PgBouncer]


def _through(pooler: PgBouncer, tenant: Tenant) -> list[tuple[Any, ...]]:
    with closing(psycopg.connect(pooler.dsn_of(tenant.dsn), autocommit=True, prepare_threshold=None)) as connection:
        return connection.execute("SELECT llmspell.current_tenant(), session_user::text").fetchall()


@pytest.fixture(scope="module")
def tenants(installation: Installation) -> tuple[Tenant, Tenant]:
    """Give two tenants with logins of their own."""
    first, second = provision(installation, [row_of("pooled-one"), row_of("pooled-two")])
    return first, second


@pytest.fixture(scope="module")
def pooler(installation: Installation, tenants: tuple[Tenant, Tenant], start_pgbouncer: StartPooler) -> PgBouncer:
    """Give a pooler whose auth_file holds the verifiers that the operator computed."""
    return start_pgbouncer(installation.database, {tenant.login: tenant.verifier for tenant in tenants})


def test_the_server_asks_by_scram(installation: Installation) -> None:
    """The server itself asks by SCRAM: under `trust` a pass-through proves nothing, under `password` it cannot work."""
    with closing(installation.database.connect()) as superuser:
        methods = superuser.execute(
            "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type LIKE 'host%'"
        ).fetchall()
    assert methods == [("scram-sha-256",)], "set scram-sha-256 in the server's pg_hba.conf"


def test_logins_pass_through(pooler: PgBouncer, tenants: tuple[Tenant, Tenant]) -> None:
    """Each tenant is itself behind the pooler, with no password known to it."""
    for tenant in tenants:
        assert _through(pooler, tenant) == [(tenant.tenant_id, tenant.login)]


def test_a_wrong_password_stays_outside(pooler: PgBouncer, tenants: tuple[Tenant, Tenant]) -> None:
    """The verifier opens for its password only, and one tenant's password is not another's."""
    for password in ("wrong", tenants[1].password, tenants[0].verifier):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url_with(pooler.dsn_of(tenants[0].dsn), password=password))


def test_server_connections_are_not_shared(pooler: PgBouncer, tenants: tuple[Tenant, Tenant]) -> None:
    """What one tenant's session leaves behind is met by the same tenant at most: pools are per login."""
    one, two = (
        psycopg.connect(pooler.dsn_of(tenant.dsn), autocommit=True, prepare_threshold=None) for tenant in tenants
    )
    with closing(one), closing(two):
        one.execute("SET x.residue = 'behind'")
        assert two.execute("SELECT current_setting('x.residue', true)").fetchone() in {(None,), ("",)}
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for connection in (one, two)}
    assert len(pids) == 2


def test_rotation_after_a_reload(
    installation: Installation, tenants: tuple[Tenant, Tenant], start_pgbouncer: StartPooler
) -> None:
    """After a rotation and a reload both the new and the still valid old login work; before it only the old one."""
    (old,) = provision(installation, [row_of("pooled-rotating")])
    pooler = start_pgbouncer(installation.database, {old.login: old.verifier})
    assert _through(pooler, old) == [("pooled-rotating", old.login)]
    (new,) = provision(installation, [row_of("pooled-rotating")], rotation="2026-01-01")
    assert new.login != old.login
    with pytest.raises(psycopg.OperationalError):
        _through(pooler, new)
    pooler.reload({old.login: old.verifier, new.login: new.verifier})
    assert _through(pooler, new) == [("pooled-rotating", new.login)]
    assert _through(pooler, old) == [("pooled-rotating", old.login)]


@pytest.fixture(scope="module")
def asking_pooler(installation: Installation, start_pgbouncer: StartPooler) -> PgBouncer:
    """Give a pooler that asks the database for verifiers through a definer function, as a role that may do only that."""
    role, password = f"{installation.names.owner}_pooler", "asks-for-verifiers"
    with installation.database.connect() as superuser:
        superuser.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        verifier = superuser.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone()
    with installation.connect(installation.names.owner) as owner:
        owner.execute(f"GRANT CONNECT ON DATABASE {installation.database.name} TO {role}".encode())
        owner.execute(f"GRANT USAGE ON SCHEMA {installation.schema} TO {role}".encode())
        owner.execute(f"GRANT EXECUTE ON FUNCTION {installation.schema}.pooler_login(text) TO {role}".encode())
    assert verifier is not None
    return start_pgbouncer(
        installation.database,
        {role: password},
        auth_query=f"SELECT usename, passwd FROM {installation.schema}.pooler_login($1)",
        route=f"auth_user={role}",
    )


def test_auth_query_finds_verifiers(asking_pooler: PgBouncer, tenants: tuple[Tenant, Tenant]) -> None:
    """A tenant that no file knows logs in, because the database told the pooler its verifier."""
    assert _through(asking_pooler, tenants[0]) == [("pooled-one", tenants[0].login)]


def test_auth_query_follows_rotation_and_suspension(installation: Installation, asking_pooler: PgBouncer) -> None:
    """A new login works without a reload, and a suspended tenant's login is not told."""
    (old,) = provision(installation, [row_of("pooled-asked")])
    (new,) = provision(installation, [row_of("pooled-asked")], rotation="2026-01-01")
    assert _through(asking_pooler, new) == [("pooled-asked", new.login)]
    assert _through(asking_pooler, old) == [("pooled-asked", old.login)]
    with installation.connect(installation.names.owner) as owner:
        owner.execute("UPDATE llmspell.tenants SET suspended = true WHERE tenant = 'pooled-asked'")
        row = owner.execute("SELECT count(*) FROM llmspell.pooler_login(%s)", (new.login,)).fetchone()
    assert row == (0,)


def test_tenants_may_not_ask_for_verifiers(asking_pooler: PgBouncer, tenants: tuple[Tenant, Tenant]) -> None:
    """The function is the pooler's alone."""
    with closing(tenants[0].connect()) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT * FROM llmspell.pooler_login(session_user)")
