"""What every verb of every store is called with: the same ids for both tenants, so that a leak has every chance.

``seed`` gives a tenant rows that carry its mark in every text; ``arguments`` has a value for each required parameter of
the store's verbs, the neighbour's own ids among them. A verb without a value here fails the contract's test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from storagelib.components.api_keys import token_of
from storagelib.components.events import NewEvent
from storagelib.components.graph import NewEntity, NewRelationship
from storagelib.components.hooks import RetentionPolicy
from storagelib.components.sessions import Draft
from storagelib.components.vectors import VectorBatch
from storagelib.sealing import KeyRing

DIMENSION = 128
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
ONE, TWO, EDGE = (UUID(int=0x7_0000_0000_0000_8000 + number) for number in (1, 2, 3))
RING = KeyRing("one", {"one": bytes(32)})
EVENT = UUID("01890000-0000-7000-8000-000000000001")


@dataclass(frozen=True, slots=True)
class Samples:
    """One store: what it is filled with, and what its verbs are given."""

    seed: Callable[[Any, str], Awaitable[None]]
    arguments: Mapping[str, Any]
    special: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Other arguments for single verbs."""
    removes: tuple[str, ...] = ()
    """Verbs that remove: called last, in this order."""


def embedding(seed: int) -> Any:
    """Return a vector."""
    return np.random.default_rng(seed).standard_normal(DIMENSION, dtype=np.float32)


class Batches:
    """A stream that can be read again."""

    async def __aiter__(self) -> AsyncIterator[VectorBatch]:
        """Give one batch."""
        yield VectorBatch(["n4"], embedding(7).reshape(1, -1))


async def _vectors(tenant: Any, mark: str) -> None:
    for number, name in enumerate(("a", "b", "c")):
        await tenant.vectors.insert(
            name,
            embedding(number),
            scope="shared",
            content=f"{mark} word {name}",
            metadata={"mark": mark},
            document_id="doc",
            position=number,
        )


async def _graph(tenant: Any, mark: str) -> None:
    await tenant.graph.add(
        [
            NewEntity("person", f"{mark} Ada", {"mark": mark}, LONG_AGO, None, ONE, embedding(1)),
            NewEntity("person", f"{mark} Bob", {"mark": mark}, LONG_AGO, None, TWO, embedding(2)),
        ],
        [NewRelationship(ONE, TWO, "knows", {"mark": mark}, LONG_AGO, None, EDGE)],
        actor=mark,
        reason=mark,
        sources=[mark],
    )


async def _procedures(tenant: Any, mark: str) -> None:
    for _ in range(3):
        await tenant.procedures.record_transition("scope", "key", "before", mark)
    for steps in (1, 2):
        await tenant.procedures.save(
            "procedure",
            {"mark": mark, "n": steps},
            trigger={"kind": "mail"},
            scope=mark,
            provenance=[mark],
            embedding=embedding(1),
        )
        await tenant.procedures.record_outcome("procedure", True)
    await tenant.procedures.save("other", {"mark": mark})


async def _agent_state(tenant: Any, mark: str) -> None:
    for number in range(3):
        await tenant.agent_state.save("agent", {"mark": mark, "n": number}, agent_type="helper", session_id="session")
    await tenant.agent_state.checkpoint("agent", "label", metadata={"mark": mark})


async def _kv(tenant: Any, mark: str) -> None:
    for key in ("a", "b", "p/1"):
        await tenant.kv.set(key, mark.encode(), metadata={"mark": mark})
    await tenant.kv.set("gone", mark.encode(), ttl=0.001)


async def _workflow_states(tenant: Any, mark: str) -> None:
    await tenant.workflow_states.save("workflow", {"mark": mark}, name=f"{mark}")
    await tenant.workflow_states.acquire("workflow", mark, ttl=0.001)
    await tenant.workflow_states.save("other", {"mark": mark}, name="shared")


