"""State files: how a later command finds what an earlier one started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from storage_operator.errors import UserError

T = TypeVar("T")


def read_state(file: Path, parse: Callable[[str], T]) -> T | None:
    """Return what the file says, None when there is none; a file that makes no sense is reported, never overwritten."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is damaged", f"{type(error).__name__}: {error}", "Delete it and start again"
        ) from error
