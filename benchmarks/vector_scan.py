"""Searching vectors in SQLite beside raw sqlite3 with numpy, and by sqlite-vec beside numpy alone: ``make bench-vector_scan``.

A Python that cannot load extensions of SQLite measures numpy alone; another one runs this with the packages of the project:
``PYTHONPATH=.:sql:.venv/lib/python3.11/site-packages python3 -m benchmarks.vector_scan``. Answers are the same, so only times differ.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.pairs import latency
from benchmarks.results import Result, figure, publish
from storagelib import Store, StoreConfig
from storagelib.components.distances import Floats
from storagelib.errors import InvalidInput

_K = 10
_TENANTS = 2
_DIRECTIONS = 32
_NOISE = 0.3
_QUERIES = 40
_TEXT = "A text of a few hundred bytes, as chunks of documents have. " * 8
_SIZES = ((100, 384), (2_000, 384), (20_000, 384), (100_000, 384), (2_000, 768), (20_000, 768))


def main() -> None:
    """Measure, print the table, write build/bench/vector_scan.json."""
    chosen = argparse.ArgumentParser(description=__doc__)
    chosen.add_argument("--rows", type=int, default=max(rows for rows, _ in _SIZES), help="leave larger sizes out")
    most = chosen.parse_args().rows
    results: list[Result] = []
    for rows, dimension in _SIZES:
        if rows <= most:
            with TemporaryDirectory() as folder:
                results += scans(Path(folder), rows, dimension, command="make bench-vector_scan")
    publish("vector_scan", results)


def scans(folder: Path, rows: int, dimension: int, *, command: str) -> list[Result]:
    """Measure one query at a time in a file of which half is another tenant's."""
    path = folder / f"scans-{rows}-{dimension}.db"
    results = []

    def measure(name: str, ours: Callable[[Floats], object], peer_name: str, peer: Callable[[Floats], object]) -> None:
        mine, theirs = itertools.cycle(queries), itertools.cycle(queries)
        # In turns call by call: what else the machine does changes faster than a run of many calls takes.
        runs = max(9, min(101, 500_000 // rows))
        pair = latency(lambda: ours(next(mine)), lambda: peer(next(theirs)), calls=1, runs=runs)
        name = f"vectors search, SQLite, {rows:,} × {dimension}, {name}"
        results.append(
            figure(
                name,
                "ms",
                pair.ours * 1e3,
                "",
                peer=pair.peer * 1e3,
                peer_name=peer_name,
                runs=pair.runs,
                command=command,
            )
        )

    with ExitStack() as stack:
        plain = stack.enter_context(Store.open(StoreConfig.on_sqlite(path, durability="normal", vector_scan="numpy")))
        queries = _filled(plain, rows, dimension)
        vectors = plain.for_tenant("tenant-1").vectors
        raw = stack.enter_context(closing(sqlite3.connect(path)))
        measure(
            "cosine, numpy", partial(vectors.search, k=_K), "raw sqlite3 and numpy", partial(_by_hand, raw, dimension)
        )
        try:
            config = StoreConfig.on_sqlite(path, durability="normal", vector_scan="sqlite-vec")
            fast = stack.enter_context(Store.open(config)).for_tenant("tenant-1").vectors
        except InvalidInput as error:
            print(f"left out: {error}")
            return results
        for metric in ("cosine", "l2"):
            ours, peer = (partial(each.search, k=_K, metric=metric) for each in (fast, vectors))  # type: ignore[arg-type]
            measure(f"{metric}, sqlite-vec", ours, "numpy alone", peer)
    return results


def _by_hand(raw: sqlite3.Connection, dimension: int, query: Floats) -> list[tuple[object, ...]]:
    """Do what somebody writes who needs ten rows: all embeddings in one matrix, one product, and the rows of the best."""
    found = raw.execute(
        f"SELECT rowid, embedding FROM vector_embeddings_{dimension} WHERE tenant_id = 'tenant-1'"
    ).fetchall()
    matrix = np.frombuffer(b"".join(embedding for _, embedding in found), "<f4").reshape(-1, dimension)
    cosines = matrix @ query / np.linalg.norm(matrix, axis=1)
    best = np.argpartition(-cosines, _K)[:_K]
    places = [found[place][0] for place in best[np.argsort(-cosines[best])]]
    marks = ", ".join("?" for _ in places)
    columns = "id, scope, content, metadata, document_id, position, created_at, updated_at"
    return raw.execute(
        f"SELECT {columns} FROM vector_embeddings_{dimension} WHERE rowid IN ({marks})", places
    ).fetchall()


def _filled(store: Store, rows: int, dimension: int) -> Floats:
    """Write two tenants' vectors in turns, near a space of few directions as embeddings are; return queries drawn alike."""
    chance = np.random.default_rng(15)
    directions = chance.standard_normal((_DIRECTIONS, dimension), dtype=np.float32)

    def draw(count: int) -> Floats:
        noise = chance.standard_normal((count, dimension), dtype=np.float32)
        made: Floats = chance.standard_normal((count, _DIRECTIONS), dtype=np.float32) @ directions + _NOISE * noise
        return made

    parts = [range(first, min(rows, first + 5_000)) for first in range(0, rows, 5_000)]
    for part, tenant in itertools.product(parts, range(_TENANTS)):
        ids = [f"v{place}" for place in part]
        store.for_tenant(f"tenant-{tenant}").vectors.insert_many(ids, draw(len(ids)), contents=[_TEXT] * len(ids))
    return draw(_QUERIES)


if __name__ == "__main__":
    main()
