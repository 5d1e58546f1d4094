"""The tables keep their own rules, whoever writes them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.plugins.installation import Installation
from tests.plugins.tenants import ALL_STORES, connect, grant_stores, make_tenant

ENTITY = """WITH clock AS (
    INSERT INTO llmspell.tenant_clock AS c (tenant_id, n, at) VALUES ('acme', 1, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE SET n = c.n + 1, at = greatest(clock_timestamp(), c.at + interval '1 us')
    RETURNING n, at)
INSERT INTO llmspell.entities
    (tenant_id, entity_id, entity_type, name, valid_time_start, valid_time_end, transaction_time_start, tx_from)
SELECT 'acme', %s, 'person', %s, %s, %s, at, n FROM clock"""


@pytest.fixture(scope="module")
def dsn(installation: Installation) -> str:
    """Give the login of a tenant with every store."""
    return make_tenant(installation, "acme")


@pytest.fixture
def acme(dsn: str) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Give one session of that tenant, rolled back at the end."""
    with connect(dsn) as connection, connection.transaction(force_rollback=True):
        yield connection


@pytest.fixture(scope="module")
def odd_dimensions(installation: Installation, dsn: str) -> tuple[int, ...]:
    """Give tables at the edges of every way of storage."""
    dimensions = (1, 2000, 2001, 4000, 16_000)
    with installation.connect(installation.names.owner) as owner:
        for dimension in dimensions:
            owner.execute("SELECT llmspell.create_vector_table(%s)", (dimension,))
    grant_stores(installation, installation.names.store_set(ALL_STORES), ["vectors"])
    return dimensions


@pytest.mark.parametrize("length", [3, 19, 24, 36, 255])
def test_vectors_of_any_dimension_fit(
    acme: psycopg.Connection[Any], odd_dimensions: tuple[int, ...], length: int
) -> None:
    """A row with short and long texts beside the vector is stored and read back bit for bit."""
    for dimension in odd_dimensions:
        vector = "[" + ",".join(f"0.{n % 97 + 1}" for n in range(dimension)) + "]"
        acme.execute(
            f"INSERT INTO llmspell.vector_embeddings_{dimension} (tenant_id, id, scope, embedding, content, metadata)"
            " VALUES ('acme', %s, %s, %s::text::public.vector, %s, jsonb_build_object('m', %s::text))".encode(),
            ("i" * length, "s" * length, vector, "c" * length, "m" * (length - 3)),
        )
        found = acme.execute(
            f"SELECT embedding = %s::text::public.vector FROM llmspell.vector_embeddings_{dimension}"
            f" WHERE tenant_id = 'acme' AND id = %s".replace(" = %s::text", " OPERATOR(public.=) %s::text").encode(),
            (vector, "i" * length),
        )
        assert found.fetchall() == [(True,)]


def test_half_precision_only_where_it_serves(installation: Installation, odd_dimensions: tuple[int, ...]) -> None:
    """The generated halfvec exists from 2,001 to 4,000 dimensions, as part of the row."""
    with installation.connect(installation.names.owner) as owner:
        rows = owner.execute(
            "SELECT c.relname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
            " WHERE a.attname = 'embedding_half' AND NOT c.relispartition AND c.relkind = 'p'"
        ).fetchall()
    assert {int(row[0].rsplit("_", 1)[1]) for row in rows} == {2001, 3072, 4000}


@pytest.mark.parametrize("dimension", [0, -1, 16_001, None])
def test_impossible_dimension_is_refused(installation: Installation, dimension: int | None) -> None:
    """A dimension is from 1 to 16,000."""
    with installation.connect(installation.names.owner) as owner, pytest.raises(psycopg.DataError):
        owner.execute("SELECT llmspell.create_vector_table(%s)", (dimension,))


def test_vector_table_is_made_once(installation: Installation) -> None:
    """Asking for an existing dimension changes nothing; a new one has 32 protected leaves."""
    with installation.connect(installation.names.owner) as owner:
        for _ in range(2):
            owner.execute("SELECT llmspell.create_vector_table(7)")
        row = owner.execute(
            "SELECT count(*), bool_and(relrowsecurity AND relforcerowsecurity) FROM pg_class"
            " WHERE relname ^@ 'vector_embeddings_7_p' AND relkind = 'r'"
        ).fetchone()
    assert row == (32, True)


def test_one_current_version_at_any_time(acme: psycopg.Connection[Any]) -> None:
    """Two current versions may follow one another and never overlap."""
    entity = uuid.uuid4()
    acme.execute(ENTITY, (entity, "before", "2020-01-01", "2021-01-01"))
    acme.execute(ENTITY, (entity, "after", "2021-01-01", "infinity"))
    with pytest.raises(psycopg.errors.ExclusionViolation), acme.transaction():
        acme.execute(ENTITY, (entity, "between", "2020-06-01", "2021-06-01"))


def test_closing_keeps_the_past(acme: psycopg.Connection[Any]) -> None:
    """Versions that overlap a range end in one new tick; the others, and what was true before, stay."""
    entity = uuid.uuid4()
    acme.execute(ENTITY, (entity, "old", "2020-01-01", "2021-01-01"))
    acme.execute(ENTITY, (entity, "new", "2021-01-01", "infinity"))
    row = acme.execute(
        "SELECT * FROM llmspell.close_entity_versions(%s, '2021-06-01', 'infinity')", (entity,)
    ).fetchone()
    assert row is not None
    tx, at, closed = row
    assert closed == 1
    found = acme.execute(
        "SELECT name, tx_to = %s, transaction_time_end = %s FROM llmspell.entities WHERE entity_id = %s ORDER BY name",
        (tx, at, entity),
    )
    assert found.fetchall() == [("new", True, True), ("old", False, False)]


def test_one_transaction_is_one_tick(dsn: str) -> None:
    """Closing two things in a transaction ends both at the same number; the next transaction has a later one."""
    close = "SELECT tx FROM llmspell.close_entity_versions(%s, '-infinity', 'infinity')"
    with connect(dsn) as connection:
        with connection.transaction():
            first = [connection.execute(close, (uuid.uuid4(),)).fetchone() for _ in range(2)]
        later = connection.execute(close, (uuid.uuid4(),)).fetchone()
    assert first[0] == first[1]
    assert later is not None
    assert first[0] is not None
    assert later[0] == first[0][0] + 1


def test_retiring_an_entity_ends_its_relationships(acme: psycopg.Connection[Any]) -> None:
    """Entity and edges, in and out, end together."""
    one, two = uuid.uuid4(), uuid.uuid4()
    for entity in (one, two):
        acme.execute(ENTITY, (entity, "x", "2020-01-01", "infinity"))
    for ends in ((one, two), (two, one)):
        acme.execute(
            "INSERT INTO llmspell.relationships (tenant_id, relationship_id, from_entity, to_entity,"
            " relationship_type, valid_time_start, transaction_time_start, tx_from)"
            " SELECT 'acme', gen_random_uuid(), %s, %s, 'knows', '2020-01-01', at, n FROM llmspell.tenant_clock",
            ends,
        )
    row = acme.execute("SELECT closed, relationships_closed FROM llmspell.retire_entity(%s)", (one,)).fetchone()
    assert row == (1, 2)


def test_erasing_leaves_a_trace_without_the_subject(acme: psycopg.Connection[Any]) -> None:
    """Every version goes; what stays is a hash, a count and the reason."""
    entity = uuid.uuid4()
    acme.execute(ENTITY, (entity, "x", "2020-01-01", "infinity"))
    assert acme.execute("SELECT llmspell.erase_entity(%s, 'Art. 17')", (entity,)).fetchone() == (1,)
    found = acme.execute(
        "SELECT kind, rows_erased, reason, subject_hash = sha256(convert_to(%s, 'UTF8')) FROM llmspell.erasures",
        (str(entity),),
    )
    assert found.fetchall() == [("entity", 1, "Art. 17", True)]


def test_references_are_counted(acme: psycopg.Connection[Any]) -> None:
    """The count follows inserts, moves and deletes, and referenced content can not go."""
    for digit in "ab":
        acme.execute(
            "INSERT INTO llmspell.artifact_content (tenant_id, content_hash, storage_type, data, size_bytes,"
            " original_size_bytes) VALUES ('acme', %s, 'inline', 'x', 1, 1)",
            (digit * 64,),
        )
    insert = (
        "INSERT INTO llmspell.artifacts (tenant_id, artifact_id, session_id, sequence, content_hash, name,"
        " artifact_type, mime_type, size_bytes) SELECT 'acme', n, 's', 1, h, n, 't', 'm', 1 FROM (VALUES (%s, %s)) AS v (n, h)"
    )
    counts = "SELECT reference_count FROM llmspell.artifact_content ORDER BY content_hash"
    for number in "12":
        acme.execute(insert, (number, "a" * 64))
    assert acme.execute(counts).fetchall() == [(2,), (0,)]
    acme.execute("UPDATE llmspell.artifacts SET content_hash = %s WHERE artifact_id = '1'", ("b" * 64,))
    assert acme.execute(counts).fetchall() == [(1,), (1,)]
    with pytest.raises(psycopg.IntegrityError), acme.transaction():
        acme.execute("DELETE FROM llmspell.artifact_content WHERE content_hash = %s", ("a" * 64,))
    acme.execute("DELETE FROM llmspell.artifacts")
    assert acme.execute(counts).fetchall() == [(0,), (0,)]


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        ("2031-02-01", "2031-03-01", "event_log_2031_02"),
        ("2032-12-27", "2033-01-03", "event_log_2032w53"),
        ("2034-05-06", "2034-05-07", "event_log_2034_05_06"),
    ],
    ids=["month", "week", "day"],
)
def test_event_partition_names(installation: Installation, start: str, end: str, name: str) -> None:
    """A partition is named by its period in UTC, whatever the session's time zone, and made once."""
    with installation.connect(installation.names.owner) as owner:
        owner.execute("SET timezone = 'Pacific/Auckland'")
        for _ in range(2):
            made = owner.execute(
                "SELECT llmspell.create_event_partition(%s::text::timestamptz, %s::text::timestamptz)",
                (f"{start} 00:00Z", f"{end} 00:00Z"),
            )
            assert made.fetchone() == (name,)
        with pytest.raises(psycopg.DataError):
            owner.execute("SELECT llmspell.create_event_partition('2035-01-01 00:00Z', '2035-01-03 00:00Z')")


