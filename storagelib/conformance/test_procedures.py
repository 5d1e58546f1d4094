"""Transitions and procedures."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from storagelib._async.procedural import AsyncProceduralMemory
from storagelib.conformance.awaited import made_of
from storagelib.errors import Conflict, InvalidInput, NotFound

HOSTILE = [
    "'; DROP TABLE procedures; --",
    "%",
    "_",
    "a->b",
    "\\",
    "-",
    ">",
    "a-\\>b",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\n",
]
FUTURE = datetime(2200, 1, 1, tzinfo=UTC)


def seen(page: Any) -> list[tuple[str, str, int]]:
    """Return values and frequencies of a page."""
    return [(each.before, each.after, each.frequency) for each in page]


def content(found: Any) -> tuple[Any, ...]:
    """Return what of a procedure does not depend on the time."""
    return (
        found.name,
        found.version,
        found.scope,
        found.steps,
        found.trigger,
        found.provenance,
        found.prior,
        found.successes,
        found.failures,
        found.superseded_by,
    )


async def test_transitions_are_counted(tenant: Any) -> None:
    """Each scope, key and pair of values for itself."""
    procedures = tenant.procedures
    assert await procedures.frequency("s", "light", "off", "on") == 0
    assert await procedures.record_transition("s", "light", "off", "on") == 1
    assert await procedures.record_transition("s", "light", "off", "on") == 2
    assert await procedures.record_transition("s", "light", "on", "off") == 1
    assert await procedures.record_transition("t", "light", "off", "on") == 1
    assert await procedures.record_transition("s", "door", "off", "on") == 1
    assert await procedures.frequency("s", "light", "off", "on") == 2
    assert await procedures.frequency("s", "light", "off", "off") == 0
    page = await procedures.transitions("s", "light")
    assert seen(page) == [("off", "on", 2), ("on", "off", 1)]
    first = page.items[0]
    assert (first.scope, first.key) == ("s", "light")
    assert first.first_seen <= first.last_seen


async def test_no_observation_is_lost(tenant: Any) -> None:
    """Of many at once each counts, and sees a count of its own."""
    counts = await asyncio.gather(*(tenant.procedures.record_transition("", "k", "a", "b") for _ in range(20)))
    assert sorted(counts) == list(range(1, 21))


@pytest.mark.parametrize("text", HOSTILE)
async def test_values_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No value is taken for two, for an escape or for a pattern."""
    procedures = tenant.procedures
    await procedures.record_transition(text, text, text, text)
    await procedures.record_transition(text, text, text, "")
    await procedures.record_transition(text, text, "", text)
    await procedures.save(text, text, scope=text, provenance=[text])
    pairs = {(each.before, each.after) for each in await procedures.transitions(text, text)}
    assert pairs == {(text, text), (text, ""), ("", text)}
    found = await procedures.get(text)
    assert (found.name, found.steps, found.scope, found.provenance) == (text, text, text, (text,))
    assert [each.name for each in await procedures.list_procedures(scope=text)] == [text]


