"""The order of work: which key is next. No I/O, no waiting; time is an argument, so that tests own it.

- Three lanes: new and changed objects, then retries, then resync.
- A key waits at most once, in the most urgent lane anybody asked for.
- A key that is being worked on is never handed out a second time; a change meanwhile is remembered and follows.
- Within a lane the groups (StorageClusters) take turns, and none runs more keys at once than its cap.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from storage_operator.world import Key

Group = Hashable
SOON_SECONDS = 60.0


class Lane(enum.IntEnum):
    """Urgency; lower goes first."""

    CHANGED = 0
    RETRY = 1
    RESYNC = 2


@dataclass(slots=True)
class _Waiting:
    lane: Lane
    since: float


@dataclass(slots=True)
class _Running:
    group: Group
    since: float
    again: Lane | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One key handed to a worker."""

    key: Key
    lane: Lane
    waited: float


@dataclass(slots=True)
class _Groups:
    """The keys of one lane: a queue for each group, the groups in turn."""

    queues: OrderedDict[Group, deque[Key]] = field(default_factory=OrderedDict)


class Lanes:
    """The waiting, delayed and running keys."""

    def __init__(self, *, group_of: Callable[[Key], Group], cap_of: Callable[[Group], int]) -> None:
        """``group_of`` and ``cap_of`` are asked when a key is handed out, so that edits count at once."""
        self._group_of = group_of
        self._cap_of = cap_of
        self._lanes = {lane: _Groups() for lane in Lane}
        self._waiting: dict[Key, _Waiting] = {}
        self._running: dict[Key, _Running] = {}
        self._in_group: dict[Group, int] = {}
        self._delayed: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        """Count the keys that wait now."""
        return len(self._waiting)

    def depth(self, lane: Lane) -> int:
        """Count the keys that wait in one lane."""
        return sum(1 for entry in self._waiting.values() if entry.lane is lane)

    def depths(self) -> dict[Lane, int]:
        """Count the keys that wait, by lane, in one pass."""
        counts = dict.fromkeys(Lane, 0)
        for entry in self._waiting.values():
            counts[entry.lane] += 1
        return counts

    @property
    def delayed(self) -> int:
        """The number of keys that wait for a moment to come."""
        return len(self._delayed)

    @property
    def running(self) -> tuple[Key, ...]:
        """The keys that are being worked on."""
        return tuple(self._running)

    def is_running(self, key: Key) -> bool:
        """Whether a worker has the key."""
        return key in self._running

    def add(self, key: Key, lane: Lane, now: float) -> None:
        """Ask for a key to be worked on; asking twice is asking once."""
        if (running := self._running.get(key)) is not None:
            running.again = lane if running.again is None else min(lane, running.again)
            return
        if lane is not Lane.RESYNC:
            # The work that a delay was waiting for happens now.
            self._delayed.pop(key, None)
        elif self._delayed.get(key, float("inf")) <= now + SOON_SECONDS:
            return  # a resync must not hasten a key that backs off
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = _Waiting(lane, now)
        elif lane < waiting.lane:
            waiting.lane = lane  # the old place in the other lane is skipped when it comes up
        else:
            return
        self._lanes[lane].queues.setdefault(self._group_of(key), deque()).append(key)

    def add_later(self, key: Key, due: float) -> None:
        """Ask for a key to be retried at a moment; the earliest of several wins, and waiting already is enough."""
        if key in self._waiting or self._delayed.get(key, float("inf")) <= due:
            return
        self._delayed[key] = due
        heapq.heappush(self._heap, (due, next(self._order), key))

    def discard(self, key: Key) -> None:
        """Forget a key that waits or is delayed; a running one is not interrupted."""
        self._waiting.pop(key, None)
        self._delayed.pop(key, None)

    def next_due(self) -> float | None:
        """Return the moment at which the next delayed key is due."""
        while self._heap and self._delayed.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def release_due(self, now: float) -> int:
        """Move the delayed keys that are due into the retry lane."""
        released = 0
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._delayed[key]
            self.add(key, Lane.RETRY, now)
            released += 1
        return released

    def take(self, now: float) -> Job | None:
        """Hand out the most urgent key whose group has room, or None."""
        full: set[Group] = set()
        for lane in Lane:
            if (key := self._take_from(lane, full)) is not None:
                entry = self._waiting.pop(key)
                self._delayed.pop(key, None)  # how this reconcile ends says anew when to come back
                group = self._group_of(key)
                self._running[key] = _Running(group, now)
                self._in_group[group] = self._in_group.get(group, 0) + 1
                return Job(key, lane, max(0.0, now - entry.since))
        return None

    def _take_from(self, lane: Lane, full: set[Group]) -> Key | None:
        queues = self._lanes[lane].queues
        for group in list(queues):
            keys = queues[group]
            while keys and not self._current(keys[0], lane):
                keys.popleft()
            if not keys:
                del queues[group]
                continue
            if group in full:
                continue
            actual = self._group_of(keys[0])
            if self._in_group.get(actual, 0) >= self._cap_of(actual):
                full.add(group)
                continue
            queues.move_to_end(group)
            return keys.popleft()
        return None

    def _current(self, key: Key, lane: Lane) -> bool:
        entry = self._waiting.get(key)
        return entry is not None and entry.lane is lane

    def done(self, key: Key, now: float) -> bool:
        """Take a key back from its worker; True when a change meanwhile made it wait again."""
        entry = self._running.pop(key)
        self._in_group[entry.group] -= 1
        if not self._in_group[entry.group]:
            del self._in_group[entry.group]
        if entry.again is None:
            return False
        self.add(key, entry.again, now)
        return True

    def has_work(self) -> bool:
        """Whether a key is running or could be handed out now."""
        return bool(self._running or self._waiting)
