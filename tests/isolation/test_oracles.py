"""Role mode: what a tenant could learn without being shown a row: by conflicts, references, estimates and rights."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.isolation.canaries import Column, Marker, Table, discover, fill, value_for
from tests.isolation.tenants import ALL_STORES, Tenant, provision, row_of
from tests.plugins.installation import Installation

ATTACKER, NEIGHBOUR = "curious-corp", "quiet-corp"
# The one global key (see the comment on the index): 256 random bits leave nothing to probe for.
GLOBAL_KEYS = {"api_keys_hash"}
_UNIQUE_KEYS = """SELECT i.indexrelid::regclass::text, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
 WHERE n.nspname = %s AND (i.indisunique OR i.indisexclusion) AND EXISTS (
       SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped)"""
_REFERENCES = """SELECT k.conrelid::regclass::text, k.conname, a.attname FROM pg_constraint k
  JOIN pg_namespace n ON n.oid = k.connamespace JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
 WHERE n.nspname = %s AND k.contype = 'f' AND EXISTS (
       SELECT FROM pg_attribute t WHERE t.attrelid = k.conrelid AND t.attname = 'tenant_id' AND NOT t.attisdropped)"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A curious tenant, a neighbour with rows everywhere, and the tables."""

    installation: Installation
    attacker: Tenant
    neighbour: Tenant
    tables: tuple[Table, ...]
    marker: Marker


@pytest.fixture(scope="module")
def scene(installation: Installation) -> Scene:
    """Give both tenants; the neighbour's rows are the same that the fuzzer attacks."""
    attacker, neighbour = provision(installation, [row_of(ATTACKER), row_of(NEIGHBOUR)])
    tables, marker = discover(installation), Marker.drawn(random.Random(3))
    fill(installation, tables, NEIGHBOUR, marker)
    return Scene(installation, attacker, neighbour, tables, marker)


@pytest.fixture
def session(scene: Scene) -> Iterator[psycopg.Connection[Any]]:
    """Give the curious tenant's own session."""
    with closing(scene.attacker.connect()) as opened:
        yield opened


def _stored(scene: Scene, statement: str) -> list[tuple[Any, ...]]:
    with closing(scene.installation.database.connect()) as superuser:
        return superuser.execute(statement.encode(), (scene.installation.schema,)).fetchall()


def test_every_unique_key_begins_with_the_tenant(scene: Scene) -> None:
    """A conflict can only ever be with one's own row; the exception is named and reasoned."""
    foreign = {index.rpartition(".")[2] for index, first in _stored(scene, _UNIQUE_KEYS) if first != "tenant_id"}
    assert foreign == GLOBAL_KEYS


def test_every_reference_begins_with_the_tenant(scene: Scene) -> None:
    """A foreign key can only ever find one's own row."""
    assert [row for row in _stored(scene, _REFERENCES) if row[2] != "tenant_id"] == []


def _insertable(table: Table) -> list[Column]:
    return [
        column
        for column in table.columns
        if not column.generated and column.name != "tenant_id" and (column.key or not column.has_default)
    ]


