"""Snapshots of the stores in memory: bit for bit, whole or not at all, and nothing is changed by a file that is wrong."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from storage_sql import migrations
from storagelib import AsyncStore, Store, StoreConfig
from storagelib.codec import Record, decode, encode
from storagelib.components.snapshots import Snapshot
from storagelib.config import ComponentConfig
from storagelib.errors import (
    Corrupted,
    InvalidInput,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
)
from storagelib.transfer import Head, lines
from tests.storagelib.transfer.backends import InMemory
from tests.storagelib.transfer.filled import Filler, reads

NEWEST = migrations.available("sqlite")[-1].version


@pytest_asyncio.fixture
async def store() -> AsyncIterator[AsyncStore]:
    """Give a store with two tenants that have rows and one that has none."""
    async with await AsyncStore.open(StoreConfig.in_memory()) as opened:
        for number, name in enumerate(("acme", "other")):
            await Filler(opened.for_tenant(name), number).fill()
        assert not await opened.for_tenant("empty").kv.exists("a")
        yield opened


@pytest_asyncio.fixture
async def fresh() -> AsyncIterator[AsyncStore]:
    """Give a store without tenants."""
    async with await AsyncStore.open(StoreConfig.in_memory()) as opened:
        yield opened


def names_in(folder: Path) -> list[str]:
    """Return what a folder holds."""
    return sorted(each.name for each in folder.iterdir())


async def everything(store: AsyncStore) -> dict[str, list[bytes]]:
    """Return every record of every tenant."""
    memory = InMemory(store)
    return {name: await memory.lines(name) for name in memory.engine.tenants()}


async def test_all_tenants_come_back(store: AsyncStore, fresh: AsyncStore, tmp_path: Path) -> None:
    """Records, tokens and public reads, into another store; who has nothing is named too."""
    before, expected = await everything(store), await reads(store.for_tenant("acme"))
    path = tmp_path / "a.snapshot"
    told = await store.snapshot(path)
    assert told == Snapshot(("acme", "empty", "other"), sum(map(len, before.values())), NEWEST)
    assert path.stat().st_mode & 0o777 == 0o600
    assert names_in(tmp_path) == [path.name]
    assert await fresh.restore(str(path)) == told
    assert await everything(fresh) == before
    assert await reads(fresh.for_tenant("acme")) == expected
    await fresh.snapshot(path)
    with path.open("rb") as again:
        assert hashlib.file_digest(again, "sha256").digest() == await digest_of(store)


async def digest_of(store: AsyncStore) -> bytes:
    """Return the digest of what a store writes to a stream."""
    stream = io.BytesIO()
    await store.snapshot(stream)
    return hashlib.sha256(stream.getvalue()).digest()


async def test_one_tenant_of_several(store: AsyncStore, fresh: AsyncStore, tmp_path: Path) -> None:
    """One may be written, or taken out of a file of all; the others stay as they are."""
    before = await everything(store)
    await store.snapshot(tmp_path / "all")
    assert (await store.snapshot(tmp_path / "one", tenant_id="acme")).tenants == ("acme",)
    for name in ("acme", "other"):
        await store.for_tenant(name).kv.clear()
    changed = await everything(store)
    for path in ("all", "one"):
        await store.for_tenant("acme").kv.set("later", b"1")
        told = await store.restore(tmp_path / path, tenant_id="acme")
        assert told == Snapshot(("acme",), len(before["acme"]), NEWEST)
        assert await everything(store) == {**changed, "acme": before["acme"]}
    await fresh.for_tenant("mine").kv.set("a", b"1")
    await fresh.restore(tmp_path / "one")
    assert await fresh.for_tenant("mine").kv.get("a") == b"1"
    with pytest.raises(NotFound, match="does not hold the tenant other"):
        await fresh.restore(tmp_path / "one", tenant_id="other")
    await store.restore(tmp_path / "all")
    assert await everything(store) == before


async def test_a_tenant_without_rows_is_emptied(store: AsyncStore, tmp_path: Path) -> None:
    """What was empty then is empty again."""
    await store.snapshot(tmp_path / "a", tenant_id="empty")
    await Filler(store.for_tenant("empty"), 5).fill()
    await store.restore(tmp_path / "a")
    assert (await everything(store))["empty"] == []
    assert (await store.for_tenant("empty").graph.search()).items == ()


async def test_handles_in_use_go_on(fresh: AsyncStore) -> None:
    """What stores remember of their tables is forgotten: other rows of the same number with the same newest one are found."""
    tenant, ids = fresh.for_tenant("acme"), [UUID(int=0x7_0000_0000_0000_8000 + number) for number in range(4)]
    for each in (0, 3):
        await tenant.graph.add_entity("kind", f"e{each}", entity_id=ids[each])
        await tenant.events.append("made", {"n": each}, stream="s")
        await tenant.vectors.upsert(f"v{each}", [float(each + 1)] * 4)
    stream = io.BytesIO()
    await fresh.snapshot(stream)
    rows = [decode(line) for line in stream.getvalue().splitlines()[1:-1]]
    other = [Record(row.store, row.table, {name: swapped(row, name, ids) for name in row.columns}) for row in rows]
    for file, there in ((stream.getvalue(), 0), (forged(["acme"], other), 1), (stream.getvalue(), 0)):
        await fresh.restore(io.BytesIO(file))
        assert [each for each in range(4) if await tenant.graph.get_entity(ids[each])] == [there, 3]
        assert [each.payload["n"] async for each in tenant.events.all()] == [there, 3]
        assert sorted(hit.id for hit in await tenant.vectors.search([1.0] * 4)) == [f"v{there}", "v3"]
    assert (await tenant.events.append("made", None, stream="s")).sequence == 3


def swapped(row: Record, name: str, ids: list[UUID]) -> Any:
    """Return a value, of the second thing in the place of the first."""
    value: Any = row.columns[name]
    return {ids[0]: ids[1], "v0": "v1", '{"n":0}': '{"n":1}'}.get(value, value)


def test_the_blocking_store_has_the_same_verbs(tmp_path: Path) -> None:
    """A path, and a stream that packs."""
    with Store.open(StoreConfig.in_memory()) as first, Store.open(StoreConfig.in_memory()) as second:
        first.for_tenant("acme").kv.set("a", b"1")
        with gzip.open(tmp_path / "a.gz", "wb") as packed:
            first.snapshot(packed)
        with gzip.open(tmp_path / "a.gz", "rb") as packed:
            assert second.restore(packed).records == 1
        assert second.for_tenant("acme").kv.get("a") == b"1"


async def test_snapshots_while_others_write(fresh: AsyncStore) -> None:
    """Each one is of one moment: whatever a verb writes together is there together."""
    tenant, over = fresh.for_tenant("acme"), False

    async def write() -> None:
        number = 0
        while not over:
            number += 1
            await tenant.kv.set_many({"one": b"%d" % number, "two": b"%d" % number})
            await tenant.artifacts.store("s", "n", b"%d" % (number % 50), artifact_id=f"{number}", tags=["t"])
            await tenant.artifacts.delete(f"{number - 20}")
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    async with await AsyncStore.open(StoreConfig.in_memory()) as other:
        seen = set()
        for _ in range(10):
            stream = io.BytesIO()
            await fresh.snapshot(stream)
            await other.restore(io.BytesIO(stream.getvalue()))
            found = await other.for_tenant("acme").kv.get_many(["one", "two"])
            assert found.get("one") == found.get("two")
            seen.add(found.get("one"))
    over = True
    await writing
    assert len(seen) > 1


async def test_a_verb_that_is_half_done_is_waited_for(fresh: AsyncStore) -> None:
    """By who writes a snapshot, and by who restores one."""
    tenant, space = fresh.for_tenant("acme"), InMemory(fresh).engine.space("acme")
    await tenant.kv.set("a", b"0")
    stream = io.BytesIO()
    with space.transaction():
        writing = asyncio.create_task(fresh.snapshot(stream))
        await asyncio.sleep(0.1)
        await tenant.kv.set("a", b"2")
        restoring = asyncio.create_task(fresh.restore(io.BytesIO(GOOD)))
        await asyncio.sleep(0.1)
        await tenant.kv.set("b", b"2")
        assert await tenant.kv.get_many(["a", "b"]) == {"a": b"2", "b": b"2"}
        assert not writing.done()
        assert not restoring.done()
    await asyncio.gather(writing, restoring)
    assert await tenant.kv.get_many(["a", "b"]) == {"a": b"1"}
    found = {
        decode(line).columns["key"]: decode(line).columns["value"] for line in stream.getvalue().splitlines()[1:-1]
    }
    assert found in ({"a": b"2", "b": b"2"}, {"a": b"1"})


# --- files that are wrong -------------------------------------------------------------------------------------------------


def forged(tenants: list[Any], rows: list[Record], **head: Any) -> bytes:
    """Return a file with honest checksums."""
    named = {"source": "memory", "release": "test", "schema_version": NEWEST, **head}
    return b"".join(lines(Head(tenants=tuple(tenants), **named), rows))


def resummed(file: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a file whose head was changed by somebody who knows how checksums are made."""
    head, _, rest = file.partition(b"\n")
    members = json.loads(head)
    del members["sha256"]
    change(members)
    body = json.dumps(members, separators=(",", ":")).encode()
    members["sha256"] = hashlib.sha256(body).hexdigest()
    first = json.dumps(members, separators=(",", ":")).encode() + b"\n"
    lines_of = rest.splitlines(keepends=True)
    total = hashlib.sha256(first + b"".join(lines_of[:-1])).hexdigest()
    return b"".join([first, *lines_of[:-1], b'{"records":%d,"sha256":"%s"}\n' % (len(lines_of) - 1, total.encode())])


