"""The numbered migration files, and what is to be done about them; pure.

A released file never changes: its checksum, of the text before rendering, is kept in the database.
Forward only; going back is a restore.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Dialect = Literal["postgres", "sqlite"]
Role = Literal["owner", "maintenance"]

FILE_NAME = re.compile(r"V([0-9]{4})__([a-z0-9_]+)\.sql")
_HEADER = re.compile(r"-- (name|role|transactional): (\S+)")


class MigrationError(Exception):
    """The database and the files do not fit together; nothing was changed."""


class ChecksumChanged(MigrationError):  # noqa: N818 - the name is the finding
    """A file that was applied has been edited since."""


class Gap(MigrationError):  # noqa: N818 - the name is the finding
    """Versions are missing, in the files or among those applied."""


class NewerDatabase(MigrationError):  # noqa: N818 - the name is the finding
    """The database was migrated by a newer release than this one."""


class LowerTarget(MigrationError):  # noqa: N818 - the name is the finding
    """The target lies below what is applied, or does not exist."""


class InvalidFile(MigrationError):  # noqa: N818 - the name is the finding
    """A file's name or header is not in the form this package reads."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    source: str
    role: Role = "owner"
    transactional: bool = True

    @property
    def checksum(self) -> str:
        """SHA-256 of the source text, before any name is rendered into it."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def label(self) -> str:
        """Return `V3 vector_embeddings`."""
        return f"V{self.version} {self.name}"


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of schema_migrations."""

    version: int
    name: str
    checksum: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What is applied, what comes next, and the version after it."""

    applied: tuple[Applied, ...]
    pending: tuple[Migration, ...]
    target: int

    @property
    def current(self) -> int:
        """The version the database has; 0 for an empty one."""
        return self.applied[-1].version if self.applied else 0


def parse(file_name: str, source: str) -> Migration:
    """Read one file; the header's name must repeat the file's."""
    named = FILE_NAME.fullmatch(file_name)
    if named is None:
        message = f"{file_name}: not of the form V0001__name.sql"
        raise InvalidFile(message)
    header: dict[str, str] = {}
    for line in source.splitlines():
        entry = _HEADER.fullmatch(line)
        if entry is None:
            break
        header[entry[1]] = entry[2]
    role = header.get("role", "owner")
    transactional = header.get("transactional", "yes")
    if header.get("name") != named[2] or role not in {"owner", "maintenance"} or transactional not in {"yes", "no"}:
        message = f"{file_name}: the header must be `-- name: {named[2]}`, `-- role: …`, `-- transactional: …`"
        raise InvalidFile(message)
    return Migration(
        int(named[1]), named[2], source, "maintenance" if role == "maintenance" else "owner", transactional == "yes"
    )


@cache
def available(dialect: Dialect) -> tuple[Migration, ...]:
    """Return the files of this release, in order."""
    folder = resources.files("storage_sql").joinpath("migrations", dialect)
    files = [parse(entry.name, entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return tuple(sorted(files, key=lambda migration: migration.version))


def plan(
    applied: Iterable[Applied | tuple[int, str, str]],
    available: Sequence[Migration],
    target: int | None = None,
) -> MigrationPlan:
    """Return what is pending up to `target` (default: all), or raise the reason why nothing may run."""
    done = tuple(
        sorted((row if isinstance(row, Applied) else Applied(*row) for row in applied), key=lambda row: row.version)
    )
    _refuse_gaps([migration.version for migration in available], "files")
    newest = available[-1].version if available else 0
    if done and done[-1].version > newest:
        message = f"the database is at V{done[-1].version}, this release knows up to V{newest}: use a newer release"
        raise NewerDatabase(message)
    _refuse_gaps([row.version for row in done], "applied migrations")
    for row, migration in zip(done, available, strict=False):
        if row.checksum != migration.checksum:
            message = f"{migration.label} was changed after it was applied: restore the released file"
            raise ChecksumChanged(message)
    wanted = newest if target is None else target
    if wanted < len(done):
        message = f"the database is at V{len(done)}, above the target V{wanted}: going back is a restore"
        raise LowerTarget(message)
    if wanted > newest:
        message = f"there is no V{wanted}: this release knows up to V{newest}"
        raise LowerTarget(message)
    return MigrationPlan(done, tuple(available[len(done) : wanted]), wanted)


def _refuse_gaps(versions: Sequence[int], what: str) -> None:
    for expected, version in enumerate(versions, start=1):
        if version != expected:
            message = f"V{expected} is missing from the {what}"
            raise Gap(message)
