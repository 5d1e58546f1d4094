"""The REST client: credentials that change, servers that hang, and errors with one meaning each."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage_operator.adapters.kubernetes import client as module
from storage_operator.adapters.kubernetes.client import JSON_PATCH, REQUEST_TIMEOUT_SECONDS, ApiClient
from storage_operator.adapters.kubernetes.session import SessionSource
from storage_operator.errors import ApiConflict, ApiForbidden, ApiInvalid, ApiNotFound, ApiUnavailable, UserError
from tests.plugins.controlplane import Cluster

pytestmark = pytest.mark.cluster
Configure = Callable[[str], Path]


@pytest.fixture
def configure(control_plane: Cluster, tmp_path: Path) -> Configure:
    """Give a function that writes a kubeconfig with a token."""

    def write(token: str) -> Path:
        config = yaml.safe_load(control_plane.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token or config["users"][0]["user"]["token"]}
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


async def test_a_rotated_token_is_read_again_after_a_401(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """No restart when credentials change on disk: for requests, and for the sessions of the watches."""
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.0)
    client = await ApiClient.connect(str(configure("expired")))
    session = await SessionSource(client).open()
    with pytest.raises(ApiForbidden):
        await client.get("/api/v1/namespaces")
    configure("")
    assert (await client.get("/api/v1/namespaces"))["items"]
    async with session.get(f"{client.server}/api/v1/namespaces") as response:
        assert response.status == 200
    await session.close()
    await client.aclose()


async def test_every_request_ends_within_its_time_out(control_plane: Cluster, api: ApiClient) -> None:
    """A server that takes connections and never answers costs the time-out, not minutes."""
    assert control_plane.plane is not None
    await api.get("/api/v1/namespaces")
    control_plane.plane.kill("kube-apiserver", signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(ApiUnavailable, match=r"no answer in 0\.5 s"):
            await api.get("/api/v1/namespaces", timeout=0.5)
        with pytest.raises(ApiUnavailable, match="silent"):
            async for _ in api.watch("/api/v1/namespaces", {}, inactivity=0.5):
                pass
        # Neither the time-out of all requests, which is ten times as long, nor that of all watches.
        assert time.monotonic() - started < REQUEST_TIMEOUT_SECONDS
    finally:
        control_plane.plane.kill("kube-apiserver", signal.SIGCONT)


async def test_each_answer_has_one_error(api: ApiClient, fresh_namespace: str) -> None:
    """Callers decide by class, never by text or number."""
    maps = f"/api/v1/namespaces/{fresh_namespace}/configmaps"
    body: dict[str, Any] = {"metadata": {"name": "one"}}
    await api.request("POST", maps, body=body)
    with pytest.raises(ApiConflict):
        await api.request("POST", maps, body=body)
    with pytest.raises(ApiNotFound):
        await api.get(f"{maps}/two")
    with pytest.raises(ApiInvalid):
        await api.request("POST", maps, body={"metadata": {"name": "Not Valid"}})
    failed_test = [{"op": "test", "path": "/metadata/name", "value": "other"}]
    with pytest.raises(ApiConflict):
        await api.request("PATCH", f"{maps}/one", body=failed_test, content_type=JSON_PATCH)
    assert await api.find(f"{maps}/two") is None


async def test_a_server_that_is_not_there_is_unavailable(configure: Configure) -> None:
    """A refused connection is worth a retry."""
    path = configure("")
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path.write_text(yaml.safe_dump(config))
    client = await ApiClient.connect(str(path))
    with pytest.raises(ApiUnavailable):
        await client.get("/api/v1/namespaces")
    await client.aclose()


async def test_lists_come_in_pages(api: ApiClient, fresh_namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of objects are never one answer."""
    monkeypatch.setattr(module, "LIST_PAGE_ITEMS", 2)
    maps = f"/api/v1/namespaces/{fresh_namespace}/configmaps"
    await asyncio.gather(*(api.request("POST", maps, body={"metadata": {"name": f"m{n}"}}) for n in range(5)))
    pages = [page async for page in api.pages(maps, {"fieldSelector": "metadata.name!=kube-root-ca.crt"})]
    assert [len(page["items"]) for page in pages] == [2, 2, 1]


@pytest.mark.parametrize(
    "content", [None, "not: [valid", "apiVersion: v1\nkind: Config\n"], ids=["no", "broken", "empty"]
)
async def test_a_kubeconfig_that_cannot_be_used_is_a_clear_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """The path is in the message, and no traceback follows."""
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(UserError):
        await ApiClient.connect()