def entry(**columns: Any) -> Record:
    """Return a row of the key-value store."""
    row = next(decode(line) for line in ENTRY)
    return Record(row.store, row.table, {**row.columns, **columns})


def _one_entry() -> list[bytes]:
    with Store.open(StoreConfig.in_memory()) as opened:
        opened.for_tenant("acme").kv.set("a", b"1")
        stream = io.BytesIO()
        opened.snapshot(stream)
    return stream.getvalue().splitlines()[1:-1]


ENTRY = _one_entry()
GOOD = forged(["acme"], [entry()])


def line_of(**members: Any) -> bytes:
    """Return a line with a checksum that is right, whatever it says."""
    body = json.dumps(members, separators=(",", ":")).encode()
    return b'%s,"sha256":"%s"}' % (body[:-1], hashlib.sha256(body).hexdigest().encode())


def with_lines(*made: bytes) -> bytes:
    """Return a file with these lines for records, counted and summed."""
    head = GOOD.partition(b"\n")[0] + b"\n"
    body = b"".join(line + b"\n" for line in made)
    total = hashlib.sha256(head + body).hexdigest().encode()
    return head + body + b'{"records":%d,"sha256":"%s"}\n' % (len(made), total)


COLUMNS = json.loads(ENTRY[0])["columns"]
CONTENT = {"tenant_id": "acme", "artifact_id": "a", "tag": "t", "created_at": entry().columns["created_at"]}
WRONG: dict[str, tuple[bytes, type[StorageError]]] = {
    "nothing": (b"", Corrupted),
    "an empty line": (b"\n", Corrupted),
    "something else": (b"SQLite format 3\0" + bytes(1000), Corrupted),
    "JSON of another kind": (b'{"version":"1.0","tenants":["acme"]}\n', InvalidInput),
    "a list": (b"[]\n", Corrupted),
    "deep": (b"[" * 100_000 + b"\n", Corrupted),
    "many digits": (b'{"format":' + b"9" * 100_000 + b"}\n", Corrupted),
    "deep in the head": (
        resummed(GOOD, lambda head: head.update(release=json.loads("[" * 500 + "]" * 500))),
        Corrupted,
    ),
    "another version": (resummed(GOOD, lambda head: head.update(version=2)), InvalidInput),
    "a version that is true": (resummed(GOOD, lambda head: head.update(version=True)), InvalidInput),
    "another format": (resummed(GOOD, lambda head: head.update(format="dump")), InvalidInput),
    "a newer schema": (forged(["acme"], [entry()], schema_version=NEWEST + 1), InvalidInput),
    "a schema that is none": (forged(["acme"], [entry()], schema_version=0), Corrupted),
    "a schema that is text": (resummed(GOOD, lambda head: head.update(schema_version="28")), Corrupted),
    "no release": (resummed(GOOD, lambda head: head.update(release="")), Corrupted),
    "a member more": (resummed(GOOD, lambda head: head.update(more=1)), Corrupted),
    "a tenant that is none": (forged(["../etc"], []), InvalidInput),
    "a tenant that is a number": (forged([7], []), InvalidInput),
    "tenants that are no list": (resummed(GOOD, lambda head: head.update(tenants="acme")), Corrupted),
    "a tenant twice": (forged(["acme", "acme"], []), Corrupted),
    "a tenant that the head does not name": (forged(["other"], [entry()]), Corrupted),
    "a key twice": (forged(["acme"], [entry(), entry(version=2)]), Corrupted),
    "a row without what it depends on": (forged(["acme"], [Record("artifacts", "artifact_tags", CONTENT)]), Corrupted),
    "an unknown table": (with_lines(line_of(store="kv", table="passwords", columns=COLUMNS)), Corrupted),
    "a table of the server": (with_lines(line_of(store="kv", table="tenants", columns=COLUMNS)), Corrupted),
    "a table of another store": (with_lines(line_of(store="graph", table="kv_store", columns=COLUMNS)), Corrupted),
    "an unknown column": (with_lines(line_of(store="kv", table="kv_store", columns={**COLUMNS, "x": 1})), Corrupted),
    "a column less": (with_lines(line_of(store="kv", table="kv_store", columns={"tenant_id": "acme"})), Corrupted),
    "a value of another type": (
        with_lines(line_of(store="kv", table="kv_store", columns={**COLUMNS, "version": "1"})),
        Corrupted,
    ),
    "a document too deep": (
        with_lines(
            line_of(store="kv", table="kv_store", columns={**COLUMNS, "metadata": json.loads("[" * 200 + "]" * 200)})
        ),
        Corrupted,
    ),
    "a checksum of another line": (with_lines(ENTRY[0].replace(b'"a"', b'"b"')), Corrupted),
    "a record less than counted": (with_lines(ENTRY[0]).replace(ENTRY[0] + b"\n", b""), Corrupted),
    "no end": (GOOD[: GOOD.rindex(b'{"records"')], Corrupted),
    "a second end": (GOOD + GOOD.splitlines(keepends=True)[-1], Corrupted),
    "a line feed too many": (GOOD + b"\n", Corrupted),
    "the end of another file": (GOOD.replace(b'{"records":1', b'{"records":2'), Corrupted),
    "no line feed at the end": (GOOD[:-1], Corrupted),
    "line feeds of another system": (GOOD.replace(b"\n", b"\r\n"), Corrupted),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_file_changes_nothing(fresh: AsyncStore, tmp_path: Path, name: str) -> None:
    """Everything that is not what ``snapshot`` writes is refused, by path and by stream."""
    tenant = fresh.for_tenant("acme")
    await tenant.kv.set("kept", b"1")
    before = await everything(fresh)
    file, error = WRONG[name]
    path = tmp_path / "wrong"
    path.write_bytes(file)
    with pytest.raises(error):
        await fresh.restore(path)
    with pytest.raises(error):
        await fresh.restore(io.BytesIO(file))
    assert await everything(fresh) == before
    await fresh.restore(io.BytesIO(GOOD))
    assert await tenant.kv.get("a") == b"1"


async def test_damage_anywhere_is_found(store: AsyncStore) -> None:
    """A bit that flips, a byte that is gone, an end that is missing: at any place."""
    stream = io.BytesIO()
    await store.snapshot(stream, tenant_id="acme")
    whole, before, chance = stream.getvalue(), await everything(store), random.Random(11)
    assert (await store.restore(io.BytesIO(whole))).records == len(before["acme"])
    head = whole.index(b"\n")
    places = [
        *range(0, head, 17),
        *(chance.randrange(len(whole)) for _ in range(60)),
        *range(len(whole) - 100, len(whole), 7),
    ]
    for place in places:
        flipped = whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]
        for damaged in (flipped, whole[:place], whole[:place] + whole[place + 1 :]):
            with pytest.raises((Corrupted, InvalidInput)):
                await store.restore(io.BytesIO(damaged))
    assert await everything(store) == before


