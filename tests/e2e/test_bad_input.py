"""Bad input through kubectl: each fault is named in the status, and ends by itself once it is put right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from storage_operator.devenv.process import free_port
from storage_sql.bootstrap import Bootstrap, bootstrap
from tests.e2e.conftest import Scene, admin_secret, ready_of, refused, scene_on, wait_for
from tests.plugins.controlplane import Cluster
from tests.plugins.installation import Installation, Molds, bootstrapped_on, drive_on
from tests.plugins.postgres import database_on, url_with

pytestmark = pytest.mark.cluster

HOSTILE = (
    "'; DROP SCHEMA llmspell CASCADE; --",
    '"; DROP ROLE postgres; --',
    "$fence$; SELECT pg_terminate_backend(pid) FROM pg_stat_activity; --",
    "{{ schema }}{% raw %}%s%(name)s",
    "ünïcödé \u202e💥 \\x00 \\' \t\n",
    "../../../etc/passwd",
    "a" * 64 + "'" * 200,
)
FREE_FIELDS = (
    ("tenantId",),
    ("clusterRef", "name"),
    ("clusterRef", "namespace"),
    ("credentials", "secretName"),
    ("credentials", "keys", "password"),
    ("credentials", "keys", "dsn"),
    ("credentials", "rotation", "overlap"),
    ("quotas", "statementTimeout"),
    ("quotas", "workMem"),
    ("quotas", "storage"),
)


@pytest.fixture(scope="module")
def stranger(installed_crds: Cluster, migrated: Installation) -> Iterator[str]:
    """Give a second namespace that the operator watches and the StorageCluster does not allow."""
    name = f"stranger-{migrated.database.name.removeprefix('test_')}"
    installed_crds.run("create", "namespace", name)
    yield name
    installed_crds.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def scene(
    installed_crds: Cluster, migrated: Installation, stranger: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """Give the usual scene, with an operator that watches the stranger's namespace too."""
    folder = tmp_path_factory.mktemp("operator")
    with scene_on(installed_crds, migrated, folder, others=(stranger,)) as made:
        yield made


def test_a_connection_is_wrong_in_every_way_and_then_right(scene: Scene, molds: Molds) -> None:
    """Each wrong Secret has its reason and never shows its value; the right one makes cluster and tenant Ready."""
    scene.tenant("early", clusterRef={"name": "late"})
    scene.reason("tenant", "early", "Ready", "ClusterNotFound")
    with molds.copy() as installation:
        scene.bring("late")
        assert "late-admin" in scene.reason("storagecluster", "late", "Reachable", "SecretMissing")
        scene.reason("tenant", "early", "Ready", "ClusterNotReady")
        for value, reason in _wrong(scene.namespace, installation):
            scene.cluster.apply(value)
            scene.hurry("storagecluster", "late")
            message = scene.reason("storagecluster", "late", "Reachable", reason)
            assert "hunter2" not in json.dumps(scene.get("storagecluster", "late")["status"]), message
        scene.cluster.apply(admin_secret(scene.namespace, installation.operator_dsn, "late-admin"))
        scene.ready("storagecluster", "late")
        scene.ready("tenant", "early")
        with scene.login("early") as session:
            assert session.info.dbname == installation.database.name
        assert "hunter2" not in scene.operator.log.read_text(encoding="utf-8")
        _remove(scene, "early", cluster="late")


def _wrong(namespace: str, installation: Installation) -> Iterator[tuple[dict[str, Any], str]]:
    good = installation.operator_dsn
    yield {**admin_secret(namespace, good, "late-admin"), "stringData": {"url": good}}, "SecretKeyMissing"
    for dsn, reason in (
        ("postgresql://operator:hunter2@[::bad/x y", "ConnectionStringInvalid"),
        ("host=127.0.0.1 password=hunter2 colour=blue", "ConnectionStringInvalid"),
        (url_with(good, port=str(free_port()), password="hunter2"), "Unreachable"),
        (url_with(good, password="hunter2"), "AuthenticationFailed"),
        (url_with(good, dbname="nowhere"), "DatabaseMissing"),
    ):
        yield admin_secret(namespace, dsn, "late-admin"), reason


def _remove(scene: Scene, *tenants: str, cluster: str) -> None:
    scene.cluster.run("-n", scene.namespace, "delete", "tenant", *tenants, "--timeout=100s")
    scene.cluster.run("-n", scene.namespace, "delete", "storagecluster", cluster, "--timeout=100s")


