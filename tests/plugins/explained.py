"""What PostgreSQL does for one of the library's statements: as a tenant's login, under row-level security."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage_sql.queries import Query, compile_query
from storage_sql.renderer import ident
from tests.plugins.conformance import Tenants


def crowded(tenants: Tenants, fill: str, many: int) -> str:
    """Make a tenant with many rows beside another one with as many; the text that writes both names it and their number."""
    tenant = tenants.new("role")
    with closing(psycopg.connect(tenants.installation.superuser_dsn, autocommit=True)) as superuser:
        # Rows that were few and wide when they were counted last have the checks of foreign keys planned for few: by an
        # index of which they read all of a tenant, for each row.
        superuser.execute("SET session_replication_role = replica")
        superuser.execute(fill.replace("{tenant}", tenant).replace("{many}", str(many)).encode())
        superuser.execute("VACUUM ANALYZE")
    return tenant


@pytest.fixture
def connection(conformance_tenants: Tenants, tenant: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a session of the own login of a file's tenant."""
    with closing(psycopg.connect(conformance_tenants.of(tenant).conninfo)) as opened:
        yield opened


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan that was carried out."""

    root: dict[str, Any]
    milliseconds: float

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Go through all its nodes."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    def indexes(self) -> set[str]:
        """Return the indexes that were used."""
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    def scanned(self) -> set[str]:
        """Return the tables that were read from end to end."""
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"}

    def blocks(self) -> int:
        """Return how many blocks were read, wherever they were: what an index throws away within itself counts."""
        return int(self.root["Shared Hit Blocks"] + self.root["Shared Read Blocks"])

    def rows(self) -> float:
        """Return how many rows its scans looked at, those that a filter threw away included."""
        total = 0.0
        for node in self.nodes():
            if "Relation Name" in node or "Index Name" in node:
                seen = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                total += (seen + node.get("Rows Removed by Index Recheck", 0)) * node["Actual Loops"]
        return total


def plan_of(
    connection: psycopg.Connection[Any], schema: str, query: Query, *, generic: bool = False, **values: Any
) -> Plan:
    """Carry a statement out and take it back; ``generic`` plans it without its values, as a prepared one may be."""
    compiled = compile_query(query, {"schema": ident(schema), "extensions": ident("public")})
    types = sql.SQL(", ").join(sql.SQL(kind) for _, kind in compiled.parameters)
    literals = sql.SQL(", ").join(sql.Literal(values[name]) for name, _ in compiled.parameters)
    connection.rollback()
    connection.execute(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
    connection.execute(sql.SQL("PREPARE explained ({}) AS {}").format(types, sql.SQL(compiled.text)), prepare=False)
    try:
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE explained ({})").format(literals)
        ((found,),) = connection.execute(explain, prepare=False).fetchall()
    finally:
        connection.rollback()
        connection.execute("DEALLOCATE explained")
        connection.rollback()
    return Plan(found[0]["Plan"], found[0]["Execution Time"])
