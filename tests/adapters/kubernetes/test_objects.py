"""Status, finalizers and Events on a real API server, and what happens when others write at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage_operator.adapters.kubernetes.client import JSON_PATCH, MERGE_PATCH, ApiClient
from storage_operator.adapters.kubernetes.objects import KubernetesWorld, merge_patch, object_path
from storage_operator.errors import ApiConflict
from storage_operator.world import FINALIZER, Body, Key, Kind
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import ready_status, tenant_manifest

pytestmark = pytest.mark.cluster


class Requests(list[tuple[str, int]]):
    """The requests of a client, as (method, code)."""

    def __call__(self, method: str, _path: str, status: int, _seconds: float) -> None:
        """Remember one."""
        self.append((method, status))


@pytest.fixture
def requests() -> Requests:
    """Give a record of requests."""
    return Requests()


@pytest.fixture
async def world(installed_crds: Cluster, requests: Requests) -> AsyncIterator[KubernetesWorld]:
    """Give an open world."""
    client = await ApiClient.connect(str(installed_crds.kubeconfig), observe=requests)
    found = KubernetesWorld(client)
    await found.open()
    yield found
    await found.aclose()
    await client.aclose()


@pytest.fixture
async def tenant(world: KubernetesWorld, api: ApiClient, fresh_namespace: str, requests: Requests) -> Body:
    """Give a tenant that the world knows."""
    path = f"/apis/storage.llmspell.dev/v1alpha1/namespaces/{fresh_namespace}/tenants"
    await api.request("POST", path, body=tenant_manifest(fresh_namespace, "acme"))
    body = await world.fetch(Key(Kind.TENANT, fresh_namespace, "acme"))
    assert body is not None
    requests.clear()
    return body


async def edit(api: ApiClient, body: Body, patch: dict[str, Any]) -> None:
    """Change an object behind the world's back."""
    await api.request("PATCH", object_path(Key.of(body)), body=patch, content_type=MERGE_PATCH)


async def test_an_equal_status_sends_nothing(world: KubernetesWorld, tenant: Body, requests: Requests) -> None:
    """A reconcile that found nothing to do costs no request."""
    await world.patch_status(tenant, ready_status(1, role="r", components=("Kv",)))
    await world.patch_status(tenant, ready_status(1, role="r", components=["Kv"], secretName=None))
    assert requests == [("PATCH", 200)]


async def test_a_field_that_left_the_status_leaves_the_object(world: KubernetesWorld, tenant: Body) -> None:
    """The status is what was given, not a heap of everything that was ever given."""
    await world.patch_status(tenant, ready_status(1, role="r"))
    await world.patch_status(tenant, ready_status(1))
    live = await world.fetch(Key.of(tenant))
    assert live is not None
    assert "role" not in live["status"]


async def test_an_unrelated_edit_does_not_cost_the_status(
    world: KubernetesWorld, api: ApiClient, tenant: Body, requests: Requests
) -> None:
    """A label set during the reconcile is a conflict that resolves itself: 409, one read, one more patch."""
    await edit(api, tenant, {"metadata": {"labels": {"team": "blue"}}})
    await world.patch_status(tenant, ready_status(1))
    assert requests == [("PATCH", 409), ("GET", 200), ("PATCH", 200)]


async def test_a_status_for_a_spec_that_changed_meanwhile_is_a_conflict(
    world: KubernetesWorld, api: ApiClient, tenant: Body
) -> None:
    """What was made Ready is no longer what is asked for, so it is not reported."""
    await edit(api, tenant, {"spec": {"suspended": True}})
    with pytest.raises(ApiConflict):
        await world.patch_status(tenant, ready_status(1))
    live = await world.fetch(Key.of(tenant))
    assert live is not None
    assert "status" not in live


async def test_the_status_of_an_object_that_is_gone_or_replaced_is_not_written(
    world: KubernetesWorld, api: ApiClient, tenant: Body
) -> None:
    """A successor of the same name starts with a status of its own."""
    await api.request("DELETE", object_path(Key.of(tenant)))
    await world.patch_status(tenant, ready_status(1))
    path = object_path(Key.of(tenant)).rpartition("/")[0]
    await api.request("POST", path, body=tenant_manifest(tenant["metadata"]["namespace"], "acme"))
    with pytest.raises(ApiConflict):
        await world.patch_status(tenant, ready_status(1))


