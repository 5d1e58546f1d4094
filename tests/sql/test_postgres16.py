"""The oldest supported server, without btree_gist, holds the same contract."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from storage_sql import audit, migrations
from tests.plugins.installation import Installation, drive_on, installation_on
from tests.plugins.tenants import connect, make_app, make_sealed_tenant, make_tenant


@pytest.fixture(scope="module")
def old(server16_url: str) -> Iterator[Installation]:
    """Give a migrated database on PostgreSQL 16.14."""
    with installation_on(server16_url) as made:
        yield made


@pytest.fixture(scope="module")
def acme(old: Installation) -> str:
    """Give a tenant's login."""
    return make_tenant(old, "acme")


def test_migrated_and_clean(old: Installation, acme: str) -> None:
    """All migrations apply to 16 and the audit finds nothing, with a tenant in place."""
    with old.connect(old.names.owner) as owner:
        row = owner.execute("SELECT current_setting('server_version'), max(version) FROM llmspell.schema_migrations")
        assert row.fetchone() == ("16.14", len(migrations.available("postgres")))
    assert drive_on(old.operator_dsn, audit.audit("llmspell", old.names)) == ()


def test_role_mode(old: Installation, acme: str) -> None:
    """A tenant sees its own rows only."""
    neighbour = make_tenant(old, "bob-co")
    for dsn, tenant in ((acme, "acme"), (neighbour, "bob-co")):
        with connect(dsn) as session:
            session.execute("INSERT INTO llmspell.test_table (tenant_id, value) VALUES (%s, '')", (tenant,))
            assert session.execute("SELECT tenant_id FROM llmspell.test_table").fetchall() == [(tenant,)]


def test_sealed_mode(old: Installation) -> None:
    """A capability opens one transaction."""
    dsn, capability = make_app(old), make_sealed_tenant(old, "sealed-a")
    with connect(dsn) as session:
        with session.transaction():
            session.execute("SELECT llmspell.enter('sealed-a', %s, 'kv')", (capability,))
            assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("sealed-a",)
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (None,)


def test_trigger_keeps_one_current_version(acme: str) -> None:
    """Where the exclusion constraint can not be made, the trigger refuses with the same SQLSTATE."""
    entity = uuid.uuid4()
    insert = (
        "INSERT INTO llmspell.entities (tenant_id, entity_id, entity_type, name, valid_time_start, valid_time_end,"
        " transaction_time_start, tx_from) VALUES ('acme', %s, 't', 'n', %s, %s, now(), %s)"
    )
    with connect(acme) as session:
        session.execute(insert, (entity, "2020-01-01", "2021-01-01", 1))
        session.execute(insert, (entity, "2021-01-01", "infinity", 1))
        with pytest.raises(psycopg.errors.ExclusionViolation):
            session.execute(insert, (entity, "2020-05-01", "2020-06-01", 2))
