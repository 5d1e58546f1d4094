"""Whatever a caller gives in whatever place, a verb answers or raises ``StorageError``; nothing else ever gets out.

Every public verb of every store is called with each hostile value in each place, by itself, within a list, as a value and as
a key of an object, and within the records that some verbs take; the other places have good samples. What can never be
right, because it is of a type that nothing has, has to be ``InvalidInput`` before the backend is asked. At the end
every verb must work as if nothing had happened.

The facades are the same on every backend: on memory all of it is tried, and on the others what a backend was asked there.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from storagelib._async.episodic import AsyncEpisodicMemory
from storagelib._async.procedural import AsyncProceduralMemory
from storagelib._async.rag import AsyncRag
from storagelib._async.semantic import AsyncSemanticMemory
from storagelib._async.state_scopes import AsyncStateScopes
from storagelib._async.store import AsyncStore
from storagelib.backends import class_of
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.components.passages import Passage
from storagelib.config import StoreConfig
from storagelib.conformance.subjects import Opening, Subject
from storagelib.errors import AlreadyExists, Conflict, InvalidInput, NotFound, PermissionDenied
from storagelib.pages import cursor_of
from tests.storagelib.tenancy.samples import ONE, SAMPLES

MARK = "mine-51ab02"
ITEMS_MAX = 200
ANSWER_SECONDS = 60
ANSWERS = (InvalidInput, NotFound, AlreadyExists, Conflict, PermissionDenied)
"""Errors that an argument may have; the others say that something is broken."""
TAKEN = {("follow", "True"), ("redact", "type"), ("redact", "function")}
"""What is taken at its word: a subscription that never ends, and a caller's own function that fails."""


class Thing:
    """An object of no type that any verb knows."""

    __hash__ = None  # type: ignore[assignment] - one that cannot be a key either