async def test_our_finalizer_comes_and_goes_among_others(
    world: KubernetesWorld, api: ApiClient, tenant: Body, requests: Requests
) -> None:
    """Nobody else's finalizer is lost, although the list changed after we read it."""
    await edit(api, tenant, {"metadata": {"finalizers": ["example.com/theirs"]}})
    body = await world.add_finalizer(tenant)
    assert body["metadata"]["finalizers"] == ["example.com/theirs", FINALIZER]
    assert await world.add_finalizer(body) is body
    assert [method for method, _ in requests] == ["PATCH", "GET", "PATCH"]
    prepend = [{"op": "add", "path": "/metadata/finalizers/0", "value": "example.com/more"}]
    await api.request("PATCH", object_path(Key.of(body)), body=prepend, content_type=JSON_PATCH)
    await world.remove_finalizer(body)
    live = await world.fetch(Key.of(body))
    assert live is not None
    assert live["metadata"]["finalizers"] == ["example.com/more", "example.com/theirs"]
    await edit(api, tenant, {"metadata": {"finalizers": None}})


async def test_removing_the_last_finalizer_of_a_deleted_object_forgets_it(
    world: KubernetesWorld, api: ApiClient, tenant: Body
) -> None:
    """The cache does not wait for the watch to learn what our own patch did."""
    await world.add_finalizer(tenant)
    await api.request("DELETE", object_path(Key.of(tenant)))
    body = await world.fetch(Key.of(tenant))
    assert body is not None
    assert body["metadata"]["deletionTimestamp"]
    await world.remove_finalizer(body)
    assert world.get(Key.of(tenant)) is None
    await world.remove_finalizer(body)
    assert await api.find(object_path(Key.of(tenant))) is None


async def test_a_relist_repairs_what_a_watch_missed(
    world: KubernetesWorld, api: ApiClient, tenant: Body, fresh_namespace: str
) -> None:
    """New, changed and vanished objects are found by comparing."""
    path = object_path(Key.of(tenant)).rpartition("/")[0]
    await api.request("POST", path, body=tenant_manifest(fresh_namespace, "new"))
    await api.request("DELETE", object_path(Key.of(tenant)))
    assert await world.relist(Kind.TENANT, fresh_namespace) == 2
    assert world.get(Key.of(tenant)) is None
    assert world.get(Key(Kind.TENANT, fresh_namespace, "new")) is not None
    assert await world.relist(Kind.TENANT, fresh_namespace) == 0


async def test_an_event_is_recorded_once_for_each_transition(
    world: KubernetesWorld, api: ApiClient, tenant: Body, fresh_namespace: str
) -> None:
    """Repeating a failure is one Event; what follows it is another."""
    for reason in ("Unreachable", "Unreachable", "Ready", "Unreachable"):
        await world.emit(tenant, "Warning" if reason == "Unreachable" else "Normal", reason, "because")
    await world.events.aclose()
    found = await api.get(f"/api/v1/namespaces/{fresh_namespace}/events")
    assert sorted(event["reason"] for event in found["items"]) == ["Ready", "Unreachable", "Unreachable"]
    assert {event["involvedObject"]["uid"] for event in found["items"]} == {tenant["metadata"]["uid"]}


async def test_namespace_labels_are_read_and_none_means_missing(world: KubernetesWorld, fresh_namespace: str) -> None:
    """A namespace's labels decide who may use a cluster."""
    labels = await world.namespace_labels(fresh_namespace)
    assert labels is not None
    assert labels["kubernetes.io/metadata.name"] == fresh_namespace
    assert await world.namespace_labels("no-such-namespace") is None
    assert len(world.cluster_uid) == 36
    await asyncio.sleep(0)


def test_a_merge_patch_holds_only_the_difference() -> None:
    """Nested mappings are merged, lists replaced, missing names removed."""
    before = {"a": 1, "b": {"c": 1, "d": 2}, "l": [1], "gone": True}
    after = {"a": 1, "b": {"c": 1, "d": 3}, "l": [1, 2]}
    assert merge_patch(before, after) == {"b": {"d": 3}, "l": [1, 2], "gone": None}
    assert merge_patch(after, after) == {}
