"""The only place that knows kopf: its watch streams keep the cache, everything else of kopf is switched off.

kopf patches nothing here: there are only ``on.event`` handlers, no finalizer of its own, and the storages in which it
would keep diffs and progress are empty. What it would do to other people's tasks and signals is undone here as well.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import kopf

from storage_operator.adapters.kubernetes.cache import ObjectCache
from storage_operator.adapters.kubernetes.session import SessionSource
from storage_operator.settings import OperatorSettings
from storage_operator.world import API_GROUP, API_VERSION, Key, Kind

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.2
RECONNECT_SECONDS = 0.1
UNUSED_FINALIZER = f"{API_GROUP}/unused"


class _Backoffs(Iterable[float]):
    """Short delays first, then a steady one for ever: an API server that is away is waited for, not a reason to end."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.1, 0.2, 0.5, 1.0), itertools.repeat(2.0))


class _NoDiffs(kopf.DiffBaseStorage):
    """Remember no last-handled configuration: nothing is compared, nothing is copied for comparison."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:  # noqa: ARG002 - kopf's names
        """Return an empty essence."""
        return kopf.BodyEssence({})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 - kopf's names
        """Find nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Remember no handler progress."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:
        """Find nothing."""

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Keep nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Remove nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Change nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return the essence as it is."""
        return essence


class _EveryTask(Collection[Any]):
    """Tell kopf that every task is somebody else's.

    At its end kopf cancels its own root tasks, which end their children, and then whatever else was made since its
    start: pools, probes, a hand-over under way. Those are ours to end, in our order.
    """

    def __contains__(self, task: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(asyncio.all_tasks())

    def __len__(self) -> int:
        return len(asyncio.all_tasks())


def store_event(cache: ObjectCache, event: Mapping[str, Any]) -> None:
    """Put one watch event into the cache, whose listeners decide what it means."""
    raw = event["object"]
    if event["type"] == "DELETED":
        cache.drop(Key.of(raw), uid=raw["metadata"].get("uid"))
    else:
        cache.put(raw)


def build_registry(cache: ObjectCache, sessions: SessionSource) -> kopf.OperatorRegistry:
    """Register one event handler a kind, and our own way to log in."""
    registry = kopf.OperatorRegistry()

    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        """Keep what a watch tells."""
        store_event(cache, event)

    for kind in Kind:
        kopf.on.event(API_GROUP, API_VERSION, kind.plural, registry=registry, id=f"watch-{kind.plural}")(on_event)

    async def login(**_: Any) -> kopf.AiohttpSession:
        """Lend kopf the session that we opened, with our ways to authenticate."""
        return kopf.AiohttpSession(server=sessions.server, aiohttp_session=await sessions.open())

    kopf.on.login(registry=registry, id="login")(login)
    return registry


def build_settings(settings: OperatorSettings) -> kopf.OperatorSettings:
    """Switch off what kopf would write, and make what it waits for short."""
    ours = kopf.OperatorSettings()
    ours.process.ultimate_exiting_timeout = None
    ours.posting.enabled = False
    ours.posting.loggers = False
    ours.peering.standalone = True
    ours.scanning.disabled = True
    ours.persistence.finalizer = UNUSED_FINALIZER
    ours.persistence.diffbase_storage = _NoDiffs()
    ours.persistence.progress_storage = _NoProgress()
    ours.queueing.idle_timeout = IDLE_SECONDS
    ours.watching.inactivity_timeout = settings.watch_inactivity_seconds
    ours.watching.reconnect_backoff = RECONNECT_SECONDS
    ours.watching.connect_timeout = settings.request_timeout_seconds
    ours.watching.chunk_size = 500
    ours.networking.request_timeout = max(30.0, settings.request_timeout_seconds)
    ours.networking.connect_timeout = settings.request_timeout_seconds
    ours.networking.error_backoffs = _Backoffs()
    return ours


class Watches:
    """kopf's watch streams; ``run`` works once in a process."""

    def __init__(self, cache: ObjectCache, sessions: SessionSource, settings: OperatorSettings) -> None:
        """Prepare; nothing starts before ``run``."""
        self._cache = cache
        self._sessions = sessions
        self._settings = settings
        self._stop = asyncio.Event()

    async def run(self, started: Callable[[], None]) -> None:
        """Watch until ``stop``; ``started`` is called after kopf took the signal handlers, to take them back."""
        scope: dict[str, Any] = (
            {"clusterwide": True} if self._settings.clusterwide else {"namespaces": list(self._settings.namespaces)}
        )
        tasks = await kopf.spawn_tasks(
            registry=build_registry(self._cache, self._sessions),
            settings=build_settings(self._settings),
            standalone=True,
            stop_flag=self._stop,
            **scope,
        )
        try:
            started()
            await kopf.run_tasks(tasks, ignored=_EveryTask())
        finally:
            # One of kopf's tasks waits for nothing but this, and is no root task, which alone are ended.
            self._stop.set()

    def stop(self) -> None:
        """End the streams."""
        self._stop.set()
