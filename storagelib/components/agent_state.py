"""Agents' states, their versions and checkpoints, and the arithmetic of what lies between two versions.

A delta says how one JSON value becomes another, as JSON of its own:

- ``null``: nothing changes.
- ``[0, value]``: the value is replaced.
- ``[1, {key: delta}, {key: value}, [key]]``: members change, come and go.
- ``[2, start, count, [item]]``: ``count`` items from ``start`` are replaced by others.
- ``[3, {index: delta}]``: items change where they are.
- ``[4, start, count, text]``: ``count`` characters from ``start`` are replaced by others.
"""

from __future__ import annotations

import hashlib
import json
import marshal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from storagelib import compression, documents
from storagelib.documents import Json
from storagelib.errors import Corrupted
from storagelib.limits import DOCUMENT_BYTES_MAX, INTEGER_MAX
from storagelib.records import maker

__all__ = [
    "SNAPSHOT_EVERY",
    "AgentCheckpoint",
    "AgentRecord",
    "AgentVersion",
    "NewCheckpoint",
    "NewState",
    "Past",
    "SaveResult",
    "Step",
    "Transitions",
    "apply",
    "checksum_of",
    "delta_of",
    "kept_past",
    "make_version",
    "pack",
    "past_of",
    "rebuilt",
    "record_of",
    "same",
    "snapshot_from",
    "sorted_text",
    "transition_allowed",
    "unpack",
    "verified",
]

SNAPSHOT_EVERY: Final = 32
"""Every version whose number is a multiple of this is kept in full, so that no version is more than that far from one."""

_SORTED: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
# JSON text never begins with this, so that compressed and plain content cannot be confused.
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# The last version of the form that depends on nothing but the value.
_MARSHAL_WITHOUT_REFERENCES: Final = 2
# A delta may be longer than the document by what its own marks take.
_CONTENT_MAX: Final = 2 * DOCUMENT_BYTES_MAX

Delta = Any
Transitions = Mapping[str, Sequence[str]]
"""For each phase the phases that may follow it; ``""`` stands for an agent that has no phase yet."""


@dataclass(frozen=True, slots=True)
class AgentVersion:
    """What is known of a version beside its state: a line of a history or of a listing of agents."""

    agent_id: str
    """Id of the agent."""
    agent_type: str
    """Kind of agent."""
    version: int
    """Counts the saves, from 1."""
    schema_version: int
    """Version of the state's own schema."""
    session_id: str | None
    """The session that the agent worked in."""
    phase: str | None
    """Where the agent stood in its type's transitions."""
    checksum: str
    """SHA-256 of the state as JSON with sorted keys, in hex."""
    created_at: datetime
    """When the agent was first saved."""
    updated_at: datetime
    """When this version was saved."""


@dataclass(frozen=True, slots=True)
class AgentRecord(AgentVersion):
    """One version of an agent's state as it was read, with the state."""

    state: Mapping[str, Json]
    """The state."""


@dataclass(frozen=True, slots=True)
class AgentCheckpoint:
    """A version that has a label and is kept whatever is pruned."""

    agent_id: str
    """Id of the agent."""
    label: str
    """What the caller calls it."""
    version: int
    """The version it keeps."""
    metadata: Mapping[str, Json]
    """What the caller keeps beside it."""
    created_at: datetime
    """When it was made."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the writer knows of the version that a save replaces: how to come back to it.

    It counts only if the stored checksum is still ``checksum``; a backend that finds another one keeps that version in full.
    """

    checksum: str
    """Of the version that is replaced."""
    content: bytes
    """A packed delta from the new state back to the old one, or the packed old state."""
    is_delta: bool
    """Which of the two it is."""


@dataclass(frozen=True, slots=True)
class NewState:
    """One save, checked: ``text`` is JSON with sorted keys."""

    agent_id: str
    agent_type: str
    text: str
    checksum: str
    schema_version: int = 1
    session_id: str | None = None
    phase: str | None = None
    """None keeps the phase."""
    expected_version: int | None = None
    """0 when there must be none yet."""
    past: Past | None = None
    restores: bool = False
    """Goes back to an older version: the phase is taken as it is, without asking what is declared."""


@dataclass(frozen=True, slots=True)
class SaveResult:
    """What a save did, or why it did nothing."""

    version: int | None
    """The new version; None when nothing was saved."""
    found_version: int = 0
    """The version that was there; 0 for none."""
    found_phase: str | None = None
    """The phase that was there."""
    allowed: bool = True
    """Whether the transition is declared."""


@dataclass(frozen=True, slots=True)
class Step:
    """One kept version on the way back from a full one to the version asked for."""

    version: AgentVersion
    content: bytes
    """Packed: the state, or a delta from the next version back to this one."""
    is_delta: bool


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A checkpoint to be kept, checked; ``content`` is the packed state."""

    agent_id: str
    label: str
    version: AgentVersion
    content: bytes
    metadata: str


def sorted_text(value: Json) -> str:
    """Return the JSON text that a checksum is taken of: no spaces, members in the order of their keys.

    >>> sorted_text({"b": 1, "a": 1.0})
    '{"a":1.0,"b":1}'
    """
    return _SORTED.encode(value)


def checksum_of(text: str) -> str:
    """Return the SHA-256 of a state's sorted text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def verified(text: str | bytes, checksum: str) -> tuple[Json, str]:
    """Return the value of stored JSON text and its sorted text; raises ``Corrupted`` when it is not what was written."""
    try:
        value = documents.decode(text)
    except ValueError:
        raise Corrupted("the state is damaged: it is no JSON") from None
    return value, _verify(value, checksum)


def same(one: Json, other: Json) -> bool:
    """Tell whether two JSON values are the same, types included.

    >>> same([1], [1.0]), same({"a": True}, {"a": 1}), same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    (False, False, True)
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict | list):
        # The comparison is a quick no; only a form that has types tells 1 from 1.0 and from true. The first one is fast and
        # differs where only the order of members does; the second one does not.
        return one == other and (_typed(one) == _typed(other) or sorted_text(one) == sorted_text(other))
    return bool(one == other)


def delta_of(old: Json, new: Json) -> Delta:
    """Return what makes ``new`` of ``old``; nothing shorter is promised, ``apply`` gives exactly ``new``.

    >>> delta_of({"log": ["a"], "n": 1}, {"log": ["a", "b"], "n": 1})
    [1, {'log': [2, 1, 0, ['b']]}, {}, []]
    """
    if type(old) is not type(new):
        return [0, new]
    match old:
        case dict():
            return _object_delta(old, new)
        case list():
            return _list_delta(old, new)
        case str():
            return _text_delta(old, new)
        case _:
            return None if old == new else [0, new]


def apply(delta: Delta, value: Json) -> Json:
    """Return the value that a delta makes of another; raises ``Corrupted`` for a delta of something else."""
    try:
        return _applied(delta, value)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise Corrupted("a delta does not fit the version it was made from") from None


def pack(text: str) -> bytes:
    """Return text as bytes, compressed when that is shorter."""
    plain = text.encode()
    return compression.compress(plain) or plain


def unpack(content: bytes) -> bytes:
    """Return JSON text that ``pack`` made, or that a backend kept as it was; raises ``Corrupted``."""
    return compression.decompress(content, _CONTENT_MAX) if content.startswith(_ZSTD_MAGIC) else content


def rebuilt(steps: Sequence[Step]) -> Json:
    """Return the state of the first step, from steps whose last one is kept in full; raises ``Corrupted``."""
    if not steps or steps[-1].is_delta:
        raise Corrupted("a kept version is missing its full neighbour")
    *deltas, full = steps
    try:
        value = documents.decode(unpack(full.content))
        for step in reversed(deltas):
            value = apply(documents.decode(unpack(step.content)), value)
    except ValueError:
        raise Corrupted("a kept version is damaged: it is no JSON") from None
    _verify(value, steps[0].version.checksum)
    return value


def past_of(checksum: str, version: int, old: Json, old_text: str, new: Json) -> Past:
    """Return how to come back from ``new`` to the version it replaces: the shorter of delta and whole state."""
    packed = None
    if version % SNAPSHOT_EVERY:
        packed = pack(sorted_text(delta_of(new, old)))
        # A delta that is far below the text needs no comparison with the compressed text.
        if len(packed) * 16 <= len(old_text):
            return Past(checksum, packed, is_delta=True)
    whole = pack(old_text)
    if packed is not None and len(packed) < len(whole):
        return Past(checksum, packed, is_delta=True)
    return Past(checksum, whole, is_delta=False)


_RECORD: Final = maker(AgentRecord)
make_version: Final = maker(AgentVersion)
_VALUES: Final = attrgetter(*(field.name for field in fields(AgentVersion)))


def record_of(version: AgentVersion, state: Mapping[str, Json]) -> AgentRecord:
    """Return a version together with its state."""
    return _RECORD(*_VALUES(version), state)


def snapshot_from(version: int) -> int:
    """Return the first version from this one on that is kept in full whatever happens.

    >>> snapshot_from(1), snapshot_from(32), snapshot_from(33)
    (32, 32, 64)
    """
    return min(-(-version // SNAPSHOT_EVERY) * SNAPSHOT_EVERY, INTEGER_MAX)


def kept_past(past: Past | None, version: int, checksum: str, text: str) -> tuple[bytes, bool]:
    """Return how a replaced version is kept: as the writer says if it knew what it replaced, else its text as it is."""
    if past is None or past.checksum != checksum or (past.is_delta and version % SNAPSHOT_EVERY == 0):
        return text.encode(), False
    return past.content, past.is_delta


def transition_allowed(declared: Iterable[tuple[str, str]], old: str | None, new: str | None) -> bool:
    """Tell whether an agent may go from one phase to another; staying is no transition, no declaration allows all.

    >>> transition_allowed([("", "idle"), ("idle", "busy")], "idle", "busy")
    True
    """
    pairs = set(declared)
    return not pairs or (old or "") == (new or "") or (old or "", new or "") in pairs


def _verify(value: Json, checksum: str) -> str:
    text = sorted_text(value)
    if checksum_of(text) != checksum:
        raise Corrupted("the state is damaged: its checksum differs from what was written")
    return text


def _typed(value: Json) -> bytes:
    return marshal.dumps(value, _MARSHAL_WITHOUT_REFERENCES)


def _object_delta(old: dict[str, Json], new: dict[str, Json]) -> Delta:
    changed = {}
    for key, value in old.items():
        if key in new:
            delta = delta_of(value, new[key])
            if delta is not None:
                changed[key] = delta
    added = {key: value for key, value in new.items() if key not in old}
    removed = sorted(key for key in old if key not in new)
    return [1, changed, added, removed] if changed or added or removed else None


def _list_delta(old: list[Json], new: list[Json]) -> Delta:
    start = _common(old, new)
    if start == len(old) == len(new):
        return None
    end = _common(old[start:][::-1], new[start:][::-1])
    before, after = old[start : len(old) - end], new[start : len(new) - end]
    if len(before) != len(after):
        return [2, start, len(before), after]
    deltas = ((index, delta_of(*pair)) for index, pair in enumerate(zip(before, after, strict=True), start))
    return [3, {str(index): delta for index, delta in deltas if delta is not None}]


def _common(one: list[Json], other: list[Json]) -> int:
    """Count the items at the beginning that are the same."""
    most = min(len(one), len(other))
    # Most lists only grow: the whole shorter one is tried first.
    if same(one[:most], other[:most]):
        return most
    return next(index for index in range(most) if not same(one[index], other[index]))


def _text_delta(old: str, new: str) -> Delta:
    if old == new:
        return None
    most = min(len(old), len(new))
    start = _common_text(old, new, most)
    end = _common_text(old[::-1], new[::-1], most - start)
    if start + end == 0:
        return [0, new]
    return [4, start, len(old) - start - end, new[start : len(new) - end]]


def _common_text(one: str, other: str, most: int) -> int:
    """Count the characters at the beginning that are the same, by halving."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _applied(delta: Delta, value: Json) -> Json:
    match delta:
        case None:
            return value
        case [0, new]:
            return new
        case [1, dict(changed), dict(added), list(removed)]:
            gone = set(removed)
            kept = {key: item for key, item in value.items() if key not in gone}
            return {**kept, **{key: _applied(step, value[key]) for key, step in changed.items()}, **added}
        case [2, int(start), int(count), list(items)]:
            if not isinstance(value, list) or start + count > len(value):
                raise ValueError(start)
            return [*value[:start], *items, *value[start + count :]]
        case [3, dict(changed)]:
            steps = {int(index): step for index, step in changed.items()}
            if not isinstance(value, list) or any(index >= len(value) for index in steps):
                raise ValueError(changed)
            return [_applied(steps[index], item) if index in steps else item for index, item in enumerate(value)]
        case [4, int(start), int(count), str(text)]:
            if not isinstance(value, str) or start + count > len(value):
                raise ValueError(start)
            return value[:start] + text + value[start + count :]
        case _:
            raise ValueError(delta)
