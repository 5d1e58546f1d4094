"""What only a server can show of the graph: the quota, a tenant's first writer, and a graph older than its indexes."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from storage_sql.queries import load
from storage_sql.runner import RunOptions, migrate_postgres
from storagelib import AsyncStore, Store
from storagelib._async.postgres.database import AsyncDatabase
from storagelib.clocks import FOREVER
from storagelib.errors import InvalidInput, NotFound, QuotaExceeded
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.installation import bootstrapped_on, drive_on

ENTITY, NEIGHBOUR, EDGE = UUID(int=1), UUID(int=2), UUID(int=3)
_VERSION = """INSERT INTO llmspell.entities (tenant_id, entity_id, entity_type, name, valid_time_start,
    valid_time_end, transaction_time_start, tx_from) VALUES (%s, %s, 't', 'n', %s, %s, '2020-01-01', %s)"""
_LINK = """INSERT INTO llmspell.relationships (tenant_id, relationship_id, from_entity, to_entity, relationship_type,
    valid_time_start, transaction_time_start, tx_from) VALUES ('acme', %s, %s, %s, 'r', '-infinity', '2020-01-01', 1)"""


@contextmanager
def over_quota(tenants: Tenants, tenant: str) -> Iterator[None]:
    """Let the tenant be over a quota that is enforced."""
    over = "quota_bytes = 10, used_bytes = 20, over_quota = true, quota_enforced = true"
    with closing(psycopg.connect(tenants.installation.superuser_dsn, autocommit=True)) as superuser:
        superuser.execute(f"UPDATE llmspell.tenants SET {over} WHERE tenant = %s".encode(), (tenant,))
        yield
        superuser.execute("UPDATE llmspell.tenants SET over_quota = false WHERE tenant = %s", (tenant,))


@pytest.mark.parametrize("mode", ["role", "sealed"])
def test_over_the_quota_everything_can_be_deleted(conformance_tenants: Tenants, mode: str) -> None:
    """Deleting and erasing take nothing of the quota that counts; what was said of a deletion is kept all the same."""
    tenant = conformance_tenants.new(mode)
    opening = opening_of(conformance_tenants, mode)
    with Store.open(opening.config, provider=opening.provider) as store:
        graph = store.for_tenant(tenant).graph
        ada, club = graph.add_entity("person", "Ada"), graph.add_entity("place", "Club")
        visit = graph.add_relationship(ada.entity_id, club.entity_id, "visits")
        again = graph.add_relationship(ada.entity_id, club.entity_id, "visits")
        before = graph.last_transaction()
        with over_quota(conformance_tenants, tenant):
            with pytest.raises(QuotaExceeded):
                graph.add_entity("person", "Charles")
            with pytest.raises(QuotaExceeded):
                graph.update_entity(ada.entity_id, name="Ada Lovelace")
            one = graph.delete_relationship(visit.relationship_id, actor="tidier", reason="full", sources=["a"])
            assert (one.tx, one.closed, one.opened) == (before + 1, 1, 0)
            gone = graph.delete_entity(ada.entity_id)
            assert (gone.tx, gone.closed, gone.relationships_closed) == (before + 2, 1, 1)
            with pytest.raises(NotFound):
                graph.delete_entity(ada.entity_id)
            assert graph.last_transaction() == before + 2
            assert graph.get_relationships([visit.relationship_id, again.relationship_id]) == {}
            assert [(done.actor, done.reason) for done in graph.why(visit.relationship_id)][-1] == ("tidier", "full")
            assert graph.erase(ada.entity_id, "asked for") == 3
            assert graph.get_entity(club.entity_id).name == "Club"


def test_one_is_seen_as_many_are_by_a_clock_that_is_ahead(conformance_tenants: Tenants) -> None:
    """Now is the later of the server's time and the last tick, for one subject by its id as for lists and walks."""
    opening = opening_of(conformance_tenants, "role")
    tenant = opening.new_tenant()
    now, hour = datetime.now(UTC), timedelta(hours=1)
    ranges = {
        "ended": (now - hour, now + hour),
        "begun": (now + hour, None),
        "within": (now + hour, now + 48 * hour),
        "coming": (now + 48 * hour, None),
        "fresh": (None, None),
    }
    seen = {"begun", "within", "fresh"}
    ahead = "UPDATE llmspell.tenant_clock SET at = clock_timestamp() + interval '1 day' WHERE tenant_id = %s"
    with Store.open(opening.config, provider=opening.provider) as store:
        graph = store.for_tenant(tenant).graph
        start = graph.add_entity("thing", "start", valid_from=now - hour).entity_id
        with closing(psycopg.connect(conformance_tenants.installation.superuser_dsn, autocommit=True)) as superuser:
            superuser.execute(ahead, (tenant,))
        entities, links = dict[str, UUID](), dict[str, UUID]()
        for name, (begin, end) in ranges.items():
            entities[name] = graph.add_entity("thing", name, valid_from=begin, valid_to=end).entity_id
            links[name] = graph.add_relationship(start, start, name, valid_from=begin, valid_to=end).relationship_id
            graph.add_relationship(start, entities[name], "leads to", valid_from=now - hour)
        for view in (graph, graph.as_of(tx=graph.last_transaction())):
            assert {name for name, subject in entities.items() if view.get_entity(subject) is not None} == seen
            assert {each.name for each in view.get_entities(entities.values()).values()} == seen
            assert {name for name, subject in links.items() if view.get_relationship(subject) is not None} == seen
            assert {each.type for each in view.get_relationships(links.values()).values()} == seen
            assert {each.entity.name for each in view.traverse(start, depth=1)} == seen


