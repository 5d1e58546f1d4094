"""``llmspell operator run`` as a process: exit codes, logs, and the end that others can rely on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plugins.controlplane import Cluster

COMMAND = [sys.executable, "-c", "from storage_operator.cli.main import run; run()", "operator", "run"]
LEASE = {
    "LLMSPELL_OPERATOR_LEASE_DURATION_SECONDS": "6",
    "LLMSPELL_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS": "4",
    "LLMSPELL_OPERATOR_LEASE_RETRY_PERIOD_SECONDS": "0.4",
}
Start = Callable[..., subprocess.Popen[str]]


class Log:
    """The log of a process, in a file, so that nothing blocks on a pipe."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """Return what was written so far."""
        return self.path.read_text().splitlines()

    def wait_for(self, text: str, timeout: float = 60.0, times: int = 1) -> None:
        """Wait until so many lines hold the text."""
        deadline = time.monotonic() + timeout
        while sum(text in line for line in self.lines()) < times:
            assert time.monotonic() < deadline, f"{text!r} not in:\n" + "\n".join(self.lines())
            time.sleep(0.05)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Give the log of the process."""
    return Log(tmp_path / "operator.log")


@pytest.fixture
def start(installed_crds: Cluster, fresh_namespace: str, log: Log) -> Iterator[Start]:
    """Give a function that starts the operator for one namespace."""
    processes: list[subprocess.Popen[str]] = []

    def run(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        scope = ["-n", fresh_namespace, "--lease-namespace", fresh_namespace, "--http-port", "0"]
        with log.path.open("a") as output:
            process = subprocess.Popen(
                [*COMMAND, *scope, *arguments],
                env={"KUBECONFIG": str(installed_crds.kubeconfig), "PATH": "/usr/bin:/bin", **LEASE, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.cluster
def test_sigterm_ends_cleanly_and_gives_the_lease_back(
    installed_crds: Cluster, fresh_namespace: str, start: Start, log: Log
) -> None:
    """Exit code 0, every line of the log one JSON object, and a Lease without a holder."""
    process = start()
    log.wait_for("watching")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    messages = [json.loads(line)["message"] for line in log.lines()]
    assert any(message.startswith("stopping") for message in messages)
    lease = installed_crds.get("lease", "llmspell-storage-operator", "-n", fresh_namespace)
    assert not lease["spec"].get("holderIdentity")


@pytest.mark.cluster
def test_a_hanging_api_server_ends_the_leader_within_its_deadline(
    installed_crds: Cluster, start: Start, log: Log
) -> None:
    """The process is gone before the Lease can be anybody else's, with exit code 3 and one line that says why."""
    assert installed_crds.plane is not None
    process = start("--log-format", "text", LLMSPELL_OPERATOR_LEASE_DURATION_SECONDS="20")
    log.wait_for("watching")
    installed_crds.plane.kill("kube-apiserver", signal.SIGSTOP)
    try:
        code = process.wait(20)
    finally:
        installed_crds.plane.kill("kube-apiserver", signal.SIGCONT)
    assert code == 3
    assert sum("leadership lost" in line or "lease ran out" in line for line in log.lines()) == 1


@pytest.mark.cluster
def test_a_standby_leads_after_the_leader_was_killed(start: Start, log: Log) -> None:
    """SIGKILL costs one lease duration, and a standby stops at once when it is asked to."""
    leader = start("--identity", "first")
    log.wait_for("held as first")
    standby = start("--identity", "second")
    log.wait_for("is held by first")
    third = start("--identity", "third")
    log.wait_for("is held by first", times=2)
    third.send_signal(signal.SIGTERM)
    assert third.wait(60) == 0
    leader.kill()
    started = time.monotonic()
    log.wait_for("held as second")
    # What the lease lasts beyond the moment at which a leader that does not renew it ends by itself.
    assert time.monotonic() - started >= 2.0
    standby.send_signal(signal.SIGTERM)
    assert standby.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["-n", "a", "-A"], {}, "exclude each other"),
        (["--http-port", "70000"], {}, "http_port"),
        (["-n", "Bad_Name"], {}, "Bad_Name"),
        (["--kubeconfig", "/nonexistent"], {}, "/nonexistent does not exist"),
        ([], {"LLMSPELL_OPERATOR_WORKERS": "many", "LLMSPELL_OPERATOR_LOG_FORMAT": "xml"}, "log_format"),
        ([], {"LLMSPELL_OPERATOR_LEASE_DURATION_SECONDS": "5"}, "renew deadline"),
    ],
    ids=["both-scopes", "port", "namespace", "kubeconfig", "environment", "lease"],
)
def test_a_mistake_is_one_clear_line(arguments: list[str], environment: dict[str, str], says: str) -> None:
    """No traceback, exit code not 0, and the name of what is wrong."""
    finished = subprocess.run(
        [*COMMAND, *arguments],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode != 0
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr
