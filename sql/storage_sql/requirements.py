"""What a server must be before any of this may run on it: releases and extensions; pure.

Bootstrap, the operator and the health check all ask here, so that they can not disagree.
"""

from __future__ import annotations

REQUIRED_EXTENSIONS = ("vector",)
# Minor releases that do not leak planner statistics through row-level security (CVE-2025-8713), by major release.
MINIMUM_SERVERS = {16: 160_010, 17: 170_006, 18: 180_000}
MINIMUM_VECTOR = (0, 8)


def server_fault(version: int) -> str | None:
    """Say what is wrong with a server of this ``server_version_num``; None when it will do."""
    major, minor = divmod(version, 10_000)
    oldest = min(MINIMUM_SERVERS)
    if major < oldest:
        return f"PostgreSQL {major}.{minor} is too old: {_releases()} at least"
    minimum = MINIMUM_SERVERS.get(major, 0)
    if version < minimum:
        return (
            f"PostgreSQL {major}.{minor} is too old, it has known leaks through row-level security: "
            f"update to {major}.{minimum % 10_000} or newer"
        )
    return None


def vector_fault(version: str) -> str | None:
    """Say what is wrong with this release of pgvector; None when it will do."""
    if tuple(int(part) for part in version.split(".")[:2]) >= MINIMUM_VECTOR:
        return None
    return f"vector {version} is too old: {'.'.join(map(str, MINIMUM_VECTOR))} at least"


def _releases() -> str:
    *others, last = (f"{number // 10_000}.{number % 10_000}" for number in MINIMUM_SERVERS.values())
    return f"{', '.join(others)} or {last}"
