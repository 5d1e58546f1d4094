"""Encrypted connections to a real server with a certificate: the CA that a cluster names is used and handed on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from storage_operator.devenv.postgres import EmbeddedPostgres
from storage_operator.world import Key
from storagelib import Credentials
from tests.plugins.installation import Installation, installation_on
from tests.reconcile.stage import CLUSTER_NAMESPACE, Stage


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A server that speaks TLS, the CA that signed its certificate, and one that did not."""

    installation: Installation
    ca: bytes
    foreign_ca: bytes


def authority(folder: Path, name: str) -> Path:
    """Make a CA; returns its certificate, its key lies beside it."""
    certificate = folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", str(folder / f"{name}.key"), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate


def server_certificate(folder: Path, ca: Path) -> None:
    """Make server.crt and server.key for 127.0.0.1, signed by the CA."""
    request = [
        "openssl",
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=127.0.0.1",
    ]
    request += ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.csr")]
    subprocess.run(request, check=True, capture_output=True)
    (folder / "san.cnf").write_text("subjectAltName = IP:127.0.0.1, DNS:localhost\n")
    sign = [
        "openssl",
        "x509",
        "-req",
        "-in",
        str(folder / "server.csr"),
        "-CA",
        str(ca),
        "-CAkey",
        str(ca.with_suffix(".key")),
    ]
    sign += ["-CAcreateserial", "-days", "2", "-extfile", str(folder / "san.cnf"), "-out", str(folder / "server.crt")]
    subprocess.run(sign, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """Give a server of our own that accepts encrypted connections."""
    if shutil.which("openssl") is None:
        pytest.fail("openssl is not installed: the tests of TLS make their certificates with it", pytrace=False)
    folder = tmp_path_factory.mktemp("tls")
    ca, foreign = authority(folder, "ca"), authority(folder, "foreign")
    server_certificate(folder, ca)
    server = EmbeddedPostgres(f"test-tls-{os.getpid()}")
    server.start()
    try:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            (data,) = admin.execute("SHOW data_directory").fetchone() or ("",)
            for name in ("server.crt", "server.key"):
                target = Path(data) / name
                shutil.copyfile(folder / name, target)
                target.chmod(0o600)
                owner = Path(data).stat()
                os.chown(target, owner.st_uid, owner.st_gid)
            admin.execute("ALTER SYSTEM SET ssl = on")
            admin.execute("SELECT pg_reload_conf()")
        with installation_on(server.dsn()) as made:
            yield TlsServer(made, ca.read_bytes(), foreign.read_bytes())
    finally:
        server.remove()


def stage_with(tls: TlsServer, mode: str, ca: bytes | None) -> Stage:
    """Give a stage whose cluster asks for TLS."""
    declared: dict[str, object] = {"mode": mode}
    if ca is not None:
        declared["caSecretRef"] = {"name": "authority"}
    stage = Stage(tls.installation, tls=declared)
    if ca is not None:
        stage.world.secret(CLUSTER_NAMESPACE, "authority", {"ca.crt": ca})
    return stage


async def test_the_server_is_verified_and_the_ca_handed_on(tls: TlsServer, tmp_path: Path) -> None:
    """With VerifyFull the operator's sessions are encrypted, and the Secret holds what an application needs for the same."""
    stage = stage_with(tls, "VerifyFull", tls.ca)
    try:
        await stage.run(stage.cluster)
        assert stage.condition(stage.cluster) == ("True", "Ready"), stage.world.bodies[stage.cluster]["status"]
        key = await stage.ready("encrypted")
        rows = stage.superuser(
            "SELECT DISTINCT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = %s",
            (tls.installation.names.operator,),
        )
        assert rows == [(True,)]
        secret = stage.secret(key)
        assert (secret["sslmode"], secret["ca.crt"]) == (b"verify-full", tls.ca)
        credentials = Credentials.from_secret(secret).save_ca(tmp_path / "ca.crt")
        with psycopg.connect(credentials.conninfo) as session:
            row = session.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)
    finally:
        await stage.reconciler.close()


async def refused(stage: Stage) -> tuple[str, str]:
    """Reconcile the cluster and return what Reachable says."""
    key: Key = stage.cluster
    try:
        await stage.run(key)
        return stage.condition(key, "Reachable")
    finally:
        await stage.reconciler.close()


async def test_a_certificate_of_another_authority_is_refused(tls: TlsServer) -> None:
    """A server that the named CA did not sign for is not talked to."""
    assert await refused(stage_with(tls, "VerifyFull", tls.foreign_ca)) == ("False", "TLSFailed")


async def test_a_server_without_tls_is_refused_when_it_is_required(installation: Installation) -> None:
    """Require never falls back to plain text."""
    stage = Stage(installation, tls={"mode": "Require"})
    assert await refused(stage) == ("False", "TLSFailed")
