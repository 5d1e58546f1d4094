"""The SQLite file: who may open it, what happens when it is damaged or full, and what a second process sees."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage_sql import migrations
from storagelib import AsyncStore, Store, StoreConfig
from storagelib.errors import Corrupted, MigrationError, PermissionDenied, StorageError, Unavailable
from storagelib.sqlite.engine import SqliteEngine

NEWEST = migrations.available("sqlite")[-1].version


def opened(path: Path, **options: Any) -> Store:
    """Open a store on a file, fast and not for keeps."""
    return Store.open(StoreConfig.on_sqlite(path, durability="normal", **options))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of two megabytes; where none can be mounted the file may have as many pages only."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True, check=False
    )
    yield place
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", place], check=True)


def fill(store: Store, place: Path) -> StorageError:
    """Write until the disk is full and return the error."""
    if not os.path.ismount(place):
        store._engines["sqlite"]._writer.execute("PRAGMA max_page_count = 400")
    kv = store.for_tenant("acme").kv
    chance = random.Random(0)
    for number in range(10_000):
        try:
            kv.set(f"k/{number}", chance.randbytes(20_000))
        except StorageError as error:
            return error
    raise AssertionError("the disk never filled up")


def test_a_full_disk_loses_nothing_that_was_confirmed(small_disk: Path) -> None:
    """The error says so and may be retried; reading and deleting go on; after deleting there is room again."""
    with opened(small_disk / "a.db") as store:
        error = fill(store, small_disk)
        assert isinstance(error, Unavailable)
        assert "full" in str(error)
        assert error.outcome == "nothing"
        kv = store.for_tenant("acme").kv
        keys = list(kv.keys())
        assert len(keys) > 5
        assert all(len(kv.get(key) or b"") == 20_000 for key in keys)
    with opened(small_disk / "a.db") as store:
        assert list(store.for_tenant("acme").kv.keys()) == keys


def test_a_truncated_file_is_told_as_damaged(tmp_path: Path) -> None:
    """By the call that meets the damage, not by a crash, and never by wrong data."""
    path = tmp_path / "a.db"
    with opened(path) as store:
        store.for_tenant("acme").kv.set_many({f"k/{n}": bytes(2000) for n in range(500)})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Corrupted):
        _read_all(path)
    path.write_bytes(content)
    assert _read_all(path) == 500


def _read_all(path: Path) -> int:
    with opened(path) as store:
        kv = store.for_tenant("acme").kv
        return len(kv.get_many(list(kv.keys())))


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_another_file_is_not_taken_for_a_store(tmp_path: Path, content: bytes) -> None:
    """Nor is it changed."""
    path = tmp_path / "a.db"
    path.write_bytes(content)
    with pytest.raises((Corrupted, MigrationError)):
        opened(path)
    assert path.read_bytes() == content


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """With the versions, and unchanged."""
    path = tmp_path / "a.db"
    opened(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(
            "INSERT INTO schema_migrations (version, name, checksum, duration_ms, release) VALUES (?, 'x', 'x', 0, '9')",
            (NEWEST + 1,),
        )
    raw.close()
    with pytest.raises(MigrationError, match="newer release"):
        opened(path)


def test_an_older_file_is_brought_up_after_a_copy(tmp_path: Path) -> None:
    """The copy is the file as it was, for its owner only; what was stored is still there."""
    path = tmp_path / "a.db"
    old(path, 15)
    with sqlite3.connect(path) as raw:
        raw.execute(
            "INSERT INTO kv_store (tenant_id, key, value, created_at, updated_at) VALUES ('acme', 'a', x'31', 0, 0)"
        )
    raw.close()
    with opened(path) as store:
        assert store.for_tenant("acme").kv.get("a") == b"1"
    copy = tmp_path / "a.db.v15.copy"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as kept:
        assert kept.execute("SELECT max(version) FROM schema_migrations").fetchone() == (15,)
        assert kept.execute("SELECT count(*) FROM kv_store").fetchone() == (1,)
    kept.close()


def test_an_older_file_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    """Bringing it up runs alone: who has it open is named as the reason."""
    path = tmp_path / "a.db"
    old(path, 15)
    user = SqliteEngine(path)
    from storagelib.sqlite.engine import _present

    user._presence = _present(path)
    try:
        with pytest.raises(MigrationError, match="another process"):
            opened(path, busy_timeout_seconds=0.3)
    finally:
        user.close()
    opened(path).close()


def old(path: Path, version: int) -> None:
    """Make a file as an earlier release made it."""
    from storage_sql.effects import drive
    from storage_sql.runner import RunOptions, migrate_sqlite
    from storagelib.sqlite.engine import _Driver

    raw = sqlite3.connect(path, isolation_level=None)
    known = migrations.available("sqlite")[:version]
    drive(migrate_sqlite(RunOptions(release="old"), known), _Driver(raw))
    raw.close()


def test_a_damaged_document_is_told_as_such(tmp_path: Path) -> None:
    """Not as an error of the JSON module; and whoever keeps the error does not keep others from fresh answers."""
    with opened(tmp_path / "a.db") as store:
        kv = store.for_tenant("acme").kv
        kv.set("a", b"1", metadata={"n": 1})
        kv.set("x", b"old")

        def damage(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE kv_store SET metadata = '{' WHERE key = 'a'")

        engine = store._engines["sqlite"]
        engine._writer.execute("PRAGMA ignore_check_constraints = 1")
        engine.write(damage)
        with pytest.raises(Corrupted) as kept:
            kv.get_many(["a", "x"])
        kv.set("x", b"new")
        assert kv.get("x") == b"new"
        assert kept.value is not None


def test_a_folder_that_may_not_be_written_is_told_as_such(tmp_path: Path) -> None:
    """Before anything else."""
    blocker = tmp_path / "file"
    blocker.write_text("here")
    with pytest.raises((Unavailable, PermissionDenied)):
        opened(blocker / "a.db")


WRITER = """
import sys
from storagelib import Store, StoreConfig
with Store.open(StoreConfig.on_sqlite(sys.argv[1], durability="normal", busy_timeout_seconds=30)) as store:
    kv = store.for_tenant("acme").kv
    for _ in range(int(sys.argv[2])):
        kv.increment("n")
        kv.set(f"{sys.argv[3]}/{_}", b"x")
