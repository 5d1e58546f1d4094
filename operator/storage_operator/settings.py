"""Settings of the operator's process: typed, frozen, read once, passed in.

Every field has an environment variable ``LLMSPELL_OPERATOR_<FIELD>``; command-line options win over it. What belongs to
one database is in its StorageCluster, not here.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, cast

from storage_operator.errors import UserError

PREFIX = "LLMSPELL_OPERATOR_"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
NAME_PATTERN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
MAX_NAME_LENGTH = 63
MAX_PORT = 65_535
WORDS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

LogFormat = Literal["json", "text"]


def default_identity() -> str:
    """Name this process so that no other run, on this machine or another, has the same name."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def default_lease_namespace(mapping: Mapping[str, str] | None = None) -> str:
    """Use the pod's own namespace, or ``default`` outside of a pod."""
    if mapping and mapping.get("POD_NAMESPACE"):
        return mapping["POD_NAMESPACE"]
    return NAMESPACE_FILE.read_text(encoding="utf-8").strip() if NAMESPACE_FILE.is_file() else "default"


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """How this process runs; times are seconds."""

    namespaces: tuple[str, ...] = ()
    """Watch these namespaces only; none means all of the cluster."""
    kubeconfig: str = ""
    """Path of a kubeconfig; empty: KUBECONFIG, then the pod's service account, then the user's default."""
    http_host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from other hosts
    """Address that probes and metrics are served on."""
    http_port: int = 8080
    """Port of /healthz, /readyz and /metrics; 0 takes a free one."""
    log_format: LogFormat = "json"
    """One JSON object a line, or text for a terminal."""
    log_level: str = "INFO"
    """Least severe level that is written."""
    leader_election: bool = True
    """Hold a Lease while working; switch off only where a second process is impossible."""
    lease_name: str = "llmspell-storage-operator"
    """Name of the Lease."""
    lease_namespace: str = field(default_factory=default_lease_namespace)
    """Namespace of the Lease."""
    lease_duration_seconds: float = 15.0
    """How long other processes let an unchanged Lease stand."""
    lease_renew_deadline_seconds: float = 10.0
    """How long this process goes on without renewing; then it ends."""
    lease_retry_period_seconds: float = 2.0
    """Pause between renewals."""
    identity: str = field(default_factory=default_identity)
    """This process in the Lease and in Events; must be unique."""
    workers: int = 16
    """Reconciles that run at once, over all clusters."""
    cluster_concurrency: int = 4
    """Reconciles that run at once for one StorageCluster that names no limit of its own."""
    retry_base_seconds: float = 0.5
    """Longest first delay after a failure; doubles with each further one, with full jitter."""
    retry_cap_seconds: float = 60.0
    """Longest delay after failures."""
    resync_interval_seconds: float = 600.0
    """How often an unchanged object is looked at when its cluster names no drift interval."""
    resync_rate_per_second: float = 50.0
    """Most unchanged objects that are looked at in a second, over all clusters."""
    relist_interval_seconds: float = 600.0
    """How often the cache is compared with a full list, in case a watch lost something."""
    request_timeout_seconds: float = 10.0
    """Time-out of one request to the API server."""
    watch_inactivity_seconds: float = 70.0
    """Reconnect a watch that was silent for so long (the server sends bookmarks about every 60 s)."""
    watch_stale_seconds: float = 180.0
    """Unhealthy when a watch was neither active nor reconnected for so long."""
    loop_lag_seconds: float = 5.0
    """Unhealthy when the event loop is late by so much."""
    stuck_seconds: float = 300.0
    """Unhealthy when there is work and none was finished for so long."""
    drain_seconds: float = 20.0
    """Time that running reconciles get to finish on SIGTERM."""

    @property
    def clusterwide(self) -> bool:
        """Whether all namespaces are watched."""
        return not self.namespaces

    @classmethod
    def from_env(cls, mapping: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the environment, let ``overrides`` that are not None win, and name every fault at once."""
        environment = os.environ if mapping is None else mapping
        values: dict[str, Any] = {"lease_namespace": default_lease_namespace(environment)}
        faults: list[str] = []
        for item in dataclasses.fields(cls):
            name = PREFIX + item.name.upper()
            if name in environment:
                try:
                    values[item.name] = PARSERS[str(item.type)](environment[name])
                except ValueError as error:
                    faults.append(f"{name}: {error}")
        values |= {name: value for name, value in overrides.items() if value is not None}
        settings = cls(**values)
        faults += settings.faults()
        if faults:
            raise UserError("The operator's settings are wrong", "; ".join(faults))
        return settings

    def faults(self) -> list[str]:
        """List every value that cannot work."""
        found = [f"{name}: must be above 0" for name in POSITIVE if getattr(self, name) <= 0]
        if not 0 < self.lease_retry_period_seconds < self.lease_renew_deadline_seconds < self.lease_duration_seconds:
            found.append("lease: retry period < renew deadline < duration is required")
        if not 0 <= self.http_port <= MAX_PORT:
            found.append(f"http_port: must be 0 to {MAX_PORT}")
        if self.log_format not in ("json", "text"):
            found.append("log_format: must be json or text")
        if self.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            found.append("log_level: must be DEBUG, INFO, WARNING or ERROR")
        names = [*self.namespaces, self.lease_namespace]
        bad = [name for name in names if len(name) > MAX_NAME_LENGTH or not NAME_PATTERN.fullmatch(name)]
        found += [f"namespace: {name!r} is not a valid name" for name in bad]
        if not NAME_PATTERN.fullmatch(self.lease_name):
            found.append(f"lease_name: {self.lease_name!r} is not a valid name")
        if not self.identity:
            found.append("identity: must not be empty")
        return found


POSITIVE = tuple(
    item.name
    for item in dataclasses.fields(OperatorSettings)
    if item.name.endswith(("_seconds", "_per_second")) or item.name in ("workers", "cluster_concurrency")
)


def _boolean(text: str) -> bool:
    try:
        return WORDS[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither true nor false") from None


def _number(text: str) -> float:
    number = float(text)
    if number != number or number in (float("inf"), float("-inf")):  # noqa: PLR0124 - only NaN differs from itself
        raise ValueError(f"{text!r} is not a finite number")
    return number


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "bool": _boolean,
    "int": int,
    "float": _number,
    "str": str.strip,
    "LogFormat": lambda text: cast("LogFormat", text.strip()),
    "tuple[str, ...]": _names,
}
