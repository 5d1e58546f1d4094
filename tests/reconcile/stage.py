"""A reconciler on a real database and a world in memory: what the tests of provisioning stand on."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg

from storage_operator.adapters.postgres.installation import Installation as Tended
from storage_operator.adapters.postgres.probe import plant_canary
from storage_operator.reconcile import Reconciler
from storage_operator.reconcile.report import Report
from storage_operator.resources.cluster import StorageClusterSpec, parse
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key, Outcome
from tests.plugins.installation import Installation
from tests.reconcile.world import MemoryWorld, condition, message

CLUSTER_NAMESPACE = "llmspell"
NAMESPACE = "team"
ALL_FROM = {"allowedNamespaces": [{"from": "All"}], "isolationModes": ["Role", "Sealed"]}


class Stage:
    """One StorageCluster named ``main``, whose tenants are applied, bent, crashed and looked at."""

    def __init__(self, installation: Installation, **cluster: Any) -> None:
        """Take a database; nothing is reached yet."""
        self.installation = installation
        self.world = MemoryWorld()
        self.reconciler = Reconciler(self.world, release="test", holder="test")
        self.world.secret(CLUSTER_NAMESPACE, "admin", {"dsn": installation.operator_dsn.encode()})
        spec = {"connection": {"secretRef": {"name": "admin"}}, "tenancy": ALL_FROM, **cluster}
        self.cluster = self.world.put(Kind.STORAGE_CLUSTER, CLUSTER_NAMESPACE, "main", spec)

    async def contact(self) -> Tended:
        """Reach the database and lead there, without the work of a whole cluster reconcile."""
        body = self.world.bodies[self.cluster]
        spec = parse(body)
        assert isinstance(spec, StorageClusterSpec), spec
        tended = await self.reconciler.clusters.contact(self.cluster, spec, Report(Kind.STORAGE_CLUSTER, body))
        await tended.installation.take_lead("test")
        tended.serving = tended.sound = True
        await plant_canary(tended.installation)
        return tended.installation

    @property
    def tended(self) -> Tended:
        """The installation as the operator works on it."""
        entry = self.reconciler.context.fleet.get(self.cluster)
        assert entry is not None
        return entry.installation

    def tenant(self, tenant: str, *, namespace: str = NAMESPACE, name: str | None = None, **spec: Any) -> Key:
        """Apply a Tenant; ``rotate`` is the annotation."""
        notes = {"rotate": str(spec.pop("rotate"))} if "rotate" in spec else {}
        reference = {"name": "main", "namespace": CLUSTER_NAMESPACE}
        declared = {"tenantId": tenant, "clusterRef": reference, **spec}
        return self.world.put(Kind.TENANT, namespace, name or tenant, declared, **notes)

    def component(self, store: str, **spec: Any) -> Key:
        """Apply a StorageComponent."""
        declared = {"clusterRef": {"name": "main"}, "store": store, **spec}
        return self.world.put(Kind.STORAGE_COMPONENT, CLUSTER_NAMESPACE, store.lower(), declared)

    async def run(self, key: Key) -> Outcome:
        """Reconcile once."""
        return await self.reconciler.reconcile(key)

    async def ready(self, tenant: str, **spec: Any) -> Key:
        """Apply a Tenant and see it become Ready."""
        key = self.tenant(tenant, **spec)
        await self.run(key)
        assert self.condition(key) == ("True", "Ready"), self.world.bodies[key].get("status")
        return key

    def condition(self, key: Key, type_: str = "Ready") -> tuple[str, str]:
        """Return (status, reason)."""
        return condition(self.world.bodies.get(key), type_)

    def message(self, key: Key, type_: str) -> str:
        """Return a condition's message."""
        return message(self.world.bodies.get(key), type_)

    def secret(self, key: Key, name: str | None = None) -> Mapping[str, bytes]:
        """Return the application's Secret."""
        return self.world.secrets[key.namespace, name or f"{key.name}-storage"].data

    def dsn(self, key: Key) -> str:
        """Return the DSN that the application reads from its Secret."""
        return self.secret(key)["dsn"].decode()

    def login(self, tenant: str, slot: str = "a") -> str:
        """Return a login role's name."""
        return self.installation.names.tenant_login(tenant, slot)

    def superuser(self, statement: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Do or look at something behind the operator's back."""
        with psycopg.connect(self.installation.superuser_dsn, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params)
            return cursor.fetchall() if cursor.description else []


def opens(dsn: str, tenant: str | None = None) -> bool:
    """Whether a DSN logs in and is bound (to this tenant, when one is named)."""
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute("SELECT llmspell.current_tenant()").fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and (row[0] == tenant if tenant is not None else row[0] is not None)


def digest(value: bytes) -> str:
    """Return what the control table keeps of a password."""
    return hashlib.sha256(value).hexdigest()


@asynccontextmanager
async def staged(installation: Installation, **cluster: Any) -> AsyncIterator[Stage]:
    """Give a stage that is connected, and close its sessions."""
    stage = Stage(installation, **cluster)
    await stage.contact()
    try:
        yield stage
    finally:
        await stage.reconciler.close()
