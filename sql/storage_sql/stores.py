"""The eleven stores: their tables, and what a tenant that has a store may do with them; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

READ = ("SELECT",)
APPEND = ("SELECT", "INSERT")
KEEP = ("SELECT", "INSERT", "UPDATE")
PRUNED = ("SELECT", "INSERT", "DELETE")
FULL = ("SELECT", "INSERT", "UPDATE", "DELETE")

VECTOR_TABLE = re.compile(r"vector_embeddings_([1-9][0-9]{0,4})")
PROBE_TABLE = "test_table"
# The dimensions whose tables the migrations make; a StorageComponent may ask for others.
STANDARD_DIMENSIONS = (128, 384, 768, 1536, 3072)
DIMENSION_MAX = 16_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table, or a family of tables by pattern, and the privileges its store grants on it."""

    name: str
    privileges: tuple[str, ...]
    append_only: bool = False
    pattern: re.Pattern[str] | None = None

    def covers(self, table: str) -> bool:
        """Tell whether `table` is this table or of this family; leaves of a family are not."""
        return bool(self.pattern.fullmatch(table)) if self.pattern else table == self.name


@dataclass(frozen=True, slots=True)
class Store:
    """One of the eleven stores."""

    name: str
    kind: str
    tables: tuple[Table, ...]
    functions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """One privilege on one object: `object_type` is TABLE or FUNCTION."""

    object_type: str
    name: str
    privilege: str


_CLOCK = Table("tenant_clock", KEEP)
_ERASURES = Table("erasures", READ, append_only=True)

STORES: tuple[Store, ...] = (
    Store(
        "vectors",
        "Vectors",
        (Table("vector_embeddings", FULL, pattern=VECTOR_TABLE),),
        ("vector_settings(bigint)",),
    ),
    Store(
        "graph",
        "Graph",
        (
            Table("entities", APPEND, append_only=True),
            Table("relationships", APPEND, append_only=True),
            Table("graph_transactions", APPEND, append_only=True),
            Table("graph_embeddings", APPEND, append_only=True),
            _CLOCK,
            _ERASURES,
        ),
        (
            "close_entity_versions(uuid, timestamptz, timestamptz)",
            "close_relationship_versions(uuid, timestamptz, timestamptz)",
            "retire_entity(uuid)",
            "erase_entity(uuid, text)",
            "erase_entity_as(uuid, text, text)",
            "withdraw_entity(uuid, bigint, text, text, jsonb)",
            "withdraw_relationship(uuid, bigint, text, text, jsonb)",
        ),
    ),
    Store(
        "procedures",
        "Procedures",
        (Table("procedural_patterns", FULL), Table("procedures", FULL), Table("procedure_versions", FULL)),
    ),
    Store(
        "agent_state",
        "AgentState",
        (
            Table("agent_states", FULL),
            Table("agent_state_history", PRUNED),
            Table("agent_state_checkpoints", PRUNED),
            Table("agent_transitions", PRUNED),
            # A checkpoint is locked while another one is built on it, and may be put again.
            Table("agent_thread_checkpoints", FULL),
            Table("agent_thread_parts", PRUNED),
            Table("agent_thread_writes", FULL),
        ),
    ),
    Store("kv", "KV", (Table("kv_store", FULL),)),
    Store("workflow_states", "WorkflowStates", (Table("workflow_states", FULL), Table("workflow_steps", FULL))),
    Store(
        "sessions",
        "Sessions",
        (Table("sessions", FULL), Table("session_ancestry", FULL), Table("session_messages", FULL)),
    ),
    Store(
        "artifacts",
        "Artifacts",
        (
            Table("artifacts", FULL),
            Table("artifact_content", FULL),
            Table("artifact_chunks", FULL),
            Table("artifact_counters", FULL),
            Table("artifact_tags", FULL),
        ),
    ),
    Store(
        "events",
        "Events",
        (
            Table("event_log", APPEND, append_only=True),
            Table("event_streams", KEEP),
            Table("event_ids", FULL),
            Table("event_consumers", FULL),
            _CLOCK,
            _ERASURES,
        ),
        (
            "append_event(uuid, text, text, text, timestamptz, text, jsonb, bigint, boolean)",
            "erase_stream(text, text)",
        ),
    ),
    Store(
        "hooks",
        "Hooks",
        (Table("hook_history", APPEND, append_only=True), _ERASURES),
        (
            "erase_hook_executions(text, text)",
            "retain_hook_executions(bigint, timestamptz, bigint, bigint, bigint, text)",
        ),
    ),
    Store("api_keys", "ApiKeys", (Table("api_keys", FULL),), ("note_api_key_use(text)",)),
)

STORES_BY_NAME = {store.name: store for store in STORES}
APPEND_ONLY_TABLES = tuple(sorted({table.name for store in STORES for table in store.tables if table.append_only}))
BASE_TABLES = (Table(PROBE_TABLE, FULL),)
BASE_FUNCTIONS = ("current_tenant()", "writing_tenant()")
SEALED_FUNCTIONS = ("enter(text, text, text)", "verify_api_key(bytea)")


def store_of(table: str) -> tuple[str, ...]:
    """Return the names of the stores that a table belongs to; empty for a table of none."""
    return tuple(store.name for store in STORES if any(entry.covers(table) for entry in store.tables))


def privileges(stores: Iterable[str], existing_tables: Iterable[str]) -> tuple[Grant, ...]:
    """Return what a role with these stores is granted, for the tables that exist; sorted."""
    chosen = [STORES_BY_NAME[name] for name in sorted(set(stores))]
    entries = [*BASE_TABLES, *(table for store in chosen for table in store.tables)]
    tables = {
        Grant("TABLE", table, privilege)
        for table in existing_tables
        for entry in entries
        if entry.covers(table)
        for privilege in entry.privileges
    }
    functions = {*BASE_FUNCTIONS, *(function for store in chosen for function in store.functions)}
    return tuple(sorted(tables | {Grant("FUNCTION", function, "EXECUTE") for function in functions}))
