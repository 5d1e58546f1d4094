# ruff: noqa: S105 - reasons, not passwords
"""Plan one tenant: its control row, its one or two logins, its membership, and when its credentials change.

The rules, in one place:

- A tenant id belongs to the namespace and name in its control row. Another resource is refused (``TenantIdTaken``),
  unless the row is only retained and the cluster grants the adoption.
- In role mode a tenant has one live login, in slot ``a`` or ``b``. A rotation makes the other slot's login and lets the
  former one live for the overlap; a login whose time is over is dropped.
- A lost or edited password is a rotation too: nobody knows the old one any more, and running sessions keep working.
- In sealed mode there is no login of its own; the capability's version is what rotates.
- A role that carries our hashed name without our mark is not ours: the plan is refused, never forced.
- A role that could not be dropped, because something in another database names it, is left behind without a way in; the
  tenant's next login takes it up again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    RevokeGrants,
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
GRANTED_DIRECTLY = "the role holds privileges of its own, beside its component set"
SECRET_UNWRITTEN = "the Secret was never written"
SECRET_BEHIND = "the Secret holds the former credential: writing it was interrupted"
SECRET_MISSING = "the Secret is missing"
PASSWORD_REFUSED = "the server refuses the password that was issued"
SECRET_FOREIGN = "the Secret's credential is not the one that was issued"
SECRET_EDITED = "the Secret's other values differ"
UNBOUND = "no tenant is bound to the role"
DRIFT = frozenset(
    {
        ATTRIBUTES_DIFFER,
        SETTINGS_DIFFER,
        SET_MISSING,
        SET_FOREIGN,
        GRANTED_DIRECTLY,
        PASSWORD_REFUSED,
        LOGIN_MISSING,
        SECRET_MISSING,
        SECRET_FOREIGN,
        UNBOUND,
    }
)
"""Why an action is drift: the catalog or the Secret changed, the declaration did not."""


_LEFT_BEHIND = " left behind"


def left_behind(mark: str) -> str:
    """Return the mark of a role that had to be dropped and could not be."""
    return mark + _LEFT_BEHIND


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
    the rotate annotation when it has not been answered yet. ``repair`` False reports drift instead of ending it.
    ``applied`` tells whether this declaration was carried out completely once: before that, nothing that differs is
    drift. ``delivered`` tells whether a Secret of this tenant was ever written: before that, nobody uses the credential.
    """

    row: TenantRow
    names: TenantNames
    settings: tuple[tuple[str, str], ...] = ()
    rotation_interval_seconds: float | None = None
    rotation_overlap_seconds: float = 3600.0
    rotation_request: str | None = None
    may_adopt: bool = False
    repair: bool = True
    applied: bool = True
    delivered: bool = True

    @property
    def can_login(self) -> bool:
        """A suspended tenant keeps its roles and cannot log in."""
        return not self.row.suspended


@dataclass(frozen=True, slots=True)
class ObservedRole:
    """A login role as ``pg_roles`` shows it.

    ``expires`` is a VALID UNTIL other than never; ``database_settings`` names the installation's database when settings
    for it hide those of the role; ``granted`` are (type, name) of what the role was granted directly.
    """

    name: str
    can_login: bool
    privileged: bool
    inherits: bool
    connection_limit: int
    settings: tuple[tuple[str, str], ...]
    member_of: frozenset[str]
    mark: str | None
    expires: bool = False
    database_settings: str | None = None
    granted: tuple[tuple[str, str], ...] = ()

    @property
    def left(self) -> bool:
        """Whether dropping it was tried and could not be done."""
        return self.mark is not None and self.mark.endswith(_LEFT_BEHIND)


@dataclass(frozen=True, slots=True)
class ObservedLogin:
    """A binding in ``tenant_logins``; ``digest`` is the SHA-256 of the password that was issued."""

    login: str
    slot: str
    digest: str | None
    retire_at: datetime | None


