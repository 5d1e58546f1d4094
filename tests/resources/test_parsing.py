"""The parsers: the table of manifests, defaults, hostile documents of every shape."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_operator.resources.cluster import StorageClusterSpec
from storage_operator.resources.component import StorageComponentSpec
from storage_operator.resources.faults import Fault, Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.names import StoreKind
from storage_operator.resources.references import ClusterReference
from storage_operator.resources.tenant import TenantSpec
from storage_sql.stores import STANDARD_DIMENSIONS
from tests.plugins import manifests

HOSTILE = {
    "empty": "",
    "blank": " ",
    "quote": "a'; DROP ROLE postgres; --",
    "double-quote": 'a"; DROP SCHEMA llmspell CASCADE; --',
    "dollar-quote": "$$; SELECT 1; $$",
    "backslash": "a\\'; --",
    "nul": "acme\x00",
    "line-break": "acme\n",
    "unicode": "\uff41\uff43\uff4d\uff45",
    "right-to-left": "acme\u202etxet",
    "combining": "e\u0301cole",
    "lone-surrogate": "acme\ud800",
    "template": "{{ 7 * 7 }}",
    "path": "../../etc/passwd",
    "long": "a" * 70_000,
    "emoji": "🦙🦙🦙",
    "uri": "postgresql://admin:s3cret@db/prod",
}


def string_fields(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every string below a value."""
    if isinstance(value, str):
        return [path]
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for name, entry in entries for found in string_fields(entry, (*path, name))]


def replaced(body: Any, path: tuple[Any, ...], text: Any) -> Any:
    """Return a copy of the body with one value replaced."""
    result = copy.deepcopy(body)
    target = result
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = text
    return result


FULL = [case for case in manifests.accepted() if case.name in ("everything", "vectors", "events-for-ever", "retention")]
# Nearly any printable text is a pattern for tenant ids; test_tenant_id_patterns has the hostile ones.
PATHS = [
    (case, path)
    for case in FULL
    for path in string_fields({"spec": case.body["spec"], "metadata": case.body["metadata"]})
    if path[-1] != "tenantIdPattern"
]
FIELDS = [pytest.param(case, path, id=f"{case.kind}-{'.'.join(map(str, path))}") for case, path in PATHS]
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(HOSTILE.values())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("case", manifests.accepted(), ids=lambda case: case.id)
def test_accepted_manifest_becomes_a_spec(case: manifests.Case) -> None:
    """Every manifest of the table that is right parses, strictly too."""
    parsed = manifests.parse(case.kind, case.body, strict=True)
    assert not isinstance(parsed, Faults), str(parsed)
    assert parsed.metadata.name == "case"


@pytest.mark.parametrize("case", manifests.refused(), ids=lambda case: case.id)
def test_refused_manifest_names_the_field(case: manifests.Case) -> None:
    """Every manifest of the table that is wrong gives exactly one fault, at the field that a person must change."""
    parsed = manifests.parse(case.kind, case.body)
    assert isinstance(parsed, Faults)
    assert parsed.paths == (case.fault,)


def test_every_fault_is_reported_at_once() -> None:
    """One look at the status is enough to put everything right."""
    body = manifests.changed(
        manifests.base(Kind.TENANT),
        {"tenantId": "NO", "isolation": "X", "quotas": {"connections": 0, "storage": "lots"}, "suspended": 1},
    )
    parsed = manifests.parse(Kind.TENANT, body)
    assert isinstance(parsed, Faults)
    assert set(parsed.paths) == {
        "spec.tenantId",
        "spec.isolation",
        "spec.quotas.connections",
        "spec.quotas.storage",
        "spec.suspended",
    }


def test_tenant_defaults() -> None:
    """A tenant of two fields has every other one filled in."""
    parsed = manifests.parse(Kind.TENANT, manifests.base(Kind.TENANT))
    assert isinstance(parsed, TenantSpec)
    assert parsed.cluster == ClusterReference(namespace="default", name="main")
    assert parsed.components is None
    assert parsed.credentials.secret_name == "case-storage"
    assert parsed.credentials.rotation.overlap_seconds == 3600.0
    assert (parsed.isolation.value, parsed.deletion_policy.value, parsed.suspended) == ("Role", "Retain", False)


def test_tenant_units() -> None:
    """Durations become milliseconds or seconds, quantities kilobytes or bytes, stores come in one order."""
    case = next(case for case in manifests.accepted() if case.id == "Tenant-everything")
    parsed = manifests.parse(Kind.TENANT, case.body)
    assert isinstance(parsed, TenantSpec)
    assert parsed.components == (StoreKind.VECTORS, StoreKind.KEY_VALUE)
    assert (parsed.quotas.statement_timeout_ms, parsed.quotas.lock_timeout_ms) == (30_000, 1)
    assert (parsed.quotas.work_mem_kb, parsed.quotas.storage_bytes) == (16_384, 10 * 1024**3)
    assert parsed.credentials.rotation.interval_seconds == 720 * 3600.0
    assert (parsed.credentials.keys.host, parsed.credentials.keys.port) == ("PGHOST", "port")


