"""Sessions and messages in memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from uuid import UUID

from storagelib.components.sessions import (
    COLUMNS,
    MESSAGE_COLUMNS,
    Expiry,
    Message,
    NewMessage,
    NewSession,
    Reading,
    Session,
    Status,
    Update,
    check_active,
    check_branch,
    check_version,
    merged,
    message,
    session,
    status_of,
)
from storagelib.errors import AlreadyExists
from storagelib.identifiers import uuid7
from storagelib.limits import INTEGER_MAX
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemorySessions"]

_EVERYTHING: Final = Reading(0, INTEGER_MAX, 0, newest_first=True)


class MemorySessions:
    """See ``SessionsBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._sessions = space.table("sessions")
        self._ancestry = space.table("session_ancestry")
        self._messages = space.table("session_messages")

    def create(self, new: NewSession) -> Session:
        """Make a session."""
        with self._space.transaction():
            return self._create(new)

    def get(self, session_id: str) -> Session | None:
        """Return a session."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            return None if row is None else self._session(row)

    def update(self, session_id: str, update: Update) -> Session:
        """Change an active session."""
        with self._space.transaction():
            row = self._active(session_id)
            check_version(row["data_version"], update.expected_version)
            now, changes = self._space.now(), dict[str, Any]()
            if update.data is not None:
                changes["session_data"] = merged(row["session_data"], update.data) if update.merge else update.data
            if update.metadata is not None:
                changes["metadata"] = update.metadata
            changes |= {"data_version": row["data_version"] + 1, "updated_at": now, "last_accessed_at": now}
            return self._write(row, changes)

    def touch(self, session_id: str, expiry: Expiry | None) -> Session:
        """Note an access to an active session, and a new expiry unless it is None."""
        with self._space.transaction():
            changes = {"last_accessed_at": self._space.now(), **self._expires(expiry)}
            return self._write(self._active(session_id), changes)

    def archive(self, session_id: str) -> Session:
        """Make an active session archived; one that is archived stays."""
        with self._space.transaction():
            return self._move(session_id, "active", "archived", {})

    def unarchive(self, session_id: str, expiry: Expiry | None) -> Session:
        """Make an archived session active; an active one stays as it is."""
        with self._space.transaction():
            return self._move(session_id, "archived", "active", self._expires(expiry))

    def delete(self, session_id: str) -> bool:
        """Remove a session and the messages that no other session sees; tell whether it was there."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            if row is None:
                return False
            self._release(row)
            return self._sessions.delete(session_id)

    def listing(self, status: Status | None, before: tuple[datetime, str], limit: int) -> list[Session]:
        """Return up to ``limit`` sessions, newest first, that come after this position."""
        with self._space.transaction():
            now = self._space.now()
            rows = [row for row in self._sessions.rows.values() if status in {None, status_of(row, now)}]
            rows = [row for row in rows if _created(row) < before]
            return [self._session(row) for row in sorted(rows, key=_created, reverse=True)[:limit]]

    def expire(self, limit: int) -> int:
        """Mark up to ``limit`` sessions that have expired; count them."""
        with self._space.transaction():
            now = self._space.now()
            due = [row for row in self._sessions.rows.values() if status_of(row, now) != row["status"]]
            for row in sorted(due, key=lambda row: (row["expires_at"], row["session_id"]))[:limit]:
                self._write(row, {"status": "expired"})
            return min(limit, len(due))

    def purge(self, older_than: float, limit: int) -> int:
        """Remove up to ``limit`` sessions that expired at least so many seconds ago; count them."""
        with self._space.transaction():
            now = self._space.now()
            end = now - timedelta(seconds=older_than)
            rows = [row for row in self._sessions.rows.values() if status_of(row, now) == "expired"]
            due = sorted((row for row in rows if row["expires_at"] <= end), key=_created)[:limit]
            for row in due:
                self.delete(row["session_id"])
            return len(due)

    def append(self, session_id: str, messages: list[NewMessage]) -> list[Message]:
        """Append messages whose keys differ to an active session; give those whose key is known as they are."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            known = {}
            if row is not None and any(item.key is not None for item in messages):
                wanted = {item.key for item in messages} - {None}
                found = (stored for stored in self._seen(row, _EVERYTHING) if stored["idempotency_key"] in wanted)
                known = {stored["idempotency_key"]: _message(stored) for stored in found}
            fresh = [item for item in messages if item.key is None or item.key not in known]
            if fresh or row is None:
                row = self._active(session_id)
                thread = row["thread_id"] or uuid7()
                written = iter([self._append(row, thread, number, item) for number, item in enumerate(fresh, 1)])
                changes = {
                    "thread_id": thread,
                    "last_sequence": row["last_sequence"] + len(fresh),
                    "message_count": row["message_count"] + len(fresh),
                    "last_accessed_at": self._space.now(),
                }
                self._write(row, changes)
            else:
                written = iter([])
            return [known[item.key] if item.key in known else next(written) for item in messages]

    def messages(self, session_id: str, reading: Reading) -> list[Message] | None:
        """Return messages in the order of reading."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            return None if row is None else [_message(m) for m in islice(self._seen(row, reading), reading.limit)]

    def window(self, session_id: str, most_tokens: int, limit: int) -> list[Message] | None:
        """Return the newest messages, oldest first, whose weights together are at most ``most_tokens``."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            if row is None:
                return None
            kept: list[Message] = []
            total = 0
            for stored in islice(self._seen(row, _EVERYTHING), limit):
                total += stored["weight"]
                if total > most_tokens:
                    break
                kept.append(_message(stored))
            return kept[::-1]

    def branch(self, session_id: str, at: int | None, new: NewSession) -> Session:
        """Make a session that sees another's messages up to a number."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            last = check_branch(session_id, None if row is None else row["last_sequence"], at)
            assert row is not None  # noqa: S101 - what is not there was refused
            newest = next(self._seen(row, Reading(0, last + 1, 1, newest_first=True)), None)
            made = self._create(
                NewSession(
                    new.session_id,
                    row["session_data"] if new.data is None else new.data,
                    row["metadata"] if new.metadata is None else new.metadata,
                    new.expiry,
                )
            )
            for thread, through in self._threads(row):
                self._see(made.session_id, thread, min(through, last))
            position = 0 if newest is None else newest["position"]
            changes = {"last_sequence": last, "message_count": position, "parent_id": session_id, "branched_at": last}
            return self._write(self._sessions.rows[made.session_id,], changes)

    def pop_last(self, session_id: str) -> Message | None:
        """Take the newest message out of an active session."""
        with self._space.transaction():
            row = self._active(session_id)
            newest = next(self._seen(row, _EVERYTHING), None)
            if newest is None:
                return None
            thread, sequence = newest["thread_id"], newest["sequence"]
            shared = self._kept(thread, session_id) >= sequence
            changes = {"message_count": row["message_count"] - 1, "last_accessed_at": self._space.now()}
            if thread != row["thread_id"]:
                self._see(session_id, thread, sequence - 1)
            elif shared:
                self._see(session_id, thread, sequence - 1)
                changes["thread_id"] = None
            if not shared:
                self._messages.delete(thread, sequence)
            self._write(row, changes)
            return _message(newest)

    def clear(self, session_id: str) -> int:
        """Take all messages out of an active session; count them."""
        with self._space.transaction():
            row = self._active(session_id)
            self._release(row)
            self._write(row, {"thread_id": None, "message_count": 0, "last_accessed_at": self._space.now()})
            return int(row["message_count"])

    def count(self, session_id: str, role: str | None) -> int | None:
        """Count the messages of a session, of one role or all."""
        with self._space.transaction():
            row = self._sessions.get(session_id)
            if row is None or role is None:
                return None if row is None else int(row["message_count"])
            return sum(1 for _ in self._seen(row, Reading(0, INTEGER_MAX, 0, role=role)))

    def _create(self, new: NewSession) -> Session:
        if self._sessions.get(new.session_id) is not None:
            raise AlreadyExists("the id is taken")
        now = self._space.now()
        row: dict[str, Any] = {
            **dict.fromkeys((*COLUMNS, "thread_id")),
            "session_id": new.session_id,
            "session_data": new.data or "{}",
            "metadata": new.metadata or "{}",
            "status": "active",
            "data_version": 1,
            "message_count": 0,
            "last_sequence": 0,
            "artifact_count": 0,
            "last_accessed_at": now,
            "created_at": now,
            "updated_at": now,
            **self._expires(new.expiry),
        }
        self._sessions.put((new.session_id,), row)
        return self._session(row)

    def _append(self, row: Row, thread: UUID, number: int, item: NewMessage) -> Message:
        stored = {
            "thread_id": thread,
            "sequence": row["last_sequence"] + number,
            "position": row["message_count"] + number,
            "role": item.role,
            "content": item.content,
            "tokens": item.tokens,
            "weight": item.weight,
            "idempotency_key": item.key,
            "metadata": item.metadata,
            "created_at": self._space.now(),
        }
        self._messages.put((thread, stored["sequence"]), stored)
        return _message(stored)

    def _threads(self, row: Row) -> list[tuple[UUID, int]]:
        """Return the threads that a session sees and how far, newest first."""
        own = [] if row["thread_id"] is None else [(row["thread_id"], INTEGER_MAX)]
        older = [
            (seen["thread_id"], seen["through"])
            for (session_id, _), seen in self._ancestry.rows.items()
            if session_id == row["session_id"]
        ]
        return own + sorted(older, key=lambda entry: entry[1], reverse=True)

    def _seen(self, row: Row, reading: Reading) -> Iterator[Row]:
        """Go through the messages that a session sees, without a limit."""
        threads = self._threads(row)
        bounds = [min(through, reading.before - 1, row["last_sequence"]) for _, through in threads]
        numbers = range(reading.after + 1, max(bounds, default=0) + 1)
        for sequence in reversed(numbers) if reading.newest_first else numbers:
            for (thread, _), bound in zip(threads, bounds, strict=True):
                stored = self._messages.get(thread, sequence) if sequence <= bound else None
                if stored is not None and reading.role in {None, stored["role"]}:
                    yield stored

    def _see(self, session_id: str, thread: UUID, through: int) -> None:
        row = {"session_id": session_id, "thread_id": thread, "through": max(through, 0)}
        self._ancestry.put((session_id, thread), row)

    def _kept(self, thread: UUID, besides: str) -> int:
        """Return up to which number other sessions see a thread."""
        if any(row["thread_id"] == thread and row["session_id"] != besides for row in self._sessions.rows.values()):
            return INTEGER_MAX
        seen = self._ancestry.rows.items()
        return max((row["through"] for (who, what), row in seen if what == thread and who != besides), default=0)

    def _release(self, row: Row) -> None:
        """Remove what only this session sees, and what it sees of others."""
        for thread, through in self._threads(row):
            kept = self._kept(thread, row["session_id"])
            for sequence in range(kept + 1, min(through, row["last_sequence"]) + 1):
                self._messages.delete(thread, sequence)
            self._ancestry.delete(row["session_id"], thread)

    def _active(self, session_id: str) -> Row:
        row = self._sessions.get(session_id)
        check_active(session_id, None if row is None else status_of(row, self._space.now()))
        assert row is not None  # noqa: S101 - what is not there was refused
        return row

    def _move(self, session_id: str, before: Status, after: Status, changes: dict[str, Any]) -> Session:
        row, now = self._sessions.get(session_id), self._space.now()
        status = None if row is None else status_of(row, now)
        if row is None or status not in {before, after}:
            check_active(session_id, status)
        assert row is not None  # noqa: S101 - what is not there was refused
        if status == after:
            return self._session(row)
        changes |= {"status": after, "data_version": row["data_version"] + 1}
        return self._write(row, {**changes, "updated_at": now, "last_accessed_at": now})

    def _expires(self, expiry: Expiry | None) -> dict[str, Any]:
        if expiry is None:
            return {}
        if expiry.ttl is None:
            return {"expires_at": expiry.at}
        return {"expires_at": self._space.now() + timedelta(seconds=expiry.ttl)}

    def _write(self, row: Row, changes: dict[str, Any]) -> Session:
        changed = {**row, **changes}
        self._sessions.put((row["session_id"],), changed)
        return self._session(changed)

    def _session(self, row: Row) -> Session:
        status = status_of(row, self._space.now())
        return session([status if column == "status" else row[column] for column in COLUMNS])


def _message(row: Row) -> Message:
    return message([row[column] for column in MESSAGE_COLUMNS])


def _created(row: Row) -> tuple[datetime, str]:
    return row["created_at"], row["session_id"]
