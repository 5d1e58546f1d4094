"""Transitions counted until they count as learned, and versioned procedures with the confidence they earned."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final, Protocol

from storagelib import documents, filters
from storagelib._async.listings import each_item
from storagelib.components.graph import embedding_bytes
from storagelib.components.procedures import (
    LEARNED_FROM,
    SCAN_MAX,
    NewProcedure,
    NewTransition,
    Procedure,
    Ranked,
    Sketch,
    Standing,
    Transition,
    Wanted,
    value_of,
)
from storagelib.documents import Document, Json, check_document
from storagelib.errors import Conflict, InvalidInput, NotFound
from storagelib.limits import (
    KEY_MAX,
    METADATA_BYTES_MAX,
    PAGE_DEFAULT,
    check_batch,
    check_flag,
    check_integer,
    check_page_size,
    check_text,
    check_time,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["AsyncProcedures", "AsyncProceduresBackend"]

_SOURCES_MAX: Final = 100
_STRETCH: Final = 1000


class AsyncProceduresBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    Confidence is worked out with the backend's own time when something is read, by ``components.procedures``; it is
    never written.
    """

    async def observe(self, seen: NewTransition) -> int:
        """Count a transition once more, in one step; return its frequency."""
        ...

    async def frequency(self, seen: NewTransition) -> int:
        """Return how often a transition was seen; 0 for one that was not."""
        ...

    async def transitions(self, scope: str, key: str, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions of a key, by falling frequency and rising identity, after this position."""
        ...

    async def learned(self, scope: str | None, least: int, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions that were seen ``least`` times, in the same order."""
        ...

    async def forget(self, scope: str, key: str) -> int:
        """Remove the transitions of a key; count them."""
        ...

    async def save(self, new: NewProcedure, expected: int | None) -> tuple[int, int | None]:
        """Save the next version, keeping the one it replaces; return the version found (0: none) and the new one.

        With ``expected`` only if that is the version found, else the new one is None.
        """
        ...

    async def load(self, name: str, version: int | None) -> Procedure | None:
        """Return the current version, or another one."""
        ...

    async def versions(self, name: str, before: int, limit: int) -> list[Procedure]:
        """Return up to ``limit`` versions below ``before``, newest first."""
        ...

    async def rollback(self, name: str, version: int) -> tuple[int, int | None]:
        """Save an older version, with its counters, as the next one; return the version found (0: none) and the new one."""
        ...

    async def supersede(self, name: str, by: str | None) -> bool:
        """Set or clear what took a procedure's place; tell whether both are there.

        Raises ``Conflict`` where the successors of ``by`` lead to ``name``.
        """
        ...

    async def record_outcome(self, name: str, version: int | None, success: bool) -> Standing | None:
        """Count an outcome of the current version, or of another one, in one step; None when it is not there."""
        ...

    async def listing(self, scope: str | None, after: str, limit: int) -> list[Procedure]:
        """Return up to ``limit`` procedures with names greater than ``after``, by name."""
        ...

    async def sketches(self, wanted: Wanted, after: str, limit: int) -> list[Sketch]:
        """Return up to ``limit`` sketches with names greater than ``after``, by name."""
        ...

    async def several(self, names: list[str]) -> list[Procedure]:
        """Return the current versions of these procedures, in any order."""
        ...

    async def remove(self, seen: list[tuple[str, int | None]]) -> int:
        """Remove procedures with all versions, each only if it has this revision (None: any); count them."""
        ...


class AsyncProcedures:
    """What one tenant learned: transitions by scope and key, and procedures by name.

    Confidence is the mean of a Beta distribution: the prior counts as 2 outcomes, and what was counted weighs half after
    every 30 days without an outcome. It is worked out when a procedure is read. Searches (``matching``, ``similar``) look
    at up to 10,000 procedures of the scope, in order of their names, and pass over superseded ones.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         procedures = store.for_tenant("acme").procedures
    ...         await procedures.save("answer mail", ["read", "draft", "send"], trigger={"kind": "mail"})
    ...         await procedures.record_outcome("answer mail", True)
    ...         (best,) = await procedures.matching({"kind": "mail", "size": 20})
    ...         print(best.name, best.version, best.confidence > 0.6)
    ...         print(await procedures.record_transition("deploy", "stage", "tested", "released"))
    >>> asyncio.run(example())
    answer mail 1 True
    1
    """

    def __init__(self, backend: AsyncProceduresBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    async def record_transition(self, scope: str, key: str, from_value: str, to_value: str) -> int:
        """Count that a key's value went from one to another; return how often that was seen, this time included.

        Scope and values have up to 500 characters and may be empty, the key has 1 to 500. No observation is lost to
        another one at the same moment.
        """
        return await self._backend.observe(_seen(scope, key, from_value, to_value))

    async def frequency(self, scope: str, key: str, from_value: str, to_value: str) -> int:
        """Return how often a transition was seen; 0 when it never was."""
        return await self._backend.frequency(_seen(scope, key, from_value, to_value))

    async def transitions(
        self, scope: str, key: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[Transition]:
        """Return a page of a key's transitions, most frequent first; equal ones in an order all backends share."""
        check_page_size(limit)
        after = position_of(cursor, int, str) or _FIRST
        found = await self._backend.transitions(_scope(scope), _key(key), (after[0], after[1]), limit + 1)
        return page_of(found, limit, *_ORDER)

    async def learned(
        self,
        min_frequency: int = LEARNED_FROM,
        *,
        scope: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Transition]:
        """Return a page of the transitions of a scope, or of all, that were seen so often; most frequent first."""
        check_page_size(limit)
        after = position_of(cursor, int, str) or _FIRST
        least = check_integer("min_frequency", min_frequency, least=1)
        chosen = None if scope is None else _scope(scope)
        found = await self._backend.learned(chosen, least, (after[0], after[1]), limit + 1)
        return page_of(found, limit, *_ORDER)

    async def forget_transitions(self, scope: str, key: str) -> int:
        """Remove what was counted for a key; count the transitions removed."""
        return await self._backend.forget(_scope(scope), _key(key))

    async def save(
        self,
        name: str,
        steps: Json,
        *,
        trigger: Document | None = None,
        scope: str = "",
        provenance: Iterable[str] = (),
        embedding: Iterable[float] | None = None,
        prior: float = 0.5,
        expected_version: int | None = None,
    ) -> int:
        """Save the next version of a procedure and return it; its counters begin at nothing.

        ``steps`` is any JSON value of up to 1 MiB, ``trigger`` a filter (``storagelib.filters``) that a context must match,
        ``provenance`` up to 100 texts, ``embedding`` 1 to 16,000 numbers, ``prior`` the confidence before any outcome.
        With ``expected_version`` only if that is the current one (0: only if there is none), else ``Conflict``.
        """
        new = NewProcedure(
            _name(name),
            _scope(scope),
            check_document(steps, "steps", most=METADATA_BYTES_MAX),
            _trigger(trigger),
            _provenance(provenance),
            None if embedding is None else embedding_bytes("embedding", embedding),
            _share("prior", prior),
        )
        expected = None if expected_version is None else check_integer("expected_version", expected_version, least=0)
        found, version = await self._backend.save(new, expected)
        if version is None:
            raise Conflict(
                f"the procedure has version {found}, not {expected}" if found else "there is no such procedure"
            )
        return version

    async def get(self, name: str, version: int | None = None) -> Procedure:
        """Return the current version of a procedure, or another one; raises ``NotFound``."""
        found = await self.find(name, version)
        if found is None:
            raise NotFound("there is no such procedure" if version is None else f"there is no version {version}")
        return found

    async def find(self, name: str, version: int | None = None) -> Procedure | None:
        """Return what ``get`` returns, or None when it is not there."""
        return await self._backend.load(_name(name), _version(version))

    async def versions(self, name: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[Procedure]:
        """Return a page of a procedure's versions, newest first, each with its own counters."""
        check_page_size(limit)
        position = position_of(cursor, int)
        before = 2**63 - 1 if position is None else position[0]
        return page_of(await self._backend.versions(_name(name), before, limit + 1), limit, "version")

    async def rollback(self, name: str, version: int) -> int:
        """Make an older version the current one, as a new version with the counters it had; return that.

        Raises ``NotFound``, and ``Conflict`` for the version that is the current one already.
        """
        wanted = check_integer("version", version, least=1)
        found, new = await self._backend.rollback(_name(name), wanted)
        if new is not None:
            return new
        if found == wanted:
            raise Conflict(f"version {wanted} is the current one")
        raise NotFound(f"there is no version {wanted}" if found else "there is no such procedure")

    async def supersede(self, name: str, by: str | None) -> None:
        """Say that another procedure took this one's place, or, with None, that none did.

        What is superseded is still there, but no search finds it. Raises ``NotFound`` when one of the two is not there,
        and ``Conflict`` when ``by`` is superseded by ``name``, be it through others.
        """
        known = _name(name)
        if by is not None and _name(by) == known:
            raise InvalidInput("the argument cannot be used", ["by: is the procedure itself"])
        if not await self._backend.supersede(known, by):
            raise NotFound("there is no such procedure")

    async def successor(self, name: str) -> Procedure:
        """Follow what took a procedure's place to the last one; raises ``NotFound`` where the way ends at a deleted one."""
        found = await self.get(name)
        passed = {found.name}
        while found.superseded_by is not None and found.superseded_by not in passed:
            found = await self.get(found.superseded_by)
            passed.add(found.name)
        return found

    async def record_outcome(self, name: str, success: bool, version: int | None = None) -> Standing:
        """Count a success or failure of the current version, or of another one; return how that version stands.

        No outcome is lost to another one at the same moment. Raises ``NotFound``.
        """
        check_flag("success", success)
        found = await self._backend.record_outcome(_name(name), _version(version), success)
        if found is None:
            raise NotFound("there is no such procedure" if version is None else f"there is no version {version}")
        return found

    async def list_procedures(
        self,
        *,
        scope: str | None = None,
        min_confidence: float = 0.0,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Procedure]:
        """Return a page of the current versions in a scope, or of all, in order of their names.

        Superseded ones are there too. Confidence is looked at as the pages are read, so that a page of few reads many.
        """
        check_page_size(limit)
        position = position_of(cursor, str)
        after = "" if position is None else position[0]
        chosen, least = None if scope is None else _scope(scope), _share("min_confidence", min_confidence)
        kept: list[Procedure] = []
        while len(kept) <= limit:
            asked = limit + 1 if least == 0 else _STRETCH
            found = await self._backend.listing(chosen, after, asked)
            kept += [each for each in found if each.confidence >= least]
            if len(found) < asked:
                break
            after = found[-1].name
        return page_of(kept[: limit + 1], limit, "name")

    def procedures(self, *, scope: str | None = None, min_confidence: float = 0.0) -> AsyncIterator[Procedure]:
        """Go through all procedures of a scope, page by page."""
        return each_item(self.list_procedures, scope=scope, min_confidence=min_confidence, limit=_STRETCH)

    async def matching(self, context: Document, *, scope: str | None = None, limit: int = 10) -> list[Procedure]:
        """Return the procedures whose triggers match a context, best confidence first, then by name."""
        checked = documents.decode(_context(context))
        check_page_size(limit)
        wanted = Wanted(None if scope is None else _scope(scope), "trigger")
        found = [
            (-each.confidence, each.name)
            async for stretch in self._stretches(wanted)
            for each in stretch
            if each.trigger is not None and filters.matches(_parsed(each.trigger), checked)
        ]
        best = await self._several([name for _, name in sorted(found)[:limit]])
        return sorted(best, key=lambda each: (-each.confidence, each.name))

    async def similar(self, embedding: Iterable[float], k: int = 10, *, scope: str | None = None) -> list[Ranked]:
        """Return the ``k`` procedures whose embeddings are nearest by cosine, nearest first, then by name.

        Embeddings of other dimensions are passed over; every other one is compared, exactly.
        """
        import numpy as np  # noqa: PLC0415 - only who searches by embedding needs it

        from storagelib.components.distances import nearest  # noqa: PLC0415 - the same

        asked = embedding_bytes("embedding", embedding)
        check_page_size(k)
        wanted = Wanted(None if scope is None else _scope(scope), "embedding", len(asked))
        query = np.frombuffer(asked, "<f4")
        best: list[tuple[float, str]] = []
        async for stretch in self._stretches(wanted):
            matrix = np.frombuffer(b"".join(each.embedding or b"" for each in stretch), "<f4")
            rows = matrix.reshape(len(stretch), -1)
            near = nearest(rows, [each.name for each in stretch], query, "cosine", k)
            best = sorted([*best, *((distance, name) for distance, name, _ in near)])[:k]
        found = {each.name: each for each in await self._several([name for _, name in best])}
        return [Ranked(found[name], 1.0 - distance) for distance, name in best if name in found]

    async def delete(self, name: str) -> bool:
        """Remove a procedure with all its versions; tell whether it was there. What it superseded stays superseded."""
        return await self._backend.remove([(_name(name), None)]) == 1

    async def prune(self, *, min_confidence: float | None = None, unused_since: datetime | None = None) -> int:
        """Remove procedures below a confidence, or without an outcome or save since a moment, or, given both, with both.

        What changes while it is looked at stays. Returns how many were removed; raises ``InvalidInput`` without a bound.
        """
        if min_confidence is None and unused_since is None:
            raise InvalidInput("the argument cannot be used", ["min_confidence, unused_since: one must be given"])
        least = None if min_confidence is None else _share("min_confidence", min_confidence)
        since = None if unused_since is None else check_time("unused_since", unused_since)
        removed = 0
        async for stretch in self._stretches(Wanted(None, "any"), most=None):
            gone: list[tuple[str, int | None]] = [
                (each.name, each.revision)
                for each in stretch
                if (least is None or each.confidence < least) and (since is None or each.used_at < since)
            ]
            removed += await self._backend.remove(gone) if gone else 0
        return removed

    async def _stretches(self, wanted: Wanted, *, most: int | None = SCAN_MAX) -> AsyncIterator[list[Sketch]]:
        after, passed = "", 0
        while most is None or passed < most:
            asked = _STRETCH if most is None else min(_STRETCH, most - passed)
            found = await self._backend.sketches(wanted, after, asked)
            if found:
                yield found
            if len(found) < asked:
                return
            after, passed = found[-1].name, passed + len(found)

    async def _several(self, names: list[str]) -> list[Procedure]:
        return await self._backend.several(names) if names else []


_ORDER: Final = ("frequency", "identity")
# Comes before every transition: none is seen so often.
_FIRST: Final = (2**63 - 1, "")


def _seen(scope: str, key: str, before: str, after: str) -> NewTransition:
    values = [
        check_text(name, value, least=0, most=KEY_MAX) for name, value in (("from_value", before), ("to_value", after))
    ]
    return NewTransition(_scope(scope), _key(key), value_of(*values))


def _scope(scope: str) -> str:
    return check_text("scope", scope, least=0, most=KEY_MAX)


def _key(key: str) -> str:
    return check_text("key", key, most=KEY_MAX)


def _name(name: str) -> str:
    return check_text("name", name)


def _version(version: int | None) -> int | None:
    return None if version is None else check_integer("version", version, least=1)


def _trigger(trigger: Document | None) -> str | None:
    if trigger is None:
        return None
    filters.parse(trigger)
    return check_document(trigger, "trigger", most=METADATA_BYTES_MAX)


@lru_cache(1024)
def _parsed(trigger: str) -> filters.Filter:
    return filters.parse(documents.decode(trigger))


def _context(context: Document) -> str:
    text = check_document(context, "context", most=METADATA_BYTES_MAX)
    if not text.startswith("{"):
        raise InvalidInput("the argument cannot be used", ["context: must be an object"])
    return text


def _provenance(provenance: Iterable[str]) -> str:
    listed = [check_text("provenance", each, most=KEY_MAX) for each in check_batch("provenance", provenance)]
    if len(listed) > _SOURCES_MAX:
        raise InvalidInput("the argument cannot be used", [f"provenance: has {len(listed)} texts, at most 100 fit"])
    return documents.encode(listed)


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a number from 0 to 1"])
    return float(value)
