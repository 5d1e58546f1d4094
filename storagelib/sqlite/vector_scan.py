"""What an exact search compares vectors with: numpy alone, or sqlite-vec first, inside of SQLite.

sqlite-vec sums in single precision, so it decides nothing: it gives each row a distance, and every row that may be among
the nearest whatever was rounded is compared again in numpy. Answers are those of numpy, bit for bit.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from collections.abc import Mapping
from typing import Final

__all__ = ["FUNCTIONS", "load", "near"]

FUNCTIONS: Final[Mapping[str, str]] = {"cosine": "vec_distance_cosine", "l2": "vec_distance_L2"}
"""The function of sqlite-vec for each metric; it has none for the inner product."""
_NEAR: Final = """
WITH measured AS MATERIALIZED (
    SELECT rowid AS place, CASE length(embedding) WHEN :size THEN {function}(embedding, :query) ELSE -9e999 END AS distance
      FROM {table} WHERE tenant_id = :tenant{clause}
)
SELECT found.id, found.embedding
  FROM measured CROSS JOIN {table} AS found ON found.rowid = measured.place
 WHERE found.tenant_id = :tenant AND measured.distance <= (
    SELECT coalesce(:stretch * (SELECT distance FROM measured ORDER BY distance NULLS LAST LIMIT 1 OFFSET :k - 1) + :slack, 9e999))"""


def near(metric: str, clause: str) -> str:
    """Return what selects ids and embeddings of the rows that may be among the ``:k`` nearest to ``:query``.

    Each row that is meant by ``clause`` is measured once. Where fewer than ``:k`` rows have a distance, all that have one
    are selected; a row without a direction has none by cosine. What has not the ``:size`` bytes of a vector is damaged, and
    always selected, for whoever reads it to tell. ``:stretch`` and ``:slack`` are those of ``distances.reach``.
    """
    return _NEAR.replace("{function}", FUNCTIONS[metric]).replace("{clause}", clause)


def load(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Load sqlite-vec into a connection; return the reasons why that cannot be done, none when it is loaded.

    Extensions may be loaded only while this function runs, so that no statement can load one.
    """
    path = _library()
    if isinstance(path, tuple):
        return path
    try:
        connection.enable_load_extension(True)
        try:
            connection.load_extension(path)
        finally:
            connection.enable_load_extension(False)
    except sqlite3.Error as error:
        return (f"sqlite-vec cannot be loaded: {error}",)
    return ()


@functools.cache
def _library() -> str | tuple[str, ...]:
    """Return the path of the library without its ending, or what is in the way."""
    found = []
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        found.append("this Python's sqlite3 was built without loadable extensions: use a Python that has them")
    if sys.byteorder != "little":
        found.append("sqlite-vec needs a little-endian machine, because vectors are stored that way: use numpy")
    try:
        import sqlite_vec  # noqa: PLC0415 - an extra, which only a search needs
    except ImportError:
        found.append("sqlite-vec is not installed: pip install 'llmspell-storage[sqlite-vec]'")
        return tuple(found)
    return tuple(found) or str(sqlite_vec.loadable_path())
