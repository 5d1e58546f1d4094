r"""Patterns that narrow which tenant ids a namespace may claim, matched in linear time.

A pattern comes from a manifest and is matched for every tenant, so that one that makes a backtracking matcher
run for hours (``(a+)+``) would stop the operator. This module therefore compiles a subset of RE2 to a
nondeterministic automaton and follows all its states at once: at most states times length steps, both bounded.

The subset: characters, ``.``, classes (``[a-z0-9-]``, ``[^x]``), ``\d`` and ``\w``, escaped punctuation, groups
``(...)`` and ``(?:...)``, ``|``, ``*``, ``+``, ``?``, ``{m}``, ``{m,}``, ``{m,n}``, ``^`` and ``$``.
A pattern must match the whole id, with or without anchors.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_LENGTH", "PatternError", "TenantIdPattern"]

MAX_LENGTH: Final = 128
"""The longest pattern, in characters."""
_MAX_STATES: Final = 4_000
_MAX_REPEAT: Final = 255
_MAX_DEPTH: Final = 16

_TOO_BIG: Final = f"its repeats expand to more than {_MAX_STATES} states"
_EVERY: Final = (1 << 128) - 1
_SPECIAL: Final = frozenset("*+?{}()|[]\\")


def _mask(characters: str) -> int:
    return sum(1 << ord(character) for character in set(characters))


_ESCAPES: Final = {"d": _mask(string.digits), "w": _mask(string.ascii_letters + string.digits + "_")}


class PatternError(ValueError):
    """The text is not a pattern of the subset; the message says why."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A piece of the pattern: characters (mask), an anchor, a sequence, an alternative or a repeat."""

    op: str
    mask: int = 0
    parts: tuple[_Node, ...] = ()
    least: int = 0
    most: int | None = None


