"""The bi-temporal graph."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.graph import Entity, NewEntity, NewRelationship, Relationship
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound

HOSTILE = [
    "'; DROP TABLE entities; --",
    "%",
    "_",
    "a%b_c",
    "\\",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    "\ud7ff",
    "\U0010ffff",
    " ",
    "\n",
]


def day(number: int) -> datetime:
    """Return a day of 2020 and on, by number."""
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=number)


async def ids_of(graph: Any, count: int, **options: Any) -> list[UUID]:
    """Add entities e0, e1 … that are always there and return their ids."""
    nodes = [NewEntity("thing", f"e{number}", valid_from=LONG_AGO) for number in range(count)]
    ids: list[UUID] = await graph.add_entities(nodes, **options)
    return ids


async def link(graph: Any, one: UUID, other: UUID, kind: str = "knows", **options: Any) -> UUID:
    """Add a relationship that always holds and return its id."""
    added: Relationship = await graph.add_relationship(one, other, kind, valid_from=LONG_AGO, **options)
    return added.relationship_id


async def every(verb: Any, *args: Any, **options: Any) -> list[Any]:
    """Return all items of a listing, two a page."""
    items, cursor = [], None
    while True:
        page = await verb(*args, cursor=cursor, limit=2, **options)
        items += page.items
        cursor = page.cursor
        if cursor is None:
            return items
        assert len(page) == 2


# Entities ------------------------------------------------------------------------------------


async def test_what_is_added_is_seen(tenant: Any) -> None:
    """An entity comes back as it was added, and one that was never added is not there."""
    ada = await tenant.graph.add_entity("person", "Ada", {"born": 1815, "tags": ["a", None, 1.5]})
    seen = await tenant.graph.get_entity(ada.entity_id)
    assert seen == ada
    assert (seen.type, seen.name, dict(seen.properties)) == ("person", "Ada", {"born": 1815, "tags": ["a", None, 1.5]})
    assert (seen.valid_from, seen.valid_to) == (seen.recorded_at, None)
    assert (seen.superseded_by, seen.superseded_at, seen.embedding_hash) == (None, None, None)
    assert await tenant.graph.get_entity(uuid4()) is None
    assert await tenant.graph.get_entity(str(ada.entity_id)) == ada


async def test_an_empty_graph_answers(tenant: Any) -> None:
    """Nothing is found, nothing fails, nothing is counted."""
    graph, nobody = tenant.graph, uuid4()
    assert await graph.last_transaction() == 0
    assert await graph.get_entities([]) == {}
    assert await graph.get_relationships([nobody]) == {}
    for verb in (graph.history, graph.timeline, graph.relationship_history, graph.relationship_timeline, graph.why):
        assert await every(verb, nobody) == []
    assert await every(graph.neighbours, nobody) == []
    assert await every(graph.search) == []
    assert await every(graph.query_temporal) == []
    assert await every(graph.changes) == []
    assert await every(graph.diff, 0) == []
    assert await graph.nearest([1.0]) == []
    assert await graph.get_embedding(nobody) is None
    assert await graph.add((), ()) == ([], [])
    assert await graph.last_transaction() == 0


async def test_transactions_are_numbered_and_ordered(tenant: Any) -> None:
    """Every write is one number more and one moment later."""
    versions = [await tenant.graph.add_entity("thing", f"{number}") for number in range(3)]
    first = versions[0].tx
    assert [version.tx for version in versions] == [first, first + 1, first + 2]
    assert versions[0].recorded_at < versions[1].recorded_at < versions[2].recorded_at
    assert await tenant.graph.last_transaction() == first + 2


async def test_many_are_added_in_one_transaction(tenant: Any) -> None:
    """Ids come back in order, all under one number, and relationships may lead to what is added beside them."""
    one, other = uuid4(), uuid4()
    nodes, edges = await tenant.graph.add(
        [NewEntity("thing", "one", entity_id=one), NewEntity("thing", "other", {"n": 1}, entity_id=str(other))],
        [NewRelationship(one, other, "near", {"m": 2}), NewRelationship(other, one, "far")],
    )
    assert nodes == [one, other]
    seen = await tenant.graph.get_entities([other, one, uuid4()])
    assert list(seen) == [other, one]
    assert seen[other].properties == {"n": 1}
    links = await tenant.graph.get_relationships(edges)
    assert [(each.from_entity, each.to_entity, each.type) for each in links.values()] == [
        (one, other, "near"),
        (other, one, "far"),
    ]
    assert links[edges[0]].properties == {"m": 2}
    assert len({each.tx for each in [*seen.values(), *links.values()]}) == 1


async def test_an_id_is_taken_once(tenant: Any) -> None:
    """Adding it again does nothing at all, whatever else stands in the batch."""
    known = await tenant.graph.add_entity("thing", "known", valid_from=day(0), valid_to=day(1))
    before = await tenant.graph.last_transaction()
    with pytest.raises(AlreadyExists):
        await tenant.graph.add_entity("thing", "again", entity_id=known.entity_id, valid_from=day(5))
    fresh = uuid4()
    with pytest.raises(AlreadyExists):
        await tenant.graph.add_entities(
            [NewEntity("thing", "fresh", entity_id=fresh), NewEntity("thing", "again", entity_id=known.entity_id)]
        )
    with pytest.raises(InvalidInput):
        await tenant.graph.add_entities([NewEntity("thing", "x", entity_id=fresh)] * 2)
    assert await tenant.graph.get_entity(fresh) is None
    assert await tenant.graph.last_transaction() == before


async def test_a_relationship_needs_both_ends(tenant: Any) -> None:
    """An end that was never there, or was deleted, is not found; nothing of the batch is kept."""
    one, other = await ids_of(tenant.graph, 2)
    await tenant.graph.delete_entity(other)
    before = await tenant.graph.last_transaction()
    for near, far in ((one, uuid4()), (uuid4(), one), (one, other)):
        with pytest.raises(NotFound):
            await tenant.graph.add_relationship(near, far, "knows")
    with pytest.raises(NotFound):
        await tenant.graph.add_relationships([NewRelationship(one, one, "is"), NewRelationship(one, other, "knows")])
    assert await every(tenant.graph.neighbours, one) == []
    assert await tenant.graph.last_transaction() == before
    edge = await link(tenant.graph, one, one, "is")
    with pytest.raises(AlreadyExists):
        await tenant.graph.add_relationship(one, one, "is", relationship_id=edge)


async def test_deleting_keeps_the_past(tenant: Any) -> None:
    """What is deleted is gone now, with its relationships, and still there for who asks what was believed."""
    graph = tenant.graph
    one, other, third = await ids_of(graph, 3)
    edges = [await link(graph, one, other), await link(graph, other, one), await link(graph, one, one)]
    kept = await link(graph, other, third)
    before = await graph.last_transaction()
    receipt = await graph.delete_entity(one)
    assert (receipt.tx, receipt.closed, receipt.opened, receipt.relationships_closed) == (before + 1, 1, 0, 3)
    assert await graph.get_entity(one) is None
    assert list(await graph.get_relationships([*edges, kept])) == [kept]
    then = graph.as_of(tx=before)
    assert (await then.get_entity(one)).superseded_by == receipt.tx
    assert list(await then.get_relationships(edges)) == edges
    with pytest.raises(NotFound):
        await graph.delete_entity(one)
    back = await graph.add_entity("thing", "back", entity_id=one)
    assert (await graph.get_entity(one)).name == "back"
    assert back.tx == receipt.tx + 1
    assert [each.name for each in await graph.history(one)] == ["e0", "back"]


async def test_deleting_a_relationship(tenant: Any) -> None:
    """It is gone now, and its ends stay."""
    one, other = await ids_of(tenant.graph, 2)
    edge = await link(tenant.graph, one, other)
    receipt = await tenant.graph.delete_relationship(edge)
    assert (receipt.closed, receipt.opened) == (1, 0)
    assert await tenant.graph.get_relationship(edge) is None
    assert len(await tenant.graph.get_entities([one, other])) == 2
    with pytest.raises(NotFound):
        await tenant.graph.delete_relationship(edge)


# Both times ----------------------------------------------------------------------------------


async def test_an_update_counts_from_now(tenant: Any) -> None:
    """What was true before stays true of before."""
    graph = tenant.graph
    ada = await graph.add_entity("person", "Ada Byron", {"title": None}, valid_from=day(0))
    receipt = await graph.update_entity(ada.entity_id, name="Ada Lovelace", merge={"spouse": "William"})
    assert (receipt.tx, receipt.closed, receipt.opened) == (ada.tx + 1, 1, 2)
    now = await graph.get_entity(ada.entity_id)
    assert (now.name, dict(now.properties)) == ("Ada Lovelace", {"title": None, "spouse": "William"})
    assert (now.valid_from, now.valid_to) == (receipt.at, None)
    earlier = await graph.as_of(day(100)).get_entity(ada.entity_id)
    assert (earlier.name, earlier.valid_from, earlier.valid_to) == ("Ada Byron", day(0), receipt.at)
    assert earlier.tx == receipt.tx
    assert (
        await graph.as_of(day(100), ada.tx).get_entity(ada.entity_id) == (await graph.history(ada.entity_id)).items[0]
    )


async def test_an_update_of_a_range_splits_it(tenant: Any) -> None:
    """Only what is known inside the range changes; nothing is made up where nothing is known."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", {"n": 1}, valid_from=day(10), valid_to=day(20))).entity_id
    await graph.update_entity(one, name="b", properties={"m": 2}, valid_from=day(15), valid_to=day(30))
    timeline = [(each.name, each.valid_from, each.valid_to) for each in await graph.timeline(one)]
    assert timeline == [("a", day(10), day(15)), ("b", day(15), day(20))]
    assert [dict(each.properties) for each in await graph.timeline(one)] == [{"n": 1}, {"m": 2}]
    receipt = await graph.update_entity(one, type="other", valid_from=day(12), valid_to=day(17))
    assert (receipt.closed, receipt.opened) == (2, 4)
    typed = [(each.type, each.name, each.valid_from, each.valid_to) for each in await graph.timeline(one)]
    assert typed == [
        ("thing", "a", day(10), day(12)),
        ("other", "a", day(12), day(15)),
        ("other", "b", day(15), day(17)),
        ("thing", "b", day(17), day(20)),
    ]
    for start, end in ((day(0), day(10)), (day(20), None)):
        with pytest.raises(NotFound):
            await graph.update_entity(one, name="c", valid_from=start, valid_to=end)


