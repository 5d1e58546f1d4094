"""Credentials: what the operator writes is what an application reads; every fault at once, no value repeated."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from storage_operator.planning.secret import Access, Target, application_secret
from storage_operator.resources import tenant
from storagelib import Credentials, InvalidInput, SecretKeys, StoreConfig

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
CAPABILITY = "v1." + "ab" * 32
TARGET = Target("db.example", 5432, "agents", "verify-full", CERTIFICATE, "pooler.example", 6432)
ROLE = Access("acme", "llmspell_abcdefg2_t_1_a", "pa'ss\\wo/r:d@ %41ü", "llmspell")
SEALED = Access("acme", "llmspell_abcdefg2_app", "shared", "llmspell", CAPABILITY)


def written(target: Target = TARGET, access: Access = ROLE, keys: tenant.SecretKeys | None = None) -> dict[str, bytes]:
    """Write a Secret as the operator does."""
    return application_secret(target, access, keys or tenant.SecretKeys())


def mount(folder: Path, data: dict[str, bytes], version: str = "..1") -> Path:
    """Lay out a folder as the kubelet mounts a Secret: files link into ``..data``, which links to a version."""
    (folder / version).mkdir(parents=True)
    for name, value in data.items():
        (folder / version / name).write_bytes(value)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(version)
    (folder / "..new").replace(folder / "..data")
    return folder


def faults_of(data: dict[str, Any], **options: Any) -> tuple[str, ...]:
    """Return the faults of a Secret that must be refused."""
    with pytest.raises(InvalidInput) as refusal:
        Credentials.from_secret(data, **options)
    return refusal.value.faults


@pytest.mark.parametrize("access", [ROLE, SEALED], ids=["role", "sealed"])
def test_what_the_operator_writes_is_read_back(access: Access, tmp_path: Path) -> None:
    """Mounted or as a mapping, every value that the operator wrote arrives."""
    mounted = Credentials.from_secret(mount(tmp_path, written(access=access)))
    mapped = Credentials.from_secret(written(access=access))
    assert mapped == Credentials.from_secret({name: value.decode() for name, value in written(access=access).items()})
    assert (mounted.host, mounted.port, mounted.dbname, mounted.user) == ("db.example", 5432, "agents", access.user)
    assert (mounted.password, mounted.tenant_id, mounted.mode) == (access.password, "acme", access.mode)
    assert (mounted.schema, mounted.capability, mounted.sslmode) == ("llmspell", access.capability, "verify-full")
    assert (mounted.pooler_host, mounted.pooler_port) == ("pooler.example", 6432)
    assert (mounted.ca, mounted.ca_file) == (CERTIFICATE.decode(), tmp_path / "ca.crt")
    assert mapped.ca_file is None


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1", "::1", "/var/run/postgresql"])
def test_the_dsn_is_the_operators(host: str) -> None:
    """Without a CA file, the DSN that is rendered here is to libpq what the operator wrote."""
    data = written(Target(host, 5433, "agents", "prefer", None, host, 6432))
    credentials = Credentials.from_secret(data)
    assert conninfo_to_dict(credentials.dsn) == conninfo_to_dict(data["dsn"].decode())
    assert conninfo_to_dict(credentials.conninfo) == conninfo_to_dict(data["dsn"].decode())
    assert credentials.pooled_dsn is not None
    assert conninfo_to_dict(credentials.pooled_dsn) == conninfo_to_dict(data["pooled-dsn"].decode())


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=40))
def test_any_password_survives_libpq(password: str) -> None:
    """Quotes, backslashes, percent signs and letters of any script arrive in both forms of the connection string."""
    credentials = Credentials.from_secret(
        written(Target("db", 5432, "a", "prefer"), Access("acme", "u", password, "s"))
    )
    assert conninfo_to_dict(credentials.conninfo)["password"] == password
    assert conninfo_to_dict(credentials.dsn)["password"] == password


def test_own_key_names_are_read() -> None:
    """The keys that a Tenant names are the keys that are read, given as the manifest's block or as the class."""
    data = written(keys=tenant.SecretKeys(password="PGPASSWORD", pooled_dsn="POOLED", tenant_id="TENANT"))
    names = {"password": "PGPASSWORD", "pooledDsn": "POOLED", "tenantId": "TENANT"}
    own = SecretKeys(password="PGPASSWORD", pooled_dsn="POOLED", tenant_id="TENANT")
    assert Credentials.from_secret(data, keys=names) == Credentials.from_secret(data, keys=own)
    known = "ca, capability, dbname, dsn, host, password, pooledDsn, port, sslmode, tenantId, user"
    assert faults_of(data, keys={"passwort": "x"}) == (f"keys.passwort: there is no such key; keys are: {known}",)
    assert faults_of(data, keys={"user": "mode"}) == ("keys: two values share the key mode",)