def test_what_only_a_superuser_can_mend_names_the_command(scene: Scene, superuser_url: str) -> None:
    """A dropped extension and a revoked role are told apart, and bootstrapping again is the whole remedy."""
    with bootstrapped_on(superuser_url) as installation:
        names = installation.names
        with psycopg.connect(installation.superuser_dsn, autocommit=True) as admin:
            admin.execute("DROP EXTENSION vector CASCADE")
            scene.bring("bare", installation.operator_dsn)
            message = scene.reason("storagecluster", "bare", "Ready", "ExtensionMissing")
            assert "vector" in message
            assert "llmspell database bootstrap" in message
            admin.execute(f'REVOKE "{names.owner}", "{names.maintenance}" FROM "{names.operator}"'.encode())
            admin.execute("CREATE EXTENSION vector")
            scene.hurry("storagecluster", "bare")
            assert names.owner in scene.reason("storagecluster", "bare", "Ready", "PrivilegesMissing")
        request = Bootstrap(names.installation, installation.database.name, operator_password=None)
        drive_on(superuser_url, bootstrap(request))
        scene.ready("storagecluster", "bare")
        scene.cluster.run("-n", scene.namespace, "delete", "storagecluster", "bare", "--timeout=100s")


def test_another_projects_tables_are_left_alone(scene: Scene, superuser_url: str) -> None:
    """A schema with somebody else's tables is refused, an empty database asks for bootstrap; nothing is changed."""
    query = "SELECT count(*) FROM pg_class WHERE oid >= 16384"
    with database_on(superuser_url) as theirs, database_on(superuser_url) as empty:
        with theirs.connect() as admin:
            admin.execute("CREATE SCHEMA llmspell; CREATE TABLE llmspell.orders (id int PRIMARY KEY)")
            before = admin.execute(query).fetchone()
            scene.bring("theirs", theirs.dsn)
            scene.bring("empty", empty.dsn)
            assert "another project" in scene.reason("storagecluster", "theirs", "Ready", "ForeignSchema")
            assert "bootstrap" in scene.reason("storagecluster", "empty", "Ready", "ExtensionMissing")
            with empty.connect() as superuser:
                superuser.execute("CREATE EXTENSION vector")
            scene.hurry("storagecluster", "empty")
            assert "bootstrap" in scene.reason("storagecluster", "empty", "Ready", "NotBootstrapped")
            assert admin.execute(query).fetchone() == before
        scene.cluster.run("-n", scene.namespace, "delete", "storagecluster", "theirs", "empty", "--timeout=100s")


def test_a_second_cluster_on_the_same_schema_is_a_duplicate(scene: Scene) -> None:
    """The younger StorageCluster is refused and names the older, which goes on serving; deleting the younger is easy."""
    scene.tenant("served")
    scene.ready("tenant", "served")
    scene.bring("again", scene.installation.operator_dsn)
    message = scene.reason("storagecluster", "again", "Ready", "Duplicate")
    assert f"{scene.namespace}/main" in message
    scene.tenant("homeless", clusterRef={"name": "again"})
    scene.reason("tenant", "homeless", "Ready", "ClusterNotReady")
    scene.tenant("neighbour")
    scene.ready("tenant", "neighbour")
    _remove(scene, "homeless", cluster="again")
    scene.ready("storagecluster", "main")
    assert not refused(scene.secret("served")["dsn"])
    claim = "SELECT claimed_by ->> 'name' FROM llmspell.installation"
    with psycopg.connect(scene.installation.superuser_dsn) as admin:
        assert admin.execute(claim).fetchone() == ("main",)


def test_a_namespace_that_is_not_allowed_gets_nothing_until_it_is(scene: Scene, stranger: str) -> None:
    """A tenant of a strange namespace is refused without a role or Secret; once allowed it becomes Ready by itself."""
    reference = {"name": "main", "namespace": scene.namespace}
    manifest = {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "guest", "namespace": stranger},
        "spec": {"tenantId": "guest", "clusterRef": reference},
    }
    scene.cluster.apply(manifest)
    there = Scene(scene.cluster, stranger, scene.installation, scene.operator)
    there.reason("tenant", "guest", "Ready", "NamespaceNotAllowed")
    with psycopg.connect(scene.installation.superuser_dsn) as admin:
        assert admin.execute("SELECT count(*) FROM llmspell.tenants WHERE tenant = 'guest'").fetchone() == (0,)
    assert there.secret("guest") == {}
    policy = {"spec": {"tenancy": {"allowedNamespaces": [{"from": "All", "tenantIdPattern": "^gu.st$"}]}}}
    scene.cluster.run(
        "-n", scene.namespace, "patch", "storagecluster", "main", "--type=merge", "-p", json.dumps(policy)
    )
    there.ready("tenant", "guest")
    with there.login("guest") as session:
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("guest",)
    there.cluster.run("-n", stranger, "delete", "tenant", "guest", "--timeout=100s")
    policy = {"spec": {"tenancy": {"allowedNamespaces": [{"from": "Same"}]}}}
    scene.cluster.run(
        "-n", scene.namespace, "patch", "storagecluster", "main", "--type=merge", "-p", json.dumps(policy)
    )


