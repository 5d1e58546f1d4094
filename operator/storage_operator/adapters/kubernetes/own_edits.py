"""Which edits of objects were our own: what we wrote and deleted, until the watch has told it back; pure.

A watch tells edits in their order, but late: of two writes, the first may be told after the second was sent. So what was
written is kept as a queue, and an edit that stands in it is ours, with all before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["Address", "OwnEdits"]

Address = tuple[str, str]
"""Namespace and name."""

# Where nobody watches, nothing is ever told back.
_DELETIONS_MAX: Final = 10_000
_CONTENTS_MAX: Final = 16


class OwnEdits:
    """Contents by fingerprint and deletions by uid; the first fingerprint of an address is what is known to be there."""

    def __init__(self) -> None:
        """Know nothing."""
        self._written: dict[Address, list[bytes]] = {}
        # Where the watch has told the first content of the queue; elsewhere all of them are only expected.
        self._told: set[Address] = set()
        self._deleted: dict[str, str] = {}

    def write(self, address: Address, content: bytes) -> None:
        """Expect a content; said before it is sent, because the watch may be faster than the answer."""
        contents = self._written.setdefault(address, [])
        contents.append(content)
        if len(contents) > _CONTENTS_MAX:
            del contents[:-_CONTENTS_MAX]
            self._told.discard(address)

    def failed(self, address: Address, content: bytes) -> None:
        """Expect it no longer: the write was refused. What the watch has told stays known, though it is the same."""
        contents = self._written.get(address, [])
        expected = contents[1:] if address in self._told else contents
        if content in expected:
            # The last of equal ones is the one that was refused.
            del contents[len(contents) - 1 - contents[::-1].index(content)]
        if not contents:
            self._forget(address)

    def delete(self, address: Address, uid: str) -> None:
        """Expect that an object goes; said before it is sent."""
        self._forget(address)
        self._deleted[uid] = address[0]
        if len(self._deleted) > _DELETIONS_MAX:
            del self._deleted[next(iter(self._deleted))]

    def kept(self, uid: str) -> None:
        """Expect the deletion no longer: it was refused, or there was nothing to delete."""
        self._deleted.pop(uid, None)

    def knows(self, address: Address) -> bool:
        """Tell whether an object is there, or about to be."""
        return address in self._written

    def is_deleted(self, uid: str) -> bool:
        """Tell whether what is said of this object is late news of one that we deleted."""
        return uid in self._deleted

    def seen(self, address: Address, content: bytes) -> bool:
        """Tell whether a content that the watch saw is somebody else's; what is seen first is only learned."""
        contents = self._written.setdefault(address, [content])
        self._told.add(address)
        if content in contents:
            del contents[: contents.index(content)]
            return False
        # What we sent behind the known content may still be on its way.
        contents[0] = content
        return True

    def gone(self, address: Address, uid: str | None) -> bool:
        """Tell whether somebody else deleted an object; without a uid, one that a list no longer has."""
        if uid is not None and self._deleted.pop(uid, None) is not None:
            return False
        return self._forget(address)

    def deleted_in(self, namespace: str | None) -> list[str]:
        """Return the uids of deletions that were not told back yet, of one namespace or (None) of all."""
        return [uid for uid, place in self._deleted.items() if namespace in (None, place)]

    def settle(self, uids: Iterable[str]) -> None:
        """Forget deletions that a list has overtaken: the watch that follows it will not tell them."""
        for uid in uids:
            self._deleted.pop(uid, None)

    def _forget(self, address: Address) -> bool:
        """Know nothing of an address any more; tell whether anything was known."""
        self._told.discard(address)
        return self._written.pop(address, None) is not None
