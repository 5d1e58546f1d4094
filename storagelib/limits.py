"""The limits that every backend keeps alike, and the checks that raise ``InvalidInput`` before any I/O.

Lengths of text are characters; PostgreSQL, SQLite and memory count them the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeVar

from storage_sql.roles import TENANT_PATTERN
from storagelib.errors import InvalidInput

__all__ = [
    "BATCH_BYTES_MAX",
    "BATCH_MAX",
    "DIMENSION_MAX",
    "DOCUMENT_BYTES_MAX",
    "ID_MAX",
    "INTEGER_MAX",
    "INTEGER_MIN",
    "KEY_MAX",
    "METADATA_BYTES_MAX",
    "NAME_MAX",
    "PAGE_DEFAULT",
    "PAGE_MAX",
    "VALUE_BYTES_MAX",
    "check_batch",
    "check_bytes",
    "check_flag",
    "check_integer",
    "check_mapping",
    "check_one_of",
    "check_page_size",
    "check_scope",
    "check_tags",
    "check_tenant_id",
    "check_text",
    "check_time",
    "check_ttl",
]

Item = TypeVar("Item")

ID_MAX: Final = 255
"""Characters of an id that the caller gives, and of a scope."""
KEY_MAX: Final = 500
"""Characters of a key of the key-value store, and of a pattern's key."""
NAME_MAX: Final = 500
"""Characters of a display name."""
METADATA_BYTES_MAX: Final = 1 << 20
"""Bytes of metadata, as UTF-8 JSON."""
DOCUMENT_BYTES_MAX: Final = 64 << 20
"""Bytes of a document (a state, a session, a payload), as UTF-8 JSON."""
VALUE_BYTES_MAX: Final = 256 << 20
"""Bytes of one value of the key-value store; larger things are artifacts."""
BATCH_MAX: Final = 100_000
"""Items of one call that takes many; longer input goes in several calls."""
BATCH_BYTES_MAX: Final = 256 << 20
"""Bytes of the values of one call that writes many."""
PAGE_DEFAULT: Final = 100
"""Items of a page when the caller does not say."""
PAGE_MAX: Final = 10_000
"""Items of a page at most."""
DIMENSION_MAX: Final = 16_000
"""Dimensions of a vector."""
INTEGER_MAX: Final = 2**63 - 1
"""The largest whole number that a column or a document holds."""
INTEGER_MIN: Final = -INTEGER_MAX - 1
"""The smallest one."""


def check_tenant_id(tenant_id: object) -> str:
    """Return a tenant id; 3 to 255 of ``a-z``, ``0-9`` and ``-``.

    >>> check_tenant_id("acme")
    'acme'
    """
    if not isinstance(tenant_id, str) or not TENANT_PATTERN.fullmatch(tenant_id):
        raise InvalidInput("the tenant cannot be used", ["tenant_id: must be 3 to 255 of a-z, 0-9 and -"])
    return tenant_id


def check_text(name: str, value: object, *, most: int = ID_MAX, least: int = 1) -> str:
    """Return a text of ``least`` to ``most`` characters that every backend can hold: no NUL, no lone surrogate.

    >>> check_text("key", "a/b")
    'a/b'
    """
    if not isinstance(value, str):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be text, not {type(value).__name__}"])
    if not least <= len(value) <= most:
        fault = "is empty" if not value else f"must have {least} to {most} characters, not {len(value)}"
        raise InvalidInput("the argument cannot be used", [f"{name}: {fault}"])
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInput("the argument cannot be used", [f"{name}: holds a lone surrogate"]) from None
    if "\0" in value:
        raise InvalidInput("the argument cannot be used", [f"{name}: holds a NUL character"])
    return value


def check_scope(scope: object) -> str:
    """Return a scope: at most 255 characters, ``""`` for none."""
    return check_text("scope", scope, least=0)


def check_bytes(name: str, value: object, *, most: int = VALUE_BYTES_MAX) -> bytes:
    """Return bytes, at most ``most``; a ``bytearray`` or ``memoryview`` is copied, because its owner may change it."""
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    if not isinstance(value, bytes):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be bytes, not {type(value).__name__}"])
    if len(value) > most:
        raise InvalidInput("the argument cannot be used", [f"{name}: has {len(value)} bytes, at most {most} fit"])
    return value


def check_flag(name: str, value: object) -> bool:
    """Return ``True`` or ``False``; numbers and other things that count as one are refused.

    >>> check_flag("exact", True)
    True
    """
    if not isinstance(value, bool):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be True or False"])
    return value


def check_integer(name: str, value: object, *, least: int = INTEGER_MIN, most: int = INTEGER_MAX) -> int:
    """Return a whole number from ``least`` to ``most``; ``True`` is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a whole number"])
    if not least <= value <= most:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be from {least} to {most}"])
    return value


def check_page_size(limit: object) -> int:
    """Return the size of a page, 1 to 10,000."""
    return check_integer("limit", limit, least=1, most=PAGE_MAX)


def check_batch(name: str, items: Iterable[Item]) -> list[Item]:
    """Return the items of a batch as a list of at most 100,000; a text is not taken for its letters."""
    if isinstance(items, str | bytes):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be several items, not one text"])
    try:
        iterator = iter(items)
    except TypeError:
        fault = f"{name}: must be several items, not {type(items).__name__}"
        raise InvalidInput("the argument cannot be used", [fault]) from None
    # One more than fits tells enough, also of what has no end.
    listed = list(islice(iterator, BATCH_MAX + 1))
    if len(listed) > BATCH_MAX:
        raise InvalidInput("the argument cannot be used", [f"{name}: has more items than the {BATCH_MAX} that fit"])
    return listed


def check_mapping(name: str, value: object) -> Mapping[Any, Any]:
    """Return a mapping; None is the empty one. What it holds is looked at by who asks for it."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a mapping, not {type(value).__name__}"])
    return value


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags, sorted and once each: at most 100 of 1 to 255 characters."""
    listed = check_batch("tags", tags)
    if len(listed) > 100:  # noqa: PLR2004 - stands where it is told
        raise InvalidInput("the argument cannot be used", [f"tags: has {len(listed)} items, at most 100 fit"])
    return tuple(sorted({check_text("tags", tag) for tag in listed}))


def check_one_of(name: str, value: object, choices: Collection[str]) -> str:
    """Return a value that is one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be one of {', '.join(choices)}"])
    return value


def check_time(name: str, value: object) -> datetime:
    """Return a moment in UTC; one without a time zone is refused, because nobody can say which moment it is."""
    if not isinstance(value, datetime):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a datetime, not {type(value).__name__}"])
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidInput("the argument cannot be used", [f"{name}: has no time zone; datetime.now(UTC) has one"])
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidInput("the argument cannot be used", [f"{name}: is outside the years 1 to 9999"]) from None


def check_ttl(name: str, value: object, *, least: timedelta = timedelta.resolution) -> timedelta:
    """Return a time to live: more than nothing, or at least ``least``, at most 100 years; a number counts seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise InvalidInput("the argument cannot be used", [f"{name}: is no duration"]) from None
    if not isinstance(value, timedelta):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be seconds or a timedelta"])
    if not least <= value <= timedelta(days=36_525):
        bound = f"at least {least.total_seconds():g} seconds" if least != timedelta.resolution else "more than 0"
        raise InvalidInput("the argument cannot be used", [f"{name}: must be {bound} and at most 100 years"])
    return value
