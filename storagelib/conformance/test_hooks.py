"""The hook history."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from storagelib.components.hooks import Difference, Execution, RetentionPolicy
from storagelib.errors import InvalidInput, NotFound
from storagelib.identifiers import uuid7

HOSTILE = [
    "'; DROP TABLE hook_history; --",
    "%",
    "_",
    "a%b",
    "\\",
    '"',
    "é",
    "e\u0301",
    "\U0001f600",
    "\uffff",
    " ",
    "\n",
]
VALUES = [None, True, 0, 2**63 - 1, 1.5, "", "text", [], {}, [1, {"a": [None]}], {"é": "'\"\\"}]
START = datetime(2024, 1, 1, tzinfo=UTC)


async def record(tenant: Any, number: int = 0, **values: Any) -> UUID:
    """Record an execution whose values follow from a number, unless they are given."""
    given: dict[str, Any] = {
        "triggering_component": f"component{number % 3}",
        "input": {"n": number},
        "output": {"twice": 2 * number},
        "duration_ms": number,
        "timestamp": START + timedelta(seconds=number),
        **values,
    }
    hook_id, hook_type = given.pop("hook_id", f"hook{number % 4}"), given.pop("hook_type", f"type{number % 2}")
    recorded = await tenant.hooks.record(hook_id, hook_type, **given)
    assert isinstance(recorded, UUID)
    return recorded


async def query(tenant: Any, limit: int = 7, **question: Any) -> list[Execution]:
    """Ask page after page."""
    found: list[Execution] = []
    cursor = None
    while True:
        page = await tenant.hooks.query(limit=limit, cursor=cursor, **question)
        assert len(page) <= limit
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


async def test_what_is_recorded_is_got(tenant: Any) -> None:
    """An execution comes back as it was, by its id as UUID and as text."""
    execution_id = await tenant.hooks.record(
        "hook",
        "before_tool",
        triggering_component="agent",
        input={"question": "x" * 1000},
        output=[1, 2],
        duration_ms=1.2345,
        correlation_id="run",
        tags=["b", "a", "b"],
        retention_priority=-3,
        metadata={"m": None},
        timestamp=START,
    )
    execution = await tenant.hooks.get(execution_id)
    assert execution == await tenant.hooks.get(str(execution_id))
    assert execution == Execution(
        execution_id,
        "hook",
        "before_tool",
        "run",
        "agent",
        {"question": "x" * 1000},
        [1, 2],
        None,
        START,
        1.234,
        ("a", "b"),
        -3,
        {"m": None},
        1015,
        execution.stored_bytes,
    )
    assert execution.stored_bytes < 100
    assert execution_id.version == 7


async def test_what_is_left_out_is_filled_in(tenant: Any) -> None:
    """It ran now, belongs to itself, and returned nothing."""
    execution = await tenant.hooks.get(
        await tenant.hooks.record("h", "t", triggering_component="c", input=None, duration_ms=0)
    )
    assert UUID(execution.correlation_id).version == 7
    assert abs(execution.timestamp - datetime.now(UTC)) < timedelta(minutes=5)
    assert (execution.input, execution.output, execution.error) == (None, None, None)
    assert (execution.tags, execution.retention_priority, dict(execution.metadata)) == ((), 0, {})
    assert execution.duration_ms == 0


@pytest.mark.parametrize("value", VALUES)
async def test_inputs_and_outputs_are_any_json(tenant: Any, value: object) -> None:
    """Every JSON value comes back equal and of its own type."""
    execution = await tenant.hooks.get(await record(tenant, input=value, output=value))
    assert execution.input == execution.output == value
    assert type(execution.input) is type(execution.output) is type(value)


async def test_an_input_is_packed_when_that_helps(tenant: Any) -> None:
    """Noise is kept as it is, and both come back."""
    noise = random.Random(1).randbytes(3000).hex()
    packed = await tenant.hooks.get(await record(tenant, input=["word"] * 1000))
    short = await tenant.hooks.get(await record(tenant, input="short"))
    dense = await tenant.hooks.get(await record(tenant, input=noise))
    assert packed.stored_bytes * 20 < packed.original_bytes
    assert short.stored_bytes == short.original_bytes == len('"short"')
    assert dense.input == noise
    assert dense.stored_bytes < dense.original_bytes


async def test_failures_keep_their_reason(tenant: Any) -> None:
    """Text stays as it is, an exception becomes its type and text, whatever is in it."""
    for error, kept in (
        ("it broke", "it broke"),
        ("", ""),
        (ValueError("no such thing"), "ValueError: no such thing"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("a\0b\ud800"), "RuntimeError: a\\0b\\ud800"),
    ):
        execution = await tenant.hooks.get(await record(tenant, error=error))
        assert execution.error == kept
    assert len(await query(tenant, failed=True)) == 5


async def test_nothing_is_there_at_first(tenant: Any) -> None:
    """Every read of an empty history is empty."""
    assert await query(tenant) == []
    assert len(await tenant.hooks.durations()) == 0
    statistics = await tenant.hooks.statistics()
    assert (statistics.executions, statistics.failed, statistics.hooks, statistics.stored_bytes) == (0, 0, 0, 0)
    assert statistics.first_at is statistics.last_at is None
    assert dict(statistics.by_type) == {}
    assert await tenant.hooks.erase("c", "nothing there") == 0
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=0)) == 0
    with pytest.raises(NotFound):
        await tenant.hooks.get(uuid7())
    with pytest.raises(NotFound):
        await tenant.hooks.replay("c", lambda _execution: None)
    with pytest.raises(NotFound):
        await tenant.hooks.diff("c", "c")
    with pytest.raises(NotFound):
        await tenant.hooks.diff(uuid7(), uuid7())


@pytest.mark.parametrize("name", HOSTILE)
async def test_names_mean_nothing_but_themselves(tenant: Any, name: str) -> None:
    """No name is taken for a pattern or another spelling of itself."""
    await record(tenant, tags=["other"])
    execution_id = await record(
        tenant, hook_id=name, hook_type=name, triggering_component=name, correlation_id=name, tags=[name, "z"]
    )
    for question in (
        {"hook_id": name},
        {"hook_type": name},
        {"triggering_component": name},
        {"correlation_id": name},
        {"tags": [name]},
    ):
        assert [one.execution_id for one in await query(tenant, **question)] == [execution_id]
    assert [one.hook_id for one in await tenant.hooks.durations(hook_id=name)] == [name]
    assert await tenant.hooks.erase(name, "asked for") == 1


async def fill(tenant: Any) -> list[Execution]:
    """Record 40 executions, several of them at one time, and return them from the earliest on."""
    for number in range(40):
        await record(
            tenant,
            number,
            timestamp=START + timedelta(seconds=number // 5),
            correlation_id=f"run{number % 2}",
            tags=[f"t{number % 2}", f"u{number % 5}"],
            error="broke" if number % 7 == 0 else None,
        )
    found = await query(tenant, newest_first=False)
    assert len(found) == 40
    return found


@pytest.mark.parametrize("newest_first", [False, True])
async def test_questions_are_answered_in_order_of_time(tenant: Any, newest_first: bool) -> None:
    """Everything given holds, and pages neither lose nor repeat what ran at one time."""
    everything = await fill(tenant)
    ordered = everything[::-1] if newest_first else everything
    keys = [(one.timestamp, one.execution_id) for one in everything]
    assert keys == sorted(set(keys))
    since, until = START + timedelta(seconds=2), START + timedelta(seconds=6)
    cases: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda _one: True),
        ({"hook_id": "hook1"}, lambda one: one.hook_id == "hook1"),
        ({"hook_type": "type1"}, lambda one: one.hook_type == "type1"),
        ({"triggering_component": "component2"}, lambda one: one.triggering_component == "component2"),
        ({"correlation_id": "run0"}, lambda one: one.correlation_id == "run0"),
        ({"tags": ["t1"]}, lambda one: "t1" in one.tags),
        ({"tags": ["t1", "u3"]}, lambda one: {"t1", "u3"} <= set(one.tags)),
        ({"tags": ["nothing"]}, lambda _one: False),
        ({"since": since, "until": until}, lambda one: since <= one.timestamp < until),
        ({"failed": True}, lambda one: one.error is not None),
        ({"failed": False}, lambda one: one.error is None),
        ({"min_duration_ms": 20}, lambda one: one.duration_ms >= 20),
        (
            {"hook_id": "hook0", "hook_type": "type0", "failed": False, "since": since, "min_duration_ms": 0.5},
            lambda one: one.hook_id == "hook0" and one.error is None and one.timestamp >= since,
        ),
    ]
    for question, holds in cases:
        for limit in (3, 100):
            found = await query(tenant, limit=limit, newest_first=newest_first, **question)
            assert found == [one for one in ordered if holds(one)]


async def test_the_latest_comes_first_unless_told(tenant: Any) -> None:
    """A plain question shows what happened last."""
    everything = await fill(tenant)
    assert (await tenant.hooks.query(limit=1)).items == (everything[-1],)


async def test_durations_are_told_per_hook(tenant: Any) -> None:
    """Percentiles are durations that were measured; times bound what is counted."""
    for number in range(1, 101):
        await record(tenant, number, hook_id="a", duration_ms=number / 4, error="x" if number > 98 else None)
    await record(tenant, 7, hook_id="b", duration_ms=0.001)
    a, b = await tenant.hooks.durations()
    assert (a.hook_id, a.count, a.failed) == ("a", 100, 2)
    assert (a.mean_ms, a.p50_ms, a.p95_ms, a.p99_ms, a.max_ms) == (12.625, 12.5, 23.75, 24.75, 25.0)
    assert (b.count, b.mean_ms, b.p50_ms, b.p99_ms, b.max_ms) == (1, 0.001, 0.001, 0.001, 0.001)
    assert (await tenant.hooks.durations(hook_id="b")).items == (b,)
    (few,) = await tenant.hooks.durations(
        hook_id="a", since=START + timedelta(seconds=1), until=START + timedelta(seconds=5)
    )
    assert (few.count, few.p50_ms, few.p95_ms, few.max_ms) == (4, 0.5, 1.0, 1.0)
    first = await tenant.hooks.durations(limit=1)
    second = await tenant.hooks.durations(limit=1, cursor=first.cursor)
    assert (first.items, second.items, second.cursor) == ((a,), (b,), None)


async def test_statistics_count(tenant: Any) -> None:
    """Executions, errors, hooks, types, times and bytes are counted."""
    everything = await fill(tenant)
    await record(tenant, 41, hook_type="type0", input=["word"] * 1000)
    statistics = await tenant.hooks.statistics()
    assert (statistics.executions, statistics.failed, statistics.hooks) == (41, 6, 4)
    assert list(statistics.by_type.items()) == [("type0", 21), ("type1", 20)]
    assert (statistics.first_at, statistics.last_at) == (everything[0].timestamp, START + timedelta(seconds=41))
    found = await query(tenant)
    assert statistics.stored_bytes == sum(one.stored_bytes for one in found)
    assert statistics.original_bytes == sum(one.original_bytes for one in found) > statistics.stored_bytes


async def remaining(tenant: Any) -> list[int]:
    """Return the numbers of the executions that are left."""
    return sorted(one.input["n"] for one in await query(tenant))


async def test_retention_removes_the_lowest_and_oldest_first(tenant: Any) -> None:
    """Until no more are left than are kept, priority decides before age."""
    for number in range(12):
        await record(tenant, number, retention_priority=[0, 5, -5][number % 3])
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=9)) == 3
    assert await remaining(tenant) == [0, 1, 3, 4, 6, 7, 9, 10, 11]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=6)) == 3
    assert await remaining(tenant) == [1, 4, 6, 7, 9, 10]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=0, protected_from=5)) == 2
    assert await remaining(tenant) == [1, 4, 7, 10]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=4)) == 0
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=1)) == 3
    assert await remaining(tenant) == [10]


async def test_retention_counts_bytes(tenant: Any) -> None:
    """Until the stored inputs are small enough, the lowest go."""
    for number in range(6):
        await record(tenant, number, retention_priority=number % 2)
    size = sum(one.stored_bytes for one in await query(tenant))
    each = size // 6
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_bytes=size)) == 0
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_bytes=size - 1)) == 1
    assert await remaining(tenant) == [1, 2, 3, 4, 5]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_bytes=2 * each + each // 2)) == 3
    assert await remaining(tenant) == [3, 5]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_bytes=0)) == 2


async def test_retention_looks_at_age(tenant: Any) -> None:
    """What is too old goes, what is protected stays, and what is young takes no place from it."""
    now = datetime.now(UTC)
    for number in range(8):
        old = number % 2 == 0
        await record(
            tenant,
            number,
            retention_priority=9 if number == 4 else number,
            timestamp=now - timedelta(days=10 if old else 1),
        )
    policy = RetentionPolicy(max_age=timedelta(days=5), protected_from=9)
    assert await tenant.hooks.apply_retention(policy) == 3
    assert await remaining(tenant) == [1, 3, 4, 5, 7]
    both = RetentionPolicy(max_age=timedelta(days=5), max_executions=3)
    assert await tenant.hooks.apply_retention(both) == 2
    assert await remaining(tenant) == [3, 5, 7]
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_age=timedelta(0))) == 3


async def test_a_run_is_erased(tenant: Any) -> None:
    """Its executions are gone, the others stay."""
    await fill(tenant)
    assert await tenant.hooks.erase("run1", "asked for by its subject") == 20
    assert await query(tenant, correlation_id="run1") == []
    assert len(await query(tenant)) == 20
    assert await tenant.hooks.erase("run1", "again") == 0


async def test_what_is_redacted_is_never_stored(tenant: Any) -> None:
    """Paths reach into documents and lists, at any depth when told, and leave the rest."""
    execution = await tenant.hooks.get(
        await record(
            tenant,
            input={"user": {"name": "a", "password": "b"}, "calls": [{"token": 1}, {"token": 2, "x": 3}], "a.b": 4},
            output={"deep": [{"er": {"secret": 1}}], "secret": 2},
            error="secret text",
            metadata={"keep": 1, "drop": 2},
            redact=[
                "input.user.password",
                "input.calls.*.token",
                ("input", "a.b"),
                "output.**.secret",
                "error",
                "metadata.drop",
                "input.nothing.there",
            ],
        )
    )
    gone = "[redacted]"
    assert execution.input == {
        "user": {"name": "a", "password": gone},
        "calls": [{"token": gone}, {"token": gone, "x": 3}],
        "a.b": gone,
    }
    assert execution.output == {"deep": [{"er": {"secret": gone}}], "secret": gone}
    assert (execution.error, dict(execution.metadata)) == (gone, {"keep": 1, "drop": gone})


async def test_a_function_redacts_too(tenant: Any) -> None:
    """It gets copies of the parts by name, and what it returns is kept."""
    given = {"a": ["secret"]}

    def redact(part: str, value: Any) -> Any:
        """Change a part."""
        if part == "input":
            value["a"][0] = "gone"
        return "short" if part == "output" else value

    execution = await tenant.hooks.get(await record(tenant, input=given, output="long", redact=redact))
    assert (execution.input, execution.output, given) == ({"a": ["gone"]}, "short", {"a": ["secret"]})
    with pytest.raises(InvalidInput):
        await record(tenant, redact=lambda _part, _value: float("nan"))
    with pytest.raises(InvalidInput):
        await record(tenant, error="x", redact=lambda part, value: 7 if part == "error" else value)


async def test_a_replay_that_does_the_same_differs_in_nothing(tenant: Any) -> None:
    """The handler runs over the recorded inputs in their order, plain or asynchronous."""
    for number in (3, 1, 2):
        await record(tenant, number, correlation_id="run")
    await record(tenant, 9, correlation_id="other")
    seen = []

    def twice(execution: Execution) -> dict[str, int]:
        """Do what was recorded."""
        seen.append(execution.input["n"])
        return {"twice": 2 * execution.input["n"]}

    async def slowly(execution: Execution) -> dict[str, int]:
        """Do it after a moment."""
        await asyncio.sleep(0)
        return twice(execution)

    for handler in (twice, slowly):
        replay = await tenant.hooks.replay("run", handler)
        assert (replay.same, replay.executions, replay.correlation_id) == (True, 3, "run")
    assert seen == [1, 2, 3, 1, 2, 3]
    assert len(await query(tenant)) == 4


async def test_a_replay_tells_what_differs(tenant: Any) -> None:
    """Changed, added and removed places, and errors, are told by their paths; what was redacted equals anything."""
    same = await record(tenant, 1, correlation_id="run")
    other = await record(tenant, 2, correlation_id="run", output={"a": [1, 2], "b": True, "c": 1.0})
    fails = await record(tenant, 3, correlation_id="run", output=5)
    failed = await record(tenant, 4, correlation_id="run", output=None, error=ValueError("x"))
    hidden = await record(tenant, 5, correlation_id="run", output={"token": "t"}, redact=["output.token"])

    def handler(execution: Execution) -> Any:
        match execution.input["n"]:
            case 1:
                return {"twice": 2}
            case 2:
                return {"a": (1,), "b": 1, "c": 1, "d": None}
            case 3:
                raise RuntimeError("now it fails")
            case 4:
                raise ValueError("x")
        return {"token": "another"}

    replay = await tenant.hooks.replay("run", handler)
    assert replay.executions == 5
    assert not replay.same
    assert [one.first for one in replay.differing] == [other, fails]
    assert {same, failed, hidden}.isdisjoint({one.first for one in replay.differing})
    assert list(replay.differing[0].differences) == [
        Difference("output.a.1", "removed", 2, None),
        Difference("output.b", "changed", True, 1),
        Difference("output.d", "added", None, None),
    ]
    assert list(replay.differing[1].differences) == [
        Difference("output", "changed", 5, None),
        Difference("error", "changed", None, "RuntimeError: now it fails"),
    ]
    with pytest.raises(InvalidInput):
        await tenant.hooks.replay("run", lambda _execution: object())
    with pytest.raises(InvalidInput):
        await tenant.hooks.replay("run", None)


async def test_a_long_run_is_replayed_in_order(tenant: Any) -> None:
    """Pages do not show: each execution is run once, in its order, those of one time included."""
    ids = [
        await record(tenant, number, correlation_id="run", timestamp=START + timedelta(seconds=number // 50))
        for number in range(450)
    ]
    seen: list[UUID] = []
    replay = await tenant.hooks.replay("run", lambda execution: seen.append(execution.execution_id))
    assert seen == ids
    assert (replay.executions, len(replay.differing)) == (450, 450)


async def test_two_runs_are_compared(tenant: Any) -> None:
    """Each hook's executions in their order; what only one run did is told too."""
    for run in ("a", "b"):
        for number in range(4):
            value = {"n": number, "x": 1 if run == "a" or number != 2 else 2}
            await record(
                tenant, number, hook_id=f"h{number % 2}", correlation_id=run, input=value, duration_ms=len(run)
            )
    extra = await record(tenant, 50, hook_id="h1", correlation_id="b")
    alone = await record(tenant, 51, hook_id="only-a", correlation_id="a")
    diff = await tenant.hooks.diff("a", "b")
    assert (diff.compared, diff.same) == (4, False)
    assert [one.execution_id for one in diff.only_first] == [alone]
    assert [one.execution_id for one in diff.only_second] == [extra]
    (one,) = diff.differing
    assert (one.hook_id, list(one.differences)) == ("h0", [Difference("input.x", "changed", 1, 2)])
    assert (await tenant.hooks.diff("a", "a")).same
    single = await tenant.hooks.diff(one.first, one.second)
    assert (single.compared, single.differing) == (1, (one,))
    with pytest.raises(NotFound):
        await tenant.hooks.diff("a", "nothing")


