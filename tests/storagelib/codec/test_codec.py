"""The record codec: every value of every table comes back bit for bit, whatever is damaged is found."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_sql.tables import TableColumn, TenantTable, table, tables
from storagelib import codec, documents
from storagelib.clocks import FOREVER, LONG_AGO
from storagelib.codec import Record, Value, decode, encode
from storagelib.errors import Corrupted, InvalidInput

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
WHOLE = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(-1e16, 1e16, exclude_min=True, exclude_max=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("$json"), inner, max_size=3),
    max_leaves=8,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXT,
    "bigint": WHOLE,
    "float8": st.floats(),
    "boolean": st.booleans(),
    "timestamptz": st.datetimes(timezones=st.just(UTC)) | st.sampled_from([FOREVER, LONG_AGO]),
    "uuid": st.uuids(),
    "bytea": st.binary(max_size=40),
    "jsonb": JSON.map(documents.check_document),
    "text[]": st.lists(TEXT, max_size=3).map(tuple),
    "uuid[]": st.lists(st.uuids(), max_size=3).map(tuple),
}
VECTORS = (128, 768, 5)
NAMES = [name for name in tables() if name != "vector_embeddings"] + [f"vector_embeddings_{size}" for size in VECTORS]


def named(name: str) -> TenantTable:
    """Return a table that must be there."""
    found = table(name)
    assert found is not None
    return found


def value_of(found: TenantTable, column: TableColumn) -> st.SearchStrategy[Any]:
    """Draw a value of a column; vectors have every bit pattern."""
    size = 4 * (found.dimension or 3)
    values = st.binary(min_size=size, max_size=size) if column.type == "vector" else VALUES[column.type]
    return values | st.none() if column.is_nullable else values


def rows_of(name: str) -> st.SearchStrategy[Record]:
    """Draw rows of a table."""
    found = named(name)
    columns = st.fixed_dictionaries({column.name: value_of(found, column) for column in found.columns})
    return st.builds(Record, st.sampled_from(found.stores), st.just(name), columns)


def same(one: Value, other: Value) -> bool:
    """Compare bit for bit: a float by its bytes, documents as what they say, everything else by type and value."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("d", one) == struct.pack("d", other) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_every_table_comes_back(name: str) -> None:
    """Whatever a row holds, its line gives the same row, and that row the same line."""

    @settings(max_examples=40, deadline=None)
    @given(rows_of(name))
    def check(record: Record) -> None:
        line = encode(record)
        assert b"\n" not in line
        found = decode(line + b"\n")
        assert (found.store, found.table, list(found.columns)) == (
            record.store, record.table, [column.name for column in named(name).columns]
        )  # fmt: skip
        for column in named(name).columns:
            before, after = record.columns[column.name], found.columns[column.name]
            if column.type == "jsonb" and isinstance(before, str) and isinstance(after, str):
                assert repr(ordered(documents.decode(after))) == repr(ordered(documents.decode(before)))
            else:
                assert same(before, after), column
        assert encode(found) == line

    check()


def ordered(document: Any) -> Any:
    """Return a document whose keys are in order, so that its repr tells the types of its numbers too."""
    if isinstance(document, dict):
        return {key: ordered(document[key]) for key in sorted(document)}
    return [ordered(item) for item in document] if isinstance(document, list) else document


def entry(**columns: Any) -> Record:
    """Return a row of the key-value store with some columns of its own."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    row: dict[str, Any] = {"tenant_id": "acme", "key": "a", "value": b"\0\xff", "metadata": "{}", "version": 1}
    row |= {"expires_at": None, "created_at": moment, "updated_at": FOREVER}
    return Record("kv", "kv_store", row | columns)


def test_a_line_is_what_the_page_says() -> None:
    """The form is fixed: other programs read it."""
    line = encode(entry(metadata='{"b": 1.50, "a": [null, "é"]}'))
    body = (
        '{"store":"kv","table":"kv_store","columns":{"tenant_id":"acme","key":"a","value":{"$bytes":"AP8="},'
        '"metadata":{"a":[null,"é"],"b":1.5},"version":1,"expires_at":null,'
        '"created_at":"2026-01-02T03:04:05.000006Z","updated_at":"infinity"}}'
    ).encode()
    assert line == body[:-1] + b',"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'"}'
    assert json.loads(line)["table"] == "kv_store"


def test_a_vector_is_little_endian_float32() -> None:
    """Base64 of four bytes a number, NaN's bits and the sign of zero included."""
    numbers = struct.pack("<5f", 1.0, -0.0, 0.1, 3.4e38, 1e-45)[:16] + b"\x01\x00\xc0\x7f"
    columns = {column.name: None for column in named("vector_embeddings_5").columns} | {
        "tenant_id": "acme", "id": "v", "scope": "", "embedding": numbers, "metadata": "{}",
        "created_at": LONG_AGO, "updated_at": LONG_AGO,
    }  # fmt: skip
    line = encode(Record("vectors", "vector_embeddings_5", columns))
    assert base64.b64encode(numbers) in line
    assert decode(line).columns["embedding"] == numbers
    with pytest.raises(InvalidInput, match="embedding: must have 5 dimensions"):
        encode(Record("vectors", "vector_embeddings_5", columns | {"embedding": numbers[:16]}))


