"""Delete rows whose store's declared retention is over, in small transactions, as maintenance."""

from __future__ import annotations

from storage_operator.adapters.postgres.installation import Installation
from storage_sql.renderer import ident, render

BATCH_ROWS = 5_000
BATCHES_MAX = 200
_NO_STATE = (
    "NOT EXISTS (SELECT FROM {{ schema }}.agent_states AS s"
    " WHERE s.tenant_id = {{ table }}.tenant_id AND s.agent_id = {{ table }}.agent_id)"
)
# A message outlives its session while a branch of it still shows the thread.
_NO_SESSION = " AND ".join(
    f"NOT EXISTS (SELECT FROM {{{{ schema }}}}.{holder} AS h"
    " WHERE h.tenant_id = {{ table }}.tenant_id AND h.thread_id = {{ table }}.thread_id)"
    for holder in ("sessions", "session_ancestry")
)
_LAST_CHANGE = {
    "agent_state": (
        ("agent_states", "updated_at", "true"),
        ("agent_state_history", "saved_at", _NO_STATE),
        ("agent_state_checkpoints", "created_at", _NO_STATE),
    ),
    "kv": (("kv_store", "updated_at", "true"),),
    "workflow_states": (("workflow_states", "last_updated", "true"),),
    "sessions": (("sessions", "last_accessed_at", "true"), ("session_messages", "created_at", _NO_SESSION)),
    "artifacts": (("artifacts", "created_at", "true"), ("artifact_content", "last_accessed_at", "reference_count = 0")),
    "hooks": (("hook_history", "created_at", "true"),),
}
"""Store → tables with the column that tells a row's last change, and what else must hold for it to go."""
_DECLARED = """SELECT store, (parameters ->> 'retention_seconds')::double precision FROM {{ schema }}.components
 WHERE enabled AND parameters ? 'retention_seconds'"""
_EXPIRE = """WITH gone AS (
    DELETE FROM {{ schema }}.{{ table }} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {{ schema }}.{{ table }}
         WHERE {{ column }} < now() - %s * interval '1 second' AND CONDITION LIMIT %s)) RETURNING 1
) SELECT count(*) FROM gone"""


async def expire(installation: Installation) -> dict[str, int]:
    """Delete what is too old in every store that declares a retention; returns the rows that went, by table.

    Bounded: what is left after ``BATCHES_MAX`` batches of a table goes in the next pass.
    """
    gone: dict[str, int] = {}
    declared = await installation.server.query(render(_DECLARED, schema=ident(installation.schema)))
    for store, seconds in declared:
        for table, column, condition in _LAST_CHANGE.get(store, ()):
            text = render(
                _EXPIRE.replace("CONDITION", condition),
                schema=ident(installation.schema),
                table=ident(table),
                column=ident(column),
            )
            for _ in range(BATCHES_MAX):
                await installation.fence()
                role = installation.roles.maintenance
                ((deleted,),) = await installation.server.query(text, (seconds, BATCH_ROWS), role=role)
                gone[table] = gone.get(table, 0) + deleted
                if deleted < BATCH_ROWS:
                    break
    return {table: count for table, count in gone.items() if count}
