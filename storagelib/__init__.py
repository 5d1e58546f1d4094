"""Storage for AI agents: what an application imports.

Importing this package loads neither a database driver nor numpy.

>>> import storagelib
>>> config = storagelib.StoreConfig.from_secret({
...     "dsn": "postgresql://llmspell_abcdefg2_t_1_a:s3cret@db.example:5432/agents?sslmode=require",
...     "tenant-id": "acme", "mode": "role", "schema": "llmspell",
... })
>>> config.tenant_id, config.host, config.port
('acme', 'db.example', 5432)
"""

from __future__ import annotations

from storagelib.config import IsolationMode, SslMode, StoreConfig
from storagelib.errors import InvalidInput, StorageError
from storagelib.secret_keys import MODE_KEY, SCHEMA_KEY, SecretKeys

__all__ = [
    "MODE_KEY",
    "SCHEMA_KEY",
    "InvalidInput",
    "IsolationMode",
    "SecretKeys",
    "SslMode",
    "StorageError",
    "StoreConfig",
]
