"""Whatever the filter and the document: SQLite and PostgreSQL answer what the reference answers."""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storagelib import documents, filters
from tests.plugins.postgres import Database

_KEYS = (
    "a",
    "b",
    "é",
    "a.b",
    'q"t',
    "back\\slash",
    "new\nline",
    "0",
    "$d",
    "'; --",
    "\U0001f600",
    "#",
    "[0]",
    "tab\t",
    "%s:f1",
    "\x7f",
)
_NUMBERS: tuple[float, ...] = (
    0, 1, -1, 2, 10, 9, 0.1, 0.2, 0.1 + 0.2, 0.3, 1.5, -1.5, 2**53, 2**53 + 1, 2**53 - 1, -(2**53) - 1, 2**63 - 1, -(2**63),
    5e-324, -5e-324, 2.2250738585072014e-308, 1e-300, 9999999999999998.0, 9007199254740991.0, 10**16, 1e17, 123456.789e-310,
    8.41e-305, 1.7976931348623157e-290, 4503599627370497.5, 0.30000000000000004,
)  # fmt: skip
_TEXTS = (
    "",
    "a",
    "ab",
    "b",
    "A",
    "é",
    "e\u0301",
    "1",
    "true",
    "null",
    "\uffff",
    "\U00010000",
    'q"t',
    "\\",
    "a\nb",
    "%",
    "_",
    "a%",
    "\x01",
    "z'z",
)


def _stepped(number: float, steps: int) -> float:
    found = float(number)
    for _ in range(abs(steps)):
        found = math.nextafter(found, math.copysign(math.inf, steps))
    return found if abs(found) < 2.0**63 else number


