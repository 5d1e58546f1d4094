"""End sessions that break a quota which PostgreSQL lets them change themselves, or that hold strong locks."""

from __future__ import annotations

from dataclasses import dataclass

from storage_operator.adapters.postgres.installation import Installation
from storage_sql.renderer import ident, render_file

GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """One session that was ended, and which limit it broke."""

    login: str
    tenant: str
    limit: str


async def end_offenders(installation: Installation, grace_seconds: float = GRACE_SECONDS) -> tuple[Ended, ...]:
    """Look once; each tenant session over its limits by more than the grace is terminated."""
    text = render_file(
        "provisioning/watchdog.sql", schema=ident(installation.schema), schema_name=installation.schema_literal
    )
    rows = await installation.server.query(text, (grace_seconds,))
    return tuple(Ended(login, tenant, broke) for login, tenant, broke, ended in rows if ended)
