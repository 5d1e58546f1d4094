"""Tenants made by plain SQL, for tests of the schema itself: what the operator does, without the operator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from storage_sql import stores
from tests.plugins.installation import Installation

PASSWORD = "tenant-test"
ALL_STORES = tuple(stores.STORES_BY_NAME)


def tables_of(connection: psycopg.Connection[tuple[Any, ...]], schema: str) -> list[str]:
    """Return the tables of a schema, partitions left out."""
    rows = connection.execute(
        "SELECT c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1",
        (schema,),
    )
    return [row[0] for row in rows]


def grant_stores(installation: Installation, role: str, names: Iterable[str], *, sealed: bool = False) -> None:
    """Grant a role what tenants with these stores are granted."""
    schema, owner = sql.Identifier(installation.schema), installation.names.owner
    with installation.connect(owner) as connection:
        for grant in stores.privileges(names, tables_of(connection, installation.schema)):
            connection.execute(
                sql.SQL("GRANT {} ON {} {}.{} TO {}").format(
                    sql.SQL(grant.privilege),
                    sql.SQL(grant.object_type),
                    schema,
                    sql.SQL(grant.name),
                    sql.Identifier(role),
                )
            )
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, sql.Identifier(role)))
        connection.execute(
            sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(
                sql.Identifier(installation.database.name), sql.Identifier(role)
            )
        )
        if sealed:
            for function in stores.SEALED_FUNCTIONS:
                connection.execute(
                    sql.SQL("GRANT EXECUTE ON FUNCTION {}.{} TO {}").format(
                        schema, sql.SQL(function), sql.Identifier(role)
                    )
                )


def make_tenant(installation: Installation, tenant: str, names: Iterable[str] = ALL_STORES) -> str:
    """Register a tenant with a login of its own and return that login's DSN."""
    chosen = list(names)
    roles = installation.names
    login, store_set = roles.tenant_login(tenant, "a"), roles.store_set(chosen)
    schema = sql.Identifier(installation.schema)
    with installation.connect(roles.owner) as connection:
        if not connection.execute("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s", (store_set,)).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(store_set)))
        grant_stores(installation, store_set, chosen)
        connection.execute(
            sql.SQL("INSERT INTO {}.tenants (tenant, namespace, name, stores) VALUES (%s, 'test', %s, %s)").format(
                schema
            ),
            (tenant, tenant, chosen),
        )
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(roles.shard(tenant))))
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(PASSWORD))
            )
        connection.execute(
            sql.SQL("GRANT {} TO {} WITH INHERIT TRUE, SET FALSE").format(
                sql.Identifier(store_set), sql.Identifier(login)
            )
        )
        connection.execute(
            sql.SQL("INSERT INTO {}.tenant_logins (login, tenant, slot) VALUES (%s, %s, 'a')").format(schema),
            (login, tenant),
        )
    return installation.database.dsn_as(login, PASSWORD)


def make_app(installation: Installation) -> str:
    """Make the shared login of sealed mode and return its DSN."""
    app = installation.names.app
    with installation.connect(installation.names.owner) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(app), sql.Literal(PASSWORD))
        )
    grant_stores(installation, app, ALL_STORES, sealed=True)
    return installation.database.dsn_as(app, PASSWORD)


def make_sealed_tenant(installation: Installation, tenant: str, names: Iterable[str] = ALL_STORES) -> str:
    """Register a tenant in sealed mode and return its capability."""
    schema = sql.Identifier(installation.schema)
    with installation.connect(installation.names.owner) as connection:
        connection.execute(
            sql.SQL(
                "INSERT INTO {}.tenants (tenant, namespace, name, stores, isolation)"
                " VALUES (%s, 'test', %s, %s, 'sealed')"
            ).format(schema),
            (tenant, tenant, list(names)),
        )
        row = connection.execute(sql.SQL("SELECT {}.capability(%s, 1)").format(schema), (tenant,)).fetchone()
    assert row is not None
    return str(row[0])


def connect(dsn: str, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """Open an autocommit connection."""
    return psycopg.connect(dsn, autocommit=True, **options)
