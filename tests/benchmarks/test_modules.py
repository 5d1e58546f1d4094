"""Every benchmark of the library runs from end to end, so that none rots; its figures are worth nothing here."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

import benchmarks.storagelib
from benchmarks import pairs
from benchmarks.storagelib.ground import Ground
from tests.plugins.conformance import Tenants
from tests.plugins.installation import Molds

MODULES = sorted(
    {module.name for module in pkgutil.iter_modules(benchmarks.storagelib.__path__)} - {"__main__", "ground"}
)
# What stands in a module and is too much to try it out with.
SMALLER = {"agent_state": {"_STEPS": 12, "_LISTED": 5, "_RUNS": 1}}
# They come with `uv sync --group bench`, which only measuring needs.
PEERS = {"agent_state": ("langgraph.checkpoint.postgres.aio",), "vectors": ("langchain_postgres",)}


# Measured as soon as they are there.
STORES = {"api_keys", "artifacts", "procedures"}


@pytest.fixture(scope="module")
def tenants(molds: Molds) -> Iterator[Tenants]:
    """Make one database for all of them: making it takes longer than most of them."""
    with molds.copy() as installation:
        yield Tenants(installation)


@pytest.fixture
def small_ground(tenants: Tenants, tmp_path: Path) -> Ground:
    """Give a ground without the tables of the peers before."""
    place = Ground(tenants, tmp_path, full=False, tiny=True)
    with place.connect() as connection:
        connection.execute("DROP SCHEMA IF EXISTS bare CASCADE")
        for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            connection.execute(sql.SQL("DROP TABLE public.{}").format(sql.Identifier(table)))
    return place


@pytest.mark.parametrize("name", MODULES)
def test_it_measures(name: str, small_ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result has a figure, and those that have a peer its figure too."""
    for peer in PEERS.get(name, ()):
        pytest.importorskip(peer, reason="the peers of benchmarks are not installed")
    if name in STORES:
        pytest.importorskip(f"storagelib._sync.postgres.{name}", reason="the store is not there yet")
    module = importlib.import_module(f"benchmarks.storagelib.{name}")
    for constant, value in SMALLER.get(name, {}).items():
        monkeypatch.setattr(module, constant, value)
    with pairs.at_most(calls=2):
        results = module.measure(small_ground)
    assert results
    assert len({result.name for result in results}) == len(results)
    for result in results:
        assert result.ours is not None
        assert math.isfinite(result.ours)
        assert bool(result.peer_name) == (result.peer is not None)
        assert (result.holds is None) == (not result.wanted)
        assert result.command.startswith("make bench")
