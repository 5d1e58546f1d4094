"""Leader election by a ``coordination.k8s.io`` Lease: one process works, the others wait.

Safety rests on durations measured with a monotonic clock on each side, never on comparing clocks of two machines. The
holder counts from the moment *before* it sent its last successful renewal and gives up after ``renew_deadline``. A
candidate counts from the moment *after* it saw the record change for the last time and takes over after the record's
own duration, which is longer. What the holder still has in flight then is stopped by the database's epoch (fencing).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storage_operator.adapters.kubernetes.client import ApiClient
from storage_operator.errors import ApiConflict, ApiError, ApiNotFound, LeaseLost

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """The three durations of the protocol, in seconds."""

    duration: float = 15.0
    """How long a candidate lets an unchanged record stand."""
    renew_deadline: float = 10.0
    """How long a holder goes on without a successful renewal."""
    retry_period: float = 2.0
    """The pause between two tries, and between two renewals."""

    def __post_init__(self) -> None:
        """Refuse durations that would let two processes lead at once."""
        if not 0 < self.retry_period < self.renew_deadline < self.duration:
            raise ValueError("a lease needs 0 < retry_period < renew_deadline < duration")

    @property
    def request_timeout(self) -> float:
        """The time-out of one request: two tries fit into the renew deadline."""
        return max(0.2, (self.renew_deadline - self.retry_period) / 2)


@dataclass(frozen=True, slots=True)
class _Observation:
    record: tuple[Any, ...]
    seen_at: float


class Lease:
    """One process's side of the election."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        timing: LeaseTiming | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``identity`` must differ between processes, between runs on one machine too."""
        self.identity = identity
        self.timing = timing or LeaseTiming()
        self.leading = False
        self.renewed_at = float("-inf")
        self._client = client
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._observed: _Observation | None = None
        self._lease: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """The URL path of the Lease."""
        return f"{self._collection}/{self._name}"

    @property
    def _collection(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"

    @property
    def deadline(self) -> float:
        """The moment on the monotonic clock at which this process must have stopped."""
        return self.renewed_at + self.timing.renew_deadline

    async def acquire(self) -> None:
        """Wait until this process leads."""
        announced: str | None = None
        while True:
            try:
                if await self._try():
                    self.leading = True
                    logger.info("leading: lease %s/%s held as %s", self._namespace, self._name, self.identity)
                    return
                holder = self._holder()
                if holder != announced:
                    logger.info("waiting: lease %s/%s is held by %s", self._namespace, self._name, holder)
                    announced = holder
            except ApiError as error:
                logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            await asyncio.sleep(self.timing.retry_period * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, no secret

    async def hold(self) -> None:
        """Renew until leadership is lost; never returns otherwise. Raises ``LeaseLost``."""
        try:
            while True:
                await asyncio.sleep(min(self.timing.retry_period, max(0.0, self.deadline - self._clock())))
                if self._clock() >= self.deadline:
                    raise LeaseLost(f"lease not renewed for {self.timing.renew_deadline:g} s")
                await self._renew()
        finally:
            self.leading = False

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(max(0.01, self.deadline - self._clock())):
                held = await self._try()
        except TimeoutError:
            return
        except ApiError as error:
            logger.warning("lease %s/%s was not renewed: %s", self._namespace, self._name, error)
            return
        if not held:
            raise LeaseLost(f"lease taken over by {self._holder() or 'nobody'}")

    async def release(self) -> None:
        """Give the lease back, so that the next process need not wait for it to run out."""
        was, self.leading = self._lease, False
        if was is None or was["spec"].get("holderIdentity") != self.identity:
            return
        spec = {**was["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        self.renewed_at, self._lease = float("-inf"), None
        try:
            await self._put({**was, "spec": spec})
        except ApiError as error:
            logger.warning("lease %s/%s was not released: %s", self._namespace, self._name, error)

    async def _try(self) -> bool:
        """Make one step of the protocol; True while this process holds the lease."""
        started = self._clock()
        if self._lease is not None and self._mine(self._lease):
            # The common case is one request: renew the version that we wrote.
            try:
                await self._take(self._lease, started)
            except (ApiConflict, ApiNotFound):
                self._lease = None
            else:
                return True
        lease = await self._client.find(self.path, timeout=self.timing.request_timeout)
        self._lease = lease
        try:
            if lease is None:
                if self._holder_may_return():
                    return False
                await self._create(started)
                return True
            if self._mine(lease) or self._expired(lease):
                await self._take(lease, started)
                return True
        except (ApiConflict, ApiNotFound):
            self._lease = None  # somebody was faster; look again next time
        return False

    def _mine(self, lease: dict[str, Any]) -> bool:
        return bool(lease.get("spec", {}).get("holderIdentity") == self.identity)

    def _holder(self) -> str:
        return str((self._lease or {}).get("spec", {}).get("holderIdentity") or "")

    def _expired(self, lease: dict[str, Any]) -> bool:
        """Whether the record stood unchanged for its own duration, as measured here; its timestamps are not read."""
        spec = lease.get("spec", {})
        if not spec.get("holderIdentity"):
            return True
        record = (lease["metadata"]["uid"], spec.get("holderIdentity"), spec.get("renewTime"))
        if self._observed is None or self._observed.record != record:
            self._observed = _Observation(record, self._clock())
            return False
        lasting = max(float(spec.get("leaseDurationSeconds") or 0), self.timing.duration)
        return self._clock() - self._observed.seen_at >= lasting

    def _holder_may_return(self) -> bool:
        """Whether the holder of a Lease that somebody deleted may still be working, and about to make it again."""
        return self._observed is not None and self._clock() - self._observed.seen_at < self.timing.duration

    async def _create(self, started: float) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec(None),
        }
        self._lease = await self._client.request(
            "POST", self._collection, body=body, timeout=self.timing.request_timeout
        )
        self.renewed_at = started

    async def _take(self, lease: dict[str, Any], started: float) -> None:
        """Write our record over the version that was read; the API server refuses a stale one with 409."""
        self._lease = await self._put({**lease, "spec": self._spec(lease.get("spec"))})
        self.renewed_at = started

    async def _put(self, lease: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await self._client.request(
            "PUT", self.path, body=lease, timeout=self.timing.request_timeout
        )
        return answer

    def _spec(self, before: dict[str, Any] | None) -> dict[str, Any]:
        before = before or {}
        now = _now()
        kept = before.get("holderIdentity") == self.identity
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self.timing.duration)),
            "acquireTime": before.get("acquireTime") if kept else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if kept else 1),
        }


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
