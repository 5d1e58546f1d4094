"""StoreConfig made by hand: every value checked, all faults at once, nothing secret shown, nothing changeable."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagelib import (
    ComponentConfig,
    Credentials,
    InvalidInput,
    MemoryConfig,
    PostgresConfig,
    SqliteConfig,
    StoreConfig,
)
from storagelib.config import STORE_NAMES, default_pool_max
from storagelib.errors import PermissionDenied

DSN = "postgresql://ada:s3cret@db.example:5433/agents?sslmode=require"
CREDENTIALS = Credentials.from_dsn(DSN, tenant_id="acme")


def faults_of(make: Any, **values: Any) -> tuple[str, ...]:
    """Return the faults of a part that must be refused."""
    with pytest.raises(InvalidInput) as refusal:
        make(**values)
    return refusal.value.faults


def test_the_eleven_stores_are_on_one_backend_unless_told_otherwise() -> None:
    """A store's own backend beats the one of all; an unknown store is refused with the known ones."""
    config = StoreConfig(components={"kv": ComponentConfig(backend="memory"), "events": ComponentConfig()})
    assert {store: config.backend_of(store) for store in STORE_NAMES} == {
        **dict.fromkeys(STORE_NAMES, "sqlite"),
        "kv": "memory",
    }
    with pytest.raises(InvalidInput, match="store: must be one of vectors, graph"):
        config.backend_of("kvs")


def test_constructors_name_their_backend(tmp_path: Path) -> None:
    """Each short way gives the same as the long one."""
    assert StoreConfig.in_memory(most_bytes=5) == StoreConfig(backend="memory", memory=MemoryConfig(most_bytes=5))
    long = StoreConfig(backend="sqlite", sqlite=SqliteConfig(path=tmp_path / "a.db", readers=2))
    assert StoreConfig.on_sqlite(str(tmp_path / "a.db"), readers=2) == long
    postgres = StoreConfig(backend="postgres", postgres=PostgresConfig(credentials=CREDENTIALS, pool_max=3))
    assert StoreConfig.from_dsn(DSN, tenant_id="acme", pool_max=3) == postgres
    assert StoreConfig.from_credentials(CREDENTIALS, pool_max=3) == postgres


def test_a_uri_may_name_the_application_and_its_patience() -> None:
    """What a URI says that is no credential goes where it belongs; an argument counts more."""
    dsn = f"{DSN}&application_name=notebook&connect_timeout=7"
    said = StoreConfig.from_dsn(dsn, tenant_id="acme").postgres
    told = StoreConfig.from_dsn(dsn, tenant_id="acme", application_name="other").postgres
    assert said is not None
    assert told is not None
    assert (said.application_name, said.connect_timeout_seconds) == ("notebook", 7.0)
    assert told.application_name == "other"
    with pytest.raises(InvalidInput, match="connect_timeout_seconds: must be seconds"):
        StoreConfig.from_dsn(f"{DSN}&connect_timeout=soon", tenant_id="acme")


def test_nothing_secret_is_shown() -> None:
    """Neither repr nor str nor a fault shows a password, a capability or a URI."""
    config = StoreConfig.from_dsn(
        DSN,
        tenant_id="acme",
        mode="sealed",
        capability="v1." + "ab" * 32,
        auto_migrate=True,
        migrate_url="postgresql://root:t0psecret@db/agents",
    )
    for shown in (repr(config), str(config), f"{config.postgres}"):
        assert "s3cret" not in shown
        assert "abab" not in shown
        assert "t0psecret" not in shown
    found = faults_of(PostgresConfig, migrate_url="mysql://root:t0psecret@db")
    assert found == ("migrate_url: is not a connection URI (postgresql://…)",)


