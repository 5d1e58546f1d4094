# Made from storagelib/_async/postgres/agent_state.py by scripts/sync; change that file instead.
"""States of agents in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from storage_sql.queries import load
from storagelib import documents
from storagelib._sync.postgres.agent_threads import PostgresAgentThreads
from storagelib.components.agent_state import (
    SNAPSHOT_EVERY,
    AgentCheckpoint,
    AgentVersion,
    NewCheckpoint,
    NewState,
    SaveResult,
    Step,
    make_version,
    snapshot_from,
)
from storagelib.errors import Conflict
from storagelib.limits import INTEGER_MAX

__all__ = ["PostgresAgentState"]

_QUERIES = load("agent_state")
_SAVE, _CURRENT = _QUERIES["save"], _QUERIES["current"]
_ATTEMPTS: Final = 10


class PostgresAgentState(PostgresAgentThreads):
    """See ``AgentStateBackend``."""

    def save(self, new: NewState) -> SaveResult:
        """Save a version if the expected one is there and the transition is declared, keeping the one it replaces."""
        past = new.past
        for _ in range(_ATTEMPTS):
            ((version, found, phase, allowed, fresh),) = self._database.fetch(
                _SAVE,
                agent_id=new.agent_id,
                agent_type=new.agent_type,
                state=new.text,
                checksum=new.checksum,
                schema_version=new.schema_version,
                session_id=new.session_id,
                phase=new.phase,
                restores=new.restores,
                expected=new.expected_version,
                past_checksum=None if past is None else past.checksum,
                past=None if past is None else past.content,
                past_is_delta=past is not None and past.is_delta,
                snapshot_every=SNAPSHOT_EVERY,
            )
            if version is not None or not fresh or not allowed:
                return SaveResult(version, found, phase, allowed=allowed or not fresh)
        raise Conflict("the agent is made and deleted by others all the time")

    def current(self, agent_id: str) -> tuple[AgentVersion, str] | None:
        """Return the latest version and its state as JSON text."""
        rows = self._database.fetch(_CURRENT, agent_id=agent_id)
        return (make_version(*rows[0][:-1]), rows[0][-1]) if rows else None

    def steps(self, agent_id: str, version: int) -> list[Step]:
        """Return the steps from a version to the next one that is kept in full."""
        rows = self._database.fetch(_QUERIES["steps"], agent_id=agent_id, version=version, last=snapshot_from(version))
        steps: list[Step] = []
        for *row, content, is_delta, _ in rows:
            steps.append(Step(make_version(*row), content, is_delta))
            if steps[-1].version.version != version + len(steps) - 1:
                return []
            if not is_delta:
                break
        return steps

    def versions(self, agent_id: str, before: int | None, limit: int) -> list[AgentVersion]:
        """Return up to ``limit`` kept versions below ``before``, newest first."""
        bound = INTEGER_MAX if before is None else before
        rows = self._database.fetch(_QUERIES["versions"], agent_id=agent_id, before=bound, most=limit)
        return [make_version(*row) for row in rows]

    def agents(
        self,
        agent_type: str | None,
        session_id: str | None,
        phase: str | None,
        since: datetime | None,
        after: str | None,
        limit: int,
    ) -> list[AgentVersion]:
        """Return the latest versions of up to ``limit`` agents, by id."""
        query = _QUERIES["agents"].variant(
            agent_type=agent_type is not None,
            session_id=session_id is not None,
            phase=phase is not None,
            since=since is not None,
        )
        rows = self._database.fetch(
            query,
            agent_type=agent_type,
            session_id=session_id,
            phase=phase,
            since=since,
            after=after or "",
            most=limit,
        )
        return [make_version(*row) for row in rows]

    def add_checkpoint(self, new: NewCheckpoint) -> bool | None:
        """Keep a checkpoint; None when the version is not there with this checksum, False when the label is taken."""
        wanted = new.version
        values = {
            "agent_id": new.agent_id,
            "label": new.label,
            "version": wanted.version,
            "checksum": wanted.checksum,
            "saved_at": wanted.updated_at,
            "schema_version": wanted.schema_version,
            "agent_type": wanted.agent_type,
            "session_id": wanted.session_id,
            "phase": wanted.phase,
            "content": new.content,
            "metadata": new.metadata,
        }
        _, ((there, made),) = self._database.run(
            [(_QUERIES["hold"], {"agent_id": new.agent_id}), (_QUERIES["add_checkpoint"], values)]
        )
        return made if there else None

    def checkpoint_version(self, agent_id: str, label: str) -> int | None:
        """Return the version that a label stands for."""
        rows = self._database.fetch(_QUERIES["checkpoint_version"], agent_id=agent_id, label=label)
        return rows[0][0] if rows else None

    def checkpoints(self, agent_id: str, after: str | None, limit: int) -> list[AgentCheckpoint]:
        """Return up to ``limit`` checkpoints with labels greater than ``after``, by label."""
        rows = self._database.fetch(_QUERIES["checkpoints"], agent_id=agent_id, after=after or "", most=limit)
        return [
            AgentCheckpoint(agent, label, version, documents.decode(metadata), created_at)
            for agent, label, version, metadata, created_at in rows
        ]

    def delete_checkpoint(self, agent_id: str, label: str) -> bool:
        """Remove a checkpoint; tell whether it was there."""
        return bool(self._database.fetch(_QUERIES["delete_checkpoint"], agent_id=agent_id, label=label))

    def delete(self, agent_id: str) -> bool:
        """Remove an agent with its versions and checkpoints; tell whether it was there."""
        same = {"agent_id": agent_id}
        gone, _ = self._database.run([(_QUERIES["delete"], same), (_QUERIES["delete_rest"], same)])
        return bool(gone)

    def prune(self, agent_id: str, keep_last: int, older_than: datetime | None, keep_checkpoints: bool) -> int:
        """Remove the oldest versions; count them."""
        rows = self._database.fetch(
            _QUERIES["prune"],
            agent_id=agent_id,
            keep_last=keep_last,
            older_than=older_than,
            keep_checkpoints=keep_checkpoints,
        )
        return int(rows[0][0])

    def copy(self, agent_id: str, new_id: str, history: bool) -> bool | None:
        """Copy an agent; None when it is not there, False when the new id is taken."""
        ((there, made),) = self._database.fetch(_QUERIES["copy"], agent_id=agent_id, new_id=new_id, history=history)
        return made if there else None

    def declare(self, agent_type: str, transitions: list[tuple[str, str]]) -> None:
        """Replace the declared transitions of a type; none take the declaration back."""
        same = {"agent_type": agent_type}
        if not transitions:
            # Only removes, so that it is possible over the quota.
            self._database.fetch(_QUERIES["forget_transitions"], **same)
            return
        declared = {
            **same,
            "from_phases": [old for old, _ in transitions],
            "to_phases": [new for _, new in transitions],
        }
        self._database.run(
            [
                (_QUERIES["guard_transitions"], same),
                (_QUERIES["forget_transitions"], same),
                (_QUERIES["declare_transitions"], declared),
            ]
        )

    def transitions(self, agent_type: str) -> list[tuple[str, str]]:
        """Return the declared transitions of a type, in order of their code points."""
        return [(old, new) for old, new in self._database.fetch(_QUERIES["transitions"], agent_type=agent_type)]
