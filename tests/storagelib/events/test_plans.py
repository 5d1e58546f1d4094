"""Every hot statement of the event log finds its rows by an index, as the tenant, among 100,000 events in eight months."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storagelib._sync.store import Store
from storagelib.components.events import NewEvent
from storagelib.config import PostgresConfig, StoreConfig
from storagelib.credentials import Credentials
from storagelib.identifiers import uuid7
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant
from tests.storagelib.events.plans import MODES, counted, nodes, nodes_of_each, scans, sent_statements, touched

ROWS = 100_000
TENANT = "planned"

FILL = """
INSERT INTO {schema}.event_log (tenant_id, event_id, event_type, correlation_id, stream, sequence, position, timestamp,
                                occurred_at, language, payload)
SELECT {tenant}, gen_random_uuid(), 'type' || n % 50, 'run' || n % 1000, 'stream' || n % 100, (n - 1) / 100 + 1, n,
       {start}::timestamptz + n * {step}::interval, now(), 'python', jsonb_build_object('n', n)
  FROM generate_series(1, {rows}) AS n
"""
HEADS = """
INSERT INTO {schema}.event_streams (tenant_id, stream, head) SELECT {tenant}, 'stream' || n, {rows} / 100
  FROM generate_series(0, 19999) AS n
"""
CLOCK = "INSERT INTO {schema}.tenant_clock (tenant_id, n, at) VALUES ({tenant}, {rows}, now())"


@dataclass(frozen=True)
class Filled:
    """A tenant with many events, and what looks at its plans."""

    store: Store
    connection: psycopg.Connection[Any]
    schema: str
    start: datetime
    step: timedelta

    def time_of(self, position: int) -> datetime:
        """Return when the event with this position was recorded."""
        return self.start + position * self.step


def months_back(now: datetime, count: int) -> datetime:
    """Return the beginning of the month so many months ago."""
    months = now.year * 12 + now.month - 1 - count
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def filled(installation: Installation) -> Iterator[Filled]:
    """Fill two tenants over the last eight months and gather statistics."""
    now = datetime.now(UTC)
    start = months_back(now, 7)
    step = (now - start) / (ROWS + 1)
    owner, schema = installation.names.owner, sql.Identifier(installation.schema)
    with installation.connect(owner) as connection:
        for back in range(7, 0, -1):
            connection.execute(
                sql.SQL("SELECT {}.create_event_partition(%s, %s)").format(schema),
                (months_back(now, back), months_back(now, back - 1)),
            )
    dsns = {tenant: make_tenant(installation, tenant) for tenant in (TENANT, "neighbour")}
    for tenant, dsn in dsns.items():
        with psycopg.connect(dsn, autocommit=True) as connection:
            for text in (FILL, HEADS, CLOCK):
                connection.execute(
                    sql.SQL(text).format(
                        schema=schema,
                        tenant=sql.Literal(tenant),
                        rows=sql.Literal(ROWS if tenant == TENANT else ROWS // 5),
                        start=sql.Literal(start),
                        step=sql.Literal(step),
                    )
                )
    with installation.connect() as connection:
        connection.execute(sql.SQL("ANALYZE {}.event_log, {}.event_streams").format(schema, schema))
    credentials = Credentials.from_dsn(dsns[TENANT], tenant_id=TENANT, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with Store.open(config) as store, psycopg.connect(dsns[TENANT], autocommit=True) as connection:
        yield Filled(store, connection, installation.schema, start, step)


def page_after(events: Any, verb: str, *args: Any, **kwargs: Any) -> Any:
    """Ask for the second page of a listing."""
    first = getattr(events, verb)(*args, **kwargs)
    return getattr(events, verb)(*args, cursor=first.cursor, **kwargs)


def followed(events: Any, **kwargs: Any) -> list[Any]:
    """Take what one poll of a subscription gives."""
    subscription = events.subscribe(batch=100, **kwargs)
    taken = [next(subscription) for _ in range(10)]
    subscription.close()
    return taken


READS: dict[str, Callable[[Any, Filled], Any]] = {
    "from the beginning": lambda events, _: events.read(),
    "after a position": lambda events, _: events.read(after=60_000),
    "the second page": lambda events, _: page_after(events, "read"),
    "the latest": lambda events, _: events.read(newest_first=True),
    "a stream": lambda events, _: events.read_stream("stream7"),
    "a stream after a sequence": lambda events, _: events.read_stream("stream7", after_sequence=900),
    "a stream's second page": lambda events, _: page_after(events, "read_stream", "stream7"),
    "a stream's latest": lambda events, _: page_after(events, "read_stream", "stream7", newest_first=True),
    "a correlation id": lambda events, _: events.by_correlation("run77"),
    "a correlation id's second page": lambda events, _: page_after(events, "by_correlation", "run77", limit=10),
    "a correlation id since": lambda events, filled: events.by_correlation("run77", since=filled.time_of(50_000)),
    "a type": lambda events, _: events.by_type("type7"),
    "a type's latest": lambda events, _: page_after(events, "by_type", "type7", newest_first=True),
    "a time": lambda events, filled: events.by_time(filled.time_of(50_000), filled.time_of(50_200)),
    "a time's second page": lambda events, filled: page_after(events, "by_time", filled.time_of(50_000)),
    "a subscription": lambda events, _: followed(events),
    "a subscription after a position": lambda events, _: followed(events, from_position=60_000),
    "a subscription from a time": lambda events, filled: followed(events, from_time=filled.time_of(60_000)),
    "a subscription to a type": lambda events, filled: followed(
        events, from_time=filled.time_of(60_000), types=["type7"]
    ),
}

MATCHING = {"stream": ROWS // 100, "type": ROWS // 50}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", READS)
def test_reading_looks_at_what_it_returns(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """No partition is scanned from end to end.

    Where nothing but a page has to be looked at, little else is. Of one stream or type, whose rows the planner takes for
    few because it has no statistics, all may be looked at, and nothing else.
    """
    with sent_statements(monkeypatch) as sent:
        READS[name](filled.store.for_tenant(TENANT).events, filled)
    plan = nodes(filled.connection, filled.schema, TENANT, sent[-1], mode)
    assert scans(plan, "event_log") <= {"Index Scan", "Bitmap Heap Scan"}
    assert scans(plan, "event_log")
    returned = plan[0]["Actual Rows"]
    assert returned >= 10
    matching = next((count for word, count in MATCHING.items() if word in name), 0)
    assert touched(plan, "event_log") <= max(matching, returned) + 60


def test_the_time_leaves_partitions_out(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound in time keeps older months out of the plan."""
    with sent_statements(monkeypatch) as sent:
        filled.store.for_tenant(TENANT).events.by_type("type7", since=filled.time_of(99_000))
        filled.store.for_tenant(TENANT).events.by_type("type7")
    bounded, open_ended = (
        {
            node["Relation Name"]
            for node in nodes(filled.connection, filled.schema, TENANT, call, MODES[0])
            if "Relation Name" in node
        }
        for call in sent
    )
    assert len(open_ended) >= 8
    assert len(bounded) <= 5


