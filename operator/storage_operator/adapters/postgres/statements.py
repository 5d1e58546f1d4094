"""Render each action to SQL through the strict renderer; the only place where provisioning SQL is written.

Every rendered plan is one script: BEGIN, the fence, the statements, COMMIT. A session works as the owner; what a shard
must do is bracketed by ``SET LOCAL ROLE``. Verifiers join here, never clear passwords.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from storage_operator.adapters.postgres.faults import FENCED_STATE
from storage_operator.planning.actions import (
    Action,
    AdvanceCapability,
    AlterLogin,
    BindLogin,
    CreateLogin,
    DropLogin,
    ForgetTenant,
    GrantSet,
    RetainTenant,
    RetireLogin,
    RevokeGrants,
    RevokeRole,
    SaveTenant,
    SetPassword,
    SetSettings,
)
from storage_operator.planning.sets import PrivilegeChange
from storage_operator.planning.tenant import left_behind
from storage_sql.renderer import Identifier, Literal, ident, literal, render

_FENCE = f"""DO $fence$ BEGIN
  PERFORM FROM {{{{ schema }}}}.operator_lease WHERE {{% if fenced %}}epoch = {{{{ epoch }}}}{{% else %}}singleton{{% endif %}} FOR SHARE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'a newer leader works on this database' USING ERRCODE = '{FENCED_STATE}';
  END IF;
END $fence$;
"""
_AS_SHARD = "SET LOCAL ROLE {{ shard }};\n"
_AS_OWNER = "SET LOCAL ROLE {{ owner }};\n"
_ATTRIBUTES = "{% if can_login %}LOGIN{% else %}NOLOGIN{% endif %} INHERIT CONNECTION LIMIT {{ connection_limit }}"
_CREATE_LOGIN = (
    _AS_SHARD
    + "CREATE ROLE {{ login }} "
    + _ATTRIBUTES
    + " PASSWORD {{ verifier }};\nCOMMENT ON ROLE {{ login }} IS {{ mark }};\n"
    + _AS_OWNER
)
_ALTER_LOGIN = _AS_SHARD + "ALTER ROLE {{ login }} " + _ATTRIBUTES + " VALID UNTIL 'infinity';\n" + _AS_OWNER
# The mark tells that a login which had been left behind is in use again.
_SET_PASSWORD = (
    _AS_SHARD
    + "ALTER ROLE {{ login }} PASSWORD {{ verifier }} VALID UNTIL 'infinity';\n"
    + "COMMENT ON ROLE {{ login }} IS {{ mark }};\n"
    + _AS_OWNER
)
_RESET_SETTINGS = "ALTER ROLE {{ login }} RESET ALL;\n"
_RESET_DATABASE_SETTINGS = "ALTER ROLE {{ login }} IN DATABASE {{ database }} RESET ALL;\n"
_SET_SETTING = "ALTER ROLE {{ login }} SET {{ setting }} TO {{ value }};\n"
_SET_SEARCH_PATH = "ALTER ROLE {{ login }} SET search_path TO {{ first }}, {{ second }};\n"
# Granting asks for every role that the granting one can reach: a shard reaches its own tenants, the owner all of them.
_ADMINISTER = "GRANT {{ role }} TO {{ administrator }} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;\n"
_GRANT_SET = "GRANT {{ role }} TO {{ login }} WITH INHERIT TRUE, SET FALSE;\n"
# What a superuser granted, only a superuser takes away: the rest of the plan holds, and the re-read state tells of it.
_REVOKE_ROLE = """DO $revoke$ BEGIN
  REVOKE {{ role }} FROM {{ login }};
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $revoke$;
"""
_BIND = """INSERT INTO {{ schema }}.tenant_logins (login, tenant, slot, digest, verifier)
VALUES ({{ login }}, {{ tenant }}, {{ slot }}, {{ digest }}, {{ verifier }})
ON CONFLICT (login) DO UPDATE SET digest = excluded.digest, verifier = excluded.verifier, retire_at = NULL,
  created_at = now();
