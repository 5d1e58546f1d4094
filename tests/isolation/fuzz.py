"""Runs the attacker's cases through a tenant's own session and judges each one.

The judge has three questions. Did anything that came back (rows, column names, errors with all their fields, notices,
notifications, COPY data) carry the neighbour's marker or ring the alarm? Is every row that is not the attacker's
unchanged? Are the rights in the catalog unchanged? One answer is a *finding*, with what replays it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from tests.isolation.attacks import ALARM, Attacker, Case, Prey, Step
from tests.isolation.canaries import Marker, Table, Watch, discover, fill
from tests.isolation.tenants import ALL_STORES, Tenant, provision, row_of
from tests.plugins.installation import Installation

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED_VARIABLE = "LLMSPELL_STORAGE_FUZZ_SEED"
CASES_VARIABLE = "LLMSPELL_STORAGE_FUZZ_CASES"
ATTACKER, NEIGHBOUR = "acme-corp", "beta-corp"
_SESSION_CASES = 12
_RIGHTS_CASES = 20
_LIMITS = "-c statement_timeout=4s -c lock_timeout=300ms"


def chosen_seed() -> int:
    """Return the seed to replay, or a new one."""
    given = os.environ.get(SEED_VARIABLE)
    return int(given) if given else random.SystemRandom().getrandbits(32)


def chosen_cases(usual: int) -> int:
    """Return how many cases to run."""
    return int(os.environ.get(CASES_VARIABLE, usual))


@dataclass(slots=True)
class Finding:
    """A case that broke the isolation, and how it was seen."""

    seed: int
    number: int
    reason: str
    case: Case

    def __str__(self) -> str:
        """Return what a person needs to replay it."""
        return f"{self.reason}\nreplay: {SEED_VARIABLE}={self.seed} (case {self.number})\n{self.case}"


@dataclass(slots=True)
class Range:
    """A provisioned installation with an attacker, a neighbour whose contents are marked, and a watch over them."""

    installation: Installation
    tables: tuple[Table, ...]
    marker: Marker
    attacker: Tenant
    neighbour: Tenant
    neighbour_session: psycopg.Connection[Any]
    watch: Watch

    def prey(self) -> Prey:
        """Return what the attacker may know."""
        names = self.installation.names
        other = (names.owner, names.maintenance, names.operator, names.app, names.shards[0], names.shard(NEIGHBOUR))
        set_role = names.store_set(ALL_STORES)
        return Prey(
            schema=self.installation.schema,
            tables=self.tables,
            attacker=ATTACKER,
            neighbour=NEIGHBOUR,
            own_login=self.attacker.login,
            own_logins=(self.attacker.login,),
            neighbour_login=self.neighbour.login,
            set_role=set_role,
            roles=(*other, set_role, self.neighbour.login, "postgres", "pg_read_all_data", "pg_monitor"),
            database=self.installation.database.name,
            neighbour_pid=self.neighbour_session.info.backend_pid,
        )

    def repair(self) -> None:
        """Undo what the attacker may do to its own login: that is allowed, and must not end the run."""
        with self.installation.database.connect() as connection:
            login = sql.Identifier(self.attacker.login)
            connection.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(login))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(login, sql.Literal(self.attacker.verifier)))


@contextmanager
def shooting_range(installation: Installation, seed: int) -> Iterator[Range]:
    """Provision attacker and neighbour, mark the neighbour's contents, and leave its session open and talkative."""
    declared = [row_of(ATTACKER), row_of(NEIGHBOUR), row_of("gamma-sealed", isolation="sealed")]
    attacker, neighbour, _ = provision(installation, declared)
    tables = discover(installation)
    marker = Marker.drawn(random.Random(seed))
    fill(installation, tables, NEIGHBOUR, marker)
    with ExitStack() as stack:
        session = stack.enter_context(neighbour.connect())
        # What a neighbour's session holds and last said must not show either.
        session.execute(f"PREPARE secret AS SELECT '{marker.digits}'")
        session.execute("LISTEN llmspell")
        session.execute(f"SELECT '{marker.digits}' AS secret")
        watch = Watch(installation, tables, ATTACKER, [attacker.login])
        stack.callback(watch.close)
        yield Range(installation, tables, marker, attacker, neighbour, session, watch)


