"""The namespace policy: who may create tenants, under which ids, and what a refusal tells."""

from __future__ import annotations

from typing import Any

import pytest

from storage_operator.resources.cluster import StorageClusterSpec
from storage_operator.resources.kinds import Kind
from storage_operator.resources.namespace_policy import Admission, admits
from tests.plugins import manifests

TEAM_A = {"team": "a", "env": "prod"}
SELECTOR: dict[str, Any] = {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}


def ask(
    rules: list[dict[str, Any]], namespace: str = "apps", tenant_id: str = "acme", labels: dict[str, str] | None = None
) -> Admission:
    """Ask the policy of a cluster in namespace ``databases``."""
    body = manifests.changed(manifests.base(Kind.STORAGE_CLUSTER), {"tenancy": {"allowedNamespaces": rules}})
    spec = manifests.parse(Kind.STORAGE_CLUSTER, body)
    assert isinstance(spec, StorageClusterSpec)
    return admits(
        spec.tenancy.allowed_namespaces,
        own_namespace="databases",
        tenant_namespace=namespace,
        labels=labels,
        tenant_id=tenant_id,
    )


def expression(operator: str, *values: str, key: str = "env") -> dict[str, Any]:
    """Return a rule with one requirement."""
    requirement: dict[str, Any] = {"key": key, "operator": operator} | ({"values": list(values)} if values else {})
    return {"from": "Selector", "selector": {"matchExpressions": [requirement]}}


@pytest.mark.parametrize(
    ("rules", "namespace", "labels", "admitted"),
    [
        pytest.param([], "databases", {}, False, id="nobody"),
        pytest.param([{"from": "Same"}], "databases", None, True, id="same"),
        pytest.param([{"from": "Same"}], "apps", {}, False, id="not-same"),
        pytest.param([{"from": "All"}], "apps", None, True, id="all"),
        pytest.param([SELECTOR], "apps", TEAM_A, True, id="label"),
        pytest.param([SELECTOR], "apps", {"team": "b"}, False, id="other-value"),
        pytest.param([SELECTOR], "apps", None, False, id="labels-unknown"),
        pytest.param([SELECTOR], "databases", {}, False, id="own-namespace-needs-the-label-too"),
        pytest.param([{"from": "Same"}, SELECTOR], "apps", TEAM_A, True, id="second-rule"),
        pytest.param([{"from": "Selector", "selector": {}}], "apps", {}, True, id="empty-selector"),
        pytest.param([expression("In", "prod", "test")], "apps", TEAM_A, True, id="in"),
        pytest.param([expression("In", "prod")], "apps", {}, False, id="in-absent"),
        pytest.param([expression("NotIn", "prod")], "apps", TEAM_A, False, id="not-in"),
        pytest.param([expression("NotIn", "prod")], "apps", {}, True, id="not-in-absent"),
        pytest.param([expression("Exists")], "apps", TEAM_A, True, id="exists"),
        pytest.param([expression("DoesNotExist")], "apps", TEAM_A, False, id="does-not-exist"),
    ],
)
def test_namespace(rules: list[dict[str, Any]], namespace: str, labels: dict[str, str] | None, admitted: bool) -> None:
    """A namespace is admitted when any rule speaks of it; nothing is admitted by ignorance."""
    assert bool(ask(rules, namespace, labels=labels)) is admitted


@pytest.mark.parametrize(("tenant_id", "admitted"), [("team-a-1", True), ("team-b-1", False), ("xteam-a-1", False)])
def test_tenant_id_pattern(tenant_id: str, admitted: bool) -> None:
    """A rule with a pattern admits only ids that match it wholly."""
    assert bool(ask([{"from": "All", "tenantIdPattern": "team-a-.*"}], tenant_id=tenant_id)) is admitted


def test_a_pattern_binds_only_its_own_rule() -> None:
    """A namespace that a second rule admits without a pattern may claim any id."""
    rules = [{"from": "All", "tenantIdPattern": "shared-.*"}, SELECTOR]
    assert ask(rules, labels=TEAM_A)
    assert not ask(rules, labels={})


def test_refusals_tell_nothing_of_the_policy() -> None:
    """A refused tenant learns that and which claim, not the rules or their labels."""
    rules = [{"from": "All", "tenantIdPattern": "internal-.*"}, SELECTOR]
    for answer in (ask(rules), ask([SELECTOR], labels={})):
        assert answer.why
        assert "internal" not in answer.why
        assert "team" not in answer.why
