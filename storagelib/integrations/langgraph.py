"""A checkpoint saver for LangGraph over one tenant's agent state: ``pip install 'llmspell-storage[langgraph]'``.

``AsyncStorageSaver`` takes an ``AsyncTenant`` and serves ``ainvoke`` and ``astream``; ``StorageSaver`` takes a ``Tenant`` and
serves ``invoke`` and ``stream``. Both have every operation of the interface: put, writes, get, list, delete a thread, delete
runs, copy a thread, prune and the history of delta channels.

Checkpoints belong to the tenant whose handle the saver has: a thread id of another tenant finds nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

try:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
        PendingWrite,
        get_checkpoint_id,
        get_checkpoint_metadata,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "LangGraph is not installed: pip install 'llmspell-storage[langgraph]'", name=error.name
    ) from error
from storagelib.components.agent_threads import ThreadCheckpoint, ThreadStep, Value
from storagelib.documents import Json, check_document
from storagelib.errors import InvalidInput

if TYPE_CHECKING:
    from storagelib._async.store import AsyncTenant
    from storagelib._sync.store import Tenant

__all__ = ["AsyncStorageSaver", "StorageSaver"]

Threads = TypeVar("Threads")

_COUNTERS: Final = "counters_since_delta_snapshot"
_READABLE_WHEN_ENCRYPTED: Final = frozenset({"source", "step", "run_id"})
_READABLE_BYTES_MAX: Final = 64 << 10
_RUN_ID_MAX: Final = 255


class _Saver(BaseCheckpointSaver[Any], Generic[Threads]):
    """What both savers share: everything but the calls."""

    def __init__(
        self,
        threads: Threads,
        *,
        serde: SerializerProtocol | None = None,
        readable_metadata: Collection[str] | None = None,
    ) -> None:
        """Take the tenant's threads and how values are serialised.

        ``readable_metadata`` names the metadata that is stored as JSON, which is what ``list`` can filter by; the rest is
        stored by the serializer. Without it all of it is, or only ``source``, ``step`` and ``run_id`` when the serializer
        encrypts.
        """
        super().__init__(serde=serde)
        self._threads = threads
        if readable_metadata is None and isinstance(self.serde, EncryptedSerializer):
            readable_metadata = _READABLE_WHEN_ENCRYPTED
        self._readable = None if readable_metadata is None else frozenset(readable_metadata)

    def get_next_version(self, current: Any, channel: None) -> Any:  # noqa: ARG002 - the interface's
        """Return the version after ``current``: whole numbers, or text where a thread came from another saver."""
        if isinstance(current, str):
            number, _, rest = current.partition(".")
            return f"{int(number) + 1:0{len(number)}}" + (f".{rest}" if rest else "")
        return 1 if current is None else int(current) + 1

    def _new(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, changed: ChannelVersions
    ) -> tuple[tuple[str, str, str], dict[str, Any]]:
        """Return where a checkpoint goes, and the rest of the arguments of ``put``."""
        thread_id, namespace, parent_id = _place(config)
        values = checkpoint["channel_values"]
        head = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        readable, hidden = self._divided(get_checkpoint_metadata(config, metadata))
        run_id = metadata.get("run_id")
        serde = self.serde
        return (thread_id, namespace, checkpoint["id"]), {
            "head": serde.dumps_typed([head, hidden]),
            "versions": {name: checkpoint["channel_versions"].get(name, "") for name in values},
            "value_of": lambda name: serde.dumps_typed(values[name]),
            "changed": changed.keys(),
            "parent_id": parent_id,
            "metadata": readable,
            "run_id": run_id if isinstance(run_id, str) and 0 < len(run_id) <= _RUN_ID_MAX else None,
        }

    def _divided(self, metadata: Mapping[str, Any]) -> tuple[dict[str, Json], dict[str, Any]]:
        """Return metadata that is stored as JSON, and metadata that is serialised."""
        readable: dict[str, Json] = {}
        hidden: dict[str, Any] = {}
        for name, value in metadata.items():
            fits = self._readable is None or name in self._readable
            if fits:
                try:
                    check_document({name: value}, "metadata", most=_READABLE_BYTES_MAX)
                except InvalidInput:
                    fits = False
            (readable if fits else hidden)[name] = value
        return readable, hidden

    def _writes(self, writes: Sequence[tuple[str, Any]]) -> list[tuple[int, str, Value]]:
        return [
            (WRITES_IDX_MAP.get(channel, index), channel, self.serde.dumps_typed(value))
            for index, (channel, value) in enumerate(writes)
        ]

    def _asked(
        self, config: RunnableConfig | None, where: Mapping[str, Any] | None, before: RunnableConfig | None
    ) -> dict[str, Any]:
        """Return the arguments of ``find``."""
        if self._readable is not None and (hidden := sorted(set(where or ()) - self._readable)):
            raise InvalidInput(
                "the listing cannot be filtered", [f"filter: {', '.join(hidden)} is not stored readable"]
            )
        configurable = config["configurable"] if config else {}
        thread_id = configurable.get("thread_id")
        return {
            "thread_id": None if thread_id is None else str(thread_id),
            "namespace": configurable.get("checkpoint_ns"),
            "checkpoint_id": get_checkpoint_id(config) if config else None,
            "before": get_checkpoint_id(before) if before else None,
            "where": where,
        }

    def _tuple(self, found: ThreadCheckpoint) -> CheckpointTuple:
        head, hidden = self.serde.loads_typed(found.head)
        values = {name: self.serde.loads_typed(value) for name, value in found.values.items()}
        parent = None if found.parent_id is None else _config(found.thread_id, found.namespace, found.parent_id)
        return CheckpointTuple(
            config=_config(found.thread_id, found.namespace, found.checkpoint_id),
            checkpoint=cast("Checkpoint", {**head, "channel_values": values}),
            metadata=cast("CheckpointMetadata", {**found.metadata, **hidden}),
            parent_config=parent,
            pending_writes=[
                (write.task_id, write.channel, self.serde.loads_typed((write.kind, write.content)))
                for write in found.writes
            ],
        )

    def _delta_channels(self, found: ThreadCheckpoint) -> list[str]:
        """Name the channels that are put together from older checkpoints."""
        counters = found.metadata.get(_COUNTERS)
        if counters is None:
            counters = self.serde.loads_typed(found.head)[1].get(_COUNTERS)
        return list(counters or ())


class _History(Generic[Threads]):
    """Collects what each channel got along the ancestors of a checkpoint, newest first, up to a stored value."""

    def __init__(self, channels: Sequence[str], load: Callable[[Value], Any]) -> None:
        self._load = load
        self._writes: dict[str, list[PendingWrite]] = {channel: [] for channel in channels}
        self.remaining = set(channels)
        self.seeds: dict[str, str] = {}
        """The checkpoint that has the stored value, by channel."""

    def add(self, step: ThreadStep) -> None:
        """Take one more ancestor: its writes came after its values."""
        for write in reversed(step.writes):
            if write.channel in self.remaining:
                value = self._load((write.kind, write.content))
                self._writes[write.channel].append((write.task_id, write.channel, value))
        for channel in self.remaining & step.names:
            self.seeds[channel] = step.checkpoint_id
        self.remaining -= step.names

    def result(self, found: Mapping[str, ThreadCheckpoint | None]) -> dict[str, DeltaChannelHistory]:
        """Return writes and seeds; ``found`` has the checkpoints that ``seeds`` names."""
        histories: dict[str, DeltaChannelHistory] = {}
        for channel, writes in self._writes.items():
            histories[channel] = {"writes": writes[::-1]}
            holder = found.get(self.seeds.get(channel, ""))
            if holder is not None:
                histories[channel]["seed"] = self._load(holder.values[channel])
        return histories


class AsyncStorageSaver(_Saver[Any]):
    """Keeps the checkpoints of graphs that run asynchronously; see the module."""

    def __init__(
        self,
        tenant: AsyncTenant,
        *,
        serde: SerializerProtocol | None = None,
        readable_metadata: Collection[str] | None = None,
    ) -> None:
        """Take the handle of the tenant, ``store.for_tenant("acme")``."""
        super().__init__(tenant.agent_state.threads, serde=serde, readable_metadata=readable_metadata)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint; one statement."""
        place, options = self._new(config, checkpoint, metadata, new_versions)
        await self._threads.put(*place, **options)
        return _config(*place)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote; one statement."""
        await self._threads.put_writes(*_checkpoint(config), task_id, self._writes(writes), task_path=task_path)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, the newest of its thread and namespace unless told; one statement."""
        found = await self._threads.get(*_place(config))
        return None if found is None else self._tuple(found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Go through checkpoints, newest first; a statement for each hundred."""
        async for found in self._threads.find(**self._asked(config, filter, before), limit=limit):
            yield self._tuple(found)

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread."""
        await self._threads.delete_thread(str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that runs made, with their writes."""
        await self._threads.delete_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all its checkpoints and writes; raises ``NotFound`` or ``AlreadyExists``."""
        await self._threads.copy_thread(str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, and what its delta channels are put together from; or nothing."""
        for thread_id in _pruned(thread_ids, strategy):
            if strategy == "delete":
                await self._threads.delete_thread(thread_id)
            else:
                await self._threads.prune(thread_id, needs=self._delta_channels)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return each channel's writes along the ancestors, oldest first, and the stored value that they begin from."""
        history: _History[Any] = _History(channels, self.serde.loads_typed)
        thread_id, namespace, checkpoint_id = _place(config)
        if not channels:
            return {}
        if checkpoint_id is None:
            newest = await self._threads.get(thread_id, namespace)
            checkpoint_id = None if newest is None else newest.checkpoint_id
        if checkpoint_id is not None:
            async for step in self._threads.walk(thread_id, namespace, checkpoint_id):
                if step.checkpoint_id != checkpoint_id:
                    history.add(step)
                if not history.remaining:
                    break
        holders = sorted(set(history.seeds.values()))
        return history.result({each: await self._threads.get(thread_id, namespace, each) for each in holders})


class StorageSaver(_Saver[Any]):
    """Keeps the checkpoints of graphs that run blocking; see the module."""

    def __init__(
        self,
        tenant: Tenant,
        *,
        serde: SerializerProtocol | None = None,
        readable_metadata: Collection[str] | None = None,
    ) -> None:
        """Take the handle of the tenant, ``store.for_tenant("acme")``."""
        super().__init__(tenant.agent_state.threads, serde=serde, readable_metadata=readable_metadata)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Keep a checkpoint; one statement."""
        place, options = self._new(config, checkpoint, metadata, new_versions)
        self._threads.put(*place, **options)
        return _config(*place)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Keep what a task wrote; one statement."""
        self._threads.put_writes(*_checkpoint(config), task_id, self._writes(writes), task_path=task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, the newest of its thread and namespace unless told; one statement."""
        found = self._threads.get(*_place(config))
        return None if found is None else self._tuple(found)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Go through checkpoints, newest first; a statement for each hundred."""
        for found in self._threads.find(**self._asked(config, filter, before), limit=limit):
            yield self._tuple(found)

    def delete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread."""
        self._threads.delete_thread(str(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints that runs made, with their writes."""
        self._threads.delete_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all its checkpoints and writes; raises ``NotFound`` or ``AlreadyExists``."""
        self._threads.copy_thread(str(source_thread_id), str(target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the newest checkpoint of each namespace, and what its delta channels are put together from; or nothing."""
        for thread_id in _pruned(thread_ids, strategy):
            if strategy == "delete":
                self._threads.delete_thread(thread_id)
            else:
                self._threads.prune(thread_id, needs=self._delta_channels)

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return each channel's writes along the ancestors, oldest first, and the stored value that they begin from."""
        history: _History[Any] = _History(channels, self.serde.loads_typed)
        thread_id, namespace, checkpoint_id = _place(config)
        if not channels:
            return {}
        if checkpoint_id is None:
            newest = self._threads.get(thread_id, namespace)
            checkpoint_id = None if newest is None else newest.checkpoint_id
        if checkpoint_id is not None:
            for step in self._threads.walk(thread_id, namespace, checkpoint_id):
                if step.checkpoint_id != checkpoint_id:
                    history.add(step)
                if not history.remaining:
                    break
        holders = sorted(set(history.seeds.values()))
        return history.result({each: self._threads.get(thread_id, namespace, each) for each in holders})


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    configurable = config["configurable"]
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns") or "", get_checkpoint_id(config) or None


def _checkpoint(config: RunnableConfig) -> tuple[str, str, str]:
    thread_id, namespace, checkpoint_id = _place(config)
    if checkpoint_id is None:
        raise InvalidInput("the argument cannot be used", ["config: has no checkpoint_id"])
    return thread_id, namespace, checkpoint_id


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
    }


def _pruned(thread_ids: Sequence[str], strategy: str) -> list[str]:
    if strategy not in {"keep_latest", "delete"}:
        raise InvalidInput("the argument cannot be used", ["strategy: must be one of keep_latest, delete"])
    return [str(thread_id) for thread_id in thread_ids]
