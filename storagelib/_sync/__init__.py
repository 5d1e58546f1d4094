# Made from storagelib/_async/__init__.py by scripts/sync; change that file instead.
"""The blocking library: made of ``_async`` by ``scripts/sync``."""
