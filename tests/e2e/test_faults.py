"""Faults while work is under way: nothing is lost, the status says what is, and everything converges by itself."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator

import psycopg
import pytest

from storage_operator.devenv import ownership
from storage_operator.devenv.postgres import EmbeddedPostgres
from tests.e2e.conftest import Scene, ask, logins_of, ready_of, refused, scene_on, wait_for
from tests.plugins.controlplane import Cluster
from tests.plugins.installation import Installation, Molds, bootstrapped_on

pytestmark = pytest.mark.cluster

TIMES = {
    # Once killed, it takes its own lease again at once.
    "LLMSPELL_OPERATOR_IDENTITY": "the-only-one",
    "LLMSPELL_OPERATOR_RETRY_CAP_SECONDS": "2",
}
KILLED_AT = (3, 9, 17, 24)
BURST = 30


@pytest.fixture(scope="module")
def scene(installed_crds: Cluster, migrated: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Give a scene whose operator has faults behind it soon."""
    folder = tmp_path_factory.mktemp("operator")
    with scene_on(installed_crds, migrated, folder, **TIMES) as made:
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """Give a PostgreSQL that may be stopped, since nobody else works with it."""
    name = f"test-faults-{os.getpid()}"
    ownership.claim(name)
    server = EmbeddedPostgres(name)
    try:
        yield server.start()
    finally:
        server.remove()
        ownership.release(name)


@pytest.fixture(scope="module")
def frail(scene: Scene, own_server: EmbeddedPostgres) -> Iterator[Installation]:
    """Give the installation of a second StorageCluster, ``frail``, on the server that may be stopped."""
    with bootstrapped_on(own_server.dsn()) as installation:
        scene.bring("frail", installation.operator_dsn)
        scene.ready("storagecluster", "frail")
        yield installation
        own_server.start()


def test_what_an_operator_shows_of_itself(scene: Scene) -> None:
    """/healthz is green, the counters of SQL, PATCHes and conditions move, and every log line is JSON."""
    operator = scene.operator
    assert operator.answers("/healthz")
    statements = operator.sample("llmspell_operator_sql_statements_total")
    patches = operator.sample("llmspell_operator_kubernetes_requests_total", method="PATCH")
    scene.tenant("seen", isolation="Sealed")
    scene.ready("tenant", "seen")
    assert operator.sample("llmspell_operator_sql_statements_total") >= statements + 5
    assert operator.sample("llmspell_operator_kubernetes_requests_total", method="PATCH") > patches
    ready = {"kind": "Tenant", "condition": "Ready", "status": "True", "reason": "Ready"}
    wait_for(lambda: operator.sample("llmspell_operator_resources", **ready) == 1, "one tenant is counted as Ready")
    assert operator.sample("llmspell_operator_reconcile_seconds_count", kind="Tenant", phase="apply") >= 1


def test_killed_again_and_again_during_a_burst(scene: Scene) -> None:
    """SIGKILL at any moment loses nothing: every tenant gets in as itself, and no role or row is left over."""
    names = [f"burst-{number:02d}" for number in range(BURST)]
    applying = threading.Thread(target=scene.burst, args=(names,))
    applying.start()
    unfinished = []
    for count in KILLED_AT:
        _wait_for_logins(scene.installation, count)
        assert scene.operator.end(signal.SIGKILL) == -signal.SIGKILL
        unfinished.append(len(scene.not_ready(names)))
        scene.operator.start()
    applying.join()
    assert unfinished[1] > 0, "the kills came after the burst"
    scene.all_ready(names)
    _exact(scene, scene.installation, names)


def _wait_for_logins(installation: Installation, count: int) -> None:
    """Look without pause, so that the moment is in the middle of a reconcile."""
    query = "SELECT count(*) >= %s FROM llmspell.tenant_logins"
    with psycopg.connect(installation.superuser_dsn, autocommit=True) as admin:
        wait_for(lambda: admin.execute(query, (count,)).fetchone() == (True,), f"{count} logins", pause=0.002)


def _exact(scene: Scene, installation: Installation, names: list[str]) -> None:
    """Compare the catalog with the resources: one login, one binding, one row and one Secret a tenant."""
    held = scene.secrets()
    secrets = {name: held[name] for name in names}
    for name, secret in secrets.items():
        with psycopg.connect(secret["dsn"]) as session:
            assert session.execute("SELECT llmspell.current_tenant()").fetchone() == (name,)
    users = {secret["user"] for secret in secrets.values()}
    assert len(users) == len(names)
    assert logins_of(installation) == users
    with psycopg.connect(installation.superuser_dsn) as admin:
        bound = admin.execute("SELECT login, tenant FROM llmspell.tenant_logins").fetchall()
        rows = admin.execute("SELECT tenant FROM llmspell.tenants WHERE isolation = 'role'").fetchall()
    assert sorted(bound) == sorted((secret["user"], name) for name, secret in secrets.items())
    assert sorted(rows) == sorted((name,) for name in names)


