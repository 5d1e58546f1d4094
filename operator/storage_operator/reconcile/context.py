"""What all reconcilers share: the world, the fleet, the clock and a few settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from storage_operator.reconcile.fleet import Fleet
from storage_operator.reconcile.report import utc_now
from storage_operator.world import Key, World

PROBE_INTERVAL_SECONDS = 6 * 3600.0


@dataclass(slots=True)
class Context:
    """Handed to each reconciler. ``wake`` asks for a reconcile of another object soon (a cluster became Ready)."""

    world: World
    fleet: Fleet
    release: str
    clock: Callable[[], datetime] = utc_now
    wake: Callable[[Key], None] = field(default=lambda _key: None)
    probe_interval_seconds: float = PROBE_INTERVAL_SECONDS
