"""States of agents with every version kept small, labelled checkpoints and declared transitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from storagelib import documents
from storagelib._async.agent_threads import AsyncAgentThreads, AsyncAgentThreadsBackend
from storagelib._async.listings import each_item
from storagelib.components.agent_state import (
    AgentCheckpoint,
    AgentRecord,
    AgentVersion,
    NewCheckpoint,
    NewState,
    Past,
    SaveResult,
    Step,
    checksum_of,
    pack,
    past_of,
    rebuilt,
    record_of,
    sorted_text,
    verified,
)
from storagelib.documents import Document, Json, check_metadata
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from storagelib.limits import (
    DOCUMENT_BYTES_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_flag,
    check_integer,
    check_mapping,
    check_page_size,
    check_text,
    check_time,
)
from storagelib.pages import Page, page_of, position_of
from storagelib.remembered import Remembered

__all__ = ["AsyncAgentState", "AsyncAgentStateBackend"]

_TYPE_MAX: Final = 100
_PHASE_MAX: Final = 100
_PHASES_MAX: Final = 1000
_REMEMBERED_AGENTS: Final = 64
_REMEMBERED_BYTES: Final = 64 << 20
# What a state takes as Python objects, in sizes of its text.
_TREE_SIZE: Final = 6


class AsyncAgentStateBackend(AsyncAgentThreadsBackend, Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``."""

    async def save(self, new: NewState) -> SaveResult:
        """Save a version if the expected one is there and the transition is declared, keeping the one it replaces.

        The replaced version is kept as ``new.past`` says when the stored checksum is ``new.past.checksum``, else in full.
        """
        ...

    async def current(self, agent_id: str) -> tuple[AgentVersion, str | bytes] | None:
        """Return the latest version and its state as JSON text."""
        ...

    async def steps(self, agent_id: str, version: int) -> list[Step]:
        """Return the steps from a version to the next one that is kept in full: itself, a later one, or the latest.

        A checkpoint of the version counts as the version in full. Empty when the version is not kept.
        """
        ...

    async def versions(self, agent_id: str, before: int | None, limit: int) -> list[AgentVersion]:
        """Return up to ``limit`` kept versions below ``before``, newest first."""
        ...

    async def agents(
        self,
        agent_type: str | None,
        session_id: str | None,
        phase: str | None,
        since: datetime | None,
        after: str | None,
        limit: int,
    ) -> list[AgentVersion]:
        """Return the latest versions of up to ``limit`` agents with ids greater than ``after``, by id."""
        ...

    async def add_checkpoint(self, new: NewCheckpoint) -> bool | None:
        """Keep a checkpoint; None when the version is not there with this checksum, False when the label is taken."""
        ...

    async def checkpoint_version(self, agent_id: str, label: str) -> int | None:
        """Return the version that a label stands for."""
        ...

    async def checkpoints(self, agent_id: str, after: str | None, limit: int) -> list[AgentCheckpoint]:
        """Return up to ``limit`` checkpoints with labels greater than ``after``, by label."""
        ...

    async def delete_checkpoint(self, agent_id: str, label: str) -> bool:
        """Remove a checkpoint; tell whether it was there."""
        ...

    async def delete(self, agent_id: str) -> bool:
        """Remove an agent with its versions and checkpoints; tell whether it was there."""
        ...

    async def prune(self, agent_id: str, keep_last: int, older_than: datetime | None, keep_checkpoints: bool) -> int:
        """Remove the oldest versions, as ``AsyncAgentState.prune`` says; count them."""
        ...

    async def copy(self, agent_id: str, new_id: str, history: bool) -> bool | None:
        """Copy an agent; None when it is not there, False when the new id is taken."""
        ...

    async def declare(self, agent_type: str, transitions: list[tuple[str, str]]) -> None:
        """Replace the declared transitions of a type; none take the declaration back."""
        ...

    async def transitions(self, agent_type: str) -> list[tuple[str, str]]:
        """Return the declared transitions of a type, in order of their code points."""
        ...


