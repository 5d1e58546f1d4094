"""Planning of one tenant: every rule by a readable case, and the properties that hold for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_operator.planning import tenant as rules
from storage_operator.planning.actions import (
    AlterLogin,
    BindLogin,
    Conflict,
    CreateLogin,
    DeleteRows,
    DropLogin,
    EndSessions,
    ForgetTenant,
    Plan,
    RetainTenant,
    RetireLogin,
    SaveTenant,
    SetPassword,
)
from storage_operator.planning.tenant import DRIFT, plan_deletion, plan_refused_password, plan_tenant, remaining_drift
from tests.planning.journey import Journey
from tests.planning.model import MARK, ModelDatabase, Secret, desired_of, names_of

ACME = desired_of()
A, B = ACME.names.logins
OVERLAP = 3600.0


def kinds(plan: Plan | Conflict) -> list[str]:
    """Return the names of a plan's actions."""
    assert isinstance(plan, Plan), plan
    return [type(action).__name__ for action in plan.actions]


def provisioned(**given: Any) -> tuple[Journey, Any]:
    """Return a journey whose tenant has been provisioned, and its declaration."""
    journey, desired = Journey(), desired_of(**given)
    journey.run(desired)
    return journey, desired


def rotated(journey: Journey, desired: Any, request: str = "now") -> Any:
    """Rotate once by annotation and return the declaration with the request answered."""
    journey.run(replace(desired, rotation_request=request))
    return desired


def test_a_new_tenant_is_created_in_slot_a() -> None:
    """A tenant nobody knew gets its set, its row, one login and a Secret that opens its rows."""
    journey = Journey()
    plan = journey.run(ACME)
    assert kinds(plan) == ["CreateSet", "SaveTenant", "CreateLogin", "SetSettings", "GrantSet", "BindLogin"]
    assert plan.issues == A
    assert journey.database.opens(journey.secret) == "acme"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"connection_limit": 5}, id="connection limit"),
        pytest.param({"settings": (("work_mem", "8MB"),)}, id="settings"),
        pytest.param({"stores": ("kv", "graph")}, id="another set of stores"),
        pytest.param({"suspended": True}, id="suspended"),
        pytest.param({"isolation": "sealed"}, id="role to sealed"),
        pytest.param({"quota_bytes": 10, "quota_enforced": True}, id="quota"),
    ],
)
@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_changed_declaration_is_applied_whatever_the_drift_policy(change: dict[str, Any], repair: bool) -> None:
    """What the manifest changes is never drift: the next plan is empty and reports nothing."""
    journey, _ = provisioned(repair=repair)
    changed = desired_of(repair=repair, **change)
    assert journey.run(changed).drift == ()
    assert journey.plan(changed) == Plan()


def test_changing_the_stores_leaves_one_membership() -> None:
    """A login is a member of exactly the set of its stores."""
    journey, _ = provisioned()
    changed = desired_of(stores=("graph", "kv"))
    journey.run(changed)
    assert journey.database.roles[A].member_of == {changed.names.set_role}


DRIFTS = {
    "no login": ({"can_login": False}, rules.ATTRIBUTES_DIFFER),
    "noinherit": ({"inherits": False}, rules.ATTRIBUTES_DIFFER),
    "connection limit": ({"connection_limit": 99}, rules.ATTRIBUTES_DIFFER),
    "expiry": ({"expires": True}, rules.ATTRIBUTES_DIFFER),
    "settings": ({"settings": ()}, rules.SETTINGS_DIFFER),
    "settings of the database": ({"database_settings": "main"}, rules.SETTINGS_DIFFER),
    "membership lost": ({"member_of": frozenset()}, rules.SET_MISSING),
    "foreign membership": ({"member_of": frozenset({ACME.names.set_role, "boss"})}, rules.SET_FOREIGN),
    "direct grant": ({"granted": (("TABLE", "kv_store"),)}, rules.GRANTED_DIRECTLY),
}


