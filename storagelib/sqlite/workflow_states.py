"""Workflows in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Final

from storagelib import documents
from storagelib.clocks import LONG_AGO, from_microseconds, to_microseconds
from storagelib.components import workflow_states as rules
from storagelib.components.workflow_states import (
    COLUMNS,
    Change,
    Filter,
    Guard,
    NewState,
    NewStep,
    Step,
    WorkflowState,
    workflow,
)
from storagelib.sqlite.engine import SqliteStore, reads, writes, writes_once

__all__ = ["SqliteWorkflowStates"]

_STORED: Final = (*COLUMNS, "lease_seconds")
_TIMES_FROM: Final = COLUMNS.index("lease_expires_at")
_SELECT = f"SELECT {', '.join(_STORED)} FROM workflow_states WHERE tenant_id = ?"
_ONE = f"{_SELECT} AND workflow_id = ?"
_INSERT = f"INSERT INTO workflow_states (tenant_id, {', '.join(_STORED)}) VALUES (?, {', '.join('?' for _ in _STORED)})"
# What the caller knows does not come back.
_PUT = f"""
INSERT INTO workflow_states (tenant_id, workflow_id, workflow_name, state_data, current_step, created_at, last_updated)
VALUES (?1, ?2, ?3, ?4, coalesce(?5, 0), ?6, ?6)
ON CONFLICT (tenant_id, workflow_id) DO UPDATE
SET state_data = ?4, workflow_name = coalesce(?3, workflow_name), current_step = coalesce(?5, current_step),
    data_version = data_version + 1, last_updated = ?6
