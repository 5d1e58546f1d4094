"""Storage for AI agents: what an application imports.

Importing this package loads neither a database driver nor numpy nor an event loop; what a store needs comes with its use.

>>> import storagelib
>>> config = storagelib.StoreConfig.in_memory()
>>> with storagelib.Store.open(config) as store:
...     tenant = store.for_tenant("acme")
...     tenant.kv.set("greeting", b"hello")
...     tenant.kv.get("greeting")
1
b'hello'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storagelib.config import ComponentConfig, MemoryConfig, PostgresConfig, SqliteConfig, StoreConfig
from storagelib.credentials import Credentials, IsolationMode, SslMode
from storagelib.errors import (
    AlreadyExists,
    Conflict,
    Corrupted,
    InvalidInput,
    MigrationError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    StorageError,
    Unavailable,
)
from storagelib.pages import Page
from storagelib.secret_keys import MODE_KEY, SCHEMA_KEY, SecretKeys

if TYPE_CHECKING:
    from storagelib._async.admin import AsyncAdministration as AsyncAdministration
    from storagelib._async.episodic import AsyncEpisodicMemory as AsyncEpisodicMemory
    from storagelib._async.procedural import AsyncProceduralMemory as AsyncProceduralMemory
    from storagelib._async.rag import AsyncRag as AsyncRag
    from storagelib._async.semantic import AsyncSemanticMemory as AsyncSemanticMemory
    from storagelib._async.state_scopes import AsyncStateScopes as AsyncStateScopes
    from storagelib._async.store import AsyncStore as AsyncStore
    from storagelib._async.store import AsyncTenant as AsyncTenant
    from storagelib._sync.admin import Administration as Administration
    from storagelib._sync.episodic import EpisodicMemory as EpisodicMemory
    from storagelib._sync.procedural import ProceduralMemory as ProceduralMemory
    from storagelib._sync.rag import Rag as Rag
    from storagelib._sync.semantic import SemanticMemory as SemanticMemory
    from storagelib._sync.state_scopes import StateScopes as StateScopes
    from storagelib._sync.store import Store as Store
    from storagelib._sync.store import Tenant as Tenant
    from storagelib.sealing import KeyRing as KeyRing

# Loaded when they are asked for: a program that uses one twin never loads the other.
_LATER = {
    "Administration": "storagelib._sync.admin",
    "AsyncAdministration": "storagelib._async.admin",
    "AsyncEpisodicMemory": "storagelib._async.episodic",
    "AsyncProceduralMemory": "storagelib._async.procedural",
    "AsyncRag": "storagelib._async.rag",
    "AsyncSemanticMemory": "storagelib._async.semantic",
    "AsyncStateScopes": "storagelib._async.state_scopes",
    "AsyncStore": "storagelib._async.store",
    "AsyncTenant": "storagelib._async.store",
    "EpisodicMemory": "storagelib._sync.episodic",
    "KeyRing": "storagelib.sealing",
    "ProceduralMemory": "storagelib._sync.procedural",
    "Rag": "storagelib._sync.rag",
    "SemanticMemory": "storagelib._sync.semantic",
    "StateScopes": "storagelib._sync.state_scopes",
    "Store": "storagelib._sync.store",
    "Tenant": "storagelib._sync.store",
}

__all__ = [
    "MODE_KEY",
    "SCHEMA_KEY",
    "Administration",
    "AlreadyExists",
    "AsyncAdministration",
    "AsyncEpisodicMemory",
    "AsyncProceduralMemory",
    "AsyncRag",
    "AsyncSemanticMemory",
    "AsyncStateScopes",
    "AsyncStore",
    "AsyncTenant",
    "ComponentConfig",
    "Conflict",
    "Corrupted",
    "Credentials",
    "EpisodicMemory",
    "InvalidInput",
    "IsolationMode",
    "KeyRing",
    "MemoryConfig",
    "MigrationError",
    "NotFound",
    "Page",
    "PermissionDenied",
    "PostgresConfig",
    "ProceduralMemory",
    "QuotaExceeded",
    "Rag",
    "SecretKeys",
    "SemanticMemory",
    "SqliteConfig",
    "SslMode",
    "StateScopes",
    "StorageError",
    "Store",
    "StoreConfig",
    "Tenant",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not at the top: a driver and an event loop are for those who open a store.
    from importlib import import_module  # noqa: PLC0415

    found = getattr(import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
