"""Component sets and components: privileges that are exactly the enabled stores', and plans that end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_operator.planning.component import (
    CreatePartitions,
    CreateVectorTable,
    ObservedComponent,
    SaveComponent,
    SetStorageParameters,
    exact_only,
    parameters_of,
    plan_component,
)
from storage_operator.planning.sets import ObservedSet, plan_set, plan_sets, wanted_privileges
from storage_operator.resources.component import StorageComponentSpec, parse
from storage_operator.resources.kinds import API_VERSION
from storage_sql.stores import STORES_BY_NAME

TABLES = ("kv_store", "sessions", "entities", "relationships", "tenant_clock", "test_table", "hook_history")
stores = st.sets(st.sampled_from(sorted(STORES_BY_NAME)), max_size=4)


def wanted(of: Any, enabled: Any) -> Any:
    """Return a set's privileges."""
    return wanted_privileges(of, enabled=enabled, tables=TABLES, schema="llmspell", database="db")


@given(stores, stores)
def test_a_disabled_store_gives_nothing(asked: set[str], enabled: set[str]) -> None:
    """A set holds what its enabled stores give; switching one off takes exactly that away."""
    assert wanted(asked, enabled) == wanted(asked & enabled, STORES_BY_NAME)
    assert wanted(asked, enabled) <= wanted(asked, STORES_BY_NAME)


@given(stores, stores)
def test_applying_a_change_leaves_nothing_to_do(before: set[str], after: set[str]) -> None:
    """From any grants to any others in one step."""
    granted, goal = wanted(before, STORES_BY_NAME), wanted(after, STORES_BY_NAME)
    change = plan_set("r", "m", goal, ObservedSet("r", tuple(before), granted))
    held = (granted | set(change.grants)) - set(change.revokes)
    assert held == goal
    assert plan_set("r", "m", goal, ObservedSet("r", tuple(after), frozenset(held))).empty


def test_a_privilege_that_nobody_gave_is_taken_away() -> None:
    """Foreign privileges on our objects go; a new set is created even when it holds nothing."""
    goal = wanted({"kv"}, {"kv"})
    observed = ObservedSet("r", ("kv",), goal | {("TABLE", "kv_store", "TRUNCATE")})
    (change,) = plan_sets([observed], {"r": goal}, {"r": "m"})
    assert (change.grants, change.revokes) == ((), (("TABLE", "kv_store", "TRUNCATE"),))
    assert plan_set("r", "m", frozenset(), None).create


def spec(store: str, **given: Any) -> StorageComponentSpec:
    """Parse a component's manifest."""
    block = {"Vectors": {"vectors": {}}, "Events": {"events": {}}, "Artifacts": {"artifacts": {}}}.get(store, {})
    body = {
        "apiVersion": API_VERSION,
        "kind": "StorageComponent",
        "metadata": {"namespace": "n", "name": "c", "uid": "u", "generation": 1},
        "spec": {"clusterRef": {"name": "main"}, "store": store, **block, **given},
    }
    parsed = parse(body)
    assert isinstance(parsed, StorageComponentSpec), parsed
    return parsed


EMPTY = ObservedComponent(True, {}, frozenset(), {}, 0)


@pytest.mark.parametrize("store", ["Vectors", "Events", "Artifacts", "KV", "Sessions"])
def test_a_component_that_was_applied_needs_nothing(store: str) -> None:
    """With row, tables, partitions and options as declared the plan is empty."""
    parsed = spec(store, autovacuum={"vacuumScaleFactor": 0.1})
    observed = replace(EMPTY, options={"t": {}})
    for action in plan_component(parsed, observed):
        match action:
            case SaveComponent(enabled=enabled, parameters=parameters):
                observed = replace(observed, enabled=enabled, parameters=dict(parameters))
            case CreateVectorTable(dimension=dimension):
                observed = replace(observed, tables=observed.tables | {f"vector_embeddings_{dimension}"})
            case CreatePartitions(ahead=ahead):
                observed = replace(observed, ahead=ahead)
            case SetStorageParameters(table=table, parameters=parameters):
                observed = replace(observed, options={table: {name: str(value) for name, value in parameters}})
    assert plan_component(parsed, observed) == ()


@pytest.mark.parametrize(
    ("dimension", "m", "construction", "threshold"),
    [
        (1, 16, 64, 7000),
        (384, 16, 64, 7000),
        (385, 16, 128, 5000),
        (768, 16, 128, 5000),
        (1536, 24, 256, 4000),
        (16000, 24, 256, 3000),
    ],
)
def test_defaults_follow_the_dimension(dimension: int, m: int, construction: int, threshold: int) -> None:
    """Index parameters and the exact threshold are those measured for the size."""
    given_ = parameters_of(spec("Vectors", vectors={"dimensions": [dimension]}))["dimensions"][str(dimension)]
    assert given_ == {"m": m, "ef_construction": construction, "exact_scan_threshold": threshold}


def test_a_threshold_of_zero_is_heeded() -> None:
    """Zero means "always the index", not "the default"."""
    parsed = spec("Vectors", vectors={"dimensions": [384], "exactScanThreshold": 0})
    assert parameters_of(parsed)["dimensions"]["384"]["exact_scan_threshold"] == 0


def test_large_dimensions_are_exact_only() -> None:
    """Above halfvec's 4,000 dimensions there is no index."""
    assert exact_only(spec("Vectors", vectors={"dimensions": [4000, 4001, 16000]})) == (4001, 16000)


def test_no_table_is_ever_dropped() -> None:
    """Fewer dimensions change the parameters only."""
    observed = replace(EMPTY, tables=frozenset({"vector_embeddings_384", "vector_embeddings_99"}))
    (action,) = plan_component(spec("Vectors", vectors={"dimensions": [384]}), observed)
    assert isinstance(action, SaveComponent)
