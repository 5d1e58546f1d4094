"""The life of a workflow: its states and which may follow which, its steps, its lease; what each write changes.

::

    pending ──> running ──> completed
       │           ├──────> failed ──> running
       └───────────┴──────> cancelled

The functions below take a stored row by its column names and return what to write over it, so that memory and SQLite
decide alike; times are whatever the backend keeps (moments or microseconds), and are only compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from storagelib import documents
from storagelib.documents import Json
from storagelib.errors import Conflict, NotFound
from storagelib.records import maker

__all__ = [
    "COLUMNS",
    "STATUSES",
    "Change",
    "Claim",
    "Filter",
    "Guard",
    "Lease",
    "NewState",
    "NewStep",
    "ResumePoint",
    "Status",
    "Step",
    "WorkflowState",
    "check_renewal",
    "check_write",
    "claimed",
    "lease_of",
    "leased",
    "may_follow",
    "moved",
    "predecessors",
    "released",
    "saved",
    "stepped",
    "workflow",
]

Row = Mapping[str, Any]
Status = Literal["pending", "running", "completed", "failed", "cancelled"]
STATUSES: Final[tuple[Status, ...]] = ("pending", "running", "completed", "failed", "cancelled")

_NEXT: Final[Mapping[str, frozenset[str]]] = {
    "pending": frozenset({"running", "cancelled"}),
    "running": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset({"running"}),
    "cancelled": frozenset(),
}
_ENDED: Final = frozenset({"completed", "failed", "cancelled"})

COLUMNS: Final = (
    "workflow_id",
    "workflow_name",
    "state_data",
    "current_step",
    "status",
    "steps_completed",
    "last_step",
    "error",
    "attempts",
    "data_version",
    "fencing_token",
    "lease_owner",
    "lease_expires_at",
    "started_at",
    "completed_at",
    "created_at",
    "last_updated",
)
"""The columns that a record is made of, in this order."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one worker to carry a workflow on, until it runs out."""

    workflow_id: str
    """The workflow."""
    owner: str
    """Who holds it."""
    token: int
    """Grows with every lease of the workflow: pass it to writes, and those of an earlier holder are refused."""
    expires_at: datetime
    """When it runs out, unless it is renewed."""


@dataclass(frozen=True, slots=True)
class WorkflowState:
    """One workflow as it was read."""

    workflow_id: str
    """Its id."""
    name: str | None
    """Its name: workflows of one kind share it."""
    state: Json
    """What the workflow knows."""
    current_step: int
    """Index of the step to do next; grows by one with each step that is completed."""
    status: Status
    """Where it is in its life."""
    steps_completed: int
    """How many steps are completed."""
    last_step: str | None
    """The step that was completed last."""
    error: Json
    """Why it failed last; kept when it runs again. None when it never failed."""
    attempts: int
    """How often it began to run, or was taken over from a holder who fell silent."""
    version: int
    """Grows with every change of state, step or status."""
    lease: Lease | None
    """Who holds it; the lease may have run out."""
    started_at: datetime | None
    """When it ran first."""
    completed_at: datetime | None
    """When it was completed, failed or was cancelled; None again while it runs."""
    created_at: datetime
    """When it was first saved."""
    updated_at: datetime
    """When state, step or status last changed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One completed step."""

    step: str
    """Its name."""
    position: int
    """Counts the completed steps of the workflow from 1."""
    output: Json
    """What it gave."""
    completed_at: datetime
    """When it was completed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A workflow that a worker was given, and its right to it."""

    workflow: WorkflowState
    """The workflow, which runs."""
    lease: Lease
    """The lease; its token goes with every write."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where to go on."""

    workflow: WorkflowState
    """The workflow, which runs; ``current_step`` is the index of the step to do next."""
    last_step: Step | None
    """The step that was completed last, with its output; None when there is none."""


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold for a write: None asks for nothing."""

    expected_version: int | None = None
    """The version that the workflow must have; 0: it must not be there."""
    token: int | None = None
    """The token of the newest lease."""


@dataclass(frozen=True, slots=True)
class NewState:
    """One save, checked: ``state`` is canonical JSON text; None keeps what is there, or is the default of a new one."""

    workflow_id: str
    state: str
    name: str | None = None
    current_step: int | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of status, checked: ``error`` is canonical JSON text; ``stay`` accepts the status as it is."""

    to: Status
    error: str | None = None
    stay: bool = False


