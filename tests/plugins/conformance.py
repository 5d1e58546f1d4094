"""PostgreSQL as a subject of the conformance tests: tenants in both isolation modes, each test with tenants of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import pytest
from psycopg import sql

from storagelib.config import PostgresConfig, StoreConfig
from storagelib.conformance.subjects import Opening, Subject
from storagelib.credentials import Credentials
from tests.plugins.installation import Installation, Molds
from tests.plugins.tenants import ALL_STORES, PASSWORD, grant_stores, make_app, make_sealed_tenant, make_tenant

_NUMBERS = itertools.count(1)


class Tenants:
    """Makes tenants of one installation and knows their credentials."""

    def __init__(self, installation: Installation) -> None:
        """Prepare both modes: a role that has all stores, and the shared login."""
        self.installation = installation
        self._app = make_app(installation)
        self._known: dict[str, Credentials] = {}
        self._first: dict[str, Credentials] = {}
        make_tenant(installation, "the-first")  # makes the role of this set of stores

    def of(self, tenant: str) -> Credentials:
        """Return a tenant's credentials."""
        return self._known[tenant]

    def first(self, mode: str) -> Credentials:
        """Return those of a tenant that stores are opened with and no test uses."""
        if mode not in self._first:
            self._first[mode] = self.of(self.new(mode))
        return self._first[mode]

    def new(self, mode: str) -> str:
        """Make a tenant that nobody used before."""
        tenant = f"conformance-{next(_NUMBERS)}"
        if mode == "sealed":
            capability = make_sealed_tenant(self.installation, tenant)
            self._known[tenant] = Credentials.from_dsn(
                self._app, tenant_id=tenant, mode="sealed", schema=self.installation.schema, capability=capability
            )
        else:
            self._known[tenant] = Credentials.from_dsn(
                self._login(tenant), tenant_id=tenant, schema=self.installation.schema
            )
        return tenant

    def asleep(self) -> set[int]:
        """Return the backends that are within ``pg_sleep``."""
        return self._sessions("wait_event = 'PgSleep'")

    def waiting(self) -> set[int]:
        """Return the backends that wait for what another one has locked."""
        return self._sessions("wait_event_type = 'Lock'")

    def _sessions(self, condition: LiteralString) -> set[int]:
        query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND "
        with self.installation.database.connect() as connection:
            return {row[0] for row in connection.execute(query + condition)}

    def terminate(self, pids: Iterable[int]) -> None:
        """End sessions from outside; they are gone when this returns."""
        with self.installation.database.connect() as connection:
            for pid in pids:
                # With a time-out it waits for the end.
                assert connection.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,)).fetchone() == (True,)

    def grant_all(self) -> None:
        """Grant again what the stores have, after a table came."""
        grant_stores(self.installation, self.installation.names.store_set(ALL_STORES), ALL_STORES)
        grant_stores(self.installation, self.installation.names.app, ALL_STORES, sealed=True)

    def _login(self, tenant: str) -> str:
        roles = self.installation.names
        login, schema = roles.tenant_login(tenant, "a"), sql.Identifier(self.installation.schema)
        with self.installation.connect(roles.owner) as connection, connection.transaction():
            connection.execute(
                sql.SQL("INSERT INTO {}.tenants (tenant, namespace, name, stores) VALUES (%s, 'test', %s, %s)").format(
                    schema
                ),
                (tenant, tenant, list(ALL_STORES)),
            )
            connection.execute(
                sql.SQL("INSERT INTO {}.tenant_logins (login, tenant, slot) VALUES (%s, %s, 'a')").format(schema),
                (login, tenant),
            )
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(roles.shard(tenant))))
            # Thousands of tests log in, and 4,096 rounds each way take as long as the rest of a connection.
            connection.execute("SET LOCAL scram_iterations = 1")
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(PASSWORD))
            )
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(roles.owner)))
            connection.execute(
                sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(
                    sql.Identifier(roles.store_set(ALL_STORES)), sql.Identifier(login)
                )
            )
        return self.installation.database.dsn_as(login, PASSWORD)


@pytest.fixture(scope="session")
def conformance_tenants(molds: Molds) -> Iterator[Tenants]:
    """Give what makes tenants on a database that all conformance tests of this session share."""
    with molds.copy() as made:
        yield Tenants(made)


def opening_of(tenants: Tenants, mode: str, **options: Any) -> Opening:
    """Return what a store of many tenants is opened with; a busy machine may keep who waits for a connection waiting."""
    chosen = {"pool_max": 8, "pool_timeout_seconds": 60, **options}
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=tenants.first(mode), **chosen))
    return Opening(config, tenants.of, lambda: tenants.new(mode))


def _prepare(mode: str) -> Callable[[Any], Any]:
    @contextmanager
    def prepare(request: Any) -> Iterator[Opening]:
        yield opening_of(request.getfixturevalue("conformance_tenants"), mode)

    return prepare


def pytest_llmspell_subjects() -> list[Subject]:
    """Add PostgreSQL in both modes; the blocking twin of sealed mode, made of what is tested already, only in full runs."""
    role = Subject("postgres-role", _prepare("role"), settable_clock=False)
    sealed = Subject("postgres-sealed", _prepare("sealed"), settable_clock=False, blocking_marks=(pytest.mark.full,))
    return [role, sealed]