def test_changed_interval_leaves_no_gap(fresh_installation: Installation) -> None:
    """From months to weeks to days and back, every moment up to the horizon has its partition."""
    with fresh_installation.connect(fresh_installation.names.owner) as owner:
        assert owner.execute("SELECT llmspell.ensure_event_partitions('month', 3)").fetchone() == ([],)
        for unit, ahead in (("week", 20), ("day", 170), ("month", 8)):
            owner.execute("SELECT llmspell.ensure_event_partitions(%s, %s)", (unit, ahead))
        rows = owner.execute("SELECT from_time, to_time FROM llmspell.event_partitions()").fetchall()
        gaps = [one for one, two in itertools.pairwise(rows) if one[1] != two[0]]
        horizon = owner.execute("SELECT date_trunc('month', now(), 'UTC') + interval '9 months'").fetchone()
    assert gaps == []
    assert (rows[-1][1],) == horizon


def test_keys_are_found_by_hash_over_tenants(installation: Installation, dsn: str) -> None:
    """A live key leads to its tenant and marks its use once a minute; a revoked or expired one leads nowhere."""
    insert = "INSERT INTO llmspell.api_keys (tenant_id, key_id, name, key_hash, expires_at, revoked_at) VALUES ('acme', %s, 'k', %s, %s, %s)"
    past = "2020-01-01"
    cases: list[tuple[str, bytes, str | None, str | None]] = [
        ("live", b"1" * 32, None, None), ("old", b"2" * 32, past, None), ("gone", b"3" * 32, None, past),
    ]  # fmt: skip
    with connect(dsn) as tenant:
        for case in cases:
            tenant.execute(insert, case)
        with installation.connect(installation.names.maintenance) as gateway:
            verify = "SELECT tenant_id, key_id FROM llmspell.verify_api_key(%s)"
            assert [gateway.execute(verify, (case[1],)).fetchall() for case in cases] == [[("acme", "live")], [], []]
            used = "SELECT last_used_at FROM llmspell.api_keys WHERE key_id = 'live'"
            first = tenant.execute(used).fetchone()
            gateway.execute(verify, (b"1" * 32,))
            assert tenant.execute(used).fetchone() == first != (None,)


def test_learned_patterns_are_found_by_prefix(acme: psycopg.Connection[Any]) -> None:
    """Long scopes, keys and values are told apart, and scope and key are a prefix of the identity."""
    insert = "INSERT INTO llmspell.procedural_patterns (tenant_id, scope, key, value) VALUES ('acme', %s, %s, %s)"
    for value in ("v" * 5000, "w"):
        acme.execute(insert, ("s" * 500, "ü" * 500, value))
    with pytest.raises(psycopg.errors.UniqueViolation), acme.transaction():
        acme.execute(insert, ("s" * 500, "ü" * 500, "w"))
    found = acme.execute(
        "SELECT count(*) FROM llmspell.procedural_patterns WHERE identity ^@ (md5(%s) || md5(%s))",
        ("s" * 500, "ü" * 500),
    )
    assert found.fetchone() == (2,)
