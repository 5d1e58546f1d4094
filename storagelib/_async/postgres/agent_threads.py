"""Checkpoints of threads in PostgreSQL."""

from __future__ import annotations

from typing import Any

from storage_sql.queries import load
from storagelib import documents
from storagelib._async.postgres.database import AsyncDatabase
from storagelib.components.agent_threads import (
    Found,
    NewThreadCheckpoint,
    Outline,
    Part,
    ThreadKey,
    ThreadQuery,
    ThreadRow,
    ThreadWrite,
    in_order,
)

__all__ = ["AsyncPostgresAgentThreads"]

_QUERIES = load("agent_state")
_CHECKPOINT, _PART = 0, 1


class AsyncPostgresAgentThreads:
    """See ``AsyncAgentThreadsBackend``."""

    def __init__(self, database: AsyncDatabase) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    async def put_checkpoint(self, new: NewThreadCheckpoint) -> bool:
        """Keep a checkpoint and its parts; False when a part that it leans on is not the parent's any more."""
        values: dict[str, Any] = {
            "thread_id": new.thread_id,
            "namespace": new.namespace,
            "checkpoint_id": new.checkpoint_id,
            "parent_id": new.parent_id,
            "run_id": new.run_id,
            "metadata": new.metadata,
            "document": new.document,
            "document_base": new.document_base,
            "parts": new.parts,
            "added": [part.part_id for part in new.added],
            "bases": [part.base_id for part in new.added],
            "contents": [part.content for part in new.added],
        }
        if new.needed:
            values["needed"] = new.needed
        query = _QUERIES["put_checkpoint"].variant(needed=bool(new.needed), added=True)
        return bool(await self._database.fetch(query, **values))

    async def put_writes(self, key: ThreadKey, writes: list[ThreadWrite]) -> None:
        """Keep writes; one whose task and position are there already stays, unless its position is below 0."""
        thread_id, namespace, checkpoint_id = key
        await self._database.fetch(
            _QUERIES["put_writes"],
            thread_id=thread_id,
            namespace=namespace,
            checkpoint_id=checkpoint_id,
            task_ids=[write.task_id for write in writes],
            positions=[write.position for write in writes],
            task_paths=[write.task_path for write in writes],
            channels=[write.channel for write in writes],
            kinds=[write.kind for write in writes],
            contents=[write.content for write in writes],
        )

    async def read_checkpoints(self, query: ThreadQuery) -> Found:
        """Return checkpoints in the order of the query, the parts they name but those known, and their writes."""
        chosen = _QUERIES["read_checkpoints"].variant(
            thread=query.thread_id is not None,
            namespace=query.namespace is not None,
            one=query.checkpoint_id is not None,
            below=query.below is not None,
            after=query.after is not None,
            equal=bool(query.equal),
        )
        after_thread, after_namespace, after_id = query.after or (None, None, None)
        rows = await self._database.fetch(
            chosen,
            thread_id=query.thread_id,
            namespace=query.namespace,
            checkpoint_id=query.checkpoint_id,
            below=query.below,
            after_thread=after_thread,
            after_namespace=after_namespace,
            after_id=after_id,
            names=[name for name, _ in query.equal],
            equals=[value for _, value in query.equal],
            most=query.limit,
            known=query.known,
        )
        found = _found(rows)
        found.rows.sort(key=lambda row: (row.thread_id, row.namespace))
        found.rows.sort(key=lambda row: row.checkpoint_id, reverse=True)
        return found

    async def chain(self, key: ThreadKey, limit: int) -> Found:
        """Return up to ``limit`` checkpoints from one on along parents, with their documents' bases and their writes."""
        thread_id, namespace, checkpoint_id = key
        rows = await self._database.fetch(
            _QUERIES["chain"], thread_id=thread_id, namespace=namespace, checkpoint_id=checkpoint_id, most=limit
        )
        return _found(sorted(rows, key=lambda row: row[-1] if row[0] == _CHECKPOINT else 0))

    async def outline(self, thread_id: str, after: tuple[str, str] | None, limit: int) -> list[Outline]:
        """Return up to ``limit`` checkpoints of a thread by namespace and id, greater than ``after``."""
        namespace, checkpoint_id = after or ("", "")
        rows = await self._database.fetch(
            _QUERIES["outline"], thread_id=thread_id, after_namespace=namespace, after_id=checkpoint_id, most=limit
        )
        return [Outline(namespace, checkpoint_id) for namespace, checkpoint_id in rows]

    async def delete_checkpoints(self, thread_id: str, keys: list[tuple[str, str]]) -> int:
        """Remove checkpoints with their writes, and parts that no other needs; count the checkpoints."""
        asked = {
            "thread_id": thread_id,
            "namespaces": [namespace for namespace, _ in keys],
            "checkpoint_ids": [checkpoint_id for _, checkpoint_id in keys],
        }
        threads = {"thread_ids": [thread_id]}
        _, gone, _ = await self._database.run(
            [
                (_QUERIES["lock_threads"], threads),
                (_QUERIES["delete_checkpoints"], asked),
                (_QUERIES["sweep_parts"], threads),
            ]
        )
        return int(gone[0][0])

    async def delete_runs(self, run_ids: list[str]) -> int:
        """Remove the checkpoints of these runs in all threads; count them."""
        runs = {"run_ids": run_ids}
        named = await self._database.fetch(_QUERIES["threads_of_runs"], **runs)
        threads = {"thread_ids": [thread_id for (thread_id,) in named]}
        if not named:
            return 0
        # A run that comes to another thread meanwhile is later than this.
        _, gone, _ = await self._database.run(
            [
                (_QUERIES["lock_threads"], threads),
                (_QUERIES["delete_runs"], {**runs, **threads}),
                (_QUERIES["sweep_parts"], threads),
            ]
        )
        return int(gone[0][0])

    async def delete_thread(self, thread_id: str) -> int:
        """Remove everything of a thread; count its checkpoints."""
        threads = {"thread_ids": [thread_id]}
        _, gone, _ = await self._database.run(
            [
                (_QUERIES["lock_threads"], threads),
                (_QUERIES["delete_thread"], {"thread_id": thread_id}),
                (_QUERIES["sweep_parts"], threads),
            ]
        )
        return int(gone[0][0])

    async def copy_thread(self, thread_id: str, new_id: str) -> bool | None:
        """Copy everything of a thread; None when there is nothing, False when the new thread has something."""
        new = {"new_id": new_id}
        _, _, ((there, free),) = await self._database.run(
            [
                (_QUERIES["guard_thread"], new),
                (_QUERIES["release_thread"], new),
                (_QUERIES["copy_thread"], {"thread_id": thread_id, **new}),
            ]
        )
        return free if there else None


def _found(rows: list[tuple[Any, ...]]) -> Found:
    found = Found()
    for sort, thread_id, namespace, checkpoint_id, fourth, fifth, content, base_id, parts, kind, place in rows:
        if sort == _CHECKPOINT:
            found.rows.append(
                ThreadRow(thread_id, namespace, checkpoint_id, fourth, fifth, content, base_id, tuple(parts))
            )
        elif sort == _PART:
            found.parts[parts[0]] = Part(parts[0], base_id, content)
        else:
            path, channel = documents.decode(fifth)
            write = ThreadWrite(fourth, place, path, channel, kind, content)
            found.writes.setdefault((thread_id, namespace, checkpoint_id), []).append(write)
    for key, writes in found.writes.items():
        found.writes[key] = in_order(writes)
    return found
