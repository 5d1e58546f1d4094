# Made from storagelib/_async/postgres/hooks.py by scripts/sync; change that file instead.
"""Executions of hooks in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from storage_sql.queries import load
from storagelib._sync.postgres.database import Database
from storagelib.components.hooks import (
    Durations,
    Execution,
    NewExecution,
    Question,
    RetentionPolicy,
    Statistics,
    execution,
)

__all__ = ["PostgresHooks"]

_QUERIES = load("hooks")
_RECORD = _QUERIES["record"]
_MILLISECOND: Final = 1000


class PostgresHooks:
    """See ``HooksBackend``."""

    def __init__(self, database: Database) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def record(self, new: NewExecution) -> None:
        """Keep an execution; without a timestamp it ran now."""
        self._database.fetch(
            _RECORD,
            execution_id=new.execution_id,
            hook_id=new.hook_id,
            hook_type=new.hook_type,
            correlation_id=new.correlation_id,
            context=new.context,
            is_compressed=new.is_compressed,
            original_bytes=new.original_bytes,
            result=new.result,
            timestamp=new.timestamp,
            duration_us=new.duration_us,
            failed=new.failed,
            component=new.triggering_component,
            tags=new.tags,
            priority=new.retention_priority,
            metadata=new.metadata,
        )

    def get(self, execution_id: UUID) -> Execution | None:
        """Return an execution."""
        rows = self._database.fetch(_QUERIES["get"], execution_id=execution_id)
        return execution(rows[0]) if rows else None

    def executions(self, question: Question, after: tuple[datetime, UUID] | None, limit: int) -> list[Execution]:
        """Return up to ``limit`` executions in order of time."""
        query = _QUERIES["executions"].variant(
            of_hook=question.hook_id is not None,
            of_type=question.hook_type is not None,
            of_component=question.triggering_component is not None,
            of_correlation=question.correlation_id is not None,
            tagged=bool(question.tags),
            from_time=question.since is not None,
            to_time=question.until is not None,
            ended=question.failed is not None,
            lasting=question.least_duration_us is not None,
            from_place=after is not None,
            newest_first=question.newest_first,
        )
        rows = self._database.fetch(
            query,
            hook_id=question.hook_id,
            hook_type=question.hook_type,
            component=question.triggering_component,
            correlation_id=question.correlation_id,
            tags=question.tags,
            since=question.since,
            until=question.until,
            failed=question.failed,
            least_duration_us=question.least_duration_us,
            after_time=None if after is None else after[0],
            after_id=None if after is None else after[1],
            most=limit,
        )
        return [execution(row) for row in rows]

    def durations(
        self, hook_id: str | None, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> list[Durations]:
        """Return how long hooks take, in order of their code points."""
        query = _QUERIES["durations"].variant(
            of_hook=hook_id is not None, from_time=since is not None, to_time=until is not None
        )
        rows = self._database.fetch(query, hook_id=hook_id, since=since, until=until, after=after or "", most=limit)
        return [
            Durations(
                name,
                count,
                failed,
                total / count / _MILLISECOND,
                p50 / _MILLISECOND,
                p95 / _MILLISECOND,
                p99 / _MILLISECOND,
                longest / _MILLISECOND,
            )
            for name, count, failed, total, (p50, p95, p99), longest in rows
        ]

    def statistics(self) -> Statistics:
        """Count what is there."""
        ((executions, failed, hooks, stored, original, first_at, last_at, types, counts),) = self._database.fetch(
            _QUERIES["statistics"]
        )
        by_type = dict(zip(types, counts, strict=True))
        return Statistics(executions, failed, hooks, stored, original, first_at, last_at, by_type)

    def retain(self, policy: RetentionPolicy, limit: int, reason: str) -> int:
        """Remove what a policy does not keep, lowest priority first; count it."""
        rows = self._database.fetch(
            _QUERIES["retain"],
            protected_from=policy.protected_from,
            age=None if policy.max_age is None else policy.max_age.total_seconds(),
            keep=policy.max_executions,
            keep_bytes=policy.max_bytes,
            most=limit,
            reason=reason,
        )
        return int(rows[0][0])

    def erase(self, correlation_id: str, reason: str) -> int:
        """Remove the executions of a correlation id, leave a trace; count them."""
        rows = self._database.fetch(_QUERIES["erase"], correlation_id=correlation_id, reason=reason)
        return int(rows[0][0])
