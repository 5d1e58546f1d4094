"""What a forked child does with its parent's connections: nothing, so that neither takes the other's answers.

A child that was forked with open connections shares their sockets. Its first statement, and even its end, would speak on
them: so their descriptors lead nowhere in the child, and stores that were opened before the fork refuse to work there.
"""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

import psycopg

from storagelib.errors import Unavailable

__all__ = ["check_process", "watch"]

_OPEN: WeakSet[Any] = WeakSet()


def watch(connection: Any) -> None:
    """Remember an open connection for as long as it lives."""
    _OPEN.add(connection)


def check_process(opened_in: int) -> None:
    """Raise ``Unavailable`` in any other process than the one that opened a store."""
    if os.getpid() != opened_in:
        raise Unavailable("the store was opened before this process was forked: open one in each process")


def _lead_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for connection in list(_OPEN):
        try:
            os.dup2(nowhere, connection.pgconn.socket)
        except (OSError, psycopg.Error):
            # It was closed already.
            continue
    os.close(nowhere)


os.register_at_fork(after_in_child=_lead_nowhere)
