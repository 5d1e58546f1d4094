"""The agent-state store: versions, deltas, checkpoints, transitions, and the threads beneath it."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound

HOSTILE = ["'; DROP TABLE agent_states; --", "%", "_", "\\", '"', "é", "e\u0301", "\U0001f600", "\uffff", " ", "\n"]
KINDS = {"agent_type": "planner"}


async def _grown(tenant: Any, agent_id: str, count: int) -> list[dict[str, Any]]:
    """Save a state that grows, and return every version."""
    states = []
    for number in range(1, count + 1):
        state = {"log": [{"n": n, "text": f"step {n} " + "x" * (n % 7)} for n in range(number)], "step": number}
        assert await tenant.agent_state.save(agent_id, state, **KINDS) == number
        states.append(state)
    return states


async def test_what_is_saved_is_loaded(tenant: Any) -> None:
    """A state comes back with everything that was said about it."""
    state = {"plan": ["a", {"b": None}], "n": 1, "x": 1.0, "yes": True, "": "é\U0001f600"}
    assert await tenant.agent_state.save("a", state, agent_type="planner", session_id="s", schema_version=3) == 1
    found = await tenant.agent_state.load("a")
    assert found.state == state
    assert [type(found.state[key]) for key in ("n", "x", "yes")] == [int, float, bool]
    assert (found.agent_id, found.agent_type, found.version, found.schema_version) == ("a", "planner", 1, 3)
    assert (found.session_id, found.phase) == ("s", None)
    assert len(found.checksum) == 64
    assert found.created_at == found.updated_at
    assert await tenant.agent_state.exists("a")


async def test_nothing_is_found_where_nothing_is(tenant: Any) -> None:
    """Every reading verb says that there is nothing."""
    store = tenant.agent_state
    assert await store.find("a") is None
    assert await store.find("a", version=1) is None
    assert not await store.exists("a")
    assert list(await store.versions("a")) == []
    assert list(await store.list_agents()) == []
    assert list(await store.list_checkpoints("a")) == []
    assert not await store.delete("a")
    assert not await store.delete_checkpoint("a", "x")
    assert await store.prune("a") == 0
    assert await store.transitions("planner") == {}
    for missing in (
        store.load("a"),
        store.load_checkpoint("a", "x"),
        store.checkpoint("a", "x"),
        store.restore("a", version=1),
        store.copy("a", "b"),
    ):
        with pytest.raises(NotFound):
            await missing


async def test_an_empty_state_is_a_state(tenant: Any) -> None:
    """Nothing known is something."""
    await tenant.agent_state.save("a", {}, **KINDS)
    await tenant.agent_state.save("a", {"b": []}, **KINDS)
    await tenant.agent_state.save("a", {}, **KINDS)
    assert [(await tenant.agent_state.load("a", version=n)).state for n in (1, 2, 3)] == [{}, {"b": []}, {}]


async def test_every_version_comes_back(tenant: Any) -> None:
    """Deltas lead back to each of many versions, over several that are kept in full."""
    states = await _grown(tenant, "a", 75)
    for number, state in enumerate(states, 1):
        found = await tenant.agent_state.load("a", version=number)
        assert (found.version, found.state) == (number, state)
    assert await tenant.agent_state.find("a", version=76) is None


async def test_versions_of_a_writer_that_remembers_nothing(store: Any, tenant: Any) -> None:
    """A second handle, which knows nothing of the first one's saves, keeps what it replaces all the same."""
    states = []
    for number in range(1, 41):
        state = {"list": list(range(number)), "by": number % 3}
        handle = store.for_tenant(tenant.tenant_id) if number % 3 == 0 else tenant
        await handle.agent_state.save("a", state, **KINDS)
        states.append(state)
    assert [(await tenant.agent_state.load("a", version=n)).state for n in range(1, 41)] == states


async def test_a_state_that_comes_again_keeps_its_full_versions(tenant: Any) -> None:
    """Two contents in turn: what is remembered has the right checksum and perhaps another version."""
    for number in range(70):
        await tenant.agent_state.save("a", {"big": "x" * 2000, "turn": number % 2}, **KINDS)
    for number in range(1, 71):
        assert (await tenant.agent_state.load("a", version=number)).state["turn"] == (number - 1) % 2


async def test_types_of_numbers_are_kept_in_the_history(tenant: Any) -> None:
    """1, 1.0 and true are three versions."""
    values: list[Any] = [1, 1.0, True, 0, 0.0, False, "1", None, [1], [1.0], [True]]
    for value in values:
        await tenant.agent_state.save("a", {"value": value}, **KINDS)
    for number, value in enumerate(values, 1):
        found = (await tenant.agent_state.load("a", version=number)).state["value"]
        assert repr(found) == repr(value)


async def test_what_the_caller_changes_later_is_not_what_was_saved(tenant: Any) -> None:
    """Neither a saved nor a loaded state is the caller's object."""
    state: dict[str, Any] = {"log": [1]}
    await tenant.agent_state.save("a", state, **KINDS)
    state["log"].append(2)
    loaded = (await tenant.agent_state.load("a")).state
    assert loaded == {"log": [1]}
    loaded["log"].append("changed")
    await tenant.agent_state.save("a", {"log": [1, 3]}, **KINDS)
    assert (await tenant.agent_state.load("a", version=1)).state == {"log": [1]}


