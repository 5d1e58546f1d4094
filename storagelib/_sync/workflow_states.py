# Made from storagelib/_async/workflow_states.py by scripts/sync; change that file instead.
"""Workflows that outlive their workers: state, status, completed steps, leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, Protocol, cast

from storagelib._sync.listings import each_item
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.workflow_states import (
    STATUSES,
    Change,
    Claim,
    Filter,
    Guard,
    Lease,
    NewState,
    NewStep,
    ResumePoint,
    Status,
    Step,
    WorkflowState,
    lease_of,
)
from storagelib.documents import Json, check_document
from storagelib.limits import (
    METADATA_BYTES_MAX,
    NAME_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_integer,
    check_one_of,
    check_page_size,
    check_text,
    check_time,
    check_ttl,
)
from storagelib.pages import Page, cursor_of, page_of, position_of

__all__ = ["WorkflowStates", "WorkflowStatesBackend"]

LEASE_SECONDS: Final = 60.0
"""How long a lease lives when the caller does not say."""


class WorkflowStatesBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    ``check_write`` and its neighbours in ``components.workflow_states`` decide and word every refusal.
    """

    def save(self, new: NewState, guard: Guard) -> WorkflowState:
        """Write a workflow, new or over the one that is there; raise what ``saved`` raises."""
        ...

    def load(self, workflow_id: str) -> WorkflowState | None:
        """Return a workflow."""
        ...

    def delete(self, workflow_id: str) -> bool:
        """Remove a workflow and its steps; tell whether it was there."""
        ...

    def change(self, workflow_id: str, change: Change, guard: Guard) -> tuple[WorkflowState, Step | None]:
        """Change the status; return the workflow and its last step; raise what ``check_write`` raises."""
        ...

    def complete_step(self, workflow_id: str, step: NewStep, guard: Guard) -> Step:
        """Complete a step of a running workflow once; return it, or the one that was completed before."""
        ...

    def steps(self, workflow_id: str, after: int, limit: int) -> list[Step]:
        """Return up to ``limit`` completed steps with a position above ``after``, in order."""
        ...

    def listing(self, wanted: Filter, before: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` workflows, newest first by creation and id, that come after this position."""
        ...

    def lease(self, workflow_id: str, owner: str, seconds: float) -> WorkflowState:
        """Give the workflow to an owner; raise what ``leased`` raises."""
        ...

    def renew(self, workflow_id: str, token: int, seconds: float | None) -> WorkflowState:
        """Let the lease with this token live on, for as long as before when ``seconds`` is None."""
        ...

    def release(self, workflow_id: str, token: int) -> bool:
        """End the lease with this token; tell whether it was the newest."""
        ...

    def stalled(self, after: tuple[datetime, str], limit: int) -> list[WorkflowState]:
        """Return up to ``limit`` running workflows whose lease ran out, by its end and id, after this position."""
        ...

    def claim_pending(self, name: str | None, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Set the oldest pending workflows running under a lease, each for one caller only."""
        ...

    def claim_stalled(self, owner: str, seconds: float, limit: int) -> list[WorkflowState]:
        """Lease the workflows that stalled longest ago anew, each for one caller only."""
        ...


class WorkflowStates:
    """The workflows of one tenant.

    A workflow is ``pending``, then ``running``, then ``completed``, ``failed`` or ``cancelled``; one that failed may run
    again. Whoever works on it may hold a lease, whose token goes with every write: when a worker was thought dead and
    its workflow was given to another, its late writes raise ``Conflict``. A write without a token is not asked for one.
    Every verb raises ``InvalidInput`` before any I/O for arguments that no backend could keep.

    >>> from storagelib import Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         workflows = store.for_tenant("acme").workflow_states
    ...         workflows.save("import-7", {"file": "a.csv"}, name="import")
    ...         claim = workflows.claim_next("worker-1", "import", ttl=60)
    ...         workflows.complete_step("import-7", "fetch", {"rows": 120}, token=claim.lease.token)
    ...         point = workflows.resume("import-7", token=claim.lease.token)
    ...         print(point.workflow.status, point.workflow.current_step, point.last_step.step)
    >>> example()
    running 1 fetch
    """

    def __init__(self, backend: WorkflowStatesBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    def save(
        self,
        workflow_id: str,
        state: Json,
        *,
        name: str | None = None,
        current_step: int | None = None,
        status: Status | None = None,
        expected_version: int | None = None,
        token: int | None = None,
    ) -> WorkflowState:
        """Write a workflow's state, and what else is given; what is not given stays, or is pending at step 0.

        A new workflow may begin with any status, one that is there may only go where its status leads. Raises
        ``Conflict`` for another step of its life, for a version other than ``expected_version`` (0: it must be new)
        and for a token of a lease that is over; ``NotFound`` when a version or token is given and nothing is there.
        """
        new = NewState(
            check_text("workflow_id", workflow_id),
            check_document(state, "state"),
            None if name is None else check_text("name", name, most=NAME_MAX),
            None if current_step is None else check_integer("current_step", current_step, least=0),
            None if status is None else _status(status),
        )
        return self._backend.save(new, _guard(expected_version, token, least=0))

    def load(self, workflow_id: str) -> WorkflowState | None:
        """Return a workflow, or None."""
        return self._backend.load(check_text("workflow_id", workflow_id))

    def delete(self, workflow_id: str) -> bool:
        """Remove a workflow with its steps; tell whether it was there."""
        return self._backend.delete(check_text("workflow_id", workflow_id))

    def update_status(
        self,
        workflow_id: str,
        status: Status,
        *,
        expected_version: int | None = None,
        token: int | None = None,
    ) -> WorkflowState:
        """Lead a workflow on: pending to running or cancelled, running to completed, failed or cancelled, failed to running.

        Raises ``Conflict``, which names both, for any other pair; ``NotFound`` when it is not there. A lease ends when
        the workflow does.
        """
        change = Change(_status(status))
        return self._change(workflow_id, change, _guard(expected_version, token))

    def fail(self, workflow_id: str, error: Json, *, token: int | None = None) -> WorkflowState:
        """Let a running workflow fail and keep why: any JSON value of at most 1 MiB."""
        change = Change("failed", check_document(error, "error", most=METADATA_BYTES_MAX))
        return self._change(workflow_id, change, _guard(None, token))

    def resume(self, workflow_id: str, *, token: int | None = None) -> ResumePoint:
        """Let a workflow run (again) and return where to go on: after the step that was completed last.

        One that is pending or failed becomes running, one that runs stays as it is; any other raises ``Conflict``.
        """
        workflow_id = check_text("workflow_id", workflow_id)
        change = Change("running", stay=True)
        workflow, last = self._backend.change(workflow_id, change, _guard(None, token))
        return ResumePoint(workflow, last)

    def complete_step(
        self, workflow_id: str, step: str, output: Json = None, *, state: Json = None, token: int | None = None
    ) -> Step:
        """Keep what a step of a running workflow gave, and with it a new ``state`` unless that is None.

        Completing a step again changes nothing and returns the first completion. Raises ``Conflict`` when the
        workflow does not run or the token is that of a lease that is over.
        """
        workflow_id = check_text("workflow_id", workflow_id)
        new = NewStep(
            check_text("step", step),
            check_document(output, "output"),
            None if state is None else check_document(state, "state"),
        )
        return self._backend.complete_step(workflow_id, new, _guard(None, token))

    def list_steps(self, workflow_id: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Step]:
        """Return a page of the completed steps in the order of their completion; none for an unknown workflow."""
        check_page_size(limit)
        position = position_of(cursor, int)
        after = 0 if position is None else position[0]
        found = self._backend.steps(check_text("workflow_id", workflow_id), after, limit + 1)
        return page_of(found, limit, "position")

    def list_workflows(
        self,
        *,
        status: Status | None = None,
        name: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[WorkflowState]:
        """Return a page of workflows, newest first, with this status and name, saved first in [``since``, ``until``)."""
        check_page_size(limit)
        wanted = Filter(
            None if status is None else _status(status),
            None if name is None else check_text("name", name, most=NAME_MAX),
            LONG_AGO if since is None else check_time("since", since),
            FOREVER if until is None else check_time("until", until),
        )
        position = position_of(cursor, datetime, str)
        before = (FOREVER, "") if position is None else (position[0], position[1])
        found = self._backend.listing(wanted, before, limit + 1)
        return page_of(found, limit, "created_at", "workflow_id")

    def workflows(self, *, status: Status | None = None, name: str | None = None) -> Iterator[WorkflowState]:
        """Go through all workflows with this status and name, newest first, page by page."""
        return each_item(self.list_workflows, status=status, name=name, limit=PAGE_MAX)

    def acquire(self, workflow_id: str, owner: str, *, ttl: float | timedelta = LEASE_SECONDS) -> Lease:
        """Take a workflow for ``ttl`` (seconds; 60 when not given) and return the lease with its token.

        The same owner may take it again at any time, which ends the lease it had. Raises ``Conflict`` while another
        owner's lease lives and when the workflow is completed or cancelled, ``NotFound`` when it is not there.
        """
        workflow_id, owner = check_text("workflow_id", workflow_id), check_text("owner", owner)
        return lease_of(self._backend.lease(workflow_id, owner, _seconds(ttl)))

    def renew(self, workflow_id: str, token: int, *, ttl: float | timedelta | None = None) -> Lease:
        """Let a lease live on for ``ttl`` from now, or as long again as it was given for; return it.

        Works while nobody else has taken the workflow, even when the lease has run out; then raises ``Conflict``.
        """
        workflow_id = check_text("workflow_id", workflow_id)
        seconds = None if ttl is None else _seconds(ttl)
        return lease_of(self._backend.renew(workflow_id, check_integer("token", token, least=1), seconds))

    def heartbeat(self, workflow_id: str, token: int) -> Lease:
        """Say that the holder is alive: ``renew`` for as long again as the lease was given for."""
        return self.renew(workflow_id, token)

    def release(self, workflow_id: str, token: int) -> bool:
        """Give a lease back; tell whether it was still the newest. A workflow that runs is then open to ``recover_stalled``."""
        return self._backend.release(check_text("workflow_id", workflow_id), check_integer("token", token, least=1))

    def list_stalled(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[WorkflowState]:
        """Return a page of the running workflows whose lease ran out or was given back, longest ago first."""
        check_page_size(limit)
        position = position_of(cursor, datetime, str)
        after = (LONG_AGO, "") if position is None else (position[0], position[1])
        return _stalled_page(self._backend.stalled(after, limit + 1), limit)

    def recover_stalled(
        self, owner: str, *, ttl: float | timedelta = LEASE_SECONDS, limit: int = PAGE_DEFAULT
    ) -> list[Claim]:
        """Take over up to ``limit`` running workflows whose lease ran out, longest ago first; each goes to one caller."""
        check_page_size(limit)
        found = self._backend.claim_stalled(check_text("owner", owner), _seconds(ttl), limit)
        return [Claim(workflow, lease_of(workflow)) for workflow in found]

    def claim_next(
        self, owner: str, name: str | None = None, *, ttl: float | timedelta = LEASE_SECONDS
    ) -> Claim | None:
        """Take the oldest pending workflow with this name (None: of any), which then runs; None when there is none.

        Of many callers each gets another one, and nobody waits for anybody.
        """
        name = None if name is None else check_text("name", name, most=NAME_MAX)
        found = self._backend.claim_pending(name, check_text("owner", owner), _seconds(ttl), 1)
        return Claim(found[0], lease_of(found[0])) if found else None

    def _change(self, workflow_id: str, change: Change, guard: Guard) -> WorkflowState:
        workflow, _ = self._backend.change(check_text("workflow_id", workflow_id), change, guard)
        return workflow


def _status(status: str) -> Status:
    check_one_of("status", status, STATUSES)
    return cast("Status", status)


def _guard(expected_version: int | None, token: int | None, *, least: int = 1) -> Guard:
    return Guard(
        None if expected_version is None else check_integer("expected_version", expected_version, least=least),
        None if token is None else check_integer("token", token, least=1),
    )


def _seconds(ttl: float | timedelta) -> float:
    return check_ttl("ttl", ttl).total_seconds()


def _stalled_page(rows: list[WorkflowState], limit: int) -> Page[WorkflowState]:
    if len(rows) <= limit:
        return Page(tuple(rows), None)
    last = rows[limit - 1]
    return Page(tuple(rows[:limit]), cursor_of(lease_of(last).expires_at, last.workflow_id))
