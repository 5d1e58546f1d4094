"""Executions of hooks in memory."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from itertools import islice
from uuid import UUID

from storagelib.components.hooks import (
    Durations,
    Execution,
    NewExecution,
    Question,
    RetentionPolicy,
    Statistics,
    durations,
    execution,
)
from storagelib.memory.engine import MemorySpace, Row
from storagelib.memory.events import leave_trace

__all__ = ["MemoryHooks"]

_TYPES_COUNTED = 1000


class MemoryHooks:
    """See ``HooksBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._history = space.table("hook_history")

    def record(self, new: NewExecution) -> None:
        """Keep an execution; without a timestamp it ran now."""
        with self._space.transaction():
            now = self._space.now()
            self._history.put(
                (new.execution_id,),
                {
                    "execution_id": new.execution_id,
                    "hook_id": new.hook_id,
                    "hook_type": new.hook_type,
                    "correlation_id": new.correlation_id,
                    "hook_context": new.context,
                    "is_compressed": new.is_compressed,
                    "original_size_bytes": new.original_bytes,
                    "result_data": new.result,
                    "timestamp": new.timestamp or now,
                    "duration_ms": new.duration_us // 1000,
                    "duration_us": new.duration_us,
                    "failed": new.failed,
                    "triggering_component": new.triggering_component,
                    "tags": new.tags,
                    "retention_priority": new.retention_priority,
                    "metadata": new.metadata,
                    "created_at": now,
                },
            )

    def get(self, execution_id: UUID) -> Execution | None:
        """Return an execution."""
        with self._space.transaction():
            row = self._history.get(execution_id)
            return None if row is None else _execution(row)

    def executions(self, question: Question, after: tuple[datetime, UUID] | None, limit: int) -> list[Execution]:
        """Return up to ``limit`` executions in order of time."""
        with self._space.transaction():
            rows = sorted(
                filter(question.holds, self._history.rows.values()), key=_place, reverse=question.newest_first
            )
            rest = (
                row
                for row in rows
                if after is None or (_place(row) < after if question.newest_first else _place(row) > after)
            )
            return [_execution(row) for row in islice(rest, limit)]

    def durations(
        self, hook_id: str | None, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> list[Durations]:
        """Return how long hooks take, in order of their code points."""
        with self._space.transaction():
            question = Question(hook_id=hook_id, since=since, until=until)
            measured: dict[str, list[Row]] = {}
            for row in filter(question.holds, self._history.rows.values()):
                measured.setdefault(row["hook_id"], []).append(row)
            return [
                durations(
                    name,
                    sum(row["failed"] for row in measured[name]),
                    sorted(row["duration_us"] for row in measured[name]),
                )
                for name in [name for name in sorted(measured) if after is None or name > after][:limit]
            ]

    def statistics(self) -> Statistics:
        """Count what is there."""
        with self._space.transaction():
            rows = list(self._history.rows.values())
            types = Counter(row["hook_type"] for row in rows)
            times = [row["timestamp"] for row in rows]
            return Statistics(
                len(rows),
                sum(row["failed"] for row in rows),
                len({row["hook_id"] for row in rows}),
                sum(len(row["hook_context"]) for row in rows),
                sum(row["original_size_bytes"] for row in rows),
                min(times, default=None),
                max(times, default=None),
                dict(sorted(types.items(), key=lambda entry: (-entry[1], entry[0]))[:_TYPES_COUNTED]),
            )

    def retain(self, policy: RetentionPolicy, limit: int, reason: str) -> int:
        """Remove what a policy does not keep, lowest priority first; count it."""
        with self._space.transaction():
            ended_before = None if policy.max_age is None else self._space.now() - policy.max_age
            ranked = sorted(self._history.rows.values(), key=_rank)
            spare = [
                row
                for row in ranked
                if policy.protected_from is None or row["retention_priority"] < policy.protected_from
            ]
            removed = [row for row in spare if ended_before is not None and row["timestamp"] < ended_before]
            aged = {row["execution_id"] for row in removed}
            count = len(ranked) - len(aged)
            size = sum(len(row["hook_context"]) for row in ranked if row["execution_id"] not in aged)
            for row in [row for row in spare if row["execution_id"] not in aged]:
                if not (
                    (policy.max_executions is not None and count > policy.max_executions)
                    or (policy.max_bytes is not None and size > policy.max_bytes)
                ):
                    break
                removed.append(row)
                count -= 1
                size -= len(row["hook_context"])
            removed = sorted(removed, key=_rank)[:limit]
            for row in removed:
                self._history.delete(row["execution_id"])
            if removed:
                leave_trace(self._space, "hooks", "retention", len(removed), reason)
            return len(removed)

    def erase(self, correlation_id: str, reason: str) -> int:
        """Remove the executions of a correlation id, leave a trace; count them."""
        with self._space.transaction():
            gone = [key for key, row in self._history.rows.items() if row["correlation_id"] == correlation_id]
            for key in gone:
                self._history.delete(*key)
            leave_trace(self._space, "hooks", correlation_id, len(gone), reason)
            return len(gone)


def _place(row: Row) -> tuple[datetime, UUID]:
    return row["timestamp"], row["execution_id"]


def _rank(row: Row) -> tuple[int, datetime, UUID]:
    return row["retention_priority"], row["timestamp"], row["execution_id"]


def _execution(row: Row) -> Execution:
    return execution(
        (
            row["execution_id"],
            row["hook_id"],
            row["hook_type"],
            row["correlation_id"],
            row["triggering_component"],
            row["hook_context"],
            row["is_compressed"],
            row["original_size_bytes"],
            row["result_data"],
            row["timestamp"],
            row["duration_us"],
            row["tags"],
            row["retention_priority"],
            row["metadata"],
        )
    )
