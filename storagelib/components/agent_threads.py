"""Checkpoints of agents that step through a graph: how their values are kept small, and what is read back.

A checkpoint is a document: a head, and named values with a version each. Small values stand in the document; each large
one is a part, written once when it changes and named by every later checkpoint that still has it. Parts and documents
are zstd frames, most of them compressed against an earlier whole one (their base), so that a value that grows by a little
costs a little. No part is more than one step away from a whole one: reading a value takes at most two parts.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from storagelib import compression
from storagelib.documents import Json
from storagelib.errors import Corrupted

__all__ = [
    "Base",
    "Entry",
    "Found",
    "Head",
    "Held",
    "NewThreadCheckpoint",
    "Outline",
    "Part",
    "ThreadCheckpoint",
    "ThreadKey",
    "ThreadQuery",
    "ThreadRow",
    "ThreadStep",
    "ThreadWrite",
    "Value",
    "Version",
    "expand",
    "head_of",
    "in_order",
    "matches",
    "new_checkpoint",
    "opened",
    "packed_write",
    "part_of",
    "plain_of",
    "row_of",
    "squeeze",
    "write_value",
]

Value = tuple[str, bytes]
"""How a value was serialised, and its bytes."""
Version = str | int | float
ThreadKey = tuple[str, str, str]
"""Thread, namespace and checkpoint."""

_INLINE_MAX: Final = 256
_BASE_LEAST: Final = 64
# A window that both sides hold: beyond it a base does not pay.
_WINDOW_LOG_MAX: Final = 27
_PLAIN_MAX: Final = 1 << 31
_PLAIN_MARK: Final = b"\0"
_PACKED_MARK: Final = b"\1"


@dataclass(frozen=True, slots=True)
class Part:
    """One stored part."""

    part_id: UUID
    base_id: UUID | None
    content: bytes


@dataclass(frozen=True, slots=True)
class ThreadWrite:
    """What a task wrote to a channel after a checkpoint."""

    task_id: str
    """The task."""
    position: int
    """Place among the task's writes; special writes have places below 0."""
    task_path: str
    """Where the task stands in its step."""
    channel: str
    """What was written to."""
    kind: str
    """How the value was serialised."""
    content: bytes
    """The value."""


@dataclass(frozen=True, slots=True)
class NewThreadCheckpoint:
    """One checkpoint to be kept, checked: it counts only if the parent still names every part of ``needed``."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    run_id: str | None
    metadata: str
    document: bytes
    document_base: UUID | None
    parts: tuple[UUID, ...]
    needed: tuple[UUID, ...]
    added: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class ThreadRow:
    """A checkpoint as it is stored."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    metadata: str
    document: bytes
    document_base: UUID | None
    parts: tuple[UUID, ...]

    @property
    def key(self) -> ThreadKey:
        """Thread, namespace and checkpoint."""
        return self.thread_id, self.namespace, self.checkpoint_id