@pytest.mark.parametrize(
    "document", ["null", '{"$json":null}', '{"$json":{"$json":1}}', '{"$json":1,"a":2}', '"x"', "0.0"]
)
def test_no_document_is_taken_for_something_else(document: str) -> None:
    """SQL's NULL, JSON's null and documents that look like our own marks stay apart."""
    row = decode(encode(workflow(document)))
    assert row.columns["error"] == document
    assert decode(encode(workflow(None))).columns["error"] is None


def workflow(error: str | None) -> Record:
    """Return a row of a table with a document that may be NULL."""
    return row_of("workflow_states", error=error)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.binary(max_size=3), st.sampled_from(["cut", "insert", "change"]))
def test_damage_is_found(place: int, noise: bytes, how: str) -> None:
    """A line that is cut, stretched or changed anywhere is refused, or is the same line."""
    line = encode(entry())
    place %= len(line)
    damaged = {
        "cut": line[:place],
        "insert": line[:place] + noise + line[place:],
        "change": line[:place] + noise + line[place + len(noise) :],
    }[how]
    if damaged.rstrip(b"\r\n") != line:
        with pytest.raises(Corrupted):
            decode(damaged)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_is_a_record_or_corrupted(line: bytes) -> None:
    """No other error escapes, with a right checksum or without."""
    for each in (line, signed(line)):
        with pytest.raises(Corrupted):
            decode(each)


def signed(body: bytes) -> bytes:
    """Return a line with a right checksum."""
    return body[:-1] + b',"sha256":"' + hashlib.sha256(body[:-1] + b"}").hexdigest().encode() + b'"}'


def test_a_record_of_a_newer_release_is_told_from_damage() -> None:
    """Its table is named, so that one knows what to upgrade."""
    with pytest.raises(Corrupted, match="does not know: new_table"):
        decode(signed(b'{"store":"kv","table":"new_table","columns":{}}'))


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("key", '"a\\u0000"', "key: holds a NUL character"),
        ("key", '"\\ud800"', "key: holds a lone surrogate"),
        ("key", "5", "key: must be text"),
        ("key", "null", "key: must not be null"),
        ("version", "1.0", "version: must be a whole number of 64 bits"),
        ("version", "true", "version: must be a whole number of 64 bits"),
        ("version", "9223372036854775808", "version: must be a whole number of 64 bits"),
        ("value", '"AA=="', "value: must be an object with the one key $bytes"),
        ("value", '{"$bytes":"A"}', "value: is not base64"),
        ("value", '{"$bytes":"AB=="}', "value: is not base64 as it is written here"),
        ("value", '{"$vector":"AA=="}', "value: must be an object with the one key $bytes"),
        ("value", '{"$bytes":"","x":1}', "value: must be an object with the one key $bytes"),
        ("metadata", '{"a":"\\ud800"}', "metadata: holds a lone surrogate"),
        ("metadata", '{"a\\u0000":1}', "metadata: holds a NUL character"),
        ("metadata", '{"$json":1}', "metadata: is wrapped without need"),
        ("metadata", '{"a":1,"a":2}', "has a key twice in one object"),
        ("metadata", "NaN", "has a number that is not finite"),
        ("metadata", "1e999", "has a number that 64 bits cannot hold"),
        ("metadata", "0.12345678901234567890123", "has a number that 64 bits cannot hold"),
        ("metadata", "[" * 3000 + "]" * 3000, ""),
        ("created_at", '"2026-01-02T03:04:05Z"', "created_at: must be a time in UTC with microseconds"),
        ("created_at", '"2026-13-02T03:04:05.000000Z"', "created_at: must be a time in UTC with microseconds"),
        ("created_at", '"2026-01-02T03:04:05.000000+00:00"', "created_at: must be a time in UTC"),
        ("created_at", '"9999-12-31T23:59:59.999999Z"', "created_at: must be a time in UTC"),
        ("created_at", "7", "created_at: must be a time in UTC"),
    ],
)
def test_a_value_that_encode_would_not_write_is_refused(column: str, value: str, says: str) -> None:
    """Even with a right checksum."""
    parts = [f'"{name}":{value if name == column else json.dumps(written)}' for name, written in line_of(entry())]
    body = '{"store":"kv","table":"kv_store","columns":{' + ",".join(parts) + "}}"
    with pytest.raises(Corrupted) as refusal:
        decode(signed(body.encode()))
    assert says in str(refusal.value)


