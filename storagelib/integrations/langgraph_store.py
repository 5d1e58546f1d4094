"""LangGraph's long-term store over one tenant's key-value store, with vectors when an index is configured.

``AsyncStorageStore`` takes an ``AsyncTenant``, ``StorageStore`` a ``Tenant``. Items expire when they are told to and are never
seen after that; reading an item does not write, so that ``refresh_ttl`` has no effect.

With ``index={"dims": 384, "embed": …, "fields": ["text"]}`` items are embedded and kept in the tenant's vectors too, in scopes
that begin with ``langgraph:``; a search with a query then gives the nearest first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

try:
    from langgraph.store.base import (
        BaseStore,
        GetOp,
        IndexConfig,
        Item,
        ListNamespacesOp,
        MatchCondition,
        Op,
        PutOp,
        Result,
        SearchItem,
        SearchOp,
        ensure_embeddings,
        get_text_at_path,
        tokenize_path,
    )
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "LangGraph is not installed: pip install 'llmspell-storage[langgraph]'", name=error.name
    ) from error
from storagelib import documents
from storagelib.components.kv import Entry
from storagelib.documents import check_document
from storagelib.errors import InvalidInput
from storagelib.limits import KEY_MAX, PAGE_MAX, check_text

if TYPE_CHECKING:
    from storagelib._async.store import AsyncTenant
    from storagelib._sync.store import Tenant

__all__ = ["AsyncStorageStore", "StorageStore"]

_ROOT: Final = "langgraph:"
_SECONDS_A_MINUTE: Final = 60
_CANDIDATES: Final = 4
_PAGE: Final = 500
_COMPARED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$eq": lambda one, other: not _COMPARED["$ne"](one, other),
    "$ne": lambda one, other: not _same(one, other),
    "$gt": lambda one, other: _ordered(one, other) and one > other,
    "$gte": lambda one, other: _ordered(one, other) and one >= other,
    "$lt": lambda one, other: _ordered(one, other) and one < other,
    "$lte": lambda one, other: _ordered(one, other) and one <= other,
}

Place = tuple[tuple[str, ...], str]


class _Store(BaseStore):
    """What both stores share: everything but the calls."""

    supports_ttl = True

    def __init__(self, index: IndexConfig | None) -> None:
        self.index_config = index
        self._embeddings = None if index is None else ensure_embeddings(index.get("embed"))
        fields = (index or {}).get("fields") or ["$"]
        self._fields = [(field, tokenize_path(field)) for field in fields]

    def _check(self, puts: Mapping[Place, PutOp]) -> None:
        """Raise for a place that cannot be kept, before anything is written."""
        for namespace, key in puts:
            check_text("key", _key((namespace, key)), most=KEY_MAX)
            if self._embeddings is not None:
                check_text("namespace", _prefix(namespace))

    def _texts(self, op: PutOp) -> dict[str, str]:
        """Return the texts of an item that are embedded, by the id of their vector."""
        if self._embeddings is None or op.value is None or op.index is False:
            return {}
        fields = self._fields if op.index is None else [(field, tokenize_path(field)) for field in op.index]
        texts = [text for field, path in fields for text in get_text_at_path(op.value, path if field != "$" else field)]
        document = _document((op.namespace, op.key))
        return {f"{document}:{number}": text for number, text in enumerate(texts)}


class AsyncStorageStore(_Store):
    """The store for graphs that run asynchronously; see the module."""

    def __init__(self, tenant: AsyncTenant, *, index: IndexConfig | None = None) -> None:
        """Take the handle of the tenant, and what is embedded."""
        super().__init__(index)
        self._tenant = tenant

    def batch(self, ops: Iterable[Op]) -> list[Result]:  # noqa: ARG002 - refused
        """Refuse: blocking callers take ``StorageStore``."""
        raise InvalidInput("the store cannot be used", [f"{type(self).__name__} is asynchronous; take StorageStore"])

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations; what is read is as it was before this batch's writes, of which the last of a key counts."""
        asked = list(ops)
        results: list[Result] = [await self._read(op) for op in asked]
        puts = _last_puts(asked)
        self._check(puts)
        values = {_key(place): _value(op) for place, op in puts.items() if op.value is not None}
        gone = [_key(place) for place, op in puts.items() if op.value is None]
        if gone:
            await self._tenant.kv.delete_many(gone)
        for ttl in {op.ttl for op in puts.values()}:
            alike = {_key(place): op for place, op in puts.items() if op.value is not None and op.ttl == ttl}
            if alike:
                seconds = None if ttl is None else ttl * _SECONDS_A_MINUTE
                await self._tenant.kv.set_many({key: values[key] for key in alike}, ttl=seconds)
        await self._embed(puts)
        return results

    async def _read(self, op: Op) -> Result:
        match op:
            case GetOp():
                entry = await self._tenant.kv.get_entry(_key((op.namespace, op.key)))
                return None if entry is None else _item(entry)
            case SearchOp():
                return await self._search(op)
            case ListNamespacesOp():
                prefix = _common_prefix(op.match_conditions)
                return _namespaces([key async for key in self._tenant.kv.keys(_prefix(prefix))], op)
            case _:
                return None

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        if op.query and self._embeddings is not None:
            return await self._nearest(op)
        chosen: list[str] = []
        cursor: str | None = None
        while len(chosen) < op.offset + op.limit:
            page = await self._tenant.kv.list_keys(_prefix(op.namespace_prefix), cursor=cursor, limit=_PAGE)
            values = await self._tenant.kv.get_many(page)
            chosen += [key for key, value in values.items() if _passes(documents.decode(value), op)]
            cursor = page.cursor
            if cursor is None:
                break
        entries = [await self._tenant.kv.get_entry(key) for key in chosen[op.offset : op.offset + op.limit]]
        return [_hit(_item(entry), None) for entry in entries if entry is not None]

    async def _nearest(self, op: SearchOp) -> list[SearchItem]:
        assert self._embeddings is not None and self.index_config is not None  # noqa: S101, PT018 - asked before
        query = await self._embeddings.aembed_query(op.query or "")
        wanted = (op.offset + op.limit) * _CANDIDATES
        while True:
            most = min(wanted, PAGE_MAX)
            prefix = _prefix(op.namespace_prefix)
            matches = await self._tenant.vectors.search(query, most, scope_prefix=prefix, include_content=False)
            scores = _best(matches)
            values = await self._tenant.kv.get_many(scores)
            chosen = [key for key, value in values.items() if _passes(documents.decode(value), op)]
            if len(chosen) >= op.offset + op.limit or len(matches) < most or most == PAGE_MAX:
                named = chosen[op.offset : op.offset + op.limit]
                entries = [await self._tenant.kv.get_entry(key) for key in named]
                return [_hit(_item(entry), scores[entry.key]) for entry in entries if entry is not None]
            wanted = most * _CANDIDATES

    async def _embed(self, puts: Mapping[Place, PutOp]) -> None:
        if self._embeddings is None or self.index_config is None or not puts:
            return
        dimension = self.index_config["dims"]
        for place in puts:
            await self._tenant.vectors.delete_document(_document(place), dimension=dimension)
        texts = {place: self._texts(op) for place, op in puts.items()}
        named = [(place, vector_id, text) for place, each in texts.items() for vector_id, text in each.items()]
        if named:
            embeddings = await self._embeddings.aembed_documents([text for _, _, text in named])
            await self._tenant.vectors.upsert_many(
                [vector_id for _, vector_id, _ in named],
                embeddings,
                scope=[_prefix(place[0]) for place, _, _ in named],
                metadata=[{"key": _key(place)} for place, _, _ in named],
                document_id=[_document(place) for place, _, _ in named],
            )


