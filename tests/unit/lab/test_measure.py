"""What a trial reports follows from what the lab saw, and from nothing else."""

import pytest

from ryzen_lab import measure
from ryzen_lab.record import Injection, Rank, Record, Service
from ryzen_protos.v1 import operator_pb2

S = 1_000_000_000
FAULT = 100 * S


def rank(number: int, generation: int, born_s: float, steps: list[tuple[float, int]], **more: object) -> Rank:
    made = Rank(
        pid=generation * 100 + number, node=f"node-{number // 2}", rank=number, local_rank=number % 2,
        generation=generation, world_size=4, exec_ns=int(born_s * S),
    )  # fmt: skip
    made.steps = [(int(at * S), step) for at, step in steps]
    made.step_source = "optimizer"
    for name, value in more.items():
        setattr(made, name, int(value * S) if name.endswith("_ns") and isinstance(value, float) else value)
    return made


def incident(at_s: float, fault_class: str = "", number: int = 1) -> tuple[int, operator_pb2.Incident]:
    made = operator_pb2.Incident(id=number, generation=1)
    if fault_class:
        made.verdict.CopyFrom(
            operator_pb2.Verdict(fault_class=fault_class, ranks=[3], nodes=["node-1"], action="restart")
        )
    return int(at_s * S), made


def crash_and_recovery() -> Record:
    """Rank 3 is killed at 100 s, 25 steps done, checkpoint at 20; the old world is dead at 100.2, goes on at 103."""
    record = Record()
    for number in range(4):
        died = 100.001 if number == 3 else 100.2
        record.ranks.append(rank(number, 1, 10, [(20.0, 1), (99.9, 25)], died_ns=died))
        record.ranks.append(
            rank(
                number,
                2,
                100.3 + number / 100,
                [(103.0 + number / 100, 21), (110.0, 60)],
                torch_ns=101.5,
                restored_ns=102.5,
                died_ns=112.0,
                exit_code=0,
                finished=True,
                digest="abc",
            )
        )
    record.incidents = [incident(100.05), incident(100.15, "exit")]
    record.injections = [Injection("kill", FAULT, 25, interrupts=True, rank=3, node="node-1", pids=[103])]
    return record


def test_times_run_from_the_injection_to_the_verdict_and_to_the_first_new_step() -> None:
    figures = measure.figures(crash_and_recovery())
    assert figures["detected_s"] == pytest.approx(0.15)
    assert figures["recovered_s"] == pytest.approx(3.0)
    assert figures["verdict"] == {"class": "exit", "ranks": [3], "nodes": ["node-1"], "action": "restart"}


def test_stages_follow_one_another_up_to_the_recovery() -> None:
    figures = measure.figures(crash_and_recovery())
    stages = figures["stages_s"]
    assert list(stages) == list(measure.STAGES)
    assert stages["detect"] == pytest.approx(0.05)
    assert stages["blame"] == pytest.approx(0.1)
    assert stages["stop"] == pytest.approx(0.15)
    assert stages["rendezvous"] == pytest.approx(0.13)
    assert sum(stages.values()) - stages["blame"] == pytest.approx(figures["recovered_s"])
    assert figures["known_to_exec_s"] == pytest.approx(0.28)


def test_a_lost_node_is_known_with_the_verdict_not_when_its_peers_fail() -> None:
    record = crash_and_recovery()
    assert measure.figures(record)["known_to_exec_s"] == pytest.approx(0.28)
    record.incidents = [incident(100.05), incident(100.15, "node_lost")]
    assert measure.figures(record)["known_to_exec_s"] == pytest.approx(0.18)


def test_steps_between_the_checkpoint_and_the_fault_are_lost() -> None:
    assert measure.steps_lost(crash_and_recovery()) == 5


def test_steps_lost_are_unknown_where_a_script_does_not_number_its_steps() -> None:
    record = crash_and_recovery()
    for each in record.ranks:
        each.step_source = "count"
    assert measure.steps_lost(record) is None


def test_deaths_in_a_recovery_are_no_false_actions() -> None:
    assert measure.false_actions(crash_and_recovery()) == []


def test_a_rank_that_dies_before_any_fault_is_a_false_action() -> None:
    record = crash_and_recovery()
    record.ranks[0].died_ns = 90 * S
    assert measure.figures(record)["false_actions"] == 1


def test_a_rank_that_dies_of_a_fault_which_must_not_interrupt_is_a_false_action() -> None:
    record = crash_and_recovery()
    record.injections = [Injection("agent-kill", FAULT, 25, interrupts=False, node="node-1", pids=[999])]
    assert len(measure.false_actions(record)) == 4