@pytest.mark.parametrize(("changed", "why"), DRIFTS.values(), ids=DRIFTS)
def test_drift_of_a_login_is_repaired_without_a_new_credential(changed: dict[str, Any], why: str) -> None:
    """Each way to bend a login is found by name and undone, and the application notices nothing."""
    journey, _ = provisioned()
    secret = journey.secret
    journey.database.drift(A, **changed)
    plan = journey.run(ACME)
    assert (plan.drift, plan.issues, journey.secret) == ((why,), None, secret)
    assert journey.plan(ACME) == Plan()


@pytest.mark.parametrize(("changed", "why"), DRIFTS.values(), ids=DRIFTS)
def test_drift_is_only_reported_under_report(changed: dict[str, Any], why: str) -> None:
    """With the policy Report a bent login is named and left as it is."""
    journey, desired = provisioned(repair=False)
    journey.database.drift(A, **changed)
    assert journey.plan(desired) == Plan(drift=(why,))


@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_login_with_powers_is_made_again(repair: bool) -> None:
    """CREATEDB, BYPASSRLS and their like only a superuser takes away: the role is dropped and made anew."""
    journey, desired = provisioned(repair=repair)
    journey.database.drift(A, privileged=True)
    journey.database.sessions[A] = 1
    plan = journey.run(desired)
    assert rules.ATTRIBUTES_DIFFER in plan.drift
    assert journey.database.roles[A].privileged is not repair
    assert journey.plan(desired) == Plan(drift=() if repair else plan.drift)
    assert journey.database.opens(journey.secret) == "acme"


def test_what_cannot_be_repaired_is_named() -> None:
    """After a plan was applied, a membership that stayed is told by name."""
    journey, _ = provisioned()
    journey.database.drift(A, member_of=frozenset({ACME.names.set_role, "boss"}))
    observed = journey.database.observe("acme", ACME.names)
    assert remaining_drift(ACME, observed) == (rules.SET_FOREIGN,)


@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_rotation_under_drift_still_rotates(repair: bool) -> None:
    """A rotation that is due does not depend on somebody's drift, and under Report it leaves the drift alone."""
    journey, desired = provisioned(repair=repair)
    journey.database.drift(A, settings=())
    plan = journey.run(replace(desired, rotation_request="now"))
    assert (plan.issues, plan.drift) == (B, (rules.SETTINGS_DIFFER,))
    assert journey.database.opens(journey.secret) == "acme"
    assert (journey.database.roles[A].settings == ()) is not repair


@pytest.mark.parametrize("lost", ["binding", "role", "both"])
@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_lost_login_is_made_again_or_reported(lost: str, repair: bool) -> None:
    """A deleted role or binding costs a new credential in the same slot; under Report it is named."""
    journey, desired = provisioned(repair=repair)
    if lost != "role":
        del journey.database.bindings[A]
    if lost != "binding":
        del journey.database.roles[A]
    plan = journey.plan(desired)
    assert isinstance(plan, Plan)
    assert rules.LOGIN_MISSING in plan.drift
    assert (plan.issues, bool(plan.actions)) == ((A, True) if repair else (None, False))
    journey.run(desired_of())
    assert journey.database.opens(journey.secret) == "acme"


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        pytest.param(None, rules.SECRET_MISSING, id="deleted"),
        pytest.param(Secret(A, "guessed"), rules.SECRET_FOREIGN, id="password edited"),
        pytest.param(Secret("postgres", "password-0"), rules.SECRET_FOREIGN, id="user edited"),
    ],
)
def test_a_lost_or_edited_secret_is_a_rotation(secret: Secret | None, why: str) -> None:
    """Nobody knows the password any more: the other slot gets a new one, and the old login lives for the overlap."""
    journey, _ = provisioned()
    old, journey.secret = journey.secret, secret
    journey.former.append(old)
    plan = journey.run(ACME)
    assert (plan.issues, plan.drift) == (B, (why,))
    assert [journey.database.opens(each) for each in (old, journey.secret)] == ["acme", "acme"]


