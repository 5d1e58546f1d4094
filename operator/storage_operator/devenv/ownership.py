"""Environments that belong to one running process, such as a test session, and must not outlive it.

The owner writes its mark beside the environment's state; whoever comes next removes what a killed owner left behind.
"""

from __future__ import annotations

import json
import os

from storage_operator.devenv import process
from storage_operator.devenv.locations import cache_folder, environment_folder, write_private
from storage_operator.devenv.process import ProcessMark
from storage_operator.errors import UserError

_FILE = "owner.json"


def claim(name: str) -> None:
    """Bind the environment called ``name`` to the life of this process."""
    mark = process.mark_of(os.getpid())
    if mark is None:
        raise UserError("this process cannot be found in the process table", "neither /proc nor ps shows it")
    write_private(environment_folder(name) / _FILE, json.dumps(mark.as_json()))


def release(name: str) -> None:
    """Undo ``claim``; the environment's folder goes with it when nothing else is in it."""
    folder = environment_folder(name)
    (folder / _FILE).unlink(missing_ok=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def orphans() -> list[str]:
    """Return the names of environments whose owner is gone."""
    found = []
    for file in sorted((cache_folder() / "environments").glob(f"*/{_FILE}")):
        try:
            owner = ProcessMark.from_json(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            # Its owner removed it between the listing and the reading.
            continue
        if not process.is_running(owner):
            found.append(file.parent.name)
    return found
