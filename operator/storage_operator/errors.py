# ruff: noqa: N818 - the names say what happened and read as such where they are raised
"""The tree of errors that the operator and its command line raise.

Errors are grouped by what a caller can do about them, not by where they come from:

- ``UserError``: a person must change the input; shown as one clear text, never as a traceback.
- ``Refused``: what was asked is not done, and trying again unchanged would not help.
- ``Waiting``: something else has to happen first; try again after a while.
- ``ApiError``: the Kubernetes API server answered badly or not at all; adapters translate every client error to these.
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(OperatorError):
    """A mistake that the person at the command line can correct: what failed, why, and how to fix it."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        """Keep the three sentences apart, so that a terminal and JSON output can lay them out differently."""
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        """Join the parts that are present into one line."""
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}. {self.fix}" if self.fix else text


class Refused(OperatorError):
    """What was asked is not done; it becomes a condition and is not retried until something changes."""

    def __init__(self, reason: str, message: str) -> None:
        """Take the condition's documented CamelCase reason and a message without secrets."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class SecretNotOurs(Refused):
    """A Secret of the wanted name exists and does not carry our owner reference, so it is left alone."""

    def __init__(self, namespace: str, name: str) -> None:
        """Name the Secret that stands in the way."""
        super().__init__(
            "SecretNotOurs",
            f"Secret {namespace}/{name} exists and is not owned by this resource; "
            "delete it or choose another name with spec.credentials.secretName",
        )
        self.namespace = namespace
        self.name = name


class Waiting(OperatorError):
    """Something else has to happen first; it becomes a condition and is retried."""

    def __init__(self, reason: str, message: str, retry_after: float | None = None) -> None:
        """Take the reason, a message without secrets, and the seconds to wait (None: the queue's own backoff)."""
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class ApiError(OperatorError):
    """The Kubernetes API server refused a request; ``status`` is its HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        """Keep the code and the server's own advice on when to come back."""
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ApiConflict(ApiError):
    """The object changed, exists already or is not the one expected (409, or a failed JSON patch test)."""


class ApiNotFound(ApiError):
    """The object, or its kind, does not exist (404)."""


class ApiForbidden(ApiError):
    """The service account may not do this (401 or 403); names the missing right."""


class ApiInvalid(ApiError):
    """The API server's validation refused the object (400, 413, 422)."""


class ApiUnavailable(ApiError):
    """No usable answer: connection refused, time-out, throttled (429) or a server error (5xx); worth a retry."""


class LeaseLost(OperatorError):
    """Leadership ended: another candidate holds the Lease, or it could not be renewed in time."""
