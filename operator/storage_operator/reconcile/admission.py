"""May this Tenant be on this cluster at all? The cluster's policy decides, before anything is touched."""

from __future__ import annotations

from storage_operator.errors import Refused, Waiting
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.resources.conditions import is_ready
from storage_operator.resources.kinds import Kind
from storage_operator.resources.namespace_policy import admits
from storage_operator.resources.references import ClusterReference
from storage_operator.resources.tenant import TenantSpec
from storage_operator.world import Key

WAIT_FOR_CLUSTER_SECONDS = 2.0


def cluster_key(reference: ClusterReference) -> Key:
    """Return the key of the StorageCluster that an object refers to."""
    return Key(Kind.STORAGE_CLUSTER, reference.namespace, reference.name)


class NotMetYet(Waiting):
    """This process has not looked at a Ready cluster yet: what statuses say of it stands until it has."""


def serving_cluster(context: Context, reference: ClusterReference) -> Tended:
    """Return the cluster's entry, or raise ``Waiting`` while it does not exist or is not Ready."""
    key = cluster_key(reference)
    place = f"StorageCluster {key.namespace}/{key.name}"
    body = context.world.get(key)
    if body is None:
        raise Waiting("ClusterNotFound", f"{place} does not exist", WAIT_FOR_CLUSTER_SECONDS)
    tended = context.fleet.get(key)
    if tended is None or not tended.serving:
        if is_ready(body):
            raise NotMetYet("ClusterNotReady", f"{place} is being looked at", WAIT_FOR_CLUSTER_SECONDS)
        raise Waiting("ClusterNotReady", f"{place} is not Ready yet", WAIT_FOR_CLUSTER_SECONDS)
    return tended


async def admit(context: Context, spec: TenantSpec, *, provisioned: bool) -> Tended:
    """Find the cluster and check that it lets this tenant in; raises ``Refused`` or ``Waiting``.

    A tenant that is ``provisioned`` already is looked after even while the cluster's contract is broken: its own
    repair may be what mends it.
    """
    tended = serving_cluster(context, spec.cluster)
    if not tended.sound and not provisioned:
        key = tended.key
        message = (
            f"StorageCluster {key.namespace}/{key.name} does not keep the isolation contract; nobody new is let in"
        )
        raise Waiting("ClusterNotReady", message, WAIT_FOR_CLUSTER_SECONDS)
    tenancy = tended.spec.tenancy
    needs_labels = any(rule.selector is not None for rule in tenancy.allowed_namespaces)
    labels = await context.world.namespace_labels(spec.metadata.namespace) if needs_labels else None
    admission = admits(
        tenancy.allowed_namespaces,
        own_namespace=spec.cluster.namespace,
        tenant_namespace=spec.metadata.namespace,
        labels=labels,
        tenant_id=spec.tenant_id,
    )
    if not admission:
        raise Refused("NamespaceNotAllowed", admission.why)
    if spec.isolation not in tenancy.isolation_modes:
        offered = ", ".join(tenancy.isolation_modes)
        raise Refused(
            "IsolationNotOffered", f"isolation {spec.isolation} is not offered; the StorageCluster offers: {offered}"
        )
    return tended
