"""Every hot statement of the artifacts finds its rows by an index, as the tenant, among 100,000 artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from storagelib._sync.store import Store
from storagelib.config import PostgresConfig, StoreConfig
from storagelib.credentials import Credentials
from tests.plugins.installation import Installation
from tests.plugins.tenants import make_tenant
from tests.storagelib.events.plans import MODES, nodes, scans, sent_statements, touched

ROWS = 100_000
TENANT = "planned"
TABLES = ("artifacts", "artifact_content", "artifact_chunks", "artifact_tags")

# References are counted by hand: the trigger would take longer than the test.
FILL = """
SET LOCAL session_replication_role = replica;
INSERT INTO {schema}.artifact_content
    (tenant_id, content_hash, storage_type, data, size_bytes, original_size_bytes, reference_count)
SELECT {tenant}, lpad(to_hex(n), 64, '0'), 'inline', 'x', 1, 1, CASE WHEN n % 1000 = 0 THEN 0 ELSE 1 END
  FROM generate_series(1, {rows}) AS n;
INSERT INTO {schema}.artifact_content
    (tenant_id, content_hash, storage_type, chunk_size, size_bytes, original_size_bytes, reference_count)
VALUES ({tenant}, repeat('f', 64), 'chunked', 262144, 20000 * 262144::bigint, 20000 * 262144::bigint, 1);
INSERT INTO {schema}.artifact_chunks (tenant_id, content_hash, chunk, data, chunk_hash)
SELECT {tenant}, repeat('f', 64), n, 'x', repeat('x', 32)::bytea FROM generate_series(0, 19999) AS n;
INSERT INTO {schema}.artifacts (tenant_id, artifact_id, session_id, sequence, content_hash, name, artifact_type,
    mime_type, size_bytes, version, tags, created_at)
SELECT {tenant}, 'a' || n, 's' || n % 100, n, lpad(to_hex(n), 64, '0'), 'n' || n % 1000, 't' || n % 50, 'm', 1, n,
       ARRAY['g' || n % 200], '2024-01-01'::timestamptz + n * interval '1 second'
  FROM generate_series(1, {rows}) AS n WHERE n % 1000 <> 0;
INSERT INTO {schema}.artifact_tags (tenant_id, artifact_id, tag, created_at)
SELECT tenant_id, artifact_id, tags[1], created_at FROM {schema}.artifacts WHERE tenant_id = {tenant};
"""


@dataclass(frozen=True)
class Filled:
    """A tenant with many artifacts, and what looks at its plans."""

    store: Store
    connection: psycopg.Connection[Any]
    schema: str

    @property
    def artifacts(self) -> Any:
        """The tenant's artifacts."""
        return self.store.for_tenant(TENANT).artifacts

    def plan(self, call: Any, mode: str) -> list[dict[str, Any]]:
        """Return the nodes of a statement's plan."""
        return nodes(self.connection, self.schema, TENANT, call, mode)


@pytest.fixture(scope="module")
def filled(installation: Installation) -> Iterator[Filled]:
    """Fill two tenants and gather statistics."""
    schema = sql.Identifier(installation.schema)
    dsns = {tenant: make_tenant(installation, tenant) for tenant in (TENANT, "neighbour")}
    with installation.database.connect() as connection:
        for tenant in dsns:
            rows = sql.Literal(ROWS if tenant == TENANT else ROWS // 5)
            with connection.transaction():
                connection.execute(sql.SQL(FILL).format(schema=schema, tenant=sql.Literal(tenant), rows=rows))
        for table in TABLES:
            connection.execute(sql.SQL("ANALYZE {}.{}").format(schema, sql.Identifier(table)))
    credentials = Credentials.from_dsn(dsns[TENANT], tenant_id=TENANT, schema=installation.schema)
    config = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=credentials))
    with Store.open(config) as store, psycopg.connect(dsns[TENANT], autocommit=True) as connection:
        yield Filled(store, connection, installation.schema)


def page_after(artifacts: Any, **question: Any) -> Any:
    """Ask for the second page."""
    first = artifacts.list_artifacts(**question)
    assert first.cursor is not None
    return artifacts.list_artifacts(cursor=first.cursor, **question)


# How many artifacts there are to look at beyond those of the page.
LISTINGS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "all": (lambda artifacts: artifacts.list_artifacts(), 0),
    "the second page": (page_after, 0),
    "a session's second page": (lambda artifacts: page_after(artifacts, session_id="s7"), 0),
    "a tag's second page": (lambda artifacts: page_after(artifacts, tag="g7"), 0),
    "a type's second page": (lambda artifacts: page_after(artifacts, artifact_type="t7"), 0),
    "a tag and a type": (lambda artifacts: artifacts.list_artifacts(tag="g7", artifact_type="t7"), ROWS // 200),
    "a session and a type": (
        lambda artifacts: artifacts.list_artifacts(session_id="s7", artifact_type="t7"),
        ROWS // 100,
    ),
    "versions": (lambda artifacts: artifacts.versions("s7", "n7"), 0),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LISTINGS)
def test_listings_look_at_what_they_return(
    filled: Filled, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    """No table is scanned from end to end, and pages cost their own rows."""
    ask, more = LISTINGS[name]
    with sent_statements(monkeypatch) as sent:
        ask(filled.artifacts)
    plan = filled.plan(sent[-1], mode)
    assert "Seq Scan" not in scans(plan, "artifact")
    assert plan[0]["Actual Rows"] >= 10
    assert touched(plan, "artifacts") <= plan[0]["Actual Rows"] + more + 10
    assert touched(plan, "artifact_tags") <= plan[0]["Actual Rows"] + more + 10


@pytest.mark.parametrize("mode", MODES)
def test_reading_one_reads_its_rows(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """An artifact and its content are a row each; a batch of chunks is the batch."""
    with sent_statements(monkeypatch) as sent:
        filled.artifacts.stat("a777")
        filled.artifacts._backend.content("a777")
        filled.artifacts.latest("s7", "n7")
        assert [chunk.index for chunk in filled.artifacts._backend.chunks("f" * 64, 9000, 9007)] == list(
            range(9000, 9008)
        )
    for call in sent:
        plan = filled.plan(call, mode)
        assert "Seq Scan" not in scans(plan, "artifact")
        assert sum(touched(plan, table) for table in ("artifacts", "artifact_content")) <= 2
        assert touched(plan, "artifact_chunks") in (0, 8)


@pytest.mark.parametrize("mode", MODES)
def test_writing_and_collecting_look_at_few_rows(filled: Filled, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Storing finds its content by the hash, collecting looks at what is unreferenced, a session at its own."""
    with sent_statements(monkeypatch) as sent:
        stored = filled.artifacts.store("new", "n", b"x" * 20_000)
        filled.artifacts.delete(stored.artifact_id)
        filled.artifacts.collect_garbage(limit=20)
        filled.artifacts.delete_session("nothing")
    most = {"record": 4, "delete": 2, "collect": 200, "delete_session": 0}
    for query, values in sent:
        plan = filled.plan((query, values), mode)
        assert "Seq Scan" not in scans(plan, "artifact")
        name = query.name.partition(".")[2]
        assert touched(plan, "artifacts") + touched(plan, "artifact_content") <= most[name], name
