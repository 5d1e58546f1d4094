"""Role names never collide or overflow, and each store grants exactly its tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_sql import stores
from storage_sql.roles import RoleNames

NAMES = RoleNames("abcdefg2")
TENANTS = st.from_regex(r"[a-z0-9-]{3,255}", fullmatch=True)


@given(TENANTS, TENANTS)
def test_tenant_logins_are_distinct_and_fit(one: str, other: str) -> None:
    """Names of any length fit 63 bytes and differ for different tenants and slots."""
    logins = {NAMES.tenant_login(tenant, slot) for tenant in (one, other) for slot in "ab"}
    assert len(logins) == 2 * len({one, other})
    assert all(len(login.encode()) <= 63 for login in logins)
    assert NAMES.shard(one) in NAMES.shards


def test_installations_never_meet() -> None:
    """No role of one installation has the name of a role of another."""
    other = RoleNames("abcdefg3")
    for name in ("owner", "maintenance", "operator", "app"):
        assert getattr(NAMES, name) != getattr(other, name)
    assert not set(NAMES.shards) & set(other.shards)
    assert NAMES.tenant_login("acme", "a") != other.tenant_login("acme", "a")


def test_set_is_named_by_its_stores_alone() -> None:
    """Order and repetition do not make another set."""
    assert NAMES.store_set(["kv", "graph"]) == NAMES.store_set(["graph", "kv", "kv"])
    assert NAMES.store_set(["kv"]) != NAMES.store_set(["graph"])


@pytest.mark.parametrize("bad", ["", "short", "ABCDEFGH", "abcdefg1", "abcdefgh9", "abc'efgh"])
def test_foreign_installation_id_is_refused(bad: str) -> None:
    """Only an id that bootstrap could have made becomes part of a role name."""
    with pytest.raises(ValueError, match="installation"):
        RoleNames(bad)


def test_schema_comment_round_trip() -> None:
    """The id is read back from the mark, and from nothing else."""
    assert RoleNames.from_schema_comment(NAMES.schema_comment) == NAMES
    assert RoleNames.from_schema_comment("standard public schema") is None
    assert RoleNames.from_schema_comment(None) is None


def test_unknown_slot_is_refused() -> None:
    """There are two slots."""
    with pytest.raises(ValueError, match="slot"):
        NAMES.tenant_login("acme", "c")


def test_append_only_tables_grant_no_change() -> None:
    """No store grants UPDATE or DELETE on an append-only table."""
    everything = stores.privileges(stores.STORES_BY_NAME, [*stores.APPEND_ONLY_TABLES, "kv_store"])
    changed = {grant.name for grant in everything if grant.privilege in {"UPDATE", "DELETE"}}
    assert changed == {"kv_store"}
    graph = {"entities", "relationships", "graph_transactions", "graph_embeddings"}
    assert {"event_log", "hook_history", *graph, "erasures"} == set(stores.APPEND_ONLY_TABLES)


def test_leaves_are_never_granted() -> None:
    """A partition's name belongs to no store, a dimension's does."""
    granted = stores.privileges(["vectors"], ["vector_embeddings_77", "vector_embeddings_77_p01", "tenants"])
    assert {grant.name for grant in granted if grant.object_type == "TABLE"} == {"vector_embeddings_77"}
    assert stores.store_of("vector_embeddings_77") == ("vectors",)
    assert stores.store_of("tenant_clock") == ("graph", "events")
    assert stores.store_of("tenants") == ()


def test_one_store_reaches_only_its_tables() -> None:
    """Besides its own tables a store has the probe's, nothing else."""
    tables = ["kv_store", "sessions", "test_table", "api_keys"]
    granted = {grant.name for grant in stores.privileges(["kv"], tables) if grant.object_type == "TABLE"}
    assert granted == {"kv_store", "test_table"}
