"""A plot of each table, as SVG that is the same for the same results. Needs matplotlib, which publishing alone has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.tables import Table, limit

__all__ = ["draw"]

_COLOURS: Final = {True: "#2f6f9f", False: "#d9822b", None: "#9aa5b1"}
_LADDER: Final = re.compile(r"(?P<what>.*), ef_search (?P<candidates>\d+)(?P<recall>: recall@10)?$")
_SETTINGS: Final = {
    "svg.hashsalt": "benchmarks",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
}


def draw(table: Table, folder: Path) -> list[Path]:
    """Draw a table's plots into a folder and return them; a table without a ratio or a limit has none."""
    made = []
    with mpl.rc_context(_SETTINGS):
        bars = _bars(table)
        if bars is not None:
            made.append(_save(bars, folder / f"{table.name}.svg"))
        ladder = _ladder(table)
        if ladder is not None:
            made.append(_save(ladder, folder / f"{table.name}-recall.svg"))
    return made


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    # Editors and hooks take blanks at the ends of lines for mistakes.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    return path


def _bars(table: Table) -> Figure | None:
    """Ours to the peer's with the bound as a stroke, or, without peers, ours to the bound."""
    compared = [each for each in table.results if each["ratio"] and not _LADDER.match(each["name"])]
    rows: list[tuple[Mapping[str, Any], float, float | None]] = []
    if compared:
        title = "ours ÷ peer (1 is as the peer; the stroke is what was wanted)"
        for each in compared:
            bound = limit(each["wanted"]) if "×" in each["wanted"] or " of " in each["wanted"] else None
            rows.append((each, each["ratio"], bound[1] if bound else None))
    else:
        title = "ours ÷ limit (at most 1 was wanted)"
        for each in table.results:
            bound = limit(each["wanted"])
            if each["ours"] and bound is not None and bound[1]:
                rows.append((each, each["ours"] / bound[1] if bound[0] else bound[1] / each["ours"], None))
    rows = [row for row in rows if row[1] > 0]
    if not rows:
        return None
    figure = Figure(figsize=(8, 0.6 + 0.26 * len(rows)))
    axes = figure.subplots()
    for place, (each, value, wanted) in enumerate(reversed(rows)):
        axes.barh(place, value, height=0.7, color=_COLOURS[each["holds"]])
        axes.text(value, place, f" {value:.3g}", va="center", fontsize=7)
        if wanted is not None:
            axes.plot([wanted, wanted], [place - 0.42, place + 0.42], color="black", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [each["name"].removeprefix("target: ") for each, _, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xscale("log")
    values = [value for _, value, _ in rows]
    axes.set_xlim(min(0.5, *values) * 0.8, max(2.0, *values) * 1.5)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda _, __: "")
    axes.set_xlabel(title)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _ladder(table: Table) -> Figure | None:
    """Recall against latency over ef_search, ours and the peer's."""
    points: dict[str, dict[int, dict[str, Mapping[str, Any]]]] = {}
    for each in table.results:
        found = _LADDER.match(each["name"])
        if found:
            kind = "recall" if found["recall"] else "time"
            points.setdefault(found["what"], {}).setdefault(int(found["candidates"]), {})[kind] = each
    if not points:
        return None
    figure = Figure(figsize=(7, 3.2))
    axes = figure.subplots()
    for what, ladder in sorted(points.items()):
        steps = [(candidates, ladder[candidates]) for candidates in sorted(ladder) if len(ladder[candidates]) == 2]
        _line(axes, steps, "ours", what)
        _line(axes, steps, "peer", "hand-written SQL")
    axes.set_xlabel("median time of a search, ms")
    axes.set_ylabel("recall@10")
    axes.legend(frameon=False, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _line(axes: Any, steps: Sequence[tuple[int, Mapping[str, Mapping[str, Any]]]], side: str, label: str) -> None:
    times = [each["time"][side] / (1000 if each["time"]["unit"] == "µs" else 1) for _, each in steps]
    shares = [each["recall"][side] for _, each in steps]
    axes.plot(
        times, shares, "o-" if side == "ours" else "s--", label=label, color=_COLOURS[True if side == "ours" else None]
    )
    for (candidates, _), time, share in zip(steps, times, shares, strict=True):
        axes.annotate(str(candidates), (time, share), textcoords="offset points", xytext=(4, -10), fontsize=7)
