"""Storage for AI agents: what an application imports.

Importing this package loads neither a database driver nor numpy.

>>> import storagelib
>>> credentials = storagelib.Credentials.from_secret({
...     "dsn": "postgresql://llmspell_abcdefg2_t_1_a:s3cret@db.example:5432/agents?sslmode=require",
...     "tenant-id": "acme", "mode": "role", "schema": "llmspell",
... })
>>> credentials.tenant_id, credentials.host, credentials.port
('acme', 'db.example', 5432)
"""

from __future__ import annotations

from storagelib.config import ComponentConfig, MemoryConfig, PostgresConfig, SqliteConfig, StoreConfig
from storagelib.credentials import Credentials, IsolationMode, SslMode
from storagelib.errors import InvalidInput, StorageError
from storagelib.secret_keys import MODE_KEY, SCHEMA_KEY, SecretKeys

__all__ = [
    "MODE_KEY",
    "SCHEMA_KEY",
    "ComponentConfig",
    "Credentials",
    "InvalidInput",
    "IsolationMode",
    "MemoryConfig",
    "PostgresConfig",
    "SecretKeys",
    "SqliteConfig",
    "SslMode",
    "StorageError",
    "StoreConfig",
]
