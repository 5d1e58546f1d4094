"""Transitions and procedures in SQLite."""

from __future__ import annotations

from sqlite3 import Connection
from typing import Any, Final

from storagelib import documents
from storagelib.clocks import from_microseconds
from storagelib.components import procedures as rules
from storagelib.components.procedures import (
    NewProcedure,
    NewTransition,
    Procedure,
    Sketch,
    Standing,
    Transition,
    Wanted,
    identity,
    pattern_id,
)
from storagelib.errors import Conflict
from storagelib.sqlite.engine import SqliteStore, reads, writes, writes_once

__all__ = ["SqliteProcedures"]

_OBSERVE = """
INSERT INTO procedural_patterns AS old
    (tenant_id, pattern_id, scope, key, value, first_seen, last_seen, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?6)
ON CONFLICT (tenant_id, scope, key, value) DO UPDATE SET frequency = old.frequency + 1, last_seen = ?6, updated_at = ?6
RETURNING frequency"""
_FREQUENCY = "SELECT frequency FROM procedural_patterns WHERE tenant_id = ? AND scope = ? AND key = ? AND value = ?"
# The digests that PostgreSQL keeps in a column are worked out here; who pages through many sorts all of them.
_PATTERNS = """
SELECT scope, key, value, frequency, first_seen, last_seen FROM procedural_patterns
 WHERE tenant_id = :tenant AND {wanted}
   AND (frequency < :most OR (frequency = :most AND pattern_identity(scope, key, value) > :after))
 ORDER BY frequency DESC, pattern_identity(scope, key, value) LIMIT :limit"""
_FORGET = "DELETE FROM procedural_patterns WHERE tenant_id = ? AND scope = ? AND key = ?"

_CONTENT: Final = "scope, steps, trigger_filter, provenance, embedding, prior, successes, failures, last_outcome_at"
_FOUND = "SELECT version, revision, superseded_by FROM procedures WHERE tenant_id = ? AND name = ?"
_KEEP = f"""
INSERT INTO procedure_versions (tenant_id, name, version, {_CONTENT}, saved_at)
SELECT tenant_id, name, version, {_CONTENT}, updated_at FROM procedures WHERE tenant_id = ? AND name = ?"""
_SAVE = f"""
INSERT INTO procedures AS old (tenant_id, name, version, {_CONTENT}, created_at, updated_at)
VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, NULL, ?9, ?9)
ON CONFLICT (tenant_id, name) DO UPDATE SET
    version = old.version + 1, revision = old.revision + 1, updated_at = ?9, scope = excluded.scope, steps = excluded.steps,
    trigger_filter = excluded.trigger_filter, provenance = excluded.provenance, embedding = excluded.embedding,
    prior = excluded.prior, successes = 0, failures = 0, last_outcome_at = NULL"""
_ROLLBACK = f"""
UPDATE procedures SET version = version + 1, revision = revision + 1, updated_at = :now, ({_CONTENT}) = (
    SELECT {_CONTENT} FROM procedure_versions AS v WHERE v.tenant_id = :tenant AND v.name = :name AND v.version = :version)
 WHERE tenant_id = :tenant AND name = :name"""
_HAS_VERSION = "SELECT 1 FROM procedure_versions WHERE tenant_id = ? AND name = ? AND version = ?"
_READ: Final = (
    "{0}.steps, {0}.trigger_filter, {0}.provenance, {0}.prior, {0}.successes, {0}.failures, {0}.last_outcome_at"
)
_CURRENT = f"""
SELECT p.name, p.version, p.scope, {_READ.format("p")}, p.superseded_by, p.created_at, p.updated_at
  FROM procedures AS p WHERE p.tenant_id = :tenant"""
_PAST = f"""
SELECT p.name, v.version, v.scope, {_READ.format("v")}, p.superseded_by, p.created_at, v.saved_at
  FROM procedures AS p JOIN procedure_versions AS v ON v.tenant_id = p.tenant_id AND v.name = p.name
 WHERE p.tenant_id = :tenant"""
_VERSIONS = f"""
SELECT * FROM ({_CURRENT} AND p.name = :name AND p.version < :before
UNION ALL {_PAST} AND p.name = :name AND v.version < :before) ORDER BY 2 DESC LIMIT :limit"""
_SUPERSEDE = "UPDATE procedures SET superseded_by = ?, revision = revision + 1 WHERE tenant_id = ? AND name = ?"
_COUNT = """
UPDATE {table} SET {counter} = {counter} + 1, {revision} last_outcome_at = max(coalesce(last_outcome_at, :now), :now)
 WHERE tenant_id = :tenant AND name = :name {chosen} RETURNING version, prior, successes, failures, last_outcome_at"""
