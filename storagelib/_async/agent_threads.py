"""Checkpoints of agents that step through a graph, by thread and namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

from storagelib import documents
from storagelib.components.agent_threads import (
    Entry,
    Found,
    Head,
    Held,
    NewThreadCheckpoint,
    Outline,
    ThreadCheckpoint,
    ThreadKey,
    ThreadQuery,
    ThreadRow,
    ThreadStep,
    ThreadWrite,
    Value,
    Version,
    head_of,
    new_checkpoint,
    opened,
    packed_write,
    plain_of,
    write_value,
)
from storagelib.documents import Document, check_document, check_metadata
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from storagelib.flows import AsyncFlow
from storagelib.limits import (
    ID_MAX,
    INTEGER_MAX,
    PAGE_MAX,
    check_batch,
    check_bytes,
    check_integer,
    check_mapping,
    check_text,
)
from storagelib.records import maker
from storagelib.remembered import Remembered

__all__ = ["AsyncAgentThreads", "AsyncAgentThreadsBackend"]

_NAMESPACE_BYTES_MAX: Final = 800
_STEP_ID_BYTES_MAX: Final = 128
_PAGE: Final = 100
_WALK_FIRST: Final = 32
_WALK_MOST: Final = 512
# How a value and a write are given: (kind, bytes) and (position, channel, value).
_VALUE_PARTS: Final = 2
_WRITE_PARTS: Final = 3
_REMEMBERED_HEADS: Final = 256
_REMEMBERED_PARTS: Final = 4096
_REMEMBERED_BYTES: Final = 64 << 20


class AsyncAgentThreadsBackend(Protocol):
    """What a backend keeps of threads; arguments are checked already, errors are ``StorageError``."""

    async def put_checkpoint(self, new: NewThreadCheckpoint) -> bool:
        """Keep a checkpoint and its parts, over one of the same id.

        False, and nothing is kept, when ``needed`` has parts and the parent is gone or does not name all of them. Parts of
        the thread that are there already stay as they are.
        """
        ...

    async def put_writes(self, key: ThreadKey, writes: list[ThreadWrite]) -> None:
        """Keep writes; one whose task and position are there already stays, unless its position is below 0."""
        ...

    async def read_checkpoints(self, query: ThreadQuery) -> Found:
        """Return checkpoints in the order of the query, the parts they name but those known, and their writes."""
        ...

    async def chain(self, key: ThreadKey, limit: int) -> Found:
        """Return up to ``limit`` checkpoints from one on along parents, with the bases of their documents and their writes."""
        ...

    async def outline(self, thread_id: str, after: tuple[str, str] | None, limit: int) -> list[Outline]:
        """Return up to ``limit`` checkpoints of a thread by namespace and id, greater than ``after``."""
        ...

    async def delete_checkpoints(self, thread_id: str, keys: list[tuple[str, str]]) -> int:
        """Remove checkpoints by namespace and id with their writes, and parts that no other needs; count the checkpoints."""
        ...

    async def delete_runs(self, run_ids: list[str]) -> int:
        """Remove the checkpoints of these runs in all threads, as ``delete_checkpoints`` does; count them."""
        ...

    async def delete_thread(self, thread_id: str) -> int:
        """Remove everything of a thread; count its checkpoints."""
        ...

    async def copy_thread(self, thread_id: str, new_id: str) -> bool | None:
        """Copy everything of a thread; None when there is nothing, False when the new thread has something."""
        ...


class AsyncAgentThreads:
    """Threads of checkpoints: ids of threads have 1 to 255 characters, namespaces up to 800 bytes, step ids 1 to 128 bytes.

    A checkpoint has a head and named values, all of them bytes that somebody serialised. Values that did not change
    are not written again; what changed is compressed against what was there. For that the handle remembers up to
    64 MiB of what it read and wrote; what it does not remember is written whole, with the same result.
    """

    def __init__(self, backend: AsyncAgentThreadsBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend
        self._heads = Remembered(_REMEMBERED_HEADS, _REMEMBERED_BYTES)
        self._parts = Remembered(_REMEMBERED_PARTS, _REMEMBERED_BYTES)

    async def put(
        self,
        thread_id: str,
        namespace: str,
        checkpoint_id: str,
        *,
        head: Value,
        versions: Mapping[str, Version],
        value_of: Callable[[str], Value],
        changed: Collection[str],
        parent_id: str | None = None,
        metadata: Document | None = None,
        run_id: str | None = None,
    ) -> None:
        """Keep a checkpoint with the values that ``versions`` names; one of the same id is replaced.

        ``value_of`` is asked for the values in ``changed``, and for others that the parent does not have in this version or
        that this handle knows nothing of.
        """
        key = _key(thread_id, namespace, checkpoint_id)
        parent = None if parent_id is None else self._heads.get((*key[:2], _step_id("parent_id", parent_id)))
        run = None if run_id is None else check_text("run_id", run_id)
        about = check_metadata(metadata)
        wanted = _versions(versions)
        fresh_names = frozenset(check_text("changed", name) for name in check_batch("changed", changed))
        top = _checked("head", head)
        AsyncFlow.check(value_of, "value_of")
        while True:
            entries = {
                name: _reused(parent, name, version, fresh_names) or _checked("value_of", value_of(name))
                for name, version in wanted.items()
            }
            new, kept, fresh = new_checkpoint(key, parent_id, run, about, top, entries, wanted, parent, self._plain)
            if await self._backend.put_checkpoint(new):
                break
            if parent is None:
                raise Conflict("the thread changed meanwhile")
            # The parent was pruned or the thread deleted: nothing that was stored before is leaned on.
            parent = None
        self._remember(key, kept, fresh)

    async def put_writes(
        self,
        thread_id: str,
        namespace: str,
        checkpoint_id: str,
        task_id: str,
        writes: Iterable[tuple[int, str, Value]],
        *,
        task_path: str = "",
    ) -> None:
        """Keep what a task wrote after a checkpoint, which need not be there yet: position, channel and value each.

        A write that is there already stays; positions below 0 are replaced.
        """
        key = _key(thread_id, namespace, checkpoint_id)
        task = _step_id("task_id", task_id)
        path = check_text("task_path", task_path, least=0, most=10_000)
        made = {}
        given: list[Any] = check_batch("writes", writes)
        for write in given:
            if not isinstance(write, tuple | list) or len(write) != _WRITE_PARTS:
                raise InvalidInput("the argument cannot be used", ["writes: must be a position, a channel and a value"])
            place = check_integer("position", write[0])
            kind, content = _checked("value", write[2])
            channel = check_text("channel", write[1])
            made[place] = ThreadWrite(task, place, path, channel, kind, packed_write(content))
        if made:
            await self._backend.put_writes(key, list(made.values()))

    async def get(
        self, thread_id: str, namespace: str = "", checkpoint_id: str | None = None
    ) -> ThreadCheckpoint | None:
        """Return a checkpoint, the one with the greatest id unless told, or None."""
        wanted = None if checkpoint_id is None else _step_id("checkpoint_id", checkpoint_id)
        thread, name = _thread(thread_id), _namespace(namespace)
        held = self._at_hand(thread, name, wanted)
        found = await self._backend.read_checkpoints(ThreadQuery(thread, name, wanted, known=tuple(held)))
        return self._read(found.rows[0], found, held) if found.rows else None

    async def find(
        self,
        thread_id: str | None = None,
        namespace: str | None = None,
        *,
        checkpoint_id: str | None = None,
        before: str | None = None,
        where: Document | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[ThreadCheckpoint]:
        """Go through checkpoints, newest first: of one thread or all, with ids below ``before``, with metadata as ``where``."""
        thread = None if thread_id is None else _thread(thread_id)
        name = None if namespace is None else _namespace(namespace)
        wanted = None if checkpoint_id is None else _step_id("checkpoint_id", checkpoint_id)
        below = None if before is None else _step_id("before", before)
        equal = tuple(
            (check_text("where", key), check_document(value, "where"))
            for key, value in check_mapping("where", where).items()
        )
        left = PAGE_MAX**2 if limit is None else check_integer("limit", limit, least=0)
        after: ThreadKey | None = None
        while left > 0:
            size = min(left, _PAGE)
            held: dict[UUID, Held] = {} if thread is None else self._at_hand(thread, name or "", wanted)
            query = ThreadQuery(thread, name, wanted, below, after, equal, size, tuple(held))
            found = await self._backend.read_checkpoints(query)
            for place, row in enumerate(found.rows):
                # What is asked for next is the newest one, not each that was listed.
                yield self._read(row, found, held, remember=not place and after is None)
            left -= size
            if len(found.rows) < size:
                return
            after = found.rows[-1].key

    async def walk(self, thread_id: str, namespace: str, checkpoint_id: str) -> AsyncIterator[ThreadStep]:
        """Go back from a checkpoint along parents, the checkpoint itself first; ends where a parent is not there."""
        key = _key(thread_id, namespace, checkpoint_id)
        size = _WALK_FIRST
        seen: set[str] = set()
        while True:
            found = await self._backend.chain(key, size)
            held: dict[UUID, Held] = {}
            for row in found.rows:
                if row.checkpoint_id in seen:
                    return
                seen.add(row.checkpoint_id)
                _, entries = opened(row, found.parts, held)
                yield ThreadStep(row.checkpoint_id, row.parent_id, frozenset(entries), _writes(found, row))
            if len(found.rows) < size or found.rows[-1].parent_id is None:
                return
            key = (*key[:2], found.rows[-1].parent_id)
            size = min(size * 2, _WALK_MOST)

    async def prune(self, thread_id: str, *, needs: Callable[[ThreadCheckpoint], Collection[str]] | None = None) -> int:
        """Remove all but the newest checkpoint of each namespace of a thread; count them.

        ``needs`` names values that the kept checkpoint does not have itself and that are put together from older ones: then
        all its ancestors stay up to those that have them.
        """
        if needs is not None:
            AsyncFlow.check(needs, "needs")
        outline: list[Outline] = []
        after: tuple[str, str] | None = None
        while page := await self._backend.outline(_thread(thread_id), after, PAGE_MAX):
            outline += page
            after = (page[-1].namespace, page[-1].checkpoint_id)
        newest = {entry.namespace: entry.checkpoint_id for entry in outline}
        kept = set(newest.items())
        if needs is not None:
            for namespace, checkpoint_id in newest.items():
                kept |= {(namespace, each) for each in await self._needed(thread_id, namespace, checkpoint_id, needs)}
        gone = [(entry.namespace, entry.checkpoint_id) for entry in outline]
        gone = [key for key in gone if key not in kept]
        return await self._backend.delete_checkpoints(thread_id, gone) if gone else 0

    async def delete_thread(self, thread_id: str) -> int:
        """Remove everything of a thread; count its checkpoints. What somebody puts there meanwhile stays, whole."""
        return await self._backend.delete_thread(_thread(thread_id))

    async def delete_runs(self, run_ids: Iterable[str]) -> int:
        """Remove the checkpoints that these runs made, in every thread; count them."""
        asked = list(dict.fromkeys(check_text("run_ids", run_id) for run_id in check_batch("run_ids", run_ids)))
        return await self._backend.delete_runs(asked) if asked else 0

    async def copy_thread(self, thread_id: str, new_id: str) -> None:
        """Copy a thread with all its checkpoints, ids and writes.

        Raises ``NotFound`` when there is nothing to copy, and ``AlreadyExists`` when the new thread has something. Two
        copies to one id exclude each other; on PostgreSQL what is put there while the copy is made stands beside it.
        """
        if _thread(thread_id) == _thread(new_id):
            raise AlreadyExists("a thread cannot be copied onto itself")
        copied = await self._backend.copy_thread(thread_id, new_id)
        if copied is None:
            raise NotFound("the thread has no checkpoints")
        if not copied:
            raise AlreadyExists(f"there is a thread {new_id!r} already")

    async def _needed(
        self, thread_id: str, namespace: str, checkpoint_id: str, needs: Callable[[ThreadCheckpoint], Collection[str]]
    ) -> list[str]:
        newest = await self.get(thread_id, namespace, checkpoint_id)
        missing = set() if newest is None else {name for name in needs(newest) if name not in newest.values}
        kept: list[str] = []
        if missing:
            async for step in self.walk(thread_id, namespace, checkpoint_id):
                kept.append(step.checkpoint_id)
                missing -= step.names
                if not missing:
                    break
        return kept

    def _read(self, row: ThreadRow, found: Found, held: dict[UUID, Held], *, remember: bool = True) -> ThreadCheckpoint:
        head, entries = opened(row, found.parts, held)
        values: dict[str, Value] = {}
        for name, entry in entries.items():
            plain = entry.inline if entry.part_id is None else plain_of(entry.part_id, found.parts, held)
            values[name] = (entry.kind, plain or b"")
        if remember:
            remembered = self._heads.get(row.key)
            if remembered is None or remembered.parts != row.parts:
                remembered = head_of(row, entries, held)
            self._remember(row.key, remembered, {part_id: held[part_id] for part_id in row.parts if part_id in held})
        return ThreadCheckpoint(
            row.thread_id,
            row.namespace,
            row.checkpoint_id,
            row.parent_id,
            documents.decode(row.metadata),
            head,
            values,
            _writes(found, row),
        )

    def _plain(self, part_id: UUID) -> bytes | None:
        found = self._parts.get(part_id)
        return None if found is None else found.plain

    def _at_hand(self, thread_id: str, namespace: str, checkpoint_id: str | None) -> dict[UUID, Held]:
        """Return the parts at hand of those that the checkpoint most likely names."""
        known = self._heads.get((thread_id, namespace, checkpoint_id)) or self._heads.get((thread_id, namespace))
        named = () if known is None else known.parts
        return {part_id: held for part_id in named if (held := self._parts.get(part_id)) is not None}

    def _remember(self, key: ThreadKey, head: Head, parts: Mapping[UUID, Held]) -> None:
        size = sum(len(entry.inline or b"") for entry in head.entries.values())
        self._heads.put(key, head, size)
        self._heads.put(key[:2], head, size)
        for part_id, held in parts.items():
            self._parts.put(part_id, held, len(held.plain))


def _reused(parent: Head | None, name: str, version: Version, changed: Collection[str]) -> Entry | None:
    if parent is None or name in changed:
        return None
    entry = parent.entries.get(name)
    return entry if entry is not None and (type(entry.version), entry.version) == (type(version), version) else None


def _versions(versions: Mapping[str, Version]) -> dict[str, Version]:
    kept: dict[str, Version] = {}
    for name, version in check_batch("versions", check_mapping("versions", versions).items()):
        finite = isinstance(version, int | float) and not isinstance(version, bool) and abs(version) <= INTEGER_MAX
        if not finite:
            check_text("versions", version, least=0, most=ID_MAX)
        kept[check_text("versions", name, most=ID_MAX)] = version
    return kept


def _checked(name: str, value: object) -> Value:
    if not isinstance(value, tuple | list) or len(value) != _VALUE_PARTS:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a kind and bytes"])
    return check_text("kind", value[0], least=0, most=100), check_bytes(name, value[1])


_WRITE: Final = maker(ThreadWrite)


def _writes(found: Found, row: ThreadRow) -> tuple[ThreadWrite, ...]:
    return tuple(
        _WRITE(write.task_id, write.position, write.task_path, write.channel, write.kind, write_value(write.content))
        for write in found.writes.get(row.key, ())
    )


def _thread(thread_id: str) -> str:
    return check_text("thread_id", thread_id)


def _namespace(namespace: str) -> str:
    return _short(
        "namespace", check_text("namespace", namespace, least=0, most=_NAMESPACE_BYTES_MAX), _NAMESPACE_BYTES_MAX
    )


def _step_id(name: str, value: str) -> str:
    return _short(name, check_text(name, value, most=_STEP_ID_BYTES_MAX), _STEP_ID_BYTES_MAX)


def _short(name: str, text: str, most: int) -> str:
    if len(text.encode()) > most:
        raise InvalidInput("the argument cannot be used", [f"{name}: must have at most {most} bytes as UTF-8"])
    return text


def _key(thread_id: str, namespace: str, checkpoint_id: str) -> ThreadKey:
    return _thread(thread_id), _namespace(namespace), _step_id("checkpoint_id", checkpoint_id)
