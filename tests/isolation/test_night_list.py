"""The how-to for no rows: the statements that it tells an operator to run do run, with the rights that it names."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from storage_operator.devenv.postgres import EmbeddedPostgres
from tests.isolation.tenants import Tenant, provision, row_of
from tests.plugins.installation import Installation

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "no-rows-come-back.md"
BLOCKS = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def tenants(installation: Installation) -> tuple[Tenant, Tenant]:
    """Give the tenant of the examples in both modes."""
    role, sealed = provision(installation, [row_of("acme"), row_of("acme-sealed", isolation="sealed")])
    return role, sealed


def _psql(dsn: str, text: str, capability: str = "") -> str:
    program = EmbeddedPostgres("unused").program()
    command = [str(program.bin / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-v", f"capability={capability}", dsn]
    environment = {**os.environ, **program.environment()}
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env=environment, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_application_asks_who_it_is(tenants: tuple[Tenant, Tenant]) -> None:
    """What the page runs in the application's session answers with the tenant."""
    assert "|acme|on" in _psql(tenants[0].dsn, BLOCKS[0])
    assert _psql(tenants[0].dsn, next(block for block in BLOCKS if "current_tenant();\n" in block and "count" in block))


def test_the_sealed_steps_enter(tenants: tuple[Tenant, Tenant]) -> None:
    """The transaction of the page enters and answers with the tenant."""
    block = next(block for block in BLOCKS if "enter(" in block).replace("'acme'", "'acme-sealed'")
    assert "acme-sealed" in _psql(tenants[1].dsn, block, tenants[1].capability)


def test_the_operators_questions_are_answered(installation: Installation, tenants: tuple[Tenant, Tenant]) -> None:
    """With the operator's login every other statement runs, in the order of the page."""
    asked = [block for block in BLOCKS[1:] if "enter(" not in block and "current_tenant()" not in block]
    answer = _psql(installation.operator_dsn, "\n".join(asked))
    assert "active|f|role|{agent_state,api_keys" in answer
    assert tenants[0].login in answer
