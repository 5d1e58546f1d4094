"""A database in memory: what each action of a tenant's plan does, as far as planning can see it.

The model is the tests' second opinion. It knows passwords, so that "who can log in as whom" is decided by it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from storage_operator.planning.actions import (
    Action,
    AdvanceCapability,
    AlterLogin,
    BindLogin,
    CreateLogin,
    CreateSet,
    DeleteRows,
    DropLogin,
    EndSessions,
    ForgetTenant,
    GrantSet,
    RetainTenant,
    RetireLogin,
    RevokeGrants,
    RevokeRole,
    SaveTenant,
    SetPassword,
    SetSettings,
    TenantRow,
)
from storage_operator.planning.tenant import (
    DesiredTenant,
    ObservedLogin,
    ObservedRole,
    ObservedSecret,
    ObservedTenant,
    TenantNames,
)

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MARK = "llmspell-storage abcdefgh tenant"
PREFIX = "llmspell_abcdefgh"


def digest(password: str) -> str:
    """Return what the control table keeps of a password."""
    return hashlib.sha256(password.encode()).hexdigest()


def names_of(tenant: str, stores: Iterable[str] = ("kv",)) -> TenantNames:
    """Return role names that tell the tenant, so that a failing test reads well."""
    return TenantNames(
        login_a=f"{PREFIX}_t_{tenant}_a",
        login_b=f"{PREFIX}_t_{tenant}_b",
        shard=f"{PREFIX}_admin_{len(tenant) % 64:02d}",
        set_role=f"{PREFIX}_set_{'_'.join(sorted(stores))}",
        mark=MARK,
    )


def row_of(tenant: str, **declared: object) -> TenantRow:
    """Return a tenant's declared row."""
    given = {"namespace": "team", "name": tenant, "isolation": "role", "suspended": False, "stores": ("kv",)}
    return TenantRow(tenant=tenant, **{**given, **declared})  # type: ignore[arg-type]


def desired_of(tenant: str = "acme", **given: object) -> DesiredTenant:
    """Return a declaration: fields of the row and of the declaration by name."""
    fields = {name for name in DesiredTenant.__slots__ if name != "row"}
    row = row_of(tenant, **{name: value for name, value in given.items() if name not in fields})
    rest = {name: value for name, value in given.items() if name in fields}
    return DesiredTenant(**{"row": row, "names": names_of(tenant, row.stores), "settings": (("x", "1"),), **rest})  # type: ignore[arg-type]


@dataclass(slots=True)
class Control:
    """A row of ``tenants``."""

    row: TenantRow
    state: str = "active"
    changed_at: datetime | None = None
    capability: int = 1
    previous: int | None = None
    previous_until: datetime | None = None


@dataclass(slots=True)
class Binding:
    """A row of ``tenant_logins``."""

    tenant: str
    slot: str
    digest: str
    verifier: str
    retire_at: datetime | None = None


@dataclass(slots=True)
class Secret:
    """The application's Secret as the model keeps it."""

    user: str
    credential: str
    rest: str = "right"


