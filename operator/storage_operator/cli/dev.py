"""``llmspell dev``: a PostgreSQL and a Kubernetes control plane on this machine, for trying things out and for tests."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict
from typing import Annotated

import typer

from storage_operator.cli.progress import ProgressLine
from storage_operator.devenv.container import DEFAULT_IMAGE
from storage_operator.devenv.environment import (
    DEFAULT_NAME,
    KUBECONFIG_VARIABLE,
    POSTGRES_URL_VARIABLE,
    Environment,
    PartState,
    PostgresSource,
    Wishes,
)
from storage_operator.errors import UserError

app = typer.Typer(no_args_is_help=True, help="A development environment on this machine: PostgreSQL and Kubernetes.")

Name = Annotated[str, typer.Option("--name", help="Which environment; several can be up at once.")]


@app.command()
def up(
    *,
    name: Name = DEFAULT_NAME,
    postgres_url: Annotated[
        str | None,
        typer.Option(help=f"Use this PostgreSQL (superuser's DSN) and start none. Also: {POSTGRES_URL_VARIABLE}."),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help=f"Use this cluster and start none. Also: {KUBECONFIG_VARIABLE}.")
    ] = None,
    postgres: Annotated[PostgresSource, typer.Option(help="Where a PostgreSQL of our own comes from.")] = (
        PostgresSource.EMBEDDED
    ),
    image: Annotated[str, typer.Option(help="The image for --postgres=container.")] = DEFAULT_IMAGE,
    cluster: Annotated[bool, typer.Option(help="Start a Kubernetes control plane, too.")] = True,
    controller_manager: Annotated[
        bool, typer.Option(help="Add garbage collection, namespaces' deletion and workload controllers.")
    ] = False,
    postgres_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 0,
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="The API server's port; 0: any free port.")] = 0,
) -> None:
    """Start the environment; what runs already is left alone. The first start builds Kubernetes, which takes minutes."""
    started = time.monotonic()
    wishes = Wishes(
        postgres_url=postgres_url,
        kubeconfig=kubeconfig,
        postgres=postgres,
        image=image,
        cluster=cluster,
        controller_manager=controller_manager,
        postgres_port=postgres_port,
        api_port=api_port,
    )
    environment = Environment(name)
    with ProgressLine() as progress:
        environment.up(wishes, progress)
    _print_table(environment.status())
    print(f'\nUp after {time.monotonic() - started:.1f} s. In this shell:\n  eval "$({_command("env", name)})"')


@app.command()
def down(name: Name = DEFAULT_NAME) -> None:
    """Stop the environment and delete its data. What others run is left alone; built programs stay in the cache."""
    existed = Environment(name).down()
    print(f"The environment {name} is down and its data deleted." if existed else f"The environment {name} was not up.")


@app.command()
def status(
    name: Name = DEFAULT_NAME,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object instead of a table.")] = False,
) -> None:
    """Show each part. The exit code is 0 when all of them run, 1 when one is stopped, 3 when nothing is up."""
    parts = Environment(name).status()
    if as_json:
        print(json.dumps({"name": name, "parts": [asdict(part) for part in parts]}, indent=2))
    elif parts:
        _print_table(parts)
    else:
        print(f"The environment {name} is not up. Run: {_command('up', name)}")
    if not parts:
        raise typer.Exit(3)
    if any(part.state == "stopped" for part in parts):
        raise typer.Exit(1)


@app.command()
def env(name: Name = DEFAULT_NAME) -> None:
    """Print lines for a shell: KUBECONFIG, the superuser's DSN, and the folder of kubectl and psql in PATH."""
    for variable, value in Environment(name).variables().items():
        suffix = ':"$PATH"' if variable == "PATH" else ""
        print(f"export {variable}={shlex.quote(value)}{suffix}")


@app.command()
def logs(
    part: Annotated[
        str | None, typer.Argument(help="postgres, etcd, kube-apiserver or kube-controller-manager.")
    ] = None,
    name: Name = DEFAULT_NAME,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many of the last lines.")] = 50,
) -> None:
    """Print the last lines of the logs of all parts, or of one."""
    found = Environment(name).logs(lines)
    if part is not None and part not in found:
        known = f"It has: {', '.join(found)}" if found else f"Run: {_command('up', name)}"
        raise UserError(f"the environment {name} has no log of {part!r}", fix=known)
    for title, text in found.items():
        if part in (None, title):
            print(text if part else f"--- {title}\n{text}")


def _command(verb: str, name: str) -> str:
    return f"llmspell dev {verb}" + ("" if name == DEFAULT_NAME else f" --name {name}")


def _print_table(parts: list[PartState]) -> None:
    rows = [("PART", "STATE", "PID", "ADDRESS")]
    rows += [(part.part, part.state, str(part.pid or ""), part.address) for part in parts]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    sys.stdout.writelines(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )
