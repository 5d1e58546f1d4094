"""Plan the privileges of component sets: one NOLOGIN role for each distinct set of stores that tenants ask for.

A set keeps the stores it was asked for and is granted those of them that are enabled, so that disabling a store is one
change a set, however many tenants are members (D11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from storage_sql.stores import privileges

Privilege: TypeAlias = tuple[str, str, str]
"""(object type, object name, privilege), such as ("TABLE", "kv_store", "SELECT") or ("ROLE", a set, "MEMBER")."""


@dataclass(frozen=True, slots=True)
class ObservedSet:
    """A set role, or one of its buckets, as the catalog shows it: the stores in its mark, and what it is granted.

    Tenants are members of a bucket, and the bucket of the set: PostgreSQL reads all members of a role when one more is
    granted to, so that a set with thousands of members would make each new tenant dearer than the one before.
    """

    role: str
    stores: tuple[str, ...]
    granted: frozenset[Privilege]
    is_bucket: bool = False


@dataclass(frozen=True, slots=True)
class PrivilegeChange:
    """What one set role gains and loses; ``create`` when the role itself may be missing.

    ``administrator`` is the shard that grants a bucket to its tenants.
    """

    role: str
    mark: str
    create: bool
    grants: tuple[Privilege, ...]
    revokes: tuple[Privilege, ...]
    why: str
    administrator: str | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.create or self.grants or self.revokes)


def wanted_privileges(
    stores: Iterable[str], *, enabled: Iterable[str], tables: Iterable[str], schema: str, database: str
) -> frozenset[Privilege]:
    """Return everything that a set of ``stores`` holds while ``enabled`` are on and ``tables`` exist."""
    allowed = set(stores) & set(enabled)
    objects = {
        (grant.object_type, grant.name.partition("(")[0], grant.privilege) for grant in privileges(allowed, tables)
    }
    return frozenset(objects | {("SCHEMA", schema, "USAGE"), ("DATABASE", database, "CONNECT")})


def bucket_privileges(set_role: str) -> frozenset[Privilege]:
    """Return everything that a bucket holds: the membership in its set."""
    return frozenset({("ROLE", set_role, "MEMBER")})


def plan_set(
    role: str,
    mark: str,
    wanted: frozenset[Privilege],
    observed: ObservedSet | None,
    administrator: str | None = None,
) -> PrivilegeChange:
    """Return what makes a set's grants equal to ``wanted``; a privilege that was not given is taken away."""
    granted = frozenset() if observed is None else observed.granted
    why = "the set is new" if observed is None else "its privileges differ from the enabled stores"
    return PrivilegeChange(
        role,
        mark,
        observed is None,
        tuple(sorted(wanted - granted)),
        tuple(sorted(granted - wanted)),
        why,
        administrator,
    )


def plan_sets(
    observed: Iterable[ObservedSet], wanted: Mapping[str, frozenset[Privilege]], marks: Mapping[str, str]
) -> tuple[PrivilegeChange, ...]:
    """Plan every existing set of an installation; empty changes are left out."""
    changes = (plan_set(each.role, marks[each.role], wanted[each.role], each) for each in observed)
    return tuple(change for change in changes if not change.empty)
