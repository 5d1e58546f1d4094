"""Manifests that are wrong in every way a file can be: one clear line, exit code 1, and no server is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugins.commandline import Cli, cluster, manifest, tenant, write

COMMANDS = (("apply",), ("apply", "--dry-run"), ("delete", "--yes"), ("tenant", "plan"))

BAD_FILES = {
    "not YAML": ("a: [1", "line"),
    "a tab": ("a:\n\t- b", "line"),
    "an unknown tag": ("!!python/object:os.system {}", "cannot read"),
    "an impossible date": ("metadata: {name: x}\nspec: 2026-13-45", "cannot read"),
    "a list": ("- a\n- b", "not an object"),
    "no name": ("kind: Tenant\nmetadata: {}", "metadata.name"),
    "nothing": ("# nothing\n", "nothing to do"),
    "somebody else's kind": ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}", "nothing to do"),
    "an unknown kind": ("apiVersion: storage.llmspell.dev/v1alpha1\nkind: Tenants\nmetadata: {name: x}", "'Tenants'"),
    "a kind that is a list": ("apiVersion: storage.llmspell.dev/v1alpha1\nkind: [Tenant]\nmetadata: {name: x}", "kind"),
    "another version": ("apiVersion: storage.llmspell.dev/v9\nkind: Tenant\nmetadata: {name: x}", "apiVersion"),
    "a Secret that is not base64": ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {dsn: '%'}", "base64"),
    "a Secret that is a list": ("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: [1]", "base64"),
    "labels that are text": ("apiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: text}", "labels"),
    "nested too deeply": ("[" * 5000, "cannot read"),
    "aliases of aliases": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)),
        "unfold",
    ),
    "an alias of itself": ("a: &a [*a, *a]", "unfold"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_one_line(cli: Cli, tmp_path: Path, name: str) -> None:
    """Whatever a file holds, its name and what is wrong are told."""
    text, expected = BAD_FILES[name]
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    ran = cli("apply", "-f", str(tmp_path))
    assert ran.explains(expected), ran


def test_bytes_that_are_no_text_are_one_line(cli: Cli, tmp_path: Path) -> None:
    """A binary file with a manifest's name is refused."""
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00bad")
    assert cli("apply", "-f", str(tmp_path)).explains("cannot read")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_file_is_one_line(cli: Cli, command: tuple[str, ...]) -> None:
    """The path is named."""
    assert cli(*command, "-f", "/not/there").explains("/not/there")


BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown component": (tenant("acme", components=["KV", "Blobs"]), "spec.components"),
    "negative connections": (tenant("acme", quotas={"connections": -1}), "spec.quotas.connections"),
    "too many connections": (tenant("acme", quotas={"connections": 10**30}), "spec.quotas.connections"),
    "connections as text": (tenant("acme", quotas={"connections": "many"}), "spec.quotas.connections"),
    "negative storage": (tenant("acme", quotas={"storage": "-1Gi"}), "spec.quotas.storage"),
    "storage overflows": (tenant("acme", quotas={"storage": "9999999999999Ei"}), "spec.quotas.storage"),
    "storage is infinite": (tenant("acme", quotas={"storage": float("inf")}), "spec.quotas.storage"),
    "timeout overflows": (tenant("acme", quotas={"statementTimeout": "99999999999h"}), "spec.quotas.statementTimeout"),
    "timeout is no duration": (tenant("acme", quotas={"lockTimeout": "soon"}), "spec.quotas.lockTimeout"),
    "work_mem is negative": (tenant("acme", quotas={"workMem": "-16Mi"}), "spec.quotas.workMem"),
    "connections when sealed": (tenant("acme", isolation="Sealed", quotas={"connections": 3}), "connections"),
    "unknown field": (tenant("acme", quotta={}), "quotta"),
    "unknown isolation": (tenant("acme", isolation="Loose"), "spec.isolation"),
    "no tenant id": (manifest("Tenant", "acme", clusterRef={"name": "main"}), "spec.tenantId"),
    "spec is text": ({**tenant("acme"), "spec": "text"}, "spec"),
    "no spec": ({key: value for key, value in tenant("acme").items() if key != "spec"}, "spec"),
    "vectors of KV": (
        manifest("StorageComponent", "c", clusterRef={"name": "main"}, store="KV", vectors={}),
        "vectors",
    ),
    "unknown store": (manifest("StorageComponent", "c", clusterRef={"name": "main"}, store="Files"), "spec.store"),
    "dimension 0": (
        manifest("StorageComponent", "c", clusterRef={"name": "main"}, store="Vectors", vectors={"dimensions": [0]}),
        "spec.vectors.dimensions",
    ),
    "schema needs quotes": (cluster(schema='a"; DROP SCHEMA public'), "spec.schema"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_bad_spec_names_its_field(cli: Cli, tmp_path: Path, name: str, command: tuple[str, ...]) -> None:
    """Every command that reads manifests refuses them before it does anything."""
    body, field = BAD_SPECS[name]
    ran = cli(*command, "-f", str(write(tmp_path / "m", body)))
    assert ran.explains("not valid", field), ran


def test_every_fault_is_told_at_once(cli: Cli, tmp_path: Path) -> None:
    """Nobody has to run a command once for each mistake."""
    folder = write(tmp_path / "m", tenant("a", components=["Blobs"]), tenant("bcd", quotas={"connections": -1}))
    assert cli("apply", "-f", str(folder)).explains(
        "Tenant team/a", "spec.tenantId", "spec.components", "Tenant team/bcd"
    )


HOSTILE = [
    "ünïcödé",
    "a'b",
    'a"b',
    "'; DROP SCHEMA llmspell CASCADE; --",
    "a\x00b",
    "a\nb",
    "../../../etc/passwd",
    "\u202egnp",
    "$(id)",
    "{{ schema }}",
    "%s",
]
PLACES: dict[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.tenantId": ("spec", "tenantId"),
    "spec.clusterRef.name": ("spec", "clusterRef", "name"),
    "spec.clusterRef.namespace": ("spec", "clusterRef", "namespace"),
    "spec.isolation": ("spec", "isolation"),
    "spec.deletionPolicy": ("spec", "deletionPolicy"),
    "spec.credentials.secretName": ("spec", "credentials", "secretName"),
    "spec.credentials.keys.password": ("spec", "credentials", "keys", "password"),
    "spec.credentials.rotation.interval": ("spec", "credentials", "rotation", "interval"),
    "spec.quotas.storage": ("spec", "quotas", "storage"),
    "spec.quotas.statementTimeout": ("spec", "quotas", "statementTimeout"),
}


@pytest.mark.parametrize("field", PLACES)
def test_hostile_text_in_any_field_is_refused_in_words_of_ours(cli: Cli, tmp_path: Path, field: str) -> None:
    """Unicode, quotes, SQL, paths and terminal codes in a field are faults of that field, and are never repeated raw."""
    for text in HOSTILE:
        body: dict[str, Any] = tenant("acme")
        place = body
        for part in PLACES[field][:-1]:
            place = place.setdefault(part, {})
        place[PLACES[field][-1]] = text
        ran = cli("apply", "-f", str(write(tmp_path / "m", body)))
        assert ran.explains(field), (text, ran)
        assert not {"\x00", "\u202e", "\x1b"} & set(ran.err)


def test_a_pasted_connection_string_is_not_repeated(cli: Cli, tmp_path: Path) -> None:
    """A DSN in the wrong field would put its password into logs."""
    folder = write(tmp_path / "m", tenant("acme", isolation="postgresql://u:hidden@h/d"))
    ran = cli("apply", "-f", str(folder))
    assert ran.explains("spec.isolation")
    assert "hidden" not in ran.err


def test_a_credentials_folder_that_cannot_be_made_is_one_line(cli: Cli, tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "file").write_text("")
    folder = write(tmp_path / "m", cluster())
    assert cli("apply", "-f", str(folder), "--credentials", str(tmp_path / "file")).explains("file")


def test_foreign_content_in_the_credentials_folder_is_one_line(cli: Cli, tmp_path: Path) -> None:
    """A status that is not what the command wrote stops it, and is left as it is."""
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    (kept / "status.tenant.team.acme.json").write_text("{broken")
    folder = write(tmp_path / "m", cluster(), tenant("acme"))
    assert cli("apply", "-f", str(folder), "--credentials", str(kept)).explains("status.tenant.team.acme.json")
    assert (kept / "status.tenant.team.acme.json").read_text() == "{broken"


def test_the_longest_names_have_files_of_their_own(cli: Cli, tmp_path: Path) -> None:
    """Names as long as Kubernetes allows them do not overflow the file system, and do not collide."""
    bodies = [tenant("acme"), tenant("acme")]
    for body, last in zip(bodies, "ab", strict=True):
        body["metadata"] = {"name": ".".join(["x" * 62] * 3 + [last]), "namespace": "n" * 63}
    kept = tmp_path / "kept"
    ran = cli("apply", "-f", str(write(tmp_path / "m", *bodies)), "--credentials", str(kept), "--json")
    assert [each["reason"] for each in ran.json["resources"]] == ["ClusterNotFound", "ClusterNotFound"]
    assert len(list(kept.glob("status.tenant.*"))) == 2
