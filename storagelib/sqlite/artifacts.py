"""Artifacts in SQLite."""

from __future__ import annotations

from datetime import datetime
from sqlite3 import Connection
from typing import Any

from storagelib import documents
from storagelib.clocks import from_microseconds, to_microseconds
from storagelib.components.artifacts import (
    CHUNK_BYTES,
    Artifact,
    ArtifactFilter,
    Chunk,
    Collected,
    Content,
    ContentFacts,
    InlineContent,
    NewArtifact,
    Statistics,
    artifact,
)
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes

__all__ = ["SqliteArtifacts"]

_COLUMNS = (
    "a.artifact_id, a.session_id, a.name, a.version, a.sequence, a.artifact_type, a.mime_type, a.size_bytes,"
    " a.content_hash, a.tags, a.metadata, a.keep, a.created_at"
)
_WIDTH = 13
_USE = """
UPDATE artifact_content SET last_accessed_at = ?3
 WHERE tenant_id = ?1 AND content_hash = ?2 AND uploading_until IS NULL RETURNING 1"""
_KEEP = """
INSERT INTO artifact_content (tenant_id, content_hash, storage_type, data, chunk_size, size_bytes, is_compressed,
    original_size_bytes, created_at, last_accessed_at, uploading_until)
VALUES (?1, ?2, iif(?3 IS NULL, 'chunked', 'inline'), ?3, iif(?3 IS NULL, ?4, NULL), ?5, ?6, ?7, ?8, ?8, ?9)"""
_GROW = """
UPDATE artifact_content SET size_bytes = size_bytes + ?3, original_size_bytes = original_size_bytes + ?4,
    uploading_until = ?5
 WHERE tenant_id = ?1 AND content_hash = ?2 RETURNING original_size_bytes"""
_CHUNK = """
INSERT INTO artifact_chunks (tenant_id, content_hash, chunk, data, is_compressed, chunk_hash)
VALUES (?, ?, ?, ?, ?, ?)"""
_WHOLE = """
SELECT 1 FROM artifact_content
 WHERE tenant_id = ? AND content_hash = ? AND uploading_until IS NOT NULL AND original_size_bytes = ?"""
_MOVE = "UPDATE artifact_chunks SET content_hash = ?3 WHERE tenant_id = ?1 AND content_hash = ?2"
_DROP = "DELETE FROM artifact_content WHERE tenant_id = ? AND content_hash = ? AND uploading_until IS NOT NULL"
_COUNT = """
INSERT INTO artifact_counters AS c (tenant_id, session_id, name, head) VALUES (?, ?, ?, 1)
ON CONFLICT (tenant_id, session_id, name) DO UPDATE SET head = c.head + 1 RETURNING head"""
_RECORD = f"""
INSERT INTO artifacts AS a (tenant_id, artifact_id, session_id, sequence, content_hash, metadata, name, artifact_type,
    mime_type, size_bytes, version, tags, created_at, keep)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, original_size_bytes, ?10, ?11, ?12, ?13 FROM artifact_content
 WHERE tenant_id = ?1 AND content_hash = ?5
RETURNING {_COLUMNS.replace("a.", "")}"""
_TAG = "INSERT INTO artifact_tags (tenant_id, artifact_id, tag, created_at) VALUES (?, ?, ?, ?)"
_STAT = f"SELECT {_COLUMNS} FROM artifacts AS a WHERE a.tenant_id = ? AND a.artifact_id = ?"
_CONTENT = f"""
SELECT {_COLUMNS}, c.chunk_size, c.is_compressed, c.data FROM artifacts AS a
  JOIN artifact_content AS c ON c.tenant_id = a.tenant_id AND c.content_hash = a.content_hash
 WHERE a.tenant_id = ? AND a.artifact_id = ?"""
_CHUNKS = """
SELECT chunk, data, is_compressed, chunk_hash FROM artifact_chunks
 WHERE tenant_id = ? AND content_hash = ? AND chunk BETWEEN ? AND ? ORDER BY chunk"""
