"""What the pages say of the library is so: errors, verbs, stores and their tables."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import storagelib
from storage_sql.stores import STORES, STORES_BY_NAME
from storagelib import errors
from tests.docs.pages import DOCS, ROOT

REFERENCE = DOCS / "reference"
_CODE = re.compile(r"`([^`]+)`")
_OWNERS = ("Administration", "Store", "StoreConfig")


def rows(page: Path, header: str) -> list[list[str]]:
    """Return the cells of every table of a page whose header begins like this."""
    found: list[list[str]] = []
    inside = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith(header):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("|--"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_tree_of_errors_is_complete() -> None:
    """Each error stands there once, with its other base and whether the call may be made again."""
    shown = {cells[0].strip("`"): cells for cells in rows(REFERENCE / "errors.md", "| error |")}
    raised = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert shown.keys() == raised
    for name, cells in shown.items():
        kind = getattr(errors, name)
        others = {base.__name__ for base in kind.__bases__} - {"StorageError"}
        assert cells[1] == "".join(f"`{base}`" for base in others), name
        assert cells[2] == ("yes" if kind.retryable else "no"), name


def named_verbs() -> list[str]:
    """Return every name in the second column of the renamed verbs."""
    return sorted(
        {
            name
            for cells in rows(REFERENCE / "renamed-verbs.md", "| before |")
            for name in [*_CODE.findall(cells[1]), *_CODE.findall(cells[2])]
            if name.partition(".")[0] in (*STORES_BY_NAME, *_OWNERS, "tenant") and "." in name
        }
    )


def owner(name: str, twin: str) -> Any:
    """Return the class that has a verb, of the blocking or of the asynchronous library."""
    if name == "tenant":
        return getattr(storagelib, f"{twin}Tenant")
    if name in _OWNERS:
        return storagelib.StoreConfig if name == "StoreConfig" else getattr(storagelib, twin + name)
    package = "_async" if twin else "_sync"
    return getattr(importlib.import_module(f"storagelib.{package}.{name}"), twin + STORES_BY_NAME[name].kind)


def test_verbs_were_renamed() -> None:
    """There is something to check, and every row has a former name."""
    found = rows(REFERENCE / "renamed-verbs.md", "| before |")
    assert len(found) > 20
    assert all(_CODE.findall(cells[0]) for cells in found)


@pytest.mark.parametrize("twin", ["", "Async"])
@pytest.mark.parametrize("name", named_verbs())
def test_renamed_verbs_exist(name: str, twin: str) -> None:
    """The new name is one that can be called, in both libraries."""
    of, _, verb = name.partition(".")
    assert inspect.getattr_static(owner(of, twin), verb) is not None


def test_the_index_names_every_store_and_its_tables() -> None:
    """Each store has its line, its tables and, once it is there, its page."""
    shown = {_CODE.findall(cells[0])[0]: cells for cells in rows(REFERENCE / "stores" / "index.md", "| store |")}
    assert list(shown) == [store.name for store in STORES]
    for store in STORES:
        page, cells = REFERENCE / "stores" / f"{store.name}.md", shown[store.name]
        tables = {entry.name for entry in store.tables if entry.pattern is None and store in owners(entry.name)}
        named = {name for name in _CODE.findall(cells[2]) if not name.endswith("_…")}
        assert named == tables, store.name
        assert (f"({store.name}.md)" in cells[0]) == page.exists(), store.name


def verbs_of(kind: type) -> list[str]:
    """Return the public verbs of a facade, in order of their names."""
    return [name for name, found in inspect.getmembers(kind, callable) if not name.startswith("_")]


@pytest.mark.parametrize("store", [pytest.param(store, id=store.name) for store in STORES])
def test_a_page_tells_of_every_verb(store: Any) -> None:
    """Each verb of the store is named on its page, and the arguments that a table shows it with are its own."""
    kind, page = owner(store.name, ""), REFERENCE / "stores" / f"{store.name}.md"
    text = page.read_text(encoding="utf-8")
    outside = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    named = {word for code in _CODE.findall(outside) for word in re.findall(r"\w+", code)}
    assert not set(verbs_of(kind)) - named - set(re.findall(r"\.(\w+)\(", text))
    shown = [code for cells in rows(page, "| verb |") for code in _CODE.findall(cells[0])]
    for code in shown:
        verb, _, given = code.partition("(")
        of = kind if hasattr(kind, verb) else storagelib.Store
        has = inspect.signature(getattr(of, verb.removeprefix("store."))).parameters
        names = {re.split(r"\W", name)[0] for name in re.split(r",\s*\*?,?\s*|\s+or\s+", given.rstrip(")"))}
        # An id is a vector's, or that of what the verb is about.
        names -= {"", "id"} if any(name == "id" or name.endswith(("_id", "subject")) for name in has) else {""}
        assert not names - set(has), code


def absent() -> list[Any]:
    """Return each verb in the table of what is not there, and whether it raises."""
    table = rows(REFERENCE / "stores" / "index.md", "| what | returns None |")
    return [
        pytest.param(name, raises, id=name)
        for cells in table
        for raises in (0, 1)
        for name in _CODE.findall(cells[1 + raises])
    ]


@pytest.mark.parametrize(("name", "raises"), absent())
def test_what_is_not_there_is_told_as_shown(name: str, raises: int) -> None:
    """None or ``NotFound``, as the table says of each verb."""
    of, _, verb = name.partition(".")
    place = ["agent"] if of not in ("graph", "hooks") else [str(uuid.uuid4())]
    place += ["report.md"] if verb == "latest" else []
    options = {"dimension": 8} if of == "vectors" else {}
    with storagelib.Store.open(storagelib.StoreConfig.in_memory()) as store:
        tenant = store.for_tenant("acme")
        if of == "EpisodicMemory":
            asked: Any = storagelib.EpisodicMemory(tenant, lambda texts: [[1.0] * 8 for _ in texts], dimension=8)
        else:
            asked = storagelib.SemanticMemory(tenant) if of == "SemanticMemory" else getattr(tenant, of)
        called = functools.partial(getattr(asked, verb), *place, **options)
        if raises:
            with pytest.raises(storagelib.NotFound):
                called()
        else:
            assert called() is None


def test_messages_of_the_guide_are_said() -> None:
    """What stands on the left of a table of messages is part of a message of the library."""
    page = DOCS / "how-to" / "when-calls-fail.md"
    shown = [
        message
        for header in ("| `Unavailable` says", "| `PermissionDenied` says", "| `MigrationError` says", "| says")
        for cells in rows(page, header)
        for message in _CODE.findall(cells[0])
    ]
    source = "\n".join(
        file.read_text(encoding="utf-8")
        for file in (ROOT / "storagelib").rglob("*.py")
        if not {"_sync", "conformance"} & set(file.parts)
    )
    assert len(shown) > 15
    assert not [message for message in shown if message not in source]


def owners(table: str) -> list[Any]:
    """Return the stores that have a table to themselves; none when two share it."""
    having = [store for store in STORES if any(entry.name == table for entry in store.tables)]
    return having if len(having) == 1 else []
