"""Events about our objects: queued, sent in the background, deduplicated, never in the way of a reconcile."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import socket
from collections import OrderedDict
from typing import Any

from storage_operator import tasks
from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.errors import ApiError
from storage_operator.world import Body, EventType

logger = logging.getLogger(__name__)

QUEUED_EVENTS = 1_000
REMEMBERED_OBJECTS = 10_000
MESSAGE_LENGTH = 1_024
SEND_SECONDS = 5.0
CLOSE_SECONDS = 2.0


class EventRecorder:
    """A bounded queue in front of the Events API."""

    def __init__(self, client: ApiClient, *, component: str, instance: str = "") -> None:
        """Name the component and the process that events are reported by."""
        self._client = client
        self._component = component
        self._instance = instance or socket.gethostname()
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(QUEUED_EVENTS)
        self._last: OrderedDict[str, tuple[str, str, str]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def start(self) -> None:
        """Start the sender."""
        self._task = asyncio.create_task(self._send_all(), name="event recorder")

    async def aclose(self) -> None:
        """Send what is queued within a bounded time and stop."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._queue.join()
        await tasks.end([self._task])

    def record(self, body: Body, type_: EventType, reason: str, message: str) -> None:
        """Queue one Event unless the object's last one was the same; a full queue drops it and counts."""
        metadata = body["metadata"]
        uid = str(metadata.get("uid", ""))
        content = (str(type_), reason, message)
        if self._last.get(uid) == content:
            return
        self._last[uid] = content
        self._last.move_to_end(uid)
        if len(self._last) > REMEMBERED_OBJECTS:
            self._last.popitem(last=False)
        try:
            self._queue.put_nowait((metadata["namespace"], self._event(body, content)))
        except asyncio.QueueFull:
            self.dropped += 1

    def _event(self, body: Body, content: tuple[str, str, str]) -> dict[str, Any]:
        type_, reason, message = content
        metadata = body["metadata"]
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name'][:200]}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata.get("uid"),
                "resourceVersion": metadata.get("resourceVersion"),
            },
            "type": type_,
            "reason": reason,
            "message": message[:MESSAGE_LENGTH],
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": self._component, "host": self._instance},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
        }

    async def _send_all(self) -> None:
        while True:
            namespace, event = await self._queue.get()
            try:
                await self._client.request(
                    "POST", f"/api/v1/namespaces/{namespace}/events", body=event, timeout=SEND_SECONDS
                )
            except ApiError as error:
                logger.warning("an Event was not recorded: %s", error)
            finally:
                self._queue.task_done()