@pytest.mark.parametrize(
    ("make", "values", "fault"),
    [
        (ComponentConfig, {"backend": "no name"}, "backend: must be memory, sqlite, postgres or the name of a registered"),
        (ComponentConfig, {"backend": "Sled"}, "backend: sled is no backend any more: use sqlite; bring the data by"),
        (ComponentConfig, {"options": {1: 2}}, "options: must be a table"),
        (MemoryConfig, {"most_bytes": 0}, "most_bytes: must be a whole number from 1"),
        (MemoryConfig, {"most_bytes": True}, "most_bytes: must be a whole number from 1"),
        (SqliteConfig, {"path": "a.db"}, "path: must be a Path"),
        (SqliteConfig, {"path": Path("a\0b")}, "path: holds a NUL character"),
        (SqliteConfig, {"durability": "off"}, "durability: must be one of full, normal"),
        (SqliteConfig, {"busy_timeout_seconds": float("nan")}, "busy_timeout_seconds: must be seconds, from 0"),
        (SqliteConfig, {"vector_scan": "sqlite_vec"}, "vector_scan: must be one of auto, numpy, sqlite-vec"),
        (SqliteConfig, {"readers": 0}, "readers: must be a whole number from 1 to 1000"),
        (PostgresConfig, {"credentials": "dsn"}, "credentials: must be a Credentials"),
        (PostgresConfig, {"pool_max": 1001}, "pool_max: must be a whole number from 1 to 1000"),
        (PostgresConfig, {"pool_min": 4, "pool_max": 3}, "pool_min: must be at most pool_max, 3"),
        (PostgresConfig, {"pool_timeout_seconds": float("inf")}, "pool_timeout_seconds: must be seconds"),
        (PostgresConfig, {"statement_timeout_seconds": 0}, "statement_timeout_seconds: must be seconds"),
        (PostgresConfig, {"pooler": "session"}, "pooler: must be one of none, transaction"),
        (PostgresConfig, {"pipeline": True}, "pipeline: must be one of auto, off"),
        (PostgresConfig, {"auto_migrate": "no"}, "auto_migrate: must be true or false"),
        (PostgresConfig, {"auto_migrate": True}, "migrate_url: is missing, and auto_migrate is true"),
        (PostgresConfig, {"application_name": "ü"}, "application_name: must be 1 to 63 printable ASCII characters"),
        (PostgresConfig, {"secret": Path("x")}, "secret: goes with the credentials that were read from it"),
        (
            PostgresConfig,
            {"credentials": CREDENTIALS, "credentials_folder": Path("x")},
            "credentials: only these or credentials_folder may be given",
        ),
        (StoreConfig, {"backend": "postgres"}, "postgres: is missing, and these stores are on it: vectors, graph"),
        (StoreConfig, {"backend": 3}, "backend: must be memory, sqlite, postgres"),
        (StoreConfig, {"components": {"kw": ComponentConfig()}}, "components: kw is no store; did you mean kv?"),
        (StoreConfig, {"components": {"kv": "memory"}}, "components: must be a ComponentConfig by store"),
        (StoreConfig, {"sqlite": "a.db"}, "sqlite: must be a SqliteConfig"),
        (StoreConfig, {"default_tenant_id": "No"}, "default_tenant_id: is not a tenant id: 3 to 255 of a-z"),
        (StoreConfig, {"default_tenant_id": "acme", "tenant_id_pattern": "team-.*"}, "tenant_id_pattern: may hold"),
        (StoreConfig, {"default_tenant_id": "acme", "tenant_id_pattern": "team-[a-z]+"}, "default_tenant_id: the tenant"),
        (
            StoreConfig,
            {"postgres": PostgresConfig(credentials=CREDENTIALS), "tenant_id_pattern": "team-[a-z]+"},
            "postgres.credentials: the tenant does not match tenant_id_pattern",
        ),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_sentence(make: Any, values: dict[str, Any], fault: str) -> None:
    """Each fault begins with the name of what is wrong."""
    (found,) = faults_of(make, **values)
    assert found.startswith(fault)


def test_all_faults_come_at_once() -> None:
    """One making names everything that is wrong, an unknown option among it."""
    with pytest.raises(InvalidInput) as refusal:
        StoreConfig.from_dsn(DSN, tenant_id="acme", pool_maxx=3, pool_min=-1, pooler="x")
    assert [fault.partition(":")[0] for fault in refusal.value.faults] == ["pool_maxx", "pool_min", "pooler"]
    assert refusal.value.faults[0] == "pool_maxx: there is no such option; did you mean pool_max?"


@pytest.mark.parametrize(
    ("store", "options", "fault"),
    [
        ("vectors", {"hnsw_m": 1}, "components.vectors.hnsw_m: must be a whole number from 2 to 100"),
        ("vectors", {"hnsw_mm": 16}, "components.vectors.hnsw_mm: there is no such key; did you mean hnsw_m?"),
        ("events", {"partition_strategy": "hourly"}, "must be one of daily, weekly, monthly"),
        ("events", {"retention_days": True}, "must be a whole number from 1 to 36525"),
        ("kv", {"bakend": "memory"}, "components.kv.bakend: there is no such key; did you mean backend?"),
    ],
)
def test_options_of_our_own_backends_are_known(store: str, options: dict[str, object], fault: str) -> None:
    """An option that our backends do not know is a fault; a registered backend decides itself."""
    (found,) = faults_of(StoreConfig, components={store: ComponentConfig(options=options)})
    assert fault in found
    theirs = StoreConfig(components={store: ComponentConfig(backend="theirs", options=options)})
    assert theirs.options_of(store) == options
    assert StoreConfig().options_of(store) == {}


@pytest.mark.parametrize(
    ("backend", "store", "name", "value", "reason"),
    [
        ("memory", "vectors", "hnsw_m", 16, "memory and sqlite compare every vector, and have no index"),
        ("sqlite", "vectors", "hnsw_ef_search", 16, "memory and sqlite compare every vector, and have no index"),
        ("sqlite", "events", "retention_days", 30, "memory and sqlite have no partitions"),
        ("postgres", "events", "retention_days", 30, "spec.events.dropAfter of the StorageComponent"),
        ("postgres", "events", "partition_strategy", "daily", "spec.events.interval of the StorageComponent"),
    ],
)
def test_what_has_no_effect_is_told(backend: str, store: str, name: str, value: object, reason: str) -> None:
    """With the reason, and where it belongs; the configuration holds nevertheless."""
    credentials = Credentials.from_dsn("postgresql://ada:s3cret@db/app", tenant_id="acme")
    postgres = PostgresConfig(credentials=credentials)
    components = {store: ComponentConfig(options={name: value})}
    with pytest.warns(UserWarning, match="has no effect") as told:
        StoreConfig(backend=backend, postgres=postgres, components=components)
    (said,) = told
    assert str(said.message).startswith(f"components.{store}.{name} has no effect: ")
    assert reason in str(said.message)
    assert said.filename == __file__


def test_what_has_an_effect_is_not_told() -> None:
    """On PostgreSQL vectors have indexes; a registered backend may understand anything."""
    credentials = Credentials.from_dsn("postgresql://ada:s3cret@db/app", tenant_id="acme")
    options = {"hnsw_m": 16, "hnsw_ef_construction": 128, "hnsw_ef_search": 100}
    StoreConfig(
        backend="postgres",
        postgres=PostgresConfig(credentials=credentials),
        components={
            "vectors": ComponentConfig(options=options),
            "events": ComponentConfig(backend="theirs", options={"retention_days": 3}),
        },
    )


def test_a_configuration_cannot_be_changed() -> None:
    """Neither fields nor tables of it, nor by changing what it was made of."""
    options: dict[str, object] = {"compression_threshold_bytes": 16}
    components = {"artifacts": ComponentConfig(options=options)}
    config = StoreConfig(components=components)
    options["compression_threshold_bytes"] = 0
    components["kv"] = ComponentConfig(backend="memory")
    assert config.options_of("artifacts") == {"compression_threshold_bytes": 16}
    assert config.backend_of("kv") == "sqlite"
    for part in (config, config.sqlite, config.memory, ComponentConfig()):
        field = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, field, None)
        assert not hasattr(part, "__dict__")
    with pytest.raises(TypeError):
        config.components["kv"] = ComponentConfig()  # type: ignore[index]


def test_a_configuration_goes_to_another_process(tmp_path: Path) -> None:
    """Pickled, copied or replaced in part, it is the same configuration and still cannot be changed."""
    config = StoreConfig(
        components={"kv": ComponentConfig(backend="theirs", options={"a": [1]})},
        postgres=PostgresConfig(credentials_folder=tmp_path, migrate_url="postgresql://a:b@c/d"),
    )
    for other in (pickle.loads(pickle.dumps(config)), copy.deepcopy(config), dataclasses.replace(config)):
        assert other == config
        assert type(other.components) is type(config.components)
        assert other.options_of("kv") == {"a": [1]}
    assert config.postgres is not None
    assert dataclasses.replace(config.postgres, pool_max=3).pool_max == 3


def test_the_pool_is_sized_by_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two connections a CPU and one more, and never more than a pool may have."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert default_pool_max() == 17
    assert PostgresConfig(credentials=CREDENTIALS).pool_max == 17
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(900)), raising=False)
    assert default_pool_max() == 1000


