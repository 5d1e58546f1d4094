"""Entry point of ``llmspell``: the groups of commands, and errors as one clear text without a traceback."""

from __future__ import annotations

import sys

import typer

from storage_operator.cli import apply, database, demo, dev, operator, tenant
from storage_operator.errors import UserError

app = typer.Typer(
    name="llmspell",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Multi-tenant storage for AI agents on PostgreSQL and Kubernetes.",
)
app.command("apply")(apply.apply)
app.command("delete")(apply.delete)
app.add_typer(database.app, name="database")
app.command("demo")(demo.demo)
app.add_typer(dev.app, name="dev")
app.add_typer(operator.app, name="operator")
app.add_typer(tenant.app, name="tenant")


def run() -> None:
    """Run the command line; a mistake that a person can correct ends it with exit code 1 and its explanation."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run()