async def test_the_expected_version_is_compared(tenant: Any) -> None:
    """A save that expects another version changes nothing."""
    store = tenant.agent_state
    with pytest.raises(Conflict):
        await store.save("a", {"n": 1}, expected_version=1, **KINDS)
    assert await store.save("a", {"n": 1}, expected_version=0, **KINDS) == 1
    with pytest.raises(Conflict):
        await store.save("a", {"n": 2}, expected_version=0, **KINDS)
    assert await store.save("a", {"n": 2}, expected_version=1, **KINDS) == 2
    with pytest.raises(Conflict):
        await store.save("a", {"n": 3}, expected_version=1, **KINDS)
    assert (await store.load("a")).state == {"n": 2}
    assert [version.version for version in await store.versions("a")] == [2, 1]


async def test_of_many_writers_each_gets_its_own_version(store: Any, tenant: Any) -> None:
    """Saves at once are one after the other, the first ones included."""
    handles = [store.for_tenant(tenant.tenant_id) for _ in range(8)]
    saves = [handle.agent_state.save("a", {"by": n}, **KINDS) for n, handle in enumerate(handles)]
    assert sorted(await asyncio.gather(*saves)) == list(range(1, 9))
    by = [(await tenant.agent_state.load("a", version=n)).state["by"] for n in range(1, 9)]
    assert sorted(by) == list(range(8))


async def test_of_many_that_expect_the_same_one_wins(store: Any, tenant: Any) -> None:
    """The others are told."""
    await tenant.agent_state.save("a", {}, **KINDS)
    handles = [store.for_tenant(tenant.tenant_id) for _ in range(8)]
    outcomes = await asyncio.gather(
        *(handle.agent_state.save("a", {"by": n}, expected_version=1, **KINDS) for n, handle in enumerate(handles)),
        return_exceptions=True,
    )
    assert [outcome for outcome in outcomes if not isinstance(outcome, Conflict)] == [2]


async def test_versions_are_listed_newest_first(tenant: Any) -> None:
    """Page by page, with what was said about each."""
    await tenant.agent_state.save("a", {}, agent_type="one", session_id="s1", phase="p1")
    await tenant.agent_state.save("a", {}, agent_type="two", schema_version=2)
    await tenant.agent_state.save("a", {"x": 1}, agent_type="three", session_id="s3", phase="p3")
    first = await tenant.agent_state.versions("a", limit=2)
    rest = await tenant.agent_state.versions("a", limit=2, cursor=first.cursor)
    listed = [*first, *rest]
    assert rest.cursor is None
    assert [(v.version, v.agent_type, v.session_id, v.phase, v.schema_version) for v in listed] == [
        (3, "three", "s3", "p3", 1),
        (2, "two", None, "p1", 2),
        (1, "one", "s1", "p1", 1),
    ]
    assert len({v.created_at for v in listed}) == 1
    assert listed[2].updated_at <= listed[1].updated_at <= listed[0].updated_at
    assert listed[2].checksum == listed[1].checksum != listed[0].checksum


async def test_agents_are_listed_by_id(tenant: Any) -> None:
    """By type, session, phase and time, in the order of code points."""
    for name in ["b", "a", "é", "\U0001f600", "\uffff", "Z"]:
        await tenant.agent_state.save(
            name, {}, agent_type="t1" if name in "ab" else "t2", session_id="s" if name > "a" else None
        )
    assert [agent.agent_id for agent in await tenant.agent_state.list_agents()] == sorted(
        ["b", "a", "é", "\U0001f600", "\uffff", "Z"]
    )
    assert [agent.agent_id async for agent in tenant.agent_state.agents(agent_type="t1")] == ["a", "b"]
    assert [agent.agent_id async for agent in tenant.agent_state.agents(agent_type="t1", session_id="s")] == ["b"]
    assert [agent.agent_id async for agent in tenant.agent_state.agents(session_id="s")] == sorted(
        ["b", "é", "\U0001f600", "\uffff"]
    )
    await tenant.agent_state.save("a", {}, agent_type="t1", phase="done")
    assert [agent.agent_id for agent in await tenant.agent_state.list_agents(phase="done")] == ["a"]
    last = (await tenant.agent_state.load("a")).updated_at
    assert [agent.agent_id for agent in await tenant.agent_state.list_agents(updated_since=last)] == ["a"]
    assert list(await tenant.agent_state.list_agents(updated_since=last + timedelta(days=1))) == []
    page = await tenant.agent_state.list_agents(limit=4)
    rest = await tenant.agent_state.list_agents(limit=4, cursor=page.cursor)
    assert (len(page), len(rest), rest.cursor) == (4, 2, None)


