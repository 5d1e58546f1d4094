"""The tenancy contract: whatever a tenant calls, the neighbour's rows stay bit for bit, and nothing of them is seen.

Every public verb of every store is called by one tenant with the neighbour's own ids, once with rows of its own under the
same ids and once without any. What comes back, error texts included, must not hold the neighbour's mark, and the
neighbour's rows are compared below the library, in the tables themselves.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
from psycopg import sql

from storage_sql.stores import STORES
from storagelib.backends import class_of
from storagelib.conformance.subjects import Subject
from storagelib.errors import InvalidInput, StorageError
from tests.plugins.conformance import Tenants
from tests.storagelib.tenancy.samples import SAMPLES, Samples

THEIRS, MINE = "theirs-9f31c7", "mine-51ab02"
ITEMS_MAX = 1000


def rows_of(subject: Subject, store: Any, tenant_id: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return every row of a tenant, from below the library."""
    engines = getattr(store, "_target", store)._engines
    if subject.name.startswith("memory"):
        return {
            name: dict(table.rows) for name, table in engines["memory"].space(tenant_id).tables.items() if table.rows
        }
    if subject.name.startswith("sqlite"):
        return engines["sqlite"].read(lambda database: _sqlite_rows(database, tenant_id), together=True)
    tenants: Tenants = request.getfixturevalue("conformance_tenants")
    with tenants.installation.database.connect() as connection:
        tables = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND EXISTS (SELECT FROM"
            " pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped)",
            (tenants.installation.schema,),
        ).fetchall()
        found = {}
        for (table,) in tables:
            query = sql.SQL("SELECT t::text FROM {}.{} AS t WHERE tenant_id = %s ORDER BY 1")
            named = query.format(sql.Identifier(tenants.installation.schema), sql.Identifier(table))
            rows = connection.execute(named, (tenant_id,)).fetchall()
            if rows:
                found[table] = rows
        return found


def _sqlite_rows(database: Any, tenant_id: str) -> dict[str, Any]:
    found = {}
    names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in names:
        columns = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
        if "tenant_id" in columns:
            rows = database.execute(f'SELECT * FROM "{table}" WHERE tenant_id = ?', (tenant_id,)).fetchall()
            if rows:
                found[table] = sorted(map(repr, rows))
    return found


def verbs_of(store: str) -> dict[str, list[str]]:
    """Return the public verbs of a store with their required parameters."""
    kind = class_of("storagelib._async", "Async", store)
    verbs = {}
    for name, method in inspect.getmembers(kind, callable):
        if not name.startswith("_"):
            parameters = [each for each in inspect.signature(method).parameters.values() if each.name != "self"]
            verbs[name] = [each.name for each in parameters if each.default is each.empty]
    return verbs


async def called(facade: Any, name: str, arguments: dict[str, Any]) -> Any:
    """Call a verb, whatever kind it is, and return what comes back or is raised."""
    try:
        result = getattr(facade, name)(**arguments)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, AsyncIterator):
            return [item async for item, _ in _bounded(result)]
    except StorageError as error:
        return error
    return result


async def _bounded(items: AsyncIterator[Any]) -> AsyncIterator[tuple[Any, int]]:
    count = 0
    async for item in items:
        count += 1
        assert count <= ITEMS_MAX, "an iterator that does not end"
        yield item, count


async def attack(tenant: Any, store: str, samples: Samples) -> dict[str, Any]:
    """Call every verb, those that remove last; return what came back by verb."""
    verbs = verbs_of(store)
    facade = getattr(tenant, store)
    last = [name for name in samples.removes if name in verbs]
    assert set(last) == set(samples.removes), "a removing verb is not there (any more)"
    answers: dict[str, Any] = {}
    for name in [*(name for name in verbs if name not in last), *last]:
        given = {**samples.arguments, **samples.special.get(name, {})}
        missing = [parameter for parameter in verbs[name] if parameter not in given]
        assert not missing, f"{store}.{name}: samples.py has no value for {', '.join(missing)}"
        arguments = {parameter: given[parameter] for parameter in verbs[name]} | dict(samples.special.get(name, {}))
        answers[name] = await called(facade, name, arguments)
    return answers


def test_every_store_has_samples() -> None:
    """None is forgotten."""
    assert set(SAMPLES) == {store.name for store in STORES}


@pytest.mark.parametrize("owns", [False, True], ids=["nothing", "the-same-ids"])
@pytest.mark.parametrize("name", sorted(SAMPLES))
async def test_no_verb_reaches_the_neighbour(
    subject: Subject, store: Any, tenant: Any, neighbour: Any, request: pytest.FixtureRequest, name: str, owns: bool
) -> None:
    """Nothing of the neighbour's is read, changed, removed or told."""
    samples = SAMPLES[name]
    await samples.seed(neighbour, THEIRS)
    if owns:
        await samples.seed(tenant, MINE)
    await asyncio.sleep(0.005)
    before = rows_of(subject, store, neighbour.tenant_id, request)
    assert before, "the neighbour has nothing: the test could not fail"
    answers = await attack(tenant, name, samples)
    assert rows_of(subject, store, neighbour.tenant_id, request) == before
    told = {verb: repr(answer) for verb, answer in answers.items()}
    assert [verb for verb, text in told.items() if THEIRS in text or neighbour.tenant_id in text] == []
    refused = {verb: str(answer) for verb, answer in answers.items() if isinstance(answer, InvalidInput)}
    assert refused == {}, "the samples are wrong for these verbs, so that they tested nothing"
    if owns:
        assert any(MINE in text for text in told.values()), "the tenant does not even see its own rows"