async def test_sizes_are_bounded(store: AsyncStore) -> None:
    """By the caller, and by what a tenant may fill; a stream without an end is read no further than that."""
    stream = io.BytesIO()
    await store.snapshot(stream)
    whole = stream.getvalue()
    async with await AsyncStore.open(StoreConfig.in_memory(most_bytes=100_000)) as small:
        await small.for_tenant("acme").kv.set("kept", b"1")
        before = await everything(small)
        with pytest.raises(QuotaExceeded, match="100000 bytes"):
            await small.restore(io.BytesIO(whole))
        with pytest.raises(InvalidInput, match="most_bytes"):
            await small.restore(io.BytesIO(GOOD), most_bytes=len(GOOD) - 1)
        with pytest.raises(InvalidInput, match="most_bytes"):
            await small.restore(Endless(), most_bytes=1 << 20)
        for most in (0, -1, True, "1"):
            with pytest.raises(InvalidInput, match="most_bytes"):
                await small.restore(io.BytesIO(whole), most_bytes=most)  # type: ignore[arg-type]
        assert await everything(small) == before
        await small.restore(io.BytesIO(GOOD), most_bytes=len(GOOD))
        for _ in range(3):
            await small.restore(io.BytesIO(GOOD))
        await small.for_tenant("acme").kv.set("big", bytes(99_000))
        with pytest.raises(QuotaExceeded):
            await small.for_tenant("acme").kv.set("more", bytes(2000))


