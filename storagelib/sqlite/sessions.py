"""Sessions and messages in SQLite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from sqlite3 import Connection
from typing import Any, Final

from storagelib import documents
from storagelib.clocks import from_microseconds, to_microseconds
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
from storagelib.identifiers import uuid7
from storagelib.limits import INTEGER_MAX
from storagelib.sqlite.engine import SqliteStore, reads, reads_together, writes

__all__ = ["SqliteSessions"]

_STORED: Final = (*COLUMNS, "thread_id")
_STORED_MESSAGE: Final = (*MESSAGE_COLUMNS, "thread_id", "position", "weight")
_SELECT = f"SELECT {', '.join(_STORED)} FROM sessions WHERE tenant_id = ?"
_ONE = f"{_SELECT} AND session_id = ?"
_INSERT = f"INSERT INTO sessions (tenant_id, {', '.join(_STORED)}) VALUES (?, {', '.join('?' for _ in _STORED)})"
_DELETE = "DELETE FROM sessions WHERE tenant_id = ? AND session_id = ?"
_NEWEST = "ORDER BY created_at DESC, session_id DESC LIMIT ?"
_LISTED: Final[Mapping[str | None, str]] = {
    None: f"{_SELECT} AND (created_at, session_id) < (?, ?) {_NEWEST}",
    "active": f"{_SELECT} AND (created_at, session_id) < (?, ?) AND status = 'active'"
    f" AND (expires_at IS NULL OR expires_at > ?) {_NEWEST}",
    "archived": f"{_SELECT} AND (created_at, session_id) < (?, ?) AND status = 'archived' {_NEWEST}",
    "expired": f"SELECT * FROM ({_SELECT} AND (created_at, session_id) < (?, ?) AND status = 'expired' UNION ALL"
    f" {_SELECT} AND (created_at, session_id) < (?, ?) AND status = 'active' AND expires_at <= ?) {_NEWEST}",
}
_EXPIRE = """
UPDATE sessions SET status = 'expired' WHERE tenant_id = :tenant AND session_id IN (
    SELECT session_id FROM sessions WHERE tenant_id = :tenant AND status = 'active' AND expires_at <= :now
     ORDER BY expires_at, session_id LIMIT :limit)"""
_DUE = f"""SELECT * FROM (
    {_SELECT} AND status = 'expired' AND expires_at <= ? UNION ALL {_SELECT} AND status = 'active' AND expires_at <= ?
) ORDER BY created_at, session_id LIMIT ?"""
_OLDER = "SELECT thread_id, through FROM session_ancestry WHERE tenant_id = ? AND session_id = ? ORDER BY through DESC"
_SEE = """
INSERT INTO session_ancestry (tenant_id, session_id, thread_id, through) VALUES (?, ?, ?, ?)
ON CONFLICT (tenant_id, session_id, thread_id) DO UPDATE SET through = excluded.through"""
_FORGET = "DELETE FROM session_ancestry WHERE tenant_id = ? AND session_id = ?"
_OWNED = "SELECT 1 FROM sessions WHERE tenant_id = ? AND thread_id = ? AND session_id <> ?"
_KEPT = "SELECT max(through) FROM session_ancestry WHERE tenant_id = ? AND thread_id = ? AND session_id <> ?"
_MESSAGES = (
    f"SELECT {', '.join(_STORED_MESSAGE)} FROM session_messages"
    " WHERE tenant_id = ? AND thread_id = ? AND sequence > ? AND sequence <= ?"
)
_KNOWN = f"SELECT {', '.join(_STORED_MESSAGE)} FROM session_messages WHERE tenant_id = ? AND thread_id = ?"
_COUNT = """
SELECT count(*) FROM session_messages
 WHERE tenant_id = ? AND thread_id = ? AND role = ? AND sequence <= ?"""
_APPEND = f"""
INSERT INTO session_messages (tenant_id, {", ".join(_STORED_MESSAGE)})
VALUES (?, {", ".join("?" for _ in _STORED_MESSAGE)})"""
_GROW = """
UPDATE sessions SET thread_id = coalesce(thread_id, ?), last_sequence = last_sequence + ?,
    message_count = message_count + ?, last_accessed_at = ?
 WHERE tenant_id = ? AND session_id = ? AND status = 'active' AND (expires_at IS NULL OR expires_at > ?)
