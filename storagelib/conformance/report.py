"""What a backend can do, as the conformance tests found it: for each subject and store, how many tests held, and which did not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

__all__ = ["SUBJECT", "lines"]

SUBJECT: Final = "llmspell_subject"
"""The property of a test's report that names the subject and the store, separated by a blank."""


def lines(stats: Mapping[str, Iterable[Any]]) -> Iterator[str]:
    """Write the report of a run: ``stats`` has pytest's reports by their outcome.

    >>> from types import SimpleNamespace as Report
    >>> held = Report(user_properties=[(SUBJECT, "redis-async kv")], nodeid="test_kv.py::test_a[redis-async]", when="call")
    >>> failed = Report(user_properties=held.user_properties, nodeid="test_kv.py::test_b[redis-async]", when="call")
    >>> list(lines({"passed": [held], "failed": [failed]}))
    ['kv on redis-async: 1 of 2', '    not: test_b[redis-async]']
    """
    held: dict[tuple[str, str], set[str]] = {}
    not_held: dict[tuple[str, str], set[str]] = {}
    for outcome, found in (("passed", held), ("failed", not_held), ("error", not_held)):
        for report in stats.get(outcome, ()):
            told = dict(getattr(report, "user_properties", ())).get(SUBJECT)
            if told is not None and (outcome != "passed" or report.when == "call"):
                subject, _, store = told.partition(" ")
                found.setdefault((store, subject), set()).add(report.nodeid.rpartition("::")[2])
    for key in sorted(held.keys() | not_held.keys()):
        wrong = not_held.get(key, set())
        right = held.get(key, set()) - wrong
        yield f"{key[0]} on {key[1]}: {len(right)} of {len(right) + len(wrong)}"
        yield from (f"    not: {name}" for name in sorted(wrong))
