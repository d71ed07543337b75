"""The codec of the core's state: exact both ways, closed to everything else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzen_coordinator.core import snapshot
from ryzen_coordinator.core.core import Core
from ryzen_coordinator.core.effects import Desire, DesiredJob, DesiredNode, WorldFor
from ryzen_coordinator.core.events import NO_BEATS, Hello, JobSeen, NodeReport, RankSeen, Shape
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.settings import CoreSettings
from ryzen_coordinator.core.snapshot import SnapshotError
from ryzen_coordinator.core.state import World

PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)
KEYS = st.integers() | st.text(max_size=5) | st.tuples(st.text(max_size=3), st.integers())
VALUES = st.recursive(
    PLAIN,
    lambda each: (
        st.lists(each, max_size=12)
        | st.lists(each, max_size=12).map(tuple)
        | st.dictionaries(KEYS, each, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=30,
)


def through(value: Any) -> Any:
    return snapshot.decode(json.loads(json.dumps(snapshot.encode(value))))


def typed(value: Any) -> str:
    """Tells 1 from 1.0 from True, and a list from a tuple; a set's order is none."""
    if isinstance(value, set | frozenset):
        return f"{type(value)}{sorted(map(typed, value))}"
    if isinstance(value, dict):
        return str([(typed(key), typed(each)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return f"{type(value)}{[typed(each) for each in value]}"
    return f"{type(value)}{value!r}"


@given(VALUES)
def test_containers_and_numbers_come_back_as_they_were(value: Any) -> None:
    assert typed(through(value)) == typed(value)


@given(VALUES, VALUES)
def test_different_values_have_different_texts(one: Any, other: Any) -> None:
    same_text = json.dumps(snapshot.encode(one)) == json.dumps(snapshot.encode(other))
    assert same_text == (typed(one) == typed(other))


def test_floats_that_json_has_no_word_for() -> None:
    assert [repr(through(each)) for each in (np.inf, -np.inf, np.nan, -0.0, 5e-324)] == [
        "inf", "-inf", "nan", "-0.0", "5e-324"
    ]  # fmt: skip


def test_arrays_come_back_with_their_type_shape_and_bits_and_can_be_written_to() -> None:
    for array in (
        np.array([True, False]),
        np.array([[1, -2], [3, 1 << 62]]),
        np.array([0.1, -np.inf, np.nan]),
        np.zeros(0, dtype=np.int64),
        np.arange(6, dtype=np.float32)[::2],
    ):
        back = through(array)
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())
        back[...] = 0
    assert type(through(np.int64(3))) is np.int64


def test_derived_fields_of_a_class_are_kept_and_no_constructor_runs() -> None:
    world = World(2, ("b", "a"), ((1, 1), (2, 1)), None, True, 4)
    assert through(world).place == {"b": 0, "a": 1}
    table = ProgressTable(1, ["a"])
    table.observe("a", (RankSeen(3, 0, 77, 1),), NO_BEATS, 5.0)
    back = through(table)
    assert (list(back.pid), back.node_index, list(back.seen_s)) == (list(table.pid), {"a": 0}, list(table.seen_s))


def test_a_tuple_that_many_share_is_written_once() -> None:
    names = tuple(f"node-{number}" for number in range(1000))
    desires = [
        Desire(name, DesiredNode("healthy", jobs=(DesiredJob("j", "me", world=_world(names, rank)),)))
        for rank, name in enumerate(names)
    ]
    text = json.dumps(snapshot.encode(desires))
    assert len(text) < 1000 * 300
    back = snapshot.decode(json.loads(text))
    assert back == desires
    assert len({id(each.desired.jobs[0].world.nodes) for each in back}) == 1
    assert snapshot.encode(back, share=False) == snapshot.encode(desires, share=False)


def _world(names: tuple[str, ...], rank: int) -> WorldFor:
    return WorldFor(1, names, rank, ("h", 1), True, 1)


def test_what_is_taken_does_not_change_with_the_core() -> None:
    core = Core(CoreSettings(), now_s=0.0, unix_offset_s=1e9)

    def say(seq: int, handler: Any) -> None:
        job = JobSeen("j", "me", handler=handler, join_id=1, store=("h", 1), shape=Shape(1, 1, 1), torchrun_pid=7)
        core.step(NodeReport("a", 1, seq, Hello("a") if seq == 1 else None, (job,)), float(seq))

    say(1, "joining")
    taken = snapshot.take(core)
    before = json.dumps(snapshot.encode(taken))
    say(2, "closed")
    assert json.dumps(snapshot.encode(taken)) == before != json.dumps(snapshot.encode(snapshot.take(core)))


@dataclass
class Stranger:
    value: int = 0


@pytest.mark.parametrize("value", [Stranger(), object(), b"bytes", 1j, np.array([object()]), print, [Stranger()]])
def test_what_is_not_the_cores_is_not_written(value: Any) -> None:
    with pytest.raises(SnapshotError, match="none of the core's own types"):
        snapshot.encode(value)


@pytest.mark.parametrize(
    "written",
    [
        {}, [], ["q", 1], ["Popen", 1], ["Job", 1], ["r", 0], ["f"], ["f", "x"], ["a", "O", [1], ""], ["d", 1],
        ["a", "<f8", [2], "AAAA"], ["n", "<i8"], ["t", {"a": 1}], [["t"]], [None], ["Weight", "NONE"], ["s", ["l"]],
    ],
)  # fmt: skip
def test_what_was_never_written_is_refused_in_words(written: Any) -> None:
    with pytest.raises(SnapshotError) as error:
        snapshot.decode(written)
    assert "\n" not in str(error.value)


def test_another_versions_classes_and_fields_are_named() -> None:
    snapshot.check_schema(snapshot.schema())
    for change, words in {
        ("Job", (*snapshot.schema()["Job"], "colour")): "it has Job.colour, this one has not",
        ("Tachyon", ("speed",)): "a class Tachyon",
        ("Shape", ("min_nodes", "max_nodes", "ranks_per_node")): "this one has Shape.options, it has not",
        ("JobSeen", tuple(reversed(snapshot.schema()["JobSeen"]))): "the fields of JobSeen have another order",
    }.items():
        (name, fields), found = change, snapshot.schema()
        with pytest.raises(SnapshotError, match=r"written by another version") as error:
            snapshot.check_schema({**found, name: list(fields)})
        assert words in str(error.value)
    with pytest.raises(SnapshotError, match="other fields"):
        snapshot.decode(["Shape", 1])
    state = snapshot.take(Core(CoreSettings()))
    with pytest.raises(SnapshotError, match="another version"):
        snapshot.restored({**state, "colour": 1})
