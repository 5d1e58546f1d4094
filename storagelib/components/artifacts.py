"""Artifacts, their content in chunks, and how chunks are packed and proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from blake3 import blake3

from storagelib import documents
from storagelib.compression import compress, decompress
from storagelib.documents import Json
from storagelib.errors import Corrupted

__all__ = [
    "ARTIFACT_ID_BYTES_MAX",
    "ARTIFACT_ID_MAX",
    "ARTIFACT_NAME_MAX",
    "ARTIFACT_TYPE_MAX",
    "BATCH_BYTES",
    "BATCH_CHUNKS",
    "CHUNK_BYTES",
    "INLINE_BYTES",
    "MIME_TYPE_MAX",
    "UPLOAD_LEASE_SECONDS",
    "Artifact",
    "ArtifactFilter",
    "ArtifactOptions",
    "Chunk",
    "Collected",
    "Content",
    "ContentFacts",
    "InlineContent",
    "NewArtifact",
    "Packer",
    "Prover",
    "Statistics",
    "artifact",
    "content_hash",
    "pack_inline",
    "unpack_inline",
]

ARTIFACT_ID_MAX: Final = 512
"""Characters of an artifact's id."""
ARTIFACT_ID_BYTES_MAX: Final = 1024
"""Bytes of an artifact's id as UTF-8: an index holds it beside a tag."""
ARTIFACT_NAME_MAX: Final = 255
"""Characters of an artifact's name."""
ARTIFACT_TYPE_MAX: Final = 50
"""Characters of an artifact's type."""
MIME_TYPE_MAX: Final = 255
"""Characters of a media type."""
INLINE_BYTES: Final = 1 << 20
"""Content from this size on is kept in chunks, smaller content in one row."""
CHUNK_BYTES: Final = 1 << 18
"""Uncompressed bytes of a chunk, the last one excepted."""
BATCH_CHUNKS: Final = 8
"""Chunks that go to the storage, or come from it, in one round trip."""
BATCH_BYTES: Final = CHUNK_BYTES * BATCH_CHUNKS
"""Uncompressed bytes of such a batch."""
UPLOAD_LEASE_SECONDS: Final = 3600.0
"""An upload that brings no chunk for so long counts as abandoned."""


@dataclass(frozen=True, slots=True)
class ArtifactOptions:
    """How content is packed."""

    compression_threshold_bytes: int = 2048
    """Content or chunks below this size are not compressed."""
    compression_level: int = 3
    """The level of zstd, 1 to 19."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What is known of an artifact, its content excepted."""

    artifact_id: str
    """Its id."""
    session_id: str
    """The session that made it."""
    name: str
    """Its name; another one under the same name is the next version."""
    version: int
    """Version of the name within the session, from 1."""
    sequence: int
    """Place in the session, from 1."""
    artifact_type: str
    """What kind of thing it is."""
    mime_type: str
    """Media type."""
    size: int
    """Bytes of the content."""
    content_hash: str
    """BLAKE3 of the content, 64 hexadecimal digits."""
    tags: tuple[str, ...]
    """Tags, sorted."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    keep: bool
    """Whether it stays when its session's artifacts are deleted."""
    created_at: datetime
    """When it was stored."""


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """An artifact to record, checked: ``metadata`` is canonical JSON text, ``tags`` are sorted."""

    artifact_id: str
    session_id: str
    name: str
    artifact_type: str
    mime_type: str
    tags: tuple[str, ...] = ()
    metadata: str = "{}"
    keep: bool = False


@dataclass(frozen=True, slots=True)
class ArtifactFilter:
    """Which artifacts are listed; None stands for any."""

    session_id: str | None = None
    name: str | None = None
    tag: str | None = None
    artifact_type: str | None = None


@dataclass(frozen=True, slots=True)
class InlineContent:
    """Content for one row: ``data`` are the stored bytes, ``size`` the bytes before compression."""

    content_hash: str
    size: int
    data: bytes
    is_compressed: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk as it is stored; ``chunk_hash`` is the BLAKE3 of its uncompressed bytes."""

    index: int
    data: bytes
    is_compressed: bool
    chunk_hash: bytes


@dataclass(frozen=True, slots=True)
class ContentFacts:
    """What is known of chunked content when its last chunk was packed; sizes in bytes."""

    content_hash: str
    size: int
    stored_size: int
    is_compressed: bool


@dataclass(frozen=True, slots=True)
class Content:
    """An artifact and how its content is stored: in ``data``, or in chunks of ``chunk_size`` bytes before compression."""

    artifact: Artifact
    chunk_size: int | None
    is_compressed: bool
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed."""

    contents: int
    """Contents that no artifact referred to."""
    uploads: int
    """Uploads that were abandoned."""
    stored_bytes: int
    """Stored bytes of both."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a tenant's artifacts take; sizes in bytes."""

    artifacts: int
    """Artifacts, every version counted."""
    logical_bytes: int
    """Their sizes together, as if each were stored by itself."""
    contents: int
    """Different contents that artifacts refer to."""
    content_bytes: int
    """Sizes of these before compression."""
    stored_bytes: int
    """Sizes of these as they are stored."""
    unreferenced_contents: int
    """Contents that no artifact refers to (any more); ``collect_garbage`` removes them."""
    unreferenced_bytes: int
    """Their stored bytes."""
    uploads: int
    """Uploads under way, or abandoned and not yet removed."""
    upload_bytes: int
    """Stored bytes that they brought so far."""

    @property
    def dedupe_ratio(self) -> float:
        """How many bytes artifacts have for each byte of different content; 1.0 when nothing is there twice."""
        return self.logical_bytes / self.content_bytes if self.content_bytes else 1.0

    @property
    def compression_ratio(self) -> float:
        """How many bytes of content each stored byte stands for; 1.0 when nothing was compressed."""
        return self.content_bytes / self.stored_bytes if self.stored_bytes else 1.0