UPDATE {{ schema }}.tenants SET password_changed_at = clock_timestamp() WHERE tenant = {{ tenant }};
"""
_RETIRE = "UPDATE {{ schema }}.tenant_logins SET retire_at = {{ retire_at }}::timestamptz WHERE login = {{ login }};\n"
# Each takes away what it granted: the shard the membership of a bucket, the owner what a person granted in its name.
_LEAVE_SETS = """DO $left$ DECLARE held name; BEGIN
  FOR held IN SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
    JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = {{ login }}
  LOOP
    EXECUTE format('REVOKE %I FROM %I', held, {{ login }});
  END LOOP;
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $left$;
"""
# What a login made in another database, or a neighbour made there in its name, keeps the role: nobody but a person may
# look after that. Such a role stays without a way in, a membership or a binding, and its mark says so.
_DROP_ROLE = (
    _AS_SHARD
    + "GRANT {{ login_role }} TO {{ shard }} WITH INHERIT TRUE, SET TRUE;\n"
    + "DROP OWNED BY {{ login_role }};\n"
    + """DO $drop$ BEGIN
  DROP ROLE {{ login_role }};
EXCEPTION WHEN dependent_objects_still_exist THEN
  ALTER ROLE {{ login_role }} NOLOGIN PASSWORD NULL;
  COMMENT ON ROLE {{ login_role }} IS {{ left_mark }};
END $drop$;
"""
    + _LEAVE_SETS
    + _AS_OWNER
    + _LEAVE_SETS
)
_DROP_LOGIN = (
    "DELETE FROM {{ schema }}.tenant_logins WHERE login = {{ login }};\n{% if role_exists %}"
    + _DROP_ROLE
    + "{% endif %}"
)
_ROW = (
    "namespace",
    "name",
    "isolation",
    "suspended",
    "statement_timeout_ms",
    "lock_timeout_ms",
    "idle_in_transaction_timeout_ms",
    "work_mem_kb",
    "connection_limit",
    "quota_bytes",
    "quota_enforced",
)
_STORES = "ARRAY[{% for store in stores %}{{ store }}{% if not loop.last %}, {% endif %}{% endfor %}]::text[]"
_VALUES = ", ".join(f"{{{{ {column} }}}}" for column in _ROW)
# A capability is derived from tenant and version alone, so that no version is ever given twice: not even to a tenant
# whose id somebody else had before, when its row was forgotten. Seconds fit the nine digits of a version until 2057.
_VERSION = "GREATEST(1, extract(epoch FROM clock_timestamp() - timestamptz '2026-01-01 00:00:00+00')::integer)"
_INSERT_TENANT = (
    f"INSERT INTO {{{{ schema }}}}.tenants (tenant, state, stores, capability_version, {', '.join(_ROW)})\n"
    f"VALUES ({{{{ tenant }}}}, 'active', {_STORES}, {_VERSION}, {_VALUES});\n"
)
_UPDATE_TENANT = (
    "UPDATE {{ schema }}.tenants SET state = 'active', updated_at = now(), "
    "over_quota = COALESCE(used_bytes > {{ quota_bytes }}::bigint, false), stores = "
    + _STORES
    + ", "
    + ", ".join(f"{column} = {{{{ {column} }}}}" for column in _ROW)
    + "\nWHERE tenant = {{ tenant }} AND ((namespace = {{ namespace }} AND name = {{ name }}) OR state = 'retained');\n"
)
_ADVANCE = (
    "UPDATE {{ schema }}.tenants SET previous_capability_version = capability_version,\n"
    "  previous_capability_expires_at = {{ expires_at }}::timestamptz,\n"
    f"  capability_version = GREATEST(capability_version + 1, {_VERSION}),\n"
    "  password_changed_at = clock_timestamp(), updated_at = now() WHERE tenant = {{ tenant }};\n"
)
_RETAIN = (
    "UPDATE {{ schema }}.tenants SET state = 'retained', previous_capability_version = NULL,\n"
    f"  previous_capability_expires_at = NULL, capability_version = GREATEST(capability_version + 1, {_VERSION}),\n"
    "  updated_at = now() WHERE tenant = {{ tenant }};\n"
)
_CREATE_SET = """DO $set$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {{ role_name }}) THEN
    CREATE ROLE {{ role }} NOLOGIN;
  END IF;
