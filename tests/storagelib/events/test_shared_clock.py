"""Events and the graph of a tenant take their numbers from one clock: neither goes back, and neither sees the other's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storagelib import Store, StoreConfig


@pytest.fixture(params=["memory", "sqlite"])
def tenant(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Give a tenant whose stores share a backend."""
    config = StoreConfig.in_memory() if request.param == "memory" else StoreConfig.on_sqlite(tmp_path / "shared.db")
    with Store.open(config) as store:
        yield store.for_tenant("acme")


def test_the_graph_makes_positions_jump_and_nothing_else(tenant: Any) -> None:
    """A subscription passes over the numbers that the graph took; sequences have no gap."""
    seen = []
    for number in range(3):
        seen.append(tenant.events.append("t", number, stream="s"))
        tenant.graph.add_entity("person", f"name {number}")
    events = list(tenant.events.subscribe(follow=False))
    assert [event.sequence for event in events] == [1, 2, 3]
    assert [event.position for event in events] == [where.position for where in seen] == [1, 3, 5]
    assert tenant.events.end() == 6
    assert list(tenant.events.subscribe(from_position=5, follow=False)) == []
    assert tenant.events.checkpoint("reader", 6) == 6
    last = tenant.events.append("t", 3, stream="s")
    assert [event.position for event in tenant.events.subscribe(consumer="reader", follow=False)] == [last.position]