@pytest.mark.parametrize(
    ("way", "values"),
    [("erase", (ENTITY, "asked for")), ("delete_entity", (ENTITY,)), ("delete_relationship", (EDGE,))],
)
async def test_a_tenants_first_writer_is_waited_for(
    conformance_tenants: Tenants, way: str, values: tuple[Any, ...]
) -> None:
    """Before a tenant has a clock too, who erases or deletes waits for who is adding, and then finds what was added."""
    opening = opening_of(conformance_tenants, "role")
    queries = load("graph")
    shared = {"types": ["t"], "properties": ["{}"], "valid_from": [None], "valid_to": [FOREVER]}
    entity = {**shared, "ids": [ENTITY], "names": ["n"], "hashes": [None]}
    edge = {**shared, "ids": [EDGE], "near": [ENTITY], "far": [ENTITY]}
    nothing: dict[str, list[UUID]] = {"given_entities": [], "given_relationships": [], "ends": []}
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        graph = store.for_tenant(opening.new_tenant()).graph
        async with database_of(graph).transaction() as adding:
            await adding.run(
                [
                    (queries["lock"], {}),
                    (queries["tick_to_add"], nothing),
                    (queries["insert_entities"], entity),
                    (queries["insert_relationships"], edge),
                ]
            )
            later = asyncio.create_task(getattr(graph, way)(*values))
            await asyncio.wait([later], timeout=0.5)
            waits = not later.done()
        result = await later
        assert waits
        assert result == 2 if way == "erase" else (result.tx, result.closed) == (2, 1)
        assert await graph.last_transaction() == 2


@pytest.mark.parametrize("relationships", [False, True])
async def test_what_is_said_of_a_deletion_is_bounded_for_sql_too(
    conformance_tenants: Tenants, relationships: bool
) -> None:
    """A hundred of the longest sources fit; who goes around the library gets in no more, as it works over the quota."""
    opening = opening_of(conformance_tenants, "role")
    query = load("graph")["withdraw"].variant(relationships=relationships)
    longest = [f"{number:03}" + "\x01" * 497 for number in range(100)]
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        graph = store.for_tenant(opening.new_tenant()).graph
        added = await graph.add_entity("person", "Ada")
        link = await graph.add_relationship(added.entity_id, added.entity_id, "knows")
        subject = link.relationship_id if relationships else added.entity_id
        for sources, refused in (
            ([*longest, ""], True),
            (["x" * 310_001], True),
            (longest, False),
        ):
            asked = {
                "subject": subject,
                "expected": None,
                "actor": None,
                "reason": None,
                "sources": json.dumps(sources),
            }
            if refused:
                with pytest.raises(InvalidInput):
                    await database_of(graph).fetch(query, **asked)
            else:
                ((_, tx, *_),) = await database_of(graph).fetch(query, **asked)
                assert tx == 3
        assert (await graph.why(subject)).items[-1].sources == tuple(longest)


