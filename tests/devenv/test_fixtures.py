"""The servers that tests are given are what they claim to be."""

from __future__ import annotations

import psycopg

from tests.plugins.postgres import Database, url_with


def test_default_server_has_the_required_extensions(fresh_database: Database) -> None:
    """The default server is PostgreSQL 18 and can make both extensions that the schema needs."""
    with fresh_database.connect() as connection:
        assert connection.info.server_version // 10000 >= 16
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE EXTENSION btree_gist")


def test_oldest_server_is_16_with_pgvector(server16_url: str) -> None:
    """The other server is PostgreSQL 16 with a pgvector that is new enough."""
    with psycopg.connect(server16_url) as connection:
        assert connection.info.server_version // 10000 == 16
        row = connection.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    assert row == ("0.8.5",)


def test_url_parts_survive_replacement() -> None:
    """A password with every reserved character comes back unchanged from the URI."""
    url = url_with("host=127.0.0.1 port=5433 user=a dbname=x", user="ü@b", password="p:/?#[]@ %", dbname="d b")
    assert psycopg.conninfo.conninfo_to_dict(url) == {
        "host": "127.0.0.1",
        "port": "5433",
        "user": "ü@b",
        "password": "p:/?#[]@ %",
        "dbname": "d b",
    }
