"""Sessions: what a conversation knows, and its messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar, cast

from storagelib._async.listings import each_item
from storagelib.clocks import FOREVER
from storagelib.components.sessions import (
    STATUSES,
    Draft,
    Expiry,
    Message,
    NewMessage,
    NewSession,
    Reading,
    Session,
    Status,
    Update,
    distinct,
    weight,
)
from storagelib.documents import Document, Json, check_document, check_metadata
from storagelib.errors import InvalidInput, NotFound
from storagelib.identifiers import uuid7
from storagelib.limits import (
    BATCH_MAX,
    INTEGER_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_flag,
    check_integer,
    check_one_of,
    check_page_size,
    check_text,
    check_time,
    check_ttl,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["AsyncSessions", "AsyncSessionsBackend"]

CLEANUP_DEFAULT: Final = 1_000
"""Sessions of one clean-up when the caller does not say: a short transaction."""
TOKENS_MAX: Final = 1 << 40
"""Tokens of one message; more than any model reads, and ten thousand of them still make a 64-bit sum."""
WINDOW_MESSAGES: Final = 1_000
"""Messages of a window at most when the caller does not say."""


class AsyncSessionsBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    A session that has expired is seen as ``expired`` from that moment on, whether or not it was cleaned up. Verbs that
    change one raise what ``check_active`` raises; those that read messages return None when there is no session.
    """

    async def create(self, new: NewSession) -> Session:
        """Make a session; raise ``AlreadyExists`` when the id is taken."""
        ...

    async def get(self, session_id: str) -> Session | None:
        """Return a session."""
        ...

    async def update(self, session_id: str, update: Update) -> Session:
        """Change an active session; raise what ``check_version`` raises, too."""
        ...

    async def touch(self, session_id: str, expiry: Expiry | None) -> Session:
        """Note an access to an active session, and a new expiry unless it is None."""
        ...

    async def archive(self, session_id: str) -> Session:
        """Make an active session archived; one that is archived stays; raise ``Conflict`` for an expired one."""
        ...

    async def unarchive(self, session_id: str, expiry: Expiry | None) -> Session:
        """Make an archived session active, with a new expiry unless it is None; an active one stays as it is."""
        ...

    async def delete(self, session_id: str) -> bool:
        """Remove a session and the messages that no other session sees; tell whether it was there."""
        ...

    async def listing(self, status: Status | None, before: tuple[datetime, str], limit: int) -> list[Session]:
        """Return up to ``limit`` sessions, newest first by creation and id, that come after this position."""
        ...

    async def expire(self, limit: int) -> int:
        """Mark up to ``limit`` sessions that have expired; count them."""
        ...

    async def purge(self, older_than: float, limit: int) -> int:
        """Remove up to ``limit`` sessions that expired at least so many seconds ago; count them."""
        ...

    async def append(self, session_id: str, messages: list[NewMessage]) -> list[Message]:
        """Append messages whose keys differ to an active session, all or none; give those whose key is known as they are."""
        ...

    async def messages(self, session_id: str, reading: Reading) -> list[Message] | None:
        """Return messages in the order of reading."""
        ...

    async def window(self, session_id: str, most_tokens: int, limit: int) -> list[Message] | None:
        """Return the newest messages, oldest first, whose weights together are at most ``most_tokens``."""
        ...

    async def branch(self, session_id: str, at: int | None, new: NewSession) -> Session:
        """Make a session that sees another's messages up to a number; raise what ``check_branch`` raises."""
        ...

    async def pop_last(self, session_id: str) -> Message | None:
        """Take the newest message out of an active session."""
        ...

    async def clear(self, session_id: str) -> int:
        """Take all messages out of an active session; count them."""
        ...

    async def count(self, session_id: str, role: str | None) -> int | None:
        """Count the messages of a session, of one role or all."""
        ...


