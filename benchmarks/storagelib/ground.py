"""What the library is measured on: a PostgreSQL of its own (fsync on), tenants in both modes, and unprotected peers' tables."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg

from benchmarks.pairs import Pair
from benchmarks.results import Result, figure
from storage_operator.devenv import ownership
from storage_operator.devenv.postgres import EmbeddedPostgres
from storagelib import AsyncStore, Store, StoreConfig
from tests.plugins.conformance import Tenants, opening_of
from tests.plugins.installation import installation_on

COMMAND = "make bench-storagelib"
SETTINGS = {"max_connections": "200", "shared_buffers": "512MB", "max_wal_size": "4GB", "jit": "off"}


@dataclass(frozen=True, slots=True)
class Ground:
    """Where one store's benchmark stands."""

    tenants: Tenants
    folder: Path
    full: bool
    """Whether the largest sizes are wanted."""
    tiny: bool = False
    """Whether this only tries the benchmarks out."""

    def size(self, usual: int, *, full: int | None = None, tiny: int) -> int:
        """Choose how much there is to be of something."""
        if self.tiny:
            return tiny
        return full if self.full and full is not None else usual

    @property
    def superuser_dsn(self) -> str:
        """The login without row-level security that peers work with."""
        return self.tenants.installation.superuser_dsn

    def connect(self) -> psycopg.Connection[Any]:
        """Open a peer's connection, in autocommit mode, which is the cheapest way to commit each statement."""
        return psycopg.connect(self.superuser_dsn, autocommit=True)

    def store(self, mode: str = "role") -> Store:
        """Open a store whose tenants this ground makes."""
        opening = opening_of(self.tenants, mode, pool_min=1)
        return Store.open(opening.config, provider=opening.provider)

    async def async_store(self, mode: str = "role") -> AsyncStore:
        """Open the asynchronous store."""
        opening = opening_of(self.tenants, mode, pool_min=1)
        return await AsyncStore.open(opening.config, provider=opening.provider)

    def new_tenant(self, mode: str = "role") -> str:
        """Make a tenant."""
        return self.tenants.new(mode)

    def sqlite(self, name: str) -> Store:
        """Open a store on a file of its own, with the settings of the raw peer."""
        return Store.open(StoreConfig.on_sqlite(self.folder / f"{name}.db", durability="normal"))

    def raw_sqlite(self, name: str, *tables: str, rows: bool = False) -> sqlite3.Connection:
        """Open a peer's own file, with the tables of the store that ``sqlite`` opened: same keys, indexes and checks.

        ``rows`` brings what is in them, too.
        """
        marks = ", ".join("?" for _ in tables)
        made = f"SELECT sql FROM sqlite_master WHERE tbl_name IN ({marks}) AND sql IS NOT NULL ORDER BY type DESC"
        with closing(sqlite3.connect(self.folder / f"{name}.db")) as ours:
            statements = ours.execute(made, tables).fetchall()
        raw = sqlite3.connect(self.folder / f"raw-{name}.db", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = NORMAL",
            *(text for (text,) in statements),
        ):
            raw.execute(statement)
        if rows:
            raw.execute("ATTACH DATABASE ? AS ours", (str(self.folder / f"{name}.db"),))
            for table in tables:
                raw.execute(f"INSERT INTO main.{table} SELECT * FROM ours.{table}")
            raw.execute("DETACH DATABASE ours")
        return raw


@contextmanager
def ground(*, full: bool = False) -> Iterator[Ground]:
    """Start the server, migrate it, and take it down again whatever happens."""
    name = f"bench-{os.getpid()}"
    ownership.claim(name)
    server = EmbeddedPostgres(name)
    try:
        server.start(settings=SETTINGS, durable=True)
        with installation_on(server.dsn()) as installation, TemporaryDirectory() as folder:
            yield Ground(Tenants(installation), Path(folder), full)
    finally:
        server.remove()
        ownership.release(name)


def compared(
    name: str,
    pair: Pair,
    peer_name: str,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    share: float | None = None,
    of: str = "the peer",
    **unit: Any,
) -> Result:
    """Make a result of a pair of times: ``at_most`` bounds ours/peer in time, ``at_least`` peer/ours (how much faster).

    ``share`` is the part of the peer's throughput that is wanted, and ``of`` what that is called. Times are in microseconds, or in milliseconds from a millisecond on.
    """
    scale, label = (1e6, "µs") if pair.peer < 1e-3 else (1e3, "ms")
    made = figure(
        name,
        unit.get("unit", label),
        pair.ours * scale,
        "",
        peer=pair.peer * scale,
        peer_name=peer_name,
        runs=pair.runs,
        command=COMMAND,
    )
    if at_most is not None:
        return replace(made, ratio=pair.ratio, wanted=f"≤ {at_most:g}× the time", holds=pair.ratio <= at_most)
    if share is not None:
        return replace(made, ratio=pair.ratio, wanted=f"≥ {share:g} of {of}", holds=1 / pair.ratio >= share)
    if at_least is not None:
        return replace(made, ratio=pair.ratio, wanted=f"≥ {at_least:g}× faster", holds=1 / pair.ratio >= at_least)
    return replace(made, ratio=pair.ratio)
