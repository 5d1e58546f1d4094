"""The cluster that tests are given is a whole control plane."""

from __future__ import annotations

import time

from tests.plugins.controlplane import Cluster


def test_owner_references_are_collected(control_plane: Cluster, fresh_namespace: str) -> None:
    """Deleting an owner deletes what it owns, which needs the controller manager."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": fresh_namespace}}
    control_plane.apply(owner)
    uid = control_plane.get("configmap", "owner", "-n", fresh_namespace)["metadata"]["uid"]
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    control_plane.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "owned", "namespace": fresh_namespace, "ownerReferences": [reference]},
        }
    )
    control_plane.run("delete", "configmap", "owner", "-n", fresh_namespace)
    deadline = time.monotonic() + 120
    while control_plane.run("get", "secret", "owned", "-n", fresh_namespace, check=False).returncode == 0:
        assert time.monotonic() < deadline, "the owned Secret is still there"
        time.sleep(0.2)
