"""Examine an installation from outside, as its operator's login: one answer a question, none of them changes anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.faults import DatabaseFault, translate
from storage_operator.adapters.postgres.installation import BOOTSTRAP_COMMAND, check_rights, check_version
from storage_operator.adapters.postgres.migrator import migration_status
from storage_operator.adapters.postgres.server import connect
from storage_sql.audit import audit_sql
from storage_sql.migrations import MigrationError
from storage_sql.renderer import ident, literal, render, render_file
from storage_sql.requirements import vector_fault
from storage_sql.roles import RoleNames
from storage_sql.runner import RunOptions

HORIZON_HOURS_MIN = 24.0
_SHOWN = 3
_BOOTSTRAP = f"run `{BOOTSTRAP_COMMAND}` as a superuser"
_PROTECTED = """SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {{ schema_name }} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND c.relrowsecurity AND c.relforcerowsecurity
  AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)"""
_HORIZON = "SELECT count(*), max(to_time) FROM {{ schema }}.event_partitions()"
_CONNECTIONS = """SELECT count(*), count(*) FILTER (WHERE datname = current_database()) FROM pg_stat_activity
WHERE backend_type = 'client backend'"""

_OPEN_DATABASES = """SELECT d.datname FROM pg_database d
 WHERE d.datallowconn AND d.datname <> current_database() AND EXISTS (
       SELECT FROM aclexplode(COALESCE(d.datacl, acldefault('d', d.datdba))) g
        WHERE g.grantee = 0 AND g.privilege_type = 'CONNECT') ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report: what was looked at, whether it is well, and what was seen.

    A warning is healthy all the same: what it says is for the server's administrator to weigh.
    """

    name: str
    healthy: bool
    message: str
    warning: bool = False


async def examine(conninfo: str, schema: str) -> tuple[Check, ...]:
    """Ask every question that can be asked; what cannot be, for want of an answer before it, is left out."""
    started = time.monotonic()
    checks: list[Check] = []
    try:
        connection = await connect(conninfo)
    except DatabaseFault as fault:
        return (Check("connection", False, f"no PostgreSQL connection: {fault.message} ({fault.reason})"),)
    try:
        text = render_file("provisioning/identify.sql", schema_name=literal(schema))
        row = await (await connection.execute(text.encode())).fetchone()
        told: Mapping[str, Any] = row[0] if row is not None else {}
        checks = [_connected(conninfo, time.monotonic() - started), _version(told), *_extensions(told)]
        roles = RoleNames.from_schema_comment(told["schema_mark"])
        if roles is None:
            seen = "holds another project's tables" if told["tables"] else "is not prepared"
            why = f"schema {schema} of database {told['database']} {seen}: {_BOOTSTRAP}"
            return (*checks, Check("installation", False, why))
        checks.append(_rights(told, roles))
        checks += await _inside(connection, conninfo, schema, roles, told)
    except psycopg.Error as error:
        met = translate(error)
        return (*checks, Check("query", healthy=False, message=f"{met.message} ({met.reason})"))
    finally:
        await connection.close()
    return tuple(checks)


async def _inside(
    connection: psycopg.AsyncConnection[TupleRow],
    conninfo: str,
    schema: str,
    roles: RoleNames,
    told: Mapping[str, Any],
) -> list[Check]:
    migrations = await _migrations(conninfo, schema)
    checks = [migrations]
    async with connection.transaction():
        owner = render("SET LOCAL ROLE {{ owner }}", owner=ident(roles.owner))
        try:
            await connection.execute(owner.encode())
        except psycopg.errors.InsufficientPrivilege:
            return [*checks, Check("policies", False, f"not examined: this login may not work as {roles.owner}")]
        checks.append(await _policies(connection, schema, roles))
        if migrations.healthy:
            checks.append(await _partitions(connection, schema))
        checks += [await _pool(connection, told), await _databases(connection)]
    return checks


def _connected(conninfo: str, seconds: float) -> Check:
    parameters = conninfo_to_dict(conninfo)
    place = f"{parameters.get('host') or 'local socket'}:{parameters.get('port') or 5432}/{parameters.get('dbname')}"
    return Check("connection", True, f"PostgreSQL connection healthy ({place}, {seconds * 1000:.0f} ms)")


def _version(told: Mapping[str, Any]) -> Check:
    return _judged("version", lambda: check_version(told), f"PostgreSQL {told['version']}")


def _judged(name: str, judge: Callable[[], None], well: str) -> Check:
    try:
        judge()
    except DatabaseFault as fault:
        return Check(name, False, fault.message)
    return Check(name, True, well)


def _extensions(told: Mapping[str, Any]) -> list[Check]:
    found: Mapping[str, str] = told["extensions"] or {}
    vector, chord = found.get("vector"), found.get("vchord")
    if vector is None:
        pgvector = Check("pgvector", False, f"pgvector is not in the database: {_BOOTSTRAP}")
    elif (fault := vector_fault(vector)) is not None:
        pgvector = Check("pgvector", False, fault)
    else:
        pgvector = Check("pgvector", True, f"pgvector extension available (v{vector})")
    # VectorChord makes big indexes cheaper; without it pgvector's own HNSW serves.
    text = "VectorChord not installed; HNSW indexes are used" if chord is None else f"VectorChord available (v{chord})"
    return [pgvector, Check("vectorchord", True, text)]


def _rights(told: Mapping[str, Any], roles: RoleNames) -> Check:
    login = told["session_role"]
    if told["superuser"] or told["bypass_rls"]:
        what = "a superuser" if told["superuser"] else "exempt from row-level security"
        return Check("roles", False, f"{login} is {what}: use the operator's login, {roles.operator}")
    return _judged("roles", lambda: check_rights(told, roles), f"Operator's rights complete ({login})")


async def _migrations(conninfo: str, schema: str) -> Check:
    try:
        plan = await migration_status(conninfo, schema, RunOptions())
    except (MigrationError, DatabaseFault) as error:
        return Check("migrations", False, str(error))
    total = len(plan.applied) + len(plan.pending)
    if plan.pending:
        labels = ", ".join(migration.label for migration in plan.pending[:_SHOWN])
        more = f" and {len(plan.pending) - _SHOWN} more" if len(plan.pending) > _SHOWN else ""
        why = f"{len(plan.applied)} of {total} migrations applied; pending: {labels}{more}"
        return Check("migrations", False, f"{why}: run `llmspell database migrate`")
    return Check("migrations", True, f"All {total} migrations applied")


async def _policies(connection: psycopg.AsyncConnection[TupleRow], schema: str, roles: RoleNames) -> Check:
    violations = await (await connection.execute(audit_sql(schema, roles).encode())).fetchall()
    if violations:
        shown = "; ".join(f"{kind} {thing}: {detail}" for kind, thing, detail in violations[:_SHOWN])
        more = f" and {len(violations) - _SHOWN} more" if len(violations) > _SHOWN else ""
        return Check("policies", False, f"{len(violations)} breaches of the isolation contract: {shown}{more}")
    counted = await connection.execute(render(_PROTECTED, schema_name=literal(schema)).encode())
    ((tables,),) = await counted.fetchall()
    return Check("policies", True, f"RLS policies active ({tables} tables)")


async def _partitions(connection: psycopg.AsyncConnection[TupleRow], schema: str) -> Check:
    ((count, horizon),) = await (await connection.execute(render(_HORIZON, schema=ident(schema)).encode())).fetchall()
    if horizon is None:
        return Check("partitions", False, "the event log has no partitions: writing events fails")
    hours = (horizon - datetime.now(UTC)).total_seconds() / 3600
    text = f"{count} event partitions reach to {horizon:%Y-%m-%d}"
    if hours < HORIZON_HOURS_MIN:
        why = f"{text}: writing events fails from then on; the operator, or `llmspell apply`, creates more"
        return Check("partitions", False, why)
    return Check("partitions", True, f"Event partitions reach to {horizon:%Y-%m-%d} ({count}, {hours / 24:.0f} days)")


async def _pool(connection: psycopg.AsyncConnection[TupleRow], told: Mapping[str, Any]) -> Check:
    ((used, here),) = await (await connection.execute(_CONNECTIONS.encode())).fetchall()
    usable = told["max_connections"] - told["superuser_reserved"] - told["reserved"]
    text = f"{used}/{told['max_connections']} connections active, {here} in this database"
    if used >= usable:
        return Check("connections", False, f"{text}: only reserved ones are left")
    return Check("connections", True, f"Connection pool healthy ({text})")


async def _databases(connection: psycopg.AsyncConnection[TupleRow]) -> Check:
    rows = await (await connection.execute(_OPEN_DATABASES.encode())).fetchall()
    if not rows:
        return Check("databases", True, "No other database of the server lets PUBLIC in")
    names = ", ".join(name for (name,) in rows[:_SHOWN]) + (f" and {len(rows) - _SHOWN} more" if rows[_SHOWN:] else "")
    why = f"warning: tenants may connect to other databases of the server: {names}"
    return Check("databases", True, f"{why}; REVOKE CONNECT ON DATABASE … FROM PUBLIC", warning=True)
