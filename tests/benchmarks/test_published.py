"""What is published follows from the results alone: the same results give the same tables and the same plots."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tables import Table, limit, summary, tables_of

ROOT = Path(__file__).resolve().parents[2]


def result(name: str, ours: float, peer: float | None = None, wanted: str = "", **other: Any) -> dict[str, Any]:
    """Make a result as it stands in a file."""
    made = {
        "name": name,
        "unit": "ms",
        "ours": ours,
        "peer": peer,
        "peer_name": "bare, no row-level security" if peer else "",
        "ratio": ours / peer if peer else None,
        "wanted": wanted,
        "holds": None,
        "runs": 5,
        "command": "make bench-storagelib",
    }
    return {**made, **other}


RESULTS = [
    result("kv get", 2.0, 1.0, "≤ 1.3× the time", holds=False),  # noqa: RUF001
    result("kv set", 1.2, 1.0, "≤ 1.3× the time", holds=True),  # noqa: RUF001
    result("kv delete", 1.0, 2.0),
    result("kv get, PostgreSQL, sealed mode", 3.0, 1.0),
    result("kv get, SQLite", 9.0, 1.0),
    result("target: state read, p95", 2.5, wanted="< 5 ms", holds=True),
    *(
        each
        for candidates, time, share in ((20, 1.0, 0.9), (40, 1.5, 0.96))
        for each in (
            result(f"vectors search, many, ef_search {candidates}", time, time * 0.9),
            result(f"vectors search, many, ef_search {candidates}: recall@10", share, share, unit="share"),
        )
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with two areas."""
    (tmp_path / "storagelib.json").write_text(json.dumps(RESULTS), encoding="utf-8")
    (tmp_path / "operator.json").write_text(json.dumps([result("burst of 100", 20, wanted="≥ 60")]), encoding="utf-8")
    return tmp_path


def test_the_library_has_a_table_for_each_store(folder: Path) -> None:
    """Other areas have one; absolute targets come last; nothing is left out."""
    tables = tables_of(folder)
    assert [table.name for table in tables] == ["operator", "storagelib-kv", "storagelib-vectors", "storagelib-target"]
    assert sum(len(table.results) for table in tables) == len(RESULTS) + 1


def test_the_summary_counts_what_holds(folder: Path) -> None:
    """Medians are of times alone."""
    assert summary(folder) == [
        ("Keys and values", "bare", "1.20", "3.00", "1 of 2"),
        ("Vectors", "bare", "1.11", "", ""),
        ("Absolute targets", "", "", "", "1 of 1"),
    ]


@pytest.mark.parametrize(
    ("wanted", "bound"),
    [
        ("≤ 1.3× the time", (True, 1.3)),  # noqa: RUF001
        ("≥ 2× faster", (True, 0.5)),  # noqa: RUF001
        ("≥ 0.5 of COPY", (True, 2.0)),
        ("< 50 ms", (True, 50.0)),
        ("≥ 10,000", (False, 10_000.0)),
        ("≥ its recall", None),
        ("", None),
    ],
)
def test_a_wanted_text_says_its_bound(wanted: str, bound: tuple[bool, float] | None) -> None:
    """Speed and throughput beside a peer become bounds on time."""
    assert limit(wanted) == bound


def test_plots_are_the_same_each_time(folder: Path) -> None:
    """No date, no random id, no blanks at the ends of lines; each holds what it shows as text."""
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib comes with the peers of benchmarks")
    made: list[dict[str, bytes]] = []
    for turn in ("first", "second"):
        (folder / turn).mkdir()
        drawn = [path for table in tables_of(folder) for path in plots.draw(table, folder / turn)]
        made.append({path.name: path.read_bytes() for path in drawn})
    assert made[0] == made[1]
    assert sorted(made[0]) == [
        "operator.svg",
        "storagelib-kv.svg",
        "storagelib-target.svg",
        "storagelib-vectors-recall.svg",
    ]
    assert b"kv get" in made[0]["storagelib-kv.svg"]
    assert b"<dc:date>" not in made[0]["storagelib-kv.svg"]
    assert b" \n" not in made[0]["storagelib-kv.svg"]


def test_a_table_without_bounds_and_peers_has_no_plot(tmp_path: Path) -> None:
    """There is nothing to draw to a scale."""
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib comes with the peers of benchmarks")
    assert plots.draw(Table("it", "It", [result("round trips", 5)]), tmp_path) == []


def test_the_reference_needs_no_matplotlib() -> None:
    """Checking the pages happens where only the tests' needs are installed."""
    code = "import sys; sys.modules['matplotlib'] = None; import runpy; sys.argv = ['reference', '--check']; "
    code += "runpy.run_path('scripts/reference', run_name='__main__')"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "matplotlib" not in finished.stderr
    assert finished.returncode in (0, 1), finished.stderr
