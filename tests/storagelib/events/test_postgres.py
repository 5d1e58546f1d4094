"""What only a server can show: open transactions, missing partitions, the rights of a tenant, the traces of erasure."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql

from storage_sql.queries import compile_query
from storage_sql.renderer import ident
from storagelib import AsyncStore, Store, StoreConfig
from storagelib.components.events import NewEvent
from storagelib.components.hooks import RetentionPolicy
from storagelib.config import PostgresConfig
from storagelib.credentials import Credentials
from storagelib.errors import AlreadyExists, Conflict, Unavailable
from storagelib.identifiers import uuid7
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant
from tests.storagelib.events.plans import sent_statements

_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A tenant, its store and its login."""

    installation: Installation
    config: StoreConfig
    dsn: str
    store: Store
    tenant: str

    @property
    def events(self) -> Any:
        """The tenant's log."""
        return self.store.for_tenant(self.tenant).events


@contextmanager
def placed(installation: Installation) -> Iterator[Place]:
    """Make a tenant that nobody used before."""
    tenant = f"watched-{next(_NUMBERS)}"
    dsn = make_tenant(installation, tenant)
    credentials = Credentials.from_dsn(dsn, tenant_id=tenant, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials, pool_max=10))
    with Store.open(config) as store:
        yield Place(installation, config, dsn, store, tenant)


@pytest.fixture
def place(installation: Installation) -> Iterator[Place]:
    """Make a tenant on the database of this file."""
    with placed(installation) as made:
        yield made


@pytest.fixture
def own_place(fresh_installation: Installation) -> Iterator[Place]:
    """Make a tenant on a database of its own."""
    with placed(fresh_installation) as made:
        yield made


