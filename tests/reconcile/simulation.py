"""The real tenant reconciler on a model database and a world in memory, driven by one seed.

Everything that happens is drawn from the seed: manifests, edits, deletions, lost and edited Secrets, drift, time,
deliveries in any order and twice, and crashes between any two changes, after which the process's memory is gone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from storage_operator.adapters.postgres.credentials import Credential, ScramKeys
from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.probe import Verdict
from storage_operator.adapters.postgres.tenants import SessionsRemain, TenantState, Usage
from storage_operator.planning.actions import DeleteRows, EndSessions, Plan
from storage_operator.planning.secret import Target
from storage_operator.planning.tenant import ObservedRole, TenantNames
from storage_operator.reconcile import Reconciler, tenants
from storage_operator.reconcile.fleet import Tended
from storage_operator.resources.cluster import StorageClusterSpec, parse
from storage_operator.resources.kinds import Kind
from storage_operator.world import Key
from storage_sql.roles import RoleNames
from storage_sql.stores import STORES_BY_NAME
from tests.planning.model import ModelDatabase, Secret, digest
from tests.reconcile.world import MemoryWorld, condition

ROLES = RoleNames("abcdefgh")
CLUSTERS = ("north", "south")
IDS = ("acme", "globex", "initech", "squatted")
NAMESPACES = ("red", "blue")
NAMES = ("one", "two", "three")
SETTLED = {"Ready", "Suspended", "TenantIdTaken", "AdoptionNotGranted", "ForeignRole"}


class Crash(BaseException):
    """The process ends here."""


@dataclass(slots=True)
class FakeInstallation:
    """What a tenant's reconcile asks of an installation, on the model."""

    database: ModelDatabase
    roles: RoleNames = ROLES
    schema: str = "llmspell"

    async def app_password(self) -> str:
        """Return the shared login's password."""
        return "app-password"


@dataclass(frozen=True, slots=True)
class Issued:
    """One credential that a Secret once carried, and to whom it was given."""

    cluster: str
    tenant: str
    owner: tuple[str, str]
    secret: Secret


