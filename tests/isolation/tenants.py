"""Tenants for the proofs, provisioned by the operator's own code as the operator's own login, never as a superuser."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from storage_operator.adapters.postgres import tenants as provisioning
from storage_operator.adapters.postgres.credentials import Credential
from storage_operator.adapters.postgres.installation import Installation as Provisioned
from storage_operator.adapters.postgres.installation import address_of, identify
from storage_operator.adapters.postgres.server import Server
from storage_operator.planning.actions import Conflict, TenantRow
from storage_operator.planning.tenant import DesiredTenant, ObservedSecret, TenantNames, plan_tenant
from storage_sql.stores import STORES_BY_NAME
from tests.plugins.installation import Installation
from tests.plugins.postgres import url_with

ALL_STORES = tuple(sorted(STORES_BY_NAME))


@dataclass(frozen=True, slots=True)
class Tenant:
    """One provisioned tenant and the ways in that its Secret would hold."""

    tenant_id: str
    login: str
    dsn: str = field(repr=False)
    verifier: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    capability: str = field(default="", repr=False)

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Open an autocommit session with the tenant's own credentials."""
        return psycopg.connect(self.dsn, autocommit=True, **options)


def row_of(tenant_id: str, *, isolation: str = "role", **declared: Any) -> TenantRow:
    """Return the control row of a tenant with every store, unless declared otherwise."""
    defaults: dict[str, Any] = {"namespace": "isolation", "name": tenant_id, "suspended": False, "stores": ALL_STORES}
    return TenantRow(tenant=tenant_id, isolation=isolation, **{**defaults, **declared})


def provision(installation: Installation, rows: Sequence[TenantRow], *, rotation: str | None = None) -> list[Tenant]:
    """Bring tenants to what their rows declare and return their credentials; ``rotation`` asks for a new one."""
    return asyncio.run(_provision(installation, rows, rotation))


async def _provision(made: Installation, rows: Sequence[TenantRow], rotation: str | None) -> list[Tenant]:
    facts = await identify(made.operator_dsn, made.schema)
    server = Server(address_of(made.operator_dsn, facts, made.schema, concurrency=2))
    try:
        installation = Provisioned(server, made.schema, facts)
        if any(row.isolation == "sealed" for row in rows):
            await installation.ensure_app()
        return [await _one(made, installation, row, rotation) for row in rows]
    finally:
        await server.close()


async def _one(made: Installation, installation: Provisioned, row: TenantRow, rotation: str | None) -> Tenant:
    roles = installation.roles
    names = TenantNames(
        login_a=roles.tenant_login(row.tenant, "a"),
        login_b=roles.tenant_login(row.tenant, "b"),
        shard=roles.shard(row.tenant),
        set_role=roles.store_set_bucket(row.stores, row.tenant),
        mark=roles.role_comment("tenant"),
    )
    desired = DesiredTenant(
        row=row, names=names, settings=(("search_path", f"{made.schema}, public"),), rotation_request=rotation
    )
    state = await provisioning.observe(installation, row.tenant, names)
    live = state.observed.live
    secret = None
    if rotation is not None:
        held = str(state.observed.capability_version) if row.isolation == "sealed" else live.digest if live else None
        user = roles.app if row.isolation == "sealed" else live.login if live else None
        secret = ObservedSecret(user, held, current=True)
    plan = plan_tenant(desired, state.observed, secret)
    assert not isinstance(plan, Conflict), plan
    credential = await provisioning.apply(installation, row.tenant, names, plan)
    if row.isolation == "sealed":
        return await _sealed(made, installation, row.tenant, names)
    assert credential is not None, "nothing was issued: ask for a rotation to provision a tenant again"
    return _with_login(made, row.tenant, credential)


def _with_login(made: Installation, tenant_id: str, issued: Credential) -> Tenant:
    dsn = made.database.dsn_as(issued.login, issued.password)
    return Tenant(tenant_id, issued.login, dsn, verifier=issued.verifier, password=issued.password)


async def _sealed(made: Installation, installation: Provisioned, tenant_id: str, names: TenantNames) -> Tenant:
    password = await installation.app_password()
    state = await provisioning.observe(installation, tenant_id, names)
    with made.connect(installation.roles.owner) as owner:
        derive = f"SELECT {made.schema}.capability(%s, %s)"
        row = owner.execute(derive.encode(), (tenant_id, state.observed.capability_version)).fetchone()
    assert row is not None
    dsn = url_with(made.database.dsn, user=installation.roles.app, password=password)
    return Tenant(tenant_id, installation.roles.app, dsn, password=password, capability=str(row[0]))
