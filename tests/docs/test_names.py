"""Names in the prose are real: commands and their options, variables, make's targets, reasons."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main

from storage_operator.cli.main import app
from storage_operator.resources.conditions import Reason
from storagelib.config_keys import environment_name, known_paths
from tests.docs.pages import DOCS, ROOT, pages

_COMMAND = re.compile(r"(?:^|\$\(|&& )(llmspell [^`|\n\"')]+)", re.MULTILINE)
_VARIABLE = re.compile(r"\bLLMSPELL_[A-Z_]+[A-Z]\b")
_TARGET = re.compile(r"(?:`|^)make ((?:[a-z][a-z-]* ?)+)", re.MULTILINE)
_REASON_TABLE = re.compile(r"^\| reason \|.*\n\|[-| ]+\|\n(?P<rows>(?:\|.*\n)+)", re.MULTILINE)
_PAGES = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages()]
# Its text comes from the commands themselves, "`llmspell dev --name`" among it.
_GENERATED = DOCS / "reference" / "cli.md"


def invocations(page: Path) -> Iterator[list[str]]:
    """Return the words of each command of ours that stands in a shell block or between backquotes."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    shell = "\n".join(re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    inline = "\n".join(re.findall(r"`(llmspell [^`\n]+)`", text))
    for found in _COMMAND.findall(f"{shell}\n{inline}"):
        yield shlex.split(re.split(r" (?:[|&>#…]|\|\||&&|2>)", found)[0], comments=True)[1:]


@pytest.mark.parametrize("page", _PAGES)
def test_commands_exist(page: Path) -> None:
    """Each command that is shown exists, with the options that it is shown with."""
    for words in invocations(page) if page != _GENERATED else ():
        command: Any = typer.main.get_command(app)
        for word in words:
            if word not in getattr(command, "commands", {}):
                break
            command = command.commands[word]
        shown = " ".join(words)
        # A group may be named alone; something else after it is a command that does not exist.
        assert not getattr(command, "commands", {}) or words[-1:] == [command.name], shown
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, shown


@pytest.mark.parametrize("page", _PAGES)
def test_variables_exist(page: Path) -> None:
    """Each variable that is named is read somewhere in the source, or is a setting of the operator or of the library."""
    code = [*(ROOT / "operator").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    source = "\n".join(file.read_text(encoding="utf-8") for file in code if file.parent != Path(__file__).parent)
    settings = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    keys = {environment_name(path) for path in known_paths() if path[0] == "storage"}
    for variable in set(_VARIABLE.findall(page.read_text(encoding="utf-8"))):
        assert variable in source or f"`{variable}`" in settings or variable in keys, variable


@pytest.mark.parametrize("page", _PAGES)
def test_make_targets_exist(page: Path) -> None:
    """Each target that is named is in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*%?):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for match in _TARGET.findall(page.read_text(encoding="utf-8")) for word in match.split()}
    missing = [name for name in named if not any(fnmatch(name, target.replace("%", "?*")) for target in targets)]
    assert not missing


@pytest.mark.parametrize("page", _PAGES)
def test_reasons_exist(page: Path) -> None:
    """Each reason in a table of reasons is one that the operator reports."""
    for table in _REASON_TABLE.finditer(page.read_text(encoding="utf-8")):
        shown = {name for row in table["rows"].splitlines() for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])}
        assert shown <= {reason.value for reason in Reason}
