# Made from storagelib/_async/kv.py by scripts/sync; change that file instead.
"""Keys and binary values with expiry, versions and counters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Protocol

from storagelib._sync.listings import each_item
from storagelib.components.kv import Characteristics, Entry, NewEntry
from storagelib.documents import Document, check_metadata
from storagelib.errors import Conflict, InvalidInput
from storagelib.limits import (
    BATCH_BYTES_MAX,
    BATCH_MAX,
    KEY_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    check_batch,
    check_bytes,
    check_integer,
    check_mapping,
    check_page_size,
    check_text,
    check_ttl,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["KV", "KVBackend"]


class KVBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    An expired entry counts as absent everywhere, and reading changes nothing.
    """

    def characteristics(self) -> Characteristics:
        """Say what this backend promises."""
        ...

    def value(self, key: str) -> bytes | None:
        """Return the value of a live entry."""
        ...

    def entries(self, keys: list[str]) -> list[Entry]:
        """Return the live entries among these keys, in any order."""
        ...

    def put(self, items: list[NewEntry]) -> list[int]:
        """Write entries whose keys differ, all or none; return their versions in the same order."""
        ...

    def put_if_absent(self, item: NewEntry) -> bool:
        """Write an entry unless a live one is there; tell whether it was written."""
        ...

    def compare_and_set(self, item: NewEntry, expected: int) -> int | None:
        """Write an entry if the live one has this version; return the new version, or None."""
        ...

    def increment(self, key: str, by: int) -> int:
        """Add to a decimal counter, which keeps its metadata and expiry; return its new value."""
        ...

    def delete(self, keys: list[str]) -> int:
        """Remove entries; count those that were live."""
        ...

    def clear(self, prefix: str) -> int:
        """Remove the entries whose keys begin with ``prefix``; count those that were live."""
        ...

    def list_keys(self, prefix: str, after: str | None, limit: int) -> list[str]:
        """Return up to ``limit`` live keys greater than ``after``, in order of their code points."""
        ...

    def purge_expired(self, limit: int) -> int:
        """Remove up to ``limit`` entries that have expired; count them."""
        ...


