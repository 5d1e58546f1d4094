"""``llmspell apply`` and ``delete``: manifests straight on a real PostgreSQL, killed and run again."""

from __future__ import annotations

import base64
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import yaml

from storage_operator.cli.workspace import default_folder
from tests.plugins.commandline import Cli, Ran, admin_secret, cluster, manifest, tenant, write
from tests.plugins.installation import Installation
from tests.plugins.postgres import url_with

PROGRAM = [sys.executable, "-c", "from storage_operator.cli.main import run; run()"]
ALL_READY = {"StorageCluster/main", "StorageComponent/kv", "Tenant/acme", "Tenant/globex", "Tenant/sealed"}


def everything(folder: Path, dsn: str) -> Path:
    """Write a cluster, a component, and tenants of both isolation modes."""
    reference = {"name": "main"}
    return write(
        folder,
        admin_secret(dsn),
        cluster(),
        manifest("StorageComponent", "kv", clusterRef=reference, store="KV"),
        tenant("acme"),
        tenant("globex", components=["KV"], deletionPolicy="Delete"),
        tenant("sealed", isolation="Sealed"),
    )


def ready(ran: Ran) -> set[str]:
    """Return the resources that a command reported as Ready."""
    return {f"{each['kind']}/{each['name']}" for each in ran.json["resources"] if each["ready"] == "True"}


def credentials(ran: Ran, name: str) -> dict[str, str]:
    """Return a tenant's credentials from the folder that a command named."""
    text = (Path(ran.json["credentials"]) / f"secret.team.{name}-storage.json").read_text(encoding="utf-8")
    return {key: base64.b64decode(value).decode() for key, value in yaml.safe_load(text)["data"].items()}


def test_apply_makes_everything_ready_and_then_changes_nothing(
    cli: Cli, quick_installation: Installation, tmp_path: Path
) -> None:
    """The second run finds the credentials of the first, and nothing to do."""
    folder = everything(tmp_path / "m", quick_installation.operator_dsn)
    first = cli("apply", "-f", str(folder), "--json")
    assert (first.code, ready(first)) == (0, ALL_READY), first.out + first.err
    before = credentials(first, "acme")
    psycopg.connect(before["dsn"]).close()
    assert "Nothing would change." in cli("apply", "-f", str(folder), "--dry-run").out
    second = cli("apply", "-f", str(folder), "--json")
    assert credentials(second, "acme") == before


def test_credentials_are_private_and_their_folder_is_told(
    cli: Cli, quick_installation: Installation, tmp_path: Path
) -> None:
    """No other user of the machine may read a password; the place follows from the folder of manifests."""
    folder = everything(tmp_path / "m", quick_installation.operator_dsn)
    ran = cli("apply", "-f", str(folder))
    kept = default_folder([folder])
    assert str(kept) in ran.err
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept.glob("secret.*")} == {0o600}
    assert before_password(kept) not in ran.out + ran.err


def before_password(kept: Path) -> str:
    """Return one password as it is kept."""
    return str(yaml.safe_load((kept / "secret.team.acme-storage.json").read_text())["data"]["password"])


def test_credentials_to_standard_output_are_manifests(
    cli: Cli, quick_installation: Installation, tmp_path: Path
) -> None:
    """With --credentials - every Secret is printed, usable with kubectl, and nothing else is on standard output."""
    folder = everything(tmp_path / "m", quick_installation.operator_dsn)
    ran = cli("apply", "-f", str(folder), "--credentials", "-")
    secrets = {each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all(ran.out)}
    assert set(secrets) == {"acme-storage", "globex-storage", "sealed-storage"}
    psycopg.connect(secrets["acme-storage"]["dsn"]).close()
    assert secrets["sealed-storage"]["mode"] == "sealed"
    assert not default_folder([folder]).exists()


def test_a_dry_run_changes_nothing(cli: Cli, quick_installation: Installation, tmp_path: Path) -> None:
    """The actions are listed with their reasons; no role, row or file appears."""
    folder = everything(tmp_path / "m", quick_installation.operator_dsn)
    ran = cli("apply", "-f", str(folder), "--dry-run", "--json")
    kinds = {change["change"] for change in ran.json["changes"]}
    assert {"SaveTenant", "CreateLogin", "GrantSet", "BindLogin", "WriteSecret"} <= kinds
    assert all(change["why"] for change in ran.json["changes"])
    with quick_installation.connect(quick_installation.names.owner) as connection:
        assert connection.execute("SELECT count(*) FROM llmspell.tenants").fetchone() == (0,)
        assert connection.execute("SELECT claimed_by FROM llmspell.installation").fetchone() == (None,)
    assert not default_folder([folder]).exists()


