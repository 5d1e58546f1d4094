"""A backend that nobody registered is found out when a store opens, not when the night's first call needs it."""

from __future__ import annotations

from typing import Any

import pytest

from storagelib import Store, StoreConfig, backends
from storagelib.config import ComponentConfig
from storagelib.errors import InvalidInput
from storagelib.memory.engine import MemoryEngine
from storagelib.memory.kv import MemoryKV


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a backend for one store."""
    monkeypatch.setattr(backends, "_REGISTERED", {})
    engine = MemoryEngine()
    backends.register("kv", "own", lambda tenant_id, _options: MemoryKV(engine.space(tenant_id)))


def refused(**config: Any) -> list[str]:
    """Return what is wrong with a configuration's backends."""
    with pytest.raises(InvalidInput) as found:
        Store.open(StoreConfig(**config))
    return list(found.value.faults)


@pytest.mark.usefixtures("own")
def test_every_unknown_backend_is_named_with_the_nearest_that_there_is() -> None:
    """All at once."""
    components = {"kv": ComponentConfig(backend="owm"), "graph": ComponentConfig(backend="own")}
    assert refused(backend="redis", components=components) == [
        "backend: no backend 'redis' is registered; there are memory, sqlite, postgres, own",
        "components.kv.backend: no backend 'owm' is registered; did you mean own?",
        "components.graph.backend: no backend 'own' is registered; there are memory, sqlite, postgres",
    ]


@pytest.mark.usefixtures("own")
def test_a_backend_of_all_stores_may_keep_some() -> None:
    """What it keeps works, and the others say so."""
    with Store.open(StoreConfig(backend="own")) as store:
        acme = store.for_tenant("acme")
        acme.kv.set("a", b"1")
        assert acme.kv.get("a") == b"1"
        with pytest.raises(InvalidInput, match="registered for graph"):
            acme.graph.current  # noqa: B018 - making the store is what fails
