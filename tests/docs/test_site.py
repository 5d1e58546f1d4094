"""The site builds strictly, everything is linked, and no link leads nowhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.pages import DOCS, FRONT_PAGES, ROOT, pages

_LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_NAV_PAGE = re.compile(r": ([a-z0-9/_-]+\.md)$", re.MULTILINE)
# What would tell of the machine or the day on which a page was written.
_UNFIT = re.compile(r"/home/|/Users/|/root/|/tmp/|TODO|FIXME|XXX")


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, those inside code left out."""
    return [match["target"] for match in _LINK.finditer(_CODE.sub("", page.read_text(encoding="utf-8")))]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    found = re.findall(r"^#+ (.+)$", _CODE.sub(lambda code: code[0].strip("`"), page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """A missing page, a dead link or a missing anchor is a warning, and a strict build fails on warnings."""
    finished = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert (tmp_path / "site" / "index.html").is_file()


def test_every_page_is_in_the_navigation() -> None:
    """No page can be found by its address only."""
    listed = _NAV_PAGE.findall((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("name", FRONT_PAGES)
def test_links_from_the_front_lead_somewhere(name: str) -> None:
    """README and its neighbours link to files that exist, and to headings that they have."""
    for target in links(ROOT / name):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        page = ROOT / file if file else ROOT / name
        assert page.exists(), f"{name} links to {target}"
        assert not anchor or anchor in headings(page), f"{name} links to {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_external_links_are_addresses(page: Path) -> None:
    """An external link is https with a host; whether it answers is not asked, so that the test needs no network."""
    for target in links(page):
        if "://" in target:
            parts = urlsplit(target)
            assert parts.scheme == "https", target
            assert "." in (parts.hostname or ""), target


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_fit_to_be_read(page: Path) -> None:
    """No path of somebody's machine, nothing left to be written, exactly one title."""
    text = page.read_text(encoding="utf-8")
    assert not _UNFIT.findall(text)
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^# ", outside, re.MULTILINE)) == 1
