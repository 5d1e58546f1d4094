"""What a Tenant's manifest asks of its cluster's database: from spec and status to the value that planning compares."""

from __future__ import annotations

from dataclasses import replace

from storage_operator.planning.actions import TenantRow
from storage_operator.planning.tenant import DesiredTenant, TenantNames
from storage_operator.reconcile.access import ROTATION_LABEL, rotation_label, secret_name
from storage_operator.reconcile.fleet import Tended
from storage_operator.resources.cluster import Isolation
from storage_operator.resources.conditions import ConditionType, Reason, find, read_conditions
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.names import StoreKind
from storage_operator.resources.tenant import TenantSpec
from storage_operator.world import Body, SecretObject

__all__ = ["declared_tenant", "desired_tenant", "without_answered"]

_CARRIED_OUT = frozenset({Reason.DRIFT_FOUND, Reason.SUSPENDED, Reason.COMPONENT_UNKNOWN})


def desired_tenant(spec: TenantSpec, tended: Tended, handled_request: str | None) -> DesiredTenant:
    """Resolve a manifest against its cluster."""
    quotas = spec.quotas
    stores = tuple(sorted(store.database_name for store in spec.components or tuple(StoreKind)))
    row = TenantRow(
        tenant=spec.tenant_id,
        namespace=spec.metadata.namespace,
        name=spec.metadata.name,
        isolation="sealed" if spec.isolation is Isolation.SEALED else "role",
        suspended=spec.suspended,
        stores=stores,
        statement_timeout_ms=quotas.statement_timeout_ms,
        lock_timeout_ms=quotas.lock_timeout_ms,
        idle_in_transaction_timeout_ms=quotas.idle_in_transaction_timeout_ms,
        work_mem_kb=quotas.work_mem_kb,
        connection_limit=quotas.connections,
        quota_bytes=quotas.storage_bytes,
        quota_enforced=quotas.enforce_storage,
    )
    request = spec.metadata.rotation_request
    return DesiredTenant(
        row=row,
        names=_names(tended, spec.tenant_id, stores),
        settings=_settings(spec, tended.spec.schema),
        rotation_interval_seconds=spec.credentials.rotation.interval_seconds,
        rotation_overlap_seconds=spec.credentials.rotation.overlap_seconds,
        rotation_request=request if request != handled_request else None,
        may_adopt=tended.spec.tenancy.adoption_namespace(spec.tenant_id) == spec.metadata.namespace,
        repair=tended.repairs,
    )


def declared_tenant(spec: TenantSpec, tended: Tended, body: Body) -> DesiredTenant:
    """Resolve a manifest, and add what its status knows: what was carried out, answered and delivered before."""
    status = body.get("status") or {}
    found = find(read_conditions(body), ConditionType.PROVISIONED)
    current = found is not None and found.observed_generation >= Metadata.of(body).generation
    applied = current and found is not None and (found.is_true or found.reason in _CARRIED_OUT)
    desired = desired_tenant(spec, tended, status.get("rotationRequest"))
    return replace(desired, applied=applied, delivered=secret_name(body) is not None)


def without_answered(desired: DesiredTenant, secret: SecretObject | None) -> DesiredTenant:
    """Leave out a request for rotation whose Secret was written before the status could say so."""
    request = desired.rotation_request
    if request is None or secret is None or secret.labels.get(ROTATION_LABEL) != rotation_label(request):
        return desired
    return replace(desired, rotation_request=None)


def _names(tended: Tended, tenant: str, stores: tuple[str, ...]) -> TenantNames:
    """Return the role names of a tenant in an installation."""
    roles = tended.installation.roles
    return TenantNames(
        login_a=roles.tenant_login(tenant, "a"),
        login_b=roles.tenant_login(tenant, "b"),
        shard=roles.shard(tenant),
        set_role=roles.store_set_bucket(stores, tenant),
        mark=roles.role_comment("tenant"),
    )


def _settings(spec: TenantSpec, schema: str) -> tuple[tuple[str, str], ...]:
    """The login's per-role defaults, in the form that ``pg_db_role_setting`` gives back."""
    quotas = spec.quotas
    limits = {
        "statement_timeout": quotas.statement_timeout_ms,
        "lock_timeout": quotas.lock_timeout_ms,
        "idle_in_transaction_session_timeout": quotas.idle_in_transaction_timeout_ms,
    }
    pairs = [("search_path", f"{schema}, public")]
    pairs += [(name, f"{value}ms") for name, value in limits.items() if value is not None]
    if quotas.work_mem_kb is not None:
        pairs.append(("work_mem", f"{quotas.work_mem_kb}kB"))
    return tuple(pairs)
