"""Programs of the control plane, built once by Go's own tool chain into the user's cache.

No image registry is needed: etcd, the Kubernetes programs and Helm are *tool dependencies* of the Go modules beside
this file. What was built is kept under a key of version and go.sum, so nothing is built twice and nothing stale is
used; a build that was interrupted goes on where it stopped, because Go keeps each compiled package.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage_operator.devenv.locations import cache_folder, exclusive
from storage_operator.errors import UserError

_MODULES = Path(__file__).parent / "tools"
_LOG_LINES_IN_ERROR = 15


@dataclass(frozen=True, slots=True)
class Family:
    """One Go module and the programs that it builds: program name → package."""

    name: str
    module: str
    packages: Mapping[str, str]
    stamp: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the module's go.mod and go.sum, which is part of this package."""
        return _MODULES / self.name

    def version(self) -> str:
        """Return the version that go.mod pins."""
        text = (self.folder / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise UserError(f"{self.folder / 'go.mod'} does not require {self.module}")
        return found[1]

    def flags(self) -> list[str]:
        """Return the linker's flags: no debug information, and the version where a program prints one."""
        stamp = f" -X {self.stamp}={self.version()}" if self.stamp else ""
        return ["-trimpath", "-ldflags", f"-s -w{stamp}"]

    def target(self) -> Path:
        """Return the folder of the built programs; its name changes with every input of the build."""
        content = hashlib.sha256()
        for name in ("go.mod", "go.sum"):
            content.update((self.folder / name).read_bytes())
        content.update(" ".join(self.flags()).encode())
        return cache_folder() / "tools" / f"{self.name}-{self.version()}-{content.hexdigest()[:12]}"


FAMILIES = (
    Family(
        "kubernetes",
        "k8s.io/kubernetes",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kubectl", "kube-controller-manager")},
        stamp="k8s.io/component-base/version.gitVersion",
    ),
    Family("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Family("helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"}),
)
# What a control plane needs at least; the rest is built when somebody asks for it.
CONTROL_PLANE = ("kube-apiserver", "kubectl", "etcd")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is: ``done`` of ``total`` packages, and the seconds it took and will probably take."""

    family: str
    phase: str
    done: int
    total: int
    elapsed_seconds: float

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate the time left, None while too little is done to tell."""
        if self.done * 20 < self.total or not self.done:
            return None
        return self.elapsed_seconds / self.done * (self.total - self.done)

    def __str__(self) -> str:
        """Return the line that a person sees."""
        elapsed = f"{self.elapsed_seconds:.0f} s"
        if self.phase != "compiling":
            return f"{self.family}: {self.phase} ({elapsed})"
        left = "" if self.remaining_seconds is None else f", about {self.remaining_seconds:.0f} s left"
        return f"{self.family}: compiling, {self.done} of {self.total} packages ({elapsed}{left})"


Report = Callable[[Progress], None]


def _ignore(_: Progress) -> None:
    """Report to nobody."""


def path_of(program: str) -> Path:
    """Return where a program is, or will be once it is built."""
    return _family_of(program).target() / program


def missing(programs: Iterable[str]) -> list[str]:
    """Return those of the programs that have still to be built."""
    return [program for program in programs if not path_of(program).exists()]


def require(programs: Iterable[str]) -> None:
    """Raise, before anything is started, when ``programs`` have to be built and no usable Go is there."""
    left = missing(programs)
    for family in FAMILIES:
        if any(program in family.packages for program in left):
            _go(family)


def build(programs: Iterable[str], report: Report = _ignore) -> dict[str, Path]:
    """Build what is missing of ``programs`` and return the path of each; ``report`` is called as the build goes on."""
    wanted = tuple(programs)
    for family in FAMILIES:
        chosen = [program for program in wanted if program in family.packages]
        if missing(chosen):
            waiting = Progress(family.name, "waiting for another build to end", 0, 0, 0.0)
            lock = family.target().with_name(f"{family.target().name}.lock")
            with exclusive(lock, partial(report, waiting)):
                # Another build may have made them while this one waited.
                if left := missing(chosen):
                    _build_family(family, left, report)
    return {program: path_of(program) for program in wanted}


def _family_of(program: str) -> Family:
    for family in FAMILIES:
        if program in family.packages:
            return family
    raise UserError(f"{program!r} is not a program of the development environment")


def _go(family: Family) -> Path:
    """Find a Go that can build this module, or say in one sentence what to install."""
    wanted = re.search(r"^go (\d+\.\d+)", (family.folder / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    fix = (
        f"Install Go {wanted[1] if wanted else ''} or newer (https://go.dev/dl), "
        "or give an existing cluster with KUBECONFIG or --kubeconfig"
    )
    found = shutil.which("go")
    if found is None:
        raise UserError(
            "Go is not installed", "the Kubernetes control plane of this environment is built with it, once", fix
        )
    # Run inside the module, Go itself says whether it is new enough, and fetches a newer tool chain where it may.
    trial = subprocess.run(
        [found, "version"], cwd=family.folder, capture_output=True, text=True, check=False, env=_environment()
    )
    if trial.returncode != 0:
        why = " ".join((trial.stderr or trial.stdout).split())
        raise UserError("the installed Go is too old or does not run", why, fix)
    return Path(found)


def _environment() -> dict[str, str]:
    # Without cgo no C compiler is needed, and the programs run on any Linux; flags of the caller would change the key.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}


def _build_family(family: Family, programs: list[str], report: Report) -> None:
    go = _go(family)
    started = time.monotonic()

    def tell(phase: str, done: int = 0, total: int = 0) -> None:
        report(Progress(family.name, phase, done, total, time.monotonic() - started))

    packages = [family.packages[program] for program in programs]
    flags = family.flags()
    tell("looking for sources")
    stale: list[str] = []
    downloads = 0
    listing = [str(go), "list", "-deps", *flags, "-f", "{{if .Stale}}{{.ImportPath}}{{end}}", *packages]
    for line in _run(family, listing):
        if line.startswith("go: downloading"):
            downloads += 1
            tell(f"downloading sources, {downloads} modules")
        elif line and not line.startswith("go: "):
            stale.append(line)
    # Under the lock a folder that is there already is what a killed build left.
    partial = family.target() / ".partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        done, total, phase = 0, len(stale), "compiling"
        tell(phase, done, total)
        for line in _run(family, [str(go), "build", "-v", *flags, "-o", f"{partial}{os.sep}", *packages]):
            done += 0 if line.startswith(("go: ", "#")) else 1
            tell("compiling" if done < total else "linking", min(done, total), total)
        for program in programs:
            # Go names a program after the last part of its path; etcd's is called "server".
            built = partial / program
            (built if built.exists() else partial / _default_name(family.packages[program])).rename(
                family.target() / program
            )
        tell("built", total, total)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _default_name(package: str) -> str:
    *_, before, last = package.split("/")
    return before if re.fullmatch(r"v\d+", last) else last


def _run(family: Family, command: list[str]) -> Iterator[str]:
    """Run Go and yield what it prints, line by line; on failure raise with the last lines."""
    recent: deque[str] = deque(maxlen=_LOG_LINES_IN_ERROR)
    with subprocess.Popen(
        command,
        cwd=family.folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            for line in process.stdout or ():
                recent.append(line.rstrip())
                yield recent[-1]
        except BaseException:
            # The reader gave up (Ctrl-C, most often): Go must not go on alone.
            process.terminate()
            raise
    if process.returncode != 0:
        raise UserError(
            f"Go could not build {family.name}",
            "its last lines were\n" + "\n".join(recent),
            "What was compiled is kept: the same command goes on from here",
        )