async def test_checkpoints_are_kept_whatever_is_pruned(tenant: Any) -> None:
    """A label keeps its version's state; the label is taken once."""
    states = await _grown(tenant, "a", 40)
    store = tenant.agent_state
    assert await store.checkpoint("a", "early", version=5, metadata={"why": "test"}) == 5
    assert await store.checkpoint("a", "now") == 40
    with pytest.raises(AlreadyExists):
        await store.checkpoint("a", "now", version=3)
    with pytest.raises(NotFound):
        await store.checkpoint("a", "later", version=41)
    listed = list(await store.list_checkpoints("a"))
    assert [(c.label, c.version, dict(c.metadata)) for c in listed] == [("early", 5, {"why": "test"}), ("now", 40, {})]
    assert await store.prune("a", keep_last=2) == 38
    assert [version.version for version in await store.versions("a")] == [40, 39]
    assert (await store.load_checkpoint("a", "early")).state == states[4]
    assert (await store.load("a", version=5)).state == states[4]
    for gone in (6, 33, 38):
        assert await store.find("a", version=gone) is None
    assert (await store.load("a", version=39)).state == states[38]
    assert await store.checkpoint("a", "again", version=5) == 5
    assert await store.delete_checkpoint("a", "early")
    assert not await store.delete_checkpoint("a", "early")
    assert (await store.load("a", version=5)).state == states[4]
    assert await store.delete_checkpoint("a", "again")
    assert await store.find("a", version=5) is None


async def test_checkpoints_are_paged(tenant: Any) -> None:
    """By label, in the order of code points."""
    await tenant.agent_state.save("a", {}, **KINDS)
    for label in HOSTILE:
        await tenant.agent_state.checkpoint("a", label)
    first = await tenant.agent_state.list_checkpoints("a", limit=7)
    rest = await tenant.agent_state.list_checkpoints("a", limit=7, cursor=first.cursor)
    assert [c.label for c in [*first, *rest]] == sorted(HOSTILE)


