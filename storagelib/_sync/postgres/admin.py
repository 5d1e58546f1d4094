# Made from storagelib/_async/postgres/admin.py by scripts/sync; change that file instead.
"""Administration of a PostgreSQL: one connection of the operator's login, under the maintenance role where all rows are seen."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg

from storage_sql import migrations
from storage_sql.effects import Connect, Effect, Query, Rows, Sleep, SqlFailure, drive
from storage_sql.queries import Query as Statement
from storage_sql.queries import load
from storage_sql.renderer import Identifier, Literal, ident, literal, render, render_file
from storage_sql.runner import Installation, RunOptions, discover, migrate_postgres, status_postgres
from storage_sql.vector_indexes import IndexOptions, IndexReport, maintain_index, observe, plan_index
from storagelib._postgres import session
from storagelib._postgres.faults import translated
from storagelib._sync.postgres.database import LibraryConnection, Transaction
from storagelib._sync.postgres.rows import PostgresRows
from storagelib.blocking import sleep
from storagelib.components.administration import SchemaStatus, StoreStatistics, totals
from storagelib.errors import MigrationError, StorageError, Unavailable
from storagelib.release import release_name

__all__ = ["PostgresAdministration"]

Result = TypeVar("Result")

_VECTOR: Final = "SELECT pg_catalog.to_regtype(pg_catalog.quote_ident(%s) || '.vector')::oid::int8"
_SNAPSHOT: Final = load("transfer")["snapshot"]
_BECOME: Final = Statement("transfer.become", "SET LOCAL ROLE {{ role }}", {})
_MEASURE: Final = """SELECT t.tenant_id, count(*), COALESCE(sum(
    {% for column in columns %}COALESCE(pg_column_size(t.{{ column }}), 0){% if not loop.last %} + {% endif %}{% endfor %}), 0)::bigint
  FROM {{ schema }}.{{ table }} AS t {% if one %}WHERE t.tenant_id = {{ tenant }}{% endif %} GROUP BY t.tenant_id"""
_PURGE: Final = """WITH dead AS (
    SELECT tenant_id, key FROM {{ schema }}.kv_store
     WHERE expires_at <= clock_timestamp() LIMIT {{ most }} FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM {{ schema }}.kv_store AS k USING dead
     WHERE k.tenant_id = dead.tenant_id AND k.key = dead.key RETURNING 1
) SELECT count(*) FROM gone"""


class PostgresAdministration:
    """See ``AdministrationBackend``."""

    def __init__(self, connection: LibraryConnection, schema: str) -> None:
        """Take a connection in autocommit mode; ``open`` makes one."""
        self._connection = connection
        self._schema = schema
        self._has_session = False

    @classmethod
    def open(cls, url: str, schema: str) -> PostgresAdministration:
        """Connect, and find the installation; raises ``MigrationError`` where there is none."""
        try:
            connection = LibraryConnection.connect(url, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise translated(error, sent=False) from error
        opened = cls(connection, schema)
        try:
            opened._installation()
        except BaseException:
            connection.close()
            raise
        return opened

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def schema_status(self) -> SchemaStatus:
        """Compare the schema with this release."""
        return _status(self._run(status_postgres(self._schema)))

    def migrate(self, target: int | None) -> SchemaStatus:
        """Bring the schema up."""
        self._run(migrate_postgres(self._schema, RunOptions(release=release_name(), target=target)))
        return self.schema_status()

    def tenants(self, after: str, limit: int) -> list[str]:
        """Return registered tenants greater than ``after``."""
        text = "SELECT tenant FROM {{ schema }}.tenants WHERE tenant > {{ after }} ORDER BY tenant LIMIT {{ most }}"
        rows = self._as("owner", text, after=literal(after), most=literal(limit))
        return [tenant for (tenant,) in rows]

    def statistics(self, tenant_id: str | None) -> list[StoreStatistics]:
        """Measure one tenant or all, each table in one pass."""
        tables = self._rows(render_file("provisioning/tenant_columns.sql", schema_name=literal(self._schema)))
        measured: list[tuple[str, str, int, int]] = []
        for table, columns in tables:
            marks: dict[str, Any] = {
                "table": ident(table),
                "columns": [ident(column) for column in columns],
                "one": tenant_id is not None,
                "tenant": literal(tenant_id),
            }
            rows = self._as("maintenance", _MEASURE, **marks)
            measured += [(table, tenant, count, size) for tenant, count, size in rows]
        return totals(measured)

    def purge_expired(self, limit: int) -> int:
        """Remove expired entries of all tenants; count them."""
        return int((self._as("maintenance", _PURGE, most=literal(limit)))[0][0])

    def vector_index(self, tenant_id: str, dimension: int, options: IndexOptions, dry_run: bool) -> IndexReport:
        """Plan, or maintain, the index of one tenant's vectors."""
        installation = self._installation()
        self._rows(f"SET ROLE {ident(installation.names.maintenance)}")
        try:
            if not dry_run:
                extensions = installation.extensions
                return self._run(maintain_index(self._schema, extensions, tenant_id, dimension, options))
            observed = self._run(observe(self._schema, tenant_id, dimension))
            actions, notes = plan_index(tenant_id, dimension, observed, options)
            return IndexReport(observed, actions, notes)
        finally:
            self._rows("RESET ROLE")

    @contextmanager
    def rows(self, tenant_id: str) -> Iterator[PostgresRows]:
        """Give every row of one tenant, to be read as they are at one moment, or written; all or nothing.

        The transaction is the maintenance role's, and commits when the block ends well.
        """
        installation = self._installation()
        if not self._has_session:
            ((vector,),) = self._rows(_VECTOR, installation.extensions)
            known = session.Installation(self._schema, installation.extensions, {"vector": vector})
            self._connection.session = session.Session(self._connection, known, prepares=True, pipelines=True)
            self._has_session = True
        names = installation.names
        owner, maintenance = (_BECOME.variant(role=ident(role)) for role in (names.owner, names.maintenance))
        with Transaction(self._connection, tenant_id, None).whole() as transaction:
            transaction.run([(_SNAPSHOT, {}), (maintenance, {})])
            yield PostgresRows(transaction, tenant_id, self._schema, (owner, maintenance))

    def _installation(self) -> Installation:
        return self._run(discover(self._schema))

    def _as(self, role: str, text: str, **marks: Identifier | Literal | bool) -> list[tuple[Any, ...]]:
        """Run one statement under a role of the installation, in a transaction that ends with it."""
        installation = self._installation()
        name = ident(installation.names.maintenance if role == "maintenance" else installation.names.owner)
        self._rows(f"BEGIN; SET LOCAL ROLE {name}")
        try:
            rows = self._rows(render(text, schema=ident(self._schema), **marks))
        except StorageError:
            self._rows("ROLLBACK")
            raise
        self._rows("COMMIT")
        return rows

    def _run(self, procedure: Generator[Effect, Rows, Result]) -> Result:
        try:
            return drive(procedure, self._serve)
        except migrations.MigrationError as error:
            raise MigrationError(str(error)) from error
        except SqlFailure as failure:
            raise _fault(failure) from failure

    def _serve(self, effect: Effect) -> list[tuple[Any, ...]]:
        if isinstance(effect, Sleep):
            sleep(effect.seconds)
            return []
        if isinstance(effect, Connect):
            raise MigrationError("administration stays in its own database")
        try:
            cursor = self._connection.execute(effect.sql.encode(), effect.params or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise SqlFailure(error.sqlstate or "08006", str(error)) from error

    def _rows(self, text: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._serve(Query(text, values))
        except SqlFailure as failure:
            raise _fault(failure) from failure


def _fault(failure: SqlFailure) -> BaseException:
    return Unavailable(failure.message) if failure.__cause__ is None else translated(failure.__cause__)


def _status(plan: migrations.MigrationPlan) -> SchemaStatus:
    return SchemaStatus(plan.current, plan.target, tuple(migration.label for migration in plan.pending))
