"""The one format of a benchmark's result (decision D33): a table for people, JSON for pages and later runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

FOLDER = Path("build/bench")


@dataclass(frozen=True, slots=True)
class Result:
    """One figure: ours, the peer's, the ratio of the two, what was wanted, and whether that holds (never set by hand)."""

    name: str
    unit: str
    ours: float | None
    peer: float | None
    peer_name: str
    ratio: float | None
    wanted: str
    holds: bool | None
    runs: int
    command: str


def figure(
    name: str,
    unit: str,
    ours: float | None,
    wanted: str,
    holds: Callable[[float], bool] | None = None,
    *,
    peer: float | None = None,
    peer_name: str = "",
    runs: int = 1,
    command: str,
) -> Result:
    """Make a result; ``holds`` judges ``ours``, a figure that could not be measured does not hold."""
    verdict = None if holds is None else ours is not None and holds(ours)
    ratio = ours / peer if ours is not None and peer else None
    return Result(name, unit, ours, peer, peer_name, ratio, wanted, verdict, runs, command)


def publish(area: str, results: Sequence[Result]) -> None:
    """Print the table and write the file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{area}.json"
    path.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n", encoding="utf-8")
    table = Table(title=f"{area} (written to {path})")
    for column in ("what", "ours", "unit", "peer", "ratio", "wanted", "holds"):
        table.add_column(column, justify="right" if column in {"ours", "peer", "ratio"} else "left")
    for result in results:
        peer = "" if result.peer is None else f"{result.peer:,.2f} ({result.peer_name})"
        ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
        holds = {None: "", True: "yes", False: "NO"}[result.holds]
        ours = "not measured" if result.ours is None else f"{result.ours:,.2f}"
        table.add_row(result.name, ours, result.unit, peer, ratio, result.wanted, holds)
    Console().print(table)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the sorted values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]
