"""One installation: a schema in a database, the roles that its id names, and what an operator does to it as a whole.

Identifying needs no rights, so that every fault on the way (nobody bootstrapped, an extension missing, rights taken
away, somebody else's tables) can be told apart and named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from storage_operator.adapters.postgres.credentials import encrypt, sealed_value
from storage_operator.adapters.postgres.faults import DatabaseFault, Fenced, translate
from storage_operator.adapters.postgres.server import CONTACT_SECONDS, Address, Server, answering, connect
from storage_operator.adapters.postgres.sets import ComponentSets
from storage_operator.adapters.postgres.statements import Script
from storage_sql.audit import Violation, audit_sql
from storage_sql.renderer import Literal, ident, literal, render, render_file
from storage_sql.requirements import REQUIRED_EXTENSIONS, server_fault, vector_fault
from storage_sql.roles import SHARD_COUNT, RoleNames
from storage_sql.stores import APPEND_ONLY_TABLES

BOOTSTRAP_COMMAND = "llmspell database bootstrap"


_APP_PASSWORD_MESSAGE = "app-password"  # noqa: S105 - what is derived, not a password
_ENSURE_APP = """DO $app$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {{ app_name }}) THEN
    CREATE ROLE {{ app }} LOGIN;
  END IF;
END $app$;
ALTER ROLE {{ app }} LOGIN INHERIT CONNECTION LIMIT -1 PASSWORD {{ verifier }};
ALTER ROLE {{ app }} RESET ALL;
ALTER ROLE {{ app }} IN DATABASE {{ database }} RESET ALL;
"""
_MARK_APP = "COMMENT ON ROLE {{ app }} IS {{ mark }};\n"
_PROTECT = "SELECT {{ schema }}.protect_table({{ table }}::regclass, {{ append_only }});\n"
PROTECTION_KINDS = frozenset(
    {
        "RowSecurityDisabled",
        "RowSecurityNotForced",
        "PolicyMissing",
        "PolicyAltered",
        "PolicyForeign",
        "StatisticsKept",
    }
)
"""The violations that putting a table's policies right ends; all others need a person."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What answered: server and database, as one observation of ``identify`` tells it."""

    version: str
    version_num: int
    database: str
    max_connections: int
    reserved_connections: int
    extensions: Mapping[str, str]
    vector_schema: str
    roles: RoleNames
    login: str

    @property
    def extension_list(self) -> list[dict[str, str]]:
        """The extensions that matter here, in the form of a status."""
        known = ("btree_gist", "pg_stat_statements", "pg_trgm", "vchord", "vector")
        return [{"name": name, "version": self.extensions[name]} for name in known if name in self.extensions]


@dataclass(frozen=True, slots=True)
class Claim:
    """Which StorageCluster of which Kubernetes cluster works on an installation."""

    cluster: str
    namespace: str
    name: str

    def json(self) -> str:
        """Return the form that the control table keeps."""
        return json.dumps({"cluster": self.cluster, "namespace": self.namespace, "name": self.name}, sort_keys=True)