def artifact(row: Sequence[Any]) -> Artifact:
    """Make an artifact of a row: its columns in the order of ``Artifact``, ``metadata`` as JSON text."""
    *same, tags, metadata, keep, created_at = row
    made: Any = Artifact
    return made(*same, tuple(tags), documents.decode(metadata), bool(keep), created_at)  # type: ignore[no-any-return]


def content_hash(data: bytes) -> str:
    """Return the BLAKE3 of content as 64 hexadecimal digits.

    >>> content_hash(b"")[:16]
    'af1349b9f5f9a1a6'
    """
    return blake3(data).hexdigest()


def pack_inline(data: bytes, options: ArtifactOptions) -> InlineContent:
    """Hash content for one row, and compress it when that helps."""
    packed, is_compressed = _pack(data, options)
    return InlineContent(content_hash(data), len(data), packed, is_compressed)


def unpack_inline(content: Content) -> bytes:
    """Return the content of a row; raises ``Corrupted`` when it is not what was stored."""
    artifact_id, data = content.artifact.artifact_id, content.data
    if data is None:
        raise Corrupted(f"artifact {artifact_id!r}: its content is missing")
    if content.is_compressed:
        data = _decompress(data, content.artifact.size, f"artifact {artifact_id!r}: its content is damaged")
    if len(data) != content.artifact.size or content_hash(data) != content.artifact.content_hash:
        raise Corrupted(f"artifact {artifact_id!r}: its content is not what was stored")
    return data


class Packer:
    """Makes chunks of content that comes in batches, and knows at the end what came."""

    def __init__(self, options: ArtifactOptions, known_hash: str | None = None) -> None:
        """Take the options, and the hash of the whole content when it is known already."""
        self._options = options
        self._known_hash = known_hash
        self._hasher = blake3()
        self._chunks = 0
        self._size = 0
        self._stored_size = 0
        self._is_compressed = False

    def pack(self, batch: bytes) -> list[Chunk]:
        """Pack the next batch; every batch but the last is whole chunks."""
        if self._known_hash is None:
            self._hasher.update(batch)
        view = memoryview(batch)
        packed = [self._chunk(bytes(view[start : start + CHUNK_BYTES])) for start in range(0, len(view), CHUNK_BYTES)]
        self._size += len(batch)
        return packed

    def facts(self) -> ContentFacts:
        """Return what is known after the last batch."""
        digest = self._hasher.hexdigest() if self._known_hash is None else self._known_hash
        return ContentFacts(digest, self._size, self._stored_size, self._is_compressed)

    def _chunk(self, data: bytes) -> Chunk:
        packed, is_compressed = _pack(data, self._options)
        chunk = Chunk(self._chunks, packed, is_compressed, blake3(data).digest())
        self._chunks += 1
        self._stored_size += len(packed)
        self._is_compressed |= is_compressed
        return chunk


class Prover:
    """Unpacks the chunks of a range and proves each by its hash; the whole content by its own hash, too."""

    def __init__(self, content: Content, start: int, end: int) -> None:
        """Take chunked content and the range of its bytes; the range lies within the content and is not empty."""
        self._content = content
        self._start, self._end = start, end
        self._chunk_size = content.chunk_size or CHUNK_BYTES
        self.first, self.last = start // self._chunk_size, (end - 1) // self._chunk_size
        self._hasher = blake3() if (start, end) == (0, content.artifact.size) else None

    def batches(self) -> list[tuple[int, int]]:
        """Return the first and last index of each batch of chunks, about ``BATCH_BYTES`` a batch."""
        step = max(1, BATCH_BYTES // self._chunk_size)
        return [(first, min(first + step - 1, self.last)) for first in range(self.first, self.last + 1, step)]

    def unpack(self, first: int, last: int, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the bytes of chunks ``first`` to ``last`` that lie in the range.

        Raises ``Corrupted`` when one is damaged or missing, and with the last ones when the whole has another hash.
        """
        wanted = list(range(first, last + 1))
        if [chunk.index for chunk in chunks] != wanted:
            raise self._corrupted(f"of the chunks {first} to {last} not all are there")
        pieces = [self._piece(chunk) for chunk in chunks]
        if (
            self._hasher is not None
            and last == self.last
            and self._hasher.hexdigest() != self._content.artifact.content_hash
        ):
            raise self._corrupted("its content is not what was stored")
        return pieces

    def _piece(self, chunk: Chunk) -> bytes:
        begins = chunk.index * self._chunk_size
        size = min(self._chunk_size, self._content.artifact.size - begins)
        data = chunk.data
        if chunk.is_compressed:
            data = _decompress(data, size, self._damaged(chunk.index))
        if len(data) != size or blake3(data).digest() != chunk.chunk_hash:
            raise Corrupted(self._damaged(chunk.index))
        if self._hasher is not None:
            self._hasher.update(data)
        return data[max(0, self._start - begins) : self._end - begins]

    def _damaged(self, index: int) -> str:
        return f"artifact {self._content.artifact.artifact_id!r}: chunk {index} is damaged"

    def _corrupted(self, what: str) -> Corrupted:
        return Corrupted(f"artifact {self._content.artifact.artifact_id!r}: {what}")


def _pack(data: bytes, options: ArtifactOptions) -> tuple[bytes, bool]:
    if len(data) >= options.compression_threshold_bytes:
        packed = compress(data, options.compression_level)
        if packed is not None:
            return packed, True
    return data, False


def _decompress(data: bytes, most: int, damaged: str) -> bytes:
    try:
        return decompress(data, most)
    except Corrupted as error:
        raise Corrupted(damaged) from error