@dataclass(slots=True)
class Simulation:
    """One run."""

    seed: int
    random: random.Random = field(init=False)
    world: MemoryWorld = field(default_factory=MemoryWorld)
    databases: dict[str, ModelDatabase] = field(default_factory=dict)
    reconciler: Reconciler = field(init=False)
    fuse: int | None = None
    issued: list[Issued] = field(default_factory=list)
    drawn: int = 0
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the clusters and the foreign roles."""
        self.random = random.Random(self.seed)
        self.reconciler = Reconciler(self.world, release="test", holder="test")
        self.reconciler.context.clock = self._clock
        self.world.before = self._tick
        for name in CLUSTERS:
            policy = "Repair" if self.random.random() < 0.7 else "Report"
            spec = {
                "connection": {"secretRef": {"name": "admin"}},
                "tenancy": {
                    "allowedNamespaces": [{"from": "All"}],
                    "isolationModes": ["Role", "Sealed"],
                    "adoptions": [{"tenantId": "acme", "namespace": "blue"}],
                },
                "drift": {"policy": policy},
            }
            key = self.world.put(Kind.STORAGE_CLUSTER, "llmspell", name, spec)
            parsed = parse(self.world.bodies[key])
            assert isinstance(parsed, StorageClusterSpec)
            self.databases[name] = ModelDatabase()
            foreign = ROLES.tenant_login("squatted", "a")
            self.databases[name].roles[foreign] = foreign_role(foreign)
            target = Target(name, 5432, "db", "prefer")
            installation: Any = FakeInstallation(self.databases[name])
            entry = Tended(key, parsed, installation, f"host={name} dbname=db user=op", target, True, True)
            self.reconciler.context.fleet._tended[key] = entry

    def _clock(self) -> datetime:
        return self.databases[CLUSTERS[0]].now

    def _tick(self, _what: str) -> None:
        if self.fuse is None:
            return
        if self.fuse == 0:
            self.fuse = None
            raise Crash
        self.fuse -= 1

    async def observe(self, installation: FakeInstallation, tenant: str, names: TenantNames) -> TenantState:
        """Look at the model."""
        await asyncio.sleep(0)
        observed = installation.database.observe(tenant, names)
        control = installation.database.tenants.get(tenant)
        sealed = control is not None and control.row.isolation == "sealed"
        capability = f"v{control.capability}.{tenant}" if control is not None and sealed else None
        former = f"v{control.previous}.{tenant}" if control is not None and sealed and control.previous else None
        usage = Usage(None, None, None, over_quota=False)
        return TenantState(observed, usage, 15, frozenset(STORES_BY_NAME), capability, former)

    async def apply(
        self, installation: FakeInstallation, tenant: str, names: TenantNames, plan: Plan
    ) -> Credential | None:
        """Change the model: what stands between two ends of sessions holds together, or not at all."""
        drawn = {}
        if plan.issues:
            drawn = {plan.issues: f"password-{self.drawn}"}
            self.drawn += 1
        self._tick("apply")
        for action in plan.actions:
            if isinstance(action, (EndSessions, DeleteRows)):
                self._tick("before")
            installation.database.apply(action, names, drawn)
            if isinstance(action, (EndSessions, DeleteRows)):
                self._tick("after")
        self._tick("applied")
        assert tenant
        if not plan.issues:
            return None
        password = drawn[plan.issues]
        return Credential(plan.issues, password, password, digest(password), ScramKeys(password, password))

    async def probe(
        self, installation: FakeInstallation, conninfo: str, tenant: str, capability: str = "", _store: str = ""
    ) -> Verdict:
        """Log in to the model."""
        login = conninfo_to_dict(conninfo)
        secret = credential_of(str(login["user"]), str(login.get("password") or login["scram_client_key"]), capability)
        if installation.database.opens(secret) != tenant:
            raise DatabaseFault("AuthenticationFailed", "password authentication failed", connection=True)
        return Verdict(isolated=True, message="isolated")

    async def deliver(self, key: Key) -> str:
        """Reconcile one key; a crash takes the process's memory and nothing else."""
        try:
            result = (await self.reconciler.reconcile(key)).result
        except Crash:
            result = "crashed"
            for entry in self.reconciler.context.fleet.all():
                entry.pending.clear()
        self.log.append(f"{key}: {result}")
        self._remember()
        return result

    def _remember(self) -> None:
        bodies = {body["metadata"]["uid"]: body for body in self.world.list(Kind.TENANT)}
        for secret in self.world.secrets.values():
            body = bodies.get(secret.owner_uid or "")
            if body is None or b"user" not in {name.encode() for name in secret.data}:
                continue
            known = credential_of(*(secret.data.get(name, b"").decode() for name in ("user", "password", "capability")))
            if known.credential.startswith("edited"):
                continue
            metadata = body["metadata"]
            owner = (metadata["namespace"], metadata["name"])
            entry = Issued(body["spec"]["clusterRef"]["name"], body["spec"]["tenantId"], owner, known)
            if entry not in self.issued:
                self.issued.append(entry)

    def change(self) -> None:
        """Let something happen."""
        kind = self.random.choice(["apply", "apply", "apply", "rotate", "delete", "secret", "drift", "time", "session"])
        getattr(self, f"_{kind}")()

    def _apply(self) -> None:
        namespace, name = self.random.choice(NAMESPACES), self.random.choice(NAMES)
        former = self.world.bodies.get(Key(Kind.TENANT, namespace, name))
        if former is not None and former["metadata"].get("deletionTimestamp"):
            return
        sealed = self.random.random() < 0.3
        spec: dict[str, Any] = {
            "tenantId": former["spec"]["tenantId"] if former else self.random.choice(IDS),
            "clusterRef": former["spec"]["clusterRef"]
            if former
            else {"name": self.random.choice(CLUSTERS), "namespace": "llmspell"},
            "isolation": "Sealed" if sealed else "Role",
            "components": self.random.choice([["KV"], ["KV", "Graph"]]),
            "suspended": self.random.random() < 0.15,
            "deletionPolicy": self.random.choice(["Retain", "Delete"]),
            "credentials": {
                "secretName": self.random.choice(["creds", f"{name}-storage"]) if name == "one" else f"{name}-storage",
                "rotation": {"overlap": self.random.choice(["1m", "1h"])},
            },
        }
        if not sealed:
            spec["quotas"] = {"connections": self.random.randint(1, 3)}
        self.world.put(Kind.TENANT, namespace, name, spec)

    def _tenant(self) -> Key | None:
        keys = [key for key in self.world.bodies if key.kind is Kind.TENANT]
        return self.random.choice(keys) if keys else None

    def _rotate(self) -> None:
        key = self._tenant()
        if key is not None:
            self.world.put(key.kind, key.namespace, key.name, self.world.bodies[key]["spec"], rotate=str(self.drawn))

    def _delete(self) -> None:
        key = self._tenant()
        if key is not None:
            self.world.delete(key)

    def _secret(self) -> None:
        if not self.world.secrets:
            return
        place = self.random.choice(sorted(self.world.secrets))
        found = self.world.secrets[place]
        if self.random.random() < 0.5:
            del self.world.secrets[place]
        else:
            name = self.random.choice(["password", "host", "user", "capability"])
            data = {**found.data, name: b"edited"}
            self.world.secrets[place] = replace(found, data=data, resource_version=f"e{len(self.log)}")

    def _drift(self) -> None:
        database = self.databases[self.random.choice(CLUSTERS)]
        ours = [name for name, role in database.roles.items() if role.mark == ROLES.role_comment("tenant")]
        if not ours:
            return
        login = self.random.choice(sorted(ours))
        what = self.random.randrange(6)
        if what == 0:
            database.bindings.pop(login, None)
        elif what == 1:
            database.passwords[login] = "changed by its holder"
        else:
            bends: list[Mapping[str, Any]] = [
                {"can_login": False},
                {"settings": ()},
                {"member_of": frozenset({"boss"})},
                {"privileged": True},
            ]
            database.drift(login, **bends[what - 2])

    def _time(self) -> None:
        seconds = self.random.choice([1, 61, 3601])
        for database in self.databases.values():
            database.pass_time(seconds)

    def _session(self) -> None:
        database = self.databases[self.random.choice(CLUSTERS)]
        able = [login for login, role in database.roles.items() if role.can_login and login in database.bindings]
        if able:
            database.sessions[self.random.choice(sorted(able))] = 1

    async def run(self, steps: int) -> None:
        """Let things happen and deliver some of it, then deliver everything until nothing moves."""
        for _ in range(steps):
            self.change()
            keys = [key for key in self.world.bodies if key.kind is Kind.TENANT]
            for key in self.random.choices(keys, k=min(2, len(keys))) if keys else []:
                self.fuse = self.random.randint(0, 8) if self.random.random() < 0.3 else None
                await self.deliver(key)
                self.fuse = None
        await self.settle()

    async def settle(self) -> None:
        """Deliver every key until a whole round changes nothing; probes are due, so that every door is tried."""
        self.reconciler.context.probe_interval_seconds = 0.0
        for _ in range(12):
            keys = [key for key in self.world.bodies if key.kind is Kind.TENANT]
            results = {await self.deliver(key) for key in self.random.sample(keys, len(keys))}
            if results <= {"unchanged", "refused"}:
                return
        raise AssertionError(f"seed {self.seed} does not settle: {self.log[-12:]}")


