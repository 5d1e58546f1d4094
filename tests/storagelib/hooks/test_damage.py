"""A context that is not what was written is told, never returned."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from storagelib import Store, StoreConfig
from storagelib.compression import compress
from storagelib.errors import Corrupted

INPUT = ["a word"] * 200


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"no frame",
        compress(b"x" * 5000),
        compress(b'["short"' + b" " * 100 + b"]"),
    ],
    ids=["empty", "no frame", "too long", "too short"],
)
def test_a_damaged_context_is_corrupted(tmp_path: Path, damage: bytes) -> None:
    """By every verb that reads it; the other executions stay readable."""
    path = tmp_path / "damaged.db"
    with Store.open(StoreConfig.on_sqlite(path)) as store:
        hooks = store.for_tenant("acme").hooks
        damaged = hooks.record("h", "t", triggering_component="c", input=INPUT, duration_ms=1, correlation_id="run")
        whole = hooks.record("h", "t", triggering_component="c", input=INPUT, duration_ms=1)
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(
                "UPDATE hook_history SET hook_context = ? WHERE execution_id = ?", (damage, str(damaged))
            )
        connection.close()
        with pytest.raises(Corrupted):
            hooks.get(damaged)
        with pytest.raises(Corrupted):
            hooks.query()
        with pytest.raises(Corrupted):
            hooks.replay("run", lambda _execution: None)
        assert hooks.get(whole).input == INPUT
        assert hooks.durations().items[0].count == 2


def test_a_plain_context_is_checked_too(tmp_path: Path) -> None:
    """Its length and its form must be what was written."""
    path = tmp_path / "damaged.db"
    with Store.open(StoreConfig.on_sqlite(path)) as store:
        hooks = store.for_tenant("acme").hooks
        damaged = hooks.record("h", "t", triggering_component="c", input="abc", duration_ms=1)
        for damage in (b'"ab"', b'"abc', b"\xff\xfe\xfd\xfc\xfb"):
            connection = sqlite3.connect(path)
            with connection:
                connection.execute("UPDATE hook_history SET hook_context = ?", (damage,))
            connection.close()
            with pytest.raises(Corrupted):
                hooks.get(damaged)
