"""One physical connection as this library uses it: prepared statements, and exchanges that take one round trip.

The generators here never wait; psycopg's ``Connection.wait`` and ``AsyncConnection.wait`` do, so that both twins share them.
Several statements go as one libpq pipeline with one sync at its end: the server runs them in one implicit transaction.
"""

from __future__ import annotations

import itertools
import secrets
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format, PipelineStatus, TransactionStatus

from storage_sql.queries import Query, compile_query
from storage_sql.renderer import Identifier, ident
from storagelib._postgres.faults import STALE_PLAN, UNKNOWN_STATEMENT
from storagelib._postgres.wire import OIDS, Encoder, encoder, register_loaders

__all__ = ["Call", "Installation", "Session", "Statement"]

Row = tuple[Any, ...]
Call = tuple[Query, Mapping[str, Any]]
"""A statement and the values of its parameters."""

_BINARY: Final = Format.BINARY
_TUPLES: Final = ExecStatus.TUPLES_OK
_COMMAND: Final = ExecStatus.COMMAND_OK
_NOTHING: Final = ExecStatus.EMPTY_QUERY
_IDLE: Final = TransactionStatus.IDLE
_NO_PIPELINE: Final = PipelineStatus.OFF
_PREPARED_MAX: Final = 500
_STATEMENTS_MAX: Final = 2_000
_MANY: Final = 4
_IDLE_SECONDS: Final = 0.5
_READINGS_MAX: Final = 4
_NAME_BYTES: Final = 6


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A statement with its parameters' places, types and encoders settled for one installation."""

    text: bytes
    parameters: tuple[tuple[str, Encoder], ...]
    types: tuple[int, ...]
    formats: tuple[Format, ...]
    prepared: bool


_BEGIN: Final = Statement(b"BEGIN", (), (), (), prepared=False)
# What a pipeline is tried with: nothing is read or written, and an answer in the place of the other is seen.
_TRIALS: Final = tuple(
    Statement(text, (("given", encoder("bigint", {})),), (OIDS["bigint"],), (_BINARY,), prepared=True)
    for text in (b"SELECT $1 + 1", b"SELECT $1 + 2")
)
_TRIAL_SECONDS: Final = 2.0


class Installation:
    """What statements are rendered with: the schema, where the extensions live, and the numbers of their types."""

    def __init__(self, schema: str, extensions: str, oids: Mapping[str, int]) -> None:
        """Take the facts that were read from the catalog."""
        self.schema = schema
        self.extensions = extensions
        self.oids = oids
        self.names: Mapping[str, Identifier] = {"schema": ident(schema), "extensions": ident(extensions)}
        self._statements: dict[Query, Statement] = {}

    def statement(self, query: Query) -> Statement:
        """Return a query's statement; those with clauses made at run time are not kept."""
        known = self._statements.get(query)
        if known is None:
            compiled = compile_query(query, self.names)
            known = Statement(
                compiled.text.encode(),
                tuple((name, encoder(kind, self.oids)) for name, kind in compiled.parameters),
                # 0 leaves an extension's type to the server, which knows it from the statement.
                tuple(OIDS.get(kind, 0) for _, kind in compiled.parameters),
                (_BINARY,) * len(compiled.parameters),
                query.prepared,
            )
            if not query.clauses and len(self._statements) < _STATEMENTS_MAX:
                self._statements[query] = known
        return known


class _Encoded(Sequence[tuple[Statement, list[Any]]]):
    """Calls that are encoded one by one when they are asked for."""

    def __init__(self, session: Session, calls: Sequence[Call], tenant_id: str) -> None:
        self._session = session
        self._calls = calls
        self._tenant_id = tenant_id

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, place: Any) -> Any:
        return self._session.encode(self._calls[place], self._tenant_id)


