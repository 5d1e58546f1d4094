"""The command line in tests: run in this process as ``main`` runs it, with folders and variables of the test's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from storage_operator.cli.main import run
from storage_sql.bootstrap import Bootstrap, bootstrap
from storage_sql.roles import RoleNames
from tests.plugins.installation import Installation, Molds, drive_on, drop_roles
from tests.plugins.postgres import Database, url_with

VARIABLES = ("LLMSPELL_STORAGE_POSTGRES_URL", "LLMSPELL_STORAGE_OPERATOR_URL", "KUBECONFIG")
API_VERSION = "storage.llmspell.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote to standard output, as JSON."""
        return json.loads(self.out)

    def explains(self, *words: str) -> bool:
        """Tell whether it failed with one line that has all these words, and without a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        told = self.out + self.err
        return (
            self.code == 1 and len(lines) == 1 and "Traceback" not in told and all(word in lines[0] for word in words)
        )


Cli = Callable[..., Ran]


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Cli:
    """Give a function that runs ``llmspell`` with arguments."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))

    def ran(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["llmspell", *arguments])
        capfd.readouterr()
        code: Any = 0
        try:
            run()
        except SystemExit as end:
            code = end.code or 0
        written = capfd.readouterr()
        return Ran(int(code), written.out, written.err)

    return ran


@dataclass(frozen=True, slots=True)
class NewDatabase:
    """A database that a bootstrap under test makes, and that is gone with its roles afterwards."""

    name: str
    server: str

    @property
    def dsn(self) -> str:
        """The superuser's DSN for it."""
        return url_with(self.server, dbname=self.name)


@pytest.fixture
def new_database(superuser_url: str, request: pytest.FixtureRequest) -> Iterator[NewDatabase]:
    """Name a database that does not exist yet; a hostile name, so that every test proves the quoting."""
    name = f'cli "{abs(hash(request.node.nodeid)) % 10**8}"; DROP ü'
    yield NewDatabase(name, superuser_url)
    drop_installation(superuser_url, name)


@pytest.fixture(scope="module")
def template(molds: Molds) -> Iterator[Installation]:
    """Give the tests of one file a migrated database that each of them gets a copy of."""
    with molds.copy() as made:
        yield made


@pytest.fixture
def quick_installation(template: Installation, superuser_url: str) -> Iterator[Installation]:
    """Give one test a migrated database of its own in a moment: a copy, and the same roles as the file's other tests.

    Grants on a database are not copied with it, so the bootstrap runs again, which also repairs what a test broke.
    """
    name = f"{template.database.name}_copy"
    copy = Database(name, url_with(superuser_url, dbname=name))
    with psycopg.connect(superuser_url, autocommit=True) as server:
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*map(sql.Identifier, (name, template.database.name)))
        )
    try:
        request = Bootstrap(template.names.installation, name, template.schema, template.operator_password)
        drive_on(superuser_url, bootstrap(request))
        yield Installation(copy, template.names, template.schema, template.operator_password)
    finally:
        with psycopg.connect(superuser_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        for part in ("t", "set", "app"):
            drop_roles(superuser_url, f"{template.names.owner}_{part}")


def drop_installation(url: str, database: str, schema: str = "llmspell") -> None:
    """Drop a database and the roles of the installation in it, if they exist."""
    with psycopg.connect(url, autocommit=True) as server:
        if not server.execute("SELECT FROM pg_database WHERE datname = %s", (database,)).fetchall():
            return
        with psycopg.connect(url_with(url, dbname=database)) as inside:
            row = inside.execute(
                "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", (schema,)
            ).fetchone()
        names = None if row is None else RoleNames.from_schema_comment(row[0])
        server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
    if names is not None:
        drop_roles(url, names.owner)


def manifest(kind: str, name: str, namespace: str = "llmspell", **spec: Any) -> dict[str, Any]:
    """Write one custom resource."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def cluster(**spec: Any) -> dict[str, Any]:
    """Write a StorageCluster that lets every namespace in."""
    tenancy = {"allowedNamespaces": [{"from": "All"}], "isolationModes": ["Role", "Sealed"]}
    return manifest("StorageCluster", "main", connection={"secretRef": {"name": "admin"}}, tenancy=tenancy, **spec)


def tenant(name: str, **spec: Any) -> dict[str, Any]:
    """Write a Tenant of that cluster."""
    reference = {"name": "main", "namespace": "llmspell"}
    return manifest("Tenant", name, "team", **{"tenantId": name, "clusterRef": reference, **spec})


def admin_secret(dsn: str) -> dict[str, Any]:
    """Write the Secret that the cluster names."""
    metadata = {"name": "admin", "namespace": "llmspell"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"dsn": dsn}}


def write(folder: Path, *bodies: dict[str, Any]) -> Path:
    """Write manifests into a folder as one file and return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "all.yaml").write_text(yaml.safe_dump_all(bodies, sort_keys=False), encoding="utf-8")
    return folder