def test_the_url_stands_for_the_secret(cli: Cli, quick_installation: Installation, tmp_path: Path) -> None:
    """Manifests for a cluster work without a Secret among them; two clusters need two Secrets."""
    folder = write(tmp_path / "m", cluster(), tenant("acme"))
    assert "SecretMissing" in cli("apply", "-f", str(folder)).out
    assert cli("apply", "-f", str(folder), "--postgres-url", quick_installation.operator_dsn).code == 0
    other = {**cluster(), "metadata": {"name": "other", "namespace": "llmspell"}}
    write(folder, cluster(), other)
    assert cli("apply", "-f", str(folder), "--postgres-url", quick_installation.operator_dsn).explains(
        "2 StorageClusters"
    )


def test_delete_shows_first_and_keeps_or_deletes_rows(
    cli: Cli, quick_installation: Installation, tmp_path: Path
) -> None:
    """Without --yes nothing goes; with it logins go always, and rows only where the policy is Delete."""
    folder = everything(tmp_path / "m", quick_installation.operator_dsn)
    applied = cli("apply", "-f", str(folder), "--json")
    for name in ("acme", "globex"):
        with psycopg.connect(credentials(applied, name)["dsn"]) as connection:
            connection.execute("INSERT INTO kv_store (tenant_id, key, value) VALUES (%s, 'k', 'v')", (name,))
    assert cli("delete", "-f", str(folder)).explains("--yes")
    shown = cli("delete", "-f", str(folder), "--dry-run", "--json")
    assert {"DropLogin", "RetainTenant", "DeleteRows"} <= {change["change"] for change in shown.json["changes"]}
    assert ready(cli("apply", "-f", str(folder), "--json")) == ALL_READY
    assert cli("delete", "-f", str(folder), "--yes").code == 0
    with psycopg.connect(quick_installation.superuser_dsn) as connection:
        rows = connection.execute("SELECT tenant_id FROM llmspell.kv_store ORDER BY 1").fetchall()
        tenants = connection.execute("SELECT tenant, state FROM llmspell.tenants ORDER BY 1").fetchall()
        logins = connection.execute(
            "SELECT count(*) FROM pg_roles WHERE rolname LIKE %s", (f"{quick_installation.names.owner}\\_t\\_%",)
        )
        assert (rows, tenants) == ([("acme",)], [("acme", "retained"), ("sealed", "retained")])
        assert logins.fetchone() == (0,)
    assert not list(Path(applied.json["credentials"]).glob("secret.*"))


def test_delete_needs_the_cluster(cli: Cli, tmp_path: Path) -> None:
    """A tenant without its cluster's manifest cannot be cleaned, and is not reported as deleted."""
    folder = write(tmp_path / "m", tenant("acme"))
    assert cli("delete", "-f", str(folder), "--yes").explains("StorageCluster llmspell/main", "-f")


def test_what_cannot_become_ready_is_said_in_the_table(
    cli: Cli, quick_installation: Installation, tmp_path: Path
) -> None:
    """One refused tenant does not stop the others; the exit code tells, and the reason is the documented one."""
    twin = {**tenant("acme"), "metadata": {"name": "twin", "namespace": "team"}}
    folder = write(tmp_path / "m", admin_secret(quick_installation.operator_dsn), cluster(), tenant("acme"), twin)
    ran = cli("apply", "-f", str(folder), "--json")
    assert ran.code == 1
    assert ready(ran) == {"StorageCluster/main", "Tenant/acme"} or ready(ran) == {"StorageCluster/main", "Tenant/twin"}
    assert [each["reason"] for each in ran.json["resources"] if each["ready"] != "True"] == ["TenantIdTaken"]


Broken = Callable[[Installation], str]


def _lacking(made: Installation) -> str:
    """Take a right away from the operator's login."""
    _as_superuser(made, f"REVOKE {made.names.maintenance} FROM {made.names.operator}")
    return made.operator_dsn


def _without_vector(made: Installation) -> str:
    """Drop the extension that the schema stands on."""
    _as_superuser(made, "DROP EXTENSION vector CASCADE")
    return made.operator_dsn


def _of_another_project(made: Installation) -> str:
    """Make the schema one that nobody bootstrapped, with tables in it."""
    _as_superuser(made, "COMMENT ON SCHEMA llmspell IS 'somebody else''s'")
    return made.operator_dsn


