"""Log output: one record a line, as JSON for machines or text for terminals, with secrets removed on the way out."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import traceback
from typing import Any, TextIO

REDACTED = "[redacted]"
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # A password inside a URL: up to the last @ before the host, because generated passwords may hold anything.
    (re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]*(?=@)", re.IGNORECASE), rf"\g<head>{REDACTED}"),
    (re.compile(r"SCRAM-SHA-256\$[^\s'\",)]+"), f"SCRAM-SHA-256${REDACTED}"),
    (re.compile(r"(?P<head>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\g<head>{REDACTED}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), REDACTED),
    (re.compile(r"\bv\d+\.[0-9a-f]{64}\b"), REDACTED),
    (
        re.compile(
            r"(?P<head>[\"']?\b(?:password|passwd|pgpassword|secret|token|capability)\b[\"']?\s*[=:]\s*)"
            r"(?:'[^']*'|\"[^\"]*\"|[^\s,;)}\]]+)",
            re.IGNORECASE,
        ),
        rf"\g<head>{REDACTED}",
    ),
)
OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """Replace passwords, tokens, capabilities and verifiers in a text."""
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.__dict__.items()
        if name not in OWN_FIELDS and not name.startswith(("_", "k8s_", "settings"))
    }


def _failure(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)).rstrip() if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """One JSON object a record, on one line; extra fields of the record become fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        fields: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in _extras(record).items():
            fields[name] = value if isinstance(value, (int, float, bool)) or value is None else redact(str(value))
        if failure := _failure(record):
            fields["error"] = redact(failure)
        return json.dumps(fields, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Time, level, message and extra fields, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Render the record."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
        extras = "".join(f" {name}={value}" for name, value in _extras(record).items())
        text = f"{moment} {record.levelname:<7} {record.getMessage()}{extras}"
        failure = _failure(record)
        return redact(f"{text}\n{failure}" if failure else text)


def configure(log_format: str = "json", level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger of the process to one stream, formatted and redacted."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # Their INFO lines are about their own machinery, several an object.
    for name in ("kopf", "aiohttp.access", "asyncio", "psycopg.pool", "kubernetes"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
