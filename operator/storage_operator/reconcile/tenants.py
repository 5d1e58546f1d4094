"""Reconcile one Tenant: admission, plan, apply, probe, Secret, status; and its deletion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from storage_operator.adapters.postgres import tenants as database
from storage_operator.adapters.postgres.credentials import ScramKeys
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.leftovers import left_roles
from storage_operator.adapters.postgres.probe import Verdict, probe_role, probe_sealed
from storage_operator.adapters.postgres.targets import login_conninfo
from storage_operator.errors import Refused, SecretNotOurs, Waiting
from storage_operator.planning.actions import Conflict, Plan
from storage_operator.planning.secret import Access
from storage_operator.planning.tenant import (
    PASSWORD_REFUSED,
    DesiredTenant,
    ObservedSecret,
    plan_deletion,
    plan_refused_password,
    plan_tenant,
    remaining_drift,
)
from storage_operator.reconcile.access import AccessKeeper, secret_name
from storage_operator.reconcile.admission import NotMetYet, admit, cluster_key
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.declaration import declared_tenant, desired_tenant, without_answered
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.report import Report, reason_of
from storage_operator.resources.conditions import ConditionType, Reason, find, parse_time, read_conditions
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.names import StoreKind
from storage_operator.resources.status import TenantStatus, Usage
from storage_operator.resources.tenant import DeletionPolicy, TenantSpec, parse
from storage_operator.world import Body, Outcome, SecretObject

REFUSED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What one pass over the database and the Secret left behind."""

    plan: Plan
    state: database.TenantState
    verdict: Verdict | None
    verified_at: datetime | None
    secret_name: str | None


class PasswordRefused(Exception):  # noqa: N818 - what the probe met
    """The server refuses the password that the Secret holds, although it is the one that was issued."""