def test_a_stopped_database_is_told_and_stalls_nobody_else(
    scene: Scene, frail: Installation, own_server: EmbeddedPostgres
) -> None:
    """A burst survives its server's outage; meanwhile the status says Unreachable and another cluster serves."""
    names = [f"frail-{number:02d}" for number in range(20)]
    scene.burst(names[:10], cluster="frail")
    wait_for(lambda: len(scene.not_ready(names[:10])) < 10, "the burst is under way")
    own_server.stop()
    scene.burst(names[10:], cluster="frail")
    scene.reason("storagecluster", "frail", "Ready", "Unreachable")
    wait_for(
        lambda: set(scene.not_ready(names[10:]).values()) <= {"Unreachable", "ClusterNotReady"},
        "the waiting tenants say why",
    )
    assert len(scene.not_ready(names[10:])) == 10
    scene.tenant("calm")
    scene.ready("tenant", "calm")
    own_server.start()
    scene.all_ready(names)
    scene.ready("storagecluster", "frail")
    _exact(scene, frail, names)


def test_a_deletion_that_cannot_clean_up_waits_or_is_let_go(
    scene: Scene, frail: Installation, own_server: EmbeddedPostgres
) -> None:
    """Without the database a deletion is blocked with a reason; the annotation lets it go; else it ends by itself."""
    for name in ("stuck", "patient"):
        scene.tenant(name, clusterRef={"name": "frail"})
        scene.ready("tenant", name)
    user = scene.secret("patient")["user"]
    own_server.stop()
    scene.cluster.run("-n", scene.namespace, "delete", "tenant", "stuck", "patient", "--wait=false")
    for name in ("stuck", "patient"):
        assert scene.reason("tenant", name, "DeletionBlocked", "CleanupFailed")
    scene.cluster.run("-n", scene.namespace, "annotate", "tenant", "stuck", "storage.llmspell.dev/force-delete=true")
    wait_for(lambda: not scene.get("tenant", "stuck"), "the annotated tenant is gone")
    assert scene.secret("stuck") == {}
    assert scene.get("tenant", "patient")
    own_server.start()
    wait_for(lambda: not scene.get("tenant", "patient"), "the patient tenant is gone")
    assert user not in logins_of(frail)
    scene.tenant("stuck", clusterRef={"name": "frail"})
    scene.ready("tenant", "stuck")
    with scene.login("stuck") as session:
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("stuck",)


def test_deletion_ends_open_sessions(scene: Scene) -> None:
    """A deleted tenant's session ends, in the middle of a transaction too, and its login is gone."""
    scene.tenant("talking")
    scene.ready("tenant", "talking")
    dsn = scene.secret("talking")["dsn"]
    with psycopg.connect(dsn) as session:
        session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('talking', 'k', '1')")
        scene.cluster.run("-n", scene.namespace, "delete", "tenant", "talking", "--timeout=100s")
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert refused(dsn)
    kept = "SELECT state FROM llmspell.tenants WHERE tenant = 'talking'"
    assert ask(scene.installation, kept) == "retained"
    assert ask(scene.installation, "SELECT count(*) FROM llmspell.kv_store WHERE tenant_id = 'talking'") == 0


def test_a_tenant_outlives_its_cluster_and_can_be_deleted(scene: Scene, molds: Molds) -> None:
    """A StorageCluster that was let go by force leaves tenants that say so, and deleting them needs no force."""
    with molds.copy() as installation:
        scene.bring("brief", installation.operator_dsn)
        scene.tenant("orphan", clusterRef={"name": "brief"})
        scene.ready("tenant", "orphan")
        scene.cluster.run("-n", scene.namespace, "delete", "storagecluster", "brief", "--wait=false")
        scene.reason("storagecluster", "brief", "DeletionBlocked", "TenantsExist")
        force = "storage.llmspell.dev/force-delete=true"
        scene.cluster.run("-n", scene.namespace, "annotate", "storagecluster", "brief", force)
        wait_for(lambda: not scene.get("storagecluster", "brief"), "the StorageCluster is gone")
        scene.reason("tenant", "orphan", "Ready", "ClusterNotFound")
        assert not refused(scene.secret("orphan")["dsn"])
        scene.cluster.run("-n", scene.namespace, "delete", "tenant", "orphan", "--timeout=100s")
        assert scene.secret("orphan") == {}


def test_the_log_is_json_and_holds_no_secret(scene: Scene) -> None:
    """After all those faults every line of the log is one JSON object, and none tells a credential."""
    text = scene.operator.log.read_text(encoding="utf-8")
    for line in text.splitlines():
        assert {"time", "level", "message"} <= json.loads(line).keys()
    secrets = scene.secrets()
    assert secrets.keys() == scene.tenants().keys()
    for secret in secrets.values():
        assert not any(secret.get(key) and secret[key] in text for key in ("password", "capability"))
    assert "SCRAM-SHA-256$" not in text
    assert scene.installation.operator_password not in text
    assert all(ready_of(body) == "Ready" for body in scene.tenants().values())