def test_an_edited_host_is_written_again_without_rotation() -> None:
    """Values beside the credential are put right and the password stays."""
    journey, _ = provisioned()
    journey.secret = replace(journey.secret, rest="edited")
    plan = journey.run(ACME)
    assert (plan.actions, plan.issues, plan.drift) == ((), None, (rules.SECRET_EDITED,))
    assert journey.plan(ACME) == Plan()


def test_both_logins_work_during_the_overlap_and_one_after_it() -> None:
    """A rotation keeps the former credential alive exactly for the overlap."""
    journey, _ = provisioned()
    old = journey.secret
    rotated(journey, ACME)
    journey.database.pass_time(OVERLAP - 1)
    journey.run(ACME)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == ["acme", "acme"]
    journey.database.pass_time(1)
    journey.run(ACME)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == [None, "acme"]
    assert set(journey.database.roles) == {B}


def test_a_rotation_with_both_slots_in_use_takes_the_older_one() -> None:
    """The third credential replaces the first; the second lives on for its own overlap."""
    journey, _ = provisioned()
    first = journey.secret
    rotated(journey, ACME, "one")
    second = journey.secret
    rotated(journey, ACME, "two")
    opens = [journey.database.opens(each) for each in (first, second, journey.secret)]
    assert opens == [None, "acme", "acme"]
    assert set(journey.database.bindings) == {A, B}


@pytest.mark.parametrize(("seconds", "due"), [(99, False), (100, True)], ids=["not yet", "due"])
def test_the_rotation_interval(seconds: float, due: bool) -> None:
    """A credential is renewed when its interval is over, and not before."""
    journey, desired = provisioned(rotation_interval_seconds=100.0)
    journey.database.pass_time(seconds)
    assert (journey.plan(desired).issues == B) is due


def test_a_secret_that_was_never_written_costs_no_second_login() -> None:
    """When the first write is lost, the login that nobody knows gets another password in its place."""
    journey = Journey()
    journey.run(ACME, crash_after=99)
    plan = journey.run(ACME)
    assert (kinds(plan), plan.issues, plan.drift) == (["SetPassword", "BindLogin"], A, ())
    assert set(journey.database.roles) == {A}


def test_a_rotation_that_lost_its_secret_spares_the_login_in_use() -> None:
    """After a crash between database and Secret the application's former login keeps its password and its overlap."""
    journey, _ = provisioned()
    old = journey.secret
    asked = replace(ACME, rotation_request="now")
    journey.run(asked, crash_after=99)
    plan = journey.run(asked)
    assert (plan.issues, plan.drift) == (B, ())
    assert [journey.database.opens(each) for each in (old, journey.secret)] == ["acme", "acme"]


def test_suspension_ends_sessions_even_when_it_was_interrupted() -> None:
    """Sessions that outlived a crash between NOLOGIN and their end are ended by the next run."""
    journey, _ = provisioned()
    journey.database.sessions[A] = 2
    suspended = desired_of(suspended=True)
    plan = journey.plan(suspended)
    assert kinds(plan) == ["SaveTenant", "AlterLogin", "EndSessions"]
    journey.run(suspended, crash_after=1)
    journey.run(suspended)
    assert not journey.database.sessions
    assert journey.plan(suspended) == Plan()
    assert journey.database.opens(journey.secret) is None


def test_resuming_gives_the_same_credential_back() -> None:
    """A suspended tenant keeps its password."""
    journey, _ = provisioned()
    journey.run(desired_of(suspended=True))
    journey.run(ACME)
    assert journey.database.opens(journey.secret) == "acme"


@pytest.mark.parametrize("first", ["role", "sealed"])
def test_switching_the_isolation_mode_closes_the_other_door(first: str) -> None:
    """After a switch the former way in is shut and the new one opens, both ways and back."""
    second = "sealed" if first == "role" else "role"
    journey, one = provisioned(isolation=first)
    two = desired_of(isolation=second)
    old = journey.secret
    journey.run(two)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == [None, "acme"]
    assert journey.plan(two) == Plan()
    journey.run(one)
    assert journey.database.opens(journey.secret) == "acme"


