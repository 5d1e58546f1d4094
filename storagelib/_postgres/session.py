"""One physical connection as this library uses it: prepared statements, and exchanges that take one round trip.

The generators here never wait; psycopg's ``Connection.wait`` and ``AsyncConnection.wait`` do, so that both twins share them.
Several statements go as one libpq pipeline with one sync at its end: the server runs them in one implicit transaction.
"""

from __future__ import annotations

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
from storagelib._postgres.faults import STALE_PLAN
from storagelib._postgres.wire import OIDS, Encoder, encoder, register_loaders

__all__ = ["Call", "Installation", "Session", "Statement"]

Row = tuple[Any, ...]
Call = tuple[Query, Mapping[str, Any]]
"""A statement and the values of its parameters."""

_BINARY: Final = Format.BINARY
_TUPLES: Final = ExecStatus.TUPLES_OK
_COMMAND: Final = ExecStatus.COMMAND_OK
_PREPARED_MAX: Final = 500
_STATEMENTS_MAX: Final = 2_000
_IDLE_SECONDS: Final = 0.5
_READINGS_MAX: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """A statement with its parameters' places, types and encoders settled for one installation."""

    text: bytes
    names: tuple[str, ...]
    encoders: tuple[Encoder, ...]
    types: tuple[int, ...]
    formats: tuple[Format, ...]
    prepared: bool

    def encode(self, values: Mapping[str, Any], oids: Mapping[str, int]) -> list[Any]:
        """Return the parameters in binary."""
        return [
            None if (value := values[name]) is None else encode(value, oids)
            for name, encode in zip(self.names, self.encoders, strict=True)
        ]


_BEGIN: Final = Statement(b"BEGIN", (), (), (), (), prepared=False)


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
                tuple(name for name, _ in compiled.parameters),
                tuple(encoder(kind) for _, kind in compiled.parameters),
                # 0 leaves an extension's type to the server, which knows it from the statement.
                tuple(OIDS.get(kind, 0) for _, kind in compiled.parameters),
                (_BINARY,) * len(compiled.parameters),
                query.prepared,
            )
            if not query.clauses and len(self._statements) < _STATEMENTS_MAX:
                self._statements[query] = known
        return known


class Session:
    """The state of one connection. ``prepares`` is False behind poolers that share prepared names among clients."""

    def __init__(self, connection: Any, installation: Installation, *, prepares: bool, pipelines: bool) -> None:
        """Take a connection in autocommit mode."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepares = prepares
        self._pipelines = pipelines
        self._prepared: dict[Statement, bytes] = {}
        self._made = 0
        self._used_at = time.monotonic()
        self.installation = installation
        register_loaders(connection.adapters, installation.oids)

    def alive(self) -> bool:
        """Tell whether the server has not hung up meanwhile; asked only after a pause, and without a round trip."""
        if time.monotonic() - self._used_at < _IDLE_SECONDS:
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
        self._used_at = time.monotonic()
        pgconn = self._pgconn
        idle = pgconn.transaction_status == TransactionStatus.IDLE
        return bool(idle and pgconn.pipeline_status == PipelineStatus.OFF)

    def encode(self, call: Call, tenant_id: str) -> tuple[Statement, list[Any]]:
        """Settle a call: its statement and its parameters in binary."""
        query, values = call
        statement = self.installation.statement(query)
        return statement, statement.encode({"tenant": tenant_id, **query.values, **values}, self.installation.oids)

    def exchange(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        """Send statements as one transaction and return the rows of each; raises the first error of the server."""
        if len(calls) == 1:
            statement, values = calls[0]
            if not (self._prepares and statement.prepared):
                self._send(statement, values)
                return [(yield from self._single())]
            name = self._prepared.get(statement)
            if name is not None:
                self._pgconn.send_query_prepared(name, values, statement.formats, _BINARY)
                return [(yield from self._single(statement))]
        if not self._pipelines:
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

    def _send(self, statement: Statement, values: list[Any]) -> None:
        self._pgconn.send_query_params(statement.text, values, statement.types, statement.formats, _BINARY)

    def _single(self, statement: Statement | None = None) -> PQGen[list[Row]]:
        results = yield from generators.execute(self._pgconn)
        result = results[-1]
        if result.status == _TUPLES:
            return self._rows(result)
        if result.status == _COMMAND:
            return []
        raise self._fault(result, statement)

    def _pipeline(self, calls: Sequence[tuple[Statement, list[Any]]]) -> PQGen[list[list[Row]]]:
        pgconn = self._pgconn
        pgconn.enter_pipeline_mode()
        named: dict[Statement, bytes] = {}
        # One entry a result: the statement that it belongs to, and whether it has rows.
        expected: list[tuple[Statement, bool]] = []
        for statement, values in calls:
            if not (self._prepares and statement.prepared):
                self._send(statement, values)
            else:
                name = self._prepared.get(statement) or named.get(statement)
                if name is None:
                    name = named[statement] = self._new_name()
                    pgconn.send_prepare(name, statement.text, statement.types)
                    expected.append((statement, False))
                pgconn.send_query_prepared(name, values, statement.formats, _BINARY)
            expected.append((statement, True))
        pgconn.pipeline_sync()
        return (yield from self._collect(expected, named))

    def _collect(self, expected: list[tuple[Statement, bool]], named: dict[Statement, bytes]) -> PQGen[list[list[Row]]]:
        pgconn = self._pgconn
        yield from generators.send(pgconn)
        rows: list[list[Row]] = []
        failed: psycopg.Error | None = None
        for statement, has_rows in expected:
            results = yield from generators.fetch_many(pgconn)
            result = results[-1]
            if result.status == _TUPLES:
                rows.append(self._rows(result))
            elif result.status == _COMMAND:
                if has_rows:
                    rows.append([])
                elif failed is None:
                    self._prepared[statement] = named[statement]
            elif result.status == ExecStatus.FATAL_ERROR and failed is None:
                failed = self._fault(result, statement)
        # What is checked at the commit fails here, before the sync is answered.
        while (results := (yield from generators.fetch_many(pgconn))) and (
            results[-1].status != ExecStatus.PIPELINE_SYNC
        ):
            if results[-1].status == ExecStatus.FATAL_ERROR and failed is None:
                failed = error_from_result(results[-1])
        pgconn.exit_pipeline_mode()
        if failed is not None:
            raise failed
        return rows

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
            self._send(statement, values)
            rows.append((yield from self._single()))
        return rows

    def _rows(self, result: Any) -> list[Row]:
        count = result.ntuples
        if not count:
            return []
        transformer = Transformer(self._connection)
        transformer.set_pgresult(result, format=_BINARY)
        return transformer.load_rows(0, count, tuple)

    def _new_name(self) -> bytes:
        if len(self._prepared) >= _PREPARED_MAX:
            # The server keeps the old ones until the connection ends; their number is bounded by the pool's recycling.
            self._prepared.clear()
        self._made += 1
        return b"llmspell_%d" % self._made

    def _fault(self, result: Any, statement: Statement | None) -> psycopg.Error:
        error = error_from_result(result)
        if error.sqlstate in STALE_PLAN and statement is not None:
            self._prepared.pop(statement, None)
        return error
