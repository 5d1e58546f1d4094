"""The library's statements: what their files say, and that no caller's value spoils them for another."""

from __future__ import annotations

from importlib import resources

import pytest

from storage_sql import queries
from storage_sql.renderer import ident, literal

STORES = sorted(
    entry.name.removesuffix(".sql")
    for entry in resources.files("storage_sql").joinpath("queries").iterdir()
    if entry.name.endswith(".sql")
)
NAMES = {"schema": ident("llmspell"), "extensions": ident("public")}


@pytest.mark.parametrize("store", STORES)
def test_every_statement_names_its_parameters(store: str) -> None:
    """Each declared parameter is used where no flag decides, and nothing of a template is left."""
    for query in queries.load(store).values():
        assert query.text, query.name
        if "{%" not in query.text and "table" not in query.text:
            compiled = queries.compile_query(query, NAMES)
            assert "{{" not in compiled.text
            assert {name for name, _ in compiled.parameters} >= set(query.types) - set(query.values), query.name


def test_casts_are_no_parameters() -> None:
    """And a parameter that is used twice has one number."""
    query = queries.Query("test.q", "SELECT :a::text, :b, :a", {"a": "text", "b": "bigint"})
    compiled = queries.compile_query(query, NAMES)
    assert compiled.text == "SELECT $1::text, $2, $1"
    assert compiled.parameters == (("a", "text"), ("b", "bigint"))


def test_a_parameter_without_a_type_is_refused() -> None:
    """It would be guessed from its value."""
    with pytest.raises(ValueError, match="without a type"):
        queries.compile_query(queries.Query("test.q", "SELECT :a", {}), NAMES)


@pytest.mark.parametrize("mark", [1, 0, "x", None, 1.0])
def test_a_flag_is_a_flag(mark: object) -> None:
    """1 equals True: taken for it in the cache, it would spoil the statement for everybody."""
    query = queries.Query("test.q", "SELECT {% if flag %}1{% else %}2{% endif %}", {})
    with pytest.raises(ValueError, match="flag"):
        query.variant(flag=mark)  # type: ignore[arg-type]
    assert queries.compile_query(query.variant(flag=True), NAMES).text == "SELECT 1"
    assert query.variant(flag=True) is query.variant(flag=True)
    assert query.variant(flag=False) is not query.variant(flag=True)
    assert query.variant(flag=ident("x")) is not query.variant(flag=literal("x"))


def test_clauses_stand_where_they_belong() -> None:
    """With their parameters; the statement is planned anew each time, and its base is as before."""
    base = queries.Query("test.q", "SELECT 1 WHERE true /* filter */", {})
    filled = base.with_clause("filter", "AND :f1 > 2", {"f1": ("bigint", 3)})
    compiled = queries.compile_query(filled, NAMES)
    assert compiled.text == "SELECT 1 WHERE true AND $1 > 2"
    assert not filled.prepared
    assert base.prepared
    assert filled.values == {"f1": 3}
    with pytest.raises(ValueError, match="no clause"):
        base.with_clause("other", "", {})