@pytest.mark.parametrize(
    "faulty",
    [
        {"hook_id": ""},
        {"hook_id": "x" * 256},
        {"hook_id": "\0"},
        {"hook_type": "x" * 101},
        {"hook_type": "\ud800"},
        {"triggering_component": ""},
        {"correlation_id": "x" * 256},
        {"input": float("inf")},
        {"input": "\ud800"},
        {"input": object()},
        {"output": {"a": "\0"}},
        {"output": 2**63},
        {"error": 7},
        {"error": "\0"},
        {"duration_ms": -1},
        {"duration_ms": float("nan")},
        {"duration_ms": 1e13},
        {"duration_ms": "1"},
        {"duration_ms": True},
        {"tags": "text"},
        {"tags": ["\0"]},
        {"tags": [str(number) for number in range(101)]},
        {"retention_priority": 2**63},
        {"retention_priority": 1.5},
        {"metadata": [1]},
        {"metadata": {"a": float("nan")}},
        {"timestamp": datetime(2024, 1, 1)},  # noqa: DTZ001 - without a time zone is the fault
        {"redact": ["elsewhere.a"]},
        {"redact": [""]},
        {"redact": [7]},
        {"redact": [()]},
        {"redact": "input"},
    ],
)
async def test_what_cannot_be_kept_is_refused(tenant: Any, faulty: dict[str, Any]) -> None:
    """Faulty executions are told before anything is written."""
    with pytest.raises(InvalidInput):
        await record(tenant, **faulty)
    assert await query(tenant) == []


