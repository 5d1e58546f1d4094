"""What compares vectors in SQLite: whoever measures first, the answer is numpy's to the last bit.

``by_sqlite_vec.py`` beside this has the tests of sqlite-vec itself, which a Python runs that can load extensions.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storagelib import Store, StoreConfig
from storagelib.components.distances import distances, reach
from storagelib.errors import Corrupted
from storagelib.sqlite import vector_scan

ROOT = Path(__file__).resolve().parents[3]
ASKED = """
import json, sqlite3, sys, sysconfig
print(json.dumps([sysconfig.get_config_var("SOABI"), hasattr(sqlite3.Connection, "enable_load_extension")]))
"""


def python_that_loads() -> str:
    """Return an interpreter that can load extensions and the packages of this one; skip when there is none."""
    named = [sys.executable, *map(shutil.which, (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3"))]
    places = [Path(folder, "python3") for folder in ("/usr/bin", "/usr/local/bin", sys.base_prefix + "/bin")]
    for python in dict.fromkeys(map(str, filter(None, [*named, *places]))):
        if not os.access(python, os.X_OK):
            continue
        told = subprocess.run([python, "-c", ASKED], capture_output=True, text=True, check=False)
        if told.stdout.strip() == f'["{sysconfig.get_config_var("SOABI")}", true]':
            return python
    pytest.skip("no Python of this version here can load extensions of SQLite")


def places_of_packages() -> str:
    """Return where this Python finds what the tests import, for one that is not of this environment."""
    names = ("storagelib", "storage_sql", "storage_operator", "storage_loadtest", "numpy", "pytest", "psycopg")
    files = (importlib.import_module(name).__file__ for name in names)
    return os.pathsep.join(dict.fromkeys(str(Path(file).parents[1]) for file in files if file is not None))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(["tests/storagelib/vectors/by_sqlite_vec.py"], id="sqlite-vec"),
        pytest.param(["storagelib/conformance/test_vectors.py", "-k", "sqlite-vec-sync"], id="conformance"),
    ],
)
def test_sqlite_vec_passes(asked: list[str]) -> None:
    """A Python that can load it runs its own tests, and those that every backend passes."""
    python = python_that_loads()
    plugin = "tests.storagelib.vectors.by_sqlite_vec"
    finished = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin, "--no-header", *asked],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": places_of_packages(), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " passed" in finished.stdout
    assert "skipped" not in finished.stdout


class Measuring:
    """Stands for sqlite-vec, and is as wrong as single precision may be."""

    def __init__(self, seed: int = 0) -> None:
        """Take what its errors are drawn by."""
        self.calls = 0
        self._chance = np.random.default_rng(seed)

    def load(self, connection: sqlite3.Connection) -> tuple[str, ...]:
        """Make its functions known to a connection."""
        for metric, name in vector_scan.FUNCTIONS.items():
            connection.create_function(name, 2, self._measure(metric))
        return ()

    def _measure(self, metric: Any) -> Callable[[bytes, bytes], float | None]:
        def measure(one: bytes, other: bytes) -> float | None:
            self.calls += 1
            row, query = np.frombuffer(one, "<f4"), np.frombuffer(other, "<f4")
            (right,) = distances(row[np.newaxis], query, metric).tolist()
            stretch, slack = reach(metric, len(query))
            sign = float(self._chance.choice([-1.0, 0.0, 1.0]))
            if metric == "cosine":
                return None if math.isnan(right) else right + sign * slack / 2
            error, least = (stretch - 1) / (stretch + 1), slack / (stretch + 1)
            return max(0.0, right * (1 + sign * error) + sign * least)

        return measure


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Measuring:
    """Put what measures badly in the place of sqlite-vec."""
    stand_in = Measuring()
    monkeypatch.setattr(vector_scan, "load", stand_in.load)
    return stand_in


@pytest.fixture
def both(tmp_path: Path, measuring: Measuring) -> Iterator[tuple[Any, Any]]:
    """Give the vectors of one tenant twice: as numpy alone finds them, and with the other first."""
    config = {scan: StoreConfig.on_sqlite(tmp_path / "a.db", vector_scan=scan) for scan in ("numpy", "auto")}
    with Store.open(config["numpy"]) as plain, Store.open(config["auto"]) as fast:
        yield plain.for_tenant("acme").vectors, fast.for_tenant("acme").vectors


def found(matches: Any) -> list[tuple[str, float]]:
    """Return what must be the same."""
    return [(match.id, match.distance) for match in matches]


@pytest.mark.parametrize("size", [1, 3, 128])
def test_the_worst_errors_change_nothing(both: tuple[Any, Any], size: int) -> None:
    """Rows so near to each other that the errors put them in any order are found in the order of numpy."""
    plain, fast = both
    chance = np.random.default_rng(size)
    base = chance.standard_normal(size)
    near = base + chance.standard_normal((200, size)) * chance.choice([0.0, 1e-7, 1e-6, 1e-5, 1e-4], (200, 1))
    far = chance.standard_normal((40, size)) * chance.choice([0.0, 1e-15, 1.0, 1e15], (40, 1))
    rows = np.concatenate([near, far]).astype(np.float32)
    plain.insert_many([f"{(n * 37) % 240:03}" for n in range(240)], rows)
    for metric in ("cosine", "l2"):
        for k in (1, 3, 50, 199, 239, 240, 241):
            for query in (rows[0], rows[7], chance.standard_normal(size).astype(np.float32)):
                assert found(fast.search(query, k, metric=metric)) == found(plain.search(query, k, metric=metric))


def test_each_row_that_is_meant_is_measured_once(both: tuple[Any, Any], measuring: Measuring) -> None:
    """Another tenant's rows, and those that a condition leaves out, are not; a product is not measured at all."""
    plain, fast = both
    rows = np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32)
    ids = [f"v{n}" for n in range(60)]
    plain.insert_many(ids, rows, scope=["a", "b"] * 30, metadata=[{"n": n} for n in range(60)])

    def calls(**asked: Any) -> int:
        before = measuring.calls
        assert found(fast.search(rows[0], 5, **asked)) == found(plain.search(rows[0], 5, **asked))
        return measuring.calls - before

    assert calls() == 60
    assert calls(scope="a") == 30
    assert calls(filter={"n": {"$lt": 20}}) == 20
    assert calls(scope="b", filter={"n": {"$lt": 20}}, metric="l2") == 10
    assert calls(scope_prefix="none") == 0
    assert calls(metric="inner_product") == 0


