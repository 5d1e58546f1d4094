"""``llmspell operator run``: the operator's process, on a laptop and in the image alike."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from storage_operator import logs
from storage_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

app = typer.Typer(name="operator", no_args_is_help=True, help="Run the operator.")


@app.callback()
def operator() -> None:
    """Keep PostgreSQL as the custom resources of a Kubernetes cluster say."""


@app.command()
def run(  # noqa: PLR0917 - each option is one parameter
    namespace: Annotated[
        list[str] | None, typer.Option("--namespace", "-n", help="Watch this namespace; repeat for several.")
    ] = None,
    all_namespaces: Annotated[
        bool | None,
        typer.Option("--all-namespaces", "-A", help="Watch all namespaces (the default).", show_default=False),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="Kubeconfig; else KUBECONFIG, the pod's service account, ~/.kube/config.")
    ] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", "--metrics-port", help="Port of /healthz, /readyz and /metrics.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text.")] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
    lease_name: Annotated[str | None, typer.Option(help="Name of the Lease that the leader holds.")] = None,
    lease_namespace: Annotated[str | None, typer.Option(help="Namespace of the Lease.")] = None,
    leader_election: Annotated[
        bool | None,
        typer.Option("--leader-election/--no-leader-election", help="Without it, a second process must be impossible."),
    ] = None,
    identity: Annotated[str | None, typer.Option(help="Unique name of this process in the Lease.")] = None,
) -> None:
    """Run until SIGTERM, which finishes what runs and hands over; exit code 3 means that leadership was lost.

    Every option, and more, can be set by an environment variable LLMSPELL_OPERATOR_<NAME>.
    """
    if namespace and all_namespaces:
        raise typer.BadParameter("--namespace and --all-namespaces exclude each other")
    settings = OperatorSettings.from_env(
        namespaces=() if all_namespaces else tuple(namespace) if namespace else None,
        kubeconfig=kubeconfig,
        http_port=http_port,
        log_format=log_format,
        log_level=log_level,
        lease_name=lease_name,
        lease_namespace=lease_namespace,
        leader_election=leader_election,
        identity=identity,
    )
    logs.configure(settings.log_format, settings.log_level)
    raise typer.Exit(_run(settings))


def _run(settings: OperatorSettings) -> int:
    # Imported here, so that every other command starts without kopf and the Kubernetes client.
    from storage_operator.cli.engine import build_engine  # noqa: PLC0415
    from storage_operator.handlers.runner import Runner  # noqa: PLC0415

    async def main() -> int:
        return int(await Runner(settings, build_engine).run())

    code = asyncio.run(main())
    logger.info("ended with exit code %d", code)
    return code
