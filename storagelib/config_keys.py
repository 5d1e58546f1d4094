"""The names under which a configuration may say things: the right ones, the older ones, and how long they are a name.

Data first; what follows derives every name that a file or the environment may hold from it. Loaded only when a
configuration is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from storagelib.config import STORE_NAMES

__all__ = [
    "ALIASES",
    "BACKEND_WORDS",
    "COMPONENT_WORDS",
    "ENVIRONMENT_PREFIX",
    "FOREIGN_TABLES",
    "FOREIGN_VARIABLES",
    "KEYS",
    "OPTIONS",
    "Key",
    "Target",
    "aliases_of",
    "environment_name",
    "known_paths",
    "option_fault",
    "resolve",
]

Kind = Literal["text", "whole", "seconds", "truth", "path", "backend", "number of bytes", "days"]
"""What a value is: in a file by its type, in the environment by how its text reads."""

ENVIRONMENT_PREFIX: Final = "LLMSPELL_STORAGE_"


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be said."""

    kind: Kind
    about: str = ""
    """What it means, where no field of a configuration class says it."""
    least: int = 0
    most: int = 2**63 - 1
    choices: tuple[str, ...] = ()


KEYS: Final[Mapping[str, Key]] = {
    "storage.backend": Key("backend"),
    "storage.default_tenant_id": Key("text"),
    "storage.tenant_id_pattern": Key("text"),
    "storage.enforce_tenant_isolation": Key("truth", "Always true: tenants are kept apart. False is refused."),
    "storage.sqlite.path": Key("path"),
    "storage.sqlite.durability": Key("text", choices=("full", "normal")),
    "storage.sqlite.busy_timeout_seconds": Key("seconds"),
    "storage.sqlite.readers": Key("whole"),
    "storage.sqlite.vector_scan": Key("text", choices=("auto", "numpy", "sqlite-vec")),
    "storage.memory.most_bytes": Key("number of bytes"),
    "storage.postgres.url": Key("text", "The connection as a URI; must not be given beside `secret`."),
    "storage.postgres.pooled_url": Key("text", "The same login through a pooler, as a URI."),
    "storage.postgres.host": Key("text", "Host name, address, or the folder of a socket; instead of `url`."),
    "storage.postgres.port": Key("whole", "The port; 5432 when nothing says another."),
    "storage.postgres.dbname": Key("text", "The database."),
    "storage.postgres.user": Key("text", "The login."),
    "storage.postgres.password": Key("text", "The login's password."),
    "storage.postgres.sslmode": Key("text", "libpq's sslmode; `prefer` when nothing says another."),
    "storage.postgres.ca_file": Key("path", "The certificates that sign the server's: libpq's sslrootcert."),
    "storage.postgres.sslcert": Key("path", "The file of a client certificate."),
    "storage.postgres.sslkey": Key("path", "The file of the client certificate's key."),
    "storage.postgres.pooler_host": Key("text", "Host of the pooler."),
    "storage.postgres.pooler_port": Key("whole", "Port of the pooler."),
    "storage.postgres.tenant_id": Key("text", "The login's tenant; `default_tenant_id`, else `default`."),
    "storage.postgres.mode": Key("text", "The login's: `role` when nothing is said.", choices=("role", "sealed")),
    "storage.postgres.schema": Key("text", "The schema of the tables; `llmspell` when nothing is said."),
    "storage.postgres.capability": Key("text", "What enters the tenant; in mode `sealed`."),
    "storage.postgres.secret": Key("path", "A tenant's Secret, as a mounted folder or a JSON file; instead of `url`."),
    "storage.postgres.credentials_folder": Key("path"),
    "storage.postgres.pool_min": Key("whole"),
    "storage.postgres.pool_max": Key("whole"),
    "storage.postgres.pools_max": Key("whole"),
    "storage.postgres.pool_timeout_seconds": Key("seconds"),
    "storage.postgres.pool_idle_seconds": Key("seconds"),
    "storage.postgres.pool_lifetime_seconds": Key("seconds"),
    "storage.postgres.connect_timeout_seconds": Key("seconds"),
    "storage.postgres.statement_timeout_seconds": Key("seconds"),
    "storage.postgres.pooler": Key("text", choices=("none", "transaction")),
    "storage.postgres.pipeline": Key("text", choices=("auto", "off")),
    "storage.postgres.auto_migrate": Key("truth"),
    "storage.postgres.migrate_url": Key("text"),
    "storage.postgres.migration_timeout_seconds": Key("seconds"),
    "storage.postgres.application_name": Key("text"),
}

