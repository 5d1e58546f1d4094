"""Executions of hooks as they are kept and read, how two of them differ, and how long hooks take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from storagelib import documents
from storagelib.components.redaction import REDACTED
from storagelib.compression import decompress
from storagelib.documents import Json
from storagelib.errors import Corrupted
from storagelib.records import maker

__all__ = [
    "Difference",
    "Durations",
    "Execution",
    "ExecutionDifference",
    "NewExecution",
    "Question",
    "Replay",
    "RetentionPolicy",
    "RunDifference",
    "Statistics",
    "compared",
    "differences",
    "durations",
    "execution",
]

_MILLISECOND: Final = 1000
_P50, _P95, _P99 = 0.5, 0.95, 0.99


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a hook as it was read."""

    execution_id: UUID
    """Its id."""
    hook_id: str
    """The hook."""
    hook_type: str
    """Kind of hook."""
    correlation_id: str
    """What the execution belongs to."""
    triggering_component: str
    """What triggered it."""
    input: Json
    """The context that the hook was given, without what was redacted."""
    output: Json
    """What it returned."""
    error: str | None
    """How it failed; None when it did not."""
    timestamp: datetime
    """When it ran."""
    duration_ms: float
    """How long it ran, in milliseconds, to the microsecond."""
    tags: tuple[str, ...]
    """Tags, sorted."""
    retention_priority: int
    """Higher is kept longer."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    original_bytes: int
    """Bytes of the input as JSON."""
    stored_bytes: int
    """Bytes that it takes."""


@dataclass(frozen=True, slots=True)
class NewExecution:
    """One execution, checked: ``context`` is the input as JSON, packed or not; ``result`` and ``metadata`` are JSON text."""

    execution_id: UUID
    hook_id: str
    hook_type: str
    correlation_id: str
    triggering_component: str
    context: bytes
    is_compressed: bool
    original_bytes: int
    result: str
    failed: bool
    timestamp: datetime | None
    duration_us: int
    tags: tuple[str, ...]
    retention_priority: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Question:
    """Which executions, and in which order; everything that is given must hold, every tag among them."""

    hook_id: str | None = None
    hook_type: str | None = None
    triggering_component: str | None = None
    correlation_id: str | None = None
    tags: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    failed: bool | None = None
    least_duration_us: int | None = None
    newest_first: bool = False

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Tell whether a row of ``hook_history`` is one of them."""
        wanted = {
            "hook_id": self.hook_id,
            "hook_type": self.hook_type,
            "triggering_component": self.triggering_component,
            "correlation_id": self.correlation_id,
            "failed": self.failed,
        }
        return (
            all(value is None or row[column] == value for column, value in wanted.items())
            and set(self.tags) <= set(row["tags"])
            and (self.since is None or row["timestamp"] >= self.since)
            and (self.until is None or row["timestamp"] < self.until)
            and (self.least_duration_us is None or row["duration_us"] >= self.least_duration_us)
        )


@dataclass(frozen=True, slots=True)
class Durations:
    """How long one hook takes, in milliseconds; a percentile is the nearest duration that was measured."""

    hook_id: str
    """The hook."""
    count: int
    """Executions."""
    failed: int
    """Those with an error."""
    mean_ms: float
    """The mean."""
    p50_ms: float
    """Half of them took no longer."""
    p95_ms: float
    """Of 100, 95 took no longer."""
    p99_ms: float
    """Of 100, 99 took no longer."""
    max_ms: float
    """The longest."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a tenant's hook history holds now."""

    executions: int
    """Number of executions."""
    failed: int
    """Those with an error."""
    hooks: int
    """Number of hooks."""
    stored_bytes: int
    """Bytes that the inputs take."""
    original_bytes: int
    """Bytes that they had before they were packed."""
    first_at: datetime | None
    """When the oldest kept one ran; None without executions."""
    last_at: datetime | None
    """When the latest one did."""
    by_type: Mapping[str, int] = field(default_factory=dict)
    """Executions of each of the 1,000 most frequent types, most frequent first."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What is kept. Everything that is given bounds; the lowest priority goes first, within one the oldest."""

    max_age: timedelta | None = None
    """Older executions go."""
    max_executions: int | None = None
    """More executions go."""
    max_bytes: int | None = None
    """More bytes of stored inputs go."""
    protected_from: int | None = None
    """Executions of this priority or a higher one never go."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place in which two documents differ."""

    path: str
    """Keys and places in lists, joined by dots; empty for the whole."""
    kind: Literal["changed", "added", "removed"]
    """What became of the first one there."""
    first: Json
    """What the first one has there; None when it was added."""
    second: Json
    """What the second one has there; None when it was removed."""


@dataclass(frozen=True, slots=True)
class ExecutionDifference:
    """How one execution differs from another, or from what came of running it again."""

    hook_id: str
    """The hook."""
    first: UUID
    """The one execution."""
    second: UUID | None
    """The other; None for a replay."""
    differences: tuple[Difference, ...]
    """Every place; paths begin with ``input``, ``output`` or ``error``."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of running recorded inputs again."""

    correlation_id: str
    """What was replayed."""
    executions: int
    """How many executions were run."""
    differing: tuple[ExecutionDifference, ...]
    """Those whose output or error was another."""

    @property
    def same(self) -> bool:
        """Tell whether everything came out as it was recorded."""
        return not self.differing