def test_component_defaults() -> None:
    """The parameters of vectors and the ages of events have the documented defaults; 0s means never."""
    vectors = manifests.changed(manifests.base(Kind.STORAGE_COMPONENT), {"store": "Vectors", "vectors": {}})
    events = manifests.changed(
        manifests.base(Kind.STORAGE_COMPONENT), {"store": "Events", "events": {"dropAfter": "0s"}}
    )
    parsed = [manifests.parse(Kind.STORAGE_COMPONENT, body) for body in (vectors, events)]
    assert all(isinstance(each, StorageComponentSpec) for each in parsed)
    assert parsed[0].vectors.dimensions == STANDARD_DIMENSIONS  # type: ignore[union-attr]
    assert parsed[1].events.archive_after_seconds == 90 * 86_400  # type: ignore[union-attr]
    assert parsed[1].events.drop_after_seconds is None  # type: ignore[union-attr]


def test_adoption_is_found_by_tenant_id() -> None:
    """The namespace that may adopt a tenant id is looked up on the cluster's side."""
    case = next(case for case in manifests.accepted() if case.id == "StorageCluster-everything")
    parsed = manifests.parse(Kind.STORAGE_CLUSTER, case.body)
    assert isinstance(parsed, StorageClusterSpec)
    assert parsed.tenancy.adoption_namespace("old-one") == "team-a"
    assert parsed.tenancy.adoption_namespace("other") is None
    assert parsed.tls.mode.sslmode == "verify-full"


@pytest.mark.parametrize(("case", "path"), FIELDS)
def test_hostile_strings_are_refused_in_every_field(case: manifests.Case, path: tuple[Any, ...]) -> None:
    """No string field takes SQL, Unicode, control characters or 70,000 characters, and no message repeats them."""
    taken = []
    for name, text in HOSTILE.items():
        if name == "empty" and "selector" in path:
            continue  # An empty value of a label is a value, in Kubernetes too.
        parsed = manifests.parse(case.kind, replaced(dict(case.body), path, text))
        if not isinstance(parsed, Faults):
            taken.append(name)
            continue
        message = str(parsed)
        assert message.replace("…", "").isascii()
        assert len(message) < 2_000
        assert "s3cret" not in message
    assert taken == []


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("body", [None, 0, "", [], {}, {"spec": None}, {"spec": []}, {"metadata": "x", "spec": {}}])
def test_what_is_no_object_is_faults(kind: Kind, body: object) -> None:
    """Documents without an object where one belongs are faults, not errors."""
    assert isinstance(manifests.parse(kind, body), Faults)


@given(body=ANY_JSON, spec=ANY_JSON, kind=st.sampled_from(Kind))
@settings(max_examples=100, deadline=None)
def test_any_json_is_spec_or_faults(kind: Kind, body: Any, spec: Any) -> None:
    """Whatever JSON is given, as document, as spec or as fields of it, parsing ends in a spec or in faults."""
    fields = [*manifests.base(kind)["spec"], "quotas", "credentials", "tenantId", "vectors", "store"]
    for document in (body, manifests.manifest(kind, spec), manifests.manifest(kind, dict.fromkeys(fields, spec))):
        for strict in (False, True):
            parsed = manifests.parse(kind, document, strict=strict)
            assert isinstance(parsed, Faults) is not hasattr(parsed, "metadata")
            str(parsed).encode("utf-8", "strict")


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_value_in_any_field_is_spec_or_faults(data: st.DataObject) -> None:
    """One field of a full manifest at a time is replaced by anything at all."""
    case, path = data.draw(st.sampled_from(PATHS))
    parsed = manifests.parse(case.kind, replaced(dict(case.body), path, data.draw(ANY_JSON)))
    if isinstance(parsed, Faults):
        assert all(isinstance(fault, Fault) and fault.path for fault in parsed)


def test_unknown_fields_are_reported_only_when_strict() -> None:
    """A typing error in a file is a fault; a field of a newer release on an object of the cluster is not."""
    body = manifests.changed(manifests.base(Kind.TENANT), {"tenantID": "x", "quotas": {"conections": 1}})
    assert isinstance(manifests.parse(Kind.TENANT, body), TenantSpec)
    parsed = manifests.parse(Kind.TENANT, body, strict=True)
    assert isinstance(parsed, Faults)
    assert set(parsed.paths) == {"spec.tenantID", "spec.quotas.conections"}


def test_other_kind_is_refused() -> None:
    """A parser does not read an object of another kind or version."""
    body = manifests.base(Kind.TENANT) | {"kind": "StorageCluster", "apiVersion": "storage.llmspell.dev/v2"}
    parsed = manifests.parse(Kind.TENANT, body)
    assert isinstance(parsed, Faults)
    assert parsed.paths == ("apiVersion", "kind")


def test_thousand_faults_are_cut_and_counted() -> None:
    """A document made of faults gives a bounded message."""
    rules = [{"from": "x", "tenantIdPattern": 1, "selector": 3}] * 400
    body = manifests.changed(manifests.base(Kind.STORAGE_CLUSTER), {"tenancy": {"allowedNamespaces": rules}})
    parsed = manifests.parse(Kind.STORAGE_CLUSTER, body)
    assert isinstance(parsed, Faults)
    assert len(parsed) <= 200
    assert "more" in str(parsed)
    assert len(str(parsed)) < 4_000
