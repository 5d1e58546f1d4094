"""Reconcile one StorageCluster: reach, identify, claim, migrate, audit, repair; and its deletion."""

from __future__ import annotations

from dataclasses import dataclass

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import Claim, identify
from storage_operator.adapters.postgres.leftovers import LeftRole, drop_left_roles, mend_defaults
from storage_operator.adapters.postgres.migrator import migrate, migration_status
from storage_operator.adapters.postgres.probe import plant_canary
from storage_operator.adapters.postgres.targets import admin_conninfo, target
from storage_operator.errors import Refused
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.poolers import publish_auth_file
from storage_operator.reconcile.report import Report, reason_of
from storage_operator.resources.cluster import (
    Isolation,
    MigrationPolicy,
    StorageClusterSpec,
    parse,
)
from storage_operator.resources.conditions import ConditionType, Reason, find, is_ready
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.namespace_policy import admits
from storage_operator.resources.references import SecretKeyReference
from storage_operator.resources.status import (
    ConnectionCounts,
    Extension,
    StorageClusterStatus,
    TenantCounts,
)
from storage_operator.world import Body, Key, Outcome, cluster_of
from storage_sql.migrations import (
    ChecksumChanged,
    Gap,
    LowerTarget,
    MigrationError,
    MigrationPlan,
    NewerDatabase,
)
from storage_sql.runner import LockBudgetSpent, RunOptions