def nested(depth: int) -> Any:
    """Return lists in one another."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    """Return a list that holds itself."""
    value: list[Any] = []
    value.append(value)
    return value


NOTHING_KNOWN: Mapping[str, Callable[[], Any]] = {"object": object, "thing": Thing, "ellipsis": lambda: ...}
"""What has no meaning in any place."""

HOSTILE: Mapping[str, Callable[[], Any]] = {
    **NOTHING_KNOWN,
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "2**31": lambda: 2**31,
    "2**63-1": lambda: 2**63 - 1,
    "2**63": lambda: 2**63,
    "-2**63-1": lambda: -(2**63) - 1,
    "10**5000": lambda: 10**5000,
    "0.5": lambda: 0.5,
    "1e300": lambda: 1e300,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "decimal": lambda: Decimal(1),
    "signalling": lambda: Decimal("sNaN"),
    "complex": lambda: 1j,
    "empty": lambda: "",
    "letter": lambda: "a",
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "quotes": lambda: "a'\"\\;--%_$1{{}}",
    "long": lambda: "é" * 20_000,
    "no": lambda: "no",
    "uuid": lambda: UUID(int=7),
    "bytes": lambda: b"\xff\0",
    "bytearray": lambda: bytearray(b"x"),
    "memoryview": lambda: memoryview(b"x" * 8)[::2],
    "list": list,
    "tuple": tuple,
    "set": lambda: {"a", "b"},
    "dict": dict,
    "mixed": lambda: [None, 1, "a", b"a", [], {}],
    "keys": lambda: {1: 1, None: 2, (1,): 3},
    "deep": lambda: nested(3_000),
    "endless": endless,
    "generator": lambda: (number for number in range(3)),
    "range": lambda: range(3),
    "array": lambda: np.zeros(3, np.float32),
    "objects": lambda: np.array([None, "a"], object),
    "number": lambda: np.float64(0.5),
    "naive": lambda: datetime(2020, 1, 1),  # noqa: DTZ001 - what is wrong with it
    "date": lambda: date(2020, 1, 1),
    "first": lambda: datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23))),
    "last": lambda: datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "duration": lambda: timedelta.max,
    "-duration": lambda: timedelta.min,
    "type": lambda: str,
    "function": lambda: lambda *_: 1 / 0,
    "error": lambda: ValueError("\ud800\0"),
}


PLACES = (2**63 - 1, -(2**63), "", "a", FOREVER, LONG_AGO, ONE)


def cursors() -> Iterator[str]:
    """Give what looks like the cursors that pages give, at the ends of everything that could stand in one."""
    for first in PLACES:
        yield cursor_of(first)
        yield from (cursor_of(first, second) for second in PLACES)
    for position in itertools.product(PLACES[:3], PLACES, PLACES):
        yield cursor_of(*position)
    yield cursor_of(2**63 - 1, 2**63 - 1, ONE, FOREVER)
    yield cursor_of(1, -1, ONE, LONG_AGO)


def placed(make: Callable[[], Any]) -> Iterator[Any]:
    """Give a hostile value by itself, among others, and in an object."""
    yield make()
    yield [make()]
    yield {"a": make()}
    value = make()
    if type(value).__hash__ is not None:
        try:
            yield {value: "a"}
        except TypeError:
            return


def fields_of(sample: Any, make: Callable[[], Any]) -> Iterator[Any]:
    """Give the records of a sample with a hostile value in each of their fields."""
    record = sample[0] if isinstance(sample, list) and sample else sample
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        return
    for field in dataclasses.fields(record):
        if field.init:
            with suppress(InvalidInput):
                changed = dataclasses.replace(record, **{field.name: make()})
                yield [changed] if isinstance(sample, list) else changed


def verbs_of(store: str) -> dict[str, list[str]]:
    """Return the verbs of a facade with all that they take."""
    found = {}
    for name, method in inspect.getmembers(class_of("storagelib._async", "Async", store), callable):
        if not name.startswith("_"):
            found[name] = [each for each in inspect.signature(method).parameters if each != "self"]
    return found


def given(store: str, verb: str) -> dict[str, Any]:
    """Return good arguments of a verb."""
    samples = SAMPLES[store]
    known = {**samples.arguments, **samples.special.get(verb, {})}
    parameters = inspect.signature(getattr(class_of("storagelib._async", "Async", store), verb)).parameters
    required = [name for name, each in parameters.items() if each.default is each.empty and name != "self"]
    return {name: known[name] for name in required} | dict(samples.special.get(verb, {}))


@functools.cache
def required(store: str, verb: str) -> Mapping[str, Any]:
    """Return good arguments of a verb; the values are those of the samples, and are not to be changed."""
    return given(store, verb)


def hostile(
    store: str, verb: str, parameter: str, values: Mapping[str, Callable[[], Any]]
) -> Iterator[tuple[str, Any]]:
    """Give what stands in one place of a verb, by name; each is made anew, because verbs use some of it up."""
    for label, make in values.items():
        if (parameter, label) in TAKEN:
            continue
        chosen = itertools.chain(placed(make), fields_of(required(store, verb).get(parameter), make))
        for number, value in enumerate(chosen):
            yield f"{verb}({parameter}={label}/{number})", value
    if parameter == "cursor":
        for cursor in cursors():
            yield f"{verb}(cursor={cursor})", cursor


async def answer_of(facade: Any, verb: str, arguments: Mapping[str, Any]) -> Any:
    """Call a verb, of whatever kind it is, and return what it gives or raises."""
    try:
        result = getattr(facade, verb)(**arguments)
        if inspect.isawaitable(result):
            result = await result
        if isinstance(result, AsyncIterator):
            count = 0
            async for _ in result:
                count += 1
                if count > ITEMS_MAX:
                    break
    except Exception as error:  # noqa: BLE001 - every one of them is looked at
        return error
    return result


class Untouched:
    """Stands for a backend and notes which of its verbs are called."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._backend, name)

        @functools.wraps(verb)
        def noted(*arguments: Any, **named: Any) -> Any:
            self.called.append(name)
            return verb(*arguments, **named)

        return noted if inspect.iscoroutinefunction(verb) else verb