def test_many_queries_go_through_the_rows_once(both: tuple[Any, Any], measuring: Measuring) -> None:
    """One is measured, several are left to numpy, and hybrid searches rank by the same nearness."""
    plain, fast = both
    rows = np.random.default_rng(2).standard_normal((50, 8)).astype(np.float32)
    plain.insert_many([f"v{n}" for n in range(50)], rows, contents=["red fox", "red hen"] * 25)
    for count, expected in ((1, 50), (2, 0), (9, 0)):
        before = measuring.calls
        answers = [list(map(found, each.search_many(rows[:count], 3))) for each in (plain, fast)]
        assert answers[0] == answers[1]
        assert measuring.calls - before == expected
    hybrid = [
        [(each.id, each.match.distance, each.score, each.vector_rank, each.text_rank) for each in found]
        for found in (each.hybrid_search("hen", rows[3], 4) for each in (plain, fast))
    ]
    assert hybrid[0] == hybrid[1]
    assert measuring.calls == 50 * 2


@pytest.mark.parametrize("sizes", [{"b": 0}, {"b": 31}, {"b": 36}, {"b": 64}, {"a": 28, "b": 36}])
def test_a_vector_of_another_length_is_damage(both: tuple[Any, Any], tmp_path: Path, sizes: dict[str, int]) -> None:
    """It is told, whoever measures first, and no other vector is taken for it."""
    plain, fast = both
    rows = np.random.default_rng(4).standard_normal((3, 8)).astype(np.float32)
    plain.insert_many(["a", "b", "c"], rows)
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("PRAGMA ignore_check_constraints = 1")
        file.executemany(
            "UPDATE vector_embeddings_8 SET embedding = zeroblob(?) WHERE id = ?",
            [(size, id_) for id_, size in sizes.items()],
        )
        file.commit()
    for vectors, metric, k in itertools.product((plain, fast), ("cosine", "l2"), (1, 3)):
        with pytest.raises(Corrupted, match="8 dimensions"):
            vectors.search(rows[2], k, metric=metric)


