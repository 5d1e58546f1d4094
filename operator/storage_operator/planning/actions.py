"""The closed set of changes that the operator makes to a database, each a frozen value with a reason.

An action says what changes, never how: ``adapters.postgres.statements`` renders it to SQL. Values are plain names and
numbers; secrets do not occur, because a plan is printed. A new login's verifier joins when the plan is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant's row in the control table ``tenants``, as far as it is declared by its resource.

    Time limits are milliseconds, memory is kilobytes, the quota is bytes; None means "not limited here".
    """

    tenant: str
    namespace: str
    name: str
    isolation: str
    suspended: bool
    stores: tuple[str, ...]
    statement_timeout_ms: int | None = None
    lock_timeout_ms: int | None = None
    idle_in_transaction_timeout_ms: int | None = None
    work_mem_kb: int | None = None
    connection_limit: int | None = None
    quota_bytes: int | None = None
    quota_enforced: bool = False


@dataclass(frozen=True, slots=True)
class CreateSet:
    """Create the NOLOGIN role that holds the privileges of a distinct set of stores."""

    role: str
    stores: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class SaveTenant:
    """Insert (``new``) or update the tenant's control row and take its ownership."""

    row: TenantRow
    new: bool
    why: str


@dataclass(frozen=True, slots=True)
class CreateLogin:
    """Create one of the tenant's login roles through its shard, with the mark that says whose it is."""

    login: str
    shard: str
    can_login: bool
    connection_limit: int | None
    why: str


@dataclass(frozen=True, slots=True)
class AlterLogin:
    """Bring a login role's attributes back to what the tenant declares."""

    login: str
    shard: str
    can_login: bool
    connection_limit: int | None
    why: str


@dataclass(frozen=True, slots=True)
class SetPassword:
    """Replace a login's password verifier; the new secret is drawn when the plan is applied."""

    login: str
    shard: str
    why: str


@dataclass(frozen=True, slots=True)
class SetSettings:
    """Make a login's per-role settings exactly these (name, value) pairs.

    ``database`` names the database whose own settings for the login are taken away with them, None when it has none.
    """

    login: str
    shard: str
    settings: tuple[tuple[str, str], ...]
    why: str
    database: str | None = None


@dataclass(frozen=True, slots=True)
class GrantSet:
    """Make a login a member of its component set, as the shard that administers both."""

    login: str
    role: str
    why: str
    shard: str


@dataclass(frozen=True, slots=True)
class RevokeRole:
    """Take a membership away that the tenant's declaration does not give, whoever of ours granted it."""

    login: str
    role: str
    why: str
    shard: str


@dataclass(frozen=True, slots=True)
class RevokeGrants:
    """Take privileges away that somebody gave a login directly, on objects (type, name) of the installation."""

    login: str
    objects: tuple[tuple[str, str], ...]
    why: str


@dataclass(frozen=True, slots=True)
class BindLogin:
    """Bind a login to its tenant: from then on ``current_tenant()`` answers for it."""

    login: str
    tenant: str
    slot: str
    why: str


@dataclass(frozen=True, slots=True)
class RetireLogin:
    """Let a login live on for the overlap of a rotation, until ``retire_at``."""

    login: str
    retire_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class EndSessions:
    """Terminate every session of these logins and wait, within a bound, until they are gone."""

    logins: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class DropLogin:
    """Unbind and drop a login role with whatever it owns in this database."""

    login: str
    shard: str
    why: str


@dataclass(frozen=True, slots=True)
class AdvanceCapability:
    """Give a sealed tenant the next capability version; the former one lives until ``previous_expires_at``."""

    tenant: str
    previous_expires_at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class RetainTenant:
    """Keep the tenant's rows under its ownership mark, without any way in."""

    tenant: str
    why: str


@dataclass(frozen=True, slots=True)
class DeleteRows:
    """Delete the tenant's rows from every tenant table, as maintenance."""

    tenant: str
    why: str


@dataclass(frozen=True, slots=True)
class ForgetTenant:
    """Remove the tenant's control row; its id is free again."""

    tenant: str
    why: str


Action: TypeAlias = (
    CreateSet
    | SaveTenant
    | CreateLogin
    | AlterLogin
    | SetPassword
    | SetSettings
    | GrantSet
    | RevokeRole
    | RevokeGrants
    | BindLogin
    | RetireLogin
    | EndSessions
    | DropLogin
    | AdvanceCapability
    | RetainTenant
    | DeleteRows
    | ForgetTenant
)
"""Everything that a tenant's plan may hold."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Ordered actions, and the credential that applying them issues.

    ``issues`` names the login (role mode) whose password is new, or ``""`` when a capability is new, or None when the
    tenant's credentials stay as they are. ``write_secret`` says that the Secret must be written although no credential
    is new: a key of it was edited, or the address of the server changed. ``drift`` names what differs although the
    declaration did not change; with the policy Report those actions are left out.
    """

    actions: tuple[Action, ...] = ()
    issues: str | None = None
    write_secret: bool = False
    drift: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not self.actions and not self.write_secret


@dataclass(frozen=True, slots=True)
class Conflict:
    """The plan that is not made: what stands in the way belongs to somebody else."""

    reason: str
    message: str
