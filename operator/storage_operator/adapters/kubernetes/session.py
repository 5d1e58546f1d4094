"""Sessions for the watches, and the sign of life of every watch that runs over them.

A watch that hangs looks like one on which nothing happens; what tells them apart is the bytes that arrive (bookmarks
come about once a minute) and reconnects that are answered. Both are seen here, below the client that parses them.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from storage_operator.adapters.kubernetes.client import ApiClient


class SessionSource:
    """Opens authenticated sessions whose watch responses are observed."""

    def __init__(self, client: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Use the client's configuration and credentials."""
        self._client = client
        self._clock = clock
        self._opened = False
        self._alive: dict[str, float] = {}
        self._streams: weakref.WeakKeyDictionary[aiohttp.ClientResponse, tuple[str, int]] = weakref.WeakKeyDictionary()

    @property
    def server(self) -> str:
        """The API server's base URL."""
        return self._client.server

    async def open(self) -> aiohttp.ClientSession:
        """Open one more session; the caller closes it."""
        if self._opened:
            # kopf asks again after a 401: the token or the certificate changed.
            await self._client.reload()
        self._opened = True
        source = self

        class Observed(aiohttp.ClientResponse):
            """A response that reports when its headers arrive."""

            async def start(self, connection: Any) -> aiohttp.ClientResponse:
                """Wait for the headers, then report the answer."""
                answer = await super().start(connection)
                source.answered(answer)
                return answer

        return self._client.new_session(Observed)

    def expect(self, *paths: str) -> None:
        """Start the age of the watches that should exist now, so that one which never starts is noticed too."""
        now = self._clock()
        for path in paths:
            self._alive.setdefault(path, now)

    def answered(self, response: aiohttp.ClientResponse) -> None:
        """Count a successful answer about a resource as a sign of life; a watch's stream is followed further."""
        path = response.url.path
        if response.status >= 400 or path not in self._alive:  # noqa: PLR2004 - HTTP's first error code
            return
        self._alive[path] = self._clock()
        if "watch" in response.url.query:
            self._streams[response] = (path, response.content.total_bytes)

    def ages(self) -> Mapping[str, float]:
        """Return the seconds since each expected watch last showed life, by path; call it often, it samples."""
        now = self._clock()
        for response, (path, counted) in list(self._streams.items()):
            arrived = response.content.total_bytes
            if arrived != counted:
                self._streams[response] = (path, arrived)
                self._alive[path] = now
        return {path: now - moment for path, moment in self._alive.items()}