async def test_wrong_arguments_are_told(tenant: Any) -> None:
    """Every verb checks before it asks."""
    hooks = tenant.hooks
    calls: list[Any] = [
        lambda: hooks.get("no uuid"),
        lambda: hooks.get(7),
        lambda: hooks.query(limit=0),
        lambda: hooks.query(cursor="nonsense"),
        lambda: hooks.query(hook_id=""),
        lambda: hooks.query(failed=1),
        lambda: hooks.query(min_duration_ms=-1),
        lambda: hooks.query(tags="text"),
        lambda: hooks.query(since=datetime(2024, 1, 1)),  # noqa: DTZ001 - without a time zone is the fault
        lambda: hooks.durations(hook_id="\0"),
        lambda: hooks.durations(limit=10_001),
        lambda: hooks.erase("", "why"),
        lambda: hooks.erase("c", ""),
        lambda: hooks.diff("", "c"),
        lambda: hooks.replay("", print),
        lambda: hooks.apply_retention(RetentionPolicy()),
        lambda: hooks.apply_retention(RetentionPolicy(protected_from=1)),
        lambda: hooks.apply_retention(RetentionPolicy(max_executions=-1)),
        lambda: hooks.apply_retention(RetentionPolicy(max_bytes=1.5)),  # type: ignore[arg-type]
        lambda: hooks.apply_retention(RetentionPolicy(max_age=timedelta(seconds=-1))),
        lambda: hooks.apply_retention(RetentionPolicy(max_age=timedelta.max)),
        lambda: hooks.apply_retention(RetentionPolicy(max_executions=1), reason=""),
        lambda: hooks.apply_retention({"max_executions": 1}),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call()


async def test_the_longest_names_fit(tenant: Any) -> None:
    """The limits themselves are fine."""
    longest = "\U0001f600" * 255
    execution = await tenant.hooks.get(
        await record(
            tenant,
            hook_id=longest,
            hook_type=longest[:100],
            triggering_component=longest,
            correlation_id=longest,
            tags=[f"{number:03}{longest[3:]}" for number in range(100)],
            retention_priority=-(2**63),
            duration_ms=1e12,
            input="x" * 1_000_000,
        )
    )
    assert (execution.hook_id, len(execution.tags), execution.duration_ms) == (longest, 100, 1e12)
    assert execution.input == "x" * 1_000_000
    assert execution.retention_priority == -(2**63)


async def test_many_record_at_once(tenant: Any) -> None:
    """Concurrent executions are all kept, under ids of their own."""
    ids = await asyncio.gather(*(record(tenant, number, correlation_id="run") for number in range(40)))
    assert {one.execution_id for one in await query(tenant, correlation_id="run")} == set(ids)
    assert len(set(ids)) == 40


async def test_many_retain_at_once(tenant: Any) -> None:
    """Concurrent retention removes each execution once, and no more than it should."""
    for number in range(30):
        await record(tenant, number)
    removed = await asyncio.gather(
        *(tenant.hooks.apply_retention(RetentionPolicy(max_executions=10)) for _ in range(4))
    )
    assert sum(removed) == 20
    assert await remaining(tenant) == list(range(20, 30))


async def test_the_neighbour_is_left_alone(tenant: Any, neighbour: Any) -> None:
    """No writing verb changes or shows anything of another tenant."""
    theirs = [await record(neighbour, number, correlation_id="run") for number in range(3)]
    before = await query(neighbour)
    assert await query(tenant) == []
    with pytest.raises(NotFound):
        await tenant.hooks.get(theirs[0])
    await record(tenant, 1, correlation_id="run")
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_executions=0)) == 1
    await record(tenant, 1, correlation_id="run")
    assert (await tenant.hooks.statistics()).executions == 1
    assert await tenant.hooks.erase("run", "asked for") == 1
    assert await tenant.hooks.apply_retention(RetentionPolicy(max_age=timedelta(0))) == 0
    assert await query(neighbour) == before
    assert (await neighbour.hooks.statistics()).executions == 3


