"""The statements that are sent for every request find one row by its key, as the tenant, among 100,000 keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storagelib._sync.store import Store
from storagelib.config import PostgresConfig, StoreConfig
from storagelib.credentials import Credentials
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant
from tests.storagelib.events.plans import MODES, nodes, scans, sent_statements, touched

ROWS = 100_000
TENANT = "planned"
FILL = """
INSERT INTO {schema}.api_keys (tenant_id, key_id, name, prefix, key_hash, scopes, created_at)
SELECT {tenant}, 'key' || n, 'name' || n % 1000, 'lsk', sha256(({tenant} || n)::bytea), ARRAY['read'],
       now() - n * interval '1 second'
  FROM generate_series(1, {rows}) AS n"""


@dataclass(frozen=True)
class Filled:
    """A tenant with many keys, and what looks at its plans."""

    store: Store
    connection: psycopg.Connection[Any]
    schema: str


@pytest.fixture(scope="module")
def filled(installation: Installation) -> Iterator[Filled]:
    """Fill two tenants and gather statistics."""
    schema = sql.Identifier(installation.schema)
    dsns = {tenant: make_tenant(installation, tenant) for tenant in (TENANT, "neighbour")}
    for tenant, dsn in dsns.items():
        rows = sql.Literal(ROWS if tenant == TENANT else ROWS // 5)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL(FILL).format(schema=schema, tenant=sql.Literal(tenant), rows=rows))
    with installation.connect() as connection:
        connection.execute(sql.SQL("ANALYZE {}.api_keys").format(schema))
    credentials = Credentials.from_dsn(dsns[TENANT], tenant_id=TENANT, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with Store.open(config) as store, psycopg.connect(dsns[TENANT], autocommit=True) as connection:
        yield Filled(store, connection, installation.schema)


@pytest.mark.parametrize("mode", MODES)
def test_verifying_is_one_row_and_one_statement(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """By the primary key; a mark that is fresh writes nothing."""
    keys = filled.store.for_tenant(TENANT).api_keys
    made = keys.create("robot")
    keys.verify(made.token)
    with sent_statements(monkeypatch) as sent:
        keys.verify(made.token)
    assert len(sent) == 1
    plan = nodes(filled.connection, filled.schema, TENANT, sent[0], mode)
    assert touched(plan, "api_keys") == 1
    assert scans(plan, "api_keys") <= {"Index Scan", "Index Only Scan"}


@pytest.mark.parametrize("mode", MODES)
def test_a_page_looks_at_its_rows(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The first one, the next one, and those of a name."""
    keys = filled.store.for_tenant(TENANT).api_keys
    with sent_statements(monkeypatch) as sent:
        keys.list_keys(cursor=keys.list_keys().cursor)
        keys.list_keys("name77", cursor=keys.list_keys("name77", limit=10).cursor, limit=10)
    for call, most in zip(sent, (150, 150, 50, 50), strict=True):
        plan = nodes(filled.connection, filled.schema, TENANT, call, mode)
        assert scans(plan, "api_keys") <= {"Index Scan", "Bitmap Heap Scan"}
        assert touched(plan, "api_keys") <= most
