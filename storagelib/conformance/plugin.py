"""The pytest plugin: every test runs on each subject, behind the asynchronous and the blocking library."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from storage_sql.stores import STORES_BY_NAME
from storagelib._async.store import AsyncStore
from storagelib._sync.store import Store
from storagelib.config import StoreConfig
from storagelib.conformance import hooks, report, subjects
from storagelib.conformance.awaited import Awaited
from storagelib.conformance.subjects import Opening, SettableClock, Subject

__all__ = ["clock", "model", "neighbour", "opening", "store", "tenant"]

_PACKAGE = __name__.rpartition(".")[0]
_STORE = re.compile(r"test_(\w+)\.py")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let projects tell of their own subjects."""
    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the wish for a report."""
    parser.getgroup("llmspell").addoption(
        "--llmspell-report", action="store_true", help="tell how many conformance tests each backend passes, by store"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell what each backend can do, when that was wished for."""
    if config.getoption("llmspell_report", default=False):
        terminalreporter.section("conformance")
        for line in report.lines(terminalreporter.stats):
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "settable_clock: moves the clock, which a server does not allow")


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(name: str, obj: object) -> None:
    """Let our tests run in whatever asyncio mode the project has that runs them."""
    ours = str(getattr(obj, "__module__", "")).startswith(_PACKAGE)
    if ours and name.startswith("test_") and inspect.iscoroutinefunction(obj):
        pytest.mark.asyncio(obj)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each subject that has the store it is about."""
    if "subject" not in metafunc.fixturenames:
        return
    told = metafunc.config.hook.pytest_llmspell_subjects(config=metafunc.config)
    known = [subjects.memory, subjects.sqlite, *(subject for group in told for subject in group)]
    named = _STORE.fullmatch(Path(metafunc.module.__file__).name)
    about = named[1] if named else ""
    moving = metafunc.definition.get_closest_marker("settable_clock") is not None
    chosen = [
        twin
        for subject in known
        for twin in subject.twins
        # What is about several stores, such as the memories, is for those who have them all.
        if (about in subject.stores or subject.stores >= STORES_BY_NAME.keys())
        and (subject.settable_clock or not moving)
    ]
    metafunc.parametrize("subject", [pytest.param(each, id=each.name, marks=each.marks) for each in chosen])


@pytest.fixture
def clock() -> SettableClock:
    """Give the clock of the memory and SQLite backends, which the test may move."""
    return SettableClock()


@pytest.fixture
def opening(subject: Subject, request: pytest.FixtureRequest) -> Any:
    """Give what the store under test is opened with."""
    named = _STORE.fullmatch(request.path.name)
    request.node.user_properties.append((report.SUBJECT, f"{subject.name} {named[1] if named else request.path.name}"))
    with subject.prepare(request) as prepared:
        yield prepared


@pytest_asyncio.fixture
async def store(
    subject: Subject, opening: Opening, clock: SettableClock, request: pytest.FixtureRequest
) -> AsyncIterator[Any]:
    """Give an opened store; the blocking one stands behind awaited calls."""
    moving = request.node.get_closest_marker("settable_clock") is not None
    options: dict[str, Any] = {"provider": opening.provider}
    if moving:
        options["clock"] = clock
    if subject.blocking:
        opened = Store.open(opening.config, **options)
        try:
            yield Awaited(opened)
        finally:
            opened.close()
        return
    async with await AsyncStore.open(opening.config, **options) as awaited:
        yield awaited


@pytest.fixture
def tenant(store: Any, opening: Opening) -> Any:
    """Give the handle of a tenant that has nothing yet."""
    return store.for_tenant(opening.new_tenant())


@pytest.fixture
def neighbour(store: Any, opening: Opening) -> Any:
    """Give the handle of another tenant of the same store."""
    return store.for_tenant(opening.new_tenant())


@pytest_asyncio.fixture
async def model(clock: SettableClock, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Give a tenant in memory, which says what is right; its clock is the test's one when that is moved."""
    moving = request.node.get_closest_marker("settable_clock") is not None
    options: dict[str, Any] = {"clock": clock} if moving else {}
    async with await AsyncStore.open(StoreConfig.in_memory(), **options) as memory:
        yield memory.for_tenant("model")