@pytest.mark.settable_clock
async def test_the_clock_decides_about_age(tenant: Any, clock: Any) -> None:
    """An execution without a time ran now, and grows old by the clock."""
    execution = await tenant.hooks.get(
        await tenant.hooks.record("h", "t", triggering_component="c", input=None, duration_ms=1)
    )
    assert abs(execution.timestamp - clock.now) < timedelta(seconds=1)
    policy = RetentionPolicy(max_age=timedelta(hours=1))
    assert await tenant.hooks.apply_retention(policy) == 0
    clock.advance(hours=2)
    assert await tenant.hooks.apply_retention(policy) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_random_operations_do_what_the_model_does(tenant: Any, model: Any, seed: int) -> None:
    """Whatever is done, every backend ends up like the one in memory."""
    chance = random.Random(seed)
    fields = ("hook_id", "hook_type", "correlation_id", "input", "output", "error", "timestamp", "duration_ms", "tags")

    def plain(one: Execution) -> tuple[Any, ...]:
        return tuple(getattr(one, name) for name in (*fields, "retention_priority", "stored_bytes", "original_bytes"))

    for step in range(60):
        values: dict[str, Any] = {
            "hook_id": chance.choice("abc"),
            "hook_type": chance.choice("xy"),
            "correlation_id": chance.choice("rs"),
            "input": chance.choice([step, ["word"] * 100, {"k": step}]),
            "error": chance.choice([None, "broke"]),
            "timestamp": START + timedelta(seconds=chance.randrange(10_000), microseconds=step),
            "duration_ms": chance.randrange(1000) / 8,
            "tags": chance.sample("pqrs", 2),
            "retention_priority": chance.randrange(-2, 3),
        }
        names = chance.sample(["hook_id", "hook_type", "correlation_id", "tags"], chance.randrange(3))
        question = {name: values[name] for name in names} | ({"failed": True} if chance.random() < 0.3 else {})
        policy = RetentionPolicy(
            max_executions=chance.choice([None, 8, 20]),
            max_bytes=chance.choice([300, 900]),
            max_age=chance.choice([None, timedelta(days=36500)]),
            protected_from=chance.choice([None, 1]),
        )
        choice = chance.randrange(20)
        results = []
        for subject in (tenant, model):
            if choice < 12:
                await record(subject, step, **values)
                result: Any = None
            elif choice < 16:
                result = [plain(one) for one in await query(subject, newest_first=choice % 2 == 0, **question)]
            elif choice == 16:
                result = await subject.hooks.apply_retention(policy)
            elif choice == 17 and step % 4 == 0:
                result = await subject.hooks.erase(values["correlation_id"], "chance")
            else:
                result = (await subject.hooks.durations()).items
            results.append(result)
        assert results[0] == results[1]
    assert [plain(one) for one in await query(tenant)] == [plain(one) for one in await query(model)]
    assert await tenant.hooks.statistics() == await model.hooks.statistics()
