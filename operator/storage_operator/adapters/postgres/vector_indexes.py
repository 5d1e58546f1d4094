"""Indexes of big tenants' vectors: which tenants want looking at, and building beside running traffic, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import Installation
from storage_operator.adapters.postgres.migrator import Driver
from storage_operator.adapters.postgres.server import connect
from storage_sql.effects import SqlFailure, drive_async
from storage_sql.renderer import ident, render
from storage_sql.stores import VECTOR_TABLE
from storage_sql.vector_indexes import (
    IndexOptions,
    IndexReport,
    Metric,
    exact_scan_threshold,
    maintain_index,
    names_of,
)

_TABLES = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {{ schema_name }} AND c.relkind = 'p' AND c.relname LIKE 'vector\\_embeddings\\_%'"""
# Over the primary key alone: the rows themselves, which hold the vectors, are not read.
_COUNTS = "SELECT tenant_id, count(*) FROM {{ schema }}.{{ table }} GROUP BY tenant_id"
_INDEXES = """SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {{ schema_name }} AND c.relkind = 'i' AND c.relname ~ '^vector_[0-9]+_(hnsw|vchordrq)_'"""
_PARAMETERS = "SELECT parameters FROM {{ schema }}.components WHERE store = 'vectors' AND enabled"

_METRICS: dict[str, Metric] = {"Cosine": "cosine", "L2": "l2", "InnerProduct": "inner_product"}


@dataclass(frozen=True, slots=True)
class Grown:
    """One tenant's vectors of one dimension that may want an index, or no longer."""

    tenant: str
    dimension: int
    options: IndexOptions


async def grown(installation: Installation) -> tuple[Grown, ...]:
    """Return what is to be looked at: vectors above their threshold, and those that have an index."""
    server = installation.server
    schema, schema_name = ident(installation.schema), installation.schema_literal
    parameters = await server.query(render(_PARAMETERS, schema=schema))
    if not parameters:
        return ()
    indexes = {name for (name,) in await server.query(render(_INDEXES, schema_name=schema_name))}
    found: list[Grown] = []
    for (table,) in await server.query(render(_TABLES, schema_name=schema_name)):
        named = VECTOR_TABLE.fullmatch(table)
        if named is None:
            continue
        counts = await server.query(
            render(_COUNTS, schema=schema, table=ident(table)), role=installation.roles.maintenance
        )
        found += _wanted(int(named[1]), counts, parameters[0][0], indexes)
    return tuple(found)


async def tend(installation: Installation, conninfo: str, wanted: Grown) -> IndexReport:
    """Build or drop one tenant's index as its vectors want it; raises ``DatabaseFault``.

    On a session of its own, because a build takes minutes and waits for older transactions of other tenants.
    """
    await installation.fence()
    connection = await connect(conninfo, options="-c statement_timeout=0 -c search_path=pg_catalog,pg_temp")
    driver = Driver(connection, conninfo)
    try:
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(installation.roles.maintenance)))
        procedure = maintain_index(
            installation.schema,
            installation.facts.vector_schema,
            wanted.tenant,
            wanted.dimension,
            wanted.options,
        )
        return await drive_async(procedure, driver)
    except SqlFailure as failure:
        raise DatabaseFault("VectorIndexFailed", failure.message, connection=False) from failure
    finally:
        await driver.connection.close()


def _wanted(
    dimension: int, counts: Iterable[tuple[Any, ...]], parameters: Mapping[str, Any], indexes: set[str]
) -> list[Grown]:
    """Pick the tenants of one dimension that a look can change something for."""
    own = parameters.get("dimensions", {}).get(str(dimension), {})
    threshold = own.get("exact_scan_threshold")
    options = IndexOptions(
        metric=_METRICS[parameters.get("metric", "Cosine")],
        method=parameters.get("index_method", "hnsw"),
        exact_scan_threshold=threshold,
        m=own.get("m"),
        ef_construction=own.get("ef_construction"),
    )
    least = exact_scan_threshold(dimension) if threshold is None else threshold
    return [
        Grown(tenant, dimension, options)
        for tenant, rows in counts
        if rows > least or indexes & names_of(tenant, dimension).keys()
    ]
