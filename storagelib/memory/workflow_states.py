"""Workflows in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from storagelib import documents
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
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryWorkflowStates"]


class MemoryWorkflowStates:
    """See ``WorkflowStatesBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._states = space.table("workflow_states")
        self._steps = space.table("workflow_steps")

    def save(self, new: NewState, guard: Guard) -> WorkflowState:
        """Write a workflow, new or over the one that is there."""
        with self._space.transaction():
            found = self._states.get(new.workflow_id)
            return self._write(new.workflow_id, rules.saved(found, new, guard, self._space.now()))

    def load(self, workflow_id: str) -> WorkflowState | None:
        """Return a workflow."""
        with self._space.transaction():
            row = self._states.get(workflow_id)
            return None if row is None else _workflow(row)

    def delete(self, workflow_id: str) -> bool:
        """Remove a workflow and its steps; tell whether it was there."""
        with self._space.transaction():
            for key in [key for key in self._steps.rows if key[0] == workflow_id]:
                self._steps.delete(*key)
            return self._states.delete(workflow_id)

    def change(self, workflow_id: str, change: Change, guard: Guard) -> tuple[WorkflowState, Step | None]:
        """Change the status; return the workflow and its last step."""
        with self._space.transaction():
            found = self._found(workflow_id, guard, change.to, stay=change.stay)
            if change.to == found["status"]:
                return _workflow(found), self._last(found)
            now = self._space.now()
            changes = {**rules.moved(found, change.to, now), "data_version": found["data_version"] + 1}
            if change.error is not None:
                changes["error"] = change.error
            return self._write(workflow_id, {**changes, "last_updated": now}), self._last(found)

    def complete_step(self, workflow_id: str, step: NewStep, guard: Guard) -> Step:
        """Complete a step of a running workflow once; return it, or the one that was completed before."""
        with self._space.transaction():
            found = self._found(workflow_id, guard, "completed")
            known = self._steps.get(workflow_id, step.step)
            if known is not None:
                return _step(known)
            now = self._space.now()
            changes = rules.stepped(found, step, now)
            row = {
                "workflow_id": workflow_id,
                "step": step.step,
                "position": changes["steps_completed"],
                "output": step.output,
                "completed_at": now,
            }
            self._steps.put((workflow_id, step.step), row)
            self._write(workflow_id, changes)
            return _step(row)

    def steps(self, workflow_id: str, after: int, limit: int) -> list[Step]:
        """Return up to ``limit`` completed steps with a position above ``after``, in order."""
        with self._space.transaction():
            rows = [row for key, row in self._steps.rows.items() if key[0] == workflow_id and row["position"] > after]
            return [_step(row) for row in sorted(rows, key=lambda row: int(row["position"]))[:limit]]

    def listing(self, wanted: Filter, before: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` workflows, newest first, that come after this position."""
        with self._space.transaction():
            rows = [
                row
                for row in self._states.rows.values()
                if wanted.status in {None, row["status"]}
                and wanted.name in {None, row["workflow_name"]}
                and wanted.since <= row["created_at"] < wanted.until
                and _created(row) < before
            ]
            return [_workflow(row) for row in sorted(rows, key=_created, reverse=True)[:limit]]

    def lease(self, workflow_id: str, owner: str, seconds: float) -> WorkflowState:
        """Give the workflow to an owner."""
        with self._space.transaction():
            changes = rules.leased(workflow_id, self._states.get(workflow_id), owner, self._space.now())
            return self._write(workflow_id, {**changes, **self._lives(seconds)})

    def renew(self, workflow_id: str, token: int, seconds: float | None) -> WorkflowState:
        """Let the lease with this token live on."""
        with self._space.transaction():
            found = self._states.get(workflow_id)
            held = rules.check_renewal(workflow_id, found, token)
            return self._write(workflow_id, self._lives(held if seconds is None else seconds))

    def release(self, workflow_id: str, token: int) -> bool:
        """End the lease with this token; tell whether it was the newest."""
        with self._space.transaction():
            found = self._states.get(workflow_id)
            if found is None or found["fencing_token"] != token or found["lease_owner"] is None:
                return False
            self._write(workflow_id, rules.released(found, self._space.now()))
            return True

    def stalled(self, after: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` running workflows whose lease ran out, after this position."""
        with self._space.transaction():
            return [_workflow(row) for row in islice((row for row in self._stalled() if _ended(row) > after), limit)]

    def claim_pending(self, name: str | None, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Set the oldest pending workflows running under a lease."""
        with self._space.transaction():
            now = self._space.now()
            rows = [
                row
                for row in self._states.rows.values()
                if row["status"] == "pending"
                and name in {None, row["workflow_name"]}
                and (row["lease_expires_at"] is None or row["lease_expires_at"] <= now)
            ]
            return self._claim(sorted(rows, key=_created)[:limit], owner, seconds)

    def claim_stalled(self, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Lease the workflows that stalled longest ago anew."""
        with self._space.transaction():
            return self._claim(self._stalled()[:limit], owner, seconds)

    def _claim(self, rows: Iterable[Row], owner: str, seconds: float) -> list[WorkflowState]:
        now, lives = self._space.now(), self._lives(seconds)
        return [self._write(row["workflow_id"], {**rules.claimed(row, owner, now), **lives}) for row in rows]

    def _stalled(self) -> list[Row]:
        now = self._space.now()
        rows = [
            row
            for row in self._states.rows.values()
            if row["status"] == "running" and row["lease_expires_at"] is not None and row["lease_expires_at"] <= now
        ]
        return sorted(rows, key=_ended)

    def _lives(self, seconds: float) -> dict[str, Any]:
        return {"lease_seconds": seconds, "lease_expires_at": self._space.now() + timedelta(seconds=seconds)}

    def _found(self, workflow_id: str, guard: Guard, to: str, *, stay: bool = False) -> Row:
        found = self._states.get(workflow_id)
        rules.check_write(workflow_id, found, guard, to, stay=stay)
        assert found is not None  # noqa: S101 - what is not there was refused
        return found

    def _write(self, workflow_id: str, changes: dict[str, Any]) -> WorkflowState:
        row = {**(self._states.get(workflow_id) or {}), **changes}
        self._states.put((workflow_id,), row)
        return _workflow(row)

    def _last(self, found: Row) -> Step | None:
        row = None if found["last_step"] is None else self._steps.get(found["workflow_id"], found["last_step"])
        return None if row is None else _step(row)


def _workflow(row: Row) -> WorkflowState:
    return workflow([row[column] for column in COLUMNS])


def _step(row: Row) -> Step:
    return Step(row["step"], row["position"], documents.decode(row["output"]), row["completed_at"])


def _created(row: Row) -> tuple[datetime, str]:
    return row["created_at"], row["workflow_id"]


def _ended(row: Row) -> tuple[datetime, str]:
    return row["lease_expires_at"], row["workflow_id"]