async def test_a_correction_says_what_was_true(tenant: Any) -> None:
    """It replaces what was known in its range, and makes known what was not."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", {"n": 1}, valid_from=day(10), valid_to=day(20))).entity_id
    receipt = await graph.correct_entity(one, type="thing", name="b", valid_from=day(12), valid_to=day(14))
    assert (receipt.closed, receipt.opened) == (1, 3)
    receipt = await graph.correct_entity(one, type="thing", name="c", valid_from=day(30), valid_to=day(40))
    assert (receipt.closed, receipt.opened) == (0, 1)
    await graph.correct_entity(one, type="late", name="d", properties={"x": []}, valid_from=day(18))
    timeline = [(each.type, each.name, each.valid_from, each.valid_to) for each in await graph.timeline(one)]
    assert timeline == [
        ("thing", "a", day(10), day(12)),
        ("thing", "b", day(12), day(14)),
        ("thing", "a", day(14), day(18)),
        ("late", "d", day(18), None),
    ]
    with pytest.raises(NotFound):
        await graph.correct_entity(uuid4(), type="thing", name="b", valid_from=day(12))


async def test_a_retraction_leaves_the_rest(tenant: Any) -> None:
    """Inside the range nothing is known any more, outside everything is."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", valid_from=LONG_AGO)).entity_id
    await graph.retract_entity(one, valid_from=day(10), valid_to=day(20))
    assert [(each.valid_from, each.valid_to) for each in await graph.timeline(one)] == [
        (LONG_AGO, day(10)),
        (day(20), None),
    ]
    assert await graph.as_of(day(10)).get_entity(one) is None
    assert (await graph.as_of(day(20)).get_entity(one)).name == "a"
    with pytest.raises(NotFound):
        await graph.retract_entity(one, valid_from=day(10), valid_to=day(20))
    await graph.retract_entity(one)
    assert await graph.get_entity(one) is None
    assert (await graph.as_of(day(50)).get_entity(one)).valid_to is not None


async def test_relationships_have_both_times_too(tenant: Any) -> None:
    """They are updated, corrected and retracted over ranges; their ends stay."""
    graph = tenant.graph
    one, other = await ids_of(graph, 2)
    edge = (
        await graph.add_relationship(one, other, "works_at", {"as": "x"}, valid_from=day(0), valid_to=day(9))
    ).relationship_id
    await graph.update_relationship(edge, merge={"pay": 1}, valid_from=day(5))
    await graph.correct_relationship(edge, type="leads", properties={"as": "y"}, valid_from=day(8), valid_to=day(12))
    await graph.retract_relationship(edge, valid_from=day(1), valid_to=day(2))
    timeline = await graph.relationship_timeline(edge)
    assert [(each.type, dict(each.properties), each.valid_from, each.valid_to) for each in timeline] == [
        ("works_at", {"as": "x"}, day(0), day(1)),
        ("works_at", {"as": "x"}, day(2), day(5)),
        ("works_at", {"as": "x", "pay": 1}, day(5), day(8)),
        ("leads", {"as": "y"}, day(8), day(12)),
    ]
    assert {(each.from_entity, each.to_entity) for each in timeline} == {(one, other)}
    await graph.update_relationship(edge, type="left", properties={}, valid_from=day(0), valid_to=day(1))
    assert (await graph.as_of(day(0)).get_relationship(edge)).type == "left"
    assert len(await every(graph.relationship_history, edge)) == len((await graph.relationship_history(edge)).items)
    for call in (
        graph.update_relationship(uuid4(), type="x"),
        graph.correct_relationship(uuid4(), type="x", valid_from=day(0)),
        graph.retract_relationship(uuid4()),
    ):
        with pytest.raises(NotFound):
            await call


async def test_what_was_believed_stays(tenant: Any) -> None:
    """Whatever is written later, a view of a past transaction says the same, by number and by time."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", valid_from=day(0))).entity_id
    texts, receipts = [], []
    for number in range(5):
        receipt = await graph.correct_entity(
            one, type="thing", name=f"n{number}", valid_from=day(0), valid_to=day(50 - number)
        )
        receipts.append(receipt)
        texts.append([(await graph.as_of(day(at)).get_entity(one)).name for at in (0, 46, 48, 60)])
    for receipt, said in zip(receipts, texts, strict=True):
        for known in (receipt.tx, receipt.at):
            views = [graph.as_of(day(at), known) for at in (0, 46, 48, 60)]
            assert [(await view.get_entity(one)).name for view in views] == said
        assert (await graph.get_entity_at(one, day(0), receipt.at)).name == said[0]
        assert (await graph.get_entity_at(one, day(0), receipt.tx)).name == said[0]
        assert next(each.name for each in await graph.timeline(one, tx=receipt.tx)) == said[0]
    before = receipts[0].at - timedelta(days=1)
    assert await graph.as_of(day(0), before).get_entity(one) is None
    assert await graph.as_of(day(0), 0).get_entity(one) is None
    assert await graph.believed_at(before).get_entity(one) is None
    assert (await graph.believed_at(receipts[2].at).get_entity(one)).name == "a"


async def test_a_snapshot_does_not_move(tenant: Any) -> None:
    """Later writes are not in it, and are in the current view."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a")).entity_id
    snapshot, current = await graph.snapshot(), graph.current()
    await graph.update_entity(one, name="b")
    other = (await graph.add_entity("thing", "c")).entity_id
    assert (await snapshot.get_entity(one)).name == "a"
    assert await snapshot.get_entity(other) is None
    assert (await current.get_entity(one)).name == "b"
    assert (await current.get_entity(other)).name == "c"
    assert current.moment.tx is None


