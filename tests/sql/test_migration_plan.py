"""The plan is a function of what is applied, what is available and the target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_sql import migrations
from storage_sql.migrations import Applied, ChecksumChanged, Gap, InvalidFile, LowerTarget, Migration, NewerDatabase
from storage_sql.statements import split

FILES = tuple(Migration(number, f"step_{number}", f"SELECT {number}") for number in range(1, 6))


def applied(count: int) -> list[Applied]:
    """Return the rows of a database at version `count`."""
    return [Applied(file.version, file.name, file.checksum) for file in FILES[:count]]


@given(st.integers(0, 5), st.integers(0, 5))
def test_pending_joins_current_to_target(done: int, target: int) -> None:
    """What is applied and what is pending are together exactly the files up to the target."""
    if target < done:
        with pytest.raises(LowerTarget):
            migrations.plan(applied(done), FILES, target)
        return
    plan = migrations.plan(applied(done), FILES, target)
    assert plan.current == done
    assert [row.version for row in plan.applied] + [file.version for file in plan.pending] == list(range(1, target + 1))


def test_rows_may_come_in_any_order() -> None:
    """The database's order of rows means nothing."""
    assert migrations.plan(reversed(applied(3)), FILES).current == 3


def test_changed_checksum_is_refused() -> None:
    """One changed byte of an applied file stops everything."""
    rows = [*applied(2)[:1], Applied(2, "step_2", "0" * 64)]
    with pytest.raises(ChecksumChanged, match="V2 step_2"):
        migrations.plan(rows, FILES)


@pytest.mark.parametrize("missing", [0, 1, 2], ids=["first", "middle", "later"])
def test_gap_among_applied_is_refused(missing: int) -> None:
    """A missing row means that somebody changed the table by hand."""
    rows = applied(4)
    del rows[missing]
    with pytest.raises(Gap, match=f"V{missing + 1}"):
        migrations.plan(rows, FILES)


def test_gap_among_files_is_refused() -> None:
    """A release with a missing file is no release."""
    with pytest.raises(Gap, match="V2 is missing from the files"):
        migrations.plan([], [FILES[0], FILES[2]])


def test_newer_database_is_refused() -> None:
    """An old release never touches a newer database."""
    with pytest.raises(NewerDatabase, match="V5"):
        migrations.plan(applied(5), FILES[:3])


def test_unknown_target_is_refused() -> None:
    """A target above the newest file does not exist."""
    with pytest.raises(LowerTarget, match="no V9"):
        migrations.plan([], FILES, 9)


@pytest.mark.parametrize("dialect", ["postgres", "sqlite"])
def test_released_files_are_complete(dialect: migrations.Dialect) -> None:
    """Both dialects have the same numbers and names, without a gap."""
    files = migrations.available(dialect)
    assert [(file.version, file.name) for file in files] == [
        (file.version, file.name) for file in migrations.available("postgres")
    ]
    assert migrations.plan([], files).target == len(files) >= 15


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("V1__short.sql", "-- name: short\n"),
        ("V0001__a.sql", "-- name: b\n"),
        ("V0001__a.sql", "-- name: a\n-- role: superuser\n"),
        ("V0001__a.sql", "-- name: a\n-- transactional: maybe\n"),
    ],
    ids=["number", "other-name", "role", "transactional"],
)
def test_malformed_file_is_refused(name: str, source: str) -> None:
    """A header that says something unknown is never guessed at."""
    with pytest.raises(InvalidFile):
        migrations.parse(name, source)


def test_header_is_read() -> None:
    """Role and transaction come from the header; the checksum covers it."""
    one = migrations.parse("V0001__a.sql", "-- name: a\n-- role: maintenance\n-- transactional: no\nSELECT 1")
    two = migrations.parse("V0001__a.sql", "-- name: a\n-- role: owner\n-- transactional: no\nSELECT 1")
    assert (one.role, one.transactional, two.role) == ("maintenance", False, "owner")
    assert one.checksum != two.checksum


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("SELECT 1; SELECT 2", 2),
        ("SELECT ';'; -- ; comment\nSELECT \";\"", 2),
        ("DO $x$ BEGIN; END $x$; SELECT 1", 2),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END; SELECT 1", 2),
        ("/* only ; a comment */ ;\n-- nothing", 0),
        ("SELECT E'it\\'s; one'", 1),
    ],
    ids=["two", "quotes", "dollar", "trigger", "comments", "escape"],
)
def test_statements_are_split_outside_quotes(text: str, count: int) -> None:
    """Only a semicolon that ends a statement splits."""
    assert len(split(text)) == count
