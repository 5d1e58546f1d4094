"""Documents: one form for every backend, and faults with the way to them."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storagelib import documents
from storagelib.documents import DEPTH_MAX, VALUES_MAX, check_document, check_metadata, decode
from storagelib.errors import InvalidInput
from storagelib.limits import METADATA_BYTES_MAX

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(-(2.0**62), 2.0**62)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_kept_is_what_was_given(value: Any) -> None:
    """Equal, and settled: checking it again changes nothing."""
    text = check_document(value)
    assert decode(text) == value
    assert check_document(decode(text)) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.0, "0.0"),
        (1e16, "10000000000000000"),
        (-1e18, "-1000000000000000000"),
        (9007199254740993, "9007199254740993"),
        (1e15, "1000000000000000.0"),
        ((1, (2,)), "[1,[2]]"),
        (-(2**63), str(-(2**63))),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        ({}, "{}"),
        ("é\U0001f600", '"é\U0001f600"'),
        (5e-324, "5e-324"),
    ],
)
def test_three_spellings_are_settled(value: Any, text: str) -> None:
    """Numbers are as jsonb gives them back, tuples are lists."""
    assert check_document(value) == text


class Words(str):
    """A text of another class."""

    __slots__ = ()


def test_subclasses_become_what_they_are() -> None:
    """Nothing of the caller's own classes is kept."""
    kept = decode(check_document({Words("a"): Words("b")}))
    assert kept == {"a": "b"}
    assert json.dumps(kept) == '{"a": "b"}'


@pytest.mark.parametrize(
    ("value", "where", "why"),
    [
        ({"a": {"b": float("nan")}}, "document.a.b", "finite"),
        ({"a": [1, float("inf")]}, "document.a", "finite"),
        (2**63, "document", "64 bits"),
        (-(2**63) - 1, "document", "64 bits"),
        (2.0**63, "document", r"2\*\*63"),
        ({"a": "x\0"}, "document.a", "NUL"),
        ({"x\0": 1}, "document", "NUL"),
        ({1: 2}, "document", "key that is a int"),
        ({"a": {None: 1}}, "document.a", "key"),
        (object(), "document", "JSON cannot say"),
        ({"a": b"bytes"}, "document.a", "bytes"),
        ({1, 2}, "document", "set"),
    ],
)
def test_faults_are_told_with_their_place(value: Any, where: str, why: str) -> None:
    """The way to the value, and what is wrong with it."""
    with pytest.raises(InvalidInput, match=why) as refused:
        check_document(value)
    assert f"'{where}'" in str(refused.value)


def test_lone_surrogates_are_refused() -> None:
    """They are no text that any backend could keep."""
    for value in ("\ud800", {"a": "x\udfff"}, {"\ud800": 1}):
        with pytest.raises(InvalidInput, match="surrogate"):
            check_document(value)


def test_nesting_is_bounded() -> None:
    """As deep as told and no deeper; a document that holds itself ends too."""
    deep: Any = 1
    for _ in range(DEPTH_MAX):
        deep = [deep]
    assert decode(check_document(deep)) == deep
    with pytest.raises(InvalidInput, match="deeper"):
        check_document([deep])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInput, match="deeper"):
        check_document(loop)


