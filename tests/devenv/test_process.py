"""Ports for servers that stop and start again."""

from __future__ import annotations

import socket

import pytest

from storage_operator.devenv import process
from storage_operator.errors import UserError

LINUX_GIVES_FROM = 32_768


def test_a_free_port_is_nobodys_by_accident() -> None:
    """It can be listened on, and no outgoing connection is given it while the server on it is down for a moment."""
    port = process.free_port()
    socket.create_server(("127.0.0.1", port)).close()
    assert 1024 < port < LINUX_GIVES_FROM


def test_a_taken_port_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """And when none is free that is said."""
    port = process.free_port()
    with socket.create_server(("127.0.0.1", port)):
        monkeypatch.setattr(process, "_PORTS", range(port, port + 1))
        with pytest.raises(UserError, match="no port between"):
            process.free_port()
    assert process.free_port() == port
