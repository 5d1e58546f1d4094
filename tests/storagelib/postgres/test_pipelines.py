"""What stands between the library and the server may break pipelines: it is found out, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from storage_sql.queries import Query
from storagelib import AsyncStore, Credentials, Store, StoreConfig
from storagelib._postgres import session
from storagelib.config import PostgresConfig
from storagelib.errors import InvalidInput, Unavailable
from tests.plugins.conformance import Tenants, opening_of

_SSL, _GSS = 80877103, 80877104
_REFUSAL = b"SERROR\0VERROR\0C0A000\0Mone statement at a time\0\0"
HANGS_SECONDS = 60
BROKEN = Query("test.broken", "SELECT 1 / :zero", {"zero": "bigint"})
NAMES = Query("test.names", "SELECT count(*) FROM pg_prepared_statements", {})


class Proxy:
    """A real TCP proxy before a real server that goes wrong at the second Bind before a Sync, in one way."""

    def __init__(self, host: str, port: int, damage: str, *, times: int | None = None) -> None:
        """Listen; ``times`` is how often it goes wrong, None for always."""
        self._server = (host, port)
        self._damage = damage
        self._times = times
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.seen = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Hang up on everybody."""
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
                threading.Thread(target=self._questions, args=(client, server), daemon=True).start()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _end(client)

    def _questions(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._greet(client, server)
            binds, swallowing = 0, False
            while True:
                kind, message = _message(client)
                binds = 0 if kind == b"S" else binds + (kind == b"B")
                if binds == 2 and kind == b"B":
                    self.seen += 1
                    if self._times is None or self.seen <= self._times:
                        if self._damage == "drops":
                            _end(client)
                            break
                        if self._damage == "hangs":
                            threading.Event().wait(HANGS_SECONDS)
                        if self._damage == "refuses":
                            client.sendall(b"E" + struct.pack("!i", 4 + len(_REFUSAL)) + _REFUSAL)
                            client.sendall(b"Z" + struct.pack("!i", 5) + b"I")
                        swallowing = self._damage != "nothing"
                swallowing = swallowing and kind != b"S"
                if not swallowing:
                    server.sendall(message)
        _end(server)

    def _greet(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _exactly(client, 8)
            length, code = struct.unpack("!ii", head)
            if code not in {_SSL, _GSS}:
                server.sendall(head + _exactly(client, length - 8))
                return
            client.sendall(b"N")


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _message(stream: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(stream, 5)
    return head[:1], head + _exactly(stream, struct.unpack("!i", head[1:])[0] - 4)


def _end(stream: socket.socket) -> None:
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def behind() -> Iterator[Callable[..., tuple[Proxy, Credentials]]]:
    """Give a function that puts a proxy before the server of some credentials."""
    proxies: list[Proxy] = []

    def put(own: Credentials, damage: str, **options: Any) -> tuple[Proxy, Credentials]:
        proxies.append(Proxy(own.host, own.port, damage, **options))
        return proxies[-1], dataclasses.replace(own, host="127.0.0.1", port=proxies[-1].port)

    yield put
    for proxy in proxies:
        proxy.close()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of pipelines."""
    return [record.getMessage() for record in caplog.records if record.name == "storagelib.postgres"]


REASONS = {
    "drops": "the connection broke",
    "hangs": "no answer within",
    "swallows": "",
    "refuses": "SQLSTATE 0A000",
}


@pytest.mark.parametrize("mode", ["role", "sealed"])
@pytest.mark.parametrize("damage", sorted(REASONS))
def test_a_proxy_that_breaks_pipelines_is_found_out(
    conformance_tenants: Tenants,
    behind: Callable[..., tuple[Proxy, Credentials]],
    caplog: pytest.LogCaptureFixture,
    damage: str,
    mode: str,
) -> None:
    """Before any call is made: writes of many threads are done once each, and it is said once why it is slower."""
    proxy, own = behind(conformance_tenants.of(conformance_tenants.new(mode)), damage)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), Store.open(StoreConfig.from_credentials(own, pool_max=3)) as store:
        assert time.monotonic() - started < HANGS_SECONDS
        tried = proxy.seen
        kv = store.for_tenant(own.tenant_id).kv

        def count() -> None:
            for _ in range(10):
                kv.increment("n")

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kv.get("n") == b"40"
        kv.set_many({"a": b"1", "b": b"2"})
        with kv._backend._database.transaction() as transaction:
            assert transaction.run([(NAMES, {}), (NAMES, {})])[0][0][0] >= 0
        with pytest.raises(InvalidInput):
            kv._backend._database.run([_put(kv, "c"), (BROKEN, {"zero": 0})])
        assert kv.get_many(["a", "b", "c"]) == {"a": b"1", "b": b"2"}
        assert proxy.seen == tried > 1, "no pipeline was sent after the trial"
    (said,) = warnings_of(caplog)
    assert f"127.0.0.1:{proxy.port}" in said
    assert REASONS[damage] in said


def _put(kv: Any, key: str) -> Any:
    from storage_sql.queries import load

    return load("kv")["put"], {"key": key, "value": b"1", "metadata": "{}", "ttl": None}


@pytest.mark.parametrize("damage", ["drops", "hangs"])
async def test_the_asynchronous_twin_finds_out_too(
    conformance_tenants: Tenants,
    behind: Callable[..., tuple[Proxy, Credentials]],
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    """While other tasks go on."""
    _, own = behind(conformance_tenants.of(conformance_tenants.new("sealed")), damage)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    async with await AsyncStore.open(StoreConfig.from_credentials(own, pool_max=2)) as store:
        assert ticks > 1
        kv = store.for_tenant(own.tenant_id).kv
        await asyncio.gather(*(kv.increment("n") for _ in range(20)))
        assert await kv.get("n") == b"20"
    ticking.cancel()
    assert len(warnings_of(caplog)) == 1


def test_a_proxy_that_lets_pipelines_through_keeps_them(
    conformance_tenants: Tenants, behind: Callable[..., tuple[Proxy, Credentials]], caplog: pytest.LogCaptureFixture
) -> None:
    """Also when one connection broke during the trial, as at a server's restart."""
    for damage, times in (("nothing", None), ("drops", 1)):
        proxy, own = behind(conformance_tenants.of(conformance_tenants.new("sealed")), damage, times=times)
        with Store.open(StoreConfig.from_credentials(own, pool_max=1)) as store:
            tried = proxy.seen
            kv = store.for_tenant(own.tenant_id).kv
            assert [kv.increment("n") for _ in range(3)] == [1, 2, 3]
            assert proxy.seen == tried + 3
    assert warnings_of(caplog) == []


def test_a_pipeline_that_is_turned_off_is_not_tried(
    conformance_tenants: Tenants, behind: Callable[..., tuple[Proxy, Credentials]], caplog: pytest.LogCaptureFixture
) -> None:
    """Who knows what stands before the server says so, and nothing waits."""
    proxy, own = behind(conformance_tenants.of(conformance_tenants.new("sealed")), "hangs")
    with Store.open(StoreConfig.from_credentials(own, pipeline="off")) as store:
        assert store.for_tenant(own.tenant_id).kv.increment("n") == 1
    assert proxy.seen == 0
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("pipeline", ["auto", "off"])
def test_prepared_names_are_bounded_on_both_sides(
    conformance_tenants: Tenants, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    """The one prepared longest ago is freed on the server, even when the call that was to free it failed."""
    monkeypatch.setattr(session, "_PREPARED_MAX", 5)
    opening = opening_of(conformance_tenants, "role", pool_min=1, pool_max=1, pipeline=pipeline)
    with Store.open(opening.config, provider=opening.provider) as store:
        database: Any = store.for_tenant(opening.new_tenant()).kv._backend._database
        numbers = [Query(f"test.number{n}", f"SELECT {n}::bigint", {}) for n in range(30)]
        for turn in range(2):
            for n, query in enumerate(numbers):
                assert database.fetch(query) == [(n,)], turn
        together = database.run([(query, {}) for query in numbers])
        assert together == [[(n,)] for n in range(30)]
        for query in numbers:
            with pytest.raises(InvalidInput):
                database.run([(BROKEN, {"zero": 0}), (query, {})])
        with database.transaction() as transaction:
            for n, query in enumerate(numbers):
                assert transaction.fetch(query) == [(n,)]
        assert database.fetch(NAMES)[0][0] <= 5


def test_a_name_that_the_server_lost_is_prepared_again(conformance_tenants: Tenants) -> None:
    """As after a pooler's DISCARD ALL: the call is sent again, and done once; entry and statement are both prepared anew."""
    opening = opening_of(conformance_tenants, "sealed", pool_min=1, pool_max=1)
    with Store.open(opening.config, provider=opening.provider) as store:
        kv: Any = store.for_tenant(opening.new_tenant()).kv
        assert [kv.increment("n") for _ in range(3)] == [1, 2, 3]
        kv._backend._database.fetch(Query("test.discard", "DEALLOCATE ALL", {}, prepared=False))
        assert [kv.increment("n") for _ in range(3)] == [4, 5, 6]


def test_tenants_that_are_new_at_once_never_meet_a_closed_pool(conformance_tenants: Tenants) -> None:
    """More threads and tenants than pools: pools give way to each other all the time, and every call is done once."""
    opening = opening_of(conformance_tenants, "role", pools_max=1, pool_min=0, pool_max=2)
    tenants = [opening.new_tenant() for _ in range(4)]
    failures: list[BaseException] = []
    with Store.open(opening.config, provider=opening.provider) as store:
        at_once = threading.Barrier(8)

        def live(tenant: str) -> None:
            try:
                at_once.wait()
                for _ in range(15):
                    store.for_tenant(tenant).kv.increment("n")
            except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=live, args=(tenant,)) for tenant in tenants * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert [store.for_tenant(tenant).kv.get("n") for tenant in tenants] == [b"30"] * 4


async def test_calls_of_a_new_tenant_at_once_open_one_pool(conformance_tenants: Tenants) -> None:
    """And tenants of many pools, awaited together, get their answers whichever pool gave way."""
    config = StoreConfig(
        backend="postgres", postgres=PostgresConfig(pools_max=2, pool_min=0, pool_max=1, pool_timeout_seconds=60)
    )
    tenants = [conformance_tenants.new("role") for _ in range(6)]
    async with await AsyncStore.open(config, provider=conformance_tenants.of) as store:
        engine: Any = store._engines["postgres"]
        kv = store.for_tenant(tenants[0]).kv
        assert sorted(await asyncio.gather(*(kv.increment("n") for _ in range(10)))) == list(range(1, 11))
        assert len(engine._logins) == 1
        calls = [store.for_tenant(tenant).kv.increment("m") for tenant in tenants for _ in range(5)]
        assert sorted(await asyncio.gather(*calls)) == sorted([1, 2, 3, 4, 5] * 6)
        # Busy pools are left alone; the next that is opened finds them idle.
        assert await store.for_tenant(conformance_tenants.new("role")).kv.get("m") is None
        assert len(engine._logins) <= 2


def test_a_pool_that_gave_way_before_it_was_used_is_asked_for_again(
    conformance_tenants: Tenants, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look-up and the call another tenant's thread may have closed it; nothing was sent by then."""
    opening = opening_of(conformance_tenants, "role", pool_min=0)
    tenant = opening.new_tenant()
    with Store.open(opening.config, provider=opening.provider) as store:
        engine: Any = store._engines["postgres"]
        kv = store.for_tenant(tenant).kv
        assert kv.increment("n") == 1
        closed = engine._logins.pop(engine._of_tenants[tenant][0])
        closed.close()
        looked = iter([closed])
        known = engine.known
        monkeypatch.setattr(engine, "known", lambda asked: next(looked, None) or known(asked))
        assert kv.increment("n") == 2
        monkeypatch.setattr(engine, "known", lambda _asked: closed)
        with pytest.raises(Unavailable, match="closed"):
            kv.increment("n")


@pytest.mark.parametrize("pool_min", [0, 1, 2])
def test_connections_that_are_kept_at_hand_stay_within_the_pool(conformance_tenants: Tenants, pool_min: int) -> None:
    """Threads that come and go use no more than ``pool_max``, wait for each other, and all are closed at the end."""
    opening = opening_of(conformance_tenants, "role", pool_min=pool_min, pool_max=2)
    tenant = opening.new_tenant()
    with Store.open(opening.config, provider=opening.provider) as store:
        kv = store.for_tenant(tenant).kv

        def count() -> None:
            for _ in range(100):
                kv.increment("n")

        threads = [threading.Thread(target=count) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kv.get("n") == b"600"
        login: Any = store._engines["postgres"]._logins[store._engines["postgres"]._of_tenants[tenant][0]]
        assert not login.busy()
        assert login._pool.get_stats()["pool_size"] <= 2
        assert len(login._kept) <= pool_min
    assert login._pool.get_stats()["pool_available"] == 0
    assert login._kept == []


def test_a_connection_that_lived_long_enough_is_replaced(conformance_tenants: Tenants) -> None:
    """However often it is used: one that is kept at hand is seen by the pool once a second."""
    opening = opening_of(conformance_tenants, "role", pool_min=1, pool_max=1, pool_lifetime_seconds=1.0)
    with Store.open(opening.config, provider=opening.provider) as store:
        database: Any = store.for_tenant(opening.new_tenant()).kv._backend._database
        pid = Query("test.pid", "SELECT pg_backend_pid()", {})
        seen = set()
        deadline = time.monotonic() + 60
        while len(seen) < 2:
            seen.add(database.fetch(pid)[0][0])
            assert time.monotonic() < deadline, "it was never replaced"
            time.sleep(0.02)