def test_a_uri_alone_is_enough() -> None:
    """A Secret made by other tools may hold the URI instead of its parts."""
    data = {name: value for name, value in written().items() if name in ("dsn", "tenant-id", "mode", "schema")}
    assert Credentials.from_secret(data).password == ROLE.password
    assert Credentials.from_secret(data).pooled_dsn is None


def test_every_fault_is_reported_at_once() -> None:
    """One reading names all that is wrong, by key."""
    found = faults_of({"host": "", "port": "54x", "user": b"\xff", "tenant-id": "A", "mode": "open", "schema": "1"})
    assert [fault.partition(":")[0] for fault in found] == [
        "user", "dbname", "user", "password", "sslmode", "host", "port", "tenant-id", "mode", "schema"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        pytest.param("port", "0", "must be a number from 1 to 65535", id="port-zero"),
        pytest.param("port", "٣", "must be a number", id="port-other-digits"),
        pytest.param("password", "s3cret\n", "ends with a line break", id="password-line-break"),
        pytest.param("user", "a\0b", "cannot be printed", id="user-nul"),
        pytest.param("dbname", "ü" * 32, "longer than 63 bytes", id="dbname-long"),
        pytest.param("dsn", "host=db user=u", "is not a connection URI", id="dsn-keywords"),
        pytest.param("dsn", "postgresql://u:s3cret@[::1/db", "is not a connection URI", id="dsn-bracket"),
        pytest.param("dsn", "postgresql://u:s3cret@db/%ff", "is not a connection URI", id="dsn-not-utf-8"),
        pytest.param("dsn", "postgresql://u:s3cret@db/agents", "differs from host, user, password", id="dsn-differs"),
        pytest.param("pooled-dsn", "postgresql://u:s3cret@db:1/agents", "differs from user, password", id="pooled"),
        pytest.param("pooled-dsn", "postgresql://pooler/agents", "names no host and port", id="pooled-without-port"),
        pytest.param("user", "x" * 4097, "is longer than 4096 characters", id="long"),
        pytest.param("sslmode", "on", "must be one of disable", id="sslmode"),
        pytest.param("ca.crt", "s3cret", "holds no PEM certificate", id="ca"),
        pytest.param("capability", CAPABILITY, "belongs to mode sealed", id="capability-in-role-mode"),
        pytest.param("mode", "sealed", "capability: is missing, and mode is sealed", id="sealed-without-capability"),
        pytest.param("tenant-id", 7, "must be text or bytes", id="not-text"),
        pytest.param("password", "x" * 1_048_577, "is longer than 1048576 bytes", id="huge"),
    ],
)
def test_a_bad_value_is_refused(key: str, value: object, says: str) -> None:
    """Each fault has a sentence that names the key and never the value."""
    text = "; ".join(faults_of({**written(), key: value}))
    assert says in text
    assert "s3cret" not in text


@given(
    st.dictionaries(
        st.sampled_from(
            ["host", "port", "dsn", "pooled-dsn", "password", "mode", "schema", "ca.crt", "capability", "x"]
        ),
        st.text(max_size=30) | st.binary(max_size=30) | st.just("postgresql://a:b@[c/d?e&f=%") | st.none(),
    )
)
def test_anything_gives_faults_and_nothing_else(data: dict[str, Any]) -> None:
    """Whatever stands in a Secret, there is a configuration or one error with faults."""
    assert faults_of(data)


def test_no_secret_is_shown() -> None:
    """Neither repr nor str nor an error shows the password, the capability or the CA."""
    credentials = Credentials.from_secret(written(access=SEALED))
    for shown in (
        repr(credentials),
        str(credentials),
        f"{credentials}",
        str(faults_of({**written(access=SEALED), "port": "x"})),
    ):
        assert SEALED.password not in shown
        assert CAPABILITY not in shown
        assert "CERTIFICATE" not in shown


