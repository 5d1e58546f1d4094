"""The protocols of backends: what somebody implements who keeps a store in a place of their own.

``KVBackend`` is blocking code, as ``storagelib.backends.register`` takes it. Nothing is loaded until a name is asked for.

>>> from storagelib import protocols
>>> protocols.KVBackend.value.__doc__
'Return the value of a live entry.'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from storage_sql.stores import STORES

if TYPE_CHECKING:
    from storagelib._sync.agent_state import AgentStateBackend
    from storagelib._sync.api_keys import ApiKeysBackend
    from storagelib._sync.artifacts import ArtifactsBackend
    from storagelib._sync.events import EventsBackend
    from storagelib._sync.graph import GraphBackend
    from storagelib._sync.hooks import HooksBackend
    from storagelib._sync.kv import KVBackend
    from storagelib._sync.procedures import ProceduresBackend
    from storagelib._sync.sessions import SessionsBackend
    from storagelib._sync.vectors import VectorsBackend
    from storagelib._sync.workflow_states import WorkflowStatesBackend

_STORES = {f"{store.kind}Backend": store.name for store in STORES}

__all__ = [
    "AgentStateBackend",
    "ApiKeysBackend",
    "ArtifactsBackend",
    "EventsBackend",
    "GraphBackend",
    "HooksBackend",
    "KVBackend",
    "ProceduresBackend",
    "SessionsBackend",
    "VectorsBackend",
    "WorkflowStatesBackend",
]


def __getattr__(name: str) -> Any:
    if name not in _STORES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"storagelib._sync.{_STORES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_STORES})
