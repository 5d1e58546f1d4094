"""The hook through which a project adds what it wants to be tested."""

from __future__ import annotations

import pytest

from storagelib.conformance.subjects import Subject

__all__ = ["pytest_llmspell_subjects"]


@pytest.hookspec
def pytest_llmspell_subjects(config: pytest.Config) -> list[Subject]:  # type: ignore[empty-body]
    """Return more subjects of the conformance tests."""
