"""What a tenant's session can leave that outlives it: roles that cannot be dropped yet, and default privileges.

Any role may change its own default privileges, and may make objects in another database that lets PUBLIC in. PostgreSQL
refuses to drop a role that such things name (SQLSTATE 2BP01).
"""

from __future__ import annotations

from dataclasses import dataclass

from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.statements import Script
from storage_operator.planning.tenant import left_behind
from storage_sql.audit import Violation
from storage_sql.renderer import ident, render

DEFAULTS_KIND = "DefaultPrivileges"
_LEFT = """SELECT r.rolname, s.rolname, COALESCE((
    SELECT array_agg(DISTINCT d.datname::text) FROM pg_shdepend p JOIN pg_database d ON d.oid = p.dbid
     WHERE p.refclassid = 'pg_authid'::regclass AND p.refobjid = r.oid AND d.datname <> current_database()), '{}')
  FROM pg_shdescription c
  JOIN pg_roles r ON r.oid = c.objoid
  JOIN pg_auth_members m ON m.roleid = r.oid AND m.admin_option
  JOIN pg_roles s ON s.oid = m.member AND s.rolname = ANY (%s)
 WHERE c.classoid = 'pg_authid'::regclass AND c.description = %s AND NOT r.rolcanlogin
   AND NOT EXISTS (SELECT FROM {{ schema }}.tenant_logins l WHERE l.login = r.rolname)
 ORDER BY 1"""
# Who may act for a role: itself when the operator may become it, otherwise the role that created it.
_DEFAULTS = """SELECT DISTINCT r.rolname,
       CASE WHEN r.rolname = ANY (%s) THEN r.rolname ELSE (
           SELECT k.rolname FROM pg_auth_members m JOIN pg_roles k ON k.oid = m.member
            WHERE m.roleid = r.oid AND m.admin_option AND k.rolname = ANY (%s) LIMIT 1) END,
       n.nspname, d.defaclobjtype::text, g.grantee = 0, COALESCE(a.rolname, '')
  FROM pg_default_acl d
  JOIN pg_roles r ON r.oid = d.defaclrole AND r.rolname = ANY (%s)
  CROSS JOIN LATERAL aclexplode(d.defaclacl) g
  LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
  LEFT JOIN pg_roles a ON a.oid = g.grantee
 WHERE g.grantee <> d.defaclrole"""
_OBJECTS = {
    "r": "TABLES",
    "S": "SEQUENCES",
    "f": "FUNCTIONS",
    "T": "TYPES",
    "n": "SCHEMAS",
    "L": "LARGE OBJECTS",
}
_REVOKE = """SET LOCAL ROLE {{ keeper }};
{% if borrowed %}GRANT {{ role }} TO {{ keeper }} WITH INHERIT TRUE;
{% endif %}ALTER DEFAULT PRIVILEGES FOR ROLE {{ role }} {% if in_schema %}IN SCHEMA {{ namespace }} {% endif %}REVOKE ALL ON OBJECTS FROM {% if public %}PUBLIC{% else %}{{ grantee }}{% endif %};
{% if borrowed %}REVOKE {{ role }} FROM {{ keeper }} GRANTED BY {{ keeper }};
{% endif %}SET LOCAL ROLE {{ owner }};
"""
# The two rules of ours, as the first migration gives them.
_OURS = """ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
SET LOCAL ROLE {{ maintenance }};
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {{ owner }} WITH GRANT OPTION;
SET LOCAL ROLE {{ owner }};
"""


@dataclass(frozen=True, slots=True)
class LeftRole:
    """A login that had to be dropped and could not be: it has no way in, no binding and no membership any more."""

    name: str
    shard: str
    databases: tuple[str, ...]

    def __str__(self) -> str:
        """Say which role it is, what keeps it, and what ends that."""
        if not self.databases:
            return f"role {self.name} is left behind without a login: something on the server still names it"
        named = ", ".join(self.databases)
        return (
            f"role {self.name} is left behind without a login: objects or privileges in database {named} name it; "
            f"a superuser runs DROP OWNED BY {self.name} there, then the operator drops it"
        )


async def left_roles(installation: Installation) -> tuple[LeftRole, ...]:
    """Return the logins that were left behind, with the databases that keep them."""
    mark = left_behind(installation.roles.role_comment("tenant"))
    rows = await installation.server.query(
        render(_LEFT, schema=ident(installation.schema)), (list(installation.roles.shards), mark)
    )
    return tuple(LeftRole(str(name), str(shard), tuple(databases)) for name, shard, databases in rows)


async def drop_left_roles(installation: Installation) -> tuple[LeftRole, ...]:
    """Drop every login left behind that nothing keeps any more; returns those that remain."""
    found = await left_roles(installation)
    free = [role for role in found if not role.databases]
    for role in free:
        script = Script(
            installation.schema,
            installation.roles.owner,
            epoch=installation.epoch,
            mark=installation.roles.role_comment("tenant"),
        )
        script.drop_role(role.name, role.shard)
        await installation.server.script(script.text(), script.count)
    return await left_roles(installation) if free else found


async def mend_defaults(installation: Installation, violations: tuple[Violation, ...]) -> None:
    """Take away the default privileges that the audit found, as far as the operator may act for their roles."""
    flagged = sorted({each.object for each in violations if each.kind == DEFAULTS_KIND})
    if not flagged:
        return
    roles = installation.roles
    becomes = [roles.owner, roles.maintenance]
    rows = await installation.server.query(_DEFAULTS, (becomes, [roles.owner, *roles.shards], flagged))
    for row in rows:
        if row[1] is not None:
            await _revoke(installation, *row)
    script = Script(installation.schema, roles.owner, epoch=installation.epoch)
    script.raw(_OURS, maintenance=ident(roles.maintenance))
    await installation.server.script(script.text(), script.count)


async def _revoke(
    installation: Installation, role: str, keeper: str, namespace: str | None, kind: str, public: bool, grantee: str
) -> None:
    script = Script(installation.schema, installation.roles.owner, epoch=installation.epoch)
    script.raw(
        _REVOKE.replace("OBJECTS", _OBJECTS[kind]),
        role=ident(role),
        keeper=ident(keeper),
        borrowed=role != keeper,
        in_schema=namespace is not None,
        namespace=ident(namespace or "public"),
        public=public,
        grantee=ident(grantee or "public"),
    )
    await installation.server.script(script.text(), script.count)