class KV:
    """The key-value store of one tenant: keys of 1 to 500 characters, values of up to 256 MiB.

    An expired entry is never seen, by no verb; it is removed when it is overwritten and by ``purge_expired``.
    Every verb raises ``InvalidInput`` before any I/O for arguments that no backend could keep.

    >>> from storagelib import Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         kv = store.for_tenant("acme").kv
    ...         kv.set("greeting", b"hello", ttl=3600, metadata={"by": "ada"})
    ...         print(kv.get("greeting"), kv.get("farewell"))
    ...         print(kv.increment("visits"), kv.increment("visits", 5))
    ...         print((kv.list_keys("g")).items)
    >>> example()
    b'hello' None
    1 6
    ('greeting',)
    """

    def __init__(self, backend: KVBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    def characteristics(self) -> Characteristics:
        """Say what the backend promises: persistence, sharing, the largest value."""
        return self._backend.characteristics()

    def get(self, key: str) -> bytes | None:
        """Return the value under a key, or None."""
        return self._backend.value(check_text("key", key, most=KEY_MAX))

    def get_entry(self, key: str) -> Entry | None:
        """Return value, metadata, version and times under a key, or None."""
        found = self._backend.entries([check_text("key", key, most=KEY_MAX)])
        return found[0] if found else None

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the values that are there, by key, in the order asked for; up to 100,000 keys."""
        asked = _keys(keys)
        found = {entry.key: entry.value for entry in self._backend.entries(asked)} if asked else {}
        return {key: found[key] for key in asked if key in found}

    def exists(self, key: str) -> bool:
        """Tell whether there is a value under a key."""
        return self.get_entry(key) is not None

    def set(
        self, key: str, value: bytes, *, ttl: float | timedelta | None = None, metadata: Document | None = None
    ) -> int:
        """Write a value and return its version; ``ttl`` (seconds) makes it expire, none makes it stay.

        Metadata and expiry of an entry that was there are replaced too.
        """
        (version,) = self._backend.put([_new(key, value, ttl, metadata)])
        return version

    def set_many(self, values: Mapping[str, bytes], *, ttl: float | timedelta | None = None) -> dict[str, int]:
        """Write up to 100,000 values of together at most 256 MiB, all or none; return their versions by key."""
        given = check_batch("values", check_mapping("values", values).items())
        items = [_new(key, value, ttl, None) for key, value in given]
        size = sum(len(item.value) for item in items)
        if size > BATCH_BYTES_MAX:
            fault = f"values: have {size} bytes together, at most {BATCH_BYTES_MAX} fit"
            raise InvalidInput("the argument cannot be used", [fault])
        versions = self._backend.put(items) if items else []
        return {item.key: version for item, version in zip(items, versions, strict=True)}

    def put_if_absent(
        self, key: str, value: bytes, *, ttl: float | timedelta | None = None, metadata: Document | None = None
    ) -> bool:
        """Write a value unless there is one already; tell whether it was written. Of many callers one wins."""
        return self._backend.put_if_absent(_new(key, value, ttl, metadata))

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        *,
        expected_version: int,
        ttl: float | timedelta | None = None,
        metadata: Document | None = None,
    ) -> int:
        """Write a value if the entry still has ``expected_version``; return the new version.

        Raises ``Conflict`` when it has another version or is gone. Versions begin at 1 again once the entry was deleted
        or purged: a version read before that may fit a later entry.
        """
        item = _new(key, value, ttl, metadata)
        version = self._backend.compare_and_set(item, check_integer("expected_version", expected_version, least=1))
        if version is None:
            raise Conflict(f"the entry does not have version {expected_version} (any more)")
        return version

    def increment(self, key: str, by: int = 1) -> int:
        """Add to a counter and return its new value; an absent one counts from 0.

        The value is kept as decimal digits; another value under the key is ``InvalidInput``, as is a total outside 64 bits.
        """
        return self._backend.increment(check_text("key", key, most=KEY_MAX), check_integer("by", by))

    def delete(self, key: str) -> bool:
        """Remove an entry; tell whether it was there."""
        return self._backend.delete([check_text("key", key, most=KEY_MAX)]) == 1

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove up to 100,000 entries, all or none; count those that were there."""
        asked = _keys(keys)
        return self._backend.delete(asked) if asked else 0

    def clear(self, prefix: str = "") -> int:
        """Remove every entry of this tenant whose key begins with ``prefix``; count those that were there."""
        return self._backend.clear(check_text("prefix", prefix, least=0, most=KEY_MAX))

    def list_keys(self, prefix: str = "", *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the keys that begin with ``prefix``, in order of their code points."""
        check_page_size(limit)
        position = position_of(cursor, str)
        after = None if position is None else position[0]
        found = self._backend.list_keys(check_text("prefix", prefix, least=0, most=KEY_MAX), after, limit + 1)
        return page_of(found, limit)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Go through all keys that begin with ``prefix``, page by page."""
        return each_item(self.list_keys, prefix, limit=PAGE_MAX)

    def purge_expired(self, *, limit: int = BATCH_MAX) -> int:
        """Remove entries that have expired, to win back their space; count them."""
        return self._backend.purge_expired(check_integer("limit", limit, least=1, most=BATCH_MAX))


def _keys(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(check_text("keys", key, most=KEY_MAX) for key in check_batch("keys", keys)))


def _new(key: str, value: bytes, ttl: float | timedelta | None, metadata: Document | None) -> NewEntry:
    return NewEntry(
        check_text("key", key, most=KEY_MAX),
        check_bytes("value", value),
        check_metadata(metadata),
        None if ttl is None else check_ttl("ttl", ttl).total_seconds(),
    )
