"""The file of the tutorial, as it is shown: it is short, and runs on a tenant's PostgreSQL with one line changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS, blocks_of
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_app, make_sealed_tenant, make_tenant

PAGE = DOCS / "tutorial" / "first-memory.md"
BLOCKS = list(blocks_of(PAGE))
(SHOWN,) = (block.text for block in BLOCKS if block.mark == "file")
(OTHER_LINE,) = (block.text for block in BLOCKS if block.language == "python" and block.mark == "no-run")
(PRINTED,) = (block.text for block in BLOCKS if block.mark == "output")
SECRET_FOLDER = "/run/secrets/storage"


def in_role_mode(installation: Installation) -> dict[str, str]:
    """Make the tenant with a login of its own."""
    return {"mode": "role", "dsn": make_tenant(installation, "acme")}


def in_sealed_mode(installation: Installation) -> dict[str, str]:
    """Make the tenant with the shared login and a capability."""
    shared = make_app(installation)
    return {"mode": "sealed", "dsn": shared, "capability": make_sealed_tenant(installation, "acme")}


def test_the_file_has_less_than_forty_lines() -> None:
    """Lines of code, those left empty not counted."""
    assert len([line for line in SHOWN.splitlines() if line.strip()]) < 40


@pytest.mark.parametrize("made", [in_role_mode, in_sealed_mode])
def test_the_file_runs_on_a_tenants_postgresql(
    fresh_installation: Installation, tmp_path: Path, made: Callable[[Installation], dict[str, str]]
) -> None:
    """The line that the page names takes the place of one line, and what is printed is what the page prints."""
    folder = tmp_path / "secret"
    folder.mkdir()
    parts = made(fresh_installation)
    secret = {"tenant-id": "acme", "schema": fresh_installation.schema, "sslmode": "prefer", **parts}
    for key, value in {**secret, **login(parts["dsn"])}.items():
        (folder / key).write_text(value)
    shown = SHOWN.splitlines(keepends=True)
    (place,) = (index for index, line in enumerate(shown) if line.startswith("config = "))
    shown[place] = OTHER_LINE.replace(SECRET_FOLDER, str(folder))
    program = tmp_path / "memory.py"
    program.write_text("".join(shown))
    finished = subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == PRINTED
    assert not list(tmp_path.glob("*.db"))


def login(dsn: str) -> dict[str, str]:
    """Return the keys of a Secret that hold a login."""
    parts = urlsplit(dsn)
    keys = {"host": parts.hostname, "port": str(parts.port or 5432), "user": parts.username, "password": parts.password}
    return {"dsn": dsn, "dbname": parts.path.removeprefix("/"), **{name: str(value) for name, value in keys.items()}}
