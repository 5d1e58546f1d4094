"""What is made for each event of a batch: its id, and its payload as text, made in a shorter way with the same result."""

from __future__ import annotations

import enum
import math
import pickle
import threading
import time
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagelib import identifiers
from storagelib.components.events import payload_text
from storagelib.documents import check_document
from storagelib.errors import InvalidInput
from storagelib.identifiers import uuid7, uuid7s

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(st.characters())
    | st.just("\\u0000")
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Colour(enum.IntEnum):
    """A number that is more than a number."""

    RED = 1


class Name(str):
    """A text that is more than a text."""

    __slots__ = ()


def outcome(work: Any, value: object) -> tuple[str, Any]:
    """Return the text that comes of a value, or how it is refused."""
    try:
        return "text", work(value)
    except InvalidInput as error:
        return "refused", str(error)


@given(DOCUMENTS)
def test_any_payload_becomes_the_same_text(value: object) -> None:
    """The short way gives what the long one does, and refuses what it does, in the same words."""
    assert outcome(payload_text, value) == outcome(lambda it: check_document(it, "payload"), value)


def _deep(levels: int) -> object:
    value: object = []
    for _ in range(levels - 1):
        value = [value]
    return value


def _circle() -> object:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"a": -0.0},
        [0.0, 1e15, 1e16, 2.0**62, -1e300],
        [math.nan],
        {"a": {"b": math.inf}},
        {"a": "\0"},
        {"\0": 1},
        {"a": "\\u0000"},
        ["\ud800"],
        {"\udfff": 1},
        {1: 2},
        {"a": (1, 2)},
        [Colour.RED, Name("x"), {Name("x"): 1}],
        [2**63 - 1, -(2**63) + 1],
        [-(2**63)],
        [2**63],
        {"text": 'grüße 你好 \U0001f600 \u2028 \x7f "quoted" \\ /'},
        "text",
        b"bytes",
        [b"bytes"],
        _deep(100),
        _deep(101),
        _circle(),
        ["x" * 600_000, "x" * 600_000],
        [[["x" * 1_000] * 1_000] * 1_000],
        [None] * 200_000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_payloads_become_the_same_text(value: object) -> None:
    """At each edge of what the short way takes."""
    assert outcome(payload_text, value) == outcome(lambda it: check_document(it, "payload"), value)


def test_ids_of_a_batch_are_ids_like_others() -> None:
    """In order, different, of version 7 and of this moment; equal to, hashed and pickled as what ``UUID`` makes of them."""
    before = time.time_ns() // 1_000_000
    made = [uuid7(), *uuid7s(1), *uuid7s(3_000), *uuid7s(0), uuid7(), *uuid7s(2)]
    after = time.time_ns() // 1_000_000
    assert made == sorted(set(made))
    for each in made:
        again = UUID(str(each))
        assert type(each) is UUID
        assert (each, hash(each), repr(each), each.is_safe) == (again, hash(again), repr(again), again.is_safe)
        assert pickle.loads(pickle.dumps(each)) == again
        assert (each.version, each.variant) == (7, again.variant)
        assert before <= each.int >> 80 <= after + 1
        with pytest.raises(TypeError):
            each.int = 1  # type: ignore[misc]


def test_ids_stay_in_order_where_their_low_bits_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted up runs over into the bits above the variant, and then into the time."""
    for random in ((1 << 62) - (1 << 40), (1 << 74) - (1 << 40)):
        monkeypatch.setattr(identifiers, "_last", (1 << 47) << 74 | random)
        made = [*uuid7s(1_000), uuid7()]
        assert made == sorted(set(made))
        assert {(each.version, each.variant) for each in made} == {(7, made[0].variant)}
        assert made[0].int >> 64 < made[-1].int >> 64


def test_no_two_threads_make_the_same_ids() -> None:
    """Batches that are made at the same time do not mix."""
    batches: list[list[UUID]] = []
    threads = [threading.Thread(target=lambda: batches.extend(uuid7s(50) for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = sorted(batches)
    assert [each for batch in ordered for each in batch] == sorted({each for batch in batches for each in batch})
