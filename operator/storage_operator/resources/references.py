"""References to other objects: a StorageCluster by name and namespace, a key of a Secret, a namespace selector."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from storage_operator.resources.names import (
    DNS_LABEL,
    DNS_LABEL_MAX_LENGTH,
    DNS_SUBDOMAIN,
    DNS_SUBDOMAIN_MAX_LENGTH,
    SECRET_KEY,
    SECRET_KEY_MAX_LENGTH,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from storage_operator.resources.reader import Reader

__all__ = [
    "ClusterReference",
    "LabelOperator",
    "LabelRequirement",
    "LabelSelector",
    "SecretKeyReference",
    "read_cluster_reference",
    "read_label_selector",
    "read_optional_secret_key_reference",
    "read_secret_key_reference",
]

_LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_LABEL_KEY_MAX_LENGTH: Final = 317
_LABEL_VALUE_MAX_LENGTH: Final = 63
_MAX_REQUIREMENTS: Final = 16
_MAX_VALUES: Final = 64


@dataclass(frozen=True, slots=True)
class ClusterReference:
    """A StorageCluster; the namespace is resolved (the referring object's own when the manifest gives none)."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class SecretKeyReference:
    """A key of a Secret in the namespace of the referring object."""

    name: str
    key: str


class LabelOperator(StrEnum):
    """How a label is compared, as in Kubernetes."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class LabelRequirement:
    """One comparison of a label."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Compare; a label that is absent satisfies NotIn, as in Kubernetes."""
        if self.operator is LabelOperator.EXISTS:
            return self.key in labels
        if self.operator is LabelOperator.DOES_NOT_EXIST:
            return self.key not in labels
        found = self.key in labels and labels[self.key] in self.values
        return found if self.operator is LabelOperator.IN else not found


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements together; an empty selector matches everything, as in Kubernetes."""

    requirements: tuple[LabelRequirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether every requirement holds."""
        return all(requirement.matches(labels) for requirement in self.requirements)


def read_cluster_reference(spec: Reader, own_namespace: str) -> ClusterReference:
    """Read ``clusterRef`` of a StorageComponent or Tenant."""
    reference = spec.child("clusterRef", required=True)
    if not reference.is_object:
        return ClusterReference(own_namespace, "")
    name = reference.text("name", pattern=DNS_SUBDOMAIN, longest=DNS_SUBDOMAIN_MAX_LENGTH, kind="the name of an object")
    namespace = reference.text(
        "namespace",
        pattern=DNS_LABEL,
        longest=DNS_LABEL_MAX_LENGTH,
        default=own_namespace,
        kind="the name of a namespace",
    )
    reference.finish()
    return ClusterReference(namespace=namespace, name=name)


def read_secret_key_reference(parent: Reader, field: str, *, default_key: str) -> SecretKeyReference:
    """Read a required reference to a key of a Secret."""
    reference = parent.child(field, required=True)
    if not reference.is_object:
        return SecretKeyReference("", default_key)
    name = reference.text("name", pattern=DNS_SUBDOMAIN, longest=DNS_SUBDOMAIN_MAX_LENGTH, kind="the name of a Secret")
    key = reference.text(
        "key", pattern=SECRET_KEY, longest=SECRET_KEY_MAX_LENGTH, default=default_key, kind="a key of a Secret"
    )
    reference.finish()
    return SecretKeyReference(name=name, key=key)


def read_optional_secret_key_reference(parent: Reader, field: str, *, default_key: str) -> SecretKeyReference | None:
    """Read a reference to a key of a Secret that may be absent."""
    parent.raw(field)
    return read_secret_key_reference(parent, field, default_key=default_key) if parent.has(field) else None


def read_label_selector(parent: Reader, field: str) -> LabelSelector | None:
    """Read a label selector that may be absent; ``matchLabels`` become In requirements, sorted by key."""
    selector = parent.child(field)
    if not selector.is_object:
        return None
    requirements = _read_match_labels(selector)
    for expression in selector.children("matchExpressions", most=_MAX_REQUIREMENTS):
        requirements.append(_read_requirement(expression))
    selector.finish()
    return LabelSelector(tuple(requirements))


def _read_match_labels(selector: Reader) -> list[LabelRequirement]:
    labels = selector.raw("matchLabels")
    fields = selector.child("matchLabels")
    if not hasattr(labels, "keys"):
        return []
    if len(labels) > _MAX_REQUIREMENTS:
        selector.refuse("matchLabels", f"must have at most {_MAX_REQUIREMENTS} labels, not {len(labels)}")
    requirements: list[LabelRequirement] = []
    for key in list(labels)[:_MAX_REQUIREMENTS]:
        name = selector.checked_text(
            "matchLabels", key, pattern=_LABEL_KEY, longest=_LABEL_KEY_MAX_LENGTH, kind="the key of a label"
        )
        value = _read_label_value(fields, name, labels[key])
        requirements.append(LabelRequirement(name, LabelOperator.IN, (value,)))
    return sorted(requirements, key=lambda requirement: requirement.key)


def _read_requirement(expression: Reader) -> LabelRequirement:
    key = expression.text("key", pattern=_LABEL_KEY, longest=_LABEL_KEY_MAX_LENGTH, kind="the key of a label")
    operator = expression.required_choice("operator", LabelOperator)
    values = tuple(
        _read_label_value(expression, "values", item) for item in expression.items("values", most=_MAX_VALUES)
    )
    if operator is not None and (operator in (LabelOperator.IN, LabelOperator.NOT_IN)) != bool(values):
        expression.refuse("values", "is given exactly when the operator is In or NotIn")
    expression.finish()
    return LabelRequirement(key, operator or LabelOperator.EXISTS, values)


def _read_label_value(parent: Reader, field: str, value: object) -> str:
    return parent.checked_text(
        field, value, pattern=_LABEL_VALUE, longest=_LABEL_VALUE_MAX_LENGTH, kind="the value of a label"
    )
