"""The installations that tests are given are made by the operator's role and leave nothing on the server."""

from __future__ import annotations

import psycopg

from tests.plugins.installation import Installation, Molds, bootstrapped_on
from tests.plugins.tenants import make_tenant


def test_operator_is_no_superuser_and_sees_the_tables(installation: Installation) -> None:
    """The operator's login has no superuser rights, and as owner it sees the migrated tables."""
    with installation.connect(installation.names.owner) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = session_user").fetchone() == (False,)
        assert connection.execute("SELECT count(*) FROM llmspell.components").fetchone() == (11,)


def test_nothing_is_left_on_the_server(superuser_url: str) -> None:
    """After an installation's end its database and all its roles are gone."""
    with bootstrapped_on(superuser_url) as made:
        name, owner = made.database.name, made.names.owner
    with psycopg.connect(superuser_url) as connection:
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None
        found = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (owner,)).fetchall()
    assert found == []


def test_a_copy_leaves_nothing_to_the_next_one(molds: Molds) -> None:
    """Neither rows nor tenants' roles; but roles whose rights a test changed are not used again."""
    with molds.copy() as first:
        make_tenant(first, "acme")
    with molds.copy() as second:
        assert second.names == first.names
        assert second.database.name != first.database.name
        with second.connect(second.names.owner) as connection:
            assert connection.execute("SELECT count(*) FROM llmspell.tenants").fetchone() == (0,)
        with psycopg.connect(second.superuser_dsn, autocommit=True) as superuser:
            login = second.names.tenant_login("acme", "a")
            assert superuser.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,)).fetchone() is None
            superuser.execute(f"ALTER ROLE \"{second.names.maintenance}\" SET work_mem = '1MB'".encode())
    assert second.names not in [mold.original.names for mold in molds._free]
