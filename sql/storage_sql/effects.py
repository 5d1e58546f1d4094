"""What a procedure of this package asks of its driver, and two loops that serve it.

A procedure is a generator. It yields an effect, is sent that effect's answer, and has
`SqlFailure` thrown into it when a statement failed. It never touches a connection itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

Row = tuple[Any, ...]
Rows = list[Row]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """Run this text and answer with its rows; without parameters it may hold many statements.

    The connection must be in autocommit mode: BEGIN and COMMIT are queries like any other.
    """

    sql: str
    params: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait this long; the answer is an empty list."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Connect:
    """Direct all further queries to this database of the same server; the answer is an empty list."""

    database: str


Effect = Query | Sleep | Connect


class SqlFailure(Exception):  # noqa: N818 - not a fault of ours: the database's answer
    """A statement failed; what a driver's own error is translated to."""

    def __init__(self, sqlstate: str, message: str) -> None:
        """Keep the five-character SQLSTATE (a driver without one picks the nearest) and the text."""
        super().__init__(f"{message} (SQLSTATE {sqlstate})")
        self.sqlstate = sqlstate
        self.message = message


def drive(procedure: Generator[Effect, Rows, T], serve: Callable[[Effect], Sequence[Row]]) -> T:
    """Run a procedure to its result with a blocking driver."""
    answer: Rows | SqlFailure = []
    try:
        effect = next(procedure)
        while True:
            try:
                answer = list(serve(effect))
            except SqlFailure as failure:
                answer = failure
            effect = procedure.throw(answer) if isinstance(answer, SqlFailure) else procedure.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def drive_async(procedure: Generator[Effect, Rows, T], serve: Callable[[Effect], Awaitable[Sequence[Row]]]) -> T:
    """Run a procedure to its result with an asynchronous driver."""
    answer: Rows | SqlFailure = []
    try:
        effect = next(procedure)
        while True:
            try:
                answer = list(await serve(effect))
            except SqlFailure as failure:
                answer = failure
            effect = procedure.throw(answer) if isinstance(answer, SqlFailure) else procedure.send(answer)
    except StopIteration as stop:
        result: T = stop.value
        return result