@pytest.mark.parametrize("direction", ["out", "both"])
async def test_a_walk_brings_large_documents_too(
    conformance_tenants: Tenants, direction: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit into its row comes in a second round trip; what is erased between the two is not come to."""
    opening = opening_of(conformance_tenants, "role")
    large = {"text": "".join(random.Random(7).choices("abcdefghijklmnop", k=20_000))}
    async with await AsyncStore.open(opening.config, provider=opening.provider) as store:
        graph = store.for_tenant(opening.new_tenant()).graph
        start = (await graph.add_entity("thing", "start", large)).entity_id
        small = (await graph.add_entity("thing", "small")).entity_id
        ends = [(await graph.add_entity("thing", f"end {n}", large)).entity_id for n in range(2)]
        await graph.add_relationship(start, small, "leads to", large)
        for end in ends:
            await graph.add_relationship(small, end, "leads to", {"n": 1})
        walked = await graph.traverse(start, direction=direction)
        assert walked.start == await graph.get_entity(start)
        assert walked.start.properties == large
        assert [each.entity.properties for each in walked] == [{}, large, large]
        assert [over.properties for over in walked.reached[-1].path] == [large, {"n": 1}]

        database = database_of(graph)
        run = database.run

        async def torn(calls: Any) -> Any:
            if calls[0][0].name == "graph.entity_documents":
                monkeypatch.setattr(database, "run", run)
                await graph.erase(ends[0], "asked for")
            return await run(calls)

        monkeypatch.setattr(database, "run", torn)
        again = await graph.traverse(start, direction=direction)
        assert [each.entity.entity_id for each in again] == [small, ends[1]]


def database_of(graph: Any) -> AsyncDatabase:
    """Return what the store's statements go through."""
    database: AsyncDatabase = graph._backend._database
    return database


def test_a_graph_that_was_there_is_kept(superuser_url: str) -> None:
    """Rows survive the exchange of indexes and constraints; two current versions of one moment are refused as before."""
    with bootstrapped_on(superuser_url) as made:
        drive_on(made.operator_dsn, migrate_postgres("llmspell", RunOptions(release="test", target=26)))
        with closing(psycopg.connect(made.superuser_dsn, autocommit=True)) as superuser:
            for tenant in ("acme", "other"):
                superuser.execute(_VERSION, (tenant, ENTITY, "2020-01-01", "2021-01-01", 1))
                superuser.execute(_VERSION, (tenant, ENTITY, "2021-01-01", "infinity", 1))
            superuser.execute(_VERSION, ("acme", NEIGHBOUR, "-infinity", "infinity", 1))
            superuser.execute(_LINK, (EDGE, ENTITY, NEIGHBOUR))
            before = _rows(superuser)
            drive_on(made.operator_dsn, migrate_postgres("llmspell", RunOptions(release="test")))
            assert _rows(superuser) == before
            with pytest.raises(psycopg.errors.ExclusionViolation):
                superuser.execute(_VERSION, ("acme", ENTITY, "2020-06-01", "2020-07-01", 2))
            with pytest.raises(psycopg.errors.ExclusionViolation):
                superuser.execute(_LINK.replace("1)", "2)").encode(), (EDGE, NEIGHBOUR, ENTITY))
            superuser.execute(_VERSION, ("third", ENTITY, "2020-06-01", "2020-07-01", 2))
            wanted = {
                "entities_current": "entity_id",
                "entities_current_type": "entity_type",
                "entities_current_name": "name",
                "relationships_current": "relationship_id",
                "relationships_current_from": "from_entity",
                "relationships_current_to": "to_entity",
            }
            for index, column in wanted.items():
                ((text,),) = superuser.execute(
                    "SELECT pg_get_indexdef(%s::regclass)", (f"llmspell.{index}",)
                ).fetchall()
                assert f"({column} IS NOT NULL)" in text


def _rows(connection: psycopg.Connection[Any]) -> list[Any]:
    found = []
    for table in ("entities", "relationships"):
        found += connection.execute(f"SELECT t.*::text FROM llmspell.{table} AS t ORDER BY 1".encode()).fetchall()
    return found
