"""Sealed mode as the library will use it: fixed statements, unnamed, every name qualified, every value a parameter.

Entering and the statement are one transaction and, as in the library, one pipeline: the context never outlives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.isolation.tenants import Tenant

ENTER = "SELECT llmspell.enter(%s, %s, %s)"
STATEMENTS: Mapping[str, tuple[str, str]] = {
    # name: (store, statement); the first parameter is the tenant predicate of each
    "kv-get": ("kv", "SELECT value, metadata FROM llmspell.kv_store WHERE tenant_id = %s AND key = %s"),
    "kv-scan": ("kv", "SELECT key, value FROM llmspell.kv_store WHERE tenant_id = %s AND key ^@ %s ORDER BY key"),
    "kv-put": (
        "kv",
        (
            "INSERT INTO llmspell.kv_store (tenant_id, key, value) VALUES (%s, %s, %s) ON CONFLICT (tenant_id, key)"
            " DO UPDATE SET value = excluded.value, version = kv_store.version + 1 RETURNING version"
        ),
    ),
    "kv-delete": ("kv", "DELETE FROM llmspell.kv_store WHERE tenant_id = %s AND key = %s RETURNING value"),
    "session-find": (
        "sessions",
        "SELECT session_id, session_data FROM llmspell.sessions WHERE tenant_id = %s AND status = %s",
    ),
    "state-get": ("agent_state", "SELECT state_data FROM llmspell.agent_states WHERE tenant_id = %s AND agent_id = %s"),
    "event-read": (
        "events",
        "SELECT payload FROM llmspell.event_log WHERE tenant_id = %s AND stream = %s ORDER BY sequence",
    ),
    "hook-read": (
        "hooks",
        "SELECT hook_context FROM llmspell.hook_history WHERE tenant_id = %s AND correlation_id = %s",
    ),
    "key-find": ("api_keys", "SELECT sealed_value, name FROM llmspell.api_keys WHERE tenant_id = %s AND key_id = %s"),
    "artifact-read": (
        "artifacts",
        "SELECT data FROM llmspell.artifact_content WHERE tenant_id = %s AND content_hash = %s",
    ),
    "pattern-find": (
        "procedures",
        "SELECT value FROM llmspell.procedural_patterns WHERE tenant_id = %s AND scope = %s",
    ),
    "entity-find": ("graph", "SELECT name, properties FROM llmspell.entities WHERE tenant_id = %s AND name = %s"),
    "erase-stream": ("events", "SELECT %s::text, llmspell.erase_stream(%s, 'asked for')"),
    "erase-hooks": ("hooks", "SELECT %s::text, llmspell.erase_hook_executions(%s, 'asked for')"),
}


@dataclass(frozen=True, slots=True)
class Client:
    """One tenant's use of a connection that it shares with others."""

    tenant: Tenant
    connection: psycopg.Connection[Any]

    def run(self, name: str, *values: Any, predicate: str | None = None) -> list[tuple[Any, ...]]:
        """Enter and run one statement; ``predicate`` is a tenant predicate other than the client's own."""
        store, statement = STATEMENTS[name]
        return self.query(statement, predicate or self.tenant.tenant_id, *values, store=store)

    def query(self, statement: str, *values: Any, store: str = "kv") -> list[tuple[Any, ...]]:
        """Enter and run any text in one transaction, sent together."""
        tenant = self.tenant
        connection = self.connection
        with connection.transaction(), connection.pipeline() as pipeline, connection.cursor() as cursor:
            connection.execute(ENTER, (tenant.tenant_id, tenant.capability, store), prepare=False)
            cursor.execute(statement.encode(), values, prepare=False)
            pipeline.sync()  # before it, a cursor does not know whether rows will come
            return cursor.fetchall() if cursor.description else []
