"""Patterns for tenant ids: agreement with a known matcher, refusals, and time that stays linear."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_operator.resources.tenant_id_patterns import MAX_LENGTH, PatternError, TenantIdPattern

ATOMS = st.sampled_from(["a", "b", "-", ".", "[a-c]", "[^a]", r"\d", r"\w", "(a|b)", "(?:ab|c)", "(b*)", "[-a]", r"\-"])
REPEATS = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"])
PATTERNS = st.lists(st.tuples(ATOMS, REPEATS).map("".join), min_size=1, max_size=6).map("".join)


@given(pattern=PATTERNS, text=st.text(alphabet="abc1-", max_size=12))
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_standard_library(pattern: str, text: str) -> None:
    """On the supported subset the answer is that of a full match by ``re``."""
    assert TenantIdPattern(pattern).matches(text) is bool(re.fullmatch(pattern, text))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("team-a-.*", "team-a-1", "team-b-1"),
        ("^team-a-.*$", "team-a-", "xteam-a-1"),
        ("^a|b$", "a", "ab"),
        ("(a|b){3}", "aba", "abab"),
        ("[a-z0-9-]{3,255}", "a-0", "ab"),
        ("[]a]+", "a", "b"),
    ],
)
def test_whole_id_must_match(pattern: str, matching: str, other: str) -> None:
    """A pattern is never searched for inside an id: that would admit more than it says."""
    compiled = TenantIdPattern(pattern)
    assert compiled.matches(matching)
    assert not compiled.matches(other)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "(",
        ")",
        "(a",
        "[a",
        "[b-a]",
        "*",
        "a**",
        "a{2,1}",
        "a{256}",
        "a{x}",
        "a{",
        "\\",
        r"\1",
        r"\b",
        "(?=a)",
        "(?i)a",
        "(?P<n>a)",
        "é",
        "a\x00",
        "a" * (MAX_LENGTH + 1),
        "(" * 20 + "a" + ")" * 20,
    ],
)
def test_what_is_not_supported_is_refused(pattern: str) -> None:
    """Back-references, look-around, flags and broken syntax are an error that says why."""
    with pytest.raises(PatternError) as caught:
        TenantIdPattern(pattern)
    assert str(caught.value)


@pytest.mark.parametrize("pattern", ["(((a{200}){200}){200})", "((((){255}){255}){255}){255}", "((a|b){255}){255}"])
def test_explosion_is_refused(pattern: str) -> None:
    """Repeats that multiply are refused before they take memory or time."""
    started = time.thread_time()
    with pytest.raises(PatternError, match="expand"):
        TenantIdPattern(pattern)
    assert time.thread_time() - started < 2


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*a*a*b", "(.*)*(.*)*b"])
def test_backtracking_traps_take_no_time(pattern: str) -> None:
    """What takes a backtracking matcher for ever is answered at once."""
    started = time.thread_time()
    assert not TenantIdPattern(pattern).matches("a" * 255)
    assert time.thread_time() - started < 2


@given(text=st.text(max_size=MAX_LENGTH))
@settings(max_examples=100, deadline=None)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    """No text raises anything but the documented error, and a compiled one matches any id without error."""
    try:
        compiled = TenantIdPattern(text)
    except PatternError:
        return
    assert compiled.matches("acme") in (True, False)
    assert not compiled.matches("acme\ud800é")
