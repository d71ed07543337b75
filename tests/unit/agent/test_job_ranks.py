"""When a job looks for ranks among torchrun's children: while some are missing or others may come."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ryzen_agent.job import Job
from ryzen_agent.ranks import RankFinder
from ryzen_protos.v1 import local_pb2, node_pb2

ENVIRON = {"TORCHELASTIC_RUN_ID": "job", "RANK": "0", "LOCAL_RANK": "0", "RYZEN_GENERATION": "2"}


@pytest.fixture
def newcomer() -> Iterator[int]:
    """A child of this process that is rank 0 of generation 2."""
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    with subprocess.Popen(command, env={**os.environ, **ENVIRON}, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child.pid
        child.kill()


def says(job: Job, generation: int, ranks_per_node: int = 3) -> None:
    shape, phase = node_pb2.JobShape(ranks_per_node=ranks_per_node), node_pb2.ObservedJob.RUNNING
    update = local_pb2.HandlerUpdate(run_id="job", phase=phase, generation=generation, shape=shape)
    job.handler_says(update, time.monotonic())


def found(job: Job) -> list[int]:
    job.scan(time.monotonic(), thorough=True)
    return [rank.pid for rank in job.ranks if rank.identity.generation == 2]


def test_no_rank_is_looked_for_while_the_world_is_complete_but_those_of_the_next_are(job: Job, newcomer: int) -> None:
    job.finder = RankFinder(os.getpid(), "job")
    says(job, generation=1)
    assert found(job) == []
    says(job, generation=2)
    assert found(job) == [newcomer]


def test_ranks_are_looked_for_once_one_has_ended(job: Job, newcomer: int) -> None:
    job.finder = RankFinder(os.getpid(), "job")
    says(job, generation=1)
    job.ranks[0].exited_at_s = time.monotonic()
    assert found(job) == [newcomer]


@pytest.mark.parametrize("handler", ["none", "gone", "does not say how many"])
def test_ranks_are_looked_for_where_nobody_says_how_many_there_are(job: Job, newcomer: int, handler: str) -> None:
    job.finder = RankFinder(os.getpid(), "job")
    if handler != "none":
        says(job, generation=1, ranks_per_node=0 if handler == "does not say how many" else 3)
    if handler == "gone":
        job.handler_lost(time.monotonic())
    assert found(job) == [newcomer]