RETURNING workflow_name, {", ".join(COLUMNS[3:])}"""
_DELETE = "DELETE FROM workflow_states WHERE tenant_id = ? AND workflow_id = ?"
_STEP = "SELECT step, position, output, completed_at FROM workflow_steps WHERE tenant_id = ? AND workflow_id = ?"
_ONE_STEP = f"{_STEP} AND step = ?"
_STEPS = f"{_STEP} AND position > ? ORDER BY position LIMIT ?"
_COMPLETE = """
INSERT INTO workflow_steps (tenant_id, workflow_id, step, position, output, completed_at) VALUES (?, ?, ?, ?, ?, ?)"""
_STALLED = f"""{_SELECT} AND status = 'running' AND lease_expires_at <= ? AND (lease_expires_at, workflow_id) > (?, ?)
 ORDER BY lease_expires_at, workflow_id LIMIT ?"""


class SqliteWorkflowStates(SqliteStore):
    """See ``WorkflowStatesBackend``."""

    @writes_once
    def save(self, database: Connection, new: NewState, guard: Guard) -> WorkflowState:
        """Write a workflow, new or over the one that is there."""
        if new.status is not None or guard != Guard():
            return self.engine.write(lambda connection: self._save(connection, new, guard))
        # One that asks for nothing and leaves the status is never refused: it needs no look before.
        values = (self.tenant_id, new.workflow_id, new.name, new.state, new.current_step, self.engine.now())
        ((name, *rest),) = database.execute(_PUT, values).fetchall()
        return _read([new.workflow_id, name, new.state, *rest])

    def _save(self, database: Connection, new: NewState, guard: Guard) -> WorkflowState:
        found = self._row(database, new.workflow_id)
        changes = rules.saved(found, new, guard, self.engine.now())
        if found is not None:
            return self._write(database, found, changes)
        database.execute(_INSERT, (self.tenant_id, *(changes[column] for column in _STORED)))
        return _workflow(changes)

    @reads
    def load(self, database: Connection, workflow_id: str) -> WorkflowState | None:
        """Return a workflow."""
        row = database.execute(_ONE, (self.tenant_id, workflow_id)).fetchone()
        return None if row is None else _read(row[: len(COLUMNS)])

    @writes
    def delete(self, database: Connection, workflow_id: str) -> bool:
        """Remove a workflow and its steps, which go with it; tell whether it was there."""
        return database.execute(_DELETE, (self.tenant_id, workflow_id)).rowcount == 1

    @writes
    def change(
        self, database: Connection, workflow_id: str, change: Change, guard: Guard
    ) -> tuple[WorkflowState, Step | None]:
        """Change the status; return the workflow and its last step."""
        found = self._found(database, workflow_id, guard, change.to, stay=change.stay)
        last = self._step(database, workflow_id, found["last_step"])
        if change.to == found["status"]:
            return _workflow(found), last
        now = self.engine.now()
        changes = {**rules.moved(found, change.to, now), "data_version": found["data_version"] + 1}
        if change.error is not None:
            changes["error"] = change.error
        return self._write(database, found, {**changes, "last_updated": now}), last

    @writes
    def complete_step(self, database: Connection, workflow_id: str, step: NewStep, guard: Guard) -> Step:
        """Complete a step of a running workflow once; return it, or the one that was completed before."""
        found = self._found(database, workflow_id, guard, "completed")
        known = self._step(database, workflow_id, step.step)
        if known is not None:
            return known
        now = self.engine.now()
        changes = rules.stepped(found, step, now)
        row = (step.step, changes["steps_completed"], step.output, now)
        database.execute(_COMPLETE, (self.tenant_id, workflow_id, *row))
        self._write(database, found, changes)
        return _completed(row)

    @reads
    def steps(self, database: Connection, workflow_id: str, after: int, limit: int) -> list[Step]:
        """Return up to ``limit`` completed steps with a position above ``after``, in order."""
        return [_completed(row) for row in database.execute(_STEPS, (self.tenant_id, workflow_id, after, limit))]

    @reads
    def listing(
        self, database: Connection, wanted: Filter, before: tuple[datetime, str], limit: int
    ) -> list[WorkflowState]:
        """Return up to ``limit`` workflows, newest first, that come after this position."""
        clauses = ["created_at >= ?", "created_at < ?", "(created_at, workflow_id) < (?, ?)"]
        bounds: list[Any] = [to_microseconds(wanted.since), to_microseconds(wanted.until)]
        bounds += [to_microseconds(before[0]), before[1]]
        for column, value in (("status", wanted.status), ("workflow_name", wanted.name)):
            if value is not None:
                clauses.append(f"{column} = ?")
                bounds.append(value)
        query = f"{_SELECT} AND {' AND '.join(clauses)} ORDER BY created_at DESC, workflow_id DESC LIMIT ?"
        return [_workflow(_named(row)) for row in database.execute(query, (self.tenant_id, *bounds, limit))]

    @writes
    def lease(self, database: Connection, workflow_id: str, owner: str, seconds: float) -> WorkflowState:
        """Give the workflow to an owner."""
        found = self._row(database, workflow_id)
        changes = rules.leased(workflow_id, found, owner, self.engine.now())
        return self._write(database, {"workflow_id": workflow_id, **(found or {})}, {**changes, **self._lives(seconds)})

    @writes
    def renew(self, database: Connection, workflow_id: str, token: int, seconds: float | None) -> WorkflowState:
        """Let the lease with this token live on."""
        found = self._row(database, workflow_id)
        held = rules.check_renewal(workflow_id, found, token)
        lives = self._lives(held if seconds is None else seconds)
        return self._write(database, {"workflow_id": workflow_id, **(found or {})}, lives)

    @writes
    def release(self, database: Connection, workflow_id: str, token: int) -> bool:
        """End the lease with this token; tell whether it was the newest."""
        found = self._row(database, workflow_id)
        if found is None or found["fencing_token"] != token or found["lease_owner"] is None:
            return False
        self._write(database, found, rules.released(found, self.engine.now()))
        return True

    @reads
    def stalled(self, database: Connection, after: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` running workflows whose lease ran out, after this position."""
        bounds = (self.tenant_id, self.engine.now(), to_microseconds(after[0]), after[1], limit)
        return [_workflow(_named(row)) for row in database.execute(_STALLED, bounds)]

    @writes
    def claim_pending(
        self, database: Connection, name: str | None, owner: str, seconds: float, limit: int
    ) -> list[WorkflowState]:
        """Set the oldest pending workflows running under a lease."""
        named = "" if name is None else "AND workflow_name = ?"
        query = f"""{_SELECT} {named} AND status = 'pending' AND (lease_expires_at IS NULL OR lease_expires_at <= ?)
            ORDER BY created_at, workflow_id LIMIT ?"""
        bounds = [self.tenant_id, *([] if name is None else [name]), self.engine.now(), limit]
        return self._claim(database, database.execute(query, bounds).fetchall(), owner, seconds)

    @writes
    def claim_stalled(self, database: Connection, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Lease the workflows that stalled longest ago anew."""
        bounds = (self.tenant_id, self.engine.now(), to_microseconds(LONG_AGO), "", limit)
        return self._claim(database, database.execute(_STALLED, bounds).fetchall(), owner, seconds)

    def _claim(
        self, database: Connection, rows: Iterable[tuple[Any, ...]], owner: str, seconds: float
    ) -> list[WorkflowState]:
        now, lives = self.engine.now(), self._lives(seconds)
        found = [_named(row) for row in rows]
        return [self._write(database, row, {**rules.claimed(row, owner, now), **lives}) for row in found]

    def _lives(self, seconds: float) -> dict[str, Any]:
        return {"lease_seconds": seconds, "lease_expires_at": self.engine.now() + round(seconds * 1_000_000)}

    def _row(self, database: Connection, workflow_id: str) -> dict[str, Any] | None:
        row = database.execute(_ONE, (self.tenant_id, workflow_id)).fetchone()
        return None if row is None else _named(row)

    def _found(
        self, database: Connection, workflow_id: str, guard: Guard, to: str, *, stay: bool = False
    ) -> dict[str, Any]:
        found = self._row(database, workflow_id)
        rules.check_write(workflow_id, found, guard, to, stay=stay)
        assert found is not None  # noqa: S101 - what is not there was refused
        return found

    def _write(self, database: Connection, found: Mapping[str, Any], changes: Mapping[str, Any]) -> WorkflowState:
        settings = ", ".join(f"{column} = ?" for column in changes)
        query = f"UPDATE workflow_states SET {settings} WHERE tenant_id = ? AND workflow_id = ?"
        database.execute(query, (*changes.values(), self.tenant_id, found["workflow_id"]))
        return _workflow({**found, **changes})

    def _step(self, database: Connection, workflow_id: str, step: str | None) -> Step | None:
        row = database.execute(_ONE_STEP, (self.tenant_id, workflow_id, step)).fetchone()
        return None if row is None else _completed(row)


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_STORED, row, strict=True))


def _workflow(row: Mapping[str, Any]) -> WorkflowState:
    return _read([row[column] for column in COLUMNS])


def _read(row: Sequence[Any]) -> WorkflowState:
    """Make a record of a row whose times are numbers."""
    times = [None if time is None else from_microseconds(time) for time in row[_TIMES_FROM:]]
    return workflow([*row[:_TIMES_FROM], *times])


def _completed(row: tuple[Any, ...]) -> Step:
    step, position, output, completed_at = row
    return Step(step, position, documents.decode(output), from_microseconds(completed_at))
