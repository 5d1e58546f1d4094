# Made from storagelib/_async/state_scopes.py by scripts/sync; change that file instead.
"""Small state in scopes: global, or of one user, session, agent, workflow, hook, or something of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from storagelib import documents
from storagelib.documents import Json, check_document
from storagelib.errors import InvalidInput
from storagelib.limits import ID_MAX, KEY_MAX, PAGE_DEFAULT, check_batch, check_mapping, check_text
from storagelib.pages import Page

if TYPE_CHECKING:
    from storagelib._sync.kv import KV
    from storagelib._sync.store import Tenant

__all__ = ["StateScope", "StateScopes"]

_ROOT: Final = "state"


class StateScopes:
    """The scopes of one tenant, over its key-value store: keys there begin with ``state:``, which is theirs.

    ``scopes = StateScopes(store.for_tenant("acme"))``, then ``scopes.user("ada").set("theme", "dark")``. Scopes never
    see each other, whatever their ids and keys hold, and need not be made before they are used.

    >>> from storagelib import StateScopes, Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         scopes = StateScopes(store.for_tenant("acme"))
    ...         scopes.user("ada").set("theme", "dark")
    ...         print(scopes.user("ada").get("theme"), scopes.session("ada").get("theme"))
    >>> example()
    dark None
    """

    def __init__(self, tenant: Tenant) -> None:
        """Take the tenant's handle."""
        self._kv = tenant.kv

    @property
    def everywhere(self) -> StateScope:
        """The global scope: one for the whole tenant."""
        return StateScope(self._kv, "global", "")

    def user(self, user_id: str) -> StateScope:
        """Return the scope of a user."""
        return StateScope(self._kv, "user", _checked(user_id))

    def session(self, session_id: str) -> StateScope:
        """Return the scope of a session."""
        return StateScope(self._kv, "session", _checked(session_id))

    def agent(self, agent_id: str) -> StateScope:
        """Return the scope of an agent."""
        return StateScope(self._kv, "agent", _checked(agent_id))

    def workflow(self, workflow_id: str) -> StateScope:
        """Return the scope of a workflow."""
        return StateScope(self._kv, "workflow", _checked(workflow_id))

    def hook(self, hook_id: str) -> StateScope:
        """Return the scope of a hook."""
        return StateScope(self._kv, "hook", _checked(hook_id))

    def custom(self, name: str) -> StateScope:
        """Return a scope of one's own.

        ``tenant:acme`` is ``InvalidInput``: a tenant is chosen by ``for_tenant``, never by a scope.
        """
        if _checked(name).startswith("tenant:"):
            raise InvalidInput("the scope cannot be used", ["name: a tenant is chosen by for_tenant, not by a scope"])
        return StateScope(self._kv, "custom", name)


class StateScope:
    """Keys and JSON values of one scope; a key and the scope's id together have up to about 480 characters."""

    def __init__(self, kv: KV, kind: str, scope_id: str) -> None:
        """Take the key-value store and which scope this is."""
        self._kv = kv
        # Escaped, so that no id reaches into another scope's keys.
        escaped = scope_id.replace("%", "%25").replace(":", "%3A")
        self._prefix = f"{_ROOT}:{kind}:{escaped}:"

    def get(self, key: str, default: Json = None) -> Json:
        """Return a value, or the default."""
        found = self._kv.get(self._key(key))
        return default if found is None else documents.decode(found)

    def get_all(self) -> dict[str, Json]:
        """Return all values by key, in order of the keys' code points."""
        found: dict[str, Json] = {}
        cursor: str | None = None
        while True:
            page = self._kv.list_keys(self._prefix, cursor=cursor)
            values = self._kv.get_many(page)
            found |= {key[len(self._prefix) :]: documents.decode(value) for key, value in values.items()}
            cursor = page.cursor
            if cursor is None:
                return found

    def set(self, key: str, value: Json, *, ttl: float | timedelta | None = None) -> None:
        """Write a value; ``ttl`` (seconds) makes it expire."""
        self._kv.set(self._key(key), check_document(value, "value").encode(), ttl=ttl)

    def set_many(self, values: Mapping[str, Json]) -> None:
        """Write several values, all or none."""
        given = check_batch("values", check_mapping("values", values).items())
        self._kv.set_many({self._key(key): check_document(value, "values").encode() for key, value in given})

    def exists(self, key: str) -> bool:
        """Tell whether there is a value."""
        return self._kv.exists(self._key(key))

    def delete(self, key: str) -> bool:
        """Remove a value; tell whether it was there."""
        return self._kv.delete(self._key(key))

    def list_keys(self, prefix: str = "", *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the keys that begin with ``prefix``, in order of their code points."""
        page = self._kv.list_keys(self._key(prefix, least=0), cursor=cursor, limit=limit)
        return Page(tuple(key[len(self._prefix) :] for key in page), page.cursor)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Go through all keys that begin with ``prefix``."""
        for key in self._kv.keys(self._key(prefix, least=0)):
            yield key[len(self._prefix) :]

    def clear(self) -> int:
        """Remove everything of this scope; count the values."""
        return self._kv.clear(self._prefix)

    def _key(self, key: str, least: int = 1) -> str:
        most = KEY_MAX - len(self._prefix)
        if most < 1:
            raise InvalidInput("the scope cannot be used", ["id: is too long once its colons are escaped"])
        return self._prefix + check_text("key", key, least=least, most=most)


def _checked(scope_id: str) -> str:
    return check_text("id", scope_id, most=ID_MAX)
