"""Metrics: bounded labels, and conditions counted from the objects."""

from __future__ import annotations

import pytest

from storage_operator.metrics import Metrics, count_conditions, resource_of
from storage_operator.world import Kind
from tests.plugins.operator import ready_status


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/apis/storage.llmspell.dev/v1alpha1/namespaces/a/tenants/acme/status", "tenants/status"),
        ("/apis/storage.llmspell.dev/v1alpha1/tenants", "tenants"),
        ("/api/v1/namespaces/a/secrets/login", "secrets"),
        ("/api/v1/namespaces/a/events", "events"),
        ("/api/v1/namespaces/kube-system", "namespaces"),
        ("/api/v1/secrets", "secrets"),
        ("/apis/coordination.k8s.io/v1/namespaces/a/leases/operator", "leases"),
    ],
)
def test_paths_become_resources_without_names(path: str, resource: str) -> None:
    """A label holds as many values as there are resources, not as there are objects."""
    assert resource_of(path) == resource


def test_objects_are_counted_by_condition_and_reason() -> None:
    """What was never reconciled counts as Ready Unknown."""
    bodies = [{"status": ready_status(1)}, {"status": ready_status(1)}, {}]
    assert count_conditions(bodies) == {
        ("Ready", "True", "Ready"): 2,
        ("Ready", "Unknown", "NotReconciled"): 1,
    }


def test_the_page_shows_what_was_measured() -> None:
    """One instance has one registry; two processes in a test do not mix."""
    metrics = Metrics()
    metrics.observe_phase("Tenant", "apply", "changed", 0.02)
    metrics.count_sql("provisioning", 3, 1)
    metrics.watch_conditions(lambda kind: [{"status": ready_status(1)}] if kind is Kind.TENANT else [])
    page = metrics.render().decode()
    assert 'llmspell_operator_reconcile_seconds_count{kind="Tenant",phase="apply",result="changed"} 1.0' in page
    assert 'llmspell_operator_sql_statements_total{purpose="provisioning"} 3.0' in page
    assert 'llmspell_operator_resources{condition="Ready",kind="Tenant",reason="Ready",status="True"} 1.0' in page
    assert "llmspell_operator_sql_statements_total{" not in Metrics().render().decode()
