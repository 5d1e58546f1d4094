"""Split SQL text into statements, for drivers and files that run them one at a time; pure."""

from __future__ import annotations

import re
from functools import lru_cache

_TOKEN = re.compile(
    r"""--[^\n]*
    |/\*.*?\*/
    |(?:[Ee])'(?:[^'\\]|\\.|'')*'
    |'(?:[^']|'')*'
    |"(?:[^"]|"")*"
    |\$(?P<tag>[A-Za-z_]*[A-Za-z0-9_]*)\$.*?\$(?P=tag)\$
    |\bBEGIN\b|\bCASE\b|\bEND\b
    |;
    |[A-Za-z_][A-Za-z0-9_$]*
    |.""",
    re.DOTALL | re.VERBOSE | re.IGNORECASE,
)


# As many as one release has files: a process that opens many SQLite files reads each text once.
@lru_cache(maxsize=64)
def split(sql: str) -> tuple[str, ...]:
    """Return the statements without their semicolons; comments alone are no statement.

    A SQLite trigger body (CREATE TRIGGER … BEGIN … END) stays whole.
    """
    statements: list[str] = []
    pieces: list[str] = []
    words: list[str] = []
    depth = 0
    for token in _TOKEN.finditer(sql):
        text = token.group()
        upper = text.upper()
        if text == ";" and depth == 0:
            _finish(pieces, words, statements)
            continue
        if upper in {"BEGIN", "CASE", "END"} and words[:1] == ["CREATE"] and "TRIGGER" in words:
            depth += -1 if upper == "END" else 1
        if text.startswith(("--", "/*")):
            pieces.append("\n" if text.startswith("--") else " ")
            continue
        if not text.isspace():
            words.append(upper)
        pieces.append(text)
    _finish(pieces, words, statements)
    return tuple(statements)


def _finish(pieces: list[str], words: list[str], statements: list[str]) -> None:
    if words:
        statements.append("".join(pieces).strip())
    pieces.clear()
    words.clear()
