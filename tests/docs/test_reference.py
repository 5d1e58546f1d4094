"""The reference says what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from tests.docs.pages import DOCS, ROOT

EXPLAINED = DOCS / "explanation" / "decisions.md"


def test_generated_parts_are_current() -> None:
    """Commands, settings, metrics, conditions and keys are in the reference as they are in the code."""
    finished = subprocess.run(
        [sys.executable, ROOT / "scripts" / "reference", "--check"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_dependency_has_its_reason() -> None:
    """A dependency comes with its lowest version and a reason in the decisions, and none is left there that went."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = tables["project"]
    wanted = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
        *(each for group in tables["dependency-groups"].values() for each in group if isinstance(each, str)),
    ]
    parts = [re.match(r"([a-z0-9.-]+)(?:\[[a-z]+\])?(?:[>=]=([0-9]+(?:\.[0-9]+){0,2}))?", each) for each in wanted]
    declared = {part[1]: part[2] for part in parts if part is not None and part[1] != "llmspell-storage"}
    section = EXPLAINED.read_text(encoding="utf-8").partition("## Dependencies")[2].partition("\n## ")[0]
    explained = dict(re.findall(r"^\| ([a-z0-9.-]+) \| ([0-9.]+) \| .+ \|$", section, re.MULTILINE))
    assert explained == declared


def test_every_decision_is_there_once() -> None:
    """The decisions are numbered without gaps, each once."""
    numbers = [int(number) for number in re.findall(r"^\*\*D(\d+)\.", EXPLAINED.read_text("utf-8"), re.MULTILINE)]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