class AsyncAgentState:
    """The states of one tenant's agents: ids of 1 to 255 characters, types of 1 to 100, states of up to 64 MiB as JSON.

    Every save makes a version, counted from 1. The latest is kept whole; each older one as what leads back to it, in
    full at least every 32 versions. The handle remembers what it saved or loaded last (at most 64 agents, 64 MiB), so
    that a save in the usual loop of load, work, save needs no second round trip to know what changed; without that
    memory the older version is kept in full, which costs bytes and changes nothing else.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         agents = store.for_tenant("acme").agent_state
    ...         await agents.save("planner-7", {"done": 0}, agent_type="planner")
    ...         found = await agents.load("planner-7")
    ...         await agents.save("planner-7", {"done": 1}, agent_type="planner", expected_version=found.version)
    ...         print((await agents.load("planner-7")).state, (await agents.load("planner-7", version=1)).state)
    ...         print(await agents.find("planner-8"))
    >>> asyncio.run(example())
    {'done': 1} {'done': 0}
    None
    """

    def __init__(self, backend: AsyncAgentStateBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend
        self._memory = Remembered(_REMEMBERED_AGENTS, _REMEMBERED_BYTES)
        self._threads = AsyncAgentThreads(backend)

    @property
    def threads(self) -> AsyncAgentThreads:
        """Checkpoints of agents that step through a graph, as frameworks for those want them."""
        return self._threads

    async def save(
        self,
        agent_id: str,
        state: Document,
        *,
        agent_type: str,
        session_id: str | None = None,
        phase: str | None = None,
        expected_version: int | None = None,
        schema_version: int = 1,
    ) -> int:
        """Save a state and return its version.

        With ``expected_version`` only if that is the latest one (0: only if there is none), else ``Conflict``. Without
        ``phase`` the agent stays where it is. Where the type's transitions are declared, a step that is not among them is
        ``InvalidInput`` and nothing is saved.
        """
        value, text = _checked_state(state)
        checksum = checksum_of(text)
        expected = None if expected_version is None else check_integer("expected_version", expected_version, least=0)
        new = NewState(
            _agent_id(agent_id),
            check_text("agent_type", agent_type, most=_TYPE_MAX),
            text,
            checksum,
            check_integer("schema_version", schema_version, least=1),
            None if session_id is None else check_text("session_id", session_id),
            None if phase is None else check_text("phase", phase, most=_PHASE_MAX),
            expected,
            self._past(agent_id, value),
        )
        return await self._saved(new, value)

    async def load(self, agent_id: str, *, version: int | None = None) -> AgentRecord:
        """Return the latest version, or an older one that is still kept.

        Raises ``NotFound`` when it is not there, and ``Corrupted`` when it is not what was written.
        """
        found = await self.find(agent_id, version=version)
        if found is None:
            raise NotFound("the agent has no state" if version is None else f"version {version} is not kept")
        return found

    async def find(self, agent_id: str, *, version: int | None = None) -> AgentRecord | None:
        """Return what ``load`` returns, or None when it is not there."""
        _agent_id(agent_id)
        if version is not None:
            steps = await self._backend.steps(agent_id, check_integer("version", version, least=1))
            return record_of(steps[0].version, rebuilt(steps)) if steps else None
        current = await self._backend.current(agent_id)
        if current is None:
            self._memory.forget(agent_id)
            return None
        head, text = current
        known = self._memory.get(agent_id)
        if known is not None and (known.version, known.checksum, known.raw) == (head.version, head.checksum, text):
            # Byte for byte what was verified before.
            return record_of(head, documents.decode(text))
        state, kept = verified(text, head.checksum)
        self._memory.put(agent_id, _Known(head.version, head.checksum, kept, None, text), 2 * len(kept))
        return record_of(head, state)

    async def load_checkpoint(self, agent_id: str, label: str) -> AgentRecord:
        """Return the version that a checkpoint keeps; raises ``NotFound``."""
        return await self.load(agent_id, version=await self._labelled(agent_id, label))

    async def exists(self, agent_id: str) -> bool:
        """Tell whether an agent has a state."""
        return bool(await self._backend.versions(_agent_id(agent_id), None, 1))

    async def versions(
        self, agent_id: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[AgentVersion]:
        """Return a page of the versions that are kept, newest first; empty for an unknown agent."""
        check_page_size(limit)
        position = position_of(cursor, int)
        before = None if position is None else position[0]
        return page_of(await self._backend.versions(_agent_id(agent_id), before, limit + 1), limit, "version")

    async def list_agents(
        self,
        *,
        agent_type: str | None = None,
        session_id: str | None = None,
        phase: str | None = None,
        updated_since: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[AgentVersion]:
        """Return a page of agents, without their states, in order of their ids."""
        check_page_size(limit)
        position = position_of(cursor, str)
        found = await self._backend.agents(
            None if agent_type is None else check_text("agent_type", agent_type, most=_TYPE_MAX),
            None if session_id is None else check_text("session_id", session_id),
            None if phase is None else check_text("phase", phase, most=_PHASE_MAX),
            None if updated_since is None else check_time("updated_since", updated_since),
            None if position is None else position[0],
            limit + 1,
        )
        return page_of(found, limit, "agent_id")

    def agents(self, *, agent_type: str | None = None, session_id: str | None = None) -> AsyncIterator[AgentVersion]:
        """Go through all agents of a type or session, page by page."""
        return each_item(self.list_agents, agent_type=agent_type, session_id=session_id, limit=PAGE_MAX)

    async def checkpoint(
        self, agent_id: str, label: str, *, version: int | None = None, metadata: Document | None = None
    ) -> int:
        """Keep a version, the latest unless told, under a label until the label is deleted; return the version.

        Raises ``NotFound`` when the version is not there and ``AlreadyExists`` when the label is taken.
        """
        check_text("label", label)
        about = check_metadata(metadata)
        found = await self.load(agent_id, version=version)
        content = pack(sorted_text(found.state))
        made = await self._backend.add_checkpoint(NewCheckpoint(agent_id, label, found, content, about))
        if made is None:
            raise Conflict(f"version {found.version} was removed meanwhile")
        if not made:
            raise AlreadyExists(f"the agent has a checkpoint {label!r} already")
        return found.version

    async def list_checkpoints(
        self, agent_id: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> Page[AgentCheckpoint]:
        """Return a page of an agent's checkpoints, in order of their labels."""
        check_page_size(limit)
        position = position_of(cursor, str)
        after = None if position is None else position[0]
        return page_of(await self._backend.checkpoints(_agent_id(agent_id), after, limit + 1), limit, "label")

    async def delete_checkpoint(self, agent_id: str, label: str) -> bool:
        """Remove a label, and its version with it if that was pruned; tell whether it was there."""
        return await self._backend.delete_checkpoint(_agent_id(agent_id), check_text("label", label))

    async def restore(
        self,
        agent_id: str,
        *,
        version: int | None = None,
        checkpoint: str | None = None,
        expected_version: int | None = None,
    ) -> int:
        """Make an older version, or a checkpoint, the latest as a new version, and return that; nothing is lost.

        Phase, type, session and schema version come back too, whatever transitions are declared: going back is no step
        forward. Raises ``NotFound``, and ``Conflict`` as ``save`` does.
        """
        if (version is None) == (checkpoint is None):
            raise InvalidInput("the argument cannot be used", ["version, checkpoint: one of the two must be given"])
        expected = None if expected_version is None else check_integer("expected_version", expected_version, least=0)
        wanted = await self._labelled(agent_id, checkpoint) if checkpoint is not None else version
        found = await self.load(agent_id, version=wanted)
        text = sorted_text(found.state)
        new = NewState(
            agent_id,
            found.agent_type,
            text,
            found.checksum,
            found.schema_version,
            found.session_id,
            found.phase,
            expected,
            self._past(agent_id, found.state),
            restores=True,
        )
        return await self._saved(new, found.state)

    async def delete(self, agent_id: str) -> bool:
        """Remove an agent's state, versions and checkpoints; tell whether it was there."""
        self._memory.forget(_agent_id(agent_id))
        return await self._backend.delete(agent_id)

    async def prune(
        self,
        agent_id: str,
        *,
        keep_last: int = 1,
        older_than: datetime | None = None,
        keep_checkpoints: bool = True,
    ) -> int:
        """Remove old versions and count them: all but the last ``keep_last``, of these only what is older than a moment.

        The latest version always stays. Checkpoints stay too, with their states, unless ``keep_checkpoints`` is false:
        then those of removed versions go with them.
        """
        check_integer("keep_last", keep_last, least=1)
        moment = None if older_than is None else check_time("older_than", older_than)
        return await self._backend.prune(
            _agent_id(agent_id), keep_last, moment, check_flag("keep_checkpoints", keep_checkpoints)
        )

    async def copy(self, agent_id: str, new_id: str, *, history: bool = False) -> None:
        """Copy an agent to a new id: its latest state as version 1, or everything with its numbers and checkpoints.

        Raises ``NotFound``, and ``AlreadyExists`` when the new id is taken.
        """
        if _agent_id(agent_id) == check_text("new_id", new_id):
            raise AlreadyExists("an agent cannot be copied onto itself")
        copied = await self._backend.copy(agent_id, new_id, check_flag("history", history))
        if copied is None:
            raise NotFound("the agent has no state")
        if not copied:
            raise AlreadyExists(f"there is an agent {new_id!r} already")

    async def declare(self, agent_type: str, transitions: Mapping[str, Iterable[str]] | None) -> None:
        """Declare between which phases agents of a type may go; ``""`` stands for having none yet, None takes it all back.

        The declaration is stored, so that it holds for every process of the tenant, and is checked by ``save`` in the
        same statement that saves. What is saved already is not looked at.

        ``{"": ["idle"], "idle": ["busy"], "busy": ["idle", "done"]}``
        """
        check_text("agent_type", agent_type, most=_TYPE_MAX)
        pairs = {
            (
                check_text("transitions", old, least=0, most=_PHASE_MAX),
                check_text("transitions", new, most=_PHASE_MAX),
            )
            for old, following in check_mapping("transitions", transitions).items()
            for new in check_batch("transitions", following)
        }
        if transitions is not None and not pairs:
            raise InvalidInput("the argument cannot be used", ["transitions: are empty; None takes a declaration back"])
        if len(pairs) > _PHASES_MAX:
            raise InvalidInput("the argument cannot be used", [f"transitions: are more than {_PHASES_MAX}"])
        await self._backend.declare(agent_type, sorted(pairs))

    async def transitions(self, agent_type: str) -> dict[str, tuple[str, ...]]:
        """Return the declared transitions of a type; empty when none are declared."""
        declared: dict[str, tuple[str, ...]] = {}
        for old, new in await self._backend.transitions(check_text("agent_type", agent_type, most=_TYPE_MAX)):
            declared[old] = (*declared.get(old, ()), new)
        return declared

    async def _labelled(self, agent_id: str, label: str) -> int:
        version = await self._backend.checkpoint_version(_agent_id(agent_id), check_text("label", label))
        if version is None:
            raise NotFound(f"the agent has no checkpoint {label!r}")
        return version

    async def _saved(self, new: NewState, value: Json) -> int:
        result = await self._backend.save(new)
        if result.version is not None:
            known = _Known(result.version, new.checksum, new.text, value, None)
            self._memory.put(new.agent_id, known, len(new.text) * _TREE_SIZE)
            return result.version
        self._memory.forget(new.agent_id)
        if not result.allowed:
            old = result.found_phase or ""
            raise InvalidInput(
                "the transition is not declared",
                [f"phase: agents of type {new.agent_type!r} may not go from {old!r} to {new.phase or ''!r}"],
            )
        if new.expected_version == 0:
            raise Conflict(f"the agent has version {result.found_version} already")
        raise Conflict(f"the agent has version {result.found_version}, not {new.expected_version}")

    def _past(self, agent_id: str, value: Json) -> Past | None:
        known = self._memory.get(agent_id)
        if known is None:
            return None
        # What was loaded is the caller's now and may be changed; what was saved is a copy of the caller's.
        old = documents.decode(known.text) if known.value is None else known.value
        return past_of(known.checksum, known.version, old, known.text, value)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is remembered of an agent's latest version: its sorted text, and its value or the text that was read."""

    version: int
    checksum: str
    text: str
    value: Json
    raw: str | bytes | None


def _agent_id(agent_id: str) -> str:
    return check_text("agent_id", agent_id)


def _checked_state(state: Document) -> tuple[Json, str]:
    """Return a state's settled value and its sorted text."""
    if not isinstance(state, Mapping):
        raise InvalidInput("the argument cannot be used", [f"state: must be an object, not {type(state).__name__}"])
    value = documents.canonical(state, "state")
    text = sorted_text(value)
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput("the argument cannot be used", ["state: holds a lone surrogate"]) from None
    if size > DOCUMENT_BYTES_MAX:
        raise InvalidInput(
            "the argument cannot be used", [f"state: has {size} bytes as JSON, at most {DOCUMENT_BYTES_MAX} fit"]
        )
    return value, text
