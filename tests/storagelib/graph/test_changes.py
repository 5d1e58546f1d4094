"""Following the changes of a graph that others write to meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from storagelib import Store
from tests.plugins.conformance import opening_of


@pytest.fixture
def graph(conformance_tenants: Any) -> Iterator[Any]:
    """Give a tenant's graph on a server."""
    opening = opening_of(conformance_tenants, "role", pool_min=0, pool_max=2)
    with Store.open(opening.config, provider=opening.provider) as store:
        yield store.for_tenant(opening.new_tenant()).graph


def test_none_is_passed_over(graph: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that commits between two statements of one call is told by the next call, whole."""
    entity = graph.add_entity("person", "0")
    database = graph._backend._database
    run = database.run
    names = iter(range(1, 100))

    def torn(calls: list[Any]) -> list[Any]:
        monkeypatch.setattr(database, "run", run)
        found = []
        for call in calls:
            found += run([call])
            graph.update_entity(entity.entity_id, name=str(next(names)))
        return found

    monkeypatch.setattr(database, "run", torn)
    seen = list(graph.changes(0))
    assert seen
    seen += graph.changes(seen[-1].tx)
    told = [(change.tx, change.action) for change in seen]
    assert told == [(change.tx, change.action) for change in graph.changes(0)]
    assert len(told) > 10