def test_sizes_are_bounded_in_bytes() -> None:
    """Not in characters."""
    assert check_metadata({"a": "x" * (METADATA_BYTES_MAX - 8)})
    for filler in ("x" * (METADATA_BYTES_MAX - 7), "é" * (METADATA_BYTES_MAX // 2)):
        with pytest.raises(InvalidInput, match="bytes as JSON"):
            check_metadata({"a": filler})


@pytest.mark.parametrize("metadata", [[1], "x", 1, True])
def test_metadata_is_an_object(metadata: Any) -> None:
    """And None is the empty one."""
    with pytest.raises(InvalidInput, match="object"):
        check_metadata(metadata)
    assert check_metadata(None) == check_metadata({}) == "{}"


def shared(make: Callable[[Any], Any], levels: int) -> Any:
    """Return a few lists or objects that hold each other, which written out are more than anybody has room for."""
    value: Any = 0
    for _ in range(levels):
        value = make(value)
    return {"a": value}


@pytest.mark.parametrize(
    "value",
    [
        shared(lambda value: [value] * 10, 90),
        shared(lambda value: (value,) * 10, 90),
        shared(lambda value: {str(number): value for number in range(10)}, 90),
        shared(lambda value: MappingProxyType({"a": [value] * 10}), 45),
        {"a": ["x" * 1_000_000] * 100_000},
        {"a": [{"x" * 1_000_000: number} for number in range(3)] * 1_000},
    ],
    ids=["lists", "tuples", "objects", "mappings", "texts", "keys"],
)
def test_what_is_small_and_written_out_large_is_refused_on_the_way(value: Any) -> None:
    """The bound of metadata is reached after at most half a million values, whatever there would be of them."""
    with pytest.raises(InvalidInput, match=r"values|bytes as JSON"):
        check_metadata(value)


def test_a_document_has_up_to_five_million_values() -> None:
    """One more is refused before any of them is looked at; a tuple counts as the list that it becomes."""
    many = [0] * (VALUES_MAX + 1)
    with pytest.raises(InvalidInput, match="document': has more than 5000000 values"):
        check_document(many)
    with pytest.raises(InvalidInput, match="has more than 5000000 values"):
        check_document([0, tuple(many)])
    assert check_document(many[:1000]) == "[" + ",".join("0" * 1000) + "]"


def test_a_fault_is_told_shortly_however_long_the_way_to_it() -> None:
    """Keys of a megabyte are not repeated."""
    with pytest.raises(InvalidInput) as raised:
        check_document({"k" * 1_000_000: {"l" * 1_000_000: object()}})
    assert len(str(raised.value)) < 400


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text(st.characters())
    | st.just("\\u0000")
)
ANYTHING = st.recursive(
    ODD,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


class Colour(enum.IntEnum):
    """A number that is more than a number."""

    RED = 1


class Name(str):
    """A text that is more than a text."""

    __slots__ = ()


def outcomes(value: object) -> list[tuple[str, str]]:
    """Return the text that comes of a value, or how it is refused, by whichever way is taken and by the long one."""
    found = []
    with pytest.MonkeyPatch.context() as changed:
        for _ in range(2):
            try:
                found.append(("text", check_document(value)))
            except InvalidInput as error:
                found.append(("refused", str(error)))
            changed.setattr(documents, "_plain_text", lambda _: None)
    return found


@given(ANYTHING)
def test_what_is_written_without_a_copy_is_the_same_text(value: object) -> None:
    """The short way gives what the long one does, and refuses what it does, in the same words."""
    short, long = outcomes(value)
    assert short == long


@given(st.dictionaries(TEXT, JSON))
@example({"least": -(2**63), "most": 2**63 - 1})
def test_a_usual_document_needs_no_copy(value: dict[str, Any]) -> None:
    """Unless a number in it is settled, or a text looks like a NUL."""
    text = check_document(value)
    settled = "\\u0000" in text or repr(decode(text)) != repr(value)
    assert settled or documents._plain_text(value) == text


def test_what_changes_while_it_is_written_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that another thread puts there behind the look is refused as any other, and no error of json's gets out."""
    value: dict[str, float] = {"a": 1.0}
    look = documents._room_left

    def changed(*given: Any) -> int:
        room = look(*given)
        value["a"] = math.nan
        return room

    monkeypatch.setattr(documents, "_room_left", changed)
    with pytest.raises(InvalidInput, match="not a finite number"):
        check_document(value)


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
def test_odd_documents_become_the_same_text(value: object) -> None:
    """At each edge of what the short way takes."""
    short, long = outcomes(value)
    assert short == long
