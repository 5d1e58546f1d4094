"""Whole environments, as ``llmspell dev`` drives them: nothing is left, nothing of others is touched."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from storage_operator.cli import dev
from storage_operator.devenv import ownership, process
from storage_operator.devenv.environment import (
    POSTGRES_URL_VARIABLE,
    Environment,
    PostgresSource,
    Wishes,
    remove_orphans,
)
from storage_operator.devenv.locations import ROOT_SERVER_FOLDER, server_folder
from storage_operator.errors import UserError


def run(*arguments: str) -> Result:
    """Run ``llmspell dev`` in this process."""
    return CliRunner().invoke(dev.app, list(arguments))


def test_up_and_down_leave_nothing(control_plane: object, environment: Environment) -> None:
    """After ``down`` no process, no open port and no file of the environment is left, inside the cache and outside."""
    assert run("up", "--name", environment.name).exit_code == 0
    parts = environment.status()
    assert [part.part for part in parts] == ["postgres", "etcd", "kube-apiserver"]
    assert {part.state for part in parts} == {"running"}
    port = psycopg.conninfo.conninfo_to_dict(environment.postgres_url())["port"]
    assert run("down", "--name", environment.name).exit_code == 0
    assert all(part.pid is None or process.mark_of(part.pid) is None for part in parts)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(str(port))), timeout=2)
    assert not environment.folder.exists()
    assert not server_folder(environment.name).exists()
    assert not (ROOT_SERVER_FOLDER / environment.name).exists()
    assert not list(environment.folder.parent.glob(f"{environment.name}*"))


def test_two_environments_at_once(environment: Environment) -> None:
    """Two environments have ports and data of their own, and one going down leaves the other up."""
    other = Environment(f"{environment.name}-b")
    ownership.claim(other.name)
    try:
        environment.up(Wishes(cluster=False))
        other.up(Wishes(cluster=False))
        assert environment.postgres_url() != other.postgres_url()
    finally:
        other.down()
    psycopg.connect(environment.postgres_url()).close()


def test_env_prints_lines_for_a_shell(environment: Environment) -> None:
    """A shell that evaluates the lines reaches the server with the psql in its PATH."""
    environment.up(Wishes(cluster=False))
    lines = run("env", "--name", environment.name).stdout
    script = f'{lines}\npsql -XAt "${POSTGRES_URL_VARIABLE}" -c "SELECT 6 * 7"'
    finished = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "42"
    assert all(line.startswith("export ") for line in lines.splitlines())


def test_status_as_json(environment: Environment) -> None:
    """``status --json`` tells the parts without a password; its exit code tells what is up."""
    assert run("status", "--name", environment.name).exit_code == 3
    environment.up(Wishes(cluster=False))
    shown = run("status", "--name", environment.name, "--json")
    assert shown.exit_code == 0
    (part,) = json.loads(shown.stdout)["parts"]
    assert (part["part"], part["state"]) == ("postgres", "running")
    password = psycopg.conninfo.conninfo_to_dict(environment.postgres_url())["password"]
    assert str(password) not in shown.stdout
    environment.embedded.stop()
    assert run("status", "--name", environment.name).exit_code == 1


def test_logs_of_one_part_and_of_none(environment: Environment) -> None:
    """``logs`` prints a part's last lines, and names the parts when it does not know one."""
    environment.up(Wishes(cluster=False))
    assert "ready to accept connections" in run("logs", "postgres", "--name", environment.name).stdout
    unknown = run("logs", "nginx", "--name", environment.name)
    assert isinstance(unknown.exception, UserError)
    assert "It has: postgres" in str(unknown.exception)


