"""The attacker's grammar: SQL that a hostile tenant may send through its own session, composed from a seed.

A *case* is what happens before (settings), one or more attacks, and how they are framed (autocommit, a transaction,
savepoints). What reads is a SELECT first and is then *carried*: plain, prepared, by a cursor, by COPY, in a DO block, by
EXPLAIN, as XML and so on, so that each way of asking meets each way of carrying the answer out.

The alarm: where a statement could only answer by touching a foreign row, it answers ``alarm-bell``, put together by the
server from two halves, so that an echo of the statement is never mistaken for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.isolation.canaries import Column, Table

ALARM = "alarm-bell"
_RING = "concat('alarm', '-', 'bell')"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the attacker does: ``kind`` is sql, copy_out, copy_in or extended (with ``data`` as parameters)."""

    text: str
    kind: str = "sql"
    data: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """Steps in one framing; replayed by the seed and the number that are printed with a failure."""

    framing: str
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """Return the case as a script to read."""
        lines = [f"-- {self.framing}"]
        for step in self.steps:
            given = f"  -- {step.data}" if step.data else ""
            lines.append(f"{step.text};  -- {step.kind}{given}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Prey:
    """What an attacker can know of an installation without being told: the schema is public, the roles are listed."""

    schema: str
    tables: tuple[Table, ...]
    attacker: str
    neighbour: str
    own_login: str
    own_logins: tuple[str, ...]
    neighbour_login: str
    set_role: str
    roles: tuple[str, ...]
    database: str
    neighbour_pid: int


_READS = (
    "SELECT * FROM {t} AS t WHERE {p}",
    "SELECT t::text FROM {t} AS t WHERE {p}",
    "SELECT to_jsonb(t) FROM {t} AS t WHERE {p}",
    "SELECT row_to_json(t)::text FROM {t} AS t WHERE {p} ORDER BY {c}",
    "SELECT string_agg({c}::text, ',') FROM {t} AS t WHERE {p}",
    "SELECT array_agg({c}::text) FROM {t} AS t WHERE {p}",
    "SELECT max({c}::text) FROM {t} AS t WHERE {p}",
    "SELECT encode(convert_to(t::text, 'UTF8'), 'hex') FROM {t} AS t WHERE {p}",
    "SELECT encode(convert_to(t::text, 'UTF8'), 'base64') FROM {t} AS t WHERE {p}",
    "SELECT reverse(t::text) FROM {t} AS t WHERE {p}",
    "SELECT {c}, " + _RING + " FROM {t} AS t WHERE {f}",
    "SELECT " + _RING + " FROM {t} AS t WHERE {f} LIMIT 1",
    "SELECT " + _RING + " WHERE EXISTS (SELECT FROM {t} AS t WHERE {f})",
    "SELECT CASE WHEN count(*) > 0 THEN " + _RING + " END FROM {t} AS t WHERE {f}",
    "SELECT (t::text)::integer FROM {t} AS t WHERE {p}",
    "SELECT {c} FROM {t} AS t WHERE ({c}::text)::integer > 0 AND {p}",
    "SELECT xmlparse(CONTENT '<' || {c}::text) FROM {t} AS t WHERE {p}",
    "SELECT ({c}::text)::uuid FROM {t} AS t WHERE {p}",
    "SELECT t.ctid, t.xmin, t.tableoid::regclass, t.* FROM {t} AS t WHERE t.ctid = '(0,1)'",
    "SELECT * FROM {t} AS t TABLESAMPLE SYSTEM (100) WHERE {p}",
    "SELECT u.* FROM {t} AS t, LATERAL (SELECT x.* FROM {t} AS x WHERE x.tenant_id <> t.tenant_id) AS u",
    "SELECT a.{c}, b.{c} FROM {t} AS a LEFT JOIN {t} AS b ON a.tenant_id <> b.tenant_id",
    "SELECT lag({c}::text) OVER (ORDER BY tenant_id), last_value({c}::text) OVER () FROM {t} AS t WHERE {p}",
    "SELECT tenant_id, count(*) FROM {t} AS t GROUP BY ROLLUP (tenant_id)",
    "WITH m AS MATERIALIZED (SELECT * FROM {t}) SELECT t::text FROM m AS t WHERE {p}",
    (
        "WITH RECURSIVE r AS (SELECT tenant_id, {c}::text AS v, 1 AS n FROM {t} UNION ALL SELECT tenant_id, v, n + 1 FROM r"
        " WHERE n < 3) SELECT * FROM r AS t WHERE {p}"
    ),
    "SELECT * FROM {t} AS t WHERE {p} FOR UPDATE SKIP LOCKED",
    "SELECT * FROM {t} AS t WHERE {p} FOR KEY SHARE NOWAIT",
    "SELECT DISTINCT {c} FROM {t} AS t UNION ALL SELECT DISTINCT {c} FROM ONLY {t}",
    "SELECT query_to_xml('SELECT * FROM {t}', true, false, '')",
    "SELECT table_to_xml('{t}', true, false, '')",
    "SELECT ts_stat('SELECT to_tsvector(''simple'', {c}::text) FROM {t}')",
    "SELECT jsonb_path_query_array(to_jsonb(array_agg(t)), '$.**') FROM {t} AS t WHERE {p}",
    "SELECT " + _RING + " WHERE (SELECT count(*) FROM {t} AS t WHERE {f}) > 0",
)
_TARGETS = (
    "tenant_id = {b}",
    "tenant_id <> {a}",
    "NOT tenant_id = {a}",
    "tenant_id IS DISTINCT FROM {a}",
    "tenant_id > ''  AND tenant_id <> {a}",
    "tenant_id ^@ 'be' AND tenant_id <> {a}",
    "tenant_id || '' = {b}",
    "tenant_id IN ({b}, 'filler-1', 'filler-2', 'filler-3')",
    "tenant_id = ANY (ARRAY[{b}])",
    "tenant_id ~ '^(beta|filler)'",
    '(tenant_id COLLATE "C") = {b}',
    "starts_with(tenant_id, 'beta')",
    "(tenant_id, 1) = ({b}, 1)",
)
_SETTINGS = (
    "SET app.current_tenant_id = {b}",
    "SET LOCAL app.current_tenant_id = {b}",
    "SELECT set_config('app.current_tenant_id', {b}, false)",
    "SET llmspell.tenant = {b}",
    "SELECT set_config('llmspell.context', repeat('0', 64) || ':' || {b}, false)",
    "SELECT set_config('llmspell.context', encode(sha256(convert_to({b}, 'UTF8')), 'hex') || ':' || {b}, true)",
    "SET llmspell.context = ''",
    "RESET llmspell.context",
    "SET row_security = off",
    "SET row_security = on",
    "SET LOCAL row_security = off",
    "SET search_path = pg_temp, public, pg_catalog",
    "SET search_path = {s}, pg_catalog",
    "SET search_path = ''",
    "SET ROLE NONE",
    "RESET ROLE",
    "RESET ALL",
    "RESET SESSION AUTHORIZATION",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD TEMP",
    "DISCARD SEQUENCES",
    "SET client_min_messages = debug5",
    "SET client_min_messages = notice",
    "SET debug_print_plan = on",
    "SET debug_print_rewritten = on",
    "SET debug_print_parse = on",
    "RESET client_min_messages",
    "SET enable_seqscan = off",
    "SET enable_indexscan = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET plan_cache_mode = force_custom_plan",
    "SET debug_parallel_query = on",
    "SET max_parallel_workers_per_gather = 4",
    "SET parallel_setup_cost = 0",
    "SET min_parallel_table_scan_size = 0",
    "SET constraint_exclusion = off",
    "SET enable_partition_pruning = off",
    "SET from_collapse_limit = 1",
    "SET jit = on",
    "SET transform_null_equals = on",
    "SET default_transaction_isolation = 'serializable'",
    "SET session_replication_role = replica",
    "SET allow_system_table_mods = on",
    "SET check_function_bodies = off",
    "SET default_tablespace = pg_global",
    "SET local_preload_libraries = 'x'",
    "SET dynamic_library_path = '/tmp'",
    "SET is_superuser = on",
    "SELECT set_config('session_authorization', {bl}, false)",
    "SELECT set_config('role', {bl}, false)",
    "SET standard_conforming_strings = on",
    "SET xmloption = document",
    "SET bytea_output = escape",
    "SET DateStyle = 'SQL, DMY'",
    "SET extra_float_digits = 3",
)
_CATALOG = (
    "SELECT * FROM pg_stats WHERE schemaname = {s}",
    "SELECT * FROM pg_stats_ext",
    "SELECT * FROM pg_stats_ext_exprs",
    "SELECT * FROM pg_statistic",
    "SELECT stavalues1::text FROM pg_statistic",
    "SELECT * FROM pg_statistic_ext_data",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM pg_stat_get_activity(NULL)",
    "SELECT pg_stat_get_backend_activity(b) FROM pg_stat_get_backend_idset() AS b",
    "SELECT * FROM pg_stat_statements",
    "SELECT * FROM public.pg_stat_statements(true)",
    "SELECT * FROM pg_stat_user_tables",
    "SELECT * FROM pg_locks",
    "SELECT * FROM pg_cursors",
    "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_prepared_xacts",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_user",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_auth_members",
    "SELECT * FROM pg_db_role_setting",
    "SELECT * FROM pg_policies",
    "SELECT * FROM pg_class WHERE relnamespace = {s}::regnamespace",
    "SELECT pg_get_partkeydef(oid), pg_get_expr(relpartbound, oid) FROM pg_class WHERE relpartbound IS NOT NULL",
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = {s}::regnamespace",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_largeobject_metadata",
    "SELECT * FROM pg_description",
    "SELECT * FROM pg_shdescription",
    "SELECT * FROM pg_file_settings",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_config",
    "SELECT * FROM pg_replication_slots",
    "SELECT * FROM pg_stat_replication",
    "SELECT * FROM pg_subscription",
    "SELECT * FROM pg_foreign_server",
    "SELECT * FROM pg_user_mappings",
    "SELECT * FROM pg_settings",
    "SELECT * FROM information_schema.columns WHERE table_schema = {s}",
    "SELECT * FROM information_schema.role_table_grants",
    "SELECT pg_relation_size(oid), pg_total_relation_size(oid) FROM pg_class WHERE relnamespace = {s}::regnamespace",
    "SELECT pg_database_size(current_database())",
    "SELECT database_to_xml(true, false, '')",
    "SELECT schema_to_xml({s}, true, false, '')",
    "SELECT schema_to_xml_and_xmlschema('public', true, false, '')",
)
_FUNCTIONS = (
    "SELECT pg_terminate_backend({pid})",
    "SELECT pg_cancel_backend({pid})",
    "SELECT pg_log_backend_memory_contexts({pid})",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_read_binary_file('base/1/1259')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_ls_waldir()",
    "SELECT pg_stat_file('PG_VERSION')",
    "SELECT pg_current_logfile()",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_restore_point('x')",
    "SELECT pg_create_physical_replication_slot('x')",
    "SELECT pg_create_logical_replication_slot('x', 'test_decoding')",
    "SELECT pg_logical_emit_message(true, 'x', 'y')",
    "SELECT pg_export_snapshot()",
    "SELECT pg_notify('llmspell', 'x')",
    "SELECT pg_stat_reset()",
    "SELECT pg_stat_statements_reset()",
    "SELECT pg_stat_clear_snapshot()",
    "SELECT pg_advisory_lock_shared(1), pg_try_advisory_lock(2)",
    "SELECT pg_advisory_unlock_all()",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_get(1)",
    "SELECT lo_put(1, 0, 'x')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "SELECT lo_unlink(loid) FROM (SELECT 1::oid AS loid) AS l",
    "SELECT loread(lo_open(1, 262144), 100)",
    "SELECT pg_restore_relation_stats('schemaname', {s}, 'relname', 'kv_store', 'reltuples', 1::real)",
    "SELECT pg_clear_attribute_stats({s}, 'kv_store', 'key', false)",
    "SELECT pg_get_viewdef('pg_stats')",
    "SELECT set_config(name, setting, false) FROM pg_settings WHERE context = 'user' AND name ^@ 'enable'",
    "SELECT dblink('dbname=' || current_database(), 'SELECT 1')",
    "SELECT nextval(oid::regclass) FROM pg_class WHERE relkind = 'S'",
    "SELECT currtid2('{schema}.kv_store', '(0,1)')",
    "SELECT pg_input_error_info('x', 'integer')",
    "SELECT txid_current(), pg_current_wal_insert_lsn()",
    "SELECT has_table_privilege({bl}, '{schema}.kv_store', 'SELECT')",
    "SELECT row_security_active('{schema}.kv_store')",
    "SELECT satisfies_hash_partition('{schema}.vector_embeddings_384'::regclass, 32, 0, {b}::text)",
)
_OURS = (
    "SELECT {schema}.current_tenant(), {schema}.writing_tenant()",
    "SELECT {schema}.enter({b}, 'v1.' || repeat('0', 64), 'kv')",
    "SELECT {schema}.enter({b}, NULL, NULL)",
    "SELECT {schema}.capability({b}, 1)",
    "SELECT {schema}.rotate_sealing_key()",
    "SELECT {schema}.protect_table('{schema}.kv_store')",
    "SELECT {schema}.create_vector_table(5)",
    "SELECT {schema}.create_event_partition('2001-01-01Z', '2001-02-01Z')",
    "SELECT {schema}.ensure_event_partitions('day', 1)",
    "SELECT * FROM {schema}.event_partitions()",
    "SELECT * FROM {schema}.tick_once({b})",
    "SELECT * FROM {schema}.verify_api_key(sha256('known'))",
    "SELECT {schema}.count_artifact_reference()",
    "SELECT * FROM {schema}.tenants",
    "SELECT * FROM {schema}.tenant_logins",
    "SELECT * FROM {schema}.sealing_key",
    "SELECT * FROM {schema}.installation, {schema}.operator_lease",
    "SELECT * FROM {schema}.schema_migrations",
    "SELECT * FROM {schema}.migration_lock FOR UPDATE",
    "UPDATE {schema}.tenants SET suspended = true, tenant = {a}",
    "UPDATE {schema}.tenant_logins SET tenant = {b}",
    "INSERT INTO {schema}.tenant_logins (login, tenant, slot) VALUES (session_user, {b}, 'b')",
    "UPDATE {schema}.components SET enabled = false",
    "DELETE FROM {schema}.schema_migrations",
    "LOCK TABLE {schema}.migration_lock",
)
# The definer functions that a tenant is granted, with arguments that only a tenant predicate makes harmless.
_DEFINERS = (
    "SELECT * FROM {schema}.close_entity_versions('{one}', '-infinity', 'infinity')",
    "SELECT * FROM {schema}.close_relationship_versions('{one}', '-infinity', 'infinity')",
    "SELECT * FROM {schema}.close_entity_versions('{one}', 'infinity', '-infinity')",
    "SELECT * FROM {schema}.close_entity_versions(NULL, NULL, NULL)",
    "SELECT * FROM {schema}.retire_entity('{one}')",
    "SELECT {schema}.erase_entity('{one}', {b})",
    "SELECT {schema}.erase_entity('{one}', NULL)",
    "SELECT {schema}.erase_stream('known', 'x''; DELETE FROM {schema}.event_log; --')",
    "SELECT {schema}.erase_stream('known'' OR true --', repeat('x', 500))",
    "SELECT {schema}.erase_stream('%', repeat('x', 501))",
    "SELECT {schema}.erase_hook_executions('known', {b})",
    "SELECT {schema}.erase_hook_executions(NULL, 'x')",
    "SELECT {schema}.erase_hook_executions(hook_id, 'x') FROM {schema}.hook_history",
)
_POWER = (
    "SET ROLE {r}",
    "SET LOCAL ROLE {r}",
    "SET SESSION AUTHORIZATION {r}",
    "ALTER ROLE {own} SET role = {r}",
    "ALTER ROLE {own} SUPERUSER",
    "ALTER ROLE {own} BYPASSRLS",
    "ALTER ROLE {own} CREATEROLE",
    "ALTER ROLE {own} CONNECTION LIMIT -1",
    "ALTER ROLE {own} RENAME TO other_name",
    "ALTER ROLE {own} SET row_security = off",
    "ALTER ROLE {own} SET llmspell.context = 'x'",
    "ALTER ROLE {own} SET session_preload_libraries = 'x'",
    "ALTER ROLE {own} RESET ALL",
    "ALTER ROLE {own} PASSWORD 'known'",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {set} GRANT SELECT ON TABLES TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {r} GRANT SELECT ON TABLES TO {own}",
    "ALTER ROLE {r} PASSWORD 'taken'",
    "ALTER ROLE {r} SET search_path = pg_temp",
    "ALTER ROLE {r} NOLOGIN",
    "ALTER ROLE ALL SET row_security = off",
    "ALTER DATABASE {db} SET row_security = off",
    "ALTER SYSTEM SET row_security = off",
    "GRANT {r} TO {own}",
    "GRANT {r} TO {own} WITH INHERIT TRUE, SET TRUE",
    "GRANT {own} TO {bl} WITH ADMIN TRUE",
    "GRANT {set} TO PUBLIC",
    "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {own}",
    "GRANT SELECT ON {schema}.kv_store TO PUBLIC",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO PUBLIC",
    "GRANT TEMPORARY, CREATE ON DATABASE {db} TO {own}",
    "REVOKE {set} FROM {bl}",
    "REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {set}",
    "REVOKE USAGE ON SCHEMA {schema} FROM {set} CASCADE",
    "DROP OWNED BY {set} CASCADE",
    "DROP OWNED BY {r} CASCADE",
    "REASSIGN OWNED BY {r} TO {own}",
    "REASSIGN OWNED BY {set} TO {own}",
    "DROP ROLE {r}",
    "CREATE ROLE intruder SUPERUSER",
    "CREATE USER intruder IN ROLE {r}",
    "COMMENT ON ROLE {r} IS 'mine'",
    "SECURITY LABEL ON ROLE {own} IS 'x'",
)
_DDL = (
    "CREATE TABLE public.loot AS SELECT * FROM {t}",
    "CREATE TABLE {schema}.loot (LIKE {t})",
    "CREATE TEMP TABLE loot AS SELECT * FROM {t}",
    "SELECT * INTO TEMP loot FROM {t}",
    "CREATE TEMP VIEW current_tenant AS SELECT {b}::text",
    "CREATE VIEW public.loot AS SELECT * FROM {t}",
    "CREATE MATERIALIZED VIEW public.loot AS SELECT * FROM {t}",
    "CREATE FUNCTION pg_temp.current_tenant() RETURNS text LANGUAGE sql AS 'SELECT {bare}'",
    "CREATE FUNCTION public.current_tenant() RETURNS text LANGUAGE sql AS 'SELECT {bare}'",
    "CREATE OR REPLACE FUNCTION {schema}.current_tenant() RETURNS text LANGUAGE sql AS 'SELECT {bare}'",
    "CREATE FUNCTION public.leak(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001 AS 'BEGIN RETURN true; END'",
    "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    "CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = textne)",
    "CREATE CAST (text AS integer) WITH INOUT AS IMPLICIT",
    "CREATE AGGREGATE public.loot (text) (SFUNC = textcat, STYPE = text)",
    "CREATE SCHEMA pg_catalog_shadow",
    "CREATE SCHEMA {own}",
    "CREATE TRIGGER loot AFTER INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION {schema}.count_artifact_reference()",
    "CREATE RULE loot AS ON SELECT TO {t} DO INSTEAD SELECT 1",
    "CREATE POLICY loot ON {t} USING (true)",
    "ALTER POLICY tenant_isolation_select ON {t} USING (true)",
    "DROP POLICY tenant_isolation_select ON {t}",
    "ALTER TABLE {t} DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE {t} NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE {t} OWNER TO {own}",
    "ALTER TABLE {t} DISABLE TRIGGER ALL",
    "ALTER TABLE {t} SET UNLOGGED",
    "TRUNCATE {t}",
    "TRUNCATE {t} CASCADE",
    "DROP TABLE {t} CASCADE",
    "VACUUM FULL {t}",
    "VACUUM (ANALYZE, VERBOSE) {t}",
    "ANALYZE VERBOSE {t}",
    "CLUSTER {t}",
    "REINDEX TABLE {t}",
    "CREATE INDEX ON {t} (({c}::text))",
    "CREATE UNIQUE INDEX ON {t} ({c})",
    "CREATE STATISTICS public.loot ON tenant_id, {c} FROM {t}",
    "CREATE SEQUENCE public.loot OWNED BY NONE",
    "CREATE DOMAIN public.text AS pg_catalog.text",
    "CREATE TYPE public.loot AS (x text)",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION postgres_fdw",
    "CREATE EXTENSION pageinspect SCHEMA public",
    "CREATE FOREIGN DATA WRAPPER loot",
    "CREATE PUBLICATION loot FOR TABLE {t}",
    "CREATE SUBSCRIPTION loot CONNECTION 'dbname=x' PUBLICATION y",
    "CREATE EVENT TRIGGER loot ON sql_drop EXECUTE FUNCTION {schema}.current_tenant()",
    "CREATE LANGUAGE plpython3u",
    "LOAD 'auto_explain'",
    "COMMENT ON TABLE {t} IS 'mine'",
    "ALTER SCHEMA {schema} RENAME TO other",
    "IMPORT FOREIGN SCHEMA public FROM SERVER x INTO public",
    "CREATE FOREIGN TABLE pg_temp.loot () SERVER x",
    "CREATE TABLESPACE loot LOCATION '/tmp'",
    "CREATE DATABASE loot TEMPLATE {db}",
    "ALTER EXTENSION vector SET SCHEMA {schema}",
    "PREPARE TRANSACTION 'loot'",
    "LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE NOWAIT",
    "LOCK TABLE {t} IN SHARE MODE NOWAIT",
    "LISTEN llmspell",
    "LISTEN known",
    "NOTIFY llmspell, 'x'",
    "UNLISTEN *",
    "CHECKPOINT",
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_FRESH = {
    "text": "encode(sha256(gen_random_uuid()::text::bytea), 'hex')",
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "clock_timestamp()",
}


class Attacker:
    """Draws cases; the same seed draws the same cases against the same schema."""

    def __init__(self, prey: Prey, rng: random.Random) -> None:
        """Take what is known of the prey and the source of all chance."""
        self._prey, self._rng, self._serial = prey, rng, 0
        self._families: tuple[tuple[int, Callable[[], list[Step]]], ...] = (
            (34, self._read),
            (16, self._write),
            (10, self._as_neighbour),
            (6, self._merge),
            (6, self._copy),
            (5, self._block),
            (7, lambda: self._drawn(_CATALOG, carried=True)),
            (6, lambda: self._drawn(_FUNCTIONS)),
            (6, lambda: self._drawn(_OURS)),
            (6, lambda: self._drawn(_DEFINERS)),
            (7, lambda: self._drawn(_POWER)),
            (8, lambda: self._drawn(_DDL)),
            (2, self._cursor_write),
        )

    def case(self) -> Case:
        """Draw one case."""
        steps: list[Step] = []
        for _ in range(self._rng.choice((0, 0, 1, 1, 2))):
            steps += self._drawn(_SETTINGS)
        weights, families = zip(*self._families, strict=True)
        for attack in self._rng.choices(families, weights, k=self._rng.choice((1, 2, 3))):
            steps += attack()
        framing = self._rng.choice(("autocommit", "autocommit", "transaction", "savepoints"))
        return Case(framing, tuple(steps))

    def _pick(self, leaves: bool = True) -> tuple[Table, str, Column]:
        table = self._rng.choice(self._prey.tables)
        name = table.name
        if leaves and table.children and self._rng.random() < 0.3:
            name = self._rng.choice(table.children)
        return table, f"{self._prey.schema}.{name}", self._rng.choice(table.columns)

    def _words(self) -> dict[str, str]:
        prey = self._prey
        _, relation, column = self._pick()
        return {
            "a": _quoted(prey.attacker),
            "b": _quoted(prey.neighbour),
            "bare": "''" + prey.neighbour + "''",
            "bl": _quoted(prey.neighbour_login),
            "s": _quoted(prey.schema),
            "schema": prey.schema,
            "own": self._rng.choice(prey.own_logins),
            "r": self._rng.choice(prey.roles),
            "set": prey.set_role,
            "db": prey.database,
            "pid": str(prey.neighbour_pid),
            "one": f"{1:032x}",
            "t": relation,
            "c": column.name,
        }

    def _drawn(self, templates: Sequence[str], *, carried: bool = False) -> list[Step]:
        words = self._words()
        template = self._rng.choice(templates)
        if "ROLE" in template or "GRANT" in template or "REVOKE" in template:
            words["bl"] = self._prey.neighbour_login
        text = template.format(**words)
        return self._carried(text) if carried else [Step(text)]

    def _foreign(self) -> str:
        words = {"a": _quoted(self._prey.attacker), "b": _quoted(self._prey.neighbour)}
        return self._rng.choice(_TARGETS).format(**words)

    def _select(self) -> str:
        _table, relation, column = self._pick()
        predicate = self._rng.choice(("true", "{f}", "{f}", "{c}::text ~ '[0-9a-f]'", "{c} IS NOT NULL OR {f}"))
        words = {"t": relation, "c": column.name, "f": self._foreign()}
        template = self._rng.choice(_READS)
        # The predicate is spelled against the alias that every template gives the table.
        words["p"] = predicate.format(**words)
        return template.format(**words)

    def _read(self) -> list[Step]:
        return self._carried(self._select())

    def _carried(self, select: str) -> list[Step]:
        """Ask one question in one of the ways in which an answer can be carried out of the server."""
        self._serial += 1
        name, rng = f"x{self._serial}", self._rng
        ways: tuple[Callable[[], list[Step]], ...] = (
            lambda: [Step(select)],
            lambda: [Step(select)],
            lambda: [Step(select, "extended", (self._prey.neighbour,))],
            lambda: [Step(f"PREPARE {name} AS {select}"), *[Step(f"EXECUTE {name}")] * rng.choice((1, 6))],
            lambda: [Step(f"DECLARE {name} SCROLL CURSOR WITH HOLD FOR {select}"), Step(f"FETCH ALL FROM {name}")],
            lambda: [Step(f"DECLARE {name} CURSOR FOR {select}"), Step(f"FETCH 5 FROM {name}"), Step(f"CLOSE {name}")],
            lambda: [Step(f"COPY ({select}) TO STDOUT", "copy_out")],
            lambda: [Step(f"COPY ({select}) TO STDOUT WITH (FORMAT binary)", "copy_out")],
            lambda: [Step(f"EXPLAIN (ANALYZE, VERBOSE, BUFFERS, FORMAT {rng.choice(('TEXT', 'JSON'))}) {select}")],
            lambda: [Step(f"EXPLAIN (VERBOSE) {select}")],
            lambda: [Step(f"SELECT query_to_xml({_quoted(select)}, true, true, '')")],
            lambda: [Step(f"WITH w AS MATERIALIZED ({select}) SELECT w::text FROM w")],
            lambda: [Step(f"SELECT json_agg(w) FROM ({select}) AS w")],
            lambda: [Step(self._noticing(select))],
            lambda: [Step(f"SELECT (w::text)::integer FROM ({select}) AS w")],
            lambda: [Step(f"SELECT pg_notify('known', w::text) FROM ({select}) AS w"), Step("SELECT 1")],
            lambda: [Step(self._kept(select))],
            lambda: [Step(f"SELECT set_config('x.y', w::text, false) FROM ({select}) AS w"), Step("SHOW x.y")],
        )
        return rng.choice(ways)()

    def _noticing(self, select: str) -> str:
        loop = f"FOR found IN EXECUTE {_quoted(select)} LOOP RAISE NOTICE 'found %', found; END LOOP"
        caught = "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'caught % % %', SQLERRM, SQLSTATE, current_user"
        return f"DO $x$ DECLARE found record; BEGIN {loop}; {caught}; END $x$"

    def _kept(self, select: str) -> str:
        prey = self._prey
        return (
            f"INSERT INTO {prey.schema}.test_table (tenant_id, value) SELECT {_quoted(prey.attacker)}, w::text"
            f" FROM ({select}) AS w RETURNING *"
        )

    def _write(self) -> list[Step]:
        """Change or delete foreign rows, directly or inside another statement; whatever comes back rings."""
        table, relation, _column = self._pick()
        prey, foreign = self._prey, self._foreign()
        own = _quoted(prey.attacker)
        some = self._rng.choice([each for each in table.columns if not each.generated])
        statements = (
            f"UPDATE {relation} AS t SET {some.name} = t.{some.name} WHERE {foreign} RETURNING t.*, {_RING}",
            f"UPDATE {relation} AS t SET tenant_id = {own} WHERE {foreign} RETURNING t.*, {_RING}",
            f"UPDATE {relation} SET {some.name} = DEFAULT WHERE {foreign}",
            f"UPDATE {relation} AS t SET tenant_id = {_quoted(prey.neighbour)} RETURNING *, {_RING}",
            f"DELETE FROM {relation} AS t WHERE {foreign} RETURNING t.*, {_RING}",
            f"DELETE FROM {relation} AS t USING (SELECT {own}::text AS mine) AS m WHERE t.tenant_id <> m.mine RETURNING t.*, {_RING}",
            f"DELETE FROM ONLY {relation} WHERE {foreign}",
            f"WITH gone AS (DELETE FROM {relation} RETURNING *) SELECT * FROM gone AS t WHERE {foreign}",
            f"WITH moved AS (UPDATE {relation} AS t SET {some.name} = t.{some.name} RETURNING t.*) SELECT * FROM moved",
            f"INSERT INTO {relation} SELECT * FROM {relation} AS t WHERE {foreign} RETURNING *, {_RING}",
            f"EXPLAIN (ANALYZE) DELETE FROM {relation} WHERE {foreign}",
            (
                f"UPDATE {relation} AS t SET {some.name} = (SELECT u.{some.name} FROM {relation} AS u"
                f" WHERE u.tenant_id <> {own} LIMIT 1) RETURNING *"
            ),
        )
        text = self._rng.choice(statements)
        if self._rng.random() < 0.15:
            return [Step(f"PREPARE w{id(table) % 997}_{self._serial} AS {text}"), Step("SELECT 1")]
        return [Step(text)]

    def _insert_parts(self, table: Table, tenant: str) -> tuple[str, str]:
        """Spell a row: with keys that the neighbour is known to have, or with keys that nobody has yet."""
        values = {"tenant_id": _quoted(tenant)}
        fresh = self._rng.random() < 0.5
        for column in table.columns:
            if column.name == "tenant_id" or column.generated or (column.has_default and not column.key):
                continue
            values[column.name] = _literal(column)
            if fresh and column.key and column.type in _FRESH:
                values[column.name] = _FRESH[column.type]
        return ", ".join(values), ", ".join(values.values())

    def _as_neighbour(self) -> list[Step]:
        """Insert in the neighbour's name, or with keys it is known to have, and see what conflicts tell."""
        table, relation, column = self._pick()
        tenant = self._rng.choice((self._prey.neighbour, self._prey.neighbour, self._prey.attacker))
        columns, values = self._insert_parts(table, tenant)
        # Returning a row asks the policy for reading as well, so it is left out half of the time.
        ring = f"RETURNING *, {_RING}" if tenant == self._prey.neighbour else "RETURNING *"
        ring = self._rng.choice((ring, ""))
        conflicts = (
            "",
            "ON CONFLICT DO NOTHING",
            f"ON CONFLICT ({', '.join(table.keys)}) DO UPDATE SET tenant_id = {_quoted(self._prey.attacker)}",
            f"ON CONFLICT ({', '.join(table.keys)}) DO UPDATE SET {column.name} = excluded.{column.name}",
        )
        text = f"INSERT INTO {relation} ({columns}) VALUES ({values}) {self._rng.choice(conflicts)} {ring}"
        return [Step(text)]

    def _merge(self) -> list[Step]:
        table, relation, column = self._pick()
        columns, values = self._insert_parts(table, self._rng.choice((self._prey.neighbour, self._prey.attacker)))
        key = self._rng.choice(table.keys)
        matched = self._rng.choice(("DELETE", f"UPDATE SET {column.name} = t.{column.name}", "DO NOTHING"))
        source = self._rng.choice(
            (f"(SELECT {_quoted(self._prey.neighbour)} AS tenant_id, 'known' AS k) AS s", f"{relation} AS s")
        )
        return [
            Step(
                f"MERGE INTO {relation} AS t USING {source} ON t.tenant_id = s.tenant_id OR t.{key} IS NOT NULL"
                f" WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({values})"
            )
        ]

    def _copy(self) -> list[Step]:
        table, relation, column = self._pick()
        line = "\t".join([self._prey.neighbour, *["known"] * (len(table.columns) - 1)]) + "\n"
        return [
            self._rng.choice(
                (
                    Step(f"COPY {relation} TO STDOUT", "copy_out"),
                    Step(f"COPY {relation} ({column.name}) TO STDOUT WITH (FORMAT csv)", "copy_out"),
                    Step(f"COPY (TABLE {relation}) TO STDOUT WITH (FORMAT csv)", "copy_out"),
                    Step(f"COPY {relation} FROM STDIN", "copy_in", (line,)),
                    Step(f"COPY {relation} FROM STDIN WITH (FREEZE)", "copy_in", (line,)),
                    Step(f"COPY {relation} TO '/tmp/loot'"),
                    Step(f"COPY {relation} TO PROGRAM 'cat'"),
                    Step(f"COPY {relation} FROM '/etc/passwd'"),
                    Step(f"COPY (DELETE FROM {relation} RETURNING *) TO STDOUT", "copy_out"),
                )
            )
        ]

    def _block(self) -> list[Step]:
        """A DO block that probes with exceptions: what it learns, it says."""
        table, relation, _ = self._pick()
        columns, values = self._insert_parts(table, self._prey.neighbour)
        foreign = self._foreign()
        return [
            Step(
                "DO $x$ DECLARE touched bigint; BEGIN "
                f"BEGIN EXECUTE {_quoted(f'INSERT INTO {relation} ({columns}) VALUES ({values})')}; "
                "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'insert: % %', SQLSTATE, SQLERRM; END; "
                f"BEGIN EXECUTE {_quoted(f'UPDATE {relation} SET tenant_id = tenant_id WHERE {foreign}')}; "
                "GET DIAGNOSTICS touched = ROW_COUNT; "
                f"IF touched > 0 THEN RAISE NOTICE '%', {_RING}; END IF; "
                "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'update: % %', SQLSTATE, SQLERRM; END; "
                f"PERFORM set_config('role', {_quoted(self._rng.choice(self._prey.roles))}, true); "
                "EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'last: % %', SQLSTATE, SQLERRM; END $x$"
            )
        ]

    def _cursor_write(self) -> list[Step]:
        _, relation, column = self._pick()
        self._serial += 1
        name = f"x{self._serial}"
        return [
            Step(f"DECLARE {name} CURSOR FOR SELECT * FROM {relation} WHERE {self._foreign()} FOR UPDATE"),
            Step(f"FETCH 1 FROM {name}"),
            Step(f"UPDATE {relation} SET {column.name} = {column.name} WHERE CURRENT OF {name}"),
            Step(f"DELETE FROM {relation} WHERE CURRENT OF {name} RETURNING *"),
        ]


def _literal(column: Column) -> str:
    """Spell a plausible value that carries no marker: the guessable keys and the shapes that CHECKs want."""
    fixed = {
        "content_hash": _quoted("a" * 64),
        "checksum": _quoted("0" * 64),
        "storage_type": "'inline'",
        "kind": "'entity'",
        "subject_hash": "sha256('x')",
        "key_hash": "sha256('known')",
        "chunk_size": "NULL",
        "sealed_value": "NULL",
        "sealing_key_id": "NULL",
    }
    if column.name in fixed:
        return fixed[column.name]
    by_type = {
        "uuid": _quoted(f"{1:032x}"),
        "text": "'known'",
        "text[]": "'{}'",
        "jsonb": "'{}'",
        "bytea": "'known'::bytea",
        "vector": _quoted("[" + ",".join(["0"] * max(column.dimensions, 1)) + "]"),
        "bigint": "1",
        "integer": "1",
        "timestamp with time zone": "'infinity'" if column.name.endswith("_end") else "now()",
    }
    return by_type.get(column.type, "NULL")
