"""The LangGraph saver against LangGraph's own conformance suite, and what that suite does not ask."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from storagelib.conformance.awaited import Awaited
from storagelib.errors import AlreadyExists, InvalidInput, NotFound
from storagelib.integrations.langgraph import AsyncStorageSaver, StorageSaver


class AwaitedSaver(StorageSaver):
    """The blocking saver behind the asynchronous interface, which the suite speaks."""

    async def aput(self, *args: Any) -> Any:
        """Call ``put``."""
        return await asyncio.to_thread(self.put, *args)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        """Call ``put_writes``."""
        await asyncio.to_thread(self.put_writes, *args, **kwargs)

    async def aget_tuple(self, config: Any) -> Any:
        """Call ``get_tuple``."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(self, config: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Call ``list``."""
        for found in await asyncio.to_thread(lambda: list(self.list(config, **kwargs))):
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """Call ``delete_thread``."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        """Call ``delete_for_runs``."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, *args: Any) -> None:
        """Call ``copy_thread``."""
        await asyncio.to_thread(self.copy_thread, *args)

    async def aprune(self, thread_ids: Any, *, strategy: str = "keep_latest") -> None:
        """Call ``prune``."""
        await asyncio.to_thread(lambda: self.prune(thread_ids, strategy=strategy))

    async def aget_delta_channel_history(self, *, config: Any, channels: Any) -> Any:
        """Call ``get_delta_channel_history``."""
        return await asyncio.to_thread(lambda: self.get_delta_channel_history(config=config, channels=channels))


def saver_of(tenant: Any, **options: Any) -> Any:
    """Give the saver for a handle, asynchronous or blocking."""
    if isinstance(tenant, Awaited):
        return AwaitedSaver(tenant._target, **options)
    return AsyncStorageSaver(tenant, **options)


@pytest.fixture
def saver(tenant: Any) -> Any:
    """Give a saver of a tenant that has nothing."""
    return saver_of(tenant)


async def put(saver: Any, config: Any, step: int, values: dict[str, Any], **metadata: Any) -> Any:
    """Keep a checkpoint after another one; every value is new."""
    versions = dict.fromkeys(values, step + 1)
    checkpoint = Checkpoint(
        v=1,
        id=str(uuid6(clock_seq=-1)),
        ts="",
        channel_values=values,
        channel_versions=versions,
        versions_seen={},
        updated_channels=None,
    )
    return await saver.aput(config, checkpoint, {"source": "loop", "step": step, **metadata}, versions)


def thread(name: str, namespace: str = "") -> Any:
    """Name a thread as LangGraph does."""
    return {"configurable": {"thread_id": name, "checkpoint_ns": namespace}}


async def chain(saver: Any, name: str, snapshots: set[int], count: int, channel: str = "log") -> list[Any]:
    """Keep checkpoints of a delta channel, each but the snapshots with a write of its number."""
    configs: list[Any] = []
    config, since = thread(name), 0
    for step in range(count):
        values = {channel: _DeltaSnapshot([f"up to {step}"])} if step in snapshots else {}
        since = 0 if step in snapshots else since + 1
        counters = {"counters_since_delta_snapshot": {channel: (since, since)}} if since else {}
        config = await put(saver, config, step, values, **counters)
        configs.append(config)
        await saver.aput_writes(config, [(channel, step)], f"task-{step}")
    return configs


@pytest.mark.parametrize("capability", list(Capability), ids=lambda capability: capability.value)
async def test_the_public_suite_passes(tenant: Any, capability: Capability) -> None:
    """Every test of every capability that the suite knows."""

    @checkpointer_test(name="storagelib")
    async def registered() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        yield saver_of(tenant)

    report = await validate(registered, capabilities={capability.value})
    result = report.results[capability.value]
    assert result.detected
    assert result.failures in (None, [])
    assert result.passed
    assert result.tests_passed >= 5


