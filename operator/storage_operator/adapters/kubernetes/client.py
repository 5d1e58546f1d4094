"""A small REST client for the Kubernetes API.

Configuration (kubeconfig, exec plugins, OIDC, service account) is read by ``kubernetes.aio``; requests go through one
``aiohttp`` session, because the generated client turns every object into models that this operator does not need.
Every request has a time-out, and every failure becomes one of the ``ApiError`` classes here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from storage_operator.errors import (
    ApiConflict,
    ApiError,
    ApiForbidden,
    ApiInvalid,
    ApiNotFound,
    ApiUnavailable,
    UserError,
)

logger = logging.getLogger(__name__)

RequestObserver = Callable[[str, str, int, float], None]

MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
REQUEST_TIMEOUT_SECONDS = 10.0
CONNECTIONS = 32
RELOAD_SECONDS = 5.0
LIST_PAGE_ITEMS = 500
ERROR_BODY_BYTES = 4096


def _quiet(_method: str, _path: str, _status: int, _seconds: float) -> None:
    """Observe nothing."""


class ApiClient:
    """Authenticated JSON requests to one API server; open it with ``await ApiClient.connect(...)``."""

    def __init__(
        self,
        kubeconfig: str | None = None,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        connections: int = CONNECTIONS,
        observe: RequestObserver = _quiet,
    ) -> None:
        """Remember where the configuration comes from; nothing is read before ``open``."""
        self._kubeconfig = kubeconfig
        self._timeout = timeout
        self._connections = connections
        self._observe = observe
        self._configuration = Configuration()
        self._ssl: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None
        self._retired: aiohttp.ClientSession | None = None
        self._reload_lock = asyncio.Lock()
        self._loaded_at = 0.0

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        *,
        timeout: float = REQUEST_TIMEOUT_SECONDS,
        connections: int = CONNECTIONS,
        observe: RequestObserver = _quiet,
    ) -> Self:
        """Read the configuration and open the session; sends no request yet."""
        client = cls(kubeconfig, timeout=timeout, connections=connections, observe=observe)
        await client.open()
        return client

    async def open(self) -> None:
        """Load the configuration and make the connection pool."""
        await self._load()
        self._session = self.new_session()

    async def aclose(self) -> None:
        """Close every connection."""
        for session in (self._session, self._retired):
            if session is not None:
                await session.close()

    @property
    def server(self) -> str:
        """The API server's base URL."""
        return str(self._configuration.host).rstrip("/")

    async def _load(self) -> None:
        configuration = Configuration()
        path = self._kubeconfig_path()
        try:
            # The functions of kubernetes.aio.config carry no annotations.
            if path is None:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
            # The loader checks little; what a damaged file makes it trip over is not this process's fault.
            raise UserError(
                "Cannot read the Kubernetes configuration",
                f"{path or 'service account'}: {' '.join(str(error).split())}",
                "Check --kubeconfig or KUBECONFIG.",
            ) from error
        self._ssl = _ssl_context(configuration)
        self._configuration = configuration
        self._loaded_at = time.monotonic()

    def _kubeconfig_path(self) -> str | None:
        """Choose the file: the option, KUBECONFIG, none inside a pod, the user's default."""
        path = self._kubeconfig or os.environ.get("KUBECONFIG") or ""
        if not path and os.environ.get("KUBERNETES_SERVICE_HOST"):
            return None
        path = path or str(Path("~/.kube/config").expanduser())
        if not any(Path(name).is_file() for name in path.split(os.pathsep) if name):
            raise UserError(
                "There is no Kubernetes configuration",
                f"{path} does not exist",
                "Set KUBECONFIG or pass --kubeconfig; `llmspell dev up` starts a local control plane.",
            )
        return path

    def new_session(
        self, response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse
    ) -> aiohttp.ClientSession:
        """Open a session of its own that authenticates every request with the token of that moment."""
        if self._ssl is None:
            raise RuntimeError("the client is not open")
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self._ssl),
            middlewares=(self._authenticate,),
            proxy=self._configuration.proxy or None,
            response_class=response_class,
            headers={"User-Agent": "llmspell-storage-operator", "Accept": "application/json"},
            read_bufsize=2**20,
        )

    async def _authenticate(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        # The service account's token file is re-read by the configuration's own hook at most once a minute.
        header = await self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if header:
            request.headers["Authorization"] = header.strip()
        return await handler(request)

    async def reload(self) -> bool:
        """Read the configuration again after a 401 (rotated token or certificate); False when just done."""
        async with self._reload_lock:
            if time.monotonic() - self._loaded_at < RELOAD_SECONDS:
                return False
            await self._load()
            former, self._session = self._session, self.new_session()
            # Requests of others are still under way on the former session; the one before it has none left.
            retired, self._retired = self._retired, former
        if retired is not None:
            await retired.close()
        return True

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float | None = None,
    ) -> Any:
        """Send one request and return the decoded answer; raises ``ApiError`` subclasses only."""
        try:
            return await self._send(method, path, query, body, content_type, timeout)
        except ApiForbidden as error:
            if error.status != 401 or not await self.reload():  # noqa: PLR2004 - HTTP's code for "log in again"
                raise
        return await self._send(method, path, query, body, content_type, timeout)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        timeout: float | None,
    ) -> Any:
        if self._session is None:
            raise RuntimeError("the client is not open")
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {} if data is None else {"Content-Type": content_type}
        started = time.monotonic()
        status = 0
        try:
            limits = aiohttp.ClientTimeout(total=timeout or self._timeout)
            async with self._session.request(method, url, data=data, headers=headers, timeout=limits) as response:
                status = response.status
                raw = await response.read()
                retry_after = response.headers.get("Retry-After")
        except TimeoutError as error:
            raise ApiUnavailable(f"{method} {path}: no answer in {timeout or self._timeout:g} s") from error
        except aiohttp.ClientError as error:
            raise ApiUnavailable(f"{method} {path}: {error}") from error
        finally:
            self._observe(method, path, status, time.monotonic() - started)
        if status >= 400:  # noqa: PLR2004 - HTTP's first error code
            raise _error(f"{method} {path}", status, raw, retry_after)
        return json.loads(raw) if raw else None

    async def get(self, path: str, *, query: Mapping[str, str] | None = None, timeout: float | None = None) -> Any:
        """GET an object or a list."""
        return await self.request("GET", path, query=query, timeout=timeout)

    async def find(self, path: str, *, timeout: float | None = None) -> Any | None:
        """GET an object; None when it does not exist."""
        try:
            return await self.request("GET", path, timeout=timeout)
        except ApiNotFound:
            return None

    async def pages(self, path: str, query: Mapping[str, str] | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """List in pages; yields each page (``items`` and ``metadata``), the last one without ``continue``."""
        token = ""
        while True:
            parameters = {**(query or {}), "limit": str(LIST_PAGE_ITEMS)}
            if token:
                parameters["continue"] = token
            page = await self.get(path, query=parameters)
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def watch(
        self, path: str, query: Mapping[str, str], *, inactivity: float
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Yield watch events until the server ends the stream; silence beyond ``inactivity`` is ``ApiUnavailable``."""
        if self._session is None:
            raise RuntimeError("the client is not open")
        url = f"{self.server}{path}?{urlencode({**query, 'watch': 'true', 'allowWatchBookmarks': 'true'})}"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=min(self._timeout, inactivity), sock_read=inactivity)
        try:
            async with self._session.get(url, timeout=limits) as response:
                if response.status >= 400:  # noqa: PLR2004 - HTTP's first error code
                    raise _error(f"WATCH {path}", response.status, await response.read(), None)
                buffer = bytearray()
                async for chunk in response.content.iter_any():
                    buffer += chunk
                    while (end := buffer.find(b"\n")) >= 0:
                        line = bytes(buffer[:end])
                        del buffer[: end + 1]
                        if line:
                            yield json.loads(line)
        except TimeoutError as error:
            raise ApiUnavailable(f"WATCH {path}: silent for {inactivity:g} s") from error
        except aiohttp.ClientError as error:
            raise ApiUnavailable(f"WATCH {path}: {error}") from error


def _ssl_context(configuration: Configuration) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
        if configuration.cert_file:
            context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            "Cannot read a certificate named in the Kubernetes configuration", str(error), "Check its paths."
        ) from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _error(what: str, status: int, raw: bytes, retry_after: str | None) -> ApiError:
    """Translate an HTTP error answer; the message is the server's own, which never holds an object's data."""
    message = raw[:ERROR_BODY_BYTES].decode("utf-8", "replace")
    reason = ""
    with contextlib.suppress(ValueError, AttributeError):
        answer = json.loads(raw)
        message, reason = answer.get("message", message), answer.get("reason", "")
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    text = f"{what}: {status} {message}"
    match status:
        case 401 | 403:
            return ApiForbidden(text, status)
        case 404:
            return ApiNotFound(text, status)
        case 409:
            return ApiConflict(text, status)
        case 422 if reason == "Invalid" and "the server rejected our request due to an error" in message:
            return ApiConflict(text, status)  # a failed `test` of a JSON patch has no code of its own
        case 429 | 500 | 502 | 503 | 504:
            return ApiUnavailable(text, status, seconds)
        case _:
            return ApiInvalid(text, status)
