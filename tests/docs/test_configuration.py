"""Configuration files that the documentation shows are right ones."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from storagelib import StoreConfig
from tests.docs.pages import Block, blocks

FILES = [block for block in blocks("toml") if "[storage" in block.text]


def test_some_are_shown() -> None:
    """There is something to check."""
    assert FILES


@pytest.mark.parametrize("block", [pytest.param(block, id=block.id) for block in FILES])
def test_shown_files_are_read(block: Block, tmp_path: Path) -> None:
    """A file that is shown has no fault, once its Secret is there."""
    secret = {"tenant-id": "acme", "mode": "role", "schema": "llmspell", "sslmode": "require"}
    secret |= {"host": "db", "port": "5432", "dbname": "agents", "user": "ada", "password": "s3cret"}
    for key, value in secret.items():
        (tmp_path / key).write_text(value)
    tables = tomllib.loads(block.text.replace("/run/secrets/storage", str(tmp_path)))
    assert StoreConfig.from_mapping(tables).backend == tables["storage"]["backend"]
