"""Content of any size goes through a process that holds little of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant

MEGABYTE = 1 << 20
PROGRAM = """
import asyncio, json, re, sys, threading
from storagelib import AsyncStore, Store, StoreConfig
from storagelib.config import PostgresConfig
from storagelib.credentials import Credentials

given = json.loads(sys.argv[1])
if "dsn" in given:
    credentials = Credentials.from_dsn(given["dsn"], tenant_id=given["tenant"], schema=given["schema"])
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
else:
    config = StoreConfig.on_sqlite(given["path"])
peak, over = 0, threading.Event()

def held():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10

def watch():
    global peak
    while not over.wait(0.002):
        peak = max(peak, held())

def pieces():
    chance = __import__("random").Random(0)
    for _ in range(given["size"] >> 20):
        yield chance.randbytes(1 << 20)

async def live():
    global peak
    async with await AsyncStore.open(config) as store:
        artifacts = store.for_tenant(given["tenant"]).artifacts
        small = await artifacts.store("s", "small", b"x" * 100)
        await artifacts.get(small.artifact_id)
        before = peak = held()
        watcher = threading.Thread(target=watch)
        watcher.start()
        stored = await artifacts.store("s", "large", pieces())
        size = 0
        async for piece in artifacts.stream(stored.artifact_id):
            size += len(piece)
        over.set()
        watcher.join()
        assert size == stored.size == given["size"], size
        print(peak - before)

asyncio.run(live())
"""


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
@pytest.mark.parametrize(
    ("size", "most"),
    [
        pytest.param(20 * MEGABYTE, 64 * MEGABYTE, id="20MB"),
        pytest.param(100 * MEGABYTE, 64 * MEGABYTE, id="100MB", marks=pytest.mark.full),
        pytest.param(300 * MEGABYTE, 64 * MEGABYTE, id="300MB", marks=pytest.mark.full),
    ],
)
def test_a_stream_holds_little(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, size: int, most: int
) -> None:
    """Stored from an iterator and read as a stream, content takes a few batches of memory, whatever its size."""
    given: dict[str, object] = {"size": size, "tenant": f"large-{size}", "path": str(tmp_path / "large.db")}
    if backend == "postgres":
        installation: Installation = request.getfixturevalue("installation")
        dsn = make_tenant(installation, f"large-{size}")
        given = {"size": size, "tenant": f"large-{size}", "dsn": dsn, "schema": installation.schema}
    command = [sys.executable, "-c", PROGRAM, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < most
