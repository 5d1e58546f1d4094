"""The definitions themselves: documented, bounded, named alike, and with a status that the operator can write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage_operator.resources import conditions
from storage_operator.resources.conditions import Condition, ConditionStatus, ConditionType, Reason
from storage_operator.resources.kinds import Kind
from storage_operator.resources.names import StoreKind
from storage_operator.resources.status import (
    ConnectionCounts,
    Extension,
    Partitions,
    StorageClusterStatus,
    StorageComponentStatus,
    TenantCounts,
    TenantStatus,
    Usage,
)
from tests.plugins import manifests

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
READY = conditions.merge((), [Condition(ConditionType.READY, ConditionStatus.TRUE, Reason.READY, "", 1)], NOW)
STATUSES = {
    Kind.STORAGE_CLUSTER: StorageClusterStatus(
        1,
        READY,
        "18.1",
        (Extension("vector", "0.8.5"),),
        "abcd2345",
        15,
        ("16 more",),
        TenantCounts(2, 1),
        ConnectionCounts(100, 30),
        NOW,
    ),
    Kind.STORAGE_COMPONENT: StorageComponentStatus(1, READY, ("event_log",), (5000,), Partitions(4, NOW)),
    Kind.TENANT: TenantStatus(
        1, READY, "llmspell_x", "case-storage", 15, (StoreKind.KEY_VALUE,), Usage(1, 2, NOW), NOW, NOW, NOW, "1"
    ),
}
COLUMNS = {"Ready", "Reason", "Age"}


def definition(kind: Kind) -> Any:
    """Return a definition from crds/."""
    return yaml.safe_load((Path(__file__).parents[2] / "crds" / f"{kind.plural}.yaml").read_text(encoding="utf-8"))


def schema(kind: Kind) -> Any:
    """Return the schema of the only version."""
    (version,) = definition(kind)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def walk(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Go through the schema of every field, item and value."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in node:
        yield from walk(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        yield from walk(node["additionalProperties"], f"{path}{{}}")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_field_is_described(kind: Kind) -> None:
    """`kubectl explain` has a sentence for every named field."""
    bare = [
        path
        for path, node in walk(schema(kind), kind)
        if not path.endswith(("[]", "{}", ".metadata")) and not str(node.get("description", "")).endswith(".")
    ]
    assert bare == []


@pytest.mark.parametrize("kind", list(Kind))
def test_every_field_of_the_spec_is_bounded(kind: Kind) -> None:
    """Each string, list, map and number of a spec has a limit: the cost of rules and the size of objects stay small."""
    bounds = {"string": ("maxLength", "enum"), "array": ("maxItems",), "integer": ("maximum",), "number": ("maximum",)}
    loose = [
        path
        for path, node in walk(schema(kind)["properties"]["spec"], "spec")
        if (node.get("type") in bounds and not any(bound in node for bound in bounds[node["type"]]))
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert loose == []


@pytest.mark.parametrize("kind", list(Kind))
def test_conventions(kind: Kind) -> None:
    """Names, category, status subresource, printer columns and the list of conditions are as everywhere."""
    spec = definition(kind)["spec"]
    (version,) = spec["versions"]
    listed = schema(kind)["properties"]["status"]["properties"]["conditions"]
    assert (spec["names"]["plural"], spec["names"]["categories"], spec["scope"]) == (
        kind.plural,
        ["llmspell"],
        "Namespaced",
    )
    assert spec["names"]["shortNames"]
    assert version["subresources"] == {"status": {}}
    assert {column["name"] for column in version["additionalPrinterColumns"]} >= COLUMNS
    assert (listed["x-kubernetes-list-type"], listed["x-kubernetes-list-map-keys"]) == ("map", ["type"])


def test_stores_are_the_same_everywhere() -> None:
    """The enumerations of stores in the definitions are the stores."""
    component = schema(Kind.STORAGE_COMPONENT)["properties"]["spec"]["properties"]["store"]["enum"]
    tenant = schema(Kind.TENANT)["properties"]["spec"]["properties"]["components"]["items"]["enum"]
    assert component == tenant == [store.value for store in StoreKind]


@pytest.mark.cluster
@pytest.mark.parametrize("kind", list(Kind))
def test_status_is_stored_whole(api_server: Any, kind: Kind) -> None:
    """No field that the operator writes into a status is pruned or refused, and nulls clear what was there."""
    api_server.delete(kind, "case")
    api_server.create(manifests.base(kind), dry_run=False)
    fields = STATUSES[kind].as_fields()
    try:
        answer = api_server.patch(kind, "case", {"status": fields}, subresource="/status")
        assert answer.accepted, answer.message
        assert answer.body["status"] == fields
        assert conditions.read_conditions(answer.body) == READY
        emptied = type(STATUSES[kind])(2, READY).as_fields()
        cleared = api_server.patch(kind, "case", {"status": emptied}, subresource="/status")
        assert cleared.body["status"] == {name: value for name, value in emptied.items() if value is not None}
    finally:
        api_server.delete(kind, "case")


@pytest.mark.cluster
def test_explain_reads_well(control_plane: Any, api_server: Any) -> None:
    """A person who asks kubectl about a tenant gets every field with its description."""
    shown = control_plane.run("explain", "tenant.spec").stdout
    fields = schema(Kind.TENANT)["properties"]["spec"]["properties"]
    assert all(f"  {name}\t<" in shown for name in fields)
    assert "Id of the tenant in every row" in shown
    assert "<no description>" not in control_plane.run("explain", "--recursive=false", "tenant.spec.quotas").stdout


@pytest.mark.cluster
def test_columns_and_names(control_plane: Any, api_server: Any) -> None:
    """Short names and the category work, and a table shows Ready and its reason."""
    api_server.delete(Kind.TENANT, "case")
    api_server.create(manifests.base(Kind.TENANT), dry_run=False)
    api_server.patch(Kind.TENANT, "case", {"status": STATUSES[Kind.TENANT].as_fields()}, subresource="/status")
    try:
        table = control_plane.run("get", "tn", "-n", "default").stdout
        assert table.split("\n")[0].split() == ["NAME", "TENANT", "CLUSTER", "ISOLATION", "READY", "REASON", "AGE"]
        assert table.split("\n")[1].split()[:6] == ["case", "acme", "main", "Role", "True", "Ready"]
        control_plane.run("get", "stc,scomp", "-n", "default")
        assert "tenant.storage.llmspell.dev/case" in control_plane.run("get", "llmspell", "-n", "default").stdout
        control_plane.run("wait", "tenant/case", "-n", "default", "--for=condition=Ready", "--timeout=60s")
    finally:
        api_server.delete(Kind.TENANT, "case")
