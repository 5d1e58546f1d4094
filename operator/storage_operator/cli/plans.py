"""Dry runs: what the reconcilers would do to a database now, asked of them and never done."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from storage_operator.adapters.postgres import components as component_database
from storage_operator.adapters.postgres import tenants as tenant_database
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import PROTECTION_KINDS
from storage_operator.adapters.postgres.migrator import migration_status
from storage_operator.adapters.postgres.rendering import plan_text
from storage_operator.cli.database import RELEASE
from storage_operator.cli.workspace import Workspace
from storage_operator.errors import OperatorError, Refused, Waiting
from storage_operator.planning.actions import Action, Conflict, Plan
from storage_operator.planning.component import ComponentAction, plan_component
from storage_operator.planning.tenant import plan_deletion
from storage_operator.reconcile.declaration import desired_tenant
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.report import Report
from storage_operator.resources import cluster, component, tenant
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.tenant import DeletionPolicy
from storage_operator.world import Key
from storage_sql.migrations import MigrationError
from storage_sql.runner import RunOptions

_NOT_SHOWN = frozenset({"why", "row", "shard"})


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would be done to one resource, and why; ``failed`` when it could not be found out."""

    key: Key
    change: str
    why: str
    details: dict[str, Any]
    failed: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the table's cells."""
        return (self.key.kind.value, f"{self.key.namespace}/{self.key.name}", self.change, self.why)

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        place = {"kind": self.key.kind.value, "namespace": self.key.namespace, "name": self.key.name}
        return {**place, "change": self.change, "why": self.why, "details": self.details, "failed": self.failed}


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """What would be done to one tenant, with its SQL."""

    changes: list[Change]
    sql: str


async def planned(workspace: Workspace) -> list[Change]:
    """Plan every resource of the manifests; what depends on something that is missing says so."""
    changes: list[Change] = []
    for key in workspace.world.keys():  # noqa: SIM118 - not a mapping
        try:
            changes += await _planned(workspace, key)
        except (OperatorError, MigrationError) as error:
            changes.append(_failure(key, error))
    return changes


async def _planned(workspace: Workspace, key: Key) -> list[Change]:
    if key.kind is Kind.STORAGE_CLUSTER:
        return await contact(workspace, key)
    if key.kind is Kind.STORAGE_COMPONENT:
        return await _component(workspace, key)
    return (await plan_one(workspace, key)).changes


async def contact(workspace: Workspace, key: Key) -> list[Change]:
    """Reach a cluster's database without claiming or changing anything, and say what its schema lacks."""
    body = workspace.world.get(key)
    spec = cluster.parse(body) if body is not None else None
    if body is None or spec is None or isinstance(spec, Faults):
        raise Refused("InvalidSpec", str(spec))
    reconciler = workspace.reconciler.clusters
    tended = await reconciler.contact(key, spec, Report(Kind.STORAGE_CLUSTER, body))
    options = RunOptions(release=RELEASE, target=spec.migrations.target_version)
    plan = await migration_status(tended.conninfo, spec.schema, options)
    tended.serving = not plan.pending
    breaches = await _breaches(key, tended) if tended.serving else []
    tended.sound = not any(change.failed for change in breaches)
    why = f"the schema is at version {plan.current} of {plan.target}"
    return [
        *(Change(key, f"ApplyMigration {each.label}", why, {"migration": each.label}) for each in plan.pending),
        *breaches,
    ]


async def _breaches(key: Key, tended: Tended) -> list[Change]:
    """Say what the audit finds: lost policies are put right by a run, everything else needs a person first."""
    return [
        Change(key, f"{'Repair' if mended else ''}{each.kind}", f"{each.object}: {each.detail}", {}, failed=not mended)
        for each in await tended.installation.audit()
        for mended in (tended.repairs and each.kind in PROTECTION_KINDS,)
    ]