_SKETCHES = """
SELECT name, revision, {0}, prior, successes, failures, last_outcome_at, updated_at
  FROM procedures AS p WHERE tenant_id = :tenant AND name > :after {1} ORDER BY name LIMIT :limit"""
_KINDS: Final = {
    "any": ("NULL, NULL", ""),
    "trigger": ("trigger_filter, NULL", "AND superseded_by IS NULL AND trigger_filter IS NOT NULL"),
    "embedding": ("NULL, embedding", "AND superseded_by IS NULL AND length(embedding) = :size"),
}
_REMOVE = "DELETE FROM procedures WHERE tenant_id = ? AND name = ? AND revision = coalesce(?, revision)"


class SqliteProcedures(SqliteStore):
    """See ``ProceduresBackend``."""

    @writes_once
    def observe(self, database: Connection, seen: NewTransition) -> int:
        """Count a transition once more; return its frequency."""
        known = str(pattern_id(seen))
        values = (self.tenant_id, known, seen.scope, seen.key, seen.value, self.engine.now())
        ((frequency,),) = database.execute(_OBSERVE, values).fetchall()
        return int(frequency)

    @reads
    def frequency(self, database: Connection, seen: NewTransition) -> int:
        """Return how often a transition was seen."""
        row = database.execute(_FREQUENCY, (self.tenant_id, seen.scope, seen.key, seen.value)).fetchone()
        return 0 if row is None else int(row[0])

    @reads
    def transitions(
        self, database: Connection, scope: str, key: str, after: tuple[int, str], limit: int
    ) -> list[Transition]:
        """Return up to ``limit`` transitions of a key after this position."""
        bounds = {"scope": scope, "key": key, "most": after[0], "after": after[1], "limit": limit}
        return self._patterns(database, "scope = :scope AND key = :key", bounds)

    @reads
    def learned(
        self, database: Connection, scope: str | None, least: int, after: tuple[int, str], limit: int
    ) -> list[Transition]:
        """Return up to ``limit`` transitions that were seen ``least`` times."""
        bounds = {"scope": scope, "least": least, "most": after[0], "after": after[1], "limit": limit}
        in_scope = "" if scope is None else "AND scope = :scope"
        # The index of learned patterns is for three and more.
        enough = "AND frequency >= 3" if least >= rules.LEARNED_FROM else ""
        return self._patterns(database, f"frequency >= :least {enough} {in_scope}", bounds)

    @writes
    def forget(self, database: Connection, scope: str, key: str) -> int:
        """Remove the transitions of a key; count them."""
        return database.execute(_FORGET, (self.tenant_id, scope, key)).rowcount

    @writes
    def save(self, database: Connection, new: NewProcedure, expected: int | None) -> tuple[int, int | None]:
        """Save the next version; return the version found and the new one."""
        found = database.execute(_FOUND, (self.tenant_id, new.name)).fetchone()
        version = 0 if found is None else int(found[0])
        if expected is not None and expected != version:
            return version, None
        database.execute(_KEEP, (self.tenant_id, new.name))
        content = (new.scope, new.steps, new.trigger, new.provenance, new.embedding, new.prior)
        database.execute(_SAVE, (self.tenant_id, new.name, *content, self.engine.now()))
        return version, version + 1

    @reads
    def load(self, database: Connection, name: str, version: int | None) -> Procedure | None:
        """Return the current version, or another one."""
        bounds = {"tenant": self.tenant_id, "name": name, "version": version}
        if version is None:
            row = database.execute(f"{_CURRENT} AND p.name = :name", bounds).fetchone()
        else:
            query = f"{_CURRENT} AND p.name = :name AND p.version = :version UNION ALL {_PAST} AND p.name = :name AND v.version = :version"
            row = database.execute(query, bounds).fetchone()
        return None if row is None else self._procedure(row)

    @reads
    def versions(self, database: Connection, name: str, before: int, limit: int) -> list[Procedure]:
        """Return up to ``limit`` versions below ``before``, newest first."""
        bounds = {"tenant": self.tenant_id, "name": name, "before": before, "limit": limit}
        return [self._procedure(row) for row in database.execute(_VERSIONS, bounds)]

    @writes
    def rollback(self, database: Connection, name: str, version: int) -> tuple[int, int | None]:
        """Save an older version as the next one."""
        found = database.execute(_FOUND, (self.tenant_id, name)).fetchone()
        current = 0 if found is None else int(found[0])
        if database.execute(_HAS_VERSION, (self.tenant_id, name, version)).fetchone() is None:
            return current, None
        database.execute(_KEEP, (self.tenant_id, name))
        bounds = {"tenant": self.tenant_id, "name": name, "version": version, "now": self.engine.now()}
        database.execute(_ROLLBACK, bounds)
        return current, current + 1

    @writes
    def supersede(self, database: Connection, name: str, by: str | None) -> bool:
        """Set or clear what took a procedure's place; tell whether both are there."""
        wanted = [name] if by is None else [name, by]
        if any(database.execute(_FOUND, (self.tenant_id, each)).fetchone() is None for each in wanted):
            return False
        after, passed = by, set[str]()
        while after is not None and after not in passed:
            if after == name:
                raise Conflict("the procedure supersedes the other one already")
            passed.add(after)
            row = database.execute(_FOUND, (self.tenant_id, after)).fetchone()
            after = None if row is None else row[2]
        database.execute(_SUPERSEDE, (by, self.tenant_id, name))
        return True

    @writes
    def record_outcome(self, database: Connection, name: str, version: int | None, success: bool) -> Standing | None:
        """Count an outcome; None when the version is not there."""
        now = self.engine.now()
        bounds = {"tenant": self.tenant_id, "name": name, "version": version, "now": now}
        chosen = "" if version is None else "AND version = :version"
        counter = "successes" if success else "failures"
        query = _COUNT.format(table="procedures", counter=counter, revision="revision = revision + 1,", chosen=chosen)
        rows = database.execute(query, bounds).fetchall()
        if not rows and version is not None:
            query = _COUNT.format(table="procedure_versions", counter=counter, revision="", chosen=chosen)
            rows = database.execute(query, bounds).fetchall()
        return rules.standing([*rows[0][:4], *_times(*rows[0][4:], now)]) if rows else None

    @reads
    def listing(self, database: Connection, scope: str | None, after: str, limit: int) -> list[Procedure]:
        """Return up to ``limit`` procedures with names greater than ``after``, by name."""
        in_scope = "" if scope is None else "AND p.scope = :scope"
        bounds = {"tenant": self.tenant_id, "scope": scope, "after": after, "limit": limit}
        query = f"{_CURRENT} AND p.name > :after {in_scope} ORDER BY p.name LIMIT :limit"
        return [self._procedure(row) for row in database.execute(query, bounds)]

    @reads
    def sketches(self, database: Connection, wanted: Wanted, after: str, limit: int) -> list[Sketch]:
        """Return up to ``limit`` sketches with names greater than ``after``, by name."""
        in_scope = "" if wanted.scope is None else "AND scope = :scope"
        columns, condition = _KINDS[wanted.kind]
        bounds = {"tenant": self.tenant_id, "scope": wanted.scope, "size": wanted.size, "after": after, "limit": limit}
        rows = database.execute(_SKETCHES.format(columns, f"{condition} {in_scope}"), bounds)
        now = self.engine.now()
        return [rules.sketch([*row[:7], *_times(*row[7:], now)]) for row in rows]

    @reads
    def several(self, database: Connection, names: list[str]) -> list[Procedure]:
        """Return the current versions of these procedures."""
        query = f"{_CURRENT} AND p.name IN (SELECT value FROM json_each(:names))"
        rows = database.execute(query, {"tenant": self.tenant_id, "names": documents.encode(names)})
        return [self._procedure(row) for row in rows]

    @writes
    def remove(self, database: Connection, seen: list[tuple[str, int | None]]) -> int:
        """Remove procedures, their versions go with them, each only if it has this revision; count them."""
        return sum(database.execute(_REMOVE, (self.tenant_id, name, revision)).rowcount for name, revision in seen)

    def _patterns(self, database: Connection, wanted: str, bounds: dict[str, Any]) -> list[Transition]:
        database.create_function("pattern_identity", 3, identity, deterministic=True)
        rows = database.execute(_PATTERNS.format(wanted=wanted), {**bounds, "tenant": self.tenant_id})
        return [rules.transition([*row[:4], *_times(*row[4:])]) for row in rows]

    def _procedure(self, row: tuple[Any, ...]) -> Procedure:
        last, successor, *saved = row[9:]
        return rules.procedure([*row[:9], *_times(last), successor, *_times(*saved, self.engine.now())])


def _times(*moments: int | None) -> list[Any]:
    return [None if moment is None else from_microseconds(moment) for moment in moments]