@dataclass(frozen=True, slots=True)
class ObservedTenant:
    """One tenant as the database holds it at ``now`` (the server's clock, so that hosts need not agree).

    ``sessions`` counts sessions of its logins, and is looked at only while the tenant is suspended.
    """

    now: datetime
    row: TenantRow | None = None
    state: str | None = None
    roles: tuple[ObservedRole, ...] = ()
    logins: tuple[ObservedLogin, ...] = ()
    set_exists: bool = False
    credential_changed_at: datetime | None = None
    capability_version: int = 0
    sessions: int = 0

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
        if role.mark not in {desired.names.mark, left_behind(desired.names.mark)}:
            return Conflict("ForeignRole", f"role {role.name} exists and was not created by this installation")
    return None


@dataclass(frozen=True, slots=True)
class _Draft:
    """The part of a plan that depends on the isolation mode; ``reason`` is why the credential must be new."""

    actions: tuple[Action, ...]
    issues: str | None
    write: bool
    reason: str | None


def plan_tenant(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> Plan | Conflict:
    """Return what makes ``observed`` equal to ``desired``; an empty plan when nothing differs."""
    conflict = ownership_conflict(desired, observed)
    if conflict is not None:
        return conflict
    if desired.row.isolation == "sealed":
        draft = _sealed(desired, observed, secret)
    else:
        draft = _role(desired, observed, secret)
    actions = (*_foundation(desired, observed), *draft.actions)
    drift = _drift(draft) if _settled(desired, observed) else ()
    if drift and not desired.repair:
        kept = tuple(action for action in actions if action.why not in DRIFT)
        lifecycle = draft.reason is not None and draft.reason not in DRIFT
        return Plan(kept, draft.issues if lifecycle else None, write_secret=lifecycle, drift=drift)
    return Plan(actions, draft.issues, draft.write, drift)


def remaining_drift(desired: DesiredTenant, observed: ObservedTenant) -> tuple[str, ...]:
    """Name what the catalog still shows after a plan was applied: what the operator's role may not change."""
    found = [action.why for bound in observed.logins for action in _attributes(desired, observed, bound.login)]
    return tuple(dict.fromkeys(found)) if desired.row.isolation == "role" else ()


def plan_refused_password(desired: DesiredTenant, observed: ObservedTenant) -> Plan:
    """Return what makes the server accept the issued password again: the login's own verifier, as it was recorded."""
    live = observed.live
    if live is None or observed.role(live.login) is None:
        return Plan()
    repair = SetPassword(live.login, desired.names.shard, PASSWORD_REFUSED)
    return Plan((repair,) if desired.repair else (), drift=(PASSWORD_REFUSED,))


def plan_deletion(desired: DesiredTenant, observed: ObservedTenant, *, delete_rows: bool) -> Plan | Conflict:
    """Return what takes the tenant away: its logins always, its rows only when the policy says so.

    Idempotent, and a success when nothing is left. What another resource owns, or a role without our mark, is left
    alone; what is ours goes even then.
    """
    row, wanted = observed.row, desired.row
    if row is None or (row.namespace, row.name) != (wanted.namespace, wanted.name):
        return Plan()
    why = "the Tenant is deleted"
    names = desired.names
    ours = {role.name for role in observed.roles if role.mark in {names.mark, left_behind(names.mark)}}
    bound = {login.login for login in observed.logins if observed.role(login.login) is None}
    present = tuple(login for login in names.logins if login in ours | bound)
    actions: list[Action] = []
    if present:
        actions += [
            AlterLogin(login, names.shard, can_login=False, connection_limit=None, why=why)
            for login in present
            if login in ours
        ]
        actions.append(EndSessions(present, why))
        actions += [DropLogin(login, names.shard, why) for login in present]
    if delete_rows:
        actions += [DeleteRows(wanted.tenant, why), ForgetTenant(wanted.tenant, why)]
    elif observed.state != "retained":
        actions.append(RetainTenant(wanted.tenant, "the deletion policy is Retain"))
    return Plan(tuple(actions))


def _settled(desired: DesiredTenant, observed: ObservedTenant) -> bool:
    """Whether the declaration had been carried out, so that what differs now is somebody else's doing."""
    return desired.applied and observed.row == desired.row and observed.state == "active"


def _drift(draft: _Draft) -> tuple[str, ...]:
    """Name what differs although the declaration did not change."""
    found = dict.fromkeys(action.why for action in draft.actions if action.why in DRIFT)
    if draft.reason in DRIFT:
        found[str(draft.reason)] = None
    elif draft.write and draft.issues is None:
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
        return SECRET_MISSING if desired.delivered else SECRET_UNWRITTEN
    if secret.digest is None or secret.digest != issued or secret.user != user:
        return SECRET_BEHIND if _behind(observed, secret) else SECRET_FOREIGN
    if desired.rotation_request is not None:
        return "rotation was asked for"
    due = desired.rotation_interval_seconds
    changed = observed.credential_changed_at
    if due is not None and changed is not None and observed.now - changed >= timedelta(seconds=due):
        return "the rotation interval is over"
    return None


def _behind(observed: ObservedTenant, secret: ObservedSecret) -> bool:
    """Whether the Secret holds a login that retires: a rotation ended before its Secret was written."""
    bound = observed.binding(secret.user or "")
    return bound is not None and bound.retire_at is not None and secret.digest == bound.digest is not None


def _role(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> _Draft:
    names, live = desired.names, observed.live
    actions: list[Action] = []
    strong = tuple(role.name for role in observed.roles if role.privileged)
    if strong:
        # Such attributes only a superuser takes away, but dropping the role needs none: it is made again.
        actions.append(EndSessions(strong, ATTRIBUTES_DIFFER))
        actions += [DropLogin(login, names.shard, ATTRIBUTES_DIFFER) for login in strong]
        if desired.repair or not _settled(desired, observed):
            observed = _without(observed, strong)  # under Report they are only named, and are still there
    reason: str | None
    issues: str | None = None
    if live is None or observed.role(live.login) is None:
        slot = live.slot if live is not None else _free_slot(observed)
        reason = LOGIN_MISSING if _settled(desired, observed) or live is not None else "the tenant has no login yet"
        actions += _new_login(desired, observed, slot, reason)
        issues = names.login(slot)
    else:
        reason = _rotation_reason(desired, observed, secret, live.digest, live.login)
        if reason in {SECRET_UNWRITTEN, SECRET_BEHIND}:
            # Nobody was told the live login's password: another one in its place costs no application anything.
            actions += _new_login(desired, observed, live.slot, str(reason))
            issues = live.login
        else:
            actions += _attributes(desired, observed, live.login)
        if reason is not None and issues is None:
            slot = "b" if live.slot == "a" else "a"
            actions += _new_login(desired, observed, slot, reason)
            issues = names.login(slot)
            retire_at = observed.now + timedelta(seconds=desired.rotation_overlap_seconds)
            actions.append(RetireLogin(live.login, retire_at, reason))
    actions += _retired(desired, observed, issues)
    present = tuple(role.name for role in observed.roles)
    newly = observed.row is None or not observed.row.suspended
    if desired.row.suspended and present and (newly or observed.sessions):
        actions.append(EndSessions(present, "the tenant is suspended"))
    write = issues is not None or secret is None or not secret.current
    return _Draft(tuple(actions), issues, write, reason)


def _without(observed: ObservedTenant, gone: tuple[str, ...]) -> ObservedTenant:
    """What is left once these roles are dropped; the live binding stands for the login that has to be made again."""
    return replace(
        observed,
        roles=tuple(role for role in observed.roles if role.name not in gone),
        logins=tuple(bound for bound in observed.logins if bound.login not in gone or bound.retire_at is None),
    )


def _free_slot(observed: ObservedTenant) -> str:
    used = {bound.slot for bound in observed.logins}
    return next((slot for slot in SLOTS if slot not in used), "a")


def _new_login(desired: DesiredTenant, observed: ObservedTenant, slot: str, why: str) -> list[Action]:
    """Make the slot's login usable with a new password, whether its role exists or not."""
    names, login = desired.names, desired.names.login(slot)
    if observed.role(login) is None:
        actions: list[Action] = [
            CreateLogin(login, names.shard, desired.can_login, desired.row.connection_limit, why),
        ]
        if desired.settings:
            actions.append(SetSettings(login, names.shard, desired.settings, why))
        actions.append(GrantSet(login, names.set_role, why, names.shard))
    else:
        actions = [SetPassword(login, names.shard, why), *_attributes(desired, observed, login, why)]
    actions.append(BindLogin(login, desired.row.tenant, slot, why))
    return actions


def _attributes(desired: DesiredTenant, observed: ObservedTenant, login: str, why: str | None = None) -> list[Action]:
    """Repair one existing role: attributes, settings, memberships, privileges; each for its own reason or for ``why``."""
    role = observed.role(login)
    if role is None:
        return []
    names, limit = desired.names, desired.row.connection_limit
    actions: list[Action] = []
    wanted = (desired.can_login, True, -1 if limit is None else limit, False)
    if (role.can_login, role.inherits, role.connection_limit, role.expires) != wanted:
        actions.append(AlterLogin(login, names.shard, desired.can_login, limit, why or ATTRIBUTES_DIFFER))
    if dict(role.settings) != dict(desired.settings) or role.database_settings is not None:
        reason = why or SETTINGS_DIFFER
        actions.append(SetSettings(login, names.shard, desired.settings, reason, role.database_settings))
    if names.set_role not in role.member_of:
        actions.append(GrantSet(login, names.set_role, why or SET_MISSING, names.shard))
    others = sorted(role.member_of - {names.set_role})
    actions += [RevokeRole(login, other, why or SET_FOREIGN, names.shard) for other in others]
    if role.granted:
        actions.append(RevokeGrants(login, role.granted, why or GRANTED_DIRECTLY))
    return actions


def _retired(desired: DesiredTenant, observed: ObservedTenant, issues: str | None) -> list[Action]:
    """Keep logins that still overlap in order; drop those whose time is over and those bound to nothing."""
    actions: list[Action] = []
    bound = {login.login: login for login in observed.logins}
    for role in observed.roles:
        binding = bound.get(role.name)
        if role.name == issues or (role.left and binding is None):
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


def _sealed(desired: DesiredTenant, observed: ObservedTenant, secret: ObservedSecret | None) -> _Draft:
    names, row = desired.names, observed.row
    actions: list[Action] = []
    standing = {role.name for role in observed.roles if not role.left}
    leftover = tuple(login for login in names.logins if login in standing or observed.binding(login))
    if leftover:
        why = "a sealed tenant has no login of its own"
        actions.append(EndSessions(leftover, why))
        actions += [DropLogin(login, names.shard, why) for login in leftover]
    if row is None or row.isolation != "sealed" or observed.state != "active":
        return _Draft(tuple(actions), "", write=True, reason="the tenant has no capability yet")
    version = str(observed.capability_version)
    reason = _rotation_reason(desired, observed, secret, version, secret.user if secret else None)
    if reason == SECRET_FOREIGN and secret is not None and secret.digest is not None:
        reason = SECRET_BEHIND  # a genuine capability of a former version
    if reason in {SECRET_MISSING, SECRET_UNWRITTEN, SECRET_BEHIND}:
        pass  # nothing but the Secret was lost: the same capability is written again
    elif reason is not None:
        overlap = timedelta(seconds=0 if reason == SECRET_FOREIGN else desired.rotation_overlap_seconds)
        actions.append(AdvanceCapability(desired.row.tenant, observed.now + overlap, reason))
    issues = None if reason is None else ""
    write = issues is not None or secret is None or not secret.current
    return _Draft(tuple(actions), issues, write, reason)