async def test_ranges_are_half_open(tenant: Any) -> None:
    """The start belongs to a range, the end does not."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", valid_from=day(1), valid_to=day(2))).entity_id
    tick = timedelta(microseconds=1)
    seen = [await graph.as_of(at).get_entity(one) is not None for at in (day(1) - tick, day(1), day(2) - tick, day(2))]
    assert seen == [False, True, True, False]


async def test_always_and_for_ever(tenant: Any) -> None:
    """The infinities are ends like others, and come back as they were."""
    graph = tenant.graph
    one = await graph.add_entity("thing", "a", valid_from=LONG_AGO, valid_to=FOREVER)
    assert (one.valid_from, one.valid_to) == (LONG_AGO, None)
    early = datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert await graph.as_of(early).get_entity(one.entity_id) == one
    assert await graph.as_of(datetime(9999, 1, 1, tzinfo=UTC)).get_entity(one.entity_id) == one


@pytest.mark.parametrize(("start", "end"), [(day(1), day(1)), (day(2), day(1)), (FOREVER, None), (None, day(1))])
async def test_empty_ranges_are_refused(tenant: Any, start: datetime | None, end: datetime | None) -> None:
    """A range that ends where it begins, or before, or before now, cannot be."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", valid_from=LONG_AGO)).entity_id
    edge = await link(graph, one, one)
    before = await graph.last_transaction()
    for call in (
        graph.add_entity("thing", "b", valid_from=start, valid_to=end),
        graph.add_relationship(one, one, "x", valid_from=start, valid_to=end),
        graph.update_entity(one, name="b", valid_from=start, valid_to=end),
        graph.update_relationship(edge, type="b", valid_from=start, valid_to=end),
        graph.retract_entity(one, valid_from=start, valid_to=end),
        graph.retract_relationship(edge, valid_from=start, valid_to=end),
    ):
        with pytest.raises(InvalidInput):
            await call
    assert await graph.last_transaction() == before
    assert len(await graph.history(one)) == 1


async def test_an_expected_transaction_guards(tenant: Any) -> None:
    """A write goes through when nothing about its subject is newer, and changes nothing otherwise."""
    graph = tenant.graph
    ada = await graph.add_entity("person", "Ada", valid_from=day(0))
    one = ada.entity_id
    second = await graph.update_entity(one, name="A", valid_from=day(5), expected_tx=ada.tx)
    for call in (
        graph.update_entity(one, name="B", expected_tx=ada.tx),
        graph.correct_entity(one, type="x", name="B", valid_from=day(0), expected_tx=ada.tx),
        graph.retract_entity(one, expected_tx=ada.tx),
        graph.delete_entity(one, expected_tx=ada.tx),
    ):
        with pytest.raises(Conflict):
            await call
    assert await graph.last_transaction() == second.tx
    assert (await graph.get_entity(one)).name == "A"
    await graph.delete_entity(one, expected_tx=second.tx)
    other = await graph.add_entity("thing", "o")
    edge = await graph.add_relationship(other.entity_id, other.entity_id, "is")
    await graph.update_relationship(edge.relationship_id, type="was", expected_tx=edge.tx)
    for call in (
        graph.update_relationship(edge.relationship_id, type="is", expected_tx=edge.tx),
        graph.delete_relationship(edge.relationship_id, expected_tx=edge.tx),
        graph.retract_relationship(edge.relationship_id, expected_tx=edge.tx),
        graph.correct_relationship(edge.relationship_id, type="x", valid_from=day(0), expected_tx=edge.tx),
    ):
        with pytest.raises(Conflict):
            await call


# Neighbours, walks, paths --------------------------------------------------------------------


async def test_neighbours_by_direction_and_type(tenant: Any) -> None:
    """Relationships are listed with their other ends, loops once, in order and by page."""
    graph = tenant.graph
    one, two, three = await ids_of(graph, 3)
    out = [await link(graph, one, two, "b"), await link(graph, one, three, "a"), await link(graph, one, two, "a")]
    back = await link(graph, three, one, "c")
    loop = await link(graph, one, one, "d")
    await link(graph, two, three, "a")

    async def seen(**options: Any) -> list[tuple[UUID, UUID]]:
        found = await every(graph.neighbours, one, **options)
        assert found == list(await graph.neighbours(one, **options))
        return [(each.relationship.relationship_id, each.entity.entity_id) for each in found]

    of_a = sorted([(out[1], three), (out[2], two)])
    assert await seen(direction="out") == [*of_a, (out[0], two), (loop, one)]
    assert await seen(direction="in") == [(back, three), (loop, one)]
    assert await seen() == [*of_a, (out[0], two), (back, three), (loop, one)]
    assert await seen(types="a") == of_a
    assert await seen(types=["c", "b", "zz"], direction="both") == [(out[0], two), (back, three)]
    assert await seen(types=[]) == []


async def test_a_neighbour_that_is_not_there_hides_its_relationship(tenant: Any) -> None:
    """Outside the validity of either end a relationship is not walked over, though it is known."""
    graph = tenant.graph
    one, two, three = await ids_of(graph, 3)
    edges = [await link(graph, one, two), await link(graph, two, three)]
    await graph.retract_entity(two, valid_from=day(0), valid_to=day(9))
    within, after = graph.as_of(day(5)), graph.as_of(day(9))
    assert await every(within.neighbours, one) == []
    assert [each.relationship.relationship_id for each in await after.neighbours(one)] == edges[:1]
    assert [each.entity.entity_id for each in await after.traverse(one)] == [two, three]
    assert len(await within.traverse(one)) == 0
    assert await within.path(one, three) is None
    assert (await within.get_relationship(edges[0])).to_entity == two
    with pytest.raises(NotFound):
        await within.traverse(two)
    with pytest.raises(NotFound):
        await within.path(one, two)


async def test_a_walk_goes_breadth_first_and_ends(tenant: Any) -> None:
    """Each entity is reached once, by the fewest hops and the least relationships; cycles end."""
    graph = tenant.graph
    nodes = sorted(await ids_of(graph, 6))
    a, b, c, d, e, f = nodes
    to_b, _, to_c = await link(graph, a, b), await link(graph, a, b), await link(graph, a, c)
    ways = sorted([(await link(graph, b, d), to_b), (await link(graph, c, d), to_c)])
    to_e, to_f = await link(graph, d, e), await link(graph, e, f)
    await link(graph, f, a)
    await link(graph, a, a)
    first_b = min(
        each.relationship.relationship_id
        for each in await graph.neighbours(a, direction="out")
        if each.entity.entity_id == b
    )
    found = await graph.traverse(a)
    assert found.start.entity_id == a
    assert found.complete
    assert [(each.entity.entity_id, each.depth) for each in found] == [(b, 1), (c, 1), (d, 2), (e, 3), (f, 4)]
    paths = {each.entity.entity_id: [over.relationship_id for over in each.path] for each in found}
    assert paths[b] == [first_b]
    assert paths[d] == [ways[0][1] if ways[0][1] == to_c else first_b, ways[0][0]]
    assert paths[f] == [*paths[d], to_e, to_f]
    assert [each.entity.entity_id for each in await graph.traverse(a, depth=2)] == [b, c, d]
    assert [each.entity.entity_id for each in await graph.traverse(a, depth=1, direction="in")] == [f]
    assert {each.entity.entity_id for each in await graph.traverse(d, direction="both", depth=1)} == {b, c, e}
    assert len(await graph.traverse(a, depth=32, direction="both")) == 5
    assert [each.entity.entity_id for each in await graph.get_related(a, max_depth=1)] == [b, c]
    assert await graph.get_related(a, "nothing") == []


async def test_a_walk_is_bounded(tenant: Any) -> None:
    """A limit cuts the farthest and says so; a fan-out bounds each entity; types bound what is walked."""
    graph = tenant.graph
    nodes = sorted(await ids_of(graph, 9))
    start, others = nodes[0], nodes[1:]
    await graph.add_relationships(
        [NewRelationship(start, other, f"t{place % 2}", valid_from=LONG_AGO) for place, other in enumerate(others[:5])]
        + [NewRelationship(others[0], other, "t0", valid_from=LONG_AGO) for other in others[5:]]
    )
    found = await graph.traverse(start, limit=3)
    assert [each.entity.entity_id for each in found] == others[:3]
    assert not found.complete
    exact = await graph.traverse(start, limit=8)
    assert [each.entity.entity_id for each in exact] == others
    assert exact.complete
    assert [each.depth for each in await graph.traverse(start, limit=6)] == [1, 1, 1, 1, 1, 2]
    fanned = await graph.traverse(start, fanout=2, depth=1)
    first_two = [each.entity.entity_id for each in (await graph.neighbours(start, direction="out", limit=2)).items]
    assert [each.entity.entity_id for each in fanned] == sorted(first_two)
    odd = await graph.traverse(start, types=["t1"])
    assert [each.entity.entity_id for each in odd] == [others[1], others[3]]