def line_of(record: Record) -> list[tuple[str, Any]]:
    """Return the columns of a record's line."""
    return list(json.loads(encode(record))["columns"].items())


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"key": "a\0"}, "kv_store.key: holds a NUL character"),
        ({"key": "\ud800"}, "kv_store.key: holds a lone surrogate"),
        ({"key": None}, "kv_store.key: must not be NULL"),
        ({"value": "s3cret"}, "kv_store.value: must be bytes"),
        ({"value": bytearray(b"x")}, "kv_store.value: must be bytes"),
        ({"version": True}, "kv_store.version: must be a whole number of 64 bits"),
        ({"version": 2**63}, "kv_store.version: must be a whole number of 64 bits"),
        ({"metadata": {"a": 1}}, "kv_store.metadata: must be JSON text"),
        ({"metadata": "s3cret"}, "kv_store.metadata: is not JSON"),
        ({"metadata": "[1e400]"}, "kv_store.metadata: has a number that 64 bits cannot hold"),
        ({"metadata": '{"a":1,"a":2}'}, "kv_store.metadata: has a key twice in one object"),
        ({"created_at": datetime(2026, 1, 1)}, "kv_store.created_at: must be a time with its zone"),  # noqa: DTZ001
        ({"created_at": 5}, "kv_store.created_at: must be a time with its zone"),
        ({"created_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9)))}, "is outside the years 1 to 9999"),
        ({"s3cret!": 1}, "kv_store: has no column (not a name)"),
        ({"colour": 1}, "kv_store: has no column colour"),
    ],
)
def test_what_could_not_come_back_is_not_written(columns: dict[str, Any], says: str) -> None:
    """The column is named, the value is not repeated."""
    with pytest.raises(InvalidInput) as refusal:
        encode(entry(**columns))
    assert says in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


BLANK: dict[str, Any] = {
    "text": "x", "bigint": 1, "jsonb": "{}", "timestamptz": FOREVER, "float8": 1.0, "boolean": True, "bytea": b"",
    "uuid": UUID(int=0), "text[]": (), "uuid[]": (), "vector": b"\0\0\0\0",
}  # fmt: skip


def row_of(name: str, **columns: Any) -> Record:
    """Return a plain row of any table with some columns of its own."""
    found = named(name)
    return Record(found.stores[0], name, {each.name: BLANK[each.type] for each in found.columns} | columns)


@pytest.mark.parametrize(
    ("name", "column", "value", "says"),
    [
        ("artifact_chunks", "is_compressed", 1, "must be true or false"),
        ("workflow_states", "lease_seconds", 1, "must be a float"),
        ("event_log", "event_id", str(UUID(int=0)), "must be a UUID"),
        ("graph_embeddings", "embedding", b"", "must be the bytes of float32 numbers"),
        ("graph_embeddings", "embedding", b"\0" * 5, "must be the bytes of float32 numbers"),
        ("graph_embeddings", "embedding", [0.0], "must be the bytes of float32 numbers"),
        ("api_keys", "scopes", ["read"], "must be a tuple"),
        ("api_keys", "scopes", "read", "must be a tuple"),
        ("api_keys", "scopes", (None,), "must be text"),
        ("agent_thread_checkpoints", "parts", ("x",), "must be a UUID"),
        ("event_log", "payload", "[" * 100_000, "is nested deeper than 100"),
        ("event_log", "payload", "[" * 101 + "]" * 101, "is nested deeper than 100"),
        ("event_log", "payload", "[", "is not JSON"),
    ],
)
def test_each_type_is_checked_when_it_is_written(name: str, column: str, value: object, says: str) -> None:
    """Nothing is turned into something like it."""
    assert decode(encode(row_of(name))).table == name
    with pytest.raises(InvalidInput) as refusal:
        encode(row_of(name, **{column: value}))
    assert refusal.value.faults == (f"{name}.{column}: {says}",)


@pytest.mark.parametrize(
    ("name", "column", "value", "says"),
    [
        ("artifact_chunks", "is_compressed", 1, "must be true or false"),
        ("workflow_states", "lease_seconds", 1, "must be a number with a point or an exponent"),
        ("workflow_states", "lease_seconds", "NaN", "must be a number with a point or an exponent"),
        ("workflow_states", "lease_seconds", {"$float": "1.0"}, "must be a number"),
        ("event_log", "event_id", "00000000-0000-0000-0000-00000000000A", "must be a UUID in small letters"),
        ("event_log", "event_id", "0" * 32, "must be a UUID in small letters"),
        ("graph_embeddings", "embedding", {"$vector": "AAA="}, "must be the bytes of float32 numbers"),
        ("graph_embeddings", "embedding", {"$bytes": "AAAAAA=="}, "must be an object with the one key $vector"),
        ("api_keys", "scopes", "read", "must be a list"),
        ("api_keys", "scopes", [1], "must be text"),
        ("event_log", "payload", json.loads("[" * 101 + "]" * 101), "is nested deeper than 100"),
    ],
)
def test_each_type_is_checked_when_it_is_read(name: str, column: str, value: object, says: str) -> None:
    """Even with a right checksum."""
    members = json.loads(encode(row_of(name)))
    del members["sha256"]
    members["columns"][column] = value
    with pytest.raises(Corrupted, match=re.escape(f"{name}.{column}: {says}")):
        decode(signed(json.dumps(members, separators=(",", ":")).encode()))


