"""The workflow states."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest

from storagelib.components.workflow_states import STATUSES, may_follow
from storagelib.errors import Conflict, InvalidInput, NotFound, StorageError
from storagelib.limits import ID_MAX, INTEGER_MAX, NAME_MAX

BAD_IDS = ["", "a\0b", "\ud800", "x" * (ID_MAX + 1), 7, None, b"a"]
HOSTILE = ["'; DROP TABLE workflow_states; --", "%", "_", "\\", '"', "é", "\U0001f600", " ", "x" * ID_MAX]


async def put(tenant: Any, workflow_id: str, status: str, **more: Any) -> None:
    """Save a workflow that is new, with a status."""
    await tenant.workflow_states.save(workflow_id, {"n": 1}, status=status, **more)


async def test_what_is_saved_is_loaded(tenant: Any) -> None:
    """A new workflow is pending at its first step; what is not there is None."""
    assert await tenant.workflow_states.load("w") is None
    saved = await tenant.workflow_states.save("w", {"a": [1, None, 2.5]}, name="import")
    assert saved == await tenant.workflow_states.load("w")
    assert (saved.workflow_id, saved.name, saved.state) == ("w", "import", {"a": [1, None, 2.5]})
    assert (saved.current_step, saved.status, saved.version, saved.attempts) == (0, "pending", 1, 0)
    assert (saved.steps_completed, saved.last_step, saved.error, saved.lease) == (0, None, None, None)
    assert (saved.started_at, saved.completed_at) == (None, None)
    assert saved.created_at.tzinfo is not None


async def test_saving_again_keeps_what_is_not_given(tenant: Any) -> None:
    """State is replaced; name, step and status stay unless they are given; the version grows."""
    first = await tenant.workflow_states.save("w", 1, name="import", current_step=4, status="running")
    second = await tenant.workflow_states.save("w", None)
    assert (second.state, second.name, second.current_step, second.status) == (None, "import", 4, "running")
    assert (second.version, second.created_at, second.started_at) == (2, first.created_at, first.started_at)
    third = await tenant.workflow_states.save("w", 3, name="export", current_step=0, status="completed")
    assert (third.name, third.current_step, third.status, third.version) == ("export", 0, "completed", 3)
    assert third.completed_at is not None


@pytest.mark.parametrize("workflow_id", HOSTILE)
async def test_ids_mean_nothing_but_themselves(tenant: Any, workflow_id: str) -> None:
    """No id, name, owner or step is taken for a pattern or an escape."""
    await tenant.workflow_states.save(workflow_id, {"k": workflow_id}, name=workflow_id, status="running")
    await tenant.workflow_states.save("other", {})
    await tenant.workflow_states.complete_step(workflow_id, workflow_id, workflow_id)
    lease = await tenant.workflow_states.acquire(workflow_id, workflow_id)
    assert lease.owner == workflow_id
    (listed,) = await tenant.workflow_states.list_workflows(name=workflow_id)
    assert (listed.workflow_id, listed.state) == (workflow_id, {"k": workflow_id})
    (step,) = await tenant.workflow_states.list_steps(workflow_id)
    assert (step.step, step.output) == (workflow_id, workflow_id)
    assert await tenant.workflow_states.delete(workflow_id)
    assert [w.workflow_id async for w in tenant.workflow_states.workflows()] == ["other"]


@pytest.mark.parametrize("bad", BAD_IDS)
async def test_ids_that_cannot_be_kept_are_refused(tenant: Any, bad: Any) -> None:
    """Every verb refuses them before anything is sent."""
    flows = tenant.workflow_states
    calls = [
        flows.save(bad, {}),
        flows.load(bad),
        flows.delete(bad),
        flows.update_status(bad, "running"),
        flows.fail(bad, "x"),
        flows.resume(bad),
        flows.complete_step(bad, "s"),
        flows.complete_step("w", bad),
        flows.list_steps(bad),
        flows.acquire(bad, "me"),
        flows.acquire("w", bad),
        flows.renew(bad, 1),
        flows.heartbeat(bad, 1),
        flows.release(bad, 1),
        flows.recover_stalled(bad),
        flows.claim_next(bad),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call


REFUSED: list[Callable[[Any], Awaitable[Any]]] = [
    lambda flows: flows.save("w", {"a": float("nan")}),
    lambda flows: flows.save("w", {"a": "\ud800"}),
    lambda flows: flows.save("w", 2**63),
    lambda flows: flows.save("w", {}, name="x" * (NAME_MAX + 1)),
    lambda flows: flows.save("w", {}, name=""),
    lambda flows: flows.save("w", {}, current_step=-1),
    lambda flows: flows.save("w", {}, current_step=INTEGER_MAX + 1),
    lambda flows: flows.save("w", {}, status="paused"),
    lambda flows: flows.save("w", {}, expected_version=-1),
    lambda flows: flows.save("w", {}, token=0),
    lambda flows: flows.update_status("w", "PENDING"),
    lambda flows: flows.update_status("w", "running", expected_version=0),
    lambda flows: flows.fail("w", "x" * (1 << 20)),
    lambda flows: flows.complete_step("w", "s", {1: 2}),
    lambda flows: flows.acquire("w", "me", ttl=0),
    lambda flows: flows.acquire("w", "me", ttl=float("nan")),
    lambda flows: flows.renew("w", 1, ttl=timedelta(days=36_526)),
    lambda flows: flows.release("w", True),
    lambda flows: flows.list_workflows(limit=0),
    lambda flows: flows.list_workflows(limit=10_001),
    lambda flows: flows.list_workflows(status="done"),
    lambda flows: flows.list_workflows(since=datetime(2020, 1, 1)),  # noqa: DTZ001 - that is what is refused
    lambda flows: flows.list_workflows(cursor="nonsense"),
    lambda flows: flows.list_stalled(cursor="e30"),
    lambda flows: flows.recover_stalled("me", limit=0),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
async def test_what_cannot_work_is_refused(tenant: Any, number: int) -> None:
    """Each limit has a verb that says so, and nothing is written."""
    with pytest.raises(InvalidInput):
        await REFUSED[number](tenant.workflow_states)
    assert await tenant.workflow_states.load("w") is None


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
async def test_the_machine(tenant: Any, before: str, after: str) -> None:
    """Only the transitions of the machine happen; the others name both states and change nothing."""
    await put(tenant, "w", before)
    stored = await tenant.workflow_states.load("w")
    if may_follow(before, after):
        moved = await tenant.workflow_states.update_status("w", after)
        assert (moved.status, moved.version) == (after, 2)
        assert moved == await tenant.workflow_states.load("w")
        assert (moved.completed_at is None) == (after == "running")
        assert (moved.started_at is None) == (before == "pending" and after == "cancelled")
        return
    with pytest.raises(Conflict, match=f"{before} cannot become {after}"):
        await tenant.workflow_states.update_status("w", after)
    if before != after:
        with pytest.raises(Conflict, match=f"{before} cannot become {after}"):
            await tenant.workflow_states.save("w", {}, status=after)
    assert await tenant.workflow_states.load("w") == stored


async def test_transitions_keep_the_times(tenant: Any) -> None:
    """The first start stays; the end is taken back when a failed workflow runs again; each start is an attempt."""
    await put(tenant, "w", "pending")
    one = await tenant.workflow_states.update_status("w", "running")
    two = await tenant.workflow_states.fail("w", {"why": "boom"})
    three = await tenant.workflow_states.update_status("w", "running")
    four = await tenant.workflow_states.update_status("w", "completed")
    assert one.started_at == two.started_at == three.started_at == four.started_at
    assert one.started_at is not None
    assert (one.completed_at, three.completed_at) == (None, None)
    assert two.completed_at is not None
    assert two.completed_at <= four.completed_at
    assert [w.attempts for w in (one, two, three, four)] == [1, 1, 2, 2]
    assert [w.error for w in (one, two, three, four)] == [None, {"why": "boom"}, {"why": "boom"}, {"why": "boom"}]


async def test_what_is_not_there_is_not_found(tenant: Any) -> None:
    """Every verb that needs a workflow says so."""
    flows = tenant.workflow_states
    for call in (
        flows.update_status("w", "running"),
        flows.fail("w", "x"),
        flows.resume("w"),
        flows.complete_step("w", "s"),
        flows.acquire("w", "me"),
        flows.renew("w", 1),
        flows.save("w", {}, expected_version=3),
        flows.save("w", {}, token=3),
    ):
        with pytest.raises(NotFound):
            await call
    assert not await flows.delete("w")
    assert not await flows.release("w", 1)
    assert await flows.claim_next("me") is None
    assert await flows.recover_stalled("me") == []
    assert list(await flows.list_steps("w")) == list(await flows.list_stalled()) == []


async def test_an_expected_version(tenant: Any) -> None:
    """A save or a transition with another version is a conflict; 0 asks that nothing is there."""
    first = await tenant.workflow_states.save("w", 1, expected_version=0)
    with pytest.raises(Conflict, match="version 1, not 0"):
        await tenant.workflow_states.save("w", 2, expected_version=0)
    second = await tenant.workflow_states.save("w", 2, expected_version=first.version)
    with pytest.raises(Conflict, match="version 2, not 1"):
        await tenant.workflow_states.save("w", 3, expected_version=first.version)
    with pytest.raises(Conflict):
        await tenant.workflow_states.update_status("w", "running", expected_version=first.version)
    running = await tenant.workflow_states.update_status("w", "running", expected_version=second.version)
    assert (running.version, running.state) == (3, 2)


async def test_of_many_savers_one_wins(tenant: Any) -> None:
    """Concurrent writers with one expected version: one gets through, new or not."""
    for expected in (0, 1, 2):
        calls = [tenant.workflow_states.save("w", n, expected_version=expected) for n in range(8)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, Conflict) for result in results) == 7
        (winner,) = [result for result in results if not isinstance(result, Conflict)]
        assert await tenant.workflow_states.load("w") == winner


async def test_savers_without_a_version_all_count(tenant: Any) -> None:
    """Every concurrent save of a new workflow takes effect once."""
    results = await asyncio.gather(*(tenant.workflow_states.save("w", n) for n in range(8)))
    assert sorted(result.version for result in results) == list(range(1, 9))


async def test_steps_are_completed_once(tenant: Any) -> None:
    """A repeated step gives its first completion; order, count and current step are kept."""
    await put(tenant, "w", "running")
    first = await tenant.workflow_states.complete_step("w", "fetch", {"rows": 3}, state={"n": 2})
    assert (first.step, first.position, first.output) == ("fetch", 1, {"rows": 3})
    assert await tenant.workflow_states.complete_step("w", "fetch", {"rows": 99}, state={"n": 9}) == first
    second = await tenant.workflow_states.complete_step("w", "clean")
    assert (second.position, second.output) == (2, None)
    stored = await tenant.workflow_states.load("w")
    assert (stored.current_step, stored.steps_completed, stored.last_step) == (2, 2, "clean")
    assert (stored.state, stored.version) == ({"n": 2}, 3)
    assert list(await tenant.workflow_states.list_steps("w")) == [first, second]


async def test_one_step_by_many(tenant: Any) -> None:
    """A step that many complete at once is completed once, and all get that completion; different ones all count."""
    await put(tenant, "w", "running")
    same = await asyncio.gather(*(tenant.workflow_states.complete_step("w", "a", n) for n in range(8)))
    assert len({(step.position, step.output) for step in same}) == 1
    await asyncio.gather(*(tenant.workflow_states.complete_step("w", f"b{n}") for n in range(8)))
    assert [step.position for step in await tenant.workflow_states.list_steps("w")] == list(range(1, 10))
    assert (await tenant.workflow_states.load("w")).steps_completed == 9


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "running"])
async def test_only_what_runs_completes_steps(tenant: Any, status: str) -> None:
    """A step of a workflow that does not run is a conflict, even one that was completed."""
    await put(tenant, "w", status)
    with pytest.raises(Conflict, match=status):
        await tenant.workflow_states.complete_step("w", "a")
    assert list(await tenant.workflow_states.list_steps("w")) == []


async def test_resuming(tenant: Any) -> None:
    """A failed workflow goes on after the step that was completed last."""
    await put(tenant, "w", "pending")
    begun = await tenant.workflow_states.resume("w")
    assert (begun.workflow.status, begun.workflow.current_step, begun.last_step) == ("running", 0, None)
    await tenant.workflow_states.complete_step("w", "a", "A")
    done = await tenant.workflow_states.complete_step("w", "b", "B")
    await tenant.workflow_states.fail("w", "boom")
    resumed = await tenant.workflow_states.resume("w")
    assert resumed.last_step == done
    assert (resumed.workflow.status, resumed.workflow.current_step) == ("running", 2)
    assert (resumed.workflow.error, resumed.workflow.attempts) == ("boom", 2)
    again = await tenant.workflow_states.resume("w")
    assert again == resumed
    await tenant.workflow_states.update_status("w", "completed")
    with pytest.raises(Conflict, match="completed cannot become running"):
        await tenant.workflow_states.resume("w")


async def test_deleting_takes_the_steps(tenant: Any) -> None:
    """A workflow that is made anew under the same id has no steps."""
    await put(tenant, "w", "running")
    await tenant.workflow_states.complete_step("w", "a")
    assert await tenant.workflow_states.delete("w")
    assert not await tenant.workflow_states.delete("w")
    await put(tenant, "w", "running")
    assert list(await tenant.workflow_states.list_steps("w")) == []
    assert (await tenant.workflow_states.complete_step("w", "a", 2)).output == 2


async def test_listing(tenant: Any) -> None:
    """Newest first, by status, name and time, page by page."""
    made = []
    for n in range(12):
        made.append(
            await tenant.workflow_states.save(f"w{n:02}", n, name=f"n{n % 2}", status=("pending", "running")[n // 6])
        )
        await asyncio.sleep(0.001)
    newest = [w.workflow_id for w in reversed(made)]
    assert [w.workflow_id async for w in tenant.workflow_states.workflows()] == newest
    found = [w async for w in tenant.workflow_states.workflows(status="running", name="n1")]
    assert [w.workflow_id for w in found] == ["w11", "w09", "w07"]
    assert found[0] == made[11]
    seen, cursor = [], None
    while True:
        page = await tenant.workflow_states.list_workflows(cursor=cursor, limit=5)
        seen += [w.workflow_id for w in page]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == newest
    since, until = made[3].created_at, made[7].created_at
    window = await tenant.workflow_states.list_workflows(since=since, until=until)
    assert [w.workflow_id for w in window] == ["w06", "w05", "w04", "w03"]
    assert list(await tenant.workflow_states.list_workflows(status="failed")) == []
    assert list(await tenant.workflow_states.list_workflows(since=datetime(9000, 1, 1, tzinfo=UTC))) == []


async def test_paging_steps(tenant: Any) -> None:
    """All steps, in the order of their completion."""
    await put(tenant, "w", "running")
    for n in (3, 1, 2, 5, 4):
        await tenant.workflow_states.complete_step("w", str(n))
    first = await tenant.workflow_states.list_steps("w", limit=3)
    rest = await tenant.workflow_states.list_steps("w", limit=3, cursor=first.cursor)
    assert [step.step for step in [*first, *rest]] == ["3", "1", "2", "5", "4"]
    assert rest.cursor is None


async def test_a_lease_keeps_others_out(tenant: Any) -> None:
    """One holder at a time; tokens grow; the same owner may take it anew, which ends the lease it had."""
    await put(tenant, "w", "running")
    lease = await tenant.workflow_states.acquire("w", "a", ttl=1000)
    assert (lease.workflow_id, lease.owner, lease.token) == ("w", "a", 1)
    assert (await tenant.workflow_states.load("w")).lease == lease
    with pytest.raises(Conflict, match="leased by 'a'"):
        await tenant.workflow_states.acquire("w", "b", ttl=1000)
    again = await tenant.workflow_states.acquire("w", "a", ttl=2000)
    assert again.token == 2
    assert again.expires_at > lease.expires_at
    with pytest.raises(Conflict, match="token 1 is over"):
        await tenant.workflow_states.renew("w", lease.token)
    renewed = await tenant.workflow_states.heartbeat("w", again.token)
    assert renewed.expires_at >= again.expires_at
    assert (await tenant.workflow_states.renew("w", again.token, ttl=10)).expires_at < again.expires_at


async def test_writes_with_a_stale_token(tenant: Any) -> None:
    """Every write with the token of a lease that is over is a conflict and changes nothing; the newest one's works."""
    flows = tenant.workflow_states
    await put(tenant, "w", "running")
    old = await flows.acquire("w", "a")
    new = await flows.acquire("w", "a")
    await flows.complete_step("w", "kept", token=new.token)
    before = await flows.load("w")
    for token in (old.token, new.token + 1):
        for call in (
            flows.save("w", {}, token=token),
            flows.update_status("w", "completed", token=token),
            flows.fail("w", "x", token=token),
            flows.resume("w", token=token),
            flows.complete_step("w", "s", token=token),
            flows.complete_step("w", "kept", token=token),
            flows.renew("w", token),
        ):
            with pytest.raises(Conflict, match=f"token {token} is over"):
                await call
        assert not await flows.release("w", token)
    assert await flows.load("w") == before
    assert (await flows.save("w", {"n": 5}, token=new.token)).state == {"n": 5}
    assert (await flows.resume("w", token=new.token)).last_step.step == "kept"
    assert (await flows.fail("w", "x", token=new.token)).lease is None
    with pytest.raises(Conflict, match="is over"):
        await flows.save("w", {}, token=new.token)