class _Parser:
    """Recursive descent over the text; the depth of groups is bounded."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            self._refuse("unbalanced )")
        return node

    def _refuse(self, why: str) -> None:
        message = f"{why} at position {self._at}"
        raise PatternError(message)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._peek()
        if not character:
            self._refuse("unexpected end")
        self._at += 1
        return character

    def _alternatives(self) -> _Node:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Node("either", parts=tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated())
        return _Node("sequence", parts=tuple(parts))

    def _repeated(self) -> _Node:
        node = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return node
        if self._peek() == "?":  # Lazy or greedy makes no difference to whether the whole id matches.
            self._at += 1
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            self._refuse("a repeat of a repeat")
        return _Node("repeat", parts=(node,), least=bounds[0], most=bounds[1])

    def _bounds(self) -> tuple[int, int | None] | None:
        simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
        character = self._peek()
        if character in simple:
            self._at += 1
            return simple[character]
        if character != "{":
            return None
        end = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not _is_count(low) or (high and not _is_count(high)):
            self._refuse("not a repeat count")
        least = int(low)
        most = int(high) if high else (None if comma else least)
        if least > _MAX_REPEAT or (most is not None and (most > _MAX_REPEAT or most < least)):
            self._refuse(f"a repeat count must rise and end at {_MAX_REPEAT}")
        self._at = end + 1
        return least, most

    def _atom(self) -> _Node:
        character = self._take()
        if character in ("^", "$"):
            return _Node("begin" if character == "^" else "end")
        if character == ".":
            return _Node("characters", mask=_EVERY)
        if character == "(":
            return self._group()
        if character == "[":
            return _Node("characters", mask=self._class())
        if character == "\\":
            return _Node("characters", mask=self._escape())
        if character in _SPECIAL:
            self._at -= 1
            self._refuse(f"unexpected {character}")
        return _Node("characters", mask=self._literal(character))

    def _group(self) -> _Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            self._refuse(f"more than {_MAX_DEPTH} nested groups")
        if self._peek() == "?":
            if not self._text.startswith("?:", self._at):
                self._refuse("only plain groups and (?: are supported")
            self._at += 2
        node = self._alternatives()
        if self._peek() != ")":
            self._refuse("a group is not closed")
        self._at += 1
        self._depth -= 1
        return node

    def _class(self) -> int:
        negated = self._peek() == "^"
        self._at += negated
        mask = 0
        first = True
        while first or self._peek() != "]":
            first = False
            mask |= self._class_item()
        self._at += 1
        return _EVERY & ~mask if negated else mask

    def _class_item(self) -> int:
        character = self._take()
        if character == "\\":
            return self._escape()
        low = self._literal(character)
        following = self._text[self._at + 1 : self._at + 2]
        if self._peek() != "-" or following in ("", "]"):
            return low
        self._at += 1
        high = self._take()
        if high in ("\\", "[") or ord(high) < ord(character):
            self._refuse("not a range")
        return (self._literal(high) << 1) - low

    def _escape(self) -> int:
        character = self._take()
        if character in _ESCAPES:
            return _ESCAPES[character]
        if character.isalnum() or character == "_":
            self._refuse(f"the escape {character} is not supported")
        return self._literal(character)

    def _literal(self, character: str) -> int:
        if not " " <= character <= "~":
            self._refuse("only printable ASCII is supported")
        return 1 << ord(character)


def _is_count(text: str) -> bool:
    return 0 < len(text) <= 3 and text.isascii() and text.isdigit()  # noqa: PLR2004


class _Automaton:
    """Thompson's construction: state i has characters, or epsilon moves, or an anchor before its moves."""

    def __init__(self) -> None:
        self.masks: list[int] = []
        self.moves: list[tuple[int, ...]] = []
        self.anchors: list[str] = []
        self._steps = 0

    def state(self, *moves: int, mask: int = 0, anchor: str = "") -> int:
        if len(self.masks) >= _MAX_STATES:
            raise PatternError(_TOO_BIG)
        self.masks.append(mask)
        self.moves.append(moves)
        self.anchors.append(anchor)
        return len(self.masks) - 1

    def build(self, node: _Node, following: int) -> int:
        """Add the states of a node that go on to ``following``; return where it begins."""
        # Steps count as well as states: a repeated empty group adds none, and nested ones multiply.
        self._steps += 1
        if self._steps > 2 * _MAX_STATES:
            raise PatternError(_TOO_BIG)
        if node.op == "characters":
            return self.state(following, mask=node.mask)
        if node.op in ("begin", "end"):
            return self.state(following, anchor=node.op)
        if node.op == "either":
            return self.state(*(self.build(part, following) for part in node.parts))
        if node.op == "sequence":
            for part in reversed(node.parts):
                following = self.build(part, following)
            return following
        return self._repeat(node, following)

    def _repeat(self, node: _Node, following: int) -> int:
        part = node.parts[0]
        start = following
        if node.most is None:
            start = self.state()
            self.moves[start] = (self.build(part, start), following)
        else:
            for _ in range(node.most - node.least):
                start = self.state(self.build(part, start), following)
        for _ in range(node.least):
            start = self.build(part, start)
        return start

    def closure(self, states: set[int], *, at_begin: bool, at_end: bool) -> set[int]:
        """Follow the moves that take no character."""
        seen = set(states)
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            anchor = self.anchors[state]
            if self.masks[state] or (anchor == "begin" and not at_begin) or (anchor == "end" and not at_end):
                continue
            fresh = [move for move in self.moves[state] if move not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return seen


class TenantIdPattern:
    """A compiled pattern; two are equal when their texts are."""

    __slots__ = ("_automaton", "_start", "text")

    _ACCEPT: Final = 0

    def __init__(self, text: str) -> None:
        """Compile the pattern; PatternError says what is not supported."""
        if not text or len(text) > MAX_LENGTH:
            message = f"a pattern has 1 to {MAX_LENGTH} characters"
            raise PatternError(message)
        self.text = text
        self._automaton = _Automaton()
        self._automaton.state()
        self._start = self._automaton.build(_Parser(text).parse(), self._ACCEPT)

    def matches(self, tenant_id: str) -> bool:
        """Tell whether the whole id matches."""
        automaton = self._automaton
        end = len(tenant_id)
        states = automaton.closure({self._start}, at_begin=True, at_end=end == 0)
        for position, character in enumerate(tenant_id, start=1):
            code = ord(character)
            if code >= 128:  # noqa: PLR2004 - the masks cover ASCII, and so do tenant ids
                return False
            reached = {automaton.moves[state][0] for state in states if automaton.masks[state] >> code & 1}
            if not reached:
                return False
            states = automaton.closure(reached, at_begin=False, at_end=position == end)
        return self._ACCEPT in states

    def __eq__(self, other: object) -> bool:
        """Compare by text."""
        return isinstance(other, TenantIdPattern) and self.text == other.text

    def __hash__(self) -> int:
        """Hash by text."""
        return hash(self.text)

    def __repr__(self) -> str:
        """Show the text."""
        return f"TenantIdPattern({self.text!r})"
