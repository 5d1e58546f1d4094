"""Join the operator's process to the reconcilers: the runner knows no database, the reconcilers know no process."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from storage_operator import tasks
from storage_operator.adapters.kubernetes.objects import KubernetesWorld
from storage_operator.handlers.runner import Engine, Wake
from storage_operator.metrics import Metrics
from storage_operator.reconcile import Reconciler
from storage_operator.reconcile.housekeeping import Housekeeper
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Outcome


class ReconcilerEngine:
    """A Reconciler with its housekeeping, as the runner drives it."""

    def __init__(self, reconciler: Reconciler) -> None:
        """Take the reconciler; nothing runs before ``on_lead``."""
        self._reconciler = reconciler
        self._housekeeper = Housekeeper(reconciler.context)
        self._task: asyncio.Task[None] | None = None

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one resource to what it asks for."""
        return await self._reconciler.reconcile(key)

    async def on_lead(self) -> None:
        """Begin the housekeeping; each database is fenced at its first contact, before anything is written to it."""
        if self._task is None:
            self._task = asyncio.create_task(self._housekeeper.run(), name="housekeeping")

    async def aclose(self) -> None:
        """End the housekeeping and close every session."""
        if self._task is not None:
            await tasks.end([self._task])
            self._task = None
        await self._reconciler.close()


async def build_engine(world: KubernetesWorld, settings: OperatorSettings, metrics: Metrics, wake: Wake) -> Engine:
    """Make the engine of one operator process."""
    reconciler = Reconciler(world, release=version("llmspell-storage"), holder=settings.identity, wake=wake)
    reconciler.context.observe = metrics.observe_phase
    reconciler.context.fleet.on_sql = lambda statements, round_trips: metrics.count_sql(
        "provisioning", statements, round_trips
    )
    return ReconcilerEngine(reconciler)