END $set$;
COMMENT ON ROLE {{ role }} IS {{ mark }};
"""
# What may be granted, and what somebody may have granted besides and is taken away again.
_PRIVILEGES = {
    "TABLE": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "MAINTAIN", "USAGE"},
    "FUNCTION": {"EXECUTE"},
    "SCHEMA": {"USAGE", "CREATE"},
    "DATABASE": {"CONNECT", "CREATE", "TEMPORARY"},
    "ROLE": {"MEMBER"},
}
# A function's name alone is enough: none of ours is overloaded, and the audit would find one that were.
_OBJECTS = {
    "TABLE": "TABLE {{ schema }}.{{ name }}",
    "FUNCTION": "FUNCTION {{ schema }}.{{ name }}",
    "SCHEMA": "SCHEMA {{ name }}",
    "DATABASE": "DATABASE {{ name }}",
}
_GRANT = "GRANT PRIVILEGE ON OBJECT TO {{ role }};\n"
_REVOKE = "REVOKE PRIVILEGE ON OBJECT FROM {{ role }};\n"
_REVOKE_ALL = "REVOKE ALL ON OBJECT FROM {{ role }};\n"
# An UPDATE that found another owner changed nothing, and what follows in the plan must not happen either.
_STILL_OWNER = """SELECT (CASE WHEN EXISTS (SELECT FROM {{ schema }}.tenants
  WHERE tenant = {{ tenant }} AND namespace = {{ namespace }} AND name = {{ name }} AND state = 'active')
  THEN 'true' ELSE 'another Tenant took the tenant id meanwhile' END)::boolean;
