"""Where the development environment keeps its files: the user's cache, and one folder beside it when run as root.

PostgreSQL refuses to run as root, and the user it then runs as cannot enter root's home. So as root, and only then,
a server lives under ``ROOT_SERVER_FOLDER`` while it is up; stopping it for good removes that folder again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from storage_operator.errors import UserError

ROOT_SERVER_FOLDER = Path("/var/lib/llmspell-storage")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/llmspell``, by default ``~/.cache/llmspell``, created when it is missing."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    folder = root / "llmspell"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot use the cache folder {folder}",
            error.strerror or str(error),
            "Set XDG_CACHE_HOME to a folder that you can write to",
        ) from error
    return folder


def environment_folder(name: str) -> Path:
    """Return the folder of the environment called ``name``; the folder itself may not exist yet."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a name for an environment",
            "a name has 1 to 40 characters of a-z, 0-9 and -",
            "Choose another one with --name",
        )
    return cache_folder() / "environments" / name


def runs_as_root() -> bool:
    """Tell whether this process is root's, which decides where and as whom a server runs."""
    return os.geteuid() == 0


def server_folder(name: str) -> Path:
    """Return the folder in which the PostgreSQL of the environment called ``name`` keeps its data."""
    folder = environment_folder(name)
    return ROOT_SERVER_FOLDER / name if runs_as_root() else folder / "postgres"


def root_server_folder() -> Path:
    """Return ``ROOT_SERVER_FOLDER``, created so that the user who runs the server can enter it."""
    ROOT_SERVER_FOLDER.mkdir(parents=True, exist_ok=True)
    ROOT_SERVER_FOLDER.chmod(0o755)
    return ROOT_SERVER_FOLDER


def remove_root_server_folder() -> None:
    """Remove ``ROOT_SERVER_FOLDER`` when no server is left in it."""
    # Not empty means that another environment is up; missing means that nothing has to be done.
    with contextlib.suppress(OSError):
        ROOT_SERVER_FOLDER.rmdir()


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None, *, remove: bool = False) -> Iterator[None]:
    """Hold a lock file for the length of a block; ``waiting`` is called once when somebody else holds it.

    The kernel releases the lock when its holder dies, so a killed process never leaves it behind. ``remove`` deletes the
    file at the end of the block.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        with path.open("w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                fcntl.flock(handle, fcntl.LOCK_EX)
            # Its last holder may have removed the file meanwhile: then the lock is on a file that nobody else sees.
            try:
                stale = not os.path.samestat(path.stat(), os.fstat(handle.fileno()))
            except FileNotFoundError:
                stale = True
            if stale:
                continue
            try:
                yield
            finally:
                if remove:
                    path.unlink(missing_ok=True)
            return


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, replacing an older one in a single step."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    temporary.replace(path)
