"""A sealed value that was changed, moved or belongs to another tenant does not open, and a ring tells no key."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from storagelib import Store, StoreConfig
from storagelib.components.api_keys import Sealed
from storagelib.errors import Corrupted, InvalidInput, PermissionDenied
from storagelib.sealing import KeyRing, seal, unseal

KEY = bytes(range(32))
RING = KeyRing("one", {"one": KEY})


def test_the_same_value_is_never_sealed_alike() -> None:
    """The nonce is random, and the value is not in it."""
    sealed = {seal(b"sk-value", RING, "acme", "a").value for _ in range(100)}
    assert len(sealed) == 100
    assert not [each for each in sealed if b"sk-value" in each]
    assert "sk-value" not in repr(seal(b"sk-value", RING, "acme", "a"))


def test_every_changed_bit_is_found() -> None:
    """Version, nonce, ciphertext and tag; and every shorter or longer one."""
    sealed = seal(b"value", RING, "acme", "a")
    for bit in range(len(sealed.value) * 8):
        changed = bytearray(sealed.value)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Corrupted):
            unseal(Sealed(bytes(changed), "one"), RING, "acme", "a")
    for length in range(len(sealed.value)):
        with pytest.raises(Corrupted):
            unseal(Sealed(sealed.value[:length], "one"), RING, "acme", "a")
    with pytest.raises(Corrupted):
        unseal(Sealed(sealed.value + b"\0", "one"), RING, "acme", "a")
    assert unseal(sealed, RING, "acme", "a") == b"value"


@pytest.mark.parametrize(("tenant", "key_id"), [("other", "a"), ("acme", "b"), ("acm", "ea"), ("", "acmea")])
def test_a_value_opens_where_it_was_sealed_alone(tenant: str, key_id: str) -> None:
    """Tenant and id are part of what the tag covers."""
    with pytest.raises(Corrupted):
        unseal(seal(b"value", RING, "acme", "a"), RING, tenant, key_id)


def test_the_right_key_is_needed() -> None:
    """A ring without it is refused; other bytes under its id do not open."""
    sealed = seal(b"value", RING, "acme", "a")
    with pytest.raises(PermissionDenied):
        unseal(sealed, KeyRing("two", {"two": KEY}), "acme", "a")
    with pytest.raises(Corrupted):
        unseal(sealed, KeyRing("one", {"one": bytes(32)}), "acme", "a")


def test_rows_that_were_moved_below_the_library_do_not_open(tmp_path: Path) -> None:
    """To another tenant, or over another row of the same one; those beside them do."""
    path = tmp_path / "moved.db"
    with Store.open(StoreConfig.on_sqlite(path)) as store:
        acme, other = (store.for_tenant(name).api_keys for name in ("acme", "other"))
        acme.seal("openai", b"first", RING, key_id="a")
        acme.seal("openai", b"second", RING, key_id="b")
        other.seal("openai", b"theirs", RING, key_id="a")
        connection = sqlite3.connect(path)
        with connection:
            connection.execute(
                "UPDATE api_keys SET sealed_value = (SELECT sealed_value FROM api_keys WHERE tenant_id = 'acme' AND"
                " key_id = 'a') WHERE tenant_id = 'other' OR key_id = 'b'"
            )
        connection.close()
        for keys, key_id in ((other, "a"), (acme, "b")):
            with pytest.raises(Corrupted) as error:
                keys.unseal(key_id, RING)
            assert "first" not in str(error.value)
            with pytest.raises(Corrupted):
                keys.reseal(key_id, RING)
        assert acme.unseal("a", RING) == b"first"


@pytest.mark.parametrize(
    ("current", "keys"),
    [
        ("one", {}),
        ("two", {"one": KEY}),
        ("one", {"one": KEY[:31]}),
        ("one", {"one": KEY + b"x"}),
        ("one", {"one": KEY.hex()}),
        ("one", {"one": KEY, "two": b""}),
        ("", {"": KEY}),
        ("one", [("one", KEY)]),
    ],
)
def test_a_ring_is_checked_when_it_is_made(current: str, keys: Any) -> None:
    """And the fault does not tell the key."""
    with pytest.raises(InvalidInput) as error:
        KeyRing(current, keys)
    assert KEY.hex() not in str(error.value)


def test_a_ring_is_hidden_and_does_not_change() -> None:
    """Whoever changes the mapping that it was made of changes nothing."""
    keys = {"one": KEY}
    ring = KeyRing("one", keys)
    keys["one"] = bytes(32)
    assert ring.keys["one"] == KEY
    assert repr(KEY) not in repr(ring)
    with pytest.raises(TypeError):
        ring.keys["one"] = bytes(32)  # type: ignore[index]
    with pytest.raises(AttributeError):
        ring.current_id = "two"  # type: ignore[misc]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it; nothing was written."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with Store.open(StoreConfig.in_memory()) as store:
        keys = store.for_tenant("acme").api_keys
        with pytest.raises(InvalidInput, match=r"llmspell-storage\[sealing\]"):
            keys.seal("openai", b"value", RING)
        assert list(keys.list_keys()) == []
        made = keys.create("robot")
        assert keys.verify(made.token).key_id == made.key_id