class AsyncSessions:
    """The sessions of one tenant, and their messages.

    A session is ``active``, ``archived`` (kept, and not changed) or ``expired``. Expiring needs nobody: from that moment
    on it is never active again, its messages can still be read and branched from, and ``cleanup_expired`` and
    ``purge_expired`` are only for space. Changing one that is not active raises ``Conflict``, one that is not there
    ``NotFound``. Reading writes nothing: ``last_accessed_at`` is kept by what writes, and by ``touch``.
    Every verb raises ``InvalidInput`` before any I/O for arguments that no backend could keep.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         sessions = store.for_tenant("acme").sessions
    ...         chat = await sessions.create("chat-1", {"user": "ada"}, ttl=3600)
    ...         await sessions.append("chat-1", "user", "What is a monad?", tokens=6, idempotency_key="request-1")
    ...         await sessions.append("chat-1", "assistant", "A monoid", tokens=40)
    ...         print(chat.status, [message.content for message in await sessions.window("chat-1", 45)])
    >>> asyncio.run(example())
    active ['A monoid']
    """

    def __init__(self, backend: AsyncSessionsBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    async def create(
        self,
        session_id: str | None = None,
        data: Document | None = None,
        *,
        ttl: float | timedelta | None = None,
        expires_at: datetime | None = None,
        metadata: Document | None = None,
    ) -> Session:
        """Make a session and return it; without an id it gets one (a UUID of version 7).

        It expires after ``ttl`` (seconds), or at a moment, or never. Raises ``AlreadyExists`` when the id is taken.
        """
        session_id = str(uuid7()) if session_id is None else check_text("session_id", session_id)
        expiry = _expiry(ttl, expires_at)
        return await self._backend.create(NewSession(session_id, _data(data), check_metadata(metadata), expiry))

    async def get(self, session_id: str) -> Session | None:
        """Return a session, or None."""
        return await self._backend.get(check_text("session_id", session_id))

    async def update(
        self,
        session_id: str,
        data: Document | None = None,
        *,
        merge: bool = False,
        metadata: Document | None = None,
        expected_version: int | None = None,
    ) -> Session:
        """Replace data and metadata of an active session, each unless it is None; return the session.

        With ``merge``, keys of the data that are not given stay. Raises ``Conflict`` for another version than
        ``expected_version``.
        """
        if data is None and metadata is None:
            raise InvalidInput("the argument cannot be used", ["data: is missing, as is metadata"])
        update = Update(
            None if data is None else _data(data),
            None if metadata is None else check_metadata(metadata),
            check_flag("merge", merge),
            None if expected_version is None else check_integer("expected_version", expected_version, least=1),
        )
        return await self._backend.update(check_text("session_id", session_id), update)

    async def delete(self, session_id: str) -> bool:
        """Remove a session with its messages, those excepted that a branch sees; tell whether it was there."""
        return await self._backend.delete(check_text("session_id", session_id))

    async def touch(
        self, session_id: str, *, ttl: float | timedelta | None = None, expires_at: datetime | None = None
    ) -> Session:
        """Note that an active session was used, and let it expire later (or sooner) when ``ttl`` or ``expires_at`` is given."""
        expiry = _expiry(ttl, expires_at)
        return await self._backend.touch(check_text("session_id", session_id), None if expiry == Expiry() else expiry)

    async def archive(self, session_id: str) -> Session:
        """Set an active session aside: it is not changed any more and does not expire. An archived one stays as it is."""
        return await self._backend.archive(check_text("session_id", session_id))

    async def unarchive(
        self, session_id: str, *, ttl: float | timedelta | None = None, expires_at: datetime | None = None
    ) -> Session:
        """Make an archived session active again, with a new expiry when one is given. An active one stays as it is.

        Without one it keeps the expiry that it had: when that is over, it is expired at once.
        """
        expiry = _expiry(ttl, expires_at)
        return await self._backend.unarchive(
            check_text("session_id", session_id), None if expiry == Expiry() else expiry
        )

    async def list_active(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Session]:
        """Return a page of the active sessions, newest first."""
        return await self.list_sessions(status="active", cursor=cursor, limit=limit)

    async def list_sessions(
        self, *, status: Status | None = None, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Session]:
        """Return a page of the sessions with a status, or of all, newest first."""
        check_page_size(limit)
        if status is not None:
            status = cast("Status", check_one_of("status", status, STATUSES))
        position = position_of(cursor, datetime, str)
        before = (FOREVER, "") if position is None else (position[0], position[1])
        found = await self._backend.listing(status, before, limit + 1)
        return page_of(found, limit, "created_at", "session_id")

    def sessions(self, *, status: Status | None = None) -> AsyncIterator[Session]:
        """Go through all sessions with a status, or through all, newest first, page by page."""
        return each_item(self.list_sessions, status=status, limit=PAGE_MAX)

    async def cleanup_expired(self, *, limit: int = CLEANUP_DEFAULT) -> int:
        """Mark up to ``limit`` sessions that have expired, so that listings need not look at their clocks; count them.

        They were seen as expired already and are kept: ``purge_expired`` removes them. Call it until it returns 0.
        """
        return await self._backend.expire(check_integer("limit", limit, least=1, most=BATCH_MAX))

    async def purge_expired(self, *, older_than: float | timedelta | None = None, limit: int = CLEANUP_DEFAULT) -> int:
        """Remove up to ``limit`` sessions that expired (at least ``older_than`` ago) with their messages; count them."""
        seconds = 0.0 if older_than is None else check_ttl("older_than", older_than).total_seconds()
        return await self._backend.purge(seconds, check_integer("limit", limit, least=1, most=BATCH_MAX))

    async def append(
        self,
        session_id: str,
        role: str,
        content: Json,
        *,
        tokens: int | None = None,
        idempotency_key: str | None = None,
        metadata: Document | None = None,
    ) -> Message:
        """Append a message to an active session and return it with its number.

        An append with an ``idempotency_key`` that the session's messages have already returns that message instead.
        """
        draft = Draft(role, content, tokens, idempotency_key, metadata)
        (message,) = await self.append_many(session_id, [draft])
        return message

    async def append_many(self, session_id: str, messages: Iterable[Draft]) -> list[Message]:
        """Append up to 100,000 messages, all or none, with consecutive numbers; return them in the same order.

        Those whose key the session has already, or an earlier one of them has, are the messages that are there.
        """
        session_id = check_text("session_id", session_id)
        given, places = distinct([_new(draft) for draft in check_batch("messages", messages)])
        kept = await self._backend.append(session_id, given) if given else []
        return [kept[place] for place in places]

    async def list_messages(
        self,
        session_id: str,
        *,
        newest_first: bool = False,
        role: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Message]:
        """Return a page of messages, forwards or backwards, of one role or all."""
        check_page_size(limit)
        check_flag("newest_first", newest_first)
        position = position_of(cursor, int)
        reading = Reading(
            max(position[0], 0) if position is not None and not newest_first else 0,
            position[0] if position is not None and newest_first else INTEGER_MAX,
            limit + 1,
            newest_first,
            None if role is None else check_text("role", role),
        )
        return page_of(await self._read(session_id, reading), limit, "sequence")

    def messages(
        self, session_id: str, *, newest_first: bool = False, role: str | None = None
    ) -> AsyncIterator[Message]:
        """Go through all messages, forwards or backwards, of one role or all, page by page."""
        return each_item(self.list_messages, session_id, newest_first=newest_first, role=role, limit=PAGE_MAX)

    async def last(self, session_id: str, n: int = 1) -> list[Message]:
        """Return the ``n`` newest messages (up to 10,000), oldest first."""
        check_integer("n", n, least=1, most=PAGE_MAX)
        found = await self._read(session_id, Reading(0, INTEGER_MAX, n, newest_first=True))
        return found[::-1]

    async def window(self, session_id: str, max_tokens: int, *, limit: int = WINDOW_MESSAGES) -> list[Message]:
        """Return the newest messages whose tokens together are at most ``max_tokens``, oldest first.

        Stops before the first message that does not fit, and at ``limit`` messages (up to 10,000). A message whose
        tokens are not known counts one for every four characters of its content as JSON.
        """
        check_page_size(limit)
        check_integer("max_tokens", max_tokens, least=0)
        session_id = check_text("session_id", session_id)
        return _there(session_id, await self._backend.window(session_id, max_tokens, limit))

    async def count(self, session_id: str, *, role: str | None = None) -> int:
        """Count the messages of a session, of one role or all."""
        session_id = check_text("session_id", session_id)
        role = None if role is None else check_text("role", role)
        return _there(session_id, await self._backend.count(session_id, role))

    async def branch(
        self,
        session_id: str,
        at_sequence: int | None = None,
        *,
        new_id: str | None = None,
        data: Document | None = None,
        metadata: Document | None = None,
        ttl: float | timedelta | None = None,
        expires_at: datetime | None = None,
    ) -> Session:
        """Make a new active session that has the messages up to ``at_sequence`` (None: all) and goes on by itself.

        No message is copied. Data and metadata are the other session's unless they are given; the expiry is not. What
        happens to the other session later, its deletion included, changes nothing here. It may be archived or expired.
        Raises ``NotFound`` when it is not there or its numbers do not reach so far, ``AlreadyExists`` for a taken id.
        """
        session_id = check_text("session_id", session_id)
        new = NewSession(
            str(uuid7()) if new_id is None else check_text("new_id", new_id),
            None if data is None else _data(data),
            None if metadata is None else check_metadata(metadata),
            _expiry(ttl, expires_at),
        )
        at = None if at_sequence is None else check_integer("at_sequence", at_sequence, least=0)
        return await self._backend.branch(session_id, at, new)

    async def pop_last(self, session_id: str) -> Message | None:
        """Take the newest message out of an active session and return it; None when there is none.

        Branches keep it, and its number is not given again.
        """
        return await self._backend.pop_last(check_text("session_id", session_id))

    async def clear(self, session_id: str) -> int:
        """Take all messages out of an active session; count them. Branches keep theirs, and numbers go on."""
        return await self._backend.clear(check_text("session_id", session_id))

    async def _read(self, session_id: str, reading: Reading) -> list[Message]:
        session_id = check_text("session_id", session_id)
        return _there(session_id, await self._backend.messages(session_id, reading))


Found = TypeVar("Found")


def _there(session_id: str, found: Found | None) -> Found:
    if found is None:
        raise NotFound(f"there is no session {session_id!r}")
    return found


def _data(data: Document | None) -> str:
    if data is not None and not isinstance(data, Mapping):
        raise InvalidInput("the argument cannot be used", [f"data: must be an object, not {type(data).__name__}"])
    return "{}" if data is None else check_document(data, "data")


def _expiry(ttl: float | timedelta | None, expires_at: datetime | None) -> Expiry:
    if ttl is not None and expires_at is not None:
        raise InvalidInput("the argument cannot be used", ["ttl: says the same as expires_at; give one"])
    return Expiry(
        None if ttl is None else check_ttl("ttl", ttl).total_seconds(),
        None if expires_at is None else check_time("expires_at", expires_at),
    )


def _new(draft: Draft) -> NewMessage:
    if not isinstance(draft, Draft):
        raise InvalidInput("the argument cannot be used", [f"messages: must be Drafts, not {type(draft).__name__}"])
    content = check_document(draft.content, "content")
    tokens = None if draft.tokens is None else check_integer("tokens", draft.tokens, least=0, most=TOKENS_MAX)
    key = draft.idempotency_key
    return NewMessage(
        check_text("role", draft.role),
        content,
        tokens,
        weight(tokens, content),
        None if key is None else check_text("idempotency_key", key),
        check_metadata(draft.metadata),
    )