"""
_FORGET = "DELETE FROM {{ schema }}.tenants WHERE tenant = {{ tenant }};\n"


class Script:
    """Statements for one transaction, in the order of the plan."""

    def __init__(self, schema: str, owner: str, *, epoch: int | None, mark: str = "") -> None:
        """Take what every statement of an installation shares; ``epoch`` None means "whoever leads"."""
        self._schema = ident(schema)
        self._schema_name = schema
        self._owner = ident(owner)
        self._mark = mark
        self._parts: list[str] = []
        self.count = 0
        self._add(_FENCE, fenced=epoch is not None, epoch=literal(epoch or 0))

    def text(self) -> str:
        """Return the whole transaction."""
        return "BEGIN;\n" + "".join(self._parts) + "COMMIT;\n"

    @property
    def statements(self) -> str:
        """Return only the statements, for people who read a dry run."""
        return "".join(self._parts[1:])

    @property
    def empty(self) -> bool:
        """Whether nothing but the fence would run."""
        return len(self._parts) <= 1

    def add(self, action: Action, secrets: Mapping[str, tuple[str, str]], *, role_exists: bool = True) -> None:
        """Append one action. ``secrets`` maps a login to its new (verifier, digest)."""
        match action:
            case SaveTenant():
                self._save(action)
            case CreateLogin():
                self._add(
                    _CREATE_LOGIN,
                    login=ident(action.login),
                    shard=ident(action.shard),
                    can_login=action.can_login,
                    connection_limit=_limit(action.connection_limit),
                    verifier=literal(secrets[action.login][0]),
                    mark=literal(self._mark),
                )
            case AlterLogin():
                self._add(
                    _ALTER_LOGIN,
                    login=ident(action.login),
                    shard=ident(action.shard),
                    can_login=action.can_login,
                    connection_limit=_limit(action.connection_limit),
                )
            case SetPassword():
                verifier = literal(secrets[action.login][0])
                role, shard, mark = ident(action.login), ident(action.shard), literal(self._mark)
                self._add(_SET_PASSWORD, login=role, shard=shard, verifier=verifier, mark=mark)
            case SetSettings():
                self._settings(action)
            case BindLogin():
                issued = secrets[action.login]
                self._add(
                    _BIND,
                    login=literal(action.login),
                    tenant=literal(action.tenant),
                    slot=literal(action.slot),
                    digest=literal(issued[1]),
                    verifier=literal(issued[0]),
                )
            case DropLogin():
                self._drop(_DROP_LOGIN, action.login, action.shard, role_exists=role_exists)
            case _:
                self._simple(action)

    def drop_role(self, login: str, shard: str) -> None:
        """Append another attempt to drop a role that was left behind."""
        self._drop(_DROP_ROLE, login, shard)

    def _drop(self, template: str, login: str, shard: str, *, role_exists: bool = True) -> None:
        marked = {"login": literal(login), "left_mark": literal(left_behind(self._mark))}
        self._add(template, **marked, login_role=ident(login), shard=ident(shard), role_exists=role_exists)

    def _simple(self, action: Action) -> None:
        match action:
            case GrantSet():
                role, login, shard = ident(action.role), ident(action.login), ident(action.shard)
                self._add(_AS_SHARD + _GRANT_SET + _AS_OWNER, role=role, login=login, shard=shard)
            case RevokeGrants():
                for kind, name in action.objects:
                    text = _REVOKE_ALL.replace("OBJECT", _OBJECTS[kind])
                    self._add(text, role=ident(action.login), name=ident(name))
            case RevokeRole():
                role, login, shard = ident(action.role), ident(action.login), ident(action.shard)
                self._add(_AS_SHARD + _REVOKE_ROLE + _AS_OWNER, role=role, login=login, shard=shard)
                self._add(_REVOKE_ROLE, role=role, login=login)
            case RetireLogin():
                self._add(_RETIRE, login=literal(action.login), retire_at=_time(action.retire_at))
            case AdvanceCapability():
                expires = _time(action.previous_expires_at)
                self._add(_ADVANCE, tenant=literal(action.tenant), expires_at=expires)
            case RetainTenant():
                self._add(_RETAIN, tenant=literal(action.tenant))
            case ForgetTenant():
                self._add(_FORGET, tenant=literal(action.tenant))
            case _:
                raise TypeError(f"{type(action).__name__} is not one statement's work")

    def _save(self, action: SaveTenant) -> None:
        row = action.row
        template = _INSERT_TENANT if action.new else _UPDATE_TENANT
        values = {column: literal(getattr(row, column)) for column in _ROW}
        self._add(template, tenant=literal(row.tenant), stores=[literal(store) for store in row.stores], **values)
        if not action.new:
            owner = {"namespace": literal(row.namespace), "name": literal(row.name)}
            self._add(_STILL_OWNER, tenant=literal(row.tenant), **owner)

    def _settings(self, action: SetSettings) -> None:
        login, shard = ident(action.login), ident(action.shard)
        parts = [render(_AS_SHARD, shard=shard), render(_RESET_SETTINGS, login=login)]
        if action.database is not None:
            parts.append(render(_RESET_DATABASE_SETTINGS, login=login, database=ident(action.database)))
        for name, value in action.settings:
            if name == "search_path":
                first, second = ident(self._schema_name), ident("public")
                parts.append(render(_SET_SEARCH_PATH, login=login, first=first, second=second))
            else:
                parts.append(render(_SET_SETTING, login=login, setting=ident(name), value=literal(value)))
        parts.append(render(_AS_OWNER, owner=self._owner))
        text = "".join(parts)
        self._join(text)
        self.count += text.count(";\n")

    def privileges(self, change: PrivilegeChange) -> None:
        """Append what makes one component set's privileges right."""
        role = ident(change.role)
        if change.create:
            self._add(_CREATE_SET, role=role, role_name=literal(change.role), mark=literal(change.mark))
            if change.administrator is not None:
                self._add(_ADMINISTER, role=role, administrator=ident(change.administrator))
        for template, grants in ((_GRANT, change.grants), (_REVOKE, change.revokes)):
            for kind, name, privilege in grants:
                if kind == "ROLE":
                    self._add(_GRANT_SET if template is _GRANT else _REVOKE_ROLE, login=role, role=ident(name))
                    continue
                if privilege not in _PRIVILEGES[kind]:
                    raise ValueError(f"not a privilege that a set may hold: {privilege} on {kind}")
                text = template.replace("PRIVILEGE", privilege).replace("OBJECT", _OBJECTS[kind])
                self._add(text, role=role, name=ident(name))

    def raw(self, template: str, **marked: Identifier | Literal | list[Identifier | Literal] | bool) -> None:
        """Append a template of another module of this package (schema, owner are given to it)."""
        self._add(template, **marked)

    def _add(self, template: str, **marked: Identifier | Literal | list[Identifier | Literal] | bool) -> None:
        shared: dict[str, Identifier | Literal | list[Identifier | Literal] | bool] = {
            "schema": self._schema,
            "owner": self._owner,
        }
        text = render(template, **{**shared, **marked})
        self._join(text)
        self.count += text.count(";\n")

    def _join(self, text: str) -> None:
        """Append a part; two brackets of one shard side by side become one, since each change of role is dear."""
        as_owner = render(_AS_OWNER, owner=self._owner)
        head, newline, rest = text.partition(";\n")
        former = self._parts[-1] if self._parts else ""
        opening = former.partition(";\n")[0]
        if head.startswith("SET LOCAL ROLE") and opening == head and former.endswith(as_owner) and newline:
            self._parts[-1] = former.removesuffix(as_owner) + rest
        else:
            self._parts.append(text)


def _limit(connections: int | None) -> Literal:
    return literal(-1 if connections is None else connections)


def _time(moment: datetime | None) -> Literal:
    return literal(None if moment is None else moment.isoformat())