async def test_a_path_is_shortest(tenant: Any) -> None:
    """The way has the fewest hops, joins end to end, and is the same each time."""
    graph = tenant.graph
    nodes = await ids_of(graph, 8)
    for one, other in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 4), (6, 4)):
        await link(graph, nodes[one], nodes[other])
    path = await graph.path(nodes[0], nodes[4])
    assert [each.entity_id for each in path.entities] == [nodes[0], nodes[5], nodes[4]]
    assert [(each.from_entity, each.to_entity) for each in path.relationships] == [
        (nodes[0], nodes[5]),
        (nodes[5], nodes[4]),
    ]
    assert path.hops == 2
    assert await graph.path(nodes[0], nodes[4], depth=1) is None
    assert await graph.path(nodes[4], nodes[0]) is None
    assert (await graph.path(nodes[4], nodes[0], direction="in")).hops == 2
    assert await graph.path(nodes[0], nodes[6]) is None
    assert (await graph.path(nodes[0], nodes[6], direction="both")).hops == 3
    assert await graph.path(nodes[0], nodes[7], direction="both", depth=32) is None
    alone = await graph.path(nodes[0], nodes[0])
    assert ([each.entity_id for each in alone.entities], alone.relationships) == ([nodes[0]], ())
    with pytest.raises(NotFound):
        await graph.path(nodes[0], uuid4())
    with pytest.raises(NotFound):
        await graph.traverse(uuid4())


async def test_walks_of_the_past(tenant: Any) -> None:
    """Neighbours, walks, paths and searches see what a view sees."""
    graph = tenant.graph
    one, two, three = await ids_of(graph, 3)
    edge = await link(graph, one, two)
    await link(graph, two, three)
    before = await graph.last_transaction()
    await graph.delete_relationship(edge)
    await graph.update_entity(three, name="changed", valid_from=LONG_AGO)
    assert len(await graph.traverse(one)) == 0
    ticks = (await graph.history(three)).items[-1].recorded_at - timedelta(microseconds=1)
    for known in (before, before + 1, ticks):
        view = graph.as_of(day(0), known)
        assert len(await view.traverse(one)) == (2 if known == before else 0)
        assert len(await view.neighbours(one)) == (1 if known == before else 0)
        assert (await view.path(one, three) is None) == (known != before)
        assert [each.entity_id for each in await view.search(name="e2")] == [three]
        assert await every(view.search, name="changed") == []
    assert [each.entity_id for each in await graph.search(name="changed")] == [three]


# Search --------------------------------------------------------------------------------------


async def test_searches(tenant: Any) -> None:
    """By type, name, prefix and properties, in order and by page."""
    graph = tenant.graph
    names = ["Ada", "Adam", "Bob", "ada", "A%", "A_", "Ad\U0001f600", "Ad\uffff"]
    nodes = await graph.add_entities(
        [NewEntity("person" if place % 2 else "robot", name, {"n": place}) for place, name in enumerate(names)]
    )
    by_name = dict(zip(names, nodes, strict=True))

    async def found(**options: Any) -> list[UUID]:
        page = [each.entity_id for each in await graph.search(**options)]
        assert page == [each.entity_id for each in await every(graph.search, **options)]
        return page

    assert await found() == sorted(nodes)
    assert await found(type="robot") == sorted(nodes[::2])
    assert await found(name="Ada") == [by_name["Ada"]]
    assert await found(prefix="Ad") == [by_name[name] for name in ("Ada", "Adam", "Ad\uffff", "Ad\U0001f600")]
    assert await found(prefix="A%") == [by_name["A%"]]
    assert await found(prefix="A_") == [by_name["A_"]]
    assert await found(prefix="Ad", type="person") == [by_name["Adam"], by_name["Ad\uffff"]]
    assert await found(where={"n": {"$gte": 6}}) == sorted(nodes[6:])
    assert await found(type="robot", where={"n": {"$in": [0, 1, 2]}}) == sorted([nodes[0], nodes[2]])
    assert await found(name="nobody") == []
    assert [each.name async for each in graph.scan(prefix="Ada")] == ["Ada", "Adam"]
    assert len([each async for each in graph.scan(type="robot", where={"n": 0})]) == 1


@pytest.mark.parametrize("text", HOSTILE)
async def test_texts_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No name, type, property, actor or source is taken for a pattern, an escape or another spelling of itself."""
    graph = tenant.graph
    one = await graph.add_entity(text, text, {text: text}, actor=text, reason=text, sources=[text])
    await graph.add_entity(f"{text}!", f"!{text}")
    await graph.add_relationship(one.entity_id, one.entity_id, text, {text: [text]})
    await graph.update_entity(one.entity_id, merge={f"{text}{text}": text})
    assert [each.entity_id for each in await graph.search(type=text, name=text)] == [one.entity_id]
    assert [each.entity_id for each in await graph.search(prefix=text)] == [one.entity_id]
    assert [each.relationship.properties for each in await graph.neighbours(one.entity_id, types=text)] == [
        {text: [text]}
    ]
    said = (await graph.why(one.entity_id)).items[0]
    assert (said.actor, said.reason, said.sources) == (text, text, (text,))
    assert dict((await graph.get_entity(one.entity_id)).properties) == {text: text, f"{text}{text}": text}


async def test_embeddings_are_found_by_nearness(tenant: Any) -> None:
    """Nearest first, exactly; other dimensions and entities without an embedding are passed over."""
    graph = tenant.graph
    vectors = [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0], None]
    nodes = await graph.add_entities(
        [
            NewEntity("a" if place % 2 else "b", f"{place}", {"n": place}, embedding=vector)
            for place, vector in enumerate(vectors)
        ]
    )
    found = await graph.nearest([2.0, 0.0, 0.0])
    assert [each.entity.entity_id for each in found] == nodes[:4]
    assert [round(each.score, 6) for each in found] == [1.0, 0.993884, 0.0, -1.0]
    assert [each.entity.entity_id for each in await graph.nearest([1, 0, 0], limit=1)] == nodes[:1]
    assert [each.entity.entity_id for each in await graph.nearest([1, 0, 0], type="a")] == [nodes[1], nodes[3]]
    assert [each.entity.entity_id for each in await graph.nearest([1, 0, 0], where={"n": {"$gt": 1}})] == nodes[2:4]
    assert [each.entity.entity_id for each in await graph.nearest([1.0, 1.0])] == [nodes[4]]
    assert await graph.nearest([1.0]) == []
    assert (await graph.get_embedding(nodes[4])).hex() == "0000803f00000000"
    assert await graph.get_embedding(nodes[5]) is None


async def test_an_embedding_belongs_to_versions(tenant: Any) -> None:
    """It stays when other things change, is replaced or taken away when asked, and the past keeps its own."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", embedding=[1.0, 0.0], valid_from=day(0))).entity_id
    first = (await graph.get_entity(one)).embedding_hash
    assert first == sha256(bytes.fromhex("0000803f00000000")).digest()
    await graph.update_entity(one, name="b", valid_from=day(1))
    assert (await graph.get_entity(one)).embedding_hash == first
    await graph.update_entity(one, embedding=[0.0, 1.0], valid_from=day(2))
    await graph.update_entity(one, embedding=None, valid_from=day(3))
    assert (await graph.get_entity(one)).embedding_hash is None
    assert await graph.nearest([1.0, 0.0]) == []
    assert [each.score for each in await graph.as_of(day(1)).nearest([1.0, 0.0])] == [1.0]
    assert [each.score for each in await graph.as_of(day(2)).nearest([1.0, 0.0])] == [0.0]
    assert (await graph.as_of(day(2)).get_embedding(one)).hex() == "000000000000803f"
    await graph.correct_entity(one, type="thing", name="c", valid_from=day(0), embedding=[1.0, 0.0])
    assert (await graph.get_entity(one)).embedding_hash == first


# Looking back --------------------------------------------------------------------------------