RETRY_SECONDS = 5.0
SECRET_RETRY_SECONDS = 2.0
REFUSED_RETRY_SECONDS = 60.0
_NAMED_AT_MOST = 10
_VIOLATIONS_SHOWN = 5
_MIGRATION_REASONS = (
    (ChecksumChanged, Reason.CHECKSUM_CHANGED),
    (Gap, Reason.MIGRATION_GAP),
    (NewerDatabase, Reason.DATABASE_NEWER),
    (LowerTarget, Reason.LOWER_TARGET),
    (LockBudgetSpent, Reason.MIGRATION_LOCKED),
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What one pass over a cluster saw; ``committed`` connections are None while migrations are missing."""

    tended: Tended
    plan: MigrationPlan
    committed: int | None


class ClusterReconciler:
    """Makes one StorageCluster serve, and says what is."""

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers share."""
        self._context = context

    async def reconcile(self, body: Body) -> Outcome:
        """Bring a StorageCluster to what it declares; expected faults become conditions, never exceptions."""
        report = Report(Kind.STORAGE_CLUSTER, body, self._context.clock)
        key = Key.of(body)
        spec = parse(body)
        if isinstance(spec, Faults):
            await self._context.fleet.forget(key)
            report.false(ConditionType.ACCEPTED, Reason.INVALID_SPEC, str(spec))
            return await self._finish(report, None, Outcome("refused"))
        looked: Looked | None = None
        try:
            body = await self._context.world.add_finalizer(body)
            report.body = body
            looked = await self._serve(key, spec, report)
        except Refused as refusal:
            self._stop_serving(key)
            type_ = ConditionType.REACHABLE if refusal.reason.startswith("Secret") else ConditionType.ACCEPTED
            report.false(type_, reason_of(refusal, Reason.INVALID_SPEC), refusal.message)
            # A Secret may be applied a moment after the StorageCluster; nothing tells us of it but looking.
            later = SECRET_RETRY_SECONDS if type_ is ConditionType.REACHABLE else REFUSED_RETRY_SECONDS
            return await self._finish(report, None, Outcome("refused", later))
        except DatabaseFault as fault:
            self._stop_serving(key)
            reason = reason_of(fault, Reason.UNREACHABLE)
            type_ = ConditionType.CONTRACT_HOLDS if fault.reason == "Fenced" else ConditionType.REACHABLE
            report.false(type_, reason, fault.message)
            # A person mends it elsewhere (a Secret, the server), and nothing but looking tells us of that.
            again: float | None = RETRY_SECONDS if type_ is ConditionType.REACHABLE else None
            return await self._finish(report, None, Outcome("failed", again))
        except MigrationError as error:
            self._stop_serving(key)
            reason = next((r for kind, r in _MIGRATION_REASONS if isinstance(error, kind)), Reason.MIGRATION_FAILED)
            report.false(ConditionType.MIGRATED, reason, str(error))
            return await self._finish(
                report, None, Outcome("failed", None if reason is Reason.MIGRATION_LOCKED else REFUSED_RETRY_SECONDS)
            )
        return await self._finish(report, looked, Outcome("unchanged"))

    async def delete(self, body: Body) -> Outcome:
        """Let a StorageCluster go once nothing uses it; the database and its rows stay."""
        metadata = Metadata.of(body)
        if not metadata.has_finalizer:
            return Outcome("deleted")
        report = Report(Kind.STORAGE_CLUSTER, body, self._context.clock)
        key = Key.of(body)
        if self._context.fleet.get(key) is None and not metadata.force_delete:
            await self._reach_to_clean(body, report)
        tenants = await self._tenants(key)
        components = [_place(each) for each in self._users(Kind.STORAGE_COMPONENT, key) if _of_namespace(each, key)]
        if (tenants or components) and not metadata.force_delete:
            kind, names = ("Tenants", tenants) if tenants else ("StorageComponents", components)
            reason = Reason.TENANTS_EXIST if tenants else Reason.COMPONENTS_EXIST
            shown = ", ".join(names[:_NAMED_AT_MOST]) + (" …" if len(names) > _NAMED_AT_MOST else "")
            report.true(ConditionType.DELETION_BLOCKED, reason, f"{len(names)} {kind} still use it: {shown}")
            await self._finish(report, None, Outcome("waiting"))
            return Outcome("waiting", RETRY_SECONDS)
        tended = self._context.fleet.get(key)
        if tended is not None:
            try:
                await tended.installation.release(self._claim(key))
            except DatabaseFault as fault:
                if not metadata.force_delete and not fault.connection:
                    report.true(ConditionType.DELETION_BLOCKED, Reason.CLEANUP_FAILED, fault.message)
                    return await self._finish(report, None, Outcome("failed"))
        await self._context.fleet.forget(key)
        await self._context.world.remove_finalizer(body)
        return Outcome("deleted")

    async def _reach_to_clean(self, body: Body, report: Report) -> None:
        """Connect a process that never met this cluster: its Tenants cannot go, nor its claim, without a database."""
        spec = parse(body)
        if isinstance(spec, Faults):
            return
        try:
            tended = await self.contact(Key.of(body), spec, report)
            if await tended.installation.claim(self._claim(tended.key)) is not None:
                await self._context.fleet.forget(tended.key)
                return
            await tended.installation.take_lead(self._context.fleet.holder)
        except (Refused, DatabaseFault) as fault:
            await self._context.fleet.forget(Key.of(body))
            report.false(ConditionType.REACHABLE, reason_of(fault, Reason.UNREACHABLE), fault.message)

    async def contact(self, key: Key, spec: StorageClusterSpec, report: Report) -> Tended:
        """Reach and identify the database, and take the lead there; raises with the reason when that fails."""
        ca = await self._secret_value(key.namespace, spec.tls.ca) if spec.tls.ca else None
        main = await self._secret_value(key.namespace, spec.connection)
        conninfo = admin_conninfo(main, spec.tls.mode.sslmode, ca)
        working = conninfo
        if spec.direct_connection is not None:
            direct = await self._secret_value(key.namespace, spec.direct_connection)
            working = admin_conninfo(direct, spec.tls.mode.sslmode, ca)
        facts = await identify(working, spec.schema)
        tended = await self._context.fleet.tend(key, spec, working, target(working, ca, spec.pooler), facts)
        report.true(ConditionType.REACHABLE, Reason.CONNECTED)
        return tended

    async def _serve(self, key: Key, spec: StorageClusterSpec, report: Report) -> Looked:
        tended = await self.contact(key, spec, report)
        installation = tended.installation
        options = RunOptions(release=self._context.release, target=spec.migrations.target_version)
        plan = await migration_status(tended.conninfo, spec.schema, options)
        if plan.applied:
            await self._take(key, tended)  # before anything of somebody else's is migrated
        plan = await self._migrated(tended, plan, options, report)
        if not plan.applied:
            self._stop_serving(key)
            return Looked(tended, plan, None)
        await self._take(key, tended)
        report.true(ConditionType.ACCEPTED, Reason.VALID)
        if installation.epoch is None:
            await installation.take_lead(self._context.fleet.holder)
        await plant_canary(installation)
        await self._contract(tended, report)
        await publish_auth_file(self._context, tended)
        committed = await installation.committed_connections()
        self._connections(tended, committed, report)
        holds = find(report.conditions(), ConditionType.CONTRACT_HOLDS)
        tended.sound = holds is not None and holds.is_true
        began = not tended.serving and not plan.pending
        tended.serving = not plan.pending
        if began:
            self._wake(key)
        return Looked(tended, plan, committed)

    async def _take(self, key: Key, tended: Tended) -> None:
        """Claim the database for this StorageCluster; raises ``Refused`` while another one has it."""
        installation, world = tended.installation, self._context.world
        other = await installation.claim(self._claim(key))
        if other is None:
            return
        mine = other.cluster == world.cluster_uid
        # Asked live: the cache holds only the namespaces that this process watches, and another may watch the rest.
        rival = Key(Kind.STORAGE_CLUSTER, other.namespace, other.name)
        if mine and world.cluster_uid != "cli" and world.get(rival) is None and not await world.exists(rival):
            await installation.claim(self._claim(key), takeover=True)  # it was deleted while nobody could reach it
            return
        await self._context.fleet.forget(key)
        where = f"StorageCluster {other.namespace}/{other.name}"
        raise Refused(
            "Duplicate" if mine else "DatabaseClaimed",
            f"{where} already manages schema {tended.spec.schema} of database {installation.facts.database}",
        )

    async def _migrated(
        self, tended: Tended, plan: MigrationPlan, options: RunOptions, report: Report
    ) -> MigrationPlan:
        spec = tended.spec
        if plan.pending and spec.migrations.policy is MigrationPolicy.AUTO:
            await migrate(tended.conninfo, spec.schema, options)
            plan = await migration_status(tended.conninfo, spec.schema, options)
        if plan.pending:
            labels = ", ".join(migration.label for migration in plan.pending)
            report.false(
                ConditionType.MIGRATED, Reason.MIGRATIONS_PENDING, f"pending: {labels}; run `llmspell database migrate`"
            )
        else:
            report.true(ConditionType.MIGRATED, Reason.UP_TO_DATE)
        return plan

    async def _contract(self, tended: Tended, report: Report) -> None:
        """Repair (or report) what the sets hold, then let the audit judge the whole."""
        installation, spec = tended.installation, tended.spec
        drift: tuple[str, ...] = ()
        left: tuple[LeftRole, ...] = ()
        if Isolation.SEALED in spec.tenancy.isolation_modes:
            await installation.ensure_app()
        if tended.repairs:
            await installation.sets.repair()
            await mend_defaults(installation, await installation.protect())
            left = await drop_left_roles(installation)
        else:
            drift = tuple(f"{change.role}: {change.why}" for change in await installation.sets.drift())
        violations = await installation.audit()
        if violations:
            shown = "; ".join(str(violation) for violation in violations[:_VIOLATIONS_SHOWN])
            more = len(violations) - _VIOLATIONS_SHOWN
            text = f"{len(violations)} violations: {shown}" + (f" and {more} more" if more > 0 else "")
            report.false(ConditionType.CONTRACT_HOLDS, Reason.CONTRACT_VIOLATED, text)
        elif drift:
            report.false(ConditionType.CONTRACT_HOLDS, Reason.DRIFT_FOUND, "; ".join(drift))
        else:
            told = "; ".join(str(role) for role in left[:_VIOLATIONS_SHOWN])
            report.true(ConditionType.CONTRACT_HOLDS, Reason.NO_VIOLATIONS, told)

    @staticmethod
    def _connections(tended: Tended, committed: int, report: Report) -> None:
        counts = _connection_counts(tended, committed)
        if counts.committed > counts.limit:
            report.true(
                ConditionType.CONNECTIONS_OVERCOMMITTED,
                Reason.OVERCOMMITTED,
                f"limits and reserves add up to {counts.committed}, max_connections is {counts.limit}",
            )
        else:
            report.false(ConditionType.CONNECTIONS_OVERCOMMITTED, Reason.WITHIN_LIMIT, "")

    async def _secret_value(self, namespace: str, reference: SecretKeyReference) -> bytes:
        """Read one key of a Secret of the cluster's own namespace."""
        secret = await self._context.world.read_secret(namespace, reference.name)
        if secret is None:
            raise Refused("SecretMissing", f"Secret {namespace}/{reference.name} does not exist")
        value = secret.data.get(reference.key)
        if value is None:
            raise Refused("SecretKeyMissing", f"Secret {namespace}/{reference.name} has no key {reference.key}")
        return value

    def _claim(self, key: Key) -> Claim:
        return Claim(self._context.world.cluster_uid, key.namespace, key.name)

    def _stop_serving(self, key: Key) -> None:
        tended = self._context.fleet.get(key)
        if tended is not None:
            tended.serving = False

    def _wake(self, key: Key) -> None:
        """Everything that waited for this cluster is looked at again now."""
        for kind in (Kind.STORAGE_COMPONENT, Kind.TENANT):
            for body in self._context.world.list(kind):
                if cluster_of(body) == key:
                    self._context.wake(Key.of(body))

    def _users(self, kind: Kind, key: Key) -> list[Body]:
        return sorted((body for body in self._context.world.list(kind) if cluster_of(body) == key), key=_place)

    async def _tenants(self, key: Key) -> list[str]:
        """Name the Tenants that hold a cluster: those that it lets in, and those that have a place in its database.

        Anybody may write a cluster's name into a Tenant of his own namespace; that alone holds nothing up.
        """
        referring = self._users(Kind.TENANT, key)
        tended = self._context.fleet.get(key)
        if tended is None or not referring:
            return [_place(body) for body in referring]
        try:
            held = await tended.installation.owners()
        except DatabaseFault:
            return [_place(body) for body in referring]
        return [_place(each) for each in referring if _place(each) in held or await self._lets_in(tended, each)]

    async def _lets_in(self, tended: Tended, body: Body) -> bool:
        namespace = body["metadata"]["namespace"]
        return bool(
            admits(
                tended.spec.tenancy.allowed_namespaces,
                own_namespace=tended.key.namespace,
                tenant_namespace=namespace,
                labels=await self._context.world.namespace_labels(namespace),
                tenant_id=str((body.get("spec") or {}).get("tenantId")),
            )
        )

    async def _finish(self, report: Report, looked: Looked | None, outcome: Outcome) -> Outcome:
        await report.write(self._context.world, None if looked is None else self._status(report, looked))
        return outcome

    def _status(self, report: Report, looked: Looked) -> StorageClusterStatus:
        installation, committed = looked.tended.installation, looked.committed
        facts = installation.facts
        return StorageClusterStatus(
            observed_generation=report.generation,
            conditions=report.conditions(),
            server_version=facts.version,
            extensions=tuple(Extension(each["name"], each["version"]) for each in facts.extension_list),
            installation=facts.roles.installation,
            schema_version=looked.plan.current,
            pending_migrations=tuple(migration.label for migration in looked.plan.pending),
            tenants=count_tenants(self._context, Key.of(report.body)),
            connections=None if committed is None else _connection_counts(looked.tended, committed),
            last_verified_time=None if committed is None else self._context.clock(),
        )


def _connection_counts(tended: Tended, committed: int) -> ConnectionCounts:
    facts, limits = tended.installation.facts, tended.spec.limits
    own = limits.connections + limits.reserved_connections + facts.reserved_connections
    return ConnectionCounts(limit=facts.max_connections, committed=committed + own)


def count_tenants(context: Context, key: Key) -> TenantCounts:
    """Count a cluster's Tenants, and those of them that are Ready, from the cache."""
    bodies = [body for body in context.world.list(Kind.TENANT) if cluster_of(body) == key]
    return TenantCounts(len(bodies), sum(1 for body in bodies if is_ready(body)))


def _place(body: Body) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def _of_namespace(body: Body, key: Key) -> bool:
    return bool(body["metadata"]["namespace"] == key.namespace)
