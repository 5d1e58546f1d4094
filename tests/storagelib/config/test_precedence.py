"""Who is believed: argument, variable, DATABASE_URL, file, default; and every variable that the project reads is known."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storagelib import (
    ComponentConfig,
    Credentials,
    InvalidInput,
    MemoryConfig,
    PostgresConfig,
    SqliteConfig,
    StoreConfig,
    config_sources,
)
from storagelib.config_keys import ENVIRONMENT_PREFIX, FOREIGN_VARIABLES, environment_name, known_paths, resolve

ROOT = Path(__file__).resolve().parents[3]
FILE = "postgresql://file:s3cret@file/agents"
SHARED = "postgresql://shared:s3cret@shared/agents"
VARIABLE = "postgresql://variable:s3cret@variable/agents"
ARGUMENT = "postgresql://argument:s3cret@argument/agents"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the process a home of its own, without a configuration."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(home: Path, text: str) -> Path:
    """Write the user's file."""
    file = home / ".config" / "llmspell" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def load(environ: dict[str, str] | None = None, **options: Any) -> StoreConfig:
    """Load with these variables only."""
    return StoreConfig.load(environ=environ or {}, **options)


def host(config: StoreConfig) -> str | None:
    """Return where PostgreSQL is."""
    if config.postgres is None or config.postgres.credentials is None:
        return None
    return config.postgres.credentials.host


def faults_of(environ: dict[str, str] | None = None, **options: Any) -> tuple[str, ...]:
    """Return the faults of what must be refused; none of them shows a password."""
    with pytest.raises(InvalidInput) as refusal:
        load(environ, **options)
    assert "s3cret" not in str(refusal.value)
    return refusal.value.faults


def test_without_a_word_it_is_sqlite_in_the_users_folder(home: Path) -> None:
    """Nothing said: one file."""
    config = load()
    assert (config.backend, config.sqlite.path) == ("sqlite", home / ".local/share/llmspell/llmspell.db")


def test_the_order(home: Path) -> None:
    """Each source beats all that stand behind it."""
    assert host(load()) is None
    write(home, f'[storage.postgres]\nurl = "{FILE}"')
    assert host(load()) == "file"
    assert host(load({"DATABASE_URL": SHARED})) == "shared"
    variables = {"DATABASE_URL": SHARED, "LLMSPELL_STORAGE_POSTGRES_URL": VARIABLE}
    assert host(load(variables)) == "variable"
    assert host(load(variables, postgres_url=ARGUMENT)) == "argument"
    assert load(variables, backend="memory").backend == "memory"
    assert load({**variables, "LLMSPELL_STORAGE_BACKEND": "memory"}).backend == "memory"
    assert load(variables).backend == "postgres"


def test_single_settings_are_laid_over_each_other(home: Path) -> None:
    """A variable changes its own setting and leaves the file's others."""
    write(home, f'[storage.postgres]\nurl = "{FILE}"\npool_size = 4\npool_timeout_secs = 9\nsslmode = "require"')
    config = load({"LLMSPELL_STORAGE_POSTGRES_POOL_SIZE": "25"}, postgres_pool_min=2)
    assert config.postgres is not None
    found = config.postgres
    assert (found.pool_min, found.pool_max, found.pool_timeout_seconds, host(config)) == (2, 25, 9.0, "file")


def test_a_password_may_come_from_a_variable(home: Path) -> None:
    """Parts of a login add up over the sources; a louder part beats the quieter URI."""
    write(home, '[storage.postgres]\nhost = "db"\ndatabase = "agents"\nuser = "ada"')
    config = load({"LLMSPELL_STORAGE_POSTGRES_PASSWORD": "s3cret"})
    assert config.postgres is not None
    assert config.postgres.credentials is not None
    assert (config.postgres.credentials.user, config.postgres.credentials.password) == ("ada", "s3cret")
    louder = load({"DATABASE_URL": SHARED, "LLMSPELL_STORAGE_POSTGRES_HOST": "other"})
    assert host(louder) == "other"


