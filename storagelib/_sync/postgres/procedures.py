# Made from storagelib/_async/postgres/procedures.py by scripts/sync; change that file instead.
"""Transitions and procedures in PostgreSQL."""

from __future__ import annotations

from typing import Final

from storage_sql.queries import load
from storagelib._sync.postgres.database import Database
from storagelib.components import procedures as rules
from storagelib.components.procedures import (
    LEARNED_FROM,
    NewProcedure,
    NewTransition,
    Procedure,
    Sketch,
    Standing,
    Transition,
    Wanted,
    pattern_id,
)
from storagelib.errors import AlreadyExists, Conflict

__all__ = ["PostgresProcedures"]

_Q: Final = load("procedures")
# A writer that keeps losing to others who write the same thing at the same moment gives up after this many rounds.
_ROUNDS: Final = 8


class PostgresProcedures:
    """See ``ProceduresBackend``."""

    def __init__(self, database: Database) -> None:
        """Take the tenant's view of the database."""
        self._database = database

    def observe(self, seen: NewTransition) -> int:
        """Count a transition once more; return its frequency."""
        asked = {"id": pattern_id(seen), "scope": seen.scope, "key": seen.key, "value": seen.value}
        for _ in range(_ROUNDS):
            try:
                return int((self._database.fetch(_Q["observe"], **asked))[0][0])
            except AlreadyExists:
                # Somebody saw it for the first time at the same moment; now it is there to be counted.
                continue
        raise Conflict("other writers were faster each time")

    def frequency(self, seen: NewTransition) -> int:
        """Return how often a transition was seen."""
        rows = self._database.fetch(_Q["frequency"], scope=seen.scope, key=seen.key, value=seen.value)
        return int(rows[0][0]) if rows else 0

    def transitions(self, scope: str, key: str, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions of a key after this position."""
        bounds = {"scope": scope, "key": key, "most_seen": after[0], "after": after[1], "most": limit}
        return [rules.transition(row) for row in self._database.fetch(_Q["transitions"], **bounds)]

    def learned(self, scope: str | None, least: int, after: tuple[int, str], limit: int) -> list[Transition]:
        """Return up to ``limit`` transitions that were seen ``least`` times."""
        # The index of learned patterns is for three and more, which a plan for any number does not know.
        query = _Q["learned"].variant(indexed=least >= LEARNED_FROM, by_scope=scope is not None)
        bounds = {"scope": scope, "least": least, "most_seen": after[0], "after": after[1], "most": limit}
        return [rules.transition(row) for row in self._database.fetch(query, **bounds)]

    def forget(self, scope: str, key: str) -> int:
        """Remove the transitions of a key; count them."""
        return len(self._database.fetch(_Q["forget"], scope=scope, key=key))

    def save(self, new: NewProcedure, expected: int | None) -> tuple[int, int | None]:
        """Save the next version; return the version found and the new one."""
        for _ in range(_ROUNDS):
            ((found, version),) = self._database.fetch(
                _Q["save"],
                name=new.name,
                scope=new.scope,
                steps=new.steps,
                trigger=new.trigger,
                provenance=new.provenance,
                embedding=new.embedding,
                prior=new.prior,
                expected=expected,
            )
            # Found as expected and lost all the same: another one was faster, whom the next round sees.
            if version is not None or (expected is not None and (found or 0) != expected):
                return found or 0, version
        raise Conflict("other writers were faster each time")

    def load(self, name: str, version: int | None) -> Procedure | None:
        """Return the current version, or another one."""
        if version is None:
            rows = self._database.fetch(_Q["load"], name=name)
            return rules.procedure(rows[0]) if rows else None
        newest = self.versions(name, version + 1, 1) if version < 2**63 - 1 else []
        return newest[0] if newest and newest[0].version == version else None

    def versions(self, name: str, before: int, limit: int) -> list[Procedure]:
        """Return up to ``limit`` versions below ``before``, newest first."""
        rows = self._database.fetch(_Q["versions"], name=name, before=before, most=limit)
        return [rules.procedure(row) for row in rows]

    def rollback(self, name: str, version: int) -> tuple[int, int | None]:
        """Save an older version as the next one."""
        # Locked by a statement of its own: the next one sees the versions that were kept while it waited.
        _, rows = self._database.run(
            [(_Q["lock"], {"name": name}), (_Q["rollback"], {"name": name, "version": version})]
        )
        return (rows[0][0], rows[0][1]) if rows else (0, None)

    def supersede(self, name: str, by: str | None) -> bool:
        """Set or clear what took a procedure's place; tell whether both are there.

        The way from ``by`` on is locked link by link, so that no two callers close a circle together.
        """
        if by is None:
            return bool(self._database.fetch(_Q["supersede"], name=name, by=None))
        with self._database.transaction() as transaction:
            if not transaction.fetch(_Q["lock"], name=name):
                return False
            after, passed = by, set[str]()
            while after not in passed:
                if after == name:
                    raise Conflict("the procedure supersedes the other one already")
                found = transaction.fetch(_Q["lock"], name=after)
                if not found and after == by:
                    return False
                passed.add(after)
                if not found or found[0][0] is None:
                    break
                after = found[0][0]
            transaction.fetch(_Q["supersede"], name=name, by=by)
            return True

    def record_outcome(self, name: str, version: int | None, success: bool) -> Standing | None:
        """Count an outcome; None when the version is not there."""
        query = _Q["succeed" if success else "fail"].variant(of_version=version is not None)
        # A version that is replaced at this moment is not current any more, and seen as a former one in a second look.
        for _ in range(1 if version is None else 2):
            rows = self._database.fetch(query, name=name, version=version)
            if not rows and version is not None:
                rows = self._database.fetch(_Q["record_late"], name=name, version=version, success=success)
            if rows:
                return rules.standing(rows[0])
        return None

    def listing(self, scope: str | None, after: str, limit: int) -> list[Procedure]:
        """Return up to ``limit`` procedures with names greater than ``after``, by name."""
        query = _Q["listing"].variant(by_scope=scope is not None)
        return [rules.procedure(row) for row in self._database.fetch(query, scope=scope, after=after, most=limit)]

    def sketches(self, wanted: Wanted, after: str, limit: int) -> list[Sketch]:
        """Return up to ``limit`` sketches with names greater than ``after``, by name."""
        query = _Q["sketches"].variant(
            by_scope=wanted.scope is not None, triggers=wanted.kind == "trigger", embeddings=wanted.kind == "embedding"
        )
        bounds = {"scope": wanted.scope, "size": wanted.size, "after": after, "most": limit}
        return [rules.sketch(row) for row in self._database.fetch(query, **bounds)]

    def several(self, names: list[str]) -> list[Procedure]:
        """Return the current versions of these procedures."""
        return [rules.procedure(row) for row in self._database.fetch(_Q["several"], names=names)]

    def remove(self, seen: list[tuple[str, int | None]]) -> int:
        """Remove procedures, their versions go with them, each only if it has this revision; count them."""
        names, revisions = [name for name, _ in seen], [revision for _, revision in seen]
        return len(self._database.fetch(_Q["remove"], names=names, revisions=revisions))
