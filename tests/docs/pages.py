"""The documentation as the tests read it: pages, their fenced blocks, and the marks in front of those.

A mark is a comment on the line before a block: ``<!-- run: NAME -->`` executes it, ``<!-- file: NAME -->`` writes it,
``<!-- output -->`` tells lines that the executed block before it prints, ``<!-- no-run -->`` leaves Python alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FRONT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[a-z-]+)(?:: (?P<value>[^ ]+))? -->\n)?```(?P<language>[a-z]+)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)

_AFTER = re.compile(r"^<!-- after: ([a-z-]+) -->$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block, the mark in front of it, and where it stands."""

    page: Path
    line: int
    language: str
    text: str
    mark: str | None
    value: str | None

    @property
    def id(self) -> str:
        """The name in test reports."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """Return every page that people read, those in front of the site included."""
    return [*(ROOT / name for name in FRONT_PAGES), *sorted(DOCS.rglob("*.md"))]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages."""
    return [block for page in pages() for block in blocks_of(page) if block.language in languages]


def blocks_of(page: Path) -> Iterator[Block]:
    """Return the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match["language"], match["text"], match["mark"], match["value"])


def examples() -> dict[str, list[Block]]:
    """Return the blocks of each executed example, in order, with its files and its output.

    A page with ``<!-- after: NAME -->`` goes on where the example of another page was: its blocks stand before the last
    executed one of that page, which cleans up.
    """
    found: dict[str, list[Block]] = {}
    going_on: list[tuple[str, list[Block]]] = []
    for page in sorted(DOCS.rglob("*.md")):
        marked = [block for block in blocks_of(page) if block.mark in ("run", "file", "output")]
        names = {str(block.value) for block in marked if block.mark == "run"}
        assert len(names) < 2, f"{page} has two examples; one page has one"
        after = _AFTER.search(page.read_text(encoding="utf-8"))
        if after is not None:
            going_on.append((after[1], marked))
        elif names:
            found[names.pop()] = marked
    for name, marked in going_on:
        last = max(index for index, block in enumerate(found[name]) if block.mark == "run")
        found[name][last:last] = marked
    return found


def readme_commands() -> list[Block]:
    """Return the README's commands for a first tenant, without the first two, which start an environment."""
    own = next(block for block in blocks_of(ROOT / "README.md") if "llmspell apply -f" in block.text)
    start, serve, *rest = own.text.splitlines()
    assert "bootstrap" in start, own.text
    assert "dev up" in serve, own.text
    return [replace(own, text="\n".join(rest), mark="run")]
