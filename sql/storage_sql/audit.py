"""The audit of the isolation contract: one query whose every row is a violation.

Run it after each migration, attach and restore and on the drift interval, with `search_path` pinned
to `pg_catalog, pg_temp` (`SETTINGS`), so that the catalog prints names in full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage_sql.effects import Effect, Query, Rows
from storage_sql.renderer import literal, render_file
from storage_sql.stores import APPEND_ONLY_TABLES

if TYPE_CHECKING:
    from collections.abc import Generator

    from storage_sql.roles import RoleNames

SETTINGS = "SET search_path = pg_catalog, pg_temp"


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One breach of the contract: a CamelCase kind, the object it is on, and what is wrong."""

    kind: str
    object: str
    detail: str

    def __str__(self) -> str:
        """Return the violation as one line."""
        return f"{self.kind} {self.object}: {self.detail}"


def audit_sql(schema: str, names: RoleNames) -> str:
    """Return the query for one installation; its rows are the columns of `Violation`."""
    return render_file(
        "templates/audit.sql",
        schema_name=literal(schema),
        owner_name=literal(names.owner),
        maintenance_name=literal(names.maintenance),
        operator_name=literal(names.operator),
        shard_prefix=literal(f"{names.owner}_admin_"),
        append_only=literal("{" + ",".join(APPEND_ONLY_TABLES) + "}"),
    )


def audit(schema: str, names: RoleNames) -> Generator[Effect, Rows, tuple[Violation, ...]]:
    """Return every violation; a procedure (see `effects`) for the owner, its members or a superuser."""
    yield Query(SETTINGS)
    rows = yield Query(audit_sql(schema, names))
    return tuple(Violation(*row) for row in rows)
