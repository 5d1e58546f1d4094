"""Administration of an SQLite file."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Final

from storage_sql import migrations
from storage_sql.vector_indexes import IndexOptions, IndexReport, ObservedVectors
from storagelib.components.administration import SchemaStatus, StoreStatistics, totals
from storagelib.config import SqliteConfig
from storagelib.errors import InvalidInput
from storagelib.sqlite.engine import SqliteEngine, SqliteStore, reads_together, writes

__all__ = ["SqliteAdministration"]

_TABLES: Final = """
SELECT m.name, group_concat('COALESCE(length(CAST("' || c.name || '" AS BLOB)), 0)', ' + ')
  FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
 WHERE m.type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'tenant_id')
   AND m.name <> 'test_table'
 GROUP BY m.name ORDER BY m.name"""


class SqliteAdministration(SqliteStore):
    """See ``AdministrationBackend``."""

    def __init__(self, engine: SqliteEngine) -> None:
        """Take an opened file."""
        super().__init__(engine, "")

    @classmethod
    def open(cls, config: SqliteConfig) -> SqliteAdministration:
        """Open the file, which brings its schema up."""
        engine = SqliteEngine(
            config.path, durability=config.durability, busy_timeout_seconds=config.busy_timeout_seconds
        )
        return cls(engine.open())

    def close(self) -> None:
        """Close the file."""
        self.engine.close()

    def schema_status(self) -> SchemaStatus:
        """Tell the version; an opened file has the newest."""
        newest = migrations.available("sqlite")[-1].version
        return SchemaStatus(newest, newest, ())

    def migrate(self, target: int | None) -> SchemaStatus:
        """Do nothing: opening the file did it."""
        status = self.schema_status()
        if target is not None and target != status.current:
            raise InvalidInput("the argument cannot be used", ["target: an SQLite file always has the newest version"])
        return status

    @reads_together
    def tenants(self, database: Connection, after: str, limit: int) -> list[str]:
        """Return tenants with rows greater than ``after``."""
        found: set[str] = set()
        for table, _ in database.execute(_TABLES).fetchall():
            rows = database.execute(
                f'SELECT DISTINCT tenant_id FROM "{table}" WHERE tenant_id > ? ORDER BY tenant_id LIMIT ?',
                (after, limit),
            )
            found |= {tenant for (tenant,) in rows}
        return sorted(found)[:limit]

    @reads_together
    def statistics(self, database: Connection, tenant_id: str | None) -> list[StoreStatistics]:
        """Measure one tenant or all, each table in one pass."""
        measured: list[tuple[str, str, int, int]] = []
        for table, size in database.execute(_TABLES).fetchall():
            rows = database.execute(
                f'SELECT tenant_id, count(*), sum({size}) FROM "{table}"'
                " WHERE ?1 IS NULL OR tenant_id = ?1 GROUP BY tenant_id",
                (tenant_id,),
            )
            measured += [(table, tenant, count, total) for tenant, count, total in rows]
        return totals(measured)

    @writes
    def purge_expired(self, database: Connection, limit: int) -> int:
        """Remove expired entries of all tenants; count them."""
        return database.execute(
            "DELETE FROM kv_store WHERE (tenant_id, key) IN"
            " (SELECT tenant_id, key FROM kv_store WHERE expires_at <= ? LIMIT ?)",
            (self.engine.now(), limit),
        ).rowcount

    @reads_together
    def vector_index(
        self, database: Connection, tenant_id: str, dimension: int, _options: IndexOptions, _dry_run: bool
    ) -> IndexReport:
        """Say that vectors are scanned here."""
        table = f"vector_embeddings_{dimension}"
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
            return IndexReport(ObservedVectors(0, None))
        ((rows,),) = database.execute(f'SELECT count(*) FROM "{table}" WHERE tenant_id = ?', (tenant_id,)).fetchall()
        return IndexReport(ObservedVectors(rows, table), (), ("vectors in SQLite are always scanned exactly",))
