"""How a caller's own function is called: on an event loop it may be asynchronous, in a thread it may not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from storagelib.errors import InvalidInput

__all__ = ["AsyncFlow", "Flow"]

Argument = TypeVar("Argument")


class AsyncFlow:
    """On an event loop."""

    @staticmethod
    def check(handler: object, name: str = "handler") -> None:
        """Raise ``InvalidInput`` for what cannot be called."""
        if not callable(handler):
            raise InvalidInput("the argument cannot be used", [f"{name}: cannot be called"])

    @staticmethod
    async def result_of(handler: Callable[[Argument], Any], argument: Argument) -> Any:
        """Call a function, plain or asynchronous, and return its result."""
        result = handler(argument)
        return await result if inspect.isawaitable(result) else result


class Flow:
    """In a thread that may be blocked."""

    @staticmethod
    def check(handler: object, name: str = "handler") -> None:
        """Raise ``InvalidInput`` for what cannot be called without an event loop."""
        AsyncFlow.check(handler, name)
        if inspect.iscoroutinefunction(handler):
            raise InvalidInput("the argument cannot be used", [f"{name}: is asynchronous; use the asynchronous store"])

    @staticmethod
    def result_of(handler: Callable[[Argument], Any], argument: Argument) -> Any:
        """Call a plain function and return its result."""
        return handler(argument)