_neighbours = st.builds(_stepped, st.sampled_from(_NUMBERS), st.integers(min_value=-3, max_value=3))
_numbers = st.one_of(
    st.sampled_from(_NUMBERS),
    _neighbours,
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.floats(min_value=-(2.0**62), max_value=2.0**62, allow_nan=False),
)
_texts = st.one_of(
    st.sampled_from(_TEXTS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip
_documents = st.dictionaries(st.sampled_from(_KEYS), _values, max_size=4)
_paths = st.lists(st.sampled_from(_KEYS), min_size=1, max_size=3).map(
    lambda keys: ".".join(re.sub(r"([.$\\])", r"\\\1", key) for key in keys)
)
_ordered = st.one_of(_numbers, _texts)
_pairs = st.one_of(st.tuples(_numbers, _numbers), st.tuples(_texts, _texts)).map(list)


def _conditions(draw: st.DrawFn, values: st.SearchStrategy[Any], depth: int = 0) -> dict[str, Any]:
    operators: dict[str, st.SearchStrategy[Any]] = {
        "$eq": values, "$ne": values, "$gt": _ordered, "$gte": _ordered, "$lt": _ordered, "$lte": _ordered,
        "$in": st.lists(values, max_size=4), "$nin": st.lists(values, max_size=4), "$between": _pairs,
        "$exists": st.booleans(), "$like-prefix": _texts,
    }  # fmt: skip
    chosen = draw(
        st.lists(
            st.sampled_from([*operators, "$not"] if depth < 2 else list(operators)), min_size=1, max_size=2, unique=True
        )
    )
    return {name: _conditions(draw, values, depth + 1) if name == "$not" else draw(operators[name]) for name in chosen}


def _places(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*path, key))


@st.composite
def _cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Documents, and a filter that mostly asks about what is in them."""
    found = draw(st.lists(_documents, min_size=1, max_size=4))
    held = [documents.canonical(value) for document in found for _, value in _places(document)]
    values = st.one_of(st.sampled_from(held), _values) if held else _values
    known = [
        ".".join(re.sub(r"([.$\\])", r"\\\1", key) for key in path)
        for document in found
        for path, _ in _places(document)
    ]
    paths = st.one_of(st.sampled_from(known), _paths) if known else _paths

    def one(depth: int) -> dict[str, Any]:
        kind = draw(
            st.sampled_from(
                ["value", "condition", "condition", "condition", "$and", "$or", "$not"] if depth < 3 else ["condition"]
            )
        )
        match kind:
            case "value":
                value = draw(values)
                plain = not isinstance(value, dict) or not any(key.startswith("$") for key in value)
                return {draw(paths): value if plain else {"$eq": value}}
            case "condition":
                return {draw(paths): _conditions(draw, values)}
            case "$not":
                return {"$not": one(depth + 1)}
            case _:
                return {kind: [one(depth + 1) for _ in range(draw(st.integers(1, 3)))]}

    return one(0), found


@pytest.fixture(scope="module")
def sqlite() -> Iterator[sqlite3.Connection]:
    """Give a table of JSON text."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("json_same", 2, filters.json_same, deterministic=True)
    connection.create_function("json_meets", 2, filters.json_meets, deterministic=True)
    connection.execute("CREATE TABLE items (n INTEGER PRIMARY KEY, metadata TEXT) STRICT")
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def postgres(module_database: Database) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Give a connection to a real server."""
    with module_database.connect() as connection:
        connection.execute("CREATE TABLE items (n bigint PRIMARY KEY, metadata jsonb)")
        yield connection


def by_sqlite(connection: sqlite3.Connection, wanted: filters.Filter, texts: list[str]) -> list[bool]:
    """Return what SQLite says of each document; never null."""
    condition, parameters = filters.to_sqlite(wanted)
    connection.execute("DELETE FROM items")
    connection.executemany("INSERT INTO items VALUES (?, ?)", enumerate(texts))
    rows = connection.execute(f"SELECT {condition} FROM items ORDER BY n", parameters).fetchall()
    kept = [n for (n,) in connection.execute(f"SELECT n FROM items WHERE {condition} ORDER BY n", parameters)]
    assert all(answer in (0, 1) for (answer,) in rows)
    assert kept == [n for n, (answer,) in enumerate(rows) if answer]
    return [bool(answer) for (answer,) in rows]


def by_postgres(
    connection: psycopg.Connection[tuple[Any, ...]], wanted: filters.Filter, texts: list[str]
) -> list[bool]:
    """Return what PostgreSQL says of each document; never null."""
    condition, parameters = filters.to_postgres(wanted)
    assert "%" not in condition
    spelled = re.sub(r":(f\d+)", r"%(\1)s", condition)
    values = {name: value for name, (_, value) in parameters.items()}
    rows = connection.execute(
        f"SELECT {spelled} FROM unnest(CAST(%(texts)s AS jsonb[])) WITH ORDINALITY AS item(metadata, n) ORDER BY n",
        {**values, "texts": texts},
    ).fetchall()
    assert all(answer is not None for (answer,) in rows)
    return [answer for (answer,) in rows]


@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(_cases())
@example(({"a": {"$lt": 0.3}}, [{"a": 0.1 + 0.2}, {"a": 0.3}, {"a": 0.29999999999999993}, {"a": 0}, {"a": "0"}, {}]))
@example(({"a": 2.0**53}, [{"a": 2**53}, {"a": 2**53 + 1}, {"a": 2.0**53}, {"a": True}, {"a": None}]))
@example(
    ({"a": [1, {"b": 2}]}, [{"a": [1.0, {"b": 2.0}]}, {"a": [1, {"b": 2}, 3]}, {"a": {"0": 1}}, {"a": [{"b": 2}, 1]}])
)
@example(({"a": {"$ne": None}}, [{"a": None}, {}, {"a": 0}, {"a": False}, {"a": []}]))
@example(
    (
        {'q"t.new\nline': {"$gte": 0.1}},
        [{'q"t': {"new\nline": 0.1, "a": 1}}, {'q"t': {"new\nline": 0.09999999999999999}}],
    )
)
def test_every_backend_gives_the_reference_s_answer(
    sqlite: sqlite3.Connection,
    postgres: psycopg.Connection[tuple[Any, ...]],
    case: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    """Any filter over any documents, mostly asking about what is in them."""
    mapping, found = case
    wanted = filters.parse(mapping)
    texts = [documents.check_document(document) for document in found]
    expected = [filters.matches(wanted, documents.decode(text)) for text in texts]
    assert by_sqlite(sqlite, wanted, texts) == expected
    assert by_postgres(postgres, wanted, texts) == expected


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(st.floats(min_value=-1e16, max_value=1e16), st.sampled_from(_NUMBERS)),
    st.sampled_from(["$lt", "$lte", "$gt", "$gte", "$eq"]),
)
def test_the_last_bit_of_a_fraction_counts(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[tuple[Any, ...]], number: float, operator: str
) -> None:
    """SQLite reads fractions with a small error; nobody may see it."""
    found = [
        documents.canonical({"a": _stepped(number, steps), 'h"': _stepped(number, steps)}) for steps in range(-40, 41)
    ]
    texts = [documents.encode(document) for document in found]
    for key in ("a", 'h"'):
        wanted = filters.parse({key: {operator: number}})
        expected = [filters.matches(wanted, document) for document in found]
        assert by_sqlite(sqlite, wanted, texts) == expected
        assert by_postgres(postgres, wanted, texts) == expected


def test_a_column_without_a_document_is_missing_everything(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """NULL counts as a document that holds nothing, and the answer is never NULL."""
    for mapping, answer in [
        ({"a": 1}, False),
        ({"a": {"$ne": 1}}, True),
        ({"a": {"$exists": False}}, True),
        ({'"': {"$nin": [1, 2]}}, True),
        ({"a": {"$lt": 1}}, False),
        ({"a": [1]}, False),
    ]:
        wanted = filters.parse(mapping)
        assert by_sqlite(sqlite, wanted, [None]) == [answer]  # type: ignore[list-item]
        assert by_postgres(postgres, wanted, [None]) == [answer]  # type: ignore[list-item]


def test_the_largest_filter_is_within_the_bounds_of_both(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """256 conditions with all the values that may be compared fit one statement, as do 16 levels."""
    held = {f"k{index}": list(range(3)) for index in range(249)}
    wanted = filters.parse({**held, "list": {"$in": [str(index) for index in range(1000)]}})
    deep: dict[str, Any] = {"k0": {"$exists": True}}
    for _ in range(15):
        deep = {"$not": deep}
    texts = [documents.encode({**held, "list": "999"}), documents.encode({**held, "list": "1000"})]
    for one, expected in ((wanted, [True, False]), (filters.parse(deep), [False, False])):
        assert by_sqlite(sqlite, one, texts) == expected
        assert by_postgres(postgres, one, texts) == expected


def test_large_and_deep_values_under_odd_keys_are_compared_in_time(
    sqlite: sqlite3.Connection, postgres: psycopg.Connection[tuple[Any, ...]]
) -> None:
    """Neither many values at the end of the longest path nor nesting makes a statement slow or too large."""
    keys = [f'k"{index}' for index in range(16)]
    wide: Any = {f'q"{index}': index for index in range(900)}
    deep: Any = 1
    for _ in range(70):
        deep = [deep]
    for value, other in ((wide, {**wide, 'q"0': 1}), (deep, [deep])):
        held, differs = value, other
        for key in reversed(keys):
            held, differs = {key: held}, {key: differs}
        wanted = filters.parse({".".join(keys): {"$eq": value}})
        texts = [documents.encode(held), documents.encode(differs), "{}"]
        began = time.thread_time()
        assert by_sqlite(sqlite, wanted, texts) == [True, False, False]
        assert time.thread_time() - began < 3
        assert by_postgres(postgres, wanted, texts) == [True, False, False]


@pytest.mark.parametrize("operator", ["$gt", "$lte", "$eq", "$in", "$exists", "$like-prefix"])
def test_a_condition_under_odd_keys_takes_as_long_as_reading_the_document(
    sqlite: sqlite3.Connection, operator: str
) -> None:
    """Two hundred documents under the longest path: joined key by key they took half a second."""
    keys = [f'k"{index}' for index in range(16)]
    held: Any = "text" if operator == "$like-prefix" else 5.5
    operand: Any = {"$in": [5.5, "x"], "$exists": True, "$like-prefix": "te", "$gt": 5}.get(operator, 5.5)
    for key in reversed(keys):
        held = {key: held, **{f"other{index}": index for index in range(20)}}
    texts = [documents.encode(held)] * 200
    wanted = filters.parse({".".join(keys): {operator: operand}})
    began = time.thread_time()
    assert by_sqlite(sqlite, wanted, texts) == [True] * 200
    assert time.thread_time() - began < 0.3


def test_no_text_of_the_caller_stands_in_the_statement() -> None:
    """Keys and operands travel as parameters."""
    wanted = filters.parse(
        {"evil'key": {"$in": ["evil'value", {"evil'inner": "evil'leaf"}], "$like-prefix": "evil'p", "$gt": "evil'o"}}
    )
    assert "evil" not in filters.to_sqlite(wanted)[0]
    assert "evil" not in filters.to_postgres(wanted)[0]


def test_equal_shapes_give_equal_statements() -> None:
    """So that a prepared statement serves every value."""
    one, other = (
        filters.parse({key: {"$gte": value}, "kind": kind}) for key, value, kind in [("a", 1, "x"), ("b", 7, "y")]
    )
    assert filters.to_postgres(one)[0] == filters.to_postgres(other)[0]
    assert filters.to_sqlite(one)[0] == filters.to_sqlite(other)[0]