def test_a_store_that_nobody_offers(scene: Scene) -> None:
    """An unknown store is refused at once; a disabled one is named in the status until it is enabled again."""
    manifest = {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": "wishful", "namespace": scene.namespace},
        "spec": {"tenantId": "wishful", "clusterRef": {"name": "main"}, "components": ["Kv"]},
    }
    done = scene.cluster.apply(manifest, check=False)
    assert done.returncode != 0
    assert 'Unsupported value: "Kv"' in done.stderr
    component = {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "StorageComponent",
        "metadata": {"name": "keys", "namespace": scene.namespace},
        "spec": {"clusterRef": {"name": "main"}, "store": "ApiKeys", "enabled": False},
    }
    scene.cluster.apply(component)
    scene.ready("storagecomponent", "keys")
    scene.tenant("wishful", components=["KV", "ApiKeys"])
    assert "ApiKeys" in scene.reason("tenant", "wishful", "Ready", "ComponentUnknown")
    component["spec"] = {**dict(component["spec"]), "enabled": True}  # type: ignore[call-overload]
    scene.cluster.apply(component)
    scene.ready("tenant", "wishful")
    with scene.login("wishful") as session:
        assert session.execute("SELECT count(*) FROM api_keys").fetchone() == (0,)
    scene.cluster.run("-n", scene.namespace, "delete", "storagecomponent", "keys", "--timeout=100s")


def test_hostile_strings_change_nothing(scene: Scene) -> None:
    """Whatever stands in a string, the API server refuses it, the status says why, or it is taken as plain text."""
    items = [_hostile(scene.namespace, number, path, text) for number, (path, text) in enumerate(_attacks())]
    done = scene.cluster.apply({"apiVersion": "v1", "kind": "List", "items": items}, check=False)
    assert done.stderr.count("is invalid") >= len(HOSTILE) * len(FREE_FIELDS) - 10
    named = [item["metadata"]["name"] for item in items]
    present = [name for name in named if name in scene.tenants()]
    wait_for(
        lambda: {ready_of(scene.tenants()[name]) for name in present} <= {"Ready", "InvalidSpec", "ClusterNotFound"},
        lambda: f"each has a verdict: { ({name: ready_of(body) for name, body in scene.tenants().items()}) }",
    )
    annotated = [name for name in present if name.startswith("annotated")]
    assert len(annotated) == len(HOSTILE)
    for name in annotated:
        assert ready_of(scene.tenants()[name]) == "Ready"
        with scene.login(name) as session:
            assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (name,)
    with psycopg.connect(scene.installation.superuser_dsn) as admin:
        row = admin.execute("SELECT count(*) FROM llmspell.tenants WHERE tenant !~ '^[a-z0-9-]+$'").fetchone()
        assert row == (0,)
    scene.ready("storagecluster", "main")


def _attacks() -> Iterator[tuple[tuple[str, ...], str]]:
    for text in HOSTILE:
        yield (), text
        yield from ((path, text) for path in FREE_FIELDS)


def _hostile(namespace: str, number: int, path: tuple[str, ...], text: str) -> dict[str, Any]:
    name = f"hostile-{number}" if path else f"annotated-{number}"
    spec: dict[str, Any] = {"tenantId": name, "clusterRef": {"name": "main"}}
    place = spec
    for part in path[:-1]:
        place = place.setdefault(part, {})
    if path:
        place[path[-1]] = text
    annotations = {f"storage.llmspell.dev/{word}": text for word in ("rotate", "reconcile", "force-delete")}
    return {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "Tenant",
        "metadata": {"name": name, "namespace": namespace, "annotations": {} if path else annotations},
        "spec": spec,
    }


def test_one_tenant_id_on_two_databases_of_one_server(scene: Scene, molds: Molds) -> None:
    """The same tenant id on two databases is two tenants, with two logins and two worlds of rows."""
    with molds.copy() as installation:
        scene.bring("twin", installation.operator_dsn)
        scene.tenant("left", tenantId="same")
        scene.tenant("right", tenantId="same", clusterRef={"name": "twin"})
        for name in ("left", "right"):
            scene.ready("tenant", name)
            with scene.login(name) as session:
                session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('same', %s, '1')", (name,))
                assert session.execute("SELECT key FROM kv_store").fetchall() == [(name,)]
        left, right = scene.secret("left"), scene.secret("right")
        assert left["user"] != right["user"]
        assert refused(url_with(left["dsn"], dbname=right["dbname"]))
        _remove(scene, "right", cluster="twin")
        with scene.login("left") as session:
            assert session.execute("SELECT count(*) FROM kv_store").fetchone() == (1,)
