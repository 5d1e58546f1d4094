"""Observe one tenant in the database, and apply a plan to it.

Observing is one statement. Applying is one script, in one round trip, except where sessions must be seen to be gone
before a role may be dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from storage_operator.adapters.postgres.credentials import Credential, draw
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.actions import (
    Action,
    CreateLogin,
    CreateSet,
    DeleteRows,
    DropLogin,
    EndSessions,
    Plan,
    SetPassword,
    TenantRow,
)
from storage_operator.planning.tenant import ObservedLogin, ObservedRole, ObservedTenant, TenantNames
from storage_sql.renderer import ident, literal, render, render_file

SESSIONS_GONE_SECONDS = 10.0
_SESSION_POLL_SECONDS = 0.1
DELETE_TIMEOUT_MS = 600_000
_DELETE_ROWS = """SET LOCAL statement_timeout = {{ timeout }};
SET LOCAL ROLE {{ maintenance }};
DELETE FROM {{ schema }}.{{ table }} WHERE tenant_id = {{ tenant }};
SET LOCAL ROLE {{ owner }};
"""
_ROW_COLUMNS = tuple(TenantRow.__slots__)


class SessionsRemain(DatabaseFault):
    """Sessions of a login did not end within the bound; dropping waits."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant was last measured to hold; ``measured_at`` None when it never was."""

    bytes: int | None
    rows: int | None
    measured_at: datetime | None
    over_quota: bool


@dataclass(frozen=True, slots=True)
class TenantState:
    """What one observation returns: what planning looks at, and what only the status shows."""

    observed: ObservedTenant
    usage: Usage
    schema_version: int
    enabled: frozenset[str]
    capability: str | None = field(default=None, repr=False)
    former_capability: str | None = field(default=None, repr=False)


async def observe(installation: Installation, tenant: str, names: TenantNames) -> TenantState:
    """Read one tenant's roles, bindings, membership and control row: one round trip."""
    text = render_file(
        "provisioning/observe_tenant.sql", schema=ident(installation.schema), schema_name=installation.schema_literal
    )
    logins = list(names.logins)
    parameters = (tenant, tenant, logins, tenant, tenant, names.set_role, tenant, logins)
    ((document,),) = await installation.server.query(text, parameters)
    return _state(document)


def _state(document: Mapping[str, Any]) -> TenantState:
    row: Mapping[str, Any] = document["row"] or {}
    observed = ObservedTenant(
        now=datetime.fromisoformat(document["now"]),
        row=_row(row) if row else None,
        state=row.get("state"),
        roles=tuple(_role(role) for role in document["roles"] or ()),
        logins=tuple(
            ObservedLogin(login["login"], login["slot"], login["digest"], _moment(login["retire_at"]))
            for login in document["logins"] or ()
        ),
        set_exists=document["set_exists"],
        credential_changed_at=_moment(row.get("password_changed_at")),
        capability_version=row.get("capability_version") or 0,
        sessions=document["sessions"],
    )
    usage = Usage(
        row.get("used_bytes"), row.get("used_rows"), _moment(row.get("measured_at")), bool(row.get("over_quota"))
    )
    enabled = frozenset(document["enabled"] or ())
    return TenantState(
        observed,
        usage,
        document["schema_version"] or 0,
        enabled,
        document["capability"],
        document["former_capability"],
    )


def _row(row: Mapping[str, Any]) -> TenantRow:
    values = {column: row[column] for column in _ROW_COLUMNS}
    return TenantRow(**{**values, "stores": tuple(row["stores"])})


def _role(role: Mapping[str, Any]) -> ObservedRole:
    pairs = (setting.partition("=") for setting in role["settings"] or ())
    return ObservedRole(
        name=role["name"],
        can_login=role["can_login"],
        privileged=role["privileged"],
        inherits=role["inherits"],
        connection_limit=role["connection_limit"],
        settings=tuple((name, _plain(name, value)) for name, _, value in pairs),
        member_of=frozenset(role["member_of"] or ()),
        mark=role["mark"],
        expires=role["expires"],
        database_settings=role["database_settings"],
        granted=tuple((kind, name) for kind, name in role["granted"] or ()),
    )