ONES: dict[str, Callable[[Any, str], Any]] = {
    "one": lambda events, _: events.append("t", stream="stream7"),
    "one to a new stream": lambda events, new: events.append("t", stream=new),
    "one as expected": lambda events, new: events.append("t", stream=new, expected_version=0),
    "one with an id": lambda events, new: events.append("t", stream=new, event_id=uuid7()),
}
WRITES: dict[str, Callable[[Any, str], Any]] = {
    "many": lambda events, _: events.append_many([NewEvent("t", stream=f"stream{n % 10}") for n in range(100)]),
    "many as expected": lambda events, new: events.append_many(
        [NewEvent("t", stream=new, event_id=uuid7()) for _ in range(100)], expected_versions={new: 0}
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ONES)
def test_appending_one_reads_the_clock_and_a_head(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """Within the function nothing is read but the tenant's clock and one stream, by their keys."""
    with sent_statements(monkeypatch) as sent:
        ONES[name](filled.store.for_tenant(TENANT).events, str(uuid7()))
    assert len(sent) == 1
    query, values = sent[0]
    again = {**values, "event_id": uuid7(), "expected": 1 if values["expected"] == 0 else None}
    seen = counted(filled.connection, filled.schema, TENANT, (query, again), mode)
    assert seen["event_streams"] == (0, 1)
    assert seen["tenant_clock"][1] <= 4
    assert sum(read for table, (_, read) in seen.items() if table.startswith(("event_log", "event_ids"))) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WRITES)
def test_appending_reads_one_row_a_stream(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """An append looks at the clock and at the heads of its streams, each once a statement, and at no event."""
    with sent_statements(monkeypatch) as sent:
        WRITES[name](filled.store.for_tenant(TENANT).events, str(uuid7()))
    taking, *writing = sent
    query, values = taking
    calls = [(query, {**values, "expected": [-1] * len(values["streams"])})]
    fresh = [uuid7() for _ in range(100)]
    calls += [(query, {**values, "event_ids": fresh}) for query, values in writing]
    plans = nodes_of_each(filled.connection, filled.schema, TENANT, calls, mode)
    tables = [
        next(node["Relation Name"] for node in plan if node["Node Type"] == "ModifyTable" and "Relation Name" in node)
        for plan in plans
    ]
    assert tables[0].startswith(("event_streams", "tenant_clock"))
    assert [table[:9] for table in tables[1:]] == (["event_log", "event_ids"] if "expected" in name else ["event_log"])
    for plan in plans:
        assert touched(plan, "event_log") == 0
        assert touched(plan, "event_ids") == 0
        assert touched(plan, "event_streams") <= 10
        assert touched(plan, "tenant_clock") <= 3
        assert "Seq Scan" not in scans(plan, "event_streams")
    for plan in plans[1:]:
        # All events were behind the clock that the first statement moved.
        assert plan[0]["Plans"][-1]["Actual Rows"] == 100


def test_heads_and_places_are_found_by_their_keys(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up one thing reads one row."""
    events = filled.store.for_tenant(TENANT).events
    events.checkpoint("c", 1)
    with sent_statements(monkeypatch) as sent:
        assert events.head("stream7") >= ROWS // 100
        assert events.position("c") == 1
        assert events.end() >= ROWS
        assert len(events.streams("stream5", limit=5)) == 5
    for call in sent:
        plan = nodes(filled.connection, filled.schema, TENANT, call, MODES[1])
        assert "Seq Scan" not in scans(plan, "event_streams")
        assert touched(plan, "event_") <= 20
