"""The proofs' own fixtures; those of servers and installations come from the plugins."""

from __future__ import annotations

from tests.plugins.pgbouncer import start_pgbouncer

__all__ = ["start_pgbouncer"]
