"""What a filter may say, and how every fault of one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storagelib import Store, StoreConfig, filters
from storagelib.errors import InvalidInput


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        pytest.param([], "filter: must be an object, not list", id="list"),
        pytest.param(None, "filter: must be an object, not null", id="null"),
        pytest.param({1: 2}, "filter: has a key that is int, not text", id="number-as-key"),
        pytest.param({"$gt": 3}, "filter.$gt: stands under no path", id="no-path"),
        pytest.param({"a": {"$and": []}}, "filter.a.$and: stands before filters, not under a path", id="and-under-a-path"),
        pytest.param({"a": {"$gtt": 1}}, "filter.a.$gtt: is no operator; did you mean $gt?", id="misspelled"),
        pytest.param({"a": {"$gt": 1, "b": 2}}, "filter.a.b: stands beside an operator; a whole object is compared with $eq", id="mixed"),
        pytest.param({"a": {"$gt": True}}, "filter.a.$gt: must be a number or text, not bool", id="order-of-booleans"),
        pytest.param({"a": {"$lt": None}}, "filter.a.$lt: must be a number or text, not null", id="order-of-null"),
        pytest.param({"a": {"$lte": [1]}}, "filter.a.$lte: must be a number or text, not list", id="order-of-lists"),
        pytest.param({"a": {"$in": "xy"}}, "filter.a.$in: must be a list of values, not str", id="in-text"),
        pytest.param({"a": {"$in": [0] * 1001}}, "filter.a.$in: has 1001 values, at most 1000 fit", id="in-too-many"),
        pytest.param({"a": {"$between": [1]}}, "filter.a.$between: must be a list of two numbers or two texts", id="between-one"),
        pytest.param({"a": {"$between": [1, "x"]}}, "filter.a.$between: must be two numbers or two texts, not one of each", id="between-mixed"),
        pytest.param({"a": {"$between": [None, 2]}}, "filter.a.$between[0]: must be a number or text, not null", id="between-null"),
        pytest.param({"a": {"$exists": 1}}, "filter.a.$exists: must be true or false, not int", id="exists-number"),
        pytest.param({"a": {"$like-prefix": 1}}, "filter.a.$like-prefix: must be text, not int", id="prefix-number"),
        pytest.param({"$or": []}, "filter.$or: needs at least one filter", id="or-nothing"),
        pytest.param({"$and": {"a": 1}}, "filter.$and: must be a list of filters, not dict", id="and-object"),
        pytest.param({"$or": [{"a": 1}, 2]}, "filter.$or[1]: must be an object, not int", id="or-number"),
        pytest.param({"$or": [{}] * 257}, "filter.$or: has more than 256 filters", id="or-too-many"),
        pytest.param({f"k{n}": 1 for n in range(257)}, "filter: has more than 256 conditions", id="conditions"),
        pytest.param({"a": list(range(1001))}, "filter: compares with arrays and objects of more than 1000 values", id="values"),
        pytest.param({"a": float("nan")}, "filter.a: is not a finite number", id="nan"),
        pytest.param({"a": {"$gt": float("-inf")}}, "filter.a.$gt: is not a finite number", id="infinity"),
        pytest.param({"a": {"$in": [1, 2**63]}}, "filter.a.$in[1]: is a whole number outside 64 bits", id="2^63"),
        pytest.param({"a": {"$eq": {1, 2}}}, "filter.a.$eq: is a set, which JSON cannot say", id="set"),
        pytest.param({"a": "\0"}, "filter.a: holds a NUL character", id="nul"),
        pytest.param({"a": [{"x": "\ud800"}]}, "filter.a: holds a lone surrogate", id="surrogate"),
        pytest.param({"a": "x" * 100_001}, "filter.a: has 100001 characters, at most 100000 fit", id="long"),
        pytest.param({"": 1}, "filter.: has an empty key; a dot that belongs to a key is written \\.", id="empty-path"),
        pytest.param({"a..b": 1}, "filter.a..b: has an empty key; a dot that belongs to a key is written \\.", id="empty-key"),
        pytest.param({"a\\b": 1}, "filter.a\\b: has a backslash that stands before no dot, dollar or backslash", id="backslash"),
        pytest.param({"a\\": 1}, "filter.a\\: has a backslash that stands before no dot, dollar or backslash", id="last-backslash"),
        pytest.param({".".join("a" * 17): 1}, f"filter.{'.'.join('a' * 17)}: has more than 16 keys", id="path-too-long"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(mapping: Any, fault: str) -> None:
    """One filter, one fault."""
    with pytest.raises(InvalidInput, match="the filter cannot be used") as raised:
        filters.parse(mapping)
    assert raised.value.faults == (fault,)


def test_all_faults_are_told_at_once() -> None:
    """So that a filter is corrected in one go."""
    with pytest.raises(InvalidInput) as raised:
        filters.parse({"a": {"$gt": None, "$exist": True}, "$or": [{"b": {"$in": 3}}, {"c\ud800": 1}]})
    assert [fault.split(": ")[0] for fault in raised.value.faults] == [
        "filter.a.$gt",
        "filter.a.$exist",
        "filter.$or[0].b.$in",
        "filter.$or[1].c\\ud800",
    ]
    str(raised.value).encode()


@pytest.mark.parametrize("step", [lambda deep: {"$not": deep}, lambda deep: {"$or": [deep]}], ids=["not", "or"])
def test_nesting_is_bounded(step: Any) -> None:
    """Sixteen levels are read, seventeen and a hundred thousand are refused the same way."""
    deep: dict[str, Any] = {"a": 1}
    for _ in range(16):
        deep = step(deep)
    assert isinstance(filters.matches(filters.parse(deep), {"a": 1}), bool)
    for levels in (1, 100_000):
        for _ in range(levels):
            deep = step(deep)
        with pytest.raises(InvalidInput, match="is nested deeper than 16"):
            filters.parse(deep)


def test_negations_under_a_path_are_bounded_too() -> None:
    """They count with the others."""
    deep: dict[str, Any] = {"$eq": 1}
    for _ in range(1000):
        deep = {"$not": deep}
    with pytest.raises(InvalidInput, match="is nested deeper than 16"):
        filters.parse({"a": deep})


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        (r"a\.b", ("a.b",)),
        (r"\$x.y", ("$x", "y")),
        (r"a\\.b", ("a\\", "b")),
        ("é.😀", ("é", "😀")),
    ],
)
def test_a_path_is_keys_between_dots(text: str, path: tuple[str, ...]) -> None:
    """A backslash keeps a dot, a dollar or a backslash in the key."""
    assert filters.parse({text: 1}) == filters.Equals(path, 1)


def test_what_was_parsed_does_not_change_with_what_it_was_parsed_from() -> None:
    """A filter is kept, and compared, for long."""
    operand = [1, {"a": [2]}]
    wanted = filters.parse({"x": {"$eq": operand}})
    operand.append(3)
    assert filters.matches(wanted, {"x": [1, {"a": [2]}]})


@pytest.mark.parametrize(
    ("mapping", "document", "answer"),
    [
        ({}, {}, True),
        ({"a": None}, {}, False),
        ({"a": None}, {"a": None}, True),
        ({"a": {"$ne": None}}, {}, True),
        ({"a": {"$exists": True}}, {"a": None}, True),
        ({"a": {"$exists": False}}, {"a": None}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 2**53 + 1}, {"a": 2.0**53}, False),
        ({"a": {"$gt": 9}}, {"a": 10}, True),
        ({"a": {"$gt": "9"}}, {"a": "10"}, False),
        ({"a": {"$gt": 9}}, {"a": "10"}, False),
        ({"a": {"$not": {"$gt": 9}}}, {"a": "10"}, True),
        ({"a": {"$nin": [1]}}, {}, True),
        ({"a": {"$in": []}}, {"a": 1}, False),
        ({"a": {"$in": [1]}}, {"a": [1]}, False),
        ({"a": {"$in": [[1]]}}, {"a": [1.0]}, True),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a.b": 1}, {"a": {"b": 1, "c": 2}}, True),
        ({"a.0": 1}, {"a": [1]}, False),
        ({"a": {"$between": [1, 3]}}, {"a": 3}, True),
        ({"a": {"$between": [3, 1]}}, {"a": 2}, False),
        ({"a": {"$like-prefix": "a%"}}, {"a": "ab"}, False),
        ({"a": {"$like-prefix": ""}}, {"a": 3}, False),
        ({"a": {"$gt": 1, "$lt": 3}, "b": "x"}, {"a": 2, "b": "x"}, True),
        ({"a": {"$gt": 1, "$lt": 3}, "b": "x"}, {"a": 2, "b": "y"}, False),
        ({"$or": [{"a": 1}, {"b": 1}]}, {"b": 1}, True),
        ({"a": {}}, {"a": {}}, True),
        ({"a": {}}, {"a": 1}, False),
    ],
)  # fmt: skip
def test_the_rules_as_they_are_written(mapping: dict[str, Any], document: dict[str, Any], answer: bool) -> None:
    """The docstring's sentences, one by one."""
    assert filters.matches(filters.parse(mapping), document) is answer


