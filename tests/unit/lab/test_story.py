"""The demonstration tells who did what, and each thing once."""

import io

import pytest
from rich.console import Console

from ryzen_lab.record import Injection, Rank
from ryzen_lab.story import Story, stage_table
from ryzen_protos.v1 import operator_pb2


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def story(told: io.StringIO) -> Story:
    return Story(Console(file=told, width=100), steps=100)


def rank(number: int, generation: int, *steps: int) -> Rank:
    made = Rank(
        pid=number, node=f"node-{number // 2}", rank=number, local_rank=number % 2, generation=generation,
        world_size=4, exec_ns=0,
    )  # fmt: skip
    made.steps = [(0, step) for step in steps]
    return made


def test_the_fault_is_the_labs_doing_and_names_whom_it_strikes(story: Story, told: io.StringIO) -> None:
    story.hear("injected", Injection("stop", 0, 40, interrupts=True, rank=3, node="node-1"))
    assert "lab: freezes rank 3 of node-1 (SIGSTOP) after step 40" in told.getvalue()


def test_a_verdict_says_what_whom_how_it_is_known_and_what_is_done(story: Story, told: io.StringIO) -> None:
    incident = operator_pb2.Incident(id=1, evidence=["rank 3 [pid 7] is in state T"])
    incident.verdict.CopyFrom(
        operator_pb2.Verdict(
            fault_class="hang", ranks=[3], nodes=["node-1"], action="restart", reason="it stands still"
        )
    )
    story.hear("incident", incident)
    text = told.getvalue()
    assert "ryzen: known by: rank 3 [pid 7] is in state T" in text
    assert "ryzen: verdict: hang of rank 3 on node-1; action: restart" in text
    assert "ryzen: because it stands still" in text


def test_a_message_that_comes_again_with_one_line_more_adds_one_line(story: Story, told: io.StringIO) -> None:
    story.hear("incident", operator_pb2.Incident(id=1, timeline=["0.0 s  first"]))
    story.hear("incident", operator_pb2.Incident(id=1, timeline=["0.0 s  first", "0.1 s  second"]))
    assert [line.partition("ryzen: ")[2] for line in told.getvalue().splitlines()] == ["0.0 s  first", "0.1 s  second"]


def test_a_resumption_says_from_where_and_what_is_done_again(story: Story, told: io.StringIO) -> None:
    story.hear("step", rank(0, 1, 1))
    story.hear("step", rank(0, 1, 1, 47))
    story.hear("step", rank(0, 2, 41))
    assert "training begins: step 1 is done" in told.getvalue()
    assert "training resumes from the checkpoint of step 40, to do 7 steps again: step 41 is done" in told.getvalue()


def test_a_world_is_told_when_all_of_its_ranks_have_started(story: Story, told: io.StringIO) -> None:
    for number in (2, 0, 3):
        story.hear("born", rank(number, 2))
    assert told.getvalue() == ""
    story.hear("born", rank(1, 2))
    assert "generation 2: 4 ranks started on node-0, node-1" in told.getvalue()


def test_the_table_has_every_stage_even_if_it_was_not_seen(told: io.StringIO) -> None:
    console = Console(file=told, width=100)
    console.print(stage_table({"stages_s": {"detect": 0.5, "blame": None}, "recovered_s": None}))
    assert "0.500" in told.getvalue()
    assert "first_step" in told.getvalue()
