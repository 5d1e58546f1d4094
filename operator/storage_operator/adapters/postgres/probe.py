"""The isolation probe: log in as the tenant and try what must fail.

It runs as one block in the tenant's own session, in one round trip after the log-in, and rolls back. The neighbour is a
canary row that the maintenance role keeps in the probe's table, so that "sees nothing" is never true for want of rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from storage_operator.adapters.postgres.faults import DatabaseFault, translate
from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.server import ANSWER_SECONDS, answering, connect
from storage_sql.renderer import ident, literal, render, render_file

# No Tenant can have this id: its owner could take the row away, and every other tenant's proof would prove nothing.
CANARY_TENANT = "isolation canary"
CANARY_ID = "canary"
VIOLATION_STATE = "LS002"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the probe found: isolated, or the first thing that should have failed and did not."""

    isolated: bool
    message: str


async def plant_canary(installation: Installation) -> None:
    """Make sure that there is a neighbour's row to be denied."""
    text = render(
        "INSERT INTO {{ schema }}.test_table (tenant_id, id, value) VALUES (%s, %s, 'a neighbour''s row') "
        "ON CONFLICT (tenant_id, id) DO NOTHING",
        schema=ident(installation.schema),
    )
    await installation.server.query(text, (CANARY_TENANT, CANARY_ID), role=installation.roles.maintenance)


async def probe_role(installation: Installation, conninfo: str, tenant: str) -> Verdict:
    """Probe with the tenant's own login; raises ``DatabaseFault`` when the log-in itself fails."""
    return await _run(installation, conninfo, tenant)


async def probe_sealed(installation: Installation, conninfo: str, tenant: str, capability: str, store: str) -> Verdict:
    """Probe through the shared login with the tenant's capability."""
    return await _run(installation, conninfo, tenant, (tenant, capability, store))


async def _run(
    installation: Installation, conninfo: str, tenant: str, way_in: tuple[str, str, str] | None = None
) -> Verdict:
    text = render_file(
        "provisioning/probe.sql",
        schema=ident(installation.schema),
        tenant=literal(tenant),
        canary=literal(CANARY_TENANT),
        canary_id=literal(CANARY_ID),
        sealed=way_in is not None,
    )
    connection = await connect(conninfo, application_name="llmspell-probe")
    try:
        installation.server.meter.count(1, 2)
        async with answering(ANSWER_SECONDS):
            if way_in is not None:
                # Bound, never in the text: all sealed tenants share the login, and see each other's statements.
                enter = render("SELECT {{ schema }}.enter(%s, %s, %s)", schema=ident(installation.schema))
                await connection.execute("BEGIN")
                await connection.execute(enter.encode(), way_in)
            await connection.execute(text.encode())
    except psycopg.Error as error:
        if error.sqlstate == VIOLATION_STATE:
            return Verdict(isolated=False, message=translate(error).message)
        raise translate(error) from error
    finally:
        await connection.close()
    return Verdict(isolated=True, message="a neighbour's row could be neither read, changed, added nor deleted")


__all__ = ["CANARY_TENANT", "DatabaseFault", "Verdict", "plant_canary", "probe_role", "probe_sealed"]
