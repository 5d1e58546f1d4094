"""Plan one tenant: its control row, its one or two logins, its membership, and when its credentials change.

The rules, in one place:

- A tenant id belongs to the namespace and name in its control row. Another resource is refused (``TenantIdTaken``),
  unless the row is only retained and the cluster grants the adoption.
- In role mode a tenant has one live login, in slot ``a`` or ``b``. A rotation makes the other slot's login and lets the
  former one live for the overlap; a login whose time is over is dropped.
- A lost or edited password is a rotation too: nobody knows the old one any more, and running sessions keep working.
- In sealed mode there is no login of its own; the capability's version is what rotates.
- A role that carries our hashed name without our mark is not ours: the plan is refused, never forced.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from storage_operator.planning.actions import (
    Action,
    AdvanceCapability,
    AlterLogin,
    BindLogin,
    Conflict,
    CreateLogin,
    CreateSet,
    DeleteRows,
    DropLogin,
    EndSessions,
    ForgetTenant,
    GrantSet,
    Plan,
    RetainTenant,
    RetireLogin,
    RevokeRole,
    SaveTenant,
    SetPassword,
    SetSettings,
    TenantRow,
)

SLOTS = ("a", "b")
ATTRIBUTES_DIFFER = "the role's attributes differ"
SETTINGS_DIFFER = "the role's settings differ"
SET_MISSING = "the role is not in its component set"
SET_FOREIGN = "the role is a member of what it was not given"
LOGIN_MISSING = "the tenant's login is gone"
SECRET_MISSING = "the Secret is missing"
SECRET_FOREIGN = "the Secret's credential is not the one that was issued"
SECRET_EDITED = "the Secret's other values differ"
UNBOUND = "no tenant is bound to the role"
DRIFT = frozenset(
    {
        ATTRIBUTES_DIFFER,
        SETTINGS_DIFFER,
        SET_MISSING,
        SET_FOREIGN,
        LOGIN_MISSING,
        SECRET_MISSING,
        SECRET_FOREIGN,
        UNBOUND,
    }
)
"""Why an action is drift: the catalog or the Secret changed, the declaration did not."""


@dataclass(frozen=True, slots=True)
class TenantNames:
    """The role names of one tenant in one installation (all hashes: names are readable in the catalogs)."""

    login_a: str
    login_b: str
    shard: str
    set_role: str
    mark: str

    def login(self, slot: str) -> str:
        """Return the login of a slot."""
        return self.login_a if slot == "a" else self.login_b

    @property
    def logins(self) -> tuple[str, str]:
        """Both logins, whether they exist or not."""
        return (self.login_a, self.login_b)


@dataclass(frozen=True, slots=True)
class DesiredTenant:
    """What the resource declares, resolved against its cluster.

    ``settings`` are the login's per-role defaults; intervals are seconds. ``rotation_request`` is the value of the
    rotate annotation when it has not been answered yet. ``repair`` False reports drift instead of ending it.
    """

    row: TenantRow
    names: TenantNames
    settings: tuple[tuple[str, str], ...] = ()
    rotation_interval_seconds: float | None = None
    rotation_overlap_seconds: float = 3600.0
    rotation_request: str | None = None
    may_adopt: bool = False
    repair: bool = True

    @property
    def can_login(self) -> bool:
        """A suspended tenant keeps its roles and cannot log in."""
        return not self.row.suspended


@dataclass(frozen=True, slots=True)
class ObservedRole:
    """A login role as ``pg_roles`` shows it."""

    name: str
    can_login: bool
    privileged: bool
    inherits: bool
    connection_limit: int
    settings: tuple[tuple[str, str], ...]
    member_of: frozenset[str]
    mark: str | None


@dataclass(frozen=True, slots=True)
class ObservedLogin:
    """A binding in ``tenant_logins``; ``digest`` is the SHA-256 of the password that was issued."""

    login: str
    slot: str
    digest: str | None
    retire_at: datetime | None


@dataclass(frozen=True, slots=True)
class ObservedTenant:
    """One tenant as the database holds it at ``now`` (the server's clock, so that hosts need not agree)."""

    now: datetime
    row: TenantRow | None = None
    state: str | None = None
    roles: tuple[ObservedRole, ...] = ()
    logins: tuple[ObservedLogin, ...] = ()
    set_exists: bool = False
    credential_changed_at: datetime | None = None
    capability_version: int = 0
    foreign_members: frozenset[str] = frozenset()

    def role(self, name: str) -> ObservedRole | None:
        """Return the role of this name."""
        return next((role for role in self.roles if role.name == name), None)

    def binding(self, login: str) -> ObservedLogin | None:
        """Return the binding of this login."""
        return next((bound for bound in self.logins if bound.login == login), None)

    @property
    def live(self) -> ObservedLogin | None:
        """The binding that applications should use: the one that does not retire."""
        return next((bound for bound in self.logins if bound.retire_at is None), None)


@dataclass(frozen=True, slots=True)
class ObservedSecret:
    """The application's Secret, reduced to what decides: whose login, which password, and whether the rest is right.

    ``current`` is False when any key other than the credential differs from what it should hold.
    """

    user: str | None
    digest: str | None
    current: bool


def ownership_conflict(desired: DesiredTenant, observed: ObservedTenant) -> Conflict | None:
    """Say why this resource may not have the tenant id or the roles, or None when it may."""
    row, wanted = observed.row, desired.row
    if row is not None and (row.namespace, row.name) != (wanted.namespace, wanted.name):
        if observed.state != "retained":
            return Conflict("TenantIdTaken", f"tenant id {wanted.tenant!r} belongs to another Tenant of this cluster")
        if not desired.may_adopt:
            return Conflict(
                "AdoptionNotGranted",
                f"tenant id {wanted.tenant!r} holds retained data of another Tenant; "
                "list it under spec.tenancy.adoptions of the StorageCluster to hand it over",
            )
    for role in observed.roles:
        if role.mark != desired.names.mark:
            return Conflict("ForeignRole", f"role {role.name} exists and was not created by this installation")
    return None


def plan_tenant(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> Plan | Conflict:
    """Return what makes ``observed`` equal to ``desired``; an empty plan when nothing differs."""
    conflict = ownership_conflict(desired, observed)
    if conflict is not None:
        return conflict
    actions = [*_foundation(desired, observed)]
    if desired.row.isolation == "sealed":
        plan = _sealed(desired, observed, secret)
    else:
        plan = _role(desired, observed, secret)
    actions.extend(plan.actions)
    settled = observed.row == desired.row and observed.state == "active"
    drift = _drift(plan) if settled else ()
    if drift and not desired.repair:
        kept = tuple(action for action in actions if action.why not in DRIFT)
        return Plan(kept, None, write_secret=False, drift=drift)
    return Plan(tuple(actions), plan.issues, plan.write_secret, drift)


def plan_deletion(desired: DesiredTenant, observed: ObservedTenant, *, delete_rows: bool) -> Plan | Conflict:
    """Return what takes the tenant away: its logins always, its rows only when the policy says so.

    Idempotent, and a success when nothing is left. What another resource owns is left alone.
    """
    if observed.row is None or ownership_conflict(desired, observed) is not None:
        return Plan()
    why = "the Tenant is deleted"
    names = desired.names
    present = tuple(login for login in names.logins if observed.role(login) or observed.binding(login))
    actions: list[Action] = []
    if present:
        actions += [
            AlterLogin(login, names.shard, can_login=False, connection_limit=None, why=why)
            for login in present
            if observed.role(login)
        ]
        actions.append(EndSessions(present, why))
        actions += [DropLogin(login, names.shard, why) for login in present]
    if delete_rows:
        actions += [DeleteRows(desired.row.tenant, why), ForgetTenant(desired.row.tenant, why)]
    elif observed.state != "retained":
        actions.append(RetainTenant(desired.row.tenant, "the deletion policy is Retain"))
    return Plan(tuple(actions))


def _drift(plan: Plan) -> tuple[str, ...]:
    """Name what differs although the declaration did not change."""
    found = dict.fromkeys(action.why for action in plan.actions if action.why in DRIFT)
    if plan.write_secret and plan.issues is None:
        found[SECRET_EDITED] = None
    return tuple(found)


def _foundation(desired: DesiredTenant, observed: ObservedTenant) -> list[Action]:
    actions: list[Action] = []
    if not observed.set_exists and desired.row.isolation == "role":
        actions.append(CreateSet(desired.names.set_role, desired.row.stores, "no tenant had this set of stores yet"))
    if observed.row is None:
        actions.append(SaveTenant(desired.row, new=True, why="the tenant is new"))
    elif observed.state != "active":
        actions.append(SaveTenant(desired.row, new=False, why="the tenant returns from retention"))
    elif observed.row != desired.row:
        actions.append(SaveTenant(desired.row, new=False, why="the declaration changed"))
    return actions


def _rotation_reason(
    desired: DesiredTenant,
    observed: ObservedTenant,
    secret: ObservedSecret | None,
    issued: str | None,
    user: str | None,
) -> str | None:
    """Why the credential must be new, or None when the one in the Secret is good."""
    if secret is None:
        return SECRET_MISSING
    if secret.digest is None or secret.digest != issued or secret.user != user:
        return SECRET_FOREIGN
    if desired.rotation_request is not None:
        return "rotation was asked for"
    due = desired.rotation_interval_seconds
    changed = observed.credential_changed_at
    if due is not None and changed is not None and observed.now - changed >= timedelta(seconds=due):
        return "the rotation interval is over"
    return None


def _role(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> Plan:
    names, live = desired.names, observed.live
    actions: list[Action] = []
    issues: str | None = None
    if live is None or observed.role(live.login) is None:
        slot = live.slot if live is not None else _free_slot(observed)
        why = "the tenant has no login yet" if live is None else LOGIN_MISSING
        actions += _new_login(desired, observed, slot, why)
        issues = names.login(slot)
    else:
        reason = _rotation_reason(desired, observed, secret, live.digest, live.login)
        actions += _attributes(desired, observed, live.login)
        if reason is not None:
            unpublished = reason == SECRET_FOREIGN and _is_retiring(observed, secret)
            slot = live.slot if unpublished else _other(live.slot)
            actions += _new_login(desired, observed, slot, reason)
            issues = names.login(slot)
            if not unpublished:
                retire_at = observed.now + timedelta(seconds=desired.rotation_overlap_seconds)
                actions.append(RetireLogin(live.login, retire_at, reason))
    actions += _retired(desired, observed, issues)
    if desired.row.suspended and (observed.row is None or not observed.row.suspended):
        present = tuple(role.name for role in observed.roles)
        if present:
            actions.append(EndSessions(present, "the tenant is suspended"))
    write = issues is not None or secret is None or not secret.current
    return Plan(tuple(actions), issues, write)


def _is_retiring(observed: ObservedTenant, secret: ObservedSecret | None) -> bool:
    """Whether the Secret still holds the former credential: the live one was made and never published.

    Then the live login's password is drawn again in place; taking the former slot would lock the application out.
    """
    return secret is not None and any(
        (bound.login, bound.digest) == (secret.user, secret.digest) for bound in observed.logins if bound.retire_at
    )


def _other(slot: str) -> str:
    return "b" if slot == "a" else "a"


def _free_slot(observed: ObservedTenant) -> str:
    used = {bound.slot for bound in observed.logins}
    return next((slot for slot in SLOTS if slot not in used), "a")


def _new_login(desired: DesiredTenant, observed: ObservedTenant, slot: str, why: str) -> list[Action]:
    """Make the slot's login usable with a new password, whether its role exists or not."""
    names, login = desired.names, desired.names.login(slot)
    if observed.role(login) is None:
        actions: list[Action] = [
            CreateLogin(login, names.shard, desired.can_login, desired.row.connection_limit, why),
            GrantSet(login, names.set_role, why),
        ]
        if desired.settings:
            actions.append(SetSettings(login, names.shard, desired.settings, why))
    else:
        actions = [SetPassword(login, names.shard, why), *_attributes(desired, observed, login)]
    actions.append(BindLogin(login, desired.row.tenant, slot, why))
    return actions


def _attributes(desired: DesiredTenant, observed: ObservedTenant, login: str) -> list[Action]:
    """Repair one existing role: attributes, settings, memberships, binding."""
    role = observed.role(login)
    if role is None:
        return []
    names, limit = desired.names, desired.row.connection_limit
    actions: list[Action] = []
    wanted = (desired.can_login, False, True, -1 if limit is None else limit)
    if (role.can_login, role.privileged, role.inherits, role.connection_limit) != wanted:
        actions.append(AlterLogin(login, names.shard, desired.can_login, limit, ATTRIBUTES_DIFFER))
    if dict(role.settings) != dict(desired.settings):
        actions.append(SetSettings(login, names.shard, desired.settings, SETTINGS_DIFFER))
    if names.set_role not in role.member_of:
        actions.append(GrantSet(login, names.set_role, SET_MISSING))
    actions += [RevokeRole(login, other, SET_FOREIGN) for other in sorted(role.member_of - {names.set_role})]
    return actions


def _retired(desired: DesiredTenant, observed: ObservedTenant, issues: str | None) -> list[Action]:
    """Keep logins that still overlap in order; drop those whose time is over and those bound to nothing."""
    actions: list[Action] = []
    bound = {login.login: login for login in observed.logins}
    for role in observed.roles:
        binding = bound.get(role.name)
        if role.name == issues:
            continue
        if binding is None:
            why = UNBOUND
        elif binding.retire_at is None:
            continue
        elif binding.retire_at > observed.now:
            actions += _attributes(desired, observed, role.name)
            continue
        else:
            why = "the rotation's overlap is over"
        actions += [EndSessions((role.name,), why), DropLogin(role.name, desired.names.shard, why)]
    for login in observed.logins:
        missing = observed.role(login.login) is None and login.login != issues
        if missing and login.retire_at is not None:
            actions.append(DropLogin(login.login, desired.names.shard, "the role is gone"))
    return actions


def _sealed(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> Plan:
    names = desired.names
    actions: list[Action] = []
    leftover = tuple(login for login in names.logins if observed.role(login) or observed.binding(login))
    if leftover:
        why = "a sealed tenant has no login of its own"
        actions.append(EndSessions(leftover, why))
        actions += [DropLogin(login, names.shard, why) for login in leftover]
    issued = str(observed.capability_version) if observed.row is not None else None
    reason = _rotation_reason(desired, observed, secret, issued, secret.user if secret else None)
    issues: str | None = None
    if observed.row is None or (secret is None and observed.state != "active"):
        issues = ""
    elif reason is not None and observed.row.isolation == "sealed" and observed.state == "active":
        compromised = reason == SECRET_FOREIGN
        overlap = timedelta(seconds=0 if compromised else desired.rotation_overlap_seconds)
        if secret is None:
            issues = ""  # the same capability can be written again: nothing but the Secret was lost
        else:
            actions.append(AdvanceCapability(desired.row.tenant, observed.now + overlap, reason))
            issues = ""
    elif reason is not None:
        issues = ""
    write = issues is not None or secret is None or not secret.current
    return Plan(tuple(actions), issues, write)
