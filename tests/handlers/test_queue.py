"""The workers around the lanes: retries, backoff, draining, stalls."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from storage_operator.errors import ApiConflict, ApiUnavailable, Refused, Waiting
from storage_operator.handlers.lanes import Lane
from storage_operator.handlers.queue import Backoff, WorkQueue
from storage_operator.metrics import Metrics
from storage_operator.world import Key, Kind, Outcome
from tests.plugins.operator import until

Make = Callable[..., WorkQueue]
FAST = Backoff(base=0.01, cap=0.05)


def key(name: str) -> Key:
    """Name a tenant."""
    return Key(Kind.TENANT, "a", name)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Give a function that starts a queue around a process function."""
    queues: list[WorkQueue] = []

    def start(process: Callable[[Key], Awaitable[Outcome]], workers: int = 4, cap: int = 100) -> WorkQueue:
        queue = WorkQueue(
            process,
            group_of=lambda item: item.namespace,
            cap_of=lambda _: cap,
            metrics=Metrics(),
            workers=workers,
            backoff=FAST,
            rng=random.Random(1),
        )
        queue.start()
        queues.append(queue)
        return queue

    yield start
    for queue in queues:
        await queue.drain(0.0)


async def test_a_stuck_group_never_has_all_workers(make: Make) -> None:
    """However high the cap that a cluster gives itself, another one's key is still worked on."""
    done = asyncio.Event()

    async def process(item: Key) -> Outcome:
        if item.namespace == "stuck":
            await asyncio.Event().wait()
        done.set()
        return Outcome("changed")

    queue = make(process, workers=4, cap=64)
    for number in range(20):
        queue.add(Key(Kind.TENANT, "stuck", f"t{number}"))
    await until(lambda: len(queue) == 20 and queue.is_running(Key(Kind.TENANT, "stuck", "t2")))
    queue.add(key("other"))
    await asyncio.wait_for(done.wait(), 60)


@pytest.mark.parametrize(
    "failure",
    [Outcome("failed"), Outcome("waiting"), ApiConflict("changed"), ApiUnavailable("away"), Waiting("Why", "why"),
     ValueError("a bug")],
    ids=["failed", "waiting", "conflict", "unavailable", "waits", "bug"],
)  # fmt: skip
async def test_what_fails_is_retried_until_it_works(make: Make, failure: Outcome | Exception) -> None:
    """No outcome and no exception loses a key."""
    calls: Counter[Key] = Counter()

    async def process(item: Key) -> Outcome:
        calls[item] += 1
        if calls[item] < 3:
            if isinstance(failure, Exception):
                raise failure
            return failure
        return Outcome("changed")

    queue = make(process)
    queue.add(key("x"))
    await until(lambda: calls[key("x")] == 3)
    await asyncio.sleep(0.2)
    assert calls[key("x")] == 3


async def test_what_is_refused_waits_for_a_change(make: Make) -> None:
    """A decision is not repeated by itself."""
    calls: Counter[Key] = Counter()

    async def process(item: Key) -> Outcome:
        calls[item] += 1
        raise Refused("No", "never")

    queue = make(process)
    queue.add(key("x"))
    await until(lambda: calls[key("x")])
    await asyncio.sleep(0.2)
    assert calls[key("x")] == 1
    queue.add(key("x"))
    await until(lambda: calls[key("x")] == 2)


async def test_requeue_after_is_kept_and_never_early(make: Make) -> None:
    """A reconcile that asked to come back in 0.2 s comes back then, and before one that asked for a second."""
    pauses = {key("soon"): 0.2, key("later"): 1.0}
    moments: dict[Key, list[float]] = {item: [] for item in pauses}
    order: list[Key] = []

    async def process(item: Key) -> Outcome:
        order.append(item)
        moments[item].append(time.monotonic())
        return Outcome("unchanged", pauses[item] if len(moments[item]) == 1 else None)

    queue = make(process, workers=1)
    for item in pauses:
        queue.add(item)
    await until(lambda: len(order) == 4)
    assert order == [*pauses, *pauses]
    assert all(second - first >= pauses[item] for item, (first, second) in moments.items())


