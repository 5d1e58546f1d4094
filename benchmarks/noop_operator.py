"""The peer: a kopf operator that does nothing but a finalizer and a status, as its documentation would write it."""

from __future__ import annotations

from typing import Any

import kopf


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Keep kopf's defaults, but for the Events that would only cost it requests."""
    settings.posting.enabled = False
    settings.persistence.finalizer = "noop.llmspell.dev/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="noop.llmspell.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="noop.llmspell.dev")


@kopf.on.create("storage.llmspell.dev", "v1alpha1", "tenants")
async def create(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
    """Say Ready."""
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Ready",
        "message": "",
        "observedGeneration": body["metadata"]["generation"],
        "lastTransitionTime": body["metadata"]["creationTimestamp"],
    }
    patch.status["conditions"] = [condition]
    patch.status["observedGeneration"] = body["metadata"]["generation"]


@kopf.on.delete("storage.llmspell.dev", "v1alpha1", "tenants")
async def delete(**_: Any) -> None:
    """Exist, so that a finalizer is needed."""
