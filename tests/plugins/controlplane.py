"""A real Kubernetes API server for tests, with a controller manager and without nodes.

``control_plane`` starts one for the session (one for each pytest-xdist worker), and builds it first where that was never
done. ``LLMSPELL_STORAGE_TEST_KUBECONFIG`` names another cluster; plain ``KUBECONFIG`` is not heeded, since tests create
and delete cluster-wide objects that nobody wants in a cluster which happens to be selected in a shell.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage_operator.devenv import ownership, toolchain
from storage_operator.devenv.controlplane import CONTROLLER_MANAGER, DEFINED, ControlPlane
from storage_operator.devenv.environment import remove_orphans
from storage_operator.errors import UserError

CRDS = Path(__file__).parents[2] / "crds"
_KUBECONFIG_VARIABLE = "LLMSPELL_STORAGE_TEST_KUBECONFIG"
_COMMAND_TIMEOUT_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that tests may do anything to; ``plane`` is None when somebody else runs it."""

    kubeconfig: Path
    kubectl: Path
    plane: ControlPlane | None

    def run(self, *arguments: str, manifest: Any = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run kubectl; ``manifest`` (an object or text) goes to its standard input."""
        text = manifest if manifest is None or isinstance(manifest, str) else json.dumps(manifest)
        finished = subprocess.run(
            [self.kubectl, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_SECONDS,
        )
        assert not check or finished.returncode == 0, f"kubectl {' '.join(arguments)}: {finished.stderr}"
        return finished

    def get(self, *arguments: str) -> Any:
        """Return what ``kubectl get … -o json`` prints, parsed."""
        return json.loads(self.run("get", *arguments, "-o", "json").stdout)

    def apply(self, manifest: Any, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Apply a manifest: an object, a List, or YAML text."""
        return self.run("apply", "-f", "-", manifest=manifest, check=check)

    def define(self) -> None:
        """Install the custom resources' definitions and wait until they are served."""
        self.run("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
        self.wait_until_defined()

    def wait_until_defined(self) -> None:
        """Wait until the custom resources are served, whoever installed their definitions."""
        for wish in DEFINED:
            self.run("wait", f"--for={wish}", "--timeout=90s", "-f", str(CRDS))


def _report(progress: toolchain.Progress) -> None:
    # The first build takes minutes; on the real standard error, so that capturing does not hide it.
    print(f"\r\033[K{progress}", end="", file=sys.__stderr__, flush=True)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the chosen tests need before the first of them starts, since the first build outlasts any time-out."""
    if session.config.option.collectonly:
        return
    needed = {fixture for item in session.items for fixture in getattr(item, "fixturenames", ())}
    programs = [
        *([*toolchain.CONTROL_PLANE, CONTROLLER_MANAGER] if "control_plane" in needed else []),
        *(["helm"] if "helm" in needed else []),
    ]
    if toolchain.missing(programs):
        try:
            toolchain.build(programs, _report)
        except UserError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def control_plane() -> Iterator[Cluster]:
    """Give a ready API server with the controller manager."""
    given = os.environ.get(_KUBECONFIG_VARIABLE)
    if given:
        yield Cluster(Path(given), toolchain.build(["kubectl"], _report)["kubectl"], None)
        return
    remove_orphans()
    name = f"test-cluster-{os.getpid()}"
    ownership.claim(name)
    plane = ControlPlane(name)
    try:
        plane.start(controller_manager=True, report=_report)
        yield Cluster(plane.kubeconfig, plane.kubectl, plane)
    finally:
        plane.remove()
        ownership.release(name)


@pytest.fixture(scope="session")
def helm() -> Path:
    """Give the path of Helm, built at the first call."""
    return toolchain.build(["helm"], _report)["helm"]


@pytest.fixture
def fresh_namespace(control_plane: Cluster) -> Iterator[str]:
    """Give a test a namespace of its own, deleted with everything in it afterwards (without waiting for the end)."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    control_plane.run("create", "namespace", name)
    yield name
    control_plane.run("delete", "namespace", name, "--wait=false", "--ignore-not-found")