REACHING: dict[str, frozenset[tuple[str, int]]] = {}
"""By store, the verbs and numbers of the calls in which a backend is asked."""


async def reaching(name: str) -> frozenset[tuple[str, int]]:
    """Find out in memory which calls of a store a facade lets through."""
    if name not in REACHING:
        numbers = itertools.count()
        async with await AsyncStore.open(StoreConfig.in_memory()) as store:
            await attack(store, lambda: f"tenant-{next(numbers)}", name, None)
    return REACHING[name]


async def attack(
    store: Any, new_tenant: Callable[[], str], name: str, only: frozenset[tuple[str, int]] | None
) -> list[str]:
    """Call every verb of a store with every hostile value in every place; return what went wrong, at the end as well.

    Without ``only`` all calls are made, and those in which the backend is asked are remembered.
    """
    wrong: list[str] = []
    reached = set()
    for verb in verbs_of(name):
        tenant = store.for_tenant(new_tenant())
        await SAMPLES[name].seed(tenant, MARK)
        facade = getattr(tenant, name)
        async for number, called, asked, answer in answers(facade, name, verb, only):
            wrong += broken(called, answer)
            if asked:
                reached.add((verb, number))
        # What was kept of all that can be read, and the verb works.
        for each in (verb, *verbs_of(name)):
            wrong += broken(f"{each} after {verb}", await answer_of(facade, each, required(name, each)))
    if only is None:
        REACHING[name] = frozenset(reached)
    return wrong


async def answers(
    facade: Any, name: str, verb: str, only: frozenset[tuple[str, int]] | None
) -> AsyncIterator[tuple[int, str, bool, Any]]:
    """Call one verb; give the number and name of each call, whether the backend was asked, and what came of it."""
    spy = Untouched(facade._backend)
    if only is None:
        facade._backend = spy
    good = required(name, verb)
    calls = ((each, *call) for each in verbs_of(name)[verb] for call in hostile(name, verb, each, HOSTILE))
    for number, (parameter, called, value) in enumerate(calls):
        if only is None or (verb, number) in only:
            spy.called.clear()
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await answer_of(facade, verb, {**good, parameter: value})
            yield number, called, bool(spy.called), answer


def broken(called: str, answer: Any) -> list[str]:
    """Return what is to be said of an answer that no argument may have."""
    if not isinstance(answer, Exception) or isinstance(answer, ANSWERS):
        return []
    return [f"{called}: {type(answer).__name__}: {answer}".encode("ascii", "backslashreplace").decode()]


@pytest.fixture(autouse=True)
def once(request: pytest.FixtureRequest) -> None:
    """Leave out what would only say the same again: the facades and statements of the twin and of the other mode."""
    if "subject" in request.fixturenames:
        subject: Subject = request.getfixturevalue("subject")
        if subject.blocking or subject.name.startswith("postgres-sealed"):
            pytest.skip("the facade is the same, and so are the statements")


@pytest.mark.parametrize("name", sorted(SAMPLES))
async def test_nothing_but_storage_errors_gets_out(subject: Subject, store: Any, opening: Opening, name: str) -> None:
    """Every value stands in every place, for the facade and, where that lets it through, for each backend."""
    only = None if subject.name.startswith("memory") else await reaching(name)
    assert only is None or len(only) > 100
    assert await attack(store, opening.new_tenant, name, only) == []


