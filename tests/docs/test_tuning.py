"""The queries of the guides for tuning and for calls that fail run, and the administration does what it says."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from storagelib import Store, StoreConfig
from tests.docs.pages import DOCS, Block, blocks_of
from tests.plugins.installation import Installation
from tests.plugins.tenants import PASSWORD, make_tenant

BLOCKS = [*blocks_of(DOCS / "how-to" / "tune-storage.md"), *blocks_of(DOCS / "how-to" / "when-calls-fail.md")]
QUERIES = [pytest.param(block, id=block.id) for block in BLOCKS if block.language == "sql"]
PROGRAMS = [
    pytest.param(block, id=block.id) for block in BLOCKS if block.language == "python" and block.mark == "no-run"
]


@pytest.fixture(scope="module")
def used(installation: Installation) -> Installation:
    """Give a database with a tenant that did something, so that a query has something to show."""
    config = StoreConfig.from_dsn(make_tenant(installation, "acme"), tenant_id="acme")
    with installation.connect(installation.names.owner) as connection:
        connection.execute(f"SELECT {installation.schema}.ensure_event_partitions()".encode())
    with Store.open(config) as store:
        tenant = store.for_tenant("acme")
        for number in range(3):
            tenant.events.append("counted", number)
        tenant.vectors.insert("a", [1.0] * 384)
    return installation


@pytest.mark.parametrize("block", QUERIES)
def test_queries_run(block: Block, used: Installation) -> None:
    """Each query is accepted and finds rows, while a tenant is connected."""
    login = used.names.tenant_login("acme", "a")
    config = StoreConfig.from_dsn(used.database.dsn_as(login, PASSWORD), tenant_id="acme")
    with Store.open(config) as store, psycopg.connect(used.superuser_dsn) as connection:
        store.for_tenant("acme").kv.set("a", b"1")
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(block.text.encode()).fetchall()


@pytest.mark.parametrize("block", PROGRAMS)
def test_administration_runs(
    block: Block,
    used: Installation,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the operator's login, and tells of the tenant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMSPELL_STORAGE_OPERATOR_URL", used.operator_dsn)
    exec(compile(block.text, block.id, "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.strip()