def test_a_louder_connection_replaces_the_whole_login_but_not_its_protection(home: Path) -> None:
    """A password of the file is never sent to the server of a variable; verification stays."""
    write(
        home,
        '[storage.postgres]\nhost = "db"\ndatabase = "agents"\nuser = "ada"\npassword = "files"\n'
        'sslmode = "verify-full"\nca_file = "/ca.crt"\ntenant_id = "acme"',
    )
    config = load({"DATABASE_URL": SHARED})
    assert config.postgres is not None
    found = config.postgres.credentials
    assert found is not None
    assert (found.host, found.user, found.password) == ("shared", "shared", "s3cret")
    assert (found.sslmode, found.ca_file, found.tenant_id) == ("verify-full", Path("/ca.crt"), "acme")
    assert faults_of({"DATABASE_URL": "postgresql://shared@shared/agents"}) == ("DATABASE_URL: names no password",)


def test_a_connection_that_is_used_does_not_move_the_other_stores(home: Path) -> None:
    """An address names the backend only when nothing would use it otherwise."""
    write(home, '[storage]\nbackend = "sqlite"\n[storage.components.events]\nbackend = "postgres"')
    config = load({"LLMSPELL_STORAGE_POSTGRES_URL": VARIABLE})
    assert (config.backend_of("events"), config.backend_of("kv"), host(config)) == ("postgres", "sqlite", "variable")


def test_an_address_in_the_same_place_as_a_backend_is_only_an_address(home: Path) -> None:
    """Who names both means both."""
    write(home, f'[storage]\nbackend = "sqlite"\n[storage.postgres]\nurl = "{FILE}"')
    assert load().backend == "sqlite"
    assert load({"DATABASE_URL": SHARED}).backend == "postgres"
    assert load({"DATABASE_URL": SHARED}, sqlite_path="a.db").backend == "sqlite"
    assert load({"DATABASE_URL": SHARED}, sqlite=SqliteConfig(path=Path("a.db"))).backend == "sqlite"


def test_another_programs_database_is_no_fault() -> None:
    """``DATABASE_URL`` belongs to many: it is looked at only where it would be used."""
    other = {"DATABASE_URL": "mysql://u:s3cret@db/x"}
    (fault,) = faults_of(other)
    assert fault.startswith("DATABASE_URL: is not a connection URI")
    assert load({**other, "LLMSPELL_STORAGE_BACKEND": "memory"}).backend == "memory"
    incomplete = {"DATABASE_URL": "postgresql://db/x", "LLMSPELL_STORAGE_BACKEND": "sqlite"}
    assert load(incomplete).postgres is None
    assert faults_of({"DATABASE_URL": "postgresql://db/x"})


@pytest.mark.parametrize("path", [path for path in known_paths() if path[0] == "storage"], ids=".".join)
def test_every_key_has_a_variable(path: tuple[str, ...]) -> None:
    """White box: the variable that is derived from a key is read as that key, with a value of its kind."""
    faults: list[str] = []
    targets = resolve(path)
    text = {"truth": "true", "backend": "memory", "text": "x", "path": "x"}.get(targets[0].key.kind, "5")
    layer = config_sources._layer(config_sources._variables({environment_name(path): text}, faults), faults, text=True)
    assert not faults
    assert set(layer) == {target.path for target in targets}
    assert {said.label for said in layer.values()} == {environment_name(path)}


