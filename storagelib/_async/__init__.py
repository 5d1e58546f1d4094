"""The asynchronous library: written by hand; ``_sync`` is made of it by ``scripts/sync``."""
