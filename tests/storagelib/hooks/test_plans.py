"""Every hot statement of the hook history finds its rows by an index, as the tenant, among 100,000 executions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

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
START = datetime(2024, 1, 1, tzinfo=UTC)

FILL = """
INSERT INTO {schema}.hook_history
    (tenant_id, execution_id, hook_id, hook_type, correlation_id, hook_context, original_size_bytes, result_data,
     timestamp, duration_ms, duration_us, failed, triggering_component, tags, retention_priority)
SELECT {tenant}, lpad(to_hex(n), 32, '0')::uuid, 'hook' || n % 100, 'type' || n % 50, 'run' || n % 1000, '1', 1, '{{}}',
       {start}::timestamptz + n * interval '1 second', 1, 1000, n % 10 = 0, 'component' || n % 50, ARRAY['t' || n % 2],
       n % 3
  FROM generate_series(1, {rows}) AS n
"""


@dataclass(frozen=True)
class Filled:
    """A tenant with many executions, and what looks at its plans."""

    store: Store
    connection: psycopg.Connection[Any]
    schema: str


@pytest.fixture(scope="module")
def filled(installation: Installation) -> Iterator[Filled]:
    """Fill two tenants and gather statistics."""
    schema = sql.Identifier(installation.schema)
    dsns = {tenant: make_tenant(installation, tenant) for tenant in (TENANT, "neighbour")}
    for tenant, dsn in dsns.items():
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                sql.SQL(FILL).format(
                    schema=schema,
                    tenant=sql.Literal(tenant),
                    rows=sql.Literal(ROWS if tenant == TENANT else ROWS // 5),
                    start=sql.Literal(START),
                )
            )
    with installation.connect() as connection:
        connection.execute(sql.SQL("ANALYZE {}.hook_history").format(schema))
    credentials = Credentials.from_dsn(dsns[TENANT], tenant_id=TENANT, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with Store.open(config) as store, psycopg.connect(dsns[TENANT], autocommit=True) as connection:
        yield Filled(store, connection, installation.schema)


def page_after(hooks: Any, **question: Any) -> Any:
    """Ask for the second page."""
    first = hooks.query(**question)
    assert first.cursor is not None
    return hooks.query(cursor=first.cursor, **question)


# How many rows there are to look at beyond those of the page.
READS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "the latest": (lambda hooks: hooks.query(), 0),
    "the second page": (page_after, 0),
    "a hook": (lambda hooks: hooks.query(hook_id="hook7"), ROWS // 100),
    "a hook's second page": (lambda hooks: page_after(hooks, hook_id="hook7"), ROWS // 100),
    "a type": (lambda hooks: hooks.query(hook_type="type7"), ROWS // 50),
    "a component": (lambda hooks: hooks.query(triggering_component="component7"), ROWS // 50),
    "a run": (lambda hooks: hooks.query(correlation_id="run77", newest_first=False), ROWS // 1000),
    "a run's second page": (lambda hooks: page_after(hooks, correlation_id="run77", limit=20), ROWS // 1000),
    "a time": (
        lambda hooks: hooks.query(since=START + timedelta(hours=9), until=START + timedelta(hours=10)),
        3600,
    ),
    "failures of a hook": (lambda hooks: hooks.query(hook_id="hook10", failed=True), ROWS // 100),
    "a tag of the latest": (lambda hooks: hooks.query(tags=["t1"]), 150),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", READS)
def test_asking_looks_at_what_it_returns(filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, mode: str) -> None:
    """The table is never scanned from end to end, and nothing that does not match the index is looked at."""
    ask, more = READS[name]
    with sent_statements(monkeypatch) as sent:
        ask(filled.store.for_tenant(TENANT).hooks)
    plan = nodes(filled.connection, filled.schema, TENANT, sent[-1], mode)
    assert scans(plan, "hook_history") <= {"Index Scan", "Bitmap Heap Scan"}
    assert plan[0]["Actual Rows"] >= 10
    assert touched(plan, "hook_history") <= plan[0]["Actual Rows"] + more + 10


@pytest.mark.parametrize("mode", MODES)
def test_one_execution_is_one_row(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """An execution is found by its key."""
    with sent_statements(monkeypatch) as sent:
        filled.store.for_tenant(TENANT).hooks.get(UUID(int=777))
    plan = nodes(filled.connection, filled.schema, TENANT, sent[0], mode)
    assert touched(plan, "hook_history") == 1
    assert "Seq Scan" not in scans(plan, "hook_history")


@pytest.mark.parametrize("mode", MODES)
def test_durations_of_a_hook_read_that_hook(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """The percentiles of one hook cost its own executions."""
    with sent_statements(monkeypatch) as sent:
        filled.store.for_tenant(TENANT).hooks.durations(hook_id="hook7")
    plan = nodes(filled.connection, filled.schema, TENANT, sent[0], mode)
    assert touched(plan, "hook_history") == ROWS // 100


def test_recording_reads_nothing(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording is an insertion and nothing else, in one statement."""
    with sent_statements(monkeypatch) as sent:
        filled.store.for_tenant(TENANT).hooks.record(
            "hook", "type", triggering_component="component", input=1, duration_ms=1
        )
    assert len(sent) == 1
    query, values = sent[0]
    again = {**values, "execution_id": UUID(int=ROWS + 1), "tags": []}
    plan = nodes(filled.connection, filled.schema, TENANT, (query, again), MODES[1])
    assert touched(plan, "hook_history") == 0
    assert plan[0]["Node Type"] == "ModifyTable"
