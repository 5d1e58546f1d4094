"""States of agents in memory."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from storagelib import documents
from storagelib.components.agent_state import (
    AgentCheckpoint,
    AgentVersion,
    NewCheckpoint,
    NewState,
    SaveResult,
    Step,
    kept_past,
    make_version,
    snapshot_from,
    transition_allowed,
)
from storagelib.identifiers import uuid7
from storagelib.memory.agent_threads import MemoryAgentThreads
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryAgentState"]


class MemoryAgentState(MemoryAgentThreads):
    """See ``AgentStateBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        super().__init__(space)
        self._states = space.table("agent_states")
        self._history = space.table("agent_state_history")
        self._kept = space.table("agent_state_checkpoints")
        self._transitions = space.table("agent_transitions")

    def save(self, new: NewState) -> SaveResult:
        """Save a version if the expected one is there and the transition is declared, keeping the one it replaces."""
        with self._space.transaction():
            old, now = self._states.get(new.agent_id), self._space.now()
            version, phase = (0, None) if old is None else (old["data_version"], old["phase"])
            entered = new.phase if new.restores else new.phase or phase
            if new.expected_version not in {None, version}:
                return SaveResult(None, version, phase)
            if not new.restores and not transition_allowed(self.transitions(new.agent_type), phase, entered):
                return SaveResult(None, version, phase, allowed=False)
            if old is not None:
                self._keep(new, old)
            self._states.put(
                (new.agent_id,),
                {
                    "agent_id": new.agent_id,
                    "state_id": uuid7() if old is None else old["state_id"],
                    "agent_type": new.agent_type,
                    "state_data": new.text,
                    "schema_version": new.schema_version,
                    "data_version": version + 1,
                    "checksum": new.checksum,
                    "session_id": new.session_id,
                    "phase": entered,
                    "created_at": now if old is None else old["created_at"],
                    "updated_at": now,
                },
            )
            return SaveResult(version + 1, version, phase)

    def current(self, agent_id: str) -> tuple[AgentVersion, str] | None:
        """Return the latest version and its state as JSON text."""
        with self._space.transaction():
            row = self._states.get(agent_id)
            return None if row is None else (_latest(row), row["state_data"])

    def steps(self, agent_id: str, version: int) -> list[Step]:
        """Return the steps from a version to the next one that is kept in full."""
        with self._space.transaction():
            current = self._states.get(agent_id)
            if current is None:
                return []
            for (kept_agent, _), row in self._kept.rows.items():
                if kept_agent == agent_id and row["version"] == version:
                    return [Step(_older(agent_id, row, current), row["content"], is_delta=False)]
            steps: list[Step] = []
            for number in range(version, snapshot_from(version) + 1):
                if number == current["data_version"]:
                    return [*steps, Step(_latest(current), current["state_data"].encode(), is_delta=False)]
                past = self._history.get(agent_id, number)
                if past is None:
                    break
                steps.append(Step(_older(agent_id, past, current), past["content"], past["is_delta"]))
                if not past["is_delta"]:
                    break
            return steps

    def versions(self, agent_id: str, before: int | None, limit: int) -> list[AgentVersion]:
        """Return up to ``limit`` kept versions below ``before``, newest first."""
        with self._space.transaction():
            current = self._states.get(agent_id)
            if current is None:
                return []
            found = [_latest(current)]
            found += [
                _older(agent_id, row, current) for (agent, _), row in self._history.rows.items() if agent == agent_id
            ]
            below = [version for version in found if before is None or version.version < before]
            return sorted(below, key=lambda version: -version.version)[:limit]

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
        with self._space.transaction():
            found = (
                _latest(row)
                for (agent_id,), row in self._states.ordered()
                if (after is None or agent_id > after)
                and (agent_type is None or row["agent_type"] == agent_type)
                and (session_id is None or row["session_id"] == session_id)
                and (phase is None or row["phase"] == phase)
                and (since is None or row["updated_at"] >= since)
            )
            return [version for version, _ in zip(found, range(limit), strict=False)]

    def add_checkpoint(self, new: NewCheckpoint) -> bool | None:
        """Keep a checkpoint; None when the version is not there with this checksum, False when the label is taken."""
        with self._space.transaction():
            wanted = new.version
            if not any(
                step.version.checksum == wanted.checksum for step in self.steps(new.agent_id, wanted.version)[:1]
            ):
                return None
            if self._kept.get(new.agent_id, new.label) is not None:
                return False
            self._kept.put(
                (new.agent_id, new.label),
                {
                    "agent_id": new.agent_id,
                    "label": new.label,
                    "version": wanted.version,
                    "saved_at": wanted.updated_at,
                    "created_at": self._space.now(),
                    "schema_version": wanted.schema_version,
                    "agent_type": wanted.agent_type,
                    "session_id": wanted.session_id,
                    "phase": wanted.phase,
                    "checksum": bytes.fromhex(wanted.checksum),
                    "content": new.content,
                    "metadata": new.metadata,
                },
            )
            return True

    def checkpoint_version(self, agent_id: str, label: str) -> int | None:
        """Return the version that a label stands for."""
        with self._space.transaction():
            row = self._kept.get(agent_id, label)
            return None if row is None else row["version"]

    def checkpoints(self, agent_id: str, after: str | None, limit: int) -> list[AgentCheckpoint]:
        """Return up to ``limit`` checkpoints with labels greater than ``after``, by label."""
        with self._space.transaction():
            found = [
                AgentCheckpoint(agent_id, label, row["version"], documents.decode(row["metadata"]), row["created_at"])
                for (agent, label), row in self._kept.ordered()
                if agent == agent_id and (after is None or label > after)
            ]
            return found[:limit]

    def delete_checkpoint(self, agent_id: str, label: str) -> bool:
        """Remove a checkpoint; tell whether it was there."""
        with self._space.transaction():
            return self._kept.delete(agent_id, label)

    def delete(self, agent_id: str) -> bool:
        """Remove an agent with its versions and checkpoints; tell whether it was there."""
        with self._space.transaction():
            for table in (self._history, self._kept):
                for key in [key for key in table.rows if key[0] == agent_id]:
                    table.delete(*key)
            return self._states.delete(agent_id)

    def prune(self, agent_id: str, keep_last: int, older_than: datetime | None, keep_checkpoints: bool) -> int:
        """Remove the oldest versions; count them."""
        with self._space.transaction():
            current = self._states.get(agent_id)
            if current is None:
                return 0
            numbers = [(number, row) for (agent, number), row in self._history.rows.items() if agent == agent_id]
            last = current["data_version"] - keep_last
            if older_than is not None:
                younger = [number for number, row in numbers if row["saved_at"] >= older_than]
                last = min([last, *(number - 1 for number in younger)])
            gone = [number for number, _ in numbers if number <= last]
            for number in gone:
                self._history.delete(agent_id, number)
            if not keep_checkpoints:
                for key, row in list(self._kept.rows.items()):
                    if key[0] == agent_id and row["version"] <= last:
                        self._kept.delete(*key)
            return len(gone)

    def copy(self, agent_id: str, new_id: str, history: bool) -> bool | None:
        """Copy an agent; None when it is not there, False when the new id is taken."""
        with self._space.transaction():
            row = self._states.get(agent_id)
            if row is None:
                return None
            if self._states.get(new_id) is not None:
                return False
            now = self._space.now()
            changed: dict[str, Any] = {"agent_id": new_id, "state_id": uuid7()}
            if not history:
                changed |= {"data_version": 1, "created_at": now, "updated_at": now}
            self._states.put((new_id,), {**row, **changed})
            if history:
                for table in (self._history, self._kept):
                    for key, past in [entry for entry in table.rows.items() if entry[0][0] == agent_id]:
                        table.put((new_id, *key[1:]), {**past, "agent_id": new_id})
            return True

    def declare(self, agent_type: str, transitions: list[tuple[str, str]]) -> None:
        """Replace the declared transitions of a type; none take the declaration back."""
        with self._space.transaction():
            for key in [key for key in self._transitions.rows if key[0] == agent_type]:
                self._transitions.delete(*key)
            for old, new in transitions:
                row = {"agent_type": agent_type, "from_phase": old, "to_phase": new}
                self._transitions.put((agent_type, old, new), row)

    def transitions(self, agent_type: str) -> list[tuple[str, str]]:
        """Return the declared transitions of a type, in order of their code points."""
        with self._space.transaction():
            return sorted((old, new) for kind, old, new in self._transitions.rows if kind == agent_type)

    def _keep(self, new: NewState, old: Row) -> None:
        content, is_delta = kept_past(new.past, old["data_version"], old["checksum"], old["state_data"])
        self._history.put(
            (new.agent_id, old["data_version"]),
            {
                "agent_id": new.agent_id,
                "version": old["data_version"],
                "saved_at": old["updated_at"],
                "schema_version": old["schema_version"],
                "is_delta": is_delta,
                "agent_type": old["agent_type"],
                "session_id": old["session_id"],
                "phase": old["phase"],
                "checksum": bytes.fromhex(old["checksum"]),
                "content": content,
            },
        )


def _latest(row: Row) -> AgentVersion:
    return make_version(
        row["agent_id"],
        row["agent_type"],
        row["data_version"],
        row["schema_version"],
        row["session_id"],
        row["phase"],
        row["checksum"],
        row["created_at"],
        row["updated_at"],
    )


def _older(agent_id: str, row: Row, current: Row) -> AgentVersion:
    return make_version(
        agent_id,
        row["agent_type"],
        row["version"],
        row["schema_version"],
        row["session_id"],
        row["phase"],
        row["checksum"].hex(),
        current["created_at"],
        row["saved_at"],
    )
