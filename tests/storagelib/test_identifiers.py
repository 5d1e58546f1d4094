"""Ids of a batch, which are made together."""

from __future__ import annotations

import pickle
import threading
import time
from uuid import UUID

import pytest

from storagelib import identifiers
from storagelib.identifiers import uuid7, uuid7s


def test_ids_of_a_batch_are_ids_like_others() -> None:
    """In order, different, of version 7 and of this moment; equal to, hashed and pickled as what ``UUID`` makes of them."""
    before = time.time_ns() // 1_000_000
    made = [uuid7(), *uuid7s(1), *uuid7s(3_000), *uuid7s(0), uuid7(), *uuid7s(2)]
    after = time.time_ns() // 1_000_000
    assert made == sorted(set(made))
    for each in made:
        again = UUID(str(each))
        assert type(each) is UUID
        assert (each, hash(each), repr(each), each.is_safe) == (again, hash(again), repr(again), again.is_safe)
        assert pickle.loads(pickle.dumps(each)) == again
        assert (each.version, each.variant) == (7, again.variant)
        assert before <= each.int >> 80 <= after + 1
        with pytest.raises(TypeError):
            each.int = 1  # type: ignore[misc]


def test_ids_stay_in_order_where_their_low_bits_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted up runs over into the bits above the variant, and then into the time."""
    for random in ((1 << 62) - (1 << 40), (1 << 74) - (1 << 40)):
        monkeypatch.setattr(identifiers, "_last", (1 << 47) << 74 | random)
        made = [*uuid7s(1_000), uuid7()]
        assert made == sorted(set(made))
        assert {(each.version, each.variant) for each in made} == {(7, made[0].variant)}
        assert made[0].int >> 64 < made[-1].int >> 64


def test_no_two_threads_make_the_same_ids() -> None:
    """Batches that are made at the same time do not mix."""
    batches: list[list[UUID]] = []
    threads = [threading.Thread(target=lambda: batches.extend(uuid7s(50) for _ in range(200))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ordered = sorted(batches)
    assert [each for batch in ordered for each in batch] == sorted({each for batch in batches for each in batch})
