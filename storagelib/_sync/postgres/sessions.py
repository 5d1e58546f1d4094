# Made from storagelib/_async/postgres/sessions.py by scripts/sync; change that file instead.
"""Sessions and messages in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from storage_sql.queries import load
from storagelib import documents
from storagelib._sync.postgres.database import Database
from storagelib.components.sessions import (
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
    message,
    session,
)
from storagelib.errors import AlreadyExists, Conflict, NotFound
from storagelib.identifiers import uuid7

__all__ = ["PostgresSessions"]

_Q: Final = load("sessions")
# A writer that keeps losing to others who write the same thing at the same moment gives up after this many rounds.
_ROUNDS: Final = 8


class PostgresSessions:
    """See ``SessionsBackend``."""

    def __init__(self, database: Database) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def create(self, new: NewSession) -> Session:
        """Make a session."""
        values = {"data": new.data or "{}", "metadata": new.metadata or "{}", **_expires(new.expiry)}
        (row,) = self._database.fetch(_Q["create"], session=new.session_id, **values)
        return session(row)

    def get(self, session_id: str) -> Session | None:
        """Return a session."""
        rows = self._database.fetch(_Q["get"], session=session_id)
        return session(rows[0]) if rows else None

    def update(self, session_id: str, update: Update) -> Session:
        """Change an active session."""
        query = _Q["update"].variant(merge=update.merge)
        values = {"data": update.data, "metadata": update.metadata, "expected": update.expected_version}
        rows = self._database.fetch(query, session=session_id, **values)
        return _written(session_id, rows, update.expected_version)

    def touch(self, session_id: str, expiry: Expiry | None) -> Session:
        """Note an access to an active session, and a new expiry unless it is None."""
        values = {"renewed": expiry is not None, **_expires(expiry)}
        return _written(session_id, self._database.fetch(_Q["touch"], session=session_id, **values))

    def archive(self, session_id: str) -> Session:
        """Make an active session archived; one that is archived stays."""
        return self._move(session_id, "active", "archived", None)

    def unarchive(self, session_id: str, expiry: Expiry | None) -> Session:
        """Make an archived session active; an active one stays as it is."""
        return self._move(session_id, "archived", "active", expiry)

    def delete(self, session_id: str) -> bool:
        """Remove a session and the messages that no other session sees; tell whether it was there."""
        asked = {"sessions": [session_id]}
        for _ in range(_ROUNDS):
            *_, ((busy, gone),) = self._database.run([(_Q[name], asked) for name in ("lock", "lock_family", "remove")])
            if not busy:
                return bool(gone)
        raise _beaten()

    def listing(self, status: Status | None, before: tuple[datetime, str], limit: int) -> list[Session]:
        """Return up to ``limit`` sessions, newest first, that come after this position."""
        query = _Q["listing"].variant(expired=status == "expired", by_status=status is not None)
        rows = self._database.fetch(query, status=status, before=before[0], before_id=before[1], most=limit)
        return [session(row) for row in rows]

    def expire(self, limit: int) -> int:
        """Mark up to ``limit`` sessions that have expired; count them."""
        ((count,),) = self._database.fetch(_Q["expire"], most=limit)
        return int(count)

    def purge(self, older_than: float, limit: int) -> int:
        """Remove up to ``limit`` sessions that expired at least so many seconds ago; count them."""
        with self._database.transaction() as transaction:
            asked: dict[str, Any] = {"older_than": older_than, "most": limit}
            _, due = transaction.run([(_Q["expire"], {"most": limit}), (_Q["due"], asked)])
            if not due:
                return 0
            taken = {"sessions": [session_id for (session_id,) in due]}
            for _ in range(_ROUNDS):
                _, ((busy, gone),) = transaction.run([(_Q["lock_family"], taken), (_Q["remove"], taken)])
                if not busy:
                    return int(gone)
        raise _beaten()

    def append(self, session_id: str, messages: list[NewMessage]) -> list[Message]:
        """Append messages whose keys differ to an active session; give those whose key is known as they are."""
        query = _Q["append"].variant(keyed=any(item.key is not None for item in messages))
        values = {
            "thread": uuid7(),
            "roles": [item.role for item in messages],
            "contents": [item.content for item in messages],
            "tokens": [item.tokens for item in messages],
            "weights": [item.weight for item in messages],
            "keys": [item.key for item in messages],
            "metadata": [item.metadata for item in messages],
        }
        for _ in range(_ROUNDS):
            try:
                rows = self._database.fetch(query, session=session_id, **values)
            except AlreadyExists:
                continue
            known = {place: message(row) for _, place, *row in rows if place is not None}
            written = [(row[2], row[8]) for row in rows if row[1] is None and row[2] is not None]
            if len(known) + len(written) == len(messages):
                numbers = iter(written)
                places = enumerate(messages, 1)
                return [known[place] if place in known else _appended(item, numbers) for place, item in places]
            check_active(session_id, rows[0][0] if rows else None)
        raise _beaten()

    def messages(self, session_id: str, reading: Reading) -> list[Message] | None:
        """Return messages in the order of reading."""
        rows = self._database.fetch(
            _Q["messages"].variant(newest=reading.newest_first, by_role=reading.role is not None),
            session=session_id,
            after=reading.after,
            before=reading.before,
            role=reading.role,
            most=reading.limit,
        )
        return _messages(rows)

    def window(self, session_id: str, most_tokens: int, limit: int) -> list[Message] | None:
        """Return the newest messages, oldest first, whose weights together are at most ``most_tokens``."""
        return _messages(self._database.fetch(_Q["window"], session=session_id, most_tokens=most_tokens, most=limit))

    def branch(self, session_id: str, at: int | None, new: NewSession) -> Session:
        """Make a session that sees another's messages up to a number."""
        values = {"new_session": new.session_id, "data": new.data, "metadata": new.metadata, **_expires(new.expiry)}
        asked = {"session": session_id, "at": at, **values}
        _, rows = self._database.run([(_Q["hold"], {"session": session_id}), (_Q["branch"], asked)])
        if not rows or rows[0][1] is None:
            check_branch(session_id, rows[0][0] if rows else None, at)
            raise Conflict("the session was changed at this moment; try again")
        return session(rows[0][1:])

    def pop_last(self, session_id: str) -> Message | None:
        """Take the newest message out of an active session."""
        rows = self._alone(session_id, "pop_last")
        check_active(session_id, rows[0][0] if rows else None)
        return None if rows[0][1] is None else message(rows[0][1:])

    def clear(self, session_id: str) -> int:
        """Take all messages out of an active session; count them."""
        rows = self._alone(session_id, "clear")
        check_active(session_id, rows[0][0] if rows else None)
        return int(rows[0][1])

    def count(self, session_id: str, role: str | None) -> int | None:
        """Count the messages of a session, of one role or all."""
        rows = self._database.fetch(_Q["count"], session=session_id, role=role)
        return int(rows[0][0]) if rows else None

    def _alone(self, session_id: str, name: str) -> list[tuple[Any, ...]]:
        """Run a statement that takes messages away, after the locks it needs, in one round trip."""
        asked = {"sessions": [session_id]}
        taken = {"session": session_id}
        for _ in range(_ROUNDS):
            *_, rows = self._database.run([(_Q["lock"], asked), (_Q["lock_family"], asked), (_Q[name], taken)])
            if not (rows and rows[0][0] == "busy"):
                return rows
        raise _beaten()

    def _move(self, session_id: str, before: Status, after: Status, expiry: Expiry | None) -> Session:
        values = {"before": before, "after": after, "renewed": expiry is not None, **_expires(expiry)}
        return _written(session_id, self._database.fetch(_Q["move"], session=session_id, **values))


def _beaten() -> Conflict:
    return Conflict("other writers were faster each time")


def _expires(expiry: Expiry | None) -> dict[str, Any]:
    return {"ttl": None, "expires_at": None} if expiry is None else {"ttl": expiry.ttl, "expires_at": expiry.at}


def _written(session_id: str, rows: list[tuple[Any, ...]], expected_version: int | None = None) -> Session:
    """Return the session that was written, or raise why none was."""
    if not rows:
        raise NotFound(f"there is no session {session_id!r}")
    status, version, *values = rows[0]
    if values[0] is None:
        check_active(session_id, status)
        check_version(version, expected_version)
        raise Conflict("the session was changed at this moment; try again")
    return session(values)


def _messages(rows: list[tuple[Any, ...]]) -> list[Message] | None:
    return [message(row) for row in rows if row[0] is not None] if rows else None


def _appended(item: NewMessage, written: Iterator[tuple[int, datetime]]) -> Message:
    sequence, created_at = next(written)
    content, metadata = documents.decode(item.content), documents.decode(item.metadata)
    return Message(sequence, item.role, content, item.tokens, item.key, metadata, created_at)