@dataclass(slots=True)
class Installation:
    """A reachable, identified installation. ``epoch`` is the fence: None means that nobody leads yet."""

    server: Server
    schema: str
    facts: Facts
    epoch: int | None = None
    sets: ComponentSets = field(init=False)
    _app_password: str | None = field(default=None, repr=False)
    _app_verifier: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Attach what works on the installation's component sets."""
        self.sets = ComponentSets(self)

    @property
    def roles(self) -> RoleNames:
        """The installation's role names."""
        return self.facts.roles

    @property
    def schema_literal(self) -> Literal:
        """The schema's name as a constant."""
        return literal(self.schema)

    async def take_lead(self, holder: str) -> int:
        """Become the one whose transactions pass the fence; the former leader's fail from now on."""
        rows = await self.server.query(
            render(
                "UPDATE {{ schema }}.operator_lease SET epoch = epoch + 1, holder = %s, acquired_at = now() "
                "RETURNING epoch",
                schema=ident(self.schema),
            ),
            (holder,),
        )
        self.epoch = int(rows[0][0])
        return self.epoch

    async def claim(self, claim: Claim, *, takeover: bool = False) -> Claim | None:
        """Claim the installation; returns the other claimant when there is one (and nothing is changed)."""
        rows = await self.server.query(
            render(
                "UPDATE {{ schema }}.installation SET claimed_by = %s::jsonb "
                "WHERE claimed_by IS NULL OR claimed_by = %s::jsonb OR %s RETURNING claimed_by",
                schema=ident(self.schema),
            ),
            (claim.json(), claim.json(), takeover),
        )
        if rows:
            return None
        rows = await self.server.query(
            render("SELECT claimed_by FROM {{ schema }}.installation", schema=ident(self.schema))
        )
        other: Mapping[str, str] = rows[0][0]
        return Claim(other["cluster"], other["namespace"], other["name"])

    async def release(self, claim: Claim) -> None:
        """Give the installation back, if it is still ours."""
        await self.server.query(
            render(
                "UPDATE {{ schema }}.installation SET claimed_by = NULL WHERE claimed_by = %s::jsonb",
                schema=ident(self.schema),
            ),
            (claim.json(),),
        )

    async def audit(self) -> tuple[Violation, ...]:
        """Ask the catalog for every breach of the row-level-security contract; empty when it holds."""
        rows = await self.server.query(audit_sql(self.schema, self.roles))
        return tuple(Violation(*row) for row in rows)

    async def committed_connections(self) -> int:
        """Add up the connection limits of the active tenants (each live login counts)."""
        rows = await self.server.query(render_file("provisioning/committed_connections.sql", schema=ident(self.schema)))
        return int(rows[0][0])

    async def owners(self) -> frozenset[str]:
        """Return the resources (namespace/name) whose tenants are active here."""
        text = "SELECT namespace || '/' || name FROM {{ schema }}.tenants WHERE state = 'active'"
        return frozenset(str(place) for (place,) in await self.server.query(render(text, schema=ident(self.schema))))

    async def now(self) -> datetime:
        """Return the server's clock."""
        ((moment,),) = await self.server.query("SELECT clock_timestamp()")
        return datetime.fromisoformat(str(moment))

    async def sealing_secret(self, message: str) -> str:
        """Derive a secret from the installation's sealing key, which itself never leaves the operator."""
        rows = await self.server.query(
            render("SELECT inner_pad, outer_pad FROM {{ schema }}.sealing_key", schema=ident(self.schema))
        )
        inner, outer = rows[0]
        return sealed_value(bytes(inner), bytes(outer), message)

    async def app_password(self) -> str:
        """Return the shared login's password, derived so that nothing needs to keep it."""
        if self._app_password is None:
            self._app_password = await self.sealing_secret(_APP_PASSWORD_MESSAGE)
        return self._app_password

    async def app_verifier(self) -> str:
        """Return a SCRAM verifier of the shared login; one and the same for the life of this process."""
        if self._app_verifier is None:
            password = await self.app_password()
            async with self.server.session() as connection:
                self._app_verifier = encrypt(self.roles.app, password, connection)
        return self._app_verifier

    async def ensure_app(self) -> None:
        """Make the shared login of sealed mode, with every store's privileges and the right to enter a tenant."""
        verifier = await self.app_verifier()
        script = Script(self.schema, self.roles.owner, epoch=self.epoch)
        script.raw(
            _ENSURE_APP,
            app=ident(self.roles.app),
            app_name=literal(self.roles.app),
            verifier=literal(verifier),
            # Whoever holds the shared login may change its password and settings, for all who share it.
            database=ident(self.facts.database),
        )
        script.raw(_MARK_APP, app=ident(self.roles.app), mark=literal(self.roles.role_comment("app")))
        await self.server.script(script.text(), script.count)
        await self.sets.ensure_app()

    async def protect(self) -> tuple[Violation, ...]:
        """Put every table right whose policies or statistics the audit finds broken; returns all that the audit found."""
        violations = await self.audit()
        foreign = {each.object for each in violations if each.kind == "RelationOwner"}
        broken = sorted({each.object for each in violations if each.kind in PROTECTION_KINDS} - foreign)
        script = Script(self.schema, self.roles.owner, epoch=self.epoch)
        for table in broken:
            name = table.rpartition(".")[2].strip('"')
            root = name if name in APPEND_ONLY_TABLES else name.partition("_2")[0]
            append_only = literal(name in APPEND_ONLY_TABLES or root in APPEND_ONLY_TABLES)
            qualified = literal(f'"{self.schema}"."{name}"')
            script.raw(_PROTECT, table=qualified, append_only=append_only)
        if not script.empty:
            await self.server.script(script.text(), script.count)
        return violations

    async def fence(self) -> None:
        """Raise ``Fenced`` when another leader has taken over; for work that is not one script."""
        if self.epoch is None:
            return
        rows = await self.server.query(
            render("SELECT epoch FROM {{ schema }}.operator_lease", schema=ident(self.schema))
        )
        if rows[0][0] != self.epoch:
            raise Fenced("Fenced", "a newer leader works on this database")


