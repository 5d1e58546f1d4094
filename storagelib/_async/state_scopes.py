"""Small state in scopes: global, or of one user, session, agent, workflow, hook, or something of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from storagelib import documents
from storagelib.documents import Json, check_document
from storagelib.errors import InvalidInput
from storagelib.limits import ID_MAX, KEY_MAX, PAGE_DEFAULT, check_batch, check_mapping, check_text
from storagelib.pages import Page

if TYPE_CHECKING:
    from storagelib._async.kv import AsyncKV
    from storagelib._async.store import AsyncTenant

__all__ = ["AsyncStateScope", "AsyncStateScopes"]

_ROOT: Final = "state"


class AsyncStateScopes:
    """The scopes of one tenant, over its key-value store: keys there begin with ``state:``, which is theirs.

    ``scopes = AsyncStateScopes(store.for_tenant("acme"))``, then ``await scopes.user("ada").set("theme", "dark")``. Scopes never
    see each other, whatever their ids and keys hold, and need not be made before they are used.

    >>> import asyncio
    >>> from storagelib import AsyncStateScopes, AsyncStore, StoreConfig
    >>> async def example() -> None:
    ...     async with await AsyncStore.open(StoreConfig.in_memory()) as store:
    ...         scopes = AsyncStateScopes(store.for_tenant("acme"))
    ...         await scopes.user("ada").set("theme", "dark")
    ...         print(await scopes.user("ada").get("theme"), await scopes.session("ada").get("theme"))
    >>> asyncio.run(example())
    dark None
    """

    def __init__(self, tenant: AsyncTenant) -> None:
        """Take the tenant's handle."""
        self._kv = tenant.kv

    @property
    def everywhere(self) -> AsyncStateScope:
        """The global scope: one for the whole tenant."""
        return AsyncStateScope(self._kv, "global", "")

    def user(self, user_id: str) -> AsyncStateScope:
        """Return the scope of a user."""
        return AsyncStateScope(self._kv, "user", _checked(user_id))

    def session(self, session_id: str) -> AsyncStateScope:
        """Return the scope of a session."""
        return AsyncStateScope(self._kv, "session", _checked(session_id))

    def agent(self, agent_id: str) -> AsyncStateScope:
        """Return the scope of an agent."""
        return AsyncStateScope(self._kv, "agent", _checked(agent_id))

    def workflow(self, workflow_id: str) -> AsyncStateScope:
        """Return the scope of a workflow."""
        return AsyncStateScope(self._kv, "workflow", _checked(workflow_id))

    def hook(self, hook_id: str) -> AsyncStateScope:
        """Return the scope of a hook."""
        return AsyncStateScope(self._kv, "hook", _checked(hook_id))

    def custom(self, name: str) -> AsyncStateScope:
        """Return a scope of one's own.

        ``tenant:acme`` is ``InvalidInput``: a tenant is chosen by ``for_tenant``, never by a scope.
        """
        if _checked(name).startswith("tenant:"):
            raise InvalidInput("the scope cannot be used", ["name: a tenant is chosen by for_tenant, not by a scope"])
        return AsyncStateScope(self._kv, "custom", name)


class AsyncStateScope:
    """Keys and JSON values of one scope; a key and the scope's id together have up to about 480 characters."""

    def __init__(self, kv: AsyncKV, kind: str, scope_id: str) -> None:
        """Take the key-value store and which scope this is."""
        self._kv = kv
        # Escaped, so that no id reaches into another scope's keys.
        escaped = scope_id.replace("%", "%25").replace(":", "%3A")
        self._prefix = f"{_ROOT}:{kind}:{escaped}:"

    async def get(self, key: str, default: Json = None) -> Json:
        """Return a value, or the default."""
        found = await self._kv.get(self._key(key))
        return default if found is None else documents.decode(found)

    async def get_all(self) -> dict[str, Json]:
        """Return all values by key, in order of the keys' code points."""
        found: dict[str, Json] = {}
        cursor: str | None = None
        while True:
            page = await self._kv.list_keys(self._prefix, cursor=cursor)
            values = await self._kv.get_many(page)
            found |= {key[len(self._prefix) :]: documents.decode(value) for key, value in values.items()}
            cursor = page.cursor
            if cursor is None:
                return found

    async def set(self, key: str, value: Json, *, ttl: float | timedelta | None = None) -> None:
        """Write a value; ``ttl`` (seconds) makes it expire."""
        await self._kv.set(self._key(key), check_document(value, "value").encode(), ttl=ttl)

    async def set_many(self, values: Mapping[str, Json]) -> None:
        """Write several values, all or none."""
        given = check_batch("values", check_mapping("values", values).items())
        await self._kv.set_many({self._key(key): check_document(value, "values").encode() for key, value in given})

    async def exists(self, key: str) -> bool:
        """Tell whether there is a value."""
        return await self._kv.exists(self._key(key))

    async def delete(self, key: str) -> bool:
        """Remove a value; tell whether it was there."""
        return await self._kv.delete(self._key(key))

    async def list_keys(self, prefix: str = "", *, cursor: str | None = None, limit: int = PAGE_DEFAULT) -> Page[str]:
        """Return a page of the keys that begin with ``prefix``, in order of their code points."""
        page = await self._kv.list_keys(self._key(prefix, least=0), cursor=cursor, limit=limit)
        return Page(tuple(key[len(self._prefix) :] for key in page), page.cursor)

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """Go through all keys that begin with ``prefix``."""
        async for key in self._kv.keys(self._key(prefix, least=0)):
            yield key[len(self._prefix) :]

    async def clear(self) -> int:
        """Remove everything of this scope; count the values."""
        return await self._kv.clear(self._prefix)

    def _key(self, key: str, least: int = 1) -> str:
        most = KEY_MAX - len(self._prefix)
        if most < 1:
            raise InvalidInput("the scope cannot be used", ["id: is too long once its colons are escaped"])
        return self._prefix + check_text("key", key, least=least, most=most)


def _checked(scope_id: str) -> str:
    return check_text("id", scope_id, most=ID_MAX)
