"""Plan, apply to the model, and write the Secret: one reconcile, with a crash wherever a test wants one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from storage_operator.planning.actions import Action, Conflict, CreateSet, DeleteRows, EndSessions, Plan
from storage_operator.planning.tenant import DesiredTenant, plan_deletion, plan_tenant
from tests.planning.model import ModelDatabase, Secret


@dataclass(slots=True)
class Journey:
    """A tenant's resource, the database, and the Secret between them."""

    database: ModelDatabase = field(default_factory=ModelDatabase)
    secret: Secret | None = None
    former: list[Secret] = field(default_factory=list)
    drawn: int = 0
    applied: DesiredTenant | None = None

    def plan(self, desired: DesiredTenant) -> Plan | Conflict:
        """Plan against what is."""
        desired = replace(desired, delivered=self.secret is not None or bool(self.former))
        if self.applied is not None:
            desired = replace(
                desired, applied=replace(self.applied, rotation_request=None) == _without_request(desired)
            )
        else:
            desired = replace(desired, applied=False)
        tenant = desired.row.tenant
        seen = self.database.observe_secret(tenant, self.secret, sealed=desired.row.isolation == "sealed")
        return plan_tenant(desired, self.database.observe(tenant, desired.names), seen)

    def run(self, desired: DesiredTenant, *, crash_after: int | None = None) -> Plan:
        """Carry a plan out; a crash keeps what was applied before it and loses the credential."""
        plan = self.plan(desired)
        assert isinstance(plan, Plan), plan
        drawn = {} if not plan.issues else {plan.issues: f"password-{self.drawn}"}
        self.drawn += 1
        for action in _survivors(plan.actions, crash_after):
            self.database.apply(action, desired.names, drawn)
        if crash_after is not None:
            return plan
        self._write(desired, plan, drawn)
        self.applied = desired
        return plan

    def delete(self, desired: DesiredTenant, *, rows: bool, crash_after: int | None = None) -> Plan:
        """Take the tenant away."""
        plan = plan_deletion(desired, self.database.observe(desired.row.tenant, desired.names), delete_rows=rows)
        assert isinstance(plan, Plan)
        for action in _survivors(plan.actions, crash_after):
            self.database.apply(action, desired.names, {})
        if crash_after is None:
            self.secret, self.applied, self.former = None, None, []
        return plan

    def _write(self, desired: DesiredTenant, plan: Plan, drawn: dict[str, str]) -> None:
        if not plan.write_secret:
            return
        if self.secret is not None:
            self.former.append(self.secret)
        tenant = desired.row.tenant
        if desired.row.isolation == "sealed":
            self.secret = Secret("app", f"{tenant}/{self.database.tenants[tenant].capability}")
        elif plan.issues:
            self.secret = Secret(plan.issues, drawn[plan.issues])
        else:
            assert self.secret is not None
            self.secret = replace(self.secret, rest="right")


def _survivors(actions: tuple[Action, ...], crash_after: int | None) -> Iterator[Action]:
    """Yield the actions of the transactions before a crash: what stands between ends of sessions holds together."""
    number = 0
    for action in actions:
        if isinstance(action, (EndSessions, DeleteRows)):
            number += 1
        if crash_after is not None and number >= crash_after:
            return
        yield action
        if isinstance(action, (CreateSet, EndSessions, DeleteRows)):
            number += 1


def _without_request(desired: DesiredTenant) -> DesiredTenant:
    return replace(desired, rotation_request=None, applied=True, delivered=True)
