"""Credentials of several tenants: found by the tenant that a Secret names, followed when they rotate."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from storagelib import InvalidInput, PostgresConfig, SecretKeys, StoreConfig
from storagelib.credentials_folder import CredentialsFolder
from storagelib.errors import PermissionDenied


def secret(tenant: str, password: str = "s3cret") -> dict[str, str]:
    """Return what a Secret of a tenant holds."""
    dsn = f"postgresql://login-{tenant}:{password}@db:5432/agents?sslmode=require"
    return {"dsn": dsn, "tenant-id": tenant, "mode": "role", "schema": "llmspell"}


def as_file(place: Path, tenant: str, password: str = "s3cret") -> Path:
    """Write a Secret as JSON."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secret(tenant, password).items()}
    place.write_text(json.dumps({"kind": "Secret", "data": data}))
    return place


def as_folder(place: Path, tenant: str) -> None:
    """Write a Secret as a folder of values."""
    place.mkdir()
    for key, value in secret(tenant).items():
        (place / key).write_text(value)


def test_tenants_are_found_by_what_their_secrets_say(tmp_path: Path) -> None:
    """Files and folders count, whatever they are called; other things are left alone."""
    as_file(tmp_path / "secret.default.acme-storage.json", "acme")
    as_folder(tmp_path / "globex-storage", "globex")
    (tmp_path / "secret.default.admin.json").write_text('{"data": {"url": "eA=="}}')
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README").write_text("credentials")
    folder = CredentialsFolder(tmp_path)
    assert folder.tenants() == ["acme", "globex"]
    assert [folder.of(tenant).user for tenant in ("acme", "globex")] == ["login-acme", "login-globex"]


def test_a_rotation_and_a_new_tenant_are_seen(tmp_path: Path) -> None:
    """Every call reads anew; a file that became another tenant's is not believed."""
    place = as_file(tmp_path / "a.json", "acme")
    folder = CredentialsFolder(tmp_path)
    assert folder.of("acme").password == "s3cret"
    as_file(place, "acme", "new")
    assert folder.of("acme").password == "new"
    as_file(place, "globex")
    assert folder.of("globex").tenant_id == "globex"
    with pytest.raises(PermissionDenied, match="none for this tenant"):
        folder.of("acme")
    as_file(tmp_path / "b.json", "acme")
    assert folder.of("acme").tenant_id == "acme"


def test_two_secrets_of_one_tenant_are_a_fault(tmp_path: Path) -> None:
    """Which one would count is not guessed."""
    as_file(tmp_path / "a.json", "acme")
    as_file(tmp_path / "b.json", "acme")
    with pytest.raises(InvalidInput, match=r"b.json: names the tenant of a.json"):
        CredentialsFolder(tmp_path).of("acme")


def test_what_cannot_be_read_is_hinted_at(tmp_path: Path) -> None:
    """A damaged Secret is counted, not shown; a folder that is not there is named."""
    (tmp_path / "acme.json").write_text("s3cret")
    with pytest.raises(PermissionDenied, match="1 entries are no Secrets") as refusal:
        CredentialsFolder(tmp_path).of("acme")
    assert "s3cret" not in str(refusal.value)
    with pytest.raises(InvalidInput, match="gone: No such file"):
        CredentialsFolder(tmp_path / "gone").of("acme")


@pytest.mark.parametrize("tenant", ["../acme", "", "A", "a" * 256])
def test_no_tenant_leads_out_of_the_folder(tenant: str, tmp_path: Path) -> None:
    """A tenant's id is checked before anything is opened."""
    with pytest.raises(InvalidInput, match="tenant_id: must be 3 to 255"):
        CredentialsFolder(tmp_path / "gone").of(tenant)


def test_a_configuration_serves_the_tenants_of_its_folder(tmp_path: Path) -> None:
    """Own names of keys included."""
    place = tmp_path / "acme"
    as_folder(place, "acme")
    (place / "tenant-id").rename(place / "TENANT")
    config = PostgresConfig(credentials_folder=tmp_path, secret_keys=SecretKeys(tenant_id="TENANT"))
    assert config.credentials_of("acme").user == "login-acme"
    with pytest.raises(PermissionDenied):
        config.credentials_of("globex")


def test_one_secret_is_read_again(tmp_path: Path) -> None:
    """What ``from_secret`` read from a file is followed; what it read from a mapping cannot be."""
    place = as_file(tmp_path / "a.json", "acme")
    config = StoreConfig.from_secret(place)
    fixed = StoreConfig.from_secret(secret("acme"))
    assert config.postgres is not None
    assert fixed.postgres is not None
    as_file(place, "acme", "new")
    assert config.postgres.credentials_of("acme").password == "new"
    assert fixed.postgres.credentials_of("acme").password == "s3cret"
    as_file(place, "globex")
    with pytest.raises(PermissionDenied, match="another tenant's"):
        config.postgres.credentials_of("acme")