async def test_a_lease_ends_with_the_work(tenant: Any) -> None:
    """Whatever ends the workflow ends the lease; what is over cannot be leased, what failed can."""
    for status in ("completed", "failed", "cancelled"):
        await put(tenant, status, "running")
        lease = await tenant.workflow_states.acquire(status, "a")
        ended = await tenant.workflow_states.update_status(status, status, token=lease.token)
        assert ended.lease is None
        assert not await tenant.workflow_states.release(status, lease.token)
    for status in ("completed", "cancelled"):
        with pytest.raises(Conflict, match=status):
            await tenant.workflow_states.acquire(status, "b")
    assert (await tenant.workflow_states.acquire("failed", "b")).token == 3


async def test_giving_a_lease_back(tenant: Any) -> None:
    """A workflow that is given back is open at once, to another owner and to recovery."""
    await put(tenant, "w", "running")
    await put(tenant, "p", "pending", name="x")
    lease = await tenant.workflow_states.acquire("w", "a", ttl=1000)
    pending = await tenant.workflow_states.acquire("p", "a", ttl=1000)
    assert await tenant.workflow_states.claim_next("b", "x") is None
    assert await tenant.workflow_states.release("w", lease.token)
    assert not await tenant.workflow_states.release("w", lease.token)
    assert await tenant.workflow_states.release("p", pending.token)
    assert (await tenant.workflow_states.load("p")).lease is None
    with pytest.raises(Conflict):
        await tenant.workflow_states.save("w", {}, token=lease.token)
    assert [w.workflow_id for w in await tenant.workflow_states.list_stalled()] == ["w"]
    (claim,) = await tenant.workflow_states.recover_stalled("b", ttl=1000)
    assert (claim.workflow.workflow_id, claim.lease.owner) == ("w", "b")
    assert claim.lease.token > lease.token
    assert (await tenant.workflow_states.claim_next("b", "x")).workflow.workflow_id == "p"


