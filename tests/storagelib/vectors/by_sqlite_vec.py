"""The tests of sqlite-vec itself, for a Python that can load extensions: ``test_vector_scan.py`` runs them.

As a plugin of pytest this adds SQLite that demands sqlite-vec to the subjects of the conformance tests.
"""

from __future__ import annotations

import itertools
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storagelib import Store, StoreConfig
from storagelib.conformance.subjects import Opening, Subject
from storagelib.sqlite import vector_scan, vectors

COUNT = 150
_NUMBERS = itertools.count()


@contextmanager
def _prepare(_request: Any) -> Iterator[Opening]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conformance.db")
        yield Opening(StoreConfig.on_sqlite(path, durability="normal", vector_scan="sqlite-vec"))


def pytest_llmspell_subjects() -> list[Subject]:
    """Add SQLite that demands sqlite-vec."""
    return [Subject("sqlite-vec", _prepare)]


class Compared:
    """Counts the rows that numpy compares."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand before what compares them."""
        self.rows = 0
        compare = vectors.nearest

        def nearest(matrix: Any, *rest: Any) -> Any:
            self.rows += len(matrix)
            return compare(matrix, *rest)

        monkeypatch.setattr(vectors, "nearest", nearest)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    """Count what numpy is left to do."""
    return Compared(monkeypatch)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Store]]:
    """Open one file twice: for numpy alone, and for sqlite-vec first."""
    path = tmp_path_factory.mktemp("scan") / "a.db"
    config = {scan: StoreConfig.on_sqlite(path, vector_scan=scan) for scan in ("numpy", "sqlite-vec")}
    with Store.open(config["numpy"]) as plain, Store.open(config["sqlite-vec"]) as fast:
        yield plain, fast


@pytest.fixture
def both(stores: tuple[Store, Store]) -> tuple[Any, Any]:
    """Give the vectors of one new tenant twice."""
    tenant = f"tenant-{next(_NUMBERS)}"
    plain, fast = (store.for_tenant(tenant).vectors for store in stores)
    return plain, fast


def found(matches: Any) -> list[tuple[str, float]]:
    """Return what must be the same."""
    return [(match.id, match.distance) for match in matches]


def drawn(kind: str, size: int) -> NDArray[np.float32]:
    """Draw vectors of one kind; lengths stay within what is allowed."""
    chance = np.random.default_rng(size)
    rows = chance.standard_normal((COUNT, size))
    if kind == "clustered":
        rows = rows[chance.integers(0, 5, COUNT)] + 0.01 * rows
    elif kind == "duplicates":
        rows = rows[chance.integers(0, 4, COUNT)]
    elif kind == "near ties":
        rows = rows[:1] * (1 + 1e-7 * chance.integers(-3, 4, (COUNT, size)))
    elif kind == "orthogonal":
        rows = np.eye(size)[chance.integers(0, size, COUNT)] * chance.choice([-1.0, 1.0], (COUNT, 1))
    elif kind == "zeros":
        rows *= chance.choice([0.0, 0.0, 1.0], (COUNT, 1))
    elif kind in ("tiny", "huge", "lengths"):
        lengths = {"tiny": [2e-18, 3e-18], "huge": [4e17, 9e17], "lengths": [2e-18, 1e-9, 1.0, 1e9, 9e17]}[kind]
        rows *= chance.choice(lengths, (COUNT, 1)) / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return rows.astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 16, 17, 384, 3072])
