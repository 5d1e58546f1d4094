"""Checkpoints of threads in SQLite."""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection
from typing import Any
from uuid import UUID

from storagelib import documents
from storagelib.components.agent_threads import (
    Found,
    NewThreadCheckpoint,
    Outline,
    ThreadKey,
    ThreadQuery,
    ThreadRow,
    ThreadWrite,
    in_order,
    matches,
    part_of,
    row_of,
)
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes

__all__ = ["SqliteAgentThreads"]

_PARTS_OF = "SELECT parts FROM agent_thread_checkpoints WHERE {}"
_ONE = "tenant_id = ? AND thread_id = ? AND namespace = ? AND checkpoint_id = ?"
_ADD_PART = """
INSERT INTO agent_thread_parts (tenant_id, thread_id, part_id, base_id, content) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""
_PUT = """
INSERT INTO agent_thread_checkpoints (tenant_id, thread_id, namespace, checkpoint_id, parent_id, run_id, document_base,
                                      parts, document, metadata)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, thread_id, namespace, checkpoint_id) DO UPDATE SET
    parent_id = excluded.parent_id, run_id = excluded.run_id, document_base = excluded.document_base,
    parts = excluded.parts, document = excluded.document, metadata = excluded.metadata"""
_WRITE = """
INSERT INTO agent_thread_writes (tenant_id, thread_id, namespace, checkpoint_id, task_id, position, task_path, channel, kind,
                                 content)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant_id, thread_id, namespace, checkpoint_id, task_id, position) DO UPDATE SET
    task_path = excluded.task_path, channel = excluded.channel, kind = excluded.kind, content = excluded.content