class Session:
    """The state of one connection. ``prepares`` is False behind poolers that share prepared names among clients."""

    def __init__(self, connection: Any, installation: Installation, *, prepares: bool, pipelines: bool) -> None:
        """Take a connection in autocommit mode."""
        self._pgconn = connection.pgconn
        self._prepares = prepares
        self._pipelines = pipelines
        # Oldest first; what gives way has its name freed on the server too, or in ``_unfreed`` until it has.
        self._prepared: dict[Statement, bytes] = {}
        self._unfreed: list[bytes] = []
        # Behind a pooler that nobody told of, another session may have left statements on the connection of the server:
        # no name is given by two of them, in whatever process, so that a name means its statement or nothing.
        self._name_stem = b"llmspell_" + secrets.token_hex(_NAME_BYTES).encode()
        self._names = itertools.count(1)
        self.used_at = time.monotonic()
        self.installation = installation
        register_loaders(connection.adapters, installation.oids)
        self._transformer = Transformer(connection)

    def alive(self) -> bool:
        """Tell whether the server has not hung up meanwhile; asked only after a pause, and without a round trip."""
        if time.monotonic() - self.used_at < _IDLE_SECONDS:
            return True
        waiting = select.poll()
        waiting.register(self._pgconn.socket, select.POLLIN)
        try:
            # A server that ends a session says so before it hangs up: first its words come in, then the end.
            for _ in range(_READINGS_MAX):
                if not waiting.poll(0):
                    break
                self._pgconn.consume_input()
        except psycopg.Error:
            return False
        return self.clean()

    def clean(self) -> bool:
        """Tell whether the connection is outside any transaction and pipeline, so that it may be lent again."""
        self.used_at = time.monotonic()
        pgconn = self._pgconn
        # Compared as numbers: this is asked after every call.
        return bool(pgconn.transaction_status == _IDLE and pgconn.pipeline_status == _NO_PIPELINE)

    def encode(self, call: Call, tenant_id: str) -> tuple[Statement, list[Any]]:
        """Settle a call: its statement and its parameters in binary."""
        query, values = call
        statement = self.installation.statement(query)
        given = {**query.values, **values} if query.values else values
        encoded: list[Any] = []
        for name, encode in statement.parameters:
            value = tenant_id if name == "tenant" else given[name]
            encoded.append(None if value is None else encode(value))
        return statement, encoded

    def encoded(self, calls: Sequence[Call], tenant_id: str) -> Sequence[tuple[Statement, list[Any]]]:
        """Settle calls that go together; of many, each as it is sent, so that the server works on those before it."""
        if len(calls) < _MANY:
            return [self.encode(call, tenant_id) for call in calls]
        return _Encoded(self, calls, tenant_id)

    def exchange(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        """Send statements as one transaction and return the rows of each; raises the first error of the server."""
        if len(calls) == 1:
            statement, values = calls[0]
            if not (self._prepares and statement.prepared and statement not in self._prepared and self._pipelines):
                return [(yield from self._alone(statement, values))]
        elif not self._pipelines:
            return (yield from self._one_by_one(calls))
        return (yield from self._pipeline(calls))

    def begin(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        """Begin a transaction that stays open and send the first statements in it."""
        if self._pipelines:
            rows = yield from self._pipeline([(_BEGIN, []), *calls])
            return rows[1:]
        yield from self.command(b"BEGIN")
        return (yield from self._each(calls))

    def within(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        """Send statements in the transaction that is open."""
        if self._pipelines and len(calls) > 1:
            return (yield from self._pipeline(calls))
        return (yield from self._each(calls))

    def command(self, text: bytes) -> PQGen[None]:
        """Send a command without parameters and results, such as COMMIT."""
        self._pgconn.send_query_params(text, None, result_format=_BINARY)
        yield from self._single()

    def trial(self) -> PQGen[str | None]:
        """Try a pipeline that does nothing; return why pipelines do not work here, or None.

        Takes two seconds at most. After a reason was returned the connection is of no more use.
        """
        deadline = time.monotonic() + _TRIAL_SECONDS
        first = secrets.randbelow(1 << 30)
        numbers = (first, first + 10)
        attempt = self._pipeline(
            [(trial, [trial.parameters[0][1](n)]) for trial, n in zip(_TRIALS, numbers, strict=True)]
        )
        try:
            wanted = next(attempt)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= deadline:
                    return f"no answer within {_TRIAL_SECONDS:g} s"
                wanted = attempt.send(ready)
        except StopIteration as end:
            right = [[(number + place,)] for place, number in enumerate(numbers, 1)]
            return None if end.value == right and self.clean() else "the answers are not those to what was sent"
        except psycopg.Error as error:
            return "the connection broke" if error.sqlstate is None else f"an error, SQLSTATE {error.sqlstate}"

    def _alone(self, statement: Statement, values: list[Any]) -> PQGen[list[Row]]:
        """Send one statement, without a pipeline."""
        if not (self._prepares and statement.prepared):
            self._pgconn.send_query_params(statement.text, values, statement.types, statement.formats, _BINARY)
            return (yield from self._single())
        name = self._prepared.get(statement)
        if name is None:
            name = yield from self._prepare(statement)
        self._pgconn.send_query_prepared(name, values, statement.formats, _BINARY)
        return (yield from self._single(statement))

    def _prepare(self, statement: Statement) -> PQGen[bytes]:
        """Prepare a statement in a round trip of its own."""
        self._make_room()
        while self._unfreed:
            yield from self.command(_freeing(self._unfreed.pop()))
        name = self._new_name()
        self._pgconn.send_prepare(name, statement.text, statement.types)
        yield from self._single()
        self._prepared[statement] = name
        return name

    def _single(self, statement: Statement | None = None) -> PQGen[list[Row]]:
        result = (yield from generators.execute(self._pgconn))[-1]
        status = result.status
        if status == _TUPLES:
            return self._rows(result)
        if status == _COMMAND:
            return []
        raise self._fault(result, statement)

    def _pipeline(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        # One entry a result: the statement that it belongs to, and the name that it makes or frees instead of rows.
        expected: list[tuple[Statement | None, bytes | None]] = []
        named: dict[Statement, bytes] = {}
        for statement, values in calls:
            if not (self._prepares and statement.prepared):
                pgconn.send_query_params(statement.text, values, statement.types, statement.formats, _BINARY)
            else:
                name = self._prepared.get(statement) or named.get(statement)
                if name is None:
                    self._make_room(len(named))
                    while self._unfreed:
                        old = self._unfreed.pop()
                        pgconn.send_query_params(_freeing(old), None, result_format=_BINARY)
                        expected.append((None, old))
                    name = named[statement] = self._new_name()
                    pgconn.send_prepare(name, statement.text, statement.types)
                    expected.append((statement, name))
                pgconn.send_query_prepared(name, values, statement.formats, _BINARY)
            expected.append((statement, None))
        pgconn.pipeline_sync()
        return (yield from self._collect(expected, len(calls)))

    def _collect(self, expected: list[tuple[Statement | None, bytes | None]], answers: int) -> PQGen[list[list[Row]]]:
        pgconn = self._pgconn
        yield from generators.send(pgconn)
        rows: list[list[Row]] = []
        failed: psycopg.Error | None = None
        for statement, name in expected:
            results = yield from generators.fetch_many(pgconn)
            result = results[-1] if results else None
            status = _NOTHING if result is None else result.status
            if status == _TUPLES:
                rows.append(self._rows(result))
            elif status == _COMMAND:
                if name is None:
                    rows.append([])
                elif statement is not None:
                    self._prepared[statement] = name
            else:
                failed = self._unanswered(result, statement, name, failed)
        failed = yield from self._end_pipeline(failed)
        if failed is not None:
            raise failed
        if len(rows) != answers:
            raise psycopg.OperationalError("the answers are not those to what was sent")
        return rows

    def _end_pipeline(self, failed: psycopg.Error | None) -> PQGen[psycopg.Error | None]:
        """Wait for the sync to be answered; what is checked at the commit fails before that."""
        while results := (yield from generators.fetch_many(self._pgconn)):
            status = results[-1].status
            if status == ExecStatus.PIPELINE_SYNC:
                break
            if status == ExecStatus.FATAL_ERROR and failed is None:
                failed = error_from_result(results[-1])
        self._pgconn.exit_pipeline_mode()
        return failed

    def _one_by_one(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        """Do the same without a pipeline, for poolers that break on one: a round trip for each statement, and two more."""
        yield from self.command(b"BEGIN")
        try:
            rows = yield from self._each(calls)
        except psycopg.Error:
            if self._pgconn.transaction_status == TransactionStatus.INERROR:
                yield from self.command(b"ROLLBACK")
            raise
        yield from self.command(b"COMMIT")
        return rows

    def _each(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        rows: list[list[Row]] = []
        for statement, values in calls:
            rows.append((yield from self._alone(statement, values)))
        return rows

    def _rows(self, result: Any) -> list[Row]:
        count = result.ntuples
        if not count:
            return []
        transformer = self._transformer
        # The connection's loaders are found once for each type, not once for each result.
        transformer.set_pgresult(result, format=_BINARY)
        try:
            return transformer.load_rows(0, count, tuple)
        finally:
            transformer.set_pgresult(None, set_loaders=False)

    def _make_room(self, coming: int = 0) -> None:
        """Let the statement prepared longest ago give way, so that neither side remembers without bound."""
        if self._prepared and len(self._prepared) + coming >= _PREPARED_MAX:
            self._unfreed.append(self._prepared.pop(next(iter(self._prepared))))

    def _unanswered(
        self, result: Any, statement: Statement | None, name: bytes | None, failed: psycopg.Error | None
    ) -> psycopg.Error | None:
        """Take what a pipeline has instead of an answer: the error, or a statement skipped after it."""
        if failed is None:
            failed_here = result is not None and result.status == ExecStatus.FATAL_ERROR
            return self._fault(result, statement) if failed_here else None
        if statement is None and name is not None:
            # It is freed with the next statement that needs a name.
            self._unfreed.append(name)
        return failed

    def _new_name(self) -> bytes:
        return b"%b_%d" % (self._name_stem, next(self._names))

    def _fault(self, result: Any, statement: Statement | None) -> psycopg.Error:
        error = error_from_result(result)
        if error.sqlstate == UNKNOWN_STATEMENT:
            # Names are not lost one by one: something between has reset the session.
            self._prepared.clear()
            self._unfreed.clear()
        elif error.sqlstate in STALE_PLAN and statement in self._prepared:
            self._unfreed.append(self._prepared.pop(statement))
        return error


def _freeing(name: bytes) -> bytes:
    return b"DEALLOCATE " + name
