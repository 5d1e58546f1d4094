"""Names of the PostgreSQL roles of one installation; pure, every name at most 63 bytes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTALLATION_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
INSTALLATION_LENGTH = 8
INSTALLATION_PATTERN = re.compile(f"[{INSTALLATION_ALPHABET}]{{{INSTALLATION_LENGTH}}}")
SHARD_COUNT = 64
# What a tenant may be called, on every backend and in every manifest.
TENANT_PATTERN = re.compile(r"[a-z0-9-]{3,255}")
COMMENT_PREFIX = "llmspell-storage"
LOGIN_SLOTS = ("a", "b")


@dataclass(frozen=True, slots=True)
class RoleNames:
    """All role names of an installation, derived from its id so that two never meet on a server."""

    installation: str

    def __post_init__(self) -> None:
        """Refuse an id that bootstrap could not have made."""
        if not INSTALLATION_PATTERN.fullmatch(self.installation):
            message = f"not an installation id (8 characters of a-z, 2-7): {self.installation!r}"
            raise ValueError(message)

    @property
    def owner(self) -> str:
        """Owner of the schema and of every object in it; no login."""
        return f"llmspell_{self.installation}"

    @property
    def maintenance(self) -> str:
        """The role that sees the rows of all tenants; no login."""
        return f"{self.owner}_maintenance"

    @property
    def operator(self) -> str:
        """The operator's own login."""
        return f"{self.owner}_operator"

    @property
    def app(self) -> str:
        """The shared login of tenants in sealed mode."""
        return f"{self.owner}_app"

    @property
    def shards(self) -> tuple[str, ...]:
        """The roles that create tenant logins, so that no single role collects all memberships."""
        return tuple(f"{self.owner}_admin_{number:02d}" for number in range(SHARD_COUNT))

    @property
    def schema_comment(self) -> str:
        """The mark on the schema from which the installation id is read back."""
        return f"{COMMENT_PREFIX} installation={self.installation}"

    def shard(self, tenant: str) -> str:
        """Return the shard that creates the logins of `tenant`."""
        return self.shards[_shard_number(tenant)]

    def tenant_login(self, tenant: str, slot: str) -> str:
        """Return the login role of `tenant` in rotation slot `a` or `b`."""
        if slot not in LOGIN_SLOTS:
            message = f"not a login slot: {slot!r}"
            raise ValueError(message)
        return f"{self.owner}_t_{_digest(tenant)[:24]}_{slot}"

    def store_set(self, stores: Iterable[str]) -> str:
        """Return the role that holds the privileges of exactly these stores."""
        return f"{self.owner}_set_{_digest(','.join(sorted(set(stores))))[:10]}"

    def role_comment(self, purpose: str) -> str:
        """Return the ownership mark of a role with this purpose (`owner`, `tenant`, `set` …)."""
        return f"{COMMENT_PREFIX} {self.installation} {purpose}"

    def store_set_bucket(self, stores: Iterable[str], tenant: str) -> str:
        """Return the role between a tenant's login and its set: granting to a role costs as much as it has members."""
        return f"{self.store_set(stores)}_{_shard_number(tenant):02d}"

    @classmethod
    def from_schema_comment(cls, comment: str | None) -> RoleNames | None:
        """Read the installation from a schema's comment; None when the schema is not ours."""
        marked = re.fullmatch(rf"{COMMENT_PREFIX} installation=({INSTALLATION_PATTERN.pattern})", comment or "")
        return cls(marked[1]) if marked else None


def _shard_number(tenant: str) -> int:
    """One number for shard and bucket: the shard that makes a tenant's logins is the one that grants its bucket."""
    return int(_digest(tenant), 16) % SHARD_COUNT


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