class Endless(io.RawIOBase):
    """A line that never ends."""

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return as much as is asked for."""
        assert size is not None
        assert size > 0
        return b"x" * size


async def test_what_cannot_be_written_leaves_the_old_file(
    store: AsyncStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a folder that is not there or may not be used, a path that is none: an error of ours each."""
    path = tmp_path / "a"
    await store.snapshot(path)
    before = path.read_bytes()
    await store.for_tenant("acme").kv.clear()

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left"):
            await store.snapshot(path)
    assert path.read_bytes() == before
    assert names_in(tmp_path) == [path.name]
    for wrong, error in (
        (tmp_path / "no" / "folder", NotFound),
        (tmp_path, StorageError),
        ("a\0b", InvalidInput),
        (None, InvalidInput),
        (7, InvalidInput),
        (io.StringIO(), InvalidInput),
        (Full(), Unavailable),
    ):
        with pytest.raises(error):
            await store.snapshot(wrong)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await store.snapshot("/dev/null/a")
    assert names_in(tmp_path) == [path.name]


PROGRAM = """
import sys
from storagelib import Store, StoreConfig
with Store.open(StoreConfig.in_memory()) as store:
    kv = store.for_tenant("acme").kv
    for number in range(1, 1_000_000):
        kv.set_many({f"{each}": b"%d " % number * 500 for each in range(200)})
        store.snapshot(sys.argv[1])
        print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path: Path, after: int) -> None:
    """Of the last snapshot that was told, or of the one after it."""
    path = tmp_path / "a"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = 0
        for _ in range(after):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    with Store.open(StoreConfig.in_memory()) as opened:
        assert opened.restore(path).records == 200
        values = {opened.for_tenant("acme").kv.get(f"{each}") for each in range(200)}
    (value,) = values
    assert value is not None
    assert int(value.split()[0]) >= told


class Full(io.RawIOBase):
    """A stream on a disk that is full."""

    def write(self, _data: Any, /) -> int:
        """Fail as the system does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_what_cannot_be_read(store: AsyncStore, tmp_path: Path) -> None:
    """No file, a folder, a closed stream, one of text: an error of ours each."""
    before = await everything(store)
    closed = io.BytesIO(GOOD)
    closed.close()
    secret = tmp_path / "secret"
    secret.write_bytes(GOOD)
    secret.chmod(0)
    for wrong, error in (
        (tmp_path / "nothing", NotFound),
        (tmp_path, Unavailable),
        ("a\0b", InvalidInput),
        (None, InvalidInput),
        (closed, InvalidInput),
        (io.StringIO("{}\n"), InvalidInput),
        *(((secret, PermissionDenied),) if os.geteuid() else ()),
    ):
        with pytest.raises(error):
            await store.restore(wrong)
    assert await everything(store) == before


