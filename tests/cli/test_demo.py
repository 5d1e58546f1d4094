"""``llmspell demo`` as a process, with servers of its own: what it shows, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from storage_operator.devenv.environment import Environment
from tests.plugins.commandline import VARIABLES
from tests.plugins.postgres import Database

PROGRAM = [sys.executable, "-c", "from storage_operator.cli.main import run; run()", "demo"]


@pytest.fixture
def name() -> Iterator[str]:
    """Give an environment's name of the test's own, and remove what a failed test left."""
    chosen = f"demo-{secrets.token_hex(4)}"
    yield chosen
    Environment(chosen).down()


def play(name: str, *options: str, timeout: float = 600, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | variables
    command = [*PROGRAM, "--name", name, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, env=environment)


def is_gone(name: str) -> bool:
    """Tell whether nothing of an environment runs or is on disk."""
    environment = Environment(name)
    return not environment.status() and not environment.folder.exists()


def test_without_a_cluster_tenants_are_shown_apart(name: str) -> None:
    """PostgreSQL alone shows all resources Ready, each tenant its own row and nobody else's, and ends cleanly."""
    ran = play(name, "--without-cluster", "--no-keep")
    assert ran.returncode == 0, ran.stderr
    assert len(re.findall(r"^Tenant .* True +Ready", ran.stdout, re.MULTILINE)) == 3
    assert ran.stdout.count("✓") == 9
    assert "1 row: a row of acme" in ran.stdout
    assert "violates row-level security policy" in ran.stdout
    assert is_gone(name)


def test_kept_it_can_be_run_again_and_cleaned(name: str) -> None:
    """With --keep the environment stays, a second run works on it, and the last line says how to end it."""
    assert "How to go on" in play(name, "--without-cluster", "--keep").stdout
    assert not is_gone(name)
    again = play(name, "--without-cluster", "--keep")
    assert again.returncode == 0, again.stderr
    assert f"demo --clean --name {name}" in again.stdout
    assert play(name, "--clean").returncode == 0
    assert is_gone(name)


def test_a_server_of_somebody_else_is_left_as_it_was(name: str, superuser_url: str, fresh_database: Database) -> None:
    """On a given server the demo removes its databases and roles, and nothing else."""
    ran = play(name, "--without-cluster", "--no-keep", LLMSPELL_STORAGE_POSTGRES_URL=superuser_url)
    assert ran.returncode == 0, ran.stderr
    (made,) = set(re.findall(r"installation ([a-z2-7]{8})", ran.stdout)) or {"none"}
    with fresh_database.connect() as connection:
        databases = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", (f"llmspell\\_{made}%",)
        ).fetchall()
    assert fresh_database.name in databases
    assert "llmspell_demo_alone" not in databases
    assert not roles


def test_interrupted_it_leaves_nothing(name: str) -> None:
    """SIGTERM while it works ends every part of it."""
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    command = [*PROGRAM, "--name", name, "--without-cluster"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    while "Database" not in child.stdout.readline():
        assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=200)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert is_gone(name)


@pytest.mark.cluster
def test_on_an_api_server_everything_becomes_ready(name: str) -> None:
    """The whole demo: kubectl's table with one cluster, three components and three tenants Ready, and the proof twice."""
    ran = play(name, "--no-keep")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    table = ran.stdout[ran.stdout.index("$ kubectl get") :]
    assert len(re.findall(r"storage\.llmspell\.dev/\S+.* True +Ready", table)) == 7
    assert ran.stdout.count("1 row: a row of acme") == 2
    assert "LEAK" not in ran.stdout
    assert is_gone(name)