def test_a_capability_rotates_with_two_live() -> None:
    """A sealed tenant's former capability is honoured for the overlap."""
    journey, desired = provisioned(isolation="sealed")
    old = journey.secret
    rotated(journey, desired)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == ["acme", "acme"]
    journey.database.pass_time(OVERLAP)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == [None, "acme"]


def test_a_capability_rotation_that_lost_its_secret_is_not_advanced_twice() -> None:
    """The Secret with the former capability is brought up, and its overlap holds."""
    journey, desired = provisioned(isolation="sealed")
    old = journey.secret
    journey.run(replace(desired, rotation_request="now"), crash_after=99)
    plan = journey.run(replace(desired, rotation_request="now"))
    assert (plan.actions, plan.issues) == ((), "")
    assert [journey.database.opens(each) for each in (old, journey.secret)] == ["acme", "acme"]


@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_sealed_tenants_lost_secret(repair: bool) -> None:
    """A sealed tenant's Secret is written again with the same capability, or reported."""
    journey, desired = provisioned(isolation="sealed", repair=repair)
    journey.former.append(journey.secret)
    journey.secret = None
    plan = journey.plan(desired)
    assert isinstance(plan, Plan)
    assert (plan.actions, plan.drift, plan.write_secret) == ((), (rules.SECRET_MISSING,), repair)


def test_an_edited_capability_is_replaced_at_once() -> None:
    """Somebody meddled: the capability advances and the former one is not honoured for a moment longer."""
    journey, desired = provisioned(isolation="sealed")
    old, journey.secret = journey.secret, Secret("app", "globex/1")
    plan = journey.run(desired)
    assert plan.drift == (rules.SECRET_FOREIGN,)
    assert [journey.database.opens(each) for each in (old, journey.secret)] == [None, "acme"]


@pytest.mark.parametrize(
    ("other", "state", "adopt", "reason"),
    [
        pytest.param({"name": "other"}, "active", False, "TenantIdTaken", id="another resource"),
        pytest.param({"namespace": "foreign"}, "active", True, "TenantIdTaken", id="another namespace, even granted"),
        pytest.param({"namespace": "foreign"}, "retained", False, "AdoptionNotGranted", id="retained, not granted"),
    ],
)
def test_a_tenant_id_of_somebody_else_is_refused(other: Any, state: str, adopt: bool, reason: str) -> None:
    """Another resource's id is refused with the reason, for any action and for deletion."""
    journey, _ = provisioned()
    journey.database.tenants["acme"].state = state
    second = desired_of(may_adopt=adopt, **other)
    conflict = journey.plan(second)
    assert isinstance(conflict, Conflict)
    assert conflict.reason == reason
    assert journey.delete(second, rows=True) == Plan()


def test_retained_rows_return_to_their_owner_and_to_nobody_else() -> None:
    """The namespace and name that left rows behind get them back; a grant hands them over."""
    journey, _ = provisioned()
    journey.database.data["acme"] = 7
    journey.delete(ACME, rows=False)
    assert (journey.database.roles, journey.database.data) == ({}, {"acme": 7})
    adopter = desired_of(namespace="buyer", may_adopt=True)
    journey.run(adopter)
    assert journey.database.opens(journey.secret) == "acme"
    assert journey.database.tenants["acme"].row.namespace == "buyer"


@pytest.mark.parametrize("rows", [True, False], ids=["Delete", "Retain"])
@pytest.mark.parametrize("isolation", ["role", "sealed"])
def test_deletion_is_idempotent_after_any_crash(rows: bool, isolation: str) -> None:
    """Interrupted anywhere and run again, a deletion ends in the same place; a third run does nothing."""
    length = 8
    for crash in range(length):
        journey, desired = provisioned(isolation=isolation)
        journey.database.data["acme"] = 7
        journey.delete(desired, rows=rows, crash_after=crash)
        journey.delete(desired, rows=rows)
        assert not journey.database.roles
        assert (journey.database.data, bool(journey.database.tenants)) == ({} if rows else {"acme": 7}, not rows)
        assert journey.delete(desired, rows=rows) == Plan()


