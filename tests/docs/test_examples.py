"""Every example of the documentation that can run is run: YAML parses, Python executes, marked shell blocks succeed."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from storage_operator.devenv.program import embedded
from storage_operator.resources.faults import Faults
from storage_operator.resources.kinds import API_VERSION, Kind
from storage_sql.roles import RoleNames
from tests.docs.pages import DOCS, ROOT, Block, blocks, examples, readme_commands
from tests.plugins.controlplane import Cluster
from tests.plugins.installation import drop_roles
from tests.plugins.manifests import parse
from tests.plugins.postgres import url_with

EXAMPLES = examples()
NEEDS_CLUSTER = {name for name, parts in EXAMPLES.items() if any("kubectl" in part.text for part in parts)}
README = "readme"
EXAMPLES[README] = readme_commands()
EXAMPLE_SECONDS = 240
_DATABASE = re.compile(r"--database (\w+)")
_BLOCK_STARTS = "@@ block "


def documents() -> list[Any]:
    """Return every manifest of ours in the pages and beside the tutorial, with a name for the report."""
    sources = [(block.id, block.text) for block in blocks("yaml")]
    files = sorted((DOCS / "tutorial" / "manifests").rglob("*.yaml"))
    sources += [(file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")) for file in files]
    return [
        pytest.param(document, id=f"{name}-{index}")
        for name, text in sources
        for index, document in enumerate(yaml.safe_load_all(text))
        if isinstance(document, dict) and str(document.get("apiVersion", "")).startswith("storage.llmspell.dev/")
    ]


@pytest.mark.parametrize("document", documents())
def test_manifests_have_no_faults(document: dict[str, Any]) -> None:
    """A manifest that is shown is accepted, unknown fields included."""
    assert document["apiVersion"] == API_VERSION
    body = {**document, "metadata": {"namespace": "default", **document["metadata"]}}
    parsed = parse(Kind(document["kind"]), body, strict=True)
    assert not isinstance(parsed, Faults), str(parsed)


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=block.id) for block in blocks("python") if block.mark not in ("no-run", "file")]
)
def test_python_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python block runs to its end, its assertions included, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.id, "exec"), {"__name__": "example"})


@pytest.fixture
def programs(superuser_url: str, tmp_path: Path) -> Path:
    """Give a folder with psql, for the examples' PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if shutil.which("psql") is None:
        program = embedded()
        libraries = shlex.quote(program.environment()["LD_LIBRARY_PATH"])
        script = f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {shlex.quote(str(program.bin / "psql"))} "$@"\n'
        (folder / "psql").write_text(script, encoding="utf-8")
        (folder / "psql").chmod(0o755)
    return folder


@pytest.fixture
def example(request: pytest.FixtureRequest, superuser_url: str) -> Iterator[str]:
    """Give the name of an example, and drop the databases and roles that it made."""
    name: str = request.param
    made = {match for block in EXAMPLES[name] for match in _DATABASE.findall(block.text)}
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        there = connection.execute("SELECT datname FROM pg_database WHERE datname = ANY(%s)", (list(made),)).fetchall()
    assert not there, f"the server has databases that the example makes: {there}"
    yield name
    for database in made:
        _drop(superuser_url, database)


def _drop(superuser_url: str, database: str) -> None:
    try:
        with psycopg.connect(url_with(superuser_url, dbname=database)) as connection:
            query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace"
            comments = [str(row[0]) for row in connection.execute(query)]
    except psycopg.OperationalError:
        return  # It was only printed.
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
    for names in filter(None, map(RoleNames.from_schema_comment, comments)):
        drop_roles(superuser_url, names.owner)


def run(name: str, folder: Path, environment: dict[str, str]) -> str:
    """Execute an example's shell blocks in a folder of its own and return what they printed; fails with all of it."""
    script = ["set -euo pipefail"]
    for part in EXAMPLES[name]:
        if part.mark == "file":
            (folder / str(part.value)).parent.mkdir(parents=True, exist_ok=True)
            (folder / str(part.value)).write_text(part.text, encoding="utf-8")
        elif part.mark == "run":
            script += [f"echo '{_BLOCK_STARTS}{part.id}'", part.text]
    process = subprocess.Popen(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=EXAMPLE_SECONDS)
    finally:
        # An operator in the background belongs to the same session.
        if process.returncode != 0:
            os.killpg(process.pid, signal.SIGKILL)
    logs = "".join(f"\n{log.name}:\n{log.read_text()[-4000:]}" for log in folder.glob("*.log"))
    assert process.returncode == 0, printed + logs
    return printed


@pytest.mark.parametrize("example", sorted(set(EXAMPLES) - NEEDS_CLUSTER - {README}), indirect=True)
def test_shell_examples_run(example: str, superuser_url: str, programs: Path, tmp_path: Path) -> None:
    """The blocks of a page succeed one after the other on a real server, and print what the page says."""
    check(example, tmp_path, environment_for(tmp_path, superuser_url, programs))


@pytest.mark.parametrize("example", [README], indirect=True)
def test_the_readme_makes_a_tenant(example: str, superuser_url: str, programs: Path, tmp_path: Path) -> None:
    """The five commands of the README, after those that start a server, end with the tutorial's tenants."""
    (tmp_path / "docs" / "tutorial").mkdir(parents=True)
    shutil.copytree(DOCS / "tutorial" / "manifests", tmp_path / "docs" / "tutorial" / "manifests")
    printed = run(example, tmp_path, environment_for(tmp_path, superuser_url, programs))
    assert all(tenant in printed.rpartition("TENANT")[2] for tenant in ("acme", "globex", "initech")), printed


@pytest.mark.cluster
@pytest.mark.parametrize("example", sorted(NEEDS_CLUSTER), indirect=True)
def test_cluster_examples_run(
    example: str, control_plane: Cluster, superuser_url: str, programs: Path, tmp_path: Path
) -> None:
    """The same, with a real API server and the operator from this working tree."""
    (programs / "kubectl").symlink_to(control_plane.kubectl)
    environment = environment_for(tmp_path, superuser_url, programs)
    check(example, tmp_path, {**environment, "KUBECONFIG": str(control_plane.kubeconfig)})


def environment_for(folder: Path, superuser_url: str, programs: Path) -> dict[str, str]:
    """Return the variables of an example: our programs first, servers of the tests, no file outside its folder."""
    path = os.pathsep.join((str(Path(sys.executable).parent), str(programs), os.environ["PATH"]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLMSPELL_", "KUBE", "PG"))}
    return {
        **kept,
        "PATH": path,
        "LLMSPELL_STORAGE_POSTGRES_URL": superuser_url,
        "LLMSPELL_OPERATOR_HTTP_PORT": "0",
        "XDG_STATE_HOME": str(folder / "state"),
    }


def check(example: str, folder: Path, environment: dict[str, str]) -> None:
    """Run an example and look for the lines that its page promises."""
    work = folder / "work"
    work.mkdir()
    shutil.copytree(ROOT / "crds", work / "crds")
    printed = run(example, work, environment)
    sections = {part.partition("\n")[0]: part for part in printed.split(_BLOCK_STARTS)[1:]}
    parts = EXAMPLES[example]
    for before, part in itertools.pairwise(parts):
        if part.mark == "output":
            missing = [line for line in part.text.splitlines() if line not in sections[before.id]]
            assert not missing, f"{part.id}: not printed: {missing}; printed was:\n{sections[before.id]}"
