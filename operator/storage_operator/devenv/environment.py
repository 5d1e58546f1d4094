"""The whole development environment of one name: a PostgreSQL server and a cluster, each ours or somebody else's.

What exists wins: a server or a cluster that the caller names is used and never started, stopped or changed here. Our own
parts are ``EmbeddedPostgres`` (or ``ContainerPostgres``) and ``ControlPlane``; this module only puts them together.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import shlex
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import yaml
from psycopg.conninfo import conninfo_to_dict

from storage_operator.devenv import ownership, toolchain
from storage_operator.devenv.container import DEFAULT_IMAGE, ContainerPostgres
from storage_operator.devenv.controlplane import ControlPlane
from storage_operator.devenv.locations import environment_folder, exclusive, write_private
from storage_operator.devenv.postgres import EmbeddedPostgres
from storage_operator.errors import UserError

DEFAULT_NAME = "default"
POSTGRES_URL_VARIABLE = "LLMSPELL_STORAGE_POSTGRES_URL"
KUBECONFIG_VARIABLE = "KUBECONFIG"
# Exported beside the other one, so that a later `up` in the same shell knows whose server that is.
_OWN_URL_VARIABLE = "LLMSPELL_STORAGE_DEV_POSTGRES_URL"
_REACH_TIMEOUT_SECONDS = 5


class PostgresSource(enum.StrEnum):
    """Where a PostgreSQL of our own comes from."""

    EMBEDDED = "embedded"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What ``up`` is asked for; the defaults give an embedded server and a control plane of our own."""

    postgres_url: str | None = None
    kubeconfig: str | None = None
    postgres: PostgresSource = PostgresSource.EMBEDDED
    image: str = DEFAULT_IMAGE
    cluster: bool = True
    controller_manager: bool = False
    postgres_port: int = 0
    api_port: int = 0


@dataclass(frozen=True, slots=True)
class PartState:
    """One line of the status: a part, whether it runs, where, and in what log it writes."""

    part: str
    state: str
    address: str
    pid: int | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class _Foreign:
    """The content of ``environment.json``: the server and the cluster that somebody else runs."""

    postgres_url: str | None = None
    kubeconfig: str | None = None


Report = Callable[[str], None]