@dataclass(slots=True)
class ModelDatabase:
    """Roles, bindings, control rows and tenants' own rows; ``touched`` logs every role and tenant that was changed."""

    now: datetime = EPOCH
    roles: dict[str, ObservedRole] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    bindings: dict[str, Binding] = field(default_factory=dict)
    tenants: dict[str, Control] = field(default_factory=dict)
    sets: set[str] = field(default_factory=set)
    data: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    touched: list[str] = field(default_factory=list)
    versions: int = 0

    def _version(self) -> int:
        """Return a capability version that was never given before."""
        self.versions += 1
        return self.versions

    def observe(self, tenant: str, names: TenantNames) -> ObservedTenant:
        """Return what one observation shows of a tenant."""
        control = self.tenants.get(tenant)
        logins = tuple(
            ObservedLogin(login, bound.slot, bound.digest, bound.retire_at)
            for login, bound in sorted(self.bindings.items())
            if bound.tenant == tenant
        )
        suspended = control is not None and control.row.suspended
        return ObservedTenant(
            now=self.now,
            row=control and control.row,
            state=control and control.state,
            roles=tuple(self.roles[login] for login in names.logins if login in self.roles),
            logins=logins,
            set_exists=names.set_role in self.sets,
            credential_changed_at=control and control.changed_at,
            capability_version=control.capability if control else 0,
            sessions=sum(self.sessions.get(login, 0) for login in names.logins) if suspended else 0,
        )

    def observe_secret(self, tenant: str, secret: Secret | None, *, sealed: bool) -> ObservedSecret | None:
        """Reduce a Secret as the operator does."""
        if secret is None:
            return None
        if not sealed:
            return ObservedSecret(secret.user, digest(secret.credential), secret.rest == "right")
        control = self.tenants.get(tenant)
        genuine = secret.credential.rpartition("/")[0] == tenant
        version = secret.credential.rpartition("/")[2] if genuine else None
        current = control is not None and version == str(control.capability)
        return ObservedSecret(secret.user, version, current and secret.rest == "right")

    def opens(self, secret: Secret | None) -> str | None:
        """Say whose rows the bearer of a Secret reads now; None when the door is shut."""
        if secret is None:
            return None
        if secret.user == "app":
            tenant, _, version = secret.credential.rpartition("/")
            control = self.tenants.get(tenant)
            if control is None or control.state != "active" or control.row.suspended:
                return None
            live = {str(control.capability)} if control.row.isolation == "sealed" else set()
            if (
                control.previous is not None
                and control.previous_until is not None
                and control.previous_until > self.now
            ):
                live.add(str(control.previous))
            return tenant if version in live else None
        role, bound = self.roles.get(secret.user), self.bindings.get(secret.user)
        if role is None or not role.can_login or self.passwords.get(secret.user) != secret.credential or bound is None:
            return None
        control = self.tenants[bound.tenant]
        over = bound.retire_at is not None and bound.retire_at <= self.now
        return None if over or control.state != "active" or control.row.suspended else bound.tenant

    def apply(self, action: Action, names: TenantNames, drawn: Mapping[str, str]) -> None:  # noqa: C901, PLR0912 - one case an action
        """Carry one action out; ``drawn`` maps a login to its new clear password."""
        match action:
            case CreateSet(role=role):
                self.sets.add(role)
            case SaveTenant(row=row, new=new):
                self.touched.append(row.tenant)
                assert new == (row.tenant not in self.tenants), "the primary key refuses"
                if new:
                    self.tenants[row.tenant] = Control(row, capability=self._version())
                control = self.tenants[row.tenant]
                mine = (control.row.namespace, control.row.name) == (row.namespace, row.name)
                assert mine or control.state == "retained", "an active tenant changes hands"
                control.row, control.state = row, "active"
            case CreateLogin(login=login, can_login=can_login, connection_limit=limit):
                assert login not in self.roles, "the role exists"
                limit = -1 if limit is None else limit
                self._put(ObservedRole(login, can_login, False, True, limit, (), frozenset(), names.mark))
                self.passwords[login] = drawn[login]
            case AlterLogin(login=login, can_login=can_login, connection_limit=limit):
                limit = -1 if limit is None else limit
                self._change(
                    login, can_login=can_login, connection_limit=limit, privileged=False, inherits=True, expires=False
                )
            case SetPassword(login=login):
                self._change(login)
                self.passwords[login] = drawn.get(login) or self.bindings[login].verifier
            case SetSettings(login=login, settings=settings):
                self._change(login, settings=settings, database_settings=None)
            case GrantSet(login=login, role=role):
                assert role in self.sets, "the set does not exist"
                self._change(login, member_of=self.roles[login].member_of | {role})
            case RevokeRole(login=login, role=role):
                self._change(login, member_of=self.roles[login].member_of - {role})
            case RevokeGrants(login=login):
                self._change(login, granted=())
            case BindLogin(login=login, tenant=tenant, slot=slot):
                password = drawn[login]
                self.bindings[login] = Binding(tenant, slot, digest(password), password)
                self.tenants[tenant].changed_at = self.now
            case RetireLogin(login=login, retire_at=retire_at):
                self.bindings[login].retire_at = retire_at
            case EndSessions(logins=logins):
                for login in logins:
                    self.sessions.pop(login, None)
            case DropLogin(login=login):
                self.touched.append(login)
                assert not self.sessions.get(login), "sessions are open"
                self.bindings.pop(login, None)
                self.roles.pop(login, None)
                self.passwords.pop(login, None)
            case _:
                self._apply_tenant(action)

    def _apply_tenant(self, action: Action) -> None:
        match action:
            case AdvanceCapability(tenant=tenant, previous_expires_at=until):
                control = self.tenants[tenant]
                control.previous, control.previous_until = control.capability, until
                control.capability = self._version()
                control.changed_at = self.now
            case RetainTenant(tenant=tenant):
                control = self.tenants[tenant]
                control.state, control.previous = "retained", None
                control.capability = self._version()
            case DeleteRows(tenant=tenant):
                self.data.pop(tenant, None)
            case ForgetTenant(tenant=tenant):
                assert not any(bound.tenant == tenant for bound in self.bindings.values()), "a foreign key refuses"
                del self.tenants[tenant]
            case _:
                raise AssertionError(f"the model does not know {action}")
        self.touched.append(tenant)

    def pass_time(self, seconds: float) -> None:
        """Let the server's clock run."""
        self.now += timedelta(seconds=seconds)

    def drift(self, login: str, **changed: object) -> None:
        """Change a role behind the operator's back."""
        self.roles[login] = replace(self.roles[login], **changed)  # type: ignore[arg-type]

    def _change(self, login: str, **changed: object) -> None:
        self._put(replace(self.roles[login], **changed))  # type: ignore[arg-type]

    def _put(self, role: ObservedRole) -> None:
        assert role.mark == MARK, f"{role.name} is not ours"
        self.touched.append(role.name)
        self.roles[role.name] = role
