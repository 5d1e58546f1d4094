"""Log records: one line each, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from storage_operator import logs

SECRETS = {
    "uri": "cannot reach postgresql://app:hunter2@db:5432/x?sslmode=require",
    "uri-with-at": "postgres://app:hunter2@hunter2@db/x",
    "keyword": "host=db user=app password=hunter2 dbname=x",
    "quoted": "conninfo: password='hunter2 hunter2' host=db",
    "json": '{"password": "hunter2", "user": "app"}',
    "python": "{'password': 'hunter2'}",
    "verifier": "ALTER ROLE a PASSWORD 'SCRAM-SHA-256$4096:hunter2hunter2==$hunter2=:hunter2='",
    "bearer": "Authorization: Bearer hunter2hunter2",
    "token": "token=hunter2",
}


@pytest.fixture
def restored() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(log_format: str, message: str, *arguments: object, **options: object) -> str:
    """Log one record and return what was written."""
    stream = io.StringIO()
    logs.configure(log_format, "INFO", stream)
    logging.getLogger("test").warning(message, *arguments, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_no_secret_is_written(restored: None, log_format: str, text: str) -> None:
    """In the message, in its arguments, in an exception and in extra fields."""
    output = written(log_format, "failed: %s", text, exc_info=ValueError(text), extra={"detail": text})
    assert "hunter2" not in output
    assert "redacted" in output


def test_a_jwt_and_a_capability_are_secrets_too() -> None:
    """They have a shape of their own."""
    assert "eyJ" not in logs.redact("got eyJhbGciOiJSUzI1NiIsImtpZCI6Ing.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2ln from it")
    assert "abab" not in logs.redact(f"capability v2.{'ab' * 32} refused")


def test_json_is_one_object_a_line_with_the_extra_fields(restored: None) -> None:
    """A line feed in a message does not make two records."""
    output = written("json", "two\nlines", extra={"tenant": "acme", "seconds": 1.5})
    assert output.count("\n") == 1
    record = json.loads(output)
    assert (record["message"], record["tenant"], record["seconds"]) == ("two\nlines", "acme", 1.5)
    assert record["level"] == "warning"


def test_harmless_text_stays_as_it_is() -> None:
    """Redaction that eats the cause of a failure would be worse than none."""
    for text in ("password authentication failed for user app", "Secret a/b exists", "http://db:8080/path at host"):
        assert logs.redact(text) == text