async def test_why_tells_who_and_from_what(tenant: Any) -> None:
    """Every transaction that touched a subject is told, with what its writer said, if anything."""
    graph = tenant.graph
    one = (
        await graph.add_entity("thing", "a", actor="ann", reason="seen", sources=["mail-2", "mail-1", "mail-2"])
    ).entity_id
    other = (await graph.add_entity("thing", "o")).entity_id
    await graph.update_entity(one, name="b")
    edge = (await graph.add_relationship(one, other, "x", sources=["doc"])).relationship_id
    receipt = await graph.delete_entity(one, actor="bob")
    told = await every(graph.why, one)
    assert [(each.actor, each.reason, each.sources) for each in told] == [
        ("ann", "seen", ("mail-2", "mail-1")),
        (None, None, ()),
        ("bob", None, ()),
    ]
    assert told[-1].tx == receipt.tx
    assert told[-1].at == receipt.at
    assert [each.tx for each in told] == sorted(each.tx for each in told)
    assert [(each.actor, each.sources) for each in await graph.why(edge)] == [(None, ("doc",)), ("bob", ())]


async def test_history_and_timeline_are_paged(tenant: Any) -> None:
    """History is in the order of recording, the timeline in the order of the world."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "0", valid_from=day(0))).entity_id
    for number in (5, 3, 7, 1):
        await graph.update_entity(one, name=str(number), valid_from=day(number), valid_to=day(number + 1))
    history = await every(graph.history, one)
    assert [(each.tx, each.valid_from) for each in history] == sorted((each.tx, each.valid_from) for each in history)
    assert len(history) == 13
    assert history == list(await graph.history(one))
    timeline = await every(graph.timeline, one)
    assert [each.name for each in timeline] == ["0", "1", "0", "3", "0", "5", "0", "7", "0"]
    assert all(before.valid_to == after.valid_from for before, after in pairwise(timeline))
    assert [each.name for each in await every(graph.timeline, one, tx=history[0].tx + 1)] == ["0", "5", "0"]
    assert [each.name for each in await every(graph.timeline, one, tx=history[0].recorded_at)] == ["0"]


async def test_ranges_of_both_times_are_queried(tenant: Any) -> None:
    """Versions that touch the ranges are found, and no others."""
    graph = tenant.graph
    one = (await graph.add_entity("person", "Ada", {"n": 1}, valid_from=day(0), valid_to=day(10))).entity_id
    other = (await graph.add_entity("robot", "Bob", valid_from=day(5))).entity_id
    middle = (await graph.history(other)).items[0].recorded_at
    await graph.update_entity(one, name="Adam", valid_from=day(4))

    async def found(**options: Any) -> list[tuple[UUID, str, datetime]]:
        versions = await every(graph.query_temporal, **options)
        assert versions == list(await graph.query_temporal(**options))
        return [(each.entity_id, each.name, each.valid_from) for each in versions]

    whole = [(one, "Ada", day(0)), (one, "Ada", day(0)), (one, "Adam", day(4)), (other, "Bob", day(5))]
    if other < one:
        whole = [whole[3], *whole[:3]]
    assert await found() == whole
    assert await found(type="person") == [each for each in whole if each[0] == one]
    assert await found(valid_from=day(4), valid_to=day(5)) == [(one, "Ada", day(0)), (one, "Adam", day(4))]
    assert await found(valid_to=day(4), valid_from=day(3)) == [(one, "Ada", day(0)), (one, "Ada", day(0))]
    assert await found(valid_from=day(10)) == [(other, "Bob", day(5))]
    assert await found(recorded_to=middle) == [(one, "Ada", day(0))]
    assert await found(recorded_from=middle + timedelta(microseconds=1), name="Ada") == [(one, "Ada", day(0))] * 2
    assert await found(where={"n": 1}, prefix="Adam") == [(one, "Adam", day(4))]
    assert await found(name="Bob", valid_to=day(5)) == []


async def test_changes_rebuild_a_copy(tenant: Any) -> None:
    """Whoever repeats the changes in order has the same current versions, whatever pages they came in."""
    graph = tenant.graph
    nodes = await ids_of(graph, 3)
    edge = await link(graph, nodes[0], nodes[1])
    since = await graph.last_transaction()
    await graph.update_entity(nodes[0], name="new", valid_from=day(0), valid_to=day(9))
    await graph.update_relationship(edge, type="new", valid_from=day(0))
    await graph.delete_entity(nodes[1])
    await graph.erase(nodes[2], "asked", actor="ann")
    found = await every(graph.changes)
    assert found == list(await graph.changes())
    assert [each.tx for each in found] == sorted(each.tx for each in found)
    copy: dict[Any, Any] = {}
    for change in found:
        version = change.version
        if change.action == "erased":
            copy = {
                key: kept for key, kept in copy.items() if sha256(str(key[0]).encode()).digest() != change.erased_hash
            }
            continue
        key = (
            version.entity_id if isinstance(version, Entity) else version.relationship_id,
            version.tx,
            version.valid_from,
        )
        if change.action == "opened":
            assert (version.tx, version.recorded_at) == (change.tx, change.at)
            copy[key] = version
        else:
            assert (version.superseded_by, version.superseded_at) == (change.tx, change.at)
            del copy[key]
    assert {key[0] for key in copy} == {nodes[0]}
    assert sorted(copy.values(), key=lambda each: each.valid_from) == list(await graph.timeline(nodes[0]))
    later = await every(graph.changes, since)
    assert later == [each for each in found if each.tx > since]
    assert {each.action for each in later} == {"opened", "closed", "erased"}
    assert await every(graph.changes, await graph.last_transaction()) == []


async def test_differences_between_beliefs(tenant: Any) -> None:
    """What was added, dropped or changed between two transactions is told once, and what came back the same is not."""
    graph = tenant.graph
    nodes = await ids_of(graph, 5)
    edges = [await link(graph, nodes[0], nodes[1]), await link(graph, nodes[1], nodes[2])]
    before = await graph.last_transaction()
    await graph.update_entity(nodes[0], name="new", valid_from=day(0))
    await graph.update_entity(nodes[3], name="not now", valid_from=day(0), valid_to=day(1))
    await graph.delete_entity(nodes[2])
    await graph.delete_entity(nodes[4])
    await graph.add_entity("thing", "e4", entity_id=nodes[4], valid_from=LONG_AGO)
    fresh = (await graph.add_entity("thing", "fresh", valid_from=day(0))).entity_id
    after = await graph.last_transaction()

    def told(found: Iterable[Any]) -> list[Any]:
        return [
            tuple(None if each is None else getattr(each, "name", each.type) for each in (one.before, one.after))
            for one in found
        ]

    def ids(found: Iterable[Any]) -> list[UUID]:
        versions = [one.before or one.after for one in found]
        return [each.entity_id if isinstance(each, Entity) else each.relationship_id for each in versions]

    changed = sorted([nodes[0], nodes[2], fresh])
    found = await every(graph.diff, before, after)
    assert ids(found) == [*changed, edges[1]]
    by_id = dict(zip(ids(found), told(found), strict=True))
    assert by_id == {nodes[0]: ("e0", "new"), nodes[2]: ("e2", None), fresh: (None, "fresh"), edges[1]: ("knows", None)}
    assert list(await graph.diff(before)) == found
    assert await every(graph.diff, graph.as_of(tx=before), graph.current()) == found
    moment = (await graph.history(fresh)).items[0].recorded_at
    assert ids(await graph.diff(before, moment)) == ids(found)
    backwards = await every(graph.diff, after, before)
    assert dict(zip(ids(backwards), told(backwards), strict=True))[nodes[0]] == ("new", "e0")
    assert await every(graph.diff, after, after) == []


async def test_differences_over_valid_time(tenant: Any) -> None:
    """Two moments of the world are compared as they are believed now, or were."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", valid_from=day(0), valid_to=day(10))).entity_id
    same = (await graph.add_entity("thing", "same", {"n": 1}, valid_from=day(0))).entity_id
    before = await graph.last_transaction()
    await graph.update_entity(same, merge={"n": 1}, valid_from=day(5))
    await graph.update_entity(one, name="b", valid_from=day(6))
    found = await every(graph.diff, graph.as_of(day(1)), graph.as_of(day(7)))
    assert [(each.before.name, each.after.name) for each in found] == [("a", "b")]
    found = await every(graph.diff, graph.as_of(day(7)), graph.as_of(day(20)))
    assert [(each.before.name, each.after) for each in found] == [("b", None)]
    assert await every(graph.diff, graph.as_of(day(1), before), graph.as_of(day(7), before)) == []


