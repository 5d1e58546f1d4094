"""Progress on standard error: one line that rewrites itself on a terminal, a line now and then in a log."""

from __future__ import annotations

import re
import sys
import time
from typing import Self

_LOG_INTERVAL_SECONDS = 10.0
_NUMBERS = re.compile(r"\d+")


class ProgressLine:
    """Shows what is being done; use it as a context, so that the line is finished whatever happens."""

    def __init__(self) -> None:
        """Find out whether somebody watches."""
        self._terminal = sys.stderr.isatty()
        self._kind = ""
        self._next = 0.0
        self._open = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the line."""
        if self._open:
            print(file=sys.stderr)

    def __call__(self, text: str) -> None:
        """Show what is being done now; in a log, lines that differ in numbers only come at most every ten seconds."""
        kind = _NUMBERS.sub("", text)
        now = time.monotonic()
        if self._terminal:
            # A step that comes anew gets a line of its own; the counting of one step stays on one line.
            start = "\n" if self._open and kind.split(":")[0] != self._kind.split(":")[0] else "\r\033[K"
            print(f"{start}{text}", end="", file=sys.stderr, flush=True)
            self._open = True
        elif kind != self._kind or now >= self._next:
            print(text, file=sys.stderr, flush=True)
            self._next = now + _LOG_INTERVAL_SECONDS
        self._kind = kind
