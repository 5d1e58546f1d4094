"""Packing helps or is left out; unpacking stays within its bound whatever it is given."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from storagelib.compression import compress, decompress
from storagelib.errors import Corrupted

TEXT = b'{"agent":"a","step":1}' * 500


def noise(size: int) -> bytes:
    """Make bytes that nothing packs."""
    return random.Random(7).randbytes(size)


@pytest.mark.parametrize("data", [b"", b"x", b"a" * 63, noise(64), noise(10_000)])
def test_what_packing_does_not_help_is_left_alone(data: bytes) -> None:
    """Short bytes and noise stay as they are."""
    assert compress(data) is None


@pytest.mark.parametrize("level", [1, 3, 19])
def test_what_was_packed_comes_back(level: int) -> None:
    """Every level packs text and gives it back."""
    packed = compress(TEXT, level)
    assert packed is not None
    assert len(packed) < len(TEXT) / 10
    assert decompress(packed, len(TEXT)) == TEXT


def test_more_than_was_said_is_refused() -> None:
    """A frame that holds one byte more than the bound is refused."""
    packed = compress(TEXT)
    assert packed is not None
    with pytest.raises(Corrupted, match="more than"):
        decompress(packed, len(TEXT) - 1)


@pytest.mark.parametrize("most", [0, 1])
def test_nothing_fits_into_nothing(most: int) -> None:
    """The smallest bounds hold too."""
    packed = compress(TEXT)
    assert packed is not None
    with pytest.raises(Corrupted, match="more than"):
        decompress(packed, most)


@pytest.mark.parametrize("cut", [1, 4, 20])
def test_a_missing_end_is_noticed(cut: int) -> None:
    """A frame that was cut is no frame."""
    packed = compress(TEXT)
    assert packed is not None
    with pytest.raises(Corrupted):
        decompress(packed[:-cut], len(TEXT))


def test_what_follows_the_end_is_noticed() -> None:
    """A frame is all there is."""
    packed = compress(TEXT)
    assert packed is not None
    with pytest.raises(Corrupted, match="follows"):
        decompress(packed + b"x", len(TEXT))


@pytest.mark.parametrize("data", [b"", b"plain text", noise(100)])
def test_what_was_never_packed_is_refused(data: bytes) -> None:
    """Other bytes are not taken for a frame."""
    with pytest.raises(Corrupted):
        decompress(data, 1000)


def test_damage_is_refused_or_changes_nothing_in_length() -> None:
    """No damaged byte raises anything but ``Corrupted`` or goes beyond the bound."""
    packed = compress(TEXT)
    assert packed is not None
    refused = 0
    for place in range(len(packed)):
        damaged = packed[:place] + bytes([packed[place] ^ 0xFF]) + packed[place + 1 :]
        try:
            assert len(decompress(damaged, len(TEXT))) <= len(TEXT)
        except Corrupted:
            refused += 1
    assert refused > 0


def test_a_bomb_takes_no_memory() -> None:
    """What unpacks to 256 MiB takes no more memory than its bound."""
    bomb = compress(bytes(256 << 20))
    assert bomb is not None
    code = (
        "import sys, resource\n"
        "from storagelib.compression import decompress\n"
        "from storagelib.errors import Corrupted\n"
        "decompress(bytes.fromhex(sys.argv[2]), 1000)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    decompress(bytes.fromhex(sys.argv[1]), 1000)\n"
        "except Corrupted:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    small = compress(b"a" * 100)
    assert small is not None
    ran = subprocess.run(
        [sys.executable, "-c", code, bomb.hex(), small.hex()], capture_output=True, text=True, check=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(ran.stdout) * unit < 32 << 20