WHERE excluded.position < 0"""
_COLUMNS = "thread_id, namespace, checkpoint_id, parent_id, metadata, document, document_base, parts"
_PARTS = """
SELECT part_id, base_id, content FROM agent_thread_parts
 WHERE tenant_id = ? AND thread_id = ? AND part_id IN (SELECT value FROM json_each(?))"""
_WRITES = """
SELECT task_id, position, task_path, channel, kind, content FROM agent_thread_writes
 WHERE tenant_id = ? AND thread_id = ? AND namespace = ? AND checkpoint_id = ?"""
_OUTLINE = """
SELECT namespace, checkpoint_id FROM agent_thread_checkpoints
 WHERE tenant_id = ? AND thread_id = ? AND (namespace, checkpoint_id) > (?, ?) ORDER BY namespace, checkpoint_id LIMIT ?"""
_DELETE = ("DELETE FROM agent_thread_writes WHERE " + _ONE, "DELETE FROM agent_thread_checkpoints WHERE " + _ONE)
_OF_RUNS = """
SELECT thread_id, namespace, checkpoint_id FROM agent_thread_checkpoints
 WHERE tenant_id = ? AND run_id IN (SELECT value FROM json_each(?))"""
_SWEEP = """
DELETE FROM agent_thread_parts WHERE tenant_id = :tenant AND thread_id = :thread AND part_id NOT IN (
    SELECT named.value FROM agent_thread_checkpoints AS c, json_each(c.parts) AS named
     WHERE c.tenant_id = :tenant AND c.thread_id = :thread)"""
_TABLES = {
    "agent_thread_writes": "namespace, checkpoint_id, task_id, position, task_path, channel, kind, content",
    "agent_thread_parts": "part_id, base_id, content",
    "agent_thread_checkpoints": "namespace, checkpoint_id, parent_id, run_id, document_base, parts, document, metadata",
}
_THREAD = "tenant_id = ? AND thread_id = ?"


class SqliteAgentThreads(SqliteStore):
    """See ``AgentThreadsBackend``."""

    @writes
    def put_checkpoint(self, database: Connection, new: NewThreadCheckpoint) -> bool:
        """Keep a checkpoint and its parts; False when a part that it leans on is not the parent's any more."""
        if new.needed:
            place = (self.tenant_id, new.thread_id, new.namespace, new.parent_id)
            parent = database.execute(_PARTS_OF.format(_ONE), place).fetchone()
            if parent is None or not {str(part_id) for part_id in new.needed} <= set(documents.decode(parent[0])):
                return False
        parts = [
            (self.tenant_id, new.thread_id, *_texts(part.part_id, part.base_id), part.content) for part in new.added
        ]
        database.executemany(_ADD_PART, parts)
        row = (
            self.tenant_id,
            new.thread_id,
            new.namespace,
            new.checkpoint_id,
            new.parent_id,
            new.run_id,
            *_texts(new.document_base),
            documents.encode([str(part_id) for part_id in new.parts]),
            new.document,
            new.metadata,
        )
        database.execute(_PUT, row)
        return True

    @writes
    def put_writes(self, database: Connection, key: ThreadKey, writes: list[ThreadWrite]) -> None:
        """Keep writes; one whose task and position are there already stays, unless its position is below 0."""
        rows = (
            (
                self.tenant_id,
                *key,
                write.task_id,
                write.position,
                write.task_path,
                write.channel,
                write.kind,
                write.content,
            )
            for write in writes
        )
        database.executemany(_WRITE, rows)

    @reads_together
    def read_checkpoints(self, database: Connection, query: ThreadQuery) -> Found:
        """Return checkpoints in the order of the query, the parts they name but those known, and their writes."""
        equal = [(name, documents.decode(value)) for name, value in query.equal]
        rows: list[ThreadRow] = []
        for found in database.execute(*_selected(self.tenant_id, query)):
            if len(rows) == query.limit:
                break
            row = _row(found)
            if not equal or matches(documents.decode(row.metadata), equal):
                rows.append(row)
        known = set(query.known)
        named = ((row.thread_id, part_id) for row in rows for part_id in row.parts if part_id not in known)
        return self._found(database, rows, named)

    @reads_together
    def chain(self, database: Connection, key: ThreadKey, limit: int) -> Found:
        """Return up to ``limit`` checkpoints from one on along parents, with their documents' bases and their writes."""
        thread_id, namespace, checkpoint_id = key
        rows: list[ThreadRow] = []
        following: str | None = checkpoint_id
        select = f"SELECT {_COLUMNS} FROM agent_thread_checkpoints WHERE {_ONE}"
        while following is not None and len(rows) < limit:
            found = database.execute(select, (self.tenant_id, thread_id, namespace, following)).fetchone()
            if found is None:
                break
            rows.append(_row(found))
            following = rows[-1].parent_id
        bases = ((thread_id, row.document_base) for row in rows if row.document_base is not None)
        return self._found(database, rows, bases)

    @reads
    def outline(self, database: Connection, thread_id: str, after: tuple[str, str] | None, limit: int) -> list[Outline]:
        """Return up to ``limit`` checkpoints of a thread by namespace and id, greater than ``after``."""
        bounds = (self.tenant_id, thread_id, *(after or ("", "")), limit)
        return [Outline(*row) for row in database.execute(_OUTLINE, bounds)]

    @writes
    def delete_checkpoints(self, database: Connection, thread_id: str, keys: list[tuple[str, str]]) -> int:
        """Remove checkpoints with their writes, and parts that no other needs; count the checkpoints."""
        return self._remove(database, {(thread_id, *key) for key in keys})

    @writes
    def delete_runs(self, database: Connection, run_ids: list[str]) -> int:
        """Remove the checkpoints of these runs in all threads; count them."""
        return self._remove(database, set(database.execute(_OF_RUNS, (self.tenant_id, documents.encode(run_ids)))))

    @writes
    def delete_thread(self, database: Connection, thread_id: str) -> int:
        """Remove everything of a thread; count its checkpoints."""
        place = (self.tenant_id, thread_id)
        return [database.execute(f"DELETE FROM {table} WHERE {_THREAD}", place).rowcount for table in _TABLES][-1]

    @writes
    def copy_thread(self, database: Connection, thread_id: str, new_id: str) -> bool | None:
        """Copy everything of a thread; None when there is nothing, False when the new thread has something."""
        *_, checkpoints = _TABLES
        if self._empty(database, checkpoints, thread_id):
            return None
        if not all(self._empty(database, table, new_id) for table in _TABLES):
            return False
        for table, columns in _TABLES.items():
            database.execute(
                f"INSERT INTO {table} (tenant_id, thread_id, {columns}) SELECT tenant_id, ?, {columns} FROM {table} "
                f"WHERE {_THREAD}",
                (new_id, self.tenant_id, thread_id),
            )
        return True

    def _empty(self, database: Connection, table: str, thread_id: str) -> bool:
        place = (self.tenant_id, thread_id)
        return database.execute(f"SELECT 1 FROM {table} WHERE {_THREAD} LIMIT 1", place).fetchone() is None

    def _remove(self, database: Connection, keys: set[ThreadKey]) -> int:
        removing_writes, removing = _DELETE
        database.executemany(removing_writes, [(self.tenant_id, *key) for key in keys])
        count = database.executemany(removing, [(self.tenant_id, *key) for key in keys]).rowcount if keys else 0
        for thread_id in {thread_id for thread_id, _, _ in keys}:
            database.execute(_SWEEP, {"tenant": self.tenant_id, "thread": thread_id})
        return count

    def _found(self, database: Connection, rows: list[ThreadRow], named: Iterable[tuple[str, UUID]]) -> Found:
        by_thread: dict[str, set[str]] = {}
        for thread_id, part_id in named:
            by_thread.setdefault(thread_id, set()).add(str(part_id))
        parts = [
            part_of(row)
            for thread_id, part_ids in by_thread.items()
            for row in database.execute(_PARTS, (self.tenant_id, thread_id, documents.encode(sorted(part_ids))))
        ]
        written: dict[ThreadKey, list[ThreadWrite]] = {}
        for row in rows:
            made = [ThreadWrite(*write) for write in database.execute(_WRITES, (self.tenant_id, *row.key))]
            if made:
                written[row.key] = in_order(made)
        return Found(rows, {part.part_id: part for part in parts}, written)


def _selected(tenant_id: str, query: ThreadQuery) -> tuple[str, list[Any]]:
    asked = {"thread_id": query.thread_id, "namespace": query.namespace, "checkpoint_id": query.checkpoint_id}
    conditions = ["tenant_id = ?", *(f"{column} = ?" for column, value in asked.items() if value is not None)]
    values: list[Any] = [tenant_id, *(value for value in asked.values() if value is not None)]
    if query.below is not None:
        conditions.append("checkpoint_id < ?")
        values.append(query.below)
    if query.after is not None:
        thread_id, namespace, checkpoint_id = query.after
        conditions.append("checkpoint_id <= ? AND (checkpoint_id < ? OR (thread_id, namespace) > (?, ?))")
        values += [checkpoint_id, checkpoint_id, thread_id, namespace]
    if not query.equal:
        values.append(query.limit)
    order = "ORDER BY checkpoint_id DESC, thread_id, namespace" + ("" if query.equal else " LIMIT ?")
    return f"SELECT {_COLUMNS} FROM agent_thread_checkpoints WHERE {' AND '.join(conditions)} {order}", values


def _row(found: tuple[Any, ...]) -> ThreadRow:
    return row_of((*found[:-1], documents.decode(found[-1])))


def _texts(*ids: UUID | None) -> tuple[str | None, ...]:
    return tuple(None if each is None else str(each) for each in ids)
