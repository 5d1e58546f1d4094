"""A tenant's way in and the Secret that carries it: what an existing one holds, what a new one gets, when it is told."""

from __future__ import annotations

import hashlib

from storage_operator.adapters.postgres.credentials import Credential
from storage_operator.adapters.postgres.tenants import TenantState
from storage_operator.errors import SecretNotOurs
from storage_operator.planning.secret import Access, application_secret, observe_secret
from storage_operator.planning.tenant import ObservedSecret
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Tended
from storage_operator.reconcile.poolers import require_pooler
from storage_operator.resources.cluster import Isolation
from storage_operator.resources.metadata import Metadata
from storage_operator.resources.tenant import TenantSpec
from storage_operator.world import MANAGED_BY_LABEL, MANAGED_BY_VALUE, Body, SecretObject

ROTATION_LABEL = "storage.llmspell.dev/rotation"
"""On the Secret: which request it answers, so that a lost status does not rotate twice."""


class AccessKeeper:
    """Reads, observes and writes application Secrets."""

    def __init__(self, context: Context) -> None:
        """Take what all reconcilers share."""
        self._context = context

    async def read(self, spec: TenantSpec, body: Body, *, brand_new: bool) -> SecretObject | None:
        """Read the Secret; raises ``SecretNotOurs`` for one that the Tenant does not own.

        A tenant that the database has never seen is spared the request: creating over a foreign Secret conflicts.
        """
        if brand_new and not secret_name(body):
            return None
        secret = await self._context.world.read_secret(spec.metadata.namespace, spec.credentials.secret_name)
        if secret is not None and secret.owner_uid != spec.metadata.uid:
            raise SecretNotOurs(secret.namespace, secret.name)
        return secret

    async def observe(
        self, spec: TenantSpec, tended: Tended, state: TenantState, secret: SecretObject | None
    ) -> ObservedSecret | None:
        """Reduce the Secret to what planning needs.

        A credential that was issued and waits for the pooler counts as the issued one whose Secret is yet to be
        written: it is not drawn again on every look.
        """
        live = state.observed.live
        if live is not None and self.awaits_pooler(spec, tended, state):
            return ObservedSecret(live.login, live.digest, current=False)
        if secret is None:
            return None
        access = await self._carried(spec, tended, state, secret)
        wanted = {} if access is None else application_secret(tended.target, access, spec.credentials.keys)
        sealed = spec.isolation is Isolation.SEALED
        return observe_secret(secret.data, wanted, spec.credentials.keys, sealed=sealed, former=state.former_capability)

    @staticmethod
    def awaits_pooler(spec: TenantSpec, tended: Tended, state: TenantState) -> bool:
        """Whether the live credential was issued by this process and is not told yet: it answers every request."""
        live, pending = state.observed.live, tended.pending.get(spec.tenant_id)
        return pending is not None and live is not None and pending.digest == live.digest

    async def current(
        self,
        spec: TenantSpec,
        tended: Tended,
        state: TenantState,
        secret: SecretObject | None,
        credential: Credential | None,
    ) -> Access | None:
        """Return the way in after a plan was applied: the issued credential, or the one that the Secret carries."""
        live = state.observed.live
        issued = credential or tended.pending.get(spec.tenant_id)
        if issued is not None and live is not None and issued.digest == live.digest:
            return Access(spec.tenant_id, issued.login, issued.password, tended.spec.schema)
        if spec.isolation is Isolation.SEALED:
            return await self._sealed(spec, tended, state)
        return None if secret is None else await self._carried(spec, tended, state, secret)

    async def write(
        self,
        spec: TenantSpec,
        tended: Tended,
        body: Body,
        access: Access,
        existing: SecretObject | None,
        credential: Credential | None,
    ) -> None:
        """Tell applications: once the pooler, if there is one, lets the login in; raises ``Waiting`` until then."""
        if credential is not None:
            tended.pending[spec.tenant_id] = credential
        await require_pooler(self._context, tended, access)
        data = application_secret(tended.target, access, spec.credentials.keys)
        labels = {MANAGED_BY_LABEL: MANAGED_BY_VALUE, "app.kubernetes.io/component": "tenant"}
        if spec.metadata.rotation_request is not None:
            labels[ROTATION_LABEL] = rotation_label(spec.metadata.rotation_request)
        await self._context.world.write_secret(
            spec.metadata.namespace, spec.credentials.secret_name, data, owner=body, labels=labels, existing=existing
        )
        tended.pending.pop(spec.tenant_id, None)

    async def tidy(self, spec: TenantSpec, body: Body) -> None:
        """Delete the Secret of a former name, once the one of the present name exists."""
        former = secret_name(body)
        if former and former != spec.credentials.secret_name:
            await self._delete(body, former)

    async def remove(self, body: Body) -> None:
        """Delete the Secret that the status names, if it is this Tenant's."""
        name = secret_name(body)
        if name:
            await self._delete(body, name)

    async def _delete(self, body: Body, name: str) -> None:
        metadata = Metadata.of(body)
        secret = await self._context.world.read_secret(metadata.namespace, name)
        if secret is not None and secret.owner_uid == metadata.uid:
            await self._context.world.delete_secret(metadata.namespace, name, uid=secret.uid)

    async def _carried(
        self, spec: TenantSpec, tended: Tended, state: TenantState, secret: SecretObject
    ) -> Access | None:
        """The way in that an existing Secret carries, if it is usable at all."""
        if spec.isolation is Isolation.SEALED:
            return await self._sealed(spec, tended, state)
        live, password = state.observed.live, secret.data.get(spec.credentials.keys.password)
        if live is None or password is None:
            return None
        return Access(spec.tenant_id, live.login, password.decode("utf-8", "replace"), tended.spec.schema)

    async def _sealed(self, spec: TenantSpec, tended: Tended, state: TenantState) -> Access | None:
        """The shared login with the tenant's capability; None before the tenant is sealed in the database."""
        if state.capability is None:
            return None
        installation = tended.installation
        password = await installation.app_password()
        return Access(spec.tenant_id, installation.roles.app, password, tended.spec.schema, state.capability)


def rotation_label(request: str) -> str:
    """Return a label's value for a request: any text may stand in the annotation."""
    return hashlib.sha256(request.encode()).hexdigest()[:32]


def secret_name(body: Body) -> str | None:
    """Return the Secret that the status names: the one that was written last."""
    value = (body.get("status") or {}).get("secretName")
    return value if isinstance(value, str) else None