_LATEST = f"""
SELECT {_COLUMNS} FROM artifacts AS a
 WHERE a.tenant_id = ? AND a.session_id = ? AND a.name = ? ORDER BY a.version DESC LIMIT 1"""
_TAGGED = """
EXISTS (SELECT 1 FROM artifact_tags AS t
         WHERE t.tenant_id = a.tenant_id AND t.artifact_id = a.artifact_id AND t.tag = :tag)"""
_DELETE = "DELETE FROM artifacts WHERE tenant_id = ? AND artifact_id = ? RETURNING content_hash"
_DELETE_SESSION = "DELETE FROM artifacts WHERE tenant_id = ? AND session_id = ? AND keep = 0 RETURNING content_hash"
_DEAD = """
SELECT content_hash, size_bytes, uploading_until IS NOT NULL FROM artifact_content
 WHERE tenant_id = :tenant AND reference_count = 0
   AND CASE WHEN uploading_until IS NULL THEN last_accessed_at <= :unused ELSE uploading_until <= :now END
 ORDER BY last_accessed_at LIMIT :limit"""
_COLLECT = "DELETE FROM artifact_content WHERE tenant_id = ? AND content_hash = ?"
_TOTALS = "SELECT count(*), coalesce(sum(size_bytes), 0) FROM artifacts WHERE tenant_id = ?"
_CONTENTS = """
SELECT count(*) FILTER (WHERE reference_count > 0),
       coalesce(sum(original_size_bytes) FILTER (WHERE reference_count > 0), 0),
       coalesce(sum(size_bytes) FILTER (WHERE reference_count > 0), 0),
       count(*) FILTER (WHERE reference_count = 0 AND uploading_until IS NULL),
       coalesce(sum(size_bytes) FILTER (WHERE reference_count = 0 AND uploading_until IS NULL), 0),
       count(*) FILTER (WHERE uploading_until IS NOT NULL),
       coalesce(sum(size_bytes) FILTER (WHERE uploading_until IS NOT NULL), 0)
  FROM artifact_content WHERE tenant_id = ?"""
_MICROSECONDS = 1_000_000