def test_the_neighbours_keys_are_free(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """Rows under exactly the neighbour's keys go in: nothing tells that it has them."""
    own, taken = Marker.drawn(random.Random(4)), []
    for table in scene.tables:
        values: dict[str, Any] = {"tenant_id": ATTACKER}
        values |= {column.name: value_for(table, column, own, known=True) for column in _insertable(table)}
        if table.name == "api_keys":
            values["key_hash"] = b"a different hash of 32 bytes ..."
        if "timestamp" in values:
            values["timestamp"] = "now"
        statement = sql.SQL("INSERT INTO {}.{} ({}) VALUES ({})").format(
            sql.Identifier(scene.installation.schema),
            sql.Identifier(table.name),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join(sql.Placeholder() * len(values)),
        )
        try:
            session.execute(statement, tuple(values.values()))
        except psycopg.errors.InsufficientPrivilege:
            taken.append(table.name)
    assert taken == ["erasures"]  # written by the definer functions only


def test_a_known_hash_is_all_that_conflicts(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """The global key tells a holder of the hash that it exists, and neither shows nor gives the row."""
    statement = (
        "INSERT INTO llmspell.api_keys (tenant_id, key_id, name, key_hash) VALUES (%s, 'probe', 'x', sha256('known'))"
    )
    with pytest.raises(psycopg.errors.UniqueViolation) as caught:
        session.execute(statement, (ATTACKER,))
    assert caught.value.diag.message_detail is None
    update = (
        " ON CONFLICT (key_hash) WHERE key_hash IS NOT NULL DO UPDATE SET tenant_id = excluded.tenant_id RETURNING *"
    )
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute((statement + update).encode(), (ATTACKER,))


def test_a_neighbours_content_cannot_be_referenced(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """An artifact that points at a neighbour's content is refused exactly as one that points at none."""
    session.execute("DELETE FROM llmspell.artifacts; DELETE FROM llmspell.artifact_content")
    messages = set()
    for content in ("a" * 64, "b" * 64):
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught:
            session.execute(
                "INSERT INTO llmspell.artifacts (tenant_id, artifact_id, session_id, sequence, content_hash, name,"
                " artifact_type, mime_type, size_bytes) VALUES (%s, 'p', 's', 1, %s, 'n', 't', 'm', 1)",
                (ATTACKER, content),
            )
        messages.add((caught.value.diag.message_primary, str(caught.value.diag.message_detail).replace(content, "H")))
    assert len(messages) == 1


def _estimate(session: psycopg.Connection[Any], condition: str) -> list[str]:
    plan = session.execute(f"EXPLAIN SELECT FROM {condition}".encode()).fetchall()
    return re.findall(r"rows=\d+", "\n".join(line for (line,) in plan))


def test_estimates_confirm_no_guess(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """EXPLAIN estimates a neighbour's value and a made-up one alike, so that no value can be guessed or searched for."""
    with closing(scene.neighbour.connect()) as neighbour:
        neighbour.execute(
            "INSERT INTO llmspell.kv_store (tenant_id, key, value) SELECT %s, 'client-' || n, 'x'"
            " FROM generate_series(100, 999) AS n",
            (NEIGHBOUR,),
        )
        neighbour.execute(
            "INSERT INTO llmspell.sessions (tenant_id, session_id, session_data, status) SELECT %s, 's' || n, '{}',"
            " 'archived' FROM generate_series(1, 300) AS n",
            (NEIGHBOUR,),
        )
    with closing(scene.installation.database.connect()) as superuser:
        superuser.execute("ANALYZE llmspell.kv_store, llmspell.sessions")
    pairs = {
        "frequent value": ("llmspell.sessions WHERE status = 'archived'", "llmspell.sessions WHERE status = 'nothing'"),
        "range of keys": ("llmspell.kv_store WHERE key < 'client-500'", "llmspell.kv_store WHERE key < 'a'"),
        "prefix": ("llmspell.kv_store WHERE key ^@ 'client-5'", "llmspell.kv_store WHERE key ^@ 'nobody-5'"),
    }
    telling = {
        name for name, (real, made_up) in pairs.items() if _estimate(session, real) != _estimate(session, made_up)
    }
    assert telling == set(), "the planner's statistics of other tenants' values show in estimates"


def test_statistics_are_hidden(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """The statistics views hold no row about a protected table."""
    views = "SELECT count(*) FROM pg_stats WHERE schemaname = 'llmspell' AND tablename <> ALL (%s)"
    assert session.execute(views, ([],)).fetchone() == (0,)


def test_rights_of_the_shared_set_cannot_be_thrown_away(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """DROP OWNED and REVOKE in the name of the set that all share take nothing from its other members."""
    names = scene.installation.names
    set_role = names.store_set(ALL_STORES)
    for statement in (
        f"DROP OWNED BY {set_role} CASCADE",
        f"REVOKE {set_role} FROM {scene.neighbour.login}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA llmspell FROM {set_role} CASCADE",
        f"REASSIGN OWNED BY {set_role} TO {scene.attacker.login}",
    ):
        with suppress(psycopg.errors.InsufficientPrivilege):  # some only warn; either way nothing may follow
            session.execute(statement.encode())
    with closing(scene.neighbour.connect()) as neighbour:
        assert neighbour.execute("SELECT count(*) > 0 FROM llmspell.kv_store").fetchone() == (True,)


def test_a_suspended_tenants_open_session_sees_nothing(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """Suspension and a login's retirement work at once, in sessions that are already open, too."""
    owner = scene.installation.connect(scene.installation.names.owner)
    with closing(owner):
        for switch, back in (
            ("UPDATE llmspell.tenants SET suspended = true WHERE tenant = %s", "suspended = false"),
            ("UPDATE llmspell.tenants SET state = 'retained' WHERE tenant = %s", "state = 'active'"),
        ):
            owner.execute(switch.encode(), (ATTACKER,))
            assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (None,)
            owner.execute(f"UPDATE llmspell.tenants SET {back} WHERE tenant = %s".encode(), (ATTACKER,))
        retire = "UPDATE llmspell.tenant_logins SET retire_at = {} WHERE tenant = %s"
        owner.execute(retire.format("now() - interval '1 second'").encode(), (ATTACKER,))
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (None,)
        owner.execute(retire.format("NULL").encode(), (ATTACKER,))
    assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (ATTACKER,)


def test_over_the_quota_only_deletion_writes(scene: Scene, session: psycopg.Connection[Any]) -> None:
    """In role mode, too, INSERT and UPDATE name the quota and DELETE works."""
    session.execute("INSERT INTO llmspell.test_table (tenant_id, id, value) VALUES (%s, 'kept', 'x')", (ATTACKER,))
    with closing(scene.installation.connect(scene.installation.names.owner)) as owner:
        flag = "UPDATE llmspell.tenants SET over_quota = %s, quota_enforced = true, quota_bytes = 1, used_bytes = 2 WHERE tenant = %s"
        owner.execute(flag, (True, ATTACKER))
        for write in (
            "UPDATE llmspell.test_table SET value = 'y' WHERE id = 'kept'",
            "SELECT llmspell.writing_tenant()",
        ):
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="storage quota exceeded"):
                session.execute(write.encode())
        assert session.execute("DELETE FROM llmspell.test_table WHERE id = 'kept'").rowcount == 1
        owner.execute(flag, (False, ATTACKER))
