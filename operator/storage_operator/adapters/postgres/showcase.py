"""Show isolation with real sessions: each tenant logs in with its own credentials and tries to reach its neighbour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import TupleRow

from storage_operator.adapters.postgres.faults import translate
from storage_operator.adapters.postgres.server import connect
from storage_sql.renderer import Identifier, Literal, ident, literal, render

STORE = "kv"
_OWN = "INSERT INTO {{ schema }}.kv_store (tenant_id, key, value) VALUES ({{ tenant }}, 'greeting', {{ text }}::bytea) ON CONFLICT (tenant_id, key) DO NOTHING"
_READ = "SELECT tenant_id, key, convert_from(value, 'UTF8') FROM {{ schema }}.kv_store"
_READ_NEIGHBOUR = _READ + " WHERE tenant_id = {{ neighbour }}"
_FORGE = "INSERT INTO {{ schema }}.kv_store (tenant_id, key, value) VALUES ({{ neighbour }}, 'forged', 'x'::bytea)"
_ENTER = "SELECT {{ schema }}.enter(%s, %s, %s)"


@dataclass(frozen=True, slots=True)
class Access:
    """What an application reads from its Secret."""

    tenant: str
    schema: str
    dsn: str = field(repr=False)
    capability: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> Access:
        """Read the values of a Secret."""
        text = {name: value.decode() for name, value in data.items()}
        return cls(text["tenant-id"], text["schema"], text["dsn"], text.get("capability"))


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that a tenant tried: the statement, what the database answered, and whether that is as it must be."""

    tenant: str
    statement: str
    answer: str
    isolated: bool


async def prove(accesses: Sequence[Access]) -> list[Scene]:
    """Let every tenant write a row of its own, read everything, and try to reach the next one's."""
    for access in accesses:
        async with await connect(access.dsn) as connection:
            await _enter(connection, access)
            await connection.execute(_text(_OWN, access).encode())
            await connection.commit()
    scenes: list[Scene] = []
    for number, access in enumerate(accesses):
        neighbour = accesses[(number + 1) % len(accesses)].tenant
        scenes += await _try(access, neighbour)
    return scenes


async def _try(access: Access, neighbour: str) -> list[Scene]:
    try:
        async with await connect(access.dsn) as connection:
            await _enter(connection, access)
            own = _text(_READ, access)
            rows = await (await connection.execute(own.encode())).fetchall()
            foreign = [row for row in rows if row[0] != access.tenant]
            told = f"{len(rows)} row: {rows[0][2]}" if len(rows) == 1 else f"{len(rows)} rows, {len(foreign)} foreign"
            scenes = [Scene(access.tenant, own, told, isolated=bool(rows) and not foreign)]
            reach = _text(_READ_NEIGHBOUR, access, neighbour)
            seen = await (await connection.execute(reach.encode())).fetchall()
            scenes.append(Scene(access.tenant, reach, f"{len(seen)} rows", isolated=not seen))
            scenes.append(await _forge(connection, access, neighbour))
            await connection.rollback()
    except psycopg.Error as error:
        raise translate(error) from error
    return scenes


async def _forge(connection: psycopg.AsyncConnection[TupleRow], access: Access, neighbour: str) -> Scene:
    statement = _text(_FORGE, access, neighbour)
    try:
        await connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        return Scene(access.tenant, statement, f"refused: {error.diag.message_primary}", isolated=True)
    return Scene(access.tenant, statement, "written", isolated=False)


async def _enter(connection: psycopg.AsyncConnection[TupleRow], access: Access) -> None:
    """Begin a transaction; a sealed tenant shows its capability in it, as its application does."""
    await connection.execute("BEGIN")
    if access.capability is not None:
        # Bound, never in the text: those who share the login see each other's statements.
        text = render(_ENTER, schema=ident(access.schema))
        await connection.execute(text.encode(), (access.tenant, access.capability, STORE))


def _text(template: str, access: Access, neighbour: str | None = None) -> str:
    marked: dict[str, Identifier | Literal] = {"schema": ident(access.schema), "tenant": literal(access.tenant)}
    marked["text"] = literal(f"a row of {access.tenant}")
    marked["neighbour"] = literal(neighbour)
    used = {name: value for name, value in marked.items() if f"{{{{ {name} }}}}" in template}
    return render(template, **used)
