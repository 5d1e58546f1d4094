"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and, when asked for, kube-controller-manager.

No node is part of it: pods stay pending, everything else behaves as in any cluster. Each part runs in a session of its
own and outlives the command that started it. etcd listens on a socket in a private folder, so nobody but this user
reaches what is stored; the API server asks everybody for a token.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from storage_operator.devenv import process, toolchain
from storage_operator.devenv.locations import environment_folder, exclusive, write_private
from storage_operator.devenv.process import ProcessMark
from storage_operator.devenv.statefile import read_state
from storage_operator.errors import UserError

ETCD, API_SERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"
# What `kubectl wait` waits for, in turn, until definitions are served: a new one has no conditions before its names.
DEFINED = ("jsonpath={.status.acceptedNames.kind}", "condition=Established")
_READY_TIMEOUT_SECONDS = 120.0
_REQUEST_TIMEOUT_SECONDS = 5.0
# The API server would wait much longer for its watchers; nothing is lost when it does not.
_STOP_GRACE_SECONDS = 3.0
_START_ATTEMPTS = 3
_HTTP_OK = 200
# Those that mean something without nodes and clouds; each one less is a faster start.
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "disruption-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
    "validatingadmissionpolicy-status-controller",
)
# etcd takes a socket's name only without a folder, so every part runs in the folder that holds it.
_ETCD_ADDRESS = "unix://etcd:0"


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One program of the control plane, as ``llmspell dev status`` shows it."""

    name: str
    running: bool
    pid: int
    log: Path


@dataclass(frozen=True, slots=True)
class _State:
    """The content of the state file: where the API server listens, and the mark of each program in starting order."""

    port: int
    token: str
    controller_manager: bool
    marks: Mapping[str, ProcessMark]

    def as_json(self) -> str:
        marks = {name: mark.as_json() for name, mark in self.marks.items()}
        value = {"port": self.port, "token": self.token, "controller_manager": self.controller_manager}
        return json.dumps({**value, "marks": marks}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> _State:
        value = json.loads(text)
        marks = {name: ProcessMark.from_json(mark) for name, mark in value["marks"].items()}
        return cls(value["port"], value["token"], value["controller_manager"], marks)


class ControlPlane:
    """The control plane of one environment; each call may come from another process."""

    def __init__(self, name: str) -> None:
        """Name the environment whose control plane this is; nothing is started."""
        self.name = name
        self._folder = environment_folder(name) / "controlplane"
        self._state_file = environment_folder(name) / "controlplane.json"
        self._lock_file = environment_folder(name).parent / f"{name}.controlplane.lock"
        self.kubeconfig = environment_folder(name) / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The kubectl of the same version as the API server."""
        return toolchain.path_of("kubectl")

    def start(
        self,
        *,
        controller_manager: bool = False,
        port: int = 0,
        report: toolchain.Report | None = None,
    ) -> ControlPlane:
        """Start what does not run yet, building it first where that was never done, and wait until it is ready.

        What is stored is kept from an earlier start. Port 0 takes the earlier port, or a free one. The controller
        manager brings garbage collection by owner reference, the deletion of namespaces, service accounts and Jobs.
        """
        known = self._state()
        controller_manager = controller_manager or (known is not None and known.controller_manager)
        wanted = (*toolchain.CONTROL_PLANE, *([CONTROLLER_MANAGER] if controller_manager else []))
        toolchain.build(wanted, *([report] if report else []))
        with exclusive(self._lock_file):
            old = self._state()
            for attempt in range(1, _START_ATTEMPTS + 1):
                try:
                    self._start_parts(old, controller_manager=controller_manager, port=port)
                except UserError:
                    taken = "address already in use" in process.tail(self.log(API_SERVER), 30)
                    if port or old is not None or not taken or attempt == _START_ATTEMPTS:
                        raise
                    # Somebody took the free port between its choice and its use: with another one, all starts anew.
                    self._end(signal.SIGKILL)
                    self._state_file.unlink(missing_ok=True)
                else:
                    break
        return self

    def restart(self, part: str, *signals: signal.Signals) -> None:
        """Stop one program (by SIGTERM when nothing else is said) and start it again on the same port and data."""
        state = self._require_state()
        process.stop(state.marks[part], *signals, grace_seconds=_STOP_GRACE_SECONDS)
        self.start()

    def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send one program a signal: SIGKILL for a crash, SIGSTOP and SIGCONT for a program that hangs."""
        process.strike(self._require_state().marks[part], number)

    def stop(self) -> None:
        """Stop every program and keep what is stored; nothing happens when nothing runs."""
        with exclusive(self._lock_file):
            self._end(signal.SIGTERM)

    def remove(self) -> None:
        """Stop every program and delete everything of the control plane but its built programs."""
        with exclusive(self._lock_file, remove=True):
            # Nothing has to be written cleanly that is deleted in the next line.
            self._end(signal.SIGKILL)
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self.kubeconfig.unlink(missing_ok=True)
            self._state_file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                # Not empty means that other parts of the environment are there.
                self._state_file.parent.rmdir()

    def status(self) -> list[PartStatus]:
        """Describe each program; an empty list when the control plane was never started or has been removed."""
        state = self._state()
        marks = {} if state is None else state.marks
        return [PartStatus(name, process.is_running(mark), mark.pid, self.log(name)) for name, mark in marks.items()]

    def require_running(self) -> None:
        """Raise the report on a crash, with the log's last lines, when a program ended by itself."""
        self._require_state()
        for part in self.status():
            if not part.running:
                raise process.crash(part.name, part.log)

    def url(self) -> str:
        """Return the address of the API server."""
        return f"https://127.0.0.1:{self._require_state().port}"

    def log(self, part: str) -> Path:
        """Return the log of one program."""
        return self._folder / f"{part}.log"

    # --- below: one step of the above each -------------------------------------------------------------------

    def _state(self) -> _State | None:
        return read_state(self._state_file, _State.from_json)

    def _require_state(self) -> _State:
        state = self._state()
        if state is None:
            raise UserError(f"the control plane of {self.name} is not up", fix="Run: llmspell dev up")
        return state

    def _start_parts(self, old: _State | None, *, controller_manager: bool, port: int) -> None:
        if old is not None and port not in (0, old.port):
            raise UserError(
                f"the API server of {self.name} has port {old.port}, not {port}",
                "its clients would lose it",
                "Run: llmspell dev down, or leave the port out",
            )
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = old or _State(port or process.free_port(), secrets.token_urlsafe(24), controller_manager, {})
        write_private(self._folder / "tokens.csv", f'{state.token},admin,admin,"system:masters"\n')
        if controller_manager and not state.controller_manager:
            # Its admission plug-ins depend on who is there: with a controller manager it needs service accounts.
            process.stop(state.marks.get(API_SERVER), grace_seconds=_STOP_GRACE_SECONDS)
            state = replace(state, controller_manager=True)
        # A program that ended earlier is started again below, and is no reason to report a crash.
        state = replace(state, marks={name: mark for name, mark in state.marks.items() if process.is_running(mark)})
        state = self._ensure(state, ETCD, self._etcd_command())
        state = self._ensure(state, API_SERVER, self._api_server_command(state))
        self._wait_for("/readyz", state)
        self._write_kubeconfig(state)
        if state.controller_manager:
            state = self._ensure(state, CONTROLLER_MANAGER, self._controller_manager_command())
            # The first thing that it makes, and what pods and token requests need.
            self._wait_for("/api/v1/namespaces/default/serviceaccounts/default", state)

    def _ensure(self, state: _State, part: str, command: list[str]) -> _State:
        """Start one program unless it runs; its mark is written at once, so that a kill now leaves nothing unknown."""
        if process.is_running(state.marks.get(part)):
            return state
        if part == ETCD:
            (self._folder / "etcd:0").unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD_", "KUBE"))}
        mark = process.spawn(command, log=self.log(part), cwd=self._folder, environment=environment)
        state = replace(state, marks={**state.marks, part: mark})
        write_private(self._state_file, state.as_json())
        return state

    def _etcd_command(self) -> list[str]:
        peer = "unix://peer:0"
        return [
            str(toolchain.path_of(ETCD)),
            "--name=default",
            "--data-dir=etcd.data",
            f"--listen-client-urls={_ETCD_ADDRESS}",
            f"--advertise-client-urls={_ETCD_ADDRESS}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _api_server_command(self, state: _State) -> list[str]:
        # The API server makes its certificate and key at its first start; the same key signs service account tokens.
        key = "certificates/apiserver.key"
        return [
            str(toolchain.path_of(API_SERVER)),
            f"--etcd-servers={_ETCD_ADDRESS}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # The service "kubernetes" would need an address other than loopback.
            "--endpoint-reconciler-type=none",
            f"--secure-port={state.port}",
            "--cert-dir=certificates",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--allow-privileged=true",
            "--profiling=false",
            # Without a controller manager nobody makes the service account that this plug-in asks for.
            *([] if state.controller_manager else ["--disable-admission-plugins=ServiceAccount"]),
        ]

    def _controller_manager_command(self) -> list[str]:
        return [
            str(toolchain.path_of(CONTROLLER_MANAGER)),
            f"--kubeconfig={self.kubeconfig}",
            "--service-account-private-key-file=certificates/apiserver.key",
            "--root-ca-file=certificates/apiserver.crt",
            "--use-service-account-credentials=true",
            f"--controllers={','.join(_CONTROLLERS)}",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ]

    def _write_kubeconfig(self, state: _State) -> None:
        authority = (self._folder / "certificates" / "apiserver.crt").read_bytes()
        name = f"llmspell-{self.name}"
        cluster = {
            "server": f"https://127.0.0.1:{state.port}",
            "certificate-authority-data": base64.b64encode(authority).decode(),
        }
        value: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"token": state.token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}],
            "current-context": name,
        }
        write_private(self.kubeconfig, yaml.safe_dump(value, sort_keys=False))

    def _wait_for(self, path: str, state: _State) -> None:
        """Wait until a GET of ``path`` succeeds, and notice a program that ends meanwhile."""
        deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
        while not self._answers(path, state):
            for part, mark in state.marks.items():
                if not process.is_running(mark):
                    raise process.crash(part, self.log(part))
            if time.monotonic() > deadline:
                raise UserError(
                    f"the control plane of {self.name} does not become ready",
                    f"{path} does not answer; the last lines of {self.log(API_SERVER)} are\n"
                    f"{process.tail(self.log(API_SERVER))}",
                )
            time.sleep(process.POLL_SECONDS)

    def _answers(self, path: str, state: _State) -> bool:
        authority = self._folder / "certificates" / "apiserver.crt"
        if not authority.exists():
            return False
        try:
            context = ssl.create_default_context(cafile=authority)
            connection = http.client.HTTPSConnection(
                "127.0.0.1", state.port, timeout=_REQUEST_TIMEOUT_SECONDS, context=context
            )
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"Authorization": f"Bearer {state.token}"})
                return connection.getresponse().status == _HTTP_OK
        except (OSError, http.client.HTTPException):
            # Not there yet, or half a certificate file: the caller asks again until its deadline.
            return False

    def _end(self, number: signal.Signals) -> None:
        state = self._state()
        for part in (CONTROLLER_MANAGER, API_SERVER, ETCD):
            process.stop(state.marks.get(part) if state else None, number, grace_seconds=_STOP_GRACE_SECONDS)
