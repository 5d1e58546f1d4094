"""Seeds of the simulation: after any history the world converges, and no door opens to the wrong tenant."""

from __future__ import annotations

import pytest

from tests.reconcile.simulation import check, simulated

STEPS = 30


async def _run(seeds: range) -> None:
    for seed in seeds:
        with simulated(seed) as simulation:
            try:
                await simulation.run(STEPS)
                check(simulation)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("block", range(10))
async def test_every_history_converges(block: int) -> None:
    """Twenty seeds a block; the message of a failure names the seed that replays it."""
    await _run(range(block * 20, block * 20 + 20))


@pytest.mark.full
@pytest.mark.parametrize("block", range(20))
async def test_many_more_histories_converge(block: int) -> None:
    """The long run: a hundred seeds a block."""
    await _run(range(1000 + block * 100, 1100 + block * 100))


async def test_one_seed_replays() -> None:
    """The same seed tells the same story twice."""
    logs = []
    for _ in range(2):
        with simulated(7) as simulation:
            await simulation.run(STEPS)
            logs.append(simulation.log)
    assert logs[0] == logs[1]
    assert any("crashed" in line for line in logs[0])
