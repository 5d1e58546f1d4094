"""A name for an environment of a test's own, and the environment removed afterwards whatever happened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count

import pytest

from storage_operator.devenv import ownership
from storage_operator.devenv.environment import KUBECONFIG_VARIABLE, POSTGRES_URL_VARIABLE, Environment

_numbers = count(1)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Environment]:
    """Give an environment that is not up yet, in a shell that names no other server or cluster."""
    monkeypatch.delenv(POSTGRES_URL_VARIABLE, raising=False)
    monkeypatch.delenv(KUBECONFIG_VARIABLE, raising=False)
    name = f"test-env-{os.getpid()}-{next(_numbers)}"
    ownership.claim(name)
    made = Environment(name)
    yield made
    made.down()
