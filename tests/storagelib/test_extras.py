"""What comes without an extra says which one to install, and the library works without any."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


def run_without(hidden: set[str], code: str) -> subprocess.CompletedProcess[str]:
    """Run Python in which these packages are not installed."""
    program = HIDE.format(hidden=hidden) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("hidden", "module", "extra"),
    [
        ("langchain_core", "langchain", "langchain"),
        ("langgraph", "langgraph", "langgraph"),
        ("langgraph", "langgraph_store", "langgraph"),
    ],
)
def test_an_adapter_names_its_extra(hidden: str, module: str, extra: str) -> None:
    """The last line of the traceback is what to type."""
    finished = run_without({hidden}, f"import storagelib.integrations.{module}")
    assert finished.returncode == 1
    assert finished.stderr.strip().endswith(f"pip install 'llmspell-storage[{extra}]'")


def test_sealing_names_its_extra() -> None:
    """The package is looked for when something is sealed, and its absence is an error of ours."""
    code = (
        "from storagelib import KeyRing, Store, StoreConfig\n"
        "with Store.open(StoreConfig.in_memory()) as store:\n"
        "    store.for_tenant('acme').api_keys.seal('a', b'b', KeyRing('c', {'c': bytes(32)}))"
    )
    finished = run_without({"cryptography"}, code)
    assert finished.returncode == 1
    assert "InvalidInput" in finished.stderr.splitlines()[-1]
    assert "llmspell-storage[sealing]" in finished.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("hidden", "words"),
    [("typer", ["tenant", "list"]), ("yaml", ["apply", "--help"]), ("kopf", ["operator", "run", "--http-port", "0"])],
)
def test_the_command_names_its_extra(hidden: str, words: list[str]) -> None:
    """One line and no traceback, where the library was installed alone, or without the operator."""
    code = f"import sys; sys.argv = ['llmspell', *{words!r}]; from storage_operator.program import run; run()"
    finished = run_without({hidden}, code)
    assert finished.returncode == 1
    assert finished.stderr == f"error: {hidden} is not installed. Run: pip install 'llmspell-storage[operator]'\n"


def test_memory_and_sqlite_need_no_driver(tmp_path: str) -> None:
    """Keys, sessions, states, events, hooks and workflows need neither psycopg nor numpy."""
    code = (
        "from storagelib import Store, StoreConfig\n"
        f"for config in (StoreConfig.in_memory(), StoreConfig.on_sqlite({str(tmp_path)!r} + '/a.db')):\n"
        "    with Store.open(config) as store:\n"
        "        tenant = store.for_tenant('acme')\n"
        "        tenant.kv.set('a', b'1')\n"
        "        tenant.sessions.append(tenant.sessions.create().session_id, 'user', 'hello')\n"
        "        tenant.agent_state.save('a', {}, agent_type='b')\n"
        "        tenant.events.append('a')\n"
        "        tenant.workflow_states.save('a', {}, name='b')\n"
        "        tenant.graph.add_entity('a', 'b')\n"
        "        tenant.procedures.record_transition('a', 'b', 'c', 'd')\n"
        "        tenant.api_keys.create('a')\n"
    )
    finished = run_without({"psycopg", "psycopg_pool", "numpy"}, code)
    assert finished.returncode == 0, finished.stderr
