"""Two processes on one SQLite file: positions and sequences have no gaps, and a reader of either misses nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from storagelib._sync.store import Store
from storagelib.config import StoreConfig

EACH = 150

WRITER = """
import sys
from storagelib._sync.store import Store
from storagelib.components.events import NewEvent
from storagelib.config import StoreConfig
from storagelib.errors import Unavailable

path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Store.open(StoreConfig.on_sqlite(path, durability="normal")) as store:
    log = store.for_tenant("acme").events
    number = 0
    while number < count:
        try:
            if number % 3:
                log.append("one", [name, number], stream=f"s{number % 2}")
            else:
                log.append_many([NewEvent("many", [name, number], stream="s0"), NewEvent("many", None, stream="s1")])
        except Unavailable:
            continue
        number += 1
"""

READER = """
import json, sys
from storagelib._sync.store import Store
from storagelib.config import StoreConfig

path, wanted = sys.argv[1], int(sys.argv[2])
with Store.open(StoreConfig.on_sqlite(path, durability="normal")) as store:
    seen = []
    for event in store.for_tenant("acme").events.subscribe(batch=7, poll_seconds=0.002, poll_seconds_max=0.01):
        seen.append([event.position, event.stream, event.sequence])
        if len(seen) == wanted:
            break
print(json.dumps(seen))
"""


def test_two_processes_leave_no_gap(tmp_path: Path) -> None:
    """Two write, one reads while they do; what it saw is all there is, once and in order."""
    path = tmp_path / "shared.db"
    wanted = 2 * (EACH + EACH // 3)
    with Store.open(StoreConfig.on_sqlite(path, durability="normal")) as store:
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(wanted)], stdout=subprocess.PIPE, text=True
        )
        writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(EACH)]) for name in ("a", "b")]
        assert [writer.wait(120) for writer in writers] == [0, 0]
        out, _ = reader.communicate(timeout=120)
        events = list(store.for_tenant("acme").events.all())
    seen = json.loads(out)
    assert [position for position, _, _ in seen] == list(range(1, wanted + 1))
    assert seen == [[event.position, event.stream, event.sequence] for event in events]
    for stream in ("s0", "s1"):
        sequences = [event.sequence for event in events if event.stream == stream]
        assert sequences == list(range(1, len(sequences) + 1))
    times = [event.recorded_at for event in events]
    assert times == sorted(set(times))
    for name in ("a", "b"):
        mine = [event.payload[1] for event in events if event.payload and event.payload[0] == name]
        assert mine == list(range(EACH))
