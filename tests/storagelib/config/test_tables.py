"""Configuration files: today's names, every older name, types, nearest names, nothing secret in a fault."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagelib import InvalidInput, MemoryConfig, PostgresConfig, SqliteConfig, StoreConfig
from storagelib.config import STORE_NAMES
from storagelib.config_keys import ALIASES, COMPONENT_WORDS, KEYS, environment_name, known_paths, resolve
from storagelib.credentials import Credentials

URL = "postgresql://ada:s3cret@db:5433/agents"


def read(text: str) -> StoreConfig:
    """Read a file's text."""
    return StoreConfig.from_mapping(tomllib.loads(text))


def faults_of(text: str) -> tuple[str, ...]:
    """Return the faults of a file that must be refused; none of them shows a password."""
    with pytest.raises(InvalidInput) as refusal:
        read(text)
    assert "s3cret" not in str(refusal.value)
    return refusal.value.faults


def postgres(config: StoreConfig) -> PostgresConfig:
    """Return the part of PostgreSQL, which must be there."""
    assert config.postgres is not None
    return config.postgres


def login(config: StoreConfig) -> Credentials:
    """Return the credentials, which must be there."""
    found = postgres(config).credentials
    assert found is not None
    return found


def test_every_field_has_a_key_and_every_key_a_use() -> None:
    """What can be said as an argument can be said in a file, except what only code can give."""
    parts = {"": StoreConfig, "sqlite.": SqliteConfig, "memory.": MemoryConfig, "postgres.": PostgresConfig}
    only_code = {"components", "sqlite", "memory", "postgres", "credentials", "secret_keys", "_folder"}
    settings = {
        f"storage.{part}{field.name}" for part, kind in parts.items() for field in fields(kind)
    } - {f"storage.{part}{name}" for part in parts for name in only_code}  # fmt: skip
    credentials = {f"storage.postgres.{field.name}" for field in fields(Credentials)} - {"storage.postgres.ca"}
    beside = {f"storage.postgres.{name}" for name in ("url", "pooled_url")} | {"storage.enforce_tenant_isolation"}
    assert set(KEYS) == settings | credentials | beside
    assert {right for right, _ in ALIASES.values()} <= set(KEYS)
    assert not set(ALIASES) & set(KEYS)


def test_no_two_things_share_a_variable() -> None:
    """Whatever path a variable stands for, it is one thing."""
    meaning: dict[str, set[tuple[str, ...]]] = {}
    for path in known_paths():
        if path[0] == "storage":
            meant = tuple(target.path for target in resolve(path))
            meaning.setdefault(environment_name(path), set()).add(meant)
    assert not {name: meant for name, meant in meaning.items() if len(meant) > 1}


