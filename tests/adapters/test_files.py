"""A folder of manifests as the world: what is read, what is refused with one clear text, and what is kept privately."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from storage_operator.adapters.files import FilesWorld, load
from storage_operator.errors import SecretNotOurs, UserError
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key

TENANT = """
apiVersion: storage.llmspell.dev/v1alpha1
kind: Tenant
metadata: {name: acme, namespace: team}
spec: {tenantId: acme, clusterRef: {name: main}}
"""
KEY = Key(Kind.TENANT, "team", "acme")


def world(tmp_path: Path, text: str = TENANT) -> FilesWorld:
    """Load one manifest, keeping state beside it."""
    (tmp_path / "m.yaml").write_text(text)
    return FilesWorld(load([tmp_path / "m.yaml"]), tmp_path / "state")


REFUSED = {
    "no such file": None,
    "not YAML": "a: [",
    "not an object": "- 1",
    "no name": "kind: Tenant\nmetadata: {}",
    "unknown kind": TENANT.replace("kind: Tenant", "kind: Tenand"),
    "not base64": "kind: Secret\nmetadata: {name: s}\ndata: {a: '***'}",
    "not UTF-8": b"\xff\xfe\x00",
    "too deep": "[" * 5000,
    "name leaves the folder": TENANT.replace("name: acme, ", "name: ../../acme, "),
    "namespace leaves the folder": TENANT.replace("namespace: team", "namespace: a/b"),
    "name is a number": TENANT.replace("name: acme, ", "name: [1], "),
    "a tag of Python": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_bad_file_is_one_clear_text(tmp_path: Path, content: Any) -> None:
    """Every fault of a file is a UserError that names it, never a traceback."""
    file = tmp_path / "m.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as caught:
        load([file])
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_are_read_in_order_and_secrets_decoded(tmp_path: Path) -> None:
    """Manifests of a folder, a Secret's data and stringData, and a Namespace's labels."""
    (tmp_path / "a.yaml").write_text(
        TENANT + "---\n---\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGk=}\nstringData: {b: ho}"
    )
    (tmp_path / "b.yml").write_text("kind: Namespace\nmetadata: {name: team, labels: {x: y}}")
    (tmp_path / "c.txt").write_text("a: [")
    found = load([tmp_path])
    assert found.secrets == {("default", "s"): {"a": b"hi", "b": b"ho"}}
    assert (found.namespaces, [body["kind"] for body in found.bodies]) == ({"team": {"x": "y"}}, ["Tenant"])


async def test_a_written_secret_survives_the_process_and_is_private(tmp_path: Path) -> None:
    """The next run reads the credential from a file that nobody else can read."""
    first = world(tmp_path)
    await first.write_secret(
        "team", "s", {"k": b"\x00\xff"}, owner=first.get(KEY) or {}, labels={"l": "1"}, existing=None
    )
    again = await world(tmp_path).read_secret("team", "s")
    assert again is not None
    assert (again.data, again.labels) == ({"k": b"\x00\xff"}, {"l": "1"})
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "state").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_a_given_secret_is_never_overwritten(tmp_path: Path) -> None:
    """A Secret among the manifests belongs to whoever wrote it."""
    made = world(tmp_path, TENANT + "---\nkind: Secret\nmetadata: {name: s, namespace: team}\nstringData: {a: b}")
    with pytest.raises(SecretNotOurs):
        await made.write_secret("team", "s", {}, owner=made.get(KEY) or {}, labels={}, existing=None)


async def test_a_status_is_kept_and_a_changed_manifest_is_a_new_generation(tmp_path: Path) -> None:
    """The status comes back; an edited spec counts as the next generation, an unchanged one does not."""
    first = world(tmp_path)
    body = first.get(KEY)
    assert body is not None
    await first.patch_status(body, {"secretName": "s", "role": None, "observedGeneration": 1})
    second = world(tmp_path).get(KEY)
    assert second is not None
    assert (second["status"]["secretName"], second["metadata"]["generation"]) == ("s", 1)
    third = world(tmp_path, TENANT.replace("main", "other")).get(KEY)
    assert third is not None
    assert third["metadata"]["generation"] == 2


async def test_a_removed_resource_leaves_no_status(tmp_path: Path) -> None:
    """After a deletion nothing of it is left in the folder."""
    made = world(tmp_path)
    await made.patch_status(made.get(KEY) or {}, {"x": 1})
    made.mark_deleted(KEY)
    assert (made.get(KEY) or {})["metadata"]["deletionTimestamp"]
    await made.remove_finalizer(made.get(KEY) or {})
    assert (made.get(KEY), list((tmp_path / "state").iterdir())) == (None, [])


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    """A state file that somebody edited is told by name."""
    world(tmp_path)
    path = tmp_path / "state" / "status.tenant.team.acme.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"status\.tenant\.team\.acme\.json"):
        world(tmp_path)
    path.write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"status\.tenant\.team\.acme\.json"):
        world(tmp_path)