OPTIONS: Final[Mapping[str, Mapping[str, Key]]] = {
    "vectors": {
        "hnsw_ef_search": Key(
            "whole", "Candidates that a search by an index keeps, where a call does not say.", 1, 1000
        ),
        "hnsw_m": Key("whole", "Links a node of an HNSW index that `Administration.vector_index` builds.", 2, 100),
        "hnsw_ef_construction": Key("whole", "Candidates while `Administration.vector_index` builds one.", 4, 1000),
    },
    "events": {
        "partition_strategy": Key(
            "text",
            "Has no effect: `spec.events` of a StorageComponent says it.",
            choices=("daily", "weekly", "monthly"),
        ),
        "retention_days": Key("days", "Has no effect: `spec.events` of a StorageComponent says it.", 1, 36_525),
    },
    "artifacts": {
        "compression_threshold_bytes": Key("number of bytes", "Contents above this many bytes are compressed."),
    },
}
"""What only one store understands, beside ``backend``."""

_EXACT: Final = "memory and sqlite compare every vector, and have no index"
_PARTITIONS: Final = "{}, which the operator keeps, in spec.events.{} of the StorageComponent of kind Events"

ALIASES: Final[Mapping[str, tuple[str, float | None]]] = {
    "storage.backend_type": ("storage.backend", None),
    "storage.postgres.default_tenant_id": ("storage.default_tenant_id", None),
    "storage.postgres.tenant_id_pattern": ("storage.tenant_id_pattern", None),
    "storage.postgres.enforce_tenant_isolation": ("storage.enforce_tenant_isolation", None),
    "storage.postgres.enable_rls": ("storage.enforce_tenant_isolation", None),
    "storage.postgres.connection_string": ("storage.postgres.url", None),
    "storage.postgres.dsn": ("storage.postgres.url", None),
    "storage.postgres.database": ("storage.postgres.dbname", None),
    "storage.postgres.username": ("storage.postgres.user", None),
    "storage.postgres.pool_size": ("storage.postgres.pool_max", None),
    "storage.postgres.timeout_ms": ("storage.postgres.pool_timeout_seconds", 0.001),
    "storage.postgres.pool_timeout_secs": ("storage.postgres.pool_timeout_seconds", None),
    "storage.postgres.idle_timeout_secs": ("storage.postgres.pool_idle_seconds", None),
    "storage.postgres.max_lifetime_secs": ("storage.postgres.pool_lifetime_seconds", None),
    "storage.postgres.migration_timeout_secs": ("storage.postgres.migration_timeout_seconds", None),
}
"""Older name → right name, and what its unit has to be multiplied by."""

MEMORY_STORES: Final = ("vectors", "graph", "procedures")
COMPONENT_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "episodic": ("vectors",),
    "semantic": ("graph",),
    "procedural": ("procedures",),
    "state": ("agent_state",),
    "memory": MEMORY_STORES,
    "all": STORE_NAMES,
    # Names of tables, which stand for their store.
    "vector_embeddings": ("vectors",),
    "temporal_graph": ("graph",),
    "procedural_memory": ("procedures",),
    "kv_store": ("kv",),
    "event_log": ("events",),
    "hook_history": ("hooks",),
}
"""Words for stores; ``memory`` and ``all`` stand for several, and give way to the name of one."""

BACKEND_WORDS: Final[Mapping[str, str]] = {
    "in_memory": "memory",
    "in-memory": "memory",
    "inmemory": "memory",
    "postgresql": "postgres",
}
"""Other words for backends, in any case."""

FOREIGN_TABLES: Final = (
    "agents",
    "cli",
    "debug",
    "engines",
    "gpu",
    "kernel",
    "logging",
    "providers",
    "runtime",
    "scripts",
    "templates",
    "tools",
)
"""Tables of the same file that belong to other programs."""

FOREIGN_VARIABLES: Final = (
    "LLMSPELL_STORAGE_OPERATOR_URL",
    "LLMSPELL_STORAGE_DEV_",
    "LLMSPELL_STORAGE_FUZZ_",
    "LLMSPELL_STORAGE_TEST_",
)
"""Variables of the command line, of the development environment and of the tests; those that end in ``_`` are prefixes."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a value goes: the path of a right key, and how much the name that was used counts beside others."""

    path: str
    key: Key
    factor: float | None = None
    rank: int = 0


_RANKS: Final = {"all": -2, "memory": -1}
_ANYTHING: Final = Key("text")
_OPTION_PARTS: Final = 4


