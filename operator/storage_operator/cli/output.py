"""What every command shares: tables and JSON on standard output, notes on standard error, errors as one line."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage_operator.adapters.postgres.faults import DatabaseFault
from storage_operator.errors import OperatorError, Refused, UserError, Waiting
from storage_operator.resources.conditions import clean_message
from storage_sql.bootstrap import BootstrapError
from storage_sql.effects import SqlFailure
from storage_sql.migrations import MigrationError

Result = TypeVar("Result")
_LOG_WIDTH = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_BOOTSTRAP = "Run `llmspell database bootstrap` once as a superuser"
_FIXES = {
    "ConnectionStringInvalid": "Write it as postgresql://user:password@host:port/database",
    "Unreachable": "Check host and port, and that the server runs",
    "AuthenticationFailed": "Check user and password",
    "DatabaseMissing": _BOOTSTRAP,
    "NotBootstrapped": _BOOTSTRAP,
    "ExtensionMissing": _BOOTSTRAP,
    "PrivilegesMissing": "`llmspell database bootstrap --print` shows the exact grants",
    "ForeignSchema": "Choose another schema or database",
    "ServerTooOld": "Update the server",
    "ServerReadOnly": "Connect to the primary",
    "MigrationsPending": "Run `llmspell database migrate`",
}


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's coroutine to its end; every expected fault leaves as a ``UserError``."""
    with explained():
        return asyncio.run(work)


@contextmanager
def explained(what: str = "") -> Iterator[None]:
    """Turn what databases, plans and files raise on purpose into one line for a person."""
    try:
        yield
    except UserError:
        raise
    except DatabaseFault as fault:
        raise _told(what or fault.reason, fault.message, _FIXES.get(fault.reason, "")) from None
    except (Refused, Waiting) as error:
        raise _told(what or error.reason, error.message) from None
    except OperatorError as error:
        raise _told(what or type(error).__name__, str(error)) from None
    except (BootstrapError, MigrationError) as error:
        raise _told(what or type(error).__name__, str(error)) from None
    except SqlFailure as failure:
        raise _told(what or "the database refused a statement", f"{failure.message} ({failure.sqlstate})") from None


def _told(what: str, why: str, fix: str = "") -> UserError:
    return UserError(plain(what), clean_message(why).rstrip("."), "" if fix and _says(why, fix) else fix)


def _says(why: str, fix: str) -> bool:
    """Whether a message names the command already that the fix would name again."""
    command = re.search(r"`([^`]+)`", fix)
    return command is not None and command[1].split(" --")[0] in why


def plain(text: object) -> str:
    """Make foreign text fit for a terminal: one line, nothing that moves the cursor or turns the text around."""
    return _UNPRINTABLE.sub(" ", str(text)).strip()


def note(text: str) -> None:
    """Tell something beside the result, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Print a result for programs."""
    print(json.dumps(value, indent=2, default=_encoded, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a result for people; cells are text as it is, never markup."""
    console = Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH, no_color=True)
    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> Text:
    text = "" if value is None else plain(value)
    style = {"True": "green", "False": "red", "Unknown": "yellow"}.get(text, "")
    return Text(text, style=style)


def _encoded(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (tuple, frozenset, set)):
        return sorted(value) if isinstance(value, (frozenset, set)) else list(value)
    return plain(value)
