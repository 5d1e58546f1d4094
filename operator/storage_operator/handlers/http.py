"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from storage_operator.handlers.health import Health
from storage_operator.metrics import Metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_SECONDS = 1.0


class HttpServer:
    """A small server on a port of its own; nothing it answers is secret."""

    def __init__(self, health: Health, metrics: Metrics, *, host: str, port: int) -> None:
        """``port`` 0 takes a free one, see ``port`` after ``start``."""
        self._health = health
        self._metrics = metrics
        self._host = host
        self.port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        application = web.Application()
        application.router.add_get("/healthz", self._probe(self._health.faults))
        application.router.add_get("/readyz", self._probe(lambda: self._health.faults() + self._health.waiting_for()))
        application.router.add_get("/metrics", self._show_metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.port)
        await site.start()
        addresses: list[Any] = self._runner.addresses
        self.port = int(addresses[0][1])

    async def aclose(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    @staticmethod
    def _probe(faults: Callable[[], list[str]]) -> Callable[[web.Request], Any]:
        async def answer(_: web.Request) -> web.Response:
            found = faults()
            return web.Response(status=503 if found else 200, text="\n".join(found or ["ok"]) + "\n")

        return answer

    async def _show_metrics(self, _: web.Request) -> web.Response:
        self._health.measure()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": METRICS_TYPE})
