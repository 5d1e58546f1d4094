"""Keep PgBouncer's auth_file in its Secret, and know when the pooler lets a new login in."""

from __future__ import annotations

from storage_operator.adapters.postgres.pooler import accepts, auth_file
from storage_operator.errors import Waiting
from storage_operator.planning.secret import Access
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.resources.cluster import Isolation
from storage_operator.world import MANAGED_BY_LABEL, MANAGED_BY_VALUE

AUTH_FILE_KEY = "userlist.txt"
RETRY_SECONDS = 2.0


async def publish_auth_file(context: Context, tended: Tended) -> None:
    """Write the auth_file's Secret in the cluster's namespace when its content differs."""
    pooler = tended.spec.pooler
    body = context.world.get(tended.key)
    if pooler is None or pooler.auth_file_secret_name is None or body is None:
        return
    async with tended.pooler_lock:
        sealed = Isolation.SEALED in tended.spec.tenancy.isolation_modes
        data = {AUTH_FILE_KEY: await auth_file(tended.installation, sealed=sealed)}
        name = pooler.auth_file_secret_name
        existing = await context.world.read_secret(tended.key.namespace, name)
        if existing is not None and dict(existing.data) == data:
            return
        labels = {MANAGED_BY_LABEL: MANAGED_BY_VALUE, "app.kubernetes.io/component": "pooler"}
        await context.world.write_secret(tended.key.namespace, name, data, owner=body, labels=labels, existing=existing)


async def require_pooler(context: Context, tended: Tended, access: Access) -> None:
    """Raise ``Waiting`` until the pooler lets this login in: only then may applications be told of it."""
    if tended.spec.pooler is None:
        return
    await publish_auth_file(context, tended)
    if not await accepts(tended.target, access):
        raise Waiting(
            "PoolerNotReloaded",
            "the pooler does not accept the new login yet; it reads its auth_file anew",
            RETRY_SECONDS,
        )
