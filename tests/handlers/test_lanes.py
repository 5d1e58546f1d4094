"""The order of work, as a data structure: urgency, deduplication, caps, fairness, delays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage_operator.handlers.lanes import Lane, Lanes
from storage_operator.world import Key, Kind


def key(name: str, namespace: str = "a") -> Key:
    """Name a tenant; its namespace is its group in these tests."""
    return Key(Kind.TENANT, namespace, name)


def make(cap: int = 100) -> Lanes:
    """Make lanes whose groups are namespaces."""
    return Lanes(group_of=lambda item: item.namespace, cap_of=lambda _: cap)


def taken(lanes: Lanes, now: float = 0.0) -> list[str]:
    """Take everything that can be taken, and report each as done at once."""
    names = []
    while (job := lanes.take(now)) is not None:
        names.append(job.key.name)
        lanes.done(job.key, now)
    return names


def test_changed_goes_before_retry_and_retry_before_resync() -> None:
    """The lane decides, not the time of asking."""
    lanes = make()
    lanes.add(key("resync"), Lane.RESYNC, 0)
    lanes.add(key("retry"), Lane.RETRY, 1)
    lanes.add(key("changed"), Lane.CHANGED, 2)
    assert taken(lanes) == ["changed", "retry", "resync"]


def test_a_waiting_key_is_handed_out_once_in_the_most_urgent_lane() -> None:
    """Asking again while a key waits can hasten it, and adds no second turn."""
    lanes = make()
    lanes.add(key("x"), Lane.RESYNC, 0)
    lanes.add(key("y"), Lane.RETRY, 0)
    lanes.add(key("x"), Lane.CHANGED, 0)
    lanes.add(key("x"), Lane.RETRY, 0)
    assert taken(lanes) == ["x", "y"]


def test_a_change_during_the_reconcile_leads_to_exactly_one_more() -> None:
    """Nothing is lost while a key is with a worker, and nothing runs twice at once."""
    lanes = make()
    lanes.add(key("x"), Lane.CHANGED, 0)
    job = lanes.take(0)
    assert job is not None
    lanes.add(key("x"), Lane.RESYNC, 1)
    lanes.add(key("x"), Lane.CHANGED, 1)
    assert lanes.take(1) is None
    assert lanes.done(job.key, 2)
    again = lanes.take(2)
    assert again is not None
    assert again.lane is Lane.CHANGED
    assert not lanes.done(again.key, 3)


def test_a_group_at_its_cap_does_not_hold_up_another() -> None:
    """One slow cluster takes its own slots only."""
    lanes = make(cap=1)
    lanes.add(key("slow-1", "a"), Lane.CHANGED, 0)
    lanes.add(key("slow-2", "a"), Lane.CHANGED, 0)
    lanes.add(key("other", "b"), Lane.RESYNC, 0)
    first, second = lanes.take(0), lanes.take(0)
    assert first is not None
    assert second is not None
    assert (first.key.name, second.key.name) == ("slow-1", "other")
    assert lanes.take(0) is None
    lanes.done(first.key, 1)
    third = lanes.take(1)
    assert third is not None
    assert third.key.name == "slow-2"


def test_groups_of_one_lane_take_turns() -> None:
    """A burst on one cluster does not put another cluster's single object at its end."""
    lanes = make()
    for number in range(3):
        lanes.add(key(f"a{number}", "a"), Lane.CHANGED, 0)
    lanes.add(key("b0", "b"), Lane.CHANGED, 0)
    assert taken(lanes) == ["a0", "b0", "a1", "a2"]


def test_a_delayed_key_comes_at_its_moment_and_the_earliest_of_two_moments_wins() -> None:
    """A later request never pushes an earlier one back."""
    lanes = make()
    lanes.add_later(key("x"), 10.0)
    lanes.add_later(key("x"), 5.0)
    lanes.add_later(key("x"), 20.0)
    assert lanes.next_due() == 5.0
    assert lanes.release_due(4.9) == 0
    assert lanes.release_due(5.0) == 1
    assert taken(lanes, 5.0) == ["x"]
    assert lanes.release_due(100.0) == 0


def test_a_change_replaces_the_delay() -> None:
    """What is reconciled now need not be retried for the old reason."""
    lanes = make()
    lanes.add_later(key("x"), 10.0)
    lanes.add(key("x"), Lane.CHANGED, 1.0)
    assert taken(lanes, 1.0) == ["x"]
    assert lanes.next_due() is None


def test_a_resync_neither_hastens_a_backoff_nor_waits_for_a_distant_moment() -> None:
    """A failing key keeps its backoff; a key that waits for its rotation next month is still looked at."""
    lanes = make()
    lanes.add_later(key("failing"), 30.0)
    lanes.add_later(key("rotating"), 30.0 * 86_400)
    lanes.add(key("failing"), Lane.RESYNC, 0.0)
    lanes.add(key("rotating"), Lane.RESYNC, 0.0)
    assert taken(lanes, 0.0) == ["rotating"]
    assert lanes.next_due() == 30.0


def test_waiting_time_is_measured_from_the_first_request() -> None:
    """A repeated request does not make the wait look shorter."""
    lanes = make()
    lanes.add(key("x"), Lane.RESYNC, 0.0)
    lanes.add(key("x"), Lane.CHANGED, 3.0)
    job = lanes.take(5.0)
    assert job is not None
    assert job.waited == 5.0


STEPS = st.lists(
    st.tuples(st.sampled_from(("add", "later", "take", "done", "due")), st.integers(0, 7), st.sampled_from(Lane)),
    max_size=120,
)


@given(STEPS, st.integers(1, 3))
def test_no_order_of_calls_loses_a_key_or_runs_one_twice(steps: list[tuple[str, int, Lane]], cap: int) -> None:  # noqa: C901 - one branch a call
    """Each request is followed by a turn that starts after it; caps and single turns hold at every moment."""
    lanes = make(cap)
    now = 0.0
    running: list[Key] = []
    owed: set[Key] = set()
    for step, number, lane in steps:
        now += 1.0
        item = key(str(number), "ab"[number % 2])
        if step == "add":
            lanes.add(item, lane, now)
            if lane is not Lane.RESYNC:
                owed.add(item)
        elif step == "later":
            lanes.add_later(item, now + number)
            if not lanes.is_running(item):
                owed.add(item)
        elif step == "take" and (job := lanes.take(now)) is not None:
            assert job.key not in running
            running.append(job.key)
            owed.discard(job.key)
            assert sum(1 for other in running if other.namespace == job.key.namespace) <= cap
        elif step == "done" and running:
            lanes.done(running.pop(number % len(running)), now)
        elif step == "due":
            lanes.release_due(now)
    for item in running:
        lanes.done(item, now)
    lanes.release_due(now + 1_000.0)
    rest = set()
    while (job := lanes.take(now)) is not None:
        rest.add(job.key)
        lanes.done(job.key, now)
    assert owed <= rest
    assert not lanes.has_work()
