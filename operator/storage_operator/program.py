"""What the command ``llmspell`` starts: the command line, or one clear text where its packages are not installed."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line; the library alone comes without the packages that it needs, ``cli`` without the operator's."""
    try:
        from storage_operator.cli.main import run as run_command  # noqa: PLC0415 - its packages may be missing

        run_command()
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed. Run: pip install 'llmspell-storage[operator]'")
