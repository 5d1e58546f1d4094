"""Settings from the environment: what wins, and every fault at once."""

from __future__ import annotations

import pytest

from storage_operator.errors import UserError
from storage_operator.settings import PARSERS, PREFIX, OperatorSettings


def test_defaults_watch_everything_and_elect_a_leader() -> None:
    """Nothing has to be set."""
    settings = OperatorSettings.from_env({})
    assert settings.clusterwide
    assert settings.leader_election
    assert settings.identity != OperatorSettings.from_env({}).identity


def test_the_environment_is_read_and_options_win_over_it() -> None:
    """None means that an option was not given."""
    environment = {
        f"{PREFIX}NAMESPACES": "team-a, team-b",
        f"{PREFIX}WORKERS": "3",
        f"{PREFIX}LEADER_ELECTION": "no",
        f"{PREFIX}LOG_FORMAT": "text",
        "POD_NAMESPACE": "system",
    }
    settings = OperatorSettings.from_env(environment, workers=5, log_format=None)
    assert settings.namespaces == ("team-a", "team-b")
    assert (settings.workers, settings.leader_election, settings.log_format) == (5, False, "text")
    assert settings.lease_namespace == "system"


def test_every_fault_is_named_at_once() -> None:
    """Somebody who mistypes three variables starts the process once to learn of it."""
    environment = {
        f"{PREFIX}WORKERS": "0",
        f"{PREFIX}HTTP_PORT": "eighty",
        f"{PREFIX}LEADER_ELECTION": "maybe",
        f"{PREFIX}DRAIN_SECONDS": "nan",
        f"{PREFIX}LOG_LEVEL": "loud",
        f"{PREFIX}IDENTITY": " ",
        f"{PREFIX}LEASE_NAME": "Not Valid",
    }
    with pytest.raises(UserError) as caught:
        OperatorSettings.from_env(environment)
    for word in ("workers", "HTTP_PORT", "LEADER_ELECTION", "DRAIN_SECONDS", "log_level", "identity", "lease_name"):
        assert word in str(caught.value)


def test_every_field_can_be_set_by_a_variable() -> None:
    """A new field of a type without parser would be a crash at start."""
    assert {str(item.type) for item in OperatorSettings.__dataclass_fields__.values()} <= PARSERS.keys()