async def test_pruning_takes_the_oldest(tenant: Any) -> None:
    """By count and by time, never the latest; checkpoints only when asked."""
    await _grown(tenant, "a", 10)
    store = tenant.agent_state
    await store.checkpoint("a", "third", version=3)
    assert await store.prune("a", keep_last=10) == 0
    assert await store.prune("a", keep_last=4, older_than=datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert await store.prune("a", keep_last=4, older_than=datetime(2100, 1, 1, tzinfo=UTC)) == 6
    assert [version.version for version in await store.versions("a")] == [10, 9, 8, 7]
    assert (await store.load_checkpoint("a", "third")).version == 3
    assert await store.prune("a", keep_checkpoints=False) == 3
    assert list(await store.list_checkpoints("a")) == []
    assert [version.version for version in await store.versions("a")] == [10]
    assert await store.save("a", {}, **KINDS) == 11


@pytest.mark.settable_clock
async def test_pruning_by_time_cuts_where_the_time_is(tenant: Any, clock: Any) -> None:
    """What is as old as the moment stays, and so does everything after it."""
    for _ in range(5):
        await tenant.agent_state.save("a", {}, **KINDS)
        clock.advance(hours=1)
    third = (await tenant.agent_state.load("a", version=3)).updated_at
    assert await tenant.agent_state.prune("a", older_than=third) == 2
    assert [version.version for version in await tenant.agent_state.versions("a")] == [5, 4, 3]


async def test_restoring_makes_a_new_version(tenant: Any) -> None:
    """An older version or a checkpoint becomes the latest, with its type, session and phase, and nothing is lost."""
    store = tenant.agent_state
    await store.save("a", {"n": 1}, agent_type="one", session_id="s", phase="p", schema_version=4)
    await store.save("a", {"n": 2}, agent_type="two", phase="q")
    await store.checkpoint("a", "two")
    assert await store.restore("a", version=1) == 3
    found = await store.load("a")
    assert (found.state, found.agent_type, found.session_id, found.phase, found.schema_version) == (
        {"n": 1},
        "one",
        "s",
        "p",
        4,
    )
    assert await store.restore("a", checkpoint="two", expected_version=3) == 4
    with pytest.raises(Conflict):
        await store.restore("a", version=1, expected_version=3)
    assert [(await store.load("a", version=n)).state["n"] for n in (1, 2, 3, 4)] == [1, 2, 1, 2]
    for wrong in ({}, {"version": 1, "checkpoint": "two"}):
        with pytest.raises(InvalidInput):
            await store.restore("a", **wrong)


async def test_deleting_takes_everything(tenant: Any) -> None:
    """State, versions and checkpoints go, other agents stay, and the id may be used again."""
    await _grown(tenant, "a", 3)
    await _grown(tenant, "b", 3)
    await tenant.agent_state.checkpoint("a", "x")
    assert await tenant.agent_state.delete("a")
    assert await tenant.agent_state.find("a") is None
    assert list(await tenant.agent_state.versions("a")) == []
    assert list(await tenant.agent_state.list_checkpoints("a")) == []
    assert await tenant.agent_state.save("a", {"new": 1}, **KINDS) == 1
    assert len(await tenant.agent_state.versions("b")) == 3


async def test_copying_with_and_without_history(tenant: Any) -> None:
    """A copy begins at version 1, or has all versions and checkpoints under their numbers."""
    states = await _grown(tenant, "a", 35)
    store = tenant.agent_state
    await store.checkpoint("a", "ten", version=10)
    await store.copy("a", "short")
    await store.copy("a", "long", history=True)
    assert [version.version for version in await store.versions("short")] == [1]
    assert (await store.load("short")).state == states[-1]
    assert [(await store.load("long", version=n)).state for n in range(1, 36)] == states
    assert (await store.load_checkpoint("long", "ten")).state == states[9]
    assert list(await store.list_checkpoints("short")) == []
    for taken in ("short", "a"):
        with pytest.raises(AlreadyExists):
            await store.copy("a", taken)
    await store.save("long", {"own": 1}, **KINDS)
    assert (await store.load("a")).version == 35


async def test_only_declared_transitions_are_made(tenant: Any) -> None:
    """A declared type moves as declared; staying is no move, and other types do as they like."""
    store = tenant.agent_state
    await store.declare("planner", {"": ["idle"], "idle": ["busy"], "busy": ["idle", "done"]})
    assert await store.transitions("planner") == {"": ("idle",), "busy": ("done", "idle"), "idle": ("busy",)}
    with pytest.raises(InvalidInput):
        await store.save("a", {}, phase="busy", **KINDS)
    assert await store.find("a") is None
    await store.save("a", {}, phase="idle", **KINDS)
    await store.save("a", {"n": 1}, phase="idle", **KINDS)
    await store.save("a", {"n": 2}, **KINDS)
    assert (await store.load("a")).phase == "idle"
    with pytest.raises(InvalidInput, match="'idle' to 'done'"):
        await store.save("a", {"n": 3}, phase="done", **KINDS)
    assert (await store.load("a")).version == 3
    await store.save("a", {}, phase="busy", **KINDS)
    await store.save("a", {}, phase="done", **KINDS)
    with pytest.raises(InvalidInput):
        await store.save("a", {}, phase="idle", **KINDS)
    assert await store.restore("a", version=1) == 6
    assert (await store.load("a")).phase == "idle"
    with pytest.raises(Conflict):
        await store.save("a", {}, phase="done", expected_version=1, **KINDS)
    await store.save("free", {}, agent_type="other", phase="anything")
    await store.declare("planner", None)
    assert await store.transitions("planner") == {}
    await store.save("a", {}, phase="done", **KINDS)


@pytest.mark.parametrize("text", HOSTILE)
async def test_names_mean_nothing_but_themselves(tenant: Any, text: str) -> None:
    """No id, type, session, phase or label is taken for a pattern or another spelling of itself."""
    await tenant.agent_state.save(text, {text: text}, agent_type=text, session_id=text, phase=text)
    await tenant.agent_state.checkpoint(text, text, metadata={text: text})
    found = await tenant.agent_state.load_checkpoint(text, text)
    assert (found.agent_id, found.agent_type, found.session_id, found.phase, found.state) == (
        text,
        text,
        text,
        text,
        {text: text},
    )
    assert await tenant.agent_state.find(text + "x") is None


@pytest.mark.parametrize(
    ("verb", "args", "kwargs"),
    [
        ("save", ("", {}), KINDS),
        ("save", ("a" * 256, {}), KINDS),
        ("save", ("a\0b", {}), KINDS),
        ("save", ("\ud800", {}), KINDS),
        ("save", ("a", []), KINDS),
        ("save", ("a", "text"), KINDS),
        ("save", ("a", {"x": float("nan")}), KINDS),
        ("save", ("a", {"x": float("inf")}), KINDS),
        ("save", ("a", {"x": 2**63}), KINDS),
        ("save", ("a", {"x": "\ud800"}), KINDS),
        ("save", ("a", {"x": "\0"}), KINDS),
        ("save", ("a", {1: 2}), KINDS),
        ("save", ("a", {"x": object()}), KINDS),
        ("save", ("a", {}), {"agent_type": ""}),
        ("save", ("a", {}), {"agent_type": "t" * 101}),
        ("save", ("a", {}), {**KINDS, "session_id": ""}),
        ("save", ("a", {}), {**KINDS, "phase": "p" * 101}),
        ("save", ("a", {}), {**KINDS, "schema_version": 0}),
        ("save", ("a", {}), {**KINDS, "expected_version": -1}),
        ("load", ("a",), {"version": 0}),
        ("versions", ("a",), {"limit": 0}),
        ("versions", ("a",), {"limit": 10_001}),
        ("versions", ("a",), {"cursor": "nonsense"}),
        ("list_agents", (), {"updated_since": datetime(2020, 1, 1)}),  # noqa: DTZ001 - the fault
        ("checkpoint", ("a", ""), {}),
        ("checkpoint", ("a", "l" * 256), {}),
        ("prune", ("a",), {"keep_last": 0}),
        ("prune", ("a",), {"older_than": "yesterday"}),
        ("declare", ("t", {}), {}),
        ("declare", ("t", {"a": "b"}), {}),
        ("declare", ("t", {"a": [""]}), {}),
    ],
)
async def test_what_cannot_be_kept_is_refused(tenant: Any, verb: str, args: Any, kwargs: Any) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidInput):
        await getattr(tenant.agent_state, verb)(*args, **kwargs)
    assert await tenant.agent_state.find("a") is None


async def test_a_large_state_goes_through(tenant: Any) -> None:
    """Ten megabytes, twice."""
    state = {"text": "é" * 5_000_000}
    await tenant.agent_state.save("a", state, **KINDS)
    await tenant.agent_state.save("a", {**state, "more": 1}, **KINDS)
    assert (await tenant.agent_state.load("a", version=1)).state == state


