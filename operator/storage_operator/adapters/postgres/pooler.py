"""PgBouncer: the auth_file that it reads, and whether it lets a login in already."""

from __future__ import annotations

import asyncio

import psycopg

from storage_operator.adapters.postgres.installation import Installation
from storage_operator.planning.secret import Access, Target, dsn
from storage_sql.renderer import ident, render

CONNECT_TIMEOUT_SECONDS = 5
_VERIFIERS = """SELECT login, verifier FROM {{ schema }}.tenant_logins l JOIN {{ schema }}.tenants t USING (tenant)
 WHERE verifier IS NOT NULL AND t.state = 'active' AND NOT t.suspended
   AND (l.retire_at IS NULL OR l.retire_at > now()) ORDER BY login"""


async def auth_file(installation: Installation, *, sealed: bool) -> bytes:
    """Render every live login with its SCRAM verifier, in PgBouncer's format; never a password."""
    rows = await installation.server.query(render(_VERIFIERS, schema=ident(installation.schema)))
    entries = [(str(login), str(verifier)) for login, verifier in rows]
    if sealed:
        entries.append((installation.roles.app, await installation.app_verifier()))
    return "".join(f"{_quoted(login)} {_quoted(verifier)}\n" for login, verifier in entries).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


async def accepts(target: Target, access: Access) -> bool:
    """Try a login through the pooler; False when it is refused or nothing answers."""
    if target.pooler_host is None or target.pooler_port is None:
        return True
    conninfo = dsn(target.pooler_host, target.pooler_port, target, access)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS + 1):
            connection = await psycopg.AsyncConnection.connect(
                conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS
            )
    except (psycopg.OperationalError, TimeoutError):
        return False
    await connection.close()
    return True
