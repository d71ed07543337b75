"""One pace of a job from what many nodes say, and bounds on what one of them may say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ryzen_coordinator import render
from ryzen_coordinator.core.events import JobSeen, PaceSeen, Shape
from ryzen_coordinator.core.members import Member
from ryzen_coordinator.core.pace import of_job, together
from ryzen_coordinator.core.progress import ProgressTable
from ryzen_coordinator.core.state import Job, World
from ryzen_coordinator.server import convert
from ryzen_protos.v1 import node_pb2 as pb
from ryzen_protos.v1 import operator_pb2

NODE = PaceSeen(
    1, (0, 1), 0.5, 4000.0, 8.0, 12e9, 16e9, 48e9, (("", 0.1), ("data", 0.4)), 0.2, 0.01, 0.05, (2.0, 4.0), 1e-3
)


def test_rates_add_up_and_means_are_over_ranks() -> None:
    three = NODE._replace(ranks=(2, 3, 4), step_s=1.0, sections=(("data", 1.0),), loss=(1.0, 3.0, 9.0))
    pace = together([NODE, three])
    assert (pace.ranks, pace.tokens_per_s, pace.samples_per_s) == (5, 8000.0, 16.0)
    assert pace.step_s == pytest.approx((2 * 0.5 + 3 * 1.0) / 5)
    assert pace.mfu == pytest.approx(0.25)
    assert pace.hfu == pytest.approx(1 / 3)
    assert pace.sections["data"] == pytest.approx((2 * 0.4 + 3 * 1.0) / 4)
    assert sum(pace.sections.values()) == pytest.approx(1.0)
    assert pace.communication == pytest.approx((2 * 0.2 + 3 * 0.2) / 4)


def test_only_nodes_of_the_world_count_and_only_what_they_say_of_its_generation() -> None:
    job = Job("me", "job", Shape(), 0.0, generation=2, table=ProgressTable(2, ["a", "b"]))
    job.world = World(2, ("a", "b"), ((1, 1), (2, 1)), None, True, 4)
    told = {"a": NODE._replace(generation=2), "b": NODE, "spare": NODE._replace(generation=2)}
    for node, pace in told.items():
        job.members[node] = Member(node, JobSeen("job", "me"), 0.0, 0.0, pace=pace)
    found = of_job(job)
    assert found is not None
    assert found.ranks == 2, "those of a: b still tells of the generation before, the spare is no part of it"
    job.members["a"].pace = None
    assert of_job(job) is None


def test_of_the_losses_the_extremes_are_named_by_rank() -> None:
    pace = together([NODE, NODE._replace(ranks=(6, 7), loss=(1.0, math.nan))])
    assert pace.loss is not None
    assert (pace.loss.least, pace.loss.median, pace.loss.most) == (1.0, 2.0, 4.0)
    assert (pace.loss.least_rank, pace.loss.most_rank, pace.loss.not_finite) == (6, 1, ())


def test_ranks_whose_loss_is_no_number_are_named() -> None:
    pace = together([NODE._replace(loss=(2.0, math.inf)), NODE._replace(ranks=(2,), loss=(math.inf,))])
    assert pace.loss is not None
    assert pace.loss.not_finite == (1, 2)


def test_without_a_peak_of_every_node_there_is_no_mfu() -> None:
    pace = together([NODE, NODE._replace(peak_flops=0.0)])
    assert pace.mfu is None
    assert pace.hfu is None


def test_no_loss_and_no_communication_are_absent_and_not_zero() -> None:
    pace = together([NODE._replace(loss=(math.nan, math.nan), communication_s=0.0, learning_rate=None)])
    assert (pace.loss, pace.communication, pace.learning_rate) == (None, None, None)


@given(
    figure=st.floats(allow_nan=True, allow_infinity=True, width=32),
    ranks=st.lists(st.integers(0, (1 << 32) - 1), max_size=4),
    name=st.text(max_size=100),
)
def test_whatever_a_node_says_of_its_pace_is_bounded(figure: float, ranks: list[int], name: str) -> None:
    message = pb.Pace(
        generation=1, ranks=ranks, step_s=figure, tokens_per_s=figure, flops_per_s=figure, peak_flops=figure,
        sections=[name] * 40, section_s=[figure] * 40, loss=[figure] * len(ranks), learning_rate=figure,
    )  # fmt: skip
    update = pb.NodeUpdate(jobs=[pb.ObservedJob(run_id="job", pace=message)])
    seen = convert.report("n", 1, update, 0).jobs[0].pace
    if seen is None:
        assert not ranks or max(ranks) >= convert.RANKS_MAX
        return
    assert 0.0 <= seen.step_s < math.inf
    assert len(seen.sections) <= 8
    assert all(each.isprintable() and 0.0 <= s < math.inf for each, s in seen.sections)
    together([seen, NODE])


def test_a_person_reads_the_pace_below_the_job() -> None:
    pace = operator_pb2.JobPace(
        ranks=4, step_s=0.25, tokens_per_s=8000, mfu=0.25, hfu=0.3, section_share={"data": 0.031, "": 0.1},
        communication_share=0.2, all_reduce_p50_s=0.01, all_reduce_p99_s=0.05, learning_rate=1e-3,
        loss=operator_pb2.Spread(least=1, median=2, least_rank=6, most_rank=1, not_finite=[1, 2]),
    )  # fmt: skip
    console = Console(width=300, force_terminal=False)
    with console.capture() as capture:
        console.print(render.jobs([operator_pb2.JobStatus(run_id="run-1", pace=pace)]))
    for words in (
        "run-1: 4 ranks, step 0.25 s, 8000 tokens/s, MFU 25.0%, HFU 30.0%, waits for data 3.1%",
        "communication 20% (all-reduce p50 10.0 ms, p99 50.0 ms)",
        "loss 2 (1 rank 6 to none rank 1), no finite loss on rank 1-2",
        "learning rate 0.001",
    ):
        assert words in capture.get()


@pytest.mark.parametrize(
    "message",
    [
        pb.FirstBatches(generation=1),
        pb.FirstBatches(generation=1, ranks=[0, 1], digests=[11], places=[0, 0]),
        pb.FirstBatches(generation=1, ranks=[1 << 20], digests=[11], places=[0]),
        pb.FirstBatches(generation=1 << 63, ranks=[0], digests=[11], places=[0]),
        pb.FirstBatches(generation=1, ranks=[0] * 2000, digests=[11] * 2000, places=[0] * 2000),
    ],
)
def test_first_batches_that_do_not_fit_together_or_are_beyond_all_bounds_are_passed_over(
    message: pb.FirstBatches,
) -> None:
    update = pb.NodeUpdate(jobs=[pb.ObservedJob(run_id="job", first_batches=message)])
    (job,) = convert.report("a", 1, update, 0).jobs
    assert job.batches is None
