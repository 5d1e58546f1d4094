"""Executions of hooks in SQLite."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from sqlite3 import Connection
from typing import Any
from uuid import UUID

from storagelib import documents
from storagelib.clocks import from_microseconds, to_microseconds
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
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes
from storagelib.sqlite.events import leave_trace

__all__ = ["SqliteHooks"]

_DURATION = "coalesce(duration_us, duration_ms * 1000)"
_COLUMNS = (
    "execution_id, hook_id, hook_type, correlation_id, triggering_component, hook_context, is_compressed,"
    f" original_size_bytes, result_data, timestamp, {_DURATION}, tags, retention_priority, metadata"
)
_RECORD = """
INSERT INTO hook_history
    (tenant_id, execution_id, hook_id, hook_type, correlation_id, hook_context, is_compressed, original_size_bytes,
     result_data, timestamp, duration_ms, duration_us, failed, triggering_component, tags, retention_priority, metadata,
     created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_GET = f"SELECT {_COLUMNS} FROM hook_history WHERE tenant_id = ? AND execution_id = ?"
_TAGGED = """
NOT EXISTS (SELECT 1 FROM json_each(?) AS wanted
             WHERE wanted.value NOT IN (SELECT had.value FROM json_each(hook_history.tags) AS had))"""
_TOTALS = """
SELECT count(*), coalesce(sum(failed), 0), count(DISTINCT hook_id), coalesce(sum(length(hook_context)), 0),
       coalesce(sum(original_size_bytes), 0), min(timestamp), max(timestamp)
  FROM hook_history WHERE tenant_id = ?"""
_TYPES = """
SELECT hook_type, count(*) FROM hook_history WHERE tenant_id = ? GROUP BY hook_type ORDER BY 2 DESC, 1 LIMIT 1000"""
# What is too old stands behind everything else, so that it takes no place from what is kept.
_RETAIN = """
DELETE FROM hook_history WHERE tenant_id = :tenant AND execution_id IN (
    SELECT execution_id
      FROM (SELECT execution_id, retention_priority, timestamp, aged, spare,
                   count(*) OVER ranking AS place, sum(bytes) OVER ranking AS bytes
              FROM (SELECT execution_id, retention_priority, timestamp, length(hook_context) AS bytes,
                           :protected_from IS NULL OR retention_priority < :protected_from AS spare,
                           coalesce(timestamp < :ended_before, 0)
                               AND (:protected_from IS NULL OR retention_priority < :protected_from) AS aged
                      FROM hook_history WHERE tenant_id = :tenant)
            WINDOW ranking AS (
                ORDER BY aged, retention_priority DESC, timestamp DESC, execution_id DESC ROWS UNBOUNDED PRECEDING))
     WHERE spare AND (aged OR place > :keep OR bytes > :keep_bytes)
     ORDER BY retention_priority, timestamp, execution_id LIMIT :limit)"""
_ERASE = "DELETE FROM hook_history WHERE tenant_id = ? AND correlation_id = ?"


class SqliteHooks(SqliteStore):
    """See ``HooksBackend``."""

    @writes
    def record(self, database: Connection, new: NewExecution) -> None:
        """Keep an execution; without a timestamp it ran now."""
        now = self.engine.now()
        database.execute(
            _RECORD,
            (
                self.tenant_id,
                str(new.execution_id),
                new.hook_id,
                new.hook_type,
                new.correlation_id,
                new.context,
                new.is_compressed,
                new.original_bytes,
                new.result,
                now if new.timestamp is None else to_microseconds(new.timestamp),
                new.duration_us // 1000,
                new.duration_us,
                new.failed,
                new.triggering_component,
                documents.encode(list(new.tags)),
                new.retention_priority,
                new.metadata,
                now,
            ),
        )

    @reads
    def get(self, database: Connection, execution_id: UUID) -> Execution | None:
        """Return an execution."""
        row = database.execute(_GET, (self.tenant_id, str(execution_id))).fetchone()
        return None if row is None else _execution(row)

    @reads
    def executions(
        self, database: Connection, question: Question, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Execution]:
        """Return up to ``limit`` executions in order of time."""
        conditions = _conditions(question)
        values: list[Any] = [value for _, value in conditions]
        clauses = [clause for clause, _ in conditions]
        if after is not None:
            clauses.append(f"(timestamp, execution_id) {'<' if question.newest_first else '>'} (?, ?)")
            values += [to_microseconds(after[0]), str(after[1])]
        where = " AND ".join(["tenant_id = ?", *clauses])
        direction = "DESC" if question.newest_first else "ASC"
        order = f"timestamp {direction}, execution_id {direction}"
        statement = f"SELECT {_COLUMNS} FROM hook_history WHERE {where} ORDER BY {order} LIMIT ?"
        return [_execution(row) for row in database.execute(statement, (self.tenant_id, *values, limit))]

    @reads
    def durations(
        self,
        database: Connection,
        hook_id: str | None,
        since: datetime | None,
        until: datetime | None,
        after: str | None,
        limit: int,
    ) -> list[Durations]:
        """Return how long hooks take, in order of their code points."""
        conditions = _conditions(Question(hook_id=hook_id, since=since, until=until))
        if after is not None:
            conditions.append(("hook_id > ?", after))
        where = " AND ".join(["tenant_id = ?", *(clause for clause, _ in conditions)])
        statement = f"SELECT hook_id, {_DURATION}, failed FROM hook_history WHERE {where} ORDER BY hook_id, 2"
        found: list[Durations] = []
        rows = database.execute(statement, (self.tenant_id, *(value for _, value in conditions)))
        for name, group in groupby(rows, key=lambda row: str(row[0])):
            if len(found) == limit:
                break
            measured = list(group)
            found.append(durations(name, sum(row[2] for row in measured), [row[1] for row in measured]))
        rows.close()
        return found

    @reads_together
    def statistics(self, database: Connection) -> Statistics:
        """Count what is there."""
        *totals, first, last = database.execute(_TOTALS, (self.tenant_id,)).fetchone()
        executions, failed, hooks, stored, original = totals
        by_type = dict(database.execute(_TYPES, (self.tenant_id,)))
        return Statistics(executions, failed, hooks, stored, original, _moment(first), _moment(last), by_type)

    @writes
    def retain(self, database: Connection, policy: RetentionPolicy, limit: int, reason: str) -> int:
        """Remove what a policy does not keep, lowest priority first; count it."""
        age = policy.max_age
        values = {
            "tenant": self.tenant_id,
            "protected_from": policy.protected_from,
            "ended_before": None if age is None else to_microseconds(self.engine.clock() - age),
            "keep": policy.max_executions,
            "keep_bytes": policy.max_bytes,
            "limit": limit,
        }
        removed = database.execute(_RETAIN, values).rowcount
        if removed:
            leave_trace(self, database, "hooks", "retention", removed, reason)
        return removed

    @writes
    def erase(self, database: Connection, correlation_id: str, reason: str) -> int:
        """Remove the executions of a correlation id, leave a trace; count them."""
        erased = database.execute(_ERASE, (self.tenant_id, correlation_id)).rowcount
        leave_trace(self, database, "hooks", correlation_id, erased, reason)
        return erased


def _conditions(question: Question) -> list[tuple[str, Any]]:
    """Return conditions and the value of each."""
    given: list[tuple[str, Any]] = [
        ("hook_id = ?", question.hook_id),
        ("hook_type = ?", question.hook_type),
        ("triggering_component = ?", question.triggering_component),
        ("correlation_id = ?", question.correlation_id),
        ("timestamp >= ?", None if question.since is None else to_microseconds(question.since)),
        ("timestamp < ?", None if question.until is None else to_microseconds(question.until)),
        ("failed = ?", question.failed),
        (f"{_DURATION} >= ?", question.least_duration_us),
        (_TAGGED, documents.encode(list(question.tags)) if question.tags else None),
    ]
    return [(clause, value) for clause, value in given if value is not None]


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_microseconds(microseconds)


def _execution(row: tuple[Any, ...]) -> Execution:
    execution_id, hook_id, hook_type, correlation_id, component, context, packed, size, result, *rest = row
    time, duration_us, tags, priority, metadata = rest
    return execution(
        (
            UUID(execution_id),
            hook_id,
            hook_type,
            correlation_id,
            component,
            context,
            bool(packed),
            size,
            result,
            from_microseconds(time),
            duration_us,
            documents.decode(tags),
            priority,
            metadata,
        )
    )
