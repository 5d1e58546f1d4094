"""Deleting an agent that somebody else makes at that moment."""

from __future__ import annotations

from typing import Any

import pytest

from storagelib import Store
from tests.plugins.conformance import opening_of


def test_what_is_made_meanwhile_stays_whole(conformance_tenants: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent made between the two statements of a deletion that found none keeps its versions and checkpoints."""
    opening = opening_of(conformance_tenants, "role", pool_min=0, pool_max=2)
    with Store.open(opening.config, provider=opening.provider) as store:
        agents = store.for_tenant(opening.new_tenant()).agent_state
        database = agents._backend._database
        run = database.run

        def torn(calls: list[Any]) -> list[Any]:
            monkeypatch.setattr(database, "run", run)
            first, second = calls
            found = run([first])
            for number in range(3):
                agents.save("a", {"n": number}, agent_type="t")
            agents.checkpoint("a", "kept")
            return [*found, *run([second])]

        monkeypatch.setattr(database, "run", torn)
        assert not agents.delete("a")
        assert [each.version for each in agents.versions("a")] == [3, 2, 1]
        assert [each.label for each in agents.list_checkpoints("a")] == ["kept"]
        assert agents.delete("a")
        assert list(agents.versions("a")) == []
        assert list(agents.list_checkpoints("a")) == []