@dataclass(slots=True)
class Session:
    """The attacker's connection and everything that ever came back over it in one case."""

    connection: psycopg.Connection[Any]
    heard: list[str] = field(default_factory=list)

    @classmethod
    def opened(cls, tenant: Tenant) -> Session:
        """Log in as the attacker, with ears open."""
        session = cls(tenant.connect(options=_LIMITS))
        session.connection.add_notice_handler(lambda notice: session.hear(*_fields(notice)))
        session.connection.add_notify_handler(lambda notify: session.hear(notify.channel, notify.payload))
        return session

    def hear(self, *values: object) -> None:
        """Keep what came back; bytes are kept readable and as hexadecimal."""
        for value in values:
            if isinstance(value, bytes | bytearray | memoryview):
                raw = bytes(value)
                self.heard += [raw.decode("latin-1"), raw.hex()]
            elif value is not None:
                self.heard.append(str(value))

    def perform(self, case: Case) -> list[str]:
        """Run a case in its framing and return all that was heard."""
        self.heard = []
        framed = case.framing != "autocommit"
        if framed:
            self._try(Step("BEGIN"))
        for step in case.steps:
            if case.framing == "savepoints":
                self._try(Step("SAVEPOINT s"))
            failed = self._try(step)
            if failed and case.framing == "savepoints":
                self._try(Step("ROLLBACK TO SAVEPOINT s"))
        if framed:
            self._try(Step("COMMIT"))
        # Notifications arrive with the next exchange; the transaction that a case opened by itself ends here.
        self._try(Step("ROLLBACK"))
        return self.heard

    def _try(self, step: Step) -> bool:
        try:
            self._run(step)
        except psycopg.Error as error:
            self.hear(error, *_fields(error.diag))
            return True
        return False

    def _run(self, step: Step) -> None:
        with self.connection.cursor() as cursor:
            match step.kind:
                case "copy_out":
                    with cursor.copy(step.text.encode()) as copy:
                        for block in copy:
                            self.hear(block)
                case "copy_in":
                    with cursor.copy(step.text.encode()) as copy:
                        copy.write(step.data[0])
                case "extended":
                    cursor.execute(
                        step.text.encode(), prepare=True, binary=True
                    ) if "%" in step.text else cursor.execute(
                        f"SELECT w::text FROM ({step.text}) AS w WHERE %s <> ''".encode(), step.data
                    )
                    self._collect(cursor)
                case _:
                    cursor.execute(step.text.encode())
                    self._collect(cursor)

    def _collect(self, cursor: psycopg.Cursor[Any]) -> None:
        more: bool | None = True
        while more:
            self.hear(cursor.statusmessage)
            result = cursor.pgresult
            if result is not None and cursor.description:
                # Raw values: what a type's loader makes of them (or refuses) must not hide anything.
                for row in range(result.ntuples):
                    self.hear(*(result.get_value(row, column) for column in range(result.nfields)))
                self.hear(*(column.name for column in cursor.description))
            more = cursor.nextset()

    def close(self) -> None:
        """Log out."""
        self.connection.close()


def _fields(diagnostic: Any) -> list[object]:
    """Return every field that PostgreSQL reports with an error or a notice."""
    names = ("message_primary", "message_detail", "message_hint", "context", "internal_query", "constraint_name")
    return [getattr(diagnostic, name, None) for name in (*names, "table_name", "column_name", "datatype_name")]


def judge(heard: Sequence[str], marker: Marker, watch: Watch, *, thorough: bool) -> str | None:
    """Return what gives a leak or a change away, or None when the case came to nothing."""
    for text in heard:
        needle = marker.found_in(text)
        if needle is not None:
            return f"the neighbour's marker came back as {needle!r} in {text[:300]!r}"
        if ALARM in text:
            return f"a statement touched foreign rows: {text[:300]!r}"
    changed = watch.changes()
    if changed:
        return f"rows of others changed in {', '.join(changed)}"
    if thorough and watch.rights() != watch.rights_state:
        differing = set(watch.rights()) ^ set(watch.rights_state)
        return f"rights changed: {sorted(map(str, differing))[:4]}"
    return None


def attack(field_: Range, seed: int, cases: int) -> Finding | None:
    """Run cases until one breaks the isolation; None when none does."""
    attacker = Attacker(field_.prey(), random.Random(seed))
    session = Session.opened(field_.attacker)
    try:
        for number in range(cases):
            case = attacker.case()
            heard = session.perform(case)
            thorough = number % _RIGHTS_CASES == 0 or number == cases - 1
            reason = judge(heard, field_.marker, field_.watch, thorough=thorough)
            if reason is not None:
                return Finding(seed, number, reason, case)
            if session.connection.closed or number % _SESSION_CASES == _SESSION_CASES - 1:
                session.close()
                field_.repair()
                session = Session.opened(field_.attacker)
    finally:
        session.close()
        field_.repair()
    return None
