"""What the API server makes of manifests: every default, limit, pattern and rule, and agreement with the parsers."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from tests.plugins import manifests

pytestmark = pytest.mark.cluster

# What the parser refuses and RE2 takes: the subset that is matched in linear time without RE2 is smaller.
STRICTER = {"StorageCluster-pattern-lookahead"}
SCALARS = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        1.5,
        10_001,
        2**40,
        "",
        "a",
        "A",
        "Role",
        "Sealed",
        "Vectors",
        "KV",
        "1h",
        "0s",
        "10s",
        "9s",
        "1h1ms",
        "8785h",
        "16Mi",
        "0",
        "1.5k",
        "65Ki",
        "9E",
        "mode",
        "dsn",
        "postgres",
        "a\n",
        "é",
        [],
        {},
        ["KV"],
        ["KV", "KV"],
        [384, 1],
        {"name": "x"},
        {"maxAge": "2h"},
    ]
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every field and item below a value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, entry in entries for found in [(*path, name), *leaves(entry, (*path, name))]]


@pytest.mark.parametrize("case", manifests.accepted(), ids=lambda case: case.id)
def test_accepted_and_defaulted(api_server: Any, case: manifests.Case) -> None:
    """The API server takes the manifest, and what it fills in is what the parser fills in."""
    answer = api_server.create(case.body)
    assert answer.accepted, answer.message
    defaulted = {**answer.body, "metadata": case.body["metadata"]}
    assert manifests.parse(case.kind, defaulted) == manifests.parse(case.kind, case.body)


@pytest.mark.parametrize("case", manifests.refused(), ids=lambda case: case.id)
def test_refused_at_the_field(api_server: Any, case: manifests.Case) -> None:
    """The API server refuses the manifest at the expected field, in the words of the rule where there is one."""
    answer = api_server.create(case.body)
    assert not answer.accepted
    assert case.server_fault in answer.fields, answer.message
    assert case.says in answer.message


@pytest.mark.parametrize(
    ("kind", "patch", "says"),
    [
        pytest.param(Kind.TENANT, {"tenantId": "other"}, "tenantId cannot be changed", id="tenant-id"),
        pytest.param(
            Kind.TENANT, {"clusterRef": {"name": "other"}}, "clusterRef cannot be changed", id="tenant-cluster"
        ),
        pytest.param(
            Kind.TENANT,
            {"clusterRef": {"namespace": "x"}},
            "clusterRef cannot be changed",
            id="tenant-cluster-namespace",
        ),
        pytest.param(
            Kind.STORAGE_COMPONENT,
            {"clusterRef": {"name": "x"}},
            "clusterRef cannot be changed",
            id="component-cluster",
        ),
        pytest.param(Kind.STORAGE_COMPONENT, {"store": "KV"}, "store cannot be changed", id="component-store"),
        pytest.param(Kind.STORAGE_CLUSTER, {"schema": "other"}, "schema cannot be changed", id="cluster-schema"),
        pytest.param(Kind.STORAGE_CLUSTER, {"schema": None}, "", id="cluster-schema-default-stays"),
    ],
)
def test_immutable(api_server: Any, kind: Kind, patch: dict[str, Any], says: str) -> None:
    """What decides where rows live cannot be changed once it is stored."""
    api_server.delete(kind, "case")
    assert api_server.create(manifests.base(kind), dry_run=False).accepted
    try:
        answer = api_server.patch(kind, "case", {"spec": patch})
        assert answer.accepted is (not says)
        assert says in answer.message
    finally:
        api_server.delete(kind, "case")


@given(data=st.data())
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
def test_parser_and_api_server_agree(api_server: Any, data: st.DataObject) -> None:
    """With any one or two fields of a manifest replaced, both give the same verdict, and accepted ones the same spec."""
    cases = [case for case in manifests.accepted() if case.name != "minimal"]
    case = data.draw(st.sampled_from(cases))
    body = copy.deepcopy(dict(case.body))
    for path in data.draw(st.lists(st.sampled_from(leaves(body["spec"])), min_size=1, max_size=2)):
        target = body["spec"]
        for name in path[:-1]:
            target = target[name] if isinstance(target, dict | list) and _has(target, name) else {}
        if isinstance(target, dict | list) and _has(target, path[-1]):
            target[path[-1]] = data.draw(SCALARS)
    answer = api_server.create(body)
    parsed = manifests.parse(case.kind, body)
    assert answer.accepted is not isinstance(parsed, Faults), f"{json.dumps(body['spec'])}\n{answer.message}\n{parsed}"
    if answer.accepted:
        assert manifests.parse(case.kind, {**answer.body, "metadata": body["metadata"]}) == parsed


def _has(target: dict[Any, Any] | list[Any], name: Any) -> bool:
    return name in target if isinstance(target, dict) else isinstance(name, int) and name < len(target)


def test_lookahead_is_refused_by_both(api_server: Any) -> None:
    """RE2 has no look-around either; a person learns it at once, not from the status."""
    case = next(case for case in manifests.refused() if case.id in STRICTER)
    assert not api_server.create(case.body).accepted
