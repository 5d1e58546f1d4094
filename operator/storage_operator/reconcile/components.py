"""Reconcile one StorageComponent: tables, parameters, partitions, and whether tenants reach the store at all."""

from __future__ import annotations

from storage_operator.adapters.postgres import components as database
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.errors import Refused, Waiting
from storage_operator.planning.component import exact_only, index_method, missing_method, plan_component
from storage_operator.reconcile.admission import NotMetYet, cluster_key, serving_cluster
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.report import Report, reason_of
from storage_operator.resources.component import StorageComponentSpec, parse
from storage_operator.resources.conditions import ConditionType, Reason, find, read_conditions
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.status import Partitions, StorageComponentStatus
from storage_operator.world import Body, Outcome

PARTITION_CHECK_SECONDS = 3600.0


class ComponentReconciler:
    """Makes one StorageComponent so, and says what is."""

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers share."""
        self._context = context

    async def reconcile(self, body: Body) -> Outcome:
        """Bring a StorageComponent to what it declares; expected faults become conditions, never exceptions."""
        report = Report(Kind.STORAGE_COMPONENT, body, self._context.clock)
        spec = parse(body)
        if isinstance(spec, Faults):
            report.false(ConditionType.ACCEPTED, Reason.INVALID_SPEC, str(spec))
            return await self._finish(report, None, None, Outcome("refused"))
        try:
            tended = self._admit(spec, body)
            report.true(ConditionType.ACCEPTED, Reason.VALID)
            report.body = await self._context.world.add_finalizer(body)
            state, changed = await self._apply(spec, tended, report)
        except Refused as refusal:
            report.false(ConditionType.ACCEPTED, reason_of(refusal, Reason.INVALID_SPEC), refusal.message)
            return await self._finish(report, spec, None, Outcome("refused", 60.0))
        except NotMetYet as wait:
            return Outcome("waiting", wait.retry_after)  # a restart of the operator is no news about a component
        except Waiting as wait:
            if not report.told(ConditionType.ACCEPTED):
                report.unknown(ConditionType.ACCEPTED, reason_of(wait, Reason.PROGRESSING), wait.message)
            report.unknown(ConditionType.APPLIED, reason_of(wait, Reason.PROGRESSING), wait.message)
            return await self._finish(report, spec, None, Outcome("waiting", wait.retry_after))
        except DatabaseFault as fault:
            if fault.connection:
                report.unknown(ConditionType.APPLIED, reason_of(fault, Reason.UNREACHABLE), fault.message)
            else:
                report.false(ConditionType.APPLIED, Reason.APPLY_FAILED, fault.message)
            return await self._finish(report, spec, None, Outcome("failed"))
        outcome = Outcome("changed" if changed else "unchanged", PARTITION_CHECK_SECONDS if spec.events else None)
        return await self._finish(report, spec, state, outcome)

    async def delete(self, body: Body) -> Outcome:
        """Let a StorageComponent go: the store returns to its defaults, its tables and rows stay."""
        if not Metadata.of(body).has_finalizer:
            return Outcome("deleted")
        spec = parse(body)
        if not isinstance(spec, Faults) and self._elder(spec, body) is None and not Metadata.of(body).force_delete:
            try:
                await self._reset(spec)
            except (DatabaseFault, Waiting) as fault:
                report = Report(Kind.STORAGE_COMPONENT, body, self._context.clock)
                report.true(ConditionType.DELETION_BLOCKED, Reason.CLEANUP_FAILED, fault.message)
                return await self._finish(report, None, None, Outcome("failed"))
        await self._context.world.remove_finalizer(body)
        return Outcome("deleted")

    async def _reset(self, spec: StorageComponentSpec) -> None:
        """Give the store its defaults back; raises ``Waiting`` while the cluster that stays cannot be reached for it."""
        key = cluster_key(spec.cluster)
        tended, cluster = self._context.fleet.get(key), self._context.world.get(key)
        if tended is not None and tended.serving:
            await database.reset(tended.installation, spec.store.database_name)
            await tended.installation.sets.repair()
        elif cluster is not None and not Metadata.of(cluster).deleting:
            # Let go now, a store that was switched off would stay so with nobody left to say why.
            raise Waiting("ClusterNotReady", f"StorageCluster {key.namespace}/{key.name} cannot be reached to clean up")

    def _admit(self, spec: StorageComponentSpec, body: Body) -> Tended:
        key = cluster_key(spec.cluster)
        place = f"StorageCluster {key.namespace}/{key.name}"
        if spec.cluster.namespace != spec.metadata.namespace:
            raise Refused("NamespaceNotAllowed", f"a StorageComponent lives in the namespace of its {place}")
        elder = self._elder(spec, body)
        if elder is not None:
            raise Refused("Duplicate", f"StorageComponent {elder} already configures {spec.store} of {place}")
        return serving_cluster(self._context, spec.cluster)

    def _elder(self, spec: StorageComponentSpec, body: Body) -> str | None:
        """The older component of the same store and cluster, which keeps it; None when this one is the oldest."""
        own = _age(body)
        for other in self._context.world.list(Kind.STORAGE_COMPONENT):
            rival = parse(other)
            if isinstance(rival, Faults) or (rival.cluster, rival.store) != (spec.cluster, spec.store):
                continue
            if rival.metadata.namespace != rival.cluster.namespace:
                continue  # it is refused there, however old it is: from elsewhere nobody takes a store's place
            if _age(other) < own and not rival.metadata.deleting:
                return f"{rival.metadata.namespace}/{rival.metadata.name}"
        return None

    async def _apply(
        self, spec: StorageComponentSpec, tended: Tended, report: Report
    ) -> tuple[database.ComponentState, bool]:
        store = spec.store.database_name
        wanted, extensions = tended.spec.vector_index_method, tended.installation.facts.extensions
        lacking = missing_method(wanted, extensions) if spec.vectors is not None else None
        method = index_method(wanted, extensions)
        state = await database.observe(tended.installation, store)
        actions = plan_component(spec, state.observed, method)
        if actions:
            await database.apply(tended.installation, actions)
        if actions or not _carried_out(report):
            # Also when a run ended between the two: a store that was switched off must be out of reach.
            await tended.installation.sets.repair()
            state = await database.observe(tended.installation, store)
        remaining = plan_component(spec, state.observed, method)
        if remaining:
            report.false(ConditionType.APPLIED, Reason.APPLY_FAILED, "; ".join(action.why for action in remaining))
        elif lacking is not None:
            report.false(ConditionType.APPLIED, Reason.APPLY_FAILED, lacking)
        elif not spec.enabled:
            report.true(ConditionType.APPLIED, Reason.DISABLED, "no tenant reaches its tables")
        else:
            dimensions = ", ".join(map(str, exact_only(spec)))
            message = f"dimensions without an index, scanned exactly: {dimensions}" if dimensions else ""
            report.true(ConditionType.APPLIED, Reason.APPLIED, message)
        return state, bool(actions)

    async def _finish(
        self, report: Report, spec: StorageComponentSpec | None, state: database.ComponentState | None, outcome: Outcome
    ) -> Outcome:
        seen = None
        if spec is not None and state is not None:
            partitions = None
            if spec.events is not None and state.horizon is not None:
                partitions = Partitions(state.partition_count, state.horizon)
            seen = StorageComponentStatus(
                report.generation, report.conditions(), state.tables, exact_only(spec), partitions
            )
        await report.write(self._context.world, seen)
        return outcome


def _carried_out(report: Report) -> bool:
    """Whether this generation was applied to its end before."""
    found = find(read_conditions(report.body), ConditionType.APPLIED)
    return found is not None and found.is_true and found.observed_generation >= report.generation


def _age(body: Body) -> tuple[str, str, str]:
    metadata = body["metadata"]
    return (str(metadata.get("creationTimestamp") or ""), str(metadata.get("namespace")), str(metadata["name"]))