RETURNING thread_id, last_sequence, message_count"""
_REMOVE = "DELETE FROM session_messages WHERE tenant_id = ? AND thread_id = ? AND sequence > ?"
_REMOVE_ONE = "DELETE FROM session_messages WHERE tenant_id = ? AND thread_id = ? AND sequence = ?"

Row = Mapping[str, Any]


class SqliteSessions(SqliteStore):
    """See ``SessionsBackend``."""

    @writes
    def create(self, database: Connection, new: NewSession) -> Session:
        """Make a session."""
        return self._create(database, new, {})

    @reads
    def get(self, database: Connection, session_id: str) -> Session | None:
        """Return a session."""
        row = database.execute(_ONE, (self.tenant_id, session_id)).fetchone()
        return None if row is None else self._read(row)

    @writes
    def update(self, database: Connection, session_id: str, update: Update) -> Session:
        """Change an active session."""
        row = self._active(database, session_id)
        check_version(row["data_version"], update.expected_version)
        now, changes = self.engine.now(), dict[str, Any]()
        if update.data is not None:
            changes["session_data"] = merged(row["session_data"], update.data) if update.merge else update.data
        if update.metadata is not None:
            changes["metadata"] = update.metadata
        changes |= {"data_version": row["data_version"] + 1, "updated_at": now, "last_accessed_at": now}
        return self._write(database, row, changes)

    @writes
    def touch(self, database: Connection, session_id: str, expiry: Expiry | None) -> Session:
        """Note an access to an active session, and a new expiry unless it is None."""
        changes = {"last_accessed_at": self.engine.now(), **self._expires(expiry)}
        return self._write(database, self._active(database, session_id), changes)

    @writes
    def archive(self, database: Connection, session_id: str) -> Session:
        """Make an active session archived; one that is archived stays."""
        return self._move(database, session_id, "active", "archived", {})

    @writes
    def unarchive(self, database: Connection, session_id: str, expiry: Expiry | None) -> Session:
        """Make an archived session active; an active one stays as it is."""
        return self._move(database, session_id, "archived", "active", self._expires(expiry))

    @writes
    def delete(self, database: Connection, session_id: str) -> bool:
        """Remove a session and the messages that no other session sees; tell whether it was there."""
        row = self._row(database, session_id)
        if row is None:
            return False
        self._delete(database, row)
        return True

    @reads
    def listing(
        self, database: Connection, status: Status | None, before: tuple[datetime, str], limit: int
    ) -> list[Session]:
        """Return up to ``limit`` sessions, newest first, that come after this position."""
        position = (self.tenant_id, to_microseconds(before[0]), before[1])
        now = [self.engine.now()] if status in {"active", "expired"} else []
        bounds = (*(position * 2 if status == "expired" else position), *now, limit)
        return [self._read(row) for row in database.execute(_LISTED[status], bounds)]

    @writes
    def expire(self, database: Connection, limit: int) -> int:
        """Mark up to ``limit`` sessions that have expired; count them."""
        bounds = {"tenant": self.tenant_id, "now": self.engine.now(), "limit": limit}
        return database.execute(_EXPIRE, bounds).rowcount

    @writes
    def purge(self, database: Connection, older_than: float, limit: int) -> int:
        """Remove up to ``limit`` sessions that expired at least so many seconds ago; count them."""
        end = self.engine.now() - round(older_than * 1_000_000)
        due = database.execute(_DUE, (self.tenant_id, end, self.tenant_id, end, limit)).fetchall()
        for row in due:
            self._delete(database, _named(row))
        return len(due)

    @writes
    def append(self, database: Connection, session_id: str, messages: list[NewMessage]) -> list[Message]:
        """Append messages whose keys differ to an active session; give those whose key is known as they are."""
        keys = [item.key for item in messages if item.key is not None]
        known: dict[str | None, Message] = {}
        if keys and (row := self._row(database, session_id)) is not None:
            known.update(self._known(database, row, keys))
        fresh = [item for item in messages if item.key is None or item.key not in known]
        written: Iterator[Message] = iter(())
        if fresh:
            now, added = self.engine.now(), len(fresh)
            asked = (str(uuid7()), added, added, now, self.tenant_id, session_id, now)
            grown = database.execute(_GROW, asked).fetchall()
            if not grown:
                found = self._row(database, session_id)
                check_active(session_id, None if found is None else status_of(found, now))
            ((thread, last, count),) = grown
            before = (last - added, count - added)
            stored = [_stored(before, thread, number, item, now) for number, item in enumerate(fresh, 1)]
            database.executemany(_APPEND, [(self.tenant_id, *values) for values in stored])
            written = iter([_message(values) for values in stored])
        return [known[item.key] if item.key in known else next(written) for item in messages]

    @reads_together
    def messages(self, database: Connection, session_id: str, reading: Reading) -> list[Message] | None:
        """Return messages in the order of reading."""
        row = self._row(database, session_id)
        if row is None:
            return None
        return [_message(stored) for stored in islice(self._seen(database, row, reading), reading.limit)]

    @reads_together
    def window(self, database: Connection, session_id: str, most_tokens: int, limit: int) -> list[Message] | None:
        """Return the newest messages, oldest first, whose weights together are at most ``most_tokens``."""
        row = self._row(database, session_id)
        if row is None:
            return None
        kept: list[Message] = []
        total = 0
        for stored in self._seen(database, row, Reading(0, INTEGER_MAX, limit, newest_first=True)):
            total += stored[_STORED_MESSAGE.index("weight")]
            if total > most_tokens or len(kept) == limit:
                break
            kept.append(_message(stored))
        return kept[::-1]

    @writes
    def branch(self, database: Connection, session_id: str, at: int | None, new: NewSession) -> Session:
        """Make a session that sees another's messages up to a number."""
        row = self._row(database, session_id)
        last = check_branch(session_id, None if row is None else row["last_sequence"], at)
        assert row is not None  # noqa: S101 - what is not there was refused
        newest = next(self._seen(database, row, Reading(0, last + 1, 1, newest_first=True)), None)
        taken = NewSession(
            new.session_id,
            row["session_data"] if new.data is None else new.data,
            row["metadata"] if new.metadata is None else new.metadata,
            new.expiry,
        )
        position = 0 if newest is None else newest[_STORED_MESSAGE.index("position")]
        changes = {"last_sequence": last, "message_count": position, "parent_id": session_id, "branched_at": last}
        made = self._create(database, taken, changes)
        for thread, through in self._threads(database, row):
            database.execute(_SEE, (self.tenant_id, new.session_id, thread, min(through, last)))
        return made

    @writes
    def pop_last(self, database: Connection, session_id: str) -> Message | None:
        """Take the newest message out of an active session."""
        row = self._active(database, session_id)
        newest = next(self._seen(database, row, Reading(0, INTEGER_MAX, 1, newest_first=True)), None)
        if newest is None:
            return None
        sequence, thread = newest[0], newest[_STORED_MESSAGE.index("thread_id")]
        shared = self._kept(database, thread, session_id) >= sequence
        changes = {"message_count": row["message_count"] - 1, "last_accessed_at": self.engine.now()}
        if shared or thread != row["thread_id"]:
            database.execute(_SEE, (self.tenant_id, session_id, thread, sequence - 1))
        if shared and thread == row["thread_id"]:
            changes["thread_id"] = None
        if not shared:
            database.execute(_REMOVE_ONE, (self.tenant_id, thread, sequence))
        self._change(database, session_id, changes)
        return _message(newest)

    @writes
    def clear(self, database: Connection, session_id: str) -> int:
        """Take all messages out of an active session; count them."""
        row = self._active(database, session_id)
        self._release(database, row)
        changes = {"thread_id": None, "message_count": 0, "last_accessed_at": self.engine.now()}
        self._change(database, session_id, changes)
        return int(row["message_count"])

    @reads_together
    def count(self, database: Connection, session_id: str, role: str | None) -> int | None:
        """Count the messages of a session, of one role or all."""
        row = self._row(database, session_id)
        if row is None or role is None:
            return None if row is None else int(row["message_count"])
        threads = self._threads(database, row)
        counted = [database.execute(_COUNT, (self.tenant_id, thread, role, end)).fetchone() for thread, end in threads]
        return sum(int(number) for (number,) in counted)

    def _create(self, database: Connection, new: NewSession, more: Mapping[str, Any]) -> Session:
        now = self.engine.now()
        row: dict[str, Any] = {
            **dict.fromkeys(_STORED),
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
            **more,
        }
        database.execute(_INSERT, (self.tenant_id, *(row[column] for column in _STORED)))
        return self._session(row)

    def _delete(self, database: Connection, row: Row) -> None:
        self._release(database, row)
        database.execute(_DELETE, (self.tenant_id, row["session_id"]))

    def _threads(self, database: Connection, row: Row) -> list[tuple[str, int]]:
        """Return the threads that a session sees and how far, newest first."""
        own = [] if row["thread_id"] is None else [(row["thread_id"], INTEGER_MAX)]
        return own + database.execute(_OLDER, (self.tenant_id, row["session_id"])).fetchall()

    def _seen(self, database: Connection, row: Row, reading: Reading) -> Iterator[tuple[Any, ...]]:
        """Go through the messages that a session sees, thread by thread, until the reader has enough."""
        threads = self._threads(database, row)
        query = f"{_MESSAGES}{'' if reading.role is None else ' AND role = ?'} ORDER BY sequence"
        role = [] if reading.role is None else [reading.role]
        for thread, through in threads if reading.newest_first else reversed(threads):
            bounds = (self.tenant_id, thread, reading.after, min(through, reading.before - 1))
            yield from database.execute(f"{query} {'DESC' if reading.newest_first else 'ASC'}", (*bounds, *role))

    def _known(self, database: Connection, row: Row, keys: Sequence[str]) -> dict[str, Message]:
        if not keys:
            return {}
        query = f"{_KNOWN} AND idempotency_key IN (SELECT value FROM json_each(?)) AND sequence <= ?"
        asked = documents.encode(keys)
        found = (
            _message(stored)
            for thread, through in self._threads(database, row)
            for stored in database.execute(query, (self.tenant_id, thread, asked, through))
        )
        return {str(item.idempotency_key): item for item in found}

    def _kept(self, database: Connection, thread: str, besides: str) -> int:
        """Return up to which number other sessions see a thread."""
        asked = (self.tenant_id, thread, besides)
        if database.execute(_OWNED, asked).fetchone() is not None:
            return INTEGER_MAX
        return int(database.execute(_KEPT, asked).fetchone()[0] or 0)

    def _release(self, database: Connection, row: Row) -> None:
        """Remove what only this session sees, and what it sees of others."""
        for thread, _ in self._threads(database, row):
            database.execute(_REMOVE, (self.tenant_id, thread, self._kept(database, thread, row["session_id"])))
        database.execute(_FORGET, (self.tenant_id, row["session_id"]))

    def _row(self, database: Connection, session_id: str) -> dict[str, Any] | None:
        row = database.execute(_ONE, (self.tenant_id, session_id)).fetchone()
        return None if row is None else _named(row)

    def _active(self, database: Connection, session_id: str) -> dict[str, Any]:
        row = self._row(database, session_id)
        check_active(session_id, None if row is None else status_of(row, self.engine.now()))
        assert row is not None  # noqa: S101 - what is not there was refused
        return row

    def _move(
        self, database: Connection, session_id: str, before: Status, after: Status, changes: dict[str, Any]
    ) -> Session:
        row, now = self._row(database, session_id), self.engine.now()
        status = None if row is None else status_of(row, now)
        if row is None or status not in {before, after}:
            check_active(session_id, status)
        assert row is not None  # noqa: S101 - what is not there was refused
        if status == after:
            return self._session(row)
        changes |= {"status": after, "data_version": row["data_version"] + 1}
        return self._write(database, row, {**changes, "updated_at": now, "last_accessed_at": now})

    def _expires(self, expiry: Expiry | None) -> dict[str, Any]:
        if expiry is None:
            return {}
        if expiry.ttl is None:
            return {"expires_at": None if expiry.at is None else to_microseconds(expiry.at)}
        return {"expires_at": self.engine.now() + round(expiry.ttl * 1_000_000)}

    def _write(self, database: Connection, row: Row, changes: Mapping[str, Any]) -> Session:
        self._change(database, row["session_id"], changes)
        return self._session({**row, **changes})

    def _change(self, database: Connection, session_id: str, changes: Mapping[str, Any]) -> None:
        settings = ", ".join(f"{column} = ?" for column in changes)
        query = f"UPDATE sessions SET {settings} WHERE tenant_id = ? AND session_id = ?"
        database.execute(query, (*changes.values(), self.tenant_id, session_id))

    def _session(self, row: Row) -> Session:
        return self._read([row[column] for column in COLUMNS])

    def _read(self, row: Sequence[Any]) -> Session:
        """Make a record of a row that begins with ``COLUMNS``."""
        (one, data, metadata, status, version, count, last, artifacts, parent, branched, expires, *times) = row
        if expires is not None:
            if status == "active" and expires <= self.engine.now():
                status = "expired"
            expires = from_microseconds(expires)
        accessed, created, updated = map(from_microseconds, times[:3])
        same = (one, data, metadata, status, version, count, last, artifacts, parent, branched)
        return session((*same, expires, accessed, created, updated))


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(_STORED, row, strict=True))


def _stored(before: tuple[int, int], thread: str, number: int, item: NewMessage, now: int) -> tuple[Any, ...]:
    """Return a message's values in the order of ``_STORED_MESSAGE``; ``before`` are the last number and the count."""
    sequence, position = before[0] + number, before[1] + number
    same = (sequence, item.role, item.content, item.tokens, item.key, item.metadata, now)
    return (*same, thread, position, item.weight)


def _message(stored: Sequence[Any]) -> Message:
    *same, created_at = stored[: len(MESSAGE_COLUMNS)]
    return message([*same, from_microseconds(created_at)])