def _plain(name: str, value: str) -> str:
    """Take the quotes off a path of schemas: PostgreSQL adds them to a schema that is called like a key word."""
    return value.replace('"', "") if name == "search_path" else value


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def apply(installation: Installation, tenant: str, names: TenantNames, plan: Plan) -> Credential | None:
    """Carry a plan out and return the credential that it issued (role mode), if any.

    Raises ``DatabaseFault``; what had been applied stays applied, and the next plan starts from there.
    """
    for action in plan.actions:
        if isinstance(action, CreateSet):
            await installation.sets.ensure(action.role, action.stores)
    credential = _draw(plan)
    secrets = await _recorded(installation, plan)
    if credential is not None:
        secrets[credential.login] = (credential.verifier, credential.digest)
    for segment in _segments(plan.actions):
        await _run(installation, tenant, names, segment, secrets)
    return credential


def _draw(plan: Plan) -> Credential | None:
    login = next(
        (a.login for a in plan.actions if isinstance(a, (CreateLogin, SetPassword)) and a.login == plan.issues), None
    )
    return None if login is None else draw(login)


async def _recorded(installation: Installation, plan: Plan) -> dict[str, tuple[str, str]]:
    """Read the verifiers that are put back as they were issued."""
    logins = [a.login for a in plan.actions if isinstance(a, SetPassword) and a.login != plan.issues]
    if not logins:
        return {}
    text = render(
        "SELECT login, verifier, digest FROM {{ schema }}.tenant_logins WHERE login = ANY (%s) AND verifier IS NOT NULL",
        schema=ident(installation.schema),
    )
    rows = await installation.server.query(text, (logins,))
    if len(rows) < len(logins):
        raise DatabaseFault("DatabaseError", "no verifier was recorded for the login")
    return {login: (verifier, digest) for login, verifier, digest in rows}


def _segments(actions: Iterable[Action]) -> Sequence[Sequence[Action]]:
    """Split a plan where sessions have to be gone: what follows runs in a transaction of its own."""
    segments: list[list[Action]] = [[]]
    for action in actions:
        if isinstance(action, (EndSessions, DeleteRows)):
            segments += [[action], []]
        elif not isinstance(action, CreateSet):
            segments[-1].append(action)
    return [segment for segment in segments if segment]


async def _run(
    installation: Installation,
    tenant: str,
    names: TenantNames,
    segment: Sequence[Action],
    secrets: Mapping[str, tuple[str, str]],
) -> None:
    match segment[0]:
        case EndSessions(logins=logins):
            await end_sessions(installation, logins)
        case DeleteRows():
            await delete_rows(installation, tenant)
        case _:
            roles = await _existing(installation, segment)
            script = Script(installation.schema, installation.roles.owner, epoch=installation.epoch, mark=names.mark)
            for action in segment:
                exists = not isinstance(action, DropLogin) or action.login in roles
                script.add(action, secrets, role_exists=exists)
            await installation.server.script(script.text(), script.count)


async def _existing(installation: Installation, segment: Sequence[Action]) -> frozenset[str]:
    """Which logins to be dropped still have a role: a crash may have left only the binding."""
    dropped = [action.login for action in segment if isinstance(action, DropLogin)]
    if not dropped:
        return frozenset()
    rows = await installation.server.query("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (dropped,))
    return frozenset(str(name) for (name,) in rows)


async def end_sessions(installation: Installation, logins: Sequence[str]) -> None:
    """Terminate the sessions of these logins and wait until none is left; raises ``SessionsRemain`` after the bound."""
    deadline = time.monotonic() + SESSIONS_GONE_SECONDS
    while True:
        rows = await installation.server.query(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = ANY (%s)", (list(logins),)
        )
        remaining = rows[0][0]
        if not remaining:
            return
        if time.monotonic() > deadline:
            raise SessionsRemain("SessionsRemain", f"{remaining} sessions of the tenant do not end")
        await asyncio.sleep(_SESSION_POLL_SECONDS)


async def delete_rows(installation: Installation, tenant: str) -> None:
    """Delete a tenant's rows from every tenant table that the catalog shows, children of foreign keys first."""
    text = render_file("provisioning/tenant_tables.sql", schema_name=installation.schema_literal)
    for (table,) in await installation.server.query(text):
        script = Script(installation.schema, installation.roles.owner, epoch=installation.epoch)
        script.raw(
            _DELETE_ROWS,
            table=ident(table),
            tenant=literal(tenant),
            maintenance=ident(installation.roles.maintenance),
            timeout=literal(DELETE_TIMEOUT_MS),
        )
        await installation.server.script(script.text(), script.count, within=DELETE_TIMEOUT_MS / 1000 + 15.0)
