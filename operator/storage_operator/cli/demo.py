"""``llmspell demo``: tenants become Ready on a real PostgreSQL and a real Kubernetes API server, and stay apart."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from storage_operator.adapters.files import Manifests
from storage_operator.adapters.postgres.bootstrapping import Prepared, Request, prepare, remove
from storage_operator.adapters.postgres.showcase import Access, Scene, prove
from storage_operator.cli import output
from storage_operator.cli.apply import COLUMNS
from storage_operator.cli.database import SUPERUSER_VARIABLE, conninfo_of
from storage_operator.cli.progress import ProgressLine
from storage_operator.cli.workspace import Line, opened, read_manifests
from storage_operator.devenv import process
from storage_operator.devenv.controlplane import DEFINED
from storage_operator.devenv.environment import KUBECONFIG_VARIABLE, Environment, Wishes
from storage_operator.devenv.locations import write_private
from storage_operator.errors import UserError
from storage_operator.resources.kinds import Kind

NAME = "demo"
SCHEMA = "llmspell"
ALONE_DATABASE = "llmspell_demo_alone"
CLUSTER_DATABASE = "llmspell_demo"
ADMIN_SECRET = ("llmspell", "llmspell-admin")
READY_SECONDS = 180.0
APPLY_SECONDS = 60.0
_POLL_SECONDS = 0.5
_KUBECTL_SECONDS = 60
_STOP_SECONDS = 10
_ROOT = Path(__file__).parents[3]
MANIFESTS = _ROOT / "docs" / "tutorial" / "manifests"
DEFINITIONS = _ROOT / "crds"
_KINDS = "storageclusters,storagecomponents,tenants"


def demo(
    *,
    without_cluster: Annotated[
        bool, typer.Option("--without-cluster", help="Show PostgreSQL alone; nothing of Kubernetes is built.")
    ] = False,
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end, to go on with.")] = True,
    name: Annotated[str, typer.Option(help="The environment, as `llmspell dev --name` calls it.")] = NAME,
    clean: Annotated[bool, typer.Option("--clean", help="End and remove what an earlier demo left running.")] = False,
) -> None:
    """Show the whole: manifests become databases, logins and Secrets, and no tenant sees its neighbour's rows.

    The first run builds the Kubernetes programs, which takes minutes; PostgreSQL alone is shown meanwhile. Run it again
    at any time.
    """
    stage = Stage(Environment(name))
    if clean:
        stage.clean()
        print("Nothing of the demo is left running.")
        return
    if not MANIFESTS.is_dir() or not DEFINITIONS.is_dir():
        raise UserError(
            "the demo's manifests are missing", f"{MANIFESTS} is not there", "Run it from a clone of the repository"
        )
    with _interruptible(), _cleaned(stage, keep=keep):
        _play(stage, with_cluster=not without_cluster)
        if keep:
            stage.say_how_to_go_on(with_cluster=not without_cluster)


def _play(stage: Stage, *, with_cluster: bool) -> None:
    started = time.monotonic()
    _title("A PostgreSQL server")
    with ProgressLine() as progress:
        stage.environment.up(Wishes(cluster=False), progress)
    with stage.building(with_cluster=with_cluster) as build:
        _title("The manifests on PostgreSQL alone, without Kubernetes")
        stage.play_alone()
        if build is None:
            return
        _title("The same manifests on a Kubernetes API server")
        build.wait()
    stage.play_cluster()
    print(f"\nAll of it took {time.monotonic() - started:.0f} s.")


@dataclass(frozen=True, slots=True)
class Build:
    """The control plane as it is built and started by a process group of its own, compilers included."""

    child: subprocess.Popen[str]
    lines: list[str]
    reader: threading.Thread

    def wait(self) -> None:
        """Show the progress until the control plane is up; raises ``UserError`` with its last words."""
        with ProgressLine() as progress:
            shown = 0
            while self.child.poll() is None:
                if len(self.lines) > shown:
                    progress(self.lines[-1])
                    shown = len(self.lines)
                time.sleep(_POLL_SECONDS)
        self.reader.join(timeout=5)
        if self.child.returncode:
            told = next((line for line in reversed(self.lines) if line.startswith("error: ")), "")
            raise UserError(
                "the control plane did not start", told.removeprefix("error: ") or "\n".join(self.lines[-5:])
            )

    def stop(self) -> None:
        """End the build, and with it the compilers that it runs."""
        if self.child.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            try:
                self.child.wait(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
            return


class Stage:
    """What the demo works with: one environment, two databases, and an operator of its own."""

    def __init__(self, environment: Environment) -> None:
        """Take the environment that everything belongs to."""
        self.environment = environment
        self._mark_file = environment.folder / "operator.json"
        self._operator_log = environment.folder / "operator.log"

    @contextmanager
    def building(self, *, with_cluster: bool) -> Iterator[Build | None]:
        """Build and start the control plane in the background; whatever ends the block ends that, too."""
        if not with_cluster:
            yield None
            return
        command = [sys.executable, "-m", "storage_operator.cli.main", "dev", "up", "--name", self.environment.name]
        child = subprocess.Popen(  # noqa: S603 - this very program
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        lines: list[str] = []
        reader = threading.Thread(target=_collect, args=(child, lines), daemon=True)
        reader.start()
        build = Build(child, lines, reader)
        try:
            yield build
        finally:
            build.stop()

    def play_alone(self) -> None:
        """Apply the manifests to a database and show that two tenants do not see each other."""
        prepared = self._prepare(ALONE_DATABASE)
        manifests = read_manifests([MANIFESTS], prepared.dsn)
        with ProgressLine() as progress:
            lines, accesses = output.run(_apply(manifests, self.environment.folder / "credentials", progress))
        output.print_table(COLUMNS, [line.cells() for line in lines])
        if not all(line.settled for line in lines):
            raise UserError("the manifests did not become Ready", "the table says why")
        _show(accesses)

    def play_cluster(self) -> None:
        """Apply the manifests to the API server, run the operator, and show the same from the Kubernetes Secrets."""
        self._stop_operator()
        prepared = self._prepare(CLUSTER_DATABASE)
        self._kubectl("apply", "--server-side", "--force-conflicts", "-f", str(DEFINITIONS))
        for wish in DEFINED:
            self._kubectl("wait", f"--for={wish}", "--timeout=30s", "-f", str(DEFINITIONS))
        self._kubectl("apply", "-f", str(MANIFESTS / "1-namespaces.yaml"))
        namespace, name = ADMIN_SECRET
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name},
            "stringData": {"dsn": prepared.dsn},
        }
        self._kubectl("apply", "-f", "-", manifest=secret)
        self._kubectl("apply", "-f", str(MANIFESTS))
        print("$ kubectl apply -f docs/tutorial/manifests\n$ llmspell operator run")
        mark = self._start_operator()
        self._wait_until_ready(mark)
        print(f"$ kubectl get {_KINDS} --all-namespaces")
        print(self._kubectl("get", _KINDS, "--all-namespaces"))
        _show([self._access(body) for body in self._bodies() if body["kind"] == Kind.TENANT.value])

    def say_how_to_go_on(self, *, with_cluster: bool) -> None:
        """Print what to type next."""
        _title("How to go on")
        print(f'In this shell:    eval "$({_program()} dev env --name {self.environment.name})"')
        if with_cluster:
            print("Kubernetes:       kubectl get tenants --all-namespaces")
            print("                  kubectl -n team-a get secret acme-storage -o yaml")
            print("                  kubectl explain tenant.spec")
            print(
                "As a tenant:      psql \"$(kubectl -n team-a get secret acme-storage -o jsonpath='{.data.dsn}' | base64 -d)\""
            )
            print(f"The operator:     runs on; its log is {self._operator_log}")
        print('As superuser:     psql "$LLMSPELL_STORAGE_POSTGRES_URL"')
        named = "" if self.environment.name == NAME else f" --name {self.environment.name}"
        print(f"Clean up:         {_program()} demo --clean{named}")

    def clean(self) -> None:
        """End the operator and the environment; on servers of somebody else, remove what the demo made there."""
        parts = {part.part: part.state for part in self.environment.status()}
        try:
            if parts.get("kubernetes") == "external":
                self._kubectl("delete", "--ignore-not-found", "--timeout=60s", "-f", str(MANIFESTS))
            self._stop_operator()
            if parts.get("postgres") == "external":
                self._drop_databases()
        finally:
            self._stop_operator()
            self.environment.down()

    def _drop_databases(self) -> None:
        conninfo = conninfo_of(self.environment.postgres_url(), SUPERUSER_VARIABLE)
        for database in (ALONE_DATABASE, CLUSTER_DATABASE):
            output.run(remove(conninfo, Request(database, SCHEMA)))

    def _prepare(self, database: str) -> Prepared:
        conninfo = conninfo_of(self.environment.postgres_url(), SUPERUSER_VARIABLE)
        prepared = output.run(prepare(conninfo, Request(database, SCHEMA, reset=True)))
        made = prepared.bootstrapped.names.installation
        print(f"Database {database} is bootstrapped (installation {made}); from here on nothing runs as a superuser.")
        return prepared

    def _start_operator(self) -> process.ProcessMark:
        command = [sys.executable, "-m", "storage_operator.cli.main", "operator", "run", "--http-port", "0"]
        mark = process.spawn(
            [*command, "--log-format", "text"],
            log=self._operator_log,
            cwd=self.environment.folder,
            environment={**os.environ, KUBECONFIG_VARIABLE: self._kubeconfig()},
        )
        write_private(self._mark_file, json.dumps(mark.as_json()))
        return mark

    def _stop_operator(self) -> None:
        try:
            mark = process.ProcessMark.from_json(json.loads(self._mark_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        process.stop(mark, grace_seconds=25.0)
        self._mark_file.unlink(missing_ok=True)

    def _wait_until_ready(self, mark: process.ProcessMark) -> None:
        deadline = time.monotonic() + READY_SECONDS
        with ProgressLine() as progress:
            while True:
                bodies = self._bodies()
                waiting = [body for body in bodies if not _is_ready(body)]
                progress(f"Ready: {len(bodies) - len(waiting)} of {len(bodies)}")
                if bodies and not waiting:
                    return
                if not process.is_running(mark):
                    raise process.crash("the operator", self._operator_log)
                if time.monotonic() > deadline:
                    raise UserError(
                        f"not Ready within {READY_SECONDS:.0f} s", _why(waiting[0]), f"See {self._operator_log}"
                    )
                time.sleep(_POLL_SECONDS)

    def _bodies(self) -> list[dict[str, Any]]:
        return list(json.loads(self._kubectl("get", _KINDS, "--all-namespaces", "-o", "json"))["items"])

    def _access(self, body: Mapping[str, Any]) -> Access:
        name, namespace = body["status"]["secretName"], body["metadata"]["namespace"]
        secret = json.loads(self._kubectl("get", "secret", "-n", namespace, name, "-o", "json"))
        return Access.of({key: base64.b64decode(value) for key, value in secret["data"].items()})

    def _kubeconfig(self) -> str:
        path = self.environment.kubeconfig()
        if path is None:
            raise UserError("the demo's cluster is not up", fix=f"Run: {_program()} demo")
        return str(path)

    def _kubectl(self, *arguments: str, manifest: object = None) -> str:
        own = self.environment.control_plane.kubectl
        program = str(own) if own.exists() else shutil.which("kubectl")
        if program is None:
            raise UserError("kubectl is missing", fix="Install kubectl, or leave KUBECONFIG unset")
        finished = subprocess.run(  # noqa: S603 - no shell
            [program, f"--kubeconfig={self._kubeconfig()}", *arguments],
            input=None if manifest is None else json.dumps(manifest),
            stdin=subprocess.DEVNULL if manifest is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_SECONDS + 60,
        )
        if finished.returncode:
            raise UserError(f"kubectl {arguments[0]} failed", output.plain(finished.stderr))
        return finished.stdout


async def _apply(manifests: Manifests, folder: Path, progress: ProgressLine) -> tuple[list[Line], list[Access]]:
    async with opened(manifests, folder, progress) as workspace:
        keys = workspace.world.keys()
        await workspace.converge(keys, APPLY_SECONDS)
        accesses: list[Access] = []
        for body in workspace.world.list(Kind.TENANT):
            name = body.get("status", {}).get("secretName")
            secret = await workspace.world.read_secret(body["metadata"]["namespace"], name) if name else None
            if secret is not None:
                accesses.append(Access.of(secret.data))
        return workspace.lines(keys), accesses


def _show(accesses: Sequence[Access]) -> None:
    """Print what each tenant tried and got; a leak ends the demo."""
    scenes: list[Scene] = output.run(prove(accesses))
    print("\nEvery tenant logs in with its own credentials, and tries to reach its neighbour:")
    rows = [(scene.tenant, scene.statement, scene.answer, "✓" if scene.isolated else "✗ LEAK") for scene in scenes]
    output.print_table(("tenant", "statement", "answer", ""), rows)
    if not all(scene.isolated for scene in scenes):
        raise UserError("a tenant reached its neighbour", "the table shows where", "Please report this")


def _is_ready(body: Mapping[str, Any]) -> bool:
    conditions = body.get("status", {}).get("conditions", [])
    return any(
        each["type"] == "Ready"
        and each["status"] == "True"
        and each.get("observedGeneration") == body["metadata"]["generation"]
        for each in conditions
    )


def _why(body: Mapping[str, Any]) -> str:
    conditions = body.get("status", {}).get("conditions", [])
    told: Mapping[str, Any] = next((each for each in conditions if each["type"] == "Ready"), {})
    return f"{body['kind']} {body['metadata']['name']}: {told.get('reason', 'no status')} {told.get('message', '')}".strip()


def _collect(child: subprocess.Popen[str], lines: list[str]) -> None:
    if child.stderr is not None:
        with contextlib.closing(child.stderr) as stream:
            for line in stream:
                if line.strip():
                    lines.append(line.strip())  # noqa: PERF401 - another thread reads while it grows


def _title(text: str) -> None:
    print(f"\n== {text} ==", flush=True)


def _program() -> str:
    """Name this program as it was started, so that its hints can be typed as they are."""
    local = Path(".venv/bin/llmspell")
    return str(local) if local.exists() and shutil.which("llmspell") is None else "llmspell"


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: with everything cleaned up."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def _cleaned(stage: Stage, *, keep: bool) -> Iterator[None]:
    """End everything after an error or an interruption, and at the end unless it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        output.note("\nInterrupted: ending what was started")
        stage.clean()
        raise typer.Exit(130) from None
    except BaseException:
        stage.clean()
        raise
    if not keep:
        stage.clean()
