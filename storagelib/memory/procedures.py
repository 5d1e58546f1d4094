"""Transitions and procedures in memory."""

from __future__ import annotations

from typing import Any, Final

from storagelib.components import procedures as rules
from storagelib.components.procedures import (
    NewProcedure,
    NewTransition,
    Procedure,
    Sketch,
    Standing,
    Transition,
    Wanted,
    pattern_id,
)
from storagelib.errors import Conflict
from storagelib.memory.engine import MemorySpace, Row

__all__ = ["MemoryProcedures"]

_CONTENT: Final = ("scope", "steps", "trigger_filter", "provenance", "embedding", "prior")
_COUNTERS: Final = ("successes", "failures", "last_outcome_at")


class MemoryProcedures:
    """See ``ProceduresBackend``."""

    def __init__(self, space: MemorySpace) -> None:
        """Take the tenant's tables."""
        self._space = space
        self._patterns = space.table("procedural_patterns")
        self._current = space.table("procedures")
        self._past = space.table("procedure_versions")

    def observe(self, seen: NewTransition) -> int:
        """Count a transition once more; return its frequency."""
        with self._space.transaction():
            now, known = self._space.now(), pattern_id(seen)
            found = self._patterns.get(known)
            row: dict[str, Any] = (
                dict(found) if found is not None else {"frequency": 0, "first_seen": now, "created_at": now}
            )
            row |= {"pattern_id": known, "scope": seen.scope, "key": seen.key, "value": seen.value}
            row |= {"frequency": row["frequency"] + 1, "last_seen": now, "updated_at": now}
            self._patterns.put((known,), row)
            return int(row["frequency"])

    def frequency(self, seen: NewTransition) -> int:
        """Return how often a transition was seen."""
        with self._space.transaction():
            found = self._patterns.get(pattern_id(seen))
            return 0 if found is None else int(found["frequency"])

    def transitions(self, scope: str, key: str, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions of a key after this position."""
        with self._space.transaction():
            rows = [row for row in self._patterns.rows.values() if (row["scope"], row["key"]) == (scope, key)]
            return _ordered(rows, after, limit)

    def learned(self, scope: str | None, least: int, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions that were seen ``least`` times."""
        with self._space.transaction():
            rows = [
                row
                for row in self._patterns.rows.values()
                if row["frequency"] >= least and scope in {None, row["scope"]}
            ]
            return _ordered(rows, after, limit)

    def forget(self, scope: str, key: str) -> int:
        """Remove the transitions of a key; count them."""
        with self._space.transaction():
            gone = [known for known, row in self._patterns.rows.items() if (row["scope"], row["key"]) == (scope, key)]
            return sum(self._patterns.delete(*known) for known in gone)

    def save(self, new: NewProcedure, expected: int | None) -> tuple[int, int | None]:
        """Save the next version; return the version found and the new one."""
        with self._space.transaction():
            found = self._current.get(new.name)
            version = 0 if found is None else int(found["version"])
            if expected is not None and expected != version:
                return version, None
            content = (new.scope, new.steps, new.trigger, new.provenance, new.embedding, new.prior)
            written = dict(zip(_CONTENT, content, strict=True)) | {
                "successes": 0,
                "failures": 0,
                "last_outcome_at": None,
            }
            return version, self._replace(new.name, found, written)

    def load(self, name: str, version: int | None) -> Procedure | None:
        """Return the current version, or another one."""
        with self._space.transaction():
            current = self._current.get(name)
            if current is None or version in {None, current["version"]}:
                return None if current is None else self._procedure(current)
            past = self._past.get(name, version)
            return None if past is None else self._procedure(current, past)

    def versions(self, name: str, before: int, limit: int) -> list[Procedure]:
        """Return up to ``limit`` versions below ``before``, newest first."""
        with self._space.transaction():
            current = self._current.get(name)
            numbers = range(min(before, 0 if current is None else current["version"] + 1) - 1, 0, -1)[:limit]
            found = (self.load(name, number) for number in numbers)
            return [each for each in found if each is not None]

    def rollback(self, name: str, version: int) -> tuple[int, int | None]:
        """Save an older version as the next one."""
        with self._space.transaction():
            current, past = self._current.get(name), self._past.get(name, version)
            found = 0 if current is None else int(current["version"])
            if current is None or past is None:
                return found, None
            return found, self._replace(name, current, {column: past[column] for column in (*_CONTENT, *_COUNTERS)})

    def supersede(self, name: str, by: str | None) -> bool:
        """Set or clear what took a procedure's place; tell whether both are there."""
        with self._space.transaction():
            found = self._current.get(name)
            if found is None or (by is not None and self._current.get(by) is None):
                return False
            after, passed = by, set[str]()
            while after is not None and after not in passed:
                if after == name:
                    raise Conflict("the procedure supersedes the other one already")
                passed.add(after)
                row = self._current.get(after)
                after = None if row is None else row["superseded_by"]
            self._current.put((name,), {**found, "superseded_by": by, "revision": found["revision"] + 1})
            return True

    def record_outcome(self, name: str, version: int | None, success: bool) -> Standing | None:
        """Count an outcome; None when the version is not there."""
        with self._space.transaction():
            row, now = self._current.get(name), self._space.now()
            is_current = row is not None and version in {None, row["version"]}
            if not is_current:
                row = self._past.get(name, version)
            if row is None:
                return None
            last = now if row["last_outcome_at"] is None else max(now, row["last_outcome_at"])
            counter = "successes" if success else "failures"
            changed = {**row, counter: row[counter] + 1, "last_outcome_at": last}
            if is_current:
                self._current.put((name,), {**changed, "revision": row["revision"] + 1})
            else:
                self._past.put((name, version), changed)
            return rules.standing([changed[column] for column in ("version", "prior", *_COUNTERS)] + [now])

    def listing(self, scope: str | None, after: str, limit: int) -> list[Procedure]:
        """Return up to ``limit`` procedures with names greater than ``after``, by name."""
        with self._space.transaction():
            return [self._procedure(row) for row in self._rows(scope, after)[:limit]]

    def sketches(self, wanted: Wanted, after: str, limit: int) -> list[Sketch]:
        """Return up to ``limit`` sketches with names greater than ``after``, by name."""
        with self._space.transaction():
            rows = [row for row in self._rows(wanted.scope, after) if _is_wanted(row, wanted)][:limit]
            return [self._sketch(row, wanted) for row in rows]

    def several(self, names: list[str]) -> list[Procedure]:
        """Return the current versions of these procedures."""
        with self._space.transaction():
            rows = [self._current.get(name) for name in names]
            return [self._procedure(row) for row in rows if row is not None]

    def remove(self, seen: list[tuple[str, int | None]]) -> int:
        """Remove procedures with all versions, each only if it has this revision; count them."""
        with self._space.transaction():
            removed = 0
            for name, revision in seen:
                row = self._current.get(name)
                if row is None or revision not in {None, row["revision"]}:
                    continue
                for number in range(1, row["version"]):
                    self._past.delete(name, number)
                removed += self._current.delete(name)
            return removed

    def _replace(self, name: str, found: Row | None, written: dict[str, Any]) -> int:
        now = self._space.now()
        if found is None:
            row: dict[str, Any] = {"version": 1, "revision": 1, "superseded_by": None, "created_at": now}
        else:
            kept = {column: found[column] for column in ("name", "version", *_CONTENT, *_COUNTERS)}
            self._past.put((name, found["version"]), {**kept, "saved_at": found["updated_at"]})
            row = {**found, "version": found["version"] + 1, "revision": found["revision"] + 1}
        self._current.put((name,), {**row, "name": name, **written, "updated_at": now})
        return int(row["version"])

    def _rows(self, scope: str | None, after: str) -> list[Row]:
        return [row for (name,), row in self._current.ordered() if name > after and scope in {None, row["scope"]}]

    def _procedure(self, current: Row, past: Row | None = None) -> Procedure:
        row = current if past is None else past
        content = [
            row[column] for column in ("name", "version", "scope", "steps", "trigger_filter", "provenance", "prior")
        ]
        saved_at = current["updated_at"] if past is None else past["saved_at"]
        said = (current["superseded_by"], current["created_at"], saved_at, self._space.now())
        return rules.procedure([*content, *(row[column] for column in _COUNTERS), *said])

    def _sketch(self, row: Row, wanted: Wanted) -> Sketch:
        trigger = row["trigger_filter"] if wanted.kind == "trigger" else None
        embedding = row["embedding"] if wanted.kind == "embedding" else None
        counted = [row[column] for column in ("prior", *_COUNTERS, "updated_at")]
        return rules.sketch([row["name"], row["revision"], trigger, embedding, *counted, self._space.now()])


def _is_wanted(row: Row, wanted: Wanted) -> bool:
    if wanted.kind == "any":
        return True
    if row["superseded_by"] is not None:
        return False
    if wanted.kind == "trigger":
        return row["trigger_filter"] is not None
    return row["embedding"] is not None and len(row["embedding"]) == wanted.size


def _ordered(rows: list[Row], after: tuple[int, str], limit: int) -> list[Transition]:
    columns = ("scope", "key", "value", "frequency", "first_seen", "last_seen")
    found = [rules.transition([row[column] for column in columns]) for row in rows]
    found = [each for each in found if (-each.frequency, each.identity) > (-after[0], after[1])]
    return sorted(found, key=lambda each: (-each.frequency, each.identity))[:limit]