def test_own_variables_are_not_foreign(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """``up`` in a shell that evaluated ``env`` starts our own server again, even after ``down``."""
    environment.up(Wishes(cluster=False))
    for variable, value in environment.variables().items():
        if variable != "PATH":
            monkeypatch.setenv(variable, value)
    environment.down()
    environment.up(Wishes(cluster=False))
    assert [part.state for part in environment.status()] == ["running"]


def test_given_server_wins_and_is_left_alone(
    superuser_url: str, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server named by the environment variable is used, none is started, and ``down`` does not touch it."""
    monkeypatch.setenv(POSTGRES_URL_VARIABLE, superuser_url)
    environment.up(Wishes(cluster=False))
    assert [(part.part, part.state) for part in environment.status()] == [("postgres", "external")]
    assert environment.postgres_url() == superuser_url
    environment.down()
    psycopg.connect(superuser_url).close()


def test_given_cluster_wins(control_plane: object, environment: Environment, tmp_path: Path) -> None:
    """A cluster named on the command line is used and no control plane is started."""
    other = environment.control_plane.start()
    copy = tmp_path / "kubeconfig"
    copy.write_text(other.kubeconfig.read_text())
    second = Environment(f"{environment.name}-b")
    ownership.claim(second.name)
    try:
        second.up(Wishes(kubeconfig=str(copy)))
        assert ("kubernetes", "external") in [(part.part, part.state) for part in second.status()]
        assert second.kubeconfig() == copy
    finally:
        second.down()
    other.require_running()


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        pytest.param(Wishes(postgres_url="postgresql://x@127.0.0.1:1/x"), "PostgreSQL does not answer", id="no-server"),
        pytest.param(Wishes(kubeconfig="/no/such/file"), "cannot read the kubeconfig", id="no-kubeconfig"),
        pytest.param(Wishes(kubeconfig=os.devnull), "is not a kubeconfig", id="empty-kubeconfig"),
    ],
)
def test_bad_references_start_nothing(environment: Environment, wishes: Wishes, message: str) -> None:
    """A server or cluster that cannot be used is one clear sentence, said before anything is started."""
    with pytest.raises(UserError, match=message):
        environment.up(wishes)
    assert environment.status() == []


def test_unreachable_cluster_is_reported(environment: Environment, tmp_path: Path) -> None:
    """A kubeconfig of a cluster that is gone is refused with its address."""
    file = tmp_path / "kubeconfig"
    file.write_text(
        "{current-context: c, contexts: [{name: c, context: {cluster: k}}],"
        " clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]}"
    )
    with pytest.raises(UserError, match=r"https://127\.0\.0\.1:1 does not answer"):
        environment.up(Wishes(kubeconfig=str(file)))


def test_missing_docker_is_one_sentence(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Docker the container says what to do instead."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(UserError, match="Docker does not answer") as caught:
        environment.up(Wishes(postgres=PostgresSource.CONTAINER, cluster=False))
    assert "\n" not in str(caught.value)


def test_missing_go_is_one_sentence(tmp_path: Path) -> None:
    """On a machine without Go and without built programs, ``up`` says in one line what to install."""
    environment = {"PATH": str(Path(sys.executable).parent), "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "storage_operator.cli.main", "dev", "up"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 1
    assert finished.stderr.startswith("error: Go is not installed: ")
    assert "https://go.dev/dl" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_bad_name_and_bad_cache_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that could leave its folder and a cache that cannot be written are refused in one line."""
    with pytest.raises(UserError, match="is not a name for an environment"):
        Environment("../other")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    with pytest.raises(UserError, match="cannot use the cache folder"):
        Environment("default")


def test_environments_of_killed_owners_are_removed(environment: Environment) -> None:
    """An environment whose owner was killed is ended by the next session, one with a living owner is not."""
    script = f"from storage_operator.devenv import ownership; ownership.claim({environment.name + '-o'!r})"
    subprocess.run([sys.executable, "-c", script], check=True)
    orphan = Environment(f"{environment.name}-o")
    orphan.up(Wishes(cluster=False))
    environment.up(Wishes(cluster=False))
    assert orphan.name in ownership.orphans()
    remove_orphans()
    assert not orphan.folder.exists()
    environment.require_healthy()


def test_programs_for_the_shell_are_private(environment: Environment) -> None:
    """The folder that goes into PATH belongs to this user alone."""
    environment.up(Wishes(cluster=False))
    assert stat.S_IMODE((environment.folder / "bin").stat().st_mode) == 0o700