async def test_the_neighbour_sees_and_loses_nothing(tenant: Any, neighbour: Any) -> None:
    """Every writing verb of one tenant leaves the other one's agents and threads as they are."""
    await neighbour.agent_state.save("a", {"mine": 1}, **KINDS)
    await neighbour.agent_state.save("a", {"mine": 2}, **KINDS)
    await neighbour.agent_state.checkpoint("a", "x", version=1)
    await _put(neighbour, "t", "1", values={"v": b"n" * 600})
    await _grown(tenant, "a", 3)
    await tenant.agent_state.declare("planner", {"": ["idle"]})
    await tenant.agent_state.checkpoint("a", "x")
    await tenant.agent_state.copy("a", "b", history=True)
    await tenant.agent_state.restore("a", version=1)
    await tenant.agent_state.prune("a", keep_checkpoints=False)
    await tenant.agent_state.delete("a")
    await _put(tenant, "t", "1", values={"v": b"m" * 600}, run_id="r")
    await tenant.agent_state.threads.delete_runs(["r"])
    await tenant.agent_state.threads.delete_thread("t")
    assert [(await neighbour.agent_state.load("a", version=n)).state for n in (1, 2)] == [{"mine": 1}, {"mine": 2}]
    assert (await neighbour.agent_state.load_checkpoint("a", "x")).version == 1
    assert [agent.agent_id for agent in await neighbour.agent_state.list_agents()] == ["a"]
    assert await neighbour.agent_state.transitions("planner") == {}
    found = await neighbour.agent_state.threads.get("t")
    assert found.values == {"v": ("bytes", b"n" * 600)}


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_operations_agree_with_the_model(tenant: Any, model: Any, seed: int) -> None:
    """The same operations have the same results as in memory."""
    chance = random.Random(seed)
    agents = ["a", "b", "c"]
    state: dict[str, Any] = {}
    for _ in range(150):
        agent = chance.choice(agents)
        verb = chance.choice(["save"] * 6 + ["load", "checkpoint", "restore", "prune", "delete", "copy", "drop"])
        number = chance.randint(1, 12)
        call: tuple[str, tuple[Any, ...], dict[str, Any]]
        match verb:
            case "save":
                state = {**state, chance.choice("xyz"): chance.choice([1, 1.0, True, None, [number], "t" * number])}
                expected = chance.choice([None, None, None, number])
                call = (
                    "save",
                    (agent, state),
                    {"agent_type": "t", "expected_version": expected, "phase": chance.choice([None, "p"])},
                )
            case "load":
                call = ("load", (agent,), {"version": number})
            case "checkpoint":
                call = ("checkpoint", (agent, f"l{number % 3}"), {"version": chance.choice([None, number])})
            case "restore":
                call = ("restore", (agent,), {"version": number})
            case "prune":
                call = ("prune", (agent,), {"keep_last": number, "keep_checkpoints": chance.choice([True, False])})
            case "delete":
                call = ("delete", (agent,), {})
            case "copy":
                call = ("copy", (agent, chance.choice(agents)), {"history": chance.choice([True, False])})
            case _:
                call = ("delete_checkpoint", (agent, f"l{number % 3}"), {})
        assert await _outcome(tenant, *call) == await _outcome(model, *call), call
        for each in agents:
            assert [v.version for v in await tenant.agent_state.versions(each)] == [
                v.version for v in await model.agent_state.versions(each)
            ]
    for each in agents:
        for version in await model.agent_state.versions(each):
            ours = await tenant.agent_state.load(each, version=version.version)
            theirs = await model.agent_state.load(each, version=version.version)
            assert (ours.state, ours.checksum, ours.phase) == (theirs.state, theirs.checksum, theirs.phase)


