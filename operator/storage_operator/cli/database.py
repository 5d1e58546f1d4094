"""``llmspell database``: prepare a database, bring its schema up to date, and tell whether it is well."""

from __future__ import annotations

import enum
import importlib.metadata
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from storage_operator.adapters.postgres.bootstrapping import Prepared, Request, keeps_password, prepare, preview
from storage_operator.adapters.postgres.health import Check, examine
from storage_operator.adapters.postgres.schema import Preview, Step, migrate_each
from storage_operator.adapters.postgres.schema import preview as preview_migrations
from storage_operator.adapters.postgres.targets import admin_conninfo
from storage_operator.cli import output
from storage_operator.cli.progress import ProgressLine
from storage_operator.errors import UserError
from storage_operator.resources.names import DNS_LABEL, DNS_SUBDOMAIN, SCHEMA_NAME
from storage_sql.runner import RunOptions

SUPERUSER_VARIABLE = "LLMSPELL_STORAGE_POSTGRES_URL"
OPERATOR_VARIABLE = "LLMSPELL_STORAGE_OPERATOR_URL"
RELEASE = importlib.metadata.version("llmspell-storage")
DEFAULT_SSLMODE = "prefer"
_IDENTIFIER_BYTES_MAX = 63
_VERSION_MAX = 9999
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

app = typer.Typer(no_args_is_help=True, help="Prepare a database, migrate its schema, and examine it.")


class Form(enum.StrEnum):
    """How the operator's way in is printed."""

    DSN = "dsn"
    SECRET = "secret"  # noqa: S105 - a word on the command line
    JSON = "json"


SuperuserUrl = Annotated[
    str | None,
    typer.Option(
        "--postgres-url",
        envvar=SUPERUSER_VARIABLE,
        show_envvar=False,
        help=f"A superuser's DSN of the server. Also: {SUPERUSER_VARIABLE}.",
    ),
]
OperatorUrl = Annotated[
    str | None,
    typer.Option(
        "--postgres-url",
        envvar=OPERATOR_VARIABLE,
        show_envvar=False,
        help=f"The operator's DSN, as `database bootstrap` printed it. Also: {OPERATOR_VARIABLE}.",
    ),
]
Schema = Annotated[str, typer.Option("--schema", help="The schema that the installation lives in.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def bootstrap(
    *,
    postgres_url: SuperuserUrl = None,
    database: Annotated[str, typer.Option(help="The database; it is created when it is missing.")] = "llmspell",
    schema: Schema = "llmspell",
    operator_password_file: Annotated[
        str | None, typer.Option(help="File with the password of the operator's login, - for standard input.")
    ] = None,
    reset_password: Annotated[
        bool, typer.Option("--reset-password", help="Draw a new password for a login that has one.")
    ] = False,
    print_only: Annotated[bool, typer.Option("--print", help="Print the exact SQL for psql, and run nothing.")] = False,
    form: Annotated[Form, typer.Option("--output", "-o", help="How the operator's way in is printed.")] = Form.DSN,
    secret_name: Annotated[str, typer.Option(help="Name of the Secret, for --output=secret.")] = "llmspell-admin",  # noqa: S107 - a name
    namespace: Annotated[str, typer.Option(help="Namespace of the Secret, for --output=secret.")] = "llmspell",
) -> None:
    """Prepare a server, as a superuser: roles, database, extensions, and exactly the operator's rights.

    It may be run again at any time and then repairs what is missing. The operator's connection string is printed once,
    on standard output; everything else that runs later needs no superuser.
    """
    _check_names(database, schema, secret_name, namespace)
    password = None if operator_password_file is None else _read_password(operator_password_file)
    request = Request(database, schema, password, reset_password)
    if print_only:
        conninfo = conninfo_of(postgres_url, SUPERUSER_VARIABLE) if postgres_url else None
        print(output.run(preview(conninfo, request)), end="")
        return
    conninfo = conninfo_of(postgres_url, SUPERUSER_VARIABLE)
    if form is Form.SECRET and output.run(keeps_password(conninfo, request)):
        raise UserError(
            "a Secret cannot be written",
            "the operator's login has a password from an earlier run, which is stored nowhere here",
            "Add --reset-password, or --operator-password-file with the password",
        )
    made = output.run(prepare(conninfo, request))
    _print_prepared(made, form, secret_name, namespace)


def _print_prepared(made: Prepared, form: Form, secret_name: str, namespace: str) -> None:
    done = made.bootstrapped
    verb = "prepared" if done.created else "was prepared before and is complete"
    output.note(
        f"Database {output.plain(done.database)}, schema {done.schema}: {verb} (installation {done.names.installation})."
    )
    if made.password is None:
        output.note("The operator's password stays as it is; --reset-password draws a new one.")
    match form:
        case Form.JSON:
            output.print_json(
                {
                    "installation": done.names.installation,
                    "database": done.database,
                    "schema": done.schema,
                    "operator": done.names.operator,
                    "owner": done.names.owner,
                    "extensions": done.extensions,
                    "created": done.created,
                    "passwordChanged": made.password is not None,
                    "dsn": made.dsn,
                }
            )
        case Form.SECRET:
            manifest: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": secret_name, "namespace": namespace},
                "type": "Opaque",
                "stringData": {"dsn": made.dsn},
            }
            print(yaml.safe_dump(manifest, sort_keys=False), end="")
        case Form.DSN:
            print(made.dsn)


