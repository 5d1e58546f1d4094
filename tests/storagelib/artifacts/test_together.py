"""Many at once with the same content: nothing is lost, nothing is left over, and nobody reaches a neighbour's content."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

import pytest
from psycopg import errors

from storagelib.components.artifacts import CHUNK_BYTES, INLINE_BYTES, content_hash
from storagelib.conformance.subjects import Subject
from storagelib.errors import InvalidInput, NotFound
from tests.plugins.conformance import Tenants

WRITERS, ROUNDS = 8, 6
SMALL = b"the same small content"
LARGE = random.Random(3).randbytes(INLINE_BYTES + CHUNK_BYTES // 2)


@pytest.fixture(autouse=True)
def once(subject: Subject) -> None:
    """Leave out the blocking twin, whose calls come one after the other here."""
    if subject.blocking:
        pytest.skip("one call at a time")


async def _life(tenant: Any, writer: int) -> None:
    mixed = random.Random(writer)
    mine: list[tuple[str, bytes]] = []
    for turn in range(ROUNDS):
        for content in mixed.sample([SMALL, LARGE], 2):
            stored = await tenant.artifacts.store(f"session-{writer}", "name", content)
            mine.append((stored.artifact_id, content))
        if turn % 2:
            await tenant.artifacts.collect_garbage(older_than=0)
        identity, content = mine.pop(mixed.randrange(len(mine)))
        assert await tenant.artifacts.get(identity) == content
        assert await tenant.artifacts.delete(identity)
        with pytest.raises(NotFound):
            await tenant.artifacts.get(identity)
    for identity, content in mine:
        assert await tenant.artifacts.get(identity) == content


async def test_writers_of_the_same_content_lose_nothing_and_leave_nothing(tenant: Any, neighbour: Any) -> None:
    """Eight store, read, delete and collect the same two contents; what is counted at the end is what is there."""
    theirs = await neighbour.artifacts.store("session", "name", LARGE)
    await asyncio.gather(*(_life(tenant, writer) for writer in range(WRITERS)))
    left = await tenant.artifacts.statistics()
    assert (left.artifacts, left.contents, left.uploads) == (WRITERS * ROUNDS, 2, 0)
    removed = await asyncio.gather(*(tenant.artifacts.delete_session(f"session-{n}") for n in range(WRITERS)))
    assert sum(removed) == WRITERS * ROUNDS
    await tenant.artifacts.collect_garbage(older_than=0)
    after = await tenant.artifacts.statistics()
    assert (after.artifacts, after.contents, after.unreferenced_contents, after.uploads) == (0, 0, 0, 0)
    assert await neighbour.artifacts.get(theirs.artifact_id) == LARGE


async def test_sessions_that_share_contents_are_deleted_at_once(tenant: Any) -> None:
    """Each has the same thirty contents in an order of its own: nobody waits for another in a circle for long."""
    contents = [f"content {number}".encode() * 10 for number in range(30)]
    for writer in range(WRITERS):
        for content in random.Random(writer).sample(contents, len(contents)):
            await tenant.artifacts.store(f"session-{writer}", "name", content)
    removed = await asyncio.gather(*(tenant.artifacts.delete_session(f"session-{n}") for n in range(WRITERS)))
    assert removed == [len(contents)] * WRITERS
    collected = await tenant.artifacts.collect_garbage(older_than=0)
    assert collected.contents == len(contents)


async def test_content_that_only_a_neighbour_has_is_not_there(
    subject: Subject, tenant: Any, neighbour: Any, request: pytest.FixtureRequest
) -> None:
    """Knowing its hash helps nobody: not through the library's parts, and not in SQL of the tenant's own."""
    theirs = await neighbour.artifacts.store("session", "name", LARGE)
    digest = content_hash(LARGE)
    assert theirs.content_hash == digest
    backend = tenant.artifacts._backend
    assert [chunk async for chunk in _chunks(backend, digest)] == []
    mine = await tenant.artifacts.store("session", "name", SMALL)
    if not subject.name.startswith("postgres-role"):
        return
    tenants: Tenants = request.getfixturevalue("conformance_tenants")
    import psycopg

    with psycopg.connect(tenants.of(tenant.tenant_id).dsn, autocommit=True) as connection:
        schema = tenants.installation.schema
        seen = f"SELECT count(*) FROM {schema}.artifact_chunks WHERE content_hash = %s"
        assert connection.execute(seen, (digest,)).fetchone() == (0,)
        with pytest.raises(errors.ForeignKeyViolation):
            connection.execute(
                f"UPDATE {schema}.artifacts SET content_hash = %s WHERE artifact_id = %s", (digest, mine.artifact_id)
            )
    assert await neighbour.artifacts.get(theirs.artifact_id) == LARGE


async def _chunks(backend: Any, digest: str) -> Any:
    for chunk in await backend.chunks(digest, 0, 1000):
        yield chunk


async def test_a_stream_that_is_cut_leaves_nothing(tenant: Any) -> None:
    """One that is left half-way, one whose task is cancelled, and one whose source gives something else."""
    piece = bytes(1 << 20)

    enough = asyncio.Event()

    async def endless() -> Any:
        for number in itertools.count():
            if number == 10:
                enough.set()
            yield piece

    async def wrong() -> Any:
        for _ in range(5):
            yield piece
        yield "text"

    task = asyncio.ensure_future(tenant.artifacts.store("session", "name", endless()))
    await asyncio.wait_for(enough.wait(), 120)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(InvalidInput):
        await tenant.artifacts.store("session", "name", wrong())
    left = await tenant.artifacts.statistics()
    assert (left.artifacts, left.uploads, left.contents, left.unreferenced_contents) == (0, 0, 0, 0)
    stored = await tenant.artifacts.store("session", "name", LARGE * 4)
    async for part in tenant.artifacts.stream(stored.artifact_id):
        assert part
        break
    assert await tenant.artifacts.read_range(stored.artifact_id, 2**62, 2**63 - 1) == b""
    assert await tenant.artifacts.get(stored.artifact_id) == LARGE * 4