def test_the_reach_holds_for_sums_in_single_precision() -> None:
    """Sums made in the worst order, one after the other, are within what is allowed for, however long the vectors are."""
    chance = np.random.default_rng(3)
    for size in (1, 7, 384, 3072):
        for length in (1e-18, 1e-9, 1.0, 1e18):
            rows = chance.standard_normal((20, size))
            rows *= length / np.linalg.norm(rows, axis=1, keepdims=True) * 0.99
            rows = np.concatenate([rows, rows * (1 + 1e-6 * chance.standard_normal((20, size)))]).astype(np.float32)
            query = rows[0]
            products, squares = (np.cumsum(rows * other, axis=1, dtype=np.float32)[:, -1] for other in (query, rows))
            cosines = (1 - products / np.sqrt(squares.astype(np.float64) * float(squares[0]))).astype(np.float32)
            _, slack = reach("cosine", size)
            assert np.abs(cosines - distances(rows, query, "cosine")).max() <= slack / 2
            apart = rows - query
            measured = np.sqrt(np.cumsum(apart * apart, axis=1, dtype=np.float32)[:, -1])
            stretch, slack = reach("l2", size)
            right = distances(rows, query, "l2")
            error, least = (stretch - 1) / (stretch + 1), slack / (stretch + 1)
            assert (np.abs(measured - right) <= error * right + least).all()


def test_statistics_tell_what_compares(both: tuple[Any, Any]) -> None:
    """A user sees which it is."""
    plain, fast = both
    assert (plain.stats(8).compared_by, fast.stats(8).compared_by) == ("numpy", "sqlite-vec")
    with Store.open(StoreConfig.in_memory()) as store:
        assert store.for_tenant("acme").vectors.stats(8).compared_by == "numpy"


WITHOUT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "sqlite_vec":
            raise ModuleNotFoundError("No module named 'sqlite_vec'", name=name)

sys.meta_path.insert(0, Hidden())
from storagelib import Store, StoreConfig
from storagelib.errors import InvalidInput
with Store.open(StoreConfig.on_sqlite(sys.argv[1] + "/auto.db")) as store:
    vectors = store.for_tenant("acme").vectors
    vectors.insert("a", [1.0, 0.0])
    assert [match.id for match in vectors.search([1.0, 0.0], 1)] == ["a"]
    assert vectors.stats(2).compared_by == "numpy"
try:
    Store.open(StoreConfig.on_sqlite(sys.argv[1] + "/demanded.db", vector_scan="sqlite-vec"))
except InvalidInput as error:
    print(*error.faults, sep="\\n")
"""


def test_what_is_missing_is_told_at_open(tmp_path: Path) -> None:
    """Where sqlite-vec is demanded every reason against it, with what to do; where it is not, numpy compares."""
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    told = finished.stdout.splitlines()
    assert told[-1] == ("sqlite.vector_scan: sqlite-vec is not installed: pip install 'llmspell-storage[sqlite-vec]'")
    loads = hasattr(sqlite3.Connection, "enable_load_extension")
    assert len(told) == (1 if loads else 2)
    assert all(line.startswith("sqlite.vector_scan: this Python's sqlite3 was built without") for line in told[:-1])
    assert (tmp_path / "auto.db").exists()
    assert not (tmp_path / "demanded.db").exists()