@app.command()
def migrate(
    *,
    postgres_url: OperatorUrl = None,
    schema: Schema = "llmspell",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")] = False,
    to: Annotated[int | None, typer.Option(min=1, max=_VERSION_MAX, help="Stop at this version.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="With --dry-run: the SQL, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the schema to the newest version, one file after the other; safe beside other runners, goes on where it was."""
    conninfo = conninfo_of(postgres_url, OPERATOR_VARIABLE)
    check_schema(schema)
    options = RunOptions(release=RELEASE, target=to)
    if dry_run:
        found = output.run(preview_migrations(conninfo, schema, options))
        _print_preview(found, verbose=verbose, as_json=as_json)
        return
    steps: list[Step] = []
    with ProgressLine() as progress:
        current = output.run(
            migrate_each(conninfo, schema, options, steps.append, lambda label: progress(f"applying {label}"))
        )
    if as_json:
        output.print_json({"version": current, "applied": [step.label for step in steps if step.by_us]})
        return
    for step in steps:
        print(f"✓ {step.label} ({step.seconds:.2f} s)" if step.by_us else f"✓ {step.label} (applied by another runner)")
    print(f"The schema is at version {current}." if steps else f"Nothing to do: the schema is at version {current}.")


@app.command("migration-status")
def migration_status(*, postgres_url: OperatorUrl = None, schema: Schema = "llmspell", as_json: AsJson = False) -> None:
    """List every migration and whether it is applied; the exit code is 1 while some are pending."""
    conninfo = conninfo_of(postgres_url, OPERATOR_VARIABLE)
    check_schema(schema)
    found = output.run(preview_migrations(conninfo, schema, RunOptions(release=RELEASE)))
    if as_json:
        output.print_json(_preview_document(found, verbose=False))
    else:
        rows = [(f"V{each.version}", each.name, "applied", each.checksum[:12]) for each in found.applied]
        rows += [(f"V{each.version}", each.name, "pending", each.checksum[:12]) for each, _ in found.pending]
        output.print_table(("version", "name", "state", "checksum"), rows)
    if found.pending:
        raise typer.Exit(1)


@app.command("health-check")
def health_check(*, postgres_url: OperatorUrl = None, schema: Schema = "llmspell", as_json: AsJson = False) -> None:
    """Examine connection, version, extensions, rights, migrations, policies, partitions; exit code 1 on any failure."""
    conninfo = conninfo_of(postgres_url, OPERATOR_VARIABLE)
    check_schema(schema)
    checks = output.run(examine(conninfo, schema))
    healthy = all(check.healthy for check in checks)
    if as_json:
        output.print_json({"healthy": healthy, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            print(_line(check))
    if not healthy:
        raise typer.Exit(1)


def _line(check: Check) -> str:
    mark = "!" if check.warning else "✓" if check.healthy else "✗"
    return f"{mark} {output.plain(check.message)}"


def _print_preview(found: Preview, *, verbose: bool, as_json: bool) -> None:
    if as_json:
        output.print_json(_preview_document(found, verbose=verbose))
        return
    if not found.pending:
        print(f"Nothing would run: the schema is at version {found.current}.")
        return
    print(f"{len(found.pending)} migrations would run, from version {found.current} to {found.target}; none was run.")
    rows = [(each.label, each.checksum[:12], each.role) for each, _ in found.pending]
    output.print_table(("migration", "checksum", "role"), rows)
    if verbose:
        for each, text in found.pending:
            print(f"\n-- {each.label} (sha256 {each.checksum})\n{text.rstrip()}")


def _preview_document(found: Preview, *, verbose: bool) -> dict[str, Any]:
    pending = [
        {"version": each.version, "name": each.name, "checksum": each.checksum, **({"sql": text} if verbose else {})}
        for each, text in found.pending
    ]
    return {
        "current": found.current,
        "target": found.target,
        "applied": [asdict(each) for each in found.applied],
        "pending": pending,
    }


def conninfo_of(url: str | None, variable: str) -> str:
    """Check a connection string that was given; raises ``UserError`` that never repeats it."""
    if not url:
        raise UserError(
            "no database was named", "a connection string is needed", f"Give --postgres-url or set {variable}"
        )
    with output.explained("the connection string is not usable"):
        return admin_conninfo(url.encode("utf-8", "surrogateescape"), DEFAULT_SSLMODE, None)


def check_schema(schema: str) -> None:
    """Refuse a schema's name that would need quotes, is too long, or belongs to PostgreSQL."""
    if not re.fullmatch(SCHEMA_NAME, schema) or len(schema) > _IDENTIFIER_BYTES_MAX or schema.startswith("pg_"):
        raise UserError(
            "--schema is not usable",
            "it needs 1 to 63 characters of a-z, 0-9 and _, and no pg_ in front",
            "Choose another",
        )


def _check_names(database: str, schema: str, secret_name: str, namespace: str) -> None:
    check_schema(schema)
    size = len(database.encode("utf-8", "surrogatepass"))
    if not 0 < size <= _IDENTIFIER_BYTES_MAX or _CONTROL.search(database) or not database.isprintable():
        raise UserError("--database is not usable", "it needs 1 to 63 bytes of printable text", "Choose another name")
    if not re.fullmatch(DNS_SUBDOMAIN, secret_name) or not re.fullmatch(DNS_LABEL, namespace):
        raise UserError(
            "--secret-name or --namespace is not usable",
            "Kubernetes allows a-z, 0-9 and - there",
            "Choose another name",
        )


def _read_password(place: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
        password = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise UserError(
            f"cannot read {output.plain(place)}", error.strerror or "", "Check --operator-password-file"
        ) from None
    except UnicodeDecodeError:
        raise UserError("the password is not UTF-8 text", fix="Check --operator-password-file") from None
    if not password or _CONTROL.search(password):
        raise UserError(
            "the password is not usable", "it is empty or holds control characters", "Give one line of text"
        )
    return password