def test_deletion_shuts_the_login_before_it_ends_sessions_and_drops() -> None:
    """No session can begin between the end of the others and the drop."""
    journey, _ = provisioned()
    plan = journey.delete(ACME, rows=True)
    order = [AlterLogin, EndSessions, DropLogin, DeleteRows, ForgetTenant]
    assert [type(action) for action in plan.actions] == order


@pytest.mark.parametrize("mark", [None, "", "somebody's role", MARK.replace("abcdefgh", "zzzzzzzz")])
def test_a_role_without_our_mark_is_never_touched(mark: str | None) -> None:
    """A role of our hashed name without our mark stops the plan, and deletion passes it by."""
    journey, _ = provisioned()
    journey.database.roles[B] = replace(journey.database.roles[A], name=B, mark=mark)
    conflict = journey.plan(ACME)
    assert isinstance(conflict, Conflict)
    assert conflict.reason == "ForeignRole"
    plan = journey.delete(ACME, rows=False)
    assert [action for action in plan.actions if B in repr(action)] == []
    assert set(journey.database.roles) == {B}
    assert isinstance(plan.actions[-1], RetainTenant)


def test_an_unbound_login_of_ours_is_dropped() -> None:
    """A role with our mark that no binding knows is a leftover, and goes."""
    journey, _ = provisioned()
    journey.database.roles[B] = replace(journey.database.roles[A], name=B)
    plan = journey.run(ACME)
    assert plan.drift == (rules.UNBOUND,)
    assert set(journey.database.roles) == {A}


@pytest.mark.parametrize("repair", [True, False], ids=["Repair", "Report"])
def test_a_refused_password_gets_its_recorded_verifier_back(repair: bool) -> None:
    """A password that its holder changed is put back as it was issued: the Secret stays right."""
    journey, desired = provisioned(repair=repair)
    journey.database.passwords[A] = "changed by the tenant"
    plan = plan_refused_password(desired, journey.database.observe("acme", desired.names))
    assert plan.drift == (rules.PASSWORD_REFUSED,)
    for action in plan.actions:
        journey.database.apply(action, desired.names, {})
    assert (journey.database.opens(journey.secret) == "acme") is repair


def test_a_refused_password_without_a_login_is_nobodys() -> None:
    """Without a live login there is nothing to put back."""
    assert plan_refused_password(ACME, ModelDatabase().observe("acme", ACME.names)) == Plan()


declarations = st.builds(
    desired_of,
    isolation=st.sampled_from(["role", "sealed"]),
    suspended=st.booleans(),
    stores=st.sampled_from([("kv",), ("graph", "kv"), ("events",)]),
    connection_limit=st.none() | st.integers(1, 9),
    settings=st.sampled_from([(), (("x", "1"),), (("x", "2"), ("y", "3"))]),
    rotation_interval_seconds=st.none() | st.just(50.0),
    rotation_overlap_seconds=st.sampled_from([0.0, 30.0]),
    repair=st.booleans(),
).map(lambda desired: desired if desired.row.isolation == "role" else replace(desired, settings=()))
bends = st.sampled_from([*(changed for changed, _ in DRIFTS.values())])


@given(st.lists(st.tuples(declarations, st.integers(0, 60), st.none() | st.integers(0, 5)), min_size=1, max_size=5))
@settings(deadline=None, max_examples=150)
def test_applying_a_plan_leaves_nothing_to_do(steps: list[tuple[Any, int, int | None]]) -> None:
    """After any history of declarations, waiting and crashes, two runs leave nothing (the second ends overlaps of zero)."""
    journey = Journey()
    for desired, seconds, crash in steps:
        journey.run(desired, crash_after=crash)
        journey.database.pass_time(seconds)
    last = replace(steps[-1][0], rotation_interval_seconds=None)
    journey.run(last)
    journey.run(last)
    assert journey.plan(last) == Plan()
    opens = None if last.row.suspended else "acme"
    assert journey.database.opens(journey.secret) == opens


