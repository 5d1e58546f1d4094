"""What turns the liveness probe red, and the thread that ends a process which cannot end itself."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from storage_operator.adapters.kubernetes.lease import LeaseTiming
from storage_operator.handlers.health import Health, watch_name
from storage_operator.handlers.runner import ExitCode, Watchdog
from storage_operator.metrics import Metrics
from storage_operator.settings import OperatorSettings


@dataclass
class Queue:
    """A queue that has stalled for a while."""

    stalled: float = 0.0

    def stalled_seconds(self) -> float:
        """Say for how long."""
        return self.stalled

    def measure(self) -> None:
        """Publish nothing."""


@dataclass
class Holder:
    """A lease that was renewed at a moment."""

    timing: LeaseTiming
    deadline: float


def health(queue: Queue | None = None, ages: dict[str, float] | None = None, now: float = 100.0) -> Health:
    """Make the health of a leading process."""
    found = Health(OperatorSettings(), queue or Queue(), Metrics(), lambda: ages or {}, clock=lambda: now)  # type: ignore[arg-type]
    found.leading = found.watching = found.synced = True
    return found


def test_a_process_that_works_is_well() -> None:
    """Nothing late, nothing stuck, nothing stale."""
    assert health(ages={"/apis/g/v1/tenants": 20.0}).faults() == []


def test_a_stale_watch_is_named() -> None:
    """The probe says which."""
    assert health(ages={"/apis/g/v1/namespaces/a/tenants": 500.0}).faults() == [
        "the watch of a/tenants showed no life for 500 s"
    ]
    assert watch_name("/apis/g/v1/tenants") == "tenants"


def test_a_standby_is_not_stuck_and_ready_to_take_over() -> None:
    """Only who leads has work."""
    standby = health(Queue(1_000.0))
    assert "no reconcile finished for 1000 s" in standby.faults()[0]
    standby.leading = standby.watching = standby.synced = False
    assert standby.faults() == standby.waiting_for() == []


async def test_a_blocked_event_loop_is_late() -> None:
    """A probe that is answered at all after a block still tells of it."""
    late = health()
    late._lag = 9.0
    assert "9.0 s late" in late.faults()[0]


@pytest.mark.parametrize("blocked", [True, False], ids=["runs-out", "stands-down"])
def test_the_watchdog_ends_a_process_whose_lease_ran_out(blocked: bool) -> None:
    """Its thread needs no event loop; a clean end calls it off."""
    ended: list[int] = []
    lease = Holder(LeaseTiming(0.6, 0.4, 0.1), time.monotonic() + (0.2 if blocked else 60))
    watchdog = Watchdog(lease, end=ended.append)  # type: ignore[arg-type]
    watchdog.start()
    if not blocked:
        watchdog.stand_down()
    watchdog.join(30)
    assert not watchdog.is_alive()
    assert ended == ([ExitCode.LEASE_LOST] if blocked else [])