@dataclass(frozen=True, slots=True)
class RunDifference:
    """How one run differs from another; the executions of a hook are compared in their order."""

    compared: int
    """How many pairs of executions there were."""
    only_first: tuple[Execution, ...]
    """Executions that the second run has no counterpart of."""
    only_second: tuple[Execution, ...]
    """Executions that the first run has no counterpart of."""
    differing: tuple[ExecutionDifference, ...]
    """Pairs with another input, output or error."""

    @property
    def same(self) -> bool:
        """Tell whether both runs did the same."""
        return not (self.only_first or self.only_second or self.differing)


ExecutionRow = tuple[
    UUID, str, str, str, str, bytes, bool, int, str, datetime, int, Sequence[str], int, str
]  # fmt: skip
"""execution_id, hook_id, hook_type, correlation_id, triggering_component, hook_context, is_compressed,
original_size_bytes, result_data as text, timestamp, duration in microseconds, tags, retention_priority, metadata as text."""


_EXECUTION: Final = maker(Execution)


def execution(row: ExecutionRow) -> Execution:
    """Make an execution of a row; raises ``Corrupted`` when the context is not what was written."""
    execution_id, hook_id, hook_type, correlation_id, component, context, packed, size, result = row[:9]
    timestamp, duration_us, tags, priority, metadata = row[9:]
    plain = decompress(context, size) if packed else context
    try:
        given = documents.decode(plain)
    except ValueError:
        given, size = None, -1
    if len(plain) != size:
        raise Corrupted(f"the context of execution {execution_id} is not what was written")
    outcome = documents.decode(result)
    return _EXECUTION(
        execution_id,
        hook_id,
        hook_type,
        correlation_id,
        component,
        given,
        outcome.get("output"),
        outcome.get("error"),
        timestamp,
        duration_us / _MILLISECOND,
        tuple(tags),
        priority,
        documents.decode(metadata),
        size,
        len(context),
    )


def durations(hook_id: str, failed: int, microseconds: Sequence[int]) -> Durations:
    """Return what sorted durations, at least one of them, say about a hook.

    >>> durations("h", 0, [1000, 2000, 3000, 4000]).p95_ms
    4.0
    """
    count = len(microseconds)

    def percentile(share: float) -> float:
        return microseconds[max(1, math.ceil(share * count)) - 1] / _MILLISECOND

    return Durations(
        hook_id,
        count,
        failed,
        sum(microseconds) / count / _MILLISECOND,
        percentile(_P50),
        percentile(_P95),
        percentile(_P99),
        microseconds[-1] / _MILLISECOND,
    )


def differences(first: Json, second: Json, path: str = "") -> list[Difference]:
    """Return every place in which two JSON values differ. What was redacted in the first equals anything.

    >>> differences({"a": 1, "b": [1, 2]}, {"a": 1.0, "b": [1]})
    [Difference(path='b.1', kind='removed', first=2, second=None)]
    """
    if first == REDACTED:
        return []
    if isinstance(first, dict) and isinstance(second, dict):
        keys: Iterable[Any] = dict.fromkeys([*first, *second])
        pairs = [(key, first.get(key), second.get(key), key in first, key in second) for key in keys]
    elif isinstance(first, list) and isinstance(second, list):
        longest = range(max(len(first), len(second)))
        pairs = [
            (
                place,
                first[place] if place < len(first) else None,
                second[place] if place < len(second) else None,
                place < len(first),
                place < len(second),
            )
            for place in longest
        ]
    elif first == second and isinstance(first, bool) == isinstance(second, bool):
        return []
    else:
        return [Difference(path, "changed", first, second)]
    found: list[Difference] = []
    for key, before, after, had, has in pairs:
        inner = f"{path}.{key}" if path else str(key)
        if had and has:
            found += differences(before, after, inner)
        elif before != REDACTED:
            found.append(Difference(inner, "removed" if had else "added", before, after))
    return found


def compared(first: Sequence[Execution], second: Sequence[Execution]) -> RunDifference:
    """Compare two runs: of each hook and type, the first execution with the first, the second with the second."""
    seconds = _counted(second)
    firsts = _counted(first)
    differing = []
    for key, one in firsts.items():
        other = seconds.get(key)
        found = [] if other is None else differences(_outcome(one), _outcome(other))
        if other is not None and found:
            differing.append(ExecutionDifference(one.hook_id, one.execution_id, other.execution_id, tuple(found)))
    return RunDifference(
        len(firsts.keys() & seconds.keys()),
        tuple(one for key, one in firsts.items() if key not in seconds),
        tuple(one for key, one in seconds.items() if key not in firsts),
        tuple(differing),
    )


def _outcome(one: Execution) -> dict[str, Json]:
    return {"input": one.input, "output": one.output, "error": one.error}


def _counted(run: Sequence[Execution]) -> dict[tuple[str, str, int], Execution]:
    seen: dict[tuple[str, str], int] = {}
    counted = {}
    for one in run:
        number = seen[one.hook_id, one.hook_type] = seen.get((one.hook_id, one.hook_type), 0) + 1
        counted[one.hook_id, one.hook_type, number] = one
    return counted
