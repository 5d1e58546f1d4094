"""Walks over a graph that is seen one step at a time: breadth first, and the shortest way between two entities; pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from storagelib.components.graph import Direction, Link
from storagelib.errors import InvalidInput

__all__ = ["VISITED_MAX", "breadth_first", "shortest_path"]

VISITED_MAX: Final = 100_000
"""Entities that the search for one path may visit."""

_AGAINST: Final[dict[Direction, Direction]] = {"out": "in", "in": "out", "both": "both"}


def breadth_first(
    step: Callable[[list[UUID]], Iterable[Link]], start: UUID, depth: int, limit: int
) -> list[tuple[int, Link]]:
    """Return up to ``limit`` depths and links, each entity once: nearest first, then by id, by the least relationship."""
    seen, frontier, found = {start}, [start], list[tuple[int, Link]]()
    for level in range(1, depth + 1):
        nearest = _nearest(step(frontier), seen)
        frontier = sorted(nearest)[: limit - len(found)]
        if not frontier:
            break
        seen.update(frontier)
        found.extend((level, nearest[far]) for far in frontier)
    return found


@dataclass(slots=True)
class _Side:
    """What is known from one end: how each entity was come to, and what was come to last."""

    direction: Direction
    frontier: list[UUID]
    reached: dict[UUID, Link | None] = field(default_factory=dict)


def shortest_path(
    start: UUID, goal: UUID, depth: int, direction: Direction
) -> Generator[tuple[list[UUID], Direction], list[Link], list[Link] | None]:
    """Yield steps to take, from both ends, and return the links of a shortest way as they were walked, or None.

    Links of the second half were walked from the goal: their near end is the one nearer to the goal. Which of several
    ways is returned depends on the graph alone. Raises ``InvalidInput`` when more is visited than ``VISITED_MAX``.
    """
    if start == goal:
        return []
    ahead = _Side(direction, [start], {start: None})
    behind = _Side(_AGAINST[direction], [goal], {goal: None})
    for _ in range(depth):
        side, other = (ahead, behind) if len(ahead.frontier) <= len(behind.frontier) else (behind, ahead)
        links = yield side.frontier, side.direction
        fresh = _nearest(links, side.reached)
        side.reached.update(fresh)
        met = sorted(fresh.keys() & other.reached.keys())
        if met:
            return [*reversed(_back(ahead, met[0])), *_back(behind, met[0])]
        side.frontier = sorted(fresh)
        if not fresh:
            return None
        if len(ahead.reached) + len(behind.reached) > VISITED_MAX:
            raise InvalidInput(
                "the path cannot be found",
                [f"depth: more than {VISITED_MAX} entities lie between; narrow types or depth"],
            )
    return None


def _nearest(links: Iterable[Link], seen: Container[UUID]) -> dict[UUID, Link]:
    nearest: dict[UUID, Link] = {}
    for link in links:
        known = nearest.get(link.far)
        if link.far not in seen and (known is None or link.relationship_id < known.relationship_id):
            nearest[link.far] = link
    return nearest


def _back(side: _Side, met: UUID) -> list[Link]:
    """Return the links from where two sides met to this side's end."""
    links, link = [], side.reached[met]
    while link is not None:
        links.append(link)
        link = side.reached[link.near]
    return links