async def _sessions(tenant: Any, mark: str) -> None:
    await tenant.sessions.create("session", {"mark": mark}, metadata={"mark": mark})
    await tenant.sessions.append("session", "user", {"mark": mark}, tokens=3, idempotency_key="key")
    await tenant.sessions.append("session", "assistant", {"mark": mark}, tokens=3)
    await tenant.sessions.branch("session", 1, new_id="branch")
    await tenant.sessions.create("old", {"mark": mark}, ttl=0.001)


async def _events(tenant: Any, mark: str) -> None:
    await tenant.events.append("made", {"mark": mark}, stream="stream", correlation_id="correlation", event_id=EVENT)
    await tenant.events.append("made", {"mark": mark}, stream="stream", correlation_id="correlation")
    await tenant.events.checkpoint("consumer", 1)


async def _hooks(tenant: Any, mark: str) -> None:
    for run in ("one", "two"):
        await tenant.hooks.record(
            "hook",
            "before",
            triggering_component="agent",
            input={"mark": mark},
            output={"mark": mark},
            duration_ms=5,
            correlation_id=run,
            tags=[mark],
            metadata={"mark": mark},
        )


async def _api_keys(tenant: Any, mark: str) -> None:
    await tenant.api_keys.create(mark, scopes=[mark], metadata={"mark": mark}, key_id="robot")
    await tenant.api_keys.create(mark, key_id="gone", ttl=0.001)
    await tenant.api_keys.seal(mark, mark.encode(), RING, key_id="value", metadata={"mark": mark})


async def _artifacts(tenant: Any, mark: str) -> None:
    options = {"artifact_type": "file", "tags": ["tag"], "metadata": {"mark": mark}}
    await tenant.artifacts.store("session", "name", b"shared", artifact_id="shared", **options)
    await tenant.artifacts.store("session", "name", mark.encode(), artifact_id="artifact", **options)
    await tenant.artifacts.store("session", mark, iter([mark.encode() * 100_000]), artifact_id="large", keep=True)
    await tenant.artifacts.store("session", "gone", mark.encode() * 2, artifact_id="gone")
    await tenant.artifacts.delete("gone")


