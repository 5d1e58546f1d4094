"""The API server with our definitions, and a client that asks it for a verdict without storing anything."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from storage_operator.resources.kinds import API_VERSION, Kind


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to an object."""

    accepted: bool
    body: dict[str, Any]

    @property
    def fields(self) -> tuple[str, ...]:
        """The paths of the fields it found fault with."""
        causes = self.body.get("details", {}).get("causes", [])
        return tuple(cause.get("field", "") for cause in causes)

    @property
    def message(self) -> str:
        """What a person reads."""
        return str(self.body.get("message", ""))


class ApiServer:
    """One connection to the API server; requests for our kinds in the namespace ``default``."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        address = urlsplit(cluster["server"])
        context = ssl.create_default_context(cadata=authority)
        self._connection = http.client.HTTPSConnection(address.netloc, context=context, timeout=30)
        self._headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def create(self, body: Any, *, dry_run: bool = True) -> Answer:
        """Create an object, or ask what would come of it: defaulted, pruned and validated."""
        kind = Kind(body["kind"])
        return self._send("POST", self._path(kind) + ("?dryRun=All" if dry_run else ""), body)

    def patch(self, kind: Kind, name: str, patch: Any, *, subresource: str = "") -> Answer:
        """Apply a JSON merge patch to a stored object."""
        return self._send("PATCH", f"{self._path(kind)}/{name}{subresource}", patch, "application/merge-patch+json")

    def delete(self, kind: Kind, name: str) -> Answer:
        """Delete a stored object."""
        return self._send("DELETE", f"{self._path(kind)}/{name}", None)

    def _path(self, kind: Kind) -> str:
        return f"/apis/{API_VERSION}/namespaces/default/{kind.plural}"

    def _send(self, method: str, path: str, body: Any, content_type: str = "application/json") -> Answer:
        headers = self._headers | {"Content-Type": content_type}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        assert response.status < 500, answer
        return Answer(response.status < 300, answer)


@pytest.fixture(scope="module")
def api_server(control_plane: Any) -> Iterator[ApiServer]:
    """Give the API server with the definitions of crds/ established."""
    control_plane.define()
    server = ApiServer(control_plane.kubeconfig)
    yield server
    server.close()
