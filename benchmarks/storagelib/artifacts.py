"""Artifacts beside what any store of content must do: zstd, BLAKE3, and a binary COPY of the packed chunks; fsync on."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import Any

import psycopg
from blake3 import blake3

from benchmarks.pairs import latency, once
from benchmarks.results import Result, figure
from benchmarks.storagelib.ground import COMMAND, Ground, compared
from storagelib.components.artifacts import CHUNK_BYTES
from storagelib.compression import compress, decompress

_TABLE = """CREATE TABLE bare.chunks (
    hash bytea NOT NULL, chunk bigint NOT NULL, packed boolean NOT NULL, data bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (hash, chunk))"""
_IN = b"COPY bare.chunks (hash, chunk, packed, data) FROM STDIN (FORMAT binary)"
_OUT = "COPY (SELECT packed, data FROM bare.chunks WHERE hash = decode('{}', 'hex') ORDER BY chunk) TO STDOUT (FORMAT binary)"
_TYPES = ["bytea", "int8", "bool", "bytea"]
_PEER = "zstd, BLAKE3 and binary COPY of the same bytes, no row-level security"
_NUMBERS = itertools.count(1)


def measure(ground: Ground) -> list[Result]:
    """Measure content that does not fit into a row, and content that does."""
    with ground.connect() as connection:
        connection.execute("CREATE SCHEMA bare")
        connection.execute(_TABLE)
    size = ground.size(20_000_000, full=100_000_000, tiny=1_500_000)
    return [*_large(ground, size), *_small(ground, 4096)]


def content(size: int) -> Iterator[bytes]:
    """Give contents of that many bytes, each another: half of it text that packs well, half bytes that do not."""
    chance = random.Random(23)
    words = [chance.randbytes(4).hex().encode() for _ in range(1000)]
    text = b" ".join(chance.choices(words, k=size // 18 + 1))[: size // 2]
    noise = chance.randbytes(size - len(text) - 8)
    while True:
        yield next(_NUMBERS).to_bytes(8, "big") + text + noise


def _large(ground: Ground, size: int) -> list[Result]:
    kinds = content(size)
    with ground.store() as store, ground.connect() as bare:
        artifacts = store.for_tenant(ground.new_tenant()).artifacts
        kept: dict[str, Any] = {"bytes": next(kinds)}

        def renew() -> None:
            kept["bytes"] = next(kinds)

        def put() -> None:
            kept["id"] = artifacts.store("s", "large", kept["bytes"]).artifact_id

        def get() -> None:
            if len(artifacts.get(kept["id"])) != size:
                raise AssertionError("the content came back with another length")

        def peer_put() -> None:
            kept["hash"] = _copied_in(bare, kept["bytes"])

        def peer_get() -> None:
            if len(_copied_out(bare, kept["hash"])) != size:
                raise AssertionError("the content came back with another length")

        putting = once(put, peer_put, before=renew)
        getting = once(get, peer_get)
        stored = artifacts.statistics()
    name = f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size} bytes"
    return [
        compared(f"artifacts put {name}, PostgreSQL", putting, _PEER, share=0.6, of="its throughput"),
        compared(f"artifacts get {name}, PostgreSQL", getting, _PEER, share=0.6, of="its throughput"),
        figure(
            "artifacts, bytes of content for each stored byte",
            "ratio",
            stored.compression_ratio,
            "",
            command=COMMAND,
        ),
    ]


def _small(ground: Ground, size: int) -> list[Result]:
    kinds = content(size)
    with ground.store() as store, ground.connect() as bare:
        artifacts = store.for_tenant(ground.new_tenant()).artifacts
        put = latency(
            lambda: artifacts.store("s", "small", next(kinds)),
            lambda: _copied_in(bare, next(kinds)),
            calls=100,
        )
    return [compared(f"artifacts put {size:,} bytes, PostgreSQL", put, _PEER)]


def _copied_in(bare: psycopg.Connection[Any], data: bytes) -> str:
    """Hash the whole, pack and hash each chunk, and send them in one COPY."""
    digest = blake3(data)
    view = memoryview(data)
    with bare.cursor() as cursor, cursor.copy(_IN) as target:
        target.set_types(_TYPES)
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            chunk = bytes(view[start : start + CHUNK_BYTES])
            blake3(chunk).digest()
            packed = compress(chunk)
            target.write_row((digest.digest(), number, packed is not None, packed or chunk))
    return digest.hexdigest()


def _copied_out(bare: psycopg.Connection[Any], digest: str) -> bytes:
    """Fetch the chunks in one COPY, unpack and hash them, and compare the hash of the whole."""
    pieces = []
    whole = blake3()
    with bare.cursor() as cursor, cursor.copy(_OUT.format(digest).encode()) as source:
        source.set_types(["bool", "bytea"])
        for packed, data in source.rows():
            piece = decompress(data, CHUNK_BYTES) if packed else data
            blake3(piece).digest()
            whole.update(piece)
            pieces.append(piece)
    if whole.hexdigest() != digest:
        raise AssertionError("the content came back changed")
    return b"".join(pieces)
