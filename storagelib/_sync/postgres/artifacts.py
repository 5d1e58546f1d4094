# Made from storagelib/_async/postgres/artifacts.py by scripts/sync; change that file instead.
"""Artifacts in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from storage_sql.queries import Query, load
from storagelib._sync.postgres.database import Database
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

__all__ = ["PostgresArtifacts"]

_QUERIES = load("artifacts")
_REFER = _QUERIES["record"].variant(refers=True, uploads=False)
_STORE = _QUERIES["record"].variant(refers=False, uploads=False)
_PUBLISH = _QUERIES["record"].variant(refers=False, uploads=True)
_WIDTH: Final = 13


class PostgresArtifacts:
    """See ``ArtifactsBackend``."""

    def __init__(self, database: Database) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def refer(self, new: NewArtifact, content_hash: str) -> Artifact | None:
        """Record an artifact of content that is there; None when it is not."""
        return self._one(_REFER, content_hash=content_hash, **_values(new))

    def store(self, new: NewArtifact, content: InlineContent) -> Artifact:
        """Keep content in one row, unless it is there, and record an artifact of it."""
        rows = self._database.fetch(
            _STORE,
            content_hash=content.content_hash,
            data=content.data,
            stored_size=len(content.data),
            is_compressed=content.is_compressed,
            size=content.size,
            **_values(new),
        )
        return artifact(rows[0])

    def upload(self, upload: str, chunks: list[Chunk], size: int, lease: float) -> int:
        """Keep the next chunks of an upload, begun by its first ones."""
        rows = self._database.fetch(
            _QUERIES["upload"],
            upload=upload,
            chunk_size=CHUNK_BYTES,
            size=size,
            stored_size=sum(len(chunk.data) for chunk in chunks),
            lease=lease,
            chunks=[chunk.index for chunk in chunks],
            data=[chunk.data for chunk in chunks],
            packed=[chunk.is_compressed for chunk in chunks],
            hashes=[chunk.chunk_hash for chunk in chunks],
        )
        return int(rows[0][0])

    def publish(self, upload: str, facts: ContentFacts, new: NewArtifact) -> Artifact | None:
        """Make an upload the content of its hash, or drop it when that is there already, and record an artifact."""
        return self._one(
            _PUBLISH,
            upload=upload,
            content_hash=facts.content_hash,
            size=facts.size,
            stored_size=facts.stored_size,
            is_compressed=facts.is_compressed,
            **_values(new),
        )

    def abandon(self, upload: str) -> None:
        """Remove an upload, if it is there."""
        self._database.fetch(_QUERIES["abandon"], upload=upload)

    def stat(self, artifact_id: str) -> Artifact | None:
        """Return an artifact."""
        return self._one(_QUERIES["stat"], artifact_id=artifact_id)

    def content(self, artifact_id: str) -> Content | None:
        """Return an artifact and how its content is stored."""
        rows = self._database.fetch(_QUERIES["content"], artifact_id=artifact_id)
        return Content(artifact(rows[0][:_WIDTH]), *rows[0][_WIDTH:]) if rows else None

    def chunks(self, content_hash: str, first: int, last: int) -> list[Chunk]:
        """Return the chunks of content from ``first`` to ``last`` that are there."""
        values = {"content_hash": content_hash, "first": first, "last": last}
        return [Chunk(*row) for row in self._database.fetch(_QUERIES["chunks"], **values)]

    def latest(self, session_id: str, name: str) -> Artifact | None:
        """Return the artifact of a session with the greatest version of a name."""
        return self._one(_QUERIES["latest"], session_id=session_id, name=name)

    def in_session(self, chosen: ArtifactFilter, after: int, limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of a session, by sequence, or by version when a name is chosen."""
        query = _QUERIES["in_session"].variant(
            named=chosen.name is not None, typed=chosen.artifact_type is not None, tagged=chosen.tag is not None
        )
        values = {
            "session_id": chosen.session_id,
            "name": chosen.name,
            "artifact_type": chosen.artifact_type,
            "tag": chosen.tag,
        }
        return [artifact(row) for row in self._database.fetch(query, **values, after=after, most=limit)]

    def anywhere(self, chosen: ArtifactFilter, after: tuple[datetime, str], limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of any session in order of (created_at, artifact_id)."""
        query = _QUERIES["anywhere"].variant(typed=chosen.artifact_type is not None, tagged=chosen.tag is not None)
        values = {"artifact_type": chosen.artifact_type, "tag": chosen.tag, "most": limit}
        rows = self._database.fetch(query, **values, after_time=after[0], after_id=after[1])
        return [artifact(row) for row in rows]

    def delete(self, artifact_id: str) -> bool:
        """Remove an artifact; tell whether it was there."""
        return bool(self._database.fetch(_QUERIES["delete"], artifact_id=artifact_id))

    def delete_session(self, session_id: str) -> int:
        """Remove the artifacts of a session except those to keep; count them."""
        return int((self._database.fetch(_QUERIES["delete_session"], session_id=session_id))[0][0])

    def collect(self, limit: int, older_than: float) -> Collected:
        """Remove contents without a reference, and uploads past their lease."""
        rows = self._database.fetch(_QUERIES["collect"], most=limit, older_than=older_than)
        return Collected(*rows[0])

    def statistics(self) -> Statistics:
        """Count what is there."""
        return Statistics(*(self._database.fetch(_QUERIES["statistics"]))[0])

    def _one(self, query: Query, **values: Any) -> Artifact | None:
        rows = self._database.fetch(query, **values)
        return artifact(rows[0]) if rows else None


def _values(new: NewArtifact) -> dict[str, Any]:
    return {
        "artifact_id": new.artifact_id,
        "session_id": new.session_id,
        "name": new.name,
        "artifact_type": new.artifact_type,
        "mime_type": new.mime_type,
        "tags": new.tags,
        "metadata": new.metadata,
        "keep": new.keep,
    }