@pytest.mark.parametrize("name", sorted(SAMPLES))
async def test_what_means_nothing_is_refused_before_any_io(name: str) -> None:
    """An object of an unknown type is ``InvalidInput`` in every place, and no backend is asked."""
    wrong = []
    async with await AsyncStore.open(StoreConfig.in_memory()) as store:
        facade = getattr(store.for_tenant("acme"), name)
        facade._backend = spy = Untouched(facade._backend)
        for verb, parameters in verbs_of(name).items():
            for parameter in parameters:
                for label, make in NOTHING_KNOWN.items():
                    spy.called.clear()
                    answer = await answer_of(facade, verb, {**required(name, verb), parameter: make()})
                    refused = PermissionDenied if (verb, parameter) == ("verify", "token") else InvalidInput
                    if not isinstance(answer, refused) or spy.called:
                        wrong.append(f"{verb}({parameter}={label}): {answer!r}, asked the backend to {spy.called}")
    assert wrong == []


def embedded(texts: list[str]) -> list[list[float]]:
    """Return an embedding for each text."""
    return [[1.0, float(len(text) % 7)] for text in texts]


MEMORIES: Mapping[str, Callable[[Any], Any]] = {
    "rag": lambda tenant: AsyncRag(tenant, embedded, dimension=2),
    "episodic": lambda tenant: AsyncEpisodicMemory(tenant, embedded, dimension=2),
    "semantic": AsyncSemanticMemory,
    "procedural": AsyncProceduralMemory,
    "state_scope": lambda tenant: AsyncStateScopes(tenant).user("ada"),
    "state_scopes": AsyncStateScopes,
    "threads": lambda tenant: tenant.agent_state.threads,
}
GOOD: Mapping[str, Any] = {
    "document_id": "document",
    "chunks": ["a", "b"],
    "question": "a",
    "passage": Passage("document", 0, "a", {}),
    "session_id": "session",
    "role": "user",
    "content": "a",
    "episode_id": "a",
    "episode_ids": ["a"],
    "moment": datetime(2020, 1, 1, tzinfo=UTC),
    "name": "Ada",
    "subject": "Ada",
    "relation": "knows",
    "object": "Bob",
    "fact_id": UUID(int=1),
    "scope": "scope",
    "before": "a",
    "after": "b",
    "context": {"a": 1},
    "key": "key",
    "value": 1,
    "values": {"a": 1},
    "thread_id": "thread",
    "namespace": "",
    "checkpoint_id": "1",
    "task_id": "task",
    "head": ("raw", b""),
    "versions": {"a": 1},
    "value_of": lambda _: ("raw", b"a"),
    "changed": ["a"],
    "writes": [(0, "channel", ("raw", b"a"))],
    "run_ids": ["run"],
    "new_id": "other",
    "user_id": "a",
    "agent_id": "a",
    "workflow_id": "a",
    "hook_id": "a",
}
CALLED = {
    ("value_of", "type"),
    ("value_of", "function"),
    ("needs", "type"),
    ("needs", "function"),
    ("default", "error"),
}
"""What is taken at its word: functions that fail, and an error that is asked for."""


@pytest.mark.parametrize("name", MEMORIES)
async def test_memories_and_threads_raise_nothing_else_either(name: str) -> None:
    """What stands on top of the stores hands nothing through that it does not understand."""
    wrong = []
    async with await AsyncStore.open(StoreConfig.in_memory()) as store:
        memory = MEMORIES[name](store.for_tenant("acme"))
        for verb, method in inspect.getmembers(type(memory), callable):
            parameters = {} if verb.startswith("_") else dict(inspect.signature(method).parameters)
            parameters.pop("self", None)
            good = {each: GOOD[each] for each, about in parameters.items() if about.default is about.empty}
            for parameter in parameters:
                for label, make in HOSTILE.items():
                    for value in placed(make) if (parameter, label) not in CALLED else ():
                        answer = await answer_of(memory, verb, {**good, parameter: value})
                        if isinstance(answer, Exception) and not isinstance(answer, ANSWERS):
                            wrong.append(f"{verb}({parameter}={label}): {type(answer).__name__}")
    assert wrong == []
