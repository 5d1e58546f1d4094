# Made from storagelib/_async/episodic.py by scripts/sync; change that file instead.
"""Episodic memory: what happened in which session, found by meaning, by session and by time, over a tenant's vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from storagelib.clocks import Clock, from_microseconds, system_clock, to_microseconds
from storagelib.components.episodes import Episode
from storagelib.components.passages import single
from storagelib.documents import Document
from storagelib.errors import NotFound
from storagelib.flows import Flow
from storagelib.identifiers import uuid7
from storagelib.limits import DIMENSION_MAX, PAGE_DEFAULT, check_integer, check_mapping, check_text, check_time
from storagelib.pages import Page

if TYPE_CHECKING:
    from storagelib._sync.store import Tenant
    from storagelib.components.vectors import Match, Vector

__all__ = ["EpisodicMemory"]

_PREFIX: Final = "episodic/"
_SESSION_MAX: Final = 200


class EpisodicMemory:
    """The episodes of one tenant. Each session is a scope ``episodic/<session id>`` of the tenant's vectors.

    ``memory = EpisodicMemory(store.for_tenant("acme"), embed, dimension=384)``; ``embed`` turns a list of texts into
    vectors of that dimension.

    >>> from storagelib import EpisodicMemory, Store, StoreConfig
    >>> def embed(texts: list[str]) -> list[list[float]]:
    ...     return [[text.count(letter) + 0.01 for letter in "abcdefgh"] for text in texts]
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         memory = EpisodicMemory(store.for_tenant("acme"), embed, dimension=8)
    ...         memory.remember("session-1", "user", "My cabbage has bad leaves")
    ...         (found,) = memory.recall("cabbage", k=1)
    ...         print(found.session_id, found.content)
    >>> example()
    session-1 My cabbage has bad leaves
    """

    def __init__(
        self, tenant: Tenant, embed: Callable[[list[str]], Any], *, dimension: int, clock: Clock = system_clock
    ) -> None:
        """Take the tenant, what embeds, and how long its vectors are."""
        self._vectors = tenant.vectors
        Flow.check(embed, "embed")
        self._embed = embed
        self._dimension = check_integer("dimension", dimension, least=1, most=DIMENSION_MAX)
        self._clock = clock

    def remember(
        self,
        session_id: str,
        role: str,
        content: str,
        *,
        metadata: Document | None = None,
        happened_at: datetime | None = None,
    ) -> str:
        """Keep an episode; return its id."""
        scope = _scope(session_id)
        moment = self._clock() if happened_at is None else check_time("happened_at", happened_at)
        kept = {
            "role": check_text("role", role, most=100),
            "at": to_microseconds(moment),
            "processed": False,
            "own": dict(check_mapping("metadata", metadata)),
        }
        embedding = single(Flow.result_of(self._embed, [check_text("content", content, most=1_000_000)]))
        episode_id = str(uuid7())
        self._vectors.insert(episode_id, embedding, scope=scope, content=content, metadata=kept)
        return episode_id

    def get(self, episode_id: str) -> Episode:
        """Return an episode; raises ``NotFound``."""
        found = self._vectors.get(episode_id, dimension=self._dimension)
        if found is None or not found.scope.startswith(_PREFIX):
            raise NotFound("there is no such episode")
        return _episode(found)

    def recall(
        self,
        question: str,
        k: int = 10,
        *,
        session_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        threshold: float | None = None,
    ) -> list[Episode]:
        """Return the ``k`` episodes most like a question, of one session or all, that happened in ``[since, until)``."""
        embedding = single(Flow.result_of(self._embed, [check_text("question", question, most=1_000_000)]))
        found = self._vectors.search(
            embedding, k, filter=_between(since, until), threshold=threshold, **_where(session_id)
        )
        return [_episode(match, match.score) for match in found]

    def session(self, session_id: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Episode]:
        """Return a page of a session's episodes, in the order in which they were kept."""
        page = self._vectors.list_vectors(
            dimension=self._dimension, scope=_scope(session_id), cursor=cursor, limit=limit
        )
        return Page(tuple(_episode(vector) for vector in page), page.cursor)

    def sessions(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the sessions that have episodes, in order."""
        found = self._vectors.scopes(_PREFIX, dimension=self._dimension, cursor=cursor, limit=limit)
        return Page(tuple(each.scope.removeprefix(_PREFIX) for each in found), found.cursor)

    def unprocessed(self, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Episode]:
        """Return a page of the episodes that no later stage has seen."""
        page = self._vectors.list_vectors(
            {"processed": False}, dimension=self._dimension, scope_prefix=_PREFIX, cursor=cursor, limit=limit
        )
        return Page(tuple(_episode(vector) for vector in page), page.cursor)

    def mark_processed(self, episode_ids: Iterable[str]) -> int:
        """Say that a later stage has seen episodes; count those that are there."""
        marked = 0
        found = self._vectors.get_many(episode_ids, dimension=self._dimension)
        for episode_id, vector in found.items():
            if vector.scope.startswith(_PREFIX):
                self._vectors.update_metadata(episode_id, {"processed": True}, dimension=self._dimension)
                marked += 1
        return marked

    def forget(self, episode_ids: Iterable[str]) -> int:
        """Remove episodes; count those that were there."""
        found = self._vectors.get_many(episode_ids, dimension=self._dimension)
        own = [episode_id for episode_id, vector in found.items() if vector.scope.startswith(_PREFIX)]
        return self._vectors.delete_many(own, dimension=self._dimension)

    def forget_session(self, session_id: str) -> int:
        """Remove all episodes of a session; count them."""
        return self._vectors.delete_where(dimension=self._dimension, scope=_scope(session_id))

    def forget_before(self, moment: datetime) -> int:
        """Remove all episodes that happened before a moment; count them."""
        return self._vectors.delete_where(_between(None, moment), dimension=self._dimension, scope_prefix=_PREFIX)

    def count(self, session_id: str | None = None) -> int:
        """Count the episodes of a session, or all."""
        return self._vectors.count(dimension=self._dimension, **_where(session_id))


def _scope(session_id: str) -> str:
    return _PREFIX + check_text("session_id", session_id, most=_SESSION_MAX)


def _where(session_id: str | None) -> dict[str, Any]:
    return {"scope_prefix": _PREFIX} if session_id is None else {"scope": _scope(session_id)}


def _between(since: datetime | None, until: datetime | None) -> dict[str, Any] | None:
    bounds: dict[str, int] = {}
    if since is not None:
        bounds["$gte"] = to_microseconds(check_time("since", since))
    if until is not None:
        bounds["$lt"] = to_microseconds(check_time("until", until))
    return {"at": bounds} if bounds else None


def _episode(found: Vector | Match, score: float | None = None) -> Episode:
    kept = found.metadata
    return Episode(
        found.id,
        found.scope.removeprefix(_PREFIX),
        str(kept["role"]),
        found.content or "",
        kept["own"],
        from_microseconds(int(kept["at"])),
        bool(kept["processed"]),
        score,
    )