def _of_each_other(part: Any, levels: int) -> dict[str, Any]:
    for _ in range(levels):
        part = {"$and": [part] * 10}
    return {"$and": [part]}


_LISTS: list[Any] = [0]
for _ in range(40):
    _LISTS = [_LISTS] * 10


@pytest.mark.parametrize(
    ("mapping", "fault"),
    [
        pytest.param(_of_each_other({}, 9), "filter: holds more than 768 filters", id="empty"),
        pytest.param(_of_each_other({"a": 1}, 9), "filter: has more than 256 conditions", id="conditions"),
        pytest.param({"a": {"$in": [_LISTS] * 1000}}, "filter.a.$in[0]: has more than 2000 values", id="values"),
        pytest.param({"a": {"$in": ["x" * 100_000] * 1000}}, "filter: has more than 16777216 characters", id="texts"),
    ],
)
@pytest.mark.timeout(20)
def test_parts_that_stand_in_many_places_are_counted_in_each(mapping: dict[str, Any], fault: str) -> None:
    """What is small, and written out larger than anything could read, is refused at once."""
    with pytest.raises(InvalidInput) as raised:
        filters.parse(mapping)
    assert fault in raised.value.faults


def test_as_many_filters_as_fit_are_answered(tmp_path: Path) -> None:
    """SQLite, whose expressions have at most 1,000 levels, answers the largest filter that is taken."""
    widest: dict[str, Any] = {"a": 1}
    for _ in range(3):
        widest = {"$and": [{}] * 253 + [widest]}
    deepest: dict[str, Any] = {"a": 1}
    for _ in range(3):
        deepest = {"$or": [{"$not": {"a": 2}}] * 84 + [deepest]}
    with Store.open(StoreConfig.on_sqlite(tmp_path / "filters.db")) as store:
        vectors = store.for_tenant("acme").vectors
        vectors.insert("one", [1.0], metadata={"a": 1})
        vectors.insert("two", [1.0], metadata={"a": 2})
        assert [vectors.count(each, dimension=1) for each in (widest, deepest)] == [1, 1]