@dataclass(frozen=True, slots=True)
class Found:
    """Stored checkpoints with the parts that their reader lacks, and their writes in the order of their tasks."""

    rows: list[ThreadRow] = field(default_factory=list)
    parts: dict[UUID, Part] = field(default_factory=dict)
    writes: dict[ThreadKey, list[ThreadWrite]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ThreadQuery:
    """Which checkpoints are read: newest first, equal ids by thread and namespace. None asks for all."""

    thread_id: str | None = None
    namespace: str | None = None
    checkpoint_id: str | None = None
    below: str | None = None
    """Only checkpoints with smaller ids."""
    after: ThreadKey | None = None
    """Where the last page ended."""
    equal: tuple[tuple[str, str], ...] = ()
    """Members that the metadata must have, with their values as JSON text; a missing one counts as null."""
    limit: int = 1
    known: tuple[UUID, ...] = ()
    """Parts that the reader has."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A checkpoint without its content."""

    namespace: str
    checkpoint_id: str


@dataclass(frozen=True, slots=True)
class ThreadCheckpoint:
    """A checkpoint as it was read."""

    thread_id: str
    """The thread."""
    namespace: str
    """The graph within the thread; empty for the outermost."""
    checkpoint_id: str
    """Id of the checkpoint; later ones are greater."""
    parent_id: str | None
    """The checkpoint that it follows."""
    metadata: Mapping[str, Json]
    """What listings are filtered by."""
    head: Value
    """Whatever the writer keeps beside the values."""
    values: Mapping[str, Value]
    """The values by name."""
    writes: tuple[ThreadWrite, ...]
    """What tasks wrote after it, in the order of their paths, ids and positions."""


@dataclass(frozen=True, slots=True)
class ThreadStep:
    """A checkpoint on the way back along parents: the names of its values, not the values."""

    checkpoint_id: str
    """Id of the checkpoint."""
    parent_id: str | None
    """The checkpoint that it follows."""
    names: frozenset[str]
    """The names of its values."""
    writes: tuple[ThreadWrite, ...]
    """What tasks wrote after it."""


@dataclass(frozen=True, slots=True)
class Base:
    """A whole part that later ones are compressed against, and what that has cost so far."""

    part_id: UUID
    packed: int
    """Bytes of the base as it is stored."""
    smallest: int
    """Bytes of the smallest part that was compressed against it."""
    excess: int
    """Bytes by which all others were larger than that."""

    def with_part(self, size: int) -> Base | None:
        """Count a part of that size; None when a new base would have cost less than what the distance to this one does."""
        smallest = min(self.smallest, size) if self.smallest else size
        excess = self.excess + size - smallest
        if size > self.packed or excess > self.packed:
            return None
        return Base(self.part_id, self.packed, smallest, excess)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a value of a checkpoint is."""

    version: Version
    kind: str
    inline: bytes | None
    part_id: UUID | None = None
    base: Base | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """What a writer remembers of a checkpoint: where its values are, and the base of its document."""

    entries: Mapping[str, Entry]
    document: Base | None
    parts: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A part that is at hand: its plain bytes, its stored size and what it was compressed against."""

    plain: bytes
    size: int
    base_id: UUID | None


def squeeze(data: bytes, base: bytes | None = None) -> bytes:
    """Return one zstd frame with a checksum, compressed against a base when there is one.

    >>> old = bytes(range(256)) * 4
    >>> expand(squeeze(old + b"more", old), old) == old + b"more"
    True
    """
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - loaded by the first checkpoint
    else:
        from backports import zstd  # noqa: PLC0415 - loaded by the first checkpoint

    names = zstd.CompressionParameter
    options: dict[int, int] = {names.compression_level: compression.LEVEL, names.checksum_flag: 1}
    if base is None:
        return zstd.compress(data, options=options)
    window = (len(base) + len(data)).bit_length()
    options[names.window_log] = max(10, min(window, _WINDOW_LOG_MAX))
    return zstd.compress(data, options=options, zstd_dict=zstd.ZstdDict(base, is_raw=True).as_prefix)


def expand(frame: bytes, base: bytes | None = None) -> bytes:
    """Return what a frame holds; raises ``Corrupted`` when it is damaged or was compressed against another base."""
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - loaded by the first checkpoint
    else:
        from backports import zstd  # noqa: PLC0415 - loaded by the first checkpoint

    unpacking = zstd.ZstdDecompressor(None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix)
    try:
        plain = unpacking.decompress(frame, max_length=_PLAIN_MAX)
    except zstd.ZstdError:
        raise Corrupted("a checkpoint is damaged: a part cannot be unpacked") from None
    if not unpacking.eof:
        raise Corrupted("a checkpoint is damaged: the end of a part is missing")
    return plain


def packed_write(content: bytes) -> bytes:
    """Return the value of a write as it is stored: compressed where that is smaller, after a byte that tells."""
    packed = compression.compress(content)
    return _PLAIN_MARK + content if packed is None else _PACKED_MARK + packed


def write_value(stored: bytes) -> bytes:
    """Return the value of a stored write."""
    if stored[:1] == _PACKED_MARK:
        return compression.decompress(stored[1:], _PLAIN_MAX)
    if stored[:1] != _PLAIN_MARK:
        raise Corrupted("a write is damaged: its first byte says nothing")
    return stored[1:]


def matches(metadata: Mapping[str, Json], equal: Sequence[tuple[str, Json]]) -> bool:
    """Tell whether metadata has all these members; numbers compare as numbers, a missing one is null.

    >>> matches({"step": 1, "done": True}, [("step", 1.0)]), matches({"done": True}, [("done", 1)])
    (True, False)
    """
    return all(_equal(metadata.get(name), value) for name, value in equal)


def new_checkpoint(  # noqa: PLR0917 - what one checkpoint is made of
    key: ThreadKey,
    parent_id: str | None,
    run_id: str | None,
    metadata: str,
    head: Value,
    entries: Mapping[str, Entry | Value],
    versions: Mapping[str, Version],
    parent: Head | None,
    held: Callable[[UUID], bytes | None],
) -> tuple[NewThreadCheckpoint, Head, dict[UUID, Held]]:
    """Lay out a checkpoint: what is stored, what to remember of it, and the parts that it adds.

    ``entries`` has an ``Entry`` of the parent for what is unchanged and a value for what is new; ``held`` gives plain bytes
    of parts that are at hand.
    """
    made: dict[str, Entry] = {}
    added: dict[UUID, tuple[Part, bytes]] = {}
    for name, entry in entries.items():
        if isinstance(entry, Entry):
            made[name] = entry
            continue
        kind, data = entry
        if len(data) <= _INLINE_MAX:
            made[name] = Entry(versions[name], kind, data)
            continue
        before = parent.entries.get(name) if parent is not None else None
        part, base = _part(key, name, data, None if before is None else before.base, held)
        added[part.part_id] = (part, data)
        made[name] = Entry(versions[name], kind, None, part.part_id, base)
    parts = list(
        dict.fromkeys(
            [entry.part_id for entry in made.values() if entry.part_id is not None]
            + [entry.base.part_id for entry in made.values() if entry.base is not None]
        )
    )
    plain = _document(head, made, {part_id: index for index, part_id in enumerate(parts)})
    document, document_base = b"", parent.document if parent is not None else None
    base_bytes = None if document_base is None else held(document_base.part_id)
    counted = None
    if document_base is not None and base_bytes is not None:
        document = squeeze(plain, base_bytes)
        counted = document_base.with_part(len(document))
    if counted is None and parent is not None and len(plain) >= _BASE_LEAST:
        # From the second checkpoint on there is a base; a thread of one does without.
        part, counted = _whole(key, "", plain)
        added[part.part_id] = (part, plain)
        document = b""
    elif counted is None:
        document = squeeze(plain)
    if counted is not None and counted.part_id not in parts:
        parts.append(counted.part_id)
    stored = NewThreadCheckpoint(
        *key,
        parent_id=parent_id,
        run_id=run_id,
        metadata=metadata,
        document=document,
        document_base=None if counted is None else counted.part_id,
        parts=tuple(parts),
        needed=tuple(part_id for part_id in parts if part_id not in added),
        added=tuple(part for part, _ in added.values()),
    )
    fresh = {part_id: Held(data, len(part.content), part.base_id) for part_id, (part, data) in added.items()}
    return stored, Head(made, counted, stored.parts), fresh


def plain_of(part_id: UUID, parts: Mapping[UUID, Part], held: dict[UUID, Held]) -> bytes:
    """Return the plain bytes of a part, and put it and its base into ``held``; raises ``Corrupted``."""
    found = held.get(part_id)
    if found is not None:
        return found.plain
    part = parts.get(part_id)
    if part is None:
        raise Corrupted("a checkpoint is damaged: a part is missing")
    base = None if part.base_id is None else plain_of(part.base_id, parts, held)
    plain = expand(part.content, base)
    held[part_id] = Held(plain, len(part.content), part.base_id)
    return plain


def opened(row: ThreadRow, parts: Mapping[UUID, Part], held: dict[UUID, Held]) -> tuple[Value, dict[str, Entry]]:
    """Return a stored checkpoint's head and where its values are; raises ``Corrupted``."""
    base = None if row.document_base is None else plain_of(row.document_base, parts, held)
    plain = base if base is not None and not row.document else expand(row.document, base)
    try:
        head, _, rest = plain.partition(b"\0")
        kind, length, listed = json.loads(head.decode())
        entries, start = {}, length
        for name, version, entry_kind, size in listed:
            if size < 0:
                entries[name] = Entry(version, entry_kind, None, row.parts[-1 - size])
            else:
                entries[name] = Entry(version, entry_kind, rest[start : start + size])
                start += size
    except (ValueError, TypeError, IndexError):
        raise Corrupted("a checkpoint is damaged: its document cannot be read") from None
    return (kind, rest[:length]), entries


def head_of(row: ThreadRow, entries: Mapping[str, Entry], held: Mapping[UUID, Held]) -> Head:
    """Return what to remember of a checkpoint whose parts were read."""

    def base(base_id: UUID, size: int) -> Base:
        # A base that is not at hand has no size: whatever comes next is written whole.
        return Base(base_id, held[base_id].size if base_id in held else 0, size, 0)

    made = {}
    for name, entry in entries.items():
        if entry.part_id is None:
            made[name] = entry
            continue
        part = held[entry.part_id]
        root = base(entry.part_id, 0) if part.base_id is None else base(part.base_id, part.size)
        made[name] = Entry(entry.version, entry.kind, None, entry.part_id, root)
    document = None if row.document_base is None else base(row.document_base, len(row.document))
    return Head(made, document, row.parts)


def _part(
    key: ThreadKey, name: str, data: bytes, base: Base | None, held: Callable[[UUID], bytes | None]
) -> tuple[Part, Base]:
    base_bytes = None if base is None else held(base.part_id)
    if base is not None and base_bytes is not None and len(base_bytes) + len(data) < 1 << _WINDOW_LOG_MAX:
        content = squeeze(data, base_bytes)
        counted = base.with_part(len(content))
        if counted is not None:
            return Part(_part_id(key, name, data, base.part_id), base.part_id, content), counted
    return _whole(key, name, data)


def _whole(key: ThreadKey, name: str, data: bytes) -> tuple[Part, Base]:
    part = Part(_part_id(key, name, data), None, squeeze(data))
    return part, Base(part.part_id, len(part.content), 0, 0)


def _part_id(key: ThreadKey, name: str, data: bytes, base_id: UUID | None = None) -> UUID:
    """Name a part after its checkpoint, content and base: written again it is the same part, another checkpoint's never.

    Whoever puts the checkpoint again may know another base, or none: what is stored is not what that one would read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for text in (key[1], key[2], name, "" if base_id is None else str(base_id)):
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    digest.update(data)
    return UUID(bytes=digest.digest())


def _document(head: Value, entries: Mapping[str, Entry], places: Mapping[UUID, int]) -> bytes:
    listed = []
    contents = [head[1]]
    for name, entry in entries.items():
        if entry.inline is None:
            assert entry.part_id is not None  # noqa: S101 - an entry is inline or a part
            listed.append([name, entry.version, entry.kind, -1 - places[entry.part_id]])
        else:
            listed.append([name, entry.version, entry.kind, len(entry.inline)])
            contents.append(entry.inline)
    outline = json.dumps([head[0], len(head[1]), listed], ensure_ascii=False, separators=(",", ":"))
    return outline.encode() + b"\0" + b"".join(contents)


def _equal(one: Json, other: Json) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def in_order(writes: Sequence[ThreadWrite]) -> list[ThreadWrite]:
    """Return writes by path, task and position: the order in which a step applies them."""
    return sorted(writes, key=lambda write: (write.task_path, write.task_id, write.position))


def row_of(row: Sequence[Any]) -> ThreadRow:
    """Make a stored checkpoint of its columns, in the order of the fields."""
    thread_id, namespace, checkpoint_id, parent_id, metadata, document, base, parts = row
    named = tuple(UUID(str(part)) for part in parts)
    return ThreadRow(thread_id, namespace, checkpoint_id, parent_id, metadata, document, _uuid(base), named)


def part_of(row: Sequence[Any]) -> Part:
    """Make a stored part of its columns, in the order of the fields."""
    part_id, base_id, content = row
    return Part(UUID(str(part_id)), _uuid(base_id), content)


def _uuid(value: UUID | str | None) -> UUID | None:
    return None if value is None else UUID(str(value))
