"""The kinds of the API group, and the names that objects of it carry: finalizer, annotations, labels."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = [
    "API_VERSION",
    "FINALIZER",
    "FORCE_DELETE_ANNOTATION",
    "GROUP",
    "MANAGED_BY_LABEL",
    "MANAGER",
    "RECONCILE_ANNOTATION",
    "ROTATE_ANNOTATION",
    "VERSION",
    "Kind",
]

GROUP: Final = "storage.llmspell.dev"
"""The API group of every kind."""
VERSION: Final = "v1alpha1"
"""The served and stored version."""
API_VERSION: Final = f"{GROUP}/{VERSION}"
"""What a manifest writes as ``apiVersion``."""
FINALIZER: Final = f"{GROUP}/protection"
"""Keeps an object until the operator has cleaned up after it."""
ROTATE_ANNOTATION: Final = f"{GROUP}/rotate"
"""Any new value asks for a rotation of the credentials."""
RECONCILE_ANNOTATION: Final = f"{GROUP}/reconcile"
"""Any new value asks for a reconcile now."""
FORCE_DELETE_ANNOTATION: Final = f"{GROUP}/force-delete"
"""``"true"`` gives up on cleaning the database and lets the object go."""
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
"""The label of the Secrets that the operator writes."""
MANAGER: Final = "llmspell-storage"
"""The value of that label."""


class Kind(StrEnum):
    """A kind of custom resource; the value is what a manifest writes as ``kind``."""

    STORAGE_CLUSTER = "StorageCluster"
    STORAGE_COMPONENT = "StorageComponent"
    TENANT = "Tenant"

    @property
    def plural(self) -> str:
        """The name in URLs and in ``kubectl get``."""
        return f"{self.value.lower()}s"