@pytest.mark.parametrize(
    "kind",
    ["random", "clustered", "duplicates", "near ties", "orthogonal", "zeros", "tiny", "huge", "lengths"],
)
def test_answers_are_those_of_numpy(both: tuple[Any, Any], kind: str, size: int) -> None:
    """The same ids, order and distances, whatever the condition, from one match to more than there are."""
    plain, fast = both
    # Around 3072 lengths are bounded more narrowly.
    short, long = (1e-3, 1e3) if size == 3072 else (1e-17, 1e15)
    if size == 3072 and kind in ("tiny", "huge", "lengths"):
        size = 4096
    rows = drawn(kind, size)
    ids = [f"{(n * 7) % COUNT:03}" for n in range(COUNT)]
    plain.insert_many(ids, rows, scope=["a", "b", "c"] * 50, metadata=[{"n": n % 10} for n in range(COUNT)])
    other = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    queries = [rows[np.flatnonzero(rows.any(axis=1))[0]], other * np.float32(short), other * np.float32(long)]
    conditions: list[dict[str, Any]] = [{}, {"scope": "b"}, {"filter": {"n": {"$lt": 3}}, "scope": ["a", "c"]}]
    for metric, condition, query in itertools.product(("cosine", "l2"), conditions, queries):
        for k in (1, 10, 49, 50, 51, COUNT + 1):
            asked = {"metric": metric, **condition}
            assert found(fast.search(query, k, **asked)) == found(plain.search(query, k, **asked))
    assert found(fast.search(other, 5, metric="inner_product")) == found(plain.search(other, 5, metric="inner_product"))


def test_few_rows_are_left_for_numpy(both: tuple[Any, Any], compared: Compared) -> None:
    """Of rows that are well apart only the nearest, of rows in one place all; a product and many queries are numpy's."""
    plain, fast = both
    plain.insert_many([f"{n:03}" for n in range(COUNT)], drawn("random", 384))
    plain.insert_many([f"{n:03}" for n in range(COUNT)], drawn("near ties", 383))

    def rows(size: int, **asked: Any) -> int:
        compared.rows = 0
        fast.search(np.ones(size, np.float32), 10, **asked)
        return compared.rows

    assert [10 <= rows(384, metric=metric) < 15 for metric in ("cosine", "l2")] == [True, True]
    assert [rows(383, metric=metric) for metric in ("cosine", "l2")] == [COUNT, COUNT]
    assert rows(384, metric="inner_product") == COUNT
    compared.rows = 0
    fast.search_many(np.ones((9, 384), np.float32), 10)
    assert compared.rows == 9 * COUNT


def test_no_statement_can_load_an_extension(both: tuple[Any, Any]) -> None:
    """Neither before a search nor after it."""
    _, fast = both
    engine = fast._backend.engine
    for _ in range(2):
        with engine.reading() as connection, pytest.raises(sqlite3.OperationalError, match="not authorized"):
            connection.execute("SELECT load_extension('vec0')")
        fast.upsert("a", np.ones(8, np.float32))
        assert found(fast.search(np.ones(8, np.float32), 1, metric="l2")) == [("a", 0.0)]


def test_what_cannot_be_loaded_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library for another machine is a fault where it is demanded, and left alone where it is not."""
    import sqlite_vec

    from storagelib.errors import InvalidInput

    (tmp_path / "vec0.so").write_bytes(b"not a library")
    monkeypatch.setattr(sqlite_vec, "loadable_path", lambda: str(tmp_path / "vec0"))
    vector_scan._library.cache_clear()
    try:
        with pytest.raises(InvalidInput, match=r"sqlite\.vector_scan: sqlite-vec cannot be loaded: "):
            Store.open(StoreConfig.on_sqlite(tmp_path / "a.db", vector_scan="sqlite-vec"))
        assert not (tmp_path / "a.db").exists()
        with Store.open(StoreConfig.on_sqlite(tmp_path / "a.db")) as store:
            assert store.for_tenant("acme").vectors.stats(8).compared_by == "numpy"
    finally:
        vector_scan._library.cache_clear()


def test_it_is_loaded_by_the_first_search_only(tmp_path: Path) -> None:
    """A store that searches no vectors neither imports nor loads it; this Python has not imported it by itself."""
    import subprocess

    code = (
        "import sys\nfrom storagelib import Store, StoreConfig\n"
        f"with Store.open(StoreConfig.on_sqlite({str(tmp_path / 'a.db')!r})) as store:\n"
        "    tenant = store.for_tenant('acme')\n"
        "    tenant.kv.set('a', b'1')\n"
        "    assert tenant.kv.get('a') == b'1' and 'sqlite_vec' not in sys.modules\n"
        "    tenant.vectors.insert('a', [1.0, 0.0])\n"
        "    assert tenant.vectors.get('a', dimension=2) and 'sqlite_vec' not in sys.modules\n"
        "    assert tenant.vectors.search([1.0, 0.0], 1) and 'sqlite_vec' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