class TenantReconciler:
    """Makes one Tenant so, and says what is."""

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers share."""
        self._context = context
        self._keeper = AccessKeeper(context)

    async def reconcile(self, body: Body) -> Outcome:
        """Bring a Tenant to what it declares; expected faults become conditions, never exceptions."""
        report = Report(Kind.TENANT, body, self._context.clock)
        spec = parse(body)
        if isinstance(spec, Faults):
            report.false(ConditionType.ACCEPTED, Reason.INVALID_SPEC, str(spec))
            return await self._finish(report, None, None, Outcome("refused"))
        try:
            tended = await admit(self._context, spec, provisioned=secret_name(body) is not None)
            report.true(ConditionType.ACCEPTED, Reason.VALID)
            body = await self._context.world.add_finalizer(body)
            report.body = body
            done = await self._provision(spec, tended, body, report)
        except Refused as refusal:
            self._refused(report, refusal)
            return await self._finish(report, spec, None, Outcome("refused", REFUSED_SECONDS))
        except Waiting as wait:
            return await self._waits(report, spec, wait)
        except DatabaseFault as fault:
            return await self._faulted(report, spec, fault)
        left_as_it_is = bool(done.plan.drift) and not tended.repairs
        if done.verdict is not None and not done.verdict.isolated and not left_as_it_is:
            return await self._finish(report, spec, done, Outcome("failed"))
        outcome = Outcome("changed" if done.plan.actions else "unchanged", self._come_back(spec, done))
        return await self._finish(report, spec, done, outcome)

    async def delete(self, body: Body) -> Outcome:
        """Take a Tenant away as its policy says; bounded, idempotent, and blocked with a reason when it cannot be."""
        metadata = Metadata.of(body)
        if not metadata.has_finalizer:
            return Outcome("deleted")
        report = Report(Kind.TENANT, body, self._context.clock)
        if not metadata.force_delete:
            spec = parse(body)
            try:
                if not isinstance(spec, Faults):
                    await self._remove(spec, body)
            except (DatabaseFault, Waiting) as fault:
                reason = Reason.SESSIONS_OPEN if isinstance(fault, database.SessionsRemain) else Reason.CLEANUP_FAILED
                report.true(ConditionType.DELETION_BLOCKED, reason, fault.message)
                return await self._finish(report, None, None, Outcome("failed"))
        await self._keeper.remove(body)
        await self._context.world.remove_finalizer(body)
        return Outcome("deleted")

    async def plan(self, body: Body) -> tuple[Plan | Conflict, DesiredTenant, Tended]:
        """Return what a reconcile would do now, without doing it; raises what ``reconcile`` would report."""
        spec = parse(body, strict=True)
        if isinstance(spec, Faults):
            raise Refused("InvalidSpec", str(spec))
        tended = await admit(self._context, spec, provisioned=secret_name(body) is not None)
        desired = declared_tenant(spec, tended, body)
        state = await database.observe(tended.installation, spec.tenant_id, desired.names)
        secret = await self._keeper.read(spec, body, brand_new=False)
        desired = without_answered(desired, secret)
        observed = await self._keeper.observe(spec, tended, state, secret)
        return plan_tenant(desired, state.observed, observed), desired, tended

    async def _provision(self, spec: TenantSpec, tended: Tended, body: Body, report: Report) -> Provisioned:
        phase = self._context.phase
        desired = declared_tenant(spec, tended, body)
        with phase(Kind.TENANT, "observe"):
            state = await database.observe(tended.installation, spec.tenant_id, desired.names)
            secret = await self._keeper.read(spec, body, brand_new=state.observed.row is None)
            seen = await self._keeper.observe(spec, tended, state, secret)
            desired = without_answered(desired, secret)
            if self._keeper.awaits_pooler(spec, tended, state):
                desired = replace(desired, rotation_request=None)
        try:
            return await self._carry_out(spec, tended, body, report, (desired, state, secret, seen))
        except PasswordRefused:
            # The tenant changed its own password: the issued one is put back, and the Secret is right again.
            restore = plan_refused_password(desired, state.observed)
        try:
            await database.apply(tended.installation, spec.tenant_id, desired.names, restore)
            return await self._carry_out(spec, tended, body, report, (desired, state, secret, seen))
        except PasswordRefused:
            # Putting it back did not help, so that a new one is due.
            foreign = None if seen is None else replace(seen, digest=None)
            return await self._carry_out(spec, tended, body, report, (desired, state, secret, foreign))

    async def _carry_out(
        self,
        spec: TenantSpec,
        tended: Tended,
        body: Body,
        report: Report,
        seen: tuple[DesiredTenant, database.TenantState, SecretObject | None, ObservedSecret | None],
    ) -> Provisioned:
        phase = self._context.phase
        desired, state, secret, observed = seen
        plan = plan_tenant(desired, state.observed, observed)
        if isinstance(plan, Conflict):
            raise Refused(plan.reason, plan.message)
        with phase(Kind.TENANT, "apply"):
            credential = await database.apply(tended.installation, spec.tenant_id, desired.names, plan)
            if plan.actions:
                state = await database.observe(tended.installation, spec.tenant_id, desired.names)
        access = await self._keeper.current(spec, tended, state, secret, credential)
        keys = None if credential is None else credential.keys
        with phase(Kind.TENANT, "probe"):
            verdict, verified_at = await self._verify(spec, tended, body, plan, state, access, keys)
        if verdict is not None and verdict.message == PASSWORD_REFUSED and not tended.repairs:
            plan = replace(plan, drift=(*plan.drift, PASSWORD_REFUSED))
        self._conclude(report, spec, tended, plan, state, verdict)
        if plan.actions and tended.repairs and (left := remaining_drift(desired, state.observed)):
            told = "; ".join(left)
            report.false(ConditionType.PROVISIONED, Reason.PROVISION_FAILED, f"{told}: only a superuser can undo it")
        written = False
        if plan.write_secret and access is not None and (verdict is None or verdict.isolated):
            with phase(Kind.TENANT, "secret"):
                await self._keeper.write(spec, tended, body, access, secret, credential)
            written = True
        if written or secret is not None:
            await self._keeper.tidy(spec, body)
            return Provisioned(plan, state, verdict, verified_at, spec.credentials.secret_name)
        return Provisioned(plan, state, verdict, verified_at, secret_name(body))

    def _conclude(
        self,
        report: Report,
        spec: TenantSpec,
        tended: Tended,
        plan: Plan,
        state: database.TenantState,
        verdict: Verdict | None,
    ) -> None:
        if plan.drift and not tended.repairs:
            report.false(ConditionType.PROVISIONED, Reason.DRIFT_FOUND, "; ".join(plan.drift))
        elif spec.suspended:
            report.false(
                ConditionType.PROVISIONED, Reason.SUSPENDED, "spec.suspended is true: no login, sessions ended"
            )
        elif missing := sorted({store.database_name for store in spec.components or ()} - state.enabled):
            names = ", ".join(StoreKind.from_database_name(store) for store in missing)
            report.false(
                ConditionType.PROVISIONED, Reason.COMPONENT_UNKNOWN, f"disabled on the StorageCluster: {names}"
            )
        else:
            report.true(ConditionType.PROVISIONED, Reason.PROVISIONED)
        if spec.suspended:
            report.unknown(ConditionType.ISOLATION_VERIFIED, Reason.SUSPENDED, "a suspended tenant cannot be probed")
        elif verdict is not None and verdict.isolated:
            report.true(ConditionType.ISOLATION_VERIFIED, Reason.PROBE_PASSED, verdict.message)
        elif verdict is not None:
            report.false(ConditionType.ISOLATION_VERIFIED, Reason.PROBE_FAILED, verdict.message)
        else:
            report.keep(ConditionType.ISOLATION_VERIFIED)
        self._quota(report, spec, state)

    @staticmethod
    def _quota(report: Report, spec: TenantSpec, state: database.TenantState) -> None:
        limit = spec.quotas.storage_bytes
        if limit is None:
            report.false(ConditionType.QUOTA_EXCEEDED, Reason.NO_QUOTA, "")
        elif state.usage.bytes is None:
            report.unknown(
                ConditionType.QUOTA_EXCEEDED, Reason.NOT_MEASURED, "usage is measured at the cluster's interval"
            )
        elif state.usage.bytes <= limit:
            report.false(ConditionType.QUOTA_EXCEEDED, Reason.WITHIN_QUOTA, "")
        else:
            enforced = spec.quotas.enforce_storage
            reason = Reason.OVER_QUOTA_ENFORCED if enforced else Reason.OVER_QUOTA
            effect = "INSERT and UPDATE are refused, DELETE works" if enforced else "nothing is refused"
            report.true(ConditionType.QUOTA_EXCEEDED, reason, f"quotas.storage is exceeded; {effect}")

    async def _verify(
        self,
        spec: TenantSpec,
        tended: Tended,
        body: Body,
        plan: Plan,
        state: database.TenantState,
        access: Access | None,
        keys: ScramKeys | None,
    ) -> tuple[Verdict | None, datetime | None]:
        """Probe after a change and when the last proof is too old; None when there is nothing to do or nobody can log in."""
        before = parse_time(_status(body).get("lastVerifiedTime"))
        now = self._context.clock()
        proved = find(read_conditions(body), ConditionType.ISOLATION_VERIFIED)
        fresh = (
            before is not None
            and timedelta() <= now - before < timedelta(seconds=self._context.probe_interval_seconds)
            and proved is not None
            and proved.is_true
        )
        if spec.suspended or access is None or (fresh and not plan.actions and not plan.write_secret):
            return None, before
        conninfo = login_conninfo(tended.conninfo, access.user, access.password, keys)
        try:
            if access.capability is None:
                verdict = await probe_role(tended.installation, conninfo, spec.tenant_id)
            else:
                store = _probed_store(spec, state)
                verdict = await probe_sealed(tended.installation, conninfo, spec.tenant_id, access.capability, store)
        except DatabaseFault as fault:
            if fault.reason == Reason.AUTHENTICATION_FAILED and plan.issues is None and tended.repairs:
                raise PasswordRefused from fault
            if fault.reason != Reason.AUTHENTICATION_FAILED:
                raise
            verdict = Verdict(isolated=False, message=PASSWORD_REFUSED)
        return verdict, now if verdict.isolated else before

    async def _remove(self, spec: TenantSpec, body: Body) -> None:
        """Take the tenant out of the database; a cluster that does not exist any more has nothing to clean."""
        key = cluster_key(spec.cluster)
        if self._context.world.get(key) is None:
            return
        tended = self._context.fleet.get(key)
        if tended is None:
            raise Waiting("ClusterNotReady", f"StorageCluster {key.namespace}/{key.name} cannot be reached to clean up")
        desired = desired_tenant(spec, tended, None)
        state = await database.observe(tended.installation, spec.tenant_id, desired.names)
        plan = plan_deletion(desired, state.observed, delete_rows=spec.deletion_policy is DeletionPolicy.DELETE)
        if isinstance(plan, Plan):
            await database.apply(tended.installation, spec.tenant_id, desired.names, plan)
            for role in await left_roles(tended.installation):
                if role.name in desired.names.logins:
                    await self._context.world.emit(body, "Warning", "RoleLeftBehind", str(role))

    def _refused(self, report: Report, refusal: Refused) -> None:
        reason = reason_of(refusal, Reason.PROVISION_FAILED)
        if isinstance(refusal, SecretNotOurs):
            report.false(ConditionType.PROVISIONED, Reason.FOREIGN_SECRET, refusal.message)
        elif reason is Reason.FOREIGN_ROLE:
            report.false(ConditionType.PROVISIONED, reason, refusal.message)
        else:
            report.false(ConditionType.ACCEPTED, reason, refusal.message)

    async def _waits(self, report: Report, spec: TenantSpec, wait: Waiting) -> Outcome:
        outcome = Outcome("waiting", wait.retry_after)
        if isinstance(wait, NotMetYet):
            return outcome  # a restart of the operator is no news about a tenant
        if not report.told(ConditionType.ACCEPTED):
            report.unknown(ConditionType.ACCEPTED, reason_of(wait, Reason.PROGRESSING), wait.message)
        report.unknown(ConditionType.PROVISIONED, reason_of(wait, Reason.PROGRESSING), wait.message)
        return await self._finish(report, spec, None, outcome)

    async def _faulted(self, report: Report, spec: TenantSpec, fault: DatabaseFault) -> Outcome:
        if fault.connection:
            report.unknown(ConditionType.PROVISIONED, reason_of(fault, Reason.UNREACHABLE), fault.message)
        else:
            report.false(ConditionType.PROVISIONED, Reason.PROVISION_FAILED, fault.message)
        return await self._finish(report, spec, None, Outcome("failed"))

    async def _finish(
        self, report: Report, spec: TenantSpec | None, done: Provisioned | None, outcome: Outcome
    ) -> Outcome:
        seen = None if spec is None or done is None else self._seen(report, spec, done)
        await report.write(self._context.world, seen)
        return outcome

    @staticmethod
    def _seen(report: Report, spec: TenantSpec, done: Provisioned) -> TenantStatus:
        observed, usage = done.state.observed, done.state.usage
        measured = (
            Usage(usage.bytes, usage.rows or 0, usage.measured_at)
            if usage.bytes is not None and usage.measured_at is not None
            else None
        )
        interval = spec.credentials.rotation.interval_seconds
        changed = observed.credential_changed_at
        return TenantStatus(
            observed_generation=report.generation,
            conditions=report.conditions(),
            role=observed.live.login if observed.live else None,
            secret_name=done.secret_name,
            schema_version=done.state.schema_version,
            components=tuple(
                StoreKind.from_database_name(store)
                for store in (observed.row.stores if observed.row else ())
                if store in done.state.enabled
            ),
            usage=measured,
            last_verified_time=done.verified_at,
            last_rotation_time=changed,
            next_rotation_time=changed + timedelta(seconds=interval) if changed and interval else None,
            rotation_request=spec.metadata.rotation_request,
        )

    def _come_back(self, spec: TenantSpec, done: Provisioned) -> float | None:
        """Seconds until something is due by itself: a rotation, or the end of an overlap."""
        observed = done.state.observed
        due = [login.retire_at for login in observed.logins if login.retire_at is not None]
        interval = spec.credentials.rotation.interval_seconds
        if interval is not None and observed.credential_changed_at is not None:
            due.append(observed.credential_changed_at + timedelta(seconds=interval))
        return max(0.5, (min(due) - observed.now).total_seconds()) if due else None


def _probed_store(spec: TenantSpec, state: database.TenantState) -> str:
    """A store that ``enter`` lets a sealed tenant into; any of its own that is enabled."""
    names = [store.database_name for store in spec.components or tuple(StoreKind)]
    return next((name for name in names if name in state.enabled), names[0])


def _status(body: Body) -> Mapping[str, object]:
    status = body.get("status")
    return status if isinstance(status, Mapping) else {}


__all__ = ["TenantReconciler"]