def foreign_role(name: str) -> ObservedRole:
    """A role of somebody else's under a name of ours."""
    return ObservedRole(name, True, False, True, -1, (), frozenset(), None)


def credential_of(user: str, password: str, capability: str) -> Secret:
    """Write a credential as the model does."""
    if not capability:
        return Secret(user, password)
    version, _, tenant = capability.removeprefix("v").partition(".")
    return Secret("app", f"{tenant}/{version}" if tenant else "edited")


async def _none_left(_installation: object) -> tuple[()]:
    """The model's database is one of its own: no other one can keep a role from being dropped."""
    return ()


@contextmanager
def simulated(seed: int) -> Iterator[Simulation]:
    """Give a simulation whose database is the model."""
    simulation = Simulation(seed)
    database = SimpleNamespace(
        observe=simulation.observe, apply=simulation.apply, SessionsRemain=SessionsRemain, TenantState=TenantState
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tenants, "database", database)
        patch.setattr(tenants, "probe_role", simulation.probe)
        patch.setattr(tenants, "probe_sealed", simulation.probe)
        patch.setattr(tenants, "left_roles", _none_left)
        yield simulation


def check(simulation: Simulation) -> None:
    """Assert everything that holds once nothing moves any more."""
    for body in simulation.world.list(Kind.TENANT):
        _check_tenant(simulation, body)
    for entry in simulation.issued:
        database = simulation.databases[entry.cluster]
        opened = database.opens(entry.secret)
        assert opened in {None, entry.tenant}, f"{entry} opens {opened}"
        if opened is not None:
            row = database.tenants[opened].row
            assert (row.namespace, row.name) == entry.owner, f"{entry} opens what {row.namespace}/{row.name} owns"
    for database in simulation.databases.values():
        foreign = ROLES.tenant_login("squatted", "a")
        assert database.roles[foreign] == foreign_role(foreign)
        assert foreign not in database.touched
        for login, bound in database.bindings.items():
            control = database.tenants[bound.tenant]
            assert control.state == "active", f"{login} outlived its tenant"
            assert ROLES.tenant_login(bound.tenant, bound.slot) == login


def _check_tenant(simulation: Simulation, body: Any) -> None:
    status, reason = condition(body, "Ready")
    spec, metadata = body["spec"], body["metadata"]
    reporting = simulation.reconciler.context.fleet.get(
        Key(Kind.STORAGE_CLUSTER, "llmspell", spec["clusterRef"]["name"])
    )
    assert reporting is not None
    allowed = SETTLED if reporting.repairs else SETTLED | {"DriftFound", "ProbeFailed"}
    assert reason in allowed, body.get("status")
    if status != "True":
        return
    database = simulation.databases[spec["clusterRef"]["name"]]
    row = database.tenants[spec["tenantId"]].row
    assert (row.namespace, row.name) == (metadata["namespace"], metadata["name"])
    data = simulation.world.secrets[metadata["namespace"], spec["credentials"]["secretName"]].data
    held = credential_of(*(data.get(name, b"").decode() for name in ("user", "password", "capability")))
    assert database.opens(held) == spec["tenantId"]
    assert row.suspended is False
