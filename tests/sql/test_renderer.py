"""The renderer lets nothing into SQL that was not marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_sql.renderer import RenderError, ident, literal, render

NAMES = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=15)


@pytest.mark.parametrize("bare", ["name", 7, None, b"bytes", 1.5], ids=["text", "number", "none", "bytes", "float"])
def test_bare_value_raises(bare: object) -> None:
    """A value without a mark is refused before anything is rendered."""
    with pytest.raises(RenderError, match="not marked"):
        render("SELECT {{ value }}", value=bare)  # type: ignore[arg-type]


def test_constant_inside_template_raises() -> None:
    """A template can not make a value of its own either."""
    with pytest.raises(RenderError, match="only render marked"):
        render("SELECT {{ 'text' }}")


def test_boolean_steers_but_is_not_rendered() -> None:
    """A bare boolean chooses a branch; rendering it is refused."""
    assert render("{% if on %}yes{% endif %}", on=True) == "yes"
    with pytest.raises(RenderError):
        render("{{ on }}", on=True)


def test_missing_value_raises() -> None:
    """A name that was not given is an error, never an empty text."""
    with pytest.raises(RenderError):
        render("SELECT {{ absent }}")


def test_bare_value_inside_a_list_raises() -> None:
    """Marks are required at any depth."""
    with pytest.raises(RenderError, match="not marked"):
        render("{% for x in xs %}{{ x }}{% endfor %}", xs=["bare"])


@given(NAMES)
def test_identifier_survives_quoting(name: str) -> None:
    """Undoing the quotes gives the name back, whatever it holds."""
    quoted = render("{{ name }}", name=ident(name))
    assert quoted[0] == quoted[-1] == '"'
    assert quoted[1:-1].replace('""', "").count('"') == 0
    assert quoted[1:-1].replace('""', '"') == name


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
def test_literal_survives_quoting(text: str) -> None:
    """Undoing the quotes and backslashes gives the text back."""
    quoted = render("{{ text }}", text=literal(text))
    body = quoted.removeprefix(" E")[1:-1].replace("''", "'")
    assert (body.replace("\\\\", "\\") if "\\" in text else body) == text


@pytest.mark.parametrize(
    ("value", "rendered"),
    [(None, "NULL"), (True, "true"), (False, "false"), (-3, "-3"), ("o'clock", "'o''clock'"), ("a\\", " E'a\\\\'")],
    ids=["null", "true", "false", "number", "quote", "backslash"],
)
def test_literal_forms(value: str | int | bool | None, rendered: str) -> None:
    """Each type has one form."""
    assert str(literal(value)) == rendered


@pytest.mark.parametrize("mark", [ident, literal], ids=["ident", "literal"])
@pytest.mark.parametrize(
    "hostile", ["a\0b", "a\nb", "a\x1bb", "a\ud800b"], ids=["nul", "newline", "escape", "surrogate"]
)
def test_control_characters_raise(mark: type, hostile: str) -> None:
    """Characters that end comments or confuse logs are refused."""
    with pytest.raises(RenderError):
        mark(hostile)


@pytest.mark.parametrize(("name", "fits"), [("a" * 63, True), ("a" * 64, False), ("ä" * 31, True), ("ä" * 32, False)])
def test_identifier_length_is_in_bytes(name: str, fits: bool) -> None:
    """PostgreSQL cuts at 63 bytes, so a longer name is refused instead."""
    if fits:
        assert ident(name).name == name
    else:
        with pytest.raises(RenderError, match="63 bytes"):
            ident(name)


@pytest.mark.parametrize("value", ["", 5, None], ids=["empty", "number", "none"])
def test_identifier_must_be_a_name(value: object) -> None:
    """An identifier is text that is not empty."""
    with pytest.raises(RenderError):
        ident(value)


def test_dollar_quote_in_value_raises() -> None:
    """A value can not end the body of a function early."""
    template = "DO $body$ BEGIN PERFORM {{ name }}; END $body$"
    with pytest.raises(RenderError, match="dollar quote"):
        render(template, name=ident("x$body$ DROP"))
    assert "x$other$" in render(template, name=ident("x$other$"))