async def test_claiming_the_next(tenant: Any) -> None:
    """The oldest pending one of the name runs under a lease; another name and any name are other queues."""
    for n in range(4):
        await tenant.workflow_states.save(f"w{n}", n, name=("a", "b")[n % 2])
        await asyncio.sleep(0.001)
    claim = await tenant.workflow_states.claim_next("me", "b", ttl=1000)
    assert (claim.workflow.workflow_id, claim.workflow.status, claim.workflow.attempts) == ("w1", "running", 1)
    assert claim.workflow.started_at is not None
    assert claim.workflow.lease == claim.lease
    assert claim.workflow == await tenant.workflow_states.load("w1")
    assert (await tenant.workflow_states.claim_next("me")).workflow.workflow_id == "w0"
    assert (await tenant.workflow_states.claim_next("me", "b")).workflow.workflow_id == "w3"
    assert await tenant.workflow_states.claim_next("me", "b") is None
    assert (await tenant.workflow_states.claim_next("me", "a")).workflow.workflow_id == "w2"
    assert await tenant.workflow_states.claim_next("me") is None


async def test_each_is_claimed_once(tenant: Any) -> None:
    """Eight workers claim a hundred workflows: each goes to one of them."""
    for n in range(100):
        await tenant.workflow_states.save(f"w{n}", n, name="job")

    async def work(owner: str) -> list[str]:
        mine = []
        while (claim := await tenant.workflow_states.claim_next(owner, "job", ttl=1000)) is not None:
            mine.append(claim.workflow.workflow_id)
        return mine

    shares = await asyncio.gather(*(work(f"worker {n}") for n in range(8)))
    assert sorted(chain.from_iterable(shares)) == sorted(f"w{n}" for n in range(100))


