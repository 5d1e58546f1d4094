"""Content that is not what was stored is told, by the name of its artifact, and never returned."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from storagelib import Store, StoreConfig
from storagelib.components.artifacts import BATCH_BYTES, CHUNK_BYTES
from storagelib.config import PostgresConfig
from storagelib.credentials import Credentials
from storagelib.errors import Corrupted, NotFound
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant

LARGE = random.Random(0).randbytes(BATCH_BYTES + 3 * CHUNK_BYTES + 5)
TEXT = b"a word and another\n" * 200_000
SMALL = random.Random(1).randbytes(5000)
BEHIND = BATCH_BYTES + CHUNK_BYTES
SQLITE = {"true": "1", "nothing": "x''", "doubled": "CAST(data || data AS BLOB)"}
POSTGRES = {"true": "true", "nothing": "''", "doubled": "data || data"}
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Kept:
    """A tenant's artifacts, and what changes its rows from below the library."""

    artifacts: Any
    execute: Callable[[str], Any]
    words: Mapping[str, str]


@pytest.fixture(params=["sqlite", "postgres"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    """Open a store that is kept somewhere."""
    if request.param == "sqlite":
        path = tmp_path / "damaged.db"
        with Store.open(StoreConfig.on_sqlite(path)) as store:
            connection = sqlite3.connect(path, isolation_level=None)
            yield Kept(store.for_tenant("acme").artifacts, connection.execute, SQLITE)
            connection.close()
        return
    installation: Installation = request.getfixturevalue("installation")
    tenant = f"damaged-{next(_NUMBERS)}"
    dsn = make_tenant(installation, tenant)
    credentials = Credentials.from_dsn(dsn, tenant_id=tenant, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with Store.open(config) as store, psycopg.connect(dsn, autocommit=True) as login:
        login.execute("SELECT set_config('search_path', %s, false)", (installation.schema,))
        yield Kept(store.for_tenant(tenant).artifacts, login.execute, POSTGRES)


def whole(artifacts: Any, artifact_id: str) -> bytes:
    """Read content through its stream."""
    return b"".join(artifacts.stream(artifact_id))


DAMAGES = {
    "other bytes": "UPDATE artifact_chunks SET data = (SELECT data FROM artifact_chunks WHERE chunk = 1) WHERE chunk = 9",
    "no bytes": "UPDATE artifact_chunks SET data = {nothing} WHERE chunk = 9",
    "another hash": "UPDATE artifact_chunks SET chunk_hash = (SELECT chunk_hash FROM artifact_chunks WHERE chunk = 1)"
    " WHERE chunk = 9",
    "no hash": "UPDATE artifact_chunks SET chunk_hash = NULL WHERE chunk = 9",
    "packed, it says": "UPDATE artifact_chunks SET is_compressed = {true} WHERE chunk = 9",
    "gone": "DELETE FROM artifact_chunks WHERE chunk = 9",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_is_told(kept: Kept, damage: str) -> None:
    """By every verb that reads it; ranges elsewhere and other artifacts stay readable."""
    artifacts = kept.artifacts
    damaged = artifacts.store("s", "large", LARGE, artifact_id="the-damaged")
    other = artifacts.store("t", "small", SMALL)
    kept.execute(DAMAGES[damage].format_map(kept.words))
    for call in (
        lambda: artifacts.get(damaged.artifact_id),
        lambda: whole(artifacts, damaged.artifact_id),
        lambda: artifacts.read_range(damaged.artifact_id, BEHIND, BEHIND + 1),
    ):
        with pytest.raises(Corrupted, match="the-damaged"):
            call()
    assert artifacts.read_range(damaged.artifact_id, 0, BATCH_BYTES) == LARGE[:BATCH_BYTES]
    assert artifacts.get(other.artifact_id) == SMALL
    assert artifacts.stat(damaged.artifact_id) == damaged


def test_chunks_in_another_order_are_told(kept: Kept) -> None:
    """Though each of them has its own hash."""
    artifacts = kept.artifacts
    stored = artifacts.store("s", "large", LARGE, artifact_id="mixed-up")
    for before, after in ((2, 100), (3, 2), (100, 3)):
        kept.execute(f"UPDATE artifact_chunks SET chunk = {after} WHERE chunk = {before}")
    with pytest.raises(Corrupted, match="mixed-up"):
        artifacts.get(stored.artifact_id)
    size = 0
    with pytest.raises(Corrupted, match="mixed-up"):  # noqa: PT012 - what came before the error is looked at
        for piece in artifacts.stream(stored.artifact_id):
            size += len(piece)
    assert size < len(LARGE)


@pytest.mark.parametrize("content", [SMALL, b"short", b"text " * 10_000], ids=["noise", "short", "packed"])
def test_damaged_content_of_one_row_is_told(kept: Kept, content: bytes) -> None:
    """Whole or a range of it."""
    artifacts = kept.artifacts
    stored = artifacts.store("s", "small", content, artifact_id="the-damaged")
    kept.execute("UPDATE artifact_content SET data = {doubled}".format_map(kept.words))
    for call in (lambda: artifacts.get(stored.artifact_id), lambda: artifacts.read_range(stored.artifact_id, 0, 1)):
        with pytest.raises(Corrupted, match="the-damaged"):
            call()


def test_a_reader_who_is_overtaken_by_a_deletion_finds_nothing(kept: Kept) -> None:
    """Which is no damage."""
    artifacts = kept.artifacts
    stored = artifacts.store("s", "large", LARGE + LARGE)
    reading = artifacts.stream(stored.artifact_id)
    assert next(reading) == LARGE[:CHUNK_BYTES]
    assert artifacts.delete(stored.artifact_id)
    assert artifacts.collect_garbage(older_than=0).contents == 1
    with pytest.raises(NotFound):
        list(reading)


def test_text_is_packed_in_chunks(kept: Kept) -> None:
    """So that a range of compressed content costs a chunk of it, too."""
    stored = kept.artifacts.store("s", "text", iter([TEXT]))
    figures = kept.artifacts.statistics()
    assert figures.compression_ratio > 20
    assert kept.artifacts.read_range(stored.artifact_id, 1_000_000, 1_000_100) == TEXT[1_000_000:1_000_100]
    assert kept.artifacts.get(stored.artifact_id) == TEXT
