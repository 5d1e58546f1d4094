"""A tenant with rows in every table of every store, written through the public verbs with values that hurt; and what it reads.

The same seed makes the same calls; ids and times that a backend makes are its own.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np

from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.graph import Entity, NewEntity, NewRelationship
from storagelib.sealing import KeyRing

RING = KeyRing("one", {"one": bytes(range(32))})
DIMENSIONS = (128, 384)
EDGES = (0.0, -0.0, -1.5, 1.401298464324817e-45, -1.1754942106924411e-38)
"""float32 numbers: both zeros, the smallest, the largest that is not normal."""
EXPONENTS = 170
"""Numbers from here on, 2**43, would make a vector too long."""
TEXTS = (
    "a",
    "Z" * 255,
    "' OR 1=1 --",
    'quote " backslash \\ percent % underscore _ dollar $1 :name {{ schema }}',
    "\x01\x1f\x7f\x80\u00a0",
    "e\u0301 \u00e9 \u212b \u00c5",
    "\u200b\u200f\u202e\ufeff\ufffd\ufffe\uffff",
    "\U0001f600\U00010000\U0010ffff",
    "\u2028\u2029\r\n\t",
    "$json",
    '{"$bytes":"AP8="}',
    "infinity",
)
TIMES = (
    datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(1582, 10, 14, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2000, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC),
)
NUMBERS = (0, -1, 2**63 - 1, -(2**63), 2**53 + 1, 5e-324, 0.1, -2.5, 1e-300, 1e16, 123456789.123456789, 1e15, 0.0, -0.0)


class Filler:
    """Draws the values of one seed."""

    def __init__(self, tenant: Any, seed: int) -> None:
        """Take the tenant to fill."""
        self.tenant = tenant
        self.chance = random.Random(seed)
        self.tokens: list[str] = []

    def text(self) -> str:
        """Draw a text."""
        return self.chance.choice(TEXTS)

    def texts(self, least: int = 0) -> list[str]:
        """Draw several texts that differ."""
        return self.chance.sample(TEXTS, self.chance.randint(least, 4))

    def bytes(self) -> bytes:
        """Draw bytes, often none, sometimes every one."""
        return self.chance.choice([b"", b"\0", bytes(range(256)), b"\xff\xfe\n\r", self.chance.randbytes(1000)])

    def time(self) -> datetime:
        """Draw a moment of the calendar."""
        return self.chance.choice(TIMES)

    def json(self, depth: int = 3) -> Any:
        """Draw any JSON value."""
        kinds: list[Callable[[], Any]] = [
            lambda: None,
            lambda: self.chance.choice([True, False]),
            lambda: self.chance.choice(NUMBERS),
            self.text,
            dict,
            list,
        ]
        if depth:
            kinds += [lambda: [self.json(depth - 1) for _ in range(self.chance.randint(1, 4))]] * 2
            kinds += [lambda: {name: self.json(depth - 1) for name in self.texts(1)}] * 2
        return self.chance.choice(kinds)()

    def document(self) -> dict[str, Any]:
        """Draw an object."""
        deep: Any = self.text()
        for level in range(97):
            deep = [deep] if level % 2 else {self.text(): deep}
        made: list[dict[str, Any]] = [
            {},
            {"$json": None},
            {"$json": self.json()},
            {"": self.json(), "deep": deep},
            {name: self.json() for name in TEXTS},
            {"numbers": list(NUMBERS)},
        ]
        return self.chance.choice(made)

    def embedding(self, dimension: int) -> Any:
        """Draw numbers of any sign, exponent and fraction, the first of them not 0."""
        drawn = [
            self.chance.getrandbits(1) << 31 | self.chance.randrange(EXPONENTS) << 23 | self.chance.getrandbits(23)
            for _ in range(dimension)
        ]
        bits = [struct.unpack("<f", struct.pack("<I", each))[0] for each in drawn]
        values = [self.chance.choice(EDGES) if self.chance.random() < 0.2 else each for each in bits]
        return np.array([1.0, *values[1:]], "<f4")

    async def fill(self) -> None:
        """Fill every table."""
        for store in (
            self.vectors,
            self.graph,
            self.procedures,
            self.agent_state,
            self.kv,
            self.workflow_states,
            self.sessions,
            self.artifacts,
            self.events,
            self.hooks,
            self.api_keys,
        ):
            await store()

    async def vectors(self) -> None:
        """Vectors of two dimensions, with and without content, document and metadata."""
        vectors = self.tenant.vectors
        for dimension in DIMENSIONS:
            for number, name in enumerate(TEXTS):
                await vectors.insert(
                    name,
                    self.embedding(dimension),
                    scope=self.text(),
                    content=self.chance.choice([None, "", "two words", *TEXTS]),
                    metadata=self.document(),
                    document_id=self.chance.choice([None, self.text()]),
                    position=number or None,
                )
            await vectors.upsert(TEXTS[0], self.embedding(dimension), content="again")
            await vectors.update_metadata(TEXTS[1], {"changed": self.json()}, dimension=dimension)
        await vectors.insert("zero", np.zeros(128, "<f4"))

    async def graph(self) -> None:
        """Versions over both times, ends that never come, an erasure."""
        graph = self.tenant.graph
        ids, _ = await graph.add(
            [
                NewEntity(self.text(), self.text(), self.document(), LONG_AGO, None, None, self.embedding(128)),
                NewEntity(self.text(), self.text(), self.document(), self.time(), FOREVER),
                NewEntity(self.text(), "gone", {"a": 1}, None, None, None, self.embedding(5)),
                NewEntity("kind", self.text(), None, LONG_AGO, self.time()),
            ],
            [],
            actor=self.text(),
            reason=self.text(),
            sources=self.texts(),
        )
        (edge,) = await graph.add_relationships(
            [NewRelationship(ids[0], ids[1], self.text(), self.document(), LONG_AGO)]
        )
        await graph.add_relationship(ids[2], ids[0], "kind")
        await graph.update_entity(ids[0], properties=self.document(), embedding=self.embedding(384), actor=self.text())
        await graph.correct_entity(ids[0], type="t", name="n", valid_from=TIMES[1], valid_to=TIMES[2])
        await graph.update_relationship(edge, merge={"more": self.json()})
        await graph.retract_entity(ids[1], valid_from=TIMES[-1])
        await graph.erase(ids[2], self.text())
        await graph.delete_relationship(edge, reason=self.text())

    async def procedures(self) -> None:
        """Transitions, versions with outcomes, one that took another's place."""
        procedures = self.tenant.procedures
        for name in self.texts(2):
            for _ in range(self.chance.randint(1, 4)):
                await procedures.record_transition(self.text(), name, "before", "after")
        for number in range(3):
            await procedures.save(
                "procedure",
                self.json(),
                trigger={"kind": {"$in": ["mail", 1.5]}} if number else None,
                scope=self.text(),
                provenance=self.texts(),
                embedding=self.embedding(7) if number != 1 else None,
                prior=self.chance.choice([0.0, 1.0, 0.1, 1 / 3, 5e-324]),
            )
            await procedures.record_outcome("procedure", bool(number % 2))
        await procedures.save(self.text()[:200] + "'", self.json())
        await procedures.save("successor", self.document())
        await procedures.supersede("procedure", "successor")

    async def agent_state(self) -> None:
        """A history with deltas and a checkpoint, declared transitions, a thread with writes."""
        states = self.tenant.agent_state
        await states.declare("declared", {"": ["idle"], "idle": ["busy", self.text()[:90]]})
        big = {name: self.document() for name in TEXTS}
        for number in range(20):
            state = {**big, "n": number, "more": self.json()}
            await states.save("agent", state, agent_type="helper", session_id=self.text(), phase=self.text()[:100])
        await states.checkpoint("agent", self.text(), metadata=self.document())
        await states.checkpoint("agent", "old", version=3)
        await states.prune("agent", keep_last=12)
        await states.copy("agent", self.text()[:200] + "!", history=True)
        values = {"messages": ("msgpack", self.chance.randbytes(3000)), "empty": ("", b""), "text": ("str", b"\0\xff")}
        parent = None
        for step in ("1", "2"):
            await states.threads.put(
                "thread", "", step, head=("json", b'{"v":1}' + step.encode()), versions=dict.fromkeys(values, step),
                value_of=values.__getitem__, changed=list(values), parent_id=parent, metadata=self.document(),
                run_id=self.text(),
            )  # fmt: skip
            parent = step
            values["messages"] = ("msgpack", values["messages"][1] + self.chance.randbytes(10))
        writes = [(place, self.text(), ("bytes", self.bytes())) for place in (-1, 0, 7)]
        await states.threads.put_writes("thread", "", "2", "task", writes, task_path=self.text())

    async def kv(self) -> None:
        """Any bytes under any key, counters, expiry."""
        for key in TEXTS:
            await self.tenant.kv.set(key, self.bytes(), metadata=self.document())
        await self.tenant.kv.set("later", self.bytes(), ttl=timedelta(days=3650))
        await self.tenant.kv.set("gone", self.bytes(), ttl=0.000001)
        await self.tenant.kv.increment("counter", 2**63 - 1)
        await self.tenant.kv.increment("below", -(2**63) + 1)

    async def workflow_states(self) -> None:
        """One of each state, leases, steps, an error."""
        workflows = self.tenant.workflow_states
        await workflows.save("pending", self.json(), name=self.text())
        lease = await workflows.acquire("pending", self.text(), ttl=123.456)
        assert await workflows.release("pending", lease.token)
        await workflows.save("running", self.document(), name="name")
        claim = await workflows.claim_next("worker", "name", ttl=86_400)
        assert claim is not None
        token = claim.lease.token
        for step in self.texts(1):
            await workflows.complete_step("running", step, self.json(), state=self.json(), token=token)
        await workflows.save("failed", self.json())
        await workflows.update_status("failed", "running")
        await workflows.fail("failed", self.json())
        await workflows.save("done", None, status="running")
        await workflows.update_status("done", "completed")

    async def sessions(self) -> None:
        """Messages, branches that share them, states, ends that never come."""
        sessions = self.tenant.sessions
        await sessions.create("session", self.document(), metadata=self.document(), expires_at=TIMES[-1])
        for role in self.texts(2):
            await sessions.append(
                "session", role, self.json(), tokens=self.chance.choice([None, 0, 7]), idempotency_key=role,
                metadata=self.document(),
            )  # fmt: skip
        await sessions.branch("session", 1, new_id=self.text())
        await sessions.append("session", "user", self.json())
        await sessions.branch("session", new_id="second")
        await sessions.append("second", "user", self.json())
        await sessions.create("archived", self.document())
        await sessions.archive("archived")
        await sessions.create("expired", ttl=0.000001)
        await sessions.cleanup_expired()

    async def artifacts(self) -> None:
        """Content shared, in versions, whole and in chunks, that packs and that does not, deleted and kept."""
        artifacts = self.tenant.artifacts
        contents = [b"", b"shared", b"shared", bytes(1_500_000), self.chance.randbytes(1_100_000), self.bytes()]
        for number, content in enumerate(contents):
            await artifacts.store(
                "session", self.chance.choice(["name", self.text()]), content, artifact_id=f"a{number}",
                artifact_type=self.text()[:50], tags=[text[:100] for text in self.texts()], metadata=self.document(),
                keep=bool(number % 2),
            )  # fmt: skip
        await artifacts.delete("a3")

    async def events(self) -> None:
        """Streams, ids, consumers, an erased stream."""
        events = self.tenant.events
        for number in range(12):
            await events.append(
                self.text(),
                self.json(),
                stream=self.chance.choice(["stream", self.text()]),
                correlation_id=self.text(),
                occurred_at=self.chance.choice([None, FOREVER, LONG_AGO, self.time()]),
                language=self.chance.choice(["", "lua", "\U0010ffff"]),
                event_id=UUID(int=self.chance.getrandbits(128)) if number % 2 else None,
            )
        await events.append("secret", None, stream="erased")
        await events.erase_stream("erased", self.text())
        for consumer in self.texts(1):
            await events.checkpoint(consumer, self.chance.randint(1, 12))

    async def hooks(self) -> None:
        """Executions with and without errors, contexts that pack and that do not."""
        for number in range(8):
            await self.tenant.hooks.record(
                self.text(), self.text()[:100], triggering_component=self.text(), input=self.json() if number else "x" * 9000,
                output=self.json(), error=self.chance.choice([None, self.text()]), correlation_id=f"run-{number % 2}",
                duration_ms=self.chance.choice([0, 0.001, 1.5, 1e9]), tags=[text[:100] for text in self.texts()],
                metadata=self.document(),
            )  # fmt: skip
        await self.tenant.hooks.erase("run-none", self.text())

    async def api_keys(self) -> None:
        """Keys, one that was rotated and one that was revoked, a sealed value."""
        keys = self.tenant.api_keys
        made = await keys.create(self.text(), scopes=["read", "write"], metadata=self.document(), key_id="first")
        self.tokens.append((await keys.rotate("first", overlap=3600)).token)
        self.tokens.append(made.token)
        await keys.create(self.text(), expires_at=TIMES[-1], key_id="revoked")
        await keys.revoke("revoked")
        await keys.seal(self.text(), self.bytes() or b"s", RING, key_id="sealed", metadata=self.document())


