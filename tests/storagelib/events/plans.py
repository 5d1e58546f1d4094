"""What the server does with the statements that a verb sends: as the tenant, with values known and unknown to the planner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storage_sql.queries import Query, compile_query
from storage_sql.renderer import ident
from storagelib._sync.postgres.database import Database

Node = dict[str, Any]
MODES = ("force_custom_plan", "force_generic_plan")


@contextmanager
def sent_statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Query, Mapping[str, Any]]]]:
    """Collect the statements that verbs of the blocking library send while they do their work."""
    sent: list[tuple[Query, Mapping[str, Any]]] = []
    run = Database.run

    def listening(self: Database, calls: Any) -> Any:
        sent.extend(calls)
        return run(self, calls)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "run", listening)
        yield sent


def nodes(
    connection: psycopg.Connection[Any], schema: str, tenant: str, call: tuple[Query, Mapping[str, Any]], mode: str
) -> list[Node]:
    """Run a statement under EXPLAIN as it is prepared by the library, and return the nodes of its plan."""
    return nodes_of_each(connection, schema, tenant, [call], mode)[0]


def nodes_of_each(
    connection: psycopg.Connection[Any],
    schema: str,
    tenant: str,
    calls: Sequence[tuple[Query, Mapping[str, Any]]],
    mode: str,
) -> list[list[Node]]:
    """Run statements under EXPLAIN in one transaction, which is taken back; return the nodes of each plan."""
    plans = []
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL plan_cache_mode = {}").format(sql.SQL(mode)))
        for query, values in calls:
            compiled = compile_query(query, {"schema": ident(schema), "extensions": ident("public")})
            given = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
            given["tenant"] = tenant
            types = ", ".join(kind for _, kind in compiled.parameters)
            arguments = sql.SQL(", ").join(sql.Literal(given[name]) for name, _ in compiled.parameters)
            connection.execute(f"PREPARE explained ({types}) AS {compiled.text}".encode())
            explain = sql.SQL("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) EXECUTE explained ({})")
            row = connection.execute(explain.format(arguments)).fetchone()
            connection.execute("DEALLOCATE explained")
            assert row is not None
            plans.append(list(_walk(row[0][0]["Plan"])))
    return plans


def counted(
    connection: psycopg.Connection[Any], schema: str, tenant: str, call: tuple[Query, Mapping[str, Any]], mode: str
) -> dict[str, tuple[int, int]]:
    """Run a statement and take it back; return how many scans from end to end each table saw, and how many rows were read.

    This sees into functions, which a plan does not.
    """
    query, values = call
    compiled = compile_query(query, {"schema": ident(schema), "extensions": ident("public")})
    given = {**values, "tenant": tenant}
    types = ", ".join(kind for _, kind in compiled.parameters)
    arguments = sql.SQL(", ").join(sql.Literal(given[name]) for name, _ in compiled.parameters)
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL plan_cache_mode = {}").format(sql.SQL(mode)))
        connection.execute(f"PREPARE counted ({types}) AS {compiled.text}".encode())
        before = _counters(connection, schema)
        assert connection.execute(sql.SQL("EXECUTE counted ({})").format(arguments)).fetchall()
        after = _counters(connection, schema)
        connection.execute("DEALLOCATE counted")
    none = (0, 0)
    return {
        table: (scanned - before.get(table, none)[0], read - before.get(table, none)[1])
        for table, (scanned, read) in after.items()
    }


def _counters(connection: psycopg.Connection[Any], schema: str) -> dict[str, tuple[int, int]]:
    """Read what the session has counted since it last told the server."""
    rows = connection.execute(
        "SELECT relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
        " WHERE schemaname = %s",
        (schema,),
    ).fetchall()
    return {name: (scanned, read) for name, scanned, read in rows}


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", []):
        yield from _walk(child)


def touched(plan: list[Node], table: str) -> int:
    """Count the rows that scans of a table, or of its partitions, looked at."""
    return sum(_looked_at(node) for node in plan if node.get("Relation Name", "").startswith(table))


def scans(plan: list[Node], table: str) -> set[str]:
    """Return the kinds of scans of a table, or of its partitions, that found something there to look at."""
    return {
        node["Node Type"] for node in plan if node.get("Relation Name", "").startswith(table) and _looked_at(node) > 0
    }


def _looked_at(node: Node) -> int:
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])
