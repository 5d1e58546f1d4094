"""What answers is judged before anything is done with it: extensions that are missing or too old have one reason."""

from __future__ import annotations

import pytest

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.adapters.postgres.installation import _judged

NEW_ENOUGH = {"version": "18.1", "version_num": 180_001, "database": "agents", "schema_mark": None, "tables": 0}


@pytest.mark.parametrize(
    ("extensions", "why"),
    [(None, "extension vector is not in database agents"), ({"vector": "0.7.4"}, "ALTER EXTENSION vector UPDATE")],
    ids=["missing", "too-old"],
)
def test_an_unfit_pgvector_is_refused(extensions: dict[str, str] | None, why: str) -> None:
    """The fault says what a superuser does about it; white-box, since no server here has an old pgvector."""
    with pytest.raises(DatabaseFault, match=why) as raised:
        _judged({**NEW_ENOUGH, "extensions": extensions}, "llmspell")
    assert raised.value.reason == "ExtensionMissing"
