"""Who an object is: namespace, name, uid, generation, and the requests that its annotations carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from storage_operator.resources.kinds import (
    API_VERSION,
    FINALIZER,
    FORCE_DELETE_ANNOTATION,
    RECONCILE_ANNOTATION,
    ROTATE_ANNOTATION,
    Kind,
)
from storage_operator.resources.names import (
    DNS_LABEL,
    DNS_LABEL_MAX_LENGTH,
    DNS_SUBDOMAIN,
    DNS_SUBDOMAIN_MAX_LENGTH,
)

if TYPE_CHECKING:
    from storage_operator.resources.reader import Reader

__all__ = ["DEFAULT_NAMESPACE", "Metadata", "read_header"]

DEFAULT_NAMESPACE: Final = "default"
"""The namespace of an object from a file that names none, as kubectl has it."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of ``metadata`` that the operator uses.

    ``uid`` is empty and ``generation`` zero for an object that comes from a file. ``rotation_request`` and
    ``reconcile_request`` are the values of the annotations: a value not handled before is a request.
    """

    namespace: str
    name: str
    uid: str = ""
    generation: int = 0
    deleting: bool = False
    has_finalizer: bool = False
    rotation_request: str | None = None
    reconcile_request: str | None = None
    force_delete: bool = False

    @classmethod
    def of(cls, body: object) -> Metadata:
        """Read the metadata of any document; what is missing or wrong is empty. Never raises.

        For paths that must work on an object whose spec is faulty: deletion, status, events.
        """
        fields = _mapping(_mapping(body).get("metadata"))
        annotations = _mapping(fields.get("annotations"))
        generation = fields.get("generation")
        finalizers = fields.get("finalizers")
        return cls(
            namespace=_string(fields.get("namespace")) or DEFAULT_NAMESPACE,
            name=_string(fields.get("name")) or "",
            uid=_string(fields.get("uid")) or "",
            generation=generation if isinstance(generation, int) and not isinstance(generation, bool) else 0,
            deleting=fields.get("deletionTimestamp") is not None,
            has_finalizer=isinstance(finalizers, (list, tuple)) and FINALIZER in finalizers,
            rotation_request=_string(annotations.get(ROTATE_ANNOTATION)),
            reconcile_request=_string(annotations.get(RECONCILE_ANNOTATION)),
            force_delete=annotations.get(FORCE_DELETE_ANNOTATION) == "true",
        )


def read_header(document: Reader, body: object, kind: Kind) -> Metadata:
    """Check apiVersion, kind and the object's names, noting faults, and return the metadata."""
    for name, expected in (("apiVersion", API_VERSION), ("kind", kind.value)):
        document.checked_text(name, document.raw(name) or expected, pattern=expected, longest=253, kind=expected)
    document.raw("status")
    metadata = document.child("metadata", required=True)
    metadata.text("name", pattern=DNS_SUBDOMAIN, longest=DNS_SUBDOMAIN_MAX_LENGTH, kind="the name of an object")
    metadata.text(
        "namespace",
        pattern=DNS_LABEL,
        longest=DNS_LABEL_MAX_LENGTH,
        default=DEFAULT_NAMESPACE,
        kind="the name of a namespace",
    )
    return Metadata.of(body)


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
