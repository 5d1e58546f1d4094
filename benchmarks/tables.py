"""What was measured as tables for pages: one for each area, and for the library one for each store; pure."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["SPLIT", "Table", "limit", "summary", "tables_of"]

SPLIT: Final = "storagelib"
"""The area whose results are told apart by the first word of their names."""
TARGETS: Final = "target"
_SEALED: Final = "sealed mode"
_SQLITE: Final = "SQLite"
_TITLES: Final = {
    "agent_state": "Agent state",
    "api_keys": "API keys",
    "kv": "Keys and values",
    "row-level": "Row-level security",
    "target": "Absolute targets",
    "vector_scan": "Vectors in SQLite",
    "workflow_states": "Workflow states",
}
_LIMIT: Final = re.compile(r"(?P<sense>[<≤>≥]) ?\+?(?P<value>[0-9][0-9,.]*)(?P<rest>.*)")


@dataclass(frozen=True, slots=True)
class Table:
    """Results that stand together: ``name`` is that of its files, ``title`` that of its part of the page."""

    name: str
    title: str
    results: Sequence[Mapping[str, Any]]


def tables_of(folder: Path) -> list[Table]:
    """Return the tables of all published areas, absolute targets last."""
    return [table for path in sorted(folder.glob("*.json")) for table in _area(path)]


def _area(path: Path) -> list[Table]:
    results = json.loads(path.read_text(encoding="utf-8"))
    if path.stem != SPLIT:
        return [Table(path.stem, _title(path.stem), results)]
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        parts.setdefault(result["name"].split()[0].rstrip(":,"), []).append(result)
    order = sorted(parts, key=lambda part: (part == TARGETS, _title(part)))
    return [Table(f"{SPLIT}-{part}", _title(part), parts[part]) for part in order]


def _title(part: str) -> str:
    return _TITLES.get(part, part.capitalize())


def limit(wanted: str) -> tuple[bool, float] | None:
    """Return whether a wanted text bounds from above, and by how much; None when it says no number.

    A bound on speed or throughput beside a peer is turned into one on time:

    >>> limit("< 10 ms"), limit("≤ +60 µs a call"), limit("≥ 0.5 of COPY"), limit("≥ 10,000")
    ((True, 10.0), (True, 60.0), (True, 2.0), (False, 10000.0))
    """
    found = _LIMIT.search(wanted)
    if found is None:
        return None
    value = float(found["value"].replace(",", "").rstrip("."))
    upper = found["sense"] in "<≤"
    if not upper and value > 0 and ("faster" in found["rest"] or found["rest"].lstrip().startswith("of ")):
        return True, 1 / value
    return upper, value


def summary(folder: Path) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each table of the library: title, peers, medians of the ratios of times, and targets that hold.

    The first median is that of the role mode and of what has no mode, the second that of the sealed mode; SQLite is in
    neither.
    """
    rows = []
    for table in tables_of(folder):
        if not table.name.startswith(f"{SPLIT}-"):
            continue
        timed = [each for each in table.results if each["ratio"] is not None and each["unit"] in {"µs", "ms", "s"}]
        peers = dict.fromkeys(each["peer_name"].partition(",")[0] for each in timed)
        served = [each for each in timed if _SQLITE not in each["name"]]
        judged = [each["holds"] for each in table.results if each["holds"] is not None]
        rows.append(
            (
                table.title,
                "; ".join(peers),
                _median([each for each in served if _SEALED not in each["name"]]),
                _median([each for each in served if _SEALED in each["name"]]),
                f"{sum(judged)} of {len(judged)}" if judged else "",
            )
        )
    return rows


def _median(results: Sequence[Mapping[str, Any]]) -> str:
    return f"{statistics.median(each['ratio'] for each in results):.2f}" if results else ""
