"""Which release of this library is running."""

from __future__ import annotations

__all__ = ["release_name"]


def release_name() -> str:
    """Return the version that is installed; ``unreleased`` for code that never was."""
    # Not at the top: only migrations and reports ask.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("llmspell-storage")
    except PackageNotFoundError:
        return "unreleased"
