"""The installations that tests are given are made by the operator's role and leave nothing on the server."""

from __future__ import annotations

import psycopg

from tests.plugins.installation import Installation, installation_on


def test_operator_is_no_superuser_and_sees_the_tables(installation: Installation) -> None:
    """The operator's login has no superuser rights, and as owner it sees the migrated tables."""
    with installation.connect(installation.names.owner) as connection:
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = session_user").fetchone() == (False,)
        assert connection.execute("SELECT count(*) FROM llmspell.components").fetchone() == (11,)


def test_nothing_is_left_on_the_server(superuser_url: str) -> None:
    """After an installation's end its database and all its roles are gone."""
    with installation_on(superuser_url) as made:
        name, owner = made.database.name, made.names.owner
    with psycopg.connect(superuser_url) as connection:
        assert connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None
        found = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", (owner,)).fetchall()
    assert found == []
