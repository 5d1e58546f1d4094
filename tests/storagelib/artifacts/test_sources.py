"""What content may come from, and how the configuration has it packed."""

from __future__ import annotations

import array
import io
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from storagelib import AsyncStore, Store, StoreConfig
from storagelib.config import ComponentConfig
from storagelib.errors import InvalidInput
from storagelib.sources import AsyncSource, Source

DATA = random.Random(0).randbytes(3_000_001)


class Waiting(io.BytesIO):
    """A file whose reading is awaited."""

    async def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
        """Return bytes."""
        return super().read(size)


class Dribbling(io.BytesIO):
    """A file that gives less than it is asked for, as sockets do."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return some bytes."""
        return super().read(min(size or 0, 70_001))


async def later() -> AsyncIterator[bytes]:
    """Give everything at once."""
    yield DATA


SOURCES: dict[str, Any] = {
    "bytes": lambda: DATA,
    "numbers": lambda: memoryview(array.array("B", DATA)),
    "a file": lambda: io.BytesIO(DATA),
    "a slow file": lambda: Dribbling(DATA),
    "a list": lambda: [DATA[:5], b"", bytearray(DATA[5:])],
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_gives_pieces_of_the_size_asked_for(name: str) -> None:
    """However they come in; and none after the end."""
    source = Source(SOURCES[name]())
    pieces = [source.read(1_000_000) for _ in range(5)]
    assert [len(piece) for piece in pieces] == [1_000_000, 1_000_000, 1_000_000, 1, 0]
    assert b"".join(pieces) == DATA


@pytest.mark.parametrize("name", [*SOURCES, "an awaited file", "an asynchronous iterator"])
async def test_an_asynchronous_source_gives_them_too(name: str) -> None:
    """Files and iterators of either kind."""
    made = {"an awaited file": lambda: Waiting(DATA), "an asynchronous iterator": later, **SOURCES}
    source = AsyncSource(made[name]())
    pieces = [await source.read(1_000_000) for _ in range(5)]
    assert [len(piece) for piece in pieces] == [1_000_000, 1_000_000, 1_000_000, 1, 0]
    assert b"".join(pieces) == DATA


async def test_what_gives_no_bytes_is_refused() -> None:
    """None does not end anything."""
    for content in (io.StringIO("text"), io.StringIO(""), [b"a", None], ["a"]):
        with pytest.raises(InvalidInput):
            Source(content).read(10)
        with pytest.raises(InvalidInput):
            await AsyncSource(content).read(10)


@pytest.mark.parametrize(("threshold", "packed"), [(None, True), (5000, True), (5001, False)])
def test_the_configuration_says_what_is_packed(threshold: int | None, packed: bool) -> None:
    """Content below the threshold is stored as it is."""
    options = {} if threshold is None else {"compression_threshold_bytes": threshold}
    config = replace(StoreConfig.in_memory(), components={"artifacts": ComponentConfig(options=options)})
    with Store.open(config) as store:
        artifacts = store.for_tenant("acme").artifacts
        artifacts.store("s", "n", b"a" * 5000)
        assert (artifacts.statistics().compression_ratio > 1) is packed


async def test_both_twins_store_the_same(tmp_path: Any) -> None:
    """What one wrote the other reads."""
    path = tmp_path / "twins.db"
    async with await AsyncStore.open(StoreConfig.on_sqlite(path)) as store:
        stored = await store.for_tenant("acme").artifacts.store("s", "n", later())
    with Store.open(StoreConfig.on_sqlite(path)) as blocking:
        assert blocking.for_tenant("acme").artifacts.get(stored.artifact_id) == DATA
        assert (
            blocking.for_tenant("acme").artifacts.store("s", "n", io.BytesIO(DATA)).content_hash == stored.content_hash
        )
