"""A tenant's whole life on a real API server and a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest

from storage_sql import migrations
from tests.e2e.conftest import Scene, wait_for
from tests.plugins.controlplane import Cluster

pytestmark = pytest.mark.cluster


def test_a_tenant_becomes_ready_and_works(scene: Scene) -> None:
    """`kubectl apply` of a Tenant ends in a Secret whose DSN opens exactly its own rows."""
    scene.tenant("acme")
    scene.tenant("globex")
    for name in ("acme", "globex"):
        scene.ready("tenant", name)
        with scene.login(name) as session:
            session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES (%s, 'motd', %s)", (name, f'"{name}"'))
    with scene.login("acme") as session:
        rows = session.execute("SELECT tenant_id FROM kv_store").fetchall()
        assert rows == [("acme",)]
        assert session.execute("SELECT count(*) FROM kv_store WHERE tenant_id = 'globex'").fetchone() == (0,)


def test_status_tells_what_was_read(scene: Scene) -> None:
    """The status names role, Secret, schema version, stores and the time of the proof."""
    scene.tenant("told", components=["KV", "Sessions"])
    scene.ready("tenant", "told")
    status = scene.get("tenant", "told")["status"]
    assert status["components"] == ["KV", "Sessions"]
    assert status["schemaVersion"] == len(migrations.available("postgres"))
    assert status["secretName"] == "told-storage"
    assert status["role"] == scene.secret("told")["user"]
    assert status["lastVerifiedTime"]


def test_a_deleted_secret_comes_back_within_seconds(scene: Scene) -> None:
    """Deleting the Secret is a rotation: a new one appears, and running sessions keep working."""
    scene.tenant("lost")
    scene.ready("tenant", "lost")
    before = scene.secret("lost")
    with scene.login("lost") as session:
        scene.cluster.run("-n", scene.namespace, "delete", "secret", "lost-storage")
        after = wait_for(lambda: scene.secret("lost"), "the Secret is back", timeout=30)
        assert after["password"] != before["password"]
        assert session.execute("SELECT count(*) FROM kv_store").fetchone() == (0,)
    with scene.login("lost") as session:
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("lost",)


def test_an_edited_secret_is_put_right_within_seconds(scene: Scene) -> None:
    """Editing the password in the Secret does not lock the application out."""
    scene.tenant("edited")
    scene.ready("tenant", "edited")
    patch = '{"stringData": {"password": "guessed", "host": "example.org"}}'
    scene.cluster.run("-n", scene.namespace, "patch", "secret", "edited-storage", "--type=merge", "-p", patch)
    wait_for(
        lambda: scene.secret("edited").get("password") != "guessed", "the password is a real one again", timeout=30
    )
    assert scene.secret("edited")["host"] != "example.org"
    with scene.login("edited") as session:
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("edited",)


def test_rotation_on_an_annotation_keeps_the_old_login_for_the_overlap(scene: Scene) -> None:
    """A new annotation value makes the other login; both work until the overlap is over, then the old one is gone."""
    rotation = {"rotation": {"overlap": "6s"}}
    scene.tenant("turning", credentials=rotation)
    scene.ready("tenant", "turning")
    before = scene.secret("turning")
    scene.tenant("turning", annotations={"storage.llmspell.dev/rotate": "1"}, credentials=rotation)
    after = wait_for(
        lambda: (s := scene.secret("turning")).get("user") != before["user"] and s, "the Secret has the other login"
    )
    for dsn in (before["dsn"], after["dsn"]):
        with psycopg.connect(dsn) as session:
            assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("turning",)
    wait_for(lambda: _refused(before["dsn"]), "the old login is refused")
    assert scene.get("tenant", "turning")["status"]["rotationRequest"] == "1"


def _refused(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return True
    return False


def test_suspension_ends_sessions_and_resuming_brings_them_back(scene: Scene) -> None:
    """A suspended tenant has no login and no session; resuming needs no new credential."""
    scene.tenant("paused")
    scene.ready("tenant", "paused")
    dsn = scene.secret("paused")["dsn"]
    session = psycopg.connect(dsn, autocommit=True)
    scene.tenant("paused", suspended=True)
    scene.reason("tenant", "paused", "Ready", "Suspended")
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    assert _refused(dsn)
    scene.tenant("paused", suspended=False)
    scene.ready("tenant", "paused")
    assert scene.secret("paused")["dsn"] == dsn
    assert not _refused(dsn)


def test_a_sealed_tenant_gets_a_capability(scene: Scene) -> None:
    """In sealed mode the Secret holds the shared login and the tenant's own capability, which opens its rows."""
    scene.tenant("sealed", isolation="Sealed")
    scene.ready("tenant", "sealed")
    secret = scene.secret("sealed")
    assert secret["mode"] == "sealed"
    with psycopg.connect(secret["dsn"]) as session:
        session.execute("SELECT llmspell.enter('sealed', %s, 'kv')", (secret["capability"],))
        session.execute("INSERT INTO llmspell.kv_store (tenant_id, key, value) VALUES ('sealed', 'k', '1')")
        assert session.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (1,)
        session.commit()
        assert session.execute("SELECT count(*) FROM llmspell.kv_store").fetchone() == (0,)


