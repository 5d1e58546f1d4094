"""What words a text has, how well texts answer words, and how two rankings become one; pure.

All backends take terms from here and store them beside the content, so that the rows that match are the same everywhere.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from typing import Final

__all__ = ["QUERY_TERMS_MAX", "TERM_MAX", "matching", "ranked", "stored", "terms_of"]

TERM_MAX: Final = 255
"""Characters of a term; a longer word is known by its beginning."""
QUERY_TERMS_MAX: Final = 64
"""Different words of a question; more are left out."""

# PostgreSQL keeps at most 1 MiB of words for a text.
_BYTES_MAX: Final = 500_000
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+")
_WORD_CATEGORIES: Final = frozenset("LNM")
# Scripts without spaces: each character is a word.
_IDEOGRAPHS: Final = (
    (0x2E80, 0x2FDF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def terms_of(text: str, most: int | None = None) -> list[str]:
    """Return the different words of a text, sorted: NFKC, case folded, letters, digits and marks.

    Characters of Han and Kana are words of their own. ``most`` keeps the first so many.

    >>> terms_of("The ﬁsh, the FISH! Straße 42")
    ['42', 'fish', 'strasse', 'the']
    """
    kept: dict[str, None] = {}
    room = _BYTES_MAX
    for word in _words(text):
        term = word[:TERM_MAX]
        if term in kept:
            continue
        room -= len(term.encode())
        if room < 0 or (most is not None and len(kept) == most):
            break
        kept[term] = None
    return sorted(kept)


def stored(content: str | None) -> str | None:
    """Return the terms of a content as one text, a space around each: what a column keeps; None for no content.

    >>> stored("b a b")
    ' a b '
    """
    if content is None:
        return None
    found = terms_of(content)
    return f" {' '.join(found)} " if found else " "


def matching(kept: str | None, wanted: Iterable[str]) -> list[str]:
    """Return the wanted terms that a stored text of terms has."""
    return [] if kept is None else [term for term in wanted if f" {term} " in kept]


def ranked(hits: Mapping[str, Collection[str]]) -> dict[str, tuple[int, float]]:
    """Return rank (1 is best, equals share one) and score of every id, from the terms that it matches.

    A term counts the more the fewer rows have it: ``ln(1 + rows / rows with the term)``, of the rows that match at all.

    >>> ranked({"a": ["zebra"], "b": ["the"], "c": ["the"]})["a"]
    (1, 1.386294361)
    """
    frequency: dict[str, int] = {}
    for found in hits.values():
        for term in found:
            frequency[term] = frequency.get(term, 0) + 1
    worth = {term: math.log(1 + len(hits) / count) for term, count in frequency.items()}
    scores = {id_: round(math.fsum(worth[term] for term in found), 9) for id_, found in hits.items()}
    places: dict[float, int] = {}
    for place, value in enumerate(sorted(scores.values(), reverse=True), start=1):
        places.setdefault(value, place)
    return {id_: (places[value], value) for id_, value in scores.items()}


def _words(text: str) -> list[str]:
    folded = (
        text.lower()
        if text.isascii()
        else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    )
    if folded.isascii():
        return _ASCII_WORD.findall(folded)
    return "".join(_spaced(character) for character in folded).split()


def _spaced(character: str) -> str:
    if character.isascii():
        return character if character.isalnum() else " "
    if unicodedata.category(character)[0] not in _WORD_CATEGORIES:
        return " "
    code = ord(character)
    return f" {character} " if any(first <= code <= last for first, last in _IDEOGRAPHS) else character
