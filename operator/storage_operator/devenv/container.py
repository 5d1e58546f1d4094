"""PostgreSQL in a container, the third way to a server: for trying the very image that production runs."""

from __future__ import annotations

import contextlib
import importlib
import json
import secrets
from dataclasses import asdict, dataclass
from typing import Any

from storage_operator.devenv import locations
from storage_operator.devenv.statefile import read_state
from storage_operator.errors import UserError

DEFAULT_IMAGE = "ghcr.io/tensorchord/vchord-postgres:pg18-v0.5.3"
_USER = "postgres"
_PORT = 5432
_OTHER_IMAGE = "Name another one with --image"


@dataclass(frozen=True, slots=True)
class _State:
    """The content of the state file, which holds the superuser's password."""

    container: str
    image: str
    port: int
    password: str


class ContainerPostgres:
    """The PostgreSQL container of one environment; it outlives the command that started it."""

    def __init__(self, name: str) -> None:
        """Name the environment; nothing is started."""
        self.name = name
        self._state_file = locations.environment_folder(name) / "container.json"

    def start(self, image: str = DEFAULT_IMAGE) -> ContainerPostgres:
        """Start a container of ``image``, or find it running, and wait until it accepts connections."""
        state = self._state()
        if state is not None:
            if state.image != image:
                raise UserError(
                    f"the container of {self.name} runs {state.image}, not {image}", fix="Run: llmspell dev down"
                )
            container = self._find(state)
            if container is not None:
                if container.status != "running":
                    container.start()
                    state = self._remember(container, image, state.password)
                return self
        password = secrets.token_urlsafe(24)
        self._remember(_run(image, password), image, password)
        return self

    def remove(self) -> None:
        """Delete the container with its data; nothing happens when there is none."""
        state = self._state()
        if state is None:
            return
        container = self._find(state)
        if container is not None:
            container.remove(force=True, v=True)
        self._state_file.unlink()
        with contextlib.suppress(OSError):
            # Not empty means that other parts of the environment are there.
            self._state_file.parent.rmdir()

    def exists(self) -> bool:
        """Tell whether this environment has a container."""
        return self._state() is not None

    def running(self) -> bool:
        """Tell whether the container runs."""
        state = self._state()
        container = None if state is None else self._find(state)
        return container is not None and container.status == "running"

    def dsn(self, database: str = "postgres") -> str:
        """Return the superuser's DSN as a URI, with its password."""
        state = self._require_state()
        return f"postgresql://{_USER}:{state.password}@127.0.0.1:{state.port}/{database}"

    def image(self) -> str:
        """Return the image that the container was made from."""
        return self._require_state().image

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of the container's log."""
        container = self._find(self._require_state())
        return "(the container is gone)" if container is None else container.logs(tail=lines).decode(errors="replace")

    def _state(self) -> _State | None:
        return read_state(self._state_file, lambda text: _State(**json.loads(text)))

    def _require_state(self) -> _State:
        state = self._state()
        if state is None:
            raise UserError(f"{self.name} has no PostgreSQL container", fix="Run: llmspell dev up --postgres=container")
        return state

    def _find(self, state: _State) -> Any:
        client = _docker()
        try:
            return client.containers.get(state.container)
        except _docker_module().errors.NotFound:
            return None

    def _remember(self, container: Any, image: str, password: str) -> _State:
        container.reload()
        port = int(container.attrs["NetworkSettings"]["Ports"][f"{_PORT}/tcp"][0]["HostPort"])
        state = _State(container.id, image, port, password)
        locations.write_private(self._state_file, json.dumps(asdict(state), indent=2))
        return state


def _docker_module() -> Any:
    try:
        return importlib.import_module("docker")
    except ImportError as error:
        raise UserError(
            "there is no Docker client",
            "testcontainers is not installed",
            "Run: pip install 'llmspell-storage[dev-server]'",
        ) from error


def _docker() -> Any:
    """Return a client of the Docker that answers, or say in one line that none does."""
    docker = _docker_module()
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        raise UserError(
            "Docker does not answer",
            str(error).splitlines()[0],
            "Start Docker, or leave --postgres=container out to use the embedded PostgreSQL",
        ) from error
    return client


def _run(image: str, password: str) -> Any:
    """Start a container through testcontainers and return Docker's handle of it, once PostgreSQL answers."""
    _docker()
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - part of an extra
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - the same
    from testcontainers.core.exceptions import ContainerStartException  # noqa: PLC0415 - the same

    # Its reaper ends every container together with the process that started it; this one has to stay.
    testcontainers_config.ryuk_disabled = True
    container = PostgresContainer(image, username=_USER, password=password, dbname="postgres", driver=None)
    try:
        # Only this machine may reach it: Docker by itself publishes a port on every interface.
        published: Any = {f"{_PORT}/tcp": ("127.0.0.1", None)}
        container.ports = published
        container.start()
    except (ContainerStartException, TimeoutError) as error:
        container.stop()
        # The error's own text holds the command by which it waited, and that the password.
        raise UserError(f"the image {image} starts, but no PostgreSQL answers in it", fix=_OTHER_IMAGE) from error
    except _docker_module().errors.DockerException as error:
        container.stop()
        raise UserError(f"the image {image} does not start", str(error).splitlines()[0], _OTHER_IMAGE) from error
    return container.get_wrapped_container()