def test_the_whole_of_a_file_is_read(tmp_path: Path) -> None:
    """Every key at its right name arrives where it belongs."""
    file = tmp_path / "config.toml"
    file.write_text(f"""
        [storage]
        backend = "postgres"
        default_tenant_id = "acme"
        tenant_id_pattern = "[a-z]+"
        enforce_tenant_isolation = true
        [storage.memory]
        most_bytes = 1_000
        [storage.sqlite]
        path = "{tmp_path}/a.db"
        durability = "normal"
        busy_timeout_seconds = 1
        readers = 3
        vector_scan = "numpy"
        [storage.postgres]
        host = "db"
        port = 5433
        dbname = "agents"
        user = "ada"
        password = "s3cret"
        sslmode = "verify-full"
        ca_file = "/ca.crt"
        sslcert = "/c.crt"
        sslkey = "/c.key"
        pooler_host = "pooler"
        pooler_port = 6432
        tenant_id = "globex"
        mode = "sealed"
        schema = "own"
        capability = "v1.{"ab" * 32}"
        pool_min = 2
        pool_max = 7
        pools_max = 5
        pool_timeout_seconds = 1.5
        pool_idle_seconds = 60
        pool_lifetime_seconds = 61
        connect_timeout_seconds = 2
        statement_timeout_seconds = 0.5
        pooler = "transaction"
        pipeline = "off"
        auto_migrate = true
        migrate_url = "postgresql://owner:x@db/agents"
        migration_timeout_seconds = 9
        application_name = "notebook"
        [storage.components.kv]
        backend = "memory"
        [storage.components.vectors]
        hnsw_m = 8
    """)
    config = StoreConfig.from_toml(file)
    made = StoreConfig(
        backend="postgres",
        default_tenant_id="acme",
        tenant_id_pattern="[a-z]+",
        memory=MemoryConfig(most_bytes=1000),
        sqlite=SqliteConfig(
            path=tmp_path / "a.db", durability="normal", busy_timeout_seconds=1.0, readers=3, vector_scan="numpy"
        ),
        components=config.components,
        postgres=PostgresConfig(
            credentials=Credentials(
                host="db",
                port=5433,
                dbname="agents",
                user="ada",
                password="s3cret",
                sslmode="verify-full",
                ca_file=Path("/ca.crt"),
                sslcert=Path("/c.crt"),
                sslkey=Path("/c.key"),
                pooler_host="pooler",
                pooler_port=6432,
                tenant_id="globex",
                mode="sealed",
                schema="own",
                capability="v1." + "ab" * 32,
            ),
            pool_min=2,
            pool_max=7,
            pools_max=5,
            pool_timeout_seconds=1.5,
            pool_idle_seconds=60.0,
            pool_lifetime_seconds=61.0,
            connect_timeout_seconds=2.0,
            statement_timeout_seconds=0.5,
            pooler="transaction",
            pipeline="off",
            auto_migrate=True,
            migrate_url="postgresql://owner:x@db/agents",
            migration_timeout_seconds=9.0,
            application_name="notebook",
        ),
    )
    assert config == made
    assert (config.backend_of("kv"), config.backend_of("graph")) == ("memory", "postgres")
    assert config.options_of("vectors") == {"hnsw_m": 8}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            f'[storage]\nbackend = "postgres"\n[storage.postgres]\nurl = "{URL}"\npool_size = 20\n'
            "pool_timeout_secs = 30\nidle_timeout_secs = 600\nmax_lifetime_secs = 1800\n"
            "enforce_tenant_isolation = true\nauto_migrate = false\n",
            {"pool_max": 20, "pool_timeout_seconds": 30.0, "pool_idle_seconds": 600.0, "pool_lifetime_seconds": 1800.0},
            id="url-and-pool",
        ),
        pytest.param(
            f'[storage]\nbackend = "postgres"\n[storage.postgres]\nurl = "{URL}"\ndefault_tenant_id = "default"\n'
            "auto_migrate = false\nmigration_timeout_secs = 300\n",
            {"auto_migrate": False, "migration_timeout_seconds": 300.0, "tenant_id": "default"},
            id="tenant-and-migration",
        ),
        pytest.param(
            '[storage]\nbackend = "postgres"\n[storage.postgres]\nhost = "db"\nport = 5433\ndatabase = "agents"\n'
            'user = "ada"\npassword = "s3cret"\npool_size = 10\n',
            {"pool_max": 10, "host": "db", "port": 5433, "dbname": "agents", "user": "ada", "password": "s3cret"},
            id="host-and-port",
        ),
        pytest.param(
            f'[storage.postgres]\nurl = "{URL}"\nenforce_tenant_isolation = true\ndefault_tenant_id = "acme"\n'
            'tenant_id_pattern = "^[a-z0-9-]{3,255}$"\n',
            {"tenant_id": "acme"},
            id="tenants",
        ),
        pytest.param(
            f'[storage.postgres]\nurl = "{URL.replace("5433", "6432")}"\npool_size = 50\n',
            {"port": 6432, "pool_max": 50},
            id="through-a-pooler",
        ),
        pytest.param(
            f'[storage.postgres]\nurl = "{URL}?application_name=llmspell&connect_timeout=10"\n',
            {"application_name": "llmspell", "connect_timeout_seconds": 10.0},
            id="parameters-of-the-uri",
        ),
        pytest.param(
            f'[storage]\nbackend_type = "PostgreSQL"\n[storage.postgres]\nconnection_string = "{URL}"\n'
            "pool_size = 4\ntimeout_ms = 2500\nenable_rls = true\n",
            {"pool_max": 4, "pool_timeout_seconds": 2.5, "user": "ada"},
            id="fields-of-a-class",
        ),
        pytest.param(
            f'[storage.backend.PostgreSQL]\nconnection_string = "{URL}"\npool_size = 4\ntimeout_ms = 2500\n',
            {"pool_max": 4, "pool_timeout_seconds": 2.5, "user": "ada"},
            id="tagged-backend",
        ),
    ],
)
def test_older_files_of_one_postgres(text: str, expected: dict[str, Any]) -> None:
    """Older names and units mean what they meant."""
    config = read(text)
    assert config.backend == "postgres"
    found = {
        name: getattr(
            postgres(config) if name in {each.name for each in fields(PostgresConfig)} else login(config), name
        )
        for name in expected
    }
    assert found == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[storage]\nbackend = "memory"', dict.fromkeys(STORE_NAMES, "memory")),
        ('[storage]\nbackend = "InMemory"', dict.fromkeys(STORE_NAMES, "memory")),
        ('[storage]\nbackend_type = "sqlite"', dict.fromkeys(STORE_NAMES, "sqlite")),
        ('[storage.memory]\nbackend = "memory"', dict.fromkeys(("vectors", "graph", "procedures"), "memory")),
        ('[storage.memory]\nbackend = "memory"\nmost_bytes = 5', {"vectors": "memory", "kv": "sqlite"}),
        ('[storage.state]\nbackend = "memory"', {"agent_state": "memory", "kv": "sqlite"}),
        ('[storage.sessions]\nbackend = "memory"', {"sessions": "memory", "kv": "sqlite"}),
        ('[memory]\nepisodic_backend = "in_memory"', {"vectors": "memory", "graph": "sqlite"}),
        ('[memory]\nsemantic_backend = "inmemory"', {"graph": "memory", "vectors": "sqlite"}),
        ('[memory.episodic]\nbackend = "inmemory"', {"vectors": "memory", "graph": "sqlite"}),
        ('[storage.components.all]\nbackend = "memory"', dict.fromkeys(STORE_NAMES, "memory")),
        ('[storage.components.procedural]\nbackend = "memory"', {"procedures": "memory", "kv": "sqlite"}),
        (
            ('[storage.components.all]\nbackend = "theirs"\n[storage.components.memory]\nbackend = "memory"\n'
            '[storage.components.episodic]\nbackend = "sqlite"'),
            {"kv": "theirs", "graph": "memory", "vectors": "sqlite"},
        ),
        *((f'[storage.components.{word}]\nbackend = "memory"', dict.fromkeys(stores, "memory"))
          for word, stores in COMPONENT_WORDS.items()),
        *((f'[storage.components.{store}]\nbackend = "memory"', {store: "memory"}) for store in STORE_NAMES),
    ],
)  # fmt: skip
def test_backends_of_stores(text: str, expected: dict[str, str]) -> None:
    """A store's own word beats a group's, and a group's beats the one of all."""
    config = read(text)
    assert {store: config.backend_of(store) for store in expected} == expected


