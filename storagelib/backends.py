"""Backends: the three that come with the library, and those that a third party registers.

A registered backend is a factory ``(tenant_id, options) -> backend`` for one store, where the backend does what the store's
``…Backend`` protocol says, as blocking code; ``options`` is the store's table of the configuration. Asynchronous callers
reach it in place: a backend that waits for long marks its methods with ``runs_on = "reader"`` or ``"writer"``.

>>> class Nothing:
...     def value(self, key):
...         return None
>>> register("kv", "nothing", lambda tenant_id, options: Nothing())
>>> registered("kv", "nothing")("acme", {}).value("a") is None
True
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from storage_sql.stores import STORES_BY_NAME
from storagelib.config import BUILT_IN, StoreConfig, nearest
from storagelib.errors import InvalidInput

__all__ = ["Factory", "check_backends", "class_of", "register", "registered"]

Factory = Callable[[str, Mapping[str, object]], Any]
"""Makes one tenant's backend of one store."""
_REGISTERED: Final[dict[tuple[str, str], Factory]] = {}


def register(store: str, name: str, factory: Factory) -> None:
    """Make a backend known under a name that the configuration may use; the last one of a name counts."""
    faults = []
    if store not in STORES_BY_NAME:
        faults.append(f"store: must be one of {', '.join(STORES_BY_NAME)}")
    if name in BUILT_IN or not name.isidentifier():
        faults.append("name: must be a word other than memory, sqlite and postgres")
    if faults:
        raise InvalidInput("the backend cannot be registered", faults)
    _REGISTERED[store, name] = factory


def check_backends(config: StoreConfig) -> None:
    """Raise ``InvalidInput`` with every name in a configuration that nothing was registered under, and the nearest there is.

    A backend of all stores may keep some of them only: the others are told when they are used.
    """
    faults = []
    if config.backend not in BUILT_IN and all(config.backend != name for _, name in _REGISTERED):
        faults.append(_unknown("backend", config.backend, {name for _, name in _REGISTERED}))
    for store, component in config.components.items():
        name = component.backend
        if name is not None and name not in BUILT_IN and (store, name) not in _REGISTERED:
            known = {known for kept, known in _REGISTERED if kept == store}
            faults.append(_unknown(f"components.{store}.backend", name, known))
    if faults:
        raise InvalidInput("the configuration is wrong", faults)


def _unknown(key: str, name: str, known: Iterable[str]) -> str:
    return f"{key}: no backend {name!r} is registered{nearest(name, [*BUILT_IN, *sorted(known)])}"


def registered(store: str, name: str) -> Factory:
    """Return the factory of a registered backend."""
    try:
        return _REGISTERED[store, name]
    except KeyError:
        raise InvalidInput(
            "the configuration is wrong", [f"components.{store}.backend: no backend {name!r} is registered for {store}"]
        ) from None


def class_of(package: str, prefix: str, store: str) -> Any:
    """Return the class of a store in one of our packages: ``MemoryKV`` of ``storagelib.memory.kv``."""
    return getattr(importlib.import_module(f"{package}.{store}"), prefix + STORES_BY_NAME[store].kind)
