"""The blocking library behind awaited calls, so that one text tests both twins; every call runs in a thread of its own."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

__all__ = ["Awaited", "made_of"]

_END: Final = object()


class Awaited:
    """An object of the blocking library whose methods are awaited where those of its asynchronous twin are."""

    def __init__(self, target: Any) -> None:
        """Take a store, a tenant's handle, or one of its stores."""
        self._target = target
        kind = type(target)
        module = importlib.import_module(kind.__module__.replace("._sync", "._async"))
        self._twin = getattr(module, f"Async{kind.__name__.lstrip('_')}", None) or getattr(module, kind.__name__)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value) or isinstance(value, type):
            return _wrapped(value)
        twin = getattr(self._twin, name)
        if inspect.iscoroutinefunction(twin):
            return _coroutine(value)
        if _iterates(twin):
            return _iterator(value)
        if inspect.isasyncgenfunction(getattr(twin, "__wrapped__", None)):
            return _context(value)
        return lambda *args, **kwargs: _wrapped(value(*args, **kwargs))


def _iterates(verb: Callable[..., Any]) -> bool:
    """Tell whether a verb gives an asynchronous iterator; one that hands on another's is no generator itself."""
    return inspect.isasyncgenfunction(verb) or str(inspect.get_annotations(verb).get("return")).startswith(
        "AsyncIterator["
    )


def made_of(kind: Any, tenant: Any, *args: Any, **kwargs: Any) -> Any:
    """Make an asynchronous class, such as ``AsyncRag``, of a tenant's handle, or its blocking twin behind awaited calls."""
    if not isinstance(tenant, Awaited):
        return kind(tenant, *args, **kwargs)
    module = importlib.import_module(kind.__module__.replace("._async", "._sync"))
    twin = getattr(module, kind.__name__.removeprefix("Async"))
    return Awaited(twin(tenant._target, *args, **kwargs))  # noqa: SLF001 - its own kind


def _wrapped(value: Any) -> Any:
    return Awaited(value) if type(value).__module__.startswith("storagelib._sync") else value


async def _blocking(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Give the blocking library what it takes: lists for asynchronous iterators, plain functions for coroutines."""
    return [await _plain(value) for value in args], {name: await _plain(value) for name, value in kwargs.items()}


async def _plain(value: Any) -> Any:
    if isinstance(value, Awaited):
        return value._target  # noqa: SLF001 - its own kind
    if isinstance(value, AsyncIterable):
        return [item async for item in value]
    if inspect.iscoroutinefunction(value):
        return lambda *args, **kwargs: asyncio.run(value(*args, **kwargs))
    return value


def _coroutine(method: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        given, named = await _blocking(args, kwargs)
        return _wrapped(await asyncio.to_thread(method, *given, **named))

    return call


def _iterator(method: Callable[..., Iterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        given, named = await _blocking(args, kwargs)
        items = await asyncio.to_thread(method, *given, **named)
        try:
            while (item := await asyncio.to_thread(next, items, _END)) is not _END:
                yield item
        finally:
            await asyncio.to_thread(items.close)  # type: ignore[attr-defined]

    return call


def _context(method: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def call(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        given, named = await _blocking(args, kwargs)
        with method(*given, **named) as value:
            yield _wrapped(value)

    return call