def test_a_memory_that_is_a_component_and_one_that_is_a_backend() -> None:
    """The same table may hold both, because their keys differ."""
    config = read('[storage.memory]\nbackend = "sqlite"\nmost_bytes = 5\n[storage]\nbackend = "memory"')
    assert (config.memory.most_bytes, config.backend_of("graph"), config.backend_of("kv")) == (5, "sqlite", "memory")


def test_two_databases_beside_each_other() -> None:
    """A mixed file: most on PostgreSQL, memories elsewhere."""
    config = read(
        f'[storage]\nbackend = "postgres"\n[storage.postgres]\nurl = "{URL}"\n[storage.memory]\nbackend = "memory"'
    )
    assert (config.backend_of("vectors"), config.backend_of("events")) == ("memory", "postgres")
    both = read(
        f'[storage.postgres]\nurl = "{URL}"\n[storage]\nbackend = "postgres"\n[memory]\nepisodic_backend = "postgres"\n'
        'semantic_backend = "postgres"'
    )
    assert {both.backend_of(store) for store in STORE_NAMES} == {"postgres"}


def test_options_under_the_names_of_tables() -> None:
    """What was kept under a table of PostgreSQL belongs to the store."""
    with pytest.warns(UserWarning, match="components.events.* has no effect"):
        config = read(
            f'[storage.postgres]\nurl = "{URL}"\n[storage.postgres.vector_embeddings]\nhnsw_m = 16\nhnsw_ef_construction = 128\n'
            '[storage.postgres.event_log]\npartition_strategy = "monthly"\nretention_days = 365\n'
            "[storage.postgres.artifacts]\ncompression_threshold_bytes = 1048576\n"
        )
    assert config.options_of("vectors") == {"hnsw_m": 16, "hnsw_ef_construction": 128}
    assert config.options_of("events") == {"partition_strategy": "monthly", "retention_days": 365}
    assert config.options_of("artifacts") == {"compression_threshold_bytes": 1_048_576}
    assert config.backend_of("events") == "postgres"


