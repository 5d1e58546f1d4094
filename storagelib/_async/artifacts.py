"""Named content of any size: stored once under its hash, in chunks, with versions, tags and ranges."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from storagelib.clocks import LONG_AGO
from storagelib.components.artifacts import (
    ARTIFACT_ID_BYTES_MAX,
    ARTIFACT_ID_MAX,
    ARTIFACT_NAME_MAX,
    ARTIFACT_TYPE_MAX,
    BATCH_BYTES,
    INLINE_BYTES,
    MIME_TYPE_MAX,
    UPLOAD_LEASE_SECONDS,
    Artifact,
    ArtifactFilter,
    ArtifactOptions,
    Chunk,
    Collected,
    Content,
    ContentFacts,
    InlineContent,
    NewArtifact,
    Packer,
    Prover,
    Statistics,
    content_hash,
    pack_inline,
    unpack_inline,
)
from storagelib.documents import Document, check_metadata
from storagelib.errors import Conflict, Corrupted, InvalidInput, NotFound, StorageError
from storagelib.identifiers import uuid7
from storagelib.limits import (
    BATCH_MAX,
    INTEGER_MAX,
    PAGE_DEFAULT,
    VALUE_BYTES_MAX,
    check_bytes,
    check_flag,
    check_integer,
    check_page_size,
    check_tags,
    check_text,
    check_ttl,
)
from storagelib.pages import Page, page_of, position_of
from storagelib.sources import AsyncByteSource, AsyncSource
from storagelib.workers import AsyncWorkers

__all__ = ["AsyncArtifacts", "AsyncArtifactsBackend"]

Result = TypeVar("Result")

_COLLECT_DEFAULT: Final = 1000
_HOUR: Final = 3600.0
# Content below this size is sent at once: asking first whether it is there would take longer.
_ASKED_FROM: Final = 1 << 14
# Hashing less than this takes no longer than handing it to a thread.
_ON_THREAD_FROM: Final = 1 << 16


class AsyncArtifactsBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    A verb that records an artifact gives it the next sequence of its session and the next version of its name, and raises
    ``AlreadyExists`` when its id is taken. Content is kept under its hash, once; an upload under a name of its own.
    """

    async def refer(self, new: NewArtifact, content_hash: str) -> Artifact | None:
        """Record an artifact of content that is there; None when it is not."""
        ...

    async def store(self, new: NewArtifact, content: InlineContent) -> Artifact:
        """Keep content in one row, unless it is there, and record an artifact of it."""
        ...

    async def upload(self, upload: str, chunks: list[Chunk], size: int, lease: float) -> int:
        """Keep the next chunks of an upload, begun by its first ones, for ``lease`` seconds at least.

        ``size`` are the bytes of these chunks before compression; returns those of all that the upload has brought.
        """
        ...

    async def publish(self, upload: str, facts: ContentFacts, new: NewArtifact) -> Artifact | None:
        """Make an upload the content of its hash, or drop it when that is there already, and record an artifact of it.

        None when the upload does not have ``facts.size`` bytes (any more).
        """
        ...

    async def abandon(self, upload: str) -> None:
        """Remove an upload, if it is there."""
        ...

    async def stat(self, artifact_id: str) -> Artifact | None:
        """Return an artifact."""
        ...

    async def content(self, artifact_id: str) -> Content | None:
        """Return an artifact and how its content is stored."""
        ...

    async def chunks(self, content_hash: str, first: int, last: int) -> list[Chunk]:
        """Return the chunks of content from ``first`` to ``last`` that are there, in their order."""
        ...

    async def latest(self, session_id: str, name: str) -> Artifact | None:
        """Return the artifact of a session with the greatest version of a name."""
        ...

    async def in_session(self, chosen: ArtifactFilter, after: int, limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of a session after a sequence; after a version when a name is chosen."""
        ...

    async def anywhere(self, chosen: ArtifactFilter, after: tuple[datetime, str], limit: int) -> list[Artifact]:
        """Return up to ``limit`` artifacts of any session after (created_at, artifact_id), in that order."""
        ...

    async def delete(self, artifact_id: str) -> bool:
        """Remove an artifact; tell whether it was there. Its content stays, with a reference less."""
        ...

    async def delete_session(self, session_id: str) -> int:
        """Remove the artifacts of a session except those to keep; count them."""
        ...

    async def collect(self, limit: int, older_than: float) -> Collected:
        """Remove up to ``limit`` contents without a reference for ``older_than`` seconds, and uploads past their lease."""
        ...

    async def statistics(self) -> Statistics:
        """Count what is there, in one snapshot."""
        ...


class AsyncArtifacts:
    """The artifacts of one tenant: content of any size under a name, in versions; equal content is stored once.

    Storing a name again within its session makes its next version. Content is checked against its BLAKE3 whenever it is
    read, whole or in chunks of 256 KiB; what differs is ``Corrupted``.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         artifacts = store.for_tenant("acme").artifacts
    ...         await artifacts.store("session-1", "report.md", b"# Draft")
    ...         final = await artifacts.store("session-1", "report.md", b"# Final", tags=["report"])
    ...         print(final.version, final.size, await artifacts.get(final.artifact_id))
    ...         print(await artifacts.read_range(final.artifact_id, 2, 5))
    >>> asyncio.run(example())
    2 7 b'# Final'
    b'Fin'
    """

    def __init__(self, backend: AsyncArtifactsBackend, options: Mapping[str, object] | None = None) -> None:
        """Take the tenant's backend, and the store's table of the configuration."""
        self._backend = backend
        threshold: Any = (options or {}).get("compression_threshold_bytes")
        self._options = ArtifactOptions() if threshold is None else ArtifactOptions(threshold)

    async def store(
        self,
        session_id: str,
        name: str,
        content: AsyncByteSource,
        *,
        artifact_type: str = "file",
        mime_type: str = "application/octet-stream",
        tags: Iterable[str] = (),
        metadata: Document | None = None,
        keep: bool = False,
        artifact_id: str | None = None,
    ) -> Artifact:
        """Store content under a name and return the artifact, which is the next version of that name in the session.

        ``content`` are bytes, a file that is open for reading bytes, or an iterator of bytes of any length, asynchronous
        or not: it is read and sent in pieces of 2 MiB, and seen by nobody before its end. Bytes that are stored already
        are not sent again. ``keep`` lets it outlive ``delete_session``. Without ``artifact_id`` it gets a new one; one
        that is taken is ``AlreadyExists``.
        """
        new = NewArtifact(
            str(uuid7()) if artifact_id is None else _id(artifact_id),
            check_text("session_id", session_id),
            check_text("name", name, most=ARTIFACT_NAME_MAX),
            check_text("artifact_type", artifact_type, most=ARTIFACT_TYPE_MAX),
            check_text("mime_type", mime_type, most=MIME_TYPE_MAX),
            check_tags(tags),
            check_metadata(metadata),
            check_flag("keep", keep),
        )
        if isinstance(content, bytes | bytearray | memoryview):
            return await self._store_bytes(new, check_bytes("content", content, most=INTEGER_MAX))
        source = AsyncSource(content)
        beginning = await source.read(INLINE_BYTES)
        if len(beginning) < INLINE_BYTES:
            return await self._store_bytes(new, beginning)
        return await self._upload(new, source, beginning, None)

    async def stat(self, artifact_id: str) -> Artifact:
        """Return what is known of an artifact; raises ``NotFound``."""
        found = await self._backend.stat(_id(artifact_id))
        if found is None:
            raise _missing(artifact_id)
        return found

    async def get(self, artifact_id: str, *, most: int = VALUE_BYTES_MAX) -> bytes:
        """Return the content of an artifact; raises ``NotFound``.

        Content of more than ``most`` bytes, 256 MiB unless given, is ``InvalidInput``: ``stream`` reads it in pieces.
        """
        check_integer("most", most, least=0)
        content = await self._content(artifact_id)
        return await self._joined(content, 0, content.artifact.size, most)

    async def read_range(
        self, artifact_id: str, start: int = 0, end: int | None = None, *, most: int = VALUE_BYTES_MAX
    ) -> bytes:
        """Return the bytes from ``start`` up to ``end``, as far as there are any; raises ``NotFound``.

        Only the chunks that the range touches are read. More than ``most`` bytes are ``InvalidInput``.
        """
        check_integer("most", most, least=0)
        _check_range(start, end)
        content = await self._content(artifact_id)
        return await self._joined(content, *_clipped(content, start, end), most)

    async def stream(self, artifact_id: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Go through the content of an artifact, or the range from ``start`` up to ``end``, in pieces; raises ``NotFound``.

        No more than a few MiB are held at once, and no connection between two pieces. The hash of the whole content is
        compared before its last piece is given.
        """
        _check_range(start, end)
        content = await self._content(artifact_id)
        async for piece in self._pieces(content, *_clipped(content, start, end)):
            yield piece

    async def latest(self, session_id: str, name: str) -> Artifact:
        """Return the latest version of a name in a session; raises ``NotFound``."""
        session, wanted = check_text("session_id", session_id), check_text("name", name, most=ARTIFACT_NAME_MAX)
        found = await self._backend.latest(session, wanted)
        if found is None:
            raise NotFound(f"session {session!a} has no artifact {wanted!a}")
        return found

    async def versions(
        self, session_id: str, name: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Artifact]:
        """Return a page of the versions of a name in a session that are there, from the first on."""
        chosen = ArtifactFilter(check_text("session_id", session_id), check_text("name", name, most=ARTIFACT_NAME_MAX))
        return await self._in_session(chosen, cursor, limit, "version")

    async def list_artifacts(
        self,
        *,
        session_id: str | None = None,
        tag: str | None = None,
        artifact_type: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Artifact]:
        """Return a page of the artifacts for which everything given holds, every version of them, oldest first.

        Within a session they come in its sequence, otherwise by the time they were stored.
        """
        chosen = ArtifactFilter(
            None if session_id is None else check_text("session_id", session_id),
            None,
            None if tag is None else check_text("tag", tag),
            None if artifact_type is None else check_text("artifact_type", artifact_type, most=ARTIFACT_TYPE_MAX),
        )
        if chosen.session_id is not None:
            return await self._in_session(chosen, cursor, limit, "sequence")
        check_page_size(limit)
        at = position_of(cursor, datetime, str)
        after = (LONG_AGO, "") if at is None else (at[0], at[1])
        found = await self._backend.anywhere(chosen, after, limit + 1)
        return page_of(found, limit, "created_at", "artifact_id")

    async def delete(self, artifact_id: str) -> bool:
        """Remove an artifact, one to keep as well; tell whether it was there.

        Its version is not given again. Its content goes with ``collect_garbage``, unless others refer to it.
        """
        return await self._backend.delete(_id(artifact_id))

    async def delete_session(self, session_id: str) -> int:
        """Remove the artifacts of a session, all or none, except those stored with ``keep=True``; count them."""
        return await self._backend.delete_session(check_text("session_id", session_id))

    async def collect_garbage(
        self, *, limit: int = _COLLECT_DEFAULT, older_than: float | timedelta = _HOUR
    ) -> Collected:
        """Remove content that no artifact has referred to for ``older_than`` (seconds), and abandoned uploads.

        Up to ``limit`` contents and uploads together. Content that is being stored again meanwhile stays. An upload
        counts as abandoned when it brought no chunk for an hour.
        """
        return await self._backend.collect(
            check_integer("limit", limit, least=1, most=BATCH_MAX), _seconds("older_than", older_than)
        )

    async def statistics(self) -> Statistics:
        """Count artifacts and bytes: as stored by callers, as different contents, and after compression."""
        return await self._backend.statistics()

    async def _store_bytes(self, new: NewArtifact, data: bytes) -> Artifact:
        if len(data) >= _ASKED_FROM:
            digest = await _work(len(data), content_hash, data)
            known = await self._backend.refer(new, digest)
            if known is not None:
                return known
            if len(data) >= INLINE_BYTES:
                return await self._upload(new, AsyncSource(data), b"", digest)
        return await self._backend.store(new, await _work(len(data), pack_inline, data, self._options))

    async def _upload(self, new: NewArtifact, source: AsyncSource, beginning: bytes, known: str | None) -> Artifact:
        upload, packer = secrets.token_hex(32), Packer(self._options, known)
        brought, sent = 0, False
        try:
            batch = beginning + await source.read(BATCH_BYTES - len(beginning))
            packing = AsyncWorkers.start(packer.pack, batch)
            while batch:
                # The producer and the packing go on beside each other, and the packing beside the sending.
                following = await source.read(BATCH_BYTES)
                chunks, size = await AsyncWorkers.result(packing), len(batch)
                packing = AsyncWorkers.start(packer.pack, following)
                sent = True
                brought += size
                _check_whole(await self._backend.upload(upload, chunks, size, UPLOAD_LEASE_SECONDS) == brought)
                batch = following
            await AsyncWorkers.result(packing)
            stored = await self._backend.publish(upload, packer.facts(), new)
            _check_whole(stored is not None)
        except BaseException:
            if sent:
                with suppress(StorageError):
                    await self._backend.abandon(upload)
            raise
        assert stored is not None  # noqa: S101 - checked above
        return stored

    async def _in_session(self, chosen: ArtifactFilter, cursor: str | None, limit: int, order: str) -> Page[Artifact]:
        check_page_size(limit)
        at = position_of(cursor, int)
        found = await self._backend.in_session(chosen, 0 if at is None else at[0], limit + 1)
        return page_of(found, limit, order)

    async def _content(self, artifact_id: str) -> Content:
        content = await self._backend.content(_id(artifact_id))
        if content is None:
            raise _missing(artifact_id)
        return content

    async def _joined(self, content: Content, start: int, end: int, most: int) -> bytes:
        if end - start > most:
            fault = f"most: {end - start} bytes are asked for, and {most} wanted at most; stream reads them in pieces"
            raise InvalidInput("the content is too large", [fault])
        pieces = [piece async for piece in self._pieces(content, start, end)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _pieces(self, content: Content, start: int, end: int) -> AsyncIterator[bytes]:
        if content.chunk_size is None:
            data = await _work(content.artifact.size, unpack_inline, content)
            if start < end:
                yield data[start:end]
            return
        if start >= end:
            return
        prover = Prover(content, start, end)
        batches = prover.batches()
        digest = content.artifact.content_hash
        chunks = await self._backend.chunks(digest, *batches[0])
        for batch, following in zip(batches, [*batches[1:], None], strict=True):
            unpacking = AsyncWorkers.start(prover.unpack, *batch, chunks)
            if following is not None:
                chunks = await self._backend.chunks(digest, *following)
            try:
                pieces = await AsyncWorkers.result(unpacking)
            except Corrupted:
                # Chunks that are not there are no damage when the artifact was deleted and collected meanwhile.
                if await self._backend.stat(content.artifact.artifact_id) is None:
                    raise _missing(content.artifact.artifact_id) from None
                raise
            for piece in pieces:
                yield piece


async def _work(size: int, function: Callable[..., Result], *args: Any) -> Result:
    if size < _ON_THREAD_FROM:
        return function(*args)
    return await AsyncWorkers.result(AsyncWorkers.start(function, *args))


def _id(artifact_id: object) -> str:
    checked = check_text("artifact_id", artifact_id, most=ARTIFACT_ID_MAX)
    if len(checked.encode()) > ARTIFACT_ID_BYTES_MAX:
        fault = f"artifact_id: has {len(checked.encode())} bytes, at most {ARTIFACT_ID_BYTES_MAX} fit"
        raise InvalidInput("the argument cannot be used", [fault])
    return checked


def _check_range(start: object, end: object) -> None:
    least = check_integer("start", start, least=0)
    if end is not None:
        check_integer("end", end, least=least)


def _clipped(content: Content, start: int, end: int | None) -> tuple[int, int]:
    size = content.artifact.size
    return min(start, size), size if end is None else min(end, size)


def _seconds(name: str, value: float | timedelta) -> float:
    return check_ttl(name, value, least=timedelta(0)).total_seconds()


def _missing(artifact_id: str) -> NotFound:
    return NotFound(f"there is no artifact {artifact_id!a}")


def _check_whole(is_whole: bool) -> None:
    if not is_whole:
        raise Conflict("the upload was collected as abandoned: store the content again")
