"""States of agents in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Final

from storagelib import documents
from storagelib.clocks import from_microseconds, to_microseconds
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
from storagelib.sqlite.agent_threads import SqliteAgentThreads
from storagelib.sqlite.engine import reads, reads_together, writes

__all__ = ["SqliteAgentState"]

_LATEST: Final = (
    "agent_id, agent_type, data_version, schema_version, session_id, phase, checksum, created_at, updated_at"
)
_OLD = "SELECT data_version, phase, checksum, state_data FROM agent_states WHERE tenant_id = ? AND agent_id = ?"
_CURRENT = f"SELECT {_LATEST}, state_data FROM agent_states WHERE tenant_id = ? AND agent_id = ?"
_KEEP = """
INSERT INTO agent_state_history
    (tenant_id, agent_id, version, saved_at, schema_version, is_delta, agent_type, session_id, phase, checksum, content)
SELECT tenant_id, agent_id, data_version, updated_at, schema_version, :is_delta, agent_type, session_id, phase,
       :checksum, :content
  FROM agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id"""
_SAVE = """
INSERT INTO agent_states (tenant_id, agent_id, state_id, agent_type, state_data, schema_version, data_version, checksum,
                          session_id, phase, created_at, updated_at)
VALUES (:tenant, :agent_id, :state_id, :agent_type, :text, :schema_version, :version, :checksum,
        :session_id, :phase, :now, :now)
ON CONFLICT (tenant_id, agent_id) DO UPDATE SET
    agent_type = excluded.agent_type, state_data = excluded.state_data, schema_version = excluded.schema_version,
    data_version = excluded.data_version, checksum = excluded.checksum, session_id = excluded.session_id,
    phase = excluded.phase, updated_at = excluded.updated_at"""
_PAST = """
SELECT h.agent_id, h.agent_type, h.version, h.schema_version, h.session_id, h.phase, lower(hex(h.checksum)),
       s.created_at, h.saved_at, {more}
  FROM {table} AS h JOIN agent_states AS s ON s.tenant_id = h.tenant_id AND s.agent_id = h.agent_id
 WHERE h.tenant_id = ? AND h.agent_id = ?"""
_STEPS = f"""{_PAST.format(table="agent_state_history", more="h.content, h.is_delta")}
   AND h.version BETWEEN ? AND ? ORDER BY h.version"""
_LABELLED = f"""{_PAST.format(table="agent_state_checkpoints", more="h.content")} AND h.version = ? LIMIT 1"""
_VERSIONS = f"""
SELECT {_LATEST} FROM agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id AND data_version < :before
UNION ALL
SELECT h.agent_id, h.agent_type, h.version, h.schema_version, h.session_id, h.phase, lower(hex(h.checksum)),
       s.created_at, h.saved_at
  FROM agent_state_history AS h JOIN agent_states AS s ON s.tenant_id = h.tenant_id AND s.agent_id = h.agent_id
 WHERE h.tenant_id = :tenant AND h.agent_id = :agent_id AND h.version < :before
 ORDER BY 3 DESC LIMIT :limit"""
_AGENTS = f"""
SELECT {_LATEST} FROM agent_states
 WHERE tenant_id = ?1 AND agent_id > ?2 AND (?3 IS NULL OR agent_type = ?3) AND (?4 IS NULL OR session_id = ?4)
   AND (?5 IS NULL OR phase = ?5) AND (?6 IS NULL OR updated_at >= ?6) ORDER BY agent_id LIMIT ?7"""
_ADD = """
INSERT INTO agent_state_checkpoints (tenant_id, agent_id, label, version, saved_at, created_at, schema_version,
                                     agent_type, session_id, phase, checksum, content, metadata)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"""
_LABEL = "SELECT version FROM agent_state_checkpoints WHERE tenant_id = ? AND agent_id = ? AND label = ?"
_CHECKPOINTS = """
SELECT agent_id, label, version, metadata, created_at FROM agent_state_checkpoints
 WHERE tenant_id = ? AND agent_id = ? AND label > ? ORDER BY label LIMIT ?"""
_DELETE_LABEL = "DELETE FROM agent_state_checkpoints WHERE tenant_id = ? AND agent_id = ? AND label = ?"
_DELETES = tuple(
    f"DELETE FROM {table} WHERE tenant_id = ? AND agent_id = ?"
    for table in ("agent_state_history", "agent_state_checkpoints", "agent_states")
)
_YOUNGEST = """
SELECT min(version) FROM agent_state_history WHERE tenant_id = ? AND agent_id = ? AND saved_at >= ?"""
_PRUNE = "DELETE FROM {} WHERE tenant_id = ? AND agent_id = ? AND version <= ?"
_COPIES = (
    """
INSERT INTO agent_state_history
SELECT tenant_id, :new_id, version, saved_at, schema_version, is_delta, agent_type, session_id, phase, checksum, content
  FROM agent_state_history WHERE tenant_id = :tenant AND agent_id = :agent_id""",
    """
