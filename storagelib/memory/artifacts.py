"""Artifacts in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

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
from storagelib.errors import AlreadyExists
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryArtifacts"]


class MemoryArtifacts:
    """See ``ArtifactsBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._artifacts = space.table("artifacts")
        self._contents = space.table("artifact_content")
        self._chunks = space.table("artifact_chunks")
        self._counters = space.table("artifact_counters")
        self._tags = space.table("artifact_tags")

    def refer(self, new: NewArtifact, content_hash: str) -> Artifact | None:
        """Record an artifact of content that is there; None when it is not."""
        with self._space.transaction():
            return None if self._published(content_hash) is None else self._record(new, content_hash)

    def store(self, new: NewArtifact, content: InlineContent) -> Artifact:
        """Keep content in one row, unless it is there, and record an artifact of it."""
        with self._space.transaction():
            if self._published(content.content_hash) is None:
                self._keep(
                    content.content_hash, len(content.data), content.size, content.is_compressed, data=content.data
                )
            return self._record(new, content.content_hash)

    def upload(self, upload: str, chunks: list[Chunk], size: int, lease: float) -> int:
        """Keep the next chunks of an upload, begun by its first ones."""
        with self._space.transaction():
            stored = sum(len(chunk.data) for chunk in chunks)
            row = self._contents.get(upload)
            if row is None:
                row = self._keep(upload, 0, 0, is_compressed=False)
            changed = {
                "size_bytes": row["size_bytes"] + stored,
                "original_size_bytes": row["original_size_bytes"] + size,
                "uploading_until": self._space.now() + timedelta(seconds=lease),
            }
            self._contents.put((upload,), {**row, **changed})
            for chunk in chunks:
                self._chunks.put(
                    (upload, chunk.index),
                    {
                        "content_hash": upload,
                        "chunk": chunk.index,
                        "data": chunk.data,
                        "is_compressed": chunk.is_compressed,
                        "chunk_hash": chunk.chunk_hash,
                    },
                )
            return int(changed["original_size_bytes"])

    def publish(self, upload: str, facts: ContentFacts, new: NewArtifact) -> Artifact | None:
        """Make an upload the content of its hash, or drop it when that is there already, and record an artifact."""
        with self._space.transaction():
            row = self._contents.get(upload)
            if row is None or row["original_size_bytes"] != facts.size:
                return None
            if self._published(facts.content_hash) is None:
                self._keep(facts.content_hash, facts.stored_size, facts.size, facts.is_compressed)
                for key, chunk in self._chunks_of(upload):
                    moved = {**chunk, "content_hash": facts.content_hash}
                    self._chunks.delete(*key)
                    self._chunks.put((facts.content_hash, chunk["chunk"]), moved)
            self._drop(upload)
            return self._record(new, facts.content_hash)

    def abandon(self, upload: str) -> None:
        """Remove an upload, if it is there."""
        with self._space.transaction():
            row = self._contents.get(upload)
            if row is not None and row["uploading_until"] is not None:
                self._drop(upload)

    def stat(self, artifact_id: str) -> Artifact | None:
        """Return an artifact."""
        with self._space.transaction():
            row = self._artifacts.get(artifact_id)
            return None if row is None else _artifact(row)

    def content(self, artifact_id: str) -> Content | None:
        """Return an artifact and how its content is stored."""
        with self._space.transaction():
            row = self._artifacts.get(artifact_id)
            if row is None:
                return None
            kept = self._contents.rows[(row["content_hash"],)]
            return Content(_artifact(row), kept["chunk_size"], kept["is_compressed"], kept["data"])

    def chunks(self, content_hash: str, first: int, last: int) -> list[Chunk]:
        """Return the chunks of content from ``first`` to ``last`` that are there."""
        with self._space.transaction():
            rows = (self._chunks.get(content_hash, index) for index in range(first, last + 1))
            return [
                Chunk(row["chunk"], row["data"], row["is_compressed"], row["chunk_hash"])
                for row in rows
                if row is not None
            ]

    def latest(self, session_id: str, name: str) -> Artifact | None:
        """Return the artifact of a session with the greatest version of a name."""
        with self._space.transaction():
            rows = self._chosen(ArtifactFilter(session_id, name))
            return _artifact(max(rows, key=lambda row: row["version"])) if rows else None

    def in_session(self, chosen: ArtifactFilter, after: int, limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of a session, by sequence, or by version when a name is chosen."""
        order = "sequence" if chosen.name is None else "version"
        return self._listed(chosen, lambda row: row[order], after, limit)

    def anywhere(self, chosen: ArtifactFilter, after: tuple[datetime, str], limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of any session in order of (created_at, artifact_id)."""
        return self._listed(chosen, lambda row: (row["created_at"], row["artifact_id"]), after, limit)

    def delete(self, artifact_id: str) -> bool:
        """Remove an artifact; tell whether it was there."""
        with self._space.transaction():
            row = self._artifacts.get(artifact_id)
            if row is None:
                return False
            self._remove(row)
            return True

    def delete_session(self, session_id: str) -> int:
        """Remove the artifacts of a session except those to keep; count them."""
        with self._space.transaction():
            rows = [row for row in self._chosen(ArtifactFilter(session_id)) if not row["keep"]]
            for row in rows:
                self._remove(row)
            return len(rows)

    def collect(self, limit: int, older_than: float) -> Collected:
        """Remove contents without a reference, and uploads past their lease."""
        with self._space.transaction():
            now = self._space.now()
            unused = now - timedelta(seconds=older_than)
            dead = [
                row
                for row in self._contents.rows.values()
                if row["reference_count"] == 0
                and (
                    row["last_accessed_at"] <= unused
                    if row["uploading_until"] is None
                    else row["uploading_until"] <= now
                )
            ]
            dead = sorted(dead, key=lambda row: row["last_accessed_at"])[:limit]
            for row in dead:
                self._drop(row["content_hash"])
            uploads = sum(row["uploading_until"] is not None for row in dead)
            return Collected(len(dead) - uploads, uploads, sum(row["size_bytes"] for row in dead))

    def statistics(self) -> Statistics:
        """Count what is there."""
        with self._space.transaction():
            contents = list(self._contents.rows.values())
            used = [row for row in contents if row["reference_count"]]
            uploads = [row for row in contents if row["uploading_until"] is not None]
            unused = [row for row in contents if not row["reference_count"] and row["uploading_until"] is None]
            return Statistics(
                len(self._artifacts.rows),
                _total(self._artifacts.rows.values(), "size_bytes"),
                len(used),
                _total(used, "original_size_bytes"),
                _total(used, "size_bytes"),
                len(unused),
                _total(unused, "size_bytes"),
                len(uploads),
                _total(uploads, "size_bytes"),
            )

    def _published(self, content_hash: str) -> Row | None:
        row = self._contents.get(content_hash)
        return None if row is None or row["uploading_until"] is not None else row

    def _keep(
        self, content_hash: str, stored: int, size: int, is_compressed: bool, *, data: bytes | None = None
    ) -> Row:
        now = self._space.now()
        row = {
            "content_hash": content_hash,
            "storage_type": "chunked" if data is None else "inline",
            "data": data,
            "chunk_size": CHUNK_BYTES if data is None else None,
            "size_bytes": stored,
            "is_compressed": is_compressed,
            "original_size_bytes": size,
            "reference_count": 0,
            "created_at": now,
            "last_accessed_at": now,
            "uploading_until": None,
        }
        self._contents.put((content_hash,), row)
        return row

    def _record(self, new: NewArtifact, content_hash: str) -> Artifact:
        if self._artifacts.get(new.artifact_id) is not None:
            raise AlreadyExists("the id is taken")
        kept, now = self._contents.rows[(content_hash,)], self._space.now()
        row = {
            "artifact_id": new.artifact_id,
            "session_id": new.session_id,
            "sequence": self._next(new.session_id, ""),
            "content_hash": content_hash,
            "metadata": new.metadata,
            "name": new.name,
            "artifact_type": new.artifact_type,
            "mime_type": new.mime_type,
            "size_bytes": kept["original_size_bytes"],
            "version": self._next(new.session_id, new.name),
            "tags": new.tags,
            "created_at": now,
            "keep": new.keep,
        }
        self._artifacts.put((new.artifact_id,), row)
        self._count(content_hash, 1)
        for tag in new.tags:
            tagged = {"artifact_id": new.artifact_id, "tag": tag, "created_at": now}
            self._tags.put((new.artifact_id, tag), tagged)
        return _artifact(row)

    def _next(self, session_id: str, name: str) -> int:
        row = self._counters.get(session_id, name)
        head = 1 if row is None else row["head"] + 1
        self._counters.put((session_id, name), {"session_id": session_id, "name": name, "head": head})
        return int(head)

    def _count(self, content_hash: str, by: int) -> None:
        kept = self._contents.rows[(content_hash,)]
        changed = {"reference_count": kept["reference_count"] + by, "last_accessed_at": self._space.now()}
        self._contents.put((content_hash,), {**kept, **changed})

    def _remove(self, row: Row) -> None:
        self._artifacts.delete(row["artifact_id"])
        for tag in row["tags"]:
            self._tags.delete(row["artifact_id"], tag)
        self._count(row["content_hash"], -1)

    def _drop(self, content_hash: str) -> None:
        for key, _ in self._chunks_of(content_hash):
            self._chunks.delete(*key)
        self._contents.delete(content_hash)

    def _chunks_of(self, content_hash: str) -> list[tuple[tuple[Any, ...], Row]]:
        most = self._contents.rows[(content_hash,)]["original_size_bytes"] // CHUNK_BYTES + 1
        keys = [(content_hash, index) for index in range(most)]
        return [(key, self._chunks.rows[key]) for key in keys if key in self._chunks.rows]

    def _chosen(self, chosen: ArtifactFilter) -> list[Row]:
        return [
            row
            for row in self._artifacts.rows.values()
            if chosen.session_id in (None, row["session_id"])
            and chosen.name in (None, row["name"])
            and chosen.artifact_type in (None, row["artifact_type"])
            and (chosen.tag is None or chosen.tag in row["tags"])
        ]

    def _listed(self, chosen: ArtifactFilter, place: Callable[[Row], Any], after: Any, limit: int) -> list[Artifact]:
        with self._space.transaction():
            rows = sorted((row for row in self._chosen(chosen) if place(row) > after), key=place)
            return [_artifact(row) for row in islice(rows, limit)]


def _artifact(row: Row) -> Artifact:
    return artifact(
        (
            row["artifact_id"],
            row["session_id"],
            row["name"],
            row["version"],
            row["sequence"],
            row["artifact_type"],
            row["mime_type"],
            row["size_bytes"],
            row["content_hash"],
            row["tags"],
            row["metadata"],
            row["keep"],
            row["created_at"],
        )
    )


def _total(rows: Iterable[Row], column: str) -> int:
    return sum(row[column] for row in rows)
