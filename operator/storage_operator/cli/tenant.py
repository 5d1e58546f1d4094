"""``llmspell tenant``: look at tenants and change their credentials and access, straight on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from storage_operator.adapters.files import Manifests
from storage_operator.adapters.postgres.inspection import list_tenants, show_tenant
from storage_operator.cli import output
from storage_operator.cli.apply import CHANGE_COLUMNS, COLUMNS, AdminUrl, AsJson, Credentials, Files, Timeout
from storage_operator.cli.database import OPERATOR_VARIABLE, OperatorUrl, Schema, check_schema, conninfo_of
from storage_operator.cli.plans import TenantPlan, contact, plan_one
from storage_operator.cli.progress import ProgressLine
from storage_operator.cli.workspace import Line, credentials_folder, existing, locked, opened, read_manifests, with_body
from storage_operator.errors import UserError
from storage_operator.resources.kinds import ROTATE_ANNOTATION, Kind
from storage_operator.resources.names import StoreKind
from storage_operator.resources.quantities import format_quantity
from storage_operator.world import Body, Key

app = typer.Typer(no_args_is_help=True, help="Look at tenants, and change their credentials and access.")

_FIRST = ("tenant", "namespace", "name", "state", "isolation", "suspended", "stores")

TenantId = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant id, or namespace/name of the Tenant.")]


@app.command()
def plan(
    *,
    filename: Files,
    credentials: Credentials = None,
    sql: Annotated[bool, typer.Option("--sql", help="The SQL, too; verifiers are masked.")] = False,
    postgres_url: AdminUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would do to the tenants of the manifests, and why; nothing is changed.

    The StorageCluster must be among the manifests: give its file or folder with another -f.
    """
    manifests = read_manifests(filename, postgres_url)
    folder = credentials_folder(filename, credentials)
    plans = output.run(_plans(manifests, folder))
    if as_json:
        output.print_json(
            {
                "tenants": [
                    {
                        "namespace": key.namespace,
                        "name": key.name,
                        "actions": [change.document() for change in each.changes],
                        **({"sql": each.sql} if sql else {}),
                    }
                    for key, each in plans
                ]
            }
        )
        return
    rows = [change.cells() for _, each in plans for change in each.changes]
    if rows:
        output.print_table(CHANGE_COLUMNS, rows)
    for key, each in plans:
        if not each.changes:
            print(f"{key.namespace}/{key.name}: nothing would change")
        if sql and each.sql:
            print(f"\n-- {key}\n{each.sql.rstrip()}")


async def _plans(manifests: Manifests, folder: Path | None) -> list[tuple[Key, TenantPlan]]:
    kept = existing(folder)
    async with opened(manifests, kept) as workspace:
        for key in workspace.clusters():
            await contact(workspace, key)
        keys = [key for key in workspace.world.keys() if key.kind is Kind.TENANT]  # noqa: SIM118 - not a mapping
        if not keys:
            raise UserError("nothing to plan", "the manifests hold no Tenant", "Check -f")
        return [(key, await plan_one(workspace, key)) for key in keys]


@app.command("list")
def list_(*, postgres_url: OperatorUrl = None, schema: Schema = "llmspell", as_json: AsJson = False) -> None:
    """List the tenants that the database knows, with state, stores and usage."""
    conninfo = conninfo_of(postgres_url, OPERATOR_VARIABLE)
    check_schema(schema)
    tenants = output.run(list_tenants(conninfo, schema))
    if as_json:
        output.print_json({"tenants": tenants})
        return
    columns = ("tenant", "resource", "isolation", "state", "stores", "used", "quota", "logins", "connections")
    output.print_table(columns, [_row(each) for each in tenants])


def _row(tenant: Mapping[str, Any]) -> tuple[object, ...]:
    state = "suspended" if tenant["suspended"] and tenant["state"] == "active" else tenant["state"]
    return (
        tenant["tenant"],
        f"{tenant['namespace']}/{tenant['name']}",
        tenant["isolation"],
        state + (", over quota" if tenant["overQuota"] else ""),
        "all" if len(tenant["stores"]) == len(StoreKind) else ", ".join(tenant["stores"]),
        _quantity(tenant["usedBytes"], "not measured"),
        _quantity(tenant["quotaBytes"], "-"),
        tenant["logins"],
        tenant["connectionLimit"] or "-",
    )


def _quantity(value: int | None, nothing: str) -> str:
    return nothing if value is None else format_quantity(value)


