"""Which namespaces may create tenants on a StorageCluster, and under which tenant ids."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from storage_operator.resources.faults import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from storage_operator.resources.references import LabelSelector
    from storage_operator.resources.tenant_id_patterns import TenantIdPattern

__all__ = ["Admission", "NamespaceRule", "NamespaceSource", "admits"]


class NamespaceSource(StrEnum):
    """Which namespaces a rule speaks of."""

    SAME = "Same"
    ALL = "All"
    SELECTOR = "Selector"


@dataclass(frozen=True, slots=True)
class NamespaceRule:
    """One rule: namespaces, and optionally the tenant ids they may claim."""

    source: NamespaceSource
    selector: LabelSelector | None = None
    tenant_id_pattern: TenantIdPattern | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """The answer, and for a refusal one sentence for the tenant's status."""

    allowed: bool
    why: str

    def __bool__(self) -> bool:
        """Tell whether the tenant is admitted."""
        return self.allowed


def admits(
    rules: Sequence[NamespaceRule],
    *,
    own_namespace: str,
    tenant_namespace: str,
    labels: Mapping[str, str] | None,
    tenant_id: str,
) -> Admission:
    """Tell whether a tenant of ``tenant_namespace`` may claim ``tenant_id``; any one rule admits.

    ``labels`` are the labels of the tenant's namespace, None when they are not known: then no selector matches.
    The refusal names no rule and no label: whoever is refused is not shown the cluster's policy.
    """
    speaking = [rule for rule in rules if _speaks_of(rule, own_namespace, tenant_namespace, labels)]
    if not speaking:
        return Admission(
            allowed=False, why=f"the StorageCluster does not allow tenants from namespace {shown(tenant_namespace)}"
        )
    if any(rule.tenant_id_pattern is None or rule.tenant_id_pattern.matches(tenant_id) for rule in speaking):
        return Admission(allowed=True, why="")
    return Admission(
        allowed=False,
        why=f"namespace {shown(tenant_namespace)} may not claim tenant id {shown(tenant_id)} on this StorageCluster",
    )


def _speaks_of(
    rule: NamespaceRule, own_namespace: str, tenant_namespace: str, labels: Mapping[str, str] | None
) -> bool:
    if rule.source is NamespaceSource.ALL:
        return True
    if rule.source is NamespaceSource.SAME:
        return tenant_namespace == own_namespace
    return labels is not None and rule.selector is not None and rule.selector.matches(labels)