async def test_each_is_recovered_once(tenant: Any) -> None:
    """Eight callers recover forty workflows whose lease is over: each goes to one of them."""
    for n in range(40):
        await put(tenant, f"w{n}", "running")
        await tenant.workflow_states.acquire(f"w{n}", "dead", ttl=0.001)
    await asyncio.sleep(0.01)
    calls = [tenant.workflow_states.recover_stalled(f"worker {n}", ttl=1000, limit=7) for n in range(8)]
    claims = list(chain.from_iterable(await asyncio.gather(*calls)))
    claims += await tenant.workflow_states.recover_stalled("last", ttl=1000)
    assert sorted(claim.workflow.workflow_id for claim in claims) == sorted(f"w{n}" for n in range(40))
    assert all(claim.lease.token == 2 and claim.workflow.status == "running" for claim in claims)
    assert await tenant.workflow_states.recover_stalled("late") == []


@pytest.mark.settable_clock
async def test_a_lease_runs_out(tenant: Any, clock: Any) -> None:
    """What ran out is stalled and may be taken; its holder may still renew while nobody has."""
    flows = tenant.workflow_states
    for name in ("a", "b", "c"):
        await put(tenant, name, "running")
    await put(tenant, "free", "running")
    first = await flows.acquire("a", "x", ttl=10)
    await flows.acquire("b", "x", ttl=5)
    await flows.acquire("c", "x", ttl=20)
    assert list(await flows.list_stalled()) == []
    clock.advance(seconds=10)
    page = await flows.list_stalled(limit=1)
    assert [w.workflow_id for w in page] == ["b"]
    assert [w.workflow_id for w in await flows.list_stalled(cursor=page.cursor)] == ["a"]
    assert (await flows.save("a", {"late": True}, token=first.token)).state == {"late": True}
    assert (await flows.heartbeat("a", first.token)).expires_at > first.expires_at
    (claim,) = await flows.recover_stalled("y", ttl=10)
    assert (claim.workflow.workflow_id, claim.lease.token, claim.workflow.attempts) == ("b", 2, 2)
    clock.advance(seconds=10)
    taken = await flows.acquire("c", "y")
    assert (taken.owner, taken.token) == ("y", 2)
    claims = await flows.recover_stalled("z", ttl=10, limit=1)
    assert [claim.workflow.workflow_id for claim in claims] == ["a"]
    with pytest.raises(Conflict, match="is over"):
        await flows.complete_step("a", "late", token=first.token)