async def test_one_and_true_differ(tenant: Any) -> None:
    """Values that Python takes for equal are told apart as documents."""
    one = (await tenant.graph.add_entity("thing", "a", {"n": 1}, valid_from=day(0))).entity_id
    before = await tenant.graph.last_transaction()
    await tenant.graph.update_entity(one, properties={"n": True}, valid_from=day(0))
    assert [each.after.properties["n"] for each in await tenant.graph.diff(before)] == [True]


async def test_erasing_leaves_a_trace_only(tenant: Any) -> None:
    """Every version, relationship and embedding goes, from the past too; the id can be used anew."""
    graph = tenant.graph
    one, other = await ids_of(graph, 2)
    await graph.update_entity(one, name="b", embedding=[1.0, 2.0])
    edges = [await link(graph, one, other), await link(graph, other, one)]
    before = await graph.last_transaction()
    assert await graph.erase(one, "GDPR, article 17", actor="dpo") == 5
    assert await graph.last_transaction() == before + 1
    then = graph.as_of(tx=before)
    assert await then.get_entity(one) is None
    assert await then.get_relationships(edges) == {}
    assert await every(graph.history, one) == []
    assert await every(graph.why, one) == []
    assert await graph.nearest([1.0, 2.0]) == []
    (trace,) = [each for each in await graph.changes() if each.action == "erased"]
    assert trace.erased_hash == sha256(str(one).encode()).digest()
    assert (trace.tx, trace.version) == (before + 1, None)
    with pytest.raises(NotFound):
        await graph.erase(one, "again")
    assert await graph.last_transaction() == before + 1
    assert (await graph.add_entity("thing", "new", entity_id=one)).tx == before + 2
    assert len(await graph.history(one)) == 1
    assert (await graph.get_entity(other)).name == "e1"


# Refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", "x" * 501, 7, b"a"])
async def test_texts_that_cannot_be_kept_are_refused(tenant: Any, text: Any) -> None:
    """Names, types, actors, reasons and sources are checked before anything is sent."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a")).entity_id
    for call in (
        graph.add_entity(text, "a"),
        graph.add_entity("thing", text),
        graph.add_relationship(one, one, text),
        graph.update_entity(one, name=text),
        graph.update_entity(one, type=text),
        graph.correct_entity(one, type="thing", name=text, valid_from=day(0)),
        graph.add_entity("thing", "a", actor=text),
        graph.add_entity("thing", "a", reason=text),
        graph.add_entity("thing", "a", sources=[text]),
        graph.erase(one, text),
        graph.search(name=text),
        graph.search(prefix=text),
        graph.neighbours(one, types=[text]),
    ):
        with pytest.raises(InvalidInput):
            await call
    assert len(await graph.history(one)) == 1


@pytest.mark.parametrize("value", ["", "no id", 7, None, b"0" * 16])
async def test_ids_that_are_none_are_refused(tenant: Any, value: Any) -> None:
    """Every verb that takes an id wants a UUID."""
    graph = tenant.graph
    for call in (
        graph.get_entity(value),
        graph.get_entities([value]),
        graph.get_relationship(value),
        graph.get_relationships([value]),
        graph.neighbours(value),
        graph.traverse(value),
        graph.path(value, uuid4()),
        graph.path(uuid4(), value),
        graph.get_embedding(value),
        graph.add_relationship(value, uuid4(), "x"),
        graph.update_entity(value, name="x"),
        graph.delete_entity(value),
        graph.delete_relationship(value),
        graph.retract_entity(value),
        graph.history(value),
        graph.timeline(value),
        graph.why(value),
        graph.erase(value, "x"),
    ):
        with pytest.raises(InvalidInput):
            await call


async def test_arguments_that_cannot_be_are_refused(tenant: Any) -> None:
    """Each fault is told before anything is sent."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a")).entity_id
    naive = datetime(2020, 1, 1)  # noqa: DTZ001 - that is the fault
    for call in (
        graph.add_entity("thing", "a", {"x": float("nan")}),
        graph.add_entity("thing", "a", {"x": 2**63}),
        graph.add_entity("thing", "a", {"x": "\ud800"}),
        graph.add_entity("thing", "a", [1]),
        graph.add_entity("thing", "a", {"x": "y" * (1 << 20)}),
        graph.add_entity("thing", "a", valid_from=naive),
        graph.add_entity("thing", "a", valid_to="tomorrow"),
        graph.add_entity("thing", "a", embedding=[]),
        graph.add_entity("thing", "a", embedding=[0.0, 0.0]),
        graph.add_entity("thing", "a", embedding=[float("inf")]),
        graph.add_entity("thing", "a", embedding=["x"]),
        graph.add_entity("thing", "a", embedding=b"abcd"),
        graph.add_entity("thing", "a", embedding=[1.0] * 16_001),
        graph.add_entity("thing", "a", sources="mail"),
        graph.add_entity("thing", "a", sources=["x"] * 101),
        graph.add_entities(["thing"]),
        graph.add_relationships([{"type": "x"}]),
        graph.update_entity(one),
        graph.update_entity(one, properties={}, merge={}),
        graph.update_entity(one, embedding="none"),
        graph.update_entity(one, name="b", expected_tx=-1),
        graph.update_relationship(one),
        graph.search(name="a", prefix="a"),
        graph.search(where={"a": {"$what": 1}}),
        graph.search(limit=0),
        graph.search(limit=10_001),
        graph.search(cursor="nonsense"),
        graph.history(one, cursor="nonsense"),
        graph.changes(-1),
        graph.changes(cursor="nonsense"),
        graph.diff(0, cursor="nonsense"),
        graph.query_temporal(valid_from=day(1), valid_to=day(1)),
        graph.query_temporal(recorded_from=day(2), recorded_to=day(1)),
        graph.traverse(one, depth=0),
        graph.traverse(one, depth=33),
        graph.traverse(one, limit=0),
        graph.traverse(one, limit=10_001),
        graph.traverse(one, fanout=0),
        graph.traverse(one, direction="up"),
        graph.path(one, one, depth=33),
        graph.nearest([]),
        graph.nearest([1.0], limit=0),
        graph.timeline(one, tx=-1),
        graph.timeline(one, tx=True),
        graph.get_entity_at(one, naive),
    ):
        with pytest.raises(InvalidInput):
            await call
    for wrong in ({"valid": naive}, {"tx": -1}, {"tx": "1"}, {"valid": 3}):
        with pytest.raises(InvalidInput):
            graph.as_of(**wrong)
    assert await graph.last_transaction() == (await graph.get_entity(one)).tx


# Others --------------------------------------------------------------------------------------


async def test_the_neighbour_sees_and_loses_nothing(tenant: Any, neighbour: Any) -> None:
    """Whatever is written here, with the neighbour's own ids, leaves the neighbour's graph as it was."""
    theirs = neighbour.graph
    nodes = await ids_of(theirs, 2, actor="them")
    edge = await link(theirs, nodes[0], nodes[1])
    before = [await every(theirs.changes), await theirs.last_transaction(), await every(theirs.why, nodes[0])]
    graph = tenant.graph
    assert await graph.get_entities(nodes) == {}
    assert await graph.get_relationship(edge) is None
    assert await every(graph.changes) == []
    assert await every(graph.search) == []
    assert await every(graph.neighbours, nodes[0]) == []
    for call in (
        graph.update_entity(nodes[0], name="mine", valid_from=LONG_AGO),
        graph.correct_entity(nodes[0], type="x", name="mine", valid_from=LONG_AGO),
        graph.retract_entity(nodes[0], valid_from=LONG_AGO),
        graph.delete_entity(nodes[0]),
        graph.erase(nodes[0], "mine"),
        graph.update_relationship(edge, type="mine", valid_from=LONG_AGO),
        graph.correct_relationship(edge, type="mine", valid_from=LONG_AGO),
        graph.retract_relationship(edge, valid_from=LONG_AGO),
        graph.delete_relationship(edge),
        graph.add_relationship(nodes[0], nodes[1], "mine"),
        graph.traverse(nodes[0]),
    ):
        with pytest.raises(NotFound):
            await call
    for node in nodes:
        await graph.add_entity("thing", "mine", entity_id=node, embedding=[1.0], valid_from=LONG_AGO)
    await graph.add_relationship(*nodes, "mine", relationship_id=edge)
    await graph.update_entity(nodes[0], name="mine too")
    await graph.delete_entity(nodes[0])
    await graph.erase(nodes[0], "mine")
    after = [await every(theirs.changes), await theirs.last_transaction(), await every(theirs.why, nodes[0])]
    assert after == before
    assert (await theirs.get_entity(nodes[0])).name == "e0"
    assert await theirs.nearest([1.0]) == []