def test_arguments_are_checked_as_well() -> None:
    """A configuration that is made by hand passes the same checks."""
    with pytest.raises(InvalidInput) as refusal:
        Credentials(host="", port=True, dbname="a", user="u", password="p", tenant_id="x", pooler_port=1)
    assert refusal.value.faults == (
        "host: is empty",
        "port: must be a number from 1 to 65535",
        "tenant_id: is not a tenant id: 3 to 255 of a-z, 0-9 and -",
        "pooler_host, pooler_port: must be given together",
    )


def test_a_replaced_secret_is_read_as_one_version(tmp_path: Path) -> None:
    """After the kubelet swaps the folder, all values are the new ones, the CA's path is still the same."""
    before = Credentials.from_secret(mount(tmp_path, written()))
    rotated = Access("acme", "llmspell_abcdefg2_t_1_b", "new", "llmspell")
    after = Credentials.from_secret(mount(tmp_path, written(access=rotated), "..2"))
    assert (after.user, after.password, after.ca_file) == (rotated.user, "new", before.ca_file)


def test_a_json_file_is_read(tmp_path: Path) -> None:
    """What ``kubectl get secret -o json`` prints, and what the command line keeps, is read as well."""
    data = {name: base64.b64encode(value).decode() for name, value in written().items()}
    file = tmp_path / "secret.json"
    file.write_text(json.dumps({"kind": "Secret", "data": data}))
    assert Credentials.from_secret(file) == Credentials.from_secret(written())


@pytest.mark.parametrize(
    "text", ["s3cret", "[]", '{"data": {"user": "s3cret!"}}', '{"data": 1}', "\xff", "[" * 100_000]
)
def test_a_file_that_is_no_secret_is_refused(text: str, tmp_path: Path) -> None:
    """One sentence names the file and repeats nothing of it."""
    file = tmp_path / "secret.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"secret.json: is not the JSON of a Secret") as refusal:
        Credentials.from_secret(file)
    assert "s3cret" not in "".join(traceback.format_exception(refusal.value))


def test_a_missing_folder_is_one_fault(tmp_path: Path) -> None:
    """The path is named, and nothing else is guessed."""
    with pytest.raises(InvalidInput, match=r"gone: is not a folder of a mounted Secret"):
        Credentials.from_secret(tmp_path / "gone")


def test_a_ca_from_a_mapping_needs_a_file(tmp_path: Path) -> None:
    """Verification is never dropped silently: without a file there is an error, with one libpq is told of it."""
    credentials = Credentials.from_secret(written())
    with pytest.raises(InvalidInput, match="call save_ca"):
        _ = credentials.conninfo
    assert (
        Credentials.from_secret(written(Target("db", 5432, "a", "require"))).save_ca(tmp_path / "none").ca_file is None
    )
    saved = credentials.save_ca(tmp_path / "ca.crt")
    assert conninfo_to_dict(saved.conninfo)["sslrootcert"] == str(tmp_path / "ca.crt")
    assert (tmp_path / "ca.crt").read_bytes() == CERTIFICATE


DSN = "postgresql://ada:s3cret@db.example:5433/agents"


@pytest.mark.parametrize("host", ["db.example", "10.0.0.1", "[::1]", "%2Fvar%2Frun%2Fpostgresql"])
def test_a_uri_gives_credentials(host: str) -> None:
    """What a URI says arrives, and goes back to libpq unchanged."""
    dsn = f"postgresql://ada:s3%40cret@{host}:5433/agents?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k"
    credentials = Credentials.from_dsn(dsn, tenant_id="acme")
    assert (credentials.tenant_id, credentials.mode, credentials.schema) == ("acme", "role", "llmspell")
    assert conninfo_to_dict(credentials.dsn) == conninfo_to_dict(dsn)
    assert conninfo_to_dict(credentials.conninfo) == conninfo_to_dict(dsn)