def _as_superuser(made: Installation, statement: str) -> None:
    """Break something behind the operator's back."""
    with psycopg.connect(made.superuser_dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


FAULTS: dict[str, Broken] = {
    "ConnectionStringInvalid": lambda _: "postgresql://hidden:hidden@[::/x",
    "AuthenticationFailed": lambda made: made.database.dsn_as(made.names.operator, "hidden"),
    "DatabaseMissing": lambda made: url_with(made.operator_dsn, dbname="hidden away"),
    "PrivilegesMissing": _lacking,
    "ExtensionMissing": _without_vector,
    "ForeignSchema": _of_another_project,
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_fault_of_the_database_is_a_reason(
    cli: Cli, quick_installation: Installation, tmp_path: Path, reason: str
) -> None:
    """Each fault has its reason in the table at once, the tenants wait for their cluster, and no secret is shown."""
    folder = everything(tmp_path / "m", FAULTS[reason](quick_installation))
    started = time.monotonic()
    ran = cli("apply", "-f", str(folder), "--json", "--timeout", "100")
    assert time.monotonic() - started < 100, "it was tried until the time was over"
    assert ran.code == 1
    reasons = {each["kind"]: each["reason"] for each in ran.json["resources"]}
    assert reasons == {"StorageCluster": reason, "StorageComponent": "ClusterNotReady", "Tenant": "ClusterNotReady"}
    assert "hidden:" not in ran.out + ran.err


def test_an_unreachable_server_is_tried_for_the_time_given(cli: Cli, tmp_path: Path) -> None:
    """A server that may still start is asked again until --timeout, and then reported."""
    folder = everything(tmp_path / "m", "postgresql://u:hidden@127.0.0.1:9/d")
    started = time.monotonic()
    ran = cli("apply", "-f", str(folder), "--json", "--timeout", "2")
    # Without the option it would be half a minute.
    assert 1 < time.monotonic() - started < 30
    assert ran.json["resources"][0]["reason"] == "Unreachable"
    assert "waiting: " in ran.err


def test_a_claimed_database_is_refused(cli: Cli, quick_installation: Installation, tmp_path: Path) -> None:
    """What an operator of a Kubernetes cluster manages is not touched from a folder."""
    with quick_installation.connect(quick_installation.names.owner) as connection:
        claim = '{"cluster": "uid", "namespace": "prod", "name": "main"}'
        connection.execute("UPDATE llmspell.installation SET claimed_by = %s", (claim,))
    ran = cli("apply", "-f", str(everything(tmp_path / "m", quick_installation.operator_dsn)), "--json")
    assert ran.json["resources"][0]["reason"] == "DatabaseClaimed"
    assert "prod/main" in ran.json["resources"][0]["message"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_any_moment_the_next_run_converges(
    cli: Cli, bootstrapped_database: Installation, tmp_path: Path, seed: int
) -> None:
    """SIGKILL during migrations, provisioning or writing leaves nothing that the next run does not finish."""
    chance = random.Random(seed)
    folder = everything(tmp_path / "m", bootstrapped_database.operator_dsn)
    command = [*PROGRAM, "apply", "-f", str(folder)]
    for _ in range(6):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
        _wait_for_work(bootstrapped_database, child)
        time.sleep(chance.uniform(0, 1.2))
        child.kill()
        child.wait()
    ran = cli("apply", "-f", str(folder), "--json")
    assert (ran.code, ready(ran)) == (0, ALL_READY), ran.out + ran.err
    for name in ("acme", "globex", "sealed"):
        psycopg.connect(credentials(ran, name)["dsn"]).close()
    assert "Nothing would change." in cli("apply", "-f", str(folder), "--dry-run").out
    assert not list(Path(ran.json["credentials"]).glob(".unfinished-*"))


def _wait_for_work(made: Installation, child: subprocess.Popen[bytes]) -> None:
    """Wait until the command has opened a session, so that a kill hits its work and not the interpreter's start."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = %s"
    with psycopg.connect(made.superuser_dsn, autocommit=True) as connection:
        while child.poll() is None:
            row = connection.execute(query, (made.names.operator,)).fetchone()
            if row is not None and row[0]:
                return
            time.sleep(0.01)


def test_interrupting_ends_without_a_traceback(quick_installation: Installation, tmp_path: Path) -> None:
    """Ctrl-C while it waits for a server ends at once, and cleanly."""
    folder = everything(tmp_path / "m", "postgresql://u:hidden@127.0.0.1:9/d")
    with subprocess.Popen(
        [*PROGRAM, "apply", "-f", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        # A shell's background job ignores Ctrl-C, and hands that on to what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one call, no threads here
    ) as child:
        assert child.stderr is not None
        seen = ""
        while "waiting" not in seen:
            seen += child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode in {1, 130}
    assert "Traceback" not in seen + out + err
