"""Paths that are made to be slow, and paths that are too long."""

from __future__ import annotations

import time

import pytest

from storagelib.components.redaction import redacted
from storagelib.documents import Json
from storagelib.errors import InvalidInput


def test_many_deep_words_are_matched_in_time() -> None:
    """Each place in a document is seen once for a path, however many ways lead there."""
    document: Json = 1
    for _ in range(40):
        document = {"a": document, "b": 1}
    began = time.thread_time()
    assert redacted({"input": document}, ["input" + ".**" * 200 + ".x"]) == {"input": document}
    found = redacted({"input": document}, ["input" + ".**.a" * 40])
    assert time.thread_time() - began < 2
    for _ in range(39):
        found = {"input": found["input"]["a"]}  # type: ignore[index, call-overload]
    assert found == {"input": {"a": "[redacted]", "b": 1}}


def test_a_path_of_too_many_words_is_refused() -> None:
    """Before anything is matched, in both spellings."""
    for path in ("input" + ".**" * 1000, ("input", *["a"] * 256)):
        with pytest.raises(InvalidInput, match="at most 256"):
            redacted({"input": {"a": 1}}, [path])


def test_deep_words_stand_for_none_too() -> None:
    """Two of them are worth one, at the end they are worth everything, and what is null stays null."""
    document = {"a": {"x": 1, "y": None}, "x": {"x": 2}, "l": [{"x": None}, {"x": 3}]}
    once = redacted({"input": document}, ["input.**.x"])
    assert once == {
        "input": {"a": {"x": "[redacted]", "y": None}, "x": "[redacted]", "l": [{"x": None}, {"x": "[redacted]"}]}
    }
    assert redacted({"input": document}, ["input.**.**.x"]) == once
    assert redacted({"input": document}, ["input.**"]) == {"input": "[redacted]"}
    assert redacted({"input": document}, ["input.*.*.x"])["input"] == {
        **document,
        "l": [{"x": None}, {"x": "[redacted]"}],
    }
