r"""Typed filters over JSON documents: parsed once, then matched in Python or in SQL with the same answer.

A filter is an object. A key without ``$`` is a path and its value a condition or, as a shorthand for ``$eq``, a value;
several keys, and several operators under one path, must all hold. ``{}`` matches everything.

>>> wanted = parse({"kind": "note", "size": {"$gte": 10, "$lt": 100}, "$not": {"tags.draft": True}})
>>> matches(wanted, {"kind": "note", "size": 10.0})
True
>>> matches(wanted, {"kind": "note", "size": "10"})
False

**Paths.** ``a.b`` is the key ``b`` of the object under the key ``a``. A backslash takes the next ``.``, ``$`` or backslash
as it is: the path ``a\.b`` is the one key ``a.b``, and ``\$x`` the key ``$x``. Paths go through objects only, never into
arrays. Every other path is *missing*.

**Types.** A value is null, a boolean, a number, a text, an array or an object; values of different types are never equal
and never in order. Numbers compare by what they are worth, exactly (``1`` equals ``1.0``, ``2**53 + 1`` does not equal
``2.0**53``), texts by code points, booleans with booleans. Arrays and objects are equal when all they hold is; the order
of keys does not matter. What an operand may be is what a document may be (``storagelib.documents``).

**Operators.**

- ``$eq``: there is a value and it equals the operand; ``$eq: null`` matches null only, not what is missing.
- ``$in``: there is a value and it equals one of up to 1,000 operands; an empty list matches nothing. An array in the
  document is compared as a whole, its elements are not looked at.
- ``$gt``, ``$gte``, ``$lt``, ``$lte``: the operand is a number or a text; the value is of the same type and in this order.
  What is missing, null, or of another type never matches.
- ``$between``: two numbers or two texts; both ends belong to it.
- ``$like-prefix``: the value is a text that begins with the operand, letter by letter; nothing in it is special.
- ``$exists``: ``true`` matches any value, null included; ``false`` matches what is missing.
- ``$ne``, ``$nin``, ``$not``: match exactly what ``$eq``, ``$in`` and the negated condition do not: what is missing, null,
  or of another type too. ``$not`` stands under a path before a condition, and alone before a filter.
- ``$and``, ``$or``: a list of at least one filter.

There is no third truth value: a filter matches a document or it does not, and its negation says the opposite.
"""

from __future__ import annotations

from storagelib.filters.evaluation import equal, matches
from storagelib.filters.parsing import parse
from storagelib.filters.postgres import to_postgres
from storagelib.filters.sqlite import json_meets, json_same, to_sqlite
from storagelib.filters.tree import And, Compare, Equals, Exists, Filter, Not, OneOf, Or, Path, StartsWith

__all__ = [
    "And",
    "Compare",
    "Equals",
    "Exists",
    "Filter",
    "Not",
    "OneOf",
    "Or",
    "Path",
    "StartsWith",
    "equal",
    "json_meets",
    "json_same",
    "matches",
    "parse",
    "to_postgres",
    "to_sqlite",
]
