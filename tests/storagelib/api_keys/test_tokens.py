"""A token's text: its checksum finds typos without I/O, its secret has 256 bits, and what is stored gives nothing back."""

from __future__ import annotations

import hashlib
import itertools
import logging
import secrets
import string

import pytest

from storagelib import StoreConfig
from storagelib._sync.api_keys import ApiKeys
from storagelib._sync.store import Store
from storagelib.components.api_keys import base62, key_hash, presented, token_of
from storagelib.errors import PermissionDenied


class Deaf:
    """A backend that nobody may ask."""

    tenant_id = "acme"

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"{name} was asked for")


def drawn() -> str:
    """Draw a token."""
    return token_of("lsk", "abc", secrets.randbits(256))


def test_a_typo_is_refused_without_asking_the_backend() -> None:
    """Every single wrong, missing, doubled or swapped character, wherever it stands."""
    token = drawn()
    wrong = {token[:n] + letter + token[n + 1 :] for n in range(len(token)) for letter in "0aZ_é"}
    wrong |= {token[:n] + token[n + 1 :] for n in range(len(token))}
    wrong |= {token[:n] + token[n] + token[n:] for n in range(len(token))}
    wrong |= {token[:n] + token[n + 1] + token[n] + token[n + 2 :] for n in range(len(token) - 1)}
    wrong -= {token}
    keys = ApiKeys(Deaf())  # type: ignore[arg-type] - it is never asked
    for text in wrong:
        with pytest.raises(PermissionDenied, match="the key is not valid"):
            keys.verify(text)
    with pytest.raises(AssertionError, match="verify was asked for"):
        keys.verify(token)


def test_the_hash_is_of_the_whole_text() -> None:
    """From the prefix to the checksum, as ASCII."""
    token = drawn()
    found = presented(token)
    assert found is not None
    assert found.key_id == "abc"
    assert found.key_hash == key_hash(token) == hashlib.sha256(token.encode()).digest()
    assert token not in repr(found)
    assert repr(found.key_hash) not in repr(found)


def test_the_largest_secret_fits() -> None:
    """Of 256 bits none is lost, and numbers keep their order as texts."""
    most = 2**256 - 1
    assert len({token_of("lsk", "a", n) for n in (0, 1, most, most - 1, most // 2)}) == 5
    assert len(token_of("lsk", "a", most)) == len(token_of("lsk", "a", 0)) == len("lsk_a_") + 49
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    digits = base62(most, 43)
    assert sum(alphabet.index(digit) * 62**place for place, digit in enumerate(reversed(digits))) == most
    written = [base62(n, 3) for n in range(0, 62**3, 97)]
    assert all(one < two for one, two in itertools.pairwise(written))


def test_nothing_that_is_stored_gives_the_token_back() -> None:
    """The row has a hash, and no log line has the token."""
    lines: list[str] = []
    handler = logging.Handler(0)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        with Store.open(StoreConfig.in_memory()) as store:
            made = store.for_tenant("acme").api_keys.create("robot")
            with pytest.raises(PermissionDenied):
                store.for_tenant("other").api_keys.verify(made.token)
            (row,) = store._engines["memory"].space("acme").tables["api_keys"].rows.values()
    finally:
        logging.getLogger().removeHandler(handler)
    secret = made.token.rpartition("_")[2]
    assert row["key_hash"] == hashlib.sha256(made.token.encode()).digest()
    assert not [value for value in row.values() if secret in str(value)]
    assert not [line for line in lines if secret in line]
