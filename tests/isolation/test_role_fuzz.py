"""Role mode: whatever SQL a tenant sends through its own session, no neighbour's content comes back or changes."""

from __future__ import annotations

import pytest

from tests.isolation.fuzz import attack, chosen_cases, chosen_seed, shooting_range
from tests.plugins.installation import Installation, installation_on


def test_hostile_sql_reaches_no_neighbour(installation: Installation) -> None:
    """A few hundred seeded cases bring no marker back, change no foreign row and no right."""
    _prove(installation, chosen_cases(400))


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_much_hostile_sql_reaches_no_neighbour(fresh_installation: Installation) -> None:
    """Thousands of cases come to nothing, either."""
    _prove(fresh_installation, chosen_cases(8000))


@pytest.mark.full
@pytest.mark.timeout(900)
def test_hostile_sql_on_the_oldest_server(server16_url: str) -> None:
    """PostgreSQL 16 keeps the same promise."""
    with installation_on(server16_url) as made:
        _prove(made, chosen_cases(2000))


def _prove(installation: Installation, cases: int) -> None:
    seed = chosen_seed()
    print(f"seed {seed}")  # noqa: T201 - pytest shows it with a failure
    with shooting_range(installation, seed) as field:
        finding = attack(field, seed, cases)
        assert finding is None, str(finding)
        assert field.watch.thorough() == field.watch.thorough_state
