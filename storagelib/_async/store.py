"""The entry: a store on its backends, and the immutable handle through which one tenant is reached."""

from __future__ import annotations

import importlib
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from storage_sql.stores import STORES_BY_NAME
from storagelib.backends import check_backends, class_of, registered
from storagelib.blocking import AsyncBlocking
from storagelib.clocks import Clock, system_clock
from storagelib.components.api_keys import Presented, VerifiedKey, granted, presented
from storagelib.components.snapshots import SNAPSHOT_BYTES_MAX, ByteSink, ByteSource, Snapshot
from storagelib.config import BUILT_IN, PostgresConfig, StoreConfig
from storagelib.errors import InvalidInput, Unavailable
from storagelib.limits import INTEGER_MAX, check_integer, check_tenant_id, check_text

if TYPE_CHECKING:
    from storagelib._async.agent_state import AsyncAgentState
    from storagelib._async.api_keys import AsyncApiKeys
    from storagelib._async.artifacts import AsyncArtifacts
    from storagelib._async.events import AsyncEvents
    from storagelib._async.graph import AsyncGraph
    from storagelib._async.hooks import AsyncHooks
    from storagelib._async.kv import AsyncKV
    from storagelib._async.postgres.engine import Provider
    from storagelib._async.procedures import AsyncProcedures
    from storagelib._async.sessions import AsyncSessions
    from storagelib._async.vectors import AsyncVectors
    from storagelib._async.workflow_states import AsyncWorkflowStates

__all__ = ["AsyncStore", "AsyncTenant"]


