"""``make bench-storagelib``: every store, or those that are named; ``--full`` takes the largest sizes.

Results of stores that were not measured this time are kept.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from pathlib import Path

import benchmarks.storagelib
from benchmarks.results import FOLDER, Result, publish
from benchmarks.storagelib.ground import ground

_NOT_STORES = {"__main__", "ground"}


def main() -> None:
    """Measure, print the table, write build/bench/storagelib.json."""
    known = sorted({module.name for module in pkgutil.iter_modules(benchmarks.storagelib.__path__)} - _NOT_STORES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stores", nargs="*", choices=[*known, []], help="what to measure; all when none is named")
    parser.add_argument("--full", action="store_true", help="the largest sizes too")
    chosen = parser.parse_args()
    path = FOLDER / "storagelib" / "parts.json"
    parts: dict[str, list[dict[str, object]]] = json.loads(path.read_text()) if path.exists() else {}
    for store in chosen.stores or known:
        print(f"measuring {store}", flush=True)
        with ground(full=chosen.full) as place:
            results = importlib.import_module(f"benchmarks.storagelib.{store}").measure(place)
        parts[store] = [{name: getattr(result, name) for name in Result.__slots__} for result in results]
        _keep(path, parts)
    publish("storagelib", [Result(**entry) for store in sorted(parts) for entry in parts[store]])


def _keep(path: Path, parts: dict[str, list[dict[str, object]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
