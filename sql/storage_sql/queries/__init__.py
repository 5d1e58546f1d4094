"""The library's statements for PostgreSQL: one file a store, each statement under its name with typed parameters; pure.

A file holds statements of this form, which ``load`` reads::

    -- name: get
    -- in: key text
    SELECT value FROM {{ schema }}.kv_store WHERE tenant_id = :tenant AND key = :key

``:name`` is a parameter of the PostgreSQL type that the header gives; ``:tenant`` (text) is always there. ``-- plan: custom``
has the server plan the statement with its values each time, which a partial index on one tenant needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any, Final

from storage_sql.renderer import Identifier, Literal, Marked, render

__all__ = ["Compiled", "Query", "compile_query", "load"]

_HEADER: Final = re.compile(r"-- (name|in|plan): (.*)")
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")
_VARIANTS_MAX: Final = 20_000
_TYPE: Final = re.compile(r"(text|bytea|bigint|float8|float4|boolean|timestamptz|uuid|jsonb|vector)(\[\])?")


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """One statement. Compared by identity, so that it is a key of every cache."""

    name: str
    text: str
    types: Mapping[str, str]
    prepared: bool = True
    marks: Mapping[str, Marked | bool] = field(default_factory=dict)
    clauses: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    variants: dict[tuple[tuple[str, str, Marked | bool], ...], Query] = field(default_factory=dict, repr=False)
    spelled: dict[tuple[Any, ...], Query] = field(default_factory=dict, repr=False)
    """The same variants by the marks as callers write them, which is the faster way to find one."""

    def variant(self, **marks: Marked | bool) -> Query:
        """Return the statement with flags and names of its template settled; the same marks give the same object."""
        spelling = (*marks, *marks.values())
        known = self.spelled.get(spelling)
        if known is not None:
            return known
        key = tuple(sorted((name, type(mark).__name__, mark) for name, mark in marks.items()))
        if key not in self.variants:
            # 1 equals True and would take its place in the cache.
            odd = [name for name, mark in marks.items() if type(mark) not in {bool, Identifier, Literal}]
            if odd or len(self.variants) >= _VARIANTS_MAX:
                raise ValueError(f"{self.name}: marks are flags and names, and a statement has few variants: {odd}")
            self.variants[key] = replace(self, marks={**self.marks, **marks}, variants={}, spelled={})
        self.spelled[spelling] = self.variants[key]
        return self.variants[key]

    def with_clause(self, name: str, sql: str, parameters: Mapping[str, tuple[str, Any]]) -> Query:
        """Return the statement, never prepared, with ``sql`` in place of ``/* name */`` and its parameters' values.

        ``sql`` is made by a compiler of ours and holds no value; ``parameters`` maps a name to type and value.
        """
        slot = f"/* {name} */"
        if slot not in self.text:
            raise ValueError(f"{self.name} has no clause {name!r}")
        types = {**self.types, **{parameter: kind for parameter, (kind, _) in parameters.items()}}
        values = {**self.values, **{parameter: value for parameter, (_, value) in parameters.items()}}
        clauses = {**self.clauses, slot: sql}
        return replace(self, types=types, prepared=False, clauses=clauses, values=values, variants={}, spelled={})


@dataclass(frozen=True, slots=True)
class Compiled:
    """A statement as the wire wants it: ``$1`` for the first of ``parameters``, and so on."""

    text: str
    parameters: tuple[tuple[str, str], ...]


def load(store: str) -> Mapping[str, Query]:
    """Return the statements of one store by name.

    >>> sorted(load("kv")["value"].types)
    ['key']
    """
    return _load(store)


def compile_query(query: Query, names: Mapping[str, Marked]) -> Compiled:
    """Render a statement with an installation's names and number its parameters."""
    wanted = {**names, **query.marks} if query.marks else names
    rendered = render(query.text, **wanted)
    # After rendering: templates are kept for ever, and filters are as many as their users' questions.
    for slot, clause in query.clauses.items():
        rendered = rendered.replace(slot, clause)
    order: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return f"${order.setdefault(found[1], len(order) + 1)}"

    text = _PARAMETER.sub(number, rendered)
    types = {"tenant": "text", **query.types}
    missing = [name for name in order if name not in types]
    if missing:
        raise ValueError(f"{query.name}: parameters without a type: {', '.join(missing)}")
    return Compiled(text, tuple((name, types[name]) for name in order))


@cache
def _load(store: str) -> Mapping[str, Query]:
    source = resources.files("storage_sql").joinpath("queries", f"{store}.sql").read_text("utf-8")
    found: dict[str, Query] = {}
    for block in re.split(r"(?m)^(?=-- name: )", source)[1:]:
        query = _parse(store, block)
        if query.name in found:
            raise ValueError(f"{query.name} stands twice in {store}.sql")
        found[query.name] = query
    return {name.partition(".")[2]: query for name, query in found.items()}


def _parse(store: str, block: str) -> Query:
    header: dict[str, str] = {}
    lines = block.splitlines()
    while lines and (entry := _HEADER.fullmatch(lines[0])):
        header[entry[1]] = entry[2].strip()
        lines.pop(0)
    name = f"{store}.{header['name']}"
    types: dict[str, str] = {}
    for entry_text in filter(None, header.get("in", "").split(",")):
        parameter, _, kind = entry_text.strip().partition(" ")
        if not _TYPE.fullmatch(kind):
            raise ValueError(f"{name}: {parameter} has the type {kind!r}, which no encoder knows")
        types[parameter] = kind
    if header.get("plan", "custom") != "custom":
        raise ValueError(f"{name}: plan is custom or not given")
    text = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
    return Query(name, text.strip().removesuffix(";"), types, "plan" not in header)
