"""The operator builds an index for the vectors of a tenant that has many, and takes it away when they are few again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from storage_operator.adapters.postgres import vector_indexes
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.housekeeping import Housekeeper
from storage_sql.vector_indexes import BuildIndex, DropIndex
from tests.plugins.installation import Installation
from tests.reconcile.stage import Stage, staged

THRESHOLD = 60
PARAMETERS = json.dumps(
    {
        "metric": "L2",
        "index_method": "hnsw",
        "dimensions": {"128": {"m": 8, "ef_construction": 32, "exact_scan_threshold": THRESHOLD}},
    }
)


@pytest.fixture
async def stage(installation: Installation) -> AsyncIterator[Stage]:
    """Give a connected reconciler whose vectors are indexed from 60 rows on."""
    async with staged(installation, limits={"usageInterval": "1s"}) as made:
        with installation.connect(installation.names.owner) as connection:
            connection.execute(
                "UPDATE llmspell.components SET parameters = %s WHERE store = 'vectors'",
                (PARAMETERS,),
            )
        yield made


def put(session: psycopg.Connection[Any], tenant: str, count: int) -> None:
    """Write vectors."""
    session.execute(
        "INSERT INTO llmspell.vector_embeddings_128 (tenant_id, id, embedding)"
        " SELECT %s, 'v' || n, (SELECT array_agg(sin(n * d))::real[] FROM generate_series(1, 128) d)::public.vector"
        "   FROM generate_series(1, %s) n ON CONFLICT DO NOTHING",
        (tenant, count),
    )


def indexes(stage: Stage, installation: Installation) -> list[str]:
    """Return the definitions of tenants' indexes."""
    with installation.database.connect() as connection:
        rows = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'llmspell' AND indexname ~ '^vector_[0-9]+_hnsw_' ORDER BY 1"
        )
        return [row[0] for row in rows]


def tended(stage: Stage) -> Tended:
    """Return the cluster's entry."""
    found = stage.reconciler.context.fleet.get(stage.cluster)
    assert found is not None
    return found


async def rounds(stage: Stage) -> list[object]:
    """Do what one round of housekeeping does and return the actions."""
    done: list[object] = []
    cluster = tended(stage)
    for wanted in await vector_indexes.grown(cluster.installation):
        report = await vector_indexes.tend(cluster.installation, cluster.conninfo, wanted)
        done += report.actions
    return done


async def test_big_tenants_get_an_index_of_their_own(stage: Stage, installation: Installation) -> None:
    """Above the threshold, as the component's parameters say, once; small tenants get none."""
    big, small = await stage.ready("big"), await stage.ready("small")
    for key, name, count in ((big, "big", THRESHOLD + 1), (small, "small", THRESHOLD)):
        with psycopg.connect(stage.dsn(key), autocommit=True) as session:
            put(session, name, count)
    assert [type(action) for action in await rounds(stage)] == [BuildIndex]
    (definition,) = indexes(stage, installation)
    assert "vector_l2_ops" in definition
    assert "m='8'" in definition
    assert "'big'" in definition
    assert await rounds(stage) == []
    assert await tended(stage).installation.audit() == ()
    with psycopg.connect(stage.dsn(big), autocommit=True) as session:
        session.execute("DELETE FROM vector_embeddings_128 WHERE id > 'v2'")
    assert [type(action) for action in await rounds(stage)] == [DropIndex]
    assert indexes(stage, installation) == []


async def test_housekeeping_does_it_beside_its_passes(stage: Stage, installation: Installation) -> None:
    """A pass begins a round and does not wait for it; the next round begins when this one is over and its time has come."""
    key = await stage.ready("grown")
    with psycopg.connect(stage.dsn(key), autocommit=True) as session:
        put(session, "grown", THRESHOLD + 20)
    housekeeper = Housekeeper(stage.reconciler.context)
    await housekeeper.look_after(tended(stage))
    first = tended(stage).indexing
    assert first is not None
    await first
    assert len(indexes(stage, installation)) == 1
    await housekeeper.look_after(tended(stage))
    assert tended(stage).indexing is first


async def test_a_disabled_store_is_left_alone(stage: Stage, installation: Installation) -> None:
    """Without the store there is nothing to look at."""
    with installation.connect(installation.names.owner) as connection:
        connection.execute("UPDATE llmspell.components SET enabled = false WHERE store = 'vectors'")
    try:
        assert await vector_indexes.grown(tended(stage).installation) == ()
    finally:
        with installation.connect(installation.names.owner) as connection:
            connection.execute("UPDATE llmspell.components SET enabled = true WHERE store = 'vectors'")
