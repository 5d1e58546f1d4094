"""Conditions: transition times, Ready, messages, and what comes back from an object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_operator.resources.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
    clean_message,
    derive_ready,
    find,
    format_time,
    merge,
    parse_time,
    read_conditions,
)
from storage_operator.resources.kinds import Kind
from storage_operator.resources.status import (
    ConnectionCounts,
    Extension,
    StorageClusterStatus,
    TenantCounts,
)

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
ACCEPTED = Condition(ConditionType.ACCEPTED, TRUE, Reason.VALID, observed_generation=2)
PROVISIONED = Condition(ConditionType.PROVISIONED, TRUE, Reason.PROVISIONED, observed_generation=2)
VERIFIED = Condition(ConditionType.ISOLATION_VERIFIED, TRUE, Reason.PROBE_PASSED, observed_generation=2)
REFUSED = Condition(ConditionType.ACCEPTED, FALSE, Reason.INVALID_SPEC, "spec.tenantId: is required", 2)


def test_transition_time_moves_only_on_a_flip() -> None:
    """A new reason or message keeps the time; a new status moves it."""
    first = merge((), [ACCEPTED], NOON)
    same = merge(first, [Condition(ConditionType.ACCEPTED, TRUE, Reason.VALID, "again", 3)], LATER)
    flipped = merge(same, [REFUSED], LATER)
    assert first[0].last_transition_time == NOON
    assert (same[0].last_transition_time, same[0].message, same[0].observed_generation) == (NOON, "again", 3)
    assert flipped[0].last_transition_time == LATER


def test_merge_keeps_what_was_not_looked_at() -> None:
    """Conditions of other types stay, and the order is always the same."""
    merged = merge(merge((), [VERIFIED, ACCEPTED], NOON), [PROVISIONED], LATER)
    assert [condition.type for condition in merged] == [
        ConditionType.ACCEPTED,
        ConditionType.PROVISIONED,
        ConditionType.ISOLATION_VERIFIED,
    ]
    assert merged[0].last_transition_time == NOON


@given(st.lists(st.sampled_from([ACCEPTED, REFUSED, PROVISIONED, VERIFIED]), max_size=6))
def test_merge_twice_changes_nothing(fresh: list[Condition]) -> None:
    """The same conditions again, at any later time, give the same status: no PATCH is due."""
    once = merge((), fresh, NOON)
    assert merge(once, once, LATER) == once


@pytest.mark.parametrize(
    ("conditions", "status", "reason"),
    [
        pytest.param([ACCEPTED, PROVISIONED, VERIFIED], TRUE, Reason.READY, id="all-true"),
        pytest.param([ACCEPTED, PROVISIONED], UNKNOWN, Reason.PROGRESSING, id="missing"),
        pytest.param([REFUSED], FALSE, Reason.INVALID_SPEC, id="false-wins-over-missing"),
        pytest.param(
            [ACCEPTED, Condition(ConditionType.PROVISIONED, UNKNOWN, Reason.UNREACHABLE, "", 2), VERIFIED],
            UNKNOWN,
            Reason.UNREACHABLE,
            id="unknown",
        ),
        pytest.param(
            [ACCEPTED, PROVISIONED, Condition(ConditionType.ISOLATION_VERIFIED, TRUE, Reason.PROBE_PASSED, "", 1)],
            UNKNOWN,
            Reason.PROGRESSING,
            id="stale-generation",
        ),
        pytest.param(
            [ACCEPTED, PROVISIONED, VERIFIED, Condition(ConditionType.QUOTA_EXCEEDED, TRUE, Reason.OVER_QUOTA, "", 2)],
            TRUE,
            Reason.READY,
            id="warning-does-not-matter",
        ),
    ],
)
def test_ready_is_derived(conditions: list[Condition], status: ConditionStatus, reason: Reason) -> None:
    """Ready is True only when everything required is True at this generation; otherwise it says what is not."""
    ready = derive_ready(Kind.TENANT, conditions, generation=2)
    assert (ready.status, ready.reason, ready.observed_generation) == (status, reason, 2)


def test_ready_of_an_object_that_goes() -> None:
    """While an object is deleted it is not Ready, and what blocks the deletion is told."""
    blocked = Condition(ConditionType.DELETION_BLOCKED, TRUE, Reason.SESSIONS_OPEN, "3 sessions", 2)
    plain = derive_ready(Kind.TENANT, [ACCEPTED, PROVISIONED, VERIFIED], generation=2, deleting=True)
    told = derive_ready(Kind.TENANT, [blocked], generation=2, deleting=True)
    assert (plain.status, plain.reason) == (FALSE, Reason.DELETING)
    assert told.message == "3 sessions"


@pytest.mark.parametrize("kind", list(Kind))
def test_ready_needs_something_of_every_kind(kind: Kind) -> None:
    """An object that nobody has looked at is not Ready."""
    assert derive_ready(kind, (), generation=1).status is UNKNOWN


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        pytest.param("postgresql://me:secret@db/x refused", "postgresql://***@db/x refused", id="uri"),
        pytest.param("postgresql://me:a@b:c@db/x", "postgresql://***@db/x", id="uri-with-at-sign"),
        pytest.param("host=db password='a b' user=me", "host=db password=*** user=me", id="keywords"),
        pytest.param("two\nlines\x00\u2028here\ud800", "two lines here", id="control-characters"),
    ],
)
def test_messages_are_cleaned(text: str, cleaned: str) -> None:
    """No credentials, no control characters and one line, whatever an error says."""
    assert clean_message(text) == cleaned


@given(st.text(max_size=3000))
def test_any_message_fits_a_status(text: str) -> None:
    """Any text becomes a bounded line that can be encoded."""
    line = clean_message(text)
    assert len(line) <= 1024
    assert "\n" not in line
    line.encode()


def test_conditions_survive_a_round_trip() -> None:
    """What is written into a status is read back; what another release wrote is left out."""
    written = merge((), [ACCEPTED, REFUSED], NOON)
    fields = [condition.as_field() for condition in written]
    foreign = {"type": "Novel", "status": "True", "reason": "New"}
    assert read_conditions({"status": {"conditions": [*fields, foreign, None, 3]}}) == written
    assert find(written, ConditionType.READY) is None
    assert find(written, ConditionType.ACCEPTED) == written[0]


@pytest.mark.parametrize("status", [None, [], "x", {"conditions": None}, {"conditions": 5}, {"conditions": [{}]}])
def test_any_status_is_read(status: Any) -> None:
    """A status of any shape gives no conditions rather than an error."""
    assert read_conditions({"status": status}) == ()


def test_times_are_rfc_3339_in_utc() -> None:
    """Times are written in UTC with whole seconds, and read with any offset."""
    east = datetime(2026, 1, 2, 14, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(east) == "2026-01-02T12:00:00Z"
    assert parse_time("2026-01-02T14:00:00+02:00") == NOON
    assert [parse_time(text) for text in (None, 5, "", "yesterday", "2026-01-02T12:00:00", "9" * 99)] == [None] * 6


def test_a_condition_without_time_is_not_written() -> None:
    """Forgetting to merge is a programming error that shows at once."""
    with pytest.raises(ValueError, match="merged"):
        ACCEPTED.as_field()


def test_every_reason_is_explained_and_fits_the_api() -> None:
    """Reasons are CamelCase, unique and have a sentence."""
    for member in [*Reason, *ConditionType]:
        assert member.value.isalnum()
        assert member.value[0].isupper()
        assert member.description.endswith((".", "18.0."))


def test_status_clears_what_is_gone() -> None:
    """Absent values are nulls, so that a merge patch removes them."""
    status = StorageClusterStatus(
        observed_generation=2,
        conditions=merge((), [ACCEPTED], NOON),
        extensions=(Extension("vector", "0.8.5"),),
        tenants=TenantCounts(total=3, ready=2),
        connections=ConnectionCounts(limit=100, committed=40),
    ).as_fields()
    assert status["serverVersion"] is None
    assert status["tenants"] == {"total": 3, "ready": 2}
    assert status["pendingMigrations"] == []
