"""Checkpoints of threads in memory."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from storagelib import documents
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
    matches,
)
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryAgentThreads"]


class MemoryAgentThreads:
    """See ``AgentThreadsBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._checkpoints = space.table("agent_thread_checkpoints")
        self._parts = space.table("agent_thread_parts")
        self._writes = space.table("agent_thread_writes")

    def put_checkpoint(self, new: NewThreadCheckpoint) -> bool:
        """Keep a checkpoint and its parts; False when a part that it leans on is not the parent's any more."""
        with self._space.transaction():
            if new.needed:
                parent = self._checkpoints.get(new.thread_id, new.namespace, new.parent_id)
                if parent is None or not set(new.needed) <= set(parent["parts"]):
                    return False
            for part in new.added:
                if self._parts.get(new.thread_id, part.part_id) is None:
                    row = {"thread_id": new.thread_id, "part_id": part.part_id, "base_id": part.base_id}
                    self._parts.put((new.thread_id, part.part_id), {**row, "content": part.content})
            self._checkpoints.put(
                (new.thread_id, new.namespace, new.checkpoint_id),
                {
                    "thread_id": new.thread_id,
                    "namespace": new.namespace,
                    "checkpoint_id": new.checkpoint_id,
                    "parent_id": new.parent_id,
                    "run_id": new.run_id,
                    "document_base": new.document_base,
                    "parts": new.parts,
                    "document": new.document,
                    "metadata": new.metadata,
                },
            )
            return True

    def put_writes(self, key: ThreadKey, writes: list[ThreadWrite]) -> None:
        """Keep writes; one whose task and position are there already stays, unless its position is below 0."""
        thread_id, namespace, checkpoint_id = key
        with self._space.transaction():
            for write in writes:
                place = (*key, write.task_id, write.position)
                if write.position >= 0 and self._writes.get(*place) is not None:
                    continue
                self._writes.put(
                    place,
                    {
                        "thread_id": thread_id,
                        "namespace": namespace,
                        "checkpoint_id": checkpoint_id,
                        "task_id": write.task_id,
                        "position": write.position,
                        "task_path": write.task_path,
                        "channel": write.channel,
                        "kind": write.kind,
                        "content": write.content,
                    },
                )

    def read_checkpoints(self, query: ThreadQuery) -> Found:
        """Return checkpoints in the order of the query, the parts they name but those known, and their writes."""
        equal = [(name, documents.decode(value)) for name, value in query.equal]
        with self._space.transaction():
            chosen = sorted(
                (row for row in self._checkpoints.rows.values() if _asked(row, query)),
                key=lambda row: (row["thread_id"], row["namespace"]),
            )
            chosen.sort(key=lambda row: row["checkpoint_id"], reverse=True)
            rows: list[ThreadRow] = []
            for row in chosen:
                if len(rows) == query.limit:
                    break
                if not equal or matches(documents.decode(row["metadata"]), equal):
                    rows.append(_row(row))
            known = set(query.known)
            named = ((row.thread_id, part_id) for row in rows for part_id in row.parts if part_id not in known)
            return Found(rows, self._named(named), self._written(rows))

    def chain(self, key: ThreadKey, limit: int) -> Found:
        """Return up to ``limit`` checkpoints from one on along parents, with their documents' bases and their writes."""
        thread_id, namespace, checkpoint_id = key
        with self._space.transaction():
            rows: list[ThreadRow] = []
            following: str | None = checkpoint_id
            while following is not None and len(rows) < limit:
                row = self._checkpoints.get(thread_id, namespace, following)
                if row is None:
                    break
                rows.append(_row(row))
                following = row["parent_id"]
            bases = ((thread_id, row.document_base) for row in rows if row.document_base is not None)
            return Found(rows, self._named(bases), self._written(rows))

    def outline(self, thread_id: str, after: tuple[str, str] | None, limit: int) -> list[Outline]:
        """Return up to ``limit`` checkpoints of a thread by namespace and id, greater than ``after``."""
        with self._space.transaction():
            keys = sorted(key[1:] for key in self._checkpoints.rows if key[0] == thread_id)
            return [Outline(*key) for key in keys if after is None or key > after][:limit]

    def delete_checkpoints(self, thread_id: str, keys: list[tuple[str, str]]) -> int:
        """Remove checkpoints with their writes, and parts that no other needs; count the checkpoints."""
        with self._space.transaction():
            return self._remove({(thread_id, *key) for key in keys})

    def delete_runs(self, run_ids: list[str]) -> int:
        """Remove the checkpoints of these runs in all threads; count them."""
        with self._space.transaction():
            asked = set(run_ids)
            return self._remove({key for key, row in self._checkpoints.rows.items() if row["run_id"] in asked})

    def delete_thread(self, thread_id: str) -> int:
        """Remove everything of a thread; count its checkpoints."""
        with self._space.transaction():
            count = sum(1 for key in self._checkpoints.rows if key[0] == thread_id)
            for table in (self._checkpoints, self._parts, self._writes):
                for key in [key for key in table.rows if key[0] == thread_id]:
                    table.delete(*key)
            return count

    def copy_thread(self, thread_id: str, new_id: str) -> bool | None:
        """Copy everything of a thread; None when there is nothing, False when the new thread has something."""
        tables = (self._checkpoints, self._parts, self._writes)
        with self._space.transaction():
            if not any(key[0] == thread_id for key in self._checkpoints.rows):
                return None
            if any(key[0] == new_id for table in tables for key in table.rows):
                return False
            for table in tables:
                for key, row in [entry for entry in table.rows.items() if entry[0][0] == thread_id]:
                    table.put((new_id, *key[1:]), {**row, "thread_id": new_id})
            return True

    def _remove(self, keys: set[ThreadKey]) -> int:
        count = sum([self._checkpoints.delete(*key) for key in keys])
        for place in [place for place in self._writes.rows if place[:3] in keys]:
            self._writes.delete(*place)
        threads = {thread_id for thread_id, _, _ in keys}
        kept = {
            (row["thread_id"], part_id)
            for row in self._checkpoints.rows.values()
            if row["thread_id"] in threads
            for part_id in row["parts"]
        }
        for part in [part for part in self._parts.rows if part[0] in threads and part not in kept]:
            self._parts.delete(*part)
        return count

    def _named(self, parts: Iterable[tuple[str, UUID]]) -> dict[UUID, Part]:
        found = ((part_id, self._parts.get(thread_id, part_id)) for thread_id, part_id in parts)
        return {part_id: Part(part_id, row["base_id"], row["content"]) for part_id, row in found if row is not None}

    def _written(self, rows: list[ThreadRow]) -> dict[ThreadKey, list[ThreadWrite]]:
        keys = {row.key for row in rows}
        writes: dict[ThreadKey, list[ThreadWrite]] = {}
        for place, row in self._writes.rows.items():
            if place[:3] in keys:
                write = ThreadWrite(
                    row["task_id"], row["position"], row["task_path"], row["channel"], row["kind"], row["content"]
                )
                writes.setdefault(place[:3], []).append(write)
        return {key: in_order(found) for key, found in writes.items()}


def _asked(row: Row, query: ThreadQuery) -> bool:
    after = query.after
    return (
        (query.thread_id is None or row["thread_id"] == query.thread_id)
        and (query.namespace is None or row["namespace"] == query.namespace)
        and (query.checkpoint_id is None or row["checkpoint_id"] == query.checkpoint_id)
        and (query.below is None or row["checkpoint_id"] < query.below)
        and (
            after is None
            or row["checkpoint_id"] < after[2]
            or (row["checkpoint_id"] == after[2] and (row["thread_id"], row["namespace"]) > after[:2])
        )
    )


def _row(row: Row) -> ThreadRow:
    return ThreadRow(
        row["thread_id"],
        row["namespace"],
        row["checkpoint_id"],
        row["parent_id"],
        row["metadata"],
        row["document"],
        row["document_base"],
        row["parts"],
    )