@pytest.mark.settable_clock
async def test_a_pending_one_under_a_lease_waits(tenant: Any, clock: Any) -> None:
    """A pending workflow that somebody holds is claimed only when the lease has run out."""
    await put(tenant, "w", "pending")
    await tenant.workflow_states.acquire("w", "x", ttl=10)
    assert await tenant.workflow_states.claim_next("y") is None
    clock.advance(seconds=10)
    assert (await tenant.workflow_states.claim_next("y")).lease.token == 2


async def test_the_neighbour_is_untouched(tenant: Any, neighbour: Any) -> None:
    """Every writing verb leaves the other tenant's workflows as they were, ids alike or not."""
    for handle in (tenant, neighbour):
        await put(handle, "w", "running", name="n")
        await handle.workflow_states.complete_step("w", "a")
        await handle.workflow_states.acquire("w", "dead", ttl=0.001)
        await put(handle, "p", "pending", name="n")
    before = [w async for w in neighbour.workflow_states.workflows()]
    flows = tenant.workflow_states
    await asyncio.sleep(0.01)
    (claim,) = await flows.recover_stalled("me")
    await flows.save("w", {"n": 2})
    await flows.complete_step("w", "b")
    await flows.renew("w", claim.lease.token)
    await flows.fail("w", "x")
    await flows.resume("w")
    lease = await flows.acquire("w", "me")
    await flows.release("w", lease.token)
    assert (await flows.claim_next("me", "n")).workflow.workflow_id == "p"
    assert await flows.claim_next("me", "n") is None
    await flows.update_status("p", "completed")
    await flows.delete("w")
    assert [w async for w in neighbour.workflow_states.workflows()] == before
    assert [step.step for step in await neighbour.workflow_states.list_steps("w")] == ["a"]
    assert await flows.load("w") is None


