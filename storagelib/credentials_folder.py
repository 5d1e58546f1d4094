"""The Secrets of several tenants in one folder: a mounted Secret or a JSON file for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from storagelib.credentials import Credentials
from storagelib.errors import InvalidInput, PermissionDenied
from storagelib.limits import check_tenant_id
from storagelib.secret_keys import SecretKeys

__all__ = ["CredentialsFolder"]


class CredentialsFolder:
    """Finds a tenant's Secret by the tenant that it names, whatever the file is called; reads it anew each time.

    Entries are folders, as Secrets are mounted, and files that end in ``.json``, as ``llmspell apply --credentials``
    writes them. What is no Secret of a tenant is left alone.
    """

    def __init__(self, folder: str | os.PathLike[str], keys: SecretKeys | None = None) -> None:
        """Take the folder, and how the Secrets name their keys."""
        self._folder = Path(folder)
        self._keys = keys
        self._places: dict[str, Path] = {}

    def of(self, tenant_id: str) -> Credentials:
        """Return a tenant's credentials as they are now.

        Raises ``PermissionDenied`` when there are none, ``InvalidInput`` when two Secrets name the tenant or the folder
        cannot be read.
        """
        check_tenant_id(tenant_id)
        place = self._places.get(tenant_id)
        found = None if place is None else self._read(place)
        if found is None or found.tenant_id != tenant_id:
            # It moved, it is new, or another took its place.
            unread = self._look()
            place = self._places.get(tenant_id)
            found = None if place is None else self._read(place)
            if found is None or found.tenant_id != tenant_id:
                hint = f"; {unread} entries are no Secrets of a tenant" if unread else ""
                raise PermissionDenied(f"the folder of credentials has none for this tenant{hint}")
        return found

    def tenants(self) -> list[str]:
        """Return the tenants that the folder has credentials for, in order."""
        self._look()
        return sorted(self._places)

    def _look(self) -> int:
        """Learn which entry is whose; return how many could not be read."""
        places: dict[str, Path] = {}
        twice: list[str] = []
        unread = 0
        for place in self._entries():
            found = self._read(place)
            if found is None:
                unread += 1
            elif found.tenant_id in places:
                twice.append(f"{place.name}: names the tenant of {places[found.tenant_id].name}")
            else:
                places[found.tenant_id] = place
        if twice:
            raise InvalidInput("the folder of credentials is wrong", twice)
        self._places = places
        return unread

    def _entries(self) -> Iterator[Path]:
        try:
            entries = sorted(self._folder.iterdir())
        except OSError as error:
            raise InvalidInput(
                "the folder of credentials cannot be read", [f"{self._folder}: {error.strerror}"]
            ) from error
        return (entry for entry in entries if entry.suffix == ".json" or (entry.is_dir() and entry.name[0] != "."))

    def _read(self, place: Path) -> Credentials | None:
        try:
            return Credentials.from_secret(place, keys=self._keys)
        except InvalidInput:
            return None
