"""Collect what a reconcile found out and write it as one status, in one PATCH, with Events only on transitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from storage_operator.errors import OperatorError
from storage_operator.resources.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    derive_ready,
    find,
    merge,
    read_conditions,
)
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.status import Status, unseen
from storage_operator.world import Body, World

_REASONS = {reason.value: reason for reason in Reason}


def reason_of(error: OperatorError, default: Reason) -> Reason:
    """Return the documented reason of an error, or ``default`` for one that has none."""
    return _REASONS.get(str(getattr(error, "reason", default)), default)


def utc_now() -> datetime:
    """Return the host's clock, for transition times."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Report:
    """The conditions of one reconcile of one object, all for the generation that was read."""

    kind: Kind
    body: Body
    clock: Callable[[], datetime] = utc_now
    _fresh: dict[ConditionType, Condition] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """The generation that this reconcile works for."""
        return Metadata.of(self.body).generation

    def true(self, type_: ConditionType, reason: Reason, message: str = "") -> None:
        """The condition holds."""
        self._put(type_, ConditionStatus.TRUE, reason, message)

    def false(self, type_: ConditionType, reason: Reason, message: str) -> None:
        """The condition does not hold, and the message says why and what to do."""
        self._put(type_, ConditionStatus.FALSE, reason, message)

    def unknown(self, type_: ConditionType, reason: Reason, message: str) -> None:
        """Nobody could look."""
        self._put(type_, ConditionStatus.UNKNOWN, reason, message)

    def told(self, type_: ConditionType) -> bool:
        """Whether this reconcile has said something about the condition."""
        return type_ in self._fresh

    def keep(self, type_: ConditionType) -> None:
        """What was found before holds for this generation too: nothing that it depends on changed."""
        before = find(read_conditions(self.body), type_)
        if before is not None:
            self._put(type_, before.status, before.reason, before.message)

    def _put(self, type_: ConditionType, status: ConditionStatus, reason: Reason, message: str) -> None:
        self._fresh[type_] = Condition(type_, status, reason, message, self.generation)

    def conditions(self) -> tuple[Condition, ...]:
        """Merge with what the status held before, and derive Ready."""
        now = self.clock()
        merged = merge(read_conditions(self.body), self._fresh.values(), now)
        deleting = Metadata.of(self.body).deleting
        ready = derive_ready(self.kind, merged, generation=self.generation, deleting=deleting)
        return merge(merged, [ready], now)

    async def write(self, world: World, seen: Status | None = None) -> None:
        """Write the status when it differs; a flip of Ready is an Event, nothing else is.

        ``seen`` was made with this report's conditions; None says that nobody looked, and what was known stays.
        """
        if seen is None:
            conditions = self.conditions()
            fields = unseen(self.body.get("status") or {}, self.generation, conditions)
        else:
            conditions, fields = seen.conditions, seen.as_fields()
        await world.patch_status(self.body, fields)
        before = find(read_conditions(self.body), ConditionType.READY)
        after = find(conditions, ConditionType.READY)
        if after is None or (before is not None and (before.status, before.reason) == (after.status, after.reason)):
            return
        if after.status is ConditionStatus.TRUE:
            await world.emit(self.body, "Normal", after.reason.value, f"{self.kind.value} is Ready")
        elif after.status is ConditionStatus.FALSE:
            await world.emit(self.body, "Warning", after.reason.value, after.message)
