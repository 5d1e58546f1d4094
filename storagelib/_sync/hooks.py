# Made from storagelib/_async/hooks.py by scripts/sync; change that file instead.
"""What hooks did: recorded, asked for, replayed and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from storagelib.components.hooks import (
    Durations,
    Execution,
    ExecutionDifference,
    NewExecution,
    Question,
    Replay,
    RetentionPolicy,
    RunDifference,
    Statistics,
    compared,
    differences,
)
from storagelib.components.redaction import Redaction, redacted
from storagelib.compression import compress
from storagelib.documents import Document, Json, canonical, check_document, check_metadata
from storagelib.errors import InvalidInput, NotFound
from storagelib.flows import Flow
from storagelib.identifiers import uuid7
from storagelib.limits import (
    PAGE_DEFAULT,
    check_flag,
    check_integer,
    check_page_size,
    check_tags,
    check_text,
    check_time,
)
from storagelib.pages import Page, page_of, position_of

__all__ = ["Hooks", "HooksBackend"]

_TYPE_MAX: Final = 100
_REASON_MAX: Final = 500
_RUN_MAX: Final = 10_000
_RUN_PAGE: Final = 200
_MILLISECONDS_MAX: Final = 1e12
_MICROSECONDS: Final = 1000
_AGE_MAX: Final = timedelta(days=36_525)


class HooksBackend(Protocol):
    """What a backend does for one tenant; arguments are checked already, errors are ``StorageError``.

    Executions are never changed. Their order is the one of (timestamp, execution_id).
    """

    def record(self, new: NewExecution) -> None:
        """Keep an execution; without a timestamp it ran now."""
        ...

    def get(self, execution_id: UUID) -> Execution | None:
        """Return an execution."""
        ...

    def executions(self, question: Question, after: tuple[datetime, UUID] | None, limit: int) -> list[Execution]:
        """Return up to ``limit`` executions after (timestamp, execution_id) in the question's order."""
        ...

    def durations(
        self, hook_id: str | None, since: datetime | None, until: datetime | None, after: str | None, limit: int
    ) -> list[Durations]:
        """Return how long hooks take, those greater than ``after`` or one, in order of their code points."""
        ...

    def statistics(self) -> Statistics:
        """Count what is there, in one snapshot."""
        ...

    def retain(self, policy: RetentionPolicy, limit: int, reason: str) -> int:
        """Remove up to ``limit`` executions that a policy does not keep, leave a trace if any; count them."""
        ...

    def erase(self, correlation_id: str, reason: str) -> int:
        """Remove the executions of a correlation id, leave a trace; count them."""
        ...


