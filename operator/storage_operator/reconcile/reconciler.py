"""The one entry for every cause: a key comes in, the object's kind decides who reconciles it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from storage_operator.errors import ApiConflict
from storage_operator.reconcile.clusters import ClusterReconciler
from storage_operator.reconcile.components import ComponentReconciler
from storage_operator.reconcile.context import Context
from storage_operator.reconcile.fleet import Fleet
from storage_operator.reconcile.tenants import TenantReconciler
from storage_operator.resources.kinds import Kind
from storage_operator.resources.metadata import Metadata
from storage_operator.world import Body, Key, Outcome, World


class Handler(Protocol):
    """What each kind's reconciler offers."""

    async def reconcile(self, body: Body) -> Outcome:
        """Bring an object to what it declares."""
        ...

    async def delete(self, body: Body) -> Outcome:
        """Take an object away."""
        ...


class Reconciler:
    """Reconciles any custom resource by its key."""

    def __init__(self, world: World, *, release: str, holder: str, wake: Callable[[Key], None] | None = None) -> None:
        """Take the world, the release that migrations are recorded under, and the name that this process leads under."""
        self.context = Context(world, Fleet(holder), release)
        if wake is not None:
            self.context.wake = wake
        self.clusters = ClusterReconciler(self.context)
        self.components = ComponentReconciler(self.context)
        self.tenants = TenantReconciler(self.context)

    async def reconcile(self, key: Key) -> Outcome:
        """Reconcile one object from the cached body; raises ``ApiError`` when the API server does not answer."""
        body = self.context.world.get(key)
        if body is None:
            if key.kind is Kind.STORAGE_CLUSTER:
                await self.context.fleet.forget(key)
            return Outcome("deleted")
        handlers: dict[Kind, Handler] = {
            Kind.STORAGE_CLUSTER: self.clusters,
            Kind.STORAGE_COMPONENT: self.components,
            Kind.TENANT: self.tenants,
        }
        handler = handlers[key.kind]
        try:
            if Metadata.of(body).deleting:
                return await handler.delete(body)
            return await handler.reconcile(body)
        except ApiConflict:
            await self.context.world.fetch(key)  # a fresh body in the cache; the queue comes again at once
            return Outcome("failed")

    async def close(self) -> None:
        """Close every session."""
        await self.context.fleet.close()


__all__ = ["Reconciler"]