@pytest.mark.parametrize("old", ["sled", "hnsw", "file", "surrealdb", "HNSW"])
@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('[storage]\nbackend = "{}"', "storage.backend"),
        ('[storage.state]\nbackend = "{}"', "storage.state.backend"),
        ('[memory]\nepisodic_backend = "{}"', "memory.episodic_backend"),
        ('[memory]\nsemantic_backend = "{}"', "memory.semantic_backend"),
        ('[memory.episodic]\nbackend = "{}"', "memory.episodic.backend"),
        ('[storage.components.kv]\nbackend = "{}"', "storage.components.kv.backend"),
        ('[storage.{}]\npath = "data"', "storage.{}.path"),
        ('[storage.backend.{}]\npath = "data"', "storage.backend.{}"),
    ],
)
def test_backends_of_earlier_programs_are_refused(old: str, text: str, label: str) -> None:
    """The way out is told: SQLite, and data by export."""
    sentence = f"{old.lower()} is no backend any more: use sqlite; bring the data by export"
    assert faults_of(text.format(old)) == (f"{label.format(old)}: {sentence}",)


@pytest.mark.parametrize(
    "key", ["enforce_tenant_isolation", "postgres.enforce_tenant_isolation", "postgres.enable_rls"]
)
def test_isolation_cannot_be_switched_off(key: str) -> None:
    """The reason is told."""
    (fault,) = faults_of(f"[storage]\n{key} = false")
    assert fault.startswith(f"storage.{key}: cannot be false: any statement could then reach every tenant's rows")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[storage.postgres]\npool_size = 3\npool_max = 4",
         "storage.postgres.pool_size, storage.postgres.pool_max: disagree; keep storage.postgres.pool_max alone"),
        ('[storage]\nbackend = "memory"\nbackend_type = "sqlite"',
         "storage.backend, storage.backend_type: disagree; keep storage.backend alone"),
        ('[storage.state]\nbackend = "memory"\n[storage.components.agent_state]\nbackend = "sqlite"',
         ("storage.state.backend, storage.components.agent_state.backend: disagree; "
         "keep storage.components.agent_state.backend alone")),
        ('[memory]\nepisodic_backend = "memory"\n[storage.components.vectors]\nbackend = "sqlite"',
         ("memory.episodic_backend, storage.components.vectors.backend: disagree; "
         "keep storage.components.vectors.backend alone")),
        ("[storage.postgres]\nenable_rls = true\nenforce_tenant_isolation = false",
         ("storage.postgres.enable_rls, storage.postgres.enforce_tenant_isolation: disagree; "
         "keep storage.enforce_tenant_isolation alone")),
        (f'[storage.postgres]\nurl = "{URL}"\nhost = "other"\npassword = "s3cret2"',
         "storage.postgres.url: differs from storage.postgres.host, storage.postgres.password; keep storage.postgres.url alone"),
        (f'[storage.postgres]\nurl = "{URL}?sslrootcert=/a"\nca_file = "/b"',
         "storage.postgres.url: differs from storage.postgres.ca_file; keep storage.postgres.url alone"),
        (f'[storage.postgres]\nurl = "{URL}"\nsecret = "/run/secret"',
         "storage.postgres.url, storage.postgres.secret: say the same thing; keep one of them"),
        ('[storage.postgres]\ncredentials_folder = "/run/secrets"\nuser = "ada"',
         "storage.postgres.user: storage.postgres.credentials_folder says this; leave one of them out"),
        (f'[storage.postgres]\nurl = "{URL}"\npooled_url = "postgresql://eve:x@pooler:6432/agents"',
         "storage.postgres.pooled_url: differs from storage.postgres.user, storage.postgres.password"),
    ],
)  # fmt: skip
def test_what_disagrees_is_an_error_that_names_the_right_key(text: str, fault: str) -> None:
    """Two keys for one thing may both stand there only when they say the same."""
    assert fault in faults_of(text)