class StorageStore(_Store):
    """The store for graphs that run blocking; see the module."""

    def __init__(self, tenant: Tenant, *, index: IndexConfig | None = None) -> None:
        """Take the handle of the tenant, and what is embedded."""
        super().__init__(index)
        self._tenant = tenant

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:  # noqa: ARG002 - refused
        """Refuse: asynchronous callers take ``AsyncStorageStore``."""
        raise InvalidInput("the store cannot be used", [f"{type(self).__name__} is blocking; take AsyncStorageStore"])

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Do several operations; what is read is as it was before this batch's writes, of which the last of a key counts."""
        asked = list(ops)
        results: list[Result] = [self._read(op) for op in asked]
        puts = _last_puts(asked)
        self._check(puts)
        values = {_key(place): _value(op) for place, op in puts.items() if op.value is not None}
        gone = [_key(place) for place, op in puts.items() if op.value is None]
        if gone:
            self._tenant.kv.delete_many(gone)
        for ttl in {op.ttl for op in puts.values()}:
            alike = {_key(place): op for place, op in puts.items() if op.value is not None and op.ttl == ttl}
            if alike:
                seconds = None if ttl is None else ttl * _SECONDS_A_MINUTE
                self._tenant.kv.set_many({key: values[key] for key in alike}, ttl=seconds)
        self._embed(puts)
        return results

    def _read(self, op: Op) -> Result:
        match op:
            case GetOp():
                entry = self._tenant.kv.get_entry(_key((op.namespace, op.key)))
                return None if entry is None else _item(entry)
            case SearchOp():
                return self._search(op)
            case ListNamespacesOp():
                prefix = _common_prefix(op.match_conditions)
                return _namespaces(list(self._tenant.kv.keys(_prefix(prefix))), op)
            case _:
                return None

    def _search(self, op: SearchOp) -> list[SearchItem]:
        if op.query and self._embeddings is not None:
            return self._nearest(op)
        chosen: list[str] = []
        cursor: str | None = None
        while len(chosen) < op.offset + op.limit:
            page = self._tenant.kv.list_keys(_prefix(op.namespace_prefix), cursor=cursor, limit=_PAGE)
            values = self._tenant.kv.get_many(page)
            chosen += [key for key, value in values.items() if _passes(documents.decode(value), op)]
            cursor = page.cursor
            if cursor is None:
                break
        entries = [self._tenant.kv.get_entry(key) for key in chosen[op.offset : op.offset + op.limit]]
        return [_hit(_item(entry), None) for entry in entries if entry is not None]

    def _nearest(self, op: SearchOp) -> list[SearchItem]:
        assert self._embeddings is not None and self.index_config is not None  # noqa: S101, PT018 - asked before
        query = self._embeddings.embed_query(op.query or "")
        wanted = (op.offset + op.limit) * _CANDIDATES
        while True:
            most = min(wanted, PAGE_MAX)
            prefix = _prefix(op.namespace_prefix)
            matches = self._tenant.vectors.search(query, most, scope_prefix=prefix, include_content=False)
            scores = _best(matches)
            values = self._tenant.kv.get_many(scores)
            chosen = [key for key, value in values.items() if _passes(documents.decode(value), op)]
            if len(chosen) >= op.offset + op.limit or len(matches) < most or most == PAGE_MAX:
                named = chosen[op.offset : op.offset + op.limit]
                entries = [self._tenant.kv.get_entry(key) for key in named]
                return [_hit(_item(entry), scores[entry.key]) for entry in entries if entry is not None]
            wanted = most * _CANDIDATES

    def _embed(self, puts: Mapping[Place, PutOp]) -> None:
        if self._embeddings is None or self.index_config is None or not puts:
            return
        dimension = self.index_config["dims"]
        for place in puts:
            self._tenant.vectors.delete_document(_document(place), dimension=dimension)
        texts = {place: self._texts(op) for place, op in puts.items()}
        named = [(place, vector_id, text) for place, each in texts.items() for vector_id, text in each.items()]
        if named:
            embeddings = self._embeddings.embed_documents([text for _, _, text in named])
            self._tenant.vectors.upsert_many(
                [vector_id for _, vector_id, _ in named],
                embeddings,
                scope=[_prefix(place[0]) for place, _, _ in named],
                metadata=[{"key": _key(place)} for place, _, _ in named],
                document_id=[_document(place) for place, _, _ in named],
            )


