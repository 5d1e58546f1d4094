"""Work that belongs to a cluster and to no object: usage, retention, indexes, and sessions that break their limits.

It runs beside the reconciles, for each cluster on its own, so that a slow or dead server delays nobody else's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter

from storage_operator import tasks
from storage_operator.adapters.postgres import vector_indexes
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.retention import expire
from storage_operator.adapters.postgres.usage import measure
from storage_operator.adapters.postgres.watchdog import end_offenders
from storage_operator.errors import ApiError
from storage_operator.reconcile.clusters import count_tenants
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.world import Key

logger = logging.getLogger(__name__)

PASS_SECONDS = 5.0
RETENTION_SECONDS = 600.0


class Housekeeper:
    """Looks after every serving cluster of the fleet, one pass every few seconds."""

    def __init__(self, context: Context) -> None:
        """Take what the reconcilers share; ``ended`` counts terminated sessions by the limit they broke."""
        self._context = context
        self.ended: Counter[str] = Counter()

    async def run(self) -> None:
        """Pass after pass until cancelled; a cluster whose last pass still runs is left out, and nobody waits for it."""
        passes: dict[Key, asyncio.Task[None]] = {}
        try:
            while True:
                passes = {key: each for key, each in passes.items() if not each.done()}
                for tended in self._context.fleet.all():
                    if tended.serving and tended.key not in passes:
                        passes[tended.key] = asyncio.create_task(self._pass(tended), name=f"housekeeping {tended.key}")
                await asyncio.sleep(PASS_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
        finally:
            indexing = [tended.indexing for tended in self._context.fleet.all() if tended.indexing is not None]
            await tasks.end([*passes.values(), *indexing])

    async def _pass(self, tended: Tended) -> None:
        """Look after one cluster; what its database answers wrongly must not end the others' housekeeping."""
        try:
            await self.look_after(tended)
        except Exception:
            logger.exception("housekeeping of %s failed", tended.key)

    async def look_after(self, tended: Tended) -> None:
        """One pass over one cluster; a database that does not answer is its reconcile's matter, not ours."""
        try:
            for ended in await end_offenders(tended.installation):
                self.ended[ended.limit] += 1
                logger.warning("ended a session of %s: %s", ended.login, ended.limit)
            await self._measure(tended)
            await self._expire(tended)
            await self._count(tended)
            self._index(tended)
        except DatabaseFault as fault:
            logger.info("housekeeping of %s is put off: %s", tended.key, fault.reason)
        except ApiError as error:
            logger.info("the count of tenants of %s is put off: %s", tended.key, error)

    async def _count(self, tended: Tended) -> None:
        """Keep the cluster's count of tenants right between its own reconciles; one PATCH a pass at most."""
        body = self._context.world.get(tended.key)
        status = (body or {}).get("status")
        if body is None or not status or Metadata.of(body).deleting:
            return
        counted = count_tenants(self._context, tended.key)
        fields = {"total": counted.total, "ready": counted.ready}
        if status.get("tenants") != fields:
            await self._context.world.patch_status(body, {**status, "tenants": fields})

    async def _expire(self, tended: Tended) -> None:
        now = time.monotonic()
        if tended.expired_at is not None and now - tended.expired_at < RETENTION_SECONDS:
            return
        tended.expired_at = now
        for table, rows in (await expire(tended.installation)).items():
            logger.info("retention of %s: %d rows of %s are gone", tended.key, rows, table)

    def _index(self, tended: Tended) -> None:
        """Begin a round over big tenants' vectors when its time has come; a build takes minutes, and no pass waits for it."""
        now = time.monotonic()
        interval = tended.spec.limits.usage_interval_seconds
        if tended.indexing is not None and not tended.indexing.done():
            return
        if tended.indexed_at is not None and now - tended.indexed_at < interval:
            return
        tended.indexed_at = now
        tended.indexing = asyncio.create_task(self._index_all(tended), name=f"vector indexes {tended.key}")

    async def _index_all(self, tended: Tended) -> None:
        try:
            for wanted in await vector_indexes.grown(tended.installation):
                report = await vector_indexes.tend(tended.installation, tended.conninfo, wanted)
                for action in report.actions:
                    logger.info("vectors of %s in %s: %s", wanted.tenant, tended.key, action)
                for note in report.notes:
                    logger.warning("vectors of %s in %s: %s", wanted.tenant, tended.key, note)
        except DatabaseFault as fault:
            logger.warning("indexes of vectors of %s are put off: %s", tended.key, fault)
        except Exception:
            logger.exception("looking after the indexes of vectors of %s failed", tended.key)

    async def _measure(self, tended: Tended) -> None:
        now = time.monotonic()
        interval = tended.spec.limits.usage_interval_seconds
        if tended.measured_at is not None and now - tended.measured_at < interval:
            return
        tended.measured_at = now
        try:
            changed = await measure(tended.installation)
        except DatabaseFault as fault:
            if fault.reason == "LockTimeout":
                # Not for a whole interval: a tenant that locks a table now and then would never be measured, nor others.
                tended.measured_at = None
            raise
        for owner in changed:
            self._context.wake(Key(Kind.TENANT, owner.namespace, owner.name))
