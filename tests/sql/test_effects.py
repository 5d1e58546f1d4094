"""Both loops serve a procedure alike, and procedures refuse what they find wrong."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from storage_sql.effects import Effect, Query, Rows, Sleep, SqlFailure, drive, drive_async
from storage_sql.runner import (
    ExtensionMissing,
    LockBudgetSpent,
    NotBootstrapped,
    RunOptions,
    discover,
    migrate_postgres,
)

COMMENT = "llmspell-storage installation=abcdefg2"


def procedure() -> Generator[Effect, Rows, list[str]]:
    """Ask, wait, fail once and go on."""
    told = [str((yield Query("first"))[0][0])]
    yield Sleep(1.5)
    try:
        yield Query("second", (1,))
    except SqlFailure as failure:
        told.append(failure.sqlstate)
    return told


def serve(effect: Effect) -> Rows:
    """Answer the first query, fail the second."""
    match effect:
        case Query("first"):
            return [("answer",)]
        case Sleep():
            return []
    raise SqlFailure("23505", "twice")


def test_blocking_loop() -> None:
    """Rows are sent in, failures thrown in, the result comes back."""
    assert drive(procedure(), serve) == ["answer", "23505"]


async def test_asynchronous_loop() -> None:
    """The same, awaited."""

    async def serve_async(effect: Effect) -> Rows:
        return serve(effect)

    assert await drive_async(procedure(), serve_async) == ["answer", "23505"]


def test_unhandled_failure_reaches_the_caller() -> None:
    """A procedure that does not catch a failure ends with it."""

    def careless() -> Generator[Effect, Rows, None]:
        yield Query("fails")

    with pytest.raises(SqlFailure, match="SQLSTATE 23505"):
        drive(careless(), serve)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([], NotBootstrapped),
        ([("another project's", "public")], NotBootstrapped),
        ([(COMMENT, None)], ExtensionMissing),
    ],
    ids=["no-schema", "foreign-schema", "no-vector"],
)
def test_discovery_names_the_remedy(rows: Rows, fault: type[Exception]) -> None:
    """Whatever bootstrap would make and is not there is answered with its command."""
    with pytest.raises(fault, match="llmspell database bootstrap"):
        drive(discover("llmspell"), lambda _: rows)


def test_live_claim_is_respected() -> None:
    """While another backend applies a file without a transaction, a runner waits and then gives up."""
    asked: list[str] = []

    def busy(effect: Effect) -> Rows:
        if isinstance(effect, Query):
            asked.append(effect.sql)
            if "obj_description" in effect.sql:
                return [(COMMENT, "public")]
            if "claimed_by_pid IS NULL" in effect.sql:
                return [(False,)]
        return []

    clock = iter(range(1000))
    options = RunOptions(budget_seconds=3, now=lambda: next(clock), chance=lambda: 0.0)
    with pytest.raises(LockBudgetSpent, match="V1 initial_setup"):
        drive(migrate_postgres("llmspell", options), busy)
    assert not [text for text in asked if "CREATE TABLE" in text]
    assert asked[-3:] == ["ROLLBACK", "RESET ROLE", "RESET lock_timeout"]
