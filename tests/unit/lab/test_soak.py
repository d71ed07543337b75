"""A soak counts every action as a false one, and what it says is on disk before its end."""

import json
from pathlib import Path

from ryzen_lab.record import Rank, Record
from ryzen_lab.settings import script_command
from ryzen_lab.soak import Soak, SoakSettings, step_times, writer
from ryzen_protos.v1 import operator_pb2

S = 1_000_000_000


def healthy() -> Record:
    steps = [(int(at * S), number) for number, at in enumerate((1.0, 1.1, 1.2, 31.2), start=1)]
    return Record(ranks=[Rank(1, "node-0", 0, 0, 1, 1, 0, steps=steps)])


def told(number: int, action: str) -> tuple[int, operator_pb2.Incident]:
    return S, operator_pb2.Incident(id=number, verdict=operator_pb2.Verdict(fault_class="hang", action=action))


def soak(**options: object) -> Soak:
    return Soak(SoakSettings(**options), lambda _result: None)  # type: ignore[arg-type]


def test_advice_in_a_long_evaluation_is_no_false_action_and_a_restart_is_one() -> None:
    record = healthy()
    record.incidents = [told(1, "advise"), (2 * S, operator_pb2.Incident(id=2))]
    result = soak().result(record)
    assert (result["incidents"], result["false_actions"], result["generations"]) == (2, 0, 1)
    assert result["incidents_by_class_and_action"] == {"hang/advise": 1, "no verdict/none": 1}
    record.incidents.append(told(2, "restart"))
    assert soak().result(record)["false_actions"] == 1


def test_a_death_is_a_false_action() -> None:
    record = healthy()
    record.ranks[0].died_ns = 40 * S
    assert soak().result(record)["false_actions"] == 1


def test_steps_are_told_by_their_median_and_their_longest() -> None:
    assert step_times(healthy()) == {"step_s_median": 0.1, "step_s_max": 30.0}
    assert step_times(Record()) == {"step_s_median": None, "step_s_max": None}


def test_the_newest_result_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    write = writer(out)
    write({"minutes": 1})
    write({"minutes": 2})
    assert json.loads(out.read_text()) == {"minutes": 2}
    assert list(tmp_path.iterdir()) == [out]


def test_the_reference_trainer_has_more_steps_than_there_is_time_for_and_saves_every_few_seconds() -> None:
    command = script_command(soak(minutes=60).settings)
    assert "training.steps=100000000" in command
    assert "training.checkpoint.every_steps=50" in command
