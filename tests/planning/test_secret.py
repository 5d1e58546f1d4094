"""The application's Secret: a DSN that libpq reads back, whatever the parts hold, and what of a Secret is right."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from storage_operator.planning.secret import Access, Target, application_secret, dsn, observe_secret
from storage_operator.resources.tenant import SecretKeys

KEYS = SecretKeys()
HOSTS = [
    "db.example",
    "10.0.0.1",
    "2001:db8::1",
    "::1",
    "fe80::1%eth0",
    "/var/run/postgresql",
    "/a b/c?d&e=f",
    "@abstract",
]
TEXTS = ["plain", "a b", "p@ss:w/rd?#%", "ünïcödé", "'quoted'", '"double"', "&x=1", "+", "%41", "\\", "a,b"]


def access(user: str = "u", password: str = "p", capability: str | None = None) -> Access:
    """Return a way in."""
    return Access("acme", user, password, "llmspell", capability)


@pytest.mark.parametrize("host", [each for each in HOSTS if not each.startswith("@") and "%" not in each])
@pytest.mark.parametrize("text", TEXTS)
def test_libpq_reads_back_what_the_dsn_says(host: str, text: str) -> None:
    """Every host form and every hostile character survive the URI."""
    target = Target(host, 6543, text, "verify-full")
    read = conninfo_to_dict(dsn(host, 6543, target, access(text, text)))
    assert (read["host"], str(read["port"]), read["dbname"]) == (host, "6543", text)
    assert (read["user"], read["password"], read["sslmode"]) == (text, text, "verify-full")


characters = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=30)


@given(user=characters, password=characters, dbname=characters)
def test_any_text_survives_the_dsn(user: str, password: str, dbname: str) -> None:
    """Users, passwords and databases are percent-encoded, whatever they are."""
    read = conninfo_to_dict(dsn("h", 1, Target("h", 1, dbname, "prefer"), access(user, password)))
    assert (read["user"], read["password"], read["dbname"]) == (user, password, dbname)


def test_a_pooler_and_a_ca_are_there_when_the_cluster_has_them() -> None:
    """The pooled DSN points at the pooler with the same login; the CA is copied; without them the keys are absent."""
    bare = application_secret(Target("h", 5432, "d", "prefer"), access(), KEYS)
    full = application_secret(Target("h", 5432, "d", "prefer", b"PEM", "pool", 6432), access(), KEYS)
    assert set(full) - set(bare) == {"pooled-dsn", "ca.crt"}
    assert conninfo_to_dict(full["pooled-dsn"].decode())["host"] == "pool"


def test_own_key_names_are_used() -> None:
    """A manifest that renames a key finds the value under its own name only."""
    data = application_secret(Target("h", 1, "d", "prefer"), access(), SecretKeys(password="PGPASSWORD"))
    assert data["PGPASSWORD"] == b"p"
    assert "password" not in data


def test_the_sealed_secret_holds_a_capability_and_its_mode() -> None:
    """Sealed mode is told, and role mode has no capability key."""
    target = Target("h", 1, "d", "prefer")
    sealed, role = (
        application_secret(target, access(capability="v1.x"), KEYS),
        application_secret(target, access(), KEYS),
    )
    assert (sealed["mode"], sealed["capability"], role["mode"]) == (b"sealed", b"v1.x", b"role")
    assert "capability" not in role


def test_what_an_existing_secret_is_reduced_to() -> None:
    """The digest is the password's, and one differing key is enough to be written again."""
    wanted = application_secret(Target("h", 1, "d", "prefer"), access(), KEYS)
    right = observe_secret(wanted, wanted, KEYS, sealed=False)
    assert (right.user, right.digest, right.current) == ("u", hashlib.sha256(b"p").hexdigest(), True)
    assert not observe_secret({**wanted, "extra": b"1"}, wanted, KEYS, sealed=False).current
    empty = observe_secret({}, wanted, KEYS, sealed=False)
    assert (empty.user, empty.digest, empty.current) == (None, None, False)


@pytest.mark.parametrize(
    ("held", "digest"),
    [(b"v2.new", "2"), (b"v1.old", "1"), (b"v2.forged", None), (b"", None), (b"\xff", None), (b"v1", None)],
)
def test_only_genuine_capabilities_count(held: bytes, digest: str | None) -> None:
    """The current and the former capability are known by their version; anything else is foreign."""
    wanted = {"capability": b"v2.new"}
    observed = observe_secret({"capability": held}, wanted, KEYS, sealed=True, former="v1.old")
    assert observed.digest == digest


def test_no_secret_is_shown() -> None:
    """Passwords and capabilities stay out of every representation."""
    assert "hunter2" not in repr(access(password="hunter2", capability="hunter2"))