def _last_puts(ops: Sequence[Op]) -> dict[Place, PutOp]:
    return {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}


def _label(label: str) -> str:
    """Escape what separates labels, so that no label reaches into another namespace."""
    return label.replace("%", "%25").replace("/", "%2F").replace(":", "%3A")


def _prefix(namespace: tuple[str, ...]) -> str:
    return _ROOT + "".join(f"{_label(label)}/" for label in namespace)


def _key(place: Place) -> str:
    namespace, key = place
    return f"{_prefix(namespace)}:{_label(check_text('key', key))}"


def _document(place: Place) -> str:
    """Name an item's vectors: ids of vectors are shorter than keys."""
    return _ROOT + hashlib.blake2b(_key(place).encode(), digest_size=20).hexdigest()


def _place(key: str) -> Place:
    labels, _, name = key.removeprefix(_ROOT).rpartition(":")
    return tuple(_plain(label) for label in labels.split("/")[:-1]), _plain(name)


def _plain(label: str) -> str:
    return label.replace("%3A", ":").replace("%2F", "/").replace("%25", "%")


def _value(op: PutOp) -> bytes:
    return check_document(op.value, "value").encode()


def _item(entry: Entry) -> Item:
    namespace, key = _place(entry.key)
    return Item(
        value=documents.decode(entry.value),
        key=key,
        namespace=namespace,
        created_at=entry.created_at,
        updated_at=entry.updated_at,
    )


