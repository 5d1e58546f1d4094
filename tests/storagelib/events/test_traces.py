"""Erasure leaves the same trace in memory and in SQLite as on a server."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from storagelib import Store, StoreConfig
from storagelib.components.hooks import RetentionPolicy
from storagelib.memory.engine import MemorySpace
from storagelib.memory.events import MemoryEvents
from storagelib.memory.hooks import MemoryHooks

RETENTION = hashlib.sha256(b"retention").digest()


def test_sqlite_keeps_traces(tmp_path: Path) -> None:
    """One row an erasure, none for a retention that found nothing."""
    path = tmp_path / "traces.db"
    with Store.open(StoreConfig.on_sqlite(path)) as store:
        tenant = store.for_tenant("acme")
        tenant.events.append("t", stream="personal")
        tenant.events.erase_stream("personal", "asked for")
        tenant.hooks.record("h", "t", triggering_component="c", input=1, duration_ms=1)
        assert [tenant.hooks.apply_retention(RetentionPolicy(max_bytes=0), reason="too many") for _ in range(2)] == [
            1,
            0,
        ]
        tenant.hooks.erase("nothing", "asked for too")
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT tenant_id, kind, subject_hash, rows_erased, reason FROM erasures ORDER BY erased_at"
        ).fetchall()
    connection.close()
    assert rows == [
        ("acme", "stream", hashlib.sha256(b"personal").digest(), 1, "asked for"),
        ("acme", "hooks", RETENTION, 1, "too many"),
        ("acme", "hooks", hashlib.sha256(b"nothing").digest(), 0, "asked for too"),
    ]


def test_memory_keeps_traces() -> None:
    """The rows have the columns of the table."""
    space = MemorySpace("acme")
    MemoryEvents(space).erase_stream("personal", "asked for")
    MemoryHooks(space).erase("run", "asked for too")
    rows = list(space.table("erasures").rows.values())
    assert [(row["kind"], row["subject_hash"], row["rows_erased"], row["reason"]) for row in rows] == [
        ("stream", hashlib.sha256(b"personal").digest(), 0, "asked for"),
        ("hooks", hashlib.sha256(b"run").digest(), 0, "asked for too"),
    ]