class AsyncStore:
    """Storage on the backends of a configuration. Open it once a process, and close it at the end.

    There is no call without a tenant: ``for_tenant`` gives the handle that has the eleven stores.

    >>> import asyncio
    >>> from storagelib import AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         acme, globex = store.for_tenant("acme"), store.for_tenant("globex")
    ...         await acme.kv.set("greeting", b"hello")
    ...         print(await acme.kv.get("greeting"), await globex.kv.get("greeting"))
    >>> asyncio.run(example())
    b'hello' None
    """

    def __init__(self, config: StoreConfig, *, provider: Provider | None = None, clock: Clock = system_clock) -> None:
        """Take the configuration; ``open`` is what makes a store that can be used."""
        self.config = config
        self._provider = provider
        self._clock = clock
        self._blocking = AsyncBlocking(config.sqlite.readers)
        self._engines: dict[str, Any] = {}
        self._closed = False

    @classmethod
    async def open(
        cls, config: StoreConfig | None = None, *, provider: Provider | None = None, clock: Clock = system_clock
    ) -> Self:
        """Open the backends of a configuration; without one, of the environment and the user's file.

        ``provider`` gives the credentials of each tenant where one process serves several on PostgreSQL; ``clock`` is
        asked by the memory and SQLite backends. Raises ``InvalidInput``, ``Unavailable``, ``PermissionDenied`` (the login
        would not keep tenants apart) or ``MigrationError``, and leaves nothing open.
        """
        store = cls(StoreConfig.load() if config is None else config, provider=provider, clock=clock)
        check_backends(store.config)
        try:
            for name in sorted({store.config.backend_of(each) for each in STORES_BY_NAME}):
                engine = await store._engine(name)
                if engine is not None:
                    store._engines[name] = engine
        except BaseException:
            await store.aclose()
            raise
        return store

    async def aclose(self) -> None:
        """Close every connection and thread; calls that are made later raise ``Unavailable``."""
        self._closed = True
        while self._engines:
            name, engine = self._engines.popitem()
            if name == "postgres":
                await engine.aclose()
            else:
                engine.close()
        await self._blocking.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def for_tenant(self, tenant_id: str) -> AsyncTenant:
        """Return the handle of one tenant; nothing is sent.

        Raises ``InvalidInput`` for what is no tenant's name, and ``PermissionDenied`` where the credentials belong to
        another tenant.
        """
        check_tenant_id(tenant_id)
        self.config.check_tenant(tenant_id)
        if "postgres" in self._engines:
            self._engines["postgres"].check_tenant(tenant_id)
        return AsyncTenant(self, tenant_id)

    async def verify_api_key(self, token: str, scope: str | None = None) -> VerifiedKey:
        """Return the key that a token belongs to, whichever tenant's it is: the one call without a tenant.

        In memory and on SQLite all tenants are looked at, on PostgreSQL those that the shared login of sealed mode serves, or
        the one whose login this is. Raises ``PermissionDenied`` for every token that is not good or does not have the scope,
        and where each tenant has a login of its own; ``InvalidInput`` where a registered backend keeps the keys.
        """
        wanted = None if scope is None else check_text("scope", scope)
        asked = presented(token)
        return granted(None if asked is None else await self._verify_over_all(asked), wanted)

    async def snapshot(self, target: str | os.PathLike[str] | ByteSink, *, tenant_id: str | None = None) -> Snapshot:
        """Write the stores that are in memory to a file, of one tenant or of all; return what was written.

        A path is replaced at once when the disk has the whole file; a stream is only written to. Each tenant is written as it
        is at one moment. Raises ``InvalidInput`` when no store is in memory, ``NotFound`` for a folder that is not there,
        ``PermissionDenied``, and ``Unavailable`` for a disk that is full.
        """
        if tenant_id is not None:
            self.config.check_tenant(tenant_id)
        engine = self._in_memory()
        from storagelib.memory.snapshot import write  # noqa: PLC0415 - only what is used is loaded

        return await self._blocking.work(write, engine, target, tenant_id)

    async def restore(
        self,
        source: str | os.PathLike[str] | ByteSource,
        *,
        tenant_id: str | None = None,
        most_bytes: int = SNAPSHOT_BYTES_MAX,
    ) -> Snapshot:
        """Put a snapshot in the place of what its tenants have in memory, or one tenant of it; return what was restored.

        All of it or nothing: the tenants are as they were written, those that the file does not name stay as they are, and
        handles and stores that are in use go on. Raises ``Corrupted`` for a damaged file, ``InvalidInput`` for one of another
        kind, of a newer release or of more than ``most_bytes`` bytes, ``QuotaExceeded`` for a tenant that does not fit, and
        ``NotFound`` for a file or tenant that is not there.
        """
        if tenant_id is not None:
            self.config.check_tenant(tenant_id)
        check_integer("most_bytes", most_bytes, least=1, most=INTEGER_MAX)
        engine = self._in_memory()
        from storagelib.memory.snapshot import restore  # noqa: PLC0415 - only what is used is loaded

        return await self._blocking.work(restore, engine, source, tenant_id, most_bytes, self.config.check_tenant)

    def backend(self, store: str, tenant_id: str) -> Any:
        """Return one tenant's backend of one store, as the facades use it."""
        name = self.config.backend_of(store)
        engine = self._engines.get(name)
        if self._closed:
            raise Unavailable("the store is closed")
        if name == "postgres" and engine is not None:
            return engine.backend(store, tenant_id)
        if name == "memory" and engine is not None:
            made = class_of("storagelib.memory", "Memory", store)(engine.space(tenant_id))
        elif name == "sqlite" and engine is not None:
            made = class_of("storagelib.sqlite", "Sqlite", store)(engine, tenant_id)
        else:
            made = registered(store, name)(tenant_id, self.config.options_of(store))
        return self._blocking.adapt(made)

    def _in_memory(self) -> Any:
        if self._closed:
            raise Unavailable("the store is closed")
        engine = self._engines.get("memory")
        if engine is None:
            raise InvalidInput(
                "a snapshot is of what is in memory", ["backend: no store of this configuration is in memory"]
            )
        return engine

    async def _verify_over_all(self, asked: Presented) -> VerifiedKey | None:
        name = self.config.backend_of("api_keys")
        engine = self._engines.get(name)
        if engine is None:
            if name in BUILT_IN:
                raise Unavailable("the store is closed")
            raise InvalidInput(
                "keys of all tenants cannot be verified",
                [f"components.api_keys.backend: {name} keeps one tenant's keys"],
            )
        if name == "postgres":
            from storagelib._async.postgres.api_keys import verify_over_all  # noqa: PLC0415 - only what is used is loaded

            return await verify_over_all(engine, asked.key_id, asked.key_hash)
        verify = importlib.import_module(f"storagelib.{name}.api_keys").verify_over_all
        found: VerifiedKey | None = await self._blocking.run(verify, engine, asked.key_id, asked.key_hash)
        return found

    async def _migrate(self, chosen: PostgresConfig) -> None:
        if not chosen.auto_migrate or chosen.migrate_url is None:
            return
        from storagelib._postgres.migrating import migrate  # noqa: PLC0415

        schema = "llmspell" if chosen.credentials is None else chosen.credentials.schema
        await self._blocking.work(migrate, chosen.migrate_url, schema, chosen.migration_timeout_seconds)

    async def _engine(self, name: str) -> Any:
        if name == "memory":
            from storagelib.memory.engine import MemoryEngine  # noqa: PLC0415 - only what is used is loaded

            return MemoryEngine(self._clock, self.config.memory.most_bytes)
        if name == "sqlite":
            from storagelib.sqlite.engine import SqliteEngine  # noqa: PLC0415

            chosen = self.config.sqlite
            return SqliteEngine(
                chosen.path,
                durability=chosen.durability,
                busy_timeout_seconds=chosen.busy_timeout_seconds,
                vector_scan=chosen.vector_scan,
                clock=self._clock,
            ).open()
        if name == "postgres" and self.config.postgres is not None:
            from storagelib._async.postgres.engine import AsyncPostgresEngine  # noqa: PLC0415

            await self._migrate(self.config.postgres)
            return await AsyncPostgresEngine(self.config.postgres, self._provider).open()
        return None