def test_a_uri_may_leave_port_and_sslmode_out() -> None:
    """The defaults of libpq stand for them; a socket's folder may stand behind the question mark."""
    credentials = Credentials.from_dsn("postgres://ada:s3cret@/agents?host=/run", tenant_id="acme", schema="own")
    assert (credentials.host, credentials.port, credentials.sslmode, credentials.schema) == (
        "/run", 5432, "prefer", "own"
    )  # fmt: skip


def test_a_uri_may_have_a_pooled_one_and_a_capability() -> None:
    """In sealed mode, and through a pooler."""
    pooled = "postgresql://ada:s3cret@pooler:6432/agents"
    credentials = Credentials.from_dsn(DSN, tenant_id="acme", mode="sealed", capability=CAPABILITY, pooled_dsn=pooled)
    assert (credentials.mode, credentials.capability) == ("sealed", CAPABILITY)
    assert credentials.pooled_conninfo is not None
    assert conninfo_to_dict(credentials.pooled_conninfo) == {**conninfo_to_dict(pooled), "sslmode": "prefer"}
    assert Credentials.from_dsn(DSN, tenant_id="acme").pooled_conninfo is None


@pytest.mark.parametrize(
    ("dsn", "options", "faults"),
    [
        ("mysql://ada:s3cret@db/agents", {}, ("dsn: is not a connection URI (postgresql://…)",)),
        ("postgresql://", {}, ("dsn: names no host", "dsn: names no dbname", "dsn: names no user", "dsn: names no password")),
        (f"{DSN}?sslmode=on", {}, ("sslmode: must be one of disable, allow, prefer, require, verify-ca, verify-full",)),
        (f"{DSN}?options=s3cret", {}, (
            "dsn: holds a parameter besides sslmode, sslrootcert, sslcert, sslkey, application_name, connect_timeout",)),
        (f"{DSN}?sslcert=/c", {}, ("sslcert, sslkey: must be given together",)),
        (DSN, {"tenant_id": "A"}, ("tenant_id: is not a tenant id: 3 to 255 of a-z, 0-9 and -",)),
        (DSN, {"mode": "sealed"}, ("capability: is missing, and mode is sealed",)),
        (DSN, {"mode": "open"}, ("mode: must be one of role, sealed",)),
        (DSN, {"pooled_dsn": "postgresql://eve:s3cret@p:1/agents"}, ("pooled_dsn: differs from user",)),
        (DSN.replace("5433", "0"), {}, ("port: must be a number from 1 to 65535",)),
    ],
)  # fmt: skip
def test_a_wrong_uri_is_refused(dsn: str, options: dict[str, Any], faults: tuple[str, ...]) -> None:
    """Every fault at once, and no value of the URI."""
    with pytest.raises(InvalidInput) as refusal:
        Credentials.from_dsn(dsn, **{"tenant_id": "acme", **options})
    assert refusal.value.faults == faults
    assert "s3cret" not in "".join(traceback.format_exception(refusal.value))


@pytest.mark.parametrize("part", ["host", "dbname", "user", "pooler_host"])
def test_a_uri_in_the_place_of_a_part_is_not_shown(part: str) -> None:
    """Neither by the error nor by the repr of what would have been made with it."""
    parts = {"host": "db", "dbname": "app", "user": "ada", "password": "x", "tenant_id": "acme", "pooler_port": 6432}
    with pytest.raises(InvalidInput) as refused:
        Credentials(**{"pooler_host": "pool", **parts, part: "postgresql://ada:s3cret@db/agents"})
    assert refused.value.faults == (f"{part}: is a connection URI: name its parts, or use from_dsn",)
    assert "s3cret" not in repr(refused.value)


@pytest.mark.parametrize("path", ["postgresql://ada:s3cret@db/agents", Path("postgres://ada:s3cret@db/agents")])
def test_a_uri_in_the_place_of_a_path_is_not_shown(path: str | Path) -> None:
    """A path is named in messages; this one is none."""
    for wrong in (
        lambda: Credentials.from_secret(path),
        lambda: StoreConfig.from_secret(path),
        lambda: StoreConfig.on_sqlite(path),
        lambda: StoreConfig.load(environ={"LLMSPELL_STORAGE_POSTGRES_SECRET": str(path)}, path="/dev/null"),
    ):
        with pytest.raises(InvalidInput, match="connection URI") as refused:
            wrong()
        assert "s3cret" not in repr(refused.value)