async def test_the_longest_values_are_paged(tenant: Any) -> None:
    """Cursors fit, whatever the values hold."""
    long = "\U0001f600" * 499
    for letter in "abc":
        await tenant.procedures.record_transition(long + "s", long + "k", long + letter, long + letter)
    found = []
    cursor = None
    while True:
        page = await tenant.procedures.learned(1, cursor=cursor, limit=1)
        found += [each.after[-1] for each in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(found) == ["a", "b", "c"]


async def test_what_was_seen_often_is_learned(tenant: Any) -> None:
    """Three times unless told otherwise, the most frequent first, by pages."""
    procedures = tenant.procedures
    for number in range(6):
        for _ in range(number):
            await procedures.record_transition("s", f"k{number}", "a", "b")
    await procedures.record_transition("t", "k", "a", "b")
    assert [(each.key, each.frequency) for each in await procedures.learned()] == [("k5", 5), ("k4", 4), ("k3", 3)]
    assert [each.key for each in await procedures.learned(scope="t")] == []
    assert [each.key for each in await procedures.learned(1, scope="t")] == ["k"]
    assert [each.key for each in await procedures.learned(5)] == ["k5"]
    page = await procedures.learned(2, limit=2)
    rest = await procedures.learned(2, limit=2, cursor=page.cursor)
    assert [each.key for each in (*page, *rest)] == ["k5", "k4", "k3", "k2"]
    assert rest.cursor is None
    assert await procedures.forget_transitions("s", "k5") == 1
    assert await procedures.forget_transitions("s", "k5") == 0
    assert await procedures.frequency("s", "k5", "a", "b") == 0


@pytest.mark.parametrize("bad", ["a\0b", "\ud800", "x" * 501, 7, None, b"a"])
async def test_texts_that_cannot_be_kept_are_refused(tenant: Any, bad: Any) -> None:
    """Before anything is sent."""
    procedures = tenant.procedures
    calls = [
        procedures.record_transition(bad, "k", "a", "b"),
        procedures.record_transition("s", bad, "a", "b"),
        procedures.record_transition("s", "k", bad, "b"),
        procedures.frequency("s", "k", "a", bad),
        procedures.transitions("s", bad),
        procedures.save(bad, []),
        procedures.save("p", [], provenance=[bad]),
        procedures.get(bad),
        procedures.record_outcome(bad, True),
        procedures.delete(bad),
        procedures.supersede("p", bad) if bad is not None else procedures.supersede(bad, "p"),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call


async def test_other_faults_are_refused(tenant: Any) -> None:
    """Each limit has its fault."""
    procedures = tenant.procedures
    faulty: list[dict[str, Any]] = [
        {"trigger": {"a": {"$grt": 1}}},
        {"trigger": 7},
        {"prior": 1.5},
        {"prior": float("nan")},
        {"prior": True},
        {"embedding": []},
        {"embedding": [0.0, 0.0]},
        {"embedding": [float("inf")]},
        {"embedding": [1.0] * 16_001},
        {"provenance": ["a"] * 101},
        {"provenance": "text"},
        {"expected_version": -1},
    ]
    for options in faulty:
        with pytest.raises(InvalidInput):
            await procedures.save("p", [], **options)
    for call in (
        procedures.save("p", float("nan")),
        procedures.save("p", "x" * (1 << 20)),
        procedures.get("p", 0),
        procedures.rollback("p", 0),
        procedures.record_outcome("p", 1),
        procedures.prune(),
        procedures.prune(min_confidence=2),
        procedures.matching([1]),
        procedures.similar([0.0]),
        procedures.similar([1.0], 0),
        procedures.list_procedures(limit=0),
        procedures.list_procedures(min_confidence=-1),
        procedures.learned(0),
        procedures.learned(cursor="?"),
        procedures.supersede("p", "p"),
    ):
        with pytest.raises(InvalidInput):
            await call
    assert len(await procedures.list_procedures()) == 0


async def test_nothing_is_there_at_first(tenant: Any) -> None:
    """And each verb says so."""
    procedures = tenant.procedures
    assert await procedures.find("p") is None
    for page in (
        procedures.list_procedures(),
        procedures.versions("p"),
        procedures.learned(),
        procedures.transitions("", "k"),
    ):
        assert (await page).items == ()
    assert await procedures.matching({}) == []
    assert await procedures.similar([1.0]) == []
    assert not await procedures.delete("p")
    assert await procedures.prune(min_confidence=1) == 0
    for call in (
        procedures.get("p"),
        procedures.rollback("p", 1),
        procedures.supersede("p", None),
        procedures.record_outcome("p", True),
        procedures.record_outcome("p", True, 1),
        procedures.successor("p"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_a_procedure_comes_back_as_it_was(tenant: Any) -> None:
    """With everything that was saved, and with defaults for what was not."""
    steps = [{"do": "open", "n": 1.5}, "wait", None]
    trigger = {"kind": "mail", "size": {"$gt": 3}}
    await tenant.procedures.save("p", steps, trigger=trigger, scope="s", provenance=["b", "a"], prior=0.75)
    found = await tenant.procedures.get("p")
    assert content(found) == ("p", 1, "s", steps, trigger, ("b", "a"), 0.75, 0, 0, None)
    assert (found.confidence, found.last_outcome_at) == (0.75, None)
    assert found.created_at == found.updated_at
    await tenant.procedures.save("q", {})
    assert content(await tenant.procedures.get("q")) == ("q", 1, "", {}, None, (), 0.5, 0, 0, None)


async def test_versions_follow_each_other(tenant: Any) -> None:
    """Each is kept with its content and its counters, and can be gone back to."""
    procedures = tenant.procedures
    assert await procedures.save("p", "one", scope="s", trigger={"a": 1}, embedding=[1.0, 0.0]) == 1
    await procedures.record_outcome("p", True)
    assert await procedures.save("p", "two") == 2
    await procedures.record_outcome("p", False)
    assert await procedures.save("p", "three", expected_version=2) == 3
    for wrong in (0, 1, 2, 4):
        with pytest.raises(Conflict):
            await procedures.save("p", "lost", expected_version=wrong)
    with pytest.raises(Conflict):
        await procedures.save("new", "lost", expected_version=1)
    assert await procedures.save("new", "first", expected_version=0) == 1
    late = await procedures.record_outcome("p", True, 1)
    assert (late.version, late.successes, late.failures) == (1, 2, 0)
    now = await procedures.record_outcome("p", True, 3)
    assert (now.version, now.successes, now.failures) == (3, 1, 0)
    with pytest.raises(NotFound):
        await procedures.record_outcome("p", True, 4)
    page = await procedures.versions("p", limit=2)
    rest = await procedures.versions("p", limit=2, cursor=page.cursor)
    assert [(each.version, each.steps, each.successes, each.failures) for each in (*page, *rest)] == [
        (3, "three", 1, 0),
        (2, "two", 0, 1),
        (1, "one", 2, 0),
    ]
    assert await procedures.rollback("p", 1) == 4
    found = await procedures.get("p")
    assert content(found) == ("p", 4, "s", "one", {"a": 1}, (), 0.5, 2, 0, None)
    assert content(await procedures.get("p", 1))[2:] == content(found)[2:]
    assert [each.procedure.name for each in await procedures.similar([1.0, 0.0])] == ["p"]
    with pytest.raises(Conflict):
        await procedures.rollback("p", 4)
    with pytest.raises(NotFound):
        await procedures.rollback("p", 5)
    with pytest.raises(NotFound):
        await procedures.get("p", 5)
    assert (await procedures.get("p", 1)).created_at == found.created_at
    assert (await procedures.get("p", 1)).updated_at <= found.updated_at


async def test_of_many_savers_one_wins(tenant: Any) -> None:
    """With an expected version; without one each makes a version of its own."""
    procedures = tenant.procedures
    tried = await asyncio.gather(
        *(procedures.save("p", n, expected_version=0) for n in range(8)), return_exceptions=True
    )
    assert [each for each in tried if not isinstance(each, Conflict)] == [1]
    versions = await asyncio.gather(*(procedures.save("p", n) for n in range(8)))
    assert sorted(versions) == list(range(2, 10))
    assert sorted(await asyncio.gather(*(procedures.save("q", n) for n in range(8)))) == list(range(1, 9))
    assert [each.version for each in await procedures.versions("p")] == list(range(9, 0, -1))


async def test_no_outcome_is_lost(tenant: Any) -> None:
    """Of many at once each counts."""
    await tenant.procedures.save("p", [])
    await asyncio.gather(*(tenant.procedures.record_outcome("p", number % 3 > 0) for number in range(18)))
    found = await tenant.procedures.get("p")
    assert (found.successes, found.failures) == (12, 6)
    assert found.confidence == pytest.approx(13 / 20, abs=1e-4)
    assert found.last_outcome_at is not None


@pytest.mark.settable_clock
async def test_confidence_fades(tenant: Any, clock: Any) -> None:
    """By half of what was counted in thirty days; reading writes nothing; a clock that goes back changes nothing."""
    procedures = tenant.procedures
    await procedures.save("p", [])
    for _ in range(8):
        standing = await procedures.record_outcome("p", True)
    assert standing.confidence == pytest.approx(0.9)
    clock.advance(seconds=30 * 86_400)
    before = await procedures.get("p")
    assert before.confidence == pytest.approx(5 / 6)
    again = await procedures.get("p")
    assert (content(again), again.last_outcome_at, before.successes) == (content(before), before.last_outcome_at, 8)
    clock.advance(seconds=-60 * 86_400)
    assert (await procedures.get("p")).confidence == 0.9
    later = await procedures.record_outcome("p", True)
    assert later.last_outcome_at == before.last_outcome_at


async def test_procedures_are_listed(tenant: Any) -> None:
    """By name, by scope and by confidence, in pages."""
    procedures = tenant.procedures
    for name in ("b", "a", "Z", "é", "c"):
        await procedures.save(name, [], scope="s" if name in "ab" else "", prior=0.9 if name in "aé" else 0.1)
    assert [each.name for each in await procedures.list_procedures()] == ["Z", "a", "b", "c", "é"]
    assert [each.name for each in await procedures.list_procedures(scope="s")] == ["a", "b"]
    assert [each.name for each in await procedures.list_procedures(scope="")] == ["Z", "c", "é"]
    page = await procedures.list_procedures(min_confidence=0.5, limit=1)
    rest = await procedures.list_procedures(min_confidence=0.5, limit=1, cursor=page.cursor)
    assert [each.name for each in (*page, *rest)] == ["a", "é"]
    assert rest.cursor is None
    assert [each.name async for each in procedures.procedures()] == ["Z", "a", "b", "c", "é"]


async def test_triggers_choose(tenant: Any) -> None:
    """What matches the context, the most reliable first; what has no trigger never does."""
    procedures = tenant.procedures
    await procedures.save("any", [], trigger={}, prior=0.2)
    await procedures.save("mail", ["answer"], trigger={"kind": "mail"}, prior=0.8, scope="s")
    await procedures.save("large", [], trigger={"kind": "mail", "size": {"$gte": 10}})
    await procedures.save("silent", [], prior=1.0)
    assert [each.name for each in await procedures.matching({"kind": "mail", "size": 10})] == ["mail", "large", "any"]
    assert [each.name for each in await procedures.matching({"kind": "mail", "size": 10}, limit=1)] == ["mail"]
    assert [each.name for each in await procedures.matching({"kind": "mail"}, scope="s")] == ["mail"]
    assert [each.name for each in await procedures.matching({})] == ["any"]
    await procedures.record_outcome("any", True)
    for _ in range(9):
        await procedures.record_outcome("mail", False)
    assert [each.name for each in await procedures.matching({"kind": "mail"})] == ["any", "mail"]


async def test_near_embeddings_are_found(tenant: Any) -> None:
    """Exactly, ties by name; other dimensions are passed over."""
    procedures = tenant.procedures
    for name, embedding in {
        "x": [1.0, 0.0],
        "y": [0.0, 2.0],
        "xy": [3.0, 3.0],
        "b": [0.0, 1.0],
        "long": [1.0] * 3,
    }.items():
        await procedures.save(name, [], embedding=embedding, scope="s" if name == "x" else "")
    await procedures.save("none", [])
    found = await procedures.similar([0.0, 5.0])
    assert [each.procedure.name for each in found] == ["b", "y", "xy", "x"]
    assert [each.score for each in found] == pytest.approx([1, 1, 0.5**0.5, 0])
    assert [each.procedure.name for each in await procedures.similar([0.0, 5.0], 1)] == ["b"]
    assert [each.procedure.name for each in await procedures.similar([0.0, 5.0], scope="s")] == ["x"]
    assert [each.procedure.name for each in await procedures.similar([1.0, 1.0, 1.0])] == ["long"]
    await procedures.save("large", [], embedding=[1.0] * 16_000)
    assert [each.procedure.name for each in await procedures.similar([1.0] * 16_000)] == ["large"]


async def test_the_superseded_are_passed_over(tenant: Any) -> None:
    """By searches; they can still be read, and lead to what took their place."""
    procedures = tenant.procedures
    for name in "abc":
        await procedures.save(name, [], trigger={}, embedding=[1.0])
    await procedures.supersede("a", "b")
    await procedures.supersede("b", "c")
    assert (await procedures.get("a")).superseded_by == "b"
    assert (await procedures.successor("a")).name == "c"
    assert [each.name for each in await procedures.matching({})] == ["c"]
    assert [each.procedure.name for each in await procedures.similar([1.0])] == ["c"]
    assert [each.name for each in await procedures.list_procedures()] == ["a", "b", "c"]
    for name, by in (("c", "a"), ("b", "a")):
        with pytest.raises(Conflict):
            await procedures.supersede(name, by)
    for name, by in (("c", "d"), ("d", "c")):
        with pytest.raises(NotFound):
            await procedures.supersede(name, by)
    await procedures.save("a", ["better"])
    assert (await procedures.get("a")).superseded_by == "b"
    assert await procedures.delete("c")
    with pytest.raises(NotFound):
        await procedures.successor("a")
    await procedures.supersede("b", None)
    assert (await procedures.successor("a")).name == "b"


async def test_nobody_supersedes_in_a_circle(tenant: Any) -> None:
    """However many try at once."""
    names = "abcd"
    for name in names:
        await tenant.procedures.save(name, [])
    pairs = list(zip(names, names[1:] + names[0], strict=True))
    tried = await asyncio.gather(*(tenant.procedures.supersede(*pair) for pair in pairs), return_exceptions=True)
    assert {type(each) for each in tried} <= {type(None), Conflict}
    left = {name: (await tenant.procedures.get(name)).superseded_by for name in names}
    assert list(left.values()).count(None) >= 1


async def test_deleting_takes_all_versions(tenant: Any) -> None:
    """And a name begins anew."""
    procedures = tenant.procedures
    await procedures.save("p", 1)
    await procedures.save("p", 2)
    assert await procedures.delete("p")
    assert not await procedures.delete("p")
    assert (await procedures.versions("p")).items == ()
    assert await procedures.save("p", 3) == 1


async def test_pruning_takes_what_failed_or_is_unused(tenant: Any) -> None:
    """By the bounds that were given, all of which must hold."""
    procedures = tenant.procedures
    for number in range(4):
        await procedures.save(f"p{number}", [], prior=number / 4)
    assert await procedures.prune(unused_since=datetime(2001, 1, 1, tzinfo=UTC)) == 0
    assert await procedures.prune(min_confidence=0.25) == 1
    assert await procedures.prune(min_confidence=0.6, unused_since=datetime(2001, 1, 1, tzinfo=UTC)) == 0
    assert await procedures.prune(min_confidence=0.6, unused_since=FUTURE) == 2
    assert [each.name for each in await procedures.list_procedures()] == ["p3"]
    assert await procedures.prune(unused_since=FUTURE) == 1


@pytest.mark.settable_clock
async def test_an_outcome_is_a_use(tenant: Any, clock: Any) -> None:
    """It keeps a procedure from being pruned."""
    await tenant.procedures.save("used", [])
    await tenant.procedures.save("unused", [])
    clock.advance(seconds=100)
    await tenant.procedures.record_outcome("used", False)
    found = await tenant.procedures.get("used")
    assert await tenant.procedures.prune(unused_since=found.last_outcome_at) == 1
    assert [each.name for each in await tenant.procedures.list_procedures()] == ["used"]


async def test_habits_say_what_comes_next(tenant: Any, neighbour: Any) -> None:
    """The layer over the store: what usually follows, what is learned, what fits."""
    memory = made_of(AsyncProceduralMemory, tenant)
    for after in ("test", "commit", "test", "test"):
        await memory.observe("dev", "edit", after)
    await memory.observe("dev", "test", "commit")
    assert [(each.after, each.frequency) for each in await memory.likely_next("dev", "edit")] == [
        ("test", 3),
        ("commit", 1),
    ]
    assert [each.after for each in await memory.likely_next("dev", "edit", 1)] == ["test"]
    assert await memory.likely_next("other", "edit") == []
    assert [(each.before, each.after) for each in await memory.learned()] == [("edit", "test")]
    assert (await memory.learned(scope="other")).items == ()
    assert await memory.best_for({"kind": "mail"}) is None
    await tenant.procedures.save("answer", [], trigger={"kind": "mail"})
    assert (await memory.best_for({"kind": "mail"})).name == "answer"
    theirs = made_of(AsyncProceduralMemory, neighbour)
    assert await theirs.likely_next("dev", "edit") == []
    assert await theirs.best_for({"kind": "mail"}) is None


async def test_the_neighbour_is_untouched(tenant: Any, neighbour: Any) -> None:
    """No verb sees or changes another tenant's rows, the same names included."""
    theirs = neighbour.procedures
    for _ in range(3):
        await theirs.record_transition("s", "k", "a", "theirs")
    await theirs.save("p", "theirs", trigger={}, embedding=[1.0])
    await theirs.save("p", "theirs 2", trigger={}, embedding=[1.0])
    await theirs.save("own", "theirs")
    before = [await theirs.get("p"), *await theirs.versions("p"), *await theirs.learned(), await theirs.get("own")]
    mine = tenant.procedures
    assert await mine.frequency("s", "k", "a", "theirs") == 0
    assert (await mine.learned(1)).items == ()
    assert await mine.matching({}) == []
    assert await mine.similar([1.0]) == []
    assert await mine.find("own") is None
    assert not await mine.delete("own")
    with pytest.raises(NotFound):
        await mine.record_outcome("p", False)
    assert await mine.save("p", "mine", expected_version=0) == 1
    with pytest.raises(NotFound):
        await mine.supersede("p", "own")
    await mine.save("q", "mine")
    await mine.supersede("p", "q")
    await mine.save("p", "mine 2")
    await mine.record_outcome("p", False)
    await mine.record_outcome("p", False, 1)
    await mine.rollback("p", 1)
    await mine.record_transition("s", "k", "a", "theirs")
    await mine.forget_transitions("s", "k")
    await mine.prune(unused_since=FUTURE)
    after = [await theirs.get("p"), *await theirs.versions("p"), *await theirs.learned(), await theirs.get("own")]
    assert after == before


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to hundreds of random calls is the one that the model gives."""
    chance = random.Random(seed)
    names, words = ["a", "b", "c", "é"], ["x", "y", "->"]

    def plain(answer: Any) -> Any:
        if hasattr(answer, "items") and hasattr(answer, "cursor"):
            return [plain(each) for each in answer], answer.cursor
        if isinstance(answer, list):
            return [plain(each) for each in answer]
        if hasattr(answer, "steps"):
            return content(answer)
        if hasattr(answer, "score"):
            return content(answer.procedure), answer.score
        if hasattr(answer, "frequency"):
            return answer.scope, answer.key, answer.before, answer.after, answer.frequency
        if hasattr(answer, "successes"):
            return answer.version, answer.successes, answer.failures
        return answer

    async def both(name: str, *args: Any, **kwargs: Any) -> None:
        answers = []
        for subject in (model, tenant):
            try:
                answers.append(plain(await getattr(subject.procedures, name)(*args, **kwargs)))
            except (Conflict, InvalidInput, NotFound) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1], (name, args, kwargs)

    for _ in range(200):
        name, version = chance.choice(names), chance.choice([None, 1, 2, 3])
        match chance.randrange(14):
            case 0 | 1:
                trigger = chance.choice([None, {}, {"n": {"$gt": chance.randint(0, 3)}}])
                embedding = chance.choice([None, [chance.random() + 0.1, chance.random()]])
                expected = chance.choice([None, None, 0, 1, 2])
                await both(
                    "save",
                    name,
                    [chance.random()],
                    trigger=trigger,
                    embedding=embedding,
                    scope=chance.choice(["", "s"]),
                    expected_version=expected,
                    prior=chance.choice([0.1, 0.6]),
                )
            case 2 | 3:
                await both("record_outcome", name, chance.random() < 0.5, version)
            case 4:
                await both("get", name, version)
            case 5:
                await both("versions", name, limit=2)
            case 6:
                await both("rollback", name, chance.randint(1, 4))
            case 7:
                await both("supersede", name, chance.choice([None, *names]))
            case 8:
                await both("similar", [1.0, 0.5], chance.randint(1, 3), scope=chance.choice([None, "s"]))
            case 9:
                await both("list_procedures", scope=chance.choice([None, "s"]), limit=chance.randint(1, 3))
            case 10:
                await both("successor", name)
            case 11:
                await both("record_transition", "s", chance.choice(words), chance.choice(words), chance.choice(words))
            case 12:
                await both("learned", chance.randint(1, 3), limit=chance.randint(1, 9))
                await both("transitions", "s", chance.choice(words), limit=chance.randint(1, 2))
            case _:
                await (both("delete", name) if chance.random() < 0.3 else both("forget_transitions", "s", "x"))
    await both("list_procedures")
    await both("learned", 1)