def test_drift_in_the_catalog_is_repaired(scene: Scene) -> None:
    """What an administrator changes by hand is put back within the drift interval."""
    scene.tenant("drifting", quotas={"connections": 7})
    scene.ready("tenant", "drifting")
    login = scene.secret("drifting")["user"]
    with psycopg.connect(scene.installation.superuser_dsn, autocommit=True) as admin:
        admin.execute(f'ALTER ROLE "{login}" CONNECTION LIMIT 99'.encode())
        admin.execute(f'ALTER ROLE "{login}" CREATEROLE'.encode())

        def repaired() -> bool:
            query = "SELECT rolconnlimit, rolcreaterole FROM pg_roles WHERE rolname = %s"
            return admin.execute(query, (login,)).fetchone() == (7, False)

        wait_for(repaired, "the role is as declared again")


def test_usage_is_measured_and_the_quota_enforced(scene: Scene) -> None:
    """Over an enforced quota INSERT is refused with the quota's name, DELETE works, and the status says so."""
    scene.tenant("greedy", quotas={"storage": "10Ki", "enforceStorage": True})
    scene.ready("tenant", "greedy")
    with scene.login("greedy") as session:
        session.execute(
            "INSERT INTO kv_store (tenant_id, key, value) SELECT 'greedy', 'k' || n, convert_to(md5(n::text), 'UTF8') "
            "FROM generate_series(1, 2000) n"
        )
        scene.reason("tenant", "greedy", "QuotaExceeded", "OverQuotaEnforced")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="storage quota exceeded"):
            session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('greedy', 'more', '1')")
        session.execute("DELETE FROM kv_store")
        scene.reason("tenant", "greedy", "QuotaExceeded", "WithinQuota")
        session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('greedy', 'again', '1')")


def test_two_resources_cannot_have_one_tenant_id(scene: Scene) -> None:
    """The second resource that claims a tenant id is refused, and gets no Secret."""
    scene.tenant("mine")
    scene.ready("tenant", "mine")
    manifest = scene.get("tenant", "mine")
    thief = {**manifest, "metadata": {"name": "thief", "namespace": scene.namespace}, "status": {}}
    scene.cluster.apply(thief)
    message = scene.reason("tenant", "thief", "Ready", "TenantIdTaken")
    assert "mine" in message
    assert scene.secret("thief") == {}


def test_a_deleted_tenant_is_retained_and_only_its_owner_returns(scene: Scene) -> None:
    """Deletion takes login and Secret, keeps the rows; re-created by the same resource they are back."""
    scene.tenant("retained")
    scene.ready("tenant", "retained")
    with scene.login("retained") as session:
        session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('retained', 'k', '1')")
        dsn = scene.secret("retained")["dsn"]
        scene.cluster.run("-n", scene.namespace, "delete", "tenant", "retained", "--timeout=100s")
    assert _refused(dsn)
    assert scene.secret("retained") == {}
    scene.tenant("retained")
    scene.ready("tenant", "retained")
    with scene.login("retained") as session:
        assert session.execute("SELECT count(*) FROM kv_store").fetchone() == (1,)


def test_the_delete_policy_removes_the_rows(scene: Scene) -> None:
    """With deletionPolicy Delete nothing of the tenant is left, and its id is free."""
    scene.tenant("gone", deletionPolicy="Delete")
    scene.ready("tenant", "gone")
    with scene.login("gone") as session:
        session.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES ('gone', 'k', '1')")
    scene.cluster.run("-n", scene.namespace, "delete", "tenant", "gone", "--timeout=100s")
    with psycopg.connect(scene.installation.superuser_dsn) as admin:
        assert admin.execute("SELECT count(*) FROM llmspell.kv_store WHERE tenant_id = 'gone'").fetchone() == (0,)
        assert admin.execute("SELECT count(*) FROM llmspell.tenants WHERE tenant = 'gone'").fetchone() == (0,)


def test_a_disabled_component_reaches_nobody(scene: Scene) -> None:
    """A disabled store is closed to every tenant at once, and open again when its component is deleted."""
    scene.tenant("user-of-hooks")
    scene.ready("tenant", "user-of-hooks")
    component = {
        "apiVersion": "storage.llmspell.dev/v1alpha1",
        "kind": "StorageComponent",
        "metadata": {"name": "hooks", "namespace": scene.namespace},
        "spec": {"clusterRef": {"name": "main"}, "store": "Hooks", "enabled": False},
    }
    scene.cluster.apply(component)
    scene.ready("storagecomponent", "hooks")
    with scene.login("user-of-hooks") as session:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT count(*) FROM hook_history")
        scene.cluster.run("-n", scene.namespace, "delete", "storagecomponent", "hooks", "--timeout=100s")
        assert session.execute("SELECT count(*) FROM hook_history").fetchone() == (0,)


def test_a_cluster_with_tenants_is_not_deleted(scene: Scene) -> None:
    """Deleting a StorageCluster that tenants use is blocked, and the condition names them."""
    scene.tenant("resident")
    scene.ready("tenant", "resident")
    scene.cluster.run("-n", scene.namespace, "delete", "storagecluster", "main", "--wait=false")
    message = scene.reason("storagecluster", "main", "DeletionBlocked", "TenantsExist")
    assert "resident" in message or "Tenants" in message
    with scene.login("resident") as session:
        assert session.execute("SELECT llmspell.current_tenant()").fetchone() == ("resident",)


def test_no_secret_reaches_the_log(scene: Scene, installed_crds: Cluster) -> None:
    """Neither passwords nor verifiers nor capabilities stand in the operator's log."""
    text = scene.operator.log.read_text(encoding="utf-8")
    for line in installed_crds.get("-n", scene.namespace, "secrets")["items"]:
        secret = scene.secret(line["metadata"]["name"].removesuffix("-storage"))
        assert not any(secret.get(key) and secret[key] in text for key in ("password", "capability"))
    assert "SCRAM-SHA-256$" not in text
    assert scene.installation.operator_password not in text
