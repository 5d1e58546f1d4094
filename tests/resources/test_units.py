"""Durations, quantities and names: tables and properties."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_operator.resources import durations, names, quantities
from storage_operator.resources.names import StoreKind, default_secret_name
from storage_sql.stores import STORES


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1.5h", 5_400_000),
        ("0s", 0),
        ("1ms", 1),
        ("0.0s", 0),
        ("1m1m", 120_000),
        ("0.1ms", 1),
    ],
)
def test_duration_is_read(text: str, milliseconds: int) -> None:
    """Durations of Go come out in milliseconds, rounded up so that a limit never becomes none."""
    assert durations.duration_milliseconds(text) == milliseconds
    assert durations.duration_seconds(text) == milliseconds / 1000


@pytest.mark.parametrize(
    "text", ["", "10", "s", "1d", "-1s", "+1s", "1 s", "1e3s", "1S", "1s\n", "٣s", "9999999999h", "1s" * 20, "1us"]
)
def test_what_is_no_duration_is_none(text: str) -> None:
    """Other units, signs, blanks, foreign digits and overflow are not durations."""
    assert durations.duration_milliseconds(text) is None
    assert durations.duration_seconds(text) is None


@given(st.integers(min_value=0, max_value=9 * 10**12))
def test_duration_survives_a_round_trip(milliseconds: int) -> None:
    """What is written is read back exactly."""
    assert durations.duration_milliseconds(durations.format_duration(milliseconds)) == milliseconds


@given(st.text(max_size=40))
def test_any_text_is_a_duration_and_a_quantity_or_none(text: str) -> None:
    """Reading never raises, and gives nothing negative."""
    for value in (durations.duration_milliseconds(text), quantities.quantity_bytes(text)):
        assert value is None or value >= 0


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("16Mi", 16 * 1024**2),
        ("10Gi", 10 * 1024**3),
        ("1k", 1000),
        ("1.5M", 1_500_000),
        ("0.1", 1),
        (7, 7),
        ("7", 7),
        ("1Ei", 2**60),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_quantity_is_read(value: object, count: int) -> None:
    """Quantities of Kubernetes come out in bytes, rounded up as there."""
    assert quantities.quantity_bytes(value) == count


@pytest.mark.parametrize(
    "value", [None, True, 1.0, "", "-1", -1, "1e3", "1m", "1Kb", "16 Mi", "Mi", "9Ei", 2**63, "٣Mi", [], "1Mi\n"]
)
def test_what_is_no_quantity_is_none(value: object) -> None:
    """Signs, exponents, thousandths, other units, floats and overflow are not quantities."""
    assert quantities.quantity_bytes(value) is None


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_quantity_survives_a_round_trip(count: int) -> None:
    """What is written is read back exactly."""
    assert quantities.quantity_bytes(quantities.format_quantity(count)) == count


def test_stores_are_those_of_the_database() -> None:
    """Manifests and database know the same eleven stores."""
    assert {(store.value, store.database_name) for store in StoreKind} == {(store.kind, store.name) for store in STORES}
    assert all(StoreKind.from_database_name(store.database_name) is store for store in StoreKind)
    with pytest.raises(KeyError):
        StoreKind.from_database_name("files")


@given(st.from_regex(names.DNS_SUBDOMAIN, fullmatch=True).filter(lambda name: len(name) <= 253))
def test_default_secret_name_is_a_name(name: str) -> None:
    """Whatever the object is called, its Secret has a valid name."""
    found = default_secret_name(name)
    assert len(found) <= 253
    assert re.fullmatch(names.DNS_SUBDOMAIN, found)
    assert found.endswith("-storage")


def test_long_names_get_different_secrets() -> None:
    """Two names that differ only behind the cut do not share a Secret."""
    first, second = "a" * 252 + "b", "a" * 252 + "c"
    assert default_secret_name(first) != default_secret_name(second)
    assert default_secret_name("a") == "a-storage"
