"""Leaving out of documents what must not be stored: by path, or by a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from storagelib.documents import Json, canonical
from storagelib.errors import InvalidInput
from storagelib.limits import check_batch, check_text

__all__ = ["REDACTED", "Redaction", "redacted"]

REDACTED: Final = "[redacted]"
"""What stands where something was left out."""

Redaction = Iterable[str | tuple[str, ...]] | Callable[[str, Json], Json]
"""Paths such as ``"input.user.password"``, or a function that gets a part's name and value and returns its new value."""

_PATHS_MAX: Final = 1000
_PATH_MAX: Final = 4096
_WORDS_MAX: Final = 256
_ANY, _DEEP = "*", "**"


def redacted(parts: Mapping[str, Json], redact: Redaction) -> dict[str, Json]:
    """Return canonical copies of named parts with everything left out that ``redact`` names.

    A path begins with a part's name. Its further words are keys or places in a list; ``*`` is any one of them, ``**``
    any number of them. A tuple of words is for keys that hold dots. A path that leads nowhere does nothing. Up to 1,000 paths
    of 256 words each are taken.

    >>> redacted({"input": {"user": {"name": "a", "password": "b"}, "token": "c"}}, ["input.**.password", "input.token"])
    {'input': {'user': {'name': 'a', 'password': '[redacted]'}, 'token': '[redacted]'}}
    >>> redacted({"input": [{"key": 1}, {"key": 2}]}, ["input.*.key"])
    {'input': [{'key': '[redacted]'}, {'key': '[redacted]'}]}
    """
    copies = {name: canonical(value, name) for name, value in parts.items()}
    if callable(redact):
        return {name: canonical(redact(name, value), name) for name, value in copies.items()}
    for path in _paths(redact, parts):
        copies[path[0]] = _without(copies[path[0]], path[1:], {0})
    return copies


def _paths(redact: Iterable[str | tuple[str, ...]], parts: Mapping[str, Json]) -> list[tuple[str, ...]]:
    listed = check_batch("redact", redact)
    if len(listed) > _PATHS_MAX:
        raise _fault(f"has {len(listed)} paths, at most {_PATHS_MAX} fit")
    paths: list[tuple[str, ...]] = []
    for given in listed:
        words: Any = tuple(check_text("redact", given, most=_PATH_MAX).split(".")) if isinstance(given, str) else given
        if not isinstance(words, tuple) or not words or not all(isinstance(word, str) for word in words):
            raise _fault("a path is text, or a tuple of its words")
        if words[0] not in parts:
            raise _fault(f"a path begins with one of {', '.join(parts)}, not with {words[0]!a}")
        if len(words) > _WORDS_MAX:
            raise _fault(f"a path has {len(words)} words, at most {_WORDS_MAX} fit")
        paths.append(words)
    return paths


def _without(value: Json, path: tuple[str, ...], at: set[int]) -> Json:
    """Leave out what ``path`` names, when the words before each of the places ``at`` have led here."""
    places = set(at)
    for place in at:
        ahead = place
        while ahead < len(path) and path[ahead] == _DEEP:
            ahead += 1
            places.add(ahead)
    if len(path) in places:
        return None if value is None else REDACTED
    deep = {place for place in places if path[place] == _DEEP}
    onward = places - deep

    def inside(key: str, inner: Json) -> Json:
        following = deep | {place + 1 for place in onward if path[place] in (_ANY, key)}
        return _without(inner, path, following) if following else inner

    return _each(value, inside)


def _each(value: Json, change: Callable[[str, Json], Json]) -> Json:
    if isinstance(value, dict):
        return {key: change(key, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [change(str(place), inner) for place, inner in enumerate(value)]
    return value


def _fault(fault: str) -> InvalidInput:
    return InvalidInput("the argument cannot be used", [f"redact: {fault}"])