class Hooks:
    """The hook history of one tenant: recorded once, never changed, replayed and compared.

    >>> from storagelib import Store, StoreConfig
    >>> def example() -> None:
    ...     with Store.open(StoreConfig.in_memory()) as store:
    ...         hooks = store.for_tenant("acme").hooks
    ...         hooks.record(
    ...             "shorten", "after_tool", triggering_component="agent", duration_ms=0.25, correlation_id="run-1",
    ...             input={"text": "weather", "token": "s3cret"}, output="weat", redact=["input.token"],
    ...         )
    ...         (seen,) = (hooks.query(hook_id="shorten")).items
    ...         print(seen.input, seen.output)
    ...         replay = hooks.replay("run-1", lambda execution: execution.input["text"][:4])
    ...         print(len(replay.differing))
    >>> example()
    {'text': 'weather', 'token': '[redacted]'} weat
    0
    """

    def __init__(self, backend: HooksBackend) -> None:
        """Take the tenant's backend."""
        self._backend = backend

    def record(
        self,
        hook_id: str,
        hook_type: str,
        *,
        triggering_component: str,
        input: Json,  # noqa: A002 - what it is
        output: Json = None,
        error: str | BaseException | None = None,
        duration_ms: float,
        correlation_id: str | None = None,
        tags: Iterable[str] = (),
        retention_priority: int = 0,
        metadata: Document | None = None,
        redact: Redaction = (),
        timestamp: datetime | None = None,
    ) -> UUID:
        """Record one execution and return its id.

        ``input`` and ``output`` are JSON values; the input is packed when that makes it smaller. ``duration_ms`` is kept to
        the microsecond. An exception as ``error`` is kept as its type and text. Without a correlation id it gets a new
        one, without a timestamp it ran now. ``redact`` names what is left out of ``input``, ``output``, ``error`` and
        ``metadata`` before anything is stored: paths such as ``"input.user.password"`` or ``"output.**.token"``, or a
        function that gets the name of a part and its value and returns the value to keep.
        """
        parts = {
            "input": input,
            "output": output,
            "error": _error(error),
            "metadata": {} if metadata is None else metadata,
        }
        kept = redacted(parts, redact)
        failure = kept["error"]
        if failure is not None and not isinstance(failure, str):
            raise InvalidInput("the argument cannot be used", ["error: must be text or an exception"])
        context = check_document(kept["input"], "input").encode()
        packed = compress(context)
        new = NewExecution(
            uuid7(),
            check_text("hook_id", hook_id),
            check_text("hook_type", hook_type, most=_TYPE_MAX),
            str(uuid7()) if correlation_id is None else check_text("correlation_id", correlation_id),
            check_text("triggering_component", triggering_component),
            context if packed is None else packed,
            packed is not None,
            len(context),
            check_document({"output": kept["output"], "error": failure}, "output"),
            failure is not None,
            None if timestamp is None else check_time("timestamp", timestamp),
            _microseconds("duration_ms", duration_ms),
            check_tags(tags),
            check_integer("retention_priority", retention_priority),
            check_metadata(kept["metadata"]),
        )
        self._backend.record(new)
        return new.execution_id

    def get(self, execution_id: UUID | str) -> Execution:
        """Return an execution; raises ``NotFound``."""
        asked = _id("execution_id", execution_id)
        found = self._backend.get(asked)
        if found is None:
            raise NotFound(f"there is no execution {asked}")
        return found

    def query(
        self,
        *,
        hook_id: str | None = None,
        hook_type: str | None = None,
        triggering_component: str | None = None,
        correlation_id: str | None = None,
        tags: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        failed: bool | None = None,
        min_duration_ms: float | None = None,
        newest_first: bool = True,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Execution]:
        """Return a page of executions for which everything given holds, every tag among them; latest first.

        ``since`` is included, ``until`` is not. Hook, type, component, correlation id and time have indexes; tags, errors
        and durations are looked for among what those leave.
        """
        check_page_size(limit)
        question = Question(
            None if hook_id is None else check_text("hook_id", hook_id),
            None if hook_type is None else check_text("hook_type", hook_type, most=_TYPE_MAX),
            None if triggering_component is None else check_text("triggering_component", triggering_component),
            None if correlation_id is None else check_text("correlation_id", correlation_id),
            check_tags(tags),
            None if since is None else check_time("since", since),
            None if until is None else check_time("until", until),
            None if failed is None else check_flag("failed", failed),
            None if min_duration_ms is None else _microseconds("min_duration_ms", min_duration_ms),
            check_flag("newest_first", newest_first),
        )
        at = position_of(cursor, datetime, UUID)
        after = None if at is None else (at[0], at[1])
        return page_of(self._backend.executions(question, after, limit + 1), limit, "timestamp", "execution_id")

    def durations(
        self,
        *,
        hook_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        cursor: str | None = None,
        limit: int = PAGE_DEFAULT,
    ) -> Page[Durations]:
        """Return a page of how long each hook takes, in order of the hooks' code points; or of one hook."""
        check_page_size(limit)
        at = position_of(cursor, str)
        found = self._backend.durations(
            None if hook_id is None else check_text("hook_id", hook_id),
            None if since is None else check_time("since", since),
            None if until is None else check_time("until", until),
            None if at is None else at[0],
            limit + 1,
        )
        return page_of(found, limit, "hook_id")

    def statistics(self) -> Statistics:
        """Count executions, errors, hooks, types and bytes; reads every execution."""
        return self._backend.statistics()

    def apply_retention(self, policy: RetentionPolicy, *, reason: str = "retention") -> int:
        """Remove what a policy does not keep, lowest priority first and the oldest of it first; count them.

        It goes in steps of 10,000, each complete in itself, and each leaves a trace.
        """
        _check_policy(policy)
        why = check_text("reason", reason, most=_REASON_MAX)
        total = 0
        while True:
            removed = self._backend.retain(policy, _RUN_MAX, why)
            total += removed
            if removed < _RUN_MAX:
                return total

    def erase(self, correlation_id: str, reason: str) -> int:
        """Remove every execution of a correlation id for good and count them; a trace with the reason stays."""
        return self._backend.erase(
            check_text("correlation_id", correlation_id), check_text("reason", reason, most=_REASON_MAX)
        )

    def replay(self, correlation_id: str, handler: Callable[[Execution], Any]) -> Replay:
        """Run ``handler`` over the recorded executions of a correlation id, in their order, and compare what it returns.

        The handler gets the execution with its recorded input, and returns the output or raises. What differs from the
        recorded output or error is told; what was redacted there equals anything. The recorded time is in the execution,
        so that a handler need not look at the clock. Nothing is stored. Raises ``NotFound`` when there is no execution.
        """
        name = check_text("correlation_id", correlation_id)
        Flow.check(handler)
        differing: list[ExecutionDifference] = []
        executions, after = 0, None
        while True:
            found = self._backend.executions(Question(correlation_id=name), after, _RUN_PAGE)
            for execution in found:
                outcome: dict[str, Json] = {"output": None, "error": None}
                try:
                    output = Flow.result_of(handler, execution)
                except Exception as error:  # noqa: BLE001 - a handler that fails is what is compared
                    outcome["error"] = _error(error)
                else:
                    outcome["output"] = canonical(output, "output")
                recorded = {"output": execution.output, "error": execution.error}
                if found_differences := differences(recorded, outcome):
                    differing.append(
                        ExecutionDifference(execution.hook_id, execution.execution_id, None, tuple(found_differences))
                    )
            executions += len(found)
            if len(found) < _RUN_PAGE:
                break
            after = (found[-1].timestamp, found[-1].execution_id)
        if not executions:
            raise NotFound(f"no execution has the correlation id {name!a}")
        return Replay(name, executions, tuple(differing))

    def diff(self, first: str | UUID, second: str | UUID) -> RunDifference:
        """Compare two runs, by their correlation ids, or two executions, by their ids as ``UUID``.

        The executions of each hook are compared in their order: inputs, outputs and errors, not times. A run of more
        than 10,000 executions is ``InvalidInput``; ``NotFound`` when one is not there.
        """
        one, other = _run("first", first), _run("second", second)
        return compared(self._executed(one), self._executed(other))

    def _executed(self, run: str | UUID) -> list[Execution]:
        if isinstance(run, UUID):
            return [self.get(run)]
        question = Question(correlation_id=run)
        executions: list[Execution] = []
        while True:
            after = (executions[-1].timestamp, executions[-1].execution_id) if executions else None
            found = self._backend.executions(question, after, _RUN_PAGE)
            executions += found
            if len(executions) > _RUN_MAX:
                raise InvalidInput("the run cannot be compared", [f"{run!a}: has more than {_RUN_MAX} executions"])
            if len(found) < _RUN_PAGE:
                break
        if not executions:
            raise NotFound(f"no execution has the correlation id {run!a}")
        return executions