def test_variables_are_read_by_kind() -> None:
    """Numbers, truths, paths and words; an empty variable says nothing."""
    prefix = "LLMSPELL_STORAGE_"
    config = load(
        {
            f"{prefix}POSTGRES_URL": VARIABLE,
            f"{prefix}POSTGRES_POOL_MAX": "7",
            f"{prefix}POSTGRES_TIMEOUT_MS": "1500",
            f"{prefix}POSTGRES_PIPELINE": "off",
            f"{prefix}POSTGRES_AUTO_MIGRATE": "No",
            f"{prefix}POSTGRES_TENANT_ID": "acme",
            f"{prefix}SQLITE_PATH": "~/x.db",
            f"{prefix}MEMORY_MOST_BYTES": "1000",
            f"{prefix}MEMORY_BACKEND": "in_memory",
            f"{prefix}COMPONENTS_KV_BACKEND": "memory",
            f"{prefix}COMPONENTS_ARTIFACTS_COMPRESSION_THRESHOLD_BYTES": "30",
            f"{prefix}STATE_BACKEND": "sqlite",
            f"{prefix}DEFAULT_TENANT_ID": "",
        }
    )
    assert config.postgres is not None
    assert config.postgres.credentials is not None
    found = config.postgres
    assert (found.pool_max, found.pool_timeout_seconds, found.pipeline, found.auto_migrate) == (7, 1.5, "off", False)
    assert config.postgres.credentials.tenant_id == "acme"
    assert (config.sqlite.path, config.memory.most_bytes) == (Path("~/x.db").expanduser(), 1000)
    assert [config.backend_of(store) for store in ("vectors", "kv", "agent_state", "hooks")] == [
        "memory", "memory", "sqlite", "postgres"
    ]  # fmt: skip
    assert config.options_of("artifacts") == {"compression_threshold_bytes": 30}
    assert config.default_tenant_id is None


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("BAKEND", "x", "there is no such variable; did you mean LLMSPELL_STORAGE_BACKEND?"),
        ("POSTGRES_POOL_MAXX", "x", "there is no such variable; did you mean LLMSPELL_STORAGE_POSTGRES_POOL_MAX?"),
        ("POSTGRES_POOL_MAX", "s3cret", "must be a whole number, not text"),
        ("POSTGRES_POOL_MAX", "٣", "must be a whole number, not text"),
        ("POSTGRES_POOL_MAX", "0", "must be a whole number from 1 to 1000"),
        ("POSTGRES_POOL_TIMEOUT_SECONDS", "nan", "must be a number, not text"),
        ("POSTGRES_POOL_TIMEOUT_SECONDS", "1e3", "must be a number, not text"),
        ("POSTGRES_AUTO_MIGRATE", "maybe", "must be true or false, not text"),
        ("POSTGRES_ENABLE_RLS", "false", "cannot be false: any statement could then reach every tenant's rows"),
        ("POSTGRES_URL", "s3cret", "is not a connection URI"),
        ("BACKEND", "sled", "sled is no backend any more: use sqlite; bring the data by export"),
        ("COMPONENTS_KV_BACKEND", "hnsw", "hnsw is no backend any more: use sqlite; bring the data by export"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, fault: str) -> None:
    """By its own name, and never with its value."""
    found = faults_of({ENVIRONMENT_PREFIX + name: value})
    assert [each for each in found if each.startswith(f"{ENVIRONMENT_PREFIX}{name}: {fault}")]


def test_part_of_an_address_is_a_fault_and_a_lone_password_is_none() -> None:
    """Who names a login means PostgreSQL; a password may be set for all programs of a machine."""
    assert "storage.postgres.host: is missing" in faults_of({"LLMSPELL_STORAGE_POSTGRES_USER": "ada"})
    assert load({"LLMSPELL_STORAGE_POSTGRES_PASSWORD": "s3cret"}).backend == "sqlite"


def test_two_variables_for_one_thing_must_agree() -> None:
    """As in a file."""
    names = ("LLMSPELL_STORAGE_POSTGRES_POOL_SIZE", "LLMSPELL_STORAGE_POSTGRES_POOL_MAX")
    (fault,) = faults_of(dict(zip(names, "34", strict=True)))
    assert fault == f"{names[1]}, {names[0]}: disagree; keep storage.postgres.pool_max alone"


def test_variables_of_the_project_are_known_or_anothers() -> None:
    """No variable that some part of the project reads makes the library fail."""
    sources = [file for part in ("operator", "tests/plugins", "tests/cli", "loadtest", "benchmarks", "docs")
               for file in (ROOT / part).rglob("*") if file.suffix in (".py", ".md")]  # fmt: skip
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    named = set(re.findall(r"\bLLMSPELL_STORAGE_[A-Z_]+[A-Z]\b", text))
    assert "LLMSPELL_STORAGE_OPERATOR_URL" in named
    known = {environment_name(path) for path in known_paths() if path[0] == "storage"}
    strangers = {name for name in named - known if not name.startswith(FOREIGN_VARIABLES)}
    assert not strangers
    assert load(dict.fromkeys(named - known, "x")).backend == "sqlite"