async def test_the_history_of_a_delta_channel(saver: Any) -> None:
    """The ninth capability: writes oldest first from the nearest snapshot on, the target's own left out."""
    configs = await chain(saver, "t", {0, 3}, 7)
    history = await saver.aget_delta_channel_history(config=configs[-1], channels=["log"])
    assert [value for _, _, value in history["log"]["writes"]] == [3, 4, 5]
    assert history["log"]["seed"] == _DeltaSnapshot(["up to 3"])
    newest = await saver.aget_delta_channel_history(config=thread("t"), channels=["log"])
    assert newest == history
    early = await saver.aget_delta_channel_history(config=configs[2], channels=["log", "none"])
    assert [value for _, _, value in early["log"]["writes"]] == [0, 1]
    assert early["none"] == {"writes": []}
    assert await saver.aget_delta_channel_history(config=configs[2], channels=[]) == {}
    assert await saver.aget_delta_channel_history(config=thread("u"), channels=["log"]) == {"log": {"writes": []}}


async def test_the_history_is_what_the_interface_says(saver: Any) -> None:
    """The same as LangGraph's own walk, on a long chain with a fork, parallel tasks and two channels."""
    configs = await chain(saver, "t", {2, 50}, 90)
    fork = await put(saver, configs[40], 41, {"other": [1, 2]})
    await saver.aput_writes(fork, [("log", "second"), ("other", "x")], "0", "~pull, 02")
    await saver.aput_writes(fork, [("log", "first")], "9", "~pull, 01")
    await saver.aput_writes(fork, [("log", "input")], "5")
    head = await put(saver, fork, 42, {})
    for config in (head, configs[-1], configs[1], configs[50], configs[51]):
        ours = await saver.aget_delta_channel_history(config=config, channels=["log", "other"])
        theirs = await BaseCheckpointSaver.aget_delta_channel_history(saver, config=config, channels=["log", "other"])
        assert ours == theirs
    last = await saver.aget_delta_channel_history(config=head, channels=["log"])
    assert [value for _, _, value in last["log"]["writes"]][-3:] == ["input", "first", "second"]


async def test_pruning_keeps_what_a_delta_channel_is_made_of(saver: Any) -> None:
    """A naive prune would empty the channel without a word."""
    configs = await chain(saver, "t", {0, 4}, 9)
    before = await saver.aget_delta_channel_history(config=configs[-1], channels=["log"])
    await saver.aprune(["t"])
    left = [found.metadata["step"] async for found in saver.alist(thread("t"))]
    assert left == [8, 7, 6, 5, 4]
    assert await saver.aget_delta_channel_history(config=configs[-1], channels=["log"]) == before
    await chain(saver, "whole", {0, 5}, 6)
    await saver.aprune(["whole"])
    assert [found.metadata["step"] async for found in saver.alist(thread("whole"))] == [5]
    await saver.aprune(["t", "whole"], strategy="delete")
    assert [found async for found in saver.alist(None)] == []
    with pytest.raises(InvalidInput):
        await saver.aprune(["t"], strategy="most")


async def test_a_copied_delta_channel_is_whole(saver: Any) -> None:
    """The copy carries the whole chain."""
    configs = await chain(saver, "t", {1}, 5)
    await saver.acopy_thread("t", "u")
    head = {"configurable": {**configs[-1]["configurable"], "thread_id": "u"}}
    expected = await saver.aget_delta_channel_history(config=configs[-1], channels=["log"])
    assert await saver.aget_delta_channel_history(config=head, channels=["log"]) == expected
    with pytest.raises(NotFound):
        await saver.acopy_thread("none", "v")
    with pytest.raises(AlreadyExists):
        await saver.acopy_thread("t", "u")


async def test_growing_messages_come_back(tenant: Any, saver: Any) -> None:
    """At every step, by a saver that knows nothing."""
    messages: list[Any] = []
    config: Any = thread("t")
    configs = []
    for step in range(40):
        messages = [*messages, {"role": "user", "content": f"message {step} " * 20, "n": step}]
        config = await put(saver, config, step, {"messages": messages, "small": step})
        configs.append(config)
    fresh = saver_of(tenant)
    for step in (0, 1, 17, 39):
        found = await fresh.aget_tuple(configs[step])
        assert found.checkpoint["channel_values"] == {"messages": messages[: step + 1], "small": step}
    listed = [len(found.checkpoint["channel_values"]["messages"]) async for found in fresh.alist(thread("t"))]
    assert listed == list(range(40, 0, -1))


