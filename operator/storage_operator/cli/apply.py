"""``llmspell apply`` and ``llmspell delete``: the same manifests straight on PostgreSQL, without Kubernetes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from storage_operator.adapters.files import Manifests
from storage_operator.cli import output
from storage_operator.cli.database import OPERATOR_VARIABLE
from storage_operator.cli.plans import Change, planned, planned_deletions
from storage_operator.cli.progress import ProgressLine
from storage_operator.cli.workspace import (
    Line,
    Workspace,
    credentials_folder,
    existing,
    locked,
    opened,
    read_manifests,
)
from storage_operator.errors import UserError
from storage_operator.resources.kinds import Kind
from storage_operator.resources.names import default_secret_name
from storage_operator.world import Body, Key, SecretObject

COLUMNS = ("kind", "name", "ready", "reason", "message")
CHANGE_COLUMNS = ("kind", "name", "change", "why")

Files = Annotated[
    list[Path], typer.Option("--filename", "-f", help="A folder or file of manifests; repeat for several.")
]
Credentials = Annotated[
    str | None,
    typer.Option(
        help="Folder that keeps the tenants' credentials, - to print them; by default below the user's state folder, "
        "one for each folder of manifests."
    ),
]
AdminUrl = Annotated[
    str | None,
    typer.Option(
        "--postgres-url",
        envvar=OPERATOR_VARIABLE,
        show_envvar=False,
        help=f"The operator's DSN, instead of the Secret that the StorageCluster names. Also: {OPERATOR_VARIABLE}.",
    ),
]
Timeout = Annotated[float, typer.Option(min=0, max=3600, help="Seconds to go on trying while something is not there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def apply(
    *,
    filename: Files,
    credentials: Credentials = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    postgres_url: AdminUrl = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Bring a database to what manifests declare: clusters, then components, then tenants, with the operator's own code.

    It may be killed at any moment and run again. Credentials are kept, so that the next run finds them; with
    --credentials - they are printed and kept nowhere, and the next run therefore draws new ones.
    """
    manifests = read_manifests(filename, postgres_url)
    folder = credentials_folder(filename, credentials)
    if dry_run:
        _print_changes(output.run(_plan(manifests, folder)), as_json=as_json)
        return
    with locked(folder), ProgressLine() as progress:
        lines, secrets = output.run(_apply(manifests, folder, timeout, progress))
    printed = secrets if folder is None else ()
    if as_json:
        output.print_json(_document(lines, folder, printed))
    else:
        _print_applied(lines, folder, printed)
    if not all(line.settled for line in lines):
        raise typer.Exit(1)


async def _apply(
    manifests: Manifests, folder: Path | None, timeout: float, progress: ProgressLine
) -> tuple[list[Line], tuple[SecretObject, ...]]:
    async with opened(manifests, folder, progress) as workspace:
        keys = workspace.world.keys()
        await workspace.converge(keys, timeout)
        return workspace.lines(keys), workspace.world.written_secrets()


async def _plan(manifests: Manifests, folder: Path | None) -> list[Change]:
    kept = existing(folder)
    async with opened(manifests, kept) as workspace:
        return await planned(workspace)


def _print_applied(lines: Sequence[Line], folder: Path | None, secrets: Sequence[SecretObject]) -> None:
    if folder is None:
        # The credentials are the result then; what happened is told beside them.
        for line in lines:
            output.note("  ".join(output.plain(cell) for cell in line.cells() if cell))
        print(yaml.safe_dump_all([_secret_manifest(each) for each in secrets], sort_keys=False), end="")
        return
    output.print_table(COLUMNS, [line.cells() for line in lines])
    output.note(f"Credentials are in {output.plain(folder)}")


def _document(lines: Sequence[Line], folder: Path | None, secrets: Sequence[SecretObject]) -> dict[str, Any]:
    return {
        "ready": all(line.settled for line in lines),
        "resources": [line.document() for line in lines],
        "credentials": None if folder is None else str(folder),
        "secrets": [_secret_manifest(each) for each in secrets],
    }


def _secret_manifest(secret: SecretObject) -> Mapping[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name, "namespace": secret.namespace, "labels": dict(secret.labels)},
        "type": "Opaque",
        "stringData": {name: value.decode("utf-8", "replace") for name, value in sorted(secret.data.items())},
    }


def _print_changes(changes: Sequence[Change], *, as_json: bool) -> None:
    failed = any(change.failed for change in changes)
    if as_json:
        output.print_json({"changes": [change.document() for change in changes]})
    elif not changes:
        print("Nothing would change.")
    else:
        output.print_table(CHANGE_COLUMNS, [change.cells() for change in changes])
        print("Nothing was changed: this is a dry run.")
    if failed:
        raise typer.Exit(1)


def delete(
    *,
    filename: Files,
    credentials: Credentials = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    postgres_url: AdminUrl = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Take away what manifests declare: tenants as their deletion policy says, then components, then clusters.

    What would go is shown first, and asked for. The database itself, its schema and retained rows stay.
    """
    manifests = read_manifests(filename, postgres_url)
    folder = credentials_folder(filename, credentials)
    if dry_run or not yes:
        changes = output.run(_plan_deletion(manifests, folder))
        if dry_run:
            _print_changes(changes, as_json=as_json)
            return
        output.print_table(CHANGE_COLUMNS, [change.cells() for change in changes])
        _confirm()
    with locked(folder), ProgressLine() as progress:
        lines = output.run(_delete(manifests, folder, timeout, progress))
    if as_json:
        output.print_json(
            {"deleted": all(line.settled for line in lines), "resources": [line.document() for line in lines]}
        )
    else:
        output.print_table(COLUMNS, [line.cells() for line in lines])
    if not all(line.settled for line in lines):
        raise typer.Exit(1)


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise UserError("nothing was deleted", "there is no terminal to ask on", "Add --yes")
    if not typer.confirm("Delete this?"):
        raise UserError("nothing was deleted", "it was not confirmed")


async def _plan_deletion(manifests: Manifests, folder: Path | None) -> list[Change]:
    kept = existing(folder)
    async with opened(manifests, kept) as workspace:
        return await planned_deletions(workspace)


async def _delete(manifests: Manifests, folder: Path | None, timeout: float, progress: ProgressLine) -> list[Line]:
    async with opened(manifests, folder, progress) as workspace:
        keys = workspace.world.keys()
        bodies = {key: body for key in keys if (body := workspace.world.get(key)) is not None}
        workspace.require_clusters()
        # Only a cluster that serves lets anything be cleaned; this also checks whose database it is.
        await workspace.converge(workspace.clusters(), timeout)
        lines = workspace.lines(workspace.clusters())
        if not all(line.settled for line in lines):
            output.note("Nothing was deleted: a StorageCluster is not Ready.")
            return lines
        for kind in reversed(Kind):
            chosen = [key for key in keys if key.kind is kind]
            for key in chosen:
                workspace.world.mark_deleted(key)
            await workspace.converge(chosen, timeout)
            for key in chosen:
                if workspace.world.get(key) is None:
                    await _forget_secret(workspace, bodies[key])
        return workspace.lines(keys)


async def _forget_secret(workspace: Workspace, body: Body) -> None:
    """Remove a deleted tenant's credentials, whether its status knew of them or not."""
    key = Key.of(body)
    if key.kind is not Kind.TENANT:
        return
    name = (body["spec"].get("credentials") or {}).get("secretName") or default_secret_name(key.name)
    secret = await workspace.world.read_secret(key.namespace, name)
    if secret is not None and secret.owner_uid == body["metadata"]["uid"]:
        await workspace.world.delete_secret(key.namespace, name, uid=secret.uid)
