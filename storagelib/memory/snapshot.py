"""Snapshots of the stores in memory: a file of records, on disk whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from storage_sql import migrations
from storagelib.codec import Record
from storagelib.components.snapshots import ByteSink, ByteSource, Snapshot
from storagelib.errors import InvalidInput, NotFound, PermissionDenied, StorageError, Unavailable
from storagelib.memory.engine import MemoryEngine
from storagelib.memory.rows import MemoryRows, records, replace
from storagelib.release import release_name
from storagelib.transfer import Head, lines
from storagelib.transfer import records as read_records

__all__ = ["restore", "write"]


def write(engine: MemoryEngine, target: str | os.PathLike[str] | ByteSink, tenant_id: str | None) -> Snapshot:
    """Write one tenant, or all, to a path or to a stream of bytes; each tenant as it is at one moment.

    A path has the old file or the whole new one, whenever the machine stops. Raises ``Unavailable`` for a disk that is full
    or not there, and ``PermissionDenied``.
    """
    tenants = engine.tenants() if tenant_id is None else [tenant_id]
    head = Head("memory", release_name(), _schema_version(), tuple(tenants))
    counted = _Counted(record for tenant in tenants for record in records(engine.space(tenant)))
    if isinstance(target, str | os.PathLike):
        with _faults(target):
            _write_whole(Path(target), lines(head, counted))
    else:
        _check_stream(target, "write")
        with _faults("the stream"):
            for line in lines(head, counted):
                _write_all(target, line)
    return Snapshot(head.tenants, counted.count, head.schema_version)


def restore(
    engine: MemoryEngine,
    source: str | os.PathLike[str] | ByteSource,
    tenant_id: str | None,
    most_bytes: int,
    check_tenant: Callable[[str], object],
) -> Snapshot:
    """Put a snapshot, or one tenant of it, in the place of what its tenants have; nothing is changed unless it is whole.

    Raises ``NotFound`` for a file or tenant that is not there, ``Corrupted`` and ``InvalidInput`` for a file that cannot be
    used, ``QuotaExceeded`` for a tenant that does not fit.
    """
    if isinstance(source, str | os.PathLike):
        with _faults(source), Path(source).open("rb") as opened:
            return _restore(engine, opened, tenant_id, most_bytes, check_tenant)
    _check_stream(source, "readline")
    with _faults("the stream"):
        return _restore(engine, source, tenant_id, most_bytes, check_tenant)


def _restore(
    engine: MemoryEngine,
    source: ByteSource,
    tenant_id: str | None,
    most_bytes: int,
    check_tenant: Callable[[str], object],
) -> Snapshot:
    def check(head: Head) -> None:
        for tenant in head.tenants:
            check_tenant(tenant)
        if tenant_id is not None and tenant_id not in head.tenants:
            raise NotFound(f"the snapshot does not hold the tenant {tenant_id}")

    reading = read_records(source, _schema_version(), most_bytes, check)
    head, _ = next(reading)
    chosen = head.tenants if tenant_id is None else (tenant_id,)
    collected = {tenant: MemoryRows(tenant, engine.most_bytes) for tenant in chosen}
    for _, record in reading:
        rows = None if record is None else collected.get(str(record.columns["tenant_id"]))
        if record is not None and rows is not None:
            rows.add(record)
    for rows in collected.values():
        rows.check()
    replace(engine, collected.values())
    return Snapshot(tuple(sorted(chosen)), sum(rows.count for rows in collected.values()), head.schema_version)


def _write_whole(path: Path, written: Iterator[bytes]) -> None:
    """Write beside the path, have the disk keep it, and give it the name only then."""
    handle, unfinished = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(written)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(unfinished).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write_all(target: ByteSink, line: bytes) -> None:
    """Write a line to a stream that may take less than all at once."""
    while line:
        try:
            taken = target.write(line)
        except TypeError:
            raise InvalidInput("the argument cannot be used", ["stream: must be opened for bytes"]) from None
        if not isinstance(taken, int) or taken <= 0:
            raise Unavailable("the stream takes no bytes")
        line = line[taken:]


class _Counted:
    """Counts what goes by."""

    def __init__(self, found: Iterable[Record]) -> None:
        self._found = found
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        for record in self._found:
            self.count += 1
            yield record


def _schema_version() -> int:
    return migrations.available("sqlite")[-1].version


def _check_stream(stream: Any, verb: str) -> None:
    if not callable(getattr(stream, verb, None)):
        raise InvalidInput("the argument cannot be used", [f"stream: must be a path, or have a method {verb}"])


@contextmanager
def _faults(where: str | os.PathLike[str]) -> Iterator[None]:
    """Let no error of the system escape as what it is."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{os.fspath(where)}: is not there") from error
    except PermissionError as error:
        raise PermissionDenied(f"{os.fspath(where)}: may not be used") from error
    except OSError as error:
        raise Unavailable(f"{os.fspath(where)}: {error.strerror or 'failed'}") from error
    except ValueError as error:
        # A closed stream, one of text, or a path that holds NUL.
        raise InvalidInput("the argument cannot be used", [f"path or stream: {error}"]) from error