def test_nothing_commits_behind_a_reader(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """An append that has its position and has not committed keeps later ones waiting; readers see neither, then both."""
    events = place.events
    with sent_statements(monkeypatch) as sent:
        events.append("t", "first", stream="a")
    query, values = sent[0]
    compiled = compile_query(query, {"schema": ident(place.installation.schema), "extensions": ident("public")})
    again = {"tenant": place.tenant, **values, "event_id": uuid7(), "payload": '"slow"'}
    types = ", ".join(kind for _, kind in compiled.parameters)
    with psycopg.connect(place.dsn) as slow:
        slow.execute(f"PREPARE append ({types}) AS {compiled.text}".encode())
        arguments = sql.SQL(", ").join(sql.Literal(again[name]) for name, _ in compiled.parameters)
        row = slow.execute(sql.SQL("EXECUTE append ({})").format(arguments)).fetchone()
        assert row is not None
        assert row[1] == 2
        later = threading.Thread(target=lambda: events.append("t", "later", stream="b"))
        later.start()
        later.join(0.3)
        assert later.is_alive()
        assert [event.payload for event in events.all()] == ["first"]
        slow.commit()
        later.join(10)
    assert [(event.position, event.payload) for event in events.all()] == [(1, "first"), (2, "slow"), (3, "later")]


def test_an_old_snapshot_elsewhere_hides_nothing(place: Place) -> None:
    """Readers do not wait for transactions that have nothing to do with the log."""
    with psycopg.connect(place.dsn) as idle:
        idle.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        idle.execute("SELECT txid_current()")
        place.events.append("t", 1)
        assert [event.payload for event in place.events.subscribe(follow=False)] == [1]


def test_a_missing_partition_is_told_and_nothing_is_half_written(own_place: Place) -> None:
    """Without a partition for the present an append is refused as a whole, and works again once there is one."""
    schema = sql.Identifier(own_place.installation.schema)
    own_place.events.append("t", 1, stream="s")
    with own_place.installation.connect(own_place.installation.names.owner) as connection:
        partitions = [
            row[0]
            for row in connection.execute(sql.SQL("SELECT partition_name FROM {}.event_partitions()").format(schema))
        ]
        for partition in partitions:
            connection.execute(sql.SQL("DROP TABLE {}.{}").format(schema, sql.Identifier(partition)))
    for _ in range(2):
        with pytest.raises(Unavailable, match="ensure_event_partitions") as refused:
            own_place.events.append("t", 2, stream="s")
        assert refused.value.outcome == "nothing"
    with pytest.raises(Unavailable, match="ensure_event_partitions"):
        own_place.events.append_many([NewEvent("t", 2, stream="s"), NewEvent("t", 2, stream="new", event_id=uuid7())])
    assert (own_place.events.end(), own_place.events.head("s"), own_place.events.head("new")) == (1, 1, 0)
    with own_place.installation.connect(own_place.installation.names.owner) as connection:
        connection.execute(sql.SQL("SELECT {}.ensure_event_partitions('month', 1)").format(schema))
    again = own_place.events.append("t", 3, stream="s")
    assert (again.position, again.sequence) == (2, 2)


def test_an_event_that_comes_while_its_stream_is_erased_keeps_its_id(place: Place) -> None:
    """An erasure that waits for a row takes neither the event that is appended meanwhile nor its id alone."""
    events, given = place.events, uuid7()
    events.append("t", "old", stream="s", event_id=uuid7())
    erased: list[int] = []
    erasing = threading.Thread(target=lambda: erased.append(events.erase_stream("s", "asked for")))
    with psycopg.connect(place.installation.superuser_dsn) as holding:
        holding.execute(
            sql.SQL("SELECT FROM {}.event_log WHERE tenant_id = %s FOR UPDATE").format(
                sql.Identifier(place.installation.schema)
            ),
            (place.tenant,),
        )
        erasing.start()
        erasing.join(0.5)
        assert erasing.is_alive()
        first = events.append("t", "new", stream="s", event_id=given)
    erasing.join(10)
    assert erased == [1]
    assert events.append("t", "new", stream="s", event_id=given).position == first.position
    assert [event.payload for event in events.all()] == ["new"]


@pytest.mark.parametrize("table", ["event_log", "hook_history", "erasures"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}.{}", "UPDATE {}.{} SET tenant_id = tenant_id", "TRUNCATE {}.{}"])
def test_a_tenant_cannot_change_what_was_recorded(place: Place, table: str, statement: str) -> None:
    """Not with SQL of its own either."""
    with psycopg.connect(place.dsn, autocommit=True) as tenant, pytest.raises(psycopg.errors.InsufficientPrivilege):
        tenant.execute(sql.SQL(statement).format(sql.Identifier(place.installation.schema), sql.Identifier(table)))


def test_erasure_leaves_a_trace(place: Place) -> None:
    """Who, when, how many and why stays, and of what only a hash."""
    hooks = place.store.for_tenant(place.tenant).hooks
    place.events.append_many([NewEvent("t", stream="personal")] * 3)
    assert place.events.erase_stream("personal", "asked for") == 3
    for _ in range(2):
        hooks.record("h", "t", triggering_component="c", input=1, duration_ms=1, correlation_id="run")
    assert hooks.apply_retention(RetentionPolicy(max_executions=1), reason="too many") == 1
    assert hooks.apply_retention(RetentionPolicy(max_executions=1), reason="nothing to do") == 0
    assert hooks.erase("run", "asked for too") == 1
    with psycopg.connect(place.dsn, autocommit=True) as tenant:
        rows = tenant.execute(
            sql.SQL(
                "SELECT kind, subject_hash, rows_erased, reason, erased_by FROM {}.erasures ORDER BY erased_at"
            ).format(sql.Identifier(place.installation.schema))
        ).fetchall()
    login = place.installation.names.tenant_login(place.tenant, "a")
    assert rows == [
        ("stream", hashlib.sha256(b"personal").digest(), 3, "asked for", login),
        ("hooks", hashlib.sha256(b"retention").digest(), 1, "too many", login),
        ("hooks", hashlib.sha256(b"run").digest(), 1, "asked for too", login),
    ]


async def test_the_first_writers_of_a_tenant_make_its_clock_once(place: Place) -> None:
    """Many who begin at the same moment, expecting different things, all get what is theirs."""
    async with await AsyncStore.open(place.config) as store:
        events = store.for_tenant(place.tenant).events
        results = await asyncio.gather(
            *(events.append("t", stream="one", expected_version=0) for _ in range(8)),
            *(events.append_many([NewEvent("t", stream=f"s{n}"), NewEvent("t", stream="all")]) for n in range(8)),
            *(events.append("t", stream="two", event_id=uuid7(), expected_version=0) for _ in range(4)),
            return_exceptions=True,
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        assert [type(result) for result in refused] == [Conflict] * 10
        seen = [event.position async for event in events.all()]
        assert seen == list(range(1, 19))
        assert await events.head("all") == 8


def _mixed(count: int) -> list[NewEvent]:
    """Events of three streams that differ in everything, every fifth with an id of its own."""
    return [
        NewEvent(
            f"type{n % 4}",
            {"n": n, "text": "x" * (n % 50)},
            stream=f"s{n % 7 % 3}",
            correlation_id=f"c{n % 11}",
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC) if n % 6 == 0 else None,
            language="lua" if n % 9 == 0 else "python",
            event_id=uuid7() if n % 5 == 0 else None,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("pipeline", ["auto", "off"])
def test_a_batch_of_several_statements_is_one_append(
    place: Place, monkeypatch: pytest.MonkeyPatch, pipeline: Literal["auto", "off"]
) -> None:
    """Whatever statement an event went with, it is where the batch says, as in a store that has no statements."""
    news = _mixed(1_700)
    assert place.config.postgres is not None
    config = replace(place.config, postgres=replace(place.config.postgres, pipeline=pipeline))
    with Store.open(config) as store, Store.open(StoreConfig.in_memory()) as model:
        log, like = store.for_tenant(place.tenant).events, model.for_tenant("model").events
        for each in (log, like):
            each.append("before", stream="s1")
        with sent_statements(monkeypatch) as sent:
            made = log.append_many(news, expected_versions={"s1": 1, "s2": 0})
        assert [query.name for query, _ in sent].count("events.write") >= 6
        wanted = like.append_many(news, expected_versions={"s1": 1, "s2": 0})
        assert [(m.stream, m.sequence, m.position) for m in made] == [
            (w.stream, w.sequence, w.position) for w in wanted
        ]
        first = made[0].recorded_at
        assert [m.recorded_at - first for m in made] == [timedelta(microseconds=n) for n in range(len(news))]
        kept = list(log.all())[1:]
        assert [(e.event_id, e.stream, e.sequence, e.position, e.recorded_at) for e in kept] == [
            (m.event_id, m.stream, m.sequence, m.position, m.recorded_at) for m in made
        ]
        assert [(e.event_type, e.correlation_id, e.language, e.payload) for e in kept] == [
            (new.event_type, new.correlation_id, new.language, new.payload) for new in news
        ]
        assert [e.occurred_at for e in kept] == [
            new.occurred_at or m.recorded_at for new, m in zip(news, made, strict=True)
        ]
        assert [log.head(f"s{n}") for n in range(3)] == [like.head(f"s{n}") for n in range(3)]
        # Each given id is known with the place of its event.
        for m in made[::5]:
            assert log.append("t", stream=m.stream, event_id=m.event_id) == m


def test_a_batch_whose_last_statement_fails_leaves_nothing(place: Place) -> None:
    """Not an event, an id, a head or a tick of the clock."""
    log, taken = place.events, uuid7()
    log.append("t", stream="elsewhere", event_id=taken)
    end, fresh = log.end(), uuid7()
    news = [NewEvent("t", n, stream="s") for n in range(1_200)]
    with pytest.raises(AlreadyExists):
        log.append_many([NewEvent("t", stream="s", event_id=fresh), *news, NewEvent("t", stream="s", event_id=taken)])
    assert (log.end(), log.head("s"), len(list(log.all()))) == (end, 0, 1)
    assert log.append("t", stream="s", event_id=fresh).sequence == 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_batch_that_is_not_as_expected_writes_in_none_of_its_statements(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, begun: bool
) -> None:
    """The statements behind the one that takes the places find the clock where it was; without a clock too."""
    log = place.events
    if begun:
        log.append("t", stream="s")
    news = [NewEvent("t", n, stream="s", event_id=uuid7()) for n in range(1_200)]
    with sent_statements(monkeypatch) as sent, pytest.raises(Conflict, match=f"is at {int(begun)}, expected was 7"):
        log.append_many(news, expected_versions={"s": 7})
    assert [query.name for query, _ in sent].count("events.write") >= 6
    assert (log.end(), log.head("s"), len(list(log.all()))) == (int(begun), int(begun), int(begun))
    assert len(log.append_many(news, expected_versions={"s": int(begun)})) == 1_200


def test_large_payloads_go_in_more_statements(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement carries few of them, so that neither side holds the whole batch in another form."""
    with sent_statements(monkeypatch) as sent:
        made = place.events.append_many([NewEvent("t", "x" * 100_000, stream="s") for _ in range(10)])
    sizes = [len(values["payloads"]) for _, values in sent if "payloads" in values]
    assert sizes == [3, 3, 3, 1]
    assert [event.payload for event in place.events.all()] == ["x" * 100_000] * 10
    assert [m.sequence for m in made] == list(range(1, 11))