def without_effect(store: str, name: str, backend: str) -> str | None:
    """Say why an option does nothing on a backend, and where what it says belongs; None for one that does.

    >>> without_effect("vectors", "hnsw_m", "sqlite")
    'memory and sqlite compare every vector, and have no index'
    """
    if store == "vectors" and backend != "postgres":
        return _EXACT
    if store == "events" and backend != "postgres":
        return "memory and sqlite have no partitions, and keep events until they are erased"
    if store == "events" and name == "partition_strategy":
        return _PARTITIONS.format("partitions are the database's", "interval")
    if store == "events" and name == "retention_days":
        return _PARTITIONS.format("old events go with the database's partitions", "dropAfter")
    return None


def stores_of(word: str) -> tuple[str, ...]:
    """Return the stores that a word stands for; none for a word of something else."""
    return (word,) if word in STORE_NAMES else COMPONENT_WORDS.get(word, ())


def resolve(path: tuple[str, ...]) -> tuple[Target, ...]:
    """Return what a path means: one target, several for a word of several stores, none for an unknown path.

    >>> [target.path for target in resolve(("memory", "episodic_backend"))]
    ['storage.components.vectors.backend']
    """
    dotted = ".".join(path)
    if dotted in KEYS:
        return (Target(dotted, KEYS[dotted]),)
    if dotted in ALIASES:
        right, factor = ALIASES[dotted]
        return (Target(right, KEYS[right], factor),)
    match path:
        case ("storage", "components", word, name):
            pass
        case ("storage", ("memory" | "postgres" | "sqlite") as word, name) if (word, name) != ("memory", "backend"):
            return ()
        case ("storage", word, name):
            pass
        case ("storage", "postgres", word, name) if name != "backend":
            pass
        case ("memory", word, "backend" as name):
            pass
        case ("memory", given) if given.endswith("_backend"):
            word, name = given.removesuffix("_backend"), "backend"
        case _:
            return ()
    return _component(word, name)


def _component(word: str, name: str) -> tuple[Target, ...]:
    rank = _RANKS.get(word, 0)
    return tuple(
        Target(f"storage.components.{store}.{name}", _component_key(store, name), rank=rank)
        for store in stores_of(word)
    )


def _component_key(store: str, name: str) -> Key:
    return Key("backend") if name == "backend" else OPTIONS.get(store, {}).get(name, _ANYTHING)


def is_free(target: Target) -> bool:
    """Tell whether a target is an option that only a registered backend can know."""
    parts = target.path.split(".")
    return len(parts) == _OPTION_PARTS and target.key is _ANYTHING


@cache
def known_paths() -> tuple[tuple[str, ...], ...]:
    """Return every path that means something, the right ones first."""
    return tuple(dict.fromkeys(_known_paths()))


def _known_paths() -> Iterator[tuple[str, ...]]:
    words = (*STORE_NAMES, *COMPONENT_WORDS)
    yield from (tuple(path.split(".")) for path in (*KEYS, *ALIASES))
    yield from (("storage", "components", word, "backend") for word in words)
    yield from (("storage", word, "backend") for word in words)
    for word in words:
        for store in stores_of(word)[:1]:
            for name in OPTIONS.get(store, {}):
                yield ("storage", "components", word, name)
                yield ("storage", "postgres", word, name)
                if word != "memory":
                    yield ("storage", word, name)
    yield from (("memory", f"{word}_backend") for word in words)
    yield from (("memory", word, "backend") for word in words)


def environment_name(path: tuple[str, ...]) -> str:
    """Return the variable of a path below ``storage``.

    >>> environment_name(("storage", "components", "kv", "backend"))
    'LLMSPELL_STORAGE_COMPONENTS_KV_BACKEND'
    """
    return ENVIRONMENT_PREFIX + "_".join(path[1:]).upper()


def aliases_of(path: str) -> list[str]:
    """Return the older names of a right key, as they stand in a file."""
    return [
        ".".join(known)
        for known in known_paths()
        if ".".join(known) != path and path in [target.path for target in resolve(known)]
    ]


def option_fault(store: str, name: str, value: object) -> str | None:
    """Say what is wrong with the value of a store's option, or that there is no such option."""
    from storagelib.config import nearest  # noqa: PLC0415 - only wrong or rare things come here

    known = OPTIONS.get(store, {})
    if name not in known:
        return f"there is no such key{nearest(name, ['backend', *known])}"
    key = known[name]
    if key.choices:
        return None if value in key.choices else f"must be one of {', '.join(key.choices)}"
    if type(value) is int and key.least <= value <= key.most:
        return None
    return f"must be a whole number from {key.least} to {key.most}"
