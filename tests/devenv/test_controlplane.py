"""The control plane: started, found again, its crashes noticed, and nothing left of it."""

from __future__ import annotations

import signal
import stat
import subprocess

import pytest

from storage_operator.devenv.controlplane import API_SERVER, ControlPlane
from storage_operator.devenv.environment import Environment
from storage_operator.errors import UserError


def kubectl(plane: ControlPlane, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl against this control plane."""
    command = [str(plane.kubectl), f"--kubeconfig={plane.kubeconfig}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


@pytest.fixture
def plane(control_plane: object, environment: Environment) -> ControlPlane:
    """Give a started control plane of a test's own (the shared one is asked for, so that its programs are built)."""
    return environment.control_plane.start()


def test_crash_is_noticed_and_healed(plane: ControlPlane) -> None:
    """A killed API server is reported with its log; the next start brings it back with everything in it."""
    assert kubectl(plane, "create", "namespace", "kept").returncode == 0
    url = plane.url()
    plane.kill(API_SERVER, signal.SIGKILL)
    with pytest.raises(
        UserError, match=r"kube-apiserver stopped by itself: the last lines of .*kube-apiserver\.log are"
    ):
        plane.require_running()
    plane.start()
    plane.require_running()
    assert plane.url() == url
    assert kubectl(plane, "get", "namespace", "kept").returncode == 0


def test_start_is_idempotent_across_processes(plane: ControlPlane) -> None:
    """A second handle, as another command would make it, finds the same programs and starts none."""
    before = plane.status()
    again = ControlPlane(plane.name).start()
    assert again.status() == before
    assert [part.running for part in before] == [True, True]


def test_kubeconfig_is_private_and_tokens_are_needed(plane: ControlPlane) -> None:
    """Only this user can read the token, and without it nothing is told."""
    assert stat.S_IMODE(plane.kubeconfig.stat().st_mode) == 0o600
    refused = kubectl(plane, "get", "namespaces", "--token=wrong")
    assert refused.returncode != 0
    assert "provide credentials" in refused.stderr


def test_another_port_is_refused(plane: ControlPlane) -> None:
    """The API server keeps its port, since clients would lose it."""
    with pytest.raises(UserError, match="has port"):
        plane.start(port=1)


def test_controller_manager_can_be_added(plane: ControlPlane) -> None:
    """A control plane started without the controller manager gets it later and keeps it over a restart."""
    plane.start(controller_manager=True)
    assert len(plane.status()) == 3
    assert kubectl(plane, "get", "serviceaccount", "default", "-n", "default").returncode == 0
    plane.stop()
    assert not any(part.running for part in plane.status())
    plane.start()
    assert [part.running for part in plane.status()] == [True, True, True]
