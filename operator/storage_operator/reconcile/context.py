"""What all reconcilers share: the world, the fleet, the clock and a few settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from storage_operator.reconcile.fleet import Fleet
from storage_operator.reconcile.report import utc_now
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key, World

PhaseObserver: TypeAlias = Callable[[str, str, str, float], None]
"""Kind, phase, result, seconds."""

PROBE_INTERVAL_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class Context:
    """Handed to each reconciler. ``wake`` asks for a reconcile of another object soon (a cluster became Ready)."""

    world: World
    fleet: Fleet
    release: str
    clock: Callable[[], datetime] = utc_now
    wake: Callable[[Key], None] = field(default=lambda _key: None)
    observe: PhaseObserver = field(default=lambda _kind, _phase, _result, _seconds: None)
    probe_interval_seconds: float = PROBE_INTERVAL_SECONDS

    @contextmanager
    def phase(self, kind: Kind, name: str) -> Iterator[None]:
        """Measure one phase of a reconcile; an exception is its result ``failed``."""
        started = time.perf_counter()
        result = "failed"
        try:
            yield
            result = "done"
        finally:
            self.observe(kind.value, name, result, time.perf_counter() - started)