async def test_no_key_runs_twice_at_once_and_the_cap_holds(make: Make) -> None:
    """Under a storm of requests each key has one worker, and a group no more than its cap."""
    running: Counter[Key] = Counter()
    most = 0
    done: Counter[Key] = Counter()

    async def process(item: Key) -> Outcome:
        nonlocal most
        running[item] += 1
        most = max(most, running.total())
        assert running[item] == 1
        await asyncio.sleep(0.001)
        running[item] -= 1
        done[item] += 1
        return Outcome("changed")

    queue = make(process, workers=8, cap=3)
    rng = random.Random(7)
    for _ in range(600):
        queue.add(key(str(rng.randrange(20))), rng.choice(list(Lane)))
        if rng.random() < 0.2:
            await asyncio.sleep(0)
    await asyncio.wait_for(queue.idle(), 60)
    assert len(done) == 20
    assert most == 3


async def test_a_new_object_overtakes_a_long_resync(make: Make) -> None:
    """With a thousand unchanged objects waiting, a changed one is next."""
    order: list[str] = []

    async def process(item: Key) -> Outcome:
        order.append(item.name)
        await asyncio.sleep(0.001)
        return Outcome("unchanged")

    queue = make(process, workers=1)
    for number in range(1_000):
        queue.add(key(f"old{number}"), Lane.RESYNC)
    await until(lambda: len(order) > 5)
    before = len(order)
    queue.add(key("new"))
    await until(lambda: "new" in order)
    assert order.index("new") <= before + 1


async def test_drain_lets_what_runs_finish_and_starts_nothing_new(make: Make) -> None:
    """A hand-over ends between reconciles, not within one."""
    finished: list[str] = []
    started = asyncio.Event()

    async def process(item: Key) -> Outcome:
        started.set()
        await asyncio.sleep(0.1)
        finished.append(item.name)
        return Outcome("changed")

    queue = make(process, workers=1)
    queue.add(key("running"))
    queue.add(key("waiting"))
    await started.wait()
    assert await queue.drain(60.0) == ()
    assert finished == ["running"]


async def test_drain_is_bounded_and_names_what_it_cut_off(make: Make) -> None:
    """A reconcile that hangs does not hold up the end of the process."""

    async def process(_: Key) -> Outcome:
        await asyncio.sleep(60)
        return Outcome("changed")

    queue = make(process)
    queue.add(key("hangs"))
    await until(lambda: queue.is_running(key("hangs")))
    assert await asyncio.wait_for(queue.drain(0.1), 30) == (key("hangs"),)


async def test_a_stall_is_work_without_progress() -> None:
    """Idle is no stall; a tenant that hangs is one, a cluster that migrates is not."""
    now = 0.0
    release = asyncio.Event()

    async def process(_: Key) -> Outcome:
        await release.wait()
        return Outcome("changed")

    queue = WorkQueue(
        process, group_of=lambda _: None, cap_of=lambda _: 9, metrics=Metrics(), workers=2, clock=lambda: now
    )
    queue.start()
    now = 1_000.0
    assert queue.stalled_seconds() == 0.0
    queue.add(Key(Kind.STORAGE_CLUSTER, "a", "main"))
    await until(lambda: queue.is_running(Key(Kind.STORAGE_CLUSTER, "a", "main")))
    now = 2_000.0
    assert queue.stalled_seconds() == 0.0
    queue.add(key("x"))
    await until(lambda: queue.is_running(key("x")))
    assert queue.stalled_seconds() >= 900.0
    release.set()
    await queue.idle()
    assert queue.stalled_seconds() == 0.0
    await queue.drain(1.0)


def test_backoff_doubles_up_to_its_cap_with_full_jitter() -> None:
    """The bound of each delay doubles; the delays themselves spread over all of it."""
    backoff = Backoff(base=1.0, cap=10.0)
    rng = random.Random(3)
    bounds = [max(backoff.delay(attempt, rng) for _ in range(300)) for attempt in (1, 2, 3, 4, 5, 1_000)]
    assert [round(bound) for bound in bounds] == [1, 2, 4, 8, 10, 10]
    assert min(backoff.delay(5, rng) for _ in range(300)) < 1.0
