"""The chart's roles are enough for everything that the operator does to a cluster: its own code, as its own account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.adapters.kubernetes.lease import Lease
from storage_operator.adapters.kubernetes.objects import KubernetesWorld, collection_path
from storage_operator.adapters.kubernetes.secrets import secret_path
from storage_operator.errors import ApiError
from storage_operator.resources.kinds import API_VERSION, Kind
from storage_operator.world import Key

pytestmark = pytest.mark.cluster

NAME = "demo-llmspell-storage"
CHART = Path(__file__).parents[2] / "charts" / "llmspell-storage"


@pytest.fixture
def release(chart: Any, control_plane: Any, fresh_namespace: str) -> Iterator[str]:
    """Install the chart's objects but for the definitions' ownership, and give the namespace."""
    rendered = chart.template(namespace=fresh_namespace).objects
    for each in rendered:
        control_plane.run("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=each)
    control_plane.wait_until_defined()
    yield fresh_namespace
    # The namespace goes with what is in it; these are not in it.
    for each in rendered:
        if each["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            control_plane.run("delete", each["kind"], each["metadata"]["name"])


@pytest.fixture
async def client(control_plane: Any, release: str, tmp_path: Path) -> AsyncIterator[ApiClient]:
    """Give a client that is logged in as the operator's service account."""
    config = yaml.safe_load(control_plane.kubeconfig.read_text(encoding="utf-8"))
    token = control_plane.run("create", "token", NAME, "-n", release).stdout.strip()
    config["users"][0]["user"] = {"token": token}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    found = await ApiClient.connect(str(path))
    yield found
    await found.aclose()


@pytest.fixture
async def world(client: ApiClient) -> AsyncIterator[KubernetesWorld]:
    """Give the operator's world, opened as its service account."""
    found = KubernetesWorld(client)
    await found.open()
    yield found
    await found.aclose()


async def test_a_tenant_is_worked_on_from_birth_to_death(
    world: KubernetesWorld, control_plane: Any, release: str
) -> None:
    """Finalizer, Secret, status, Event and their removal are all within the roles."""
    control_plane.apply(
        {
            "apiVersion": API_VERSION,
            "kind": "Tenant",
            "metadata": {"name": "acme", "namespace": release},
            "spec": {"tenantId": "acme", "clusterRef": {"name": "main"}},
        }
    )
    body = await world.fetch(Key(Kind.TENANT, release, "acme"))
    assert body is not None
    body = await world.add_finalizer(body)
    written = await world.write_secret(release, "acme-storage", {"dsn": b"x"}, owner=body, labels={}, existing=None)
    await world.write_secret(release, "acme-storage", {"dsn": b"y"}, owner=body, labels={}, existing=written)
    await world.patch_status(body, {"observedGeneration": 1, "role": "llmspell_x"})
    await world.emit(body, "Normal", "Ready", "done")
    found = await world.read_secret(release, "acme-storage")
    assert found is not None
    assert found.data == {"dsn": b"y"}
    await world.delete_secret(release, "acme-storage", uid=found.uid)
    control_plane.run("delete", "tenant", "acme", "-n", release, "--wait=false")
    await world.remove_finalizer(body)
    assert await world.fetch(Key(Kind.TENANT, release, "acme")) is None
    assert await world.namespace_labels(release) is not None


async def test_lists_and_watches(client: ApiClient, release: str) -> None:
    """The kinds and Secrets of a watched namespace are listed; those of another namespace are not."""
    for path in [*(collection_path(kind, release) for kind in Kind), secret_path(release)]:
        assert [page async for page in client.pages(path)]
    for path in (collection_path(Kind.TENANT, "default"), collection_path(Kind.TENANT), secret_path("kube-system")):
        with pytest.raises(ApiError, match="403"):
            await client.get(path)


async def test_lease(client: ApiClient, release: str) -> None:
    """The account takes, renews and gives back the Lease of the chart's name, and no other."""
    lease = Lease(client, namespace=release, name=NAME, identity="one")
    await lease.acquire()
    assert lease.leading
    await lease.release()
    assert not lease.leading
    with pytest.raises(ApiError, match="403"):
        await client.get(f"/apis/coordination.k8s.io/v1/namespaces/{release}/leases/other")