async def identify(conninfo: str, schema: str) -> Facts:
    """Ask a server who it is and whether an operator may work there; raises ``DatabaseFault`` with the reason if not."""
    connection = await connect(conninfo)
    try:
        text = render_file("provisioning/identify.sql", schema_name=literal(schema))
        async with answering(CONTACT_SECONDS):
            cursor = await connection.execute(text.encode())
            row = await cursor.fetchone()
    except psycopg.Error as error:
        raise translate(error) from error
    finally:
        await connection.close()
    if row is None:
        raise DatabaseFault("DatabaseError", "the server answered nothing")
    return _judged(row[0], schema)


def _judged(told: Mapping[str, Any], schema: str) -> Facts:
    """Turn what a server tells into facts, or into the first reason why an operator cannot work there."""
    check_version(told)
    extensions: Mapping[str, str] = told["extensions"] or {}
    roles = RoleNames.from_schema_comment(told["schema_mark"])
    if roles is None and told["tables"]:
        raise DatabaseFault(
            "ForeignSchema",
            f"schema {schema} of database {told['database']} holds {told['tables']} tables of another project; "
            "choose another spec.schema or another database",
        )
    missing = [name for name in REQUIRED_EXTENSIONS if name not in extensions]
    if missing:
        raise DatabaseFault(
            "ExtensionMissing",
            f"extension {', '.join(missing)} is not in database {told['database']}; "
            f"a superuser runs `{BOOTSTRAP_COMMAND}` once",
        )
    old = vector_fault(extensions["vector"])
    if old is not None:
        raise DatabaseFault(
            "ExtensionMissing",
            f"{old}; a superuser runs ALTER EXTENSION vector UPDATE in database {told['database']}",
        )
    if roles is None:
        raise DatabaseFault(
            "NotBootstrapped",
            f"database {told['database']} has no schema {schema} of this project; "
            f"a superuser runs `{BOOTSTRAP_COMMAND}` once",
        )
    check_rights(told, roles)
    if told["read_only"]:
        raise DatabaseFault("ServerReadOnly", "the server is read-only (a standby?); point the Secret at the primary")
    return Facts(
        version=told["version"].split(" ")[0],
        version_num=told["version_num"],
        database=told["database"],
        max_connections=told["max_connections"],
        reserved_connections=told["superuser_reserved"] + told["reserved"],
        extensions=extensions,
        vector_schema=told["vector_schema"],
        roles=roles,
        login=told["session_role"],
    )


def check_version(told: Mapping[str, Any]) -> None:
    """Refuse a server that is too old, or whose minor release is known to leak; raises ``DatabaseFault``."""
    fault = server_fault(told["version_num"])
    if fault is not None:
        raise DatabaseFault("ServerTooOld", fault)


def check_rights(told: Mapping[str, Any], roles: RoleNames) -> None:
    """The operator's login must be able to become the owner, and the owner must be able to make roles."""
    known: Mapping[str, Mapping[str, bool]] = told["roles"] or {}
    lacking: list[str] = []
    owner = known.get(roles.owner)
    if owner is None or not owner["settable"]:
        lacking.append(f"membership in {roles.owner}")
    elif not owner["createrole"]:
        lacking.append(f"CREATEROLE on {roles.owner}")
    maintenance = known.get(roles.maintenance)
    if maintenance is None or not maintenance["settable"]:
        lacking.append(f"membership in {roles.maintenance}")
    shards = sum(1 for shard in roles.shards if known.get(shard, {}).get("settable") and known[shard]["createrole"])
    if shards < SHARD_COUNT:
        lacking.append(f"{SHARD_COUNT - shards} of the {SHARD_COUNT} roles {roles.owner}_admin_NN")
    if told["public_connect"]:
        lacking.append(f"CONNECT on database {told['database']} is still granted to PUBLIC")
    if not told["statistics_seen"]:
        lacking.append(f"SELECT (starelid, staattnum) on pg_catalog.pg_statistic of {roles.owner}")
    if lacking:
        raise DatabaseFault(
            "PrivilegesMissing",
            f"role {told['session_role']} lacks: {'; '.join(lacking)}; "
            f"a superuser runs `{BOOTSTRAP_COMMAND}` again (it is idempotent)",
        )


def address_of(conninfo: str, facts: Facts, schema: str, concurrency: int) -> Address:
    """Build the address of an identified installation."""
    return Address(conninfo=conninfo, schema=schema, role=facts.roles.owner, concurrency=concurrency)