"""


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Three at once, from the first opening on: every increment counts, nothing is lost."""
    path = tmp_path / "a.db"
    command = [sys.executable, "-c", WRITER, str(path), "100"]
    running = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in "abc"]
    ends = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], ends
    with opened(path) as store:
        kv = store.for_tenant("acme").kv
        assert kv.get("n") == b"300"
        assert len(list(kv.keys())) == 301


def test_a_process_that_dies_in_the_middle_leaves_whole_transactions(tmp_path: Path) -> None:
    """What it had confirmed is there; the file opens as if nothing had been."""
    path = tmp_path / "a.db"
    opened(path).close()
    code = WRITER.replace("kv.set(f", "print(_, flush=True) or kv.set(f")
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), "100000", "a"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 200:
                process.kill()
                break
        told = [int(line) for line in process.stdout if line.endswith("\n")]
    last = max([200, *told])
    with opened(path) as store:
        counted = int(store.for_tenant("acme").kv.get("n") or 0)
        assert counted >= last
        assert store.for_tenant("acme").kv.increment("n") == counted + 1


def test_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    """A long write transaction is neither seen nor waited for."""
    with opened(tmp_path / "a.db") as store:
        kv = store.for_tenant("acme").kv
        kv.set("a", b"before")
        entered, leave = threading.Event(), threading.Event()

        def hold(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE kv_store SET value = x'00'")
            entered.set()
            leave.wait(60)

        writer = threading.Thread(target=lambda: store._engines["sqlite"].write(hold))
        writer.start()
        assert entered.wait(60)
        assert kv.get("a") == b"before"
        assert writer.is_alive(), "it was the writer's end that was waited for"
        leave.set()
        writer.join()
        assert kv.get("a") == b"\0"


def test_another_process_that_writes_for_too_long_is_told(tmp_path: Path) -> None:
    """The call may be made again, and works then."""
    path = tmp_path / "a.db"
    with opened(path, busy_timeout_seconds=0.1) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="another process"):
            store.for_tenant("acme").kv.set("a", b"1")
        other.execute("ROLLBACK")
        other.close()
        assert store.for_tenant("acme").kv.set("a", b"1") == 1


def test_a_verb_that_fails_leaves_nothing_half_done(tmp_path: Path) -> None:
    """Whatever raises inside a transaction undoes it."""
    with opened(tmp_path / "a.db") as store:
        engine = store._engines["sqlite"]

        def fail(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO kv_store (tenant_id, key, value, created_at, updated_at) VALUES ('acme', 'a', x'', 0, 0)"
            )
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            engine.write(fail)
        assert store.for_tenant("acme").kv.get("a") is None
        assert store.for_tenant("acme").kv.set("a", b"1") == 1


async def test_a_cancelled_call_leaves_the_store_usable(tmp_path: Path) -> None:
    """The thread ends what it began; the next calls are served."""
    async with await AsyncStore.open(StoreConfig.on_sqlite(tmp_path / "a.db", durability="normal")) as store:
        kv = store.for_tenant("acme").kv
        calls = [asyncio.create_task(kv.increment("n")) for _ in range(50)]
        await asyncio.sleep(0.001)
        for call in calls[::3]:
            call.cancel()
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, int | asyncio.CancelledError) for result in done)
        assert await kv.increment("n") > sum(isinstance(result, int) for result in done)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """And closing twice does nothing."""
    store = opened(tmp_path / "a.db")
    kv = store.for_tenant("acme").kv
    store.close()
    store.close()
    calls: tuple[Callable[[], object], ...] = (lambda: kv.get("a"), lambda: kv.set("a", b""), kv.clear)
    for call in calls:
        with pytest.raises(Unavailable, match="closed"):
            call()
