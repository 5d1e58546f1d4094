"""``llmspell tenant``: looking at tenants and changing their access, straight on a real PostgreSQL."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.plugins.commandline import Cli, admin_secret, cluster, tenant, write
from tests.plugins.installation import Installation


@dataclass(frozen=True, slots=True)
class Place:
    """An installation with two tenants, the folder that declares them, and their credentials."""

    installation: Installation
    folder: Path
    credentials: Path

    @property
    def files(self) -> tuple[str, ...]:
        """The options that name them."""
        return ("-f", str(self.folder), "--credentials", str(self.credentials))

    @property
    def url(self) -> tuple[str, str]:
        """The option that names the database."""
        return ("--postgres-url", self.installation.operator_dsn)

    def dsn(self, name: str) -> str:
        """A tenant's own DSN, as its credentials are now."""
        data = json.loads((self.credentials / f"secret.team.{name}-storage.json").read_text())["data"]
        return base64.b64decode(data["dsn"]).decode()


@pytest.fixture
def place(cli: Cli, quick_installation: Installation, tmp_path: Path) -> Place:
    """Apply two tenants, one of each isolation mode."""
    made = quick_installation
    quotas = {"connections": 5, "statementTimeout": "30s", "storage": "1Gi"}
    bodies = (
        admin_secret(made.operator_dsn),
        cluster(),
        tenant("acme", quotas=quotas),
        tenant("shut", isolation="Sealed"),
    )
    place = Place(made, write(tmp_path / "m", *bodies), tmp_path / "credentials")
    ran = cli("apply", *place.files)
    assert ran.code == 0, ran.out + ran.err
    return place


def test_list_and_show_tell_state_roles_and_sessions(cli: Cli, place: Place) -> None:
    """A list for many, a page for one, and never a secret."""
    listed = cli("tenant", "list", *place.url, "--json").json["tenants"]
    assert [(each["tenant"], each["isolation"], each["logins"]) for each in listed] == [
        ("acme", "role", 1),
        ("shut", "sealed", 0),
    ]
    table = cli("tenant", "list", *place.url)
    assert "team/acme" in table.out
    assert "1Gi" in table.out
    with psycopg.connect(place.dsn("acme")):
        shown = cli("tenant", "show", "acme", *place.url, "--json")
    (login,) = shown.json["logins"]
    assert (login["sessions"], login["connectionLimit"]) == (1, 5)
    assert "statement_timeout=30000ms" in login["settings"]
    assert "SCRAM" not in shown.out
    assert "verifier" not in shown.out
    assert cli("tenant", "show", "acme", *place.url).code == 0
    assert cli("tenant", "show", "nobody", *place.url).explains("no tenant nobody")


def test_plan_shows_actions_and_masked_sql(cli: Cli, place: Place) -> None:
    """The dry run names each action and why; its SQL is what would run, with the verifier masked."""
    unchanged = cli("tenant", "plan", "-f", str(place.folder), "--credentials", str(place.credentials))
    assert "team/acme: nothing would change" in unchanged.out
    write(place.folder, admin_secret(place.installation.operator_dsn), cluster(), tenant("newcomer"))
    ran = cli("tenant", "plan", *place.files, "--sql")
    assert "the tenant is new" in ran.out
    assert "CREATE ROLE" in ran.out
    assert "SCRAM-SHA-256$masked" in ran.out
    assert ran.out.count("SCRAM") == ran.out.count("SCRAM-SHA-256$masked")
    document = cli("tenant", "plan", *place.files, "--sql", "--json").json
    assert {"namespace", "name", "actions", "sql"} == set(document["tenants"][0])
    listed = cli("tenant", "list", *place.url, "--json").json["tenants"]
    assert "newcomer" not in {each["tenant"] for each in listed}


def test_rotate_issues_a_second_login_and_leaves_the_first_for_the_overlap(cli: Cli, place: Place) -> None:
    """The credentials on disk are new and work, and applications that still hold the old ones go on."""
    before = place.dsn("acme")
    ran = cli("tenant", "rotate", "acme", *place.files, "--json")
    assert ran.json["ready"] is True
    after = place.dsn("acme")
    assert before != after
    for dsn in (before, after):
        psycopg.connect(dsn).close()
    assert len(cli("tenant", "show", "acme", *place.url, "--json").json["logins"]) == 2
    assert cli("apply", *place.files).code == 0
    assert place.dsn("acme") == after


def test_suspend_ends_sessions_and_resume_lets_in_again(cli: Cli, place: Place) -> None:
    """A suspended tenant is out at once; resuming needs no new credential."""
    dsn = place.dsn("acme")
    with psycopg.connect(dsn, autocommit=True) as session:
        assert cli("tenant", "suspend", "team/acme", *place.files).code == 0
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        psycopg.connect(dsn)
    assert "suspended" in cli("tenant", "list", *place.url).out
    assert cli("tenant", "resume", "acme", *place.files).code == 0
    assert place.dsn("acme") == dsn
    psycopg.connect(dsn).close()


def test_sealed_tenants_are_suspended_and_rotated_too(cli: Cli, place: Place) -> None:
    """In sealed mode the capability is what changes."""
    before = cli("tenant", "show", "shut", *place.url, "--json").json["capability_version"]
    assert cli("tenant", "rotate", "shut", *place.files).code == 0
    assert cli("tenant", "show", "shut", *place.url, "--json").json["capability_version"] > before
    assert cli("tenant", "suspend", "shut", *place.files).code == 0
    assert cli("tenant", "resume", "shut", *place.files).code == 0


def test_what_is_not_there_is_one_line(cli: Cli, place: Place) -> None:
    """An unknown tenant, credentials that would be lost, a missing cluster and an empty database are told."""
    assert cli("tenant", "rotate", "nobody", *place.files).explains("no Tenant nobody")
    assert cli("tenant", "rotate", "acme", "-f", str(place.folder), "--credentials", "-").explains("--credentials")
    write(place.folder, tenant("acme"))
    assert cli("tenant", "plan", *place.files).explains("StorageCluster llmspell/main", "-f")
    assert cli("tenant", "show", "a'; DROP TABLE llmspell.tenants; --", *place.url).explains("no tenant")
    assert len(cli("tenant", "list", *place.url, "--json").json["tenants"]) == 2
