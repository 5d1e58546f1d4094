# Made from storagelib/_async/postgres/workflow_states.py by scripts/sync; change that file instead.
"""Workflows in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from storage_sql.queries import load
from storagelib import documents
from storagelib._sync.postgres.database import Database
from storagelib.clocks import LONG_AGO
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
from storagelib.errors import AlreadyExists, Conflict

__all__ = ["PostgresWorkflowStates"]

_Q: Final = load("workflow_states")
_FOUND: Final = ("status", "data_version", "fencing_token", "lease_owner")
_WIDTH: Final = len(COLUMNS)
# A writer that keeps losing to others who write the same thing at the same moment gives up after this many rounds.
_ROUNDS: Final = 8


class PostgresWorkflowStates:
    """See ``WorkflowStatesBackend``."""

    def __init__(self, database: Database) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def save(self, new: NewState, guard: Guard) -> WorkflowState:
        """Write a workflow, new or over the one that is there."""
        values: dict[str, Any] = {"state": new.state, "name": new.name, "step": new.current_step}
        if new.status is None and guard == Guard():
            ((workflow_id, name, *rest),) = self._database.fetch(_Q["put"], workflow=new.workflow_id, **values)
            return workflow([workflow_id, name, new.state, *rest])
        values["status"] = new.status
        sources = [] if new.status is None else list(rules.predecessors(new.status))
        asked = {"sources": sources, "expected": guard.expected_version, "token": guard.token}
        for _ in range(_ROUNDS):
            (row,) = self._database.fetch(_Q["save"], workflow=new.workflow_id, **values, **asked)
            if row[len(_FOUND)] is not None:
                return workflow(row[len(_FOUND) :])
            found = None if row[0] is None else dict(zip(_FOUND, row, strict=False))
            if found is not None or guard != Guard():
                rules.check_write(new.workflow_id, found, guard, new.status, stay=True)
        raise Conflict("other writers were faster each time")

    def load(self, workflow_id: str) -> WorkflowState | None:
        """Return a workflow."""
        rows = self._database.fetch(_Q["load"], workflow=workflow_id)
        return workflow(rows[0]) if rows else None

    def delete(self, workflow_id: str) -> bool:
        """Remove a workflow and its steps, which go with it; tell whether it was there."""
        return bool(self._database.fetch(_Q["delete"], workflow=workflow_id))

    def change(self, workflow_id: str, change: Change, guard: Guard) -> tuple[WorkflowState, Step | None]:
        """Change the status; return the workflow and its last step."""
        for _ in range(_ROUNDS):
            rows = self._database.fetch(
                _Q["change"],
                workflow=workflow_id,
                status=change.to,
                sources=list(rules.predecessors(change.to)),
                stay=change.stay,
                error=change.error,
                expected=guard.expected_version,
                token=guard.token,
            )
            if rows and rows[0][len(_FOUND)] is not None:
                last = rows[0][len(_FOUND) + _WIDTH :]
                return workflow(rows[0][len(_FOUND) :]), None if last[0] is None else _step(last)
            # What was read may be older than what refused: then nothing is wrong with it, and the next round sees more.
            found = dict(zip(_FOUND, rows[0], strict=False)) if rows else None
            rules.check_write(workflow_id, found, guard, change.to, stay=change.stay)
        raise Conflict("other writers were faster each time")

    def complete_step(self, workflow_id: str, step: NewStep, guard: Guard) -> Step:
        """Complete a step of a running workflow once; return it, or the one that was completed before."""
        values = {"step": step.step, "output": step.output, "state": step.state, "token": guard.token}
        for _ in range(_ROUNDS):
            try:
                rows = self._database.fetch(_Q["complete_step"], workflow=workflow_id, **values)
            except AlreadyExists:
                continue
            return _step(self._refused(workflow_id, rows, guard, "completed")[len(_FOUND) :])
        raise Conflict("other writers were faster each time")

    def steps(self, workflow_id: str, after: int, limit: int) -> list[Step]:
        """Return up to ``limit`` completed steps with a position above ``after``, in order."""
        return [_step(row) for row in self._database.fetch(_Q["steps"], workflow=workflow_id, after=after, most=limit)]

    def listing(self, wanted: Filter, before: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` workflows, newest first, that come after this position."""
        query = _Q["listing"].variant(by_status=wanted.status is not None, by_name=wanted.name is not None)
        rows = self._database.fetch(
            query,
            status=wanted.status,
            name=wanted.name,
            since=wanted.since,
            until=wanted.until,
            before=before[0],
            before_id=before[1],
            most=limit,
        )
        return [workflow(row) for row in rows]

    def lease(self, workflow_id: str, owner: str, seconds: float) -> WorkflowState:
        """Give the workflow to an owner."""
        rows = self._database.fetch(_Q["lease"], workflow=workflow_id, owner=owner, seconds=seconds)
        names = ("status", "lease_owner", "lease_expires_at", "fencing_token")
        if not rows or rows[0][len(names)] is None:
            found = dict(zip(names, rows[0], strict=False)) if rows else None
            rules.leased(workflow_id, found, owner, LONG_AGO)
            raise Conflict("the workflow was changed at this moment; try again")
        return workflow(rows[0][len(names) :])

    def renew(self, workflow_id: str, token: int, seconds: float | None) -> WorkflowState:
        """Let the lease with this token live on."""
        rows = self._database.fetch(_Q["renew"], workflow=workflow_id, token=token, seconds=seconds)
        names = ("fencing_token", "lease_owner", "lease_seconds")
        if not rows or rows[0][len(names)] is None:
            rules.check_renewal(workflow_id, dict(zip(names, rows[0], strict=False)) if rows else None, token)
            raise Conflict("the workflow was changed at this moment; try again")
        return workflow(rows[0][len(names) :])

    def release(self, workflow_id: str, token: int) -> bool:
        """End the lease with this token; tell whether it was the newest."""
        return bool(self._database.fetch(_Q["release"], workflow=workflow_id, token=token))

    def stalled(self, after: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` running workflows whose lease ran out, after this position."""
        rows = self._database.fetch(_Q["stalled"], after=after[0], after_id=after[1], most=limit)
        return [workflow(row) for row in rows]

    def claim_pending(self, name: str | None, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Set the oldest pending workflows running under a lease."""
        query = _Q["claim_pending"].variant(by_name=name is not None)
        rows = self._database.fetch(query, name=name, owner=owner, seconds=seconds, most=limit)
        return [workflow(row) for row in rows]

    def claim_stalled(self, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Lease the workflows that stalled longest ago anew."""
        rows = self._database.fetch(_Q["claim_stalled"], owner=owner, seconds=seconds, most=limit)
        return [workflow(row) for row in rows]

    def _refused(self, workflow_id: str, rows: list[tuple[Any, ...]], guard: Guard, to: str) -> tuple[Any, ...]:
        """Return the row that was written, or raise why it was not."""
        if rows and rows[0][len(_FOUND)] is not None:
            return rows[0]
        found = dict(zip(_FOUND, rows[0], strict=False)) if rows else None
        rules.check_write(workflow_id, found, guard, to)
        raise Conflict("the workflow was changed at this moment; try again")


def _step(row: Sequence[Any]) -> Step:
    step, position, output, completed_at = row
    return Step(step, position, documents.decode(output), completed_at)
