"""Secrets on a real API server: ownership, exact versions, and noticing what others do to them."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage_operator.adapters.kubernetes.client import MERGE_PATCH, ApiClient
from storage_operator.adapters.kubernetes.secrets import SecretStore, SecretWatcher, secret_path
from storage_operator.errors import ApiConflict, SecretNotOurs
from storage_operator.world import Key, Kind
from tests.plugins.controlplane import Cluster
from tests.plugins.operator import tenant_manifest, until

pytestmark = pytest.mark.cluster


@dataclass
class Setting:
    """A tenant that owns Secrets, and a watcher that counts."""

    api: ApiClient
    namespace: str
    owner: dict[str, Any]
    store: SecretStore
    changed: Counter[Key]

    async def write(self, **values: bytes) -> None:
        """Write the tenant's Secret over whatever version is there."""
        existing = await self.store.read(self.namespace, "login")
        await self.store.write(self.namespace, "login", values, owner=self.owner, labels={}, existing=existing)

    @property
    def key(self) -> Key:
        """The owner."""
        return Key(Kind.TENANT, self.namespace, "acme")

    async def patch(self, patch: dict[str, Any]) -> None:
        """Edit the Secret as a person would."""
        path = secret_path(self.namespace, "login")
        await self.api.request("PATCH", path, body=patch, content_type=MERGE_PATCH)


@pytest.fixture
async def setting(api: ApiClient, installed_crds: Cluster, fresh_namespace: str) -> AsyncIterator[Setting]:
    """Give a tenant and a running watcher."""
    path = f"/apis/storage.llmspell.dev/v1alpha1/namespaces/{fresh_namespace}/tenants"
    owner = await api.request("POST", path, body=tenant_manifest(fresh_namespace, "acme"))
    found = Setting(api, fresh_namespace, owner, SecretStore(api), Counter())
    watcher = SecretWatcher(
        api, found.store, lambda key: found.changed.update([key]), namespaces=[fresh_namespace, "default"]
    )
    task = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.3)
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_our_own_writes_are_not_noticed(setting: Setting) -> None:
    """Creating, replacing and deleting by the operator leads to no reconcile, an edit among them to one."""
    await setting.write(password=b"one")
    await setting.write(password=b"two", host=b"h")
    await setting.write(password=b"three")
    written = await setting.store.read(setting.namespace, "login")
    assert written is not None
    assert written.data == {"password": b"three"}
    assert written.owner_uid == setting.owner["metadata"]["uid"]
    await setting.store.delete(setting.namespace, "login", uid=written.uid)
    await asyncio.sleep(0.5)
    assert not setting.changed


@pytest.mark.parametrize(
    "patch",
    [
        {"data": {"password": base64.b64encode(b"edited").decode()}},
        {"data": {"extra": "eA=="}},
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}},
    ],
    ids=["value", "added-key", "owner-removed", "label-removed"],
)
async def test_an_edit_is_noticed_within_seconds(setting: Setting, patch: dict[str, Any]) -> None:
    """Whatever is changed by hand, the owner is reconciled."""
    await setting.write(password=b"one")
    await asyncio.sleep(0.3)
    await setting.patch(patch)
    await until(lambda: setting.changed[setting.key])


async def test_a_deletion_is_noticed_within_seconds(setting: Setting) -> None:
    """`kubectl delete secret` is repaired, not waited out."""
    await setting.write(password=b"one")
    await asyncio.sleep(0.3)
    await setting.api.request("DELETE", secret_path(setting.namespace, "login"))
    await until(lambda: setting.changed[setting.key])


async def test_what_happened_while_the_watch_was_down_is_noticed_by_the_next_list(
    setting: Setting, installed_crds: Cluster
) -> None:
    """A watch that loses its connection compares instead of trusting that nothing happened."""
    assert installed_crds.plane is not None
    await setting.write(password=b"one")
    await asyncio.sleep(0.3)
    await asyncio.to_thread(installed_crds.plane.restart, "kube-apiserver")
    await setting.api.request("DELETE", secret_path(setting.namespace, "login"))
    await until(lambda: setting.changed[setting.key], timeout=15)


async def test_a_foreign_secret_of_that_name_is_never_touched(setting: Setting) -> None:
    """Without our owner reference a Secret is somebody else's, whatever its name and labels."""
    body = {"metadata": {"name": "login", "labels": {"app.kubernetes.io/managed-by": "llmspell-storage"}}}
    foreign = {**body, "data": {"precious": "eA=="}}
    await setting.api.request("POST", secret_path(setting.namespace), body=foreign)
    existing = await setting.store.read(setting.namespace, "login")
    assert existing is not None
    assert existing.owner_uid is None
    for given in (existing, None):
        with pytest.raises(SecretNotOurs):
            await setting.store.write(
                setting.namespace, "login", {"password": b"x"}, owner=setting.owner, labels={}, existing=given
            )
    again = await setting.store.read(setting.namespace, "login")
    assert again is not None
    assert again.resource_version == existing.resource_version


async def test_a_stale_version_is_a_conflict_and_changes_nothing(setting: Setting) -> None:
    """Two writers cannot overwrite each other unseen."""
    await setting.write(password=b"one")
    stale = await setting.store.read(setting.namespace, "login")
    await setting.write(password=b"two")
    with pytest.raises(ApiConflict):
        await setting.store.write(
            setting.namespace, "login", {"password": b"three"}, owner=setting.owner, labels={}, existing=stale
        )
    now = await setting.store.read(setting.namespace, "login")
    assert now is not None
    assert now.data == {"password": b"two"}


async def test_a_secret_made_by_a_run_that_died_is_continued(setting: Setting) -> None:
    """Creating what exists and is ours already is an update, as after a kill between create and answer."""
    await setting.write(password=b"one")
    written = await setting.store.write(
        setting.namespace, "login", {"password": b"two"}, owner=setting.owner, labels={}, existing=None
    )
    assert written.data == {"password": b"two"}


async def test_deleting_by_uid_spares_a_successor_of_the_same_name(setting: Setting) -> None:
    """A Secret that was deleted and made anew is another one."""
    await setting.write(password=b"one")
    await setting.store.delete(setting.namespace, "login", uid="00000000-0000-0000-0000-000000000000")
    assert await setting.store.read(setting.namespace, "login") is not None


async def test_a_watcher_without_rights_does_not_disturb_the_others(
    api: ApiClient, installed_crds: Cluster, setting: Setting, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Being forbidden to list Secrets is one warning, and the resync remains."""
    body = {"metadata": {"name": "poor", "namespace": setting.namespace}}
    await api.request("POST", f"/api/v1/namespaces/{setting.namespace}/serviceaccounts", body=body)
    token = await api.request(
        "POST",
        f"/api/v1/namespaces/{setting.namespace}/serviceaccounts/poor/token",
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    config = yaml.safe_load(installed_crds.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token["status"]["token"]}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    poor = await ApiClient.connect(str(tmp_path / "kubeconfig"))
    watcher = SecretWatcher(poor, SecretStore(poor), lambda _: None, namespaces=[setting.namespace])
    task = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.5)
    assert not task.done()
    assert sum("noticed only at the next resync" in record.message for record in caplog.records) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await poor.aclose()
