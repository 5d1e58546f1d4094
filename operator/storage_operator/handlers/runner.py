"""The life of one operator process: start in order, lead, watch, work, hand over.

Order: connection → queue → scheduler → HTTP → lease → first list → workers → kopf. kopf comes last and only once,
because on its end it cancels every task that was made after it started, and because it takes the signal handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from storage_operator import tasks
from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.adapters.kubernetes.lease import Lease, LeaseTiming
from storage_operator.adapters.kubernetes.objects import KubernetesWorld, collection_path
from storage_operator.adapters.kubernetes.secrets import SecretWatcher
from storage_operator.adapters.kubernetes.session import SessionSource
from storage_operator.errors import ApiError, ApiNotFound, LeaseLost
from storage_operator.handlers.health import Health
from storage_operator.handlers.http import HttpServer
from storage_operator.handlers.lanes import Lane
from storage_operator.handlers.queue import Backoff, WorkQueue
from storage_operator.handlers.routing import Grouping, Router
from storage_operator.handlers.scheduler import Resync
from storage_operator.handlers.watches import Watches
from storage_operator.metrics import Metrics
from storage_operator.settings import OperatorSettings
from storage_operator.world import Key, Kind, Outcome

logger = logging.getLogger(__name__)

T = TypeVar("T")

STARTUP_RETRY_SECONDS = 2.0
STOP_SECONDS = 5.0
ABANDON_SECONDS = 1.0


class ExitCode(enum.IntEnum):
    """How the process ended, for whoever restarts it."""

    STOPPED = 0
    WATCH_ENDED = 1
    LEASE_LOST = 3


class Engine(Protocol):
    """What reconciles: the runner knows nothing of databases."""

    async def reconcile(self, key: Key) -> Outcome:
        """Bring one resource to what it asks for."""
        ...

    async def on_lead(self) -> None:
        """Fence off a previous leader; called once, before the first reconcile."""
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


Wake = Callable[[Key], None]
EngineFactory = Callable[[KubernetesWorld, OperatorSettings, Metrics, Wake], Awaitable[Engine]]


@dataclass(slots=True)
class _Parts:
    client: ApiClient
    world: KubernetesWorld
    sessions: SessionSource
    engine: Engine
    queue: WorkQueue
    router: Router
    health: Health
    http: HttpServer


class Runner:
    """One run of the operator."""

    def __init__(
        self,
        settings: OperatorSettings,
        build_engine: EngineFactory,
        *,
        metrics: Metrics | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        """``build_engine`` makes the reconciler once the cluster is reachable, ``end`` is the watchdog's."""
        self._settings = settings
        self._build_engine = build_engine
        self._metrics = metrics or Metrics()
        self._end = end
        self._stop = asyncio.Event()
        self._lease: Lease | None = None
        self._watchdog: Watchdog | None = None
        self._watches: Watches | None = None
        self._background: list[asyncio.Task[Any]] = []
        self.http_port = 0
        self.watching = False
        self.queue: WorkQueue | None = None
        self.world: KubernetesWorld | None = None

    def stop(self) -> None:
        """Ask for a clean end: finish what runs, hand over the lease."""
        self._stop.set()

    async def run(self) -> ExitCode:
        """Run until stopped or until leadership is lost."""
        self._take_signals()
        client = await ApiClient.connect(
            self._settings.kubeconfig or None,
            timeout=self._settings.request_timeout_seconds,
            observe=self._metrics.observe_request,
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(client.aclose)
            try:
                parts = await self._unless_stopped(self._assemble(client, stack))
                return ExitCode.STOPPED if parts is None else await self._lead(parts)
            finally:
                # A run that is cancelled, too, leaves nothing behind that writes; only then may the watchdog rest.
                if self.queue is not None:
                    await self.queue.drain(0.0)
                await self._end_background()
                self._stand_down()

    async def _assemble(self, client: ApiClient, stack: contextlib.AsyncExitStack) -> _Parts:
        settings, metrics = self._settings, self._metrics
        world = KubernetesWorld(client, instance=settings.identity)
        await self._when_reachable(world.open)
        stack.push_async_callback(world.aclose)
        engine = await self._build_engine(world, settings, metrics, self._wake)
        stack.push_async_callback(engine.aclose)
        grouping = Grouping(world.cache, default_cap=settings.cluster_concurrency)
        queue = WorkQueue(
            engine.reconcile,
            group_of=grouping.group_of,
            cap_of=grouping.cap_of,
            metrics=metrics,
            workers=settings.workers,
            backoff=Backoff(settings.retry_base_seconds, settings.retry_cap_seconds),
        )
        router = Router(world.cache, queue)
        world.cache.subscribe(router.on_event)
        metrics.watch_conditions(world.cache.list)
        sessions = SessionSource(client)
        health = Health(settings, queue, metrics, sessions.ages)
        self._spawn(health.run(), "pulse")
        http = HttpServer(health, metrics, host=settings.http_host, port=settings.http_port)
        await http.start()
        stack.push_async_callback(http.aclose)
        self.queue, self.world, self.http_port = queue, world, http.port
        return _Parts(client, world, sessions, engine, queue, router, health, http)

    async def _lead(self, parts: _Parts) -> ExitCode:
        """Wait for leadership, work, and hand over."""
        lost: asyncio.Task[None] | None = None
        if self._settings.leader_election:
            self._lease = self._new_lease(parts.client)
            if await self._unless_stopped(_done(self._lease.acquire())) is None:
                return ExitCode.STOPPED
            lost = self._spawn(self._lease.hold(), "lease")
            self._watchdog = Watchdog(self._lease, end=self._end)
            self._watchdog.start()
        parts.health.leading = True
        work = self._spawn(self._work(parts), "work")
        stopped = self._spawn(_done(self._stop.wait()), "stop")
        awaited: set[asyncio.Task[Any]] = {work, stopped} | ({lost} if lost else set())
        done, _ = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if lost is not None and lost in done:
            return await self._abandon(parts, work, lost)
        return await self._hand_over(parts, work, lost)

    async def _work(self, parts: _Parts) -> None:
        settings = self._settings
        await self._when_reachable(parts.engine.on_lead)
        await self._when_reachable(lambda: self._first_list(parts))
        parts.health.synced = True
        parts.queue.start()
        resync = Resync(
            parts.world.cache,
            parts.queue,
            interval=settings.resync_interval_seconds,
            rate=settings.resync_rate_per_second,
        )
        self._spawn(resync.run(), "resync")
        self._spawn(self._relist_forever(parts), "relist")
        secrets = SecretWatcher(
            parts.client,
            parts.world.secrets,
            parts.router.on_secret,
            namespaces=None if settings.clusterwide else settings.namespaces,
        )
        self._spawn(secrets.run(), "secrets")
        self._watches = watches = Watches(parts.world.cache, parts.sessions, settings)
        parts.sessions.expect(*(path for _, _, path in self._scopes()))
        parts.health.watching = True
        await watches.run(self._watching)

    def _watching(self) -> None:
        self._take_signals()
        self.watching = True

    def _scopes(self) -> list[tuple[Kind, str | None, str]]:
        namespaces: tuple[str | None, ...] = self._settings.namespaces or (None,)
        return [(kind, name, collection_path(kind, name)) for kind in Kind for name in namespaces]

    async def _first_list(self, parts: _Parts) -> None:
        """Fill the cache before anything is reconciled, so that nobody waits for a cluster that is there."""
        for kind, namespace, path in self._scopes():
            try:
                await parts.world.relist(kind, namespace)
            except ApiNotFound as error:
                raise ApiNotFound(f"{path} is not served: install the custom resources of {kind.plural}") from error
        logger.info("watching %s", ", ".join(self._settings.namespaces) or "all namespaces")

    async def _relist_forever(self, parts: _Parts) -> None:
        """Repair the cache now and then: a watch that lost its place is never told what was deleted meanwhile."""
        while True:
            await asyncio.sleep(self._settings.relist_interval_seconds * random.uniform(0.8, 1.2))  # noqa: S311
            for kind, namespace, _ in self._scopes():
                try:
                    repairs = await parts.world.relist(kind, namespace)
                except ApiError as error:
                    logger.warning("the cache was not compared with the list of %s: %s", kind.plural, error)
                    continue
                if repairs:
                    self._metrics.cache_repairs.inc(repairs)
                    logger.info("a watch had missed %d changes of %s", repairs, kind.plural)

    async def _hand_over(self, parts: _Parts, work: asyncio.Task[None], lost: asyncio.Task[None] | None) -> ExitCode:
        """Finish what runs, stop writing, and only then let the next process begin."""
        ended_by_itself = work.done()
        if ended_by_itself:
            logger.error("the watches ended: %s", _failure(work))
        else:
            logger.info("stopping: %d reconciles running", len(parts.queue))
        cut = await parts.queue.drain(self._settings.drain_seconds)
        if cut:
            logger.warning("cut off after %g s: %s", self._settings.drain_seconds, ", ".join(map(str, cut)))
        await parts.engine.aclose()
        if lost is not None:
            await tasks.end([lost])
        self._stand_down()
        if self._lease is not None:
            await self._lease.release()
        parts.health.leading = False
        await self._stop_watches(work)
        return ExitCode.WATCH_ENDED if ended_by_itself else ExitCode.STOPPED

    async def _abandon(self, parts: _Parts, work: asyncio.Task[None], lost: asyncio.Task[None]) -> ExitCode:
        """Stop writing at once: another process may be leading already."""
        logger.error("leadership lost, ending: %s", _failure(lost))
        parts.health.leading = False
        await parts.queue.drain(0.0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABANDON_SECONDS):
                await parts.engine.aclose()
        await self._stop_watches(work)
        return ExitCode.LEASE_LOST

    async def _stop_watches(self, work: asyncio.Task[None]) -> None:
        if self._watches is not None and not work.done():
            self._watches.stop()
            await asyncio.wait({work}, timeout=STOP_SECONDS)
        await tasks.end([work])

    def _stand_down(self) -> None:
        if self._watchdog is not None:
            self._watchdog.stand_down()

    def _new_lease(self, client: ApiClient) -> Lease:
        settings = self._settings
        return Lease(
            client,
            namespace=settings.lease_namespace,
            name=settings.lease_name,
            identity=settings.identity,
            timing=LeaseTiming(
                settings.lease_duration_seconds,
                settings.lease_renew_deadline_seconds,
                settings.lease_retry_period_seconds,
            ),
        )

    async def _when_reachable(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step of the start until the API server answers it."""
        said = ""
        while True:
            try:
                await step()
            except ApiError as error:
                if str(error) != said:
                    said = str(error)
                    logger.warning("waiting: %s", said)
                await asyncio.sleep(STARTUP_RETRY_SECONDS)
            else:
                return

    async def _unless_stopped(self, step: Coroutine[Any, Any, T]) -> T | None:
        """Run a step of the start; None when a stop was asked for first."""
        task = asyncio.create_task(step)
        stopped = asyncio.create_task(_done(self._stop.wait()))
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            await tasks.end([task, stopped])

    def _take_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _wake(self, key: Key) -> None:
        """Let a reconcile ask for another object's soon, after what is new."""
        if self.queue is not None:
            self.queue.add(key, Lane.RETRY)

    def _spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._background.append(task)
        return task

    async def _end_background(self) -> None:
        await tasks.end(self._background)


class Watchdog(threading.Thread):
    """Ends the process when the lease ran out and the process still lives: a blocked event loop cannot end itself."""

    def __init__(self, lease: Lease, *, end: Callable[[int], None]) -> None:
        """``end`` leaves the process without asking the event loop."""
        super().__init__(name="lease watchdog", daemon=True)
        self._lease = lease
        self._end = end
        # Half of what is left before somebody else may take over.
        self._grace = (lease.timing.duration - lease.timing.renew_deadline) / 2
        self._over = threading.Event()

    def stand_down(self) -> None:
        """Stop looking: nothing writes any more."""
        self._over.set()

    def run(self) -> None:
        """Look until the work is over."""
        while True:
            left = self._lease.deadline + self._grace - time.monotonic()
            if self._over.wait(max(0.0, min(left, 1.0))):
                return
            if left <= 0:
                logger.critical("the lease ran out and the process still works: ending it at once")
                self._end(ExitCode.LEASE_LOST)
                return


async def _done(awaitable: Awaitable[Any]) -> bool:
    await awaitable
    return True


def _failure(task: asyncio.Task[None]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return (
        f"{type(error).__name__}: {error}" if error and not isinstance(error, LeaseLost) else str(error or "no error")
    )
