"""Read what an installation knows about its tenants, for people: no reconcile, nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.faults import DatabaseFault, translate
from storage_operator.adapters.postgres.installation import identify
from storage_operator.adapters.postgres.server import connect
from storage_sql.renderer import ident, render

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LIST = """SELECT jsonb_build_object(
    'tenant', t.tenant, 'namespace', t.namespace, 'name', t.name, 'state', t.state, 'isolation', t.isolation,
    'suspended', t.suspended, 'stores', to_jsonb(t.stores), 'usedBytes', t.used_bytes, 'usedRows', t.used_rows,
    'measuredAt', t.measured_at, 'quotaBytes', t.quota_bytes, 'overQuota', t.over_quota,
    'logins', (SELECT count(*) FROM {{ schema }}.tenant_logins l WHERE l.tenant = t.tenant),
    'connectionLimit', t.connection_limit, 'passwordChangedAt', t.password_changed_at)
FROM {{ schema }}.tenants t ORDER BY t.tenant"""
_SHOW = """SELECT to_jsonb(t) || jsonb_build_object(
    'logins', (SELECT coalesce(jsonb_agg(jsonb_build_object(
        'login', l.login, 'slot', l.slot, 'createdAt', l.created_at, 'retireAt', l.retire_at,
        'canLogin', r.rolcanlogin, 'connectionLimit', r.rolconnlimit,
        'settings', (SELECT to_jsonb(s.setconfig) FROM pg_db_role_setting s WHERE s.setrole = r.oid AND s.setdatabase = 0),
        'memberOf', (SELECT jsonb_agg(g.rolname ORDER BY g.rolname) FROM pg_auth_members m
                       JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid),
        'sessions', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid))
        ORDER BY l.slot), '[]') FROM {{ schema }}.tenant_logins l LEFT JOIN pg_roles r ON r.rolname = l.login
        WHERE l.tenant = t.tenant))
FROM {{ schema }}.tenants t WHERE t.tenant = %s"""


async def list_tenants(conninfo: str, schema: str) -> list[dict[str, Any]]:
    """Return one mapping a tenant, in the order of their ids."""
    async with _as_owner(conninfo, schema) as connection:
        rows = await (await connection.execute(render(_LIST, schema=ident(schema)).encode())).fetchall()
    return [dict(row[0]) for row in rows]


async def show_tenant(conninfo: str, schema: str, tenant: str) -> Mapping[str, Any] | None:
    """Return everything about one tenant but its secrets; None when the installation does not know it."""
    async with _as_owner(conninfo, schema) as connection:
        row = await (await connection.execute(render(_SHOW, schema=ident(schema)).encode(), (tenant,))).fetchone()
    return None if row is None else dict(row[0])


@asynccontextmanager
async def _as_owner(conninfo: str, schema: str) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
    """Lend a read-only session that works as the owner, once the installation is known to be ours."""
    facts = await identify(conninfo, schema)
    connection = await connect(conninfo)
    try:
        async with connection.transaction():
            text = render(
                "SET LOCAL ROLE {{ owner }}; SET LOCAL transaction_read_only = on", owner=ident(facts.roles.owner)
            )
            await connection.execute(text.encode())
            yield connection
    except psycopg.errors.UndefinedTable as error:
        raise DatabaseFault("MigrationsPending", f"schema {schema} has no tables yet") from error
    except psycopg.Error as error:
        raise translate(error) from error
    finally:
        await connection.close()
