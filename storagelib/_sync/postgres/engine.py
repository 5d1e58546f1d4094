# Made from storagelib/_async/postgres/engine.py by scripts/sync; change that file instead.
"""Which login serves which tenant: one pool in the common case, a bounded number of them behind a provider of credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storagelib._sync.postgres.database import Database, Login
from storagelib.backends import class_of
from storagelib.blocking import Lock
from storagelib.config import PostgresConfig
from storagelib.credentials import Credentials
from storagelib.errors import PermissionDenied, StorageError, Unavailable

__all__ = ["PostgresEngine", "Provider"]

Provider = Callable[[str], Credentials]
"""Gives the credentials of a tenant, or raises ``PermissionDenied``; called again for every new connection."""

Key = tuple[str, ...]

_PREFIX = Database.__name__.removesuffix("Database")


class PostgresEngine:
    """All tenants that this process has credentials for."""

    def __init__(self, config: PostgresConfig, provider: Provider | None = None) -> None:
        """Take the configuration; a provider takes the place of the credentials that the configuration names."""
        self._config = config
        self._provide = config.credentials_of if provider is None else provider
        self._several = provider is not None or config.credentials is None
        self._logins: dict[Key, Login] = {}
        self._of_tenants: dict[str, tuple[Key, Credentials]] = {}
        self._opening: dict[Key, Lock] = {}
        self._closed = False
        self.prepares = config.pooler == "none"

    def open(self) -> PostgresEngine:
        """Open the one pool, so that a wrong configuration is told now; pools of several tenants open when asked for."""
        if self._config.credentials is not None:
            self.login(self._config.credentials.tenant_id)
        return self

    def close(self) -> None:
        """Close all pools."""
        self._closed = True
        while self._logins:
            # Another may close one at the same time, to keep their number bounded.
            login = self._logins.pop(next(iter(list(self._logins)), ()), None)
            if login is not None:
                login.close()

    def check_tenant(self, tenant_id: str) -> None:
        """Refuse a tenant that the one set of credentials is not for, before any I/O."""
        credentials = self._config.credentials
        if not self._several and credentials is not None and credentials.tenant_id != tenant_id:
            raise PermissionDenied(
                "these credentials belong to another tenant; several tenants need a credentials provider"
            )

    def backend(self, store: str, tenant_id: str) -> Any:
        """Return one tenant's backend of one store."""
        kind = class_of(f"{__package__}", f"{_PREFIX}Postgres", store)
        return kind(Database(self, tenant_id, store))

    def known(self, tenant_id: str) -> Login | None:
        """Return the pool of a tenant's login if it is open."""
        known = self._of_tenants.get(tenant_id)
        return None if known is None else self._logins.get(known[0])

    def login(self, tenant_id: str) -> Login:
        """Return the pool of a tenant's login, opened when it is asked for first."""
        return self.known(tenant_id) or self._open_login(tenant_id)

    def gateway(self) -> tuple[Login, str]:
        """Return the login that knows no tenant yet, and a tenant that it serves.

        That is the shared login of sealed mode, or the one login that there is. Raises ``PermissionDenied`` where each
        tenant has a login of its own.
        """
        credentials = self._config.credentials
        if credentials is not None and (credentials.mode == "sealed" or not self._several):
            return self.login(credentials.tenant_id), credentials.tenant_id
        for tenant_id, (key, known) in list(self._of_tenants.items()):
            login = self._logins.get(key)
            if known.mode == "sealed" and login is not None:
                return login, tenant_id
        raise PermissionDenied(
            "each tenant has a login of its own here: to look over all tenants, open the store with the shared login"
        )

    def capability(self, tenant_id: str) -> str | None:
        """Return what enters a tenant in sealed mode."""
        return self._of_tenants[tenant_id][1].capability

    def renew_capability(self, tenant_id: str) -> bool:
        """Ask for a tenant's credentials again; tell whether its capability has changed."""
        key, before = self._of_tenants[tenant_id]
        after = self._credentials(tenant_id)
        self._of_tenants[tenant_id] = (key, after)
        return after.capability != before.capability

    def _credentials(self, tenant_id: str) -> Credentials:
        found = self._provide(tenant_id)
        if found.tenant_id != tenant_id:
            raise PermissionDenied("the provider gave the credentials of another tenant")
        return found

    def _any_credentials(self, key: Key, tenant_id: str) -> Credentials:
        """Return what opens a login: of the tenant that first asked, or of any other that shares it."""
        sharing = [tenant for tenant, (known, _) in list(self._of_tenants.items()) if known == key]
        refusal: StorageError | None = None
        for tenant in dict.fromkeys([tenant_id, *reversed(sharing)]):
            try:
                return self._credentials(tenant)
            except StorageError as error:
                refusal = refusal or error
        raise refusal or PermissionDenied("there are no credentials for this tenant")

    def _open_login(self, tenant_id: str) -> Login:
        credentials = self._credentials(tenant_id)
        key = _key(credentials)
        # A lock for each login: a server that does not answer keeps nobody else waiting.
        with self._opening.setdefault(key, Lock()):
            self._check_open()
            login = self._logins.get(key)
            if login is None:
                login = Login(lambda: self._any_credentials(key, tenant_id), self._config)
                login.open()
                self._logins[key] = login
                self._bound(key)
            self._of_tenants[tenant_id] = (key, credentials)
        try:
            self._check_open()
        except Unavailable:
            login.close()
            raise
        return login

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed")

    def _bound(self, newest: Key) -> None:
        """Close the pools longest unused, the busy ones excepted, until there are as few as allowed.

        Several may do so at once. Who was given a pool that is closed before it is used asks again.
        """
        for key, login in sorted(self._logins.items(), key=lambda item: item[1].used_at):
            if len(self._logins) <= self._config.pools_max:
                return
            if key != newest and not login.busy() and self._logins.pop(key, None) is not None:
                login.close()


def _key(credentials: Credentials) -> Key:
    """Tell logins apart: whose password differs only is the same one, rotated; in role mode each tenant has its own."""
    return (
        credentials.host,
        str(credentials.port),
        credentials.dbname,
        credentials.user,
        credentials.schema,
        credentials.sslmode,
        credentials.mode,
        credentials.tenant_id if credentials.mode == "role" else "",
    )