@given(declarations, bends, st.booleans())
@settings(deadline=None, max_examples=150)
def test_report_leaves_only_lifecycle_actions(desired: Any, bend: dict[str, Any], edited: bool) -> None:
    """Under Report no action of any plan has drift as its reason, and a credential is new only with its actions."""
    desired = replace(desired, repair=False)
    journey = Journey()
    journey.run(desired)
    for login in journey.database.roles:
        journey.database.drift(login, **bend)
    if edited:
        journey.secret = Secret("nobody", "nothing")
    plan = journey.plan(desired)
    assert isinstance(plan, Plan)
    assert not [action for action in plan.actions if action.why in DRIFT]
    issued = [action for action in plan.actions if isinstance(action, (CreateLogin, SetPassword))]
    assert bool(plan.issues) == bool(issued)


@given(declarations, declarations)
@settings(deadline=None, max_examples=100)
def test_a_credential_is_issued_with_everything_it_needs(first: Any, second: Any) -> None:
    """Whatever is issued is drawn for exactly one login, bound in the same plan, and never retired by it."""
    journey = Journey()
    journey.run(first)
    plan = journey.plan(replace(second, rotation_request="now"))
    assert isinstance(plan, Plan)
    drawn = {action.login for action in plan.actions if isinstance(action, (CreateLogin, SetPassword))}
    bound = {action.login for action in plan.actions if isinstance(action, BindLogin)}
    retired = {action.login for action in plan.actions if isinstance(action, RetireLogin)}
    assert drawn == bound == ({plan.issues} if plan.issues else set())
    assert not drawn & retired


@given(st.lists(st.tuples(st.sampled_from(["acme", "globex"]), declarations, st.booleans()), max_size=6))
@settings(deadline=None, max_examples=80)
def test_one_tenant_never_touches_another(steps: list[tuple[str, Any, bool]]) -> None:
    """Plans name only the tenant's own roles and rows, its shard and component sets."""
    database = ModelDatabase()
    for tenant, template, deleted in steps:
        desired = replace(template, row=replace(template.row, tenant=tenant, name=tenant), names=names_of(tenant))
        journey = Journey(database)
        database.touched.clear()
        if deleted:
            journey.delete(desired, rows=True)
        else:
            journey.run(replace(desired, row=replace(desired.row, stores=("kv",))))
        assert {each for each in database.touched if tenant not in each} == set()


def test_saving_takes_the_foundation_first() -> None:
    """A tenant's row stands before anything refers to it."""
    plan = plan_tenant(ACME, ModelDatabase().observe("acme", ACME.names), None)
    assert isinstance(plan, Plan)
    places = {type(action): number for number, action in enumerate(plan.actions)}
    assert places[SaveTenant] < places[CreateLogin] < places[BindLogin]


def test_an_overlap_of_zero_retires_at_once() -> None:
    """Without an overlap the former login ends with the rotation."""
    journey, desired = provisioned(rotation_overlap_seconds=0.0)
    plan = journey.run(replace(desired, rotation_request="now"))
    retired = next(action for action in plan.actions if isinstance(action, RetireLogin))
    assert retired.retire_at == journey.database.now
    journey.run(desired)
    assert set(journey.database.roles) == {B}


def test_deleting_what_is_not_there_is_a_success() -> None:
    """A tenant that the database never knew is gone already."""
    assert plan_deletion(ACME, ModelDatabase().observe("acme", ACME.names), delete_rows=True) == Plan()


def test_a_rotation_under_report_uses_a_login_that_is_left_too_strong() -> None:
    """Where drift is only reported, what would be dropped is still there: a rotation must not create it again."""
    journey, desired = provisioned(repair=False)
    rotated(journey, desired)
    journey.run(desired)
    journey.database.drift(A, privileged=True)
    plan = journey.run(replace(desired, rotation_request="again"))
    assert isinstance(plan, Plan)
    assert rules.ATTRIBUTES_DIFFER in plan.drift
    assert "CreateLogin" not in kinds(plan)
    assert plan.issues == A
    assert journey.database.opens(journey.secret) == "acme"