@dataclass(frozen=True, slots=True)
class NewStep:
    """One completed step, checked: ``output`` and ``state`` are canonical JSON text; ``state`` None keeps the state."""

    step: str
    output: str
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which workflows a listing has: created from ``since`` and before ``until``; None is any."""

    status: Status | None
    name: str | None
    since: datetime
    until: datetime


_WORKFLOW: Final = maker(WorkflowState)


def may_follow(before: str, after: str) -> bool:
    """Tell whether a workflow may go from one status to another.

    >>> may_follow("failed", "running"), may_follow("completed", "running"), may_follow("running", "running")
    (True, False, False)
    """
    return after in _NEXT[before]


def predecessors(after: str) -> tuple[str, ...]:
    """Return the statuses from which a workflow may come to this one.

    >>> predecessors("cancelled")
    ('pending', 'running')
    """
    return tuple(status for status in STATUSES if after in _NEXT[status])


def check_write(workflow_id: str, found: Row | None, guard: Guard, to: str | None, *, stay: bool = False) -> None:
    """Raise ``NotFound`` or ``Conflict`` unless this write may be done; ``found`` has status, version and token.

    ``to`` is the status that the write leads to, None when it leaves it; ``stay`` allows it to be there already.
    """
    if found is None:
        if guard.expected_version == 0 and guard.token is None:
            return
        raise NotFound(f"there is no workflow {workflow_id!r}")
    _check_token(found, guard.token)
    version = found["data_version"]
    if guard.expected_version is not None and guard.expected_version != version:
        raise Conflict(f"the workflow has version {version}, not {guard.expected_version}")
    status = found["status"]
    if to is not None and not may_follow(status, to) and not (stay and to == status):
        raise Conflict(f"a workflow that is {status} cannot become {to}")


def saved(found: Row | None, new: NewState, guard: Guard, now: Any) -> dict[str, Any]:
    """Return what a save writes: the changes, or the whole of a new row."""
    if found is None and guard.expected_version is None and guard.token is None:
        guard = Guard(0)
    check_write(new.workflow_id, found, guard, new.status, stay=True)
    written: dict[str, Any] = {"state_data": new.state, "last_updated": now}
    if new.name is not None:
        written["workflow_name"] = new.name
    if new.current_step is not None:
        written["current_step"] = new.current_step
    if found is not None:
        return {
            **written,
            "data_version": found["data_version"] + 1,
            **moved(found, new.status or found["status"], now),
        }
    status = new.status or "pending"
    return {
        **dict.fromkeys((*COLUMNS, "lease_seconds")),
        "workflow_id": new.workflow_id,
        "current_step": 0,
        "steps_completed": 0,
        "data_version": 1,
        "fencing_token": 0,
        "created_at": now,
        "status": status,
        "attempts": int(status == "running"),
        "started_at": None if status in {"pending", "cancelled"} else now,
        "completed_at": now if status in _ENDED else None,
        **written,
    }


def moved(found: Row, to: str, now: Any) -> dict[str, Any]:
    """Return what changes with the status: times, attempts, and the lease, which ends with the work."""
    if to == found["status"]:
        return {}
    if to == "running":
        started_at = now if found["started_at"] is None else found["started_at"]
        return {"status": to, "started_at": started_at, "completed_at": None, "attempts": found["attempts"] + 1}
    return {
        "status": to,
        "completed_at": now,
        "lease_owner": None,
        "lease_seconds": None,
        "lease_expires_at": None,
        "fencing_token": found["fencing_token"] + (found["lease_owner"] is not None),
    }


def leased(workflow_id: str, found: Row | None, owner: str, now: Any) -> dict[str, Any]:
    """Return what giving a lease changes besides its end; raises ``NotFound``, and ``Conflict`` when it is taken."""
    if found is None:
        raise NotFound(f"there is no workflow {workflow_id!r}")
    if found["status"] in {"completed", "cancelled"}:
        raise Conflict(f"a workflow that is {found['status']} cannot be leased")
    holder = found["lease_owner"]
    if holder not in {None, owner} and found["lease_expires_at"] > now:
        raise Conflict(f"the workflow is leased by {holder!r}")
    return {"lease_owner": owner, "fencing_token": found["fencing_token"] + 1}


def check_renewal(workflow_id: str, found: Row | None, token: int) -> float:
    """Return how many seconds the lease was given for; raise unless this token is that of the newest lease."""
    if found is None:
        raise NotFound(f"there is no workflow {workflow_id!r}")
    _check_token(found, token)
    return float(found["lease_seconds"])


def claimed(found: Row, owner: str, now: Any) -> dict[str, Any]:
    """Return what taking a pending or stalled workflow changes besides the end of its lease."""
    taken = {"lease_owner": owner, "fencing_token": found["fencing_token"] + 1, "last_updated": now}
    taken |= {"data_version": found["data_version"] + 1}
    if found["status"] == "running":
        return {**taken, "attempts": found["attempts"] + 1}
    return {**taken, **moved(found, "running", now)}


def stepped(found: Row, step: NewStep, now: Any) -> dict[str, Any]:
    """Return what completing a new step changes."""
    changes = {
        "steps_completed": found["steps_completed"] + 1,
        "current_step": found["current_step"] + 1,
        "last_step": step.step,
        "data_version": found["data_version"] + 1,
        "last_updated": now,
    }
    return changes if step.state is None else {**changes, "state_data": step.state}


def released(found: Row, now: Any) -> dict[str, Any]:
    """Return what giving a lease back changes: a workflow that runs is at once open to whoever recovers it."""
    token = {"fencing_token": found["fencing_token"] + 1}
    if found["status"] == "running":
        return {"lease_expires_at": now, **token}
    return {"lease_owner": None, "lease_seconds": None, "lease_expires_at": None, **token}


def _check_token(found: Row, token: int | None) -> None:
    if token is None or (token == found["fencing_token"] and found["lease_owner"] is not None):
        return
    raise Conflict(f"the lease with token {token} is over")


def workflow(row: Sequence[Any]) -> WorkflowState:
    """Make a record of a row whose values stand in the order of ``COLUMNS``; JSON as text, times as moments."""
    (workflow_id, name, state, current_step, status, steps, last_step, error, attempts, version, token) = row[:11]
    owner, lease_expires_at, started_at, completed_at, created_at, updated_at = row[11:17]
    return _WORKFLOW(
        workflow_id,
        name,
        documents.decode(state),
        current_step,
        status,
        steps,
        last_step,
        None if error is None else documents.decode(error),
        attempts,
        version,
        None if owner is None else Lease(workflow_id, owner, token, lease_expires_at),
        started_at,
        completed_at,
        created_at,
        updated_at,
    )


def lease_of(state: WorkflowState) -> Lease:
    """Return the lease of a workflow that was just given one."""
    if state.lease is None:
        raise Conflict("the lease was lost at once")
    return state.lease
