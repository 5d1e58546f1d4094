"""What row-level security and entering a tenant cost: the same SQL on the same rows, protected and not."""

from __future__ import annotations

from typing import Any

import psycopg

from benchmarks.pairs import Pair, latency
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from storage_sql.queries import Query

_SHORT = "SELECT value FROM {{{{ schema }}}}.kv_store WHERE tenant_id = {tenant} AND key = {key}"
_LONG = """SELECT count(*), sum(length(value)), max(updated_at) FROM {{{{ schema }}}}.kv_store
WHERE tenant_id = {tenant} AND key >= {key} AND version > 0"""
_FILL = """INSERT INTO {schema}.kv_store (tenant_id, key, value)
SELECT %s, 'k' || lpad(n::text, 6, '0'), decode(repeat(md5(n::text), 4), 'hex') FROM generate_series(1, %s) AS n"""
_PEER = "the same SQL, no row-level security"
_KEY = "k000007"


def measure(ground: Ground) -> list[Result]:
    """Measure a look-up by key and a query of more than a millisecond, in both modes."""
    schema = ground.tenants.installation.schema
    rows = ground.size(20_000, tiny=100)
    results = []
    with ground.connect() as superuser:
        superuser.execute("CREATE SCHEMA bare")
        superuser.execute(f"CREATE TABLE bare.kv_store (LIKE {schema}.kv_store INCLUDING ALL)".encode())
        for mode in ("role", "sealed"):
            tenant = ground.new_tenant(mode)
            for place in (schema, "bare"):
                superuser.execute(_FILL.format(schema=place).encode(), (tenant, rows))
                superuser.execute(f"VACUUM ANALYZE {place}.kv_store".encode())
            results += _mode(ground, mode, tenant, superuser)
    return results


def _mode(ground: Ground, mode: str, tenant: str, bare: psycopg.Connection[Any]) -> list[Result]:
    with ground.store(mode) as store:
        # What every store's statements go through; there is no verb for SQL of one's own.
        database = store.for_tenant(tenant).kv._backend._database  # type: ignore[attr-defined]  # noqa: SLF001

        def pair(statement: str, key: str, calls: int) -> Pair:
            query = Query("bench", statement.format(tenant=":tenant", key=":key"), {"key": "text"})
            plain = statement.format(tenant="%s", key="%s").replace("{{ schema }}", "bare").encode()
            return latency(
                lambda: database.fetch(query, key=key),
                lambda: bare.execute(plain, (tenant, key), prepare=True, binary=True).fetchall(),
                calls=calls,
            )

        short = pair(_SHORT, _KEY, 2000)
        long = pair(_LONG, "", 60)
    return [
        _added(f"row-level security with tenant entry, a look-up by key, {mode} mode", short),
        compared(f"row-level security with tenant entry, a query over 1 ms, {mode} mode", long, _PEER, at_most=1.05),
    ]


def _added(name: str, pair: Pair) -> Result:
    """Say how much longer a call takes; less than nothing when the library's way is shorter than the peer's."""
    more = (pair.ours - pair.peer) * 1e6
    return figure(
        name,
        "µs more",
        more,
        "≤ +60 µs a call",
        lambda taken: taken <= 60,
        runs=pair.runs,
        command=COMMAND,
    )