async def _component(workspace: Workspace, key: Key) -> list[Change]:
    body = workspace.world.get(key)
    spec = component.parse(body) if body is not None else None
    if spec is None or isinstance(spec, Faults):
        raise Refused("InvalidSpec", str(spec))
    tended = _serving(workspace, Key(Kind.STORAGE_CLUSTER, spec.cluster.namespace, spec.cluster.name))
    state = await component_database.observe(tended.installation, spec.store.database_name)
    return [_change(key, action) for action in plan_component(spec, state.observed)]


async def plan_one(workspace: Workspace, key: Key) -> TenantPlan:
    """Plan one Tenant; raises what stands in the way."""
    body = workspace.world.get(key)
    spec = tenant.parse(body) if body is not None else None
    if body is None or spec is None or isinstance(spec, Faults):
        raise Refused("InvalidSpec", str(spec))
    _serving(workspace, Key(Kind.STORAGE_CLUSTER, spec.cluster.namespace, spec.cluster.name))
    plan, desired, tended = await workspace.reconciler.tenants.plan(body)
    if isinstance(plan, Conflict):
        raise Refused(plan.reason, plan.message)
    changes = [_change(key, action) for action in plan.actions]
    if plan.write_secret:
        why = "a credential is new" if plan.issues is not None else "its values differ"
        changes.append(Change(key, "WriteSecret", why, {"secret": spec.credentials.secret_name}))
    return TenantPlan(changes, plan_text(tended.installation, desired.names, plan))


async def planned_deletions(workspace: Workspace) -> list[Change]:
    """Plan the deletion of every resource of the manifests."""
    workspace.require_clusters()
    changes: list[Change] = []
    for key in workspace.clusters():
        try:
            await contact(workspace, key)
        except (OperatorError, MigrationError) as error:
            changes.append(_failure(key, error))
    for key in reversed(workspace.world.keys()):
        if key.kind is Kind.TENANT:
            try:
                changes += await _deletion(workspace, key)
            except OperatorError as error:
                changes.append(_failure(key, error))
        elif key.kind is Kind.STORAGE_COMPONENT:
            changes.append(Change(key, "Reset", "the store returns to its defaults; its rows stay", {}))
        else:
            changes.append(Change(key, "Release", "the database is free for another owner; it stays as it is", {}))
    return changes


async def _deletion(workspace: Workspace, key: Key) -> list[Change]:
    body = workspace.world.get(key)
    spec = tenant.parse(body) if body is not None else None
    if spec is None or isinstance(spec, Faults):
        raise Refused("InvalidSpec", str(spec))
    tended = _serving(workspace, Key(Kind.STORAGE_CLUSTER, spec.cluster.namespace, spec.cluster.name))
    desired = desired_tenant(spec, tended, None)
    state = await tenant_database.observe(tended.installation, spec.tenant_id, desired.names)
    plan = plan_deletion(desired, state.observed, delete_rows=spec.deletion_policy is DeletionPolicy.DELETE)
    return [_change(key, action) for action in plan.actions] if isinstance(plan, Plan) else []


def _serving(workspace: Workspace, key: Key) -> Tended:
    if workspace.world.get(key) is None:
        message = f"StorageCluster {key.namespace}/{key.name} is not among the manifests: add it with another -f"
        raise Waiting("ClusterNotFound", message)
    tended = workspace.reconciler.context.fleet.get(key)
    if tended is None:
        raise Waiting("ClusterNotReady", f"StorageCluster {key.namespace}/{key.name} was not reached")
    if not tended.serving:
        message = f"StorageCluster {key.namespace}/{key.name} lacks migrations; the plan follows when they are applied"
        raise Waiting("MigrationsPending", message)
    return tended


def _change(key: Key, action: Action | ComponentAction) -> Change:
    details = {name: value for name, value in asdict(action).items() if name not in _NOT_SHOWN}
    if "row" in {each.name for each in fields(action)}:
        details.update(asdict(action)["row"])
    return Change(key, type(action).__name__, action.why, details)


def _failure(key: Key, error: Exception) -> Change:
    reason = getattr(error, "reason", type(error).__name__)
    message = error.message if isinstance(error, (DatabaseFault, Refused, Waiting)) else str(error)
    # Pending migrations are an answer: they run first.
    return Change(key, str(reason), message, {}, failed=reason != "MigrationsPending")
