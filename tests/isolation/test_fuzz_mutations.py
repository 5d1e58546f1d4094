"""The proof can fail: each classic mistake, made in a scratch database, is found by the same fuzzer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.isolation.fuzz import Range, attack, shooting_range
from tests.plugins.installation import Installation, Molds

SEED, CASES_MAX = 20, 600


@dataclass(frozen=True, slots=True)
class Mutation:
    """A mistake that somebody could make, and what undoes it; ``{set}`` and the like are filled in."""

    mistake: str
    undo: str


_LEAVES = """DO $x$ DECLARE leaf regclass; BEGIN
  FOR leaf IN SELECT inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = inhparent WHERE c.relname ^@ 'vector_' AND c.relkind = 'p' LOOP
    EXECUTE format('ALTER TABLE %s {} ROW LEVEL SECURITY; {} SELECT ON %s {} {{set}}', leaf, leaf);
  END LOOP; END $x$"""
_INSERT = """DO $x$ DECLARE p record; BEGIN
  FOR p IN SELECT polrelid::regclass AS relation FROM pg_policy JOIN pg_class c ON c.oid = polrelid
            WHERE polname = 'tenant_isolation_insert' AND NOT c.relispartition LOOP
    EXECUTE format('ALTER POLICY tenant_isolation_insert ON %s WITH CHECK ({})', p.relation);
  END LOOP; END $x$"""
_PROTECT = "SELECT {schema}.protect_table('{schema}.{table}')"
_ORIGINAL = "SELECT 1"
_MUTATIONS = {
    "policy-lets-all-read": Mutation(
        "ALTER POLICY tenant_isolation_select ON {schema}.kv_store USING (true)",
        _PROTECT.replace("{table}", "kv_store"),
    ),
    "policies-let-all-insert": Mutation(
        _INSERT.format("true"), _INSERT.format("tenant_id = (SELECT {schema}.writing_tenant())")
    ),
    "table-without-row-security": Mutation(
        "ALTER TABLE {schema}.workflow_states DISABLE ROW LEVEL SECURITY",
        _PROTECT.replace("{table}", "workflow_states"),
    ),
    "leaves-granted-and-unprotected": Mutation(
        _LEAVES.format("DISABLE", "GRANT", "TO"), _LEAVES.format("ENABLE", "REVOKE", "FROM")
    ),
    "definer-without-tenant-predicate": Mutation(
        "ALTER FUNCTION {schema}.erase_stream(text, text) RENAME TO erase_stream_kept;"
        "CREATE FUNCTION {schema}.erase_stream(subject text, reason text) RETURNS bigint LANGUAGE sql SECURITY DEFINER"
        " AS 'WITH gone AS (DELETE FROM {schema}.event_log WHERE stream = subject RETURNING 1) SELECT count(*) FROM gone';"
        "ALTER FUNCTION {schema}.erase_stream(text, text) OWNER TO {maintenance};"
        "GRANT EXECUTE ON FUNCTION {schema}.erase_stream(text, text) TO {set}",
        "DROP FUNCTION {schema}.erase_stream(text, text);"
        "ALTER FUNCTION {schema}.erase_stream_kept(text, text) RENAME TO erase_stream",
    ),
    "login-bypasses-row-security": Mutation("ALTER ROLE {login} BYPASSRLS", "ALTER ROLE {login} NOBYPASSRLS"),
    # The attack that most designs lose, so it comes last: the policies' function believes a setting.
    "tenant-by-a-setting": Mutation(
        "CREATE OR REPLACE FUNCTION {schema}.current_tenant() RETURNS text LANGUAGE sql STABLE"
        " AS 'SELECT current_setting(''app.current_tenant_id'', true)'",
        _ORIGINAL,
    ),
}


@pytest.fixture(scope="module")
def scratch(molds: Molds) -> Iterator[Range]:
    """Give an installation that nothing but these mutations uses."""
    with molds.copy() as made, shooting_range(made, SEED) as field:
        yield field


def _execute(installation: Installation, field: Range, text: str) -> None:
    names, prey = installation.names, field.prey()
    words = {"schema": prey.schema, "set": prey.set_role, "maintenance": names.maintenance, "login": prey.own_login}
    for word, value in words.items():
        text = text.replace("{" + word + "}", value)
    with installation.database.connect() as connection:
        connection.execute(text.encode())


@pytest.mark.parametrize("mutation", list(_MUTATIONS.values()), ids=list(_MUTATIONS))
def test_a_mistake_is_found(scratch: Range, mutation: Mutation) -> None:
    """The fuzzer reports a leak or a changed row once the contract is broken."""
    _execute(scratch.installation, scratch, mutation.mistake)
    try:
        scratch.watch.remember()
        finding = attack(scratch, SEED, CASES_MAX)
        assert finding is not None
        assert "rights changed" not in finding.reason
    finally:
        _execute(scratch.installation, scratch, mutation.undo)
