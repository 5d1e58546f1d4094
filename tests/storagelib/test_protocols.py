"""Every store's protocol can be imported from one place."""

from __future__ import annotations

import importlib.util

import pytest

from storage_sql.stores import STORES
from storagelib import protocols

WRITTEN = [store for store in STORES if importlib.util.find_spec(f"storagelib._sync.{store.name}") is not None]


def test_the_protocols_are_those_of_the_stores() -> None:
    """None is missing, and none is there without a store."""
    assert protocols.__all__ == sorted(f"{store.kind}Backend" for store in WRITTEN)


@pytest.mark.parametrize("name", protocols.__all__)
def test_a_protocol_is_one_of_blocking_verbs(name: str) -> None:
    """As a registered backend has them."""
    found = getattr(protocols, name)
    assert found._is_protocol
    assert found.__module__.startswith("storagelib._sync.")


def test_other_names_are_not_there() -> None:
    """An import of a wrong name fails as it does everywhere."""
    with pytest.raises(AttributeError, match="ListBackend"):
        _ = protocols.ListBackend
