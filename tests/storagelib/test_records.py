"""Records that are made fast are the same records."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest

from storagelib.components.agent_state import AgentRecord
from storagelib.components.sessions import Session
from storagelib.components.workflow_states import WorkflowState
from storagelib.records import maker


@pytest.mark.parametrize("record", [Session, WorkflowState, AgentRecord])
def test_a_record_made_fast_is_like_any_other(record: type) -> None:
    """Of the same class, equal, as frozen, and copied and pickled as one; AgentRecord inherits fields."""
    values = tuple(range(len(fields(record))))
    made = maker(record)(*values)
    assert type(made) is record
    assert made == record(*values)
    assert hash(made) == hash(record(*values))
    assert repr(made) == repr(record(*values))
    assert made != record(*values[:-1], "other")
    assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == replace(made) == made
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(record)[0].name, 1)


def test_a_value_too_few_or_too_many_is_refused() -> None:
    """Every field is given, defaults or not."""

    @dataclass(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0

    assert maker(Point)(1, 2) == Point(1, 2)
    with pytest.raises(TypeError):
        maker(Point)(1)
    with pytest.raises(TypeError):
        maker(Point)(1, 2, 3)
