"""Measure what tenants store: one aggregate a table for all tenants, off the reconcile path."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.server import answering
from storage_sql.renderer import Identifier, Literal, ident, render, render_file

_AGGREGATE = """SELECT tenant_id, count(*), COALESCE(sum({% for column in columns %}COALESCE(pg_column_size({{ column }}), 0){% if not loop.last %} + {% endif %}{% endfor %} + 24), 0)::bigint
  FROM {{ schema }}.{{ table }} GROUP BY tenant_id"""
_SAVE = """WITH measured AS (
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS m (tenant, rows, bytes)
), changed AS (
    UPDATE {{ schema }}.tenants t
       SET used_rows = COALESCE(m.rows, 0), used_bytes = COALESCE(m.bytes, 0), measured_at = clock_timestamp(),
           over_quota = COALESCE(COALESCE(m.bytes, 0) > t.quota_bytes, false)
      FROM {{ schema }}.tenants o LEFT JOIN measured m ON m.tenant = o.tenant
     WHERE o.tenant = t.tenant
       AND ((o.used_rows, o.used_bytes) IS DISTINCT FROM (COALESCE(m.rows, 0), COALESCE(m.bytes, 0))
            OR o.over_quota IS DISTINCT FROM COALESCE(COALESCE(m.bytes, 0) > o.quota_bytes, false)
            OR o.measured_at IS NULL OR o.measured_at < clock_timestamp() - interval '1 hour')
 RETURNING t.namespace, t.name, o.over_quota IS DISTINCT FROM t.over_quota AS flipped
)
SELECT namespace, name FROM changed WHERE flipped"""
MEASURE_TIMEOUT_SECONDS = 600
MEASURE_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Owner:
    """Which Tenant resource a control row belongs to."""

    namespace: str
    name: str


async def measure(installation: Installation) -> tuple[Owner, ...]:
    """Measure every tenant and save the figures; returns those that came over or back under their quota.

    Bytes are what the values take as they are stored (compressed where PostgreSQL compressed them) and 24 for each
    row's header; indexes are not counted. Figures that did not change keep the time of their measurement for an hour:
    each new time costs a write here and a PATCH of the Tenant's status.
    """
    rows: defaultdict[str, int] = defaultdict(int)
    size: defaultdict[str, int] = defaultdict(int)
    text = render_file("provisioning/tenant_columns.sql", schema_name=installation.schema_literal)
    tables = await installation.server.query(text)
    async with installation.server.session() as connection, answering(MEASURE_SECONDS_MAX), connection.transaction():
        await _as_maintenance(installation, connection)
        for table, columns in tables:
            marked: list[Identifier | Literal] = [ident(column) for column in columns]
            statement = render(_AGGREGATE, schema=ident(installation.schema), table=ident(table), columns=marked)
            cursor = await connection.execute(statement.encode())
            for tenant, count, stored in await cursor.fetchall():
                rows[tenant] += count
                size[tenant] += stored
    installation.server.meter.count(len(tables) + 2, len(tables) + 4)
    tenants = sorted(rows)
    parameters = (tenants, [rows[each] for each in tenants], [size[each] for each in tenants])
    flipped = await installation.server.query(render(_SAVE, schema=ident(installation.schema)), parameters)
    return tuple(Owner(namespace, name) for namespace, name in flipped)


async def _as_maintenance(installation: Installation, connection: psycopg.AsyncConnection[TupleRow]) -> None:
    setup = render(
        "SET LOCAL ROLE {{ maintenance }}; SET LOCAL statement_timeout = {{ timeout }}; SET LOCAL lock_timeout = '3s'",
        maintenance=ident(installation.roles.maintenance),
        timeout=Literal(MEASURE_TIMEOUT_SECONDS * 1000),
    )
    await connection.execute(setup.encode())