def told(result: Any) -> Any:
    """Return what must be equal on all backends: everything but the times."""
    if isinstance(result, StorageError):
        return type(result).__name__, str(result)
    if isinstance(result, list | tuple):
        return [told(item) for item in result]
    if hasattr(result, "workflow") and hasattr(result, "last_step"):
        return told(result.workflow), told(result.last_step)
    if hasattr(result, "workflow"):
        return told(result.workflow)
    if hasattr(result, "owner"):
        return result.workflow_id, result.owner, result.token
    if hasattr(result, "output"):
        return result.step, result.position, result.output
    if hasattr(result, "workflow_id"):
        parts = (result.name, result.state, result.current_step, result.status, result.steps_completed)
        ended = (result.started_at is None, result.completed_at is None)
        return (result.workflow_id, *parts, result.last_step, result.error, result.attempts, result.version, *ended)
    return result


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_life_is_the_models(tenant: Any, model: Any, seed: int) -> None:
    """Every answer to hundreds of random calls is the one that the model gives."""
    chance = random.Random(seed)

    async def both(verb: str, *args: Any, **kwargs: Any) -> None:
        answers = []
        for subject in (model, tenant):
            try:
                result = await getattr(subject.workflow_states, verb)(*args, **kwargs)
                answers.append(told(list(result) if verb.startswith("list") else result))
            except StorageError as error:
                answers.append(told(error))
        assert answers[0] == answers[1], (verb, args, kwargs)

    for _ in range(250):
        workflow_id, name, status = chance.choice("abcd"), chance.choice(["n", "m", None]), chance.choice(STATUSES)
        token, version = chance.choice([None, None, 1, 2, 3, 4]), chance.choice([None, None, 1, 2, 3])
        value = chance.choice([None, 1, {"k": [1, 2]}, "text"])
        match chance.randrange(14):
            case 0:
                await both("save", workflow_id, value, name=name, status=status, token=token)
            case 1:
                await both("save", workflow_id, value, expected_version=chance.choice([0, version]))
            case 2 | 3:
                await both("update_status", workflow_id, status, expected_version=version, token=token)
            case 4:
                await both("fail", workflow_id, value, token=token)
            case 5:
                await both("resume", workflow_id, token=token)
            case 6 | 7:
                await both("complete_step", workflow_id, chance.choice("stu"), value, state=value, token=token)
            case 8:
                await both("acquire", workflow_id, chance.choice("xy"), ttl=1000)
            case 9:
                await both("renew", workflow_id, token or 1)
            case 10:
                await both("release", workflow_id, token or 1)
            case 11:
                await both("claim_next", chance.choice("xy"), name, ttl=1000)
            case 12:
                await both(*chance.choice([("list_steps", workflow_id), ("list_stalled",)]))
            case _:
                await (both("delete", workflow_id) if chance.random() < 0.3 else both("list_workflows", status=status))
    await both("list_workflows")