_PREFIX = AsyncStore.__name__.removesuffix("Store")


class AsyncTenant:
    """One tenant's eleven stores. It cannot be turned to another tenant; make a second handle for that."""

    __slots__ = ("_facades", "_store", "_tenant_id")
    _store: AsyncStore
    _tenant_id: str
    _facades: dict[str, Any]

    def __init__(self, store: AsyncStore, tenant_id: str) -> None:
        """Take an opened store and a tenant that it may serve."""
        object.__setattr__(self, "_store", store)
        object.__setattr__(self, "_tenant_id", tenant_id)
        object.__setattr__(self, "_facades", {})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a tenant's handle cannot be changed: {name}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._tenant_id!r})"

    @property
    def tenant_id(self) -> str:
        """The tenant."""
        return self._tenant_id

    @property
    def vectors(self) -> AsyncVectors:
        """Embeddings with text and metadata."""
        options = self._store.config.options_of("vectors")
        return self._facade("vectors", options)  # type: ignore[no-any-return]

    @property
    def graph(self) -> AsyncGraph:
        """Entities and relationships over two axes of time."""
        return self._facade("graph")  # type: ignore[no-any-return]

    @property
    def procedures(self) -> AsyncProcedures:
        """Learned patterns and procedures."""
        return self._facade("procedures")  # type: ignore[no-any-return]

    @property
    def agent_state(self) -> AsyncAgentState:
        """The states of agents, with their history."""
        return self._facade("agent_state")  # type: ignore[no-any-return]

    @property
    def kv(self) -> AsyncKV:
        """Keys and values."""
        return self._facade("kv")  # type: ignore[no-any-return]

    @property
    def workflow_states(self) -> AsyncWorkflowStates:
        """The lives of workflows, with leases."""
        return self._facade("workflow_states")  # type: ignore[no-any-return]

    @property
    def sessions(self) -> AsyncSessions:
        """Sessions and their messages."""
        return self._facade("sessions")  # type: ignore[no-any-return]

    @property
    def artifacts(self) -> AsyncArtifacts:
        """Named content, stored once."""
        options = self._store.config.options_of("artifacts")
        return self._facade("artifacts", options)  # type: ignore[no-any-return]

    @property
    def events(self) -> AsyncEvents:
        """The append-only log."""
        return self._facade("events")  # type: ignore[no-any-return]

    @property
    def hooks(self) -> AsyncHooks:
        """What hooks did."""
        return self._facade("hooks")  # type: ignore[no-any-return]

    @property
    def api_keys(self) -> AsyncApiKeys:
        """Issued keys and sealed values."""
        return self._facade("api_keys")  # type: ignore[no-any-return]

    def _facade(self, name: str, *options: Any) -> Any:
        facades = self._facades
        if name not in facades:
            kind = class_of(f"{__package__}", _PREFIX, name)
            facades[name] = kind(self._store.backend(name, self._tenant_id), *options)
        return facades[name]