class SqliteArtifacts(SqliteStore):
    """See ``ArtifactsBackend``."""

    @writes
    def refer(self, database: Connection, new: NewArtifact, content_hash: str) -> Artifact | None:
        """Record an artifact of content that is there; None when it is not."""
        return self._record(database, new, content_hash) if self._use(database, content_hash) else None

    @writes
    def store(self, database: Connection, new: NewArtifact, content: InlineContent) -> Artifact:
        """Keep content in one row, unless it is there, and record an artifact of it."""
        if not self._use(database, content.content_hash):
            sizes = (len(content.data), content.is_compressed, content.size)
            self._keep(database, content.content_hash, content.data, *sizes)
        return self._record(database, new, content.content_hash)

    @writes
    def upload(self, database: Connection, upload: str, chunks: list[Chunk], size: int, lease: float) -> int:
        """Keep the next chunks of an upload, begun by its first ones."""
        stored = sum(len(chunk.data) for chunk in chunks)
        until = self.engine.now() + round(lease * _MICROSECONDS)
        grown = database.execute(_GROW, (self.tenant_id, upload, stored, size, until)).fetchall()
        if not grown:
            self._keep(database, upload, None, stored, False, size, until)
        database.executemany(
            _CHUNK,
            [
                (self.tenant_id, upload, chunk.index, chunk.data, chunk.is_compressed, chunk.chunk_hash)
                for chunk in chunks
            ],
        )
        return int(grown[0][0]) if grown else size

    @writes
    def publish(self, database: Connection, upload: str, facts: ContentFacts, new: NewArtifact) -> Artifact | None:
        """Make an upload the content of its hash, or drop it when that is there already, and record an artifact."""
        if database.execute(_WHOLE, (self.tenant_id, upload, facts.size)).fetchone() is None:
            return None
        if not self._use(database, facts.content_hash):
            self._keep(database, facts.content_hash, None, facts.stored_size, facts.is_compressed, facts.size)
            database.execute(_MOVE, (self.tenant_id, upload, facts.content_hash))
        database.execute(_DROP, (self.tenant_id, upload))
        return self._record(database, new, facts.content_hash)

    @writes
    def abandon(self, database: Connection, upload: str) -> None:
        """Remove an upload, if it is there."""
        database.execute(_DROP, (self.tenant_id, upload))

    @reads
    def stat(self, database: Connection, artifact_id: str) -> Artifact | None:
        """Return an artifact."""
        row = database.execute(_STAT, (self.tenant_id, artifact_id)).fetchone()
        return None if row is None else _artifact(row)

    @reads
    def content(self, database: Connection, artifact_id: str) -> Content | None:
        """Return an artifact and how its content is stored."""
        row = database.execute(_CONTENT, (self.tenant_id, artifact_id)).fetchone()
        if row is None:
            return None
        chunk_size, is_compressed, data = row[_WIDTH:]
        return Content(_artifact(row[:_WIDTH]), chunk_size, bool(is_compressed), data)

    @reads
    def chunks(self, database: Connection, content_hash: str, first: int, last: int) -> list[Chunk]:
        """Return the chunks of content from ``first`` to ``last`` that are there."""
        rows = database.execute(_CHUNKS, (self.tenant_id, content_hash, first, last))
        return [Chunk(index, data, bool(is_compressed), digest) for index, data, is_compressed, digest in rows]

    @reads
    def latest(self, database: Connection, session_id: str, name: str) -> Artifact | None:
        """Return the artifact of a session with the greatest version of a name."""
        row = database.execute(_LATEST, (self.tenant_id, session_id, name)).fetchone()
        return None if row is None else _artifact(row)

    @reads
    def in_session(self, database: Connection, chosen: ArtifactFilter, after: int, limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of a session, by sequence, or by version when a name is chosen."""
        order = "sequence" if chosen.name is None else "version"
        where = _conditions(chosen) + (f" AND {_TAGGED}" if chosen.tag is not None else "")
        query = f"SELECT {_COLUMNS} FROM artifacts AS a WHERE {where} AND a.{order} > :after ORDER BY a.{order} LIMIT :limit"
        return self._listed(database, query, chosen, {"after": after, "limit": limit})

    @reads
    def anywhere(
        self, database: Connection, chosen: ArtifactFilter, after: tuple[datetime, str], limit: int
    ) -> list[Artifact]:
        """Return up to ``limit`` artifacts of any session in order of (created_at, artifact_id)."""
        tables, place, where = "artifacts AS a", "a", _conditions(chosen)
        if chosen.tag is not None:
            # The listing of the tag is what is walked, in its order.
            tables = "artifact_tags AS t CROSS JOIN artifacts AS a ON a.tenant_id = t.tenant_id AND a.artifact_id = t.artifact_id"
            place, where = "t", f"{where} AND t.tenant_id = :tenant AND t.tag = :tag"
        query = (
            f"SELECT {_COLUMNS} FROM {tables} WHERE {where}"
            f" AND ({place}.created_at, {place}.artifact_id) > (:after, :after_id)"
            f" ORDER BY {place}.created_at, {place}.artifact_id LIMIT :limit"
        )
        bounds = {"after": to_microseconds(after[0]), "after_id": after[1], "limit": limit}
        return self._listed(database, query, chosen, bounds)

    @writes
    def delete(self, database: Connection, artifact_id: str) -> bool:
        """Remove an artifact; tell whether it was there."""
        return self._released(database, database.execute(_DELETE, (self.tenant_id, artifact_id)).fetchall()) == 1

    @writes
    def delete_session(self, database: Connection, session_id: str) -> int:
        """Remove the artifacts of a session except those to keep; count them."""
        gone = database.execute(_DELETE_SESSION, (self.tenant_id, session_id)).fetchall()
        return self._released(database, gone)

    @writes
    def collect(self, database: Connection, limit: int, older_than: float) -> Collected:
        """Remove contents without a reference, and uploads past their lease."""
        now = self.engine.now()
        bounds = {
            "tenant": self.tenant_id,
            "now": now,
            "unused": now - round(older_than * _MICROSECONDS),
            "limit": limit,
        }
        dead = database.execute(_DEAD, bounds).fetchall()
        database.executemany(_COLLECT, [(self.tenant_id, content_hash) for content_hash, _, _ in dead])
        uploads = sum(is_upload for _, _, is_upload in dead)
        return Collected(len(dead) - uploads, uploads, sum(size for _, size, _ in dead))

    @reads_together
    def statistics(self, database: Connection) -> Statistics:
        """Count what is there."""
        artifacts = database.execute(_TOTALS, (self.tenant_id,)).fetchone()
        return Statistics(*artifacts, *database.execute(_CONTENTS, (self.tenant_id,)).fetchone())

    def _use(self, database: Connection, content_hash: str) -> bool:
        return bool(database.execute(_USE, (self.tenant_id, content_hash, self.engine.now())).fetchall())

    def _keep(
        self,
        database: Connection,
        content_hash: str,
        data: bytes | None,
        stored: int,
        is_compressed: bool,
        size: int,
        until: int | None = None,
    ) -> None:
        now = self.engine.now()
        values = (self.tenant_id, content_hash, data, CHUNK_BYTES, stored, is_compressed, size, now, until)
        database.execute(_KEEP, values)

    def _record(self, database: Connection, new: NewArtifact, content_hash: str) -> Artifact:
        ((sequence,),) = database.execute(_COUNT, (self.tenant_id, new.session_id, "")).fetchall()
        ((version,),) = database.execute(_COUNT, (self.tenant_id, new.session_id, new.name)).fetchall()
        now = self.engine.now()
        values = (
            self.tenant_id,
            new.artifact_id,
            new.session_id,
            sequence,
            content_hash,
            new.metadata,
            new.name,
            new.artifact_type,
            new.mime_type,
            version,
            documents.encode(list(new.tags)),
            now,
            new.keep,
        )
        (row,) = database.execute(_RECORD, values).fetchall()
        database.executemany(_TAG, [(self.tenant_id, new.artifact_id, tag, now) for tag in new.tags])
        return _artifact(row)

    def _released(self, database: Connection, gone: list[tuple[str]]) -> int:
        """Let the time that unreferenced content is left alone begin."""
        now = self.engine.now()
        for (content_hash,) in set(gone):
            database.execute(_USE, (self.tenant_id, content_hash, now)).fetchall()
        return len(gone)

    def _listed(
        self, database: Connection, query: str, chosen: ArtifactFilter, bounds: dict[str, Any]
    ) -> list[Artifact]:
        values = {
            "tenant": self.tenant_id,
            "session": chosen.session_id,
            "name": chosen.name,
            "type": chosen.artifact_type,
            "tag": chosen.tag,
        }
        return [_artifact(row) for row in database.execute(query, values | bounds)]


def _conditions(chosen: ArtifactFilter) -> str:
    wanted = {"session_id = :session": chosen.session_id, "name = :name": chosen.name}
    wanted["artifact_type = :type"] = chosen.artifact_type
    return " AND ".join(
        ["a.tenant_id = :tenant", *(f"a.{condition}" for condition, value in wanted.items() if value is not None)]
    )


def _artifact(row: tuple[Any, ...]) -> Artifact:
    *same, tags, metadata, keep, created_at = row
    return artifact((*same, documents.decode(tags), metadata, keep, from_microseconds(created_at)))