SAMPLES: Mapping[str, Samples] = {
    "vectors": Samples(
        _vectors,
        {
            "dimension": DIMENSION,
            "id": "a",
            "ids": ["a", "b", "nothing"],
            "document_id": "doc",
            "embedding": embedding(0),
            "query": embedding(0),
            "queries": np.stack([embedding(0), embedding(1)]),
            "text": "word",
            "metadata": {"mark": "changed"},
        },
        {
            "insert": {"id": "new"},
            "insert_many": {"ids": ["n1", "n2"], "embeddings": np.stack([embedding(5), embedding(6)])},
            "upsert_many": {"ids": ["a", "n3"], "embeddings": np.stack([embedding(5), embedding(6)])},
            "insert_stream": {"batches": Batches()},
            "update": {"dimension": DIMENSION, "content": "changed"},
            "delete_where": {"filter": {"mark": {"$exists": True}}},
        },
        ("delete", "delete_many", "delete_document", "delete_where", "clear"),
    ),
    "graph": Samples(
        _graph,
        {
            "entity_id": ONE,
            "entity_ids": [ONE, TWO],
            "relationship_id": EDGE,
            "relationship_ids": [EDGE],
            "subject": ONE,
            "start": ONE,
            "goal": TWO,
            "embedding": embedding(1),
            "time": LONG_AGO + timedelta(days=1),
            "event_time": LONG_AGO + timedelta(days=1),
            "before": 0,
            "type": "person",
            "name": "changed",
            "valid_from": LONG_AGO,
            "from_entity": ONE,
            "to_entity": TWO,
            "reason": "test",
        },
        {
            "add": {"entities": [NewEntity("thing", "new")], "relationships": []},
            "add_entities": {"entities": [NewEntity("thing", "new")]},
            "add_relationships": {"relationships": [NewRelationship(ONE, TWO, "likes")]},
            "update_entity": {"name": "changed"},
            "update_relationship": {"properties": {"changed": True}},
        },
        (
            "retract_relationship",
            "retract_entity",
            "delete_relationship",
            "delete_entity",
            "erase",
        ),
    ),
    "procedures": Samples(
        _procedures,
        {
            "scope": "scope",
            "key": "key",
            "from_value": "before",
            "to_value": "after",
            "name": "procedure",
            "steps": {"changed": True},
            "version": 1,
            "by": "other",
            "success": False,
            "context": {"kind": "mail"},
            "embedding": embedding(1),
        },
        {"prune": {"unused_since": datetime(2100, 1, 1, tzinfo=UTC)}},
        ("forget_transitions", "delete", "prune"),
    ),
    "agent_state": Samples(
        _agent_state,
        {
            "agent_id": "agent",
            "agent_type": "helper",
            "label": "label",
            "new_id": "copy",
            "state": {"changed": True},
            "transitions": {"idle": ["busy"], "busy": ["idle"]},
        },
        {"restore": {"version": 1}, "prune": {"keep_last": 1}, "declare": {"agent_type": "declared"}},
        ("delete_checkpoint", "prune", "delete"),
    ),
    "kv": Samples(
        _kv,
        {"key": "a", "keys": ["a", "b", "nothing"], "value": b"changed", "values": {"a": b"1", "n": b"2"}},
        {"compare_and_set": {"expected_version": 1}, "increment": {"key": "counter"}},
        ("purge_expired", "delete", "delete_many", "clear"),
    ),
    "workflow_states": Samples(
        _workflow_states,
        {
            "workflow_id": "workflow",
            "owner": "worker",
            "token": 1,
            "step": "first",
            "error": "failed",
            "status": "running",
            "state": {"changed": True},
        },
        {"save": {"workflow_id": "new"}},
        ("delete",),
    ),
    "sessions": Samples(
        _sessions,
        {
            "session_id": "session",
            "role": "user",
            "content": {"changed": True},
            "messages": [Draft("user", {"changed": True})],
            "max_tokens": 100,
        },
        {
            "create": {"session_id": "new"},
            "update": {"data": {"changed": True}},
            "branch": {"session_id": "session", "new_id": "mine"},
        },
        ("pop_last", "clear", "cleanup_expired", "purge_expired", "delete"),
    ),
    "artifacts": Samples(
        _artifacts,
        {"session_id": "session", "name": "name", "artifact_id": "artifact", "content": b"shared"},
        {"store": {"artifact_id": "new"}, "get": {"artifact_id": "large"}, "collect_garbage": {"older_than": 0}},
        ("collect_garbage", "delete", "delete_session"),
    ),
    "events": Samples(
        _events,
        {
            "event_type": "made",
            "events": [NewEvent("made", {"changed": True}, stream="stream")],
            "correlation_id": "correlation",
            "stream": "stream",
            "consumer": "consumer",
            "position": 1,
            "reason": "test",
            "before": datetime(2100, 1, 1, tzinfo=UTC),
        },
        {
            "subscribe": {"follow": False},
            "append": {"event_type": "made", "payload": {"changed": True}, "stream": "stream", "event_id": EVENT},
        },
        ("forget_ids", "forget_consumer", "erase_stream"),
    ),
    "hooks": Samples(
        _hooks,
        {
            "hook_id": "hook",
            "hook_type": "before",
            "triggering_component": "agent",
            "input": {"changed": True},
            "duration_ms": 1,
            "correlation_id": "one",
            "reason": "test",
            "execution_id": EVENT,
            "first": "one",
            "second": "two",
            "handler": lambda recorded: recorded.output,
            "policy": RetentionPolicy(max_executions=0),
        },
        {},
        ("apply_retention", "erase"),
    ),
    "api_keys": Samples(
        _api_keys,
        {"key_id": "robot", "name": "new", "token": token_of("lsk", "robot", 7), "value": b"changed", "ring": RING},
        {"seal": {"key_id": "new"}, "unseal": {"key_id": "value"}, "reseal": {"key_id": "value"}},
        ("purge_expired", "revoke", "delete"),
    ),
}