@pytest.mark.parametrize("pattern", ["^[a-z0-9-]{3,255}$", "team-[a-z]+", "[^0-9]+", "a?b*c{2}d", "acme"])
def test_a_pattern_narrows(pattern: str) -> None:
    """Simple patterns are taken; what they refuse is refused, and the fixed rule stays."""
    config = StoreConfig(tenant_id_pattern=pattern)
    with pytest.raises(InvalidInput, match="tenant_id: must be 3 to 255"):
        config.check_tenant("UPPER")
    with pytest.raises(InvalidInput, match="tenant_id"):
        StoreConfig(tenant_id_pattern="x{3}").check_tenant("yyy")


@pytest.mark.parametrize(
    "pattern",
    ["", "(a+)+", "a**", "a|b", "[a-z", "[z-a]", ".*", r"\w+", "a{999}{999}", "a+?", "ä", "A", "a*a*a*a*", "x" * 201, 5, "a{2"],
)  # fmt: skip
def test_a_pattern_that_could_explode_is_refused(pattern: object) -> None:
    """Groups, alternatives and stacked repetitions, which a search may take for ever over, are no patterns here."""
    assert faults_of(StoreConfig, tenant_id_pattern=pattern)


@settings(deadline=None)
@given(st.text("ab[]{}*+?-^$0,1(|).\\", max_size=60))
def test_whatever_pattern_is_taken_is_quick(pattern: str) -> None:
    """The longest tenant id is decided within a moment."""
    try:
        config = StoreConfig(tenant_id_pattern=pattern)
    except InvalidInput:
        return
    start = time.thread_time()
    try:
        config.check_tenant("a" * 254 + "b")
    except InvalidInput as error:
        assert error.faults == ("tenant_id: does not match tenant_id_pattern",)  # noqa: PT017 - either is right
    assert time.thread_time() - start < 2


def test_the_worst_pattern_is_bearable() -> None:
    """As many repetitions as are allowed, over the longest id, ending in a mismatch."""
    config = StoreConfig(tenant_id_pattern="a*a*a*-")
    start = time.thread_time()
    with pytest.raises(InvalidInput, match="does not match"):
        config.check_tenant("a" * 255)
    assert time.thread_time() - start < 2


def test_one_tenants_credentials_serve_no_other() -> None:
    """Before any I/O, and even when the pattern would let the other one in."""
    postgres = PostgresConfig(credentials=CREDENTIALS)
    assert postgres.credentials_of("acme") == CREDENTIALS
    with pytest.raises(PermissionDenied, match="this is another"):
        postgres.credentials_of("globex")
    with pytest.raises(PermissionDenied, match="no credentials"):
        PostgresConfig().credentials_of("acme")


def test_a_registered_backends_options_are_not_shown() -> None:
    """They may hold a password, and only the backend knows which."""
    config = StoreConfig(components={"kv": ComponentConfig(backend="mine", options={"password": "s3cret"})})
    assert config.options_of("kv")["password"] == "s3cret"
    assert "s3cret" not in repr(config) + str(config)
