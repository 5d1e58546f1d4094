"""What is checked once a physical connection: that the server may be trusted with tenants, and the login is no more than one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from storage_sql.requirements import server_fault, vector_fault
from storagelib._postgres.session import Installation
from storagelib.errors import MigrationError, PermissionDenied, Unavailable

__all__ = ["FACTS", "TENANT", "check_tenant", "installation"]

FACTS: Final = """
SELECT current_setting('server_version_num')::int8, r.rolsuper OR r.rolbypassrls,
       EXISTS (SELECT FROM pg_catalog.pg_class AS c
                WHERE c.relnamespace = n.oid AND pg_catalog.pg_has_role(c.relowner, 'USAGE')),
       n.oid IS NOT NULL, v.nspname, e.extversion,
       pg_catalog.to_regtype(pg_catalog.quote_ident(v.nspname) || '.vector')::oid::int8,
       pg_catalog.to_regtype(pg_catalog.quote_ident(v.nspname) || '.halfvec')::oid::int8
  FROM pg_catalog.pg_roles AS r
  LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = %s
  LEFT JOIN pg_catalog.pg_extension AS e ON e.extname = 'vector'
  LEFT JOIN pg_catalog.pg_namespace AS v ON v.oid = e.extnamespace
 WHERE r.rolname = current_user"""
TENANT: Final = "SELECT {schema}.current_tenant()"


def installation(schema: str, facts: tuple[Any, ...] | None) -> Installation:
    """Return the installation that the facts of ``FACTS`` describe; raises what keeps it from being used."""
    if facts is None:
        raise Unavailable("the server does not know its own login")
    version, unbound, owner, found, extensions, extension_version, vector, halfvec = facts
    fault = server_fault(version)
    if fault is not None:
        raise Unavailable(fault)
    if unbound or owner:
        what = "a superuser, or may bypass row-level security" if unbound else "an owner of the tables"
        raise PermissionDenied(
            f"the login is {what}: no tenant would be kept from another; use the login of a tenant's Secret"
        )
    if not found:
        raise MigrationError(f"the database has no schema {schema!r}: is it another database?")
    if extensions is None:
        raise MigrationError("the extension vector is missing: run `llmspell database bootstrap`")
    fault = vector_fault(extension_version)
    if fault is not None:
        raise Unavailable(fault)
    oids: Mapping[str, int] = {"vector": vector, "halfvec": halfvec}
    return Installation(schema, extensions, oids)


def check_tenant(bound: str | None, tenant_id: str, mode: str) -> None:
    """Compare the tenant that the login is bound to with the one that the configuration names."""
    if mode == "role" and bound is None:
        raise PermissionDenied("the login is bound to no tenant (any more): suspended, retired, or not provisioned")
    if mode == "role" and bound != tenant_id:
        raise PermissionDenied("the login is bound to another tenant than the configuration names")
    if mode == "sealed" and bound is not None:
        raise PermissionDenied("the login is bound to a tenant: its mode is role, not sealed")