@pytest.mark.parametrize(
    "body",
    [
        b'{"table":"kv_store","store":"kv","columns":{}}',
        b'{"store":"kv","table":"kv_store","columns":{},"more":1}',
        b'{"store":"kv","table":"kv_store"}',
        b'{"store":"kv","table":"kv_store","columns":[]}',
        b'{"store":"graph","table":"kv_store","columns":{}}',
        b'{"store":[],"table":"kv_store","columns":{}}',
        b'{"store":"kv","table":{},"columns":{}}',
        b"[1]",
        b'"kv"',
    ],
)
def test_other_shapes_are_corrupted(body: bytes) -> None:
    """Members in their order, each of its kind."""
    with pytest.raises(Corrupted):
        decode(signed(body))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1])
def test_numbers_at_the_edge_come_back(number: float) -> None:
    """Also those that JSON has no words for."""
    assert same(decode(encode(row_of("workflow_states", lease_seconds=number))).columns["lease_seconds"], number)


def test_a_document_may_be_as_deep_as_documents_are() -> None:
    """A hundred levels are kept."""
    deep = "[" * 100 + "]" * 100
    assert documents.check_document(documents.decode(deep)) == deep
    assert decode(encode(row_of("event_log", payload=deep))).columns["payload"] == deep


def test_a_line_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """White box: with a smaller bound than the real one, a longer line is neither written nor read."""
    line = encode(entry())
    monkeypatch.setattr(codec, "LINE_BYTES_MAX", len(line))
    assert decode(encode(entry())) == decode(line)
    with pytest.raises(InvalidInput, match="its line has more than"):
        encode(entry(key="ab"))
    with pytest.raises(Corrupted, match="the line has more than"):
        decode(line + b" ")


def test_all_faults_of_a_record_come_at_once() -> None:
    """Missing columns, unknown ones and wrong values together."""
    with pytest.raises(InvalidInput) as refusal:
        encode(Record("kv", "kv_store", {"tenant_id": 5, "colour": 1}))
    assert len(refusal.value.faults) == len(named("kv_store").columns) + 1


@pytest.mark.parametrize(
    ("store", "name"), [("graph", "kv_store"), ("kv", "nothing"), ("kv", "vector_embeddings"), ("kv", "tenants")]
)
def test_a_record_belongs_to_a_table_of_its_store(store: str, name: str) -> None:
    """Tables of the installation are no tenant's."""
    with pytest.raises(InvalidInput, match="is no table of the store"):
        encode(Record(store, name, entry().columns))


def test_another_zone_is_the_same_moment() -> None:
    """A time is written in UTC."""
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert decode(encode(entry(created_at=moment))).columns["created_at"] == datetime(2026, 1, 1, tzinfo=UTC)


@settings(max_examples=60, deadline=None)
@given(document=JSON, number=st.floats(), whole=WHOLE, text=TEXT, data=st.binary(max_size=20), uid=st.uuids())
def test_postgres_gives_the_same_line(
    session: psycopg.Connection[Any], document: Any, number: float, whole: int, text: str, data: bytes, uid: UUID
) -> None:
    """What PostgreSQL makes of a row (jsonb above all) has the line that the row had before."""
    kept = documents.check_document(document)
    row = session.execute(
        "SELECT %s::jsonb::text, %s::float8, %s::bigint, %s::text, %s::bytea, %s::uuid",
        (kept, number, whole, text, data, uid),
    ).fetchone()
    assert row is not None
    base = workflow(kept).columns
    before = encode(Record("workflow_states", "workflow_states", {**base, "lease_seconds": number, "attempts": whole}))
    after = encode(
        Record(
            "workflow_states", "workflow_states", {**base, "error": row[0], "lease_seconds": row[1], "attempts": row[2]}
        )
    )
    assert after == before
    assert encode(entry(key=row[3], value=row[4])) == encode(entry(key=text, value=data))
    assert row[5] == uid


@pytest.fixture(scope="module")
def session(superuser_url: str) -> Any:
    """Give a session that is only asked to convert values."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        yield connection