class Environment:
    """One environment, found by its name from any process."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        """Name the environment; nothing is started or read."""
        self.name = name
        self.folder = environment_folder(name)
        self.embedded = EmbeddedPostgres(name)
        self.container = ContainerPostgres(name)
        self.control_plane = ControlPlane(name)
        self._foreign_file = self.folder / "environment.json"
        self._lock_file = self.folder.parent / f"{name}.lock"

    def up(self, wishes: Wishes, report: Report = lambda _: None) -> None:
        """Start what is wanted and does not run; calling it again changes nothing that is up.

        A server or cluster that ``wishes`` or the environment variables name is checked and remembered instead.
        """
        with exclusive(self._lock_file, lambda: report("waiting for another command on this environment")):
            postgres_url = self._foreign_postgres(wishes)
            kubeconfig = self._foreign_kubeconfig(wishes) if wishes.cluster else None
            # What can be found wrong is found before anything is started.
            if postgres_url is not None:
                _require_server(postgres_url)
                report("PostgreSQL: the server that you gave answers")
            if kubeconfig is not None:
                _require_cluster(kubeconfig)
                report("Kubernetes: the cluster that you gave answers")
            elif wishes.cluster:
                toolchain.require(toolchain.CONTROL_PLANE)
            write_private(self._foreign_file, json.dumps(asdict(_Foreign(postgres_url, kubeconfig)), indent=2))
            if postgres_url is None and wishes.postgres is PostgresSource.CONTAINER:
                report(f"PostgreSQL: starting a container of {wishes.image}")
                self.container.start(wishes.image)
            elif postgres_url is None:
                report("PostgreSQL: starting the embedded server")
                self.embedded.start(port=wishes.postgres_port)
            self._link_programs()
            if kubeconfig is None and wishes.cluster:
                report("Kubernetes: starting the control plane")
                self.control_plane.start(
                    controller_manager=wishes.controller_manager,
                    port=wishes.api_port,
                    report=lambda progress: report(str(progress)),
                )
                self._link_programs()

    def down(self) -> bool:
        """Stop what is ours and delete its data; tell whether there was anything. Built programs stay in the cache."""
        existed = self.folder.exists()
        # Each part is ended even when another one resists; the stack runs from the last line to the first.
        with exclusive(self._lock_file, remove=True), contextlib.ExitStack() as steps:
            steps.callback(shutil.rmtree, self.folder, ignore_errors=True)
            steps.callback(ownership.release, self.name)
            steps.callback(self.embedded.remove)
            steps.callback(self.container.remove)
            steps.callback(self.control_plane.remove)
        return existed

    def status(self) -> list[PartState]:
        """Describe each part; an empty list when the environment is not up."""
        foreign = self._foreign()
        parts: list[PartState] = []
        if foreign.postgres_url is not None:
            parts.append(PartState("postgres", "external", _without_password(foreign.postgres_url)))
        elif self.container.exists():
            state = "running" if self.container.running() else "stopped"
            parts.append(PartState("postgres", state, _without_password(self.container.dsn())))
        elif (server := self.embedded.status()) is not None:
            state = "running" if server.running else "stopped"
            address = _without_password(self.embedded.dsn())
            parts.append(PartState("postgres", state, address, server.pid, str(server.log)))
        if foreign.kubeconfig is not None:
            parts.append(PartState("kubernetes", "external", foreign.kubeconfig))
        for part in self.control_plane.status():
            address = self.control_plane.url() if part.name == "kube-apiserver" else ""
            state = "running" if part.running else "stopped"
            parts.append(PartState(part.name, state, address, part.pid, str(part.log)))
        return parts

    def require_healthy(self) -> None:
        """Raise the report on the first part of ours that ended by itself."""
        if self.embedded.status() is not None:
            self.embedded.require_running()
        if self.control_plane.status():
            self.control_plane.require_running()

    def postgres_url(self) -> str:
        """Return the superuser's DSN of this environment's server."""
        foreign = self._foreign()
        if foreign.postgres_url is not None:
            return foreign.postgres_url
        return self.container.dsn() if self.container.exists() else self.embedded.dsn()

    def kubeconfig(self) -> Path | None:
        """Return the kubeconfig of this environment's cluster, None when it has no cluster."""
        foreign = self._foreign()
        if foreign.kubeconfig is not None:
            return Path(foreign.kubeconfig)
        return self.control_plane.kubeconfig if self.control_plane.status() else None

    def variables(self) -> dict[str, str]:
        """Return what a shell has to set to work with this environment; ``PATH`` is what goes in front of it."""
        if not self.status():
            raise UserError(f"the environment {self.name} is not up", fix="Run: llmspell dev up")
        kubeconfig = self.kubeconfig()
        return {
            **({} if kubeconfig is None else {KUBECONFIG_VARIABLE: str(kubeconfig)}),
            POSTGRES_URL_VARIABLE: self.postgres_url(),
            **({} if self._foreign().postgres_url else {_OWN_URL_VARIABLE: self.postgres_url()}),
            "PATH": str(self.folder / "bin"),
        }

    def logs(self, lines: int = 50) -> Mapping[str, str]:
        """Return the last lines of each log of our own parts."""
        found: dict[str, str] = {}
        if self.embedded.status() is not None:
            found["postgres"] = self.embedded.log_tail(lines)
        if self.container.exists():
            found["postgres"] = self.container.log_tail(lines)
        for part in self.control_plane.status():
            found[part.name] = "\n".join(part.log.read_text(errors="replace").splitlines()[-lines:])
        return found

    def _foreign(self) -> _Foreign:
        try:
            return _Foreign(**json.loads(self._foreign_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return _Foreign()

    def _foreign_postgres(self, wishes: Wishes) -> str | None:
        given = os.environ.get(POSTGRES_URL_VARIABLE)
        # A shell in which `dev env` was evaluated names a server of ours: that is not somebody else's.
        return wishes.postgres_url or (None if given == os.environ.get(_OWN_URL_VARIABLE) else given) or None

    def _foreign_kubeconfig(self, wishes: Wishes) -> str | None:
        given = os.environ.get(KUBECONFIG_VARIABLE)
        ours = given is not None and Path(given).parent.parent == self.folder.parent
        chosen = wishes.kubeconfig or (None if ours else given)
        return str(Path(chosen).expanduser().absolute()) if chosen else None

    def _link_programs(self) -> None:
        """Put kubectl and PostgreSQL's own programs into one folder, which ``dev env`` puts into PATH."""
        folder = self.folder / "bin"
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.control_plane.kubectl.exists():
            (folder / "kubectl").unlink(missing_ok=True)
            (folder / "kubectl").symlink_to(self.control_plane.kubectl)
        if self.embedded.status() is None:
            return
        program = self.embedded.program()
        libraries = shlex.quote(program.environment()["LD_LIBRARY_PATH"])
        for name in ("psql", "pg_dump", "pg_restore", "pgbench"):
            if (program.bin / name).exists():
                script = f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {shlex.quote(str(program.bin / name))} "$@"\n'
                (folder / name).write_text(script, encoding="utf-8")
                (folder / name).chmod(0o700)


def remove_orphans() -> None:
    """Remove the environments whose owner, such as a test session, was killed before it could."""
    for name in ownership.orphans():
        Environment(name).down()


def _without_password(url: str) -> str:
    parts = conninfo_to_dict(url)
    return f"postgresql://{parts.get('user', '')}@{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _require_server(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=_REACH_TIMEOUT_SECONDS).close()
    except psycopg.Error as error:
        why = " ".join(str(error).split()).rstrip(".?")
        raise UserError(
            "the given PostgreSQL does not answer", why, f"Check --postgres-url or {POSTGRES_URL_VARIABLE}"
        ) from error


def _require_cluster(kubeconfig: str) -> None:
    """Check that the current context of a kubeconfig names a server that can be reached."""
    fix = f"Check --kubeconfig or {KUBECONFIG_VARIABLE}"
    try:
        value = yaml.safe_load(Path(kubeconfig).read_text(encoding="utf-8"))
        contexts = {entry["name"]: entry["context"] for entry in value["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in value["clusters"]}
        address = urlsplit(clusters[contexts[value["current-context"]]["cluster"]]["server"])
    except OSError as error:
        raise UserError(f"cannot read the kubeconfig {kubeconfig}", error.strerror or str(error), fix) from error
    except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{kubeconfig} is not a kubeconfig with a current context", type(error).__name__, fix
        ) from error
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=_REACH_TIMEOUT_SECONDS).close()
    except OSError as error:
        raise UserError(f"the cluster at {address.geturl()} does not answer", str(error), fix) from error
