"""How fast ranks train reaches the coordinator and the command line; what they read first, with their first step."""

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


def test_what_ranks_read_first_is_told_once_a_stream_and_with_their_first_step(
    node: Node, coordinator: Coordinator
) -> None:
    agent = node.agent()
    node.torchrun(FIRST_BATCH="4711")
    running(coordinator)
    coordinator.wait_records(lambda ranks: len(ranks) == 2 and all(each.steps_done > 50 for each in ranks))
    jobs = [job for update in coordinator.updates for job in update.jobs]
    stepping = next(place for place, job in enumerate(jobs) if len(job.beats.steps_done) and all(job.beats.steps_done))
    known = {rank for job in jobs[: stepping + 1] for rank in job.first_batches.ranks}
    assert known == {0, 1}, "named at the first step, not with the pace seconds later"
    told = [job.first_batches for job in jobs if job.HasField("first_batches")]
    assert len(told) <= 2, "again only where one more is known"
    assert (list(told[-1].digests), list(told[-1].places)) == ([4711, 4711], [0, 0])
    before = len(coordinator.updates)
    agent.kill()
    agent.wait()
    node.agent()
    coordinator.wait_job(lambda job: bool(job.first_batches.ranks), after=before)
