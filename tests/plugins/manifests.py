"""The table of accepted and refused manifests (tests/resources/manifests.yaml), for the parser and the API server."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from storage_operator.resources import cluster, component, tenant
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import API_VERSION, Kind

_TABLE = Path(__file__).parents[1] / "resources" / "manifests.yaml"
_PARSERS = {
    Kind.STORAGE_CLUSTER: cluster.parse,
    Kind.STORAGE_COMPONENT: component.parse,
    Kind.TENANT: tenant.parse,
}

Spec = cluster.StorageClusterSpec | component.StorageComponentSpec | tenant.TenantSpec


@dataclass(frozen=True, slots=True)
class Case:
    """One manifest; ``fault`` is None when it is accepted."""

    kind: Kind
    name: str
    body: Mapping[str, Any]
    fault: str | None = None
    server_fault: str | None = None
    says: str = ""

    @property
    def id(self) -> str:
        """The name of the case in test reports."""
        return f"{self.kind}-{self.name}"


def parse(kind: Kind, body: object, *, strict: bool = False) -> Spec | Faults:
    """Parse a body by the parser of its kind."""
    return _PARSERS[kind](body, strict=strict)


def manifest(kind: Kind, spec: Any) -> dict[str, Any]:
    """Return an object with a name and this spec."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {"name": "case", "namespace": "default"},
        "spec": spec,
    }


def base(kind: Kind) -> dict[str, Any]:
    """Return the minimal valid object of a kind."""
    return manifest(kind, copy.deepcopy(_load()[kind.value]["base"]))


def changed(body: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object with a JSON merge patch applied to its spec."""
    return {**body, "spec": _merged(body["spec"], patch)}


def accepted() -> list[Case]:
    """Return the cases that must be accepted, the minimal objects first."""
    return [*_bases(), *_cases("accepted")]


def refused() -> list[Case]:
    """Return the cases that must be refused."""
    return list(_cases("refused"))


def _bases() -> Iterator[Case]:
    for kind in Kind:
        yield Case(kind, "minimal", base(kind))


def _cases(group: str) -> Iterator[Case]:
    for kind in Kind:
        for name, entry in _load()[kind.value][group].items():
            if group == "accepted":
                yield Case(kind, name, changed(base(kind), entry))
            else:
                fault, says = entry["fault"], entry.get("says", "")
                body = changed(base(kind), entry["patch"])
                yield Case(kind, name, body, fault, entry.get("server", fault), says)


@cache
def _load() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return loaded


def _merged(value: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    result = dict(value) if isinstance(value, Mapping) else {}
    for name, change in patch.items():
        if change is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), change)
    return result
