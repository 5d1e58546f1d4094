"""The arithmetic between two versions of a state: it comes back to exactly what was there, types included."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagelib import documents
from storagelib.components import agent_state as states
from storagelib.errors import Corrupted

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from([0, 1, 2, 0.0, 1.0, 2.0, True, False])
    | st.floats(-1e15, 1e15).map(lambda number: number or 0.0)
    | st.text(alphabet="ab\u00e9\U0001f600", max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=5),
    max_leaves=20,
)


def identical(one: object, other: object) -> bool:
    """Compare by type and value in the plainest way there is, apart from what is tested."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(identical(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(identical, one, other))
    return one == other


@settings(max_examples=400)
@given(VALUES, VALUES)
def test_a_delta_makes_exactly_the_other_value(old: Any, new: Any) -> None:
    """A delta makes exactly the other value."""
    delta = states.delta_of(old, new)
    assert identical(states.apply(delta, old), new)


@settings(max_examples=300)
@given(VALUES, VALUES)
def test_a_delta_survives_its_packed_text(old: Any, new: Any) -> None:
    """A delta survives its packed text."""
    packed = states.pack(states.sorted_text(states.delta_of(old, new)))
    assert identical(states.apply(documents.decode(states.unpack(packed)), old), new)


@settings(max_examples=300)
@given(st.lists(SCALARS, max_size=8), st.data())
def test_edited_lists_come_back(items: Any, data: st.DataObject) -> None:
    """Neighbouring versions are edits of each other more often than strangers."""
    new = list(items)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(new)))
        if data.draw(st.booleans()):
            new.insert(at, data.draw(SCALARS))
        elif at < len(new):
            new[at] = data.draw(SCALARS)
    assert identical(states.apply(states.delta_of(items, new), items), new)
    assert identical(states.apply(states.delta_of(new, items), new), items)


@given(VALUES)
def test_the_same_value_has_no_delta(value: Any) -> None:
    """The same value has no delta."""
    assert states.delta_of(value, documents.decode(documents.encode(value))) is None


@given(VALUES, VALUES)
def test_same_agrees_with_the_plain_comparison(one: Any, other: Any) -> None:
    """Same agrees with the plain comparison."""
    assert states.same(one, other) == identical(one, other)


@pytest.mark.parametrize(
    ("old", "new"), [(1, 1.0), (1, True), (0, False), (0.0, 0), ([1], [1.0]), ({"a": 1}, {"a": True})]
)
def test_numbers_of_other_types_are_changes(old: Any, new: Any) -> None:
    """Numbers of other types are changes."""
    delta = states.delta_of(old, new)
    assert delta is not None
    assert identical(states.apply(delta, old), new)


def test_the_way_back_from_a_growing_list_is_short() -> None:
    """The way back from a growing list is short."""
    old = {"messages": [{"role": "user", "content": "x" * 500}] * 100}
    new = {"messages": [*old["messages"], {"role": "assistant", "content": "y" * 500}]}
    assert len(states.sorted_text(states.delta_of(new, old))) < 60


@pytest.mark.parametrize(
    ("delta", "value"),
    [
        ([2, 3, 4, []], [1]),
        ([4, 9, 9, ""], "a"),
        ([3, {"5": [0, 1]}], [1]),
        ([1, {"gone": [0, 1]}, {}, []], 7),
        ([1, {"gone": [4, 0, 0, ""]}, {}, []], {}),
        ("nonsense", {}),
        ([9], {}),
    ],
)
def test_a_delta_of_something_else_is_corrupted(delta: Any, value: Any) -> None:
    """A delta of something else is corrupted."""
    with pytest.raises(Corrupted):
        states.apply(delta, value)


def test_content_that_was_changed_is_corrupted() -> None:
    """Content that was changed is corrupted."""
    packed = bytearray(states.pack("x" * 5000))
    packed[-3] ^= 0xFF
    with pytest.raises(Corrupted):
        states.verified(states.unpack(bytes(packed)), states.checksum_of("x"))


def test_a_wrong_checksum_is_corrupted() -> None:
    """A wrong checksum is corrupted."""
    text = states.sorted_text({"a": 1})
    assert states.verified(text, states.checksum_of(text)) == ({"a": 1}, text)
    with pytest.raises(Corrupted):
        states.verified(text, states.checksum_of(states.sorted_text({"a": 1.0})))