def test_arguments_may_be_whole_parts(tmp_path: Path) -> None:
    """A part that was made by hand is taken as it is; tables and single settings work too, None says nothing."""
    part = PostgresConfig()
    config = load(
        {"LLMSPELL_STORAGE_SQLITE_READERS": "3"},
        sqlite=SqliteConfig(path=tmp_path / "a.db"),
        memory={"most_bytes": 9},
        postgres=part,
        components={"kv": ComponentConfig(backend="theirs", options={"a": 1}), "graph": {"backend": "memory"}},
        backend=None,
    )
    assert config.sqlite == SqliteConfig(path=tmp_path / "a.db")
    assert config.memory == MemoryConfig(most_bytes=9)
    assert config.postgres is part
    assert [config.backend_of(store) for store in ("kv", "graph", "hooks")] == ["theirs", "memory", "sqlite"]
    assert config.options_of("kv") == {"a": 1}


def test_a_part_with_a_login_names_the_backend(home: Path) -> None:
    """As every connection does that nothing would use otherwise."""
    write(home, '[storage]\nbackend = "memory"')
    part = PostgresConfig(credentials=Credentials.from_dsn(ARGUMENT, tenant_id="acme"))
    assert load(postgres=part).backend == "postgres"
    assert load(postgres=part, backend="sqlite").backend == "sqlite"
    assert load(postgres=part, components={"kv": {"backend": "postgres"}}).backend == "memory"
    assert load(postgres=PostgresConfig()).backend == "memory"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"bakend": "memory"}, "bakend: there is no such argument; did you mean backend?"),
        ({"sqlite": "a.db"}, "sqlite: must be a table or a SqliteConfig"),
        ({"sqlite": MemoryConfig()}, "sqlite: must be a table or a SqliteConfig"),
        ({"sqlite": {"pat": "a.db"}}, "storage.sqlite.pat: there is no such key; did you mean storage.sqlite.path?"),
        ({"postgres_pool_max": "3"}, "postgres_pool_max: must be a whole number, not text"),
        ({"sqlite_path": 5}, "sqlite_path: must be text, not a whole number"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], fault: str) -> None:
    """By the name that it was given."""
    assert faults_of(None, **options) == (fault,)


def test_faults_of_all_sources_come_together(home: Path) -> None:
    """A file that is wrong does not hide a variable that is."""
    write(home, "[storage]\nbakend = 1")
    found = faults_of({"LLMSPELL_STORAGE_SQLITE_READERS": "0", "DATABASE_URL": "x"}, postgres_pool_max=0)
    assert [fault.partition(":")[0] for fault in found] == [
        "storage.bakend", "DATABASE_URL", "LLMSPELL_STORAGE_SQLITE_READERS", "postgres_pool_max"
    ]  # fmt: skip


def test_a_named_file_must_be_there_and_the_users_need_not(home: Path) -> None:
    """A wrong path is a fault; the user's file is read only when none is named."""
    assert faults_of(path=home / "gone.toml") == (f"{home / 'gone.toml'}: No such file or directory",)
    write(home, '[storage]\nbackend = "memory"')
    other = home / "other.toml"
    other.write_text('[storage.sqlite]\npath = "x.db"')
    assert (load().backend, load(path=other).backend) == ("memory", "sqlite")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``environ``, ``os.environ`` is read, and only then."""
    for name in ("DATABASE_URL", "LLMSPELL_STORAGE_POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMSPELL_STORAGE_BACKEND", "memory")
    assert StoreConfig.load().backend == "memory"
    assert load().backend == "sqlite"


def test_importing_loads_no_reader() -> None:
    """Neither the parser of files nor the table of names is loaded before it is needed."""
    code = (
        "import sys, storagelib; storagelib.StoreConfig.in_memory();"
        "late = {'tomllib', 'difflib', 'storagelib.config_sources', 'storagelib.config_keys'} & set(sys.modules);"
        "sys.exit(f'loaded {late}' if late else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
