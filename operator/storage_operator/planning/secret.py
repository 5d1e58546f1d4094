"""The application's Secret: ready-made values, and what of an existing one is right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from storage_operator.planning.tenant import ObservedSecret
from storage_operator.resources.tenant import MODE_KEY, SCHEMA_KEY, SecretKeys


@dataclass(frozen=True, slots=True)
class Target:
    """Where applications connect to: the server, and the pooler when there is one."""

    host: str
    port: int
    dbname: str
    sslmode: str
    ca: bytes | None = field(default=None, repr=False)
    pooler_host: str | None = None
    pooler_port: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """One tenant's way in: its login (role mode), or the shared one with a capability (sealed mode)."""

    tenant: str
    user: str
    password: str = field(repr=False)
    schema: str
    capability: str | None = field(default=None, repr=False)

    @property
    def mode(self) -> str:
        """``role`` or ``sealed``, as the Secret says it."""
        return "role" if self.capability is None else "sealed"


def dsn(host: str, port: int, target: Target, access: Access) -> str:
    """Return a libpq URI; every part is percent-encoded, an IPv6 address is bracketed, a socket folder is a parameter."""
    login = f"{quote(access.user, safe='')}:{quote(access.password, safe='')}"
    options = {"sslmode": target.sslmode}
    if host.startswith("/"):
        return (
            f"postgresql://{login}@/{quote(target.dbname, safe='')}?{_options({'host': host, 'port': port, **options})}"
        )
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    return f"postgresql://{login}@{place}:{port}/{quote(target.dbname, safe='')}?{_options(options)}"


def _options(options: Mapping[str, object]) -> str:
    """Encode parameters for libpq, which knows %20 and takes a plus for a plus."""
    return urlencode(options, quote_via=quote)


def application_secret(target: Target, access: Access, keys: SecretKeys) -> dict[str, bytes]:
    """Return every value of the Secret under the keys that the manifest names."""
    values = {
        keys.host: target.host,
        keys.port: str(target.port),
        keys.dbname: target.dbname,
        keys.user: access.user,
        keys.password: access.password,
        keys.dsn: dsn(target.host, target.port, target, access),
        keys.tenant_id: access.tenant,
        keys.sslmode: target.sslmode,
        MODE_KEY: access.mode,
        SCHEMA_KEY: access.schema,
    }
    if target.pooler_host is not None and target.pooler_port is not None:
        values[keys.pooled_dsn] = dsn(target.pooler_host, target.pooler_port, target, access)
    if access.capability is not None:
        values[keys.capability] = access.capability
    data = {name: value.encode() for name, value in values.items()}
    if target.ca is not None:
        data[keys.ca] = target.ca
    return data


def observe_secret(
    data: Mapping[str, bytes],
    wanted: Mapping[str, bytes],
    keys: SecretKeys,
    *,
    sealed: bool,
    former: str | None = None,
) -> ObservedSecret:
    """Reduce a Secret to what planning needs.

    ``wanted`` is what it should hold given the credential that it carries; in sealed mode the credential is the
    capability, whose version stands before its first dot; ``former`` is the genuine one before the current.
    """
    user = data.get(keys.user)
    if sealed:
        capability = data.get(keys.capability, b"").decode("utf-8", "replace")
        issued = capability.removeprefix("v").partition(".")[0] or None
        genuine = {wanted.get(keys.capability, b""), (former or "").encode()} - {b""}
        issued = issued if data.get(keys.capability) in genuine else None
    else:
        password = data.get(keys.password)
        issued = None if password is None else hashlib.sha256(password).hexdigest()
    return ObservedSecret(
        user=None if user is None else user.decode("utf-8", "replace"),
        digest=issued,
        current=dict(data) == dict(wanted),
    )
