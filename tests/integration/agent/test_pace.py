"""How fast real ranks train reaches the coordinator and the command line, each every few seconds."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from ryzen_agent import status
from ryzen_protos.v1 import local_pb2

from .cluster import Coordinator, Node, running


def test_the_pace_of_real_ranks_is_told_with_steps_and_losses(node: Node, coordinator: Coordinator) -> None:
    node.agent()
    node.torchrun(RANK_SCRIPT="hanging_rank.py", HANG="sleep", OMP_NUM_THREADS="1")
    running(coordinator)
    job, _ = coordinator.wait_records(lambda ranks: all(each.step == 20 for each in ranks))
    told = coordinator.wait_job(lambda job: job.HasField("pace") and job.pace.steps >= 2)
    assert list(told.pace.ranks) == [0, 1]
    assert told.pace.generation == job.generation
    assert 0 < told.pace.step_s < 60
    assert sum(told.pace.section_s) == pytest.approx(told.pace.step_s, rel=0.02)
    asked = status.ask(node.run_dir)
    assert asked.jobs[0].pace.steps == 19, "asked for, it is of now: all but the first step"
    assert any(line.startswith("  step ") for line in status.lines(asked))
    json_format.Parse(json_format.MessageToJson(asked), local_pb2.LocalStatus())
