"""What a snapshot of the stores in memory is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["SNAPSHOT_BYTES_MAX", "Snapshot"]

SNAPSHOT_BYTES_MAX: Final = 1 << 36
"""Bytes of a snapshot that are read unless another bound is given: 64 GiB."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was written to a snapshot, or taken from one."""

    tenants: tuple[str, ...]
    """The tenants, in order; those without rows too."""
    records: int
    """How many rows of them there were."""
    schema_version: int
    """The newest migration that the release which wrote it knew."""