@app.command()
def show(
    tenant: TenantId, *, postgres_url: OperatorUrl = None, schema: Schema = "llmspell", as_json: AsJson = False
) -> None:
    """Show one tenant: what is declared, its logins with their roles, settings and sessions. Never a secret."""
    conninfo = conninfo_of(postgres_url, OPERATOR_VARIABLE)
    check_schema(schema)
    found = output.run(show_tenant(conninfo, schema, tenant))
    if found is None:
        raise UserError(
            f"no tenant {output.plain(tenant)}", "the database knows none of this id", "See `llmspell tenant list`"
        )
    if as_json:
        output.print_json(found)
        return
    logins = found["logins"]
    named = sorted(found, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    output.print_table(("field", "value"), [(name, _shown(found[name])) for name in named if name != "logins"])
    if logins:
        print()
        columns = ("login", "slot", "can log in", "sessions", "retires", "member of", "settings")
        output.print_table(columns, [_login(each) for each in logins])


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return "-" if value is None else str(value)


def _login(login: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        login["login"],
        login["slot"],
        _shown(login["canLogin"]),
        _shown(login["sessions"]),
        _shown(login["retireAt"]),
        _shown(login["memberOf"]),
        _shown(login["settings"]),
    )


@app.command()
def rotate(
    tenant: TenantId,
    *,
    filename: Files,
    credentials: Credentials = None,
    postgres_url: AdminUrl = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Issue a new credential; the former one stays good for the overlap that the manifest declares.

    The new one is written where `apply` keeps credentials. Where an operator runs, annotate the Tenant with
    storage.llmspell.dev/rotate instead: what its manifest says wins over this command.
    """
    request = datetime.now(UTC).isoformat()

    def annotated(body: Body) -> Body:
        metadata = body["metadata"]
        return {
            **body,
            "metadata": {
                **metadata,
                "annotations": {**(metadata.get("annotations") or {}), ROTATE_ANNOTATION: request},
            },
        }

    _change(tenant, (filename, credentials, postgres_url), annotated, timeout, as_json=as_json)


@app.command()
def suspend(
    tenant: TenantId,
    *,
    filename: Files,
    credentials: Credentials = None,
    postgres_url: AdminUrl = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Lock a tenant out and end its sessions, until `resume` or the next `apply` of a manifest that is not suspended.

    Rows and roles stay. Where an operator runs, set spec.suspended in the manifest instead: it wins over this command.
    """
    _change(tenant, (filename, credentials, postgres_url), _suspended(value=True), timeout, as_json=as_json)


@app.command()
def resume(
    tenant: TenantId,
    *,
    filename: Files,
    credentials: Credentials = None,
    postgres_url: AdminUrl = None,
    timeout: Timeout = 30.0,
    as_json: AsJson = False,
) -> None:
    """Let a suspended tenant in again, with the credential that it had.

    Where an operator runs, set spec.suspended in the manifest instead: it wins over this command.
    """
    _change(tenant, (filename, credentials, postgres_url), _suspended(value=False), timeout, as_json=as_json)


def _suspended(*, value: bool) -> Callable[[Body], Body]:
    return lambda body: {**body, "spec": {**body["spec"], "suspended": value}}


def _change(
    tenant: str,
    source: tuple[Sequence[Path], str | None, str | None],
    change: Callable[[Body], Body],
    timeout: float,
    *,
    as_json: bool,
) -> None:
    """Reconcile one Tenant with a changed declaration, and its cluster before it."""
    paths, credentials, postgres_url = source
    manifests = read_manifests(paths, postgres_url)
    folder = credentials_folder(paths, credentials)
    if folder is None:
        raise UserError("--credentials - is not usable here", "the new credential must be found later", "Name a folder")
    with locked(folder), ProgressLine() as progress:
        line = output.run(_reconcile(manifests, folder, tenant, change, timeout, progress))
    if as_json:
        output.print_json({"ready": line.settled, "resources": [line.document()], "credentials": str(folder)})
    else:
        output.print_table(COLUMNS, [line.cells()])
        output.note(f"Credentials are in {output.plain(folder)}")
    if not line.settled:
        raise typer.Exit(1)


async def _reconcile(
    manifests: Manifests,
    folder: Path,
    tenant: str,
    change: Callable[[Body], Body],
    timeout: float,
    progress: ProgressLine,
) -> Line:
    async with opened(manifests, folder) as asked:
        key = asked.find_tenant(tenant)
    async with opened(with_body(manifests, key, change), folder, progress) as workspace:
        await workspace.converge([*workspace.clusters(), key], timeout)
        return workspace.line(key)