def test_a_verdict_that_acts_on_what_needed_no_action_is_a_false_action_and_advice_is_none() -> None:
    record = crash_and_recovery()
    record.injections = [Injection("pause", FAULT, 25, interrupts=False, rank=0, node="node-0", pids=[100])]
    record.ranks = [each for each in record.ranks if each.generation == 2]
    assert measure.figures(record)["false_actions"] == 1
    record.incidents[-1][1].verdict.action = "advise"
    assert measure.figures(record)["false_actions"] == 0


def test_what_was_only_advised_at_first_counts_as_detected_when_it_is_acted_on() -> None:
    record = crash_and_recovery()
    advised, acted = incident(100.05, "hang"), incident(100.15, "hang")
    advised[1].verdict.action = "advise"
    record.incidents = [incident(100.02), advised, acted]
    figures = measure.figures(record)
    assert (figures["suspected_s"], figures["detected_s"]) == (pytest.approx(0.02), pytest.approx(0.15))
    assert figures["stages_s"]["blame"] == pytest.approx(0.13)
    assert figures["known_to_exec_s"] == pytest.approx(0.18)


def test_the_verdict_is_that_of_the_first_incident_that_was_acted_on() -> None:
    record = crash_and_recovery()
    record.incidents = [incident(100.05, "slow", 1), incident(100.15, "hang", 2)]
    record.incidents[0][1].verdict.action = "advise"
    assert measure.figures(record)["verdict"]["class"] == "hang"


def test_a_torchrun_that_leaves_with_an_error_is_a_false_action_and_the_end_of_the_job_is_none() -> None:
    record = crash_and_recovery()
    record.services = [
        Service("torchrun", "node-0", 1, 0, died_ns=113 * S, exit_code=0),
        Service("agent", "node-0", 2, 0, died_ns=114 * S, exit_code=0, ended_by_lab=True),
        Service("torchrun", "node-1", 3, 0, died_ns=90 * S, exit_code=1),
    ]
    assert measure.false_actions(record) == ["torchrun of node-1 (pid 3, exit code 1)"]


def test_an_incident_from_before_the_fault_is_not_taken_for_its_detection() -> None:
    record = crash_and_recovery()
    record.incidents = [incident(50.0, "slow", 7), incident(100.01, "slow", 7), *record.incidents]
    figures = measure.figures(record)
    assert figures["verdict"]["class"] == "exit"
    assert figures["stages_s"]["detect"] == pytest.approx(0.05)


def test_without_a_coordinator_the_first_death_that_the_fault_did_not_cause_is_the_detection() -> None:
    record = crash_and_recovery()
    record.incidents = []
    figures = measure.figures(record)
    assert figures["verdict"] is None
    assert figures["detected_s"] == pytest.approx(0.2)


def test_a_node_that_is_not_in_the_last_world_was_evicted() -> None:
    record = crash_and_recovery()
    record.ranks = [each for each in record.ranks if each.generation == 1 or each.node == "node-0"]
    for each in record.ranks:
        if each.generation == 2:
            each.world_size = 2
    figures = measure.figures(record)
    assert figures["evicted"] == ["node-1"]
    assert figures["world"] == ["node-0"]
    assert not measure.world_kept(record)


def test_a_spare_that_took_the_place_of_a_node_is_in_the_world_at_that_place() -> None:
    record = crash_and_recovery()
    for each in record.ranks:
        if each.generation == 2 and each.node == "node-1":
            each.node = "node-2"
    figures = measure.figures(record)
    assert (figures["world"], figures["evicted"]) == (["node-0", "node-2"], ["node-1"])


def test_generations_count_those_that_never_made_a_step() -> None:
    record = crash_and_recovery()
    record.ranks.append(rank(0, 3, 104, [], died_ns=104.5))
    assert measure.generations(record) == 3


def test_without_generations_the_lives_of_rank_0_are_counted() -> None:
    record = crash_and_recovery()
    for each in record.ranks:
        each.generation = 0
    assert measure.generations(record) == 2


def test_digests_that_differ_between_ranks_are_told() -> None:
    record = crash_and_recovery()
    assert measure.state_digest(record) == ("abc", True)
    record.ranks[-1].digest = "abd"
    assert measure.state_digest(record) == ("abc", False)


def test_sharded_parameters_are_digested_over_all_ranks() -> None:
    record = crash_and_recovery()
    for each in record.ranks:
        each.sharded = True
    whole, agree = measure.state_digest(record)
    record.ranks[-1].digest = "abd"
    assert agree
    assert measure.state_digest(record)[0] != whole


def test_a_run_that_was_left_alone_has_no_times_and_no_loss() -> None:
    record = crash_and_recovery()
    record.injections, record.incidents = [], []
    record.ranks = [each for each in record.ranks if each.generation == 2]
    figures = measure.figures(record)
    assert (figures["detected_s"], figures["recovered_s"], figures["verdict"]) == (None, None, None)
    assert (figures["steps_lost"], figures["generations"], figures["false_actions"]) == (0, 1, 0)