def _hit(item: Item, score: float | None) -> SearchItem:
    return SearchItem(item.namespace, item.key, item.value, item.created_at, item.updated_at, score)


def _passes(value: Mapping[str, Any], op: SearchOp) -> bool:
    return all(_fits(value.get(name), wanted) for name, wanted in (op.filter or {}).items())


def _fits(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, dict) or not any(name.startswith("$") for name in wanted):
        return _same(value, wanted)
    unknown = sorted(set(wanted) - _COMPARED.keys())
    if unknown:
        raise InvalidInput("the filter cannot be used", [f"filter: knows no {', '.join(unknown)}"])
    return all(_COMPARED[name](value, other) for name, other in wanted.items())


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _ordered(one: Any, other: Any) -> bool:
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (one, other))
    return numbers or (isinstance(one, str) and isinstance(other, str))


def _best(matches: Iterable[Any]) -> dict[str, float]:
    """Return the best score of each item, best first."""
    best: dict[str, float] = {}
    for match in matches:
        best.setdefault(match.metadata["key"], float(match.score))
    return best


def _common_prefix(conditions: Iterable[MatchCondition] | None) -> tuple[str, ...]:
    """Return the longest prefix without a wildcard that all namespaces asked for have."""
    longest: tuple[str, ...] = ()
    for condition in conditions or ():
        if condition.match_type == "prefix":
            plain = condition.path[: condition.path.index("*")] if "*" in condition.path else condition.path
            longest = max(longest, plain, key=len)
    return longest


def _namespaces(keys: Iterable[str], op: ListNamespacesOp) -> list[tuple[str, ...]]:
    found = {
        namespace[: op.max_depth] if op.max_depth is not None else namespace
        for namespace in {_place(key)[0] for key in keys}
        if all(_under(namespace, condition) for condition in op.match_conditions or ())
    }
    return sorted(found)[op.offset : op.offset + op.limit]


def _under(namespace: tuple[str, ...], condition: MatchCondition) -> bool:
    path = condition.path
    if len(path) > len(namespace):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))
