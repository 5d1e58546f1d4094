"""What a snapshot of the stores in memory is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["SNAPSHOT_BYTES_MAX", "ByteSink", "ByteSource", "Snapshot"]

SNAPSHOT_BYTES_MAX: Final = 1 << 36
"""Bytes of a snapshot that are read unless another bound is given: 64 GiB."""


class ByteSink(Protocol):
    """What a snapshot is written to: a file that is open for bytes, or anything that can do this."""

    def write(self, data: bytes, /) -> int | None:
        """Take bytes; return how many were taken."""
        ...


class ByteSource(Protocol):
    """What a snapshot is read from: a file that is open for bytes, or anything that can do this."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line with its line feed, or its first ``size`` bytes; nothing at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written to a snapshot, or taken from one."""

    tenants: tuple[str, ...]
    """The tenants, in order; those without rows too."""
    records: int
    """How many rows of them there were."""
    schema_version: int
    """The newest migration that the release which wrote it knew."""