async def _outcome(tenant: Any, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        found = await getattr(tenant.agent_state, verb)(*args, **kwargs)
    except (NotFound, Conflict, AlreadyExists, InvalidInput) as error:
        return type(error)
    return (found.version, found.state) if hasattr(found, "state") else found


# Threads --------------------------------------------------------------------------------------------


async def _put(
    tenant: Any,
    thread_id: str,
    checkpoint_id: str,
    *,
    namespace: str = "",
    values: dict[str, bytes] | None = None,
    versions: dict[str, Any] | None = None,
    changed: set[str] | None = None,
    **options: Any,
) -> None:
    named = values or {}
    await tenant.agent_state.threads.put(
        thread_id,
        namespace,
        checkpoint_id,
        head=("json", b"{}"),
        versions=versions or dict.fromkeys(named, 1),
        value_of=lambda name: ("bytes", named[name]),
        changed=set(named) if changed is None else changed,
        **options,
    )


async def _ids(tenant: Any, *args: Any, **kwargs: Any) -> list[str]:
    return [found.checkpoint_id async for found in tenant.agent_state.threads.find(*args, **kwargs)]


async def test_a_checkpoint_of_a_thread_comes_back(tenant: Any) -> None:
    """Head, values small and large, metadata, parent and writes."""
    values = {"small": b"s", "large": bytes(range(256)) * 20, "none": b""}
    await _put(tenant, "t", "1", values=values, metadata={"step": 1}, run_id="r")
    await tenant.agent_state.threads.put_writes("t", "", "1", "task", [(0, "c", ("k", b"w")), (-1, "e", ("k", b""))])
    found = await tenant.agent_state.threads.get("t")
    assert found.values == {name: ("bytes", value) for name, value in values.items()}
    assert (found.head, found.parent_id, dict(found.metadata)) == (("json", b"{}"), None, {"step": 1})
    assert [(w.position, w.channel, w.kind, w.content) for w in found.writes] == [
        (-1, "e", "k", b""),
        (0, "c", "k", b"w"),
    ]
    assert await tenant.agent_state.threads.get("t", "other") is None
    assert await tenant.agent_state.threads.get("u") is None
    assert await tenant.agent_state.threads.get("t", "", "2") is None


async def test_growing_values_come_back_at_every_step(store: Any, tenant: Any) -> None:
    """By the handle that wrote them and by one that remembers nothing; forks and unchanged values included."""
    chance = random.Random(7)
    grown, rewritten = b"", b""
    expected = {}
    parent = None
    for step in range(60):
        grown += chance.randbytes(chance.randint(1, 400))
        changed = {"grown"}
        if step % 9 == 0:
            rewritten = chance.randbytes(1500)
            changed.add("rewritten")
        name = f"{step:03}"
        values = {"grown": grown, "rewritten": rewritten}
        handle = tenant if step % 4 else store.for_tenant(tenant.tenant_id)
        if step % 10 == 5:
            await handle.agent_state.threads.get("t")
        await _put(
            handle,
            "t",
            name,
            values=values,
            versions={"grown": step, "rewritten": step // 9},
            changed=changed,
            parent_id=parent,
        )
        expected[name] = values
        parent = name if step % 13 else "000"
    for handle in (tenant, store.for_tenant(tenant.tenant_id)):
        found = {
            c.checkpoint_id: {n: v for n, (_, v) in c.values.items()}
            async for c in handle.agent_state.threads.find("t")
        }
        assert found == expected
        for name in ("000", "031", "059"):
            one = await handle.agent_state.threads.get("t", "", name)
            assert {n: v for n, (_, v) in one.values.items()} == expected[name]


async def test_checkpoints_are_found_newest_first(tenant: Any) -> None:
    """By thread, namespace, id and metadata, over more than one page."""
    for number in range(230):
        await _put(tenant, "t", f"{number:04}", metadata={"odd": bool(number % 2), "n": number, "deep": {"x": [1.0]}})
    await _put(tenant, "t", "0007", namespace="sub")
    await _put(tenant, "u", "0009")
    ids = [f"{number:04}" for number in reversed(range(230))]
    assert await _ids(tenant, "t", "") == ids
    assert await _ids(tenant, "t", "", limit=120) == ids[:120]
    assert await _ids(tenant, "t", "", limit=0) == []
    assert await _ids(tenant, "t", "", before="0003") == ["0002", "0001", "0000"]
    assert await _ids(tenant, "t", "", where={"n": 5}) == ["0005"]
    assert await _ids(tenant, "t", "", where={"n": 5.0}) == ["0005"]
    assert await _ids(tenant, "t", "", where={"odd": 1}) == []
    assert await _ids(tenant, "t", "", where={"odd": True, "deep": {"x": [1]}}, limit=2) == ["0229", "0227"]
    assert len(await _ids(tenant, "t", "", where={"absent": None})) == 230
    assert await _ids(tenant, "t", "sub") == ["0007"]
    assert len(await _ids(tenant, "t")) == 231
    everything = [(c.thread_id, c.namespace, c.checkpoint_id) async for c in tenant.agent_state.threads.find()]
    assert len(everything) == 232
    assert everything.index(("t", "sub", "0007")) == everything.index(("t", "", "0007")) + 1
    assert everything.index(("u", "", "0009")) == everything.index(("t", "", "0009")) + 1


async def test_writes_are_kept_once_and_in_the_order_of_their_tasks(tenant: Any) -> None:
    """A second write of a place stays out, below 0 it replaces; writes may come before their checkpoint."""
    threads = tenant.agent_state.threads
    await threads.put_writes("t", "", "1", "b", [(0, "c", ("k", b"b0")), (1, "c", ("k", b"b1"))], task_path="2")
    await threads.put_writes("t", "", "1", "z", [(0, "c", ("k", b"z"))], task_path="1")
    await threads.put_writes("t", "", "1", "y", [(0, "c", ("k", b"y"))])
    await threads.put_writes("t", "", "1", "b", [(0, "c", ("k", b"again")), (-3, "i", ("k", b"1"))], task_path="2")
    await threads.put_writes("t", "", "1", "b", [(-3, "i", ("k", b"2"))], task_path="2")
    await threads.put_writes("t", "", "1", "b", [])
    await threads.put_writes("t", "sub", "1", "b", [(0, "c", ("k", b"elsewhere"))])
    assert await threads.get("t") is None
    await _put(tenant, "t", "1")
    found = await threads.get("t")
    assert [(w.task_id, w.position, w.content) for w in found.writes] == [
        ("y", 0, b"y"),
        ("z", 0, b"z"),
        ("b", -3, b"2"),
        ("b", 0, b"b0"),
        ("b", 1, b"b1"),
    ]


async def test_a_checkpoint_may_be_put_again(tenant: Any) -> None:
    """The second one counts."""
    await _put(tenant, "t", "1", values={"v": b"1" * 500})
    await _put(tenant, "t", "1", values={"v": b"2" * 500, "w": b""}, metadata={"again": 1})
    found = await tenant.agent_state.threads.get("t")
    assert found.values == {"v": ("bytes", b"2" * 500), "w": ("bytes", b"")}
    assert dict(found.metadata) == {"again": 1}


@pytest.mark.parametrize("order", ["known first", "known last", "in turn"])
async def test_a_checkpoint_is_put_again_by_one_that_remembers_nothing(store: Any, tenant: Any, order: str) -> None:
    """What one handle writes as a difference another writes whole; each is read as the last of them wrote it."""
    value = random.Random(11).randbytes(3000)
    await _put(tenant, "t", "1", values={"v": value})
    writers = {
        "known first": [tenant, store.for_tenant(tenant.tenant_id)],
        "known last": [store.for_tenant(tenant.tenant_id), tenant],
        "in turn": [tenant, store.for_tenant(tenant.tenant_id), tenant, store.for_tenant(tenant.tenant_id)],
    }
    for writer in writers[order]:
        await _put(writer, "t", "2", values={"v": value + b"2" * 50}, versions={"v": 2}, parent_id="1")
        found = await store.for_tenant(tenant.tenant_id).agent_state.threads.get("t", "", "2")
        assert found.values == {"v": ("bytes", value + b"2" * 50)}
    # One that still remembers the first time builds on the last one.
    await _put(tenant, "t", "3", values={"v": value + b"3" * 60}, versions={"v": 3}, parent_id="2")
    assert await tenant.agent_state.threads.prune("t") == 2
    for handle in (tenant, store.for_tenant(tenant.tenant_id)):
        assert (await handle.agent_state.threads.get("t")).values == {"v": ("bytes", value + b"3" * 60)}
    assert await _ids(tenant, "t") == ["3"]


async def test_two_workers_put_the_same_checkpoint_at_once(store: Any, tenant: Any) -> None:
    """Whoever comes last, what is there can be read, after pruning too."""
    value = random.Random(12).randbytes(3000)
    for number in range(12):
        await _put(tenant, "t", f"{number:02}a", values={"v": value})
        workers = [tenant, *(store.for_tenant(tenant.tenant_id) for _ in range(3))]
        await asyncio.gather(
            *(
                _put(worker, "t", f"{number:02}b", values={"v": value + b"b"}, parent_id=f"{number:02}a")
                for worker in workers
            )
        )
        await workers[-1].agent_state.threads.prune("t")
        found = await store.for_tenant(tenant.tenant_id).agent_state.threads.get("t")
        assert (found.checkpoint_id, found.values) == (f"{number:02}b", {"v": ("bytes", value + b"b")})


async def test_walking_goes_along_parents(tenant: Any) -> None:
    """Not along ids, and past the first page of ancestors."""
    for number in range(100):
        values = {"v": b"x"} if number % 40 == 3 else {}
        await _put(tenant, "t", f"{number:03}", values=values, parent_id=f"{number - 1:03}" if number else None)
    await _put(tenant, "t", "fork", parent_id="050")
    await tenant.agent_state.threads.put_writes("t", "", "050", "task", [(0, "c", ("k", b"w"))])
    steps = [step async for step in tenant.agent_state.threads.walk("t", "", "fork")]
    assert [step.checkpoint_id for step in steps] == ["fork", *(f"{number:03}" for number in range(50, -1, -1))]
    assert [step.checkpoint_id for step in steps if step.names] == ["043", "003"]
    assert [write.content for write in steps[1].writes] == [b"w"]
    assert [step async for step in tenant.agent_state.threads.walk("t", "", "none")] == []


async def test_pruning_keeps_what_is_needed(store: Any, tenant: Any) -> None:
    """The newest of each namespace, its parts, and ancestors that hold what it lacks."""
    values = {"v": b"v" * 900}
    for number in range(10):
        values = {"v": values["v"] + bytes([number]) * 40}
        now = {**values, "snapshot": b"s"} if number == 6 else values
        versions = {"v": number} | ({"snapshot": 1} if number == 6 else {})
        await _put(
            tenant, "t", f"{number}", values=now, versions=versions, parent_id=f"{number - 1}" if number else None
        )
        await _put(tenant, "t", f"{number}", namespace="sub", values={"s": bytes([number]) * 700})
    assert (
        await tenant.agent_state.threads.prune("t", needs=lambda newest: ["snapshot"] if newest.namespace == "" else [])
        == 15
    )
    assert await _ids(tenant, "t", "") == ["9", "8", "7", "6"]
    assert await _ids(tenant, "t", "sub") == ["9"]
    fresh = store.for_tenant(tenant.tenant_id)
    assert (await fresh.agent_state.threads.get("t")).values == {"v": ("bytes", values["v"])}
    assert await tenant.agent_state.threads.prune("t") == 3
    assert (await fresh.agent_state.threads.get("t")).values == {"v": ("bytes", values["v"])}
    assert (await fresh.agent_state.threads.get("t", "sub")).values == {"s": ("bytes", b"\x09" * 700)}
    assert await tenant.agent_state.threads.prune("t") == 0
    assert await tenant.agent_state.threads.prune("none") == 0


async def test_a_writer_whose_parent_was_removed_writes_all_of_it(store: Any, tenant: Any) -> None:
    """What it remembers is not there any more."""
    other = store.for_tenant(tenant.tenant_id)
    value = b"".join(bytes([number % 251]) * 3 for number in range(900))
    await _put(tenant, "t", "1", values={"v": value})
    await _put(tenant, "t", "2", values={"v": value + b"2"}, parent_id="1")
    await other.agent_state.threads.delete_thread("t")
    await _put(tenant, "t", "3", values={"v": value + b"2"}, versions={"v": 1}, changed=set(), parent_id="2")
    assert (await other.agent_state.threads.get("t")).values == {"v": ("bytes", value + b"2")}
    assert await _ids(other, "t") == ["3"]


async def test_puts_and_prunes_at_once_lose_no_part(store: Any, tenant: Any) -> None:
    """Whatever comes first, every checkpoint that is there can be read."""
    writer, pruner = (store.for_tenant(tenant.tenant_id) for _ in range(2))
    value = random.Random(3).randbytes(3000)
    await _put(writer, "t", "000", values={"v": value})

    async def write() -> None:
        for number in range(1, 40):
            await _put(
                writer,
                "t",
                f"{number:03}",
                values={"v": value + bytes([number]) * 50},
                versions={"v": number},
                parent_id=f"{number - 1:03}",
            )

    async def prune() -> None:
        for _ in range(15):
            await pruner.agent_state.threads.prune("t")

    await asyncio.gather(write(), prune())
    reader = store.for_tenant(tenant.tenant_id)
    found = [c async for c in reader.agent_state.threads.find("t")]
    assert found[0].checkpoint_id == "039"
    assert all(c.values["v"][1].startswith(value) for c in found)


async def test_runs_are_deleted_in_every_thread(tenant: Any) -> None:
    """With their writes, and nothing of other runs."""
    for thread in ("t", "u"):
        await _put(tenant, thread, "1", values={"v": b"1" * 400}, run_id="one")
        await _put(tenant, thread, "2", values={"v": b"1" * 400}, changed=set(), run_id="two", parent_id="1")
        await tenant.agent_state.threads.put_writes(thread, "", "1", "task", [(0, "c", ("k", b"w"))])
    assert await tenant.agent_state.threads.delete_runs(["one", "none", "one"]) == 2
    assert await tenant.agent_state.threads.delete_runs([]) == 0
    assert await _ids(tenant) == ["2", "2"]
    assert (await tenant.agent_state.threads.get("u")).values == {"v": ("bytes", b"1" * 400)}
    await _put(tenant, "t", "1")
    assert (await tenant.agent_state.threads.get("t", "", "1")).writes == ()


async def test_a_thread_is_copied_whole(store: Any, tenant: Any) -> None:
    """With parents, namespaces and writes; the copy lives on its own."""
    for number in range(5):
        await _put(
            tenant,
            "t",
            f"{number}",
            values={"v": b"v" * 500 + bytes([number])},
            parent_id=f"{number - 1}" if number else None,
        )
    await _put(tenant, "t", "1", namespace="sub")
    await tenant.agent_state.threads.put_writes("t", "", "4", "task", [(0, "c", ("k", b"w"))])
    await tenant.agent_state.threads.copy_thread("t", "copy")
    assert await tenant.agent_state.threads.delete_thread("t") == 6
    assert await _ids(tenant, "copy", "") == ["4", "3", "2", "1", "0"]
    found = await store.for_tenant(tenant.tenant_id).agent_state.threads.get("copy")
    assert (found.values["v"][1], found.parent_id, len(found.writes)) == (b"v" * 500 + b"\x04", "3", 1)
    with pytest.raises(NotFound):
        await tenant.agent_state.threads.copy_thread("t", "other")
    await _put(tenant, "taken", "1")
    for target in ("taken", "copy"):
        with pytest.raises(AlreadyExists):
            await tenant.agent_state.threads.copy_thread("copy", target)
    assert await tenant.agent_state.threads.delete_thread("none") == 0


@pytest.mark.parametrize(
    "options",
    [
        {"thread_id": ""},
        {"thread_id": "t" * 256},
        {"thread_id": "\0"},
        {"namespace": "é" * 401},
        {"checkpoint_id": ""},
        {"checkpoint_id": "é" * 65},
        {"parent_id": ""},
        {"run_id": ""},
        {"metadata": {"x": float("nan")}},
        {"values": {"": b""}},
        {"values": {"v": "text"}},
    ],
)
async def test_what_no_thread_keeps_is_refused(tenant: Any, options: dict[str, Any]) -> None:
    """Before anything is sent."""
    given = {"thread_id": "t", "checkpoint_id": "1", **options}
    with pytest.raises(InvalidInput):
        await _put(tenant, given.pop("thread_id"), given.pop("checkpoint_id"), **given)
    assert await _ids(tenant) == []