async def test_only_what_is_in_memory(tmp_path: Path) -> None:
    """Stores on other backends are not in it; without one in memory there is nothing to write."""
    config = StoreConfig(
        backend="memory",
        sqlite=StoreConfig.on_sqlite(tmp_path / "a.db").sqlite,
        components={"events": ComponentConfig(backend="sqlite")},
        tenant_id_pattern="a[a-z]*",
    )
    stream = io.BytesIO()
    async with await AsyncStore.open(config) as mixed:
        await mixed.for_tenant("acme").kv.set("a", b"1")
        await mixed.for_tenant("acme").events.append("made", None)
        assert (await mixed.snapshot(stream)).records == 1
        await mixed.restore(io.BytesIO(stream.getvalue()))
        with pytest.raises(InvalidInput, match="tenant_id_pattern"):
            await mixed.restore(io.BytesIO(forged(["other"], [])))
        with pytest.raises(InvalidInput):
            await mixed.snapshot(stream, tenant_id="other")
    with pytest.raises(Unavailable):
        await mixed.snapshot(stream)
    async with await AsyncStore.open(StoreConfig.on_sqlite(tmp_path / "b.db")) as file:
        with pytest.raises(InvalidInput, match="no store of this configuration is in memory"):
            await file.snapshot(stream)
        with pytest.raises(InvalidInput, match="no store of this configuration is in memory"):
            await file.restore(io.BytesIO(GOOD))


def test_a_line_is_what_encode_writes() -> None:
    """The good file of these tests is one."""
    assert GOOD.splitlines()[1] == encode(entry())