async def test_a_checkpoint_that_two_workers_put_is_read_by_a_third(store: Any, tenant: Any) -> None:
    """The one that resumes knows nothing of the parent; what it puts under the same id can be read, pruned or not."""
    first, second, third = (saver_of(store.for_tenant(tenant.tenant_id)) for _ in range(3))
    text = random.Random(13).randbytes(1500).hex()
    parent = await put(first, thread("t"), 0, {"messages": [text]})
    values = {"messages": [text, "more"]}
    versions = {"messages": 2}
    again = Checkpoint(
        v=1,
        id=str(uuid6(clock_seq=-1)),
        ts="",
        channel_values=values,
        channel_versions=versions,
        versions_seen={},
        updated_channels=None,
    )
    for worker in (first, second):
        await worker.aput(parent, again, {"source": "loop", "step": 1}, versions)
    assert (await third.aget_tuple(thread("t"))).checkpoint["channel_values"] == values
    await second.aprune(["t"])
    fresh = saver_of(store.for_tenant(tenant.tenant_id))
    assert (await fresh.aget_tuple(thread("t"))).checkpoint["channel_values"] == values


async def test_metadata_that_is_no_json_comes_back(saver: Any) -> None:
    """Beside metadata that can be filtered by."""
    odd = {"set": {1, 2}, "bytes": b"\0\xff", "text": "a", "nested": {1: "one"}}
    config = await put(saver, thread("t"), 1, {}, **odd)
    found = await saver.aget_tuple(config)
    assert {name: found.metadata[name] for name in odd} == odd
    assert len([each async for each in saver.alist(thread("t"), filter={"text": "a", "step": 1})]) == 1
    assert [each async for each in saver.alist(thread("t"), filter={"text": "b"})] == []


class Backwards:
    """A cipher for tests."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """Turn bytes round."""
        return "backwards", plaintext[::-1]

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Turn them back."""
        assert ciphername == "backwards"
        return ciphertext[::-1]


async def test_an_encrypting_serializer_hides_metadata_too(tenant: Any) -> None:
    """All but source, step and run, and a filter by what is hidden is refused instead of finding nothing."""
    saver = saver_of(tenant, serde=EncryptedSerializer(Backwards()))
    config = await put(saver, thread("t"), 3, {"messages": ["secret"]}, customer="Ada")
    found = await saver.aget_tuple(config)
    assert (found.metadata["customer"], found.checkpoint["channel_values"]) == ("Ada", {"messages": ["secret"]})
    stored = await tenant.agent_state.threads.get("t")
    assert dict(stored.metadata) == {"source": "loop", "step": 3}
    assert b"secret" not in stored.values["messages"][1]
    with pytest.raises(InvalidInput, match="customer"):
        assert [each async for each in saver.alist(thread("t"), filter={"customer": "Ada"})]


async def test_a_neighbour_finds_nothing(saver: Any, neighbour: Any) -> None:
    """The same thread id is another thread."""
    await put(saver, thread("t"), 1, {"x": 1}, run_id="r")
    other = saver_of(neighbour)
    assert await other.aget_tuple(thread("t")) is None
    await other.adelete_for_runs(["r"])
    await other.adelete_thread("t")
    assert await saver.aget_tuple(thread("t")) is not None


async def test_writes_need_a_checkpoint_to_belong_to(saver: Any) -> None:
    """A configuration without one is refused."""
    with pytest.raises(InvalidInput):
        await saver.aput_writes(thread("t"), [("c", 1)], "task")


def test_versions_grow_in_the_form_they_have() -> None:
    """Whole numbers, or text as other savers write it."""
    next_version = StorageSaver.get_next_version
    assert [next_version(None, current, None) for current in (None, 1, 7.0)] == [1, 2, 8]  # type: ignore[arg-type]
    old = f"{9:032}.0.123"
    assert next_version(None, old, None) == f"{10:032}.0.123"  # type: ignore[arg-type]
    assert next_version(None, old, None) > old  # type: ignore[arg-type]