def _run(name: str, run: object) -> str | UUID:
    return run if isinstance(run, UUID) else check_text(name, run)


def _error(error: object) -> object:
    if not isinstance(error, BaseException):
        return error
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _microseconds(name: str, milliseconds: object) -> int:
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a number of milliseconds"])
    if not 0 <= milliseconds <= _MILLISECONDS_MAX:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be from 0 to {_MILLISECONDS_MAX:g}"])
    return round(milliseconds * _MICROSECONDS)


def _id(name: str, value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(check_text(name, value))
    except ValueError:
        raise InvalidInput("the argument cannot be used", [f"{name}: must be a UUID"]) from None


def _check_policy(policy: Any) -> None:
    if not isinstance(policy, RetentionPolicy):
        raise InvalidInput("the argument cannot be used", ["policy: must be a RetentionPolicy"])
    if policy.max_age is None and policy.max_executions is None and policy.max_bytes is None:
        raise InvalidInput("the argument cannot be used", ["policy: bounds nothing"])
    age: Any = policy.max_age
    if age is not None and (not isinstance(age, timedelta) or not timedelta(0) <= age <= _AGE_MAX):
        raise InvalidInput("the argument cannot be used", ["policy.max_age: must be a timedelta of 0 to 100 years"])
    for name in ("max_executions", "max_bytes"):
        if getattr(policy, name) is not None:
            check_integer(f"policy.{name}", getattr(policy, name), least=0)
    if policy.protected_from is not None:
        check_integer("policy.protected_from", policy.protected_from)
