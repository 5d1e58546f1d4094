"""Brings a PostgreSQL schema up before a store opens, with a login of its own that nothing else uses."""

from __future__ import annotations

import random
import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from storage_sql.effects import Connect, Effect, Query, Sleep, SqlFailure, drive
from storage_sql.migrations import MigrationError as Refusal
from storage_sql.runner import MigrationReport, RunOptions, migrate_postgres
from storagelib._postgres.faults import translated
from storagelib.errors import MigrationError
from storagelib.release import release_name

__all__ = ["migrate"]


def migrate(url: str, schema: str, timeout_seconds: float) -> MigrationReport:
    """Apply what is pending, safely beside others who do the same; blocks.

    Raises ``MigrationError`` for a newer or changed schema and for locks that were not to be had in time,
    ``PermissionDenied`` or ``Unavailable`` when the login fails.
    """
    deadline = time.monotonic() + timeout_seconds
    try:
        options: dict[str, Any] = {"connect_timeout": 10} if "connect_timeout" not in conninfo_to_dict(url) else {}
        with psycopg.connect(url, autocommit=True, **options) as connection:
            run = RunOptions(release=release_name(), budget_seconds=timeout_seconds, chance=random.random)
            return drive(migrate_postgres(schema, run), _Driver(connection, deadline))
    except Refusal as error:
        raise MigrationError(str(error)) from error
    except psycopg.Error as error:
        raise translated(error, sent=False) from error


class _Driver:
    """Performs the effects of the runner on one connection."""

    def __init__(self, connection: psycopg.Connection[Any], deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def __call__(self, effect: Effect) -> list[tuple[Any, ...]]:
        if isinstance(effect, Sleep):
            time.sleep(effect.seconds)
            return []
        assert isinstance(effect, Query | Connect)  # noqa: S101 - the runner yields nothing else
        if isinstance(effect, Connect):
            raise MigrationError("a migration stays in its own database")
        if time.monotonic() > self._deadline:
            raise MigrationError(
                "bringing the schema up took longer than migration_timeout_seconds; what is done stays"
            )
        try:
            cursor = self._connection.execute(effect.sql.encode(), effect.params or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            raise SqlFailure(error.sqlstate, str(error)) from error