INSERT INTO agent_state_checkpoints
SELECT tenant_id, :new_id, label, version, saved_at, created_at, schema_version, agent_type, session_id, phase, checksum,
       content, metadata
  FROM agent_state_checkpoints WHERE tenant_id = :tenant AND agent_id = :agent_id""",
)
_COPY = """
INSERT INTO agent_states (tenant_id, agent_id, state_id, agent_type, state_data, schema_version, data_version, checksum,
                          session_id, phase, created_at, updated_at)
SELECT tenant_id, :new_id, :state_id, agent_type, state_data, schema_version, iif(:history, data_version, 1), checksum,
       session_id, phase, iif(:history, created_at, :now), iif(:history, updated_at, :now)
  FROM agent_states WHERE tenant_id = :tenant AND agent_id = :agent_id ON CONFLICT DO NOTHING"""
_FORGET = "DELETE FROM agent_transitions WHERE tenant_id = ? AND agent_type = ?"
_DECLARE = "INSERT INTO agent_transitions (tenant_id, agent_type, from_phase, to_phase) VALUES (?, ?, ?, ?)"
_TRANSITIONS = """
SELECT from_phase, to_phase FROM agent_transitions WHERE tenant_id = ? AND agent_type = ? ORDER BY from_phase, to_phase"""
_NO_BEFORE: Final = 2**63 - 1


class SqliteAgentState(SqliteAgentThreads):
    """See ``AgentStateBackend``."""

    @writes
    def save(self, database: Connection, new: NewState) -> SaveResult:
        """Save a version if the expected one is there and the transition is declared, keeping the one it replaces."""
        old = database.execute(_OLD, (self.tenant_id, new.agent_id)).fetchone()
        version, phase = (0, None) if old is None else old[:2]
        entered = new.phase if new.restores else new.phase or phase
        if new.expected_version not in {None, version}:
            return SaveResult(None, version, phase)
        if not new.restores:
            declared = database.execute(_TRANSITIONS, (self.tenant_id, new.agent_type))
            if not transition_allowed(declared, phase, entered):
                return SaveResult(None, version, phase, allowed=False)
        if old is not None:
            _, _, checksum, text = old
            content, is_delta = kept_past(new.past, version, checksum, text)
            kept = {"tenant": self.tenant_id, "agent_id": new.agent_id, "is_delta": is_delta, "content": content}
            database.execute(_KEEP, {**kept, "checksum": bytes.fromhex(checksum)})
        values = {
            "tenant": self.tenant_id,
            "agent_id": new.agent_id,
            "state_id": str(uuid7()),
            "agent_type": new.agent_type,
            "text": new.text,
            "schema_version": new.schema_version,
            "version": version + 1,
            "checksum": new.checksum,
            "session_id": new.session_id,
            "phase": entered,
            "now": self.engine.now(),
        }
        database.execute(_SAVE, values)
        return SaveResult(version + 1, version, phase)

    @reads
    def current(self, database: Connection, agent_id: str) -> tuple[AgentVersion, str] | None:
        """Return the latest version and its state as JSON text."""
        row = database.execute(_CURRENT, (self.tenant_id, agent_id)).fetchone()
        return None if row is None else (_version(row), row[-1])

    @reads_together
    def steps(self, database: Connection, agent_id: str, version: int) -> list[Step]:
        """Return the steps from a version to the next one that is kept in full."""
        return self._steps(database, agent_id, version)

    @reads
    def versions(self, database: Connection, agent_id: str, before: int | None, limit: int) -> list[AgentVersion]:
        """Return up to ``limit`` kept versions below ``before``, newest first."""
        bounds = {
            "tenant": self.tenant_id,
            "agent_id": agent_id,
            "before": _NO_BEFORE if before is None else before,
            "limit": limit,
        }
        return [_version(row) for row in database.execute(_VERSIONS, bounds)]

    @reads
    def agents(
        self,
        database: Connection,
        agent_type: str | None,
        session_id: str | None,
        phase: str | None,
        since: datetime | None,
        after: str | None,
        limit: int,
    ) -> list[AgentVersion]:
        """Return the latest versions of up to ``limit`` agents, by id."""
        moment = None if since is None else to_microseconds(since)
        bounds = (self.tenant_id, after or "", agent_type, session_id, phase, moment, limit)
        return [_version(row) for row in database.execute(_AGENTS, bounds)]

    @writes
    def add_checkpoint(self, database: Connection, new: NewCheckpoint) -> bool | None:
        """Keep a checkpoint; None when the version is not there with this checksum, False when the label is taken."""
        wanted = new.version
        first = self._steps(database, new.agent_id, wanted.version)[:1]
        if not any(step.version.checksum == wanted.checksum for step in first):
            return None
        row = (
            self.tenant_id,
            new.agent_id,
            new.label,
            wanted.version,
            to_microseconds(wanted.updated_at),
            self.engine.now(),
            wanted.schema_version,
            wanted.agent_type,
            wanted.session_id,
            wanted.phase,
            bytes.fromhex(wanted.checksum),
            new.content,
            new.metadata,
        )
        return database.execute(_ADD, row).rowcount == 1

    @reads
    def checkpoint_version(self, database: Connection, agent_id: str, label: str) -> int | None:
        """Return the version that a label stands for."""
        row = database.execute(_LABEL, (self.tenant_id, agent_id, label)).fetchone()
        return None if row is None else row[0]

    @reads
    def checkpoints(self, database: Connection, agent_id: str, after: str | None, limit: int) -> list[AgentCheckpoint]:
        """Return up to ``limit`` checkpoints with labels greater than ``after``, by label."""
        rows = database.execute(_CHECKPOINTS, (self.tenant_id, agent_id, after or "", limit))
        return [
            AgentCheckpoint(agent, label, version, documents.decode(metadata), from_microseconds(created_at))
            for agent, label, version, metadata, created_at in rows
        ]

    @writes
    def delete_checkpoint(self, database: Connection, agent_id: str, label: str) -> bool:
        """Remove a checkpoint; tell whether it was there."""
        return database.execute(_DELETE_LABEL, (self.tenant_id, agent_id, label)).rowcount == 1

    @writes
    def delete(self, database: Connection, agent_id: str) -> bool:
        """Remove an agent with its versions and checkpoints; tell whether it was there."""
        counts = [database.execute(statement, (self.tenant_id, agent_id)).rowcount for statement in _DELETES]
        return counts[-1] == 1

    @writes
    def prune(
        self,
        database: Connection,
        agent_id: str,
        keep_last: int,
        older_than: datetime | None,
        keep_checkpoints: bool,
    ) -> int:
        """Remove the oldest versions; count them."""
        old = database.execute(_OLD, (self.tenant_id, agent_id)).fetchone()
        if old is None:
            return 0
        last = old[0] - keep_last
        if older_than is not None:
            bounds = (self.tenant_id, agent_id, to_microseconds(older_than))
            (youngest,) = database.execute(_YOUNGEST, bounds).fetchone()
            last = last if youngest is None else min(last, youngest - 1)
        if not keep_checkpoints:
            database.execute(_PRUNE.format("agent_state_checkpoints"), (self.tenant_id, agent_id, last))
        return database.execute(_PRUNE.format("agent_state_history"), (self.tenant_id, agent_id, last)).rowcount

    @writes
    def copy(self, database: Connection, agent_id: str, new_id: str, history: bool) -> bool | None:
        """Copy an agent; None when it is not there, False when the new id is taken."""
        if database.execute(_OLD, (self.tenant_id, agent_id)).fetchone() is None:
            return None
        same = {"tenant": self.tenant_id, "agent_id": agent_id, "new_id": new_id}
        values = {**same, "state_id": str(uuid7()), "history": history, "now": self.engine.now()}
        if database.execute(_COPY, values).rowcount == 0:
            return False
        if history:
            for statement in _COPIES:
                database.execute(statement, same)
        return True

    @writes
    def declare(self, database: Connection, agent_type: str, transitions: list[tuple[str, str]]) -> None:
        """Replace the declared transitions of a type; none take the declaration back."""
        database.execute(_FORGET, (self.tenant_id, agent_type))
        database.executemany(_DECLARE, [(self.tenant_id, agent_type, *pair) for pair in transitions])

    @reads
    def transitions(self, database: Connection, agent_type: str) -> list[tuple[str, str]]:
        """Return the declared transitions of a type, in order of their code points."""
        return database.execute(_TRANSITIONS, (self.tenant_id, agent_type)).fetchall()

    def _steps(self, database: Connection, agent_id: str, version: int) -> list[Step]:
        labelled = database.execute(_LABELLED, (self.tenant_id, agent_id, version)).fetchone()
        if labelled is not None:
            return [Step(_version(labelled[:-1]), labelled[-1], is_delta=False)]
        rows: Iterable[tuple[Any, ...]] = database.execute(
            _STEPS, (self.tenant_id, agent_id, version, snapshot_from(version))
        )
        steps: list[Step] = []
        for *row, content, is_delta in rows:
            steps.append(Step(_version(row), content, bool(is_delta)))
            if steps[-1].version.version != version + len(steps) - 1:
                return []
            if not is_delta:
                return steps
        current = database.execute(_CURRENT, (self.tenant_id, agent_id)).fetchone()
        if current is not None and current[2] == version + len(steps):
            steps.append(Step(_version(current[:-1]), current[-1].encode(), is_delta=False))
        return steps


def _version(row: Sequence[Any]) -> AgentVersion:
    created_at, updated_at = row[7:9]
    return make_version(*row[:7], from_microseconds(created_at), from_microseconds(updated_at))
