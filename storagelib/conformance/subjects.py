"""What is tested: a configuration to open a store with, and how its tenants come to be."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from storage_sql.stores import STORES_BY_NAME
from storagelib import Store
from storagelib.config import ComponentConfig, StoreConfig

__all__ = ["Opening", "SettableClock", "Subject", "memory", "sqlite"]

_NUMBERS: Final = itertools.count(1)


@dataclass(slots=True)
class SettableClock:
    """A clock that tests move, forward and backward; it ticks a microsecond a reading so that times differ."""

    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the moment it is set to."""
        self.now += timedelta(microseconds=1)
        return self.now

    def advance(self, **duration: float) -> None:
        """Move by a duration, such as ``seconds=-5``."""
        self.now += timedelta(**duration)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a store is opened with, and what makes a tenant that nobody used before."""

    config: StoreConfig
    provider: Callable[[str], Any] | None = None
    new_tenant: Callable[[], str] = lambda: f"tenant-{next(_NUMBERS)}"


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to test: ``prepare`` gives the opening for one test, with the running test's fixtures at hand."""

    name: str
    prepare: Callable[[Any], AbstractContextManager[Opening]] = field(repr=False)
    stores: frozenset[str] = frozenset(STORES_BY_NAME)
    settable_clock: bool = True
    blocking: bool = False
    blocking_marks: tuple[Any, ...] = ()
    """Marks of the tests behind the blocking library, such as one that leaves them out of quick runs."""
    marks: tuple[Any, ...] = ()

    @classmethod
    def registered(cls, store: str, backend: str, **options: object) -> Subject:
        """Test one store on a backend that was registered, the others left out."""
        component = ComponentConfig(backend=backend, options=options)
        config = replace(StoreConfig.in_memory(), components={store: component})

        @contextmanager
        def prepare(_request: Any) -> Iterator[Opening]:
            yield Opening(config)

        return cls(backend, prepare, frozenset({store}), settable_clock=False)

    @property
    def twins(self) -> tuple[Subject, Subject]:
        """The subject behind the asynchronous and the blocking library."""
        behind = replace(self, name=f"{self.name}-sync", blocking=True, marks=self.blocking_marks)
        return replace(self, name=f"{self.name}-async"), behind


@contextmanager
def _in_memory(_request: Any) -> Iterator[Opening]:
    yield Opening(StoreConfig.in_memory())


@cache
def _new_file() -> bytes:
    """Return the file that a store makes: making one for each test would be most of what the tests do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conformance.db")
        Store.open(StoreConfig.on_sqlite(path)).close()
        return path.read_bytes()


@contextmanager
def _on_sqlite(_request: Any) -> Iterator[Opening]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "conformance.db")
        path.write_bytes(_new_file())
        yield Opening(StoreConfig.on_sqlite(path, durability="normal"))


memory: Final = Subject("memory", _in_memory)
sqlite: Final = Subject("sqlite", _on_sqlite)
