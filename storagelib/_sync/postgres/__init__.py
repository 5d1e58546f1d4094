# Made from storagelib/_async/postgres/__init__.py by scripts/sync; change that file instead.
"""The PostgreSQL backend: a tenant's statements, each entered, run and committed in one round trip."""
