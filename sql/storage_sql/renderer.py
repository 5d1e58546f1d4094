"""Render SQL templates strictly: a value that is not marked as identifier or literal raises.

A marked value is quoted when it is rendered, so a template author can neither forget the quotes
nor double them. Values can not carry a dollar-quote tag of the template either, since that would
end a function's body early.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError

IDENTIFIER_BYTES_MAX = 63
_DOLLAR_TAG = re.compile(r"\$[A-Za-z_]*[A-Za-z0-9_]*\$")


class RenderError(ValueError):
    """A template was given a value that it must not put into SQL."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name that is rendered in double quotes."""

    name: str

    def __str__(self) -> str:
        """Return the name, quoted."""
        return '"' + self.name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant that is rendered as an SQL literal."""

    value: str | int | bool | None

    def __str__(self) -> str:
        """Return the constant as SQL."""
        match self.value:
            case None:
                return "NULL"
            case bool():
                return "true" if self.value else "false"
            case int():
                return str(self.value)
            case str():
                quoted = "'" + self.value.replace("'", "''") + "'"
        # A backslash means itself only with standard_conforming_strings; E'' means the same always.
        return " E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


Marked = Identifier | Literal
Value = Marked | bool | Sequence["Value"] | Mapping[str, "Value"]


def ident(name: object) -> Identifier:
    """Mark a name as an identifier; refuse what PostgreSQL would cut, drop or misread."""
    if not isinstance(name, str):
        message = f"an identifier is text, not {type(name).__name__}"
        raise RenderError(message)
    if not name:
        message = "an identifier is never empty"
        raise RenderError(message)
    _refuse_controls(name)
    if len(name.encode()) > IDENTIFIER_BYTES_MAX:
        message = f"longer than {IDENTIFIER_BYTES_MAX} bytes, PostgreSQL would cut it: {name!r}"
        raise RenderError(message)
    return Identifier(name)


def literal(value: object) -> Literal:
    """Mark a constant as a literal."""
    match value:
        case str():
            _refuse_controls(value)
            return Literal(value)
        case None | bool() | int():
            return Literal(value)
    message = f"a literal is text, an integer, a boolean or None, not {type(value).__name__}"
    raise RenderError(message)


def render(template: str, **marked: Value) -> str:
    """Render template text; only marked values may reach the output, booleans may steer it."""
    tags = set(_DOLLAR_TAG.findall(template))
    for name, value in marked.items():
        _check(name, value, tags)
    try:
        return str(_compiled(template).render(**marked))
    except UndefinedError as fault:
        raise RenderError(str(fault)) from fault


def render_file(name: str, **marked: Value) -> str:
    """Render a template that ships with this package, such as `templates/bootstrap.sql`."""
    return render(resources.files("storage_sql").joinpath(name).read_text(encoding="utf-8"), **marked)


def _refuse_controls(text: str) -> None:
    if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        message = f"control characters are never part of a name or constant: {text!r}"
        raise RenderError(message)
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        message = f"not encodable as UTF-8: {text!r}"
        raise RenderError(message) from fault


def _check(name: str, value: object, tags: set[str]) -> None:
    match value:
        case bool():
            return
        case list():
            for item in value:
                _check(name, item, tags)
        case Identifier() | Literal():
            if any(tag in str(value) for tag in tags):
                message = f"{name} holds a dollar quote of the template: {value}"
                raise RenderError(message)
        case dict():
            for item in value.values():
                _check(name, item, tags)
        case _:
            message = f"{name} is not marked: wrap it in ident() or literal()"
            raise RenderError(message)


def _only_marked(value: Any) -> str:
    if isinstance(value, Identifier | Literal):
        return str(value)
    message = f"a template may only render marked values, not {type(value).__name__}"
    raise RenderError(message)


_ENVIRONMENT = Environment(
    autoescape=False,  # noqa: S701 - SQL, quoted by the marks; HTML escaping would corrupt it
    undefined=StrictUndefined,
    finalize=_only_marked,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    comment_start_string="{##",
    comment_end_string="##}",
)


@cache
def _compiled(template: str) -> Any:
    return _ENVIRONMENT.from_string(template)
