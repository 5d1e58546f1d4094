"""Programs started by the development environment: started, watched, and ended without ever hitting a stranger.

A process id alone is not enough to kill by: after a reboot or a long time it may belong to something else. So each
program is remembered with the moment at which it started, and both must match.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage_operator.errors import UserError

_PROC = Path("/proc/self/stat")
_STATE_FIELD, _THREADS_FIELD, _START_FIELD = 0, 17, 19
POLL_SECONDS = 0.02
# Below what Linux and macOS give to outgoing connections: a server that is down for a moment finds its port again.
_PORTS = range(20_000, 30_000)
_PORT_CHOICES = 100
# Programs started by this very process: they must be reaped here, or they stay behind as zombies.
_own_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """What tells one process from every other one: its id and the moment at which it started."""

    pid: int
    started: str

    def as_json(self) -> dict[str, Any]:
        """Return the form that is kept in a state file."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ProcessMark:
        """Read what ``as_json`` wrote."""
        return cls(pid=int(value["pid"]), started=str(value["started"]))


def _linux_mark(pid: int) -> ProcessMark | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    # A zombie is dead and waits to be reaped, unless it has threads that are still ending and hold its files.
    ended = fields[_STATE_FIELD] in "ZX" and int(fields[_THREADS_FIELD]) <= 1
    return None if ended else ProcessMark(pid, fields[_START_FIELD])


def _portable_mark(pid: int) -> ProcessMark | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    listing = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C", **os.environ})
    state, _, started = listing.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else ProcessMark(pid, started.strip())


def mark_of(pid: int) -> ProcessMark | None:
    """Return the mark of a living process, None when there is none (a zombie counts as dead)."""
    mark = _linux_mark(pid) if _PROC.exists() else _portable_mark(pid)
    child = _own_children.get(pid)
    if child is None:
        return mark
    # A child that ended stays a zombie until it is reaped, which poll() does; only then is its id free again.
    if child.poll() is None:
        return mark
    del _own_children[pid]
    return None


def is_running(mark: ProcessMark | None) -> bool:
    """Tell whether exactly the process of this mark still lives."""
    return mark is not None and mark_of(mark.pid) == mark


def identity(user: str | None) -> dict[str, Any]:
    """Return the arguments by which ``subprocess`` runs a program as another user and with no group but that user's."""
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    user: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> ProcessMark:
    """Start a program in a session of its own, so that Ctrl-C here does not reach it; its output goes to ``log``."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=dict(environment if environment is not None else os.environ),
            start_new_session=True,
            **identity(user),
        )
    _own_children[child.pid] = child
    # The child cannot be reaped before poll() is called, so its mark is always there to be read; a zombie has none.
    mark = _linux_mark(child.pid) if _PROC.exists() else _portable_mark(child.pid)
    return mark or ProcessMark(child.pid, "ended at once")


def send(mark: ProcessMark, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; tell whether it was there to receive it."""
    if not is_running(mark):
        return False
    try:
        os.kill(mark.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(mark: ProcessMark, timeout_seconds: float) -> bool:
    """Wait for the end of a process and tell whether it came in time."""
    deadline = time.monotonic() + timeout_seconds
    while is_running(mark):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def stop(mark: ProcessMark | None, *signals: signal.Signals, grace_seconds: float = 15.0) -> None:
    """End a process with the given signals in turn (by default SIGTERM), each with its grace time, SIGKILL at last."""
    if mark is None:
        return
    for number in (*(signals or (signal.SIGTERM,)), signal.SIGKILL):
        if not send(mark, number):
            return
        # A process stopped by SIGSTOP acts on nothing else before it goes on.
        send(mark, signal.SIGCONT)
        if wait_until_gone(mark, grace_seconds):
            return
    raise UserError(
        f"process {mark.pid} does not end", "it survived SIGKILL", "Look at it with ps; a hung disk can cause this"
    )


def strike(mark: ProcessMark, number: signal.Signals) -> None:
    """Send a signal as if a process crashed or hung; after SIGKILL it is gone when this returns.

    Those who talk to it learn of its end a moment before, and who starts it again then would find it dying.
    """
    if number == signal.SIGKILL:
        stop(mark, number)
    else:
        send(mark, number)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a log, which is what a crash is explained by."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def crash(name: str, log: Path) -> UserError:
    """Build the report on a program that ended by itself: its name and the last lines that it wrote."""
    return UserError(f"{name} stopped by itself", f"the last lines of {log} are\n{tail(log)}")


def free_port() -> int:
    """Return a port on loopback that nobody listens on now, and that the system gives to nobody who asks for any."""
    for _ in range(_PORT_CHOICES):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise UserError(f"no port between {_PORTS.start} and {_PORTS.stop} is free on 127.0.0.1")