async def reads(tenant: Any) -> dict[str, Any]:
    """Return what a tenant's public reads give: the same on every backend that has the same rows."""
    found: dict[str, Any] = {}
    for dimension in DIMENSIONS:
        query = np.ones(dimension, "<f4")
        found[f"listed-{dimension}"] = [
            (
                each.id,
                each.scope,
                bytes(np.asarray(each.embedding, "<f4")),
                each.content,
                each.metadata,
                each.created_at,
            )
            async for each in tenant.vectors.vectors(dimension=dimension)
        ]
        hits = await tenant.vectors.search(query, 20, filter={"changed": {"$exists": False}})
        found[f"search-{dimension}"] = sorted(hit.id for hit in hits)
        hits = await tenant.vectors.hybrid_search("two words again", query, 5)
        found[f"words-{dimension}"] = sorted(hit.id for hit in hits if hit.text_rank is not None)
    found["changes"] = (await tenant.graph.changes(limit=1000)).items
    versions = [change.version for change in found["changes"] if isinstance(change.version, Entity)]
    subjects = sorted({version.entity_id for version in versions})
    for tx in (None, *range(1, await tenant.graph.last_transaction() + 1)):
        view = tenant.graph.as_of(TIMES[1] + timedelta(days=1), tx)
        found[f"as-of-{tx}"] = await view.get_entities(subjects)
    for subject in subjects:
        found[f"history-{subject}"] = (await tenant.graph.history(subject)).items
        found[f"why-{subject}"] = (await tenant.graph.why(subject)).items
        found[f"embedding-{subject}"] = await tenant.graph.get_embedding(subject)
    found["procedures"] = [
        replace(each, confidence=0.0) for each in (await tenant.procedures.versions("procedure")).items
    ]
    found["learned"] = (await tenant.procedures.learned(1)).items
    found["agents"] = [each async for each in tenant.agent_state.agents()]
    for version in (await tenant.agent_state.versions("agent")).items:
        found[f"agent-{version.version}"] = await tenant.agent_state.load("agent", version=version.version)
    found["checkpoints"] = (await tenant.agent_state.list_checkpoints("agent")).items
    found["thread"] = await tenant.agent_state.threads.get("thread")
    for key in [*TEXTS, "later", "gone", "counter", "below"]:
        found[f"kv-{key}"] = await tenant.kv.get_entry(key)
    for name in ("pending", "running", "failed", "done"):
        found[f"workflow-{name}"] = await tenant.workflow_states.load(name)
        found[f"steps-{name}"] = (await tenant.workflow_states.list_steps(name)).items
    async for session in tenant.sessions.sessions():
        found[f"session-{session.session_id}"] = (
            session,
            [each async for each in tenant.sessions.messages(session.session_id)],
        )
    for artifact in (await tenant.artifacts.list_artifacts()).items:
        found[f"artifact-{artifact.artifact_id}"] = artifact, await tenant.artifacts.get(artifact.artifact_id)
    found["artifacts"] = await tenant.artifacts.statistics()
    found["events"] = [each async for each in tenant.events.all()]
    found["streams"] = (await tenant.events.streams()).items
    found["consumers"] = (await tenant.events.consumers()).items
    found["hooks"] = (await tenant.hooks.query()).items
    found["keys"] = (await tenant.api_keys.list_keys()).items
    found["sealed"] = await tenant.api_keys.unseal("sealed", RING)
    return found