async def test_writers_at_once_are_put_in_order(tenant: Any) -> None:
    """Every write has a number of its own, none is lost, and no two versions hold at once."""
    graph = tenant.graph
    one = (await graph.add_entity("thing", "a", {"n": 0}, valid_from=day(0))).entity_id
    receipts = await asyncio.gather(
        *(graph.update_entity(one, merge={f"k{number}": number}, valid_from=day(number)) for number in range(12))
    )
    assert len({receipt.tx for receipt in receipts}) == 12
    last = await graph.get_entity(one)
    assert dict(last.properties) == {"n": 0, **{f"k{number}": number for number in range(12)}}
    timeline = list(await graph.timeline(one))
    assert all(before.valid_to == after.valid_from for before, after in pairwise(timeline))
    history = await every(graph.history, one)
    assert all(before.recorded_at <= after.recorded_at for before, after in pairwise(history))


async def test_one_of_many_writers_wins(tenant: Any) -> None:
    """Of writers who expect the same transaction one gets through; of adders of one id too."""
    graph = tenant.graph
    one = await graph.add_entity("thing", "a", valid_from=day(0))
    results = await asyncio.gather(
        *(graph.update_entity(one.entity_id, name=f"{n}", expected_tx=one.tx) for n in range(8)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in results) == ["Conflict"] * 7 + ["Receipt"]
    fresh = uuid4()
    results = await asyncio.gather(
        *(graph.add_entity("thing", f"{n}", entity_id=fresh) for n in range(8)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in results) == ["AlreadyExists"] * 7 + ["Entity"]
    assert len(await graph.history(fresh)) == 1


async def test_no_relationship_outlives_its_ends(tenant: Any) -> None:
    """Deleting and linking at once never leaves a relationship to an entity that is gone."""
    graph = tenant.graph
    for _ in range(4):
        one, other = await ids_of(graph, 2)
        await asyncio.gather(
            *(graph.add_relationship(one, other, "x") for _ in range(4)),
            graph.delete_entity(other),
            return_exceptions=True,
        )
        assert await graph.get_entity(other) is None
        assert await every(graph.neighbours, one) == []
        edges = [
            each.version.relationship_id for each in await graph.changes() if isinstance(each.version, Relationship)
        ]
        assert await graph.get_relationships(edges) == {}


@pytest.mark.settable_clock
async def test_the_clock_may_go_back(tenant: Any, clock: Any) -> None:
    """Transactions stay in order, and what was just written is seen, whatever the clock says."""
    graph = tenant.graph
    one = await graph.add_entity("thing", "a")
    clock.advance(days=-1000)
    other = await graph.add_entity("thing", "b")
    receipt = await graph.update_entity(one.entity_id, name="c")
    assert one.recorded_at < other.recorded_at < receipt.at
    assert (await graph.get_entity(one.entity_id)).name == "c"
    assert [each.name for each in await graph.history(one.entity_id)] == ["a", "a", "c"]
    assert (await graph.get_entity(other.entity_id)).valid_from == other.recorded_at


@pytest.mark.settable_clock
async def test_a_clock_that_was_ahead(tenant: Any, clock: Any) -> None:
    """Now stays where the clock was: what holds until further notice is seen, also by number; the rest when it is asked for."""
    graph = tenant.graph
    clock.advance(days=1000)
    ahead = await graph.add_entity("thing", "ahead")
    clock.advance(days=-1000)
    soon, then = ahead.recorded_at - timedelta(days=999), ahead.recorded_at - timedelta(days=1000)
    await graph.add_entity("thing", "lasting", valid_from=LONG_AGO)
    await graph.add_entity("thing", "passing", valid_from=LONG_AGO, valid_to=soon)

    async def names(view: Any) -> list[str]:
        return sorted([entity.name async for entity in view.scan()])

    assert await names(graph) == await names(await graph.snapshot()) == ["ahead", "lasting"]
    assert await names(graph.as_of(tx=await graph.last_transaction())) == ["ahead", "lasting"]
    assert await names(graph.as_of(valid=then)) == ["lasting", "passing"]
    assert await names(graph.as_of(valid=then, tx=soon)) == []
    clock.advance(days=1001)
    assert await names(graph) == await names(graph.as_of(tx=clock())) == ["ahead", "lasting"]


# At random -----------------------------------------------------------------------------------

HORIZON = 24
"""Days of which the oracle keeps one state each; the last one stands for all that follow."""


class Oracle:
    """The obvious answer: after every transaction, what each subject was on each day, copied out in full."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.days: dict[UUID, list[Any]] = {}
        self.believed: dict[int, dict[UUID, list[Any]]] = {0: {}}

    def known(self, subject: UUID) -> bool:
        """Tell whether anything is known of a subject."""
        return any(state is not None for state in self.days.get(subject, ()))

    def put(self, subject: UUID, start: int, end: int, change: Any) -> None:
        """Change the state of every day of a range."""
        days = self.days.setdefault(subject, [None] * HORIZON)
        self.days[subject] = [change(state) if start <= at < end else state for at, state in enumerate(days)]

    def commit(self, tx: int) -> None:
        """Remember what is believed after a transaction."""
        self.believed[tx] = dict(self.days)

    def forget(self, subject: UUID) -> None:
        """Take an entity, and what touched it, out of every past."""
        for past in self.believed.values():
            past.pop(subject, None)
            for each, days in list(past.items()):
                past[each] = [None if state and len(state) > 3 and subject in state[3] else state for state in days]

    def seen(self, at: int, tx: int) -> dict[UUID, Any]:
        """Return what each subject was on a day, as believed after a transaction."""
        states = {subject: days[at] for subject, days in self.believed[tx].items()}
        return {subject: state for subject, state in states.items() if state is not None}

    def reached(self, start: UUID, at: int, tx: int, direction: str) -> dict[UUID, int]:
        """Return the hops to everything that can be walked to."""
        seen, hops = self.seen(at, tx), {start: 0}
        edges = [state[3] for state in seen.values() if len(state) > 3]
        steps = [pair for pair in edges if direction != "in"] + [pair[::-1] for pair in edges if direction != "out"]
        for depth in range(1, 33):
            fresh = {far for near, far in steps if hops.get(near) == depth - 1 and far in seen and far not in hops}
            hops |= dict.fromkeys(fresh, depth)
        return {subject: depth for subject, depth in hops.items() if depth}


def plain(version: Any) -> Any:
    """Return what has to be equal on every backend: everything but the clock's times."""
    if version is None:
        return None
    times = (version.valid_from, version.valid_to, version.tx, version.superseded_by)
    if isinstance(version, Entity):
        return (version.entity_id, version.type, version.name, dict(version.properties), *times, version.embedding_hash)
    ends = (version.relationship_id, version.from_entity, version.to_entity)
    return (*ends, version.type, dict(version.properties), *times)


def said_by(version: Any) -> tuple[Any, ...]:
    """Return what the oracle keeps of a version."""
    if isinstance(version, Entity):
        return (version.type, version.name, dict(version.properties))
    return (version.type, None, dict(version.properties), (version.from_entity, version.to_entity))


class Walker:
    """Does the same random thing to the tenant, to the model and to the oracle."""

    def __init__(self, rng: random.Random, graphs: tuple[Any, Any]) -> None:
        """Take both graphs."""
        self.rng = rng
        self.graphs = graphs
        self.oracle = Oracle()
        self.nodes = [UUID(int=rng.getrandbits(128)) for _ in range(8)]
        self.edges = [UUID(int=rng.getrandbits(128)) for _ in range(12)]

    def range(self) -> tuple[int, int, dict[str, datetime | None]]:
        """Draw a range of days, half of them without an end."""
        start = self.rng.randrange(HORIZON - 1)
        end = HORIZON if self.rng.random() < 0.5 else self.rng.randrange(start + 1, HORIZON)
        return start, end, {"valid_from": day(start), "valid_to": None if end == HORIZON else day(end)}

    async def both(self, verb: str, *args: Any, **options: Any) -> int | None:
        """Call a verb on both graphs; return the transaction, or None when both refused alike."""
        outcomes = []
        for graph in self.graphs:
            try:
                outcomes.append(await getattr(graph, verb)(*args, **options))
            except (NotFound, AlreadyExists, Conflict) as error:
                outcomes.append(type(error))
        transactions = [await graph.last_transaction() for graph in self.graphs]
        assert transactions[0] == transactions[1]
        if isinstance(outcomes[1], type):
            assert outcomes[0] is outcomes[1], (verb, args, options)
            return None
        assert [getattr(each, "closed", None) for each in outcomes[:1]] == [getattr(outcomes[1], "closed", None)]
        assert not isinstance(outcomes[0], type), (verb, args, options, outcomes)
        return int(transactions[0])

    async def step(self) -> None:
        """Write something, at random."""
        rng, oracle = self.rng, self.oracle
        on_edge = rng.random() < 0.5
        kind = "relationship" if on_edge else "entity"
        subject = rng.choice(self.edges if on_edge else self.nodes)
        start, end, valid = self.range()
        known = oracle.known(subject)
        said: Any = (f"t{rng.randrange(3)}", f"n{rng.randrange(50)}", {"k": rng.randrange(9)})
        action = rng.choice(["update", "update", "correct", "correct", "correct", "retract", "add", "delete"])
        if action == "delete" and rng.random() < 0.7:
            action = "correct"
        if not known and rng.random() < 0.9:
            action = "add"
        if not on_edge and rng.random() < 0.02:
            action = "erase"
        allowed, tx = known, None
        if action == "add":
            if on_edge:
                ends = (rng.choice(self.nodes), rng.choice(self.nodes))
                allowed = not known and all(map(oracle.known, ends))
                tx = await self.both("add_relationship", *ends, said[0], said[2], relationship_id=subject, **valid)
                said = (said[0], None, said[2], ends)
            else:
                allowed = not known
                tx = await self.both("add_entity", *said, entity_id=subject, **valid)
            change: Any = lambda _state: said  # noqa: E731
        elif action == "update":
            allowed = known and any(oracle.days[subject][start:end])
            tx = await self.both(f"update_{kind}", subject, type=said[0], merge={"m": said[1]}, **valid)
            change = lambda state: state and (said[0], state[1], {**state[2], "m": said[1]}, *state[3:])  # noqa: E731
        elif action == "correct":
            named = {} if on_edge else {"name": said[1]}
            tx = await self.both(f"correct_{kind}", subject, type=said[0], properties=said[2], **named, **valid)
            kept = next((state[3:] for state in oracle.days.get(subject, ()) if state is not None), ())
            change = lambda _state: (said[0], None if on_edge else said[1], said[2], *kept)  # noqa: E731
        elif action == "retract":
            allowed = known and any(oracle.days[subject][start:end])
            tx = await self.both(f"retract_{kind}", subject, **valid)
            change = lambda _state: None  # noqa: E731
        elif action == "delete":
            start, end = 0, HORIZON
            tx = await self.both(f"delete_{kind}", subject)
            change = lambda _state: None  # noqa: E731
        else:
            start, end = 0, HORIZON
            tx = await self.both("erase", subject, "asked")
            allowed = tx is not None
            change = lambda _state: None  # noqa: E731
        assert (tx is not None) == allowed, (action, kind, subject)
        if tx is None:
            return
        oracle.put(subject, start, end, change)
        if not on_edge and action in {"delete", "erase"}:
            for edge in self.edges:
                oracle.put(edge, 0, HORIZON, lambda state: None if state and subject in state[3] else state)
        if action == "erase":
            oracle.forget(subject)
        oracle.commit(tx)

    async def look(self) -> None:
        """Compare what is seen at a random point of both times."""
        rng, oracle = self.rng, self.oracle
        at, tx = rng.randrange(HORIZON), rng.choice(list(oracle.believed))
        views = [graph.as_of(day(at), tx) for graph in self.graphs]
        if tx == max(oracle.believed):
            views = [graph.as_of(day(at)) for graph in self.graphs]
        seen = oracle.seen(at, tx)
        for verb, subjects in (("get_entities", self.nodes), ("get_relationships", self.edges)):
            ours, theirs = [await getattr(view, verb)(subjects) for view in views]
            assert {key: plain(each) for key, each in ours.items()} == {
                key: plain(each) for key, each in theirs.items()
            }
            assert {key: said_by(each) for key, each in ours.items()} == {
                key: state for key, state in seen.items() if key in subjects
            }
        direction = rng.choice(["out", "in", "both"])
        present = [node for node in self.nodes if node in seen]
        for node in present[:2]:
            found = [await view.traverse(node, direction=direction, depth=rng.choice([8])) for view in views]
            assert {each.entity.entity_id: each.depth for each in found[0]} == oracle.reached(node, at, tx, direction)
            said = [
                [(plain(each.entity), each.depth, [plain(one) for one in each.path]) for each in walk] for walk in found
            ]
            assert said[0] == said[1]
            listed = [await every(view.neighbours, node, direction=direction) for view in views]
            assert len({str([(plain(one.relationship), plain(one.entity)) for one in each]) for each in listed}) == 1
            goal = rng.choice(present)
            paths = [await view.path(node, goal, direction=direction, depth=8) for view in views]
            assert len({str(path and [plain(each) for each in path.relationships]) for path in paths}) == 1
            assert (None if paths[0] is None else paths[0].hops) == {
                node: 0,
                **oracle.reached(node, at, tx, direction),
            }.get(goal)
        searched = [[plain(each) for each in await view.search(type="t1", where={"k": {"$gte": 4}})] for view in views]
        assert searched[0] == searched[1]
        assert [each[0] for each in searched[0]] == sorted(
            key for key, state in seen.items() if key in self.nodes and state[0] == "t1" and state[2].get("k", 0) >= 4
        )

    async def look_back(self) -> None:
        """Compare listings, and the difference between two random points."""
        rng, oracle = self.rng, self.oracle
        node, edge = rng.choice(self.nodes), rng.choice(self.edges)
        for verb, subject in (
            ("history", node),
            ("timeline", node),
            ("relationship_history", edge),
            ("relationship_timeline", edge),
        ):
            ours, theirs = [
                [plain(each) for each in await every(getattr(graph, verb), subject)] for graph in self.graphs
            ]
            assert ours == theirs, verb
        ours, theirs = [
            [
                (each.tx, each.action, plain(each.version), each.erased_hash)
                for each in await graph.changes(limit=10_000)
            ]
            for graph in self.graphs
        ]
        assert ours == theirs
        points = [(rng.randrange(HORIZON), rng.choice(list(oracle.believed))) for _ in range(2)]
        if rng.random() < 0.5:
            points[1] = (points[0][0], points[1][1])
        told = []
        for graph in self.graphs:
            found = await every(graph.diff, *(graph.as_of(day(at), tx) for at, tx in points))
            told.append([(plain(each.before), plain(each.after)) for each in found])
        assert told[0] == told[1]
        before, after = (oracle.seen(at, tx) for at, tx in points)
        differing = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        assert {(one or other)[0] for one, other in told[0]} == differing


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_histories_agree(tenant: Any, model: Any, seed: int) -> None:
    """Hundreds of writes, retroactive ones among them, and every view of every past agrees with the obvious answer."""
    walker = Walker(random.Random(seed), (tenant.graph, model.graph))
    for number in range(250):
        await walker.step()
        if number % 10 == 9:
            await walker.look()
        if number % 50 == 49:
            await walker.look_back()
    for _ in range(20):
        await walker.look()
    for _ in range(5):
        await walker.look_back()
    assert len(walker.oracle.believed) > 100
