"""Whether this process still does its work: watches alive, event loop on time, queue moving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from storage_operator.handlers.queue import WorkQueue
from storage_operator.metrics import Metrics
from storage_operator.settings import OperatorSettings

PULSE_SECONDS = 0.5


def watch_name(path: str) -> str:
    """Name a watch by its resource, with its namespace where it has one."""
    parts = path.strip("/").split("/")
    return f"{parts[-2]}/{parts[-1]}" if "namespaces" in parts else parts[-1]


@dataclass(slots=True)
class Health:
    """The pulse of the process; probes only read what it measured."""

    settings: OperatorSettings
    queue: WorkQueue
    metrics: Metrics
    watch_ages: Callable[[], Mapping[str, float]]
    clock: Callable[[], float] = time.monotonic
    leading: bool = False
    watching: bool = False
    synced: bool = False
    _lag: float = 0.0
    _beat_at: float = field(default_factory=lambda: float("inf"))

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            started = self.clock()
            self._beat_at = started
            await asyncio.sleep(PULSE_SECONDS)
            self._lag = max(0.0, self.clock() - started - PULSE_SECONDS)
            self.measure()

    def measure(self) -> None:
        """Publish what was measured, and sample the watches."""
        self.metrics.loop_lag.set(self._lag)
        self.metrics.leader.set(int(self.leading))
        self.queue.measure()
        if self.watching:
            for path, age in self.watch_ages().items():
                self.metrics.watch_age.labels(watch_name(path)).set(age)

    def faults(self) -> list[str]:
        """List why the process should be restarted; empty when it is well."""
        found = []
        lag = max(self._lag, self.clock() - self._beat_at - PULSE_SECONDS)
        if lag > self.settings.loop_lag_seconds:
            found.append(f"the event loop is {lag:.1f} s late")
        if self.watching:
            found += [
                f"the watch of {watch_name(path)} showed no life for {age:.0f} s"
                for path, age in sorted(self.watch_ages().items())
                if age > self.settings.watch_stale_seconds
            ]
        stalled = self.queue.stalled_seconds()
        if self.leading and stalled > self.settings.stuck_seconds:
            found.append(f"no reconcile finished for {stalled:.0f} s though there is work")
        return found

    def waiting_for(self) -> list[str]:
        """List what is missing before the process can be called ready; a standby is ready to take over."""
        return ["the first list of objects"] if self.leading and not self.synced else []
