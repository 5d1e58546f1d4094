"""Go's tool chain: what is built, what it tells meanwhile, and what goes wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from storage_operator.devenv import toolchain
from storage_operator.devenv.toolchain import FAMILIES, Progress
from storage_operator.errors import UserError

_FAKE_GO = """#!/bin/sh
case "$1" in
version) echo "go version go1.26.0 linux/amd64" ;;
list) echo "go: downloading example.org/a v1.0.0"; echo a/b; echo c/d ;;
build) {build} ;;
esac
"""
_BUILDS = (
    """while [ "$1" != -o ]; do shift; done; echo a/b; echo c/d; printf built > "$2/server"; chmod +x "$2/server\""""
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache, so that everything has to be built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fake_go(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program called ``go`` in front of the real one."""
    program = folder / "go"
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin:/usr/bin")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_modules_pin_a_version(family: toolchain.Family) -> None:
    """Each module's go.mod pins its version and names each program as a tool."""
    assert family.version().startswith("v")
    text = (family.folder / "go.mod").read_text()
    assert all(package in text for package in family.packages.values())


def test_key_changes_with_the_sums(cache: Path) -> None:
    """Built programs are kept under their version, apart for each module."""
    targets = {family.target() for family in FAMILIES}
    assert len(targets) == len(FAMILIES)
    assert all(family.version() in family.target().name for family in FAMILIES)
    assert toolchain.missing(["etcd", "helm"]) == ["etcd", "helm"]


def test_build_reports_progress_and_is_done_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build tells what it downloads and how many packages are done; the second one runs nothing."""
    fake_go(tmp_path, monkeypatch, _FAKE_GO.format(build=_BUILDS))
    seen: list[Progress] = []
    built = toolchain.build(["etcd"], seen.append)
    assert built["etcd"].read_text() == "built"
    phases = [progress.phase for progress in seen]
    assert phases[0] == "looking for sources"
    assert "downloading sources, 1 modules" in phases
    assert phases[-2:] == ["linking", "built"]
    assert seen[-1].total == 2
    again: list[Progress] = []
    assert toolchain.build(["etcd"], again.append) == built
    assert again == []


def test_failed_build_leaves_no_program(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed build shows Go's last lines and leaves nothing that looks built."""
    fake_go(tmp_path, monkeypatch, _FAKE_GO.format(build="echo '# a/b'; echo 'no space left on device'; exit 1"))
    with pytest.raises(UserError, match="no space left on device"):
        toolchain.build(["etcd"])
    assert toolchain.missing(["etcd"]) == ["etcd"]
    assert not list(cache.rglob(".partial*"))


def test_old_go_is_one_sentence(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go that refuses the module is named with its own words and what to install."""
    fake_go(tmp_path, monkeypatch, "#!/bin/sh\necho 'go.mod requires go >= 1.26.0 (running go 1.20)' >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"too old.*running go 1\.20.*Install Go 1\.26 or newer"):
        toolchain.require(["kubectl"])


def test_progress_reads_well() -> None:
    """The line for a person has counts, the elapsed time, and an estimate once there is something to go by."""
    early = Progress("kubernetes", "compiling", 10, 1000, 1.0)
    assert str(early) == "kubernetes: compiling, 10 of 1000 packages (1 s)"
    later = Progress("kubernetes", "compiling", 250, 1000, 30.0)
    assert str(later) == "kubernetes: compiling, 250 of 1000 packages (30 s, about 90 s left)"
    assert str(Progress("etcd", "linking", 2, 2, 4.0)) == "etcd: linking (4 s)"


def test_unknown_program_is_refused() -> None:
    """A name that no module builds is an error, not a path."""
    with pytest.raises(UserError, match="is not a program"):
        toolchain.path_of("kubelet")