def test_what_agrees_is_no_error() -> None:
    """An older name beside the right one, a URI beside its parts."""
    config = read(
        f'[storage.postgres]\nurl = "{URL}"\nhost = "db"\nport = 5433\ndatabase = "agents"\npool_size = 3\npool_max = 3'
    )
    assert (login(config).host, postgres(config).pool_max) == ("db", 3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[storag]\nx = 1", "storag.x: there is no such key"),
        ("[storge]", "storge: there is no such table; did you mean storage?"),
        ("[storage.postgress]", "storage.postgress: there is no such table; did you mean storage.postgres?"),
        (f'[storage.postgress]\nurl = "{URL}"',
         "storage.postgress.url: there is no such key; did you mean storage.postgres.url?"),
        ("[storage.postgres]\npool_maks = 3",
         "storage.postgres.pool_maks: there is no such key; did you mean storage.postgres.pool_max?"),
        ("[storage]\nbakend = 'memory'", "storage.bakend: there is no such key; did you mean storage.backend?"),
        ("[storage.components.kw]\nbackend = 'memory'",
         "storage.components.kw.backend: there is no such key; did you mean storage.components.kv.backend?"),
        ("[storage.components.kv]\nbakend = 'memory'",
         "storage.components.kv.bakend: there is no such key; did you mean backend?"),
        ("[memory]\nepisodik_backend = 'memory'",
         "memory.episodik_backend: there is no such key; did you mean memory.episodic_backend?"),
        ("storage = 3", "storage: must be a table"),
        ("[storage]\nkv = 'memory'", "storage.kv: must be a table"),
        ("[storage]\npostgres = 'x'", "storage.postgres: must be a table"),
        ("[storage.postgres.url]\nx = 1", "storage.postgres.url.x: there is no such key"),
        ("[storage.postgres.pool_max]", "storage.postgres.pool_max: must be a value, not a table"),
        ("[storage.postgres]\npool_max = '3'", "storage.postgres.pool_max: must be a whole number, not text"),
        ("[storage.postgres]\npool_max = 3.0", "storage.postgres.pool_max: must be a whole number, not a number"),
        ("[storage.postgres]\npool_max = true", "storage.postgres.pool_max: must be a whole number, not true or false"),
        ("[storage.postgres]\nauto_migrate = 'no'", "storage.postgres.auto_migrate: must be true or false, not text"),
        ("[storage.postgres]\nurl = 5", "storage.postgres.url: must be text, not a whole number"),
        ("[storage.postgres]\nhost = ['a']", "storage.postgres.host: must be text, not a list"),
        ("[storage.sqlite]\nbusy_timeout_seconds = '5'", "storage.sqlite.busy_timeout_seconds: must be a number, not text"),
        ("[storage.postgres]\npool_size = 0", "storage.postgres.pool_size: must be a whole number from 1 to 1000"),
        ("[storage.postgres]\ntimeout_ms = -5", "storage.postgres.timeout_ms: must be seconds, from 0.001 to 86400"),
        ("[storage.postgres]\nidle_timeout_secs = inf", "storage.postgres.idle_timeout_secs: must be seconds"),
        ("[storage.postgres]\ndefault_tenant_id = 'A'", "storage.postgres.default_tenant_id: is not a tenant id"),
        ("[storage]\ntenant_id_pattern = '(a+)+'", "storage.tenant_id_pattern: may hold"),
        ("[storage]\nbackend = 'postgres'", "storage.postgres.url: is missing, and backend is postgres"),
        ("[storage.postgres]\nhost = 'db'", "storage.postgres.dbname: is missing"),
        ("[storage.postgres]\nurl = 'postgresql://db/agents'", "storage.postgres.url: names no user"),
        ("[storage.postgres]\nurl = 'postgresql://ada:s3cret@db/agents?options=x'",
         "storage.postgres.url: holds a parameter besides sslmode"),
        ("[storage.postgres]\nurl = 'postgresql://ada:s3cret@db:0/agents'",
         "storage.postgres.url: must be a number from 1 to 65535"),
        ("[storage.postgres]\nurl = 'mysql://ada:s3cret@db/agents'", "storage.postgres.url: is not a connection URI"),
        ("[storage.postgres]\nurl = 's3cret'", "storage.postgres.url: is not a connection URI"),
        (f"[storage.postgres]\nurl = '{URL}'\nmode = 'sealed'", "storage.postgres.capability: is missing, and mode is"),
        (f"[storage.postgres]\nurl = '{URL}'\ntenant_id = 'A'", "storage.postgres.tenant_id: is not a tenant id"),
        (f"[storage.postgres]\nurl = '{URL}'\nauto_migrate = true", "storage.postgres.migrate_url: is missing"),
        ("[storage.postgres]\nsecret = '/no/such'", "storage.postgres.secret: /no/such: is not a folder of a mounted"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_the_place(text: str, fault: str) -> None:
    """Each fault has the path that stands in the file, and what would be right."""
    assert [each for each in faults_of(text) if each.startswith(fault)]


def test_all_faults_of_a_file_come_at_once() -> None:
    """Unknown names, wrong types, wrong values, disagreements and missing things, each once."""
    found = faults_of(
        f'[storage]\nbackend = "sled"\nbakend = 1\n[storage.postgres]\nurl = "{URL}"\nhost = "x"\npool_max = 0\nreaders = 2\n'
        "[storage.sqlite]\nreaders = 0\n[storage.components.kv]\nbackend = 5\n[storage.memory]\nmost_bytes = 0\n"
    )
    assert {fault.partition(":")[0] for fault in found} == {
        "storage.backend",
        "storage.bakend",
        "storage.postgres.url",
        "storage.postgres.pool_max",
        "storage.postgres.readers",
        "storage.sqlite.readers",
        "storage.components.kv.backend",
        "storage.memory.most_bytes",
    }


def test_tables_of_other_programs_are_left_alone() -> None:
    """The file is shared with what else the user runs."""
    assert read('[providers.openai]\nkey = "x"\n[runtime]\nx = 1\n[storage]\nbackend = "memory"').backend == "memory"


def test_a_registered_backend_gets_whatever_stands_there() -> None:
    """Options of any shape reach it as they are."""
    config = read('[storage.components.kv]\nbackend = "theirs"\nurl = "x"\nnested = { a = [1, 2] }\nsize = 3')
    assert config.options_of("kv") == {"url": "x", "nested": {"a": [1, 2]}, "size": 3}


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may begin with the user's folder."""
    monkeypatch.setenv("HOME", "/home/ada")
    assert read('[storage.sqlite]\npath = "~/x.db"').sqlite.path == Path("/home/ada/x.db")
    assert StoreConfig().sqlite.path == Path("/home/ada/.local/share/llmspell/llmspell.db")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"password = s3cret", "is not TOML (at line 1, column 12)"),
        (b"[storage\n", "is not TOML (at line 1, column 9)"),
        (b"\xff", "is not TOML"),
        (b"x = " + b"[" * 100_000, "is not TOML"),
        (b"#" * (1 << 20) + b"##", "is longer than 1048576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read(content: bytes, fault: str, tmp_path: Path) -> None:
    """One sentence names the file and repeats nothing of it."""
    file = tmp_path / "config.toml"
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as refusal:
        StoreConfig.from_toml(file)
    assert refusal.value.faults == (f"{file}: {fault}",)
    with pytest.raises(InvalidInput, match="No such file"):
        StoreConfig.from_toml(tmp_path / "gone.toml")


def test_what_toml_cannot_say_is_refused_as_well() -> None:
    """A mapping from elsewhere: keys that are no text, texts without end, a home that nobody has."""
    for tables, fault in (
        ({5: 1}, "the configuration: has a key that is no text"),
        ({"storage": {"sqlite": {5: 1}}}, "storage.sqlite: has a key that is no text"),
        ({"storage": {"sqlite": {"path": "x" * 65_537}}}, "storage.sqlite.path: is longer than 65536 characters"),
        (
            {"storage": {"sqlite": {"path": "~nobody-here/x"}}},
            "storage.sqlite.path: names a home folder that nobody knows",
        ),
        ({"storage": {"sqlite": {"path": "a\0b"}}}, "storage.sqlite.path: holds a NUL character"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            StoreConfig.from_mapping(tables)  # type: ignore[arg-type]
        assert refusal.value.faults == (fault,)
    assert StoreConfig.from_mapping({"storage": {"sqlite": {"path": Path("a.db")}}}).sqlite.path == Path("a.db")


def test_a_default_tenant_that_is_wrong_is_told_by_its_own_name() -> None:
    """It stands for the login's tenant where that is not said."""
    (fault, *_) = faults_of(f"[storage]\ndefault_tenant_id = 'A'\n[storage.postgres]\nurl = '{URL}'")
    assert fault.startswith("storage.default_tenant_id: is not a tenant id")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(
                ["storage", "memory", "postgres", "backend", "components", "kv", "url", "all", "x", "sled"]
            ),
            inner,
            max_size=4,
        ),
        max_leaves=12,
    )
)
def test_anything_gives_a_configuration_or_faults(tables: Any) -> None:
    """Whatever the tables hold, there is no other error."""
    try:
        config = StoreConfig.from_mapping(tables if isinstance(tables, dict) else {"storage": tables})
    except InvalidInput as error:
        assert error.faults  # noqa: PT017 - either is right
    else:
        assert isinstance(config, StoreConfig)
