"""Observe, plan, apply, and say in the status what was re-read: one reconcile a kind, for every cause."""

from storage_operator.reconcile.reconciler import Reconciler

__all__ = ["Reconciler"]
